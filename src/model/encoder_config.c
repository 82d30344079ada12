#include "model/encoder_config.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "model/arch_parts.h"

enum { MAX_LAYERS = 512, MAX_RELATIVE_ROW = 1 << 15 };

static const sp_encoder_arch architectures[] = {
    {.model_type = "bert",
     .class_name = "BertForSequenceClassification",
     .prefix = "bert.",
     .query = "query",
     .key = "key",
     .value = "value",
     .head_dense = "bert.pooler.dense",
     .head_out = "classifier",
     .norm_eps = 1e-12,
     .types = 2},
    {.model_type = "roberta",
     .class_name = "RobertaForSequenceClassification",
     .prefix = "roberta.",
     .query = "query",
     .key = "key",
     .value = "value",
     .head_dense = "classifier.dense",
     .head_out = "classifier.out_proj",
     .norm_eps = 1e-12,
     .types = 2,
     .positions_after_pad = true},
    {.model_type = "xlm-roberta",
     .class_name = "XLMRobertaForSequenceClassification",
     .prefix = "roberta.",
     .query = "query",
     .key = "key",
     .value = "value",
     .head_dense = "classifier.dense",
     .head_out = "classifier.out_proj",
     .norm_eps = 1e-12,
     .types = 2,
     .positions_after_pad = true},
    {.model_type = "deberta-v2",
     .class_name = "DebertaV2ForSequenceClassification",
     .prefix = "deberta.",
     .query = "query_proj",
     .key = "key_proj",
     .value = "value_proj",
     .head_dense = "pooler.dense",
     .head_out = "classifier",
     .norm_eps = 1e-7,
     .disentangled = true,
     .head_act_config = true},
    {.model_type = "deberta-v2",
     .class_name = "DebertaV2PairRM",
     .prefix = "pretrained_model.",
     .query = "query_proj",
     .key = "key_proj",
     .value = "value_proj",
     .head_dense = "head_layer.1",
     .head_out = "head_layer.4",
     .norm_eps = 1e-7,
     .disentangled = true,
     .pair = true},
};

static const struct {
    const char *name;
    sp_act act;
} activations[] = {
    {"gelu", SP_GELU}, {"gelu_new", SP_GELU_TANH}, {"gelu_pytorch_tanh", SP_GELU_TANH},
    {"relu", SP_RELU}, {"tanh", SP_TANH},
};

static spar_status find_arch(const json_t *config, const sp_encoder_arch **out, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    const char *type;
    SPAR_TRY(sp_json_get_string(config, "model_type", &type, where, err));
    const char *class_name =
        json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
    const char *expected = NULL;
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++) {
        const sp_encoder_arch *arch = &architectures[i];
        if (strcmp(type, arch->model_type) == 0) {
            if (class_name && strcmp(class_name, arch->class_name) == 0) {
                *out = arch;
                goto done;
            }
            expected = expected ? expected : arch->class_name;
        }
    }
    status = expected ? spar_fail(err, SPAR_UNSUPPORTED,
                                  "%s: architectures: expected a judge, %s for one, found %s",
                                  where, expected, class_name ? class_name : "nothing")
                      : spar_fail(err, SPAR_UNSUPPORTED,
                                  "%s: model_type: expected bert, roberta, xlm-roberta or "
                                  "deberta-v2, found %s",
                                  where, type);
done:
    return status;
}

/* What is read, and beside what changes nothing in any family: dropout, settings of poolers that no
 * such model has, and who wrote the file. */
#define KNOWN_KEYS                                                                                 \
    " architectures model_type vocab_size hidden_size embedding_size intermediate_size "           \
    "num_hidden_layers num_attention_heads max_position_embeddings type_vocab_size pad_token_id "  \
    "layer_norm_eps hidden_act pooler_hidden_act position_embedding_type relative_attention "      \
    "position_biased_input share_att_key max_relative_positions position_buckets norm_rel_ebd "    \
    "pos_att_type conv_kernel_size conv_groups conv_act bos_token_id eos_token_id eos_token_ids "  \
    "tie_word_embeddings attention_probs_dropout_prob hidden_dropout_prob pooler_dropout legacy "  \
    "directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers "               \
    "pooler_size_per_head pooler_type output_past summary_activation summary_last_dropout "        \
    "summary_type summary_use_proj sentence_transformers "

static bool is_set(const json_t *value) {
    return value && !json_is_null(value) && !json_is_false(value) &&
           !(json_is_number(value) && json_number_value(value) == 0.0);
}

/* Every key is read, known to be harmless, or refused; PairRM's own are its trainer's. */
static spar_status check_keys(const json_t *config, const char *where, spar_error *err) {
    const json_t *width = json_object_get(config, "pooler_hidden_size");
    const bool same = json_equal(width, json_object_get(config, "hidden_size"));
    return sp_arch_check_keys(config, same ? KNOWN_KEYS "pooler_hidden_size " : KNOWN_KEYS, "",
                              where, err);
}

static spar_status check_refused(const json_t *config, const char *where, spar_error *err) {
    static const char *const refused[] = {"is_decoder", "add_cross_attention",
                                          "quantization_config", "attention_head_size"};
    spar_status status = SPAR_OK;
    const char *position;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (is_set(json_object_get(config, refused[i]))) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                               "%s: %s is set, which changes the model's mathematics in a way that "
                               "spar does not support",
                               where, refused[i]));
        }
    }
    SPAR_TRY(sp_json_get_string_or(config, "position_embedding_type", "absolute", &position, where,
                                   err));
    if (strcmp(position, "absolute") != 0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: position_embedding_type: expected absolute, found %s", where,
                           position));
    }
done:
    return status;
}

static spar_status read_activation(const json_t *config, const char *key, const char *fallback,
                                   sp_act *out, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *name;
    SPAR_TRY(sp_json_get_string_or(config, key, fallback, &name, where, err));
    for (size_t i = 0; i < sizeof activations / sizeof activations[0]; i++) {
        if (strcmp(name, activations[i].name) == 0) {
            *out = activations[i].act;
            goto done;
        }
    }
    status = spar_fail(err, SPAR_UNSUPPORTED,
                       "%s: %s: expected gelu, gelu_new, relu or tanh, "
                       "found %s",
                       where, key, name);
done:
    return status;
}

static spar_status read_sizes(sp_encoder_config *c, const json_t *config, const char *where,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t layers, heads, pad;
    double eps;
    SPAR_TRY(sp_json_get_int(config, "vocab_size", 1, 1 << 24, &c->vocab, where, err));
    SPAR_TRY(sp_json_get_int(config, "hidden_size", 1, 1 << 20, &c->hidden, where, err));
    SPAR_TRY(sp_json_get_int_or(config, "embedding_size", 1, 1 << 20, c->hidden, &c->embedding,
                                where, err));
    SPAR_TRY(sp_json_get_int(config, "intermediate_size", 1, 1 << 22, &c->ffn, where, err));
    SPAR_TRY(sp_json_get_int(config, "num_hidden_layers", 1, MAX_LAYERS, &layers, where, err));
    SPAR_TRY(sp_json_get_int(config, "num_attention_heads", 1, 1 << 14, &heads, where, err));
    SPAR_TRY(sp_json_get_int_or(config, "max_position_embeddings", 1, 1 << 24, 512, &c->positions,
                                where, err));
    SPAR_TRY(sp_json_get_int_or(config, "type_vocab_size", 0, 1 << 16, c->arch->types, &c->types,
                                where, err));
    SPAR_TRY(sp_json_get_int_or(config, "pad_token_id", 0, INT32_MAX,
                                c->arch->positions_after_pad ? 1 : 0, &pad, where, err));
    SPAR_TRY(sp_json_get_number_or(config, "layer_norm_eps", c->arch->norm_eps, &eps, where, err));
    if (c->hidden % heads != 0 || !(eps > 0)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: expected a hidden_size that %d heads divide and a positive "
                           "layer_norm_eps, found %lld and %g",
                           where, (int)heads, (long long)c->hidden, eps));
    }
    if (c->embedding != c->hidden && !c->arch->disentangled) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: embedding_size: expected %lld, found %lld",
                           where, (long long)c->hidden, (long long)c->embedding));
    }
    c->layers = (int)layers;
    c->heads = (int)heads;
    c->norm_eps = (float)eps;
    c->pad = (int32_t)pad;
    c->absolute = true;
    c->terms = 1;
    if (sp_encoder_config_context(c) < 1) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: max_position_embeddings: expected more than pad_token_id + 1, "
                           "found %lld",
                           where, (long long)c->positions));
    }
done:
    return status;
}

/* Whether a list (["p2c", "c2p"]) or its older form ("p2c|c2p") names an item. */
static bool names(const json_t *list, const char *item) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *entry = json_string_value(json_array_get(list, i));
        if (entry && strcmp(entry, item) == 0) {
            return true;
        }
    }
    return json_is_string(list) && strstr(json_string_value(list), item) != NULL;
}

static spar_status read_relative(sp_encoder_config *c, const json_t *config, const char *where,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    bool relative;
    const bool c2p = names(json_object_get(config, "pos_att_type"), "c2p");
    const bool p2c = names(json_object_get(config, "pos_att_type"), "p2c");
    c->terms = 1 + c2p + p2c;
    SPAR_TRY(sp_json_get_bool_or(config, "position_biased_input", true, &c->absolute, where, err));
    SPAR_TRY(sp_json_get_bool_or(config, "relative_attention", false, &relative, where, err));
    if (!relative) {
        goto done;
    }
    SPAR_TRY(sp_json_get_bool_or(config, "share_att_key", false, &c->shared, where, err));
    SPAR_TRY(sp_json_get_int_or(config, "max_relative_positions", -1, 1 << 20, -1, &c->max_distance,
                                where, err));
    SPAR_TRY(
        sp_json_get_int_or(config, "position_buckets", -1, 1 << 20, -1, &c->buckets, where, err));
    c->max_distance = c->max_distance < 1 ? c->positions : c->max_distance;
    c->buckets = c->buckets < 1 ? 0 : c->buckets;
    c->span = c->buckets ? c->buckets : c->max_distance;
    c->c2p = c2p;
    c->p2c = p2c;
    c->norm_relative = names(json_object_get(config, "norm_rel_ebd"), "layer_norm");
    if (c->buckets && (c->buckets < 4 || c->max_distance - 1 <= c->buckets / 2)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: position_buckets: expected 4 or more, half of them below the "
                           "longest relative position %lld, found %lld",
                           where, (long long)c->max_distance, (long long)c->buckets));
    }
done:
    return status;
}

/* The convolution of DeBERTa-v2's larger models; its result is as long as the row where the kernel
 * is odd. */
static spar_status read_convolution(sp_encoder_config *c, const json_t *config, const char *where,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t groups;
    SPAR_TRY(sp_json_get_int_or(config, "conv_kernel_size", 0, 255, 0, &c->taps, where, err));
    SPAR_TRY(sp_json_get_int_or(config, "conv_groups", 1, 1 << 20, 1, &groups, where, err));
    SPAR_TRY(read_activation(config, "conv_act", "tanh", &c->conv_act, where, err));
    if (c->taps > 0 && (c->taps % 2 == 0 || groups != 1)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: conv_kernel_size: expected an odd kernel in one group, found %lld "
                           "in %lld",
                           where, (long long)c->taps, (long long)groups));
    }
done:
    return status;
}

static spar_status read_special(sp_encoder_config *c, const json_t *config, const char *where,
                                spar_error *err) {
    const struct {
        const char *key;
        int64_t fallback; /* -1: the key must be there */
        int32_t *out;
    } ids[] = {{"source_prefix_id", -1, &c->source},
               {"cand1_prefix_id", -1, &c->first},
               {"cand2_prefix_id", -1, &c->second},
               {"cls_token_id", 1, &c->cls},
               {"sep_token_id", 2, &c->sep}};
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        int64_t id;
        const int64_t last = c->vocab - 1;
        SPAR_TRY(ids[i].fallback < 0 ? sp_json_get_int(config, ids[i].key, 0, last, &id, where, err)
                                     : sp_json_get_int_or(config, ids[i].key, 0, last,
                                                          ids[i].fallback, &id, where, err));
        *ids[i].out = (int32_t)id;
    }
done:
    return status;
}

spar_status sp_encoder_config_read(sp_encoder_config *out, const json_t *config, const char *where,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    sp_encoder_config *c = out;
    memset(c, 0, sizeof *c);
    if (!json_is_object(config)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected an object, found %s", where,
                           sp_json_type_name(config)));
    }
    SPAR_TRY(find_arch(config, &c->arch, where, err));
    SPAR_TRY(check_refused(config, where, err));
    if (!c->arch->pair) {
        SPAR_TRY(check_keys(config, where, err));
    }
    SPAR_TRY(read_sizes(c, config, where, err));
    SPAR_TRY(read_activation(config, "hidden_act", "gelu", &c->act, where, err));
    c->head_act = SP_TANH;
    if (c->arch->head_act_config) {
        SPAR_TRY(read_activation(config, "pooler_hidden_act", "gelu", &c->head_act, where, err));
    }
    if (c->arch->disentangled) {
        SPAR_TRY(read_relative(c, config, where, err));
        SPAR_TRY(read_convolution(c, config, where, err));
    }
    if (c->arch->pair) {
        SPAR_TRY(read_special(c, config, where, err));
    }
done:
    return status;
}

int32_t sp_encoder_bucket(const sp_encoder_config *c, int64_t distance) {
    const int64_t size = distance < 0 ? -distance : distance, mid = c->buckets / 2;
    int64_t bucket = size;
    if (c->buckets && size > mid) {
        /* In f32, as the reference has it: a ceil turns on the last bit. */
        const float steps = logf((float)size / (float)mid) /
                            logf((float)((double)(c->max_distance - 1) / (double)mid));
        bucket = (int64_t)ceilf(steps * (float)(mid - 1)) + mid;
    }
    const int64_t row = (distance < 0 ? -bucket : bucket) + c->span;
    return (int32_t)(row < 0 ? 0 : row >= 2 * c->span ? 2 * c->span - 1 : row);
}

int64_t sp_encoder_config_context(const sp_encoder_config *c) {
    if (!c->absolute) {
        return MAX_RELATIVE_ROW;
    }
    return c->positions - (c->arch->positions_after_pad ? (int64_t)c->pad + 1 : 0);
}
