/* A chain of row-wise ops against the same ops run one by one, and against the reference. */
#include "compare.h"

/* Blocks want inputs in multiples of 32; the other weights have odd sizes. */
enum { H = 96, F = 131 };

typedef struct arrays {
    sp_blocks *blocks; /* that the first weight is rounded to */
    float *w1, *w2, *g, *x, *dy, *cos_table, *sin_table;
    int32_t *positions;
} arrays;

typedef struct results {
    float *y, *dw, *dg, *dbias, *activated, *rectified; /* [T,H], [F,H], [H], [H], [T,H] each */
    float *curved, *slopes, curvatures[2];              /* [T,H] each: xIELU, and its backward */
} results;

static const sp_xielu xielu = {.positive = 0.7F,
                               .negative = 0.6F,
                               .beta = 0.4F,
                               .eps = -0.2F,
                               .by_positive = 0.5F,
                               .by_negative = 0.25F};

/* Weights of 8 bits; w becomes what they stand for. */
static sp_blocks *make_blocks(float *w) {
    const sp_affine_form form = {.bits = 8};
    sp_blocks *blocks = NULL;
    assert_int_equal(sp_blocks_create(&blocks, F, H, form, NULL), SPAR_OK);
    for (int64_t row = 0; row < F; row++) {
        for (int64_t b = 0; b < H / SP_AFFINE_BLOCK; b++) {
            sp_affine one;
            sp_affine_round(w + row * H + b * SP_AFFINE_BLOCK, form, &one);
            sp_blocks_put(blocks, row, b, &one);
        }
        sp_blocks_row(blocks, row, w + row * H);
    }
    return blocks;
}

static arrays make_arrays(int64_t T) {
    arrays a = {.w1 = array_random(F * H, 1, 1),
                .w2 = array_random(H * F, 2, 1),
                .g = array_random(H, 3, 1),
                .x = array_random(T * H, 4, 1),
                .dy = array_random(T * F, 5, 1),
                .cos_table = array_random(T * H / 2, 6, 1),
                .sin_table = array_random(T * H / 2, 7, 1)};
    a.blocks = make_blocks(a.w1);
    a.positions = array_bytes((size_t)T * sizeof *a.positions);
    for (int64_t t = 0; t < T; t++) {
        a.positions[t] = (int32_t)(T - 1 - t);
    }
    return a;
}

static void free_arrays(arrays *a) {
    sp_blocks_free(a->blocks);
    free(a->w1);
    free(a->w2);
    free(a->g);
    free(a->x);
    free(a->dy);
    free(a->cos_table);
    free(a->sin_table);
    free(a->positions);
}

/* Norm, up with its gradient, activation, down on top of x, rotation, backward of the norm; then a
 * layer norm, activations without a gate, and their backward. */
static results run_chain(sp_backend *be, const arrays *a, int64_t T, bool put_off, bool frozen) {
    const sp_ops *ops = be->ops;
    const size_t size = be->operand_size;
    sp_weight up = {
        .data = frozen ? NULL : a->w1, .blocks = frozen ? a->blocks : NULL, .out = F, .in = H};
    sp_weight down = {.data = a->w2, .out = H, .in = F};
    results r = {.y = array_bytes((size_t)(T * H) * sizeof(float)),
                 .dw = array_bytes(F * H * sizeof(float)),
                 .dg = array_bytes(H * sizeof(float)),
                 .dbias = array_bytes(H * sizeof(float))};
    float *rstd = array_bytes((size_t)T * sizeof(float));
    void *norm = array_bytes((size_t)(T * H) * size), *dy = array_bytes((size_t)(T * F) * size);
    void *kept = array_bytes((size_t)(T * H) * size), *other = array_bytes((size_t)(T * H) * size);
    memset(r.dw, 0, F * H * sizeof(float));
    memset(r.dg, 0, H * sizeof(float));
    memset(r.dbias, 0, H * sizeof(float));
    /* Copies that are kept, and those that are made as they are wanted: the same bits. */
    void *curved = array_bytes((size_t)(T * H) * size),
         *slopes = array_bytes((size_t)(T * H) * size);
    const int each = sp_pool_threads(be->pool) == 2 ? SP_PREPARE_EACH : 0;
    const int both = SP_PREPARE_FORWARD | SP_PREPARE_BACKWARD | each;
    assert_int_equal(ops->weight_prepare(be, &up, both, NULL), SPAR_OK);
    assert_int_equal(ops->weight_prepare(be, &down, both, NULL), SPAR_OK);
    const size_t local = (size_t)F * size + (size_t)(F + H) * sizeof(float);
    assert_int_equal(ops->chain_begin(be, T, local, put_off, NULL), SPAR_OK);
    void *hidden = ops->chain_local(be, (size_t)F * size);
    float *wide = ops->chain_local(be, (size_t)F * sizeof(float));
    float *dnorm = ops->chain_local(be, (size_t)H * sizeof(float));
    ops->rmsnorm(be, a->x, a->g, T, H, 1e-5F, norm, rstd);
    assert_int_equal(ops->linear(be, &up, NULL, norm, T, wide, false, NULL), SPAR_OK);
    ops->glu(be, SP_GELU_TANH, wide, wide, T * F, hidden, NULL, NULL);
    ops->copy(be, a->x, T * H, r.y);
    ops->add_scaled(be, a->dy, T * H, 0.5F, r.y);
    assert_int_equal(ops->linear(be, &down, a->g, hidden, T, r.y, true, NULL), SPAR_OK);
    const sp_rotation rotation = {a->cos_table, a->sin_table, H, false};
    ops->rope(be, r.y, T, 1, H, &rotation, a->positions, 1);
    ops->to_operand(be, a->dy, T * F, 0.5F, dy);
    assert_int_equal(ops->linear_dw(be, F, H, dy, norm, T, r.dw, T % 2 == 0, NULL, NULL), SPAR_OK);
    assert_int_equal(ops->linear_dx(be, &up, dy, T, dnorm, false, NULL), SPAR_OK);
    ops->rmsnorm_bwd(be, a->x, a->g, rstd, dnorm, T, H, r.y, true, r.dg);
    ops->layernorm_operand(be, a->x, a->g, a->g, T, H, 1e-5F, kept, rstd);
    ops->activate_bwd(be, SP_GELU, kept, dnorm, T * H, other);
    ops->activate_kept(be, SP_GELU_TANH, other, T * H, kept);
    ops->activate(be, SP_RELU, r.y, NULL, T, H, false, other);
    ops->layernorm_bwd(be, a->x, a->g, rstd, dnorm, T, H, r.y, true, r.dg, r.dbias);
    ops->xielu(be, &xielu, dnorm, false, T * H, curved);
    ops->xielu_bwd(be, &xielu, curved, dnorm, T * H, slopes, &r.curvatures[0], &r.curvatures[1]);
    assert_int_equal(ops->chain_end(be, NULL), SPAR_OK);
    ops->weight_release(be, &up);
    ops->weight_release(be, &down);
    free(rstd);
    r.activated = operand_values(be, kept, T * H);
    r.rectified = operand_values(be, other, T * H);
    r.curved = operand_values(be, curved, T * H);
    r.slopes = operand_values(be, slopes, T * H);
    free(curved);
    free(slopes);
    free(norm);
    free(other);
    free(kept);
    free(dy);
    return r;
}

static void free_results(results *r) {
    free(r->y);
    free(r->dw);
    free(r->dg);
    free(r->dbias);
    free(r->activated);
    free(r->rectified);
    free(r->curved);
    free(r->slopes);
}

static void check_results(const char *what, const results *got, const results *want, int64_t T,
                          double bound) {
    assert_close(what, got->y, want->y, T * H, bound);
    assert_close(what, got->dw, want->dw, F * H, bound);
    assert_close(what, got->activated, want->activated, T * H, bound);
    assert_close(what, got->rectified, want->rectified, T * H, bound);
    assert_close(what, got->curved, want->curved, T * H, bound);
    assert_close(what, got->slopes, want->slopes, T * H, bound);
    assert_close(what, got->curvatures, want->curvatures, 2, bound);
    assert_close(what, got->dg, want->dg, H, bound);
    assert_close(what, got->dbias, want->dbias, H, bound);
}

static void check_chains(bench *b, double bound, bool frozen) {
    static const int64_t sizes[] = {1, 7, 255, 256, 257, 513, 1060};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t T = sizes[i];
        arrays a = make_arrays(T);
        results want = run_chain(b->be[BENCH_REFERENCE], &a, T, true, frozen);
        results first = run_chain(b->be[BENCH_ONE], &a, T, true, frozen);
        results at_once = run_chain(b->be[BENCH_ONE], &a, T, false, frozen);
        check_results("chain", &first, &want, T, bound);
        check_results("at once", &at_once, &want, T, bound);
        for (int k = BENCH_TWO; k < BENCH_COUNT; k++) {
            results other = run_chain(b->be[k], &a, T, true, frozen);
            assert_same("y", other.y, first.y, (size_t)(T * H) * sizeof(float));
            assert_same("dw", other.dw, first.dw, F * H * sizeof(float));
            assert_same("dg", other.dg, first.dg, H * sizeof(float));
            assert_same("dbias", other.dbias, first.dbias, H * sizeof(float));
            free_results(&other);
        }
        free_results(&want);
        free_results(&first);
        free_results(&at_once);
        free_arrays(&a);
    }
}

static void test_f32(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    check_chains(&b, 1e-5, false);
    check_chains(&b, 1e-5, true);
    bench_close(&b);
}

static void test_primitives(void **state) {
    (void)state;
    bench b = bench_open_primitives();
    check_chains(&b, 1e-5, false);
    check_chains(&b, 1e-5, true);
    bench_close(&b);
}

/* Operands between the ops are rounded to 8 bits, and now and then the other way. */
static void test_bf16(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_BF16);
    check_chains(&b, 1e-2, false);
    check_chains(&b, 1e-2, true);
    bench_close(&b);
}

/* Without memory at any allocation: an error, and the backend serves again. */
static void test_no_memory(void **state) {
    (void)state;
    for (long k = 1; k < 4; k++) {
        bench b = bench_open(SP_COMPUTE_F32);
        sp_backend *be = b.be[BENCH_TWO];
        spar_error err = {SPAR_OK, ""};
        sp_mem_fail_at(k);
        assert_int_equal(be->ops->chain_begin(be, 300, 64, true, &err), SPAR_NO_MEMORY);
        sp_mem_fail_at(0);
        assert_int_equal(be->ops->chain_end(be, &err), SPAR_OK);
        assert_int_equal(be->ops->chain_begin(be, 300, 64, true, &err), SPAR_OK);
        assert_int_equal(be->ops->chain_end(be, &err), SPAR_OK);
        bench_close(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32), cmocka_unit_test(test_primitives), cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
