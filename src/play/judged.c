#include "play/judged.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "judge/kind.h"
#include "play/work.h"
#include "text/conversation.h"

/* A judge of the recipe: its name in run.db, the key that names it, where its provenance is kept,
 * and its phase. */
typedef struct judge_role {
    const char *name, *key, *meta, *phase;
} judge_role;
static const judge_role train_role = {"train", "judge: train", "judge_train", "judge"};
static const judge_role report_role = {"report", "judge: report", "judge_report", "judge report"};

/* Judgements that are not stored yet. */
enum { PENDING = 64 };
static const double pending_seconds = 0.2;

typedef struct judging {
    sp_run *run;
    const judge_role *role;
    int64_t stage;
    const sp_problems *problems;
    const char *const *texts; /* [n k]: the responses */
    const bool *cut;          /* [n k]: which were cut off; NULL: not asked */
    sp_judged *out;
    bool *done; /* owned, [n]: problems whose judgement is stored */
    size_t read;
    spar_judge *judge;
    spar_judgement pending[PENDING];
    size_t which[PENDING], n_pending; /* their problems */
    double flushed;                   /* when the last were stored */
} judging;

void sp_judged_release(sp_judged *judged) {
    free(judged->p);
    free(judged->win);
    free(judged->scores);
    free(judged->forks);
    memset(judged, 0, sizeof *judged);
}

/* ---- the judge ---- */

static bool ask_stop(void *context) {
    sp_work_tick(context);
    return sp_run_stopped(context);
}

static const char *spec_of(const sp_run *run, const judge_role *r) {
    return r == &train_role ? run->recipe.judge.train : run->recipe.judge.report;
}

static spar_status open_judge(sp_run *run, const judge_role *role, spar_judge **out,
                              spar_error *err) {
    const sp_recipe_judge *r = &run->recipe.judge;
    const bool reports = role == &report_role;
    spar_judge_options options = {.time_limit = r->time_limit,
                                  .memory_limit = (size_t)r->memory_limit,
                                  .dtype = run->dtype,
                                  .threads = run->options->threads,
                                  .prompt = reports ? r->report_prompt : r->prompt,
                                  .explain = r->explain,
                                  .process = r->process,
                                  .tau = r->tau,
                                  .endpoint = r->endpoint,
                                  .stop = ask_stop,
                                  .stop_context = run};
    if (reports && r->report_endpoint) {
        options.endpoint.url = r->report_endpoint;
    }
    const spar_status status = spar_judge_open(out, spec_of(run, role), &options, err);
    if (status != SPAR_OK) {
        return spar_error_context(err, "%s", role->key);
    }
    sp_judge_share(*out, run->db);
    return SPAR_OK;
}

static spar_status settle_provenance(sp_run *run, const judge_role *role, const char *text,
                                     spar_error *err) {
    spar_status status = SPAR_OK;
    char *was = NULL;
    if (!run->resumed) {
        return sp_rundb_put_meta(run->db, role->meta, text, err);
    }
    SPAR_TRY(sp_rundb_get_meta(run->db, role->meta, &was, err));
    if (strcmp(was, text) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH, "%s: the run began with %s, this is %s", role->key,
                           was, text));
    }
done:
    free(was);
    return status;
}

/* *out: provenance, a new reference; NULL without such a judge. */
static spar_status check_role(sp_run *run, const judge_role *role, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_judge *judge = NULL;
    char *text = NULL;
    if (!spec_of(run, role)) {
        return SPAR_OK;
    }
    SPAR_TRY(open_judge(run, role, &judge, err));
    SPAR_TRY(spar_judge_provenance(judge, out, err));
    text = json_dumps(*out, JSON_COMPACT);
    if (!text) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a judge's provenance"));
    }
    SPAR_TRY(settle_provenance(run, role, text, err));
done:
    spar_judge_free(judge);
    free(text);
    return status;
}

/* The same kind, and the same files or else the same words. */
static bool same_judge(const json_t *a, const json_t *b) {
    const char *key = json_object_get(a, "fingerprint") ? "fingerprint" : "model";
    return json_equal(json_object_get(a, "kind"), json_object_get(b, "kind")) &&
           json_equal(json_object_get(a, key), json_object_get(b, key));
}

spar_status sp_judged_check(sp_run *run, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *train = NULL, *report = NULL;
    SPAR_TRY(check_role(run, &train_role, &train, err));
    SPAR_TRY(check_role(run, &report_role, &report, err));
    if (train && report && same_judge(train, report) && !run->recipe.judge.same) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "judge: report: expected another judge than the one that trains, whose "
                           "own gains it overstates; `same: true` allows it, and the report says "
                           "so"));
    }
done:
    json_decref(train);
    json_decref(report);
    return status;
}

/* ---- judging ---- */

/* The prompt, its real response and the k responses, as a row of spar judge. */
static json_t *row_of(const judging *j, size_t problem) {
    const sp_problem *p = &j->problems->items[problem];
    json_t *responses = json_array();
    for (size_t i = 0; i < j->out->k; i++) {
        json_array_append_new(responses, json_string(j->texts[problem * j->out->k + i]));
    }
    json_t *row = json_pack("{s:O, s:o, s:s}", "prompt", sp_conversation_messages(p->conversation),
                            "responses", responses, "reference", p->reference);
    sp_conversation_carry(row, p->conversation);
    return row;
}

static spar_status store(judging *j, size_t problem, const spar_judgement *x, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_rundb_judgement row = {.stage = j->stage,
                                    .prompt = j->problems->items[problem].id,
                                    .judge = j->role->name,
                                    .k = (int64_t)x->k,
                                    .p = x->p,
                                    .logits = x->logits,
                                    .scores = x->scores,
                                    .seconds = x->seconds,
                                    .tokens = x->tokens};
    const double *at = x->steps;
    SPAR_TRY(sp_rundb_put_judgement(j->run->db, &row, err));
    for (size_t i = 0; at && i < x->k; i++) {
        const sp_rundb_steps steps = {.stage = j->stage,
                                      .prompt = row.prompt,
                                      .judge = j->role->name,
                                      .response = (int64_t)i,
                                      .scores = at,
                                      .n = (int64_t)x->n_steps[i]};
        SPAR_TRY(sp_rundb_put_steps(j->run->db, &steps, err));
        at += x->n_steps[i];
    }
done:
    return status;
}

static void drop_pending(judging *j) {
    for (size_t i = 0; i < j->n_pending; i++) {
        spar_judgement_release(&j->pending[i]);
    }
    j->n_pending = 0;
}

/* One transaction, with the mark of the phase where nothing is left to judge. */
static spar_status flush(judging *j, bool last, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_rundb_begin(j->run->db, err));
    for (size_t i = 0; i < j->n_pending; i++) {
        SPAR_TRY(store(j, j->which[i], &j->pending[i], err));
    }
    if (last) {
        SPAR_TRY(sp_rundb_put_phase(j->run->db, j->stage, j->role->phase, 1, 1, err));
    }
    SPAR_TRY(sp_rundb_commit(j->run->db, err));
    drop_pending(j);
    j->flushed = sp_now();
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(j->run->db);
    }
    return status;
}

static spar_status judge_one(judging *j, size_t problem, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_judgement x = {0};
    json_t *row = row_of(j, problem);
    if (!row) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for the responses to judge"));
    }
    SPAR_TRY(spar_judge_row(j->judge, row, &x, err));
    j->which[j->n_pending] = problem;
    j->pending[j->n_pending++] = x;
    x = (spar_judgement){0};
    if (j->n_pending == PENDING || sp_now() - j->flushed > pending_seconds) {
        SPAR_TRY(flush(j, false, err));
    }
done:
    if (status != SPAR_OK) {
        spar_error_context(err, "%s: prompt %lld", j->role->key,
                           (long long)j->problems->items[problem].id);
    }
    spar_judgement_release(&x);
    json_decref(row);
    return status;
}

/* Let the judge ask about the next problems together, this one the first; *until is the first
 * problem that it was not told of. */
static spar_status ask_ahead(judging *j, size_t problem, size_t *until, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t most = spar_judge_lookahead(j->judge);
    size_t n = 0, i = problem;
    json_t **rows = NULL;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, most, sizeof *rows, err));
    rows = memory;
    for (; i < j->out->n && n < most; i++) {
        if (!j->done[i]) {
            rows[n++] = row_of(j, i);
        }
    }
    SPAR_TRY(spar_judge_ahead(j->judge, (const json_t *const *)rows, n, err));
    *until = i;
done:
    for (size_t k = 0; k < n; k++) {
        json_decref(rows[k]);
    }
    free(rows);
    return status == SPAR_OK ? status : spar_error_context(err, "%s", j->role->key);
}

/* What is judged when the run is stopped, or a judgement fails, is kept. */
static spar_status judge_rest(judging *j, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_error ignored;
    size_t ahead = 0;
    SPAR_TRY(open_judge(j->run, j->role, &j->judge, err));
    j->flushed = sp_now();
    for (size_t i = 0; i < j->out->n; i++) {
        if (sp_run_stopped(j->run)) {
            SPAR_TRY(spar_fail(err, SPAR_INTERRUPTED, "judging was stopped"));
        }
        if (!j->done[i] && i >= ahead) {
            SPAR_TRY(ask_ahead(j, i, &ahead, err));
        }
        if (!j->done[i]) {
            SPAR_TRY(judge_one(j, i, err));
        }
        sp_work_tick(j->run);
        spar_progress progress = {.phase = j->role->phase,
                                  .done = (double)i + 1,
                                  .total = (double)j->out->n,
                                  .unit = "prompts",
                                  .detail = ""};
        spar_sink_progress(&j->run->sink, &progress);
    }
    SPAR_TRY(flush(j, true, err));
done:
    if (j->n_pending > 0) {
        flush(j, false, &ignored);
    }
    drop_pending(j);
    spar_judge_free(j->judge);
    j->judge = NULL;
    return status;
}

/* ---- reading back ---- */

static void fill_win(sp_judged *out, size_t problem) {
    const size_t k = out->k;
    const double *p = out->p + problem * k * k;
    for (size_t a = 0; a < k; a++) {
        double sum = 0;
        for (size_t b = 0; b < k; b++) {
            sum += 0.5 * (p[a * k + b] + 1 - p[b * k + a]);
        }
        out->win[problem * k + a] = sum / (double)k;
    }
}

static spar_status read_judgement(void *context, const sp_rundb_judgement *row, spar_error *err) {
    judging *j = context;
    sp_judged *out = j->out;
    const size_t k = out->k;
    while (j->read < out->n && j->problems->items[j->read].id != row->prompt) {
        j->read++;
    }
    if (j->read == out->n || (size_t)row->k != k) {
        return spar_fail(err, SPAR_MISMATCH,
                         "run.db: the judgement of prompt %lld belongs to no samples of its stage",
                         (long long)row->prompt);
    }
    memcpy(out->p + j->read * k * k, row->p, k * k * sizeof *out->p);
    memcpy(out->scores + j->read * k, row->scores, k * sizeof *out->scores);
    fill_win(out, j->read);
    j->done[j->read] = true;
    return SPAR_OK;
}

/* The scores of one prompt's steps, as they were judged. */
typedef struct step_scores {
    spar_judgement x; /* owned; n_steps has room for k responses, of which n are read */
    size_t n, used, capacity;
} step_scores;

static spar_status take_steps(void *context, const sp_rundb_steps *row, spar_error *err) {
    spar_status status = SPAR_OK;
    step_scores *s = context;
    void *memory = s->x.steps;
    if (s->n == s->x.k || row->response != (int64_t)s->n) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "run.db: the steps of prompt %lld are not those of its samples",
                           (long long)row->prompt));
    }
    SPAR_TRY(sp_mem_grow(&memory, &s->capacity, s->used + (size_t)row->n, sizeof(double), err));
    s->x.steps = memory;
    memcpy(s->x.steps + s->used, row->scores, (size_t)row->n * sizeof(double));
    s->used += (size_t)row->n;
    s->x.n_steps[s->n++] = (size_t)row->n;
done:
    return status;
}

/* The texts of the steps once more, by the rule that the judge went by. */
static spar_status split_texts(const judging *j, size_t problem, spar_judgement *x,
                               spar_error *err) {
    x->step_texts = json_array();
    for (size_t i = 0; i < x->k; i++) {
        json_t *text = json_string(j->texts[problem * x->k + i]);
        json_t *steps = sp_judge_steps_of(text, j->run->recipe.judge.process.steps == 1);
        json_decref(text);
        const size_t n = json_array_size(steps);
        if (json_array_append_new(x->step_texts, steps) != 0) {
            return spar_fail(err, SPAR_NO_MEMORY, "out of memory for steps");
        }
        if (n != x->n_steps[i]) {
            return spar_fail(err, SPAR_MISMATCH,
                             "run.db: prompt %lld: expected scores of %zu steps, found %zu",
                             (long long)j->problems->items[problem].id, n, x->n_steps[i]);
        }
    }
    return SPAR_OK;
}

static spar_status read_fork(judging *j, size_t problem, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t k = j->out->k;
    step_scores s = {.x = {.k = k}};
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, k, sizeof *s.x.n_steps, err));
    s.x.n_steps = memory;
    SPAR_TRY(sp_rundb_each_steps(j->run->db, j->stage, j->role->name,
                                 j->problems->items[problem].id, take_steps, &s, err));
    if (s.n == k) {
        SPAR_TRY(split_texts(j, problem, &s.x, err));
        j->out->forks[problem] = sp_judge_widest_fork(&s.x, j->cut ? j->cut + problem * k : NULL);
    }
done:
    spar_judgement_release(&s.x);
    return status;
}

static spar_status read_back(judging *j, spar_error *err) {
    spar_status status = SPAR_OK;
    j->read = 0;
    SPAR_TRY(sp_rundb_each_judgement(j->run->db, j->stage, j->role->name, read_judgement, j, err));
    for (size_t i = 0; j->out->forks && i < j->out->n; i++) {
        SPAR_TRY(j->done[i] ? read_fork(j, i, err) : SPAR_OK);
    }
done:
    return status;
}

static spar_status allocate(judging *j, size_t k, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_judged *out = j->out;
    void *memory;
    out->n = j->problems->n;
    out->k = k;
    SPAR_TRY(sp_mem_calloc(&memory, out->n, sizeof *j->done, err));
    j->done = memory;
    SPAR_TRY(sp_mem_calloc(&memory, out->n * k, k * sizeof *out->p, err));
    out->p = memory;
    SPAR_TRY(sp_mem_calloc(&memory, out->n * k, sizeof *out->win, err));
    out->win = memory;
    SPAR_TRY(sp_mem_calloc(&memory, out->n * k, sizeof *out->scores, err));
    out->scores = memory;
    if (j->cut && sp_judge_sees_steps(spec_of(j->run, j->role))) {
        SPAR_TRY(sp_mem_calloc(&memory, out->n, sizeof *out->forks, err));
        out->forks = memory;
    }
done:
    return status;
}

static spar_status run_phase(judging *j, size_t k, spar_error *err) {
    spar_status status = SPAR_OK;
    bool done;
    SPAR_TRY(allocate(j, k, err));
    SPAR_TRY(sp_run_phase_done(j->run, j->stage, j->role->phase, &done, err));
    SPAR_TRY(read_back(j, err));
    if (!done) {
        SPAR_TRY(sp_work_begin(j->run, j->stage, j->role->phase, err));
        SPAR_TRY(sp_work_end(j->run, judge_rest(j, err), err));
        SPAR_TRY(read_back(j, err));
    }
done:
    free(j->done);
    return status;
}

/* ---- the two judges ---- */

spar_status sp_judged_make(sp_run *run, int64_t stage, const sp_problems *problems,
                           const sp_samples *samples, sp_judged *out, spar_error *err) {
    spar_status status = SPAR_OK;
    const char **texts = NULL;
    bool *cut = NULL;
    void *memory;
    memset(out, 0, sizeof *out);
    SPAR_TRY(sp_mem_calloc(&memory, samples->n, sizeof *texts, err));
    texts = memory;
    SPAR_TRY(sp_mem_calloc(&memory, samples->n, sizeof *cut, err));
    cut = memory;
    for (size_t i = 0; i < samples->n; i++) {
        texts[i] = samples->items[i].text;
        cut[i] = samples->items[i].truncated;
    }
    judging j = {.run = run,
                 .role = &train_role,
                 .stage = stage,
                 .problems = problems,
                 .texts = texts,
                 .cut = cut,
                 .out = out};
    SPAR_TRY(run_phase(&j, problems->n ? samples->n / problems->n : 0, err));
done:
    free(texts);
    free(cut);
    if (status != SPAR_OK) {
        sp_judged_release(out);
    }
    return status;
}

/* Responses of one stage to the report set, as text [2 n]: those at `place`, place + 2, ... */
typedef struct report_texts {
    char **texts; /* owned, each too */
    size_t n, at, place;
} report_texts;

static spar_status take_response(void *context, const sp_rundb_evaluation *row, spar_error *err) {
    report_texts *t = context;
    if (t->at == t->n) {
        return spar_fail(err, SPAR_MISMATCH, "run.db: more responses than the report set has");
    }
    return sp_mem_strdup(&t->texts[2 * t->at++ + t->place], row->response, strlen(row->response),
                         err);
}

static spar_status read_responses(sp_run *run, int64_t stage, size_t place, report_texts *t,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    t->at = 0;
    t->place = place;
    SPAR_TRY(sp_rundb_each_evaluation(run->db, stage, sp_set_names[SP_SET_REPORT], take_response, t,
                                      err));
    if (t->at < t->n) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "run.db: stage %lld: expected %zu responses to the report set, found "
                           "%zu",
                           (long long)stage, t->n, t->at));
    }
done:
    return status;
}

spar_status sp_judged_report(sp_run *run, int64_t stage, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_problems *problems = &run->sets[SP_SET_REPORT];
    sp_judged judged = {0};
    report_texts t = {.n = problems->n};
    void *memory;
    if (!run->recipe.judge.report || stage == run->base_stage) {
        return SPAR_OK;
    }
    SPAR_TRY(sp_mem_calloc(&memory, problems->n, 2 * sizeof *t.texts, err));
    t.texts = memory;
    SPAR_TRY(read_responses(run, run->base_stage, 0, &t, err));
    SPAR_TRY(read_responses(run, stage, 1, &t, err));
    judging j = {.run = run,
                 .role = &report_role,
                 .stage = stage,
                 .problems = problems,
                 .texts = (const char *const *)t.texts,
                 .out = &judged};
    SPAR_TRY(run_phase(&j, 2, err));
done:
    for (size_t i = 0; t.texts && i < 2 * t.n; i++) {
        free(t.texts[i]);
    }
    free(t.texts);
    sp_judged_release(&judged);
    return status;
}
