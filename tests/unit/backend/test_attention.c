/* Attention: tuned against reference over random forests of segments, and backward against
 * differences of the reference forward. */
#include "compare.h"

enum { SEGMENTS_MAX = 24 };

typedef struct forest {
    sp_attention a;
    sp_segment segments[SEGMENTS_MAX];
    int64_t queries, keys;
} forest;

typedef struct recipe {
    int n_heads, n_kv_heads, head_dim, window, n_segments, longest;
    bool decode; /* fewer queries than keys */
} recipe;

static const recipe training[] = {
    {1, 1, 2, 0, 1, 7, false},   {3, 1, 64, 0, 4, 80, false},  {4, 2, 20, 0, 12, 33, false},
    {9, 3, 64, 0, 2, 80, false}, {6, 2, 16, 13, 6, 80, false}, {2, 2, 128, 2, 3, 65, false},
    {130, 2, 8, 0, 3, 9, false}, {7, 1, 8, 0, 20, 3, false},   {2, 1, 24, 70, 3, 140, false},
};
static const recipe decoding[] = {
    {9, 3, 64, 0, 20, 80, true}, {3, 1, 32, 20, 10, 60, true}, {14, 2, 16, 0, 9, 70, true},
    {2, 2, 65, 0, 7, 129, true}, {70, 1, 4, 5, 6, 20, true},
};
enum {
    N_TRAINING = sizeof training / sizeof training[0],
    N_DECODING = sizeof decoding / sizeof decoding[0]
};

/* Random segments, each a root or a child of an earlier one, laid out with gaps; in decoding some
 * have no queries, most one, some a few. */
static void plant(forest *f, recipe r, uint64_t seed) {
    sp_rng rng = {seed, 9, 0};
    memset(f, 0, sizeof *f);
    f->a = (sp_attention){
        r.n_heads,    r.n_kv_heads, r.head_dim, r.window, 1.0F / sqrtf((float)r.head_dim),
        r.n_segments, f->segments};
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

static input make_input(const forest *f) {
    input x = {f->queries * f->a.n_heads * f->a.head_dim,
               f->keys * f->a.n_kv_heads * f->a.head_dim,
               f->queries * f->a.n_heads,
               NULL,
               NULL,
               NULL,
               NULL};
    x.q = array_random(x.nq, 1, 1.5);
    x.k = array_random(x.nk, 2, 1.5);
    x.v = array_random(x.nk, 3, 1);
    x.dout = array_random(x.nq, 4, 1);
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

static result run(sp_backend *be, const forest *f, const input *x, bool backward) {
    result r = {array_bytes((size_t)x->nq * be->operand_size),
                NULL,
                array_zero(x->nl),
                array_random(x->nq, 5, 1),
                array_random(x->nk, 6, 1),
                array_random(x->nk, 6, 1)};
    assert_int_equal(be->ops->attention(be, &f->a, x->q, x->k, x->v, r.out, r.lse, NULL), SPAR_OK);
    r.values = operand_values(be, r.out, x->nq);
    if (backward) {
        assert_int_equal(be->ops->attention_bwd(be, &f->a, x->q, x->k, x->v, r.out, r.lse, x->dout,
                                                r.dq, r.dk, r.dv, NULL),
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

static void compare(sp_compute compute, const recipe *r, int n, bool backward) {
    bench b = bench_open(compute);
    for (int i = 0; i < n; i++) {
        forest f;
        plant(&f, r[i], (uint64_t)i + 1);
        input x = make_input(&f);
        result want = run(b.be[BENCH_REFERENCE], &f, &x, backward);
        result one = run(b.be[BENCH_ONE], &f, &x, backward);
        /* The output may round to the neighbouring bf16, and delta is made of it. */
        const double tolerance = compute == SP_COMPUTE_BF16 ? 8e-3 : 2e-5;
        assert_close("out", one.values, want.values, x.nq, tolerance);
        assert_close("lse", one.lse, want.lse, x.nl, 2e-6);
        assert_close("dq", one.dq, want.dq, x.nq, tolerance);
        assert_close("dk", one.dk, want.dk, x.nk, tolerance);
        assert_close("dv", one.dv, want.dv, x.nk, tolerance);
        for (int t = BENCH_TWO; t <= BENCH_THREE; t++) {
            result more = run(b.be[t], &f, &x, backward);
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
    compare(SP_COMPUTE_F32, training, N_TRAINING, true);
}

static void test_training_bf16(void **state) {
    (void)state;
    compare(SP_COMPUTE_BF16, training, N_TRAINING, true);
}

static void test_decoding(void **state) {
    (void)state;
    compare(SP_COMPUTE_F32, decoding, N_DECODING, false);
    compare(SP_COMPUTE_BF16, decoding, N_DECODING, false);
}

/* The kernels of the lowest instruction set. */
static void test_base(void **state) {
    (void)state;
    const char *old = getenv("SPAR_MAX_ISA");
    char keep[16];
    snprintf(keep, sizeof keep, "%s", old == NULL ? "" : old);
    assert_int_equal(setenv("SPAR_MAX_ISA", "base", 1), 0);
    compare(SP_COMPUTE_F32, training, 3, true);
    compare(SP_COMPUTE_F32, decoding + 1, 2, false);
    assert_int_equal(old == NULL ? unsetenv("SPAR_MAX_ISA") : setenv("SPAR_MAX_ISA", keep, 1), 0);
}

/* A token's output does not depend on what else is in the batch: a tree packed with another. */
static void test_alone(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    sp_segment both[] = {{0, 0, 40, 40, -1, 0}, {40, 40, 30, 30, 0, 40}, {70, 70, 50, 50, 0, 40}};
    sp_segment one[] = {{0, 0, 40, 40, -1, 0}, {40, 70, 50, 50, 0, 40}};
    sp_attention a = {4, 2, 16, 0, 0.25F, 3, both}, c = {4, 2, 16, 0, 0.25F, 2, one};
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

static void test_differences(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    const recipe r = {4, 2, 6, 5, 4, 6, false};
    forest f;
    plant(&f, r, 77);
    input x = make_input(&f);
    float *out = array_zero(x.nq);
    sp_backend *reference = b.be[BENCH_REFERENCE];
    for (int i = BENCH_REFERENCE; i <= BENCH_ONE; i++) {
        result g = run(b.be[i], &f, &x, true);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training), cmocka_unit_test(test_training_bf16),
        cmocka_unit_test(test_decoding), cmocka_unit_test(test_base),
        cmocka_unit_test(test_alone),    cmocka_unit_test(test_differences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
