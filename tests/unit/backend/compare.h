/* For the tests of the op table: backends over pools of several sizes, random arrays, comparison.
 */
#ifndef SP_TESTS_BACKEND_COMPARE_H
#define SP_TESTS_BACKEND_COMPARE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "backend/cpu/tuned.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/rng.h"

/* The reference and tuned rows over pools of one, two and three threads. */
enum { BENCH_REFERENCE, BENCH_ONE, BENCH_TWO, BENCH_THREE, BENCH_COUNT };

typedef struct bench {
    sp_pool *pools[3];
    sp_backend *be[BENCH_COUNT];
} bench;

static inline bench bench_open(sp_compute compute) {
    bench b = {0};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sp_pool_create(&b.pools[i], i + 1, NULL), SPAR_OK);
    }
    for (int i = 0; i < BENCH_COUNT; i++) {
        const sp_backend_kind kind = i == BENCH_REFERENCE ? SP_BACKEND_REFERENCE : SP_BACKEND_TUNED;
        assert_int_equal(
            sp_backend_create(&b.be[i], kind, compute, b.pools[i == 0 ? 0 : i - 1], NULL), SPAR_OK);
    }
    return b;
}

/* Like bench_open, with the tuned rows turned to oneDNN's primitives and packed weights: the way of
 * native bf16, which in f32 runs on any CPU. */
static inline bench bench_open_primitives(void) {
    bench b = bench_open(SP_COMPUTE_F32);
    for (int i = BENCH_ONE; i < BENCH_COUNT; i++) {
        assert_int_equal(sp_tuned_use_primitives(b.be[i], NULL), SPAR_OK);
    }
    return b;
}

static inline void bench_close(bench *b) {
    for (int i = 0; i < BENCH_COUNT; i++) {
        sp_backend_free(b->be[i]);
    }
    for (int i = 0; i < 3; i++) {
        sp_pool_free(b->pools[i]);
    }
}

static inline void *array_bytes(size_t n) {
    void *p = NULL;
    assert_int_equal(sp_mem_aligned(&p, n + 1, 1, NULL), SPAR_OK);
    memset(p, 0, n);
    return p;
}

static inline float *array_zero(int64_t n) {
    return array_bytes((size_t)n * sizeof(float));
}

/* Normal numbers of the stream `seed`. */
static inline float *array_random(int64_t n, uint64_t seed, double scale) {
    float *x = array_zero(n);
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)(scale * sp_rng_normal(seed, 1, (uint64_t)i));
    }
    return x;
}

static inline float *array_copy(const float *x, int64_t n) {
    float *y = array_zero(n);
    memcpy(y, x, (size_t)n * sizeof *y);
    return y;
}

/* x as an operand of be; the caller frees. */
static inline void *operand_of(sp_backend *be, const float *x, int64_t n) {
    void *y = array_bytes((size_t)n * be->operand_size);
    be->ops->to_operand(be, x, n, 1, y);
    return y;
}

/* An operand array as f32; the caller frees. */
static inline float *operand_values(const sp_backend *be, const void *x, int64_t n) {
    float *y = array_zero(n);
    for (int64_t i = 0; i < n; i++) {
        if (be->compute == SP_COMPUTE_F32) {
            y[i] = ((const float *)x)[i];
        } else {
            const uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
            memcpy(&y[i], &bits, sizeof bits);
        }
    }
    return y;
}

/* |got - want| <= tolerance * (largest |want|), everywhere; NaN fails. */
static inline void assert_close(const char *what, const float *got, const float *want, int64_t n,
                                double tolerance) {
    double largest = 1e-30;
    for (int64_t i = 0; i < n; i++) {
        const double size = fabs((double)want[i]);
        largest = size > largest ? size : largest;
    }
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs((double)got[i] - (double)want[i]) <= tolerance * largest)) {
            fail_msg("%s [%lld of %lld]: got %.9g, want %.9g (largest %.3g)", what, (long long)i,
                     (long long)n, (double)got[i], (double)want[i], largest);
        }
    }
}

static inline void assert_same(const char *what, const void *a, const void *b, size_t n) {
    if (n > 0 && memcmp(a, b, n) != 0) {
        fail_msg("%s: the bits depend on the thread count", what);
    }
}

#endif
