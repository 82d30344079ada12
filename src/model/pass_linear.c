/* The linear products of a pass, with what adapters add to them, forward and backward. */
#include <string.h>

#include "model/pass_parts.h"

const float *sp_pass_vector(const spar_model *m, sp_role role, int layer) {
    return role == SP_ROLES ? NULL : sp_params_at(&m->params, m->weights, role, layer);
}

const float *sp_pass_gain(const spar_model *m, sp_role role, int layer) {
    return m->ones ? m->ones : sp_pass_vector(m, role, layer);
}

static sp_dropout dropout_of(const sp_pass *pass, const sp_adapter *a) {
    const sp_lora *l = pass->model->lora;
    return (sp_dropout){
        .p = (float)l->settings.dropout, .seed = pass->dropout_seed, .stream = (uint64_t)a->lead};
}

/* u = s x A^T, as an operand. *input is the x that A saw: after dropout, where that is on. */
static spar_status adapter_low(sp_pass *pass, const sp_adapter *a, const void *x, int64_t T,
                               void *u, const void **input, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = pass->model->backend;
    *input = x;
    if (pass->dropping) {
        const sp_dropout d = dropout_of(pass, a);
        be->ops->dropout(be, x, T * a->of->cols, &d, pass->dropped);
        *input = pass->dropped;
    }
    SPAR_TRY(be->ops->linear(be, &a->a, NULL, *input, T, pass->chain.low, false, err));
    be->ops->to_operand(be, pass->chain.low, T * sp_pass_rank(pass->model),
                        pass->model->lora->scale, u);
done:
    return status;
}

/* y += s x A^T B^T */
static spar_status add_adapter(sp_pass *pass, const sp_adapter *a, const void *x, int64_t T,
                               float *y, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = pass->model->backend;
    const void *input;
    SPAR_TRY(adapter_low(pass, a, x, T, pass->chain.low_operand, &input, err));
    SPAR_TRY(be->ops->linear(be, &a->b, NULL, pass->chain.low_operand, T, y, true, err));
done:
    return status;
}

/* direction [T,out] = x V^T with V = W + s B A */
static spar_status make_direction(sp_pass *pass, const sp_weight *w, const sp_adapter *a,
                                  const void *x, int64_t T, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_model_product(pass->model, w, NULL, x, T, pass->direction, false, err));
    SPAR_TRY(add_adapter(pass, a, x, T, pass->direction, err));
done:
    return status;
}

spar_status sp_pass_linear(sp_pass *pass, sp_role role, sp_role bias, int layer, const void *x,
                           int64_t T, float *y, bool accumulate, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const float *b = bias == SP_ROLES ? NULL : sp_pass_vector(m, bias, layer);
    const sp_adapter *adapter = sp_lora_find(m, role, layer);
    const sp_weight *w = sp_model_matrix(m, role, layer);
    if (adapter && adapter->gain) {
        SPAR_TRY(make_direction(pass, w, adapter, x, T, err));
        m->backend->ops->scale_columns(m->backend, pass->direction, adapter->gain, b, T, w->out, y,
                                       accumulate);
        goto done;
    }
    SPAR_TRY(sp_model_product(pass->model, w, b, x, T, y, accumulate, err));
    if (adapter) {
        SPAR_TRY(add_adapter(pass, adapter, x, T, y, err));
    }
done:
    return status;
}

float *sp_pass_grad(const sp_pass *pass, float *grads, sp_role role, int layer) {
    const spar_model *m = pass->model;
    return m->lora || role == SP_ROLES ? NULL : sp_params_at(&m->params, grads, role, layer);
}

/* With u = s x A^T: dB += dy^T u, du = s dy B, dA += du^T x, dx += du A. */
static spar_status adapter_backward(sp_pass *pass, sp_role role, const sp_adapter *a,
                                    const void *dy, const void *x, int64_t T, float *dx,
                                    float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = pass->model->backend;
    const int64_t rank = sp_pass_rank(pass->model);
    const void *input, *du = pass->dlow[role];
    /* computed again: it is small, keeping it is not */
    SPAR_TRY(adapter_low(pass, a, x, T, pass->low[role], &input, err));
    SPAR_TRY(be->ops->linear_dw(be, a->of->rows, rank, dy, pass->low[role], T, grads + a->offset_b,
                                true, NULL, err));
    SPAR_TRY(be->ops->linear_dx(be, &a->b, dy, T, pass->chain.low, false, err));
    be->ops->to_operand(be, pass->chain.low, T * rank, pass->model->lora->scale, pass->dlow[role]);
    SPAR_TRY(be->ops->linear_dw(be, rank, a->of->cols, du, input, T, grads + a->offset_a, true,
                                NULL, err));
    if (pass->dropping) {
        const sp_dropout d = dropout_of(pass, a);
        SPAR_TRY(be->ops->linear_dx(be, &a->a, du, T, pass->low_dx, false, err));
        be->ops->dropout_add(be, pass->low_dx, T * a->of->cols, &d, dx);
    } else {
        SPAR_TRY(be->ops->linear_dx(be, &a->a, du, T, dx, true, err));
    }
done:
    return status;
}

/* Of y = gain (V x): dm += sum of dy (V x) / |V|; *dy becomes the gradient of V x. */
static spar_status magnitude_backward(sp_pass *pass, const sp_weight *w, const sp_adapter *a,
                                      const void **dy, const void *x, int64_t T, float *grads,
                                      spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = pass->model->backend;
    SPAR_TRY(make_direction(pass, w, a, x, T, err));
    memset(pass->dgain, 0, (size_t)w->out * sizeof *pass->dgain);
    be->ops->scale_columns_bwd(be, pass->direction, a->gain, *dy, T, w->out, pass->dgain,
                               pass->dy_direction);
    for (int64_t i = 0; i < w->out; i++) {
        grads[a->offset_m + i] += pass->dgain[i] / a->length[i];
    }
    *dy = pass->dy_direction;
done:
    return status;
}

spar_status sp_pass_linear_backward(sp_pass *pass, sp_role role, sp_role bias, int layer,
                                    const void *x, int64_t T, float *dx, bool accumulate,
                                    float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = pass->model;
    const sp_ops *ops = m->backend->ops;
    const sp_weight *w = sp_model_matrix(m, role, layer);
    const void *dy = pass->dy[role];
    float *dw = sp_pass_grad(pass, grads, role, layer);
    if (dw) {
        SPAR_TRY(ops->linear_dw(m->backend, w->out, w->in, dy, x, T, dw, pass->accumulate,
                                sp_pass_grad(pass, grads, bias, layer), err));
    }
    const sp_adapter *adapter = sp_lora_find(m, role, layer);
    if (adapter && adapter->gain) {
        SPAR_TRY(magnitude_backward(pass, w, adapter, &dy, x, T, grads, err));
    }
    SPAR_TRY(ops->linear_dx(m->backend, w, dy, T, dx, accumulate, err));
    if (adapter) {
        SPAR_TRY(adapter_backward(pass, role, adapter, dy, x, T, dx, grads, err));
    }
done:
    return status;
}
