/* Random texts for tokenizers, each a function of its number. */
#ifndef SPAR_TESTS_RANDOM_TEXT_H
#define SPAR_TESTS_RANDOM_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"
#include "base/str.h"
#include "spar/tokenizer.h"

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

static inline void put_bytes(sp_rng *rng, sp_str *text) {
    for (uint64_t n = sp_rng_next_below(rng, 8); n > 0; n--) {
        sp_str_putc(text, (char)(unsigned char)sp_rng_next_below(rng, 256));
    }
}

/* A run of letters of one block, or of any code points (of which surrogates become U+FFFD). */
static inline void put_word(sp_rng *rng, sp_str *text) {
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

static inline void put_token(const spar_tokenizer *t, sp_rng *rng, sp_str *text) {
    const uint64_t size = (uint64_t)spar_tokenizer_vocab_size(t);
    const int32_t id = (int32_t)sp_rng_next_below(rng, size);
    const char *token = spar_tokenizer_token(t, id);
    if (token && !spar_tokenizer_is_special(t, id)) { /* of which some take spaces away */
        sp_str_puts(text, token);
    }
}

static inline void put_run(sp_rng *rng, sp_str *text) {
    const char *fragment = fragments[sp_rng_next_below(rng, N_FRAGMENTS)];
    for (uint64_t n = sp_rng_next_below(rng, 60); n > 0; n--) {
        sp_str_puts(text, fragment);
    }
}

/* Text number `row`: bytes, words of all scripts, tokens of the vocabulary, fragments, long runs.
 */
static inline void make_text(const spar_tokenizer *t, uint64_t row, sp_str *text) {
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

#endif
