/* Every setting of the encoder families that is honoured, on tiny models with the scores of
 * transformers (tools/make_encoder_fixtures.py); files that do not fit their configuration; want of
 * memory. */
#include "encoder_fixture.h"

#include "base/file.h"
#include "base/mem.h"

static const char *const variants[] = {
    "bert-pair",          "roberta",          "xlm-roberta",
    "deberta-v3",         "deberta-own-keys", "deberta-distances",
    "deberta-absolute",   "deberta-plain",    "deberta-small-embedding",
    "deberta-convolution"};

enum { VARIANTS = sizeof variants / sizeof variants[0], LABELS = 2 };

static const char *folder_of(const char *variant) {
    static char path[600];
    snprintf(path, sizeof path, "%s/tests/golden/encoders/%s", SPAR_SOURCE_DIR, variant);
    return path;
}

static json_t *load_json(const char *dir, const char *name) {
    spar_error err;
    json_t *root;
    char path[TEST_PATH_MAX];
    check_ok(sp_json_load(&root, test_path(path, dir, name), &err), &err);
    return root;
}

static double check_case(sp_encoder *e, const json_t *item) {
    spar_error err;
    int32_t ids[FIXTURE_TOKENS];
    float scores[LABELS];
    double worst = 0;
    sp_token_row row = ids_of(json_object_get(item, "ids"), ids);
    row.second = (size_t)json_integer_value(json_object_get(item, "second"));
    check_ok(sp_encoder_scores(e, &row, 1, scores, &err), &err);
    for (size_t l = 0; l < LABELS; l++) {
        const json_t *want = json_array_get(json_object_get(item, "scores"), l);
        worst = fmax(worst, fabs(json_number_value(want) - (double)scores[l]));
    }
    return worst;
}

static void run_variants(bool reference) {
    spar_error err;
    for (size_t v = 0; v < VARIANTS; v++) {
        const spar_model_options options = {.threads = 2, .reference = reference};
        sp_encoder *e;
        check_ok(sp_encoder_load(&e, folder_of(variants[v]), &options, &err), &err);
        assert_int_equal(sp_encoder_labels(e), LABELS);
        json_t *cases = load_json(folder_of(variants[v]), "io.json");
        assert_int_equal(json_array_size(cases), 3);
        for (size_t i = 0; i < json_array_size(cases); i++) {
            const double worst = check_case(e, json_array_get(cases, i));
            if (!(worst <= 2e-5)) {
                fail_msg("%s case %zu: off by %.2e", variants[v], i, worst);
            }
        }
        json_decref(cases);
        sp_encoder_free(e);
    }
}

static void test_variants(void **state) {
    (void)state;
    run_variants(true);
    run_variants(false);
}

/* A folder with the tensors of a variant and its configuration with one member changed. */
static spar_status load_changed(const char *variant, const char *key, json_t *value,
                                spar_error *err) {
    char dir[TEST_PATH_MAX], path[TEST_PATH_MAX], target[TEST_PATH_MAX];
    spar_error ignored;
    sp_encoder *e;
    json_t *config = load_json(folder_of(variant), "config.json");
    json_object_set_new(config, key, value);
    test_temp_dir(dir);
    check_ok(sp_json_save(config, test_path(path, dir, "config.json"), err), err);
    test_path(target, folder_of(variant), "model.safetensors");
    assert_int_equal(symlink(target, test_path(path, dir, "model.safetensors")), 0);
    const spar_status status = sp_encoder_load(&e, dir, NULL, err);
    if (status == SPAR_OK) {
        sp_encoder_free(e);
    }
    json_decref(config);
    check_ok(sp_dir_remove(dir, &ignored), &ignored);
    return status;
}

static void test_files_that_do_not_fit(void **state) {
    (void)state;
    const struct {
        const char *key;
        json_t *value;
        spar_status status;
        const char *names;
    } cases[] = {
        {"num_hidden_layers", json_integer(3), SPAR_NOT_FOUND, "encoder.layer.2."},
        {"num_hidden_layers", json_integer(500), SPAR_NOT_FOUND, "encoder.layer.2."},
        {"intermediate_size", json_integer(4000000), SPAR_MISMATCH, "intermediate.dense.weight"},
        {"vocab_size", json_integer(25), SPAR_MISMATCH, "word_embeddings"},
        {"position_buckets", json_integer(16), SPAR_MISMATCH, "rel_embeddings"},
        {"share_att_key", json_false(), SPAR_NOT_FOUND, "pos_key_proj"},
        {"position_biased_input", json_true(), SPAR_NOT_FOUND, "position_embeddings"},
        {"conv_kernel_size", json_integer(3), SPAR_NOT_FOUND, "encoder.conv.conv.weight"},
        {"architectures", json_pack("[s]", "DebertaV2PairRM"), SPAR_FORMAT, "source_prefix_id"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        spar_error err = {0};
        const spar_status status = load_changed("deberta-v3", cases[i].key, cases[i].value, &err);
        if (status != cases[i].status || !strstr(err.message, cases[i].names)) {
            fail_msg("%s: %s, %s", cases[i].key, spar_status_name(status), err.message);
        }
    }
    spar_error err;
    sp_encoder *e;
    assert_int_equal(sp_encoder_load(&e, "/nowhere", NULL, &err), SPAR_NOT_FOUND);
    assert_int_equal(sp_encoder_load(&e, folder_of("roberta"),
                                     &(spar_model_options){.dtype = SPAR_DTYPE_INT8}, &err),
                     SPAR_UNSUPPORTED);
}

/* Older BERT files call the two vectors of a layer norm gamma and beta. */
static void test_old_norm_names(void **state) {
    (void)state;
    enum { MAX_TENSORS = 80 };
    spar_error err;
    sp_safetensors *file;
    sp_tensor_entry entries[MAX_TENSORS];
    char names[MAX_TENSORS][128], dir[TEST_PATH_MAX], path[TEST_PATH_MAX];
    check_ok(sp_safetensors_open(&file, folder_of("bert-pair"), &err), &err);
    const size_t n = sp_safetensors_count(file);
    assert_true(n <= MAX_TENSORS);
    for (size_t i = 0; i < n; i++) {
        entries[i] = *sp_safetensors_at(file, i);
        snprintf(names[i], sizeof names[i], "%s", entries[i].name);
        char *norm = strstr(names[i], "LayerNorm.");
        if (norm) {
            norm += strlen("LayerNorm.");
            snprintf(norm, 8, "%s", strcmp(norm, "weight") == 0 ? "gamma" : "beta");
        }
        entries[i].name = names[i];
    }
    test_temp_dir(dir);
    check_ok(sp_safetensors_write_sharded(dir, entries, n, NULL, UINT64_MAX, &err), &err);
    sp_safetensors_free(file);
    json_t *config = load_json(folder_of("bert-pair"), "config.json");
    check_ok(sp_json_save(config, test_path(path, dir, "config.json"), &err), &err);
    json_t *cases = load_json(folder_of("bert-pair"), "io.json");
    sp_encoder *e;
    check_ok(sp_encoder_load(&e, dir, NULL, &err), &err);
    assert_true(check_case(e, json_array_get(cases, 1)) <= 2e-5);
    sp_encoder_free(e);
    json_decref(cases);
    json_decref(config);
    check_ok(sp_dir_remove(dir, &err), &err);
}

static spar_status load_and_score(spar_error *err) {
    const int32_t ids[] = {2, 3, 4, 5};
    float scores[LABELS];
    sp_encoder *e = NULL;
    spar_status status = sp_encoder_load(&e, folder_of("deberta-v3"), NULL, err);
    if (status == SPAR_OK) {
        status = sp_encoder_scores(e, &(sp_token_row){ids, 4, 0}, 1, scores, err);
    }
    sp_encoder_free(e);
    return status;
}

static void test_no_memory(void **state) {
    (void)state;
    spar_error err;
    spar_status status = SPAR_NO_MEMORY;
    long k = 0;
    while (status != SPAR_OK && k < 10000) {
        sp_mem_fail_at(++k);
        status = load_and_score(&err);
        sp_mem_fail_at(0);
        if (status != SPAR_OK) {
            assert_int_equal(status, SPAR_NO_MEMORY);
        }
    }
    assert_int_equal(status, SPAR_OK);
    assert_true(k > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants),
        cmocka_unit_test(test_files_that_do_not_fit),
        cmocka_unit_test(test_old_norm_names),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
