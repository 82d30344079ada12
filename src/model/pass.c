/* Forward and backward over a packed batch. Shapes: T rows, H hidden, F feed-forward, D head size,
 * Hq = heads*D, Hk = kv_heads*D, R scored rows, V vocabulary. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/engine.h"
#include "model/lora.h"
#include "model/mixture.h"

/* What one layer leaves for its backward. x is the residual stream at the layer's entry and x_mid
 * between attention and feed-forward; norms and the activation are cheap and recomputed. */
typedef struct layer_acts {
    float *x, *x_mid;            /* [T,H] */
    float *q_raw, *k_raw;        /* [T,Hq], [T,Hk] before the head norms; NULL without them */
    float *q, *k, *v;            /* [T,Hq], [T,Hk], [T,Hk] as attention sees them */
    void *att;                   /* operand [T,Hq] */
    float *lse;                  /* [T,heads] */
    void *gate, *up;             /* operand [T,F] */
    float *rstd_q, *rstd_k;      /* [T*heads], [T*kv_heads] */
    float *out[2], *rstd_out[2]; /* [T,H], [T]: what a half's output norm saw; NULL without one */
    sp_mixture_acts mixture;     /* in place of gate and up, where the layer has experts */
} layer_acts;

/* The two halves of a layer: roles of what gives their output, and of its norm. */
enum { ATTENTION, FEED_FORWARD };
static const struct half {
    sp_role linear, bias, norm;
} halves[] = {[ATTENTION] = {SP_O, SP_O_BIAS, SP_ATTN_POST},
              [FEED_FORWARD] = {SP_DOWN, SP_DOWN_BIAS, SP_MLP_POST}};

/* Arrays that live within a chain of row-wise operations. */
typedef struct chain_arrays {
    void *norm, *hidden; /* operand [T,H], [T,F]: inputs of matrix products */
    float *wide[2];      /* [T,F] each */
    float *dnorm, *low;  /* [T,H], [T,rank] */
    void *low_operand;   /* operand [T,rank] */
} chain_arrays;

struct sp_pass {
    spar_model *model; /* borrowed */
    bool train, recompute;
    int64_t T, R;       /* capacity */
    char *block;        /* owned: all arrays below */
    layer_acts *layers; /* owned; model layers when training, else 1 */
    chain_arrays chain;
    sp_mixture_space mixture;     /* of models with experts */
    double balance, balance_loss; /* weight of the load-balancing loss; its value */
    float *x_out;                 /* [T,H]: after the last layer */
    float *rstd;                  /* [T] */
    float *rows_x;                /* [R,H]: scored rows of x_out */
    void *rows_norm;              /* operand [R,H] */
    float *rows_rstd, *head_lse;  /* [R] */
    void *low[SP_ROLES];          /* operand [T,rank] of the linear roles: s x A^T of an adapter */
    bool dropping;                /* dropout of the adapters' inputs, by dropout_seed */
    uint64_t dropout_seed;
    float *direction;   /* [T, max(H, Hq, F)]: V x, where an adapter has magnitudes */
    void *dy_direction; /* operand, the same size: its gradient */
    float *dgain;       /* [max(H, Hq, F)] */
    void *dropped;      /* operand [T, max(H, Hq, F)]: an adapter's input */
    float *low_dx;      /* the same size: its gradient */
    /* backward only */
    float *dx;                  /* [T,H] */
    float *dout;                /* [T,Hq]: gradient of attention's output */
    float *dq, *dk, *dv;        /* [T,Hq], [T,Hk], [T,Hk] */
    float *drows;               /* [R,H] */
    void *hidden;               /* operand [T,F]: what the down projection saw */
    void *norm_attn, *norm_mlp; /* operand [T,H]: what the projections saw */
    void *dy[SP_ROLES];         /* operand [T, outputs] of the linear roles */
    void *dlow[SP_ROLES];       /* operand [T,rank]: gradients of low */
};

/* Rows of logits that an inference pass makes at a time. */
enum { LOGIT_ROWS = 128 };

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* One walk both measures (base NULL) and places the arrays; returns the bytes. */
typedef struct placer {
    char *base;
    size_t used;
} placer;

static void *place(placer *p, int64_t n, size_t size) {
    void *at = p->base ? p->base + p->used : NULL;
    p->used += ((size_t)n * size + 63) / 64 * 64;
    return at;
}

static float *place_f32(placer *p, int64_t n) {
    return place(p, n, sizeof(float));
}

typedef struct sizes {
    int64_t H, F, Hq, Hk, V;
    int heads, kv_heads, D, layers;
} sizes;

static sizes sizes_of(const sp_config *c) {
    return (sizes){.H = c->hidden,
                   .F = c->ffn,
                   .Hq = (int64_t)c->heads * c->head_dim,
                   .Hk = (int64_t)c->kv_heads * c->head_dim,
                   .V = c->vocab,
                   .heads = c->heads,
                   .kv_heads = c->kv_heads,
                   .D = c->head_dim,
                   .layers = c->layers};
}

/* Layers first .. last share the arrays. */
static void place_layer(placer *p, layer_acts *a, const spar_model *m, int first, int last,
                        bool train, int64_t T) {
    const sizes of_model = sizes_of(&m->config), *s = &of_model;
    const sp_arch *arch = m->config.arch;
    const size_t operand = m->backend->operand_size;
    bool dense = false, sparse = false;
    for (int l = first; l <= last; l++) {
        sparse = sparse || m->config.sparse[l];
        dense = dense || !m->config.sparse[l];
    }
    const bool qk_norm = arch->qk_norm != SP_QK_PLAIN;
    const bool out_norm = arch->norms != SP_NORMS_BEFORE;
    a->x = place_f32(p, T * s->H);
    a->x_mid = train ? place_f32(p, T * s->H) : a->x;
    a->q = place_f32(p, T * s->Hq);
    a->k = place_f32(p, T * s->Hk);
    a->v = place_f32(p, T * s->Hk);
    a->q_raw = qk_norm && train ? place_f32(p, T * s->Hq) : a->q;
    a->k_raw = qk_norm && train ? place_f32(p, T * s->Hk) : a->k;
    a->rstd_q = qk_norm ? place_f32(p, T * s->heads) : NULL;
    a->rstd_k = qk_norm ? place_f32(p, T * s->kv_heads) : NULL;
    for (int half = ATTENTION; half <= FEED_FORWARD; half++) {
        a->out[half] = out_norm && train ? place_f32(p, T * s->H) : NULL;
        a->rstd_out[half] = out_norm ? place_f32(p, T) : NULL;
    }
    a->att = place(p, T * s->Hq, operand);
    a->lse = place_f32(p, T * s->heads);
    a->gate = place(p, train && dense ? T * s->F : 0, operand);
    a->up = place(p, train && dense ? T * s->F : 0, operand);
    if (sparse) {
        const size_t bytes = sp_mixture_place_acts(&a->mixture, NULL, m, train, T);
        sp_mixture_place_acts(&a->mixture, place(p, 1, bytes), m, train, T);
    }
}

/* What a linear role gives. */
static int64_t outputs_of(const sizes *s, sp_role role) {
    switch (role) {
    case SP_Q:
        return s->Hq;
    case SP_K:
    case SP_V:
        return s->Hk;
    case SP_GATE:
    case SP_UP:
        return s->F;
    default:
        return s->H; /* SP_O, SP_DOWN */
    }
}

static const sp_role linear_roles[] = {SP_Q, SP_K, SP_V, SP_O, SP_GATE, SP_UP, SP_DOWN};
enum { LINEAR_ROLES = sizeof linear_roles / sizeof linear_roles[0] };

static int64_t rank_of(const spar_model *m) {
    return m->lora ? m->lora->settings.rank : 0;
}

static void place_backward(sp_pass *pass, const spar_model *m, placer *p, const sizes *s,
                           int64_t T) {
    const size_t operand = m->backend->operand_size;
    pass->dx = place_f32(p, T * s->H);
    pass->dout = place_f32(p, T * s->Hq);
    pass->dq = place_f32(p, T * s->Hq);
    pass->dk = place_f32(p, T * s->Hk);
    pass->dv = place_f32(p, T * s->Hk);
    pass->hidden = place(p, T * s->F, operand);
    pass->norm_attn = place(p, T * s->H, operand);
    pass->norm_mlp = place(p, T * s->H, operand);
    for (int i = 0; i < LINEAR_ROLES; i++) {
        const sp_role role = linear_roles[i];
        pass->dy[role] = place(p, T * outputs_of(s, role), operand);
        pass->low[role] = place(p, T * rank_of(m), operand);
        pass->dlow[role] = place(p, T * rank_of(m), operand);
    }
}

static size_t place_all(sp_pass *pass, const spar_model *m, char *base, int64_t T, int64_t R) {
    sizes s = sizes_of(&m->config);
    size_t operand = m->backend->operand_size;
    placer p = {base, 0};
    int n = pass->train ? s.layers : 1;
    for (int l = 0; l < n; l++) {
        if (l > 0 && pass->recompute) {
            pass->layers[l] = pass->layers[0];
            pass->layers[l].x = place_f32(&p, T * s.H);
        } else {
            const bool shared = pass->recompute || !pass->train;
            place_layer(&p, &pass->layers[l], m, l, shared ? s.layers - 1 : l, pass->train, T);
        }
    }
    pass->x_out = pass->train ? place_f32(&p, T * s.H) : pass->layers[0].x;
    pass->rstd = place_f32(&p, T);
    pass->rows_x = place_f32(&p, R * s.H);
    pass->rows_norm = place(&p, R * s.H, operand);
    pass->rows_rstd = place_f32(&p, R);
    pass->head_lse = place_f32(&p, R);
    if (sp_config_sparse_layers(&m->config) > 0) {
        const size_t bytes = sp_mixture_place_space(&pass->mixture, NULL, m, pass->train, T);
        sp_mixture_place_space(&pass->mixture, place(&p, 1, bytes), m, pass->train, T);
    }
    const bool drops = pass->train && m->lora && m->lora->settings.dropout > 0;
    const int64_t widest = drops ? max64(s.H, max64(s.Hq, s.F)) : 0;
    pass->dropped = place(&p, T * widest, operand);
    pass->low_dx = place_f32(&p, T * widest);
    const int64_t most = m->lora && m->lora->settings.dora ? max64(s.H, max64(s.Hq, s.F)) : 0;
    pass->direction = place_f32(&p, T * most);
    pass->dy_direction = place(&p, pass->train ? T * most : 0, operand);
    pass->dgain = place_f32(&p, most);
    if (pass->train) {
        place_backward(pass, m, &p, &s, T);
        pass->drows = place_f32(&p, R * s.H);
    }
    return p.used;
}

spar_status sp_pass_create(sp_pass **out, spar_model *model, sp_pass_kind kind, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL;
    sp_pass *pass = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *pass, err));
    pass = memory;
    pass->model = model;
    pass->train = kind != SP_PASS_INFER;
    pass->recompute = kind == SP_PASS_RECOMPUTE;
    size_t n = pass->train ? (size_t)model->config.layers : 1;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *pass->layers, err));
    pass->layers = memory;
    *out = pass;
    pass = NULL;
done:
    sp_pass_free(pass);
    return status;
}

void sp_pass_free(sp_pass *pass) {
    if (pass) {
        free(pass->block);
        free(pass->layers);
        free(pass);
    }
}

size_t sp_pass_bytes(const spar_model *model, sp_pass_kind kind, int64_t T, int64_t R) {
    layer_acts layers[SP_MAX_LAYERS];
    sp_pass pass = {
        .train = kind != SP_PASS_INFER, .recompute = kind == SP_PASS_RECOMPUTE, .layers = layers};
    return place_all(&pass, model, NULL, T, R);
}

void sp_pass_dropout(sp_pass *pass, bool on, uint64_t seed) {
    const sp_lora *l = pass->model->lora;
    pass->dropping = on && pass->train && l && l->settings.dropout > 0;
    pass->dropout_seed = seed;
}

void sp_pass_balance(sp_pass *pass, double weight) {
    pass->balance = sp_config_sparse_layers(&pass->model->config) > 0 ? weight : 0;
}

double sp_pass_balance_loss(const sp_pass *pass) {
    return pass->balance_loss;
}

/* Make room for T rows and R scored rows; what the pass held is lost. */
static spar_status reserve(sp_pass *pass, int64_t T, int64_t R, spar_error *err) {
    if (T <= pass->T && R <= pass->R) {
        return SPAR_OK;
    }
    T = max64(T, pass->T);
    R = max64(R, max64(pass->R, pass->train ? 1 : LOGIT_ROWS));
    size_t bytes = place_all(pass, pass->model, NULL, T, R);
    free(pass->block);
    pass->block = NULL;
    pass->T = pass->R = 0;
    void *memory;
    spar_status status = sp_mem_aligned(&memory, bytes, 1, err);
    if (status == SPAR_OK) {
        pass->block = memory;
        pass->T = T;
        pass->R = R;
        place_all(pass, pass->model, pass->block, T, R);
    }
    return status;
}

static sp_attention attention_of(const spar_model *m, int layer, const sp_batch *batch) {
    const sp_config *c = &m->config;
    return (sp_attention){.n_heads = c->heads,
                          .n_kv_heads = c->kv_heads,
                          .head_dim = c->head_dim,
                          .window = c->window[layer],
                          .scale = (float)sp_config_attention_scale(c),
                          .cap = (float)c->attention_cap,
                          .n_segments = (int)batch->n_segments,
                          .segments = batch->segments};
}

/* The batch's keys and values into the cache, from where *attention takes them, at *k and *v. */
static void store_kv(sp_backend *be, const sp_kv_cache *cache, int layer, const sp_batch *batch,
                     sp_attention *attention, const void **k, const void **v) {
    const int heads = attention->n_kv_heads, dim = attention->head_dim;
    const size_t size = cache->bf16 ? sizeof(uint16_t) : sizeof(float);
    const size_t at = (size_t)layer * (size_t)(cache->rows * cache->width) * size;
    char *ck = (char *)cache->k + at, *cv = (char *)cache->v + at;
    for (size_t i = 0; i < batch->n_segments; i++) {
        const sp_segment *s = &batch->segments[i];
        const int64_t to = s->kv_start + s->kv_len - s->q_len, from = s->q_start * cache->width;
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

static const float *vector(const spar_model *m, sp_role role, int layer) {
    return sp_params_at(&m->params, m->weights, role, layer);
}

static sp_dropout dropout_of(const sp_pass *pass, const sp_adapter *a) {
    const sp_lora *l = pass->model->lora;
    return (sp_dropout){.p = (float)l->settings.dropout,
                        .seed = pass->dropout_seed,
                        .stream = (uint64_t)(a - l->items)};
}

/* u = s x A^T, as an operand. *input is the x that A saw: after dropout, where that is on. */
static spar_status adapter_low(sp_pass *pass, const sp_adapter *a, const void *x, int64_t T,
                               void *u, const void **input, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = pass->model->backend;
    *input = x;
    if (pass->dropping) {
        const sp_dropout d = dropout_of(pass, a);
        be->ops->dropout(be, x, T * a->of->cols, &d, pass->dropped);
        *input = pass->dropped;
    }
    SPAR_TRY(be->ops->linear(be, &a->a, NULL, *input, T, pass->chain.low, false, err));
    be->ops->to_operand(be, pass->chain.low, T * rank_of(pass->model), pass->model->lora->scale, u);
done:
    return status;
}

/* y (= or +=) x W^T + bias by the base model's weights alone. */
static spar_status base_linear(sp_pass *pass, const sp_weight *w, const float *bias, const void *x,
                               int64_t T, float *y, bool accumulate, spar_error *err) {
    const spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    return m->terms > 0 && w->blocks != NULL
               ? ops->linear_whole(m->backend, w, bias, x, m->terms, T, y, accumulate, err)
               : ops->linear(m->backend, w, bias, x, T, y, accumulate, err);
}

/* y += s x A^T B^T */
static spar_status add_adapter(sp_pass *pass, const sp_adapter *a, const void *x, int64_t T,
                               float *y, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = pass->model->backend;
    const void *input;
    SPAR_TRY(adapter_low(pass, a, x, T, pass->chain.low_operand, &input, err));
    SPAR_TRY(be->ops->linear(be, &a->b, NULL, pass->chain.low_operand, T, y, true, err));
done:
    return status;
}

/* direction [T,out] = x V^T with V = W + s B A */
static spar_status make_direction(sp_pass *pass, const sp_weight *w, const sp_adapter *a,
                                  const void *x, int64_t T, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(base_linear(pass, w, NULL, x, T, pass->direction, false, err));
    SPAR_TRY(add_adapter(pass, a, x, T, pass->direction, err));
done:
    return status;
}

/* y (= or +=) x W^T + bias with the adapter's share where there is one. */
static spar_status linear(sp_pass *pass, sp_role role, sp_role bias, int layer, const void *x,
                          int64_t T, float *y, bool accumulate, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const float *b = bias == SP_ROLES ? NULL : vector(m, bias, layer);
    const sp_adapter *adapter = sp_lora_find(m, role, layer);
    const sp_weight *w = sp_model_matrix(m, role, layer);
    if (adapter && adapter->gain) {
        SPAR_TRY(make_direction(pass, w, adapter, x, T, err));
        m->backend->ops->scale_columns(m->backend, pass->direction, adapter->gain, b, T, w->out, y,
                                       accumulate);
        goto done;
    }
    SPAR_TRY(base_linear(pass, w, b, x, T, y, accumulate, err));
    if (adapter) {
        SPAR_TRY(add_adapter(pass, adapter, x, T, y, err));
    }
done:
    return status;
}

/* Row-wise: queries [T,Hq] and keys [T,Hk] by their positions, or back (sign -1), in layers that
 * rotate. */
static void rotate(const spar_model *m, int layer, const sp_batch *batch, float *q, float *k,
                   float sign) {
    const sp_config *c = &m->config;
    const int64_t T = (int64_t)batch->n_tokens;
    const sp_ops *ops = m->backend->ops;
    if (c->no_rope[layer]) {
        return;
    }
    const bool local = sp_rope_is_local(c, layer);
    const float *cosines = m->cos_table[local], *sines = m->sin_table[local];
    ops->rope(m->backend, q, T, c->heads, c->head_dim, cosines, sines, batch->positions, sign);
    ops->rope(m->backend, k, T, c->kv_heads, c->head_dim, cosines, sines, batch->positions, sign);
}

/* Open a chain over T rows. Dropout, magnitudes and products in whole numbers are not row-wise
 * operations of the backend: then everything runs at once. */
static spar_status chain_begin(sp_pass *pass, int64_t T, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const sizes s = sizes_of(&m->config);
    const size_t operand = m->backend->operand_size;
    const size_t H = (size_t)s.H, F = (size_t)s.F, rank = (size_t)rank_of(m);
    const bool at_once = pass->dropping || m->terms > 0 || (m->lora && m->lora->settings.dora);
    const size_t local = (H + F + rank) * (operand + sizeof(float)) + F * sizeof(float);
    SPAR_TRY(ops->chain_begin(m->backend, T, local, !at_once, err));
    chain_arrays *c = &pass->chain;
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

static spar_status chain_end(sp_pass *pass, spar_error *err) {
    return pass->model->backend->ops->chain_end(pass->model->backend, err);
}

/* After an error, what has been put off is over too. */
static void drop_chain(sp_pass *pass, spar_status status) {
    if (status != SPAR_OK) {
        (void)chain_end(pass, NULL);
    }
}

/* How many norms of queries or keys T rows have, in vectors of *dim. */
static int64_t qk_norms(const sp_config *c, int64_t T, int heads, int64_t *dim) {
    const bool rows = c->arch->qk_norm == SP_QK_ROWS;
    *dim = (int64_t)c->head_dim * (rows ? heads : 1);
    return rows ? T : T * heads;
}

static void norm_qk(const spar_model *m, sp_role role, int layer, int64_t T, int heads,
                    const float *x, float *y, float *rstd) {
    int64_t dim;
    const int64_t n = qk_norms(&m->config, T, heads, &dim);
    m->backend->ops->rmsnorm_f32(m->backend, x, vector(m, role, layer), n, dim, m->config.norm_eps,
                                 y, rstd);
}

/* Row-wise: what a half of a layer takes in, as the operand y: x [T,H], normed where the family
 * norms there. */
static void take_in(sp_pass *pass, sp_role role, int layer, const float *x, int64_t T, void *y) {
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const float *gain = vector(m, role, layer);
    if (gain) {
        ops->rmsnorm(m->backend, x, gain, T, m->config.hidden, m->config.norm_eps, y, pass->rstd);
    } else {
        ops->to_operand(m->backend, x, T * m->config.hidden, 1, y);
    }
}

static float factor_or_one(double factor) {
    return factor > 0 ? (float)factor : 1.0F;
}

/* Row-wise: to [T,H] += multiplier norm(x W^T + bias) by the half's output layer, with the norm and
 * the multiplier that the family has; to NULL: only what the backward needs. */
static spar_status put_out(sp_pass *pass, int half, int layer, const void *x, int64_t T,
                           layer_acts *a, float *to, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const struct half *h = &halves[half];
    const float *gain = vector(m, h->norm, layer);
    const float factor = factor_or_one(m->config.residual_scale);
    float *sum = pass->chain.dnorm, *out = gain && a->out[half] ? a->out[half] : sum;
    if (!gain && (!to || factor == 1.0F)) {
        return to ? linear(pass, h->linear, h->bias, layer, x, T, to, true, err) : SPAR_OK;
    }
    SPAR_TRY(linear(pass, h->linear, h->bias, layer, x, T, out, false, err));
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

/* Row-wise: queries, keys and values of a layer from its input, rotated. */
static spar_status project_qkv(sp_pass *pass, int layer, const sp_batch *batch, layer_acts *a,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_config *c = &m->config;
    const void *x = pass->chain.norm;
    int64_t T = (int64_t)batch->n_tokens;
    take_in(pass, SP_ATTN_NORM, layer, a->x, T, pass->chain.norm);
    SPAR_TRY(linear(pass, SP_Q, SP_Q_BIAS, layer, x, T, a->q_raw, false, err));
    SPAR_TRY(linear(pass, SP_K, SP_K_BIAS, layer, x, T, a->k_raw, false, err));
    SPAR_TRY(linear(pass, SP_V, SP_V_BIAS, layer, x, T, a->v, false, err));
    if (c->arch->qk_norm != SP_QK_PLAIN) {
        norm_qk(m, SP_Q_NORM, layer, T, c->heads, a->q_raw, a->q, a->rstd_q);
        norm_qk(m, SP_K_NORM, layer, T, c->kv_heads, a->k_raw, a->k, a->rstd_k);
    }
    rotate(m, layer, batch, a->q, a->k, 1.0F);
done:
    return status;
}

static spar_status attend(sp_pass *pass, int layer, const sp_batch *batch, sp_kv_cache *cache,
                          layer_acts *a, spar_error *err) {
    spar_model *m = pass->model;
    const void *k = a->k, *v = a->v;
    sp_attention attention = attention_of(m, layer, batch);
    if (cache) {
        store_kv(m->backend, cache, layer, batch, &attention, &k, &v);
    }
    return m->backend->ops->attention(m->backend, &attention, a->q, k, v, a->att, a->lse, err);
}

/* The half of a layer with experts, whose rows are not the chain's: it ends one and begins another.
 */
static spar_status mix_experts(sp_pass *pass, int layer, int64_t T, layer_acts *a, float *x_next,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    take_in(pass, SP_MLP_NORM, layer, a->x_mid, T, pass->mixture.entry);
    SPAR_TRY(sp_mixture_logits(m, layer, T, &pass->mixture, err));
    if (x_next && x_next != a->x_mid) {
        m->backend->ops->copy(m->backend, a->x_mid, T * m->config.hidden, x_next);
    }
    SPAR_TRY(chain_end(pass, err));
    SPAR_TRY(
        sp_mixture_forward(m, layer, T, &pass->mixture, &a->mixture, pass->train, x_next, err));
    if (pass->train && x_next) {
        sp_mixture_count(T, &pass->mixture, &a->mixture);
    }
    SPAR_TRY(chain_begin(pass, T, err));
done:
    return status;
}

/* Row-wise: what follows attention. x_next NULL: only what the backward needs, without the layer's
 * output. */
static spar_status feed_forward(sp_pass *pass, int layer, int64_t T, layer_acts *a, float *x_next,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const sizes s = sizes_of(&m->config);
    const chain_arrays *c = &pass->chain;
    /* In f32 what the backward wants is what the products give. */
    const bool direct = pass->train && m->backend->compute == SP_COMPUTE_F32;
    float *gate = direct ? a->gate : c->wide[0], *up = direct ? a->up : c->wide[1];
    void *kept_gate = direct || !pass->train ? NULL : a->gate;
    void *kept_up = direct || !pass->train ? NULL : a->up;
    if (a->x_mid != a->x) {
        ops->copy(m->backend, a->x, T * s.H, a->x_mid);
    }
    SPAR_TRY(put_out(pass, ATTENTION, layer, a->att, T, a, a->x_mid, err));
    if (m->config.sparse[layer]) {
        SPAR_TRY(mix_experts(pass, layer, T, a, x_next, err));
        goto done;
    }
    take_in(pass, SP_MLP_NORM, layer, a->x_mid, T, c->norm);
    SPAR_TRY(linear(pass, SP_GATE, SP_GATE_BIAS, layer, c->norm, T, gate, false, err));
    SPAR_TRY(linear(pass, SP_UP, SP_UP_BIAS, layer, c->norm, T, up, false, err));
    ops->glu(m->backend, m->config.act, gate, up, T * s.F, c->hidden, kept_gate, kept_up);
    if (x_next && x_next != a->x_mid) {
        ops->copy(m->backend, a->x_mid, T * s.H, x_next);
    }
    SPAR_TRY(put_out(pass, FEED_FORWARD, layer, c->hidden, T, a, x_next, err));
done:
    return status;
}

/* A layer's activations again, from its input, without its output. */
static spar_status recompute_layer(sp_pass *pass, int layer, const sp_batch *batch,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t T = (int64_t)batch->n_tokens;
    layer_acts *a = &pass->layers[layer];
    SPAR_TRY(chain_begin(pass, T, err));
    SPAR_TRY(project_qkv(pass, layer, batch, a, err));
    SPAR_TRY(chain_end(pass, err));
    SPAR_TRY(attend(pass, layer, batch, NULL, a, err));
    SPAR_TRY(chain_begin(pass, T, err));
    SPAR_TRY(feed_forward(pass, layer, T, a, NULL, err));
    SPAR_TRY(chain_end(pass, err));
done:
    return status;
}

static spar_status check_batch(spar_model *m, const sp_batch *batch, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t longest = 1;
    for (size_t i = 0; i < batch->n_segments; i++) {
        longest = max64(longest, batch->segments[i].pos0 + (int64_t)batch->segments[i].kv_len);
    }
    SPAR_TRY(sp_model_reserve_positions(m, longest, err));
    SPAR_TRY(sp_model_check_ids(m, batch->ids, batch->n_tokens, err));
done:
    return status;
}

spar_status sp_pass_forward(sp_pass *pass, const sp_batch *batch, sp_kv_cache *cache,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    int64_t T = (int64_t)batch->n_tokens;
    int layers = m->config.layers;
    SPAR_TRY(check_batch(m, batch, err));
    SPAR_TRY(reserve(pass, T, (int64_t)batch->n_scored, err));
    m->backend->ops->embed(m->backend, sp_model_matrix(m, SP_EMBED, 0), batch->ids, T,
                           factor_or_one(m->config.embed_scale), pass->layers[0].x);
    if (pass->train && sp_config_sparse_layers(&m->config) > 0) {
        sp_mixture_count_begin(m, &pass->mixture);
    }
    /* A chain runs from one attention to the next. */
    SPAR_TRY(chain_begin(pass, T, err));
    SPAR_TRY(project_qkv(pass, 0, batch, &pass->layers[0], err));
    for (int l = 0; l < layers; l++) {
        const bool last = l + 1 == layers;
        layer_acts *a = &pass->layers[pass->train ? l : 0];
        layer_acts *next = last ? NULL : &pass->layers[pass->train ? l + 1 : 0];
        SPAR_TRY(chain_end(pass, err));
        SPAR_TRY(attend(pass, l, batch, cache, a, err));
        SPAR_TRY(chain_begin(pass, T, err));
        SPAR_TRY(feed_forward(pass, l, T, a, !pass->train || last ? pass->x_out : next->x, err));
        if (!last) {
            SPAR_TRY(project_qkv(pass, l + 1, batch, next, err));
        }
    }
    SPAR_TRY(chain_end(pass, err));
    if (pass->train && sp_config_sparse_layers(&m->config) > 0) {
        pass->balance_loss = sp_mixture_balance(m, T, &pass->mixture, pass->balance);
    }
done:
    drop_chain(pass, status);
    return status;
}

static sp_logit_form form_of(const spar_model *m) {
    const sp_config *c = &m->config;
    return (sp_logit_form){.scale = factor_or_one(c->logit_scale) / factor_or_one(c->logit_divisor),
                           .cap = (float)c->logit_cap};
}

/* Final norm of the given rows of x_out into rows_norm. */
static void norm_rows(sp_pass *pass, const int64_t *rows, int64_t n) {
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    ops->gather(m->backend, pass->x_out, rows, n, m->config.hidden, pass->rows_x);
    ops->rmsnorm(m->backend, pass->rows_x, vector(m, SP_FINAL_NORM, 0), n, m->config.hidden,
                 m->config.norm_eps, pass->rows_norm, pass->rows_rstd);
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
    const sp_logit_form form = form_of(m);
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
    const sp_logit_form form = form_of(m);
    for (int64_t at = 0; at < n_rows; at += pass->R) {
        int64_t n = n_rows - at < pass->R ? n_rows - at : pass->R;
        norm_rows(pass, rows + at, n);
        SPAR_TRY(linear(pass, SP_HEAD, SP_ROLES, 0, pass->rows_norm, n,
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

/* Where the gradient of a parameter goes: NULL where it is frozen (under an adapter) or absent. */
static float *grad_at(const sp_pass *pass, float *grads, sp_role role, int layer) {
    const spar_model *m = pass->model;
    return m->lora || role == SP_ROLES ? NULL : sp_params_at(&m->params, grads, role, layer);
}

/* With u = s x A^T: dB += dy^T u, du = s dy B, dA += du^T x, dx += du A. */
static spar_status adapter_backward(sp_pass *pass, sp_role role, const sp_adapter *a,
                                    const void *dy, const void *x, int64_t T, float *dx,
                                    float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = pass->model->backend;
    const int64_t rank = rank_of(pass->model);
    const void *input, *du = pass->dlow[role];
    /* computed again: it is small, keeping it is not */
    SPAR_TRY(adapter_low(pass, a, x, T, pass->low[role], &input, err));
    SPAR_TRY(be->ops->linear_dw(be, a->of->rows, rank, dy, pass->low[role], T, grads + a->offset_b,
                                NULL, err));
    SPAR_TRY(be->ops->linear_dx(be, &a->b, dy, T, pass->chain.low, false, err));
    be->ops->to_operand(be, pass->chain.low, T * rank, pass->model->lora->scale, pass->dlow[role]);
    SPAR_TRY(
        be->ops->linear_dw(be, rank, a->of->cols, du, input, T, grads + a->offset_a, NULL, err));
    if (pass->dropping) {
        const sp_dropout d = dropout_of(pass, a);
        SPAR_TRY(be->ops->linear_dx(be, &a->a, du, T, pass->low_dx, false, err));
        be->ops->dropout_add(be, pass->low_dx, T * a->of->cols, &d, dx);
    } else {
        SPAR_TRY(be->ops->linear_dx(be, &a->a, du, T, dx, true, err));
    }
done:
    return status;
}

/* Of y = gain (V x): dm += sum of dy (V x) / |V|; *dy becomes the gradient of V x. */
static spar_status magnitude_backward(sp_pass *pass, const sp_weight *w, const sp_adapter *a,
                                      const void **dy, const void *x, int64_t T, float *grads,
                                      spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = pass->model->backend;
    SPAR_TRY(make_direction(pass, w, a, x, T, err));
    memset(pass->dgain, 0, (size_t)w->out * sizeof *pass->dgain);
    be->ops->scale_columns_bwd(be, pass->direction, a->gain, *dy, T, w->out, pass->dgain,
                               pass->dy_direction);
    for (int64_t i = 0; i < w->out; i++) {
        grads[a->offset_m + i] += pass->dgain[i] / a->length[i];
    }
    *dy = pass->dy_direction;
done:
    return status;
}

/* Backward of y = x W^T + bias: dx [T,in] (= or +=) dy W, and the gradients of what is trained: W
 * and bias, or the adapter. x is an operand, dy the operand pass->dy[role]; they stay until the
 * chain ends. */
static spar_status linear_backward(sp_pass *pass, sp_role role, sp_role bias, int layer,
                                   const void *x, int64_t T, float *dx, bool accumulate,
                                   float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const sp_weight *w = sp_model_matrix(m, role, layer);
    const void *dy = pass->dy[role];
    float *dw = grad_at(pass, grads, role, layer);
    if (dw) {
        SPAR_TRY(ops->linear_dw(m->backend, w->out, w->in, dy, x, T, dw,
                                grad_at(pass, grads, bias, layer), err));
    }
    const sp_adapter *adapter = sp_lora_find(m, role, layer);
    if (adapter && adapter->gain) {
        SPAR_TRY(magnitude_backward(pass, w, adapter, &dy, x, T, grads, err));
    }
    SPAR_TRY(ops->linear_dx(m->backend, w, dy, T, dx, accumulate, err));
    if (adapter) {
        SPAR_TRY(adapter_backward(pass, role, adapter, dy, x, T, dx, grads, err));
    }
done:
    return status;
}

static void norm_grad(sp_pass *pass, sp_role role, int layer, const float *x, const float *rstd,
                      const float *dy, int64_t n, int64_t dim, float *dx, bool accumulate,
                      float *grads) {
    spar_model *m = pass->model;
    m->backend->ops->rmsnorm_bwd(m->backend, x, vector(m, role, layer), rstd, dy, n, dim, dx,
                                 accumulate, grad_at(pass, grads, role, layer));
}

/* Row-wise: dy of the half's output layer, from dx. */
static void put_out_backward(sp_pass *pass, int half, int layer, int64_t T, const layer_acts *a,
                             float *grads) {
    spar_model *m = pass->model;
    const struct half *h = &halves[half];
    const float *dout = pass->dx;
    if (a->out[half]) {
        norm_grad(pass, h->norm, layer, a->out[half], a->rstd_out[half], pass->dx, T,
                  m->config.hidden, pass->chain.dnorm, false, grads);
        dout = pass->chain.dnorm;
    }
    m->backend->ops->to_operand(m->backend, dout, T * m->config.hidden,
                                factor_or_one(m->config.residual_scale), pass->dy[h->linear]);
}

/* Where the gradient of a half's input goes: through its norm, or at once to dx. */
static float *taken_grad(const sp_pass *pass, sp_role norm, int layer) {
    return vector(pass->model, norm, layer) ? pass->chain.dnorm : pass->dx;
}

static void take_in_backward(sp_pass *pass, sp_role role, int layer, const float *x, int64_t T,
                             float *grads) {
    if (vector(pass->model, role, layer)) {
        norm_grad(pass, role, layer, x, pass->rstd, pass->chain.dnorm, T,
                  pass->model->config.hidden, pass->dx, true, grads);
    }
}

/* dx (gradient at the output of a layer with experts) becomes the gradient at x_mid. */
static spar_status backward_experts(sp_pass *pass, int layer, int64_t T, layer_acts *a,
                                    float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_mixture_space *s = &pass->mixture;
    m->backend->ops->to_operand(m->backend, pass->dx, T * m->config.hidden, 1, s->dy);
    take_in(pass, SP_MLP_NORM, layer, a->x_mid, T, s->entry);
    SPAR_TRY(chain_end(pass, err));
    SPAR_TRY(sp_mixture_backward(m, layer, T, s, &a->mixture, pass->balance > 0,
                                 m->lora ? NULL : grads, err));
    SPAR_TRY(chain_begin(pass, T, err));
    norm_grad(pass, SP_MLP_NORM, layer, a->x_mid, pass->rstd, s->dentry, T, m->config.hidden,
              pass->dx, true, grads);
done:
    return status;
}

/* Row-wise: dx (gradient at the layer's output) becomes the gradient at x_mid. */
static spar_status backward_dense(sp_pass *pass, int layer, int64_t T, layer_acts *a, float *grads,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const sizes s = sizes_of(&m->config);
    float *wide = pass->chain.wide[0], *taken = taken_grad(pass, SP_MLP_NORM, layer);
    const bool joins = taken == pass->dx;
    ops->glu_kept(m->backend, m->config.act, a->gate, a->up, T * s.F, pass->hidden);
    put_out_backward(pass, FEED_FORWARD, layer, T, a, grads);
    SPAR_TRY(linear_backward(pass, SP_DOWN, SP_DOWN_BIAS, layer, pass->hidden, T, wide, false,
                             grads, err));
    ops->glu_bwd(m->backend, m->config.act, a->gate, a->up, wide, T * s.F, pass->dy[SP_GATE],
                 pass->dy[SP_UP]);
    take_in(pass, SP_MLP_NORM, layer, a->x_mid, T, pass->norm_mlp);
    SPAR_TRY(linear_backward(pass, SP_GATE, SP_GATE_BIAS, layer, pass->norm_mlp, T, taken, joins,
                             grads, err));
    SPAR_TRY(linear_backward(pass, SP_UP, SP_UP_BIAS, layer, pass->norm_mlp, T, taken, true, grads,
                             err));
    take_in_backward(pass, SP_MLP_NORM, layer, a->x_mid, T, grads);
done:
    return status;
}

/* Row-wise: what follows attention; dx becomes the gradient at x_mid, and dout that of attention's
 * output. */
static spar_status backward_feed_forward(sp_pass *pass, int layer, int64_t T, layer_acts *a,
                                         float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(pass->model->config.sparse[layer] ? backward_experts(pass, layer, T, a, grads, err)
                                               : backward_dense(pass, layer, T, a, grads, err));
    put_out_backward(pass, ATTENTION, layer, T, a, grads);
    SPAR_TRY(
        linear_backward(pass, SP_O, SP_O_BIAS, layer, a->att, T, pass->dout, false, grads, err));
done:
    return status;
}

/* Row-wise: from dq, dk, dv, dx (gradient at x_mid) becomes the gradient at x. */
static spar_status backward_qkv(sp_pass *pass, int layer, const sp_batch *batch, layer_acts *a,
                                float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_config *c = &m->config;
    const sp_ops *ops = m->backend->ops;
    const sizes s = sizes_of(c);
    const int64_t T = (int64_t)batch->n_tokens;
    float *taken = taken_grad(pass, SP_ATTN_NORM, layer);
    const bool joins = taken == pass->dx;
    rotate(m, layer, batch, pass->dq, pass->dk, -1.0F);
    if (c->arch->qk_norm != SP_QK_PLAIN) {
        int64_t dim;
        int64_t n = qk_norms(c, T, c->heads, &dim);
        norm_grad(pass, SP_Q_NORM, layer, a->q_raw, a->rstd_q, pass->dq, n, dim, pass->dq, false,
                  grads);
        n = qk_norms(c, T, c->kv_heads, &dim);
        norm_grad(pass, SP_K_NORM, layer, a->k_raw, a->rstd_k, pass->dk, n, dim, pass->dk, false,
                  grads);
    }
    take_in(pass, SP_ATTN_NORM, layer, a->x, T, pass->norm_attn);
    ops->to_operand(m->backend, pass->dq, T * s.Hq, 1, pass->dy[SP_Q]);
    ops->to_operand(m->backend, pass->dk, T * s.Hk, 1, pass->dy[SP_K]);
    ops->to_operand(m->backend, pass->dv, T * s.Hk, 1, pass->dy[SP_V]);
    SPAR_TRY(linear_backward(pass, SP_Q, SP_Q_BIAS, layer, pass->norm_attn, T, taken, joins, grads,
                             err));
    SPAR_TRY(
        linear_backward(pass, SP_K, SP_K_BIAS, layer, pass->norm_attn, T, taken, true, grads, err));
    SPAR_TRY(
        linear_backward(pass, SP_V, SP_V_BIAS, layer, pass->norm_attn, T, taken, true, grads, err));
    take_in_backward(pass, SP_ATTN_NORM, layer, a->x, T, grads);
done:
    return status;
}

static spar_status backward_layers(sp_pass *pass, const sp_batch *batch, float *grads,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const int64_t T = (int64_t)batch->n_tokens;
    SPAR_TRY(chain_begin(pass, T, err));
    for (int l = m->config.layers - 1; l >= 0; l--) {
        layer_acts *a = &pass->layers[l];
        if (pass->recompute && l + 1 < m->config.layers) { /* the last layer's are still there */
            SPAR_TRY(chain_end(pass, err));
            SPAR_TRY(recompute_layer(pass, l, batch, err));
            SPAR_TRY(chain_begin(pass, T, err));
        }
        SPAR_TRY(backward_feed_forward(pass, l, T, a, grads, err));
        SPAR_TRY(chain_end(pass, err));
        const sp_attention attention = attention_of(m, l, batch);
        SPAR_TRY(m->backend->ops->attention_bwd(m->backend, &attention, a->q, a->k, a->v, a->att,
                                                a->lse, pass->dout, pass->dq, pass->dk, pass->dv,
                                                err));
        SPAR_TRY(chain_begin(pass, T, err));
        SPAR_TRY(backward_qkv(pass, l, batch, a, grads, err));
    }
    SPAR_TRY(chain_end(pass, err));
done:
    drop_chain(pass, status);
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

spar_status sp_pass_backward(sp_pass *pass, const sp_batch *batch, const float *c, float *grads,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    int64_t T = (int64_t)batch->n_tokens;
    int64_t R = (int64_t)batch->n_scored;
    int64_t H = m->config.hidden;
    const sp_logit_form form = form_of(m);
    SPAR_TRY(ops->head_logp_bwd(m->backend, sp_model_matrix(m, SP_HEAD, 0), &form, pass->rows_norm,
                                batch->targets, pass->head_lse, c, R, pass->drows,
                                grad_at(pass, grads, SP_HEAD, 0), err));
    norm_grad(pass, SP_FINAL_NORM, 0, pass->rows_x, pass->rows_rstd, pass->drows, R, H, pass->drows,
              false, grads);
    memset(pass->dx, 0, (size_t)(T * H) * sizeof *pass->dx);
    ops->scatter_add(m->backend, pass->drows, batch->score_rows, R, H, pass->dx);
    SPAR_TRY(backward_layers(pass, batch, grads, err));
    float *dembed = grad_at(pass, grads, SP_EMBED, 0);
    if (dembed) {
        mask_padding(m, batch, pass->dx);
        ops->embed_dw(m->backend, batch->ids, T, H, pass->dx, factor_or_one(m->config.embed_scale),
                      dembed);
    }
done:
    return status;
}
