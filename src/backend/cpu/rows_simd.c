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

static void multiply(const float *x, const float *y, int64_t n, void *z, bool bf16) {
    if (bf16) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            put(z, i, x[i] * y[i], true);
        }
    } else {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            put(z, i, x[i] * y[i], false);
        }
    }
}

static void add_product(const float *x, const float *y, int64_t n, float *z) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        z[i] += x[i] * y[i];
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

static void add_scaled(const float *x, int64_t n, float factor, float *y) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] += x[i] * factor;
    }
}

static void clip(float *x, int64_t n, float bound, uint8_t *kept) {
    if (kept != NULL) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            kept[i] = fabsf(x[i]) <= bound;
        }
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        x[i] = fabsf(x[i]) <= bound ? x[i] : copysignf(bound, x[i]);
    }
}

static void clip_bwd(float *dx, int64_t n, const uint8_t *kept) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        dx[i] = kept[i] != 0 ? dx[i] : 0.0F;
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

static float sum_of(const float *x, int64_t n) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        sum += x[i];
    }
    return sum;
}

/* Of numbers less their mean, so that a large mean does not cancel. */
static float square_distance(const float *x, int64_t n, float from) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        sum += (x[i] - from) * (x[i] - from);
    }
    return sum;
}

/* y = x + shift; y may be x. */
static void shifted(const float *x, const float *shift, int64_t n, float *y) {
    if (shift == NULL) {
        memmove(y, x, (size_t)n * sizeof *y);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        y[i] = x[i] + shift[i];
    }
}

static void layernorm(const float *x, const float *shift, const float *g, const float *bias,
                      int64_t n, int64_t dim, float eps, float *y, void *z, bool bf16) {
    for (int64_t r = 0; r < n; r++, x += dim, y += dim) {
        shifted(x, shift, dim, y);
        const float mean = sum_of(y, dim) / (float)dim;
        const float rstd = 1.0F / sqrtf(square_distance(y, dim, mean) / (float)dim + eps);
#pragma omp simd
        for (int64_t i = 0; i < dim; i++) {
            y[i] = (y[i] - mean) * rstd * g[i] + bias[i];
        }
        if (z != NULL) {
            scale(y, dim, 1, (char *)z + (size_t)(r * dim) * (bf16 ? 2 : 4), bf16);
        }
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

INLINE void layernorm_operand_as(const float *x, const float *g, const float *bias, int64_t n,
                                 int64_t dim, float eps, void *y, float *rstd, bool bf16) {
    for (int64_t r = 0; r < n; r++) {
        const float *row = x + r * dim;
        const float mean = sum_of(row, dim) / (float)dim;
        const float s = 1.0F / sqrtf(square_distance(row, dim, mean) / (float)dim + eps);
        rstd[r] = s;
        if (bias == NULL) {
#pragma omp simd
            for (int64_t i = 0; i < dim; i++) {
                put(y, r * dim + i, (row[i] - mean) * s * g[i], bf16);
            }
        } else {
#pragma omp simd
            for (int64_t i = 0; i < dim; i++) {
                put(y, r * dim + i, (row[i] - mean) * s * g[i] + bias[i], bf16);
            }
        }
    }
}

static void layernorm_operand(const float *x, const float *g, const float *bias, int64_t n,
                              int64_t dim, float eps, void *y, bool bf16, float *rstd) {
    if (bf16) {
        layernorm_operand_as(x, g, bias, n, dim, eps, y, rstd, true);
    } else {
        layernorm_operand_as(x, g, bias, n, dim, eps, y, rstd, false);
    }
}

/* The means over a row of g dy and of g dy (x - mean) rstd. */
typedef struct norm_means {
    float plain, along;
} norm_means;

static norm_means layernorm_means(const float *x, const float *g, const float *dy, int64_t dim,
                                  float mean, float s) {
    float plain = 0, along = 0;
#pragma omp simd reduction(+ : plain, along)
    for (int64_t i = 0; i < dim; i++) {
        plain += g[i] * dy[i];
        along += g[i] * dy[i] * (x[i] - mean);
    }
    return (norm_means){plain / (float)dim, along * s / (float)dim};
}

/* dx may be dy when not accumulating. */
static void layernorm_bwd(const float *x, const float *g, const float *rstd, const float *dy,
                          int64_t n, int64_t dim, float *dx, bool accumulate, float *dg,
                          float *dbias) {
    for (int64_t r = 0; r < n; r++) {
        const float *xr = x + r * dim, *dyr = dy + r * dim;
        float *to = dx + r * dim;
        const float s = rstd[r], mean = sum_of(xr, dim) / (float)dim;
        const norm_means m = layernorm_means(xr, g, dyr, dim, mean, s);
        if (dg != NULL) {
#pragma omp simd
            for (int64_t i = 0; i < dim; i++) {
                dg[i] += dyr[i] * (xr[i] - mean) * s;
            }
        }
        if (dbias != NULL) {
            add(dyr, dim, dbias);
        }
        if (accumulate) {
#pragma omp simd
            for (int64_t i = 0; i < dim; i++) {
                to[i] += s * (g[i] * dyr[i] - m.plain - (xr[i] - mean) * s * m.along);
            }
        } else {
#pragma omp simd
            for (int64_t i = 0; i < dim; i++) {
                to[i] = s * (g[i] * dyr[i] - m.plain - (xr[i] - mean) * s * m.along);
            }
        }
    }
}

/* One head: entries step apart are a pair, and pairs follow each other stride apart. */
INLINE void rope_head(float *low, const float *c, const float *s, int half, int step, int stride,
                      float sign) {
#pragma omp simd
    for (int i = 0; i < half; i++) {
        float *x = low + i * stride;
        const float a = x[0], b = x[step], turn = sign * s[i];
        x[0] = a * c[i] - b * turn;
        x[step] = b * c[i] + a * turn;
    }
}

static void rope(float *x, int64_t T, int n_heads, int head_dim, const sp_rotation *rotation,
                 const int32_t *positions, float sign) {
    const int half = rotation->dims / 2;
    for (int64_t t = 0; t < T; t++) {
        const float *c = rotation->cos_table + (int64_t)positions[t] * half;
        const float *s = rotation->sin_table + (int64_t)positions[t] * half;
        for (int h = 0; h < n_heads; h++) {
            float *head = x + (t * n_heads + h) * head_dim;
            if (rotation->adjacent) {
                rope_head(head, c, s, half, 1, 2, sign);
            } else {
                rope_head(head, c, s, half, half, 1, sign);
            }
        }
    }
}

INLINE float sigmoid(float x) {
    return 1.0F / (1.0F + sp_exp(-x));
}

/* e^(-x^2 / 2) */
INLINE float bell(float x) {
    return sp_exp(-0.5F * x * x);
}

/* The normal distribution function with an error below 2^-23: by erf(z)/z in z^2 up to z = 1, z =
 * |x| / sqrt 2, and by erfc(z) e^(z^2) / t in t = 1 / (1 + z / 2) beyond, both interpolated at the
 * Chebyshev nodes (the latter up to z = 4.2, where Phi is 0 or 1 in f32's steps of 1). */
INLINE float normal(float x) {
    const float z = fabsf(x) * 0x1.6a09e6p-1F, q = z * z, t = 1.0F / (1.0F + 0.5F * z);
    float near = 7.875874871e-5F;
    near = near * q - 8.016864303e-4F;
    near = near * q + 5.189087242e-3F;
    near = near * q - 2.685421147e-2F;
    near = near * q + 1.128359437e-1F;
    near = near * q - 3.761262596e-1F;
    near = near * q + 1.128379107F;
    float tail = -1.043035462e-1F;
    tail = tail * t + 9.287603199e-2F;
    tail = tail * t + 2.208380550e-1F;
    tail = tail * t + 2.187067717e-1F;
    tail = tail * t + 2.889817655e-1F;
    tail = tail * t + 2.814738154e-1F;
    tail = 0.5F * tail * t * bell(x); /* of both sides alike */
    const float far = x < 0 ? tail : 1.0F - tail;
    const float middle = 0.5F + 0.5F * near * x * 0x1.6a09e6p-1F;
    return z < 1.0F ? middle : far;
}

/* An activation is act(x) = x w(x), its derivative w + x w'; act is a constant where these are
 * inlined. */
INLINE float share(sp_act act, float x) {
    if (act == SP_RELU) {
        return x > 0 ? 1.0F : 0.0F;
    }
    if (act == SP_RELU2) {
        return x > 0 ? x : 0.0F;
    }
    if (act == SP_GELU) {
        return normal(x);
    }
    return sigmoid(act == SP_SILU ? x : 1.595769122F * (x + 0.044715F * x * x * x));
}

/* w' where w is known. */
INLINE float share_slope(sp_act act, float x, float w) {
    if (act == SP_RELU) {
        return 0.0F;
    }
    if (act == SP_RELU2) {
        return x > 0 ? 1.0F : 0.0F;
    }
    if (act == SP_GELU) {
        return 0.3989422804F * bell(x);
    }
    return w * (1.0F - w) * (act == SP_SILU ? 1.0F : 1.595769122F * (1.0F + 0.134145F * x * x));
}

/* One loop for each activation and type of operands. */
#define FOR_EACH_ACTIVATION(call)                                                                  \
    switch (act) {                                                                                 \
    case SP_SILU:                                                                                  \
        call(SP_SILU);                                                                             \
        break;                                                                                     \
    case SP_GELU:                                                                                  \
        call(SP_GELU);                                                                             \
        break;                                                                                     \
    case SP_GELU_TANH:                                                                             \
        call(SP_GELU_TANH);                                                                        \
        break;                                                                                     \
    case SP_RELU:                                                                                  \
        call(SP_RELU);                                                                             \
        break;                                                                                     \
    case SP_RELU2:                                                                                 \
        call(SP_RELU2);                                                                            \
        break;                                                                                     \
    default: /* no gate of a feed-forward */                                                       \
        break;                                                                                     \
    }

INLINE float activated(sp_act act, float x) {
    return act == SP_TANH ? sp_tanh(x) : act == SP_RELU ? (x > 0 ? x : 0.0F) : x * share(act, x);
}

INLINE void activate_as(sp_act act, const float *x, const float *shift, int64_t n, void *y,
                        bool bf16) {
    if (shift == NULL) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            put(y, i, activated(act, x[i]), bf16);
        }
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        put(y, i, activated(act, x[i] + shift[i]), bf16);
    }
}

static void activate(sp_act act, const float *x, const float *shift, int64_t n, void *y,
                     bool bf16) {
#define CALL(a) bf16 ? activate_as(a, x, shift, n, y, true) : activate_as(a, x, shift, n, y, false)
    if (act == SP_TANH) {
        CALL(SP_TANH);
    } else if (act == SP_RELU) {
        CALL(SP_RELU);
    } else {
        FOR_EACH_ACTIVATION(CALL)
    }
#undef CALL
}

INLINE void glu_as(sp_act act, const float *gate, const float *up, int64_t n, void *y,
                   void *kept_gate, void *kept_up, bool bf16) {
    if (kept_gate == NULL) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            put(y, i, gate[i] * share(act, gate[i]) * up[i], bf16);
        }
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        put(y, i, gate[i] * share(act, gate[i]) * up[i], bf16);
        put(kept_gate, i, gate[i], bf16);
        put(kept_up, i, up[i], bf16);
    }
}

static void glu(sp_act act, const float *gate, const float *up, int64_t n, void *y, void *kept_gate,
                void *kept_up, bool bf16){
#define CALL(a)                                                                                    \
    bf16 ? glu_as(a, gate, up, n, y, kept_gate, kept_up, true)                                     \
         : glu_as(a, gate, up, n, y, kept_gate, kept_up, false)
    FOR_EACH_ACTIVATION(CALL)
#undef CALL
}

INLINE
    void glu_kept_as(sp_act act, const void *gate, const void *up, int64_t n, void *y, bool bf16) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = get(gate, i, bf16);
        put(y, i, g * share(act, g) * get(up, i, bf16), bf16);
    }
}

static void glu_kept(sp_act act, const void *gate, const void *up, int64_t n, void *y, bool bf16){
#define CALL(a) bf16 ? glu_kept_as(a, gate, up, n, y, true) : glu_kept_as(a, gate, up, n, y, false)
    FOR_EACH_ACTIVATION(CALL)
#undef CALL
}

INLINE void glu_bwd_as(sp_act act, const void *gate, const void *up, const float *dy, int64_t n,
                       void *dgate, void *dup, bool bf16) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float g = get(gate, i, bf16), u = get(up, i, bf16), w = share(act, g), d = dy[i];
        put(dgate, i, d * u * (w + g * share_slope(act, g, w)), bf16);
        put(dup, i, d * g * w, bf16);
    }
}

static void glu_bwd(sp_act act, const void *gate, const void *up, const float *dy, int64_t n,
                    void *dgate, void *dup, bool bf16){
#define CALL(a)                                                                                    \
    bf16 ? glu_bwd_as(a, gate, up, dy, n, dgate, dup, true)                                        \
         : glu_bwd_as(a, gate, up, dy, n, dgate, dup, false)
    FOR_EACH_ACTIVATION(CALL)
#undef CALL
}

INLINE void activate_kept_as(sp_act act, const void *x, int64_t n, void *y, bool bf16) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float v = get(x, i, bf16);
        put(y, i, v * share(act, v), bf16);
    }
}

static void activate_kept(sp_act act, const void *x, int64_t n, void *y, bool bf16){
#define CALL(a) bf16 ? activate_kept_as(a, x, n, y, true) : activate_kept_as(a, x, n, y, false)
    FOR_EACH_ACTIVATION(CALL)
#undef CALL
}

INLINE void activate_bwd_as(sp_act act, const void *x, const float *dy, int64_t n, void *dx,
                            bool bf16) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float v = get(x, i, bf16), w = share(act, v);
        put(dx, i, dy[i] * (w + v * share_slope(act, v, w)), bf16);
    }
}

/* e^x - 1 - x for x <= 0, to some 2^-21 of itself: by its series where that difference cancels. */
INLINE float exp_rest(float x) {
    float series = 2.755731922e-6F;
    series = series * x + 2.480158730e-5F;
    series = series * x + 1.984126984e-4F;
    series = series * x + 1.388888889e-3F;
    series = series * x + 8.333333333e-3F;
    series = series * x + 4.166666667e-2F;
    series = series * x + 1.666666667e-1F;
    series = series * x + 0.5F;
    return x > -0.75F ? series * x * x : sp_exp(x) - 1.0F - x;
}

INLINE void xielu_as(const sp_xielu *p, const void *x, bool x_bf16, int64_t n, void *y, bool bf16) {
    const float positive = p->positive, negative = p->negative, beta = p->beta, eps = p->eps;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float v = get(x, i, x_bf16), m = v < eps ? v : eps;
        const float below = exp_rest(m) + (m - v);
        put(y, i, (v > 0 ? positive * v * v : negative * below) + beta * v, bf16);
    }
}

static void xielu(const sp_xielu *p, const void *x, bool kept, int64_t n, void *y, bool bf16) {
    if (!bf16) {
        xielu_as(p, x, false, n, y, false);
    } else if (kept) {
        xielu_as(p, x, true, n, y, true);
    } else {
        xielu_as(p, x, false, n, y, true);
    }
}

INLINE void xielu_bwd_as(const sp_xielu *p, const void *x, const float *dy, int64_t n, void *dx,
                         bool bf16, float *sums) {
    const float positive = p->positive, negative = p->negative, beta = p->beta, eps = p->eps;
    float above_sum = 0, below_sum = 0;
#pragma omp simd reduction(+ : above_sum, below_sum)
    for (int64_t i = 0; i < n; i++) {
        const float v = get(x, i, bf16), d = dy[i], m = v < eps ? v : eps;
        const float rest = exp_rest(m);
        const float falls = v < eps ? rest + m : -1.0F;
        put(dx, i, d * ((v > 0 ? 2.0F * positive * v : negative * falls) + beta), bf16);
        above_sum += v > 0 ? d * v * v : 0.0F;
        below_sum += v > 0 ? 0.0F : d * (rest + (m - v));
    }
    sums[0] += above_sum;
    sums[1] += below_sum;
}

static void xielu_bwd(const sp_xielu *p, const void *x, const float *dy, int64_t n, void *dx,
                      bool bf16, float *sums) {
    if (bf16) {
        xielu_bwd_as(p, x, dy, n, dx, true, sums);
    } else {
        xielu_bwd_as(p, x, dy, n, dx, false, sums);
    }
}

static void activate_bwd(sp_act act, const void *x, const float *dy, int64_t n, void *dx,
                         bool bf16) {
#define CALL(a)                                                                                    \
    bf16 ? activate_bwd_as(a, x, dy, n, dx, true) : activate_bwd_as(a, x, dy, n, dx, false)
    FOR_EACH_ACTIVATION(CALL)
#undef CALL
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

static void form_logits(const sp_logit_form *form, int64_t n, float *x) {
    const float cap = form->cap, scale_in = form->scale / (cap > 0 ? cap : 1);
    if (cap > 0) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            x[i] = cap * sp_tanh(x[i] * scale_in);
        }
    } else {
        scale(x, n, scale_in, x, false);
    }
}

static void form_logits_bwd(const sp_logit_form *form, const float *y, int64_t n, float *x) {
    const float inverse = form->cap > 0 ? 1 / form->cap : 0;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        const float t = y[i] * inverse;
        x[i] *= form->scale * (1 - t * t);
    }
}

void SP_SIMD_NAME(sp_simd_fill_rows)(sp_simd *table) {
    table->to_bf16 = to_bf16;
    table->scale = scale;
    table->from_bf16 = from_bf16;
    table->round_bf16 = round_bf16;
    table->add = add;
    table->add_scaled = add_scaled;
    table->multiply = multiply;
    table->add_product = add_product;
    table->clip = clip;
    table->clip_bwd = clip_bwd;
    table->exp = exp_array;
    table->dot = dot;
    table->rmsnorm = rmsnorm;
    table->rmsnorm_bwd = rmsnorm_bwd;
    table->layernorm = layernorm;
    table->activate = activate;
    table->layernorm_operand = layernorm_operand;
    table->layernorm_bwd = layernorm_bwd;
    table->rope = rope;
    table->glu = glu;
    table->glu_kept = glu_kept;
    table->glu_bwd = glu_bwd;
    table->activate_kept = activate_kept;
    table->activate_bwd = activate_bwd;
    table->xielu = xielu;
    table->xielu_bwd = xielu_bwd;
    table->exp_sum = exp_sum;
    table->logits_stats = logits_stats;
    table->logits_grad = logits_grad;
    table->form_logits = form_logits;
    table->form_logits_bwd = form_logits_bwd;
}
