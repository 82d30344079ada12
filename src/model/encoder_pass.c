/* The forward pass of an encoder over packed rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/encoder_parts.h"

enum {
    PACK_TOKENS = 2048, /* rows of a pack, as long as it holds more than one row */
    TASK_VALUES = 1 << 14
};

spar_status sp_encoder_apply(sp_encoder *e, const sp_encoder_linear *l, const float *x, int64_t T,
                             float *y, spar_error *err) {
    const void *operand = x;
    if (e->backend->compute != SP_COMPUTE_F32) {
        e->backend->ops->to_operand(e->backend, x, T * l->w.in, 1, e->space.operand);
        operand = e->space.operand;
    }
    return e->backend->ops->linear(e->backend, &l->w, l->bias, operand, T, y, false, err);
}

typedef struct rows_job {
    const sp_encoder_norm *norm;
    float *x;
    const float *add;
    int64_t n, dim, chunk;
    float eps;
    float (*act)(float);
} rows_job;

static void run_rows(sp_encoder *e, sp_pool_fn fn, rows_job *j) {
    sp_pool_run(e->pool, (int)((j->n + j->chunk - 1) / j->chunk), fn, j);
}

/* Mean and variance in double: the two passes of the reference lose nothing that matters here. */
static void norm_row(const rows_job *j, float *x, const float *add) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < j->dim; i++) {
        x[i] += add ? add[i] : 0.0F;
        mean += (double)x[i];
    }
    mean /= (double)j->dim;
    for (int64_t i = 0; i < j->dim; i++) {
        const double d = (double)x[i] - mean;
        variance += d * d;
    }
    const float rstd = (float)(1.0 / sqrt(variance / (double)j->dim + (double)j->eps));
    for (int64_t i = 0; i < j->dim; i++) {
        x[i] = (x[i] - (float)mean) * rstd * j->norm->gain[i] + j->norm->bias[i];
    }
}

static void norm_task(void *context, int task, int worker) {
    const rows_job *j = context;
    const int64_t first = task * j->chunk;
    (void)worker;
    for (int64_t t = first; t < j->n && t < first + j->chunk; t++) {
        norm_row(j, j->x + t * j->dim, j->add ? j->add + t * j->dim : NULL);
    }
}

void sp_encoder_norm_rows(sp_encoder *e, const sp_encoder_norm *norm, float *x, const float *add,
                          int64_t T, int64_t dim) {
    rows_job j = {.norm = norm, .x = x, .add = add, .n = T, .dim = dim, .eps = e->config.norm_eps};
    j.chunk = dim < TASK_VALUES ? TASK_VALUES / dim : 1;
    run_rows(e, norm_task, &j);
}

static float gelu(float x) {
    return 0.5F * x * (1.0F + erff(x * 0.70710678F));
}

static float gelu_tanh(float x) {
    return 0.5F * x * (1.0F + tanhf(0.79788456F * (x + 0.044715F * x * x * x)));
}

static float relu(float x) {
    return x > 0 ? x : 0;
}

static void activate_task(void *context, int task, int worker) {
    const rows_job *j = context;
    const int64_t first = task * j->chunk;
    (void)worker;
    for (int64_t i = first; i < j->n && i < first + j->chunk; i++) {
        j->x[i] = j->act(j->x[i]);
    }
}

void sp_encoder_activate(sp_encoder *e, sp_activation act, float *x, int64_t n) {
    static float (*const functions[])(float) = {[SP_ACT_GELU] = gelu,
                                                [SP_ACT_GELU_TANH] = gelu_tanh,
                                                [SP_ACT_RELU] = relu,
                                                [SP_ACT_TANH] = tanhf};
    rows_job j = {.x = x, .n = n, .chunk = TASK_VALUES, .act = functions[act]};
    run_rows(e, activate_task, &j);
}

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* The walk over the space: with base NULL it only measures. */
static size_t place(sp_encoder *e, int64_t T, int64_t N, char *base) {
    const sp_encoder_config *c = &e->config;
    const int64_t H = c->hidden, D = H / c->heads, S = 2 * c->span;
    const int64_t B = N < SP_ENCODER_QUERIES ? N : SP_ENCODER_QUERIES,
                  wide = max64(c->ffn, c->embedding);
    const int64_t widest =
        max64(max64(T * max64(max64(wide, 2 * H), H * c->taps), S * H), max64(B, D) * N);
    sp_encoder_space *s = &e->space;
    void *places[] = {&s->x,      &s->q,      &s->k,        &s->v,        &s->a,
                      &s->wide,   &s->taps,   &s->relative, &s->pos_key,  &s->pos_query,
                      &s->head_q, &s->head_k, &s->head_vt,  &s->head_out, &s->head_pos,
                      &s->scores, &s->c2p,    &s->p2c,      &s->operand,  &s->buckets};
    const int64_t counts[] = {T * H,
                              T * H,
                              T * H,
                              T * H,
                              T * H,
                              T * wide,
                              T * H * c->taps,
                              S * H,
                              S * H,
                              S * H,
                              N * D,
                              N * D,
                              N * D,
                              B * D,
                              S * D,
                              B * N,
                              B * S,
                              N * S,
                              e->backend->compute == SP_COMPUTE_F32 ? 0 : widest,
                              2 * N};
    size_t used = 0;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        void *at = base ? base + used : NULL;
        memcpy(places[i], &at, sizeof at);
        used += ((size_t)counts[i] * sizeof(float) + 63) / 64 * 64;
    }
    return used;
}

static spar_status reserve(sp_encoder *e, int64_t T, int64_t N, spar_error *err) {
    const size_t bytes = place(e, T, N, NULL);
    if (bytes > e->space.bytes) {
        void *memory;
        free(e->space.block);
        e->space.block = NULL;
        e->space.bytes = 0;
        const spar_status status = sp_mem_aligned(&memory, bytes, 1, err);
        if (status != SPAR_OK) {
            return status;
        }
        e->space.block = memory;
        e->space.bytes = bytes;
    }
    place(e, T, N, e->space.block);
    return SPAR_OK;
}

static spar_status check_row(const sp_encoder *e, const sp_token_row *row, spar_error *err) {
    const int64_t context = sp_encoder_context(e);
    if (row->n < 1 || (int64_t)row->n > context) {
        return spar_fail(err, row->n < 1 ? SPAR_INVALID : SPAR_LIMIT,
                         "expected a row of 1 to %lld tokens, found %zu", (long long)context,
                         row->n);
    }
    for (size_t i = 0; i < row->n; i++) {
        if (row->ids[i] < 0 || row->ids[i] >= e->config.vocab) {
            return spar_fail(err, SPAR_INVALID, "token %zu: expected an id in 0..%lld, found %d", i,
                             (long long)e->config.vocab - 1, (int)row->ids[i]);
        }
    }
    return SPAR_OK;
}

static void add_row(float *x, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        x[i] += y[i];
    }
}

/* Words, positions and types of one row. RoBERTa counts positions from behind the padding id, and
 * gives a padding token that id as its position. */
static void embed_row(const sp_encoder *e, const sp_token_row *row, float *x) {
    const sp_encoder_config *c = &e->config;
    const int64_t E = c->embedding;
    int64_t seen = 0;
    for (size_t i = 0; i < row->n; i++, x += E) {
        const int32_t id = row->ids[i];
        memcpy(x, e->words.data + id * E, (size_t)E * sizeof *x);
        if (c->absolute) {
            int64_t position = (int64_t)i;
            if (c->arch->positions_after_pad) {
                position = id == c->pad ? c->pad : c->pad + ++seen;
            }
            add_row(x, e->positions + position * E, E);
        }
        if (c->types > 0) {
            add_row(x, e->types + (c->types > 1 && row->second && i >= row->second ? E : 0), E);
        }
    }
}

static spar_status embed(sp_encoder *e, const sp_encoder_pack *pack, spar_error *err) {
    const sp_encoder_config *c = &e->config;
    const bool project = c->embedding != c->hidden;
    float *to = project ? e->space.wide : e->space.x;
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < pack->n; i++) {
        embed_row(e, &pack->rows[i], to + pack->starts[i] * c->embedding);
    }
    if (project) {
        SPAR_TRY(sp_encoder_apply(e, &e->embedding_projection, to, pack->tokens, e->space.x, err));
    }
    sp_encoder_norm_rows(e, &e->embedding_norm, e->space.x, NULL, pack->tokens, c->hidden);
done:
    return status;
}

/* The relative embeddings from the nearest to the farthest bucket of the pack, and which of them
 * belongs to which distance. */
static void relate(sp_encoder *e, int64_t longest) {
    const sp_encoder_config *c = &e->config;
    sp_encoder_space *s = &e->space;
    s->related = 0;
    if (c->span == 0) {
        return;
    }
    const int32_t first = sp_encoder_bucket(c, 1 - longest);
    s->related = sp_encoder_bucket(c, longest - 1) - first + 1;
    for (int64_t d = 1 - longest; d < longest; d++) {
        s->buckets[d + longest - 1] = sp_encoder_bucket(c, d) - first;
    }
    memcpy(s->relative, e->relative + first * c->hidden,
           (size_t)(s->related * c->hidden) * sizeof(float));
    if (c->norm_relative) {
        sp_encoder_norm_rows(e, &e->relative_norm, s->relative, NULL, s->related, c->hidden);
    }
}

static spar_status project(sp_encoder *e, const sp_encoder_layer *l, int64_t T, spar_error *err) {
    const sp_encoder_config *c = &e->config;
    sp_encoder_space *s = &e->space;
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_encoder_apply(e, &l->q, s->x, T, s->q, err));
    SPAR_TRY(sp_encoder_apply(e, &l->k, s->x, T, s->k, err));
    SPAR_TRY(sp_encoder_apply(e, &l->v, s->x, T, s->v, err));
    if (c->c2p) {
        SPAR_TRY(sp_encoder_apply(e, c->shared ? &l->k : &l->pos_key, s->relative, s->related,
                                  s->pos_key, err));
    }
    if (c->p2c) {
        SPAR_TRY(sp_encoder_apply(e, c->shared ? &l->q : &l->pos_query, s->relative, s->related,
                                  s->pos_query, err));
    }
done:
    return status;
}

/* x = norm(x + attention), x = norm(x + mlp): norms behind the sums, as in the first transformer.
 */
static spar_status forward_layer(sp_encoder *e, const sp_encoder_layer *l,
                                 const sp_encoder_pack *pack, spar_error *err) {
    const int64_t T = pack->tokens, H = e->config.hidden;
    sp_encoder_space *s = &e->space;
    spar_status status = SPAR_OK;
    SPAR_TRY(project(e, l, T, err));
    SPAR_TRY(sp_encoder_attention(e, pack, err));
    SPAR_TRY(sp_encoder_apply(e, &l->o, s->a, T, s->q, err));
    sp_encoder_norm_rows(e, &l->attention_norm, s->x, s->q, T, H);
    SPAR_TRY(sp_encoder_apply(e, &l->up, s->x, T, s->wide, err));
    sp_encoder_activate(e, e->config.act, s->wide, T * e->config.ffn);
    SPAR_TRY(sp_encoder_apply(e, &l->down, s->wide, T, s->q, err));
    sp_encoder_norm_rows(e, &l->output_norm, s->x, s->q, T, H);
done:
    return status;
}

/* Every token's neighbourhood in the layers' input, zero beyond the ends of its row, by input and
 * then tap as the kernel's matrix has them: space.taps [T, hidden x taps]. */
static void read_taps(sp_encoder *e, const sp_encoder_pack *pack) {
    const int64_t H = e->config.hidden, K = e->config.taps;
    for (size_t i = 0; i < pack->n; i++) {
        const int64_t start = pack->starts[i], n = (int64_t)pack->rows[i].n;
        for (int64_t t = 0; t < n; t++) {
            float *to = e->space.taps + (start + t) * H * K;
            for (int64_t k = 0; k < K; k++) {
                const int64_t from = t + k - K / 2;
                const float *x = from < 0 || from >= n ? NULL : e->space.x + (start + from) * H;
                for (int64_t h = 0; h < H; h++) {
                    to[h * K + k] = x ? x[h] : 0.0F;
                }
            }
        }
    }
}

/* x = norm(x + act(convolution of the layers' input)), behind the first layer. */
static spar_status convolve(sp_encoder *e, int64_t T, spar_error *err) {
    const int64_t H = e->config.hidden;
    sp_encoder_space *s = &e->space;
    const spar_status status = sp_encoder_apply(e, &e->convolution, s->taps, T, s->q, err);
    if (status == SPAR_OK) {
        sp_encoder_activate(e, e->config.conv_act, s->q, T * H);
        sp_encoder_norm_rows(e, &e->convolution_norm, s->x, s->q, T, H);
    }
    return status;
}

spar_status sp_encoder_forward(sp_encoder *e, const sp_encoder_pack *pack, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(reserve(e, pack->tokens, pack->longest, err));
    SPAR_TRY(embed(e, pack, err));
    relate(e, pack->longest);
    if (e->config.taps > 0) {
        read_taps(e, pack);
    }
    for (int i = 0; i < e->config.layers; i++) {
        SPAR_TRY(forward_layer(e, &e->layers[i], pack, err));
        if (i == 0 && e->config.taps > 0) {
            SPAR_TRY(convolve(e, pack->tokens, err));
        }
    }
done:
    return status;
}

/* Rows from `first` on that make one pack; starts has room for all. */
static sp_encoder_pack next_pack(const sp_token_row *rows, size_t n, size_t first,
                                 int64_t *starts) {
    sp_encoder_pack pack = {.rows = rows + first, .starts = starts};
    while (first + pack.n < n) {
        const int64_t tokens = (int64_t)rows[first + pack.n].n;
        if (pack.n > 0 && pack.tokens + tokens > PACK_TOKENS) {
            break;
        }
        starts[pack.n++] = pack.tokens;
        pack.tokens += tokens;
        pack.longest = max64(pack.longest, tokens);
    }
    return pack;
}

spar_status sp_encoder_run(sp_encoder *e, const sp_token_row *rows, size_t n,
                           sp_encoder_visit visit, void *context, spar_error *err) {
    spar_status status = SPAR_OK;
    void *starts = NULL;
    for (size_t i = 0; i < n; i++) {
        status = check_row(e, &rows[i], err);
        if (status != SPAR_OK) {
            spar_error_context(err, "row %zu", i);
            goto done;
        }
    }
    SPAR_TRY(sp_mem_calloc(&starts, n, sizeof(int64_t), err));
    for (size_t first = 0; first < n;) {
        const sp_encoder_pack pack = next_pack(rows, n, first, starts);
        SPAR_TRY(sp_encoder_forward(e, &pack, err));
        SPAR_TRY(visit(context, e, &pack, first, err));
        first += pack.n;
    }
done:
    free(starts);
    return status;
}
