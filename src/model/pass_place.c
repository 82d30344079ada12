/* The arrays of a pass: measured and placed. */
#include <stdlib.h>

#include "base/mem.h"
#include "model/pass_parts.h"

/* Rows of logits that an inference pass makes at a time. */
enum { LOGIT_ROWS = 128 };

static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static float *place_f32(sp_placer *p, int64_t n) {
    return sp_place(p, n, sizeof(float));
}

sp_pass_sizes sp_pass_sizes_of(const sp_config *c) {
    const int64_t Hq = (int64_t)c->heads * c->head_dim, conv = c->conv_taps > 0 ? c->hidden : 0;
    return (sp_pass_sizes){.H = c->hidden,
                           .conv = conv,
                           .widest = max64(max64(c->hidden, 3 * conv), max64(Hq, c->ffn)),
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
static void place_layer(sp_placer *p, sp_layer_acts *a, const spar_model *m, int first, int last,
                        bool train, int64_t T) {
    const sp_pass_sizes of_model = sp_pass_sizes_of(&m->config), *s = &of_model;
    const sp_arch *arch = m->config.arch;
    const size_t operand = m->backend->operand_size;
    bool dense = false, sparse = false, convolves = false, attends = false;
    for (int l = first; l <= last; l++) {
        convolves = convolves || m->config.conv[l];
        attends = attends || !m->config.conv[l];
        sparse = sparse || m->config.sparse[l];
        dense = dense || !m->config.sparse[l];
    }
    const bool qk_norm = m->config.qk_norm != SP_QK_PLAIN;
    const bool out_norm = arch->norms != SP_NORMS_BEFORE;
    const int64_t rows = attends ? T : 0; /* of attention */
    a->x = place_f32(p, T * s->H);
    a->x_mid = train ? place_f32(p, T * s->H) : a->x;
    a->q = place_f32(p, rows * s->Hq);
    a->k = place_f32(p, rows * s->Hk);
    a->v = place_f32(p, rows * s->Hk);
    a->q_raw = qk_norm && train ? place_f32(p, rows * s->Hq) : a->q;
    a->k_raw = qk_norm && train ? place_f32(p, rows * s->Hk) : a->k;
    a->rstd_q = qk_norm ? place_f32(p, rows * s->heads) : NULL;
    a->rstd_k = qk_norm ? place_f32(p, rows * s->kv_heads) : NULL;
    const bool clips = train && m->config.qkv_bound > 0;
    a->kept_q = clips ? sp_place(p, rows * s->Hq, 1) : NULL;
    a->kept_k = clips ? sp_place(p, rows * s->Hk, 1) : NULL;
    a->kept_v = clips ? sp_place(p, rows * s->Hk, 1) : NULL;
    for (int half = SP_ATTENTION_HALF; half <= SP_MLP_HALF; half++) {
        a->out[half] = out_norm && train ? place_f32(p, T * s->H) : NULL;
        a->rstd_out[half] = out_norm ? place_f32(p, T) : NULL;
    }
    a->gates = place_f32(p, convolves ? T * 3 * s->H : 0);
    a->att = sp_place(p, max64(rows * s->Hq, convolves ? T * s->H : 0), operand);
    a->lse = place_f32(p, rows * s->heads);
    a->gate = sp_place(p, train && dense && !arch->plain_mlp ? T * s->F : 0, operand);
    a->up = sp_place(p, train && dense ? T * s->F : 0, operand);
    if (sparse) {
        const size_t bytes = sp_mixture_place_acts(&a->mixture, NULL, m, train, T);
        sp_mixture_place_acts(&a->mixture, sp_place(p, 1, bytes), m, train, T);
    }
}

/* What a linear role gives. */
static int64_t outputs_of(const sp_pass_sizes *s, sp_role role) {
    switch (role) {
    case SP_Q:
        return s->Hq;
    case SP_K:
    case SP_V:
        return s->Hk;
    case SP_CONV_IN:
        return 3 * s->conv;
    case SP_GATE:
    case SP_UP:
        return s->F;
    default:
        return s->H; /* SP_O, SP_DOWN */
    }
}

static const sp_role linear_roles[] = {SP_Q,        SP_K,    SP_V,  SP_O,   SP_CONV_IN,
                                       SP_CONV_OUT, SP_GATE, SP_UP, SP_DOWN};
enum { LINEAR_ROLES = sizeof linear_roles / sizeof linear_roles[0] };

int64_t sp_pass_rank(const spar_model *m) {
    return m->lora ? m->lora->most_rank : 0;
}

static void place_backward(sp_pass *pass, const spar_model *m, sp_placer *p, const sp_pass_sizes *s,
                           int64_t T) {
    const size_t operand = m->backend->operand_size;
    pass->dx = place_f32(p, T * s->H);
    pass->dout = place_f32(p, T * max64(s->Hq, s->conv));
    pass->dgates = place_f32(p, T * 3 * s->conv);
    pass->dq = place_f32(p, T * s->Hq);
    pass->dk = place_f32(p, T * s->Hk);
    pass->dv = place_f32(p, T * s->Hk);
    pass->hidden = sp_place(p, T * s->F, operand);
    pass->norm_attn = sp_place(p, T * s->H, operand);
    pass->norm_mlp = sp_place(p, T * s->H, operand);
    for (int i = 0; i < LINEAR_ROLES; i++) {
        const sp_role role = linear_roles[i];
        pass->dy[role] = sp_place(p, T * outputs_of(s, role), operand);
        pass->low[role] = sp_place(p, T * sp_pass_rank(m), operand);
        pass->dlow[role] = sp_place(p, T * sp_pass_rank(m), operand);
    }
}

/* What a layer has of its own. */
static void place_own(sp_placer *p, sp_pass *pass, int l, int64_t T) {
    const spar_model *m = pass->model;
    if (l > 0 && pass->recompute) {
        pass->layers[l] = pass->layers[0];
        pass->layers[l].x = place_f32(p, T * m->config.hidden);
    } else {
        const bool shared = pass->recompute || !pass->train;
        place_layer(p, &pass->layers[l], m, l, shared ? m->config.layers - 1 : l, pass->train, T);
    }
}

/* Bytes of the flat gradients before those of a layer. */
static size_t grads_before(const sp_params *params, int layer) {
    int i = 0;
    while (params->items[i].layer != layer) {
        i++;
    }
    return (size_t)params->items[i].offset * sizeof(float);
}

/* The backward goes from the last layer to the first, and a layer's activations end with the
 * writing of its gradients: until then they may lie where those of layers before it will be. The
 * embedding's gradient is the last, unless it is the head's, which is the first. */
static void place_layers(sp_placer *own, sp_pass *pass, int64_t T) {
    const spar_model *m = pass->model;
    const sp_param *embed = &m->params.items[0];
    const int n = pass->train ? m->config.layers : 1;
    sp_placer lent = {pass->lent, 0};
    if (m->config.tied) {
        sp_place(&lent, sp_params_step(embed->count), sizeof(float));
    }
    for (int l = 0; l < n; l++) {
        sp_placer measure = {NULL, 0};
        place_own(&measure, pass, l, T);
        const bool fits = pass->lent && lent.used + measure.used <= grads_before(&m->params, l);
        place_own(fits ? &lent : own, pass, l, T);
    }
}

static size_t place_all(sp_pass *pass, char *base, int64_t T, int64_t R) {
    const spar_model *m = pass->model;
    sp_pass_sizes s = sp_pass_sizes_of(&m->config);
    size_t operand = m->backend->operand_size;
    sp_placer p = {base, 0};
    place_layers(&p, pass, T);
    const bool normed = m->config.arch->embed_norm;
    pass->embedded = normed && pass->train ? place_f32(&p, T * s.H) : pass->layers[0].x;
    pass->embedded_rstd = normed ? place_f32(&p, T) : NULL;
    pass->x_out = pass->train ? place_f32(&p, T * s.H) : pass->layers[0].x;
    pass->rstd = place_f32(&p, T);
    pass->rows_x = place_f32(&p, R * s.H);
    pass->rows_norm = sp_place(&p, R * s.H, operand);
    pass->rows_rstd = place_f32(&p, R);
    pass->head_lse = place_f32(&p, R);
    if (sp_config_sparse_layers(&m->config) > 0) {
        const size_t bytes = sp_mixture_place_space(&pass->mixture, NULL, m, pass->train, T);
        sp_mixture_place_space(&pass->mixture, sp_place(&p, 1, bytes), m, pass->train, T);
    }
    const bool drops = pass->train && m->lora && m->lora->settings.dropout > 0;
    const int64_t widest = drops ? s.widest : 0;
    pass->dropped = sp_place(&p, T * widest, operand);
    pass->low_dx = place_f32(&p, T * widest);
    const int64_t most = m->lora && m->lora->settings.dora ? s.widest : 0;
    pass->direction = place_f32(&p, T * most);
    pass->dy_direction = sp_place(&p, pass->train ? T * most : 0, operand);
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

void sp_pass_lend(sp_pass *pass, float *memory) {
    pass->lent = pass->train && !pass->model->lora ? (char *)memory : NULL;
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

spar_status sp_pass_reserve(sp_pass *pass, int64_t T, int64_t R, spar_error *err) {
    if (T <= pass->T && R <= pass->R && pass->placed == pass->lent) {
        return SPAR_OK;
    }
    T = max64(T, pass->T);
    R = max64(R, max64(pass->R, pass->train ? 1 : LOGIT_ROWS));
    const size_t bytes = place_all(pass, NULL, T, R);
    if (bytes > pass->bytes) {
        void *memory;
        free(pass->block);
        pass->block = NULL;
        pass->bytes = 0;
        pass->T = pass->R = 0;
        const spar_status status = sp_mem_aligned(&memory, bytes, 1, err);
        if (status != SPAR_OK) {
            return status;
        }
        pass->block = memory;
        pass->bytes = bytes;
    }
    pass->T = T;
    pass->R = R;
    pass->placed = pass->lent;
    place_all(pass, pass->block, T, R);
    return SPAR_OK;
}
