/* Products of bf16 rows with quantised blocks: the weights are expanded to bf16 block by block,
 * into a space that stays in the cache, and multiplied by the tiles of AMX or by AVX512_BF16. What
 * memory gives is the blocks; what is computed is what bf16 copies of the weights would give. */
#include "backend/cpu/bf16_variant.h"

#if defined(__AVX512BF16__)

#define INLINE static inline __attribute__((always_inline))

enum {
    BLOCK = SP_AFFINE_BLOCK,
    PAIRS = BLOCK / 2,               /* inputs are multiplied two by two */
    TILE = SP_BF16_TILE,             /* rows of one */
    TILE_NUMBERS = SP_PANEL * BLOCK, /* of an expanded block: [16 pairs][16 outputs][2] */
    PANELS = SP_BF16_PANELS,
#if defined(__AMX_BF16__)
    AT_ONCE = 2 * TILE, /* rows */
#else
    AT_ONCE = 0,
#endif
    RING = 4 /* blocks */
};

/* How a number of a form becomes the float 1 + q / span: its bits are turned into the top of the
 * mantissa. w = (span scale) (1 + q / span) + (min - (span + zero) scale), rounded once in f32. */
typedef struct form {
    int top;       /* where the number's lowest bit goes */
    uint32_t mask; /* of the number there */
    float span, offset;
} form;

static const form four_bits = {19, 0x00780000, 16, 16};
static const form eight_bits = {15, 0x007f8000, 256, 256 + SP_AFFINE_ZERO};

/* Of a block: outputs 0..7 and 8..15, each twice side by side, as the pairs of inputs want them. */
typedef struct scales {
    __m512 low, high, low_min, high_min;
} scales;

INLINE __m512i twice(int half) {
    const __m512i index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_add_epi32(index, _mm512_set1_epi32(8 * half));
}

INLINE __m512 halves(const uint8_t *from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

INLINE scales load_scales(const uint8_t *block, const form *f, bool has_min) {
    const __m512 scale = halves(block), span = _mm512_mul_ps(scale, _mm512_set1_ps(f->span));
    const __m512 min = has_min ? halves(block + SP_PANEL * sizeof(uint16_t)) : _mm512_setzero_ps();
    const __m512 rest = _mm512_fnmadd_ps(scale, _mm512_set1_ps(f->offset), min);
    return (scales){_mm512_permutexvar_ps(twice(0), span), _mm512_permutexvar_ps(twice(1), span),
                    _mm512_permutexvar_ps(twice(0), rest), _mm512_permutexvar_ps(twice(1), rest)};
}

/* Left turns that bring bytes `first` and first + 1 of each pair of lanes to the top. */
INLINE __m512i turns(int top, int first, int shift) {
    const int even = (top - 8 * first - shift) & 31, odd = (top - 8 * first - 8 - shift) & 31;
    return _mm512_set1_epi64((int64_t)((uint64_t)odd << 32 | (uint64_t)even));
}

INLINE __m512 number(__m512i raw, __m512i turn, uint32_t mask, __m512 scale, __m512 min) {
    enum { AND_OR = 0xEA }; /* (a and b) or c */
    const __m512i one = _mm512_castps_si512(_mm512_set1_ps(1));
    const __m512i bits = _mm512_ternarylogic_epi32(_mm512_rolv_epi32(raw, turn),
                                                   _mm512_set1_epi32((int)mask), one, AND_OR);
    return _mm512_fmadd_ps(scale, _mm512_castsi512_ps(bits), min);
}

/* Two of the four inputs of a group. */
INLINE void put_pair(__m512i low, __m512i high, __m512i turn, uint32_t mask, const scales *s,
                     uint16_t *to) {
    const __m512 a = number(low, turn, mask, s->low, s->low_min);
    const __m512 b = number(high, turn, mask, s->high, s->high_min);
    _mm512_store_si512(to, (__m512i)_mm512_cvtne2ps_pbh(b, a));
}

/* to: [PAIRS][16 outputs][2]. */
INLINE void expand(const sp_blocks *w, const uint8_t *block, bool wide, bool has_min,
                   uint16_t *to) {
    const form *f = wide ? &eight_bits : &four_bits;
    const scales s = load_scales(block, f, has_min);
    const int halves_of = wide ? 1 : 2, groups = BLOCK / SP_GROUP / halves_of;
#pragma GCC unroll 8
    for (int g = 0; g < groups; g++) {
        const __m512i raw = _mm512_loadu_si512(block + w->numbers + (size_t)g * SP_GROUP_BYTES);
        const __m512i low = _mm512_permutexvar_epi32(twice(0), raw);
        const __m512i high = _mm512_permutexvar_epi32(twice(1), raw);
        for (int half = 0; half < halves_of; half++) {
            uint16_t *at = to + (half * groups + g) * 2 * BLOCK;
            put_pair(low, high, turns(f->top, 0, 4 * half), f->mask, &s, at);
            put_pair(low, high, turns(f->top, 2, 4 * half), f->mask, &s, at + BLOCK);
        }
    }
}

/* Where block b of the panels is expanded. Rows that are multiplied at once read it once: then a
 * few places do, which stay in the nearest cache. */
INLINE uint16_t *expanded(const sp_bf16_product *p, int64_t b) {
    const int64_t place = p->rows > AT_ONCE ? b : b % RING;
    return p->space + place * PANELS * TILE_NUMBERS;
}

INLINE void expand_panel(const sp_bf16_product *p, int panel, int64_t b, bool wide, bool has_min) {
    const sp_blocks *w = p->w;
    expand(w, sp_blocks_at(w, p->panel + panel, b), wide, has_min,
           expanded(p, b) + panel * TILE_NUMBERS);
}

/* Ask for a piece of what this thread takes next, as a rule: the panels behind. */
INLINE void prefetch_next(const sp_bf16_product *p, int64_t b) {
    const size_t bytes = (size_t)p->panels * p->w->block_bytes;
    const uint8_t *next = sp_blocks_at(p->w, p->panel + p->panels, 0) + (size_t)b * bytes;
    for (size_t i = 0; i < bytes; i += 64) {
        _mm_prefetch((const char *)next + i, _MM_HINT_T1);
    }
}

/* What the kernels are compiled for, so that the choices cost nothing inside. */
typedef struct variant {
    bool wide, has_min; /* of the weights */
    int panels;
} variant;

/* Block b of all panels of the product; nothing behind the last one. */
INLINE void expand_block(const sp_bf16_product *p, int64_t b, variant is) {
    if (b < p->w->n_blocks) {
        prefetch_next(p, b);
        for (int panel = 0; panel < is.panels; panel++) {
            expand_panel(p, panel, b, is.wide, is.has_min);
        }
    }
}

#if defined(__AMX_BF16__)

INLINE void put_tile(const sp_bf16_product *p, int64_t tile, int panel, const float *sums) {
    const int64_t rows = p->rows - tile * TILE < TILE ? p->rows - tile * TILE : TILE;
    for (int64_t r = 0; r < rows; r++) {
        sp_bf16_put(p, tile * TILE + r, panel, _mm512_load_ps(sums + r * SP_PANEL), p->accumulate,
                    p->bias);
    }
}

/* One or two tiles of rows by one or two panels. The block behind is expanded while the tiles
 * multiply, where this is the first pass over the panels. */
INLINE void multiply(const sp_bf16_product *p, int64_t tile, int tiles, bool fresh, variant is) {
    const int panels = is.panels;
    const int64_t in = p->w->in, n = p->w->n_blocks;
    const size_t x_row = (size_t)in * sizeof(uint16_t);
    const uint16_t *x0 = sp_bf16_rows(p, tile), *x1 = tiles > 1 ? sp_bf16_rows(p, tile + 1) : NULL;
    _Alignas(64) float sums[TILE * SP_PANEL];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t b = 0; b < n; b++, x0 += BLOCK) {
        const uint16_t *w = expanded(p, b);
        if (fresh) {
            expand_block(p, b + 1, is);
        }
        __asm__ volatile("" ::: "memory"); /* the loads of tiles do not say that they read it */
        _tile_loadd(4, x0, x_row);
        _tile_loadd(6, w, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (panels > 1) {
            _tile_loadd(7, w + TILE_NUMBERS, 64);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (tiles > 1) {
            _tile_loadd(5, x1, x_row);
            x1 += BLOCK;
            _tile_dpbf16ps(2, 5, 6);
            if (panels > 1) {
                _tile_dpbf16ps(3, 5, 7);
            }
        }
    }
    _tile_stored(0, sums, 64);
    put_tile(p, tile, 0, sums);
    if (panels > 1) {
        _tile_stored(1, sums, 64);
        put_tile(p, tile, 1, sums);
    }
    if (tiles > 1) {
        _tile_stored(2, sums, 64);
        put_tile(p, tile + 1, 0, sums);
    }
    if (tiles > 1 && panels > 1) {
        _tile_stored(3, sums, 64);
        put_tile(p, tile + 1, 1, sums);
    }
}

INLINE void product(const sp_bf16_product *p, variant is) {
    const int64_t tiles = (p->rows + TILE - 1) / TILE;
    sp_tiles before;
    sp_tiles_open(TILE, &before);
    expand_block(p, 0, is);
    if (tiles == 1) {
        multiply(p, 0, 1, true, is);
    } else {
        multiply(p, 0, 2, true, is);
    }
    for (int64_t tile = 2; tile < tiles; tile += 2) {
        if (tile + 1 == tiles) {
            multiply(p, tile, 1, false, is);
        } else {
            multiply(p, tile, 2, false, is);
        }
    }
    sp_tiles_close(&before);
}

#else

enum { TOGETHER = 8 /* rows that share what is loaded of the weights */ };

INLINE __m512bh two_inputs(const uint16_t *x) {
    int32_t two;
    memcpy(&two, x, sizeof two);
    return (__m512bh)_mm512_set1_epi32(two);
}

INLINE void multiply(const sp_bf16_product *p, int64_t row, int rows, int panels) {
    const int64_t in = p->w->in;
    const uint16_t *x = p->x + row * in;
    __m512 y[PANELS][TOGETHER];
    for (int r = 0; r < rows; r++) {
        y[0][r] = y[1][r] = _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < in / 2; k++, x += 2) {
        const uint16_t *w = expanded(p, k / PAIRS) + k % PAIRS * BLOCK;
        const __m512bh w0 = (__m512bh)_mm512_load_si512(w);
        const __m512bh w1 = panels > 1 ? (__m512bh)_mm512_load_si512(w + TILE_NUMBERS) : w0;
        for (int r = 0; r < rows; r++) {
            const __m512bh two = two_inputs(x + r * in);
            y[0][r] = _mm512_dpbf16_ps(y[0][r], w0, two);
            if (panels > 1) {
                y[1][r] = _mm512_dpbf16_ps(y[1][r], w1, two);
            }
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int panel = 0; panel < panels; panel++) {
            sp_bf16_put(p, row + r, panel, y[panel][r], p->accumulate, p->bias);
        }
    }
}

INLINE void product(const sp_bf16_product *p, variant is) {
    int64_t row = 0;
    for (int64_t b = 0; b < p->w->n_blocks; b++) {
        expand_block(p, b, is);
    }
    for (; row + TOGETHER <= p->rows; row += TOGETHER) {
        multiply(p, row, TOGETHER, is.panels);
    }
    for (; row < p->rows; row++) {
        multiply(p, row, 1, is.panels);
    }
}

#endif

#define VARIANT(name, wide, has_min, panels)                                                       \
    static void name(const sp_bf16_product *p) {                                                   \
        product(p, (variant){wide, has_min, panels});                                              \
    }
VARIANT(four_single, false, false, 1)
VARIANT(four_pair, false, false, 2)
VARIANT(four_min_single, false, true, 1)
VARIANT(four_min_pair, false, true, 2)
VARIANT(eight_single, true, false, 1)
VARIANT(eight_pair, true, false, 2)
VARIANT(eight_min_single, true, true, 1)
VARIANT(eight_min_pair, true, true, 2)

static void blocks_product_bf16(const sp_bf16_product *p) {
    static void (*const variants[2][2][2])(const sp_bf16_product *) = {
        {{four_single, four_pair}, {four_min_single, four_min_pair}},
        {{eight_single, eight_pair}, {eight_min_single, eight_min_pair}},
    };
    variants[p->w->form.bits == 8][p->w->form.has_min][p->panels == PANELS](p);
}

void SP_SIMD_NAME(sp_simd_fill_quant_bf16)(sp_simd *table) {
    table->blocks_product_bf16 = blocks_product_bf16;
}

#else

void SP_SIMD_NAME(sp_simd_fill_quant_bf16)(sp_simd *table) {
    table->blocks_product_bf16 = NULL;
}

#endif
