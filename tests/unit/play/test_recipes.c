/* Every recipe that comes with the sources can be read, and the one for comparing methods with
 * every method in its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "play/recipe.h"
#include "support.h"

static void test_all_can_be_read(void **state) {
    (void)state;
    spar_error err;
    char **names = NULL, path[TEST_PATH_MAX];
    size_t n, read = 0;
    assert_int_equal(sp_dir_list(SPAR_SOURCE_DIR "/recipes", &names, &n, &err), SPAR_OK);
    for (size_t i = 0; i < n; i++) {
        sp_recipe recipe;
        test_path(path, SPAR_SOURCE_DIR "/recipes", names[i]);
        if (sp_recipe_load(&recipe, path, &err) != SPAR_OK) {
            fail_msg("%s", err.message);
        }
        read++;
        sp_recipe_release(&recipe);
    }
    sp_names_free(names, n);
    assert_true(read >= 7);
}

/* text with the first `from` replaced by to, as file path. */
static void write_replaced(const char *path, const char *text, const char *from, const char *to) {
    spar_error err;
    char changed[8192];
    const char *at = strstr(text, from);
    assert_non_null(at);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    assert_int_equal(sp_file_write(path, changed, strlen(changed), &err), SPAR_OK);
}

static void test_every_method_by_one_line(void **state) {
    (void)state;
    spar_error err;
    char dir[TEST_PATH_MAX], path[TEST_PATH_MAX], line[64], *text = NULL;
    size_t n;
    assert_int_equal(
        sp_file_read(SPAR_SOURCE_DIR "/recipes/compare.yaml", 1 << 20, &text, &n, &err), SPAR_OK);
    test_path(path, test_temp_dir(dir), "compare.yaml");
    for (int i = 0; i < sp_objective_count(); i++) {
        sp_recipe recipe;
        const char *name = sp_objective_name_at(i);
        const bool goes_back = !strcmp(name, "t_spin") || !strcmp(name, "xpo");
        snprintf(line, sizeof line, "method: %s,", name);
        write_replaced(path, text, "method: grpo,", line);
        const spar_status status = sp_recipe_load(&recipe, path, &err);
        if (goes_back) { /* they want the same problems in each iteration, and say so */
            assert_int_equal(status, SPAR_INVALID);
            assert_non_null(strstr(err.message, "fresh: expected 0"));
            continue;
        }
        if (status != SPAR_OK) {
            fail_msg("%s", err.message);
        }
        assert_string_equal(recipe.arms[recipe.n_arms - 1].objective.name, name);
        sp_recipe_release(&recipe);
    }
    free(text);
    assert_int_equal(sp_dir_remove(dir, &err), SPAR_OK);
}

/* What is wrong by itself is refused before a model is loaded or a folder made. */
static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *message;
    } rows[] = {
        {"seed: 1", "chat_template: ''", "wrong.yaml: chat_template: expected a text"},
        {"seed: 1", "chat_template_file: ''", "wrong.yaml: chat_template_file: expected a text"},
        {"seed: 1", "model: ''", "wrong.yaml: model: expected a text, found an empty one"},
        {"seed: 1", "judge: {train: ''}", "wrong.yaml: judge: train: expected a text"},
        {"seed: 1", "judge: {report: ''}", "wrong.yaml: judge: report: expected a text"},
        {"families: [", "file: '' # ", "wrong.yaml: data: file: expected a text"},
        {"maximum:7", "''", "wrong.yaml: data: families: unknown task family \"\""},
        {"maximum:7", "maximun:7", "the nearest is \"maximum\""},
        {"maximum:7", "'maximum:'", "data: families: family maximum: expected a difficulty of"},
        {"maximum:7", "maximum:99999999999999999999", "found \"99999999999999999999\""}};
    spar_error err;
    char dir[TEST_PATH_MAX], path[TEST_PATH_MAX], *text = NULL;
    size_t n;
    assert_int_equal(
        sp_file_read(SPAR_SOURCE_DIR "/recipes/quickstart.yaml", 1 << 20, &text, &n, &err),
        SPAR_OK);
    test_path(path, test_temp_dir(dir), "wrong.yaml");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sp_recipe recipe;
        write_replaced(path, text, rows[i].from, rows[i].to);
        assert_int_not_equal(sp_recipe_load(&recipe, path, &err), SPAR_OK);
        if (!strstr(err.message, rows[i].message)) {
            fail_msg("expected '%s', found '%s'", rows[i].message, err.message);
        }
    }
    free(text);
    assert_int_equal(sp_dir_remove(dir, &err), SPAR_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_all_can_be_read),
        cmocka_unit_test(test_every_method_by_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
