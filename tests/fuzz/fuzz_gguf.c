/* Any bytes as a GGUF file; what is read is used. */
#include "fuzz.h"
#include "io/gguf.h"

static void use_values(const sp_gguf *g) {
    volatile double sum = 0;
    for (size_t i = 0; i < sp_gguf_count(g); i++) {
        const sp_gguf_value *v = sp_gguf_at(g, i);
        for (uint64_t e = 0; v->type != SP_GGUF_ARRAY && e < v->n; e++) {
            if (v->type == SP_GGUF_STRING) {
                sum = sum + (v->strings[e].n ? (double)v->strings[e].data[0] : 0.0);
            } else {
                sum = sum + sp_gguf_number(v, e) + (double)sp_gguf_integer(v, e);
            }
        }
    }
}

static void use_tensors(const sp_gguf *g) {
    for (size_t i = 0; i < sp_gguf_tensor_count(g); i++) {
        const sp_gguf_tensor *t = sp_gguf_tensor_at(g, i);
        const sp_dtype_info *type = sp_dtype_info_of(t->dtype);
        float out[256]; /* the largest block */
        if ((size_t)type->block_elements > sizeof out / sizeof out[0]) {
            abort();
        }
        if (type->to_f32) {
            type->to_f32(t->data, out, type->block_elements);
        }
        if (sp_gguf_find_tensor(g, t->name) != t) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sp_gguf *g = NULL;
    spar_error err = {SPAR_OK, ""};
    const spar_status status = sp_gguf_open(&g, fuzz_path(data, size), &err);
    fuzz_check(status, &err);
    if (status == SPAR_OK) {
        use_values(g);
        use_tensors(g);
        sp_gguf_free(g);
    }
    return 0;
}
