#include "eval/statistics.h"

#include <math.h>
#include <stdbool.h>

/* The 97.5 % point of the normal distribution. */
static const double Z = 1.959963984540054;

/* lgamma without its global sign: arguments are positive. */
static double log_gamma(double x) {
    int sign;
    return lgamma_r(x, &sign);
}

static double clamp(double x, double low, double high) {
    return x < low ? low : x > high ? high : x;
}

void sp_wilson(int64_t k, int64_t n, double *low, double *high) {
    if (n <= 0) {
        *low = 0;
        *high = 1;
        return;
    }
    const double count = (double)n, p = (double)k / count, z2 = Z * Z;
    const double centre = (p + z2 / (2 * count)) / (1 + z2 / count);
    const double half = Z * sqrt(p * (1 - p) / count + z2 / (4 * count * count)) / (1 + z2 / count);
    /* Rounding must not exclude the rate itself at 0 and 1. */
    *low = k == 0 ? 0 : clamp(centre - half, 0, 1);
    *high = k == n ? 1 : clamp(centre + half, 0, 1);
}

/* Correlation of the two 0/1 variables; positive ones are reduced by n/2 in the numerator, not
 * below 0, as method 10 has it. 0 when a margin is empty. */
static double corrected_correlation(double e, double f, double g, double h) {
    const double margins = (e + f) * (g + h) * (e + g) * (f + h);
    if (margins <= 0) {
        return 0;
    }
    double numerator = e * h - f * g;
    if (numerator > 0) {
        numerator = fmax(numerator - (e + f + g + h) / 2, 0);
    }
    return numerator / sqrt(margins);
}

void sp_paired_counts(int64_t both, int64_t only_b, int64_t only_a, int64_t neither,
                      double *difference, double *low, double *high) {
    const int64_t n = both + only_b + only_a + neither;
    if (n == 0) {
        *difference = 0;
        *low = -1;
        *high = 1;
        return;
    }
    double l_b, u_b, l_a, u_a;
    sp_wilson(both + only_b, n, &l_b, &u_b);
    sp_wilson(both + only_a, n, &l_a, &u_a);
    const double p_b = (double)(both + only_b) / (double)n;
    const double p_a = (double)(both + only_a) / (double)n;
    const double phi =
        corrected_correlation((double)both, (double)only_b, (double)only_a, (double)neither);
    const double down_b = p_b - l_b, up_b = u_b - p_b, down_a = p_a - l_a, up_a = u_a - p_a;
    const double below = down_b * down_b - 2 * phi * down_b * up_a + up_a * up_a;
    const double above = up_b * up_b - 2 * phi * up_b * down_a + down_a * down_a;
    *difference = (double)(only_b - only_a) / (double)n;
    *low = clamp(*difference - sqrt(fmax(below, 0)), -1, 1);
    *high = clamp(*difference + sqrt(fmax(above, 0)), -1, 1);
}

void sp_paired_difference(const uint8_t *a, const uint8_t *b, size_t n, double *difference,
                          double *low, double *high) {
    int64_t counts[2][2] = {{0, 0}, {0, 0}};
    for (size_t i = 0; i < n; i++) {
        counts[a[i] != 0][b[i] != 0]++;
    }
    sp_paired_counts(counts[1][1], counts[0][1], counts[1][0], counts[0][0], difference, low, high);
}

double sp_mcnemar_exact(int64_t only_a, int64_t only_b) {
    const int64_t n = only_a + only_b, fewer = only_a < only_b ? only_a : only_b;
    const double log_all = (double)n * log(2.0);
    double tail = 0;
    for (int64_t i = 0; i <= fewer; i++) {
        tail += exp(log_gamma((double)n + 1) - log_gamma((double)i + 1) -
                    log_gamma((double)(n - i) + 1) - log_all);
    }
    return fmin(2 * tail, 1);
}

/* ---- Student's t ---- */

/* Continued fraction of the incomplete beta function by Lentz's method; converges quickly for
 * x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x) {
    enum { TERMS = 10000 };
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double f = d;
    for (int m = 1; m < TERMS; m++) {
        const double terms[2] = {m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                                 -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))};
        double step = 1;
        for (int i = 0; i < 2; i++) {
            d = 1 + terms[i] * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + terms[i] / c;
            c = fabs(c) < tiny ? tiny : c;
            step = c * d;
            f *= step;
        }
        if (fabs(step - 1) < 1e-15) {
            break;
        }
    }
    return f;
}

/* Regularised incomplete beta function I_x(a, b), y = 1 - x given apart for its precision. */
static double incomplete_beta(double a, double b, double x, double y) {
    if (x <= 0 || y <= 0) {
        return x <= 0 ? 0 : 1;
    }
    const double front =
        exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log(y));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                     : 1 - front * beta_fraction(b, a, y) / b;
}

/* P(T > t) for t >= 0. */
static double t_tail(double t, double df) {
    const double whole = df + t * t;
    return incomplete_beta(df / 2, 0.5, df / whole, t * t / whole) / 2;
}

/* The tail falls with t: bracket, then halve the bracket until it is down to rounding. */
double sp_t_quantile(double p, double df) {
    if (p == 0.5) {
        return 0;
    }
    const double tail = p > 0.5 ? 1 - p : p;
    double low = 0, high = 1;
    while (t_tail(high, df) > tail && high < 1e300) {
        low = high;
        high *= 2;
    }
    for (int i = 0; i < 200 && high - low > 1e-15 * high; i++) {
        const double middle = low + (high - low) / 2;
        if (t_tail(middle, df) > tail) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const double t = low + (high - low) / 2;
    return p > 0.5 ? t : -t;
}

/* ---- means ---- */

static void interval_of(double mean, double squares, size_t n, double *low, double *high) {
    double half = HUGE_VAL;
    if (n >= 2) {
        const double df = (double)(n - 1);
        half = sp_t_quantile(0.975, df) * sqrt(squares / df / (double)n);
    }
    *low = mean - half;
    *high = mean + half;
}

void sp_paired_mean(const double *a, const double *b, size_t n, double *difference, double *low,
                    double *high) {
    double mean = 0, squares = 0; /* Welford's recurrence: no cancellation */
    for (size_t i = 0; i < n; i++) {
        const double value = b[i] - (a != NULL ? a[i] : 0), step = value - mean;
        mean += step / (double)(i + 1);
        squares += step * (value - mean);
    }
    *difference = mean;
    interval_of(mean, squares, n, low, high);
}

void sp_paired_variance(const double *a, const double *b, size_t n, double *difference,
                        double *variance) {
    const double more = (double)n + 2;
    double sum = 0, squares = 0;
    bool rates = true;
    for (size_t i = 0; i < n; i++) {
        const double d = b[i] - a[i];
        sum += d;
        squares += d * d;
        rates = rates && (a[i] == 0 || a[i] == 1) && (b[i] == 0 || b[i] == 1);
    }
    *difference = sum / (double)n;
    *variance = fmax(squares / (double)n - *difference * *difference, 0) / (double)(n - 1);
    if (rates && *variance == 0) {
        *variance = ((squares + 1) / more - (sum / more) * (sum / more)) / more;
    }
}

void sp_mean_interval(const double *values, size_t n, double *mean, double *low, double *high) {
    sp_paired_mean(NULL, values, n, mean, low, high);
}

/* ---- several seeds ---- */

static double mean_of(const double *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i];
    }
    return sum / (double)n;
}

/* What seeds add to the variance of a seed's difference, pooled: mean square between seeds less the
 * mean variance within. *df: of the pooled mean square, 0 where no row has two seeds. */
static double seed_component(const sp_seeded *rows, size_t n, double *df, double *between) {
    double squares = 0, within = 0;
    *df = 0;
    for (size_t r = 0; r < n; r++) {
        const size_t seeds = rows[r].seeds;
        const double mean = mean_of(rows[r].means, seeds);
        for (size_t i = 0; i < seeds; i++) {
            const double d = rows[r].means[i] - mean;
            squares += d * d;
        }
        within += (double)(seeds - 1) * mean_of(rows[r].variances, seeds);
        *df += (double)(seeds - 1);
    }
    *between = *df > 0 ? squares / *df : 0;
    return *df > 0 ? fmax(*between - within / *df, 0) : 0;
}

/* Holm: the k-th smallest p times (n - k), never below a smaller one's; at most 1. */
static void adjust(sp_seeded *rows, size_t n) {
    double least = 0;
    size_t left = n;
    for (size_t r = 0; r < n; r++) {
        rows[r].holm = -1;
    }
    while (left > 0) {
        size_t next = n;
        for (size_t r = 0; r < n; r++) {
            if (rows[r].holm < 0 && (next == n || rows[r].p < rows[next].p)) {
                next = r;
            }
        }
        least = fmin(1, fmax(least, rows[next].p * (double)left));
        rows[next].holm = least;
        left--;
    }
}

void sp_seeded_compare(sp_seeded *rows, size_t n) {
    const double many = 1e7; /* degrees of freedom of a variance over problems: as if known */
    double df_between, between;
    const double component = seed_component(rows, n, &df_between, &between);
    for (size_t r = 0; r < n; r++) {
        sp_seeded *row = &rows[r];
        const double one = mean_of(row->variances, row->seeds) + component;
        const double error = sqrt(one / (double)row->seeds);
        /* Satterthwaite: only the pooled mean square is uncertain */
        const double df =
            component > 0 ? fmin(many, df_between * (one / between) * (one / between)) : many;
        const double half = error * sp_t_quantile(0.975, df);
        row->value = mean_of(row->means, row->seeds);
        row->low = row->value - half;
        row->high = row->value + half;
        row->p = error > 0 ? 2 * t_tail(fabs(row->value) / error, df) : row->value != 0 ? 0 : 1;
    }
    adjust(rows, n);
}
