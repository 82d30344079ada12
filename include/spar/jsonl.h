/* Rows of a data file: JSON Lines, or one JSON array of rows.
 *
 * A file whose first byte that is not white space is '[' is an array; any other has one row a
 * line. Every row is an object. A byte order mark, CRLF and blank lines are fine. Rows are read one
 * at a time, so a file may be larger than memory; a row may have 64 MiB.
 */
#ifndef SPAR_JSONL_H
#define SPAR_JSONL_H

#include <stdbool.h>
#include <stdint.h>

#include "spar/status.h"

struct json_t; /* jansson's */
typedef struct spar_jsonl spar_jsonl;

SPAR_API spar_status spar_jsonl_open(spar_jsonl **out, const char *path /* "-": stdin */,
                                     spar_error *err);
/* *row: a new reference, NULL at the end. After an error the reader can only be freed, unless
 * spar_jsonl_goes_on says otherwise. */
SPAR_API spar_status spar_jsonl_next(spar_jsonl *jsonl, struct json_t **row, spar_error *err);
/* After an error: whether it lies within one line of JSON Lines, and the next call reads on behind
 * it. Within an array nobody knows where the next row begins. */
SPAR_API bool spar_jsonl_goes_on(const spar_jsonl *jsonl);
/* The line at which the last row began, from 1; 0 before the first. */
SPAR_API int64_t spar_jsonl_line(const spar_jsonl *jsonl);
SPAR_API void spar_jsonl_free(spar_jsonl *jsonl); /* NULL is fine */

/* Rows written as JSON Lines: compact, UTF-8 as it is, keys in the order they were set. A file is
 * written beside its final name and takes its place at commit, so it is whole or not there;
 * standard output gets each row at once. create -> put ... -> commit -> free. */
typedef struct spar_jsonl_writer spar_jsonl_writer;
SPAR_API spar_status spar_jsonl_create(spar_jsonl_writer **out, const char *path /* "-": stdout */,
                                       spar_error *err);
/* row: any JSON value, borrowed. After an error the writer can only be freed. */
SPAR_API spar_status spar_jsonl_put(spar_jsonl_writer *writer, const struct json_t *row,
                                    spar_error *err);
SPAR_API spar_status spar_jsonl_commit(spar_jsonl_writer *writer, spar_error *err);
/* Without a commit the file is dropped. NULL is fine. */
SPAR_API void spar_jsonl_writer_free(spar_jsonl_writer *writer);

#endif
