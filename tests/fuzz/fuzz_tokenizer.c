/* Any bytes as tokenizer.json, then a text with it to ids and back. */
#include <string.h>

#include "fuzz.h"
#include "spar/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "ab abc 12 <s> \xc3\xa9\xff\n";
    spar_tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n_ids = 0;
    char *back = NULL;
    spar_error err = {SPAR_OK, ""};
    spar_status status = spar_tokenizer_load(&t, fuzz_path(data, size), &err);
    fuzz_check(status, &err);
    if (status == SPAR_OK) {
        status = spar_tokenizer_encode(t, text, strlen(text), 0, &ids, &n_ids, &err);
        fuzz_check(status, &err);
        if (status == SPAR_OK) {
            fuzz_check(spar_tokenizer_decode(t, ids, n_ids, false, &back, NULL, &err), &err);
        }
        free(ids);
        free(back);
        spar_tokenizer_free(t);
    }
    return 0;
}
