/* The tuned row: oneDNN for matrix products (f32 ones over many rows by panels.c), SIMD loops
 * compiled once an instruction set for the rest. The ops are spread over tuned.c (state,
 * element-wise), products.c, fused_head.c and flash_attention.c; this header is for them and for
 * backend.c. */
#ifndef SP_BACKEND_CPU_TUNED_H
#define SP_BACKEND_CPU_TUNED_H

#include <stdatomic.h>

#include "backend/backend.h"
#include "backend/cpu/chain.h"
#include "backend/cpu/cpu.h"
#include "backend/cpu/onednn.h"
#include "backend/cpu/simd.h"
#include "backend/cpu/slabs.h"

enum { SP_DESCRIPTION_MAX = 96 };

/* Grows on demand, never shrinks; contents are not kept. */
typedef struct sp_scratch {
    void *data; /* owned */
    size_t capacity;
} sp_scratch;

/* The arrays that an op may need at once, whatever the op. */
enum {
    SP_SCRATCH_A,
    SP_SCRATCH_B,
    SP_SCRATCH_PARTIAL, /* the first of several */
    SP_SCRATCH_PARTIAL_COUNT = 8,
    SP_SCRATCH_PARTIAL_LAST = SP_SCRATCH_PARTIAL + SP_SCRATCH_PARTIAL_COUNT - 1,
    SP_SCRATCH_WORKERS,
    SP_SCRATCH_PLAN,
    SP_SCRATCH_TREES,
    SP_SCRATCH_STATS,
    SP_SCRATCH_LOCAL,
    SP_SCRATCH_DW, /* the first of several */
    SP_SCRATCH_DW_LAST = SP_SCRATCH_DW + 2 * 16 - 1,
    SP_SCRATCH_FROZEN, /* the first of several */
    SP_SCRATCH_FROZEN_COUNT = 48,
    SP_SCRATCH_COUNT = SP_SCRATCH_FROZEN + SP_SCRATCH_FROZEN_COUNT
};

/* Weight gradients whose operands are being made, two arrays of scratch each; packed_dw.c. */
enum { SP_DW_MAX = 16 };
typedef struct sp_dw {
    int64_t out, in, depth, tile, tiles;
    const void *x;
    char *columns, *b;               /* borrowed from scratch */
    float *dw;                       /* borrowed */
    const sp_dnn_kernel *kernels[2]; /* of a full tile, of the last */
} sp_dw;
typedef struct sp_dw_list {
    sp_dw items[SP_DW_MAX];
    int n;
} sp_dw_list;

/* The same of f32; panels.c. */
typedef struct sp_panels_dw {
    int64_t out, in, T;
    const float *dy, *x;
    float *b, *dw; /* borrowed; x in panels, from scratch */
    bool accumulate;
} sp_panels_dw;
typedef struct sp_panels_dw_list {
    sp_panels_dw items[SP_DW_MAX];
    int n;
    float *space; /* of all workers */
} sp_panels_dw_list;

typedef struct sp_tuned {
    sp_isa isa;
    sp_dnn *dnn; /* owned; NULL: products by dnnl_sgemm on f32 copies */
    sp_simd simd;
    sp_slabs weights; /* packed copies, and blocks that were moved here */
    sp_chain chain;
    sp_dw_list dw;
    sp_panels_dw_list panels_dw;
    sp_scratch scratch[SP_SCRATCH_COUNT];
} sp_tuned;

/* Fill be->ops and be->state (the other fields are set), and say in one line what was chosen. */
spar_status sp_tuned_create(sp_backend *be, char description[SP_DESCRIPTION_MAX], spar_error *err);
void sp_tuned_free(sp_backend *be);

/* Take the library's primitives with packed weights for products from now on, of either operand
 * type: what bf16 does where it runs in hardware. Weights prepared before must be released first.
 * Checks them against the reference on a small problem; UNSUPPORTED when they cannot be used here
 * (and nothing changes). */
spar_status sp_tuned_use_primitives(sp_backend *be, spar_error *err);

/* Whether products can be steps of a chain here. */
bool sp_tuned_can_defer(const sp_backend *be);

/* *out = n * size bytes of scratch `slot`, 64-byte aligned, borrowed until the next request. */
spar_status sp_tuned_scratch(sp_backend *be, int slot, size_t n, size_t size, void **out,
                             spar_error *err);

/* The operand array x [n] as f32: itself, or a widened copy in scratch `slot`. */
spar_status sp_tuned_operand_f32(sp_backend *be, const void *x, int64_t n, int slot,
                                 const float **out, spar_error *err);
/* The values that the products see: the master weights, or their copy rounded to bf16. */
const float *sp_tuned_weight_values(const sp_weight *w);

/* Entries of the row; contracts in backend.h. */
spar_status sp_tuned_weight_prepare(sp_backend *be, sp_weight *w, int what, spar_error *err);
void sp_tuned_weight_release(sp_backend *be, sp_weight *w);
spar_status sp_tuned_linear(sp_backend *be, const sp_weight *w, const float *bias, const void *x,
                            int64_t T, float *y, bool accumulate, spar_error *err);
spar_status sp_tuned_linear_dx(sp_backend *be, const sp_weight *w, const void *dy, int64_t T,
                               float *dx, bool accumulate, spar_error *err);
spar_status sp_tuned_linear_dw(sp_backend *be, int64_t out, int64_t in, const void *dy,
                               const void *x, int64_t T, float *dw, bool accumulate, float *dbias,
                               spar_error *err);
spar_status sp_tuned_head_logp(sp_backend *be, const sp_weight *w, const sp_logit_form *form,
                               const void *h, const int32_t *target, int64_t R, float *logp,
                               float *lse, spar_error *err);
spar_status sp_tuned_head_logp_bwd(sp_backend *be, const sp_weight *w, const sp_logit_form *form,
                                   const void *h, const int32_t *target, const float *lse,
                                   const float *c, int64_t R, float *dh, float *dw, bool accumulate,
                                   spar_error *err);

#endif
