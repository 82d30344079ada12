#include "spar/rows.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/row_format.h"

struct spar_rows {
    char **paths; /* owned, n_paths of them */
    size_t n_paths, next;
    sp_byte_stream bytes; /* of the file being read */
    bool is_open;
    const sp_row_format *format; /* of that file; NULL: not known yet */
    void *state;                 /* owned: the format's */
    bool goes_on;
    sp_str where;
};

/* ---- names ---- */

static const struct {
    const char *ending;
    const sp_row_format *format;
} NAMES[] = {{".jsonl", &sp_json_rows}, {".ndjson", &sp_json_rows}, {".json", &sp_json_rows},
             {".csv", &sp_csv_rows},    {".tsv", &sp_tsv_rows},     {".parquet", &sp_parquet_rows}};
enum { NAME_COUNT = sizeof NAMES / sizeof *NAMES };

/* Whether name[0..*n) ends so; then *n is the length before it. */
static bool cut_ending(const char *name, size_t *n, const char *ending) {
    const size_t length = strlen(ending);
    if (*n <= length || strncasecmp(name + *n - length, ending, length) != 0) {
        return false;
    }
    *n -= length;
    return true;
}

/* The row of NAMES that a file's name says; NAME_COUNT: none. */
static size_t find_name(const char *name) {
    size_t n = strlen(name), i = 0;
    if (!cut_ending(name, &n, ".gz") && !cut_ending(name, &n, ".zst")) {
        cut_ending(name, &n, ".zstd");
    }
    while (i < NAME_COUNT && !cut_ending(name, &n, NAMES[i].ending)) {
        i++;
    }
    return i;
}

/* ---- first bytes ---- */

/* Files of other kinds, that a message had better name. */
static const struct {
    const char *bytes;
    size_t n;
    const char *name;
} STRANGERS[] = {{"\xfd"
                  "7zXZ",
                  5, "xz"},
                 {"BZh91AY", 7, "bzip2"},
                 {"PK\x03\x04", 4, "zip"},
                 {"\x04\"M\x18", 4, "lz4"},
                 {"ARROW1", 6, "Arrow"},
                 {"SQLite format 3", 15, "SQLite"},
                 {"\xff\xfe", 2, "UTF-16 text"},
                 {"\xfe\xff", 2, "UTF-16 text"}};

static spar_status check_stranger(const sp_byte_stream *b, spar_error *err) {
    for (size_t i = 0; i < sizeof STRANGERS / sizeof *STRANGERS; i++) {
        if (b->size - b->at >= STRANGERS[i].n &&
            memcmp(b->buffer + b->at, STRANGERS[i].bytes, STRANGERS[i].n) == 0) {
            return spar_fail(
                err, SPAR_UNSUPPORTED,
                "%s: expected JSON Lines, a JSON array, CSV or TSV, possibly within gzip or "
                "zstd, or Parquet, found %s",
                b->name, STRANGERS[i].name);
        }
    }
    return SPAR_OK;
}

/* By the first line, as far as the buffer has it. */
static const sp_row_format *guess_format(const sp_byte_stream *b) {
    const char *at = b->buffer + b->at, *end = b->buffer + b->size;
    while (at < end && strchr(" \t\r\n", *at) != NULL && *at != '\0') {
        at++;
    }
    if (b->size - b->at >= 4 &&
        (memcmp(b->buffer + b->at, "PAR1", 4) == 0 || memcmp(b->buffer + b->at, "PARE", 4) == 0)) {
        return &sp_parquet_rows; /* E: encrypted, which it says */
    }
    if (at == end || *at == '{' || *at == '[') {
        return &sp_json_rows;
    }
    while (at < end && *at != ',' && *at != '\t' && *at != '\n') {
        at++;
    }
    return at == end || *at == '\n' ? &sp_json_rows : *at == ',' ? &sp_csv_rows : &sp_tsv_rows;
}

/* ---- which files ---- */

static spar_status add_path(spar_rows *r, const char *path, size_t *capacity, spar_error *err) {
    spar_status status = SPAR_OK;
    void *paths = r->paths;
    SPAR_TRY(sp_mem_grow(&paths, capacity, r->n_paths + 1, sizeof *r->paths, err));
    r->paths = paths;
    SPAR_TRY(sp_mem_strdup(&r->paths[r->n_paths], path, strlen(path), err));
    r->n_paths++;
done:
    return status;
}

/* The files of a folder that have a name of NAMES, which must be one name for all. */
static spar_status list_folder(spar_rows *r, const char *folder, size_t *capacity,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    char **names = NULL, *path = NULL;
    const char *first = NULL;
    size_t n = 0;
    SPAR_TRY(sp_dir_list(folder, &names, &n, err));
    for (size_t i = 0; i < n; i++) {
        const size_t kind = find_name(names[i]);
        if (names[i][0] == '.' || kind == NAME_COUNT) {
            continue;
        }
        first = first != NULL ? first : names[i];
        if (find_name(first) != kind) {
            SPAR_TRY(spar_fail(err, SPAR_INVALID,
                               "%s: expected data files of one kind, found %s and %s; a pattern as "
                               "in '%s/*%s' takes some of them",
                               folder, first, names[i], folder, NAMES[kind].ending));
        }
        SPAR_TRY(sp_path_join(&path, folder, names[i], err));
        SPAR_TRY(add_path(r, path, capacity, err));
        free(path);
        path = NULL;
    }
    if (r->n_paths == 0) {
        SPAR_TRY(spar_fail(
            err, SPAR_NOT_FOUND,
            "%s: expected data files (.jsonl, .json, .csv, .tsv, .parquet), found none", folder));
    }
done:
    free(path);
    sp_names_free(names, n);
    return status;
}

static spar_status list_matches(spar_rows *r, const char *pattern, size_t *capacity,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    glob_t found = {0};
    if (glob(pattern, GLOB_BRACE, NULL, &found) != 0) {
        SPAR_TRY(
            spar_fail(err, SPAR_NOT_FOUND, "%s: expected files that match, found none", pattern));
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        SPAR_TRY(add_path(r, found.gl_pathv[i], capacity, err));
    }
done:
    globfree(&found);
    return status;
}

static spar_status list_files(spar_rows *r, const char *path, spar_error *err) {
    size_t capacity = 0;
    if (sp_file_is_dir(path)) {
        return list_folder(r, path, &capacity, err);
    }
    return strpbrk(path, "*?[{") != NULL && !sp_file_exists(path)
               ? list_matches(r, path, &capacity, err)
               : add_path(r, path, &capacity, err);
}

/* ---- reading ---- */

static void close_file(spar_rows *r) {
    if (r->format != NULL) {
        r->format->close(r->state);
    }
    if (r->is_open) {
        sp_byte_stream_close(&r->bytes);
    }
    r->format = NULL;
    r->state = NULL;
    r->is_open = false;
}

static spar_status open_file(spar_rows *r, spar_error *err) {
    const spar_status status = sp_byte_stream_open(&r->bytes, r->paths[r->next], err);
    r->is_open = status == SPAR_OK;
    r->next += r->is_open;
    return status;
}

/* How the open file's rows are written. */
static spar_status open_format(spar_rows *r, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t named = find_name(r->bytes.name);
    SPAR_TRY(sp_byte_stream_fill(&r->bytes, err));
    SPAR_TRY(check_stranger(&r->bytes, err));
    SPAR_TRY(sp_byte_stream_skip_mark(&r->bytes, err));
    const sp_row_format *format =
        named < NAME_COUNT ? NAMES[named].format : guess_format(&r->bytes);
    SPAR_TRY(format->open(&r->state, &r->bytes, err));
    r->format = format;
done:
    return status;
}

spar_status spar_rows_open(spar_rows **out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *r = NULL;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *r, err));
    r = memory;
    SPAR_TRY(list_files(r, path, err));
    SPAR_TRY(open_file(r, err));
    *out = r;
    r = NULL;
done:
    spar_rows_free(r);
    return status;
}

void spar_rows_free(spar_rows *r) {
    if (r == NULL) {
        return;
    }
    close_file(r);
    sp_names_free(r->paths, r->n_paths);
    sp_str_release(&r->where);
    free(r);
}

bool spar_rows_goes_on(const spar_rows *r) {
    return r->goes_on;
}

const char *spar_rows_where(const spar_rows *r) {
    return sp_str_get(&r->where);
}

/* The next row of the open file; *row NULL at its end. */
static spar_status next_of_file(spar_rows *r, json_t **row, spar_error *err) {
    spar_status status = SPAR_OK;
    if (r->format == NULL) {
        SPAR_TRY(open_format(r, err));
    }
    status = r->format->next(r->state, row, &r->goes_on, err);
    if (status != SPAR_OK || *row != NULL) {
        sp_str_clear(&r->where);
        r->format->where(r->state, &r->where);
    }
done:
    return status;
}

spar_status spar_rows_next(spar_rows *r, json_t **row, spar_error *err) {
    spar_status status = SPAR_OK;
    *row = NULL;
    r->goes_on = false;
    for (;;) {
        if (!r->is_open) {
            SPAR_TRY(open_file(r, err));
        }
        SPAR_TRY(next_of_file(r, row, err));
        if (*row != NULL || r->next == r->n_paths) {
            break;
        }
        close_file(r);
    }
done:
    return status;
}
