/* The vocabulary projection with its log-probabilities: tuned against reference, against a plain
 * log-softmax, and the backward against differences. */
#include "compare.h"

typedef struct shape {
    int64_t R, V, H;
} shape;

static const shape shapes[] = {{1, 1, 1},      {7, 65, 9},      {129, 513, 33},
                               {5, 1500, 130}, {300, 100, 17},  {2, 5000, 8},
                               {1100, 70, 40}, {130, 16500, 5}, {1100, 1100, 70}};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0], MAX_V = 16500 };

static float shifts[MAX_V]; /* the bias of the forms that have one */

typedef struct problem {
    shape s;
    float *w, *h, *c;
    int32_t *target;
    sp_logit_form form;
} problem;

static problem make_problem(shape s) {
    problem p = {s,
                 array_random(s.V * s.H, 1, 1),
                 array_random(s.R * s.H, 2, 1),
                 array_random(s.R, 3, 1),
                 array_bytes((size_t)s.R * sizeof(int32_t)),
                 {.scale = 1}};
    for (int64_t r = 0; r < s.R; r++) {
        p.target[r] = (int32_t)(r * 7919 % s.V);
    }
    p.target[0] = (int32_t)(s.V - 1);
    p.c[s.R / 2] = 0;
    return p;
}

static void problem_free(problem *p) {
    free(p->w);
    free(p->h);
    free(p->c);
    free(p->target);
}

typedef struct result {
    float *logp, *lse, *dh, *dw, *dh2, *dbias;
} result;

static result run(sp_backend *be, const problem *p, bool accumulate) {
    const shape s = p->s;
    result x = {array_zero(s.R),
                array_zero(s.R),
                array_random(s.R * s.H, 5, 1),
                array_random(s.V * s.H, 6, 1),
                array_zero(s.R * s.H),
                array_zero(s.V)};
    sp_logit_form form = p->form, frozen = p->form;
    form.dbias = form.bias ? x.dbias : NULL;
    void *h = operand_of(be, p->h, s.R * s.H);
    sp_weight w = {.data = p->w, .out = s.V, .in = s.H};
    /* Copies that are kept, and those that are made as they are wanted: the same bits. */
    const int each = sp_pool_threads(be->pool) == 2 ? SP_PREPARE_EACH : 0;
    const int what = SP_PREPARE_FORWARD | SP_PREPARE_BACKWARD | SP_PREPARE_HEAD | each;
    assert_int_equal(be->ops->weight_prepare(be, &w, what, NULL), SPAR_OK);
    assert_int_equal(be->ops->head_logp(be, &w, &p->form, h, p->target, s.R, x.logp, x.lse, NULL),
                     SPAR_OK);
    assert_int_equal(be->ops->head_logp_bwd(be, &w, &form, h, p->target, x.lse, p->c, s.R, x.dh,
                                            x.dw, accumulate, NULL),
                     SPAR_OK);
    assert_int_equal(be->ops->head_logp_bwd(be, &w, &frozen, h, p->target, x.lse, p->c, s.R, x.dh2,
                                            NULL, true, NULL),
                     SPAR_OK);
    be->ops->weight_release(be, &w);
    free(h);
    return x;
}

static void result_free(result *x) {
    free(x->logp);
    free(x->lse);
    free(x->dh);
    free(x->dw);
    free(x->dh2);
    free(x->dbias);
}

static void compare(bench b, sp_logit_form form) {
    for (int i = 0; i < N_SHAPES; i++) {
        const shape s = shapes[i];
        problem p = make_problem(s);
        p.form = form;
        const bool adds = i % 2 == 0;
        result want = run(b.be[BENCH_REFERENCE], &p, adds), one = run(b.be[BENCH_ONE], &p, adds);
        /* A gradient on the edge between two bf16 values may round either way. */
        const double tolerance = b.be[0]->compute == SP_COMPUTE_BF16 ? 4e-3 : 2e-5;
        assert_close("logp", one.logp, want.logp, s.R, 2e-6);
        assert_close("lse", one.lse, want.lse, s.R, 2e-6);
        assert_close("dh", one.dh, want.dh, s.R * s.H, tolerance);
        assert_close("dw", one.dw, want.dw, s.V * s.H, tolerance);
        assert_close("dbias", one.dbias, want.dbias, s.V, tolerance);
        assert_same("dh without dw", one.dh, one.dh2, (size_t)(s.R * s.H) * sizeof(float));
        for (int t = BENCH_TWO; t <= BENCH_THREE; t++) {
            result more = run(b.be[t], &p, adds);
            assert_same("logp", one.logp, more.logp, (size_t)s.R * sizeof(float));
            assert_same("lse", one.lse, more.lse, (size_t)s.R * sizeof(float));
            assert_same("dh", one.dh, more.dh, (size_t)(s.R * s.H) * sizeof(float));
            assert_same("dw", one.dw, more.dw, (size_t)(s.V * s.H) * sizeof(float));
            assert_same("dbias", one.dbias, more.dbias, (size_t)s.V * sizeof(float));
            result_free(&more);
        }
        result_free(&want);
        result_free(&one);
        problem_free(&p);
    }
    bench_close(&b);
}

static const sp_logit_form plain = {.scale = 1}, scaled = {.scale = 0.25F},
                           capped = {.scale = 1.5F, .cap = 2},
                           biased = {.scale = 1, .bias = shifts},
                           all = {.scale = 0.75F, .cap = 2, .bias = shifts};

static void test_f32(void **state) {
    (void)state;
    compare(bench_open(SP_COMPUTE_F32), plain);
    compare(bench_open(SP_COMPUTE_F32), scaled);
    compare(bench_open(SP_COMPUTE_F32), capped);
    compare(bench_open(SP_COMPUTE_F32), biased);
    compare(bench_open(SP_COMPUTE_F32), all);
}

static void test_bf16(void **state) {
    (void)state;
    compare(bench_open(SP_COMPUTE_BF16), plain);
    compare(bench_open(SP_COMPUTE_BF16), capped);
    compare(bench_open(SP_COMPUTE_BF16), biased);
}

static void test_primitives(void **state) {
    (void)state;
    compare(bench_open_primitives(), plain);
    compare(bench_open_primitives(), capped);
    compare(bench_open_primitives(), biased);
}

/* Log-softmax from whole logits, in double. */
static double naive_logp(const problem *p, int64_t r) {
    double max = -(double)INFINITY, sum = 0, logits[64];
    for (int64_t j = 0; j < p->s.V; j++) {
        logits[j] = p->form.bias ? (double)p->form.bias[j] : 0;
        for (int64_t i = 0; i < p->s.H; i++) {
            logits[j] += (double)p->h[r * p->s.H + i] * (double)p->w[j * p->s.H + i];
        }
        const double y = (double)p->form.scale * logits[j], cap = (double)p->form.cap;
        logits[j] = cap > 0 ? cap * tanh(y / cap) : y;
        max = fmax(max, logits[j]);
    }
    for (int64_t j = 0; j < p->s.V; j++) {
        sum += exp(logits[j] - max);
    }
    return logits[p->target[r]] - max - log(sum);
}

static double naive_loss(const problem *p) {
    double sum = 0;
    for (int64_t r = 0; r < p->s.R; r++) {
        sum += (double)p->c[r] * naive_logp(p, r);
    }
    return sum;
}

static void check_slope(const problem *p, float *at, double got) {
    const float old = *at, step = 1e-3F;
    *at = old + step;
    const double high = naive_loss(p), up = (double)*at;
    *at = old - step;
    const double low = naive_loss(p), down = (double)*at;
    *at = old;
    const double want = (high - low) / (up - down);
    if (fabs(want - got) > 1e-4 * fmax(1, fabs(want))) {
        fail_msg("gradient %.6g, difference quotient %.6g", got, want);
    }
}

static void check_naive(sp_logit_form form) {
    bench b = bench_open(SP_COMPUTE_F32);
    problem p = make_problem((shape){9, 31, 5});
    p.form = form;
    for (int i = BENCH_REFERENCE; i <= BENCH_ONE; i++) {
        result x = run(b.be[i], &p, true);
        float *start = array_random(31 * 5, 6, 1); /* what dw was added to */
        for (int64_t r = 0; r < p.s.R; r++) {
            assert_true(fabs((double)x.logp[r] - naive_logp(&p, r)) < 1e-5);
        }
        for (int64_t j = 0; j < 9 * 5; j++) {
            check_slope(&p, p.h + j, (double)x.dh[j]);
        }
        for (int64_t j = 0; j < 31 * 5; j++) {
            check_slope(&p, p.w + j, (double)x.dw[j] - (double)start[j]);
        }
        for (int64_t j = 0; form.bias && j < 31; j++) {
            check_slope(&p, shifts + j, (double)x.dbias[j]);
        }
        free(start);
        result_free(&x);
    }
    problem_free(&p);
    bench_close(&b);
}

static void test_naive(void **state) {
    (void)state;
    check_naive(plain);
    check_naive(scaled);
    check_naive(capped);
    check_naive(biased);
    check_naive(all);
}

/* Logits of hundreds neither overflow nor lose the small probabilities' logarithms. */
static void test_extreme(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    const float w[] = {300, -300, 0}, h[] = {1, -1};
    const int32_t target[] = {1, 1};
    sp_weight weight = {.data = w, .out = 3, .in = 1};
    for (int i = 0; i < BENCH_COUNT; i++) {
        float logp[2], lse[2];
        sp_backend *be = b.be[i];
        assert_int_equal(be->ops->weight_prepare(be, &weight, SP_PREPARE_FORWARD, NULL), SPAR_OK);
        assert_int_equal(be->ops->head_logp(be, &weight, &plain, h, target, 2, logp, lse, NULL),
                         SPAR_OK);
        assert_true(logp[0] == -600.0F && logp[1] == 0.0F && lse[0] == 300.0F);
        be->ops->weight_release(be, &weight);
    }
    bench_close(&b);
}

int main(void) {
    for (int i = 0; i < MAX_V; i++) {
        shifts[i] = sinf((float)i);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32), cmocka_unit_test(test_bf16), cmocka_unit_test(test_primitives),
        cmocka_unit_test(test_naive), cmocka_unit_test(test_extreme)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
