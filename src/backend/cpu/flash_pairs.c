/* The blocks of flash_attention.c and flash_backward.c in bf16. With a column a row:
 *   S^T = K Q^T,  O^T += V^T P^T;  dP^T = V dO^T,  dV += P^T dO,  dK += dS^T Q,  dQ^T += K^T dS^T,
 * each a product of rows of bf16 with pairs (simd.h). */
#include <string.h>

#include "backend/cpu/flash.h"

enum { PACK_ROWS = 128 }; /* of a task */

typedef struct packing {
    const sp_flash *f;
    const float *from[2];
    uint16_t *to[2];
    int64_t rows;
} packing;

static void pack_task(void *context, int task, int worker) {
    (void)worker;
    const packing *p = context;
    const sp_attention *a = p->f->a;
    const int64_t dim = a->head_dim, first = (int64_t)task * PACK_ROWS;
    const int64_t end = first + PACK_ROWS < p->rows ? first + PACK_ROWS : p->rows;
    const int64_t row = sp_flash_key_row(a), head = a->cache_rows > 0 ? a->cache_rows * dim : dim;
    for (int i = 0; i < 2 * a->n_kv_heads; i++) {
        const float *from = p->from[i % 2] + i / 2 * head;
        uint16_t *to = p->to[i % 2] + i / 2 * p->rows * dim;
        for (int64_t r = first; r < end; r++) {
            p->f->simd->to_bf16(from + r * row, dim, to + r * dim);
        }
    }
}

spar_status sp_pair_pack(sp_flash *f, const void **k, const void **v, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_attention *a = f->a;
    packing p = {.f = f, .from = {*k, *v}};
    void *memory[2] = {NULL, NULL};
    if (!f->pairs || (a->cache_rows > 0 && a->cache_bf16)) {
        goto done;
    }
    for (int s = 0; s < a->n_segments; s++) {
        const int64_t end = a->segments[s].kv_start + a->segments[s].kv_len;
        p.rows = end > p.rows ? end : p.rows;
    }
    const size_t n = (size_t)(p.rows * a->n_kv_heads * a->head_dim);
    SPAR_TRY(sp_tuned_scratch(f->be, SP_SCRATCH_A, n, sizeof(uint16_t), &memory[0], err));
    SPAR_TRY(sp_tuned_scratch(f->be, SP_SCRATCH_B, n, sizeof(uint16_t), &memory[1], err));
    p.to[0] = memory[0], p.to[1] = memory[1];
    sp_pool_run(f->be->pool, (int)((p.rows + PACK_ROWS - 1) / PACK_ROWS), pack_task, &p);
    f->narrowed = *a;
    f->narrowed.cache_rows = p.rows;
    f->narrowed.cache_bf16 = true;
    f->a = &f->narrowed;
    *k = memory[0];
    *v = memory[1];
done:
    return status;
}

static int whole(int n) {
    return (n + 31) / 32 * 32; /* steps of a product */
}

/* x->pair.columns [D, n to whole steps] = n rows, transposed. */
static void take_columns(sp_flash_rows *x, const uint16_t *from, int n) {
    const int dim = x->a->head_dim;
    uint32_t *columns = (uint32_t *)(void *)x->pair.columns;
    x->simd->pair_rows(from, dim, n, whole(n), dim, x->pair.pairs);
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

void sp_pair_attend(sp_flash_rows *x, const uint16_t *k, const uint16_t *v, int n) {
    const sp_pair_space *w = &x->pair;
    const int dim = x->a->head_dim;
    sp_row_range rows = sp_flash_seeing(x);
    sp_flash_widen(x, &rows);
    const int first = rows.first, width = rows.padded;
    const sp_pair_block scores = {n,    width, dim,  k, dim, w->q_columns + first, SP_BLOCK_ROWS,
                                  w->s, width, false};
    x->simd->pair_product(&scores);
    sp_flash_cap(x, w->s, n, width, width);
    sp_flash_slopes(x, &rows, n, w->s, 1, width);
    const sp_scores s = {w->s, width, width, n, x->first + first, x->last + first, x->a->cap};
    x->simd->softmax_step_pairs(&s, x->max + first, x->sum + first, w->out + first, SP_BLOCK_ROWS,
                                dim, w->p_pairs);
    take_columns(x, v, n);
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

void sp_pair_attend_bwd(sp_flash_rows *x, const uint16_t *k, const uint16_t *v, int n, float *dk,
                        float *dv, int64_t row) {
    const sp_pair_space *w = &x->pair;
    const int dim = x->a->head_dim, width = x->padded;
    sp_pair_block p = {
        .M = n, .N = width, .K = dim, .a_row = dim, .b_row = SP_BLOCK_ROWS, .c_row = width};
    p.a = k, p.b = w->q_columns, p.c = w->s;
    x->simd->pair_product(&p);
    sp_flash_cap(x, w->s, n, width, width);
    sp_flash_slopes(x, &(sp_row_range){0, x->n_rows, width}, n, w->s, 1, width);
    p.a = v, p.b = w->do_columns, p.c = w->dp;
    x->simd->pair_product(&p);
    const sp_scores s = {w->s, width, width, n, x->first, x->last, x->a->cap};
    const sp_pair_grads grads = {w->p, w->ds, w->p_pairs};
    x->simd->softmax_grad_pairs(&s, x->lse, x->delta, w->dp, &grads);
    sp_pair_block sum = {.M = n, .N = dim, .K = width, .a_row = width, .b_row = dim, .c_row = row};
    sum.accumulate = true;
    sum.a = w->p, sum.b = w->do_rows, sum.c = dv;
    x->simd->pair_product(&sum);
    sum.a = w->ds, sum.b = w->q_rows, sum.c = dk;
    x->simd->pair_product(&sum);
    take_columns(x, k, n);
    const sp_pair_block dq = {dim,        width, whole(n), w->columns,    whole(n),
                              w->p_pairs, width, w->out,   SP_BLOCK_ROWS, true};
    x->simd->pair_product(&dq);
}
