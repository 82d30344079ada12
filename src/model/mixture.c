#include "model/mixture.h"

#include <string.h>

#include "base/mem.h"
#include "model/pass_parts.h"

size_t sp_mixture_place_acts(sp_mixture_acts *out, char *base, const spar_model *m, bool train,
                             int64_t T) {
    sp_placer p = {base, 0};
    const sp_config *c = &m->config;
    const int64_t S = T * c->top_k, wide = train ? S * c->expert_ffn : 0;
    out->routing = (sp_routing){.kind = c->arch->mixture->router,
                                .experts = c->experts,
                                .top_k = c->top_k,
                                .groups = c->groups,
                                .open = c->open_groups,
                                .normalised = c->normalised,
                                .least = c->weight_least,
                                .scale = sp_factor_or_one(c->routed_scale) *
                                         sp_factor_or_one(c->residual_scale),
                                .probs = sp_place(&p, T * c->experts, sizeof(float)),
                                .chosen = sp_place(&p, S, sizeof(int32_t)),
                                .row = sp_place(&p, S, sizeof(int32_t)),
                                .token = sp_place(&p, S, sizeof(int32_t)),
                                .weight = sp_place(&p, S, sizeof(float)),
                                .first = sp_place(&p, c->experts + 1, sizeof(int64_t))};
    out->gate = sp_place(&p, wide, m->backend->operand_size);
    out->up = sp_place(&p, wide, m->backend->operand_size);
    sp_shared_place_acts(&out->shared, &p, m, train, T);
    return p.used;
}

size_t sp_mixture_place_space(sp_mixture_space *out, char *base, const spar_model *m, bool train,
                              int64_t T) {
    sp_placer p = {base, 0};
    const sp_config *c = &m->config;
    const size_t operand = m->backend->operand_size;
    const int64_t E = c->experts, H = c->hidden, S = T * c->top_k, F = c->expert_ffn;
    const int64_t back = train; /* arrays of the backward have no rows without one */
    out->entry = sp_place(&p, T * H, operand);
    out->logits = sp_place(&p, T * E, sizeof(float));
    out->taken = sp_place(&p, S * H, operand);
    out->hidden = sp_place(&p, S * F, operand);
    out->wide[0] = sp_place(&p, S * F, sizeof(float));
    out->wide[1] = sp_place(&p, S * F, sizeof(float));
    out->out = sp_place(&p, S * H, sizeof(float));
    out->dy = sp_place(&p, back * T * H, operand);
    out->dtaken = sp_place(&p, back * S * H, operand);
    out->dgate = sp_place(&p, back * S * F, operand);
    out->dup = sp_place(&p, back * S * F, operand);
    out->dweight = sp_place(&p, back * S, sizeof(float));
    out->dlogits = sp_place(&p, back * T * E, operand);
    out->dentry = sp_place(&p, back * T * H, sizeof(float));
    out->count = sp_place(&p, back * E, sizeof(int64_t));
    out->sum = sp_place(&p, back * E, sizeof(double));
    out->dprobs = sp_place(&p, back * E, sizeof(float));
    sp_shared_place_space(&out->shared, &p, m, train, T);
    const int64_t rank = m->lora && m->lora->mixes ? m->lora->most_rank : 0;
    out->low = (sp_low_space){.low = sp_place(&p, S * rank, sizeof(float)),
                              .u = sp_place(&p, S * rank, operand),
                              .du = sp_place(&p, back * S * rank, operand)};
    return p.used;
}

/* An expert with its rows of the arrays: n of them, from row on. */
typedef struct expert {
    int64_t row, n;
    int layer, index;
} expert;

static expert expert_at(int layer, const sp_routing *r, int e) {
    return (expert){
        .row = r->first[e], .n = r->first[e + 1] - r->first[e], .layer = layer, .index = e};
}

/* Row `row` of an operand array with n entries a row. */
static void *operand_row(const spar_model *m, void *array, int64_t row, int64_t n) {
    return (char *)array + (size_t)(row * n) * m->backend->operand_size;
}

spar_status sp_mixture_logits(const spar_model *m, int layer, int64_t T, const sp_mixture_space *s,
                              spar_error *err) {
    return sp_mixture_product(m, SP_ROUTER, layer, 0, s, s->entry, T, s->logits, err);
}

static spar_status expert_forward(const spar_model *m, const expert *e, const sp_mixture_space *s,
                                  const sp_mixture_acts *a, bool train, bool whole,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t H = m->config.hidden, F = m->config.expert_ffn;
    /* In f32 what the backward wants is what the products give. */
    const bool direct = train && m->backend->compute == SP_COMPUTE_F32;
    float *gate = (direct ? (float *)a->gate : s->wide[0]) + e->row * F;
    float *up = (direct ? (float *)a->up : s->wide[1]) + e->row * F;
    const bool keeps = train && !direct;
    const void *x = operand_row(m, s->taken, e->row, H);
    void *hidden = operand_row(m, s->hidden, e->row, F);
    SPAR_TRY(sp_mixture_product(m, SP_EXPERT_GATE, e->layer, e->index, s, x, e->n, gate, err));
    SPAR_TRY(sp_mixture_product(m, SP_EXPERT_UP, e->layer, e->index, s, x, e->n, up, err));
    m->backend->ops->glu(m->backend, m->config.act, gate, up, e->n * F, hidden,
                         keeps ? operand_row(m, a->gate, e->row, F) : NULL,
                         keeps ? operand_row(m, a->up, e->row, F) : NULL);
    if (whole) {
        SPAR_TRY(sp_mixture_product(m, SP_EXPERT_DOWN, e->layer, e->index, s, hidden, e->n,
                                    s->out + e->row * H, err));
    }
done:
    return status;
}

spar_status sp_mixture_forward(const spar_model *m, int layer, int64_t T, const sp_mixture_space *s,
                               sp_mixture_acts *a, bool train, float *to, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = m->backend;
    const sp_routing *r = &a->routing;
    a->routing.bias = sp_pass_vector(m, SP_CORRECTION, layer);
    be->ops->route(be, s->logits, T, r);
    be->ops->take_rows(be, s->entry, r->token, T * r->top_k, m->config.hidden, s->taken);
    for (int i = 0; i < r->experts; i++) {
        const expert e = expert_at(layer, r, i);
        if (e.n > 0) {
            SPAR_TRY(expert_forward(m, &e, s, a, train, to != NULL, err));
        }
    }
    if (to) {
        be->ops->mix(be, r, s->out, true, T, m->config.hidden, to, true);
    }
    if (m->config.shared_ffn > 0) {
        SPAR_TRY(sp_shared_forward(m, layer, T, s, &a->shared, train, to, err));
    }
done:
    return status;
}

/* Of the down projection: its gradient, with s->hidden times the rows' weights already; then those
 * of gate and up, and of the expert's input, to s->out. */
static spar_status expert_backward(const spar_model *m, const expert *e, const sp_mixture_space *s,
                                   const sp_mixture_acts *a, float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = m->backend;
    const int64_t H = m->config.hidden, F = m->config.expert_ffn;
    const void *dy = operand_row(m, s->dtaken, e->row, H), *x = operand_row(m, s->taken, e->row, H);
    void *dgate = operand_row(m, s->dgate, e->row, F), *dup = operand_row(m, s->dup, e->row, F);
    float *dx = s->out + e->row * H;
    SPAR_TRY(sp_mixture_product_backward(m, SP_EXPERT_DOWN, e->layer, e->index, s, dy,
                                         operand_row(m, s->hidden, e->row, F), e->n, NULL, false,
                                         grads, err));
    be->ops->glu_bwd(be, m->config.act, operand_row(m, a->gate, e->row, F),
                     operand_row(m, a->up, e->row, F), s->wide[0] + e->row * F, e->n * F, dgate,
                     dup);
    SPAR_TRY(sp_mixture_product_backward(m, SP_EXPERT_GATE, e->layer, e->index, s, dgate, x, e->n,
                                         dx, false, grads, err));
    SPAR_TRY(sp_mixture_product_backward(m, SP_EXPERT_UP, e->layer, e->index, s, dup, x, e->n, dx,
                                         true, grads, err));
done:
    return status;
}

/* s->wide[0] = the gradient of the down projections' inputs, as if every weight were 1. */
static spar_status hidden_backward(const spar_model *m, int layer, const sp_mixture_space *s,
                                   const sp_mixture_acts *a, spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t H = m->config.hidden, F = m->config.expert_ffn;
    for (int i = 0; i < a->routing.experts; i++) {
        const expert e = expert_at(layer, &a->routing, i);
        if (e.n > 0) {
            SPAR_TRY(sp_mixture_product_backward(m, SP_EXPERT_DOWN, layer, i, s,
                                                 operand_row(m, s->dtaken, e.row, H), NULL, e.n,
                                                 s->wide[0] + e.row * F, false, NULL, err));
        }
    }
done:
    return status;
}

spar_status sp_mixture_backward(const spar_model *m, int layer, int64_t T,
                                const sp_mixture_space *s, const sp_mixture_acts *a, bool balances,
                                float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = m->backend;
    const sp_routing *r = &a->routing;
    const int64_t H = m->config.hidden, F = m->config.expert_ffn, S = T * r->top_k;
    be->ops->take_rows(be, s->entry, r->token, S, H, s->taken);
    be->ops->take_rows(be, s->dy, r->token, S, H, s->dtaken);
    SPAR_TRY(hidden_backward(m, layer, s, a, err));
    be->ops->glu_kept(be, m->config.act, a->gate, a->up, S * F, s->hidden);
    be->ops->weigh_bwd(be, r, T, F, s->wide[0], s->hidden, s->dweight);
    for (int i = 0; i < r->experts; i++) {
        const expert e = expert_at(layer, r, i);
        if (e.n > 0) {
            SPAR_TRY(expert_backward(m, &e, s, a, grads, err));
        }
    }
    be->ops->mix(be, r, s->out, false, T, H, s->dentry, false);
    be->ops->route_bwd(be, r, s->dweight, balances ? s->dprobs : NULL, T, s->dlogits);
    SPAR_TRY(sp_mixture_product_backward(m, SP_ROUTER, layer, 0, s, s->dlogits, s->entry, T,
                                         s->dentry, true, grads, err));
    if (m->config.shared_ffn > 0) {
        SPAR_TRY(sp_shared_backward(m, layer, T, s, &a->shared, grads, err));
    }
done:
    return status;
}

void sp_mixture_count_begin(const spar_model *m, const sp_mixture_space *s) {
    memset(s->count, 0, (size_t)m->config.experts * sizeof *s->count);
    memset(s->sum, 0, (size_t)m->config.experts * sizeof *s->sum);
}

/* The k likeliest experts of a token, of equal ones the lower index, one after another. */
static void count_likeliest(const float *probs, int experts, int k, int64_t *count) {
    int last = -1;
    for (int j = 0; j < k; j++) {
        int best = -1;
        for (int e = 0; e < experts; e++) {
            const bool after =
                last < 0 || probs[e] < probs[last] || (probs[e] == probs[last] && e > last);
            best = after && (best < 0 || probs[e] > probs[best]) ? e : best;
        }
        if (best < 0) {
            return; /* what is not a number has no order */
        }
        count[best]++;
        last = best;
    }
}

/* What a correction moves is not counted: transformers goes by the probabilities. */
void sp_mixture_count(int64_t T, const sp_mixture_space *s, const sp_mixture_acts *a) {
    const sp_routing *r = &a->routing;
    for (int64_t t = 0; r->bias && t < T; t++) {
        count_likeliest(r->probs + t * r->experts, r->experts, r->top_k, s->count);
    }
    for (int e = 0; e < r->experts; e++) {
        s->count[e] += r->bias ? 0 : r->first[e + 1] - r->first[e];
        for (int64_t t = 0; t < T; t++) {
            s->sum[e] += (double)r->probs[t * r->experts + e];
        }
    }
}

/* Fedus et al. 2022 (Switch Transformers), eq. 4-6, as transformers computes it: f_e and P_e are
 * means over the tokens of all layers, and with k experts a token the f_e sum up to k. f_e is a
 * count, without a gradient. */
double sp_mixture_balance(const spar_model *m, int64_t T, const sp_mixture_space *s,
                          double weight) {
    const int E = m->config.experts;
    const double n = (double)T * sp_config_sparse_layers(&m->config);
    double loss = 0;
    for (int e = 0; e < E && n > 0; e++) {
        const double f = (double)s->count[e] / n;
        loss += E * f * s->sum[e] / n;
        s->dprobs[e] = (float)(weight * E * f / n);
    }
    return loss;
}
