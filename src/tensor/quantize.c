#include "tensor/quantize.h"

#include <math.h>
#include <string.h>

#include "tensor/dtype.h"

enum { BLOCK = 32, SUPER = 256 };

static void store_half(uint8_t *p, float f) {
    const uint16_t h = sp_f16_from_f32(f);
    p[0] = (uint8_t)(h & 255U);
    p[1] = (uint8_t)(h >> 8);
}

/* The first of the values that are largest in size. */
static float extreme(const float *x, int n) {
    float most = 0.0F;
    float value = 0.0F;
    for (int i = 0; i < n; i++) {
        if (fabsf(x[i]) > most) {
            most = fabsf(x[i]);
            value = x[i];
        }
    }
    return value;
}

static float inverse(float d) {
    return d != 0.0F ? 1.0F / d : 0.0F;
}

void sp_q8_0_from_f32(const float *src, void *dst, int64_t n) {
    uint8_t *p = dst;
    for (int64_t b = 0; b < n / BLOCK; b++, p += 34, src += BLOCK) {
        const float d = fabsf(extreme(src, BLOCK)) / 127.0F;
        const float id = inverse(d);
        store_half(p, d);
        for (int i = 0; i < BLOCK; i++) {
            p[2 + i] = (uint8_t)(int8_t)roundf(src[i] * id);
        }
    }
}

/* A code in 0 .. 2 half - 1 whose zero is at half: the value of largest size becomes code 0. */
static int code_of(float x, float id, int half) {
    const int code = (int)(x * id + ((float)half + 0.5F));
    return code < 2 * half - 1 ? code : 2 * half - 1;
}

void sp_q4_0_from_f32(const float *src, void *dst, int64_t n) {
    uint8_t *p = dst;
    for (int64_t b = 0; b < n / BLOCK; b++, p += 18, src += BLOCK) {
        const float d = extreme(src, BLOCK) / -8.0F;
        const float id = inverse(d);
        store_half(p, d);
        for (int i = 0; i < 16; i++) {
            p[2 + i] = (uint8_t)(code_of(src[i], id, 8) | code_of(src[i + 16], id, 8) << 4);
        }
    }
}

void sp_q5_0_from_f32(const float *src, void *dst, int64_t n) {
    uint8_t *p = dst;
    for (int64_t b = 0; b < n / BLOCK; b++, p += 22, src += BLOCK) {
        const float d = extreme(src, BLOCK) / -16.0F;
        const float id = inverse(d);
        uint32_t fifth = 0;
        store_half(p, d);
        for (int i = 0; i < 16; i++) {
            const int low = code_of(src[i], id, 16);
            const int high = code_of(src[i + 16], id, 16);
            p[6 + i] = (uint8_t)((low & 15) | (high & 15) << 4);
            fifth |= (uint32_t)(low >> 4) << i | (uint32_t)(high >> 4) << (i + 16);
        }
        for (int k = 0; k < 4; k++) {
            p[2 + k] = (uint8_t)(fifth >> (8 * k));
        }
    }
}

/* ---- Q4_K ---- */

/* Where values of a group begin (at 0 at most) and their step. */
typedef struct range {
    float offset, step; /* both >= 0: a value is step * code - offset */
} range;

static range range_of(const float *x) {
    float least = 0.0F;
    float most = x[0];
    for (int i = 0; i < BLOCK; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    return (range){-least, most > least ? (most - least) / 15.0F : 0.0F};
}

static int nearest(float x, int most) {
    const float r = roundf(x);
    return r < 0.0F ? 0 : r > (float)most ? most : (int)r;
}

/* Six bits each in 12 bytes; the last four groups have their upper bits in those of the first. */
static void store_scales(uint8_t *p, const int scale[8], const int offset[8]) {
    for (int g = 0; g < 4; g++) {
        p[g] = (uint8_t)(scale[g] | (scale[g + 4] >> 4) << 6);
        p[g + 4] = (uint8_t)(offset[g] | (offset[g + 4] >> 4) << 6);
        p[g + 8] = (uint8_t)((scale[g + 4] & 15) | (offset[g + 4] & 15) << 4);
    }
}

static void store_super(const float *x, uint8_t *p) {
    range ranges[8];
    int scale[8], offset[8];
    float step = 0.0F;
    float least = 0.0F;
    for (int g = 0; g < 8; g++) {
        ranges[g] = range_of(x + BLOCK * g);
        step = ranges[g].step > step ? ranges[g].step : step;
        least = ranges[g].offset > least ? ranges[g].offset : least;
    }
    store_half(p, step / 63.0F);
    store_half(p + 2, least / 63.0F);
    /* what the halves hold is what will be read */
    const float d = sp_f16_to_f32(sp_f16_from_f32(step / 63.0F));
    const float m = sp_f16_to_f32(sp_f16_from_f32(least / 63.0F));
    memset(p + 16, 0, SUPER / 2);
    for (int g = 0; g < 8; g++) {
        scale[g] = nearest(ranges[g].step * inverse(d), 63);
        offset[g] = nearest(ranges[g].offset * inverse(m), 63);
        const float by = inverse(d * (float)scale[g]);
        const float from = m * (float)offset[g];
        for (int i = 0; i < BLOCK; i++) {
            const int code = nearest((x[BLOCK * g + i] + from) * by, 15);
            p[16 + g / 2 * 32 + i] |= (uint8_t)(code << (g % 2 * 4));
        }
    }
    store_scales(p + 4, scale, offset);
}

void sp_q4_k_from_f32(const float *src, void *dst, int64_t n) {
    uint8_t *p = dst;
    for (int64_t b = 0; b < n / SUPER; b++, p += 144, src += SUPER) {
        store_super(src, p);
    }
}
