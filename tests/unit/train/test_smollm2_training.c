/* Five AdamW steps of sft and spin on SmolLM2-135M-Instruct, from its GGUF, against torch: loss and
 * gradient norm before each step, and the gradient norm of every parameter (shared/golden/smollm2).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/jsonx.h"
#include "quickstart_model.h"
#include "support.h"
#include "train/trainer_parts.h"

enum { PAIRS = 3, MAX_IDS = 128, STEPS = 5 };

static json_t *io;
static int32_t ids[PAIRS][3][MAX_IDS];
static sp_example examples[PAIRS];
static sp_reply replies[PAIRS][2];

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static size_t read_ids(const json_t *list, int32_t *out) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        out[i] = (int32_t)json_integer_value(json_array_get(list, i));
    }
    return json_array_size(list);
}

static void read_examples(bool pairs) {
    json_t *list = json_object_get(io, "pairs");
    assert_int_equal(json_array_size(list), PAIRS);
    for (size_t i = 0; i < PAIRS; i++) {
        const json_t *pair = json_array_get(list, i);
        sp_example *e = &examples[i];
        *e = (sp_example){.prompt = ids[i][0], .replies = replies[i], .n_replies = pairs ? 2 : 1};
        e->n_prompt = read_ids(json_object_get(pair, "prompt_ids"), ids[i][0]);
        replies[i][0] = (sp_reply){.ids = ids[i][1],
                                   .n = read_ids(json_object_get(pair, "chosen_ids"), ids[i][1])};
        replies[i][1] = (sp_reply){.ids = ids[i][2],
                                   .n = read_ids(json_object_get(pair, "rejected_ids"), ids[i][2])};
    }
}

/* The model as it is becomes the opponent. */
static void score_opponent(sp_trainer *trainer) {
    spar_error err;
    sp_logp_gap gap;
    double sums[2 * PAIRS];
    check(sp_trainer_score(trainer, examples, PAIRS, sums, NULL, &gap, &err), &err);
    for (int i = 0; i < PAIRS; i++) {
        replies[i][0].opponent = sums[2 * i];
        replies[i][1].opponent = sums[2 * i + 1];
    }
}

static double relative(double got, double want) {
    return fabs(got - want) / fabs(want);
}

/* The gradient of the last step is still in the trainer. */
static void check_parameter_norms(const sp_trainer *trainer, const spar_model *model) {
    const json_t *norms = json_object_get(io, "grad_norm_by_parameter");
    assert_int_equal(json_object_size(norms), model->params.n);
    for (int i = 0; i < model->params.n; i++) {
        const sp_param *p = &model->params.items[i];
        double want = json_number_value(json_object_get(norms, p->name));
        double got = sp_grad_norm(trainer->grads + p->offset, p->count, NULL);
        if (relative(got, want) > 1e-3) {
            print_message("%s: |g| %.6f (%.6f)\n", p->name, got, want);
        }
        assert_true(relative(got, want) <= 1e-3);
    }
}

/* beta below 0: the objective's own. */
static void run(const char *name, double beta) {
    spar_error err;
    spar_model *model;
    sp_trainer *trainer;
    sp_objective objective;
    const json_t *golden = json_object_get(json_object_get(io, "training"), name);
    spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    sp_trainer_options settings = {.optimizer = "adamw",
                                   .beta1 = 0.9,
                                   .beta2 = 0.999,
                                   .eps = 1e-8,
                                   .alpha = 0.99,
                                   .max_tokens = 512};
    check(spar_model_load(&model, quickstart_model(), &options, &err), &err);
    check(sp_trainer_create(&trainer, model, &settings, &err), &err);
    check(sp_objective_find(&objective, name, &err), &err);
    const bool pairs = objective.kind == SP_OBJECTIVE_RESPONSES;
    read_examples(pairs);
    if (beta >= 0) {
        check(sp_objective_set(&objective, "beta", beta, &err), &err);
    }
    if (pairs) {
        score_opponent(trainer);
    }
    for (size_t step = 0; step < STEPS; step++) {
        sp_step_stats stats;
        check(sp_trainer_step(trainer, examples, PAIRS, &objective, 1e-5, &stats, &err), &err);
        double want_loss = json_number_value(json_array_get(json_object_get(golden, "loss"), step));
        double want_norm =
            json_number_value(json_array_get(json_object_get(golden, "grad_norm"), step));
        double bound = step < 2 ? 1e-3 : 2e-2;
        print_message("%s step %zu: loss %.6f (%.6f) |g| %.5f (%.5f)\n", name, step, stats.loss,
                      want_loss, stats.grad_norm, want_norm);
        assert_true(relative(stats.loss, want_loss) <= bound);
        assert_true(relative(stats.grad_norm, want_norm) <= bound);
        assert_true(stats.changed_f32 > 0.5);
        if (step == 0 && !pairs) {
            check_parameter_norms(trainer, model);
        }
    }
    sp_trainer_free(trainer);
    spar_model_free(model);
}

static void test_sft(void **state) {
    (void)state;
    run("sft", -1);
}

static void test_spin(void **state) {
    (void)state;
    run("spin", 0.1);
}

static void test_ipo(void **state) {
    (void)state;
    run("ipo", 0.1);
}

static void test_sppo_hard(void **state) {
    (void)state;
    run("sppo_hard", 0.05);
}

static void test_simpo(void **state) { /* gamma 1 is the row's own */
    (void)state;
    run("simpo", 2);
}

/* At learning rate 0 nothing changes and every SPIN step has loss ln 2. */
static void test_rate_zero(void **state) {
    (void)state;
    spar_error err;
    spar_model *model;
    sp_trainer *trainer;
    sp_objective spin;
    spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    sp_trainer_options settings = {.optimizer = "rmsprop",
                                   .beta1 = 0.9,
                                   .beta2 = 0.999,
                                   .eps = 1e-8,
                                   .alpha = 0.99,
                                   .max_grad_norm = 1,
                                   .max_tokens = 96};
    check(spar_model_load(&model, quickstart_model(), &options, &err), &err);
    check(sp_trainer_create(&trainer, model, &settings, &err), &err);
    check(sp_objective_find(&spin, "spin", &err), &err);
    read_examples(true);
    score_opponent(trainer);
    for (int step = 0; step < 3; step++) {
        sp_step_stats stats;
        check(sp_trainer_step(trainer, examples, PAIRS, &spin, 0, &stats, &err), &err);
        assert_true(fabs(stats.loss - log(2.0)) <= 1e-6);
        assert_true(stats.changed_f32 == 0);
        assert_true(stats.changed_bf16 == 0);
    }
    sp_trainer_free(trainer);
    spar_model_free(model);
}

static int setup(void **state) {
    (void)state;
    spar_error err;
    char path[TEST_PATH_MAX];
    snprintf(path, sizeof path, "%s/io.json", test_shared("golden/smollm2"));
    check(sp_json_load(&io, path, &err), &err);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    json_decref(io);
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
        cmocka_unit_test(test_sft),   cmocka_unit_test(test_spin),
        cmocka_unit_test(test_ipo),   cmocka_unit_test(test_sppo_hard),
        cmocka_unit_test(test_simpo), cmocka_unit_test(test_rate_zero),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
