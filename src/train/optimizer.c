#include "train/optimizer.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { RANGE = 1 << 16 }; /* elements a task: 256 KiB of each array */

/* Loops compiled for wider vectors too, of which the loader picks one. Their results are the same
 * bits: no multiply-adds are fused and sums have lanes of their own. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) &&                 \
    !defined(__SANITIZE_THREAD__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDE
#endif

/* ---- the kinds: one vectorised loop each ---- */

/* The bits of x rounded to bf16, ties to even. */
static uint32_t bf16_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}

enum { ADAM_BETA1, ADAM_BETA2, ADAM_EPS, ADAM_DECAY };
static const sp_tunable adamw_params[] = {
    {"beta1", 0.9, 0.0, 0.999999, "decay of the mean of gradients"},
    {"beta2", 0.999, 0.0, 0.9999999, "decay of the mean of squared gradients"},
    {"eps", 1e-8, 1e-30, 1.0, "added to the root of the second moment"},
    {"weight_decay", 0.0, 0.0, 10.0, "decoupled decay, times the learning rate"},
    {0}};

enum { A_SCALE, A_STEP, A_DECAY, A_EPS, A_MIX1, A_KEEP2, A_MIX2, A_UNBIAS2 };

static void adamw_prepare(const double *params, int64_t step, double lr, double grad_scale,
                          float *c) {
    double bias1 = 1.0 - pow(params[ADAM_BETA1], (double)step);
    double bias2 = 1.0 - pow(params[ADAM_BETA2], (double)step);
    c[A_SCALE] = (float)grad_scale;
    c[A_STEP] = (float)(lr / bias1);
    c[A_DECAY] = (float)(lr * params[ADAM_DECAY]);
    c[A_EPS] = (float)params[ADAM_EPS];
    c[A_MIX1] = (float)(1.0 - params[ADAM_BETA1]);
    c[A_KEEP2] = (float)params[ADAM_BETA2];
    c[A_MIX2] = (float)(1.0 - params[ADAM_BETA2]);
    c[A_UNBIAS2] = (float)(1.0 / sqrt(bias2));
}

/* m += (1 - b1)(g - m); v = b2 v + (1 - b2) g^2;
 * w -= lr wd w + lr/(1 - b1^t) * m / (sqrt(v / (1 - b2^t)) + eps).
 * Decay and step are summed before the one subtraction: w * (1 - lr wd) alone would round to w at
 * the small rates of preference training. */
WIDE static void adamw_update(const sp_optimizer_span *span, const float *c,
                              sp_optimizer_stats *stats) {
    float *restrict w = span->weights, *restrict m = span->state[0], *restrict v = span->state[1];
    const float *restrict grads = span->grads;
    const float scale = c[A_SCALE], step = c[A_STEP], decay = span->decay ? c[A_DECAY] : 0.0f,
                eps = c[A_EPS], mix1 = c[A_MIX1], keep2 = c[A_KEEP2], mix2 = c[A_MIX2],
                unbias2 = c[A_UNBIAS2];
    int32_t f32 = 0, bf16 = 0, n = (int32_t)span->n;
    for (int32_t i = 0; i < n; i++) {
        float g = grads[i] * scale, old = w[i];
        float mean = m[i] + mix1 * (g - m[i]);
        float square = keep2 * v[i] + mix2 * (g * g);
        float new = old - (step * mean / (sqrtf(square) * unbias2 + eps) + decay * old);
        m[i] = mean;
        v[i] = square;
        w[i] = new;
        f32 += new != old;
        bf16 += bf16_bits(new) != bf16_bits(old);
    }
    stats->changed_f32 += f32;
    stats->changed_bf16 += bf16;
}

enum { RMS_ALPHA, RMS_EPS, RMS_DECAY };
static const sp_tunable rmsprop_params[] = {
    {"alpha", 0.99, 0.0, 0.9999999, "decay of the mean of squared gradients"},
    {"eps", 1e-8, 1e-30, 1.0, "added to the root of that mean"},
    {"weight_decay", 0.0, 0.0, 10.0, "L2 term, added to the gradient"},
    {0}};

enum { R_SCALE, R_LR, R_DECAY, R_EPS, R_KEEP, R_MIX };

static void rmsprop_prepare(const double *params, int64_t step, double lr, double grad_scale,
                            float *c) {
    (void)step; /* no bias correction in this method */
    c[R_SCALE] = (float)grad_scale;
    c[R_LR] = (float)lr;
    c[R_DECAY] = (float)params[RMS_DECAY];
    c[R_EPS] = (float)params[RMS_EPS];
    c[R_KEEP] = (float)params[RMS_ALPHA];
    c[R_MIX] = (float)(1.0 - params[RMS_ALPHA]);
}

/* v = a v + (1 - a) g^2; w -= lr g / (sqrt(v) + eps), g including the L2 term. */
WIDE static void rmsprop_update(const sp_optimizer_span *span, const float *c,
                                sp_optimizer_stats *stats) {
    float *restrict w = span->weights, *restrict v = span->state[0];
    const float *restrict grads = span->grads;
    const float scale = c[R_SCALE], lr = c[R_LR], decay = span->decay ? c[R_DECAY] : 0.0f,
                eps = c[R_EPS], keep = c[R_KEEP], mix = c[R_MIX];
    int32_t f32 = 0, bf16 = 0, n = (int32_t)span->n;
    for (int32_t i = 0; i < n; i++) {
        float old = w[i], g = grads[i] * scale + decay * old;
        float square = keep * v[i] + mix * (g * g);
        float new = old - lr *(g / (sqrtf(square) + eps));
        v[i] = square;
        w[i] = new;
        f32 += new != old;
        bf16 += bf16_bits(new) != bf16_bits(old);
    }
    stats->changed_f32 += f32;
    stats->changed_bf16 += bf16;
}

static const sp_optimizer_kind kinds[] = {
    {.name = "adamw",
     .citation = "AdamW: Loshchilov and Hutter 2017, arXiv 1711.05101, algorithm 2",
     .n_state = 2,
     .state_names = {"exp_avg", "exp_avg_sq"},
     .params = adamw_params,
     .prepare = adamw_prepare,
     .update = adamw_update},
    {.name = "rmsprop",
     .citation = "RMSProp: Tieleman and Hinton 2012, lecture 6.5; eps outside the root, as torch",
     .n_state = 1,
     .state_names = {"square_avg"},
     .params = rmsprop_params,
     .prepare = rmsprop_prepare,
     .update = rmsprop_update},
};

int sp_optimizer_kind_count(void) {
    return (int)(sizeof kinds / sizeof kinds[0]);
}

const sp_optimizer_kind *sp_optimizer_kind_at(int i) {
    return &kinds[i];
}

static const char *kind_name_at(int i) {
    return kinds[i].name;
}

spar_status sp_optimizer_find(const char *name, const sp_optimizer_kind **out, spar_error *err) {
    for (int i = 0; i < sp_optimizer_kind_count(); i++) {
        if (!strcmp(kinds[i].name, name)) {
            *out = &kinds[i];
            return SPAR_OK;
        }
    }
    return spar_fail(err, SPAR_INVALID, "unknown optimiser '%s'; the nearest is '%s'", name,
                     sp_tunable_nearest(kind_name_at, sp_optimizer_kind_count(), name));
}

/* ---- creation ---- */

struct sp_optimizer {
    const sp_optimizer_kind *kind;
    double params[SP_OPTIMIZER_MAX_PARAMS];
    int64_t n, steps;
    sp_optimizer_segment *segments; /* owned */
    int64_t n_segments;
    float *state[SP_OPTIMIZER_MAX_STATE]; /* owned, n elements each */
};

static void run(sp_pool *pool, int n_tasks, sp_pool_fn fn, void *context) {
    if (pool) {
        sp_pool_run(pool, n_tasks, fn, context);
        return;
    }
    for (int task = 0; task < n_tasks; task++) {
        fn(context, task, 0);
    }
}

static int range_count(int64_t n) {
    return (int)((n + RANGE - 1) / RANGE);
}

static int64_t min_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t max_i64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void clear_range(void *context, int task, int worker) {
    (void)worker;
    sp_optimizer *o = context;
    int64_t begin = (int64_t)task * RANGE, n = min_i64(RANGE, o->n - begin);
    for (int i = 0; i < o->kind->n_state; i++) {
        memset(o->state[i] + begin, 0, (size_t)n * sizeof(float));
    }
}

static spar_status copy_segments(sp_optimizer *o, const sp_optimizer_segment *segments, int64_t n,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_optimizer_segment whole = {0, o->n, true};
    void *copy = NULL;
    int64_t end = 0;
    for (int64_t i = 0; i < n; i++) {
        const sp_optimizer_segment *s = &segments[i];
        if (s->begin < end || s->end < s->begin || s->end > o->n) {
            return spar_fail(err, SPAR_INVALID,
                             "optimiser: segment %lld: expected a range after %lld within %lld "
                             "weights, found %lld to %lld",
                             (long long)i, (long long)end, (long long)o->n, (long long)s->begin,
                             (long long)s->end);
        }
        end = s->end;
    }
    o->n_segments = n ? n : 1;
    SPAR_TRY(sp_mem_calloc(&copy, (size_t)o->n_segments, sizeof whole, err));
    o->segments = copy;
    memcpy(o->segments, n ? segments : &whole, (size_t)o->n_segments * sizeof whole);
done:
    return status;
}

static spar_status init(sp_optimizer *o, const double *params, const sp_optimizer_segment *segments,
                        int64_t n_segments, sp_pool *pool, spar_error *err) {
    spar_status status = SPAR_OK;
    if (params) {
        memcpy(o->params, params, (size_t)sp_tunable_count(o->kind->params) * sizeof *params);
    } else {
        sp_tunable_defaults(o->kind->params, o->params);
    }
    SPAR_TRY(sp_tunable_check(o->kind->params, o->params, o->kind->name, err));
    SPAR_TRY(copy_segments(o, segments, n_segments, err));
    for (int i = 0; i < o->kind->n_state; i++) {
        void *state = NULL;
        SPAR_TRY(sp_mem_aligned(&state, (size_t)o->n, sizeof(float), err));
        o->state[i] = state;
    }
    run(pool, range_count(o->n), clear_range, o);
done:
    return status;
}

spar_status sp_optimizer_create(sp_optimizer **out, const sp_optimizer_kind *kind,
                                const double *params, int64_t n,
                                const sp_optimizer_segment *segments, int64_t n_segments,
                                sp_pool *pool, spar_error *err) {
    spar_status status = SPAR_OK;
    void *made = NULL;
    *out = NULL;
    if (n < 1 || n > (int64_t)INT32_MAX * RANGE) {
        return spar_fail(err, SPAR_INVALID, "optimiser: cannot hold %lld weights", (long long)n);
    }
    SPAR_TRY(sp_mem_calloc(&made, 1, sizeof(sp_optimizer), err));
    sp_optimizer *o = made;
    o->kind = kind;
    o->n = n;
    SPAR_TRY(init(o, params, segments, n_segments, pool, err));
    *out = o;
    made = NULL;
done:
    sp_optimizer_free(made);
    return status;
}

void sp_optimizer_free(sp_optimizer *o) {
    if (!o) {
        return;
    }
    for (int i = 0; i < SP_OPTIMIZER_MAX_STATE; i++) {
        free(o->state[i]);
    }
    free(o->segments);
    free(o);
}

/* ---- a step ---- */

typedef struct step_job {
    const sp_optimizer *o;
    float *weights;
    const float *grads;
    float coefficients[SP_OPTIMIZER_MAX_COEFFICIENTS];
    /* Whole numbers: their sum does not depend on the order in which tasks end. */
    _Atomic int64_t n, changed_f32, changed_bf16;
} step_job;

static sp_optimizer_span span_of(const step_job *job, int64_t begin, int64_t end, bool decay) {
    sp_optimizer_span span = {.weights = job->weights + begin,
                              .grads = job->grads + begin,
                              .n = end - begin,
                              .decay = decay};
    for (int i = 0; i < job->o->kind->n_state; i++) {
        span.state[i] = job->o->state[i] + begin;
    }
    return span;
}

/* The first segment that ends after position. */
static int64_t first_segment(const sp_optimizer *o, int64_t position) {
    int64_t low = 0, high = o->n_segments;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (o->segments[middle].end > position) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static void step_range(void *context, int task, int worker) {
    (void)worker;
    step_job *job = context;
    const sp_optimizer *o = job->o;
    sp_optimizer_stats stats = {0};
    int64_t range_begin = (int64_t)task * RANGE, range_end = min_i64(range_begin + RANGE, o->n);
    for (int64_t i = first_segment(o, range_begin); i < o->n_segments; i++) {
        const sp_optimizer_segment *s = &o->segments[i];
        int64_t begin = max_i64(s->begin, range_begin), end = min_i64(s->end, range_end);
        if (begin >= range_end) {
            break;
        }
        if (begin < end) {
            sp_optimizer_span span = span_of(job, begin, end, s->decay);
            o->kind->update(&span, job->coefficients, &stats);
            stats.n += end - begin;
        }
    }
    atomic_fetch_add_explicit(&job->n, stats.n, memory_order_relaxed);
    atomic_fetch_add_explicit(&job->changed_f32, stats.changed_f32, memory_order_relaxed);
    atomic_fetch_add_explicit(&job->changed_bf16, stats.changed_bf16, memory_order_relaxed);
}

void sp_optimizer_step(sp_optimizer *o, float *weights, const float *grads, double lr,
                       double grad_scale, sp_pool *pool, sp_optimizer_stats *stats) {
    step_job job = {.o = o, .weights = weights, .grads = grads};
    o->steps++;
    o->kind->prepare(o->params, o->steps, lr, grad_scale, job.coefficients);
    run(pool, range_count(o->n), step_range, &job);
    if (stats) {
        *stats = (sp_optimizer_stats){
            .n = job.n, .changed_f32 = job.changed_f32, .changed_bf16 = job.changed_bf16};
    }
}

const sp_optimizer_kind *sp_optimizer_kind_of(const sp_optimizer *o) {
    return o->kind;
}

int sp_optimizer_state_count(const sp_optimizer *o) {
    return o->kind->n_state;
}

const char *sp_optimizer_state_name(const sp_optimizer *o, int i) {
    return o->kind->state_names[i];
}

float *sp_optimizer_state(sp_optimizer *o, int i) {
    return o->state[i];
}

int64_t sp_optimizer_size(const sp_optimizer *o) {
    return o->n;
}

int64_t sp_optimizer_steps(const sp_optimizer *o) {
    return o->steps;
}

void sp_optimizer_set_steps(sp_optimizer *o, int64_t steps) {
    o->steps = steps;
}

/* ---- gradient norm ---- */

enum { NORM_PARTS = 1024, NORM_LANES = 8 };

typedef struct norm_job {
    const float *grads;
    int64_t n, part; /* elements in all, and of each part but the last */
    double sums[NORM_PARTS];
} norm_job;

/* Eight running sums written out, so that the order is that of the source at any vector width. */
WIDE static double square_sum(const float *x, int64_t n) {
    double lanes[NORM_LANES] = {0};
    int64_t whole = n - n % NORM_LANES;
    for (int64_t i = 0; i < whole; i += NORM_LANES) {
        for (int k = 0; k < NORM_LANES; k++) {
            double value = (double)x[i + k];
            lanes[k] += value * value;
        }
    }
    for (int64_t i = whole; i < n; i++) {
        lanes[i - whole] += (double)x[i] * (double)x[i];
    }
    return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
           ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

static void norm_part(void *context, int task, int worker) {
    (void)worker;
    norm_job *job = context;
    int64_t begin = (int64_t)task * job->part, end = min_i64(begin + job->part, job->n);
    job->sums[task] = square_sum(job->grads + begin, end - begin);
}

double sp_grad_norm(const float *grads, int64_t n, sp_pool *pool) {
    norm_job job = {.grads = grads, .n = n};
    int64_t ranges = (n + RANGE - 1) / RANGE;
    job.part = RANGE * max_i64(1, (ranges + NORM_PARTS - 1) / NORM_PARTS);
    int parts = (int)((n + job.part - 1) / job.part);
    run(pool, parts, norm_part, &job);
    double sum = 0.0;
    for (int i = 0; i < parts; i++) {
        sum += job.sums[i];
    }
    return sqrt(sum);
}

double sp_grad_clip(double norm, double max_norm) {
    return max_norm > 0.0 ? fmin(1.0, max_norm / (norm + 1e-6)) : 1.0;
}
