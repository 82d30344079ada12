/* Element-wise and row ops: tuned against reference, gradients against differences, and the
 * exponential that all kernels share. */
#include "compare.h"

#include "backend/cpu/operand.h"
#include "backend/cpu/simd.h"

static const int64_t sizes[] = {1, 7, 63, 65, 129, 576};
enum { N_SIZES = sizeof sizes / sizeof sizes[0] };

static double tolerance(sp_compute compute) {
    return compute == SP_COMPUTE_BF16 ? 4e-3 : 2e-6;
}

typedef struct outcome {
    float *a, *b, *c, *d;
    int64_t na, nb, nc, nd;
} outcome;

static void outcome_free(outcome *x) {
    free(x->a);
    free(x->b);
    free(x->c);
    free(x->d);
}

typedef outcome (*op_run)(sp_backend *be, int64_t n, int64_t dim, bool flag);

static void compare(op_run op, const char *what, double scale) {
    for (int compute = SP_COMPUTE_F32; compute <= SP_COMPUTE_BF16; compute++) {
        bench b = bench_open((sp_compute)compute);
        for (int i = 0; i < 2 * N_SIZES; i++) {
            const int64_t n = sizes[i % N_SIZES], dim = sizes[i * 5 / 2 % N_SIZES];
            outcome want = op(b.be[BENCH_REFERENCE], n, dim, i % 2 == 0);
            outcome one = op(b.be[BENCH_ONE], n, dim, i % 2 == 0);
            const double limit = scale * tolerance((sp_compute)compute);
            assert_close(what, one.a, want.a, want.na, limit);
            assert_close(what, one.b, want.b, want.nb, limit);
            assert_close(what, one.c, want.c, want.nc, limit);
            assert_close(what, one.d, want.d, want.nd, limit);
            for (int t = BENCH_TWO; t <= BENCH_THREE; t++) {
                outcome more = op(b.be[t], n, dim, i % 2 == 0);
                assert_same(what, one.a, more.a, (size_t)one.na * sizeof(float));
                assert_same(what, one.b, more.b, (size_t)one.nb * sizeof(float));
                assert_same(what, one.c, more.c, (size_t)one.nc * sizeof(float));
                assert_same(what, one.d, more.d, (size_t)one.nd * sizeof(float));
                outcome_free(&more);
            }
            outcome_free(&want);
            outcome_free(&one);
        }
        bench_close(&b);
    }
}

static float *values_and_free(const sp_backend *be, void *operand, int64_t n) {
    float *x = operand_values(be, operand, n);
    free(operand);
    return x;
}

static outcome run_norm(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    (void)flag;
    float *x = array_random(n * dim, 1, 3), *g = array_random(dim, 2, 1);
    void *y = array_bytes((size_t)(n * dim) * be->operand_size);
    outcome o = {.b = array_zero(n), .c = array_copy(x, n * dim), .d = array_zero(n)};
    be->ops->rmsnorm(be, x, g, n, dim, 1e-5F, y, o.b);
    be->ops->rmsnorm_f32(be, o.c, g, n, dim, 1e-5F, o.c, o.d); /* in place */
    o.a = values_and_free(be, y, n * dim);
    o.na = o.nc = n * dim;
    o.nb = o.nd = n;
    free(x);
    free(g);
    return o;
}

static outcome run_norm_bwd(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    float *x = array_random(n * dim, 1, 1), *g = array_random(dim, 2, 1);
    float *dy = array_random(n * dim, 3, 1), *rstd = array_random(n, 4, 1);
    outcome o = {.a = flag ? array_random(n * dim, 5, 1) : array_copy(dy, n * dim),
                 .b = array_random(dim, 6, 1),
                 .c = array_random(n * dim, 5, 1)};
    /* Not accumulating, dx takes the place of dy. */
    be->ops->rmsnorm_bwd(be, x, g, rstd, flag ? dy : o.a, n, dim, o.a, flag, o.b);
    be->ops->rmsnorm_bwd(be, x, g, rstd, dy, n, dim, o.c, flag, NULL);
    o.na = o.nc = n * dim;
    o.nb = dim;
    free(x);
    free(g);
    free(dy);
    free(rstd);
    return o;
}

/* flag: a shift, and the operand beside y, which takes the place of x. */
static outcome run_layernorm(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    float *x = array_random(n * dim, 1, 3), *shift = array_random(dim, 2, 1);
    float *g = array_random(dim, 3, 1), *bias = array_random(dim, 4, 1);
    void *z = array_bytes((size_t)(n * dim) * be->operand_size);
    outcome o = {.a = flag ? array_copy(x, n * dim) : array_zero(n * dim), .na = n * dim};
    be->ops->layernorm(be, flag ? o.a : x, flag ? shift : NULL, g, bias, n, dim, 1e-5F, o.a,
                       flag ? z : NULL);
    o.b = values_and_free(be, z, n * dim);
    o.nb = flag ? n * dim : 0;
    free(x);
    free(shift);
    free(g);
    free(bias);
    return o;
}

static sp_act activation; /* of the runs below */

static outcome run_activate(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    float *x = array_random(n * dim, 1, 3), *shift = array_random(dim, 2, 1);
    void *y = array_bytes((size_t)(n * dim) * be->operand_size);
    x[0] = -200;
    outcome o = {.b = array_copy(x, n * dim), .na = n * dim, .nb = n * dim};
    be->ops->activate(be, activation, x, flag ? shift : NULL, n, dim, false, y);
    be->ops->activate(be, activation, o.b, flag ? shift : NULL, n, dim, true, o.b); /* in place */
    o.a = values_and_free(be, y, n * dim);
    free(x);
    free(shift);
    return o;
}

/* Rows far from zero, whose mean is not to cancel in the variance. */
static float *off_centre(int64_t n, int64_t dim) {
    float *x = array_random(n * dim, 1, 1);
    for (int64_t i = 0; i < n * dim; i++) {
        x[i] += 30.0F;
    }
    return x;
}

static outcome run_layernorm_operand(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    dim = dim < 3 ? 3 : dim; /* of one, nothing is left but rounding */
    float *x = flag ? off_centre(n, dim) : array_random(n * dim, 1, 3);
    float *g = array_random(dim, 2, 1), *bias = flag ? NULL : array_random(dim, 3, 1);
    void *y = array_bytes((size_t)(n * dim) * be->operand_size);
    outcome o = {.b = array_zero(n)};
    be->ops->layernorm_operand(be, x, g, bias, n, dim, 1e-1F, y, o.b);
    o.a = values_and_free(be, y, n * dim);
    o.na = n * dim;
    o.nb = n;
    free(x);
    free(g);
    free(bias);
    return o;
}

static outcome run_layernorm_bwd(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    dim = dim < 3 ? 3 : dim; /* of one, nothing is left but rounding */
    float *x = array_random(n * dim, 1, 1), *g = array_random(dim, 2, 1);
    float *dy = array_random(n * dim, 3, 1), *rstd = array_random(n, 4, 1);
    outcome o = {.a = flag ? array_random(n * dim, 5, 1) : array_copy(dy, n * dim),
                 .b = array_random(dim, 6, 1),
                 .c = array_random(n * dim, 5, 1),
                 .d = array_random(dim, 7, 1)};
    /* Not accumulating, dx takes the place of dy; a norm may have no bias, and none may train. */
    be->ops->layernorm_bwd(be, x, g, rstd, flag ? dy : o.a, n, dim, o.a, flag, o.b,
                           flag ? o.d : NULL);
    be->ops->layernorm_bwd(be, x, g, rstd, dy, n, dim, o.c, flag, NULL, NULL);
    o.na = o.nc = n * dim;
    o.nb = o.nd = dim;
    free(x);
    free(g);
    free(dy);
    free(rstd);
    return o;
}

/* Three heads, whose gains lie apart by more than a head. */
static outcome run_heads(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    dim = dim < 3 ? 3 : dim;
    const int64_t N = n * 3 * dim, gains = 2 * (dim + 5) + dim;
    float *x = flag ? off_centre(n, 3 * dim) : array_random(N, 1, 3),
          *g = array_random(gains, 2, 1);
    float *dy = array_random(N, 3, 1);
    const sp_head_gains heads = {.at = g, .heads = 3, .dim = (int)dim, .step = dim + 5};
    outcome o = {.a = flag ? array_copy(x, N) : array_zero(N),
                 .b = array_zero(3 * n),
                 .c = flag ? array_copy(dy, N) : array_zero(N),
                 .d = array_random(gains, 4, 1)};
    be->ops->layernorm_heads(be, flag ? o.a : x, &heads, n, 1e-1F, o.a, o.b);
    be->ops->layernorm_heads_bwd(be, x, &heads, o.b, flag ? o.c : dy, n, o.c, o.d);
    o.na = o.nc = N;
    o.nb = 3 * n;
    o.nd = gains;
    free(x);
    free(g);
    free(dy);
    return o;
}

static outcome run_activate_kept(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    (void)flag;
    const int64_t N = n * dim;
    const size_t bytes = (size_t)N * be->operand_size;
    float *x = array_random(N, 1, 4), *dy = array_random(N, 2, 1);
    void *again = array_bytes(bytes);
    void *dx = array_bytes(bytes), *operand = operand_of(be, x, N);
    be->ops->activate_kept(be, activation, operand, N, again);
    be->ops->activate_bwd(be, activation, operand, dy, N, dx);
    outcome o = {.nb = N, .nc = N};
    o.b = values_and_free(be, again, N);
    o.c = values_and_free(be, dx, N);
    free(operand);
    free(x);
    free(dy);
    return o;
}

/* As by Apertus, and with an eps that is met. */
static const sp_xielu xielus[] = {{0.8F, 0.8F, 0.5F, -1e-6F, 0.5F, 0.25F},
                                  {0.3F, 1.2F, 0.4F, -0.3F, 0.6F, 0.75F}};

static outcome run_xielu(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    const int64_t N = n * dim;
    const sp_xielu *p = &xielus[flag];
    float *x = array_random(N, 1, 4), *dy = array_random(N, 2, 1);
    void *y = array_bytes((size_t)N * be->operand_size);
    void *again = array_bytes((size_t)N * be->operand_size);
    void *dx = array_bytes((size_t)N * be->operand_size), *operand = operand_of(be, x, N);
    outcome o = {.d = array_random(2, 3, 1), .na = N, .nb = N, .nc = N, .nd = 2};
    be->ops->xielu(be, p, x, false, N, y);
    be->ops->xielu(be, p, operand, true, N, again);
    be->ops->xielu_bwd(be, p, operand, dy, N, dx, NULL, NULL);
    be->ops->xielu_bwd(be, p, operand, dy, N, dx, &o.d[0], &o.d[1]);
    o.a = values_and_free(be, y, N);
    o.b = values_and_free(be, again, N);
    o.c = values_and_free(be, dx, N);
    free(operand);
    free(x);
    free(dy);
    return o;
}

static outcome run_glu(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    const int64_t N = n * dim;
    void *kept_gate = array_bytes((size_t)N * be->operand_size);
    void *kept_up = array_bytes((size_t)N * be->operand_size);
    float *gate = array_random(N, 1, 4), *up = array_random(N, 2, 1), *dy = array_random(N, 3, 1);
    gate[0] = -200;
    gate[N / 2] = 200;
    void *y = array_bytes((size_t)N * be->operand_size);
    void *dgate = array_bytes((size_t)N * be->operand_size);
    void *dup = array_bytes((size_t)N * be->operand_size);
    void *gate16 = operand_of(be, gate, N), *up16 = operand_of(be, up, N);
    be->ops->glu(be, activation, gate, up, N, y, flag ? kept_gate : NULL, flag ? kept_up : NULL);
    if (flag) { /* what is kept is what was given, as operands */
        assert_memory_equal(kept_gate, gate16, (size_t)N * be->operand_size);
        assert_memory_equal(kept_up, up16, (size_t)N * be->operand_size);
    }
    be->ops->glu_bwd(be, activation, gate16, up16, dy, N, dgate, dup);
    be->ops->glu_kept(be, activation, gate16, up16, N, kept_up);
    outcome o = {.na = N, .nb = N, .nc = N};
    o.a = values_and_free(be, flag ? kept_up : y, N); /* made again */
    free(flag ? y : kept_up);
    free(kept_gate);
    free(gate16);
    free(up16);
    o.b = values_and_free(be, dgate, N);
    o.c = values_and_free(be, dup, N);
    free(gate);
    free(up);
    free(dy);
    return o;
}

static outcome run_dropout(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    const int64_t N = n * dim;
    const sp_dropout d = {.p = flag ? 0.3F : 0.0F, .seed = 5, .stream = 1ULL << 40};
    float *x = array_random(N, 1, 2);
    void *operand = array_bytes((size_t)N * be->operand_size);
    void *y = array_bytes((size_t)N * be->operand_size);
    outcome o = {.na = N, .b = array_random(N, 2, 1), .nb = N};
    be->ops->to_operand(be, x, N, 1, operand);
    be->ops->dropout(be, operand, N, &d, y);
    be->ops->dropout_add(be, x, N, &d, o.b);
    o.a = values_and_free(be, y, N);
    free(operand);
    free(x);
    return o;
}

/* The share that is dropped is p, what is kept keeps the mean, and the mask is the same each time.
 */
static void test_dropout_share(void **state) {
    (void)state;
    enum { N = 100000 };
    bench b = bench_open(SP_COMPUTE_F32);
    float *x = array_random(N, 1, 0), *y = array_random(N, 2, 1), *z = array_random(N, 3, 1);
    const sp_dropout d = {.p = 0.2F, .seed = 1, .stream = 2};
    int dropped = 0;
    for (int i = 0; i < N; i++) {
        x[i] = 1;
        z[i] = 0;
    }
    b.be[1]->ops->dropout(b.be[1], x, N, &d, y);
    b.be[1]->ops->dropout_add(b.be[1], x, N, &d, z);
    for (int i = 0; i < N; i++) {
        dropped += y[i] == 0;
        assert_true(y[i] == 0 || fabsf(y[i] - 1.25F) < 1e-6F);
    }
    assert_memory_equal(y, z, N * sizeof *y);
    assert_true(abs(dropped - N / 5) < 600); /* 4.7 standard deviations */
    free(x);
    free(y);
    free(z);
    bench_close(&b);
}

static outcome run_exp_sum(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    const float max = flag ? 3.0F : 0.0F, scale = flag ? 0.7F : 1.0F;
    float *x = array_random(n * dim, 1, 8);
    outcome o = {.a = array_random(n, 2, 1), .na = n};
    x[0] = -300; /* underflows to nothing */
    for (int64_t i = 0; i < n; i++) {
        o.a[i] = be->ops->exp_sum(x + i * dim, dim, max, scale);
    }
    free(x);
    return o;
}

static bool rope_part, rope_adjacent; /* of the runs below: about half of a head turns */

static outcome run_rope(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    enum { HEADS = 3, POSITIONS = 50 };
    const int64_t half = (dim + 1) / 2, width = HEADS * 2 * half;
    float *cosines = array_random(POSITIONS * half, 1, 1);
    float *sines = array_random(POSITIONS * half, 2, 1);
    int32_t *at = array_bytes((size_t)n * sizeof *at);
    for (int64_t t = 0; t < n; t++) {
        at[t] = (int32_t)(t * 7 % POSITIONS);
    }
    outcome o = {.a = array_random(n * width, 3, 1), .na = n * width};
    const int dims = half > 2 && rope_part ? (int)(half / 2 * 2) : (int)(2 * half);
    const sp_rotation rotation = {cosines, sines, dims, rope_adjacent};
    be->ops->rope(be, o.a, n, HEADS, (int)(2 * half), &rotation, at, flag ? 1.0F : -1.0F);
    free(cosines);
    free(sines);
    free(at);
    return o;
}

static outcome run_moves(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    enum { TABLE = 11 };
    (void)flag;
    float *table = array_random(TABLE * dim, 1, 1), *dx = array_random(n * dim, 2, 1);
    int32_t *ids = array_bytes((size_t)n * sizeof *ids);
    int64_t *rows = array_bytes((size_t)n * sizeof *rows);
    for (int64_t t = 0; t < n; t++) {
        rows[t] = t * 5 % TABLE;
        ids[t] = (int32_t)rows[t];
    }
    outcome o = {array_zero(n * dim),
                 array_random(TABLE * dim, 3, 1),
                 array_zero(n * dim),
                 array_random(TABLE * dim, 4, 1),
                 n * dim,
                 TABLE * dim,
                 n * dim,
                 TABLE * dim};
    const sp_weight embedding = {.data = table, .out = TABLE, .in = dim};
    be->ops->embed(be, &embedding, ids, n, flag ? 1.0F : 2.5F, o.a);
    be->ops->embed_add(be, table, ids, n, dim, o.a);
    be->ops->embed_dw(be, ids, n, dim, dx, flag ? 1.0F : 2.5F, o.b);
    be->ops->gather(be, table, rows, n, dim, o.c);
    be->ops->scatter_add(be, dx, rows, n, dim, o.d);
    free(table);
    free(dx);
    free(ids);
    free(rows);
    return o;
}

static outcome run_columns(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    float *x = array_random(n * dim, 1, 1), *g = array_random(dim, 2, 1);
    float *bias = flag ? array_random(dim, 3, 1) : NULL, *dy = array_random(n * dim, 4, 1);
    void *operand = array_bytes((size_t)(n * dim) * be->operand_size);
    void *dx = array_bytes((size_t)(n * dim) * be->operand_size);
    outcome o = {.a = array_random(n * dim, 5, 1), .b = array_random(dim, 6, 1)};
    be->ops->scale_columns(be, x, g, bias, n, dim, o.a, flag);
    be->ops->to_operand(be, dy, n * dim, 1, operand);
    be->ops->scale_columns_bwd(be, x, g, operand, n, dim, o.b, dx);
    o.c = values_and_free(be, dx, n * dim);
    o.na = o.nc = n * dim;
    o.nb = dim;
    free(x);
    free(g);
    free(bias);
    free(dy);
    free(operand);
    return o;
}

static void test_columns(void **state) {
    (void)state;
    compare(run_columns, "columns", 1);
}

static void test_norm(void **state) {
    (void)state;
    compare(run_norm, "rmsnorm", 1);
    compare(run_norm_bwd, "rmsnorm_bwd", 10);
    compare(run_layernorm, "layernorm", 1);
    compare(run_layernorm_operand, "layernorm_operand", 10);
    compare(run_layernorm_bwd, "layernorm_bwd", 10);
    compare(run_heads, "layernorm_heads", 10);
}

static void test_glu(void **state) {
    (void)state;
    static const char *const names[] = {"swiglu", "geglu", "geglu by tanh", "reglu",
                                        "squared reglu"};
    for (int i = SP_SILU; i <= SP_RELU2; i++) {
        activation = (sp_act)i;
        compare(run_glu, names[i], 1);
        compare(run_activate_kept, names[i], 1);
    }
    activation = SP_SILU;
}

static void test_xielu(void **state) {
    (void)state;
    compare(run_xielu, "xielu", 10);
}

static void test_activate(void **state) {
    (void)state;
    for (int act = SP_SILU; act <= SP_TANH; act++) {
        activation = (sp_act)act;
        compare(run_activate, "activate", 1);
    }
    activation = SP_SILU;
}

static outcome run_add_scaled(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    float *x = array_random(n * dim, 1, 1);
    outcome o = {.a = array_random(n * dim, 2, 1), .na = n * dim};
    be->ops->add_scaled(be, x, n * dim, flag ? 1.0F : 0.22F, o.a);
    free(x);
    return o;
}

/* Forward, without and with what the backward wants, and backward. */
static outcome run_clip(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    uint8_t *kept = array_bytes((size_t)(n * dim));
    outcome o = {.a = array_random(n * dim, 1, 2), .b = array_random(n * dim, 2, 1)};
    be->ops->clip(be, o.a, n * dim, 0.75F, flag ? NULL : kept);
    if (!flag) {
        be->ops->clip_bwd(be, o.b, n * dim, kept);
    }
    o.na = o.nb = n * dim;
    free(kept);
    return o;
}

static void test_clip(void **state) {
    (void)state;
    enum { N = 5 };
    bench b = bench_open(SP_COMPUTE_F32);
    compare(run_clip, "clip", 0);
    for (int i = 0; i < BENCH_COUNT; i++) {
        float x[N] = {-3, -0.5F, 0, 0.5F, 0.625F}, dx[N] = {1, 2, 3, 4, 5};
        uint8_t kept[N];
        b.be[i]->ops->clip(b.be[i], x, N, 0.5F, kept);
        b.be[i]->ops->clip_bwd(b.be[i], dx, N, kept);
        assert_memory_equal(x, ((const float[N]){-0.5F, -0.5F, 0, 0.5F, 0.5F}), sizeof x);
        assert_memory_equal(dx, ((const float[N]){0, 2, 3, 4, 0}), sizeof dx);
    }
    bench_close(&b);
}

/* Large logits come to the cap, and small ones stay what they are. */
static outcome run_form(sp_backend *be, int64_t n, int64_t dim, bool flag) {
    const sp_logit_form form = {.scale = flag ? 1.0F : 0.125F, .cap = flag ? 3.0F : 0.0F};
    outcome o = {.a = array_random(n * dim, 1, 8), .na = n * dim};
    o.a[0] = 1e-4F;
    o.a[n * dim / 2] = flag ? -300.0F : 1.0F;
    be->ops->form_logits(be, &form, n * dim, o.a);
    return o;
}

static void test_scaled(void **state) {
    (void)state;
    compare(run_add_scaled, "add_scaled", 1);
    compare(run_form, "form_logits", 1);
}

/* Against the library's, near 0 too, where the gain is not to cancel. */
static void test_caps(void **state) {
    (void)state;
    sp_simd simd;
    sp_simd_choose(sp_cpu_isa(), &simd);
    enum { N = 4001 };
    float *x = array_zero(N), *y = array_zero(N);
    const sp_logit_form form = {.scale = 1, .cap = 1};
    for (int i = 0; i < N; i++) {
        x[i] = y[i] = (float)(5e-3 * (i - N / 2) + 1e-6);
    }
    simd.form_logits(&form, N, y);
    for (int i = 0; i < N; i++) {
        const double want = tanh((double)x[i]);
        if (!(fabs((double)y[i] - want) <= fabs(want) * 0x1p-21)) {
            fail_msg("tanh(%.9g): got %.9g, want %.9g", (double)x[i], (double)y[i], want);
        }
    }
    free(x);
    free(y);
}

static void test_dropout(void **state) {
    (void)state;
    compare(run_dropout, "dropout", 1);
}

static void test_exp_sum(void **state) {
    (void)state;
    compare(run_exp_sum, "exp_sum", 1);
}

static void test_rope(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        rope_part = i % 2 == 1;
        rope_adjacent = i >= 2;
        compare(run_rope, "rope", 1);
    }
}

static void test_moves(void **state) {
    (void)state;
    compare(run_moves, "embed, gather", 1);
}

/* Rotating by an angle and back gives the vector again. */
static void test_rope_back(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    float c[8], s[8], *x = array_random(2 * 16, 1, 1), *y = array_copy(x, 2 * 16);
    const int32_t at[] = {0, 0};
    for (int i = 0; i < 8; i++) {
        c[i] = cosf(0.3F * (float)i);
        s[i] = sinf(0.3F * (float)i);
    }
    for (int i = 0; i < BENCH_COUNT; i++) {
        const sp_rotation rotation = {c, s, 16, i % 2 == 1};
        b.be[i]->ops->rope(b.be[i], x, 2, 1, 16, &rotation, at, 1);
        b.be[i]->ops->rope(b.be[i], x, 2, 1, 16, &rotation, at, -1);
        assert_close("rope and back", x, y, 32, 1e-6);
    }
    free(x);
    free(y);
    bench_close(&b);
}

/* A loss of a vector: the difference quotient of f at x[i] against want. */
typedef double (*loss_fn)(sp_backend *be, const float *x, const float *weight, int64_t n);

static double norm_loss(sp_backend *be, const float *x, const float *weight, int64_t n) {
    float y[32], rstd[1], g[32] = {0};
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        g[i] = 0.5F + 0.1F * (float)i;
    }
    be->ops->rmsnorm_f32(be, x, g, 1, n, 1e-5F, y, rstd);
    for (int64_t i = 0; i < n; i++) {
        sum += (double)y[i] * (double)weight[i];
    }
    return sum;
}

static double layernorm_loss(sp_backend *be, const float *x, const float *weight, int64_t n) {
    float y[32], rstd[1], g[32] = {0};
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        g[i] = 0.5F + 0.1F * (float)i;
    }
    be->ops->layernorm_operand(be, x, g, g, 1, n, 1e-5F, y, rstd);
    for (int64_t i = 0; i < n; i++) {
        sum += (double)y[i] * (double)weight[i];
    }
    return sum;
}

/* Of two heads, each with its own gain. */
static const float two_gains[32] = {1.0F, 0.5F, -1.5F, 2.0F, [16] = 0.25F, -1.0F, 3.0F, 0.75F};
static const sp_head_gains two_heads = {.at = two_gains, .heads = 2, .dim = 16, .step = 16};

static double heads_loss(sp_backend *be, const float *x, const float *weight, int64_t n) {
    float y[32], rstd[2];
    double sum = 0;
    be->ops->layernorm_heads(be, x, &two_heads, 1, 1e-5F, y, rstd);
    for (int64_t i = 0; i < n; i++) {
        sum += (double)y[i] * (double)weight[i];
    }
    return sum;
}

static double heads_gain_loss(sp_backend *be, const float *g, const float *weight, int64_t n) {
    float y[32], rstd[2], x[32];
    double sum = 0;
    const sp_head_gains heads = {.at = g, .heads = 2, .dim = 16, .step = 16};
    for (int64_t i = 0; i < n; i++) {
        x[i] = sinf((float)i);
    }
    be->ops->layernorm_heads(be, x, &heads, 1, 1e-5F, y, rstd);
    for (int64_t i = 0; i < n; i++) {
        sum += (double)y[i] * (double)weight[i];
    }
    return sum;
}

/* Of the gain, with a row that is no parameter. */
static double gain_loss(sp_backend *be, const float *g, const float *weight, int64_t n) {
    float y[32], rstd[1], x[32];
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        x[i] = sinf((float)i);
    }
    be->ops->layernorm_operand(be, x, g, NULL, 1, n, 1e-5F, y, rstd);
    for (int64_t i = 0; i < n; i++) {
        sum += (double)y[i] * (double)weight[i];
    }
    return sum;
}

static double activate_loss(sp_backend *be, const float *x, const float *weight, int64_t n) {
    float y[32];
    double sum = 0;
    be->ops->activate(be, activation, x, NULL, 1, n, true, y);
    for (int64_t i = 0; i < n; i++) {
        sum += (double)y[i] * (double)weight[i];
    }
    return sum;
}

static sp_xielu curve; /* of the runs below */

static double xielu_loss(sp_backend *be, const float *x, const float *weight, int64_t n) {
    float y[32];
    double sum = 0;
    be->ops->xielu(be, &curve, x, false, n, y);
    for (int64_t i = 0; i < n; i++) {
        sum += (double)y[i] * (double)weight[i];
    }
    return sum;
}

static float curved_at[32]; /* where `curve` is taken, by its parameters */

/* x: positive and negative. */
static double curve_loss(sp_backend *be, const float *x, const float *weight, int64_t n) {
    (void)n;
    curve.positive = x[0];
    curve.negative = x[1];
    return xielu_loss(be, curved_at, weight, 32);
}

static double glu_loss(sp_backend *be, const float *x, const float *weight, int64_t n) {
    float y[16];
    double sum = 0;
    be->ops->glu(be, activation, x, x + n / 2, n / 2, y, NULL, NULL);
    for (int64_t i = 0; i < n / 2; i++) {
        sum += (double)y[i] * (double)weight[i];
    }
    return sum;
}

static void check_slopes(sp_backend *be, loss_fn f, float *x, const float *weight, int64_t n,
                         const float *got) {
    for (int64_t i = 0; i < n; i++) {
        const float old = x[i], step = 4e-3F;
        x[i] = old + step;
        const double high = f(be, x, weight, n), up = (double)x[i];
        x[i] = old - step;
        const double low = f(be, x, weight, n), down = (double)x[i];
        x[i] = old;
        const double want = (high - low) / (up - down);
        if (fabs(want - (double)got[i]) > 1e-3 * fmax(1, fabs(want))) {
            fail_msg("[%d]: gradient %.6g, difference quotient %.6g", (int)i, (double)got[i], want);
        }
    }
}

/* Between eps and 0 the curve falls by x alone, and it steps at 0: x keeps away from both. */
static void check_xielu(sp_backend *be, sp_backend *reference, const float *w) {
    for (int k = 0; k < 2; k++) {
        float dx[32], both[2] = {xielus[k].positive, xielus[k].negative}, dboth[2] = {0};
        curve = xielus[k];
        curve.by_positive = curve.by_negative = 1;
        for (int i = 0; i < 32; i++) {
            curved_at[i] = 0.17F * ((float)i - 15.4F);
        }
        be->ops->xielu_bwd(be, &curve, curved_at, w, 32, dx, &dboth[0], &dboth[1]);
        check_slopes(reference, xielu_loss, curved_at, w, 32, dx);
        check_slopes(reference, curve_loss, both, w, 2, dboth);
    }
}

static void test_differences(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    float *x = array_random(32, 1, 1), *w = array_random(32, 2, 1), g[32], dx[32], y[32], rstd[1];
    for (int i = 0; i < 32; i++) {
        g[i] = 0.5F + 0.1F * (float)i;
    }
    for (int i = BENCH_REFERENCE; i <= BENCH_ONE; i++) {
        sp_backend *be = b.be[i];
        be->ops->rmsnorm_f32(be, x, g, 1, 32, 1e-5F, y, rstd);
        be->ops->rmsnorm_bwd(be, x, g, rstd, w, 1, 32, dx, false, NULL);
        check_slopes(b.be[BENCH_REFERENCE], norm_loss, x, w, 32, dx);
        be->ops->layernorm_operand(be, x, g, g, 1, 32, 1e-5F, y, rstd);
        be->ops->layernorm_bwd(be, x, g, rstd, w, 1, 32, dx, false, NULL, NULL);
        check_slopes(b.be[BENCH_REFERENCE], layernorm_loss, x, w, 32, dx);
        float dg[32] = {0}, dbias[32] = {0}, row[32];
        for (int k = 0; k < 32; k++) {
            row[k] = sinf((float)k);
        }
        be->ops->layernorm_operand(be, row, g, NULL, 1, 32, 1e-5F, y, rstd);
        be->ops->layernorm_bwd(be, row, g, rstd, w, 1, 32, dx, false, dg, dbias);
        check_slopes(b.be[BENCH_REFERENCE], gain_loss, g, w, 32, dg);
        assert_memory_equal(dbias, w, sizeof dbias); /* y is linear in it */
        float norms[2], dgains[32] = {0}, gains[32];
        be->ops->layernorm_heads(be, x, &two_heads, 1, 1e-5F, y, norms);
        be->ops->layernorm_heads_bwd(be, x, &two_heads, norms, w, 1, dx, NULL);
        check_slopes(b.be[BENCH_REFERENCE], heads_loss, x, w, 32, dx);
        memcpy(gains, two_gains, sizeof gains);
        be->ops->layernorm_heads(be, row, &two_heads, 1, 1e-5F, y, norms);
        be->ops->layernorm_heads_bwd(be, row, &two_heads, norms, w, 1, dx, dgains);
        check_slopes(b.be[BENCH_REFERENCE], heads_gain_loss, gains, w, 32, dgains);
        for (int act = SP_SILU; act <= SP_RELU2; act++) {
            activation = (sp_act)act;
            be->ops->activate_bwd(be, activation, x, w, 32, dx);
            check_slopes(b.be[BENCH_REFERENCE], activate_loss, x, w, 32, dx);
            be->ops->glu_bwd(be, activation, x, x + 16, w, 16, dx, dx + 16);
            check_slopes(b.be[BENCH_REFERENCE], glu_loss, x, w, 32, dx);
        }
        activation = SP_SILU;
        check_xielu(be, b.be[BENCH_REFERENCE], w);
    }
    free(x);
    free(w);
    bench_close(&b);
}

/* Documented: relative error below 2^-22 from the smallest normal number to e^88.37. */
static void test_exp(void **state) {
    (void)state;
    sp_simd simd;
    sp_simd_choose(sp_cpu_isa(), &simd);
    enum { N = 4001 };
    float *x = array_zero(N), *y = array_zero(N);
    for (int part = 0; part < 88; part++) {
        for (int i = 0; i < N; i++) {
            x[i] = (float)(-87.3 + 2.0 * (part + (double)i / N) * 0.998);
        }
        simd.exp(x, N, y);
        for (int i = 0; i < N; i++) {
            const double want = exp((double)x[i]);
            if (!(fabs((double)y[i] - want) < want * 0x1p-22)) {
                fail_msg("exp(%.9g): got %.9g, want %.9g", (double)x[i], (double)y[i], want);
            }
        }
    }
    const float special[] = {-INFINITY, -1000, -87.34F, 0, 1000, INFINITY, NAN};
    float got[7];
    simd.exp(special, 7, got);
    assert_true(got[0] == 0.0F && got[1] == 0.0F && got[2] == 0.0F && got[3] == 1.0F);
    assert_true(got[4] > 2e38F && got[5] == got[4] && isnan(got[6]));
    free(x);
    free(y);
}

static void test_bf16_rounding(void **state) {
    (void)state;
    assert_int_equal(sp_bf16_from_f32(1.0F), 0x3f80);
    assert_int_equal(sp_bf16_from_f32(1.00390625F), 0x3f80); /* a tie goes to even */
    assert_int_equal(sp_bf16_from_f32(1.01171875F), 0x3f82);
    assert_int_equal(sp_bf16_from_f32(1.0040F), 0x3f81);
    assert_int_equal(sp_bf16_from_f32(3.4e38F), 0x7f80);
    assert_int_equal(sp_bf16_from_f32(-INFINITY), 0xff80);
    const float nan[] = {NAN};
    uint16_t half[1];
    sp_simd simd;
    sp_simd_choose(sp_cpu_isa(), &simd);
    simd.to_bf16(nan, 1, half);
    assert_true(isnan(sp_bf16_to_f32(half[0])) && isnan(sp_bf16_to_f32(sp_bf16_from_f32(NAN))));
}

/* The cap of the environment, which the whole suite can also be run under. */
static void test_cap(void **state) {
    (void)state;
    const char *old = getenv("SPAR_MAX_ISA");
    char keep[16];
    snprintf(keep, sizeof keep, "%s", old == NULL ? "" : old);
    assert_int_equal(setenv("SPAR_MAX_ISA", "base", 1), 0);
    assert_int_equal(sp_cpu_isa(), SP_ISA_BASE);
    assert_false(sp_cpu_has_bf16());
    test_exp(state);
    compare(run_norm, "rmsnorm", 1);
    test_glu(state);
    test_caps(state);
    assert_int_equal(old == NULL ? unsetenv("SPAR_MAX_ISA") : setenv("SPAR_MAX_ISA", keep, 1), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_activate),    cmocka_unit_test(test_xielu),
        cmocka_unit_test(test_exp),         cmocka_unit_test(test_bf16_rounding),
        cmocka_unit_test(test_norm),        cmocka_unit_test(test_glu),
        cmocka_unit_test(test_rope),        cmocka_unit_test(test_exp_sum),
        cmocka_unit_test(test_dropout),     cmocka_unit_test(test_dropout_share),
        cmocka_unit_test(test_rope_back),   cmocka_unit_test(test_moves),
        cmocka_unit_test(test_differences), cmocka_unit_test(test_cap),
        cmocka_unit_test(test_columns),     cmocka_unit_test(test_clip),
        cmocka_unit_test(test_scaled),      cmocka_unit_test(test_caps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
