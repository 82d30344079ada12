/* Products of f32 from tiles and panels against sums in double, for every instruction set that this
 * CPU has: odd sizes, layouts made by rows or by columns, whole or piece by piece. */
#include "compare.h"

typedef struct shape {
    int64_t M, N, K;
} shape;

static const shape shapes[] = {{1, 1, 1},    {13, 31, 7},   {14, 32, 16},  {15, 33, 17},
                               {29, 65, 40}, {128, 64, 70}, {127, 100, 33}};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0], FIRST_PIECE = 16, GUARD = 3 };

/* A [M,K] and B [K,N] by rows and by columns, rows `pad` numbers longer than they need be. */
typedef struct problem {
    shape s;
    int64_t pad;
    float *a, *a_turned, *b, *b_turned;
} problem;

static float *turned(const float *x, int64_t rows, int64_t columns, int64_t pad) {
    float *y = array_zero(columns * (rows + pad));
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < columns; c++) {
            y[c * (rows + pad) + r] = x[r * (columns + pad) + c];
        }
    }
    return y;
}

static problem make_problem(shape s) {
    problem p = {.s = s, .pad = 5};
    p.a = array_random(s.M * (s.K + p.pad), 1, 1);
    p.b = array_random(s.K * (s.N + p.pad), 2, 1);
    p.a_turned = turned(p.a, s.M, s.K, p.pad);
    p.b_turned = turned(p.b, s.K, s.N, p.pad);
    return p;
}

static void problem_free(problem *p) {
    free(p->a);
    free(p->a_turned);
    free(p->b);
    free(p->b_turned);
}

/* Inner values k0 .. k0 + rows - 1. */
static void lay_out(const sp_simd *simd, const problem *p, bool by_columns, int64_t k0,
                    int64_t rows, float *a, float *b) {
    const shape s = p->s;
    const int64_t a_row = (by_columns ? s.M : s.K) + p->pad;
    const int64_t b_row = (by_columns ? s.K : s.N) + p->pad;
    const sp_tiling t = {.x = by_columns ? p->a_turned + k0 * a_row : p->a + k0,
                         .x_row = a_row,
                         .M = s.M,
                         .K = s.K,
                         .k0 = k0,
                         .k_rows = rows,
                         .to = a};
    const sp_paneling q = {.x = by_columns ? p->b_turned + k0 : p->b + k0 * b_row,
                           .x_row = b_row,
                           .N = s.N,
                           .K = s.K,
                           .k0 = k0,
                           .k_rows = rows,
                           .to = b};
    (by_columns ? simd->tiles_columns : simd->tiles_rows)(&t);
    (by_columns ? simd->panels_columns : simd->panels_rows)(&q);
}

/* C [M, N + GUARD]; the caller frees. */
static float *multiply(const sp_simd *simd, const problem *p, bool by_columns, bool accumulate) {
    const shape s = p->s;
    float *a = array_zero(s.M * s.K), *b = array_zero(s.K * (s.N + simd->panel));
    float *c = array_random(s.M * (s.N + GUARD), 3, 1);
    const int64_t first = by_columns && s.K > FIRST_PIECE ? FIRST_PIECE : s.K;
    lay_out(simd, p, by_columns, 0, first, a, b);
    lay_out(simd, p, by_columns, first, s.K - first, a, b);
    const sp_panels_product product = {.M = s.M,
                                       .N = s.N,
                                       .K = s.K,
                                       .a = a,
                                       .b = b,
                                       .b_panel = s.K * simd->panel,
                                       .c = c,
                                       .c_row = s.N + GUARD,
                                       .accumulate = accumulate};
    simd->panels_product(&product);
    free(a);
    free(b);
    return c;
}

/* What multiply should give: beyond column N, what was there. */
static float *expected(const problem *p, bool accumulate) {
    const shape s = p->s;
    const int64_t row = s.N + GUARD;
    float *c = array_random(s.M * row, 3, 1);
    for (int64_t m = 0; m < s.M; m++) {
        for (int64_t n = 0; n < s.N; n++) {
            double sum = accumulate ? (double)c[m * row + n] : 0;
            for (int64_t k = 0; k < s.K; k++) {
                sum += (double)p->a[m * (s.K + p->pad) + k] * (double)p->b[k * (s.N + p->pad) + n];
            }
            c[m * row + n] = (float)sum;
        }
    }
    return c;
}

static void check(const sp_simd *simd, shape s, bool accumulate) {
    problem p = make_problem(s);
    const int64_t n = s.M * (s.N + GUARD);
    float *want = expected(&p, accumulate), *rows = multiply(simd, &p, false, accumulate);
    float *columns = multiply(simd, &p, true, accumulate);
    assert_close("by rows", rows, want, n, 1e-6);
    assert_same("by columns", columns, rows, (size_t)n * sizeof *rows);
    for (int64_t m = 0; m < s.M; m++) {
        for (int64_t i = s.N; i < s.N + GUARD; i++) {
            assert_true(rows[m * (s.N + GUARD) + i] == want[m * (s.N + GUARD) + i]);
        }
    }
    free(want);
    free(rows);
    free(columns);
    problem_free(&p);
}

/* The last row alone, and with those before it: the same bits. */
static void check_row(const sp_simd *simd, shape s) {
    problem all = make_problem(s), one = all;
    const int64_t row = s.N + GUARD, last = s.M - 1;
    one.s.M = 1;
    one.a = all.a + last * (s.K + all.pad);
    float *together = multiply(simd, &all, false, false),
          *alone = multiply(simd, &one, false, false);
    assert_same("a row", alone, together + last * row, (size_t)s.N * sizeof *alone);
    free(together);
    free(alone);
    problem_free(&all);
}

static void test_products(void **state) {
    (void)state;
    for (int isa = SP_ISA_BASE; isa <= (int)sp_cpu_isa(); isa++) {
        sp_simd simd;
        sp_simd_choose((sp_isa)isa, &simd);
        assert_true((simd.panel > 0) == (simd.panels_product != NULL));
        for (int i = 0; simd.panel > 0 && i < N_SHAPES; i++) {
            check(&simd, shapes[i], false);
            check(&simd, shapes[i], true);
            check_row(&simd, shapes[i]);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
