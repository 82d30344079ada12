/* Backward over a packed batch. */
#include <string.h>

#include "model/pass_parts.h"

static void norm_grad(sp_pass *pass, sp_role role, int layer, const float *x, const float *rstd,
                      const float *dy, int64_t n, int64_t dim, float *dx, bool accumulate,
                      float *grads) {
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const float *gain = sp_pass_gain(m, role, layer);
    float *dgain = sp_pass_grad(pass, grads, role, layer);
    if (sp_arch_is_rms(m->config.arch)) {
        ops->rmsnorm_bwd(m->backend, x, gain, rstd, dy, n, dim, dx, accumulate, dgain);
    } else {
        ops->layernorm_bwd(m->backend, x, gain, rstd, dy, n, dim, dx, accumulate, dgain,
                           sp_pass_grad(pass, grads, sp_pass_norm_bias(role), layer));
    }
}

/* Row-wise: dy of the half's output layer, from dx. */
static void put_out_backward(sp_pass *pass, int half, int layer, int64_t T, const sp_layer_acts *a,
                             float *grads) {
    spar_model *m = pass->model;
    const sp_half *h = sp_half_of(&m->config, half, layer);
    const float *dout = pass->dx;
    if (a->out[half]) {
        norm_grad(pass, h->norm, layer, a->out[half], a->rstd_out[half], pass->dx, T,
                  m->config.hidden, pass->chain.dnorm, false, grads);
        dout = pass->chain.dnorm;
    }
    m->backend->ops->to_operand(m->backend, dout, T * m->config.hidden,
                                sp_factor_or_one(m->config.residual_scale), pass->dy[h->linear]);
}

/* Where the gradient of a half's input goes: through its norm, or at once to dx. */
static float *taken_grad(const sp_pass *pass, sp_role norm, int layer) {
    return sp_pass_gain(pass->model, norm, layer) ? pass->chain.dnorm : pass->dx;
}

static void take_in_backward(sp_pass *pass, sp_role role, int layer, const float *x, int64_t T,
                             float *grads) {
    if (sp_pass_gain(pass->model, role, layer)) {
        norm_grad(pass, role, layer, x, pass->rstd, pass->chain.dnorm, T,
                  pass->model->config.hidden, pass->dx, true, grads);
    }
}

/* dx (gradient at the output of a layer with experts) becomes the gradient at x_mid. */
static spar_status backward_experts(sp_pass *pass, int layer, int64_t T, sp_layer_acts *a,
                                    float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_mixture_space *s = &pass->mixture;
    m->backend->ops->to_operand(m->backend, pass->dx, T * m->config.hidden, 1, s->dy);
    sp_pass_take_in(pass, SP_MLP_NORM, layer, a->x_mid, T, s->entry);
    SPAR_TRY(sp_pass_chain_end(pass, err));
    SPAR_TRY(sp_mixture_backward(m, layer, T, s, &a->mixture, pass->balance > 0, grads, err));
    SPAR_TRY(sp_pass_chain_begin(pass, T, err));
    norm_grad(pass, SP_MLP_NORM, layer, a->x_mid, pass->rstd, s->dentry, T, m->config.hidden,
              pass->dx, true, grads);
done:
    return status;
}

/* Row-wise: from wide, the gradient of the down projection's input, those of the projections
 * before it, to taken (=, or += where it joins what is there). */
static spar_status backward_hidden(sp_pass *pass, int layer, int64_t T, const sp_layer_acts *a,
                                   float *taken, bool joins, float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const int64_t n = T * m->config.ffn;
    const float *wide = pass->chain.wide[0];
    const bool gated = !m->config.arch->plain_mlp;
    if (gated) {
        ops->glu_bwd(m->backend, m->config.act, a->gate, a->up, wide, n, pass->dy[SP_GATE],
                     pass->dy[SP_UP]);
        SPAR_TRY(sp_pass_linear_backward(pass, SP_GATE, SP_GATE_BIAS, layer, pass->norm_mlp, T,
                                         taken, joins, grads, err));
    } else if (m->config.act == SP_XIELU) {
        const sp_xielu p = sp_pass_xielu(m, layer);
        ops->xielu_bwd(m->backend, &p, a->up, wide, n, pass->dy[SP_UP],
                       sp_pass_grad(pass, grads, SP_ALPHA_P, layer),
                       sp_pass_grad(pass, grads, SP_ALPHA_N, layer));
    } else {
        ops->activate_bwd(m->backend, m->config.act, a->up, wide, n, pass->dy[SP_UP]);
    }
    SPAR_TRY(sp_pass_linear_backward(pass, SP_UP, SP_UP_BIAS, layer, pass->norm_mlp, T, taken,
                                     gated || joins, grads, err));
done:
    return status;
}

/* Row-wise: dx (gradient at the layer's output) becomes the gradient at x_mid, or, where the halves
 * are parallel, has the feed-forward's share of that at x added. */
static spar_status backward_dense(sp_pass *pass, int layer, int64_t T, sp_layer_acts *a,
                                  float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const sp_pass_sizes s = sp_pass_sizes_of(&m->config);
    const sp_role role = sp_pass_mlp_norm(&m->config);
    const float *entry = m->config.parallel ? a->x : a->x_mid;
    float *taken = taken_grad(pass, role, layer);
    if (m->config.act == SP_XIELU) {
        const sp_xielu p = sp_pass_xielu(m, layer);
        ops->xielu(m->backend, &p, a->up, true, T * s.F, pass->hidden);
    } else if (m->config.arch->plain_mlp) {
        ops->activate_kept(m->backend, m->config.act, a->up, T * s.F, pass->hidden);
    } else {
        ops->glu_kept(m->backend, m->config.act, a->gate, a->up, T * s.F, pass->hidden);
    }
    put_out_backward(pass, SP_MLP_HALF, layer, T, a, grads);
    SPAR_TRY(sp_pass_linear_backward(pass, SP_DOWN, SP_DOWN_BIAS, layer, pass->hidden, T,
                                     pass->chain.wide[0], false, grads, err));
    sp_pass_take_in(pass, role, layer, entry, T, pass->norm_mlp);
    SPAR_TRY(backward_hidden(pass, layer, T, a, taken, taken == pass->dx, grads, err));
    take_in_backward(pass, role, layer, entry, T, grads);
done:
    return status;
}

/* Row-wise: what follows attention; dx becomes the gradient at x_mid (parallel halves: as
 * backward_dense says), and dout that of attention's output. */
static spar_status backward_feed_forward(sp_pass *pass, int layer, int64_t T, sp_layer_acts *a,
                                         float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_config *c = &pass->model->config;
    if (c->parallel) { /* both halves have the gradient at the layer's output */
        put_out_backward(pass, SP_ATTENTION_HALF, layer, T, a, grads);
    }
    SPAR_TRY(c->sparse[layer] ? backward_experts(pass, layer, T, a, grads, err)
                              : backward_dense(pass, layer, T, a, grads, err));
    if (!c->parallel) {
        put_out_backward(pass, SP_ATTENTION_HALF, layer, T, a, grads);
    }
    const sp_half *h = sp_half_of(c, SP_ATTENTION_HALF, layer);
    SPAR_TRY(sp_pass_linear_backward(pass, h->linear, h->bias, layer, a->att, T, pass->dout, false,
                                     grads, err));
done:
    return status;
}

/* Row-wise: d, the gradient of normed queries or keys, becomes that of x, the projected ones. */
static void qk_norm_grad(sp_pass *pass, sp_role role, int layer, const float *x, const float *rstd,
                         int64_t T, int heads, float *d, float *grads) {
    const spar_model *m = pass->model;
    int64_t dim;
    const int64_t n = sp_pass_qk_norms(&m->config, T, heads, &dim);
    if (m->config.qk_norm == SP_QK_OWN) {
        const sp_head_gains gains = sp_pass_head_gains(m, role, layer, heads);
        m->backend->ops->layernorm_heads_bwd(m->backend, x, &gains, rstd, d, T, d,
                                             sp_pass_grad(pass, grads, role, layer));
    } else {
        norm_grad(pass, role, layer, x, rstd, d, n, dim, d, false, grads);
    }
}

/* Row-wise: from dq, dk, dv, dx (gradient at x_mid) becomes the gradient at x. */
static spar_status backward_qkv(sp_pass *pass, int layer, const sp_batch *batch, sp_layer_acts *a,
                                float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_config *c = &m->config;
    const sp_ops *ops = m->backend->ops;
    const sp_pass_sizes s = sp_pass_sizes_of(c);
    const int64_t T = (int64_t)batch->n_tokens;
    float *taken = taken_grad(pass, SP_ATTN_NORM, layer);
    const bool joins = taken == pass->dx;
    if (!c->arch->qk_turned) {
        sp_pass_rotate(m, layer, batch, pass->dq, pass->dk, -1.0F);
    }
    if (a->kept_q) {
        ops->clip_bwd(m->backend, pass->dq, T * s.Hq, a->kept_q);
        ops->clip_bwd(m->backend, pass->dk, T * s.Hk, a->kept_k);
        ops->clip_bwd(m->backend, pass->dv, T * s.Hk, a->kept_v);
    }
    if (c->qk_norm != SP_QK_PLAIN) {
        qk_norm_grad(pass, SP_Q_NORM, layer, a->q_raw, a->rstd_q, T, c->heads, pass->dq, grads);
        qk_norm_grad(pass, SP_K_NORM, layer, a->k_raw, a->rstd_k, T, c->kv_heads, pass->dk, grads);
    }
    if (c->arch->qk_turned) {
        sp_pass_rotate(m, layer, batch, pass->dq, pass->dk, -1.0F);
    }
    sp_pass_take_in(pass, SP_ATTN_NORM, layer, a->x, T, pass->norm_attn);
    ops->to_operand(m->backend, pass->dq, T * s.Hq, 1, pass->dy[SP_Q]);
    ops->to_operand(m->backend, pass->dk, T * s.Hk, 1, pass->dy[SP_K]);
    ops->to_operand(m->backend, pass->dv, T * s.Hk, 1, pass->dy[SP_V]);
    SPAR_TRY(sp_pass_linear_backward(pass, SP_Q, SP_Q_BIAS, layer, pass->norm_attn, T, taken, joins,
                                     grads, err));
    SPAR_TRY(sp_pass_linear_backward(pass, SP_K, SP_K_BIAS, layer, pass->norm_attn, T, taken, true,
                                     grads, err));
    SPAR_TRY(sp_pass_linear_backward(pass, SP_V, SP_V_BIAS, layer, pass->norm_attn, T, taken, true,
                                     grads, err));
    take_in_backward(pass, SP_ATTN_NORM, layer, a->x, T, grads);
done:
    return status;
}

/* Row-wise: the same from dgates. */
static spar_status backward_gates(sp_pass *pass, int layer, int64_t T, sp_layer_acts *a,
                                  float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    float *taken = taken_grad(pass, SP_ATTN_NORM, layer);
    sp_pass_take_in(pass, SP_ATTN_NORM, layer, a->x, T, pass->norm_attn);
    m->backend->ops->to_operand(m->backend, pass->dgates, 3 * T * m->config.hidden, 1,
                                pass->dy[SP_CONV_IN]);
    SPAR_TRY(sp_pass_linear_backward(pass, SP_CONV_IN, SP_ROLES, layer, pass->norm_attn, T, taken,
                                     taken == pass->dx, grads, err));
    take_in_backward(pass, SP_ATTN_NORM, layer, a->x, T, grads);
done:
    return status;
}

/* From dout, the gradients of what attention or a convolution took in. */
static spar_status attend_backward(sp_pass *pass, int layer, const sp_batch *batch,
                                   sp_layer_acts *a, float *grads, spar_error *err) {
    const spar_model *m = pass->model;
    if (m->config.conv[layer]) {
        const sp_short_conv conv = sp_pass_conv(m, layer, batch);
        m->backend->ops->short_conv_bwd(m->backend, &conv, a->gates, pass->dout, pass->dgates,
                                        sp_pass_grad(pass, grads, SP_CONV, layer));
        return SPAR_OK;
    }
    const sp_attention attention = sp_pass_attention(m, layer, batch);
    return m->backend->ops->attention_bwd(m->backend, &attention, a->q, a->k, a->v, a->att, a->lse,
                                          pass->dout, pass->dq, pass->dk, pass->dv, err);
}

/* Whether the backward gives a parameter's gradient in one product, which can overwrite: those of
 * the layers' projections, which have a dy, and of the head. */
static bool is_product(const sp_pass *pass, sp_role role) {
    return pass->dy[role] || role == (pass->model->config.tied ? SP_EMBED : SP_HEAD);
}

/* Gradients that are not added to: those of the roles first .. last (of a layer, or -1) to 0, but
 * for those that are overwritten anyway; with the gaps between parameters. */
static void clear_grads(const sp_pass *pass, sp_role first, sp_role last, int layer, float *grads) {
    const spar_model *m = pass->model;
    for (int i = 0; !pass->accumulate && i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        if (p->layer == layer && p->role >= first && p->role <= last) {
            const int64_t from = is_product(pass, p->role) ? p->count : 0;
            memset(grads + p->offset + from, 0,
                   (size_t)(sp_params_step(p->count) - from) * sizeof *grads);
        }
    }
}

static spar_status backward_layers(sp_pass *pass, const sp_batch *batch, float *grads,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const int64_t T = (int64_t)batch->n_tokens;
    SPAR_TRY(sp_pass_chain_begin(pass, T, err));
    for (int l = m->config.layers - 1; l >= 0; l--) {
        sp_layer_acts *a = &pass->layers[l];
        clear_grads(pass, SP_ATTN_NORM, SP_MLP_POST, l, grads);
        if (pass->recompute && l + 1 < m->config.layers) { /* the last layer's are still there */
            SPAR_TRY(sp_pass_chain_end(pass, err));
            SPAR_TRY(sp_pass_recompute(pass, l, batch, err));
            SPAR_TRY(sp_pass_chain_begin(pass, T, err));
        }
        SPAR_TRY(backward_feed_forward(pass, l, T, a, grads, err));
        SPAR_TRY(sp_pass_chain_end(pass, err));
        SPAR_TRY(attend_backward(pass, l, batch, a, grads, err));
        SPAR_TRY(sp_pass_chain_begin(pass, T, err));
        SPAR_TRY(m->config.conv[l] ? backward_gates(pass, l, T, a, grads, err)
                                   : backward_qkv(pass, l, batch, a, grads, err));
    }
    SPAR_TRY(sp_pass_chain_end(pass, err));
done:
    sp_pass_chain_drop(pass, status);
    return status;
}

/* Hugging Face models look up with padding_idx = pad_token_id: that row learns nothing from being
 * an input (only, when tied, as an output). Checkpoints are trained so, and so it is here. */
static void mask_padding(const spar_model *m, const sp_batch *batch, float *dx) {
    size_t H = (size_t)m->config.hidden;
    for (size_t t = 0; t < batch->n_tokens; t++) {
        if (batch->ids[t] == m->config.pad) {
            memset(dx + t * H, 0, H * sizeof *dx);
        }
    }
}

/* An adapter's gradients are few: they are cleared and added to. */
static void begin_grads(sp_pass *pass, float *grads, bool accumulate) {
    const spar_model *m = pass->model;
    pass->accumulate = accumulate || m->lora;
    if (m->lora && !accumulate) {
        memset(grads, 0, (size_t)sp_model_trainable(m).total * sizeof *grads);
    }
    clear_grads(pass, SP_FINAL_NORM, SP_HEAD, -1, grads);
}

/* dx (gradient at the first layer's entry) becomes that of the embeddings, through their norm. */
static void embed_norm_backward(sp_pass *pass, int64_t T, float *grads) {
    const spar_model *m = pass->model;
    const sp_config *c = &m->config;
    const sp_ops *ops = m->backend->ops;
    const float *gain = sp_pass_vector(m, SP_EMBED_NORM, 0);
    if (gain) {
        ops->layernorm_operand(m->backend, pass->embedded, gain,
                               sp_pass_vector(m, SP_EMBED_NORM_BIAS, 0), T, c->hidden, c->norm_eps,
                               pass->norm_attn, pass->embedded_rstd);
        norm_grad(pass, SP_EMBED_NORM, 0, pass->embedded, pass->embedded_rstd, pass->dx, T,
                  c->hidden, pass->dx, false, grads);
    } else if (c->arch->embed_norm) {
        ops->rmsnorm_bwd(m->backend, pass->embedded, m->ones, pass->embedded_rstd, pass->dx, T,
                         c->hidden, pass->dx, false, NULL);
    }
}

spar_status sp_pass_backward(sp_pass *pass, const sp_batch *batch, const float *c, float *grads,
                             bool accumulate, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    int64_t T = (int64_t)batch->n_tokens;
    int64_t R = (int64_t)batch->n_scored;
    int64_t H = m->config.hidden;
    sp_logit_form form = sp_pass_logit_form(m);
    form.dbias = sp_pass_grad(pass, grads, SP_HEAD_BIAS, 0);
    begin_grads(pass, grads, accumulate);
    SPAR_TRY(ops->head_logp_bwd(m->backend, sp_model_matrix(m, SP_HEAD, 0), &form, pass->rows_norm,
                                batch->targets, pass->head_lse, c, R, pass->drows,
                                sp_pass_grad(pass, grads, SP_HEAD, 0), pass->accumulate, err));
    norm_grad(pass, SP_FINAL_NORM, 0, pass->rows_x, pass->rows_rstd, pass->drows, R, H, pass->drows,
              false, grads);
    memset(pass->dx, 0, (size_t)(T * H) * sizeof *pass->dx);
    ops->scatter_add(m->backend, pass->drows, batch->score_rows, R, H, pass->dx);
    SPAR_TRY(backward_layers(pass, batch, grads, err));
    clear_grads(pass, SP_EMBED, SP_POSITIONS, -1, grads);
    embed_norm_backward(pass, T, grads);
    float *dembed = sp_pass_grad(pass, grads, SP_EMBED, 0);
    float *dpositions = sp_pass_grad(pass, grads, SP_POSITIONS, 0);
    if (dpositions) {
        ops->embed_dw(m->backend, batch->positions, T, H, pass->dx, 1,
                      dpositions + m->config.arch->position_offset * H);
    }
    if (dembed) {
        if (!m->config.arch->pads_learn) {
            mask_padding(m, batch, pass->dx);
        }
        ops->embed_dw(m->backend, batch->ids, T, H, pass->dx,
                      sp_factor_or_one(m->config.embed_scale), dembed);
    }
done:
    return status;
}
