/* Losses on the log-probs of whole responses: the loss table, and the token weights of supervised
 * fine-tuning.
 *
 * A row computes, in double arithmetic and for one prompt's responses by themselves, the loss and
 * its derivatives with respect to the summed log-probability of each response under the policy. It
 * knows no model: the trainer turns d loss / d log-prob into one weight a token for the fused
 * log-prob backward. The log-probs of opponent and anchor are constants. docs/math.md derives every
 * row. Objectives that see single tokens are in policy_gradient.h.
 *
 * Notation of the comments: w is the winner (chosen, real), l the loser (rejected, generated), s_w
 * and s_l their log policy - log opponent, D = s_w - s_l, sigma the logistic function. Rows are
 * const and shared by all threads.
 */
#ifndef SP_TRAIN_LOSS_H
#define SP_TRAIN_LOSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"
#include "train/tunable.h"

/* One response as a loss sees it. Log-probs are summed over its tokens, the end of the turn
 * included. What a row does not read may be anything. */
typedef struct sp_loss_response {
    double policy;
    double opponent; /* the policy as it stood when the iteration began; offline: the reference */
    double anchor;   /* a reference that stays: the model that the arm began from */
    double win_rate; /* mean probability of beating the prompt's responses, itself as 1/2 */
    double reward;
    int64_t length; /* tokens, >= 1 */
} sp_loss_response;

typedef struct sp_loss_value {
    double loss;
    double margin; /* implicit reward margin of the winner over the loser, as the row defines it */
} sp_loss_value;

/* What an objective reads beside the policy's own log-probs. */
enum { SP_READS_OPPONENT = 1, SP_READS_ANCHOR = 2, SP_READS_WIN_RATE = 4, SP_READS_REWARD = 8 };

enum { SP_LOSS_MAX_PARAMS = 4 };

typedef struct sp_loss {
    const char *name;         /* "spin" */
    const char *citation;     /* paper and equation */
    const sp_tunable *params; /* at most SP_LOSS_MAX_PARAMS, in the order of eval's params */
    size_t fewest, most; /* responses. Two: winner, loser. A third is a response of the anchor's.
                          * With most SIZE_MAX any number, the best first and the worst last; the
                          * loss is then a sum over them, the margin of those two */
    unsigned reads;      /* SP_READS_... */
    /* d [k]: out, d loss / d policy of each response. Finite for finite log-probs of magnitude up
     * to 1e6 and params within their bounds. */
    sp_loss_value (*eval)(const sp_loss_response *y, size_t k, const double *params, double *d);
} sp_loss;

int sp_loss_count(void);
const sp_loss *sp_loss_at(int i); /* 0 <= i < sp_loss_count() */
/* The row called name; an unknown name is refused with the nearest known one. */
spar_status sp_loss_find(const char *name, const sp_loss **out, spar_error *err);

/* The loser among k responses of a row. */
size_t sp_loss_loser(const sp_loss *loss, size_t k);

/* The row's eval, checked: INVALID when a parameter is out of its bounds, the number of responses
 * is not the row's, a number that the row reads is not finite or a length is below 1. */
spar_status sp_loss_eval(const sp_loss *loss, const sp_loss_response *y, size_t k,
                         const double *params, double *d, sp_loss_value *out, spar_error *err);

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
