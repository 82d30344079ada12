/* Schedules against the values of Hugging Face's get_*_schedule_with_warmup. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "train/schedule.h"

static double factor(const char *name, int64_t step, int64_t warmup, int64_t total) {
    const sp_schedule *schedule = NULL;
    spar_error err;
    assert_int_equal(sp_schedule_find(name, &schedule, &err), SPAR_OK);
    return sp_schedule_factor(schedule, step, warmup, total);
}

static void near(double found, double expected) {
    if (!(fabs(found - expected) <= 1e-15)) {
        print_error("found %.17g, expected %.17g\n", found, expected);
        fail();
    }
}

static void test_constant(void **state) {
    (void)state;
    near(factor("constant", 0, 0, 10), 1.0);
    near(factor("constant", 9, 0, 10), 1.0);
    near(factor("constant", 0, 4, 10), 0.0);
    near(factor("constant", 3, 4, 10), 0.75);
    near(factor("constant", 4, 4, 10), 1.0);
    near(factor("constant", 99, 4, 10), 1.0);
}

static void test_linear(void **state) {
    (void)state;
    near(factor("linear", 0, 0, 10), 1.0);
    near(factor("linear", 1, 0, 10), 0.9);
    near(factor("linear", 9, 0, 10), 0.1);
    near(factor("linear", 0, 2, 10), 0.0);
    near(factor("linear", 1, 2, 10), 0.5);
    near(factor("linear", 2, 2, 10), 1.0);
    near(factor("linear", 6, 2, 10), 0.5);
    near(factor("linear", 10, 2, 10), 0.0);
    near(factor("linear", 11, 2, 10), 0.0);
}

static void test_cosine(void **state) {
    (void)state;
    near(factor("cosine", 0, 0, 10), 1.0);
    near(factor("cosine", 1, 2, 10), 0.5);
    near(factor("cosine", 2, 2, 10), 1.0);
    near(factor("cosine", 4, 2, 10), 0.85355339059327378); /* (1 + cos(pi/4)) / 2 */
    near(factor("cosine", 6, 2, 10), 0.5);
    near(factor("cosine", 8, 2, 10), 0.14644660940672627);
    near(factor("cosine", 10, 2, 10), 0.0);
    near(factor("cosine", 12, 2, 10), 0.0);
}

/* Warm-up as long as the run, or longer: no division by zero, still a ramp. */
static void test_edges(void **state) {
    (void)state;
    for (int i = 0; i < sp_schedule_count(); i++) {
        const sp_schedule *schedule = sp_schedule_at(i);
        near(sp_schedule_factor(schedule, 2, 4, 4), 0.5);
        near(sp_schedule_factor(schedule, 3, 6, 4), 0.5);
        near(sp_schedule_factor(schedule, 0, 0, 1), 1.0);
        for (int64_t step = 0; step <= 1000; step++) {
            double f = sp_schedule_factor(schedule, step, 100, 1000);
            assert_true(f >= 0.0 && f <= 1.0);
        }
    }
}

static void test_warmup(void **state) {
    (void)state;
    assert_int_equal(sp_schedule_warmup(0, 0.1, 100), 10);
    assert_int_equal(sp_schedule_warmup(0, 0.1, 101), 11);
    assert_int_equal(sp_schedule_warmup(0, 0.0, 100), 0);
    assert_int_equal(sp_schedule_warmup(7, 0.1, 100), 7);
}

static void test_unknown(void **state) {
    (void)state;
    const sp_schedule *schedule = NULL;
    spar_error err;
    assert_int_equal(sp_schedule_find("cosin", &schedule, &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "'cosine'"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant), cmocka_unit_test(test_linear),
        cmocka_unit_test(test_cosine),   cmocka_unit_test(test_edges),
        cmocka_unit_test(test_warmup),   cmocka_unit_test(test_unknown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
