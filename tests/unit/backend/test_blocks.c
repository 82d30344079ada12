/* Weights in quantised blocks: every op that takes them, tuned against reference; the reference
 * against the floats that the blocks stand for; bits for any thread count and any company. */
#include "compare.h"

#include "backend/cpu/chain.h"
#include "backend/cpu/quant.h"

typedef struct shape {
    int64_t T, out, in;
} shape;

static const shape shapes[] = {{1, 17, 32},   {1, 576, 64},  {7, 63, 96},    {33, 65, 128},
                               {65, 192, 64}, {63, 129, 32}, {70, 530, 64},  {2, 40, 160},
                               {3, 33, 64},   {16, 48, 352}, {130, 1100, 32}};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

static const sp_affine_form forms[] = {{4, true}, {4, false}, {8, true}, {8, false}};
enum { N_FORMS = sizeof forms / sizeof forms[0] };

/* A random matrix, rounded to blocks; the floats that these stand for in *floats. */
static sp_blocks *make_blocks(shape s, sp_affine_form form, float **floats) {
    sp_blocks *b = NULL;
    assert_int_equal(sp_blocks_create(&b, s.out, s.in, form, NULL), SPAR_OK);
    float *x = array_random(s.out * s.in, 1, 0.3);
    for (int64_t o = 0; o < s.out; o++) {
        for (int64_t i = 0; i < s.in / SP_AFFINE_BLOCK; i++) {
            sp_affine a;
            sp_affine_round(x + o * s.in + i * SP_AFFINE_BLOCK, form, &a);
            sp_blocks_put(b, o, i, &a);
        }
        sp_blocks_row(b, o, x + o * s.in);
    }
    *floats = x;
    return b;
}

typedef struct result {
    float *y, *dx, *whole, *twice, *rows, *logp, *lse, *dh;
} result;

static void result_free(result *r) {
    free(r->y);
    free(r->dx);
    free(r->whole);
    free(r->twice);
    free(r->rows);
    free(r->logp);
    free(r->lse);
    free(r->dh);
}

static result run(sp_backend *be, const sp_weight *w, int64_t T, bool extra) {
    const int64_t out = w->out, in = w->in;
    float *bias = array_random(out, 2, 1), *xf = array_random(T * in, 3, 1);
    float *dyf = array_random(T * out, 4, 1), *c = array_random(T, 5, 1);
    void *x = operand_of(be, xf, T * in), *dy = operand_of(be, dyf, T * out);
    int32_t *ids = array_bytes((size_t)T * sizeof *ids);
    result r = {array_random(T * out, 6, 1),
                array_random(T * in, 7, 1),
                array_random(T * out, 8, 1),
                array_random(T * out, 9, 1),
                array_zero(T * in),
                array_zero(T),
                array_zero(T),
                array_zero(T * in)};
    sp_weight own = *w;
    const int both = SP_PREPARE_FORWARD | SP_PREPARE_BACKWARD;
    for (int64_t t = 0; t < T; t++) {
        ids[t] = (int32_t)(t * 7919 % out);
    }
    assert_int_equal(be->ops->weight_prepare(be, &own, both, NULL), SPAR_OK);
    assert_int_equal(be->ops->linear(be, &own, extra ? bias : NULL, x, T, r.y, extra, NULL),
                     SPAR_OK);
    assert_int_equal(be->ops->linear_dx(be, &own, dy, T, r.dx, extra, NULL), SPAR_OK);
    if (w->blocks != NULL) {
        const float *b = extra ? bias : NULL;
        assert_int_equal(be->ops->linear_whole(be, &own, b, x, 1, T, r.whole, extra, NULL),
                         SPAR_OK);
        assert_int_equal(be->ops->linear_whole(be, &own, b, x, 2, T, r.twice, extra, NULL),
                         SPAR_OK);
    }
    be->ops->embed(be, &own, ids, T, 0.5F, r.rows);
    const sp_logit_form form = {.scale = 1};
    assert_int_equal(be->ops->head_logp(be, &own, &form, x, ids, T, r.logp, r.lse, NULL), SPAR_OK);
    assert_int_equal(
        be->ops->head_logp_bwd(be, &own, &form, x, ids, r.lse, c, T, r.dh, NULL, true, NULL),
        SPAR_OK);
    be->ops->weight_release(be, &own);
    free(bias);
    free(xf);
    free(dyf);
    free(c);
    free(x);
    free(dy);
    free(ids);
    return r;
}

static void compare_results(const sp_backend *be, const result *got, const result *want, int64_t T,
                            int64_t out, int64_t in) {
    /* A gradient on the edge between two bf16 values may round either way. */
    const double head = be->compute == SP_COMPUTE_BF16 ? 4e-3 : 2e-5;
    assert_close("linear", got->y, want->y, T * out, 2e-5);
    assert_close("linear_dx", got->dx, want->dx, T * in, 2e-5);
    assert_close("embed", got->rows, want->rows, T * in, 0);
    assert_close("logp", got->logp, want->logp, T, 4e-6);
    assert_close("dh", got->dh, want->dh, T * in, head);
}

/* y [T,out] of run() in double, from inputs as operands and weights that are not rounded. */
static void exact_linear(sp_backend *be, const float *w, shape s, bool extra, float *y) {
    float *bias = array_random(s.out, 2, 1), *xf = array_random(s.T * s.in, 3, 1);
    float *before = array_random(s.T * s.out, 6, 1);
    void *operand = operand_of(be, xf, s.T * s.in);
    float *x = operand_values(be, operand, s.T * s.in);
    for (int64_t i = 0; i < s.T * s.out; i++) {
        const int64_t t = i / s.out, o = i % s.out;
        double sum = extra ? (double)before[i] + (double)bias[o] : 0;
        for (int64_t k = 0; k < s.in; k++) {
            sum += (double)x[t * s.in + k] * (double)w[o * s.in + k];
        }
        y[i] = (float)sum;
    }
    free(bias);
    free(xf);
    free(before);
    free(operand);
    free(x);
}

static void compare(const bench *b, shape s, sp_affine_form form, bool extra) {
    float *floats;
    sp_blocks *blocks = make_blocks(s, form, &floats);
    const sp_weight w = {.blocks = blocks, .out = s.out, .in = s.in};
    const sp_weight plain = {.data = floats, .out = s.out, .in = s.in};
    result want = run(b->be[BENCH_REFERENCE], &w, s.T, extra);
    result dense = run(b->be[BENCH_REFERENCE], &plain, s.T, extra);
    result one = run(b->be[BENCH_ONE], &w, s.T, extra);
    compare_results(b->be[0], &want, &dense, s.T, s.out, s.in);
    if (sp_quant_scales_after(b->be[BENCH_ONE], blocks, s.T)) {
        exact_linear(b->be[0], floats, s, extra, want.y);
    }
    compare_results(b->be[0], &one, &want, s.T, s.out, s.in);
    assert_close("one term", one.whole, want.whole, s.T * s.out, 4e-6);
    /* What the first term leaves is rounded once more, and on an edge may go either way. */
    assert_close("two terms", one.twice, want.twice, s.T * s.out, 1e-5);
    for (int t = BENCH_TWO; t <= BENCH_THREE; t++) {
        result more = run(b->be[t], &w, s.T, extra);
        const size_t y = (size_t)(s.T * s.out) * sizeof(float);
        assert_same("linear", one.y, more.y, y);
        assert_same("one term", one.whole, more.whole, y);
        assert_same("two terms", one.twice, more.twice, y);
        assert_same("linear_dx", one.dx, more.dx, (size_t)(s.T * s.in) * sizeof(float));
        assert_same("dh", one.dh, more.dh, (size_t)(s.T * s.in) * sizeof(float));
        result_free(&more);
    }
    result_free(&want);
    result_free(&dense);
    result_free(&one);
    sp_blocks_free(blocks);
    free(floats);
}

static void compare_all(bench b) {
    for (int i = 0; i < N_SHAPES; i++) {
        for (int f = 0; f < N_FORMS; f++) {
            compare(&b, shapes[i], forms[f], (i + f) % 2 == 0);
        }
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

/* Each instruction set that this CPU has, from the highest down: levels that it lacks are capped
 * to what it has, and repeat that. */
static void test_levels(void **state) {
    (void)state;
    static const char *const levels[] = {"bf16", "vnni", "v4", "v3", "base"};
    const char *old = getenv("SPAR_MAX_ISA");
    char keep[32] = "";
    snprintf(keep, sizeof keep, "%s", old != NULL ? old : "");
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        assert_int_equal(setenv("SPAR_MAX_ISA", levels[i], 1), 0);
        compare_all(bench_open(SP_COMPUTE_F32));
        compare_all(bench_open(SP_COMPUTE_BF16));
    }
    assert_int_equal(old == NULL ? unsetenv("SPAR_MAX_ISA") : setenv("SPAR_MAX_ISA", keep, 1), 0);
}

/* Native bf16: what a row gives in `few` rows it gives in all of T. */
static void check_company_bf16(sp_backend *be, sp_affine_form form, int64_t T, int64_t few) {
    const shape s = {T, 200, 96};
    float *floats, *y = array_zero(T * s.out), *alone = array_zero(few * s.out);
    sp_blocks *blocks = make_blocks(s, form, &floats);
    const sp_weight w = {.blocks = blocks, .out = s.out, .in = s.in};
    float *xf = array_random(T * s.in, 3, 1);
    uint16_t *x = operand_of(be, xf, T * s.in);
    assert_int_equal(be->ops->linear(be, &w, NULL, x, T, y, false, NULL), SPAR_OK);
    for (int64_t t = 0; t + few <= T; t += few) {
        assert_int_equal(be->ops->linear(be, &w, NULL, x + t * s.in, few, alone, false, NULL),
                         SPAR_OK);
        assert_memory_equal(alone, y + t * s.out, (size_t)(few * s.out) * sizeof *y);
    }
    sp_blocks_free(blocks);
    free(floats);
    free(xf);
    free(x);
    free(y);
    free(alone);
}

static void test_company_bf16(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_BF16);
    sp_backend *be = b.be[BENCH_TWO];
    for (int f = 0; f < N_FORMS && sp_quant_multiplies_bf16(be); f++) {
        for (int64_t few = 1; few < 16; few += few == 1 ? 1 : 3) {
            check_company_bf16(be, forms[f], 16, few);
        }
        check_company_bf16(be, forms[f], 69, 23);
    }
    bench_close(&b);
}

/* A product that a chain puts off reads what the steps before it leave. */
static void test_chain(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_BF16);
    sp_backend *be = b.be[BENCH_TWO];
    const shape s = {SP_CHAIN_LEAST + 45, 72, 64};
    for (int f = 0; f < N_FORMS; f++) {
        float *floats, *want = array_random(s.T * s.out, 6, 1),
                       *got = array_random(s.T * s.out, 6, 1);
        sp_blocks *blocks = make_blocks(s, forms[f], &floats);
        const sp_weight w = {.blocks = blocks, .out = s.out, .in = s.in};
        float *xf = array_random(s.T * s.in, 3, 1), *bias = array_random(s.out, 2, 1);
        uint16_t *x = operand_of(be, xf, s.T * s.in);
        assert_int_equal(be->ops->linear(be, &w, bias, x, s.T, want, true, NULL), SPAR_OK);
        memset(x, 0, (size_t)(s.T * s.in) * sizeof *x);
        assert_int_equal(be->ops->chain_begin(be, s.T, 0, true, NULL), SPAR_OK);
        be->ops->to_operand(be, xf, s.T * s.in, 1, x);
        assert_int_equal(be->ops->linear(be, &w, bias, x, s.T, got, true, NULL), SPAR_OK);
        assert_int_equal(be->ops->chain_end(be, NULL), SPAR_OK);
        assert_close("in a chain", got, want, s.T * s.out, 2e-6);
        sp_blocks_free(blocks);
        free(floats);
        free(xf);
        free(bias);
        free(x);
        free(want);
        free(got);
    }
    bench_close(&b);
}

/* Whole numbers: what one row gives does not depend on the rows beside it. */
static void test_company(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    const shape s = {70, 200, 96};
    for (int f = 0; f < N_FORMS; f++) {
        float *floats, *y = array_zero(s.T * s.out), *alone = array_zero(s.out);
        sp_blocks *blocks = make_blocks(s, forms[f], &floats);
        const sp_weight w = {.blocks = blocks, .out = s.out, .in = s.in};
        float *x = array_random(s.T * s.in, 3, 1);
        sp_backend *be = b.be[BENCH_TWO];
        assert_int_equal(be->ops->linear_whole(be, &w, NULL, x, 2, s.T, y, false, NULL), SPAR_OK);
        for (int64_t t = 0; t < s.T; t++) {
            assert_int_equal(
                be->ops->linear_whole(be, &w, NULL, x + t * s.in, 2, 1, alone, false, NULL),
                SPAR_OK);
            assert_memory_equal(alone, y + t * s.out, (size_t)s.out * sizeof *y);
        }
        sp_blocks_free(blocks);
        free(floats);
        free(x);
        free(y);
        free(alone);
    }
    bench_close(&b);
}

/* The largest numbers on both sides: nothing saturates on the way. */
static void test_extremes(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    enum { IN = 64, OUT = 32 };
    for (int f = 0; f < N_FORMS; f++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            sp_blocks *blocks = NULL;
            float x[IN], got[OUT], want[OUT];
            assert_int_equal(sp_blocks_create(&blocks, OUT, IN, forms[f], NULL), SPAR_OK);
            for (int o = 0; o < OUT; o++) {
                sp_affine a = {.scale = 1, .min = forms[f].has_min ? -2 : 0};
                memset(a.q, forms[f].bits == 4 ? 15 : o % 2 ? 0 : 255, sizeof a.q);
                sp_blocks_put(blocks, o, 0, &a);
                sp_blocks_put(blocks, o, 1, &a);
            }
            for (int i = 0; i < IN; i++) {
                x[i] = (float)sign;
            }
            const sp_weight w = {.blocks = blocks, .out = OUT, .in = IN};
            for (int k = 0; k < 2; k++) {
                sp_backend *be = b.be[k == 0 ? BENCH_REFERENCE : BENCH_ONE];
                assert_int_equal(
                    be->ops->linear_whole(be, &w, NULL, x, 1, 1, k == 0 ? want : got, false, NULL),
                    SPAR_OK);
            }
            assert_close("extremes", got, want, OUT, 2e-7);
            assert_true(fabsf(want[0]) > (forms[f].bits == 4 ? 800.0F : 7900.0F));
            sp_blocks_free(blocks);
        }
    }
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),          cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_primitives),   cmocka_unit_test(test_company),
        cmocka_unit_test(test_extremes),     cmocka_unit_test(test_levels),
        cmocka_unit_test(test_company_bf16), cmocka_unit_test(test_chain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
