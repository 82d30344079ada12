/* Dequantising super-blocks: 256 elements, one or two scales for all, small ones a group. */
#include "tensor/kquant.h"

#include <stddef.h>
#include <string.h>

#include "tensor/dtype.h"

enum {
    SUPER = 256,
    Q2_BYTES = 84,
    Q3_BYTES = 110,
    Q4_BYTES = 144,
    Q5_BYTES = 176,
    Q6_BYTES = 210,
    Q8_BYTES = 292
};

/* Two bits of element e: halves of 128 have 32 bytes, of which a quarter takes two bits each. */
static int two_bits(const uint8_t *p, int e) {
    return (p[e / 128 * 32 + e % 32] >> (e / 32 % 4 * 2)) & 3;
}

/* A byte for 16 elements: the scale's 4 bits, and those of the least value. */
void sp_q2_k_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += Q2_BYTES, dst += SUPER) {
        const float d = sp_load_f16(p + 80);
        const float m = sp_load_f16(p + 82);
        for (int e = 0; e < SUPER; e++) {
            const float by = d * (float)(p[e / 16] & 15);
            const float minus = m * (float)(p[e / 16] >> 4);
            dst[e] = by * (float)two_bits(p + 16, e) - minus;
        }
    }
}

/* The third bit is a mask of its own, where 1 stands for nothing to take off. Scales of 6 bits: the
 * low nibbles of 8 bytes, then their high ones; the upper two bits in 4 bytes more. */
void sp_q3_k_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += Q3_BYTES, dst += SUPER) {
        const uint8_t *scales = p + 96;
        const float d = sp_load_f16(p + 108);
        for (int e = 0; e < SUPER; e++) {
            const int g = e / 16;
            const int low = (scales[g % 8] >> (g / 8 * 4)) & 15;
            const int high = (scales[8 + g % 4] >> (g / 4 * 2)) & 3;
            const int third = (p[e % 32] >> (e / 32)) & 1;
            const float by = d * (float)((low | high << 4) - 32);
            dst[e] = by * (float)(two_bits(p + 32, e) - (third ? 0 : 4));
        }
    }
}

/* Scale and least value of group g of 8: 6 bits each, packed in 12 bytes. The last four groups
 * have their upper two bits in the upper bits of the first eight bytes. */
static void group_scales(const uint8_t *p, int g, int *scale, int *least) {
    if (g < 4) {
        *scale = p[g] & 63;
        *least = p[g + 4] & 63;
    } else {
        *scale = (p[g + 4] & 15) | (p[g - 4] >> 6) << 4;
        *least = (p[g + 4] >> 4) | (p[g] >> 6) << 4;
    }
}

/* Groups of 32 share bytes in pairs: the even one has the low nibbles, the odd one the high. high
 * holds bit g of group g's elements as their fifth; NULL: there is none. */
static void unpack_groups(const uint8_t *block, const uint8_t *high, const uint8_t *low,
                          float *dst) {
    const float d = sp_load_f16(block);
    const float m = sp_load_f16(block + 2);
    for (int g = 0; g < 8; g++) {
        int scale, least;
        group_scales(block + 4, g, &scale, &least);
        const float by = d * (float)scale;
        const float minus = m * (float)least;
        for (int i = 0; i < 32; i++) {
            const int nibble = (low[g / 2 * 32 + i] >> (g % 2 * 4)) & 15;
            const int fifth = high ? ((high[i] >> g) & 1) << 4 : 0;
            dst[g * 32 + i] = by * (float)(nibble | fifth) - minus;
        }
    }
}

void sp_q4_k_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += Q4_BYTES, dst += SUPER) {
        unpack_groups(p, NULL, p + 16, dst);
    }
}

void sp_q5_k_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += Q5_BYTES, dst += SUPER) {
        unpack_groups(p, p + 16, p + 48, dst);
    }
}

/* Halves of 128: element i of quarter q has its low nibble in byte i (of 32) of pair q % 2 and
 * its upper two bits at bit 2q of byte i. A scale for 16 elements. */
void sp_q6_k_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += Q6_BYTES, dst += SUPER) {
        const float d = sp_load_f16(p + 208);
        for (int e = 0; e < SUPER; e++) {
            const int half = e / 128;
            const int q = e / 32 % 4;
            const int i = e % 32;
            const int low = (p[half * 64 + q % 2 * 32 + i] >> (q / 2 * 4)) & 15;
            const int high = (p[128 + half * 32 + i] >> (2 * q)) & 3;
            dst[e] = d * (float)(int8_t)p[192 + e / 16] * (float)((low | high << 4) - 32);
        }
    }
}

/* One f32 scale, and whole numbers of 8 bits; their sums by 16, which follow, are for products. */
void sp_q8_k_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += Q8_BYTES, dst += SUPER) {
        float d;
        memcpy(&d, p, sizeof d);
        for (int e = 0; e < SUPER; e++) {
            dst[e] = d * (float)(int8_t)p[4 + e];
        }
    }
}
