#include <string.h>

#include "backend/cpu/fused_head.h"
#include "backend/cpu/sizes.h"

static sp_dnn *dnn_of(const sp_head *x) {
    return ((const sp_tuned *)x->be->state)->dnn;
}

static const char *h_rows(const sp_head *x, const sp_head_cell *at) {
    return at->last_rows ? x->last_h
                         : x->operand_h + (size_t)(at->r0 * x->w.in) * x->be->operand_size;
}

static char *operands(const sp_head *x, const sp_head_cell *at) {
    return x->operands + (size_t)at->worker * SP_HEAD_ROWS * SP_HEAD_CHUNK * x->be->operand_size;
}

static void run(sp_head *x, const sp_dnn_kernel *kernel, const sp_head_cell *at, const void *a,
                const void *b, float *c, bool stream) {
    const int code = sp_packed_run(x->be, kernel, at->worker, a, b, c, stream);
    if (code != 0) {
        atomic_store(&x->status, code);
    }
}

static int64_t tile_of(const sp_head *x, const sp_head_cell *at) {
    return at->v0 / x->chunk;
}

/* The packed weights of the cell's chunk. */
static const char *chunk_tile(sp_head *x, const sp_head_cell *at, int side) {
    const sp_packed_side *w = &x->packed->sides[side];
    const int64_t tile = tile_of(x, at);
    if (w->data != NULL) {
        return w->data + (size_t)tile * w->tile_bytes;
    }
    char *to = x->own_tiles + (size_t)at->worker * x->own_bytes;
    int64_t *held = &x->own_at[at->worker * SP_SIDES + side];
    to += side == SP_SIDE_BACKWARD ? x->packed->sides[SP_SIDE_FORWARD].tile_bytes : 0;
    if (*held != tile) {
        const int code = sp_packing_tile(&x->packing, side, tile, at->worker, to);
        if (code != 0) {
            atomic_store(&x->status, code);
        }
        *held = tile;
    }
    return to;
}

static void logits(sp_head *x, const sp_head_cell *at) {
    run(x, x->make_logits[at->last_rows][at->last_chunk], at, h_rows(x, at),
        chunk_tile(x, at, SP_SIDE_FORWARD), at->logits, false);
}

/* The gradient of the logits as a dense operand, padding rows zero. */
static void add_dh(sp_head *x, const sp_head_cell *at, float *partial) {
    const int64_t rows = sp_packed_rows(at->rows);
    char *grad = operands(x, at);
    memset(at->logits + at->rows * at->stride, 0,
           (size_t)((rows - at->rows) * at->stride) * sizeof(float));
    if (x->be->compute == SP_COMPUTE_BF16) {
        x->simd->to_bf16(at->logits, rows * at->n, (uint16_t *)(void *)grad);
    } else {
        memcpy(grad, at->logits, (size_t)(rows * at->n) * sizeof(float));
    }
    run(x, x->make_dh[at->last_rows][at->last_chunk], at, grad, chunk_tile(x, at, SP_SIDE_BACKWARD),
        partial + at->r0 * x->w.in, false);
}

/* B of the product for dw that begins at row `first`. */
static sp_packed_b b_at(const sp_head *x, int64_t first) {
    const int64_t rows = sp_min64(SP_HEAD_DEPTH, x->R - first);
    return (sp_packed_b){.in = x->w.in,
                         .depth = sp_round_up(rows, SP_HEAD_ROWS) + SP_HEAD_OFF,
                         .pairs = x->pairs,
                         .data = x->h_packed + (size_t)(first / SP_HEAD_DEPTH) * x->h_packed_bytes};
}

/* Rows from r0 on that a block of a product fills: those behind its last ones with zeros. */
static int64_t end_at(const sp_head *x, int64_t r0, int64_t rows, const sp_packed_b *b) {
    const bool last = r0 + rows == x->R || (r0 + rows) % SP_HEAD_DEPTH == 0;
    return last ? b->depth - r0 % SP_HEAD_DEPTH : rows;
}

/* The operand of add_dh by columns, until SP_HEAD_DEPTH rows are there for one product. */
static void add_dw(sp_head *x, const sp_head_cell *at) {
    const size_t size = x->be->operand_size;
    const int64_t first = at->r0 / SP_HEAD_DEPTH * SP_HEAD_DEPTH;
    const sp_packed_b b = b_at(x, first);
    const int64_t end = end_at(x, at->r0, at->rows, &b);
    char *columns =
        x->columns + (size_t)at->worker * SP_HEAD_CHUNK * (SP_HEAD_DEPTH + SP_HEAD_OFF) * size;
    sp_packed_columns(x->be, operands(x, at), at->rows, at->n, end, b.depth,
                      columns + (size_t)(at->r0 - first) * size);
    if (at->r0 - first + end == b.depth) {
        const bool last = first + SP_HEAD_DEPTH >= x->R, adds = x->accumulate || first > 0;
        run(x, x->make_dw[last][at->last_chunk][adds], at, columns, b.data,
            x->dw + at->v0 * x->w.in, true);
    }
}

static spar_status dw_kernels(sp_head *x, spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t last_first = (x->R - 1) / SP_HEAD_DEPTH * SP_HEAD_DEPTH;
    for (int i = 0; i < 8; i++) {
        const int r = i & 1, c = i >> 1 & 1, adds = i >> 2;
        const int64_t n = c ? x->w.out - (x->chunks - 1) * x->chunk : x->chunk;
        sp_packed_b b = {.in = x->w.in, .depth = SP_HEAD_DEPTH + SP_HEAD_OFF};
        b.depth = r ? b_at(x, last_first).depth : b.depth;
        SPAR_TRY(sp_packed_dw_kernel(x->be, n, &b, adds, &x->make_dw[r][c][adds], err));
        x->pairs = b.pairs;
    }
done:
    return status;
}

/* SP_HEAD_ROWS rows of h into h_packed. */
static void pack_h(void *context, int task, int worker) {
    (void)worker;
    const sp_head *x = context;
    const int64_t r0 = (int64_t)task * SP_HEAD_ROWS, rows = sp_min64(SP_HEAD_ROWS, x->R - r0);
    const int64_t first = r0 / SP_HEAD_DEPTH * SP_HEAD_DEPTH;
    const sp_packed_b b = b_at(x, first);
    sp_packed_put_b(x->be, &b, x->operand_h + (size_t)(r0 * x->w.in) * x->be->operand_size,
                    r0 - first, rows, end_at(x, r0, rows, &b));
}

static spar_status dw_init(sp_head *x, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t size = x->be->operand_size;
    const sp_packed_b largest = {.in = x->w.in, .depth = SP_HEAD_DEPTH + SP_HEAD_OFF};
    void *columns = NULL, *packed = NULL;
    SPAR_TRY(dw_kernels(x, err));
    x->h_packed_bytes = sp_packed_b_elements(&largest) * size;
    SPAR_TRY(sp_tuned_scratch(x->be, SP_SCRATCH_DW, (size_t)sp_pool_threads(x->be->pool),
                              SP_HEAD_CHUNK * (SP_HEAD_DEPTH + SP_HEAD_OFF) * size, &columns, err));
    SPAR_TRY(sp_tuned_scratch(x->be, SP_SCRATCH_DW + 1, (size_t)sp_ceil_div(x->R, SP_HEAD_DEPTH),
                              x->h_packed_bytes, &packed, err));
    x->columns = columns;
    x->h_packed = packed;
    sp_pool_run(x->be->pool, (int)x->row_blocks, pack_h, x);
done:
    return status;
}

static spar_status get_kernels(sp_head *x, bool backward, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dnn *dnn = dnn_of(x);
    const sp_dnn_type type = sp_packed_type(x->be);
    const int64_t H = x->w.in, last = x->R - (x->row_blocks - 1) * SP_HEAD_ROWS;
    for (int i = 0; i < 4; i++) {
        const int r = i & 1, c = i >> 1;
        const int64_t rows = sp_packed_rows(r ? last : SP_HEAD_ROWS);
        const int64_t n = c ? x->w.out - (x->chunks - 1) * x->chunk : x->chunk;
        const sp_dnn_shape make_logits = {type, rows, n, H, true, false};
        const sp_dnn_shape make_dh = {type, rows, H, n, true, true};
        SPAR_TRY(sp_dnn_get(dnn, &make_logits, &x->make_logits[r][c], err));
        if (backward) {
            SPAR_TRY(sp_dnn_get(dnn, &make_dh, &x->make_dh[r][c], err));
        }
    }
done:
    return status;
}

static spar_status pad_last_rows(sp_head *x, spar_error *err) {
    const size_t row = (size_t)x->w.in * x->be->operand_size;
    void *memory = NULL;
    const spar_status status =
        sp_tuned_scratch(x->be, SP_SCRATCH_A, SP_HEAD_ROWS, row, &memory, err);
    if (status == SPAR_OK) {
        const int64_t r0 = (x->row_blocks - 1) * SP_HEAD_ROWS, rows = x->R - r0;
        memset(memory, 0, SP_HEAD_ROWS * row);
        memcpy(memory, x->operand_h + (size_t)r0 * row, (size_t)rows * row);
        x->last_h = memory;
    }
    return status;
}

/* Room for a tile of each side a worker, and for the floats that they are made from. */
static spar_status make_tiles(sp_head *x, int what, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL;
    const size_t workers = (size_t)sp_pool_threads(x->be->pool);
    SPAR_TRY(sp_packing_init(&x->packing, x->be, &x->w, &x->own, what, err));
    const size_t floats = (size_t)x->packing.tile_floats * sizeof(float);
    for (int side = 0; side < SP_SIDES; side++) {
        x->own_bytes += x->own.sides[side].tile_bytes;
    }
    SPAR_TRY(sp_tuned_scratch(x->be, sp_chain_frozen_slot(x->be), workers,
                              x->own_bytes + floats + SP_SIDES * sizeof *x->own_at, &memory, err));
    x->packed = &x->own;
    x->own_tiles = memory;
    x->packing.tiles = (float *)(void *)(x->own_tiles + workers * x->own_bytes);
    x->own_at = (int64_t *)(void *)((char *)x->packing.tiles + workers * floats);
    for (size_t i = 0; i < workers * SP_SIDES; i++) {
        x->own_at[i] = -1;
    }
done:
    return status;
}

spar_status sp_packed_head_init(sp_head *x, const void *h, bool backward, spar_error *err) {
    static const sp_head_products products = {logits, add_dh, add_dw};
    spar_status status = SPAR_OK;
    const int what = SP_PREPARE_HEAD | SP_PREPARE_FORWARD | (backward ? SP_PREPARE_BACKWARD : 0);
    void *memory = NULL;
    if (sp_packed_is_made(&x->w, what)) {
        SPAR_TRY(make_tiles(x, what, err));
    } else {
        SPAR_TRY(sp_packed_get(x->be, &x->w, what, &x->own, &x->packed, err));
    }
    x->products = &products;
    x->chunk = x->packed->sides[SP_SIDE_FORWARD].tile;
    x->chunks = x->packed->sides[SP_SIDE_FORWARD].tiles;
    x->partial_rows = sp_packed_rows(x->R);
    x->operand_h = h;
    sp_dnn_trim(dnn_of(x));
    SPAR_TRY(get_kernels(x, backward, err));
    SPAR_TRY(pad_last_rows(x, err));
    SPAR_TRY(sp_tuned_scratch(x->be, SP_SCRATCH_B, (size_t)sp_pool_threads(x->be->pool),
                              SP_HEAD_ROWS * SP_HEAD_CHUNK * x->be->operand_size, &memory, err));
    x->operands = memory;
    if (backward && x->dw != NULL) {
        SPAR_TRY(dw_init(x, err));
    }
done:
    return status;
}
