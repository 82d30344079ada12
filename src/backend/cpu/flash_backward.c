/* With P = softmax(S), S = scale Q K^T, O = P V and delta = dO . O (by row):
 *   dS = P (dO V^T - delta),  dQ = scale dS K,  dK = scale dS^T Q,  dV = P^T dO.
 * Two passes over the blocks, each making P anew from the log-sum-exp: tasks of the first own rows
 * of dQ, tasks of the second own keys, so every sum has one owner and a fixed order. */
#include <string.h>

#include "backend/cpu/flash.h"
#include "backend/cpu/operand.h"

/* Segments that see the keys of segment s: list[start[s]] .. list[start[s + 1] - 1]. */
typedef struct viewers {
    int *start, *list;
} viewers;

typedef struct key_block {
    int segment;
    int32_t key;
} key_block;

typedef struct backward {
    sp_backend *be;
    const sp_attention *a;
    const sp_simd *simd;
    sp_flash_plan plan;
    const key_block *keys;
    int n_keys;
    viewers viewers;
    const float *q, *k, *v, *lse, *dout;
    const void *out;
    float *delta; /* like lse */
    float *dq, *dk, *dv, *space;
} backward;

/* delta of the rows of one block and one part of the heads. */
static void delta_task(void *context, int task, int worker) {
    const backward *b = context;
    const int heads = b->a->n_kv_heads * b->plan.parts, dim = b->a->head_dim;
    sp_flash_rows x;
    sp_flash_rows_init(&x, b->a, b->simd, task % heads / b->plan.parts, task % b->plan.parts,
                       sp_flash_space_at(b->space, dim, worker));
    sp_flash_rows_fill(&x, &b->plan.blocks[task / heads]);
    for (int r = 0; r < x.n_rows; r++) {
        const int64_t at = sp_flash_row_at(&x, r);
        for (int d = 0; d < dim; d++) {
            x.space.out[d] = sp_operand_load(b->be, b->out, at + d);
        }
        b->delta[at / dim] = b->simd->dot(x.space.out, b->dout + at, dim);
    }
}

static void gather_rows(sp_flash_rows *x, const backward *b) {
    sp_flash_gather(x, b->q, b->a->scale, x->space.q);
    sp_flash_gather(x, b->dout, 1.0F, x->space.dout);
    for (int r = 0; r < x->padded; r++) {
        const int64_t at = r < x->n_rows ? sp_flash_row_at(x, r) / b->a->head_dim : 0;
        x->lse[r] = r < x->n_rows ? b->lse[at] : 0.0F;
        x->delta[r] = r < x->n_rows ? b->delta[at] : 0.0F;
    }
}

/* dQ of the rows += dS K for one block of keys; scores and gradients as [keys, rows]. */
static void visit_dq(sp_flash_rows *x, void *context, int g, int32_t key, int n) {
    const backward *b = context;
    const sp_flash_space *w = &x->space;
    const int64_t dim = x->a->head_dim, at = sp_flash_key_at(x, g, key);
    sp_row_range rows = sp_flash_seeing(x);
    sp_flash_widen(x, &rows);
    sp_block p = {.M = n, .N = rows.padded, .K = dim, .a_column = 1, .c_row = SP_BLOCK_ROWS};
    p.a_row = x->a->n_kv_heads * dim;
    p.b_row = SP_BLOCK_ROWS;
    p.a = b->k + at, p.b = w->q_columns + rows.first, p.c = w->s;
    x->simd->block_product(&p);
    p.a = b->v + at, p.b = w->do_columns + rows.first, p.c = w->dp;
    x->simd->block_product(&p);
    const int32_t *first = x->first + rows.first, *last = x->last + rows.first;
    const sp_scores scores = {w->s, SP_BLOCK_ROWS, rows.padded, n, first, last};
    x->simd->softmax_grad_columns(&scores, x->lse + rows.first, x->delta + rows.first, w->dp);
    const sp_block product = {.M = rows.padded,
                              .N = dim,
                              .K = n,
                              .a = w->dp,
                              .a_row = 1,
                              .a_column = SP_BLOCK_ROWS,
                              .b = b->k + at,
                              .b_row = x->a->n_kv_heads * dim,
                              .c = w->out + rows.first * dim,
                              .c_row = dim,
                              .accumulate = true};
    x->simd->block_product(&product);
}

static void dq_task(void *context, int task, int worker) {
    const backward *b = context;
    const int heads = b->a->n_kv_heads * b->plan.parts, dim = b->a->head_dim;
    sp_flash_rows x;
    sp_flash_rows_init(&x, b->a, b->simd, task % heads / b->plan.parts, task % b->plan.parts,
                       sp_flash_space_at(b->space, dim, worker));
    sp_flash_rows_fill(&x, &b->plan.blocks[task / heads]);
    if (x.tokens == 0) {
        return;
    }
    gather_rows(&x, b);
    const sp_flash_space *w = &x.space;
    x.simd->transpose(w->q, dim, x.padded, dim, 1.0F, w->q_columns, SP_BLOCK_ROWS);
    x.simd->transpose(w->dout, dim, x.padded, dim, 1.0F, w->do_columns, SP_BLOCK_ROWS);
    memset(w->out, 0, (size_t)x.padded * (size_t)dim * sizeof(float));
    sp_flash_walk(&x, visit_dq, context);
    for (int r = 0; r < x.n_rows; r++) {
        float *to = b->dq + sp_flash_row_at(&x, r);
        for (int d = 0; d < dim; d++) {
            to[d] = w->out[r * dim + d] * b->a->scale;
        }
    }
}

/* dK and dV of n keys from `key` of segment g += what the gathered rows give; scores as
 * [rows, keys]. */
static void add_keys(sp_flash_rows *x, const backward *b, int g, int32_t key, int n) {
    if (x->tokens == 0 || !sp_flash_see(x, g, key, n, 0, x->tokens)) {
        return;
    }
    const sp_flash_space *w = &x->space;
    const int64_t dim = x->a->head_dim;
    gather_rows(x, b);
    sp_block p = {.M = x->n_rows, .N = SP_BLOCK_KEYS, .K = dim, .a_row = dim, .a_column = 1};
    p.b_row = p.c_row = SP_BLOCK_KEYS;
    p.a = w->q, p.b = w->k_columns, p.c = w->s;
    x->simd->block_product(&p);
    p.a = w->dout, p.b = w->v_columns, p.c = w->dp;
    x->simd->block_product(&p);
    const sp_scores scores = {w->s, SP_BLOCK_KEYS, x->n_rows, n, x->first, x->last};
    x->simd->softmax_grad_rows(&scores, x->lse, x->delta, w->dp);
    sp_block sum = {.M = n, .N = dim, .K = x->n_rows, .a_row = 1, .a_column = SP_BLOCK_KEYS};
    sum.b_row = sum.c_row = dim;
    sum.accumulate = true;
    sum.a = w->s, sum.b = w->dout, sum.c = w->dv;
    x->simd->block_product(&sum);
    sum.a = w->dp, sum.b = w->q, sum.c = w->dk;
    x->simd->block_product(&sum);
}

static void add_viewers(sp_flash_rows *x, const backward *b, int g, int32_t key, int n, int part) {
    const sp_attention *a = b->a;
    for (int i = b->viewers.start[g]; i < b->viewers.start[g + 1]; i++) {
        const int s = b->viewers.list[i];
        const sp_segment *segment = &a->segments[s];
        const int32_t before = segment->kv_len - segment->q_len;
        for (int32_t t = s == g && key > before ? key - before : 0; t < segment->q_len; t++) {
            sp_flash_rows_add(x, s, t);
            if (x->tokens == x->capacity) {
                add_keys(x, b, g, key, n);
                sp_flash_rows_init(x, a, b->simd, x->kv_head, part, x->space);
            }
        }
    }
    add_keys(x, b, g, key, n);
}

static void put_keys(const sp_flash_rows *x, int64_t at, int n, const float *from, float *to) {
    const int64_t dim = x->a->head_dim, stride = x->a->n_kv_heads * dim;
    for (int j = 0; j < n; j++) {
        memcpy(to + at + j * stride, from + j * dim, (size_t)dim * sizeof *to);
    }
}

/* [n keys, D] to [D, SP_BLOCK_KEYS], the missing keys as zeros. */
static void key_columns(const sp_flash_rows *x, const float *k, int n, float *to) {
    const int dim = x->a->head_dim;
    if (n < SP_BLOCK_KEYS) {
        memset(to, 0, (size_t)dim * SP_BLOCK_KEYS * sizeof *to);
    }
    x->simd->transpose(k, (int64_t)x->a->n_kv_heads * dim, n, dim, 1.0F, to, SP_BLOCK_KEYS);
}

static void dk_task(void *context, int task, int worker) {
    const backward *b = context;
    const int dim = b->a->head_dim, kv_head = task % b->a->n_kv_heads;
    const key_block *block = &b->keys[task / b->a->n_kv_heads];
    const int32_t left = b->a->segments[block->segment].kv_len - block->key;
    const int n = left < SP_BLOCK_KEYS ? left : SP_BLOCK_KEYS;
    sp_flash_rows x;
    sp_flash_rows_init(&x, b->a, b->simd, kv_head, 0, sp_flash_space_at(b->space, dim, worker));
    const int64_t at = sp_flash_key_at(&x, block->segment, block->key);
    key_columns(&x, b->k + at, n, x.space.k_columns);
    key_columns(&x, b->v + at, n, x.space.v_columns);
    memset(x.space.dk, 0, (size_t)n * (size_t)dim * sizeof(float));
    memset(x.space.dv, 0, (size_t)n * (size_t)dim * sizeof(float));
    for (int part = 0; part < b->plan.parts; part++) {
        sp_flash_rows_init(&x, b->a, b->simd, kv_head, part, x.space);
        add_viewers(&x, b, block->segment, block->key, n, part);
    }
    put_keys(&x, at, n, x.space.dk, b->dk);
    put_keys(&x, at, n, x.space.dv, b->dv);
}

/* For each segment the segments that see it, itself among them, in rising order. */
static spar_status find_viewers(sp_backend *be, const sp_attention *a, viewers *out,
                                spar_error *err) {
    void *memory = NULL;
    size_t total = 0;
    for (int s = 0; s < a->n_segments; s++) {
        for (int g = s; g >= 0; g = a->segments[g].parent) {
            total++;
        }
    }
    const size_t n = (size_t)a->n_segments;
    const spar_status status =
        sp_tuned_scratch(be, SP_SCRATCH_VIEWERS, n + 2 + total, sizeof(int), &memory, err);
    if (status != SPAR_OK) {
        return status;
    }
    int *start = memory;
    *out = (viewers){start, start + n + 2};
    memset(start, 0, (n + 2) * sizeof *start);
    /* Counts two places on become, summed, starts one place on, which filling moves up by one. */
    for (int s = 0; s < a->n_segments; s++) {
        for (int g = s; g >= 0; g = a->segments[g].parent) {
            start[g + 2]++;
        }
    }
    for (size_t i = 2; i < n + 2; i++) {
        start[i] += start[i - 1];
    }
    for (int s = 0; s < a->n_segments; s++) {
        for (int g = s; g >= 0; g = a->segments[g].parent) {
            out->list[start[g + 1]++] = s;
        }
    }
    return SPAR_OK;
}

static spar_status plan_keys(backward *b, spar_error *err) {
    void *memory = NULL;
    size_t bound = 0;
    for (int s = 0; s < b->a->n_segments; s++) {
        bound += (size_t)(b->a->segments[s].kv_len / SP_BLOCK_KEYS) + 1;
    }
    const spar_status status =
        sp_tuned_scratch(b->be, SP_SCRATCH_A, bound, sizeof(key_block), &memory, err);
    if (status != SPAR_OK) {
        return status;
    }
    key_block *keys = memory;
    for (int s = 0; s < b->a->n_segments; s++) {
        for (int32_t key = 0; key < b->a->segments[s].kv_len; key += SP_BLOCK_KEYS) {
            keys[b->n_keys++] = (key_block){s, key};
        }
    }
    b->keys = keys;
    return SPAR_OK;
}

static spar_status make_space(backward *b, spar_error *err) {
    spar_status status = SPAR_OK;
    void *space = NULL, *delta = NULL;
    int64_t rows = 0;
    for (int s = 0; s < b->a->n_segments; s++) {
        const int64_t end = b->a->segments[s].q_start + b->a->segments[s].q_len;
        rows = end > rows ? end : rows;
    }
    SPAR_TRY(sp_tuned_scratch(b->be, SP_SCRATCH_PARTIAL, (size_t)(rows * b->a->n_heads),
                              sizeof(float), &delta, err));
    SPAR_TRY(sp_tuned_scratch(b->be, SP_SCRATCH_WORKERS,
                              (size_t)sp_pool_threads(b->be->pool) *
                                  sp_flash_space_floats(b->a->head_dim),
                              sizeof(float), &space, err));
    b->delta = delta;
    b->space = space;
done:
    return status;
}

spar_status sp_flash_attention_bwd(sp_backend *be, const sp_attention *a, const float *q,
                                   const float *k, const float *v, const void *out,
                                   const float *lse, const float *dout, float *dq, float *dk,
                                   float *dv, spar_error *err) {
    spar_status status = SPAR_OK;
    backward b = {.be = be, .a = a, .q = q, .k = k, .v = v, .lse = lse, .dout = dout};
    b.simd = &((const sp_tuned *)be->state)->simd;
    b.out = out;
    b.dq = dq, b.dk = dk, b.dv = dv;
    SPAR_TRY(sp_flash_plan_make(be, a, &b.plan, err));
    SPAR_TRY(find_viewers(be, a, &b.viewers, err));
    SPAR_TRY(plan_keys(&b, err));
    SPAR_TRY(make_space(&b, err));
    const int tasks = b.plan.n_blocks * a->n_kv_heads * b.plan.parts;
    sp_pool_run(be->pool, tasks, delta_task, &b);
    sp_pool_run(be->pool, tasks, dq_task, &b);
    sp_pool_run(be->pool, b.n_keys * a->n_kv_heads, dk_task, &b);
done:
    return status;
}
