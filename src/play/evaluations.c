/* Measuring the model on a set, and fresh problems: what run.h declares about sets. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "eval/evaluate.h"
#include "play/judged.h"
#include "play/problems.h"

static bool ask_stop(void *context) {
    return sp_run_stopped(context);
}

typedef struct mean_context {
    double sum;
    size_t n;
} mean_context;

static spar_status add_score(void *context, const sp_rundb_evaluation *row, spar_error *err) {
    mean_context *m = context;
    (void)err;
    m->sum += row->strict;
    m->n++;
    return SPAR_OK;
}

static spar_status store(sp_run *run, int64_t stage, sp_set set, const sp_problem *p, double strict,
                         double lenient, const char *response, spar_error *err) {
    sp_rundb_evaluation row = {.stage = stage,
                               .prompt = p->id,
                               .set = sp_set_names[set],
                               .strict = strict,
                               .lenient = lenient,
                               .response = response ? response : ""};
    return sp_rundb_put_evaluation(run->db, &row, err);
}

/* Greedy responses to a set, [n]: owned by the caller with what is in them. */
static spar_status respond(sp_run *run, sp_set set, spar_response **out, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_problems *problems = &run->sets[set];
    spar_prompt *prompts = NULL;
    char phase[64];
    snprintf(phase, sizeof phase, "evaluate (%s set)", sp_set_names[set]);
    spar_generate_hooks hooks = {.stop = ask_stop, .context = run, .phase = phase};
    spar_eval_options options = {.max_new_tokens = run->recipe.evaluate.max_new_tokens,
                                 .batch = run->recipe.evaluate.batch,
                                 .hooks = &hooks};
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, problems->n, sizeof **out, err));
    *out = memory;
    SPAR_TRY(sp_mem_calloc(&memory, problems->n, sizeof *prompts, err));
    prompts = memory;
    for (size_t i = 0; i < problems->n; i++) {
        prompts[i] = (spar_prompt){
            .ids = problems->items[i].prompt_ids, .n = problems->items[i].n_prompt, .key = i};
    }
    SPAR_TRY(sp_evaluate_greedy(run->model, prompts, problems->n, &options, *out, err));
done:
    free(prompts);
    return status;
}

static void release_responses(spar_response *responses, size_t n) {
    if (responses) {
        spar_responses_free(responses, n);
    }
    free(responses);
}

/* Task families: greedy responses through the verifiers. */
static spar_status evaluate_tasks(sp_run *run, int64_t stage, sp_set set, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_problems *problems = &run->sets[set];
    spar_response *responses = NULL;
    SPAR_TRY(respond(run, set, &responses, err));
    SPAR_TRY(sp_rundb_begin(run->db, err));
    for (size_t i = 0; i < problems->n; i++) {
        bool strict, lenient;
        spar_task_check(problems->items[i].task, responses[i].text, responses[i].n_text, &strict,
                        &lenient);
        SPAR_TRY(
            store(run, stage, set, &problems->items[i], strict, lenient, responses[i].text, err));
    }
done:
    release_responses(responses, problems->n);
    return status;
}

/* Data of the user's own has no verifier: the score is the mean log-prob a token of the real
 * response, held out from training. The report set is answered too where a judge reports. */
static spar_status evaluate_data(sp_run *run, int64_t stage, sp_set set, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_problems *problems = &run->sets[set];
    double *means = NULL;
    spar_response *responses = NULL;
    int32_t *ids = NULL;
    float *logps = NULL;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, problems->n, sizeof *means, err));
    means = memory;
    for (size_t i = 0; i < problems->n; i++) {
        const sp_problem *p = &problems->items[i];
        size_t n = p->n_prompt + p->n_reference;
        free(ids);
        free(logps);
        ids = NULL;
        logps = NULL;
        SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *ids, err));
        ids = memory;
        SPAR_TRY(sp_mem_calloc(&memory, p->n_reference, sizeof *logps, err));
        logps = memory;
        memcpy(ids, p->prompt_ids, p->n_prompt * sizeof *ids);
        memcpy(ids + p->n_prompt, p->reference_ids, p->n_reference * sizeof *ids);
        spar_score_row row = {.ids = ids, .n = n, .first = p->n_prompt, .logps = logps};
        SPAR_TRY(spar_model_score(run->model, &row, 1, err));
        for (size_t k = 0; k < p->n_reference; k++) {
            means[i] += (double)logps[k] / (double)p->n_reference;
        }
        if (sp_run_stopped(run)) {
            SPAR_TRY(spar_fail(err, SPAR_INTERRUPTED, "evaluation was stopped"));
        }
        spar_progress progress = {.phase = "evaluate",
                                  .done = (double)i + 1,
                                  .total = (double)problems->n,
                                  .unit = "rows",
                                  .detail = sp_set_names[set]};
        spar_sink_progress(&run->sink, &progress);
    }
    if (set == SP_SET_REPORT && run->recipe.judge.report) {
        SPAR_TRY(respond(run, set, &responses, err));
    }
    SPAR_TRY(sp_rundb_begin(run->db, err));
    for (size_t i = 0; i < problems->n; i++) {
        SPAR_TRY(store(run, stage, set, &problems->items[i], means[i], (double)NAN,
                       responses ? responses[i].text : "", err));
    }
done:
    release_responses(responses, problems->n);
    free(means);
    free(ids);
    free(logps);
    return status;
}

spar_status sp_run_evaluate(sp_run *run, int64_t stage, sp_set set, double *mean, spar_error *err) {
    spar_status status = SPAR_OK;
    bool done;
    char phase[32];
    mean_context context = {0};
    snprintf(phase, sizeof phase, "evaluate %s", sp_set_names[set]);
    SPAR_TRY(sp_run_phase_done(run, stage, phase, &done, err));
    if (!done) {
        SPAR_TRY(run->sets[set].tasks ? evaluate_tasks(run, stage, set, err)
                                      : evaluate_data(run, stage, set, err));
        SPAR_TRY(sp_rundb_put_phase(run->db, stage, phase, 1, 1, err));
        SPAR_TRY(sp_rundb_commit(run->db, err));
    }
    if (set == SP_SET_REPORT) {
        SPAR_TRY(sp_judged_report(run, stage, err));
    }
    SPAR_TRY(sp_rundb_each_evaluation(run->db, stage, sp_set_names[set], add_score, &context, err));
    *mean = context.n ? context.sum / (double)context.n : 0;
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(run->db);
    }
    return status;
}
