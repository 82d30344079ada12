/* Forward and backward over a packed batch. Shapes: T rows, H hidden, F feed-forward, D head size,
 * Hq = heads*D, Hk = kv_heads*D, R scored rows, V vocabulary. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/engine.h"
#include "model/lora.h"

/* What one layer leaves for its backward. x is the residual stream at the layer's entry and x_mid
 * between attention and feed-forward; norms and the activation are cheap and recomputed. */
typedef struct layer_acts {
    float *x, *x_mid;       /* [T,H] */
    float *q_raw, *k_raw;   /* [T,Hq], [T,Hk] before the head norms; NULL without them */
    float *q, *k, *v;       /* [T,Hq], [T,Hk], [T,Hk] as attention sees them */
    void *att;              /* operand [T,Hq] */
    float *lse;             /* [T,heads] */
    float *gate, *up;       /* [T,F] */
    float *rstd_q, *rstd_k; /* [T*heads], [T*kv_heads] */
} layer_acts;

struct sp_pass {
    spar_model *model; /* borrowed */
    bool train, recompute;
    int64_t T, R;                /* capacity */
    char *block;                 /* owned: all arrays below */
    layer_acts *layers;          /* owned; model layers when training, else 1 */
    float *x_out;                /* [T,H]: after the last layer */
    void *operand;               /* [T, max(H, Hq, F)]: input of a matrix product */
    float *rstd;                 /* [T] */
    float *rows_x;               /* [R,H]: scored rows of x_out */
    void *rows_norm;             /* operand [R,H] */
    float *rows_rstd, *head_lse; /* [R] */
    float *low;                  /* [T,rank]: between the two products of an adapter */
    void *low_operand;           /* operand [T,rank] */
    bool dropping;               /* dropout of the adapters' inputs, by dropout_seed */
    uint64_t dropout_seed;
    float *direction;   /* [T, max(H, Hq, F)]: V x, where an adapter has magnitudes */
    void *dy_direction; /* operand, the same size: its gradient */
    float *dgain;       /* [max(H, Hq, F)] */
    void *dropped;      /* operand [T, max(H, Hq, F)]: an adapter's input */
    float *low_dx;      /* the same size: its gradient */
    /* backward only */
    float *dx;         /* [T,H] */
    float *dwide;      /* [T, max(F, Hq)] */
    void *dgate, *dup; /* operand [T,F] */
    float *dq, *dk, *dv;
    float *dnorm; /* [T,H] */
    float *drows; /* [R,H] */
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

static void place_layer(placer *p, layer_acts *a, const sizes *s, bool qk_norm, bool train,
                        float *x, int64_t T, size_t operand) {
    a->x = x ? x : place_f32(p, T * s->H);
    a->x_mid = train ? place_f32(p, T * s->H) : a->x;
    a->q = place_f32(p, T * s->Hq);
    a->k = place_f32(p, T * s->Hk);
    a->v = place_f32(p, T * s->Hk);
    a->q_raw = qk_norm && train ? place_f32(p, T * s->Hq) : a->q;
    a->k_raw = qk_norm && train ? place_f32(p, T * s->Hk) : a->k;
    a->rstd_q = qk_norm ? place_f32(p, T * s->heads) : NULL;
    a->rstd_k = qk_norm ? place_f32(p, T * s->kv_heads) : NULL;
    a->att = place(p, T * s->Hq, operand);
    a->lse = place_f32(p, T * s->heads);
    a->gate = place_f32(p, T * s->F);
    a->up = place_f32(p, T * s->F);
}

static size_t place_all(sp_pass *pass, const spar_model *m, char *base, int64_t T, int64_t R) {
    sizes s = sizes_of(&m->config);
    size_t operand = m->backend->operand_size;
    bool qk_norm = m->config.arch->qk_norm;
    placer p = {base, 0};
    int n = pass->train ? s.layers : 1;
    for (int l = 0; l < n; l++) {
        if (l > 0 && pass->recompute) {
            pass->layers[l] = pass->layers[0];
            pass->layers[l].x = place_f32(&p, T * s.H);
        } else {
            place_layer(&p, &pass->layers[l], &s, qk_norm, pass->train, NULL, T, operand);
        }
    }
    pass->x_out = pass->train ? place_f32(&p, T * s.H) : pass->layers[0].x;
    pass->operand = place(&p, T * max64(s.H, max64(s.Hq, s.F)), operand);
    pass->rstd = place_f32(&p, T);
    pass->rows_x = place_f32(&p, R * s.H);
    pass->rows_norm = place(&p, R * s.H, operand);
    pass->rows_rstd = place_f32(&p, R);
    pass->head_lse = place_f32(&p, R);
    const int64_t rank = m->lora ? m->lora->settings.rank : 0;
    pass->low = place_f32(&p, T * rank);
    pass->low_operand = place(&p, T * rank, operand);
    const bool drops = pass->train && m->lora && m->lora->settings.dropout > 0;
    const int64_t widest = drops ? max64(s.H, max64(s.Hq, s.F)) : 0;
    pass->dropped = place(&p, T * widest, operand);
    pass->low_dx = place_f32(&p, T * widest);
    const int64_t most = m->lora && m->lora->settings.dora ? max64(s.H, max64(s.Hq, s.F)) : 0;
    pass->direction = place_f32(&p, T * most);
    pass->dy_direction = place(&p, pass->train ? T * most : 0, operand);
    pass->dgain = place_f32(&p, most);
    if (pass->train) {
        pass->dx = place_f32(&p, T * s.H);
        pass->dwide = place_f32(&p, T * max64(s.F, s.Hq));
        pass->dgate = place(&p, T * max64(s.F, max64(s.Hq, s.Hk)), operand);
        pass->dup = place(&p, T * max64(s.F, s.H), operand);
        pass->dq = place_f32(&p, T * s.Hq);
        pass->dk = place_f32(&p, T * s.Hk);
        pass->dv = place_f32(&p, T * s.Hk);
        pass->dnorm = place_f32(&p, T * s.H);
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
                          .scale = 1.0F / __builtin_sqrtf((float)c->head_dim),
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

/* The scaled low values [T,rank] as the operand of an adapter's second product. */
static void scale_low(sp_pass *pass, int64_t T) {
    const sp_lora *l = pass->model->lora;
    const int64_t n = T * l->settings.rank;
    for (int64_t i = 0; i < n; i++) {
        pass->low[i] *= l->scale;
    }
    pass->model->backend->ops->to_operand(pass->model->backend, pass->low, n, pass->low_operand);
}

static sp_dropout dropout_of(const sp_pass *pass, const sp_adapter *a) {
    const sp_lora *l = pass->model->lora;
    return (sp_dropout){.p = (float)l->settings.dropout,
                        .seed = pass->dropout_seed,
                        .stream = (uint64_t)(a - l->items)};
}

/* u = s x A^T, as an operand. *input is the x that A saw: after dropout, where that is on. */
static spar_status adapter_low(sp_pass *pass, const sp_adapter *a, const void *x, int64_t T,
                               const void **input, spar_error *err) {
    sp_backend *be = pass->model->backend;
    *input = x;
    if (pass->dropping) {
        const sp_dropout d = dropout_of(pass, a);
        be->ops->dropout(be, x, T * a->of->cols, &d, pass->dropped);
        *input = pass->dropped;
    }
    const spar_status status = be->ops->linear(be, &a->a, NULL, *input, T, pass->low, false, err);
    if (status == SPAR_OK) {
        scale_low(pass, T);
    }
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
    SPAR_TRY(adapter_low(pass, a, x, T, &input, err));
    SPAR_TRY(be->ops->linear(be, &a->b, NULL, pass->low_operand, T, y, true, err));
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
    ops->rope(m->backend, q, T, c->heads, c->head_dim, m->cos_table, m->sin_table, batch->positions,
              sign);
    ops->rope(m->backend, k, T, c->kv_heads, c->head_dim, m->cos_table, m->sin_table,
              batch->positions, sign);
}

/* Queries, keys and values of a layer from its normalised input, rotated. */
static spar_status project_qkv(sp_pass *pass, int layer, const sp_batch *batch, layer_acts *a,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_config *c = &m->config;
    const sp_ops *ops = m->backend->ops;
    int64_t T = (int64_t)batch->n_tokens;
    SPAR_TRY(linear(pass, SP_Q, SP_Q_BIAS, layer, pass->operand, T, a->q_raw, false, err));
    SPAR_TRY(linear(pass, SP_K, SP_K_BIAS, layer, pass->operand, T, a->k_raw, false, err));
    SPAR_TRY(linear(pass, SP_V, SP_V_BIAS, layer, pass->operand, T, a->v, false, err));
    if (c->arch->qk_norm) {
        ops->rmsnorm_f32(m->backend, a->q_raw, vector(m, SP_Q_NORM, layer), T * c->heads,
                         c->head_dim, c->norm_eps, a->q, a->rstd_q);
        ops->rmsnorm_f32(m->backend, a->k_raw, vector(m, SP_K_NORM, layer), T * c->kv_heads,
                         c->head_dim, c->norm_eps, a->k, a->rstd_k);
    }
    rotate(m, layer, batch, a->q, a->k, 1.0F);
done:
    return status;
}

/* x_next NULL: only what the backward needs, without the layer's output. */
static spar_status forward_layer(sp_pass *pass, int layer, const sp_batch *batch,
                                 sp_kv_cache *cache, layer_acts *a, float *x_next,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    sizes s = sizes_of(&m->config);
    int64_t T = (int64_t)batch->n_tokens;
    size_t stream = (size_t)(T * s.H) * sizeof(float);
    ops->rmsnorm(m->backend, a->x, vector(m, SP_ATTN_NORM, layer), T, s.H, m->config.norm_eps,
                 pass->operand, pass->rstd);
    SPAR_TRY(project_qkv(pass, layer, batch, a, err));
    const void *k = a->k, *v = a->v;
    sp_attention attention = attention_of(m, layer, batch);
    if (cache) {
        store_kv(m->backend, cache, layer, batch, &attention, &k, &v);
    }
    SPAR_TRY(ops->attention(m->backend, &attention, a->q, k, v, a->att, a->lse, err));
    if (a->x_mid != a->x) {
        memcpy(a->x_mid, a->x, stream);
    }
    SPAR_TRY(linear(pass, SP_O, SP_O_BIAS, layer, a->att, T, a->x_mid, true, err));
    ops->rmsnorm(m->backend, a->x_mid, vector(m, SP_MLP_NORM, layer), T, s.H, m->config.norm_eps,
                 pass->operand, pass->rstd);
    SPAR_TRY(linear(pass, SP_GATE, SP_GATE_BIAS, layer, pass->operand, T, a->gate, false, err));
    SPAR_TRY(linear(pass, SP_UP, SP_UP_BIAS, layer, pass->operand, T, a->up, false, err));
    if (!x_next) {
        goto done;
    }
    ops->swiglu(m->backend, a->gate, a->up, T * s.F, pass->operand);
    if (x_next != a->x_mid) {
        memcpy(x_next, a->x_mid, stream);
    }
    SPAR_TRY(linear(pass, SP_DOWN, SP_DOWN_BIAS, layer, pass->operand, T, x_next, true, err));
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
                           pass->layers[0].x);
    for (int l = 0; l < layers; l++) {
        layer_acts *a = &pass->layers[pass->train ? l : 0];
        float *x_next = !pass->train || l + 1 == layers ? pass->x_out : pass->layers[l + 1].x;
        SPAR_TRY(forward_layer(pass, l, batch, cache, a, x_next, err));
    }
done:
    return status;
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
    norm_rows(pass, batch->score_rows, (int64_t)batch->n_scored);
    return m->backend->ops->head_logp(m->backend, sp_model_matrix(m, SP_HEAD, 0), pass->rows_norm,
                                      batch->targets, (int64_t)batch->n_scored, logp,
                                      pass->head_lse, err);
}

spar_status sp_pass_logits(sp_pass *pass, const int64_t *rows, int64_t n_rows, float *logits,
                           spar_error *err) {
    /* rows_x holds as many rows as were scored; logits are asked for in batches of that size. */
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    for (int64_t at = 0; at < n_rows; at += pass->R) {
        int64_t n = n_rows - at < pass->R ? n_rows - at : pass->R;
        norm_rows(pass, rows + at, n);
        SPAR_TRY(linear(pass, SP_HEAD, SP_ROLES, 0, pass->rows_norm, n,
                        logits + at * m->config.vocab, false, err));
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

/* With u = s x A^T: dB += dy^T u, du = dy B, dA += s du^T x, dx += s du A. */
static spar_status adapter_backward(sp_pass *pass, const sp_adapter *a, const void *dy,
                                    const void *x, int64_t T, float *dx, float *grads,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = pass->model->backend;
    const int64_t rank = pass->model->lora->settings.rank;
    const void *input;
    /* computed again: it is small, keeping it is not */
    SPAR_TRY(adapter_low(pass, a, x, T, &input, err));
    SPAR_TRY(be->ops->linear_dw(be, a->of->rows, rank, dy, pass->low_operand, T,
                                grads + a->offset_b, NULL, err));
    SPAR_TRY(be->ops->linear_dx(be, &a->b, dy, T, pass->low, false, err));
    scale_low(pass, T);
    SPAR_TRY(be->ops->linear_dw(be, rank, a->of->cols, pass->low_operand, input, T,
                                grads + a->offset_a, NULL, err));
    if (pass->dropping) {
        const sp_dropout d = dropout_of(pass, a);
        SPAR_TRY(be->ops->linear_dx(be, &a->a, pass->low_operand, T, pass->low_dx, false, err));
        be->ops->dropout_add(be, pass->low_dx, T * a->of->cols, &d, dx);
    } else {
        SPAR_TRY(be->ops->linear_dx(be, &a->a, pass->low_operand, T, dx, true, err));
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
 * and bias, or the adapter. dy and x are operands. */
static spar_status linear_backward(sp_pass *pass, sp_role role, sp_role bias, int layer,
                                   const void *dy, const void *x, int64_t T, float *dx,
                                   bool accumulate, float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const sp_weight *w = sp_model_matrix(m, role, layer);
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
        SPAR_TRY(adapter_backward(pass, adapter, dy, x, T, dx, grads, err));
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

/* Feed-forward half: dx (gradient at the layer's output) becomes the gradient at x_mid. */
static spar_status backward_mlp(sp_pass *pass, int layer, int64_t T, layer_acts *a, float *grads,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    sizes s = sizes_of(&m->config);
    ops->swiglu(m->backend, a->gate, a->up, T * s.F, pass->operand);
    void *dy = pass->dup; /* free until swiglu_bwd fills it */
    ops->to_operand(m->backend, pass->dx, T * s.H, dy);
    SPAR_TRY(linear_backward(pass, SP_DOWN, SP_DOWN_BIAS, layer, dy, pass->operand, T, pass->dwide,
                             false, grads, err));
    ops->swiglu_bwd(m->backend, a->gate, a->up, pass->dwide, T * s.F, pass->dgate, pass->dup);
    ops->rmsnorm(m->backend, a->x_mid, vector(m, SP_MLP_NORM, layer), T, s.H, m->config.norm_eps,
                 pass->operand, pass->rstd);
    SPAR_TRY(linear_backward(pass, SP_GATE, SP_GATE_BIAS, layer, pass->dgate, pass->operand, T,
                             pass->dnorm, false, grads, err));
    SPAR_TRY(linear_backward(pass, SP_UP, SP_UP_BIAS, layer, pass->dup, pass->operand, T,
                             pass->dnorm, true, grads, err));
    norm_grad(pass, SP_MLP_NORM, layer, a->x_mid, pass->rstd, pass->dnorm, T, s.H, pass->dx, true,
              grads);
done:
    return status;
}

/* One projection of the attention input: its weight gradient, and its share of dnorm. */
static spar_status backward_projection(sp_pass *pass, sp_role role, sp_role bias, int layer,
                                       const float *dy, int64_t width, int64_t T, bool accumulate,
                                       float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    m->backend->ops->to_operand(m->backend, dy, T * width, pass->dgate);
    SPAR_TRY(linear_backward(pass, role, bias, layer, pass->dgate, pass->operand, T, pass->dnorm,
                             accumulate, grads, err));
done:
    return status;
}

/* Attention half: dx (gradient at x_mid) becomes the gradient at x. */
static spar_status backward_attention(sp_pass *pass, int layer, const sp_batch *batch,
                                      layer_acts *a, float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_config *c = &m->config;
    const sp_ops *ops = m->backend->ops;
    sizes s = sizes_of(c);
    int64_t T = (int64_t)batch->n_tokens;
    sp_attention attention = attention_of(m, layer, batch);
    ops->to_operand(m->backend, pass->dx, T * s.H, pass->operand);
    SPAR_TRY(linear_backward(pass, SP_O, SP_O_BIAS, layer, pass->operand, a->att, T, pass->dwide,
                             false, grads, err));
    SPAR_TRY(ops->attention_bwd(m->backend, &attention, a->q, a->k, a->v, a->att, a->lse,
                                pass->dwide, pass->dq, pass->dk, pass->dv, err));
    rotate(m, layer, batch, pass->dq, pass->dk, -1.0F);
    if (c->arch->qk_norm) {
        norm_grad(pass, SP_Q_NORM, layer, a->q_raw, a->rstd_q, pass->dq, T * c->heads, c->head_dim,
                  pass->dq, false, grads);
        norm_grad(pass, SP_K_NORM, layer, a->k_raw, a->rstd_k, pass->dk, T * c->kv_heads,
                  c->head_dim, pass->dk, false, grads);
    }
    ops->rmsnorm(m->backend, a->x, vector(m, SP_ATTN_NORM, layer), T, s.H, c->norm_eps,
                 pass->operand, pass->rstd);
    SPAR_TRY(
        backward_projection(pass, SP_Q, SP_Q_BIAS, layer, pass->dq, s.Hq, T, false, grads, err));
    SPAR_TRY(
        backward_projection(pass, SP_K, SP_K_BIAS, layer, pass->dk, s.Hk, T, true, grads, err));
    SPAR_TRY(
        backward_projection(pass, SP_V, SP_V_BIAS, layer, pass->dv, s.Hk, T, true, grads, err));
    norm_grad(pass, SP_ATTN_NORM, layer, a->x, pass->rstd, pass->dnorm, T, s.H, pass->dx, true,
              grads);
done:
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
    SPAR_TRY(ops->head_logp_bwd(m->backend, sp_model_matrix(m, SP_HEAD, 0), pass->rows_norm,
                                batch->targets, pass->head_lse, c, R, pass->drows,
                                grad_at(pass, grads, SP_HEAD, 0), err));
    norm_grad(pass, SP_FINAL_NORM, 0, pass->rows_x, pass->rows_rstd, pass->drows, R, H, pass->drows,
              false, grads);
    memset(pass->dx, 0, (size_t)(T * H) * sizeof *pass->dx);
    ops->scatter_add(m->backend, pass->drows, batch->score_rows, R, H, pass->dx);
    for (int l = m->config.layers - 1; l >= 0; l--) {
        layer_acts *a = &pass->layers[l];
        if (pass->recompute && l + 1 < m->config.layers) { /* the last layer's are still there */
            SPAR_TRY(forward_layer(pass, l, batch, NULL, a, NULL, err));
        }
        SPAR_TRY(backward_mlp(pass, l, T, a, grads, err));
        SPAR_TRY(backward_attention(pass, l, batch, a, grads, err));
    }
    float *dembed = grad_at(pass, grads, SP_EMBED, 0);
    if (dembed) {
        mask_padding(m, batch, pass->dx);
        ops->embed_dw(m->backend, batch->ids, T, H, pass->dx, dembed);
    }
done:
    return status;
}
