/* Losses, KTO and policy gradients against TRL's own code, or torch where TRL has none, on the same
 * log-probs (tests/golden/losses.json, made by tools/make_loss_golden.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/jsonx.h"
#include "train/objective.h"

enum { PAIRS = 4, MOST_TOKENS = 6, RESPONSES = 4 };

static json_t *golden;

static const json_t *get(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    if (!value) {
        fail_msg("losses.json: no %s", key);
    }
    return value;
}

static double number(const json_t *object, const char *key) {
    return json_number_value(get(object, key));
}

/* Element i of a list of numbers. */
static double at(const json_t *list, size_t i) {
    assert_true(i < json_array_size(list));
    return json_number_value(json_array_get(list, i));
}

static void near(const char *what, double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance * fmax(1.0, fabs(expected)))) {
        fail_msg("%s: found %.17g, expected %.17g", what, found, expected);
    }
}

/* Winner i and loser i of the pairs, and the anchor's response, as a loss sees them. */
static void read_pair(size_t i, sp_loss_response *y) {
    const json_t *pairs = get(golden, "pairs");
    for (size_t k = 0; k < 2; k++) {
        const size_t place = i + k * PAIRS;
        y[k] = (sp_loss_response){.policy = at(get(pairs, "policy"), place),
                                  .opponent = at(get(pairs, "opponent"), place),
                                  .anchor = at(get(pairs, "anchor"), place),
                                  .win_rate = at(get(pairs, "win_rates"), place),
                                  .reward = at(get(pairs, "rewards"), place),
                                  .length = (int64_t)at(get(pairs, "lengths"), place)};
    }
    y[2] = (sp_loss_response){.policy = at(get(pairs, "third"), i), .length = 1};
}

static void check_loss(const sp_loss *loss, const json_t *row) {
    spar_error err;
    double params[SP_LOSS_MAX_PARAMS] = {0}, d[3], mean = 0;
    const size_t k = loss->most == 3 ? 3 : 2;
    for (size_t i = 0; i < json_array_size(get(row, "params")); i++) {
        params[i] = at(get(row, "params"), i);
    }
    for (size_t i = 0; i < PAIRS; i++) {
        sp_loss_response y[3];
        sp_loss_value value;
        read_pair(i, y);
        assert_int_equal(sp_loss_eval(loss, y, k, params, d, &value, &err), SPAR_OK);
        mean += value.loss / PAIRS;
        for (size_t j = 0; j < k; j++) {
            near(loss->name, d[j] / PAIRS, at(get(row, "grads"), i + j * PAIRS), 1e-12);
        }
    }
    near(loss->name, mean, number(row, "loss"), 1e-12);
}

static void test_losses(void **state) {
    (void)state;
    for (int i = 0; i < sp_loss_count(); i++) {
        check_loss(sp_loss_at(i), get(get(golden, "losses"), sp_loss_at(i)->name));
    }
}

static void test_kto(void **state) {
    (void)state;
    spar_error err;
    const json_t *row = get(golden, "kto");
    double params[SP_KTO_PARAMS], mean = 0;
    for (size_t i = 0; i < SP_KTO_PARAMS; i++) {
        params[i] = at(get(row, "params"), i);
    }
    for (size_t i = 0; i < PAIRS; i++) {
        sp_loss_response y[3];
        read_pair(i, y);
        for (size_t k = 0; k < 2; k++) {
            double loss, d, t;
            assert_int_equal(sp_kto_eval(y[k].policy - y[k].opponent, k == 0, number(row, "z"),
                                         params, &loss, &d, &t, &err),
                             SPAR_OK);
            mean += loss / (2 * PAIRS);
            near("kto", d / (2 * PAIRS), at(get(row, "grads"), i + k * PAIRS), 1e-12);
        }
    }
    near("kto", mean, number(row, "loss"), 1e-12);
}

typedef struct response {
    float policy[MOST_TOKENS], opponent[MOST_TOKENS], anchor[MOST_TOKENS], weights[MOST_TOKENS];
} response;

static void read_tokens(const json_t *list, float *out) {
    for (size_t t = 0; t < json_array_size(list); t++) {
        out[t] = (float)json_number_value(json_array_get(list, t));
    }
}

static sp_pg_response read_response(const json_t *groups, size_t i, response *r) {
    read_tokens(json_array_get(get(groups, "policy"), i), r->policy);
    read_tokens(json_array_get(get(groups, "opponent"), i), r->opponent);
    read_tokens(json_array_get(get(groups, "anchor"), i), r->anchor);
    return (sp_pg_response){.policy = r->policy,
                            .opponent = r->opponent,
                            .anchor = r->anchor,
                            .weights = r->weights,
                            .n = (int64_t)at(get(groups, "lengths"), i),
                            .reward = at(get(groups, "rewards"), i),
                            .win_rate = at(get(groups, "rewards"), i)};
}

static void check_gradient(const sp_policy_gradient *row, const json_t *expected) {
    spar_error err;
    const json_t *groups = get(golden, "groups");
    double params[SP_PG_PARAMS], total = 0;
    sp_pg_batch batch = {.responses = (int64_t)json_array_size(get(groups, "lengths"))};
    sp_tunable_defaults(row->params, params);
    params[SP_PG_CLIP] = number(expected, "clip");
    params[SP_PG_CLIP_HIGH] = number(expected, "clip_high");
    params[SP_PG_KL] = number(expected, "kl");
    if (row->per == SP_PER_CONSTANT) {
        params[SP_PG_LAST] = number(expected, "constant");
    }
    for (size_t i = 0; i < (size_t)batch.responses; i++) {
        batch.tokens += (int64_t)at(get(groups, "lengths"), i);
    }
    for (size_t first = 0; first < (size_t)batch.responses; first += RESPONSES) {
        response r[RESPONSES];
        sp_pg_response y[RESPONSES];
        double loss;
        for (size_t k = 0; k < RESPONSES; k++) {
            y[k] = read_response(groups, first + k, &r[k]);
        }
        assert_int_equal(sp_pg_eval(row, y, RESPONSES, 0, RESPONSES, params, &batch, &loss, &err),
                         SPAR_OK);
        total += loss;
        for (size_t k = 0; k < RESPONSES; k++) {
            const json_t *weights = json_array_get(get(expected, "weights"), first + k);
            for (size_t t = 0; t < (size_t)y[k].n; t++) {
                near(row->name, (double)y[k].weights[t], at(weights, t), 1e-7);
            }
        }
    }
    near(row->name, total, number(expected, "loss"), 1e-12);
}

static void test_policy_gradients(void **state) {
    (void)state;
    for (int i = 0; i < sp_policy_gradient_count(); i++) {
        const sp_policy_gradient *row = sp_policy_gradient_at(i);
        check_gradient(row, get(get(golden, "gradients"), row->name));
    }
}

static int setup(void **state) {
    (void)state;
    spar_error err;
    return sp_json_load(&golden, SPAR_SOURCE_DIR "/tests/golden/losses.json", &err) != SPAR_OK;
}

static int teardown(void **state) {
    (void)state;
    json_decref(golden);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_kto),
        cmocka_unit_test(test_policy_gradients),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
