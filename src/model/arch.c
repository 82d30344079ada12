#include "model/arch.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "model/arch_parts.h"

/* Keys that are read, for one family or another. */
static const char read_keys[] =
    " architectures model_type vocab_size hidden_size intermediate_size num_hidden_layers "
    "num_attention_heads num_key_value_heads head_dim max_position_embeddings rms_norm_eps "
    "tie_word_embeddings attention_bias mlp_bias rope_theta rope_scaling rope_parameters "
    "sliding_window sliding_window_pattern use_sliding_window max_window_layers layer_types "
    "bos_token_id eos_token_id "
    "pad_token_id ";

/* Keys that change nothing that is computed here: the numbers' type, training's random start and
 * dropout, classes' labels, generation's settings, and who wrote the file. */
static const char harmless_keys[] =
    " transformers_version torch_dtype dtype use_cache initializer_range attention_dropout "
    "hidden_dropout embd_pdrop resid_pdrop attn_pdrop classifier_dropout pretraining_tp "
    "original_max_position_embeddings auto_map tokenizer_class mlp_dropout dropout finetuning_task "
    "id2label label2id num_labels problem_type task_specific_params return_dict output_attentions "
    "output_hidden_states torchscript is_llama_config rope_interleaved transformers.js_config "
    "unsloth_version unsloth_fixed unsloth_training_date gradient_checkpointing "
    "keys_to_ignore_at_inference "
    "chunk_size_feed_forward is_decoder is_encoder_decoder min_length max_length do_sample "
    "early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p typical_p "
    "repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size "
    "num_return_sequences use_bfloat16 max_new_tokens sep_token_id cls_token_id mask_token_id "
    "unk_token_id neftune_noise_alpha cache_implementation hidden_act max_sequence_length "
    "model_max_length seq_length sliding_window_size ";

/* Factors, which 1 leaves as they are. */
static const char factor_keys[] = " logit_scale logits_scaling embedding_multiplier "
                                  "residual_multiplier scale_emb partial_rotary_factor rotary_pct ";

/* Whether the key is a word of the list, whose words stand between spaces. */
static bool lists_key(const char *list, const char *key) {
    const size_t n = strlen(key);
    for (size_t length; *list; list += length) {
        list += strspn(list, " ");
        length = strcspn(list, " ");
        if (length == n && n > 0 && memcmp(list, key, n) == 0) {
            return true;
        }
    }
    return false;
}

/* null, false, 0 and empty values change nothing; nor does 1, where one says so. */
static bool is_neutral(const json_t *value, bool one) {
    switch (json_typeof(value)) {
    case JSON_NULL:
    case JSON_FALSE:
        return true;
    case JSON_INTEGER:
    case JSON_REAL: {
        double number = json_number_value(value);
        return number == 0.0 || (one && number == 1.0);
    }
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    default:
        return false;
    }
}

/* A key that is neither read nor known to be harmless may change the mathematics. known: what is
 * read besides, or NULL; owner: the object that the key is in, or "". */
spar_status sp_arch_check_keys(const json_t *object, const char *known, const char *owner,
                               const char *where, spar_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        /* With an underscore: where a configuration came from, and other notes of the writer's. */
        if (key[0] != '_' && !(known && lists_key(known, key)) && !lists_key(harmless_keys, key) &&
            !is_neutral(value, lists_key(factor_keys, key))) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "%s: %s%.80s is set, which may change the model's mathematics and is "
                             "not supported",
                             where, owner, key);
        }
    }
    return SPAR_OK;
}

static const char *ffn_key(const sp_arch *arch) {
    return arch->ffn_key ? arch->ffn_key : "intermediate_size";
}

static const char *act_key(const sp_arch *arch) {
    return arch->act_key ? arch->act_key : "hidden_act";
}

static const char *eps_key(const sp_arch *arch) {
    return arch->eps_key ? arch->eps_key : "rms_norm_eps";
}

static const char *bias_key(const sp_arch *arch) {
    return arch->bias_key ? arch->bias_key : "attention_bias";
}

static const char *mlp_bias_key(const sp_arch *arch) {
    return arch->mlp_bias_key ? arch->mlp_bias_key : "mlp_bias";
}

/* A second width, where the family has one. */
static spar_status check_width(const json_t *config, const sp_arch *arch, const char *where,
                               spar_error *err) {
    const json_t *hidden = json_object_get(config, "hidden_size");
    const json_t *width = arch->width_key ? json_object_get(config, arch->width_key) : NULL;
    if (width && !json_is_null(width) && !json_equal(width, hidden)) {
        return spar_fail(err, SPAR_UNSUPPORTED,
                         "%s: %s: expected hidden_size, %lld, found %s %lld: embeddings of another "
                         "width are not supported",
                         where, arch->width_key, (long long)json_integer_value(hidden),
                         sp_json_type_name(width), (long long)json_integer_value(width));
    }
    return SPAR_OK;
}

/* Keys that may have one value alone: what is known of them, to *known. */
static spar_status check_fixed_keys(const json_t *config, const sp_arch *arch, sp_str *known,
                                    const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *fixed = NULL;
    const char *key;
    json_t *value;
    SPAR_TRY(check_width(config, arch, where, err));
    if (!arch->fixed_keys) {
        goto done;
    }
    SPAR_TRY(sp_json_parse(&fixed, arch->fixed_keys, strlen(arch->fixed_keys), where, err));
    json_object_foreach(fixed, key, value) {
        const json_t *found = json_object_get(config, key);
        if (found && !json_equal(found, value)) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                               "%s: %s: has another value than models of type %s have, which is "
                               "not supported",
                               where, key, arch->model_type));
        }
        sp_str_printf(known, "%s ", key);
    }
done:
    json_decref(fixed);
    return status;
}

/* Weights that are no floats are refused with what to take in their place. */
static spar_status refuse_quantised(const json_t *config, const char *where, spar_error *err) {
    const json_t *quantised = json_object_get(config, "quantization_config");
    const char *method = json_string_value(json_object_get(quantised, "quant_method"));
    return !quantised || is_neutral(quantised, false)
               ? SPAR_OK
               : spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: quantization_config: expected a model whose weights are floats, or "
                           "its GGUF file, found weights quantised by %.40s",
                           where, method ? method : "a method without a name");
}

/* All keys of config.json: those of every family, and the row's own. */
static spar_status check_config_keys(const json_t *config, const sp_arch *arch, const char *where,
                                     spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str known = SP_STR_INIT;
    const char *const keys[] = {
        act_key(arch),
        eps_key(arch),
        bias_key(arch),
        mlp_bias_key(arch),
        arch->qk_key,
        arch->out_bias_key,
        ffn_key(arch),
        arch->rope_key,
        arch->width_key,
        arch->query_key,
        arch->conv_key,
        arch->own_keys,
        arch->rotary_key,
        arch->alibi_key,
        arch->parallel == SP_PARALLEL_CONFIG ? "use_parallel_residual" : NULL,
        arch->rope_partial ? "partial_rotary_factor" : NULL,
        arch->score_keys ? "scale_attn_weights scale_attn_by_inverse_layer_idx" : NULL};
    sp_str_printf(&known, "%s", read_keys);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        sp_str_printf(&known, "%s ", keys[i] ? keys[i] : "");
    }
    for (const sp_number_key *k = arch->numbers; k && k->key; k++) {
        sp_str_printf(&known, "%s ", k->key);
    }
    SPAR_TRY(refuse_quantised(config, where, err));
    SPAR_TRY(check_fixed_keys(config, arch, &known, where, err));
    SPAR_TRY(sp_str_status(&known, err));
    SPAR_TRY(sp_arch_check_keys(config, sp_str_get(&known), "", where, err));
done:
    sp_str_release(&known);
    return status;
}

/* text: the model_type of a text_config, or NULL. */
static spar_status refuse_type(const char *where, const char *type, const char *text,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str known = SP_STR_INIT;
    for (int i = 0; sp_arch_at(i); i++) {
        const bool again =
            i > 0 && strcmp(sp_arch_at(i)->model_type, sp_arch_at(i - 1)->model_type) == 0;
        sp_str_printf(&known, "%s%s", i && !again ? ", " : "",
                      again ? "" : sp_arch_at(i)->model_type);
    }
    SPAR_TRY(sp_str_status(&known, err));
    SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                       "%s: model_type: expected one of %s, found %.60s%s%.60s", where,
                       sp_str_get(&known), type, text ? " with " : "", text ? text : ""));
done:
    sp_str_release(&known);
    return status;
}

/* Whether a configuration of the type, with a text_config of model_type text (or without one), has
 * the family's within. */
static bool is_outer(const sp_arch *arch, const char *type, const char *text) {
    return arch->outer_type && strcmp(type, arch->outer_type) == 0 &&
           (!text || strcmp(text, arch->model_type) == 0);
}

/* Whether the configuration is one of those that the row is for. */
static bool is_meant(const sp_arch *arch, const json_t *config) {
    const char *key;
    json_t *values;
    bool meant = true;
    json_t *when = arch->when ? json_loads(arch->when, 0, NULL) : NULL;
    json_object_foreach(when, key, values) {
        const json_t *found = json_object_get(config, key);
        bool same = false;
        for (size_t i = 0; i < json_array_size(values); i++) {
            const json_t *value = json_array_get(values, i);
            same = same || (found ? json_equal(found, value) : json_is_null(value));
        }
        meant = meant && same;
    }
    json_decref(when);
    return meant;
}

static spar_status find_arch(const json_t *config, const sp_arch **out, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    const char *type;
    SPAR_TRY(sp_json_get_string(config, "model_type", &type, where, err));
    const json_t *classes = json_object_get(config, "architectures");
    const char *class_name = json_string_value(json_array_get(classes, 0));
    const json_t *inner = json_object_get(config, "text_config");
    const char *text = json_string_value(json_object_get(inner, "model_type"));
    for (int i = 0; sp_arch_at(i); i++) {
        const sp_arch *arch = sp_arch_at(i);
        const bool outer = is_outer(arch, type, text);
        if ((outer || strcmp(type, arch->model_type) == 0) && is_meant(arch, config)) {
            const char *expected = outer ? arch->outer_class : arch->class_name;
            const bool also = class_name && arch->also_class && !outer &&
                              strcmp(class_name, arch->also_class) == 0;
            if (class_name && !also && strcmp(class_name, expected) != 0) {
                SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                                   "%s: architectures: expected %s for model_type %s, found %s",
                                   where, expected, type, class_name));
            }
            *out = arch;
            goto done;
        }
    }
    SPAR_TRY(refuse_type(where, type, text, err));
done:
    return status;
}

/* SmolLM3: no_rope_layers has a 1 for each layer that rotates (the name notwithstanding); where it
 * is missing, every interval-th layer does not. */
static spar_status read_no_rope(sp_config *c, const json_t *config, const char *where,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t interval;
    const json_t *list = json_object_get(config, "no_rope_layers");
    SPAR_TRY(sp_json_get_int_or(config, "no_rope_layer_interval", 1, SP_MAX_LAYERS,
                                SP_NO_ROPE_INTERVAL, &interval, where, err));
    if (list && !json_is_null(list) && (int)json_array_size(list) != c->layers) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: no_rope_layers: expected %d entries, found %s %d",
                           where, c->layers, sp_json_type_name(list), (int)json_array_size(list)));
    }
    for (int i = 0; i < c->layers; i++) {
        const json_t *rotates = json_array_get(list, (size_t)i);
        c->no_rope[i] = json_is_array(list)
                            ? json_integer_value(rotates) == 0 && !json_is_true(rotates)
                            : (i + 1) % interval == 0;
    }
done:
    return status;
}

static spar_status read_rotates(sp_config *c, const json_t *config, const char *where,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    const char *kind;
    const json_t *value = json_object_get(config, c->arch->rope_key);
    if (value && !json_is_null(value)) {
        SPAR_TRY(sp_json_get_string(config, c->arch->rope_key, &kind, where, err));
    }
    for (int i = 0; i < c->layers; i++) {
        c->no_rope[i] = !json_is_string(value) || strcmp(kind, "rope") != 0;
    }
done:
    return status;
}

static spar_status read_sizes(sp_config *c, const json_t *config, const char *where,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t layers, heads, kv_heads, head_dim;
    SPAR_TRY(sp_json_get_int(config, "vocab_size", 1, 1 << 24, &c->vocab, where, err));
    SPAR_TRY(sp_json_get_int(config, "hidden_size", 1, 1 << 20, &c->hidden, where, err));
    if (c->arch->ffn_times > 0) {
        SPAR_TRY(sp_json_get_int_or(config, ffn_key(c->arch), 1, 1 << 22,
                                    c->hidden * c->arch->ffn_times, &c->ffn, where, err));
    } else {
        SPAR_TRY(sp_json_get_int(config, ffn_key(c->arch), 1, 1 << 22, &c->ffn, where, err));
    }
    SPAR_TRY(sp_json_get_int(config, "num_hidden_layers", 1, SP_MAX_LAYERS, &layers, where, err));
    SPAR_TRY(sp_json_get_int(config, "num_attention_heads", 1, 1 << 14, &heads, where, err));
    SPAR_TRY(sp_json_get_int_or(config, "num_key_value_heads", 1, 1 << 14, heads, &kv_heads, where,
                                err));
    SPAR_TRY(sp_json_get_int_or(config, "head_dim", 2, SP_MAX_HEAD_DIM, 0, &head_dim, where, err));
    SPAR_TRY(sp_json_get_int_or(config, "max_position_embeddings", 1, 1 << 28, 2048, &c->context,
                                where, err));
    double eps;
    SPAR_TRY(sp_json_get_number_or(config, eps_key(c->arch), 1e-6, &eps, where, err));
    c->norm_eps = (float)eps;
    if (head_dim == 0) {
        if (c->hidden % heads != 0) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: hidden_size: expected a multiple of num_attention_heads %d, "
                               "found %lld",
                               where, (int)heads, (long long)c->hidden));
        }
        head_dim = c->hidden / heads;
        if (head_dim > SP_MAX_HEAD_DIM) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: hidden_size: expected at most %d for each of %d heads, found "
                               "%lld",
                               where, SP_MAX_HEAD_DIM, (int)heads, (long long)c->hidden));
        }
    }
    if (c->arch->query_key) {
        bool one;
        SPAR_TRY(sp_json_get_bool_or(config, c->arch->query_key, false, &one, where, err));
        kv_heads = one ? 1 : heads;
    }
    if (heads % kv_heads != 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: num_key_value_heads: expected a divisor of num_attention_heads %d, "
                           "found %d",
                           where, (int)heads, (int)kv_heads));
    }
    if (head_dim % 2 != 0 || !(c->norm_eps > 0) || isinf(c->norm_eps)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: expected an even head_dim and a positive %s, found %d and %g",
                           where, eps_key(c->arch), (int)head_dim, eps));
    }
    for (const sp_fusion *f = c->arch->fusions; f && f->name; f++) {
        if (f->groups > 0 && heads * head_dim % f->groups != 0) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: expected a multiple of %d entries of all heads, as %s has them "
                               "in so many parts, found %lld",
                               where, f->groups, f->name, (long long)(heads * head_dim)));
        }
    }
    c->layers = (int)layers;
    c->heads = (int)heads;
    c->kv_heads = (int)kv_heads;
    c->head_dim = (int)head_dim;
done:
    return status;
}

/* What the rule makes of the key; its own default where it has none. */
static spar_status read_bias(const sp_config *c, const json_t *config, sp_bias_rule rule,
                             const char *key, bool *out, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const bool always = rule == SP_BIAS_QKV || rule == SP_BIAS_ALWAYS;
    SPAR_TRY(sp_json_get_bool_or(config, key, always, out, where, err));
    if (*out && (rule == SP_BIAS_NEVER || rule == SP_BIAS_OUT)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: %s: model_type %s has none", where, key,
                           c->arch->model_type));
    }
    *out = *out || always;
done:
    return status;
}

static spar_status read_biases(sp_config *c, const json_t *config, const char *where,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_arch *a = c->arch;
    SPAR_TRY(read_bias(c, config, a->bias, bias_key(a), &c->attention_bias, where, err));
    SPAR_TRY(read_bias(c, config, a->mlp_bias, mlp_bias_key(a), &c->mlp_bias, where, err));
    c->output_bias =
        a->bias == SP_BIAS_OUT ||
        (c->attention_bias && (a->bias == SP_BIAS_CONFIG || a->bias == SP_BIAS_ALWAYS));
    if (a->out_bias_key) {
        SPAR_TRY(sp_json_get_bool_or(config, a->out_bias_key, false, &c->output_bias, where, err));
    }
done:
    return status;
}

static spar_status read_scores(sp_config *c, const json_t *config, const char *where,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    bool scaled = !c->arch->unscaled;
    if (c->arch->score_keys) {
        SPAR_TRY(sp_json_get_bool_or(config, "scale_attn_weights", true, &scaled, where, err));
        SPAR_TRY(sp_json_get_bool_or(config, "scale_attn_by_inverse_layer_idx", false,
                                     &c->scale_by_layer, where, err));
    }
    c->unscaled = !scaled;
done:
    return status;
}

static spar_status read_alibi(sp_config *c, const json_t *config, const char *where,
                              spar_error *err) {
    bool there = true;
    const spar_status status = c->arch->alibi_key ? sp_json_get_bool_or(config, c->arch->alibi_key,
                                                                        false, &there, where, err)
                                                  : SPAR_OK;
    c->alibi = there ? c->arch->alibi : 0;
    return status;
}

static spar_status read_parallel(sp_config *c, const json_t *config, const char *where,
                                 spar_error *err) {
    c->parallel = c->arch->parallel == SP_PARALLEL_ALWAYS;
    return c->arch->parallel == SP_PARALLEL_CONFIG
               ? sp_json_get_bool_or(config, "use_parallel_residual", false, &c->parallel, where,
                                     err)
               : SPAR_OK;
}

static spar_status read_qk_norm(sp_config *c, const json_t *config, const char *where,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    bool there = true;
    if (c->arch->qk_key) {
        SPAR_TRY(sp_json_get_bool_or(config, c->arch->qk_key, false, &there, where, err));
    }
    c->qk_norm = there ? c->arch->qk_norm : SP_QK_PLAIN;
done:
    return status;
}

bool sp_arch_never_rotates(const sp_config *c, int layer) {
    const bool windows = c->sliding_window > 0 || !c->arch->rope_windowless;
    return c->arch->learned_positions || c->alibi > 0 ||
           (c->arch->rope_in_windows && windows && c->window[layer] == 0);
}

static spar_status read_id(const json_t *value, const char *key, int32_t *ids, int max, int *n,
                           const char *where, spar_error *err) {
    const json_int_t id = json_integer_value(value);
    if (!json_is_integer(value)) {
        return spar_fail(err, SPAR_FORMAT, "%s: %s: expected ids, found %s", where, key,
                         sp_json_type_name(value));
    }
    if (id > INT32_MAX || *n == max) {
        return spar_fail(err, SPAR_LIMIT,
                         "%s: %s: expected at most %d ids of at most %d, found %lld", where, key,
                         max, INT32_MAX, (long long)id);
    }
    if (id >= 0) { /* -1 stands for none */
        ids[(*n)++] = (int32_t)id;
    }
    return SPAR_OK;
}

spar_status sp_config_read_ids(const json_t *config, const char *key, int32_t *ids, int max, int *n,
                               const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *value = json_object_get(config, key);
    *n = 0;
    for (size_t i = 0; i < json_array_size(value); i++) {
        SPAR_TRY(read_id(json_array_get(value, i), key, ids, max, n, where, err));
    }
    if (value && !json_is_null(value) && !json_is_array(value)) {
        SPAR_TRY(read_id(value, key, ids, max, n, where, err));
    }
done:
    return status;
}

static const struct {
    const char *name;
    sp_act act;
} activations[] = {{"silu", SP_SILU},          {"swish", SP_SILU},
                   {"gelu", SP_GELU},          {"gelu_pytorch_tanh", SP_GELU_TANH},
                   {"gelu_new", SP_GELU_TANH}, {"gelu_fast", SP_GELU_TANH},
                   {"relu", SP_RELU},          {"relu2", SP_RELU2},
                   {"xielu", SP_XIELU}};
enum { ACTIVATIONS = sizeof activations / sizeof activations[0] };

static const char *activation_name(sp_act act) {
    int i = 0;
    while (i + 1 < ACTIVATIONS && activations[i].act != act) {
        i++;
    }
    return activations[i].name;
}

static spar_status read_activation(sp_config *c, const json_t *config, const char *where,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    const char *name;
    SPAR_TRY(sp_json_get_string_or(config, act_key(c->arch), activation_name(c->arch->act), &name,
                                   where, err));
    for (int i = 0; i < ACTIVATIONS; i++) {
        const bool known = activations[i].act != SP_XIELU || c->arch->act == SP_XIELU;
        if (known && strcmp(activations[i].name, name) == 0) {
            c->act = activations[i].act;
            c->act = c->act == SP_GELU && c->arch->gelu_by_tanh ? SP_GELU_TANH : c->act;
            goto done;
        }
    }
    SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                       "%s: %s: expected silu, gelu, gelu_pytorch_tanh, relu or relu2, found %s",
                       where, act_key(c->arch), name));
done:
    return status;
}

double *sp_config_number(sp_config *c, const sp_number_key *key) {
    return (double *)(void *)((char *)c + key->place);
}

static spar_status read_numbers(sp_config *c, const json_t *config, const char *where,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    for (const sp_number_key *k = c->arch->numbers; k && k->key; k++) {
        const json_t *value = json_object_get(config, k->key);
        double *number = sp_config_number(c, k);
        if (!value || json_is_null(value)) {
            continue;
        }
        SPAR_TRY(sp_json_get_number_or(config, k->key, 0, number, where, err));
        if (!(*number > 0 && isfinite(*number))) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: %s: expected a positive number, found %g",
                               where, k->key, *number));
        }
    }
    if (c->arch->embed_by_width) {
        c->embed_scale = sqrt((double)c->hidden);
    }
done:
    return status;
}

spar_status sp_arch_defaults(const sp_arch *arch, json_t **out, spar_error *err) {
    *out = NULL;
    return sp_json_parse(out, arch->defaults ? arch->defaults : "{}",
                         arch->defaults ? strlen(arch->defaults) : 2, arch->model_type, err);
}

/* The family's own names of keys become the common ones; returns -1 without memory. */
static int take_aliases(json_t *config, const sp_arch *arch) {
    int code = 0;
    for (const sp_key_alias *k = arch->aliases; k && k->common && code == 0; k++) {
        json_t *value = k->own ? json_object_get(config, k->own) : NULL;
        if (!k->own) {
            json_object_del(config, k->common); /* the family's own code does not read it */
        }
        if (value) {
            code = json_object_set(config, k->common, value);
            json_object_del(config, k->own);
        }
    }
    return code;
}

/* And back, in what is written. */
static void give_aliases(json_t *config, const sp_arch *arch) {
    for (const sp_key_alias *k = arch->aliases; k && k->common; k++) {
        json_t *value = json_object_get(config, k->common);
        if (value && k->own) {
            json_object_set(config, k->own, value);
        }
        json_object_del(config, k->common);
    }
}

/* Rotary settings in the form of transformers 4 stand in place of those that the family's
 * configurations mean by having none. */
static void settle_rope(json_t *config, json_t *defaults) {
    if (json_is_object(json_object_get(config, "rope_scaling"))) {
        json_object_del(defaults, "rope_parameters");
    } else if (json_is_null(json_object_get(config, "rope_parameters"))) {
        json_object_del(config, "rope_parameters");
    }
}

/* Members of an object become keys of the whole; those that change nothing go. Returns -1 without
 * memory. */
static int lift(json_t *config, const char *object) {
    int code = 0;
    const char *key;
    json_t *value;
    json_t *members = json_incref(json_object_get(config, object));
    json_object_foreach(members, key, value) {
        char name[128];
        snprintf(name, sizeof name, "%s.%.80s", object, key);
        if (key[0] != '_' && !lists_key(harmless_keys, key)) {
            code = json_object_set(config, name, value) == 0 ? code : -1;
        }
    }
    json_decref(members);
    json_object_del(config, object);
    return code;
}

/* And back, in what is written. */
static void lower(json_t *config, const char *object) {
    const char *key;
    json_t *value;
    void *next;
    json_t *members = json_object();
    const size_t n = strlen(object);
    json_object_foreach_safe(config, next, key, value) {
        if (strncmp(key, object, n) == 0 && key[n] == '.') {
            json_object_set(members, key + n + 1, value);
            json_object_del(config, key);
        }
    }
    json_object_set_new(config, object, members);
}

/* The part of the configuration that is the family's, with what it leaves out; of an outer one,
 * which has images besides, the text's. *out is a new reference. */
static spar_status complete(const sp_arch *arch, const json_t *config, const char *where,
                            json_t **out, spar_error *err) {
    static const char *const shared[] = {"bos_token_id", "eos_token_id", "pad_token_id",
                                         "tie_word_embeddings"};
    spar_status status = SPAR_OK;
    json_t *defaults = NULL, *whole = NULL;
    const char *type = json_string_value(json_object_get(config, "model_type"));
    const json_t *text = json_object_get(config, "text_config");
    const bool outer = arch->outer_type && type && strcmp(type, arch->outer_type) == 0;
    if (outer && !json_is_object(text)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: text_config: expected an object, found %s", where,
                           sp_json_type_name(text)));
    }
    SPAR_TRY(sp_arch_defaults(arch, &defaults, err));
    whole = json_copy((json_t *)(uintptr_t)(outer ? text : config));
    for (size_t i = 0; outer && whole && i < sizeof shared / sizeof shared[0]; i++) {
        json_t *value = json_object_get(config, shared[i]);
        if (value && !json_object_get(whole, shared[i])) {
            json_object_set(whole, shared[i], value);
        }
    }
    settle_rope(whole, defaults);
    if (!whole || (arch->lifted && lift(whole, arch->lifted) != 0) ||
        take_aliases(whole, arch) != 0 || json_object_update_missing(whole, defaults) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", where));
    }
    *out = whole;
    whole = NULL;
done:
    json_decref(defaults);
    json_decref(whole);
    return status;
}

spar_status sp_config_complete(const json_t *given, const sp_arch **arch, json_t **out,
                               const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    *arch = NULL;
    *out = NULL;
    if (!json_is_object(given)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected an object, found %s", where,
                           sp_json_type_name(given)));
    }
    SPAR_TRY(find_arch(given, arch, where, err));
    SPAR_TRY(complete(*arch, given, where, out, err));
done:
    return status;
}

spar_status sp_config_from_json(sp_config *out, const json_t *given, const char *where,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    sp_config *c = out;
    json_t *config = NULL;
    memset(c, 0, sizeof *c);
    SPAR_TRY(sp_config_complete(given, &c->arch, &config, where, err));
    SPAR_TRY(read_sizes(c, config, where, err));
    SPAR_TRY(sp_conv_read(c, config, where, err));
    SPAR_TRY(sp_mixture_read(c, config, where, err));
    SPAR_TRY(read_activation(c, config, where, err));
    SPAR_TRY(read_numbers(c, config, where, err));
    SPAR_TRY(read_alibi(c, config, where, err));
    SPAR_TRY(sp_json_get_bool_or(config, "tie_word_embeddings", false, &c->tied, where, err));
    SPAR_TRY(read_biases(c, config, where, err));
    SPAR_TRY(sp_rope_read(c, config, where, err));
    SPAR_TRY(sp_window_read(c, config, where, err));
    SPAR_TRY(read_scores(c, config, where, err));
    SPAR_TRY(read_parallel(c, config, where, err));
    SPAR_TRY(read_qk_norm(c, config, where, err));
    if (c->arch->rope_by_layer) {
        SPAR_TRY(read_no_rope(c, config, where, err));
    }
    if (c->arch->rope_key) {
        SPAR_TRY(read_rotates(c, config, where, err));
    }
    for (int i = 0; i < c->layers; i++) {
        c->no_rope[i] = c->no_rope[i] || sp_arch_never_rotates(c, i);
    }
    SPAR_TRY(check_config_keys(config, c->arch, where, err));
    c->bos = c->pad = -1;
    int n;
    SPAR_TRY(sp_config_read_ids(config, "bos_token_id", &c->bos, 1, &n, where, err));
    SPAR_TRY(sp_config_read_ids(config, "pad_token_id", &c->pad, 1, &n, where, err));
    SPAR_TRY(sp_config_read_ids(config, "eos_token_id", c->eos, SP_MAX_EOS, &c->n_eos, where, err));
done:
    json_decref(config);
    return status;
}

void sp_config_add_eos(sp_config *c, int64_t id) {
    for (int i = 0; i < c->n_eos; i++) {
        if (c->eos[i] == id) {
            return;
        }
    }
    if (id >= 0 && id < c->vocab && c->n_eos < SP_MAX_EOS) {
        c->eos[c->n_eos++] = (int32_t)id;
    }
}

static json_t *number_json(const sp_config *c, const sp_number_key *k) {
    const double value = *(const double *)(const void *)((const char *)c + k->place);
    const bool whole = k->whole && value == floor(value);
    return value == 0 ? json_null() : whole ? json_integer((json_int_t)value) : json_real(value);
}

static json_t *id_json(int32_t id) {
    return id < 0 ? json_null() : json_integer(id);
}

/* Whether configurations that say nothing of rotation mean a scaled one. */
static bool has_rope_default(const sp_arch *arch) {
    return arch->defaults && strstr(arch->defaults, "\"rope_parameters\"");
}

json_t *sp_config_to_json(const sp_config *c) {
    json_t *root = json_pack(
        "{s:[s], s:s, s:I, s:I, s:I, s:i, s:i, s:i, s:i, s:I, s:f, s:b, s:s, s:f, s:o, s:s}",
        "architectures", c->arch->class_name, "model_type", c->arch->model_type, "vocab_size",
        (json_int_t)c->vocab, "hidden_size", (json_int_t)c->hidden, ffn_key(c->arch),
        (json_int_t)c->ffn, "num_hidden_layers", c->layers, "num_attention_heads", c->heads,
        "num_key_value_heads", c->kv_heads, "head_dim", c->head_dim, "max_position_embeddings",
        (json_int_t)(c->rope == SP_ROPE_LONG ? c->rope_context : c->context), eps_key(c->arch),
        (double)c->norm_eps, "tie_word_embeddings", c->tied ? 1 : 0, act_key(c->arch),
        activation_name(c->act), "rope_theta", c->rope_theta, "rope_scaling", sp_rope_json(c),
        "torch_dtype", "float32");
    if (!root) {
        return NULL;
    }
    if (c->arch->rope_local) {
        json_object_set_new(root, "rope_parameters", sp_rope_layers_json(c));
    }
    if (has_rope_default(c->arch)) {
        json_object_set_new(root, "rope_parameters", sp_rope_whole_json(c));
    }
    if (c->arch->rope_key) {
        json_object_set_new(root, c->arch->rope_key, json_string(c->no_rope[0] ? "nope" : "rope"));
    }
    if (c->rope == SP_ROPE_LONG) {
        json_object_set_new(root, "original_max_position_embeddings",
                            json_integer(c->rope_original));
    }
    if (c->arch->bias == SP_BIAS_CONFIG || c->arch->bias == SP_BIAS_CONFIG_QKV) {
        json_object_set_new(root, bias_key(c->arch), json_boolean(c->attention_bias));
    }
    if (c->arch->out_bias_key) {
        json_object_set_new(root, c->arch->out_bias_key, json_boolean(c->output_bias));
    }
    if (c->arch->mlp_bias == SP_BIAS_CONFIG) {
        json_object_set_new(root, mlp_bias_key(c->arch), json_boolean(c->mlp_bias));
    }
    if (c->arch->parallel == SP_PARALLEL_CONFIG) {
        json_object_set_new(root, "use_parallel_residual", json_boolean(c->parallel));
    }
    if (c->arch->score_keys) {
        json_object_set_new(root, "scale_attn_weights", json_boolean(!c->unscaled));
        json_object_set_new(root, "scale_attn_by_inverse_layer_idx",
                            json_boolean(c->scale_by_layer));
    }
    if (c->arch->alibi_key) {
        json_object_set_new(root, c->arch->alibi_key, json_boolean(c->alibi > 0));
    }
    if (c->arch->query_key) {
        json_object_set_new(root, c->arch->query_key, json_boolean(c->kv_heads == 1));
    }
    if (c->arch->qk_key) {
        json_object_set_new(root, c->arch->qk_key, json_boolean(c->qk_norm != SP_QK_PLAIN));
    }
    if (c->arch->rotary_key) {
        json_object_set_new(root, c->arch->rotary_key, json_integer(c->rotary_dim));
    }
    if (c->arch->rope_partial) {
        json_object_set_new(root, "partial_rotary_factor",
                            json_real((double)c->rotary_dim / c->head_dim));
    }
    sp_window_write(c, root);
    sp_conv_write(c, root);
    sp_mixture_write(c, root);
    for (const sp_number_key *k = c->arch->numbers; k && k->key; k++) {
        json_object_set_new(root, k->key, number_json(c, k));
    }
    if (c->arch->rope_by_layer) {
        json_t *list = json_array();
        for (int i = 0; i < c->layers; i++) {
            json_array_append_new(list, json_integer(c->no_rope[i] ? 0 : 1));
        }
        json_object_set_new(root, "no_rope_layers", list);
    }
    json_object_set_new(root, "bos_token_id", id_json(c->bos));
    json_object_set_new(root, "pad_token_id", id_json(c->pad));
    json_object_set_new(root, "eos_token_id", id_json(c->n_eos ? c->eos[0] : -1));
    give_aliases(root, c->arch);
    if (c->arch->lifted) {
        lower(root, c->arch->lifted);
    }
    json_t *more = c->arch->written ? json_loads(c->arch->written, 0, NULL) : NULL;
    if (more) {
        json_object_update(root, more);
        json_decref(more);
    }
    return root;
}

double sp_config_attention_scale(const sp_config *c, int layer) {
    const double plain = c->unscaled ? 1.0 : (double)c->head_dim;
    const double scalar = c->query_scalar > 0 ? c->query_scalar : plain;
    const double scale = c->attention_scale > 0 ? c->attention_scale : 1.0 / sqrt(scalar);
    return c->scale_by_layer ? scale / (layer + 1) : scale;
}
