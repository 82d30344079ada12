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
        cmocka_unit_test(test_matrix_of_a_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
