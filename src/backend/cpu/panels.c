#include "backend/cpu/panels.h"

#include "backend/cpu/chain.h"
#include "backend/cpu/sizes.h"

enum {
    NARROW = 64,      /* sides of a matrix below which dnnl_sgemm is as fast */
    PIECE = 64,       /* rows or columns of a matrix that a task lays out: whole panels */
    DW_OUTPUTS = 144, /* of a task, at most: with DW_DEPTH rows they stay in the cache */
    DW_DEPTH = 1024,  /* rows that one product sums over */
    GATHER_ROWS = 64  /* of a task that makes x's panels outside a chain */
};

static sp_tuned *tuned_of(const sp_backend *be) {
    return be->state;
}

bool sp_panels_serve(const sp_backend *be, int64_t rows, int64_t columns) {
    const sp_tuned *t = tuned_of(be);
    return be->compute == SP_COMPUTE_F32 && t->dnn == NULL && t->simd.panel > 0 && rows >= NARROW &&
           columns >= NARROW;
}

/* ---- B ---- */

size_t sp_panels_floats(const sp_simd *simd, int64_t K, int64_t N) {
    return (size_t)(K * sp_round_up(N, simd->panel));
}

/* A piece of b, as it is read best: rows k from `from` on, or, where it lies by columns, columns n
 * from there on (a multiple of a panel). */
static void put_piece(const sp_simd *simd, const sp_panels_b *b, int64_t from, int64_t count,
                      float *to) {
    if (b->n_step == 1) {
        const sp_paneling rows = {.x = b->x + from * b->k_step,
                                  .x_row = b->k_step,
                                  .N = b->N,
                                  .K = b->K,
                                  .k0 = from,
                                  .k_rows = count,
                                  .to = to};
        simd->panels_rows(&rows);
    } else {
        const sp_paneling columns = {.x = b->x + from * b->n_step,
                                     .x_row = b->n_step,
                                     .N = count,
                                     .K = b->K,
                                     .k_rows = b->K,
                                     .to = to + from * b->K};
        simd->panels_columns(&columns);
    }
}

static int64_t pieces_along(const sp_panels_b *b) {
    return b->n_step == 1 ? b->K : b->N;
}

void sp_panels_put(const sp_simd *simd, const sp_panels_b *b, float *to) {
    put_piece(simd, b, 0, pieces_along(b), to);
}

typedef struct packing {
    const sp_simd *simd;
    const sp_panels_b *b;
    float *to;
} packing;

static void pack_task(void *context, int task, int worker) {
    (void)worker;
    const packing *p = context;
    const int64_t from = (int64_t)task * PIECE;
    put_piece(p->simd, p->b, from, sp_min64(PIECE, pieces_along(p->b) - from), p->to);
}

/* ---- y = x B, in a chain ---- */

typedef struct rows_job {
    const sp_simd *simd;
    int64_t K, N;
    const float *b, *bias;
    bool accumulate;
} rows_job;

static int multiply_rows(const void *job, const sp_rows *r) {
    const rows_job *j = job;
    float *y = (float *)(void *)r->at[1];
    const sp_tiling a = {.x = (const float *)(const void *)r->at[0],
                         .x_row = j->K,
                         .M = r->n,
                         .K = j->K,
                         .k_rows = j->K,
                         .to = r->space};
    const sp_panels_product p = {.M = r->n,
                                 .N = j->N,
                                 .K = j->K,
                                 .a = a.to,
                                 .b = j->b,
                                 .b_panel = j->K * j->simd->panel,
                                 .c = y,
                                 .c_row = j->N,
                                 .accumulate = j->accumulate};
    j->simd->tiles_rows(&a);
    j->simd->panels_product(&p);
    for (int64_t i = 0; j->bias != NULL && i < r->n; i++) {
        j->simd->add(j->bias, j->N, y + i * j->N);
    }
    return 0;
}

spar_status sp_panels_multiply(sp_backend *be, const sp_panels_linear *p, spar_error *err) {
    const sp_simd *simd = &tuned_of(be)->simd;
    const int64_t K = p->b.K, N = p->b.N;
    void *memory = NULL;
    const spar_status status = sp_tuned_scratch(
        be, sp_chain_frozen_slot(be), sp_panels_floats(simd, K, N), sizeof(float), &memory, err);
    if (status != SPAR_OK) {
        return status;
    }
    packing pack = {simd, &p->b, memory};
    sp_pool_run(be->pool, (int)sp_ceil_div(pieces_along(&p->b), PIECE), pack_task, &pack);
    const rows_job j = {simd, K, N, pack.to, p->bias, p->accumulate};
    sp_step s;
    sp_step_init(&s, multiply_rows, &j, sizeof j);
    s.arrays[0].at = p->x;
    s.arrays[0].row = (size_t)K * sizeof(float);
    s.arrays[1].at = p->y;
    s.arrays[1].row = (size_t)N * sizeof(float);
    s.space = SP_CHAIN_ROWS * (size_t)K * sizeof(float);
    sp_step_run(be, &s, sp_chain_total(be), SP_CHAIN_ROWS);
    return SPAR_OK;
}

/* ---- dw = or += dy^T x ---- */

/* A step: rows of x into its panels, over all T. */
typedef struct gathering {
    const sp_simd *simd;
    int64_t in, T;
    float *b;
} gathering;

static int gather_rows(const void *job, const sp_rows *r) {
    const gathering *g = job;
    const sp_paneling p = {.x = (const float *)(const void *)r->at[0],
                           .x_row = g->in,
                           .N = g->in,
                           .K = g->T,
                           .k0 = r->row0,
                           .k_rows = r->n,
                           .to = g->b};
    g->simd->panels_rows(&p);
    return 0;
}

static int64_t tasks_of(const sp_panels_dw *d) {
    return sp_ceil_div(d->out, DW_OUTPUTS);
}

/* A task's outputs, over all rows; dy's columns are laid out in the worker's space. */
static void multiply_outputs(const sp_simd *simd, const sp_panels_dw *d, int64_t task,
                             float *space) {
    const int64_t m0 = d->out * task / tasks_of(d), M = d->out * (task + 1) / tasks_of(d) - m0;
    for (int64_t t0 = 0; t0 < d->T; t0 += DW_DEPTH) {
        const int64_t K = sp_min64(DW_DEPTH, d->T - t0);
        const sp_tiling a = {.x = d->dy + t0 * d->out + m0,
                             .x_row = d->out,
                             .M = M,
                             .K = K,
                             .k_rows = K,
                             .to = space};
        const sp_panels_product p = {.M = M,
                                     .N = d->in,
                                     .K = K,
                                     .a = space,
                                     .b = d->b + t0 * simd->panel,
                                     .b_panel = d->T * simd->panel,
                                     .c = d->dw + m0 * d->in,
                                     .c_row = d->in,
                                     .accumulate = d->accumulate || t0 > 0};
        simd->tiles_columns(&a);
        simd->panels_product(&p);
    }
}

static void product_task(void *context, int task, int worker) {
    const sp_tuned *t = context;
    const sp_panels_dw *d = t->panels_dw.items;
    while (task >= tasks_of(d)) {
        task -= (int)tasks_of(d);
        d++;
    }
    multiply_outputs(&t->simd, d, task, t->panels_dw.space + worker * DW_OUTPUTS * DW_DEPTH);
}

static spar_status run_products(sp_backend *be, const void *job, spar_error *err) {
    (void)job;
    sp_tuned *t = tuned_of(be);
    void *space = NULL;
    int64_t tasks = 0;
    const spar_status status =
        sp_tuned_scratch(be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(be->pool),
                         DW_OUTPUTS * DW_DEPTH * sizeof(float), &space, err);
    if (status != SPAR_OK) {
        return status;
    }
    for (int i = 0; i < t->panels_dw.n; i++) {
        tasks += tasks_of(&t->panels_dw.items[i]);
    }
    t->panels_dw.space = space;
    sp_pool_run(be->pool, (int)tasks, product_task, t);
    t->panels_dw.n = 0;
    return SPAR_OK;
}

/* An earlier product of this chain over the same x. */
static const sp_panels_dw *same_x(const sp_panels_dw_list *l, const float *x, int64_t in) {
    for (int i = 0; i < l->n; i++) {
        if (l->items[i].x == x && l->items[i].in == in) {
            return &l->items[i];
        }
    }
    return NULL;
}

/* x's panels: those of an earlier product, or a step that makes them. */
static spar_status gather(sp_backend *be, sp_panels_dw *d, spar_error *err) {
    const sp_panels_dw_list *l = &tuned_of(be)->panels_dw;
    const sp_simd *simd = &tuned_of(be)->simd;
    const sp_panels_dw *same = same_x(l, d->x, d->in);
    void *memory = NULL;
    if (same != NULL) {
        d->b = same->b;
        return SPAR_OK;
    }
    const spar_status status = sp_tuned_scratch(
        be, SP_SCRATCH_DW + l->n, sp_panels_floats(simd, d->T, d->in), sizeof(float), &memory, err);
    if (status == SPAR_OK) {
        const gathering g = {simd, d->in, d->T, memory};
        d->b = memory;
        sp_step s;
        sp_step_init(&s, gather_rows, &g, sizeof g);
        s.arrays[0].at = d->x;
        s.arrays[0].row = (size_t)d->in * sizeof(float);
        sp_step_run(be, &s, d->T, GATHER_ROWS);
    }
    return status;
}

spar_status sp_panels_linear_dw(sp_backend *be, int64_t out, int64_t in, const float *dy,
                                const float *x, int64_t T, float *dw, bool accumulate,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    sp_panels_dw_list *list = &tuned_of(be)->panels_dw;
    if (!sp_chain_deferred(be)) {
        list->n = 0;
    } else if (list->n == 0) {
        SPAR_TRY(sp_chain_after(be, run_products, NULL, 0, err));
    }
    if (list->n == SP_DW_MAX) {
        return spar_fail(err, SPAR_INTERNAL, "a chain has more than %d weights", SP_DW_MAX);
    }
    sp_panels_dw *d = &list->items[list->n];
    *d = (sp_panels_dw){
        .out = out, .in = in, .T = T, .dy = dy, .x = x, .dw = dw, .accumulate = accumulate};
    SPAR_TRY(gather(be, d, err));
    list->n++;
    if (!sp_chain_deferred(be)) {
        SPAR_TRY(run_products(be, NULL, err));
    }
done:
    return status;
}
