/* Policy gradients. docs/math.md, section "Policy gradients", derives what is written here. */
#include "train/policy_gradient.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

#define CLIP_ROWS(high)                                                                            \
    {"clip", 0.2, 0.0, 1.0, "a ratio below 1 - clip pulls no further down"}, {                     \
        "clip_high", high, 0.0, 1e3, "a ratio above 1 + clip_high pulls no further up"             \
    }
#define KL_ROW(fallback)                                                                           \
    { "kl", fallback, 0.0, 1e3, "pull towards the anchor" }

static const sp_tunable grpo_params[] = {CLIP_ROWS(0.2), KL_ROW(0.0), {0}};
static const sp_tunable dapo_params[] = {CLIP_ROWS(0.28), KL_ROW(0.0), {0}};
static const sp_tunable constant_params[] = {
    CLIP_ROWS(0.2),
    KL_ROW(0.0),
    {"constant", 256.0, 1.0, 1e9, "what sums over a response's tokens are divided by"},
    {0}};
static const sp_tunable nash_params[] = {
    CLIP_ROWS(0.2),
    KL_ROW(0.1),
    {"mixture", 0.5, 0.0, 1.0, "share of the anchor in the geometric mixture played against"},
    {0}};

#define GRPO "GRPO: Shao et al. 2024, arXiv 2402.03300, eq. 3"
#define DAPO "DAPO: Yu et al. 2025, arXiv 2503.14476, eq. 8"
#define DR_GRPO "Dr. GRPO: Liu et al. 2025, arXiv 2503.20783"

static const sp_policy_gradient rows[] = {
    {"grpo", GRPO, grpo_params, SP_ADVANTAGE_SCALED, SP_PER_LENGTH},
    {"grpo_centred", GRPO ", rewards not scaled", grpo_params, SP_ADVANTAGE_CENTRED, SP_PER_LENGTH},
    {"dapo", DAPO, dapo_params, SP_ADVANTAGE_SCALED, SP_PER_TOKENS},
    {"dapo_centred", DAPO ", rewards not scaled", dapo_params, SP_ADVANTAGE_CENTRED, SP_PER_TOKENS},
    {"dr_grpo", DR_GRPO, constant_params, SP_ADVANTAGE_CENTRED, SP_PER_CONSTANT},
    {"dr_grpo_scaled", DR_GRPO ", rewards scaled", constant_params, SP_ADVANTAGE_SCALED,
     SP_PER_CONSTANT},
    {"rloo", "RLOO: Ahmadian et al. 2024, arXiv 2402.14740", grpo_params, SP_ADVANTAGE_LEAVE_OUT,
     SP_PER_RESPONSE},
    {"nash_md", "Nash-MD: Munos et al. 2023, arXiv 2312.00886, section 7", nash_params,
     SP_ADVANTAGE_WIN_RATE, SP_PER_RESPONSE},
};

int sp_policy_gradient_count(void) {
    return (int)(sizeof rows / sizeof rows[0]);
}

const sp_policy_gradient *sp_policy_gradient_at(int i) {
    return &rows[i];
}

static double mean_reward(const sp_pg_response *y, size_t k) {
    double sum = 0.0;
    for (size_t i = 0; i < k; i++) {
        sum += y[i].reward;
    }
    return sum / (double)k;
}

/* Standard deviation with ddof 1; 0 for one response. */
static double deviation(const sp_pg_response *y, size_t k, double mean) {
    double squares = 0.0;
    for (size_t i = 0; i < k; i++) {
        squares += (y[i].reward - mean) * (y[i].reward - mean);
    }
    return k > 1 ? sqrt(squares / (double)(k - 1)) : 0.0;
}

void sp_pg_advantages(const sp_policy_gradient *row, const sp_pg_response *y, size_t k,
                      double *advantages) {
    const double mean = mean_reward(y, k);
    const double scale = row->advantage == SP_ADVANTAGE_SCALED
                             ? 1.0 / (deviation(y, k, mean) + 1e-4)
                         : row->advantage == SP_ADVANTAGE_LEAVE_OUT ? (double)k / ((double)k - 1.0)
                                                                    : 1.0;
    for (size_t i = 0; i < k; i++) {
        advantages[i] = row->advantage == SP_ADVANTAGE_WIN_RATE ? y[i].win_rate - 0.5
                                                                : scale * (y[i].reward - mean);
    }
}

/* -min(ratio A, clip(ratio) A) with ratio = e^shift; *slope: its derivative by shift. e^50 bounds
 * what a ratio can weigh where nothing clips it. */
static double surrogate(double shift, double advantage, const double *params, double *slope) {
    const double ratio = exp(fmin(shift, 50.0));
    const double high = 1.0 + params[SP_PG_CLIP_HIGH], low = 1.0 - params[SP_PG_CLIP];
    const bool clipped = advantage >= 0.0 ? ratio > high : ratio < low;
    *slope = clipped ? 0.0 : -ratio * advantage;
    return clipped ? -advantage * (advantage >= 0.0 ? high : low) : *slope;
}

/* The k3 estimate of KL(policy || anchor) of one token, and its derivative by the policy's
 * log-prob. */
static double pull(double policy, double anchor, double *slope) {
    const double d = fmin(anchor - policy, 50.0), e = exp(d);
    *slope = 1.0 - e;
    return e - d - 1.0;
}

/* Sum over tokens; weights get the derivatives, both times scale. */
static double by_tokens(const sp_pg_response *y, double advantage, const double *params,
                        double scale) {
    double loss = 0.0;
    for (int64_t t = 0; t < y->n; t++) {
        double slope, towards = 0.0;
        loss += surrogate((double)y->policy[t] - (double)y->opponent[t], advantage, params, &slope);
        if (params[SP_PG_KL] > 0.0) {
            loss += params[SP_PG_KL] * pull((double)y->policy[t], (double)y->anchor[t], &towards);
        }
        y->weights[t] = (float)(scale * (slope + params[SP_PG_KL] * towards));
    }
    return scale * loss;
}

static double sum(const float *x, int64_t n) {
    double total = 0.0;
    for (int64_t t = 0; t < n; t++) {
        total += (double)x[t];
    }
    return total;
}

/* The response as one action. The pull is kl/2 (log policy - log anchor)^2, whose derivative has
 * that of KL(policy || anchor) as its mean under the policy. */
static double by_response(const sp_pg_response *y, double advantage, const double *params,
                          double scale) {
    double slope;
    const double policy = sum(y->policy, y->n);
    double loss = surrogate(policy - sum(y->opponent, y->n), advantage, params, &slope);
    if (params[SP_PG_KL] > 0.0) {
        const double away = policy - sum(y->anchor, y->n);
        loss += 0.5 * params[SP_PG_KL] * away * away;
        slope += params[SP_PG_KL] * away;
    }
    for (int64_t t = 0; t < y->n; t++) {
        y->weights[t] = (float)(scale * slope);
    }
    return scale * loss;
}

static double scale_of(const sp_policy_gradient *row, const sp_pg_response *y, const double *params,
                       const sp_pg_batch *batch) {
    const double responses = (double)batch->responses;
    const double divisors[] = {[SP_PER_LENGTH] = responses * (double)y->n,
                               [SP_PER_TOKENS] = (double)batch->tokens,
                               [SP_PER_CONSTANT] = responses * params[SP_PG_LAST],
                               [SP_PER_RESPONSE] = responses};
    return 1.0 / divisors[row->per];
}

static bool has_finite_logps(const sp_pg_response *y, const double *params) {
    return isfinite(sum(y->policy, y->n)) && isfinite(sum(y->opponent, y->n)) &&
           (params[SP_PG_KL] == 0.0 || (y->anchor && isfinite(sum(y->anchor, y->n))));
}

static spar_status check(const sp_policy_gradient *row, const sp_pg_response *y, size_t k,
                         size_t from, size_t n, const double *params, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_tunable_check(row->params, params, row->name, err));
    if (k < 2 && row->advantage != SP_ADVANTAGE_WIN_RATE) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s: expected two responses of a prompt, found %zu",
                           row->name, k));
    }
    for (size_t i = 0; i < k; i++) {
        const bool wins = row->advantage == SP_ADVANTAGE_WIN_RATE;
        const bool asked = i >= from && i < from + n;
        const bool finite = isfinite(wins ? y[i].win_rate : y[i].reward) &&
                            (!asked || has_finite_logps(&y[i], params));
        if (y[i].n < 1 || !finite) {
            SPAR_TRY(spar_fail(err, SPAR_INVALID,
                               "%s: response %zu: expected tokens with finite log-probs and a "
                               "finite %s",
                               row->name, i, wins ? "win rate" : "reward"));
        }
    }
done:
    return status;
}

spar_status sp_pg_eval(const sp_policy_gradient *row, const sp_pg_response *y, size_t k,
                       size_t from, size_t n, const double *params, const sp_pg_batch *batch,
                       double *loss, spar_error *err) {
    spar_status status = SPAR_OK;
    double *advantages = NULL;
    void *memory;
    *loss = 0.0;
    SPAR_TRY(check(row, y, k, from, n, params, err));
    SPAR_TRY(sp_mem_calloc(&memory, k, sizeof *advantages, err));
    advantages = memory;
    sp_pg_advantages(row, y, k, advantages);
    for (size_t i = from; i < from + n; i++) {
        const double scale = scale_of(row, &y[i], params, batch);
        *loss += row->per == SP_PER_RESPONSE ? by_response(&y[i], advantages[i], params, scale)
                                             : by_tokens(&y[i], advantages[i], params, scale);
    }
done:
    free(advantages);
    return status;
}
