#include <math.h>
#include <string.h>

#include "backend/cpu/flash.h"
#include "backend/cpu/operand.h"

/* Rows up to which dot products beat the product with padded columns (a decoded token's heads). */
enum { FEW_ROWS = 4 };

typedef struct forward {
    sp_backend *be;
    const sp_attention *a;
    const sp_simd *simd;
    sp_flash_plan plan;
    const float *q, *k, *v;
    void *out;
    float *lse, *space;
} forward;

/* Scores of the seeing rows as [n keys, rows->padded]. */
static void score_block(const sp_flash_rows *x, const float *k, sp_row_range *rows, int n) {
    const sp_flash_space *w = &x->space;
    const int64_t dim = x->a->head_dim, stride = x->a->n_kv_heads * dim;
    sp_block p = {.M = n, .K = dim, .a = k, .a_row = stride, .a_column = 1, .c = w->s};
    if (rows->n <= FEW_ROWS) {
        rows->padded = rows->n;
        p.N = p.c_row = rows->n;
        p.b = w->q + rows->first * dim;
        p.b_row = dim;
        x->simd->block_dots(&p);
        return;
    }
    sp_flash_widen(x, rows);
    p.N = p.c_row = rows->padded;
    p.b = w->q_columns + rows->first;
    p.b_row = SP_BLOCK_ROWS;
    x->simd->block_product(&p);
}

static void attend(sp_flash_rows *x, void *context, int g, int32_t key, int n) {
    const forward *f = context;
    const int64_t dim = x->a->head_dim, at = sp_flash_key_at(x, g, key);
    sp_row_range rows = sp_flash_seeing(x);
    score_block(x, f->k + at, &rows, n);
    float *out = x->space.out + rows.first * dim;
    const sp_scores scores = {.s = x->space.s,
                              .s_row = rows.padded,
                              .n_rows = rows.padded,
                              .n_keys = n,
                              .first = x->first + rows.first,
                              .last = x->last + rows.first};
    x->simd->softmax_step(&scores, x->max + rows.first, x->sum + rows.first, out, dim);
    const sp_block p = {.M = rows.padded,
                        .N = dim,
                        .K = n,
                        .a = x->space.s,
                        .a_row = 1,
                        .a_column = rows.padded,
                        .b = f->v + at,
                        .b_row = x->a->n_kv_heads * dim,
                        .c = out,
                        .c_row = dim,
                        .accumulate = true};
    x->simd->block_product(&p);
}

static void put_row(const forward *f, const sp_flash_rows *x, int r) {
    const int64_t dim = x->a->head_dim, at = sp_flash_row_at(x, r);
    const float factor = 1.0F / x->sum[r];
    for (int64_t d = 0; d < dim; d++) {
        sp_operand_store(f->be, f->out, at + d, x->space.out[r * dim + d] * factor);
    }
    if (f->lse != NULL) {
        f->lse[at / dim] = x->max[r] + logf(x->sum[r]);
    }
}

static void forward_task(void *context, int task, int worker) {
    const forward *f = context;
    const int heads = f->a->n_kv_heads * f->plan.parts, dim = f->a->head_dim;
    const int head = task % heads;
    sp_flash_rows x;
    sp_flash_rows_init(&x, f->a, f->simd, head / f->plan.parts, head % f->plan.parts,
                       sp_flash_space_at(f->space, dim, worker));
    sp_flash_rows_fill(&x, &f->plan.blocks[task / heads]);
    if (x.tokens == 0) {
        return;
    }
    sp_flash_gather(&x, f->q, f->a->scale, x.space.q);
    x.simd->transpose(x.space.q, dim, x.padded, dim, 1.0F, x.space.q_columns, SP_BLOCK_ROWS);
    memset(x.space.out, 0, (size_t)x.padded * (size_t)dim * sizeof(float));
    for (int r = 0; r < x.padded; r++) {
        x.max[r] = -INFINITY;
        x.sum[r] = 0;
    }
    sp_flash_walk(&x, attend, context);
    for (int r = 0; r < x.n_rows; r++) {
        put_row(f, &x, r);
    }
}

spar_status sp_flash_attention(sp_backend *be, const sp_attention *a, const float *q,
                               const float *k, const float *v, void *out, float *lse,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    forward f = {.be = be, .a = a, .q = q, .k = k, .v = v, .out = out, .lse = lse};
    void *space = NULL;
    f.simd = &((const sp_tuned *)be->state)->simd;
    SPAR_TRY(sp_flash_plan_make(be, a, &f.plan, err));
    SPAR_TRY(
        sp_tuned_scratch(be, SP_SCRATCH_WORKERS,
                         (size_t)sp_pool_threads(be->pool) * sp_flash_space_floats(a->head_dim),
                         sizeof(float), &space, err));
    f.space = space;
    sp_pool_run(be->pool, f.plan.n_blocks * a->n_kv_heads * f.plan.parts, forward_task, &f);
done:
    return status;
}
