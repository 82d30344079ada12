/* Mixtures of experts beyond what test_arch_golden.c holds for every family: the load-balancing
 * loss and its gradient against transformers, stacked experts in folders and GGUF files, the cache,
 * the number of threads, recomputing, quantised experts, adapters, and configurations. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "io/safetensors.h"
#include "model/checkpoint.h"
#include "model/engine.h"
#include "model/lora.h"
#include "support.h"

/* The last have no load-balancing loss. */
static const char *const families[] = {"mixtral",
                                       "mixtral-one",
                                       "qwen3-moe",
                                       "qwen3-moe-plain",
                                       "qwen3-moe-one",
                                       "qwen2-moe",
                                       "qwen2-moe-plain",
                                       "olmoe",
                                       "granite-moe",
                                       "granite-moe-shared",
                                       "granite-moe-hybrid",
                                       "ernie4-5-moe",
                                       "ernie4-5-moe-least",
                                       "glm4-moe",
                                       "dots1"};
enum {
    FAMILIES = sizeof families / sizeof families[0],
    BALANCED = FAMILIES - 2,
    MAX_IDS = 64,
    MAX_VOCAB = 40
};

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static const char *folder_of(const char *family) {
    static char path[TEST_PATH_MAX];
    snprintf(path, sizeof path, "%s/tests/golden/arch/%s", SPAR_SOURCE_DIR, family);
    return path;
}

static spar_model *load_from(const char *path, spar_model_options options) {
    spar_error err;
    spar_model *m;
    check(spar_model_load(&m, path, &options, &err), &err);
    return m;
}

static spar_model *load(const char *family, int threads) {
    spar_error err;
    spar_model *m = load_from(folder_of(family),
                              (spar_model_options){.dtype = SPAR_DTYPE_F32, .threads = threads});
    check(sp_model_prepare(m, true, &err), &err);
    return m;
}

/* Row i of the family's io.json. */
static size_t read_row(const char *family, size_t i, int32_t *ids) {
    spar_error err;
    json_t *io;
    char path[TEST_PATH_MAX];
    check(sp_json_load(&io, test_path(path, folder_of(family), "io.json"), &err), &err);
    const json_t *row = json_array_get(json_object_get(io, "rows"), i);
    const size_t n = json_array_size(row);
    for (size_t t = 0; t < n; t++) {
        ids[t] = (int32_t)json_integer_value(json_array_get(row, t));
    }
    json_decref(io);
    return n;
}

/* Log-probs, the load-balancing loss, and gradients of the sum of -log p of a row's tokens, times
 * `share`, with weight times that loss. */
typedef struct result {
    float logp[MAX_IDS], *grads; /* grads owned */
    double balance;
    size_t n;
} result;

static result run(spar_model *m, const int32_t *ids, size_t n, sp_pass_kind kind, float share,
                  double weight) {
    spar_error err;
    sp_pass *pass;
    sp_batch b;
    size_t start;
    int segment;
    float c[MAX_IDS];
    result out = {.n = n - 1};
    sp_batch_init(&b);
    check(sp_batch_add(&b, -1, ids, n, &segment, &err), &err);
    check(sp_batch_score(&b, segment, 1, &start, &err), &err);
    check(sp_pass_create(&pass, m, kind, &err), &err);
    sp_pass_balance(pass, weight);
    check(sp_pass_forward(pass, &b, NULL, &err), &err);
    check(sp_pass_logp(pass, &b, out.logp, &err), &err);
    out.balance = sp_pass_balance_loss(pass);
    out.grads = calloc((size_t)sp_model_trainable(m).total, sizeof *out.grads);
    assert_non_null(out.grads);
    for (size_t i = 0; i < out.n; i++) {
        c[i] = -share;
    }
    check(sp_pass_backward(pass, &b, c, out.grads, true, &err), &err);
    sp_pass_free(pass);
    sp_batch_release(&b);
    return out;
}

static const float *stored(const sp_safetensors *file, const char *prefix, const char *name,
                           size_t n) {
    char full[160];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    const sp_tensor_entry *e = sp_safetensors_find(file, full);
    assert_non_null(e);
    assert_int_equal(e->n_bytes, n * sizeof(float));
    return e->data;
}

/* The flat gradient, as a folder has its tensors, against those of the file, prefix.TENSOR, to 1e-4
 * of the largest entry. */
static void check_grads(const spar_model *m, const float *grads, const sp_safetensors *file,
                        const char *prefix, double weight) {
    spar_error err;
    sp_stored_values values;
    const float **parts = calloc((size_t)m->params.n, sizeof *parts);
    assert_non_null(parts);
    for (int i = 0; i < m->params.n; i++) {
        parts[i] = grads + m->params.items[i].offset;
    }
    check(sp_stored_values_init(&values, &m->params, &m->config, SP_STORED_FOLDER, parts, false,
                                &err),
          &err);
    for (size_t i = 0; i < values.n; i++) {
        const sp_tensor_entry *e = &values.entries[i];
        const size_t n = e->n_bytes / sizeof(float);
        const float *got = e->data, *want = stored(file, prefix, e->name, n);
        double worst = 0, largest = 0;
        for (size_t k = 0; k < n; k++) {
            const double w = weight * (double)want[k];
            worst = fmax(worst, fabs((double)got[k] - w));
            largest = fmax(largest, fabs(w));
        }
        if (!(worst <= 1e-4 * largest)) {
            fail_msg("%s: %g of %g", e->name, worst, largest);
        }
    }
    sp_stored_values_release(&values);
    free(parts);
}

/* Of each row alone its value, and of the last one its gradient: the log-probs weigh nothing. */
static void test_balance(void **state) {
    (void)state;
    for (int f = 0; f < BALANCED; f++) {
        spar_error err;
        sp_safetensors *expected;
        char path[TEST_PATH_MAX];
        int32_t ids[MAX_IDS];
        spar_model *m = load(families[f], 2);
        test_path(path, folder_of(families[f]), "expected.safetensors");
        check(sp_safetensors_open(&expected, path, &err), &err);
        for (size_t i = 0; i < 3; i++) {
            char name[32];
            const size_t n = read_row(families[f], i, ids);
            snprintf(name, sizeof name, "balance.%zu", i);
            for (int kind = SP_PASS_TRAIN; kind <= SP_PASS_RECOMPUTE; kind++) {
                result r = run(m, ids, n, (sp_pass_kind)kind, 0, 0.5);
                const double want = (double)stored(expected, "", name, 1)[0];
                if (!(fabs(r.balance - want) <= 1e-5 * want)) {
                    fail_msg("%s, row %zu: %.9g, want %.9g", families[f], i, r.balance, want);
                }
                if (i == 2) {
                    check_grads(m, r.grads, expected, "balance.grad.", 0.5);
                }
                free(r.grads);
            }
        }
        sp_safetensors_free(expected);
        spar_model_free(m);
    }
}

static double objective(spar_model *m, const int32_t *ids, size_t n, double weight) {
    result r = run(m, ids, n, SP_PASS_TRAIN, 0, 0);
    double total = weight * r.balance;
    for (size_t i = 0; i < r.n; i++) {
        total -= (double)r.logp[i];
    }
    free(r.grads);
    return total;
}

/* A step along the gradient of both losses together changes their sum by its squared length. The
 * step is small enough that no token goes to other experts, and large enough for f32. */
static void test_direction(void **state) {
    (void)state;
    static const char *const some[] = {
        "mixtral", "qwen3-moe-plain", "qwen2-moe-plain", "granite-moe-shared", "ernie4-5-moe-least",
        "glm4-moe"};
    for (int f = 0; f < 6; f++) {
        spar_error err;
        int32_t ids[MAX_IDS];
        const size_t n = read_row(some[f], 1, ids);
        spar_model *m = load(some[f], 1);
        const double balance = m->config.arch->mixture->unbalanced ? 0 : 2;
        result r = run(m, ids, n, SP_PASS_TRAIN, 1, balance);
        double length = 0, values[2];
        for (int64_t i = 0; i < m->params.total; i++) {
            length += (double)r.grads[i] * (double)r.grads[i];
        }
        const double h = 2e-3 / sqrt(length);
        float *before = malloc((size_t)m->params.total * sizeof *before);
        assert_non_null(before);
        memcpy(before, m->weights, (size_t)m->params.total * sizeof *before);
        for (int side = 0; side < 2; side++) {
            for (int64_t i = 0; i < m->params.total; i++) {
                m->weights[i] = before[i] + (float)((side ? h : -h) * (double)r.grads[i]);
            }
            check(sp_model_prepare(m, true, &err), &err);
            values[side] = objective(m, ids, n, balance);
        }
        const double slope = (values[1] - values[0]) / (2 * h);
        if (!(fabs(slope - length) <= 0.01 * length)) {
            fail_msg("%s: slope %g, squared length %g", some[f], slope, length);
        }
        free(before);
        free(r.grads);
        spar_model_free(m);
    }
}

/* The same bits for one, two and three threads, and where activations are made again. */
static void test_bits(void **state) {
    (void)state;
    for (int f = 0; f < FAMILIES; f++) {
        int32_t ids[MAX_IDS];
        const size_t n = read_row(families[f], 2, ids);
        result first = {0};
        for (int threads = 1; threads <= 3; threads++) {
            spar_model *m = load(families[f], threads);
            for (int kind = SP_PASS_TRAIN; kind <= SP_PASS_RECOMPUTE; kind++) {
                result r = run(m, ids, n, (sp_pass_kind)kind, 1, 0.1);
                if (first.grads) {
                    assert_memory_equal(r.logp, first.logp, r.n * sizeof *r.logp);
                    assert_memory_equal(r.grads, first.grads,
                                        (size_t)m->params.total * sizeof *r.grads);
                    assert_true(r.balance == first.balance);
                    free(r.grads);
                } else {
                    first = r;
                }
            }
            spar_model_free(m);
        }
        free(first.grads);
    }
}

/* In bf16 as in f32, but for its rounding: log-probs, and gradients as one vector. */
static void test_bf16(void **state) {
    (void)state;
    static const char *const some[] = {"mixtral", "qwen3-moe-one", "qwen2-moe-plain"};
    for (int f = 0; f < 3; f++) {
        spar_error err;
        int32_t ids[MAX_IDS];
        const size_t n = read_row(some[f], 1, ids);
        spar_model *m = load(some[f], 2);
        spar_model *half = load_from(folder_of(some[f]),
                                     (spar_model_options){.dtype = SPAR_DTYPE_BF16, .threads = 2});
        check(sp_model_prepare(half, true, &err), &err);
        result want = run(m, ids, n, SP_PASS_TRAIN, 1, 0.5);
        result got = run(half, ids, n, SP_PASS_TRAIN, 1, 0.5);
        double apart = 0, length = 0, worst = 0;
        for (size_t i = 0; i < want.n; i++) {
            worst = fmax(worst, fabs((double)got.logp[i] - (double)want.logp[i]));
        }
        for (int64_t i = 0; i < m->params.total; i++) {
            const double d = (double)got.grads[i] - (double)want.grads[i];
            apart += d * d;
            length += (double)want.grads[i] * (double)want.grads[i];
        }
        print_message("%s: log-probs %.2e, gradients %.2e of their length\n", some[f], worst,
                      sqrt(apart / length));
        assert_true(worst <= 0.05);
        assert_true(apart <= 0.03 * 0.03 * length);
        free(want.grads);
        free(got.grads);
        spar_model_free(m);
        spar_model_free(half);
    }
}

static void check_close(const float *got, const float *want, size_t n, double limit) {
    for (size_t i = 0; i < n; i++) {
        if (!(fabs((double)got[i] - (double)want[i]) <= limit)) {
            fail_msg("[%zu]: got %g, want %g", i, (double)got[i], (double)want[i]);
        }
    }
}

/* Logits of all rows of a sequence by one pass, [n, vocabulary]. */
static void whole_logits(spar_model *m, const int32_t *ids, size_t n, float *logits) {
    spar_error err;
    spar_score_row row = {.ids = ids, .n = n, .first = 1, .logits = logits};
    float logps[MAX_IDS];
    row.logps = logps;
    check(spar_model_score(m, &row, 1, &err), &err);
}

/* One token after another with the cache gives what the whole sequence gives. */
static void test_cache(void **state) {
    (void)state;
    for (int f = 0; f < FAMILIES; f++) {
        spar_error err;
        int32_t ids[MAX_IDS];
        float whole[MAX_IDS * MAX_VOCAB], step[MAX_VOCAB];
        sp_kv_cache cache;
        sp_pass *pass;
        sp_batch b;
        const int64_t row = 0;
        const size_t n = read_row(families[f], 2, ids);
        spar_model *m = load(families[f], 2);
        const size_t vocab = (size_t)spar_model_vocab(m);
        whole_logits(m, ids, n, whole);
        check(sp_kv_cache_init(&cache, m, (int64_t)n, &err), &err);
        check(sp_pass_create(&pass, m, SP_PASS_INFER, &err), &err);
        sp_batch_init(&b);
        for (size_t t = 0; t < n; t++) {
            sp_batch_clear(&b);
            check(sp_batch_add_cached(&b, -1, ids + t, 1, 0, (int32_t)t + 1, 0, NULL, &err), &err);
            check(sp_pass_forward(pass, &b, &cache, &err), &err);
            check(sp_pass_logits(pass, &row, 1, step, &err), &err);
            check_close(step, whole + t * vocab, vocab, 2e-5);
        }
        sp_batch_release(&b);
        sp_pass_free(pass);
        sp_kv_cache_release(&cache);
        spar_model_free(m);
    }
}

static void check_same_weights(const spar_model *a, const spar_model *b) {
    assert_int_equal(a->params.total, b->params.total);
    assert_memory_equal(a->weights, b->weights, (size_t)a->params.total * sizeof *a->weights);
}

/* What transformers 5 has in memory, written as it is: gate and up of all experts in one tensor. */
static void test_fused(void **state) {
    (void)state;
    static const char *const both[][2] = {{"mixtral", "mixtral-fused"},
                                          {"qwen3-moe", "qwen3-moe-fused"},
                                          {"granite-moe", "granite-moe-fused"}};
    for (int i = 0; i < 3; i++) {
        spar_model *a = load(both[i][0], 1), *b = load(both[i][1], 1);
        check_same_weights(a, b);
        spar_model_free(a);
        spar_model_free(b);
    }
}

/* The mixture's settings in config.json, after reading and writing. */
static void test_settings(void **state) {
    (void)state;
    for (int f = 0; f < FAMILIES; f++) {
        spar_error err;
        sp_config again;
        spar_model *m = load(families[f], 1);
        const sp_config *c = &m->config;
        json_t *json = sp_config_to_json(c);
        check(sp_config_from_json(&again, json, "config.json", &err), &err);
        assert_int_equal(c->experts, again.experts);
        assert_int_equal(c->top_k, again.top_k);
        assert_int_equal(c->expert_ffn, again.expert_ffn);
        assert_int_equal(c->normalised, again.normalised);
        assert_memory_equal(c->sparse, again.sparse, sizeof c->sparse);
        assert_memory_equal(c->window, again.window, sizeof c->window);
        assert_int_equal(c->groups, again.groups);
        assert_int_equal(c->open_groups, again.open_groups);
        assert_true(c->weight_least == again.weight_least && c->routed_scale == again.routed_scale);
        const double balance = strcmp(families[f], "olmoe") == 0 ? 0.01 : f < BALANCED ? 0.001 : 0;
        assert_int_equal(c->shared_ffn, again.shared_ffn);
        assert_true(c->balance_weight == balance && again.balance_weight == balance);
        assert_true(!c->balances);
        json_decref(json);
        spar_model_free(m);
    }
}

/* To GGUF and back in f32: the same bits and settings. */
static void test_gguf(void **state) {
    (void)state;
    static const char *const some[] = {"mixtral",     "mixtral-one",        "qwen2-moe-plain",
                                       "granite-moe", "granite-moe-shared", "ernie4-5-moe",
                                       "glm4-moe"};
    char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];
    test_path(path, test_temp_dir(dir), "model.gguf");
    for (int i = 0; i < 7; i++) {
        spar_error err;
        spar_model *a = load(some[i], 1);
        check(spar_model_export(a, path, "f32", &err), &err);
        spar_model *b = load_from(path, (spar_model_options){.dtype = SPAR_DTYPE_F32});
        assert_ptr_equal(b->config.arch, a->config.arch);
        check_same_weights(a, b);
        assert_int_equal(a->config.experts, b->config.experts);
        assert_int_equal(a->config.top_k, b->config.top_k);
        assert_int_equal(a->config.shared_ffn, b->config.shared_ffn);
        assert_int_equal(a->config.normalised, b->config.normalised);
        assert_int_equal(a->config.groups, b->config.groups);
        assert_int_equal(a->config.open_groups, b->config.open_groups);
        assert_true(a->config.routed_scale == b->config.routed_scale);
        assert_true(a->config.weight_least == b->config.weight_least);
        assert_memory_equal(a->config.sparse, b->config.sparse, sizeof a->config.sparse);
        assert_memory_equal(a->config.window, b->config.window, sizeof a->config.window);
        spar_model_free(a);
        spar_model_free(b);
    }
    spar_error err;
    check(sp_dir_remove(dir, &err), &err);
}

/* The file with its metadata key `from` called `to`, which is as long, and its number replaced. */
static void replace_number(const char *path, const char *from, const char *to, uint32_t number) {
    spar_error err;
    char *bytes;
    size_t size, n = strlen(from), at = 0;
    assert_int_equal(n, strlen(to));
    check(sp_file_read(path, 1 << 20, &bytes, &size, &err), &err);
    while (at + n < size && memcmp(bytes + at, from, n) != 0) {
        at++;
    }
    assert_true(at + n + 2 * sizeof number <= size);
    memcpy(bytes + at, to, n);
    memcpy(bytes + at + n + sizeof number, &number, sizeof number); /* behind its type */
    check(sp_file_write(path, bytes, size, &err), &err);
    free(bytes);
}

/* Layers that predict further tokens come last, and are left out; all cannot be such. */
static void test_gguf_further(void **state) {
    (void)state;
    spar_error err;
    char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];
    static const char key[] = "glm4moe.nextn_predict_layers";
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 1};
    test_path(path, test_temp_dir(dir), "model.gguf");
    spar_model *m = load("glm4-moe", 1), *b;
    check(spar_model_export(m, path, "f32", &err), &err);
    replace_number(path, "glm4moe.rope.dimension_count", key, 1);
    check(spar_model_load(&b, path, &options, &err), &err);
    assert_int_equal(b->config.layers, m->config.layers - 1);
    spar_model_free(b);
    replace_number(path, key, key, (uint32_t)m->config.layers);
    assert_int_equal(spar_model_load(&b, path, &options, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "further tokens"));
    replace_number(path, key, key, 0);
    replace_number(path, "glm4moe.expert_gating_func", "glm4moe.expert_gating_func", 1);
    assert_int_equal(spar_model_load(&b, path, &options, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "expert_gating_func"));
    spar_model_free(m);
    check(sp_dir_remove(dir, &err), &err);
}

/* What files of the family cannot say. */
static void test_gguf_refused(void **state) {
    (void)state;
    static const struct {
        const char *family, *word;
    } cases[] = {{"qwen3-moe", "a layer without experts"},
                 {"qwen3-moe-plain", "attention_bias"},
                 {"qwen3-moe-one", "norm_topk_prob false"},
                 {"olmoe-clip", "clip_qkv"},
                 {"olmoe", "fewer key heads"},
                 {"granite-moe-hybrid", "layers that do not rotate"},
                 {"ernie4-5-moe-least", "a layer without experts"},
                 {"dots1", "fewer key heads"}};
    for (int i = 0; i < 8; i++) {
        spar_error err;
        spar_model *m = load(cases[i].family, 1);
        assert_int_equal(spar_model_export(m, "/nowhere/model.gguf", "f32", &err),
                         SPAR_UNSUPPORTED);
        assert_non_null(strstr(err.message, cases[i].word));
        spar_model_free(m);
    }
}

static json_t *config_of(const char *type, const char *more) {
    spar_error err;
    json_t *json;
    char text[1024];
    const int n = snprintf(
        text, sizeof text,
        "{\"model_type\": \"%s\", \"vocab_size\": 40, \"hidden_size\": 32, \"head_dim\": 8, "
        "\"intermediate_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
        "\"num_key_value_heads\": 2, \"moe_intermediate_size\": 32%s}",
        type, more);
    check(sp_json_parse(&json, text, (size_t)n, "config.json", &err), &err);
    return json;
}

static json_t *config_json(const char *more) {
    return config_of("qwen3_moe", more);
}

/* A folder of a qwen3_moe whose rows are whole blocks, with random weights. */
static spar_model *make_wide(const char *dir) {
    spar_error err;
    sp_config config;
    json_t *json = config_json(", \"num_experts\": 6, \"num_experts_per_tok\": 2, "
                               "\"norm_topk_prob\": true");
    check(sp_config_from_json(&config, json, "config.json", &err), &err);
    json_decref(json);
    sp_params params;
    check(sp_params_create(&params, &config, &err), &err);
    sp_tensor_entry *entries = calloc((size_t)params.n, sizeof *entries);
    float *values = malloc((size_t)params.total * sizeof *values);
    assert_true(entries != NULL && values != NULL);
    for (int64_t i = 0; i < params.total; i++) {
        values[i] = (float)sin(0.7 * (double)i) * 0.3F;
    }
    for (int i = 0; i < params.n; i++) {
        const sp_param *p = &params.items[i];
        entries[i] = (sp_tensor_entry){.name = p->name,
                                       .dtype = SP_F32,
                                       .n_dims = p->cols ? 2 : 1,
                                       .dims = {p->rows, p->cols},
                                       .data = values + p->offset,
                                       .n_bytes = (size_t)p->count * sizeof *values};
    }
    char path[TEST_PATH_MAX];
    check(sp_safetensors_write(test_path(path, dir, "model.safetensors"), entries, (size_t)params.n,
                               NULL, &err),
          &err);
    json = sp_config_to_json(&config);
    check(sp_json_save(json, test_path(path, dir, "config.json"), &err), &err);
    json_decref(json);
    sp_params_release(&params);
    free(entries);
    free(values);
    return load_from(dir, (spar_model_options){.dtype = SPAR_DTYPE_F32});
}

/* Adapters on all linear layers, which have learnt something. */
static void attach_random(spar_model *m) {
    spar_error err;
    const sp_lora_settings settings = {
        .rank = 2, .alpha = 4, .targets = {.n = 1, .items = {"all-linear"}}};
    check(sp_lora_attach(m, &settings, 1, &err), &err);
    for (int64_t i = 0; i < m->lora->total; i++) {
        m->lora->values[i] += 0.1F * (float)sin(1.3 * (double)i);
    }
    check(sp_model_prepare_trainable(m, &err), &err);
}

/* In f32 the same bits as in the folder. Quantised GGUF: experts are kept as the blocks of the
 * file, routers as floats; the logits are those of the same numbers as floats. Adapters train on
 * it, those of experts too, and move both alike. */
static void test_blocks(void **state) {
    (void)state;
    spar_error err;
    char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];
    test_temp_dir(dir);
    spar_model *m = make_wide(dir);
    float floats[16 * MAX_VOCAB], blocks[16 * MAX_VOCAB];
    int32_t ids[16];
    for (int i = 0; i < 16; i++) {
        ids[i] = (i * 7) % 40;
    }
    check(spar_model_export(m, test_path(path, dir, "f32.gguf"), "f32", &err), &err);
    spar_model *a = load_from(path, (spar_model_options){.dtype = SPAR_DTYPE_F32});
    assert_string_equal(a->config.arch->model_type, "qwen3_moe");
    check_same_weights(a, m);
    spar_model_free(a);
    check(spar_model_export(m, test_path(path, dir, "q8.gguf"), "q8_0", &err), &err);
    a = load_from(path, (spar_model_options){.dtype = SPAR_DTYPE_F32});
    spar_model *b = load_from(
        path, (spar_model_options){.dtype = SPAR_DTYPE_F32, .weights = SPAR_WEIGHTS_FILE});
    assert_memory_equal(sp_model_matrix(b, SP_ROUTER, 1)->data,
                        sp_model_matrix(m, SP_ROUTER, 1)->data, 6 * 32 * sizeof(float));
    for (int e = 0; e < 6; e++) {
        assert_non_null((sp_model_matrix(b, SP_EXPERT_DOWN, 1) + e)->blocks);
    }
    whole_logits(a, ids, 16, floats);
    whole_logits(b, ids, 16, blocks);
    check_close(blocks, floats, 16 * 40, 2e-5);
    float before[16 * MAX_VOCAB];
    memcpy(before, floats, sizeof before);
    attach_random(a);
    attach_random(b);
    whole_logits(a, ids, 16, floats);
    whole_logits(b, ids, 16, blocks);
    check_close(blocks, floats, 16 * 40, 2e-5);
    double moved = 0;
    for (int i = 0; i < 16 * 40; i++) {
        moved = fmax(moved, fabs((double)floats[i] - (double)before[i]));
    }
    print_message("adapters move logits by up to %.2g\n", moved);
    assert_true(moved > 1e-3);
    result of_floats = run(a, ids, 16, SP_PASS_TRAIN, 1, 0),
           r = run(b, ids, 16, SP_PASS_TRAIN, 1, 0);
    double size = 0, apart = 0;
    for (int64_t i = 0; i < sp_model_trainable(b).total; i++) {
        size = fmax(size, fabs((double)of_floats.grads[i]));
        apart = fmax(apart, fabs((double)of_floats.grads[i] - (double)r.grads[i]));
    }
    assert_true(size > 1e-3 && apart <= 1e-4 * size);
    free(of_floats.grads);
    free(r.grads);
    spar_model_free(a);
    spar_model_free(b);
    spar_model_free(m);
    check(sp_dir_remove(dir, &err), &err);
}

static void near_weights(const spar_model *m, const char *family) {
    spar_model *again = load(family, 1);
    check_same_weights(m, again);
    spar_model_free(again);
}

/* Without targets, those of attention and of dense layers: experts and routers stay. */
static void test_adapters(void **state) {
    (void)state;
    spar_error err;
    sp_lora_settings settings = {.rank = 3, .alpha = 6};
    int32_t ids[MAX_IDS];
    const size_t n = read_row("qwen3-moe", 2, ids);
    spar_model *m = load("qwen3-moe", 2);
    check(sp_lora_attach(m, &settings, 1, &err), &err);
    assert_int_equal(m->lora->n, 3 * 4 + 3); /* a dense layer among three */
    check(sp_model_prepare_trainable(m, &err), &err);
    result r = run(m, ids, n, SP_PASS_TRAIN, 1, 0.5);
    for (int i = 0; i < m->lora->n; i++) { /* B moves first: A's gradient is 0 while B is */
        const sp_adapter *a = &m->lora->items[i];
        double size = 0;
        for (int64_t k = 0; k < a->of->rows * settings.rank; k++) {
            size += fabs((double)r.grads[a->offset_b + k]);
        }
        assert_true(isfinite(size) && size > 0);
    }
    free(r.grads);
    near_weights(m, "qwen3-moe");
    spar_model_free(m);
}

static void test_sizes(void **state) {
    (void)state;
    spar_error err;
    spar_model_sizes sizes;
    spar_model *m = load("mixtral", 1);
    const int64_t expert = 3 * 5 * 8;
    check(spar_model_measure(&sizes, folder_of("mixtral"), &err), &err);
    assert_int_equal(sizes.layers, 2);
    assert_int_equal(sizes.parameters, spar_model_parameters(m));
    assert_int_equal(sizes.parameters - sizes.active, 2 * 2 * expert); /* 2 of 4, in 2 layers */
    spar_model_free(m);
}

static void test_bad_configs(void **state) {
    (void)state;
    static const struct {
        const char *more, *word;
    } cases[] = {
        {"", "num_experts"},
        {", \"num_experts\": 4, \"num_experts_per_tok\": 5", "num_experts_per_tok"},
        {", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"mlp_only_layers\": 1",
         "mlp_only_layers"},
        {", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"mlp_only_layers\": [\"x\"]",
         "mlp_only_layers[0]"},
        {", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"decoder_sparse_step\": 0",
         "decoder_sparse_step"},
        {", \"num_experts\": 40000, \"num_experts_per_tok\": 2", "experts in all"},
        {", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"router_aux_loss_coef\": -1",
         "router_aux_loss_coef"},
        {", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"router_jitter_noise\": 0.1",
         "router_jitter_noise"},
        {", \"num_experts\": 4, \"num_experts_per_tok\": 2, \"shared_expert_intermediate_size\": 8",
         "shared_expert_intermediate_size"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spar_error err;
        sp_config config;
        json_t *json = config_json(cases[i].more);
        assert_true(sp_config_from_json(&config, json, "config.json", &err) != SPAR_OK);
        if (!strstr(err.message, cases[i].word)) {
            fail_msg("expected %s in: %s", cases[i].word, err.message);
        }
        json_decref(json);
    }
}

/* Of families whose router chooses by more than its probabilities. */
static void test_bad_routers(void **state) {
    (void)state;
    static const struct {
        const char *type, *more, *word;
    } cases[] = {
        {"glm4_moe",
         ", \"num_experts_per_tok\": 2, \"n_routed_experts\": 6, \"n_group\": 4, \"topk_group\": 2",
         "4 groups"},
        {"glm4_moe",
         ", \"num_experts_per_tok\": 2, \"n_routed_experts\": 6, \"n_group\": 6, \"topk_group\": 2",
         "6 groups"},
        {"glm4_moe",
         ", \"n_routed_experts\": 6, \"n_group\": 3, \"topk_group\": 1, "
         "\"num_experts_per_tok\": 3",
         "3 groups"},
        {"glm4_moe", ", \"n_routed_experts\": 8, \"n_group\": 65", "n_group"},
        {"glm4_moe", ", \"n_shared_experts\": 0", "n_shared_experts"},
        {"glm4_moe", ", \"n_shared_experts\": 4000000", "n_shared_experts"},
        {"glm4_moe", ", \"routed_scaling_factor\": 0", "routed_scaling_factor"},
        {"glm4_moe", ", \"router_aux_loss_coef\": 0.1", "router_aux_loss_coef"},
        {"glm4_moe", ", \"first_k_dense_replace\": -1", "first_k_dense_replace"},
        {"dots1", ", \"n_routed_experts\": 8, \"num_experts_per_tok\": 2", "n_shared_experts"},
        {"ernie4_5_moe", ", \"moe_norm_min\": 0", "moe_norm_min"},
        {"ernie4_5_moe", ", \"moe_layer_interval\": 0", "moe_layer_interval"},
        {"ernie4_5_moe", ", \"moe_k\": 65", "num_experts_per_tok"},
        {"ernie4_5_moe", ", \"use_bias\": true", "use_bias"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spar_error err;
        sp_config config;
        json_t *json = config_of(cases[i].type, cases[i].more);
        assert_true(sp_config_from_json(&config, json, "config.json", &err) != SPAR_OK);
        if (!strstr(err.message, cases[i].word)) {
            fail_msg("expected %s in: %s", cases[i].word, err.message);
        }
        json_decref(json);
    }
}

/* As many groups as are open are none, and a range of layers is written as it was meant. */
static void test_routers(void **state) {
    (void)state;
    static const struct {
        const char *type, *more;
        int groups;
        bool sparse[2];
    } cases[] = {
        {"glm4_moe", ", \"n_group\": 4, \"topk_group\": 4", 0, {false, true}},
        {"glm4_moe", ", \"n_group\": 4, \"topk_group\": 3", 4, {false, true}},
        {"glm4_moe", ", \"first_k_dense_replace\": 2", 0, {false, false}},
        {"ernie4_5_moe", "", 0, {false, true}},
        {"ernie4_5_moe", ", \"moe_layer_start_index\": 0, \"moe_layer_end_index\": 0", 0, {true}},
        {"ernie4_5_moe", ", \"moe_layer_interval\": 2", 0, {false, true}},
        {"ernie4_5_moe", ", \"moe_layer_interval\": 3", 0, {false, false}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spar_error err;
        sp_config config;
        json_t *json = config_of(cases[i].type, cases[i].more);
        for (int turn = 0; turn < 2; turn++) {
            check(sp_config_from_json(&config, json, "config.json", &err), &err);
            json_decref(json);
            assert_int_equal(config.groups, cases[i].groups);
            assert_memory_equal(config.sparse, cases[i].sparse, sizeof cases[i].sparse);
            json = sp_config_to_json(&config);
        }
        json_decref(json);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_balance),      cmocka_unit_test(test_direction),
        cmocka_unit_test(test_bits),         cmocka_unit_test(test_cache),
        cmocka_unit_test(test_bf16),         cmocka_unit_test(test_fused),
        cmocka_unit_test(test_settings),     cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_gguf_further), cmocka_unit_test(test_gguf_refused),
        cmocka_unit_test(test_blocks),       cmocka_unit_test(test_adapters),
        cmocka_unit_test(test_sizes),        cmocka_unit_test(test_bad_configs),
        cmocka_unit_test(test_bad_routers),  cmocka_unit_test(test_routers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
