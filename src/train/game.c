/* Matrix games: optimal strategies and self-play dynamics. */
#include "train/game.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "train/tabular.h"

/* The simplex tableau of: maximise sum y, A y <= 1, y >= 0, with A > 0. Columns are y [n], the
 * slacks [m] and the right side; rows are the m constraints and the objective. */
typedef struct tableau {
    double *at; /* [m + 1][width] */
    int *basic; /* [m]: the variable of a row */
    int m, n, width;
} tableau;

static double *row_of(const tableau *t, int i) {
    return t->at + (size_t)i * (size_t)t->width;
}

/* Payoffs moved to [1, 2], which scales the value and leaves the strategies. */
static void fill(tableau *t, const double *payoff, double low, double range) {
    for (int i = 0; i < t->m; i++) {
        double *row = row_of(t, i);
        for (int j = 0; j < t->n; j++) {
            row[j] = 1.0 + (payoff[(size_t)i * (size_t)t->n + (size_t)j] - low) / range;
        }
        row[t->n + i] = 1.0;
        row[t->width - 1] = 1.0;
        t->basic[i] = t->n + i;
    }
    for (int j = 0; j < t->n; j++) {
        row_of(t, t->m)[j] = -1.0;
    }
}

/* Bland: the first variable that gains enters. -1: none does. */
static int entering(const tableau *t) {
    const double *objective = row_of(t, t->m);
    for (int j = 0; j < t->width - 1; j++) {
        if (objective[j] < -1e-12) {
            return j;
        }
    }
    return -1;
}

/* Of the rows that bind first, the one with the lowest variable. -1: unbounded. */
static int leaving(const tableau *t, int column) {
    int best = -1;
    double least = HUGE_VAL;
    for (int i = 0; i < t->m; i++) {
        const double *row = row_of(t, i);
        if (row[column] <= 1e-11) {
            continue;
        }
        const double ratio = row[t->width - 1] / row[column];
        const double slack = 1e-12 * (1.0 + fabs(least));
        const bool tied = best >= 0 && fabs(ratio - least) <= slack;
        if (best < 0 || (!tied && ratio < least) || (tied && t->basic[i] < t->basic[best])) {
            best = i;
            least = ratio;
        }
    }
    return best;
}

static void pivot(tableau *t, int row, int column) {
    double *p = row_of(t, row);
    const double scale = 1.0 / p[column];
    for (int j = 0; j < t->width; j++) {
        p[j] *= scale;
    }
    for (int i = 0; i <= t->m; i++) {
        double *other = row_of(t, i);
        const double factor = other[column];
        if (i == row || factor == 0.0) {
            continue;
        }
        for (int j = 0; j < t->width; j++) {
            other[j] -= factor * p[j];
        }
        other[column] = 0.0;
    }
    t->basic[row] = column;
}

static spar_status maximise(tableau *t, spar_error *err) {
    const int64_t most = 10000 + 100 * ((int64_t)t->m + t->n);
    for (int64_t turn = 0; turn < most; turn++) {
        const int column = entering(t);
        if (column < 0) {
            return SPAR_OK;
        }
        const int row = leaving(t, column);
        if (row < 0) {
            return spar_fail(err, SPAR_INTERNAL,
                             "game of %d by %d: the linear program is unbounded", t->m, t->n);
        }
        pivot(t, row, column);
    }
    return spar_fail(err, SPAR_LIMIT, "game of %d by %d: no optimum after %lld pivots", t->m, t->n,
                     (long long)most);
}

/* To a distribution: rounding may leave a weight just below 0. Returns the sum before. */
static double normalise(int n, double *weights) {
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        weights[i] = fmax(weights[i], 0.0);
        sum += weights[i];
    }
    for (int i = 0; i < n; i++) {
        weights[i] /= sum;
    }
    return sum;
}

spar_status sp_game_solve(const double *payoff, int m, int n, double *rows, double *columns,
                          double *value, spar_error *err) {
    spar_status status = SPAR_OK;
    tableau t = {.m = m, .n = n, .width = n + m + 1};
    double low = payoff[0], high = payoff[0];
    void *memory;
    for (size_t i = 1; i < (size_t)m * (size_t)n; i++) {
        low = fmin(low, payoff[i]);
        high = fmax(high, payoff[i]);
    }
    const double range = high > low ? high - low : 1.0;
    SPAR_TRY(sp_mem_calloc(&memory, ((size_t)m + 1) * (size_t)t.width, sizeof *t.at, err));
    t.at = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)m, sizeof *t.basic, err));
    t.basic = memory;
    fill(&t, payoff, low, range);
    SPAR_TRY(maximise(&t, err));
    for (int j = 0; j < n; j++) {
        columns[j] = 0.0;
    }
    for (int i = 0; i < m; i++) {
        rows[i] = row_of(&t, m)[n + i]; /* the dual solution stands under the slacks */
        if (t.basic[i] < n) {
            columns[t.basic[i]] = row_of(&t, i)[t.width - 1];
        }
    }
    normalise(m, rows);
    *value = low + range * (1.0 / normalise(n, columns) - 1.0);
done:
    free(t.at);
    free(t.basic);
    return status;
}

double sp_game_gap(const double *payoff, int m, int n, const double *rows, const double *columns) {
    double best = -HUGE_VAL, worst = HUGE_VAL;
    for (int i = 0; i < m; i++) {
        double gain = 0.0;
        for (int j = 0; j < n; j++) {
            gain += payoff[(size_t)i * (size_t)n + (size_t)j] * columns[j];
        }
        best = fmax(best, gain);
    }
    for (int j = 0; j < n; j++) {
        double gain = 0.0;
        for (int i = 0; i < m; i++) {
            gain += payoff[(size_t)i * (size_t)n + (size_t)j] * rows[i];
        }
        worst = fmin(worst, gain);
    }
    return best - worst;
}

void sp_game_wins(const double *preference, int n, const double *policy, double *wins) {
    for (int i = 0; i < n; i++) {
        wins[i] = 0.0;
        for (int j = 0; j < n; j++) {
            wins[i] += preference[(size_t)i * (size_t)n + (size_t)j] * policy[j];
        }
    }
}

static void wins_of(const double *preference, int n, const double *logp, double *wins) {
    double policy[SP_TABULAR_MAX];
    for (int i = 0; i < n; i++) {
        policy[i] = exp(logp[i]);
    }
    sp_game_wins(preference, n, policy, wins);
}

void sp_game_win_rates(const double *preference, int n, double *rates, int *best, int *worst) {
    *best = *worst = 0;
    for (int i = 0; i < n; i++) {
        rates[i] = 0.0;
        for (int j = 0; j < n; j++) {
            rates[i] += preference[i * n + j];
        }
        rates[i] /= n;
        *best = rates[i] > rates[*best] ? i : *best;
        *worst = rates[i] < rates[*worst] ? i : *worst;
    }
}

void sp_game_sppo(const double *preference, int n, double eta, double *logp) {
    double wins[SP_TABULAR_MAX];
    wins_of(preference, n, logp, wins);
    for (int i = 0; i < n; i++) {
        logp[i] += eta * wins[i];
    }
    sp_tabular_log_softmax(n, logp, logp);
}

void sp_game_inpo(const double *preference, int n, double eta, double tau, const double *reference,
                  double *logp) {
    double wins[SP_TABULAR_MAX];
    const double pull = tau / eta;
    wins_of(preference, n, logp, wins);
    for (int i = 0; i < n; i++) {
        logp[i] = pull * reference[i] + (1.0 - pull) * logp[i] + wins[i] / eta;
    }
    sp_tabular_log_softmax(n, logp, logp);
}

double sp_game_regularized_residual(const double *preference, int n, double tau,
                                    const double *reference, const double *logp) {
    double target[SP_TABULAR_MAX];
    wins_of(preference, n, logp, target);
    for (int i = 0; i < n; i++) {
        target[i] = reference[i] + target[i] / tau;
    }
    return sp_tabular_distance(n, logp, target);
}

void sp_game_random(uint64_t seed, int n, double *preference) {
    const uint64_t width = (uint64_t)n;
    for (uint64_t i = 0; i < width; i++) {
        preference[i * width + i] = 0.5;
        for (uint64_t j = 0; j < i; j++) {
            const double p = sp_rng_uniform(seed, sp_rng_stream(31, width, 0, 0), i * width + j);
            preference[i * width + j] = p;
            preference[j * width + i] = 1.0 - p;
        }
    }
}
