/* Scores of a tiny random reward model on a decoder against Hugging Face transformers in double
 * precision (shared/golden/arch/llama-reward), heads of two layers, and bad rows. */
#include "encoder_fixture.h"

#include "base/file.h"
#include "base/mem.h"
#include "model/reward.h"

enum { HIDDEN = 64 };

static void run_golden(spar_model_options options, double bound) {
    spar_error err;
    row_fixture f = {0};
    sp_reward *r;
    float scores[FIXTURE_ROWS], alone;
    open_rows(&f, "llama-reward");
    check_ok(sp_reward_load(&r, f.dir, &options, &err), &err);
    assert_int_equal(sp_reward_labels(r), 1);
    check_ok(sp_reward_scores(r, f.rows, f.n, scores, &err), &err);
    for (size_t i = 0; i < f.n; i++) {
        const double d = row_difference(&f, "scores", i, &scores[i], 1);
        print_message("row %zu: %.2e\n", i, d);
        assert_true(d <= bound);
        const int64_t last = (int64_t)f.rows[i].n - 1;
        check_ok(sp_reward_scores_at(r, &f.rows[i], &last, 1, &alone, &err), &err);
        assert_true(fabs((double)alone - (double)scores[i]) <= bound);
    }
    sp_reward_free(r);
    close_rows(&f);
}

static void test_golden(void **state) {
    (void)state;
    run_golden((spar_model_options){.dtype = SPAR_DTYPE_F32, .threads = 2, .reference = true},
               1e-4);
    run_golden((spar_model_options){.dtype = SPAR_DTYPE_F32, .threads = 2}, 1e-4);
}

static void test_bf16(void **state) {
    (void)state;
    run_golden((spar_model_options){.dtype = SPAR_DTYPE_BF16, .threads = 2}, 0.1);
}

/* Padding behind a row is not read: the score is that of the row without it. */
static void test_padding(void **state) {
    (void)state;
    spar_error err;
    row_fixture f = {0};
    sp_reward *r;
    float scores[2];
    open_rows(&f, "llama-reward");
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32};
    check_ok(sp_reward_load(&r, f.dir, &options, &err), &err);
    sp_token_row rows[] = {f.rows[0], f.rows[0]};
    assert_true(f.ids[0][rows[1].n - 1] != 0);
    f.ids[0][rows[1].n++] = 0;
    f.ids[0][rows[1].n++] = 0;
    check_ok(sp_reward_scores(r, rows, 2, scores, &err), &err);
    assert_true(fabs((double)scores[0] - (double)scores[1]) <= 1e-5);
    sp_reward_free(r);
    close_rows(&f);
}

/* A decoder sees no later token: the score at a token is that of the row that ends there. */
static void test_steps(void **state) {
    (void)state;
    enum { STEPS = 3 };
    static const int64_t tokens[STEPS] = {16, 0, 7}; /* in any order */
    spar_error err;
    row_fixture f = {0};
    sp_reward *r;
    sp_token_row rows[STEPS];
    float steps[STEPS], ends[STEPS];
    open_rows(&f, "llama-reward");
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    check_ok(sp_reward_load(&r, f.dir, &options, &err), &err);
    for (int i = 0; i < STEPS; i++) {
        rows[i] = f.rows[1];
        rows[i].n = (size_t)tokens[i] + 1;
    }
    check_ok(sp_reward_scores_at(r, &f.rows[1], tokens, STEPS, steps, &err), &err);
    check_ok(sp_reward_scores(r, rows, STEPS, ends, &err), &err);
    for (int i = 0; i < STEPS; i++) {
        assert_true(fabs((double)steps[i] - (double)ends[i]) <= 1e-5);
    }
    assert_true(fabs((double)steps[0] - (double)steps[1]) > 1e-2);
    sp_reward_free(r);
    close_rows(&f);
}

static spar_status load_and_score(const row_fixture *f, spar_error *err) {
    float scores[FIXTURE_ROWS];
    sp_reward *r = NULL;
    spar_status status = sp_reward_load(&r, f->dir, NULL, err);
    if (status == SPAR_OK) {
        status = sp_reward_scores(r, f->rows, f->n, scores, err);
    }
    sp_reward_free(r);
    return status;
}

static void test_no_memory(void **state) {
    (void)state;
    spar_error err;
    row_fixture f = {0};
    spar_status status = SPAR_NO_MEMORY;
    open_rows(&f, "llama-reward");
    long k = 0;
    while (status != SPAR_OK && k < 10000) {
        sp_mem_fail_at(++k);
        status = load_and_score(&f, &err);
        sp_mem_fail_at(0);
        assert_true(status == SPAR_OK || status == SPAR_NO_MEMORY);
    }
    assert_int_equal(status, SPAR_OK);
    assert_true(k > 10);
    close_rows(&f);
}

static void copy_config(const char *from, const char *to, const char *class_name) {
    spar_error err;
    char path[600];
    json_t *config;
    snprintf(path, sizeof path, "%s/config.json", from);
    check_ok(sp_json_load(&config, path, &err), &err);
    json_object_set_new(config, "architectures", json_pack("[s]", class_name));
    snprintf(path, sizeof path, "%s/config.json", to);
    check_ok(sp_json_save(config, path, &err), &err);
    json_decref(config);
}

/* score.0 = [I; -I], score.2 = [w, -w] and a bias: relu(x) w - relu(-x) w is the same score. */
static void write_two_layers(const char *from, const char *to) {
    enum { MAX_TENSORS = 64 };
    static float first[2 * HIDDEN * HIDDEN], last[2 * HIDDEN];
    const float bias = 0.5F;
    spar_error err;
    sp_safetensors *file;
    sp_tensor_entry entries[MAX_TENSORS];
    size_t n = 0;
    check_ok(sp_safetensors_open(&file, from, &err), &err);
    assert_true(sp_safetensors_count(file) + 2 <= MAX_TENSORS);
    for (size_t i = 0; i < sp_safetensors_count(file); i++) {
        const sp_tensor_entry *e = sp_safetensors_at(file, i);
        if (strcmp(e->name, "score.weight") == 0) {
            memcpy(last, e->data, HIDDEN * sizeof *last);
        } else {
            entries[n++] = *e;
        }
    }
    for (int i = 0; i < HIDDEN; i++) {
        first[i * HIDDEN + i] = 1;
        first[(HIDDEN + i) * HIDDEN + i] = -1;
        last[HIDDEN + i] = -last[i];
    }
    entries[n++] = (sp_tensor_entry){.name = "score.0.weight",
                                     .dtype = SP_F32,
                                     .n_dims = 2,
                                     .dims = {2 * HIDDEN, HIDDEN},
                                     .data = first,
                                     .n_bytes = sizeof first};
    entries[n++] = (sp_tensor_entry){.name = "score.2.weight",
                                     .dtype = SP_F32,
                                     .n_dims = 2,
                                     .dims = {1, 2 * HIDDEN},
                                     .data = last,
                                     .n_bytes = sizeof last};
    entries[n++] = (sp_tensor_entry){.name = "score.2.bias",
                                     .dtype = SP_F32,
                                     .n_dims = 1,
                                     .dims = {1},
                                     .data = &bias,
                                     .n_bytes = sizeof bias};
    check_ok(sp_safetensors_write_sharded(to, entries, n, NULL, UINT64_MAX, &err), &err);
    sp_safetensors_free(file);
}

static void test_two_layers(void **state) {
    (void)state;
    spar_error err;
    row_fixture f = {0};
    sp_reward *r;
    char dir[TEST_PATH_MAX];
    float scores[FIXTURE_ROWS];
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 2};
    open_rows(&f, "llama-reward");
    test_temp_dir(dir);
    copy_config(f.dir, dir, "LlamaForRewardModel");
    write_two_layers(f.dir, dir);
    check_ok(sp_reward_load(&r, dir, &options, &err), &err);
    check_ok(sp_reward_scores(r, f.rows, f.n, scores, &err), &err);
    for (size_t i = 0; i < f.n; i++) {
        scores[i] -= 0.5F;
        assert_true(row_difference(&f, "scores", i, &scores[i], 1) <= 1e-4);
    }
    sp_reward_free(r);
    copy_config(f.dir, dir, "LlamaForCausalLM");
    assert_int_equal(sp_reward_load(&r, dir, &options, &err), SPAR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "LlamaForCausalLM"));
    copy_config(f.dir, dir, "MistralForSequenceClassification");
    assert_int_equal(sp_reward_load(&r, dir, &options, &err), SPAR_UNSUPPORTED);
    check_ok(sp_dir_remove(dir, &err), &err);
    close_rows(&f);
}

static void test_errors(void **state) {
    (void)state;
    spar_error err;
    row_fixture f = {0};
    sp_reward *r;
    float scores[2];
    int32_t ids[300] = {0};
    int64_t token = 5;
    open_rows(&f, "llama-reward");
    check_ok(sp_reward_load(&r, f.dir, NULL, &err), &err);
    assert_int_equal(sp_reward_scores(r, &(sp_token_row){ids, 0, 0}, 1, scores, &err),
                     SPAR_INVALID);
    assert_int_equal(sp_reward_scores(r, &(sp_token_row){ids, 257, 0}, 1, scores, &err),
                     SPAR_LIMIT);
    assert_int_equal(sp_reward_scores_at(r, &(sp_token_row){ids, 5, 0}, &token, 1, scores, &err),
                     SPAR_INVALID);
    ids[1] = -1;
    assert_int_equal(sp_reward_scores(r, (sp_token_row[]){f.rows[0], {ids, 5, 0}}, 2, scores, &err),
                     SPAR_INVALID);
    assert_non_null(strstr(err.message, "row 1"));
    sp_reward_free(r);
    assert_int_equal(sp_reward_load(&r, test_shared("golden/arch/llama"), NULL, &err),
                     SPAR_UNSUPPORTED);
    close_rows(&f);
}

int main(void) {
    if (!test_shared("golden/arch/llama-reward")) {
        TEST_SKIP("the shared folder with golden/arch/llama-reward is missing");
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),    cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_padding),   cmocka_unit_test(test_two_layers),
        cmocka_unit_test(test_errors),    cmocka_unit_test(test_steps),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
