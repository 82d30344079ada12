#include "model/lora_peft.h"

#include <stdio.h>
#include <string.h>

void sp_peft_names_of(sp_peft_names *out, const char *module, const char *magnitude_ending) {
    snprintf(out->a, sizeof out->a, "base_model.model.%.*s.lora_A.weight", SP_PEFT_NAME - 64,
             module);
    snprintf(out->b, sizeof out->b, "base_model.model.%.*s.lora_B.weight", SP_PEFT_NAME - 64,
             module);
    snprintf(out->m, sizeof out->m, "base_model.model.%.*s.lora_magnitude_vector%s",
             SP_PEFT_NAME - 64, module, magnitude_ending);
}

void sp_peft_key(const sp_stored *s, char out[SP_PEFT_NAME]) {
    snprintf(out, SP_PEFT_NAME, "%.*s", (int)sp_lora_module_length(s->name), s->name);
}

void sp_peft_module(const sp_stored *s, bool inner, char out[SP_PEFT_NAME]) {
    sp_peft_key(s, out);
    if (s->stack > 0) { /* the parameter's name is no module's */
        snprintf(strrchr(out, '.'), sizeof ".base_layer", "%s", inner ? ".base_layer" : "");
    }
}

int64_t sp_peft_pairs(const sp_stored *s) {
    return s->stack > 0 ? s->stack : 1;
}

const sp_adapter *sp_peft_part(const sp_lora *l, const sp_stored *s, int i) {
    return &l->items[l->index[sp_stored_part(s, i)]];
}

void sp_peft_copy_a(const sp_lora *l, const sp_stored *s, bool join, float *whole) {
    for (int i = 0; i < sp_stored_parts(s); i += s->n_roles) {
        const sp_adapter *a = sp_peft_part(l, s, i);
        float *part = l->values + a->offset_a;
        const int64_t n = a->rank * s->cols;
        memcpy(join ? whole : part, join ? part : whole, (size_t)n * sizeof *part);
        whole += n;
    }
}

void sp_peft_copy_rows(const sp_lora *l, const sp_stored *s, bool magnitudes, bool join,
                       float *whole) {
    const int64_t pairs = sp_peft_pairs(s);
    int64_t above = 0;
    for (int i = 0; i < sp_stored_parts(s); i++) {
        const int role = i % s->n_roles;
        const sp_adapter *a = sp_peft_part(l, s, i);
        float *part = l->values + (magnitudes ? a->offset_m : a->offset_b);
        const int64_t width = magnitudes ? 1 : a->rank;
        above = role == 0 ? 0 : above;
        const sp_row_run run = sp_stored_run(s, role, a->of->rows, above);
        for (int64_t r = 0; r < a->of->rows; r++) {
            float *row = whole + sp_row_at(run, r) * width * pairs;
            for (int64_t k = 0; k < width; k++) {
                float *at = &row[k * pairs + i / s->n_roles], *of_part = &part[r * width + k];
                *(join ? at : of_part) = *(join ? of_part : at);
            }
        }
        above += a->of->rows;
    }
}
