/* Pass rates of a model on procedural tasks: greedy responses checked by each family's verifier. */
#ifndef SPAR_EVAL_H
#define SPAR_EVAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/generate.h"
#include "spar/tasks.h"

typedef struct spar_eval_options {
    const char *system; /* system message before every problem; NULL: none */
    int64_t max_new_tokens, batch;
    const spar_generate_hooks *hooks; /* may be NULL */
} spar_eval_options;

typedef struct spar_eval_result {
    bool strict, lenient;
    spar_finish finish;
    size_t n_tokens;
    char *response; /* owned */
} spar_eval_result;

/* results [spar_tasks_count(set)], filled in the order of the set. A model without chat template is
 * given the bare prompt and a line break. */
SPAR_API spar_status spar_evaluate(spar_model *model, const spar_task_set *set,
                                   const spar_eval_options *options, spar_eval_result *results,
                                   spar_error *err);
SPAR_API void spar_eval_results_free(spar_eval_result *results, size_t n);

/* A pass rate with its 95 % Wilson interval. */
typedef struct spar_rate {
    int64_t passed, n;
    double rate, low, high;
} spar_rate;
SPAR_API spar_rate spar_rate_of(int64_t passed, int64_t n);

#endif
