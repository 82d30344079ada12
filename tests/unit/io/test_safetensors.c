/* Reading safetensors: good files, wrong headers, shards, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "memory_file.h"
#include "support.h"

typedef struct blob {
    uint8_t bytes[2048];
    size_t n;
} blob;

static memory_file file;
static char dir[TEST_PATH_MAX];

static int set_up(void **state) {
    (void)state;
    memory_file_make(&file);
    test_temp_dir(dir);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    spar_error err;
    memory_file_drop(&file);
    return sp_dir_remove(dir, &err) == SPAR_OK ? 0 : -1;
}

/* A file with this header, and n_data bytes 0, 1, 2, ... behind it. */
static const blob *make(const char *header, size_t n_data) {
    static blob b;
    const size_t n = strlen(header);
    assert_true(8 + n + n_data <= sizeof b.bytes);
    for (size_t i = 0; i < 8; i++) {
        b.bytes[i] = (uint8_t)((uint64_t)n >> (8 * i));
    }
    memcpy(b.bytes + 8, header, n);
    for (size_t i = 0; i < n_data; i++) {
        b.bytes[8 + n + i] = (uint8_t)i;
    }
    b.n = 8 + n + n_data;
    return &b;
}

static void refused_at(const blob *b, spar_status expected, const char *part, int line) {
    sp_safetensors *st = NULL;
    spar_error err = {SPAR_OK, ""};
    memory_file_set(&file, b->bytes, b->n);
    const spar_status status = sp_safetensors_open(&st, file.path, &err);
    if (status != expected || !strstr(err.message, part) || !strstr(err.message, file.path)) {
        fail_msg("line %d: %s '%s', expected '%s'", line, spar_status_name(status), err.message,
                 part);
    }
    assert_null(st);
}
#define REFUSED(header, data, code, part)                                                          \
    refused_at(make((header), (data)), SPAR_##code, (part), __LINE__)
/* A header with the one tensor "w" whose members are given. */
#define TENSOR(members) "{\"w\":{" members "}}"

static const char sample[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                             "\"b\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[6,14]},"
                             "\"a\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[0,6]},"
                             "\"none\":{\"dtype\":\"I64\",\"shape\":[0,4],\"data_offsets\":[6,6]},"
                             "\"one\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[14,15]}}  ";

static void good(void **state) {
    (void)state;
    const blob *b = make(sample, 15);
    sp_safetensors *st = NULL;
    spar_error err;
    memory_file_set(&file, b->bytes, b->n);
    assert_int_equal(sp_safetensors_open(&st, file.path, &err), SPAR_OK);
    assert_int_equal(sp_safetensors_count(st), 4);
    const sp_tensor_entry *e = sp_safetensors_at(st, 0);
    assert_true(strcmp(e->name, "a") == 0 && e->dtype == SP_BF16 && e->n_dims == 1);
    assert_true(e->dims[0] == 3 && e->n_bytes == 6);
    assert_memory_equal(e->data, "\0\1\2\3\4\5", 6);
    e = sp_safetensors_find(st, "b");
    assert_true(e && e->dtype == SP_F32 && e->n_dims == 2 && e->dims[0] == 2 && e->dims[1] == 1);
    assert_memory_equal(e->data, "\6\7\10\11\12\13\14\15", 8);
    e = sp_safetensors_find(st, "none");
    assert_true(e && e->n_bytes == 0 && e->dims[1] == 4);
    e = sp_safetensors_find(st, "one");
    assert_true(e && e->n_dims == 0 && e->n_bytes == 1);
    assert_null(sp_safetensors_find(st, "__metadata__"));
    assert_null(sp_safetensors_find(st, "c"));
    sp_safetensors_free(st);
    sp_safetensors_free(NULL);
}

static void no_tensors(void **state) {
    (void)state;
    const blob *b = make("{}", 0);
    sp_safetensors *st = NULL;
    spar_error err;
    memory_file_set(&file, b->bytes, b->n);
    assert_int_equal(sp_safetensors_open(&st, file.path, &err), SPAR_OK);
    assert_int_equal(sp_safetensors_count(st), 0);
    assert_null(sp_safetensors_find(st, "a"));
    sp_safetensors_free(st);
    REFUSED("{}", 1, FORMAT, "expected 0 bytes of tensor data, found 1");
}

/* A file that does hold a header of more than 100 MB, most of it a hole. */
static void refused_beyond_limit(void) {
    static const uint8_t length[8] = {0x01, 0xe1, 0xf5, 0x05}; /* 100000001 */
    sp_safetensors *st = NULL;
    spar_error err = {SPAR_OK, ""};
    memory_file_set(&file, length, sizeof length);
    assert_int_equal(ftruncate(file.fd, 8 + 100000001), 0);
    assert_int_equal(sp_safetensors_open(&st, file.path, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "expected at most 100000000, found 100000001"));
}

static void bad_headers(void **state) {
    (void)state;
    blob b = {.n = 7};
    refused_at(&b, SPAR_FORMAT, "at least 8 bytes, found 7", __LINE__);
    b = *make("{}", 0);
    b.bytes[0] = 3;
    refused_at(&b, SPAR_FORMAT, "header length: expected at most 2, found 3", __LINE__);
    memset(b.bytes, 0xff, 8);
    refused_at(&b, SPAR_FORMAT, "found 18446744073709551615", __LINE__);
    refused_beyond_limit();
    REFUSED("", 0, FORMAT, "expected JSON");
    REFUSED("[]", 0, FORMAT, "header: expected an object, found array");
    REFUSED("{} x", 0, FORMAT, "expected JSON");
    REFUSED("{\"__metadata__\":3}", 0, FORMAT, "__metadata__: expected an object, found integer");
    REFUSED("{\"__metadata__\":{\"k\":1}}", 0, FORMAT, "__metadata__.k: expected a string");
    REFUSED("{\"w\":1}", 0, FORMAT, "tensor w: expected an object, found integer");
    REFUSED("{\"a\\u0000b\":{}}", 0, FORMAT, "expected JSON");
    REFUSED("{\"w\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
            "\"w\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
            0, FORMAT, "uplicate");
}

static void bad_types(void **state) {
    (void)state;
    REFUSED(TENSOR("\"dtype\":\"F8_E8M0\",\"shape\":[1],\"data_offsets\":[0,1]"), 1, UNSUPPORTED,
            "tensor w: dtype: expected F32, F16, BF16, F8 or an integer type, found F8_E8M0");
    REFUSED(TENSOR("\"shape\":[1],\"data_offsets\":[0,1]"), 1, UNSUPPORTED, "found nothing");
    REFUSED(TENSOR("\"dtype\":\"U8\",\"data_offsets\":[0,1]"), 1, FORMAT,
            "shape: expected a list of at most 8 sizes, found nothing");
    REFUSED(TENSOR("\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]"), 1,
            FORMAT, "at most 8 sizes, found more");
    REFUSED(TENSOR("\"dtype\":\"U8\",\"shape\":[1,-1],\"data_offsets\":[0,1]"), 1, FORMAT,
            "shape[1]: expected a size of 0 or more");
    REFUSED(TENSOR("\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]"), 1, FORMAT,
            "shape[0]");
    REFUSED(TENSOR("\"dtype\":\"U8\",\"shape\":[1e30],\"data_offsets\":[0,1]"), 1, FORMAT,
            "shape[0]");
}

/* 2^62 = 4611686018427387904 */
static void bad_sizes(void **state) {
    (void)state;
    REFUSED(TENSOR("\"dtype\":\"U8\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]"), 0,
            FORMAT, "sizes whose product fits");
    REFUSED(TENSOR("\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]"), 0,
            FORMAT, "sizes whose product fits");
    REFUSED(TENSOR("\"dtype\":\"U8\",\"shape\":[0,4611686018427387904,4],\"data_offsets\":[0,0]"),
            0, FORMAT, "sizes whose product fits");
    REFUSED(TENSOR("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,7]"), 7, FORMAT,
            "tensor w: expected 2 elements in 8 bytes, found 7 bytes");
    REFUSED(TENSOR("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]"), 1, FORMAT,
            "data_offsets: expected [begin, end] within 1 bytes");
    REFUSED(TENSOR("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,0]"), 2, FORMAT,
            "data_offsets");
    REFUSED(TENSOR("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[-2,0]"), 2, FORMAT,
            "data_offsets");
    REFUSED(TENSOR("\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2,2]"), 2, FORMAT,
            "data_offsets");
    REFUSED(TENSOR("\"dtype\":\"U8\",\"shape\":[2]"), 2, FORMAT, "data_offsets");
}

#define U8(name, begin, end)                                                                       \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[" begin "," end "]}"

static void bad_tiling(void **state) {
    (void)state;
    REFUSED("{" U8("a", "0", "2") "," U8("b", "3", "5") "}", 5, FORMAT,
            "tensor b: data_offsets: expected the data to begin at byte 2, found 3");
    REFUSED("{" U8("a", "0", "2") "," U8("b", "1", "3") "}", 3, FORMAT,
            "expected the data to begin at byte 2, found 1");
    REFUSED("{" U8("a", "0", "2") "," U8("b", "0", "2") "}", 2, FORMAT, "found 0");
    REFUSED("{" U8("a", "1", "3") "}", 3, FORMAT, "begin at byte 0, found 1");
    REFUSED("{" U8("a", "0", "2") "}", 4, FORMAT, "expected 2 bytes of tensor data, found 4");
}

/* ---- shards ---- */

static void put(const char *name, const void *bytes, size_t n) {
    char path[TEST_PATH_MAX];
    spar_error err;
    assert_int_equal(sp_file_write(test_path(path, dir, name), bytes, n, &err), SPAR_OK);
}

static void put_index(const char *weight_map) {
    char text[1024];
    const int n = snprintf(text, sizeof text, "{\"metadata\":{},\"weight_map\":%s}", weight_map);
    put("model.safetensors.index.json", text, (size_t)n);
}

static void put_shard(const char *name, const char *header, size_t n_data) {
    const blob *b = make(header, n_data);
    put(name, b->bytes, b->n);
}

static void index_refused_at(const char *weight_map, spar_status expected, const char *part,
                             int line) {
    sp_safetensors *st = NULL;
    spar_error err = {SPAR_OK, ""};
    put_index(weight_map);
    const spar_status status = sp_safetensors_open(&st, dir, &err);
    if (status != expected || !strstr(err.message, part) || !strstr(err.message, dir)) {
        fail_msg("line %d: %s '%s', expected '%s'", line, spar_status_name(status), err.message,
                 part);
    }
}
#define INDEX_REFUSED(map, code, part) index_refused_at((map), SPAR_##code, (part), __LINE__)

static void shards(void **state) {
    (void)state;
    sp_safetensors *st = NULL;
    spar_error err;
    put_shard("x.safetensors", "{" U8("a", "0", "2") "," U8("b", "2", "4") "}", 4);
    put_shard("y.safetensors", "{" U8("c", "0", "2") "}", 2);
    put_index("{\"a\":\"x.safetensors\",\"c\":\"y.safetensors\",\"b\":\"x.safetensors\"}");
    assert_int_equal(sp_safetensors_open(&st, dir, &err), SPAR_OK);
    assert_int_equal(sp_safetensors_count(st), 3);
    assert_memory_equal(sp_safetensors_find(st, "b")->data, "\2\3", 2);
    assert_memory_equal(sp_safetensors_find(st, "c")->data, "\0\1", 2);
    sp_safetensors_free(st);
}

static void bad_indexes(void **state) {
    (void)state;
    put_shard("twin.safetensors", "{" U8("c", "0", "2") "}", 2);
    INDEX_REFUSED("3", FORMAT, "weight_map: expected an object with tensors, found integer");
    INDEX_REFUSED("{}", FORMAT, "weight_map: expected an object with tensors, found none");
    INDEX_REFUSED("{\"a\":1}", FORMAT, "weight_map.a: expected the name of a file beside it");
    INDEX_REFUSED("{\"a\":\"../x.safetensors\"}", FORMAT, "beside it, found ../x.safetensors");
    INDEX_REFUSED("{\"a\":\"sub/x.safetensors\"}", FORMAT, "beside it, found sub/x");
    INDEX_REFUSED("{\"a\":\"/etc/passwd\"}", FORMAT, "beside it, found /etc/passwd");
    INDEX_REFUSED("{\"a\":\"..\"}", FORMAT, "beside it");
    INDEX_REFUSED("{\"a\":\"\"}", FORMAT, "beside it");
    INDEX_REFUSED("{\"a\":\"z.safetensors\"}", NOT_FOUND, "z.safetensors: cannot open");
    INDEX_REFUSED("{\"a\":\"x.safetensors\"}", FORMAT, "tensor b is missing");
    INDEX_REFUSED("{\"a\":\"x.safetensors\",\"b\":\"x.safetensors\",\"d\":\"y.safetensors\"}",
                  NOT_FOUND, "tensor d: not in y.safetensors");
    INDEX_REFUSED("{\"a\":\"x.safetensors\",\"b\":\"y.safetensors\",\"c\":\"y.safetensors\"}",
                  NOT_FOUND, "tensor b: not in y.safetensors");
    INDEX_REFUSED("{\"c\":\"y.safetensors\",\"d\":\"twin.safetensors\"}", FORMAT,
                  "tensor c: is in two shards");
}

static void empty_folder(void **state) {
    (void)state;
    char path[TEST_PATH_MAX];
    sp_safetensors *st = NULL;
    spar_error err;
    test_path(path, dir, "empty");
    assert_int_equal(sp_dir_make(path, &err), SPAR_OK);
    assert_int_equal(sp_safetensors_open(&st, path, &err), SPAR_NOT_FOUND);
    assert_non_null(strstr(err.message, "model.safetensors.index.json, found neither"));
    assert_int_equal(sp_safetensors_open(&st, "/no/such", &err), SPAR_NOT_FOUND);
    assert_null(st);
}

/* ---- damage ---- */

static spar_status read_file(const char *path, spar_error *err) {
    sp_safetensors *st = NULL;
    const spar_status status = sp_safetensors_open(&st, path, err);
    volatile unsigned sum = 0;
    for (size_t i = 0; status == SPAR_OK && i < sp_safetensors_count(st); i++) {
        const sp_tensor_entry *e = sp_safetensors_at(st, i);
        const uint8_t *data = e->data;
        sum = sum + (e->n_bytes ? data[0] + data[e->n_bytes - 1] : 0U);
        assert_ptr_equal(sp_safetensors_find(st, e->name), e);
    }
    sp_safetensors_free(st);
    return status;
}

static void damaged(void **state) {
    (void)state;
    const blob b = *make(sample, 15);
    size_t counts[2];
    memory_file_damage(read_file, b.bytes, b.n, counts);
    /* a name, the data and the spaces may change unseen */
    assert_true(counts[0] > 100 && counts[1] > 1500);
}

static void failing_allocator(void **state) {
    (void)state;
    long k = 1;
    put_index("{\"a\":\"x.safetensors\",\"c\":\"y.safetensors\",\"b\":\"x.safetensors\"}");
    for (;; k++) {
        spar_error err = {SPAR_OK, ""};
        sp_mem_fail_at(k);
        const spar_status status = read_file(dir, &err);
        sp_mem_fail_at(0);
        if (status == SPAR_OK) {
            break;
        }
        assert_int_equal(status, SPAR_NO_MEMORY);
        assert_int_equal(err.code, SPAR_NO_MEMORY);
    }
    assert_true(k > 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good),
        cmocka_unit_test(no_tensors),
        cmocka_unit_test(bad_headers),
        cmocka_unit_test(bad_types),
        cmocka_unit_test(bad_sizes),
        cmocka_unit_test(bad_tiling),
        cmocka_unit_test(shards),
        cmocka_unit_test(bad_indexes),
        cmocka_unit_test(empty_folder),
        cmocka_unit_test(damaged),
        cmocka_unit_test(failing_allocator),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
