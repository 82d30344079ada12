/* The vocabulary projection with its log-softmax: logits exist for one block of rows and one chunk
 * of the vocabulary at a time. */
#include <math.h>
#include <string.h>

#include "backend/cpu/onednn.h"
#include "backend/cpu/tuned.h"

/* Blocks are cut by these alone. A row of logits is padded apart from a power of two, which would
 * crowd a few sets of the cache. */
enum {
    CHUNK = 512, /* of the vocabulary */
    ROWS = 128,  /* of h */
    STRIDE = CHUNK + 16,
    GROUPS_MIN = 8, /* partial sums of dh, each of a fixed run of chunks */
    GROUPS_MAX = 32,
    PARTIAL_BYTES = 32 << 20 /* what all partial sums may take before GROUPS_MIN is kept */
};

typedef struct head {
    const sp_simd *simd;
    sp_weight w; /* sizes */
    const float *values, *h;
    const int32_t *target;
    const float *lse_in, *c;
    int64_t R, chunks, row_blocks, groups;
    float *max, *sum; /* [chunks, R] */
    float *logp, *lse, *dw, *dh;
    float *partial; /* [groups, R, H] */
    float *logits;  /* [workers, ROWS, STRIDE] */
    bool bf16;
    atomic_int status;
} head;

/* Rows r0 .. r0 + rows - 1 meet entries v0 .. v0 + n - 1. */
typedef struct cell {
    int64_t r0, rows, v0, n;
    float *logits;
} cell;

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static cell cell_at(const head *x, int64_t chunk, int64_t row_block, int worker) {
    cell at = {.r0 = row_block * ROWS, .v0 = chunk * CHUNK};
    at.rows = min64(ROWS, x->R - at.r0);
    at.n = min64(CHUNK, x->w.out - at.v0);
    at.logits = x->logits + (int64_t)worker * ROWS * STRIDE;
    return at;
}

static void multiply(head *x, const sp_sgemm *g) {
    sp_onednn_single();
    const int code = sp_onednn_sgemm(g);
    if (code != 0) {
        atomic_store(&x->status, code);
    }
}

static void make_logits(head *x, const cell *at) {
    const int64_t H = x->w.in;
    const sp_sgemm g = {.transpose_b = true,
                        .M = at->rows,
                        .N = at->n,
                        .K = H,
                        .lda = H,
                        .ldb = H,
                        .ldc = STRIDE,
                        .a = x->h + at->r0 * H,
                        .b = x->values + at->v0 * H,
                        .c = at->logits};
    multiply(x, &g);
}

static bool has_target(const head *x, const cell *at, int64_t r) {
    return x->target[r] >= at->v0 && x->target[r] < at->v0 + at->n;
}

static void stats_task(void *context, int task, int worker) {
    head *x = context;
    const int64_t chunk = task / x->row_blocks;
    const cell at = cell_at(x, chunk, task % x->row_blocks, worker);
    make_logits(x, &at);
    for (int64_t i = 0; i < at.rows; i++) {
        const int64_t r = at.r0 + i, to = chunk * x->R + r;
        x->simd->logits_stats(at.logits + i * STRIDE, at.n, &x->max[to], &x->sum[to]);
        if (has_target(x, &at, r)) {
            x->logp[r] = at.logits[i * STRIDE + x->target[r] - at.v0];
        }
    }
}

/* logp holds the target's logit; the chunks are joined in their order. */
static void join_task(void *context, int task, int worker) {
    (void)worker;
    const head *x = context;
    const int64_t end = min64(x->R, (task + 1) * (int64_t)ROWS);
    for (int64_t r = task * (int64_t)ROWS; r < end; r++) {
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

static spar_status head_init(head *x, sp_backend *be, const sp_weight *w, const void *h,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    void *logits = NULL;
    x->simd = &((const sp_tuned *)be->state)->simd;
    x->w = *w;
    x->values = sp_tuned_weight_values(w);
    x->bf16 = be->compute == SP_COMPUTE_BF16;
    x->chunks = (w->out + CHUNK - 1) / CHUNK;
    x->row_blocks = (x->R + ROWS - 1) / ROWS;
    atomic_init(&x->status, 0);
    SPAR_TRY(sp_tuned_operand_f32(be, h, x->R * w->in, SP_SCRATCH_A, &x->h, err));
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(be->pool),
                              ROWS * STRIDE * sizeof(float), &logits, err));
    x->logits = logits;
done:
    return status;
}

spar_status sp_tuned_head_logp(sp_backend *be, const sp_weight *w, const void *h,
                               const int32_t *target, int64_t R, float *logp, float *lse,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    head x = {.target = target, .R = R, .logp = logp, .lse = lse};
    void *stats = NULL;
    if (R == 0) {
        return SPAR_OK;
    }
    SPAR_TRY(head_init(&x, be, w, h, err));
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_STATS, (size_t)(2 * x.chunks * R), sizeof(float),
                              &stats, err));
    x.max = stats;
    x.sum = x.max + x.chunks * R;
    sp_pool_run(be->pool, (int)(x.chunks * x.row_blocks), stats_task, &x);
    SPAR_TRY(sp_onednn_check(atomic_load(&x.status), "head_logp", err));
    sp_pool_run(be->pool, (int)x.row_blocks, join_task, &x);
done:
    return status;
}

/* d logp / d logit_j = [j = target] - p_j, times c. */
static void make_gradient(head *x, const cell *at) {
    for (int64_t i = 0; i < at->rows; i++) {
        const int64_t r = at->r0 + i;
        float *row = at->logits + i * STRIDE;
        x->simd->logits_grad(row, at->n, x->lse_in[r], x->c[r]);
        if (has_target(x, at, r)) {
            row[x->target[r] - at->v0] += x->c[r];
        }
        if (x->bf16) {
            x->simd->round_bf16(row, at->n, row);
        }
    }
}

static void add_dh(head *x, const cell *at, float *partial) {
    const int64_t H = x->w.in;
    const sp_sgemm g = {.accumulate = true,
                        .M = at->rows,
                        .N = H,
                        .K = at->n,
                        .lda = STRIDE,
                        .ldb = H,
                        .ldc = H,
                        .a = at->logits,
                        .b = x->values + at->v0 * H,
                        .c = partial + at->r0 * H};
    multiply(x, &g);
}

static void add_dw(head *x, const cell *at) {
    const int64_t H = x->w.in;
    const sp_sgemm g = {.transpose_a = true,
                        .accumulate = true,
                        .M = at->n,
                        .N = H,
                        .K = at->rows,
                        .lda = STRIDE,
                        .ldb = H,
                        .ldc = H,
                        .a = at->logits,
                        .b = x->h + at->r0 * H,
                        .c = x->dw + at->v0 * H};
    multiply(x, &g);
}

/* A group owns its chunks' rows of dw and one partial sum of dh. */
static void gradient_task(void *context, int task, int worker) {
    head *x = context;
    float *partial = x->partial + task * x->R * x->w.in;
    memset(partial, 0, (size_t)(x->R * x->w.in) * sizeof *partial);
    const int64_t first = task * x->chunks / x->groups, last = (task + 1) * x->chunks / x->groups;
    for (int64_t chunk = first; chunk < last; chunk++) {
        for (int64_t block = 0; block < x->row_blocks; block++) {
            const cell at = cell_at(x, chunk, block, worker);
            make_logits(x, &at);
            make_gradient(x, &at);
            add_dh(x, &at, partial);
            if (x->dw != NULL) {
                add_dw(x, &at);
            }
        }
    }
}

static void sum_task(void *context, int task, int worker) {
    (void)worker;
    const head *x = context;
    const int64_t at = (int64_t)task * ROWS * x->w.in;
    const int64_t n = min64(ROWS, x->R - (int64_t)task * ROWS) * x->w.in;
    memcpy(x->dh + at, x->partial + at, (size_t)n * sizeof(float));
    for (int64_t group = 1; group < x->groups; group++) {
        x->simd->add(x->partial + group * x->R * x->w.in + at, n, x->dh + at);
    }
}

/* As many as there are chunks, within the limits. */
static int64_t count_groups(const head *x) {
    const int64_t room = PARTIAL_BYTES / (int64_t)sizeof(float) / (x->R * x->w.in);
    const int64_t wanted = room < GROUPS_MIN ? GROUPS_MIN : min64(room, GROUPS_MAX);
    return min64(wanted, x->chunks);
}

spar_status sp_tuned_head_logp_bwd(sp_backend *be, const sp_weight *w, const void *h,
                                   const int32_t *target, const float *lse, const float *c,
                                   int64_t R, float *dh, float *dw, spar_error *err) {
    spar_status status = SPAR_OK;
    head x = {.target = target, .lse_in = lse, .c = c, .R = R, .dh = dh, .dw = dw};
    void *partial = NULL;
    if (R == 0) {
        return SPAR_OK;
    }
    SPAR_TRY(head_init(&x, be, w, h, err));
    x.groups = count_groups(&x);
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_PARTIAL, (size_t)(x.groups * R * w->in), sizeof(float),
                              &partial, err));
    x.partial = partial;
    sp_pool_run(be->pool, (int)x.groups, gradient_task, &x);
    SPAR_TRY(sp_onednn_check(atomic_load(&x.status), "head_logp_bwd", err));
    sp_pool_run(be->pool, (int)x.row_blocks, sum_task, &x);
done:
    return status;
}
