/* Logits, log-probs, gradients and greedy continuations of tiny random models, one of each family,
 * against Hugging Face transformers in double precision (shared/golden/arch). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "io/safetensors.h"
#include "model/engine.h"
#include "support.h"

static const char *const families[] = {"llama", "llama3-rope", "qwen2", "qwen3", "mistral-window"};

enum { MAX_ROWS = 8, MAX_TOKENS = 128 };

typedef struct fixture {
    sp_safetensors *expected;
    json_t *io;
    spar_model *model;
    int n_rows;
    int32_t ids[MAX_ROWS][MAX_TOKENS];
    size_t n[MAX_ROWS];
} fixture;

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static void open_fixture(fixture *f, const char *family, spar_model_options options) {
    spar_error err;
    char dir[512], path[600];
    snprintf(dir, sizeof dir, "%s/arch/%s", test_shared("golden"), family);
    check(spar_model_load(&f->model, dir, &options, &err), &err);
    snprintf(path, sizeof path, "%s/expected.safetensors", dir);
    check(sp_safetensors_open(&f->expected, path, &err), &err);
    snprintf(path, sizeof path, "%s/io.json", dir);
    check(sp_json_load(&f->io, path, &err), &err);
    json_t *rows = json_object_get(f->io, "rows");
    f->n_rows = (int)json_array_size(rows);
    for (int i = 0; i < f->n_rows; i++) {
        json_t *row = json_array_get(rows, (size_t)i);
        f->n[i] = json_array_size(row);
        for (size_t t = 0; t < f->n[i]; t++) {
            f->ids[i][t] = (int32_t)json_integer_value(json_array_get(row, t));
        }
    }
}

static void close_fixture(fixture *f) {
    spar_model_free(f->model);
    sp_safetensors_free(f->expected);
    json_decref(f->io);
}

/* Largest absolute difference from a stored tensor, and the largest stored entry. */
static double difference(const fixture *f, const char *name, const float *got, size_t n,
                         double *largest) {
    const sp_tensor_entry *e = sp_safetensors_find(f->expected, name);
    assert_non_null(e);
    assert_int_equal(e->n_bytes, n * sizeof(float));
    double worst = 0;
    *largest = 0;
    for (size_t i = 0; i < n; i++) {
        float want;
        memcpy(&want, (const char *)e->data + i * sizeof want, sizeof want);
        double d = fabs((double)got[i] - (double)want);
        worst = d > worst || isnan(d) ? d : worst;
        *largest = fabs((double)want) > *largest ? fabs((double)want) : *largest;
    }
    return worst;
}

static void check_scores(fixture *f, const char *family) {
    spar_error err;
    spar_score_row rows[MAX_ROWS];
    int64_t vocab = spar_model_vocab(f->model);
    for (int i = 0; i < f->n_rows; i++) {
        rows[i] = (spar_score_row){.ids = f->ids[i], .n = f->n[i], .first = 1};
        rows[i].logps = test_malloc((f->n[i] - 1) * sizeof(float));
        rows[i].logits = test_malloc(f->n[i] * (size_t)vocab * sizeof(float));
    }
    check(spar_model_score(f->model, rows, (size_t)f->n_rows, &err), &err);
    for (int i = 0; i < f->n_rows; i++) {
        char name[64];
        double largest;
        snprintf(name, sizeof name, "logits.%d", i);
        double logits = difference(f, name, rows[i].logits, f->n[i] * (size_t)vocab, &largest);
        snprintf(name, sizeof name, "logp.%d", i);
        double logp = difference(f, name, rows[i].logps, f->n[i] - 1, &largest);
        print_message("%s row %d: logits %.2e logp %.2e\n", family, i, logits, logp);
        assert_true(logits <= 1e-4);
        assert_true(logp <= 1e-4);
        test_free(rows[i].logps);
        test_free(rows[i].logits);
    }
}

/* The golden loss sums the log-probs of tokens 3, 4, ... of every row. */
static void check_grads(fixture *f, const char *family) {
    spar_error err;
    char path[TEST_PATH_MAX];
    char dir[TEST_PATH_MAX];
    spar_score_row rows[MAX_ROWS];
    sp_safetensors *got;
    test_temp_dir(dir);
    test_path(path, dir, "grads.safetensors");
    for (int i = 0; i < f->n_rows; i++) {
        rows[i] = (spar_score_row){.ids = f->ids[i], .n = f->n[i], .first = 3};
        rows[i].logps = test_malloc(f->n[i] * sizeof(float));
    }
    check(spar_model_score_grads(f->model, rows, (size_t)f->n_rows, path, &err), &err);
    check(sp_safetensors_open(&got, path, &err), &err);
    for (size_t i = 0; i < sp_safetensors_count(got); i++) {
        const sp_tensor_entry *e = sp_safetensors_at(got, i);
        char name[128];
        double largest;
        snprintf(name, sizeof name, "grad.%s", e->name);
        double worst = difference(f, name, e->data, e->n_bytes / sizeof(float), &largest);
        if (worst > 1e-4 * largest) {
            print_message("%s %s: %.2e of %.2e\n", family, name, worst, largest);
        }
        assert_true(worst <= 1e-4 * largest);
    }
    size_t expected = 0;
    for (size_t i = 0; i < sp_safetensors_count(f->expected); i++) {
        expected += strncmp(sp_safetensors_at(f->expected, i)->name, "grad.", 5) == 0;
    }
    assert_int_equal(sp_safetensors_count(got), expected);
    for (int i = 0; i < f->n_rows; i++) {
        test_free(rows[i].logps);
    }
    sp_safetensors_free(got);
    unlink(path);
    rmdir(dir);
}

static void run_family(const char *family, bool reference) {
    fixture f = {0};
    open_fixture(
        &f, family,
        (spar_model_options){.dtype = SPAR_DTYPE_F32, .threads = 2, .reference = reference});
    check_scores(&f, family);
    check_grads(&f, family);
    close_fixture(&f);
}

static void test_tuned(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        run_family(families[i], false);
    }
}

static void test_reference(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        run_family(families[i], true);
    }
}

int main(void) {
    if (!test_shared("golden")) {
        TEST_SKIP("the shared folder with golden/arch is missing");
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_tuned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
