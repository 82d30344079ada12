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

/* The x that A sees: after dropout, where that is on. */
static const void *adapter_input(sp_pass *pass, const sp_adapter *a, const void *x, int64_t T) {
    sp_backend *be = pass->model->backend;
    if (!pass->dropping) {
        return x;
    }
    const sp_dropout d = dropout_of(pass, a);
    be->ops->dropout(be, x, T * a->of->cols, &d, pass->dropped);
    return pass->dropped;
}

/* y += s x A^T B^T */
static spar_status add_adapter(sp_pass *pass, const sp_adapter *a, const void *x, int64_t T,
                               float *y, spar_error *err) {
    const sp_low_space space = {.low = pass->chain.low, .u = pass->chain.low_operand};
    return sp_lora_add(pass->model, a, &space, adapter_input(pass, a, x, T), T, y, err);
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

static spar_status adapter_backward(sp_pass *pass, sp_role role, const sp_adapter *a,
                                    const void *dy, const void *x, int64_t T, float *dx,
                                    float *grads, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = pass->model->backend;
    const sp_low_space space = {pass->chain.low, pass->low[role], pass->dlow[role]};
    const void *input = adapter_input(pass, a, x, T);
    SPAR_TRY(sp_lora_backward(pass->model, a, &space, dy, input, T, pass->dropping ? NULL : dx,
                              grads, err));
    if (pass->dropping) {
        const sp_dropout d = dropout_of(pass, a);
        SPAR_TRY(be->ops->linear_dx(be, &a->a, space.du, T, pass->low_dx, false, err));
        be->ops->dropout_add(be, pass->low_dx, T * a->of->cols, &d, dx);
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
