#include <math.h>
#include <string.h>

#include "backend/cpu/flash.h"

/* Rows up to which dot products beat the product with padded columns (a decoded token's heads). */
enum { FEW_ROWS = 7 };

typedef struct forward {
    sp_flash shared;
    const float *q;
    const void *k, *v;
    void *out;
    float *lse;
} forward;

/* Rows of keys or values as f32, `row` elements from one to the next. */
typedef struct floats {
    const float *data;
    int64_t row;
} floats;

static floats widened(const sp_flash_rows *x, const void *array, int64_t at, int n, float *space) {
    const int64_t dim = x->a->head_dim;
    if (x->a->cache_rows == 0 || !x->a->cache_bf16) {
        return (floats){(const float *)array + at, sp_flash_key_row(x->a)};
    }
    x->simd->from_bf16((const uint16_t *)array + at, n * dim, space);
    return (floats){space, dim};
}

/* Where the score of (row, key) lies: row row_step + key key_step. */
typedef struct layout {
    int64_t row_step, key_step;
} layout;

/* out += P V */
static void add_values(const sp_flash_rows *x, floats v, const sp_row_range *rows, layout at,
                       int n) {
    const int64_t dim = x->a->head_dim;
    const sp_block p = {.M = rows->padded,
                        .N = dim,
                        .K = n,
                        .a = x->space.s,
                        .a_row = at.row_step,
                        .a_column = at.key_step,
                        .b = v.data,
                        .b_row = v.row,
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
static void attend_few(sp_flash_rows *x, floats k, floats v, sp_row_range rows, int n) {
    const int64_t dim = x->a->head_dim, first = rows.first;
    rows.padded = rows.n;
    const sp_block p = {.M = rows.n,
                        .N = n,
                        .K = dim,
                        .a = x->space.q + first * dim,
                        .a_row = dim,
                        .a_column = 1,
                        .b = k.data,
                        .b_row = k.row,
                        .c = x->space.s,
                        .c_row = SP_BLOCK_KEYS};
    x->simd->block_dots(&p);
    sp_flash_cap(x, x->space.s, rows.n, SP_BLOCK_KEYS, n);
    sp_flash_slopes(x, &rows, n, x->space.s, SP_BLOCK_KEYS, 1);
    const sp_scores scores = scores_of(x, &rows, SP_BLOCK_KEYS, n);
    x->simd->softmax_step_rows(&scores, x->max + first, x->sum + first, x->space.out + first * dim,
                               dim);
    add_values(x, v, &rows, (layout){SP_BLOCK_KEYS, 1}, n);
}

/* Scores as [keys, rows], by a product with the queries' columns. */
static void attend_many(sp_flash_rows *x, floats k, floats v, sp_row_range rows, int n) {
    const int64_t dim = x->a->head_dim;
    sp_flash_widen(x, &rows);
    const int64_t first = rows.first;
    const sp_block p = {.M = n,
                        .N = rows.padded,
                        .K = dim,
                        .a = k.data,
                        .a_row = k.row,
                        .a_column = 1,
                        .b = x->space.q_columns + first,
                        .b_row = SP_BLOCK_ROWS,
                        .c = x->space.s,
                        .c_row = rows.padded};
    x->simd->block_product(&p);
    sp_flash_cap(x, x->space.s, n, rows.padded, rows.padded);
    sp_flash_slopes(x, &rows, n, x->space.s, 1, rows.padded);
    const sp_scores scores = scores_of(x, &rows, rows.padded, n);
    x->simd->softmax_step(&scores, x->max + first, x->sum + first, x->space.out + first * dim, dim);
    add_values(x, v, &rows, (layout){1, rows.padded}, n);
}

/* Ask for the first keys and values of the segment after g among those of the rows: in decoding
 * each segment is short and read once, so that one core would wait for every one of them. */
static void prefetch_next(const sp_flash_rows *x, const forward *f, int g) {
    enum { LINE = 64 / sizeof(uint16_t) };
    int t = 0;
    while (t < x->tokens && x->segment[t] <= g) {
        t++;
    }
    if (t == 0 || t == x->tokens) {
        return; /* g is a parent, or the last */
    }
    const sp_key_span span = sp_flash_span(x, x->segment[t], t, t + 1);
    const int n = span.last - span.first;
    const int64_t at = sp_flash_key_at(x, x->segment[t], span.first);
    const int64_t end = at + (int64_t)(n < SP_PAIR_KEYS ? n : SP_PAIR_KEYS) * x->a->head_dim;
    for (int64_t i = at; i < end; i += LINE) {
        __builtin_prefetch((const uint16_t *)f->k + i, 0, 2);
        __builtin_prefetch((const uint16_t *)f->v + i, 0, 2);
    }
}

static void attend(sp_flash_rows *x, void *context, int g, int32_t key, int n) {
    const forward *f = context;
    const int64_t at = sp_flash_key_at(x, g, key);
    if (x->pairs) {
        prefetch_next(x, f, g);
        sp_pair_attend(x, (const uint16_t *)f->k + at, (const uint16_t *)f->v + at, n);
        return;
    }
    const floats k = widened(x, f->k, at, n, x->space.k), v = widened(x, f->v, at, n, x->space.v);
    const sp_row_range rows = sp_flash_seeing(x);
    if (rows.n <= FEW_ROWS) {
        attend_few(x, k, v, rows, n);
    } else {
        attend_many(x, k, v, rows, n);
    }
}

static void put_row(const forward *f, const sp_flash_rows *x, float *from, int r) {
    const sp_backend *be = f->shared.be;
    const int64_t dim = x->a->head_dim, at = sp_flash_row_at(x, r);
    const float factor = 1.0F / x->sum[r];
    float *to = be->compute == SP_COMPUTE_BF16 ? from : (float *)f->out + at;
    for (int64_t d = 0; d < dim; d++) {
        to[d] = from[d] * factor;
    }
    if (be->compute == SP_COMPUTE_BF16) {
        x->simd->to_bf16(from, dim, (uint16_t *)f->out + at);
    }
    if (f->lse != NULL) {
        f->lse[at / dim] = x->max[r] + logf(x->sum[r]);
    }
}

static void begin(sp_flash_rows *x, const float *q) {
    const int dim = x->a->head_dim;
    for (int r = 0; r < x->padded; r++) {
        x->max[r] = -INFINITY;
        x->sum[r] = 0;
    }
    if (x->pairs) {
        sp_pair_begin(x, q);
        return;
    }
    sp_flash_gather(x, q, x->a->scale, x->space.q);
    x->simd->transpose(x->space.q, dim, x->padded, dim, 1.0F, x->space.q_columns, SP_BLOCK_ROWS);
    memset(x->space.out, 0, (size_t)x->padded * (size_t)dim * sizeof(float));
}

static void forward_task(void *context, int task, int worker) {
    const forward *f = context;
    const sp_flash_plan *plan = &f->shared.plan;
    const int heads = f->shared.a->n_kv_heads * plan->parts, head = task % heads;
    sp_flash_rows x;
    sp_flash_rows_init(&x, &f->shared, head / plan->parts, head % plan->parts, worker);
    sp_flash_rows_fill(&x, &plan->blocks[task / heads]);
    if (x.tokens == 0) {
        return;
    }
    begin(&x, f->q);
    sp_flash_walk(&x, attend, context);
    if (x.pairs) {
        sp_pair_end(&x);
    }
    float *rows = x.pairs ? x.pair.rows : x.space.out;
    for (int r = 0; r < x.n_rows; r++) {
        put_row(f, &x, rows + r * x.a->head_dim, r);
    }
}

void sp_flash_cache_put(sp_backend *be, const float *x, int64_t n, int heads, int head_dim,
                        void *cache, int64_t cache_rows, bool bf16, int64_t to) {
    const sp_simd *simd = &((const sp_tuned *)be->state)->simd;
    for (int64_t i = 0; i < n * heads; i++, x += head_dim) {
        const int64_t at = (i % heads * cache_rows + to + i / heads) * head_dim;
        if (bf16) {
            simd->to_bf16(x, head_dim, (uint16_t *)cache + at);
        } else {
            memcpy((float *)cache + at, x, (size_t)head_dim * sizeof *x);
        }
    }
}

spar_status sp_flash_attention(sp_backend *be, const sp_attention *a, const float *q, const void *k,
                               const void *v, void *out, float *lse, spar_error *err) {
    spar_status status = SPAR_OK;
    forward f = {.q = q, .k = k, .v = v, .out = out, .lse = lse};
    const sp_flash_plan *plan = &f.shared.plan;
    SPAR_TRY(sp_flash_open(&f.shared, be, a, err));
    SPAR_TRY(sp_pair_pack(&f.shared, &f.k, &f.v, err));
    sp_pool_run(be->pool, plan->n_blocks * a->n_kv_heads * plan->parts, forward_task, &f);
done:
    return status;
}
