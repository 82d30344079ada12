/* Data files within gzip and zstd, whole, cut and damaged; and several files as one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "io/compression.h"
#include "spar/rows.h"
#include "support.h"

static char folder[TEST_PATH_MAX];

/* {"n":0}\n{"n":1}\n within gzip, without a name or a time. */
static const uint8_t GZIP[] = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab,
                               0x56, 0xca, 0x53, 0xb2, 0x32, 0xa8, 0xe5, 0xaa, 0x06, 0xd1, 0x86,
                               0xb5, 0x5c, 0x00, 0xdc, 0xa7, 0x50, 0x7d, 0x10, 0x00, 0x00, 0x00};
/* The same as one raw block of zstd. */
static const uint8_t ZSTD[] = {0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x10, 0x81, 0x00, 0x00,
                               '{',  '"',  'n',  '"',  ':',  '0',  '}',  '\n', '{',
                               '"',  'n',  '"',  ':',  '1',  '}',  '\n'};

static const char *write_file(const char *name, const void *bytes, size_t n) {
    static char path[TEST_PATH_MAX];
    assert_int_equal(sp_file_write(test_path(path, folder, name), bytes, n, NULL), SPAR_OK);
    return path;
}

/* Rows until the end; their number in *n. */
static spar_status read_all(const char *path, int *n, spar_error *err) {
    spar_rows *rows = NULL;
    json_t *row = NULL;
    *n = 0;
    spar_status status = spar_rows_open(&rows, path, err);
    while (status == SPAR_OK && (status = spar_rows_next(rows, &row, err)) == SPAR_OK && row) {
        assert_int_equal(json_integer_value(json_object_get(row, "n")), *n);
        json_decref(row);
        ++*n;
    }
    spar_rows_free(rows);
    return status;
}

static void skip_without(sp_compression kind) {
    if (strcmp(sp_compression_library(kind), "no") == 0) {
        skip();
    }
}

/* Whole, whatever the name; cut anywhere; and two behind one another. */
static void test_compressed(sp_compression kind, const uint8_t *bytes, size_t size) {
    spar_error err;
    uint8_t twice[128];
    int n;
    skip_without(kind);
    assert_int_equal(read_all(write_file("a", bytes, size), &n, &err), SPAR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(read_all(write_file("a.jsonl", bytes, size), &n, &err), SPAR_OK);
    assert_int_equal(n, 2);
    for (size_t cut = 4; cut < size; cut++) {
        assert_int_equal(read_all(write_file("a.jsonl.gz", bytes, cut), &n, &err), SPAR_FORMAT);
        assert_non_null(strstr(err.message, "a.jsonl.gz: "));
    }
    memcpy(twice, bytes, size);
    memcpy(twice + size, bytes, size);
    spar_rows *rows = NULL;
    json_t *row = NULL;
    assert_int_equal(spar_rows_open(&rows, write_file("a", twice, 2 * size), &err), SPAR_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(spar_rows_next(rows, &row, &err), SPAR_OK);
        assert_int_equal(json_integer_value(json_object_get(row, "n")), i % 2);
        json_decref(row);
    }
    spar_rows_free(rows);
}

static void test_gzip(void **state) {
    (void)state;
    uint8_t damaged[sizeof GZIP];
    spar_error err;
    int n;
    test_compressed(SP_COMPRESSION_GZIP, GZIP, sizeof GZIP);
    memcpy(damaged, GZIP, sizeof GZIP);
    damaged[sizeof GZIP - 6] ^= 1; /* of the checksum */
    assert_int_equal(read_all(write_file("a", damaged, sizeof damaged), &n, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "incorrect data check"));
}

static void test_zstd(void **state) {
    (void)state;
    test_compressed(SP_COMPRESSION_ZSTD, ZSTD, sizeof ZSTD);
}

/* Frames of zstd of which each repeats a line feed 128 KiB long, without end: white space needs no
 * memory, and the ratio ends it. */
static void test_bomb(void **state) {
    (void)state;
    enum { FRAMES = 2300 };
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0x00, 0x00,
                                    0x02, 0x00, 0x03, 0x00, 0x10, '\n'};
    static uint8_t bytes[FRAMES * sizeof frame];
    spar_error err;
    int n;
    skip_without(SP_COMPRESSION_ZSTD);
    for (int i = 0; i < FRAMES; i++) {
        memcpy(bytes + (size_t)i * sizeof frame, frame, sizeof frame);
    }
    assert_int_equal(read_all(write_file("a", bytes, sizeof bytes), &n, &err), SPAR_LIMIT);
    assert_non_null(strstr(err.message, "at most 1000 times its size"));
}

static void put(const char *name, const char *text) {
    write_file(name, text, strlen(text));
}

static void remove_file(const char *name) {
    char path[TEST_PATH_MAX];
    assert_int_equal(unlink(test_path(path, folder, name)), 0);
}

/* A folder, a pattern and a list in braces are read as one, in the order of names. */
static void test_several(void **state) {
    (void)state;
    char path[TEST_PATH_MAX];
    spar_error err;
    int n;
    sp_dir_remove(folder, NULL);
    assert_int_equal(sp_dir_make(folder, NULL), SPAR_OK);
    assert_int_equal(read_all(folder, &n, &err), SPAR_NOT_FOUND);
    put("b-2.jsonl", "{\"n\":2}");
    put("b-1.jsonl", "{\"n\":0}\n{\"n\":1}");
    put("readme.md", "text");
    put(".hidden.json", "text");
    assert_int_equal(read_all(folder, &n, &err), SPAR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(read_all(test_path(path, folder, "b-*"), &n, &err), SPAR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(read_all(test_path(path, folder, "b-{1,2}.jsonl"), &n, &err), SPAR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(read_all(test_path(path, folder, "c*"), &n, &err), SPAR_NOT_FOUND);
    put("b-2.jsonl", "{\"n\":");
    assert_int_equal(read_all(folder, &n, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "b-2.jsonl:1: "));
    put("c.csv", "n\n3");
    assert_int_equal(read_all(folder, &n, &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "found b-1.jsonl and c.csv"));
    remove_file("c.csv");
}

static void test_strangers(void **state) {
    (void)state;
    spar_error err;
    int n;
    assert_int_equal(read_all(write_file("a.jsonl", "PK\x03\x04....", 8), &n, &err),
                     SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "a.jsonl: "));
    assert_non_null(strstr(err.message, "found zip"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gzip),      cmocka_unit_test(test_zstd),
        cmocka_unit_test(test_bomb),      cmocka_unit_test(test_several),
        cmocka_unit_test(test_strangers),
    };
    test_temp_dir(folder);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sp_dir_remove(folder, NULL);
    return failed;
}
