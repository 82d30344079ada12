/* Rows of data files, whatever the files are written in.
 *
 *   JSON Lines   one object a line; CRLF and blank lines are fine
 *   JSON         one array of objects
 *   CSV, TSV     RFC 4180 with a header row: a row is an object of texts. Columns that are never
 *                texts (messages, conversations, responses, label, scores, ids, ...) hold JSON; in
 *                any other a JSON list of messages is taken as such
 * any of these also within gzip or zstd; a byte order mark is fine; and
 *
 *   Parquet      columns of texts, numbers, truths, lists and structs of them; pages as they are or
 *                within snappy, gzip or zstd. What has no form in JSON (INT96, binary) is null
 *
 * A path that is a folder stands for the data files in it, and one with *, ?, [ or { that is no
 * file for those that match; they are read as one, in the order of their names.
 *
 * Compression and Parquet are known by their first bytes. How rows are written is known by the
 * file's name (.jsonl, .ndjson, .json, .csv, .tsv, before .gz or .zst); under another name, or on
 * standard input, a file whose first byte that is not white space is '[' is an array, one that
 * begins with '{' has one object a line, and one whose first line has a comma or a tab is CSV or
 * TSV.
 *
 * Rows are read one at a time, so a file may be larger than memory; a row may have 64 MiB, and what
 * is compressed may not grow without bound.
 */
#ifndef SPAR_ROWS_H
#define SPAR_ROWS_H

#include <stdbool.h>

#include "spar/status.h"

struct json_t; /* jansson's */
typedef struct spar_rows spar_rows;

SPAR_API spar_status spar_rows_open(spar_rows **out, const char *path /* "-": stdin */,
                                    spar_error *err);
/* *row: a new reference, NULL at the end. After an error the reader can only be freed, unless
 * spar_rows_goes_on says otherwise. */
SPAR_API spar_status spar_rows_next(spar_rows *rows, struct json_t **row, spar_error *err);
/* After an error: whether it lies within one row and the next call reads on behind it. Within an
 * array nobody knows where the next row begins. */
SPAR_API bool spar_rows_goes_on(const spar_rows *rows);
/* Where the last row is, for messages: "file:line", "file:line (row N)", "file: row N". Borrowed,
 * until the next call. */
SPAR_API const char *spar_rows_where(const spar_rows *rows);
SPAR_API void spar_rows_free(spar_rows *rows); /* NULL is fine */

#endif
