/* Attention of every row of a pack to itself, with the terms of DeBERTa (arXiv 2006.03654, eq. 4):
 *     c2p: q_i . Kr[d(i, j)]   and   p2c: k_j . Qr[d(j, i)],
 * Kr, Qr the projected relative embeddings and d the bucket of a distance. As buckets are odd in
 * the distance, the published code's index of both terms is that of i - j: sp_encoder_bucket.
 * Scores are divided by sqrt(D terms), terms = 1 and one for each of the two.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/encoder_parts.h"

/* to [2 span, hidden] = the relative embeddings through a layer's projection. */
static spar_status project_one(sp_encoder *e, const sp_encoder_linear *l, const void *relative,
                               float *to, spar_error *err) {
    return e->backend->ops->linear(e->backend, &l->w, l->bias, relative, 2 * e->config.span, to,
                                   false, err);
}

static spar_status project_layer(sp_encoder *e, sp_encoder_layer *l, const void *relative,
                                 float **to, spar_error *err) {
    const sp_encoder_config *c = &e->config;
    const struct {
        bool there;
        const sp_encoder_linear *by;
    } terms[] = {{c->c2p, c->shared ? &l->k : &l->pos_key},
                 {c->p2c, c->shared ? &l->q : &l->pos_query}};
    spar_status status = SPAR_OK;
    for (int i = 0; i < 2; i++) {
        if (terms[i].there) {
            SPAR_TRY(project_one(e, terms[i].by, relative, *to, err));
            l->positions[i] = *to;
            *to += 2 * c->span * c->hidden;
        }
    }
done:
    return status;
}

spar_status sp_encoder_project_positions(sp_encoder *e, spar_error *err) {
    const sp_encoder_config *c = &e->config;
    const size_t one = (size_t)(2 * c->span * c->hidden);
    const sp_ops *ops = e->backend->ops;
    spar_status status = SPAR_OK;
    void *memory = NULL, *operand = NULL;
    size_t all;
    if (c->span == 0 || !(c->c2p || c->p2c)) {
        return SPAR_OK;
    }
    if (!sp_mem_mul(one, (size_t)c->layers * (size_t)(c->c2p + c->p2c), &all)) {
        return spar_fail(err, SPAR_LIMIT, "the relative embeddings of %d layers are too many",
                         c->layers);
    }
    SPAR_TRY(sp_mem_aligned(&operand, one, sizeof(float), err));
    SPAR_TRY(sp_mem_aligned(&memory, all, sizeof(float), err));
    e->relative_weights = memory;
    float *to = memory; /* its beginning holds what the first projection reads */
    if (c->norm_relative) {
        ops->layernorm(e->backend, e->relative, NULL, e->relative_norm.gain, e->relative_norm.bias,
                       2 * c->span, c->hidden, c->norm_eps, to, operand);
    } else {
        ops->to_operand(e->backend, e->relative, (int64_t)one, 1, operand);
    }
    for (int i = 0; i < c->layers; i++) {
        SPAR_TRY(project_layer(e, &e->layers[i], operand, &to, err));
    }
done:
    free(operand);
    return status;
}

static const float *from_row(const float *positions, int64_t row, int64_t hidden) {
    return positions ? positions + row * hidden : NULL;
}

spar_status sp_encoder_attention(sp_encoder *e, const sp_encoder_layer *l,
                                 const sp_encoder_pack *pack, spar_error *err) {
    const sp_encoder_config *c = &e->config;
    const sp_encoder_space *s = &e->space;
    const int64_t D = c->hidden / c->heads;
    const sp_relative_attention a = {.n_heads = c->heads,
                                     .head_dim = (int)D,
                                     .scale = 1.0F / sqrtf((float)(D * c->terms)),
                                     .n_rows = (int)pack->n,
                                     .starts = pack->starts,
                                     .pos_key = from_row(l->positions[0], s->first, c->hidden),
                                     .pos_query = from_row(l->positions[1], s->first, c->hidden),
                                     .related = s->related,
                                     .buckets = s->buckets + pack->longest - 1};
    return e->backend->ops->relative_attention(e->backend, &a, s->q, s->k, s->v, s->a, err);
}
