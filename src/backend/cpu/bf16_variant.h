/* For the *_simd.c files of products in bf16: the state of AMX's tiles, and how results are put. */
#ifndef SP_BACKEND_CPU_BF16_VARIANT_H
#define SP_BACKEND_CPU_BF16_VARIANT_H

#include "backend/cpu/simd_variant.h"

#if defined(__AVX512BF16__)

#include <immintrin.h>

/* y (= or +=) sums + bias: a row of one panel. */
static inline void sp_bf16_put(const sp_bf16_product *p, int64_t row, int panel, __m512 sums,
                               bool accumulate, const float *bias) {
    const int64_t out0 = (p->panel + panel) * SP_PANEL, n = p->w->out - out0;
    const __mmask16 valid = (__mmask16)(n < SP_PANEL ? (1U << n) - 1 : 0xFFFFU);
    float *y = p->y + row * p->w->out + out0;
    if (accumulate) {
        sums = _mm512_add_ps(_mm512_maskz_loadu_ps(valid, y), sums);
    }
    if (bias != NULL) {
        sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(valid, bias + out0));
    }
    _mm512_mask_storeu_ps(y, valid, sums);
}

#if defined(__AMX_BF16__)

/* The state of the tiles is the thread's: what was there is put back, for other users of them. */
typedef struct sp_tiles {
    uint8_t palette, start_row, zero[14];
    uint16_t columns[16]; /* bytes of a row */
    uint8_t rows[16];
} sp_tiles;

/* Tiles 0 to 5 have so many rows, tiles 6 and 7 sixteen; all have 64 bytes a row. */
static inline void sp_tiles_open(int rows, sp_tiles *before) {
    sp_tiles all = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        all.columns[i] = 64;
        all.rows[i] = (uint8_t)(i < 6 ? rows : 16);
    }
    _tile_storeconfig(before);
    _tile_loadconfig(&all);
}

static inline void sp_tiles_close(const sp_tiles *before) {
    if (before->palette != 0) {
        _tile_loadconfig(before);
    } else {
        _tile_release();
    }
}

/* The rows of a tile: those of x, or the padded last ones. */
static inline const uint16_t *sp_bf16_rows(const sp_bf16_product *p, int64_t tile) {
    return (tile + 1) * SP_BF16_TILE <= p->rows ? p->x + tile * SP_BF16_TILE * p->w->in : p->last;
}

#endif
#endif
#endif
