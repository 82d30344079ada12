/* The league: expected wins and winners by hand, and how often opponents are drawn. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "play/league.h"

enum { PROMPTS = 4, DRAWS = 20000 };

static void near(double found, double expected) {
    if (!(fabs(found - expected) <= 1e-12)) {
        fail_msg("found %.17g, expected %.17g", found, expected);
    }
}

/* a against b: higher on one, lower on none. c loses to both. */
static void test_one_stands_above(void **state) {
    (void)state;
    static const double a[PROMPTS] = {1, 1, 1, 0}, b[PROMPTS] = {1, 1, 0, 0}, c[PROMPTS] = {0};
    const double *const scores[] = {b, a, c};
    sp_league l;
    spar_error err;
    assert_int_equal(sp_league_make(&l, scores, 3, PROMPTS, &err), SPAR_OK);
    near(l.wins[1 * 3 + 0], 0.625);
    near(l.wins[0 * 3 + 1], 0.375);
    near(l.wins[1 * 3 + 2], 0.875);
    near(l.wins[2 * 3 + 2], 0.5);
    near(l.winner[1], 1);
    near(l.gap, 0);
    near(l.gaps[0], 2 * (0.625 - 0.5));
    near(l.gaps[1], 0);
    near(l.gaps[2], 2 * (0.875 - 0.5));
    sp_league_release(&l);
}

/* Scores that turn in a circle: no player stands above, and the mixture is even. */
static void test_a_circle(void **state) {
    (void)state;
    static const double a[3] = {3, 1, 2}, b[3] = {2, 3, 1}, c[3] = {1, 2, 3};
    const double *const scores[] = {a, b, c};
    sp_league l;
    spar_error err;
    assert_int_equal(sp_league_make(&l, scores, 3, 3, &err), SPAR_OK);
    near(l.wins[0 * 3 + 1], 2.0 / 3);
    near(l.wins[1 * 3 + 2], 2.0 / 3);
    near(l.wins[2 * 3 + 0], 2.0 / 3);
    for (int i = 0; i < 3; i++) {
        near(l.winner[i], 1.0 / 3);
        near(l.gaps[i], 2 * (2.0 / 3 - 0.5));
    }
    near(l.gap, 0);
    sp_league_release(&l);
}

static void test_draws(void **state) {
    (void)state;
    static const double old[PROMPTS] = {0, 0, 0, 1}, latest[PROMPTS] = {1, 1, 1, 0};
    const double *const scores[] = {old, latest};
    sp_league l;
    spar_error err;
    double weights[2];
    assert_int_equal(sp_league_make(&l, scores, 2, PROMPTS, &err), SPAR_OK);
    sp_opponents_weigh(SP_OPPONENTS_LATEST, NULL, 2, weights);
    near(weights[1], 1);
    sp_opponents_weigh(SP_OPPONENTS_UNIFORM, NULL, 2, weights);
    near(weights[0], 0.5);
    sp_opponents_weigh(SP_OPPONENTS_PRIORITISED, &l, 2, weights);
    near(weights[0], 0.25 / 0.75); /* it wins a quarter, the latest half of its games with itself */
    int drawn = 0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        drawn += sp_opponents_draw(weights, 2, 3, 4, i) == 0;
        assert_true(sp_opponents_draw(weights, 2, 3, 4, i) ==
                    sp_opponents_draw(weights, 2, 3, 4, i));
    }
    /* five standard deviations */
    assert_true(fabs(drawn / (double)DRAWS - 1.0 / 3) < 5 * sqrt(2.0 / 9 / DRAWS));
    sp_league_release(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_stands_above),
        cmocka_unit_test(test_a_circle),
        cmocka_unit_test(test_draws),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
