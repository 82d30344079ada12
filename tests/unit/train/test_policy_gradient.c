/* Policy gradients: advantages by hand, closed forms where the policy is the one that sampled,
 * every derivative against finite differences, clipping, the three divisors, and what is refused.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "train/policy_gradient.h"

enum { K = 4, MOST = 6 };

/* Responses of 1, 3, 6 and 2 tokens with rewards 1, 0, 0.5, 1. */
typedef struct group {
    float policy[K][MOST], opponent[K][MOST], anchor[K][MOST], weights[K][MOST];
    sp_pg_response y[K];
} group;

static const int64_t lengths[K] = {1, 3, 6, 2};
static const double rewards[K] = {1.0, 0.0, 0.5, 1.0};
static const double win_rates[K] = {0.75, 0.125, 0.375, 0.75};
static const sp_pg_batch batch = {.responses = 8, .tokens = 40};

/* Log-probs in 1024ths, so that a difference of one is exact in f32. */
static float logp(uint64_t index, double range) {
    return (float)floor(-1024.0 * range * sp_rng_uniform(5, 1, index)) / 1024.0f;
}

/* apart: how far the three log-probs of a token may lie from each other. */
static void fill(group *g, double apart) {
    for (uint64_t i = 0; i < K; i++) {
        for (uint64_t t = 0; t < MOST; t++) {
            const uint64_t at = 4 * (MOST * i + t);
            g->opponent[i][t] = logp(at, 4.0) - 2.0f;
            g->policy[i][t] = g->opponent[i][t] + logp(at + 1, apart) - logp(at + 2, apart);
            g->anchor[i][t] = g->opponent[i][t] + logp(at + 3, apart);
        }
        g->y[i] = (sp_pg_response){.policy = g->policy[i],
                                   .opponent = g->opponent[i],
                                   .anchor = g->anchor[i],
                                   .weights = g->weights[i],
                                   .n = lengths[i],
                                   .reward = rewards[i],
                                   .win_rate = win_rates[i]};
    }
}

static const sp_policy_gradient *row(const char *name) {
    for (int i = 0; i < sp_policy_gradient_count(); i++) {
        if (strcmp(sp_policy_gradient_at(i)->name, name) == 0) {
            return sp_policy_gradient_at(i);
        }
    }
    fail_msg("no row %s", name);
    return NULL;
}

/* The row's own fourth parameter, a constant of 256 or a mixture, after these three. */
static const double *params_of(const sp_policy_gradient *r, double clip, double high, double kl) {
    static double params[SP_PG_PARAMS];
    sp_tunable_defaults(r->params, params);
    params[SP_PG_CLIP] = clip;
    params[SP_PG_CLIP_HIGH] = high;
    params[SP_PG_KL] = kl;
    return params;
}

static double loss_of(const sp_policy_gradient *r, group *g, const double *params) {
    double loss;
    spar_error err;
    assert_int_equal(sp_pg_eval(r, g->y, K, 0, K, params, &batch, &loss, &err), SPAR_OK);
    return loss;
}

static void near(double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance * fmax(1.0, fabs(expected)))) {
        fail_msg("found %.17g, expected %.17g", found, expected);
    }
}

/* Mean 5/8; squares 9/64 + 25/64 + 1/64 + 9/64 = 44/64, over 3. */
static void test_advantages(void **state) {
    (void)state;
    group g;
    double a[K];
    fill(&g, 0.1);
    const double scale = 1.0 / (sqrt(44.0 / 192.0) + 1e-4);
    sp_pg_advantages(row("grpo"), g.y, K, a);
    near(a[0], 0.375 * scale, 1e-15);
    near(a[1], -0.625 * scale, 1e-15);
    sp_pg_advantages(row("grpo_centred"), g.y, K, a);
    near(a[2], -0.125, 1e-15);
    sp_pg_advantages(row("rloo"), g.y, K, a);
    near(a[0], 1.0 - 1.5 / 3.0, 1e-15);
    near(a[1], 0.0 - 2.5 / 3.0, 1e-15);
    sp_pg_advantages(row("nash_md"), g.y, K, a);
    near(a[1], 0.125 - 0.5, 0.0);
    for (int i = 0; i < K; i++) {
        g.y[i].reward = 0.5; /* nothing to choose: no direction, and no division by 0 */
    }
    sp_pg_advantages(row("grpo"), g.y, K, a);
    assert_true(a[0] == 0.0 && a[3] == 0.0);
}

/* With the policy that sampled every ratio is 1: the loss is minus the weighted advantages, and a
 * token's weight is its share of -A. */
static void test_at_the_opponent(void **state) {
    (void)state;
    group g;
    double a[K];
    fill(&g, 0.0);
    for (int r = 0; r < sp_policy_gradient_count(); r++) {
        const sp_policy_gradient *at = sp_policy_gradient_at(r);
        double expected = 0.0;
        const double loss = loss_of(at, &g, params_of(at, 0.2, 0.2, 0.0));
        sp_pg_advantages(at, g.y, K, a);
        for (int i = 0; i < K; i++) {
            const double n = (double)lengths[i];
            const double share = at->per == SP_PER_LENGTH     ? 1.0 / (8.0 * n)
                                 : at->per == SP_PER_TOKENS   ? 1.0 / 40.0
                                 : at->per == SP_PER_CONSTANT ? 1.0 / (8.0 * 256.0)
                                                              : 1.0 / 8.0;
            expected -= a[i] * share * (at->per == SP_PER_RESPONSE ? 1.0 : n);
            near((double)g.weights[i][0], -a[i] * share, 1e-7);
            near((double)g.weights[i][lengths[i] - 1], -a[i] * share, 1e-7);
        }
        near(loss, expected, 1e-14);
    }
}

static void test_gradients(void **state) {
    (void)state;
    static const double aparts[] = {0.05, 0.5, 2.0};
    const float h = 1.0f / 1024.0f;
    for (int r = 0; r < sp_policy_gradient_count(); r++) {
        for (size_t c = 0; c < 3; c++) {
            const double *params = params_of(sp_policy_gradient_at(r), 0.21, 0.27, 0.3);
            group g;
            fill(&g, aparts[c]);
            loss_of(sp_policy_gradient_at(r), &g, params);
            const group at = g;
            for (int i = 0; i < K; i++) {
                for (int64_t t = 0; t < lengths[i]; t++) {
                    g = at;
                    fill(&g, aparts[c]);
                    g.policy[i][t] = at.policy[i][t] + h;
                    const double up = loss_of(sp_policy_gradient_at(r), &g, params);
                    g.policy[i][t] = at.policy[i][t] - h;
                    const double down = loss_of(sp_policy_gradient_at(r), &g, params);
                    const double slope = (up - down) / (2.0 * (double)h);
                    const double found = (double)at.weights[i][t];
                    if (fabs(found - slope) > 2e-5 * fmax(0.1, fabs(slope))) {
                        fail_msg("%s, response %d, token %d: weight %g, difference %g",
                                 sp_policy_gradient_at(r)->name, i, (int)t, found, slope);
                    }
                }
            }
        }
    }
}

/* Beyond the clip a better response pulls no further, and a worse one below it either. */
static void test_clipping(void **state) {
    (void)state;
    const double *params = params_of(row("grpo_centred"), 0.2, 0.3, 0.0);
    group g;
    fill(&g, 0.0);
    g.policy[0][0] = g.opponent[0][0] + 0.25f; /* ratio 1.284, A > 0 */
    loss_of(row("grpo_centred"), &g, params);
    assert_true(g.weights[0][0] < 0.0f);
    g.policy[0][0] = g.opponent[0][0] + 0.28f; /* 1.323 */
    g.policy[1][1] = g.opponent[1][1] - 0.25f; /* 0.779, A < 0 */
    const double loss = loss_of(row("grpo_centred"), &g, params);
    assert_true(g.weights[0][0] == 0.0f && g.weights[1][1] == 0.0f);
    assert_true(g.weights[1][0] > 0.0f);
    near(loss, (-0.375 * 1.3 + 0.625 * (2.0 + 0.8) / 3.0 + 0.125 - 0.375) / 8.0, 1e-14);
    g.policy[1][1] = g.opponent[1][1] + 3.0f; /* worse and likelier: never clipped */
    loss_of(row("grpo_centred"), &g, params);
    assert_true(g.weights[1][1] > 10.0f * g.weights[1][0]);
}

/* One token at a ratio of 2, which clip_high = 1 puts its kink at (and 1/2, at clip = 1/2, for the
 * worse one): log 2 in f32 is off by 2e-9, so one f32 either side is beyond it. The loss is
 * continuous, and its slope is -A ratio before the kink and 0 behind it. */
static void test_kinks(void **state) {
    (void)state;
    const double *params = params_of(row("grpo_centred"), 0.5, 1.0, 0.0);
    group g;
    for (int worse = 0; worse < 2; worse++) {
        const int i = worse; /* A of 0.375, -0.625 */
        const float at = (float)log(2.0) * (worse ? -1.0f : 1.0f), step = 1.0f / 4096.0f;
        const double advantage = worse ? -0.625 : 0.375;
        const double share = 1.0 / (8.0 * (double)lengths[i]);
        double losses[3];
        float slopes[3];
        for (int s = -1; s <= 1; s++) { /* a step towards the middle, at the kink, a step beyond */
            const float beyond = (worse ? -1.0f : 1.0f) * (float)s * step;
            fill(&g, 0.0);
            g.opponent[i][0] = 0.0f;
            g.policy[i][0] = at + beyond;
            losses[s + 1] = loss_of(row("grpo_centred"), &g, params);
            slopes[s + 1] = g.weights[i][0];
        }
        const double inside = -advantage * exp((double)at) * share;
        near((losses[1] - losses[0]) / (double)step * (worse ? -1 : 1), inside, 1e-4);
        near((double)slopes[0], inside, 1e-3);
        near(losses[2], losses[1], 1e-8);
        assert_true(slopes[2] == 0.0f);
    }
}

/* The pull is least, and flat, where the policy is the anchor; its exponential ends in a line 50
 * nats away, so that no response makes it infinite. */
static void test_pull(void **state) {
    (void)state;
    static const float gaps[] = {0.0f, 40.0f, 60.0f, 1000.0f};
    group g;
    for (size_t i = 0; i < sizeof gaps / sizeof gaps[0]; i++) {
        fill(&g, 0.0);
        for (int k = 0; k < K; k++) {
            g.y[k].reward = 0.5;
            memcpy(g.anchor[k], g.policy[k], sizeof g.anchor[k]);
        }
        g.anchor[1][2] = g.policy[1][2] + gaps[i];
        const double loss = loss_of(row("dapo"), &g, params_of(row("dapo"), 0.2, 0.2, 0.5));
        assert_true(isfinite(loss) && loss >= 0.0 && isfinite((double)g.weights[1][2]));
        assert_true(gaps[i] == 0.0f ? loss == 0.0 && g.weights[1][2] == 0.0f
                                    : g.weights[1][2] < 0.0f);
    }
}

/* A group in two parts: the losses add up, weights are those of the whole, and nothing else is read
 * of the others. */
static void test_parts(void **state) {
    (void)state;
    for (int r = 0; r < sp_policy_gradient_count(); r++) {
        const double *params = params_of(sp_policy_gradient_at(r), 0.2, 0.2, 0.3);
        group whole, g;
        double losses[2];
        spar_error err;
        fill(&whole, 0.5);
        const double loss = loss_of(sp_policy_gradient_at(r), &whole, params);
        for (size_t part = 0; part < 2; part++) {
            const size_t from = part ? 1 : 0, n = part ? K - 1 : 1;
            fill(&g, 0.5);
            for (size_t i = 0; i < K; i++) {
                if (i < from || i >= from + n) {
                    g.y[i].policy = NULL;
                    g.y[i].weights = NULL;
                }
            }
            assert_int_equal(sp_pg_eval(sp_policy_gradient_at(r), g.y, K, from, n, params, &batch,
                                        &losses[part], &err),
                             SPAR_OK);
            for (size_t i = from; i < from + n; i++) {
                assert_memory_equal(g.weights[i], whole.weights[i],
                                    (size_t)lengths[i] * sizeof(float));
            }
        }
        near(losses[0] + losses[1], loss, 1e-14);
    }
}

static void test_refusals(void **state) {
    (void)state;
    double params[SP_PG_PARAMS] = {0.2, 0.2, 0.0, 0.5}, loss;
    spar_error err;
    group g;
    fill(&g, 0.1);
    assert_int_equal(sp_pg_eval(row("grpo"), g.y, 1, 0, 1, params, &batch, &loss, &err),
                     SPAR_INVALID);
    assert_non_null(strstr(err.message, "two responses"));
    assert_int_equal(sp_pg_eval(row("nash_md"), g.y, 1, 0, 1, params, &batch, &loss, &err),
                     SPAR_OK);
    g.y[1].reward = (double)NAN;
    assert_int_equal(sp_pg_eval(row("rloo"), g.y, K, 0, K, params, &batch, &loss, &err),
                     SPAR_INVALID);
    assert_non_null(strstr(err.message, "response 1"));
    fill(&g, 0.1);
    params[SP_PG_KL] = 0.1;
    g.y[2].anchor = NULL;
    assert_int_equal(sp_pg_eval(row("grpo"), g.y, K, 0, K, params, &batch, &loss, &err),
                     SPAR_INVALID);
    params[SP_PG_KL] = -0.1;
    assert_int_equal(sp_pg_eval(row("grpo"), g.y, K, 0, K, params, &batch, &loss, &err),
                     SPAR_INVALID);
    assert_non_null(strstr(err.message, "kl"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_advantages), cmocka_unit_test(test_at_the_opponent),
        cmocka_unit_test(test_gradients),  cmocka_unit_test(test_clipping),
        cmocka_unit_test(test_kinks),      cmocka_unit_test(test_pull),
        cmocka_unit_test(test_parts),      cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
