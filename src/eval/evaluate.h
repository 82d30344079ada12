/* Greedy responses to prompts that are tokenised already: what evaluations share. */
#ifndef SP_EVAL_EVALUATE_H
#define SP_EVAL_EVALUATE_H

#include "spar/eval.h"

/* responses [n], to be released by spar_responses_free. */
spar_status sp_evaluate_greedy(spar_model *model, const spar_prompt *prompts, size_t n,
                               const spar_eval_options *options, spar_response *responses,
                               spar_error *err);

#endif
