#include "backend/cpu/packed.h"

#include <stdlib.h>
#include <string.h>

#include "backend/cpu/quant.h"
#include "base/mem.h"

enum {
    TILE_ALIGN = 32,
    DW_TILE = 256,  /* outputs of a product for dw */
    DW_DEPTH = 512, /* tokens of a product for dw; the last ones are padded to DW_PAD */
    DW_PAD = 64
};

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int64_t round_up(int64_t a, int64_t b) {
    return ceil_div(a, b) * b;
}

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* n in pieces of at most `most`, about equal. */
static int64_t even_tile(int64_t n, int64_t most) {
    return min64(most, round_up(ceil_div(n, ceil_div(n, most)), TILE_ALIGN));
}

int64_t sp_packed_tile(int64_t out) {
    return even_tile(out, SP_PACKED_TILE);
}

int64_t sp_packed_rows(int64_t rows) {
    return rows < SP_PACKED_PAD ? rows : round_up(rows, SP_PACKED_PAD);
}

sp_dnn_type sp_packed_type(const sp_backend *be) {
    return be->compute == SP_COMPUTE_BF16 ? SP_DNN_BF16 : SP_DNN_F32;
}

static sp_dnn *dnn_of(const sp_backend *be) {
    return ((const sp_tuned *)be->state)->dnn;
}

/* ---- packing ---- */

typedef struct packing {
    const sp_backend *be;
    const sp_dnn *dnn;
    const sp_weight *w;
    sp_packed *packed;
    const sp_dnn_kernel *forward[2], *backward[2]; /* of a full tile, of the last */
    int what;
    float *tiles; /* [workers, in, tile]: of blocks; else NULL */
    atomic_int status;
} packing;

/* A tile of W as floats: element (output, input) is at output out_step + input in_step. */
static const float *tile_floats(const packing *p, int64_t tile, int64_t n, int worker,
                                int64_t *out_step, int64_t *in_step) {
    const int64_t in = p->w->in, out0 = tile * p->packed->tile;
    if (p->w->data != NULL) {
        *out_step = in;
        *in_step = 1;
        return p->w->data + out0 * in;
    }
    float *floats = p->tiles + worker * in * sp_quant_stride(p->packed->tile);
    sp_quant_tile(p->be, p->w->blocks, out0, n, 0, in, floats);
    *out_step = 1;
    *in_step = sp_quant_stride(n);
    return floats;
}

/* Outputs of the last tile. */
static int64_t last_tile(const sp_packed *p, int64_t out) {
    return out - (p->tiles - 1) * p->tile;
}

static void pack_task(void *context, int task, int worker) {
    packing *p = context;
    const sp_packed *to = p->packed;
    const int last = task == to->tiles - 1;
    const int64_t n = last ? last_tile(to, p->w->out) : to->tile;
    int64_t out_step, in_step;
    const float *from = tile_floats(p, task, n, worker, &out_step, &in_step);
    int code = 0;
    sp_onednn_single();
    if (p->what & SP_PREPARE_FORWARD) {
        code = sp_dnn_pack(p->dnn, p->forward[last], worker, from, in_step, out_step,
                           to->forward + (size_t)task * to->forward_bytes);
    }
    if (code == 0 && (p->what & SP_PREPARE_BACKWARD)) {
        code = sp_dnn_pack(p->dnn, p->backward[last], worker, from, out_step, in_step,
                           to->backward + (size_t)task * to->backward_bytes);
    }
    if (code != 0) {
        atomic_store(&p->status, code);
    }
}

static spar_status get_packing_kernels(sp_backend *be, packing *p, spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t in = p->w->in;
    for (int last = 0; last < 2; last++) {
        const int64_t n = last ? last_tile(p->packed, p->w->out) : p->packed->tile;
        const sp_dnn_shape forward = {sp_packed_type(be), SP_PACKED_ROWS, n, in, true, false};
        const sp_dnn_shape backward = {sp_packed_type(be), SP_PACKED_ROWS, in, n, true, false};
        SPAR_TRY(sp_dnn_get(dnn_of(be), &forward, &p->forward[last], err));
        SPAR_TRY(sp_dnn_get(dnn_of(be), &backward, &p->backward[last], err));
    }
done:
    return status;
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static void measure(packing *p) {
    sp_packed *to = p->packed;
    to->forward_bytes =
        larger(sp_dnn_packed_bytes(p->forward[0]), sp_dnn_packed_bytes(p->forward[1]));
    to->backward_bytes =
        larger(sp_dnn_packed_bytes(p->backward[0]), sp_dnn_packed_bytes(p->backward[1]));
}

static spar_status make_room(packing *p, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_packed *to = p->packed;
    void *memory = NULL;
    if ((p->what & SP_PREPARE_FORWARD) && to->forward == NULL) {
        SPAR_TRY(sp_mem_aligned(&memory, (size_t)to->tiles, to->forward_bytes, err));
        to->forward = memory;
    }
    if ((p->what & SP_PREPARE_BACKWARD) && to->backward == NULL) {
        SPAR_TRY(sp_mem_aligned(&memory, (size_t)to->tiles, to->backward_bytes, err));
        to->backward = memory;
    }
done:
    return status;
}

/* Cut the weight into tiles and find the kernels that they are packed for. */
static spar_status packing_init(packing *p, sp_backend *be, const sp_weight *w, sp_packed *packed,
                                int what, spar_error *err) {
    *p = (packing){.be = be, .dnn = dnn_of(be), .w = w, .packed = packed, .what = what};
    packed->tile = sp_packed_tile(w->out);
    packed->tiles = ceil_div(w->out, packed->tile);
    atomic_init(&p->status, 0);
    sp_dnn_trim(dnn_of(be));
    const spar_status status = get_packing_kernels(be, p, err);
    if (status == SPAR_OK) {
        measure(p);
    }
    return status;
}

static spar_status pack(sp_backend *be, packing *p, spar_error *err) {
    sp_pool_run(be->pool, (int)p->packed->tiles, pack_task, p);
    return sp_onednn_check(atomic_load(&p->status), "packing a weight", err);
}

spar_status sp_packed_prepare(sp_backend *be, sp_weight *w, int what, spar_error *err) {
    spar_status status = SPAR_OK;
    packing p;
    if (w->packed == NULL) {
        SPAR_TRY(sp_mem_calloc(&w->packed, 1, sizeof(sp_packed), err));
    }
    SPAR_TRY(packing_init(&p, be, w, w->packed, what, err));
    SPAR_TRY(make_room(&p, err));
    SPAR_TRY(pack(be, &p, err));
done:
    return status;
}

/* Blocks are packed for one product at a time, into the backend's scratch. */
static spar_status pack_blocks(sp_backend *be, const sp_weight *w, int what, sp_packed *space,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    packing p;
    void *memory = NULL, *tiles = NULL;
    *space = (sp_packed){0};
    SPAR_TRY(packing_init(&p, be, w, space, what, err));
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_FROZEN, (size_t)space->tiles,
                              space->forward_bytes + space->backward_bytes, &memory, err));
    space->forward = what & SP_PREPARE_FORWARD ? memory : NULL;
    space->backward = what & SP_PREPARE_BACKWARD
                          ? (char *)memory + (size_t)space->tiles * space->forward_bytes
                          : NULL;
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(be->pool),
                              (size_t)(w->in * sp_quant_stride(space->tile)) * sizeof(float),
                              &tiles, err));
    p.tiles = tiles;
    SPAR_TRY(pack(be, &p, err));
done:
    return status;
}

spar_status sp_packed_get(sp_backend *be, const sp_weight *w, int what, sp_packed *space,
                          const sp_packed **out, spar_error *err) {
    const sp_packed *p = w->packed;
    if (w->data == NULL) {
        *out = space;
        return pack_blocks(be, w, what, space, err);
    }
    if ((what & SP_PREPARE_FORWARD) && (p == NULL || p->forward == NULL)) {
        return spar_fail(err, SPAR_INTERNAL, "a weight was not prepared for forward");
    }
    if ((what & SP_PREPARE_BACKWARD) && (p == NULL || p->backward == NULL)) {
        return spar_fail(err, SPAR_INTERNAL, "a weight was not prepared for backward");
    }
    *out = p;
    return SPAR_OK;
}

void sp_packed_release(sp_weight *w) {
    sp_packed *p = w->packed;
    if (p != NULL) {
        free(p->forward);
        free(p->backward);
        free(p);
    }
    w->packed = NULL;
}

/* ---- y = x W^T, and dx = dy W ---- */

typedef struct product {
    sp_backend *be;
    const sp_packed *w;
    sp_packed own; /* of blocks: what w points to */
    int64_t out, in, T;
    size_t size; /* of an operand */
    const char *x;
    const float *bias;
    float *y;
    bool accumulate;
    /* By whether the rows are the last ones, and the tile is the last one; for dx, again by whether
     * the product accumulates. */
    const sp_dnn_kernel *kernels[2][2][2];
    char *space; /* of all workers */
    size_t operand_bytes, space_bytes;
    atomic_int status;
} product;

static spar_status product_init(product *p, sp_backend *be, const sp_weight *w, int what,
                                spar_error *err) {
    p->be = be;
    p->out = w->out;
    p->in = w->in;
    p->size = be->operand_size;
    atomic_init(&p->status, 0);
    return sp_packed_get(be, w, what, &p->own, &p->w, err);
}

/* A worker's space: operands of one product, then a result in f32. */
static spar_status product_space(product *p, int64_t operands, int64_t results, spar_error *err) {
    void *space = NULL;
    p->operand_bytes = (size_t)round_up(operands * (int64_t)p->size, 64);
    p->space_bytes = p->operand_bytes + (size_t)round_up(results * (int64_t)sizeof(float), 64);
    const spar_status status =
        sp_tuned_scratch(p->be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(p->be->pool),
                         p->space_bytes, &space, err);
    p->space = space;
    return status;
}

static int64_t row_blocks(const product *p) {
    return ceil_div(p->T, SP_PACKED_ROWS);
}

static int64_t rows_at(const product *p, int64_t block) {
    return min64(SP_PACKED_ROWS, p->T - block * SP_PACKED_ROWS);
}

static int64_t tile_at(const product *p, int64_t tile) {
    return min64(p->w->tile, p->out - tile * p->w->tile);
}

/* Rows of x [., x_row], n elements each, as a dense [padded, n] array. */
static void copy_rows(const product *p, const char *x, int64_t x_row, int64_t rows, int64_t n,
                      char *to) {
    const size_t width = (size_t)n * p->size;
    for (int64_t r = 0; r < rows; r++) {
        memcpy(to + (size_t)r * width, x + (size_t)(r * x_row) * p->size, width);
    }
    memset(to + (size_t)rows * width, 0, (size_t)(sp_packed_rows(rows) - rows) * width);
}

static void run_kernel(product *p, const sp_dnn_kernel *kernel, int worker, const void *a,
                       const void *b, float *c) {
    const int code = sp_dnn_run(dnn_of(p->be), kernel, worker, a, b, c);
    if (code != 0) {
        atomic_store(&p->status, code);
    }
}

/* y tile (= or +=) c + bias, n columns of `rows` rows. */
static void put_tile(const product *p, const float *c, int64_t rows, int64_t row0, int64_t n,
                     int64_t n0) {
    const sp_simd *simd = &((const sp_tuned *)p->be->state)->simd;
    for (int64_t r = 0; r < rows; r++) {
        float *to = p->y + (row0 + r) * p->out + n0;
        if (p->accumulate) {
            simd->add(c + r * n, n, to);
        } else {
            memcpy(to, c + r * n, (size_t)n * sizeof *to);
        }
        if (p->bias != NULL) {
            simd->add(p->bias + n0, n, to);
        }
    }
}

static void linear_task(void *context, int task, int worker) {
    product *p = context;
    const int64_t block = task / p->w->tiles, tile = task % p->w->tiles;
    const int64_t rows = rows_at(p, block), n = tile_at(p, tile), row0 = block * SP_PACKED_ROWS;
    const char *a = p->x + (size_t)(row0 * p->in) * p->size;
    char *space = p->space + (size_t)worker * p->space_bytes;
    float *c = (float *)(void *)(space + p->operand_bytes);
    if (rows != sp_packed_rows(rows)) {
        copy_rows(p, a, p->in, rows, p->in, space);
        a = space;
    }
    sp_onednn_single();
    run_kernel(p, p->kernels[block == row_blocks(p) - 1][tile == p->w->tiles - 1][0], worker, a,
               p->w->forward + (size_t)tile * p->w->forward_bytes, c);
    put_tile(p, c, rows, row0, n, tile * p->w->tile);
}

static spar_status linear_kernels(product *p, spar_error *err) {
    spar_status status = SPAR_OK;
    for (int last_row = 0; last_row < 2; last_row++) {
        for (int last = 0; last < 2; last++) {
            const int64_t rows = last_row ? rows_at(p, row_blocks(p) - 1) : SP_PACKED_ROWS;
            const int64_t n = last ? last_tile(p->w, p->out) : p->w->tile;
            const sp_dnn_shape shape = {
                sp_packed_type(p->be), sp_packed_rows(rows), n, p->in, true, false};
            SPAR_TRY(sp_dnn_get(dnn_of(p->be), &shape, &p->kernels[last_row][last][0], err));
        }
    }
done:
    return status;
}

spar_status sp_packed_linear(sp_backend *be, const sp_weight *w, const float *bias, const void *x,
                             int64_t T, float *y, bool accumulate, spar_error *err) {
    spar_status status = SPAR_OK;
    product p = {.T = T, .x = x, .bias = bias, .y = y, .accumulate = accumulate};
    if (T == 0) {
        return SPAR_OK;
    }
    SPAR_TRY(product_init(&p, be, w, SP_PREPARE_FORWARD, err));
    sp_dnn_trim(dnn_of(be));
    SPAR_TRY(linear_kernels(&p, err));
    SPAR_TRY(product_space(&p, SP_PACKED_ROWS * p.in, SP_PACKED_ROWS * p.w->tile, err));
    sp_pool_run(be->pool, (int)(row_blocks(&p) * p.w->tiles), linear_task, &p);
    SPAR_TRY(sp_onednn_check(atomic_load(&p.status), "linear", err));
done:
    return status;
}

/* The tiles of the outputs are summed one after another, in place where the rows are whole. */
static void linear_dx_task(void *context, int task, int worker) {
    product *p = context;
    const int64_t rows = rows_at(p, task), row0 = (int64_t)task * SP_PACKED_ROWS;
    const bool whole = rows == sp_packed_rows(rows);
    char *space = p->space + (size_t)worker * p->space_bytes;
    float *result = p->y + row0 * p->in;
    float *c = whole ? result : (float *)(void *)(space + p->operand_bytes);
    if (!whole && p->accumulate) {
        memset(c, 0, (size_t)(sp_packed_rows(rows) * p->in) * sizeof *c);
        memcpy(c, result, (size_t)(rows * p->in) * sizeof *c);
    }
    sp_onednn_single();
    for (int64_t tile = 0; tile < p->w->tiles; tile++) {
        const char *a = p->x + (size_t)(row0 * p->out + tile * p->w->tile) * p->size;
        if (!whole || p->w->tiles > 1) {
            copy_rows(p, a, p->out, rows, tile_at(p, tile), space);
            a = space;
        }
        const int last = tile == p->w->tiles - 1, add = p->accumulate || tile > 0;
        run_kernel(p, p->kernels[task == row_blocks(p) - 1][last][add], worker, a,
                   p->w->backward + (size_t)tile * p->w->backward_bytes, c);
    }
    if (!whole) {
        memcpy(result, c, (size_t)(rows * p->in) * sizeof *c);
    }
}

static spar_status linear_dx_kernels(product *p, spar_error *err) {
    spar_status status = SPAR_OK;
    for (int i = 0; i < 8; i++) {
        const int last_row = i & 1, last = i >> 1 & 1, add = i >> 2;
        const int64_t rows = last_row ? rows_at(p, row_blocks(p) - 1) : SP_PACKED_ROWS;
        const int64_t k = last ? last_tile(p->w, p->out) : p->w->tile;
        const sp_dnn_shape shape = {
            sp_packed_type(p->be), sp_packed_rows(rows), p->in, k, true, add != 0};
        SPAR_TRY(sp_dnn_get(dnn_of(p->be), &shape, &p->kernels[last_row][last][add], err));
    }
done:
    return status;
}

spar_status sp_packed_linear_dx(sp_backend *be, const sp_weight *w, const void *dy, int64_t T,
                                float *dx, bool accumulate, spar_error *err) {
    spar_status status = SPAR_OK;
    product p = {.T = T, .x = dy, .y = dx, .accumulate = accumulate};
    if (T == 0) {
        return SPAR_OK;
    }
    SPAR_TRY(product_init(&p, be, w, SP_PREPARE_BACKWARD, err));
    sp_dnn_trim(dnn_of(be));
    SPAR_TRY(linear_dx_kernels(&p, err));
    SPAR_TRY(product_space(&p, SP_PACKED_ROWS * p.w->tile, SP_PACKED_ROWS * p.in, err));
    sp_pool_run(be->pool, (int)row_blocks(&p), linear_dx_task, &p);
    SPAR_TRY(sp_onednn_check(atomic_load(&p.status), "linear_dx", err));
done:
    return status;
}

/* ---- dw += dy^T x ---- */

/* Blocks of columns, so that a line of x is read once. */
void sp_packed_transpose(const void *x, int64_t x_row, int64_t rows, int64_t columns, size_t size,
                         int64_t rows_padded, void *y) {
    enum { BLOCK = 32 };
    memset(y, 0, (size_t)(columns * rows_padded) * size);
    for (int64_t c0 = 0; c0 < columns; c0 += BLOCK) {
        const int64_t end = min64(columns, c0 + BLOCK);
        for (int64_t r = 0; r < rows; r++) {
            for (int64_t c = c0; c < end; c++) {
                if (size == sizeof(float)) {
                    ((float *)y)[c * rows_padded + r] = ((const float *)x)[r * x_row + c];
                } else {
                    ((uint16_t *)y)[c * rows_padded + r] = ((const uint16_t *)x)[r * x_row + c];
                }
            }
        }
    }
}

typedef struct gradient {
    sp_backend *be;
    int64_t out, in, T, tile;
    const char *dy, *x;
    char *last_x; /* the last rows of x, padded */
    float *dw;
    size_t size, space_bytes;
    const sp_dnn_kernel *kernels[2][2]; /* by whether the tile, and the tokens, are the last */
    char *space;
    atomic_int status;
} gradient;

static int64_t depth_at(const gradient *g, int64_t t0) {
    return min64(DW_DEPTH, g->T - t0);
}

/* A tile of outputs over all tokens. */
static void gradient_task(void *context, int task, int worker) {
    gradient *g = context;
    const int64_t o0 = task * g->tile, n = min64(g->tile, g->out - o0);
    char *space = g->space + (size_t)worker * g->space_bytes;
    sp_onednn_single();
    for (int64_t t0 = 0; t0 < g->T; t0 += DW_DEPTH) {
        const int64_t depth = depth_at(g, t0), padded = round_up(depth, DW_PAD);
        const bool last = t0 + depth == g->T;
        sp_packed_transpose(g->dy + (size_t)(t0 * g->out + o0) * g->size, g->out, depth, n, g->size,
                            padded, space);
        const char *b = last ? g->last_x : g->x + (size_t)(t0 * g->in) * g->size;
        const int code = sp_dnn_run(dnn_of(g->be), g->kernels[n != g->tile][last], worker, space, b,
                                    g->dw + o0 * g->in);
        if (code != 0) {
            atomic_store(&g->status, code);
        }
    }
}

static spar_status gradient_kernels(gradient *g, spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t last_tokens = g->T - (g->T - 1) / DW_DEPTH * DW_DEPTH;
    for (int i = 0; i < 4; i++) {
        const int last_tile_of = i & 1, last = i >> 1;
        const int64_t n = last_tile_of ? g->out - (g->out - 1) / g->tile * g->tile : g->tile;
        const int64_t k = last ? round_up(last_tokens, DW_PAD) : DW_DEPTH;
        const sp_dnn_shape shape = {sp_packed_type(g->be), n, g->in, k, false, true};
        SPAR_TRY(sp_dnn_get(dnn_of(g->be), &shape, &g->kernels[last_tile_of][last], err));
    }
done:
    return status;
}

static spar_status gradient_space(gradient *g, spar_error *err) {
    spar_status status = SPAR_OK;
    void *space = NULL, *last_x = NULL;
    g->space_bytes = (size_t)(g->tile * DW_DEPTH) * g->size;
    SPAR_TRY(sp_tuned_scratch(g->be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(g->be->pool),
                              g->space_bytes, &space, err));
    SPAR_TRY(
        sp_tuned_scratch(g->be, SP_SCRATCH_B, (size_t)(DW_DEPTH * g->in), g->size, &last_x, err));
    g->space = space;
    g->last_x = last_x;
    const int64_t t0 = (g->T - 1) / DW_DEPTH * DW_DEPTH, n = g->T - t0;
    const size_t row = (size_t)g->in * g->size;
    memcpy(g->last_x, g->x + (size_t)t0 * row, (size_t)n * row);
    memset(g->last_x + (size_t)n * row, 0, (size_t)(round_up(n, DW_PAD) - n) * row);
done:
    return status;
}

spar_status sp_packed_linear_dw(sp_backend *be, int64_t out, int64_t in, const void *dy,
                                const void *x, int64_t T, float *dw, spar_error *err) {
    spar_status status = SPAR_OK;
    gradient g = {.be = be, .out = out, .in = in, .T = T, .dy = dy, .x = x, .dw = dw};
    if (T == 0) {
        return SPAR_OK;
    }
    g.size = be->operand_size;
    g.tile = even_tile(out, DW_TILE);
    atomic_init(&g.status, 0);
    sp_dnn_trim(dnn_of(be));
    SPAR_TRY(gradient_kernels(&g, err));
    SPAR_TRY(gradient_space(&g, err));
    sp_pool_run(be->pool, (int)ceil_div(out, g.tile), gradient_task, &g);
    SPAR_TRY(sp_onednn_check(atomic_load(&g.status), "linear_dw", err));
done:
    return status;
}
