/* The probes give figures that a machine of this century can have, and no errors. */
#include "compare.h"

#include "backend/probe.h"

static void test_probe(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    double f32 = 0, bf16 = 0, int8 = 0, memory = 0;
    assert_int_equal(sp_probe_gemm(SP_PROBE_F32, b.pools[1], &f32, NULL), SPAR_OK);
    assert_int_equal(sp_probe_gemm(SP_PROBE_BF16, b.pools[1], &bf16, NULL), SPAR_OK);
    assert_int_equal(sp_probe_gemm(SP_PROBE_INT8, b.pools[1], &int8, NULL), SPAR_OK);
    assert_int_equal(sp_probe_bandwidth(b.pools[1], &memory, NULL), SPAR_OK);
    printf("f32 %.0f, bf16 %.0f, int8 %.0f GFLOP/s, %.1f GB/s\n", f32, bf16, int8, memory);
    assert_true(f32 > 0.1 && f32 < 1e5 && bf16 > 0.1 && bf16 < 1e6);
    assert_true(int8 > 0.1 && int8 < 1e6 && memory > 0.05 && memory < 1e4);
    bench_close(&b);
}

static void test_describe(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_BF16);
    assert_non_null(strstr(sp_backend_describe(b.be[BENCH_REFERENCE]), "reference"));
    assert_non_null(strstr(sp_backend_describe(b.be[BENCH_ONE]), "oneDNN"));
    assert_non_null(strstr(sp_backend_describe(b.be[BENCH_ONE]), "bf16"));
    if (!sp_backend_has_bf16()) {
        assert_non_null(strstr(sp_backend_describe(b.be[BENCH_ONE]), "emulated"));
    }
    bench_close(&b);
    sp_backend_free(NULL);
}

/* Whatever allocation fails, creation fails with NO_MEMORY and leaks nothing. */
static void test_no_memory(void **state) {
    (void)state;
    sp_pool *pool = NULL;
    assert_int_equal(sp_pool_create(&pool, 1, NULL), SPAR_OK);
    for (long k = 1; k <= 2; k++) {
        sp_backend *be = NULL;
        spar_error err;
        sp_mem_fail_at(k);
        assert_int_equal(sp_backend_create(&be, SP_BACKEND_TUNED, SP_COMPUTE_F32, pool, &err),
                         SPAR_NO_MEMORY);
        sp_mem_fail_at(0);
        assert_null(be);
    }
    sp_pool_free(pool);
}

/* A weight that was never prepared, or not for backward, is an error and not a crash. */
static void test_unprepared(void **state) {
    (void)state;
    bench b = bench_open_primitives();
    sp_backend *be = b.be[BENCH_ONE];
    const float data[4] = {1, 2, 3, 4}, x[2] = {1, 1};
    float y[2];
    sp_weight w = {.data = data, .out = 2, .in = 2};
    spar_error err;
    assert_int_equal(be->ops->linear(be, &w, NULL, x, 1, y, false, &err), SPAR_INTERNAL);
    assert_int_equal(be->ops->weight_prepare(be, &w, SP_PREPARE_FORWARD, &err), SPAR_OK);
    assert_int_equal(be->ops->linear(be, &w, NULL, x, 1, y, false, &err), SPAR_OK);
    assert_true(y[0] == 3.0F && y[1] == 7.0F);
    assert_int_equal(be->ops->linear_dx(be, &w, x, 1, y, false, &err), SPAR_INTERNAL);
    assert_non_null(strstr(err.message, "backward"));
    be->ops->weight_release(be, &w);
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_describe), cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_unprepared), cmocka_unit_test(test_probe)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
