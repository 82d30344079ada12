/* Configurations of the families of GPT-2's time: what keys mean that they leave out, as in
 * transformers' configuration classes, keys of their own, and settings that are refused by name. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "model/arch.h"

/* The keys of a small model: {"model_type": TYPE, SIZES of the family, MORE}. */
static const struct family {
    const char *type, *sizes;
} families[] = {
    {"gpt_neo", "\"hidden_size\": 8, \"num_layers\": 3, \"num_heads\": 2"},
    {"opt", "\"hidden_size\": 8, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, "
            "\"ffn_dim\": 24"},
    {"gptj", "\"n_embd\": 8, \"n_layer\": 2, \"n_head\": 2"},
    {"codegen", "\"n_embd\": 8, \"n_layer\": 2, \"n_head\": 2"},
    {"bloom", "\"n_embed\": 8, \"n_layer\": 2, \"num_attention_heads\": 2"},
    {"mpt", "\"d_model\": 8, \"n_layers\": 2, \"n_heads\": 2"},
    {"falcon", "\"hidden_size\": 8, \"num_hidden_layers\": 2, \"num_attention_heads\": 2"},
    {"gpt_bigcode", "\"n_embd\": 8, \"n_layer\": 2, \"n_head\": 2"},
};

static const char *sizes_of(const char *type) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        if (strcmp(families[i].type, type) == 0) {
            return families[i].sizes;
        }
    }
    fail_msg("no sizes of %s", type);
    return NULL;
}

static spar_status read(sp_config *out, const char *type, const char *more, spar_error *err) {
    char text[1024];
    json_t *json;
    const int n =
        snprintf(text, sizeof text, "{\"model_type\": \"%s\", \"vocab_size\": 16, %s%s%s}", type,
                 sizes_of(type), *more ? ", " : "", more);
    if (sp_json_parse(&json, text, (size_t)n, "config.json", err) != SPAR_OK) {
        fail_msg("%s", err->message);
    }
    const spar_status status = sp_config_from_json(out, json, "config.json", err);
    json_decref(json);
    return status;
}

static sp_config config_of(const char *type, const char *more) {
    sp_config c;
    spar_error err;
    if (read(&c, type, more, &err) != SPAR_OK) {
        fail_msg("%s", err.message);
    }
    return c;
}

/* A whole configuration. */
static void refused_text(const char *text, const char *word) {
    sp_config c;
    spar_error err;
    json_t *json;
    if (sp_json_parse(&json, text, strlen(text), "config.json", &err) != SPAR_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(sp_config_from_json(&c, json, "config.json", &err), SPAR_FORMAT);
    json_decref(json);
    if (!strstr(err.message, word)) {
        fail_msg("expected %s in: %s", word, err.message);
    }
}

static void refused(const char *type, const char *more, const char *word) {
    sp_config c;
    spar_error err;
    if (read(&c, type, more, &err) == SPAR_OK) {
        fail_msg("%s with %s was taken", type, more);
    }
    if (!strstr(err.message, word)) {
        fail_msg("expected %s in: %s", word, err.message);
    }
}

#define ROTARY "\"rotary_dim\": 2"
#define THREE "\"attention_layers\": [\"local\", \"global\", \"local\"]"

/* What is left out, of a model with heads of 4 entries. */
static void test_left_out(void **state) {
    (void)state;
    static const struct {
        const char *type, *more;
        int64_t context, ffn;
        double eps;
        int kv_heads, eos;
        bool tied;
        sp_act act;
    } cases[] = {
        {"gpt_neo", THREE, 2048, 32, 1e-5, 2, 50256, true, SP_GELU_TANH},
        {"opt", "", 2048, 24, 1e-5, 2, 2, true, SP_RELU},
        {"gptj", ROTARY, 2048, 32, 1e-5, 2, 50256, false, SP_GELU_TANH},
        {"codegen", ROTARY, 2048, 32, 1e-5, 2, 50256, false, SP_GELU_TANH},
        {"bloom", "", 2048, 32, 1e-5, 2, 2, true, SP_GELU_TANH},
        {"mpt", "", 2048, 32, 1e-5, 2, -1, true, SP_GELU},
        {"falcon", "", 2048, 32, 1e-5, 1, 11, true, SP_GELU},
        {"falcon", "\"new_decoder_architecture\": true", 2048, 32, 1e-5, 2, 11, true, SP_GELU},
        {"gpt_bigcode", "", 1024, 32, 1e-5, 1, 50256, true, SP_GELU_TANH}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const sp_config c = config_of(cases[i].type, cases[i].more);
        print_message("%s\n", cases[i].type);
        assert_int_equal(c.context, cases[i].context);
        assert_int_equal(c.ffn, cases[i].ffn);
        assert_true(c.norm_eps == (float)cases[i].eps);
        assert_int_equal(c.kv_heads, cases[i].kv_heads);
        assert_int_equal(c.n_eos ? c.eos[0] : -1, cases[i].eos);
        assert_int_equal(c.tied, cases[i].tied);
        assert_int_equal(c.act, cases[i].act);
    }
}

/* GPT-Neo's layers: attention_layers, else attention_types, which may repeat. */
static void test_local_layers(void **state) {
    (void)state;
    sp_config c = config_of("gpt_neo", THREE);
    assert_int_equal(c.window[0], 256);
    assert_int_equal(c.window[1], 0);
    assert_int_equal(c.window[2], 256);
    assert_true(sp_config_attention_scale(&c, 0) == 1.0);
    c = config_of("gpt_neo", "\"attention_types\": [[[\"global\"], 2], [[\"local\"], 1]], "
                             "\"window_size\": 5");
    assert_int_equal(c.window[1], 0);
    assert_int_equal(c.window[2], 5);
    refused("gpt_neo", "", "attention_types: expected 3 layers, found 24");
    refused("gpt_neo", "\"attention_types\": [[[\"global\"], -1]]", "attention_types[0]");
    refused("gpt_neo", "\"attention_types\": [[[\"global\"], 1000000000]]", "attention_types[0]");
    refused("gpt_neo", "\"attention_layers\": [\"local\", \"global\", \"sparse\"]", "sparse");
    refused("gpt_neo", "\"window_size\": 0, " THREE, "window_size");
}

/* What OPT's first sizes have and others not. */
static void test_opt(void **state) {
    (void)state;
    sp_config c = config_of("opt", "\"enable_bias\": false, \"word_embed_proj_dim\": 8, "
                                   "\"layer_norm_elementwise_affine\": true");
    assert_false(c.attention_bias || c.output_bias || c.mlp_bias);
    c = config_of("opt", "\"word_embed_proj_dim\": null");
    assert_true(c.attention_bias && c.output_bias && c.mlp_bias);
    refused("opt", "\"word_embed_proj_dim\": 4", "word_embed_proj_dim");
    refused("opt", "\"do_layer_norm_before\": false", "do_layer_norm_before");
    refused("opt", "\"_remove_final_layer_norm\": true", "_remove_final_layer_norm");
    refused("opt", "\"layer_norm_elementwise_affine\": false", "layer_norm_elementwise_affine");
}

static void test_bigcode(void **state) {
    (void)state;
    const sp_config c =
        config_of("gpt_bigcode", "\"multi_query\": false, \"pad_key_length\": true");
    assert_int_equal(c.kv_heads, 2);
    refused("gpt_bigcode", "\"scale_attn_weights\": false", "scale_attn_weights");
    refused("gpt_bigcode", "\"add_cross_attention\": true", "add_cross_attention");
    refused("gpt_bigcode", "\"multi_query\": 1", "multi_query");
}

/* A number of entries that turn, 64 where it is left out, which heads here have not. */
static void test_rotary_dim(void **state) {
    (void)state;
    const sp_config c = config_of("gptj", ROTARY ", \"rotary\": true");
    assert_int_equal(c.rotary_dim, 2);
    refused("gptj", "", "rotary_dim");
    refused("gptj", "\"rotary_dim\": 3", "rotary_dim: expected an even number");
    refused("gptj", "\"rotary_dim\": null", "rotary_dim");
    refused_text("{\"model_type\": \"codegen\", \"vocab_size\": 16, \"n_embd\": 6, \"n_layer\": 2, "
                 "\"n_head\": 3, \"rotary_dim\": 2}",
                 "multiple of 4 entries");
    refused("codegen", ROTARY ", \"tie_word_embeddings\": true", "tie_word_embeddings");
}

/* What attn_config has in it, and slopes of heads that are no power of two. */
static void test_alibi(void **state) {
    (void)state;
    static const double six[] = {0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125};
    float slopes[6];
    sp_config c =
        config_of("mpt", "\"attn_config\": {\"alibi\": true, \"clip_qkv\": 6, \"prefix_lm\": "
                         "false, \"softmax_scale\": 0.5, \"attn_impl\": \"triton\"}");
    assert_true(c.qkv_bound == 6 && sp_config_attention_scale(&c, 0) == 0.5 && c.no_rope[1]);
    c.heads = 6;
    sp_alibi_slopes(&c, slopes);
    for (int h = 0; h < 6; h++) {
        assert_true((double)slopes[h] == six[h]);
    }
    json_t *json = sp_config_to_json(&c);
    const json_t *inner = json_object_get(json, "attn_config");
    assert_true(json_number_value(json_object_get(inner, "clip_qkv")) == 6);
    json_decref(json);
    refused("mpt", "\"attn_config\": {\"alibi\": false}", "attn_config.alibi");
    refused("mpt", "\"attn_config\": {\"alibi_bias_max\": 16}", "attn_config.alibi_bias_max");
    refused("mpt", "\"attn_config\": {\"qk_ln\": true}", "attn_config.qk_ln");
    refused("mpt", "\"attn_config\": {\"prefix_lm\": true}", "attn_config.prefix_lm");
    refused("mpt", "\"attn_config\": {\"attn_type\": \"multiquery_attention\"}", "attn_type");
    refused("mpt", "\"no_bias\": false", "no_bias");
    refused("mpt", "\"expansion_ratio\": 2", "expansion_ratio");
    refused("mpt", "\"logit_scale\": \"inv_sqrt_d_model\"", "logit_scale");
    refused("bloom", "\"apply_residual_connection_post_layernorm\": true",
            "apply_residual_connection_post_layernorm");
}

/* Which of Falcon's rows a configuration means. */
static void test_falcon(void **state) {
    (void)state;
#define NEW "\"new_decoder_architecture\": true"
    sp_config c = config_of("falcon", "");
    assert_true(c.parallel && c.arch->one_norm && c.alibi == 0 && !c.no_rope[0]);
    c = config_of("falcon", "\"alibi\": true, \"parallel_attn\": false, \"multi_query\": false, "
                            "\"bias\": true, \"num_kv_heads\": 1");
    assert_true(!c.parallel && c.alibi == 8 && c.no_rope[0] && c.mlp_bias && c.kv_heads == 2);
    c = config_of("falcon", NEW ", \"num_ln_in_parallel_attn\": null, \"num_kv_heads\": 1");
    assert_true(c.parallel && !c.arch->one_norm && c.kv_heads == 1);
    c = config_of("falcon", NEW ", \"num_ln_in_parallel_attn\": 1, \"multi_query\": true");
    assert_true(c.parallel && c.arch->one_norm && c.kv_heads == 2);
    refused("falcon", NEW ", \"num_ln_in_parallel_attn\": 3", "num_ln_in_parallel_attn");
    refused("falcon", NEW ", \"parallel_attn\": false", "parallel");
    refused("falcon", "\"new_decoder_architecture\": 1", "new_decoder_architecture");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_left_out), cmocka_unit_test(test_local_layers),
        cmocka_unit_test(test_opt),      cmocka_unit_test(test_falcon),
        cmocka_unit_test(test_alibi),    cmocka_unit_test(test_rotary_dim),
        cmocka_unit_test(test_bigcode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
