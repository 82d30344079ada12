/* Losses on pairs of responses: the loss table, and the token weights of supervised fine-tuning.
 *
 * A row computes, in double arithmetic and for each pair by itself, the loss and its derivatives
 * with respect to the two summed log-probabilities of the policy. It knows no model: the trainer
 * turns d loss / d log-prob into one weight a token for the fused log-prob backward. Reference
 * log-probs are constants. docs/math.md derives every row.
 *
 * Notation of the comments: s_w = policy_w - ref_w, s_l = policy_l - ref_l, D = s_w - s_l,
 * sigma the logistic function. w is the winner (chosen, real), l the loser (rejected, generated).
 * Rows are const and shared by all threads.
 */
#ifndef SP_TRAIN_LOSS_H
#define SP_TRAIN_LOSS_H

#include <stdbool.h>
#include <stdint.h>

#include "spar/status.h"
#include "train/tunable.h"

typedef struct sp_pair_logps {
    double policy_w, policy_l; /* log pi(y|x) summed over the response's tokens */
    double ref_w, ref_l;       /* the same under the reference; ignored by rows that need none */
    int64_t len_w, len_l;      /* tokens of each response, >= 1 */
} sp_pair_logps;

typedef struct sp_pair_grad {
    double loss;
    double d_policy_w, d_policy_l; /* d loss / d policy_w and d loss / d policy_l */
    double margin;                 /* implicit reward margin: beta * D, as the row defines D */
} sp_pair_grad;

enum { SP_LOSS_MAX_PARAMS = 4 };

typedef struct sp_loss {
    const char *name;         /* "spin" */
    const char *citation;     /* paper and equation */
    const sp_tunable *params; /* at most SP_LOSS_MAX_PARAMS, in the order of eval's params */
    bool needs_reference;     /* reads ref_w and ref_l */
    /* out[i] for each pair i < n; out may not overlap pairs. Finite for finite log-probs of
     * magnitude up to 1e6 and params within their bounds. */
    void (*eval)(const sp_pair_logps *pairs, int64_t n, const double *params, sp_pair_grad *out);
} sp_loss;

int sp_loss_count(void);
const sp_loss *sp_loss_at(int i); /* 0 <= i < sp_loss_count() */
/* The row called name; an unknown name is refused with the nearest known one. */
spar_status sp_loss_find(const char *name, const sp_loss **out, spar_error *err);

/* Means over n pairs. */
typedef struct sp_loss_metrics {
    int64_t n;
    double loss;
    double margin;   /* mean implicit reward margin */
    double accuracy; /* share of pairs with margin > 0; a tie is no win */
    double s_w, s_l; /* mean policy - reference log-probs, apart: falling s_w is worth seeing */
} sp_loss_metrics;

/* Evaluate n pairs that are part of a batch of batch_n >= n pairs (gradient accumulation). The
 * derivatives in out are divided by batch_n, so that the sum over the batch is the gradient of the
 * batch's mean loss; out[i].loss and margin stay per pair. metrics (may be NULL) are the means over
 * these n pairs. INVALID when a parameter is out of bounds, a log-prob is not finite or a length is
 * below 1: then out is unspecified. */
spar_status sp_loss_batch(const sp_loss *loss, const sp_pair_logps *pairs, int64_t n,
                          const double *params, int64_t batch_n, sp_pair_grad *out,
                          sp_loss_metrics *metrics, spar_error *err);

/* *into = the means over both sets of pairs. Start from a zeroed struct. */
void sp_loss_metrics_merge(sp_loss_metrics *into, const sp_loss_metrics *part);

/* Supervised fine-tuning: loss = sum_i weight[i] * sum_t -log pi(y_it | ...). */
typedef enum sp_sft_mean {
    SP_SFT_MEAN_TOKENS,   /* mean over all response tokens of the batch */
    SP_SFT_MEAN_SEQUENCES /* mean over sequences of each one's mean over its tokens */
} sp_sft_mean;

/* weight[i], the weight of each response token of sequence i, for n sequences that are part of a
 * batch of batch_sequences non-empty sequences and batch_tokens response tokens in all. A sequence
 * without response tokens gets weight 0 and is not counted by batch_sequences. INVALID for negative
 * lengths and for totals smaller than these n sequences hold, or zero. */
spar_status sp_sft_weights(sp_sft_mean mean, const int64_t *lengths, int64_t n,
                           int64_t batch_tokens, int64_t batch_sequences, double *weight,
                           spar_error *err);

#endif
