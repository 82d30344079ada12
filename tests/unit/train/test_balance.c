/* The load-balancing loss in a training step: its weight, and the mean over micro-batches. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support.h"
#include "train/trainer_parts.h"

enum { EXAMPLES = 3, PROMPT = 4, MAX_IDS = 32 };

static int32_t ids[EXAMPLES][MAX_IDS];
static sp_reply replies[EXAMPLES];
static sp_example examples[EXAMPLES];

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

/* Of 9, 15 and 21 tokens, that no two share an opening. */
static void make_examples(void) {
    for (int i = 0; i < EXAMPLES; i++) {
        for (int t = 0; t < MAX_IDS; t++) {
            ids[i][t] = 3 + (i * 11 + t * (t + 5)) % 13;
        }
        replies[i] = (sp_reply){.ids = ids[i] + PROMPT, .n = (size_t)(5 + 6 * i)};
        examples[i] = (sp_example){
            .prompt = ids[i], .n_prompt = PROMPT, .replies = &replies[i], .n_replies = 1};
    }
}

static spar_model *load(void) {
    spar_error err;
    spar_model *m;
    char path[TEST_PATH_MAX];
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    snprintf(path, sizeof path, "%s/tests/golden/arch/mixtral", SPAR_SOURCE_DIR);
    check(spar_model_load(&m, path, &options, &err), &err);
    return m;
}

/* A step of SFT that changes nothing. Returns its gradient, owned by the caller. */
static float *step(spar_model *m, double balance, sp_step_stats *stats) {
    spar_error err;
    sp_trainer *t;
    sp_objective sft;
    const sp_trainer_options options = {.optimizer = "adamw",
                                        .beta1 = 0.9,
                                        .beta2 = 0.999,
                                        .eps = 1e-8,
                                        .alpha = 0.99,
                                        .max_tokens = 1, /* each example alone */
                                        .balance = balance};
    check(sp_objective_find(&sft, "sft", &err), &err);
    check(sp_trainer_create(&t, m, &options, &err), &err);
    check(sp_trainer_step(t, examples, EXAMPLES, &sft, 0, stats, &err), &err);
    float *grads = malloc((size_t)m->params.total * sizeof *grads);
    assert_non_null(grads);
    memcpy(grads, t->grads, (size_t)m->params.total * sizeof *grads);
    sp_trainer_free(t);
    return grads;
}

/* out += the gradient of weight times the loss of one example; returns the loss. */
static double alone(spar_model *m, const sp_example *e, double weight, float *out) {
    spar_error err;
    sp_pass *pass;
    sp_batch b;
    float logp[MAX_IDS], c[MAX_IDS] = {0};
    size_t start;
    int segment;
    sp_batch_init(&b);
    check(sp_batch_add(&b, -1, e->prompt, e->n_prompt + e->replies->n, &segment, &err), &err);
    check(sp_batch_score(&b, segment, 1, &start, &err), &err);
    check(sp_pass_create(&pass, m, SP_PASS_TRAIN, &err), &err);
    sp_pass_balance(pass, weight);
    check(sp_pass_forward(pass, &b, NULL, &err), &err);
    check(sp_pass_logp(pass, &b, logp, &err), &err);
    const double loss = sp_pass_balance_loss(pass);
    check(sp_pass_backward(pass, &b, c, out, true, &err), &err);
    sp_pass_free(pass);
    sp_batch_release(&b);
    return loss;
}

static void test_step(void **state) {
    (void)state;
    spar_model *m = load();
    sp_step_stats with, without;
    const double weight = 0.3, rows = 9 + 15 + 21;
    float *plain = step(m, 0, &without), *both = step(m, weight, &with);
    float *want = calloc((size_t)m->params.total, sizeof *want);
    double mean = 0, worst = 0, largest = 0;
    for (int i = 0; i < EXAMPLES; i++) {
        const double share = (double)(PROMPT + replies[i].n) / rows;
        mean += share * alone(m, &examples[i], weight * share, want);
    }
    assert_true(without.balance == 0);
    assert_true(fabs(with.balance - mean) <= 1e-6 * mean);
    assert_true(with.loss == without.loss);
    for (int64_t i = 0; i < m->params.total; i++) {
        worst = fmax(worst, fabs((double)both[i] - (double)plain[i] - (double)want[i]));
        largest = fmax(largest, fabs((double)want[i]));
    }
    assert_true(largest > 0.01);
    assert_true(worst <= 1e-5 * largest);
    free(plain);
    free(both);
    free(want);
    spar_model_free(m);
}

/* Without a weight, the configuration's, if it says that training asks for the router's logits. */
static void test_configured(void **state) {
    (void)state;
    spar_model *m = load();
    sp_step_stats stats;
    const size_t bytes = (size_t)m->params.total * sizeof(float);
    m->config.balance_weight = 0.3;
    float *off = step(m, -1, &stats);
    assert_true(stats.balance == 0);
    m->config.balances = true;
    float *on = step(m, -1, &stats), *same = step(m, 0.3, &stats);
    assert_true(stats.balance > 0);
    assert_memory_equal(on, same, bytes);
    assert_true(memcmp(on, off, bytes) != 0);
    free(off);
    free(on);
    free(same);
    spar_model_free(m);
}

/* A router of sigmoids has no such loss. */
static void test_refused(void **state) {
    (void)state;
    spar_error err;
    spar_model *m;
    sp_trainer *t;
    char path[TEST_PATH_MAX];
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 1};
    const sp_trainer_options asked = {.optimizer = "adamw", .max_tokens = 1, .balance = 0.1};
    snprintf(path, sizeof path, "%s/tests/golden/arch/glm4-moe", SPAR_SOURCE_DIR);
    check(spar_model_load(&m, path, &options, &err), &err);
    assert_int_equal(sp_trainer_create(&t, m, &asked, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "glm4_moe"));
    spar_model_free(m);
}

int main(void) {
    make_examples();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step),
        cmocka_unit_test(test_configured),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
