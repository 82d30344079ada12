/* The gated short convolution of the reference row: entry by entry, sums in double. */
#include "backend/cpu/conv_rows.h"
#include "backend/cpu/operand.h"
#include "backend/cpu/reference.h"

/* u of entry h of a row, as it was put into the cache, or made of z. */
static float entry_of(const sp_short_conv *a, const float *z, int64_t row, int64_t h) {
    const int64_t at = row * a->width + h;
    if (a->cache) {
        return a->cache_bf16 ? sp_bf16_to_f32(((const uint16_t *)a->cache)[at])
                             : ((const float *)a->cache)[at];
    }
    return z[3 * row * a->width + h] * z[(3 * row + 2) * a->width + h];
}

static void put(const sp_short_conv *a, int64_t row, int64_t h, float value) {
    const int64_t at = row * a->width + h;
    if (a->cache_bf16) {
        ((uint16_t *)a->cache)[at] = sp_bf16_from_f32(value);
    } else {
        ((float *)a->cache)[at] = value;
    }
}

static void store(const sp_short_conv *a, const float *z) {
    for (int g = 0; g < a->n_segments; g++) {
        const sp_segment *s = &a->segments[g];
        for (int64_t i = 0; i < s->q_len * a->width; i++) {
            const int64_t row = s->q_start + i / a->width, h = i % a->width;
            put(a, sp_conv_row(a, g, i / a->width, 0), h,
                z[3 * row * a->width + h] * z[(3 * row + 2) * a->width + h]);
        }
    }
}

static double convolve(const sp_short_conv *a, const float *z, int segment, int64_t i, int64_t h) {
    double sum = 0;
    for (int j = 0; j < a->taps; j++) {
        const int64_t row = sp_conv_row(a, segment, i, a->taps - 1 - j);
        sum += row < 0 ? 0 : (double)a->w[h * a->taps + j] * (double)entry_of(a, z, row, h);
    }
    return sum;
}

void sp_reference_short_conv(sp_backend *be, const sp_short_conv *a, const float *z, void *out) {
    if (a->cache) {
        store(a, z);
    }
    for (int g = 0; g < a->n_segments; g++) {
        const sp_segment *s = &a->segments[g];
        for (int64_t i = 0; i < s->q_len * a->width; i++) {
            const int64_t row = s->q_start + i / a->width, h = i % a->width;
            const double c = (double)z[(3 * row + 1) * a->width + h];
            sp_operand_store(be, out, row * a->width + h,
                             (float)(c * convolve(a, z, g, i / a->width, h)));
        }
    }
}

/* The gradients of u of entry h gather in the place of x's, of which du B is made in the end. */
static void entry_bwd(const sp_short_conv *a, const float *z, const float *dout, int64_t h,
                      float *dz, float *dw) {
    const int64_t H = a->width;
    double sums[SP_CONV_TAPS] = {0};
    for (int g = 0; g < a->n_segments; g++) {
        for (int64_t i = 0; i < a->segments[g].q_len; i++) {
            const int64_t row = a->segments[g].q_start + i;
            const double d = (double)dout[row * H + h] * (double)z[(3 * row + 1) * H + h];
            dz[(3 * row + 1) * H + h] =
                (float)((double)dout[row * H + h] * convolve(a, z, g, i, h));
            dz[(3 * row + 2) * H + h] = 0;
            for (int j = 0; j < a->taps; j++) {
                const int64_t from = sp_conv_row(a, g, i, a->taps - 1 - j);
                if (from >= 0) {
                    dz[(3 * from + 2) * H + h] += (float)(d * (double)a->w[h * a->taps + j]);
                    sums[j] += d * (double)entry_of(a, z, from, h);
                }
            }
        }
    }
    for (int j = 0; dw && j < a->taps; j++) {
        dw[h * a->taps + j] += (float)sums[j];
    }
}

void sp_reference_short_conv_bwd(sp_backend *be, const sp_short_conv *a, const float *z,
                                 const float *dout, float *dz, float *dw) {
    (void)be;
    const int64_t H = a->width;
    for (int64_t h = 0; h < H; h++) {
        entry_bwd(a, z, dout, h, dz, dw);
    }
    for (int g = 0; g < a->n_segments; g++) {
        const sp_segment *s = &a->segments[g];
        for (int64_t i = 0; i < s->q_len * H; i++) {
            const int64_t row = s->q_start + i / H, h = i % H;
            const float du = dz[(3 * row + 2) * H + h];
            dz[3 * row * H + h] = du * z[(3 * row + 2) * H + h];
            dz[(3 * row + 2) * H + h] = du * z[3 * row * H + h];
        }
    }
}
