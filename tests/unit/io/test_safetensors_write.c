/* Writing safetensors: round trips, exact bytes, stored types, shards, a failing disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "support.h"

static char dir[TEST_PATH_MAX];

static int set_up(void **state) {
    (void)state;
    test_temp_dir(dir);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    spar_error err;
    return sp_dir_remove(dir, &err) == SPAR_OK ? 0 : -1;
}

static void ok_at(spar_status status, const spar_error *err, int line) {
    if (status != SPAR_OK) {
        fail_msg("line %d: %s", line, err->message);
    }
}
#define OK(call) ok_at((call), &err, __LINE__)

static const float values[6] = {0.0F, 1.0F, -2.5F, 1.0F / 3, 65504.0F, 1e-8F};
static const int64_t place[3] = {7, -1, INT64_MIN};
static const char *const metadata[] = {"format", "pt", "note", "\xc3\xa9", NULL};

static const sp_tensor_entry entries[3] = {
    {"z", SP_F32, 2, {2, 3}, values, sizeof values},
    {"place", SP_I64, 1, {3}, place, sizeof place},
    {"a.b", SP_F32, 0, {0}, values + 1, 4},
};

static void exact_bytes(void **state) {
    (void)state;
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"\\u00E9\"},"
        "\"z\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
        "\"place\":{\"dtype\":\"I64\",\"shape\":[3],\"data_offsets\":[24,48]},"
        "\"a.b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[48,52]}}";
    char path[TEST_PATH_MAX];
    char *text = NULL;
    size_t n = 0;
    spar_error err;
    test_path(path, dir, "exact.safetensors");
    OK(sp_safetensors_write(path, entries, 3, metadata, &err));
    OK(sp_file_read(path, 4096, &text, &n, &err));
    const size_t padded = (sizeof header - 1 + 7) / 8 * 8;
    assert_int_equal(n, 8 + padded + 52);
    assert_int_equal((uint8_t)text[0] | (uint8_t)text[1] << 8, (int)padded);
    assert_memory_equal(text + 8, header, sizeof header - 1);
    for (size_t i = sizeof header - 1; i < padded; i++) {
        assert_int_equal(text[8 + i], ' ');
    }
    assert_memory_equal(text + 8 + padded, values, 24);
    assert_memory_equal(text + 8 + padded + 24, place, 24);
    free(text);
}

static void same_entry(const sp_tensor_entry *a, const sp_tensor_entry *b) {
    assert_non_null(a);
    assert_true(a->dtype == b->dtype && a->n_dims == b->n_dims && a->n_bytes == b->n_bytes);
    assert_memory_equal(a->dims, b->dims, (size_t)b->n_dims * sizeof b->dims[0]);
    assert_memory_equal(a->data, b->data, b->n_bytes);
}

static void round_trip(void **state) {
    (void)state;
    char path[TEST_PATH_MAX];
    sp_safetensors *st = NULL;
    spar_error err;
    test_path(path, dir, "trip.safetensors");
    for (size_t n = 0; n <= 3; n++) {
        OK(sp_safetensors_write(path, entries, n, NULL, &err));
        OK(sp_safetensors_open(&st, path, &err));
        assert_int_equal(sp_safetensors_count(st), n);
        for (size_t i = 0; i < n; i++) {
            same_entry(sp_safetensors_find(st, entries[i].name), &entries[i]);
        }
        sp_safetensors_free(st);
    }
}

static void stored_as(void **state) {
    (void)state;
    static const sp_dtype types[] = {SP_BF16, SP_F16};
    static const float expected[2][6] = {{0.0F, 1.0F, -2.5F, 0.333984375F, 65536.0F, 0x1.58p-27F},
                                         {0.0F, 1.0F, -2.5F, 0.333251953125F, 65504.0F, 0.0F}};
    sp_safetensors *st = NULL;
    spar_error err;
    for (int t = 0; t < 2; t++) {
        float out[6];
        OK(sp_safetensors_write_as(dir, entries, 3, metadata, 1 << 20, types[t], &err));
        OK(sp_safetensors_open(&st, dir, &err));
        const sp_tensor_entry *e = sp_safetensors_find(st, "z");
        assert_true(e && e->dtype == types[t] && e->n_bytes == 12 && e->dims[1] == 3);
        sp_dtype_info_of(types[t])->to_f32(e->data, out, 6);
        assert_memory_equal(out, expected[t], sizeof out);
        same_entry(sp_safetensors_find(st, "place"), &entries[1]);
        sp_safetensors_free(st);
    }
    assert_int_equal(sp_safetensors_write_as(dir, entries, 3, NULL, 1 << 20, SP_Q8_0, &err),
                     SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "expected f32, f16 or bf16 as the type to store"));
}

/* More elements than are converted at once. */
static void stored_in_blocks(void **state) {
    (void)state;
    enum { MANY = 3 * 65536 + 17 };
    sp_safetensors *st = NULL;
    spar_error err;
    void *memory = NULL;
    OK(sp_mem_calloc(&memory, MANY, sizeof(float), &err));
    float *many = memory;
    for (int i = 0; i < MANY; i++) {
        many[i] = (float)(i % 251);
    }
    const sp_tensor_entry e = {"w", SP_F32, 1, {MANY}, many, MANY * sizeof(float)};
    OK(sp_safetensors_write_as(dir, &e, 1, NULL, 1 << 20, SP_BF16, &err));
    OK(sp_safetensors_open(&st, dir, &err));
    const uint8_t *half = sp_safetensors_find(st, "w")->data;
    for (int i = 0; i < MANY; i++) {
        assert_true(sp_bf16_to_f32((uint16_t)(half[2 * i] | half[2 * i + 1] << 8)) == many[i]);
    }
    sp_safetensors_free(st);
    free(many);
}

static void shards(void **state) {
    (void)state;
    char folder[TEST_PATH_MAX], path[TEST_PATH_MAX];
    char **names = NULL;
    size_t n = 0;
    sp_safetensors *st = NULL;
    json_t *index = NULL;
    spar_error err;
    test_path(folder, dir, "shards");
    OK(sp_dir_make(folder, &err));
    OK(sp_safetensors_write_sharded(folder, entries, 3, metadata, 28, &err));
    OK(sp_dir_list(folder, &names, &n, &err));
    assert_int_equal(n, 3); /* 24 bytes, 24 + 4 bytes, the index: nothing left aside */
    assert_string_equal(names[0], "model-00001-of-00002.safetensors");
    assert_string_equal(names[1], "model-00002-of-00002.safetensors");
    assert_string_equal(names[2], "model.safetensors.index.json");
    sp_names_free(names, n);
    OK(sp_json_load(&index, test_path(path, folder, "model.safetensors.index.json"), &err));
    json_t *expected =
        json_pack("{s:{s:i}, s:{s:s, s:s, s:s}}", "metadata", "total_size", 52, "weight_map", "z",
                  "model-00001-of-00002.safetensors", "place", "model-00002-of-00002.safetensors",
                  "a.b", "model-00002-of-00002.safetensors");
    assert_true(json_equal(index, expected));
    json_decref(index);
    json_decref(expected);
    OK(sp_safetensors_open(&st, folder, &err));
    for (size_t i = 0; i < 3; i++) {
        same_entry(sp_safetensors_find(st, entries[i].name), &entries[i]);
    }
    sp_safetensors_free(st);
}

static void refused_at(const sp_tensor_entry *e, size_t n, spar_status expected, const char *part,
                       int line) {
    char path[TEST_PATH_MAX];
    spar_error err = {SPAR_OK, ""};
    test_path(path, dir, "never.safetensors");
    const spar_status status = sp_safetensors_write(path, e, n, NULL, &err);
    if (status != expected || !strstr(err.message, part) || !strstr(err.message, path)) {
        fail_msg("line %d: %s '%s', expected '%s'", line, spar_status_name(status), err.message,
                 part);
    }
    assert_false(sp_file_exists(path));
}
#define REFUSED(e, n, code, part) refused_at((e), (n), SPAR_##code, (part), __LINE__)

static void bad_entries(void **state) {
    (void)state;
    sp_tensor_entry e = entries[0];
    e.n_bytes = 20;
    REFUSED(&e, 1, INVALID, "tensor z: expected 24 bytes of f32 for its shape, found 20");
    e = entries[0];
    e.n_dims = 9;
    REFUSED(&e, 1, INVALID, "tensor z");
    e = entries[0];
    e.dtype = SP_Q8_0;
    REFUSED(&e, 1, UNSUPPORTED, "tensor z: expected a type that safetensors has, found Q8_0");
    e = entries[0];
    e.name = "\xff";
    REFUSED(&e, 1, INVALID, "tensor name");
    const sp_tensor_entry twice[2] = {entries[0], entries[0]};
    REFUSED(twice, 2, INVALID, "tensor z: occurs twice");
    spar_error err;
    static const char *const bad[] = {"k", "\xff", NULL};
    assert_int_equal(sp_safetensors_write(dir, entries, 3, bad, &err), SPAR_INVALID);
    assert_int_equal(sp_safetensors_write("/no/such/x", entries, 3, NULL, &err), SPAR_NOT_FOUND);
    assert_int_equal(sp_safetensors_write_sharded(dir, twice, 2, NULL, 1, &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "tensor z: occurs twice"));
}

/* At every call that fails the file is the old one or not there, and nothing is left aside. */
static void failing_disk(void **state) {
    (void)state;
    char folder[TEST_PATH_MAX], path[TEST_PATH_MAX];
    char *before = NULL, *after = NULL;
    size_t n_before = 0, n_after = 0;
    spar_error err = {SPAR_OK, ""};
    test_path(folder, dir, "disk");
    test_path(path, folder, "w.safetensors");
    OK(sp_dir_make(folder, &err));
    OK(sp_safetensors_write(path, entries, 1, NULL, &err));
    OK(sp_file_read(path, 4096, &before, &n_before, &err));
    long k = 1;
    for (;; k++) {
        char **names = NULL;
        size_t n = 0;
        sp_file_fail_at(k);
        const spar_status status = sp_safetensors_write(path, entries, 3, NULL, &err);
        sp_file_fail_at(0);
        OK(sp_dir_list(folder, &names, &n, &err));
        assert_int_equal(n, 1);
        sp_names_free(names, n);
        if (status == SPAR_OK) {
            break;
        }
        assert_int_equal(status, SPAR_IO);
        OK(sp_file_read(path, 4096, &after, &n_after, &err));
        /* only the last failure, syncing the folder, comes when the new file has its name */
        assert_true(n_after > n_before ||
                    (n_after == n_before && memcmp(before, after, n_before) == 0));
        free(after);
    }
    assert_true(k > 3);
    free(before);
}

static void failing_allocator(void **state) {
    (void)state;
    spar_error err = {SPAR_OK, ""};
    long k = 1;
    for (;; k++) {
        sp_mem_fail_at(k);
        const spar_status status =
            sp_safetensors_write_as(dir, entries, 3, metadata, 16, SP_BF16, &err);
        sp_mem_fail_at(0);
        if (status == SPAR_OK) {
            break;
        }
        assert_int_equal(status, SPAR_NO_MEMORY);
    }
    assert_true(k > 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_bytes),  cmocka_unit_test(round_trip),
        cmocka_unit_test(stored_as),    cmocka_unit_test(stored_in_blocks),
        cmocka_unit_test(shards),       cmocka_unit_test(bad_entries),
        cmocka_unit_test(failing_disk), cmocka_unit_test(failing_allocator),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
