/* Prompt lookup: what is guessed; that the samples are those without it; and, on a model small
 * enough to list every response, that each comes as often as the model says. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "base/rng.h"
#include "generate/lookup.h"
#include "model/engine.h"
#include "model/model_create.h"
#include "spar/generate.h"

enum { VOCAB = 4, LENGTH = 4, RESPONSES = 256 /* VOCAB ^ LENGTH */, SAMPLES = 20000 };

static const int32_t prompt_ids[] = {1, 2, 3, 0, 1, 2, 3, 0, 1, 2};
enum { PROMPT = sizeof prompt_ids / sizeof prompt_ids[0] };

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static void test_guess(void **state) {
    (void)state;
    const int32_t prompt[] = {5, 6, 7, 8, 9}, response[] = {4, 5, 6, 7};
    int32_t guess[SP_LOOKUP_MAX];
    assert_int_equal(sp_lookup(prompt, 5, response, 4, 8, guess), 6);
    const int32_t all[] = {8, 9, 4, 5, 6, 7};
    assert_memory_equal(guess, all, sizeof all);
    assert_int_equal(sp_lookup(prompt, 5, response, 4, 2, guess), 2);
    assert_int_equal(sp_lookup(prompt, 5, response, 3, 1, guess), 1); /* by the last two */
    assert_int_equal(guess[0], 7);
    assert_int_equal(sp_lookup(prompt, 5, response, 2, 8, guess), 0); /* one is not enough */
    assert_int_equal(sp_lookup(prompt, 5, NULL, 0, 8, guess), 0);
    assert_int_equal(sp_lookup(prompt, 1, NULL, 0, 8, guess), 0);
    const int32_t same[] = {3, 3, 3, 3}; /* the latest place */
    assert_int_equal(sp_lookup(same, 4, NULL, 0, 8, guess), 1);
    assert_int_equal(guess[0], 3);
}

static spar_model *make_model(void) {
    static const char text[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 4, \"hidden_size\": 32, "
        "\"intermediate_size\": 48, \"num_hidden_layers\": 2, \"num_attention_heads\": 2, "
        "\"num_key_value_heads\": 1, \"max_position_embeddings\": 32, \"rms_norm_eps\": 1e-6, "
        "\"tie_word_embeddings\": false, \"hidden_act\": \"silu\"}";
    spar_error err;
    json_t *root;
    sp_config config;
    spar_model *m;
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    check(sp_json_parse(&root, text, strlen(text), "config", &err), &err);
    check(sp_config_from_json(&config, root, "config", &err), &err);
    json_decref(root);
    check(sp_model_create(&m, &config, "random", &options, NULL, &err), &err);
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        for (int64_t k = 0; k < p->count; k++) {
            const double u = sp_rng_uniform(4, (uint64_t)i, (uint64_t)k) - 0.5;
            m->weights[p->offset + k] = (float)(p->cols ? 0.6 * u : 1 + 0.2 * u);
        }
    }
    check(sp_model_prepare(m, false, &err), &err);
    return m;
}

static void sample(spar_model *m, int64_t lookup, spar_response *out) {
    spar_error err;
    spar_sampling s;
    const spar_prompt prompt = {prompt_ids, PROMPT, 1};
    check(spar_options_default(spar_sampling_options, &s, &err), &err);
    s.max_new_tokens = LENGTH;
    s.ignore_eos = true;
    s.batch = 512;
    s.lookup = lookup;
    check(spar_generate(m, &prompt, 1, SAMPLES, &s, NULL, out, &err), &err);
}

/* Response number i: its tokens are i's digits. */
static int number_of(const int32_t *ids) {
    int n = 0;
    for (int i = 0; i < LENGTH; i++) {
        n = n * VOCAB + ids[i];
    }
    return n;
}

static void list_probabilities(spar_model *m, double *p) {
    spar_error err;
    int32_t ids[PROMPT + LENGTH];
    float logps[LENGTH];
    memcpy(ids, prompt_ids, sizeof prompt_ids);
    for (int n = 0; n < RESPONSES; n++) {
        for (int i = 0, left = n; i < LENGTH; i++, left /= VOCAB) {
            ids[PROMPT + LENGTH - 1 - i] = left % VOCAB;
        }
        spar_score_row row = {.ids = ids, .n = PROMPT + LENGTH, .first = PROMPT, .logps = logps};
        check(spar_model_score(m, &row, 1, &err), &err);
        p[n] = 0;
        for (int i = 0; i < LENGTH; i++) {
            p[n] += (double)logps[i];
        }
        p[n] = exp(p[n]);
    }
}

/* Pearson's statistic over all responses, those expected less than five times together. */
static double chi_square(const double *p, const spar_response *responses, int *cells) {
    int counts[RESPONSES] = {0};
    double sum = 0, rare_expected = 0, rare_found = 0;
    for (int i = 0; i < SAMPLES; i++) {
        counts[number_of(responses[i].ids)]++;
    }
    *cells = 0;
    for (int n = 0; n < RESPONSES; n++) {
        const double expected = p[n] * SAMPLES;
        if (expected < 5) {
            rare_expected += expected;
            rare_found += counts[n];
        } else {
            sum += (counts[n] - expected) * (counts[n] - expected) / expected;
            ++*cells;
        }
    }
    if (rare_expected > 0) {
        sum += (rare_found - rare_expected) * (rare_found - rare_expected) / rare_expected;
        ++*cells;
    }
    return sum;
}

static void test_distribution(void **state) {
    (void)state;
    static spar_response plain[SAMPLES], guessed[SAMPLES];
    double p[RESPONSES], total = 0;
    int cells;
    spar_model *m = make_model();
    list_probabilities(m, p);
    for (int n = 0; n < RESPONSES; n++) {
        total += p[n];
    }
    assert_true(fabs(total - 1) < 1e-5);
    sample(m, 0, plain);
    sample(m, 3, guessed);
    for (int i = 0; i < SAMPLES; i++) {
        assert_int_equal(guessed[i].n, LENGTH);
        assert_memory_equal(plain[i].ids, guessed[i].ids, LENGTH * sizeof *plain[i].ids);
        for (int k = 0; k < LENGTH; k++) {
            assert_true(fabsf(plain[i].logps[k] - guessed[i].logps[k]) < 1e-5F);
        }
    }
    /* Mean cells - 1, standard deviation sqrt(2 (cells - 1)); five of those are passed by chance
     * less than once in a hundred thousand draws, and the draw here is fixed. */
    const double x = chi_square(p, guessed, &cells);
    if (!(cells > 20 && x < cells - 1 + 5 * sqrt(2.0 * (cells - 1)))) {
        fail_msg("chi-square %.1f over %d cells", x, cells);
    }
    for (int n = 0; n < RESPONSES; n++) { /* and it can tell */
        p[n] = 1.0 / RESPONSES;
    }
    assert_true(chi_square(p, guessed, &cells) > cells - 1 + 5 * sqrt(2.0 * (cells - 1)));
    spar_responses_free(plain, SAMPLES);
    spar_responses_free(guessed, SAMPLES);
    spar_model_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_guess),
                                       cmocka_unit_test(test_distribution)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
