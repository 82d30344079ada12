/* GGUF files made in memory, field by field, so that a test can write wrong ones too. */
#ifndef SPAR_TESTS_GGUF_FIXTURE_H
#define SPAR_TESTS_GGUF_FIXTURE_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

enum { GGUF_FIXTURE_MAX = 8192 };

/* The numbers of value types in a file. */
enum {
    GG_U8,
    GG_I8,
    GG_U16,
    GG_I16,
    GG_U32,
    GG_I32,
    GG_F32,
    GG_BOOL,
    GG_STRING,
    GG_ARRAY,
    GG_U64,
    GG_I64,
    GG_F64
};

typedef struct gguf_fixture {
    uint8_t bytes[GGUF_FIXTURE_MAX];
    size_t n;
} gguf_fixture;

static inline void gg_bytes(gguf_fixture *f, const void *bytes, size_t n) {
    assert(f->n + n <= sizeof f->bytes);
    memcpy(f->bytes + f->n, bytes, n);
    f->n += n;
}

static inline void gg_uint(gguf_fixture *f, uint64_t value, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));
        gg_bytes(f, &byte, 1);
    }
}

static inline void gg_string(gguf_fixture *f, const char *text) {
    gg_uint(f, strlen(text), 8);
    gg_bytes(f, text, strlen(text));
}

static inline void gg_begin(gguf_fixture *f, uint32_t version, uint64_t tensors, uint64_t values) {
    f->n = 0;
    gg_bytes(f, "GGUF", 4);
    gg_uint(f, version, 4);
    gg_uint(f, tensors, 8);
    gg_uint(f, values, 8);
}

static inline void gg_key(gguf_fixture *f, const char *key, uint32_t type) {
    gg_string(f, key);
    gg_uint(f, type, 4);
}

/* The rest of a key of type GG_ARRAY, or an inner array: its elements follow. */
static inline void gg_array(gguf_fixture *f, uint32_t type, uint64_t n) {
    gg_uint(f, type, 4);
    gg_uint(f, n, 8);
}

/* dims in the file's order, the fastest first. */
static inline void gg_tensor(gguf_fixture *f, const char *name, uint32_t n_dims,
                             const uint64_t *dims, uint32_t type, uint64_t offset) {
    gg_string(f, name);
    gg_uint(f, n_dims, 4);
    for (uint32_t i = 0; i < n_dims; i++) {
        gg_uint(f, dims[i], 8);
    }
    gg_uint(f, type, 4);
    gg_uint(f, offset, 8);
}

static inline void gg_align(gguf_fixture *f, size_t alignment) {
    while (f->n % alignment != 0) {
        gg_uint(f, 0, 1);
    }
}

/* A valid file with every type of value, nested arrays, and an f32 and a Q8_0 tensor. */
static inline void gg_sample(gguf_fixture *f) {
    static const float numbers[6] = {0.0F, 1.0F, 2.0F, 3.0F, 4.0F, -5.5F};
    const float pi = 3.25F;
    const double e = -2.125;
    gg_begin(f, 3, 2, 16);
    gg_key(f, "general.architecture", GG_STRING), gg_string(f, "llama");
    gg_key(f, "general.alignment", GG_U32), gg_uint(f, 64, 4);
    gg_key(f, "t.u8", GG_U8), gg_uint(f, 200, 1);
    gg_key(f, "t.i8", GG_I8), gg_uint(f, (uint8_t)-7, 1);
    gg_key(f, "t.u16", GG_U16), gg_uint(f, 65535, 2);
    gg_key(f, "t.i16", GG_I16), gg_uint(f, (uint16_t)-300, 2);
    gg_key(f, "t.i32", GG_I32), gg_uint(f, (uint32_t)-70000, 4);
    gg_key(f, "t.u64", GG_U64), gg_uint(f, UINT64_MAX, 8);
    gg_key(f, "t.i64", GG_I64), gg_uint(f, (uint64_t)INT64_MIN, 8);
    gg_key(f, "t.f32", GG_F32), gg_bytes(f, &pi, 4);
    gg_key(f, "t.f64", GG_F64), gg_bytes(f, &e, 8);
    gg_key(f, "t.bool", GG_BOOL), gg_uint(f, 1, 1);
    gg_key(f, "a.strings", GG_ARRAY), gg_array(f, GG_STRING, 3);
    gg_string(f, "one"), gg_string(f, ""), gg_string(f, "three");
    gg_key(f, "a.ints", GG_ARRAY), gg_array(f, GG_I16, 2);
    gg_uint(f, 5, 2), gg_uint(f, (uint16_t)-6, 2);
    gg_key(f, "a.floats", GG_ARRAY), gg_array(f, GG_F32, 1), gg_bytes(f, &pi, 4);
    gg_key(f, "a.nested", GG_ARRAY), gg_array(f, GG_ARRAY, 3);
    gg_array(f, GG_U8, 2), gg_uint(f, 0x0201, 2);
    gg_array(f, GG_STRING, 1), gg_string(f, "deep");
    gg_array(f, GG_ARRAY, 1), gg_array(f, GG_I32, 0);
    gg_tensor(f, "plain.weight", 2, (const uint64_t[]){3, 2}, 0, 0);
    gg_tensor(f, "block.weight", 1, (const uint64_t[]){32}, 8, 64);
    gg_align(f, 64);
    gg_bytes(f, numbers, sizeof numbers);
    gg_align(f, 64);
    gg_uint(f, 0x3800, 2); /* 0.5 */
    for (unsigned i = 0; i < 32; i++) {
        gg_uint(f, (uint8_t)(i - 16), 1);
    }
}

#endif
