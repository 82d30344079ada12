/* Layers with short convolutions in place of attention: read from config.json and GGUF metadata,
 * and written. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "model/arch_parts.h"

/* LFM2: two thirds of intermediate_size, times a factor and rounded up to a multiple. */
static spar_status shrink_ffn(sp_config *c, const json_t *json, const char *where,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    bool shrinks;
    double factor;
    int64_t multiple;
    const json_t *given = json_object_get(json, "block_ffn_dim_multiplier");
    SPAR_TRY(sp_json_get_bool_or(json, "block_auto_adjust_ff_dim", true, &shrinks, where, err));
    SPAR_TRY(sp_json_get_int_or(json, "block_multiple_of", 1, 1 << 20, 256, &multiple, where, err));
    if (!shrinks) {
        goto done;
    }
    c->ffn = (int64_t)(2.0 * (double)c->ffn / 3.0);
    if (!json_is_null(given)) {
        SPAR_TRY(sp_json_get_number_or(json, "block_ffn_dim_multiplier", 1.0, &factor, where, err));
        const double wide = factor * (double)c->ffn;
        c->ffn = wide >= 0 && wide <= 1 << 22 ? (int64_t)wide : 0;
        c->ffn = (c->ffn + multiple - 1) / multiple * multiple;
    }
    if (c->ffn < 1 || c->ffn > 1 << 22) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: block_ffn_dim_multiplier: expected a feed-forward of 1 to %d "
                           "entries by it, found another",
                           where, 1 << 22));
    }
done:
    return status;
}

static spar_status read_types(sp_config *c, const json_t *types, const char *where,
                              spar_error *err) {
    if (!json_is_array(types) || (int)json_array_size(types) != c->layers) {
        return spar_fail(err, SPAR_FORMAT, "%s: layer_types: expected %d entries, found %s %d",
                         where, c->layers, sp_json_type_name(types), (int)json_array_size(types));
    }
    for (int i = 0; i < c->layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        c->conv[i] = type && strcmp(type, "conv") == 0;
        if (!c->conv[i] && (!type || strcmp(type, "full_attention") != 0)) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "%s: layer_types[%d]: expected conv or full_attention, found %.40s",
                             where, i, type ? type : "no text");
        }
    }
    return SPAR_OK;
}

/* Those that full_attn_idxs lists have attention; all, where it is missing. */
static spar_status read_listed(sp_config *c, const json_t *list, const char *where,
                               spar_error *err) {
    if (!list || json_is_null(list)) {
        return SPAR_OK;
    }
    if (!json_is_array(list)) {
        return spar_fail(err, SPAR_FORMAT, "%s: full_attn_idxs: expected a list, found %s", where,
                         sp_json_type_name(list));
    }
    for (int i = 0; i < c->layers; i++) {
        c->conv[i] = true;
    }
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const json_int_t layer = json_integer_value(item);
        if (!json_is_integer(item) || layer < 0 || layer >= c->layers) {
            return spar_fail(err, SPAR_FORMAT,
                             "%s: full_attn_idxs[%zu]: expected a layer in 0..%d, found %s %lld",
                             where, i, c->layers - 1, sp_json_type_name(item), (long long)layer);
        }
        c->conv[layer] = false;
    }
    return SPAR_OK;
}

spar_status sp_conv_read(sp_config *c, const json_t *json, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t taps;
    if (c->arch->ffn_shrinks) {
        SPAR_TRY(shrink_ffn(c, json, where, err));
    }
    if (!c->arch->conv_key) {
        goto done;
    }
    const json_t *types = json_object_get(json, "layer_types");
    SPAR_TRY(sp_json_get_int_or(json, c->arch->conv_key, 1, SP_CONV_TAPS, 3, &taps, where, err));
    c->conv_taps = (int)taps;
    SPAR_TRY(types && !json_is_null(types)
                 ? read_types(c, types, where, err)
                 : read_listed(c, json_object_get(json, "full_attn_idxs"), where, err));
done:
    return status;
}

int sp_conv_layers(const sp_config *c) {
    int n = 0;
    for (int i = 0; i < c->layers; i++) {
        n += c->conv[i];
    }
    return n;
}

void sp_conv_write(const sp_config *c, json_t *root) {
    if (c->arch->conv_key) {
        json_t *list = json_array();
        for (int i = 0; i < c->layers; i++) {
            json_array_append_new(list, json_string(c->conv[i] ? "conv" : "full_attention"));
        }
        json_object_set_new(root, "layer_types", list);
        json_object_set_new(root, c->arch->conv_key, json_integer(c->conv_taps));
    }
}

/* Layers without key heads have convolutions. *kv_heads: of the others, which agree. */
spar_status sp_conv_read_gguf(sp_config *c, const sp_gguf *g, int64_t *kv_heads, spar_error *err) {
    spar_status status = SPAR_OK;
    char key[128];
    int64_t taps;
    snprintf(key, sizeof key, "%s.%s", c->arch->gguf_name, c->arch->gguf_conv);
    SPAR_TRY(sp_gguf_get_int(g, key, 1, SP_CONV_TAPS, -1, &taps, err));
    if (taps < 0) {
        SPAR_TRY(
            spar_fail(err, SPAR_NOT_FOUND, "%s: metadata %s: is missing", sp_gguf_path(g), key));
    }
    c->conv_taps = (int)taps;
    snprintf(key, sizeof key, "%s.attention.head_count_kv", c->arch->gguf_name);
    const sp_gguf_value *list = sp_gguf_find(g, key);
    const bool whole = list && (list->type == SP_GGUF_I32 || list->type == SP_GGUF_U32);
    if (!whole || !list->is_array || list->n != (uint64_t)c->layers) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: metadata %s: expected a list of %d whole numbers, found another "
                           "value",
                           sp_gguf_path(g), key, c->layers));
    }
    *kv_heads = c->heads;
    bool found = false;
    for (int i = 0; i < c->layers; i++) {
        const int64_t n = sp_gguf_integer(list, (uint64_t)i);
        c->conv[i] = n == 0;
        if (n < 0 || n > c->heads || (n > 0 && found && n != *kv_heads)) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                               "%s: metadata %s[%d]: expected 0, or as many key heads as other "
                               "layers have, found %lld",
                               sp_gguf_path(g), key, i, (long long)n));
        }
        *kv_heads = n > 0 ? n : *kv_heads;
        found = found || n > 0;
    }
done:
    return status;
}

void sp_conv_put_gguf(const sp_config *c, sp_gguf_out *out) {
    int32_t heads[SP_MAX_LAYERS];
    char key[128];
    for (int i = 0; i < c->layers; i++) {
        heads[i] = c->conv[i] ? 0 : c->kv_heads;
    }
    snprintf(key, sizeof key, "%s.attention.head_count_kv", c->arch->gguf_name);
    sp_gguf_put_i32s(out, key, heads, (size_t)c->layers);
    snprintf(key, sizeof key, "%s.%s", c->arch->gguf_name, c->arch->gguf_conv);
    sp_gguf_put_u32(out, key, (uint32_t)c->conv_taps);
}
