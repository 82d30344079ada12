/* Any bytes as a Parquet file: its first rows. */
#include "fuzz_rows.h"

enum { ROWS = 1000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_rows(data, size, ROWS);
    return 0;
}
