/* Hidden states and scores of tiny random encoders against Hugging Face transformers in double
 * precision (shared/golden/arch), and what a bad configuration or row is told. */
#include "encoder_fixture.h"

#include "model/encoder_config.h"

static const char *const families[] = {"bert", "deberta-v2"};
enum { HIDDEN = 64 };

static void run_family(const char *family, spar_model_options options, double bound) {
    spar_error err;
    row_fixture f = {0};
    sp_encoder *e;
    float hidden[FIXTURE_TOKENS * HIDDEN], scores[FIXTURE_ROWS * 4], alone[4];
    open_rows(&f, family);
    check_ok(sp_encoder_load(&e, f.dir, &options, &err), &err);
    assert_int_equal(sp_encoder_hidden_size(e), HIDDEN);
    assert_false(sp_encoder_compares(e));
    const size_t labels = (size_t)sp_encoder_labels(e);
    assert_true(labels <= 4);
    check_ok(sp_encoder_scores(e, f.rows, f.n, scores, &err), &err);
    for (size_t i = 0; i < f.n; i++) {
        check_ok(sp_encoder_hidden(e, &f.rows[i], hidden, &err), &err);
        const double h = row_difference(&f, "hidden", i, hidden, f.rows[i].n * HIDDEN);
        const double s = row_difference(&f, "scores", i, scores + i * labels, labels);
        print_message("%s row %zu: hidden %.2e scores %.2e\n", family, i, h, s);
        assert_true(h <= bound);
        assert_true(s <= bound);
        /* Packed with others or alone: the same but for rounding. */
        check_ok(sp_encoder_scores(e, &f.rows[i], 1, alone, &err), &err);
        for (size_t l = 0; l < labels; l++) {
            assert_true(fabs((double)alone[l] - (double)scores[i * labels + l]) <= bound);
        }
    }
    sp_encoder_free(e);
    close_rows(&f);
}

static void test_golden(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        run_family(families[i], (spar_model_options){.threads = 2, .reference = true}, 1e-4);
        run_family(families[i], (spar_model_options){.threads = 2}, 1e-4);
    }
}

/* bf16 rounds operands to 8 bits: the same computation, coarsely. */
static void test_bf16(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        run_family(families[i], (spar_model_options){.dtype = SPAR_DTYPE_BF16, .threads = 2}, 0.15);
    }
}

static void test_thread_count(void **state) {
    (void)state;
    spar_error err;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        row_fixture f = {0};
        float scores[2][FIXTURE_ROWS * 4] = {{0}};
        open_rows(&f, families[i]);
        for (int t = 0; t < 2; t++) {
            sp_encoder *e;
            const spar_model_options options = {.threads = 1 + 2 * t};
            check_ok(sp_encoder_load(&e, f.dir, &options, &err), &err);
            check_ok(sp_encoder_scores(e, f.rows, f.n, scores[t], &err), &err);
            sp_encoder_free(e);
        }
        assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
        close_rows(&f);
    }
}

static void test_bad_rows(void **state) {
    (void)state;
    spar_error err;
    row_fixture f = {0};
    sp_encoder *e;
    float scores[4];
    int32_t ids[200] = {0};
    open_rows(&f, "bert");
    check_ok(sp_encoder_load(&e, f.dir, NULL, &err), &err);
    assert_int_equal(sp_encoder_context(e), 128);
    assert_int_equal(sp_encoder_scores(e, &(sp_token_row){ids, 0, 0}, 1, scores, &err),
                     SPAR_INVALID);
    assert_int_equal(sp_encoder_scores(e, &(sp_token_row){ids, 129, 0}, 1, scores, &err),
                     SPAR_LIMIT);
    assert_int_equal(sp_encoder_scores(e, &(sp_token_row){ids, 128, 0}, 1, scores, &err), SPAR_OK);
    ids[3] = 320;
    assert_int_equal(sp_encoder_scores(e, &(sp_token_row){ids, 5, 0}, 1, scores, &err),
                     SPAR_INVALID);
    assert_non_null(strstr(err.message, "token 3"));
    assert_int_equal(sp_pairrm_compare(e, f.rows, f.rows, 1, scores, &err), SPAR_INVALID);
    sp_encoder_free(e);
    close_rows(&f);
}

/* A configuration that differs from `base` in one member. */
static spar_status read_changed(const json_t *base, const char *key, json_t *value,
                                sp_encoder_config *out, spar_error *err) {
    json_t *config = json_deep_copy(base);
    json_object_set_new(config, key, value);
    const spar_status status = sp_encoder_config_read(out, config, "config.json", err);
    json_decref(config);
    return status;
}

static json_t *small_deberta(void) {
    return json_pack(
        "{s:s, s:[s], s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:i, s:s, s:b, s:b}", "model_type",
        "deberta-v2", "architectures", "DebertaV2ForSequenceClassification", "vocab_size", 320,
        "hidden_size", 64, "intermediate_size", 112, "num_hidden_layers", 3, "num_attention_heads",
        4, "max_position_embeddings", 512, "relative_attention", 1, "position_buckets", 256,
        "pos_att_type", "p2c|c2p", "share_att_key", 1, "position_biased_input", 0);
}

static void test_refused(void **state) {
    (void)state;
    spar_error err;
    sp_encoder_config c;
    json_t *base = small_deberta();
    const struct {
        const char *key;
        json_t *value;
        spar_status status;
    } cases[] = {
        {"conv_kernel_size", json_integer(4), SPAR_UNSUPPORTED},
        {"model_type", json_string("electra"), SPAR_UNSUPPORTED},
        {"architectures", json_pack("[s]", "DebertaV2ForMaskedLM"), SPAR_UNSUPPORTED},
        {"hidden_act", json_string("silu"), SPAR_UNSUPPORTED},
        {"num_attention_heads", json_integer(5), SPAR_FORMAT},
        {"position_buckets", json_integer(2), SPAR_FORMAT},
        {"max_relative_positions", json_integer(100), SPAR_FORMAT},
        {"hidden_size", json_integer(-1), SPAR_FORMAT},
        {"layer_norm_eps", json_real(-1), SPAR_FORMAT},
        {"talking_heads", json_true(), SPAR_UNSUPPORTED},
        {"pooler_hidden_size", json_integer(32), SPAR_UNSUPPORTED},
        {"pooler_hidden_size", json_integer(64), SPAR_OK},
        {"talking_heads", json_false(), SPAR_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const spar_status status = read_changed(base, cases[i].key, cases[i].value, &c, &err);
        if (status != cases[i].status) {
            fail_msg("%s: status %s", cases[i].key, spar_status_name(status));
        }
        assert_true(status == SPAR_OK || strstr(err.message, "config.json"));
    }
    assert_int_equal(sp_encoder_config_read(&c, base, "config.json", &err), SPAR_OK);
    assert_true(c.c2p && c.p2c && c.shared && !c.absolute);
    json_decref(base);
}

/* Buckets of DeBERTa-v3 (256 buckets to 512): one by one up to 128, then by the logarithm, odd in
 * the distance, never falling, clamped to the table. The values are the formula's at its corners:
 * ceil(log(d / 128) / log(511 / 128) * 127) + 128. */
static void test_buckets(void **state) {
    (void)state;
    spar_error err;
    sp_encoder_config c;
    json_t *base = small_deberta();
    check_ok(sp_encoder_config_read(&c, base, "config.json", &err), &err);
    assert_int_equal(sp_encoder_bucket(&c, 0), 256);
    assert_int_equal(sp_encoder_bucket(&c, 128), 256 + 128);
    assert_int_equal(sp_encoder_bucket(&c, 129), 256 + 129);
    assert_int_equal(sp_encoder_bucket(&c, 256), 256 + 192);
    assert_int_equal(sp_encoder_bucket(&c, 511), 256 + 255);
    assert_int_equal(sp_encoder_bucket(&c, 100000), 511);
    assert_int_equal(sp_encoder_bucket(&c, -100000), 0);
    for (int64_t d = 1; d < 400; d++) {
        assert_true(sp_encoder_bucket(&c, d) >= sp_encoder_bucket(&c, d - 1));
        assert_int_equal(sp_encoder_bucket(&c, d) - 256, 256 - sp_encoder_bucket(&c, -d));
    }
    json_decref(base);
}

int main(void) {
    if (!test_shared("golden")) {
        TEST_SKIP("the shared folder with golden/arch is missing");
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),       cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_thread_count), cmocka_unit_test(test_bad_rows),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
