/* A model's configuration from GGUF metadata. */
#include <math.h>
#include <string.h>

#include "base/str.h"
#include "model/arch_parts.h"

static spar_status refuse_name(sp_gguf_string name, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str known = SP_STR_INIT;
    for (int i = 0; sp_arch_at(i); i++) {
        const sp_arch *arch = sp_arch_at(i);
        if (arch->gguf_is_default && !(known.len && strstr(sp_str_get(&known), arch->gguf_name))) {
            sp_str_printf(&known, "%s%s", known.len ? ", " : "", sp_arch_at(i)->gguf_name);
        }
    }
    SPAR_TRY(sp_str_status(&known, err));
    SPAR_TRY(spar_fail(
        err, SPAR_UNSUPPORTED, "%s: general.architecture: expected one of %s, found %.*s", where,
        sp_str_get(&known), (int)(name.n < 64 ? name.n : 64), name.n ? name.data : ""));
done:
    sp_str_release(&known);
    return status;
}

static spar_status find_arch(const sp_gguf *g, const sp_arch **out, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    sp_gguf_string name;
    char key[128] = "";
    int64_t experts = 0, window = 0;
    bool turns = true;
    SPAR_TRY(sp_gguf_get_string(g, "general.architecture", &name, err));
    for (int i = 0; sp_arch_at(i); i++) {
        const sp_arch *arch = sp_arch_at(i);
        if (!arch->gguf_is_default || strlen(arch->gguf_name) != name.n ||
            memcmp(arch->gguf_name, name.data, name.n) != 0) {
            continue;
        }
        snprintf(key, sizeof key, "%s.attention.sliding_window", arch->gguf_name);
        SPAR_TRY(sp_gguf_get_int(g, key, 0, INT32_MAX, 0, &window, err));
        snprintf(key, sizeof key, "%s.rope.scaling.finetuned", arch->gguf_name);
        if (arch->gguf_unturned) {
            SPAR_TRY(sp_gguf_get_bool(g, key, true, &turns, err));
        }
        snprintf(key, sizeof key, "%s.expert_count", arch->gguf_name);
        SPAR_TRY(sp_gguf_get_int(g, key, 0, SP_MAX_EXPERTS, 0, &experts, err));
        if ((arch->mixture != NULL) == (experts > 0) && (!arch->gguf_windowed || window > 0) &&
            (!arch->gguf_tensor || sp_gguf_find_tensor(g, arch->gguf_tensor)) &&
            (!arch->gguf_unturned || !turns)) {
            *out = arch;
            goto done;
        }
    }
    SPAR_TRY(key[0] ? spar_fail(err, SPAR_UNSUPPORTED, "%s: metadata %s: expected %s, found %lld",
                                where, key, experts > 0 ? "no experts in this family" : "experts",
                                (long long)experts)
                    : refuse_name(name, where, err));
done:
    return status;
}

/* Metadata ARCH.suffix as an integer; required when fallback is negative. */
static spar_status get_size(const sp_gguf *g, const sp_arch *arch, const char *suffix, int64_t max,
                            int64_t fallback, int64_t *out, spar_error *err) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", arch->gguf_name, suffix);
    spar_status status = sp_gguf_get_int(g, key, 1, max, fallback, out, err);
    if (status == SPAR_OK && *out < 0) {
        return spar_fail(err, SPAR_NOT_FOUND, "%s: metadata %s: is missing", sp_gguf_path(g), key);
    }
    return status;
}

spar_status sp_arch_gguf_number(const sp_gguf *g, const sp_arch *arch, const char *suffix,
                                double fallback, double *out, spar_error *err) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", arch->gguf_name, suffix);
    return sp_gguf_get_number(g, key, fallback, out, err);
}

const char *sp_arch_gguf_eps(const sp_arch *arch) {
    return sp_arch_is_rms(arch) ? "attention.layer_norm_rms_epsilon"
                                : "attention.layer_norm_epsilon";
}

static spar_status read_sizes(sp_config *c, const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_arch *arch = c->arch;
    int64_t layers, heads, kv_heads, head_dim, beyond;
    const sp_gguf_tensor *embed = sp_gguf_find_tensor(g, "token_embd.weight");
    if (!embed || embed->n_dims != 2) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: tensor token_embd.weight is missing",
                           sp_gguf_path(g)));
    }
    SPAR_TRY(get_size(g, arch, "embedding_length", 1 << 20, -1, &c->hidden, err));
    SPAR_TRY(get_size(g, arch, "feed_forward_length", 1 << 22, -1, &c->ffn, err));
    SPAR_TRY(get_size(g, arch, "block_count", SP_MAX_LAYERS, -1, &layers, err));
    char key[128];
    snprintf(key, sizeof key, "%s.nextn_predict_layers", arch->gguf_name);
    SPAR_TRY(sp_gguf_get_int(g, key, 0, SP_MAX_LAYERS, 0, &beyond, err));
    if (beyond >= layers) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: expected fewer layers that predict further tokens than the %lld in "
                           "all, found %lld",
                           sp_gguf_path(g), (long long)layers, (long long)beyond));
    }
    layers -= beyond; /* those come last */
    SPAR_TRY(get_size(g, arch, "attention.head_count", 1 << 14, -1, &heads, err));
    c->layers = (int)layers;
    c->heads = (int)heads;
    SPAR_TRY(arch->gguf_conv
                 ? sp_conv_read_gguf(c, g, &kv_heads, err)
                 : get_size(g, arch, "attention.head_count_kv", 1 << 14, heads, &kv_heads, err));
    SPAR_TRY(get_size(g, arch, "context_length", 1 << 28, 2048, &c->context, err));
    SPAR_TRY(get_size(g, arch, "attention.key_length", 1 << 14,
                      c->hidden / heads > 0 ? c->hidden / heads : 1, &head_dim, err));
    if (heads % kv_heads != 0 || head_dim % 2 != 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: expected head_count to be a multiple of head_count_kv and an even "
                           "key_length, found %lld, %lld and %lld",
                           sp_gguf_path(g), (long long)heads, (long long)kv_heads,
                           (long long)head_dim));
    }
    c->vocab = embed->dims[0];
    c->kv_heads = (int)kv_heads;
    c->head_dim = (int)head_dim;
    double eps;
    SPAR_TRY(sp_arch_gguf_number(g, arch, sp_arch_gguf_eps(arch), 1e-6, &eps, err));
    c->norm_eps = (float)eps;
    if (!(c->norm_eps > 0) || isinf(c->norm_eps)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: %s: expected a positive number, found %g",
                           sp_gguf_path(g), sp_arch_gguf_eps(arch), eps));
    }
done:
    return status;
}

/* Which layers have the window: every so many-th has none, or a list says. */
static spar_status read_pattern(sp_config *c, const sp_gguf *g, int64_t window, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t pattern = c->arch->pattern;
    char key[128];
    snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", c->arch->gguf_name);
    const sp_gguf_value *list = sp_gguf_find(g, key);
    const bool listed = list && list->is_array;
    if (!listed) {
        SPAR_TRY(
            sp_gguf_get_int(g, key, 1, SP_MAX_LAYERS, pattern > 0 ? pattern : 1, &pattern, err));
    } else if (list->n != (uint64_t)c->layers || list->type != SP_GGUF_BOOL) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: metadata %s: expected a number, or %d times true or false, found "
                           "%llu values",
                           sp_gguf_path(g), key, c->layers, (unsigned long long)list->n));
    }
    for (int i = 0; i < c->layers; i++) {
        const bool has = listed ? sp_gguf_integer(list, (uint64_t)i) != 0 : (i + 1) % pattern != 0;
        c->window[i] = has ? (int)window : 0;
    }
done:
    return status;
}

/* Layers with a window, and layers that do not rotate (a rule of the family's that files leave
 * out). */
static spar_status read_layers(sp_config *c, const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t window = 0;
    const bool some = c->arch->window == SP_WINDOW_PATTERN;
    if (some || c->arch->window == SP_WINDOW_ALL) {
        char key[128];
        snprintf(key, sizeof key, "%s.attention.sliding_window", c->arch->gguf_name);
        SPAR_TRY(sp_gguf_get_int(g, key, 0, INT32_MAX, 0, &window, err));
    }
    c->sliding_window = (int)window;
    for (int i = 0; i < c->layers; i++) {
        c->window[i] = (int)window;
    }
    if (some) {
        SPAR_TRY(read_pattern(c, g, window, err));
    }
    for (int i = 0; i < c->layers; i++) {
        c->no_rope[i] = sp_arch_never_rotates(c, i) || c->arch->gguf_unturned ||
                        (c->arch->rope_by_layer && (i + 1) % SP_NO_ROPE_INTERVAL == 0);
    }
done:
    return status;
}

double sp_config_gguf_scalar(const sp_config *c) {
    const bool wide = c->layers == c->arch->gguf_wide_layers;
    return wide ? (double)(c->hidden / c->heads) : (double)c->head_dim;
}

/* The family's numbers, from the file where it has them. */
static spar_status read_numbers(sp_config *c, const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *defaults = NULL;
    SPAR_TRY(sp_arch_defaults(c->arch, &defaults, err));
    for (const sp_number_key *k = c->arch->numbers; k && k->key; k++) {
        double *number = sp_config_number(c, k);
        *number = json_number_value(json_object_get(defaults, k->key));
        if (k->gguf_suffix) {
            SPAR_TRY(sp_arch_gguf_number(g, c->arch, k->gguf_suffix, *number, number, err));
        }
        if (!(*number >= 0 && isfinite(*number))) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: metadata %s.%s: expected a number >= 0, "
                               "found %g",
                               sp_gguf_path(g), c->arch->gguf_name,
                               k->gguf_suffix ? k->gguf_suffix : k->key, *number));
        }
    }
    if (c->arch->gguf_wide_layers > 0) {
        c->query_scalar = sp_config_gguf_scalar(c);
    }
    if (c->arch->embed_by_width) {
        c->embed_scale = sqrt((double)c->hidden);
    }
    c->act = c->arch->act;
done:
    json_decref(defaults);
    return status;
}

static spar_status read_alibi(sp_config *c, const sp_gguf *g, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    c->alibi = c->arch->alibi_key ? 0 : c->arch->alibi; /* readers of Falcon's know none */
    if (c->alibi > 0) {
        double found;
        SPAR_TRY(
            sp_arch_gguf_number(g, c->arch, "attention.max_alibi_bias", c->alibi, &found, err));
        if (found != c->alibi) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                               "%s: metadata %s.attention.max_alibi_bias: expected %g, found %g",
                               where, c->arch->gguf_name, c->alibi, found));
        }
    }
done:
    return status;
}

static spar_status read_parallel(sp_config *c, const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *defaults = NULL;
    char key[128];
    c->parallel = c->arch->parallel == SP_PARALLEL_ALWAYS;
    if (c->arch->parallel == SP_PARALLEL_CONFIG) {
        SPAR_TRY(sp_arch_defaults(c->arch, &defaults, err));
        snprintf(key, sizeof key, "%s.use_parallel_residual", c->arch->gguf_name);
        SPAR_TRY(sp_gguf_get_bool(g, key,
                                  json_is_true(json_object_get(defaults, "use_parallel_residual")),
                                  &c->parallel, err));
    }
done:
    json_decref(defaults);
    return status;
}

/* NOT_FOUND where the family's output projection is not in the file, and its bias has no other. */
static spar_status check_head(const sp_arch *arch, const sp_gguf *g, spar_error *err) {
    if (arch->head_bias && !sp_gguf_find_tensor(g, "output.weight")) {
        return spar_fail(err, SPAR_NOT_FOUND, "%s: tensor output.weight is missing",
                         sp_gguf_path(g));
    }
    return SPAR_OK;
}

/* Without an output projection; or with the embedding again, where readers want one. */
static bool is_tied(const sp_arch *arch, const sp_gguf *g) {
    const sp_gguf_tensor *head = sp_gguf_find_tensor(g, "output.weight");
    const sp_gguf_tensor *embed = sp_gguf_find_tensor(g, "token_embd.weight");
    return !head ||
           (arch->gguf_head && head->dtype == embed->dtype && head->n_bytes == embed->n_bytes &&
            memcmp(head->data, embed->data, embed->n_bytes) == 0);
}

spar_status sp_config_from_gguf(sp_config *c, const sp_gguf *g, const char *where,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t id;
    memset(c, 0, sizeof *c);
    SPAR_TRY(find_arch(g, &c->arch, where, err));
    SPAR_TRY(read_sizes(c, g, err));
    SPAR_TRY(sp_mixture_read_gguf(c, g, where, err));
    SPAR_TRY(read_numbers(c, g, err));
    SPAR_TRY(read_alibi(c, g, where, err));
    SPAR_TRY(sp_rope_read_gguf(c, g, err));
    SPAR_TRY(read_layers(c, g, err));
    SPAR_TRY(check_head(c->arch, g, err));
    c->tied = is_tied(c->arch, g);
    SPAR_TRY(read_parallel(c, g, err));
    c->qk_norm = c->arch->qk_key && !sp_gguf_find_tensor(g, "blk.0.attn_q_norm.weight")
                     ? SP_QK_PLAIN
                     : c->arch->qk_norm;
    c->attention_bias = sp_gguf_find_tensor(g, "blk.0.attn_q.bias") != NULL ||
                        sp_gguf_find_tensor(g, "blk.0.attn_qkv.bias") != NULL;
    c->output_bias = sp_gguf_find_tensor(g, "blk.0.attn_output.bias") != NULL;
    c->mlp_bias = sp_gguf_find_tensor(g, "blk.0.ffn_down.bias") != NULL;
    SPAR_TRY(sp_gguf_get_int(g, "tokenizer.ggml.bos_token_id", 0, INT32_MAX, -1, &id, err));
    c->bos = (int32_t)id;
    SPAR_TRY(sp_gguf_get_int(g, "tokenizer.ggml.padding_token_id", 0, INT32_MAX, -1, &id, err));
    c->pad = (int32_t)id;
    SPAR_TRY(sp_gguf_get_int(g, "tokenizer.ggml.eos_token_id", 0, INT32_MAX, -1, &id, err));
    sp_config_add_eos(c, id);
    SPAR_TRY(sp_gguf_get_int(g, "tokenizer.ggml.eot_token_id", 0, INT32_MAX, -1, &id, err));
    sp_config_add_eos(c, id);
done:
    return status;
}
