/* The forward pass of an encoder over packed rows. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/encoder_parts.h"

enum { PACK_TOKENS = 8192 }; /* rows of a pack, as long as it holds more than one row */

spar_status sp_encoder_apply(sp_encoder *e, const sp_encoder_linear *l, const float *x, int64_t T,
                             float *y, spar_error *err) {
    const void *operand = x;
    if (e->backend->compute != SP_COMPUTE_F32) {
        e->backend->ops->to_operand(e->backend, x, T * l->w.in, 1, e->space.operand);
        operand = e->space.operand;
    }
    return e->backend->ops->linear(e->backend, &l->w, l->bias, operand, T, y, false, err);
}

/* space.x [T, hidden] = layer norm of x + shift by row, and the same as an operand, if it is asked
 * for. */
static void norm_rows(sp_encoder *e, const sp_encoder_norm *norm, const float *shift, int64_t T,
                      void *operand) {
    e->backend->ops->layernorm(e->backend, e->space.x, shift, norm->gain, norm->bias, T,
                               e->config.hidden, e->config.norm_eps, e->space.x, operand);
}

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* The walk over the space: with base NULL it only measures. */
static size_t place(sp_encoder *e, int64_t T, int64_t N, char *base) {
    const sp_encoder_config *c = &e->config;
    const int64_t H = c->hidden, embedded = c->embedding == H ? 0 : T * c->embedding;
    const int64_t operand = (int64_t)e->backend->operand_size, size = sizeof(float);
    const int64_t widest = max64(T * H * max64(c->taps, 1), embedded);
    sp_encoder_space *s = &e->space;
    const struct {
        void *to;
        int64_t bytes;
    } arrays[] = {{&s->x, T * H * size},
                  {&s->q, T * H * size},
                  {&s->k, T * H * size},
                  {&s->v, T * H * size},
                  {&s->a, T * H * operand},
                  {&s->embedded, embedded * size},
                  {&s->taps, T * H * c->taps * size},
                  {&s->operand, operand == size ? 0 : widest * operand},
                  {&s->buckets, 2 * N * size}};
    size_t used = 0;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        void *at = base ? base + used : NULL;
        memcpy(arrays[i].to, &at, sizeof at);
        used += ((size_t)arrays[i].bytes + 63) / 64 * 64;
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
    float *to = project ? e->space.embedded : e->space.x;
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < pack->n; i++) {
        embed_row(e, &pack->rows[i], to + pack->starts[i] * c->embedding);
    }
    if (project) {
        SPAR_TRY(sp_encoder_apply(e, &e->embedding_projection, to, pack->tokens, e->space.x, err));
    }
    norm_rows(e, &e->embedding_norm, NULL, pack->tokens, NULL);
done:
    return status;
}

/* Which rows of the relative embeddings the pack's distances meet, and which of them each meets. */
static void relate(sp_encoder *e, int64_t longest) {
    const sp_encoder_config *c = &e->config;
    sp_encoder_space *s = &e->space;
    if (c->span == 0) {
        return;
    }
    s->first = sp_encoder_bucket(c, 1 - longest);
    s->related = sp_encoder_bucket(c, longest - 1) - s->first + 1;
    for (int64_t d = 1 - longest; d < longest; d++) {
        s->buckets[d + longest - 1] = sp_encoder_bucket(c, d) - (int32_t)s->first;
    }
}

/* ---- the layers: between two attentions, one chain of row-wise operations ---- */

/* Arrays of a chain. */
typedef struct chain {
    void *in;     /* operand [T, hidden]: what the next product reads */
    float *wide;  /* [T, max(ffn, hidden)] */
    void *hidden; /* operand [T, ffn] */
} chain;

static spar_status begin(sp_encoder *e, int64_t T, chain *c, spar_error *err) {
    const size_t H = (size_t)e->config.hidden, F = (size_t)e->config.ffn;
    const size_t operand = e->backend->operand_size, wide = (H > F ? H : F) * sizeof(float);
    const sp_ops *ops = e->backend->ops;
    const spar_status status = ops->chain_begin(e->backend, T, (H + F) * operand + wide, true, err);
    if (status == SPAR_OK) {
        c->in = ops->chain_local(e->backend, H * operand);
        c->wide = ops->chain_local(e->backend, wide);
        c->hidden = ops->chain_local(e->backend, F * operand);
    }
    return status;
}

static spar_status project(sp_encoder *e, const sp_encoder_layer *l, int64_t T, const chain *c,
                           spar_error *err) {
    sp_backend *be = e->backend;
    const sp_encoder_linear *const by[] = {&l->q, &l->k, &l->v};
    void *const to[] = {e->space.q, e->space.k, e->space.v};
    spar_status status = SPAR_OK;
    for (int i = 0; i < 3; i++) {
        SPAR_TRY(be->ops->linear(be, &by[i]->w, by[i]->bias, c->in, T, c->wide, false, err));
        be->ops->to_operand(be, c->wide, T * e->config.hidden, 1, to[i]);
    }
done:
    return status;
}

/* x = norm(x + attention), x = norm(x + mlp): norms behind the sums, as in the first transformer.
 * The biases of what is added go with the norms. */
static spar_status feed(sp_encoder *e, const sp_encoder_layer *l, int64_t T, const chain *c,
                        spar_error *err) {
    sp_backend *be = e->backend;
    const sp_encoder_space *s = &e->space;
    spar_status status = SPAR_OK;
    SPAR_TRY(be->ops->linear(be, &l->o.w, NULL, s->a, T, s->x, true, err));
    norm_rows(e, &l->attention_norm, l->o.bias, T, c->in);
    SPAR_TRY(be->ops->linear(be, &l->up.w, NULL, c->in, T, c->wide, false, err));
    be->ops->activate(be, e->config.act, c->wide, l->up.bias, T, e->config.ffn, false, c->hidden);
    SPAR_TRY(be->ops->linear(be, &l->down.w, NULL, c->hidden, T, s->x, true, err));
    norm_rows(e, &l->output_norm, l->down.bias, T, c->in);
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
    const sp_encoder_space *s = &e->space;
    const sp_ops *ops = e->backend->ops;
    float *sum = s->q;
    const spar_status status = sp_encoder_apply(e, &e->convolution, s->taps, T, sum, err);
    if (status == SPAR_OK) {
        ops->activate(e->backend, e->config.conv_act, sum, NULL, T, H, true, sum);
        ops->add_scaled(e->backend, sum, T * H, 1, s->x);
        norm_rows(e, &e->convolution_norm, NULL, T, NULL);
    }
    return status;
}

/* What lies before the first attention. */
static spar_status enter(sp_encoder *e, int64_t T, spar_error *err) {
    sp_backend *be = e->backend;
    spar_status status = SPAR_OK;
    chain c;
    SPAR_TRY(begin(e, T, &c, err));
    be->ops->to_operand(be, e->space.x, T * e->config.hidden, 1, c.in);
    SPAR_TRY(project(e, &e->layers[0], T, &c, err));
    SPAR_TRY(be->ops->chain_end(be, err));
done:
    return status;
}

/* From the attention of layer i to that of the next one, or to the end. */
static spar_status leave(sp_encoder *e, int i, int64_t T, spar_error *err) {
    sp_backend *be = e->backend;
    spar_status status = SPAR_OK;
    chain c;
    SPAR_TRY(begin(e, T, &c, err));
    SPAR_TRY(feed(e, &e->layers[i], T, &c, err));
    if (i == 0 && e->config.taps > 0) { /* whose products are not of its own row alone */
        SPAR_TRY(be->ops->chain_end(be, err));
        SPAR_TRY(convolve(e, T, err));
        SPAR_TRY(begin(e, T, &c, err));
        be->ops->to_operand(be, e->space.x, T * e->config.hidden, 1, c.in);
    }
    if (i + 1 < e->config.layers) {
        SPAR_TRY(project(e, &e->layers[i + 1], T, &c, err));
    }
    SPAR_TRY(be->ops->chain_end(be, err));
done:
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
    SPAR_TRY(enter(e, pack->tokens, err));
    for (int i = 0; i < e->config.layers; i++) {
        SPAR_TRY(sp_encoder_attention(e, &e->layers[i], pack, err));
        SPAR_TRY(leave(e, i, pack->tokens, err));
    }
done:
    return status;
}

/* Rows from `first` on that make one pack; starts has room for all and one more. */
static sp_encoder_pack next_pack(const sp_token_row *rows, size_t n, size_t first,
                                 int64_t *starts) {
    sp_encoder_pack pack = {.rows = rows + first, .starts = starts};
    starts[0] = 0;
    while (first + pack.n < n) {
        const int64_t tokens = (int64_t)rows[first + pack.n].n;
        if (pack.n > 0 && pack.tokens + tokens > PACK_TOKENS) {
            break;
        }
        pack.tokens += tokens;
        starts[++pack.n] = pack.tokens;
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
    SPAR_TRY(sp_mem_calloc(&starts, n + 1, sizeof(int64_t), err));
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
