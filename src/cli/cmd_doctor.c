/* spar doctor: faults of a model and of data that no error shows. */
#include "cli.h"
#include "spar/doctor.h"

typedef struct doctor_values {
    const char *model, *data, *template_path;
    int64_t max_length;
    bool json;
} doctor_values;

#define DOCTOR(field) offsetof(doctor_values, field)
static const spar_option doctor_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, DOCTOR(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file"},
    {"data", 'd', SPAR_OPTION_STRING, DOCTOR(data), NULL, 0, 0, NULL, "FILE",
     "rows to train on, as spar train reads them"},
    {"max-length", 0, SPAR_OPTION_INT, DOCTOR(max_length), "0", 0, 1 << 24, NULL, "N",
     "longest prompt and response together; 0: the model's context"},
    {"template", 0, SPAR_OPTION_STRING, DOCTOR(template_path), NULL, 0, 0, NULL, "FILE",
     "chat template in place of the model's own"},
    {"json", 0, SPAR_OPTION_FLAG, DOCTOR(json), "false", 0, 0, NULL, NULL, "the report as JSON"},
    {0}};

static void put_line(const char *before, const json_t *text) {
    fputs(before, stdout);
    cli_put_text(stdout, json_string_value(text), SIZE_MAX);
    putchar('\n');
}

static void put_report(const json_t *report) {
    size_t i;
    const json_t *item;
    json_array_foreach(json_object_get(report, "findings"), i, item) {
        put_line("", json_object_get(item, "check"));
        put_line("  found: ", json_object_get(item, "found"));
        put_line("  mend:  ", json_object_get(item, "mend"));
    }
    json_array_foreach(json_object_get(report, "notes"), i, item) {
        put_line("note: ", item);
    }
    if (json_array_size(json_object_get(report, "findings")) == 0) {
        puts("nothing found");
    }
}

static spar_status run_doctor(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const doctor_values *v = values;
    json_t *report = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 0, "no operand", err));
    if (!v->model) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "expected a model: -m MODEL"));
    }
    const spar_doctor_options options = {.model = v->model,
                                         .data = v->data,
                                         .max_length = v->max_length,
                                         .template_path = v->template_path,
                                         .sink = cli_sink()};
    SPAR_TRY(spar_doctor(&report, &options, err));
    if (v->json) {
        json_dumpf(report, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        put_report(report);
    }
    const size_t n = json_array_size(json_object_get(report, "findings"));
    if (n > 0) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH, "%s: %zu finding%s", v->model, n, n > 1 ? "s" : ""));
    }
done:
    json_decref(report);
    return status;
}

static doctor_values the_values;
const cli_command cli_doctor = {
    .doc = {.name = "doctor",
            .synopsis = "-m MODEL [--data FILE] [--max-length N] [--json]",
            .summary = "finds faults of a model and of data that no error shows",
            .details =
                "Looks at a checkpoint's files (tied head, vocabulary, rope scaling), at tokenizer "
                "and chat template (double BOS, an end of turn that generation does not stop at, "
                "training and generation prompts that differ, token boundaries, generation blocks "
                "around other tokens) and at rows of data (too long, identical, empty, without an "
                "end; of several responses also numbers that say nothing or contradict each other, "
                "and responses that were cut off and rewarded). Each finding comes with its "
                "mend; with one or more the exit status is that of what does not match (11).",
            .options = doctor_options},
    .run = run_doctor,
    .values = &the_values};
