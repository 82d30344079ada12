/* Parquet against the rows that its writer was given (tools/make_parquet_fixtures.py): encodings,
 * compressions, pages of both versions, row groups, nulls and nested lists; and damaged files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "io/compression.h"
#include "memory_file.h"
#include "spar/rows.h"
#include "support.h"

static const char *fixture(const char *name, char path[TEST_PATH_MAX]) {
    return test_path(path, SPAR_SOURCE_DIR "/tests/golden/parquet", name);
}

static void expect_same(const char *name) {
    char path[TEST_PATH_MAX], reference[TEST_PATH_MAX], where[TEST_PATH_MAX + 32];
    spar_rows *rows = NULL, *wanted = NULL;
    json_t *row = NULL, *other = NULL;
    spar_error err;
    int n = 0;
    assert_int_equal(spar_rows_open(&rows, fixture(name, path), &err), SPAR_OK);
    assert_int_equal(spar_rows_open(&wanted, fixture("rows.jsonl", reference), &err), SPAR_OK);
    do {
        json_decref(row);
        json_decref(other);
        if (spar_rows_next(rows, &row, &err) != SPAR_OK) {
            fail_msg("%s", err.message);
        }
        assert_int_equal(spar_rows_next(wanted, &other, &err), SPAR_OK);
        if (row && other && !json_equal(row, other)) {
            fail_msg("%s: row %d: %s", name, n + 1, json_dumps(row, 0));
        }
        n += row != NULL;
        if (row != NULL) {
            snprintf(where, sizeof where, "%s: row %d", path, n);
            assert_string_equal(spar_rows_where(rows), where);
        }
    } while (row && other);
    assert_true(row == NULL && other == NULL);
    assert_int_equal(n, 40);
    spar_rows_free(rows);
    spar_rows_free(wanted);
}

static bool lacks(sp_compression kind) {
    return strcmp(sp_compression_library(kind), "no") == 0;
}

static void test_plain(void **state) {
    (void)state;
    expect_same("plain.parquet");
    expect_same("dictionary.parquet");
    expect_same("pages.parquet");
}

static void test_delta(void **state) {
    (void)state;
    expect_same("delta.parquet");
}

static void test_snappy(void **state) {
    (void)state;
    if (lacks(SP_COMPRESSION_SNAPPY)) {
        skip();
    }
    expect_same("snappy.parquet");
    expect_same("delta_v2.parquet");
}

static void test_gzip(void **state) {
    (void)state;
    if (lacks(SP_COMPRESSION_GZIP)) {
        skip();
    }
    expect_same("gzip.parquet");
}

static void test_zstd(void **state) {
    (void)state;
    if (lacks(SP_COMPRESSION_ZSTD)) {
        skip();
    }
    expect_same("zstd.parquet");
}

static spar_status read_all(const char *path, spar_error *err) {
    spar_rows *rows = NULL;
    json_t *row = NULL;
    spar_status status = spar_rows_open(&rows, path, err);
    do {
        json_decref(row);
        row = NULL;
        status = status == SPAR_OK ? spar_rows_next(rows, &row, err) : status;
    } while (status == SPAR_OK && row);
    spar_rows_free(rows);
    return status;
}

/* Cut anywhere it is refused; with a byte wrong it is read or refused with one message. */
static void damage(const char *name) {
    char path[TEST_PATH_MAX];
    char *bytes = NULL;
    size_t n, refused = 0;
    spar_error err;
    memory_file f;
    assert_int_equal(sp_file_read(fixture(name, path), 1 << 20, &bytes, &n, NULL), SPAR_OK);
    memory_file_make(&f);
    for (size_t cut = 1; cut < n; cut += 7) {
        memory_file_set(&f, bytes, cut);
        assert_int_not_equal(read_all(f.path, &err), SPAR_OK);
        assert_true(err.message[0] != '\0');
    }
    for (size_t at = 4; at < n; at++) {
        bytes[at] = (char)(bytes[at] ^ (1 << at % 8));
        memory_file_set(&f, bytes, n);
        const spar_status status = read_all(f.path, &err);
        assert_true(status == SPAR_OK || (err.code == status && err.message[0] != '\0'));
        refused += status != SPAR_OK;
        bytes[at] = (char)(bytes[at] ^ (1 << at % 8));
    }
    assert_true(refused > n / 10);
    memory_file_drop(&f);
    free(bytes);
}

static void test_damaged(void **state) {
    (void)state;
    damage("dictionary.parquet");
    damage("delta.parquet");
    damage("zstd.parquet");
}

/* With a footer that is encrypted too, and with one that only says so. */
static void test_encrypted(void **state) {
    static const char whole[] = "PARE\x8c\0\0\x03\0\0\0PARE",
                      columns[] = "PAR1\x8c\0\0\x03\0\0\0PAR1";
    const char *files[] = {whole, columns};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        memory_file f;
        spar_error err;
        memory_file_make(&f);
        memory_file_set(&f, files[i], sizeof whole - 1);
        assert_int_equal(read_all(f.path, &err), SPAR_UNSUPPORTED);
        assert_non_null(strstr(err.message, "encrypted"));
        memory_file_drop(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),     cmocka_unit_test(test_delta),
        cmocka_unit_test(test_snappy),    cmocka_unit_test(test_gzip),
        cmocka_unit_test(test_zstd),      cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_encrypted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
