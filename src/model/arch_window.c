/* Which layers have a window: read from config.json, and written. */
#include <string.h>

#include "base/jsonx.h"
#include "model/arch_parts.h"

/* "attention" is what transformers called full_attention once. */
static bool sees_all(const char *type) {
    return type && (strcmp(type, "full_attention") == 0 || strcmp(type, "attention") == 0);
}

static spar_status layer_type_window(sp_config *c, const json_t *types, int64_t window,
                                     const char *where, spar_error *err) {
    if (!json_is_array(types) || (int)json_array_size(types) != c->layers) {
        return spar_fail(err, SPAR_FORMAT, "%s: layer_types: expected %d entries, found %s %d",
                         where, c->layers, sp_json_type_name(types), (int)json_array_size(types));
    }
    for (int i = 0; i < c->layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        if (type && strcmp(type, "sliding_attention") == 0 && window > 0) {
            c->window[i] = (int)window;
        } else if (!sees_all(type)) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "%s: layer_types[%d]: expected full_attention or sliding_attention "
                             "with a sliding_window, found %s",
                             where, i, type ? type : "a non-string");
        }
    }
    return SPAR_OK;
}

/* Whether use_sliding_window says that there are any. */
static bool has_window_flag(const sp_arch *arch) {
    return arch->window == SP_WINDOW_FLAG || arch->window == SP_WINDOW_SWITCH ||
           arch->window == SP_WINDOW_EVEN;
}

/* Where layers are not listed. bound: max_window_layers. */
static bool in_window(sp_window_rule rule, int64_t layer, int64_t bound, int64_t pattern) {
    switch (rule) {
    case SP_WINDOW_FLAG:
    case SP_WINDOW_LATE:
        return layer >= bound;
    case SP_WINDOW_EVEN:
        return layer % 2 == 0 && layer < bound;
    case SP_WINDOW_PATTERN:
        return (layer + 1) % pattern != 0;
    case SP_WINDOW_FIRST:
        return layer % pattern != 0;
    default:
        return true;
    }
}

/* attention_types: lists of types, each with how often it is repeated; all of them one after
 * another. *out is a new reference. */
static spar_status expand_types(const json_t *types, json_t **out, const char *where,
                                spar_error *err) {
    json_t *list = json_array();
    *out = list;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const json_t *item = json_array_get(types, i);
        const json_t *names = json_array_get(item, 0), *times = json_array_get(item, 1);
        const json_int_t n = json_integer_value(times);
        if (!json_is_array(names) || !json_is_integer(times) || n < 0 || n > SP_MAX_LAYERS ||
            json_array_size(list) > SP_MAX_LAYERS || json_array_size(names) > SP_MAX_LAYERS) {
            return spar_fail(err, SPAR_FORMAT,
                             "%s: attention_types[%zu]: expected a list of types and how often it "
                             "is repeated",
                             where, i);
        }
        for (json_int_t k = 0; k < n; k++) {
            json_array_extend(list, (json_t *)(uintptr_t)names);
        }
    }
    return SPAR_OK;
}

/* GPT-Neo: every layer is called global or local. */
static spar_status read_local(sp_config *c, const json_t *config, const char *where,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *expanded = NULL;
    const json_t *layers = json_object_get(config, "attention_layers");
    const char *key = json_is_array(layers) ? "attention_layers" : "attention_types";
    if (!json_is_array(layers)) {
        SPAR_TRY(expand_types(json_object_get(config, key), &expanded, where, err));
        layers = expanded;
    }
    if (json_array_size(layers) != (size_t)c->layers) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: %s: expected %d layers, found %zu", where, key,
                           c->layers, json_array_size(layers)));
    }
    for (int i = 0; i < c->layers; i++) {
        const char *type = json_string_value(json_array_get(layers, (size_t)i));
        const bool local = type && strcmp(type, "local") == 0 && c->sliding_window > 0;
        if (!local && (!type || strcmp(type, "global") != 0)) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                               "%s: %s: expected of layer %d global, or local with a window_size, "
                               "found %.40s",
                               where, key, i, type ? type : "no text"));
        }
        c->window[i] = local ? c->sliding_window : 0;
    }
done:
    json_decref(expanded);
    return status;
}

static bool has_windows(const sp_config *c) {
    bool some = false;
    for (int i = 0; i < c->layers; i++) {
        some = some || c->window[i] > 0;
    }
    return some;
}

spar_status sp_window_read(sp_config *c, const json_t *config, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t window, pattern, bound = 0;
    bool use = true;
    const sp_window_rule rule = c->arch->window;
    SPAR_TRY(sp_json_get_int_or(config, "sliding_window", 0, INT32_MAX, 0, &window, where, err));
    if (has_window_flag(c->arch)) {
        SPAR_TRY(sp_json_get_bool_or(config, "use_sliding_window", false, &use, where, err));
    }
    if (rule == SP_WINDOW_FLAG || rule == SP_WINDOW_EVEN || rule == SP_WINDOW_LATE) {
        SPAR_TRY(
            sp_json_get_int_or(config, "max_window_layers", 0, INT32_MAX, 28, &bound, where, err));
    }
    const json_t *types = json_object_get(config, "layer_types");
    if (rule == SP_WINDOW_NONE || !use) {
        window = 0;
    }
    c->sliding_window = (int)window;
    if (rule == SP_WINDOW_LOCAL) {
        SPAR_TRY(read_local(c, config, where, err));
        goto done;
    }
    if (c->arch->conv_key) {
        goto done; /* layer_types are about convolutions */
    }
    if ((types && !json_is_null(types)) || c->arch->layer_name) {
        SPAR_TRY(layer_type_window(c, types, window, where, err));
        goto done;
    }
    SPAR_TRY(sp_json_get_int_or(config, "sliding_window_pattern", 1, SP_MAX_LAYERS,
                                c->arch->pattern, &pattern, where, err));
    for (int64_t i = 0; window > 0 && i < c->layers; i++) {
        c->window[i] = in_window(rule, i, bound, pattern) ? (int)window : 0;
    }
done:
    c->sliding_window = rule == SP_WINDOW_LATE && !has_windows(c) ? 0 : c->sliding_window;
    return status;
}

/* What every layer is called. New reference. */
static json_t *type_of_layers(const sp_config *c, const char *windowed, const char *full) {
    json_t *list = json_array();
    for (int i = 0; i < c->layers; i++) {
        json_array_append_new(list, json_string(c->window[i] ? windowed : full));
    }
    return list;
}

/* Whether layer_types say which layers have windows. */
static bool lists_layers(const sp_arch *arch) {
    return arch->window == SP_WINDOW_PATTERN || arch->window == SP_WINDOW_EVEN ||
           arch->window == SP_WINDOW_FIRST || arch->window == SP_WINDOW_LATE ||
           arch->window == SP_WINDOW_LISTED || arch->layer_name;
}

void sp_window_write(const sp_config *c, json_t *root) {
    if (c->arch->window != SP_WINDOW_NONE) {
        json_object_set_new(root, "sliding_window",
                            c->sliding_window ? json_integer(c->sliding_window) : json_null());
    }
    if (c->arch->window == SP_WINDOW_FLAG) {
        int first = 0;
        while (first < c->layers && c->window[first] == 0) {
            first++;
        }
        json_object_set_new(root, "max_window_layers", json_integer(first));
    }
    if (has_window_flag(c->arch)) {
        json_object_set_new(root, "use_sliding_window", json_boolean(c->sliding_window > 0));
    }
    if (lists_layers(c->arch)) {
        const char *full = c->arch->layer_name ? c->arch->layer_name : "full_attention";
        json_object_set_new(root, "layer_types", type_of_layers(c, "sliding_attention", full));
    }
    if (c->arch->window == SP_WINDOW_LOCAL) {
        json_t *list = type_of_layers(c, "local", "global");
        json_object_set_new(root, "attention_types", json_pack("[[O, i]]", list, 1));
        json_object_set_new(root, "attention_layers", list);
    }
}
