/* Any bytes as a GGUF file with a vocabulary, then a text with it to ids and back. */
#include <string.h>

#include "fuzz.h"
#include "model/vocab_gguf.h"

static void use(const spar_tokenizer *t) {
    static const char text[] = "ab abc 12 <s> \xc3\xa9\xff\n";
    int32_t *ids = NULL;
    size_t n_ids = 0;
    char *back = NULL;
    spar_error err = {SPAR_OK, ""};
    const spar_status status = spar_tokenizer_encode(t, text, strlen(text), 0, &ids, &n_ids, &err);
    fuzz_check(status, &err);
    if (status == SPAR_OK) {
        fuzz_check(spar_tokenizer_decode(t, ids, n_ids, false, &back, NULL, &err), &err);
    }
    free(ids);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    sp_gguf *g = NULL;
    spar_tokenizer *t = NULL;
    spar_error err = {SPAR_OK, ""};
    spar_status status = sp_gguf_open(&g, fuzz_path(data, size), &err);
    fuzz_check(status, &err);
    if (status == SPAR_OK) {
        status = sp_vocab_from_gguf(g, &t, &err);
        fuzz_check(status, &err);
    }
    if (status == SPAR_OK && t) {
        use(t);
    }
    spar_tokenizer_free(t);
    sp_gguf_free(g);
    return 0;
}
