/* The vocabulary projection with its log-softmax: logits exist for one block of rows and one chunk
 * of the vocabulary at a time. */
#include <math.h>
#include <string.h>

#include "backend/cpu/fused_head.h"
#include "backend/cpu/panels.h"
#include "backend/cpu/quant.h"
#include "backend/cpu/sizes.h"

enum {
    CHUNKS_ENOUGH = 32, /* from which a task has a chunk with all rows */
    GROUPS_MIN = 8,     /* partial sums of dh, each of a fixed run of chunks */
    GROUPS_MAX = 32,
    PARTIAL_BYTES = 32 << 20 /* what all partial sums may take before GROUPS_MIN is kept */
};

static sp_head_cell cell_at(const sp_head *x, int64_t chunk, int64_t row_block, int worker) {
    sp_head_cell at = {.r0 = row_block * SP_HEAD_ROWS, .v0 = chunk * x->chunk, .worker = worker};
    at.rows = sp_min64(SP_HEAD_ROWS, x->R - at.r0);
    at.n = sp_min64(x->chunk, x->w.out - at.v0);
    at.stride = x->operand_h == NULL ? SP_HEAD_STRIDE : at.n;
    at.logits = x->logits + (int64_t)worker * (SP_HEAD_ROWS + 1) * SP_HEAD_STRIDE;
    at.last_rows = row_block == x->row_blocks - 1;
    at.last_chunk = chunk == x->chunks - 1;
    return at;
}

static void multiply(sp_head *x, const sp_sgemm *g) {
    sp_onednn_single();
    const int code = sp_onednn_sgemm(g);
    if (code != 0) {
        atomic_store(&x->status, code);
    }
}

int64_t sp_head_chunk_weights(sp_head *x, const sp_head_cell *at, const float **values,
                              bool *by_rows) {
    const int64_t H = x->w.in;
    *by_rows = x->values != NULL;
    if (x->values != NULL) {
        *values = x->values + at->v0 * H;
        return H;
    }
    float *tile = x->tiles + (int64_t)at->worker * H * SP_HEAD_CHUNK;
    if (x->tile_at[at->worker] != at->v0) {
        sp_quant_tile(x->be, x->w.blocks, at->v0, at->n, 0, H, tile);
        x->tile_at[at->worker] = at->v0;
    }
    *values = tile;
    return sp_quant_stride(at->n);
}

static void sgemm_logits(sp_head *x, const sp_head_cell *at) {
    const int64_t H = x->w.in;
    sp_sgemm g = {.M = at->rows,
                  .N = at->n,
                  .K = H,
                  .lda = H,
                  .ldc = at->stride,
                  .a = x->h + at->r0 * H,
                  .c = at->logits};
    g.ldb = sp_head_chunk_weights(x, at, &g.b, &g.transpose_b);
    multiply(x, &g);
}

static void sgemm_dh(sp_head *x, const sp_head_cell *at, float *partial) {
    const int64_t H = x->w.in;
    bool by_rows;
    sp_sgemm g = {.accumulate = true,
                  .M = at->rows,
                  .N = H,
                  .K = at->n,
                  .lda = at->stride,
                  .ldc = H,
                  .a = at->logits,
                  .c = partial + at->r0 * H};
    g.ldb = sp_head_chunk_weights(x, at, &g.b, &by_rows);
    g.transpose_b = !by_rows;
    multiply(x, &g);
}

static void sgemm_dw(sp_head *x, const sp_head_cell *at) {
    const int64_t H = x->w.in;
    const sp_sgemm g = {.transpose_a = true,
                        .accumulate = x->accumulate || at->r0 > 0,
                        .M = at->n,
                        .N = H,
                        .K = at->rows,
                        .lda = at->stride,
                        .ldb = H,
                        .ldc = H,
                        .a = at->logits,
                        .b = x->h + at->r0 * H,
                        .c = x->dw + at->v0 * H};
    multiply(x, &g);
}

static bool has_target(const sp_head *x, const sp_head_cell *at, int64_t r) {
    return x->target[r] >= at->v0 && x->target[r] < at->v0 + at->n;
}

static bool is_formed(const sp_head *x) {
    return x->form.scale != 1 || x->form.cap > 0;
}

/* The logits of a cell, as they count. */
static void make_logits(sp_head *x, const sp_head_cell *at) {
    x->products->logits(x, at);
    for (int64_t i = 0; x->form.bias != NULL && i < at->rows; i++) {
        x->simd->add(x->form.bias + at->v0, at->n, at->logits + i * at->stride);
    }
    for (int64_t i = 0; is_formed(x) && i < at->rows; i++) {
        x->simd->form_logits(&x->form, at->n, at->logits + i * at->stride);
    }
}

static void cell_stats(sp_head *x, const sp_head_cell *at, int64_t chunk) {
    make_logits(x, at);
    for (int64_t i = 0; i < at->rows; i++) {
        const int64_t r = at->r0 + i, to = chunk * x->R + r;
        x->simd->logits_stats(at->logits + i * at->stride, at->n, &x->max[to], &x->sum[to]);
        if (has_target(x, at, r)) {
            x->logp[r] = at->logits[i * at->stride + x->target[r] - at->v0];
        }
    }
}

/* Blocks of rows in a task: all, so that one worker makes a chunk's weights, where there are chunks
 * enough. */
static int64_t task_blocks(const sp_head *x) {
    return x->chunks < CHUNKS_ENOUGH ? 1 : x->row_blocks;
}

static void stats_task(void *context, int task, int worker) {
    sp_head *x = context;
    const int64_t blocks = task_blocks(x), parts = x->row_blocks / blocks;
    const int64_t chunk = task / parts, first = task % parts * blocks;
    for (int64_t block = first; block < first + blocks; block++) {
        const sp_head_cell at = cell_at(x, chunk, block, worker);
        cell_stats(x, &at, chunk);
    }
}

/* logp holds the target's logit; the chunks are joined in their order. */
static void join_task(void *context, int task, int worker) {
    (void)worker;
    const sp_head *x = context;
    const int64_t end = sp_min64(x->R, (task + 1) * (int64_t)SP_HEAD_ROWS);
    for (int64_t r = task * (int64_t)SP_HEAD_ROWS; r < end; r++) {
        float max = -INFINITY;
        for (int64_t k = 0; k < x->chunks; k++) {
            max = fmaxf(max, x->max[k * x->R + r]);
        }
        double sum = 0;
        for (int64_t k = 0; k < x->chunks; k++) {
            sum += (double)x->sum[k * x->R + r] * exp((double)(x->max[k * x->R + r] - max));
        }
        const double total = (double)max + log(sum);
        x->lse[r] = (float)total;
        x->logp[r] = (float)((double)x->logp[r] - total);
    }
}

/* Room for a chunk of floats a worker, and which one it holds. */
static spar_status make_tiles(sp_head *x, spar_error *err) {
    void *tiles = NULL;
    const size_t workers = (size_t)sp_pool_threads(x->be->pool);
    const size_t floats = (size_t)x->w.in * SP_HEAD_CHUNK * sizeof(float);
    const spar_status status =
        sp_tuned_scratch(x->be, SP_SCRATCH_B, workers, floats + sizeof *x->tile_at, &tiles, err);
    if (status == SPAR_OK) {
        x->tiles = tiles;
        x->tile_at = (int64_t *)(void *)((char *)tiles + workers * floats);
        for (size_t i = 0; i < workers; i++) {
            x->tile_at[i] = -1;
        }
    }
    return status;
}

static spar_status sgemm_init(sp_head *x, const void *h, spar_error *err) {
    static const sp_head_products products = {sgemm_logits, sgemm_dh, sgemm_dw};
    x->products = &products;
    x->values = sp_tuned_weight_values(&x->w);
    if (x->values == NULL) {
        const spar_status status = make_tiles(x, err);
        if (status != SPAR_OK) {
            return status;
        }
    }
    x->chunk = SP_HEAD_CHUNK;
    x->chunks = (x->w.out + SP_HEAD_CHUNK - 1) / SP_HEAD_CHUNK;
    x->partial_rows = x->R;
    return sp_tuned_operand_f32(x->be, h, x->R * x->w.in, SP_SCRATCH_A, &x->h, err);
}

static spar_status head_init(sp_head *x, sp_backend *be, const sp_weight *w, const void *h,
                             bool backward, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_tuned *tuned = be->state;
    void *logits = NULL;
    x->be = be;
    x->simd = &tuned->simd;
    x->w = *w;
    x->row_blocks = (x->R + SP_HEAD_ROWS - 1) / SP_HEAD_ROWS;
    atomic_init(&x->status, 0);
    if (tuned->dnn != NULL) {
        SPAR_TRY(sp_packed_head_init(x, h, backward, err));
    } else {
        SPAR_TRY(sgemm_init(x, h, err));
        if (x->R >= SP_HEAD_ROWS && sp_panels_serve(be, w->out, w->in)) {
            SPAR_TRY(sp_panels_head_init(x, backward, err));
        }
    }
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(be->pool),
                              (SP_HEAD_ROWS + 1) * SP_HEAD_STRIDE * sizeof(float), &logits, err));
    x->logits = logits;
done:
    return status;
}

spar_status sp_tuned_head_logp(sp_backend *be, const sp_weight *w, const sp_logit_form *form,
                               const void *h, const int32_t *target, int64_t R, float *logp,
                               float *lse, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_head x = {.form = *form, .target = target, .R = R, .logp = logp, .lse = lse};
    void *stats = NULL;
    if (R == 0) {
        return SPAR_OK;
    }
    SPAR_TRY(head_init(&x, be, w, h, false, err));
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_STATS, (size_t)(2 * x.chunks * R), sizeof(float),
                              &stats, err));
    x.max = stats;
    x.sum = x.max + x.chunks * R;
    sp_pool_run(be->pool, (int)(x.chunks * (x.row_blocks / task_blocks(&x))), stats_task, &x);
    SPAR_TRY(sp_onednn_check(atomic_load(&x.status), "head_logp", err));
    sp_pool_run(be->pool, (int)x.row_blocks, join_task, &x);
done:
    return status;
}

/* d logp / d logit_j = [j = target] - p_j, times c and the derivative of the logits' form. */
static void make_gradient(sp_head *x, const sp_head_cell *at) {
    float *kept = at->logits + (int64_t)SP_HEAD_ROWS * SP_HEAD_STRIDE;
    for (int64_t i = 0; i < at->rows; i++) {
        const int64_t r = at->r0 + i;
        float *row = at->logits + i * at->stride;
        if (is_formed(x)) {
            memcpy(kept, row, (size_t)at->n * sizeof *kept);
        }
        x->simd->logits_grad(row, at->n, x->lse_in[r], x->c[r]);
        if (has_target(x, at, r)) {
            row[x->target[r] - at->v0] += x->c[r];
        }
        if (is_formed(x)) {
            x->simd->form_logits_bwd(&x->form, kept, at->n, row);
        }
        if (x->be->compute == SP_COMPUTE_BF16) {
            x->simd->round_bf16(row, at->n, row);
        }
        if (x->form.dbias != NULL) { /* the group's own, as its rows of dw */
            x->simd->add(row, at->n, x->form.dbias + at->v0);
        }
    }
}

/* A group owns its chunks' rows of dw and one partial sum of dh. */
static void gradient_task(void *context, int task, int worker) {
    sp_head *x = context;
    float *partial = x->partial + task * x->partial_rows * x->w.in;
    memset(partial, 0, (size_t)(x->partial_rows * x->w.in) * sizeof *partial);
    const int64_t first = task * x->chunks / x->groups, last = (task + 1) * x->chunks / x->groups;
    for (int64_t chunk = first; chunk < last; chunk++) {
        for (int64_t block = 0; block < x->row_blocks; block++) {
            const sp_head_cell at = cell_at(x, chunk, block, worker);
            make_logits(x, &at);
            make_gradient(x, &at);
            x->products->add_dh(x, &at, partial);
            if (x->dw != NULL) {
                x->products->add_dw(x, &at);
            }
        }
    }
}

static void sum_task(void *context, int task, int worker) {
    (void)worker;
    const sp_head *x = context;
    const int64_t at = (int64_t)task * SP_HEAD_ROWS * x->w.in;
    const int64_t n = sp_min64(SP_HEAD_ROWS, x->R - (int64_t)task * SP_HEAD_ROWS) * x->w.in;
    memcpy(x->dh + at, x->partial + at, (size_t)n * sizeof(float));
    for (int64_t group = 1; group < x->groups; group++) {
        x->simd->add(x->partial + group * x->partial_rows * x->w.in + at, n, x->dh + at);
    }
}

/* As many as there are chunks, within the limits. */
static int64_t count_groups(const sp_head *x) {
    const int64_t room = PARTIAL_BYTES / (int64_t)sizeof(float) / (x->R * x->w.in);
    const int64_t wanted = room < GROUPS_MIN ? GROUPS_MIN : sp_min64(room, GROUPS_MAX);
    return sp_min64(wanted, x->chunks);
}

spar_status sp_tuned_head_logp_bwd(sp_backend *be, const sp_weight *w, const sp_logit_form *form,
                                   const void *h, const int32_t *target, const float *lse,
                                   const float *c, int64_t R, float *dh, float *dw, bool accumulate,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    sp_head x = {.form = *form,
                 .target = target,
                 .lse_in = lse,
                 .c = c,
                 .R = R,
                 .dh = dh,
                 .dw = dw,
                 .accumulate = accumulate};
    void *partial = NULL;
    if (R == 0) {
        if (dw != NULL && !accumulate) {
            memset(dw, 0, (size_t)(w->out * w->in) * sizeof *dw);
        }
        return SPAR_OK;
    }
    SPAR_TRY(head_init(&x, be, w, h, true, err));
    x.groups = count_groups(&x);
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_PARTIAL, (size_t)(x.groups * x.partial_rows * w->in),
                              sizeof(float), &partial, err));
    x.partial = partial;
    sp_pool_run(be->pool, (int)x.groups, gradient_task, &x);
    SPAR_TRY(sp_onednn_check(atomic_load(&x.status), "head_logp_bwd", err));
    sp_pool_run(be->pool, (int)x.row_blocks, sum_task, &x);
done:
    return status;
}
