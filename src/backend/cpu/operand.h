/* Operand elements: f32 as is, or bf16 (the upper half of an f32, rounded to nearest even). */
#ifndef SP_BACKEND_CPU_OPERAND_H
#define SP_BACKEND_CPU_OPERAND_H

#include <stdint.h>
#include <string.h>

#include "backend/backend.h"

static inline float sp_bf16_to_f32(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A NaN stays a NaN: its quiet bit is set, since rounding could carry it to infinity. */
static inline uint16_t sp_bf16_from_f32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
    const uint32_t quiet = (bits >> 16) | 0x40U;
    return (uint16_t)((bits & 0x7fffffffU) > 0x7f800000U ? quiet : rounded);
}

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

/* An f32 master weight as the products see it. */
static inline float sp_operand_round(const sp_backend *be, float value) {
    return be->compute == SP_COMPUTE_BF16 ? sp_bf16_to_f32(sp_bf16_from_f32(value)) : value;
}

#endif
