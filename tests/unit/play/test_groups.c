/* What five samples of a prompt give to learn from, by every rule, with the verdict and the reason
 * that run.db keeps. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "play/pairs.h"
#include "play/verified.h"
#include "support.h"
#include "train/game.h"

enum { K = 5, PROBLEMS = 5, ROOM = 10, PROMPT = 3 };

/* The samples: right or wrong, cut off or not, tokens. Of problem 0 two are right, of 1 none, of 2
 * all, of 3 the only right one is cut off, of 4 one is right and all but one are the same. */
static const struct {
    bool strict, truncated;
    size_t n;
    int32_t ids[8];
} answers[PROBLEMS][K] = {{{false, false, 2, {7, 2}},
                           {true, false, 2, {8, 2}},
                           {false, true, 3, {7, 7, 7}},
                           {true, false, 3, {8, 8, 2}},
                           {false, false, 1, {2}}},
                          {{false, false, 1, {2}},
                           {false, false, 2, {5, 2}},
                           {false, false, 2, {6, 2}},
                           {false, false, 2, {7, 2}},
                           {false, false, 2, {8, 2}}},
                          {{true, false, 1, {2}},
                           {true, false, 2, {5, 2}},
                           {true, false, 2, {6, 2}},
                           {true, false, 2, {7, 2}},
                           {true, false, 2, {8, 2}}},
                          {{true, true, 2, {8, 8}},
                           {false, false, 2, {5, 2}},
                           {false, false, 2, {6, 2}},
                           {false, false, 2, {7, 2}},
                           {false, false, 2, {8, 2}}},
                          {{false, false, 8, {5, 5, 5, 5, 5, 5, 5, 2}},
                           {true, false, 2, {9, 2}},
                           {false, false, 2, {5, 2}},
                           {false, false, 2, {5, 2}},
                           {false, false, 2, {5, 2}}}};

static char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];
static sp_run run;
static sp_problem problem_items[PROBLEMS];
static const sp_problems problems = {.items = problem_items, .n = PROBLEMS};
static sp_play_sample sample_items[PROBLEMS * K];
static const sp_samples samples = {.items = sample_items, .n = PROBLEMS * K, .k = K};
static sp_judged judged;
static int64_t stage;

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static void put_problem(int i) {
    static int32_t prompt[PROMPT] = {1, 3, 4}, real[2] = {9, 2};
    spar_error err;
    const sp_rundb_prompt row = {.set = "train", .family = "f", .messages = "[]"};
    problem_items[i] = (sp_problem){
        .prompt_ids = prompt, .n_prompt = PROMPT, .reference_ids = real, .n_reference = 2};
    check(sp_rundb_put_prompt(run.db, &row, &problem_items[i].id, &err), &err);
}

static void put_sample(int i, int k) {
    spar_error err;
    sp_play_sample *s = &sample_items[i * K + k];
    int32_t ids[8];
    memcpy(ids, answers[i][k].ids, sizeof ids);
    const sp_rundb_sample row = {.stage = stage,
                                 .prompt = problem_items[i].id,
                                 .index = k,
                                 .tokens = ids,
                                 .n_tokens = (int64_t)answers[i][k].n,
                                 .text = "",
                                 .finish = "stop",
                                 .mode = "sampled"};
    *s = (sp_play_sample){.problem = (size_t)i,
                          .n = answers[i][k].n,
                          .strict = answers[i][k].strict,
                          .truncated = answers[i][k].truncated};
    s->ids = malloc(sizeof ids);
    memcpy(s->ids, ids, sizeof ids);
    check(sp_rundb_put_sample(run.db, &row, &s->id, &err), &err);
}

static int make_run(void **state) {
    (void)state;
    spar_error err;
    const sp_rundb_stage row = {
        .arm = "a", .kind = "iteration", .status = "running", .settings = "{}"};
    test_temp_dir(dir);
    check(sp_rundb_open(&run.db, test_path(path, dir, "run.db"), SP_RUNDB_CREATE, &err), &err);
    check(sp_rundb_put_stage(run.db, &row, &stage, &err), &err);
    for (int i = 0; i < PROBLEMS; i++) {
        put_problem(i);
        for (int k = 0; k < K; k++) {
            put_sample(i, k);
        }
    }
    check(sp_verified_make(&samples, &judged, &err), &err);
    return 0;
}

static int drop_run(void **state) {
    (void)state;
    spar_error err;
    for (size_t i = 0; i < samples.n; i++) {
        free(sample_items[i].ids);
    }
    sp_judged_release(&judged);
    sp_rundb_close(run.db);
    check(sp_dir_remove(dir, &err), &err);
    return 0;
}

/* The reasons of a stage's rows, one after the other: of kept ones in brackets. */
static spar_status list_reason(void *context, const sp_rundb_pair *row, spar_error *err) {
    (void)err;
    char *text = context;
    const size_t n = strlen(text);
    snprintf(text + n, 512 - n, row->kept ? "[%s]" : "%s.", row->reason);
    return SPAR_OK;
}

static void expect(const sp_arm *arm, const char *reasons, size_t groups) {
    spar_error err;
    sp_groups out;
    char found[512] = "";
    check(sp_groups_make(&run, stage, arm, &problems, &samples, &judged, &out, &err), &err);
    check(sp_rundb_each_pair(run.db, stage, list_reason, found, &err), &err);
    assert_string_equal(found, reasons);
    assert_int_equal(out.n, groups);
    sp_groups_release(&out);
}

/* A stage of its own for each rule, since the phase "pair" is done once. */
static void next_stage(void) {
    spar_error err;
    const sp_rundb_stage row = {
        .ordinal = stage, .arm = "a", .kind = "iteration", .status = "running", .settings = "{}"};
    check(sp_rundb_put_stage(run.db, &row, &stage, &err), &err);
}

/* P is 0, 1/2 or 1; the right one that was cut off counts for nothing. */
static void test_win_rates(void **state) {
    (void)state;
    assert_true(judged.n == PROBLEMS && judged.k == K);
    assert_true(judged.p[1] == 0 && judged.p[K] == 1 && judged.p[2] == 0.5 && judged.p[0] == 0.5);
    assert_true(judged.win[0] == 0.3 && judged.win[1] == 0.8 && judged.win[3] == 0.8);
    for (size_t i = K; i < 4 * K; i++) {
        assert_true(judged.win[i] == 0.5);
    }
    assert_true(judged.scores[2 * K] == 1 && judged.scores[3 * K] == 0);
    assert_true(judged.win[4 * K + 1] == 0.9 && judged.win[4 * K] == 0.4);
}

static void test_judged(void **state) {
    (void)state;
    sp_arm arm = {.objective.kind = SP_OBJECTIVE_RESPONSES,
                  .pairing = SP_PAIR_JUDGED,
                  .pairs_per_prompt = 1,
                  .max_tokens = ROOM};
    next_stage();
    expect(&arm, "[kept]tie.tie.tie.over length.", 1);
    arm.pairs_per_prompt = 4;
    next_stage(); /* two right against two of the three wrong, the longest of which was cut off */
    expect(&arm, "[kept][kept, rejected is truncated]tie.tie.tie.over length.", 2);
    arm.min_margin = 0.55;
    arm.max_tokens = 11;
    arm.pairs_per_prompt = 1;
    next_stage();
    expect(&arm, "margin too short.tie.tie.tie.margin too short.", 0);
}

/* The matrix of test_loss.c, worked by hand there: win rates 0.7, 0.4, 0.4, 0.6, 0.4, so the first
 * against the second. Of all five the order is 1, 4, 2, 3, 5. At s = 0 and beta = 1/10 the losses
 * are 1/2 (2^2 + 1^2) = 2.5 and 1/2 (2^2 + 1 + 1 + 1 + 1) = 4, the gradients minus the targets. */
static void test_a_matrix_by_hand(void **state) {
    (void)state;
    static const double matrix[K * K] = {0.5, 0.7, 0.9, 0.6, 0.8, 0.3, 0.5, 0.4, 0.2,
                                         0.6, 0.1, 0.6, 0.5, 0.3, 0.5, 0.4, 0.8, 0.7,
                                         0.5, 0.6, 0.2, 0.4, 0.5, 0.4, 0.5};
    static const struct {
        int pairing;
        size_t n;
        int64_t order[K];
        double loss, gradient[K];
    } cases[] = {{SP_PAIR_JUDGED, 2, {0, 1}, 2.5, {-2, 1}},
                 {SP_PAIR_ALL, K, {0, 3, 1, 2, 4}, 4, {-2, -1, 1, 1, 1}}};
    double p[K * K], win[K], scores[K] = {0};
    sp_judged by_hand = {.n = 1, .k = K, .p = p, .win = win, .scores = scores};
    const sp_problems one_problem = {.items = problem_items, .n = 1};
    const sp_samples five = {.items = sample_items, .n = K, .k = K};
    int best, worst;
    memcpy(p, matrix, sizeof p);
    sp_game_win_rates(p, K, win, &best, &worst);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        sp_arm arm = {.pairing = cases[c].pairing, .pairs_per_prompt = 1, .max_tokens = ROOM};
        sp_loss_response y[K];
        sp_loss_value value;
        double d[K];
        spar_error err;
        sp_groups out;
        check(sp_objective_find(&arm.objective, "sppo", &err), &err);
        check(sp_objective_set(&arm.objective, "beta", 0.1, &err), &err);
        next_stage();
        check(sp_groups_make(&run, stage, &arm, &one_problem, &five, &by_hand, &out, &err), &err);
        assert_int_equal(out.n, 1);
        assert_int_equal(out.n_members, cases[c].n);
        for (size_t i = 0; i < out.n_members; i++) {
            assert_int_equal(out.members[i].sample, cases[c].order[i]);
            y[i] = (sp_loss_response){.win_rate = out.members[i].win_rate, .length = 1};
        }
        check(sp_loss_eval(arm.objective.loss, y, out.n_members, arm.objective.params, d, &value,
                           &err),
              &err);
        assert_true(fabs(value.loss - cases[c].loss) < 1e-12);
        for (size_t i = 0; i < out.n_members; i++) {
            assert_true(fabs(d[i] - cases[c].gradient[i]) < 1e-12);
        }
        sp_groups_release(&out);
    }
}

/* By the forks that a judge of steps found: those too close, or none. */
static void test_steps(void **state) {
    (void)state;
    sp_fork forks[PROBLEMS] = {
        {3, 1, 0, 0.5}, {2, 4, 1, 0.25}, {0}, {1, 2, 0, 0.125}, {0, 1, 0, 1}};
    sp_judged by_steps = judged;
    by_steps.forks = forks;
    sp_arm arm = {.objective.kind = SP_OBJECTIVE_RESPONSES,
                  .pairing = SP_PAIR_STEPS,
                  .min_margin = 0.25,
                  .max_tokens = ROOM};
    spar_error err;
    sp_groups out;
    char found[512] = "";
    next_stage();
    check(sp_groups_make(&run, stage, &arm, &problems, &samples, &by_steps, &out, &err), &err);
    check(sp_rundb_each_pair(run.db, stage, list_reason, found, &err), &err);
    assert_string_equal(found, "[kept][kept]no step apart.margin too short.over length.");
    assert_int_equal(out.n, 2);
    assert_int_equal(out.members[0].sample, 3);
    assert_int_equal(out.members[1].sample, 1);
    assert_int_equal(out.members[2].sample, K + 2);
    assert_int_equal(out.members[3].sample, K + 4);
    sp_groups_release(&out);
}

static void test_verified(void **state) {
    (void)state;
    const sp_arm arm = {.objective.kind = SP_OBJECTIVE_RESPONSES,
                        .pairing = SP_PAIR_VERIFIED,
                        .pairs_per_prompt = 2,
                        .max_tokens = ROOM};
    next_stage();
    expect(&arm,
           "[kept][kept, rejected is truncated]tie: none right.tie: none wrong."
           "tie: none right.over length.",
           2);
}

static void test_real(void **state) {
    (void)state;
    const sp_arm arm = {
        .objective.kind = SP_OBJECTIVE_RESPONSES, .pairing = SP_PAIR_REAL, .max_tokens = ROOM};
    next_stage();
    expect(&arm,
           "[kept][kept][kept, rejected is truncated][kept][kept]"
           "[kept][kept][kept][kept][kept]"
           "[kept][kept][kept][kept][kept]"
           "[kept, rejected is truncated][kept][kept][kept][kept]"
           "over length.identical.[kept][kept][kept]",
           23);
}

static void test_all(void **state) {
    (void)state;
    sp_arm arm = {
        .objective.kind = SP_OBJECTIVE_RESPONSES, .pairing = SP_PAIR_ALL, .max_tokens = 11};
    spar_error err;
    sp_groups out;
    next_stage();
    check(sp_groups_make(&run, stage, &arm, &problems, &samples, &judged, &out, &err), &err);
    assert_int_equal(out.n, 2);
    assert_int_equal(out.items[0].n, K);
    /* the best first, equals as they were sampled */
    static const int64_t order[K] = {1, 3, 0, 2, 4};
    for (size_t i = 0; i < K; i++) {
        assert_int_equal(out.members[i].sample, order[i]);
        assert_true(out.members[i].win_rate == (i < 2 ? 0.8 : 0.3));
        assert_true(out.members[i].reward == (i < 2 ? 1 : 0));
    }
    sp_groups_release(&out);
    arm.max_tokens = ROOM;
    next_stage();
    expect(&arm, "[kept, all 5]tie.tie.tie.over length.", 1);
}

static void test_single(void **state) {
    (void)state;
    const sp_arm arm = {
        .objective.kind = SP_OBJECTIVE_RESPONSES, .pairing = SP_PAIR_SINGLE, .max_tokens = ROOM};
    spar_error err;
    sp_groups out;
    next_stage();
    check(sp_groups_make(&run, stage, &arm, &problems, &samples, &judged, &out, &err), &err);
    assert_int_equal(out.n, PROBLEMS * K - 1); /* one is over length */
    assert_true(out.members[1].reward == 1 && out.members[0].reward == 0);
    sp_groups_release(&out);
}

/* SFT compares nothing: the right ones, each alone, or the real responses, one a problem. */
static void test_supervised(void **state) {
    (void)state;
    sp_arm arm = {
        .objective.kind = SP_OBJECTIVE_SFT, .pairing = SP_PAIR_VERIFIED, .max_tokens = ROOM};
    spar_error err;
    sp_groups out;
    size_t right = 0;
    for (size_t i = 0; i < samples.n; i++) {
        right += sample_items[i].strict && !sample_items[i].truncated &&
                 PROMPT + sample_items[i].n <= ROOM;
    }
    next_stage();
    check(sp_groups_make(&run, stage, &arm, &problems, &samples, &judged, &out, &err), &err);
    assert_int_equal(out.n, right);
    for (size_t i = 0; i < out.n; i++) {
        assert_true(sample_items[out.members[out.items[i].first].sample].strict);
    }
    sp_groups_release(&out);
    arm.pairing = SP_PAIR_REAL;
    next_stage();
    check(sp_groups_make(&run, stage, &arm, &problems, &samples, &judged, &out, &err), &err);
    assert_int_equal(out.n, PROBLEMS);
    assert_true(out.members[0].sample < 0);
    sp_groups_release(&out);
}

static void test_empty(void **state) {
    (void)state;
    const sp_arm arm = {
        .objective.kind = SP_OBJECTIVE_RESPONSES, .pairing = SP_PAIR_REAL, .max_tokens = ROOM};
    const size_t n = sample_items[0].n;
    spar_error err;
    sp_groups out;
    next_stage();
    sample_items[0].n = 0;
    check(sp_groups_make(&run, stage, &arm, &problems, &samples, &judged, &out, &err), &err);
    sample_items[0].n = n;
    char found[512] = "";
    check(sp_rundb_each_pair(run.db, stage, list_reason, found, &err), &err);
    assert_int_equal(strncmp(found, "empty.[kept]", 12), 0);
    sp_groups_release(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_win_rates),
        cmocka_unit_test(test_judged),
        cmocka_unit_test(test_a_matrix_by_hand),
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_verified),
        cmocka_unit_test(test_real),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_single),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_supervised),
    };
    return cmocka_run_group_tests(tests, make_run, drop_run);
}
