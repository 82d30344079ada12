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
    char path[TEST_PATH_MAX], *folder = NULL;
    test_path(path, dir, name);
    check(sp_path_parent(&folder, path, &err), &err);
    check(sp_dir_make(folder, &err), &err);
    free(folder);
    check(sp_file_write(path, text, strlen(text), &err), &err);
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
    assert_null(spar_tokenizer_tool_template(t));
    spar_tokenizer_free(t);
    put(*state, "chat_template.jinja", "J\n");
    t = load(*state);
    assert_string_equal(spar_tokenizer_chat_template(t), "J\n");
    spar_tokenizer_free(t);
}

static void test_tool_template(void **state) {
    put(*state, "tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"default\", \"template\": \"D\"},"
        "{\"name\": \"tool_use\", \"template\": \"T\"}, {\"name\": \"rag\", \"template\": "
        "\"R\"}]}");
    spar_tokenizer *t = load(*state);
    assert_string_equal(spar_tokenizer_chat_template(t), "D");
    assert_string_equal(spar_tokenizer_tool_template(t), "T");
    spar_tokenizer_free(t);
    put(*state, "additional_chat_templates/tool_use.jinja", "T2\n");
    t = load(*state);
    assert_string_equal(spar_tokenizer_tool_template(t), "T2\n");
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

/* ---- files other than tokenizer.json ---- */

static int setup_empty(void **state) {
    static char dir[TEST_PATH_MAX];
    *state = test_temp_dir(dir);
    return 0;
}

static void expect(const spar_tokenizer *t, const char *text, const int32_t *want, size_t n_want) {
    spar_error err;
    int32_t *ids;
    size_t n;
    check(spar_tokenizer_encode(t, text, strlen(text), 0, &ids, &n, &err), &err);
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want, n * sizeof *ids);
    free(ids);
}

static void test_vocab_txt(void **state) {
    static const int32_t lower[] = {1, 3, 4, 5, 2}, upper[] = {1, 0, 2};
    put(*state, "vocab.txt", "[UNK]\n[CLS]\n[SEP]\nun\n##able\n!\n");
    spar_tokenizer *t = load(*state);
    expect(t, "Unable!", lower, 5);
    spar_tokenizer_free(t);
    put(*state, "tokenizer_config.json", "{\"do_lower_case\": false}");
    t = load(*state);
    expect(t, "Unable", upper, 3);
    spar_tokenizer_free(t);
    put(*state, "vocab.txt", "a\nb\n");
    refused(*state, SPAR_UNSUPPORTED, "[UNK]");
}

static void test_merges(void **state) {
    static const int32_t plain[] = {2, 1}, added[] = {2, 7}, around[] = {4, 2, 5},
                         first[] = {5, 2, 1};
    put(*state, "vocab.json",
        "{\"a\": 0, \"b\": 1, \"ab\": 2, \"<unk>\": 3, \"<s>\": 4, \"</s>\": 5}");
    put(*state, "merges.txt", "#version: 0.2\r\na b\r\n");
    spar_tokenizer *t = load(*state);
    expect(t, "abb", plain, 2);
    spar_tokenizer_free(t);
    put(*state, "tokenizer_config.json",
        "{\"tokenizer_class\": \"Qwen2TokenizerFast\", \"added_tokens_decoder\":"
        "{\"7\": {\"content\": \"<|x|>\", \"special\": true, \"normalized\": false}}}");
    t = load(*state);
    expect(t, "ab<|x|>", added, 2);
    assert_int_equal(spar_tokenizer_vocab_size(t), 8);
    spar_tokenizer_free(t);
    put(*state, "tokenizer_config.json", "{\"tokenizer_class\": \"RobertaTokenizer\"}");
    t = load(*state);
    expect(t, "ab", around, 3);
    spar_tokenizer_free(t);
    put(*state, "tokenizer_config.json",
        "{\"add_bos_token\": true, \"bos_token\": {\"content\": \"</s>\"}}");
    t = load(*state);
    expect(t, "abb", first, 3);
    spar_tokenizer_free(t);
    put(*state, "tokenizer_config.json",
        "{\"tokenizer_class\": \"CodeGenTokenizer\", \"add_bos_token\": false, "
        "\"bos_token\": \"</s>\"}");
    t = load(*state);
    expect(t, "abb", plain, 2);
    spar_tokenizer_free(t);
    put(*state, "tokenizer_config.json", "{\"tokenizer_class\": \"CLIPTokenizer\"}");
    refused(*state, SPAR_UNSUPPORTED, "CLIPTokenizer");
    put(*state, "tokenizer_config.json", "{\"added_tokens_decoder\": {\"x\": {}}}");
    refused(*state, SPAR_FORMAT, "added_tokens_decoder");
}

static void test_ranks(void **state) {
    put(*state, "tokenizer.model", "YQ== 0\nYg== 1\n");
    refused(*state, SPAR_UNSUPPORTED, "found 2");
    put(*state, "tokenizer.model", "YQ== 0\nYg== 7\n");
    refused(*state, SPAR_FORMAT, "line 2");
    put(*state, "tokenizer.model", "not ranks");
    refused(*state, SPAR_FORMAT, "line 1");
}

/* Control tokens come first, in any order and with others in the gaps; ranks beyond the size are
 * left out (here the third, "bb"). */
static const char tekken_json[] =
    "{\"config\": {\"pattern\": \"[a-z]+|[^a-z]\", \"default_vocab_size\": 7,"
    "\"default_num_special_tokens\": 4},"
    "\"special_tokens\": [{\"rank\": 3, \"token_str\": \"[X]\"}, {\"rank\": 1, \"token_str\": "
    "\"<s>\"}],"
    "\"vocab\": [{\"rank\": 0, \"token_bytes\": \"YQ==\", \"token_str\": \"\\u0000\"},"
    "{\"rank\": 1, \"token_bytes\": \"Yg==\"}, {\"rank\": 2, \"token_bytes\": \"YWI=\"},"
    "{\"rank\": 3, \"token_bytes\": \"YmI=\"}]}";

static void test_tekken(void **state) {
    static const int32_t want[] = {1, 3, 6, 5, 5, 2};
    put(*state, "tekken.json", tekken_json);
    spar_tokenizer *t = load(*state);
    expect(t, "[X]abbb<SPECIAL_2>", want, 6);
    assert_int_equal(spar_tokenizer_vocab_size(t), 7);
    assert_int_equal(spar_tokenizer_bos(t), 1);
    assert_string_equal(spar_tokenizer_eos_text(t), "</s>");
    spar_tokenizer_free(t);
}

/* Files before v11 list no control tokens. */
static void test_tekken_unlisted(void **state) {
    static const int32_t want[] = {1, 3, 20, 4};
    put(*state, "tekken.json",
        "{\"config\": {\"pattern\": \".\"}, \"vocab\": [{\"rank\": 0, \"token_bytes\": "
        "\"YQ==\"}]}");
    put(*state, "chat_template.json", "{\"chat_template\": \"beside\"}");
    spar_tokenizer *t = load(*state);
    expect(t, "[INST]a[/INST]", want, 4);
    assert_string_equal(spar_tokenizer_chat_template(t), "beside");
    spar_tokenizer_free(t);
}

static void test_tekken_refusals(void **state) {
    static const char *const cases[][3] = {
        {"\"pattern\"", "\"pat\"", "pattern"},
        {"\"rank\": 2", "\"rank\": 4", "rank"},
        {"YWI=", "YWI", "token_bytes of rank 2"},
        {"\"rank\": 1, \"t", "\"rank\": 3, \"t", "[X]"},
        {"_size\": 7", "_size\": 9", "default_vocab"},
        {"_tokens\": 4", "_tokens\": 1", "default_num"},
    };
    char text[sizeof tekken_json + 8];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *at = strstr(tekken_json, cases[i][0]);
        assert_non_null(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - tekken_json), tekken_json, cases[i][1],
                 at + strlen(cases[i][0]));
        put(*state, "tekken.json", text);
        refused(*state, SPAR_FORMAT, cases[i][2]);
    }
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
        cmocka_unit_test_setup_teardown(test_tool_template, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_vocab_txt, setup_empty, teardown),
        cmocka_unit_test_setup_teardown(test_merges, setup_empty, teardown),
        cmocka_unit_test_setup_teardown(test_ranks, setup_empty, teardown),
        cmocka_unit_test_setup_teardown(test_tekken, setup_empty, teardown),
        cmocka_unit_test_setup_teardown(test_tekken_unlisted, setup_empty, teardown),
        cmocka_unit_test_setup_teardown(test_tekken_refusals, setup_empty, teardown),
        cmocka_unit_test_setup_teardown(test_truncated, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
