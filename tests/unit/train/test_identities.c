/* What the methods do in expectation, on tabular policies: minimisers of the loss rows are the
 * exact iterations of the theory, and the advantages of policy gradients leave the gradient of the
 * expected reward as it is. Everything is a finite sum over the rows of the tables. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "train/game.h"
#include "train/objective.h"
#include "train/tabular.h"

enum { N = 5 };

static double opponent[N], anchor[N], rewards[N], preference[N * N];

static void random_policy(uint64_t stream, double *logp) {
    for (uint64_t i = 0; i < N; i++) {
        logp[i] = sp_rng_normal(17, stream, i);
    }
    sp_tabular_log_softmax(N, logp, logp);
}

static int make_game(void **state) {
    (void)state;
    random_policy(1, opponent);
    random_policy(2, anchor);
    for (uint64_t i = 0; i < N; i++) {
        rewards[i] = sp_rng_uniform(17, 3, i);
    }
    sp_game_random(17, N, preference);
    return 0;
}

static sp_objective objective(const char *name) {
    sp_objective o;
    spar_error err;
    assert_int_equal(sp_objective_find(&o, name, &err), SPAR_OK);
    return o;
}

static sp_loss_response response(const double *policy, int y) {
    return (sp_loss_response){.policy = policy[y],
                              .opponent = opponent[y],
                              .anchor = anchor[y],
                              .reward = rewards[y],
                              .length = 1};
}

/* Adds weight times the loss of (w, l) and its gradient in the logits of the policy. */
static double add_pair(const sp_objective *o, const double *policy, int w, int l, double weight,
                       double *gradient) {
    const sp_loss_response pair[2] = {response(policy, w), response(policy, l)};
    double d[2];
    const double loss = o->loss->eval(pair, 2, o->params, d).loss;
    for (int k = 0; k < N; k++) {
        gradient[k] +=
            weight * (d[0] * ((k == w) - exp(policy[k])) + d[1] * ((k == l) - exp(policy[k])));
    }
    return weight * loss;
}

/* Both responses from the opponent, the winner drawn by the preference. */
static double expected_loss(const sp_objective *o, const double *policy, double *gradient) {
    double total = 0;
    memset(gradient, 0, N * sizeof *gradient);
    for (int a = 0; a < N; a++) {
        for (int b = 0; b < N; b++) {
            const double p = preference[a * N + b], weight = exp(opponent[a] + opponent[b]);
            total += add_pair(o, policy, a, b, weight * p, gradient);
            total += add_pair(o, policy, b, a, weight * (1 - p), gradient);
        }
    }
    return total;
}

/* The INPO loss is least at policy ~ anchor^(tau/eta) opponent^(1-tau/eta) exp(P(y >
 * opponent)/eta). It is a square of differences of log-probs, so that a zero gradient is the
 * minimum. */
static void test_inpo_is_its_iteration(void **state) {
    (void)state;
    double policy[N], gradient[N], elsewhere[N];
    const sp_objective o = objective("inpo");
    memcpy(policy, opponent, sizeof policy);
    sp_game_inpo(preference, N, o.params[0], o.params[1], anchor, policy);
    const double least = expected_loss(&o, policy, gradient);
    /* the gradient is a sum of terms of 1/eta = 133 */
    assert_true(sp_tabular_largest(N, gradient) < 1e-11);
    assert_true(expected_loss(&o, opponent, elsewhere) > least);
    assert_true(sp_tabular_largest(N, elsewhere) > 1);
}

/* IPO with the opponent as its reference is INPO without an anchor, at beta = eta. */
static void test_ipo_is_inpo_without_anchor(void **state) {
    (void)state;
    double policy[N], gradient[N];
    const sp_objective o = objective("ipo");
    memcpy(policy, opponent, sizeof policy);
    sp_game_inpo(preference, N, o.params[0], 0, anchor, policy);
    expected_loss(&o, policy, gradient);
    assert_true(sp_tabular_largest(N, gradient) < 1e-12);
}

/* The SPPO loss with its normaliser: at policy ~ opponent exp(P(y > opponent)/beta) each s is its
 * target but for one constant, log Z - 1/(2 beta), for all responses. */
static void test_sppo_is_its_iteration(void **state) {
    (void)state;
    const double beta = 0.25;
    double policy[N], wins[N], probabilities[N], d[N];
    sp_loss_response y[N];
    sp_objective o = objective("sppo");
    spar_error err;
    assert_int_equal(sp_objective_set(&o, "beta", beta, &err), SPAR_OK);
    memcpy(policy, opponent, sizeof policy);
    sp_game_sppo(preference, N, 1 / beta, policy);
    for (int i = 0; i < N; i++) {
        probabilities[i] = exp(opponent[i]);
    }
    sp_game_wins(preference, N, probabilities, wins);
    for (int i = 0; i < N; i++) {
        y[i] = response(policy, i);
        y[i].win_rate = wins[i];
    }
    o.loss->eval(y, N, o.params, d);
    for (int i = 1; i < N; i++) {
        assert_true(fabs(d[i] - d[0]) < 1e-13);
    }
    /* as P(opponent > opponent) = 1/2, the constant is small: what the loss leaves out */
    assert_true(fabs(d[0]) < 0.5 / beta);
}

/* REBEL fits log-ratios to rewards: the loss is 0 at policy ~ opponent exp(eta r). */
static void test_rebel_is_its_iteration(void **state) {
    (void)state;
    double policy[N], gradient[N];
    const sp_objective o = objective("rebel");
    for (int i = 0; i < N; i++) {
        policy[i] = opponent[i] + o.params[0] * rewards[i];
    }
    sp_tabular_log_softmax(N, policy, policy);
    assert_true(expected_loss(&o, policy, gradient) < 1e-28);
    assert_true(sp_tabular_largest(N, gradient) < 1e-14);
    assert_true(expected_loss(&o, opponent, gradient) > 1e-3);
}

/* The expected gradient of a policy gradient on K samples, in the logits: a sum over all N^K draws.
 */
static void expected_gradient(const sp_policy_gradient *row, size_t k, double *gradient) {
    double params[SP_PG_PARAMS];
    const sp_pg_batch batch = {.responses = (int64_t)k, .tokens = (int64_t)k};
    float logp[N], weights[3];
    sp_pg_response y[3];
    int draws = 1;
    sp_tunable_defaults(row->params, params);
    params[SP_PG_KL] = 0;
    memset(gradient, 0, N * sizeof *gradient);
    for (int i = 0; i < N; i++) {
        logp[i] = (float)opponent[i];
    }
    for (size_t i = 0; i < k; i++) {
        draws *= N;
    }
    for (int draw = 0; draw < draws; draw++) {
        double weight = 1, loss;
        int of[3];
        spar_error err;
        for (size_t i = 0, rest = (size_t)draw; i < k; i++, rest /= N) {
            of[i] = (int)(rest % N);
            weight *= exp(opponent[of[i]]);
            y[i] = (sp_pg_response){.policy = &logp[of[i]],
                                    .opponent = &logp[of[i]],
                                    .weights = &weights[i],
                                    .n = 1,
                                    .reward = rewards[of[i]]};
        }
        assert_int_equal(sp_pg_eval(row, y, k, 0, k, params, &batch, &loss, &err), SPAR_OK);
        for (size_t i = 0; i < k; i++) {
            for (int a = 0; a < N; a++) {
                gradient[a] += weight * (double)weights[i] * ((a == of[i]) - exp(opponent[a]));
            }
        }
    }
}

/* d/d logits of -E[r]: leaving one out does not change it; the group's own mean shrinks it by
 * (K - 1)/K. */
static void test_advantages_leave_the_gradient(void **state) {
    (void)state;
    static const struct {
        const char *name;
        bool shrinks;
    } rows[] = {{"rloo", false}, {"grpo_centred", true}, {"dapo_centred", true}};
    double mean = 0, gradient[N];
    for (int i = 0; i < N; i++) {
        mean += exp(opponent[i]) * rewards[i];
    }
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        for (size_t k = 2; k <= 3; k++) {
            const double factor = rows[r].shrinks ? (double)(k - 1) / (double)k : 1;
            expected_gradient(objective(rows[r].name).gradient, k, gradient);
            for (int a = 0; a < N; a++) {
                const double expected = -factor * exp(opponent[a]) * (rewards[a] - mean);
                assert_true(fabs(gradient[a] - expected) < 1e-7); /* weights are f32 */
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inpo_is_its_iteration),
        cmocka_unit_test(test_ipo_is_inpo_without_anchor),
        cmocka_unit_test(test_sppo_is_its_iteration),
        cmocka_unit_test(test_rebel_is_its_iteration),
        cmocka_unit_test(test_advantages_leave_the_gradient),
    };
    return cmocka_run_group_tests(tests, make_game, NULL);
}
