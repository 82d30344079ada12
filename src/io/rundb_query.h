/* Inside the run database: cached statements, and errors that stick.
 *
 * sp_rundb_query_open takes the cached statement; a failure there or in a bind is kept in the query
 * and reported by the call that ends it (run, insert, update) or steps it (next). Those that end a
 * query reset its statement; after next the caller does, by sp_rundb_query_close.
 */
#ifndef SP_IO_RUNDB_QUERY_H
#define SP_IO_RUNDB_QUERY_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

/* The statements: X(name, what it does for messages, SQL). */
#define SP_RUNDB_STATEMENTS(X)                                                                     \
    X(PUT_META, "writing the run's settings",                                                      \
      "INSERT INTO run(key, value) VALUES(?1, ?2) "                                                \
      "ON CONFLICT(key) DO UPDATE SET value = excluded.value")                                     \
    X(GET_META, "reading the run's settings", "SELECT value FROM run WHERE key = ?1")              \
    X(PUT_PROMPT, "adding a prompt",                                                               \
      "INSERT INTO prompts(id, set_name, family, messages, reference, key) "                       \
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6)")                                                            \
    X(GET_PROMPT, "reading a prompt",                                                              \
      "SELECT id, set_name, family, messages, reference, key FROM prompts WHERE id = ?1")          \
    X(EACH_PROMPT, "reading prompts",                                                              \
      "SELECT id, set_name, family, messages, reference, key FROM prompts "                        \
      "WHERE ?1 IS NULL OR set_name = ?1 ORDER BY id")                                             \
    X(COUNT_PROMPTS, "counting prompts",                                                           \
      "SELECT count(*) FROM prompts WHERE ?1 IS NULL OR set_name = ?1")                            \
    X(PUT_STAGE, "adding a stage",                                                                 \
      "INSERT INTO stages(id, ordinal, arm, kind, iteration, status, started, finished, settings)" \
      " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")                                               \
    X(SET_STAGE, "updating a stage",                                                               \
      "UPDATE stages SET status = ?2, "                                                            \
      "started = CASE WHEN ?2 = 'running' THEN coalesce(started, ?3) ELSE started END, "           \
      "finished = CASE WHEN ?2 IN ('done', 'failed') THEN ?3 END WHERE id = ?1")                   \
    X(EACH_STAGE, "reading stages",                                                                \
      "SELECT id, ordinal, arm, kind, iteration, status, started, finished, settings FROM stages " \
      "ORDER BY ordinal")                                                                          \
    X(PUT_PHASE, "recording a phase",                                                              \
      "INSERT INTO phases(stage, name, done, total) VALUES(?1, ?2, ?3, ?4) "                       \
      "ON CONFLICT(stage, name) DO UPDATE SET done = excluded.done, total = excluded.total")       \
    X(GET_PHASE, "reading a phase",                                                                \
      "SELECT done, total FROM phases WHERE stage = ?1 AND name = ?2")                             \
    X(PUT_SAMPLE, "adding a sample",                                                               \
      "INSERT INTO samples(id, stage, prompt, sample_index, tokens, logprobs, text, finish, "      \
      "mode) "                                                                                     \
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")                                                \
    X(GET_SAMPLE, "reading a sample",                                                              \
      "SELECT id, stage, prompt, sample_index, tokens, logprobs, text, finish, mode FROM samples " \
      "WHERE id = ?1")                                                                             \
    X(EACH_SAMPLE, "reading samples",                                                              \
      "SELECT id, stage, prompt, sample_index, tokens, logprobs, text, finish, mode FROM samples " \
      "WHERE stage = ?1 ORDER BY prompt, sample_index")                                            \
    X(PUT_SCORE, "adding a score",                                                                 \
      "INSERT INTO scores(sample, name, strict, lenient, value) VALUES(?1, ?2, ?3, ?4, ?5) "       \
      "ON CONFLICT(sample, name) DO UPDATE SET strict = excluded.strict, "                         \
      "lenient = excluded.lenient, value = excluded.value")                                        \
    X(EACH_SCORE, "reading scores",                                                                \
      "SELECT c.sample, c.name, c.strict, c.lenient, c.value FROM samples AS s "                   \
      "JOIN scores AS c ON c.sample = s.id WHERE s.stage = ?1 ORDER BY c.sample, c.name")          \
    X(PUT_PAIR, "adding a pair",                                                                   \
      "INSERT INTO pairs(id, stage, prompt, chosen, rejected, verdict, reason) "                   \
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")                                                        \
    X(EACH_PAIR, "reading pairs",                                                                  \
      "SELECT id, stage, prompt, chosen, rejected, verdict = 'kept', reason FROM pairs "           \
      "WHERE stage = ?1 ORDER BY id")                                                              \
    X(PUT_METRIC, "adding a metric",                                                               \
      "INSERT INTO metrics(stage, name, step, value) VALUES(?1, ?2, ?3, ?4) "                      \
      "ON CONFLICT(stage, name, step) DO UPDATE SET value = excluded.value")                       \
    X(EACH_METRIC, "reading metrics",                                                              \
      "SELECT stage, name, step, value FROM metrics WHERE stage = ?1 "                             \
      "AND (?2 IS NULL OR name = ?2) ORDER BY name, step")                                         \
    X(PUT_EVALUATION, "adding an evaluation",                                                      \
      "INSERT INTO evaluations(stage, set_name, prompt, strict, lenient, response) "               \
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6)")                                                            \
    X(EACH_EVALUATION, "reading evaluations",                                                      \
      "SELECT stage, set_name, prompt, strict, lenient, response FROM evaluations "                \
      "WHERE stage = ?1 AND (?2 IS NULL OR set_name = ?2) ORDER BY set_name, prompt")              \
    X(PUT_JUDGEMENT, "adding a judgement",                                                         \
      "INSERT INTO judgements(stage, judge, prompt, p, logits, scores, seconds, tokens) "          \
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")                                                    \
    X(EACH_JUDGEMENT, "reading judgements",                                                        \
      "SELECT stage, judge, prompt, p, logits, scores, seconds, tokens FROM judgements "           \
      "WHERE stage = ?1 AND judge = ?2 ORDER BY prompt")                                           \
    X(PUT_STEPS, "adding the scores of steps",                                                     \
      "INSERT INTO steps(stage, judge, prompt, response, scores) VALUES(?1, ?2, ?3, ?4, ?5)")      \
    X(EACH_STEPS, "reading the scores of steps",                                                   \
      "SELECT stage, judge, prompt, response, scores FROM steps "                                  \
      "WHERE stage = ?1 AND judge = ?2 AND prompt = ?3 ORDER BY response")                         \
    X(PUT_WORK, "recording what a phase took",                                                     \
      "INSERT INTO work(stage, phase, segment, cpu, seconds) VALUES(?1, ?2, ?3, ?4, ?5) "          \
      "ON CONFLICT(stage, phase, segment) DO UPDATE SET cpu = excluded.cpu, "                      \
      "seconds = excluded.seconds")                                                                \
    X(EACH_WORK, "reading what phases took",                                                       \
      "SELECT stage, phase, segment, cpu, seconds FROM work WHERE stage = ?1 "                     \
      "ORDER BY phase, segment")                                                                   \
    X(PUT_REPLY, "keeping an endpoint's reply",                                                    \
      "INSERT INTO replies(request, reply) VALUES(?1, ?2) "                                        \
      "ON CONFLICT(request) DO UPDATE SET reply = excluded.reply")                                 \
    X(GET_REPLY, "reading an endpoint's reply", "SELECT reply FROM replies WHERE request = ?1")    \
    X(PUT_CHECKPOINT, "adding a checkpoint",                                                       \
      "INSERT INTO checkpoints(id, stage, step, path, fingerprint, kept) "                         \
      "VALUES(?1, ?2, ?3, ?4, ?5, ?6)")                                                            \
    X(SET_CHECKPOINT, "updating a checkpoint", "UPDATE checkpoints SET kept = ?2 WHERE id = ?1")   \
    X(EACH_CHECKPOINT, "reading checkpoints",                                                      \
      "SELECT id, stage, step, path, fingerprint, kept FROM checkpoints "                          \
      "WHERE ?1 IS NULL OR stage = ?1 ORDER BY id")

typedef enum sp_rundb_statement {
#define X(name, what, sql) SP_RUNDB_##name,
    SP_RUNDB_STATEMENTS(X)
#undef X
        SP_RUNDB_STATEMENT_COUNT
} sp_rundb_statement;

struct sp_rundb {
    sqlite3 *sqlite;                                    /* owned */
    char *path;                                         /* owned */
    sqlite3_stmt *statements[SP_RUNDB_STATEMENT_COUNT]; /* owned; NULL until first used */
    bool in_transaction; /* between begin and commit or rollback, as the caller sees it */
    int64_t version;     /* of the file: below SP_RUNDB_SCHEMA only where it is read alone */
};

/* sp_rundb_schema[v] makes a database of version v one of version v + 1; SP_RUNDB_SCHEMA of them.
 */
extern const char *const sp_rundb_schema[];

/* SQLite ended the caller's transaction by itself, as it may on a full disk or a failing one: until
 * the caller rolls back, nothing more may be written, or it would be committed alone. */
bool sp_rundb_lost_transaction(const struct sp_rundb *db);

/* Fill err from SQLite's last error on db; rc is the extended code that the call returned. */
spar_status sp_rundb_fail(struct sp_rundb *db, int rc, const char *what, spar_error *err);

typedef struct sp_rundb_query {
    struct sp_rundb *db;
    sp_rundb_statement which;
    sqlite3_stmt *statement; /* borrowed from db */
    int bound;               /* parameters bound so far */
    int rc;                  /* first failure, or SQLITE_OK */
    const char *misuse;      /* why the statement cannot be used now, or NULL */
    const char *malformed;   /* column of the current row that has no value it may have */
} sp_rundb_query;

sp_rundb_query sp_rundb_query_open(struct sp_rundb *db, sp_rundb_statement which);

/* Bind the next parameter. NULL texts and blobs and NaN bind NULL; bind_id turns 0 into NULL. What
 * they point to must stay until the query ends. */
void sp_rundb_bind_int(sp_rundb_query *q, int64_t value);
void sp_rundb_bind_id(sp_rundb_query *q, int64_t id);
void sp_rundb_bind_real(sp_rundb_query *q, double value);
void sp_rundb_bind_text(sp_rundb_query *q, const char *text);
void sp_rundb_bind_blob(sp_rundb_query *q, const void *bytes, size_t n);

/* Columns of the current row. column_text wants a value and notes the column when there is none. */
int64_t sp_rundb_column_int(sp_rundb_query *q, int column); /* NULL gives 0 */
double sp_rundb_column_real(sp_rundb_query *q, int column); /* NULL gives NaN */
const char *sp_rundb_column_text(sp_rundb_query *q, int column);
const char *sp_rundb_column_optional(sp_rundb_query *q, int column);

/* *more: a row is there. */
spar_status sp_rundb_query_next(sp_rundb_query *q, bool *more, spar_error *err);
/* FORMAT when a column read from the current row was malformed. */
spar_status sp_rundb_query_row_status(sp_rundb_query *q, spar_error *err);
void sp_rundb_query_close(sp_rundb_query *q);

/* Run a statement without rows and end the query. insert gives the row's id; update wants exactly
 * one row to have changed, else NOT_FOUND. */
spar_status sp_rundb_query_run(sp_rundb_query *q, spar_error *err);
spar_status sp_rundb_query_insert(sp_rundb_query *q, int64_t *id, spar_error *err);
spar_status sp_rundb_query_update(sp_rundb_query *q, int64_t id, spar_error *err);

#endif
