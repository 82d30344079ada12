/* The expert of a mixture that every token goes to, as it is, or weighted by the logistic function
 * of a logit of its own (Qwen2's mixtures). y = s W h: as with other experts, the weight s is taken
 * to h; what a layer adds is multiplied by (Granite) is in it. */
#include <math.h>

#include "base/mem.h"
#include "model/mixture.h"
#include "model/pass_parts.h"

void sp_shared_place_acts(sp_shared_acts *out, sp_placer *p, const spar_model *m, bool train,
                          int64_t T) {
    const int64_t F = m->config.shared_ffn, rows = F > 0 ? T : 0, wide = train ? T * F : 0;
    const size_t operand = m->backend->operand_size;
    out->routing = (sp_routing){.experts = 1,
                                .top_k = 1,
                                .scale = sp_factor_or_one(m->config.residual_scale),
                                .row = sp_place(p, rows, sizeof(int32_t)),
                                .weight = sp_place(p, rows, sizeof(float))};
    out->gate = sp_place(p, wide, operand);
    out->up = sp_place(p, wide, operand);
}

void sp_shared_place_space(sp_shared_space *out, sp_placer *p, const spar_model *m, bool train,
                           int64_t T) {
    const int64_t F = m->config.shared_ffn, rows = F > 0 ? T : 0, back = train ? rows : 0;
    const size_t operand = m->backend->operand_size;
    out->logits = sp_place(p, rows, sizeof(float));
    out->hidden = sp_place(p, rows * F, operand);
    out->wide[0] = sp_place(p, rows * F, sizeof(float));
    out->wide[1] = sp_place(p, rows * F, sizeof(float));
    out->out = sp_place(p, rows * m->config.hidden, sizeof(float));
    out->dgate = sp_place(p, back * F, operand);
    out->dup = sp_place(p, back * F, operand);
    out->dweight = sp_place(p, back, sizeof(float));
    out->dlogits = sp_place(p, back, operand);
}

/* The tokens' weights: the scale c, or c / (1 + exp(-z)) with z = x w. */
static spar_status weigh(const spar_model *m, int layer, int64_t T, const sp_mixture_space *s,
                         const sp_routing *r, spar_error *err) {
    spar_status status = SPAR_OK;
    const bool gated = m->config.arch->mixture->shared_gated;
    const float *z = s->shared.logits;
    if (gated) {
        SPAR_TRY(sp_mixture_product(m, SP_SHARED_WEIGHT, layer, 0, s, s->entry, T, s->shared.logits,
                                    err));
    }
    for (int64_t t = 0; t < T; t++) {
        r->row[t] = (int32_t)t;
        r->weight[t] = gated ? r->scale / (1.0F + expf(-z[t])) : r->scale;
    }
done:
    return status;
}

spar_status sp_shared_forward(const spar_model *m, int layer, int64_t T, const sp_mixture_space *s,
                              sp_shared_acts *a, bool train, float *to, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = m->backend;
    const sp_shared_space *h = &s->shared;
    const int64_t n = T * m->config.shared_ffn;
    /* In f32 what the backward wants is what the products give. */
    const bool direct = train && be->compute == SP_COMPUTE_F32, keeps = train && !direct;
    float *gate = direct ? a->gate : h->wide[0], *up = direct ? a->up : h->wide[1];
    SPAR_TRY(weigh(m, layer, T, s, &a->routing, err));
    SPAR_TRY(sp_mixture_product(m, SP_SHARED_GATE, layer, 0, s, s->entry, T, gate, err));
    SPAR_TRY(sp_mixture_product(m, SP_SHARED_UP, layer, 0, s, s->entry, T, up, err));
    be->ops->glu(be, m->config.act, gate, up, n, h->hidden, keeps ? a->gate : NULL,
                 keeps ? a->up : NULL);
    if (to) {
        SPAR_TRY(sp_mixture_product(m, SP_SHARED_DOWN, layer, 0, s, h->hidden, T, h->out, err));
        be->ops->mix(be, &a->routing, h->out, true, T, m->config.hidden, to, true);
    }
done:
    return status;
}

/* dz = ds s (1 - s/c), by which the gate's own gradients come. */
static spar_status weight_backward(const spar_model *m, int layer, int64_t T,
                                   const sp_mixture_space *s, const sp_routing *r, float *grads,
                                   spar_error *err) {
    const sp_shared_space *h = &s->shared;
    for (int64_t t = 0; t < T; t++) {
        h->dweight[t] *= r->weight[t] * (1.0F - r->weight[t] / r->scale);
    }
    m->backend->ops->to_operand(m->backend, h->dweight, T, 1, h->dlogits);
    return sp_mixture_product_backward(m, SP_SHARED_WEIGHT, layer, 0, s, h->dlogits, s->entry, T,
                                       s->dentry, true, grads, err);
}

spar_status sp_shared_backward(const spar_model *m, int layer, int64_t T, const sp_mixture_space *s,
                               const sp_shared_acts *a, float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = m->backend;
    const sp_shared_space *h = &s->shared;
    const int64_t F = m->config.shared_ffn;
    be->ops->glu_kept(be, m->config.act, a->gate, a->up, T * F, h->hidden);
    SPAR_TRY(sp_mixture_product_backward(m, SP_SHARED_DOWN, layer, 0, s, s->dy, NULL, T, h->wide[0],
                                         false, NULL, err));
    be->ops->weigh_bwd(be, &a->routing, T, F, h->wide[0], h->hidden, h->dweight);
    /* of s h, as it is now */
    SPAR_TRY(sp_mixture_product_backward(m, SP_SHARED_DOWN, layer, 0, s, s->dy, h->hidden, T, NULL,
                                         false, grads, err));
    be->ops->glu_bwd(be, m->config.act, a->gate, a->up, h->wide[0], T * F, h->dgate, h->dup);
    SPAR_TRY(sp_mixture_product_backward(m, SP_SHARED_GATE, layer, 0, s, h->dgate, s->entry, T,
                                         s->dentry, true, grads, err));
    SPAR_TRY(sp_mixture_product_backward(m, SP_SHARED_UP, layer, 0, s, h->dup, s->entry, T,
                                         s->dentry, true, grads, err));
    if (m->config.arch->mixture->shared_gated) {
        SPAR_TRY(weight_backward(m, layer, T, s, &a->routing, grads, err));
    }
done:
    return status;
}
