/* Rows of JSON Lines and of arrays: what is tolerated, what is refused and where it is said to be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "spar/rows.h"
#include "support.h"

static char folder[TEST_PATH_MAX];

/* Write bytes to a scratch file and open it. */
static spar_rows *open_bytes(const void *bytes, size_t n) {
    char path[TEST_PATH_MAX];
    spar_rows *jsonl = NULL;
    assert_int_equal(sp_file_write(test_path(path, folder, "rows"), bytes, n, NULL), SPAR_OK);
    assert_int_equal(spar_rows_open(&jsonl, path, NULL), SPAR_OK);
    return jsonl;
}

static spar_rows *open_text(const char *text) {
    return open_bytes(text, strlen(text));
}

/* The rows are {"n": 0}, {"n": 1}, ... at the given lines; then the end, again and again. */
static void expect_rows(const char *text, const int64_t *lines, int n) {
    spar_rows *jsonl = open_text(text);
    json_t *row;
    char where[TEST_PATH_MAX + 32];
    assert_string_equal(spar_rows_where(jsonl), "");
    for (int i = 0; i < n; i++) {
        spar_error err;
        if (spar_rows_next(jsonl, &row, &err) != SPAR_OK) {
            fail_msg("%s", err.message);
        }
        assert_int_equal(json_integer_value(json_object_get(row, "n")), i);
        snprintf(where, sizeof where, "%s/rows:%lld", folder, (long long)lines[i]);
        assert_string_equal(spar_rows_where(jsonl), where);
        json_decref(row);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(spar_rows_next(jsonl, &row, NULL), SPAR_OK);
        assert_null(row);
    }
    spar_rows_free(jsonl);
}

static void test_lines(void **state) {
    (void)state;
    expect_rows("{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n", (const int64_t[]){1, 2, 3}, 3);
    expect_rows("{\"n\":0}\n{\"n\":1}", (const int64_t[]){1, 2}, 2);
    expect_rows("\xef\xbb\xbf{\"n\":0}\r\n\r\n  \n\t{\"n\":1} \r\n\n", (const int64_t[]){1, 4}, 2);
    expect_rows("{\"n\":0,\"s\":\"a]b,c}\"}\n", (const int64_t[]){1}, 1);
    expect_rows("", NULL, 0);
    expect_rows("\xef\xbb\xbf \n\n", NULL, 0);
}

static void test_array(void **state) {
    (void)state;
    expect_rows("[{\"n\":0},{\"n\":1}]", (const int64_t[]){1, 1}, 2);
    expect_rows(
        "\xef\xbb\xbf\n [\r\n  {\r\n \"n\": 0},\n\n{\"n\":1,\"s\":\"]}, \\\" \\\\\"}\n]\n\n",
        (const int64_t[]){3, 6}, 2);
    expect_rows("[{\"n\":0, \"deep\":[[{}],[1,2]]} , {\"n\":1}]", (const int64_t[]){1, 1}, 2);
    expect_rows("[]", NULL, 0);
    expect_rows(" [ ] ", NULL, 0);
}

/* The first failing row says where. */
static void refuse(const char *text, const char *part) {
    spar_rows *jsonl = open_text(text);
    spar_error err = {0};
    json_t *row = NULL;
    spar_status status;
    do {
        json_decref(row);
        status = spar_rows_next(jsonl, &row, &err);
    } while (status == SPAR_OK && row != NULL);
    assert_null(row);
    assert_int_equal(status, SPAR_FORMAT);
    if (strstr(err.message, part) == NULL) {
        fail_msg("expected \"%s\" in: %s", part, err.message);
    }
    spar_rows_free(jsonl);
}

static void test_refused(void **state) {
    (void)state;
    refuse("{\"n\":0}\n{\"n\":\n", "rows:2: ");
    refuse("{\"n\":0}\n\n7\n", "rows:3: expected a row that is an object, found integer");
    refuse("{\"n\":0} {\"n\":1}\n", "rows:1: ");
    refuse("{\"n\":0,\"n\":1}\n", "rows:1: ");
    refuse("{\"s\":\"\xff\"}\n", "rows:1: ");
    refuse("[{\"n\":0},\n{\"n\":1}",
           "rows:2: expected ',' or ']' of the array of rows, found the end");
    refuse("[{\"n\":0},\n{\"n\":", "rows:2: ");
    refuse("[{\"n\":0},\n[1]]", "rows:2: expected a row that is an object, found array");
    refuse("[{\"n\":0},\n]", "rows:2: ");
    refuse("[{\"n\":0}{\"n\":1}]", "rows:1: ");
    refuse("[,]", "rows:1: ");
    refuse("[{\"n\":0}]\n{}", "rows:2: expected nothing after the array of rows, found byte 0x7b");
    refuse("[", "rows:1: ");
    refuse("]", "rows:1: ");
}

static void test_missing(void **state) {
    (void)state;
    char path[TEST_PATH_MAX];
    spar_rows *jsonl = NULL;
    spar_error err;
    assert_int_equal(spar_rows_open(&jsonl, test_path(path, folder, "missing"), &err),
                     SPAR_NOT_FOUND);
    assert_non_null(strstr(err.message, path));
    assert_null(jsonl);
    spar_rows_free(NULL);
}

/* A row of more than 64 MiB, as a line and in an array, stops at the limit. */
static void test_row_limit(void **state) {
    (void)state;
    const size_t n = ((size_t)64 << 20) + 100;
    char *bytes = malloc(n);
    assert_non_null(bytes);
    memset(bytes, 'x', n);
    memcpy(bytes, "{\"s\":\"", 6);
    for (int array = 0; array < 2; array++) {
        json_t *row;
        spar_error err;
        bytes[0] = array ? '[' : '{';
        bytes[1] = array ? '"' : ' ';
        bytes[2] = array ? 'x' : '"';
        bytes[3] = bytes[4] = bytes[5] = 'x';
        spar_rows *jsonl = open_bytes(bytes, n);
        assert_int_equal(spar_rows_next(jsonl, &row, &err), SPAR_LIMIT);
        assert_non_null(strstr(err.message, "67108864"));
        spar_rows_free(jsonl);
    }
    free(bytes);
}

/* A row longer than the reader's buffer, and its line. */
static void test_long_row(void **state) {
    (void)state;
    sp_str text = SP_STR_INIT;
    sp_str_puts(&text, "{\"n\":0,\"s\":\"");
    for (int i = 0; i < 300000; i++) {
        sp_str_putc(&text, (char)('a' + i % 26));
    }
    sp_str_puts(&text, "\"}\n{\"n\":1}\n");
    expect_rows(sp_str_get(&text), (const int64_t[]){1, 2}, 2);
    sp_str_release(&text);
}

static void test_no_memory(void **state) {
    (void)state;
    char path[TEST_PATH_MAX];
    spar_rows *jsonl = NULL;
    spar_status status = SPAR_NO_MEMORY;
    test_path(path, folder, "rows");
    assert_int_equal(sp_file_write(path, "{}", 2, NULL), SPAR_OK);
    for (long k = 1; status != SPAR_OK; k++) {
        assert_true(k < 100);
        sp_mem_fail_at(k);
        status = spar_rows_open(&jsonl, path, NULL);
        sp_mem_fail_at(0);
        assert_true(status == SPAR_OK || status == SPAR_NO_MEMORY);
    }
    spar_rows_free(jsonl);
}

/* No input may crash the reader or keep it going for ever. */
static void test_every_prefix(void **state) {
    (void)state;
    const char text[] = "\xef\xbb\xbf [ {\"a\" : \"\\\"]\\\\\", \"b\":[1,{}]} , {} ] ";
    for (size_t n = 0; n < sizeof text; n++) {
        spar_rows *jsonl = open_bytes(text, n);
        json_t *row = NULL;
        int rows = -1;
        do {
            json_decref(row);
            rows++;
        } while (spar_rows_next(jsonl, &row, NULL) == SPAR_OK && row != NULL);
        assert_in_range(rows, 0, 2);
        spar_rows_free(jsonl);
    }
}

/* A malformed line does not hide the lines behind it; an array that is malformed ends there. */
static void test_goes_on(void **state) {
    (void)state;
    spar_error err;
    json_t *row;
    spar_rows *jsonl = open_text("{\"a\": 1}\n{\"a\": \n\n[1]\n{\"a\": 2}\n");
    const bool fails[] = {false, true, true, false};
    for (size_t i = 0; i < sizeof fails / sizeof *fails; i++) {
        assert_int_equal(spar_rows_next(jsonl, &row, &err), fails[i] ? SPAR_FORMAT : SPAR_OK);
        assert_int_equal(spar_rows_goes_on(jsonl), fails[i]);
        json_decref(row);
    }
    assert_int_equal(spar_rows_next(jsonl, &row, &err), SPAR_OK);
    assert_null(row);
    spar_rows_free(jsonl);
    jsonl = open_text("[{\"a\": }, {}]");
    assert_int_equal(spar_rows_next(jsonl, &row, &err), SPAR_FORMAT);
    assert_false(spar_rows_goes_on(jsonl));
    spar_rows_free(jsonl);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),        cmocka_unit_test(test_array),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_missing),
        cmocka_unit_test(test_row_limit),    cmocka_unit_test(test_long_row),
        cmocka_unit_test(test_goes_on),      cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_every_prefix),
    };
    test_temp_dir(folder);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sp_dir_remove(folder, NULL);
    return failed;
}
