#include <math.h>
#include <string.h>

#include "backend/cpu/operand.h"
#include "backend/cpu/reference.h"

static double formed(const sp_logit_form *form, double z) {
    const double y = (double)form->scale * z, cap = (double)form->cap;
    return cap > 0 ? cap * tanh(y / cap) : y;
}

void sp_reference_form_logits(sp_backend *be, const sp_logit_form *form, int64_t n, float *x) {
    (void)be;
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)formed(form, (double)x[i]);
    }
}

/* Logit j of row r. */
static double logit(const sp_backend *be, const sp_weight *w, const sp_logit_form *form,
                    const void *h, int64_t r, int64_t j) {
    double sum = 0;
    for (int64_t i = 0; i < w->in; i++) {
        sum +=
            (double)sp_operand_load(be, h, r * w->in + i) * (double)sp_operand_weight(be, w, j, i);
    }
    return formed(form, sum + (form->bias != NULL ? (double)form->bias[j] : 0.0));
}

spar_status sp_reference_head_logp(sp_backend *be, const sp_weight *w, const sp_logit_form *form,
                                   const void *h, const int32_t *target, int64_t R, float *logp,
                                   float *lse, spar_error *err) {
    (void)err;
    for (int64_t r = 0; r < R; r++) {
        double max = -(double)INFINITY, sum = 0;
        for (int64_t j = 0; j < w->out; j++) {
            const double x = logit(be, w, form, h, r, j);
            if (x > max) {
                sum *= exp(max - x);
                max = x;
            }
            sum += exp(x - max);
        }
        const double total = max + log(sum);
        lse[r] = (float)total;
        logp[r] = (float)(logit(be, w, form, h, r, target[r]) - total);
    }
    return SPAR_OK;
}

/* d logp / d logit_j = [j = target] - p_j. */
spar_status sp_reference_head_logp_bwd(sp_backend *be, const sp_weight *w,
                                       const sp_logit_form *form, const void *h,
                                       const int32_t *target, const float *lse, const float *c,
                                       int64_t R, float *dh, float *dw, bool accumulate,
                                       spar_error *err) {
    (void)err;
    memset(dh, 0, (size_t)(R * w->in) * sizeof *dh);
    if (dw != NULL && !accumulate) {
        memset(dw, 0, (size_t)(w->out * w->in) * sizeof *dw);
    }
    for (int64_t r = 0; r < R; r++) {
        for (int64_t j = 0; j < w->out; j++) {
            const double y = logit(be, w, form, h, r, j), p = exp(y - (double)lse[r]);
            const double t = form->cap > 0 ? y / (double)form->cap : 0;
            const double slope = (double)form->scale * (1 - t * t); /* of y by the plain logit */
            const double d = (double)c[r] * ((j == target[r] ? 1.0 : 0.0) - p) * slope;
            const float g = sp_operand_round(be, (float)d);
            if (form->dbias != NULL) {
                form->dbias[j] += g;
            }
            for (int64_t i = 0; i < w->in; i++) {
                dh[r * w->in + i] += g * sp_operand_weight(be, w, j, i);
                if (dw != NULL) {
                    dw[j * w->in + i] += g * sp_operand_load(be, h, r * w->in + i);
                }
            }
        }
    }
    return SPAR_OK;
}
