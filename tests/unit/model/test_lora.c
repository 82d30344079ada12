/* Adapters: what passes compute through them is what the merged weights compute, forward and
 * backward; files as PEFT has them; what is refused. On a small random model of our own. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "model/engine.h"
#include "model/lora.h"
#include "model/model_create.h"
#include "support.h"

enum { TOKENS = 29, SCORED = TOKENS - 1 };

/* The families that the tests are run for, one after another: one that norms what the halves of a
 * layer take in, one that norms what they give too, three that store several matrices as one: one
 * after another, head by head, and transposed; and a mixture, adapted with its experts. */
typedef struct family {
    const char *config;
    int matrices, modules, names; /* adapted in all; stored; by their names alone */
    const char *down, *part; /* one that is stored; a target that is no whole matrix, or NULL */
    int downs;               /* matrices called down_proj */
    bool mixture;
} family;

static const family families[] = {
    {"{\"model_type\": \"qwen3\", \"vocab_size\": 97, \"hidden_size\": 48, "
     "\"intermediate_size\": 80, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
     "\"num_key_value_heads\": 2, \"head_dim\": 16, \"max_position_embeddings\": 64, "
     "\"rms_norm_eps\": 1e-6, \"tie_word_embeddings\": true, \"hidden_act\": \"silu\"}",
     14, 14, 7, "model.layers.1.mlp.down_proj", NULL, 2, false},
    {"{\"model_type\": \"gemma2\", \"vocab_size\": 97, \"hidden_size\": 48, "
     "\"intermediate_size\": 80, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
     "\"num_key_value_heads\": 2, \"head_dim\": 16, \"max_position_embeddings\": 64, "
     "\"sliding_window\": 9, \"attn_logit_softcapping\": 3, \"final_logit_softcapping\": 4}",
     14, 14, 7, "model.layers.1.mlp.down_proj", NULL, 2, false},
    {"{\"model_type\": \"phi3\", \"vocab_size\": 97, \"hidden_size\": 48, "
     "\"intermediate_size\": 80, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
     "\"num_key_value_heads\": 2, \"max_position_embeddings\": 64}",
     14, 8, 4, "model.layers.1.mlp.down_proj", "up_proj", 2, false},
    {"{\"model_type\": \"gpt_neox\", \"vocab_size\": 97, \"hidden_size\": 48, "
     "\"intermediate_size\": 80, \"num_hidden_layers\": 2, \"num_attention_heads\": 3, "
     "\"max_position_embeddings\": 64}",
     12, 8, 4, "gpt_neox.layers.1.mlp.dense_4h_to_h", "v_proj", 2, false},
    {"{\"model_type\": \"gpt2\", \"vocab_size\": 97, \"n_embd\": 48, \"n_inner\": 80, "
     "\"n_layer\": 2, \"n_head\": 4, \"n_positions\": 64}",
     12, 8, 3, "transformer.h.1.mlp.c_proj", "k_proj", 2, false},
    {"{\"model_type\": \"qwen2_moe\", \"vocab_size\": 97, \"hidden_size\": 48, "
     "\"intermediate_size\": 80, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
     "\"num_key_value_heads\": 2, \"max_position_embeddings\": 64, \"num_experts\": 5, "
     "\"num_experts_per_tok\": 2, \"moe_intermediate_size\": 20, \"norm_topk_prob\": true, "
     "\"shared_expert_intermediate_size\": 36, \"decoder_sparse_step\": 1}",
     48, 22, 4, "model.layers.1.mlp.shared_expert.down_proj", "experts.up_proj", 12, true}};
static const family *tested;

static char folder[TEST_PATH_MAX];

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static spar_model *make_model(spar_dtype dtype) {
    spar_error err;
    json_t *root;
    sp_config config;
    spar_model *m;
    const spar_model_options options = {.dtype = dtype, .threads = 2};
    check(sp_json_parse(&root, tested->config, strlen(tested->config), "config", &err), &err);
    check(sp_config_from_json(&config, root, "config", &err), &err);
    json_decref(root);
    check(sp_model_create(&m, &config, "random", &options, NULL, &err), &err);
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        for (int64_t k = 0; k < p->count; k++) {
            const double u = sp_rng_uniform(5, (uint64_t)i, (uint64_t)k) - 0.5;
            const bool gain = !p->cols && !strstr(p->name, "bias");
            m->weights[p->offset + k] = (float)(gain ? 1 + 0.2 * u : 0.4 * u);
        }
    }
    check(sp_model_prepare(m, true, &err), &err);
    return m;
}

static sp_lora_settings settings(int64_t rank, bool rslora) {
    return (sp_lora_settings){.rank = rank,
                              .alpha = 12,
                              .rslora = rslora,
                              .targets = {.n = tested->mixture, .items = {"all-linear"}}};
}

/* Both halves random: an adapter that has learnt something. */
static void attach_random(spar_model *m, const sp_lora_settings *s) {
    spar_error err;
    check(sp_lora_attach(m, s, 9, &err), &err);
    for (int i = 0; i < m->lora->n; i++) {
        const sp_adapter *a = &m->lora->items[i];
        for (int64_t k = 0; k < a->of->rows * s->rank; k++) {
            m->lora->values[a->offset_b + k] =
                (float)(0.1 * (sp_rng_uniform(3, (uint64_t)i, (uint64_t)k) - 0.5));
        }
        for (int64_t k = 0; s->dora && k < a->of->rows; k++) {
            const double u = sp_rng_uniform(4, (uint64_t)i, (uint64_t)k) - 0.5;
            m->lora->values[a->offset_m + k] *= (float)(1 + 0.4 * u);
        }
    }
    check(sp_lora_prepare(m, true, &err), &err);
}

/* Put the merged weights in the place of the model's own and drop the adapter. */
static void merge(spar_model *m) {
    spar_error err;
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        float *merged = malloc((size_t)p->count * sizeof *merged);
        assert_non_null(merged);
        sp_model_floats(m, p, merged);
        memcpy(m->weights + p->offset, merged, (size_t)p->count * sizeof *merged);
        free(merged);
    }
    sp_lora_detach(m);
    check(sp_model_prepare(m, true, &err), &err);
}

static float weight(int i) {
    return 0.3F - 0.05F * (float)(i % 9);
}

/* Log-probs of a fixed row, and, where wanted, the gradient of a fixed mixture of them. */
static void run_pass(spar_model *m, sp_pass_kind kind, float *logp, float *grads) {
    spar_error err;
    sp_batch b;
    sp_pass *pass;
    int segment;
    int32_t ids[TOKENS];
    float c[SCORED];
    for (int i = 0; i < TOKENS; i++) {
        ids[i] = (int32_t)sp_rng_below(1, 2, (uint64_t)i, 97);
    }
    for (int i = 0; i < SCORED; i++) {
        c[i] = weight(i);
    }
    sp_batch_init(&b);
    check(sp_batch_add(&b, -1, ids, TOKENS, &segment, &err), &err);
    check(sp_batch_score(&b, segment, 1, NULL, &err), &err);
    check(sp_pass_create(&pass, m, kind, &err), &err);
    sp_pass_dropout(pass, grads != NULL, 7);
    check(sp_pass_forward(pass, &b, NULL, &err), &err);
    check(sp_pass_logp(pass, &b, logp, &err), &err);
    if (grads) {
        memset(grads, 0, (size_t)sp_model_trainable(m).total * sizeof *grads);
        check(sp_pass_backward(pass, &b, c, grads, true, &err), &err);
    }
    sp_pass_free(pass);
    sp_batch_release(&b);
}

static void run(spar_model *m, float *logp, float *grads) {
    run_pass(m, grads ? SP_PASS_TRAIN : SP_PASS_INFER, logp, grads);
}

/* What a backward makes again is what it would have kept, of the weights and of an adapter. */
static void test_recompute(void **state) {
    (void)state;
    for (int adapter = 0; adapter < (tested->mixture ? 2 : 3); adapter++) {
        float logp[SCORED], again[SCORED];
        sp_lora_settings s = settings(4, false);
        s.dora = adapter == 2;
        s.dropout = s.dora ? 0 : 0.25;
        spar_model *m = make_model(SPAR_DTYPE_F32);
        if (adapter) {
            attach_random(m, &s);
        }
        const size_t n = (size_t)sp_model_trainable(m).total;
        float *kept = calloc(n, sizeof *kept), *made = calloc(n, sizeof *made);
        run_pass(m, SP_PASS_TRAIN, logp, kept);
        run_pass(m, SP_PASS_RECOMPUTE, again, made);
        assert_memory_equal(logp, again, sizeof logp);
        assert_memory_equal(kept, made, n * sizeof *kept);
        free(kept);
        free(made);
        spar_model_free(m);
    }
}

static void near_all(const char *what, const float *got, const float *want, int64_t n,
                     double tolerance);

static void test_fresh_changes_nothing(void **state) {
    (void)state;
    spar_error err;
    float before[SCORED], after[SCORED];
    sp_lora_settings s = settings(4, false);
    spar_model *m = make_model(SPAR_DTYPE_F32);
    run(m, before, NULL);
    check(sp_lora_attach(m, &s, 1, &err), &err);
    assert_int_equal(m->lora->n, tested->matrices);
    run(m, after, NULL);
    assert_memory_equal(before, after, sizeof before);
    s.dora = true;
    if (tested->mixture) {
        assert_int_equal(sp_lora_attach(m, &s, 1, &err), SPAR_UNSUPPORTED);
        assert_non_null(strstr(err.message, "no magnitudes (DoRA) on a mixture's experts"));
    } else {
        check(sp_lora_attach(m, &s, 1, &err), &err);
        run(m, after, NULL);
        near_all("fresh magnitudes", after, before, SCORED, 1e-6);
    }
    spar_model_free(m);
}

static void near_all(const char *what, const float *got, const float *want, int64_t n,
                     double tolerance) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const double size = fabs((double)want[i]);
        largest = size > largest ? size : largest;
    }
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance * largest)) {
            fail_msg("%s: element %d: expected %.7g, found %.7g (largest %.3g)", what, (int)i,
                     (double)want[i], (double)got[i], largest);
        }
    }
}

/* With dW the gradient of the merged weight: dA = s B^T dW, dB = s dW A^T; of parts that share A,
 * dA is the sum. To want [total]. */
static void expect_grads(const sp_lora *l, const sp_adapter *a, const float *dw, float *want) {
    const int64_t rank = a->rank, rows = a->of->rows, cols = a->of->cols;
    for (int64_t k = 0; k < rank; k++) {
        for (int64_t j = 0; j < cols; j++) {
            double sum = 0;
            for (int64_t i = 0; i < rows; i++) {
                sum += (double)l->values[a->offset_b + i * rank + k] * (double)dw[i * cols + j];
            }
            want[a->offset_a + k * cols + j] += (float)((double)a->scale * sum);
        }
    }
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t k = 0; k < rank; k++) {
            double sum = 0;
            for (int64_t j = 0; j < cols; j++) {
                sum += (double)dw[i * cols + j] * (double)l->values[a->offset_a + k * cols + j];
            }
            want[a->offset_b + i * rank + k] = (float)((double)a->scale * sum);
        }
    }
}

/* y = diag(m / |V|) V x with |V| held constant: of the merged weight's gradient dW, dV is
 * diag(m / |V|) dW and dm its product with V / |V|, which is the merged weight over m. */
static void expect_magnitudes(const sp_lora *l, const sp_adapter *a, const float *merged, float *dw,
                              float *want) {
    for (int64_t r = 0; r < a->of->rows; r++) {
        double sum = 0;
        for (int64_t c = 0; c < a->of->cols; c++) {
            const int64_t at = r * a->of->cols + c;
            sum += (double)dw[at] * (double)merged[at];
            dw[at] *= a->gain[r];
        }
        want[a->offset_m + r] = (float)(sum / (double)l->values[a->offset_m + r]);
    }
}

static void compare_grads(const sp_lora *l, const float *got, const float *want, double tolerance) {
    for (int i = 0; i < l->n; i++) {
        const sp_adapter *a = &l->items[i];
        const int64_t na = a->rank * a->of->cols, nb = a->rank * a->of->rows;
        near_all(a->of->name, got + a->offset_a, want + a->offset_a, na, tolerance);
        near_all(a->of->name, got + a->offset_b, want + a->offset_b, nb, tolerance);
        if (l->settings.dora) {
            near_all(a->of->name, got + a->offset_m, want + a->offset_m, a->of->rows, tolerance);
        }
    }
}

static void compare_with_merged(sp_lora_settings s, spar_dtype dtype, double tolerance) {
    float logp[SCORED], merged_logp[SCORED];
    spar_model *m = make_model(dtype), *merged = make_model(dtype);
    attach_random(m, &s);
    attach_random(merged, &s);
    merge(merged);
    float *grads = calloc((size_t)m->lora->total, sizeof *grads);
    float *want = calloc((size_t)m->lora->total, sizeof *want);
    float *full = calloc((size_t)merged->params.total, sizeof *full);
    assert_true(grads && want && full);
    run(m, logp, grads);
    run(merged, merged_logp, full);
    near_all("log-probs", logp, merged_logp, SCORED, tolerance);
    run(m, logp, NULL); /* as samples are made */
    near_all("log-probs of an inference pass", logp, merged_logp, SCORED, tolerance);
    for (int i = 0; i < m->lora->n; i++) {
        const sp_adapter *a = &m->lora->items[i];
        const int64_t at = a->of->offset;
        if (s.dora) {
            expect_magnitudes(m->lora, a, merged->weights + at, full + at, want);
        }
        expect_grads(m->lora, a, full + at, want);
    }
    compare_grads(m->lora, grads, want, 10 * tolerance);
    free(grads);
    free(want);
    free(full);
    spar_model_free(m);
    spar_model_free(merged);
}

static void test_merged(void **state) {
    (void)state;
    compare_with_merged(settings(1, false), SPAR_DTYPE_F32, 2e-6);
    compare_with_merged(settings(4, false), SPAR_DTYPE_F32, 2e-6);
    compare_with_merged(settings(7, true), SPAR_DTYPE_F32, 2e-6);
    compare_with_merged(settings(16, false), SPAR_DTYPE_F32, 2e-6);
    compare_with_merged(settings(8, false), SPAR_DTYPE_BF16, 2e-2);
}

static sp_lora_settings dora(int64_t rank) {
    sp_lora_settings s = settings(rank, false);
    s.dora = true;
    return s;
}

static void test_dora(void **state) {
    (void)state;
    compare_with_merged(dora(1), SPAR_DTYPE_F32, 2e-6);
    compare_with_merged(dora(5), SPAR_DTYPE_F32, 2e-6);
    compare_with_merged(dora(16), SPAR_DTYPE_F32, 2e-6);
    compare_with_merged(dora(8), SPAR_DTYPE_BF16, 2e-2);
}

static void test_dora_files(void **state) {
    (void)state;
    spar_error err;
    char dir[TEST_PATH_MAX], file[TEST_PATH_MAX], name[128];
    sp_safetensors *tensors;
    spar_model *m = make_model(SPAR_DTYPE_F32), *other = make_model(SPAR_DTYPE_F32);
    sp_lora_settings s = dora(3);
    attach_random(m, &s);
    test_path(dir, folder, "dora");
    check(spar_model_save_adapter(m, dir, &err), &err);
    check(sp_safetensors_open(&tensors, test_path(file, dir, "adapter_model.safetensors"), &err),
          &err);
    assert_int_equal(sp_safetensors_count(tensors), 3 * tested->modules);
    snprintf(name, sizeof name, "base_model.model.%s.lora_magnitude_vector", tested->down);
    const sp_tensor_entry *e = sp_safetensors_find(tensors, name);
    assert_non_null(e);
    assert_int_equal(e->n_dims, 1);
    assert_int_equal(e->dims[0], 48);
    sp_safetensors_free(tensors);
    check(sp_lora_load(other, dir, &err), &err);
    assert_memory_equal(other->lora->values, m->lora->values,
                        (size_t)m->lora->total * sizeof(float));
    s.dropout = 0.1;
    check(sp_lora_attach(m, &s, 1, &err), &err);
    assert_int_equal(sp_model_check_trainable(m, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "no dropout, found 0.1"));
    spar_model_free(m);
    spar_model_free(other);
}

/* The derivative along a direction of all adapter values, by central differences, with dropout on:
 * the mask is the same each time, so the loss is a smooth function of them. */
static void test_dropout(void **state) {
    (void)state;
    spar_error err;
    float logp[SCORED];
    const float step = 2e-3F;
    sp_lora_settings s = settings(4, false);
    s.dropout = 0.4;
    spar_model *m = make_model(SPAR_DTYPE_F32);
    attach_random(m, &s);
    const int64_t n = m->lora->total;
    float *grads = calloc((size_t)n, sizeof *grads), *scratch = calloc((size_t)n, sizeof *scratch);
    float *values = calloc((size_t)n, sizeof *values);
    assert_true(grads && scratch && values);
    memcpy(values, m->lora->values, (size_t)n * sizeof *values);
    run(m, logp, NULL);
    const float without = logp[3];
    run(m, logp, grads);
    assert_true(logp[3] != without); /* it is on, and only in training */
    double along = 0, losses[2] = {0, 0};
    for (int64_t i = 0; i < n; i++) {
        along += (double)grads[i] * sp_rng_normal(2, 2, (uint64_t)i);
    }
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < n; i++) {
            const double d = sp_rng_normal(2, 2, (uint64_t)i);
            m->lora->values[i] = values[i] + (float)((side ? -1 : 1) * (double)step * d);
        }
        check(sp_lora_prepare(m, true, &err), &err);
        run(m, logp, scratch);
        for (int i = 0; i < SCORED; i++) {
            losses[side] += (double)weight(i) * (double)logp[i];
        }
    }
    const double found = (losses[0] - losses[1]) / (2 * (double)step);
    print_message("along a direction: %.6g by the backward pass, %.6g by differences\n", along,
                  found);
    assert_true(fabs(found - along) <= 2e-3 * fabs(along));
    free(grads);
    free(scratch);
    free(values);
    spar_model_free(m);
}

static void test_scale(void **state) {
    (void)state;
    spar_error err;
    spar_model *m = make_model(SPAR_DTYPE_F32);
    sp_lora_settings s = settings(9, false);
    check(sp_lora_attach(m, &s, 1, &err), &err);
    assert_true(fabsf(m->lora->items[0].scale - 12.0F / 9.0F) < 1e-6F);
    s.rslora = true;
    check(sp_lora_attach(m, &s, 1, &err), &err);
    assert_true(fabsf(m->lora->items[0].scale - 4.0F) < 1e-6F);
    spar_model_free(m);
}

static void refuse_targets(spar_model *m, sp_lora_settings *s, const char *first,
                           const char *second, spar_status status, const char *message) {
    spar_error err;
    s->targets.items[0] = first;
    s->targets.items[1] = second;
    if (sp_lora_attach(m, s, 1, &err) != status || !strstr(err.message, message)) {
        fail_msg("expected %s in: %s", message, err.message);
    }
}

static void test_targets(void **state) {
    (void)state;
    spar_error err;
    spar_model *m = make_model(SPAR_DTYPE_F32);
    sp_lora_settings s = settings(2, false);
    s.targets = (spar_option_list){.n = 1, .items = {"down_proj"}};
    check(sp_lora_attach(m, &s, 1, &err), &err);
    assert_int_equal(m->lora->n, tested->downs);
    assert_non_null(sp_lora_find(m, tested->mixture ? SP_EXPERT_DOWN : SP_DOWN, 1));
    assert_null(sp_lora_find(m, tested->mixture ? SP_EXPERT_UP : SP_UP, 1));
    s.targets.n = 2;
    refuse_targets(m, &s, "o_proj", "w_proj", SPAR_INVALID,
                   "target module w_proj: expected all-linear, q_proj");
    if (tested->part) {
        refuse_targets(m, &s, "o_proj", tested->part, SPAR_UNSUPPORTED, "as one matrix");
    }
    assert_int_equal(m->lora->n, tested->downs); /* what was attached stays */
    spar_model_free(m);
}

/* Names as the checkpoint has them, also those that two matrices of a layer share. */
static void test_own_names(void **state) {
    (void)state;
    static const struct {
        const char *type, *target, *written;
        int n;
    } cases[] = {
        {"phi3", "qkv_proj", "qkv_proj", 6}, {"gpt_neox", "query_key_value", "query_key_value", 6},
        {"gpt_neox", "dense", "dense", 2},   {"gpt2", "c_attn", "c_attn", 6},
        {"gpt2", "c_proj", "c_proj", 4},     {"gpt2", "attn.c_proj", "attn.c_proj", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char type[64], dir[TEST_PATH_MAX], file[TEST_PATH_MAX];
        spar_error err;
        json_t *config;
        snprintf(type, sizeof type, "\"%s\"", cases[i].type);
        if (!strstr(tested->config, type)) {
            continue;
        }
        spar_model *m = make_model(SPAR_DTYPE_F32);
        sp_lora_settings s = settings(2, false);
        s.targets = (spar_option_list){.n = 1, .items = {cases[i].target}};
        check(sp_lora_attach(m, &s, 1, &err), &err);
        assert_int_equal(m->lora->n, cases[i].n);
        snprintf(type, sizeof type, "own%d", (int)i);
        test_path(dir, folder, type);
        check(spar_model_save_adapter(m, dir, &err), &err);
        check(sp_json_load(&config, test_path(file, dir, "adapter_config.json"), &err), &err);
        json_t *written = json_object_get(config, "target_modules");
        assert_int_equal(json_array_size(written), 1);
        assert_string_equal(json_string_value(json_array_get(written, 0)), cases[i].written);
        json_decref(config);
        check(sp_lora_load(m, dir, &err), &err);
        assert_int_equal(m->lora->n, cases[i].n);
        spar_model_free(m);
    }
}

static void test_files(void **state) {
    (void)state;
    spar_error err;
    char dir[TEST_PATH_MAX], file[TEST_PATH_MAX], name[128];
    sp_safetensors *tensors;
    json_t *config;
    spar_model *m = make_model(SPAR_DTYPE_F32), *other = make_model(SPAR_DTYPE_F32);
    sp_lora_settings s = settings(3, true);
    attach_random(m, &s);
    test_path(dir, folder, "adapter");
    check(spar_model_save_adapter(m, dir, &err), &err);
    assert_int_equal(spar_model_save_adapter(m, dir, &err), SPAR_INVALID); /* there already */
    check(sp_json_load(&config, test_path(file, dir, "adapter_config.json"), &err), &err);
    assert_string_equal(json_string_value(json_object_get(config, "peft_type")), "LORA");
    assert_int_equal(json_integer_value(json_object_get(config, "r")), 3);
    assert_int_equal(json_array_size(json_object_get(config, "target_modules")), tested->names);
    assert_true(json_is_true(json_object_get(config, "use_rslora")));
    json_decref(config);
    check(sp_safetensors_open(&tensors, test_path(file, dir, "adapter_model.safetensors"), &err),
          &err);
    assert_int_equal(sp_safetensors_count(tensors), 2 * tested->modules);
    snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", tested->down);
    const sp_tensor_entry *e = sp_safetensors_find(tensors, name);
    assert_non_null(e);
    assert_int_equal(e->dims[0], 48);
    assert_int_equal(e->dims[1], 3);
    sp_safetensors_free(tensors);
    check(sp_lora_load(other, dir, &err), &err);
    assert_int_equal(other->lora->total, m->lora->total);
    assert_memory_equal(other->lora->values, m->lora->values,
                        (size_t)m->lora->total * sizeof(float));
    assert_true(other->lora->items[0].scale == m->lora->items[0].scale);
    sp_lora_detach(other);
    assert_int_equal(spar_model_save_adapter(other, dir, &err), SPAR_INVALID); /* has none */
    spar_model_free(m);
    spar_model_free(other);
}

static const float *tensor_of(const sp_safetensors *file, const char *name, const char *ending) {
    char full[192];
    const int n = (int)(strlen(name) - strlen(".weight"));
    snprintf(full, sizeof full, ending[0] ? "base_model.model.%.*s.%s" : "%.*s.weight%s", n, name,
             ending);
    const sp_tensor_entry *e = sp_safetensors_find(file, full);
    assert_non_null(e);
    return e->data;
}

/* In the order of the checkpoint: W of the merged model is W + s B A, by the files alone. */
static void test_stored(void **state) {
    (void)state;
    enum { RANK = 3 };
    spar_error err;
    char dir[3][TEST_PATH_MAX], file[TEST_PATH_MAX];
    sp_safetensors *plain, *merged, *adapter;
    spar_model *m = make_model(SPAR_DTYPE_F32);
    const sp_lora_settings s = settings(RANK, false);
    check(spar_model_save(m, test_path(dir[0], folder, "plain"), &err), &err);
    attach_random(m, &s);
    check(spar_model_save(m, test_path(dir[1], folder, "merged"), &err), &err);
    check(spar_model_save_adapter(m, test_path(dir[2], folder, "stored"), &err), &err);
    check(sp_safetensors_open(&plain, dir[0], &err), &err);
    check(sp_safetensors_open(&merged, dir[1], &err), &err);
    test_path(file, dir[2], "adapter_model.safetensors");
    check(sp_safetensors_open(&adapter, file, &err), &err);
    for (int i = 0; i < m->lora->n_modules; i++) {
        const sp_stored *w = &m->lora->modules[i];
        if (w->stack > 0) { /* test_lora_experts.c holds them against PEFT's own */
            continue;
        }
        const float *a = tensor_of(adapter, w->name, "lora_A.weight");
        const float *b = tensor_of(adapter, w->name, "lora_B.weight");
        const float *from = tensor_of(plain, w->name, ""), *to = tensor_of(merged, w->name, "");
        for (int64_t r = 0; r < w->rows; r++) {
            for (int64_t c = 0; c < w->cols; c++) {
                const int64_t at = w->transposed ? c * w->rows + r : r * w->cols + c;
                double want = (double)from[at];
                for (int k = 0; k < RANK; k++) {
                    want += 12.0 / RANK * (double)b[r * RANK + k] * (double)a[k * w->cols + c];
                }
                assert_true(fabs((double)to[at] - want) <= 1e-6);
            }
        }
    }
    sp_safetensors_free(plain);
    sp_safetensors_free(merged);
    sp_safetensors_free(adapter);
    spar_model_free(m);
}

/* adapter_config.json with `from` replaced by `to` is refused with `message`. */
static void refuse(spar_model *m, const char *dir, const char *from, const char *to,
                   spar_status status, const char *message) {
    spar_error err;
    char file[TEST_PATH_MAX], changed[8192];
    char *text;
    size_t n;
    test_path(file, dir, "adapter_config.json");
    check(sp_file_read(file, 1 << 16, &text, &n, &err), &err);
    char *at = strstr(text, from);
    assert_non_null(at);
    const int length = snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, to,
                                at + strlen(from));
    check(sp_file_write(file, changed, (size_t)length, &err), &err);
    const spar_status got = sp_lora_load(m, dir, &err);
    if (got != status || !strstr(err.message, message)) {
        fail_msg("%s: expected \"%s\", found %d: %s", to, message, (int)got, err.message);
    }
    check(sp_file_write(file, text, n, &err), &err);
    free(text);
}

static void test_refused(void **state) {
    (void)state;
    spar_error err;
    char dir[TEST_PATH_MAX];
    spar_model *m = make_model(SPAR_DTYPE_F32);
    sp_lora_settings s = settings(3, false);
    attach_random(m, &s);
    test_path(dir, folder, "refused");
    check(spar_model_save_adapter(m, dir, &err), &err);
    refuse(m, dir, "\"LORA\"", "\"LOHA\"", SPAR_UNSUPPORTED, "peft_type: expected LORA");
    refuse(m, dir, "\"use_dora\": false", "\"use_dora\": true", SPAR_NOT_FOUND,
           "lora_magnitude_vector is missing");
    refuse(m, dir, "\"bias\": \"none\"", "\"bias\": \"all\"", SPAR_UNSUPPORTED, "bias: expected");
    refuse(m, dir, "\"rank_pattern\": {}", "\"rank_pattern\": {\"q_.*\": 8}", SPAR_UNSUPPORTED,
           "rank_pattern: expected names of modules, found the expression q_.*");
    refuse(m, dir, "\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": -8}", SPAR_FORMAT,
           "alpha_pattern: q_proj: expected a number");
    refuse(m, dir, "\"r\": 3", "\"r\": 0", SPAR_FORMAT, "r: expected");
    refuse(m, dir, "\"r\": 3", "\"r\": 4", SPAR_MISMATCH, "expected shape [4, 48], found [3, 48]");
    check(sp_lora_load(m, dir, &err), &err);
    spar_model_free(m);
}

/* Ranks and alphas of names in the configuration, of which the first that is met counts. */
static void set_patterns(const spar_model *m, const char *dir) {
    spar_error err;
    json_t *config;
    char file[TEST_PATH_MAX], name[160];
    check(sp_json_load(&config, test_path(file, dir, "adapter_config.json"), &err), &err);
    json_t *ranks = json_object_get(config, "rank_pattern");
    json_t *alphas = json_object_get(config, "alpha_pattern");
    snprintf(name, sizeof name, ".*\\.%s", strrchr(tested->down, '.') + 1);
    json_object_set_new(alphas, name, json_integer(24));
    json_object_set_new(alphas, tested->down, json_integer(1));
    for (int i = 0; i < m->lora->n_modules; i++) {
        const char *full = m->lora->modules[i].name, *end = strstr(full, ".weight");
        snprintf(name, sizeof name, "^%.*s$", (int)(end ? (size_t)(end - full) : strlen(full)),
                 full);
        json_object_set_new(ranks, name, json_integer(3));
    }
    json_object_set_new(config, "r", json_integer(5));
    check(sp_json_save(config, file, &err), &err);
    json_decref(config);
}

/* Of an adapter whose matrices differ in scale, and in rank from what the file says of the rest: as
 * its patterns have it, and written so again. */
static void test_patterns(void **state) {
    (void)state;
    spar_error err;
    char dir[2][TEST_PATH_MAX];
    spar_model *m = make_model(SPAR_DTYPE_F32);
    const sp_lora_settings s = settings(3, false);
    attach_random(m, &s);
    check(spar_model_save_adapter(m, test_path(dir[0], folder, "patterns"), &err), &err);
    set_patterns(m, dir[0]);
    test_path(dir[1], folder, "again");
    for (int again = 0; again < 2; again++) {
        int other = 0;
        check(sp_lora_load(m, dir[again], &err), &err);
        assert_int_equal(m->lora->settings.rank, 5);
        for (int i = 0; i < m->lora->n; i++) {
            const sp_adapter *a = &m->lora->items[i];
            const bool down = strncmp(a->of->name, tested->down, strlen(tested->down)) == 0;
            assert_int_equal(a->rank, 3);
            assert_true(a->scale == (down || a->scale > 4 ? 8 : 4));
            other += a->scale == 8;
        }
        assert_true(other > 0 && other < m->lora->n);
        assert_true(sp_lora_find(m, SP_Q, 0)->scale == 4);
        if (!again) {
            check(spar_model_save_adapter(m, dir[1], &err), &err);
        }
    }
    spar_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh_changes_nothing),
        cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_merged),
        cmocka_unit_test(test_scale),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_own_names),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_stored),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_refused),
    };
    /* what adapters of experts cannot have */
    const struct CMUnitTest dense[] = {
        cmocka_unit_test(test_dora),
        cmocka_unit_test(test_dora_files),
        cmocka_unit_test(test_dropout),
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        tested = &families[i];
        test_temp_dir(folder);
        failed += cmocka_run_group_tests(tests, NULL, NULL);
        failed += tested->mixture ? 0 : cmocka_run_group_tests(dense, NULL, NULL);
        sp_dir_remove(folder, NULL);
    }
    return failed;
}
