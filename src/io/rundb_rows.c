/* The rows of the run database: what a put binds and what a walk reads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/rundb.h"
#include "io/rundb_query.h"

/* Blobs are little-endian, and so are the machines that spar is built for. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "blobs are stored as they lie in memory");

/* Whom a walk calls for each row. */
typedef struct visitor {
    void *context;
    union {
        sp_rundb_prompt_fn prompt;
        sp_rundb_stage_fn stage;
        sp_rundb_sample_fn sample;
        sp_rundb_score_fn score;
        sp_rundb_pair_fn pair;
        sp_rundb_metric_fn metric;
        sp_rundb_evaluation_fn evaluation;
        sp_rundb_judgement_fn judgement;
        sp_rundb_steps_fn steps;
        sp_rundb_work_fn work;
        sp_rundb_checkpoint_fn checkpoint;
    } fn;
} visitor;

typedef spar_status (*visit_fn)(sp_rundb_query *q, const visitor *v, spar_error *err);

/* Visit every row and end the query. *n (may be NULL) counts them. */
static spar_status walk(sp_rundb_query *q, visit_fn visit, const visitor *v, int64_t *n,
                        spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t rows = 0;
    bool more = false;
    SPAR_TRY(sp_rundb_query_next(q, &more, err));
    while (more) {
        SPAR_TRY(visit(q, v, err));
        rows++;
        SPAR_TRY(sp_rundb_query_next(q, &more, err));
    }
done:
    sp_rundb_query_close(q);
    if (n) {
        *n = rows;
    }
    return status;
}

/* As walk, for a query by id: NOT_FOUND without a row. */
static spar_status walk_one(sp_rundb_query *q, int64_t id, visit_fn visit, const visitor *v,
                            const char *kind, spar_error *err) {
    int64_t n = 0;
    spar_status status = walk(q, visit, v, &n, err);
    if (status == SPAR_OK && n == 0) {
        return spar_fail(err, SPAR_NOT_FOUND, "%s: there is no %s %lld", q->db->path, kind,
                         (long long)id);
    }
    return status;
}

/* ---- meta ---- */

spar_status sp_rundb_put_meta(sp_rundb *db, const char *key, const char *value, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_META);
    sp_rundb_bind_text(&q, key);
    sp_rundb_bind_text(&q, value);
    return sp_rundb_query_run(&q, err);
}

spar_status sp_rundb_get_meta(sp_rundb *db, const char *key, char **value, spar_error *err) {
    spar_status status = SPAR_OK;
    bool more = false;
    *value = NULL;
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_GET_META);
    sp_rundb_bind_text(&q, key);
    SPAR_TRY(sp_rundb_query_next(&q, &more, err));
    if (!more) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: the run has no setting '%s'", db->path, key));
    }
    const char *text = sp_rundb_column_text(&q, 0);
    SPAR_TRY(sp_rundb_query_row_status(&q, err));
    SPAR_TRY(sp_mem_strdup(value, text, strlen(text), err));
done:
    sp_rundb_query_close(&q);
    return status;
}

/* ---- prompts ---- */

spar_status sp_rundb_put_prompt(sp_rundb *db, const sp_rundb_prompt *row, int64_t *id,
                                spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_PROMPT);
    sp_rundb_bind_id(&q, row->id);
    sp_rundb_bind_text(&q, row->set);
    sp_rundb_bind_text(&q, row->family);
    sp_rundb_bind_text(&q, row->messages);
    sp_rundb_bind_text(&q, row->reference);
    sp_rundb_bind_text(&q, row->key);
    return sp_rundb_query_insert(&q, id, err);
}

static spar_status visit_prompt(sp_rundb_query *q, const visitor *v, spar_error *err) {
    sp_rundb_prompt row = {.id = sp_rundb_column_int(q, 0),
                           .set = sp_rundb_column_text(q, 1),
                           .family = sp_rundb_column_text(q, 2),
                           .messages = sp_rundb_column_text(q, 3),
                           .reference = sp_rundb_column_optional(q, 4),
                           .key = sp_rundb_column_optional(q, 5)};
    spar_status status = sp_rundb_query_row_status(q, err);
    return status == SPAR_OK ? v->fn.prompt(v->context, &row, err) : status;
}

spar_status sp_rundb_get_prompt(sp_rundb *db, int64_t id, sp_rundb_prompt_fn fn, void *context,
                                spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_GET_PROMPT);
    sp_rundb_bind_int(&q, id);
    return walk_one(&q, id, visit_prompt, &(visitor){context, {.prompt = fn}}, "prompt", err);
}

spar_status sp_rundb_each_prompt(sp_rundb *db, const char *set, sp_rundb_prompt_fn fn,
                                 void *context, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_EACH_PROMPT);
    sp_rundb_bind_text(&q, set);
    return walk(&q, visit_prompt, &(visitor){context, {.prompt = fn}}, NULL, err);
}

spar_status sp_rundb_count_prompts(sp_rundb *db, const char *set, int64_t *n, spar_error *err) {
    bool more = false;
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_COUNT_PROMPTS);
    sp_rundb_bind_text(&q, set);
    spar_status status = sp_rundb_query_next(&q, &more, err);
    *n = more ? sp_rundb_column_int(&q, 0) : 0;
    sp_rundb_query_close(&q);
    return status;
}

/* ---- stages and phases ---- */

spar_status sp_rundb_put_stage(sp_rundb *db, const sp_rundb_stage *row, int64_t *id,
                               spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_STAGE);
    sp_rundb_bind_id(&q, row->id);
    sp_rundb_bind_int(&q, row->ordinal);
    sp_rundb_bind_text(&q, row->arm);
    sp_rundb_bind_text(&q, row->kind);
    sp_rundb_bind_int(&q, row->iteration);
    sp_rundb_bind_text(&q, row->status);
    sp_rundb_bind_id(&q, row->started);
    sp_rundb_bind_id(&q, row->finished);
    sp_rundb_bind_text(&q, row->settings);
    return sp_rundb_query_insert(&q, id, err);
}

spar_status sp_rundb_set_stage_status(sp_rundb *db, int64_t stage, const char *status_name,
                                      int64_t now, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_SET_STAGE);
    sp_rundb_bind_int(&q, stage);
    sp_rundb_bind_text(&q, status_name);
    sp_rundb_bind_int(&q, now);
    return sp_rundb_query_update(&q, stage, err);
}

static spar_status visit_stage(sp_rundb_query *q, const visitor *v, spar_error *err) {
    sp_rundb_stage row = {.id = sp_rundb_column_int(q, 0),
                          .ordinal = sp_rundb_column_int(q, 1),
                          .arm = sp_rundb_column_text(q, 2),
                          .kind = sp_rundb_column_text(q, 3),
                          .iteration = sp_rundb_column_int(q, 4),
                          .status = sp_rundb_column_text(q, 5),
                          .started = sp_rundb_column_int(q, 6),
                          .finished = sp_rundb_column_int(q, 7),
                          .settings = sp_rundb_column_text(q, 8)};
    spar_status status = sp_rundb_query_row_status(q, err);
    return status == SPAR_OK ? v->fn.stage(v->context, &row, err) : status;
}

spar_status sp_rundb_each_stage(sp_rundb *db, sp_rundb_stage_fn fn, void *context,
                                spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_EACH_STAGE);
    return walk(&q, visit_stage, &(visitor){context, {.stage = fn}}, NULL, err);
}

spar_status sp_rundb_put_phase(sp_rundb *db, int64_t stage, const char *phase, int64_t done,
                               int64_t total, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_PHASE);
    sp_rundb_bind_int(&q, stage);
    sp_rundb_bind_text(&q, phase);
    sp_rundb_bind_int(&q, done);
    sp_rundb_bind_int(&q, total);
    return sp_rundb_query_run(&q, err);
}

spar_status sp_rundb_get_phase(sp_rundb *db, int64_t stage, const char *phase, int64_t *done,
                               int64_t *total, spar_error *err) {
    bool more = false;
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_GET_PHASE);
    sp_rundb_bind_int(&q, stage);
    sp_rundb_bind_text(&q, phase);
    spar_status status = sp_rundb_query_next(&q, &more, err);
    *done = more ? sp_rundb_column_int(&q, 0) : 0;
    *total = more ? sp_rundb_column_int(&q, 1) : -1;
    sp_rundb_query_close(&q);
    return status;
}

/* ---- samples ---- */

spar_status sp_rundb_put_sample(sp_rundb *db, const sp_rundb_sample *row, int64_t *id,
                                spar_error *err) {
    size_t bytes = 0;
    if (row->n_tokens < 0 || !sp_mem_mul((size_t)row->n_tokens, sizeof *row->tokens, &bytes)) {
        return spar_fail(err, SPAR_INVALID, "%s: adding a sample: %lld tokens", db->path,
                         (long long)row->n_tokens);
    }
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_SAMPLE);
    sp_rundb_bind_id(&q, row->id);
    sp_rundb_bind_int(&q, row->stage);
    sp_rundb_bind_int(&q, row->prompt);
    sp_rundb_bind_int(&q, row->index);
    sp_rundb_bind_blob(&q, bytes ? (const void *)row->tokens : "", bytes);
    sp_rundb_bind_blob(&q, row->logprobs, bytes);
    sp_rundb_bind_text(&q, row->text);
    sp_rundb_bind_text(&q, row->finish);
    sp_rundb_bind_text(&q, row->mode);
    return sp_rundb_query_insert(&q, id, err);
}

/* A copy of a blob of values of so many bytes, as SQLite's own pointer need not be aligned. NULL
 * gives NULL, n 0. */
static spar_status copy_words(sp_rundb_query *q, int column, size_t width, void **out, int64_t *n,
                              spar_error *err) {
    const void *blob = sqlite3_column_blob(q->statement, column);
    size_t bytes = (size_t)sqlite3_column_bytes(q->statement, column);
    *out = NULL;
    *n = (int64_t)(bytes / width);
    if (sqlite3_column_type(q->statement, column) == SQLITE_NULL) {
        return SPAR_OK;
    }
    if (bytes % width != 0) {
        q->malformed = sqlite3_column_name(q->statement, column);
        return sp_rundb_query_row_status(q, err);
    }
    spar_status status = sp_mem_calloc(out, bytes / width, width, err);
    if (status == SPAR_OK && bytes) {
        memcpy(*out, blob, bytes);
    }
    return status;
}

static spar_status visit_sample(sp_rundb_query *q, const visitor *v, spar_error *err) {
    spar_status status = SPAR_OK;
    void *tokens = NULL, *logprobs = NULL;
    int64_t n_tokens = 0, n_logprobs = 0;
    SPAR_TRY(copy_words(q, 4, sizeof(int32_t), &tokens, &n_tokens, err));
    SPAR_TRY(copy_words(q, 5, sizeof(float), &logprobs, &n_logprobs, err));
    if (!tokens || (logprobs && n_logprobs != n_tokens)) {
        q->malformed = tokens ? "logprobs" : "tokens";
    }
    sp_rundb_sample row = {.id = sp_rundb_column_int(q, 0),
                           .stage = sp_rundb_column_int(q, 1),
                           .prompt = sp_rundb_column_int(q, 2),
                           .index = sp_rundb_column_int(q, 3),
                           .tokens = tokens,
                           .logprobs = logprobs,
                           .n_tokens = n_tokens,
                           .text = sp_rundb_column_text(q, 6),
                           .finish = sp_rundb_column_text(q, 7),
                           .mode = sp_rundb_column_text(q, 8)};
    SPAR_TRY(sp_rundb_query_row_status(q, err));
    SPAR_TRY(v->fn.sample(v->context, &row, err));
done:
    free(tokens);
    free(logprobs);
    return status;
}

spar_status sp_rundb_get_sample(sp_rundb *db, int64_t id, sp_rundb_sample_fn fn, void *context,
                                spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_GET_SAMPLE);
    sp_rundb_bind_int(&q, id);
    return walk_one(&q, id, visit_sample, &(visitor){context, {.sample = fn}}, "sample", err);
}

spar_status sp_rundb_each_sample(sp_rundb *db, int64_t stage, sp_rundb_sample_fn fn, void *context,
                                 spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_EACH_SAMPLE);
    sp_rundb_bind_int(&q, stage);
    return walk(&q, visit_sample, &(visitor){context, {.sample = fn}}, NULL, err);
}

/* ---- scores ---- */

spar_status sp_rundb_put_score(sp_rundb *db, const sp_rundb_score *row, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_SCORE);
    sp_rundb_bind_int(&q, row->sample);
    sp_rundb_bind_text(&q, row->name);
    sp_rundb_bind_real(&q, row->strict);
    sp_rundb_bind_real(&q, row->lenient);
    sp_rundb_bind_real(&q, row->value);
    return sp_rundb_query_run(&q, err);
}

static spar_status visit_score(sp_rundb_query *q, const visitor *v, spar_error *err) {
    sp_rundb_score row = {.sample = sp_rundb_column_int(q, 0),
                          .name = sp_rundb_column_text(q, 1),
                          .strict = sp_rundb_column_real(q, 2),
                          .lenient = sp_rundb_column_real(q, 3),
                          .value = sp_rundb_column_real(q, 4)};
    spar_status status = sp_rundb_query_row_status(q, err);
    return status == SPAR_OK ? v->fn.score(v->context, &row, err) : status;
}

spar_status sp_rundb_each_score(sp_rundb *db, int64_t stage, sp_rundb_score_fn fn, void *context,
                                spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_EACH_SCORE);
    sp_rundb_bind_int(&q, stage);
    return walk(&q, visit_score, &(visitor){context, {.score = fn}}, NULL, err);
}

/* ---- pairs ---- */

spar_status sp_rundb_put_pair(sp_rundb *db, const sp_rundb_pair *row, int64_t *id,
                              spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_PAIR);
    sp_rundb_bind_id(&q, row->id);
    sp_rundb_bind_int(&q, row->stage);
    sp_rundb_bind_int(&q, row->prompt);
    sp_rundb_bind_id(&q, row->chosen);
    sp_rundb_bind_int(&q, row->rejected);
    sp_rundb_bind_text(&q, row->kept ? "kept" : "dropped");
    sp_rundb_bind_text(&q, row->reason);
    return sp_rundb_query_insert(&q, id, err);
}

static spar_status visit_pair(sp_rundb_query *q, const visitor *v, spar_error *err) {
    sp_rundb_pair row = {.id = sp_rundb_column_int(q, 0),
                         .stage = sp_rundb_column_int(q, 1),
                         .prompt = sp_rundb_column_int(q, 2),
                         .chosen = sp_rundb_column_int(q, 3),
                         .rejected = sp_rundb_column_int(q, 4),
                         .kept = sp_rundb_column_int(q, 5) != 0,
                         .reason = sp_rundb_column_text(q, 6)};
    spar_status status = sp_rundb_query_row_status(q, err);
    return status == SPAR_OK ? v->fn.pair(v->context, &row, err) : status;
}

spar_status sp_rundb_each_pair(sp_rundb *db, int64_t stage, sp_rundb_pair_fn fn, void *context,
                               spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_EACH_PAIR);
    sp_rundb_bind_int(&q, stage);
    return walk(&q, visit_pair, &(visitor){context, {.pair = fn}}, NULL, err);
}

/* ---- metrics ---- */

spar_status sp_rundb_put_metric(sp_rundb *db, const sp_rundb_metric *row, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_METRIC);
    sp_rundb_bind_int(&q, row->stage);
    sp_rundb_bind_text(&q, row->name);
    sp_rundb_bind_int(&q, row->step);
    sp_rundb_bind_real(&q, row->value);
    return sp_rundb_query_run(&q, err);
}

static spar_status visit_metric(sp_rundb_query *q, const visitor *v, spar_error *err) {
    sp_rundb_metric row = {.stage = sp_rundb_column_int(q, 0),
                           .name = sp_rundb_column_text(q, 1),
                           .step = sp_rundb_column_int(q, 2),
                           .value = sp_rundb_column_real(q, 3)};
    spar_status status = sp_rundb_query_row_status(q, err);
    return status == SPAR_OK ? v->fn.metric(v->context, &row, err) : status;
}

spar_status sp_rundb_each_metric(sp_rundb *db, int64_t stage, const char *name,
                                 sp_rundb_metric_fn fn, void *context, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_EACH_METRIC);
    sp_rundb_bind_int(&q, stage);
    sp_rundb_bind_text(&q, name);
    return walk(&q, visit_metric, &(visitor){context, {.metric = fn}}, NULL, err);
}

/* ---- evaluations ---- */

spar_status sp_rundb_put_evaluation(sp_rundb *db, const sp_rundb_evaluation *row, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_EVALUATION);
    sp_rundb_bind_int(&q, row->stage);
    sp_rundb_bind_text(&q, row->set);
    sp_rundb_bind_int(&q, row->prompt);
    sp_rundb_bind_real(&q, row->strict);
    sp_rundb_bind_real(&q, row->lenient);
    sp_rundb_bind_text(&q, row->response);
    return sp_rundb_query_run(&q, err);
}

static spar_status visit_evaluation(sp_rundb_query *q, const visitor *v, spar_error *err) {
    sp_rundb_evaluation row = {.stage = sp_rundb_column_int(q, 0),
                               .set = sp_rundb_column_text(q, 1),
                               .prompt = sp_rundb_column_int(q, 2),
                               .strict = sp_rundb_column_real(q, 3),
                               .lenient = sp_rundb_column_real(q, 4),
                               .response = sp_rundb_column_text(q, 5)};
    spar_status status = sp_rundb_query_row_status(q, err);
    return status == SPAR_OK ? v->fn.evaluation(v->context, &row, err) : status;
}

spar_status sp_rundb_each_evaluation(sp_rundb *db, int64_t stage, const char *set,
                                     sp_rundb_evaluation_fn fn, void *context, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_EACH_EVALUATION);
    sp_rundb_bind_int(&q, stage);
    sp_rundb_bind_text(&q, set);
    return walk(&q, visit_evaluation, &(visitor){context, {.evaluation = fn}}, NULL, err);
}

/* ---- judgements ---- */

spar_status sp_rundb_put_judgement(sp_rundb *db, const sp_rundb_judgement *row, spar_error *err) {
    size_t line = 0, square = 0;
    if (row->k < 1 || !sp_mem_mul((size_t)row->k, sizeof *row->p, &line) ||
        !sp_mem_mul((size_t)row->k, line, &square)) {
        return spar_fail(err, SPAR_INVALID, "%s: adding a judgement: %lld responses", db->path,
                         (long long)row->k);
    }
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_JUDGEMENT);
    sp_rundb_bind_int(&q, row->stage);
    sp_rundb_bind_text(&q, row->judge);
    sp_rundb_bind_int(&q, row->prompt);
    sp_rundb_bind_blob(&q, row->p, square);
    sp_rundb_bind_blob(&q, row->logits, square);
    sp_rundb_bind_blob(&q, row->scores, line);
    sp_rundb_bind_real(&q, row->seconds);
    sp_rundb_bind_int(&q, row->tokens);
    return sp_rundb_query_run(&q, err);
}

static spar_status visit_judgement(sp_rundb_query *q, const visitor *v, spar_error *err) {
    spar_status status = SPAR_OK;
    void *p = NULL, *logits = NULL, *scores = NULL;
    int64_t n_p, n_logits, k;
    SPAR_TRY(copy_words(q, 3, sizeof(double), &p, &n_p, err));
    SPAR_TRY(copy_words(q, 4, sizeof(double), &logits, &n_logits, err));
    SPAR_TRY(copy_words(q, 5, sizeof(double), &scores, &k, err));
    if (k < 1 || k > INT32_MAX || n_p != k * k || (logits && n_logits != n_p)) {
        q->malformed = "p, logits or scores";
    }
    sp_rundb_judgement row = {.stage = sp_rundb_column_int(q, 0),
                              .judge = sp_rundb_column_text(q, 1),
                              .prompt = sp_rundb_column_int(q, 2),
                              .k = k,
                              .p = p,
                              .logits = logits,
                              .scores = scores,
                              .seconds = sp_rundb_column_real(q, 6),
                              .tokens = sp_rundb_column_int(q, 7)};
    SPAR_TRY(sp_rundb_query_row_status(q, err));
    SPAR_TRY(v->fn.judgement(v->context, &row, err));
done:
    free(p);
    free(logits);
    free(scores);
    return status;
}

spar_status sp_rundb_each_judgement(sp_rundb *db, int64_t stage, const char *judge,
                                    sp_rundb_judgement_fn fn, void *context, spar_error *err) {
    if (db->version < 2) {
        return SPAR_OK;
    }
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_EACH_JUDGEMENT);
    sp_rundb_bind_int(&q, stage);
    sp_rundb_bind_text(&q, judge);
    return walk(&q, visit_judgement, &(visitor){context, {.judgement = fn}}, NULL, err);
}

spar_status sp_rundb_put_steps(sp_rundb *db, const sp_rundb_steps *row, spar_error *err) {
    size_t bytes = 0;
    if (row->n < 0 || !sp_mem_mul((size_t)row->n, sizeof *row->scores, &bytes)) {
        return spar_fail(err, SPAR_INVALID,
                         "%s: adding steps: expected a number of them, found %lld", db->path,
                         (long long)row->n);
    }
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_STEPS);
    sp_rundb_bind_int(&q, row->stage);
    sp_rundb_bind_text(&q, row->judge);
    sp_rundb_bind_int(&q, row->prompt);
    sp_rundb_bind_int(&q, row->response);
    sp_rundb_bind_blob(&q, row->scores, bytes);
    return sp_rundb_query_run(&q, err);
}

static spar_status visit_steps(sp_rundb_query *q, const visitor *v, spar_error *err) {
    spar_status status = SPAR_OK;
    void *scores = NULL;
    sp_rundb_steps row = {.stage = sp_rundb_column_int(q, 0),
                          .judge = sp_rundb_column_text(q, 1),
                          .prompt = sp_rundb_column_int(q, 2),
                          .response = sp_rundb_column_int(q, 3)};
    SPAR_TRY(copy_words(q, 4, sizeof(double), &scores, &row.n, err));
    row.scores = scores;
    SPAR_TRY(sp_rundb_query_row_status(q, err));
    SPAR_TRY(v->fn.steps(v->context, &row, err));
done:
    free(scores);
    return status;
}

spar_status sp_rundb_each_steps(sp_rundb *db, int64_t stage, const char *judge, int64_t prompt,
                                sp_rundb_steps_fn fn, void *context, spar_error *err) {
    if (db->version < 4) {
        return SPAR_OK;
    }
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_EACH_STEPS);
    sp_rundb_bind_int(&q, stage);
    sp_rundb_bind_text(&q, judge);
    sp_rundb_bind_int(&q, prompt);
    return walk(&q, visit_steps, &(visitor){context, {.steps = fn}}, NULL, err);
}

/* ---- work ---- */

spar_status sp_rundb_put_work(sp_rundb *db, const sp_rundb_work *row, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_WORK);
    sp_rundb_bind_int(&q, row->stage);
    sp_rundb_bind_text(&q, row->phase);
    sp_rundb_bind_int(&q, row->segment);
    sp_rundb_bind_real(&q, row->cpu);
    sp_rundb_bind_real(&q, row->seconds);
    return sp_rundb_query_run(&q, err);
}

static spar_status visit_work(sp_rundb_query *q, const visitor *v, spar_error *err) {
    const sp_rundb_work row = {.stage = sp_rundb_column_int(q, 0),
                               .phase = sp_rundb_column_text(q, 1),
                               .segment = sp_rundb_column_int(q, 2),
                               .cpu = sp_rundb_column_real(q, 3),
                               .seconds = sp_rundb_column_real(q, 4)};
    const spar_status status = sp_rundb_query_row_status(q, err);
    return status == SPAR_OK ? v->fn.work(v->context, &row, err) : status;
}

spar_status sp_rundb_each_work(sp_rundb *db, int64_t stage, sp_rundb_work_fn fn, void *context,
                               spar_error *err) {
    if (db->version < 5) {
        return SPAR_OK;
    }
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_EACH_WORK);
    sp_rundb_bind_int(&q, stage);
    return walk(&q, visit_work, &(visitor){context, {.work = fn}}, NULL, err);
}

/* ---- replies ---- */

spar_status sp_rundb_put_reply(sp_rundb *db, const char *request, const char *reply,
                               spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_REPLY);
    sp_rundb_bind_text(&q, request);
    sp_rundb_bind_text(&q, reply);
    return sp_rundb_query_run(&q, err);
}

spar_status sp_rundb_get_reply(sp_rundb *db, const char *request, char **reply, spar_error *err) {
    spar_status status = SPAR_OK;
    bool more = false;
    *reply = NULL;
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_GET_REPLY);
    sp_rundb_bind_text(&q, request);
    SPAR_TRY(sp_rundb_query_next(&q, &more, err));
    if (more) {
        const char *text = sp_rundb_column_text(&q, 0);
        SPAR_TRY(sp_rundb_query_row_status(&q, err));
        SPAR_TRY(sp_mem_strdup(reply, text, strlen(text), err));
    }
done:
    sp_rundb_query_close(&q);
    return status;
}

/* ---- checkpoints ---- */

spar_status sp_rundb_put_checkpoint(sp_rundb *db, const sp_rundb_checkpoint *row, int64_t *id,
                                    spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_PUT_CHECKPOINT);
    sp_rundb_bind_id(&q, row->id);
    sp_rundb_bind_int(&q, row->stage);
    sp_rundb_bind_int(&q, row->step);
    sp_rundb_bind_text(&q, row->path);
    sp_rundb_bind_text(&q, row->fingerprint);
    sp_rundb_bind_int(&q, row->kept);
    return sp_rundb_query_insert(&q, id, err);
}

spar_status sp_rundb_set_checkpoint_kept(sp_rundb *db, int64_t id, bool kept, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_SET_CHECKPOINT);
    sp_rundb_bind_int(&q, id);
    sp_rundb_bind_int(&q, kept);
    return sp_rundb_query_update(&q, id, err);
}

static spar_status visit_checkpoint(sp_rundb_query *q, const visitor *v, spar_error *err) {
    sp_rundb_checkpoint row = {.id = sp_rundb_column_int(q, 0),
                               .stage = sp_rundb_column_int(q, 1),
                               .step = sp_rundb_column_int(q, 2),
                               .path = sp_rundb_column_text(q, 3),
                               .fingerprint = sp_rundb_column_text(q, 4),
                               .kept = sp_rundb_column_int(q, 5) != 0};
    spar_status status = sp_rundb_query_row_status(q, err);
    return status == SPAR_OK ? v->fn.checkpoint(v->context, &row, err) : status;
}

spar_status sp_rundb_each_checkpoint(sp_rundb *db, int64_t stage, sp_rundb_checkpoint_fn fn,
                                     void *context, spar_error *err) {
    sp_rundb_query q = sp_rundb_query_open(db, SP_RUNDB_EACH_CHECKPOINT);
    sp_rundb_bind_id(&q, stage);
    return walk(&q, visit_checkpoint, &(visitor){context, {.checkpoint = fn}}, NULL, err);
}
