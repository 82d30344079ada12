/* KTO: its closed form at the reference, its derivative, and what it refuses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "train/loss_label.h"

static double loss_at(double s, bool good, double z, const double *params, double *d, double *t) {
    double loss;
    spar_error err;
    assert_int_equal(sp_kto_eval(s, good, z, params, &loss, d, t, &err), SPAR_OK);
    return loss;
}

/* At the reference s = 0 and z = 0: lambda / 2, with a slope of -+beta lambda / 4. */
static void test_at_the_reference(void **state) {
    (void)state;
    const double params[SP_KTO_PARAMS] = {0.1, 1.5, 0.5};
    double d, t;
    assert_true(fabs(loss_at(0, true, 0, params, &d, &t) - 0.75) < 1e-15);
    assert_true(fabs(d + 0.1 * 1.5 / 4) < 1e-15 && t == 0);
    assert_true(fabs(loss_at(0, false, 0, params, &d, &t) - 0.25) < 1e-15);
    assert_true(fabs(d - 0.1 * 0.5 / 4) < 1e-15);
}

static void test_derivative(void **state) {
    (void)state;
    const double params[SP_KTO_PARAMS] = {0.7, 1.2, 0.8}, h = 1e-5;
    for (int good = 0; good < 2; good++) {
        for (double s = -8; s <= 8; s += 0.5) {
            double d, t, unused;
            loss_at(s, good, 0.6, params, &d, &t);
            const double slope = (loss_at(s + h, good, 0.6, params, &unused, &t) -
                                  loss_at(s - h, good, 0.6, params, &unused, &t)) /
                                 (2 * h);
            assert_true(fabs(slope - d) < 1e-9);
            assert_true(good ? d < 0 : d > 0);
        }
    }
}

static void test_extremes_stay_finite(void **state) {
    (void)state;
    const double params[SP_KTO_PARAMS] = {0.1, 1, 1};
    double d, t;
    assert_true(loss_at(-1e6, true, 0, params, &d, &t) == 1.0 && d <= 0.0 && d > -1e-9);
    assert_true(loss_at(1e6, true, 0, params, &d, &t) < 1e-9);
}

static void test_baseline(void **state) {
    (void)state;
    const double up[2] = {1.0, 2.0}, down[2] = {-3.0, 1.0};
    assert_true(sp_kto_baseline(up, 2) == 1.5);
    assert_true(sp_kto_baseline(down, 2) == 0.0);
    assert_true(sp_kto_baseline(up, 0) == 0.0);
}

static void test_refused(void **state) {
    (void)state;
    const double good[SP_KTO_PARAMS] = {0.1, 1, 1}, bad[SP_KTO_PARAMS] = {0.0, 1, 1};
    double loss, d, t;
    spar_error err;
    assert_int_equal(sp_kto_eval(NAN, true, 0, good, &loss, &d, &t, &err), SPAR_INVALID);
    assert_int_equal(sp_kto_eval(0, true, -1, good, &loss, &d, &t, &err), SPAR_INVALID);
    assert_int_equal(sp_kto_eval(0, true, INFINITY, good, &loss, &d, &t, &err), SPAR_INVALID);
    assert_int_equal(sp_kto_eval(0, true, 0, bad, &loss, &d, &t, &err), SPAR_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_at_the_reference),
        cmocka_unit_test(test_derivative),
        cmocka_unit_test(test_extremes_stay_finite),
        cmocka_unit_test(test_baseline),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
