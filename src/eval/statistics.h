/* Intervals and tests for pass rates and scores. All intervals are of 95 %; pure functions.
 *
 * Sources: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
 * JASA 22 (1927); R. G. Newcombe, "Two-sided confidence intervals for the single proportion:
 * comparison of seven methods", Statistics in Medicine 17 (1998) 857-872, and "Improved confidence
 * intervals for the difference between binomial proportions based on paired data", Statistics in
 * Medicine 17 (1998) 2635-2650; Q. McNemar, Psychometrika 12 (1947).
 */
#ifndef SP_EVAL_STATISTICS_H
#define SP_EVAL_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

/* Score interval of k successes in n trials, 0 <= k <= n; [0, 1] for n = 0. */
void sp_wilson(int64_t k, int64_t n, double *low, double *high);

/* Rate of b minus rate of a over the same n problems, entries 0 or 1, with the interval of
 * Newcombe's method 10 (square-and-add of the Wilson intervals, the correlation corrected for
 * continuity when positive). n = 0: 0 in [-1, 1]. */
void sp_paired_difference(const uint8_t *a, const uint8_t *b, size_t n, double *difference,
                          double *low, double *high);
/* The same from the counts: both pass, only b passes, only a passes, neither does. */
void sp_paired_counts(int64_t both, int64_t only_b, int64_t only_a, int64_t neither,
                      double *difference, double *low, double *high);

/* Two-sided exact McNemar p-value: a binomial test of the discordant pairs against 1/2. */
double sp_mcnemar_exact(int64_t only_a, int64_t only_b);

/* Mean of b - a (a = NULL: of b) with its t interval; infinite for n = 1, 0 in (-inf, inf) for n =
 * 0. */
void sp_paired_mean(const double *a, const double *b, size_t n, double *difference, double *low,
                    double *high);
/* Mean of b - a over n >= 2 problems, and that mean's variance. Where all n differ alike, and all
 * scores are 0 or 1, the variance is that with half a pair more in each cell of the 2 x 2 table
 * (Agresti and Min 2005, Statistics in Medicine 24): n alike do not say that all would be. */
void sp_paired_variance(const double *a, const double *b, size_t n, double *difference,
                        double *variance);
/* Mean of n values, such as one a seed, with its t interval. */
void sp_mean_interval(const double *values, size_t n, double *mean, double *low, double *high);

/* Quantile p (0 < p < 1) of Student's t with df > 0 degrees of freedom. */
double sp_t_quantile(double p, double df);

/* One comparison over several seeds, each with problems of its own: the mean difference of each
 * seed, and that mean's variance over the seed's problems. */
typedef struct sp_seeded {
    const double *means, *variances; /* borrowed, [seeds] */
    size_t seeds;                    /* 1 or more */
    double value, low, high; /* out: mean of the seeds' differences, with its 95 % interval */
    double p;                /* out: two-sided, that it is zero */
    double holm;             /* out: p adjusted by Holm's method over all comparisons given */
} sp_seeded;

/* Intervals that cover new problems and new seeds. The variance of training from seed to seed,
 * beyond what the problems explain, is estimated over all n comparisons together (moments, not
 * below 0); with one seed it cannot be, and the interval covers the problems alone (docs/math.md).
 * Source of the adjustment: S. Holm, "A simple sequentially rejective multiple test procedure",
 * Scandinavian Journal of Statistics 6 (1979). */
void sp_seeded_compare(sp_seeded *rows, size_t n);

#endif
