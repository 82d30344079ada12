#include "backend/cpu/packed.h"

#include <stdlib.h>
#include <string.h>

#include "backend/cpu/chain.h"
#include "backend/cpu/quant.h"
#include "backend/cpu/sizes.h"
#include "base/mem.h"

enum {
    TILE_ALIGN = 64, /* what the library's layouts cut N by */
    FEW_OUTPUTS = 1024
};

/* n in pieces of at most `most`, about equal. */
static int64_t even_tile(int64_t n, int64_t most) {
    return sp_min64(most, sp_round_up(sp_ceil_div(n, sp_ceil_div(n, most)), TILE_ALIGN));
}

int64_t sp_packed_rows(int64_t rows) {
    return rows < SP_PACKED_PAD ? rows : sp_round_up(rows, SP_PACKED_PAD);
}

sp_dnn_type sp_packed_type(const sp_backend *be) {
    return be->compute == SP_COMPUTE_BF16 ? SP_DNN_BF16 : SP_DNN_F32;
}

static sp_tuned *tuned_of(const sp_backend *be) {
    return be->state;
}

static sp_dnn *dnn_of(const sp_backend *be) {
    return ((const sp_tuned *)be->state)->dnn;
}

/* ---- packing ---- */

/* N or K of tile `tile`. */
static int64_t tile_length(const sp_packed_side *s, int64_t tile) {
    return sp_min64(s->tile, (s->by_k ? s->K : s->N) - tile * s->tile);
}

/* The product of a tile, or of the whole. */
static sp_dnn_shape shape_of(const sp_backend *be, const sp_packed_side *s, int64_t rows,
                             int64_t tile) {
    const int64_t n = tile_length(s, tile);
    return (sp_dnn_shape){.type = sp_packed_type(be),
                          .M = rows,
                          .N = s->by_k ? s->N : n,
                          .K = s->by_k ? n : s->K,
                          .packed = true};
}

static sp_dnn_shape whole_shape(const sp_backend *be, const sp_packed_side *s, int64_t rows) {
    return (sp_dnn_shape){
        .type = sp_packed_type(be), .M = rows, .N = s->N, .K = s->K, .packed = true};
}

/* W as floats where tile `tile` of a side begins: element (k, n) of the tile is at k *k_step +
 * n *n_step. */
static const float *tile_floats(const sp_packing *p, int side, int64_t tile, int worker,
                                int64_t *k_step, int64_t *n_step) {
    const sp_packed_side *s = &p->packed->sides[side];
    const int64_t at = tile * s->tile, length = tile_length(s, tile), in = p->w->in;
    const bool by_outputs = (side == SP_SIDE_FORWARD) != s->by_k; /* what the tile is cut by */
    int64_t out_step = in, in_step = 1;
    const float *from = NULL;
    if (p->w->data != NULL) {
        from = p->w->data + (by_outputs ? at * in : at);
    } else {
        float *floats = p->tiles + worker * p->tile_floats;
        const int64_t outputs = by_outputs ? length : p->w->out;
        sp_quant_tile(p->be, p->w->blocks, by_outputs ? at : 0, outputs, by_outputs ? 0 : at,
                      by_outputs ? in : length, floats);
        out_step = 1;
        in_step = sp_quant_stride(outputs);
        from = floats;
    }
    *k_step = side == SP_SIDE_FORWARD ? in_step : out_step;
    *n_step = side == SP_SIDE_FORWARD ? out_step : in_step;
    return from;
}

/* The layout that our own kernels fill: rounded and in place in one pass. One of the steps is 1. */
static void pack_pairs(const sp_packing *p, int side, int64_t tile, const float *from,
                       int64_t k_step, int64_t n_step, char *to) {
    const sp_packed_side *s = &p->packed->sides[side];
    const sp_simd *simd = &((const sp_tuned *)p->be->state)->simd;
    const sp_dnn_shape shape = shape_of(p->be, s, SP_PACKED_ROWS, tile);
    uint16_t *at = (uint16_t *)(void *)to;
    for (int64_t n = 0; n < shape.N; n += SP_LAYOUT_N) {
        for (int64_t k = 0; k < shape.K; k += SP_LAYOUT_K, at += SP_LAYOUT_K * SP_LAYOUT_N) {
            const int rows = (int)sp_min64(SP_LAYOUT_K, shape.K - k);
            const int columns = (int)sp_min64(SP_LAYOUT_N, shape.N - n);
            if (side == SP_SIDE_FORWARD) {
                simd->pack_columns_f32(from + k + n * n_step, n_step, rows, columns, at);
            } else {
                simd->pack_rows_f32(from + k * k_step + n, k_step, rows, columns, at);
            }
        }
    }
}

int sp_packing_tile(sp_packing *p, int side, int64_t tile, int worker, char *to) {
    const sp_packed_side *s = &p->packed->sides[side];
    int64_t k_step, n_step;
    const float *from = tile_floats(p, side, tile, worker, &k_step, &n_step);
    const sp_dnn_kernel *kernel = p->kernels[side][tile == s->tiles - 1];
    if (p->w->data != NULL && sp_dnn_has_pairs(kernel)) {
        pack_pairs(p, side, tile, from, k_step, n_step, to);
        return 0;
    }
    sp_onednn_single();
    return sp_dnn_pack(p->dnn, kernel, worker, from, k_step, n_step, to);
}

static void pack_task(void *context, int task, int worker) {
    sp_packing *p = context;
    const int64_t first = p->wanted[0] ? p->packed->sides[0].tiles : 0;
    const int side = task < first ? SP_SIDE_FORWARD : SP_SIDE_BACKWARD;
    const sp_packed_side *s = &p->packed->sides[side];
    const int64_t tile = side == SP_SIDE_FORWARD ? task : task - first;
    const int code = sp_packing_tile(p, side, tile, worker, s->data + (size_t)tile * s->tile_bytes);
    if (code != 0) {
        atomic_store(&p->status, code);
    }
}

/* Whether the packed tiles, one after another, are the packed whole: the library's layouts put
 * blocks of N outermost as a rule, and then they are. */
static spar_status check_whole(const sp_packing *p, sp_packed_side *s, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_dnn_kernel *whole = NULL, *piece = NULL;
    sp_dnn *dnn = dnn_of(p->be);
    const sp_dnn_shape shape = whole_shape(p->be, s, SP_PACKED_ROWS);
    s->whole = false;
    if (s->by_k) {
        goto done;
    }
    SPAR_TRY(sp_dnn_get(dnn, &shape, &whole, err));
    for (int last = 0; last < 2; last++) {
        const sp_dnn_shape part = shape_of(p->be, s, SP_PACKED_ROWS, last ? s->tiles - 1 : 0);
        SPAR_TRY(sp_dnn_get(dnn, &part, &piece, err));
        s->whole = (last == 0 || s->whole) && sp_dnn_is_slice(whole, piece);
    }
done:
    return status;
}

/* Few outputs come in two tiles at least, so that two threads share a product over few rows; the
 * head's two sides are cut alike. */
static int64_t side_tile(int64_t length, bool head) {
    const int64_t most = length <= FEW_OUTPUTS && !head ? sp_ceil_div(length, 2) : SP_PACKED_TILE;
    return even_tile(length,
                     sp_min64(most < 1 ? 1 : sp_round_up(most, TILE_ALIGN), SP_PACKED_TILE));
}

static spar_status side_init(sp_packing *p, int side, bool head, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_packed_side *s = &p->packed->sides[side];
    const bool forward = side == SP_SIDE_FORWARD, by_k = head && !forward;
    if (s->tile > 0 && s->by_k == by_k && s->data != NULL) {
        goto kernels; /* packed before: the same sizes */
    }
    *s = (sp_packed_side){.K = forward ? p->w->in : p->w->out,
                          .N = forward ? p->w->out : p->w->in,
                          .by_k = by_k,
                          .data = s->data};
    const int64_t length = by_k ? s->K : s->N;
    s->tile = side_tile(length, head);
    s->tiles = sp_ceil_div(length, s->tile);
    SPAR_TRY(check_whole(p, s, err));
kernels:
    for (int last = 0; last < 2; last++) {
        const sp_dnn_shape shape = shape_of(p->be, s, SP_PACKED_ROWS, last ? s->tiles - 1 : 0);
        SPAR_TRY(sp_dnn_get(dnn_of(p->be), &shape, &p->kernels[side][last], err));
    }
    s->tile_bytes = sp_dnn_packed_bytes(p->kernels[side][0]);
done:
    return status;
}

static size_t side_bytes(const sp_packed_side *s) {
    return (size_t)s->tiles * s->tile_bytes;
}

/* Floats of the largest tile of a side that is made from blocks. */
static int64_t side_floats(const sp_packed_side *s, int side, const sp_weight *w) {
    const bool by_outputs = (side == SP_SIDE_FORWARD) != s->by_k;
    const int64_t floats =
        by_outputs ? w->in * sp_quant_stride(s->tile) : s->tile * sp_quant_stride(w->out);
    return sp_round_up(floats, TILE_ALIGN);
}

spar_status sp_packing_init(sp_packing *p, sp_backend *be, const sp_weight *w, sp_packed *packed,
                            int what, spar_error *err) {
    spar_status status = SPAR_OK;
    *p = (sp_packing){.be = be, .dnn = dnn_of(be), .w = w, .packed = packed};
    p->wanted[SP_SIDE_FORWARD] = what & SP_PREPARE_FORWARD;
    p->wanted[SP_SIDE_BACKWARD] = what & SP_PREPARE_BACKWARD;
    atomic_init(&p->status, 0);
    for (int side = 0; side < SP_SIDES; side++) {
        if (p->wanted[side]) {
            SPAR_TRY(side_init(p, side, what & SP_PREPARE_HEAD, err));
            const int64_t floats = side_floats(&packed->sides[side], side, w);
            p->tile_floats = floats > p->tile_floats ? floats : p->tile_floats;
        }
    }
done:
    return status;
}

static spar_status pack(sp_backend *be, sp_packing *p, spar_error *err) {
    int64_t tasks = 0;
    for (int side = 0; side < SP_SIDES; side++) {
        tasks += p->wanted[side] ? p->packed->sides[side].tiles : 0;
    }
    sp_pool_run(be->pool, (int)tasks, pack_task, p);
    return sp_onednn_check(atomic_load(&p->status), "packing a weight", err);
}

spar_status sp_packed_prepare(sp_backend *be, sp_weight *w, int what, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_packing p;
    if (w->packed == NULL) {
        SPAR_TRY(sp_mem_calloc(&w->packed, 1, sizeof(sp_packed), err));
    }
    ((sp_packed *)w->packed)->each = 0;
    sp_dnn_trim(dnn_of(be));
    SPAR_TRY(sp_packing_init(&p, be, w, w->packed, what, err));
    for (int side = 0; side < SP_SIDES; side++) {
        sp_packed_side *s = &p.packed->sides[side];
        void *memory = NULL;
        if (p.wanted[side] && s->data == NULL) {
            SPAR_TRY(sp_slabs_take(&tuned_of(be)->weights, side_bytes(s), &memory, err));
            s->data = memory;
        }
    }
    SPAR_TRY(pack(be, &p, err));
done:
    return status;
}

spar_status sp_packed_prepare_each(sp_backend *be, sp_weight *w, int what, spar_error *err) {
    sp_packed_release(be, w);
    const spar_status status = sp_mem_calloc(&w->packed, 1, sizeof(sp_packed), err);
    if (status == SPAR_OK) {
        ((sp_packed *)w->packed)->each = what & ~SP_PREPARE_EACH;
    }
    return status;
}

/* What is packed for one product at a time goes into the backend's scratch. */
static spar_status pack_now(sp_backend *be, const sp_weight *w, int what, sp_packed *space,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    sp_packing p;
    void *memory = NULL, *tiles = NULL;
    *space = (sp_packed){0};
    SPAR_TRY(sp_packing_init(&p, be, w, space, what, err));
    const size_t forward = p.wanted[0] ? side_bytes(&space->sides[0]) : 0;
    const size_t backward = p.wanted[1] ? side_bytes(&space->sides[1]) : 0;
    SPAR_TRY(sp_tuned_scratch(be, sp_chain_frozen_slot(be), forward + backward, 1, &memory, err));
    space->sides[0].data = memory;
    space->sides[1].data = (char *)memory + forward;
    if (w->data == NULL) {
        SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(be->pool),
                                  (size_t)p.tile_floats * sizeof(float), &tiles, err));
        p.tiles = tiles;
    }
    SPAR_TRY(pack(be, &p, err));
done:
    return status;
}

static spar_status check_side(const sp_packed *p, int side, bool by_k, spar_error *err) {
    static const char *const names[SP_SIDES] = {"forward", "backward"};
    if (p == NULL || p->sides[side].data == NULL || p->sides[side].by_k != by_k) {
        return spar_fail(err, SPAR_INTERNAL, "a weight was not prepared for %s%s", names[side],
                         by_k ? " as the head" : "");
    }
    return SPAR_OK;
}

bool sp_packed_is_made(const sp_weight *w, int what) {
    const sp_packed *p = w->packed;
    const bool blocks = w->data == NULL && w->blocks != NULL;
    const bool as_head = (what & SP_PREPARE_BACKWARD) == 0 ||
                         (p != NULL && ((p->each ^ what) & SP_PREPARE_HEAD) == 0);
    return blocks || (p != NULL && (p->each & what) == what && as_head);
}

spar_status sp_packed_get(sp_backend *be, const sp_weight *w, int what, sp_packed *space,
                          const sp_packed **out, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_packed *p = w->packed;
    if (sp_packed_is_made(w, what)) {
        *out = space;
        return pack_now(be, w, what, space, err);
    }
    if (what & SP_PREPARE_FORWARD) {
        SPAR_TRY(check_side(p, SP_SIDE_FORWARD, false, err));
    }
    if (what & SP_PREPARE_BACKWARD) {
        SPAR_TRY(check_side(p, SP_SIDE_BACKWARD, what & SP_PREPARE_HEAD, err));
    }
    *out = p;
done:
    return status;
}

void sp_packed_release(sp_backend *be, sp_weight *w) {
    sp_packed *p = w->packed;
    for (int side = 0; p != NULL && side < SP_SIDES; side++) {
        if (p->sides[side].data != NULL) {
            sp_slabs_give_back(&tuned_of(be)->weights);
        }
    }
    free(p);
    w->packed = NULL;
}

/* ---- y = x B ---- */

int sp_packed_run(const sp_backend *be, const sp_dnn_kernel *kernel, int worker, const void *a,
                  const void *b, float *c, bool stream) {
    enum { TILE_ROWS = 16 };
    const sp_simd *simd = &tuned_of(be)->simd;
    const sp_dnn_shape *shape = sp_dnn_shape_of(kernel);
    if (simd->layout_product == NULL || !shape->packed || !sp_dnn_has_pairs(kernel) ||
        shape->M % TILE_ROWS != 0 || shape->N % TILE_ROWS != 0 || shape->K % SP_LAYOUT_K != 0) {
        sp_onednn_single();
        return sp_dnn_run(dnn_of(be), kernel, worker, a, b, c);
    }
    const sp_layout_product p = {.M = shape->M,
                                 .N = shape->N,
                                 .K = shape->K,
                                 .a = a,
                                 .b = b,
                                 .c = c,
                                 .accumulate = shape->accumulate,
                                 .stream = stream && !shape->accumulate};
    simd->layout_product(&p);
    return 0;
}

/* Dense rows x [rows, n] as [padded rows, n]; `size` bytes an element. */
static void copy_rows(const void *x, int64_t rows, int64_t n, size_t size, void *to) {
    const size_t width = (size_t)n * size;
    memcpy(to, x, (size_t)rows * width);
    memset((char *)to + (size_t)rows * width, 0, (size_t)(sp_packed_rows(rows) - rows) * width);
}

typedef struct product {
    sp_backend *be;
    const sp_packed_product *of;
    const sp_packed_side *b;
    sp_packed own; /* of blocks */
    size_t size;   /* of an operand */
    /* By whether the rows are the last ones, and the tile is the last one. */
    const sp_dnn_kernel *kernels[2][2];
    char *space; /* of all workers */
    size_t operand_bytes, space_bytes;
    atomic_int status;
} product;

static int64_t row_blocks(const product *p) {
    return sp_ceil_div(p->of->T, SP_PACKED_ROWS);
}

static int64_t rows_at(const product *p, int64_t block) {
    return sp_min64(SP_PACKED_ROWS, p->of->T - block * SP_PACKED_ROWS);
}

/* c [rows, n] into n columns of y [., y_row], from column n0 on; with c's own bias added. */
static void put_rows(const sp_backend *be, const sp_packed_product *of, float *c, int64_t rows,
                     int64_t n, int64_t n0, float *y, int64_t y_row) {
    const sp_simd *simd = &((const sp_tuned *)be->state)->simd;
    for (int64_t r = 0; r < rows; r++) {
        float *from = c + r * n, *to = y + r * y_row + n0;
        if (of->bias != NULL) {
            simd->add(of->bias + n0, n, from);
        }
        if (of->accumulate) {
            simd->add(from, n, to);
        } else {
            memcpy(to, from, (size_t)n * sizeof *to);
        }
    }
}

static void tile_task(void *context, int task, int worker) {
    product *p = context;
    const sp_packed_side *b = p->b;
    const int64_t block = task / b->tiles, tile = task % b->tiles;
    const int64_t rows = rows_at(p, block), n = tile_length(b, tile);
    const int64_t row0 = block * SP_PACKED_ROWS, n0 = tile * b->tile;
    const char *a = (const char *)p->of->x + (size_t)(row0 * b->K) * p->size;
    char *space = p->space + (size_t)worker * p->space_bytes;
    float *c = (float *)(void *)(space + p->operand_bytes);
    if (rows != sp_packed_rows(rows)) {
        copy_rows(a, rows, b->K, p->size, space);
        a = space;
    }
    const int code =
        sp_packed_run(p->be, p->kernels[block == row_blocks(p) - 1][tile == b->tiles - 1], worker,
                      a, b->data + (size_t)tile * b->tile_bytes, c, false);
    if (code != 0) {
        atomic_store(&p->status, code);
    }
    put_rows(p->be, p->of, c, rows, n, n0, p->of->y + row0 * b->N, b->N);
}

static spar_status tile_kernels(product *p, spar_error *err) {
    spar_status status = SPAR_OK;
    for (int last_row = 0; last_row < 2; last_row++) {
        for (int last = 0; last < 2; last++) {
            const int64_t rows = last_row ? rows_at(p, row_blocks(p) - 1) : SP_PACKED_ROWS;
            const sp_dnn_shape shape =
                shape_of(p->be, p->b, sp_packed_rows(rows), last ? p->b->tiles - 1 : 0);
            SPAR_TRY(sp_dnn_get(dnn_of(p->be), &shape, &p->kernels[last_row][last], err));
        }
    }
done:
    return status;
}

/* A worker's space: operands of one product, then a result in f32. */
static spar_status tile_space(product *p, spar_error *err) {
    void *space = NULL;
    p->operand_bytes = (size_t)sp_round_up(SP_PACKED_ROWS * p->b->K * (int64_t)p->size, 64);
    p->space_bytes = p->operand_bytes + SP_PACKED_ROWS * (size_t)p->b->tile * sizeof(float);
    const spar_status status =
        sp_tuned_scratch(p->be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(p->be->pool),
                         p->space_bytes, &space, err);
    p->space = space;
    return status;
}

static spar_status multiply_now(product *p, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(tile_kernels(p, err));
    SPAR_TRY(tile_space(p, err));
    sp_pool_run(p->be->pool, (int)(row_blocks(p) * p->b->tiles), tile_task, p);
    SPAR_TRY(sp_onednn_check(atomic_load(&p->status), "a matrix product", err));
done:
    return status;
}

/* A step of a chain: a block of rows meets the whole matrix, or its tiles one after another. */
typedef struct rows_job {
    const sp_backend *be;
    const sp_dnn_kernel *kernels[2][2]; /* as product's */
    const char *b;
    const float *bias;
    int64_t K, N, tile, last; /* last: rows of the last block */
    size_t tile_bytes;
    bool accumulate;
    bool direct; /* the kernel makes what y wants, in place where rows need no padding */
} rows_job;

static size_t rows_operands(const rows_job *j, int64_t rows) {
    return (size_t)sp_round_up(rows * j->K * (int64_t)j->be->operand_size, 64);
}

static void add_bias(const rows_job *j, int64_t rows, float *c) {
    const sp_simd *simd = &((const sp_tuned *)j->be->state)->simd;
    for (int64_t i = 0; i < rows; i++) {
        simd->add(j->bias, j->N, c + i * j->N);
    }
}

static int multiply_rows(const void *job, const sp_rows *r) {
    const rows_job *j = job;
    const bool padded = r->n != sp_packed_rows(r->n), in_place = j->direct && !padded;
    const char *a = r->at[0];
    float *c =
        (float *)(void *)(in_place ? r->at[1] : (char *)r->space + rows_operands(j, SP_CHAIN_ROWS));
    const sp_packed_product of = {.bias = j->bias, .accumulate = j->accumulate};
    int code = 0;
    if (padded) {
        copy_rows(a, r->n, j->K, j->be->operand_size, r->space);
        a = r->space;
    }
    for (int64_t n0 = 0; n0 < j->N && code == 0; n0 += j->tile) {
        const int64_t n = sp_min64(j->tile, j->N - n0);
        code = sp_packed_run(j->be, j->kernels[r->n == j->last][n0 + n == j->N], r->worker, a,
                             j->b + (size_t)(n0 / j->tile) * j->tile_bytes, c, false);
        if (!in_place) {
            put_rows(j->be, &of, c, r->n, n, n0, (float *)(void *)r->at[1], j->N);
        } else if (j->bias != NULL) {
            add_bias(j, r->n, c);
        }
    }
    return code;
}

static spar_status rows_kernels(rows_job *j, const product *p, spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t block = sp_chain_block(p->be, &j->last);
    for (int i = 0; i < 4; i++) {
        const int last_rows = i & 1, last = i >> 1;
        const int64_t rows = last_rows ? j->last : block, padded = sp_packed_rows(rows);
        sp_dnn_shape shape = p->b->whole
                                 ? whole_shape(p->be, p->b, padded)
                                 : shape_of(p->be, p->b, padded, last ? p->b->tiles - 1 : 0);
        /* Padded rows are added to y afterwards. */
        shape.accumulate = j->direct && j->accumulate && padded == rows;
        SPAR_TRY(sp_dnn_get(dnn_of(p->be), &shape, &j->kernels[last_rows][last], err));
    }
done:
    return status;
}

static spar_status multiply_later(product *p, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_packed_product *of = p->of;
    const sp_packed_side *b = p->b;
    rows_job j = {.be = p->be,
                  .b = b->data,
                  .bias = of->bias,
                  .K = b->K,
                  .N = b->N,
                  .tile = b->whole ? b->N : b->tile,
                  .tile_bytes = b->tile_bytes,
                  .accumulate = of->accumulate,
                  .direct = b->whole};
    SPAR_TRY(rows_kernels(&j, p, err));
    sp_step step;
    sp_step_init(&step, multiply_rows, &j, sizeof j);
    step.arrays[0].at = of->x;
    step.arrays[0].row = (size_t)j.K * p->size;
    step.arrays[1].at = of->y;
    step.arrays[1].row = (size_t)j.N * sizeof(float);
    step.space = rows_operands(&j, SP_CHAIN_ROWS) + SP_CHAIN_ROWS * (size_t)j.tile * sizeof(float);
    sp_step_run(p->be, &step, of->T, of->T);
done:
    return status;
}

spar_status sp_packed_multiply(sp_backend *be, const sp_packed_product *of, spar_error *err) {
    spar_status status = SPAR_OK;
    const int what = of->side == SP_SIDE_FORWARD ? SP_PREPARE_FORWARD : SP_PREPARE_BACKWARD;
    product p = {.be = be, .of = of, .size = be->operand_size};
    const sp_packed *packed = NULL;
    if (of->T == 0) {
        return SPAR_OK;
    }
    atomic_init(&p.status, 0);
    if (!sp_chain_deferred(be)) {
        sp_dnn_trim(dnn_of(be)); /* steps that were put off hold kernels */
    }
    SPAR_TRY(sp_packed_get(be, of->w, what, &p.own, &packed, err));
    p.b = &packed->sides[of->side];
    if (sp_chain_deferred(be)) {
        SPAR_TRY(multiply_later(&p, err));
    } else {
        SPAR_TRY(multiply_now(&p, err));
    }
done:
    return status;
}
