/* The products of an adapter, forward and backward. */
#include "model/engine.h"
#include "model/lora.h"

spar_status sp_lora_low(const spar_model *m, const sp_adapter *a, const sp_low_space *space,
                        const void *x, int64_t T, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = m->backend;
    SPAR_TRY(be->ops->linear(be, &a->a, NULL, x, T, space->low, false, err));
    be->ops->to_operand(be, space->low, T * a->rank, a->scale, space->u);
done:
    return status;
}

spar_status sp_lora_add(const spar_model *m, const sp_adapter *a, const sp_low_space *space,
                        const void *x, int64_t T, float *y, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_lora_low(m, a, space, x, T, err));
    SPAR_TRY(m->backend->ops->linear(m->backend, &a->b, NULL, space->u, T, y, true, err));
done:
    return status;
}

/* With u = s x A^T: dB += dy^T u, du = s dy B, dA += du^T x, dx += du A. u is computed again: it is
 * small, keeping it is not. */
spar_status sp_lora_backward(const spar_model *m, const sp_adapter *a, const sp_low_space *space,
                             const void *dy, const void *x, int64_t T, float *dx, float *grads,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    sp_backend *be = m->backend;
    const int64_t rows = a->of->rows, cols = a->of->cols;
    if (x) {
        SPAR_TRY(sp_lora_low(m, a, space, x, T, err));
        SPAR_TRY(be->ops->linear_dw(be, rows, a->rank, dy, space->u, T, grads + a->offset_b, true,
                                    NULL, err));
    }
    SPAR_TRY(be->ops->linear_dx(be, &a->b, dy, T, space->low, false, err));
    be->ops->to_operand(be, space->low, T * a->rank, a->scale, space->du);
    if (x) {
        SPAR_TRY(be->ops->linear_dw(be, a->rank, cols, space->du, x, T, grads + a->offset_a, true,
                                    NULL, err));
    }
    if (dx) {
        SPAR_TRY(be->ops->linear_dx(be, &a->a, space->du, T, dx, true, err));
    }
done:
    return status;
}
