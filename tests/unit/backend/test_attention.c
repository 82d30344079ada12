/* Attention: tuned against reference over random forests of segments, and backward against
 * differences of the reference forward. */
#include "compare.h"
#include "tensor/dtype.h"

enum { SEGMENTS_MAX = 24, HEADS_MAX = 130 };

typedef struct forest {
    sp_attention a;
    sp_segment segments[SEGMENTS_MAX];
    float slopes[HEADS_MAX];
    int64_t queries, keys;
} forest;

typedef struct recipe {
    int n_heads, n_kv_heads, head_dim, window, n_segments, longest;
    bool decode; /* fewer queries than keys */
    float cap;
    bool slopes;
} recipe;

static const recipe training[] = {
    {1, 1, 2, 0, 1, 7, false, 0, false},     {3, 1, 64, 0, 4, 80, false, 0, false},
    {4, 2, 20, 0, 12, 33, false, 0, false},  {9, 3, 64, 0, 2, 80, false, 0, false},
    {6, 2, 16, 13, 6, 80, false, 0, false},  {2, 2, 128, 2, 3, 65, false, 0, false},
    {130, 2, 8, 0, 3, 9, false, 0, false},   {7, 1, 8, 0, 20, 3, false, 0, false},
    {2, 1, 24, 70, 3, 140, false, 0, false}, {4, 2, 24, 9, 6, 80, false, 2, false},
    {6, 2, 24, 0, 6, 80, false, 0, true},    {3, 1, 10, 9, 9, 60, false, 0, true},
    {130, 2, 8, 0, 3, 9, false, 0, true},
};
/* Head sizes for which bf16 has kernels of its own, and more keys than a block of theirs holds. */
static const recipe wide[] = {
    {3, 1, 32, 0, 3, 300, false, 0, false}, {9, 3, 64, 40, 6, 90, false, 0, false},
    {2, 2, 96, 0, 4, 65, false, 0, false},  {4, 1, 128, 0, 3, 40, false, 0, false},
    {70, 1, 32, 0, 4, 9, false, 0, false},  {1, 1, 256, 7, 2, 20, false, 0, false},
    {4, 4, 32, 0, 20, 3, false, 0, false},  {4, 2, 64, 30, 5, 90, false, 1.5F, false},
    {6, 3, 64, 0, 5, 90, false, 0, true},   {70, 1, 32, 40, 4, 9, false, 0, true},
    {3, 1, 32, 0, 3, 300, false, 0, true},
};
static const recipe decoding[] = {
    {9, 3, 64, 0, 20, 80, true, 0, false},    {3, 1, 32, 20, 10, 60, true, 0, false},
    {14, 2, 16, 0, 9, 70, true, 0, false},    {2, 2, 65, 0, 7, 129, true, 0, false},
    {70, 1, 4, 5, 6, 20, true, 0, false},     {3, 1, 32, 0, 6, 300, true, 0, false},
    {4, 2, 96, 33, 9, 50, true, 0, false},    {40, 1, 32, 0, 9, 40, true, 0, false},
    {4, 2, 32, 30, 9, 80, true, 1.5F, false}, {9, 1, 20, 0, 9, 80, true, 2, false},
    {9, 3, 64, 0, 20, 80, true, 0, true},     {14, 2, 16, 0, 9, 70, true, 0, true},
    {4, 2, 32, 30, 9, 80, true, 0, true},     {3, 1, 32, 0, 6, 300, true, 0, true},
};
enum {
    N_TRAINING = sizeof training / sizeof training[0],
    N_WIDE = sizeof wide / sizeof wide[0],
    N_DECODING = sizeof decoding / sizeof decoding[0]
};

/* Random segments, each a root or a child of an earlier one, laid out with gaps; in decoding some
 * have no queries, most one, some a few. */
static void plant(forest *f, recipe r, uint64_t seed) {
    sp_rng rng = {seed, 9, 0};
    memset(f, 0, sizeof *f);
    f->a = (sp_attention){.n_heads = r.n_heads,
                          .n_kv_heads = r.n_kv_heads,
                          .head_dim = r.head_dim,
                          .window = r.window,
                          .scale = ldexpf(1, -(int)lrintf(log2f((float)r.head_dim) / 2)),
                          .cap = r.cap,
                          .slopes = r.slopes ? f->slopes : NULL,
                          .n_segments = r.n_segments,
                          .segments = f->segments};
    for (int h = 0; h < r.n_heads; h++) {
        f->slopes[h] = ldexpf(1.5F, -1 - h % 9);
    }
    for (int s = 0; s < r.n_segments; s++) {
        sp_segment *g = &f->segments[s];
        const uint64_t pick = sp_rng_next_below(&rng, (uint64_t)s + 1);
        g->parent = s == 0 || sp_rng_next_below(&rng, 3) == 0 ? -1 : (int32_t)pick;
        g->parent = g->parent == s ? s - 1 : g->parent;
        g->pos0 = g->parent < 0 ? 0 : f->segments[g->parent].pos0 + f->segments[g->parent].kv_len;
        g->kv_len = 1 + (int32_t)sp_rng_next_below(&rng, (uint64_t)r.longest);
        g->q_len = g->kv_len;
        if (r.decode && s > 0) {
            const int32_t some = (int32_t)sp_rng_next_below(&rng, 6);
            g->q_len = some > 3 ? 1 : some;
            g->q_len = g->q_len > g->kv_len ? g->kv_len : g->q_len;
        }
        f->keys += (int64_t)sp_rng_next_below(&rng, 3);
        g->kv_start = f->keys;
        g->q_start = f->queries;
        f->keys += g->kv_len;
        f->queries += g->q_len;
    }
}

typedef struct input {
    int64_t nq, nk, nl;
    float *q, *k, *v, *dout;
} input;

/* Random numbers that bf16 holds, as the scaled queries do too (the scale is a power of two): what
 * differs from the reference is then what a kernel rounds on its way. */
static float *numbers(int64_t n, uint64_t seed, double scale) {
    float *x = array_random(n, seed, scale);
    for (int64_t i = 0; i < n; i++) {
        x[i] = sp_bf16_to_f32(sp_bf16_from_f32(x[i]));
    }
    return x;
}

static input make_input(const forest *f) {
    input x = {f->queries * f->a.n_heads * f->a.head_dim,
               f->keys * f->a.n_kv_heads * f->a.head_dim,
               f->queries * f->a.n_heads,
               NULL,
               NULL,
               NULL,
               NULL};
    x.q = numbers(x.nq, 1, 1.5);
    x.k = numbers(x.nk, 2, 1.5);
    x.v = numbers(x.nk, 3, 1);
    x.dout = numbers(x.nq, 4, 1);
    return x;
}

static void input_free(input *x) {
    free(x->q);
    free(x->k);
    free(x->v);
    free(x->dout);
}

typedef struct result {
    void *out;
    float *values, *lse, *dq, *dk, *dv;
} result;

typedef enum place { IN_ROWS, IN_CACHE, IN_BF16_CACHE } place;

/* The forward with keys and values as they are, or put into a cache first. */
static void forward(sp_backend *be, const forest *f, const input *x, place where, void *out,
                    float *lse) {
    sp_attention a = f->a;
    if (where == IN_ROWS) {
        assert_int_equal(be->ops->attention(be, &a, x->q, x->k, x->v, out, lse, NULL), SPAR_OK);
        return;
    }
    const int64_t row = (int64_t)a.n_kv_heads * a.head_dim, first = f->keys / 2;
    a.cache_rows = f->keys + 3;
    a.cache_bf16 = where == IN_BF16_CACHE;
    const size_t bytes = (size_t)(a.cache_rows * row) * (a.cache_bf16 ? 2 : 4);
    void *cache[2] = {array_bytes(bytes), array_bytes(bytes)};
    for (int i = 0; i < 2; i++) {
        const float *from = i == 0 ? x->k : x->v;
        memset(cache[i], 0xff, bytes); /* NaN: no row that nobody wrote may count */
        be->ops->cache_put(be, from, first, a.n_kv_heads, a.head_dim, cache[i], a.cache_rows,
                           a.cache_bf16, 0);
        be->ops->cache_put(be, from + first * row, f->keys - first, a.n_kv_heads, a.head_dim,
                           cache[i], a.cache_rows, a.cache_bf16, first);
    }
    assert_int_equal(be->ops->attention(be, &a, x->q, cache[0], cache[1], out, lse, NULL), SPAR_OK);
    free(cache[0]);
    free(cache[1]);
}

/* The backward starts from the output `given`, so that what it rounds is seen alone. */
static result run(sp_backend *be, const forest *f, const input *x, place where, bool backward,
                  const result *given) {
    result r = {array_bytes((size_t)x->nq * be->operand_size),
                NULL,
                array_zero(x->nl),
                array_random(x->nq, 5, 1),
                array_random(x->nk, 6, 1),
                array_random(x->nk, 6, 1)};
    forward(be, f, x, where, r.out, r.lse);
    r.values = operand_values(be, r.out, x->nq);
    if (backward) {
        const result *from = given != NULL ? given : &r;
        assert_int_equal(be->ops->attention_bwd(be, &f->a, x->q, x->k, x->v, from->out, from->lse,
                                                x->dout, r.dq, r.dk, r.dv, NULL),
                         SPAR_OK);
    }
    return r;
}

static void result_free(result *r) {
    free(r->out);
    free(r->values);
    free(r->lse);
    free(r->dq);
    free(r->dk);
    free(r->dv);
}

static void compare_results(const result *got, const result *want, const input *x, bool rounds) {
    /* Rounding to bf16 moves a number by 2^-8 of itself at most. Where kernels round probabilities
     * and gradients of scores, sums of such terms move by at most 2^-8 of the sum of the terms'
     * sizes: for the outputs, averages of v, that is 2^-8 of the largest v, and the roundings of
     * both outputs come on top. In the gradients the sizes sum to more than the largest sum, but
     * the roundings' signs differ. */
    const double tolerance = rounds ? ldexp(1, -8) : 2e-5;
    assert_close("out", got->values, want->values, x->nq, rounds ? 3 * tolerance : tolerance);
    assert_close("lse", got->lse, want->lse, x->nl, 2e-6);
    assert_close("dq", got->dq, want->dq, x->nq, tolerance);
    assert_close("dk", got->dk, want->dk, x->nk, tolerance);
    assert_close("dv", got->dv, want->dv, x->nk, tolerance);
}

static void compare(sp_compute compute, const recipe *r, int n, place where, bool backward) {
    bench b = bench_open(compute);
    for (int i = 0; i < n; i++) {
        forest f;
        plant(&f, r[i], (uint64_t)i + 1);
        input x = make_input(&f);
        result want = run(b.be[BENCH_REFERENCE], &f, &x, where, backward, NULL);
        result one = run(b.be[BENCH_ONE], &f, &x, where, backward, &want);
        compare_results(&one, &want, &x, compute == SP_COMPUTE_BF16 || where == IN_BF16_CACHE);
        for (int t = BENCH_TWO; t <= BENCH_THREE; t++) {
            result more = run(b.be[t], &f, &x, where, backward, &want);
            assert_same("out", one.values, more.values, (size_t)x.nq * sizeof(float));
            assert_same("lse", one.lse, more.lse, (size_t)x.nl * sizeof(float));
            assert_same("dq", one.dq, more.dq, (size_t)x.nq * sizeof(float));
            assert_same("dk", one.dk, more.dk, (size_t)x.nk * sizeof(float));
            assert_same("dv", one.dv, more.dv, (size_t)x.nk * sizeof(float));
            result_free(&more);
        }
        result_free(&want);
        result_free(&one);
        input_free(&x);
    }
    bench_close(&b);
}

static void test_training(void **state) {
    (void)state;
    compare(SP_COMPUTE_F32, training, N_TRAINING, IN_ROWS, true);
    compare(SP_COMPUTE_F32, wide, 2, IN_ROWS, true);
}

static void test_training_bf16(void **state) {
    (void)state;
    compare(SP_COMPUTE_BF16, training, N_TRAINING, IN_ROWS, true);
    compare(SP_COMPUTE_BF16, wide, N_WIDE, IN_ROWS, true);
}

static void test_decoding(void **state) {
    (void)state;
    compare(SP_COMPUTE_F32, decoding, N_DECODING, IN_ROWS, false);
    compare(SP_COMPUTE_BF16, decoding, N_DECODING, IN_ROWS, false);
}

static void test_cache(void **state) {
    (void)state;
    for (place where = IN_CACHE; where <= IN_BF16_CACHE; where++) {
        compare(SP_COMPUTE_F32, decoding, N_DECODING, where, false);
        compare(SP_COMPUTE_BF16, decoding, N_DECODING, where, false);
    }
}

/* One sequence of n tokens, at the edges of vectors, tiles and blocks. */
static void test_lengths(void **state) {
    (void)state;
    static const int32_t lengths[] = {1, 2, 7, 15, 16, 17, 31, 33, 63, 65, 255, 256, 257};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        bench b = bench_open(SP_COMPUTE_BF16);
        const int32_t n = lengths[i];
        forest f = {
            .a = {1, 1, 32, 0, 0.25F, 0, NULL, 1, f.segments, 0, false}, .queries = n, .keys = n};
        f.segments[0] = (sp_segment){0, 0, n, n, -1, 0};
        input x = make_input(&f);
        result want = run(b.be[BENCH_REFERENCE], &f, &x, IN_ROWS, true, NULL);
        result got = run(b.be[BENCH_ONE], &f, &x, IN_ROWS, true, &want);
        compare_results(&got, &want, &x, true);
        result_free(&want);
        result_free(&got);
        input_free(&x);
        bench_close(&b);
    }
}

/* Rows of one tree dealt to several tasks: the gradients of keys are sums over all of them. */
static void test_slices(void **state) {
    (void)state;
    for (sp_compute compute = SP_COMPUTE_F32; compute <= SP_COMPUTE_BF16; compute++) {
        compare(compute, &(recipe){5, 1, 32, 0, 2, 260, false, 0, false}, 1, IN_ROWS, true);
    }
}

/* The kernels of each lower instruction set (a level that this CPU lacks is tested as the highest
 * that it has). */
static void test_levels(void **state) {
    (void)state;
    static const char *const levels[] = {"base", "v3", "v4", "vnni", "bf16"};
    const char *old = getenv("SPAR_MAX_ISA");
    char keep[16];
    snprintf(keep, sizeof keep, "%s", old == NULL ? "" : old);
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        assert_int_equal(setenv("SPAR_MAX_ISA", levels[i], 1), 0);
        compare(SP_COMPUTE_F32, training, 3, IN_ROWS, true);
        compare(SP_COMPUTE_F32, training + N_TRAINING - 1, 1, IN_ROWS, true);
        compare(SP_COMPUTE_F32, decoding + 1, 2, IN_CACHE, false);
        compare(SP_COMPUTE_BF16, wide + 1, N_WIDE - 1, IN_ROWS, true);
        compare(SP_COMPUTE_BF16, decoding, 2, IN_BF16_CACHE, false);
        compare(SP_COMPUTE_BF16, decoding + N_DECODING - 2, 2, IN_BF16_CACHE, false);
    }
    assert_int_equal(old == NULL ? unsetenv("SPAR_MAX_ISA") : setenv("SPAR_MAX_ISA", keep, 1), 0);
}

/* A token's output does not depend on what else is in the batch: a tree packed with another. */
static void test_alone(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    sp_segment both[] = {{0, 0, 40, 40, -1, 0}, {40, 40, 30, 30, 0, 40}, {70, 70, 50, 50, 0, 40}};
    sp_segment one[] = {{0, 0, 40, 40, -1, 0}, {40, 70, 50, 50, 0, 40}};
    sp_attention a = {4, 2, 16, 0, 0.25F, 0, NULL, 3, both, 0, false}, c = a;
    c.n_segments = 2, c.segments = one;
    float *q = array_random(120L * 64, 1, 1), *k = array_random(120L * 32, 2, 1);
    float *v = array_random(120L * 32, 3, 1), *x = array_zero(120L * 64), *y = array_zero(90L * 64);
    float *q2 = array_copy(q, 90L * 64);
    memcpy(q2 + 40L * 64, q + 70L * 64, 50L * 64 * sizeof *q);
    for (int i = 0; i < BENCH_COUNT; i++) {
        sp_backend *be = b.be[i];
        assert_int_equal(be->ops->attention(be, &a, q, k, v, x, NULL, NULL), SPAR_OK);
        assert_int_equal(be->ops->attention(be, &c, q2, k, v, y, NULL, NULL), SPAR_OK);
        assert_close("prompt", y, x, 40L * 64, 1e-6);
        assert_close("response", y + 40L * 64, x + 70L * 64, 50L * 64, 1e-6);
    }
    free(q);
    free(k);
    free(v);
    free(x);
    free(y);
    free(q2);
    bench_close(&b);
}

/* loss = sum of dout * out through the reference forward. */
static double loss(sp_backend *be, const forest *f, const input *x, float *out) {
    double sum = 0;
    assert_int_equal(be->ops->attention(be, &f->a, x->q, x->k, x->v, out, NULL, NULL), SPAR_OK);
    for (int64_t i = 0; i < x->nq; i++) {
        sum += (double)out[i] * (double)x->dout[i];
    }
    return sum;
}

static void check_slope(sp_backend *be, const forest *f, const input *x, float *at, double got,
                        float *out, const char *what) {
    const float old = *at, step = 2e-3F;
    *at = old + step;
    const double high = loss(be, f, x, out), up = (double)*at;
    *at = old - step;
    const double low = loss(be, f, x, out), down = (double)*at;
    *at = old;
    const double want = (high - low) / (up - down);
    if (fabs(want - got) > 2e-3 * fmax(1, fabs(want))) {
        fail_msg("%s: gradient %.6g, difference quotient %.6g", what, got, want);
    }
}

static void check_differences(float cap, bool slopes) {
    bench b = bench_open(SP_COMPUTE_F32);
    const recipe r = {4, 2, 6, 5, 4, 6, false, cap, slopes};
    forest f;
    plant(&f, r, 77);
    input x = make_input(&f);
    float *out = array_zero(x.nq);
    sp_backend *reference = b.be[BENCH_REFERENCE];
    for (int i = BENCH_REFERENCE; i <= BENCH_ONE; i++) {
        result g = run(b.be[i], &f, &x, IN_ROWS, true, NULL);
        for (int64_t j = 0; j < x.nq; j += 5) {
            check_slope(reference, &f, &x, x.q + j, (double)g.dq[j], out, "dq");
        }
        for (int s = 0; s < f.a.n_segments; s++) {
            const int64_t j = f.segments[s].kv_start * f.a.n_kv_heads * f.a.head_dim + s;
            check_slope(reference, &f, &x, x.k + j, (double)g.dk[j], out, "dk");
            check_slope(reference, &f, &x, x.v + j, (double)g.dv[j], out, "dv");
        }
        result_free(&g);
    }
    free(out);
    input_free(&x);
    bench_close(&b);
}

static void test_differences(void **state) {
    (void)state;
    check_differences(0, false);
    check_differences(1.5F, false);
    check_differences(0, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training),   cmocka_unit_test(test_training_bf16),
        cmocka_unit_test(test_decoding),   cmocka_unit_test(test_cache),
        cmocka_unit_test(test_lengths),    cmocka_unit_test(test_slices),
        cmocka_unit_test(test_levels),     cmocka_unit_test(test_alone),
        cmocka_unit_test(test_differences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
