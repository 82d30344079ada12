/* Pair logits and ranking of a tiny random PairRM against its published layout in PyTorch
 * (shared/golden/arch/pairrm). */
#include "encoder_fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* ---- the layout of the ranker's own program ---- */

static void put_file(const char *dir, const char *name, const char *text) {
    char path[TEST_PATH_MAX];
    FILE *file = fopen(test_path(path, dir, name), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* The golden model as a ranker made of the model in its folder "base". */
static void make_ranker(const char *dir, const char *ranker, const char *added) {
    char from[TEST_PATH_MAX], to[TEST_PATH_MAX];
    spar_error err;
    json_t *config;
    const char *golden = test_shared("golden/arch/pairrm");
    check_ok(sp_json_load(&config, test_path(from, golden, "config.json"), &err), &err);
    static const char *const own[] = {"architectures",  "vocab_size",      "source_prefix_id",
                                      "cand_prefix_id", "cand1_prefix_id", "cand2_prefix_id"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        json_object_del(config, own[i]);
    }
    assert_int_equal(mkdir(test_path(to, dir, "base"), 0700), 0);
    assert_int_equal(json_dump_file(config, test_path(to, dir, "base/config.json"), 0), 0);
    json_decref(config);
    char *real = realpath(test_path(from, golden, "model.safetensors"), NULL);
    assert_non_null(real);
    assert_int_equal(symlink(real, test_path(to, dir, "model.safetensors")), 0);
    free(real);
    put_file(dir, "config.json", ranker);
    if (added) {
        put_file(dir, "added_tokens.json", added);
    }
}

static void drop_ranker(const char *dir) {
    static const char *const files[] = {
        "base/config.json", "base", "model.safetensors", "config.json", "added_tokens.json", ""};
    char path[TEST_PATH_MAX];
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        remove(test_path(path, dir, files[i]));
    }
}

#define RANKER(type, model, length)                                                                \
    "{\"ranker_type\": \"" type "\", \"model_type\": \"deberta\", \"model_name\": \"" model        \
    "\", \"source_maxlength\": " length ", \"candidate_maxlength\": 412, \"n_tasks\": 1}"

/* The published names and values of the golden model, through the ranker's configuration. */
static void test_ranker(void **state) {
    (void)state;
    char dir[] = "/tmp/spar-ranker-XXXXXX", path[600];
    spar_error err;
    sp_encoder *e;
    json_t *io;
    assert_non_null(mkdtemp(dir));
    make_ranker(dir, RANKER("pairranker", "base", "1224"),
                "{\"<|source|>\": 300, \"<|candidate1|>\": 301, \"<|candidate2|>\": 302}");
    check_ok(sp_encoder_load(&e, dir, NULL, &err), &err);
    snprintf(path, sizeof path, "%s/io.json", test_shared("golden/arch/pairrm"));
    check_ok(sp_json_load(&io, path, &err), &err);
    const json_t *cases = json_object_get(io, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        check_case(e, json_array_get(cases, i));
    }
    json_decref(io);
    sp_encoder_free(e);
    drop_ranker(dir);
}

/* Without added_tokens.json the prefixes are the first three of the table's last four rows. */
static void test_ranker_last_rows(void **state) {
    (void)state;
    char one[] = "/tmp/spar-ranker-XXXXXX", two[] = "/tmp/spar-ranker-XXXXXX";
    const char *const dirs[] = {mkdtemp(one), mkdtemp(two)};
    const int32_t a[] = {7, 8, 9}, b[] = {20, 21};
    const sp_token_row source = {a, 3, 0}, candidates[] = {{b, 2, 0}, {a, 2, 0}};
    float logits[2][4];
    spar_error err;
    make_ranker(one, RANKER("pairranker", "base", "1224"), NULL);
    make_ranker(two, RANKER("pairranker", "base", "1224"),
                "{\"<|source|>\": 316, \"<|candidate1|>\": 317, \"<|candidate2|>\": 318}");
    for (int i = 0; i < 2; i++) {
        sp_encoder *e;
        check_ok(sp_encoder_load(&e, dirs[i], NULL, &err), &err);
        check_ok(sp_pairrm_compare(e, &source, candidates, 2, logits[i], &err), &err);
        sp_encoder_free(e);
        drop_ranker(dirs[i]);
    }
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
}

static void test_ranker_refused(void **state) {
    (void)state;
    static const struct {
        const char *ranker, *added, *word;
        spar_status status;
    } bad[] = {{RANKER("summareranker", "base", "1224"), NULL, "ranker_type", SPAR_UNSUPPORTED},
               {RANKER("pairranker", "elsewhere", "1224"), NULL, "model_name", SPAR_NOT_FOUND},
               {RANKER("pairranker", "base", "128"), NULL, "source_maxlength", SPAR_UNSUPPORTED},
               {RANKER("pairranker", "base", "1224"), "{\"<|source|>\": 300}", "<|candidate1|>",
                SPAR_FORMAT},
               {RANKER("pairranker", "microsoft/deberta-v3-large", "1224"), NULL, "expected 2 dim",
                SPAR_MISMATCH}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char dir[] = "/tmp/spar-ranker-XXXXXX";
        spar_error err;
        sp_encoder *e = NULL;
        assert_non_null(mkdtemp(dir));
        make_ranker(dir, bad[i].ranker, bad[i].added);
        const spar_status status = sp_encoder_load(&e, dir, NULL, &err);
        drop_ranker(dir);
        if (status != bad[i].status || !strstr(err.message, bad[i].word)) {
            fail_msg("%s: status %d, %s", bad[i].word, (int)status, err.message);
        }
        assert_null(e);
    }
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
        cmocka_unit_test(test_ranker),
        cmocka_unit_test(test_ranker_last_rows),
        cmocka_unit_test(test_ranker_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
