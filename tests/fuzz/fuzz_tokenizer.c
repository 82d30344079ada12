/* Any bytes as tokenizer.json, then a text with it to ids and back, and to the places of its
 * tokens. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "spar/tokenizer.h"

/* The places of tokens are within the text, and come with the ids [n] that there are without. */
static void check_places(const spar_tokenizer *t, const char *text, const int32_t *ids, size_t n) {
    int32_t *again = NULL;
    spar_text_span *spans = NULL;
    size_t n_again = 0;
    spar_error err = {SPAR_OK, ""};
    const spar_status status =
        spar_tokenizer_encode_spans(t, text, strlen(text), 0, &again, &spans, &n_again, &err);
    fuzz_check(status, &err);
    if (status == SPAR_OK) {
        bool good = n_again == n && (n == 0 || memcmp(again, ids, n * sizeof *ids) == 0);
        for (size_t i = 0; i < n_again; i++) {
            good = good && spans[i].begin <= spans[i].end && spans[i].end <= strlen(text);
        }
        if (!good) {
            abort();
        }
    }
    free(again);
    free(spans);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "ab abc 12 <s> \xc3\xa9\xff\n",
                      formed[] = "ab  abc 12<s> e\xcc\x81\n";
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
        ids = NULL;
        if (spar_tokenizer_encode(t, formed, strlen(formed), 0, &ids, &n_ids, &err) == SPAR_OK) {
            check_places(t, formed, ids, n_ids);
        }
        free(ids);
        free(back);
        spar_tokenizer_free(t);
    }
    return 0;
}
