/* Matrix games: the linear program and the dynamics of self-play. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "spar/theory.h"
#include "support.h"
#include "train/game.h"

static char matrix[TEST_PATH_MAX];

static const double rock_paper_scissors[9] = {0.5, 0.0, 1.0, 1.0, 0.5, 0.0, 0.0, 1.0, 0.5};

static void check_solution(const double *payoff, int m, int n, double tolerance) {
    double rows[64], columns[64], value, sums[2] = {0, 0};
    spar_error err;
    assert_int_equal(sp_game_solve(payoff, m, n, rows, columns, &value, &err), SPAR_OK);
    for (int i = 0; i < m; i++) {
        assert_true(rows[i] >= 0.0);
        sums[0] += rows[i];
    }
    for (int j = 0; j < n; j++) {
        assert_true(columns[j] >= 0.0);
        sums[1] += columns[j];
    }
    assert_true(fabs(sums[0] - 1.0) < 1e-12 && fabs(sums[1] - 1.0) < 1e-12);
    const double gap = sp_game_gap(payoff, m, n, rows, columns);
    if (!(gap > -tolerance && gap < tolerance)) {
        print_error("%d by %d: gap %g\n", m, n, gap);
        fail();
    }
}

static void test_rock_paper_scissors(void **state) {
    (void)state;
    double rows[3], columns[3], value;
    spar_error err;
    assert_int_equal(sp_game_solve(rock_paper_scissors, 3, 3, rows, columns, &value, &err),
                     SPAR_OK);
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(rows[i] - 1.0 / 3.0) < 1e-12);
        assert_true(fabs(columns[i] - 1.0 / 3.0) < 1e-12);
    }
    assert_true(fabs(value - 0.5) < 1e-12);
}

/* A biased one: wins of a, b, c points by the cycle have the winner (b, c, a) / (a + b + c). */
static void test_weighted_cycle(void **state) {
    (void)state;
    const double payoff[9] = {0, -1, 2, 1, 0, -3, -2, 3, 0};
    const double expected[3] = {3.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0};
    double rows[3], columns[3], value;
    spar_error err;
    assert_int_equal(sp_game_solve(payoff, 3, 3, rows, columns, &value, &err), SPAR_OK);
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(rows[i] - expected[i]) < 1e-12);
    }
    assert_true(fabs(value) < 1e-12);
}

static void test_a_condorcet_winner_wins(void **state) {
    (void)state;
    const double preference[9] = {0.5, 0.9, 0.6, 0.1, 0.5, 0.9, 0.4, 0.1, 0.5};
    double rows[3], columns[3], value;
    spar_error err;
    assert_int_equal(sp_game_solve(preference, 3, 3, rows, columns, &value, &err), SPAR_OK);
    assert_true(rows[0] > 1.0 - 1e-12 && fabs(value - 0.5) < 1e-12);
}

static void test_random_games_have_no_gap(void **state) {
    (void)state;
    double preference[40 * 40], rows[40], columns[40], value;
    spar_error err;
    for (uint64_t seed = 0; seed < 30; seed++) {
        const int n = 2 + (int)seed;
        sp_game_random(seed, n, preference);
        check_solution(preference, n, n, 1e-10);
        assert_int_equal(sp_game_solve(preference, n, n, rows, columns, &value, &err), SPAR_OK);
        assert_true(fabs(value - 0.5) < 1e-10);
    }
}

/* Not square, scaled, constant, and of few distinct entries, whose pivots tie. */
static void test_other_shapes(void **state) {
    (void)state;
    double payoff[20 * 20];
    for (uint64_t i = 0; i < 400; i++) {
        payoff[i] = 1e6 * sp_rng_normal(1, 1, i);
    }
    check_solution(payoff, 7, 20, 1e-3);
    check_solution(payoff, 20, 3, 1e-3);
    check_solution(payoff, 1, 1, 1e-9);
    for (uint64_t seed = 0; seed < 50; seed++) {
        for (uint64_t i = 0; i < 400; i++) {
            payoff[i] = (double)sp_rng_below(seed, 2, i, 3) / 2.0;
        }
        check_solution(payoff, 20, 20, 1e-10);
    }
    for (int i = 0; i < 400; i++) {
        payoff[i] = -3.0;
    }
    check_solution(payoff, 20, 20, 1e-12);
}

static void test_gap_of_a_pure_policy(void **state) {
    (void)state;
    const double rock[3] = {1, 0, 0}, third[3] = {1.0 / 3, 1.0 / 3, 1.0 / 3};
    assert_true(fabs(sp_game_gap(rock_paper_scissors, 3, 3, rock, rock) - 1.0) < 1e-15);
    assert_true(fabs(sp_game_gap(rock_paper_scissors, 3, 3, third, third)) < 1e-15);
}

/* The winner rests under SPPO; the Nash policy of the regularised game under INPO. */
static void test_fixed_points(void **state) {
    (void)state;
    double logp[3] = {log(1.0 / 3), log(1.0 / 3), log(1.0 / 3)}, reference[3];
    memcpy(reference, logp, sizeof reference);
    sp_game_sppo(rock_paper_scissors, 3, 2.0, logp);
    sp_game_inpo(rock_paper_scissors, 3, 2.6, 0.1, reference, logp);
    for (int i = 0; i < 3; i++) {
        assert_true(fabs(logp[i] - log(1.0 / 3)) < 1e-12);
    }
    assert_true(sp_game_regularized_residual(rock_paper_scissors, 3, 0.1, reference, logp) < 1e-12);
}

static double gap_of(const double *preference, int n, const double *logp) {
    double policy[16];
    for (int i = 0; i < n; i++) {
        policy[i] = exp(logp[i]);
    }
    return sp_game_gap(preference, n, n, policy, policy);
}

/* gap * sqrt(T) of the average of T exact iterations with eta = sqrt(8 ln n / T). */
static double scaled_gap(const double *preference, int n, int turns) {
    double logp[16], mean[16] = {0}, total = 0;
    for (int i = 0; i < n; i++) { /* not the winner of any game here */
        logp[i] = log(1.0 + i);
        total += 1.0 + i;
    }
    for (int i = 0; i < n; i++) {
        logp[i] -= log(total);
    }
    for (int t = 0; t < turns; t++) {
        for (int i = 0; i < n; i++) {
            mean[i] += exp(logp[i]) / turns;
        }
        sp_game_sppo(preference, n, sqrt(8.0 * log(n) / turns), logp);
    }
    return sp_game_gap(preference, n, n, mean, mean) * sqrt(turns);
}

/* Sixty-four times the turns, and the gap of the average policy falls by eight: on rock, paper,
 * scissors, and on random games of ten. */
static void test_average_policy_of_sppo(void **state) {
    (void)state;
    double random[100];
    for (int turns = 100; turns <= 6400; turns *= 4) {
        const double scaled = scaled_gap(rock_paper_scissors, 3, turns);
        assert_true(scaled > 0.05 && scaled < 1.0);
        for (uint64_t seed = 0; seed < 20; seed++) {
            sp_game_random(seed, 10, random);
            const double of_random = scaled_gap(random, 10, turns);
            assert_true(of_random > 0.05 && of_random < 2.0);
        }
    }
}

static int leader_of(const double *logp) {
    return logp[0] > logp[1] ? (logp[0] > logp[2] ? 0 : 2) : (logp[1] > logp[2] ? 1 : 2);
}

/* With a fixed step SPPO's last policy goes round rock, paper, scissors and outward: each leads in
 * its turn, before the one that it loses to. */
static void test_last_policy_of_sppo_cycles(void **state) {
    (void)state;
    double logp[3] = {log(0.4), log(0.35), log(0.25)};
    const double first = gap_of(rock_paper_scissors, 3, logp);
    double least = first;
    int changes = 0;
    for (int t = 0; t < 2000; t++) {
        const int before = leader_of(logp);
        sp_game_sppo(rock_paper_scissors, 3, 0.1, logp);
        const int now = leader_of(logp);
        if (now != before) {
            /* row i of the game beats i - 1: the next to lead beats the last */
            assert_true(rock_paper_scissors[now * 3 + before] == 1.0);
            changes++;
        }
        least = fmin(least, gap_of(rock_paper_scissors, 3, logp));
    }
    assert_true(changes >= 9);
    assert_true(least > 0.5 * first && gap_of(rock_paper_scissors, 3, logp) > 2.0 * first);
}

/* From the same start, at a step within its bound, INPO's last policy comes to rest: at the winner,
 * as its reference is even; on a random game where the regularised game has its Nash policy. */
static void test_last_policy_of_inpo_rests(void **state) {
    (void)state;
    const double even[3] = {log(1.0 / 3), log(1.0 / 3), log(1.0 / 3)}, tau = 0.1;
    double logp[3] = {log(0.4), log(0.35), log(0.25)}, random[100], reference[10], of_random[10];
    double last = sp_game_regularized_residual(rock_paper_scissors, 3, tau, even, logp);
    for (int t = 0; t < 2000; t++) {
        sp_game_inpo(rock_paper_scissors, 3, tau + 1 / (4 * tau), tau, even, logp);
        if (t % 200 == 199) {
            const double now =
                sp_game_regularized_residual(rock_paper_scissors, 3, tau, even, logp);
            assert_true(now < 0.5 * last || now < 1e-12);
            last = now;
        }
    }
    assert_true(gap_of(rock_paper_scissors, 3, logp) < 1e-12);
    sp_game_random(3, 10, random);
    for (int i = 0; i < 10; i++) {
        of_random[i] = reference[i] = log(0.1);
    }
    for (int t = 0; t < 4000; t++) {
        sp_game_inpo(random, 10, tau + 1 / (4 * tau), tau, reference, of_random);
    }
    assert_true(sp_game_regularized_residual(random, 10, tau, reference, of_random) < 1e-10);
}

static void write_matrix(const char *text) {
    spar_error err;
    assert_int_equal(sp_file_write(matrix, text, strlen(text), &err), SPAR_OK);
}

static void check_refused(const char *text, const char *part) {
    json_t *out = NULL;
    spar_error err;
    write_matrix(text);
    assert_int_equal(spar_theory_game(matrix, &out, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, part));
    assert_null(out);
}

static void test_matrix_of_a_file(void **state) {
    (void)state;
    char dir[TEST_PATH_MAX];
    json_t *out = NULL;
    spar_error err;
    test_path(matrix, test_temp_dir(dir), "game.json");
    write_matrix("[[0.5, 1], [0, 0.5]]");
    assert_int_equal(spar_theory_game(matrix, &out, &err), SPAR_OK);
    assert_true(fabs(json_real_value(json_object_get(out, "value")) - 0.5) < 1e-12);
    assert_int_equal(json_array_size(json_object_get(out, "rows")), 2);
    json_decref(out);
    for (long k = 1; k <= 3; k++) {
        sp_mem_fail_at(k);
        assert_int_equal(spar_theory_game(matrix, &out, &err), SPAR_NO_MEMORY);
    }
    sp_mem_fail_at(0);
    check_refused("[]", "expected a list");
    check_refused("{}", "expected a list");
    check_refused("[[1, 2], [3]]", "row 2: expected 2 numbers, found 1");
    check_refused("[[1, \"a\"]]", "row 1, column 2: expected a number");
    check_refused("[[1e300]]", "row 1, column 1");
    remove(matrix);
    rmdir(dir);
    assert_int_equal(spar_theory_game(matrix, &out, &err), SPAR_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rock_paper_scissors),
        cmocka_unit_test(test_weighted_cycle),
        cmocka_unit_test(test_a_condorcet_winner_wins),
        cmocka_unit_test(test_random_games_have_no_gap),
        cmocka_unit_test(test_other_shapes),
        cmocka_unit_test(test_gap_of_a_pure_policy),
        cmocka_unit_test(test_fixed_points),
        cmocka_unit_test(test_average_policy_of_sppo),
        cmocka_unit_test(test_last_policy_of_sppo_cycles),
        cmocka_unit_test(test_last_policy_of_inpo_rests),
        cmocka_unit_test(test_matrix_of_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
