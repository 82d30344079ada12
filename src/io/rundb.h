/* The run database: everything a self-play run has done, in one SQLite file.
 *
 * Invariants
 * - A put outside a transaction is durable when it returns; between sp_rundb_begin and
 *   sp_rundb_commit all puts become durable together, or none does. A loop that commits each phase
 *   of a stage (its rows and its phase row) in one transaction can be killed at any instant and
 *   finds on resuming exactly the phases that it had finished.
 * - Ids are positive and ascend in the order of the puts, so that a resumed run gives the same ids
 *   as one that was never killed. Nothing depends on the clock but the times given to
 *   sp_rundb_set_stage_status.
 * - Rows that refer to missing rows are refused (foreign keys), as are values that the schema does
 *   not know (a set other than train, gate and report, ...).
 *
 * Life cycle: open, begin/put/commit or each..., close. A handle belongs to one thread at a time.
 * Strings and arrays in rows given to a callback are borrowed for that call. A callback may put and
 * may run other queries, but not the one that calls it; a status other than OK ends the walk and is
 * returned. Every message names the database file and gives SQLite's own words.
 *
 * Errors: IO (disk full, read-only, cannot open), BUSY (another process writes), FORMAT (not a
 * database, truncated, damaged), MISMATCH (another program's database, or a newer spar's),
 * NOT_FOUND (no such file or row), INVALID (a row that the schema refuses), NO_MEMORY, LIMIT.
 */
#ifndef SP_IO_RUNDB_H
#define SP_IO_RUNDB_H

#include <stdbool.h>
#include <stdint.h>

#include "spar/status.h"

/* PRAGMA user_version. A database of an older version gets the tables that it lacks when it is
 * opened for writing; read alone, it gives no rows of them. */
enum { SP_RUNDB_SCHEMA = 5 };

typedef struct sp_rundb sp_rundb;

typedef enum sp_rundb_mode {
    SP_RUNDB_CREATE, /* a new database; an existing one is refused, unless creation was cut short */
    SP_RUNDB_RESUME, /* an existing database, for writing */
    SP_RUNDB_READ    /* an existing database, read only; also in a folder without write access */
} sp_rundb_mode;

spar_status sp_rundb_open(sp_rundb **out, const char *path, sp_rundb_mode mode, spar_error *err);
void sp_rundb_close(sp_rundb *db); /* rolls back an open transaction; NULL is fine */

spar_status sp_rundb_begin(sp_rundb *db, spar_error *err);
spar_status sp_rundb_commit(sp_rundb *db, spar_error *err); /* on failure all is rolled back */
void sp_rundb_rollback(sp_rundb *db);                       /* without a transaction: nothing */

/* Read the whole file for damage and broken references, before a run goes on. */
spar_status sp_rundb_check(sp_rundb *db, spar_error *err);

/* Tests only: let the file grow to at most this many pages, as on a full disk. */
void sp_rundb_limit_pages(sp_rundb *db, int pages);

/* ---- what the run is: recipe, model path, model fingerprint, version, seed ---- */

spar_status sp_rundb_put_meta(sp_rundb *db, const char *key, const char *value, spar_error *err);
/* NOT_FOUND when the key was never put. *value is owned by the caller (free()). */
spar_status sp_rundb_get_meta(sp_rundb *db, const char *key, char **value, spar_error *err);

/* ---- rows ----
 * put: id 0 lets the database choose; *id (may be NULL) is the id that the row got. Texts marked
 * optional may be NULL. Numbers that were not measured are NaN. */

typedef struct sp_rundb_prompt {
    int64_t id;
    const char *set;       /* "train", "gate" or "report" */
    const char *family;    /* task family or data set */
    const char *messages;  /* JSON array of messages */
    const char *reference; /* optional: the real response */
    const char *key;       /* optional: what the family's verifier compares with */
} sp_rundb_prompt;
typedef spar_status (*sp_rundb_prompt_fn)(void *context, const sp_rundb_prompt *row,
                                          spar_error *err);

spar_status sp_rundb_put_prompt(sp_rundb *db, const sp_rundb_prompt *row, int64_t *id,
                                spar_error *err);
spar_status sp_rundb_get_prompt(sp_rundb *db, int64_t id, sp_rundb_prompt_fn fn, void *context,
                                spar_error *err);
/* By id; set NULL for all. */
spar_status sp_rundb_each_prompt(sp_rundb *db, const char *set, sp_rundb_prompt_fn fn,
                                 void *context, spar_error *err);
spar_status sp_rundb_count_prompts(sp_rundb *db, const char *set, int64_t *n, spar_error *err);

typedef struct sp_rundb_stage {
    int64_t id;
    int64_t ordinal;  /* place in the run; unique */
    const char *arm;  /* which line of play: "spin", "sft", ... */
    const char *kind; /* "warmup", "iteration", "evaluation", ... */
    int64_t iteration;
    const char *status;        /* "pending", "running", "done" or "failed" */
    int64_t started, finished; /* Unix seconds, 0 when not yet */
    const char *settings;      /* JSON object */
} sp_rundb_stage;
typedef spar_status (*sp_rundb_stage_fn)(void *context, const sp_rundb_stage *row, spar_error *err);

spar_status sp_rundb_put_stage(sp_rundb *db, const sp_rundb_stage *row, int64_t *id,
                               spar_error *err);
/* The first "running" sets started; "done" and "failed" set finished, "running" clears it. */
spar_status sp_rundb_set_stage_status(sp_rundb *db, int64_t stage, const char *status, int64_t now,
                                      spar_error *err);
spar_status sp_rundb_each_stage(sp_rundb *db, sp_rundb_stage_fn fn, void *context,
                                spar_error *err); /* by ordinal */

/* How far a phase of a stage ("sample", "judge", "train", ...) has come: complete when done ==
 * total. Put it in the transaction of the rows that it counts. A put replaces the phase's row. */
spar_status sp_rundb_put_phase(sp_rundb *db, int64_t stage, const char *phase, int64_t done,
                               int64_t total, spar_error *err);
/* A phase that was never put gives done 0 and total -1. */
spar_status sp_rundb_get_phase(sp_rundb *db, int64_t stage, const char *phase, int64_t *done,
                               int64_t *total, spar_error *err);

typedef struct sp_rundb_sample {
    int64_t id, stage, prompt;
    int64_t index;         /* which of the prompt's samples of this stage; unique with both */
    const int32_t *tokens; /* n_tokens; stored as little-endian blobs */
    const float *logprobs; /* n_tokens, under the policy that sampled; NULL: not kept */
    int64_t n_tokens;
    const char *text;   /* for readers; the tokens are the truth */
    const char *finish; /* "stop", "length", ... */
    const char *mode;   /* how it was sampled: "sampled", "greedy", ... */
} sp_rundb_sample;
typedef spar_status (*sp_rundb_sample_fn)(void *context, const sp_rundb_sample *row,
                                          spar_error *err);

spar_status sp_rundb_put_sample(sp_rundb *db, const sp_rundb_sample *row, int64_t *id,
                                spar_error *err);
spar_status sp_rundb_get_sample(sp_rundb *db, int64_t id, sp_rundb_sample_fn fn, void *context,
                                spar_error *err);
spar_status sp_rundb_each_sample(sp_rundb *db, int64_t stage, sp_rundb_sample_fn fn, void *context,
                                 spar_error *err); /* by prompt and index */

typedef struct sp_rundb_score {
    int64_t sample;
    const char *name;              /* verifier or judge; a put replaces the sample's score by it */
    double strict, lenient, value; /* verifiers give the first two, judges the third; else NaN */
} sp_rundb_score;
typedef spar_status (*sp_rundb_score_fn)(void *context, const sp_rundb_score *row, spar_error *err);

spar_status sp_rundb_put_score(sp_rundb *db, const sp_rundb_score *row, spar_error *err);
spar_status sp_rundb_each_score(sp_rundb *db, int64_t stage, sp_rundb_score_fn fn, void *context,
                                spar_error *err); /* of the stage's samples, by sample and name */

typedef struct sp_rundb_pair {
    int64_t id, stage, prompt;
    int64_t chosen;   /* sample, or 0 for the prompt's real response */
    int64_t rejected; /* sample; may be one of an earlier stage */
    bool kept;
    const char *reason; /* why it was kept or dropped */
} sp_rundb_pair;
typedef spar_status (*sp_rundb_pair_fn)(void *context, const sp_rundb_pair *row, spar_error *err);

spar_status sp_rundb_put_pair(sp_rundb *db, const sp_rundb_pair *row, int64_t *id, spar_error *err);
spar_status sp_rundb_each_pair(sp_rundb *db, int64_t stage, sp_rundb_pair_fn fn, void *context,
                               spar_error *err); /* by id */

typedef struct sp_rundb_metric {
    int64_t stage, step;
    const char *name;
    double value;
} sp_rundb_metric;
typedef spar_status (*sp_rundb_metric_fn)(void *context, const sp_rundb_metric *row,
                                          spar_error *err);

/* Replaces: training that resumes from a checkpoint repeats the steps after it. */
spar_status sp_rundb_put_metric(sp_rundb *db, const sp_rundb_metric *row, spar_error *err);
/* By name and step; name NULL for all. */
spar_status sp_rundb_each_metric(sp_rundb *db, int64_t stage, const char *name,
                                 sp_rundb_metric_fn fn, void *context, spar_error *err);

typedef struct sp_rundb_evaluation {
    int64_t stage, prompt;
    const char *set; /* that of the prompt, or of the evaluation that borrowed it */
    double strict, lenient;
    const char *response;
} sp_rundb_evaluation;
typedef spar_status (*sp_rundb_evaluation_fn)(void *context, const sp_rundb_evaluation *row,
                                              spar_error *err);

spar_status sp_rundb_put_evaluation(sp_rundb *db, const sp_rundb_evaluation *row, spar_error *err);
spar_status sp_rundb_each_evaluation(sp_rundb *db, int64_t stage, const char *set,
                                     sp_rundb_evaluation_fn fn, void *context,
                                     spar_error *err); /* by prompt; set NULL for all */

/* What a judge said of the responses to a prompt, sampled by one stage. */
typedef struct sp_rundb_judgement {
    int64_t stage, prompt;
    const char *judge;    /* which of the run's judges: "train" */
    int64_t k;            /* responses, by sample index */
    const double *p;      /* [k,k]: that response i is preferred to j */
    const double *logits; /* [k,k]; NULL: the judge has none */
    const double *scores; /* [k] */
    double seconds;       /* that it took */
    int64_t tokens;       /* that a model read and wrote for it */
} sp_rundb_judgement;
typedef spar_status (*sp_rundb_judgement_fn)(void *context, const sp_rundb_judgement *row,
                                             spar_error *err);

spar_status sp_rundb_put_judgement(sp_rundb *db, const sp_rundb_judgement *row, spar_error *err);
spar_status sp_rundb_each_judgement(sp_rundb *db, int64_t stage, const char *judge,
                                    sp_rundb_judgement_fn fn, void *context,
                                    spar_error *err); /* by prompt */

/* The scores of the steps of one response, by a judge that sees steps. */
typedef struct sp_rundb_steps {
    int64_t stage, prompt;
    const char *judge;
    int64_t response;     /* among those of the judgement, from 0 */
    const double *scores; /* [n] */
    int64_t n;
} sp_rundb_steps;
typedef spar_status (*sp_rundb_steps_fn)(void *context, const sp_rundb_steps *row, spar_error *err);

spar_status sp_rundb_put_steps(sp_rundb *db, const sp_rundb_steps *row, spar_error *err);
spar_status sp_rundb_each_steps(sp_rundb *db, int64_t stage, const char *judge, int64_t prompt,
                                sp_rundb_steps_fn fn, void *context,
                                spar_error *err); /* of one prompt, by response */

/* What a phase of a stage took of one process. Who goes on with a stage adds a segment; a put
 * replaces its own, as time goes on. */
typedef struct sp_rundb_work {
    int64_t stage;
    const char *phase;
    int64_t segment;     /* from 1 */
    double cpu, seconds; /* of all threads; by the clock */
} sp_rundb_work;
typedef spar_status (*sp_rundb_work_fn)(void *context, const sp_rundb_work *row, spar_error *err);

spar_status sp_rundb_put_work(sp_rundb *db, const sp_rundb_work *row, spar_error *err);
spar_status sp_rundb_each_work(sp_rundb *db, int64_t stage, sp_rundb_work_fn fn, void *context,
                               spar_error *err); /* by phase and segment */

/* What an endpoint replied to a request, by the request's whole text: what was paid for once. A put
 * replaces. get gives NULL where there is none; *reply is owned by the caller (free()). */
spar_status sp_rundb_put_reply(sp_rundb *db, const char *request, const char *reply,
                               spar_error *err);
spar_status sp_rundb_get_reply(sp_rundb *db, const char *request, char **reply, spar_error *err);

typedef struct sp_rundb_checkpoint {
    int64_t id, stage;
    int64_t step;            /* optimiser steps of the stage that it holds */
    const char *path;        /* relative to the run's folder, without ".."; unique */
    const char *fingerprint; /* of its contents */
    bool kept;               /* still on disk */
} sp_rundb_checkpoint;
typedef spar_status (*sp_rundb_checkpoint_fn)(void *context, const sp_rundb_checkpoint *row,
                                              spar_error *err);

spar_status sp_rundb_put_checkpoint(sp_rundb *db, const sp_rundb_checkpoint *row, int64_t *id,
                                    spar_error *err);
spar_status sp_rundb_set_checkpoint_kept(sp_rundb *db, int64_t id, bool kept, spar_error *err);
/* By id; stage 0 for all. */
spar_status sp_rundb_each_checkpoint(sp_rundb *db, int64_t stage, sp_rundb_checkpoint_fn fn,
                                     void *context, spar_error *err);

#endif
