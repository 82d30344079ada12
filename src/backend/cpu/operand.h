/* Operand elements: f32 as is, or bf16 (the upper half of an f32, rounded to nearest even). */
#ifndef SP_BACKEND_CPU_OPERAND_H
#define SP_BACKEND_CPU_OPERAND_H

#include <stdint.h>

#include "backend/backend.h"
#include "tensor/dtype.h"

/* Element i of an operand array of be. */
static inline float sp_operand_load(const sp_backend *be, const void *array, int64_t i) {
    if (be->compute == SP_COMPUTE_BF16) {
        return sp_bf16_to_f32(((const uint16_t *)array)[i]);
    }
    return ((const float *)array)[i];
}

static inline void sp_operand_store(const sp_backend *be, void *array, int64_t i, float value) {
    if (be->compute == SP_COMPUTE_BF16) {
        ((uint16_t *)array)[i] = sp_bf16_from_f32(value);
    } else {
        ((float *)array)[i] = value;
    }
}

/* A number as the products see it. */
static inline float sp_operand_round(const sp_backend *be, float value) {
    return be->compute == SP_COMPUTE_BF16 ? sp_bf16_to_f32(sp_bf16_from_f32(value)) : value;
}

/* Weight [o, i] as the products see it. */
static inline float sp_operand_weight(const sp_backend *be, const sp_weight *w, int64_t o,
                                      int64_t i) {
    const float value =
        w->data != NULL ? w->data[o * w->in + i] : sp_blocks_weight(w->blocks, o, i);
    return sp_operand_round(be, value);
}

#endif
