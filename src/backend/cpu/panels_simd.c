/* Products of f32 whose operands were laid out for them, and those layouts (simd.h): a tile of rows
 * by a panel of columns stays in registers over all of K. Each element is summed over k in order,
 * whatever the tile, so that a row's result does not depend on its neighbours. */
#include "backend/cpu/simd_variant.h"

#if defined(__FMA__)
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* Sums of a tile, a row of the panel and a broadcast number fill the registers. */
enum { ROWS = SP_VEC == 16 ? 14 : 6, VECS = 2, COLUMNS = VECS * SP_VEC };
enum { LINE = 64, STRIP = 8 /* rows that are laid out together */ };

/* ---- vectors of up to SP_VEC numbers, and squares of them ---- */

#if defined(__AVX512F__)

/* The first n numbers; zeros behind them. */
INLINE sp_vec load(const float *x, int64_t n) {
    return (sp_vec)_mm512_maskz_loadu_ps((__mmask16)((1U << n) - 1), x);
}

INLINE void store(float *y, sp_vec x, int64_t n) {
    _mm512_mask_storeu_ps(y, (__mmask16)((1U << n) - 1), (__m512)x);
}

/* The 16 x 16 matrix x, transposed. */
INLINE void transpose(sp_vec x[SP_VEC]) {
    __m512d t[SP_VEC];
    for (int i = 0; i < SP_VEC; i += 2) { /* pairs within quarters */
        t[i] = (__m512d)_mm512_unpacklo_ps((__m512)x[i], (__m512)x[i + 1]);
        t[i + 1] = (__m512d)_mm512_unpackhi_ps((__m512)x[i], (__m512)x[i + 1]);
    }
    for (int i = 0; i < SP_VEC; i += 4) { /* fours: column j of quarter q is in lane q of i + j */
        x[i] = (sp_vec)_mm512_unpacklo_pd(t[i], t[i + 2]);
        x[i + 1] = (sp_vec)_mm512_unpackhi_pd(t[i], t[i + 2]);
        x[i + 2] = (sp_vec)_mm512_unpacklo_pd(t[i + 1], t[i + 3]);
        x[i + 3] = (sp_vec)_mm512_unpackhi_pd(t[i + 1], t[i + 3]);
    }
    sp_vec y[SP_VEC];
    for (int j = 0; j < 4; j++) { /* quarters of rows 0-3, 4-7, 8-11, 12-15 */
        const __m512 low[2] = {(__m512)x[j], (__m512)x[j + 8]};
        const __m512 high[2] = {(__m512)x[j + 4], (__m512)x[j + 12]};
        const __m512 even[2] = {_mm512_shuffle_f32x4(low[0], high[0], 0x88),
                                _mm512_shuffle_f32x4(low[1], high[1], 0x88)};
        const __m512 odd[2] = {_mm512_shuffle_f32x4(low[0], high[0], 0xDD),
                               _mm512_shuffle_f32x4(low[1], high[1], 0xDD)};
        y[j] = (sp_vec)_mm512_shuffle_f32x4(even[0], even[1], 0x88);
        y[j + 4] = (sp_vec)_mm512_shuffle_f32x4(odd[0], odd[1], 0x88);
        y[j + 8] = (sp_vec)_mm512_shuffle_f32x4(even[0], even[1], 0xDD);
        y[j + 12] = (sp_vec)_mm512_shuffle_f32x4(odd[0], odd[1], 0xDD);
    }
    memcpy(x, y, sizeof y);
}

#else

INLINE __m256i first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

INLINE sp_vec load(const float *x, int64_t n) {
    return (sp_vec)_mm256_maskload_ps(x, first(n));
}

INLINE void store(float *y, sp_vec x, int64_t n) {
    _mm256_maskstore_ps(y, first(n), (__m256)x);
}

/* The 8 x 8 matrix x, transposed. */
INLINE void transpose(sp_vec x[SP_VEC]) {
    __m256d t[SP_VEC];
    sp_vec y[SP_VEC];
    for (int i = 0; i < SP_VEC; i += 2) { /* pairs within halves */
        t[i] = (__m256d)_mm256_unpacklo_ps((__m256)x[i], (__m256)x[i + 1]);
        t[i + 1] = (__m256d)_mm256_unpackhi_ps((__m256)x[i], (__m256)x[i + 1]);
    }
    for (int i = 0; i < SP_VEC; i += 4) { /* fours: column j of half h is in lane h of i + j */
        y[i] = (sp_vec)_mm256_unpacklo_pd(t[i], t[i + 2]);
        y[i + 1] = (sp_vec)_mm256_unpackhi_pd(t[i], t[i + 2]);
        y[i + 2] = (sp_vec)_mm256_unpacklo_pd(t[i + 1], t[i + 3]);
        y[i + 3] = (sp_vec)_mm256_unpackhi_pd(t[i + 1], t[i + 3]);
    }
    for (int j = 0; j < 4; j++) { /* halves of rows 0-3 and 4-7 */
        x[j] = (sp_vec)_mm256_permute2f128_ps((__m256)y[j], (__m256)y[j + 4], 0x20);
        x[j + 4] = (sp_vec)_mm256_permute2f128_ps((__m256)y[j], (__m256)y[j + 4], 0x31);
    }
}

#endif

/* ---- layouts ---- */

/* y[c y_row + r] = x[r x_row + c] for r < rows, of which there are SP_VEC at most, and zeros up to
 * `width`. */
static void turn(const float *x, int64_t x_row, int64_t rows, int64_t columns, float *y,
                 int64_t y_row, int64_t width) {
    for (int64_t c = 0; c < columns; c += SP_VEC) {
        const int64_t n = columns - c < SP_VEC ? columns - c : SP_VEC;
        sp_vec square[SP_VEC];
        for (int r = 0; r < SP_VEC; r++) {
            square[r] = r < rows ? load(x + r * x_row + c, n) : (sp_vec){0};
        }
        transpose(square);
        for (int64_t i = 0; i < n; i++) {
            store(y + (c + i) * y_row, square[i], width);
        }
    }
}

static int64_t between(int64_t n, int64_t least, int64_t most) {
    return n < least ? least : n > most ? most : n;
}

/* The rows after those in hand, from memory where their distance hides them from the CPU. */
INLINE void fetch_rows(const float *x, int64_t x_row, int64_t rows, int64_t columns) {
    for (int64_t k = 0; k < rows; k++) {
        for (int64_t c = 0; c < columns; c += LINE / (int64_t)sizeof *x) {
            __builtin_prefetch(x + k * x_row + c, 0, 2);
        }
    }
}

/* A few rows at a time go to all panels, so that they are read as they lie. */
static void panels_rows(const sp_paneling *p) {
    for (int64_t k0 = 0; k0 < p->k_rows; k0 += STRIP) {
        const int64_t end = k0 + STRIP < p->k_rows ? k0 + STRIP : p->k_rows;
        fetch_rows(p->x + end * p->x_row, p->x_row, between(p->k_rows - end, 0, STRIP), p->N);
        for (int64_t n = 0; n < p->N; n += COLUMNS) {
            float *to = p->to + n * p->K + p->k0 * COLUMNS;
            for (int64_t k = k0; k < end; k++) {
                for (int v = 0; v < VECS; v++) {
                    const int64_t at = n + v * SP_VEC, left = between(p->N - at, 0, SP_VEC);
                    sp_vec_store(to + k * COLUMNS + v * SP_VEC,
                                 load(p->x + k * p->x_row + at, left));
                }
            }
        }
    }
}

static void panels_columns(const sp_paneling *p) {
    const int64_t padded = (p->N + COLUMNS - 1) / COLUMNS * COLUMNS;
    for (int64_t n = 0; n < padded; n += SP_VEC) {
        float *to = p->to + n / COLUMNS * COLUMNS * p->K + p->k0 * COLUMNS + n % COLUMNS;
        turn(p->x + n * p->x_row, p->x_row, between(p->N - n, 0, SP_VEC), p->k_rows, to, COLUMNS,
             SP_VEC);
    }
}

static int64_t tiles_of(int64_t M) {
    return (M + ROWS - 1) / ROWS;
}

/* Tiles are about equal: the first row of tile i. */
static int64_t tile_at(int64_t M, int64_t i) {
    return M * i / tiles_of(M);
}

static void tiles_rows(const sp_tiling *t) {
    for (int64_t i = 0; i < tiles_of(t->M); i++) {
        const int64_t m0 = tile_at(t->M, i), rows = tile_at(t->M, i + 1) - m0;
        turn(t->x + m0 * t->x_row, t->x_row, rows, t->k_rows, t->to + m0 * t->K + t->k0 * rows,
             rows, rows);
    }
}

static void tiles_columns(const sp_tiling *t) {
    for (int64_t k0 = 0; k0 < t->k_rows; k0 += STRIP) {
        const int64_t end = k0 + STRIP < t->k_rows ? k0 + STRIP : t->k_rows;
        fetch_rows(t->x + end * t->x_row, t->x_row, between(t->k_rows - end, 0, STRIP), t->M);
        for (int64_t i = 0; i < tiles_of(t->M); i++) {
            const int64_t m0 = tile_at(t->M, i), rows = tile_at(t->M, i + 1) - m0;
            float *to = t->to + m0 * t->K + t->k0 * rows;
            for (int64_t k = k0; k < end; k++) {
                store(to + k * rows, load(t->x + k * t->x_row + m0, rows), rows);
            }
        }
    }
}

/* ---- products ---- */

/* A tile of rows by a panel. What comes next is fetched meanwhile: `step` bytes a k. */
typedef struct cell {
    const float *a, *b;
    int64_t K, columns;
    float *c;
    int64_t c_row;
    bool accumulate;
    const char *next;
    int64_t step;
} cell;

/* C (= or +=) sums, of which `columns` numbers count. */
INLINE void put(const cell *p, int rows, sp_vec sums[ROWS][VECS]) {
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < VECS; v++) {
            const int64_t n = between(p->columns - v * SP_VEC, 0, SP_VEC);
            float *c = p->c + r * p->c_row + v * SP_VEC;
            const sp_vec before = p->accumulate ? load(c, n) : (sp_vec){0};
            store(c, before + sums[r][v], n);
        }
    }
}

INLINE void multiply(const cell *p, int rows) {
    const float *a = p->a, *b = p->b;
    const char *next = p->next;
    const int64_t step = p->step;
    sp_vec sums[ROWS][VECS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < VECS; v++) {
            sums[r][v] = (sp_vec){0};
            __builtin_prefetch(p->c + r * p->c_row + v * SP_VEC, 1);
        }
    }
    for (int64_t k = 0; k < p->K; k++, a += rows, b += COLUMNS, next += step) {
        const sp_vec b0 = sp_vec_load(b), b1 = sp_vec_load(b + SP_VEC);
        __builtin_prefetch(next, 0, 2);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            sums[r][0] += a[r] * b0;
            sums[r][1] += a[r] * b1;
        }
    }
    put(p, rows, sums);
}

/* A function a height, so that sums are registers. */
#define TILE(rows)                                                                                 \
    static void multiply_##rows(const cell *p) {                                                   \
        multiply(p, rows);                                                                         \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)
#if defined(__AVX512F__)
TILE(7)
TILE(8)
TILE(9)
TILE(10)
TILE(11)
TILE(12)
TILE(13)
TILE(14)
#endif

static void (*const tiles[ROWS + 1])(const cell *) = {
    NULL,        multiply_1, multiply_2, multiply_3,  multiply_4,  multiply_5,  multiply_6,
#if defined(__AVX512F__)
    multiply_7,  multiply_8, multiply_9, multiply_10, multiply_11, multiply_12, multiply_13,
    multiply_14,
#endif
};

/* All tiles meet a panel before the next one, which they fetch into the second-level cache. */
static void panels_product(const sp_panels_product *p) {
    const int64_t n_tiles = tiles_of(p->M);
    const int64_t panel_bytes = p->K * COLUMNS * (int64_t)sizeof(float);
    const int64_t share = (panel_bytes / n_tiles + LINE) / LINE * LINE;
    for (int64_t n = 0; n < p->N; n += COLUMNS) {
        const float *b = p->b + n / COLUMNS * p->b_panel;
        for (int64_t i = 0; i < n_tiles; i++) {
            const int64_t m0 = tile_at(p->M, i);
            const bool last = n + COLUMNS >= p->N;
            const cell one = {.a = p->a + m0 * p->K,
                              .b = b,
                              .K = p->K,
                              .columns = p->N - n,
                              .c = p->c + m0 * p->c_row + n,
                              .c_row = p->c_row,
                              .accumulate = p->accumulate,
                              .next = (const char *)(last ? b : b + p->b_panel) + i * share,
                              .step = (share + p->K - 1) / p->K};
            tiles[tile_at(p->M, i + 1) - m0](&one);
        }
    }
}
#endif

void SP_SIMD_NAME(sp_simd_fill_panels)(sp_simd *table) {
#if defined(__FMA__)
    table->panel = COLUMNS;
    table->panels_rows = panels_rows;
    table->panels_columns = panels_columns;
    table->tiles_rows = tiles_rows;
    table->tiles_columns = tiles_columns;
    table->panels_product = panels_product;
#else
    table->panel = 0;
    table->panels_rows = NULL;
    table->panels_columns = NULL;
    table->tiles_rows = NULL;
    table->tiles_columns = NULL;
    table->panels_product = NULL;
#endif
}
