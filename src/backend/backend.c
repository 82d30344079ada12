#include "backend/backend.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/reference.h"
#include "backend/cpu/tuned.h"
#include "base/mem.h"

/* be is the first member, so that a backend's address is its holder's. */
typedef struct holder {
    sp_backend be;
    char description[SP_DESCRIPTION_MAX];
} holder;

static void set_reference(holder *h) {
    h->be.ops = sp_reference_row();
    snprintf(h->description, sizeof h->description, "reference, %s",
             h->be.compute == SP_COMPUTE_BF16 ? "bf16 emulated" : "f32");
}

spar_status sp_backend_create(sp_backend **out, sp_backend_kind kind, sp_compute compute,
                              sp_pool *pool, spar_error *err) {
    void *memory = NULL;
    *out = NULL;
    spar_status status = sp_mem_calloc(&memory, 1, sizeof(holder), err);
    if (status != SPAR_OK) {
        return status;
    }
    holder *h = memory;
    h->be.pool = pool;
    h->be.compute = compute;
    h->be.operand_size = compute == SP_COMPUTE_BF16 ? sizeof(uint16_t) : sizeof(float);
    if (kind == SP_BACKEND_REFERENCE) {
        set_reference(h);
    } else {
        status = sp_tuned_create(&h->be, h->description, err);
    }
    if (status != SPAR_OK) {
        free(h);
        return status;
    }
    *out = &h->be;
    return SPAR_OK;
}

void sp_backend_free(sp_backend *be) {
    if (be != NULL && be->state != NULL) {
        sp_tuned_free(be);
    }
    if (be != NULL) {
        free(be->local.data);
    }
    free(be);
}

const char *sp_backend_describe(const sp_backend *be) {
    return ((const holder *)be)->description;
}

bool sp_backend_has_bf16(void) {
    return sp_cpu_has_bf16();
}
