/* Tabular policies with exact expectations. */
#include "train/tabular.h"

#include <math.h>
#include <string.h>

void sp_tabular_log_softmax(int n, const double *logits, double *logp) {
    double top = logits[0], sum = 0.0;
    for (int i = 1; i < n; i++) {
        top = fmax(top, logits[i]);
    }
    for (int i = 0; i < n; i++) {
        sum += exp(logits[i] - top);
    }
    const double normaliser = top + log(sum);
    for (int i = 0; i < n; i++) {
        logp[i] = logits[i] - normaliser;
    }
}

double sp_tabular_loss(const sp_loss *loss, double beta, int n, const double *real,
                       const double *opponent, const double *logits, double *gradient) {
    double params[SP_LOSS_MAX_PARAMS] = {beta}, logp[SP_TABULAR_MAX], total = 0.0;
    sp_tabular_log_softmax(n, logits, logp);
    memset(gradient, 0, (size_t)n * sizeof *gradient);
    for (int w = 0; w < n; w++) {
        for (int l = 0; l < n; l++) {
            const sp_loss_response pair[2] = {
                {.policy = logp[w], .opponent = opponent[w], .length = 1},
                {.policy = logp[l], .opponent = opponent[l], .length = 1}};
            const double weight = exp(real[w] + opponent[l]);
            double d[2];
            total += weight * loss->eval(pair, 2, params, d).loss;
            for (int k = 0; k < n; k++) {
                const double p = exp(logp[k]);
                gradient[k] += weight * (d[0] * ((k == w) - p) + d[1] * ((k == l) - p));
            }
        }
    }
    return total;
}

double sp_tabular_largest(int n, const double *x) {
    double top = 0.0;
    for (int i = 0; i < n; i++) {
        top = fmax(top, fabs(x[i]));
    }
    return top;
}

/* The curvature scales with beta^2, so the step with its inverse. */
spar_status sp_tabular_solve(const sp_loss *loss, double beta, int n, const double *real,
                             const double *opponent, double *logp, spar_error *err) {
    enum { STEPS = 200000 };
    double logits[SP_TABULAR_MAX], gradient[SP_TABULAR_MAX];
    memcpy(logits, opponent, (size_t)n * sizeof *logits);
    for (int step = 0; step < STEPS; step++) {
        sp_tabular_loss(loss, beta, n, real, opponent, logits, gradient);
        if (sp_tabular_largest(n, gradient) < 1e-13 * beta) {
            sp_tabular_log_softmax(n, logits, logp);
            return SPAR_OK;
        }
        for (int i = 0; i < n; i++) {
            logits[i] -= gradient[i] * 0.5 / (beta * beta);
        }
    }
    return spar_fail(err, SPAR_LIMIT, "%s, beta %g: no minimum after %d steps, gradient %g",
                     loss->name, beta, STEPS, sp_tabular_largest(n, gradient));
}

void sp_tabular_tilt(int n, const double *real, const double *opponent, double power,
                     double *logp) {
    for (int i = 0; i < n; i++) {
        logp[i] = opponent[i] + power * (real[i] - opponent[i]);
    }
    sp_tabular_log_softmax(n, logp, logp);
}

double sp_tabular_distance(int n, const double *a, const double *b) {
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (int i = 0; i < n; i++) {
        low = fmin(low, a[i] - b[i]);
        high = fmax(high, a[i] - b[i]);
    }
    return high - low;
}
