/* Matrix products: cut into tiles by the sizes alone, each tile one oneDNN call on one thread. */
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/chain.h"
#include "backend/cpu/packed.h"
#include "backend/cpu/panels.h"
#include "backend/cpu/quant.h"
#include "backend/cpu/sizes.h"
#include "backend/cpu/tuned.h"
#include "base/mem.h"

enum {
    TILE = 192,      /* of a dimension whose operand may be copied: a block stays in the cache */
    ENOUGH = 8,      /* tiles, where the sizes give so many */
    TILE_LONG = 512, /* of the other dimension */
    FEW_ROWS = 32,   /* up to which y^T = W x^T is faster than y = x W^T */
    CROWDED = 256,   /* rows a multiple of this many floats apart crowd a few sets of the cache */
    CONVERT = 1 << 15
};

/* C [M,N] cut into tiles; bias [N] or NULL. B may be blocks, of which a tile is made at a time. */
typedef struct product {
    sp_backend *be;
    sp_sgemm g; /* of the whole */
    const float *bias;
    const sp_blocks *blocks; /* W, in place of g.b: B is W^T (g.transpose_b) or W; or NULL */
    int64_t tile_m, tile_n, tiles_n;
    bool copy_a, copy_b; /* operands read by columns go through a dense copy of the tile */
    bool swap;           /* few rows: the tile is made transposed */
    float *space;        /* of all workers */
    size_t space_floats;
    atomic_int status;
} product;

/* bias [N] goes in first, and the product on top. */
static void put_bias(sp_sgemm *t, const float *bias) {
    for (int64_t m = 0; m < t->M; m++) {
        for (int64_t n = 0; n < t->N; n++) {
            float *to = &t->c[m * t->ldc + n];
            *to = (t->accumulate ? *to : 0.0F) + bias[n];
        }
    }
    t->accumulate = true;
}

/* Copy x [K, n] with rows row apart to to [K, n]; the copy's leading dimension. */
static int64_t copy_tile(const float *x, int64_t row, int64_t K, int64_t n, float *to) {
    for (int64_t k = 0; k < K; k++) {
        memcpy(to + k * n, x + k * row, (size_t)n * sizeof *to);
    }
    return n;
}

/* C^T = B^T A^T into the worker's space, then turned and added in place. */
static int run_swapped(const product *p, const sp_sgemm *t, float *space) {
    const sp_sgemm swapped = {.transpose_a = !t->transpose_b,
                              .transpose_b = true,
                              .M = t->N,
                              .N = t->M,
                              .K = t->K,
                              .lda = t->ldb,
                              .ldb = t->lda,
                              .ldc = t->M,
                              .a = t->b,
                              .b = t->a,
                              .c = space};
    const int code = sp_onednn_sgemm(&swapped);
    const bool add = t->accumulate || p->bias != NULL;
    for (int64_t m = 0; m < t->M; m++) {
        for (int64_t n = 0; n < t->N; n++) {
            float *to = &t->c[m * t->ldc + n];
            *to = (add ? *to : 0.0F) + space[n * t->M + m];
        }
    }
    return code;
}

/* A tile's B from the blocks: W^T [in, n] as it comes, W [out, n] as its transpose. */
static float *expand_b(const product *p, sp_sgemm *t, int64_t n0, float *space) {
    if (p->g.transpose_b) {
        sp_quant_tile(p->be, p->blocks, n0, t->N, 0, t->K, space);
        t->ldb = sp_quant_stride(t->N);
    } else {
        sp_quant_tile(p->be, p->blocks, 0, t->K, n0, t->N, space);
        t->ldb = sp_quant_stride(t->K);
    }
    t->transpose_b = !p->g.transpose_b;
    t->b = space;
    return space + (p->g.transpose_b ? t->K : t->N) * t->ldb;
}

static int run_tile(const product *p, sp_sgemm *t, int64_t n0, float *space) {
    if (p->blocks != NULL) {
        space = expand_b(p, t, n0, space);
    }
    if (p->swap) {
        return run_swapped(p, t, space);
    }
    if (p->copy_a) {
        t->lda = copy_tile(t->a, t->lda, t->K, t->M, space);
        t->a = space;
        space += t->K * t->M;
    }
    if (p->copy_b) {
        t->ldb = copy_tile(t->b, t->ldb, t->K, t->N, space);
        t->b = space;
    }
    return sp_onednn_sgemm(t);
}

static void product_tile(void *context, int task, int worker) {
    product *p = context;
    const int64_t m0 = task / p->tiles_n * p->tile_m, n0 = task % p->tiles_n * p->tile_n;
    sp_sgemm t = p->g;
    t.M = sp_min64(p->tile_m, p->g.M - m0);
    t.N = sp_min64(p->tile_n, p->g.N - n0);
    t.a += p->g.transpose_a ? m0 : m0 * t.lda;
    if (p->blocks == NULL) {
        t.b += p->g.transpose_b ? n0 * t.ldb : n0;
    }
    t.c += m0 * t.ldc + n0;
    if (p->bias != NULL) {
        put_bias(&t, p->bias + n0);
    }
    sp_onednn_single();
    const int code = run_tile(p, &t, n0, p->space + (size_t)worker * p->space_floats);
    if (code != 0) {
        atomic_store(&p->status, code);
    }
}

static int64_t tiles_of(const product *p) {
    return sp_ceil_div(p->g.M, p->tile_m) * sp_ceil_div(p->g.N, p->tile_n);
}

/* Fewer tiles than a few a thread leave threads waiting: cut N finer, then M. */
static void cut_finer(product *p) {
    static const int64_t finer[] = {96, 64, 32};
    enum { STEPS_N = 2, STEPS_M = 3 };
    for (int i = 0; i < STEPS_N && tiles_of(p) < ENOUGH; i++) {
        p->tile_n = finer[i];
    }
    for (int i = 0; i < STEPS_M && tiles_of(p) < ENOUGH; i++) {
        p->tile_m = finer[i];
    }
}

/* How to cut, by the sizes alone. */
static void plan_product(product *p) {
    const sp_sgemm *g = &p->g;
    p->copy_a = g->transpose_a && g->lda % CROWDED == 0 && g->M > TILE;
    p->copy_b = p->blocks == NULL && !g->transpose_b && g->ldb % CROWDED == 0 && g->N > TILE;
    p->swap = g->transpose_b && g->M <= FEW_ROWS;
    /* A copy is worth more the longer the other side of its tile is. */
    p->tile_m = p->copy_b && !p->copy_a ? TILE_LONG : TILE;
    p->tile_n = p->copy_a && !p->copy_b ? TILE_LONG : TILE;
    if (!p->copy_a && !p->copy_b) {
        cut_finer(p);
    }
    p->tiles_n = sp_ceil_div(g->N, p->tile_n);
    p->space_floats = 0;
    if (p->blocks != NULL) {
        const int64_t outputs = g->transpose_b ? p->tile_n : g->K;
        p->space_floats = (size_t)(sp_quant_stride(outputs) * (g->transpose_b ? g->K : p->tile_n));
    }
    if (p->swap) {
        p->space_floats += FEW_ROWS * TILE;
    } else {
        p->space_floats += p->copy_a ? (size_t)(g->K * p->tile_m) : 0;
        p->space_floats += p->copy_b ? (size_t)(g->K * p->tile_n) : 0;
    }
}

static spar_status run_product(sp_backend *be, product *p, const char *what, spar_error *err) {
    spar_status status = SPAR_OK;
    void *space = NULL;
    if (p->g.M == 0 || p->g.N == 0) {
        return SPAR_OK;
    }
    plan_product(p);
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(be->pool),
                              p->space_floats * sizeof(float), &space, err));
    p->be = be;
    p->space = space;
    atomic_init(&p->status, 0);
    sp_pool_run(be->pool, (int)(sp_ceil_div(p->g.M, p->tile_m) * p->tiles_n), product_tile, p);
    SPAR_TRY(sp_onednn_check(atomic_load(&p->status), what, err));
done:
    return status;
}

typedef struct conversion {
    const sp_simd *simd;
    const void *from;
    float *to;
    int64_t n;
} conversion;

static void widen_chunk(void *context, int task, int worker) {
    (void)worker;
    const conversion *c = context;
    const int64_t at = (int64_t)task * CONVERT;
    c->simd->from_bf16((const uint16_t *)c->from + at, sp_min64(c->n - at, CONVERT), c->to + at);
}

static void round_chunk(void *context, int task, int worker) {
    (void)worker;
    const conversion *c = context;
    const int64_t at = (int64_t)task * CONVERT;
    c->simd->round_bf16((const float *)c->from + at, sp_min64(c->n - at, CONVERT), c->to + at);
}

static void convert(sp_backend *be, sp_pool_fn chunk, const void *from, float *to, int64_t n) {
    conversion c = {&((const sp_tuned *)be->state)->simd, from, to, n};
    sp_pool_run(be->pool, (int)sp_ceil_div(n, CONVERT), chunk, &c);
}

spar_status sp_tuned_operand_f32(sp_backend *be, const void *x, int64_t n, int slot,
                                 const float **out, spar_error *err) {
    void *copy = NULL;
    if (be->compute == SP_COMPUTE_F32) {
        *out = x;
        return SPAR_OK;
    }
    const spar_status status = sp_tuned_scratch(be, slot, (size_t)n, sizeof(float), &copy, err);
    if (status == SPAR_OK) {
        convert(be, widen_chunk, x, copy, n);
        *out = copy;
    }
    return status;
}

const float *sp_tuned_weight_values(const sp_weight *w) {
    return w->packed != NULL ? w->packed : w->data;
}

/* Blocks that stand for the weight itself, rather than beside its floats. */
static const sp_blocks *frozen_blocks(const sp_weight *w) {
    return w->data == NULL ? w->blocks : NULL;
}

static bool has_primitives(const sp_backend *be) {
    return ((const sp_tuned *)be->state)->dnn != NULL;
}

/* Blocks are read in place, so they move to the slabs themselves. */
static spar_status move_blocks(sp_backend *be, sp_blocks *b, spar_error *err) {
    void *memory = NULL;
    const size_t bytes = (size_t)(b->panels * b->n_blocks) * b->block_bytes;
    const spar_status status =
        sp_slabs_take(&((sp_tuned *)be->state)->weights, bytes, &memory, err);
    if (status == SPAR_OK) {
        memcpy(memory, b->data, bytes);
        free(b->data);
        b->data = memory;
        b->moved = true;
    }
    return status;
}

spar_status sp_tuned_weight_prepare(sp_backend *be, sp_weight *w, int what, spar_error *err) {
    if (w->blocks != NULL && !w->blocks->moved) {
        const spar_status status = move_blocks(be, w->blocks, err);
        if (status != SPAR_OK) {
            return status;
        }
    }
    if (w->data == NULL) {
        return SPAR_OK;
    }
    if (has_primitives(be) && (what & SP_PREPARE_EACH)) {
        return sp_packed_prepare_each(be, w, what, err);
    }
    if (has_primitives(be)) {
        return sp_packed_prepare(be, w, what, err);
    }
    if (be->compute == SP_COMPUTE_F32) {
        return SPAR_OK;
    }
    const int64_t n = w->out * w->in;
    if (w->packed == NULL) {
        const spar_status status = sp_mem_aligned(&w->packed, (size_t)n, sizeof(float), err);
        if (status != SPAR_OK) {
            return status;
        }
    }
    convert(be, round_chunk, w->data, w->packed, n);
    return SPAR_OK;
}

void sp_tuned_weight_release(sp_backend *be, sp_weight *w) {
    if (has_primitives(be)) {
        sp_packed_release(be, w);
    }
    free(w->packed);
    w->packed = NULL;
}

bool sp_tuned_can_defer(const sp_backend *be) {
    return has_primitives(be) || be->compute == SP_COMPUTE_F32;
}

/* ---- products as steps of a chain, by sgemm ---- */

typedef struct rows_job {
    sp_sgemm g; /* but for M, a and c */
    const float *bias;
} rows_job;

static int sgemm_rows(const void *job, const sp_rows *r) {
    const rows_job *j = job;
    sp_sgemm g = j->g;
    g.M = r->n;
    g.a = (const float *)(const void *)r->at[0];
    g.c = (float *)(void *)r->at[1];
    if (j->bias != NULL) {
        put_bias(&g, j->bias);
    }
    sp_onednn_single();
    return sp_onednn_sgemm(&g);
}

typedef struct expansion {
    const sp_backend *be;
    const sp_blocks *blocks;
    float *to; /* W^T [in, stride] */
    int64_t stride;
} expansion;

enum { EXPAND_INPUTS = 32 * 8 };

static void expand_task(void *context, int task, int worker) {
    (void)worker;
    const expansion *x = context;
    const int64_t in0 = (int64_t)task * EXPAND_INPUTS;
    sp_quant_tile(x->be, x->blocks, 0, x->blocks->out, in0,
                  sp_min64(EXPAND_INPUTS, x->blocks->in - in0), x->to + in0 * x->stride);
}

/* Blocks that stand for the weight become floats for the length of the chain. */
static spar_status expand_whole(sp_backend *be, const sp_blocks *blocks, sp_sgemm *g,
                                spar_error *err) {
    void *memory = NULL;
    expansion x = {.be = be, .blocks = blocks, .stride = sp_quant_stride(blocks->out)};
    const spar_status status = sp_tuned_scratch(
        be, sp_chain_frozen_slot(be), (size_t)(blocks->in * x.stride), sizeof(float), &memory, err);
    if (status == SPAR_OK) {
        x.to = memory;
        sp_pool_run(be->pool, (int)sp_ceil_div(blocks->in, EXPAND_INPUTS), expand_task, &x);
        g->b = x.to;
        g->ldb = x.stride;
        g->transpose_b = !g->transpose_b;
    }
    return status;
}

/* B of g, which has all its rows apart by ldb. */
static sp_panels_linear with_panels(const product *p, const sp_sgemm *g) {
    const bool turned = g->transpose_b;
    return (sp_panels_linear){.b = {g->b, g->K, g->N, turned ? 1 : g->ldb, turned ? g->ldb : 1},
                              .bias = p->bias,
                              .x = g->a,
                              .y = g->c,
                              .accumulate = g->accumulate};
}

static spar_status multiply_later(sp_backend *be, const product *p, int64_t T, spar_error *err) {
    spar_status status = SPAR_OK;
    rows_job j = {.g = p->g, .bias = p->bias};
    if (p->blocks != NULL) {
        SPAR_TRY(expand_whole(be, p->blocks, &j.g, err));
    }
    if (T >= SP_PANELS_LEAST && sp_panels_serve(be, p->g.N, p->g.K)) {
        const sp_panels_linear linear = with_panels(p, &j.g);
        return sp_panels_multiply(be, &linear, err);
    }
    sp_step s;
    sp_step_init(&s, sgemm_rows, &j, sizeof j);
    s.arrays[0].at = p->g.a;
    s.arrays[0].row = (size_t)p->g.lda * sizeof(float);
    s.arrays[1].at = p->g.c;
    s.arrays[1].row = (size_t)p->g.ldc * sizeof(float);
    sp_step_run(be, &s, T, T);
done:
    return status;
}

/* ---- the ops ---- */

static spar_status multiply(sp_backend *be, product *p, const char *what, spar_error *err) {
    return sp_chain_deferred(be) ? multiply_later(be, p, p->g.M, err)
                                 : run_product(be, p, what, err);
}

spar_status sp_tuned_linear(sp_backend *be, const sp_weight *w, const float *bias, const void *x,
                            int64_t T, float *y, bool accumulate, spar_error *err) {
    if (frozen_blocks(w) != NULL && sp_quant_multiplies_bf16(be) && !sp_chain_deferred(be)) {
        return sp_quant_linear_bf16(be, w, bias, x, T, y, accumulate, err);
    }
    if (has_primitives(be)) {
        const sp_packed_product p = {
            .w = w, .bias = bias, .x = x, .T = T, .y = y, .accumulate = accumulate};
        return sp_packed_multiply(be, &p, err);
    }
    const float *a = NULL;
    const spar_status status = sp_tuned_operand_f32(be, x, T * w->in, SP_SCRATCH_A, &a, err);
    if (status != SPAR_OK) {
        return status;
    }
    product p = {.g = {.transpose_b = true,
                       .accumulate = accumulate,
                       .M = T,
                       .N = w->out,
                       .K = w->in,
                       .lda = w->in,
                       .ldb = w->in,
                       .ldc = w->out,
                       .a = a,
                       .b = sp_tuned_weight_values(w),
                       .c = y},
                 .bias = bias,
                 .blocks = frozen_blocks(w)};
    return multiply(be, &p, "linear", err);
}

spar_status sp_tuned_linear_dx(sp_backend *be, const sp_weight *w, const void *dy, int64_t T,
                               float *dx, bool accumulate, spar_error *err) {
    if (has_primitives(be)) {
        const sp_packed_product p = {
            .w = w, .side = SP_SIDE_BACKWARD, .x = dy, .T = T, .y = dx, .accumulate = accumulate};
        return sp_packed_multiply(be, &p, err);
    }
    const float *a = NULL;
    const spar_status status = sp_tuned_operand_f32(be, dy, T * w->out, SP_SCRATCH_A, &a, err);
    if (status != SPAR_OK) {
        return status;
    }
    product p = {.g = {.accumulate = accumulate,
                       .M = T,
                       .N = w->in,
                       .K = w->out,
                       .lda = w->out,
                       .ldb = w->in,
                       .ldc = w->in,
                       .a = a,
                       .b = sp_tuned_weight_values(w),
                       .c = dx},
                 .blocks = frozen_blocks(w)};
    return multiply(be, &p, "linear_dx", err);
}

static void add_column_sums(const float *dy, int64_t T, int64_t out, float *dbias) {
    for (int64_t t = 0; t < T; t++) {
        for (int64_t o = 0; o < out; o++) {
            dbias[o] += dy[t * out + o];
        }
    }
}

static spar_status sgemm_dw(sp_backend *be, int64_t out, int64_t in, const void *dy, const void *x,
                            int64_t T, float *dw, bool accumulate, spar_error *err) {
    spar_status status = SPAR_OK;
    const float *a = NULL, *b = NULL;
    SPAR_TRY(sp_tuned_operand_f32(be, dy, T * out, SP_SCRATCH_A, &a, err));
    SPAR_TRY(sp_tuned_operand_f32(be, x, T * in, SP_SCRATCH_B, &b, err));
    product p = {.g = {.transpose_a = true,
                       .accumulate = accumulate,
                       .M = out,
                       .N = in,
                       .K = T,
                       .lda = out,
                       .ldb = in,
                       .ldc = in,
                       .a = a,
                       .b = b,
                       .c = dw}};
    SPAR_TRY(run_product(be, &p, "linear_dw", err));
done:
    return status;
}

typedef struct weight_gradient {
    int64_t out, in, T;
    const void *dy, *x;
    float *dw, *dbias;
    bool accumulate;
} weight_gradient;

static spar_status weight_gradient_now(sp_backend *be, const void *job, spar_error *err) {
    const weight_gradient *g = job;
    return sgemm_dw(be, g->out, g->in, g->dy, g->x, g->T, g->dw, g->accumulate, err);
}

static spar_status bias_gradient_now(sp_backend *be, const void *job, spar_error *err) {
    const weight_gradient *g = job;
    const float *values = NULL;
    const spar_status status =
        sp_tuned_operand_f32(be, g->dy, g->T * g->out, SP_SCRATCH_A, &values, err);
    if (status == SPAR_OK) {
        add_column_sums(values, g->T, g->out, g->dbias);
    }
    return status;
}

spar_status sp_tuned_linear_dw(sp_backend *be, int64_t out, int64_t in, const void *dy,
                               const void *x, int64_t T, float *dw, bool accumulate, float *dbias,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    const weight_gradient g = {.out = out,
                               .in = in,
                               .T = T,
                               .dy = dy,
                               .x = x,
                               .dw = dw,
                               .dbias = dbias,
                               .accumulate = accumulate};
    if (T == 0 && !accumulate) {
        memset(dw, 0, (size_t)(out * in) * sizeof *dw);
    }
    if (T == 0) {
        return SPAR_OK;
    }
    if (has_primitives(be)) {
        SPAR_TRY(sp_packed_linear_dw(be, out, in, dy, x, T, dw, accumulate, err));
    } else if (sp_panels_serve(be, out, in)) {
        SPAR_TRY(sp_panels_linear_dw(be, out, in, dy, x, T, dw, accumulate, err));
    } else {
        SPAR_TRY(sp_chain_after(be, weight_gradient_now, &g, sizeof g, err));
    }
    if (dbias != NULL) {
        SPAR_TRY(sp_chain_after(be, bias_gradient_now, &g, sizeof g, err));
    }
done:
    return status;
}
