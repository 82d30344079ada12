/* Process reward models: the four formats on a tiny model, against the same rows made by hand; how
 * steps make a score, and what becomes rows to train on. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "io/safetensors.h"
#include "judge/kind.h"
#include "model/reward.h"
#include "support.h"

enum { HIDDEN = 64, VOCAB = 512, MOST_TOKENS = 256 }; /* of stories260K */
static const char TAG[] = " \xd0\xba\xd0\xb8";

static char dir[TEST_PATH_MAX];

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static void write_file(const char *name, const char *text) {
    char file[TEST_PATH_MAX];
    spar_error err;
    check(sp_file_write(test_path(file, dir, name), text, strlen(text), &err), &err);
}

static void link_file(const char *name) {
    char source[TEST_PATH_MAX + 64], target[TEST_PATH_MAX];
    snprintf(source, sizeof source, "%s/%s", test_shared_or_skip("models/stories260K/hf"), name);
    assert_int_equal(symlink(source, test_path(target, dir, name)), 0);
}

static void save_json(const char *name, json_t *value) {
    char file[TEST_PATH_MAX];
    spar_error err;
    check(sp_json_save(value, test_path(file, dir, name), &err), &err);
    json_decref(value);
}

static json_t *shared_json(const char *name) {
    char file[TEST_PATH_MAX + 64];
    spar_error err;
    json_t *value;
    snprintf(file, sizeof file, "%s/%s", test_shared_or_skip("models/stories260K/hf"), name);
    check(sp_json_load(&value, file, &err), &err);
    return value;
}

/* stories260K as a language model with a chat template. */
static int make_words(void **state) {
    (void)state;
    test_temp_dir(dir);
    link_file("config.json");
    link_file("model.safetensors");
    link_file("tokenizer.json");
    write_file("chat_template.jinja", "{{ bos_token }}{% for m in messages %}{{ m.role }}: "
                                      "{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}"
                                      "assistant: {% endif %}");
    return 0;
}

/* The same with a head of two in the place of the vocabulary, and <extra_0> as a token. */
static int make_head(void **state) {
    (void)state;
    static float head[2 * HIDDEN], embeddings[(VOCAB + 1) * HIDDEN]; /* one token more */
    sp_safetensors *file;
    sp_tensor_entry entries[64];
    size_t n = 0;
    spar_error err;
    char path[TEST_PATH_MAX + 64];
    test_temp_dir(dir);
    snprintf(path, sizeof path, "%s/model.safetensors",
             test_shared_or_skip("models/stories260K/hf"));
    check(sp_safetensors_open(&file, path, &err), &err);
    for (size_t i = 0; i < sp_safetensors_count(file); i++) {
        const sp_tensor_entry *e = sp_safetensors_at(file, i);
        assert_true(n < 63);
        if (strcmp(e->name, "lm_head.weight") != 0) {
            entries[n++] = *e;
        }
        if (strcmp(e->name, "model.embed_tokens.weight") == 0) {
            assert_int_equal(e->n_bytes, VOCAB * HIDDEN * sizeof(float));
            memcpy(embeddings, e->data, e->n_bytes);
            embeddings[VOCAB * HIDDEN] = 1;
            entries[n - 1].dims[0] = VOCAB + 1;
            entries[n - 1].data = embeddings;
            entries[n - 1].n_bytes = sizeof embeddings;
        }
    }
    for (int i = 0; i < 2 * HIDDEN; i++) {
        head[i] = 0.05F * (float)((i * 37) % 21 - 10);
    }
    entries[n++] = (sp_tensor_entry){.name = "score.weight",
                                     .dtype = SP_F32,
                                     .n_dims = 2,
                                     .dims = {2, HIDDEN},
                                     .data = head,
                                     .n_bytes = sizeof head};
    check(sp_safetensors_write_sharded(dir, entries, n, NULL, UINT64_MAX, &err), &err);
    sp_safetensors_free(file);
    json_t *config = shared_json("config.json");
    json_object_set_new(config, "architectures", json_pack("[s]", "LlamaForTokenClassification"));
    json_object_set_new(config, "vocab_size", json_integer(VOCAB + 1));
    save_json("config.json", config);
    json_t *tokenizer = shared_json("tokenizer.json");
    json_array_append_new(json_object_get(tokenizer, "added_tokens"),
                          json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id", VOCAB, "content",
                                    "<extra_0>", "single_word", 0, "lstrip", 0, "rstrip", 0,
                                    "normalized", 0, "special", 1));
    save_json("tokenizer.json", tokenizer);
    write_file("chat_template.jinja", "{% for m in messages %}{{ m.content }}|{% endfor %}");
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    return sp_dir_remove(dir, NULL) == SPAR_OK ? 0 : -1;
}

static spar_judge *open_judge(spar_step_format format, spar_aggregate how, int steps) {
    char spec[TEST_PATH_MAX + 16];
    spar_error err;
    spar_judge *judge;
    const spar_judge_options options = {
        .dtype = SPAR_DTYPE_F32, .threads = 2, .process = {(int)format, (int)how, steps}};
    snprintf(spec, sizeof spec, "process:%s", dir);
    check(spar_judge_open(&judge, spec, &options, &err), &err);
    return judge;
}

static size_t encode(const spar_tokenizer *t, const char *text, unsigned flags, int32_t *out) {
    int32_t *ids;
    size_t n;
    spar_error err;
    check(spar_tokenizer_encode(t, text, strlen(text), flags, &ids, &n, &err), &err);
    assert_true(n > 0 && n < MOST_TOKENS);
    memcpy(out, ids, n * sizeof *ids);
    free(ids);
    return n;
}

/* P(good) of good against bad behind the text's last token, by all logits of the row alone. */
static double good_behind(spar_model *m, const char *text, unsigned flags, const char *good,
                          const char *bad) {
    int32_t ids[MOST_TOKENS], word[MOST_TOKENS];
    float logps[MOST_TOKENS];
    static float logits[MOST_TOKENS * 1024];
    spar_error err;
    const spar_tokenizer *t = spar_model_tokenizer(m);
    const size_t n = encode(t, text, flags, ids);
    const int64_t vocab = spar_model_vocab(m);
    assert_true(vocab <= 1024);
    spar_score_row row = {.ids = ids, .n = n, .first = n, .logps = logps, .logits = logits};
    check(spar_model_score(m, &row, 1, &err), &err);
    const float *last = logits + (int64_t)(n - 1) * vocab;
    const int32_t g = word[encode(t, good, SPAR_TOKENIZE_NO_SPECIAL, word) - 1];
    const int32_t b = word[encode(t, bad, SPAR_TOKENIZE_NO_SPECIAL, word) - 1];
    assert_int_not_equal(g, b);
    return 1 / (1 + exp((double)last[b] - (double)last[g]));
}

static void near_number(double got, double want) {
    if (!(fabs(got - want) < 1e-5)) {
        fail_msg("expected %.7f, found %.7f", want, got);
    }
}

static spar_judgement judge_text(spar_judge *judge, const char *text) {
    json_t *row;
    spar_judgement j;
    spar_error err;
    check(sp_json_parse(&row, text, strlen(text), "row", &err), &err);
    check(spar_judge_row(judge, row, &j, &err), &err);
    json_decref(row);
    return j;
}

static spar_model *open_model(void) {
    spar_model *m;
    spar_error err;
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    check(spar_model_load(&m, dir, &options, &err), &err);
    return m;
}

static void tags_are_read(void **state) {
    (void)state;
    char text[256];
    spar_model *m = open_model();
    spar_judge *judge = open_judge(SPAR_STEPS_TAG, SPAR_AGGREGATE_PRODUCT, 1);
    spar_judgement j =
        judge_text(judge, "{\"prompt\": \"Q\", \"responses\": [\"one dog\\nran\\n\", \"sun\"]}");
    assert_true(j.n_steps[0] == 2 && j.n_steps[1] == 1);
    snprintf(text, sizeof text, "Q one dog%s", TAG);
    near_number(j.steps[0], good_behind(m, text, 0, " +", " -"));
    snprintf(text, sizeof text, "Q one dog%s\nran%s", TAG, TAG);
    near_number(j.steps[1], good_behind(m, text, 0, " +", " -"));
    snprintf(text, sizeof text, "Q sun%s", TAG);
    near_number(j.steps[2], good_behind(m, text, 0, " +", " -"));
    near_number(j.scores[0], j.steps[0] * j.steps[1]);
    near_number(j.scores[1], j.steps[2]);
    assert_true(j.p[1] == (j.scores[0] > j.scores[1] ? 1 : 0));
    spar_judgement_release(&j);
    json_t *row = json_pack("{s:s, s:[s]}", "prompt", "Q", "responses", "a \xd0\xba\xd0\xb8 b");
    spar_error err;
    assert_int_equal(spar_judge_row(judge, row, &j, &err), SPAR_FORMAT);
    assert_non_null(strstr(err.message, "each of 1 steps, found 2 tags"));
    spar_judgement_release(&j);
    json_decref(row);
    spar_judge_free(judge);
    spar_model_free(m);
}

static void turns_are_read(void **state) {
    (void)state;
    spar_model *m = open_model();
    spar_judge *judge = open_judge(SPAR_STEPS_AUTO, SPAR_AGGREGATE_LAST, 0);
    spar_judgement j = judge_text(
        judge, "{\"prompt\": \"Q\", \"completions\": [\"one dog\", \"ran\"], \"labels\": [1, 0]}");
    static const char first[] = "<s>user: Q one dog\nassistant: ";
    static const char second[] = "<s>user: Q one dog\nassistant: +\nuser: ran\nassistant: ";
    assert_true(j.k == 1 && j.n_steps[0] == 2);
    near_number(j.steps[0], good_behind(m, first, SPAR_TOKENIZE_NO_SPECIAL, "+", "-"));
    near_number(j.steps[1], good_behind(m, second, SPAR_TOKENIZE_NO_SPECIAL, "+", "-"));
    near_number(j.scores[0], j.steps[1]);
    spar_judgement_release(&j);
    spar_judge_free(judge);
    spar_model_free(m);
}

/* The head at the last tokens of two beginnings of a row. */
static void head_at(const int32_t *ids, size_t first, size_t second, double *out) {
    sp_reward *r;
    float logits[4];
    spar_error err;
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    const int64_t at[] = {(int64_t)first - 1, (int64_t)second - 1};
    check(sp_reward_load(&r, dir, &options, &err), &err);
    const sp_token_row row = {.ids = ids, .n = second};
    check(sp_reward_scores_at(r, &row, at, 2, logits, &err), &err);
    out[0] = 1 / (1 + exp((double)logits[0] - (double)logits[1]));
    out[1] = 1 / (1 + exp((double)logits[2] - (double)logits[3]));
    sp_reward_free(r);
}

static void marks_are_read(void **state) {
    (void)state;
    int32_t ids[MOST_TOKENS];
    double want[2];
    spar_tokenizer *t;
    spar_error err;
    spar_judge *judge = open_judge(SPAR_STEPS_AUTO, SPAR_AGGREGATE_MIN, 0);
    spar_judgement j =
        judge_text(judge, "{\"prompt\": \"Q\", \"responses\": [\"one dog\\n\\n\\nran\"]}");
    check(spar_tokenizer_load(&t, dir, &err), &err);
    const size_t first = encode(t, "Q|one dog<extra_0>", SPAR_TOKENIZE_NO_SPECIAL, ids);
    const size_t second =
        encode(t, "Q|one dog<extra_0>ran<extra_0>", SPAR_TOKENIZE_NO_SPECIAL, ids);
    assert_true(ids[first - 1] == VOCAB && ids[second - 1] == VOCAB);
    head_at(ids, first, second, want);
    assert_int_equal(j.n_steps[0], 2);
    near_number(j.steps[0], want[0]);
    near_number(j.steps[1], want[1]);
    assert_true(fabs(want[0] - want[1]) > 1e-3);
    near_number(j.scores[0], fmin(want[0], want[1]));
    spar_judgement_release(&j);
    spar_judge_free(judge);
    spar_tokenizer_free(t);
}

static void lines_are_read(void **state) {
    (void)state;
    int32_t ids[2 * MOST_TOKENS];
    size_t n = 0, ends[2];
    double want[2];
    static const char *const parts[] = {"Q", "one dog", "\n", "ran", "\n"};
    spar_tokenizer *t;
    spar_error err;
    spar_judge *judge = open_judge(SPAR_STEPS_LINES, SPAR_AGGREGATE_MIN, 0);
    spar_judgement j =
        judge_text(judge, "{\"prompt\": \"Q\", \"responses\": [[\"one dog\", \"ran\"]]}");
    check(spar_tokenizer_load(&t, dir, &err), &err);
    if (spar_tokenizer_bos(t) >= 0) {
        ids[n++] = spar_tokenizer_bos(t);
    }
    for (int i = 0; i < 5; i++) {
        n += encode(t, parts[i], SPAR_TOKENIZE_NO_SPECIAL, ids + n);
        ends[i / 4] = i == 2 || i == 4 ? n : ends[i / 4];
    }
    head_at(ids, ends[0], ends[1], want);
    near_number(j.steps[0], want[0]);
    near_number(j.steps[1], want[1]);
    spar_judgement_release(&j);
    spar_judge_free(judge);
    spar_tokenizer_free(t);
}

static void wrong_formats_are_refused(void **state) {
    (void)state;
    char spec[TEST_PATH_MAX + 16];
    spar_error err;
    spar_judge *judge;
    const spar_judge_options options = {.dtype = SPAR_DTYPE_F32,
                                        .process = {.format = SPAR_STEPS_MARKS}};
    snprintf(spec, sizeof spec, "process:%s", dir);
    assert_int_equal(spar_judge_open(&judge, spec, &options, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "step format: expected marks or lines"));
    assert_int_equal(spar_judge_open(&judge, "process", &options, &err), SPAR_INVALID);
    assert_int_equal(spar_judge_open(&judge, "process:/no/such", &options, &err), SPAR_NOT_FOUND);
}

/* ---- rows to train on ---- */

static void row_is(const spar_judgement *j, json_t *row, spar_judged_row what, const char *want) {
    spar_error err;
    json_t *out;
    check(spar_judgement_row(j, row, what, &out, &err), &err);
    char *text = out ? json_dumps(out, JSON_COMPACT | JSON_REAL_PRECISION(4)) : NULL;
    assert_string_equal(text ? text : "nothing", want);
    free(text);
    json_decref(out);
}

static void rows_to_train_on(void **state) {
    (void)state;
    double p[9] = {0.5, 1, 1, 0, 0.5, 1, 0, 0, 0.5}, scores[3] = {0.9, 0.5, 0.2};
    double steps[6] = {0.9, 0.95, 0.9, 0.5, 0.2, 0.4};
    size_t n_steps[3] = {2, 2, 2};
    json_t *texts = json_pack("[[s,s],[s,s],[s,s]]", "a", "b", "a", "c", "d", "e");
    json_t *row = json_pack("{s:s, s:[s, s, [s, s]]}", "prompt", "Q", "responses", "a\n\nb",
                            "a\n\nc", "d", "e");
    spar_judgement j = {.k = 3,
                        .p = p,
                        .scores = scores,
                        .best = 0,
                        .worst = 2,
                        .n_steps = n_steps,
                        .steps = steps,
                        .step_texts = texts};
    row_is(&j, row, SPAR_JUDGED_BEST, "{\"prompt\":\"Q\",\"completion\":\"a\\n\\nb\"}");
    row_is(&j, row, SPAR_JUDGED_PAIR,
           "{\"prompt\":\"Q\",\"chosen\":\"a\\n\\nb\",\"rejected\":\"d\\ne\"}");
    /* the first steps of the first and the third differ by 0.7; the second step of the first two,
     * where they are alike before, by 0.45 */
    row_is(&j, row, SPAR_JUDGED_STEP_PAIR,
           "{\"prompt\":\"Q\",\"chosen\":\"a\\n\\nb\",\"rejected\":\"d\\ne\",\"step\":1,"
           "\"margin\":0.7}");
    const bool cut[3] = {true, false,
                         false}; /* the first cannot be chosen: the second, by 0.7 too */
    const sp_fork fork = sp_judge_widest_fork(&j, cut);
    assert_true(fork.better == 1 && fork.worse == 2 && fork.step == 0 && fork.margin == 0.9 - 0.2);
    const bool all[3] = {true, true, true};
    assert_true(sp_judge_widest_fork(&j, all).margin == 0);
    j.k = 2;
    j.worst = 1;
    row_is(&j, row, SPAR_JUDGED_STEP_PAIR,
           "{\"prompt\":\"Q\",\"chosen\":\"a\\n\\nb\",\"rejected\":\"a\\n\\nc\",\"step\":2,"
           "\"margin\":0.45}");
    p[1] = p[2] = 0.5; /* of k = 2: a tie */
    row_is(&j, row, SPAR_JUDGED_PAIR, "nothing");
    steps[3] = 0.95;
    row_is(&j, row, SPAR_JUDGED_STEP_PAIR, "nothing");
    spar_error err;
    json_t *out;
    j.steps = NULL;
    assert_int_equal(spar_judgement_row(&j, row, SPAR_JUDGED_STEP_PAIR, &out, &err), SPAR_INVALID);
    json_decref(texts);
    json_decref(row);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tags_are_read, make_words, remove_dir),
        cmocka_unit_test_setup_teardown(turns_are_read, make_words, remove_dir),
        cmocka_unit_test_setup_teardown(marks_are_read, make_head, remove_dir),
        cmocka_unit_test_setup_teardown(lines_are_read, make_head, remove_dir),
        cmocka_unit_test_setup_teardown(wrong_formats_are_refused, make_words, remove_dir),
        cmocka_unit_test(rows_to_train_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
