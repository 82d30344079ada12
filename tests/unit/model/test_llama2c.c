/* Checkpoints of llama2.c against the same model in a Hugging Face folder, and what is not read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "model/engine.h"
#include "support.h"

static const spar_model_options options = {.dtype = SPAR_DTYPE_F32, .threads = 1};

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static spar_model *load(const char *name) {
    spar_error err;
    spar_model *m;
    check(spar_model_load(&m, test_shared(name), &options, &err), &err);
    return m;
}

/* The same bits, in versions 0 and 1. */
static void test_same_weights(void **state) {
    (void)state;
    static const char *const files[] = {"models/stories260K/stories260K.bin",
                                        "models/stories260K/stories260K_v1.bin"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        spar_model *want = load("models/stories260K/hf");
        spar_model *got = load(files[i]);
        assert_int_equal(got->params.total, want->params.total);
        assert_memory_equal(got->weights, want->weights,
                            (size_t)want->params.total * sizeof(float));
        assert_int_equal(got->config.context, want->config.context);
        assert_true(got->config.norm_eps == want->config.norm_eps);
        spar_model_free(want);
        spar_model_free(got);
    }
}

/* Others are read whole: sizes that are no powers of two, and heads of their own would not fit. */
static void test_others(void **state) {
    (void)state;
    spar_model *m = load("models/babyllama-tok105/model5000.bin");
    assert_int_equal(m->config.vocab, 105);
    spar_model_free(m);
    m = load("models/aidreams260K/aidreams260K.bin");
    assert_int_equal(m->config.layers, 4);
    spar_model_free(m);
}

static void refused(const char *path, spar_status want, const char *word) {
    spar_error err;
    spar_model *m = NULL;
    assert_int_equal(spar_model_load(&m, path, &options, &err), want);
    if (!strstr(err.message, word)) {
        fail_msg("expected %s in: %s", word, err.message);
    }
}

static void test_refusals(void **state) {
    (void)state;
    spar_error err;
    char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];
    char *bytes;
    size_t n;
    refused(test_shared("models/stories260K/stories260K-q8.bin"), SPAR_UNSUPPORTED, "version");
    check(
        sp_file_read(test_shared("models/stories260K/stories260K.bin"), 1 << 24, &bytes, &n, &err),
        &err);
    test_path(path, test_temp_dir(dir), "cut.bin");
    check(sp_file_write(path, bytes, n - 4, &err), &err);
    refused(path, SPAR_FORMAT, "expected the");
    check(sp_file_write(path, bytes, 20, &err), &err);
    refused(path, SPAR_FORMAT, "20 bytes");
    bytes[3] = 127; /* a size beyond what is allowed */
    check(sp_file_write(path, bytes, n, &err), &err);
    refused(path, SPAR_FORMAT, "hidden_size");
    free(bytes);
    check(sp_file_write(path, "PK\3\4archive", 11, &err), &err);
    refused(path, SPAR_UNSUPPORTED, "save_pretrained");
    check(sp_dir_remove(dir, &err), &err);
}

/* A folder with pickled weights alone says how to convert them. */
static void test_pickled_folder(void **state) {
    (void)state;
    spar_error err;
    char dir[TEST_PATH_MAX], path[TEST_PATH_MAX];
    char *bytes;
    size_t n;
    check(sp_file_read(test_shared("models/stories260K/hf/config.json"), 1 << 20, &bytes, &n, &err),
          &err);
    check(sp_file_write(test_path(path, test_temp_dir(dir), "config.json"), bytes, n, &err), &err);
    check(sp_file_write(test_path(path, dir, "pytorch_model.bin"), "PK", 2, &err), &err);
    refused(dir, SPAR_UNSUPPORTED, "pytorch_model.bin");
    free(bytes);
    check(sp_dir_remove(dir, &err), &err);
}

int main(void) {
    if (!test_shared("models/stories260K/stories260K.bin")) {
        TEST_SKIP("the shared folder has no models/stories260K");
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_weights),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_pickled_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
