#include "backend/cpu/tuned.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/elementwise.h"
#include "backend/cpu/flash.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/quant.h"
#include "backend/cpu/reference.h"
#include "backend/cpu/relative.h"
#include "backend/cpu/short_conv.h"
#include "base/mem.h"

spar_status sp_tuned_scratch(sp_backend *be, int slot, size_t n, size_t size, void **out,
                             spar_error *err) {
    sp_scratch *s = &((sp_tuned *)be->state)->scratch[slot];
    size_t need = 0;
    if (!sp_mem_mul(n, size, &need)) {
        return spar_fail(err, SPAR_NO_MEMORY, "scratch of %zu elements is too large", n);
    }
    if (need > s->capacity || s->data == NULL) {
        void *data = NULL;
        const spar_status status = sp_mem_aligned(&data, need, 1, err);
        if (status != SPAR_OK) {
            return status;
        }
        free(s->data);
        s->data = data;
        s->capacity = need;
    }
    *out = s->data;
    return SPAR_OK;
}

/* state: the row itself, so that entries can be chosen when the backend is made. */
typedef struct tuned_state {
    sp_tuned tuned; /* first: be->state is read as an sp_tuned */
    sp_ops ops;
} tuned_state;

/* linear, linear_dx and linear_dw of a small problem, kept in a struct so that two rows can be
 * compared. */
enum { PROBE_T = 33, PROBE_OUT = 70, PROBE_IN = 65 };
typedef struct probe {
    float data[PROBE_OUT * PROBE_IN], x[PROBE_T * PROBE_IN], dy[PROBE_T * PROBE_OUT];
    float operand_x[PROBE_T * PROBE_IN], operand_dy[PROBE_T * PROBE_OUT]; /* room for either type */
    float y[PROBE_T * PROBE_OUT], dx[PROBE_T * PROBE_IN], dw[PROBE_OUT * PROBE_IN];
} probe;

static void probe_fill(float *x, int n, int step) {
    for (int i = 0; i < n; i++) {
        x[i] = (float)(i * step % 97 - 48) / 32.0F;
    }
}

static spar_status probe_run(sp_backend *be, const sp_ops *ops, probe *p, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_weight w = {.data = p->data, .out = PROBE_OUT, .in = PROBE_IN};
    memset(p, 0, sizeof *p);
    probe_fill(p->data, PROBE_OUT * PROBE_IN, 31);
    probe_fill(p->x, PROBE_T * PROBE_IN, 37);
    probe_fill(p->dy, PROBE_T * PROBE_OUT, 41);
    ops->to_operand(be, p->x, PROBE_T * PROBE_IN, 1, p->operand_x);
    ops->to_operand(be, p->dy, PROBE_T * PROBE_OUT, 1, p->operand_dy);
    SPAR_TRY(ops->weight_prepare(be, &w, SP_PREPARE_FORWARD | SP_PREPARE_BACKWARD, err));
    SPAR_TRY(ops->linear(be, &w, NULL, p->operand_x, PROBE_T, p->y, false, err));
    SPAR_TRY(ops->linear_dx(be, &w, p->operand_dy, PROBE_T, p->dx, false, err));
    SPAR_TRY(ops->linear_dw(be, PROBE_OUT, PROBE_IN, p->operand_dy, p->operand_x, PROBE_T, p->dw,
                            true, NULL, err));
done:
    ops->weight_release(be, &w);
    return status;
}

/* Operands hold the same bits in both rows, so only summation differs. */
static bool all_close(const float *x, const float *y, int n) {
    for (int i = 0; i < n; i++) {
        if (!(fabsf(x[i] - y[i]) <= 1e-3F)) {
            return false;
        }
    }
    return true;
}

/* The primitives must give the reference's results, and be more than the library's own reference,
 * which would be very slow. */
static spar_status probe_check(sp_backend *be, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL;
    const sp_dnn_kernel *kernel = NULL;
    const sp_tuned *t = be->state;
    const sp_dnn_shape shape = {
        be->compute == SP_COMPUTE_BF16 ? SP_DNN_BF16 : SP_DNN_F32, 64, 512, 512, true, false};
    SPAR_TRY(sp_dnn_get(t->dnn, &shape, &kernel, err));
    if (strstr(sp_dnn_implementation(kernel), "ref") != NULL) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "oneDNN has no fast product of this type here"));
    }
    SPAR_TRY(sp_mem_calloc(&memory, 2, sizeof(probe), err));
    probe *got = memory, *want = got + 1;
    SPAR_TRY(probe_run(be, be->ops, got, err));
    SPAR_TRY(probe_run(be, sp_reference_row(), want, err));
    if (!all_close(got->y, want->y, PROBE_T * PROBE_OUT) ||
        !all_close(got->dx, want->dx, PROBE_T * PROBE_IN) ||
        !all_close(got->dw, want->dw, PROBE_OUT * PROBE_IN)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "oneDNN's products are off by more than 1e-3"));
    }
done:
    free(memory);
    return status;
}

spar_status sp_tuned_use_primitives(sp_backend *be, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_tuned *t = be->state;
    SPAR_TRY(sp_dnn_create(&t->dnn, sp_pool_threads(be->pool), err));
    status = probe_check(be, err);
    if (status != SPAR_OK) {
        sp_dnn_free(t->dnn);
        t->dnn = NULL;
    }
    be->copies = t->dnn != NULL;
done:
    return status;
}

static void describe(const sp_backend *be, const sp_tuned *t,
                     char description[SP_DESCRIPTION_MAX]) {
    const char *type = "f32";
    if (be->compute == SP_COMPUTE_BF16) {
        type = t->dnn != NULL ? "bf16 native" : "bf16 emulated";
    }
    snprintf(description, SP_DESCRIPTION_MAX, "%s, oneDNN %s, %s", sp_cpu_isa_name(t->isa),
             sp_onednn_version(), type);
}

spar_status sp_tuned_create(sp_backend *be, char description[SP_DESCRIPTION_MAX], spar_error *err) {
    void *memory = NULL;
    const spar_status status = sp_mem_calloc(&memory, 1, sizeof(tuned_state), err);
    if (status != SPAR_OK) {
        return status;
    }
    tuned_state *s = memory;
    s->tuned.isa = sp_cpu_isa();
    sp_onednn_cap(s->tuned.isa);
    sp_simd_choose(s->tuned.isa, &s->tuned.simd);
    s->ops = *sp_reference_row();
    s->ops.name = "tuned";
    s->ops.exp_sum = s->tuned.simd.exp_sum;
    s->ops.weight_prepare = sp_tuned_weight_prepare;
    s->ops.weight_release = sp_tuned_weight_release;
    s->ops.linear = sp_tuned_linear;
    s->ops.linear_whole = sp_tuned_linear_whole;
    s->ops.linear_dx = sp_tuned_linear_dx;
    s->ops.linear_dw = sp_tuned_linear_dw;
    s->ops.head_logp = sp_tuned_head_logp;
    s->ops.head_logp_bwd = sp_tuned_head_logp_bwd;
    s->ops.attention = sp_flash_attention;
    s->ops.relative_attention = sp_relative_attention_run;
    s->ops.cache_put = sp_flash_cache_put;
    s->ops.attention_bwd = sp_flash_attention_bwd;
    s->ops.short_conv = sp_short_conv_run;
    s->ops.short_conv_bwd = sp_short_conv_run_bwd;
    sp_elementwise_fill(&s->ops);
    sp_chain_fill(&s->ops);
    be->ops = &s->ops;
    be->state = s;
    if (be->compute == SP_COMPUTE_BF16 && sp_cpu_has_bf16()) {
        /* Where they fail, products are emulated, and the description says so. */
        (void)sp_tuned_use_primitives(be, NULL);
    }
    describe(be, &s->tuned, description);
    return SPAR_OK;
}

void sp_tuned_free(sp_backend *be) {
    sp_tuned *t = be->state;
    for (int i = 0; i < SP_SCRATCH_COUNT; i++) {
        free(t->scratch[i].data);
    }
    sp_chain_release(&t->chain);
    sp_slabs_release(&t->weights);
    sp_dnn_free(t->dnn);
    free(t);
}
