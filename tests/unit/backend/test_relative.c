/* Attention with relative terms: tuned against the reference over odd sizes, with buckets of steps
 * of one and of more, one or both terms or none. */
#include "compare.h"

enum { LONGEST = 150 };

typedef struct setting {
    int heads, dim;
    bool key, query;
    int step; /* of buckets from one distance to the next, far away */
} setting;

static const setting settings[] = {{3, 64, true, true, 1},   {2, 32, true, true, 3},
                                   {2, 16, true, true, 1},   {1, 7, true, true, 1},
                                   {2, 64, true, false, 1},  {2, 64, false, true, 1},
                                   {2, 64, false, false, 1}, {1, 256, true, true, 1}};

/* Distances one by one up to 8, then in steps: `step` buckets at each fourth distance. */
static int32_t bucket_of(int64_t d, int step) {
    const int64_t size = d < 0 ? -d : d;
    const int64_t b = size <= 8 ? size : 8 + (size - 8) / 4 * step;
    return (int32_t)(d < 0 ? -b : b);
}

static void *run(sp_backend *be, const setting *x, const int64_t *starts, int n_rows) {
    const int64_t T = starts[n_rows], H = (int64_t)x->heads * x->dim;
    int32_t buckets[2 * LONGEST - 1];
    int64_t longest = 1;
    for (int r = 0; r < n_rows; r++) {
        const int64_t n = starts[r + 1] - starts[r];
        longest = n > longest ? n : longest;
    }
    const int32_t first = bucket_of(1 - longest, x->step);
    const int64_t S = bucket_of(longest - 1, x->step) - first + 1;
    for (int64_t d = 1 - longest; d < longest; d++) {
        buckets[d + longest - 1] = bucket_of(d, x->step) - first;
    }
    float *q = array_random(T * H, 1, 1), *k = array_random(T * H, 2, 1);
    float *v = array_random(T * H, 3, 1), *pk = array_random(S * H, 4, 1);
    float *pq = array_random(S * H, 5, 1);
    const sp_relative_attention a = {.n_heads = x->heads,
                                     .head_dim = x->dim,
                                     .scale = 1.0F / sqrtf(3.0F * (float)x->dim),
                                     .n_rows = n_rows,
                                     .starts = starts,
                                     .pos_key = x->key ? pk : NULL,
                                     .pos_query = x->query ? pq : NULL,
                                     .related = S,
                                     .buckets = buckets + longest - 1};
    void *out = array_bytes((size_t)(T * H) * be->operand_size);
    void *q16 = operand_of(be, q, T * H), *k16 = operand_of(be, k, T * H);
    void *v16 = operand_of(be, v, T * H);
    assert_int_equal(be->ops->relative_attention(be, &a, q16, k16, v16, out, NULL), SPAR_OK);
    free(q16);
    free(k16);
    free(v16);
    free(q);
    free(k);
    free(v);
    free(pk);
    free(pq);
    return out;
}

static void check(bench *b, const setting *x, const int64_t *starts, int n_rows) {
    const int64_t n = starts[n_rows] * x->heads * x->dim;
    const bool rounds = b->be[0]->compute == SP_COMPUTE_BF16;
    void *outs[BENCH_COUNT];
    float *values[BENCH_COUNT];
    for (int i = 0; i < BENCH_COUNT; i++) {
        outs[i] = run(b->be[i], x, starts, n_rows);
        values[i] = operand_values(b->be[i], outs[i], n);
    }
    assert_close("out", values[BENCH_ONE], values[BENCH_REFERENCE], n,
                 rounds ? 3 * ldexp(1, -8) : 2e-6);
    for (int i = BENCH_TWO; i < BENCH_COUNT; i++) {
        assert_same("out", outs[BENCH_ONE], outs[i], (size_t)n * b->be[0]->operand_size);
    }
    for (int i = 0; i < BENCH_COUNT; i++) {
        free(outs[i]);
        free(values[i]);
    }
}

static void check_all(sp_compute compute) {
    static const int64_t rows[][6] = {
        {0, 1}, {0, 7, 8}, {0, 63, 128, 193}, {0, 16, 48, 48 + LONGEST, 49 + LONGEST}};
    static const int counts[] = {1, 2, 3, 4};
    bench b = bench_open(compute);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        for (int k = 0; k < 4; k++) {
            check(&b, &settings[i], rows[k], counts[k]);
        }
    }
    bench_close(&b);
}

static void test_f32(void **state) {
    (void)state;
    check_all(SP_COMPUTE_F32);
}

static void test_bf16(void **state) {
    (void)state;
    check_all(SP_COMPUTE_BF16);
}

/* Values of one key are what its queries get, whatever the scores: rows do not see each other. */
static void test_rows_apart(void **state) {
    (void)state;
    const int64_t starts[] = {0, 1, 2};
    const setting x = {1, 32, true, true, 1};
    bench b = bench_open(SP_COMPUTE_F32);
    float *out = run(b.be[BENCH_TWO], &x, starts, 2), *v = array_random(64, 3, 1);
    assert_close("out", out, v, 64, 1e-7);
    free(out);
    free(v);
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_rows_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
