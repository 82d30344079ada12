#include "play/samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "play/work.h"

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
    sp_work_tick(context);
    return sp_run_stopped(context);
}

/* How samples of an opponent that is not the latest are marked; the stage that made it follows. */
static const char older_mode[] = "sampled by ";

static void mode_of(const sp_run *run, const sp_cast *cast, size_t problem, char *out, size_t n) {
    snprintf(out, n, "%s", run->recipe.sampling.temperature > 0 ? "sampled" : "greedy");
    if (cast && cast->who[problem] + 1 < cast->roster->n) {
        snprintf(out, n, "%s%lld", older_mode,
                 (long long)cast->roster->items[cast->who[problem]].stage);
    }
}

static spar_status store_sample(sp_run *run, int64_t stage, const sp_problem *problem, int k,
                                const spar_response *r, const char *mode, spar_error *err) {
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
                           .mode = mode};
    SPAR_TRY(sp_rundb_put_sample(run->db, &row, &id, err));
    if (problem->task) {
        bool strict, lenient;
        spar_task_check(problem->task, row.text, r->text ? r->n_text : 0, &strict, &lenient);
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

typedef struct sampling_job {
    sp_run *run;
    int64_t stage;
    const sp_problems *problems;
    int k;
    const sp_cast *cast;  /* NULL: all by the model as it is */
    spar_prompt *prompts; /* owned, [problems] of one opponent */
    spar_response *made;  /* owned, [problems, k]: its responses */
    spar_response *all;   /* owned, [problems, k]: by problem */
    bool *mine;           /* owned, [problems] */
} sampling_job;

static spar_status allocate_job(sampling_job *j, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t n = j->problems->n;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *j->prompts, err));
    j->prompts = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, (size_t)j->k * sizeof *j->made, err));
    j->made = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, (size_t)j->k * sizeof *j->all, err));
    j->all = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *j->mine, err));
    j->mine = memory;
done:
    return status;
}

static void release_job(sampling_job *j) {
    if (j->all) {
        spar_responses_free(j->all, j->problems->n * (size_t)j->k);
    }
    free(j->prompts);
    free(j->made);
    free(j->all);
    free(j->mine);
}

/* The problems that are mine, by the model as it is. What is drawn depends on the problem, not on
 * the others. */
static spar_status sample_mine(sampling_job *j, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t k = (size_t)j->k;
    size_t n = 0, at = 0;
    spar_sampling sampling = j->run->recipe.sampling;
    const spar_generate_hooks hooks = {.stop = ask_stop, .context = j->run, .phase = "sample"};
    sampling.seed = (int64_t)(sp_rng_stream(j->run->seed, (uint64_t)j->stage, 0, 0) >> 2);
    for (size_t i = 0; i < j->problems->n; i++) {
        const sp_problem *p = &j->problems->items[i];
        if (j->mine[i]) {
            j->prompts[n++] =
                (spar_prompt){.ids = p->prompt_ids, .n = p->n_prompt, .key = (uint64_t)p->id};
        }
    }
    if (n == 0) {
        return SPAR_OK;
    }
    SPAR_TRY(spar_generate(j->run->model, j->prompts, n, j->k, &sampling, &hooks, j->made, err));
    for (size_t i = 0; i < j->problems->n; i++) {
        if (j->mine[i]) {
            memcpy(j->all + i * k, j->made + k * at++, k * sizeof *j->all);
        }
    }
done:
    return status;
}

/* Each opponent in its turn; the latest is the last. */
static spar_status sample_cast(sampling_job *j, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t who = 0; who < j->cast->roster->n; who++) {
        sp_best opponent = j->cast->roster->items[who];
        bool any = false;
        for (size_t i = 0; i < j->problems->n; i++) {
            j->mine[i] = j->cast->who[i] == who;
            any = any || j->mine[i];
        }
        if (any) {
            SPAR_TRY(sp_run_load_best(j->run, &opponent, err));
            SPAR_TRY(sample_mine(j, err));
        }
    }
done:
    return status;
}

static spar_status store_samples(sampling_job *j, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t k = (size_t)j->k;
    SPAR_TRY(sp_rundb_begin(j->run->db, err));
    for (size_t i = 0; i < j->problems->n * k; i++) {
        char mode[48];
        mode_of(j->run, j->cast, i / k, mode, sizeof mode);
        SPAR_TRY(store_sample(j->run, j->stage, &j->problems->items[i / k], (int)(i % k),
                              &j->all[i], mode, err));
    }
    SPAR_TRY(sp_rundb_put_phase(j->run->db, j->stage, "sample", 1, 1, err));
    SPAR_TRY(sp_rundb_commit(j->run->db, err));
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(j->run->db);
    }
    return status;
}

static spar_status sample_all(sampling_job *j, spar_error *err) {
    if (j->cast) {
        return sample_cast(j, err);
    }
    memset(j->mine, true, j->problems->n * sizeof *j->mine);
    return sample_mine(j, err);
}

static spar_status sample_and_store(sp_run *run, int64_t stage, const sp_problems *problems, int k,
                                    const sp_cast *cast, spar_error *err) {
    spar_status status = SPAR_OK;
    sampling_job j = {.run = run, .stage = stage, .problems = problems, .k = k, .cast = cast};
    SPAR_TRY(allocate_job(&j, err));
    SPAR_TRY(sp_work_begin(run, stage, "sample", err));
    SPAR_TRY(sp_work_end(run, sample_all(&j, err), err));
    SPAR_TRY(store_samples(&j, err));
done:
    release_job(&j);
    return status;
}

/* ---- sharing ---- */

typedef struct copy_context {
    sp_run *run;
    int64_t stage;
    int64_t *copies; /* owned, [n]: rows of the copies, in the order of what was copied */
    int64_t *ids;    /* owned, [n]: what was copied */
    size_t n, capacity[2], scored;
} copy_context;

static spar_status copy_sample(void *context, const sp_rundb_sample *row, spar_error *err) {
    spar_status status = SPAR_OK;
    copy_context *c = context;
    sp_rundb_sample copy = *row;
    void *memory = c->copies;
    SPAR_TRY(sp_mem_grow(&memory, &c->capacity[0], c->n + 1, sizeof *c->copies, err));
    c->copies = memory;
    memory = c->ids;
    SPAR_TRY(sp_mem_grow(&memory, &c->capacity[1], c->n + 1, sizeof *c->ids, err));
    c->ids = memory;
    copy.id = 0;
    copy.stage = c->stage;
    c->ids[c->n] = row->id;
    SPAR_TRY(sp_rundb_put_sample(c->run->db, &copy, &c->copies[c->n], err));
    c->n++;
done:
    return status;
}

static spar_status copy_score(void *context, const sp_rundb_score *row, spar_error *err) {
    copy_context *c = context;
    sp_rundb_score copy = *row;
    while (c->scored < c->n && c->ids[c->scored] != row->sample) {
        c->scored++;
    }
    if (c->scored == c->n) {
        return spar_fail(err, SPAR_MISMATCH, "run.db: score of sample %lld: no such sample",
                         (long long)row->sample);
    }
    copy.sample = c->copies[c->scored];
    return sp_rundb_put_score(c->run->db, &copy, err);
}

static spar_status copy_value(sp_run *run, int64_t from, int64_t stage, const char *name,
                              spar_error *err) {
    double value;
    const spar_status status = sp_run_get_value(run, from, name, 0, &value, err);
    return status == SPAR_OK ? sp_run_put_value(run, stage, name, value, err) : status;
}

spar_status sp_samples_share(sp_run *run, int64_t from, int64_t stage, bool fresh,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    bool done;
    copy_context c = {.run = run, .stage = stage};
    SPAR_TRY(sp_run_phase_done(run, stage, "sample", &done, err));
    if (done) {
        goto done;
    }
    SPAR_TRY(sp_rundb_begin(run->db, err));
    SPAR_TRY(sp_rundb_each_sample(run->db, from, copy_sample, &c, err));
    SPAR_TRY(sp_rundb_each_score(run->db, from, copy_score, &c, err));
    SPAR_TRY(sp_work_share(run, from, stage, "sample", err));
    SPAR_TRY(sp_rundb_put_phase(run->db, stage, "sample", 1, 1, err));
    if (fresh) {
        SPAR_TRY(copy_value(run, from, stage, "first_problem", err));
        SPAR_TRY(sp_rundb_put_phase(run->db, stage, "problems", 1, 1, err));
    }
    SPAR_TRY(sp_rundb_commit(run->db, err));
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(run->db);
    }
    free(c.copies);
    free(c.ids);
    return status;
}

/* ---- reading back ---- */

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
                          .truncated = strcmp(row->finish, "length") == 0,
                          .older = strncmp(row->mode, older_mode, sizeof older_mode - 1) == 0};
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
                            const sp_cast *cast, sp_samples *out, spar_error *err) {
    spar_status status = SPAR_OK;
    bool done;
    read_context context = {.problems = problems, .samples = out};
    memset(out, 0, sizeof *out);
    SPAR_TRY(sp_run_phase_done(run, stage, "sample", &done, err));
    if (!done) {
        SPAR_TRY(sample_and_store(run, stage, problems, k, cast, err));
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
