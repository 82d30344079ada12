/* Layouts of bf16 products: 32 inner values by 64 columns as 16 pairs (a layout block), and
 * transposes. Whole blocks go through registers where there are AVX-512 instructions; edges, and
 * other instruction sets, go by element. */
#include "backend/cpu/operand.h"
#include "backend/cpu/simd_variant.h"

#define INLINE static inline __attribute__((always_inline))

enum { K = SP_LAYOUT_K, N = SP_LAYOUT_N };

/* Where (k, n) lies in a layout block. */
INLINE int64_t place(int64_t k, int64_t n) {
    return k / 2 * (2 * N) + 2 * n + k % 2;
}

#if defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

enum { LANES = 16, LINE = 64 };

/* What is packed is read much later: past the cache, where a whole line is written. */
INLINE void put_line(uint16_t *to, __m512i x) {
    if ((uintptr_t)to % LINE == 0) {
        _mm512_stream_si512((__m512i *)(void *)to, x);
    } else {
        _mm512_storeu_si512(to, x);
    }
}

/* Two rows of 16 floats as 16 pairs of bf16: low in the low halves. */
INLINE __m512i round_pair(__m512 low, __m512 high) {
#if defined(__AVX512BF16__)
    const __m512i packed = (__m512i)_mm512_cvtne2ps_pbh(high, low); /* low's 16, then high's */
    const __m256i a = _mm512_castsi512_si256(packed), b = _mm512_extracti64x4_epi64(packed, 1);
    return _mm512_or_si512(_mm512_cvtepu16_epi32(a),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
#else
    const __m512i one = _mm512_set1_epi32(1), half = _mm512_set1_epi32(0x7FFF);
    __m512i bits[2] = {_mm512_castps_si512(low), _mm512_castps_si512(high)};
    for (int i = 0; i < 2; i++) {
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits[i], 16), one);
        const __m512i up = _mm512_add_epi32(bits[i], _mm512_add_epi32(half, odd));
        const __m512i quiet = _mm512_or_si512(bits[i], _mm512_set1_epi32(0x400000));
        const __mmask16 nan = _mm512_cmp_ps_mask(_mm512_castsi512_ps(bits[i]),
                                                 _mm512_castsi512_ps(bits[i]), _CMP_UNORD_Q);
        bits[i] = _mm512_mask_mov_epi32(up, nan, quiet);
    }
    return _mm512_or_si512(_mm512_srli_epi32(bits[0], 16),
                           _mm512_and_si512(bits[1], _mm512_set1_epi32((int)0xFFFF0000)));
#endif
}

/* 32 floats in a row as 16 pairs: neighbours become a pair. */
INLINE __m512i round_row(const float *x) {
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd =
        _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + LANES);
    return round_pair(_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b));
}

/* Two rows of 16 bf16 as 16 pairs. */
INLINE __m512i join_rows(const uint16_t *low, const uint16_t *high) {
    const __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)low);
    const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)high);
    return _mm512_or_si512(_mm512_cvtepu16_epi32(a),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
}

/* The 16 x 16 matrix of 32-bit values x, transposed. */
INLINE void transpose_16(__m512i x[LANES]) {
    __m512i t[LANES];
    for (int i = 0; i < LANES; i += 2) { /* pairs within quarters */
        t[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4) { /* fours: column j of quarter q is in lane q of x[i + j] */
        x[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int j = 0; j < 4; j++) { /* quarters of rows 0-3, 4-7, 8-11, 12-15 */
        const __m512i a = _mm512_shuffle_i32x4(x[j], x[j + 4], 0x88);
        const __m512i b = _mm512_shuffle_i32x4(x[j + 8], x[j + 12], 0x88);
        const __m512i c = _mm512_shuffle_i32x4(x[j], x[j + 4], 0xDD);
        const __m512i d = _mm512_shuffle_i32x4(x[j + 8], x[j + 12], 0xDD);
        t[j] = _mm512_shuffle_i32x4(a, b, 0x88);
        t[j + 4] = _mm512_shuffle_i32x4(c, d, 0x88);
        t[j + 8] = _mm512_shuffle_i32x4(a, b, 0xDD);
        t[j + 12] = _mm512_shuffle_i32x4(c, d, 0xDD);
    }
    memcpy(x, t, sizeof t);
}

static void rows_f32(const float *x, int64_t x_row, uint16_t *to) {
    for (int64_t k = 0; k < K; k += 2) {
        for (int64_t n = 0; n < N; n += LANES) {
            const float *low = x + k * x_row + n;
            put_line(to + place(k, n),
                     round_pair(_mm512_loadu_ps(low), _mm512_loadu_ps(low + x_row)));
        }
    }
}

static void rows_bf16(const uint16_t *x, int64_t x_row, uint16_t *to) {
    for (int64_t k = 0; k < K; k += 2) {
        for (int64_t n = 0; n < N; n += LANES) {
            const uint16_t *low = x + k * x_row + n;
            put_line(to + place(k, n), join_rows(low, low + x_row));
        }
    }
}

static void columns_f32(const float *x, int64_t x_row, uint16_t *to) {
    for (int64_t n = 0; n < N; n += LANES) {
        __m512i rows[LANES];
        for (int i = 0; i < LANES; i++) {
            rows[i] = round_row(x + (n + i) * x_row);
        }
        transpose_16(rows);
        for (int i = 0; i < LANES; i++) {
            put_line(to + place(2 * i, n), rows[i]);
        }
    }
}

/* 32 rows by 16 columns. */
static void turn(const uint16_t *x, int64_t x_row, uint16_t *y, int64_t y_row) {
    __m512i pairs[LANES];
    for (int i = 0; i < LANES; i++) {
        pairs[i] = join_rows(x + 2 * i * x_row, x + (2 * i + 1) * x_row);
    }
    transpose_16(pairs);
    for (int i = 0; i < LANES; i++) {
        put_line(y + i * y_row, pairs[i]);
    }
}
enum { TURN_ROWS = 32, TURN_COLUMNS = 16 };
#endif

/* Any number of rows k and columns n of x, by element. */
static void edges_f32(const float *x, int64_t k_step, int64_t n_step, int rows, int columns,
                      uint16_t *to) {
    memset(to, 0, K * N * sizeof *to);
    for (int64_t k = 0; k < rows; k++) {
        for (int64_t n = 0; n < columns; n++) {
            to[place(k, n)] = sp_bf16_from_f32(x[k * k_step + n * n_step]);
        }
    }
}

static void pack_rows_f32(const float *x, int64_t x_row, int rows, int columns, uint16_t *to) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    if (rows == K && columns == N) {
        rows_f32(x, x_row, to);
        _mm_sfence();
        return;
    }
#endif
    edges_f32(x, x_row, 1, rows, columns, to);
}

static void pack_rows_bf16(const uint16_t *x, int64_t x_row, int rows, int columns, uint16_t *to) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    if (rows == K && columns == N) {
        rows_bf16(x, x_row, to);
        _mm_sfence();
        return;
    }
#endif
    memset(to, 0, K * N * sizeof *to);
    for (int64_t k = 0; k < rows; k++) {
        for (int64_t n = 0; n < columns; n++) {
            to[place(k, n)] = x[k * x_row + n];
        }
    }
}

static void pack_columns_f32(const float *x, int64_t x_row, int rows, int columns, uint16_t *to) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    if (rows == K && columns == N) {
        columns_f32(x, x_row, to);
        _mm_sfence();
        return;
    }
#endif
    edges_f32(x, 1, x_row, rows, columns, to);
}

static void transpose_bf16(const uint16_t *x, int64_t x_row, int64_t rows, int64_t columns,
                           uint16_t *y, int64_t y_row) {
    int64_t whole = 0, across = 0;
#if defined(__AVX512BW__) && defined(__AVX512VL__)
    whole = rows / TURN_ROWS * TURN_ROWS;
    across = columns / TURN_COLUMNS * TURN_COLUMNS;
    for (int64_t c = 0; c < across; c += TURN_COLUMNS) {
        for (int64_t r = 0; r < whole; r += TURN_ROWS) {
            turn(x + r * x_row + c, x_row, y + c * y_row + r, y_row);
        }
    }
    _mm_sfence();
#endif
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = r < whole ? across : 0; c < columns; c++) {
            y[c * y_row + r] = x[r * x_row + c];
        }
    }
}

void SP_SIMD_NAME(sp_simd_fill_pack)(sp_simd *table) {
    table->pack_rows_f32 = pack_rows_f32;
    table->pack_rows_bf16 = pack_rows_bf16;
    table->pack_columns_f32 = pack_columns_f32;
    table->transpose_bf16 = transpose_bf16;
}
