#include "model/params.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* Rows and columns of a role as named sizes, so that the table below is the model's shape. */
typedef enum size_name {
    NONE,
    VOCAB,
    CONTEXT,
    HIDDEN,
    FFN,
    EXPERTS,
    EXPERT_FFN,
    SHARED_FFN,
    ONE,
    Q_ROWS,
    KV_ROWS,
    Q_NORM,
    K_NORM,
    CONV_ROWS,
    CONV_WEIGHTS
} size_name;

static const struct {
    const char *name, *gguf_name;
    size_name rows, cols;
    bool in_layer;
} role_rows[SP_ROLES] = {
    [SP_EMBED] = {"model.embed_tokens.weight", "token_embd.weight", VOCAB, HIDDEN, false},
    [SP_EMBED_NORM] = {"transformer.word_embeddings_layernorm.weight", "token_embd_norm.weight",
                       HIDDEN, NONE, false},
    [SP_EMBED_NORM_BIAS] = {"transformer.word_embeddings_layernorm.bias", "token_embd_norm.bias",
                            HIDDEN, NONE, false},
    [SP_POSITIONS] = {"transformer.wpe.weight", "position_embd.weight", CONTEXT, HIDDEN, false},
    [SP_ATTN_NORM] = {"input_layernorm.weight", "attn_norm.weight", HIDDEN, NONE, true},
    [SP_ATTN_NORM_BIAS] = {"input_layernorm.bias", "attn_norm.bias", HIDDEN, NONE, true},
    [SP_Q] = {"self_attn.q_proj.weight", "attn_q.weight", Q_ROWS, HIDDEN, true},
    [SP_K] = {"self_attn.k_proj.weight", "attn_k.weight", KV_ROWS, HIDDEN, true},
    [SP_V] = {"self_attn.v_proj.weight", "attn_v.weight", KV_ROWS, HIDDEN, true},
    [SP_O] = {"self_attn.o_proj.weight", "attn_output.weight", HIDDEN, Q_ROWS, true},
    [SP_Q_BIAS] = {"self_attn.q_proj.bias", "attn_q.bias", Q_ROWS, NONE, true},
    [SP_K_BIAS] = {"self_attn.k_proj.bias", "attn_k.bias", KV_ROWS, NONE, true},
    [SP_V_BIAS] = {"self_attn.v_proj.bias", "attn_v.bias", KV_ROWS, NONE, true},
    [SP_O_BIAS] = {"self_attn.o_proj.bias", "attn_output.bias", HIDDEN, NONE, true},
    [SP_Q_NORM] = {"self_attn.q_norm.weight", "attn_q_norm.weight", Q_NORM, NONE, true},
    [SP_K_NORM] = {"self_attn.k_norm.weight", "attn_k_norm.weight", K_NORM, NONE, true},
    [SP_CONV_IN] = {"conv.in_proj.weight", "shortconv.in_proj.weight", CONV_ROWS, HIDDEN, true},
    [SP_CONV] = {"conv.conv.weight", "shortconv.conv.weight", CONV_WEIGHTS, NONE, true},
    [SP_CONV_OUT] = {"conv.out_proj.weight", "shortconv.out_proj.weight", HIDDEN, HIDDEN, true},
    [SP_ATTN_POST] = {"post_attention_layernorm.weight", "post_attention_norm.weight", HIDDEN, NONE,
                      true},
    [SP_MLP_NORM] = {"post_attention_layernorm.weight", "ffn_norm.weight", HIDDEN, NONE, true},
    [SP_MLP_NORM_BIAS] = {"post_attention_layernorm.bias", "ffn_norm.bias", HIDDEN, NONE, true},
    [SP_GATE] = {"mlp.gate_proj.weight", "ffn_gate.weight", FFN, HIDDEN, true},
    [SP_UP] = {"mlp.up_proj.weight", "ffn_up.weight", FFN, HIDDEN, true},
    [SP_DOWN] = {"mlp.down_proj.weight", "ffn_down.weight", HIDDEN, FFN, true},
    [SP_GATE_BIAS] = {"mlp.gate_proj.bias", "ffn_gate.bias", FFN, NONE, true},
    [SP_UP_BIAS] = {"mlp.up_proj.bias", "ffn_up.bias", FFN, NONE, true},
    [SP_DOWN_BIAS] = {"mlp.down_proj.bias", "ffn_down.bias", HIDDEN, NONE, true},
    [SP_ALPHA_P] = {"mlp.act_fn.alpha_p", "xielu.alpha_p", ONE, NONE, true},
    [SP_ALPHA_N] = {"mlp.act_fn.alpha_n", "xielu.alpha_n", ONE, NONE, true},
    [SP_XIELU_BETA] = {"mlp.act_fn.beta", "xielu.beta", ONE, NONE, true},
    [SP_XIELU_EPS] = {"mlp.act_fn.eps", "xielu.eps", ONE, NONE, true},
    [SP_ROUTER] = {"mlp.gate.weight", "ffn_gate_inp.weight", EXPERTS, HIDDEN, true},
    [SP_CORRECTION] = {"mlp.gate.e_score_correction_bias", "exp_probs_b.bias", EXPERTS, NONE, true},
    [SP_EXPERT_GATE] = {"mlp.experts.*.gate_proj.weight", "ffn_gate_exps.weight", EXPERT_FFN,
                        HIDDEN, true},
    [SP_EXPERT_UP] = {"mlp.experts.*.up_proj.weight", "ffn_up_exps.weight", EXPERT_FFN, HIDDEN,
                      true},
    [SP_EXPERT_DOWN] = {"mlp.experts.*.down_proj.weight", "ffn_down_exps.weight", HIDDEN,
                        EXPERT_FFN, true},
    [SP_SHARED_WEIGHT] = {"mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight", ONE, HIDDEN,
                          true},
    [SP_SHARED_GATE] = {"mlp.shared_expert.gate_proj.weight", "ffn_gate_shexp.weight", SHARED_FFN,
                        HIDDEN, true},
    [SP_SHARED_UP] = {"mlp.shared_expert.up_proj.weight", "ffn_up_shexp.weight", SHARED_FFN, HIDDEN,
                      true},
    [SP_SHARED_DOWN] = {"mlp.shared_expert.down_proj.weight", "ffn_down_shexp.weight", HIDDEN,
                        SHARED_FFN, true},
    [SP_MLP_POST] = {"post_feedforward_layernorm.weight", "post_ffw_norm.weight", HIDDEN, NONE,
                     true},
    [SP_FINAL_NORM] = {"model.norm.weight", "output_norm.weight", HIDDEN, NONE, false},
    [SP_FINAL_NORM_BIAS] = {"model.norm.bias", "output_norm.bias", HIDDEN, NONE, false},
    [SP_HEAD_BIAS] = {"lm_head.bias", "output.bias", VOCAB, NONE, false},
    [SP_HEAD] = {"lm_head.weight", "output.weight", VOCAB, HIDDEN, false},
};

static int64_t size_of(const sp_config *c, size_name name) {
    switch (name) {
    case VOCAB:
        return c->vocab;
    case CONTEXT:
        return c->context + c->arch->position_offset;
    case HIDDEN:
        return c->hidden;
    case FFN:
        return c->ffn;
    case EXPERTS:
        return c->experts;
    case EXPERT_FFN:
        return c->expert_ffn;
    case SHARED_FFN:
        return c->shared_ffn;
    case ONE:
        return 1;
    case Q_ROWS:
        return (int64_t)c->heads * c->head_dim;
    case KV_ROWS:
        return (int64_t)c->kv_heads * c->head_dim;
    case Q_NORM:
        return (int64_t)c->head_dim * (c->qk_norm == SP_QK_ROWS ? c->heads : 1);
    case K_NORM:
        return (int64_t)c->head_dim * (c->qk_norm == SP_QK_ROWS ? c->kv_heads : 1);
    case CONV_ROWS:
        return 3 * c->hidden;
    case CONV_WEIGHTS:
        return c->hidden * c->conv_taps;
    case NONE:
        break;
    }
    return 0;
}

static bool has_gains(const sp_config *c) {
    return c->arch->norm != SP_LAYER_NORM_BARE && c->arch->norm != SP_RMS_NORM_BARE;
}

static bool has_role(const sp_config *c, sp_role role, int layer) {
    switch (role) {
    case SP_Q_BIAS:
    case SP_K_BIAS:
    case SP_V_BIAS:
        return c->attention_bias && !c->conv[layer];
    case SP_O_BIAS:
        return c->output_bias && !c->conv[layer];
    case SP_Q:
    case SP_K:
    case SP_V:
    case SP_O:
        return !c->conv[layer];
    case SP_CONV_IN:
    case SP_CONV:
    case SP_CONV_OUT:
        return c->conv[layer];
    case SP_Q_NORM:
    case SP_K_NORM:
        return !c->conv[layer] && c->qk_norm != SP_QK_PLAIN && c->qk_norm != SP_QK_BARE;
    case SP_ATTN_NORM:
        return c->arch->norms != SP_NORMS_AFTER && has_gains(c);
    case SP_MLP_NORM:
        return c->arch->norms != SP_NORMS_AFTER && has_gains(c) &&
               !(c->parallel && c->arch->one_norm);
    case SP_FINAL_NORM:
        return has_gains(c);
    case SP_ATTN_NORM_BIAS:
    case SP_FINAL_NORM_BIAS:
        return c->arch->norm == SP_LAYER_NORM;
    case SP_MLP_NORM_BIAS:
        return c->arch->norm == SP_LAYER_NORM && has_role(c, SP_MLP_NORM, layer);
    case SP_EMBED_NORM:
    case SP_EMBED_NORM_BIAS:
        return c->arch->embed_norm && c->arch->norm == SP_LAYER_NORM;
    case SP_POSITIONS:
        return c->arch->learned_positions;
    case SP_ATTN_POST:
    case SP_MLP_POST:
        return c->arch->norms != SP_NORMS_BEFORE;
    case SP_GATE:
        return !c->arch->plain_mlp && !c->sparse[layer];
    case SP_UP:
    case SP_DOWN:
        return !c->sparse[layer];
    case SP_GATE_BIAS:
        return !c->arch->plain_mlp && c->mlp_bias && !c->sparse[layer];
    case SP_UP_BIAS:
    case SP_DOWN_BIAS:
        return c->mlp_bias && !c->sparse[layer];
    case SP_ALPHA_P:
    case SP_ALPHA_N:
    case SP_XIELU_BETA:
    case SP_XIELU_EPS:
        return c->act == SP_XIELU;
    case SP_CORRECTION:
        return c->sparse[layer] && c->arch->mixture->corrected;
    case SP_ROUTER:
    case SP_EXPERT_GATE:
    case SP_EXPERT_UP:
    case SP_EXPERT_DOWN:
        return c->sparse[layer];
    case SP_SHARED_WEIGHT:
        return c->sparse[layer] && c->shared_ffn > 0 && c->arch->mixture->shared_gated;
    case SP_SHARED_GATE:
    case SP_SHARED_UP:
    case SP_SHARED_DOWN:
        return c->sparse[layer] && c->shared_ffn > 0;
    case SP_HEAD_BIAS:
        return c->arch->head_bias && !c->tied;
    case SP_HEAD:
        return !c->tied;
    default:
        return true;
    }
}

static const sp_rename *find_rename(const sp_rename *list, sp_role role) {
    for (const sp_rename *r = list; r && r->name; r++) {
        if (r->role == (int)role) {
            return r;
        }
    }
    return NULL;
}

/* The family's own names of a role, or NULL. */
static const sp_rename *rename_of(const sp_arch *arch, sp_role role) {
    const sp_rename *own = find_rename(arch->renames, role);
    return own ? own : find_rename(arch->more_renames, role);
}

const char *sp_role_name(const sp_arch *arch, sp_role role) {
    const sp_rename *own = rename_of(arch, role);
    return own ? own->name : role_rows[role].name;
}

const char *sp_arch_layers(const sp_arch *arch) {
    return arch->layers ? arch->layers : "model.layers";
}

/* Every parameter starts on a 64-byte line. */
int64_t sp_params_step(int64_t count) {
    return (count + 15) / 16 * 16;
}

static void place(sp_params *p, sp_param *item) {
    item->offset = p->total;
    p->total += sp_params_step(item->count);
}

bool sp_params_by_expert(sp_role role) {
    return role == SP_EXPERT_GATE || role == SP_EXPERT_UP || role == SP_EXPERT_DOWN;
}

bool sp_params_scalar(sp_role role) {
    return role == SP_XIELU_BETA || role == SP_XIELU_EPS;
}

bool sp_params_metadata(sp_role role) {
    return role >= SP_ALPHA_P && role <= SP_XIELU_EPS;
}

bool sp_params_by_head(const sp_config *c, sp_role role) {
    return c->qk_norm == SP_QK_OWN && (role == SP_Q_NORM || role == SP_K_NORM);
}

/* How many parameters of a role a layer has, where it has the role. */
static int number_of(const sp_config *c, sp_role role) {
    if (sp_params_by_head(c, role)) {
        return role == SP_Q_NORM ? c->heads : c->kv_heads;
    }
    return sp_params_by_expert(role) ? c->experts : 1;
}

/* The checkpoint's name within a layer: an expert's number stands for the asterisk. */
static void name_in_layer(sp_param *item, const sp_arch *arch, const char *pattern) {
    const char *star = strchr(pattern, '*');
    const int before = star ? (int)(star - pattern) : (int)strlen(pattern);
    char number[16] = "";
    if (star) {
        snprintf(number, sizeof number, "%d", item->expert);
    }
    snprintf(item->name, sizeof item->name, "%s.%d.%.*s%s%s", sp_arch_layers(arch), item->layer,
             before, pattern, number, star ? star + 1 : "");
}

static void add_param(sp_params *p, const sp_config *c, sp_role role, int layer, int expert) {
    sp_param *item = &p->items[p->n];
    const sp_rename *own = rename_of(c->arch, role);
    const char *name = sp_role_name(c->arch, role);
    const char *gguf_name = own && own->gguf_name ? own->gguf_name : role_rows[role].gguf_name;
    item->role = role;
    item->layer = role_rows[role].in_layer ? layer : -1;
    item->expert = expert;
    if (role_rows[role].in_layer) {
        name_in_layer(item, c->arch, name);
        if (sp_params_metadata(role)) {
            snprintf(item->gguf_name, sizeof item->gguf_name, "%s", gguf_name);
        } else {
            snprintf(item->gguf_name, sizeof item->gguf_name, "blk.%d.%s", layer, gguf_name);
        }
    } else {
        snprintf(item->name, sizeof item->name, "%s", name);
        snprintf(item->gguf_name, sizeof item->gguf_name, "%s", gguf_name);
    }
    item->rows = size_of(c, role_rows[role].rows);
    item->cols = size_of(c, role_rows[role].cols);
    item->count = item->rows * (item->cols ? item->cols : 1);
    place(p, item);
    if (expert == 0) {
        p->index[(int)role * p->layers + (item->layer < 0 ? 0 : layer)] = p->n;
    }
    p->n++;
}

static void add_role(sp_params *p, const sp_config *c, sp_role role, int layer) {
    const int n = number_of(c, role);
    for (int expert = 0; expert < n && has_role(c, role, layer); expert++) {
        add_param(p, c, role, layer, expert);
    }
}

spar_status sp_params_create(sp_params *out, const sp_config *c, spar_error *err) {
    spar_status status = SPAR_OK;
    memset(out, 0, sizeof *out);
    out->layers = c->layers;
    void *memory = NULL;
    const size_t cells = (size_t)SP_ROLES * (size_t)c->layers;
    const size_t of_experts = 3 * (size_t)c->experts * (size_t)sp_config_sparse_layers(c);
    const size_t of_heads =
        c->qk_norm == SP_QK_OWN ? (size_t)(c->heads + c->kv_heads) * (size_t)c->layers : 0;
    SPAR_TRY(sp_mem_calloc(&memory, cells + of_experts + of_heads, sizeof *out->items, err));
    out->items = memory;
    SPAR_TRY(sp_mem_calloc(&memory, cells, sizeof *out->index, err));
    out->index = memory;
    for (size_t i = 0; i < cells; i++) {
        out->index[i] = -1;
    }
    add_role(out, c, SP_EMBED, 0);
    add_role(out, c, SP_EMBED_NORM, 0);
    add_role(out, c, SP_EMBED_NORM_BIAS, 0);
    add_role(out, c, SP_POSITIONS, 0);
    for (int layer = 0; layer < c->layers; layer++) {
        for (sp_role role = SP_ATTN_NORM; role < SP_FINAL_NORM; role++) {
            add_role(out, c, role, layer);
        }
    }
    add_role(out, c, SP_FINAL_NORM, 0);
    add_role(out, c, SP_FINAL_NORM_BIAS, 0);
    add_role(out, c, SP_HEAD_BIAS, 0);
    add_role(out, c, SP_HEAD, 0);
    if (c->tied) {
        out->index[SP_HEAD * out->layers] = out->index[SP_EMBED * out->layers];
    }
done:
    if (status != SPAR_OK) {
        sp_params_release(out);
    }
    return status;
}

void sp_params_freeze(sp_params *params, const bool *frozen) {
    params->total = 0;
    for (int i = 0; i < params->n; i++) {
        if (frozen[i]) {
            params->items[i].offset = -1;
        } else {
            place(params, &params->items[i]);
        }
    }
}

void sp_params_release(sp_params *params) {
    free(params->items);
    free(params->index);
    memset(params, 0, sizeof *params);
}

double sp_params_share(const sp_config *c, sp_role role) {
    return sp_params_by_expert(role) ? (double)c->top_k / c->experts : 1.0;
}

int64_t sp_params_elements(const sp_params *params) {
    int64_t n = 0;
    for (int i = 0; i < params->n; i++) {
        n += params->items[i].count;
    }
    return n;
}

/* The experts of a layer are of one size: top_k of them act. */
int64_t sp_params_active(const sp_params *params, const sp_config *c) {
    int64_t n = 0;
    for (int i = 0; i < params->n; i++) {
        const sp_param *p = &params->items[i];
        n += sp_params_by_expert(p->role) && p->expert >= c->top_k ? 0 : p->count;
    }
    return n;
}

const sp_param *sp_params_get(const sp_params *params, sp_role role, int layer) {
    int i = params->index[(int)role * params->layers + layer];
    return i < 0 ? NULL : &params->items[i];
}

float *sp_params_at(const sp_params *params, float *flat, sp_role role, int layer) {
    const sp_param *item = sp_params_get(params, role, layer);
    return item && item->offset >= 0 ? flat + item->offset : NULL;
}
