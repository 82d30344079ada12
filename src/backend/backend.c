#include "backend/backend.h"

#include <stdio.h>
#include <stdlib.h>

#include "backend/cpu/cpu.h"
#include "backend/cpu/reference.h"
#include "base/mem.h"

enum { DESCRIPTION_MAX = 96 };

/* be is the first member, so that a backend's address is its holder's. */
typedef struct holder {
    sp_backend be;
    char description[DESCRIPTION_MAX];
} holder;

static void describe_reference(holder *h) {
    snprintf(h->description, sizeof h->description, "reference, %s",
             h->be.compute == SP_COMPUTE_BF16 ? "bf16 emulated" : "f32");
}

spar_status sp_backend_create(sp_backend **out, sp_backend_kind kind, sp_compute compute,
                              sp_pool *pool, spar_error *err) {
    void *memory = NULL;
    *out = NULL;
    (void)kind;
    spar_status status = sp_mem_calloc(&memory, 1, sizeof(holder), err);
    if (status != SPAR_OK) {
        return status;
    }
    holder *h = memory;
    h->be.pool = pool;
    h->be.compute = compute;
    h->be.operand_size = compute == SP_COMPUTE_BF16 ? sizeof(uint16_t) : sizeof(float);
    h->be.ops = sp_reference_row();
    describe_reference(h);
    *out = &h->be;
    return SPAR_OK;
}

void sp_backend_free(sp_backend *be) {
    free(be);
}

const char *sp_backend_describe(const sp_backend *be) {
    return ((const holder *)be)->description;
}

bool sp_backend_has_bf16(void) {
    return sp_cpu_has_bf16();
}
