/* Language models as judges: prompts in the layouts of the benchmarks, and the probabilities of
 * verdicts against those of whole rows scored one by one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "judge/prompt.h"
#include "model/engine.h"
#include "support.h"

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static json_t *parse(const char *text) {
    spar_error err;
    json_t *value;
    check(sp_json_parse(&value, text, strlen(text), "test", &err), &err);
    return value;
}

/* One message's text of a prompt, filled for the responses 0 and 1 of a row. */
static void filled_is(const char *name, const json_t *row, size_t message, const char *want) {
    spar_error err;
    sp_judge_prompt p;
    json_t *messages;
    const sp_judge_item item = {.k = json_array_size(json_object_get(row, "responses")),
                                .responses = json_object_get(row, "responses"),
                                .prompt = json_object_get(row, "prompt"),
                                .reference = json_object_get(row, "reference")};
    check(sp_judge_prompt_load(&p, name, &err), &err);
    check(sp_judge_prompt_fill(&p, &item, 0, 1, &messages, &err), &err);
    const char *text =
        json_string_value(json_object_get(json_array_get(messages, message), "content"));
    if (!text || !strstr(text, want)) {
        fail_msg("%s: expected '%s' in '%s'", name, want, text ? text : "nothing");
    }
    json_decref(messages);
    sp_judge_prompt_release(&p);
}

static char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];

static int make_dir(void **state) {
    (void)state;
    test_path(path, test_temp_dir(dir), "prompts.jsonl");
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    return sp_dir_remove(dir, NULL) == SPAR_OK ? 0 : -1;
}

static void write_file(const char *name, const char *text) {
    char file[TEST_PATH_MAX];
    spar_error err;
    check(sp_file_write(test_path(file, dir, name), text, strlen(text), &err), &err);
}

static void prompts_are_filled(void **state) {
    (void)state;
    char name[TEST_PATH_MAX + 32];
    json_t *row = parse("{\"prompt\": \"Say {answer_b}.\", \"responses\": [\"one {question}\", "
                        "\"two\"], \"reference\": \"R\"}");
    filled_is("pairwise", row, 1, "Say {answer_b}.\n\n=== Answer A ===\none {question}\n");
    filled_is("pairwise", row, 1, "=== Answer B ===\ntwo\n");
    filled_is("pairwise-reference", row, 1, "=== Solution ===\nR\n");
    filled_is("single", row, 1, "=== Answer ===\none {question}\n");
    filled_is("single-reference", row, 1, "=== Solution ===\nR\n");
    filled_is("preference", row, 1, "Output M:\n\"\"\"two\"\"\"");
    json_decref(row);
    write_file("prompts.jsonl",
               "{\"name\": \"x\", \"type\": \"single\", \"prompt_template\": \"{{x}} {answer}\", "
               "\"output_format\": \"[[rating]]\"}\n"
               "{\"name\": \"turns\", \"type\": \"pairwise\", \"prompt_template\": "
               "\"{question_1}|{answer_a_1}|{question_2}|{answer_b_2}|{ref_answer_2}\", "
               "\"output_format\": \"[[A]]\"}\n");
    row =
        parse("{\"prompt\": [{\"role\": \"user\", \"content\": \"q1\"}, {\"role\": \"assistant\", "
              "\"content\": \"a1\"}, {\"role\": \"user\", \"content\": \"q2\"}], "
              "\"responses\": [\"one\", \"two\"], \"reference\": [\"r1\", \"r2\"]}");
    filled_is(path, row, 0, "{x} one");
    snprintf(name, sizeof name, "%s#turns", path);
    filled_is(name, row, 0, "q1|a1|q2|two|r2");
    json_decref(row);
}

/* The files of the benchmarks themselves. */
static void the_originals_are_read(void **state) {
    (void)state;
    spar_error err;
    static const char *const names[] = {
        "pair-v2",   "pair-v2-multi-turn", "pair-math-v1",         "pair-math-v1-multi-turn",
        "single-v1", "single-math-v1",     "single-v1-multi-turn", "single-math-v1-multi-turn"};
    const char *file = test_shared("data/judge/mt_bench/judge_prompts.jsonl");
    for (size_t i = 0; file && i < sizeof names / sizeof names[0]; i++) {
        char name[TEST_PATH_MAX];
        sp_judge_prompt p;
        snprintf(name, sizeof name, "%s#%s", file, names[i]);
        check(sp_judge_prompt_load(&p, name, &err), &err);
        assert_int_equal(p.pairwise, strncmp(names[i], "pair", 4) == 0);
        assert_int_equal(p.n_verdicts, p.pairwise ? 3 : 10);
        assert_int_equal(json_array_size(p.messages), 2);
        sp_judge_prompt_release(&p);
    }
    file = test_shared("data/alpaca_eval/alpaca_eval_clf.txt");
    if (file) {
        json_t *row = parse("{\"prompt\": \"P\", \"responses\": [\"one\", \"two\"]}");
        filled_is(file, row, 1, "{\n    \"instruction\": \"\"\"P\"\"\",\n}");
        filled_is(file, row, 1, "\"output\": \"\"\"two\"\"\"\n    }\n}");
        json_decref(row);
    }
}

static void refused(const char *text, spar_status status, const char *message) {
    spar_error err = {0};
    sp_judge_prompt p;
    write_file("prompts.jsonl", text);
    assert_int_equal(sp_judge_prompt_load(&p, path, &err), status);
    if (!strstr(err.message, message)) {
        fail_msg("expected '%s', found '%s'", message, err.message);
    }
}

static void bad_prompts_are_refused(void **state) {
    (void)state;
    spar_error err;
    sp_judge_prompt p;
    refused("", SPAR_NOT_FOUND, "expected a prompt");
    refused("nonsense\n", SPAR_FORMAT, "prompts.jsonl");
    refused("{\"type\": \"triple\", \"prompt_template\": \"\", \"output_format\": \"\"}",
            SPAR_UNSUPPORTED, "type: expected pairwise or single, found triple");
    refused("{\"type\": \"pairwise\", \"prompt_template\": \"\", \"output_format\": \"[[1,2]]\"}",
            SPAR_UNSUPPORTED, "output_format: expected [[A]], found [[1,2]]");
    refused("{\"type\": \"single\", \"prompt_template\": \"{anwser}\", \"output_format\": "
            "\"[[rating]]\"}",
            SPAR_FORMAT, "unknown slot {anwser}");
    assert_int_equal(sp_judge_prompt_load(&p, "no such file", &err), SPAR_NOT_FOUND);
    write_file("empty", "<|im_start|>user\n<|im_end|>");
    char file[TEST_PATH_MAX];
    assert_int_equal(sp_judge_prompt_load(&p, test_path(file, dir, "empty"), &err), SPAR_FORMAT);
    write_file("latin",
               "<|im_start|>system\nna\xefve<|im_end|><|im_start|>user\n{instruction}<|im_end|>");
    assert_int_equal(sp_judge_prompt_load(&p, test_path(file, dir, "latin"), &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "expected UTF-8"));
}

/* ---- a model ---- */

/* stories260K, which has no chat template, with one. */
static void make_model(void) {
    static const char *const files[] = {"config.json", "generation_config.json",
                                        "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    const char *from = test_shared_or_skip("models/stories260K/hf");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char source[TEST_PATH_MAX + 64], target[TEST_PATH_MAX];
        snprintf(source, sizeof source, "%s/%s", from, files[i]);
        if (sp_file_exists(source)) {
            assert_int_equal(symlink(source, test_path(target, dir, files[i])), 0);
        }
    }
    write_file("chat_template.jinja", "{{ bos_token }}{% for m in messages %}{{ m.content }}\n"
                                      "{% endfor %}");
}

/* log p of a verdict behind the prompt of two responses, by scoring its whole row alone. */
static double verdict_logp(spar_model *m, const char *prompt, const char *a, const char *b,
                           const char *verdict) {
    char text[256];
    float logps[256];
    spar_error err;
    int32_t *ids[2];
    size_t n[2];
    double sum = 0;
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text, "<s>%s:%s|%s\n%s", prompt, a, b, i ? verdict : "");
        check(spar_tokenizer_encode(spar_model_tokenizer(m), text, strlen(text),
                                    SPAR_TOKENIZE_NO_SPECIAL, &ids[i], &n[i], &err),
              &err);
    }
    assert_true(n[0] < n[1] && n[1] < 256 && memcmp(ids[0], ids[1], n[0] * sizeof *ids[0]) == 0);
    spar_score_row row = {.ids = ids[1], .n = n[1], .first = n[0], .logps = logps};
    check(spar_model_score(m, &row, 1, &err), &err);
    for (size_t i = 0; i < n[1] - n[0]; i++) {
        sum += (double)logps[i];
    }
    free(ids[0]);
    free(ids[1]);
    return sum;
}

static spar_judge *open_judge(const char *prompt, int64_t explain) {
    char spec[TEST_PATH_MAX + 16];
    spar_error err;
    spar_judge *judge;
    const spar_judge_options options = {
        .dtype = SPAR_DTYPE_F32, .threads = 2, .prompt = prompt, .explain = explain};
    snprintf(spec, sizeof spec, "llm:%s", dir);
    check(spar_judge_open(&judge, spec, &options, &err), &err);
    return judge;
}

static const char *const RESPONSES[] = {"a dog", "the sun was red", "no"};

static void verdicts_are_probabilities(void **state) {
    (void)state;
    make_model();
    write_file("prompts.jsonl", "{\"type\": \"pairwise\", \"prompt_template\": \"{question}:"
                                "{answer_a}|{answer_b}\", \"output_format\": \"[[A]]\", "
                                "\"system_prompt\": \"\", \"name\": \"[[C]] is no verdict here\"}");
    spar_error err;
    spar_judgement j;
    spar_model *m;
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    check(spar_model_load(&m, dir, &options, &err), &err);
    spar_judge *judge = open_judge(path, 0);
    json_t *row = json_pack("{s:s, s:[s, s, s]}", "prompt", "Tell", "responses", RESPONSES[0],
                            RESPONSES[1], RESPONSES[2]);
    check(spar_judge_row(judge, row, &j, &err), &err);
    double differs = 0;
    for (size_t cell = 0; cell < 9; cell++) {
        const size_t a = cell / 3, b = cell % 3;
        double want = 0.5;
        if (a != b) {
            const double pa = verdict_logp(m, "Tell", RESPONSES[a], RESPONSES[b], "[[A]]");
            const double pb = verdict_logp(m, "Tell", RESPONSES[a], RESPONSES[b], "[[B]]");
            want = 1 / (1 + exp(pb - pa));
            assert_true(fabs(j.logits[cell] - (pa - pb)) < 1e-4);
        }
        assert_true(fabs(j.p[cell] - want) < 1e-5);
        differs = fmax(differs, fabs(want - 0.5));
    }
    assert_true(differs > 1e-3); /* the model prefers something */
    for (size_t a = 0; a < 3; a++) {
        double mean = 0;
        for (size_t b = 0; b < 3; b++) {
            mean += 0.5 * (j.p[a * 3 + b] + 1 - j.p[b * 3 + a]) / 3;
        }
        assert_true(fabs(j.scores[a] - mean) < 1e-12);
    }
    assert_true(j.tokens > 6 * 10);
    spar_judgement_release(&j);
    json_decref(row);
    spar_judge_free(judge);
    spar_model_free(m);
}

/* Ratings, and a verdict behind an explanation: another text, so other probabilities. */
static void ratings_and_explanations(void **state) {
    (void)state;
    spar_error err;
    spar_judgement with[2], rated;
    json_t *row =
        json_pack("{s:s, s:[s, s]}", "prompt", "Tell", "responses", RESPONSES[0], RESPONSES[1]);
    make_model();
    for (int i = 0; i < 2; i++) {
        spar_judge *judge = open_judge("pairwise", i ? 8 : 0);
        check(spar_judge_row(judge, row, &with[i], &err), &err);
        spar_judge_free(judge);
    }
    assert_true(with[0].p[1] != with[1].p[1]);
    assert_true(with[1].tokens > with[0].tokens);
    spar_judge *judge = open_judge("single", 0);
    check(spar_judge_row(judge, row, &rated, &err), &err);
    assert_true(rated.scores[0] > 1 && rated.scores[0] < 10);
    assert_true(rated.p[1] == (rated.scores[0] > rated.scores[1] ? 1 : 0));
    json_t *provenance;
    check(spar_judge_provenance(judge, &provenance, &err), &err);
    assert_string_equal(json_string_value(json_object_get(provenance, "prompt")), "single");
    assert_non_null(json_object_get(provenance, "prompt_fingerprint"));
    assert_non_null(json_object_get(provenance, "fingerprint"));
    json_decref(provenance);
    json_t *none = parse("{\"responses\": [\"a\"]}");
    spar_judgement ignored;
    assert_int_equal(spar_judge_row(judge, none, &ignored, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "prompt: expected a string or a list of messages"));
    spar_judgement_release(&ignored);
    json_decref(none);
    spar_judge_free(judge);
    spar_judgement_release(&with[0]);
    spar_judgement_release(&with[1]);
    spar_judgement_release(&rated);
    json_decref(row);
}

int main(void) {
#define ROW(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        ROW(prompts_are_filled), ROW(the_originals_are_read), ROW(bad_prompts_are_refused),
        ROW(verdicts_are_probabilities), ROW(ratings_and_explanations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
