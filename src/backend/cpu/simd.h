/* The SIMD kernels: loops over one chunk of work on one thread, compiled once an instruction set.
 *
 * The callers cut the work into tasks; a kernel sees plain pointers and sizes. Arrays may be of any
 * alignment; outputs do not alias inputs unless said. `bf16` says whether an operand output is
 * bf16 or f32.
 */
#ifndef SP_BACKEND_CPU_SIMD_H
#define SP_BACKEND_CPU_SIMD_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/backend.h"
#include "backend/blocks.h"
#include "backend/cpu/cpu.h"

/* Rows of queries in one block, at most. */
enum { SP_BLOCK_ROWS = 64 };

enum { SP_LAYOUT_K = 32, SP_LAYOUT_N = 64 };

/* C [M,N] (= or +=) A B, small: A is read by element A[m a_row + k a_column], B and C by rows. */
typedef struct sp_block {
    int64_t M, N, K;
    const float *a;
    int64_t a_row, a_column;
    const float *b;
    int64_t b_row;
    float *c;
    int64_t c_row;
    bool accumulate;
} sp_block;

/* C [M,N] (= or +=) A B with A [M,K] bf16 in rows, and B in pairs: word b[k / 2 * b_row + n] has
 * B[k,n] in its low and B[k + 1,n] in its high half. Sums are f32. N is a multiple of 16, K one of
 * 32 and at most 256. */
typedef struct sp_pair_block {
    int64_t M, N, K;
    const uint16_t *a;
    int64_t a_row;
    const uint32_t *b;
    int64_t b_row;
    float *c;
    int64_t c_row;
    bool accumulate;
} sp_pair_block;

/* C [M,N] (= or +=) A B, dense, with A [M,K] bf16 and B in layout blocks (SP_LAYOUT_K), those of a
 * column of blocks one after another. M and N are multiples of 16, K one of SP_LAYOUT_K. */
typedef struct sp_layout_product {
    int64_t M, N, K;
    const uint16_t *a;
    const uint32_t *b; /* pairs of bf16 */
    float *c;
    bool accumulate;
    bool stream; /* past the caches: C is not read soon, nor before */
} sp_layout_product;

/* Products of f32 whose operands were laid out for them. A [M,K] is in tiles of a few rows, one
 * after another, and in a tile the rows of a k are neighbours. B [K,N] is in panels of
 * sp_simd.panel columns, one k after another, with zeros behind column N - 1.
 *
 * Inner values k0 .. k0 + k_rows - 1 of K are laid out at a time. A[m, k0 + k] is x[m x_row + k],
 * or for columns x[k x_row + m]. */
typedef struct sp_tiling {
    const float *x;
    int64_t x_row, M, K, k0, k_rows;
    float *to; /* [M K] */
} sp_tiling;

/* B[k0 + k, n] is x[k x_row + n], or for columns x[n x_row + k]. */
typedef struct sp_paneling {
    const float *x;
    int64_t x_row, N, K, k0, k_rows;
    float *to; /* [K, N to a multiple of sp_simd.panel] */
} sp_paneling;

/* C [M,N] (= or +=) A B. */
typedef struct sp_panels_product {
    int64_t M, N, K;
    const float *a; /* tiles over K */
    const float *b;
    int64_t b_panel; /* floats from one panel to the next */
    float *c;
    int64_t c_row;
    bool accumulate;
} sp_panels_product;

/* Probabilities and gradients of scores, as operands: bf16 shaped like the scores, and the
 * gradients as pairs of keys. */
typedef struct sp_pair_grads {
    uint16_t *p, *ds;
    uint32_t *ds_pairs;
} sp_pair_grads;

/* Scores of a block of keys and rows of queries. s [n_keys, s_row] has a column a row (transposed:
 * softmax_step, softmax_grad_columns), or s [n_rows, s_row] a column a key (softmax_step_rows). Row
 * r sees the keys first[r] .. last[r] - 1, none when first >= last. */
typedef struct sp_scores {
    float *s;
    int64_t s_row;
    int n_rows, n_keys;
    const int32_t *first, *last;
    float cap; /* of the gradients: the scores are cap tanh(...) where it is > 0 */
} sp_scores;

/* A second term of whole numbers counts 1/254 of the first: it holds the rest of -1/2..1/2. */
enum { SP_SECOND_TERM = 254 };

/* Rows in whole numbers of -127..127, in blocks of 32 with a scale each: the value of q is q scale,
 * or, with a second term, (254 q + low) scale. sum is the sum of q, or of 254 q + low, in a block.
 * Arrays [rows, n] or [rows, n / 32], owned by the caller; low NULL: one term. */
typedef struct sp_whole {
    int8_t *q, *low;
    float *scale;
    int32_t *sum;
} sp_whole;

/* Rows x one panel of a matrix in blocks. y [rows, 16] (y_row apart) is overwritten. */
typedef struct sp_blocks_product {
    const sp_blocks *w;
    int64_t panel, rows;
    sp_whole x;
    float *y;
    int64_t y_row;
} sp_blocks_product;

enum {
    SP_BF16_PANELS = 2, /* of an sp_bf16_product, at most */
    SP_BF16_TILE = 16   /* rows that are multiplied together */
};

/* y [rows, w->out] (= or +=) x W^T + bias in bf16 with f32 sums, for the outputs of the panels
 * panel .. panel + panels - 1. */
typedef struct sp_bf16_product {
    const sp_blocks *w;
    int64_t panel, rows;
    int panels;
    const uint16_t *x;    /* bf16 [rows, in] */
    const uint16_t *last; /* bf16 [16, in]: the last rows % 16 rows, then zeros; if there are any */
    const float *sums;    /* scaled_product_bf16: of x by blocks, [in / 32][16 rows] */
    const float *bias;    /* [out] or NULL */
    float *y;
    bool accumulate;
    uint16_t *space; /* bf16 [panels, in, 16], 64-byte aligned */
} sp_bf16_product;

/* A block of scores s [n_queries, s_row] to which relative terms are added: score (i, j) gets
 * c2p[i, b] + p2c[j, b], b = up[i - j] = down[j - i]. Queries and keys come in multiples of 16; up
 * and down can be read from -(n_keys + 15) to n_queries + 15 and the other way round, and 16
 * numbers behind every row of c2p and p2c. A term that is NULL is left out. */
typedef struct sp_relative_block {
    float *s;
    int64_t s_row, n_queries, n_keys;
    const float *c2p, *p2c;
    int64_t table_row; /* of both */
    const int32_t *up, *down;
} sp_relative_block;

typedef struct sp_simd {
    void (*to_bf16)(const float *x, int64_t n, uint16_t *y);
    /* operand y, which may be x where it is f32 */
    void (*scale)(const float *x, int64_t n, float factor, void *y, bool bf16);
    void (*from_bf16)(const uint16_t *x, int64_t n, float *y);
    void (*round_bf16)(const float *x, int64_t n, float *y); /* values of bf16; y may be x */
    void (*add)(const float *x, int64_t n, float *y);        /* y += x */
    void (*add_scaled)(const float *x, int64_t n, float factor, float *y); /* y += x factor */
    void (*multiply)(const float *x, const float *y, int64_t n, void *z,
                     bool bf16);                                              /* operand x y */
    void (*add_product)(const float *x, const float *y, int64_t n, float *z); /* z += x y */
    /* x to within the bound, and whether it was there (kept NULL: not wanted); dx where it was */
    void (*clip)(float *x, int64_t n, float bound, uint8_t *kept);
    void (*clip_bwd)(float *dx, int64_t n, const uint8_t *kept);
    void (*exp)(const float *x, int64_t n, float *y); /* the exponential that all kernels use */

    /* Layout blocks of bf16: SP_LAYOUT_K x SP_LAYOUT_N values, (k, n) at k/2 (2 N) + 2 n + k%2,
     * zero beyond `rows` k and `columns` n; rounded from floats (subnormal ones may become zero).
     * (k, n) is x[k x_row + n], or for columns x[n x_row + k]. */
    void (*pack_rows_f32)(const float *x, int64_t x_row, int rows, int columns, uint16_t *to);
    void (*pack_rows_bf16)(const uint16_t *x, int64_t x_row, int rows, int columns, uint16_t *to);
    void (*pack_columns_f32)(const float *x, int64_t x_row, int rows, int columns, uint16_t *to);
    /* y[c y_row + r] = x[r x_row + c]. */
    void (*transpose_bf16)(const uint16_t *x, int64_t x_row, int64_t rows, int64_t columns,
                           uint16_t *y, int64_t y_row);

    /* Products of f32 in tiles and panels: all of these, or none (NULL, and panel 0). */
    int panel; /* columns */
    void (*panels_rows)(const sp_paneling *p);
    void (*panels_columns)(const sp_paneling *p);
    void (*tiles_rows)(const sp_tiling *t);
    void (*tiles_columns)(const sp_tiling *t);
    void (*panels_product)(const sp_panels_product *p);

    /* As the ops of the same name, on n rows. */
    void (*rmsnorm)(const float *x, const float *g, int64_t n, int64_t dim, float eps, void *y,
                    bool bf16, float *rstd);
    void (*rmsnorm_bwd)(const float *x, const float *g, const float *rstd, const float *dy,
                        int64_t n, int64_t dim, float *dx, bool accumulate, float *dg);
    /* y may be x; z may be NULL. */
    void (*layernorm)(const float *x, const float *shift, const float *g, const float *bias,
                      int64_t n, int64_t dim, float eps, float *y, void *z, bool bf16);
    /* Of one row: shift [n] or NULL; y may be x where it is f32. */
    void (*activate)(sp_act act, const float *x, const float *shift, int64_t n, void *y, bool bf16);
    void (*layernorm_operand)(const float *x, const float *g, const float *bias, int64_t n,
                              int64_t dim, float eps, void *y, bool bf16, float *rstd);
    void (*layernorm_bwd)(const float *x, const float *g, const float *rstd, const float *dy,
                          int64_t n, int64_t dim, float *dx, bool accumulate, float *dg,
                          float *dbias);
    void (*rope)(float *x, int64_t T, int n_heads, int head_dim, const sp_rotation *rotation,
                 const int32_t *positions, float sign);
    void (*glu)(sp_act act, const float *gate, const float *up, int64_t n, void *y, void *kept_gate,
                void *kept_up, bool bf16);
    void (*glu_kept)(sp_act act, const void *gate, const void *up, int64_t n, void *y, bool bf16);
    void (*glu_bwd)(sp_act act, const void *gate, const void *up, const float *dy, int64_t n,
                    void *dgate, void *dup, bool bf16);

    void (*activate_kept)(sp_act act, const void *x, int64_t n, void *y, bool bf16);
    void (*activate_bwd)(sp_act act, const void *x, const float *dy, int64_t n, void *dx,
                         bool bf16);
    /* x is bf16 where `kept` and y are. */
    void (*xielu)(const sp_xielu *p, const void *x, bool kept, int64_t n, void *y, bool bf16);
    /* sums [2] += those of dy x^2 over x > 0, and of dy (e^min(x, eps) - 1 - x) over the others */
    void (*xielu_bwd)(const sp_xielu *p, const void *x, const float *dy, int64_t n, void *dx,
                      bool bf16, float *sums);

    void (*block_product)(const sp_block *p);
    /* C [M,N] = A B^T with contiguous rows of K elements (a_column 1, b_row apart): for the few
     * rows of one decoded token. */
    void (*block_dots)(const sp_block *p);
    float (*dot)(const float *x, const float *y, int64_t n);
    /* y [columns, y_row] = transposed x [rows, x_row], times factor. */
    void (*transpose)(const float *x, int64_t x_row, int rows, int columns, float factor, float *y,
                      int64_t y_row);
    /* One step of the online softmax: raise max [rows], replace scores by exponentials (0 where
     * not visible), rescale sum [rows] and out [rows, dim], and add to sum. */
    void (*softmax_step)(const sp_scores *p, float *max, float *sum, float *out, int64_t dim);
    /* The same for scores as [rows, keys]: for few rows. */
    void (*softmax_step_rows)(const sp_scores *p, float *max, float *sum, float *out, int64_t dim);
    /* Scores to probabilities with the known log-sum-exp of each row (0 where not visible), and
     * dp, shaped like s, to the gradient of the scores, before their cap: p (dp - delta), times
     * 1 - (s / cap)^2 with a cap. */
    void (*softmax_grad_columns)(const sp_scores *p, const float *lse, const float *delta,
                                 float *dp);

    /* Attention in bf16, where the CPU multiplies it: all of these, or none (NULL). */
    void (*pair_product)(const sp_pair_block *p);
    /* Rows 2i and 2i + 1 of x as the words y [padded / 2, columns]; rows beyond `rows` are zeros.
     * padded is even, columns a multiple of 16. */
    void (*pair_rows)(const uint16_t *x, int64_t x_row, int rows, int padded, int columns,
                      uint32_t *y);
    /* y [columns, y_row] = transposed x [rows, x_row] of 32-bit words; multiples of 16. */
    void (*transpose_words)(const uint32_t *x, int64_t x_row, int rows, int columns, uint32_t *y,
                            int64_t y_row);
    /* softmax_step with n_rows a multiple of 16, out as [dim, out_row] (a column a row), and the
     * exponentials as pairs of keys [n_keys to a multiple of 32, s_row], zeros where no key is. */
    void (*softmax_step_pairs)(const sp_scores *p, float *max, float *sum, float *out,
                               int64_t out_row, int64_t dim, uint32_t *pairs);
    /* softmax_grad_columns with n_rows a multiple of 16 and its results in *to; n_keys counts to a
     * multiple of 32, with zeros where no key is. */
    void (*softmax_grad_pairs)(const sp_scores *p, const float *lse, const float *delta,
                               const float *dp, const sp_pair_grads *to);

    /* NULL where the processor has no tiles. */
    void (*layout_product)(const sp_layout_product *p);

    void (*relative_add)(const sp_relative_block *p);
    /* x = e^(scale (x - max x)), n >= 1 of them, and zeros up to `padded`, a multiple of 16; also
     * as bf16 y [padded], where it is not NULL. Gives the sum of x. */
    float (*softmax_row)(float *x, int64_t n, int64_t padded, float scale, uint16_t *y);

    float (*exp_sum)(const float *x, int64_t n, float max, float scale); /* as the op */
    /* max and sum of exp(x - max) of n >= 1 logits. */
    void (*logits_stats)(const float *x, int64_t n, float *max, float *sum);
    /* In place, x = -c exp(x - lse): the gradient of c log p[target] with respect to the logits,
     * all but the target's own +c. */
    void (*logits_grad)(float *x, int64_t n, float lse, float c);
    /* As form_logits, and x [n] *= the derivative where y [n] is what it made. */
    void (*form_logits)(const sp_logit_form *form, int64_t n, float *x);
    void (*form_logits_bwd)(const sp_logit_form *form, const float *y, int64_t n, float *x);

    /* x [n], n a multiple of 32, as whole numbers: one row of *to. */
    void (*quantize)(const float *x, int64_t n, const sp_whole *to);
    void (*blocks_product)(const sp_blocks_product *p);
    /* The weights of n_blocks blocks of a panel as floats, an input a row: to [32 n_blocks, 16],
     * row apart. */
    void (*blocks_expand)(const sp_blocks *w, int64_t panel, int64_t first, int64_t n_blocks,
                          float *to, int64_t row);
    /* NULL where the instruction set multiplies no bf16. A row's result does not depend on the
     * others. */
    void (*blocks_product_bf16)(const sp_bf16_product *p);
    /* The same for weights of 4 bits and up to 16 rows; the weights are not rounded, since scales
     * come after the product. NULL where there are no tiles of AMX. */
    void (*scaled_product_bf16)(const sp_bf16_product *p);
    /* sums of x [rows, in] for it; those of other rows are left. */
    void (*block_sums)(const uint16_t *x, int64_t rows, int64_t in, float *to);
} sp_simd;

/* The kernels of an instruction set, by value into *out. */
void sp_simd_choose(sp_isa isa, sp_simd *out);

#endif
