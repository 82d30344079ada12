/* The operations of a mixture of experts: against plain loops in double written here, over pools of
 * several sizes, and the router's gradient against finite differences. */
#include "compare.h"

/* tokens, experts, chosen, entries of a row */
static const struct shape {
    int64_t T;
    int E, k;
    int64_t n;
} shapes[] = {{1, 1, 1, 1},    {1, 8, 2, 7},    {7, 3, 3, 33},  {65, 5, 2, 17},
              {33, 128, 8, 9}, {200, 6, 1, 64}, {3, 64, 2, 129}};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

typedef struct routed {
    sp_routing r;
    struct shape s;
} routed;

/* Kinds of routers: groups where the number of experts is even and there are 4 or more, and as many
 * of them open as the choice needs; corrected: the choice has a bias. */
static const struct kind {
    sp_router router;
    bool normalised, grouped, corrected;
    double least;
    float scale;
} kinds[] = {{SP_ROUTER_SOFTMAX, true, false, false, 0, 0.75F},
             {SP_ROUTER_SOFTMAX, false, false, false, 0, 1},
             {SP_ROUTER_SOFTMAX, true, false, true, 0.6, 1},
             {SP_ROUTER_SIGMOID, true, true, true, 0, 2.5F},
             {SP_ROUTER_SIGMOID, false, true, false, 0, 0.5F}};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

static const float corrections[128] = {0.3F, -0.2F, 0.1F, 0, 0.05F, -0.4F, 0.2F, 0.15F};

static routed routed_create(struct shape s, const struct kind *kind) {
    const size_t pairs = (size_t)(s.T * s.k);
    const int groups = kind->grouped && s.E % 2 == 0 && s.E >= 4 ? 2 : 0;
    return (routed){.s = s,
                    .r = {.kind = kind->router,
                          .experts = s.E,
                          .top_k = s.k,
                          .groups = s.k > s.E / 2 ? 0 : groups,
                          .open = 1,
                          .normalised = kind->normalised,
                          .least = kind->least,
                          .scale = kind->scale,
                          .bias = kind->corrected ? corrections : NULL,
                          .probs = array_zero(s.T * s.E),
                          .chosen = array_bytes(pairs * sizeof(int32_t)),
                          .row = array_bytes(pairs * sizeof(int32_t)),
                          .token = array_bytes(pairs * sizeof(int32_t)),
                          .weight = array_zero(s.T * s.k),
                          .first = array_bytes(((size_t)s.E + 1) * sizeof(int64_t))}};
}

static void routed_free(routed *x) {
    free(x->r.probs);
    free(x->r.chosen);
    free(x->r.row);
    free(x->r.token);
    free(x->r.weight);
    free(x->r.first);
}

static void assert_same_routing(const routed *a, const routed *b) {
    const size_t pairs = (size_t)(a->s.T * a->s.k);
    assert_same("probs", a->r.probs, b->r.probs, (size_t)(a->s.T * a->s.E) * sizeof(float));
    assert_same("chosen", a->r.chosen, b->r.chosen, pairs * sizeof(int32_t));
    assert_same("row", a->r.row, b->r.row, pairs * sizeof(int32_t));
    assert_same("token", a->r.token, b->r.token, pairs * sizeof(int32_t));
    assert_same("weight", a->r.weight, b->r.weight, pairs * sizeof(float));
    assert_same("first", a->r.first, b->r.first, ((size_t)a->s.E + 1) * sizeof(int64_t));
}

/* Of one of two groups, the sum of its two largest. */
static double two_largest(const double *by, int n) {
    double sum = -INFINITY;
    for (int a = 0; a < n; a++) {
        for (int b = 0; b < a; b++) {
            sum = fmax(sum, by[a] + by[b]);
        }
    }
    return sum;
}

/* What experts are chosen by, in the router's own precision; -inf in a group that is shut. */
static void worth_of(const sp_routing *r, const double *probs, double *by) {
    const int half = r->experts / 2;
    for (int e = 0; e < r->experts; e++) {
        by[e] = (double)((float)probs[e] + (r->bias ? r->bias[e] : 0.0F));
    }
    if (r->groups == 2) {
        const bool second = two_largest(by + half, half) > two_largest(by, half);
        for (int e = second ? 0 : half; e < (second ? half : r->experts); e++) {
            by[e] = -INFINITY;
        }
    }
}

/* Weights of one token from its logits, by the definition, of experts that are chosen already. */
static void weigh_chosen(const sp_routing *r, const double *logits, const int *chosen,
                         double *probs, double *weights) {
    double sum = 0, kept = 0;
    for (int e = 0; e < r->experts; e++) {
        sum += exp(logits[e]);
    }
    for (int e = 0; e < r->experts; e++) {
        weights[e] = 0;
        probs[e] = r->kind == SP_ROUTER_SOFTMAX ? exp(logits[e]) / sum : 1 / (1 + exp(-logits[e]));
    }
    for (int i = 0; chosen && i < r->top_k; i++) {
        kept += probs[chosen[i]];
    }
    for (int i = 0; chosen && i < r->top_k; i++) {
        weights[chosen[i]] =
            probs[chosen[i]] * (double)r->scale / (r->normalised ? fmax(kept, r->least) : 1.0);
    }
}

/* The same with the choice: zero for experts that are not among the k largest. chosen [k] in
 * falling order. */
static void weigh(const sp_routing *r, const double *logits, double *probs, double *weights,
                  int *chosen) {
    double by[128];
    weigh_chosen(r, logits, NULL, probs, weights);
    worth_of(r, probs, by);
    for (int e = 0; e < r->experts; e++) {
        int better = 0;
        for (int f = 0; f < r->experts; f++) {
            better += by[f] > by[e] || (by[f] == by[e] && f < e);
        }
        if (better < r->top_k) {
            chosen[better] = e;
        }
    }
    weigh_chosen(r, logits, chosen, probs, weights);
}

static void check_routing(const routed *x, const float *logits) {
    double row[128], probs[128], weights[128];
    int chosen[128];
    int64_t next[128];
    const int E = x->s.E, k = x->s.k;
    assert_int_equal(x->r.first[0], 0);
    assert_int_equal(x->r.first[E], x->s.T * k);
    memcpy(next, x->r.first, (size_t)E * sizeof *next);
    for (int64_t t = 0; t < x->s.T; t++) {
        for (int e = 0; e < E; e++) {
            row[e] = (double)logits[t * E + e];
        }
        weigh(&x->r, row, probs, weights, chosen);
        for (int e = 0; e < E; e++) {
            assert_true(fabs((double)x->r.probs[t * E + e] - probs[e]) <= 1e-7);
        }
        for (int i = 0; i < k; i++) {
            const int e = chosen[i];
            assert_int_equal(x->r.chosen[t * k + i], e);
            assert_int_equal(x->r.row[t * k + i], next[e]++); /* tokens in order */
            const int32_t at = x->r.row[t * k + i];
            assert_int_equal(x->r.token[at], t);
            assert_true(fabs((double)x->r.weight[at] - weights[e]) <= 5e-7);
        }
    }
    for (int e = 0; e < E; e++) {
        assert_int_equal(next[e], x->r.first[e + 1]);
    }
}

/* Even shapes have ties, and experts that nobody chooses. */
static float *make_logits(struct shape s, int seed) {
    float *x = array_random(s.T * s.E, (uint64_t)seed, 2);
    for (int64_t i = 0; seed % 2 == 0 && i < s.T * s.E; i++) {
        x[i] = i % s.E == s.E - 1 && s.E > s.k ? -20.0F : rintf(x[i]);
    }
    return x;
}

static void test_route(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    for (int i = 0; i < 2 * N_SHAPES * N_KINDS; i++) {
        const struct shape s = shapes[i / 2 % N_SHAPES];
        const struct kind *kind = &kinds[i / (2 * N_SHAPES)];
        float *logits = make_logits(s, i);
        routed want = routed_create(s, kind);
        b.be[BENCH_REFERENCE]->ops->route(b.be[BENCH_REFERENCE], logits, want.s.T, &want.r);
        check_routing(&want, logits);
        for (int t = BENCH_ONE; t < BENCH_COUNT; t++) {
            routed got = routed_create(s, kind);
            b.be[t]->ops->route(b.be[t], logits, got.s.T, &got.r);
            assert_same_routing(&want, &got);
            routed_free(&got);
        }
        routed_free(&want);
        free(logits);
    }
    bench_close(&b);
}

/* Experts without rows, and numbers that are none: still k different experts. */
static void test_route_extremes(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    sp_backend *be = b.be[BENCH_TWO];
    routed x = routed_create((struct shape){5, 4, 2, 1}, &kinds[0]);
    float logits[20];
    for (int i = 0; i < 20; i++) {
        logits[i] = i % 4 == 1 ? 200.0F : i % 4 == 2 ? 100.0F : -300.0F;
    }
    be->ops->route(be, logits, 5, &x.r);
    const int64_t first[] = {0, 0, 5, 10, 10};
    assert_memory_equal(x.r.first, first, sizeof first);
    for (int i = 0; i < 20; i++) {
        logits[i] = NAN;
    }
    be->ops->route(be, logits, 5, &x.r);
    for (int t = 0; t < 5; t++) {
        assert_int_equal(x.r.chosen[2 * t], 0);
        assert_int_equal(x.r.chosen[2 * t + 1], 1);
    }
    routed_free(&x);
    bench_close(&b);
}

/* sum over rows of dweight weight + sum over tokens and experts of dprobs p, in double. */
static double objective(const double *logits, const routed *x, const float *dweight,
                        const float *dprobs, int64_t t) {
    double probs[128], weights[128], total = 0;
    int chosen[128];
    for (int i = 0; i < x->s.k; i++) { /* the choice stays */
        chosen[i] = x->r.chosen[t * x->s.k + i];
    }
    weigh_chosen(&x->r, logits, chosen, probs, weights);
    for (int i = 0; i < x->s.k; i++) {
        total += (double)dweight[x->r.row[t * x->s.k + i]] * weights[chosen[i]];
    }
    for (int e = 0; dprobs && e < x->s.E; e++) {
        total += (double)dprobs[e] * probs[e];
    }
    return total;
}

static void check_differences(const routed *x, const float *logits, const float *dweight,
                              const float *dprobs, const float *got) {
    const double h = 1e-5;
    for (int64_t t = 0; t < x->s.T; t++) {
        double row[128];
        for (int e = 0; e < x->s.E; e++) {
            row[e] = (double)logits[t * x->s.E + e];
        }
        for (int e = 0; e < x->s.E; e++) {
            const double at = row[e];
            row[e] = at + h;
            const double more = objective(row, x, dweight, dprobs, t);
            row[e] = at - h;
            const double less = objective(row, x, dweight, dprobs, t);
            row[e] = at;
            const double want = (more - less) / (2 * h);
            assert_true(fabs((double)got[t * x->s.E + e] - want) <= 1e-6);
        }
    }
}

static void test_route_backward(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    for (int i = 0; i < 2 * N_SHAPES * N_KINDS; i++) {
        const struct shape s = shapes[i / 2 % N_SHAPES];
        const struct kind *kind = &kinds[i / (2 * N_SHAPES)];
        float *logits = array_random(s.T * s.E, (uint64_t)i + 1, 2), *kept = NULL;
        float *dweight = array_random(s.T * s.k, 77, 1);
        /* what is a sigmoid has no such loss */
        float *dprobs =
            i % 2 && kind->router == SP_ROUTER_SOFTMAX ? array_random(s.E, 78, 1) : NULL;
        routed x = routed_create(s, kind);
        for (int t = 0; t < BENCH_COUNT; t++) {
            float *got = array_zero(s.T * s.E);
            b.be[t]->ops->route(b.be[t], logits, s.T, &x.r);
            b.be[t]->ops->route_bwd(b.be[t], &x.r, dweight, dprobs, s.T, got);
            if (t == 0) {
                check_differences(&x, logits, dweight, dprobs, got);
                kept = got;
                continue;
            }
            assert_same("route_bwd", kept, got, (size_t)(s.T * s.E) * sizeof(float));
            free(got);
        }
        routed_free(&x);
        free(kept);
        free(logits);
        free(dweight);
        free(dprobs);
    }
    bench_close(&b);
}

/* Rows out to experts and back: what comes back is what the definition says, in double. */
static void check_rows(sp_backend *be, struct shape s, bool accumulate, float **keep) {
    const int64_t pairs = s.T * s.k;
    float *logits = array_random(s.T * s.E, 3, 1), *x = array_random(s.T * s.n, 4, 1);
    float *y = array_random(s.T * s.n, 5, 1), *before = array_copy(y, s.T * s.n);
    float *dh = array_random(pairs * s.n, 6, 1), *was = array_copy(dh, pairs * s.n);
    float *dweight = array_zero(pairs);
    routed r = routed_create(s, &kinds[0]);
    void *operand = operand_of(be, x, s.T * s.n);
    void *taken = array_bytes((size_t)(pairs * s.n) * be->operand_size);
    be->ops->route(be, logits, s.T, &r.r);
    be->ops->take_rows(be, operand, r.r.token, pairs, s.n, taken);
    float *rows = operand_values(be, taken, pairs * s.n);
    float *values = operand_values(be, operand, s.T * s.n);
    for (int64_t i = 0; i < pairs; i++) {
        assert_memory_equal(rows + i * s.n, values + r.r.token[i] * s.n,
                            (size_t)s.n * sizeof *rows);
    }
    be->ops->mix(be, &r.r, dh, !accumulate, s.T, s.n, y, accumulate);
    for (int64_t i = 0; i < s.T * s.n; i++) {
        double want = accumulate ? (double)before[i] : 0;
        for (int k = 0; k < s.k; k++) {
            const int32_t row = r.r.row[i / s.n * s.k + k];
            want += (accumulate ? 1.0 : (double)r.r.weight[row]) * (double)dh[row * s.n + i % s.n];
        }
        assert_true(fabs((double)y[i] - want) <= 4e-6);
    }
    be->ops->weigh_bwd(be, &r.r, s.T, s.n, dh, taken, dweight);
    float *scaled = operand_values(be, taken, pairs * s.n);
    const double round = be->compute == SP_COMPUTE_BF16 ? 1.0 / 256 : 1e-7;
    for (int64_t row = 0; row < pairs; row++) {
        const double w = (double)r.r.weight[row];
        double dot = 0;
        for (int64_t i = row * s.n; i < (row + 1) * s.n; i++) {
            dot += (double)was[i] * (double)rows[i];
            assert_true(fabs((double)dh[i] - w * (double)was[i]) <= 1e-6);
            assert_true(fabs((double)scaled[i] - w * (double)rows[i]) <=
                        round * fabs((double)rows[i]) + 1e-12);
        }
        assert_true(fabs((double)dweight[row] - dot) <= 1e-5);
    }
    if (*keep) {
        assert_same("mix", *keep, y, (size_t)(s.T * s.n) * sizeof *y);
        free(y);
    } else {
        *keep = y;
    }
    routed_free(&r);
    free(logits), free(x), free(before), free(dh), free(was), free(dweight);
    free(operand), free(taken), free(rows), free(values), free(scaled);
}

static void test_rows(void **state) {
    (void)state;
    for (int compute = SP_COMPUTE_F32; compute <= SP_COMPUTE_BF16; compute++) {
        bench b = bench_open((sp_compute)compute);
        for (int i = 0; i < 2 * N_SHAPES; i++) {
            float *keep = NULL;
            for (int t = 0; t < BENCH_COUNT; t++) {
                check_rows(b.be[t], shapes[i / 2], i % 2 == 0, &keep);
            }
            free(keep);
        }
        bench_close(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route),
        cmocka_unit_test(test_route_extremes),
        cmocka_unit_test(test_route_backward),
        cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
