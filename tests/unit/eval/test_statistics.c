/* Intervals against published examples, limits, and how often they cover. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/rng.h"
#include "eval/statistics.h"

/* assert_float_equal compares as float. */
#define assert_near(found, expected, tolerance)                                                    \
    assert_true(fabs((found) - (expected)) <= (tolerance))

/* The four examples of Newcombe's comparison of methods for one proportion (1998a, table I). */
static void test_wilson(void **state) {
    (void)state;
    static const struct {
        int64_t k, n;
        double low, high;
    } rows[] = {{81, 263, 0.2553, 0.3662},
                {15, 148, 0.0624, 0.1605},
                {0, 20, 0.0000, 0.1611},
                {1, 29, 0.0061, 0.1718}};
    double low, high;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sp_wilson(rows[i].k, rows[i].n, &low, &high);
        assert_near(low, rows[i].low, 5.1e-5);
        assert_near(high, rows[i].high, 5.1e-5);
        double low_failed, high_failed; /* of the failures: the mirror image */
        sp_wilson(rows[i].n - rows[i].k, rows[i].n, &low_failed, &high_failed);
        assert_near(low_failed, 1 - high, 1e-12);
        assert_near(high_failed, 1 - low, 1e-12);
    }
    sp_wilson(0, 0, &low, &high);
    assert_true(low == 0 && high == 1);
    sp_wilson(20, 20, &low, &high);
    assert_true(high == 1);
}

/* Examples of Newcombe's paper on paired data (1998b), of Altman et al., Statistics with Confidence
 * (2000), and of Fagerland et al., Statistical Analysis of Contingency Tables (2017, chapter 8). */
static void test_paired_examples(void **state) {
    (void)state;
    static const struct {
        int64_t both, only_b, only_a, neither;
        double difference, low, high, tolerance;
    } rows[] = {{36, 12, 2, 0, 0.2, 0.0569, 0.3404, 5.1e-5},
                {20, 12, 2, 16, 0.2, 0.0562, 0.3292, 5.1e-5},
                {14, 5, 0, 22, 0.122, 0.011, 0.226, 6e-4},
                {1, 1, 7, 12, -0.286, -0.507, -0.026, 6e-4}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double difference, low, high;
        sp_paired_counts(rows[i].both, rows[i].only_b, rows[i].only_a, rows[i].neither, &difference,
                         &low, &high);
        assert_near(difference, rows[i].difference, rows[i].tolerance);
        assert_near(low, rows[i].low, rows[i].tolerance);
        assert_near(high, rows[i].high, rows[i].tolerance);
        double swapped, swapped_low, swapped_high; /* the order of the two changes signs only */
        sp_paired_counts(rows[i].both, rows[i].only_a, rows[i].only_b, rows[i].neither, &swapped,
                         &swapped_low, &swapped_high);
        assert_near(swapped, -difference, 1e-12);
        assert_near(swapped_low, -high, 1e-12);
        assert_near(swapped_high, -low, 1e-12);
    }
}

static void test_paired_vectors(void **state) {
    (void)state;
    const uint8_t a[] = {1, 1, 0, 0, 1, 0, 1, 0}, b[] = {1, 1, 1, 1, 0, 0, 1, 1};
    double difference, low, high, expected, expected_low, expected_high;
    sp_paired_difference(a, b, sizeof a, &difference, &low, &high);
    sp_paired_counts(3, 3, 1, 1, &expected, &expected_low, &expected_high);
    assert_true(difference == 0.25 && difference == expected);
    assert_true(low == expected_low && high == expected_high);
    sp_paired_difference(a, a, sizeof a, &difference, &low, &high);
    assert_true(difference == 0 && low < 0 && high > 0);
    sp_paired_difference(a, b, 0, &difference, &low, &high);
    assert_true(difference == 0 && low == -1 && high == 1);
    sp_paired_counts(0, 10, 0, 0, &difference, &low, &high);
    assert_true(difference == 1 && low > 0 && high == 1);
}

/* p-values are sums of binomial coefficients over 2^n. */
static void test_mcnemar(void **state) {
    (void)state;
    assert_near(sp_mcnemar_exact(0, 0), 1, 1e-12);
    assert_near(sp_mcnemar_exact(3, 3), 1, 1e-12);
    assert_near(sp_mcnemar_exact(0, 5), 2.0 / 32, 1e-12);
    assert_near(sp_mcnemar_exact(7, 1), 2.0 * (1 + 8) / 256, 1e-12);
    assert_near(sp_mcnemar_exact(1, 7), 2.0 * (1 + 8) / 256, 1e-12);
    assert_near(sp_mcnemar_exact(2, 12), 2.0 * (1 + 14 + 91) / 16384, 1e-12);
    const double far = sp_mcnemar_exact(400000, 500000);
    assert_true(far >= 0 && far < 1e-100);
}

/* Tables of Student's t. df 1 and 2 have closed forms: tan(pi (p - 1/2)), and
 * (2p - 1) sqrt(2 / (4 p (1 - p))). */
static void test_t_quantile(void **state) {
    (void)state;
    assert_near(sp_t_quantile(0.975, 4), 2.776445, 1e-6);
    assert_near(sp_t_quantile(0.975, 10), 2.228139, 1e-6);
    assert_near(sp_t_quantile(0.95, 30), 1.697261, 1e-6);
    assert_near(sp_t_quantile(0.975, 1e7), 1.959964, 1e-6);
    for (double p = 0.01; p < 0.995; p += 0.01) {
        assert_near(sp_t_quantile(p, 1), tan(3.14159265358979323846 * (p - 0.5)), 1e-9);
        assert_near(sp_t_quantile(p, 2), (2 * p - 1) * sqrt(0.5 / (p * (1 - p))), 1e-9);
        assert_near(sp_t_quantile(p, 7), -sp_t_quantile(1 - p, 7), 1e-9);
    }
}

/* Differences 1, 2, 3, 4: mean 2.5, sd sqrt(5/3), t(3) = 3.182446. */
static void test_means(void **state) {
    (void)state;
    const double a[] = {1e9, 2e9, 3e9, 4e9}, b[] = {1e9 + 1, 2e9 + 2, 3e9 + 3, 4e9 + 4};
    const double half = 3.182446305 * sqrt(5.0 / 3.0) / 2;
    double mean, low, high;
    sp_paired_mean(a, b, 4, &mean, &low, &high);
    assert_near(mean, 2.5, 1e-9);
    assert_near(low, 2.5 - half, 1e-6);
    assert_near(high, 2.5 + half, 1e-6);
    const double seeds[] = {0.5, 0.5, 0.5};
    sp_mean_interval(seeds, 3, &mean, &low, &high);
    assert_true(mean == 0.5 && low == 0.5 && high == 0.5);
    sp_mean_interval(seeds, 1, &mean, &low, &high);
    assert_true(mean == 0.5 && isinf(low) && isinf(high) && low < 0 && high > 0);
    sp_mean_interval(seeds, 0, &mean, &low, &high);
    assert_true(mean == 0 && isinf(low) && isinf(high));
}

/* Coverage: how often the interval holds the truth over simulated evaluations. */
enum { TRIALS = 4000, PROBLEMS = 100, SEEDS = 5 };

static void test_coverage_rates(void **state) {
    (void)state;
    static const double truths[][2] = {{0.3, 0.5}, {0.6, 0.65}, {0.1, 0.9}, {0.95, 0.97}};
    for (size_t t = 0; t < sizeof truths / sizeof *truths; t++) {
        int single = 0, paired = 0;
        for (uint64_t trial = 0; trial < TRIALS; trial++) {
            uint8_t a[PROBLEMS], b[PROBLEMS];
            int64_t passed = 0;
            for (uint64_t i = 0; i < PROBLEMS; i++) {
                /* Half of the problems share their luck: the pairs are correlated. */
                const double u = sp_rng_uniform(1, trial, 2 * i);
                const double v = i % 2 ? u : sp_rng_uniform(1, trial, 2 * i + 1);
                a[i] = u < truths[t][0];
                b[i] = v < truths[t][1];
                passed += a[i];
            }
            double difference, low, high;
            sp_wilson(passed, PROBLEMS, &low, &high);
            single += low <= truths[t][0] && truths[t][0] <= high;
            sp_paired_difference(a, b, PROBLEMS, &difference, &low, &high);
            const double truth = truths[t][1] - truths[t][0];
            paired += low <= truth && truth <= high;
        }
        assert_in_range(single, TRIALS * 93 / 100, TRIALS * 975 / 1000);
        assert_in_range(paired, TRIALS * 93 / 100, TRIALS * 99 / 100);
    }
}

static void test_coverage_means(void **state) {
    (void)state;
    int covered = 0;
    for (uint64_t trial = 0; trial < TRIALS; trial++) {
        double values[SEEDS], mean, low, high;
        for (uint64_t i = 0; i < SEEDS; i++) {
            values[i] = 3 + 2 * sp_rng_normal(2, trial, i);
        }
        sp_mean_interval(values, SEEDS, &mean, &low, &high);
        covered += low <= 3 && 3 <= high;
    }
    assert_in_range(covered, TRIALS * 935 / 1000, TRIALS * 965 / 1000);
}

/* By hand. Differences (1, 2, 3) and (0, 0, 0), each of variance 0.25 over its problems. Between
 * the seeds: squares 2 and 0 over 2 + 2 degrees of freedom, 0.5; component 0.25, so a seed has
 * variance 0.5, the mean of three 1/6, and the t has 4 degrees of freedom. */
static void test_seeded(void **state) {
    (void)state;
    const double a[] = {1, 2, 3}, b[] = {0, 0, 0}, v[] = {0.25, 0.25, 0.25};
    sp_seeded rows[2] = {{.means = a, .variances = v, .seeds = 3},
                         {.means = b, .variances = v, .seeds = 3}};
    sp_seeded_compare(rows, 2);
    const double half = 2.776445105 * sqrt(1.0 / 6);
    assert_near(rows[0].value, 2, 1e-12);
    assert_near(rows[0].low, 2 - half, 1e-6);
    assert_near(rows[0].high, 2 + half, 1e-6);
    assert_near(rows[0].p, 0.008049893, 1e-6); /* t = 4.898979, 4 degrees of freedom */
    assert_near(rows[0].holm, 2 * rows[0].p, 1e-12);
    assert_near(rows[1].p, 1, 1e-12);
    assert_near(rows[1].holm, 1, 1e-12);

    /* One seed: nothing between, the normal distribution over its problems. */
    const double one[] = {0.98}, quarter[] = {0.25};
    sp_seeded alone = {.means = one, .variances = quarter, .seeds = 1};
    sp_seeded_compare(&alone, 1);
    assert_near(alone.low, 0.98 - 1.959964 * 0.5, 1e-6);
    assert_near(alone.p, 0.05, 1e-4);

    /* Holm on 0.01, 0.04, 0.03 (of normal quantiles): 0.03, 0.06, 0.06. */
    const double z[3][1] = {{2.5758293}, {2.0537489}, {2.1700904}}, unit[] = {1};
    sp_seeded three[3];
    for (int i = 0; i < 3; i++) {
        three[i] = (sp_seeded){.means = z[i], .variances = unit, .seeds = 1};
    }
    sp_seeded_compare(three, 3);
    assert_near(three[0].holm, 0.03, 1e-6);
    assert_near(three[1].holm, 0.06, 1e-6);
    assert_near(three[2].holm, 0.06, 1e-6);
}

static double draw_normal(uint64_t *at) {
    const double u = sp_rng_uniform(17, 5, *at), w = sp_rng_uniform(17, 6, *at);
    ++*at;
    return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * w);
}

/* Ten comparisons of three seeds, with and without a component between seeds: the intervals hold
 * the truth about as often as they say. */
static void test_coverage_seeded(void **state) {
    (void)state;
    enum { ROWS = 10, EACH = 3, REPEATS = 400 };
    uint64_t at = 0;
    for (int with = 0; with < 2; with++) {
        int held = 0;
        for (int trial = 0; trial < REPEATS; trial++) {
            double means[ROWS][EACH], variances[ROWS][EACH];
            sp_seeded rows[ROWS];
            for (int r = 0; r < ROWS; r++) {
                for (int i = 0; i < EACH; i++) {
                    variances[r][i] = 1;
                    means[r][i] = draw_normal(&at) + (with ? 1.5 * draw_normal(&at) : 0);
                }
                rows[r] = (sp_seeded){.means = means[r], .variances = variances[r], .seeds = EACH};
            }
            sp_seeded_compare(rows, ROWS);
            for (int r = 0; r < ROWS; r++) {
                held += rows[r].low <= 0 && rows[r].high >= 0;
            }
        }
        const double share = held / (double)(ROWS * REPEATS);
        assert_true(share > 0.935 && share < 0.975);
    }
}

/* By hand: n = 4 with one pair that differs; then none, and all, with half a pair more in each
 * cell. */
static void test_paired_variance(void **state) {
    (void)state;
    const double none[] = {0, 0, 0, 0}, one[] = {0, 1, 0, 0}, all[] = {1, 1, 1, 1},
                 half[] = {0.5, 0.5, 0.5, 0.5};
    double d, v;
    sp_paired_variance(none, one, 4, &d, &v);
    assert_true(fabs(d - 0.25) < 1e-15 && fabs(v - (0.25 - 0.0625) / 3) < 1e-15);
    sp_paired_variance(one, one, 4, &d, &v);
    assert_true(d == 0 && fabs(v - 1.0 / 36) < 1e-15);
    sp_paired_variance(none, all, 4, &d, &v);
    assert_true(d == 1 && fabs(v - (5.0 / 6 - 16.0 / 36) / 6) < 1e-15);
    sp_paired_variance(none, half, 4, &d, &v); /* no rates: nothing is known of other values */
    assert_true(d == 0.5 && v == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paired_variance), cmocka_unit_test(test_seeded),
        cmocka_unit_test(test_coverage_seeded), cmocka_unit_test(test_wilson),
        cmocka_unit_test(test_paired_examples), cmocka_unit_test(test_paired_vectors),
        cmocka_unit_test(test_mcnemar),         cmocka_unit_test(test_t_quantile),
        cmocka_unit_test(test_means),           cmocka_unit_test(test_coverage_rates),
        cmocka_unit_test(test_coverage_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
