/* When requests that failed are tried again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/patience.h"

static void pauses_double_to_a_minute(void **state) {
    (void)state;
    static const double pauses[] = {0.5, 1, 2, 4, 8, 16, 32, 60, 60};
    sp_patience p = sp_patience_of(100, 1e6);
    double wait;
    for (size_t i = 0; i < sizeof pauses / sizeof pauses[0]; i++) {
        assert_true(sp_patience_again(&p, 0, 0, &wait));
        assert_true(wait == pauses[i]);
    }
}

/* A server may ask for more than the pause, not for less. */
static void the_server_is_heard(void **state) {
    (void)state;
    sp_patience p = sp_patience_of(100, 1e6);
    double wait;
    assert_true(sp_patience_again(&p, 0, 7, &wait));
    assert_true(wait == 7);
    assert_true(sp_patience_again(&p, 0, 0.25, &wait));
    assert_true(wait == 1);
}

static void bounds_hold(void **state) {
    (void)state;
    double wait;
    sp_patience p = sp_patience_of(3, 1e6);
    assert_true(sp_patience_again(&p, 0, 0, &wait));
    assert_true(sp_patience_again(&p, 0, 0, &wait));
    assert_false(sp_patience_again(&p, 0, 0, &wait));
    assert_int_equal(p.attempts, 3);
    p = sp_patience_of(1, 1e6);
    assert_false(sp_patience_again(&p, 0, 0, &wait));
    p = sp_patience_of(100, 10); /* 9.5 seconds and half a one are ten */
    assert_true(sp_patience_again(&p, 9.5, 0, &wait));
    assert_false(sp_patience_again(&p, 9.5, 0, &wait));
    p = sp_patience_of(100, 10);
    assert_false(sp_patience_again(&p, 0, 11, &wait));
}

static void statuses_that_pass(void **state) {
    (void)state;
    static const long pass[] = {408, 409, 429, 500, 503, 599},
                      stay[] = {200, 206, 301, 400, 401, 403, 404, 416, 418};
    for (size_t i = 0; i < sizeof pass / sizeof pass[0]; i++) {
        assert_true(sp_patience_may_pass(pass[i]));
    }
    for (size_t i = 0; i < sizeof stay / sizeof stay[0]; i++) {
        assert_false(sp_patience_may_pass(stay[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_double_to_a_minute), cmocka_unit_test(the_server_is_heard),
        cmocka_unit_test(bounds_hold), cmocka_unit_test(statuses_that_pass)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
