#include "backend/cpu/tuned.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/cpu/elementwise.h"
#include "backend/cpu/flash.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/reference.h"
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

static void describe(const sp_backend *be, const sp_tuned *t,
                     char description[SP_DESCRIPTION_MAX]) {
    snprintf(description, SP_DESCRIPTION_MAX, "%s, oneDNN %s, %s", sp_cpu_isa_name(t->isa),
             sp_onednn_version(), be->compute == SP_COMPUTE_BF16 ? "bf16 emulated" : "f32");
}

/* state: the row itself, so that entries can be chosen when the backend is made. */
typedef struct tuned_state {
    sp_tuned tuned; /* first: be->state is read as an sp_tuned */
    sp_ops ops;
} tuned_state;

spar_status sp_tuned_create(sp_backend *be, char description[SP_DESCRIPTION_MAX], spar_error *err) {
    void *memory = NULL;
    const spar_status status = sp_mem_calloc(&memory, 1, sizeof(tuned_state), err);
    if (status != SPAR_OK) {
        return status;
    }
    tuned_state *s = memory;
    s->tuned.isa = sp_cpu_isa();
    sp_simd_choose(s->tuned.isa, &s->tuned.simd);
    s->ops = *sp_reference_row();
    s->ops.name = "tuned";
    s->ops.weight_prepare = sp_tuned_weight_prepare;
    s->ops.weight_release = sp_tuned_weight_release;
    s->ops.linear = sp_tuned_linear;
    s->ops.linear_dx = sp_tuned_linear_dx;
    s->ops.linear_dw = sp_tuned_linear_dw;
    s->ops.head_logp = sp_tuned_head_logp;
    s->ops.head_logp_bwd = sp_tuned_head_logp_bwd;
    s->ops.attention = sp_flash_attention;
    s->ops.attention_bwd = sp_flash_attention_bwd;
    sp_elementwise_fill(&s->ops);
    be->ops = &s->ops;
    be->state = s;
    describe(be, &s->tuned, description);
    return SPAR_OK;
}

void sp_tuned_free(sp_backend *be) {
    sp_tuned *t = be->state;
    for (int i = 0; i < SP_SCRATCH_COUNT; i++) {
        free(t->scratch[i].data);
    }
    free(t);
}
