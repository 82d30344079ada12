/* spar_train on a data file that holds what every method reads. At learning rate 0 the loss of each
 * is its closed form at a log-ratio of 0, in the policy's own log-probs where it needs them; with
 * another reference, and with log-probs that the rows give, it is the method's formula in both. The
 * log has every column of every method. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "play/offline.h"
#include "spar/rows.h"
#include "spar/train.h"
#include "support.h"
#include "train/objective.h"

enum { ROWS = 2, K = 3, PROMPT = 4, MOST = 5, STEPS = 2 };

static const int32_t prompts[ROWS][PROMPT] = {{1, 403, 407, 261}, {1, 403, 410, 300}};
/* The first two are chosen and rejected too, the third the base's; the best comes first. */
static const int32_t ids[ROWS][K][MOST] = {{{376, 432, 13, 2}, {300, 2}, {301, 302, 2}},
                                           {{261, 2}, {280, 281, 282, 283, 2}, {290, 291, 292, 2}}};
static const size_t lengths[ROWS][K] = {{4, 2, 3}, {2, 5, 4}};
enum { TOKENS = 20 };
static const double rewards[ROWS][K] = {{1, 0, 0.25}, {0.75, 0.5, 0.25}};
/* Rows (0.5 + 0.9 + 0.7)/3, (0.1 + 0.5 + 0.3)/3, (0.3 + 0.7 + 0.5)/3; and the like. */
static const double p[ROWS][K][K] = {{{0.5, 0.9, 0.7}, {0.1, 0.5, 0.3}, {0.3, 0.7, 0.5}},
                                     {{0.5, 0.8, 0.8}, {0.2, 0.5, 0.6}, {0.2, 0.4, 0.5}}};
static const double win_rates[ROWS][K] = {{2.1 / 3, 0.9 / 3, 1.5 / 3}, {2.1 / 3, 1.3 / 3, 1.1 / 3}};
static const double scores[2] = {0.8, 0.3}; /* of chosen and rejected, rebel */

static char dir[TEST_PATH_MAX], data[TEST_PATH_MAX], sampled[TEST_PATH_MAX], out[TEST_PATH_MAX],
    other[TEST_PATH_MAX];
static const char *model;

/* What the closed forms are written in: log-probs of each response and its tokens, under the policy
 * and under the reference. */
typedef struct sight {
    double policy[ROWS][K], reference[ROWS][K];
    float policy_tokens[ROWS][K][MOST], reference_tokens[ROWS][K][MOST];
} sight;
static sight at_start, apart;

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static json_t *list_of_ids(const int32_t *list, size_t n) {
    json_t *made = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(made, json_integer(list[i]));
    }
    return made;
}

static json_t *list_of_numbers(const double *list, size_t n) {
    json_t *made = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(made, json_real(list[i]));
    }
    return made;
}

/* One row for all methods. `given`: log-probs of who sampled the responses, or NULL. */
static json_t *row_of(int r, const sight *given) {
    json_t *responses = json_array(), *matrix = json_array(), *logps = json_array();
    for (int k = 0; k < K; k++) {
        double of_tokens[MOST];
        for (size_t t = 0; t < lengths[r][k]; t++) {
            of_tokens[t] = given ? (double)given->reference_tokens[r][k][t] : 0;
        }
        json_array_append_new(responses, list_of_ids(ids[r][k], lengths[r][k]));
        json_array_append_new(matrix, list_of_numbers(p[r][k], K));
        json_array_append_new(logps, list_of_numbers(of_tokens, lengths[r][k]));
    }
    json_t *row = json_pack("{s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:f, s:f}", "prompt_ids",
                            list_of_ids(prompts[r], PROMPT), "chosen_ids",
                            list_of_ids(ids[r][0], lengths[r][0]), "rejected_ids",
                            list_of_ids(ids[r][1], lengths[r][1]), "base_ids",
                            list_of_ids(ids[r][2], lengths[r][2]), "completion_ids",
                            list_of_ids(ids[r][0], lengths[r][0]), "label", 1, "responses_ids",
                            responses, "rewards", list_of_numbers(rewards[r], K), "p", matrix,
                            "score_chosen", scores[0], "score_rejected", scores[1]);
    json_object_set_new(row, given ? "logprobs" : "unread", logps);
    return row;
}

static void write_rows(const char *path, const sight *given) {
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (int r = 0; r < ROWS; r++) {
        json_t *row = row_of(r, given);
        assert_int_equal(json_dumpf(row, file, JSON_COMPACT), 0);
        fputc('\n', file);
        json_decref(row);
    }
    fclose(file);
}

static void look(const char *path, double sums[ROWS][K], float tokens[ROWS][K][MOST]) {
    spar_model *m;
    spar_error err;
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    check(spar_model_load(&m, path, &options, &err), &err);
    for (int r = 0; r < ROWS; r++) {
        for (int k = 0; k < K; k++) {
            int32_t whole[PROMPT + MOST];
            memcpy(whole, prompts[r], sizeof prompts[r]);
            memcpy(whole + PROMPT, ids[r][k], sizeof ids[r][k]);
            spar_score_row row = {
                .ids = whole, .n = PROMPT + lengths[r][k], .first = PROMPT, .logps = tokens[r][k]};
            check(spar_model_score(m, &row, 1, &err), &err);
            sums[r][k] = 0;
            for (size_t t = 0; t < lengths[r][k]; t++) {
                sums[r][k] += (double)tokens[r][k][t];
            }
        }
    }
    spar_model_free(m);
}

typedef struct training {
    const char *model, *method, *reference, *data, *out;
    double lr;
    double params[SPAR_PARAM_COUNT];
} training;

static training train_of(const char *method) {
    training t = {.model = model, .method = method, .data = data};
    for (int i = 0; i < SPAR_PARAM_COUNT; i++) {
        t.params[i] = SPAR_PARAM_OWN;
    }
    return t;
}

static spar_status run(const training *t, spar_error *err) {
    const spar_train_options options = {.model = t->model,
                                        .data = t->data,
                                        .method = t->method,
                                        .reference = t->reference,
                                        .params = t->params,
                                        .log = out,
                                        .out = t->out,
                                        .optimizer = "rmsprop",
                                        .schedule = "constant",
                                        .lr = t->lr,
                                        .max_grad_norm = 1,
                                        .batch = ROWS,
                                        .steps = STEPS,
                                        .max_tokens = 1024,
                                        .keep_order = true,
                                        .dtype = SPAR_DTYPE_F32,
                                        .threads = 2};
    return spar_train(&options, err);
}

/* The log of a training, as a list of its rows. */
static json_t *log_of(const training *t) {
    spar_error err;
    spar_rows *file;
    json_t *row, *list = json_array();
    check(run(t, &err), &err);
    check(spar_rows_open(&file, out, &err), &err);
    for (;;) {
        check(spar_rows_next(file, &row, &err), &err);
        if (!row) {
            break;
        }
        json_array_append_new(list, row);
    }
    spar_rows_free(file);
    assert_int_equal(json_array_size(list), STEPS);
    return list;
}

/* Two models a little apart: the one that is there, and one trained from it. */
static int make_files(void **state) {
    (void)state;
    test_temp_dir(dir);
    test_path(data, dir, "rows.jsonl");
    test_path(sampled, dir, "sampled.jsonl");
    test_path(out, dir, "log.jsonl");
    test_path(other, dir, "other");
    write_rows(data, NULL);
    training t = train_of("dpo");
    t.lr = 2e-6;
    t.out = other;
    json_decref(log_of(&t));
    look(model, at_start.policy, at_start.policy_tokens);
    memcpy(at_start.reference, at_start.policy, sizeof at_start.reference);
    memcpy(at_start.reference_tokens, at_start.policy_tokens, sizeof at_start.reference_tokens);
    apart = at_start;
    look(other, apart.reference, apart.reference_tokens);
    write_rows(sampled, &apart);
    assert_true(fabs(apart.reference[0][0] - apart.policy[0][0]) > 1e-2);
    return 0;
}

static int remove_files(void **state) {
    (void)state;
    return sp_dir_remove(dir, NULL) == SPAR_OK ? 0 : -1;
}

/* ---- closed forms: the loss of row r, which is divided by ROWS ---- */

enum { W = 0, L = 1, BASE = 2 };

static double logistic(double t) {
    return log1p(exp(-t));
}
static double shift(const sight *s, int r, int k) {
    return s->policy[r][k] - s->reference[r][k];
}
static double gap(const sight *s, int r) {
    return shift(s, r, W) - shift(s, r, L);
}
static double mean_of(const sight *s, int r, int k) {
    return s->policy[r][k] / (double)lengths[r][k];
}
static double odds(const sight *s, int r, int k) {
    const double q = exp(mean_of(s, r, k));
    return q / (1 - q);
}

static double sft(const sight *s, int r) { /* over all 6 tokens of the chosen */
    return -s->policy[r][W] / 6 * ROWS;
}
static double kto(const sight *s, int r) {
    (void)s, (void)r;
    return 0.5;
}
static double dpo(const sight *s, int r) {
    return logistic(0.1 * gap(s, r));
}
static double conservative(const sight *s, int r) {
    return 0.9 * logistic(0.1 * gap(s, r)) + 0.1 * logistic(-0.1 * gap(s, r));
}
static double robust(const sight *s, int r) {
    return (0.9 * logistic(0.1 * gap(s, r)) - 0.1 * logistic(-0.1 * gap(s, r))) / 0.8;
}
static double hinge(const sight *s, int r) {
    return fmax(0, 1 - 0.1 * gap(s, r));
}
static double linear(const sight *s, int r) {
    return 1 - 0.1 * gap(s, r);
}
static double exponential(const sight *s, int r) {
    return exp(-0.1 * gap(s, r));
}
static double t_spin(const sight *s, int r) {
    const double *y = s->policy[r];
    return logistic(y[W] - y[L]) + 0.1 * logistic(y[L] - y[BASE]);
}
static double rpo(const sight *s, int r) {
    return dpo(s, r) - mean_of(s, r, W);
}
static double ipo(const sight *s, int r) {
    return pow(gap(s, r) - 5, 2); /* 1 / (2 beta) */
}
static double ipo_mean(const sight *s, int r) {
    return pow(shift(s, r, W) / (double)lengths[r][W] - shift(s, r, L) / (double)lengths[r][L] - 5,
               2);
}
static double sppo(const sight *s, int r) {
    double sum = 0;
    for (int k = 0; k < K; k++) {
        sum += 0.5 * pow(shift(s, r, k) - (win_rates[r][k] - 0.5) / 0.001, 2);
    }
    return sum;
}
static double sppo_hard(const sight *s, int r) {
    return pow(shift(s, r, W) - 500, 2) + pow(shift(s, r, L) + 500, 2);
}
static double rebel(const sight *s, int r) {
    return pow(gap(s, r) - (scores[0] - scores[1]), 2);
}
/* The reference is the anchor, the opponent the policy itself: D - (tau/eta) D_0 - (1 - tau/eta) D.
 */
static double inpo(const sight *s, int r) {
    return pow(gap(s, r) * (2.5e-3 / 7.5e-3) - 0.5 / 7.5e-3, 2);
}
static double xpo(const sight *s, int r) {
    return dpo(s, r) + 1e-5 * s->policy[r][BASE];
}
static double simpo(const sight *s, int r) {
    return logistic(2 * (mean_of(s, r, W) - mean_of(s, r, L)) - 1);
}
static double orpo(const sight *s, int r) {
    return 0.1 * logistic(log(odds(s, r, W) / odds(s, r, L))) - mean_of(s, r, W);
}
static double cpo(const sight *s, int r) {
    return logistic(0.1 * (s->policy[r][W] - s->policy[r][L])) - mean_of(s, r, W);
}

/* Advantages of row r: centred, or over the deviation too. */
static double advantage(int r, int k, bool scaled) {
    double mean = 0, squares = 0;
    for (int i = 0; i < K; i++) {
        mean += rewards[r][i] / K;
    }
    for (int i = 0; i < K; i++) {
        squares += pow(rewards[r][i] - mean, 2);
    }
    return (rewards[r][k] - mean) / (scaled ? sqrt(squares / (K - 1)) + 1e-4 : 1);
}
/* Where every ratio is 1: minus the advantages, each times its length to a power (0 or 1), over
 * what the sums are divided by. */
static double gradient(int r, bool scaled, bool by_tokens, double divisor) {
    double sum = 0;
    for (int k = 0; k < K; k++) {
        sum -= advantage(r, k, scaled) * (by_tokens ? (double)lengths[r][k] : 1);
    }
    return sum / divisor * ROWS;
}
static double grpo(const sight *s, int r) { /* advantages add up to 0 */
    (void)s;
    return gradient(r, true, false, ROWS * K);
}
static double grpo_centred(const sight *s, int r) {
    (void)s;
    return gradient(r, false, false, ROWS * K);
}
static double dapo(const sight *s, int r) {
    (void)s;
    return gradient(r, true, true, TOKENS);
}
static double dapo_centred(const sight *s, int r) {
    (void)s;
    return gradient(r, false, true, TOKENS);
}
static double dr_grpo(const sight *s, int r) {
    (void)s;
    return gradient(r, false, true, ROWS * K * 256);
}
static double dr_grpo_scaled(const sight *s, int r) {
    (void)s;
    return gradient(r, true, true, ROWS * K * 256);
}
/* kl of 0.1, mixture of 1/2: samples weighted by (anchor / opponent)^(1/2). */
static double nash_md(const sight *s, int r) {
    double sum = 0;
    for (int k = 0; k < K; k++) {
        double wins = 0, total = 0;
        for (int j = 0; j < K; j++) {
            const double w = exp(-0.5 * shift(s, r, j));
            wins += w * p[r][k][j];
            total += w;
        }
        sum += 0.05 * pow(shift(s, r, k), 2) - (wins / total - 0.5);
    }
    return sum / K;
}

typedef struct closed_form {
    const char *name;
    double (*loss)(const sight *s, int r);
} closed_form;
static const closed_form forms[] = {{"sft", sft},
                                    {"kto", kto},
                                    {"spin", dpo},
                                    {"spin_hinge", hinge},
                                    {"spin_linear", linear},
                                    {"spin_exponential", exponential},
                                    {"t_spin", t_spin},
                                    {"dpo", dpo},
                                    {"dpo_conservative", conservative},
                                    {"dpo_robust", robust},
                                    {"hinge", hinge},
                                    {"rpo", rpo},
                                    {"ipo", ipo},
                                    {"ipo_mean", ipo_mean},
                                    {"sppo", sppo},
                                    {"sppo_hard", sppo_hard},
                                    {"rebel", rebel},
                                    {"inpo", inpo},
                                    {"xpo", xpo},
                                    {"simpo", simpo},
                                    {"orpo", orpo},
                                    {"cpo", cpo},
                                    {"grpo", grpo},
                                    {"grpo_centred", grpo_centred},
                                    {"dapo", dapo},
                                    {"dapo_centred", dapo_centred},
                                    {"dr_grpo", dr_grpo},
                                    {"dr_grpo_scaled", dr_grpo_scaled},
                                    {"rloo", grpo_centred},
                                    {"nash_md", nash_md}};
enum { FORMS = sizeof forms / sizeof forms[0] };

static const closed_form *form_of(const char *name) {
    for (int i = 0; i < FORMS; i++) {
        if (strcmp(forms[i].name, name) == 0) {
            return &forms[i];
        }
    }
    fail_msg("%s has no closed form here", name);
    return NULL;
}

static void expect_loss(const json_t *row, const closed_form *form, const sight *s,
                        double tolerance) {
    const double found = json_number_value(json_object_get(row, "loss"));
    double expected = 0;
    for (int r = 0; r < ROWS; r++) {
        expected += form->loss(s, r) / ROWS;
    }
    /* advantages that add up to 0 are of the order of 1 */
    const double scale = fabs(expected) < 1e-12 ? 1 : fabs(expected);
    if (!(fabs(found - expected) <= tolerance * scale)) {
        fail_msg("%s: loss %.9g, expected %.9g", form->name, found, expected);
    }
}

static void test_every_method_has_a_closed_form(void **state) {
    (void)state;
    assert_int_equal(sp_objective_count(), FORMS);
    for (int i = 0; i < FORMS; i++) {
        form_of(sp_objective_name_at(i));
    }
}

/* At ln 2 and the like, and nothing moves. */
static void test_losses_at_rate_zero(void **state) {
    (void)state;
    for (int i = 0; i < sp_objective_count(); i++) {
        const char *name = sp_objective_name_at(i);
        const training t = train_of(name);
        json_t *log = log_of(&t), *row;
        size_t at;
        json_array_foreach(log, at, row) {
            expect_loss(row, form_of(name), &at_start, 1e-6);
            assert_true(json_number_value(json_object_get(row, "changed_f32")) == 0);
        }
        json_decref(log);
    }
}

/* Every column for every method, null where the method has no such thing. */
static void check_columns(const json_t *row, const sp_objective *o) {
    const unsigned reads = sp_objective_reads(o);
    const bool compares = o->kind != SP_OBJECTIVE_SFT;
    const bool refers = (reads & (SP_READS_OPPONENT | SP_READS_ANCHOR)) != 0;
    const struct {
        const char *name;
        bool number;
    } columns[] = {{"step", true},        {"loss", true},        {"grad_norm", true},
                   {"lr", true},          {"margin", compares},  {"accuracy", compares},
                   {"s_w", true},         {"s_l", compares},     {"kl", refers},
                   {"balance", false},    {"changed_f32", true}, {"changed_bf16", true},
                   {"tokens_per_s", true}};
    enum { COLUMNS = sizeof columns / sizeof columns[0] };
    assert_int_equal(json_object_size(row), COLUMNS);
    for (int c = 0; c < COLUMNS; c++) {
        const json_t *value = json_object_get(row, columns[c].name);
        if (!(columns[c].number ? json_is_number(value) : json_is_null(value))) {
            fail_msg("%s: %s is %s", o->name, columns[c].name, sp_json_type_name(value));
        }
    }
    const double s_w = json_number_value(json_object_get(row, "s_w"));
    assert_true(refers ? fabs(s_w) < 1e-4 : s_w < -1); /* a log-ratio of 0, or a log-prob */
    assert_true(!compares || json_number_value(json_object_get(row, "accuracy")) <= 1);
}

static void test_the_log_has_every_column(void **state) {
    (void)state;
    for (int i = 0; i < sp_objective_count(); i++) {
        const training t = train_of(sp_objective_name_at(i));
        json_t *log = log_of(&t);
        sp_objective o;
        spar_error err;
        check(sp_objective_find(&o, t.method, &err), &err);
        check_columns(json_array_get(log, 0), &o);
        json_decref(log);
    }
}

/* The mean log-probs of the chosen, summed over their tokens, and of the rejected. */
static void test_log_probs_of_a_method_without_reference(void **state) {
    (void)state;
    const training t = train_of("simpo");
    json_t *log = log_of(&t);
    const json_t *row = json_array_get(log, 0);
    const double w = 0.5 * (at_start.policy[0][W] + at_start.policy[1][W]);
    const double l = 0.5 * (at_start.policy[0][L] + at_start.policy[1][L]);
    assert_true(fabs(json_number_value(json_object_get(row, "s_w")) - w) < 1e-5 * fabs(w));
    assert_true(fabs(json_number_value(json_object_get(row, "s_l")) - l) < 1e-5 * fabs(l));
    json_decref(log);
}

/* With another reference each loss is its formula in both log-probs. */
static void test_losses_against_another_reference(void **state) {
    (void)state;
    int checked = 0;
    for (int i = 0; i < sp_objective_count(); i++) {
        sp_objective o;
        spar_error err;
        training t = train_of(sp_objective_name_at(i));
        t.reference = other;
        check(sp_objective_find(&o, t.method, &err), &err);
        const unsigned reads = sp_objective_reads(&o);
        const unsigned read =
            o.kind == SP_OBJECTIVE_TOKENS ? SP_READS_ANCHOR : SP_READS_ANCHOR | SP_READS_OPPONENT;
        if (o.kind == SP_OBJECTIVE_LABELLED) { /* its z: test_objectives.c */
            continue;
        }
        if (!(reads & read)) {
            assert_int_equal(run(&t, &err), SPAR_INVALID);
            assert_non_null(strstr(err.message, "reads no reference"));
            continue;
        }
        json_t *log = log_of(&t);
        /* log-ratios are of two passes over different packs, in f32 */
        expect_loss(json_array_get(log, 0), form_of(t.method), &apart, 1e-5);
        json_decref(log);
        checked++;
    }
    assert_true(checked >= 15);
}

/* The k3 pull of a token towards the reference, and ratios to given log-probs. */
static double token_loss(bool given, double kl) {
    double sum = 0;
    for (int r = 0; r < ROWS; r++) {
        for (int k = 0; k < K; k++) {
            for (size_t t = 0; t < lengths[r][k]; t++) {
                const double d =
                    (double)apart.reference_tokens[r][k][t] - (double)apart.policy_tokens[r][k][t];
                const double a = advantage(r, k, false), ratio = given ? exp(-d) : 1;
                const double clipped = fmin(fmax(ratio, 0.8), 1.2);
                sum += (kl * (exp(d) - d - 1) - fmin(ratio * a, clipped * a)) / TOKENS;
            }
        }
    }
    return sum;
}

static void expect_tokens(const training *t, double expected) {
    json_t *log = log_of(t);
    const double found = json_number_value(json_object_get(json_array_get(log, 0), "loss"));
    if (!(fabs(found - expected) <= 1e-6)) { /* of terms of the order of 1 */
        fail_msg("%s: loss %.9g, expected %.9g", t->method, found, expected);
    }
    json_decref(log);
}

static void test_policy_gradients_by_token(void **state) {
    (void)state;
    training t = train_of("dapo_centred");
    t.params[SPAR_PARAM_CLIP_HIGH] = 0.2;
    t.params[SPAR_PARAM_KL] = 0.3;
    t.reference = other;
    expect_tokens(&t, token_loss(false, 0.3));
    /* Sampled by the other one: clipped ratios, and no pull. */
    t = train_of("dapo_centred");
    t.params[SPAR_PARAM_CLIP_HIGH] = 0.2;
    t.data = sampled;
    expect_tokens(&t, token_loss(true, 0));
    assert_true(fabs(token_loss(true, 0) - token_loss(false, 0)) > 1e-4);
}

/* A step lowers the loss of a policy gradient from a file as any other's. */
static void test_policy_gradients_learn(void **state) {
    (void)state;
    static const char *const methods[] = {"grpo", "rloo", "nash_md", "t_spin", "xpo", "sppo"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        training t = train_of(methods[i]);
        t.lr = 1e-6;
        json_t *log = log_of(&t);
        const double first = json_number_value(json_object_get(json_array_get(log, 0), "loss"));
        const double then = json_number_value(json_object_get(json_array_get(log, 1), "loss"));
        if (!(then < first)) {
            fail_msg("%s: loss %.9g, then %.9g", methods[i], first, then);
        }
        json_decref(log);
    }
}

/* An allocation that fails ends the reading, but where it only names a place; nothing is lost. */
static void test_no_memory(void **state) {
    (void)state;
    static const char *const methods[] = {"grpo", "nash_md", "xpo", "kto", "sft"};
    enum { TRIES = 100 };
    spar_model *m;
    spar_error err;
    const spar_model_options model_options = {.dtype = SPAR_DTYPE_F32, .threads = 1};
    check(spar_model_load(&m, model, &model_options, &err), &err);
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        const spar_train_options options = {.model = model, .data = sampled};
        sp_objective o;
        int failed = 0;
        check(sp_objective_find(&o, methods[i], &err), &err);
        for (long k = 1; k <= TRIES; k++) {
            sp_offline rows;
            sp_mem_fail_at(k);
            const spar_status status = sp_offline_load(&rows, m, &options, &o, &err);
            sp_mem_fail_at(0);
            if (status != SPAR_OK && status != SPAR_NO_MEMORY) {
                fail_msg("%s, allocation %ld: %s", methods[i], k, err.message);
            }
            failed += status == SPAR_NO_MEMORY;
            assert_true(status == SPAR_OK ? rows.n == ROWS : rows.rows == NULL);
            sp_offline_release(&rows);
        }
        assert_in_range(failed, 15, TRIES - 1);
    }
    spar_model_free(m);
}

/* Responses may be spar generate's, whose ids are taken as they are, or messages; the best first.
 */
static void test_responses_of_text(void **state) {
    (void)state;
    static const int32_t as_sampled[] = {261, 376};
    char text[TEST_PATH_MAX];
    spar_model *m;
    spar_error err;
    sp_objective o;
    sp_offline rows;
    const spar_model_options model_options = {
        .dtype = SPAR_DTYPE_F32,
        .threads = 1,
        .template_text = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% if m.role == "
                         "'assistant' %}{{ eos_token }}{% else %} {% endif %}{% endfor %}"};
    static const char row[] =
        "{\"prompt\": \"The sea\", \"completions\": [\"is red.\", [{\"role\": \"assistant\", "
        "\"content\": \"is blue.\"}], {\"text\": \" a little\", \"ids\": [261, 376]}], \"scores\": "
        "[0.25, 0.5, 1], \"logprobs\": [-7, -6, -4]}\n";
    test_path(text, dir, "text.jsonl");
    check(sp_file_write(text, row, sizeof row - 1, &err), &err);
    check(spar_model_load(&m, model, &model_options, &err), &err);
    check(sp_objective_find(&o, "rloo", &err), &err);
    const spar_train_options options = {.model = model, .data = text};
    check(sp_offline_load(&rows, m, &options, &o, &err), &err);
    const sp_offline_row *r = &rows.rows[0];
    assert_int_equal(r->n, K);
    assert_int_equal(r->responses[0].n, 2);
    assert_memory_equal(r->responses[0].ids, as_sampled, sizeof as_sampled);
    assert_true(r->responses[0].logps[0] == -2 && r->responses[0].logps[1] == -2);
    for (size_t i = 0; i < K; i++) {
        assert_int_equal(r->responses[i].place, K - 1 - i);
        assert_true(rows.lessons.examples[0].replies[i].kept == r->responses[i].logps);
    }
    int n_eos;
    const int32_t eos = *spar_model_eos(m, &n_eos);
    assert_int_equal(r->responses[1].ids[r->responses[1].n - 1], eos);
    sp_offline_release(&rows);
    /* Sums are of whole responses: for a method that sees tokens they are refused. */
    check(sp_objective_find(&o, "grpo", &err), &err);
    assert_int_equal(sp_offline_load(&rows, m, &options, &o, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "text.jsonl:1: logprobs[0]: expected a list of "));
    spar_model_free(m);
}

int main(void) {
    model = test_shared_or_skip("models/stories260K/hf");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_method_has_a_closed_form),
        cmocka_unit_test(test_losses_at_rate_zero),
        cmocka_unit_test(test_the_log_has_every_column),
        cmocka_unit_test(test_log_probs_of_a_method_without_reference),
        cmocka_unit_test(test_losses_against_another_reference),
        cmocka_unit_test(test_policy_gradients_by_token),
        cmocka_unit_test(test_policy_gradients_learn),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_responses_of_text),
    };
    return cmocka_run_group_tests(tests, make_files, remove_files);
}
