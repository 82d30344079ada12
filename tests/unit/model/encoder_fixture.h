/* What the tests of encoders share: token rows of a golden folder and comparison with its values.
 */
#ifndef SPAR_TESTS_ENCODER_FIXTURE_H
#define SPAR_TESTS_ENCODER_FIXTURE_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "io/safetensors.h"
#include "model/encoder.h"
#include "support.h"

enum { FIXTURE_ROWS = 8, FIXTURE_TOKENS = 128 };

typedef struct row_fixture {
    char dir[512];
    sp_safetensors *expected;
    int32_t ids[FIXTURE_ROWS][FIXTURE_TOKENS];
    sp_token_row rows[FIXTURE_ROWS];
    size_t n;
} row_fixture;

static inline void check_ok(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

static inline sp_token_row ids_of(const json_t *list, int32_t ids[FIXTURE_TOKENS]) {
    sp_token_row row = {.ids = ids, .n = json_array_size(list)};
    assert_true(row.n <= FIXTURE_TOKENS);
    for (size_t t = 0; t < row.n; t++) {
        ids[t] = (int32_t)json_integer_value(json_array_get(list, t));
    }
    return row;
}

static inline void open_rows(row_fixture *f, const char *name) {
    spar_error err;
    char path[600];
    json_t *io;
    snprintf(f->dir, sizeof f->dir, "%s/arch/%s", test_shared("golden"), name);
    snprintf(path, sizeof path, "%s/expected.safetensors", f->dir);
    check_ok(sp_safetensors_open(&f->expected, path, &err), &err);
    snprintf(path, sizeof path, "%s/io.json", f->dir);
    check_ok(sp_json_load(&io, path, &err), &err);
    const json_t *rows = json_object_get(io, "rows");
    f->n = json_array_size(rows);
    assert_true(f->n > 0 && f->n <= FIXTURE_ROWS);
    for (size_t i = 0; i < f->n; i++) {
        f->rows[i] = ids_of(json_array_get(rows, i), f->ids[i]);
    }
    json_decref(io);
}

static inline void close_rows(row_fixture *f) {
    sp_safetensors_free(f->expected);
}

/* Largest absolute difference of got [n] from the tensor PREFIX.i. */
static inline double row_difference(const row_fixture *f, const char *prefix, size_t i,
                                    const float *got, size_t n) {
    char name[64];
    double worst = 0;
    snprintf(name, sizeof name, "%s.%zu", prefix, i);
    const sp_tensor_entry *e = sp_safetensors_find(f->expected, name);
    assert_non_null(e);
    assert_int_equal(e->n_bytes, n * sizeof(float));
    for (size_t j = 0; j < n; j++) {
        float want;
        memcpy(&want, (const char *)e->data + j * sizeof want, sizeof want);
        const double d = fabs((double)got[j] - (double)want);
        worst = d > worst || isnan(d) ? d : worst;
    }
    return worst;
}

#endif
