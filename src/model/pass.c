/* Forward over a packed batch. */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "model/pass_parts.h"

const sp_half sp_halves[3] = {[SP_CONV_HALF] = {SP_CONV_OUT, SP_ROLES, SP_ATTN_POST},
                              [SP_ATTENTION_HALF] = {SP_O, SP_O_BIAS, SP_ATTN_POST},
                              [SP_MLP_HALF] = {SP_DOWN, SP_DOWN_BIAS, SP_MLP_POST}};

const sp_half *sp_half_of(const sp_config *c, int half, int layer) {
    return &sp_halves[half == SP_ATTENTION_HALF && c->conv[layer] ? SP_CONV_HALF : half];
}

sp_short_conv sp_pass_conv(const spar_model *m, int layer, const sp_batch *batch) {
    return (sp_short_conv){.width = m->config.hidden,
                           .taps = m->config.conv_taps,
                           .w = sp_pass_vector(m, SP_CONV, layer),
                           .n_segments = (int)batch->n_segments,
                           .segments = batch->segments};
}

sp_attention sp_pass_attention(const spar_model *m, int layer, const sp_batch *batch) {
    const sp_config *c = &m->config;
    return (sp_attention){.n_heads = c->heads,
                          .n_kv_heads = c->kv_heads,
                          .head_dim = c->head_dim,
                          .window = c->window[layer],
                          .scale = (float)sp_config_attention_scale(c, layer),
                          .cap = (float)c->attention_cap,
                          .slopes = m->slopes,
                          .n_segments = (int)batch->n_segments,
                          .segments = batch->segments};
}

/* The batch's keys and values into the cache, from where *attention takes them, at *k and *v. */
static void store_kv(sp_backend *be, const sp_kv_cache *cache, int layer, const sp_batch *batch,
                     sp_attention *attention, const void **k, const void **v) {
    const int heads = attention->n_kv_heads, dim = attention->head_dim;
    void *ck = cache->k[layer], *cv = cache->v[layer];
    for (size_t i = 0; i < batch->n_segments; i++) {
        const sp_segment *s = &batch->segments[i];
        const int64_t to = s->kv_start + s->kv_len - s->q_len, from = s->q_start * heads * dim;
        be->ops->cache_put(be, (const float *)*k + from, s->q_len, heads, dim, ck, cache->rows,
                           cache->bf16, to);
        be->ops->cache_put(be, (const float *)*v + from, s->q_len, heads, dim, cv, cache->rows,
                           cache->bf16, to);
    }
    attention->cache_rows = cache->rows;
    attention->cache_bf16 = cache->bf16;
    *k = ck;
    *v = cv;
}

static sp_rotation rotation(const spar_model *m, sp_table table) {
    return (sp_rotation){m->cos_table[table], m->sin_table[table], m->config.rotary_dim,
                         m->config.arch->rope_adjacent};
}

void sp_pass_rotate(const spar_model *m, int layer, const sp_batch *batch, float *q, float *k,
                    float sign) {
    const sp_config *c = &m->config;
    const int64_t T = (int64_t)batch->n_tokens;
    const sp_ops *ops = m->backend->ops;
    if (c->no_rope[layer]) {
        return;
    }
    const sp_table keys = sp_rope_is_local(c, layer) ? SP_TABLE_LOCAL : SP_TABLE_ALL;
    const sp_rotation of_keys = rotation(m, keys);
    const sp_rotation of_queries =
        rotation(m, sp_rope_has_table(c, SP_TABLE_QUERIES) ? SP_TABLE_QUERIES : keys);
    sign = c->arch->rope_back ? -sign : sign;
    ops->rope(m->backend, q, T, c->heads, c->head_dim, &of_queries, batch->positions, sign);
    ops->rope(m->backend, k, T, c->kv_heads, c->head_dim, &of_keys, batch->positions, sign);
}

spar_status sp_pass_chain_begin(sp_pass *pass, int64_t T, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const sp_pass_sizes s = sp_pass_sizes_of(&m->config);
    const size_t operand = m->backend->operand_size;
    const size_t H = (size_t)s.H, F = (size_t)s.F, rank = (size_t)sp_pass_rank(m);
    const bool at_once = pass->dropping || m->terms > 0 || (m->lora && m->lora->settings.dora);
    const size_t local = (H + F + rank) * (operand + sizeof(float)) + F * sizeof(float);
    SPAR_TRY(ops->chain_begin(m->backend, T, local, !at_once, err));
    sp_chain_arrays *c = &pass->chain;
    c->norm = ops->chain_local(m->backend, H * operand);
    c->hidden = ops->chain_local(m->backend, F * operand);
    c->wide[0] = ops->chain_local(m->backend, F * sizeof(float));
    c->wide[1] = ops->chain_local(m->backend, F * sizeof(float));
    c->dnorm = ops->chain_local(m->backend, H * sizeof(float));
    c->low = ops->chain_local(m->backend, rank * sizeof(float));
    c->low_operand = ops->chain_local(m->backend, rank * operand);
done:
    return status;
}

spar_status sp_pass_chain_end(sp_pass *pass, spar_error *err) {
    return pass->model->backend->ops->chain_end(pass->model->backend, err);
}

void sp_pass_chain_drop(sp_pass *pass, spar_status status) {
    if (status != SPAR_OK) {
        (void)sp_pass_chain_end(pass, NULL);
    }
}

int64_t sp_pass_qk_norms(const sp_config *c, int64_t T, int heads, int64_t *dim) {
    const bool rows = c->qk_norm == SP_QK_ROWS;
    *dim = (int64_t)c->head_dim * (rows ? heads : 1);
    return rows ? T : T * heads;
}

sp_head_gains sp_pass_head_gains(const spar_model *m, sp_role role, int layer, int heads) {
    return (sp_head_gains){.at = sp_pass_vector(m, role, layer),
                           .heads = heads,
                           .dim = m->config.head_dim,
                           .step = sp_params_step(m->config.head_dim)};
}

static void norm_qk(const spar_model *m, sp_role role, int layer, int64_t T, int heads,
                    const float *x, float *y, float *rstd) {
    int64_t dim;
    if (m->config.qk_norm == SP_QK_OWN) {
        const sp_head_gains gains = sp_pass_head_gains(m, role, layer, heads);
        m->backend->ops->layernorm_heads(m->backend, x, &gains, T, m->config.norm_eps, y, rstd);
        return;
    }
    const int64_t n = sp_pass_qk_norms(&m->config, T, heads, &dim);
    m->backend->ops->rmsnorm_f32(m->backend, x, sp_pass_gain(m, role, layer), n, dim,
                                 m->config.norm_eps, y, rstd);
}

sp_role sp_pass_norm_bias(sp_role norm) {
    switch (norm) {
    case SP_EMBED_NORM:
        return SP_EMBED_NORM_BIAS;
    case SP_ATTN_NORM:
        return SP_ATTN_NORM_BIAS;
    case SP_MLP_NORM:
        return SP_MLP_NORM_BIAS;
    case SP_FINAL_NORM:
        return SP_FINAL_NORM_BIAS;
    default:
        return SP_ROLES;
    }
}

sp_role sp_pass_mlp_norm(const sp_config *c) {
    return c->parallel && c->arch->one_norm ? SP_ATTN_NORM : SP_MLP_NORM;
}

/* Row-wise: operand y = the family's norm of x [n,H]. */
static void norm(const spar_model *m, sp_role role, int layer, const float *x, int64_t n, void *y,
                 float *rstd) {
    const sp_config *c = &m->config;
    const sp_ops *ops = m->backend->ops;
    const float *gain = sp_pass_gain(m, role, layer);
    if (sp_arch_is_rms(c->arch)) {
        ops->rmsnorm(m->backend, x, gain, n, c->hidden, c->norm_eps, y, rstd);
    } else {
        ops->layernorm_operand(m->backend, x, gain,
                               sp_pass_vector(m, sp_pass_norm_bias(role), layer), n, c->hidden,
                               c->norm_eps, y, rstd);
    }
}

void sp_pass_take_in(sp_pass *pass, sp_role role, int layer, const float *x, int64_t T, void *y) {
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    if (sp_pass_gain(m, role, layer)) {
        norm(m, role, layer, x, T, y, pass->rstd);
    } else {
        ops->to_operand(m->backend, x, T * m->config.hidden, 1, y);
    }
}

/* Row-wise: to [T,H] += multiplier norm(x W^T + bias) by the half's output layer, with the norm and
 * the multiplier that the family has; to NULL: only what the backward needs. */
static spar_status put_out(sp_pass *pass, int half, int layer, const void *x, int64_t T,
                           sp_layer_acts *a, float *to, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const sp_half *h = sp_half_of(&m->config, half, layer);
    const float *gain = sp_pass_vector(m, h->norm, layer);
    const float factor = sp_factor_or_one(m->config.residual_scale);
    float *sum = pass->chain.dnorm, *out = gain && a->out[half] ? a->out[half] : sum;
    if (!gain && (!to || factor == 1.0F)) {
        return to ? sp_pass_linear(pass, h->linear, h->bias, layer, x, T, to, true, err) : SPAR_OK;
    }
    SPAR_TRY(sp_pass_linear(pass, h->linear, h->bias, layer, x, T, out, false, err));
    if (gain) {
        ops->rmsnorm_f32(m->backend, out, gain, T, m->config.hidden, m->config.norm_eps, sum,
                         a->rstd_out[half]);
    }
    if (to) {
        ops->add_scaled(m->backend, sum, T * m->config.hidden, factor, to);
    }
done:
    return status;
}

/* Row-wise: queries, keys and values to within the family's bound (OLMo). */
static void clip_qkv(const spar_model *m, int64_t T, const sp_layer_acts *a) {
    const sp_ops *ops = m->backend->ops;
    const sp_pass_sizes s = sp_pass_sizes_of(&m->config);
    const float bound = (float)m->config.qkv_bound;
    if (bound > 0) {
        ops->clip(m->backend, a->q, T * s.Hq, bound, a->kept_q);
        ops->clip(m->backend, a->k, T * s.Hk, bound, a->kept_k);
        ops->clip(m->backend, a->v, T * s.Hk, bound, a->kept_v);
    }
}

static void norm_both(const spar_model *m, int layer, int64_t T, const sp_layer_acts *a) {
    const sp_config *c = &m->config;
    if (c->qk_norm != SP_QK_PLAIN) {
        norm_qk(m, SP_Q_NORM, layer, T, c->heads, a->q_raw, a->q, a->rstd_q);
        norm_qk(m, SP_K_NORM, layer, T, c->kv_heads, a->k_raw, a->k, a->rstd_k);
    }
}

/* Row-wise: what the first half of a layer needs of its input: queries, keys and values, rotated,
 * or the gates and values of a convolution. */
static spar_status project_in(sp_pass *pass, int layer, const sp_batch *batch, sp_layer_acts *a,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const void *x = pass->chain.norm;
    int64_t T = (int64_t)batch->n_tokens;
    sp_pass_take_in(pass, SP_ATTN_NORM, layer, a->x, T, pass->chain.norm);
    if (m->config.conv[layer]) {
        return sp_pass_linear(pass, SP_CONV_IN, SP_ROLES, layer, x, T, a->gates, false, err);
    }
    SPAR_TRY(sp_pass_linear(pass, SP_Q, SP_Q_BIAS, layer, x, T, a->q_raw, false, err));
    SPAR_TRY(sp_pass_linear(pass, SP_K, SP_K_BIAS, layer, x, T, a->k_raw, false, err));
    SPAR_TRY(sp_pass_linear(pass, SP_V, SP_V_BIAS, layer, x, T, a->v, false, err));
    if (m->config.arch->qk_turned) {
        sp_pass_rotate(m, layer, batch, a->q_raw, a->k_raw, 1.0F);
        norm_both(m, layer, T, a);
    } else {
        norm_both(m, layer, T, a);
        clip_qkv(m, T, a);
        sp_pass_rotate(m, layer, batch, a->q, a->k, 1.0F);
    }
done:
    return status;
}

/* The part of a layer in which rows see others. */
static spar_status attend(sp_pass *pass, int layer, const sp_batch *batch, sp_kv_cache *cache,
                          sp_layer_acts *a, spar_error *err) {
    spar_model *m = pass->model;
    const void *k = a->k, *v = a->v;
    if (m->config.conv[layer]) {
        sp_short_conv conv = sp_pass_conv(m, layer, batch);
        conv.cache = cache ? cache->k[layer] : NULL;
        conv.cache_bf16 = cache && cache->bf16;
        m->backend->ops->short_conv(m->backend, &conv, a->gates, a->att);
        return SPAR_OK;
    }
    sp_attention attention = sp_pass_attention(m, layer, batch);
    if (cache) {
        store_kv(m->backend, cache, layer, batch, &attention, &k, &v);
    }
    return m->backend->ops->attention(m->backend, &attention, a->q, k, v, a->att, a->lse, err);
}

/* alpha as softplus and its derivative, which is the sigmoid. */
static float softplus(float alpha, float *slope) {
    const double e = exp(-fabs((double)alpha));
    *slope = (float)(alpha > 0 ? 1.0 / (1.0 + e) : e / (1.0 + e));
    return (float)(fmax((double)alpha, 0.0) + log1p(e));
}

sp_xielu sp_pass_xielu(const spar_model *m, int layer) {
    sp_xielu p = {.beta = *sp_pass_vector(m, SP_XIELU_BETA, layer),
                  .eps = *sp_pass_vector(m, SP_XIELU_EPS, layer)};
    p.positive = softplus(*sp_pass_vector(m, SP_ALPHA_P, layer), &p.by_positive);
    p.negative = p.beta + softplus(*sp_pass_vector(m, SP_ALPHA_N, layer), &p.by_negative);
    return p;
}

/* Row-wise: operand y of the activation of x [T,F], without a gate. */
static void activate(const spar_model *m, int layer, const float *x, int64_t T, void *y) {
    const sp_ops *ops = m->backend->ops;
    const int64_t F = m->config.ffn;
    if (m->config.act == SP_XIELU) {
        const sp_xielu p = sp_pass_xielu(m, layer);
        ops->xielu(m->backend, &p, x, false, T * F, y);
    } else {
        ops->activate(m->backend, m->config.act, x, NULL, T, F, false, y);
    }
}

/* The half of a layer with experts, whose rows are not the chain's: it ends one and begins another.
 */
static spar_status mix_experts(sp_pass *pass, int layer, int64_t T, sp_layer_acts *a, float *x_next,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    sp_pass_take_in(pass, SP_MLP_NORM, layer, a->x_mid, T, pass->mixture.entry);
    SPAR_TRY(sp_mixture_logits(m, layer, T, &pass->mixture, err));
    if (x_next && x_next != a->x_mid) {
        m->backend->ops->copy(m->backend, a->x_mid, T * m->config.hidden, x_next);
    }
    SPAR_TRY(sp_pass_chain_end(pass, err));
    SPAR_TRY(
        sp_mixture_forward(m, layer, T, &pass->mixture, &a->mixture, pass->train, x_next, err));
    if (pass->train && x_next) {
        sp_mixture_count(T, &pass->mixture, &a->mixture);
    }
    SPAR_TRY(sp_pass_chain_begin(pass, T, err));
done:
    return status;
}

/* Row-wise: what follows attention. x_next NULL: only what the backward needs, without the layer's
 * output. */
static spar_status feed_forward(sp_pass *pass, int layer, int64_t T, sp_layer_acts *a,
                                float *x_next, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const sp_pass_sizes s = sp_pass_sizes_of(&m->config);
    const sp_chain_arrays *c = &pass->chain;
    /* In f32 what the backward wants is what the products give. */
    const bool direct = pass->train && m->backend->compute == SP_COMPUTE_F32;
    float *gate = direct ? a->gate : c->wide[0], *up = direct ? a->up : c->wide[1];
    void *kept_gate = direct || !pass->train ? NULL : a->gate;
    void *kept_up = direct || !pass->train ? NULL : a->up;
    const sp_role taken = sp_pass_mlp_norm(&m->config);
    if (m->config.parallel) { /* before attention adds to what may be the same array */
        sp_pass_take_in(pass, taken, layer, a->x, T, c->norm);
    }
    if (a->x_mid != a->x) {
        ops->copy(m->backend, a->x, T * s.H, a->x_mid);
    }
    SPAR_TRY(put_out(pass, SP_ATTENTION_HALF, layer, a->att, T, a, a->x_mid, err));
    if (m->config.sparse[layer]) {
        SPAR_TRY(mix_experts(pass, layer, T, a, x_next, err));
        goto done;
    }
    if (!m->config.parallel) {
        sp_pass_take_in(pass, taken, layer, a->x_mid, T, c->norm);
    }
    SPAR_TRY(sp_pass_linear(pass, SP_UP, SP_UP_BIAS, layer, c->norm, T, up, false, err));
    if (m->config.arch->plain_mlp) {
        activate(m, layer, up, T, c->hidden);
        if (kept_up) {
            ops->to_operand(m->backend, up, T * s.F, 1, kept_up);
        }
    } else {
        SPAR_TRY(sp_pass_linear(pass, SP_GATE, SP_GATE_BIAS, layer, c->norm, T, gate, false, err));
        ops->glu(m->backend, m->config.act, gate, up, T * s.F, c->hidden, kept_gate, kept_up);
    }
    if (x_next && x_next != a->x_mid) {
        ops->copy(m->backend, a->x_mid, T * s.H, x_next);
    }
    SPAR_TRY(put_out(pass, SP_MLP_HALF, layer, c->hidden, T, a, x_next, err));
done:
    return status;
}

spar_status sp_pass_recompute(sp_pass *pass, int layer, const sp_batch *batch, spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t T = (int64_t)batch->n_tokens;
    sp_layer_acts *a = &pass->layers[layer];
    SPAR_TRY(sp_pass_chain_begin(pass, T, err));
    SPAR_TRY(project_in(pass, layer, batch, a, err));
    SPAR_TRY(sp_pass_chain_end(pass, err));
    SPAR_TRY(attend(pass, layer, batch, NULL, a, err));
    SPAR_TRY(sp_pass_chain_begin(pass, T, err));
    SPAR_TRY(feed_forward(pass, layer, T, a, NULL, err));
    SPAR_TRY(sp_pass_chain_end(pass, err));
done:
    return status;
}

static spar_status check_batch(spar_model *m, const sp_batch *batch, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t longest = 1;
    for (size_t i = 0; i < batch->n_segments; i++) {
        const int64_t end = batch->segments[i].pos0 + (int64_t)batch->segments[i].kv_len;
        longest = end > longest ? end : longest;
    }
    SPAR_TRY(sp_model_reserve_positions(m, longest, err));
    SPAR_TRY(sp_model_check_ids(m, batch->ids, batch->n_tokens, err));
done:
    return status;
}

/* The residual stream at the first layer's entry. */
static void embed(sp_pass *pass, const sp_batch *batch) {
    spar_model *m = pass->model;
    const sp_config *c = &m->config;
    const sp_ops *ops = m->backend->ops;
    const int64_t T = (int64_t)batch->n_tokens, H = c->hidden;
    const float *gain = sp_pass_vector(m, SP_EMBED_NORM, 0);
    ops->embed(m->backend, sp_model_matrix(m, SP_EMBED, 0), batch->ids, T,
               sp_factor_or_one(c->embed_scale), pass->embedded);
    if (c->arch->learned_positions) {
        ops->embed_add(m->backend,
                       sp_model_matrix(m, SP_POSITIONS, 0)->data + c->arch->position_offset * H,
                       batch->positions, T, H, pass->embedded);
    }
    if (gain) {
        ops->layernorm(m->backend, pass->embedded, NULL, gain,
                       sp_pass_vector(m, SP_EMBED_NORM_BIAS, 0), T, H, c->norm_eps,
                       pass->layers[0].x, NULL);
    } else if (c->arch->embed_norm) {
        ops->rmsnorm_f32(m->backend, pass->embedded, m->ones, T, H, c->norm_eps, pass->layers[0].x,
                         pass->embedded_rstd);
    }
}

spar_status sp_pass_forward(sp_pass *pass, const sp_batch *batch, sp_kv_cache *cache,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    int64_t T = (int64_t)batch->n_tokens;
    int layers = m->config.layers;
    SPAR_TRY(check_batch(m, batch, err));
    /* a training pass and one for inference, in turns on one model, want different copies */
    if (pass->train ? !m->prepared_backward : m->changing) {
        SPAR_TRY(sp_model_prepare(m, pass->train, err));
    }
    SPAR_TRY(sp_pass_reserve(pass, T, (int64_t)batch->n_scored, err));
    embed(pass, batch);
    if (pass->train && sp_config_sparse_layers(&m->config) > 0) {
        sp_mixture_count_begin(m, &pass->mixture);
    }
    /* A chain runs from one attention to the next. */
    SPAR_TRY(sp_pass_chain_begin(pass, T, err));
    SPAR_TRY(project_in(pass, 0, batch, &pass->layers[0], err));
    for (int l = 0; l < layers; l++) {
        const bool last = l + 1 == layers;
        sp_layer_acts *a = &pass->layers[pass->train ? l : 0];
        sp_layer_acts *next = last ? NULL : &pass->layers[pass->train ? l + 1 : 0];
        SPAR_TRY(sp_pass_chain_end(pass, err));
        SPAR_TRY(attend(pass, l, batch, cache, a, err));
        SPAR_TRY(sp_pass_chain_begin(pass, T, err));
        SPAR_TRY(feed_forward(pass, l, T, a, !pass->train || last ? pass->x_out : next->x, err));
        if (!last) {
            SPAR_TRY(project_in(pass, l + 1, batch, next, err));
        }
    }
    SPAR_TRY(sp_pass_chain_end(pass, err));
    if (pass->train && sp_config_sparse_layers(&m->config) > 0) {
        pass->balance_loss = sp_mixture_balance(m, T, &pass->mixture, pass->balance);
    }
done:
    sp_pass_chain_drop(pass, status);
    return status;
}

sp_logit_form sp_pass_logit_form(const spar_model *m) {
    const sp_config *c = &m->config;
    return (sp_logit_form){.scale = sp_factor_or_one(c->logit_scale) /
                                    sp_factor_or_one(c->logit_divisor),
                           .cap = (float)c->logit_cap,
                           .bias = sp_pass_vector(m, SP_HEAD_BIAS, 0)};
}

/* Final norm of the given rows of x_out into rows_norm. */
static void norm_rows(sp_pass *pass, const int64_t *rows, int64_t n) {
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    ops->gather(m->backend, pass->x_out, rows, n, m->config.hidden, pass->rows_x);
    norm(m, SP_FINAL_NORM, 0, pass->rows_x, n, pass->rows_norm, pass->rows_rstd);
}

/* With products in whole numbers, log-probs come from the logits that sampling sees. */
static spar_status logits_logp(sp_pass *pass, const sp_batch *batch, float *logp, spar_error *err) {
    enum { ROWS = 16 };
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const int64_t V = m->config.vocab, R = (int64_t)batch->n_scored;
    void *memory = NULL;
    SPAR_TRY(sp_mem_aligned(&memory, (size_t)V * ROWS, sizeof(float), err));
    for (int64_t at = 0; at < R; at += ROWS) {
        const int64_t n = R - at < ROWS ? R - at : ROWS;
        SPAR_TRY(sp_pass_logits(pass, batch->score_rows + at, n, memory, err));
        for (int64_t r = 0; r < n; r++) {
            const float *x = (const float *)memory + r * V;
            float max = x[0];
            for (int64_t v = 1; v < V; v++) {
                max = x[v] > max ? x[v] : max;
            }
            logp[at + r] =
                x[batch->targets[at + r]] - max - logf(m->backend->ops->exp_sum(x, V, max, 1.0F));
        }
    }
done:
    free(memory);
    return status;
}

spar_status sp_pass_logp(sp_pass *pass, const sp_batch *batch, float *logp, spar_error *err) {
    spar_model *m = pass->model;
    if (m->terms > 0) {
        return logits_logp(pass, batch, logp, err);
    }
    const sp_logit_form form = sp_pass_logit_form(m);
    norm_rows(pass, batch->score_rows, (int64_t)batch->n_scored);
    return m->backend->ops->head_logp(m->backend, sp_model_matrix(m, SP_HEAD, 0), &form,
                                      pass->rows_norm, batch->targets, (int64_t)batch->n_scored,
                                      logp, pass->head_lse, err);
}

spar_status sp_pass_logits(sp_pass *pass, const int64_t *rows, int64_t n_rows, float *logits,
                           spar_error *err) {
    /* rows_x holds as many rows as were scored; logits are asked for in batches of that size. */
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_logit_form form = sp_pass_logit_form(m);
    for (int64_t at = 0; at < n_rows; at += pass->R) {
        int64_t n = n_rows - at < pass->R ? n_rows - at : pass->R;
        norm_rows(pass, rows + at, n);
        SPAR_TRY(sp_pass_linear(pass, SP_HEAD, SP_HEAD_BIAS, 0, pass->rows_norm, n,
                                logits + at * m->config.vocab, false, err));
        if (form.scale != 1.0F || form.cap > 0) {
            m->backend->ops->form_logits(m->backend, &form, n * m->config.vocab,
                                         logits + at * m->config.vocab);
        }
    }
done:
    return status;
}

spar_status sp_pass_project(sp_pass *pass, const sp_weight *w, const float *bias,
                            const int64_t *rows, int64_t n_rows, float *out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = pass->model->backend;
    for (int64_t at = 0; at < n_rows; at += pass->R) {
        const int64_t n = n_rows - at < pass->R ? n_rows - at : pass->R;
        norm_rows(pass, rows + at, n);
        SPAR_TRY(be->ops->linear(be, w, bias, pass->rows_norm, n, out + at * w->out, false, err));
    }
done:
    return status;
}
