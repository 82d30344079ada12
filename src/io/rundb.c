/* Opening, transactions and checks; the rows are in rundb_rows.c. */
#include "io/rundb.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "io/rundb_query.h"

/* "spar" as PRAGMA application_id: what file(1) and we know the file by. */
enum { APPLICATION_ID = 0x73706172, BUSY_MILLISECONDS = 5000 };

static spar_status execute(sp_rundb *db, const char *sql, const char *what, spar_error *err) {
    int rc = sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? SPAR_OK : sp_rundb_fail(db, rc, what, err);
}

/* The first column of the first row as an integer; 0 without rows. */
static spar_status ask(sp_rundb *db, const char *sql, int64_t *out, spar_error *err) {
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(db->sqlite, sql, -1, &statement, NULL);
    *out = 0;
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(statement);
        *out = rc == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
        rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
    }
    spar_status status = rc == SQLITE_OK ? SPAR_OK : sp_rundb_fail(db, rc, "opening", err);
    sqlite3_finalize(statement);
    return status;
}

static int open_flags(sp_rundb_mode mode) {
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (mode == SP_RUNDB_READ) {
        return flags | SQLITE_OPEN_READONLY;
    }
    return flags | SQLITE_OPEN_READWRITE | (mode == SP_RUNDB_CREATE ? SQLITE_OPEN_CREATE : 0);
}

/* A database from elsewhere may hold views and triggers: none of them is ours, none runs. */
static void distrust(sqlite3 *sqlite) {
    sqlite3_db_config(sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(sqlite, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(sqlite, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(sqlite, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
}

/* A finished run in a folder that may not be written: WAL mode would want to make files beside it,
 * even for reading. Nobody can change such a file, which is what SQLite calls immutable. */
static bool is_archived(const char *path) {
    sp_str name = SP_STR_INIT;
    const char *slash = strrchr(path, '/');
    sp_str_append(&name, slash ? path : ".", slash ? (size_t)(slash - path) + 1 : 1);
    bool archived = access(sp_str_get(&name), W_OK) != 0;
    sp_str_clear(&name);
    sp_str_printf(&name, "%s-wal", path);
    archived = archived && !name.failed && !sp_file_exists(sp_str_get(&name));
    sp_str_release(&name);
    return archived;
}

static spar_status open_immutable(sp_rundb *db, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str uri = SP_STR_INIT;
    sp_str_puts(&uri, "file:");
    for (const char *c = db->path; *c; c++) {
        if (strchr("%?#", *c)) {
            sp_str_printf(&uri, "%%%02x", (unsigned)*c);
        } else {
            sp_str_putc(&uri, *c);
        }
    }
    sp_str_puts(&uri, "?immutable=1");
    SPAR_TRY(sp_str_status(&uri, err));
    int rc = sqlite3_open_v2(sp_str_get(&uri), &db->sqlite,
                             open_flags(SP_RUNDB_READ) | SQLITE_OPEN_URI, NULL);
    if (rc != SQLITE_OK) {
        SPAR_TRY(sp_rundb_fail(db, rc, "opening", err));
    }
done:
    sp_str_release(&uri);
    return status;
}

static spar_status connect(sp_rundb *db, sp_rundb_mode mode, spar_error *err) {
    if (mode != SP_RUNDB_CREATE && !sp_file_exists(db->path)) {
        return spar_fail(err, SPAR_NOT_FOUND, "%s: there is no run database here", db->path);
    }
    if (mode == SP_RUNDB_READ && is_archived(db->path)) {
        return open_immutable(db, err);
    }
    int rc = sqlite3_open_v2(db->path, &db->sqlite, open_flags(mode), NULL);
    if (rc != SQLITE_OK) {
        return sp_rundb_fail(db, rc, "opening", err);
    }
    /* SQLite opens a file that it may not write as read-only, without a word. */
    if (mode != SP_RUNDB_READ && sqlite3_db_readonly(db->sqlite, "main") == 1) {
        return spar_fail(err, SPAR_IO, "%s: opening: no permission to write the file", db->path);
    }
    return SPAR_OK;
}

/* Who wrote the file, and by which version; 0: nobody has yet. */
static spar_status identify(sp_rundb *db, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t application = 0, version = 0, objects = 0;
    SPAR_TRY(ask(db, "SELECT count(*) FROM sqlite_schema", &objects, err));
    SPAR_TRY(ask(db, "PRAGMA application_id", &application, err));
    SPAR_TRY(ask(db, "PRAGMA user_version", &version, err));
    if (application == 0 && version == 0 && objects == 0) {
        return SPAR_OK;
    }
    if (application != APPLICATION_ID) {
        return spar_fail(err, SPAR_MISMATCH,
                         "%s: a database of another program: expected application id %d, found "
                         "%lld",
                         db->path, APPLICATION_ID, (long long)application);
    }
    if (version < 1 || version > SP_RUNDB_SCHEMA) {
        return spar_fail(err, SPAR_MISMATCH,
                         "%s: written by %s spar: expected schema version 1 to %d, found %lld",
                         db->path, version > SP_RUNDB_SCHEMA ? "a newer" : "another",
                         SP_RUNDB_SCHEMA, (long long)version);
    }
    db->version = version;
done:
    return status;
}

/* Commits survive a loss of power: WAL, synced at each commit. */
static spar_status make_durable(sp_rundb *db, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t is_wal = 0;
    SPAR_TRY(execute(db, "PRAGMA journal_mode = WAL", "turning on the write-ahead log", err));
    SPAR_TRY(ask(db, "SELECT journal_mode = 'wal' FROM pragma_journal_mode", &is_wal, err));
    if (!is_wal) {
        SPAR_TRY(
            spar_fail(err, SPAR_IO, "%s: this file system allows no write-ahead log", db->path));
    }
    SPAR_TRY(execute(db, "PRAGMA synchronous = FULL", "opening", err));
done:
    return status;
}

/* What the file's version lacks, in one transaction: one whose creation was cut short is still
 * fresh, and an older run gets the tables that came later. */
static spar_status bring_up(sp_rundb *db, spar_error *err) {
    spar_status status = SPAR_OK;
    char identity[96];
    sqlite3_snprintf(sizeof identity, identity,
                     "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID,
                     SP_RUNDB_SCHEMA);
    SPAR_TRY(sp_rundb_begin(db, err));
    for (int64_t v = db->version; v < SP_RUNDB_SCHEMA; v++) {
        SPAR_TRY(execute(db, sp_rundb_schema[v], "creating the tables", err));
    }
    SPAR_TRY(execute(db, identity, "creating the tables", err));
    SPAR_TRY(sp_rundb_commit(db, err));
    db->version = SP_RUNDB_SCHEMA;
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(db);
    }
    return status;
}

static spar_status set_up(sp_rundb *db, sp_rundb_mode mode, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(connect(db, mode, err));
    distrust(db->sqlite);
    sqlite3_busy_timeout(db->sqlite, BUSY_MILLISECONDS);
    SPAR_TRY(identify(db, err));
    const bool fresh = db->version == 0;
    if (mode == SP_RUNDB_CREATE && !fresh) {
        return spar_fail(err, SPAR_INVALID,
                         "%s: already holds a run: resume it, or take another "
                         "folder",
                         db->path);
    }
    if (mode != SP_RUNDB_CREATE && fresh) {
        return spar_fail(err, SPAR_FORMAT, "%s: an empty database: its creation was cut short",
                         db->path);
    }
    SPAR_TRY(execute(db, "PRAGMA foreign_keys = ON", "opening", err));
    if (mode != SP_RUNDB_READ) {
        SPAR_TRY(make_durable(db, err));
    }
    if (mode != SP_RUNDB_READ && db->version < SP_RUNDB_SCHEMA) {
        SPAR_TRY(bring_up(db, err));
    }
done:
    return status;
}

spar_status sp_rundb_open(sp_rundb **out, const char *path, sp_rundb_mode mode, spar_error *err) {
    spar_status status = SPAR_OK;
    void *made = NULL;
    *out = NULL;
    SPAR_TRY(sp_mem_calloc(&made, 1, sizeof(sp_rundb), err));
    sp_rundb *db = made;
    SPAR_TRY(sp_mem_strdup(&db->path, path, strlen(path), err));
    SPAR_TRY(set_up(db, mode, err));
    *out = db;
    made = NULL;
done:
    sp_rundb_close(made);
    return status;
}

void sp_rundb_close(sp_rundb *db) {
    if (!db) {
        return;
    }
    for (int i = 0; i < SP_RUNDB_STATEMENT_COUNT; i++) {
        sqlite3_finalize(db->statements[i]);
    }
    sqlite3_close(db->sqlite);
    free(db->path);
    free(db);
}

spar_status sp_rundb_begin(sp_rundb *db, spar_error *err) {
    if (db->in_transaction) {
        return spar_fail(err, SPAR_INTERNAL, "%s: beginning a transaction inside another",
                         db->path);
    }
    spar_status status = execute(db, "BEGIN IMMEDIATE", "beginning a transaction", err);
    db->in_transaction = status == SPAR_OK;
    return status;
}

spar_status sp_rundb_commit(sp_rundb *db, spar_error *err) {
    spar_status status = SPAR_OK;
    if (!db->in_transaction || sp_rundb_lost_transaction(db)) {
        SPAR_TRY(spar_fail(err, SPAR_INTERNAL, "%s: committing: there is no transaction%s",
                           db->path, db->in_transaction ? ": an earlier failure ended it" : ""));
    }
    SPAR_TRY(execute(db, "COMMIT", "committing", err));
    db->in_transaction = false;
done:
    if (status != SPAR_OK) {
        sp_rundb_rollback(db);
    }
    return status;
}

void sp_rundb_rollback(sp_rundb *db) {
    if (!sqlite3_get_autocommit(db->sqlite)) {
        sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
    }
    db->in_transaction = false;
}

spar_status sp_rundb_check(sp_rundb *db, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t damage = 0, dangling = 0;
    SPAR_TRY(ask(db, "SELECT count(*) FROM pragma_quick_check(1) WHERE quick_check <> 'ok'",
                 &damage, err));
    SPAR_TRY(ask(db, "SELECT count(*) FROM pragma_foreign_key_check", &dangling, err));
    if (damage || dangling) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: the database is damaged: %s", db->path,
                           damage ? "pages are malformed" : "rows refer to missing rows"));
    }
done:
    return status;
}

void sp_rundb_limit_pages(sp_rundb *db, int pages) {
    char sql[64];
    sqlite3_snprintf(sizeof sql, sql, "PRAGMA max_page_count = %d", pages);
    sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL);
}
