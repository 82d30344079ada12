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
#include "train/game.h"
#include "train/loss.h"

static const double ln2 = 0.69314718055994530942;

static const sp_loss *row(const char *name) {
    const sp_loss *loss = NULL;
    spar_error err;
    assert_int_equal(sp_loss_find(name, &loss, &err), SPAR_OK);
    return loss;
}

/* Winner, loser and, where a row takes one, a response of the anchor's. */
typedef struct triple {
    sp_loss_response y[3];
} triple;

static triple pair_of(double policy_w, double policy_l, double opponent_w, double opponent_l,
                      int64_t len_w, int64_t len_l) {
    return (triple){{{.policy = policy_w, .opponent = opponent_w, .length = len_w},
                     {.policy = policy_l, .opponent = opponent_l, .length = len_l},
                     {.length = 1}}};
}

/* As many of the three as the row takes. */
static size_t taken_by(const sp_loss *loss) {
    return loss->most < 3 ? loss->most : 3;
}

typedef struct result {
    double loss, margin, d[3];
} result;

static result eval_params(const sp_loss *loss, const triple *t, const double *params) {
    result r = {0};
    const sp_loss_value v = loss->eval(t->y, taken_by(loss), params, r.d);
    r.loss = v.loss;
    r.margin = v.margin;
    return r;
}

static result eval_with(const char *name, triple t, double first, double second) {
    const double params[SP_LOSS_MAX_PARAMS] = {first, second};
    return eval_params(row(name), &t, params);
}

static void near(double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance * fmax(1.0, fabs(expected)))) {
        print_error("found %.17g, expected %.17g\n", found, expected);
        fail();
    }
}

/* s_w = 3, s_l = -1, D = 4; lengths 4 and 2. */
static const triple sample = {{{.policy = -10, .opponent = -13, .length = 4},
                               {.policy = -9, .opponent = -8, .length = 2},
                               {.length = 1}}};

static void test_closed_forms(void **state) {
    (void)state;
    double sigma = 1.0 / (1.0 + exp(-0.4)), nll = -log(sigma), flipped = -log(1.0 - sigma);
    near(eval_with("spin", sample, 0.1, 0).loss, nll, 1e-15);
    near(eval_with("spin", sample, 0.1, 0).d[0], -0.1 * (1.0 - sigma), 1e-15);
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
    near(eval_with("ipo", sample, 0.1, 0).d[1], 2.0, 1e-15);
    near(eval_with("ipo_mean", sample, 0.5, 0).loss, 0.0625, 1e-15); /* 3/4 + 1/2 - 1 */
    near(eval_with("ipo_mean", sample, 0.5, 0).d[1], -0.25, 1e-15);
    near(eval_with("sppo_hard", sample, 0.25, 0).loss, 1.0 + 1.0, 1e-15);
    near(eval_with("hinge", sample, 0.1, 0).loss, 0.6, 1e-15);
    near(eval_with("cpo", sample, 0.1, 2.0).loss, log1p(exp(0.1)) + 5.0, 1e-15);
    near(eval_with("cpo", sample, 0.1, 2.0).d[1], 0.1 / (1.0 + exp(-0.1)), 1e-15);
    double odds = exp(-2.5) / (1.0 - exp(-2.5)), odds_l = exp(-4.5) / (1.0 - exp(-4.5));
    near(eval_with("orpo", sample, 0.1, 0).loss, 2.5 + 0.1 * log1p(odds_l / odds), 1e-15);
    near(eval_with("simpo", sample, 2.0, 1.0).loss, log1p(exp(-(2.0 * (-2.5 + 4.5) - 1.0))), 1e-15);
    near(eval_with("dpo_conservative", sample, 0.1, 0.2).loss, 0.8 * nll + 0.2 * flipped, 1e-15);
}

/* Rows that read more than the opponent: s_w = 3, s_l = -1 and anchor log-probs -12 and -8.5. */
static void test_more_closed_forms(void **state) {
    (void)state;
    triple t = sample;
    t.y[0].anchor = -12.0;
    t.y[1].anchor = -8.5;
    t.y[0].reward = 0.75;
    t.y[1].reward = 0.25;
    t.y[2].policy = -7.0;
    /* D = 4, a quarter of it against 1/2 */
    near(eval_with("rebel", t, 4.0, 0).loss, 0.25, 1e-15);
    near(eval_with("rebel", t, 4.0, 0).d[0], 2.0 * 0.5 / 4.0, 1e-15);
    /* -1 - (1/4)(-3.5) - (3/4)(-5) = 3.625, against 1/(2 * 0.8) */
    near(eval_with("inpo", t, 0.8, 0.2).loss, 3.0 * 3.0, 1e-14);
    near(eval_with("inpo", t, 0.8, 0.2).d[1], -6.0, 1e-14);
    near(eval_with("inpo", t, 0.8, 0.0).loss, (4.0 - 0.625) * (4.0 - 0.625), 1e-14);
    /* the anchor's gap: 2 + 0.5 */
    near(eval_with("xpo", t, 0.2, 0.01).loss, log1p(exp(-0.5)) - 0.07, 1e-15);
    near(eval_with("xpo", t, 0.2, 0.01).d[2], 0.01, 0.0);
    /* log y - log y' = -1, log y' - log y0 = -2 */
    near(eval_with("t_spin", t, 0.1, 2.0).loss, log1p(exp(2.0)) + 0.1 * log1p(exp(4.0)), 1e-15);
    const double params[SP_LOSS_MAX_PARAMS] = {0.1, 2.0};
    double d[2];
    near(row("t_spin")->eval(t.y, 2, params, d).loss, log1p(exp(2.0)), 1e-15);
    near(d[0], -2.0 / (1.0 + exp(-2.0)), 1e-15);
}

/* Five responses, by hand, with beta = 1/10. The diagonal of P is 1/2.
 *   P_1 = (0.5 + 0.7 + 0.9 + 0.6 + 0.8)/5 = 3.5/5 = 0.7     target (0.7 - 0.5)/0.1 = 2
 *   P_2 = (0.3 + 0.5 + 0.4 + 0.2 + 0.6)/5 = 2.0/5 = 0.4     target (0.4 - 0.5)/0.1 = -1
 *   P_3 = (0.1 + 0.6 + 0.5 + 0.3 + 0.5)/5 = 2.0/5 = 0.4     target -1
 *   P_4 = (0.4 + 0.8 + 0.7 + 0.5 + 0.6)/5 = 3.0/5 = 0.6     target (0.6 - 0.5)/0.1 = 1
 *   P_5 = (0.2 + 0.4 + 0.5 + 0.4 + 0.5)/5 = 2.0/5 = 0.4     target -1
 * Chosen is the first, rejected the second, the first of three equals. With log-ratios s of 1.5,
 * -0.5, 0.25, 0 and -2 the residuals s - target are -0.5, 0.5, 1.25, -1 and -1: of the pair   1/2
 * (0.25 + 0.25) = 0.25, gradient (-0.5, 0.5), margin 0.1 (1.5 + 0.5) = 0.2 of all        1/2 (0.25
 * + 0.25 + 1.5625 + 1 + 1) = 2.03125, gradient the residuals at s = 0      of the pair 1/2 (4 + 1)
 * = 2.5, of all 1/2 (4 + 1 + 1 + 1 + 1) = 4 */
static void test_sppo_by_hand(void **state) {
    (void)state;
    static const double p[5][5] = {{0.5, 0.7, 0.9, 0.6, 0.8},
                                   {0.3, 0.5, 0.4, 0.2, 0.6},
                                   {0.1, 0.6, 0.5, 0.3, 0.5},
                                   {0.4, 0.8, 0.7, 0.5, 0.6},
                                   {0.2, 0.4, 0.5, 0.4, 0.5}};
    static const double expected[5] = {0.7, 0.4, 0.4, 0.6, 0.4};
    static const double shifts[5] = {1.5, -0.5, 0.25, 0.0, -2.0};
    const double params[SP_LOSS_MAX_PARAMS] = {0.1};
    static const double residuals[5] = {-0.5, 0.5, 1.25, -1.0, -1.0};
    double rates[5], d[5];
    int best, worst;
    sp_game_win_rates(&p[0][0], 5, rates, &best, &worst);
    sp_loss_response y[5];
    for (size_t i = 0; i < 5; i++) {
        near(rates[i], expected[i], 1e-15);
        y[i] = (sp_loss_response){
            .policy = shifts[i] - 20.0, .opponent = -20.0, .win_rate = rates[i], .length = 3};
    }
    assert_int_equal(best, 0);
    assert_int_equal(worst, 1); /* the first of three equals */
    const sp_loss_response pair[2] = {y[best], y[worst]};
    const sp_loss_value of_pair = row("sppo")->eval(pair, 2, params, d);
    near(of_pair.loss, 0.25, 1e-14);
    near(d[0], -0.5, 1e-14);
    near(d[1], 0.5, 1e-14);
    near(of_pair.margin, 0.2, 1e-14);
    near(row("sppo")->eval(y, 5, params, d).loss, 2.03125, 1e-14);
    for (int i = 0; i < 5; i++) {
        near(d[i], residuals[i], 1e-14);
        y[i].policy = y[i].opponent;
    }
    near(row("sppo")->eval(y, 5, params, d).loss, 4.0, 1e-14);
    near(row("sppo")->eval((sp_loss_response[]){y[best], y[worst]}, 2, params, d).loss, 2.5, 1e-14);
}

static double random_in(uint64_t index, double range) {
    return range * (2.0 * sp_rng_uniform(11, 5, index) - 1.0);
}

static triple random_triple(uint64_t index, double range) {
    triple t;
    for (uint64_t i = 0; i < 3; i++) {
        const uint64_t at = 6 * (3 * index + i);
        t.y[i] = (sp_loss_response){.policy = random_in(at, range),
                                    .opponent = random_in(at + 1, range),
                                    .anchor = random_in(at + 2, range),
                                    .win_rate = sp_rng_uniform(11, 5, at + 3),
                                    .reward = random_in(at + 4, 1.0),
                                    .length = 1 + (int64_t)sp_rng_below(11, 6, at + 5, 300)};
    }
    return t;
}

/* Each row's symmetry or limit that holds for any argument. */
static void test_identities(void **state) {
    (void)state;
    const triple swapped = {{sample.y[1], sample.y[0], sample.y[2]}};
    near(eval_with("spin", sample, 0.1, 0).loss, eval_with("dpo", sample, 0.1, 0).loss, 0.0);
    near(eval_with("rpo", sample, 0.1, 0).loss, eval_with("dpo", sample, 0.1, 0).loss, 0.0);
    near(eval_with("spin", sample, 0.1, 0).loss - eval_with("spin", swapped, 0.1, 0).loss, -0.4,
         1e-14);
    /* Half of the labels swapped: no preference is left, and neither is a gradient at D = 0. */
    near(eval_with("dpo", sample, 0.1, 0.5).loss, eval_with("dpo", swapped, 0.1, 0.5).loss, 1e-15);
    near(eval_with("dpo", sample, 0.1, 0.5).d[0], 0.05 * (2.0 / (1.0 + exp(-0.4)) - 1.0), 1e-15);
}

static void same(const char *a, const char *b, triple t, const double *params, double scale) {
    const result x = eval_params(row(a), &t, params), y = eval_params(row(b), &t, params);
    near(x.loss, scale * y.loss, 1e-13);
    near(x.d[0], scale * y.d[0], 1e-13);
    near(x.d[1], scale * y.d[1], 1e-13);
}

/* Rows that are others under a name or at a limit, at random points: SPIN is DPO on (real,
 * generated); SPPO with P in {0, 1} is half its hard form, which leaves out its factor of 1/2;
 * INPO without a pull is IPO; conservative and robust DPO without noise are DPO. */
static void test_rows_that_are_others(void **state) {
    (void)state;
    const sp_loss *sppo = row("sppo"), *hard = row("sppo_hard");
    for (uint64_t k = 0; k < 200; k++) {
        triple t = random_triple(k, 30.0);
        const double params[SP_LOSS_MAX_PARAMS] = {0.01 + sp_rng_uniform(11, 7, k), 0.0};
        same("spin", "dpo", t, params, 1.0);
        same("dpo_conservative", "dpo", t, params, 1.0);
        same("dpo_robust", "dpo", t, params, 1.0);
        same("hinge", "spin_hinge", t, params, 1.0);
        same("inpo", "ipo", t, params, 1.0);
        t.y[0].win_rate = 1.0;
        t.y[1].win_rate = 0.0;
        double soft_d[3], hard_d[3];
        const sp_loss_value soft = sppo->eval(t.y, 2, params, soft_d);
        const sp_loss_value of_hard = hard->eval(t.y, 2, params, hard_d);
        near(soft.loss, 0.5 * of_hard.loss, 1e-13);
        near(soft_d[0], 0.5 * hard_d[0], 1e-13);
        near(soft_d[1], 0.5 * hard_d[1], 1e-13);
    }
}

static void test_at_the_reference(void **state) {
    (void)state;
    const triple same = pair_of(-12.25, -30.5, -12.25, -30.5, 3, 7);
    assert_true(eval_with("spin", same, 0.1, 0).loss == ln2);
    assert_true(eval_with("dpo", same, 0.3, 0).loss == ln2);
    assert_true(eval_with("spin", same, 0.1, 0).d[0] == -0.05);
    assert_true(eval_with("spin_hinge", same, 0.1, 0).loss == 1.0);
    assert_true(eval_with("spin_linear", same, 0.1, 0).loss == 1.0);
    assert_true(eval_with("spin_exponential", same, 0.1, 0).loss == 1.0);
    near(eval_with("dpo", same, 0.3, 0.25).loss, ln2, 1e-15);
    near(eval_with("dpo_robust", same, 0.3, 0.25).loss, ln2, 1e-15);
    near(eval_with("ipo", same, 0.1, 0).loss, 25.0, 1e-15);
    near(eval_with("sppo_hard", same, 0.05, 0).loss, 200.0, 1e-15);
    /* IPO and DPO pull the same way there, 2 / beta^2 apart: -1/beta against -beta/2. */
    for (double beta = 0.01; beta < 8.0; beta *= 3.0) {
        const result ipo = eval_with("ipo", same, beta, 0), dpo = eval_with("dpo", same, beta, 0);
        near(ipo.d[0] / dpo.d[0], 2.0 / (beta * beta), 1e-13);
        near(ipo.d[1] / dpo.d[1], 2.0 / (beta * beta), 1e-13);
        near(ipo.d[0], -1.0 / beta, 1e-13);
    }
}

/* Every derivative of a row against the central difference. */
static void check_gradient(const sp_loss *loss, const double *params, triple t, double step) {
    const result at = eval_params(loss, &t, params);
    for (size_t i = 0; i < taken_by(loss); i++) {
        triple up = t, down = t;
        up.y[i].policy += step;
        down.y[i].policy -= step;
        const double rise =
            eval_params(loss, &up, params).loss - eval_params(loss, &down, params).loss;
        near(at.d[i], rise / (2.0 * step), 2e-5);
    }
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
                check_gradient(loss, params, random_triple(k, ranges[r]),
                               1e-5 * fmax(1, ranges[r]));
            }
        }
    }
}

/* A kink or a seam of a row: where the winner's log-prob puts it; the loser's is -1, its log-ratio
 * and the opponent's log-prob of the winner are 0, and each has one token. */
typedef struct kink {
    const char *name;
    double first;       /* parameter; the second is 0 */
    double at, step;    /* log-prob of the winner, and how far to look on either side */
    double left, right; /* derivatives there */
} kink;

/* On either side the derivative is that of the finite difference of that side alone; in between it
 * is a subgradient, and the loss does not jump. */
static void check_kink(const kink *k) {
    const double params[SP_LOSS_MAX_PARAMS] = {k->first};
    const sp_loss *loss = row(k->name);
    triple t = pair_of(k->at, -1.0, 0.0, -1.0, 1, 1);
    const result at = eval_params(loss, &t, params);
    for (int i = 0; i < 2; i++) {
        const double step = i ? k->step : -k->step, expected = i ? k->right : k->left;
        t.y[0].policy = k->at + step;
        const result off = eval_params(loss, &t, params);
        near((off.loss - at.loss) / step, expected, 1e-5);
        near(off.d[0], expected, 1e-5);
    }
    assert_true(at.d[0] >= fmin(k->left, k->right) - 1e-5 * fmax(1.0, fabs(k->left)));
    assert_true(at.d[0] <= fmax(k->left, k->right) + 1e-5 * fmax(1.0, fabs(k->left)));
}

static void test_kinks(void **state) {
    (void)state;
    /* log-odds of a mean of -2^-20, where their tangent begins, against those of -1: the slope
     * 1/(1 - p) is 2^20 there, and sigma(-t) = e^-t/(1 + e^-t) about 2^-20 */
    const double tip = -0x1p-20, rest = -expm1(tip);
    const double t = tip - log(rest) + 1.0 + log(-expm1(-1.0));
    const double orpo = -1.0 - 1.0 / (1.0 + exp(t)) / rest;
    const kink kinks[] = {{"hinge", 0.5, 2.0, 1e-7, -0.5, 0.0},
                          {"spin_hinge", 0.1, 10.0, 1e-7, -0.1, 0.0},
                          /* its tangent begins at t = -30 */
                          {"spin_exponential", 1.0, -30.0, 1e-6, -exp(30.0), -exp(30.0)},
                          {"orpo", 1.0, tip, 1e-11, orpo, orpo}};
    for (size_t i = 0; i < sizeof kinks / sizeof kinks[0]; i++) {
        check_kink(&kinks[i]);
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
            const triple t = pair_of(gaps[k], 0.0, 0.0, 0.0, 1, 1);
            const result out = eval_params(loss, &t, params);
            assert_true(isfinite(out.loss) && isfinite(out.margin));
            assert_true(isfinite(out.d[0]) && isfinite(out.d[1]) && isfinite(out.d[2]));
        }
    }
    triple losing = pair_of(-1e6, 0, 0, 0, 1, 1), winning = pair_of(1e6, 0, 0, 0, 1, 1);
    near(eval_with("spin", losing, 1.0, 0).loss, 1e6, 0.0);
    near(eval_with("spin", losing, 1.0, 0).d[0], -1.0, 0.0);
    assert_true(eval_with("spin", winning, 1.0, 0).loss == 0.0);
    winning.y[0].policy = 40.0;
    near(eval_with("spin", winning, 1.0, 0).loss / exp(-40.0), 1.0, 1e-12);
    /* The documented tangent of the exponential row. */
    near(eval_with("spin_exponential", losing, 1.0, 0).loss, exp(30.0) * (1.0 + 1e6 - 30.0), 1e-15);
    near(eval_with("spin_exponential", losing, 1.0, 0).d[1], exp(30.0), 1e-15);
}

static void refused(const char *name, triple t, size_t k, double beta, const char *part) {
    const double params[SP_LOSS_MAX_PARAMS] = {beta, 0.0};
    double d[3];
    sp_loss_value out;
    spar_error err;
    assert_int_equal(sp_loss_eval(row(name), t.y, k, params, d, &out, &err), SPAR_INVALID);
    if (!strstr(err.message, part)) {
        print_error("'%s' lacks '%s'\n", err.message, part);
        fail();
    }
}

static void test_refusals(void **state) {
    (void)state;
    triple t = sample;
    spar_error err;
    const sp_loss *loss = NULL;
    refused("spin", sample, 2, 0.0, "beta");
    refused("spin", sample, 2, (double)NAN, "beta");
    refused("spin", sample, 1, 0.1, "2 responses");
    refused("spin", sample, 3, 0.1, "2 responses");
    refused("xpo", sample, 2, 0.1, "3 responses");
    refused("sppo", sample, 0, 0.1, "1 responses or more");
    t.y[0].length = 0;
    refused("ipo_mean", t, 2, 0.1, "at least one token");
    t = sample;
    t.y[1].policy = -(double)INFINITY;
    refused("dpo", t, 2, 0.1, "response 1: expected a finite policy log-prob");
    t = sample;
    t.y[0].opponent = (double)NAN;
    refused("dpo", t, 2, 0.1, "opponent log-prob");
    const double params[SP_LOSS_MAX_PARAMS] = {2.0, 1.0};
    double d[3];
    sp_loss_value out;
    assert_int_equal(sp_loss_eval(row("simpo"), t.y, 2, params, d, &out, &err), SPAR_OK);
    t = sample;
    t.y[1].win_rate = (double)NAN;
    refused("sppo", t, 2, 0.1, "win rate");
    t.y[1].reward = (double)NAN;
    refused("rebel", t, 2, 1.0, "reward");
    t.y[1].anchor = (double)INFINITY;
    refused("inpo", t, 2, 0.1, "anchor");
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
        assert_non_null(strstr(err.message, loss->params[0].name));
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

static triple golden_pair(const json_t *pair) {
    const double w = number_at(pair, "logp_chosen"), l = number_at(pair, "logp_rejected");
    return pair_of(w, l, w, l, (int64_t)json_array_size(json_object_get(pair, "chosen_ids")),
                   (int64_t)json_array_size(json_object_get(pair, "rejected_ids")));
}

static void check_golden(const json_t *io, const char *name, const triple *pairs, double first,
                         double second) {
    const json_t *kind = json_object_get(json_object_get(io, "training"), name);
    const json_t *losses = json_object_get(kind, "loss");
    double mean = 0.0;
    for (int i = 0; i < 3; i++) {
        mean += eval_with(name, pairs[i], first, second).loss / 3.0;
    }
    near(mean, json_number_value(json_array_get(losses, 0)), 1e-6);
}

static void check_golden_sft(const json_t *io, const triple *pairs) {
    int64_t lengths[3], tokens = 0;
    double weight[3], loss = 0.0;
    spar_error err;
    const json_t *kind = json_object_get(json_object_get(io, "training"), "sft");
    for (int i = 0; i < 3; i++) {
        lengths[i] = pairs[i].y[0].length;
        tokens += lengths[i];
    }
    assert_int_equal(sp_sft_weights(SP_SFT_MEAN_TOKENS, lengths, 3, tokens, 3, weight, &err),
                     SPAR_OK);
    for (int i = 0; i < 3; i++) {
        loss -= weight[i] * pairs[i].y[0].policy;
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
    triple pairs[3];
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
        cmocka_unit_test(test_closed_forms),
        cmocka_unit_test(test_more_closed_forms),
        cmocka_unit_test(test_sppo_by_hand),
        cmocka_unit_test(test_identities),
        cmocka_unit_test(test_rows_that_are_others),
        cmocka_unit_test(test_at_the_reference),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_kinks),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_sft_weights),
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
