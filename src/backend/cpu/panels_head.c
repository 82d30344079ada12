/* The vocabulary head's products by our own kernels. A worker lays the chunk of W that it is in out
 * both ways and keeps it there; h is laid out once for all. */
#include "backend/cpu/panels.h"
#include "backend/cpu/sizes.h"

/* Where the parts of a worker's space begin, in floats. */
typedef struct parts {
    int64_t forward, backward, gradient, columns, end;
} parts;

static parts parts_of(const sp_head *x, bool backward) {
    const int64_t H = x->w.in, chunk = x->chunk, wide = sp_round_up(H, x->simd->panel);
    parts p = {.backward = H * sp_round_up(chunk, x->simd->panel)};
    p.gradient = p.backward + (backward ? chunk * wide : 0);
    p.columns = p.gradient + (backward ? SP_HEAD_ROWS * chunk : 0);
    p.end = p.columns + (backward && x->dw != NULL ? chunk * SP_HEAD_DEPTH : 0);
    return p;
}

static float *space_of(const sp_head *x, int worker) {
    return x->space + worker * x->space_floats;
}

/* The chunk's W^T [H,n] and W [n,H] in panels. */
static void lay_out_chunk(sp_head *x, const sp_head_cell *at, const parts *p) {
    float *space = space_of(x, at->worker);
    if (x->held[at->worker] == at->v0) {
        return;
    }
    const float *values = NULL;
    bool by_rows = false;
    const int64_t row = sp_head_chunk_weights(x, at, &values, &by_rows);
    const int64_t v_step = by_rows ? row : 1, h_step = by_rows ? 1 : row;
    const sp_panels_b forward = {values, x->w.in, at->n, h_step, v_step};
    const sp_panels_b backward = {values, at->n, x->w.in, v_step, h_step};
    sp_panels_put(x->simd, &forward, space + p->forward);
    if (p->gradient > p->backward) {
        sp_panels_put(x->simd, &backward, space + p->backward);
    }
    x->held[at->worker] = at->v0;
}

static void logits(sp_head *x, const sp_head_cell *at) {
    const int64_t H = x->w.in;
    const parts p = parts_of(x, x->dh != NULL);
    lay_out_chunk(x, at, &p);
    const sp_panels_product product = {.M = at->rows,
                                       .N = at->n,
                                       .K = H,
                                       .a = x->h_tiles + at->r0 * H,
                                       .b = space_of(x, at->worker) + p.forward,
                                       .b_panel = H * x->simd->panel,
                                       .c = at->logits,
                                       .c_row = at->stride};
    x->simd->panels_product(&product);
}

static void add_dh(sp_head *x, const sp_head_cell *at, float *partial) {
    const int64_t H = x->w.in;
    const parts p = parts_of(x, true);
    float *space = space_of(x, at->worker);
    const sp_tiling a = {.x = at->logits,
                         .x_row = at->stride,
                         .M = at->rows,
                         .K = at->n,
                         .k_rows = at->n,
                         .to = space + p.gradient};
    const sp_panels_product product = {.M = at->rows,
                                       .N = H,
                                       .K = at->n,
                                       .a = a.to,
                                       .b = space + p.backward,
                                       .b_panel = at->n * x->simd->panel,
                                       .c = partial + at->r0 * H,
                                       .c_row = H,
                                       .accumulate = true};
    x->simd->tiles_rows(&a);
    x->simd->panels_product(&product);
}

/* Rows from `first` on that meet in one product for dw. */
static int64_t depth_at(const sp_head *x, int64_t first) {
    return sp_min64(SP_HEAD_DEPTH, x->R - first);
}

/* The logits' gradients by columns, until the rows of a product are there. */
static void add_dw(sp_head *x, const sp_head_cell *at) {
    const int64_t H = x->w.in, first = at->r0 / SP_HEAD_DEPTH * SP_HEAD_DEPTH;
    const parts p = parts_of(x, true);
    const sp_tiling a = {.x = at->logits,
                         .x_row = at->stride,
                         .M = at->n,
                         .K = depth_at(x, first),
                         .k0 = at->r0 - first,
                         .k_rows = at->rows,
                         .to = space_of(x, at->worker) + p.columns};
    const sp_panels_product product = {.M = at->n,
                                       .N = H,
                                       .K = a.K,
                                       .a = a.to,
                                       .b = x->h_panels + first * sp_round_up(H, x->simd->panel),
                                       .b_panel = a.K * x->simd->panel,
                                       .c = x->dw + at->v0 * H,
                                       .c_row = H,
                                       .accumulate = x->accumulate || first > 0};
    x->simd->tiles_columns(&a);
    if (a.k0 + a.k_rows == a.K) {
        x->simd->panels_product(&product);
    }
}

/* A block of h's rows as tiles. */
static void tiles_task(void *context, int task, int worker) {
    (void)worker;
    const sp_head *x = context;
    const int64_t H = x->w.in, r0 = (int64_t)task * SP_HEAD_ROWS;
    const sp_tiling a = {.x = x->h + r0 * H,
                         .x_row = H,
                         .M = sp_min64(SP_HEAD_ROWS, x->R - r0),
                         .K = H,
                         .k_rows = H,
                         .to = x->h_tiles + r0 * H};
    x->simd->tiles_rows(&a);
}

/* A product's rows of h as panels. */
static void panels_task(void *context, int task, int worker) {
    (void)worker;
    const sp_head *x = context;
    const int64_t H = x->w.in, first = (int64_t)task * SP_HEAD_DEPTH;
    const sp_panels_b b = {x->h + first * H, depth_at(x, first), H, H, 1};
    sp_panels_put(x->simd, &b, x->h_panels + first * sp_round_up(H, x->simd->panel));
}

/* Room for each worker, and which chunk it holds. */
static spar_status worker_space(sp_head *x, bool backward, spar_error *err) {
    void *memory = NULL;
    const size_t workers = (size_t)sp_pool_threads(x->be->pool);
    x->space_floats = sp_round_up(parts_of(x, backward).end, SP_HEAD_ROWS);
    const size_t bytes = (size_t)x->space_floats * sizeof(float);
    const spar_status status =
        sp_tuned_scratch(x->be, SP_SCRATCH_DW, workers, bytes + sizeof *x->held, &memory, err);
    if (status == SPAR_OK) {
        x->space = memory;
        x->held = (int64_t *)(void *)((char *)memory + workers * bytes);
        for (size_t i = 0; i < workers; i++) {
            x->held[i] = -1;
        }
    }
    return status;
}

spar_status sp_panels_head_init(sp_head *x, bool backward, spar_error *err) {
    static const sp_head_products products = {logits, add_dh, add_dw};
    spar_status status = SPAR_OK;
    const size_t R = (size_t)x->R;
    void *memory = NULL;
    x->products = &products;
    SPAR_TRY(worker_space(x, backward, err));
    SPAR_TRY(sp_tuned_scratch(x->be, SP_SCRATCH_DW + 1, R * (size_t)x->w.in, sizeof(float), &memory,
                              err));
    x->h_tiles = memory;
    sp_pool_run(x->be->pool, (int)x->row_blocks, tiles_task, x);
    if (backward && x->dw != NULL) {
        SPAR_TRY(sp_tuned_scratch(x->be, SP_SCRATCH_DW + 2,
                                  sp_panels_floats(x->simd, x->R, x->w.in), sizeof(float), &memory,
                                  err));
        x->h_panels = memory;
        sp_pool_run(x->be->pool, (int)sp_ceil_div(x->R, SP_HEAD_DEPTH), panels_task, x);
    }
done:
    return status;
}
