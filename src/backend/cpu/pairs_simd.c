/* Attention in bf16: products of pairs, the changes of layout around them, and the softmax between
 * them. Empty below AVX512_BF16. */
#include "backend/cpu/simd_variant.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#include <math.h>

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

#if defined(__AMX_BF16__)
enum { TILE_ROWS = 16, TILE_K = 32, TAIL_K = 256 };

/* The last rows of A, fewer than a tile, with zeros below. */
static void copy_tail(const sp_pair_block *p, int64_t m, uint16_t *to) {
    const size_t row = (size_t)p->K * sizeof *to;
    for (int64_t i = 0; i < TILE_ROWS; i++) {
        if (m + i < p->M) {
            memcpy(to + i * p->K, p->a + (m + i) * p->a_row, row);
        } else {
            memset(to + i * p->K, 0, row);
        }
    }
}

/* Rows of C [.., columns], between arrays whose rows lie apart. */
static void copy_rows(const float *from, int64_t from_row, float *to, int64_t to_row, int64_t rows,
                      int64_t columns) {
    for (int64_t i = 0; i < rows; i++) {
        memcpy(to + i * to_row, from + i * from_row, (size_t)columns * sizeof *to);
    }
}

/* What LDTILECFG reads: every tile has 16 rows of 64 bytes. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Rows of B that are read next, fetched a few a step. */
typedef struct tile_ahead {
    const char *at;
    int64_t row; /* bytes from one to the next */
    int rows;    /* a step */
} tile_ahead;

static const tile_config whole_tiles = {.palette = 1,
                                        .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                        .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

typedef struct tile_job {
    const uint16_t *a;
    const uint32_t *b;
    float *c;
    int64_t a_row, b_row, c_row, K;
    bool accumulate;
    tile_ahead ahead;
} tile_job;

INLINE void fetch_ahead(tile_ahead *x) {
    enum { LINE = 64 };
    for (int i = 0; i < x->rows; i++, x->at += x->row) {
        _mm_prefetch(x->at, _MM_HINT_T0);
        _mm_prefetch(x->at + LINE, _MM_HINT_T0);
    }
}

/* C of up to 2 x 2 tiles (0 to 3) from two tiles of A (4, 5) and two of B (6, 7); down and across
 * are constants where this is inlined. */
INLINE void tile_load_sums(const tile_job *j, int down, int across) {
    const int64_t row = j->c_row * (int64_t)sizeof(float);
    float *low = j->c + TILE_ROWS * j->c_row;
    _tile_loadd(0, j->c, row);
    if (across > 1) {
        _tile_loadd(1, j->c + LANES, row);
    }
    if (down > 1) {
        _tile_loadd(2, low, row);
    }
    if (down > 1 && across > 1) {
        _tile_loadd(3, low + LANES, row);
    }
}

INLINE void tile_store_sums(const tile_job *j, int down, int across) {
    const int64_t row = j->c_row * (int64_t)sizeof(float);
    float *low = j->c + TILE_ROWS * j->c_row;
    _tile_stored(0, j->c, row);
    if (across > 1) {
        _tile_stored(1, j->c + LANES, row);
    }
    if (down > 1) {
        _tile_stored(2, low, row);
    }
    if (down > 1 && across > 1) {
        _tile_stored(3, low + LANES, row);
    }
}

INLINE void tile_step(const tile_job *j, int64_t k, int down, int across) {
    const int64_t a_row = j->a_row * (int64_t)sizeof *j->a,
                  b_row = j->b_row * (int64_t)sizeof *j->b;
    const uint32_t *b = j->b + k / 2 * j->b_row;
    _tile_loadd(4, j->a + k, a_row);
    _tile_loadd(6, b, b_row);
    _tile_dpbf16ps(0, 4, 6);
    if (across > 1) {
        _tile_loadd(7, b + LANES, b_row);
        _tile_dpbf16ps(1, 4, 7);
    }
    if (down > 1) {
        _tile_loadd(5, j->a + k + TILE_ROWS * j->a_row, a_row);
        _tile_dpbf16ps(2, 5, 6);
    }
    if (down > 1 && across > 1) {
        _tile_dpbf16ps(3, 5, 7);
    }
}

INLINE void tile_block(tile_job *j, int down, int across) {
    if (j->accumulate) {
        tile_load_sums(j, down, across);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t k = 0; k < j->K; k += TILE_K) {
        tile_step(j, k, down, across);
        fetch_ahead(&j->ahead);
    }
    tile_store_sums(j, down, across);
}

INLINE void tile_columns(const sp_pair_block *p, int64_t n, int across, const uint16_t *tail) {
    float c[TILE_ROWS * 2 * LANES];
    tile_job j = {.a = p->a,
                  .b = p->b + n,
                  .c = p->c + n,
                  .a_row = p->a_row,
                  .b_row = p->b_row,
                  .c_row = p->c_row,
                  .K = p->K,
                  .accumulate = p->accumulate};
    int64_t m = 0;
    for (; m + 2 * TILE_ROWS <= p->M; m += 2 * TILE_ROWS) {
        tile_block(&j, 2, across);
        j.a += 2 * TILE_ROWS * p->a_row;
        j.c += 2 * TILE_ROWS * p->c_row;
    }
    for (; m + TILE_ROWS <= p->M; m += TILE_ROWS) {
        tile_block(&j, 1, across);
        j.a += TILE_ROWS * p->a_row;
        j.c += TILE_ROWS * p->c_row;
    }
    if (m == p->M) {
        return;
    }
    float *to = j.c;
    const int64_t width = (int64_t)across * LANES;
    copy_rows(to, p->c_row, c, width, p->accumulate ? p->M - m : 0, width);
    /* Loads of tiles are not seen to read memory. */
    __asm__ volatile("" ::: "memory");
    j.a = tail, j.a_row = p->K, j.c = c, j.c_row = width;
    tile_block(&j, 1, across);
    copy_rows(c, width, to, p->c_row, p->M - m, width);
}

static void pair_product(const sp_pair_block *p) {
    uint16_t tail[TILE_ROWS * TAIL_K];
    if (p->M % TILE_ROWS != 0) {
        copy_tail(p, p->M / TILE_ROWS * TILE_ROWS, tail);
    }
    _tile_loadconfig(&whole_tiles);
    int64_t n = 0;
    for (; n + 2 * LANES <= p->N; n += 2 * LANES) {
        tile_columns(p, n, 2, tail);
    }
    if (n < p->N) {
        tile_columns(p, n, 1, tail);
    }
    _tile_release();
}

/* As much of K as keeps a pair of B's tiles over it in the first cache; rows of C that are put
 * together before they are written past the caches. */
enum { PIECE_K = 256, STREAM_ROWS = 512 };

/* Inner values k .. k + length - 1 of all rows with `across` tiles of columns from n on, to c;
 * next: what of B is read after them. */
INLINE void layout_piece(const sp_layout_product *p, int64_t n, int64_t k, int64_t length,
                         int across, const uint32_t *next, float *c, int64_t c_row) {
    const int64_t steps = (p->M + 2 * TILE_ROWS - 1) / (2 * TILE_ROWS) * (length / TILE_K);
    tile_job j = {.a = p->a + k,
                  .b = p->b + (n / SP_LAYOUT_N * p->K + k) / 2 * SP_LAYOUT_N + n % SP_LAYOUT_N,
                  .c = c,
                  .a_row = p->K,
                  .b_row = SP_LAYOUT_N,
                  .c_row = c_row,
                  .K = length,
                  .accumulate = p->accumulate || k > 0,
                  .ahead = {.at = (const char *)next,
                            .row = SP_LAYOUT_N * sizeof *next,
                            .rows = (int)((length / 2 + steps - 1) / steps)}};
    int64_t m = 0;
    for (; m + 2 * TILE_ROWS <= p->M; m += 2 * TILE_ROWS) {
        tile_block(&j, 2, across);
        j.a += 2 * TILE_ROWS * j.a_row;
        j.c += 2 * TILE_ROWS * j.c_row;
    }
    if (m < p->M) {
        tile_block(&j, 1, across);
    }
}

/* Two tiles of columns, or one, from where they were put together to C. */
static void stream_columns(const sp_layout_product *p, int64_t n, const float *from) {
    /* Stores of tiles are not seen to write memory. */
    __asm__ volatile("" ::: "memory");
    for (int64_t m = 0; m < p->M; m++, from += 2 * LANES) {
        float *to = p->c + m * p->N + n;
        _mm512_stream_ps(to, _mm512_load_ps(from));
        if (n + LANES < p->N) {
            _mm512_stream_ps(to + LANES, _mm512_load_ps(from + LANES));
        }
    }
}

static void layout_product(const sp_layout_product *p) {
    _Alignas(64) float space[STREAM_ROWS * 2 * LANES];
    const bool stream = p->stream && p->M <= STREAM_ROWS && (uintptr_t)p->c % sizeof(__m512) == 0;
    const int64_t pieces = (p->K + PIECE_K - 1) / PIECE_K;
    const int64_t most = (p->K + pieces * TILE_K - 1) / (pieces * TILE_K) * TILE_K;
    const uint32_t *at = p->b; /* half a column of blocks */
    _tile_loadconfig(&whole_tiles);
    for (int64_t n = 0; n < p->N; n += 2 * LANES) {
        const int64_t half = n % SP_LAYOUT_N == 0 ? 2 * LANES : p->K / 2 * SP_LAYOUT_N - 2 * LANES;
        float *c = stream ? space : p->c + n;
        const int64_t c_row = stream ? 2 * LANES : p->N;
        for (int64_t k = 0; k < p->K; k += most) {
            const int64_t length = p->K - k < most ? p->K - k : most;
            const uint32_t *next =
                k + length < p->K ? at + (k + length) / 2 * SP_LAYOUT_N : at + half;
            if (n + LANES < p->N) {
                layout_piece(p, n, k, length, 2, next, c, c_row);
            } else {
                layout_piece(p, n, k, length, 1, next, c, c_row);
            }
        }
        if (stream) {
            stream_columns(p, n, space);
        }
        at += half;
    }
    _mm_sfence(); /* before others are told */
    _tile_release();
}
#else
/* rows x vectors sums in registers; both are constants where this is inlined. */
INLINE void pair_sums(const sp_pair_block *p, int64_t m, int64_t n, int rows, int vectors) {
    __m512 sum[4][4];
    const uint16_t *a = p->a + m * p->a_row;
    float *c = p->c + m * p->c_row + n;
    for (int i = 0; i < rows; i++) {
        for (int v = 0; v < vectors; v++) {
            sum[i][v] =
                p->accumulate ? _mm512_loadu_ps(c + i * p->c_row + v * LANES) : _mm512_setzero_ps();
        }
    }
    for (int64_t k = 0; k < p->K; k += 2) {
        const uint32_t *b = p->b + k / 2 * p->b_row + n;
        for (int i = 0; i < rows; i++) {
            int32_t pair;
            memcpy(&pair, a + i * p->a_row + k, sizeof pair);
            const __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
            for (int v = 0; v < vectors; v++) {
                sum[i][v] =
                    _mm512_dpbf16_ps(sum[i][v], x, (__m512bh)_mm512_loadu_si512(b + v * LANES));
            }
        }
    }
    for (int i = 0; i < rows; i++) {
        for (int v = 0; v < vectors; v++) {
            _mm512_storeu_ps(c + i * p->c_row + v * LANES, sum[i][v]);
        }
    }
}

INLINE void pair_columns(const sp_pair_block *p, int64_t n, int vectors) {
    int64_t m = 0;
    for (; m + 4 <= p->M; m += 4) {
        pair_sums(p, m, n, 4, vectors);
    }
    for (; m < p->M; m++) {
        pair_sums(p, m, n, 1, vectors);
    }
}

static void pair_product(const sp_pair_block *p) {
    int64_t n = 0;
    for (; n + 4 * LANES <= p->N; n += 4 * LANES) {
        pair_columns(p, n, 4);
    }
    for (; n < p->N; n += LANES) {
        pair_columns(p, n, 1);
    }
}
#endif

/* Words w of two vectors of 16 bf16: low halves from x, high halves from y. */
INLINE __m512i join(__m512 x, __m512 y) {
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                         21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(y, x));
}

static void pair_rows(const uint16_t *x, int64_t x_row, int rows, int padded, int columns,
                      uint32_t *y) {
    for (int r = 0; r < padded; r += 2, y += columns) {
        const uint16_t *low = x + r * x_row, *high = low + x_row;
        for (int c = 0; c < columns; c += LANES) {
            const __m256i zero = _mm256_setzero_si256();
            const __m256i a = r < rows ? _mm256_loadu_si256((const __m256i *)(low + c)) : zero;
            const __m256i b = r + 1 < rows ? _mm256_loadu_si256((const __m256i *)(high + c)) : zero;
            const __m512i word = _mm512_or_si512(_mm512_cvtepu16_epi32(a),
                                                 _mm512_slli_epi32(_mm512_cvtepu16_epi32(b), 16));
            _mm512_storeu_si512(y + c, word);
        }
    }
}

/* 16 x 16 words in registers: neighbours are exchanged at distances 1, 2, 4 and 8. */
INLINE void transpose_16(const uint32_t *x, int64_t x_row, uint32_t *y, int64_t y_row) {
    __m512i a[LANES], b[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        a[i] = _mm512_loadu_si512(x + i * x_row);
    }
#pragma GCC unroll 8
    for (int i = 0; i < LANES; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < LANES; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        b[i] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xdd);
        b[i + 8] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xdd);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        _mm512_storeu_si512(y + i * y_row, _mm512_shuffle_i32x4(b[i], b[i + 8], 0x88));
        _mm512_storeu_si512(y + (i + 8) * y_row, _mm512_shuffle_i32x4(b[i], b[i + 8], 0xdd));
    }
}

static void transpose_words(const uint32_t *x, int64_t x_row, int rows, int columns, uint32_t *y,
                            int64_t y_row) {
    for (int r = 0; r < rows; r += LANES) {
        for (int c = 0; c < columns; c += LANES) {
            transpose_16(x + r * x_row + c, x_row, y + c * y_row + r, y_row);
        }
    }
}

/* 2^y with a relative error below 2^-21, for y that is no NaN or infinity: 2^n 2^f with n whole and
 * |f| <= 1/2, 2^f by a polynomial interpolated at the Chebyshev nodes. 0 where the mask is off. */
INLINE __m512 exp_two(__m512 y, __mmask16 on) {
    const __m512 n = _mm512_roundscale_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 f = _mm512_sub_ps(y, n);
    __m512 p = _mm512_set1_ps(1.33908633e-3F);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.67603177e-3F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.55035695e-2F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.240221068F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.693147182F));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0F));
    return _mm512_maskz_scalef_ps(on, p, n);
}

static const float log2_e = 0x1.715476p+0F;

/* 16 rows of scores: which keys they see. Between `from` and `to` all rows that see any key see
 * all, so that their mask is one. */
typedef struct sight {
    __m512i first, last;
    __mmask16 any;
    int begin, end; /* keys that some row sees */
    int from, to;
} sight;

INLINE sight sight_of(const sp_scores *p, int r) {
    sight x = {.first = _mm512_loadu_si512(p->first + r), .last = _mm512_loadu_si512(p->last + r)};
    x.any = _mm512_cmplt_epi32_mask(x.first, x.last);
    if (x.any != 0) {
        x.begin = _mm512_mask_reduce_min_epi32(x.any, x.first);
        x.from = _mm512_mask_reduce_max_epi32(x.any, x.first);
        x.to = _mm512_mask_reduce_min_epi32(x.any, x.last);
        x.end = _mm512_mask_reduce_max_epi32(x.any, x.last);
    }
    return x;
}

INLINE __mmask16 sees(const sight *x, int key) {
    if (key >= x->from && key < x->to) {
        return x->any;
    }
    const __m512i k = _mm512_set1_epi32(key);
    return _mm512_mask_cmpgt_epi32_mask(_mm512_cmpge_epi32_mask(k, x->first), x->last, k);
}

/* The largest visible score of each of 16 rows, at least `max`; in four chains, since one would
 * wait for itself. */
INLINE __m512 highest(const sp_scores *p, const sight *x, int r, __m512 max) {
    const float *s = p->s + r;
    __m512 most[4] = {max, max, max, max};
    for (int j = x->begin; j < x->end; j += 4) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const int key = j + i < x->end ? j + i : x->end - 1;
            const __m512 score = _mm512_loadu_ps(s + key * p->s_row);
            most[i] = _mm512_mask_max_ps(most[i], sees(x, key), most[i], score);
        }
    }
    return _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
}

/* What old sums shrink by as the largest score grows: 1 where it stays, 0 where there were none. */
INLINE __m512 shrink(__m512 old, __m512 max) {
    const __mmask16 grows = _mm512_cmp_ps_mask(max, old, _CMP_GT_OQ);
    const __mmask16 had = _mm512_cmp_ps_mask(old, _mm512_set1_ps(-INFINITY), _CMP_GT_OQ);
    const __m512 change = _mm512_maskz_sub_ps(grows & had, old, max);
    return _mm512_mask_mov_ps(exp_two(_mm512_mul_ps(change, _mm512_set1_ps(log2_e)), had),
                              ~grows & 0xffff, _mm512_set1_ps(1.0F));
}

static void softmax_step_pairs(const sp_scores *p, float *max, float *sum, float *out,
                               int64_t out_row, int64_t dim, uint32_t *pairs) {
    const int padded = (p->n_keys + 31) / 32 * 32;
    for (int r = 0; r < p->n_rows; r += LANES) {
        const sight x = sight_of(p, r);
        const __m512 old = _mm512_loadu_ps(max + r), most = highest(p, &x, r, old);
        const __m512 factor = shrink(old, most);
        const __m512 base = _mm512_maskz_mul_ps(x.any, most, _mm512_set1_ps(-log2_e));
        __m512 even = _mm512_mul_ps(_mm512_loadu_ps(sum + r), factor), odd = _mm512_setzero_ps();
        for (int j = 0; j < padded; j += 2) {
            uint32_t *to = pairs + j / 2 * p->s_row + r;
            if (j + 1 < x.begin || j >= x.end) {
                _mm512_storeu_si512(to, _mm512_setzero_si512());
                continue;
            }
            const float *s = p->s + j * p->s_row + r;
            const __m512 scale = _mm512_set1_ps(log2_e);
            const __m512 a = exp_two(_mm512_fmadd_ps(_mm512_loadu_ps(s), scale, base), sees(&x, j));
            const __m512 b = exp_two(_mm512_fmadd_ps(_mm512_loadu_ps(s + p->s_row), scale, base),
                                     sees(&x, j + 1));
            even = _mm512_add_ps(even, a);
            odd = _mm512_add_ps(odd, b);
            _mm512_storeu_si512(to, join(a, b));
        }
        _mm512_storeu_ps(max + r, most);
        _mm512_storeu_ps(sum + r, _mm512_add_ps(even, odd));
        if (_mm512_cmp_ps_mask(factor, _mm512_set1_ps(1.0F), _CMP_NEQ_UQ) != 0) {
            for (int64_t d = 0; d < dim; d++) {
                float *to = out + d * out_row + r;
                _mm512_storeu_ps(to, _mm512_mul_ps(_mm512_loadu_ps(to), factor));
            }
        }
    }
}

static void softmax_grad_pairs(const sp_scores *p, const float *lse, const float *delta,
                               const float *dp, const sp_pair_grads *to) {
    const int padded = (p->n_keys + 31) / 32 * 32;
    const __m512 scale = _mm512_set1_ps(log2_e), one = _mm512_set1_ps(1.0F);
    const __m512 inverse = _mm512_set1_ps(p->cap > 0 ? 1.0F / p->cap : 0.0F);
    for (int r = 0; r < p->n_rows; r += LANES) {
        const sight x = sight_of(p, r);
        const __m512 base = _mm512_mul_ps(_mm512_loadu_ps(lse + r), _mm512_set1_ps(-log2_e));
        const __m512 own = _mm512_loadu_ps(delta + r);
        for (int j = 0; j < padded; j += 2) {
            const int64_t at = j * p->s_row + r;
            __m512 e[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, d[2] = {e[0], e[1]};
            for (int i = 0; i < 2 && j + 1 >= x.begin && j < x.end; i++) {
                const __m512 s = _mm512_loadu_ps(p->s + at + i * p->s_row);
                const __mmask16 on = sees(&x, j + i);
                const __m512 t = _mm512_mul_ps(s, inverse);
                e[i] = exp_two(_mm512_fmadd_ps(s, scale, base), on);
                d[i] = _mm512_maskz_mul_ps(
                    on, _mm512_mul_ps(e[i], _mm512_fnmadd_ps(t, t, one)),
                    _mm512_sub_ps(_mm512_loadu_ps(dp + at + i * p->s_row), own));
            }
            for (int i = 0; i < 2; i++) {
                _mm256_storeu_si256((__m256i *)(to->p + at + i * p->s_row),
                                    (__m256i)_mm512_cvtneps_pbh(e[i]));
                _mm256_storeu_si256((__m256i *)(to->ds + at + i * p->s_row),
                                    (__m256i)_mm512_cvtneps_pbh(d[i]));
            }
            _mm512_storeu_si512(to->ds_pairs + j / 2 * p->s_row + r, join(d[0], d[1]));
        }
    }
}
#endif

void SP_SIMD_NAME(sp_simd_fill_pairs)(sp_simd *table) {
#if defined(__AVX512BF16__)
    table->pair_product = pair_product;
#if defined(__AMX_BF16__)
    table->layout_product = layout_product;
#else
    table->layout_product = NULL;
#endif
    table->pair_rows = pair_rows;
    table->transpose_words = transpose_words;
    table->softmax_step_pairs = softmax_step_pairs;
    table->softmax_grad_pairs = softmax_grad_pairs;
#else
    table->pair_product = NULL;
    table->layout_product = NULL;
#endif
}
