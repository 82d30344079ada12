/* Every objective through the trainer, on a model of 260 thousand parameters: at learning rate 0
 * the loss is its closed form and nothing changes; a small step lowers it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support.h"
#include "train/trainer.h"

enum { EXAMPLES = 2, MOST = 3, TOKENS = 5 };

static const int32_t prompts[EXAMPLES][4] = {{1, 403, 407, 261}, {1, 403, 410, 300}};
static const int32_t ids[EXAMPLES][MOST][TOKENS] = {
    {{376, 432, 13, 2}, {300, 2}, {301, 302, 2}},
    {{261, 2}, {280, 281, 282, 283, 2}, {290, 291, 292, 2}}};
static const size_t lengths[EXAMPLES][MOST] = {{4, 2, 3}, {2, 5, 4}};
static const double win_rates[EXAMPLES][MOST] = {{0.9, 0.1, 0.5}, {0.7, 0.35, 0.45}};
static const double rewards[EXAMPLES][MOST] = {{1, 0, 0.25}, {0.75, 0.5, 0.25}};

static sp_reply replies[EXAMPLES][MOST];
static sp_example examples[EXAMPLES];
static float opponent_tokens[EXAMPLES * MOST * TOKENS];

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static spar_model *load(void) {
    spar_error err;
    spar_model *model;
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    check(spar_model_load(&model, test_shared("models/stories260K/hf"), &options, &err), &err);
    return model;
}

static sp_trainer *make_trainer(spar_model *model) {
    spar_error err;
    sp_trainer *trainer;
    const sp_trainer_options settings = {.optimizer = "rmsprop",
                                         .eps = 1e-8,
                                         .alpha = 0.99,
                                         .beta1 = 0.9,
                                         .beta2 = 0.999,
                                         .max_tokens = 64};
    check(sp_trainer_create(&trainer, model, &settings, &err), &err);
    return trainer;
}

/* k replies an example, scored by the model as it is for opponent and anchor. */
static void prepare(sp_trainer *trainer, size_t k) {
    spar_error err;
    sp_logp_gap gap;
    double sums[EXAMPLES * MOST];
    const float *tokens = opponent_tokens;
    for (size_t i = 0; i < EXAMPLES; i++) {
        examples[i] = (sp_example){
            .prompt = prompts[i], .n_prompt = 4, .replies = replies[i], .n_replies = k};
        for (size_t j = 0; j < k; j++) {
            replies[i][j] = (sp_reply){.ids = ids[i][j],
                                       .n = lengths[i][j],
                                       .win_rate = win_rates[i][j],
                                       .reward = rewards[i][j]};
        }
    }
    check(sp_trainer_score(trainer, examples, EXAMPLES, sums, opponent_tokens, &gap, &err), &err);
    for (size_t i = 0; i < EXAMPLES; i++) {
        for (size_t j = 0; j < k; j++) {
            sp_reply *reply = &replies[i][j];
            reply->opponent = reply->anchor = sums[i * k + j];
            reply->opponent_tokens = reply->anchor_tokens = tokens;
            tokens += reply->n;
        }
    }
}

static double mean_of(const sp_reply *reply) {
    return reply->opponent / (double)reply->n;
}

static double odds(const sp_reply *reply) {
    const double p = exp(mean_of(reply));
    return p / (1 - p);
}

static double logistic(double t) {
    return log1p(exp(-t));
}

/* Closed forms at the opponent, of one example y of k replies. */
static double ln_2(const sp_reply *y, size_t k) {
    (void)y, (void)k;
    return log(2.0);
}
static double one(const sp_reply *y, size_t k) {
    (void)y, (void)k;
    return 1;
}
static double ipo(const sp_reply *y, size_t k) {
    (void)y, (void)k;
    return 25; /* (1 / (2 beta))^2 */
}
static double sppo_hard(const sp_reply *y, size_t k) {
    (void)y, (void)k;
    return 500000; /* 1 / (2 beta^2) */
}
static double sppo(const sp_reply *y, size_t k) {
    double sum = 0;
    for (size_t i = 0; i < k; i++) {
        sum += 0.5 * pow((y[i].win_rate - 0.5) / 0.001, 2);
    }
    return sum;
}
static double rpo(const sp_reply *y, size_t k) {
    (void)k;
    return log(2.0) - mean_of(&y[0]);
}
static double cpo(const sp_reply *y, size_t k) {
    (void)k;
    return logistic(0.1 * (y[0].opponent - y[1].opponent)) - mean_of(&y[0]);
}
static double simpo(const sp_reply *y, size_t k) {
    (void)k;
    return logistic(2 * (mean_of(&y[0]) - mean_of(&y[1])) - 1);
}
static double orpo(const sp_reply *y, size_t k) {
    (void)k;
    return 0.1 * logistic(log(odds(&y[0]) / odds(&y[1]))) - mean_of(&y[0]);
}
static double rebel(const sp_reply *y, size_t k) {
    (void)k;
    return pow(y[0].reward - y[1].reward, 2);
}
static double inpo(const sp_reply *y, size_t k) {
    (void)y, (void)k;
    return pow(0.5 / 7.5e-3, 2);
}
static double xpo(const sp_reply *y, size_t k) {
    (void)k;
    return log(2.0) + 1e-5 * y[2].opponent;
}
static double t_spin(const sp_reply *y, size_t k) {
    (void)k;
    return logistic(y[0].opponent - y[1].opponent) + 0.1 * logistic(y[1].opponent - y[2].opponent);
}
static double kto(const sp_reply *y, size_t k) {
    (void)y, (void)k;
    return 0.5;
}
static double nothing(const sp_reply *y, size_t k) { /* advantages add up to 0 */
    (void)y, (void)k;
    return 0;
}
static double nash_md(const sp_reply *y, size_t k) {
    double sum = 0;
    for (size_t i = 0; i < k; i++) {
        sum -= (y[i].win_rate - 0.5) / (double)k;
    }
    return sum;
}
/* Not by response but by token: advantages weighted by lengths, over all 20 tokens, of two examples
 */
static double dapo_centred(const sp_reply *y, size_t k) {
    double mean = 0, sum = 0;
    for (size_t i = 0; i < k; i++) {
        mean += y[i].reward / (double)k;
    }
    for (size_t i = 0; i < k; i++) {
        sum -= (y[i].reward - mean) * (double)y[i].n / 20 * EXAMPLES;
    }
    return sum;
}
static double dr_grpo(const sp_reply *y, size_t k) {
    return dapo_centred(y, k) * 20 / (256 * (double)(EXAMPLES * k));
}

typedef struct closed_form {
    const char *name;
    double (*loss)(const sp_reply *y, size_t k);
} closed_form;
static const closed_form forms[] = {
    {"spin", ln_2},
    {"spin_hinge", one},
    {"spin_linear", one},
    {"spin_exponential", one},
    {"t_spin", t_spin},
    {"dpo", ln_2},
    {"dpo_conservative", ln_2},
    {"dpo_robust", ln_2},
    {"hinge", one},
    {"rpo", rpo},
    {"ipo", ipo},
    {"ipo_mean", ipo},
    {"sppo", sppo},
    {"sppo_hard", sppo_hard},
    {"rebel", rebel},
    {"inpo", inpo},
    {"xpo", xpo},
    {"simpo", simpo},
    {"orpo", orpo},
    {"cpo", cpo},
    {"kto", kto},
    {"grpo", nothing},
    {"grpo_centred", nothing},
    {"dapo_centred", dapo_centred},
    {"dr_grpo", dr_grpo},
    {"rloo", nothing},
    {"nash_md", nash_md},
    {"dapo", NULL},
    {"dr_grpo_scaled", NULL}, /* their advantages: test_policy_gradient.c */
    {"sft", NULL},            /* test_smollm2_training.c */
};
enum { FORMS = sizeof forms / sizeof forms[0] };

/* Replies an example of the objective: as many as it takes, of three. */
static size_t replies_of(const sp_objective *o) {
    size_t fewest, most;
    sp_objective_responses(o, &fewest, &most);
    return o->kind == SP_OBJECTIVE_LABELLED ? 2 : most < MOST ? most : MOST;
}

static void test_every_objective_is_here(void **state) {
    (void)state;
    assert_int_equal(sp_objective_count(), FORMS);
    for (int i = 0; i < FORMS; i++) {
        sp_objective o;
        spar_error err;
        check(sp_objective_find(&o, forms[i].name, &err), &err);
    }
}

static void check_rate_zero(sp_trainer *trainer, const closed_form *form) {
    sp_objective o;
    sp_step_stats stats;
    spar_error err;
    check(sp_objective_find(&o, form->name, &err), &err);
    const size_t k = replies_of(&o);
    prepare(trainer, k);
    double expected = 0;
    for (size_t i = 0; form->loss && i < EXAMPLES; i++) {
        expected += form->loss(replies[i], k) / EXAMPLES;
    }
    for (int step = 0; step < 2; step++) {
        check(sp_trainer_step(trainer, examples, EXAMPLES, &o, 0, &stats, &err), &err);
        if (form->loss && !(fabs(stats.loss - expected) <= 1e-6 * fmax(1, fabs(expected)))) {
            fail_msg("%s: loss %.9g, expected %.9g", form->name, stats.loss, expected);
        }
        assert_true(stats.grad_norm > 0);
        assert_true(stats.changed_f32 == 0);
    }
    if (sp_objective_reads(&o) & SP_READS_OPPONENT) {
        assert_true(fabs(stats.s_chosen) < 1e-5 && fabs(stats.s_rejected) < 1e-5);
        assert_true(fabs(stats.kl) < 1e-5);
    }
}

static void test_rate_zero(void **state) {
    (void)state;
    spar_model *model = load();
    sp_trainer *trainer = make_trainer(model);
    for (int i = 0; i < FORMS; i++) {
        check_rate_zero(trainer, &forms[i]);
    }
    sp_trainer_free(trainer);
    spar_model_free(model);
}

static void test_a_step_lowers_the_loss(void **state) {
    (void)state;
    for (int i = 0; i < sp_objective_count(); i++) {
        sp_objective o;
        sp_step_stats before, after;
        spar_error err;
        spar_model *model = load();
        sp_trainer *trainer = make_trainer(model);
        check(sp_objective_find(&o, sp_objective_name_at(i), &err), &err);
        prepare(trainer, replies_of(&o));
        check(sp_trainer_step(trainer, examples, EXAMPLES, &o, 1e-6, &before, &err), &err);
        check(sp_trainer_step(trainer, examples, EXAMPLES, &o, 0, &after, &err), &err);
        if (!(after.loss < before.loss)) {
            fail_msg("%s: loss %.9g, and %.9g after a step", o.name, before.loss, after.loss);
        }
        sp_trainer_free(trainer);
        spar_model_free(model);
    }
}

enum { WATCHED = 4000 };

/* As if another had sampled, each token a little less likely. */
static void move_opponent(size_t k) {
    for (size_t t = 0; t < sizeof opponent_tokens / sizeof *opponent_tokens; t++) {
        opponent_tokens[t] -= 0.0625F;
    }
    for (size_t i = 0; i < EXAMPLES; i++) {
        for (size_t j = 0; j < k; j++) {
            replies[i][j].opponent -= 0.0625 * (double)lengths[i][j];
        }
    }
}

/* One step on a model of its own, with micro-batches of so many rows. The large epsilon makes the
 * update all but linear in the gradient, so that rounding stays rounding. */
static sp_step_stats step_of(const sp_objective *o, int64_t max_tokens, float *weights) {
    sp_step_stats stats;
    spar_error err;
    spar_model *model = load();
    sp_trainer *trainer;
    const sp_trainer_options settings = {.optimizer = "rmsprop",
                                         .eps = 1,
                                         .alpha = 0.99,
                                         .beta1 = 0.9,
                                         .beta2 = 0.999,
                                         .max_tokens = max_tokens};
    check(sp_trainer_create(&trainer, model, &settings, &err), &err);
    prepare(trainer, replies_of(o));
    move_opponent(replies_of(o));
    check(sp_trainer_step(trainer, examples, EXAMPLES, o, 1e-2, &stats, &err), &err);
    memcpy(weights, sp_model_trainable(model).values, WATCHED * sizeof *weights);
    sp_trainer_free(trainer);
    spar_model_free(model);
    return stats;
}

static void expect_same(const char *name, const sp_step_stats *a, const sp_step_stats *b) {
    const double found[] = {b->loss, b->margin, b->s_chosen, b->s_rejected, b->kl, b->grad_norm};
    const double expected[] = {a->loss, a->margin, a->s_chosen, a->s_rejected, a->kl, a->grad_norm};
    for (size_t k = 0; k < sizeof found / sizeof *found; k++) {
        if (!(fabs(found[k] - expected[k]) <= 1e-4 * fmax(0.1, fabs(expected[k])))) {
            fail_msg("%s: figure %zu is %.9g, expected %.9g", name, k, found[k], expected[k]);
        }
    }
    assert_true(b->accuracy == a->accuracy);
}

/* Where every response adds to the loss by itself, an example that is too large is computed in
 * parts, which make the same step but for rounding: one response at a time, or as many as 12 rows
 * hold with their prompt of 4. */
static void test_parts_make_the_same_step(void **state) {
    (void)state;
    static const int64_t sizes[] = {9, 12};
    static float start[WATCHED], whole[WATCHED], parts[WATCHED];
    int separate = 0;
    spar_model *model = load();
    memcpy(start, sp_model_trainable(model).values, sizeof start);
    spar_model_free(model);
    for (int i = 0; i < sp_objective_count(); i++) {
        sp_objective o;
        spar_error err;
        check(sp_objective_find(&o, sp_objective_name_at(i), &err), &err);
        if (!sp_objective_separates(&o)) {
            continue;
        }
        const sp_step_stats a = step_of(&o, 64, whole);
        double moved = 0, apart = 0;
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            const sp_step_stats b = step_of(&o, sizes[s], parts);
            assert_true(b.tokens > a.tokens); /* prompts are computed again */
            assert_int_equal(b.response_tokens, a.response_tokens);
            expect_same(o.name, &a, &b);
            for (int k = 0; k < WATCHED; k++) {
                moved = fmax(moved, fabs((double)(whole[k] - start[k])));
                apart = fmax(apart, fabs((double)(whole[k] - parts[k])));
            }
        }
        if (!(moved > 1e-6 && apart < 1e-3 * moved)) {
            fail_msg("%s: weights moved by %g, and %g apart", o.name, moved, apart);
        }
        separate++;
    }
    assert_int_equal(separate, sp_policy_gradient_count() + 1);
}

static void test_refusals(void **state) {
    (void)state;
    sp_objective o;
    sp_step_stats stats;
    spar_error err;
    spar_model *model = load();
    sp_trainer *trainer = make_trainer(model);
    assert_int_equal(sp_objective_find(&o, "spppo", &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "'sppo'"));
    check(sp_objective_find(&o, "sft", &err), &err);
    assert_int_equal(sp_objective_set(&o, "beta", 1, &err), SPAR_INVALID);
    check(sp_objective_find(&o, "grpo", &err), &err);
    assert_int_equal(sp_objective_set(&o, "clp", 0.1, &err), SPAR_INVALID);
    assert_true((sp_objective_reads(&o) & SP_READS_ANCHOR) == 0);
    check(sp_objective_set(&o, "kl", 0.1, &err), &err);
    assert_true((sp_objective_reads(&o) & SP_READS_ANCHOR) != 0);
    check(sp_objective_find(&o, "dpo", &err), &err);
    prepare(trainer, 1);
    assert_int_equal(sp_trainer_step(trainer, examples, EXAMPLES, &o, 0, &stats, &err),
                     SPAR_INVALID);
    assert_non_null(strstr(err.message, "at least 2 responses"));
    assert_int_equal(sp_trainer_step(trainer, examples, 0, &o, 0, &stats, &err), SPAR_INVALID);
    sp_trainer_free(trainer);
    spar_model_free(model);
}

int main(void) {
    test_shared_or_skip("models/stories260K/hf");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_objective_is_here),
        cmocka_unit_test(test_rate_zero),
        cmocka_unit_test(test_a_step_lowers_the_loss),
        cmocka_unit_test(test_parts_make_the_same_step),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
