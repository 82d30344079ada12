/* Byte-level BPE without a normalizer gives every text back: decoded ids are the text, with U+FFFD
 * in the places that were not UTF-8. 20,000 texts a vocabulary; with the argument "long" a million.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/str.h"
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

static const char *const fragments[] = {
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "'s",
    "'LL",
    "don't",
    "123",
    "1234567",
    "the",
    " of",
    "<|",
    "|>",
    "<s>",
    "...",
    "==",
    "\xC2\xA0",
    "e\xCC\x81",
    "\xE4\xB8\xAD",
    "\xFF",
    "\xC3",
    "\xE2\x80",
    "\xED\xA0\x80",
    "\xF0\x9F\x98\x80",
    "return 0;\n    }",
};
enum { N_FRAGMENTS = sizeof fragments / sizeof fragments[0] };

static void put_bytes(sp_rng *rng, sp_str *text) {
    for (uint64_t n = sp_rng_next_below(rng, 8); n > 0; n--) {
        sp_str_putc(text, (char)(unsigned char)sp_rng_next_below(rng, 256));
    }
}

/* A run of letters of one block, or of any code points (of which surrogates become U+FFFD). */
static void put_word(sp_rng *rng, sp_str *text) {
    const unsigned block = (unsigned)sp_rng_next_below(rng, 0x11000 / 0x10) * 0x100;
    const bool any = sp_rng_next_below(rng, 4) == 0;
    sp_str_puts(text, sp_rng_next_below(rng, 2) ? " " : "");
    for (uint64_t n = 1 + sp_rng_next_below(rng, 12); n > 0; n--) {
        const unsigned c = any ? (unsigned)sp_rng_next_below(rng, 0x110000)
                               : block % 0x110000 + (unsigned)sp_rng_next_below(rng, 0x100);
        if (c > 0) {
            sp_str_put_utf8(text, c);
        }
    }
}

static void put_token(const spar_tokenizer *t, sp_rng *rng, sp_str *text) {
    const uint64_t size = (uint64_t)spar_tokenizer_vocab_size(t);
    const int32_t id = (int32_t)sp_rng_next_below(rng, size);
    const char *token = spar_tokenizer_token(t, id);
    if (token && !spar_tokenizer_is_special(t, id)) { /* of which some take spaces away */
        sp_str_puts(text, token);
    }
}

static void put_run(sp_rng *rng, sp_str *text) {
    const char *fragment = fragments[sp_rng_next_below(rng, N_FRAGMENTS)];
    for (uint64_t n = sp_rng_next_below(rng, 60); n > 0; n--) {
        sp_str_puts(text, fragment);
    }
}

static void make_text(const spar_tokenizer *t, uint64_t row, sp_str *text) {
    sp_rng rng = {.stream = row};
    sp_str_clear(text);
    for (uint64_t parts = sp_rng_next_below(&rng, 16); parts > 0; parts--) {
        switch (sp_rng_next_below(&rng, 16)) {
        case 0:
            put_run(&rng, text);
            break;
        case 1:
        case 2:
            put_bytes(&rng, text);
            break;
        case 3:
        case 4:
        case 5:
        case 6:
            put_word(&rng, text);
            break;
        case 7:
        case 8:
        case 9:
        case 10:
            put_token(t, &rng, text);
            break;
        default:
            sp_str_puts(text, fragments[sp_rng_next_below(&rng, N_FRAGMENTS)]);
        }
    }
}

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
