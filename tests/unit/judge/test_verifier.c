/* Every verifier: right, wrong, sloppy and gaming responses, and the judgements made of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "judge/kind.h"
#include "support.h"

typedef struct verify_case {
    const char *judge, *reference, *response;
    double score;
} verify_case;

static const verify_case CASES[] = {
    {"verifier:exact", "yes", " yes\n", 1},
    {"verifier:exact", "yes", "Yes", 0},
    {"verifier:number", "42", "It is 42.", 1},
    {"verifier:number", "42", "42 or 43", 0},
    {"verifier:number", "42", "no number", 0},
    {"verifier:number", "42", "", 0},
    {"verifier:number", "1234567.5", "about $1,234,567.50", 1},
    {"verifier:number", "1234", "12,34", 0},
    {"verifier:number", "-3", "x = -3", 1},
    {"verifier:number", "-3",
     "x = \xe2\x88\x92"
     "3",
     1},
    {"verifier:number", "-3", "3", 0},
    {"verifier:number", "2", "4-2", 1},
    {"verifier:number", "0", "-0.00", 1},
    {"verifier:number", "007", "7", 1},
    {"verifier:number", "0.75", "3/4", 1},
    {"verifier:number", "1.5", "1 1/2", 1},
    {"verifier:number", "\\frac{3}{4}", "so 0.75", 1},
    {"verifier:number", "3/4", "$\\boxed{\\dfrac{6}{8}}$ (from 9)", 1},
    {"verifier:number", "1/3", "0.333", 0},
    {"verifier:number", "1", "1/0", 0},
    {"verifier:number", "1500", "1.5e3", 1},
    {"verifier:number", "1e9999", "1e9998", 0},
    {"verifier:number", "10000000000000000000001", "10000000000000000000001", 1},
    {"verifier:number", "10000000000000000000001", "10000000000000000000002", 0},
    {"verifier:number", "1.5 km", "1500 m", 1},
    {"verifier:number", "1.5 km", "1.5 m", 0},
    {"verifier:number", "1.5 km", "1.5 hours", 0},
    {"verifier:number", "1.5 km", "1.5", 1},
    {"verifier:number", "90 min", "1.5 hours", 1},
    {"verifier:number", "50", "50\\%", 1},
    {"verifier:number", "18", "9 + 9 = 18\n#### 18", 1},
    {"verifier:number", "18", "18\n#### 17", 0},
    {"verifier:choice", "B", "b", 1},
    {"verifier:choice", "(b)", "The answer is (B).", 1},
    {"verifier:choice", "B", "A careful reading: I think B", 1},
    {"verifier:choice", "B", "A or B", 0},
    {"verifier:choice", "B", "A, B", 0},
    {"verifier:choice", "B", "not A; B", 1},
    {"verifier:choice", "B", "Because", 0},
    {"verifier:choice", "B", "\\boxed{B} not C", 1},
    {"verifier:regex", "^a+b$", "aaab", 1},
    {"verifier:regex", "^a+b$", "aaac", 0},
    {"verifier:regex", "^\\w$", "\xc3\xa9", 1},
    {"verifier:set", "x, y", "Y; x.", 1},
    {"verifier:set", "x, y", "x", 0.5},
    {"verifier:set", "x, y", "- x\n- y\n- x", 1},
    {"verifier:set", "x, y", "x, z", 1.0 / 3},
    {"verifier:set", "x", "", 0},
    {"verifier:multiply", "56", "7 x 8 = 56.", 1},
    {"verifier:multiply", "56", "55 or 56", 0},
};

static void scores_are_as_listed(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        const verify_case *c = &CASES[i];
        spar_judge *judge;
        spar_judgement out;
        spar_error err = {0};
        json_t *row =
            json_pack("{s:[s], s:s}", "responses", c->response, "reference", c->reference);
        assert_int_equal(spar_judge_open(&judge, c->judge, NULL, &err), SPAR_OK);
        assert_int_equal(spar_judge_row(judge, row, &out, &err), SPAR_OK);
        if (out.scores[0] < c->score - 1e-12 || out.scores[0] > c->score + 1e-12) {
            fail_msg("%s: '%s' against '%s': expected %g, found %g", c->judge, c->response,
                     c->reference, c->score, out.scores[0]);
        }
        spar_judgement_release(&out);
        spar_judge_free(judge);
        json_decref(row);
    }
}

static spar_status judge_text(const char *spec, const char *text, spar_judgement *out,
                              spar_error *err) {
    spar_judge *judge;
    json_t *row;
    assert_int_equal(spar_judge_open(&judge, spec, NULL, err), SPAR_OK);
    assert_int_equal(sp_json_parse_row(&row, text, strlen(text), "row", err), SPAR_OK);
    const spar_status status = spar_judge_row(judge, row, out, err);
    json_decref(row);
    spar_judge_free(judge);
    return status;
}

static void a_matrix_compares_scores(void **state) {
    (void)state;
    spar_judgement out;
    spar_error err;
    static const double want[] = {.5, 0, .5, 1, .5, 1, .5, 0, .5};
    assert_int_equal(judge_text("verifier:number",
                                "{\"responses\":[\"1\",\"2\",\"3\"],\"answer\":2}", &out, &err),
                     SPAR_OK);
    assert_int_equal(out.k, 3);
    assert_memory_equal(out.p, want, sizeof want);
    assert_int_equal(out.best, 1);
    assert_int_equal(out.worst, 0);
    assert_null(out.logits);
    assert_true(out.seconds >= 0);
    spar_judgement_release(&out);
}

static const struct {
    const char *judge, *row, *message;
    spar_status status;
} WRONG[] = {
    {"verifier:exact", "{}", "responses: expected a list of strings, found nothing", SPAR_FORMAT},
    {"verifier:exact", "{\"responses\":[]}", "responses: expected 1 to 1024, found 0", SPAR_LIMIT},
    {"verifier:exact", "{\"responses\":[\"a\",1]}",
     "responses[1]: expected a string, found integer", SPAR_FORMAT},
    {"verifier:exact", "{\"responses\":[\"a\"]}",
     "reference: expected a string, a number or a list of strings, found nothing", SPAR_FORMAT},
    {"verifier:set", "{\"responses\":[\"a\"],\"answer\":[1]}",
     "reference[0]: expected a string, found integer", SPAR_FORMAT},
    {"verifier:set", "{\"responses\":[\"a\"],\"answer\":\" , \"}",
     "reference: expected members of a set, found none", SPAR_FORMAT},
    {"verifier:number", "{\"responses\":[\"a\"],\"answer\":\"x\"}",
     "reference: expected a number, found 'x'", SPAR_FORMAT},
    {"verifier:choice", "{\"responses\":[\"a\"],\"answer\":\"AB\"}",
     "reference: expected a choice letter, found 'AB'", SPAR_FORMAT},
    {"verifier:regex", "{\"responses\":[\"a\"],\"answer\":\"(a\"}",
     "reference: at byte 2 of the regular expression: missing closing parenthesis", SPAR_FORMAT},
    {"verifier:regex",
     "{\"responses\":[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"],\"answer\":\"^(a+)+$\"}",
     "reference: the regular expression takes more than 1000000 steps", SPAR_LIMIT},
};

static void wrong_rows_say_why(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        spar_judgement out;
        spar_error err = {0};
        assert_int_equal(judge_text(WRONG[i].judge, WRONG[i].row, &out, &err), WRONG[i].status);
        assert_string_equal(err.message, WRONG[i].message);
        spar_judgement_release(&out);
    }
}

static void unknown_judges_are_refused(void **state) {
    (void)state;
    spar_judge *judge;
    spar_error err;
    assert_int_equal(spar_judge_open(&judge, "oracle", NULL, &err), SPAR_NOT_FOUND);
    assert_non_null(strstr(err.message, "judge: expected one of verifier, program, "));
    assert_non_null(strstr(err.message, ", found 'oracle'"));
    assert_int_equal(spar_judge_open(&judge, "verifier", NULL, &err), SPAR_NOT_FOUND);
    assert_int_equal(spar_judge_open(&judge, "verifier:guess", NULL, &err), SPAR_NOT_FOUND);
    assert_non_null(strstr(err.message, "found 'guess'"));
    assert_null(judge);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_as_listed), cmocka_unit_test(a_matrix_compares_scores),
        cmocka_unit_test(wrong_rows_say_why), cmocka_unit_test(unknown_judges_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
