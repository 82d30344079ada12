/* Inside the attention: small matrix products and the softmax. */
#include <math.h>

#include "backend/cpu/simd_variant.h"

enum { QUAD = 4 * SP_VEC };

/* Two rows by four vectors: eight independent sums hide the latency of the multiply-add, and six
 * loads feed them. Each element of C is summed over k in order, in every path below alike, so that
 * a row's result does not depend on its neighbours. */
static void tile_two(const sp_block *p, int64_t m, int64_t n) {
    const float *a0 = p->a + m * p->a_row, *a1 = a0 + p->a_row, *b = p->b + n;
    float *c0 = p->c + m * p->c_row + n, *c1 = c0 + p->c_row;
    sp_vec s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0}, t0 = {0}, t1 = {0}, t2 = {0}, t3 = {0};
    if (p->accumulate) {
        s0 = sp_vec_load(c0), s1 = sp_vec_load(c0 + SP_VEC), s2 = sp_vec_load(c0 + 2 * SP_VEC);
        s3 = sp_vec_load(c0 + 3 * SP_VEC), t0 = sp_vec_load(c1), t1 = sp_vec_load(c1 + SP_VEC);
        t2 = sp_vec_load(c1 + 2 * SP_VEC), t3 = sp_vec_load(c1 + 3 * SP_VEC);
    }
    for (int64_t k = 0; k < p->K; k++, b += p->b_row) {
        const float x = a0[k * p->a_column], y = a1[k * p->a_column];
        const sp_vec b0 = sp_vec_load(b), b1 = sp_vec_load(b + SP_VEC);
        const sp_vec b2 = sp_vec_load(b + 2 * SP_VEC), b3 = sp_vec_load(b + 3 * SP_VEC);
        s0 += x * b0, s1 += x * b1, s2 += x * b2, s3 += x * b3;
        t0 += y * b0, t1 += y * b1, t2 += y * b2, t3 += y * b3;
    }
    sp_vec_store(c0, s0), sp_vec_store(c0 + SP_VEC, s1), sp_vec_store(c0 + 2 * SP_VEC, s2);
    sp_vec_store(c0 + 3 * SP_VEC, s3), sp_vec_store(c1, t0), sp_vec_store(c1 + SP_VEC, t1);
    sp_vec_store(c1 + 2 * SP_VEC, t2), sp_vec_store(c1 + 3 * SP_VEC, t3);
}

static void tile_one(const sp_block *p, int64_t m, int64_t n) {
    const float *a = p->a + m * p->a_row, *b = p->b + n;
    float *c = p->c + m * p->c_row + n;
    sp_vec s = {0};
    if (p->accumulate) {
        s = sp_vec_load(c);
    }
    for (int64_t k = 0; k < p->K; k++, b += p->b_row) {
        s += a[k * p->a_column] * sp_vec_load(b);
    }
    sp_vec_store(c, s);
}

/* One row by four vectors, for an odd last row. */
static void tile_row(const sp_block *p, int64_t m, int64_t n) {
    const float *a = p->a + m * p->a_row, *b = p->b + n;
    float *c = p->c + m * p->c_row + n;
    sp_vec s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    if (p->accumulate) {
        s0 = sp_vec_load(c), s1 = sp_vec_load(c + SP_VEC);
        s2 = sp_vec_load(c + 2 * SP_VEC), s3 = sp_vec_load(c + 3 * SP_VEC);
    }
    for (int64_t k = 0; k < p->K; k++, b += p->b_row) {
        const float x = a[k * p->a_column];
        s0 += x * sp_vec_load(b), s1 += x * sp_vec_load(b + SP_VEC);
        s2 += x * sp_vec_load(b + 2 * SP_VEC), s3 += x * sp_vec_load(b + 3 * SP_VEC);
    }
    sp_vec_store(c, s0), sp_vec_store(c + SP_VEC, s1);
    sp_vec_store(c + 2 * SP_VEC, s2), sp_vec_store(c + 3 * SP_VEC, s3);
}

static void tile_scalar(const sp_block *p, int64_t m, int64_t n) {
    const float *a = p->a + m * p->a_row;
    float sum = p->accumulate ? p->c[m * p->c_row + n] : 0.0F;
    for (int64_t k = 0; k < p->K; k++) {
        sum += a[k * p->a_column] * p->b[k * p->b_row + n];
    }
    p->c[m * p->c_row + n] = sum;
}

static void block_product(const sp_block *p) {
    int64_t n = 0;
    for (; n + QUAD <= p->N; n += QUAD) {
        int64_t m = 0;
        for (; m + 2 <= p->M; m += 2) {
            tile_two(p, m, n);
        }
        if (m < p->M) {
            tile_row(p, m, n);
        }
    }
    for (; n + SP_VEC <= p->N; n += SP_VEC) {
        for (int64_t m = 0; m < p->M; m++) {
            tile_one(p, m, n);
        }
    }
    for (; n < p->N; n++) {
        for (int64_t m = 0; m < p->M; m++) {
            tile_scalar(p, m, n);
        }
    }
}

/* Two rows of a against one row of b. */
static void dots_two(const sp_block *p, const float *x, const float *b, float *c) {
    const float *y = x + p->a_row;
    float sx = 0, sy = 0;
#pragma omp simd reduction(+ : sx, sy)
    for (int64_t k = 0; k < p->K; k++) {
        sx += x[k] * b[k];
        sy += y[k] * b[k];
    }
    c[0] = sx;
    c[p->c_row] = sy;
}

static float dots_one(const sp_block *p, const float *x, const float *b) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t k = 0; k < p->K; k++) {
        sum += x[k] * b[k];
    }
    return sum;
}

static void block_dots(const sp_block *p) {
    for (int64_t n = 0; n < p->N; n++) {
        const float *b = p->b + n * p->b_row;
        int64_t m = 0;
        for (; m + 2 <= p->M; m += 2) {
            dots_two(p, p->a + m * p->a_row, b, p->c + m * p->c_row + n);
        }
        if (m < p->M) {
            p->c[m * p->c_row + n] = dots_one(p, p->a + m * p->a_row, b);
        }
    }
}

static void transpose(const float *x, int64_t x_row, int rows, int columns, float factor, float *y,
                      int64_t y_row) {
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < columns; c++) {
            y[c * y_row + r] = x[r * x_row + c] * factor;
        }
    }
}

/* Without a branch, which would keep the loops below from vectorising; for the same reason they
 * read the bounds through local pointers. */
static inline __attribute__((always_inline)) bool sees(int key, int32_t first, int32_t last) {
    return (key >= first) & (key < last);
}

/* factor [r] = what old sums of row r shrink by now that max [r] is raised. A row that has seen no
 * key has max -inf, and keeps its empty sums. */
static void raise_max(const sp_scores *p, float *max, float *factor) {
    const int n = p->n_rows;
    const int32_t *first = p->first, *last = p->last;
    for (int r = 0; r < n; r++) {
        factor[r] = max[r];
    }
    for (int j = 0; j < p->n_keys; j++) {
        const float *s = p->s + j * p->s_row;
#pragma omp simd
        for (int r = 0; r < n; r++) {
            const float x = sees(j, first[r], last[r]) ? s[r] : -INFINITY;
            max[r] = x > max[r] ? x : max[r];
        }
    }
#pragma omp simd
    for (int r = 0; r < n; r++) {
        factor[r] = factor[r] == max[r] ? 1.0F : sp_exp(factor[r] - max[r]);
    }
}

static void rescale(const sp_scores *p, const float *factor, float *sum, float *out, int64_t dim) {
    for (int r = 0; r < p->n_rows; r++) {
        if (factor[r] == 1.0F) {
            continue;
        }
        sum[r] *= factor[r];
        float *row = out + r * dim;
#pragma omp simd
        for (int64_t d = 0; d < dim; d++) {
            row[d] *= factor[r];
        }
    }
}

static void softmax_step(const sp_scores *p, float *max, float *sum, float *out, int64_t dim) {
    float factor[SP_BLOCK_ROWS];
    const int n = p->n_rows;
    const int32_t *first = p->first, *last = p->last;
    raise_max(p, max, factor);
    rescale(p, factor, sum, out, dim);
    for (int j = 0; j < p->n_keys; j++) {
        float *s = p->s + j * p->s_row;
#pragma omp simd
        for (int r = 0; r < n; r++) {
            const float e = sp_exp(s[r] - max[r]);
            const float seen = sees(j, first[r], last[r]) ? e : 0.0F;
            s[r] = seen;
            sum[r] += seen;
        }
    }
}

static float row_sum(float *s, int first, int last, float max) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int j = first; j < last; j++) {
        s[j] = sp_exp(s[j] - max);
        sum += s[j];
    }
    return sum;
}

static float row_max(const float *s, int first, int last) {
    float lanes[SP_VEC];
    int j = first;
    for (int i = 0; i < SP_VEC; i++) {
        lanes[i] = -INFINITY;
    }
    for (; j + SP_VEC <= last; j += SP_VEC) {
#pragma omp simd
        for (int i = 0; i < SP_VEC; i++) {
            lanes[i] = s[j + i] > lanes[i] ? s[j + i] : lanes[i];
        }
    }
    for (; j < last; j++) {
        lanes[0] = s[j] > lanes[0] ? s[j] : lanes[0];
    }
    for (int i = 1; i < SP_VEC; i++) {
        lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    }
    return lanes[0];
}

static void softmax_step_rows(const sp_scores *p, float *max, float *sum, float *out, int64_t dim) {
    float factor[SP_BLOCK_ROWS];
    for (int r = 0; r < p->n_rows; r++) {
        const float block_max = row_max(p->s + r * p->s_row, p->first[r], p->last[r]);
        factor[r] = block_max > max[r] ? sp_exp(max[r] - block_max) : 1.0F;
        max[r] = block_max > max[r] ? block_max : max[r];
    }
    rescale(p, factor, sum, out, dim);
    for (int r = 0; r < p->n_rows; r++) {
        float *s = p->s + r * p->s_row;
        const int first = p->first[r], last = p->last[r] > first ? p->last[r] : first;
        sum[r] += row_sum(s, first, last, max[r]);
        memset(s, 0, (size_t)first * sizeof *s);
        memset(s + last, 0, (size_t)(p->n_keys - last) * sizeof *s);
    }
}

static void softmax_grad_columns(const sp_scores *p, const float *lse, const float *delta,
                                 float *dp) {
    const int n = p->n_rows;
    const int32_t *first = p->first, *last = p->last;
    const float inverse = p->cap > 0 ? 1.0F / p->cap : 0.0F;
    for (int j = 0; j < p->n_keys; j++) {
        float *s = p->s + j * p->s_row, *d = dp + j * p->s_row;
#pragma omp simd
        for (int r = 0; r < n; r++) {
            const float e = sp_exp(s[r] - lse[r]), t = s[r] * inverse;
            const float seen = sees(j, first[r], last[r]) ? e : 0.0F;
            s[r] = seen;
            d[r] = seen * (1.0F - t * t) * (d[r] - delta[r]);
        }
    }
}

void SP_SIMD_NAME(sp_simd_fill_blocks)(sp_simd *table) {
    table->block_product = block_product;
    table->block_dots = block_dots;
    table->transpose = transpose;
    table->softmax_step = softmax_step;
    table->softmax_step_rows = softmax_step_rows;
    table->softmax_grad_columns = softmax_grad_columns;
}
