#include <string.h>

#include "backend/cpu/fused_head.h"

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
                const void *b, float *c) {
    sp_onednn_single();
    const int code = sp_dnn_run(dnn_of(x), kernel, at->worker, a, b, c);
    if (code != 0) {
        atomic_store(&x->status, code);
    }
}

static int64_t tile_of(const sp_head *x, const sp_head_cell *at) {
    return at->v0 / x->chunk;
}

static void logits(sp_head *x, const sp_head_cell *at) {
    const sp_packed_side *w = &x->packed->sides[SP_SIDE_FORWARD];
    run(x, x->make_logits[at->last_rows][at->last_chunk], at, h_rows(x, at),
        w->data + (size_t)tile_of(x, at) * w->tile_bytes, at->logits);
}

/* The gradient of the logits as a dense operand, padding rows zero. */
static void add_dh(sp_head *x, const sp_head_cell *at, float *partial) {
    const sp_packed_side *w = &x->packed->sides[SP_SIDE_BACKWARD];
    const int64_t rows = sp_packed_rows(at->rows);
    char *grad = operands(x, at);
    memset(at->logits + at->rows * at->stride, 0,
           (size_t)((rows - at->rows) * at->stride) * sizeof(float));
    if (x->be->compute == SP_COMPUTE_BF16) {
        x->simd->to_bf16(at->logits, rows * at->n, (uint16_t *)(void *)grad);
    } else {
        memcpy(grad, at->logits, (size_t)(rows * at->n) * sizeof(float));
    }
    run(x, x->make_dh[at->last_rows][at->last_chunk], at, grad,
        w->data + (size_t)tile_of(x, at) * w->tile_bytes, partial + at->r0 * x->w.in);
}

/* Rows of the product for dw that begins at row first, padded. */
static int64_t depth_at(const sp_head *x, int64_t first) {
    const int64_t rows = x->R - first < SP_HEAD_DEPTH ? x->R - first : SP_HEAD_DEPTH;
    return (rows + SP_HEAD_ROWS - 1) / SP_HEAD_ROWS * SP_HEAD_ROWS + SP_HEAD_OFF;
}

/* The operand of add_dh by columns, until SP_HEAD_DEPTH rows are there for one product. */
static void add_dw(sp_head *x, const sp_head_cell *at) {
    const size_t size = x->be->operand_size;
    const int64_t first = at->r0 / SP_HEAD_DEPTH * SP_HEAD_DEPTH, depth = depth_at(x, first);
    char *columns =
        x->columns + (size_t)at->worker * SP_HEAD_CHUNK * (SP_HEAD_DEPTH + SP_HEAD_OFF) * size;
    char *to = columns + (size_t)(at->r0 - first) * size;
    const void *grad = operands(x, at);
    if (size == sizeof(uint16_t)) {
        x->simd->transpose_bf16(grad, at->n, at->rows, at->n, (uint16_t *)(void *)to, depth);
    } else {
        x->simd->transpose(grad, at->n, (int)at->rows, (int)at->n, 1.0F, (float *)(void *)to,
                           depth);
    }
    if (at->last_rows || (at->r0 + SP_HEAD_ROWS) % SP_HEAD_DEPTH == 0) {
        const int64_t there = at->r0 + at->rows - first;
        for (int64_t v = 0; v < at->n; v++) {
            memset(columns + (size_t)(v * depth + there) * size, 0, (size_t)(depth - there) * size);
        }
        const bool last = first + SP_HEAD_DEPTH >= x->R;
        run(x, x->make_dw[last][at->last_chunk], at, columns,
            x->h_packed + (size_t)(first / SP_HEAD_DEPTH) * x->h_packed_bytes,
            x->dw + at->v0 * x->w.in);
    }
}

static spar_status dw_kernels(sp_head *x, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dnn *dnn = dnn_of(x);
    const int64_t last_first = (x->R - 1) / SP_HEAD_DEPTH * SP_HEAD_DEPTH;
    for (int i = 0; i < 4; i++) {
        const int r = i & 1, c = i >> 1;
        sp_dnn_shape shape = {.type = sp_packed_type(x->be),
                              .M = c ? x->w.out - (x->chunks - 1) * x->chunk : x->chunk,
                              .N = x->w.in,
                              .K = r ? depth_at(x, last_first) : SP_HEAD_DEPTH + SP_HEAD_OFF,
                              .packed = x->be->compute == SP_COMPUTE_BF16,
                              .accumulate = true};
        SPAR_TRY(sp_dnn_get(dnn, &shape, &x->make_dw[r][c], err));
        x->pairs = sp_dnn_has_pairs(x->make_dw[r][c]);
        if (shape.packed && !x->pairs) {
            shape.packed = false;
            SPAR_TRY(sp_dnn_get(dnn, &shape, &x->make_dw[r][c], err));
        }
    }
done:
    return status;
}

/* SP_HEAD_ROWS rows of h into h_packed, zeros behind the last. */
static void pack_h(void *context, int task, int worker) {
    (void)worker;
    const sp_head *x = context;
    const size_t size = x->be->operand_size, row = (size_t)x->w.in * size;
    const int64_t r0 = (int64_t)task * SP_HEAD_ROWS;
    const int64_t first = r0 / SP_HEAD_DEPTH * SP_HEAD_DEPTH, depth = depth_at(x, first);
    const int64_t left = x->R - r0, rows = left < SP_HEAD_ROWS ? left : SP_HEAD_ROWS;
    char *to = x->h_packed + (size_t)(first / SP_HEAD_DEPTH) * x->h_packed_bytes;
    const char *from = x->operand_h + (size_t)r0 * row;
    /* The last block of a product also clears the padding behind it. */
    const bool ends = r0 + SP_HEAD_ROWS - first + SP_HEAD_OFF == depth;
    const int64_t end = SP_HEAD_ROWS + (ends ? SP_HEAD_OFF : 0);
    if (!x->pairs) {
        memcpy(to + (size_t)(r0 - first) * row, from, (size_t)rows * row);
        memset(to + (size_t)(r0 - first + rows) * row, 0, (size_t)(end - rows) * row);
        return;
    }
    for (int64_t k = 0; k < end; k += SP_LAYOUT_K) {
        for (int64_t n = 0; n < x->w.in; n += SP_LAYOUT_N) {
            const int64_t block =
                n / SP_LAYOUT_N * (depth / SP_LAYOUT_K) + (r0 - first + k) / SP_LAYOUT_K;
            const int64_t there = k < rows ? rows - k : 0, across = x->w.in - n;
            x->simd->pack_rows_bf16((const uint16_t *)(const void *)from + k * x->w.in + n, x->w.in,
                                    (int)(there < SP_LAYOUT_K ? there : SP_LAYOUT_K),
                                    (int)(across < SP_LAYOUT_N ? across : SP_LAYOUT_N),
                                    (uint16_t *)(void *)to + block * SP_LAYOUT_K * SP_LAYOUT_N);
        }
    }
}

static spar_status dw_init(sp_head *x, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t size = x->be->operand_size;
    const int64_t in = (x->w.in + SP_LAYOUT_N - 1) / SP_LAYOUT_N * SP_LAYOUT_N;
    void *columns = NULL, *packed = NULL;
    SPAR_TRY(dw_kernels(x, err));
    x->h_packed_bytes = (size_t)(in * (SP_HEAD_DEPTH + SP_HEAD_OFF)) * size;
    SPAR_TRY(sp_tuned_scratch(x->be, SP_SCRATCH_DW, (size_t)sp_pool_threads(x->be->pool),
                              SP_HEAD_CHUNK * (SP_HEAD_DEPTH + SP_HEAD_OFF) * size, &columns, err));
    SPAR_TRY(sp_tuned_scratch(x->be, SP_SCRATCH_DW + 1,
                              (size_t)((x->R + SP_HEAD_DEPTH - 1) / SP_HEAD_DEPTH),
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

spar_status sp_packed_head_init(sp_head *x, const void *h, bool backward, spar_error *err) {
    static const sp_head_products products = {logits, add_dh, add_dw};
    spar_status status = SPAR_OK;
    const int what = SP_PREPARE_HEAD | SP_PREPARE_FORWARD | (backward ? SP_PREPARE_BACKWARD : 0);
    void *memory = NULL;
    SPAR_TRY(sp_packed_get(x->be, &x->w, what, &x->own, &x->packed, err));
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
