/* GGUF: what a good file says, and what every kind of bad file is told. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gguf_fixture.h"
#include "io/gguf.h"
#include "memory_file.h"
#include "support.h"

static memory_file file;

static int make_file(void **state) {
    (void)state;
    memory_file_make(&file);
    return 0;
}

static int drop_file(void **state) {
    (void)state;
    memory_file_drop(&file);
    return 0;
}

static sp_gguf *open_good(const gguf_fixture *f) {
    sp_gguf *g = NULL;
    spar_error err = {SPAR_OK, ""};
    memory_file_set(&file, f->bytes, f->n);
    if (sp_gguf_open(&g, file.path, &err) != SPAR_OK) {
        fail_msg("%s", err.message);
    }
    return g;
}

static void refused_at(const gguf_fixture *f, spar_status expected, const char *part, int line) {
    sp_gguf *g = NULL;
    spar_error err = {SPAR_OK, ""};
    memory_file_set(&file, f->bytes, f->n);
    const spar_status status = sp_gguf_open(&g, file.path, &err);
    if (status != expected || !strstr(err.message, part) || !strstr(err.message, file.path)) {
        fail_msg("line %d: %s '%s', expected '%s'", line, spar_status_name(status), err.message,
                 part);
    }
    assert_null(g);
}
#define REFUSED(f, code, part) refused_at((f), SPAR_##code, (part), __LINE__)

/* ---- a good file ---- */

static void single_values(void **state) {
    (void)state;
    static const struct {
        const char *key;
        int64_t value;
    } rows[] = {
        {"t.u8", 200},     {"t.i8", -7},         {"t.u16", 65535},     {"t.i16", -300},
        {"t.i32", -70000}, {"t.u64", INT64_MAX}, {"t.i64", INT64_MIN}, {"general.alignment", 64}};
    gguf_fixture f;
    spar_error err;
    sp_gguf_string text;
    double number = 0;
    bool flag = false;
    gg_sample(&f);
    sp_gguf *g = open_good(&f);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t value = 0;
        assert_int_equal(sp_gguf_get_int(g, rows[i].key, INT64_MIN, INT64_MAX, 1, &value, &err),
                         SPAR_OK);
        assert_true(value == rows[i].value);
        assert_int_equal(sp_gguf_get_number(g, rows[i].key, 1, &number, &err), SPAR_OK);
        assert_true(number == (double)rows[i].value);
    }
    assert_int_equal(sp_gguf_get_number(g, "t.f32", 0, &number, &err), SPAR_OK);
    assert_true(number == 3.25);
    assert_int_equal(sp_gguf_get_number(g, "t.f64", 0, &number, &err), SPAR_OK);
    assert_true(number == -2.125 && sp_gguf_integer(sp_gguf_find(g, "t.f64"), 0) == -2);
    assert_int_equal(sp_gguf_get_bool(g, "t.bool", false, &flag, &err), SPAR_OK);
    assert_true(flag);
    assert_int_equal(sp_gguf_get_string(g, "general.architecture", &text, &err), SPAR_OK);
    assert_int_equal(text.n, 5);
    assert_memory_equal(text.data, "llama", 5);
    assert_string_equal(sp_gguf_path(g), file.path);
    sp_gguf_free(g);
    sp_gguf_free(NULL);
}

static void missing_and_mistyped(void **state) {
    (void)state;
    gguf_fixture f;
    spar_error err;
    int64_t value = 0;
    double number = 0;
    bool flag = false;
    sp_gguf_string text;
    gg_sample(&f);
    sp_gguf *g = open_good(&f);
    assert_int_equal(sp_gguf_get_int(g, "no", 0, 9, -5, &value, &err), SPAR_OK);
    assert_int_equal(sp_gguf_get_number(g, "no", 1.5, &number, &err), SPAR_OK);
    assert_int_equal(sp_gguf_get_bool(g, "no", true, &flag, &err), SPAR_OK);
    assert_int_equal(sp_gguf_get_string(g, "no", &text, &err), SPAR_OK);
    assert_true(value == -5 && number == 1.5 && flag && text.data == NULL && text.n == 0);

    assert_int_equal(sp_gguf_get_int(g, "t.u8", 0, 199, 0, &value, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "t.u8: expected 0 to 199, found 200"));
    assert_int_equal(sp_gguf_get_int(g, "t.f32", 0, 9, 0, &value, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "t.f32: expected an integer, found f32"));
    assert_int_equal(sp_gguf_get_int(g, "a.ints", 0, 9, 0, &value, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "found an array of i16"));
    assert_int_equal(sp_gguf_get_number(g, "t.bool", 0, &number, &err), SPAR_FORMAT);
    assert_int_equal(sp_gguf_get_number(g, "a.nested", 0, &number, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "found an array of array"));
    assert_int_equal(sp_gguf_get_bool(g, "t.u8", 0, &flag, &err), SPAR_FORMAT);
    assert_int_equal(sp_gguf_get_string(g, "a.strings", &text, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, file.path));
    sp_gguf_free(g);
}

static void arrays(void **state) {
    (void)state;
    gguf_fixture f;
    gg_sample(&f);
    sp_gguf *g = open_good(&f);
    const sp_gguf_value *v = sp_gguf_find(g, "a.strings");
    assert_true(v && v->is_array && v->type == SP_GGUF_STRING && v->n == 3);
    assert_int_equal(v->strings[0].n, 3);
    assert_int_equal(v->strings[1].n, 0);
    assert_memory_equal(v->strings[2].data, "three", 5);
    v = sp_gguf_find(g, "a.ints");
    assert_true(v && v->n == 2 && sp_gguf_integer(v, 0) == 5 && sp_gguf_integer(v, 1) == -6);
    v = sp_gguf_find(g, "a.floats");
    assert_true(v && v->n == 1 && sp_gguf_number(v, 0) == 3.25 && sp_gguf_integer(v, 0) == 3);
    v = sp_gguf_find(g, "a.nested");
    assert_true(v && v->is_array && v->type == SP_GGUF_ARRAY && v->n == 3);
    assert_int_equal(sp_gguf_count(g), 16);
    for (size_t i = 0; i < sp_gguf_count(g); i++) {
        const sp_gguf_value *at = sp_gguf_at(g, i);
        char key[64] = "";
        memcpy(key, at->key.data, at->key.n);
        assert_ptr_equal(sp_gguf_find(g, key), at);
    }
    sp_gguf_free(g);
}

static void tensors(void **state) {
    (void)state;
    gguf_fixture f;
    float out[32];
    gg_sample(&f);
    sp_gguf *g = open_good(&f);
    assert_int_equal(sp_gguf_tensor_count(g), 2);
    const sp_gguf_tensor *t = sp_gguf_find_tensor(g, "plain.weight");
    assert_true(t && t->dtype == SP_F32 && t->n_dims == 2 && t->n_bytes == 24);
    assert_true(t->dims[0] == 2 && t->dims[1] == 3); /* row-major: two rows of three */
    sp_dtype_info_of(t->dtype)->to_f32(t->data, out, 6);
    assert_true(out[0] == 0.0F && out[4] == 4.0F && out[5] == -5.5F);
    t = sp_gguf_find_tensor(g, "block.weight");
    assert_true(t && t->dtype == SP_Q8_0 && t->n_dims == 1 && t->dims[0] == 32);
    sp_dtype_info_of(t->dtype)->to_f32(t->data, out, 32);
    assert_true(out[0] == -8.0F && out[31] == 7.5F);
    assert_ptr_equal(sp_gguf_tensor_at(g, 0), t); /* sorted by name */
    assert_null(sp_gguf_find_tensor(g, "plain"));
    sp_gguf_free(g);
}

static void nothing_inside(void **state) {
    (void)state;
    gguf_fixture f;
    gg_begin(&f, 2, 0, 0);
    sp_gguf *g = open_good(&f);
    assert_int_equal(sp_gguf_count(g), 0);
    assert_null(sp_gguf_find(g, "x"));
    assert_null(sp_gguf_find_tensor(g, "x"));
    sp_gguf_free(g);
}

/* ---- bad files ---- */

static void bad_heads(void **state) {
    (void)state;
    gguf_fixture f;
    gg_begin(&f, 1, 0, 0);
    REFUSED(&f, UNSUPPORTED, "expected 2 or 3, found 1");
    gg_begin(&f, 0x03000000, 0, 0);
    REFUSED(&f, UNSUPPORTED, "big-endian");
    gg_begin(&f, 4, 0, 0);
    REFUSED(&f, UNSUPPORTED, "expected 2 or 3, found 4");
    gg_begin(&f, 3, UINT64_MAX, 0);
    REFUSED(&f, FORMAT, "counts that the file can hold");
    gg_begin(&f, 3, 0, UINT64_MAX / 13);
    REFUSED(&f, FORMAT, "counts that the file can hold");
    gg_begin(&f, 3, 0, 0);
    f.bytes[0] = 'g';
    REFUSED(&f, FORMAT, "magic");
    f.n = 0;
    REFUSED(&f, FORMAT, "magic");
}

static void begin_value(gguf_fixture *f, const char *key, uint32_t type) {
    gg_begin(f, 3, 0, 1);
    gg_key(f, key, type);
}

static void bad_values(void **state) {
    (void)state;
    gguf_fixture f;
    begin_value(&f, "k", 13);
    REFUSED(&f, FORMAT, "metadata k: type: expected 0 to 12, found 13");
    begin_value(&f, "k", GG_STRING), gg_uint(&f, UINT64_MAX, 8);
    REFUSED(&f, FORMAT, "truncated");
    begin_value(&f, "k", GG_ARRAY), gg_array(&f, GG_F64, UINT64_MAX / 4), gg_uint(&f, 0, 8);
    REFUSED(&f, FORMAT, "truncated");
    begin_value(&f, "k", GG_ARRAY), gg_array(&f, GG_STRING, UINT64_MAX / 8), gg_uint(&f, 0, 8);
    REFUSED(&f, FORMAT, "truncated");
    begin_value(&f, "k", GG_ARRAY), gg_array(&f, GG_ARRAY, UINT64_MAX), gg_array(&f, GG_U8, 0);
    REFUSED(&f, FORMAT, "truncated");
    begin_value(&f, "k", GG_ARRAY), gg_array(&f, 99, 1);
    REFUSED(&f, FORMAT, "expected 0 to 12, found 99");
    begin_value(&f, "k", GG_ARRAY);
    for (int depth = 0; depth < 5; depth++) {
        gg_array(&f, GG_ARRAY, 1);
    }
    gg_array(&f, GG_U8, 0);
    REFUSED(&f, LIMIT, "metadata k: arrays nest deeper than 4 levels");
    gg_begin(&f, 3, 0, 2);
    gg_key(&f, "twice", GG_U8), gg_uint(&f, 1, 1);
    gg_key(&f, "twice", GG_U8), gg_uint(&f, 2, 1);
    REFUSED(&f, FORMAT, "metadata twice: occurs twice");
}

static void alignment(void **state) {
    (void)state;
    gguf_fixture f;
    begin_value(&f, "general.alignment", GG_U32), gg_uint(&f, 48, 4);
    REFUSED(&f, FORMAT, "general.alignment: expected a power of two, found 48");
    begin_value(&f, "general.alignment", GG_U32), gg_uint(&f, 0, 4);
    REFUSED(&f, FORMAT, "general.alignment");
    begin_value(&f, "general.alignment", GG_STRING), gg_string(&f, "32");
    REFUSED(&f, FORMAT, "general.alignment: expected an integer, found string");
}

/* A file with one tensor and `data` bytes behind it. */
static void one_tensor(gguf_fixture *f, uint32_t n_dims, const uint64_t *dims, uint32_t type,
                       uint64_t offset, size_t data) {
    gg_begin(f, 3, 1, 0);
    gg_tensor(f, "w", n_dims, dims, type, offset);
    gg_align(f, 32);
    for (size_t i = 0; i < data; i++) {
        gg_uint(f, 0, 1);
    }
}
#define DIMS(...) ((const uint64_t[]){__VA_ARGS__})

static void bad_tensors(void **state) {
    (void)state;
    const uint64_t big = UINT64_C(1) << 62;
    gguf_fixture f;
    one_tensor(&f, 1, DIMS(8), 0, 0, 32);
    sp_gguf_free(open_good(&f));
    one_tensor(&f, 1, DIMS(8), 0, 0, 31);
    REFUSED(&f, FORMAT, "tensor w: expected 32 aligned bytes");
    one_tensor(&f, 1, DIMS(8), 0, 16, 64);
    REFUSED(&f, FORMAT, "found offset 16");
    one_tensor(&f, 1, DIMS(8), 0, UINT64_MAX - 31, 64);
    REFUSED(&f, FORMAT, "found offset");
    one_tensor(&f, 1, DIMS(8), 0, 64, 64);
    REFUSED(&f, FORMAT, "found offset 64");
    one_tensor(&f, 0, DIMS(0), 0, 0, 32);
    REFUSED(&f, FORMAT, "expected 1 to 4 dimensions, found 0");
    one_tensor(&f, 5, DIMS(1, 1, 1, 1, 1), 0, 0, 32);
    REFUSED(&f, FORMAT, "expected 1 to 4 dimensions, found 5");
    one_tensor(&f, 2, DIMS(8, 0), 0, 0, 32);
    REFUSED(&f, FORMAT, "dimension 1: expected a size that fits, found 0");
    one_tensor(&f, 1, DIMS(UINT64_MAX), 0, 0, 32);
    REFUSED(&f, FORMAT, "dimension 0: expected a size that fits");
    one_tensor(&f, 3, DIMS(big, 4, 2), 0, 0, 32);
    REFUSED(&f, FORMAT, "sizes that fit");
    one_tensor(&f, 2, DIMS(big, 1), 0, 0, 32);
    REFUSED(&f, FORMAT, "sizes that fit");
    one_tensor(&f, 1, DIMS(31), 8, 0, 64);
    REFUSED(&f, FORMAT, "rows of a multiple of 32 elements for Q8_0, found rows of 31");
    one_tensor(&f, 1, DIMS(256), 9, 0, 256);
    REFUSED(&f, UNSUPPORTED, "tensor w: type: expected F32");
    REFUSED(&f, UNSUPPORTED, "found Q8_1 (number 9)");
    one_tensor(&f, 1, DIMS(256), 77, 0, 256);
    REFUSED(&f, UNSUPPORTED, "found an unknown type (number 77)");
}

static void names_and_overlap(void **state) {
    (void)state;
    gguf_fixture f;
    char name[257] = "";
    gg_begin(&f, 3, 2, 0);
    gg_tensor(&f, "a", 1, DIMS(16), 0, 0), gg_tensor(&f, "b", 1, DIMS(8), 0, 32);
    gg_align(&f, 32), gg_bytes(&f, name, 64);
    REFUSED(&f, FORMAT, "tensors a and b overlap");
    gg_begin(&f, 3, 2, 0);
    gg_tensor(&f, "a", 1, DIMS(8), 0, 0), gg_tensor(&f, "a", 1, DIMS(8), 0, 32);
    gg_align(&f, 32), gg_bytes(&f, name, 64);
    REFUSED(&f, FORMAT, "tensor a: occurs twice");
    memset(name, 'n', 256);
    name[256] = '\0';
    gg_begin(&f, 3, 1, 0);
    gg_tensor(&f, name, 1, DIMS(8), 0, 0);
    REFUSED(&f, FORMAT, "tensor name: expected up to 255 bytes without NUL, found 256");
    gg_begin(&f, 3, 1, 0);
    gg_uint(&f, 3, 8), gg_bytes(&f, "a\0b", 3);
    gg_uint(&f, 0, 8), gg_uint(&f, 0, 8), gg_uint(&f, 0, 8);
    REFUSED(&f, FORMAT, "without NUL, found 3 bytes");
}

/* ---- damage ---- */

/* Open and use everything, as a caller would. */
static spar_status read_file(const char *path, spar_error *err) {
    sp_gguf *g = NULL;
    const spar_status status = sp_gguf_open(&g, path, err);
    volatile double sum = 0;
    for (size_t i = 0; status == SPAR_OK && i < sp_gguf_count(g); i++) {
        const sp_gguf_value *v = sp_gguf_at(g, i);
        for (uint64_t e = 0; v->type != SP_GGUF_ARRAY && e < v->n; e++) {
            sum =
                sum + (v->type == SP_GGUF_STRING ? (double)v->strings[e].n : sp_gguf_number(v, e));
        }
    }
    for (size_t i = 0; status == SPAR_OK && i < sp_gguf_tensor_count(g); i++) {
        const sp_gguf_tensor *t = sp_gguf_tensor_at(g, i);
        const uint8_t *data = t->data;
        sum = sum + (double)data[0] + (double)data[t->n_bytes - 1];
    }
    sp_gguf_free(g);
    return status;
}

static void damaged(void **state) {
    (void)state;
    gguf_fixture f;
    size_t counts[2];
    gg_sample(&f);
    memory_file_damage(read_file, f.bytes, f.n, counts);
    /* tensor data and plain numbers may change unseen, lengths and counts may not */
    assert_true(counts[0] > 1000 && counts[1] > 2000);
}

static void missing_file(void **state) {
    (void)state;
    sp_gguf *g = NULL;
    spar_error err;
    assert_int_equal(sp_gguf_open(&g, "/no/such.gguf", &err), SPAR_NOT_FOUND);
    assert_non_null(strstr(err.message, "/no/such.gguf"));
    assert_int_equal(sp_gguf_open(&g, "/", &err), SPAR_IO);
    assert_null(g);
}

static void failing_allocator(void **state) {
    (void)state;
    gguf_fixture f;
    gg_sample(&f);
    memory_file_set(&file, f.bytes, f.n);
    long k = 1;
    for (;; k++) {
        sp_gguf *g = NULL;
        spar_error err = {SPAR_OK, ""};
        sp_mem_fail_at(k);
        const spar_status status = sp_gguf_open(&g, file.path, &err);
        sp_mem_fail_at(0);
        sp_gguf_free(g);
        if (status == SPAR_OK) {
            break;
        }
        assert_int_equal(status, SPAR_NO_MEMORY);
        assert_int_equal(err.code, SPAR_NO_MEMORY);
    }
    assert_true(k > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_values),
        cmocka_unit_test(missing_and_mistyped),
        cmocka_unit_test(arrays),
        cmocka_unit_test(tensors),
        cmocka_unit_test(nothing_inside),
        cmocka_unit_test(bad_heads),
        cmocka_unit_test(bad_values),
        cmocka_unit_test(alignment),
        cmocka_unit_test(bad_tensors),
        cmocka_unit_test(names_and_overlap),
        cmocka_unit_test(damaged),
        cmocka_unit_test(missing_file),
        cmocka_unit_test(failing_allocator),
    };
    return cmocka_run_group_tests(tests, make_file, drop_file);
}
