/* Logits, log-probs, gradients and greedy continuations of tiny random models, one of each family,
 * against Hugging Face transformers in double precision (tests/golden/arch, shared/golden/arch). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch_folders.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "io/safetensors.h"
#include "model/engine.h"
#include "support.h"

#define OWN SPAR_SOURCE_DIR "/tests/golden/arch/"

/* So many tokens make a batch long enough for chains of operations. */
enum { MAX_ROWS = 8, MAX_TOKENS = 128, COPIES = 20, LONG_BATCH = 300 };

typedef struct fixture {
    sp_safetensors *expected;
    json_t *io;
    spar_model *model;
    int n_rows;
    int32_t ids[MAX_ROWS][MAX_TOKENS];
    size_t n[MAX_ROWS];
} fixture;

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static void open_fixture(fixture *f, const char *dir, spar_model_options options) {
    spar_error err;
    char path[TEST_PATH_MAX];
    check(spar_model_load(&f->model, dir, &options, &err), &err);
    check(sp_safetensors_open(&f->expected, test_path(path, dir, "expected.safetensors"), &err),
          &err);
    check(sp_json_load(&f->io, test_path(path, dir, "io.json"), &err), &err);
    json_t *rows = json_object_get(f->io, "rows");
    f->n_rows = (int)json_array_size(rows);
    for (int i = 0; i < f->n_rows; i++) {
        json_t *row = json_array_get(rows, (size_t)i);
        f->n[i] = json_array_size(row);
        for (size_t t = 0; t < f->n[i]; t++) {
            f->ids[i][t] = (int32_t)json_integer_value(json_array_get(row, t));
        }
    }
}

static void close_fixture(fixture *f) {
    spar_model_free(f->model);
    sp_safetensors_free(f->expected);
    json_decref(f->io);
}

/* Largest absolute difference from a stored tensor, and the largest stored entry. */
static double difference(const fixture *f, const char *name, const float *got, size_t n,
                         double *largest) {
    const sp_tensor_entry *e = sp_safetensors_find(f->expected, name);
    assert_non_null(e);
    assert_int_equal(e->n_bytes, n * sizeof(float));
    double worst = 0;
    *largest = 0;
    for (size_t i = 0; i < n; i++) {
        float want;
        memcpy(&want, (const char *)e->data + i * sizeof want, sizeof want);
        double d = fabs((double)got[i] - (double)want);
        worst = d > worst || isnan(d) ? d : worst;
        *largest = fabs((double)want) > *largest ? fabs((double)want) : *largest;
    }
    return worst;
}

static void check_scores(fixture *f, const char *family) {
    spar_error err;
    spar_score_row rows[MAX_ROWS];
    int64_t vocab = spar_model_vocab(f->model);
    for (int i = 0; i < f->n_rows; i++) {
        rows[i] = (spar_score_row){.ids = f->ids[i], .n = f->n[i], .first = 1};
        rows[i].logps = test_malloc((f->n[i] - 1) * sizeof(float));
        rows[i].logits = test_malloc(f->n[i] * (size_t)vocab * sizeof(float));
    }
    check(spar_model_score(f->model, rows, (size_t)f->n_rows, &err), &err);
    for (int i = 0; i < f->n_rows; i++) {
        char name[64];
        double largest;
        snprintf(name, sizeof name, "logits.%d", i);
        double logits = difference(f, name, rows[i].logits, f->n[i] * (size_t)vocab, &largest);
        snprintf(name, sizeof name, "logp.%d", i);
        double logp = difference(f, name, rows[i].logps, f->n[i] - 1, &largest);
        print_message("%s row %d: logits %.2e logp %.2e\n", family, i, logits, logp);
        assert_true(logits <= 1e-4);
        assert_true(logp <= 1e-4);
        test_free(rows[i].logps);
        test_free(rows[i].logits);
    }
}

/* The golden loss sums the log-probs of tokens 3, 4, ... of every row; here of each copy. */
static void check_grads(fixture *f, const char *family, int copies) {
    spar_error err;
    char path[TEST_PATH_MAX];
    char dir[TEST_PATH_MAX];
    spar_score_row rows[MAX_ROWS * COPIES];
    const int n_rows = f->n_rows * copies;
    sp_safetensors *got;
    test_temp_dir(dir);
    test_path(path, dir, "grads.safetensors");
    for (int i = 0; i < n_rows; i++) {
        const int k = i % f->n_rows;
        rows[i] = (spar_score_row){.ids = f->ids[k], .n = f->n[k], .first = 3};
        rows[i].logps = test_malloc(f->n[k] * sizeof(float));
    }
    check(spar_model_score_grads(f->model, rows, (size_t)n_rows, path, &err), &err);
    check(sp_safetensors_open(&got, path, &err), &err);
    for (size_t i = 0; i < sp_safetensors_count(got); i++) {
        const sp_tensor_entry *e = sp_safetensors_at(got, i);
        char name[128];
        double largest;
        snprintf(name, sizeof name, "grad.%s", e->name);
        const size_t n = e->n_bytes / sizeof(float);
        float *mean = test_malloc(e->n_bytes);
        memcpy(mean, e->data, e->n_bytes);
        for (size_t k = 0; k < n; k++) {
            mean[k] /= (float)copies;
        }
        double worst = difference(f, name, mean, n, &largest);
        test_free(mean);
        /* What is 0 however the weights are, a bias of keys that do not turn, is left to rounding.
         */
        const double bound = largest > 0 ? 1e-4 * largest : 2e-7;
        if (worst > bound) {
            print_message("%s %s: %.2e of %.2e\n", family, name, worst, largest);
        }
        assert_true(worst <= bound);
    }
    size_t expected = 0;
    for (size_t i = 0; i < sp_safetensors_count(f->expected); i++) {
        expected += strncmp(sp_safetensors_at(f->expected, i)->name, "grad.", 5) == 0;
    }
    assert_int_equal(sp_safetensors_count(got), expected);
    for (int i = 0; i < n_rows; i++) {
        test_free(rows[i].logps);
    }
    sp_safetensors_free(got);
    unlink(path);
    rmdir(dir);
}

/* How often the rows make a long batch. */
static int copies_for_chains(const fixture *f) {
    size_t tokens = 0;
    for (int i = 0; i < f->n_rows; i++) {
        tokens += f->n[i];
    }
    const int copies = (int)((LONG_BATCH + tokens - 1) / tokens);
    assert_true(copies <= COPIES);
    return copies;
}

static void run_model(const char *dir, bool reference) {
    fixture f = {0};
    open_fixture(
        &f, dir,
        (spar_model_options){.dtype = SPAR_DTYPE_F32, .threads = 2, .reference = reference});
    check_scores(&f, test_folder_name(dir));
    check_grads(&f, test_folder_name(dir), 1);
    if (!reference) {
        check_grads(&f, test_folder_name(dir), copies_for_chains(&f));
    }
    close_fixture(&f);
}

static void run_all(bool reference) {
    test_folders all;
    test_folders_init(&all);
    for (int i = 0; i < all.n; i++) {
        run_model(all.paths[i], reference);
    }
    test_folders_release(&all);
}

static void test_tuned(void **state) {
    (void)state;
    run_all(false);
}

static void test_reference(void **state) {
    (void)state;
    run_all(true);
}

/* The same bytes; gains that are kept with 1 added, to the rounding of that. */
static void check_bytes(const spar_model *m, const sp_tensor_entry *e, const sp_tensor_entry *was) {
    if (e->n_dims > 1 || m->config.arch->norm_shift == 0.0F) {
        assert_memory_equal(e->data, was->data, e->n_bytes);
        return;
    }
    for (size_t i = 0; i < e->n_bytes / sizeof(float); i++) {
        float got, want;
        memcpy(&got, (const char *)e->data + i * sizeof got, sizeof got);
        memcpy(&want, (const char *)was->data + i * sizeof want, sizeof want);
        assert_true(fabs((double)got - (double)want) <= ldexp(1, -23));
    }
}

/* What is saved holds the tensors of what was loaded, of the same bytes, and loads again. */
static void test_saved(void **state) {
    (void)state;
    char dir[TEST_PATH_MAX];
    test_folders all;
    test_folders_init(&all);
    for (int i = 0; i < all.n; i++) {
        spar_error err;
        fixture f = {0};
        sp_safetensors *from, *to;
        char saved[TEST_PATH_MAX];
        spar_model *again;
        const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 1};
        open_fixture(&f, all.paths[i], options);
        test_path(saved, test_temp_dir(dir), "saved");
        check(spar_model_save(f.model, saved, &err), &err);
        check(spar_model_load(&again, saved, &options, &err), &err);
        spar_model_free(again);
        check(sp_safetensors_open(&from, all.paths[i], &err), &err);
        check(sp_safetensors_open(&to, saved, &err), &err);
        assert_int_equal(sp_safetensors_count(from), sp_safetensors_count(to));
        for (size_t k = 0; k < sp_safetensors_count(to); k++) {
            const sp_tensor_entry *e = sp_safetensors_at(to, k);
            const sp_tensor_entry *was = sp_safetensors_find(from, e->name);
            assert_non_null(was);
            assert_int_equal(e->n_bytes, was->n_bytes);
            check_bytes(f.model, e, was);
        }
        sp_safetensors_free(from);
        sp_safetensors_free(to);
        close_fixture(&f);
        check(sp_dir_remove(dir, &err), &err);
    }
    test_folders_release(&all);
}

/* The checkpoint of `from` in `to`, its tensors without the first part of their names. */
static void write_bare(const char *from, const char *to) {
    spar_error err;
    sp_safetensors *file;
    sp_tensor_entry entries[64];
    char path[TEST_PATH_MAX + 32], *config;
    size_t n, size;
    check(sp_safetensors_open(&file, from, &err), &err);
    n = sp_safetensors_count(file);
    assert_true(n <= sizeof entries / sizeof entries[0]);
    for (size_t i = 0; i < n; i++) {
        entries[i] = *sp_safetensors_at(file, i);
        entries[i].name = strchr(entries[i].name, '.') + 1;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", to);
    check(sp_safetensors_write(path, entries, n, NULL, &err), &err);
    sp_safetensors_free(file);
    snprintf(path, sizeof path, "%s/config.json", from);
    check(sp_file_read(path, 1 << 16, &config, &size, &err), &err);
    snprintf(path, sizeof path, "%s/config.json", to);
    check(sp_file_write(path, config, size, &err), &err);
    free(config);
}

/* As the hub has the first GPT-2: saved from the inner module. */
static void test_bare_names(void **state) {
    (void)state;
    spar_error err;
    char dir[TEST_PATH_MAX];
    fixture f = {0};
    spar_model *bare;
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 1};
    test_temp_dir(dir);
    write_bare(OWN "gpt2-small", dir);
    open_fixture(&f, OWN "gpt2-small", options);
    check(spar_model_load(&bare, dir, &options, &err), &err);
    assert_int_equal(bare->params.total, f.model->params.total);
    assert_memory_equal(bare->weights, f.model->weights,
                        (size_t)bare->params.total * sizeof(float));
    spar_model_free(bare);
    close_fixture(&f);
    check(sp_dir_remove(dir, &err), &err);
}

/* LongRoPE's second set of factors begins behind the original context, and sequences end there. */
static void test_long_context(void **state) {
    (void)state;
    fixture f = {0};
    open_fixture(&f, OWN "phi3-long", (spar_model_options){.dtype = SPAR_DTYPE_F32, .threads = 1});
    assert_int_equal(spar_model_context(f.model), 48);
    close_fixture(&f);
}

static void config_fails(spar_status status, const char *text, const char *word) {
    spar_error err;
    json_t *json;
    sp_config config;
    check(sp_json_parse(&json, text, strlen(text), "config.json", &err), &err);
    assert_int_equal(sp_config_from_json(&config, json, "config.json", &err), status);
    if (!strstr(err.message, word)) {
        fail_msg("expected %s in: %s", word, err.message);
    }
    json_decref(json);
}

static void refused_config(const char *text, const char *word) {
    config_fails(SPAR_UNSUPPORTED, text, word);
}

#define SIZES                                                                                      \
    "\"vocab_size\": 8, \"hidden_size\": 8, \"intermediate_size\": 8, \"num_hidden_layers\": 1, "  \
    "\"num_attention_heads\": 2"

/* Of layers with convolutions, and of what LFM2 makes of the feed-forward's width. */
static void test_lfm2_keys(void **state) {
    (void)state;
#define LFM2 "{\"model_type\": \"lfm2\", \"num_key_value_heads\": 1, " SIZES ", "
    refused_config(LFM2 "\"conv_bias\": true}", "conv_bias");
    refused_config(LFM2 "\"hidden_act\": \"gelu\"}", "hidden_act");
    refused_config(LFM2 "\"layer_types\": [\"mamba\"]}", "layer_types");
    config_fails(SPAR_FORMAT, LFM2 "\"layer_types\": []}", "layer_types");
    config_fails(SPAR_FORMAT, LFM2 "\"conv_L_cache\": 65}", "conv_L_cache");
    config_fails(SPAR_FORMAT, LFM2 "\"full_attn_idxs\": [1]}", "full_attn_idxs");
    config_fails(SPAR_FORMAT, LFM2 "\"full_attn_idxs\": 0}", "full_attn_idxs");
    config_fails(SPAR_FORMAT, LFM2 "\"block_ffn_dim_multiplier\": 0}", "block_ffn_dim_multiplier");
    static const struct {
        const char *keys;
        int64_t ffn;
        bool conv;
    } cases[] = {{"\"pad_token_id\": 0", 256, false},
                 {"\"block_multiple_of\": 1, \"full_attn_idxs\": []", 5, true},
                 {"\"block_multiple_of\": 4, \"layer_types\": [\"conv\"]", 8, true},
                 {"\"block_multiple_of\": 1, \"block_ffn_dim_multiplier\": 1.5", 7, false},
                 {"\"block_multiple_of\": 4, \"block_ffn_dim_multiplier\": null", 5, false},
                 {"\"block_ff_dim\": 12288, \"block_multiple_of\": 256", 8192, false},
                 {"\"block_auto_adjust_ff_dim\": false, \"full_attn_idxs\": null", 8, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spar_error err;
        char text[512];
        json_t *json;
        sp_config c;
        const int n = snprintf(text, sizeof text, LFM2 "%s}", cases[i].keys);
        check(sp_json_parse(&json, text, (size_t)n, "config.json", &err), &err);
        check(sp_config_from_json(&c, json, "config.json", &err), &err);
        json_decref(json);
        assert_int_equal(c.ffn, cases[i].ffn);
        assert_int_equal(c.conv[0], cases[i].conv);
    }
}

/* A key that is neither read nor known to be harmless is an error that names it. */
static void test_unknown_keys(void **state) {
    (void)state;
    spar_error err;
    json_t *json;
    sp_config config;
    refused_config("{\"model_type\": \"llama\", " SIZES ", \"wormhole_depth\": 3}",
                   "wormhole_depth");
    refused_config("{\"model_type\": \"llama\", " SIZES ", \"no_rope_layers\": [1]}",
                   "no_rope_layers");
    refused_config("{\"model_type\": \"llama\", " SIZES ", \"logits_scaling\": 8}",
                   "logits_scaling");
    refused_config("{\"model_type\": \"llama\", " SIZES
                   ", \"rope_scaling\": {\"type\": \"default\", \"mrope_section\": [1, 2]}}",
                   "rope_scaling.mrope_section");
    refused_config("{\"model_type\": \"llama\", " SIZES
                   ", \"quantization_config\": {\"quant_method\": \"gptq\"}}",
                   "quantised by gptq");
    refused_config("{\"model_type\": \"phi3\", " SIZES ", \"interpolate_factor\": 2}",
                   "interpolate_factor");
    refused_config("{\"model_type\": \"mamba\", " SIZES "}", "smollm3");
    refused_config("{\"model_type\": \"llama\", " SIZES ", \"hidden_act\": \"xielu\"}",
                   "hidden_act");
    refused_config("{\"model_type\": \"apertus\", " SIZES ", \"post_norm\": true}", "post_norm");
    static const char neutral[] =
        "{\"model_type\": \"llama\", " SIZES
        ", \"wormhole_depth\": null, \"logits_scaling\": 1, \"use_cache\": true, "
        "\"_model_name_or_path\": \"some/where\", \"max_sequence_length\": 2048, "
        "\"quantization_config\": {}}";
    check(sp_json_parse(&json, neutral, strlen(neutral), "config.json", &err), &err);
    check(sp_config_from_json(&config, json, "config.json", &err), &err);
    json_decref(json);
}

#define HYBRID "{\"model_type\": \"granitemoehybrid\", \"shared_intermediate_size\": 8, " SIZES

/* Granite's hybrids are known without Mamba layers, which they have unless they say otherwise; they
 * have experts then too. */
static void test_hybrid(void **state) {
    (void)state;
    spar_error err;
    json_t *json;
    sp_config c;
    static const char text[] = HYBRID ", \"num_local_experts\": 0}";
    static const char mixed[] = HYBRID ", \"layer_types\": [\"attention\"]}";
    refused_config(HYBRID ", \"layer_types\": [\"mamba\"]}", "layer_types[0]");
    refused_config(HYBRID ", \"num_local_experts\": 0, \"layer_types\": [\"mamba\"]}",
                   "layer_types[0]");
    check(sp_json_parse(&json, text, strlen(text), "config.json", &err), &err);
    assert_int_equal(sp_config_from_json(&c, json, "config.json", &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "layer_types"));
    json_decref(json);
    check(sp_json_parse(&json, mixed, strlen(mixed), "config.json", &err), &err);
    check(sp_config_from_json(&c, json, "config.json", &err), &err);
    assert_true(c.sparse[0] && c.experts == 8 && c.top_k == 2 && c.shared_ffn == 8);
    json_decref(json);
}

/* Rotary settings that the family means by none, and others in their place, written so that they
 * are read as the same. */
static void test_rope_default(void **state) {
    (void)state;
    static const struct {
        const char *more;
        sp_rope_type type;
        double factor, theta;
    } cases[] = {{"", SP_ROPE_LLAMA3, 16, 1e6},
                 {", \"rope_parameters\": null", SP_ROPE_LLAMA3, 16, 1e6},
                 {", \"rope_theta\": 5000, \"rope_scaling\": {\"type\": \"linear\", "
                  "\"factor\": 2}",
                  SP_ROPE_LINEAR, 2, 5000},
                 {", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 700}",
                  SP_ROPE_DEFAULT, 0, 700}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spar_error err;
        json_t *json;
        sp_config c;
        char text[512];
        const int n = snprintf(text, sizeof text,
                               "{\"model_type\": \"cwm\", \"num_key_value_heads\": 1, " SIZES "%s}",
                               cases[i].more);
        check(sp_json_parse(&json, text, (size_t)n, "config.json", &err), &err);
        for (int turn = 0; turn < 2; turn++) {
            check(sp_config_from_json(&c, json, "config.json", &err), &err);
            json_decref(json);
            assert_int_equal(c.rope, cases[i].type);
            assert_true(c.rope_factor == cases[i].factor && c.rope_theta == cases[i].theta);
            json = sp_config_to_json(&c);
        }
        json_decref(json);
    }
}

/* A configuration with images besides is that of the family that its text_config names. */
static void test_outer(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"mistral", "mistral"}, {"ministral3", "ministral3"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spar_error err;
        json_t *json;
        sp_config c;
        char text[512];
        const int n = snprintf(text, sizeof text,
                               "{\"model_type\": \"mistral3\", \"vision_config\": {}, "
                               "\"architectures\": [\"Mistral3ForConditionalGeneration\"], "
                               "\"tie_word_embeddings\": true, \"text_config\": {\"model_type\": "
                               "\"%s\", \"num_key_value_heads\": 1, " SIZES "}}",
                               cases[i][0]);
        check(sp_json_parse(&json, text, (size_t)n, "config.json", &err), &err);
        check(sp_config_from_json(&c, json, "config.json", &err), &err);
        json_decref(json);
        assert_string_equal(c.arch->model_type, cases[i][1]);
        assert_true(c.tied);
    }
    refused_config(
        "{\"model_type\": \"mistral3\", \"text_config\": {\"model_type\": \"mamba\", " SIZES "}}",
        "found mistral3 with mamba");
}

/* What keys that are left out mean: as in transformers' configuration classes. */
static void test_left_out(void **state) {
    (void)state;
    static const struct {
        const char *type;
        int64_t context;
        double theta, eps;
        int head_dim, kv_heads, rotary_dim, eos;
        bool tied;
    } cases[] = {{"smollm3", 32768, 2e6, 1e-6, 2, 4, 2, -1, true},
                 {"qwen3", 32768, 1e4, 1e-6, 128, 160, 128, -1, false},
                 {"phi3", 4096, 1e4, 1e-5, 2, 160, 2, -1, false},
                 {"cohere", 8192, 5e5, 1e-5, 2, 160, 2, 255001, true},
                 {"olmo", 2048, 1e4, 1e-5, 2, 160, 2, 50279, false},
                 {"olmo2", 2048, 1e4, 1e-5, 2, 160, 2, 50279, false},
                 {"olmo3", 2048, 5e5, 1e-5, 2, 160, 2, 50279, false},
                 {"seed_oss", 524288, 1e4, 1e-6, 128, 8, 128, 2, false},
                 {"glm4", 131072, 1e4, 1.5625e-7, 128, 2, 64, 151329, false},
                 {"glm", 131072, 1e4, 1.5625e-7, 128, 2, 64, 151329, false},
                 {"ernie4_5", 131072, 5e5, 1e-5, 128, 2, 128, 2, true},
                 {"exaone4", 2048, 1e4, 1e-5, 2, 32, 2, 2, false},
                 {"helium", 4096, 1e5, 1e-8, 128, 20, 128, 2, false},
                 {"arcee", 4096, 1e4, 1e-5, 2, 160, 2, 128001, false},
                 {"vaultgemma", 8192, 1e4, 1e-6, 256, 4, 256, 1, true},
                 {"ministral", 131072, 1e4, 1e-6, 2, 8, 2, 2, false},
                 {"ministral3", 262144, 1e6, 1e-5, 128, 8, 128, 2, false},
                 {"nanochat", 2048, 1e4, 1e-6, 2, 160, 2, 1, false},
                 {"iquestcoder", 131072, 1e4, 1e-5, 128, 8, 128, 2, false},
                 {"apertus", 65536, 12e6, 1e-5, 2, 160, 2, 2, false},
                 {"lfm2", 128000, 1e6, 1e-5, 2, 8, 2, 2, true},
                 {"hunyuan_v1_dense", 2048, 1e4, 1e-5, 2, 160, 2, 2, false},
                 {"cwm", 131072, 1e6, 1e-5, 128, 8, 128, 128001, false},
                 {"jais2", 8192, 1e4, 1e-5, 2, 160, 2, 150024, false},
                 {"internlm3", 32768, 1e4, 1e-5, 128, 2, 128, 2, false},
                 {"exaone", 4096, 5e5, 1e-5, 2, 8, 2, 361, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spar_error err;
        char text[512];
        json_t *json;
        sp_config c;
        const int n = snprintf(text, sizeof text,
                               "{\"model_type\": \"%s\", \"vocab_size\": 8, \"hidden_size\": 320, "
                               "\"intermediate_size\": 8, \"num_hidden_layers\": 1, "
                               "\"num_attention_heads\": 160}",
                               cases[i].type);
        check(sp_json_parse(&json, text, (size_t)n, "config.json", &err), &err);
        check(sp_config_from_json(&c, json, cases[i].type, &err), &err);
        json_decref(json);
        assert_int_equal(c.context, cases[i].context);
        assert_true(c.rope_theta == cases[i].theta && c.norm_eps == (float)cases[i].eps);
        assert_int_equal(c.head_dim, cases[i].head_dim);
        assert_int_equal(c.kv_heads, cases[i].kv_heads);
        assert_int_equal(c.rotary_dim, cases[i].rotary_dim);
        assert_int_equal(c.n_eos ? c.eos[0] : -1, cases[i].eos);
        assert_int_equal(c.tied, cases[i].tied);
    }
}

/* YaRN's rotary tables against the inverse frequencies and attention factors of transformers, with
 * 16 dimensions a head. */
static void test_yarn(void **state) {
    (void)state;
    static const struct {
        const char *more;
        double frequencies[8], attention;
    } cases[] = {
        {"\"max_position_embeddings\": 131072, \"rope_theta\": 1000000, \"rope_scaling\": "
         "{\"type\": "
         "\"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 32768}",
         {1, 0.177827939, 0.0316227786, 0.00421755994, 0.000500000024, 4.44569851e-05,
          7.90569356e-06, 1.40585337e-06},
         1.13862944},
        {"\"max_position_embeddings\": 2048, \"rope_parameters\": {\"rope_type\": \"yarn\", "
         "\"rope_theta\": 10000, \"factor\": 8, \"original_max_position_embeddings\": 256, "
         "\"beta_fast\": 16, \"beta_slow\": 2, \"attention_factor\": 1.25}",
         {1, 0.223994657, 0.0416666642, 0.00395284733, 0.00124999997, 0.000395284733,
          0.000125000006, 3.95284733e-05},
         1.25},
        {"\"max_position_embeddings\": 2048, \"rope_parameters\": {\"rope_type\": \"yarn\", "
         "\"rope_theta\": 10000, \"factor\": 8, \"original_max_position_embeddings\": 256, "
         "\"mscale\": 1.0, \"mscale_all_dim\": 0.5, \"truncate\": false}",
         {1, 0.243596405, 0.0479650758, 0.00597613677, 0.00124999997, 0.000395284733,
          0.000125000006, 3.95284733e-05},
         1.09417999},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1024];
        float cosines[16], sines[16];
        spar_error err;
        json_t *json;
        sp_config config, again;
        const int n =
            snprintf(text, sizeof text,
                     "{\"model_type\": \"llama\", \"head_dim\": 16, " SIZES ", %s}", cases[i].more);
        check(sp_json_parse(&json, text, (size_t)n, "config.json", &err), &err);
        check(sp_config_from_json(&config, json, "config.json", &err), &err);
        json_decref(json);
        json = sp_config_to_json(&config); /* what is written reads as the same */
        check(sp_config_from_json(&again, json, "config.json", &err), &err);
        json_decref(json);
        sp_rope_table(&again, SP_TABLE_ALL, 2, cosines, sines);
        for (int k = 0; k < 8; k++) {
            const double f = cases[i].frequencies[k], a = cases[i].attention;
            assert_true(fabs((double)cosines[k] - a) <= 1e-7 * a); /* position 0 */
            assert_true(fabs((double)cosines[8 + k] - a * cos(f)) <= 2e-7);
            assert_true(fabs((double)sines[8 + k] - a * sin(f)) <= 2e-7 + 1e-6 * f);
        }
    }
    refused_config("{\"model_type\": \"llama\", " SIZES
                   ", \"rope_scaling\": {\"type\": \"spiral\", \"factor\": 2}}",
                   "spiral");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),    cmocka_unit_test(test_tuned),
        cmocka_unit_test(test_saved),        cmocka_unit_test(test_lfm2_keys),
        cmocka_unit_test(test_unknown_keys), cmocka_unit_test(test_yarn),
        cmocka_unit_test(test_long_context), cmocka_unit_test(test_bare_names),
        cmocka_unit_test(test_left_out),     cmocka_unit_test(test_hybrid),
        cmocka_unit_test(test_rope_default), cmocka_unit_test(test_outer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
