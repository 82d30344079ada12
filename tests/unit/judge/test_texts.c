/* Judges on text: PairRM and encoders through their own tokenizers, against the same rows as ids;
 * general preference models; ensembles. The folders are made of the golden ones. */
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
#include "model/encoder.h"
#include "model/reward.h"
#include "support.h"

enum { HIDDEN = 64, MOST_TENSORS = 128 };
static const spar_judge_options OPTIONS = {.dtype = SPAR_DTYPE_F32, .threads = 2};
static const spar_model_options MODEL = {.dtype = SPAR_DTYPE_F32, .threads = 2};

static char dir[TEST_PATH_MAX];

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static int make_dir(void **state) {
    (void)state;
    test_temp_dir(dir);
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    return sp_dir_remove(dir, NULL) == SPAR_OK ? 0 : -1;
}

/* A folder of the shared material, or a path of the source tree. */
static const char *folder(const char *from) {
    return from[0] == '/' ? from : test_shared_or_skip(from);
}

static void write_file(const char *name, const char *text) {
    char file[TEST_PATH_MAX];
    spar_error err;
    check(sp_file_write(test_path(file, dir, name), text, strlen(text), &err), &err);
}

static void link_file(const char *from, const char *name) {
    char source[TEST_PATH_MAX + 64], target[TEST_PATH_MAX];
    snprintf(source, sizeof source, "%s/%s", test_shared_or_skip(from), name);
    assert_int_equal(symlink(source, test_path(target, dir, name)), 0);
}

/* config.json of a folder with the members of `changes` set. */
static void copy_config(const char *from, json_t *changes) {
    char file[TEST_PATH_MAX + 64], target[TEST_PATH_MAX];
    spar_error err;
    json_t *config;
    snprintf(file, sizeof file, "%s/config.json", folder(from));
    check(sp_json_load(&config, file, &err), &err);
    json_object_update(config, changes);
    check(sp_json_save(config, test_path(target, dir, "config.json"), &err), &err);
    json_decref(config);
    json_decref(changes);
}

/* The tensors of a folder, those whose names begin with `cut` as their first row alone, and more.
 */
static void copy_tensors(const char *from, const char *cut, const sp_tensor_entry *more,
                         size_t n_more) {
    sp_tensor_entry entries[MOST_TENSORS];
    sp_safetensors *file;
    size_t n = 0;
    spar_error err;
    check(sp_safetensors_open(&file, folder(from), &err), &err);
    for (size_t i = 0; i < sp_safetensors_count(file); i++) {
        assert_true(n + n_more < MOST_TENSORS);
        entries[n] = *sp_safetensors_at(file, i);
        if (cut && strncmp(entries[n].name, cut, strlen(cut)) == 0) {
            entries[n].n_bytes /= (size_t)entries[n].dims[0];
            entries[n].dims[0] = 1;
        }
        n++;
    }
    for (size_t i = 0; i < n_more; i++) {
        entries[n++] = more[i];
    }
    check(sp_safetensors_write_sharded(dir, entries, n, NULL, UINT64_MAX, &err), &err);
    sp_safetensors_free(file);
}

static spar_judgement judge_row(const char *kind, json_t *row) {
    char spec[TEST_PATH_MAX + 16];
    spar_error err;
    spar_judge *judge;
    spar_judgement j;
    snprintf(spec, sizeof spec, "%s:%s", kind, dir);
    check(spar_judge_open(&judge, spec, &OPTIONS, &err), &err);
    check(spar_judge_row(judge, row, &j, &err), &err);
    spar_judge_free(judge);
    json_decref(row);
    return j;
}

static void same(const spar_judgement *a, const spar_judgement *b) {
    assert_int_equal(a->k, b->k);
    assert_memory_equal(a->logits, b->logits, a->k * a->k * sizeof *a->logits);
    assert_memory_equal(a->scores, b->scores, a->k * sizeof *a->scores);
}

/* ---- PairRM ---- */

static const char UNIGRAM[] =
    "{\"added_tokens\": [{\"id\": 1, \"content\": \"[CLS]\", \"special\": true, \"single_word\": "
    "false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false}, {\"id\": 2, \"content\": "
    "\"[SEP]\", \"special\": true, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
    "\"normalized\": false}], \"normalizer\": null, \"pre_tokenizer\": {\"type\": \"Metaspace\", "
    "\"replacement\": \"\\u2581\", \"prepend_scheme\": \"always\"}, \"post_processor\": null, "
    "\"decoder\": {\"type\": \"Metaspace\", \"replacement\": \"\\u2581\", \"prepend_scheme\": "
    "\"always\"}, \"model\": {\"type\": \"Unigram\", \"unk_id\": 3, \"vocab\": [[\"[PAD]\", 0], "
    "[\"[CLS]\", 0], [\"[SEP]\", 0], [\"[UNK]\", 0], [\"\\u2581\", -2], [\"\\u2581the\", -3], "
    "[\"\\u2581a\", -3.5], [\"cat\", -4], [\"\\u2581dog\", -4], [\"s\", -5]]}}";

static void pairrm_reads_text(void **state) {
    (void)state;
    link_file("golden/arch/pairrm", "config.json");
    link_file("golden/arch/pairrm", "model.safetensors");
    write_file("tokenizer.json", UNIGRAM);
    spar_judgement ids =
        judge_row("pairrm", json_pack("{s:[i,i,i], s:[[i,i,i], [i,i,i,i], [i]]}", "prompt_ids", 5,
                                      8, 9, "responses_ids", 6, 4, 7, 5, 4, 7, 9, 8));
    spar_judgement text = judge_row("pairrm", json_pack("{s:s, s:[s, s, s]}", "prompt", "the dogs",
                                                        "responses", "a cat", "the cats", "dog"));
    same(&ids, &text);
    assert_true(fabs(ids.logits[1]) > 1e-3);
    spar_judgement_release(&text);
    /* as messages, of which there is one */
    text = judge_row("pairrm",
                     json_pack("{s:[{s:s, s:s}], s:[s, s, s]}", "prompt", "role", "user", "content",
                               "the dogs", "responses", "a cat", "the cats", "dog"));
    same(&ids, &text);
    spar_judgement_release(&text);
    spar_judgement_release(&ids);
}

/* A source beyond 1224 tokens is cut there with its special ones, and each candidate at half of
 * what it leaves of 2048. */
static void pairrm_cuts_text(void **state) {
    (void)state;
    char longer[2][8000] = {"", ""};
    char exact[2][8000] = {"", ""};
    copy_config("golden/arch/pairrm", json_pack("{s:i}", "max_position_embeddings", 2048));
    link_file("golden/arch/pairrm", "model.safetensors");
    write_file("tokenizer.json", UNIGRAM);
    for (int i = 0; i < 1300; i++) {
        strcat(longer[0], " dog");
        strcat(exact[0], i < 1224 - 3 ? " dog" : "");
        strcat(longer[1], i < 500 ? " the" : "");
        strcat(exact[1], i < (2048 - 1224) / 2 - 3 ? " the" : "");
    }
    /* Metaspace puts one space in front */
    spar_judgement a = judge_row("pairrm", json_pack("{s:s, s:[s, s]}", "prompt", longer[0] + 1,
                                                     "responses", longer[1] + 1, "a cat"));
    spar_judgement b = judge_row("pairrm", json_pack("{s:s, s:[s, s]}", "prompt", exact[0] + 1,
                                                     "responses", exact[1] + 1, "a cat"));
    same(&a, &b);
    spar_judgement_release(&a);
    spar_judgement_release(&b);
}

/* ---- encoders ---- */

static double encoder_score(const int32_t *ids, size_t n, size_t second) {
    sp_encoder *e;
    spar_error err;
    float score;
    const sp_token_row row = {.ids = ids, .n = n, .second = second};
    check(sp_encoder_load(&e, dir, &MODEL, &err), &err);
    check(sp_encoder_scores(e, &row, 1, &score, &err), &err);
    sp_encoder_free(e);
    return (double)score;
}

static void bert_reads_text(void **state) {
    (void)state;
    static const int32_t first[] = {2, 4, 8, 6, 3, 7, 5, 3}, second[] = {2, 4, 8, 6, 3, 4, 5, 6, 3};
    copy_config("golden/arch/bert",
                json_pack("{s:{s:s}, s:i}", "id2label", "0", "x", "num_labels", 1));
    copy_tensors("golden/arch/bert", "classifier.", NULL, 0);
    write_file("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\ncat\n##s\na\ndog\n");
    write_file("tokenizer_config.json",
               "{\"tokenizer_class\": \"BertTokenizer\", \"do_lower_case\": true}");
    spar_judgement j = judge_row("reward", json_pack("{s:s, s:[s, s]}", "prompt", "The dogs",
                                                     "responses", "a cat", "the cats"));
    const double a = encoder_score(first, 8, 5), b = encoder_score(second, 9, 5);
    assert_true(fabs(j.scores[0] - a) < 1e-5 && fabs(j.scores[1] - b) < 1e-5);
    assert_true(fabs(a - encoder_score(first, 8, 0)) > 1e-4); /* the types count */
    assert_true(fabs(j.p[1] - 1 / (1 + exp(b - a))) < 1e-6);
    spar_judgement_release(&j);
}

static void deberta_reads_text(void **state) {
    (void)state;
    static const int32_t first[] = {1, 5, 8, 9, 2, 6, 4, 7, 2};
    copy_config("golden/arch/deberta-v2",
                json_pack("{s:{s:s}, s:i}", "id2label", "0", "x", "num_labels", 1));
    copy_tensors("golden/arch/deberta-v2", "classifier.", NULL, 0);
    write_file("tokenizer.json", UNIGRAM);
    spar_judgement j =
        judge_row("reward", json_pack("{s:s, s:[s]}", "prompt", "the dogs", "responses", "a cat"));
    assert_true(fabs(j.scores[0] - encoder_score(first, 9, 0)) < 1e-5);
    spar_judgement_release(&j);
}

/* Two separators between the texts, and no types. */
static void roberta_reads_text(void **state) {
    (void)state;
    static const int32_t first[] = {0, 4, 5, 2, 2, 6, 2};
    static const char from[] = SPAR_SOURCE_DIR "/tests/golden/encoders/roberta";
    copy_config(from, json_pack("{s:{s:s}, s:i}", "id2label", "0", "x", "num_labels", 1));
    copy_tensors(from, "classifier.out_proj.", NULL, 0);
    write_file("tokenizer.json",
               "{\"added_tokens\": [], \"normalizer\": null, \"pre_tokenizer\": {\"type\": "
               "\"Whitespace\"}, \"post_processor\": null, \"decoder\": null, \"model\": "
               "{\"type\": \"WordLevel\", \"unk_token\": \"<unk>\", \"vocab\": {\"<s>\": 0, "
               "\"<pad>\": 1, \"</s>\": 2, \"<unk>\": 3, \"the\": 4, \"dog\": 5, \"cat\": 6}}}");
    spar_judgement j =
        judge_row("reward", json_pack("{s:s, s:[s]}", "prompt", "the dog", "responses", "cat"));
    assert_true(fabs(j.scores[0] - encoder_score(first, 7, 0)) < 1e-5);
    spar_judgement_release(&j);
}

/* ---- general preference models ---- */

static float head[4 * HIDDEN], prompt_head[2 * HIDDEN];

static void make_preference(bool planes) {
    for (int i = 0; i < 4 * HIDDEN; i++) {
        head[i] = 0.05F * (float)((i * 37) % 23 - 11);
    }
    for (int i = 0; i < 2 * HIDDEN; i++) {
        prompt_head[i] = 0.05F * (float)((i * 29) % 19 - 9);
    }
    const sp_tensor_entry more[] = {{.name = "value_head.weight",
                                     .dtype = SP_F32,
                                     .n_dims = 2,
                                     .dims = {4, HIDDEN},
                                     .data = head,
                                     .n_bytes = sizeof head},
                                    {.name = "prompt_head.weight",
                                     .dtype = SP_F32,
                                     .n_dims = 2,
                                     .dims = {2, HIDDEN},
                                     .data = prompt_head,
                                     .n_bytes = sizeof prompt_head}};
    copy_config("models/stories260K/hf",
                json_pack("{s:[s]}", "architectures", "CustomRewardModel"));
    copy_tensors("models/stories260K/hf", NULL, more, planes ? 2 : 1);
    link_file("models/stories260K/hf", "tokenizer.json");
    write_file("chat_template.jinja", "{% for m in messages %}{{ m.content }}\n{% endfor %}");
}

/* The head's raw outputs at the last token of a text with <s> in front and </s> at its end. */
static void raw_outputs(const char *text, bool end, float *out, int64_t n) {
    sp_reward *r;
    spar_error err;
    int32_t *ids;
    size_t n_ids;
    check(sp_reward_load(&r, dir, &MODEL, &err), &err);
    assert_int_equal(sp_reward_labels(r), n);
    check(spar_tokenizer_encode(spar_model_tokenizer(sp_reward_model(r)), text, strlen(text), 0,
                                &ids, &n_ids, &err),
          &err);
    assert_int_equal(ids[0], 1);
    ids[n_ids - 1] = end ? 2 : ids[n_ids - 1];
    const int64_t last = (int64_t)n_ids - 1;
    check(sp_reward_scores_at(r, &(sp_token_row){.ids = ids, .n = n_ids}, &last, 1, out, &err),
          &err);
    free(ids);
    sp_reward_free(r);
}

static double plane(const float *a, const float *b) {
    return (double)a[0] * (double)b[1] - (double)a[1] * (double)b[0];
}

static double norm(const float *v) {
    double square = 0;
    for (int i = 0; i < 4; i++) {
        square += (double)v[i] * (double)v[i];
    }
    return sqrt(square);
}

static void check_preference(const double weights[2]) {
    static const char *const texts[] = {"Q\na dog\n", "Q\nthe sun\n", "Q\nno\n"};
    float v[3][4];
    for (int i = 0; i < 3; i++) {
        raw_outputs(texts[i], true, v[i], 4);
    }
    spar_judgement j = judge_row("preference", json_pack("{s:s, s:[s, s, s]}", "prompt", "Q",
                                                         "responses", "a dog", "the sun", "no"));
    for (int cell = 0; cell < 9; cell++) {
        const float *a = v[cell / 3], *b = v[cell % 3];
        const double want =
            (weights[0] * plane(a, b) + weights[1] * plane(a + 2, b + 2)) / norm(a) / norm(b) / 0.1;
        assert_true(fabs(j.logits[cell] - want) < 1e-4);
        assert_true(fabs(j.p[cell] - 1 / (1 + exp(-want))) < 1e-4);
    }
    assert_true(fabs(j.logits[1]) > 1e-2);
    spar_judgement_release(&j);
}

static void preferences_are_antisymmetric(void **state) {
    (void)state;
    make_preference(false);
    check_preference((double[]){1, 1});
}

static void planes_are_weighed(void **state) {
    (void)state;
    float logits[2];
    /* the prompt's head as a head of its own, at the end of "Q\n" */
    const sp_tensor_entry alone = {.name = "score.weight",
                                   .dtype = SP_F32,
                                   .n_dims = 2,
                                   .dims = {2, HIDDEN},
                                   .data = prompt_head,
                                   .n_bytes = sizeof prompt_head};
    make_preference(true);
    char kept[TEST_PATH_MAX];
    snprintf(kept, sizeof kept, "%s", dir);
    test_temp_dir(dir);
    copy_config("models/stories260K/hf",
                json_pack("{s:[s]}", "architectures", "LlamaForTokenClassification"));
    copy_tensors("models/stories260K/hf", NULL, &alone, 1);
    link_file("models/stories260K/hf", "tokenizer.json");
    raw_outputs("Q\n", false, logits, 2);
    assert_int_equal(remove_dir(NULL), 0);
    snprintf(dir, sizeof dir, "%s", kept);
    const double first = 1 / (1 + exp((double)logits[1] - (double)logits[0]));
    assert_true(fabs(first - 0.5) > 1e-3);
    check_preference((double[]){first, 1 - first});
}

static void other_heads_are_refused(void **state) {
    (void)state;
    char spec[TEST_PATH_MAX];
    spar_error err;
    spar_judge *judge;
    snprintf(spec, sizeof spec, "preference:%s", test_shared_or_skip("golden/arch/llama-reward"));
    assert_int_equal(spar_judge_open(&judge, spec, &OPTIONS, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "expected a value_head with an even number of outputs"));
    assert_int_equal(spar_judge_open(&judge, "preference", &OPTIONS, &err), SPAR_INVALID);
}

/* ---- ensembles ---- */

static void ensembles_average(void **state) {
    (void)state;
    spar_error err;
    spar_judge *judge;
    spar_judgement j;
    json_t *row =
        json_pack("{s:[s, s, s], s:s}", "responses", "A", "yes A", "no", "reference", "A");
    check(spar_judge_open(&judge, "ensemble:3*verifier:exact;verifier:choice", &OPTIONS, &err),
          &err);
    check(spar_judge_row(judge, row, &j, &err), &err);
    /* exact: the first alone is right; choice: the first two */
    static const double want[] = {0.5, 0.75 + 0.125, 1, 0.125, 0.5, 0.375 + 0.25, 0, 0.375, 0.5};
    for (int i = 0; i < 9; i++) {
        assert_true(fabs(j.p[i] - want[i]) < 1e-12);
    }
    assert_true(j.best == 0 && j.worst == 2);
    json_t *provenance;
    check(spar_judge_provenance(judge, &provenance, &err), &err);
    assert_int_equal(json_array_size(json_object_get(provenance, "members")), 2);
    json_decref(provenance);
    spar_judgement_release(&j);
    spar_judge_free(judge);
    json_decref(row);
    assert_int_equal(spar_judge_open(&judge, "ensemble:0*verifier:exact", &OPTIONS, &err),
                     SPAR_INVALID);
    assert_int_equal(spar_judge_open(&judge, "ensemble:ensemble:verifier:exact", &OPTIONS, &err),
                     SPAR_INVALID);
    assert_int_equal(spar_judge_open(&judge, "ensemble:verifier:exact;", &OPTIONS, &err),
                     SPAR_NOT_FOUND);
}

int main(void) {
#define ROW(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        ROW(pairrm_reads_text),  ROW(pairrm_cuts_text),        ROW(bert_reads_text),
        ROW(deberta_reads_text), ROW(roberta_reads_text),      ROW(preferences_are_antisymmetric),
        ROW(planes_are_weighed), ROW(other_heads_are_refused), ROW(ensembles_average)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
