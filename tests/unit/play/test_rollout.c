/* Log-probs kept from sampling against those that the trainer computes for the same tokens, and the
 * expected greedy text of stories260K through the sampler. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "spar/generate.h"
#include "support.h"
#include "train/trainer.h"

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static spar_model *load(spar_dtype dtype) {
    spar_error err;
    spar_model *model;
    spar_model_options options = {.dtype = dtype, .threads = 2};
    check(spar_model_load(&model, test_shared("models/stories260K/hf"), &options, &err), &err);
    return model;
}

static spar_sampling defaults(void) {
    spar_error err;
    spar_sampling s;
    check(spar_options_default(spar_sampling_options, &s, &err), &err);
    return s;
}

/* 3 prompts with 5 responses each, of different lengths. */
enum { PROMPTS = 3, SAMPLES = 5 };

/* At learning rate 0 a SPIN step whose opponent is scored by the log-probs kept from sampling has
 * loss ln 2, but for the difference d of the two log-probs: softplus has slope 1/2 at 0 and
 * curvature of 1/4 at most, so |loss - ln 2| <= beta |d| / 2 + (beta d)^2 / 8 for each pair. The
 * "real" response of a pair is another sample of its prompt, scored by the trainer's pass. */
static void check_kept_opponent(sp_trainer *trainer, const sp_example *samples,
                                const double *scores) {
    spar_error err;
    sp_objective spin;
    double bound = 0;
    sp_example pairs[PROMPTS * SAMPLES];
    sp_reply replies[PROMPTS * SAMPLES][2];
    check(sp_objective_find(&spin, "spin", &err), &err);
    for (size_t i = 0; i < PROMPTS * SAMPLES; i++) {
        const size_t real = i / SAMPLES * SAMPLES + (i + 1) % SAMPLES;
        const sp_reply *sample = &samples[i].replies[0];
        double kept = 0;
        for (size_t k = 0; k < sample->n; k++) {
            kept += (double)sample->kept[k];
        }
        replies[i][0] = samples[real].replies[0];
        replies[i][0].opponent = scores[real];
        replies[i][1] = *sample;
        replies[i][1].opponent = kept;
        pairs[i] = (sp_example){.prompt = samples[i].prompt,
                                .n_prompt = samples[i].n_prompt,
                                .replies = replies[i],
                                .n_replies = 2};
        const double x = spin.params[0] * fabs(kept - scores[i]);
        bound += (x / 2 + x * x / 8) / (PROMPTS * SAMPLES);
    }
    for (int step = 0; step < 2; step++) {
        sp_step_stats stats;
        check(sp_trainer_step(trainer, pairs, PROMPTS * SAMPLES, &spin, 0, &stats, &err), &err);
        print_message("opponent by kept log-probs: |loss - ln 2| %.2e, bound %.2e\n",
                      fabs(stats.loss - log(2.0)), bound);
        assert_true(fabs(stats.loss - log(2.0)) <= bound + 1e-6);
        assert_true(stats.changed_f32 == 0);
    }
}

static sp_logp_gap measure(spar_dtype dtype) {
    static const int32_t prompts[PROMPTS][6] = {
        {1, 403, 407, 261, 378, 432}, {1, 403, 407, 261, 378, 13}, {1, 403, 267, 337, 335, 312}};
    spar_error err;
    spar_model *m = load(dtype);
    spar_sampling s = defaults();
    spar_prompt list[PROMPTS];
    spar_response responses[PROMPTS * SAMPLES];
    sp_example examples[PROMPTS * SAMPLES];
    sp_reply replies[PROMPTS * SAMPLES];
    double scores[PROMPTS * SAMPLES];
    sp_trainer *trainer;
    sp_logp_gap gap;
    sp_trainer_options settings = {.optimizer = "rmsprop",
                                   .beta1 = 0.9,
                                   .beta2 = 0.999,
                                   .eps = 1e-8,
                                   .alpha = 0.99,
                                   .max_tokens = 300};
    s.max_new_tokens = 60;
    s.batch = 4; /* fewer than responses: slots are filled again */
    for (size_t i = 0; i < PROMPTS; i++) {
        list[i] = (spar_prompt){prompts[i], 6, i};
    }
    check(spar_generate(m, list, PROMPTS, SAMPLES, &s, NULL, responses, &err), &err);
    for (size_t i = 0; i < PROMPTS * SAMPLES; i++) {
        replies[i] =
            (sp_reply){.ids = responses[i].ids, .n = responses[i].n, .kept = responses[i].logps};
        examples[i] = (sp_example){
            .prompt = prompts[i / SAMPLES], .n_prompt = 6, .replies = &replies[i], .n_replies = 1};
        assert_true(responses[i].n > 0);
    }
    check(sp_trainer_create(&trainer, m, &settings, &err), &err);
    check(sp_trainer_score(trainer, examples, PROMPTS * SAMPLES, scores, NULL, &gap, &err), &err);
    check_kept_opponent(trainer, examples, scores);
    sp_trainer_free(trainer);
    spar_responses_free(responses, PROMPTS * SAMPLES);
    spar_model_free(m);
    return gap;
}

static void test_gap_f32(void **state) {
    (void)state;
    sp_logp_gap gap = measure(SPAR_DTYPE_F32);
    print_message("f32: mean %.2e, max %.2e over %lld tokens\n", gap.sum / (double)gap.n, gap.max,
                  (long long)gap.n);
    assert_true(gap.n > 200);
    assert_true(gap.max <= 1e-4);
}

/* bf16 keeps 8 bits: a rounding that falls the other way is worth 2^-8 of a logit. */
static void test_gap_bf16(void **state) {
    (void)state;
    sp_logp_gap gap = measure(SPAR_DTYPE_BF16);
    print_message("bf16: mean %.2e, max %.2e over %lld tokens\n", gap.sum / (double)gap.n, gap.max,
                  (long long)gap.n);
    assert_true(gap.sum / (double)gap.n <= 0.01);
    assert_true(gap.max <= 0.1);
}

static void test_greedy(void **state) {
    (void)state;
    spar_error err;
    json_t *expected;
    char path[TEST_PATH_MAX];
    int32_t ids[64];
    spar_response r;
    spar_model *m = load(SPAR_DTYPE_F32);
    spar_sampling s = defaults();
    snprintf(path, sizeof path, "%s", test_shared("models/stories260K/hf/expected.json"));
    check(sp_json_load(&expected, path, &err), &err);
    const json_t *prompt = json_object_get(expected, "prompt_ids");
    const json_t *want = json_object_get(expected, "greedy_ids");
    for (size_t i = 0; i < json_array_size(prompt); i++) {
        ids[i] = (int32_t)json_integer_value(json_array_get(prompt, i));
    }
    s.temperature = 0;
    s.max_new_tokens = (int64_t)json_array_size(want);
    spar_prompt p = {ids, json_array_size(prompt), 0};
    check(spar_generate(m, &p, 1, 1, &s, NULL, &r, &err), &err);
    assert_int_equal(r.n, json_array_size(want));
    for (size_t i = 0; i < r.n; i++) {
        assert_int_equal(r.ids[i], json_integer_value(json_array_get(want, i)));
    }
    /* the expected text is of prompt and continuation together */
    int32_t all[256];
    char *text;
    memcpy(all, ids, p.n * sizeof *all);
    memcpy(all + p.n, r.ids, r.n * sizeof *all);
    check(spar_tokenizer_decode(spar_model_tokenizer(m), all, p.n + r.n, true, &text, NULL, &err),
          &err);
    assert_string_equal(text, json_string_value(json_object_get(expected, "text")));
    free(text);
    spar_responses_free(&r, 1);
    json_decref(expected);
    spar_model_free(m);
}

static void test_stop_and_seed(void **state) {
    (void)state;
    spar_error err;
    static const int32_t ids[] = {1, 403, 407, 261, 378};
    spar_model *m = load(SPAR_DTYPE_F32);
    spar_sampling s = defaults();
    spar_prompt p = {ids, 5, 9};
    spar_response a[2], b[2];
    s.max_new_tokens = 40;
    s.stop.n = 1;
    s.stop.items[0] = ".";
    check(spar_generate(m, &p, 1, 2, &s, NULL, a, &err), &err);
    s.batch = 1; /* another schedule, the same draws */
    check(spar_generate(m, &p, 1, 2, &s, NULL, b, &err), &err);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(a[i].n, b[i].n);
        assert_memory_equal(a[i].ids, b[i].ids, a[i].n * sizeof *a[i].ids);
        if (a[i].finish == SPAR_FINISH_STOP) {
            assert_null(strchr(a[i].text, '.'));
        }
    }
    spar_responses_free(a, 2);
    spar_responses_free(b, 2);
    spar_model_free(m);
}

int main(void) {
    test_shared_or_skip("models/stories260K/hf");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gap_f32),
        cmocka_unit_test(test_gap_bf16),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_stop_and_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
