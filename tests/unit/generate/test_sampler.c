/* Sampling from one row of logits against the distribution computed in double precision: over an
 * even grid of uniform numbers each token must be drawn in proportion, whatever the filters. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend/backend.h"
#include "base/rng.h"
#include "generate/sampler.h"

enum { MAX_VOCAB = 3000, DRAWS = 20000 };

static sp_pool *pool;
static sp_backend *backend;
static sp_sampler sampler;
static float logits[MAX_VOCAB];
static double p[MAX_VOCAB];
static int counts[MAX_VOCAB];

static spar_sampling defaults(void) {
    spar_error err;
    spar_sampling s;
    assert_int_equal(spar_options_default(spar_sampling_options, &s, &err), SPAR_OK);
    return s;
}

static void make_logits(int n, float spread, uint64_t seed) {
    for (int i = 0; i < n; i++) {
        logits[i] = spread * ((float)sp_rng_uniform(seed, 1, (uint64_t)i) - 0.5F);
    }
}

/* The softmax of n values, those marked in `out` left out. */
static void softmax(const double *x, const char *out, int n, double *y) {
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < n; i++) {
        max = out[i] || x[i] < max ? max : x[i];
    }
    for (int i = 0; i < n; i++) {
        y[i] = out[i] ? 0 : exp(x[i] - max);
        sum += y[i];
    }
    for (int i = 0; i < n; i++) {
        y[i] /= sum;
    }
}

/* Tokens with a larger probability than token i, and those before it of the same. */
static int rank_of(const double *y, int n, int i) {
    int rank = 0;
    for (int j = 0; j < n; j++) {
        rank += y[j] > y[i] || (y[j] == y[i] && j < i);
    }
    return rank;
}

/* Temperature, then top-k (with ties), then top-p, then min-p, each on what the one before left. */
static void expect(const spar_sampling *s, const int32_t *seen, size_t n_seen, int n) {
    static double x[MAX_VOCAB], y[MAX_VOCAB];
    static char out[MAX_VOCAB];
    static int order[MAX_VOCAB];
    memset(out, 0, sizeof out);
    for (int i = 0; i < n; i++) {
        x[i] = (double)logits[i];
    }
    for (size_t i = 0; i < n_seen; i++) {
        const double l = (double)logits[seen[i]];
        x[seen[i]] = l > 0 ? l / s->repetition_penalty : l * s->repetition_penalty;
    }
    for (int i = 0; i < n; i++) {
        x[i] /= s->temperature;
    }
    softmax(x, out, n, y);
    for (int i = 0; i < n; i++) {
        order[rank_of(y, n, i)] = i;
    }
    for (int i = 0; s->top_k > 0 && i < n; i++) {
        out[i] = y[i] < y[order[s->top_k < n ? s->top_k - 1 : n - 1]];
    }
    softmax(x, out, n, y);
    double mass = 0;
    for (int r = 0; r < n; r++) {
        out[order[r]] |= r > 0 && mass >= s->top_p;
        mass += y[order[r]];
    }
    for (int i = 0; i < n; i++) {
        out[i] |= y[i] < s->min_p * y[order[0]];
    }
    softmax(x, out, n, p);
}

static void check(const spar_sampling *s, const int32_t *seen, size_t n_seen, int n) {
    static double plain[MAX_VOCAB], x[MAX_VOCAB];
    static const char none[MAX_VOCAB];
    spar_error err;
    expect(s, seen, n_seen, n);
    for (int i = 0; i < n; i++) {
        x[i] = (double)logits[i];
        counts[i] = 0;
    }
    softmax(x, none, n, plain);
    for (int d = 0; d < DRAWS; d++) {
        int32_t id;
        float logp;
        assert_int_equal(sp_sampler_draw(&sampler, logits, n, s, seen, n_seen, (d + 0.5) / DRAWS,
                                         &id, &logp, &err),
                         SPAR_OK);
        assert_in_range(id, 0, n - 1);
        assert_true(fabs((double)logp - log(plain[id])) < 1e-5);
        counts[id]++;
    }
    for (int i = 0; i < n; i++) { /* an interval of length p holds p DRAWS grid points, give or take
                                     one at each end */
        if (fabs(counts[i] - p[i] * DRAWS) > 1.1) {
            fail_msg("vocabulary %d, token %d: expected %.2f draws, found %d", n, i, p[i] * DRAWS,
                     counts[i]);
        }
    }
}

static const int sizes[] = {1, 2, 7, 63, 511, 512, 513, 1025, 3000};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static void test_plain(void **state) {
    (void)state;
    for (int i = 0; i < N_SIZES; i++) {
        for (double t = 0.5; t <= 2; t *= 2) {
            spar_sampling s = defaults();
            s.temperature = t;
            make_logits(sizes[i], 12, (uint64_t)i);
            check(&s, NULL, 0, sizes[i]);
        }
    }
}

static void test_filters(void **state) {
    (void)state;
    for (int i = 0; i < N_SIZES; i++) {
        spar_sampling s = defaults();
        make_logits(sizes[i], 8, 77 + (uint64_t)i);
        s.top_k = 5;
        check(&s, NULL, 0, sizes[i]);
        s.top_p = 0.7;
        check(&s, NULL, 0, sizes[i]);
        s.min_p = 0.3;
        s.temperature = 0.8;
        check(&s, NULL, 0, sizes[i]);
        s.top_k = 0;
        check(&s, NULL, 0, sizes[i]);
    }
}

static void test_penalty(void **state) {
    (void)state;
    static const int32_t seen[] = {0, 3, 3, 6};
    spar_sampling s = defaults();
    make_logits(513, 6, 5);
    s.repetition_penalty = 1.4;
    check(&s, seen, sizeof seen / sizeof *seen, 513);
    s.temperature = 0.5;
    check(&s, seen, sizeof seen / sizeof *seen, 513);
}

/* Weights that underflow to nothing are never drawn, wherever they stand. */
static void test_far_below(void **state) {
    (void)state;
    spar_sampling s = defaults();
    for (int i = 0; i < 1600; i++) {
        logits[i] = i == 700 ? 10 : -500;
    }
    check(&s, NULL, 0, 1600);
}

/* Next to 0 the temperature's inverse leaves the floats: the best is drawn all the same. */
static void test_cold(void **state) {
    (void)state;
    static const double cold[] = {1e-30, 1e-38, 1e-39, 1e-45, 1e-300, 5e-324};
    for (size_t i = 0; i < sizeof cold / sizeof *cold; i++) {
        spar_error err;
        int32_t id;
        float logp;
        spar_sampling s = defaults();
        s.temperature = cold[i];
        make_logits(1025, 5, 1);
        logits[700] = 9;
        for (int k = 0; k < 2; k++, s.top_k = 5) {
            assert_int_equal(
                sp_sampler_draw(&sampler, logits, 1025, &s, NULL, 0, 0.99, &id, &logp, &err),
                SPAR_OK);
            assert_int_equal(id, 700);
        }
    }
}

static void test_greedy(void **state) {
    (void)state;
    spar_error err;
    int32_t id;
    float logp;
    spar_sampling s = defaults();
    make_logits(1025, 5, 1);
    logits[300] = logits[900] = 9;
    s.temperature = 0;
    assert_int_equal(sp_sampler_draw(&sampler, logits, 1025, &s, NULL, 0, 0.99, &id, &logp, &err),
                     SPAR_OK);
    assert_int_equal(id, 300); /* the first of equals */
}

static void test_not_finite(void **state) {
    (void)state;
    spar_error err;
    int32_t id;
    float logp;
    spar_sampling s = defaults();
    make_logits(100, 5, 1);
    logits[40] = NAN;
    assert_int_equal(sp_sampler_draw(&sampler, logits, 100, &s, NULL, 0, 0.5, &id, &logp, &err),
                     SPAR_FORMAT);
}

static int setup(void **state) {
    (void)state;
    spar_error err;
    if (sp_pool_create(&pool, 1, &err) != SPAR_OK ||
        sp_backend_create(&backend, SP_BACKEND_TUNED, SP_COMPUTE_F32, pool, &err) != SPAR_OK) {
        return -1;
    }
    sampler.exp_sum = backend->ops->exp_sum;
    return 0;
}

static int teardown(void **state) {
    (void)state;
    sp_sampler_release(&sampler);
    sp_backend_free(backend);
    sp_pool_free(pool);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),      cmocka_unit_test(test_filters),
        cmocka_unit_test(test_penalty),    cmocka_unit_test(test_far_below),
        cmocka_unit_test(test_cold),       cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_not_finite),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
