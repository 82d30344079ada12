#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "support.h"

static json_t *parse(const char *text) {
    json_t *value = NULL;
    spar_error err;
    if (sp_json_parse(&value, text, strlen(text), "t.json", &err) != SPAR_OK) {
        fail_msg("%s", err.message);
    }
    return value;
}

static void assert_refused(const char *text, const char *message) {
    json_t *value = NULL;
    spar_error err;
    assert_int_equal(sp_json_parse(&value, text, strlen(text), "t.json", &err), SPAR_FORMAT);
    assert_null(value);
    if (strstr(err.message, message) == NULL) {
        fail_msg("expected '%s' in '%s'", message, err.message);
    }
}

static void test_refused(void **state) {
    (void)state;
    assert_refused("", "t.json: line 1");
    assert_refused("{\n  \"a\": 1,\n  \"a\": 2}", "t.json: line 3");
    assert_refused("{} x", "end of file expected");
    assert_refused("[\"\\u0000\"]", "u0000");
    assert_refused("[1, 2", "t.json: line 1");
    assert_refused("\"\xff\"", "unable to decode byte");
    assert_refused("[1e999]", "overflow");
    char deep[5001];
    memset(deep, '[', 5000);
    deep[5000] = '\0';
    assert_refused(deep, "depth");
}

static void test_wide_integers_are_reals(void **state) {
    (void)state;
    json_t *value = parse("{\"big\": 1000000000000000019884624838656, \"n\": 5, \"e\": 1e+2, "
                          "\"s\": \"12345678901234567890\", \"m\": -99999999999999999999,"
                          "\"r\": 0.12345678901234567890123, \"q\": \"\\\"9999999999999999999\"}");
    double big = 0;
    int64_t n = 0;
    const char *text = NULL;
    assert_int_equal(sp_json_get_number(value, "big", &big, "t", NULL), SPAR_OK);
    assert_true(big > 0.99e30 && big < 1.01e30);
    assert_int_equal(sp_json_get_number(value, "m", &big, "t", NULL), SPAR_OK);
    assert_true(big < -0.99e20);
    assert_int_equal(sp_json_get_number(value, "r", &big, "t", NULL), SPAR_OK);
    assert_true(big > 0.123 && big < 0.124);
    assert_int_equal(sp_json_get_int(value, "n", 0, 9, &n, "t", NULL), SPAR_OK);
    assert_int_equal(n, 5);
    assert_int_equal(sp_json_get_string(value, "s", &text, "t", NULL), SPAR_OK);
    assert_string_equal(text, "12345678901234567890");
    assert_int_equal(sp_json_get_string(value, "q", &text, "t", NULL), SPAR_OK);
    assert_string_equal(text, "\"9999999999999999999");
    json_decref(value);
    assert_refused("[99999999999999999999, \"", "t.json");
    assert_refused("[99999999999999999999, \"\\", "t.json");
}

static void test_typed_access(void **state) {
    (void)state;
    json_t *value = parse("{\"n\": 7, \"x\": 0.5, \"s\": \"text\", \"b\": true, \"z\": null}");
    spar_error err;
    int64_t n = 0;
    double x = 0;
    bool b = false;
    const char *s = NULL;
    assert_int_equal(sp_json_get_int(value, "n", 1, 10, &n, "t", &err), SPAR_OK);
    assert_int_equal(n, 7);
    assert_int_equal(sp_json_get_int(value, "n", 8, 10, &n, "t", &err), SPAR_FORMAT);
    assert_string_equal(err.message, "t: n: expected 8..10, found 7");
    assert_int_equal(sp_json_get_int(value, "x", 0, 10, &n, "t", &err), SPAR_FORMAT);
    assert_string_equal(err.message, "t: x: expected an integer, found number");
    assert_int_equal(sp_json_get_int(value, "none", 0, 10, &n, "t", &err), SPAR_FORMAT);
    assert_string_equal(err.message, "t: none: expected an integer, found nothing");
    assert_int_equal(sp_json_get_int_or(value, "none", 0, 10, 3, &n, "t", &err), SPAR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(sp_json_get_int_or(value, "z", 0, 10, 4, &n, "t", &err), SPAR_OK);
    assert_int_equal(n, 4);
    assert_int_equal(sp_json_get_int_or(value, "s", 0, 10, 4, &n, "t", &err), SPAR_FORMAT);
    assert_int_equal(sp_json_get_number(value, "n", &x, "t", &err), SPAR_OK);
    assert_true(x > 6.9 && x < 7.1);
    assert_int_equal(sp_json_get_number_or(value, "b", 1, &x, "t", &err), SPAR_FORMAT);
    assert_int_equal(sp_json_get_bool_or(value, "b", false, &b, "t", &err), SPAR_OK);
    assert_true(b);
    assert_int_equal(sp_json_get_bool_or(value, "n", false, &b, "t", &err), SPAR_FORMAT);
    assert_int_equal(sp_json_get_string(value, "s", &s, "t", &err), SPAR_OK);
    assert_string_equal(s, "text");
    assert_int_equal(sp_json_get_string(value, "z", &s, "t", &err), SPAR_FORMAT);
    assert_int_equal(sp_json_get_string_or(value, "z", "d", &s, "t", &err), SPAR_OK);
    assert_string_equal(s, "d");
    json_decref(value);
}

static void test_not_an_object(void **state) {
    (void)state;
    json_t *value = parse("[1]");
    spar_error err;
    int64_t n = 0;
    assert_int_equal(sp_json_get_int_or(value, "n", 0, 1, 0, &n, "t", &err), SPAR_FORMAT);
    assert_string_equal(err.message, "t: expected an object, found array");
    assert_int_equal(sp_json_get_int_or(NULL, "n", 0, 1, 0, &n, "t", &err), SPAR_FORMAT);
    json_decref(value);
}

static void test_save_and_load(void **state) {
    (void)state;
    char folder[TEST_PATH_MAX], path[TEST_PATH_MAX];
    spar_error err;
    test_temp_dir(folder);
    test_path(path, folder, "a.json");
    json_t *value = parse("{\"b\": [1, 0.1], \"a\": \"\\u00e9\"}"), *back = NULL;
    assert_int_equal(sp_json_save(value, path, &err), SPAR_OK);
    assert_int_equal(sp_json_load(&back, path, &err), SPAR_OK);
    assert_true(json_equal(value, back));
    char *text = NULL;
    size_t n = 0;
    assert_int_equal(sp_file_read(path, 1000, &text, &n, &err), SPAR_OK);
    assert_int_equal(text[n - 1], '\n');
    free(text);
    json_decref(back);
    sp_file_fail_at(1);
    assert_int_equal(sp_json_save(value, path, &err), SPAR_IO);
    assert_int_equal(sp_file_write(path, "{", 1, &err), SPAR_OK);
    assert_int_equal(sp_json_load(&back, path, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, path));
    json_decref(value);
    assert_int_equal(sp_dir_remove(folder, NULL), SPAR_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_wide_integers_are_reals),
        cmocka_unit_test(test_typed_access),  cmocka_unit_test(test_not_an_object),
        cmocka_unit_test(test_save_and_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
