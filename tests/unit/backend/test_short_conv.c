/* The gated short convolution: values by hand, tuned against reference over random forests of
 * segments, decoding from a cache against the whole, and backward against differences. */
#include "compare.h"

enum { SEGMENTS_MAX = 12 };

typedef struct forest {
    sp_short_conv a;
    sp_segment segments[SEGMENTS_MAX];
    int64_t rows;
    float *w, *z, *dout; /* owned */
} forest;

typedef struct recipe {
    int64_t width;
    int taps, n_segments, longest;
} recipe;

static const recipe recipes[] = {{1, 1, 1, 5},    {3, 3, 4, 9},     {63, 2, 3, 70},  {64, 4, 12, 3},
                                 {65, 3, 6, 130}, {200, 7, 12, 20}, {130, 64, 5, 40}};
enum { N_RECIPES = sizeof recipes / sizeof recipes[0] };

/* Random trees of segments, as training packs them. */
static void plant(forest *f, recipe r, uint64_t seed) {
    sp_rng rng = {seed, 9, 0};
    memset(f, 0, sizeof *f);
    for (int s = 0; s < r.n_segments; s++) {
        sp_segment *g = &f->segments[s];
        const int32_t pick = (int32_t)sp_rng_next_below(&rng, (uint64_t)s + 1);
        g->parent = pick == s ? -1 : pick;
        g->pos0 = g->parent < 0 ? 0 : f->segments[pick].pos0 + f->segments[pick].kv_len;
        g->kv_len = g->q_len = 1 + (int32_t)sp_rng_next_below(&rng, (uint64_t)r.longest);
        g->kv_start = g->q_start = f->rows;
        f->rows += g->kv_len;
    }
    f->w = array_random(r.width * r.taps, 1, 1);
    f->z = array_random(f->rows * 3 * r.width, 2, 1);
    f->dout = array_random(f->rows * r.width, 3, 1);
    f->a = (sp_short_conv){.width = r.width,
                           .taps = r.taps,
                           .w = f->w,
                           .n_segments = r.n_segments,
                           .segments = f->segments};
}

static void fell(forest *f) {
    free(f->w);
    free(f->z);
    free(f->dout);
}

typedef struct result {
    float *out, *dz, *dw; /* owned */
} result;

static result run(sp_backend *be, const forest *f) {
    const int64_t n = f->rows * f->a.width;
    void *out = array_bytes((size_t)n * be->operand_size);
    result r = {.dz = array_random(3 * n, 4, 1), .dw = array_random(f->a.width * f->a.taps, 5, 1)};
    be->ops->short_conv(be, &f->a, f->z, out);
    be->ops->short_conv_bwd(be, &f->a, f->z, f->dout, r.dz, r.dw);
    r.out = operand_values(be, out, n);
    free(out);
    return r;
}

static void result_free(result *r) {
    free(r->out);
    free(r->dz);
    free(r->dw);
}

/* The segments from a cache that has the rows of some and not yet those of the others: all but the
 * last few rows of each are run first, then the rest as later steps of decoding. */
static float *run_cached(sp_backend *be, const forest *f, bool bf16) {
    const int64_t H = f->a.width, n = f->rows * H;
    void *out = array_bytes((size_t)n * be->operand_size);
    sp_segment segments[SEGMENTS_MAX];
    sp_short_conv a = f->a;
    const size_t bytes = (size_t)n * (bf16 ? 2 : 4);
    a.cache = array_bytes(bytes);
    a.cache_bf16 = bf16;
    a.segments = segments;
    memset(a.cache, 0xff, bytes);            /* NaN: no row that nobody wrote may count */
    for (int s = 0; s < a.n_segments; s++) { /* segments before s are there, s comes in two parts */
        const int32_t len = f->segments[s].kv_len, first = len > 3 ? len - 3 : len;
        memcpy(segments, f->segments, sizeof segments);
        for (int g = 0; g < s; g++) {
            segments[g].q_len = 0;
        }
        a.n_segments = s + 1;
        segments[s].kv_len = segments[s].q_len = first;
        be->ops->short_conv(be, &a, f->z, out);
        segments[s].kv_len = len;
        segments[s].q_len = len - first;
        segments[s].q_start += first;
        be->ops->short_conv(be, &a, f->z, out);
        a.n_segments = f->a.n_segments;
    }
    float *values = operand_values(be, out, n);
    free(out);
    free(a.cache);
    return values;
}

static void test_by_hand(void **state) {
    (void)state;
    /* A prompt of two rows, a response to it, another response, and a sequence of its own. */
    sp_segment segments[] = {
        {0, 0, 2, 2, -1, 0}, {2, 2, 1, 1, 0, 2}, {3, 3, 1, 1, 0, 2}, {4, 4, 1, 1, -1, 0}};
    const float w[] = {10, 1}; /* of the row before, and of the row */
    const float z[] = {1, 1, 2, 3, 2, 1, 2, 1, 2, 5, 10, 1, 7, 1, 1}; /* u: 2, 3, 4, 5, 7 */
    const float want[] = {2, 2 * (20 + 3), 30 + 4, 10 * (30 + 5), 7};
    const sp_short_conv a = {.width = 1, .taps = 2, .w = w, .n_segments = 4, .segments = segments};
    bench b = bench_open(SP_COMPUTE_F32);
    for (int i = 0; i < BENCH_COUNT; i++) {
        float out[5] = {0};
        b.be[i]->ops->short_conv(b.be[i], &a, z, out);
        assert_close("out", out, want, 5, 0);
    }
    bench_close(&b);
}

static void compare(sp_compute compute, recipe r, uint64_t seed) {
    forest f;
    bench b = bench_open(compute);
    plant(&f, r, seed);
    const int64_t n = f.rows * r.width, nw = r.width * r.taps;
    const double rounds = compute == SP_COMPUTE_BF16 ? ldexp(1, -8) : 2e-6;
    result want = run(b.be[BENCH_REFERENCE], &f), one = run(b.be[BENCH_ONE], &f);
    assert_close("out", one.out, want.out, n, rounds);
    assert_close("dz", one.dz, want.dz, 3 * n, 2e-6);
    assert_close("dw", one.dw, want.dw, nw, 2e-6);
    for (int t = BENCH_TWO; t <= BENCH_THREE; t++) {
        result more = run(b.be[t], &f);
        assert_same("out", one.out, more.out, (size_t)n * sizeof(float));
        assert_same("dz", one.dz, more.dz, (size_t)(3 * n) * sizeof(float));
        assert_same("dw", one.dw, more.dw, (size_t)nw * sizeof(float));
        result_free(&more);
    }
    for (int i = 0; i < BENCH_COUNT; i++) {
        float *exact = run_cached(b.be[i], &f, false), *rounded = run_cached(b.be[i], &f, true);
        const float *whole = i == BENCH_REFERENCE ? want.out : one.out;
        assert_same("from a cache", whole, exact, (size_t)n * sizeof(float));
        /* u moves by 2^-9 of itself; sums of up to 64 such terms by that of their sizes */
        assert_close("from a cache of bf16", rounded, whole, n, ldexp(1, -7));
        free(exact);
        free(rounded);
    }
    result_free(&want);
    result_free(&one);
    fell(&f);
    bench_close(&b);
}

static void test_against_reference(void **state) {
    (void)state;
    for (int i = 0; i < N_RECIPES; i++) {
        compare(SP_COMPUTE_F32, recipes[i], (uint64_t)i + 1);
        compare(SP_COMPUTE_BF16, recipes[i], (uint64_t)i + 1);
    }
}

/* The kernels of each lower instruction set. */
static void test_levels(void **state) {
    (void)state;
    static const char *const levels[] = {"base", "v3", "v4"};
    const char *old = getenv("SPAR_MAX_ISA");
    char keep[16];
    snprintf(keep, sizeof keep, "%s", old == NULL ? "" : old);
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        assert_int_equal(setenv("SPAR_MAX_ISA", levels[i], 1), 0);
        compare(SP_COMPUTE_F32, recipes[4], 7);
        compare(SP_COMPUTE_BF16, recipes[4], 7);
    }
    assert_int_equal(old == NULL ? unsetenv("SPAR_MAX_ISA") : setenv("SPAR_MAX_ISA", keep, 1), 0);
}

static double loss(sp_backend *be, const forest *f) {
    const int64_t n = f->rows * f->a.width;
    float *out = array_zero(n);
    double sum = 0;
    be->ops->short_conv(be, &f->a, f->z, out);
    for (int64_t i = 0; i < n; i++) {
        sum += (double)out[i] * (double)f->dout[i];
    }
    free(out);
    return sum;
}

/* The loss is linear in every single entry: differences over a wide step are exact but for the
 * rounding of the outputs to f32. */
static void differ(sp_backend *be, const forest *f, float *x, const float *grad, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const float at = x[i];
        x[i] = at + 1;
        const double above = loss(be, f);
        x[i] = at - 1;
        const double slope = (above - loss(be, f)) / 2;
        x[i] = at;
        assert_float_equal(grad[i], slope, 2e-5);
    }
}

static void test_differences(void **state) {
    (void)state;
    bench b = bench_open(SP_COMPUTE_F32);
    sp_backend *be = b.be[BENCH_REFERENCE];
    for (int taps = 1; taps <= 4; taps++) {
        forest f;
        plant(&f, (recipe){3, taps, 6, 4}, (uint64_t)taps);
        const int64_t n = 3 * f.rows * f.a.width, nw = f.a.width * taps;
        float *dz = array_random(n, 4, 1), *dw = array_zero(nw);
        be->ops->short_conv_bwd(be, &f.a, f.z, f.dout, dz, dw);
        differ(be, &f, f.z, dz, n);
        differ(be, &f, f.w, dw, nw);
        free(dz);
        free(dw);
        fell(&f);
    }
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand), cmocka_unit_test(test_against_reference),
        cmocka_unit_test(test_levels), cmocka_unit_test(test_differences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
