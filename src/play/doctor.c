/* spar_doctor: goes through the rooms and makes the report. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "play/doctor_parts.h"

void sp_doctor_add(sp_doctor *d, const char *check, const char *mend, const char *fmt, ...) {
    char found[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(found, sizeof found, fmt, args);
    va_end(args);
    json_array_append_new(
        d->findings, json_pack("{s:s, s:s, s:s}", "check", check, "found", found, "mend", mend));
}

void sp_doctor_note(sp_doctor *d, const char *fmt, ...) {
    char note[1200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(note, sizeof note, fmt, args);
    va_end(args);
    json_array_append_new(d->notes, json_string(note));
}

/* One layer is enough: nothing here looks at what the model says. A fault of the files that was
 * found may be why it does not load, and is then the better message. */
static spar_status load_model(sp_doctor *d, spar_error *err) {
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32,
                                        .layers = 1,
                                        .template_path = d->options->template_path,
                                        .sink = d->options->sink};
    const spar_status status = spar_model_load(&d->model, d->options->model, &options, err);
    if (status != SPAR_OK && json_array_size(d->findings) > 0) {
        sp_doctor_note(d, "the model does not load, so that no more was checked: %s", err->message);
        return SPAR_OK;
    }
    return status;
}

spar_status spar_doctor(json_t **report, const spar_doctor_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_doctor d = {.options = options, .findings = json_array(), .notes = json_array()};
    *report = NULL;
    if (sp_file_is_dir(options->model)) {
        SPAR_TRY(sp_doctor_check_files(&d, err));
    }
    SPAR_TRY(load_model(&d, err));
    if (d.model) {
        SPAR_TRY(sp_doctor_check_text(&d, err));
    }
    if (d.model && options->data) {
        SPAR_TRY(sp_doctor_check_data(&d, err));
    }
    *report =
        json_pack("{s:s, s:s?, s:I, s:O, s:O}", "model", options->model, "data", options->data,
                  "rows", (json_int_t)d.rows, "findings", d.findings, "notes", d.notes);
    if (!*report) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a report"));
    }
done:
    spar_model_free(d.model);
    json_decref(d.findings);
    json_decref(d.notes);
    json_decref(d.config);
    json_decref(d.generation);
    json_decref(d.tokenizer_config);
    return status;
}
