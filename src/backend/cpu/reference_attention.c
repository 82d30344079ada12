#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/operand.h"
#include "backend/cpu/reference.h"
#include "base/mem.h"

/* One query head: what it is and the segment it belongs to. */
typedef struct query {
    const sp_attention *a;
    int segment;
    int64_t row;      /* of q */
    int head;         /* query head */
    int64_t last_key; /* last visible key of the own segment */
} query;

typedef struct key_range {
    int64_t first, last; /* rows of k and v, inclusive; empty when first > last */
} key_range;

static query query_of(const sp_attention *a, int segment, int64_t i, int head) {
    const sp_segment *s = &a->segments[segment];
    return (query){a, segment, s->q_start + i, head, s->kv_len - s->q_len + i};
}

/* The rows of segment g that the query sees. */
static key_range visible(const query *x, int g) {
    const sp_segment *own = &x->a->segments[x->segment], *s = &x->a->segments[g];
    const int64_t position = own->pos0 + x->last_key;
    int64_t first = 0;
    if (x->a->window > 0 && position - x->a->window + 1 > s->pos0) {
        first = position - x->a->window + 1 - s->pos0;
    }
    const int64_t last = g == x->segment ? x->last_key : s->kv_len - 1;
    return (key_range){s->kv_start + first, s->kv_start + last};
}

static int64_t query_at(const query *x) {
    return (x->row * x->a->n_heads + x->head) * x->a->head_dim;
}

static int64_t key_at(const query *x, int64_t row) {
    const int head = x->head / (x->a->n_heads / x->a->n_kv_heads);
    const int64_t place =
        x->a->cache_rows > 0 ? head * x->a->cache_rows + row : row * x->a->n_kv_heads + head;
    return place * x->a->head_dim;
}

/* Element i of the keys or values. */
static double element(const sp_attention *a, const void *array, int64_t i) {
    const bool narrow = a->cache_rows > 0 && a->cache_bf16;
    return (double)(narrow ? sp_bf16_to_f32(((const uint16_t *)array)[i])
                           : ((const float *)array)[i]);
}

static double dot(const float *x, const float *y, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += (double)x[i] * (double)y[i];
    }
    return sum;
}

/* What the distance between the query and a key, row `row` of segment g, adds to their score. */
static double by_distance(const query *x, int g, int64_t row) {
    const sp_segment *own = &x->a->segments[x->segment], *s = &x->a->segments[g];
    const int64_t key = s->pos0 + row - s->kv_start;
    return x->a->slopes ? (double)x->a->slopes[x->head] * (double)(key - own->pos0 - x->last_key)
                        : 0;
}

static double score(const query *x, const float *q, const void *k, int g, int64_t row) {
    const float *from = q + query_at(x);
    const int64_t at = key_at(x, row);
    double sum = 0;
    for (int d = 0; d < x->a->head_dim; d++) {
        sum += (double)from[d] * element(x->a, k, at + d);
    }
    const double s = (double)x->a->scale * sum, cap = (double)x->a->cap;
    return cap > 0 ? cap * tanh(s / cap) : s + by_distance(x, g, row);
}

/* Log-sum-exp of the visible scores; every query sees at least itself. */
static double log_sum(const query *x, const float *q, const void *k) {
    double max = -(double)INFINITY, sum = 0;
    for (int g = x->segment; g >= 0; g = x->a->segments[g].parent) {
        const key_range keys = visible(x, g);
        for (int64_t row = keys.first; row <= keys.last; row++) {
            const double s = score(x, q, k, g, row);
            if (s > max) {
                sum *= exp(max - s);
                max = s;
            }
            sum += exp(s - max);
        }
    }
    return max + log(sum);
}

static void query_forward(sp_backend *be, const query *x, const float *q, const void *k,
                          const void *v, void *out, float *lse) {
    const double total = log_sum(x, q, k);
    for (int d = 0; d < x->a->head_dim; d++) {
        double sum = 0;
        for (int g = x->segment; g >= 0; g = x->a->segments[g].parent) {
            const key_range keys = visible(x, g);
            for (int64_t row = keys.first; row <= keys.last; row++) {
                sum += exp(score(x, q, k, g, row) - total) * element(x->a, v, key_at(x, row) + d);
            }
        }
        sp_operand_store(be, out, query_at(x) + d, (float)sum);
    }
    if (lse != NULL) {
        lse[x->row * x->a->n_heads + x->head] = (float)total;
    }
}

void sp_reference_cache_put(sp_backend *be, const float *x, int64_t n, int heads, int head_dim,
                            void *cache, int64_t cache_rows, bool bf16, int64_t to) {
    (void)be;
    for (int64_t i = 0; i < n * heads * head_dim; i++) {
        const int64_t head = i / head_dim % heads, row = to + i / ((int64_t)heads * head_dim);
        const int64_t at = (head * cache_rows + row) * head_dim + i % head_dim;
        if (bf16) {
            ((uint16_t *)cache)[at] = sp_bf16_from_f32(x[i]);
        } else {
            ((float *)cache)[at] = x[i];
        }
    }
}

spar_status sp_reference_attention(sp_backend *be, const sp_attention *a, const float *q,
                                   const void *k, const void *v, void *out, float *lse,
                                   spar_error *err) {
    (void)err;
    for (int s = 0; s < a->n_segments; s++) {
        for (int64_t i = 0; i < a->segments[s].q_len; i++) {
            for (int head = 0; head < a->n_heads; head++) {
                const query x = query_of(a, s, i, head);
                query_forward(be, &x, q, k, v, out, lse);
            }
        }
    }
    return SPAR_OK;
}

typedef struct backward {
    sp_backend *be;
    const float *q, *k, *v, *lse, *dout;
    const void *out;
    float *dq, *dk, *dv;
} backward;

/* With P = softmax(S) and O = P V: dP = dO V^T, dS = P (dP - dO . O), dV += P^T dO; a cap's
 * derivative is 1 - (S / cap)^2. */
static void query_backward(const backward *b, const query *x) {
    const sp_attention *a = x->a;
    const int64_t at = query_at(x);
    const double total = (double)b->lse[x->row * a->n_heads + x->head];
    double own = 0;
    for (int d = 0; d < a->head_dim; d++) {
        own += (double)b->dout[at + d] * (double)sp_operand_load(b->be, b->out, at + d);
    }
    for (int g = x->segment; g >= 0; g = a->segments[g].parent) {
        const key_range keys = visible(x, g);
        for (int64_t row = keys.first; row <= keys.last; row++) {
            const int64_t to = key_at(x, row);
            const double s = score(x, b->q, b->k, g, row), p = exp(s - total);
            const double t = a->cap > 0 ? s / (double)a->cap : 0;
            const double dp = dot(b->dout + at, b->v + to, a->head_dim);
            const double ds = p * (dp - own) * (1 - t * t) * (double)a->scale;
            for (int d = 0; d < a->head_dim; d++) {
                b->dq[at + d] += (float)(ds * (double)b->k[to + d]);
                b->dk[to + d] += (float)(ds * (double)b->q[at + d]);
                b->dv[to + d] += (float)(p * (double)b->dout[at + d]);
            }
        }
    }
}

static void clear_rows(float *x, int64_t start, int64_t n, int64_t width) {
    memset(x + start * width, 0, (size_t)(n * width) * sizeof *x);
}

spar_status sp_reference_attention_bwd(sp_backend *be, const sp_attention *a, const float *q,
                                       const float *k, const float *v, const void *out,
                                       const float *lse, const float *dout, float *dq, float *dk,
                                       float *dv, spar_error *err) {
    (void)err;
    const backward b = {be, q, k, v, lse, dout, out, dq, dk, dv};
    for (int s = 0; s < a->n_segments; s++) {
        const sp_segment *g = &a->segments[s];
        clear_rows(dq, g->q_start, g->q_len, (int64_t)a->n_heads * a->head_dim);
        clear_rows(dk, g->kv_start, g->kv_len, (int64_t)a->n_kv_heads * a->head_dim);
        clear_rows(dv, g->kv_start, g->kv_len, (int64_t)a->n_kv_heads * a->head_dim);
    }
    for (int s = 0; s < a->n_segments; s++) {
        for (int64_t i = 0; i < a->segments[s].q_len; i++) {
            for (int head = 0; head < a->n_heads; head++) {
                const query x = query_of(a, s, i, head);
                query_backward(&b, &x);
            }
        }
    }
    return SPAR_OK;
}

/* One query of one head against the keys start .. end - 1: p [end - start] = its probabilities. */
static void relative_row(const sp_backend *be, const sp_relative_attention *a, const void *q,
                         const void *k, int64_t start, int64_t end, int64_t i, int64_t head,
                         double *p) {
    const int64_t D = a->head_dim, H = a->n_heads * D;
    double max = -INFINITY, sum = 0;
    for (int64_t j = start; j < end; j++) {
        double score = 0;
        const int64_t b = a->pos_key || a->pos_query ? a->buckets[i - j] : 0;
        for (int64_t d = head; d < head + D; d++) {
            const double x = (double)sp_operand_load(be, q, i * H + d);
            const double y = (double)sp_operand_load(be, k, j * H + d);
            score += x * y;
            score += a->pos_key ? x * (double)a->pos_key[b * H + d] : 0;
            score += a->pos_query ? y * (double)a->pos_query[b * H + d] : 0;
        }
        p[j - start] = score * (double)a->scale;
        max = p[j - start] > max ? p[j - start] : max;
    }
    for (int64_t j = 0; j < end - start; j++) {
        p[j] = exp(p[j] - max);
        sum += p[j];
    }
    for (int64_t j = 0; j < end - start; j++) {
        p[j] /= sum;
    }
}

spar_status sp_reference_relative_attention(sp_backend *be, const sp_relative_attention *a,
                                            const void *q, const void *k, const void *v, void *out,
                                            spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t D = a->head_dim, H = a->n_heads * D;
    void *memory = NULL;
    for (int r = 0; r < a->n_rows; r++) {
        const int64_t start = a->starts[r], end = a->starts[r + 1];
        free(memory);
        memory = NULL;
        SPAR_TRY(sp_mem_calloc(&memory, (size_t)(end - start), sizeof(double), err));
        double *p = memory;
        for (int64_t at = start * a->n_heads; at < end * a->n_heads; at++) {
            const int64_t i = at / a->n_heads, head = at % a->n_heads * D;
            relative_row(be, a, q, k, start, end, i, head, p);
            for (int64_t d = head; d < head + D; d++) {
                double sum = 0;
                for (int64_t j = start; j < end; j++) {
                    sum += p[j - start] * (double)sp_operand_load(be, v, j * H + d);
                }
                sp_operand_store(be, out, i * H + d, (float)sum);
            }
        }
    }
done:
    free(memory);
    return status;
}
