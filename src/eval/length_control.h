/* Win rates with the length of the responses taken out (Dubois et al., "Length-Controlled
 * AlpacaEval", arXiv 2404.04475). Pure functions; formulas in docs/math.md. */
#ifndef SP_EVAL_LENGTH_CONTROL_H
#define SP_EVAL_LENGTH_CONTROL_H

#include <stddef.h>

enum { SP_LOGISTIC_MAX_FEATURES = 3 };

/* Weights w [p] that minimise |w|_1 + c sum_i weight_i (softplus(z_i) - y_i z_i), z = x w: logistic
 * regression under an l1 penalty. x: [n,p], p at most SP_LOGISTIC_MAX_FEATURES; y: [n], in [0, 1];
 * weight: [n], NULL for ones. */
void sp_logistic_fit(const double *x, const double *y, const double *weight, size_t n, size_t p,
                     double c, double *w);

/* The feature of a length: tanh of the baseline's length less the response's, over its standard
 * deviation (n - 1); 0 where all are alike. lead: [n], replaced. */
void sp_length_feature(double *lead, size_t n);

/* The win rate in [0, 1] that the model would have at equal lengths. wins: [n], in [0, 1]; lead:
 * [n], the baseline's length less the response's, in characters; scratch: [2 n]. */
double sp_length_controlled(const double *wins, const double *lead, size_t n, double *scratch);

#endif
