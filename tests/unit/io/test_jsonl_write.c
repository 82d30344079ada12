/* Writing JSON Lines: exact bytes, what reading gives back, all or nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "base/mem.h"
#include "spar/jsonl.h"
#include "spar/rows.h"
#include "support.h"

static char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];

static int set_up(void **state) {
    (void)state;
    test_temp_dir(dir);
    test_path(path, dir, "rows.jsonl");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    spar_error err;
    return sp_dir_remove(dir, &err) == SPAR_OK ? 0 : -1;
}

/* Rows {"b":i,"a":"é\n"}: keys not in their order, a character and an escape. */
static spar_status write_rows(const char *to, int n, bool commit, spar_error *err) {
    spar_jsonl_writer *w = NULL;
    spar_status status = SPAR_OK;
    SPAR_TRY(spar_jsonl_create(&w, to, err));
    for (int i = 0; i < n; i++) {
        json_t *row = json_pack("{s:i, s:s}", "b", i, "a", "\xc3\xa9\n");
        status = spar_jsonl_put(w, row, err);
        json_decref(row);
        SPAR_TRY(status);
    }
    SPAR_TRY(commit ? spar_jsonl_commit(w, err) : SPAR_OK);
done:
    spar_jsonl_writer_free(w);
    return status;
}

static const char two_rows[] = "{\"b\":0,\"a\":\"\xc3\xa9\\n\"}\n{\"b\":1,\"a\":\"\xc3\xa9\\n\"}\n";

static void exact_bytes(void **state) {
    (void)state;
    char *text = NULL;
    size_t n = 0;
    spar_error err;
    assert_int_equal(write_rows(path, 2, true, &err), SPAR_OK);
    assert_int_equal(sp_file_read(path, 4096, &text, &n, &err), SPAR_OK);
    assert_string_equal(text, two_rows);
    free(text);
}

static void read_back(void **state) {
    (void)state;
    enum { ROWS = 100000 }; /* more than a buffer */
    char where[TEST_PATH_MAX + 32];
    spar_rows *rows = NULL;
    json_t *row = NULL;
    spar_error err;
    assert_int_equal(write_rows(path, ROWS, true, &err), SPAR_OK);
    assert_int_equal(spar_rows_open(&rows, path, &err), SPAR_OK);
    for (int i = 0; i < ROWS; i++) {
        assert_int_equal(spar_rows_next(rows, &row, &err), SPAR_OK);
        assert_int_equal(json_integer_value(json_object_get(row, "b")), i);
        snprintf(where, sizeof where, "%s:%d", path, i + 1);
        assert_string_equal(spar_rows_where(rows), where);
        json_decref(row);
    }
    assert_int_equal(spar_rows_next(rows, &row, &err), SPAR_OK);
    assert_null(row);
    spar_rows_free(rows);
}

static void standard_output(void **state) {
    (void)state;
    char *text = NULL;
    size_t n = 0;
    spar_error err;
    fflush(stdout);
    const int kept = dup(STDOUT_FILENO);
    assert_non_null(freopen(path, "w", stdout));
    const spar_status status = write_rows("-", 2, true, &err);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    assert_int_equal(status, SPAR_OK);
    assert_int_equal(sp_file_read(path, 4096, &text, &n, &err), SPAR_OK);
    assert_string_equal(text, two_rows);
    free(text);
}

static void all_or_nothing(void **state) {
    (void)state;
    char other[TEST_PATH_MAX];
    spar_error err;
    test_path(other, dir, "other.jsonl");
    assert_int_equal(write_rows(other, 2, false, &err), SPAR_OK);
    assert_false(sp_file_exists(other));
    assert_int_equal(write_rows("/no/such/rows.jsonl", 2, true, &err), SPAR_NOT_FOUND);
    assert_non_null(strstr(err.message, "/no/such/rows.jsonl"));
    long k = 1;
    for (sp_file_fail_at(k); write_rows(other, 2, true, &err) != SPAR_OK; sp_file_fail_at(++k)) {
        assert_int_equal(err.code, SPAR_IO);
    }
    sp_file_fail_at(0);
    assert_true(k > 3);
    k = 1;
    for (sp_mem_fail_at(k); write_rows(other, 2, true, &err) != SPAR_OK; sp_mem_fail_at(++k)) {
        assert_int_equal(err.code, SPAR_NO_MEMORY);
    }
    sp_mem_fail_at(0);
    assert_true(k > 1);
    char **names = NULL;
    size_t n = 0;
    assert_int_equal(sp_dir_list(dir, &names, &n, &err), SPAR_OK);
    assert_int_equal(n, 2); /* rows.jsonl and other.jsonl, nothing left aside */
    sp_names_free(names, n);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_bytes),
        cmocka_unit_test(read_back),
        cmocka_unit_test(standard_output),
        cmocka_unit_test(all_or_nothing),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
