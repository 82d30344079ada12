/* Tokenizers from GGUF vocabularies against the ids of llama.cpp, and their tokenizer.json: what is
 * written for export must be read back to the same ids. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "model/vocab_gguf.h"
#include "quickstart_model.h"
#include "support.h"
#include "text/tokenizer_parts.h"
#include "vocab_lines.h"

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static spar_tokenizer *open_vocab(const char *path) {
    spar_error err;
    sp_gguf *gguf;
    spar_tokenizer *t;
    check(sp_gguf_open(&gguf, path, &err), &err);
    check(sp_vocab_from_gguf(gguf, &t, &err), &err);
    sp_gguf_free(gguf);
    assert_non_null(t);
    return t;
}

static bool gives(const spar_tokenizer *t, const json_t *text, const json_t *want) {
    spar_error err;
    int32_t *ids;
    size_t n;
    check(spar_tokenizer_encode(t, json_string_value(text), json_string_length(text),
                                SPAR_TOKENIZE_NO_SPECIAL, &ids, &n, &err),
          &err);
    bool same = n == json_array_size(want);
    for (size_t i = 0; same && i < n; i++) {
        same = json_integer_value(json_array_get(want, i)) == ids[i];
    }
    free(ids);
    return same;
}

static void run_golden(const char *vocab, const char *golden) {
    spar_error err;
    char path[TEST_PATH_MAX];
    spar_tokenizer *t = open_vocab(vocab);
    spar_tokenizer *again;
    json_t *written = sp_tokenizer_to_json(t);
    check(sp_tokenizer_from_json(&again, written, "written", &err), &err);
    snprintf(path, sizeof path, "%s/%s", test_shared("golden/tokenizers"), golden);
    json_t *rows = json_load_file(path, JSON_ALLOW_NUL, NULL); /* a row holds U+0000 */
    assert_true(json_array_size(rows) > 0);
    size_t wrong = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *text = json_object_get(json_array_get(rows, i), "text");
        const json_t *ids = json_object_get(json_array_get(rows, i), "ids");
        if (!gives(t, text, ids) || !gives(again, text, ids)) {
            print_message("%s: text: %.200s\n", golden, json_string_value(text));
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
    json_decref(rows);
    json_decref(written);
    spar_tokenizer_free(t);
    spar_tokenizer_free(again);
}

static void test_vocabularies(void **state) {
    (void)state;
    static const char *const names[] = {"gpt-2",     "gpt-neox", "starcoder",
                                        "llama-spm", "phi-3",    "bert-bge"};
    const char *dir = test_shared("tokenizers/gguf-vocab");
    if (!dir) {
        print_message("skipped: the shared folder has no tokenizers/gguf-vocab\n");
        skip();
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char vocab[TEST_PATH_MAX];
        char golden[TEST_PATH_MAX];
        snprintf(vocab, sizeof vocab, "%s/ggml-vocab-%s.gguf", dir, names[i]);
        snprintf(golden, sizeof golden, "ggml-vocab-%s.gguf.json", names[i]);
        run_golden(vocab, golden);
    }
}

static void test_lines(void **state) {
    (void)state;
    static const char *const names[] = {"gpt-2", "starcoder", "llama-spm", "phi-3", "bert-bge"};
    const char *dir = test_shared("tokenizers/gguf-vocab");
    if (!dir) {
        print_message("skipped: the shared folder has no tokenizers/gguf-vocab\n");
        skip();
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[TEST_PATH_MAX];
        snprintf(path, sizeof path, "%s/ggml-vocab-%s.gguf", dir, names[i]);
        spar_tokenizer *t = open_vocab(path);
        hold_vocab_lines(t, names[i]);
        spar_tokenizer_free(t);
    }
}

static void test_smollm2(void **state) {
    (void)state;
    const char *model = quickstart_model();
    if (!model) {
        print_message("skipped: the quick-start model is not in the cache (tools/fetch_model)\n");
        skip();
    }
    run_golden(model, "smollm2-gguf.json");
    spar_tokenizer *t = open_vocab(model);
    assert_string_equal(spar_tokenizer_eos_text(t), "<|im_end|>");
    assert_non_null(strstr(spar_tokenizer_chat_template(t), "<|im_start|>"));
    assert_true(spar_tokenizer_is_special(t, spar_tokenizer_eos(t)));
    spar_tokenizer_free(t);
}

int main(void) {
    if (!test_shared("golden/tokenizers")) {
        TEST_SKIP("the shared folder has no golden/tokenizers");
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vocabularies),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
