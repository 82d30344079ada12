#include "tensor/dtype.h"

#include <math.h>

#include "tensor/codebook.h"
#include "tensor/codes.h"
#include "tensor/kquant.h"
#include "tensor/quantize.h"

float sp_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000U) << 16;
    uint32_t magnitude = (uint32_t)(h & 0x7FFFU) << 13;
    uint32_t bits = magnitude + (112U << 23); /* the exponent's bias: 15 there, 127 here */
    float f;
    if (magnitude >= 31U << 23) { /* infinity, NaN */
        bits = magnitude | 0x7F800000U;
    } else if (magnitude < 1U << 23) { /* subnormal: units of 2^-24, exact in f32 */
        f = (float)(h & 0x3FFU) * 0x1p-24F;
        memcpy(&bits, &f, sizeof bits);
    }
    bits |= sign;
    memcpy(&f, &bits, sizeof f);
    return f;
}

uint16_t sp_f16_from_f32(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t sign = (bits >> 16) & 0x8000U;
    uint32_t magnitude = bits & 0x7FFFFFFFU;
    if (magnitude > 0x7F800000U) {
        return (uint16_t)(sign | 0x7E00U);
    }
    if (magnitude >= 0x477FF000U) { /* 65520 and above round to infinity */
        return (uint16_t)(sign | 0x7C00U);
    }
    if (magnitude < 0x38800000U) { /* below 2^-14: subnormal, in units of 2^-24 */
        float scaled = ldexpf(fabsf(f), 24);
        return (uint16_t)(sign | (uint32_t)nearbyintf(scaled));
    }
    uint32_t rounded = magnitude + 0xFFFU + ((magnitude >> 13) & 1U);
    return (uint16_t)(sign | ((rounded - 0x38000000U) >> 13));
}

static uint16_t load16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

static void from_f32(const void *src, float *dst, int64_t n) {
    if (n > 0) {
        memcpy(dst, src, (size_t)n * sizeof *dst);
    }
}

static void store_f32(const float *src, void *dst, int64_t n) {
    from_f32(src, dst, n);
}

static void store16(uint8_t *p, uint16_t h) {
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

static void store_f16(const float *src, void *dst, int64_t n) {
    uint8_t *p = dst;
    for (int64_t i = 0; i < n; i++) {
        store16(p + 2 * i, sp_f16_from_f32(src[i]));
    }
}

static void store_bf16(const float *src, void *dst, int64_t n) {
    uint8_t *p = dst;
    for (int64_t i = 0; i < n; i++) {
        store16(p + 2 * i, sp_bf16_from_f32(src[i]));
    }
}

static void from_f16(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++) {
        dst[i] = sp_load_f16(p + 2 * i);
    }
}

static void from_bf16(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++) {
        dst[i] = sp_bf16_to_f32(load16(p + 2 * i));
    }
}

static void from_f64(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++) {
        double d;
        memcpy(&d, p + 8 * i, sizeof d);
        dst[i] = (float)d;
    }
}

/* GGUF blocks of 32: nibble i of the first 16 elements is the low half of byte i, of the last 16
 * the high half. The 5-bit types keep the fifth bits in a 32-bit mask. */
enum { BLOCK = 32 };

static void from_q4_0(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / BLOCK; b++, p += 18, dst += BLOCK) {
        float d = sp_load_f16(p);
        for (int i = 0; i < 16; i++) {
            dst[i] = (float)((p[2 + i] & 15) - 8) * d;
            dst[i + 16] = (float)((p[2 + i] >> 4) - 8) * d;
        }
    }
}

static void from_q4_1(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / BLOCK; b++, p += 20, dst += BLOCK) {
        float d = sp_load_f16(p);
        float m = sp_load_f16(p + 2);
        for (int i = 0; i < 16; i++) {
            dst[i] = (float)(p[4 + i] & 15) * d + m;
            dst[i + 16] = (float)(p[4 + i] >> 4) * d + m;
        }
    }
}

static uint32_t load32(const uint8_t *p) {
    return (uint32_t)load16(p) | (uint32_t)load16(p + 2) << 16;
}

static int fifth_bit(uint32_t mask, int i) {
    return (int)((mask >> i) & 1U) << 4;
}

static void from_q5_0(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / BLOCK; b++, p += 22, dst += BLOCK) {
        float d = sp_load_f16(p);
        uint32_t high = load32(p + 2);
        for (int i = 0; i < 16; i++) {
            dst[i] = (float)(((p[6 + i] & 15) | fifth_bit(high, i)) - 16) * d;
            dst[i + 16] = (float)(((p[6 + i] >> 4) | fifth_bit(high, i + 16)) - 16) * d;
        }
    }
}

static void from_q5_1(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / BLOCK; b++, p += 24, dst += BLOCK) {
        float d = sp_load_f16(p);
        float m = sp_load_f16(p + 2);
        uint32_t high = load32(p + 4);
        for (int i = 0; i < 16; i++) {
            dst[i] = (float)((p[8 + i] & 15) | fifth_bit(high, i)) * d + m;
            dst[i + 16] = (float)((p[8 + i] >> 4) | fifth_bit(high, i + 16)) * d + m;
        }
    }
}

static void from_q8_0(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / BLOCK; b++, p += 34, dst += BLOCK) {
        float d = sp_load_f16(p);
        for (int i = 0; i < BLOCK; i++) {
            dst[i] = (float)(int8_t)p[2 + i] * d;
        }
    }
}

static const sp_dtype_info table[SP_DTYPES] = {
    [SP_F32] = {"f32", "F32", 0, 1, 4, from_f32, store_f32},
    [SP_F16] = {"f16", "F16", 1, 1, 2, from_f16, store_f16},
    [SP_BF16] = {"bf16", "BF16", 30, 1, 2, from_bf16, store_bf16},
    [SP_F64] = {"f64", "F64", 28, 1, 8, from_f64, NULL},
    [SP_I8] = {"i8", "I8", 24, 1, 1, NULL, NULL},
    [SP_I16] = {"i16", "I16", 25, 1, 2, NULL, NULL},
    [SP_I32] = {"i32", "I32", 26, 1, 4, NULL, NULL},
    [SP_I64] = {"i64", "I64", 27, 1, 8, NULL, NULL},
    [SP_U8] = {"u8", "U8", -1, 1, 1, NULL, NULL},
    [SP_U16] = {"u16", "U16", -1, 1, 2, NULL, NULL},
    [SP_U32] = {"u32", "U32", -1, 1, 4, NULL, NULL},
    [SP_U64] = {"u64", "U64", -1, 1, 8, NULL, NULL},
    [SP_BOOL] = {"bool", "BOOL", -1, 1, 1, NULL, NULL},
    [SP_Q4_0] = {"Q4_0", NULL, 2, BLOCK, 18, from_q4_0, sp_q4_0_from_f32},
    [SP_Q4_1] = {"Q4_1", NULL, 3, BLOCK, 20, from_q4_1, NULL},
    [SP_Q5_0] = {"Q5_0", NULL, 6, BLOCK, 22, from_q5_0, sp_q5_0_from_f32},
    [SP_Q5_1] = {"Q5_1", NULL, 7, BLOCK, 24, from_q5_1, NULL},
    [SP_Q8_0] = {"Q8_0", NULL, 8, BLOCK, 34, from_q8_0, sp_q8_0_from_f32},
    [SP_Q2_K] = {"Q2_K", NULL, 10, 256, 84, sp_q2_k_to_f32, NULL},
    [SP_Q3_K] = {"Q3_K", NULL, 11, 256, 110, sp_q3_k_to_f32, NULL},
    [SP_Q4_K] = {"Q4_K", NULL, 12, 256, 144, sp_q4_k_to_f32, sp_q4_k_from_f32},
    [SP_Q5_K] = {"Q5_K", NULL, 13, 256, 176, sp_q5_k_to_f32, NULL},
    [SP_Q6_K] = {"Q6_K", NULL, 14, 256, 210, sp_q6_k_to_f32, NULL},
    [SP_Q8_K] = {"Q8_K", NULL, 15, 256, 292, sp_q8_k_to_f32, NULL},
    [SP_IQ1_S] = {"IQ1_S", NULL, 19, 256, 50, sp_iq1_s_to_f32, NULL},
    [SP_IQ1_M] = {"IQ1_M", NULL, 29, 256, 56, sp_iq1_m_to_f32, NULL},
    [SP_IQ2_XXS] = {"IQ2_XXS", NULL, 16, 256, 66, sp_iq2_xxs_to_f32, NULL},
    [SP_IQ2_XS] = {"IQ2_XS", NULL, 17, 256, 74, sp_iq2_xs_to_f32, NULL},
    [SP_IQ2_S] = {"IQ2_S", NULL, 22, 256, 82, sp_iq2_s_to_f32, NULL},
    [SP_IQ3_XXS] = {"IQ3_XXS", NULL, 18, 256, 98, sp_iq3_xxs_to_f32, NULL},
    [SP_IQ3_S] = {"IQ3_S", NULL, 21, 256, 110, sp_iq3_s_to_f32, NULL},
    [SP_IQ4_NL] = {"IQ4_NL", NULL, 20, BLOCK, 18, sp_iq4_nl_to_f32, NULL},
    [SP_IQ4_XS] = {"IQ4_XS", NULL, 23, 256, 136, sp_iq4_xs_to_f32, NULL},
    [SP_TQ1_0] = {"TQ1_0", NULL, 34, 256, 54, sp_tq1_0_to_f32, NULL},
    [SP_TQ2_0] = {"TQ2_0", NULL, 35, 256, 66, sp_tq2_0_to_f32, NULL},
    [SP_MXFP4] = {"MXFP4", NULL, 39, BLOCK, 17, sp_mxfp4_to_f32, NULL},
    [SP_NVFP4] = {"NVFP4", NULL, 40, 64, 36, sp_nvfp4_to_f32, NULL},
    [SP_Q1_0] = {"Q1_0", NULL, 41, 128, 18, sp_q1_0_to_f32, NULL},
    [SP_Q2_0] = {"Q2_0", NULL, 42, 64, 18, sp_q2_0_to_f32, NULL},
    [SP_F8_E4M3] = {"f8_e4m3", "F8_E4M3", -1, 1, 1, sp_f8_e4m3_to_f32, NULL},
    [SP_F8_E5M2] = {"f8_e5m2", "F8_E5M2", -1, 1, 1, sp_f8_e5m2_to_f32, NULL},
};

/* Numbers of GGUF files that have no row: 4, 5 and 31 to 33 were withdrawn. */
static const char *const other_ggml[] = {[9] = "Q8_1"};

const sp_dtype_info *sp_dtype_info_of(sp_dtype dtype) {
    return &table[dtype];
}

bool sp_dtype_from_safetensors(const char *name, sp_dtype *out) {
    for (int i = 0; i < SP_DTYPES; i++) {
        if (table[i].safetensors && strcmp(table[i].safetensors, name) == 0) {
            *out = (sp_dtype)i;
            return true;
        }
    }
    return false;
}

bool sp_dtype_from_ggml(uint32_t number, sp_dtype *out) {
    for (int i = 0; i < SP_DTYPES; i++) {
        if (table[i].ggml >= 0 && (uint32_t)table[i].ggml == number) {
            *out = (sp_dtype)i;
            return true;
        }
    }
    return false;
}

const char *sp_dtype_ggml_name(uint32_t number) {
    sp_dtype dtype;
    if (sp_dtype_from_ggml(number, &dtype)) {
        return table[dtype].name;
    }
    const char *name = NULL;
    if (number < sizeof other_ggml / sizeof other_ggml[0]) {
        name = other_ggml[number];
    }
    return name ? name : "an unknown type";
}

bool sp_dtype_size(sp_dtype dtype, int n_dims, const int64_t *dims, int64_t *elements,
                   size_t *bytes) {
    const sp_dtype_info *type = &table[dtype];
    int64_t n = 1;
    bool empty = false;
    /* a zero anywhere makes the product zero, but the other sizes must fit all the same */
    for (int i = 0; i < n_dims; i++) {
        empty = empty || dims[i] == 0;
        if (dims[i] < 0 || __builtin_mul_overflow(n, dims[i] ? dims[i] : 1, &n)) {
            return false;
        }
    }
    int64_t row = n_dims ? dims[n_dims - 1] : 1;
    *elements = empty ? 0 : n;
    return row % type->block_elements == 0 &&
           !__builtin_mul_overflow((size_t)*elements / (size_t)type->block_elements,
                                   type->block_bytes, bytes);
}
