/* Tokenizers from the description of a GGUF vocabulary: the pre-tokenisers by name, merges from
 * scores, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "support.h"
#include "text/pre_names.h"
#include "text/tokenizer_describe.h"
#include "text/tokenizer_parts.h"

#define BYTES(s) ((sp_bytes){(s), sizeof(s) - 1})

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

/* Single characters, so that an id stands for a place in the text; "ab" shows what was split. */
static sp_bytes byte_level_tokens[] = {{"<s>", 3}, {"a", 1}, {"b", 1},  {"1", 1},  {"11", 2},
                                       {"ab", 2},  {".", 1}, {"a.", 2}, {"<x>", 3}};
static const int32_t byte_level_types[] = {SP_TOKEN_CONTROL, SP_TOKEN_NORMAL, SP_TOKEN_NORMAL,
                                           SP_TOKEN_NORMAL,  SP_TOKEN_NORMAL, SP_TOKEN_NORMAL,
                                           SP_TOKEN_NORMAL,  SP_TOKEN_NORMAL, SP_TOKEN_USER};
static sp_bytes byte_level_merges[] = {{"1 1", 3}, {"a b", 3}, {"a .", 3}};

static sp_vocab_spec byte_level(const char *pre) {
    return (sp_vocab_spec){.tokens = byte_level_tokens,
                           .n_tokens = 9,
                           .types = byte_level_types,
                           .merges = byte_level_merges,
                           .n_merges = 3,
                           .pre = {pre, strlen(pre)},
                           .bos = 0,
                           .eos = -1,
                           .pad = -1,
                           .unk = -1,
                           .add_bos = -1};
}

static void expect(const sp_vocab_spec *spec, const char *text, const char *want) {
    spar_error err;
    spar_tokenizer *t;
    int32_t *ids;
    size_t n;
    sp_str found = SP_STR_INIT;
    check(sp_tokenizer_from_spec(&t, spec, "spec", &err), &err);
    check(spar_tokenizer_encode(t, text, strlen(text), 0, &ids, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        sp_str_printf(&found, "%s%d", i ? " " : "", ids[i]);
    }
    assert_string_equal(sp_str_get(&found), want);
    sp_str_release(&found);
    free(ids);
    spar_tokenizer_free(t);
}

static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *name, *ids; /* of "ab11a.<x>" */
    } cases[] = {
        {"", "5 4 1 6 8"},
        {"default", "5 4 1 6 8"},
        {"gpt-2", "5 4 1 6 8"},
        {"smollm", "5 3 3 1 6 8"},
        {"starcoder", "5 3 3 1 6 8"},
        {"falcon", "5 4 1 6 8"},
        {"llama-bpe", "0 5 4 1 6 8"},
        {"dbrx", "5 4 1 6 8"},
        {"qwen2", "5 3 3 1 6 8"},
        {"gpt-4o", "5 4 1 6 8"},
        {"tekken", "0 5 3 3 1 6 8"},
        {"deepseek-coder", "5 3 3 1 6 8"},
        {"deepseek-v3", "5 4 1 6 8"},
        {"qwen35", "5 3 3 1 6 8"},
        {"bailingmoe2", "5 3 3 1 6 8"},
        {"seed-coder", "5 3 3 1 6 8"},
        {"bloom", "5 4 1 6 8"},
        {"viking", "5 3 3 1 6 8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sp_vocab_spec spec = byte_level(cases[i].name);
        expect(&spec, "ab11a.<x>", cases[i].ids);
    }
}

static void test_bos(void **state) {
    (void)state;
    sp_vocab_spec spec = byte_level("llama-bpe");
    spec.add_bos = 0;
    expect(&spec, "a", "1");
    spec = byte_level("gpt-2");
    spec.add_bos = 1;
    expect(&spec, "a", "0 1");
    spec.bos = -1;
    expect(&spec, "a", "1");
}

static void test_scores(void **state) {
    (void)state;
    sp_bytes tokens[] = {{"<unk>", 5},
                         BYTES("<s>"),
                         BYTES("\xE2\x96\x81"),
                         {"a", 1},
                         {"b", 1},
                         {"c", 1},
                         {"ab", 2},
                         {"bc", 2},
                         BYTES("\xE2\x96\x81"
                               "a"),
                         BYTES("<0xFF>")};
    const int32_t types[] = {2, 3, 1, 1, 1, 1, 1, 1, 1, 6};
    const float scores[] = {0, 0, -9, -9, -9, -9, -3, -1, -2, 0};
    sp_vocab_spec spec = {.kind = SP_VOCAB_SENTENCEPIECE,
                          .tokens = tokens,
                          .n_tokens = 10,
                          .types = types,
                          .scores = scores,
                          .bos = 1,
                          .eos = -1,
                          .pad = -1,
                          .unk = 0,
                          .add_bos = -1,
                          .add_space_prefix = true};
    expect(&spec, "abc", "1 8 7"); /* the best score first: bc, then the mark and a */
    expect(&spec, "ab b", "1 8 4 2 4");
    expect(&spec, "a\xC3\xA9", "1 8 0"); /* bytes that are not tokens: unknown */
    spec.add_space_prefix = false;
    expect(&spec, "abab", "1 6 6");
}

static void refused(const sp_vocab_spec *spec, spar_status want, const char *word) {
    spar_error err;
    spar_tokenizer *t = NULL;
    assert_int_equal(sp_tokenizer_from_spec(&t, spec, "x.gguf", &err), want);
    if (!strstr(err.message, word)) {
        fail_msg("expected %s in: %s", word, err.message);
    }
    assert_null(t);
}

/* Groups of three from the end of a number that is long: the match's stack grows with it. */
static void test_long_number(void **state) {
    (void)state;
    enum { N = 9001 };
    static const char *const names[] = {"superbpe", "tiny_aya", "afmoe"};
    char digits[N];
    memset(digits, '1', N);
    for (int k = 0; k < 3; k++) {
        const sp_vocab_spec spec = byte_level(names[k]);
        spar_error err;
        spar_tokenizer *t;
        int32_t *ids;
        size_t n;
        check(sp_tokenizer_from_spec(&t, &spec, "spec", &err), &err);
        check(spar_tokenizer_encode(t, digits, N, 0, &ids, &n, &err), &err);
        assert_int_equal(n, 1 + 2 * (N / 3)); /* "1", and "11", "1" of each group */
        assert_true(ids[0] == 3 && ids[1] == 4 && ids[2] == 3);
        free(ids);
        spar_tokenizer_free(t);
    }
}

static void test_refusals(void **state) {
    (void)state;
    sp_vocab_spec spec = byte_level("no-such-pre");
    refused(&spec, SPAR_UNSUPPORTED, "no-such-pre");
    sp_bytes merges[] = {{"a z", 3}};
    spec = byte_level("gpt-2");
    spec.merges = merges;
    spec.n_merges = 1;
    refused(&spec, SPAR_FORMAT, "merges[0]");
    sp_bytes tokens[] = {{"a\xFF", 2}};
    spec = byte_level("gpt-2");
    spec.tokens = tokens;
    spec.n_tokens = 1;
    spec.n_merges = 0;
    refused(&spec, SPAR_FORMAT, "token 0");
    assert_null(sp_pre_find("llama", 5));
    assert_null(sp_pre_find("gpt-2 phi-2", 11));
}

static void same_ids(const spar_tokenizer *t, const char *name, const json_t *text,
                     const json_t *wanted) {
    spar_error err;
    int32_t *ids;
    size_t n;
    const char *s = json_string_value(text);
    check(spar_tokenizer_encode(t, s, json_string_length(text), 0, &ids, &n, &err), &err);
    bool same = n == json_array_size(wanted);
    for (size_t i = 0; same && i < n; i++) {
        same = ids[i] == json_integer_value(json_array_get(wanted, i));
    }
    free(ids);
    if (!same) {
        fail_msg("%s: other ids of: %s", name, s);
    }
}

/* GPT-2's vocabulary under every kind of name: llama.cpp's ids (tools/make_pre_golden.py). */
static void test_golden_names(void **state) {
    (void)state;
    spar_error err;
    spar_tokenizer *gpt2, *t;
    sp_vocab_description d;
    json_t *golden, *rows, *row;
    const char *name;
    size_t i;
    if (!test_shared("tokenizers/gpt2/vocab.json")) {
        skip();
    }
    check(spar_tokenizer_load(&gpt2, test_shared("tokenizers/gpt2/vocab.json"), &err), &err);
    check(sp_tokenizer_describe(&d, gpt2, (size_t)spar_tokenizer_vocab_size(gpt2), &err), &err);
    check(sp_json_load(&golden, SPAR_SOURCE_DIR "/tests/golden/pre_names.json", &err), &err);
    const json_t *texts = json_object_get(golden, "texts");
    assert_int_equal(json_object_size(json_object_get(golden, "ids")), 31);
    json_object_foreach(json_object_get(golden, "ids"), name, rows) {
        d.spec.pre = (sp_bytes){name, strlen(name)};
        check(sp_tokenizer_from_spec(&t, &d.spec, name, &err), &err);
        assert_int_equal(json_array_size(rows), json_array_size(texts));
        json_array_foreach(rows, i, row) {
            same_ids(t, name, json_array_get(texts, i), row);
        }
        spar_tokenizer_free(t);
    }
    json_decref(golden);
    sp_vocab_description_release(&d);
    spar_tokenizer_free(gpt2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_names), cmocka_unit_test(test_long_number),
        cmocka_unit_test(test_names),        cmocka_unit_test(test_bos),
        cmocka_unit_test(test_scores),       cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
