/* Any bytes as a Parquet file: its first rows. */
#include <jansson.h>

#include "fuzz.h"
#include "spar/rows.h"

enum { ROWS = 1000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    spar_rows *rows = NULL;
    json_t *row = NULL;
    spar_error err = {SPAR_OK, ""};
    int n = 0;
    spar_status status = spar_rows_open(&rows, fuzz_path(data, size), &err);
    if (status != SPAR_OK) {
        abort(); /* the file is there */
    }
    do {
        json_decref(row);
        row = NULL;
        status = spar_rows_next(rows, &row, &err);
        fuzz_check(status, &err);
        if (status != SPAR_OK && row) {
            abort(); /* a row and an error at once */
        }
    } while (row && ++n < ROWS);
    json_decref(row);
    spar_rows_free(rows);
    return 0;
}
