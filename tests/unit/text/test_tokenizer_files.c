/* The files beside tokenizer.json: what names the special tokens and the chat template. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "spar/tokenizer.h"
#include "support.h"

static const char tokenizer_json[] =
    "{\"added_tokens\": [{\"id\": 1, \"content\": \"<s>\", \"special\": true},"
    "{\"id\": 2, \"content\": \"</s>\", \"special\": true}],"
    "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}";

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static void put(const char *dir, const char *name, const char *text) {
    spar_error err;
    char path[TEST_PATH_MAX];
    check(sp_file_write(test_path(path, dir, name), text, strlen(text), &err), &err);
}

static int setup(void **state) {
    static char dir[TEST_PATH_MAX];
    put(test_temp_dir(dir), "tokenizer.json", tokenizer_json);
    *state = dir;
    return 0;
}

static int teardown(void **state) {
    return sp_dir_remove(*state, NULL) == SPAR_OK ? 0 : -1;
}

static spar_tokenizer *load(const char *path) {
    spar_error err;
    spar_tokenizer *t;
    check(spar_tokenizer_load(&t, path, &err), &err);
    return t;
}

static void test_alone(void **state) {
    spar_tokenizer *t = load(*state);
    assert_int_equal(spar_tokenizer_bos(t), -1);
    assert_null(spar_tokenizer_bos_text(t));
    assert_null(spar_tokenizer_chat_template(t));
    spar_tokenizer_free(t);
}

static void test_config(void **state) {
    char path[TEST_PATH_MAX];
    put(*state, "tokenizer_config.json",
        "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}, \"pad_token\": null,"
        "\"chat_template\": \"inline\"}");
    put(*state, "config.json", "{\"pad_token_id\": 2, \"bos_token_id\": 0}");
    spar_tokenizer *t = load(*state);
    assert_int_equal(spar_tokenizer_bos(t), 1);
    assert_int_equal(spar_tokenizer_eos(t), 2);
    assert_int_equal(spar_tokenizer_pad(t), 2);
    assert_int_equal(spar_tokenizer_unk(t), -1);
    assert_string_equal(spar_tokenizer_eos_text(t), "</s>");
    assert_string_equal(spar_tokenizer_chat_template(t), "inline");
    spar_tokenizer_free(t);
    t = load(test_path(path, *state, "tokenizer.json")); /* the file itself finds them too */
    assert_int_equal(spar_tokenizer_bos(t), 1);
    spar_tokenizer_free(t);
}

static void test_template_choice(void **state) {
    put(*state, "tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"tools\", \"template\": \"T\"},"
        "{\"name\": \"default\", \"template\": \"D\"}]}");
    spar_tokenizer *t = load(*state);
    assert_string_equal(spar_tokenizer_chat_template(t), "D");
    spar_tokenizer_free(t);
    put(*state, "chat_template.jinja", "J\n");
    t = load(*state);
    assert_string_equal(spar_tokenizer_chat_template(t), "J\n");
    spar_tokenizer_free(t);
}

static void refused(const char *dir, spar_status want, const char *word) {
    spar_error err;
    spar_tokenizer *t = NULL;
    assert_int_equal(spar_tokenizer_load(&t, dir, &err), want);
    if (!strstr(err.message, word)) {
        fail_msg("expected %s in: %s", word, err.message);
    }
    assert_null(t);
}

static void test_refusals(void **state) {
    put(*state, "tokenizer_config.json", "[]");
    refused(*state, SPAR_FORMAT, "tokenizer_config.json");
    put(*state, "tokenizer_config.json", "{\"chat_template\": 3}");
    refused(*state, SPAR_FORMAT, "chat_template");
    put(*state, "tokenizer.json", "{\"model\": ");
    refused(*state, SPAR_FORMAT, "tokenizer.json");
    put(*state, "tokenizer.json", "[]");
    refused(*state, SPAR_FORMAT, "model");
    refused("/no/such/folder", SPAR_NOT_FOUND, "/no/such/folder");
}

/* Every prefix of a tokenizer.json is refused. */
static void test_truncated(void **state) {
    spar_error err;
    char path[TEST_PATH_MAX];
    test_path(path, *state, "tokenizer.json");
    for (size_t n = 0; n + 1 < sizeof tokenizer_json - 1; n++) {
        spar_tokenizer *t = NULL;
        check(sp_file_write(path, tokenizer_json, n, &err), &err);
        assert_int_equal(spar_tokenizer_load(&t, path, &err), SPAR_FORMAT);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_config, setup, teardown),
        cmocka_unit_test_setup_teardown(test_template_choice, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
