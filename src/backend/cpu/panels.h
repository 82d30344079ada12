/* Products of f32 by our own kernels (panels_simd.c), where the CPU has fused multiply-adds: in
 * training and wherever else many rows meet a matrix. Nothing is kept between products: a weight is
 * laid out in panels as a chain begins to use it, once for all blocks of rows. The library's
 * dnnl_sgemm, which serves the rest, lays it out anew for each.
 *
 * A product over few rows, or a narrow one, is left to it, by the sizes alone.
 */
#ifndef SP_BACKEND_CPU_PANELS_H
#define SP_BACKEND_CPU_PANELS_H

#include "backend/cpu/fused_head.h"
#include "backend/cpu/tuned.h"

/* Rows from which a weight's panels are worth making. */
enum { SP_PANELS_LEAST = 512 };

/* Whether a product with a matrix [rows, columns] is made so here. */
bool sp_panels_serve(const sp_backend *be, int64_t rows, int64_t columns);

/* A matrix B [K,N]: element (k, n) is x[k k_step + n n_step], one of the steps 1. */
typedef struct sp_panels_b {
    const float *x;
    int64_t K, N, k_step, n_step;
} sp_panels_b;
/* Floats of its panels. */
size_t sp_panels_floats(const sp_simd *simd, int64_t K, int64_t N);
/* All panels of b to `to`, on the calling thread. */
void sp_panels_put(const sp_simd *simd, const sp_panels_b *b, float *to);

/* Put off y [T,N] (= or +=) x [T,K] B + bias (NULL: none): a chain is open. */
typedef struct sp_panels_linear {
    sp_panels_b b; /* its panels are made here; x is not read later */
    const float *bias, *x;
    float *y;
    bool accumulate;
} sp_panels_linear;
spar_status sp_panels_multiply(sp_backend *be, const sp_panels_linear *p, spar_error *err);

/* dw [out,in] (= or +=) dy^T x. In a chain x's panels are made as its rows are, and the products of
 * all weights follow together when the rows are done. */
spar_status sp_panels_linear_dw(sp_backend *be, int64_t out, int64_t in, const float *dy,
                                const float *x, int64_t T, float *dw, bool accumulate,
                                spar_error *err);

/* Turn the vocabulary head x to these products: x->R, x->w, x->dw are set, and x->h, x->values and
 * x->tiles as for dnnl_sgemm. */
spar_status sp_panels_head_init(sp_head *x, bool backward, spar_error *err);

#endif
