#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "base/rng.h"
#include "support.h"

/* Known answers of the Random123 distribution for philox4x32-10. */
static void test_known_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } rows[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t out[4];
        sp_rng_philox(rows[i].counter, rows[i].key, out);
        assert_memory_equal(out, rows[i].expected, sizeof out);
    }
}

/* Each input must matter: seed, stream, index and every coordinate of a stream. */
static void test_inputs_matter(void **state) {
    (void)state;
    const uint64_t base = sp_rng_u64(1, 2, 3);
    assert_int_equal(base, sp_rng_u64(1, 2, 3));
    assert_true(base != sp_rng_u64(1 + (1ull << 40), 2, 3));
    assert_true(base != sp_rng_u64(1, 2 + (1ull << 40), 3));
    assert_true(base != sp_rng_u64(1, 2, 3 + (1ull << 40)));
    const uint64_t stream = sp_rng_stream(1, 2, 3, 4);
    assert_true(stream != sp_rng_stream(0, 2, 3, 4));
    assert_true(stream != sp_rng_stream(1, 0, 3, 4));
    assert_true(stream != sp_rng_stream(1, 2, 0, 4));
    assert_true(stream != sp_rng_stream(1, 2, 3, 0));
    assert_true(stream != sp_rng_stream(2, 1, 3, 4));
    assert_true(stream != sp_rng_stream(1, 2, 4, 3));
}

/* 100000 draws: the means lie within five standard errors. */
static void test_moments(void **state) {
    (void)state;
    const int n = 100000;
    double sum = 0, sum_normal = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        const double u = sp_rng_uniform(7, 1, (uint64_t)i);
        const double z = sp_rng_normal(7, 2, (uint64_t)i);
        assert_true(u >= 0.0 && u < 1.0);
        assert_true(isfinite(z));
        sum += u;
        sum_normal += z;
        squares += z * z;
    }
    assert_true(fabs(sum / n - 0.5) < 5 * 0.2887 / sqrt(n));
    assert_true(fabs(sum_normal / n) < 5 / sqrt(n));
    assert_true(fabs(squares / n - 1) < 5 * sqrt(2.0 / n));
}

static void test_below(void **state) {
    (void)state;
    int counts[7] = {0};
    sp_rng rng = {42, 1, 0};
    for (int i = 0; i < 70000; i++) {
        const uint64_t r = sp_rng_next_below(&rng, 7);
        assert_true(r < 7);
        counts[r]++;
    }
    for (int i = 0; i < 7; i++) {
        assert_in_range(counts[i], 9500, 10500);
    }
    assert_int_equal(rng.index, 70000);
    const uint64_t huge = UINT64_MAX - 5;
    uint64_t largest = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        const uint64_t r = sp_rng_below(1, 2, i, huge);
        assert_true(r < huge);
        largest = r > largest ? r : largest;
    }
    assert_true(largest > huge / 100 * 95);
    assert_int_equal(sp_rng_below(1, 2, 3, 1), 0);
}

static void test_shuffle(void **state) {
    (void)state;
    enum { N = 1000 };
    uint32_t order[N], other[N];
    char seen[N] = {0};
    sp_rng_shuffle(1, 2, order, N);
    sp_rng_shuffle(1, 3, other, N);
    assert_memory_not_equal(order, other, sizeof order);
    int fixed = 0;
    for (uint32_t i = 0; i < N; i++) {
        assert_in_range(order[i], 0, N - 1);
        assert_int_equal(seen[order[i]]++, 0);
        fixed += order[i] == i;
    }
    assert_in_range(fixed, 0, 10);
    sp_rng_shuffle(1, 2, other, N);
    assert_memory_equal(order, other, sizeof order);
    sp_rng_shuffle(1, 2, order, 0);
}

/* Over 6000 shuffles of three, each of the six orders comes about a thousand times. */
static void test_shuffle_is_fair(void **state) {
    (void)state;
    int counts[27] = {0};
    for (uint64_t i = 0; i < 6000; i++) {
        uint32_t order[3];
        sp_rng_shuffle(9, i, order, 3);
        counts[order[0] * 9 + order[1] * 3 + order[2]]++;
    }
    static const int orders[6] = {5, 7, 11, 15, 19, 21};
    for (int i = 0; i < 6; i++) {
        assert_in_range(counts[orders[i]], 850, 1150);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers), cmocka_unit_test(test_inputs_matter),
        cmocka_unit_test(test_moments),       cmocka_unit_test(test_below),
        cmocka_unit_test(test_shuffle),       cmocka_unit_test(test_shuffle_is_fair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
