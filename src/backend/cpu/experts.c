#include "backend/cpu/experts.h"

#include <math.h>
#include <string.h>

#include "backend/cpu/operand.h"
#include "backend/cpu/sizes.h"

enum { ROWS = 32 }; /* of a task */

/* What the tasks of an operation read and write. */
typedef struct job {
    const sp_backend *be;
    const sp_routing *r;
    const float *in, *dprobs;
    const void *operand_in;
    const int32_t *rows;
    float *out, *dweight;
    void *operand;
    int64_t total, n; /* rows in all; entries of one */
    bool weighted, accumulate;
} job;

static void run(sp_backend *be, sp_pool_fn fn, job *j) {
    sp_pool_run(be->pool, (int)sp_ceil_div(j->total, ROWS), fn, j);
}

static int64_t end_of(const job *j, int task) {
    return sp_min64(j->total, ((int64_t)task + 1) * ROWS);
}

static void softmax(const float *x, int n, float *y) {
    double sum = 0;
    float max = x[0];
    for (int e = 1; e < n; e++) {
        max = x[e] > max ? x[e] : max;
    }
    for (int e = 0; e < n; e++) {
        sum += exp((double)x[e] - (double)max);
    }
    for (int e = 0; e < n; e++) {
        y[e] = (float)(exp((double)x[e] - (double)max) / sum);
    }
}

static void sigmoid(const float *x, int n, float *y) {
    for (int e = 0; e < n; e++) {
        y[e] = (float)(1.0 / (1.0 + exp(-(double)x[e])));
    }
}

/* dz_e = p_e (dp_e - sum_f dp_f p_f) */
static double softmax_slope(double p, double dp, double mean) {
    return p * (dp - mean);
}

/* dz_e = p_e (1 - p_e) dp_e */
static double sigmoid_slope(double p, double dp, double mean) {
    (void)mean;
    return p * (1.0 - p) * dp;
}

/* Kinds of routers: probabilities of logits, and back; mean: the sum of dp_f p_f. */
static const struct {
    void (*probs)(const float *x, int n, float *y);
    double (*slope)(double p, double dp, double mean);
} kinds[] = {
    [SP_ROUTER_SOFTMAX] = {softmax, softmax_slope}, [SP_ROUTER_SIGMOID] = {sigmoid, sigmoid_slope}};

static bool is_chosen(const int32_t *chosen, int n, int expert) {
    for (int j = 0; j < n; j++) {
        if (chosen[j] == expert) {
            return true;
        }
    }
    return false;
}

/* What experts are chosen by. */
static float worth(const sp_routing *r, const float *probs, int e) {
    return r->bias ? probs[e] + r->bias[e] : probs[e];
}

/* The sum of a group's two largest. */
static float group_worth(const sp_routing *r, const float *probs, int group) {
    const int size = r->experts / r->groups;
    float first = -INFINITY, second = -INFINITY;
    for (int e = group * size; e < (group + 1) * size; e++) {
        const float w = worth(r, probs, e);
        second = w > first ? first : w > second ? w : second;
        first = w > first ? w : first;
    }
    return first + second;
}

/* The groups in which experts are chosen: of equal ones the lower index. */
static void open_groups(const sp_routing *r, const float *probs, bool open[SP_MAX_GROUPS]) {
    float worths[SP_MAX_GROUPS];
    for (int g = 0; g < r->groups; g++) {
        worths[g] = group_worth(r, probs, g);
        open[g] = false;
    }
    for (int i = 0; i < r->open; i++) {
        int best = -1;
        for (int g = 0; g < r->groups; g++) {
            best = !open[g] && (best < 0 || worths[g] > worths[best]) ? g : best;
        }
        open[best] = true;
    }
}

/* k different experts, whatever the numbers are: one that is not a number is never preferred. */
static void choose(const sp_routing *r, const float *probs, int32_t *chosen) {
    bool open[SP_MAX_GROUPS];
    const int size = r->groups > 0 ? r->experts / r->groups : 0;
    if (r->groups > 0) {
        open_groups(r, probs, open);
    }
    for (int j = 0; j < r->top_k; j++) {
        int best = -1;
        for (int e = 0; e < r->experts; e++) {
            if ((size == 0 || open[e / size]) && !is_chosen(chosen, j, e) &&
                (best < 0 || worth(r, probs, e) > worth(r, probs, best))) {
                best = e;
            }
        }
        chosen[j] = best;
    }
}

static void route_task(void *context, int task, int worker) {
    const job *j = context;
    const sp_routing *r = j->r;
    (void)worker;
    for (int64_t t = (int64_t)task * ROWS; t < end_of(j, task); t++) {
        kinds[r->kind].probs(j->in + t * r->experts, r->experts, r->probs + t * r->experts);
        choose(r, r->probs + t * r->experts, r->chosen + t * r->top_k);
    }
}

/* What a token's weights are divided by; *by_sum: that it is their sum. */
static double divisor(const sp_routing *r, int64_t t, bool *by_sum) {
    double sum = 0;
    for (int i = 0; r->normalised && i < r->top_k; i++) {
        sum += (double)r->probs[t * r->experts + r->chosen[t * r->top_k + i]];
    }
    *by_sum = r->normalised && sum >= r->least;
    return *by_sum ? sum : r->normalised ? r->least : 1.0;
}

/* Rows by a counting sort: first[e] is, while the rows are given out, the next row of expert e. */
static void give_rows(const sp_routing *r, int64_t T) {
    int64_t *next = r->first;
    memset(next, 0, ((size_t)r->experts + 1) * sizeof *next);
    for (int64_t i = 0; i < T * r->top_k; i++) {
        next[r->chosen[i] + 1]++;
    }
    for (int e = 0; e < r->experts; e++) {
        next[e + 1] += next[e];
    }
    for (int64_t t = 0; t < T; t++) {
        bool by_sum;
        const double sum = divisor(r, t, &by_sum);
        for (int64_t i = t * r->top_k; i < (t + 1) * r->top_k; i++) {
            const int32_t e = r->chosen[i], row = (int32_t)next[e]++;
            r->row[i] = row;
            r->token[row] = (int32_t)t;
            r->weight[row] = (float)((double)r->scale * (double)r->probs[t * r->experts + e] / sum);
        }
    }
    /* Each has come to where the next one began. */
    memmove(next + 1, next, (size_t)r->experts * sizeof *next);
    next[0] = 0;
}

void sp_experts_route(sp_backend *be, const float *logits, int64_t T, const sp_routing *r) {
    job j = {.r = r, .in = logits, .total = T};
    run(be, route_task, &j);
    give_rows(r, T);
}

/* With p the probabilities, S the chosen ones, c the scale and s = sum of p over S: weight
 * w_i = c p_i/s, so dp_i = (c dw_i - sum_j dw_j w_j)/s; or, by a constant s, dp_i = c dw_i/s. Then
 * by the kind's slope. dp_e is 0 but for the chosen and the dprobs; what else the choice goes by
 * has no gradient. */
static void route_token_bwd(const job *j, int64_t t) {
    const sp_routing *r = j->r;
    const float *p = r->probs + t * r->experts;
    const int32_t *chosen = r->chosen + t * r->top_k, *row = r->row + t * r->top_k;
    bool by_sum;
    const double s = divisor(r, t, &by_sum), c = (double)r->scale;
    double shared = 0, mean = 0;
    for (int i = 0; by_sum && i < r->top_k; i++) {
        shared += (double)j->dweight[row[i]] * (double)r->weight[row[i]];
    }
    for (int i = 0; i < r->top_k; i++) {
        mean += (c * (double)j->dweight[row[i]] - shared) / s * (double)p[chosen[i]];
    }
    for (int e = 0; j->dprobs != NULL && e < r->experts; e++) {
        mean += (double)j->dprobs[e] * (double)p[e];
    }
    for (int e = 0; e < r->experts; e++) {
        double dp = j->dprobs != NULL ? (double)j->dprobs[e] : 0.0;
        for (int i = 0; i < r->top_k; i++) {
            dp += chosen[i] == e ? (c * (double)j->dweight[row[i]] - shared) / s : 0.0;
        }
        sp_operand_store(j->be, j->operand, t * r->experts + e,
                         (float)kinds[r->kind].slope((double)p[e], dp, mean));
    }
}

static void route_bwd_task(void *context, int task, int worker) {
    const job *j = context;
    (void)worker;
    for (int64_t t = (int64_t)task * ROWS; t < end_of(j, task); t++) {
        route_token_bwd(j, t);
    }
}

void sp_experts_route_bwd(sp_backend *be, const sp_routing *r, const float *dweight,
                          const float *dprobs, int64_t T, void *dlogits) {
    job j = {.be = be,
             .r = r,
             .dweight = (float *)(uintptr_t)dweight,
             .dprobs = dprobs,
             .total = T,
             .operand = dlogits};
    run(be, route_bwd_task, &j);
}

static void take_rows_task(void *context, int task, int worker) {
    const job *j = context;
    const size_t bytes = (size_t)j->n * j->be->operand_size;
    (void)worker;
    for (int64_t i = (int64_t)task * ROWS; i < end_of(j, task); i++) {
        memcpy((char *)j->operand + (size_t)i * bytes,
               (const char *)j->operand_in + (size_t)j->rows[i] * bytes, bytes);
    }
}

void sp_experts_take_rows(sp_backend *be, const void *x, const int32_t *rows, int64_t n_rows,
                          int64_t n, void *y) {
    job j = {.be = be, .operand_in = x, .rows = rows, .total = n_rows, .n = n, .operand = y};
    run(be, take_rows_task, &j);
}

static void mix_task(void *context, int task, int worker) {
    const job *j = context;
    const sp_routing *r = j->r;
    (void)worker;
    for (int64_t t = (int64_t)task * ROWS; t < end_of(j, task); t++) {
        float *y = j->out + t * j->n;
        if (!j->accumulate) {
            memset(y, 0, (size_t)j->n * sizeof *y);
        }
        for (int k = 0; k < r->top_k; k++) {
            const int64_t row = r->row[t * r->top_k + k];
            const float weight = j->weighted ? r->weight[row] : 1.0F;
            const float *x = j->in + row * j->n;
            for (int64_t i = 0; i < j->n; i++) {
                y[i] += weight * x[i];
            }
        }
    }
}

void sp_experts_mix(sp_backend *be, const sp_routing *r, const float *x, bool weighted, int64_t T,
                    int64_t n, float *y, bool accumulate) {
    job j = {.r = r,
             .in = x,
             .total = T,
             .n = n,
             .out = y,
             .weighted = weighted,
             .accumulate = accumulate};
    run(be, mix_task, &j);
}

static void weigh_bwd_task(void *context, int task, int worker) {
    const job *j = context;
    (void)worker;
    for (int64_t row = (int64_t)task * ROWS; row < end_of(j, task); row++) {
        float *dh = j->out + row * j->n;
        const float weight = j->r->weight[row];
        double dot = 0;
        for (int64_t i = 0; i < j->n; i++) {
            const float h = sp_operand_load(j->be, j->operand, row * j->n + i);
            dot += (double)dh[i] * (double)h;
            dh[i] *= weight;
            sp_operand_store(j->be, j->operand, row * j->n + i, h * weight);
        }
        j->dweight[row] = (float)dot;
    }
}

void sp_experts_weigh_bwd(sp_backend *be, const sp_routing *r, int64_t T, int64_t n, float *dh,
                          void *h, float *dweight) {
    job j = {.be = be,
             .r = r,
             .total = T * r->top_k,
             .n = n,
             .out = dh,
             .operand = h,
             .dweight = dweight};
    run(be, weigh_bwd_task, &j);
}
