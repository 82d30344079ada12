/* The theorems of SPIN on tabular policies, with exact expectations over the loss table's own rows.
 *
 * A policy is a softmax over n responses. Expectations over (real, generated) pairs are sums over
 * all n * n pairs weighted by data[w] * opponent[l].
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <jansson.h>

#include "base/rng.h"
#include "spar/theory.h"
#include "train/tabular.h"

enum { N = 5 };
static const char *const spin_rows[] = {"spin", "spin_hinge", "spin_linear", "spin_exponential"};
enum { SPIN_ROWS = sizeof spin_rows / sizeof spin_rows[0] };
static const double data_p[N] = {0.35, 0.25, 0.2, 0.15, 0.05};
static const double other_p[N] = {0.1, 0.15, 0.3, 0.2, 0.25};
static double data[N], other[N]; /* their logarithms */

static int take_logarithms(void **state) {
    (void)state;
    for (int i = 0; i < N; i++) {
        data[i] = log(data_p[i]);
        other[i] = log(other_p[i]);
    }
    return 0;
}

static const sp_loss *row(const char *name) {
    const sp_loss *loss = NULL;
    spar_error err;
    assert_int_equal(sp_loss_find(name, &loss, &err), SPAR_OK);
    return loss;
}

static void test_fixed_point_has_no_gradient(void **state) {
    (void)state;
    double logits[N], gradient[N];
    for (int i = 0; i < N; i++) {
        logits[i] = data[i];
    }
    for (int k = 0; k < SPIN_ROWS; k++) {
        sp_tabular_loss(row(spin_rows[k]), 0.1, N, data, data, logits, gradient);
        assert_true(sp_tabular_largest(N, gradient) < 1e-15);
    }
}

/* By Jensen: the loss is convex in t and E[t] = 0 when real and generated have the same law. */
static void test_fixed_point_is_the_minimum(void **state) {
    (void)state;
    double logits[N], gradient[N];
    for (int k = 0; k < SPIN_ROWS; k++) {
        for (int i = 0; i < N; i++) {
            logits[i] = data[i];
        }
        double best = sp_tabular_loss(row(spin_rows[k]), 0.5, N, data, data, logits, gradient);
        for (uint64_t trial = 0; trial < 200; trial++) {
            for (uint64_t i = 0; i < N; i++) {
                logits[i] = 3.0 * sp_rng_normal(3, 1, trial * N + i);
            }
            double found = sp_tabular_loss(row(spin_rows[k]), 0.5, N, data, data, logits, gradient);
            assert_true(found >= best - 1e-12);
        }
    }
}

static void test_elsewhere_a_step_lowers_the_loss(void **state) {
    (void)state;
    double logits[N], gradient[N], unused[N];
    for (int k = 0; k < SPIN_ROWS; k++) {
        for (int i = 0; i < N; i++) {
            logits[i] = other[i];
        }
        double before = sp_tabular_loss(row(spin_rows[k]), 0.1, N, data, other, logits, gradient);
        assert_true(sp_tabular_largest(N, gradient) > 1e-3);
        for (int i = 0; i < N; i++) {
            logits[i] -= gradient[i];
        }
        assert_true(sp_tabular_loss(row(spin_rows[k]), 0.1, N, data, other, logits, unused) <
                    before);
    }
}

static void check_exact_iteration(const char *name, double beta, double power) {
    double found[N], expected[N];
    spar_error err;
    assert_int_equal(sp_tabular_solve(row(name), beta, N, data, other, found, &err), SPAR_OK);
    sp_tabular_tilt(N, data, other, power, expected);
    for (int i = 0; i < N; i++) {
        if (!(fabs(found[i] - expected[i]) < 1e-9)) {
            print_error("%s, beta %g: %.12g, expected %.12g\n", name, beta, found[i], expected[i]);
            fail();
        }
    }
}

static void test_exact_iteration(void **state) {
    (void)state;
    check_exact_iteration("spin", 0.1, 10.0);
    check_exact_iteration("spin", 0.5, 2.0);
    check_exact_iteration("spin", 1.0, 1.0);
    check_exact_iteration("spin", 5.0, 0.2);
    /* exp(-t) is minimised pairwise at half the log-odds. */
    check_exact_iteration("spin_exponential", 1.0, 0.5);
    check_exact_iteration("spin_exponential", 0.5, 1.0);
}

/* One iteration solved to the optimum multiplies the distance by |1 - 1/beta|. */
static void check_contraction(double beta, int iterations) {
    double policy[N], next[N];
    spar_error err;
    memcpy(policy, other, sizeof policy);
    for (int t = 0; t < iterations; t++) {
        const double expected = sp_tabular_distance(N, policy, data) * fabs(1.0 - 1.0 / beta);
        assert_int_equal(sp_tabular_solve(row("spin"), beta, N, data, policy, next, &err), SPAR_OK);
        memcpy(policy, next, sizeof policy);
        const double found = sp_tabular_distance(N, policy, data);
        if (!(fabs(found - expected) < 1e-7)) {
            print_error("beta %g: %.12g, expected %.12g\n", beta, found, expected);
            fail();
        }
    }
}

static void test_contraction(void **state) {
    (void)state;
    check_contraction(1.0, 1);  /* exact at once */
    check_contraction(2.0, 6);  /* converges from one side */
    check_contraction(0.75, 6); /* converges, alternating */
    check_contraction(0.4, 2);  /* diverges: factor 1.5 */
}

/* What spar theory prints is computed anew here, for several sizes and seeds: every table holds. */
static void test_tables_hold(void **state) {
    (void)state;
    const spar_theory_options options[] = {{.responses = 5, .seed = 0, .tau = 0.1},
                                           {.responses = 2, .seed = 1, .tau = 1.0},
                                           {.responses = 9, .seed = 2, .tau = 0.05}};
    for (size_t k = 0; k < sizeof options / sizeof options[0]; k++) {
        for (int i = 0; i < spar_theory_count(); i++) {
            json_t *table, *r;
            size_t at;
            spar_error err;
            assert_int_equal(spar_theory_table(i, &options[k], &table, &err), SPAR_OK);
            assert_true(json_is_true(json_object_get(table, "holds")));
            json_array_foreach(json_object_get(table, "rows"), at, r) {
                assert_int_equal(json_array_size(r),
                                 json_array_size(json_object_get(table, "columns")));
            }
            json_decref(table);
        }
    }
}

static void test_options_out_of_bounds(void **state) {
    (void)state;
    const spar_theory_options good = {.responses = 5, .tau = 0.1};
    const spar_theory_options bad[] = {{.responses = 1, .tau = 0.1},
                                       {.responses = 65, .tau = 0.1},
                                       {.responses = 5, .tau = 0.0},
                                       {.responses = 5, .tau = NAN}};
    json_t *table;
    spar_error err;
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        assert_int_equal(spar_theory_table(0, &bad[k], &table, &err), SPAR_INVALID);
    }
    assert_int_equal(spar_theory_table(spar_theory_count(), &good, &table, &err), SPAR_INVALID);
    assert_null(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed_point_has_no_gradient),
        cmocka_unit_test(test_fixed_point_is_the_minimum),
        cmocka_unit_test(test_elsewhere_a_step_lowers_the_loss),
        cmocka_unit_test(test_exact_iteration),
        cmocka_unit_test(test_contraction),
        cmocka_unit_test(test_tables_hold),
        cmocka_unit_test(test_options_out_of_bounds),
    };
    return cmocka_run_group_tests(tests, take_logarithms, NULL);
}
