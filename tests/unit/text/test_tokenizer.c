/* Tokenizers against the ids and texts of Hugging Face tokenizers (shared/golden/tokenizers). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "spar/token_stream.h"
#include "spar/tokenizer.h"
#include "support.h"

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static bool same_ids(const json_t *want, const int32_t *got, size_t n) {
    if (json_array_size(want) != n) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (json_integer_value(json_array_get(want, i)) != got[i]) {
            return false;
        }
    }
    return true;
}

static bool row_holds(const spar_tokenizer *t, const json_t *row) {
    spar_error err;
    const json_t *text = json_object_get(row, "text");
    int32_t *ids, *special;
    size_t n, n_special, n_decoded;
    char *decoded;
    const char *s = json_string_value(text);
    size_t length = json_string_length(text);
    check(spar_tokenizer_encode(t, s, length, SPAR_TOKENIZE_NO_SPECIAL, &ids, &n, &err), &err);
    check(spar_tokenizer_encode(t, s, length, 0, &special, &n_special, &err), &err);
    bool ok = same_ids(json_object_get(row, "ids"), ids, n) &&
              same_ids(json_object_get(row, "with_special"), special, n_special);
    const json_t *want = json_object_get(row, "decoded");
    check(spar_tokenizer_decode(t, ids, n, false, &decoded, &n_decoded, &err), &err);
    ok = ok && n_decoded == json_string_length(want) &&
         memcmp(decoded, json_string_value(want), n_decoded) == 0;
    if (!ok) {
        print_message("text: %.200s\ndecoded: %.200s\n", s, decoded);
    }
    free(ids);
    free(special);
    free(decoded);
    return ok;
}

static void run_golden(const char *name) {
    spar_error err;
    char path[TEST_PATH_MAX];
    spar_tokenizer *t;
    json_t *rows;
    size_t wrong = 0;
    snprintf(path, sizeof path, "%s/%s", test_shared("tokenizers"), name);
    check(spar_tokenizer_load(&t, path, &err), &err);
    snprintf(path, sizeof path, "%s/tokenizers/%s.json", test_shared("golden"), name);
    rows = json_load_file(path, JSON_ALLOW_NUL, NULL); /* a row holds U+0000 */
    assert_non_null(rows);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        wrong += !row_holds(t, json_array_get(rows, i));
    }
    print_message("%s: %zu rows, %zu wrong\n", name, json_array_size(rows), wrong);
    assert_true(json_array_size(rows) > 0);
    assert_int_equal(wrong, 0);
    json_decref(rows);
    spar_tokenizer_free(t);
}

static void test_smollm2(void **state) {
    (void)state;
    run_golden("smollm2");
}

static void test_qwen3(void **state) {
    (void)state;
    run_golden("qwen3");
}

static void test_llama3(void **state) {
    (void)state;
    run_golden("llama3_1");
}

static void test_phi3(void **state) {
    (void)state;
    run_golden("phi-3-mini");
}

static void test_gemma3(void **state) {
    (void)state;
    run_golden("gemma3");
}

static void test_roberta(void **state) {
    (void)state;
    run_golden("roberta-base");
}

static void test_t5(void **state) {
    (void)state;
    run_golden("t5-small");
}

/* Python's bytes.decode(errors="replace"): one U+FFFD for each maximal ill-formed part. */
static void test_ill_formed(void **state) {
    (void)state;
    static const struct {
        const char *text, *repaired;
    } cases[] = {
        {"a\xFF\xFEz", "a\uFFFD\uFFFDz"},
        {"\xE4\xB8", "\uFFFD"},
        {"\xE4\xB8z", "\uFFFDz"},
        {"\xC0\xAF", "\uFFFD\uFFFD"},
        {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
        {"\xF0\x9F\x98", "\uFFFD"},
        {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
    };
    spar_error err;
    spar_tokenizer *t;
    check(spar_tokenizer_load(&t, test_shared("tokenizers/smollm2"), &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t *ids;
        size_t n;
        char *text;
        check(spar_tokenizer_encode(t, cases[i].text, strlen(cases[i].text), 0, &ids, &n, &err),
              &err);
        check(spar_tokenizer_decode(t, ids, n, false, &text, NULL, &err), &err);
        assert_string_equal(text, cases[i].repaired);
        free(ids);
        free(text);
    }
    spar_tokenizer_free(t);
}

static void append(char **all, size_t *n, const char *text, size_t n_text) {
    *all = realloc(*all, *n + n_text + 1);
    memcpy(*all + *n, text, n_text);
    *n += n_text;
    (*all)[*n] = '\0';
}

/* The pieces of a stream are whole characters, and joined the decoded text. */
static void stream_holds(spar_token_stream *stream, const int32_t *ids, size_t n_ids,
                         const char *want, size_t n_want) {
    spar_error err;
    char *all = NULL;
    size_t n = 0;
    const char *piece;
    size_t n_piece;
    for (size_t i = 0; i < n_ids; i++) {
        check(spar_token_stream_push(stream, ids[i], &piece, &n_piece, &err), &err);
        assert_true(n_piece == 0 || ((unsigned char)piece[0] & 0xC0U) != 0x80U);
        append(&all, &n, piece, n_piece);
    }
    check(spar_token_stream_finish(stream, &piece, &n_piece, &err), &err);
    append(&all, &n, piece, n_piece);
    assert_int_equal(n, n_want);
    assert_memory_equal(all, want, n_want);
    free(all);
}

static void run_stream(const char *folder, const char *golden) {
    spar_error err;
    spar_tokenizer *t;
    spar_token_stream *stream;
    char path[TEST_PATH_MAX];
    snprintf(path, sizeof path, "%s/tokenizers/%s.json", test_shared("golden"), golden);
    json_t *rows = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(rows);
    check(spar_tokenizer_load(&t, folder, &err), &err);
    check(spar_token_stream_create(&stream, t, false, &err), &err);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *text = json_object_get(json_array_get(rows, i), "text");
        int32_t *ids;
        size_t n, n_decoded;
        char *decoded;
        check(spar_tokenizer_encode(t, json_string_value(text), json_string_length(text), 0, &ids,
                                    &n, &err),
              &err);
        check(spar_tokenizer_decode(t, ids, n, false, &decoded, &n_decoded, &err), &err);
        stream_holds(stream, ids, n, decoded, n_decoded);
        free(ids);
        free(decoded);
    }
    spar_token_stream_free(stream);
    spar_tokenizer_free(t);
    json_decref(rows);
}

static void test_streams(void **state) {
    (void)state;
    run_stream(test_shared("tokenizers/smollm2"), "smollm2");
    run_stream(test_shared("tokenizers/phi-3-mini"), "phi-3-mini");
}

static void test_known_tokens(void **state) {
    (void)state;
    spar_error err;
    spar_tokenizer *t;
    check(spar_tokenizer_load(&t, test_shared("tokenizers/smollm2"), &err), &err);
    int32_t id = spar_tokenizer_id(t, "<|im_end|>");
    assert_int_equal(id, 2);
    assert_string_equal(spar_tokenizer_token(t, id), "<|im_end|>");
    assert_true(spar_tokenizer_is_special(t, id));
    assert_false(spar_tokenizer_is_special(t, spar_tokenizer_id(t, "a")));
    assert_int_equal(spar_tokenizer_vocab_size(t), 49152);
    assert_int_equal(spar_tokenizer_id(t, "no such token"), -1);
    assert_null(spar_tokenizer_token(t, -1));
    assert_null(spar_tokenizer_token(t, 49152));
    spar_tokenizer_free(t);
}

static void test_broken_merge(void **state) {
    (void)state;
    spar_error err;
    spar_tokenizer *t = NULL;
    assert_int_equal(spar_tokenizer_load(&t, test_shared("tokenizers/llama2"), &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "merges"));
    assert_null(t);
}

/* One word of 10 MB: work that grows with its square would not end. */
static void test_long_word(void **state) {
    (void)state;
    static const struct {
        const char *tokenizer;
        char letter;
    } cases[] = {{"smollm2", 'a'}, {"phi-3-mini", '-'}, {"llama3_1", ' '}, {"t5-small", '-'}};
    enum { N = 10000000 };
    spar_error err;
    char *text = malloc(N);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spar_tokenizer *t;
        char path[TEST_PATH_MAX];
        int32_t *ids;
        size_t n;
        memset(text, cases[i].letter, N);
        snprintf(path, sizeof path, "%s/%s", test_shared("tokenizers"), cases[i].tokenizer);
        check(spar_tokenizer_load(&t, path, &err), &err);
        check(spar_tokenizer_encode(t, text, N, 0, &ids, &n, &err), &err);
        assert_true(n > N / 100000 && n < N);
        free(ids);
        spar_tokenizer_free(t);
    }
    free(text);
}

int main(void) {
    if (!test_shared("golden") || !test_shared("tokenizers")) {
        TEST_SKIP("the shared folder with golden/tokenizers is missing");
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smollm2),   cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_llama3),    cmocka_unit_test(test_phi3),
        cmocka_unit_test(test_gemma3),    cmocka_unit_test(test_roberta),
        cmocka_unit_test(test_t5),        cmocka_unit_test(test_broken_merge),
        cmocka_unit_test(test_long_word), cmocka_unit_test(test_ill_formed),
        cmocka_unit_test(test_streams),   cmocka_unit_test(test_known_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
