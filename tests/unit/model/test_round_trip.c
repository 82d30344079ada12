/* Byte-level BPE without a normalizer gives every text back: decoded ids are the text, with U+FFFD
 * in the places that were not UTF-8. 20,000 texts a vocabulary; with the argument "long" a million.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "random_text.h"
#include "spar/model.h"
#include "spar/tokenizer.h"
#include "support.h"
#include "text/steps.h"

static const char *const vocabularies[] = {
    "smollm2",
    "roberta-base",
    "llama3_1",
    "llama3/tokenizer.model",
    "gpt2",
    "gguf-vocab/ggml-vocab-gpt-2.gguf",
    "gguf-vocab/ggml-vocab-starcoder.gguf",
    "gguf-vocab/ggml-vocab-gpt-neox.gguf",
};

/* The bytes that are tokens: some vocabularies lack those that their training text had not. */
static size_t find_bytes(const spar_tokenizer *t, bool known[256]) {
    size_t n = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        const char one = (char)(unsigned char)byte;
        sp_str token = SP_STR_INIT;
        sp_bytes_to_alphabet(&one, 1, &token);
        known[byte] = spar_tokenizer_id(t, sp_str_get(&token)) >= 0;
        n += known[byte];
        sp_str_release(&token);
    }
    return n;
}

static void drop_unknown(const bool known[256], sp_str *text) {
    size_t kept = 0;
    for (size_t i = 0; i < text->len; i++) {
        if (known[(unsigned char)text->data[i]]) {
            text->data[kept++] = text->data[i];
        }
    }
    sp_str_truncate(text, kept);
}

static void hold_text(const spar_tokenizer *t, const char *vocabulary, uint64_t row,
                      const sp_str *text) {
    spar_error err;
    sp_str want = SP_STR_INIT;
    int32_t *ids;
    size_t n, n_back;
    char *back;
    sp_utf8_repair(sp_str_get(text), text->len, &want);
    if (spar_tokenizer_encode(t, sp_str_get(text), text->len, SPAR_TOKENIZE_NO_SPECIAL, &ids, &n,
                              &err) != SPAR_OK ||
        spar_tokenizer_decode(t, ids, n, false, &back, &n_back, &err) != SPAR_OK) {
        fail_msg("%s, text %llu: %s", vocabulary, (unsigned long long)row, err.message);
    }
    if (n_back != want.len || memcmp(back, sp_str_get(&want), n_back) != 0) {
        fail_msg("%s, text %llu: expected %s, found %s", vocabulary, (unsigned long long)row,
                 sp_str_get(&want), back);
    }
    free(ids);
    free(back);
    sp_str_release(&want);
}

static void test_round_trips(void **state) {
    const uint64_t rows = *(const uint64_t *)*state;
    sp_str text = SP_STR_INIT;
    for (size_t i = 0; i < sizeof vocabularies / sizeof vocabularies[0]; i++) {
        spar_error err;
        spar_tokenizer *t;
        char path[TEST_PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", test_shared("tokenizers"), vocabularies[i]);
        if (spar_vocab_load(&t, path, &err) != SPAR_OK) {
            fail_msg("%s", err.message);
        }
        bool known[256];
        print_message("%s: %zu bytes are tokens\n", vocabularies[i], find_bytes(t, known));
        for (uint64_t row = 0; row < rows; row++) {
            make_text(t, row, &text);
            drop_unknown(known, &text);
            hold_text(t, vocabularies[i], row, &text);
        }
        spar_tokenizer_free(t);
    }
    sp_str_release(&text);
}

int main(int argc, char **argv) {
    uint64_t rows = argc > 1 && strcmp(argv[1], "long") == 0 ? 1000000 : 20000;
    test_shared_or_skip("tokenizers");
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_round_trips, &rows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
