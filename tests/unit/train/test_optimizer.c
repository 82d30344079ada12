/* Optimisers against torch and hand-computed steps; segments, threads, counts, checkpoints, norms.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "train/optimizer.h"

/* Printed by tools/make_optimizer_fixture.py. */
static const float adamw_decay[] = {-0.607061088f, 0.615223229f, 0.116470635f,
                                    -0.401842058f, 0.851834774f, 0.370432556f};
static const float adamw_plain[] = {-0.609989703f, 0.620219231f, 0.117561199f,
                                    -0.402225137f, 0.85798353f,  0.371718794f};
static const float rmsprop_plain[] = {-0.49495104f,  0.640094221f, 0.103489123f,
                                      -0.500110805f, 0.814470589f, 0.357720315f};
static const float rmsprop_decay[] = {-0.615525484f, 0.62100929f,  0.123661846f,
                                      -0.37636447f,  0.868363619f, 0.372749418f};
enum { SMALL = 6, SMALL_STEPS = 5 };

static float small_start(int i) {
    return (float)((5 * i) % 7 - 3) * 0.25f + 0.125f;
}

static float small_gradient(int step, int i) {
    return (float)((7 * step + 3 * i * i + 5) % 11 - 5) * 0.03125f;
}

static const sp_optimizer_kind *kind(const char *name) {
    const sp_optimizer_kind *found = NULL;
    spar_error err;
    assert_int_equal(sp_optimizer_find(name, &found, &err), SPAR_OK);
    return found;
}

static sp_optimizer *create(const char *name, const double *params, int64_t n,
                            const sp_optimizer_segment *segments, int64_t n_segments) {
    sp_optimizer *o = NULL;
    spar_error err;
    assert_int_equal(
        sp_optimizer_create(&o, kind(name), params, n, segments, n_segments, NULL, &err), SPAR_OK);
    return o;
}

static sp_pool *pool_of(int threads) {
    sp_pool *pool = NULL;
    spar_error err;
    assert_int_equal(sp_pool_create(&pool, threads, &err), SPAR_OK);
    return pool;
}

static void near(double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance)) {
        print_error("found %.17g, expected %.17g\n", found, expected);
        fail();
    }
}

/* scale: the gradients are multiplied by it and the step told to divide it away. */
static void check_against(const char *name, const double *params, double lr, float scale,
                          const float *expected) {
    sp_optimizer *o = create(name, params, SMALL, NULL, 0);
    float weights[SMALL], grads[SMALL];
    for (int i = 0; i < SMALL; i++) {
        weights[i] = small_start(i);
    }
    for (int step = 0; step < SMALL_STEPS; step++) {
        for (int i = 0; i < SMALL; i++) {
            grads[i] = small_gradient(step, i) * scale;
        }
        sp_optimizer_step(o, weights, grads, lr, 1.0 / (double)scale, NULL, NULL);
    }
    for (int i = 0; i < SMALL; i++) {
        near((double)weights[i], (double)expected[i], 2.5e-7);
    }
    assert_int_equal(sp_optimizer_steps(o), SMALL_STEPS);
    sp_optimizer_free(o);
}

static void test_torch(void **state) {
    (void)state;
    check_against("adamw", (double[]){0.9, 0.999, 1e-8, 0.1}, 1e-2, 1.0f, adamw_decay);
    check_against("adamw", (double[]){0.8, 0.95, 1e-6, 0.0}, 1e-2, 1.0f, adamw_plain);
    check_against("adamw", (double[]){0.8, 0.95, 1e-6, 0.0}, 1e-2, 64.0f, adamw_plain);
    check_against("rmsprop", NULL, 1e-2, 1.0f, rmsprop_plain);
    check_against("rmsprop", NULL, 1e-2, 0.125f, rmsprop_plain);
    check_against("rmsprop", (double[]){0.9, 1e-5, 0.1}, 1e-3, 1.0f, rmsprop_decay);
}

/* First steps, by hand: AdamW moves by lr * sign(g) whatever g's size; RMSProp by
 * lr / sqrt(1 - alpha) = 10 lr. */
static void test_first_step(void **state) {
    (void)state;
    static const float grads[] = {3.0f, -1e-3f, 0.0f};
    float weights[] = {0.0f, 0.0f, 0.5f};
    sp_optimizer *o = create("adamw", (double[]){0.9, 0.999, 1e-12, 0.0}, 3, NULL, 0);
    sp_optimizer_step(o, weights, grads, 1e-3, 1.0, NULL, NULL);
    near((double)weights[0], -1e-3, 1e-9);
    near((double)weights[1], 1e-3, 1e-9);
    assert_true(weights[2] == 0.5f);
    near((double)sp_optimizer_state(o, 0)[0], 0.3, 1e-7);
    near((double)sp_optimizer_state(o, 1)[0], 0.009, 1e-8);
    sp_optimizer_free(o);
    memset(weights, 0, sizeof weights);
    o = create("rmsprop", NULL, 3, NULL, 0);
    sp_optimizer_step(o, weights, grads, 1e-3, 1.0, NULL, NULL);
    near((double)weights[0], -1e-2, 1e-8);
    near((double)weights[1], 1e-2, 1e-5); /* eps shows at this size */
    near((double)sp_optimizer_state(o, 0)[0], 0.09, 1e-7);
    sp_optimizer_free(o);
}

/* Gradients 0: decay acts alone, and only in the segment that has it; gaps stay frozen. */
static void test_segments(void **state) {
    (void)state;
    enum { COUNT = 200000 };
    static const sp_optimizer_segment segments[] = {
        {1, 65530, true}, {65530, 65540, false}, {65540, 65540, true}, {70000, 199999, true}};
    float *weights = malloc(COUNT * sizeof *weights), *grads = calloc(COUNT, sizeof *grads);
    sp_optimizer_stats stats;
    sp_optimizer *o = create("adamw", (double[]){0.9, 0.999, 1e-8, 0.5}, COUNT, segments, 4);
    for (int i = 0; i < COUNT; i++) {
        weights[i] = 1.0f;
    }
    sp_optimizer_step(o, weights, grads, 0.5, 1.0, NULL, &stats);
    for (int i = 0; i < COUNT; i++) {
        int decayed = (i >= 1 && i < 65530) || (i >= 70000 && i < 199999);
        assert_true(weights[i] == (decayed ? 0.75f : 1.0f));
    }
    assert_int_equal(stats.n, 65529 + 10 + 129999);
    assert_int_equal(stats.changed_f32, 65529 + 129999);
    assert_int_equal(stats.changed_bf16, 65529 + 129999);
    for (int i = 0; i < COUNT; i++) {
        grads[i] = 1.0f;
    }
    sp_optimizer_step(o, weights, grads, 0.5, 1.0, NULL, &stats);
    assert_true(weights[0] == 1.0f && weights[199999] == 1.0f && weights[69999] == 1.0f);
    assert_true(weights[65535] < 1.0f);
    assert_true(sp_optimizer_state(o, 0)[0] == 0.0f && sp_optimizer_state(o, 0)[1] != 0.0f);
    assert_int_equal(stats.changed_f32, stats.n);
    sp_optimizer_free(o);
    free(weights);
    free(grads);
}

/* Around 1, f32 resolves 6e-8 below and bf16 2^-8: a step of 1e-5 shows in one and not the other,
 * unless the old value lies at a rounding boundary. A step of 1e-9 shows in neither. */
static void test_changed_counts(void **state) {
    (void)state;
    float weights[] = {1.0f, -1.0f, 1.00390625f, 1.01171875f, 0.0f};
    static const float grads[] = {1.0f, 1.0f, 1.0f, 1.0f, 0.0f};
    const double params[] = {0.0, 0.0, 1e-8, 0.0};
    sp_optimizer_stats stats;
    sp_optimizer *o = create("adamw", params, 5, NULL, 0);
    sp_optimizer_step(o, weights, grads, 1e-9, 1.0, NULL, &stats);
    assert_int_equal(stats.n, 5);
    assert_int_equal(stats.changed_f32, 0);
    assert_int_equal(stats.changed_bf16, 0);
    sp_optimizer_step(o, weights, grads, 1e-5, 1.0, NULL, &stats);
    assert_int_equal(stats.changed_f32, 4);
    /* The third is a tie that goes down to the even 1.0, before and after; the fourth is a tie that
     * went up to the even 1.015625 and now goes down. */
    assert_int_equal(stats.changed_bf16, 1);
    weights[2] = 1.0039064f; /* just above its tie: rounds up, then down */
    sp_optimizer_step(o, weights, grads, 1e-5, 1.0, NULL, &stats);
    assert_int_equal(stats.changed_bf16, 1);
    sp_optimizer_step(o, weights, grads, 0.1, 1.0, NULL, &stats);
    assert_int_equal(stats.changed_bf16, 4);
    sp_optimizer_free(o);
}

enum { LARGE = 300001 };

static void fill_normal(float *x, uint64_t stream) {
    for (uint64_t i = 0; i < LARGE; i++) {
        x[i] = (float)sp_rng_normal(5, stream, i);
    }
}

static void check_threads(const char *name, sp_pool *pool) {
    float *grads = malloc(LARGE * sizeof *grads);
    float *a = malloc(LARGE * sizeof *a), *b = malloc(LARGE * sizeof *b);
    sp_optimizer_stats alone, together;
    fill_normal(a, 1);
    memcpy(b, a, LARGE * sizeof *a);
    sp_optimizer *one = create(name, NULL, LARGE, NULL, 0);
    sp_optimizer *many = create(name, NULL, LARGE, NULL, 0);
    for (uint64_t step = 0; step < 3; step++) {
        fill_normal(grads, 2 + step);
        sp_optimizer_step(one, a, grads, 1e-6, 0.5, NULL, &alone);
        sp_optimizer_step(many, b, grads, 1e-6, 0.5, pool, &together);
        assert_memory_equal(&alone, &together, sizeof alone);
    }
    assert_memory_equal(a, b, LARGE * sizeof *a);
    assert_true(alone.changed_bf16 < alone.changed_f32);
    sp_optimizer_free(one);
    sp_optimizer_free(many);
    free(grads);
    free(a);
    free(b);
}

static void test_threads(void **state) {
    (void)state;
    sp_pool *pool = pool_of(3);
    for (int i = 0; i < sp_optimizer_kind_count(); i++) {
        check_threads(sp_optimizer_kind_at(i)->name, pool);
    }
    sp_pool_free(pool);
}

/* Weights, state and step count carried to a fresh optimiser continue bit for bit. */
static void test_resume(void **state) {
    (void)state;
    for (int k = 0; k < sp_optimizer_kind_count(); k++) {
        const char *name = sp_optimizer_kind_at(k)->name;
        float a[SMALL], b[SMALL], grads[SMALL];
        sp_optimizer *o = create(name, NULL, SMALL, NULL, 0);
        sp_optimizer *resumed = create(name, NULL, SMALL, NULL, 0);
        for (int i = 0; i < SMALL; i++) {
            a[i] = small_start(i);
        }
        for (int step = 0; step < 4; step++) {
            for (int i = 0; i < SMALL; i++) {
                grads[i] = small_gradient(step, i);
            }
            if (step == 2) {
                memcpy(b, a, sizeof a);
                sp_optimizer_set_steps(resumed, sp_optimizer_steps(o));
                for (int i = 0; i < sp_optimizer_state_count(o); i++) {
                    assert_non_null(sp_optimizer_state_name(o, i));
                    memcpy(sp_optimizer_state(resumed, i), sp_optimizer_state(o, i), sizeof a);
                }
            }
            sp_optimizer_step(o, a, grads, 1e-2, 1.0, NULL, NULL);
            if (step >= 2) {
                sp_optimizer_step(resumed, b, grads, 1e-2, 1.0, NULL, NULL);
            }
        }
        assert_memory_equal(a, b, sizeof a);
        assert_int_equal(sp_optimizer_size(o), SMALL);
        assert_ptr_equal(sp_optimizer_kind_of(o), sp_optimizer_kind_at(k));
        sp_optimizer_free(o);
        sp_optimizer_free(resumed);
    }
}

static void refused(const double *params, int64_t n, const sp_optimizer_segment *segments,
                    int64_t n_segments, const char *part) {
    sp_optimizer *o = NULL;
    spar_error err;
    assert_int_equal(
        sp_optimizer_create(&o, kind("adamw"), params, n, segments, n_segments, NULL, &err),
        SPAR_INVALID);
    assert_null(o);
    if (!strstr(err.message, part)) {
        print_error("'%s' lacks '%s'\n", err.message, part);
        fail();
    }
}

static void test_refusals(void **state) {
    (void)state;
    const sp_optimizer_kind *found = NULL;
    spar_error err;
    refused((double[]){1.0, 0.999, 1e-8, 0.0}, 4, NULL, 0, "beta1");
    refused((double[]){0.9, 0.999, 1e-8, (double)NAN}, 4, NULL, 0, "weight_decay");
    refused(NULL, 0, NULL, 0, "0 weights");
    refused(NULL, INT64_MAX, NULL, 0, "weights");
    refused(NULL, 4, (sp_optimizer_segment[]){{0, 5, true}}, 1, "segment 0");
    refused(NULL, 4, (sp_optimizer_segment[]){{0, 3, true}, {2, 4, true}}, 2, "segment 1");
    refused(NULL, 4, (sp_optimizer_segment[]){{3, 2, true}}, 1, "segment 0");
    refused(NULL, 4, (sp_optimizer_segment[]){{-1, 2, true}}, 1, "segment 0");
    assert_int_equal(sp_optimizer_find("adam", &found, &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "'adamw'"));
    sp_optimizer_free(NULL);
}

static void test_failing_allocator(void **state) {
    (void)state;
    for (long k = 1; k <= 4; k++) {
        sp_optimizer *o = NULL;
        spar_error err;
        sp_mem_fail_at(k);
        assert_int_equal(sp_optimizer_create(&o, kind("adamw"), NULL, 8, NULL, 0, NULL, &err),
                         SPAR_NO_MEMORY);
        sp_mem_fail_at(0);
        assert_null(o);
    }
}

static void test_norm(void **state) {
    (void)state;
    static const float three_four[] = {3.0f, 0.0f, -4.0f};
    float *x = malloc(LARGE * sizeof *x);
    long double sum = 0.0L;
    fill_normal(x, 9);
    for (int i = 0; i < LARGE; i++) {
        sum += (long double)x[i] * (long double)x[i];
    }
    double alone = sp_grad_norm(x, LARGE, NULL);
    near(alone, (double)sqrtl(sum), 1e-11);
    for (int threads = 1; threads <= 5; threads += 2) {
        sp_pool *pool = pool_of(threads);
        double together = sp_grad_norm(x, LARGE, pool);
        assert_memory_equal(&alone, &together, sizeof alone);
        sp_pool_free(pool);
    }
    assert_true(sp_grad_norm(three_four, 3, NULL) == 5.0);
    assert_true(sp_grad_norm(x, 0, NULL) == 0.0);
    x[LARGE - 1] = 3e38f; /* its square does not fit f32 */
    near(sp_grad_norm(x, LARGE, NULL) / 3e38, 1.0, 1e-6);
    x[7] = NAN;
    assert_true(isnan(sp_grad_norm(x, LARGE, NULL)));
    free(x);
}

static void test_clip(void **state) {
    (void)state;
    assert_true(sp_grad_clip(0.5, 1.0) == 1.0);
    assert_true(sp_grad_clip(0.0, 1.0) == 1.0);
    assert_true(sp_grad_clip(100.0, 0.0) == 1.0);
    near(sp_grad_clip(4.0, 1.0), 0.25, 1e-6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch),    cmocka_unit_test(test_first_step),
        cmocka_unit_test(test_segments), cmocka_unit_test(test_changed_counts),
        cmocka_unit_test(test_threads),  cmocka_unit_test(test_resume),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_failing_allocator),
        cmocka_unit_test(test_norm),     cmocka_unit_test(test_clip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
