/* Any bytes as a safetensors file; what is read is used. */
#include <string.h>

#include "fuzz.h"
#include "io/safetensors.h"

static void use(const sp_safetensors *st) {
    for (size_t i = 0; i < sp_safetensors_count(st); i++) {
        const sp_tensor_entry *e = sp_safetensors_at(st, i);
        const sp_dtype_info *type = sp_dtype_info_of(e->dtype);
        const int64_t n = (int64_t)(e->n_bytes / type->block_bytes);
        float out[64];
        if (type->to_f32) {
            type->to_f32(e->data, out, n < 64 ? n : 64);
        }
        if (sp_safetensors_find(st, e->name) != e) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sp_safetensors *st = NULL;
    spar_error err = {SPAR_OK, ""};
    const spar_status status = sp_safetensors_open(&st, fuzz_path(data, size), &err);
    fuzz_check(status, &err);
    if (status == SPAR_OK) {
        use(st);
        sp_safetensors_free(st);
    }
    return 0;
}
