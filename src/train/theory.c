/* The theorems as tables. */
#include "spar/theory.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "train/game.h"
#include "train/tabular.h"

/* Purposes of random streams. */
enum { STREAM_DATA = 41, STREAM_OPPONENT, STREAM_TRIAL, STREAM_START };

typedef struct table {
    const spar_theory_options *options;
    int n;
    json_t *rows; /* borrowed */
    bool holds;
} table;

typedef struct theorem {
    const char *name, *statement;
    const char *columns[8]; /* NULL ends */
    spar_status (*fill)(table *t, spar_error *err);
} theorem;

/* Steals row. */
static spar_status add_row(table *t, json_t *row, bool holds, spar_error *err) {
    t->holds = t->holds && holds;
    if (!row || json_array_append_new(t->rows, row) != 0) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for a row of a table");
    }
    return SPAR_OK;
}

static void random_policy(const table *t, uint64_t purpose, uint64_t index, double scale,
                          double *logp) {
    const uint64_t stream = sp_rng_stream(purpose, index, 0, 0);
    for (int i = 0; i < t->n; i++) {
        logp[i] = scale * sp_rng_normal(t->options->seed, stream, (uint64_t)i);
    }
    sp_tabular_log_softmax(t->n, logp, logp);
}

/* ---- SPIN ---- */

static const char *const spin_rows[] = {"spin", "spin_hinge", "spin_linear", "spin_exponential"};
enum { N_SPIN_ROWS = sizeof spin_rows / sizeof spin_rows[0], TRIALS = 200 };

/* The lowest loss of random policies, above that of the data. */
static double lowest_trial(const table *t, const sp_loss *loss, const double *data, double best) {
    double logits[SP_TABULAR_MAX], gradient[SP_TABULAR_MAX], least = HUGE_VAL;
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        random_policy(t, STREAM_TRIAL, trial, 3.0, logits);
        least = fmin(least, sp_tabular_loss(loss, 0.5, t->n, data, data, logits, gradient) - best);
    }
    return least;
}

static spar_status fixed_point(table *t, spar_error *err) {
    spar_status status = SPAR_OK;
    double data[SP_TABULAR_MAX], other[SP_TABULAR_MAX], gradient[SP_TABULAR_MAX];
    double moved[SP_TABULAR_MAX], unused[SP_TABULAR_MAX];
    random_policy(t, STREAM_DATA, 0, 1.0, data);
    random_policy(t, STREAM_OPPONENT, 0, 1.0, other);
    for (int k = 0; k < N_SPIN_ROWS; k++) {
        const sp_loss *loss;
        SPAR_TRY(sp_loss_find(spin_rows[k], &loss, err));
        const double best = sp_tabular_loss(loss, 0.5, t->n, data, data, data, gradient);
        const double at_data = sp_tabular_largest(t->n, gradient);
        const double above = lowest_trial(t, loss, data, best);
        const double before = sp_tabular_loss(loss, 0.1, t->n, data, other, other, gradient);
        const double elsewhere = sp_tabular_largest(t->n, gradient);
        for (int i = 0; i < t->n; i++) {
            moved[i] = other[i] - gradient[i];
        }
        const double change = sp_tabular_loss(loss, 0.1, t->n, data, other, moved, unused) - before;
        SPAR_TRY(add_row(
            t, json_pack("[s, f, f, f, f]", spin_rows[k], at_data, above, elsewhere, change),
            at_data < 1e-14 && above > -1e-12 && elsewhere > 0 && change < 0, err));
    }
done:
    return status;
}

/* Of iterations that are solved exactly, each of which multiplies the distance by factor. */
static const char *course_of(double factor) {
    if (factor == 0.0) {
        return "exact at once";
    }
    return factor < 1.0 ? "converges" : factor > 1.0 ? "diverges" : "stays as far";
}

static spar_status one_iteration(table *t, spar_error *err) {
    static const double betas[] = {5.0, 2.0, 1.0, 0.75, 0.5, 0.4};
    spar_status status = SPAR_OK;
    double data[SP_TABULAR_MAX], policy[SP_TABULAR_MAX], next[SP_TABULAR_MAX];
    double formula[SP_TABULAR_MAX];
    const sp_loss *spin;
    SPAR_TRY(sp_loss_find("spin", &spin, err));
    /* Near policies, so that the descent is well conditioned for any number of responses. */
    random_policy(t, STREAM_DATA, 0, 0.3, data);
    random_policy(t, STREAM_OPPONENT, 0, 0.3, policy);
    for (size_t k = 0; k < sizeof betas / sizeof betas[0]; k++) {
        const double expected = fabs(1.0 - 1.0 / betas[k]);
        const double before = sp_tabular_distance(t->n, policy, data);
        SPAR_TRY(sp_tabular_solve(spin, betas[k], t->n, data, policy, next, err));
        sp_tabular_tilt(t->n, data, policy, 1.0 / betas[k], formula);
        const double error = sp_tabular_distance(t->n, next, formula);
        const double factor = sp_tabular_distance(t->n, next, data) / before;
        const bool holds = error < 1e-7 && fabs(factor - expected) < 1e-6;
        SPAR_TRY(add_row(
            t, json_pack("[f, f, f, f, s]", betas[k], error, factor, expected, course_of(expected)),
            holds, err));
    }
done:
    return status;
}

/* ---- SPPO ---- */

static const double rock_paper_scissors[9] = {0.5, 0.0, 1.0, 1.0, 0.5, 0.0, 0.0, 1.0, 0.5};

typedef struct play_gaps {
    double average, last, bound;
} play_gaps;

/* turns exact iterations with eta = sqrt(8 ln n / turns). The bound is Hedge's regret of the best
 * answer, KL(answer | start) / eta + eta turns / 8, over turns, for each of the two players. */
static play_gaps play_sppo(const double *preference, int n, int turns, const double *start) {
    double logp[SP_TABULAR_MAX], mean[SP_TABULAR_MAX] = {0}, last[SP_TABULAR_MAX], farthest = 0.0;
    const double eta = sqrt(8.0 * log(n) / turns);
    memcpy(logp, start, (size_t)n * sizeof *logp);
    for (int turn = 0; turn < turns; turn++) {
        for (int i = 0; i < n; i++) {
            mean[i] += exp(logp[i]) / turns;
        }
        sp_game_sppo(preference, n, eta, logp);
    }
    for (int i = 0; i < n; i++) {
        last[i] = exp(logp[i]);
        farthest = fmax(farthest, -start[i]);
    }
    return (play_gaps){.average = sp_game_gap(preference, n, n, mean, mean),
                       .last = sp_game_gap(preference, n, n, last, last),
                       .bound = 2.0 * (farthest / (eta * turns) + eta / 8.0)};
}

static spar_status average_policy(table *t, spar_error *err) {
    static const int turns[] = {100, 400, 1600, 6400};
    spar_status status = SPAR_OK;
    double random[10 * 10], start[SP_TABULAR_MAX];
    sp_game_random(t->options->seed, 10, random);
    const struct {
        const char *name;
        const double *preference;
        int n;
    } games[] = {{"rock paper scissors", rock_paper_scissors, 3}, {"random 10 x 10", random, 10}};
    for (size_t g = 0; g < sizeof games / sizeof games[0]; g++) {
        table of_game = *t;
        of_game.n = games[g].n;
        random_policy(&of_game, STREAM_START, g, 0.5, start);
        for (size_t k = 0; k < sizeof turns / sizeof turns[0]; k++) {
            const play_gaps gaps = play_sppo(games[g].preference, games[g].n, turns[k], start);
            SPAR_TRY(add_row(t,
                             json_pack("[s, i, f, f, f, f]", games[g].name, turns[k], gaps.average,
                                       gaps.average * sqrt(turns[k]), gaps.bound, gaps.last),
                             gaps.average <= gaps.bound, err));
        }
    }
done:
    return status;
}

/* ---- INPO ---- */

static spar_status last_iterate(table *t, spar_error *err) {
    static const double slack[] = {1.0, 4.0};
    spar_status status = SPAR_OK;
    double preference[SP_TABULAR_MAX * SP_TABULAR_MAX], reference[SP_TABULAR_MAX];
    double logp[SP_TABULAR_MAX];
    const double tau = t->options->tau;
    sp_game_random(t->options->seed, t->n, preference);
    random_policy(t, STREAM_OPPONENT, 0, 1.0, reference);
    for (size_t k = 0; k < sizeof slack / sizeof slack[0]; k++) {
        const double eta = tau + slack[k] / (4.0 * tau);
        memcpy(logp, reference, (size_t)t->n * sizeof *logp);
        const double first = sp_game_regularized_residual(preference, t->n, tau, reference, logp);
        double now = first;
        int turn = 0;
        while (turn < 1000000 && now > 1e-9) {
            sp_game_inpo(preference, t->n, eta, tau, reference, logp);
            now = sp_game_regularized_residual(preference, t->n, tau, reference, logp);
            turn++;
        }
        SPAR_TRY(
            add_row(t, json_pack("[f, f, f, i, f]", eta, tau, first, turn, now), now <= 1e-9, err));
    }
done:
    return status;
}

/* ---- tables ---- */

static const theorem theorems[] = {
    {"SPIN: fixed point",
     "Where the policy is the data, the expected gradient is 0 and no policy has a lower loss; "
     "elsewhere a step lowers it (arXiv 2401.01335).",
     {"loss", "|gradient| at data", "best of others - data", "|gradient| elsewhere",
      "change by a step"},
     fixed_point},
    {"SPIN: one exact iteration",
     "The minimiser is the opponent times (data / opponent)^(1/beta), so the distance to the data "
     "is multiplied by |1 - 1/beta| (arXiv 2401.01335, section 5).",
     {"beta", "error of the formula", "factor found", "factor expected", "solved exactly"},
     one_iteration},
    {"SPPO: the average policy",
     "With eta of the order of 1/sqrt(T) the duality gap of the average policy is O(1/sqrt(T)); "
     "the last policy need not converge (arXiv 2405.00675).",
     {"game", "T", "gap of the average", "gap * sqrt(T)", "bound", "gap of the last"},
     average_policy},
    {"INPO: the last policy",
     "With eta >= tau + 1/(4 tau) the last policy of magnetic mirror descent converges to the Nash "
     "policy of the game with a KL term of weight tau (arXiv 2206.05825; arXiv 2407.00617).",
     {"eta", "tau", "residual at the reference", "iterations", "residual at the end"},
     last_iterate}};
enum { N_THEOREMS = sizeof theorems / sizeof theorems[0] };

int spar_theory_count(void) {
    return N_THEOREMS;
}

static spar_status check_options(int i, const spar_theory_options *o, spar_error *err) {
    if (i < 0 || i >= N_THEOREMS) {
        return spar_fail(err, SPAR_INVALID, "theorem: expected 0 to %d, found %d", N_THEOREMS - 1,
                         i);
    }
    if (o->responses < 2 || o->responses > SP_TABULAR_MAX) {
        return spar_fail(err, SPAR_INVALID, "responses: expected 2 to %d, found %lld",
                         SP_TABULAR_MAX, (long long)o->responses);
    }
    if (!(o->tau >= 0.01 && o->tau <= 100.0)) {
        return spar_fail(err, SPAR_INVALID, "tau: expected 0.01 to 100, found %g", o->tau);
    }
    return SPAR_OK;
}

spar_status spar_theory_table(int i, const spar_theory_options *options, json_t **out,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *made = NULL;
    *out = NULL;
    SPAR_TRY(check_options(i, options, err));
    const theorem *which = &theorems[i];
    made = json_pack("{s:s, s:s, s:[], s:[]}", "theorem", which->name, "statement",
                     which->statement, "columns", "rows");
    json_t *columns = json_object_get(made, "columns");
    for (int c = 0; made && which->columns[c]; c++) {
        json_array_append_new(columns, json_string(which->columns[c]));
    }
    table t = {.options = options,
               .n = (int)options->responses,
               .rows = json_object_get(made, "rows"),
               .holds = true};
    SPAR_TRY(which->fill(&t, err));
    if (json_object_set_new(made, "holds", json_boolean(t.holds)) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a table"));
    }
    *out = made;
    made = NULL;
done:
    json_decref(made);
    return status;
}

/* ---- a game of the caller ---- */

static spar_status read_payoff(const json_t *payoff, const char *where, double **out, size_t *m,
                               size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    double *made = NULL;
    void *memory;
    *m = json_array_size(payoff);
    *n = json_array_size(json_array_get(payoff, 0));
    if (*m < 1 || *m > SPAR_THEORY_MAX_GAME || *n < 1 || *n > SPAR_THEORY_MAX_GAME) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: expected a list of 1 to %d rows of 1 to %d numbers, found %zu of "
                           "%zu",
                           where, SPAR_THEORY_MAX_GAME, SPAR_THEORY_MAX_GAME, *m, *n));
    }
    SPAR_TRY(sp_mem_calloc(&memory, *m * *n, sizeof *made, err));
    made = memory;
    for (size_t i = 0; i < *m; i++) {
        const json_t *row = json_array_get(payoff, i);
        if (json_array_size(row) != *n) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: row %zu: expected %zu numbers, found %zu",
                               where, i + 1, *n, json_array_size(row)));
        }
        for (size_t j = 0; j < *n; j++) {
            const json_t *item = json_array_get(row, j);
            made[i * *n + j] = json_number_value(item);
            if (!json_is_number(item) || !(fabs(made[i * *n + j]) <= 1e100)) {
                SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                                   "%s: row %zu, column %zu: expected a number up to 1e100, found "
                                   "%s",
                                   where, i + 1, j + 1, sp_json_type_name(item)));
            }
        }
    }
    *out = made;
    made = NULL;
done:
    free(made);
    return status;
}

static json_t *list_of(const double *x, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++) {
        json_array_append_new(list, json_real(x[i]));
    }
    return list;
}

spar_status spar_theory_game(const char *path, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    double *matrix = NULL, rows[SPAR_THEORY_MAX_GAME], columns[SPAR_THEORY_MAX_GAME], value;
    json_t *payoff = NULL;
    size_t m, n;
    *out = NULL;
    SPAR_TRY(sp_json_load(&payoff, path, err));
    SPAR_TRY(read_payoff(payoff, path, &matrix, &m, &n, err));
    SPAR_TRY(sp_game_solve(matrix, (int)m, (int)n, rows, columns, &value, err));
    *out =
        json_pack("{s:f, s:o, s:o, s:f}", "value", value, "rows", list_of(rows, m), "columns",
                  list_of(columns, n), "gap", sp_game_gap(matrix, (int)m, (int)n, rows, columns));
    if (!*out) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for the strategies of a game"));
    }
done:
    json_decref(payoff);
    free(matrix);
    return status;
}
