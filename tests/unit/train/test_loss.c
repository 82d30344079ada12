/* The loss table: closed forms, finite differences, extremes, the batch, and reference figures. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "base/rng.h"
#include "support.h"
#include "train/loss.h"

static const double ln2 = 0.69314718055994530942;

static const sp_loss *row(const char *name) {
    const sp_loss *loss = NULL;
    spar_error err;
    assert_int_equal(sp_loss_find(name, &loss, &err), SPAR_OK);
    return loss;
}

static sp_pair_grad eval_with(const char *name, sp_pair_logps pair, double first, double second) {
    double params[SP_LOSS_MAX_PARAMS] = {first, second};
    sp_pair_grad out;
    row(name)->eval(&pair, 1, params, &out);
    return out;
}

static void near(double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance * fmax(1.0, fabs(expected)))) {
        print_error("found %.17g, expected %.17g\n", found, expected);
        fail();
    }
}

/* s_w = 3, s_l = -1, D = 4; lengths 4 and 2. */
static const sp_pair_logps sample = {-10.0, -9.0, -13.0, -8.0, 4, 2};

static void test_closed_forms(void **state) {
    (void)state;
    double sigma = 1.0 / (1.0 + exp(-0.4)), nll = -log(sigma), flipped = -log(1.0 - sigma);
    near(eval_with("spin", sample, 0.1, 0).loss, nll, 1e-15);
    near(eval_with("spin", sample, 0.1, 0).d_policy_w, -0.1 * (1.0 - sigma), 1e-15);
    near(eval_with("spin", sample, 0.1, 0).margin, 0.4, 1e-15);
    near(eval_with("spin_hinge", sample, 0.1, 0).loss, 0.6, 1e-15);
    near(eval_with("spin_hinge", sample, 0.5, 0).loss, 0.0, 0.0);
    near(eval_with("spin_linear", sample, 0.5, 0).loss, -1.0, 1e-15);
    near(eval_with("spin_exponential", sample, 0.1, 0).loss, exp(-0.4), 1e-15);
    near(eval_with("dpo", sample, 0.1, 0.0).loss, nll, 1e-15);
    near(eval_with("dpo", sample, 0.1, 0.2).loss, 0.8 * nll + 0.2 * flipped, 1e-15);
    near(eval_with("dpo_robust", sample, 0.1, 0.2).loss, (0.8 * nll - 0.2 * flipped) / 0.6, 1e-15);
    near(eval_with("rpo", sample, 0.1, 2.0).loss, nll + 2.0 * 10.0 / 4.0, 1e-15);
    near(eval_with("ipo", sample, 0.1, 0).loss, 1.0, 1e-15);
    near(eval_with("ipo", sample, 0.1, 0).d_policy_l, 2.0, 1e-15);
    near(eval_with("ipo_mean", sample, 0.5, 0).loss, 0.0625, 1e-15); /* 3/4 + 1/2 - 1 */
    near(eval_with("ipo_mean", sample, 0.5, 0).d_policy_l, -0.25, 1e-15);
    near(eval_with("sppo_hard", sample, 0.25, 0).loss, 1.0 + 1.0, 1e-15);
    near(eval_with("hinge", sample, 0.1, 0).loss, 0.6, 1e-15);
    near(eval_with("cpo", sample, 0.1, 2.0).loss, log1p(exp(0.1)) + 5.0, 1e-15);
    near(eval_with("cpo", sample, 0.1, 2.0).d_policy_l, 0.1 / (1.0 + exp(-0.1)), 1e-15);
    double odds = exp(-2.5) / (1.0 - exp(-2.5)), odds_l = exp(-4.5) / (1.0 - exp(-4.5));
    near(eval_with("orpo", sample, 0.1, 0).loss, 2.5 + 0.1 * log1p(odds_l / odds), 1e-15);
    near(eval_with("simpo", sample, 2.0, 1.0).loss, log1p(exp(-(2.0 * (-2.5 + 4.5) - 1.0))), 1e-15);
}

/* Each row's symmetry or limit that holds for any argument. */
static void test_identities(void **state) {
    (void)state;
    sp_pair_logps swapped = {sample.policy_l, sample.policy_w, sample.ref_l,
                             sample.ref_w,    sample.len_l,    sample.len_w};
    near(eval_with("spin", sample, 0.1, 0).loss, eval_with("dpo", sample, 0.1, 0).loss, 0.0);
    near(eval_with("rpo", sample, 0.1, 0).loss, eval_with("dpo", sample, 0.1, 0).loss, 0.0);
    near(eval_with("spin", sample, 0.1, 0).loss - eval_with("spin", swapped, 0.1, 0).loss, -0.4,
         1e-14);
    /* Half of the labels swapped: no preference is left, and neither is a gradient at D = 0. */
    near(eval_with("dpo", sample, 0.1, 0.5).loss, eval_with("dpo", swapped, 0.1, 0.5).loss, 1e-15);
    near(eval_with("dpo", sample, 0.1, 0.5).d_policy_w, 0.05 * (2.0 / (1.0 + exp(-0.4)) - 1.0),
         1e-15);
}

static void test_at_the_reference(void **state) {
    (void)state;
    sp_pair_logps same = {-12.25, -30.5, -12.25, -30.5, 3, 7};
    assert_true(eval_with("spin", same, 0.1, 0).loss == ln2);
    assert_true(eval_with("dpo", same, 0.3, 0).loss == ln2);
    assert_true(eval_with("spin", same, 0.1, 0).d_policy_w == -0.05);
    assert_true(eval_with("spin_hinge", same, 0.1, 0).loss == 1.0);
    assert_true(eval_with("spin_linear", same, 0.1, 0).loss == 1.0);
    assert_true(eval_with("spin_exponential", same, 0.1, 0).loss == 1.0);
    near(eval_with("dpo", same, 0.3, 0.25).loss, ln2, 1e-15);
    near(eval_with("dpo_robust", same, 0.3, 0.25).loss, ln2, 1e-15);
    near(eval_with("ipo", same, 0.1, 0).loss, 25.0, 1e-15);
    near(eval_with("sppo_hard", same, 0.05, 0).loss, 200.0, 1e-15);
    /* IPO and DPO pull the same way there, 2 / beta^2 apart. */
    near(eval_with("ipo", same, 0.1, 0).d_policy_w / eval_with("dpo", same, 0.1, 0).d_policy_w,
         2.0 / (0.1 * 0.1), 1e-13);
    near(eval_with("ipo", same, 0.1, 0).d_policy_l / eval_with("dpo", same, 0.1, 0).d_policy_l,
         2.0 / (0.1 * 0.1), 1e-13);
}

static double random_in(uint64_t index, double range) {
    return range * (2.0 * sp_rng_uniform(11, 5, index) - 1.0);
}

static sp_pair_logps random_pair(uint64_t index, double range) {
    uint64_t at = 6 * index;
    return (sp_pair_logps){random_in(at, range),
                           random_in(at + 1, range),
                           random_in(at + 2, range),
                           random_in(at + 3, range),
                           1 + (int64_t)sp_rng_below(11, 6, at + 4, 300),
                           1 + (int64_t)sp_rng_below(11, 6, at + 5, 300)};
}

static double loss_of(const sp_loss *loss, sp_pair_logps pair, const double *params) {
    sp_pair_grad out;
    loss->eval(&pair, 1, params, &out);
    return out.loss;
}

static void check_gradient(const sp_loss *loss, const double *params, sp_pair_logps pair,
                           double step) {
    sp_pair_grad out;
    loss->eval(&pair, 1, params, &out);
    sp_pair_logps up = pair, down = pair;
    up.policy_w += step;
    down.policy_w -= step;
    double slope = (loss_of(loss, up, params) - loss_of(loss, down, params)) / (2.0 * step);
    near(out.d_policy_w, slope, 2e-5);
    up = down = pair;
    up.policy_l += step;
    down.policy_l -= step;
    slope = (loss_of(loss, up, params) - loss_of(loss, down, params)) / (2.0 * step);
    near(out.d_policy_l, slope, 2e-5);
}

static void test_gradients(void **state) {
    (void)state;
    static const double ranges[] = {0.5, 5.0, 50.0, 500.0, 1e6};
    for (int i = 0; i < sp_loss_count(); i++) {
        const sp_loss *loss = sp_loss_at(i);
        double params[SP_LOSS_MAX_PARAMS] = {0};
        sp_tunable_defaults(loss->params, params);
        for (size_t r = 0; r < sizeof ranges / sizeof ranges[0]; r++) {
            for (uint64_t k = 0; k < 100; k++) {
                check_gradient(loss, params, random_pair(k, ranges[r]), 1e-5 * fmax(1, ranges[r]));
            }
        }
    }
}

/* Margins up to 1e6 either way: nothing overflows, and the logistic tails are the right ones. */
static void test_extremes(void **state) {
    (void)state;
    static const double gaps[] = {-1e6, -1e3, -40.0, 40.0, 1e3, 1e6};
    for (int i = 0; i < sp_loss_count(); i++) {
        const sp_loss *loss = sp_loss_at(i);
        double params[SP_LOSS_MAX_PARAMS] = {0};
        sp_tunable_defaults(loss->params, params);
        params[0] = 1.0;
        for (size_t k = 0; k < sizeof gaps / sizeof gaps[0]; k++) {
            sp_pair_logps pair = {gaps[k], 0.0, 0.0, 0.0, 1, 1};
            sp_pair_grad out;
            loss->eval(&pair, 1, params, &out);
            assert_true(isfinite(out.loss) && isfinite(out.d_policy_w));
            assert_true(isfinite(out.d_policy_l) && isfinite(out.margin));
        }
    }
    sp_pair_logps losing = {-1e6, 0, 0, 0, 1, 1}, winning = {1e6, 0, 0, 0, 1, 1};
    near(eval_with("spin", losing, 1.0, 0).loss, 1e6, 0.0);
    near(eval_with("spin", losing, 1.0, 0).d_policy_w, -1.0, 0.0);
    assert_true(eval_with("spin", winning, 1.0, 0).loss == 0.0);
    winning.policy_w = 40.0;
    near(eval_with("spin", winning, 1.0, 0).loss / exp(-40.0), 1.0, 1e-12);
    /* The documented tangent of the exponential row. */
    near(eval_with("spin_exponential", losing, 1.0, 0).loss, exp(30.0) * (1.0 + 1e6 - 30.0), 1e-15);
    near(eval_with("spin_exponential", losing, 1.0, 0).d_policy_l, exp(30.0), 1e-15);
}

static void test_batch(void **state) {
    (void)state;
    spar_error err;
    double params[SP_LOSS_MAX_PARAMS] = {0.1};
    sp_pair_logps pairs[5];
    sp_pair_grad one[5], whole[5], part[5];
    sp_loss_metrics all, merged = {0}, half;
    const sp_loss *loss = row("spin");
    for (uint64_t i = 0; i < 5; i++) {
        pairs[i] = random_pair(i, 10.0);
    }
    pairs[4] = (sp_pair_logps){-3.0, -4.0, -3.0, -4.0, 1, 1}; /* a tie counts as no win */
    loss->eval(pairs, 5, params, one);
    assert_int_equal(sp_loss_batch(loss, pairs, 5, params, 5, whole, &all, &err), SPAR_OK);
    double mean = 0.0, wins = 0.0, s_l = 0.0;
    for (int i = 0; i < 5; i++) {
        mean += one[i].loss / 5.0;
        wins += one[i].margin > 0.0;
        s_l += (pairs[i].policy_l - pairs[i].ref_l) / 5.0;
        near(whole[i].d_policy_w, one[i].d_policy_w / 5.0, 1e-15);
        near(whole[i].loss, one[i].loss, 0.0);
    }
    near(all.loss, mean, 1e-14);
    near(all.accuracy, wins / 5.0, 1e-15);
    near(all.s_l, s_l, 1e-14);
    near(all.margin, 0.1 * (all.s_w - all.s_l), 1e-14);
    for (int begin = 0; begin < 5; begin += 2) {
        int n = begin + 2 <= 5 ? 2 : 1;
        assert_int_equal(
            sp_loss_batch(loss, pairs + begin, n, params, 5, part + begin, &half, &err), SPAR_OK);
        sp_loss_metrics_merge(&merged, &half);
    }
    assert_memory_equal(part, whole, sizeof whole);
    assert_int_equal(merged.n, 5);
    near(merged.loss, all.loss, 1e-14);
    near(merged.accuracy, all.accuracy, 1e-14);
    near(merged.s_w, all.s_w, 1e-14);
}

static void refused(const char *name, sp_pair_logps pair, double beta, const char *part) {
    double params[SP_LOSS_MAX_PARAMS] = {beta, 0.0};
    sp_pair_grad out;
    spar_error err;
    assert_int_equal(sp_loss_batch(row(name), &pair, 1, params, 1, &out, NULL, &err), SPAR_INVALID);
    if (!strstr(err.message, part)) {
        print_error("'%s' lacks '%s'\n", err.message, part);
        fail();
    }
}

static void test_refusals(void **state) {
    (void)state;
    sp_pair_logps pair = sample;
    spar_error err;
    const sp_loss *loss = NULL;
    refused("spin", sample, 0.0, "beta");
    refused("spin", sample, (double)NAN, "beta");
    pair.len_w = 0;
    refused("ipo_mean", pair, 0.1, "at least one token");
    pair = sample;
    pair.policy_l = -(double)INFINITY;
    refused("dpo", pair, 0.1, "pair 0");
    pair = sample;
    pair.ref_w = (double)NAN;
    refused("dpo", pair, 0.1, "reference");
    double params[SP_LOSS_MAX_PARAMS] = {2.0, 1.0};
    sp_pair_grad out;
    assert_int_equal(sp_loss_batch(row("simpo"), &pair, 1, params, 1, &out, NULL, &err), SPAR_OK);
    assert_int_equal(sp_loss_batch(row("simpo"), &pair, 2, params, 1, &out, NULL, &err),
                     SPAR_INVALID);
    assert_int_equal(sp_loss_find("spin_hindge", &loss, &err), SPAR_INVALID);
    assert_non_null(strstr(err.message, "'spin_hinge'"));
}

static void test_table(void **state) {
    (void)state;
    spar_error err;
    for (int i = 0; i < sp_loss_count(); i++) {
        const sp_loss *loss = sp_loss_at(i);
        double params[SP_LOSS_MAX_PARAMS];
        assert_in_range(sp_tunable_count(loss->params), 1, SP_LOSS_MAX_PARAMS);
        sp_tunable_defaults(loss->params, params);
        assert_int_equal(sp_tunable_check(loss->params, params, loss->name, &err), SPAR_OK);
        assert_ptr_equal(row(loss->name), loss);
        assert_int_equal(
            sp_tunable_set(loss->params, params, loss->params[0].name, 0.25, loss->name, &err),
            SPAR_OK);
        assert_true(params[0] == 0.25);
        assert_int_equal(
            sp_tunable_set(loss->params, params, loss->params[0].name, -1, loss->name, &err),
            SPAR_INVALID);
        assert_true(params[0] == 0.25);
        assert_int_equal(sp_tunable_set(loss->params, params, "betta", 1, loss->name, &err),
                         SPAR_INVALID);
        assert_non_null(strstr(err.message, strcmp(loss->name, "orpo") ? "'beta'" : "'lambda'"));
    }
}

static void test_sft_weights(void **state) {
    (void)state;
    static const int64_t lengths[] = {2, 0, 6};
    double w[3];
    spar_error err;
    assert_int_equal(sp_sft_weights(SP_SFT_MEAN_TOKENS, lengths, 3, 8, 2, w, &err), SPAR_OK);
    assert_true(w[0] == 0.125 && w[1] == 0.0 && w[2] == 0.125);
    assert_int_equal(sp_sft_weights(SP_SFT_MEAN_SEQUENCES, lengths, 3, 8, 2, w, &err), SPAR_OK);
    assert_true(w[0] == 0.25 && w[1] == 0.0);
    near(w[2], 1.0 / 12.0, 1e-16);
    /* A micro-batch of a larger batch is weighted by the larger one. */
    assert_int_equal(sp_sft_weights(SP_SFT_MEAN_TOKENS, lengths, 1, 16, 4, w, &err), SPAR_OK);
    assert_true(w[0] == 0.0625);
    assert_int_equal(sp_sft_weights(SP_SFT_MEAN_TOKENS, lengths, 3, 7, 2, w, &err), SPAR_INVALID);
    assert_int_equal(sp_sft_weights(SP_SFT_MEAN_TOKENS, lengths, 3, 8, 1, w, &err), SPAR_INVALID);
    assert_int_equal(sp_sft_weights(SP_SFT_MEAN_TOKENS, lengths, 0, 0, 0, w, &err), SPAR_INVALID);
    assert_int_equal(sp_sft_weights(SP_SFT_MEAN_TOKENS, (int64_t[]){-1}, 1, 8, 1, w, &err),
                     SPAR_INVALID);
}

/* ---- reference figures: the first step of SmolLM2-135M-Instruct on three pairs ---- */

static double number_at(const json_t *object, const char *key) {
    assert_true(json_is_number(json_object_get(object, key)));
    return json_number_value(json_object_get(object, key));
}

static sp_pair_logps golden_pair(const json_t *pair) {
    double w = number_at(pair, "logp_chosen"), l = number_at(pair, "logp_rejected");
    return (sp_pair_logps){w,
                           l,
                           w,
                           l,
                           (int64_t)json_array_size(json_object_get(pair, "chosen_ids")),
                           (int64_t)json_array_size(json_object_get(pair, "rejected_ids"))};
}

static void check_golden(const json_t *io, const char *name, const sp_pair_logps *pairs,
                         double first, double second) {
    double params[SP_LOSS_MAX_PARAMS] = {first, second};
    sp_pair_grad out[3];
    sp_loss_metrics m;
    spar_error err;
    const json_t *kind = json_object_get(json_object_get(io, "training"), name);
    const json_t *losses = json_object_get(kind, "loss");
    assert_int_equal(sp_loss_batch(row(name), pairs, 3, params, 3, out, &m, &err), SPAR_OK);
    near(m.loss, json_number_value(json_array_get(losses, 0)), 1e-6);
}

static void check_golden_sft(const json_t *io, const sp_pair_logps *pairs) {
    int64_t lengths[3], tokens = 0;
    double weight[3], loss = 0.0;
    spar_error err;
    const json_t *kind = json_object_get(json_object_get(io, "training"), "sft");
    for (int i = 0; i < 3; i++) {
        lengths[i] = pairs[i].len_w;
        tokens += lengths[i];
    }
    assert_int_equal(sp_sft_weights(SP_SFT_MEAN_TOKENS, lengths, 3, tokens, 3, weight, &err),
                     SPAR_OK);
    for (int i = 0; i < 3; i++) {
        loss -= weight[i] * pairs[i].policy_w;
    }
    near(loss, json_number_value(json_array_get(json_object_get(kind, "loss"), 0)), 1e-6);
}

static void test_golden(void **state) {
    (void)state;
    const char *path = test_shared("golden/smollm2/io.json");
    if (!path) {
        print_message("skipped: the shared folder has no golden/smollm2/io.json\n");
        skip();
    }
    json_t *io = NULL;
    spar_error err;
    sp_pair_logps pairs[3];
    assert_int_equal(sp_json_load(&io, path, &err), SPAR_OK);
    for (size_t i = 0; i < 3; i++) {
        pairs[i] = golden_pair(json_array_get(json_object_get(io, "pairs"), i));
    }
    check_golden(io, "spin", pairs, 0.1, 0);
    check_golden(io, "ipo", pairs, 0.1, 0);
    check_golden(io, "sppo_hard", pairs, 0.05, 0);
    check_golden(io, "simpo", pairs, 2.0, 1.0);
    check_golden_sft(io, pairs);
    json_decref(io);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_forms),     cmocka_unit_test(test_identities),
        cmocka_unit_test(test_at_the_reference), cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_extremes),         cmocka_unit_test(test_batch),
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_table),
        cmocka_unit_test(test_sft_weights),      cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
