/* Any bytes as JSON, and the typed getters on whatever it is. */
#include "base/jsonx.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *value = NULL;
    spar_error err = {SPAR_OK, ""};
    const spar_status status = sp_json_parse(&value, (const char *)data, size, "input", &err);
    fuzz_check(status, &err);
    if (status == SPAR_OK) {
        int64_t integer = 0;
        double number = 0;
        bool flag = false;
        const char *text = NULL;
        fuzz_check(sp_json_get_int(value, "a", -5, 5, &integer, "input", &err), &err);
        fuzz_check(sp_json_get_number(value, "a", &number, "input", &err), &err);
        fuzz_check(sp_json_get_bool_or(value, "a", true, &flag, "input", &err), &err);
        fuzz_check(sp_json_get_string(value, "a", &text, "input", &err), &err);
        json_decref(value);
    }
    return 0;
}
