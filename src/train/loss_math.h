/* Scalar functions that the rows of the loss tables share. */
#ifndef SP_TRAIN_LOSS_MATH_H
#define SP_TRAIN_LOSS_MATH_H

#include <math.h>

/* log(1 + e^x) without overflow; -log sigma(t) = softplus(-t). */
static inline double sp_softplus(double x) {
    return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

/* 1 / (1 + e^-x): both branches only take exp of what is not positive. */
static inline double sp_sigmoid(double x) {
    double e = exp(-fabs(x));
    return (x >= 0.0 ? 1.0 : e) / (1.0 + e);
}

/* e^x for x <= 30, and above that its tangent at 30: convex, once differentiable, and the slope
 * e^30 ~ 1e13 still squares within f32, where optimisers keep it. *slope: out. */
static inline double sp_exp_tangent(double x, double *slope) {
    const double limit = 30.0;
    *slope = exp(fmin(x, limit));
    return *slope * (1.0 + fmax(0.0, x - limit));
}

#endif
