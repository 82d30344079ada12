#include <math.h>
#include <string.h>

#include "backend/cpu/flash.h"
#include "backend/cpu/operand.h"

/* Rows up to which dot products beat the product with padded columns (a decoded token's heads). */
enum { FEW_ROWS = 7 };

typedef struct forward {
    sp_backend *be;
    const sp_attention *a;
    const sp_simd *simd;
    sp_flash_plan plan;
    const float *q, *k, *v;
    void *out;
    float *lse, *space;
} forward;

/* Where the score of (row, key) lies: row row_step + key key_step. */
typedef struct layout {
    int64_t row_step, key_step;
} layout;

/* out += P V */
static void add_values(const sp_flash_rows *x, const float *v, const sp_row_range *rows, layout at,
                       int n) {
    const int64_t dim = x->a->head_dim;
    const sp_block p = {.M = rows->padded,
                        .N = dim,
                        .K = n,
                        .a = x->space.s,
                        .a_row = at.row_step,
                        .a_column = at.key_step,
                        .b = v,
                        .b_row = x->a->n_kv_heads * dim,
                        .c = x->space.out + rows->first * dim,
                        .c_row = dim,
                        .accumulate = true};
    x->simd->block_product(&p);
}

static sp_scores scores_of(const sp_flash_rows *x, const sp_row_range *rows, int64_t step, int n) {
    return (sp_scores){.s = x->space.s,
                       .s_row = step,
                       .n_rows = rows->padded,
                       .n_keys = n,
                       .first = x->first + rows->first,
                       .last = x->last + rows->first};
}

/* Scores as [rows, keys], by dot products. */
static void attend_few(sp_flash_rows *x, const float *k, const float *v, sp_row_range rows, int n) {
    const int64_t dim = x->a->head_dim, first = rows.first;
    rows.padded = rows.n;
    const sp_block p = {.M = rows.n,
                        .N = n,
                        .K = dim,
                        .a = x->space.q + first * dim,
                        .a_row = dim,
                        .a_column = 1,
                        .b = k,
                        .b_row = x->a->n_kv_heads * dim,
                        .c = x->space.s,
                        .c_row = SP_BLOCK_KEYS};
    x->simd->block_dots(&p);
    const sp_scores scores = scores_of(x, &rows, SP_BLOCK_KEYS, n);
    x->simd->softmax_step_rows(&scores, x->max + first, x->sum + first, x->space.out + first * dim,
                               dim);
    add_values(x, v, &rows, (layout){SP_BLOCK_KEYS, 1}, n);
}

/* Scores as [keys, rows], by a product with the queries' columns. */
static void attend_many(sp_flash_rows *x, const float *k, const float *v, sp_row_range rows,
                        int n) {
    const int64_t dim = x->a->head_dim;
    sp_flash_widen(x, &rows);
    const int64_t first = rows.first;
    const sp_block p = {.M = n,
                        .N = rows.padded,
                        .K = dim,
                        .a = k,
                        .a_row = x->a->n_kv_heads * dim,
                        .a_column = 1,
                        .b = x->space.q_columns + first,
                        .b_row = SP_BLOCK_ROWS,
                        .c = x->space.s,
                        .c_row = rows.padded};
    x->simd->block_product(&p);
    const sp_scores scores = scores_of(x, &rows, rows.padded, n);
    x->simd->softmax_step(&scores, x->max + first, x->sum + first, x->space.out + first * dim, dim);
    add_values(x, v, &rows, (layout){1, rows.padded}, n);
}

static void attend(sp_flash_rows *x, void *context, int g, int32_t key, int n) {
    const forward *f = context;
    const int64_t at = sp_flash_key_at(x, g, key);
    const sp_row_range rows = sp_flash_seeing(x);
    if (rows.n <= FEW_ROWS) {
        attend_few(x, f->k + at, f->v + at, rows, n);
    } else {
        attend_many(x, f->k + at, f->v + at, rows, n);
    }
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
