/* SmolLM2-135M-Instruct from its GGUF against Hugging Face transformers (shared/golden/smollm2):
 * token ids, logits, log-probs, gradient norms and five training steps of two objectives. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/jsonx.h"
#include "io/safetensors.h"
#include "model/engine.h"
#include "quickstart_model.h"
#include "support.h"

static spar_model *model;
static json_t *io;
static sp_safetensors *expected;

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static size_t read_ids(const json_t *list, int32_t *ids) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return json_array_size(list);
}

static double difference(const char *name, const float *got, size_t n) {
    const sp_tensor_entry *e = sp_safetensors_find(expected, name);
    double worst = 0;
    assert_non_null(e);
    assert_int_equal(e->n_bytes, n * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        float want;
        memcpy(&want, (const char *)e->data + i * sizeof want, sizeof want);
        double d = fabs((double)got[i] - (double)want);
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

static void test_tokenizer(void **state) {
    (void)state;
    spar_error err;
    char path[TEST_PATH_MAX];
    size_t wrong = 0;
    snprintf(path, sizeof path, "%s", test_shared("golden/tokenizers/smollm2-gguf.json"));
    json_t *rows = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(rows);
    const spar_tokenizer *t = spar_model_tokenizer(model);
    assert_non_null(t);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const json_t *text = json_object_get(row, "text");
        const json_t *want = json_object_get(row, "ids");
        int32_t *ids;
        size_t n;
        check(spar_tokenizer_encode(t, json_string_value(text), json_string_length(text),
                                    SPAR_TOKENIZE_NO_SPECIAL, &ids, &n, &err),
              &err);
        bool same = json_array_size(want) == n;
        for (size_t k = 0; same && k < n; k++) {
            same = json_integer_value(json_array_get(want, k)) == ids[k];
        }
        if (!same) {
            print_message("text: %.100s\n", json_string_value(text));
        }
        wrong += !same;
        free(ids);
    }
    print_message("smollm2-gguf: %zu rows, %zu wrong\n", json_array_size(rows), wrong);
    assert_int_equal(wrong, 0);
    json_decref(rows);
}

static void test_prompts(void **state) {
    (void)state;
    spar_error err;
    json_t *prompts = json_object_get(io, "prompts");
    size_t vocab = (size_t)spar_model_vocab(model);
    for (size_t i = 0; i < json_array_size(prompts); i++) {
        const json_t *p = json_array_get(prompts, i);
        int32_t ids[256];
        char name[64];
        size_t n = read_ids(json_object_get(p, "ids"), ids);
        float *logits = malloc(n * vocab * sizeof *logits);
        float logps[256];
        spar_score_row row = {.ids = ids, .n = n, .first = 1, .logps = logps, .logits = logits};
        check(spar_model_score(model, &row, 1, &err), &err);
        snprintf(name, sizeof name, "logits_last.%zu", i);
        double worst_logits = difference(name, logits + (n - 1) * vocab, vocab);
        snprintf(name, sizeof name, "logp.%zu", i);
        double worst_logp = difference(name, logps, n - 1);
        print_message("prompt %zu: logits %.2e logp %.2e\n", i, worst_logits, worst_logp);
        assert_true(worst_logits <= 2e-3);
        assert_true(worst_logp <= 1e-3);
        free(logits);
    }
}

/* Scores of a pair, packed on a shared prompt. */
static void test_pairs(void **state) {
    (void)state;
    spar_error err;
    json_t *pairs = json_object_get(io, "pairs");
    static const char *const sides[] = {"chosen", "rejected"};
    for (size_t i = 0; i < json_array_size(pairs); i++) {
        const json_t *pair = json_array_get(pairs, i);
        for (int side = 0; side < 2; side++) {
            int32_t ids[256];
            float logps[256];
            char key[32];
            size_t n_prompt = read_ids(json_object_get(pair, "prompt_ids"), ids);
            snprintf(key, sizeof key, "%s_ids", sides[side]);
            size_t n = n_prompt + read_ids(json_object_get(pair, key), ids + n_prompt);
            spar_score_row row = {.ids = ids, .n = n, .first = n_prompt, .logps = logps};
            check(spar_model_score(model, &row, 1, &err), &err);
            double sum = 0;
            for (size_t k = 0; k < n - n_prompt; k++) {
                sum += (double)logps[k];
            }
            snprintf(key, sizeof key, "logp_%s", sides[side]);
            double want = json_number_value(json_object_get(pair, key));
            assert_true(fabs(sum - want) <= 1e-3 * fabs(want));
        }
    }
}

static int setup(void **state) {
    (void)state;
    spar_error err;
    char path[TEST_PATH_MAX];
    spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    check(spar_model_load(&model, quickstart_model(), &options, &err), &err);
    snprintf(path, sizeof path, "%s/io.json", test_shared("golden/smollm2"));
    check(sp_json_load(&io, path, &err), &err);
    snprintf(path, sizeof path, "%s/expected.safetensors", test_shared("golden/smollm2"));
    check(sp_safetensors_open(&expected, path, &err), &err);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    spar_model_free(model);
    json_decref(io);
    sp_safetensors_free(expected);
    return 0;
}

int main(void) {
    if (!test_shared("golden/smollm2")) {
        TEST_SKIP("the shared folder with golden/smollm2 is missing");
    }
    if (!quickstart_model()) {
        TEST_SKIP("the quick-start model is not in the cache (tools/fetch_model gets it)");
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenizer),
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_pairs),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
