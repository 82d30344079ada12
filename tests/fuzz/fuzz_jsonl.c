/* Any bytes as JSON Lines or an array. */
#include "fuzz_rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_rows(data, size, INT64_MAX);
    return 0;
}
