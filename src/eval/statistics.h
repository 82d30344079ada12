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
/* Mean of n values, such as one a seed, with its t interval. */
void sp_mean_interval(const double *values, size_t n, double *mean, double *low, double *high);

/* Quantile p (0 < p < 1) of Student's t with df > 0 degrees of freedom. */
double sp_t_quantile(double p, double df);

#endif
