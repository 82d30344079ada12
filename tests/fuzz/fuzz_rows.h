/* Any bytes as a file of rows, in the format that they look like. */
#ifndef SPAR_TESTS_FUZZ_ROWS_H
#define SPAR_TESTS_FUZZ_ROWS_H

#include <jansson.h>

#include "fuzz.h"
#include "spar/rows.h"

/* The first `most` rows at most, and on behind those that fail alone. */
static inline void fuzz_rows(const uint8_t *data, size_t size, int64_t most) {
    spar_rows *rows = NULL;
    json_t *row = NULL;
    spar_error err = {SPAR_OK, ""};
    int64_t n = 0;
    if (spar_rows_open(&rows, fuzz_path(data, size), &err) != SPAR_OK) {
        abort(); /* the file is there */
    }
    do {
        json_decref(row);
        row = NULL;
        const spar_status status = spar_rows_next(rows, &row, &err);
        fuzz_check(status, &err);
        if (status != SPAR_OK && row) {
            abort(); /* a row and an error at once */
        }
    } while ((row || spar_rows_goes_on(rows)) && ++n < most);
    json_decref(row);
    spar_rows_free(rows);
}

#endif
