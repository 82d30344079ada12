/* The products of a mixture's matrices, with what adapters add to them. */
#include "model/mixture.h"

spar_status sp_mixture_product(const spar_model *m, sp_role role, int layer, int expert,
                               const sp_mixture_space *s, const void *x, int64_t n, float *y,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_param *p = sp_params_get(&m->params, role, layer) + expert;
    const sp_adapter *adapter = sp_lora_of(m, p);
    SPAR_TRY(
        sp_model_product(m, sp_model_matrix(m, role, layer) + expert, NULL, x, n, y, false, err));
    if (adapter) {
        SPAR_TRY(sp_lora_add(m, adapter, &s->low, x, n, y, err));
    }
done:
    return status;
}

spar_status sp_mixture_product_backward(const spar_model *m, sp_role role, int layer, int expert,
                                        const sp_mixture_space *s, const void *dy, const void *x,
                                        int64_t n, float *dx, bool accumulate, float *grads,
                                        spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_ops *ops = m->backend->ops;
    const sp_param *p = sp_params_get(&m->params, role, layer) + expert;
    const sp_weight *w = sp_model_matrix(m, role, layer) + expert;
    const sp_adapter *adapter = sp_lora_of(m, p);
    if (x && !m->lora) {
        SPAR_TRY(ops->linear_dw(m->backend, w->out, w->in, dy, x, n, grads + p->offset, true, NULL,
                                err));
    }
    if (dx) {
        SPAR_TRY(ops->linear_dx(m->backend, w, dy, n, dx, accumulate, err));
    }
    if (adapter) {
        SPAR_TRY(sp_lora_backward(m, adapter, &s->low, dy, x, n, dx, grads, err));
    }
done:
    return status;
}
