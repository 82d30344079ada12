/* Elements by the handful, as places in a code book: a scale for all 256, small ones for 16 or 32.
 */
#include "tensor/codebook.h"

#include "tensor/codebook_values.h"
#include "tensor/dtype.h"

enum { SUPER = 256, GROUPS = 8 };

static const int8_t ternary[4] = {-1, 0, 1, 0};
static const int8_t uneven[4] = {0x08, 0x19, 0x2b, 0};
static const int8_t from_4[8] = {0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3e};
static const int8_t odd[8] = {1, 3, 5, 7, 9, 11, 13, 15};

static uint32_t load16(const uint8_t *p) {
    return (uint32_t)(p[0] | p[1] << 8);
}

static uint32_t load32(const uint8_t *p) {
    return load16(p) | load16(p + 2) << 16;
}

/* Scale nibble `at` of a row of them, the low one of a byte first. */
static int nibble(const uint8_t *p, int at) {
    return p[at / 2] >> (at % 2 * 4) & 15;
}

/* The signs of 8 elements from 7 stored bits: the eighth makes their number even. */
static uint32_t even_signs(uint32_t seven) {
    seven &= 127;
    return seven | (uint32_t)__builtin_parity(seven) << 7;
}

static float signed_by(float x, uint32_t signs, int j) {
    return signs >> j & 1 ? -x : x;
}

/* 8 elements of two bits a place. */
static void put_8(uint32_t word, const int8_t *values, float d, uint32_t signs, float *dst) {
    for (int j = 0; j < 8; j++) {
        dst[j] = signed_by(d * (float)values[word >> 2 * j & 3], signs, j);
    }
}

/* 8 elements as two entries of 4, three bits a place. */
static void put_4_and_4(const uint16_t words[2], const int8_t *values, float d, uint32_t signs,
                        float *dst) {
    for (int j = 0; j < 8; j++) {
        dst[j] = signed_by(d * (float)values[words[j / 4] >> 3 * (j % 4) & 7], signs, j);
    }
}

/* 8 elements of -1, 0 or 1, all moved by an eighth. */
static void put_moved(uint32_t word, float d, bool down, float *dst) {
    for (int j = 0; j < 8; j++) {
        dst[j] = d * ((float)ternary[word >> 2 * j & 3] + (down ? -0.125F : 0.125F));
    }
}

/* A group of 32: four places of 8 bits, then 4 x 7 bits of signs and 4 of the scale. */
void sp_iq2_xxs_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += 66) {
        for (int g = 0; g < GROUPS; g++) {
            const uint8_t *places = p + 2 + 8 * g;
            const uint32_t rest = load32(places + 4);
            const float d = sp_load_f16(p) * (0.5F + (float)(rest >> 28)) * 0.25F;
            for (int k = 0; k < 4; k++, dst += 8) {
                put_8(sp_iq2_xxs_words[places[k]], uneven, d, even_signs(rest >> 7 * k), dst);
            }
        }
    }
}

/* 32 places of 9 bits with 7 of signs, then 16 nibbles of scales. */
void sp_iq2_xs_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += 74) {
        for (int k = 0; k < 32; k++, dst += 8) {
            const uint32_t place = load16(p + 2 + 2 * k);
            const float d = sp_load_f16(p) * (0.5F + (float)nibble(p + 66, k / 2)) * 0.25F;
            put_8(sp_iq2_xs_words[place & 511], uneven, d, even_signs(place >> 9), dst);
        }
    }
}

/* 32 bytes of places, 32 of signs, the upper two bits of the places, and 16 nibbles of scales. */
void sp_iq2_s_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += 82) {
        for (int k = 0; k < 32; k++, dst += 8) {
            const int upper = p[66 + k / 4] >> (k % 4 * 2) & 3;
            const float d = sp_load_f16(p) * (0.5F + (float)nibble(p + 74, k / 2)) * 0.25F;
            put_8(sp_iq2_s_words[p[2 + k] | upper << 8], uneven, d, p[34 + k], dst);
        }
    }
}

/* 64 places of 8 bits, then a word a group of 4 x 7 bits of signs and 4 of the scale. */
void sp_iq3_xxs_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += 98) {
        for (int k = 0; k < 32; k++, dst += 8) {
            const uint8_t *places = p + 2 + 2 * k;
            const uint16_t words[2] = {sp_iq3_xxs_words[places[0]], sp_iq3_xxs_words[places[1]]};
            const uint32_t rest = load32(p + 66 + k / 4 * 4);
            const float d = sp_load_f16(p) * (0.5F + (float)(rest >> 28)) * 0.5F;
            put_4_and_4(words, from_4, d, even_signs(rest >> 7 * (k % 4)), dst);
        }
    }
}

/* 64 bytes of places, their ninth bits, 32 bytes of signs, and 8 nibbles of scales. */
void sp_iq3_s_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += 110) {
        for (int k = 0; k < 32; k++, dst += 8) {
            const uint8_t *places = p + 2 + 2 * k;
            const int ninth = p[66 + k / 4] >> (k % 4 * 2);
            const uint16_t words[2] = {sp_iq3_s_words[places[0] | (ninth & 1) << 8],
                                       sp_iq3_s_words[places[1] | (ninth & 2) << 7]};
            const float d = sp_load_f16(p) * (float)(1 + 2 * nibble(p + 106, k / 4));
            put_4_and_4(words, odd, d, p[74 + k], dst);
        }
    }
}

/* 32 bytes of places, then a word a group: 4 x 3 upper bits, 3 of the scale, and the way it is
 * moved. */
void sp_iq1_s_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += 50) {
        for (int k = 0; k < 32; k++, dst += 8) {
            const uint32_t group = load16(p + 34 + k / 4 * 2);
            const uint32_t place = p[2 + k] | (group >> (k % 4 * 3) & 7) << 8;
            const float d = sp_load_f16(p) * (float)(2 * (group >> 12 & 7) + 1);
            put_moved(sp_iq1_s_words[place], d, group >> 15, dst);
        }
    }
}

/* 32 bytes of places, a nibble each of 3 upper bits and the way it is moved, and four words of four
 * scales of 3 bits (of 16 elements each), whose upper nibbles are together the scale of all. */
void sp_iq1_m_to_f32(const void *src, float *dst, int64_t n) {
    const uint8_t *p = src;
    for (int64_t b = 0; b < n / SUPER; b++, p += 56) {
        const uint8_t *scales = p + 48;
        const uint8_t all[2] = {(uint8_t)(scales[1] >> 4 | (scales[3] & 0xf0)),
                                (uint8_t)(scales[5] >> 4 | (scales[7] & 0xf0))};
        for (int k = 0; k < 32; k++, dst += 8) {
            const int upper = nibble(p + 32, k);
            const uint32_t small = load16(scales + k / 8 * 2) >> (k / 2 % 4 * 3) & 7;
            const float d = sp_load_f16(all) * (float)(2 * small + 1);
            put_moved(sp_iq1_s_words[p[k] | (upper & 7) << 8], d, upper >> 3, dst);
        }
    }
}
