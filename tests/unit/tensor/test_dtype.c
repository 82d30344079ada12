/* Element types: exact conversions, block types by hand, checked sizes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tensor/dtype.h"

static float from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint32_t to_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* The value of a half by the definition of IEEE 754. */
static double half_value(unsigned h) {
    const int exponent = (int)(h >> 10) & 31;
    const double m = (double)(h & 1023);
    const double value = exponent ? ldexp(1024.0 + m, exponent - 25) : ldexp(m, -24);
    return h & 0x8000 ? -value : value;
}

static void every_half(void **state) {
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        const float f = sp_f16_to_f32((uint16_t)h);
        if ((h & 0x7C00) != 0x7C00) {
            assert_true((double)f == half_value(h) && !signbit(f) == !(h & 0x8000));
            assert_int_equal(sp_f16_from_f32(f), h);
        } else if ((h & 0x3FF) == 0) {
            assert_true(isinf(f) && !signbit(f) == !(h & 0x8000));
            assert_int_equal(sp_f16_from_f32(f), h);
        } else {
            const unsigned back = sp_f16_from_f32(f);
            assert_true(isnan(f) && (back & 0x7C00) == 0x7C00 && (back & 0x3FF) != 0);
            assert_int_equal(back & 0x8000, h & 0x8000);
        }
    }
}

/* Between neighbours h and h+1: below the middle to h, above it to h+1, at it to the even one. */
static void half_rounding(void **state) {
    (void)state;
    for (unsigned h = 0; h < 0x7C00; h++) {
        /* past the largest half lies 2^16, which is infinity's place */
        const double above = h == 0x7BFF ? 65536.0 : half_value(h + 1);
        const float middle = (float)((half_value(h) + above) / 2);
        assert_int_equal(sp_f16_from_f32(nextafterf(middle, 0.0F)), h);
        assert_int_equal(sp_f16_from_f32(nextafterf(middle, INFINITY)), h + 1);
        assert_int_equal(sp_f16_from_f32(middle), h + (h & 1));
        assert_int_equal(sp_f16_from_f32(-middle), 0x8000 | (h + (h & 1)));
    }
    assert_int_equal(sp_f16_from_f32(3e38F), 0x7C00);
}

static void every_bf16(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = sp_bf16_to_f32((uint16_t)h);
        assert_int_equal(to_bits(f), h << 16);
        if (isnan(f)) {
            assert_true(isnan(sp_bf16_to_f32(sp_bf16_from_f32(f))));
            /* a NaN whose payload lies below what bf16 keeps must not become infinity */
            const uint32_t low = (h & 0x8000) << 16 | 0x7F800001U;
            assert_true(isnan(sp_bf16_to_f32(sp_bf16_from_f32(from_bits(low)))));
            continue;
        }
        assert_int_equal(sp_bf16_from_f32(f), h);
        if (isfinite(f)) {
            assert_int_equal(sp_bf16_from_f32(from_bits(h << 16 | 0x7FFF)), h);
            assert_int_equal(sp_bf16_from_f32(from_bits(h << 16 | 0x8000)), h + (h & 1));
            assert_int_equal(sp_bf16_from_f32(from_bits(h << 16 | 0x8001)), h + 1);
        }
    }
}

/* Source bytes at an odd address, as a mapped file may have them. */
static void convert(sp_dtype dtype, const void *bytes, size_t n, float *out, int64_t elements) {
    uint8_t room[256];
    assert_true(n + 1 <= sizeof room);
    memcpy(room + 1, bytes, n);
    sp_dtype_info_of(dtype)->to_f32(room + 1, out, elements);
}

static void plain_types(void **state) {
    (void)state;
    const float f32[3] = {1.5F, -0.0F, from_bits(0x7F800001)};
    const double f64[2] = {0.1, -1e300};
    const uint16_t f16[2] = {0x3C00, 0xC100};
    const uint16_t bf16[2] = {0x3F80, 0xC020};
    float out[3];
    convert(SP_F32, f32, sizeof f32, out, 3);
    assert_memory_equal(out, f32, sizeof f32);
    convert(SP_F64, f64, sizeof f64, out, 2);
    assert_true(out[0] == 0.1F && isinf(out[1]) && out[1] < 0);
    convert(SP_F16, f16, sizeof f16, out, 2);
    assert_true(out[0] == 1.0F && out[1] == -2.5F);
    convert(SP_BF16, bf16, sizeof bf16, out, 2);
    assert_true(out[0] == 1.0F && out[1] == -2.5F);
    sp_dtype_info_of(SP_F32)->to_f32(NULL, NULL, 0);
}

static void stored_types(void **state) {
    (void)state;
    const float in[3] = {1.0F, -2.5F, 1.0F / 3};
    uint8_t out[13];
    sp_dtype_info_of(SP_BF16)->from_f32(in, out + 1, 3);
    assert_memory_equal(out + 1, "\x80\x3f\x20\xc0\xab\x3e", 6);
    sp_dtype_info_of(SP_F16)->from_f32(in, out + 1, 3);
    assert_memory_equal(out + 1, "\x00\x3c\x00\xc1\x55\x35", 6);
    sp_dtype_info_of(SP_F32)->from_f32(in, out + 1, 3);
    assert_memory_equal(out + 1, in, 12);
    assert_null(sp_dtype_info_of(SP_Q6_K)->from_f32);
    assert_null(sp_dtype_info_of(SP_I64)->from_f32);
}

/* Two blocks each, the second of zeros, so that a wrong stride shows. Scale 0.5, minimum -1. */
#define SCALE "\x00\x38"
#define MINIMUM "\x00\xbc"
/* low nibbles 0..15, high nibbles 15..0 */
#define NIBBLES "\xf0\xe1\xd2\xc3\xb4\xa5\x96\x87\x78\x69\x5a\x4b\x3c\x2d\x1e\x0f"

static float low_nibble(int i) {
    return (float)(i < 16 ? i : 31 - i);
}

static void check_blocks(sp_dtype dtype, const char *block, size_t n, float (*expected)(int)) {
    uint8_t bytes[2 * 34] = {0};
    float out[64];
    assert_int_equal(n, sp_dtype_info_of(dtype)->block_bytes);
    memcpy(bytes, block, n);
    convert(dtype, bytes, 2 * n, out, 64);
    for (int i = 0; i < 32; i++) {
        assert_true(out[i] == expected(i));
        assert_true(out[32 + i] == 0.0F);
    }
}

static float q4_0(int i) {
    return 0.5F * (low_nibble(i) - 8);
}
static float q4_1(int i) {
    return 0.5F * low_nibble(i) - 1;
}
/* The mask 0x80000105 gives elements 0, 2, 8 and 31 their fifth bit. */
static float five_bits(int i) {
    return low_nibble(i) + (i == 0 || i == 2 || i == 8 || i == 31 ? 16 : 0);
}
static float q5_0(int i) {
    return 0.5F * (five_bits(i) - 16);
}
static float q5_1(int i) {
    return 0.5F * five_bits(i) - 1;
}
static float q8_0(int i) {
    return 0.5F * (float)(i < 16 ? i - 128 : i + 96);
}

static void block_types(void **state) {
    (void)state;
    char q8[35] = SCALE;
    for (int i = 0; i < 32; i++) {
        q8[2 + i] = (char)(i < 16 ? i - 128 : i + 96);
    }
    check_blocks(SP_Q4_0, SCALE NIBBLES, 18, q4_0);
    check_blocks(SP_Q4_1, SCALE MINIMUM NIBBLES, 20, q4_1);
    check_blocks(SP_Q5_0, SCALE "\x05\x01\x00\x80" NIBBLES, 22, q5_0);
    check_blocks(SP_Q5_1, SCALE MINIMUM "\x05\x01\x00\x80" NIBBLES, 24, q5_1);
    check_blocks(SP_Q8_0, q8, 34, q8_0);
}

/* 8-bit floats at their ends (Micikevicius et al. 2022, table 1). */
static void eight_bits(void **state) {
    (void)state;
    static const uint8_t codes[] = {0x00, 0x80, 0x01, 0x07, 0x08, 0x38, 0x7E, 0xFE, 0x3B};
    static const float e4m3[] = {0, -0.0F, 0x1p-9F, 0x7p-9F, 0x1p-6F, 1, 448, -448, 1.375F};
    static const uint8_t codes2[] = {0x00, 0x01, 0x03, 0x04, 0x3C, 0x7B, 0xFB, 0x3D};
    static const float e5m2[] = {0, 0x1p-16F, 0x3p-16F, 0x1p-14F, 1, 57344, -57344, 1.25F};
    float out[9];
    sp_dtype_info_of(SP_F8_E4M3)->to_f32(codes, out, 9);
    assert_memory_equal(out, e4m3, sizeof e4m3);
    sp_dtype_info_of(SP_F8_E5M2)->to_f32(codes2, out, 8);
    assert_memory_equal(out, e5m2, sizeof e5m2);
    sp_dtype_info_of(SP_F8_E4M3)->to_f32("\x7F\xFF", out, 2);
    assert_true(isnan(out[0]) && isnan(out[1]));
    sp_dtype_info_of(SP_F8_E5M2)->to_f32("\x7C\xFC\x7D", out, 3);
    assert_true(isinf(out[0]) && out[0] > 0 && isinf(out[1]) && out[1] < 0 && isnan(out[2]));
}

static void names(void **state) {
    (void)state;
    for (int i = 0; i < SP_DTYPES; i++) {
        const sp_dtype_info *row = sp_dtype_info_of((sp_dtype)i);
        sp_dtype found = SP_DTYPES;
        assert_true(row->name && row->block_bytes > 0 && row->block_elements > 0);
        if (row->safetensors) {
            assert_true(sp_dtype_from_safetensors(row->safetensors, &found) && (int)found == i);
            assert_int_equal(row->block_elements, 1);
        }
        if (row->ggml >= 0) {
            assert_true(sp_dtype_from_ggml((uint32_t)row->ggml, &found) && (int)found == i);
            assert_string_equal(sp_dtype_ggml_name((uint32_t)row->ggml), row->name);
        }
    }
    sp_dtype found = SP_I16;
    assert_false(sp_dtype_from_safetensors("f32", &found));
    assert_false(sp_dtype_from_safetensors("", &found));
    assert_false(sp_dtype_from_ggml(9, &found));
    assert_false(sp_dtype_from_ggml(UINT32_MAX, &found));
    assert_int_equal(found, SP_I16);
    assert_string_equal(sp_dtype_ggml_name(9), "Q8_1");
    assert_string_equal(sp_dtype_ggml_name(4), "an unknown type");
    assert_string_equal(sp_dtype_ggml_name(UINT32_MAX), "an unknown type");
}

/* Q8_K has no other implementation at hand: a block by hand, 0.5 (0x3f000000) times each number. */
static void eight_bits_of_super_blocks(void **state) {
    (void)state;
    uint8_t block[292] = {0, 0, 0, 0x3f};
    float out[256];
    for (int i = 0; i < 256; i++) {
        block[4 + i] = (uint8_t)(i - 128);
    }
    memset(block + 260, 0x7f, 32); /* the sums say nothing about the numbers */
    sp_dtype_info_of(SP_Q8_K)->to_f32(block, out, 256);
    for (int i = 0; i < 256; i++) {
        assert_true(out[i] == 0.5F * (float)(i - 128));
    }
}

static bool size_of(sp_dtype dtype, int n_dims, int64_t a, int64_t b, int64_t c, int64_t *elements,
                    size_t *bytes) {
    return sp_dtype_size(dtype, n_dims, (const int64_t[]){a, b, c}, elements, bytes);
}

static void sizes(void **state) {
    (void)state;
    const int64_t big = INT64_C(1) << 62;
    int64_t n = -1;
    size_t bytes = 0;
    assert_true(size_of(SP_F32, 3, 2, 3, 5, &n, &bytes) && n == 30 && bytes == 120);
    assert_true(size_of(SP_BF16, 0, 0, 0, 0, &n, &bytes) && n == 1 && bytes == 2);
    assert_true(size_of(SP_F32, 2, 0, 7, 0, &n, &bytes) && n == 0 && bytes == 0);
    assert_true(size_of(SP_Q4_1, 2, 3, 64, 0, &n, &bytes) && n == 192 && bytes == 120);
    assert_false(size_of(SP_Q4_1, 2, 32, 1, 0, &n, &bytes)); /* rows, not the whole, are blocks */
    assert_false(size_of(SP_U8, 2, -1, -1, 0, &n, &bytes));
    assert_false(size_of(SP_U8, 2, big, 2, 0, &n, &bytes));
    assert_false(size_of(SP_U8, 3, big, big, 0, &n, &bytes));
    assert_false(size_of(SP_U8, 3, 0, big, big, &n, &bytes));
    assert_true(size_of(SP_U8, 2, big, 1, 0, &n, &bytes) && bytes == (size_t)big);
    assert_false(size_of(SP_F32, 2, big, 1, 0, &n, &bytes));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half),
        cmocka_unit_test(half_rounding),
        cmocka_unit_test(every_bf16),
        cmocka_unit_test(plain_types),
        cmocka_unit_test(stored_types),
        cmocka_unit_test(block_types),
        cmocka_unit_test(names),
        cmocka_unit_test(eight_bits),
        cmocka_unit_test(eight_bits_of_super_blocks),
        cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
