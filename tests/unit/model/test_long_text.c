/* A long text in one word, or in words of one character: the work grows with its length, and a
 * logarithm. One MB and a vocabulary of each kind; with the argument "long" 10 MB and all
 * vocabularies, or those whose path holds the argument behind it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "spar/model.h"
#include "spar/tokenizer.h"
#include "support.h"

static const struct vocabulary {
    const char *path; /* under tokenizers/ of the shared folder */
    const char *kind;
} vocabularies[] = {
    {"qwen3", "byte-level BPE, numbers cut"},
    {"smollm2", "byte-level BPE"},
    {"phi-3-mini", "BPE with byte fallback"},
    {"t5-small", "Unigram"},
    {"gguf-vocab/ggml-vocab-bert-bge.gguf", "WordPiece"},
    {"gemma3", "BPE with byte fallback, whole texts"}, /* from here on only in the long form */
    {"llama3_1", "byte-level BPE"},
    {"llama3/tokenizer.model", "tiktoken's ranks"},
    {"roberta-base", "byte-level BPE"},
    {"gpt2", "byte-level BPE"},
    {"llama2/tokenizer.model", "SentencePiece BPE"},
    {"mistral/tokenizer.model.v1", "SentencePiece BPE"},
    {"mistral/mistral_instruct_tokenizer_240216.model.v2", "SentencePiece BPE"},
    {"mistral/mistral_instruct_tokenizer_240323.model.v3", "SentencePiece BPE"},
    {"gguf-vocab/ggml-vocab-gpt-2.gguf", "byte-level BPE"},
    {"gguf-vocab/ggml-vocab-gpt-neox.gguf", "byte-level BPE"},
    {"gguf-vocab/ggml-vocab-starcoder.gguf", "byte-level BPE"},
    {"gguf-vocab/ggml-vocab-llama-spm.gguf", "SentencePiece BPE"},
    {"gguf-vocab/ggml-vocab-phi-3.gguf", "SentencePiece BPE"},
};
enum { SHORT_VOCABULARIES = 5 };

typedef struct extent {
    size_t n, vocabularies;
    const char *only; /* part of a path; "": all */
} extent;

/* What a text is made of. */
static const struct filling {
    const char *name, *unit;
} fillings[] = {
    {"one word", "a"},
    {"a word of several letters", "interchangeabl"},
    {"spaces", " "},
    {"digits", "7"},
    {"an emoji", "\xF0\x9F\x98\x80"},
    {"punctuation", "-"},
    {"marks", "\xCC\x81"},
    {"marks of two classes", "\xCC\x81\xCC\xA3"},
};

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds to encode n bytes or somewhat less of repeated units. */
static double encode(const spar_tokenizer *t, const char *text, const char *unit, size_t n) {
    spar_error err;
    int32_t *ids;
    size_t n_ids;
    n -= n % strlen(unit);
    const double begun = cpu_seconds();
    if (spar_tokenizer_encode(t, text, n, SPAR_TOKENIZE_NO_SPECIAL, &ids, &n_ids, &err) !=
        SPAR_OK) {
        fail_msg("%s", err.message);
    }
    const double seconds = cpu_seconds() - begun;
    assert_true(n_ids <= n + 1); /* a space may be put in front */
    free(ids);
    return seconds;
}

/* Ten times the text takes ten times as long, somewhat more where it outgrows the processor's
 * caches, and a hundred times where the work is quadratic. */
static void test_long_text(void **state) {
    const extent *e = *state;
    const size_t n = e->n;
    char *text = malloc(n);
    for (size_t v = 0; v < e->vocabularies; v++) {
        spar_error err;
        spar_tokenizer *t;
        char path[TEST_PATH_MAX];
        if (!strstr(vocabularies[v].path, e->only)) {
            continue;
        }
        snprintf(path, sizeof path, "%s/%s", test_shared("tokenizers"), vocabularies[v].path);
        assert_int_equal(spar_vocab_load(&t, path, &err), SPAR_OK);
        for (size_t f = 0; f < sizeof fillings / sizeof fillings[0]; f++) {
            const char *unit = fillings[f].unit;
            for (size_t i = 0; i < n; i++) {
                text[i] = unit[i % strlen(unit)];
            }
            const double tenth = encode(t, text, unit, n / 10);
            const double whole = encode(t, text, unit, n);
            print_message("%s (%s), %s: %.2f s, a tenth of it %.2f s\n", vocabularies[v].path,
                          vocabularies[v].kind, fillings[f].name, whole, tenth);
            assert_true(whole < 30 * tenth + 0.3);
            assert_true(whole < 3e-6 * (double)n);
        }
        spar_tokenizer_free(t);
    }
    free(text);
}

int main(int argc, char **argv) {
    const bool is_long = argc > 1 && strcmp(argv[1], "long") == 0;
    extent e = {1000000, SHORT_VOCABULARIES, ""};
    if (is_long) {
        e = (extent){10000000, sizeof vocabularies / sizeof vocabularies[0],
                     argc > 2 ? argv[2] : ""};
    }
    test_shared_or_skip("tokenizers");
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_long_text, &e)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
