/* The settings of mixtures of experts. */
#include <math.h>
#include <stdio.h>

#include "base/jsonx.h"
#include "model/arch_parts.h"

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

/* Every step-th layer is a mixture, but those that are listed. */
static spar_status read_sparse(sp_config *c, const json_t *json, const char *where,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t step = 1;
    const json_t *dense = json_object_get(json, "mlp_only_layers");
    if (c->arch->mixture->some_layers) {
        SPAR_TRY(
            sp_json_get_int_or(json, "decoder_sparse_step", 1, INT32_MAX, 1, &step, where, err));
    }
    for (int i = 0; i < c->layers; i++) {
        c->sparse[i] = (i + 1) % step == 0;
    }
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

static double balance_of(const sp_mixture *mixture) {
    return mixture->balance > 0 ? mixture->balance : 0.001;
}

spar_status sp_mixture_read(sp_config *c, const json_t *json, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_mixture *mixture = c->arch->mixture;
    const char *count = "num_local_experts"; /* transformers 5 writes it for all families */
    int64_t experts, top_k;
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
                                 1 << 22, &c->shared_ffn, where, err));
    }
    c->experts = (int)experts;
    c->top_k = (int)top_k;
    SPAR_TRY(check_experts(c, where, "num_experts_per_tok", err));
    c->normalised = mixture->normalised;
    if (!mixture->normalised) {
        SPAR_TRY(sp_json_get_bool_or(json, "norm_topk_prob", false, &c->normalised, where, err));
    }
    SPAR_TRY(sp_json_get_number_or(json, "router_aux_loss_coef", balance_of(mixture),
                                   &c->balance_weight, where, err));
    SPAR_TRY(sp_json_get_bool_or(json, "output_router_logits", false, &c->balances, where, err));
    if (!(c->balance_weight >= 0 && isfinite(c->balance_weight))) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: router_aux_loss_coef: expected a number >= 0, found %g", where,
                           c->balance_weight));
    }
    SPAR_TRY(read_sparse(c, json, where, err));
done:
    return status;
}

/* Files do not say whether weights are normalised: their readers know it by the family. */
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
    if (mixture->shared_key) {
        char key[128];
        snprintf(key, sizeof key, "%s.expert_shared_feed_forward_length", c->arch->gguf_name);
        SPAR_TRY(sp_gguf_get_int(g, key, 1, 1 << 22, c->ffn, &c->shared_ffn, err));
    }
    c->normalised = !mixture->gguf_plain;
    c->balance_weight =
        balance_of(mixture); /* files have none: what configurations mean by leaving it out */
    for (int i = 0; i < c->layers; i++) {
        c->sparse[i] = true;
    }
    SPAR_TRY(check_experts(c, where, "expert_used_count", err));
done:
    return status;
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
        json_object_set_new(root, mixture->shared_key, json_integer(c->shared_ffn));
    }
    json_object_set_new(root, "router_aux_loss_coef", json_real(c->balance_weight));
    json_object_set_new(root, "output_router_logits", json_boolean(c->balances));
    if (!mixture->normalised) {
        json_object_set_new(root, "norm_topk_prob", json_boolean(c->normalised));
    }
    if (mixture->some_layers) {
        json_t *dense = json_array();
        for (int i = 0; i < c->layers; i++) {
            if (!c->sparse[i]) {
                json_array_append_new(dense, json_integer(i));
            }
        }
        json_object_set_new(root, "decoder_sparse_step", json_integer(1));
        json_object_set_new(root, "mlp_only_layers", dense);
    }
}
