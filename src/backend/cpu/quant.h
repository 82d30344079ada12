/* Weights in quantised blocks: products in whole numbers, and tiles of floats for the others. */
#ifndef SP_BACKEND_CPU_QUANT_H
#define SP_BACKEND_CPU_QUANT_H

#include "backend/cpu/tuned.h"

/* Entry of the row; contract in backend.h. */
spar_status sp_tuned_linear_whole(sp_backend *be, const sp_weight *w, const float *bias,
                                  const void *x, int terms, int64_t T, float *y, bool accumulate,
                                  spar_error *err);

/* linear on blocks alone, in bf16: what the row's entry does where sp_quant_multiplies_bf16. */
bool sp_quant_multiplies_bf16(const sp_backend *be);
/* Whether it leaves the weights as they are, instead of rounding them to bf16. */
bool sp_quant_scales_after(const sp_backend *be, const sp_blocks *w, int64_t T);
spar_status sp_quant_linear_bf16(sp_backend *be, const sp_weight *w, const float *bias,
                                 const uint16_t *x, int64_t T, float *y, bool accumulate,
                                 spar_error *err);

/* The leading dimension of a tile of n outputs, as sp_quant_tile makes it. */
static inline int64_t sp_quant_stride(int64_t n) {
    return (n + SP_PANEL - 1) / SP_PANEL * SP_PANEL;
}

/* Outputs out0 .. out0 + n - 1 (out0 a multiple of 16), inputs in0 .. in0 + m - 1 (both multiples
 * of 32) as floats rounded to the backend's operand type: to [m, sp_quant_stride(n)], an input a
 * row. On the calling thread. */
void sp_quant_tile(const sp_backend *be, const sp_blocks *w, int64_t out0, int64_t n, int64_t in0,
                   int64_t m, float *to);

#endif
