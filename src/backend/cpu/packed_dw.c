/* dw += dy^T x by primitives. The product wants dy's columns in rows and x packed: both are made of
 * some rows at a time (in a chain, of the rows that have just been made and are still in the
 * cache), and the products of all weights run together afterwards, each tile of outputs over all
 * tokens. */
#include <assert.h>
#include <string.h>

#include "backend/cpu/packed.h"

enum {
    /* Tokens are padded with zeros to a multiple of DEPTH_PAD, so that few kernels serve all, and
     * DEPTH_OFF more, so that columns are not a power of two apart and crowd a few cache sets. */
    DEPTH_PAD = 128,
    DEPTH_OFF = 32,
    TILE = 96,       /* outputs of a product */
    GATHER_ROWS = 64 /* of a task that makes operands outside a chain */
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

static sp_tuned *tuned_of(const sp_backend *be) {
    return be->state;
}

/* ---- operands ---- */

/* What gather_rows makes: dy^T [out, depth], and x as B [depth, in], packed, or as it is where
 * pairs is false. */
typedef struct gathering {
    const sp_backend *be;
    int64_t out, in, T, depth;
    bool pairs, with_x;
    char *columns, *b;
} gathering;

static void transpose(const gathering *g, const char *dy, int64_t row0, int64_t n) {
    const size_t size = g->be->operand_size;
    char *to = g->columns + (size_t)row0 * size;
    if (size == sizeof(uint16_t)) {
        tuned_of(g->be)->simd.transpose_bf16((const uint16_t *)(const void *)dy, g->out, n, g->out,
                                             (uint16_t *)(void *)to, g->depth);
    } else {
        tuned_of(g->be)->simd.transpose((const float *)(const void *)dy, g->out, (int)n,
                                        (int)g->out, 1.0F, (float *)(void *)to, g->depth);
    }
}

/* Rows row0 .. (row0 a multiple of 32) of x into their layout blocks. */
static void pack_x(const gathering *g, const char *x, int64_t row0, int64_t n) {
    const int64_t down = g->depth / SP_LAYOUT_K;
    for (int64_t k = 0; k < n; k += SP_LAYOUT_K) {
        for (int64_t c = 0; c < g->in; c += SP_LAYOUT_N) {
            const int64_t block = c / SP_LAYOUT_N * down + (row0 + k) / SP_LAYOUT_K;
            tuned_of(g->be)->simd.pack_rows_bf16(
                (const uint16_t *)(const void *)x + k * g->in + c, g->in,
                (int)min64(SP_LAYOUT_K, n - k), (int)min64(SP_LAYOUT_N, g->in - c),
                (uint16_t *)(void *)g->b + block * SP_LAYOUT_K * SP_LAYOUT_N);
        }
    }
}

/* The padding tokens behind the last one. */
static void clear_padding(const gathering *g) {
    const size_t size = g->be->operand_size;
    const int64_t from = g->pairs ? round_up(g->T, SP_LAYOUT_K) : g->T;
    for (int64_t o = 0; o < g->out; o++) {
        memset(g->columns + (size_t)(o * g->depth + g->T) * size, 0,
               (size_t)(g->depth - g->T) * size);
    }
    if (!g->with_x) {
        return;
    }
    if (!g->pairs) {
        memset(g->b + (size_t)(from * g->in) * size, 0, (size_t)((g->depth - from) * g->in) * size);
        return;
    }
    const int64_t down = g->depth / SP_LAYOUT_K, block = SP_LAYOUT_K * SP_LAYOUT_N;
    for (int64_t c = 0; c < ceil_div(g->in, SP_LAYOUT_N); c++) {
        const int64_t first = from / SP_LAYOUT_K;
        memset(g->b + (size_t)((c * down + first) * block) * size, 0,
               (size_t)((down - first) * block) * size);
    }
}

static int gather_rows(const void *job, const sp_rows *r) {
    const gathering *g = job;
    transpose(g, r->at[0], r->row0, r->n);
    if (g->with_x && g->pairs) {
        pack_x(g, r->at[1], r->row0, r->n);
    } else if (g->with_x) {
        const size_t row = (size_t)g->in * g->be->operand_size;
        memcpy(g->b + (size_t)r->row0 * row, r->at[1], (size_t)r->n * row);
    }
    if (r->row0 + r->n == g->T) {
        clear_padding(g);
    }
    return 0;
}

/* ---- products ---- */

static spar_status product_kernels(sp_dw *d, sp_backend *be, bool *pairs, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dnn *dnn = tuned_of(be)->dnn;
    d->tile = min64(TILE, d->out);
    d->tiles = ceil_div(d->out, d->tile);
    for (int last = 0; last < 2; last++) {
        const int64_t n = last ? d->out - (d->tiles - 1) * d->tile : d->tile;
        const sp_dnn_shape shape = {.type = sp_packed_type(be),
                                    .M = n,
                                    .N = d->in,
                                    .K = d->depth,
                                    .packed = sp_packed_type(be) == SP_DNN_BF16,
                                    .accumulate = true};
        sp_dnn_shape plain = shape;
        plain.packed = false;
        SPAR_TRY(sp_dnn_get(dnn, &shape, &d->kernels[last], err));
        *pairs = sp_dnn_has_pairs(d->kernels[last]);
        if (!*pairs && shape.packed) {
            SPAR_TRY(sp_dnn_get(dnn, &plain, &d->kernels[last], err));
        }
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
    sp_onednn_single();
    const int code = sp_dnn_run(t->dnn, d->kernels[task == d->tiles - 1], worker,
                                d->columns + (size_t)(task * d->tile) * row, d->b,
                                d->dw + task * d->tile * d->in);
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
    const int64_t b = g->pairs ? round_up(d->in, SP_LAYOUT_N) : d->in;
    void *columns = NULL, *packed = NULL;
    SPAR_TRY(
        sp_tuned_scratch(be, slot, (size_t)(d->out * d->depth), be->operand_size, &columns, err));
    d->columns = columns;
    d->b = same != NULL ? same->b : NULL;
    if (same == NULL) {
        SPAR_TRY(
            sp_tuned_scratch(be, slot + 1, (size_t)(b * d->depth), be->operand_size, &packed, err));
        d->b = packed;
    }
    g->columns = d->columns;
    g->b = d->b;
    g->with_x = same == NULL;
done:
    return status;
}

spar_status sp_packed_linear_dw(sp_backend *be, int64_t out, int64_t in, const void *dy,
                                const void *x, int64_t T, float *dw, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dw_list *list = &tuned_of(be)->dw;
    const int64_t depth = round_up(T, DEPTH_PAD) + DEPTH_OFF;
    if (T == 0) {
        return SPAR_OK;
    }
    if (!sp_chain_deferred(be)) {
        sp_dnn_trim(tuned_of(be)->dnn);
        list->n = 0;
    } else if (list->n == 0 || !list->pending) {
        list->n = 0;
        SPAR_TRY(sp_chain_after(be, run_products, NULL, 0, err));
    }
    list->pending = sp_chain_deferred(be);
    if (list->n == SP_DW_MAX) {
        return spar_fail(err, SPAR_INTERNAL, "a chain has more than %d weights", SP_DW_MAX);
    }
    sp_dw *d = &list->items[list->n];
    *d = (sp_dw){.out = out, .in = in, .depth = depth, .x = x, .dw = dw};
    gathering g = {.be = be, .out = out, .in = in, .T = T, .depth = depth};
    SPAR_TRY(product_kernels(d, be, &g.pairs, err));
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
