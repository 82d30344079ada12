#include "tensor/codes.h"

#include <math.h>
#include <string.h>

#include "tensor/dtype.h"

/* The 16 values of the non-linear 4-bit types. */
static const int8_t steps[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                 1,    13,   25,  38,  53,  69,  89,  113};
/* The values of a 4-bit float (one bit of mantissa), doubled. */
static const int8_t doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* n bytes of two nibbles: the low ones are the first n elements, the high ones the next. */
static void unpack_nibbles(const uint8_t *p, int n, const int8_t *values, float d, float *dst) {
    for (int i = 0; i < n; i++) {
        dst[i] = d * (float)values[p[i] & 15];
        dst[i + n] = d * (float)values[p[i] >> 4];
    }
}

void sp_iq4_nl_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / 32; b++, p += 18, dst += 32) {
        unpack_nibbles(p + 2, 16, steps, sp_load_f16(p), dst);
    }
}

/* Groups of 32 with a scale of 6 bits: a nibble of 4 bytes, and two bits of 2. */
void sp_iq4_xs_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / 256; b++, p += 136, dst += 256) {
        const float d = sp_load_f16(p);
        const int upper = p[2] | p[3] << 8;
        for (int g = 0; g < 8; g++) {
            const int scale = ((p[4 + g / 2] >> (g % 2 * 4)) & 15) | ((upper >> 2 * g) & 3) << 4;
            unpack_nibbles(p + 8 + 16 * g, 16, steps, d * (float)(scale - 32), dst + 32 * g);
        }
    }
}

/* n bytes of `digits` ternary digits each, as a fraction of 256: the leading one is taken off by a
 * product by 3, after as many products by 3 as there are digits before it. */
static float *unpack_ternary(const uint8_t *p, int n, int digits, float d, float *dst) {
    static const uint8_t powers[5] = {1, 3, 9, 27, 81};
    for (int k = 0; k < digits; k++) {
        for (int i = 0; i < n; i++) {
            const uint8_t rest = (uint8_t)(p[i] * powers[k]);
            *dst++ = d * (float)((rest * 3 >> 8) - 1);
        }
    }
    return dst;
}

void sp_tq1_0_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / 256; b++, p += 54) {
        const float d = sp_load_f16(p + 52);
        dst = unpack_ternary(p, 32, 5, d, dst);
        dst = unpack_ternary(p + 32, 16, 5, d, dst);
        dst = unpack_ternary(p + 48, 4, 4, d, dst);
    }
}

void sp_tq2_0_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / 256; b++, p += 66, dst += 256) {
        const float d = sp_load_f16(p + 64);
        for (int e = 0; e < 256; e++) {
            const int two = (p[e / 128 * 32 + e % 32] >> (e / 32 % 4 * 2)) & 3;
            dst[e] = d * (float)(two - 1);
        }
    }
}

/* Half of the power of two that an exponent of 8 bits stands for; the two least are subnormal. */
static float half_power(uint8_t exponent) {
    const uint32_t bits = exponent < 2 ? 0x00200000U << exponent : (uint32_t)(exponent - 1) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

void sp_mxfp4_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / 32; b++, p += 17, dst += 32) {
        unpack_nibbles(p + 1, 16, doubled, half_power(p[0]), dst);
    }
}

/* Sign, four bits of exponent (bias 7) and three of mantissa; all ones is no number. */
static float load_e4m3(uint8_t code) {
    const int exponent = code >> 3 & 15;
    const int mantissa = code & 7;
    float f = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
    f = (code & 127) == 127 ? NAN : f;
    return code & 128 ? -f : f;
}

/* Four blocks of 16, each with a scale of 8 bits without a sign. */
void sp_nvfp4_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / 64; b++, p += 36, dst += 64) {
        for (int g = 0; g < 4; g++) {
            const float scale = p[g] == 127 ? 0.0F : load_e4m3(p[g] & 127) * 0.5F;
            unpack_nibbles(p + 4 + 8 * g, 8, doubled, scale, dst + 16 * g);
        }
    }
}

/* A scale, and the signs of 128 elements. */
void sp_q1_0_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / 128; b++, p += 18, dst += 128) {
        const float d = sp_load_f16(p);
        for (int e = 0; e < 128; e++) {
            dst[e] = (p[2 + e / 8] >> e % 8) & 1 ? d : -d;
        }
    }
}

/* A scale, and two bits of each of 64 elements: -1 to 2. */
void sp_q2_0_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / 64; b++, p += 18, dst += 64) {
        const float d = sp_load_f16(p);
        for (int e = 0; e < 64; e++) {
            dst[e] = d * (float)(((p[2 + e / 4] >> e % 4 * 2) & 3) - 1);
        }
    }
}

void sp_f8_e4m3_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++) {
        dst[i] = load_e4m3(p[i]);
    }
}

void sp_f8_e5m2_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++) {
        dst[i] = sp_f16_to_f32((uint16_t)(p[i] << 8));
    }
}
