#include "tensor/affine.h"

#include <math.h>
#include <string.h>

enum { HALF = SP_AFFINE_BLOCK / 2, Q8_MOST = 127, Q4_MOST = 15 };

/* Nibble i of the first 16 weights is the low half of byte i, of the last 16 the high half. */
static void read_nibbles(const uint8_t *p, sp_affine *out) {
    for (int i = 0; i < HALF; i++) {
        out->q[i] = p[i] & 15;
        out->q[i + HALF] = p[i] >> 4;
    }
}

/* The fifth bits are a mask of 32; the numbers are put on the 8-bit form's zero. */
static void add_fifth_bits(const uint8_t *mask, int zero, sp_affine *out) {
    for (int i = 0; i < SP_AFFINE_BLOCK; i++) {
        const int high = (mask[i / 8] >> (i % 8) & 1) << 4;
        out->q[i] = (uint8_t)(out->q[i] + high - zero + SP_AFFINE_ZERO);
    }
}

static void read_q4_0(const uint8_t *p, sp_affine *out) {
    out->scale = sp_load_f16(p);
    out->min = -8 * out->scale;
    read_nibbles(p + 2, out);
}

static void read_q4_1(const uint8_t *p, sp_affine *out) {
    out->scale = sp_load_f16(p);
    out->min = sp_load_f16(p + 2);
    read_nibbles(p + 4, out);
}

static void read_q5_0(const uint8_t *p, sp_affine *out) {
    out->scale = sp_load_f16(p);
    read_nibbles(p + 6, out);
    add_fifth_bits(p + 2, 16, out);
}

static void read_q5_1(const uint8_t *p, sp_affine *out) {
    out->scale = sp_load_f16(p);
    out->min = sp_load_f16(p + 2);
    read_nibbles(p + 8, out);
    add_fifth_bits(p + 4, 0, out);
}

static void read_q8_0(const uint8_t *p, sp_affine *out) {
    out->scale = sp_load_f16(p);
    for (int i = 0; i < SP_AFFINE_BLOCK; i++) {
        out->q[i] = p[2 + i] ^ SP_AFFINE_ZERO;
    }
}

typedef struct affine_row {
    sp_dtype dtype;
    sp_affine_form form;
    void (*read)(const uint8_t *block, sp_affine *out);
} affine_row;

static const affine_row rows[] = {
    {SP_Q4_0, {4, true}, read_q4_0},  {SP_Q4_1, {4, true}, read_q4_1},
    {SP_Q5_0, {8, false}, read_q5_0}, {SP_Q5_1, {8, true}, read_q5_1},
    {SP_Q8_0, {8, false}, read_q8_0},
};

static const affine_row *find(sp_dtype dtype) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].dtype == dtype) {
            return &rows[i];
        }
    }
    return NULL;
}

bool sp_affine_form_of(sp_dtype dtype, sp_affine_form *out) {
    const affine_row *row = find(dtype);
    if (row) {
        *out = row->form;
    }
    return row != NULL;
}

void sp_affine_read(sp_dtype dtype, const void *block, sp_affine *out) {
    out->min = 0;
    find(dtype)->read(block, out);
}

static float to_f16(float x) {
    return sp_f16_to_f32(sp_f16_from_f32(x));
}

static uint8_t nearest(float x, int least, int most) {
    const float rounded = rintf(x);
    return (uint8_t)(rounded < (float)least ? least : rounded > (float)most ? most : (int)rounded);
}

void sp_affine_round(const float *x, sp_affine_form form, sp_affine *out) {
    float least = x[0], most = x[0];
    for (int i = 1; i < SP_AFFINE_BLOCK; i++) {
        least = fminf(least, x[i]);
        most = fmaxf(most, x[i]);
    }
    const bool wide = form.bits == 8;
    out->min = form.has_min ? to_f16(least) : 0;
    out->scale = to_f16(wide ? fmaxf(-least, most) / Q8_MOST : (most - out->min) / Q4_MOST);
    const float inverse = out->scale > 0 ? 1 / out->scale : 0;
    for (int i = 0; i < SP_AFFINE_BLOCK; i++) {
        const float q = (x[i] - out->min) * inverse;
        out->q[i] = wide ? nearest(q + SP_AFFINE_ZERO, 1, 255) : nearest(q, 0, Q4_MOST);
    }
}
