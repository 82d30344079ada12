#include "train/loss_label.h"

#include <math.h>

#include "train/loss_math.h"

const sp_tunable sp_kto_params[] = {
    {"beta", 0.1, 1e-6, 1e6, "strength of the pull towards the reference"},
    {"lambda_good", 1.0, 0.0, 1e3, "weight of responses labelled good"},
    {"lambda_bad", 1.0, 0.0, 1e3, "weight of responses labelled bad"},
    {0}};

/* 1 - sigma(t) = sigma(-t), whose slope is -sigma(t) sigma(-t). */
spar_status sp_kto_eval(double s, bool good, double z, const double *params, double *loss,
                        double *d, double *t, spar_error *err) {
    const double side = good ? params[0] : -params[0];
    const double weight = params[good ? 1 : 2];
    if (!isfinite(s) || !(z >= 0.0) || !isfinite(z)) {
        return spar_fail(err, SPAR_INVALID,
                         "loss kto: expected a finite log-ratio and a finite z of at least 0, "
                         "found %g and %g",
                         s, z);
    }
    *t = side * (s - z);
    *loss = weight * sp_sigmoid(-*t);
    *d = -weight * side * sp_sigmoid(*t) * sp_sigmoid(-*t);
    return sp_tunable_check(sp_kto_params, params, "kto", err);
}

double sp_kto_baseline(const double *s, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += s[i];
    }
    return n > 0 ? fmax(0.0, sum / (double)n) : 0.0;
}
