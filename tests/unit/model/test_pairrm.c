/* Pair logits and ranking of a tiny random PairRM against its published layout in PyTorch
 * (shared/golden/arch/pairrm). */
#include "encoder_fixture.h"

enum { MAX_CANDIDATES = 6 };

static void open_pairrm(sp_encoder **e, json_t **io, bool reference) {
    spar_error err;
    char path[600];
    const spar_model_options options = {.threads = 2, .reference = reference};
    const char *dir = test_shared("golden/arch/pairrm");
    check_ok(sp_encoder_load(e, dir, &options, &err), &err);
    assert_true(sp_encoder_compares(*e));
    snprintf(path, sizeof path, "%s/io.json", dir);
    check_ok(sp_json_load(io, path, &err), &err);
}

static void check_close(const json_t *want, float got, const char *what) {
    const double d = fabs(json_number_value(want) - (double)got);
    if (!(d <= 1e-4)) {
        fail_msg("%s: expected %.7f, found %.7f", what, json_number_value(want), (double)got);
    }
}

static size_t arg_most(const float *x, size_t n, float sign) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        best = sign * x[i] > sign * x[best] ? i : best;
    }
    return best;
}

static void check_case(sp_encoder *e, const json_t *item) {
    spar_error err;
    int32_t source_ids[FIXTURE_TOKENS], ids[MAX_CANDIDATES][FIXTURE_TOKENS];
    sp_token_row source, candidates[MAX_CANDIDATES];
    float logits[MAX_CANDIDATES * MAX_CANDIDATES], score[MAX_CANDIDATES];
    const json_t *list = json_object_get(item, "candidates");
    const json_t *matrix = json_object_get(item, "pair_logits");
    const size_t K = json_array_size(list);
    assert_true(K <= MAX_CANDIDATES);
    source = ids_of(json_object_get(item, "source"), source_ids);
    for (size_t i = 0; i < K; i++) {
        candidates[i] = ids_of(json_array_get(list, i), ids[i]);
    }
    check_ok(sp_pairrm_compare(e, &source, candidates, K, logits, &err), &err);
    for (size_t i = 0; i < K * K; i++) {
        check_close(json_array_get(json_array_get(matrix, i / K), i % K), logits[i], "logit");
    }
    sp_pairrm_rank(logits, K, score);
    for (size_t i = 0; i < K; i++) {
        check_close(json_array_get(json_object_get(item, "score"), i), score[i], "score");
    }
    assert_int_equal(arg_most(score, K, 1), json_integer_value(json_object_get(item, "best")));
    assert_int_equal(arg_most(score, K, -1), json_integer_value(json_object_get(item, "worst")));
}

static void run_golden(bool reference) {
    sp_encoder *e;
    json_t *io;
    open_pairrm(&e, &io, reference);
    const json_t *cases = json_object_get(io, "cases");
    assert_true(json_array_size(cases) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        check_case(e, json_array_get(cases, i));
    }
    json_decref(io);
    sp_encoder_free(e);
}

static void test_golden(void **state) {
    (void)state;
    run_golden(true);
    run_golden(false);
}

/* Ends beyond the budgets have no effect: source at 1224, candidates at half of what is left, each
 * with three special tokens. */
static void test_cut(void **state) {
    (void)state;
    enum { LONG = 1500, SOURCE = 1221, CANDIDATE = (2048 - 1224) / 2 - 3 };
    spar_error err;
    sp_encoder *e;
    json_t *io;
    int32_t a[LONG], b[LONG];
    float whole[4], cut[4];
    open_pairrm(&e, &io, false);
    for (int i = 0; i < LONG; i++) {
        a[i] = 5 + i % 97;
        b[i] = 5 + i % 89;
    }
    const sp_token_row long_pair[] = {{a, LONG, 0}, {b, LONG, 0}};
    const sp_token_row short_pair[] = {{a, CANDIDATE, 0}, {b, CANDIDATE, 0}};
    const sp_token_row other_pair[] = {{a, CANDIDATE - 1, 0}, {b, CANDIDATE, 0}};
    check_ok(sp_pairrm_compare(e, &(sp_token_row){b, LONG, 0}, long_pair, 2, whole, &err), &err);
    check_ok(sp_pairrm_compare(e, &(sp_token_row){b, SOURCE, 0}, short_pair, 2, cut, &err), &err);
    assert_memory_equal(whole, cut, sizeof whole);
    check_ok(sp_pairrm_compare(e, &(sp_token_row){b, SOURCE, 0}, other_pair, 2, cut, &err), &err);
    assert_memory_not_equal(whole, cut, sizeof whole);
    json_decref(io);
    sp_encoder_free(e);
}

static void test_edges(void **state) {
    (void)state;
    spar_error err;
    sp_encoder *e;
    json_t *io;
    int32_t ids[] = {7, 8, 999};
    float out[4] = {9, 9, 9, 9};
    open_pairrm(&e, &io, false);
    const sp_token_row text = {ids, 2, 0}, empty = {NULL, 0, 0}, bad = {ids, 3, 0};
    check_ok(sp_pairrm_compare(e, &text, &text, 1, out, &err), &err);
    assert_true(out[0] == 0.0F);
    check_ok(sp_pairrm_compare(e, &empty, (sp_token_row[]){text, empty}, 2, out, &err), &err);
    assert_true(isfinite(out[1]) && isfinite(out[2]) && out[0] == 0.0F && out[3] == 0.0F);
    assert_int_equal(sp_pairrm_compare(e, &text, &text, 0, out, &err), SPAR_INVALID);
    assert_int_equal(sp_pairrm_compare(e, &text, (sp_token_row[]){text, bad}, 2, out, &err),
                     SPAR_INVALID);
    assert_int_equal(sp_encoder_scores(e, &text, 1, out, &err), SPAR_INVALID);
    json_decref(io);
    sp_encoder_free(e);
}

int main(void) {
    if (!test_shared("golden/arch/pairrm")) {
        TEST_SKIP("the shared folder with golden/arch/pairrm is missing");
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
