/* Rows written as JSON Lines: compact, UTF-8 as it is, keys in the order they were set. rows.h
 * reads them.
 *
 * A file is written beside its final name and takes its place at commit, so it is whole or not
 * there; standard output gets each row at once. create -> put ... -> commit -> free.
 */
#ifndef SPAR_JSONL_H
#define SPAR_JSONL_H

#include "spar/status.h"

struct json_t; /* jansson's */
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
