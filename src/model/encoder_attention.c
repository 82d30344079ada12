/* Attention of every row of a pack to itself, one head of one row at a time, by matrix products.
 *
 * DeBERTa (arXiv 2006.03654, eq. 4) adds to the score of query i and key j
 *     c2p: q_i . Kr[d(i, j)]   and   p2c: k_j . Qr[d(j, i)],
 * Kr, Qr the projected relative embeddings and d the bucket of a distance. As buckets are odd in
 * the distance, the published code's index of both terms is that of i - j: sp_encoder_bucket.
 * Scores are divided by sqrt(D terms), terms = 1 and one for each of the two.
 */
#include <math.h>
#include <string.h>

#include "model/encoder_parts.h"

enum { TASK_ROWS = 16 };

typedef struct softmax_job {
    const sp_encoder *e;
    int64_t n, q0, rows; /* keys; first query and number of queries of this block */
    const int32_t *zero; /* buckets of distance 0, so that zero[i - j] is that of i and j */
    float scale;
    bool c2p, p2c;
} softmax_job;

static void add_relative(const softmax_job *j, int64_t row) {
    const sp_encoder_space *s = &j->e->space;
    const int64_t S = s->related, query = j->q0 + row;
    float *scores = s->scores + row * j->n;
    for (int64_t key = 0; key < j->n; key++) {
        const int32_t bucket = j->zero[query - key];
        float sum = j->c2p ? s->c2p[row * S + bucket] : 0.0F;
        sum += j->p2c ? s->p2c[key * S + bucket] : 0.0F;
        scores[key] += sum;
    }
}

static void softmax_row(float *x, int64_t n, float scale) {
    float max = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        x[i] = expf((x[i] - max) * scale);
        sum += (double)x[i];
    }
    const float inverse = (float)(1.0 / sum);
    for (int64_t i = 0; i < n; i++) {
        x[i] *= inverse;
    }
}

static void softmax_task(void *context, int task, int worker) {
    const softmax_job *j = context;
    const int64_t first = (int64_t)task * TASK_ROWS;
    (void)worker;
    for (int64_t row = first; row < j->rows && row < first + TASK_ROWS; row++) {
        if (j->c2p || j->p2c) {
            add_relative(j, row);
        }
        softmax_row(j->e->space.scores + row * j->n, j->n, j->scale);
    }
}

/* y [rows, out] = x [rows, in] M^T for a matrix M [out, in] that is no weight: it is prepared for
 * this one product. */
static spar_status multiply(sp_encoder *e, const float *matrix, int64_t out, int64_t in,
                            const float *x, int64_t rows, float *y, spar_error *err) {
    sp_encoder_linear l = {.w = {.data = matrix, .out = out, .in = in}};
    spar_status status = e->backend->ops->weight_prepare(e->backend, &l.w, SP_PREPARE_FORWARD, err);
    if (status == SPAR_OK) {
        status = sp_encoder_apply(e, &l, x, rows, y, err);
    }
    e->backend->ops->weight_release(e->backend, &l.w);
    return status;
}

/* y [n, D] = columns of head h of x [n, H]. */
static void gather_head(const float *x, int64_t n, int64_t H, int64_t D, int64_t h, float *y) {
    for (int64_t i = 0; i < n; i++) {
        memcpy(y + i * D, x + i * H + h * D, (size_t)D * sizeof *y);
    }
}

static void gather_transposed(const float *x, int64_t n, int64_t H, int64_t D, int64_t h,
                              float *y) {
    for (int64_t i = 0; i < n; i++) {
        for (int64_t d = 0; d < D; d++) {
            y[d * n + i] = x[i * H + h * D + d];
        }
    }
}

static spar_status query_block(sp_encoder *e, softmax_job *job, int64_t start, int64_t h,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    sp_encoder_space *s = &e->space;
    const int64_t H = e->config.hidden, D = H / e->config.heads, S = s->related;
    const int64_t n = job->n, rows = job->rows;
    SPAR_TRY(multiply(e, s->head_k, n, D, s->head_q + job->q0 * D, rows, s->scores, err));
    if (job->c2p) {
        gather_head(s->pos_key, S, H, D, h, s->head_pos);
        SPAR_TRY(multiply(e, s->head_pos, S, D, s->head_q + job->q0 * D, rows, s->c2p, err));
    }
    sp_pool_run(e->pool, (int)((rows + TASK_ROWS - 1) / TASK_ROWS), softmax_task, job);
    SPAR_TRY(multiply(e, s->head_vt, D, n, s->scores, rows, s->head_out, err));
    for (int64_t i = 0; i < rows; i++) {
        memcpy(s->a + (start + job->q0 + i) * H + h * D, s->head_out + i * D,
               (size_t)D * sizeof *s->a);
    }
done:
    return status;
}

static spar_status attend(sp_encoder *e, int64_t start, int64_t n, int64_t longest, int64_t h,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    sp_encoder_space *s = &e->space;
    const sp_encoder_config *c = &e->config;
    const int64_t H = c->hidden, D = H / c->heads, S = s->related;
    softmax_job job = {.e = e,
                       .n = n,
                       .zero = S ? s->buckets + longest - 1 : NULL,
                       .scale = 1.0F / sqrtf((float)(D * c->terms)),
                       .c2p = c->c2p,
                       .p2c = c->p2c};
    gather_head(s->q + start * H, n, H, D, h, s->head_q);
    gather_head(s->k + start * H, n, H, D, h, s->head_k);
    gather_transposed(s->v + start * H, n, H, D, h, s->head_vt);
    if (c->p2c) {
        gather_head(s->pos_query, S, H, D, h, s->head_pos);
        SPAR_TRY(multiply(e, s->head_pos, S, D, s->head_k, n, s->p2c, err));
    }
    for (job.q0 = 0; job.q0 < n; job.q0 += SP_ENCODER_QUERIES) {
        job.rows = n - job.q0 < SP_ENCODER_QUERIES ? n - job.q0 : SP_ENCODER_QUERIES;
        SPAR_TRY(query_block(e, &job, start, h, err));
    }
done:
    return status;
}

spar_status sp_encoder_attention(sp_encoder *e, const sp_encoder_pack *pack, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < pack->n; i++) {
        for (int h = 0; h < e->config.heads; h++) {
            SPAR_TRY(attend(e, pack->starts[i], (int64_t)pack->rows[i].n, pack->longest, h, err));
        }
    }
done:
    return status;
}
