#include "backend/cpu/quant.h"

#include <string.h>

#include "backend/cpu/sizes.h"

#include "backend/cpu/chain.h"

enum {
    TASK_PANELS = 4, /* of a task: 64 outputs */
    TASK_ROWS = 64,
    ALONE = 1 << 13 /* numbers that one thread rounds faster than several are woken */
};

static const sp_simd *simd_of(const sp_backend *be) {
    return &((const sp_tuned *)be->state)->simd;
}

void sp_quant_tile(const sp_backend *be, const sp_blocks *w, int64_t out0, int64_t n, int64_t in0,
                   int64_t m, float *to) {
    const sp_simd *simd = simd_of(be);
    const int64_t stride = sp_quant_stride(n);
    for (int64_t o = 0; o < n; o += SP_PANEL) {
        simd->blocks_expand(w, (out0 + o) / SP_PANEL, in0 / SP_AFFINE_BLOCK, m / SP_AFFINE_BLOCK,
                            to + o, stride);
    }
    if (be->compute == SP_COMPUTE_BF16) {
        simd->round_bf16(to, m * stride, to);
    }
}

/* y [T,out] (= or +=) x W^T + bias with x as whole numbers. */
typedef struct product {
    const sp_simd *simd;
    const sp_blocks *w;
    const float *x, *bias;
    sp_whole rows; /* of x */
    int64_t T, panel_tasks;
    float *y;
    bool accumulate;
} product;

static sp_whole rows_from(const product *p, int64_t row) {
    const int64_t at = row * p->w->in, block = row * p->w->n_blocks;
    return (sp_whole){.q = p->rows.q + at,
                      .low = p->rows.low != NULL ? p->rows.low + at : NULL,
                      .scale = p->rows.scale + block,
                      .sum = p->rows.sum + block};
}

static void quantize_task(void *context, int task, int worker) {
    (void)worker;
    const product *p = context;
    const sp_whole to = rows_from(p, task);
    p->simd->quantize(p->x + task * p->w->in, p->w->in, &to);
}

static void put_panel(const product *p, const float *tile, int64_t row0, int64_t rows,
                      int64_t panel) {
    const int64_t out0 = panel * SP_PANEL, n = sp_min64(SP_PANEL, p->w->out - out0);
    for (int64_t r = 0; r < rows; r++, tile += SP_PANEL) {
        float *y = p->y + (row0 + r) * p->w->out + out0;
        for (int64_t o = 0; o < n; o++) {
            const float bias = p->bias != NULL ? p->bias[out0 + o] : 0;
            y[o] = (p->accumulate ? y[o] : 0) + tile[o] + bias;
        }
    }
}

static void product_task(void *context, int task, int worker) {
    (void)worker;
    const product *p = context;
    const int64_t row0 = task / p->panel_tasks * TASK_ROWS, rows = sp_min64(TASK_ROWS, p->T - row0);
    const int64_t first = task % p->panel_tasks * TASK_PANELS;
    const int64_t last = sp_min64(first + TASK_PANELS, p->w->panels);
    float tile[TASK_ROWS * SP_PANEL];
    for (int64_t panel = first; panel < last; panel++) {
        const sp_blocks_product part = {.w = p->w,
                                        .panel = panel,
                                        .rows = rows,
                                        .x = rows_from(p, row0),
                                        .y = tile,
                                        .y_row = SP_PANEL};
        p->simd->blocks_product(&part);
        put_panel(p, tile, row0, rows, panel);
    }
}

static spar_status product_space(sp_backend *be, product *p, int terms, spar_error *err) {
    void *space = NULL;
    const int64_t blocks = p->T * p->w->n_blocks;
    sp_whole *to = &p->rows;
    const spar_status status = sp_tuned_scratch(
        be, SP_SCRATCH_B, (size_t)blocks,
        (size_t)terms * SP_AFFINE_BLOCK + sizeof *to->scale + sizeof *to->sum, &space, err);
    to->scale = space;
    to->sum = (int32_t *)(void *)(to->scale + blocks);
    to->q = (int8_t *)(void *)(to->sum + blocks);
    to->low = terms == 2 ? to->q + blocks * SP_AFFINE_BLOCK : NULL;
    return status;
}

static void quantize_rows(sp_backend *be, product *p) {
    if (p->T * p->w->in > ALONE) {
        sp_pool_run(be->pool, (int)p->T, quantize_task, p);
    } else {
        for (int t = 0; t < (int)p->T; t++) {
            quantize_task(p, t, 0);
        }
    }
}

spar_status sp_tuned_linear_whole(sp_backend *be, const sp_weight *w, const float *bias,
                                  const void *x, int terms, int64_t T, float *y, bool accumulate,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    product p = {.simd = simd_of(be),
                 .w = w->blocks,
                 .bias = bias,
                 .T = T,
                 .y = y,
                 .accumulate = accumulate};
    if (T == 0) {
        return SPAR_OK;
    }
    SPAR_TRY(sp_tuned_operand_f32(be, x, T * w->in, SP_SCRATCH_A, &p.x, err));
    SPAR_TRY(product_space(be, &p, terms, err));
    quantize_rows(be, &p);
    p.panel_tasks = sp_ceil_div(p.w->panels, TASK_PANELS);
    sp_pool_run(be->pool, (int)(sp_ceil_div(T, TASK_ROWS) * p.panel_tasks), product_task, &p);
done:
    return status;
}

/* ---- in bf16 ---- */

bool sp_quant_multiplies_bf16(const sp_backend *be) {
    return be->compute == SP_COMPUTE_BF16 && simd_of(be)->blocks_product_bf16 != NULL;
}

/* Beyond a tile of rows it pays to make the weights first. */
bool sp_quant_scales_after(const sp_backend *be, const sp_blocks *w, int64_t T) {
    return be->compute == SP_COMPUTE_BF16 && w->form.bits == 4 && T <= SP_BF16_TILE &&
           simd_of(be)->scaled_product_bf16 != NULL;
}

typedef struct bf16_product {
    sp_bf16_product part; /* all panels */
    const sp_simd *simd;
    void (*run)(const sp_bf16_product *part);
    uint16_t *spaces; /* of all workers */
    int64_t space;    /* numbers of one */
} bf16_product;

static void bf16_task(void *context, int task, int worker) {
    const bf16_product *p = context;
    sp_bf16_product part = p->part;
    part.panel = (int64_t)task * SP_BF16_PANELS;
    part.panels = (int)sp_min64(SP_BF16_PANELS, part.w->panels - part.panel);
    part.space = p->spaces + worker * p->space;
    p->run(&part);
}

/* The rows behind the last whole tile, as a tile with rows of zeros. */
static void copy_last(sp_bf16_product *p, uint16_t *to) {
    const int64_t rest = p->rows % SP_BF16_TILE, in = p->w->in;
    if (rest == 0) {
        return;
    }
    memcpy(to, p->x + (p->rows - rest) * in, (size_t)(rest * in) * sizeof *to);
    memset(to + rest * in, 0, (size_t)((SP_BF16_TILE - rest) * in) * sizeof *to);
    p->last = to;
}

/* What the product wants beside x: the last tile, and the sums (those of rows that are not there
 * are multiplied, and not put anywhere). */
static spar_status bf16_inputs(sp_backend *be, bf16_product *p, spar_error *err) {
    const int64_t in = p->part.w->in;
    const bool sums = sp_quant_scales_after(be, p->part.w, p->part.rows);
    const int64_t n_sums = sums ? SP_BF16_TILE * p->part.w->n_blocks : 0;
    void *space = NULL;
    const spar_status status = sp_tuned_scratch(be, SP_SCRATCH_B,
                                                (size_t)n_sums * sizeof(float) +
                                                    (size_t)(SP_BF16_TILE * in) * sizeof(uint16_t),
                                                1, &space, err);
    if (status != SPAR_OK) {
        return status;
    }
    float *to = space;
    copy_last(&p->part, (uint16_t *)(void *)(to + n_sums));
    if (sums) {
        memset(to, 0, (size_t)n_sums * sizeof *to);
        p->simd->block_sums(p->part.x, p->part.rows, in, to);
        p->part.sums = to;
    }
    return SPAR_OK;
}

spar_status sp_quant_linear_bf16(sp_backend *be, const sp_weight *w, const float *bias,
                                 const uint16_t *x, int64_t T, float *y, bool accumulate,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    void *spaces = NULL;
    const sp_simd *simd = simd_of(be);
    bf16_product p = {
        .part = {.w = w->blocks, .rows = T, .x = x, .bias = bias, .y = y, .accumulate = accumulate},
        .simd = simd,
        .run = sp_quant_scales_after(be, w->blocks, T) ? simd->scaled_product_bf16
                                                       : simd->blocks_product_bf16,
        .space = w->in * SP_PANEL * SP_BF16_PANELS};
    if (T == 0) {
        return SPAR_OK;
    }
    SPAR_TRY(bf16_inputs(be, &p, err));
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_WORKERS,
                              (size_t)sp_pool_threads(be->pool) * (size_t)p.space, sizeof(uint16_t),
                              &spaces, err));
    p.spaces = spaces;
    sp_pool_run(be->pool, (int)sp_ceil_div(w->blocks->panels, SP_BF16_PANELS), bf16_task, &p);
done:
    return status;
}
