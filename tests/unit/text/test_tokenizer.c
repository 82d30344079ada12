/* Tokenizers against the ids and texts of Hugging Face tokenizers (shared/golden/tokenizers). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

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

static void test_broken_merge(void **state) {
    (void)state;
    spar_error err;
    spar_tokenizer *t = NULL;
    assert_int_equal(spar_tokenizer_load(&t, test_shared("tokenizers/llama2"), &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "merges"));
    assert_null(t);
}

static void test_long_word(void **state) {
    (void)state;
    spar_error err;
    spar_tokenizer *t;
    enum { N = 200000 };
    char *text = malloc(N);
    int32_t *ids;
    size_t n;
    memset(text, 'a', N);
    check(spar_tokenizer_load(&t, test_shared("tokenizers/smollm2"), &err), &err);
    check(spar_tokenizer_encode(t, text, N, 0, &ids, &n, &err), &err);
    assert_true(n > 1000 && n < N);
    free(ids);
    free(text);
    spar_tokenizer_free(t);
}

int main(void) {
    if (!test_shared("golden") || !test_shared("tokenizers")) {
        TEST_SKIP("the shared folder with golden/tokenizers is missing");
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_smollm2),      cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_llama3),       cmocka_unit_test(test_phi3),
        cmocka_unit_test(test_broken_merge), cmocka_unit_test(test_long_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
