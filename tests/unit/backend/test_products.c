/* linear, linear_dx, linear_dw: tuned against reference, and bits for any thread count. */
#include "compare.h"

typedef struct shape {
    int64_t T, out, in;
} shape;

static const shape shapes[] = {{1, 1, 1},     {1, 65, 7},     {7, 63, 129},   {32, 192, 64},
                               {65, 129, 63}, {257, 193, 33}, {33, 1100, 65}, {600, 33, 40},
                               {300, 5, 200}, {1100, 150, 97}};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

/* Operands hold the same bits in both rows, so only the order of summation differs. */
static const double tolerance = 2e-5;

typedef struct result {
    float *y, *dx, *dw, *dbias;
} result;

static void result_free(result *r) {
    free(r->y);
    free(r->dx);
    free(r->dw);
    free(r->dbias);
}

static result run_prepared(sp_backend *be, shape s, bool bias, bool accumulate, int each) {
    const int64_t T = s.T, out = s.out, in = s.in;
    float *data = array_random(out * in, 1, 0.3), *b = array_random(out, 2, 1);
    float *xf = array_random(T * in, 3, 1), *dyf = array_random(T * out, 4, 1);
    void *x = operand_of(be, xf, T * in), *dy = operand_of(be, dyf, T * out);
    result r = {array_random(T * out, 5, 1), array_random(T * in, 6, 1),
                array_random(out * in, 7, 1), array_random(out, 8, 1)};
    sp_weight w = {.data = data, .out = out, .in = in};
    const int what = SP_PREPARE_FORWARD | SP_PREPARE_BACKWARD | each;
    assert_int_equal(be->ops->weight_prepare(be, &w, what, NULL), SPAR_OK);
    assert_int_equal(be->ops->linear(be, &w, bias ? b : NULL, x, T, r.y, accumulate, NULL),
                     SPAR_OK);
    assert_int_equal(be->ops->linear_dx(be, &w, dy, T, r.dx, accumulate, NULL), SPAR_OK);
    assert_int_equal(
        be->ops->linear_dw(be, out, in, dy, x, T, r.dw, accumulate, bias ? r.dbias : NULL, NULL),
        SPAR_OK);
    be->ops->weight_release(be, &w);
    free(data);
    free(b);
    free(xf);
    free(dyf);
    free(x);
    free(dy);
    return r;
}

static result run(sp_backend *be, shape s, bool bias, bool accumulate) {
    return run_prepared(be, s, bias, accumulate, 0);
}

static void compare(const bench *b, shape s, bool bias, bool accumulate) {
    result want = run(b->be[BENCH_REFERENCE], s, bias, accumulate);
    result one = run(b->be[BENCH_ONE], s, bias, accumulate);
    assert_close("linear", one.y, want.y, s.T * s.out, tolerance);
    assert_close("linear_dx", one.dx, want.dx, s.T * s.in, tolerance);
    assert_close("linear_dw", one.dw, want.dw, s.out * s.in, tolerance);
    assert_close("dbias", one.dbias, want.dbias, s.out, tolerance);
    for (int i = BENCH_TWO; i <= BENCH_THREE; i++) {
        result more = run(b->be[i], s, bias, accumulate);
        assert_same("linear", one.y, more.y, (size_t)(s.T * s.out) * sizeof(float));
        assert_same("linear_dx", one.dx, more.dx, (size_t)(s.T * s.in) * sizeof(float));
        assert_same("linear_dw", one.dw, more.dw, (size_t)(s.out * s.in) * sizeof(float));
        assert_same("dbias", one.dbias, more.dbias, (size_t)s.out * sizeof(float));
        result_free(&more);
    }
    result each = run_prepared(b->be[BENCH_TWO], s, bias, accumulate, SP_PREPARE_EACH);
    assert_same("linear", one.y, each.y, (size_t)(s.T * s.out) * sizeof(float));
    assert_same("linear_dx", one.dx, each.dx, (size_t)(s.T * s.in) * sizeof(float));
    result_free(&each);
    result_free(&want);
    result_free(&one);
}

static void compare_all(bench b) {
    for (int i = 0; i < N_SHAPES; i++) {
        compare(&b, shapes[i], i % 2 == 0, i % 3 == 0);
        compare(&b, shapes[i], i % 2 == 1, i % 3 != 0);
    }
    bench_close(&b);
}

static void test_f32(void **state) {
    (void)state;
    compare_all(bench_open(SP_COMPUTE_F32));
}

static void test_bf16(void **state) {
    (void)state;
    compare_all(bench_open(SP_COMPUTE_BF16));
}

static void test_primitives(void **state) {
    (void)state;
    compare_all(bench_open_primitives());
}

/* The reference itself, by hand: W = [[1,2],[3,4],[5,6]], x = [1,-1], dy = [1,0,2]. */
static void test_by_hand(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    for (int i = 0; i < BENCH_COUNT; i++) {
        sp_backend *be = b.be[i];
        const float data[] = {1, 2, 3, 4, 5, 6}, bias[] = {10, 20, 30}, x[] = {1, -1};
        const float dy[] = {1, 0, 2}, want_y[] = {9, 19, 29}, want_dx[] = {11, 14};
        const float want_dw[] = {2, 0, 1, 1, 3, -1};
        sp_weight w = {.data = data, .out = 3, .in = 2};
        float y[3], dx[2], dw[6] = {1, 1, 1, 1, 1, 1};
        assert_int_equal(be->ops->weight_prepare(be, &w, SP_PREPARE_FORWARD, NULL), SPAR_OK);
        assert_int_equal(be->ops->linear(be, &w, bias, x, 1, y, false, NULL), SPAR_OK);
        assert_int_equal(be->ops->linear_dx(be, &w, dy, 1, dx, false, NULL), SPAR_OK);
        assert_int_equal(be->ops->linear_dw(be, 3, 2, dy, x, 1, dw, true, NULL, NULL), SPAR_OK);
        be->ops->weight_release(be, &w);
        assert_memory_equal(y, want_y, sizeof y);
        assert_memory_equal(dx, want_dx, sizeof dx);
        assert_memory_equal(dw, want_dw, sizeof dw);
    }
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_by_hand), cmocka_unit_test(test_f32),
                                       cmocka_unit_test(test_bf16),
                                       cmocka_unit_test(test_primitives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
