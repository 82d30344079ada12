/* Attention with relative terms: looking terms up by distance, and the softmax of a row of scores.
 */
#include <math.h>

#include "backend/cpu/operand.h"
#include "backend/cpu/simd_variant.h"

enum { TILE = 16 };

#if defined(__AVX512F__)
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

/* 16 x 16 numbers in registers: neighbours change places at distances 1, 2, 4 and 8. */
INLINE void turn(__m512 x[TILE]) {
    __m512 a[TILE], b[TILE];
#pragma GCC unroll 8
    for (int i = 0; i < TILE; i += 2) {
        a[i] = _mm512_unpacklo_ps(x[i], x[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(x[i], x[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < TILE; i += 4) {
        b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
        b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
        b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        a[i] = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88);
        a[i + 4] = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
        a[i + 8] = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
        a[i + 12] = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        x[i] = _mm512_shuffle_f32x4(a[i], a[i + 8], 0x88);
        x[i + 8] = _mm512_shuffle_f32x4(a[i], a[i + 8], 0xdd);
    }
}

/* table[map[0]] .. table[map[15]]. As buckets are monotonic, those of 16 neighbouring distances lie
 * within 16 numbers as a rule, which one load and one permutation give. */
INLINE __m512 look_up(const float *table, const int32_t *map) {
    const int32_t low = map[0] < map[TILE - 1] ? map[0] : map[TILE - 1];
    const int32_t high = map[0] < map[TILE - 1] ? map[TILE - 1] : map[0];
    const __m512i at = _mm512_loadu_si512(map);
    if (high - low < TILE) {
        return _mm512_permutexvar_ps(_mm512_sub_epi32(at, _mm512_set1_epi32(low)),
                                     _mm512_loadu_ps(table + low));
    }
    return _mm512_i32gather_ps(at, table, sizeof *table);
}

/* The tile whose first query and key are q0 and k0. */
static void add_tile(const sp_relative_block *p, int64_t q0, int64_t k0) {
    __m512 sums[TILE];
#pragma GCC unroll 16
    for (int64_t j = 0; j < TILE; j++) { /* by keys, queries along vectors */
        sums[j] = p->p2c != NULL ? look_up(p->p2c + (k0 + j) * p->table_row, p->up + q0 - k0 - j)
                                 : _mm512_setzero_ps();
    }
    turn(sums);
#pragma GCC unroll 16
    for (int64_t i = 0; i < TILE; i++) {
        float *s = p->s + (q0 + i) * p->s_row + k0;
        __m512 sum = _mm512_add_ps(_mm512_loadu_ps(s), sums[i]);
        if (p->c2p != NULL) {
            sum = _mm512_add_ps(sum,
                                look_up(p->c2p + (q0 + i) * p->table_row, p->down + k0 - q0 - i));
        }
        _mm512_storeu_ps(s, sum);
    }
}
#else
static void add_tile(const sp_relative_block *p, int64_t q0, int64_t k0) {
    for (int64_t i = q0; i < q0 + TILE; i++) {
        for (int64_t j = k0; j < k0 + TILE; j++) {
            const int32_t b = p->up[i - j];
            float sum = p->p2c != NULL ? p->p2c[j * p->table_row + b] : 0.0F;
            sum += p->c2p != NULL ? p->c2p[i * p->table_row + b] : 0.0F;
            p->s[i * p->s_row + j] += sum;
        }
    }
}
#endif

static void relative_add(const sp_relative_block *p) {
    for (int64_t q = 0; q < p->n_queries; q += TILE) {
        for (int64_t k = 0; k < p->n_keys; k += TILE) {
            add_tile(p, q, k);
        }
    }
}

static float row_max(const float *x, int64_t n) {
    float lanes[TILE];
    int64_t i = 0;
    for (int j = 0; j < TILE; j++) {
        lanes[j] = -INFINITY;
    }
    for (; i + TILE <= n; i += TILE) {
#pragma omp simd
        for (int j = 0; j < TILE; j++) {
            lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
        }
    }
    for (; i < n; i++) {
        lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    }
    for (int j = 1; j < TILE; j++) {
        lanes[0] = lanes[j] > lanes[0] ? lanes[j] : lanes[0];
    }
    return lanes[0];
}

static float softmax_row(float *x, int64_t n, int64_t padded, float scale, uint16_t *y) {
    const float max = row_max(x, n);
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        x[i] = sp_exp((x[i] - max) * scale);
        sum += x[i];
    }
    for (int64_t i = n; i < padded; i++) {
        x[i] = 0;
    }
    if (y != NULL) {
#pragma omp simd
        for (int64_t i = 0; i < padded; i++) {
            y[i] = sp_bf16_from_f32(x[i]);
        }
    }
    return sum;
}

void SP_SIMD_NAME(sp_simd_fill_relative)(sp_simd *table) {
    table->relative_add = relative_add;
    table->softmax_row = softmax_row;
}
