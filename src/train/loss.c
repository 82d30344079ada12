/* The loss table. docs/math.md, section "Losses", derives each derivative written here. */
#include "train/loss.h"

#include <math.h>
#include <string.h>

#include "train/loss_math.h"

enum { W = 0, L = 1, THIRD = 2 };

/* s: log policy - log opponent. */
static double shift(const sp_loss_response *y) {
    return y->policy - y->opponent;
}

static double gap(const sp_loss_response *y) {
    return shift(&y[W]) - shift(&y[L]);
}

static double mean_logp(const sp_loss_response *y) {
    return y->policy / (double)y->length;
}

/* A loss l(t) of the margin t = beta * D alone: dt/dpolicy_w = beta = -dt/dpolicy_l. */
static sp_loss_value from_margin(double t, double beta, double loss, double slope, double *d) {
    d[W] = beta * slope;
    d[L] = -beta * slope;
    return (sp_loss_value){.loss = loss, .margin = t};
}

/* -log sigma(t). */
static sp_loss_value logistic(double t, double beta, double *d) {
    return from_margin(t, beta, sp_softplus(-t), -sp_sigmoid(-t), d);
}

/* (excess)^2 of a difference whose weights by winner and loser are 1 / w and 1 / l. */
static sp_loss_value squared(double excess, double margin, double w, double l, double *d) {
    d[W] = 2.0 * excess / w;
    d[L] = -2.0 * excess / l;
    return (sp_loss_value){.loss = excess * excess, .margin = margin};
}

enum { BETA = 0, ETA = 0, LAMBDA = 0, SMOOTHING = 1, ALPHA = 1, GAMMA = 1, TAU = 1 };

#define BETA_ROW(fallback, help)                                                                   \
    { "beta", fallback, 1e-6, 1e6, help }
#define STRENGTH "strength of the pull towards the reference"
#define LIKELIHOOD_ROW                                                                             \
    { "alpha", 1.0, 0.0, 1e3, "weight of the winner's mean negative log-likelihood" }

static const sp_tunable beta_only[] = {BETA_ROW(0.1, STRENGTH), {0}};
static const sp_tunable sppo_params[] = {
    BETA_ROW(0.001, "1 / eta: log-probs move by (win rate - 1/2) / beta"), {0}};
static const sp_tunable ipo_params[] = {BETA_ROW(0.1, "tau: the gap aimed at is 1/(2 beta)"), {0}};
static const sp_tunable dpo_params[] = {
    BETA_ROW(0.1, STRENGTH),
    {"label_smoothing", 0.0, 0.0, 0.5, "assumed share of swapped labels (conservative DPO)"},
    {0}};
static const sp_tunable conservative_params[] = {
    BETA_ROW(0.1, STRENGTH),
    {"label_smoothing", 0.1, 0.0, 0.5, "assumed share of swapped labels"},
    {0}};
static const sp_tunable robust_params[] = {
    BETA_ROW(0.1, STRENGTH),
    {"label_smoothing", 0.1, 0.0, 0.49, "share of swapped labels that is corrected for"},
    {0}};
static const sp_tunable rpo_params[] = {BETA_ROW(0.1, STRENGTH), LIKELIHOOD_ROW, {0}};
static const sp_tunable simpo_params[] = {
    BETA_ROW(2.0, "scale of the difference of mean log-probs"),
    {"gamma", 1.0, 0.0, 1e3, "margin that the difference must reach"},
    {0}};
static const sp_tunable orpo_params[] = {{"lambda", 0.1, 0.0, 1e3, "weight of the odds-ratio term"},
                                         {0}};
static const sp_tunable cpo_params[] = {
    BETA_ROW(0.1, "scale of the difference of log-probs"), LIKELIHOOD_ROW, {0}};
static const sp_tunable t_spin_params[] = {
    BETA_ROW(0.1, "weight of the opponent's response against the anchor's"),
    {"alpha", 1.0, 1e-6, 1e6, "scale of the differences of log-probs"},
    {0}};
static const sp_tunable xpo_params[] = {
    BETA_ROW(0.1, STRENGTH),
    {"alpha", 1e-5, 0.0, 1e3, "weight of the log-prob of the anchor's response, which is lowered"},
    {0}};
static const sp_tunable rebel_params[] = {
    {"eta", 1.0, 1e-6, 1e6, "log-probs move apart by eta times the difference of rewards"}, {0}};
static const sp_tunable inpo_params[] = {
    {"eta", 7.5e-3, 1e-6, 1e6, "inverse step; the gap aimed at is 1/(2 eta)"},
    {"tau", 2.5e-3, 0.0, 1e6, "pull towards the anchor, at most eta"},
    {0}};

static sp_loss_value eval_logistic(const sp_loss_response *y, size_t k, const double *params,
                                   double *d) {
    (void)k;
    return logistic(params[BETA] * gap(y), params[BETA], d);
}

static sp_loss_value eval_hinge(const sp_loss_response *y, size_t k, const double *params,
                                double *d) {
    (void)k;
    const double t = params[BETA] * gap(y);
    return from_margin(t, params[BETA], fmax(0.0, 1.0 - t), t < 1.0 ? -1.0 : 0.0, d);
}

static sp_loss_value eval_linear(const sp_loss_response *y, size_t k, const double *params,
                                 double *d) {
    (void)k;
    const double t = params[BETA] * gap(y);
    return from_margin(t, params[BETA], 1.0 - t, -1.0, d);
}

/* exp(-t), continued by its tangent where t < -30. */
static sp_loss_value eval_exponential(const sp_loss_response *y, size_t k, const double *params,
                                      double *d) {
    (void)k;
    double slope;
    const double t = params[BETA] * gap(y), loss = sp_exp_tangent(-t, &slope);
    return from_margin(t, params[BETA], loss, -slope, d);
}

static sp_loss_value eval_dpo(const sp_loss_response *y, size_t k, const double *params,
                              double *d) {
    (void)k;
    const double keep = 1.0 - params[SMOOTHING], flip = params[SMOOTHING];
    const double t = params[BETA] * gap(y);
    return from_margin(t, params[BETA], keep * sp_softplus(-t) + flip * sp_softplus(t),
                       -keep * sp_sigmoid(-t) + flip * sp_sigmoid(t), d);
}

static sp_loss_value eval_dpo_robust(const sp_loss_response *y, size_t k, const double *params,
                                     double *d) {
    (void)k;
    const double scale = 1.0 / (1.0 - 2.0 * params[SMOOTHING]);
    const double keep = scale * (1.0 - params[SMOOTHING]), flip = scale * params[SMOOTHING];
    const double t = params[BETA] * gap(y);
    return from_margin(t, params[BETA], keep * sp_softplus(-t) - flip * sp_softplus(t),
                       -keep * sp_sigmoid(-t) - flip * sp_sigmoid(t), d);
}

/* v + alpha times the winner's mean negative log-likelihood. */
static sp_loss_value with_likelihood(sp_loss_value v, const sp_loss_response *y, double alpha,
                                     double *d) {
    v.loss -= alpha * mean_logp(&y[W]);
    d[W] -= alpha / (double)y[W].length;
    return v;
}

static sp_loss_value eval_rpo(const sp_loss_response *y, size_t k, const double *params,
                              double *d) {
    return with_likelihood(eval_logistic(y, k, params, d), y, params[ALPHA], d);
}

static sp_loss_value eval_cpo(const sp_loss_response *y, size_t k, const double *params,
                              double *d) {
    (void)k;
    const double t = params[BETA] * (y[W].policy - y[L].policy);
    return with_likelihood(logistic(t, params[BETA], d), y, params[ALPHA], d);
}

static sp_loss_value eval_ipo(const sp_loss_response *y, size_t k, const double *params,
                              double *d) {
    (void)k;
    return squared(gap(y) - 0.5 / params[BETA], params[BETA] * gap(y), 1.0, 1.0, d);
}

static sp_loss_value eval_ipo_mean(const sp_loss_response *y, size_t k, const double *params,
                                   double *d) {
    (void)k;
    const double w = (double)y[W].length, l = (double)y[L].length;
    const double mean_gap = shift(&y[W]) / w - shift(&y[L]) / l;
    return squared(mean_gap - 0.5 / params[BETA], params[BETA] * mean_gap, w, l, d);
}

static sp_loss_value eval_sppo_hard(const sp_loss_response *y, size_t k, const double *params,
                                    double *d) {
    (void)k;
    const double target = 0.5 / params[BETA];
    const double a = shift(&y[W]) - target, b = shift(&y[L]) + target;
    d[W] = 2.0 * a;
    d[L] = 2.0 * b;
    return (sp_loss_value){.loss = a * a + b * b, .margin = params[BETA] * gap(y)};
}

/* 1/2 sum_i (s_i - (P_i - 1/2) / beta)^2. */
static sp_loss_value eval_sppo(const sp_loss_response *y, size_t k, const double *params,
                               double *d) {
    sp_loss_value v = {.margin = params[BETA] * (shift(&y[0]) - shift(&y[k - 1]))};
    for (size_t i = 0; i < k; i++) {
        d[i] = shift(&y[i]) - (y[i].win_rate - 0.5) / params[BETA];
        v.loss += 0.5 * d[i] * d[i];
    }
    return v;
}

static sp_loss_value eval_simpo(const sp_loss_response *y, size_t k, const double *params,
                                double *d) {
    (void)k;
    const double margin = params[BETA] * (mean_logp(&y[W]) - mean_logp(&y[L]));
    const double t = margin - params[GAMMA], slope = -params[BETA] * sp_sigmoid(-t);
    d[W] = slope / (double)y[W].length;
    d[L] = -slope / (double)y[L].length;
    return (sp_loss_value){.loss = sp_softplus(-t), .margin = margin};
}

/* log(p / (1 - p)) of the mean token log-prob m = log p, and its slope 1 / (1 - p). Within 2^-20 of
 * certainty, where f32 log-probs have no digits left, the tangent goes on. */
static double log_odds(double mean, double *slope) {
    double m = fmin(mean, -0x1p-20);
    double rest = -expm1(m);
    *slope = 1.0 / rest;
    return m - log(rest) + *slope * (mean - m);
}

static sp_loss_value eval_orpo(const sp_loss_response *y, size_t k, const double *params,
                               double *d) {
    (void)k;
    double slope_w, slope_l;
    const double t = log_odds(mean_logp(&y[W]), &slope_w) - log_odds(mean_logp(&y[L]), &slope_l);
    const double slope = -params[LAMBDA] * sp_sigmoid(-t);
    d[W] = (slope * slope_w - 1.0) / (double)y[W].length;
    d[L] = -slope * slope_l / (double)y[L].length;
    return (sp_loss_value){.loss = params[LAMBDA] * sp_softplus(-t) - mean_logp(&y[W]),
                           .margin = params[LAMBDA] * t};
}

/* l(alpha (log y - log y')) + beta l(alpha (log y' - log y0)), l logistic; the second term where
 * there is a y0. */
static sp_loss_value eval_t_spin(const sp_loss_response *y, size_t k, const double *params,
                                 double *d) {
    const double alpha = params[ALPHA];
    sp_loss_value v = logistic(alpha * (y[W].policy - y[L].policy), alpha, d);
    if (k > THIRD) {
        const double t = alpha * (y[L].policy - y[THIRD].policy);
        const double slope = -params[BETA] * alpha * sp_sigmoid(-t);
        v.loss += params[BETA] * sp_softplus(-t);
        d[L] += slope;
        d[THIRD] = -slope;
    }
    return v;
}

/* DPO against the anchor + alpha log y0, y0 a response of the anchor's. */
static sp_loss_value eval_xpo(const sp_loss_response *y, size_t k, const double *params,
                              double *d) {
    (void)k;
    const double t = params[BETA] * ((y[W].policy - y[W].anchor) - (y[L].policy - y[L].anchor));
    sp_loss_value v = logistic(t, params[BETA], d);
    v.loss += params[ALPHA] * y[THIRD].policy;
    d[THIRD] = params[ALPHA];
    return v;
}

static sp_loss_value eval_rebel(const sp_loss_response *y, size_t k, const double *params,
                                double *d) {
    (void)k;
    const double t = gap(y) / params[ETA];
    return squared(t - (y[W].reward - y[L].reward), t, params[ETA], params[ETA], d);
}

static sp_loss_value eval_inpo(const sp_loss_response *y, size_t k, const double *params,
                               double *d) {
    (void)k;
    const double share = params[TAU] / params[ETA];
    const double h = (y[W].policy - y[L].policy) - share * (y[W].anchor - y[L].anchor) -
                     (1.0 - share) * (y[W].opponent - y[L].opponent);
    return squared(h - 0.5 / params[ETA], params[ETA] * h, 1.0, 1.0, d);
}

#define SPIN_PAPER "SPIN: Chen et al. 2024, arXiv 2401.01335, eq. 4.7"
#define SPPO_PAPER "SPPO: Wu et al. 2024, arXiv 2405.00675, eq. 4.4"
#define IPO_PAPER "IPO: Azar et al. 2023, arXiv 2310.12036"
#define DPO_PAPER "DPO: Rafailov et al. 2023, arXiv 2305.18290, eq. 7"
#define NO_REFERENCE 2, 2, 0
#define REFERENCE 2, 2, SP_READS_OPPONENT
#define ANY_NUMBER 1, SIZE_MAX

static const sp_loss losses[] = {
    {"spin", SPIN_PAPER ", logistic", beta_only, REFERENCE, eval_logistic},
    {"spin_hinge", SPIN_PAPER ", hinge", beta_only, REFERENCE, eval_hinge},
    {"spin_linear", SPIN_PAPER ", linear (1 - t)", beta_only, REFERENCE, eval_linear},
    {"spin_exponential", SPIN_PAPER ", exponential", beta_only, REFERENCE, eval_exponential},
    {"t_spin", "T-SPIN: triplets of real, generated and initial response, without a reference",
     t_spin_params, 2, 3, 0, eval_t_spin},
    {"dpo", DPO_PAPER "; smoothing: Mitchell 2023", dpo_params, REFERENCE, eval_dpo},
    {"dpo_conservative", DPO_PAPER ", with labels in doubt: Mitchell 2023", conservative_params,
     REFERENCE, eval_dpo},
    {"dpo_robust", "robust DPO: Chowdhury et al. 2024, arXiv 2403.00409", robust_params, REFERENCE,
     eval_dpo_robust},
    {"hinge", "SLiC-HF: Zhao et al. 2023, arXiv 2305.10425; as in RSO, arXiv 2309.06657, eq. 11",
     beta_only, REFERENCE, eval_hinge},
    {"rpo", "iterative reasoning preference optimisation: Pang et al. 2024, arXiv 2404.19733",
     rpo_params, REFERENCE, eval_rpo},
    {"ipo", IPO_PAPER ", eq. 17; summed log-probs", ipo_params, REFERENCE, eval_ipo},
    {"ipo_mean", IPO_PAPER "; log-probs averaged per token", ipo_params, REFERENCE, eval_ipo_mean},
    {"sppo", SPPO_PAPER ", on win rates", sppo_params, ANY_NUMBER,
     SP_READS_OPPONENT | SP_READS_WIN_RATE, eval_sppo},
    {"sppo_hard", SPPO_PAPER ", with hard labels", sppo_params, REFERENCE, eval_sppo_hard},
    {"rebel", "REBEL: Gao et al. 2024, arXiv 2404.16767, eq. 1", rebel_params, 2, 2,
     SP_READS_OPPONENT | SP_READS_REWARD, eval_rebel},
    {"inpo", "INPO: Zhang et al. 2024, arXiv 2407.00617", inpo_params, 2, 2,
     SP_READS_OPPONENT | SP_READS_ANCHOR, eval_inpo},
    {"xpo", "XPO: Xie et al. 2024, arXiv 2405.21046, algorithm 1", xpo_params, 3, 3,
     SP_READS_ANCHOR, eval_xpo},
    {"simpo", "SimPO: Meng et al. 2024, arXiv 2405.14734, eq. 6", simpo_params, NO_REFERENCE,
     eval_simpo},
    {"orpo", "ORPO: Hong et al. 2024, arXiv 2403.07691, eq. 6 and 7", orpo_params, NO_REFERENCE,
     eval_orpo},
    {"cpo", "CPO: Xu et al. 2024, arXiv 2401.08417, eq. 4 and 5", cpo_params, NO_REFERENCE,
     eval_cpo},
};

int sp_loss_count(void) {
    return (int)(sizeof losses / sizeof losses[0]);
}

const sp_loss *sp_loss_at(int i) {
    return &losses[i];
}

static const char *loss_name_at(int i) {
    return losses[i].name;
}

spar_status sp_loss_find(const char *name, const sp_loss **out, spar_error *err) {
    for (int i = 0; i < sp_loss_count(); i++) {
        if (!strcmp(losses[i].name, name)) {
            *out = &losses[i];
            return SPAR_OK;
        }
    }
    return spar_fail(err, SPAR_INVALID, "unknown loss '%s'; the nearest is '%s'", name,
                     sp_tunable_nearest(loss_name_at, sp_loss_count(), name));
}

size_t sp_loss_loser(const sp_loss *loss, size_t k) {
    return loss->most == SIZE_MAX ? k - 1 : L;
}

static spar_status check_response(const sp_loss *loss, const sp_loss_response *y, size_t i,
                                  spar_error *err) {
    const struct {
        const char *name;
        double value;
        bool read;
    } numbers[] = {{"policy log-prob", y->policy, true},
                   {"opponent log-prob", y->opponent, loss->reads & SP_READS_OPPONENT},
                   {"anchor log-prob", y->anchor, loss->reads & SP_READS_ANCHOR},
                   {"win rate", y->win_rate, loss->reads & SP_READS_WIN_RATE},
                   {"reward", y->reward, loss->reads & SP_READS_REWARD}};
    for (size_t n = 0; n < sizeof numbers / sizeof numbers[0]; n++) {
        if (numbers[n].read && !isfinite(numbers[n].value)) {
            return spar_fail(err, SPAR_INVALID,
                             "loss %s: response %zu: expected a finite %s, found %g", loss->name, i,
                             numbers[n].name, numbers[n].value);
        }
    }
    if (y->length < 1) {
        return spar_fail(err, SPAR_INVALID,
                         "loss %s: response %zu: expected at least one token, found a length of "
                         "%lld",
                         loss->name, i, (long long)y->length);
    }
    return SPAR_OK;
}

spar_status sp_loss_eval(const sp_loss *loss, const sp_loss_response *y, size_t k,
                         const double *params, double *d, sp_loss_value *out, spar_error *err) {
    spar_status status = SPAR_OK;
    if (k < loss->fewest || k > loss->most) {
        return spar_fail(err, SPAR_INVALID, "loss %s: expected %zu responses%s, found %zu",
                         loss->name, loss->fewest, loss->most > loss->fewest ? " or more" : "", k);
    }
    SPAR_TRY(sp_tunable_check(loss->params, params, loss->name, err));
    for (size_t i = 0; i < k; i++) {
        SPAR_TRY(check_response(loss, &y[i], i, err));
    }
    *out = loss->eval(y, k, params, d);
done:
    return status;
}

static double token_weight(sp_sft_mean mean, int64_t length, int64_t batch_tokens,
                           int64_t batch_sequences) {
    if (length == 0) {
        return 0.0;
    }
    if (mean == SP_SFT_MEAN_TOKENS) {
        return 1.0 / (double)batch_tokens;
    }
    return 1.0 / ((double)batch_sequences * (double)length);
}

spar_status sp_sft_weights(sp_sft_mean mean, const int64_t *lengths, int64_t n,
                           int64_t batch_tokens, int64_t batch_sequences, double *weight,
                           spar_error *err) {
    int64_t tokens_left = batch_tokens, sequences_left = batch_sequences;
    if (batch_tokens < 1 || batch_sequences < 1) {
        return spar_fail(err, SPAR_INVALID, "sft: a batch without response tokens has no mean");
    }
    for (int64_t i = 0; i < n; i++) {
        sequences_left -= lengths[i] > 0;
        if (lengths[i] < 0 || lengths[i] > tokens_left || sequences_left < 0) {
            return spar_fail(err, SPAR_INVALID,
                             "sft: sequence %lld of %lld response tokens does not fit a batch of "
                             "%lld tokens in %lld sequences",
                             (long long)i, (long long)lengths[i], (long long)batch_tokens,
                             (long long)batch_sequences);
        }
        tokens_left -= lengths[i];
        weight[i] = token_weight(mean, lengths[i], batch_tokens, batch_sequences);
    }
    return SPAR_OK;
}
