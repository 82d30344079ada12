/* Gradient steps on packed batches: SFT and pairwise losses.
 *
 * A trainer owns gradients, optimiser state and the training pass of one model. A step takes a list
 * of examples, cuts them into packed micro-batches of at most max_tokens rows, accumulates, clips
 * and updates the f32 weights, then renews the prepared copies. The result depends on the examples
 * and their order alone, not on threads.
 */
#ifndef SP_TRAIN_TRAINER_H
#define SP_TRAIN_TRAINER_H

#include "model/engine.h"
#include "train/loss.h"
#include "train/loss_label.h"
#include "train/optimizer.h"

/* One sequence to learn from: a prompt and a response (ids borrowed). */
typedef struct sp_example {
    const int32_t *prompt, *chosen, *rejected; /* rejected NULL for SFT */
    size_t n_prompt, n_chosen, n_rejected;
    double ref_chosen, ref_rejected; /* summed log-probs under the opponent */
    bool good; /* KTO: the label of chosen; rejected is then the response to another prompt */
    const float *kept_chosen, *kept_rejected; /* log-probs kept from sampling, by token; or NULL */
} sp_example;

/* Metrics of a step: means over its examples. */
typedef struct sp_step_stats {
    double loss, margin, accuracy; /* margin beta*Delta and the share of Delta > 0: pairs only */
    double s_chosen, s_rejected;   /* mean s_w and s_l */
    double
        kl; /* estimate of KL(opponent || policy) per sequence, from the rejected responses, which
               the opponent sampled: mean of exp(s_l) - 1 - s_l (the k3 estimator, Schulman 2020) */
    double grad_norm, lr;
    double changed_f32, changed_bf16; /* share of weights whose f32, bf16 value changed */
    int64_t tokens, response_tokens;  /* rows computed; tokens scored */
} sp_step_stats;

typedef struct sp_trainer_options {
    const char *optimizer; /* row of the optimiser table */
    double beta1, beta2, eps, weight_decay, alpha;
    double max_grad_norm; /* 0: no clipping */
    int64_t max_tokens;   /* rows of a micro-batch */
    uint64_t seed;        /* of an adapter's dropout */
    bool recompute;       /* activations again in the backward, instead of keeping them */
    bool sequence_mean;   /* SFT: mean of per-sequence means in place of the token mean */
} sp_trainer_options;

typedef struct sp_trainer sp_trainer;

spar_status sp_trainer_create(sp_trainer **out, spar_model *model,
                              const sp_trainer_options *options, spar_error *err);
void sp_trainer_free(sp_trainer *trainer);

/* One optimiser step. loss NULL: SFT on the chosen responses. */
spar_status sp_trainer_step(sp_trainer *trainer, const sp_example *examples, size_t n,
                            const sp_loss *loss, const double *params, double lr,
                            sp_step_stats *stats, spar_error *err);

/* One step of KTO: chosen is what is learned from, and z comes from rejected, a response to another
 * prompt, scored before the step. In stats margin is the mean of +-beta (s - z), accuracy the share
 * above 0, s_chosen and s_rejected the mean s of the good and the bad ones, and kl is z. */
spar_status sp_trainer_step_labelled(sp_trainer *trainer, const sp_example *examples, size_t n,
                                     const double *params, double lr, sp_step_stats *stats,
                                     spar_error *err);

/* Absolute differences, by token, between log-probs kept from sampling and the trainer's own. */
typedef struct sp_logp_gap {
    double sum, max;
    int64_t n;
} sp_logp_gap;

/* Summed log-probs of both responses of each example under the model as it is, computed by the pass
 * that sp_trainer_step uses: chosen [n], rejected [n] (may be NULL). gap: out. */
spar_status sp_trainer_score(sp_trainer *trainer, const sp_example *examples, size_t n,
                             double *chosen, double *rejected, sp_logp_gap *gap, spar_error *err);

/* Weights, optimiser state and place (stage, step) in one safetensors file, all or nothing. */
spar_status sp_trainer_save(sp_trainer *trainer, const char *path, int64_t stage, int64_t step,
                            spar_error *err);
/* The place that a saved state stands at; stage -1 where there is no file. */
spar_status sp_trainer_state_place(const char *path, int64_t *stage, int64_t *step,
                                   spar_error *err);
spar_status sp_trainer_restore(sp_trainer *trainer, const char *path, spar_error *err);

#endif
