/* Length-controlled win rates: the fit against published ones, and what it is for. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "eval/length_control.h"
#include "support.h"

enum { N = 805, GAMED = 2 * N, ROWS = N + GAMED };

static FILE *open_table(const char *name, char *line, size_t n) {
    char path[TEST_PATH_MAX];
    snprintf(path, sizeof path, "data/alpaca_eval/%s", name);
    FILE *f = fopen(test_shared_or_skip(path), "r");
    assert_non_null(f);
    assert_non_null(fgets(line, (int)n, f)); /* header */
    return f;
}

/* Rows (feature of length, difficulty, 1) of a model, and behind them those of two responses that
 * try to win by length, which are known by two sums only and have no constant. */
typedef struct table {
    double x[ROWS][3], y[ROWS], weight[ROWS];
    double difficulty[N], lengths[3][N];
} table;
static table t;

static void read_prompts(void) {
    char line[512];
    int index;
    FILE *f = open_table("instruction_difficulty_recovered.csv", line, sizeof line);
    for (int i = 0; i < N; i++) {
        assert_int_equal(fscanf(f, "%d,%lf", &index, &t.difficulty[i]), 2);
    }
    fclose(f);
    f = open_table("baseline_lengths.csv", line, sizeof line);
    for (int i = 0; i < N; i++) {
        assert_int_equal(fscanf(f, "%d,%lf,%lf,%lf", &index, &t.lengths[0][i], &t.lengths[1][i],
                                &t.lengths[2][i]),
                         4);
    }
    fclose(f);
}

/* Outcomes a t + b d of the rows whose two sums are given: any with these sums fit alike. */
static void add_gamed(void) {
    const double sums[2] = {-18.269236253900335, 41.30467904802639};
    double tt = 0, td = 0, dd = 0;
    for (int i = 0; i < GAMED; i++) {
        double *x = t.x[N + i];
        x[1] = t.difficulty[i % N];
        x[2] = 0;
        t.weight[N + i] = 0.1;
        tt += 0.1 * x[0] * x[0];
        td += 0.1 * x[0] * x[1];
        dd += 0.1 * x[1] * x[1];
    }
    const double det = tt * dd - td * td;
    const double a = (sums[0] * dd - sums[1] * td) / det, b = (tt * sums[1] - td * sums[0]) / det;
    for (int i = 0; i < GAMED; i++) {
        t.y[N + i] = a * t.x[N + i][0] + b * t.x[N + i][1];
    }
}

static void gamed_lengths(void) {
    for (int which = 0; which < 2; which++) {
        double lead[N];
        for (int i = 0; i < N; i++) {
            lead[i] = t.lengths[0][i] - t.lengths[1 + which][i];
        }
        sp_length_feature(lead, N);
        for (int i = 0; i < N; i++) {
            t.x[N + which * N + i][0] = lead[i];
        }
    }
}

static void read_model(FILE *f, char *name) {
    double lead[N];
    for (int i = 0; i < N; i++) {
        int index;
        double first, second;
        assert_int_equal(fscanf(f, "%127s %d %lf %lf %lf", name, &index, &t.y[i], &first, &second),
                         5);
        assert_int_equal(index, i);
        lead[i] = first - second;
        t.x[i][1] = t.difficulty[i];
        t.x[i][2] = 1;
        t.weight[i] = 1;
    }
    sp_length_feature(lead, N);
    for (int i = 0; i < N; i++) {
        t.x[i][0] = lead[i];
    }
}

static int compare(const char *name) {
    char line[1024], model[128];
    FILE *f = open_table("expected.tsv", line, sizeof line);
    int found = 0;
    while (!found && fgets(line, sizeof line, f)) {
        double c, want[3], win, lc, w[3], rate = 0;
        found = sscanf(line, "%127s %lf %lf %lf %lf %lf %lf", model, &c, want, want + 1, want + 2,
                       &win, &lc) == 7 &&
                strcmp(model, name) == 0 && c == c;
        if (found) {
            sp_logistic_fit(&t.x[0][0], t.y, t.weight, ROWS, 3, c, w);
            for (int i = 0; i < N; i++) {
                rate += 100.0 / N / (1 + exp(-(w[2] + w[1] * t.difficulty[i])));
            }
            for (int i = 0; i < 3; i++) {
                assert_true(fabs(w[i] - want[i]) < 3e-3);
            }
            assert_true(fabs(rate - lc) < 0.015);
        }
    }
    fclose(f);
    return found;
}

/* Published weights come from a solver that stops early, so they agree to two or three digits, and
 * the rates to a hundredth of a point. */
static void test_leaderboard(void **state) {
    (void)state;
    char line[512], name[128];
    int compared = 0;
    read_prompts();
    gamed_lengths();
    add_gamed();
    FILE *f = open_table("lc_inputs.tsv", line, sizeof line);
    for (int m = 0; m < 31; m++) {
        read_model(f, name);
        compared += compare(name);
    }
    fclose(f);
    assert_int_equal(compared, 30);
}

/* Responses of one length: the constant alone, whose best value has sigma(w) = mean - 1/(c n) where
 * the mean is above one half. */
static void test_equal_lengths(void **state) {
    (void)state;
    const double wins[4] = {1, 1, 1, 0}, lead[4] = {7, 7, 7, 7};
    double scratch[8];
    assert_true(fabs(sp_length_controlled(wins, lead, 4, scratch) - (0.75 - 1 / (2.782559 * 4))) <
                1e-9);
}

/* Wins that length explains: the longer response wins nine times of ten, and the model's is the
 * longer in three of four. It wins 0.7 of all, and one half at equal lengths. */
static void test_long_winded(void **state) {
    (void)state;
    enum { ROWS_HERE = 4000 };
    static double wins[ROWS_HERE], lead[ROWS_HERE], scratch[2 * ROWS_HERE];
    double mean = 0;
    for (int i = 0; i < ROWS_HERE; i++) {
        const int longer = i % 4 != 0;
        const int expected = i / 4 % 10 != 0;
        lead[i] = longer ? -20 : 20;
        wins[i] = longer == expected;
        mean += wins[i] / ROWS_HERE;
    }
    assert_true(fabs(mean - 0.7) < 1e-9);
    /* the two lengths are +-20, of one feature each: what is in between is one half */
    assert_true(fabs(sp_length_controlled(wins, lead, ROWS_HERE, scratch) - 0.5) < 0.01);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_equal_lengths),
                                       cmocka_unit_test(test_long_winded),
                                       cmocka_unit_test(test_leaderboard)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
