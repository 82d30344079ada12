#include "eval/length_control.h"

#include <math.h>
#include <string.h>

enum { P = SP_LOGISTIC_MAX_FEATURES };

/* Penalty of the published leaderboard's usual fit, chosen there by cross-validation. */
static const double leaderboard_c = 2.782559;

static double softplus(double z) {
    return fmax(z, 0) + log1p(exp(-fabs(z)));
}

static double sigmoid(double z) {
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

typedef struct problem {
    const double *x, *y, *weight;
    size_t n, p;
    double c;
} problem;

static double dot(const double *a, const double *b, size_t p) {
    double sum = 0;
    for (size_t j = 0; j < p; j++) {
        sum += a[j] * b[j];
    }
    return sum;
}

static double objective(const problem *q, const double *w) {
    double sum = 0, penalty = 0;
    for (size_t i = 0; i < q->n; i++) {
        const double z = dot(q->x + i * q->p, w, q->p);
        sum += (q->weight ? q->weight[i] : 1) * (softplus(z) - q->y[i] * z);
    }
    for (size_t j = 0; j < q->p; j++) {
        penalty += fabs(w[j]);
    }
    return penalty + q->c * sum;
}

/* Gradient [p] and Hessian [P,P] of the smooth part. */
static void derivatives(const problem *q, const double *w, double *g, double h[P][P]) {
    memset(g, 0, P * sizeof *g);
    memset(h, 0, sizeof(double[P][P]));
    for (size_t i = 0; i < q->n; i++) {
        const double *x = q->x + i * q->p;
        const double s = sigmoid(dot(x, w, q->p));
        const double scale = q->c * (q->weight ? q->weight[i] : 1);
        for (size_t j = 0; j < q->p; j++) {
            g[j] += scale * (s - q->y[i]) * x[j];
            for (size_t k = 0; k < q->p; k++) {
                h[j][k] += scale * s * (1 - s) * x[j] * x[k];
            }
        }
    }
}

/* Minimiser u [p] of the quadratic model at w with the penalty: coordinates in turn, each by soft
 * thresholding. */
static void minimise_model(const problem *q, const double *w, const double *g, double h[P][P],
                           double *u) {
    enum { SWEEPS = 1000 };
    memcpy(u, w, q->p * sizeof *u);
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double moved = 0;
        for (size_t j = 0; j < q->p; j++) {
            const double curve = h[j][j] + 1e-12; /* a feature that is always 0 */
            double slope = g[j] - curve * u[j];
            for (size_t k = 0; k < q->p; k++) {
                slope += h[j][k] * (u[k] - w[k]);
            }
            const double next = -copysign(fmax(fabs(slope) - 1, 0), slope) / curve;
            moved = fmax(moved, fabs(next - u[j]));
            u[j] = next;
        }
        if (moved < 1e-14) {
            break;
        }
    }
}

/* Proximal Newton: convex, so halving the step until the objective falls is enough. */
void sp_logistic_fit(const double *x, const double *y, const double *weight, size_t n, size_t p,
                     double c, double *w) {
    enum { STEPS = 100, HALVINGS = 40 };
    const problem q = {x, y, weight, n, p, c};
    memset(w, 0, p * sizeof *w);
    double now = objective(&q, w);
    for (int step = 0; step < STEPS; step++) {
        double g[P], h[P][P], u[P], next[P], lower = now;
        double part = 1;
        derivatives(&q, w, g, h);
        minimise_model(&q, w, g, h, u);
        for (int i = 0; i < HALVINGS; i++, part /= 2) {
            for (size_t j = 0; j < p; j++) {
                next[j] = w[j] + part * (u[j] - w[j]);
            }
            lower = objective(&q, next);
            if (lower < now) {
                break;
            }
        }
        if (!(lower < now)) {
            break; /* down to rounding */
        }
        memcpy(w, next, p * sizeof *w);
        now = lower;
    }
}

void sp_length_feature(double *lead, size_t n) {
    double mean = 0, squares = 0; /* Welford's recurrence */
    for (size_t i = 0; i < n; i++) {
        const double step = lead[i] - mean;
        mean += step / (double)(i + 1);
        squares += step * (lead[i] - mean);
    }
    const double sd = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
    for (size_t i = 0; i < n; i++) {
        lead[i] = sd > 0 ? tanh(lead[i] / sd) : 0;
    }
}

double sp_length_controlled(const double *wins, const double *lead, size_t n, double *scratch) {
    double w[2];
    memcpy(scratch, lead, n * sizeof *lead);
    sp_length_feature(scratch, n);
    for (size_t i = n; i-- > 0;) { /* [n] spread to rows of (feature, 1), from the end */
        scratch[2 * i] = scratch[i];
        scratch[2 * i + 1] = 1;
    }
    sp_logistic_fit(scratch, wins, NULL, n, 2, leaderboard_c, w);
    return sigmoid(w[1]);
}
