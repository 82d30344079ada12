/* PairRM and reward models as judges: rows of ids to the values of their golden folders
 * (shared/golden/arch), and rows and folders that are refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "io/safetensors.h"
#include "judge/kind.h"
#include "support.h"

static const spar_judge_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static spar_judge *open_golden(const char *kind, const char *name) {
    char spec[600];
    spar_error err;
    spar_judge *judge;
    snprintf(spec, sizeof spec, "%s:%s", kind, test_shared(name));
    check(spar_judge_open(&judge, spec, &options, &err), &err);
    return judge;
}

static json_t *golden_json(const char *name) {
    char path[600];
    spar_error err;
    json_t *root;
    snprintf(path, sizeof path, "%s", test_shared(name));
    check(sp_json_load(&root, path, &err), &err);
    return root;
}

static void near_number(double got, double want, const char *what) {
    if (!(fabs(got - want) <= 1e-4)) {
        fail_msg("%s: expected %.7f, found %.7f", what, want, got);
    }
}

static double number_at(const json_t *list, size_t i) {
    return json_number_value(json_array_get(list, i));
}

static void check_pairrm_case(spar_judge *judge, const json_t *item) {
    spar_error err;
    spar_judgement j;
    json_t *row = json_pack("{s:O, s:O}", "prompt_ids", json_object_get(item, "source"),
                            "responses_ids", json_object_get(item, "candidates"));
    const json_t *logits = json_object_get(item, "pair_logits");
    check(spar_judge_row(judge, row, &j, &err), &err);
    assert_int_equal(j.k, json_array_size(logits));
    for (size_t i = 0; i < j.k * j.k; i++) {
        const double want = number_at(json_array_get(logits, i / j.k), i % j.k);
        near_number(j.logits[i], want, "logit");
        near_number(j.p[i], 1 / (1 + exp(-want)), "P");
    }
    for (size_t i = 0; i < j.k; i++) {
        near_number(j.scores[i], number_at(json_object_get(item, "score"), i), "score");
    }
    assert_int_equal(j.best, json_integer_value(json_object_get(item, "best")));
    assert_int_equal(j.worst, json_integer_value(json_object_get(item, "worst")));
    spar_judgement_release(&j);
    json_decref(row);
}

static void test_pairrm(void **state) {
    (void)state;
    size_t i;
    json_t *item, *io = golden_json("golden/arch/pairrm/io.json");
    spar_judge *judge = open_golden("pairrm", "golden/arch/pairrm");
    assert_true(json_array_size(json_object_get(io, "cases")) > 0);
    json_array_foreach(json_object_get(io, "cases"), i, item) {
        check_pairrm_case(judge, item);
    }
    spar_judge_free(judge);
    json_decref(io);
}

/* The rows of the golden folder as responses to a prompt of their first tokens: of nothing, then of
 * two, which the responses then lack. */
static void test_reward(void **state) {
    (void)state;
    spar_error err;
    spar_judgement j;
    sp_safetensors *expected;
    char path[600];
    float want[8];
    json_t *io = golden_json("golden/arch/llama-reward/io.json");
    const json_t *rows = json_object_get(io, "rows");
    const size_t k = json_array_size(rows);
    assert_true(k >= 2 && k <= 8);
    snprintf(path, sizeof path, "%s", test_shared("golden/arch/llama-reward/expected.safetensors"));
    check(sp_safetensors_open(&expected, path, &err), &err);
    for (size_t i = 0; i < k; i++) {
        char name[32];
        snprintf(name, sizeof name, "scores.%zu", i);
        memcpy(&want[i], sp_safetensors_find(expected, name)->data, sizeof *want);
    }
    spar_judge *judge = open_golden("reward", "golden/arch/llama-reward");
    json_t *row = json_pack("{s:O}", "responses_ids", rows);
    check(spar_judge_row(judge, row, &j, &err), &err);
    for (size_t i = 0; i < k * k; i++) {
        const double difference = (double)want[i / k] - (double)want[i % k];
        near_number(j.scores[i / k], (double)want[i / k], "score");
        near_number(j.logits[i], difference, "difference");
        near_number(j.p[i], 1 / (1 + exp(-difference)), "P");
    }
    spar_judgement_release(&j);
    json_decref(row);

    const json_t *first = json_array_get(rows, 1);
    json_t *prompt = json_array(), *rest = json_array();
    for (size_t i = 0; i < json_array_size(first); i++) {
        json_array_append(i < 2 ? prompt : rest, json_array_get(first, i));
    }
    row = json_pack("{s:o, s:[o]}", "prompt_ids", prompt, "responses_ids", rest);
    check(spar_judge_row(judge, row, &j, &err), &err);
    near_number(j.scores[0], (double)want[1], "score behind a prompt");
    assert_true(j.p[0] == 0.5);
    spar_judgement_release(&j);
    json_decref(row);
    spar_judge_free(judge);
    sp_safetensors_free(expected);
    json_decref(io);
}

static void refuse_row(spar_judge *judge, const char *text, spar_status status,
                       const char *message) {
    spar_error err;
    spar_judgement j;
    json_t *row;
    check(sp_json_parse(&row, text, strlen(text), "row", &err), &err);
    assert_int_equal(spar_judge_row(judge, row, &j, &err), status);
    if (!strstr(err.message, message)) {
        fail_msg("%s: expected \"%s\", found \"%s\"", text, message, err.message);
    }
    spar_judgement_release(&j);
    json_decref(row);
}

static void test_refused(void **state) {
    (void)state;
    spar_error err;
    spar_judge *judge = open_golden("pairrm", "golden/arch/pairrm");
    refuse_row(judge, "{\"prompt_ids\": [5], \"responses_ids\": 3}", SPAR_FORMAT,
               "responses_ids: expected a list of lists, found integer");
    refuse_row(judge, "{\"prompt_ids\": [5], \"responses_ids\": [[7], 3]}", SPAR_FORMAT,
               "responses_ids[1]: expected a list of ids, found integer");
    refuse_row(judge, "{\"prompt_ids\": [5], \"responses_ids\": [[7, -3]]}", SPAR_FORMAT,
               "responses_ids[0][1]: expected a token id");
    refuse_row(judge, "{\"prompt_ids\": [1000000], \"responses_ids\": [[7], [8]]}", SPAR_INVALID,
               "1000000");
    refuse_row(judge, "{\"prompt\": \"x\", \"responses\": [\"a\"]}", SPAR_NOT_FOUND,
               "expected responses_ids");
    spar_judge_free(judge);
    assert_int_equal(spar_judge_open(&judge, "reward", &options, &err), SPAR_INVALID);
    char spec[600];
    snprintf(spec, sizeof spec, "reward:%s", test_shared("golden/arch/pairrm"));
    assert_int_equal(spar_judge_open(&judge, spec, &options, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "pairrm"));
    snprintf(spec, sizeof spec, "reward:%s", test_shared("golden/arch/bert"));
    assert_int_equal(spar_judge_open(&judge, spec, &options, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "several outputs"));
    snprintf(spec, sizeof spec, "pairrm:%s", test_shared("golden/arch/bert"));
    assert_int_equal(spar_judge_open(&judge, spec, &options, &err), SPAR_UNSUPPORTED);
    assert_int_equal(spar_judge_open(&judge, "pairrm:none", &options, &err), SPAR_NOT_FOUND);
}

int main(void) {
    test_shared_or_skip("golden/arch/pairrm");
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pairrm), cmocka_unit_test(test_reward),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
