#include "backend/cpu/reference.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/columns.h"
#include "backend/cpu/dropout.h"
#include "backend/cpu/experts.h"
#include "backend/cpu/operand.h"
#include "base/mem.h"

static spar_status weight_prepare(sp_backend *be, sp_weight *w, int what, spar_error *err) {
    (void)be, (void)w, (void)what, (void)err;
    return SPAR_OK;
}

spar_status sp_reference_chain_begin(sp_backend *be, int64_t T, size_t local_row, bool put_off,
                                     spar_error *err) {
    (void)put_off;
    const size_t need = (size_t)T * local_row + 64 * SP_CHAIN_LOCALS;
    be->local.used = 0;
    be->local.T = T;
    if (need > be->local.size) {
        void *data = NULL;
        const spar_status status = sp_mem_aligned(&data, need, 1, err);
        if (status != SPAR_OK) {
            return status;
        }
        free(be->local.data);
        be->local.data = data;
        be->local.size = need;
    }
    return SPAR_OK;
}

void *sp_reference_chain_local(sp_backend *be, size_t row) {
    char *at = be->local.data + be->local.used;
    be->local.used += (row * (size_t)be->local.T + 63) / 64 * 64;
    assert(be->local.used <= be->local.size);
    return at;
}

static spar_status chain_end(sp_backend *be, spar_error *err) {
    (void)be, (void)err;
    return SPAR_OK;
}

static void weight_release(sp_backend *be, sp_weight *w) {
    (void)be, (void)w;
}

static spar_status linear(sp_backend *be, const sp_weight *w, const float *bias, const void *x,
                          int64_t T, float *y, bool accumulate, spar_error *err) {
    (void)err;
    for (int64_t t = 0; t < T; t++) {
        for (int64_t o = 0; o < w->out; o++) {
            double sum = bias != NULL ? (double)bias[o] : 0.0;
            for (int64_t i = 0; i < w->in; i++) {
                sum += (double)sp_operand_load(be, x, t * w->in + i) *
                       (double)sp_operand_weight(be, w, o, i);
            }
            float *to = &y[t * w->out + o];
            *to = accumulate ? *to + (float)sum : (float)sum;
        }
    }
    return SPAR_OK;
}

/* x [32] rounded to whole numbers of -127..127 times a scale, in one term or two: y [32]. */
static void round_block(const sp_backend *be, const void *x, int64_t at, int terms, double *y) {
    float most = 0;
    for (int i = 0; i < SP_AFFINE_BLOCK; i++) {
        const float size = fabsf(sp_operand_load(be, x, at + i));
        most = size > most ? size : most;
    }
    const float inverse = most > 0 ? 127 / most : 0, scale = most / 127;
    for (int i = 0; i < SP_AFFINE_BLOCK; i++) {
        const float value = sp_operand_load(be, x, at + i), q = rintf(value * inverse);
        y[i] = (double)scale * (double)q;
        if (terms == 2 && most > 0) {
            const float low = rintf((value - scale * q) * (254 / scale));
            y[i] += (double)scale / 254 * (double)fminf(fmaxf(low, -127), 127);
        }
    }
}

static spar_status linear_whole(sp_backend *be, const sp_weight *w, const float *bias,
                                const void *x, int terms, int64_t T, float *y, bool accumulate,
                                spar_error *err) {
    (void)err;
    for (int64_t t = 0; t < T; t++) {
        for (int64_t o = 0; o < w->out; o++) {
            double sum = bias != NULL ? (double)bias[o] : 0.0;
            for (int64_t i0 = 0; i0 < w->in; i0 += SP_AFFINE_BLOCK) {
                double rounded[SP_AFFINE_BLOCK];
                round_block(be, x, t * w->in + i0, terms, rounded);
                for (int i = 0; i < SP_AFFINE_BLOCK; i++) {
                    sum += rounded[i] * (double)sp_blocks_weight(w->blocks, o, i0 + i);
                }
            }
            float *to = &y[t * w->out + o];
            *to = accumulate ? *to + (float)sum : (float)sum;
        }
    }
    return SPAR_OK;
}

static spar_status linear_dx(sp_backend *be, const sp_weight *w, const void *dy, int64_t T,
                             float *dx, bool accumulate, spar_error *err) {
    (void)err;
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = 0; i < w->in; i++) {
            double sum = 0;
            for (int64_t o = 0; o < w->out; o++) {
                sum += (double)sp_operand_load(be, dy, t * w->out + o) *
                       (double)sp_operand_weight(be, w, o, i);
            }
            float *to = &dx[t * w->in + i];
            *to = accumulate ? *to + (float)sum : (float)sum;
        }
    }
    return SPAR_OK;
}

static void bias_dw(sp_backend *be, int64_t out, const void *dy, int64_t T, float *dbias) {
    for (int64_t o = 0; o < out; o++) {
        double sum = 0;
        for (int64_t t = 0; t < T; t++) {
            sum += (double)sp_operand_load(be, dy, t * out + o);
        }
        dbias[o] += (float)sum;
    }
}

static spar_status linear_dw(sp_backend *be, int64_t out, int64_t in, const void *dy, const void *x,
                             int64_t T, float *dw, bool accumulate, float *dbias, spar_error *err) {
    (void)err;
    for (int64_t o = 0; o < out; o++) {
        for (int64_t i = 0; i < in; i++) {
            double sum = 0;
            for (int64_t t = 0; t < T; t++) {
                sum += (double)sp_operand_load(be, dy, t * out + o) *
                       (double)sp_operand_load(be, x, t * in + i);
            }
            float *to = &dw[o * in + i];
            *to = accumulate ? *to + (float)sum : (float)sum;
        }
    }
    if (dbias != NULL) {
        bias_dw(be, out, dy, T, dbias);
    }
    return SPAR_OK;
}

static void to_operand(sp_backend *be, const float *x, int64_t n, float factor, void *y) {
    for (int64_t i = 0; i < n; i++) {
        sp_operand_store(be, y, i, x[i] * factor);
    }
}

static void copy(sp_backend *be, const float *x, int64_t n, float *y) {
    (void)be;
    memcpy(y, x, (size_t)n * sizeof *y);
}

static void add_scaled(sp_backend *be, const float *x, int64_t n, float factor, float *y) {
    (void)be;
    for (int64_t i = 0; i < n; i++) {
        y[i] += x[i] * factor;
    }
}

static void clip(sp_backend *be, float *x, int64_t n, float bound, uint8_t *kept) {
    (void)be;
    for (int64_t i = 0; i < n; i++) {
        const bool within = fabsf(x[i]) <= bound;
        if (kept != NULL) {
            kept[i] = within;
        }
        x[i] = within ? x[i] : copysignf(bound, x[i]);
    }
}

static void clip_bwd(sp_backend *be, float *dx, int64_t n, const uint8_t *kept) {
    (void)be;
    for (int64_t i = 0; i < n; i++) {
        dx[i] = kept[i] ? dx[i] : 0.0F;
    }
}

static void embed(sp_backend *be, const sp_weight *table, const int32_t *ids, int64_t T,
                  float factor, float *x) {
    const int64_t H = table->in;
    (void)be;
    for (int64_t t = 0; t < T; t++) {
        if (table->data != NULL) {
            memcpy(x + t * H, table->data + ids[t] * H, (size_t)H * sizeof *x);
        } else {
            sp_blocks_row(table->blocks, ids[t], x + t * H);
        }
        for (int64_t i = 0; i < H; i++) {
            x[t * H + i] *= factor;
        }
    }
}

static void embed_add(sp_backend *be, const float *table, const int32_t *ids, int64_t T, int64_t H,
                      float *x) {
    (void)be;
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = 0; i < H; i++) {
            x[t * H + i] += table[ids[t] * H + i];
        }
    }
}

static void embed_dw(sp_backend *be, const int32_t *ids, int64_t T, int64_t H, const float *dx,
                     float factor, float *dtable) {
    (void)be;
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = 0; i < H; i++) {
            dtable[ids[t] * H + i] += factor * dx[t * H + i];
        }
    }
}

static float row_rstd(const float *x, int64_t dim, float eps) {
    double sum = 0;
    for (int64_t i = 0; i < dim; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return (float)(1.0 / sqrt(sum / (double)dim + (double)eps));
}

static void rmsnorm(sp_backend *be, const float *x, const float *g, int64_t n, int64_t dim,
                    float eps, void *y, float *rstd) {
    for (int64_t r = 0; r < n; r++) {
        rstd[r] = row_rstd(x + r * dim, dim, eps);
        for (int64_t i = 0; i < dim; i++) {
            sp_operand_store(be, y, r * dim + i, x[r * dim + i] * rstd[r] * g[i]);
        }
    }
}

static void rmsnorm_f32(sp_backend *be, const float *x, const float *g, int64_t n, int64_t dim,
                        float eps, float *y, float *rstd) {
    (void)be;
    for (int64_t r = 0; r < n; r++) {
        rstd[r] = row_rstd(x + r * dim, dim, eps);
        for (int64_t i = 0; i < dim; i++) {
            y[r * dim + i] = x[r * dim + i] * rstd[r] * g[i];
        }
    }
}

static void layernorm(sp_backend *be, const float *x, const float *shift, const float *g,
                      const float *bias, int64_t n, int64_t dim, float eps, float *y, void *z) {
    for (int64_t r = 0; r < n; r++, x += dim, y += dim) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < dim; i++) {
            y[i] = x[i] + (shift != NULL ? shift[i] : 0.0F);
            mean += (double)y[i];
        }
        mean /= (double)dim;
        for (int64_t i = 0; i < dim; i++) {
            variance += ((double)y[i] - mean) * ((double)y[i] - mean);
        }
        const double rstd = 1.0 / sqrt(variance / (double)dim + (double)eps);
        for (int64_t i = 0; i < dim; i++) {
            y[i] = (float)(((double)y[i] - mean) * rstd * (double)g[i] + (double)bias[i]);
            if (z != NULL) {
                sp_operand_store(be, z, r * dim + i, y[i]);
            }
        }
    }
}

/* With y = x s g, s = rstd: dx = s (g dy - x s^2 mean(g dy x)), dg = sum over rows of dy x s. */
static void rmsnorm_bwd(sp_backend *be, const float *x, const float *g, const float *rstd,
                        const float *dy, int64_t n, int64_t dim, float *dx, bool accumulate,
                        float *dg) {
    (void)be;
    for (int64_t i = 0; dg != NULL && i < dim; i++) {
        double sum = 0;
        for (int64_t r = 0; r < n; r++) {
            sum += (double)dy[r * dim + i] * (double)x[r * dim + i] * (double)rstd[r];
        }
        dg[i] += (float)sum;
    }
    for (int64_t r = 0; r < n; r++) {
        const double s = (double)rstd[r];
        double dot = 0;
        for (int64_t i = 0; i < dim; i++) {
            dot += (double)g[i] * (double)dy[r * dim + i] * (double)x[r * dim + i];
        }
        const double mean = dot / (double)dim * s * s;
        for (int64_t i = 0; i < dim; i++) {
            const int64_t at = r * dim + i;
            const double d = s * ((double)g[i] * (double)dy[at] - (double)x[at] * mean);
            dx[at] = accumulate ? dx[at] + (float)d : (float)d;
        }
    }
}

static double row_mean(const float *x, int64_t dim) {
    double sum = 0;
    for (int64_t i = 0; i < dim; i++) {
        sum += (double)x[i];
    }
    return sum / (double)dim;
}

static void layernorm_operand(sp_backend *be, const float *x, const float *g, const float *bias,
                              int64_t n, int64_t dim, float eps, void *y, float *rstd) {
    for (int64_t r = 0; r < n; r++) {
        const double mean = row_mean(x + r * dim, dim);
        double sum = 0;
        for (int64_t i = 0; i < dim; i++) {
            sum += ((double)x[r * dim + i] - mean) * ((double)x[r * dim + i] - mean);
        }
        const double s = 1.0 / sqrt(sum / (double)dim + (double)eps);
        rstd[r] = (float)s;
        for (int64_t i = 0; i < dim; i++) {
            const double z = ((double)x[r * dim + i] - mean) * s * (double)g[i];
            sp_operand_store(be, y, r * dim + i, (float)(z + (bias ? (double)bias[i] : 0.0)));
        }
    }
}

/* dg and dbias: sums over the rows of dy z and of dy, z = (x - mean) s. */
static void layernorm_sums(const float *x, const float *rstd, const float *dy, int64_t n,
                           int64_t dim, float *dg, float *dbias) {
    for (int64_t r = 0; r < n; r++) {
        const double mean = row_mean(x + r * dim, dim);
        for (int64_t i = 0; i < dim; i++) {
            const int64_t at = r * dim + i;
            const double d = (double)dy[at];
            if (dg != NULL) {
                dg[i] += (float)(d * ((double)x[at] - mean) * (double)rstd[r]);
            }
            if (dbias != NULL) {
                dbias[i] += (float)d;
            }
        }
    }
}

/* With y = z g + bias, z = (x - mean) s: dx = s (g dy - mean(g dy) - z mean(g dy z)). */
static void layernorm_bwd(sp_backend *be, const float *x, const float *g, const float *rstd,
                          const float *dy, int64_t n, int64_t dim, float *dx, bool accumulate,
                          float *dg, float *dbias) {
    (void)be;
    layernorm_sums(x, rstd, dy, n, dim, dg, dbias);
    for (int64_t r = 0; r < n; r++) {
        const double mean = row_mean(x + r * dim, dim), s = (double)rstd[r];
        double plain = 0, along = 0;
        for (int64_t i = 0; i < dim; i++) {
            const double d = (double)g[i] * (double)dy[r * dim + i];
            plain += d / (double)dim;
            along += d * ((double)x[r * dim + i] - mean) * s / (double)dim;
        }
        for (int64_t i = 0; i < dim; i++) {
            const int64_t at = r * dim + i;
            const double z = ((double)x[at] - mean) * s;
            const double d = s * ((double)g[i] * (double)dy[at] - plain - z * along);
            dx[at] = accumulate ? dx[at] + (float)d : (float)d;
        }
    }
}

static void layernorm_heads(sp_backend *be, const float *x, const sp_head_gains *g, int64_t n,
                            float eps, float *y, float *rstd) {
    (void)be;
    for (int64_t r = 0; r < n * g->heads; r++) {
        const float *row = x + r * g->dim, *gain = g->at + r % g->heads * g->step;
        const double mean = row_mean(row, g->dim);
        double sum = 0;
        for (int64_t i = 0; i < g->dim; i++) {
            sum += ((double)row[i] - mean) * ((double)row[i] - mean);
        }
        rstd[r] = (float)(1.0 / sqrt(sum / (double)g->dim + (double)eps));
        for (int64_t i = 0; i < g->dim; i++) {
            y[r * g->dim + i] =
                (float)(((double)row[i] - mean) * (double)rstd[r] * (double)gain[i]);
        }
    }
}

static void layernorm_heads_bwd(sp_backend *be, const float *x, const sp_head_gains *g,
                                const float *rstd, const float *dy, int64_t n, float *dx,
                                float *dg) {
    for (int64_t r = 0; r < n * g->heads; r++) {
        const int64_t of_head = r % g->heads * g->step;
        layernorm_bwd(be, x + r * g->dim, g->at + of_head, rstd + r, dy + r * g->dim, 1, g->dim,
                      dx + r * g->dim, false, dg != NULL ? dg + of_head : NULL, NULL);
    }
}

static void rope(sp_backend *be, float *x, int64_t T, int n_heads, int head_dim,
                 const sp_rotation *rotation, const int32_t *positions, float sign) {
    (void)be;
    const int half = rotation->dims / 2;
    for (int64_t t = 0; t < T; t++) {
        const float *c = rotation->cos_table + (int64_t)positions[t] * half;
        const float *s = rotation->sin_table + (int64_t)positions[t] * half;
        for (int h = 0; h < n_heads; h++) {
            float *row = x + (t * n_heads + h) * head_dim;
            for (int i = 0; i < half; i++) {
                float *low = row + (rotation->adjacent ? 2 * i : i);
                float *high = rotation->adjacent ? low + 1 : low + half;
                const float a = *low, b = *high;
                *low = a * c[i] - b * sign * s[i];
                *high = b * c[i] + a * sign * s[i];
            }
        }
    }
}

static double sigmoid(double x) {
    return 1.0 / (1.0 + exp(-x));
}

/* An activation is act(x) = x w(x); its derivative is w + x w'. */
typedef struct gate_share {
    double w, slope; /* w'(x) */
} gate_share;

static gate_share share_of(sp_act act, double x) {
    static const double pi = 3.14159265358979323846;
    if (act == SP_RELU) {
        return (gate_share){x > 0 ? 1.0 : 0.0, 0.0};
    }
    if (act == SP_RELU2) {
        return (gate_share){x > 0 ? x : 0.0, x > 0 ? 1.0 : 0.0};
    }
    if (act == SP_GELU) {
        return (gate_share){0.5 * erfc(-x / sqrt(2.0)), exp(-0.5 * x * x) / sqrt(2.0 * pi)};
    }
    const double c = 2.0 * sqrt(2.0 / pi), bend = 0.044715;
    const bool plain = act == SP_SILU;
    const double s = sigmoid(plain ? x : c * (x + bend * x * x * x));
    return (gate_share){s, s * (1.0 - s) * (plain ? 1.0 : c * (1.0 + 3.0 * bend * x * x))};
}

static double activated(sp_act act, double x) {
    switch (act) {
    case SP_RELU:
        return x > 0 ? x : 0;
    case SP_TANH:
        return tanh(x);
    default:
        return x * share_of(act, x).w;
    }
}

static void activate(sp_backend *be, sp_act act, const float *x, const float *shift, int64_t n,
                     int64_t dim, bool f32, void *y) {
    for (int64_t i = 0; i < n * dim; i++) {
        const float v = x[i] + (shift != NULL ? shift[i % dim] : 0.0F);
        const float value = (float)activated(act, (double)v);
        if (f32) {
            ((float *)y)[i] = value;
        } else {
            sp_operand_store(be, y, i, value);
        }
    }
}

static void glu(sp_backend *be, sp_act act, const float *gate, const float *up, int64_t n, void *y,
                void *kept_gate, void *kept_up) {
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)gate[i];
        sp_operand_store(be, y, i, (float)(g * share_of(act, g).w * (double)up[i]));
        if (kept_gate != NULL) {
            sp_operand_store(be, kept_gate, i, gate[i]);
            sp_operand_store(be, kept_up, i, up[i]);
        }
    }
}

static void glu_kept(sp_backend *be, sp_act act, const void *gate, const void *up, int64_t n,
                     void *y) {
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)sp_operand_load(be, gate, i);
        const double u = (double)sp_operand_load(be, up, i);
        sp_operand_store(be, y, i, (float)(g * share_of(act, g).w * u));
    }
}

static void glu_bwd(sp_backend *be, sp_act act, const void *gate, const void *up, const float *dy,
                    int64_t n, void *dgate, void *dup) {
    for (int64_t i = 0; i < n; i++) {
        const double g = (double)sp_operand_load(be, gate, i), d = (double)dy[i];
        const double u = (double)sp_operand_load(be, up, i);
        const gate_share s = share_of(act, g);
        sp_operand_store(be, dgate, i, (float)(d * u * (s.w + g * s.slope)));
        sp_operand_store(be, dup, i, (float)(d * g * s.w));
    }
}

static void activate_kept(sp_backend *be, sp_act act, const void *x, int64_t n, void *y) {
    for (int64_t i = 0; i < n; i++) {
        const double v = (double)sp_operand_load(be, x, i);
        sp_operand_store(be, y, i, (float)(v * share_of(act, v).w));
    }
}

static void activate_bwd(sp_backend *be, sp_act act, const void *x, const float *dy, int64_t n,
                         void *dx) {
    for (int64_t i = 0; i < n; i++) {
        const double v = (double)sp_operand_load(be, x, i);
        const gate_share s = share_of(act, v);
        sp_operand_store(be, dx, i, (float)((double)dy[i] * (s.w + v * s.slope)));
    }
}

static void xielu(sp_backend *be, const sp_xielu *p, const void *x, bool kept, int64_t n, void *y) {
    for (int64_t i = 0; i < n; i++) {
        const double v = kept ? (double)sp_operand_load(be, x, i) : (double)((const float *)x)[i];
        const double curve = v > 0 ? (double)p->positive * v * v
                                   : (double)p->negative * (expm1(fmin(v, (double)p->eps)) - v);
        sp_operand_store(be, y, i, (float)(curve + (double)p->beta * v));
    }
}

static void xielu_bwd(sp_backend *be, const sp_xielu *p, const void *x, const float *dy, int64_t n,
                      void *dx, float *dpositive, float *dnegative) {
    double positive = 0, negative = 0;
    for (int64_t i = 0; i < n; i++) {
        const double v = (double)sp_operand_load(be, x, i), d = (double)dy[i];
        const double eps = (double)p->eps;
        double slope = 2.0 * (double)p->positive * v;
        if (v > 0) {
            positive += d * v * v;
        } else {
            slope = (double)p->negative * (v < eps ? expm1(v) : -1.0);
            negative += d * (expm1(fmin(v, eps)) - v);
        }
        sp_operand_store(be, dx, i, (float)(d * (slope + (double)p->beta)));
    }
    if (dpositive != NULL) {
        *dpositive += (float)(positive * (double)p->by_positive);
        *dnegative += (float)(negative * (double)p->by_negative);
    }
}

static void gather(sp_backend *be, const float *x, const int64_t *rows, int64_t n_rows, int64_t H,
                   float *y) {
    (void)be;
    for (int64_t i = 0; i < n_rows; i++) {
        memcpy(y + i * H, x + rows[i] * H, (size_t)H * sizeof *y);
    }
}

static void scatter_add(sp_backend *be, const float *dy, const int64_t *rows, int64_t n_rows,
                        int64_t H, float *dx) {
    (void)be;
    for (int64_t i = 0; i < n_rows; i++) {
        for (int64_t j = 0; j < H; j++) {
            dx[rows[i] * H + j] += dy[i * H + j];
        }
    }
}

static void dropout(sp_backend *be, const void *x, int64_t n, const sp_dropout *d, void *y) {
    sp_dropout_range(be, x, 0, n, d, y);
}

static void dropout_add(sp_backend *be, const float *x, int64_t n, const sp_dropout *d, float *y) {
    (void)be;
    sp_dropout_add_range(x, 0, n, d, y);
}

static void scale_columns(sp_backend *be, const float *x, const float *g, const float *bias,
                          int64_t T, int64_t n, float *y, bool accumulate) {
    (void)be;
    sp_columns_scale(x, g, bias, 0, T, n, y, accumulate);
}

static void scale_columns_bwd(sp_backend *be, const float *x, const float *g, const void *dy,
                              int64_t T, int64_t n, float *dg, void *dx) {
    sp_columns_scale_bwd(be, x, g, dy, T, n, 0, n, dg, dx);
}

static float exp_sum(const float *x, int64_t n, float max, float scale) {
    double total = 0;
    for (int64_t i = 0; i < n; i++) {
        total += exp((double)((x[i] - max) * scale));
    }
    return (float)total;
}

static const sp_ops reference_ops = {
    .name = "reference",
    .chain_begin = sp_reference_chain_begin,
    .chain_local = sp_reference_chain_local,
    .chain_end = chain_end,
    .weight_prepare = weight_prepare,
    .weight_release = weight_release,
    .linear = linear,
    .linear_whole = linear_whole,
    .linear_dx = linear_dx,
    .linear_dw = linear_dw,
    .to_operand = to_operand,
    .copy = copy,
    .add_scaled = add_scaled,
    .clip = clip,
    .clip_bwd = clip_bwd,
    .embed = embed,
    .embed_add = embed_add,
    .embed_dw = embed_dw,
    .rmsnorm = rmsnorm,
    .rmsnorm_f32 = rmsnorm_f32,
    .rmsnorm_bwd = rmsnorm_bwd,
    .layernorm = layernorm,
    .layernorm_operand = layernorm_operand,
    .layernorm_bwd = layernorm_bwd,
    .layernorm_heads = layernorm_heads,
    .layernorm_heads_bwd = layernorm_heads_bwd,
    .rope = rope,
    .relative_attention = sp_reference_relative_attention,
    .attention = sp_reference_attention,
    .cache_put = sp_reference_cache_put,
    .attention_bwd = sp_reference_attention_bwd,
    .short_conv = sp_reference_short_conv,
    .short_conv_bwd = sp_reference_short_conv_bwd,
    .activate = activate,
    .glu = glu,
    .glu_kept = glu_kept,
    .glu_bwd = glu_bwd,
    .activate_kept = activate_kept,
    .activate_bwd = activate_bwd,
    .xielu = xielu,
    .xielu_bwd = xielu_bwd,
    .head_logp = sp_reference_head_logp,
    .head_logp_bwd = sp_reference_head_logp_bwd,
    .form_logits = sp_reference_form_logits,
    .gather = gather,
    .scatter_add = scatter_add,
    .dropout = dropout,
    .dropout_add = dropout_add,
    .scale_columns = scale_columns,
    .scale_columns_bwd = scale_columns_bwd,
    .route = sp_experts_route,
    .route_bwd = sp_experts_route_bwd,
    .take_rows = sp_experts_take_rows,
    .mix = sp_experts_mix,
    .weigh_bwd = sp_experts_weigh_bwd,
    .exp_sum = exp_sum,
};

const sp_ops *sp_reference_row(void) {
    return &reference_ops;
}
