/* Any bytes as YAML. */
#include "base/jsonx.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *value = NULL;
    spar_error err = {SPAR_OK, ""};
    fuzz_check(sp_yaml_parse(&value, (const char *)data, size, "input", &err), &err);
    json_decref(value);
    return 0;
}
