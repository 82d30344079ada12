/* Any bytes as CSV, TSV or whatever else they look like, possibly compressed. */
#include "fuzz_rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_rows(data, size, INT64_MAX);
    return 0;
}
