#include "io/rundb_query.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *what, *sql;
} statements[] = {
#define X(name, what, sql) {what, sql},
    SP_RUNDB_STATEMENTS(X)
#undef X
};

static spar_status code_of(int rc) {
    switch (rc & 0xff) {
    case SQLITE_FULL:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
    case SQLITE_PERM:
        return SPAR_IO;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return SPAR_BUSY;
    case SQLITE_NOMEM:
        return SPAR_NO_MEMORY;
    case SQLITE_TOOBIG:
        return SPAR_LIMIT;
    case SQLITE_CONSTRAINT:
        return SPAR_INVALID;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_SCHEMA:
    case SQLITE_ERROR: /* our SQL is fixed: a file of our version lacks its tables or columns */
        return SPAR_FORMAT;
    default:
        return SPAR_INTERNAL;
    }
}

spar_status sp_rundb_fail(struct sp_rundb *db, int rc, const char *what, spar_error *err) {
    int system = 0;
    if ((rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN) {
        system = sqlite3_system_errno(db->sqlite);
    }
    return spar_fail(err, code_of(rc), "%s: %s: %s%s%s", db->path, what,
                     db->sqlite ? sqlite3_errmsg(db->sqlite) : sqlite3_errstr(rc),
                     system ? ": " : "", system ? strerror(system) : "");
}

bool sp_rundb_lost_transaction(const struct sp_rundb *db) {
    return db->in_transaction && sqlite3_get_autocommit(db->sqlite);
}

sp_rundb_query sp_rundb_query_open(struct sp_rundb *db, sp_rundb_statement which) {
    sp_rundb_query q = {.db = db, .which = which, .rc = SQLITE_OK};
    sqlite3_stmt **cached = &db->statements[which];
    if (sp_rundb_lost_transaction(db)) {
        q.misuse = "an earlier failure ended the transaction";
        q.rc = SQLITE_MISUSE;
    } else if (!*cached) {
        q.rc = sqlite3_prepare_v3(db->sqlite, statements[which].sql, -1, SQLITE_PREPARE_PERSISTENT,
                                  cached, NULL);
    } else if (sqlite3_stmt_busy(*cached)) {
        q.misuse = "called from inside itself";
        q.rc = SQLITE_MISUSE;
    }
    q.statement = q.rc == SQLITE_OK ? *cached : NULL;
    return q;
}

/* The number of the next parameter; 0 once anything has failed. */
static int next_parameter(sp_rundb_query *q) {
    return q->rc == SQLITE_OK ? ++q->bound : 0;
}

void sp_rundb_bind_int(sp_rundb_query *q, int64_t value) {
    int at = next_parameter(q);
    if (at) {
        q->rc = sqlite3_bind_int64(q->statement, at, value);
    }
}

void sp_rundb_bind_id(sp_rundb_query *q, int64_t id) {
    if (id) {
        sp_rundb_bind_int(q, id);
    } else {
        sp_rundb_bind_text(q, NULL);
    }
}

void sp_rundb_bind_real(sp_rundb_query *q, double value) {
    int at = next_parameter(q);
    if (at) {
        q->rc = sqlite3_bind_double(q->statement, at, value); /* NaN becomes NULL */
    }
}

void sp_rundb_bind_text(sp_rundb_query *q, const char *text) {
    int at = next_parameter(q);
    if (at) {
        q->rc = text ? sqlite3_bind_text64(q->statement, at, text, strlen(text), SQLITE_STATIC,
                                           SQLITE_UTF8)
                     : sqlite3_bind_null(q->statement, at);
    }
}

void sp_rundb_bind_blob(sp_rundb_query *q, const void *bytes, size_t n) {
    int at = next_parameter(q);
    if (at) {
        q->rc = bytes ? sqlite3_bind_blob64(q->statement, at, bytes, n, SQLITE_STATIC)
                      : sqlite3_bind_null(q->statement, at);
    }
}

int64_t sp_rundb_column_int(sp_rundb_query *q, int column) {
    return sqlite3_column_int64(q->statement, column);
}

double sp_rundb_column_real(sp_rundb_query *q, int column) {
    if (sqlite3_column_type(q->statement, column) == SQLITE_NULL) {
        return (double)NAN;
    }
    return sqlite3_column_double(q->statement, column);
}

const char *sp_rundb_column_optional(sp_rundb_query *q, int column) {
    return (const char *)sqlite3_column_text(q->statement, column);
}

const char *sp_rundb_column_text(sp_rundb_query *q, int column) {
    const char *text = sp_rundb_column_optional(q, column);
    if (!text) {
        q->malformed = sqlite3_column_name(q->statement, column);
    }
    return text;
}

static spar_status query_fail(sp_rundb_query *q, spar_error *err) {
    const char *what = statements[q->which].what;
    if (q->misuse) {
        return spar_fail(err, SPAR_INTERNAL, "%s: %s: %s", q->db->path, what, q->misuse);
    }
    return sp_rundb_fail(q->db, q->rc, what, err);
}

spar_status sp_rundb_query_next(sp_rundb_query *q, bool *more, spar_error *err) {
    *more = false;
    if (q->rc == SQLITE_OK) {
        int rc = sqlite3_step(q->statement);
        *more = rc == SQLITE_ROW;
        if (rc == SQLITE_ROW || rc == SQLITE_DONE) {
            return SPAR_OK;
        }
        q->rc = rc;
    }
    return query_fail(q, err);
}

spar_status sp_rundb_query_row_status(sp_rundb_query *q, spar_error *err) {
    if (q->malformed) {
        return spar_fail(err, SPAR_FORMAT, "%s: %s: column %s has no valid value", q->db->path,
                         statements[q->which].what, q->malformed);
    }
    return SPAR_OK;
}

void sp_rundb_query_close(sp_rundb_query *q) {
    if (q->statement) {
        sqlite3_reset(q->statement);
        sqlite3_clear_bindings(q->statement);
    }
}

spar_status sp_rundb_query_run(sp_rundb_query *q, spar_error *err) {
    bool more;
    spar_status status = sp_rundb_query_next(q, &more, err);
    sp_rundb_query_close(q);
    return status;
}

spar_status sp_rundb_query_insert(sp_rundb_query *q, int64_t *id, spar_error *err) {
    spar_status status = sp_rundb_query_run(q, err);
    if (status == SPAR_OK && id) {
        *id = sqlite3_last_insert_rowid(q->db->sqlite);
    }
    return status;
}

spar_status sp_rundb_query_update(sp_rundb_query *q, int64_t id, spar_error *err) {
    spar_status status = sp_rundb_query_run(q, err);
    if (status == SPAR_OK && sqlite3_changes(q->db->sqlite) != 1) {
        return spar_fail(err, SPAR_NOT_FOUND, "%s: %s: there is no row %lld", q->db->path,
                         statements[q->which].what, (long long)id);
    }
    return status;
}
