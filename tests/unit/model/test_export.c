/* Export: GGUF files and folders of other number types, and back. Tensors of F32 and of values that
 * BF16 holds come back to the bit, the tokenizer gives the same ids, and quantised tensors are
 * those of their rounding. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "gguf_fixture.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "model/engine.h"
#include "model/model_create.h"
#include "quickstart_model.h"
#include "support.h"

static const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 1};
static char root_folder[TEST_PATH_MAX];

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static const char *in_folder(const char *name) {
    static char path[4][TEST_PATH_MAX + 32];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", root_folder, name);
    return path[turn];
}

static int setup(void **state) {
    (void)state;
    test_temp_dir(root_folder);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    return sp_dir_remove(root_folder, NULL) == SPAR_OK ? 0 : -1;
}

/* A model whose weights are small multiples of 1/64, which bf16 and f16 hold. */
static spar_model *make_model(const char *type, const char *more, int hidden) {
    char text[1024];
    json_t *json;
    spar_error err;
    sp_config config;
    spar_model *m;
    const int n = snprintf(text, sizeof text,
                           "{\"model_type\": \"%s\", \"vocab_size\": 40, \"hidden_size\": %d, "
                           "\"intermediate_size\": 96, \"num_hidden_layers\": 5, "
                           "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
                           "\"max_position_embeddings\": 64, \"eos_token_id\": 2%s}",
                           type, hidden, more);
    check(sp_json_parse(&json, text, (size_t)n, "config", &err), &err);
    check(sp_config_from_json(&config, json, "config", &err), &err);
    json_decref(json);
    check(sp_model_create(&m, &config, "random", &options, NULL, &err), &err);
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        for (int64_t k = 0; k < p->count; k++) {
            m->weights[p->offset + k] = (float)((k * 37 + i * 11) % 127 - 63) / 64.0F;
        }
    }
    return m;
}

/* The same parameters by name, of the same bits. */
static void same_weights(const spar_model *a, const spar_model *b) {
    assert_int_equal(a->params.n, b->params.n);
    for (int i = 0; i < a->params.n; i++) {
        const sp_param *p = &a->params.items[i], *q = &b->params.items[i];
        assert_string_equal(p->name, q->name);
        assert_int_equal(p->count, q->count);
        if (memcmp(a->weights + p->offset, b->weights + q->offset,
                   (size_t)p->count * sizeof *a->weights) != 0) {
            fail_msg("%s differs", p->name);
        }
    }
}

static spar_model *load(const char *path) {
    spar_error err;
    spar_model *m;
    check(spar_model_load(&m, path, &options, &err), &err);
    return m;
}

/* What the families' own keys say; files have these numbers in f32. */
static void same_numbers(sp_config *a, sp_config *b) {
    for (const sp_number_key *k = a->arch->numbers; k && k->key; k++) {
        assert_true((float)*sp_config_number(a, k) == (float)*sp_config_number(b, k));
    }
    assert_true(a->embed_scale == b->embed_scale && a->act == b->act);
    assert_true((float)a->rope_growth == (float)b->rope_growth);
    assert_true(a->norm_eps == b->norm_eps && a->rotary_dim == b->rotary_dim);
    assert_true(a->parallel == b->parallel && a->context == b->context);
    assert_true(a->tied == b->tied);
    assert_true(a->rope == b->rope && a->rope_theta == b->rope_theta);
    assert_true(a->rope_original == b->rope_original && a->rope_exact == b->rope_exact);
    assert_true(a->rope_context == b->rope_context);
    assert_true(a->rope_fast == b->rope_fast && a->rope_slow == b->rope_slow);
    assert_true(fabs(a->rope_attention - b->rope_attention) <= 1e-6 * a->rope_attention);
    assert_true(a->rope == SP_ROPE_DEFAULT || a->rope == SP_ROPE_LONG ||
                a->rope_factor == b->rope_factor);
    for (int i = 0; i < a->rotary_dim / 2; i++) {
        assert_true((float)a->rope_short[i] == (float)b->rope_short[i]);
        assert_true((float)a->rope_long[i] == (float)b->rope_long[i]);
    }
}

static void refuse_export(const char *type, const char *more, const char *word) {
    spar_error err;
    spar_model *m = make_model(type, more, 64);
    assert_int_equal(spar_model_export(m, in_folder("no.gguf"), "f32", &err), SPAR_UNSUPPORTED);
    if (!strstr(err.message, word)) {
        fail_msg("expected %s in: %s", word, err.message);
    }
    spar_model_free(m);
}

#define YARN                                                                                       \
    ", \"rope_scaling\": {\"rope_type\": \"yarn\", \"original_max_position_embeddings\": 32"
#define LONG                                                                                       \
    ", \"original_max_position_embeddings\": 48, \"rope_scaling\": {\"rope_type\": \"longrope\", " \
    "\"short_factor\": [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7], "                                   \
    "\"long_factor\": [2, 3, 4, 5, 6, 7, 8, 9]"

/* Settings that readers of the files know by the family are not written where they are others. */
static void test_unsaid(void **state) {
    (void)state;
    refuse_export("gemma2", ", \"head_dim\": 24", "query_pre_attn_scalar");
    refuse_export("gemma2",
                  ", \"head_dim\": 24, \"query_pre_attn_scalar\": 24, "
                  "\"final_logit_softcapping\": null",
                  "final_logit_softcapping");
    refuse_export("gemma3_text",
                  ", \"head_dim\": 24, \"query_pre_attn_scalar\": 24, "
                  "\"sliding_window_pattern\": 2",
                  "pattern of windows");
    refuse_export("llama", ", \"hidden_act\": \"gelu\"", "activation");
    refuse_export("gpt2", ", \"activation_function\": \"relu\"", "activation");
    refuse_export("lfm2", "", "one kind");
    refuse_export("lfm2", ", \"full_attn_idxs\": []", "one kind");
    refuse_export("apertus", ", \"hidden_act\": \"relu2\"", "activation");
    refuse_export("cohere", ", \"use_qk_norm\": true", "norms of queries and keys");
    refuse_export("qwen2", ", \"use_sliding_window\": true, \"sliding_window\": 8", "window");
    refuse_export("exaone4", ", \"sliding_window\": 8", "windows in a model");
    refuse_export("helium", "", "helium");
    refuse_export("nanochat", "", "nanochat");
    refuse_export("vaultgemma", ", \"head_dim\": 24", "vaultgemma");
    refuse_export("ministral3",
                  ", \"head_dim\": 24, \"rope_scaling\": {\"type\": \"default\", "
                  "\"llama_4_scaling_beta\": 0.1, \"original_max_position_embeddings\": 16}",
                  "llama_4_scaling_beta");
    refuse_export("ministral", ", \"sliding_window\": 8", "a sliding window");
    refuse_export("cwm", ", \"sliding_window\": 8, \"rope_scaling\": {\"type\": \"default\"}",
                  "a sliding window");
    refuse_export("cohere2", ", \"sliding_window_pattern\": 2", "pattern of windows");
    refuse_export("qwen2", YARN ", \"factor\": 4, \"beta_fast\": 16}", "yarn with beta_fast");
    refuse_export("qwen2", YARN ", \"factor\": 4, \"beta_slow\": 2}", "yarn with beta_fast");
    refuse_export("qwen2", YARN ", \"factor\": 4, \"truncate\": false}", "truncate");
    refuse_export("olmo3", YARN ", \"factor\": 4, \"attention_factor\": 1.3}", "attention_factor");
    refuse_export("qwen2", LONG "}", "longrope");
    refuse_export("qwen2", ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}", "dynamic");
}

/* Biases and heads that llama.cpp's graphs of a family have not, or always have: each family's own
 * key turned over is refused by its name. */
static void test_fixed(void **state) {
    (void)state;
    static const struct {
        const char *type, *more, *word;
    } cases[] = {
        {"qwen3", "\"attention_bias\": true", "attention_bias: expected false"},
        {"qwen3_moe",
         "\"attention_bias\": true, \"num_experts\": 2, \"moe_intermediate_size\": 8, "
         "\"num_experts_per_tok\": 1, \"norm_topk_prob\": true",
         "attention_bias: expected false"},
        {"olmoe", "\"attention_bias\": true, \"num_experts\": 2, \"num_experts_per_tok\": 1",
         "attention_bias: expected false"},
        {"smollm3", "\"attention_bias\": true", "attention_bias: expected false"},
        {"smollm3", "\"mlp_bias\": true", "mlp_bias: expected false"},
        {"gemma", "\"attention_bias\": true", "attention_bias: expected false"},
        {"gemma", "\"tie_word_embeddings\": false", "tie_word_embeddings: expected true"},
        {"gemma2", "\"attention_bias\": true", "attention_bias: expected false"},
        {"gemma2", "\"tie_word_embeddings\": false", "tie_word_embeddings: expected true"},
        {"gemma3_text", "\"attention_bias\": true", "attention_bias: expected false"},
        {"olmo", "\"attention_bias\": true", "attention_bias: expected false"},
        {"olmo2", "\"attention_bias\": true", "attention_bias: expected false"},
        {"olmo3", "\"attention_bias\": true", "attention_bias: expected false"},
        {"seed_oss", "\"attention_out_bias\": true", "attention_out_bias: expected false"},
        {"seed_oss", "\"mlp_bias\": true", "mlp_bias: expected false"},
        {"ernie4_5", "\"use_bias\": true", "use_bias: expected false"},
        {"arcee", "\"attention_bias\": true", "attention_bias: expected false"},
        {"arcee", "\"mlp_bias\": true", "mlp_bias: expected false"},
        {"gpt_neox", "\"attention_bias\": false", "attention_bias: expected true"},
        {"exaone", "\"mlp_bias\": true", "mlp_bias: expected false"},
        {"hunyuan_v1_dense", "\"attention_bias\": true", "attention_bias: expected false"},
        {"jais2", "\"mlp_bias\": false", "mlp_bias: expected true"},
        {"starcoder2", "\"use_bias\": false", "use_bias: expected true"},
        {"cohere", "\"attention_bias\": true", "attention_bias: expected false"},
        {"cohere", "\"tie_word_embeddings\": false", "tie_word_embeddings: expected true"},
        {"cohere2", "\"attention_bias\": true", "attention_bias: expected false"},
        {"cohere2", "\"tie_word_embeddings\": false", "tie_word_embeddings: expected true"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char more[256];
        snprintf(more, sizeof more, ", %s", cases[i].more);
        refuse_export(cases[i].type, more, cases[i].word);
    }
}

/* HF -> GGUF -> HF, in each type that holds the values. */
static void test_round_trips(void **state) {
    (void)state;
    static const struct {
        const char *type, *more;
    } models[] = {
        {"llama", ", \"attention_bias\": true, \"mlp_bias\": true"},
        {"llama", ", \"tie_word_embeddings\": true, \"rope_scaling\": {\"rope_type\": "
                  "\"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
                  "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}"},
        {"qwen2", ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}"},
        {"qwen3", ", \"head_dim\": 32"},
        {"qwen2", YARN ", \"factor\": 4}"},
        {"qwen2", YARN ", \"factor\": 4, \"attention_factor\": 1.25}"},
        {"stablelm", YARN ", \"factor\": 2.5, \"mscale\": 0.7, \"mscale_all_dim\": 1}"},
        {"olmo3", YARN ", \"factor\": 8, \"attention_factor\": 1.2079441541679836}"},
        {"phi3", LONG "}"},
        {"llama", LONG ", \"attention_factor\": 1.5}"},
        {"mistral", ", \"sliding_window\": 16"},
        {"mixtral", ", \"num_local_experts\": 2, \"sliding_window\": 16" YARN ", \"factor\": 4}"},
        {"phi3", ", \"sliding_window\": 16"},
        {"smollm3", ""},
        {"gemma", ", \"head_dim\": 24"},
        {"gemma2", ", \"head_dim\": 24, \"query_pre_attn_scalar\": 24, "
                   "\"sliding_window\": 16, \"final_logit_softcapping\": 20"},
        {"gemma3_text", ", \"head_dim\": 24, \"query_pre_attn_scalar\": 24, "
                        "\"sliding_window\": 16, \"rope_local_base_freq\": 5000"},
        {"olmo2", ""},
        {"olmo3", ", \"sliding_window\": 16"},
        {"seed_oss", ", \"head_dim\": 24"},
        {"ernie4_5", ", \"head_dim\": 24"},
        {"exaone4", ", \"sliding_window\": null"},
        {"arcee", ""},
        {"nemotron", ", \"attention_bias\": true, \"mlp_bias\": true"},
        {"olmo", ""},
        {"olmo", ", \"clip_qkv\": 8"},
        {"phi", ", \"partial_rotary_factor\": 0.25"},
        {"glm4", ", \"head_dim\": 24, \"rms_norm_eps\": 1e-5"},
        {"glm", ", \"head_dim\": 24, \"partial_rotary_factor\": 0.25"},
        {"gpt2", ""},
        {"gpt2", ", \"tie_word_embeddings\": false, \"n_inner\": 48"},
        {"gpt_neox", ""},
        {"gpt_neox", ", \"use_parallel_residual\": false, \"tie_word_embeddings\": true"},
        {"nemotron", ", \"tie_word_embeddings\": true"},
        {"olmo2", ", \"tie_word_embeddings\": true"},
        {"olmo3", ", \"tie_word_embeddings\": true"},
        {"stablelm", ", \"tie_word_embeddings\": true"},
        {"olmo", ", \"tie_word_embeddings\": true"},
        {"stablelm", ", \"use_qkv_bias\": true"},
        {"stablelm", ", \"use_parallel_residual\": true, \"rotary_pct\": 1, "
                     "\"partial_rotary_factor\": 0.5"},
        {"stablelm", ", \"qk_layernorm\": true"},
        {"starcoder2", ", \"sliding_window\": 16"},
        {"starcoder2", ", \"tie_word_embeddings\": false"},
        {"cohere2", ", \"sliding_window\": 16, \"logit_scale\": 0.25"},
        {"cohere", ""},
        {"jais2", ""},
        {"exaone", ""},
        {"granitemoehybrid",
         ", \"shared_intermediate_size\": 64, \"num_local_experts\": 0, \"layer_types\": "
         "[\"attention\", \"attention\", \"attention\", \"attention\", \"attention\"]"},
        {"apertus", ""},
        {"apertus", ", \"tie_word_embeddings\": true, \"rope_scaling\": {\"type\": \"default\"}"},
        {"lfm2", ", \"conv_L_cache\": 4, \"block_multiple_of\": 32, \"layer_types\": "
                 "[\"conv\", \"full_attention\", \"conv\", \"conv\", \"full_attention\"]"},
        {"lfm2", ", \"tie_embedding\": false, \"full_attn_idxs\": [2], \"block_ff_dim\": 96"},
        {"hunyuan_v1_dense", ", \"head_dim\": 24"},
        {"ministral3", ", \"head_dim\": 24" YARN ", \"factor\": 4, \"mscale\": 1, "
                       "\"mscale_all_dim\": 1, \"llama_4_scaling_beta\": 0.25}"},
        {"ministral3",
         ", \"head_dim\": 24, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}"},
        {"granite", ", \"attention_bias\": true, \"embedding_multiplier\": 12, "
                    "\"residual_multiplier\": 0.25, \"attention_multiplier\": 0.5, "
                    "\"logits_scaling\": 8"}};
    static const char *const types[] = {"f32", "bf16", "f16"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        for (size_t k = 0; k < 3; k++) {
            spar_error err;
            spar_model *m = make_model(models[i].type, models[i].more, 64);
            check(spar_model_export(m, in_folder("m.gguf"), types[k], &err), &err);
            spar_model *g = load(in_folder("m.gguf"));
            same_weights(m, g);
            assert_ptr_equal(m->config.arch, g->config.arch);
            assert_int_equal(m->config.rope, g->config.rope);
            same_numbers(&m->config, &g->config);
            assert_memory_equal(m->config.window, g->config.window, sizeof m->config.window);
            assert_memory_equal(m->config.conv, g->config.conv, sizeof m->config.conv);
            assert_int_equal(m->config.conv_taps, g->config.conv_taps);
            assert_memory_equal(m->config.no_rope, g->config.no_rope, sizeof m->config.no_rope);
            check(spar_model_export(g, in_folder("hf"), types[k], &err), &err);
            spar_model *h = load(in_folder("hf"));
            same_weights(m, h);
            same_numbers(&m->config, &h->config);
            spar_model_free(m);
            spar_model_free(g);
            spar_model_free(h);
            check(sp_dir_remove(in_folder("hf"), &err), &err);
        }
    }
}

/* What a file of Apertus has as metadata: a number a layer, and no tensor. */
static void test_xielu(void **state) {
    (void)state;
    spar_error err;
    sp_gguf *g;
    spar_model *m = make_model("apertus", "", 64), *again;
    char *bytes;
    size_t n;
    check(spar_model_export(m, in_folder("xielu.gguf"), "bf16", &err), &err);
    check(sp_gguf_open(&g, in_folder("xielu.gguf"), &err), &err);
    assert_null(sp_gguf_find_tensor(g, "xielu.alpha_n"));
    const sp_gguf_value *v = sp_gguf_find(g, "xielu.alpha_n");
    assert_non_null(v);
    assert_int_equal(v->n, 5);
    for (int layer = 0; layer < 5; layer++) {
        const float *own = sp_params_at(&m->params, m->weights, SP_ALPHA_N, layer);
        assert_true(sp_gguf_number(v, (uint64_t)layer) == (double)*own);
    }
    sp_gguf_free(g);
    check(sp_file_read(in_folder("xielu.gguf"), 1 << 24, &bytes, &n, &err), &err);
    char *key = memmem(bytes, n, "xielu.eps", 9);
    assert_non_null(key);
    memcpy(key, "xielu.apse", 9);
    check(sp_file_write(in_folder("xielu.gguf"), bytes, n, &err), &err);
    assert_int_equal(spar_model_load(&again, in_folder("xielu.gguf"), &options, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "xielu.eps: expected an array of 5 floats, found nothing"));
    free(bytes);
    spar_model_free(m);
}

/* Files have a base of plain frequencies that alpha has stretched. */
static void test_alpha(void **state) {
    (void)state;
    spar_error err;
    spar_model *m = make_model("hunyuan_v1_dense",
                               ", \"head_dim\": 24, \"rope_scaling\": {\"type\": \"dynamic\", "
                               "\"alpha\": 50, \"factor\": 1}",
                               64);
    check(spar_model_export(m, in_folder("alpha.gguf"), "f32", &err), &err);
    spar_model *g = load(in_folder("alpha.gguf"));
    assert_int_equal(g->config.rope, SP_ROPE_DEFAULT);
    assert_true(g->config.rope_theta == (double)(float)(1e4 * pow(50, 24.0 / 22)));
    spar_model_free(m);
    spar_model_free(g);
}

/* Metadata of a model of five layers, whose windows a list of n entries says. */
static void write_listed(const char *arch, const uint8_t *windows, uint64_t n) {
    static const struct {
        const char *suffix;
        uint32_t value;
    } sizes[] = {{"embedding_length", 8},     {"feed_forward_length", 8},
                 {"block_count", 5},          {"attention.head_count", 2},
                 {"attention.key_length", 4}, {"attention.sliding_window", 16}};
    spar_error err;
    gguf_fixture f;
    char key[96];
    gg_begin(&f, 3, 1, 8);
    gg_key(&f, "general.architecture", GG_STRING), gg_string(&f, arch);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, sizes[i].suffix);
        gg_key(&f, key, GG_U32), gg_uint(&f, sizes[i].value, 4);
    }
    snprintf(key, sizeof key, "%s.attention.sliding_window_pattern", arch);
    gg_key(&f, key, GG_ARRAY), gg_array(&f, GG_BOOL, n), gg_bytes(&f, windows, n);
    gg_tensor(&f, "token_embd.weight", 2, (const uint64_t[]){8, 1}, 0, 0);
    gg_align(&f, 32);
    gg_bytes(&f, (const float[8]){0}, 32);
    check(sp_file_write(in_folder("listed.gguf"), (const char *)f.bytes, f.n, &err), &err);
}

/* As converters write OLMo 3 and EXAONE 4; the latter turns in layers with a window. */
static void test_listed_windows(void **state) {
    (void)state;
    static const uint8_t windows[5] = {1, 0, 1, 1, 0};
    static const char *const names[][2] = {{"olmo2", "olmo3"}, {"exaone4", "exaone4"}};
    for (int i = 0; i < 2; i++) {
        spar_error err;
        sp_gguf *g;
        sp_config c;
        write_listed(names[i][0], windows, 5);
        check(sp_gguf_open(&g, in_folder("listed.gguf"), &err), &err);
        check(sp_config_from_gguf(&c, g, "listed.gguf", &err), &err);
        assert_string_equal(c.arch->model_type, names[i][1]);
        for (int k = 0; k < 5; k++) {
            assert_int_equal(c.window[k], windows[k] * 16);
            assert_int_equal(c.no_rope[k], i == 1 && !windows[k]);
        }
        sp_gguf_free(g);
        write_listed(names[i][0], windows, 4);
        check(sp_gguf_open(&g, in_folder("listed.gguf"), &err), &err);
        assert_int_equal(sp_config_from_gguf(&c, g, "listed.gguf", &err), SPAR_FORMAT);
        assert_non_null(strstr(err.message, "sliding_window_pattern"));
        sp_gguf_free(g);
    }
}

/* A number of rotary metadata; type GG_STRING: the text. */
typedef struct rope_key {
    const char *suffix;
    uint32_t type;
    float number;
    const char *text;
} rope_key;

/* Metadata of a model of one layer with these keys; factors: of each of longrope's tensors, n. */
static void write_rope(const char *arch, const rope_key *keys, size_t n_keys, uint64_t factors) {
    static const char *const sizes[] = {"embedding_length", "feed_forward_length", "block_count",
                                        "attention.head_count", "context_length"};
    static const uint32_t values[] = {8, 8, 1, 1, 64};
    static const float list[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    spar_error err;
    gguf_fixture f;
    char key[96];
    gg_begin(&f, 3, factors ? 3 : 1, 6 + n_keys);
    gg_key(&f, "general.architecture", GG_STRING), gg_string(&f, arch);
    for (size_t i = 0; i < 5; i++) {
        snprintf(key, sizeof key, "%s.%s", arch, sizes[i]);
        gg_key(&f, key, GG_U32), gg_uint(&f, values[i], 4);
    }
    for (size_t i = 0; i < n_keys; i++) {
        snprintf(key, sizeof key, "%s.rope.%s", arch, keys[i].suffix);
        gg_key(&f, key, keys[i].type);
        if (keys[i].type == GG_STRING) {
            gg_string(&f, keys[i].text);
        } else {
            gg_bytes(&f, &keys[i].number, 4);
        }
    }
    gg_tensor(&f, "token_embd.weight", 2, (const uint64_t[]){8, 1}, 0, 0);
    if (factors) {
        gg_tensor(&f, "rope_factors_long.weight", 1, &factors, 0, 32);
        gg_tensor(&f, "rope_factors_short.weight", 1, &factors, 0, 64);
    }
    gg_align(&f, 32);
    for (int i = 0; i < 3; i++) {
        gg_bytes(&f, list, 32);
    }
    check(sp_file_write(in_folder("rope.gguf"), (const char *)f.bytes, f.n, &err), &err);
}

static spar_status read_rope(sp_config *c, spar_error *err) {
    sp_gguf *g;
    check(sp_gguf_open(&g, in_folder("rope.gguf"), err), err);
    const spar_status status = sp_config_from_gguf(c, g, "rope.gguf", err);
    sp_gguf_free(g);
    return status;
}

#define TYPE(name)                                                                                 \
    { "scaling.type", GG_STRING, 0, name }
#define NUMBER(suffix, value)                                                                      \
    { suffix, GG_F32, value, NULL }

/* As llama.cpp reads them: a factor without a type is linear, yarn's attention factor is multiplied
 * by the file's, and what it passes over is refused unless it says the same. */
static void test_rope_read(void **state) {
    (void)state;
    static const struct {
        const char *arch;
        rope_key keys[4];
        size_t n, factors;
        sp_rope_type rope;
        double factor, attention;
    } cases[] = {
        {"qwen2", {NUMBER("scaling.factor", 4)}, 1, 0, SP_ROPE_LINEAR, 4, 0},
        {"qwen2", {NUMBER("scale_linear", 2)}, 1, 0, SP_ROPE_LINEAR, 2, 0},
        {"qwen2", {TYPE("linear")}, 1, 0, SP_ROPE_DEFAULT, 1, 0},
        {"qwen2", {TYPE("none"), NUMBER("scaling.factor", 4)}, 2, 0, SP_ROPE_DEFAULT, 0, 0},
        {"qwen2",
         {TYPE("yarn"), NUMBER("scaling.factor", 4)},
         2,
         0,
         SP_ROPE_YARN,
         4,
         1.138629436111989},
        {"qwen2",
         {TYPE("yarn"), NUMBER("scaling.factor", 4), NUMBER("scaling.attn_factor", 0.5F),
          NUMBER("scaling.yarn_beta_fast", 32)},
         4,
         0,
         SP_ROPE_YARN,
         4,
         0.5693147180559945},
        {"mistral3",
         {TYPE("yarn"), NUMBER("scaling.factor", 4), NUMBER("scaling.yarn_log_multiplier", 1)},
         3,
         0,
         SP_ROPE_YARN,
         4,
         1},
        {"phi3", {NUMBER("scaling.attn_factor", 1.25F)}, 1, 4, SP_ROPE_LONG, 1, 1.25}};
    static const struct {
        const char *arch;
        rope_key keys[3];
        size_t n, factors;
        const char *word;
    } bad[] = {
        {"qwen2", {TYPE("ntk")}, 1, 0, "expected none, linear or yarn, found ntk"},
        {"qwen2", {NUMBER("scaling.factor", 0.5F)}, 1, 0, "scaling.factor: expected"},
        {"qwen2", {NUMBER("scaling.attn_factor", 2)}, 1, 0, "attn_factor: expected 1, found 2"},
        {"qwen2",
         {TYPE("yarn"), NUMBER("scaling.factor", 4), NUMBER("scaling.yarn_beta_fast", 16)},
         3,
         0,
         "yarn_beta_fast: expected 32, found 16"},
        {"qwen2",
         {TYPE("yarn"), NUMBER("scaling.factor", 4), NUMBER("scaling.yarn_attn_factor", 1.5F)},
         3,
         0,
         "yarn_attn_factor: expected 1.13863, found 1.5"},
        {"qwen2",
         {TYPE("yarn"), NUMBER("scaling.factor", 4), NUMBER("scaling.attn_factor", -1)},
         3,
         0,
         "expected a positive number"},
        {"qwen2", {TYPE("longrope")}, 1, 4, "expected none, linear or yarn, found longrope"},
        {"phi3", {TYPE("longrope")}, 1, 0, "rope_factors_short.weight: expected 4 positive"},
        {"phi3", {TYPE("longrope")}, 1, 3, "rope_factors_short.weight: expected 4 positive"},
        {"phi3", {NUMBER("scaling.factor", 2)}, 1, 4, "scaling.factor: expected 1"}};
    sp_config c;
    spar_error err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_rope(cases[i].arch, cases[i].keys, cases[i].n, cases[i].factors);
        check(read_rope(&c, &err), &err);
        assert_int_equal(c.rope, cases[i].rope);
        assert_true(c.rope_factor == cases[i].factor);
        assert_true(fabs(c.rope_attention - cases[i].attention) < 1e-6);
        assert_true(c.rope != SP_ROPE_LONG || (c.rope_short[3] == 4 && c.rope_long[3] == 4));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_rope(bad[i].arch, bad[i].keys, bad[i].n, bad[i].factors);
        assert_int_not_equal(read_rope(&c, &err), SPAR_OK);
        if (!strstr(err.message, bad[i].word)) {
            fail_msg("expected %s in: %s", bad[i].word, err.message);
        }
    }
}

/* Phi's head has a bias: no file of it is without a head. */
static void test_missing_head(void **state) {
    (void)state;
    sp_config c;
    spar_error err;
    write_rope("phi2", NULL, 0, 0);
    assert_int_equal(read_rope(&c, &err), SPAR_NOT_FOUND);
    assert_non_null(strstr(err.message, "output.weight is missing"));
    write_rope("qwen2", NULL, 0, 0);
    check(read_rope(&c, &err), &err);
    assert_true(c.tied);
}

/* What llama.cpp passes over is said. */
static void keep_line(void *context, spar_log_level level, const char *line) {
    assert_int_equal(level, SPAR_LOG_WARN);
    snprintf(context, 256, "%s", line);
}

static void test_window_note(void **state) {
    (void)state;
    char said[256] = "";
    spar_error err;
    spar_model *m = make_model("mistral", ", \"sliding_window\": 16", 64);
    m->sink = (spar_sink){.log = keep_line, .context = said};
    check(spar_model_export(m, in_folder("m.gguf"), "f32", &err), &err);
    assert_non_null(strstr(said, "without the window of 16 tokens"));
    spar_model_free(m);
    said[0] = 0;
    m = make_model("mistral", ", \"sliding_window\": 64", 64);
    m->sink = (spar_sink){.log = keep_line, .context = said};
    check(spar_model_export(m, in_folder("m.gguf"), "f32", &err), &err);
    assert_string_equal(said, "");
    spar_model_free(m);
}

/* A folder's tensors are of the type that was asked for. */
static void test_folder_type(void **state) {
    (void)state;
    spar_error err;
    sp_safetensors *file;
    json_t *config;
    spar_model *m = make_model("llama", "", 64);
    check(spar_model_export(m, in_folder("hf16"), "bf16", &err), &err);
    check(sp_safetensors_open(&file, in_folder("hf16"), &err), &err);
    for (size_t i = 0; i < sp_safetensors_count(file); i++) {
        assert_int_equal(sp_safetensors_at(file, i)->dtype, SP_BF16);
    }
    check(sp_json_load(&config, in_folder("hf16/config.json"), &err), &err);
    assert_string_equal(json_string_value(json_object_get(config, "torch_dtype")), "bfloat16");
    json_decref(config);
    sp_safetensors_free(file);
    spar_model_free(m);
}

static sp_dtype type_of(const sp_gguf *g, const char *name) {
    const sp_gguf_tensor *t = sp_gguf_find_tensor(g, name);
    assert_non_null(t);
    return t->dtype;
}

/* Blocks where the rows are whole blocks, the fall-back where they are not, floats for vectors. */
static void test_fall_backs(void **state) {
    (void)state;
    static const struct {
        const char *type;
        int hidden;
        sp_dtype gate, down, head; /* gate has `hidden` columns, down 96 */
    } cases[] = {{"q8_0", 64, SP_Q8_0, SP_Q8_0, SP_Q8_0},  {"q4_0", 64, SP_Q4_0, SP_Q4_0, SP_Q4_0},
                 {"q4_k", 256, SP_Q4_K, SP_Q5_0, SP_Q8_0}, {"q4_k", 64, SP_Q5_0, SP_Q5_0, SP_Q8_0},
                 {"q8_0", 40, SP_F16, SP_Q8_0, SP_F16},    {"q4_k", 40, SP_F16, SP_Q5_0, SP_F16}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spar_error err;
        sp_gguf *g;
        spar_model *m = make_model("llama", "", cases[i].hidden);
        check(spar_model_export(m, in_folder("q.gguf"), cases[i].type, &err), &err);
        check(sp_gguf_open(&g, in_folder("q.gguf"), &err), &err);
        assert_int_equal(type_of(g, "blk.1.ffn_gate.weight"), cases[i].gate);
        assert_int_equal(type_of(g, "blk.1.ffn_down.weight"), cases[i].down);
        assert_int_equal(type_of(g, "output.weight"), cases[i].head);
        assert_int_equal(type_of(g, "blk.1.ffn_norm.weight"), SP_F32);
        sp_gguf_free(g);
        spar_model_free(load(in_folder("q.gguf")));
        spar_model_free(m);
    }
}

static void test_refusals(void **state) {
    (void)state;
    spar_error err;
    spar_model *m = make_model("llama", "", 64);
    assert_int_equal(spar_model_export(m, in_folder("x"), "q8_0", &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "bf16"));
    assert_int_equal(spar_model_export(m, in_folder("x.gguf"), "q3", &err), SPAR_INVALID);
    check(spar_tokenizer_load(&m->tokenizer, test_shared("tokenizers/t5-small"), &err), &err);
    assert_int_equal(spar_model_export(m, in_folder("x.gguf"), "f32", &err), SPAR_MISMATCH);
    assert_non_null(strstr(err.message, "at most the 40 tokens that the model has"));
    assert_false(sp_file_exists(in_folder("x.gguf")));
    spar_model_free(m);
}

/* ---- tokenizers ---- */

static void same_ids(const spar_tokenizer *a, const spar_tokenizer *b, const json_t *rows) {
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *text = json_object_get(json_array_get(rows, i), "text");
        spar_error err;
        int32_t *x, *y;
        size_t n, k;
        const char *s = json_string_value(text);
        check(spar_tokenizer_encode(a, s, json_string_length(text), 0, &x, &n, &err), &err);
        check(spar_tokenizer_encode(b, s, json_string_length(text), 0, &y, &k, &err), &err);
        if (n != k || memcmp(x, y, n * sizeof *x) != 0) {
            fail_msg("other ids: %.100s", s);
        }
        free(x);
        free(y);
    }
}

/* A small model with each tokenizer: what comes back from the GGUF file gives the same ids. */
static void test_tokenizers(void **state) {
    (void)state;
    static const char *const names[] = {
        "smollm2",
        "qwen3",
        "llama3_1",
        "phi-3-mini",
        "llama2/tokenizer.model",
        "gpt2/vocab.json",
        "gguf-vocab/ggml-vocab-bert-bge.gguf",
        "gemma3"}; /* the last one merges to tokens that are added too */
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        spar_error err;
        char path[TEST_PATH_MAX];
        const bool phi =
            strstr(names[i], "phi-3") != NULL; /* whose files have a rule of their own */
        spar_model *m = make_model(phi ? "phi3" : "llama", "", 64);
        spar_tokenizer *t;
        snprintf(path, sizeof path, "%s/%s", test_shared("tokenizers"), names[i]);
        check(spar_vocab_load(&t, path, &err), &err);
        sp_config config = m->config;
        config.vocab = spar_tokenizer_vocab_size(t) + 3; /* padded, as many models are */
        spar_model_free(m);
        check(sp_model_create(&m, &config, "vocabulary", &options, NULL, &err), &err);
        m->tokenizer = t;
        check(spar_model_export(m, in_folder("t.gguf"), "f32", &err), &err);
        spar_model *g = load(in_folder("t.gguf"));
        snprintf(path, sizeof path, "%s/tokenizers/smollm2.json", test_shared("golden"));
        json_t *rows = json_load_file(path, JSON_ALLOW_NUL, NULL);
        assert_true(json_array_size(rows) > 100);
        same_ids(t, g->tokenizer, rows);
        json_decref(rows);
        spar_model_free(m);
        spar_model_free(g);
    }
}

/* GGUF -> GGUF of the quick-start model: its Q4_1 weights as f32 are the same floats. */
static void test_quickstart(void **state) {
    (void)state;
    const char *path = quickstart_model();
    spar_error err;
    if (!path) {
        print_message("skipped: the quick-start model is not in the cache (tools/fetch_model)\n");
        skip();
    }
    spar_model *m = load(path);
    check(spar_model_export(m, in_folder("s.gguf"), "f32", &err), &err);
    spar_model *g = load(in_folder("s.gguf"));
    same_weights(m, g);
    assert_string_equal(spar_template_source(m->chat_template),
                        spar_template_source(g->chat_template));
    assert_int_equal(spar_tokenizer_bos(m->tokenizer), spar_tokenizer_bos(g->tokenizer));
    assert_int_equal(spar_tokenizer_eos(m->tokenizer), spar_tokenizer_eos(g->tokenizer));
    spar_model_free(m);
    spar_model_free(g);
}

int main(void) {
    if (!test_shared("golden/tokenizers") || !test_shared("tokenizers")) {
        TEST_SKIP("the shared folder with tokenizers and golden/tokenizers is missing");
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listed_windows), cmocka_unit_test(test_alpha),
        cmocka_unit_test(test_xielu),          cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_unsaid),         cmocka_unit_test(test_rope_read),
        cmocka_unit_test(test_window_note),    cmocka_unit_test(test_missing_head),
        cmocka_unit_test(test_fixed),          cmocka_unit_test(test_folder_type),
        cmocka_unit_test(test_fall_backs),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_tokenizers),     cmocka_unit_test(test_quickstart),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
