/* The loss table. docs/math.md, section "Losses", derives each derivative written here. */
#include "train/loss.h"

#include <math.h>
#include <string.h>

#include "train/loss_math.h"

static double reward_gap(const sp_pair_logps *p) {
    return (p->policy_w - p->ref_w) - (p->policy_l - p->ref_l);
}

/* A loss l(t) of the margin t = beta * D alone: dt/dpolicy_w = beta = -dt/dpolicy_l. */
static sp_pair_grad from_margin(double t, double beta, double loss, double slope) {
    return (sp_pair_grad){
        .loss = loss, .d_policy_w = beta * slope, .d_policy_l = -beta * slope, .margin = t};
}

enum { BETA = 0, SMOOTHING = 1, ALPHA = 1, GAMMA = 1 };

#define BETA_ROW(fallback, help)                                                                   \
    { "beta", fallback, 1e-6, 1e6, help }
#define STRENGTH "strength of the pull towards the reference"

static const sp_tunable beta_only[] = {BETA_ROW(0.1, STRENGTH), {0}};
static const sp_tunable sppo_params[] = {BETA_ROW(0.001, "1 / eta: the targets are +-1/(2 beta)"),
                                         {0}};
static const sp_tunable ipo_params[] = {BETA_ROW(0.1, "tau: the gap aimed at is 1/(2 beta)"), {0}};
static const sp_tunable dpo_params[] = {
    BETA_ROW(0.1, STRENGTH),
    {"label_smoothing", 0.0, 0.0, 0.5, "assumed share of swapped labels (conservative DPO)"},
    {0}};
static const sp_tunable robust_params[] = {
    BETA_ROW(0.1, STRENGTH),
    {"label_smoothing", 0.1, 0.0, 0.49, "share of swapped labels that is corrected for"},
    {0}};
static const sp_tunable rpo_params[] = {
    BETA_ROW(0.1, STRENGTH),
    {"alpha", 1.0, 0.0, 1e3, "weight of the winner's mean negative log-likelihood"},
    {0}};
static const sp_tunable simpo_params[] = {
    BETA_ROW(2.0, "scale of the difference of mean log-probs"),
    {"gamma", 1.0, 0.0, 1e3, "margin that the difference must reach"},
    {0}};
static const sp_tunable orpo_params[] = {{"lambda", 0.1, 0.0, 1e3, "weight of the odds-ratio term"},
                                         {0}};
static const sp_tunable cpo_params[] = {
    BETA_ROW(0.1, "scale of the difference of log-probs"),
    {"alpha", 1.0, 0.0, 1e3, "weight of the winner's mean negative log-likelihood"},
    {0}};

static void eval_logistic(const sp_pair_logps *pairs, int64_t n, const double *params,
                          sp_pair_grad *out) {
    for (int64_t i = 0; i < n; i++) {
        double t = params[BETA] * reward_gap(&pairs[i]);
        out[i] = from_margin(t, params[BETA], sp_softplus(-t), -sp_sigmoid(-t));
    }
}

static void eval_hinge(const sp_pair_logps *pairs, int64_t n, const double *params,
                       sp_pair_grad *out) {
    for (int64_t i = 0; i < n; i++) {
        double t = params[BETA] * reward_gap(&pairs[i]);
        out[i] = from_margin(t, params[BETA], fmax(0.0, 1.0 - t), t < 1.0 ? -1.0 : 0.0);
    }
}

static void eval_linear(const sp_pair_logps *pairs, int64_t n, const double *params,
                        sp_pair_grad *out) {
    for (int64_t i = 0; i < n; i++) {
        double t = params[BETA] * reward_gap(&pairs[i]);
        out[i] = from_margin(t, params[BETA], 1.0 - t, -1.0);
    }
}

/* exp(-t), continued by its tangent where t < -30. */
static void eval_exponential(const sp_pair_logps *pairs, int64_t n, const double *params,
                             sp_pair_grad *out) {
    for (int64_t i = 0; i < n; i++) {
        double slope, t = params[BETA] * reward_gap(&pairs[i]);
        double loss = sp_exp_tangent(-t, &slope);
        out[i] = from_margin(t, params[BETA], loss, -slope);
    }
}

static void eval_dpo(const sp_pair_logps *pairs, int64_t n, const double *params,
                     sp_pair_grad *out) {
    double keep = 1.0 - params[SMOOTHING], flip = params[SMOOTHING];
    for (int64_t i = 0; i < n; i++) {
        double t = params[BETA] * reward_gap(&pairs[i]);
        out[i] = from_margin(t, params[BETA], keep * sp_softplus(-t) + flip * sp_softplus(t),
                             -keep * sp_sigmoid(-t) + flip * sp_sigmoid(t));
    }
}

static void eval_dpo_robust(const sp_pair_logps *pairs, int64_t n, const double *params,
                            sp_pair_grad *out) {
    double scale = 1.0 / (1.0 - 2.0 * params[SMOOTHING]);
    double keep = scale * (1.0 - params[SMOOTHING]), flip = scale * params[SMOOTHING];
    for (int64_t i = 0; i < n; i++) {
        double t = params[BETA] * reward_gap(&pairs[i]);
        out[i] = from_margin(t, params[BETA], keep * sp_softplus(-t) - flip * sp_softplus(t),
                             -keep * sp_sigmoid(-t) - flip * sp_sigmoid(t));
    }
}

/* out += alpha times the winner's mean negative log-likelihood. */
static void add_likelihood(const sp_pair_logps *pairs, int64_t n, double alpha, sp_pair_grad *out) {
    for (int64_t i = 0; i < n; i++) {
        double weight = alpha / (double)pairs[i].len_w;
        out[i].loss -= weight * pairs[i].policy_w;
        out[i].d_policy_w -= weight;
    }
}

static void eval_rpo(const sp_pair_logps *pairs, int64_t n, const double *params,
                     sp_pair_grad *out) {
    eval_logistic(pairs, n, params, out);
    add_likelihood(pairs, n, params[ALPHA], out);
}

static void eval_cpo(const sp_pair_logps *pairs, int64_t n, const double *params,
                     sp_pair_grad *out) {
    for (int64_t i = 0; i < n; i++) {
        double t = params[BETA] * (pairs[i].policy_w - pairs[i].policy_l);
        out[i] = from_margin(t, params[BETA], sp_softplus(-t), -sp_sigmoid(-t));
    }
    add_likelihood(pairs, n, params[ALPHA], out);
}

static void eval_ipo(const sp_pair_logps *pairs, int64_t n, const double *params,
                     sp_pair_grad *out) {
    for (int64_t i = 0; i < n; i++) {
        double gap = reward_gap(&pairs[i]), excess = gap - 0.5 / params[BETA];
        out[i] = (sp_pair_grad){.loss = excess * excess,
                                .d_policy_w = 2.0 * excess,
                                .d_policy_l = -2.0 * excess,
                                .margin = params[BETA] * gap};
    }
}

static void eval_ipo_mean(const sp_pair_logps *pairs, int64_t n, const double *params,
                          sp_pair_grad *out) {
    for (int64_t i = 0; i < n; i++) {
        const sp_pair_logps *p = &pairs[i];
        double len_w = (double)p->len_w, len_l = (double)p->len_l;
        double gap = (p->policy_w - p->ref_w) / len_w - (p->policy_l - p->ref_l) / len_l;
        double excess = gap - 0.5 / params[BETA];
        out[i] = (sp_pair_grad){.loss = excess * excess,
                                .d_policy_w = 2.0 * excess / len_w,
                                .d_policy_l = -2.0 * excess / len_l,
                                .margin = params[BETA] * gap};
    }
}

static void eval_sppo_hard(const sp_pair_logps *pairs, int64_t n, const double *params,
                           sp_pair_grad *out) {
    double target = 0.5 / params[BETA];
    for (int64_t i = 0; i < n; i++) {
        const sp_pair_logps *p = &pairs[i];
        double a = (p->policy_w - p->ref_w) - target, b = (p->policy_l - p->ref_l) + target;
        out[i] = (sp_pair_grad){.loss = a * a + b * b,
                                .d_policy_w = 2.0 * a,
                                .d_policy_l = 2.0 * b,
                                .margin = params[BETA] * reward_gap(p)};
    }
}

static void eval_simpo(const sp_pair_logps *pairs, int64_t n, const double *params,
                       sp_pair_grad *out) {
    for (int64_t i = 0; i < n; i++) {
        const sp_pair_logps *p = &pairs[i];
        double len_w = (double)p->len_w, len_l = (double)p->len_l;
        double margin = params[BETA] * (p->policy_w / len_w - p->policy_l / len_l);
        double t = margin - params[GAMMA], slope = -params[BETA] * sp_sigmoid(-t);
        out[i] = (sp_pair_grad){.loss = sp_softplus(-t),
                                .d_policy_w = slope / len_w,
                                .d_policy_l = -slope / len_l,
                                .margin = margin};
    }
}

/* log(p / (1 - p)) of the mean token log-prob m = log p, and its slope 1 / (1 - p). Within 2^-20 of
 * certainty, where f32 log-probs have no digits left, the tangent goes on. */
static double log_odds(double mean, double *slope) {
    double m = fmin(mean, -0x1p-20);
    double rest = -expm1(m);
    *slope = 1.0 / rest;
    return m - log(rest) + *slope * (mean - m);
}

static void eval_orpo(const sp_pair_logps *pairs, int64_t n, const double *params,
                      sp_pair_grad *out) {
    double lambda = params[0];
    for (int64_t i = 0; i < n; i++) {
        const sp_pair_logps *p = &pairs[i];
        double len_w = (double)p->len_w, len_l = (double)p->len_l, slope_w, slope_l;
        double t =
            log_odds(p->policy_w / len_w, &slope_w) - log_odds(p->policy_l / len_l, &slope_l);
        double slope = -lambda * sp_sigmoid(-t);
        out[i] = (sp_pair_grad){.loss = lambda * sp_softplus(-t) - p->policy_w / len_w,
                                .d_policy_w = (slope * slope_w - 1.0) / len_w,
                                .d_policy_l = -slope * slope_l / len_l,
                                .margin = lambda * t};
    }
}

#define SPIN_PAPER "SPIN: Chen et al. 2024, arXiv 2401.01335, eq. 4.7"

static const sp_loss losses[] = {
    {"spin", SPIN_PAPER ", logistic", beta_only, true, eval_logistic},
    {"spin_hinge", SPIN_PAPER ", hinge", beta_only, true, eval_hinge},
    {"spin_linear", SPIN_PAPER ", linear (1 - t)", beta_only, true, eval_linear},
    {"spin_exponential", SPIN_PAPER ", exponential", beta_only, true, eval_exponential},
    {"dpo", "DPO: Rafailov et al. 2023, arXiv 2305.18290, eq. 7; smoothing: Mitchell 2023",
     dpo_params, true, eval_dpo},
    {"dpo_robust", "robust DPO: Chowdhury et al. 2024, arXiv 2403.00409", robust_params, true,
     eval_dpo_robust},
    {"hinge", "SLiC-HF: Zhao et al. 2023, arXiv 2305.10425; as in RSO, arXiv 2309.06657, eq. 11",
     beta_only, true, eval_hinge},
    {"rpo", "iterative reasoning preference optimisation: Pang et al. 2024, arXiv 2404.19733",
     rpo_params, true, eval_rpo},
    {"ipo", "IPO: Azar et al. 2023, arXiv 2310.12036, eq. 17; summed log-probs", ipo_params, true,
     eval_ipo},
    {"ipo_mean", "IPO: Azar et al. 2023, arXiv 2310.12036; log-probs averaged per token",
     ipo_params, true, eval_ipo_mean},
    {"sppo_hard", "SPPO: Wu et al. 2024, arXiv 2405.00675, eq. 4.4, with hard labels", sppo_params,
     true, eval_sppo_hard},
    {"simpo", "SimPO: Meng et al. 2024, arXiv 2405.14734, eq. 6", simpo_params, false, eval_simpo},
    {"orpo", "ORPO: Hong et al. 2024, arXiv 2403.07691, eq. 6 and 7", orpo_params, false,
     eval_orpo},
    {"cpo", "CPO: Xu et al. 2024, arXiv 2401.08417, eq. 4 and 5", cpo_params, false, eval_cpo},
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

static spar_status check_pair(const sp_loss *loss, const sp_pair_logps *p, int64_t i,
                              spar_error *err) {
    if (!isfinite(p->policy_w) || !isfinite(p->policy_l)) {
        return spar_fail(err, SPAR_INVALID,
                         "loss %s: pair %lld: expected finite policy log-probs, found %g and %g",
                         loss->name, (long long)i, p->policy_w, p->policy_l);
    }
    if (loss->needs_reference && (!isfinite(p->ref_w) || !isfinite(p->ref_l))) {
        return spar_fail(err, SPAR_INVALID,
                         "loss %s: pair %lld: expected finite reference log-probs, found %g and %g",
                         loss->name, (long long)i, p->ref_w, p->ref_l);
    }
    if (p->len_w < 1 || p->len_l < 1) {
        return spar_fail(err, SPAR_INVALID,
                         "loss %s: pair %lld: expected responses of at least one token, found "
                         "lengths %lld and %lld",
                         loss->name, (long long)i, (long long)p->len_w, (long long)p->len_l);
    }
    return SPAR_OK;
}

static sp_loss_metrics measure(const sp_pair_logps *pairs, int64_t n, const sp_pair_grad *out) {
    sp_loss_metrics m = {.n = n};
    for (int64_t i = 0; i < n; i++) {
        m.loss += out[i].loss;
        m.margin += out[i].margin;
        m.accuracy += out[i].margin > 0.0 ? 1.0 : 0.0;
        m.s_w += pairs[i].policy_w - pairs[i].ref_w;
        m.s_l += pairs[i].policy_l - pairs[i].ref_l;
    }
    double count = n ? (double)n : 1.0;
    m.loss /= count;
    m.margin /= count;
    m.accuracy /= count;
    m.s_w /= count;
    m.s_l /= count;
    return m;
}

spar_status sp_loss_batch(const sp_loss *loss, const sp_pair_logps *pairs, int64_t n,
                          const double *params, int64_t batch_n, sp_pair_grad *out,
                          sp_loss_metrics *metrics, spar_error *err) {
    spar_status status = SPAR_OK;
    if (n < 0 || batch_n < n || batch_n < 1) {
        return spar_fail(err, SPAR_INVALID, "loss %s: %lld pairs of a batch of %lld", loss->name,
                         (long long)n, (long long)batch_n);
    }
    SPAR_TRY(sp_tunable_check(loss->params, params, loss->name, err));
    for (int64_t i = 0; i < n; i++) {
        SPAR_TRY(check_pair(loss, &pairs[i], i, err));
    }
    loss->eval(pairs, n, params, out);
    for (int64_t i = 0; i < n; i++) {
        out[i].d_policy_w /= (double)batch_n;
        out[i].d_policy_l /= (double)batch_n;
    }
    if (metrics) {
        *metrics = measure(pairs, n, out);
    }
done:
    return status;
}

static void merge_mean(double *into, double part, double share) {
    *into += (part - *into) * share;
}

void sp_loss_metrics_merge(sp_loss_metrics *into, const sp_loss_metrics *part) {
    into->n += part->n;
    if (part->n == 0) {
        return;
    }
    double share = (double)part->n / (double)into->n;
    merge_mean(&into->loss, part->loss, share);
    merge_mean(&into->margin, part->margin, share);
    merge_mean(&into->accuracy, part->accuracy, share);
    merge_mean(&into->s_w, part->s_w, share);
    merge_mean(&into->s_l, part->s_l, share);
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
