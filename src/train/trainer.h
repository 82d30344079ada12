/* Gradient steps on packed batches: SFT, losses on responses, policy gradients.
 *
 * A trainer owns gradients, optimiser state and the training pass of one model. A step takes a list
 * of examples, cuts them into packed micro-batches of at most max_tokens rows, accumulates, clips
 * and updates the f32 weights, then renews the prepared copies. Whatever the objective, what
 * reaches the model is one weight a response token. The result depends on the examples and their
 * order alone, not on threads.
 */
#ifndef SP_TRAIN_TRAINER_H
#define SP_TRAIN_TRAINER_H

#include "model/engine.h"
#include "train/objective.h"
#include "train/optimizer.h"

/* A response to an example's prompt, with what objectives read of it. Arrays are borrowed. */
typedef struct sp_reply {
    const int32_t *ids;
    size_t n;
    double opponent, anchor;                      /* summed log-probs (loss.h) */
    const float *opponent_tokens, *anchor_tokens; /* by token [n], for policy gradients */
    double win_rate, reward;                      /* KTO: good where the reward is above 1/2 */
    const float *kept;   /* log-probs kept from sampling, by token; NULL: none */
    const uint8_t *mask; /* SFT: 1 for a token that is learned [n], at least one; NULL: all are */
} sp_reply;

/* A prompt and its responses, in the order that the objective wants: one for SFT; for KTO the one
 * to learn from and a response to another prompt; for losses as sp_loss says; for policy gradients
 * the best first and the worst last. Arrays are borrowed. */
typedef struct sp_example {
    const int32_t *prompt;
    size_t n_prompt;
    sp_reply *replies;
    size_t n_replies;
} sp_example;

/* Metrics of a step: means over its examples. */
typedef struct sp_step_stats {
    double loss;
    double margin, accuracy;     /* winner over loser, and the share above 0; not for SFT */
    double s_chosen, s_rejected; /* mean s of the winners (the first) and the losers; SFT: the mean
                                  * log-prob of a response */
    double kl;      /* estimate of KL(opponent || policy) per sequence, from the losers, which the
                     * opponent sampled: mean of exp(s_l) - 1 - s_l (the k3 estimator, Schulman 2020) */
    double balance; /* a mixture's load-balancing loss, where it is trained on; not in `loss` */
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
    double balance;       /* weight of a mixture's load-balancing loss; below 0: as the model's
                           * configuration says */
} sp_trainer_options;

typedef struct sp_trainer sp_trainer;

spar_status sp_trainer_create(sp_trainer **out, spar_model *model,
                              const sp_trainer_options *options, spar_error *err);
void sp_trainer_free(sp_trainer *trainer);

/* One optimiser step. KTO: z comes from the second response of each example, scored before the
 * step; in stats margin is then the mean of +-beta (s - z), s_chosen and s_rejected the mean s of
 * the good and the bad ones, and kl is z. */
spar_status sp_trainer_step(sp_trainer *trainer, const sp_example *examples, size_t n,
                            const sp_objective *objective, double lr, sp_step_stats *stats,
                            spar_error *err);

/* Absolute differences, by token, between log-probs kept from sampling and the trainer's own. */
typedef struct sp_logp_gap {
    double sum, max;
    int64_t n;
} sp_logp_gap;

/* Log-probs of every reply of the examples under the model as it is, computed by the pass that
 * sp_trainer_step uses, in the order of examples and replies: sums, one a reply, and tokens, one a
 * token; either may be NULL. gap: out. */
spar_status sp_trainer_score(sp_trainer *trainer, const sp_example *examples, size_t n,
                             double *sums, float *tokens, sp_logp_gap *gap, spar_error *err);

/* Weights, optimiser state and place (stage, step) in one safetensors file, all or nothing. */
spar_status sp_trainer_save(sp_trainer *trainer, const char *path, int64_t stage, int64_t step,
                            spar_error *err);
/* The place that a saved state stands at; stage -1 where there is no file. */
spar_status sp_trainer_state_place(const char *path, int64_t *stage, int64_t *step,
                                   spar_error *err);
spar_status sp_trainer_restore(sp_trainer *trainer, const char *path, spar_error *err);

#endif
