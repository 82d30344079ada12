/* dw = or += dy^T x by primitives. The product wants dy's columns in rows and x packed: both are
 * made of some rows at a time (in a chain, of the rows that have just been made and are still in
 * the cache), and the products of all weights run together afterwards, each tile of outputs over
 * all tokens. */
#include <string.h>

#include "backend/cpu/packed.h"
#include "backend/cpu/sizes.h"

enum {
    /* Tokens are padded with zeros to a multiple of DEPTH_PAD, so that few kernels serve all, and
     * DEPTH_OFF more, so that columns are not a power of two apart and crowd a few cache sets. */
    DEPTH_PAD = 128,
    DEPTH_OFF = 32,
    TILE = 96,       /* outputs of a product */
    GATHER_ROWS = 64 /* of a task that makes operands outside a chain */
};

static sp_tuned *tuned_of(const sp_backend *be) {
    return be->state;
}

/* ---- operands ---- */

void sp_packed_columns(const sp_backend *be, const void *x, int64_t rows, int64_t columns,
                       int64_t end, int64_t y_row, char *y) {
    const sp_simd *simd = &tuned_of(be)->simd;
    const size_t size = be->operand_size;
    if (size == sizeof(uint16_t)) {
        simd->transpose_bf16(x, columns, rows, columns, (uint16_t *)(void *)y, y_row);
    } else {
        simd->transpose(x, columns, (int)rows, (int)columns, 1.0F, (float *)(void *)y, y_row);
    }
    for (int64_t c = 0; rows < end && c < columns; c++) {
        memset(y + (size_t)(c * y_row + rows) * size, 0, (size_t)(end - rows) * size);
    }
}

/* As layout blocks: row0 and end are multiples of SP_LAYOUT_K. */
static void put_pairs(const sp_backend *be, const sp_packed_b *b, const uint16_t *x, int64_t row0,
                      int64_t rows, int64_t end) {
    for (int64_t k = 0; k < end; k += SP_LAYOUT_K) {
        const int64_t there = k < rows ? sp_min64(SP_LAYOUT_K, rows - k) : 0;
        for (int64_t n = 0; n < b->in; n += SP_LAYOUT_N) {
            const int64_t block =
                n / SP_LAYOUT_N * (b->depth / SP_LAYOUT_K) + (row0 + k) / SP_LAYOUT_K;
            tuned_of(be)->simd.pack_rows_bf16(there > 0 ? x + k * b->in + n : x, b->in, (int)there,
                                              (int)sp_min64(SP_LAYOUT_N, b->in - n),
                                              (uint16_t *)(void *)b->data +
                                                  block * SP_LAYOUT_K * SP_LAYOUT_N);
        }
    }
}

void sp_packed_put_b(const sp_backend *be, const sp_packed_b *b, const void *x, int64_t row0,
                     int64_t rows, int64_t end) {
    const size_t row = (size_t)b->in * be->operand_size;
    if (b->pairs) {
        put_pairs(be, b, x, row0, rows, sp_round_up(end, SP_LAYOUT_K));
        return;
    }
    memcpy(b->data + (size_t)row0 * row, x, (size_t)rows * row);
    memset(b->data + (size_t)(row0 + rows) * row, 0, (size_t)(end - rows) * row);
}

size_t sp_packed_b_elements(const sp_packed_b *b) {
    return (size_t)(sp_round_up(b->in, SP_LAYOUT_N) * b->depth);
}

spar_status sp_packed_dw_kernel(sp_backend *be, int64_t out, sp_packed_b *b, bool accumulate,
                                const sp_dnn_kernel **kernel, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dnn *dnn = tuned_of(be)->dnn;
    sp_dnn_shape shape = {.type = sp_packed_type(be),
                          .M = out,
                          .N = b->in,
                          .K = b->depth,
                          .packed = sp_packed_type(be) == SP_DNN_BF16,
                          .accumulate = accumulate};
    SPAR_TRY(sp_dnn_get(dnn, &shape, kernel, err));
    b->pairs = sp_dnn_has_pairs(*kernel);
    if (shape.packed && !b->pairs) {
        shape.packed = false;
        SPAR_TRY(sp_dnn_get(dnn, &shape, kernel, err));
    }
done:
    return status;
}

/* A step: rows of dy and x as the product wants them. */
typedef struct gathering {
    const sp_backend *be;
    int64_t out, T;
    bool with_x;
    char *columns; /* dy^T [out, depth] */
    sp_packed_b b;
} gathering;

static int gather_rows(const void *job, const sp_rows *r) {
    const gathering *g = job;
    const int64_t end = r->row0 + r->n == g->T ? g->b.depth - r->row0 : r->n;
    sp_packed_columns(g->be, r->at[0], r->n, g->out, end, g->b.depth,
                      g->columns + (size_t)r->row0 * g->be->operand_size);
    if (g->with_x) {
        sp_packed_put_b(g->be, &g->b, r->at[1], r->row0, r->n, end);
    }
    return 0;
}

/* ---- products ---- */

static spar_status product_kernels(sp_dw *d, sp_backend *be, sp_packed_b *b, bool accumulate,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    d->tile = sp_min64(TILE, d->out);
    d->tiles = sp_ceil_div(d->out, d->tile);
    for (int last = 0; last < 2; last++) {
        const int64_t n = last ? d->out - (d->tiles - 1) * d->tile : d->tile;
        SPAR_TRY(sp_packed_dw_kernel(be, n, b, accumulate, &d->kernels[last], err));
    }
done:
    return status;
}

static void product_task(void *context, int task, int worker) {
    sp_backend *be = context;
    sp_tuned *t = tuned_of(be);
    const sp_dw *d = t->dw.items;
    while (task >= d->tiles) {
        task -= (int)d->tiles;
        d++;
    }
    const size_t row = (size_t)d->depth * be->operand_size;
    const int code = sp_packed_run(be, d->kernels[task == d->tiles - 1], worker,
                                   d->columns + (size_t)(task * d->tile) * row, d->b,
                                   d->dw + task * d->tile * d->in, true);
    if (code != 0) {
        atomic_store(&t->chain.code, code);
    }
}

/* The products whose operands have been made. */
static spar_status run_products(sp_backend *be, const void *job, spar_error *err) {
    (void)job;
    sp_tuned *t = tuned_of(be);
    int64_t tasks = 0;
    for (int i = 0; i < t->dw.n; i++) {
        tasks += t->dw.items[i].tiles;
    }
    atomic_store(&t->chain.code, 0);
    sp_pool_run(be->pool, (int)tasks, product_task, be);
    t->dw.n = 0;
    return sp_onednn_check(atomic_load(&t->chain.code), "linear_dw", err);
}

/* An earlier product of this chain over the same x. */
static const sp_dw *same_x(const sp_dw_list *l, const void *x, int64_t in) {
    for (int i = 0; i < l->n; i++) {
        if (l->items[i].x == x && l->items[i].in == in) {
            return &l->items[i];
        }
    }
    return NULL;
}

static spar_status operand_space(sp_backend *be, sp_dw *d, gathering *g, const sp_dw *same,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    const int slot = SP_SCRATCH_DW + 2 * tuned_of(be)->dw.n;
    void *memory = NULL;
    SPAR_TRY(
        sp_tuned_scratch(be, slot, (size_t)(d->out * d->depth), be->operand_size, &memory, err));
    d->columns = g->columns = memory;
    g->with_x = same == NULL;
    if (g->with_x) {
        SPAR_TRY(sp_tuned_scratch(be, slot + 1, sp_packed_b_elements(&g->b), be->operand_size,
                                  &memory, err));
        d->b = memory;
    } else {
        d->b = same->b;
    }
    g->b.data = d->b;
done:
    return status;
}

spar_status sp_packed_linear_dw(sp_backend *be, int64_t out, int64_t in, const void *dy,
                                const void *x, int64_t T, float *dw, bool accumulate,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dw_list *list = &tuned_of(be)->dw;
    const int64_t depth = sp_round_up(T, DEPTH_PAD) + DEPTH_OFF;
    if (!sp_chain_deferred(be)) {
        sp_dnn_trim(tuned_of(be)->dnn);
        list->n = 0;
    } else if (list->n == 0) {
        SPAR_TRY(sp_chain_after(be, run_products, NULL, 0, err));
    }
    if (list->n == SP_DW_MAX) {
        return spar_fail(err, SPAR_INTERNAL, "a chain has more than %d weights", SP_DW_MAX);
    }
    sp_dw *d = &list->items[list->n];
    *d = (sp_dw){.out = out, .in = in, .depth = depth, .x = x, .dw = dw};
    gathering g = {.be = be, .out = out, .T = T, .b = {.in = in, .depth = depth}};
    SPAR_TRY(product_kernels(d, be, &g.b, accumulate, err));
    SPAR_TRY(operand_space(be, d, &g, same_x(list, x, in), err));
    list->n++;
    sp_step step;
    sp_step_init(&step, gather_rows, &g, sizeof g);
    step.arrays[0].at = dy;
    step.arrays[0].row = (size_t)out * be->operand_size;
    step.arrays[1].at = x;
    step.arrays[1].row = (size_t)in * be->operand_size;
    sp_step_run(be, &step, T, GATHER_ROWS);
    if (!sp_chain_deferred(be)) {
        SPAR_TRY(run_products(be, NULL, err));
    }
done:
    return status;
}
