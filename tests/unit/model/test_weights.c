/* Models whose matrices are quantised blocks: what they compute is what the floats that the blocks
 * stand for compute, forward, backward and in whole numbers; what does not train is refused. On
 * small random models of our own, and on the quick-start model where it is. */
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
#include "model/engine.h"
#include "model/fingerprint.h"
#include "model/lora.h"
#include "model/model_create.h"
#include "quickstart_model.h"
#include "support.h"

enum { TOKENS = 41, SCORED = TOKENS - 1, VOCAB = 101 };

static char root_folder[TEST_PATH_MAX];

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static const char *folder(const char *name) {
    static char path[2][TEST_PATH_MAX + 32];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", root_folder, name);
    return path[turn];
}

/* A random model as a folder. Feed-forward rows of 80 inputs are no whole number of blocks. */
static void save_random(const char *name, bool tied) {
    char text[512];
    json_t *json;
    spar_error err;
    sp_config config;
    spar_model *m;
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    const int n = snprintf(
        text, sizeof text,
        "{\"model_type\": \"qwen2\", \"vocab_size\": %d, \"hidden_size\": 64, "
        "\"intermediate_size\": 80, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, "
        "\"num_key_value_heads\": 2, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-6, "
        "\"tie_word_embeddings\": %s, \"hidden_act\": \"silu\"}",
        VOCAB, tied ? "true" : "false");
    check(sp_json_parse(&json, text, (size_t)n, "config", &err), &err);
    check(sp_config_from_json(&config, json, "config", &err), &err);
    json_decref(json);
    check(sp_model_create(&m, &config, "random", &options, NULL, &err), &err);
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        for (int64_t k = 0; k < p->count; k++) {
            const double u = sp_rng_uniform(5, (uint64_t)i, (uint64_t)k) - 0.5;
            m->weights[p->offset + k] = (float)(p->cols ? 0.5 * u : 1 + 0.2 * u);
        }
    }
    check(spar_model_save(m, folder(name), &err), &err);
    spar_model_free(m);
}

static spar_model *load(const char *path, spar_dtype dtype, spar_weights weights) {
    spar_error err;
    spar_model *m = NULL;
    const spar_model_options options = {.dtype = dtype, .weights = weights, .threads = 2};
    check(spar_model_load(&m, path, &options, &err), &err);
    return m;
}

static void scores(spar_model *m, int vocab, float *logps) {
    spar_error err;
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++) {
        ids[i] = (int32_t)sp_rng_below(1, 2, (uint64_t)i, (uint32_t)vocab);
    }
    spar_score_row row = {.ids = ids, .n = TOKENS, .first = 1, .logps = logps};
    check(spar_model_score(m, &row, 1, &err), &err);
}

static double mean_difference(const float *a, const float *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        sum += fabs((double)a[i] - (double)b[i]);
    }
    return sum / n;
}

/* Gradient of a fixed mixture of log-probs by the adapter: owned by the caller. */
static float *adapter_grads(spar_model *m, int64_t *total) {
    spar_error err;
    const sp_lora_settings settings = {.rank = 4, .alpha = 8};
    sp_batch b;
    sp_pass *pass;
    int segment;
    int32_t ids[TOKENS];
    float c[SCORED], logp[SCORED];
    check(sp_lora_attach(m, &settings, 9, &err), &err);
    for (int64_t i = 0; i < m->lora->total; i++) {
        m->lora->values[i] += (float)(0.1 * (sp_rng_uniform(3, 1, (uint64_t)i) - 0.5));
    }
    check(sp_model_prepare(m, true, &err), &err);
    for (int i = 0; i < TOKENS; i++) {
        ids[i] = (int32_t)sp_rng_below(1, 2, (uint64_t)i, VOCAB);
    }
    for (int i = 0; i < SCORED; i++) {
        c[i] = 0.3F - 0.05F * (float)(i % 9);
    }
    *total = m->lora->total;
    float *grads = calloc((size_t)*total, sizeof *grads);
    assert_non_null(grads);
    sp_batch_init(&b);
    check(sp_batch_add(&b, -1, ids, TOKENS, &segment, &err), &err);
    check(sp_batch_score(&b, segment, 1, NULL, &err), &err);
    check(sp_pass_create(&pass, m, SP_PASS_TRAIN, &err), &err);
    check(sp_pass_forward(pass, &b, NULL, &err), &err);
    check(sp_pass_logp(pass, &b, logp, &err), &err);
    check(sp_pass_backward(pass, &b, c, grads, true, &err), &err);
    sp_pass_free(pass);
    sp_batch_release(&b);
    return grads;
}

static void near_all(const float *got, const float *want, int64_t n, double tolerance) {
    double largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const double size = fabs((double)want[i]);
        largest = size > largest ? size : largest;
    }
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance * largest)) {
            fail_msg("element %d: expected %.7g, found %.7g (largest %.3g)", (int)i,
                     (double)want[i], (double)got[i], largest);
        }
    }
}

/* Blocks against the floats that they stand for: saved, and loaded again. */
static void hold(const char *name, const char *unpacked, spar_weights weights) {
    spar_error err;
    float want[SCORED], got[SCORED], whole[SCORED];
    spar_model *blocks = load(folder(name), SPAR_DTYPE_F32, weights);
    assert_true(blocks->frozen);
    check(spar_model_save(blocks, folder(unpacked), &err), &err);
    spar_model *floats = load(folder(unpacked), SPAR_DTYPE_F32, SPAR_WEIGHTS_F32);
    assert_false(floats->frozen);
    assert_true(sp_model_fingerprint(blocks) == sp_model_fingerprint(floats));
    scores(floats, VOCAB, want);
    scores(blocks, VOCAB, got);
    near_all(got, want, SCORED, 2e-6);

    spar_model *one = load(folder(name), SPAR_DTYPE_INT8, weights);
    scores(one, VOCAB, whole);
    const double eight = mean_difference(whole, want, SCORED);
    spar_model *two = load(folder(name), SPAR_DTYPE_INT16, weights);
    scores(two, VOCAB, whole);
    const double sixteen = mean_difference(whole, want, SCORED);
    if (!(eight > 0 && eight < 0.05 && sixteen < eight / 50)) {
        fail_msg("log-probs off by %.3g in 8 bits, %.3g in 16", eight, sixteen);
    }
    assert_int_equal(sp_model_check_trainable(one, &err), SPAR_UNSUPPORTED);

    assert_int_equal(sp_model_check_trainable(blocks, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "adapter"));
    int64_t n, m;
    float *under_blocks = adapter_grads(blocks, &n), *under_floats = adapter_grads(floats, &m);
    assert_true(n == m);
    check(sp_model_check_trainable(blocks, &err), &err);
    near_all(under_blocks, under_floats, n, 2e-5);
    free(under_blocks);
    free(under_floats);
    spar_model_free(blocks);
    spar_model_free(floats);
    spar_model_free(one);
    spar_model_free(two);
}

static void test_tied(void **state) {
    (void)state;
    save_random("tied", true);
    hold("tied", "tied-q8", SPAR_WEIGHTS_Q8_0);
    hold("tied", "tied-q4", SPAR_WEIGHTS_Q4_1);
}

static void test_untied(void **state) {
    (void)state;
    save_random("untied", false);
    hold("untied", "untied-q8", SPAR_WEIGHTS_Q8_0);
    hold("untied", "untied-q4", SPAR_WEIGHTS_Q4_1);
}

/* A folder of floats has no blocks of its own: as they are in the file, matrices are floats. */
static void test_file_without_blocks(void **state) {
    (void)state;
    save_random("floats", true);
    spar_model *m = load(folder("floats"), SPAR_DTYPE_F32, SPAR_WEIGHTS_FILE);
    assert_false(m->frozen);
    spar_model_free(m);
}

/* Q4_1 matrices with rotated rows and a Q8_0 embedding: the same numbers either way. */
static void test_quickstart_model(void **state) {
    (void)state;
    float want[SCORED], got[SCORED];
    const char *path = quickstart_model();
    if (path == NULL) {
        print_message("skipped: the quick-start model is not there\n");
        skip();
    }
    spar_model *blocks = load(path, SPAR_DTYPE_F32, SPAR_WEIGHTS_FILE);
    spar_model *floats = load(path, SPAR_DTYPE_F32, SPAR_WEIGHTS_F32);
    assert_true(blocks->frozen && blocks->params.total < floats->params.total / 1000);
    assert_true(sp_model_fingerprint(blocks) == sp_model_fingerprint(floats));
    scores(floats, (int)spar_model_vocab(floats), want);
    scores(blocks, (int)spar_model_vocab(blocks), got);
    near_all(got, want, SCORED, 1e-5);
    spar_model_free(blocks);
    spar_model_free(floats);
}

/* Matrices that are copies alone give the bits that they give beside their floats, and refuse what
 * wants these. */
static void hold_inference(const char *path) {
    spar_error err;
    float want[SCORED], got[SCORED];
    const sp_lora_settings settings = {.rank = 4, .alpha = 8};
    const spar_model_options options = {.dtype = SPAR_DTYPE_BF16, .inference = true, .threads = 2};
    spar_model *m, *floats = load(path, SPAR_DTYPE_BF16, SPAR_WEIGHTS_F32);
    check(spar_model_load(&m, path, &options, &err), &err);
    assert_true(m->inference == m->backend->copies);
    scores(floats, (int)spar_model_vocab(floats), want);
    scores(m, (int)spar_model_vocab(m), got);
    assert_memory_equal(got, want, sizeof want);
    if (m->inference) {
        assert_true(m->params.total < floats->params.total);
        assert_int_equal(sp_model_check_trainable(m, &err), SPAR_UNSUPPORTED);
        assert_int_equal(sp_lora_attach(m, &settings, 1, &err), SPAR_UNSUPPORTED);
        assert_int_equal(spar_model_save(m, folder("nothing"), &err), SPAR_UNSUPPORTED);
        assert_false(sp_file_exists(folder("nothing")));
    }
    spar_model_free(m);
    spar_model_free(floats);
}

static void test_inference(void **state) {
    (void)state;
    save_random("tied-floats", true);
    save_random("untied-floats", false);
    hold_inference(folder("tied-floats"));
    hold_inference(folder("untied-floats"));
    if (quickstart_model() != NULL) { /* blocks and rotated rows, which must be unpacked first */
        hold_inference(quickstart_model());
    }
}

/* Matrices that a checkpoint stores transposed, head by head, and beside gains of heads: in f32,
 * and in bf16, whose rows are gathered from entries of another size. */
static void test_inference_of_families(void **state) {
    (void)state;
    static const char *const families[] = {"gpt2-untied", "gpt-neox-tied", "stablelm-norms",
                                           "cohere-norms", "qwen3-moe"};
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        char path[512];
        spar_error err;
        float want[SCORED], got[SCORED];
        snprintf(path, sizeof path, "%s/tests/golden/arch/%s", SPAR_SOURCE_DIR, families[i]);
        hold_inference(path);
        spar_model *m = load(path, SPAR_DTYPE_F32, SPAR_WEIGHTS_F32);
        check(spar_model_export(m, folder(families[i]), "bf16", &err), &err);
        hold_inference(folder(families[i]));
        scores(m, (int)spar_model_vocab(m), want);
        spar_model_free(m);
        m = load(folder(families[i]), SPAR_DTYPE_BF16, SPAR_WEIGHTS_F32);
        scores(m, (int)spar_model_vocab(m), got);
        print_message("%s in bf16: mean difference of log-probs %.3f\n", families[i],
                      mean_difference(got, want, SCORED));
        assert_true(mean_difference(got, want, SCORED) < 0.05);
        spar_model_free(m);
    }
}

int main(void) {
    test_temp_dir(root_folder);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tied),
                                       cmocka_unit_test(test_untied),
                                       cmocka_unit_test(test_file_without_blocks),
                                       cmocka_unit_test(test_inference),
                                       cmocka_unit_test(test_inference_of_families),
                                       cmocka_unit_test(test_quickstart_model)};
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sp_dir_remove(root_folder, NULL);
    return failed;
}
