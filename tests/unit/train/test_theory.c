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

#include "base/rng.h"
#include "train/loss.h"

enum { N = 5 };
static const char *const spin_rows[] = {"spin", "spin_hinge", "spin_linear", "spin_exponential"};
enum { SPIN_ROWS = sizeof spin_rows / sizeof spin_rows[0] };
static const double data[N] = {0.35, 0.25, 0.2, 0.15, 0.05};
static const double other[N] = {0.1, 0.15, 0.3, 0.2, 0.25};

static const sp_loss *row(const char *name) {
    const sp_loss *loss = NULL;
    spar_error err;
    assert_int_equal(sp_loss_find(name, &loss, &err), SPAR_OK);
    return loss;
}

static void log_softmax(const double *logits, double *logp) {
    double top = logits[0], sum = 0.0;
    for (int i = 1; i < N; i++) {
        top = fmax(top, logits[i]);
    }
    for (int i = 0; i < N; i++) {
        sum += exp(logits[i] - top);
    }
    for (int i = 0; i < N; i++) {
        logp[i] = logits[i] - top - log(sum);
    }
}

/* Expected loss of softmax(logits) against opponent, and its gradient in the logits. */
static double expected_loss(const sp_loss *loss, double beta, const double *real,
                            const double *opponent, const double *logits, double *gradient) {
    double params[SP_LOSS_MAX_PARAMS] = {beta}, logp[N], total = 0.0;
    log_softmax(logits, logp);
    memset(gradient, 0, N * sizeof *gradient);
    for (int w = 0; w < N; w++) {
        for (int l = 0; l < N; l++) {
            sp_pair_logps pair = {logp[w], logp[l], log(opponent[w]), log(opponent[l]), 1, 1};
            sp_pair_grad out;
            double weight = real[w] * opponent[l];
            loss->eval(&pair, 1, params, &out);
            total += weight * out.loss;
            for (int k = 0; k < N; k++) {
                double p = exp(logp[k]);
                gradient[k] +=
                    weight * (out.d_policy_w * ((k == w) - p) + out.d_policy_l * ((k == l) - p));
            }
        }
    }
    return total;
}

static double largest(const double *x) {
    double top = 0.0;
    for (int i = 0; i < N; i++) {
        top = fmax(top, fabs(x[i]));
    }
    return top;
}

static void test_fixed_point_has_no_gradient(void **state) {
    (void)state;
    double logits[N], gradient[N];
    for (int i = 0; i < N; i++) {
        logits[i] = log(data[i]);
    }
    for (int k = 0; k < SPIN_ROWS; k++) {
        expected_loss(row(spin_rows[k]), 0.1, data, data, logits, gradient);
        assert_true(largest(gradient) < 1e-15);
    }
}

/* By Jensen: the loss is convex in t and E[t] = 0 when real and generated have the same law. */
static void test_fixed_point_is_the_minimum(void **state) {
    (void)state;
    double logits[N], gradient[N];
    for (int k = 0; k < SPIN_ROWS; k++) {
        for (int i = 0; i < N; i++) {
            logits[i] = log(data[i]);
        }
        double best = expected_loss(row(spin_rows[k]), 0.5, data, data, logits, gradient);
        for (uint64_t trial = 0; trial < 200; trial++) {
            for (uint64_t i = 0; i < N; i++) {
                logits[i] = 3.0 * sp_rng_normal(3, 1, trial * N + i);
            }
            double found = expected_loss(row(spin_rows[k]), 0.5, data, data, logits, gradient);
            assert_true(found >= best - 1e-12);
        }
    }
}

static void test_elsewhere_a_step_lowers_the_loss(void **state) {
    (void)state;
    double logits[N], gradient[N], unused[N];
    for (int k = 0; k < SPIN_ROWS; k++) {
        for (int i = 0; i < N; i++) {
            logits[i] = log(other[i]);
        }
        double before = expected_loss(row(spin_rows[k]), 0.1, data, other, logits, gradient);
        assert_true(largest(gradient) > 1e-3);
        for (int i = 0; i < N; i++) {
            logits[i] -= gradient[i];
        }
        assert_true(expected_loss(row(spin_rows[k]), 0.1, data, other, logits, unused) < before);
    }
}

/* Minimise by gradient descent from the opponent. The loss sees the logits through t = beta * D, so
 * its curvature scales with beta^2 and the step with its inverse. */
static void solve(const sp_loss *loss, double beta, const double *opponent, double *logits) {
    double gradient[N] = {0};
    for (int i = 0; i < N; i++) {
        logits[i] = log(opponent[i]);
    }
    for (int step = 0; step < 200000; step++) {
        expected_loss(loss, beta, data, opponent, logits, gradient);
        if (largest(gradient) < 1e-13 * beta) {
            return;
        }
        for (int i = 0; i < N; i++) {
            logits[i] -= gradient[i] * 0.5 / (beta * beta);
        }
    }
    print_error("not solved: gradient %g\n", largest(gradient));
    fail();
}

/* policy proportional to opponent * (data / opponent)^power, as log-probs */
static void tilt(const double *opponent, double power, double *logp) {
    double logits[N];
    for (int i = 0; i < N; i++) {
        logits[i] = log(opponent[i]) + power * (log(data[i]) - log(opponent[i]));
    }
    log_softmax(logits, logp);
}

static void check_exact_iteration(const char *name, double beta, double power) {
    double logits[N], found[N], expected[N];
    solve(row(name), beta, other, logits);
    log_softmax(logits, found);
    tilt(other, power, expected);
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

/* Spread of log(policy / data): 0 exactly when they agree, free of the normaliser. */
static double distance(const double *policy) {
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (int i = 0; i < N; i++) {
        double ratio = log(policy[i] / data[i]);
        low = fmin(low, ratio);
        high = fmax(high, ratio);
    }
    return high - low;
}

/* One iteration solved to the optimum multiplies the distance by |1 - 1/beta|. */
static void check_contraction(double beta, int iterations) {
    double policy[N], logits[N], logp[N];
    memcpy(policy, other, sizeof policy);
    for (int t = 0; t < iterations; t++) {
        double before = distance(policy);
        solve(row("spin"), beta, policy, logits);
        log_softmax(logits, logp);
        for (int i = 0; i < N; i++) {
            policy[i] = exp(logp[i]);
        }
        double expected = before * fabs(1.0 - 1.0 / beta);
        if (!(fabs(distance(policy) - expected) < 1e-7)) {
            print_error("beta %g: %.12g, expected %.12g\n", beta, distance(policy), expected);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixed_point_has_no_gradient),
        cmocka_unit_test(test_fixed_point_is_the_minimum),
        cmocka_unit_test(test_elsewhere_a_step_lowers_the_loss),
        cmocka_unit_test(test_exact_iteration),
        cmocka_unit_test(test_contraction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
