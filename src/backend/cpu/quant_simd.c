/* Products on quantised blocks: inputs of 8 bits, in one term or two, by weights of 8 or 4, summed
 * exactly within a block of 32 and in f32, block by block, across them. A row's result does not
 * depend on how many rows are computed together. */
#include <math.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "backend/cpu/simd_variant.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    BLOCK = SP_AFFINE_BLOCK,
    GROUPS = BLOCK / SP_GROUP,
    HALF_GROUPS = GROUPS / 2,
    MOST = 127,
    TOGETHER = 4 /* rows that share what is loaded of a panel */
};

/* What the kernels are compiled for, so that the choices cost nothing inside. */
typedef struct variant {
    bool wide;    /* weights of 8 bits, else 4 */
    bool has_min; /* of the weights */
    bool two;     /* terms of the inputs */
} variant;

/* 16 f16 numbers as floats. */
static void load_halves(const uint8_t *from, float *to) {
#if defined(__F16C__)
    for (size_t i = 0; i < SP_PANEL; i += 8) {
        const void *at = from + i * sizeof(uint16_t);
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)at)));
    }
#else
    for (size_t i = 0; i < SP_PANEL; i++) {
        uint16_t h;
        memcpy(&h, from + i * sizeof h, sizeof h);
        to[i] = sp_f16_to_f32(h);
    }
#endif
}

/* Scales and minima of a block; minima 0 where the form has none. */
static void load_scales(const sp_blocks *w, const uint8_t *block, float *scale, float *min) {
    load_halves(block, scale);
    if (w->form.has_min) {
        load_halves(block + SP_PANEL * sizeof(uint16_t), min);
    } else {
        memset(min, 0, SP_PANEL * sizeof *min);
    }
}

/* What q leaves of x, in steps of scale / 254. */
static int32_t second_term(const float *x, const int8_t *q, float scale, int8_t *low) {
    const float inverse = scale > 0 ? SP_SECOND_TERM / scale : 0;
    int32_t total = 0;
    for (int i = 0; i < BLOCK; i++) {
        const float taken = scale * (float)q[i];
        const float rest = rintf((x[i] - taken) * inverse);
        low[i] = (int8_t)(rest > MOST ? MOST : rest < -MOST ? -MOST : rest);
        total += low[i];
    }
    return total;
}

static void quantize(const float *x, int64_t n, const sp_whole *to) {
    for (int64_t b = 0; b < n / BLOCK; b++, x += BLOCK) {
        int8_t *q = to->q + b * BLOCK;
        float most = 0;
        for (int i = 0; i < BLOCK; i++) {
            const float size = fabsf(x[i]);
            most = size > most ? size : most;
        }
        const float inverse = most > 0 ? MOST / most : 0, scale = most / MOST;
        int32_t total = 0;
        for (int i = 0; i < BLOCK; i++) {
            q[i] = (int8_t)rintf(x[i] * inverse);
            total += q[i];
        }
        to->scale[b] = scale;
        to->sum[b] = total;
        if (to->low != NULL) {
            to->scale[b] = scale / SP_SECOND_TERM;
            to->sum[b] = SP_SECOND_TERM * total + second_term(x, q, scale, to->low + b * BLOCK);
        }
    }
}

#if defined(__AVX2__)
/* Where block b of each row begins; n blocks a row. */
INLINE void block_rows(const int8_t *x, int64_t first, int rows, int64_t n, int64_t b,
                       const int8_t **to) {
    for (int r = 0; r < rows; r++) {
        to[r] = x + ((first + r) * n + b) * BLOCK;
    }
}
#endif

#if defined(__AVX512VNNI__)

INLINE __m512 vnni_halves(const uint8_t *from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

INLINE __m512i vnni_four(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm512_set1_epi32(four);
}

/* Sums over a block, a register of 16 outputs a row. */
INLINE void vnni_dots(const uint8_t *numbers, const int8_t *const *q, int rows, bool wide,
                      __m512i *dot) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int r = 0; r < rows; r++) {
        dot[r] = _mm512_setzero_si512();
    }
    for (int g = 0; g < (wide ? GROUPS : HALF_GROUPS); g++) {
        const void *at = numbers + (size_t)g * SP_GROUP_BYTES;
        const __m512i raw = _mm512_loadu_si512(at);
        const __m512i u = wide ? raw : _mm512_and_si512(raw, low);
        const __m512i v = _mm512_and_si512(_mm512_srli_epi16(raw, 4), low);
        for (int r = 0; r < rows; r++) {
            const int8_t *x = q[r] + g * SP_GROUP;
            dot[r] = _mm512_dpbusd_epi32(dot[r], u, vnni_four(x));
            if (!wide) {
                dot[r] = _mm512_dpbusd_epi32(dot[r], v, vnni_four(x + BLOCK / 2));
            }
        }
    }
}

/* The 8-bit numbers carry their zero of 128 through the product: it adds 128 times the row's sum.
 */
INLINE void vnni_rows(const sp_blocks_product *p, int64_t first, int rows, variant is) {
    const sp_blocks *w = p->w;
    const int64_t n = w->n_blocks;
    __m512 y[TOGETHER];
    for (int r = 0; r < rows; r++) {
        y[r] = _mm512_setzero_ps();
    }
    for (int64_t b = 0; b < n; b++) {
        const uint8_t *at = sp_blocks_at(w, p->panel, b), *numbers = at + w->numbers;
        const int8_t *q[TOGETHER];
        __m512i dot[TOGETHER], rest[TOGETHER];
        block_rows(p->x.q, first, rows, n, b, q);
        vnni_dots(numbers, q, rows, is.wide, dot);
        if (is.two) {
            block_rows(p->x.low, first, rows, n, b, q);
            vnni_dots(numbers, q, rows, is.wide, rest);
        }
        const __m512 scale = vnni_halves(at);
        for (int r = 0; r < rows; r++) {
            const float s = p->x.scale[(first + r) * n + b];
            const int32_t sum = p->x.sum[(first + r) * n + b];
            if (is.two) {
                const __m512i step = _mm512_set1_epi32(SP_SECOND_TERM);
                dot[r] = _mm512_add_epi32(_mm512_mullo_epi32(dot[r], step), rest[r]);
            }
            if (is.wide) {
                dot[r] = _mm512_sub_epi32(dot[r], _mm512_set1_epi32(SP_AFFINE_ZERO * sum));
            }
            y[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot[r]),
                                   _mm512_mul_ps(scale, _mm512_set1_ps(s)), y[r]);
            if (is.has_min) {
                const __m512 min = vnni_halves(at + SP_PANEL * sizeof(uint16_t));
                y[r] = _mm512_fmadd_ps(min, _mm512_set1_ps(s * (float)sum), y[r]);
            }
        }
    }
    for (int r = 0; r < rows; r++) {
        _mm512_storeu_ps(p->y + (first + r) * p->y_row, y[r]);
    }
}

#define ROWS_KERNEL vnni_rows

#elif defined(__AVX2__)

INLINE __m256 avx2_halves(const uint8_t *from) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
}

INLINE __m256i avx2_four(const int8_t *q) {
    int32_t four;
    memcpy(&four, q, sizeof four);
    return _mm256_set1_epi32(four);
}

INLINE __m256i avx2_group(const uint8_t *numbers, int g) {
    const void *at = numbers + (size_t)g * SP_GROUP_BYTES;
    return _mm256_loadu_si256(at);
}

/* 16 bits hold the sum of a block: 16 products of at most 15 * 127. */
INLINE void avx2_dots_4(const uint8_t *numbers, const int8_t *const *q, int rows, __m256i *dot) {
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i sum[TOGETHER];
    for (int r = 0; r < rows; r++) {
        sum[r] = _mm256_setzero_si256();
    }
    for (int g = 0; g < HALF_GROUPS; g++) {
        const __m256i raw = avx2_group(numbers, g), u = _mm256_and_si256(raw, low);
        const __m256i v = _mm256_and_si256(_mm256_srli_epi16(raw, 4), low);
        for (int r = 0; r < rows; r++) {
            const int8_t *x = q[r] + g * SP_GROUP;
            const __m256i a = _mm256_maddubs_epi16(u, avx2_four(x));
            const __m256i b = _mm256_maddubs_epi16(v, avx2_four(x + BLOCK / 2));
            sum[r] = _mm256_add_epi16(sum[r], _mm256_add_epi16(a, b));
        }
    }
    for (int r = 0; r < rows; r++) {
        dot[r] = _mm256_madd_epi16(sum[r], ones);
    }
}

/* Bytes times bytes want one side without a sign: |w| times x with the sign of w. Two products of
 * 128 * 127 fit 16 bits, four do not. */
INLINE void avx2_dots_8(const uint8_t *numbers, const int8_t *const *q, int rows, __m256i *dot) {
    const __m256i zero = _mm256_set1_epi8((char)SP_AFFINE_ZERO), ones = _mm256_set1_epi16(1);
    for (int r = 0; r < rows; r++) {
        dot[r] = _mm256_setzero_si256();
    }
    for (int g = 0; g < GROUPS; g++) {
        const __m256i w = _mm256_xor_si256(avx2_group(numbers, g), zero);
        const __m256i size = _mm256_abs_epi8(w);
        for (int r = 0; r < rows; r++) {
            const __m256i x = _mm256_sign_epi8(avx2_four(q[r] + g * SP_GROUP), w);
            const __m256i pairs = _mm256_maddubs_epi16(size, x);
            dot[r] = _mm256_add_epi32(dot[r], _mm256_madd_epi16(pairs, ones));
        }
    }
}

/* Sums over a block, a register of 8 outputs a row. */
INLINE void avx2_dots(const uint8_t *numbers, const int8_t *const *q, int rows, bool wide,
                      __m256i *dot) {
    if (wide) {
        avx2_dots_8(numbers, q, rows, dot);
    } else {
        avx2_dots_4(numbers, q, rows, dot);
    }
}

/* Outputs first_output .. first_output + 7 of the panel. */
INLINE void avx2_half(const sp_blocks_product *p, int64_t first, int rows, size_t first_output,
                      variant is) {
    const sp_blocks *w = p->w;
    const int64_t n = w->n_blocks;
    __m256 y[TOGETHER];
    for (int r = 0; r < rows; r++) {
        y[r] = _mm256_setzero_ps();
    }
    for (int64_t b = 0; b < n; b++) {
        const uint8_t *at = sp_blocks_at(w, p->panel, b);
        const uint8_t *numbers = at + w->numbers + first_output * SP_GROUP;
        const int8_t *q[TOGETHER];
        __m256i dot[TOGETHER], rest[TOGETHER];
        block_rows(p->x.q, first, rows, n, b, q);
        avx2_dots(numbers, q, rows, is.wide, dot);
        if (is.two) {
            block_rows(p->x.low, first, rows, n, b, q);
            avx2_dots(numbers, q, rows, is.wide, rest);
        }
        const __m256 scale = avx2_halves(at + first_output * sizeof(uint16_t));
        for (int r = 0; r < rows; r++) {
            const float s = p->x.scale[(first + r) * n + b];
            if (is.two) {
                const __m256i step = _mm256_set1_epi32(SP_SECOND_TERM);
                dot[r] = _mm256_add_epi32(_mm256_mullo_epi32(dot[r], step), rest[r]);
            }
            y[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot[r]),
                                   _mm256_mul_ps(scale, _mm256_set1_ps(s)), y[r]);
            if (is.has_min) {
                const float total = s * (float)p->x.sum[(first + r) * n + b];
                const __m256 min = avx2_halves(at + (SP_PANEL + first_output) * sizeof(uint16_t));
                y[r] = _mm256_fmadd_ps(min, _mm256_set1_ps(total), y[r]);
            }
        }
    }
    for (int r = 0; r < rows; r++) {
        _mm256_storeu_ps(p->y + (first + r) * p->y_row + first_output, y[r]);
    }
}

/* One row alone: both halves at once, so that they share the inputs and hide each other's latency.
 */
INLINE void avx2_one(const sp_blocks_product *p, int64_t row, variant is) {
    const sp_blocks *w = p->w;
    const int64_t n = w->n_blocks;
    __m256 y[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int64_t b = 0; b < n; b++) {
        const uint8_t *at = sp_blocks_at(w, p->panel, b), *numbers = at + w->numbers;
        const float s = p->x.scale[row * n + b], total = s * (float)p->x.sum[row * n + b];
        const int8_t *q = p->x.q + (row * n + b) * BLOCK;
        const int8_t *low = is.two ? p->x.low + (row * n + b) * BLOCK : NULL;
        for (size_t half = 0; half < 2; half++) {
            const size_t output = half * SP_PANEL / 2;
            __m256i dot, rest;
            avx2_dots(numbers + output * SP_GROUP, &q, 1, is.wide, &dot);
            if (is.two) {
                avx2_dots(numbers + output * SP_GROUP, &low, 1, is.wide, &rest);
                dot = _mm256_add_epi32(_mm256_mullo_epi32(dot, _mm256_set1_epi32(SP_SECOND_TERM)),
                                       rest);
            }
            const __m256 scale = avx2_halves(at + output * sizeof(uint16_t));
            y[half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot),
                                      _mm256_mul_ps(scale, _mm256_set1_ps(s)), y[half]);
            if (is.has_min) {
                const __m256 min = avx2_halves(at + (SP_PANEL + output) * sizeof(uint16_t));
                y[half] = _mm256_fmadd_ps(min, _mm256_set1_ps(total), y[half]);
            }
        }
    }
    _mm256_storeu_ps(p->y + row * p->y_row, y[0]);
    _mm256_storeu_ps(p->y + row * p->y_row + SP_PANEL / 2, y[1]);
}

INLINE void avx2_rows(const sp_blocks_product *p, int64_t first, int rows, variant is) {
    if (rows == 1) {
        avx2_one(p, first, is);
        return;
    }
    avx2_half(p, first, rows, 0, is);
    avx2_half(p, first, rows, SP_PANEL / 2, is);
}

#define ROWS_KERNEL avx2_rows

#else

static int32_t number_at(const sp_blocks *w, const uint8_t *numbers, int output, int i) {
    const int half = BLOCK / 2, inner = output * SP_GROUP + i % SP_GROUP;
    if (w->form.bits == 8) {
        return numbers[i / SP_GROUP * SP_GROUP_BYTES + inner] - SP_AFFINE_ZERO;
    }
    const uint8_t both = numbers[i % half / SP_GROUP * SP_GROUP_BYTES + inner];
    return i < half ? both & 15 : both >> 4;
}

static void plain_rows(const sp_blocks_product *p, int64_t first, int rows, variant is) {
    const sp_blocks *w = p->w;
    const int64_t n = w->n_blocks;
    for (int64_t r = first; r < first + rows; r++) {
        float *y = p->y + r * p->y_row;
        memset(y, 0, SP_PANEL * sizeof *y);
        for (int64_t b = 0; b < n; b++) {
            const uint8_t *at = sp_blocks_at(w, p->panel, b);
            const int64_t x = (r * n + b) * BLOCK;
            const float s = p->x.scale[r * n + b], total = s * (float)p->x.sum[r * n + b];
            float scale[SP_PANEL], min[SP_PANEL];
            load_scales(w, at, scale, min);
            for (int o = 0; o < SP_PANEL; o++) {
                int32_t dot = 0;
                for (int i = 0; i < BLOCK; i++) {
                    const int32_t value =
                        is.two ? SP_SECOND_TERM * p->x.q[x + i] + p->x.low[x + i] : p->x.q[x + i];
                    dot += number_at(w, at + w->numbers, o, i) * value;
                }
                y[o] += (float)dot * (scale[o] * s);
                y[o] += is.has_min ? min[o] * total : 0;
            }
        }
    }
}

#define ROWS_KERNEL plain_rows

#endif

INLINE void all_rows(const sp_blocks_product *p, variant is) {
    int64_t r = 0;
    for (; r + TOGETHER <= p->rows; r += TOGETHER) {
        ROWS_KERNEL(p, r, TOGETHER, is);
    }
    for (; r < p->rows; r++) {
        ROWS_KERNEL(p, r, 1, is);
    }
}

#define VARIANT(name, wide, has_min, two)                                                          \
    static void name(const sp_blocks_product *p) {                                                 \
        all_rows(p, (variant){wide, has_min, two});                                                \
    }
VARIANT(four_one, false, false, false)
VARIANT(four_two, false, false, true)
VARIANT(four_min_one, false, true, false)
VARIANT(four_min_two, false, true, true)
VARIANT(eight_one, true, false, false)
VARIANT(eight_two, true, false, true)
VARIANT(eight_min_one, true, true, false)
VARIANT(eight_min_two, true, true, true)

static void blocks_product(const sp_blocks_product *p) {
    static void (*const variants[2][2][2])(const sp_blocks_product *) = {
        {{four_one, four_two}, {four_min_one, four_min_two}},
        {{eight_one, eight_two}, {eight_min_one, eight_min_two}},
    };
    variants[p->w->form.bits == 8][p->w->form.has_min][p->x.low != NULL](p);
}

/* The 16 weights of one input; bytes holds its group, in which it is number k. */
INLINE void expand_input(const uint8_t *bytes, int k, int shift, int mask, float zero,
                         const float *scale, const float *min, float *to) {
    for (int o = 0; o < SP_PANEL; o++) {
        uint32_t four;
        memcpy(&four, bytes + (size_t)o * SP_GROUP, sizeof four);
        const int32_t q = (int32_t)(four >> (8 * k + shift)) & mask;
        to[o] = scale[o] * ((float)q - zero) + min[o];
    }
}

static void blocks_expand(const sp_blocks *w, int64_t panel, int64_t first, int64_t n_blocks,
                          float *to, int64_t row) {
    const bool wide = w->form.bits == 8;
    float scale[SP_PANEL], min[SP_PANEL];
    for (int64_t b = first; b < first + n_blocks; b++) {
        const uint8_t *at = sp_blocks_at(w, panel, b), *numbers = at + w->numbers;
        load_scales(w, at, scale, min);
        for (int g = 0; g < GROUPS; g++) {
            const int high = !wide && g >= HALF_GROUPS;
            const uint8_t *bytes = numbers + (size_t)(high ? g - HALF_GROUPS : g) * SP_GROUP_BYTES;
            for (int k = 0; k < SP_GROUP; k++, to += row) {
                if (wide) {
                    expand_input(bytes, k, 0, 255, SP_AFFINE_ZERO, scale, min, to);
                } else {
                    expand_input(bytes, k, high ? 4 : 0, 15, 0, scale, min, to);
                }
            }
        }
    }
}

void SP_SIMD_NAME(sp_simd_fill_quant)(sp_simd *table) {
    table->quantize = quantize;
    table->blocks_product = blocks_product;
    table->blocks_expand = blocks_expand;
}
