/* The settings of mixtures of experts. */
#include <math.h>
#include <stdio.h>

#include "base/jsonx.h"
#include "model/arch_parts.h"

/* What sums of weights are no less than: of families that say it, where they do not; of others,
 * whose sums could only be 0. */
static const double usual_least = 1e-12, no_least = 1e-20;

int sp_config_sparse_layers(const sp_config *c) {
    int n = 0;
    for (int i = 0; i < c->layers; i++) {
        n += c->sparse[i];
    }
    return n;
}

static spar_status check_experts(const sp_config *c, const char *where, const char *used,
                                 spar_error *err) {
    if (c->top_k > c->experts) {
        return spar_fail(err, SPAR_FORMAT, "%s: %s: expected at most the %d experts, found %d",
                         where, used, c->experts, c->top_k);
    }
    if ((int64_t)c->experts * c->layers > SP_MAX_EXPERTS) {
        return spar_fail(err, SPAR_LIMIT, "%s: expected at most %d experts in all, found %lld",
                         where, SP_MAX_EXPERTS, (long long)c->experts * c->layers);
    }
    return SPAR_OK;
}

bool sp_config_sparse_by_rule(const sp_config *c, int layer) {
    return layer >= c->sparse_first && (layer + 1) % c->sparse_step == 0;
}

static void mark_sparse(sp_config *c, int64_t first, int64_t last, int64_t step) {
    c->sparse_first = (int)first;
    c->sparse_step = (int)step;
    for (int i = 0; i < c->layers; i++) {
        c->sparse[i] = i <= last && sp_config_sparse_by_rule(c, i);
    }
}

/* Every step-th layer is a mixture, but those that are listed. */
static spar_status read_listed(sp_config *c, const json_t *json, const char *where,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t step;
    const json_t *dense = json_object_get(json, "mlp_only_layers");
    SPAR_TRY(sp_json_get_int_or(json, "decoder_sparse_step", 1, INT32_MAX, 1, &step, where, err));
    mark_sparse(c, 0, c->layers, step);
    if (dense && !json_is_null(dense) && !json_is_array(dense)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: mlp_only_layers: expected a list, found %s",
                           where, sp_json_type_name(dense)));
    }
    for (size_t i = 0; i < json_array_size(dense); i++) {
        const json_t *layer = json_array_get(dense, i);
        const json_int_t at = json_integer_value(layer);
        if (!json_is_integer(layer) || at < 0 || at >= SP_MAX_LAYERS) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: mlp_only_layers[%zu]: expected the number of a layer, found %s "
                               "%lld",
                               where, i, sp_json_type_name(layer), (long long)at));
        }
        c->sparse[at] = false;
    }
done:
    return status;
}

/* moe_layer_end_index -1 stands for the last layer. */
static spar_status read_range(sp_config *c, const json_t *json, const char *where,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t first, last, step;
    SPAR_TRY(
        sp_json_get_int_or(json, "moe_layer_start_index", 0, SP_MAX_LAYERS, 0, &first, where, err));
    SPAR_TRY(
        sp_json_get_int_or(json, "moe_layer_end_index", -1, SP_MAX_LAYERS, -1, &last, where, err));
    SPAR_TRY(
        sp_json_get_int_or(json, "moe_layer_interval", 1, SP_MAX_LAYERS, 1, &step, where, err));
    mark_sparse(c, first, last < 0 ? c->layers : last, step);
done:
    return status;
}

static spar_status read_sparse(sp_config *c, const json_t *json, const char *where,
                               spar_error *err) {
    int64_t first = 0;
    spar_status status = SPAR_OK;
    switch (c->arch->mixture->layers) {
    case SP_SPARSE_LISTED:
        return read_listed(c, json, where, err);
    case SP_SPARSE_RANGE:
        return read_range(c, json, where, err);
    case SP_SPARSE_AFTER:
        status = sp_json_get_int_or(json, "first_k_dense_replace", 0, SP_MAX_LAYERS, 0, &first,
                                    where, err);
        break;
    case SP_SPARSE_ALL:
        break;
    }
    mark_sparse(c, first, c->layers, 1);
    return status;
}

/* Where as many groups are open as there are, there are none. */
static spar_status set_groups(sp_config *c, int64_t groups, int64_t open, const char *where,
                              spar_error *err) {
    if (groups < 2 || open >= groups) {
        return SPAR_OK;
    }
    if (c->experts % groups != 0 || c->experts / groups < 2 ||
        c->top_k > open * (c->experts / groups)) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: expected %d experts in groups of the same size, 2 or more, and %d of "
                         "them in the %lld groups that are open, found %lld groups",
                         where, c->experts, c->top_k, (long long)open, (long long)groups);
    }
    c->groups = (int)groups;
    c->open_groups = (int)open;
    return SPAR_OK;
}

static spar_status read_choice(sp_config *c, const json_t *json, const char *where,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_mixture *mixture = c->arch->mixture;
    int64_t groups = 1, open = 1;
    if (mixture->grouped) {
        SPAR_TRY(sp_json_get_int_or(json, "n_group", 1, SP_MAX_GROUPS, 1, &groups, where, err));
        SPAR_TRY(sp_json_get_int_or(json, "topk_group", 1, SP_MAX_GROUPS, 1, &open, where, err));
    }
    SPAR_TRY(set_groups(c, groups, open, where, err));
    c->weight_least = no_least;
    if (mixture->least_key) {
        SPAR_TRY(sp_json_get_number_or(json, mixture->least_key, usual_least, &c->weight_least,
                                       where, err));
        if (!(c->weight_least > 0 && isfinite(c->weight_least))) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: %s: expected a positive number, found %g",
                               where, mixture->least_key, c->weight_least));
        }
    }
done:
    return status;
}

/* The width of the shared expert, of what the configuration says of it. */
static spar_status set_shared(sp_config *c, int64_t given, const char *where, spar_error *err) {
    const int64_t unit = c->arch->mixture->shared_counts ? c->expert_ffn : 1;
    if (given > (1 << 22) / unit) {
        return spar_fail(err, SPAR_LIMIT, "%s: %s: expected a width of at most %d, found %lld",
                         where, c->arch->mixture->shared_key, 1 << 22, (long long)(given * unit));
    }
    c->shared_ffn = given * unit;
    return SPAR_OK;
}

static double balance_of(const sp_mixture *mixture) {
    return mixture->balance > 0 ? mixture->balance : 0.001;
}

spar_status sp_mixture_read(sp_config *c, const json_t *json, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_mixture *mixture = c->arch->mixture;
    const char *count = "num_local_experts"; /* transformers 5 writes it for all families */
    int64_t experts, top_k, shared;
    if (!mixture) {
        goto done;
    }
    if (!json_object_get(json, count)) {
        count = mixture->count_key;
    }
    SPAR_TRY(sp_json_get_int(json, count, 1, SP_MAX_EXPERTS, &experts, where, err));
    SPAR_TRY(sp_json_get_int(json, "num_experts_per_tok", 1, SP_MAX_EXPERTS, &top_k, where, err));
    SPAR_TRY(sp_json_get_int(json, mixture->width_key, 1, 1 << 22, &c->expert_ffn, where, err));
    if (mixture->shared_key) {
        SPAR_TRY(sp_json_get_int(json, mixture->shared_key, mixture->shared_optional ? 0 : 1,
                                 1 << 22, &shared, where, err));
        SPAR_TRY(set_shared(c, shared, where, err));
    }
    c->experts = (int)experts;
    c->top_k = (int)top_k;
    SPAR_TRY(check_experts(c, where, "num_experts_per_tok", err));
    c->normalised = mixture->normalised;
    if (!mixture->normalised) {
        SPAR_TRY(sp_json_get_bool_or(json, "norm_topk_prob", false, &c->normalised, where, err));
    }
    SPAR_TRY(read_choice(c, json, where, err));
    SPAR_TRY(read_sparse(c, json, where, err));
    if (mixture->unbalanced) {
        goto done;
    }
    SPAR_TRY(sp_json_get_number_or(json, "router_aux_loss_coef", balance_of(mixture),
                                   &c->balance_weight, where, err));
    SPAR_TRY(sp_json_get_bool_or(json, "output_router_logits", false, &c->balances, where, err));
    if (!(c->balance_weight >= 0 && isfinite(c->balance_weight))) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: router_aux_loss_coef: expected a number >= 0, found %g", where,
                           c->balance_weight));
    }
done:
    return status;
}

/* The number of metadata ARCH.suffix, or the fallback. */
static spar_status get_int(const sp_config *c, const sp_gguf *g, const char *suffix, int64_t min,
                           int64_t max, int64_t fallback, int64_t *out, spar_error *err) {
    char key[128];
    snprintf(key, sizeof key, "%s.%s", c->arch->gguf_name, suffix);
    return sp_gguf_get_int(g, key, min, max, fallback, out, err);
}

/* Files call a sigmoid 2. */
static spar_status check_router(const sp_config *c, const sp_gguf *g, const char *where,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t own = c->arch->mixture->router == SP_ROUTER_SIGMOID ? 2 : 1;
    int64_t kind;
    SPAR_TRY(get_int(c, g, "expert_gating_func", 0, INT32_MAX, own, &kind, err));
    if (kind != own) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: metadata %s.expert_gating_func: expected %lld, found %lld", where,
                           c->arch->gguf_name, (long long)own, (long long)kind));
    }
done:
    return status;
}

/* Layers, groups, and what else files of some families say. */
static spar_status read_gguf_choice(sp_config *c, const sp_gguf *g, const char *where,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_mixture *mixture = c->arch->mixture;
    int64_t first = 0, step = 1, groups = 1, open = 1;
    if (mixture->gguf_dense) {
        SPAR_TRY(get_int(c, g, "leading_dense_block_count", 0, SP_MAX_LAYERS, 0, &first, err));
        SPAR_TRY(get_int(c, g, "interleave_moe_layer_step", 1, SP_MAX_LAYERS, 1, &step, err));
    }
    mark_sparse(c, first, c->layers, step);
    if (mixture->grouped) {
        SPAR_TRY(get_int(c, g, "expert_group_count", 0, SP_MAX_GROUPS, 1, &groups, err));
        SPAR_TRY(get_int(c, g, "expert_group_used_count", 0, SP_MAX_GROUPS, groups, &open, err));
    }
    SPAR_TRY(set_groups(c, groups, open, where, err));
    c->weight_least = mixture->least_key ? usual_least : no_least;
    c->normalised = !mixture->gguf_plain;
    if (mixture->gguf_says) {
        char key[128];
        snprintf(key, sizeof key, "%s.expert_weights_norm", c->arch->gguf_name);
        SPAR_TRY(sp_gguf_get_bool(g, key, false, &c->normalised, err));
        SPAR_TRY(check_router(c, g, where, err));
    }
done:
    return status;
}

static spar_status read_gguf_shared(sp_config *c, const sp_gguf *g, const char *where,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_mixture *mixture = c->arch->mixture;
    if (!mixture->shared_key) {
        goto done;
    }
    if (mixture->gguf_says) {
        int64_t n;
        SPAR_TRY(get_int(c, g, "expert_shared_count", 1, 1 << 22, 1, &n, err));
        SPAR_TRY(set_shared(c, n, where, err));
    } else {
        SPAR_TRY(get_int(c, g, "expert_shared_feed_forward_length", 1, 1 << 22,
                         mixture->shared_optional ? 0 : c->ffn, &c->shared_ffn, err));
    }
done:
    return status;
}

/* Files of most families do not say whether weights are normalised: their readers know it. */
spar_status sp_mixture_read_gguf(sp_config *c, const sp_gguf *g, const char *where,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_mixture *mixture = c->arch->mixture;
    const struct {
        const char *suffix;
        int64_t max;
    } sizes[] = {{"expert_count", SP_MAX_EXPERTS},
                 {"expert_used_count", SP_MAX_EXPERTS},
                 {mixture ? mixture->gguf_width : NULL, 1 << 22}};
    int64_t found[3];
    if (!mixture) {
        goto done;
    }
    for (int i = 0; i < 3; i++) {
        char key[128];
        snprintf(key, sizeof key, "%s.%s", c->arch->gguf_name, sizes[i].suffix);
        SPAR_TRY(sp_gguf_get_int(g, key, 1, sizes[i].max, -1, &found[i], err));
        if (found[i] < 0) {
            SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: metadata %s: is missing", where, key));
        }
    }
    c->experts = (int)found[0];
    c->top_k = (int)found[1];
    c->expert_ffn = found[2];
    SPAR_TRY(check_experts(c, where, "expert_used_count", err));
    SPAR_TRY(read_gguf_shared(c, g, where, err));
    SPAR_TRY(read_gguf_choice(c, g, where, err));
    /* files have none: what configurations mean by leaving it out */
    c->balance_weight = mixture->unbalanced ? 0 : balance_of(mixture);
done:
    return status;
}

static void write_listed(const sp_config *c, json_t *root) {
    json_t *dense = json_array();
    for (int i = 0; i < c->layers; i++) {
        if (!c->sparse[i]) {
            json_array_append_new(dense, json_integer(i));
        }
    }
    json_object_set_new(root, "decoder_sparse_step", json_integer(1));
    json_object_set_new(root, "mlp_only_layers", dense);
}

static void write_range(const sp_config *c, json_t *root) {
    int last = c->layers - 1;
    while (last > 0 && !c->sparse[last]) {
        last--;
    }
    json_object_set_new(root, "moe_layer_start_index", json_integer(c->sparse_first));
    json_object_set_new(root, "moe_layer_end_index", json_integer(last));
    json_object_set_new(root, "moe_layer_interval", json_integer(c->sparse_step));
}

static void write_sparse(const sp_config *c, json_t *root) {
    switch (c->arch->mixture->layers) {
    case SP_SPARSE_LISTED:
        write_listed(c, root);
        break;
    case SP_SPARSE_RANGE:
        write_range(c, root);
        break;
    case SP_SPARSE_AFTER:
        json_object_set_new(root, "first_k_dense_replace", json_integer(c->sparse_first));
        break;
    case SP_SPARSE_ALL:
        break;
    }
}

void sp_mixture_write(const sp_config *c, json_t *root) {
    const sp_mixture *mixture = c->arch->mixture;
    if (!mixture) {
        return;
    }
    json_object_set_new(root, mixture->count_key, json_integer(c->experts));
    json_object_set_new(root, "num_experts_per_tok", json_integer(c->top_k));
    json_object_set_new(root, mixture->width_key, json_integer(c->expert_ffn));
    if (mixture->shared_key) {
        json_object_set_new(
            root, mixture->shared_key,
            json_integer(c->shared_ffn / (mixture->shared_counts ? c->expert_ffn : 1)));
    }
    if (!mixture->unbalanced) {
        json_object_set_new(root, "router_aux_loss_coef", json_real(c->balance_weight));
        json_object_set_new(root, "output_router_logits", json_boolean(c->balances));
    }
    if (mixture->grouped) {
        json_object_set_new(root, "n_group", json_integer(c->groups ? c->groups : 1));
        json_object_set_new(root, "topk_group", json_integer(c->groups ? c->open_groups : 1));
    }
    if (mixture->least_key) {
        json_object_set_new(root, mixture->least_key, json_real(c->weight_least));
    }
    if (!mixture->normalised) {
        json_object_set_new(root, "norm_topk_prob", json_boolean(c->normalised));
    }
    write_sparse(c, root);
}
