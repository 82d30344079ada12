/* From the probabilities of verdicts to a judgement: what judges that are asked in words share. */
#ifndef SP_JUDGE_VERDICT_H
#define SP_JUDGE_VERDICT_H

#include "judge/prompt.h"

/* Ask about the responses a and b (pairwise) or a alone: logps [n_verdicts], natural logs up to a
 * constant, -INFINITY where a verdict is out of the question. Adds its cost to out. */
typedef spar_status (*sp_judge_ask)(void *context, const sp_judge_item *item, size_t a, size_t b,
                                    double *logps, spar_judgement *out, spar_error *err);

/* Visit each question of a row in the order in which sp_judge_by_verdicts asks them. */
typedef spar_status (*sp_judge_question)(void *context, const sp_judge_item *item, size_t a,
                                         size_t b, spar_error *err);
spar_status sp_judge_each_question(const sp_judge_prompt *prompt, sp_judge_question visit,
                                   void *context, const sp_judge_item *item, spar_error *err);

/* Pairwise: every ordered pair is asked about, logits are log p(first) - log p(second), P counts
 * neither as half, and a score is the mean of P over the others and both orders. Single: a score is
 * the mean rating, and P compares. */
spar_status sp_judge_by_verdicts(const sp_judge_prompt *prompt, sp_judge_ask ask, void *context,
                                 const sp_judge_item *item, spar_judgement *out, spar_error *err);

/* The verdict in a reply of the chat protocol: choice is its {"message": {"content"}, "logprobs":
 * {"content": [{"token", "top_logprobs": [{"token", "logprob"}...]}...]} where there are}. logps
 * [n_verdicts]: of the alternatives at the verdict's token, -INFINITY for those not listed; without
 * log-probs 0 for the verdict that was given (a rating between two whole ones is shared between
 * them). False, and all alike, where there is no verdict: of several in brackets the last counts.
 */
bool sp_judge_read_verdict(const sp_judge_prompt *prompt, const json_t *choice, double *logps);

/* "prompt" and "prompt_fingerprint", for provenance. */
spar_status sp_judge_prompt_describe(const sp_judge_prompt *prompt, json_t *out, spar_error *err);

#endif
