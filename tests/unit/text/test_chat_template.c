/* Chat templates of well-known checkpoints against what transformers renders. */
#include <dirent.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdbool.h>

#include <cmocka.h>

#include "base/file.h"
#include "spar/chat_template.h"
#include "support.h"

enum { SOURCE_MAX = 1 << 20 };

static json_t *load(const char *path) {
    json_error_t e;
    json_t *v = json_load_file(path, 0, &e);
    if (v == NULL) {
        fail_msg("%s: %s", path, e.text);
    }
    return v;
}

static spar_template *compile_file(const char *path) {
    spar_error err = {0};
    spar_template *t = NULL;
    char *source = NULL;
    size_t n = 0;
    assert_int_equal(sp_file_read(path, SOURCE_MAX, &source, &n, &err), SPAR_OK);
    if (spar_template_compile(&t, source, n, path, &err) != SPAR_OK) {
        fail_msg("%s", err.message);
    }
    free(source);
    return t;
}

/* One golden row; false (and a line about it) when the text or the refusal differs. */
static bool check_row(const spar_template *t, const char *name, const json_t *row,
                      const json_t *conversations) {
    spar_error err = {0};
    const char *which = json_string_value(json_object_get(row, "case"));
    const json_t *messages = json_object_get(conversations, which);
    const bool refused = json_object_get(row, "error") != NULL;
    const char *expected = refused ? NULL : json_string_value(json_object_get(row, "text"));
    const spar_render_options options = {
        .add_generation_prompt = json_is_true(json_object_get(row, "add_generation_prompt")),
        .bos = "<BOS>",
        .eos = "<EOS>",
        .now = "2026-11-23"};
    char *text = NULL;
    size_t n = 0;
    const spar_status status = spar_template_render(t, messages, &options, &text, &n, &err);
    bool good = (expected == NULL) == (status != SPAR_OK);
    if (good && expected != NULL) {
        good = strcmp(text, expected) == 0 && n == strlen(expected);
    }
    if (!good) {
        print_error("%s, %s: %s\n--- expected\n%s\n--- found\n%s\n", name, which, err.message,
                    expected == NULL ? "an error" : expected, text == NULL ? "an error" : text);
    }
    free(text);
    return good;
}

static bool check_template(const char *file, const json_t *conversations) {
    char name[256];
    char path[TEST_PATH_MAX];
    snprintf(name, sizeof name, "%.*s", (int)(strlen(file) - strlen(".json")), file);
    snprintf(path, sizeof path, "templates/%s.jinja", name);
    spar_template *t = compile_file(test_shared_or_skip(path));
    snprintf(path, sizeof path, "golden/templates/%s", file);
    json_t *rows = load(test_shared_or_skip(path));
    bool good = json_array_size(rows) > 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        good = check_row(t, name, json_array_get(rows, i), conversations) && good;
    }
    json_decref(rows);
    spar_template_free(t);
    return good;
}

static void golden_templates(void **state) {
    (void)state;
    json_t *conversations = load(test_shared_or_skip("golden/templates/conversations.json"));
    DIR *dir = opendir(test_shared_or_skip("golden/templates"));
    int failed = 0;
    int seen = 0;
    assert_non_null(dir);
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strstr(e->d_name, ".json") != NULL && strcmp(e->d_name, "conversations.json") != 0) {
            failed += !check_template(e->d_name, conversations);
            seen++;
        }
    }
    closedir(dir);
    json_decref(conversations);
    printf("%d of %d templates render as expected\n", seen - failed, seen);
    assert_true(seen >= 40);
    assert_int_equal(failed, 0);
}

static void smollm2(void **state) {
    (void)state;
    spar_template *t = compile_file(test_shared_or_skip("tokenizers/smollm2/chat_template.jinja"));
    json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", "Hi \xe2\x9c\xa8");
    const spar_render_options options = {.add_generation_prompt = true, .bos = "<|im_start|>"};
    spar_error err = {0};
    char *text = NULL;
    assert_int_equal(spar_template_render(t, messages, &options, &text, NULL, &err), SPAR_OK);
    assert_string_equal(text, "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, "
                              "trained by Hugging Face<|im_end|>\n<|im_start|>user\nHi "
                              "\xe2\x9c\xa8<|im_end|>\n<|im_start|>assistant\n");
    free(text);
    json_decref(messages);
    spar_template_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_templates),
        cmocka_unit_test(smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
