/* CSV and TSV: what the standard says, what programs write beside it, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "spar/rows.h"
#include "support.h"

static char folder[TEST_PATH_MAX];

static spar_rows *open_text(const char *name, const char *text) {
    char path[TEST_PATH_MAX];
    spar_rows *rows = NULL;
    assert_int_equal(sp_file_write(test_path(path, folder, name), text, strlen(text), NULL),
                     SPAR_OK);
    assert_int_equal(spar_rows_open(&rows, path, NULL), SPAR_OK);
    return rows;
}

/* All rows as one JSON array. */
static void expect(const char *name, const char *text, const char *json) {
    spar_rows *rows = open_text(name, text);
    json_t *all = json_array(), *wanted = json_loads(json, 0, NULL), *row = NULL;
    spar_error err;
    do {
        if (spar_rows_next(rows, &row, &err) != SPAR_OK) {
            fail_msg("%s", err.message);
        }
        if (row != NULL) {
            json_array_append_new(all, row);
        }
    } while (row != NULL);
    assert_non_null(wanted);
    if (!json_equal(all, wanted)) {
        char *found = json_dumps(all, 0);
        fail_msg("expected %s, found %s", json, found);
    }
    json_decref(all);
    json_decref(wanted);
    spar_rows_free(rows);
}

static void test_standard(void **state) {
    (void)state;
    expect("a.csv", "p,q\r\n1,2\r\n", "[{\"p\":\"1\",\"q\":\"2\"}]");
    expect("a.csv", "p,q\n1,2\n\n3,", "[{\"p\":\"1\",\"q\":\"2\"},{\"p\":\"3\",\"q\":\"\"}]");
    expect("a.csv", "\"p\",\"q\"\n\"a\"\"b\nc\r\nd,\",\"\"\n",
           "[{\"p\":\"a\\\"b\\nc\\r\\nd,\",\"q\":\"\"}]");
    expect("a.csv", "\xef\xbb\xbfp\n\"\"\nx\"y\r\n", "[{\"p\":\"\"},{\"p\":\"x\\\"y\"}]");
    expect("a.tsv", "p\tq\n1,5\t\"a\tb\"\n", "[{\"p\":\"1,5\",\"q\":\"a\\tb\"}]");
    expect("plain", "p,q\n1,2\n", "[{\"p\":\"1\",\"q\":\"2\"}]");
    expect("plain", "p\tq,r\n1\t2\n", "[{\"p\":\"1\",\"q,r\":\"2\"}]");
    expect("A.CSV", "{\n1\n", "[{\"{\":\"1\"}]");
    expect("a.csv", ",p\n0,x\n1,y\n",
           "[{\"p\":\"x\"},{\"p\":\"y\"}]"); /* an index without a name */
    expect("a.csv", "", "[]");
    expect("a.csv", "p,q\n", "[]");
}

/* Columns that are never texts hold JSON, others a list of messages at most. */
static void test_json_cells(void **state) {
    (void)state;
    expect("a.csv",
           "label,score_chosen,prompt_ids,messages\nTrue,0.5,\"[1,2]\",\"[{\"\"a\"\":1}]\"\n"
           "false,,[],7\n",
           "[{\"label\":true,\"score_chosen\":0.5,\"prompt_ids\":[1,2],\"messages\":[{\"a\":1}]},"
           "{\"label\":false,\"score_chosen\":null,\"prompt_ids\":[],\"messages\":7}]");
    expect("a.csv", "p,responses\n\"[[0.5,1]]\",\"[\"\"a\"\"]\"\n",
           "[{\"p\":[[0.5,1]],\"responses\":[\"a\"]}]");
    expect("a.csv", "completion_mask\n\"[0,1]\"\n", "[{\"completion_mask\":[0,1]}]");
    expect("a.tsv",
           "prompt\tchosen\n[{\"role\":\"user\",\"content\":\"a\"}]\t{\"from\":\"gpt\"}\n"
           "[3, 1]\t{\"a\":1}\n[]\t[{\"role\":\n[{}]\ttrue\n",
           "[{\"prompt\":[{\"role\":\"user\",\"content\":\"a\"}],\"chosen\":{\"from\":\"gpt\"}},"
           "{\"prompt\":\"[3, 1]\",\"chosen\":\"{\\\"a\\\":1}\"},"
           "{\"prompt\":\"[]\",\"chosen\":\"[{\\\"role\\\":\"},"
           "{\"prompt\":\"[{}]\",\"chosen\":\"true\"}]");
}

/* The first row that fails: its message, and whether the reader goes on. */
static void refuse(const char *text, const char *part, bool goes_on) {
    spar_rows *rows = open_text("a.csv", text);
    spar_error err = {0};
    json_t *row = NULL;
    spar_status status;
    do {
        json_decref(row);
        status = spar_rows_next(rows, &row, &err);
    } while (status == SPAR_OK && row != NULL);
    assert_int_equal(status, SPAR_FORMAT);
    if (strstr(err.message, part) == NULL) {
        fail_msg("expected \"%s\" in: %s", part, err.message);
    }
    assert_int_equal(spar_rows_goes_on(rows), goes_on);
    spar_rows_free(rows);
}

static void test_refused(void **state) {
    (void)state;
    refuse("p,q\n1,2\n\"a\nb\",2,3\n",
           "a.csv:3 (row 2): expected 2 fields, as the header has, found 3", true);
    refuse("p,q\n1\n", "a.csv:2 (row 1): expected 2 fields, as the header has, found 1", true);
    refuse("p\n\"a\n", "a.csv:2 (row 1): expected the quote that closes a field", false);
    refuse("p\n\"a\"b\n", "a.csv:2 (row 1): expected the end of a field", false);
    refuse("p,q\n\"a\"\r,b\n", "a.csv:2 (row 1): expected the end of a field", false);
    refuse("p,p\n1,2\n", "a.csv:1: expected columns of different names, found \"p\" twice", false);
    refuse("p\n\xff\n", "a.csv:2 (row 1): p: expected UTF-8", true);
    refuse("\xff\nx\n", "a.csv:2 (row 1): \xff: expected UTF-8", true);
    refuse("messages\n\"[{'role': 1}]\"\n", "a.csv:2 (row 1): messages: line 1, column 3: ", true);
}

/* Behind a row of another width the next is read. */
static void test_goes_on(void **state) {
    (void)state;
    spar_rows *rows = open_text("a.csv", "p,q\n1\n2,3\n");
    json_t *row;
    assert_int_equal(spar_rows_next(rows, &row, NULL), SPAR_FORMAT);
    assert_true(spar_rows_goes_on(rows));
    assert_int_equal(spar_rows_next(rows, &row, NULL), SPAR_OK);
    assert_string_equal(json_string_value(json_object_get(row, "q")), "3");
    assert_non_null(strstr(spar_rows_where(rows), "a.csv:3 (row 2)"));
    json_decref(row);
    assert_int_equal(spar_rows_next(rows, &row, NULL), SPAR_OK);
    assert_null(row);
    spar_rows_free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_standard),
        cmocka_unit_test(test_json_cells),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_goes_on),
    };
    test_temp_dir(folder);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sp_dir_remove(folder, NULL);
    return failed;
}
