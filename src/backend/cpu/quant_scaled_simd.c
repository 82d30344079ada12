/* Products of bf16 rows with blocks of 4 bits on AMX, in the numbers themselves: a number q goes
 * into the top of a mantissa as v = 1 + q / 16, which bf16 holds exactly and two instructions make
 * of four inputs, and scale and minimum come after the product, block by block:
 *
 *     sum_i x_i w_i = sum over blocks of (16 scale) sum_i x_i v_i + (min - 16 scale) sum_i x_i
 *
 * So the weights are not rounded at all, only the inputs are. */
#include "backend/cpu/bf16_variant.h"

#if defined(__AMX_BF16__)

#define INLINE static inline __attribute__((always_inline))

enum {
    BLOCK = SP_AFFINE_BLOCK,
    TILE = SP_BF16_TILE,
    TILE_NUMBERS = SP_PANEL * BLOCK,
    RING = 4, /* blocks at work */
    SPAN = 16
};

/* One panel by one tile of rows. */
typedef struct piece {
    const sp_blocks *w;
    int64_t panel;
    const uint16_t *x; /* of the rows */
    const float *sums; /* of the rows' inputs: [n_blocks][16] */
    uint16_t *numbers; /* [RING] tiles */
} piece;

/* The numbers of block b as a tile: [16 pairs][16 outputs][2]. */
INLINE uint16_t *numbers_of(const piece *p, int64_t b) {
    return p->numbers + b % RING * TILE_NUMBERS;
}

/* Inputs 2 first and on of each group, as words of the bytes of `numbers` under 0x3f. */
INLINE __m512i pairs(__m512i numbers, int first) {
    const __m512i index = _mm512_set4_epi32(0x000d000c, 0x00090008, 0x00050004, 0x00010000);
    const __m512i at = _mm512_add_epi8(index, _mm512_set1_epi8((char)first));
    const __m512i upper = _mm512_set1_epi16(0x3f00);
    return _mm512_mask_shuffle_epi8(upper, 0x5555555555555555, numbers, at);
}

/* v of the 4 bits at the top of a byte's mantissa: bits 3 to 6, under the exponent's lowest. */
INLINE __m512i mantissas(__m512i shifted) {
    enum { AND_OR = 0xEA };
    return _mm512_ternarylogic_epi32(shifted, _mm512_set1_epi8(0x78), _mm512_set1_epi8((char)0x80),
                                     AND_OR);
}

INLINE void put_group(__m512i numbers, uint16_t *to) {
    _mm512_store_si512(to, pairs(numbers, 0));
    _mm512_store_si512(to + BLOCK, pairs(numbers, 2));
}

INLINE void make_numbers(const piece *p, int64_t b) {
    enum { GROUPS = BLOCK / SP_GROUP / 2 };
    const uint8_t *from = sp_blocks_at(p->w, p->panel, b) + p->w->numbers;
    uint16_t *to = numbers_of(p, b);
    for (int g = 0; g < GROUPS; g++) {
        const __m512i raw = _mm512_loadu_si512(from + (size_t)g * SP_GROUP_BYTES);
        put_group(mantissas(_mm512_slli_epi16(raw, 3)), to + g * 2 * BLOCK);
        put_group(mantissas(_mm512_srli_epi16(raw, 1)), to + (GROUPS + g) * 2 * BLOCK);
    }
}

/* Ask for the block's place in the next panel, which this thread takes next as a rule. */
INLINE void prefetch_next(const piece *p, int64_t b) {
    const uint8_t *next = sp_blocks_at(p->w, p->panel + 1, b);
    for (size_t i = 0; i < p->w->block_bytes; i += 64) {
        _mm_prefetch((const char *)next + i, _MM_HINT_T1);
    }
}

INLINE void make_block(const piece *p, int64_t b) {
    if (b < p->w->n_blocks) {
        prefetch_next(p, b);
        make_numbers(p, b);
    }
}

/* C = x v of block b into the tile `sums`, a literal. The loads of tiles do not say that they read
 * memory, so it is said beside them. */
#define MULTIPLY(p, b, sums)                                                                       \
    do {                                                                                           \
        __asm__ volatile("" ::: "memory");                                                         \
        _tile_zero(sums);                                                                          \
        _tile_loadd(4, (p)->x + (b)*BLOCK, (size_t)(p)->w->in * sizeof(uint16_t));                 \
        _tile_loadd(6, numbers_of(p, b), 64);                                                      \
        _tile_dpbf16ps(sums, 4, 6);                                                                \
    } while (0)

INLINE __m512 halves(const uint8_t *from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

/* y += the scaled sums of block b. */
INLINE void add_scaled(const piece *p, int64_t b, const float *sums, int rows, __m512 *y) {
    const uint8_t *block = sp_blocks_at(p->w, p->panel, b);
    const float *inputs = p->sums + b * TILE;
    const __m512 scale = _mm512_mul_ps(halves(block), _mm512_set1_ps(SPAN));
    const __m512 min =
        p->w->form.has_min ? halves(block + SP_PANEL * sizeof(uint16_t)) : _mm512_setzero_ps();
    const __m512 rest = _mm512_sub_ps(min, scale);
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        y[r] = _mm512_fmadd_ps(_mm512_load_ps(sums + r * SP_PANEL), scale, y[r]);
        y[r] = _mm512_fmadd_ps(_mm512_set1_ps(inputs[r]), rest, y[r]);
    }
}

/* Block b, whose product is in the tile `own`: the one behind it is multiplied into the tile
 * `other`, and the one before it is scaled. A stored tile can be read only once it has left the
 * processor, so it is read a step later. */
#define STEP(p, b, rows, y, own, other)                                                            \
    do {                                                                                           \
        make_block(p, (b) + 2);                                                                    \
        if ((b) + 1 < (p)->w->n_blocks) {                                                          \
            MULTIPLY(p, (b) + 1, other);                                                           \
        }                                                                                          \
        _tile_stored(own, sums[own], 64);                                                          \
        if ((b) > 0) {                                                                             \
            add_scaled(p, (b)-1, sums[other], rows, y);                                            \
        }                                                                                          \
    } while (0)

INLINE void multiply_panel(const piece *p, int rows, __m512 *y) {
    _Alignas(64) float sums[2][TILE * SP_PANEL];
    int64_t b = 0;
    make_block(p, b);
    make_block(p, b + 1);
    MULTIPLY(p, b, 0);
    for (; b + 1 < p->w->n_blocks; b += 2) {
        STEP(p, b, rows, y, 0, 1);
        STEP(p, b + 1, rows, y, 1, 0);
    }
    if (b < p->w->n_blocks) {
        STEP(p, b, rows, y, 0, 1);
        add_scaled(p, b, sums[0], rows, y);
    } else {
        add_scaled(p, b - 1, sums[1], rows, y);
    }
}

INLINE void product(const sp_bf16_product *p, int rows) {
    sp_tiles before;
    sp_tiles_open(rows, &before);
    for (int i = 0; i < p->panels; i++) {
        const piece at = {.w = p->w,
                          .panel = p->panel + i,
                          .x = sp_bf16_rows(p, 0),
                          .sums = p->sums,
                          .numbers = p->space};
        __m512 y[TILE];
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            y[r] = _mm512_setzero_ps();
        }
        multiply_panel(&at, rows, y);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            if (r < p->rows) {
                sp_bf16_put(p, r, i, y[r], p->accumulate, p->bias);
            }
        }
    }
    sp_tiles_close(&before);
}

/* For few rows, tiles of few rows. */
static void one_row(const sp_bf16_product *p) {
    product(p, 1);
}

static void two_rows(const sp_bf16_product *p) {
    product(p, 2);
}

static void four_rows(const sp_bf16_product *p) {
    product(p, 4);
}

static void eight_rows(const sp_bf16_product *p) {
    product(p, 8);
}

static void whole_tiles(const sp_bf16_product *p) {
    product(p, TILE);
}

static void scaled_product_bf16(const sp_bf16_product *p) {
    if (p->rows > 8) {
        whole_tiles(p);
    } else if (p->rows > 4) {
        eight_rows(p);
    } else if (p->rows > 2) {
        four_rows(p);
    } else if (p->rows == 2) {
        two_rows(p);
    } else {
        one_row(p);
    }
}

/* Of row r in block b at to[16 b + r]. */
static void block_sums(const uint16_t *x, int64_t rows, int64_t in, float *to) {
    const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    for (int64_t r = 0; r < rows; r++) {
        float *at = to + r;
        for (int64_t b = 0; b < in / BLOCK; b++) {
            const __m512bh v = (__m512bh)_mm512_loadu_si512(x + r * in + b * BLOCK);
            at[b * TILE] = _mm512_reduce_add_ps(_mm512_dpbf16_ps(_mm512_setzero_ps(), v, ones));
        }
    }
}

void SP_SIMD_NAME(sp_simd_fill_scaled)(sp_simd *table) {
    table->scaled_product_bf16 = scaled_product_bf16;
    table->block_sums = block_sums;
}

#else

void SP_SIMD_NAME(sp_simd_fill_scaled)(sp_simd *table) {
    table->scaled_product_bf16 = NULL;
    table->block_sums = NULL;
}

#endif
