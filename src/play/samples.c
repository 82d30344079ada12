#include "play/samples.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

void sp_samples_release(sp_samples *samples) {
    for (size_t i = 0; i < samples->n; i++) {
        free(samples->items[i].ids);
        free(samples->items[i].logps);
        free(samples->items[i].text);
    }
    free(samples->items);
    memset(samples, 0, sizeof *samples);
}

static bool ask_stop(void *context) {
    return sp_run_stopped(context);
}

static spar_status store_sample(sp_run *run, int64_t stage, const sp_problem *problem, int k,
                                const spar_response *r, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t id;
    sp_rundb_sample row = {.stage = stage,
                           .prompt = problem->id,
                           .index = k,
                           .tokens = r->ids,
                           .logprobs = r->logps,
                           .n_tokens = (int64_t)r->n,
                           .text = r->text ? r->text : "",
                           .finish = spar_finish_name(r->finish),
                           .mode = run->recipe.sampling.temperature > 0 ? "sampled" : "greedy"};
    SPAR_TRY(sp_rundb_put_sample(run->db, &row, &id, err));
    if (problem->task) {
        bool strict, lenient;
        spar_task_check(problem->task, row.text, strlen(row.text), &strict, &lenient);
        sp_rundb_score score = {.sample = id,
                                .name = "verifier",
                                .strict = strict,
                                .lenient = lenient,
                                .value = strict};
        SPAR_TRY(sp_rundb_put_score(run->db, &score, err));
    }
done:
    return status;
}

static spar_status sample_and_store(sp_run *run, int64_t stage, const sp_problems *problems, int k,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    size_t total = problems->n * (size_t)k;
    spar_prompt *prompts = NULL;
    spar_response *responses = NULL;
    spar_sampling sampling = run->recipe.sampling;
    spar_generate_hooks hooks = {.stop = ask_stop, .context = run, .phase = "sample"};
    bool sampled = false;
    void *memory;
    sampling.seed = (int64_t)(sp_rng_stream(run->seed, (uint64_t)stage, 0, 0) >> 2);
    SPAR_TRY(sp_mem_calloc(&memory, problems->n, sizeof *prompts, err));
    prompts = memory;
    SPAR_TRY(sp_mem_calloc(&memory, total, sizeof *responses, err));
    responses = memory;
    for (size_t i = 0; i < problems->n; i++) {
        prompts[i] = (spar_prompt){.ids = problems->items[i].prompt_ids,
                                   .n = problems->items[i].n_prompt,
                                   .key = (uint64_t)problems->items[i].id};
    }
    SPAR_TRY(spar_generate(run->model, prompts, problems->n, k, &sampling, &hooks, responses, err));
    sampled = true;
    SPAR_TRY(sp_rundb_begin(run->db, err));
    for (size_t i = 0; i < total; i++) {
        SPAR_TRY(store_sample(run, stage, &problems->items[i / (size_t)k], (int)(i % (size_t)k),
                              &responses[i], err));
    }
    SPAR_TRY(sp_rundb_put_phase(run->db, stage, "sample", 1, 1, err));
    SPAR_TRY(sp_rundb_commit(run->db, err));
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(run->db);
    }
    if (sampled) {
        spar_responses_free(responses, total);
    }
    free(responses);
    free(prompts);
    return status;
}

typedef struct read_context {
    const sp_problems *problems;
    sp_samples *samples;
    size_t capacity, problem, scored;
} read_context;

static spar_status read_sample(void *context, const sp_rundb_sample *row, spar_error *err) {
    spar_status status = SPAR_OK;
    read_context *c = context;
    void *memory = c->samples->items;
    size_t n = (size_t)row->n_tokens;
    SPAR_TRY(sp_mem_grow(&memory, &c->capacity, c->samples->n + 1, sizeof *c->samples->items, err));
    c->samples->items = memory;
    while (c->problem < c->problems->n && c->problems->items[c->problem].id != row->prompt) {
        c->problem++;
    }
    if (c->problem == c->problems->n || !row->logprobs) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "run.db: sample %lld: belongs to no problem of its "
                           "stage",
                           (long long)row->id));
    }
    sp_play_sample *s = &c->samples->items[c->samples->n];
    *s = (sp_play_sample){.id = row->id,
                          .problem = c->problem,
                          .n = n,
                          .truncated = strcmp(row->finish, "length") == 0};
    c->samples->n++;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *s->ids, err));
    s->ids = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *s->logps, err));
    s->logps = memory;
    SPAR_TRY(sp_mem_strdup(&s->text, row->text, strlen(row->text), err));
    if (n) {
        memcpy(s->ids, row->tokens, n * sizeof *s->ids);
        memcpy(s->logps, row->logprobs, n * sizeof *s->logps);
    }
done:
    return status;
}

static spar_status read_score(void *context, const sp_rundb_score *row, spar_error *err) {
    read_context *c = context;
    (void)err;
    while (c->scored < c->samples->n && c->samples->items[c->scored].id != row->sample) {
        c->scored++;
    }
    if (c->scored < c->samples->n && strcmp(row->name, "verifier") == 0) {
        sp_play_sample *s = &c->samples->items[c->scored];
        s->strict = row->strict > 0.5;
        s->lenient = row->lenient > 0.5;
    }
    return SPAR_OK;
}

spar_status sp_samples_make(sp_run *run, int64_t stage, const sp_problems *problems, int k,
                            sp_samples *out, spar_error *err) {
    spar_status status = SPAR_OK;
    bool done;
    read_context context = {.problems = problems, .samples = out};
    memset(out, 0, sizeof *out);
    SPAR_TRY(sp_run_phase_done(run, stage, "sample", &done, err));
    if (!done) {
        SPAR_TRY(sample_and_store(run, stage, problems, k, err));
    }
    /* read back also what was just made: one way for fresh and resumed runs */
    SPAR_TRY(sp_rundb_each_sample(run->db, stage, read_sample, &context, err));
    SPAR_TRY(sp_rundb_each_score(run->db, stage, read_score, &context, err));
    out->k = (size_t)k;
done:
    if (status != SPAR_OK) {
        sp_samples_release(out);
    }
    return status;
}
