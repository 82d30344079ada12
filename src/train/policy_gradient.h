/* Objectives on the single tokens of a prompt's responses: clipped policy gradients.
 *
 * The second table beside the losses (loss.h). A row turns the rewards of a prompt's K responses
 * into advantages, weighs each token's probability ratio to the policy that sampled it by its
 * response's advantage, clips, and adds a pull towards the anchor. Where it sees whole responses,
 * the ratio is that of the response. Everything is a function of log-probs and rewards; the result
 * is one weight a token for the fused log-prob backward. docs/math.md, section "Policy gradients".
 * Rows are const and shared by all threads.
 */
#ifndef SP_TRAIN_POLICY_GRADIENT_H
#define SP_TRAIN_POLICY_GRADIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"
#include "train/tunable.h"

/* How rewards become advantages. */
typedef enum sp_advantage {
    SP_ADVANTAGE_SCALED,    /* (r - mean) / (std + 1e-4), std with ddof 1 */
    SP_ADVANTAGE_CENTRED,   /* r - mean */
    SP_ADVANTAGE_LEAVE_OUT, /* r_i - mean of the others' = K / (K - 1) (r_i - mean) */
    SP_ADVANTAGE_WIN_RATE   /* win rate - 1/2 */
} sp_advantage;

/* What the sums over a batch are divided by. */
typedef enum sp_per {
    SP_PER_LENGTH,   /* each response by its tokens, then by the responses of the batch */
    SP_PER_TOKENS,   /* all tokens of the batch */
    SP_PER_CONSTANT, /* a constant, and the responses of the batch */
    SP_PER_RESPONSE  /* the responses of the batch; ratios are of whole responses */
} sp_per;

enum { SP_PG_CLIP, SP_PG_CLIP_HIGH, SP_PG_KL, SP_PG_LAST, SP_PG_PARAMS };

typedef struct sp_policy_gradient {
    const char *name; /* "grpo" */
    const char *citation;
    const sp_tunable *params; /* clip, clip_high, kl, then what is the row's alone */
    sp_advantage advantage;
    sp_per per;
} sp_policy_gradient;

/* One response. Arrays are log-probs by token, [n]. */
typedef struct sp_pg_response {
    const float *policy, *opponent; /* of the policy, and of the one that sampled */
    const float *anchor;            /* read where the pull kl is above 0; else may be NULL */
    float *weights;                 /* out [n]: d loss / d policy */
    int64_t n;                      /* at least 1 */
    double reward, win_rate;
} sp_pg_response;

/* Sizes of the whole batch that a prompt's responses are part of. */
typedef struct sp_pg_batch {
    int64_t responses, tokens;
} sp_pg_batch;

int sp_policy_gradient_count(void);
const sp_policy_gradient *sp_policy_gradient_at(int i);

/* advantages [k]: out. k >= 1. */
void sp_pg_advantages(const sp_policy_gradient *row, const sp_pg_response *y, size_t k,
                      double *advantages);

/* *loss: out, what n of these k responses, from `from` on, add to the batch's loss; its derivatives
 * go to their weights. Of the others only rewards and win rates are read, for the advantages.
 * INVALID for parameters out of bounds, fewer than two responses where advantages compare them,
 * and for numbers that are not finite. */
spar_status sp_pg_eval(const sp_policy_gradient *row, const sp_pg_response *y, size_t k,
                       size_t from, size_t n, const double *params, const sp_pg_batch *batch,
                       double *loss, spar_error *err);

#endif
