/* Element-wise kernels and kernels over rows. */
#include <math.h>

#include "backend/cpu/operand.h"
#include "backend/cpu/simd_variant.h"

#define INLINE static inline __attribute__((always_inline))

/* Store an operand element; bf16 is a constant where this is inlined. */
INLINE void put(void *y, int64_t i, float value, bool bf16) {
    if (bf16) {
        ((uint16_t *)y)[i] = sp_bf16_from_f32(value);
    } else {
        ((float *)y)[i] = value;
    }
}

INLINE float get(const void *x, int64_t i, bool bf16) {
    return bf16 ? sp_bf16_to_f32(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

static void scale(const float *x, int64_t n, float factor, void *y, bool bf16) {
    if (bf16) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            put(y, i, x[i] * factor, true);
        }
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            put(y, i, x[i] * factor, false);
        }
    }
}

static void to_bf16(const float *x, int64_t n, uint16_t *y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] = sp_bf16_from_f32(x[i]);
    }
}

static void from_bf16(const uint16_t *x, int64_t n, float *y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] = sp_bf16_to_f32(x[i]);
    }
}

static void round_bf16(const float *x, int64_t n, float *y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] = sp_bf16_to_f32(sp_bf16_from_f32(x[i]));
    }
}

static void add(const float *x, int64_t n, float *y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] += x[i];
    }
}

static void exp_array(const float *x, int64_t n, float *y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] = sp_exp(x[i]);
    }
}

static float dot(const float *x, const float *y, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        sum += x[i] * y[i];
    }
    return sum;
}

INLINE void rmsnorm_as(const float *x, const float *g, int64_t n, int64_t dim, float eps, void *y,
                       float *rstd, bool bf16) {
    for (int64_t r = 0; r < n; r++) {
        const float *row = x + r * dim;
        const float s = 1.0F / sqrtf(dot(row, row, dim) / (float)dim + eps);
        rstd[r] = s;
#pragma omp simd
        for (int64_t i = 0; i < dim; i++) {
            put(y, r * dim + i, row[i] * s * g[i], bf16);
        }
    }
}

static void rmsnorm(const float *x, const float *g, int64_t n, int64_t dim, float eps, void *y,
                    bool bf16, float *rstd) {
    if (bf16) {
        rmsnorm_as(x, g, n, dim, eps, y, rstd, true);
    } else {
        rmsnorm_as(x, g, n, dim, eps, y, rstd, false);
    }
}

/* dg += dy x s of one row; the result is sum g dy x. */
static float norm_sums(const float *x, const float *g, const float *dy, int64_t dim, float s,
                       float *dg) {
    float sum = 0;
    if (dg != NULL) {
#pragma omp simd
        for (int64_t i = 0; i < dim; i++) {
            dg[i] += dy[i] * x[i] * s;
        }
    }
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < dim; i++) {
        sum += g[i] * dy[i] * x[i];
    }
    return sum;
}

/* dx may be dy when not accumulating. */
static void rmsnorm_bwd(const float *x, const float *g, const float *rstd, const float *dy,
                        int64_t n, int64_t dim, float *dx, bool accumulate, float *dg) {
    for (int64_t r = 0; r < n; r++) {
        const float *xr = x + r * dim, *dyr = dy + r * dim;
        float *to = dx + r * dim;
        const float s = rstd[r];
        const float mean = norm_sums(xr, g, dyr, dim, s, dg) / (float)dim * s * s;
        if (accumulate) {
#pragma omp simd
            for (int64_t i = 0; i < dim; i++) {
                to[i] += s * (g[i] * dyr[i] - xr[i] * mean);
            }
        } else {
#pragma omp simd
            for (int64_t i = 0; i < dim; i++) {
                to[i] = s * (g[i] * dyr[i] - xr[i] * mean);
            }
        }
    }
}

static void rope(float *x, int64_t T, int n_heads, int head_dim, const float *cos_table,
                 const float *sin_table, const int32_t *positions, float sign) {
    const int half = head_dim / 2;
    for (int64_t t = 0; t < T; t++) {
        const float *c = cos_table + (int64_t)positions[t] * half;
        const float *s = sin_table + (int64_t)positions[t] * half;
        for (int h = 0; h < n_heads; h++) {
            float *low = x + (t * n_heads + h) * head_dim, *high = low + half;
#pragma omp simd
            for (int i = 0; i < half; i++) {
                const float a = low[i], b = high[i], turn = sign * s[i];
                low[i] = a * c[i] - b * turn;
                high[i] = b * c[i] + a * turn;
            }
        }
    }
}

INLINE float sigmoid(float x) {
    return 1.0F / (1.0F + sp_exp(-x));
}

INLINE void swiglu_as(const float *gate, const float *up, int64_t n, void *y, void *kept_gate,
                      void *kept_up, bool bf16) {
    if (kept_gate == NULL) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            put(y, i, gate[i] * sigmoid(gate[i]) * up[i], bf16);
        }
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        put(y, i, gate[i] * sigmoid(gate[i]) * up[i], bf16);
        put(kept_gate, i, gate[i], bf16);
        put(kept_up, i, up[i], bf16);
    }
}

static void swiglu(const float *gate, const float *up, int64_t n, void *y, void *kept_gate,
                   void *kept_up, bool bf16) {
    if (bf16) {
        swiglu_as(gate, up, n, y, kept_gate, kept_up, true);
    } else {
        swiglu_as(gate, up, n, y, kept_gate, kept_up, false);
    }
}

INLINE void swiglu_kept_as(const void *gate, const void *up, int64_t n, void *y, bool bf16) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = get(gate, i, bf16);
        put(y, i, g * sigmoid(g) * get(up, i, bf16), bf16);
    }
}

static void swiglu_kept(const void *gate, const void *up, int64_t n, void *y, bool bf16) {
    if (bf16) {
        swiglu_kept_as(gate, up, n, y, true);
    } else {
        swiglu_kept_as(gate, up, n, y, false);
    }
}

/* d silu(g) / dg = s (1 + g (1 - s)), s = sigmoid(g). */
INLINE void swiglu_bwd_as(const void *gate, const void *up, const float *dy, int64_t n, void *dgate,
                          void *dup, bool bf16) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = get(gate, i, bf16), u = get(up, i, bf16), s = sigmoid(g), d = dy[i];
        put(dgate, i, d * u * s * (1.0F + g * (1.0F - s)), bf16);
        put(dup, i, d * g * s, bf16);
    }
}

static void swiglu_bwd(const void *gate, const void *up, const float *dy, int64_t n, void *dgate,
                       void *dup, bool bf16) {
    if (bf16) {
        swiglu_bwd_as(gate, up, dy, n, dgate, dup, true);
    } else {
        swiglu_bwd_as(gate, up, dy, n, dgate, dup, false);
    }
}

/* Lanes apart, since not every compiler turns a plain maximum into vectors. */
static float row_max(const float *x, int64_t n) {
    enum { LANES = 2 * SP_VEC };
    float lanes[LANES];
    for (int j = 0; j < LANES; j++) {
        lanes[j] = -INFINITY;
    }
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
#pragma omp simd
        for (int j = 0; j < LANES; j++) {
            lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
        }
    }
    for (; i < n; i++) {
        lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    }
    for (int j = 1; j < LANES; j++) {
        lanes[0] = lanes[j] > lanes[0] ? lanes[j] : lanes[0];
    }
    return lanes[0];
}

static void logits_stats(const float *x, int64_t n, float *max, float *sum) {
    const float m = row_max(x, n);
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; i++) {
        total += sp_exp(x[i] - m);
    }
    *max = m;
    *sum = total;
}

static float exp_sum(const float *x, int64_t n, float max, float scale) {
    float total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; i++) {
        total += sp_exp((x[i] - max) * scale);
    }
    return total;
}

static void logits_grad(float *x, int64_t n, float lse, float c) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        x[i] = -c * sp_exp(x[i] - lse);
    }
}

void SP_SIMD_NAME(sp_simd_fill_rows)(sp_simd *table) {
    table->to_bf16 = to_bf16;
    table->scale = scale;
    table->from_bf16 = from_bf16;
    table->round_bf16 = round_bf16;
    table->add = add;
    table->exp = exp_array;
    table->dot = dot;
    table->rmsnorm = rmsnorm;
    table->rmsnorm_bwd = rmsnorm_bwd;
    table->rope = rope;
    table->swiglu = swiglu;
    table->swiglu_kept = swiglu_kept;
    table->swiglu_bwd = swiglu_bwd;
    table->exp_sum = exp_sum;
    table->logits_stats = logits_stats;
    table->logits_grad = logits_grad;
}
