#include "eval/evaluate.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "eval/statistics.h"

spar_status sp_evaluate_greedy(spar_model *model, const spar_prompt *prompts, size_t n,
                               const spar_eval_options *options, spar_response *responses,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    spar_sampling sampling;
    SPAR_TRY(spar_options_default(spar_sampling_options, &sampling, err));
    sampling.temperature = 0;
    sampling.max_new_tokens = options->max_new_tokens;
    sampling.batch = options->batch;
    SPAR_TRY(spar_generate(model, prompts, n, 1, &sampling, options->hooks, responses, err));
done:
    return status;
}

/* The ids of one problem; owned by the caller. */
static spar_status prompt_ids(const spar_model *model, const char *system, const char *prompt,
                              int32_t **ids, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *messages = json_array();
    sp_str text = SP_STR_INIT;
    const spar_tokenizer *tokenizer = spar_model_tokenizer(model);
    if (!tokenizer) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: has no tokenizer", spar_model_path(model)));
    }
    if (!spar_model_template(model)) {
        sp_str_printf(&text, "%s%s%s\n", system ? system : "", system ? "\n" : "", prompt);
        SPAR_TRY(sp_str_status(&text, err));
        SPAR_TRY(spar_tokenizer_encode(tokenizer, sp_str_get(&text), text.len, 0, ids, n, err));
        goto done;
    }
    if (system) {
        json_array_append_new(messages,
                              json_pack("{s:s, s:s}", "role", "system", "content", system));
    }
    json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "user", "content", prompt));
    SPAR_TRY(spar_model_chat_ids(model, messages, true, ids, n, err));
done:
    json_decref(messages);
    sp_str_release(&text);
    return status;
}

spar_status spar_evaluate(spar_model *model, const spar_task_set *set,
                          const spar_eval_options *options, spar_eval_result *results,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    size_t n = spar_tasks_count(set);
    spar_prompt *prompts = NULL;
    spar_response *responses = NULL;
    void *memory;
    memset(results, 0, n * sizeof *results);
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *prompts, err));
    prompts = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *responses, err));
    responses = memory;
    for (size_t i = 0; i < n; i++) {
        int32_t *ids = NULL;
        SPAR_TRY(prompt_ids(model, options->system, spar_tasks_at(set, i)->prompt, &ids,
                            &prompts[i].n, err));
        prompts[i].ids = ids;
        prompts[i].key = i;
    }
    SPAR_TRY(sp_evaluate_greedy(model, prompts, n, options, responses, err));
    for (size_t i = 0; i < n; i++) {
        spar_response *r = &responses[i];
        spar_task_check(spar_tasks_at(set, i), r->text, r->n_text, &results[i].strict,
                        &results[i].lenient);
        results[i].finish = r->finish;
        results[i].n_tokens = r->n;
        results[i].response = r->text;
        r->text = NULL;
    }
    spar_responses_free(responses, n);
done:
    for (size_t i = 0; prompts && i < n; i++) {
        free((int32_t *)(uintptr_t)prompts[i].ids);
    }
    free(prompts);
    free(responses);
    return status;
}

void spar_eval_results_free(spar_eval_result *results, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(results[i].response);
        results[i].response = NULL;
    }
}

spar_rate spar_rate_of(int64_t passed, int64_t n) {
    spar_rate rate = {.passed = passed, .n = n, .rate = n ? (double)passed / (double)n : 0};
    sp_wilson(passed, n, &rate.low, &rate.high);
    return rate;
}
