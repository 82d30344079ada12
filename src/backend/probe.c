#include "backend/probe.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/operand.h"
#include "base/clock.h"
#include "base/mem.h"

enum { RUNS_MIN = 3, RUNS_MAX = 200 };

static const double seconds = 0.25; /* for one size */

/* One product of n x n matrices a thread, each with its own memory. */
typedef struct squares {
    sp_probe_type type;
    sp_dnn *dnn; /* native bf16 */
    const sp_dnn_kernel *kernel;
    int64_t n;
    char *a, *b, *c; /* by task, n * n floats each, whatever the type */
    atomic_int status;
} squares;

static void widen(const uint16_t *from, int64_t n, float *to) {
    for (int64_t i = 0; i < n; i++) {
        to[i] = sp_bf16_to_f32(from[i]);
    }
}

static int float_square(const squares *s, char *a, char *b, float *c) {
    const int64_t n = s->n;
    if (s->type == SP_PROBE_BF16) {
        /* As the emulation: A is widened for each product, B once an update. Any bf16 numbers will
         * do for A, and B's memory holds some. */
        widen((const uint16_t *)(void *)b, n * n, (float *)(void *)a);
    }
    const sp_sgemm g = {.transpose_b = true,
                        .M = n,
                        .N = n,
                        .K = n,
                        .lda = n,
                        .ldb = n,
                        .ldc = n,
                        .a = (const float *)(void *)a,
                        .b = (const float *)(void *)b,
                        .c = c};
    return sp_onednn_sgemm(&g);
}

static void square_task(void *context, int task, int worker) {
    squares *s = context;
    const size_t bytes = (size_t)(s->n * s->n) * sizeof(float);
    char *a = s->a + (size_t)task * bytes, *b = s->b + (size_t)task * bytes;
    char *c = s->c + (size_t)task * bytes;
    int code = 0;
    sp_onednn_single();
    if (s->type == SP_PROBE_INT8) {
        code = sp_onednn_int8(s->n, (const uint8_t *)a, (const int8_t *)b, (int32_t *)(void *)c);
    } else if (s->kernel != NULL) {
        code = sp_dnn_run(s->dnn, s->kernel, worker, a, b, (float *)(void *)c);
    } else {
        code = float_square(s, a, b, (float *)(void *)c);
    }
    if (code != 0) {
        atomic_store(&s->status, code);
    }
}

static double best_time(sp_pool *pool, int tasks, sp_pool_fn fn, void *context) {
    const double end = sp_now() + seconds;
    double best = 1e9;
    for (int run = 0; run < RUNS_MIN || (run < RUNS_MAX && sp_now() < end); run++) {
        const double start = sp_now();
        sp_pool_run(pool, tasks, fn, context);
        const double taken = sp_now() - start;
        best = taken < best ? taken : best;
    }
    return best;
}

/* Where the library has no fast native product, kernel stays NULL. */
static void try_native(squares *s) {
    const sp_dnn_shape shape = {SP_DNN_BF16, s->n, s->n, s->n, true, false};
    s->kernel = NULL;
    if (s->dnn != NULL && (sp_dnn_get(s->dnn, &shape, &s->kernel, NULL) != SPAR_OK ||
                           strstr(sp_dnn_implementation(s->kernel), "ref") != NULL)) {
        s->kernel = NULL;
    }
}

static spar_status probe_size(squares *s, sp_pool *pool, double *gflops, spar_error *err) {
    spar_status status = SPAR_OK;
    const int threads = sp_pool_threads(pool);
    const size_t count = (size_t)threads * (size_t)(s->n * s->n);
    void *a = NULL, *b = NULL, *c = NULL;
    SPAR_TRY(sp_mem_aligned(&a, count, sizeof(float), err));
    SPAR_TRY(sp_mem_aligned(&b, count, sizeof(float), err));
    SPAR_TRY(sp_mem_aligned(&c, count, sizeof(float), err));
    /* A small number in every type: 0x3c3c is 0.011 in bf16, 0x3c is 60 in int8. */
    memset(a, 0x3c, count * sizeof(float));
    memset(b, 0x3c, count * sizeof(float));
    memset(c, 0x3c, count * sizeof(float));
    s->a = a;
    s->b = b;
    s->c = c;
    try_native(s);
    const double time = best_time(pool, threads, square_task, s);
    SPAR_TRY(sp_onednn_check(atomic_load(&s->status), "measuring a product", err));
    const double n = (double)s->n, rate = 2e-9 * threads * n * n * n / time;
    *gflops = rate > *gflops ? rate : *gflops;
done:
    free(a);
    free(b);
    free(c);
    return status;
}

spar_status sp_probe_gemm(sp_probe_type type, sp_pool *pool, double *gflops, spar_error *err) {
    static const int64_t sizes[] = {576, 1024};
    spar_status status = SPAR_OK;
    squares s = {.type = type};
    *gflops = 0;
    atomic_init(&s.status, 0);
    sp_onednn_cap(sp_cpu_isa());
    if (type == SP_PROBE_BF16 && sp_backend_has_bf16()) {
        SPAR_TRY(sp_dnn_create(&s.dnn, sp_pool_threads(pool), err));
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        s.n = sizes[i];
        SPAR_TRY(probe_size(&s, pool, gflops, err));
    }
done:
    sp_dnn_free(s.dnn);
    return status;
}

enum { SLICE = 1 << 20, SLICES = 512 };

typedef struct stream {
    const char *data;
    uint64_t sums[SLICES]; /* so that the reading cannot be left out */
} stream;

static void read_task(void *context, int task, int worker) {
    (void)worker;
    stream *s = context;
    const uint64_t *x = (const uint64_t *)(const void *)(s->data + (size_t)task * SLICE);
    uint64_t sum = 0;
    for (size_t i = 0; i < SLICE / sizeof *x; i++) {
        sum += x[i];
    }
    s->sums[task] = sum;
}

typedef struct fill {
    char *data;
} fill;

static void fill_task(void *context, int task, int worker) {
    (void)worker;
    memset(((fill *)context)->data + (size_t)task * SLICE, 1, SLICE);
}

spar_status sp_probe_bandwidth(sp_pool *pool, double *gbs, spar_error *err) {
    spar_status status = SPAR_OK;
    void *data = NULL, *memory = NULL;
    *gbs = 0;
    SPAR_TRY(sp_mem_aligned(&data, SLICES, SLICE, err));
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof(stream), err));
    fill f = {data};
    stream *s = memory;
    s->data = data;
    sp_pool_run(pool, SLICES, fill_task, &f);
    *gbs = 1e-9 * SLICES * SLICE / best_time(pool, SLICES, read_task, s);
done:
    free(memory);
    free(data);
    return status;
}
