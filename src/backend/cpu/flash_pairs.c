/* The blocks of flash_attention.c and flash_backward.c in bf16. With a column a row:
 *   S^T = K Q^T,  O^T += V^T P^T;  dP^T = V dO^T,  dV += P^T dO,  dK += dS^T Q,  dQ^T += K^T dS^T,
 * each a product of rows of bf16 with pairs (simd.h). */
#include <string.h>

#include "backend/cpu/flash.h"

/* Rows of keys or values as bf16, `row` elements from one to the next. */
typedef struct narrow {
    const uint16_t *data;
    int64_t row;
} narrow;

static int whole(int n) {
    return (n + 31) / 32 * 32; /* steps of a product */
}

/* n rows from element `at`: as they lie in a cache, or rounded into space. */
static narrow narrowed(const sp_flash_rows *x, const void *array, int64_t at, int n,
                       uint16_t *space) {
    const int64_t row = sp_flash_key_row(x->a), dim = x->a->head_dim;
    if (x->a->cache_rows > 0 && x->a->cache_bf16) {
        return (narrow){(const uint16_t *)array + at, row};
    }
    const float *from = (const float *)array + at;
    for (int i = 0; i < n; i++) {
        x->simd->to_bf16(from + i * row, dim, space + i * dim);
    }
    return (narrow){space, dim};
}

/* x->pair.columns [D, n to whole steps] = n rows, transposed. */
static void take_columns(sp_flash_rows *x, narrow from, int n) {
    const int dim = x->a->head_dim;
    uint32_t *columns = (uint32_t *)(void *)x->pair.columns;
    x->simd->pair_rows(from.data, from.row, n, whole(n), dim, x->pair.pairs);
    x->simd->transpose_words(x->pair.pairs, dim, whole(n) / 2, dim, columns, whole(n) / 2);
}

/* Gathered rows f32 [padded, D] as bf16, and that with a column a row, in pairs of elements. */
static void take_rows(sp_flash_rows *x, const float *rows, uint32_t *columns) {
    const int dim = x->a->head_dim;
    x->simd->to_bf16(rows, (int64_t)x->padded * dim, x->pair.bf16);
    x->simd->transpose_words((const uint32_t *)(const void *)x->pair.bf16, dim / 2, x->padded,
                             dim / 2, columns, SP_BLOCK_ROWS);
}

static void clear_out(sp_flash_rows *x) {
    memset(x->pair.out, 0, (size_t)x->a->head_dim * SP_BLOCK_ROWS * sizeof(float));
}

void sp_pair_begin(sp_flash_rows *x, const float *q) {
    sp_flash_gather(x, q, x->a->scale, x->pair.rows);
    take_rows(x, x->pair.rows, x->pair.q_columns);
    clear_out(x);
}

void sp_pair_attend(sp_flash_rows *x, const void *k, const void *v, int64_t at, int n) {
    const sp_pair_space *w = &x->pair;
    const int dim = x->a->head_dim;
    sp_row_range rows = sp_flash_seeing(x);
    sp_flash_widen(x, &rows);
    const int first = rows.first, width = rows.padded;
    const narrow keys = narrowed(x, k, at, n, w->k), values = narrowed(x, v, at, n, w->v);
    const sp_pair_block scores = {
        n,    width, dim,  keys.data, keys.row, w->q_columns + first, SP_BLOCK_ROWS,
        w->s, width, false};
    x->simd->pair_product(&scores);
    const sp_scores s = {w->s, width, width, n, x->first + first, x->last + first};
    x->simd->softmax_step_pairs(&s, x->max + first, x->sum + first, w->out + first, SP_BLOCK_ROWS,
                                dim, w->p_pairs);
    take_columns(x, values, n);
    const sp_pair_block sums = {dim,        width, whole(n),       w->columns,    whole(n),
                                w->p_pairs, width, w->out + first, SP_BLOCK_ROWS, true};
    x->simd->pair_product(&sums);
}

void sp_pair_end(sp_flash_rows *x) {
    const int dim = x->a->head_dim;
    x->simd->transpose_words((const uint32_t *)(const void *)x->pair.out, SP_BLOCK_ROWS, dim,
                             x->padded, (uint32_t *)(void *)x->pair.rows, dim);
}

void sp_pair_begin_bwd(sp_flash_rows *x, const float *q, const float *dout) {
    const int dim = x->a->head_dim;
    const sp_pair_space *w = &x->pair;
    sp_flash_gather(x, q, x->a->scale, w->rows);
    take_rows(x, w->rows, w->q_columns);
    x->simd->pair_rows(w->bf16, dim, x->padded, x->padded, dim, w->q_rows);
    sp_flash_gather(x, dout, 1.0F, w->rows);
    take_rows(x, w->rows, w->do_columns);
    x->simd->pair_rows(w->bf16, dim, x->padded, x->padded, dim, w->do_rows);
    clear_out(x);
}

void sp_pair_attend_bwd(sp_flash_rows *x, const float *k, const float *v, int64_t at, int n,
                        float *dk, float *dv) {
    const sp_pair_space *w = &x->pair;
    const int dim = x->a->head_dim, width = x->padded;
    const int64_t row = sp_flash_key_row(x->a);
    const narrow keys = narrowed(x, k, at, n, w->k), values = narrowed(x, v, at, n, w->v);
    sp_pair_block p = {.M = n, .N = width, .K = dim, .b_row = SP_BLOCK_ROWS, .c_row = width};
    p.a = keys.data, p.a_row = keys.row, p.b = w->q_columns, p.c = w->s;
    x->simd->pair_product(&p);
    p.a = values.data, p.a_row = values.row, p.b = w->do_columns, p.c = w->dp;
    x->simd->pair_product(&p);
    const sp_scores s = {w->s, width, width, n, x->first, x->last};
    const sp_pair_grads grads = {w->p, w->ds, w->p_pairs};
    x->simd->softmax_grad_pairs(&s, x->lse, x->delta, w->dp, &grads);
    sp_pair_block sum = {.M = n, .N = dim, .K = width, .a_row = width, .b_row = dim, .c_row = row};
    sum.accumulate = true;
    sum.a = w->p, sum.b = w->do_rows, sum.c = dv + at;
    x->simd->pair_product(&sum);
    sum.a = w->ds, sum.b = w->q_rows, sum.c = dk + at;
    x->simd->pair_product(&sum);
    take_columns(x, keys, n);
    const sp_pair_block dq = {dim,        width, whole(n), w->columns,    whole(n),
                              w->p_pairs, width, w->out,   SP_BLOCK_ROWS, true};
    x->simd->pair_product(&dq);
}
