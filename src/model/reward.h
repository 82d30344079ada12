/* Reward models on a decoder: the layers of a language model with a small head in place of the
 * vocabulary's, inference only.
 *
 * A folder in the layout of Hugging Face whose class is XForSequenceClassification,
 * XForTokenClassification, XForRewardModel or XForProcessRewardModel, with X any family of
 * arch_rows.c. The head is score.weight [labels, hidden] with an optional score.bias, or two such
 * layers with a ReLU between, score.0 and score.2. The class CustomRewardModel, of any family, has
 * value_head instead: of one output, or of 2 n, the embedding of a general preference model (arXiv
 * 2410.02197), with a prompt_head of n outputs where its n planes have weights. A reward of a whole
 * row is read at its last token that is not pad_token_id (transformers' rule); a process reward
 * model is read at the tokens that the caller names. By one row P(i beats j) = sigmoid(reward i -
 * reward j) (Bradley-Terry).
 */
#ifndef SP_MODEL_REWARD_H
#define SP_MODEL_REWARD_H

#include "model/token_row.h"
#include "spar/model.h"

typedef struct sp_reward sp_reward;

/* options as for spar_model_load. Errors: those of it; UNSUPPORTED for a class without such a head
 * or a GGUF file. *out is owned by the caller. Used by one thread at a time. */
spar_status sp_reward_load(sp_reward **out, const char *dir, const spar_model_options *options,
                           spar_error *err);
void sp_reward_free(sp_reward *reward);

/* The decoder, for its tokenizer, chat template and context; borrowed. Its own output projection
 * means nothing. */
spar_model *sp_reward_model(const sp_reward *reward);
int64_t sp_reward_labels(const sp_reward *reward); /* outputs of the head; 1 as a rule */
int64_t sp_reward_planes(const sp_reward *reward); /* n of a general preference model; else 0 */

/* The head at the last token of each row: out [n, labels]. Rows share passes. INVALID for an empty
 * row or an id outside the vocabulary, LIMIT for a row beyond the context; both name the row. */
spar_status sp_reward_scores(sp_reward *reward, const sp_token_row *rows, size_t n, float *out,
                             spar_error *err);
/* The head at n given tokens of one row (0 .. row->n - 1): out [n, labels]. */
spar_status sp_reward_scores_at(sp_reward *reward, const sp_token_row *row, const int64_t *tokens,
                                size_t n, float *out, spar_error *err);
/* The weights of a general preference model's planes, read at one token of a row (the prompt's
 * last): out [planes], which sum to 1; all 1 without a prompt_head. Errors as of scores_at. */
spar_status sp_reward_plane_weights(sp_reward *reward, const sp_token_row *row, int64_t token,
                                    float *out, spar_error *err);

#endif
