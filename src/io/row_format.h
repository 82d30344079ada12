/* How rows are written in a file: a format is a table of functions, a file each, and row_files.c
 * picks one by the file. A format reads one file; its state owns nothing of the byte stream, which
 * it borrows. */
#ifndef SP_IO_ROW_FORMAT_H
#define SP_IO_ROW_FORMAT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/str.h"
#include "io/byte_stream.h"

/* Longest row, in bytes as the file has it. */
enum { SP_ROW_LIMIT = 64 << 20 };

typedef struct sp_row_format {
    /* bytes stand at the file's first byte behind a byte order mark. *state is owned. */
    spar_status (*open)(void **state, sp_byte_stream *bytes, spar_error *err);
    /* *row: a new reference, NULL at the end, where it stays. *goes_on, after an error: the next
     * call reads on behind it. */
    spar_status (*next)(void *state, json_t **row, bool *goes_on, spar_error *err);
    /* Append where the last row is: "file:line". */
    void (*where)(const void *state, sp_str *out);
    void (*close)(void *state); /* NULL is fine */
} sp_row_format;

extern const sp_row_format sp_json_rows, sp_csv_rows, sp_tsv_rows, sp_parquet_rows;

#endif
