#include "backend/cpu/elementwise.h"

#include <string.h>

#include "backend/cpu/columns.h"
#include "backend/cpu/dropout.h"
#include "backend/cpu/sizes.h"
#include "backend/cpu/tuned.h"

/* Chunks are cut by these sizes alone, so that sums over chunks have a fixed order. */
enum {
    CHUNK = 1 << 14, /* elements of a task */
    NORM_ROWS = 64,  /* rows whose dg is summed as one partial */
    COLUMNS = 256,   /* columns of a task that adds rows in order */
    XIELU_RUN = 1024 /* elements that are summed before they join the sum of others */
};

static const sp_simd *simd_of(const sp_backend *be) {
    return &((const sp_tuned *)be->state)->simd;
}

static int tasks_of(int64_t n, int64_t chunk) {
    return (int)((n + chunk - 1) / chunk);
}

/* Rows of `width` elements that make a task of about CHUNK elements. */
static int64_t rows_of(int64_t width) {
    return width >= CHUNK ? 1 : CHUNK / (width < 1 ? 1 : width);
}

/* ---- row-wise ops: steps, which a chain may put off ---- */

/* The arguments of any of them; each uses the fields that it needs. width: elements of a row. */
typedef struct row_job {
    const sp_simd *simd;
    const float *g, *shift, *bias;
    float *dg; /* partial sums by chunk, or NULL: of the gain, then of the bias */
    sp_rotation rotation;
    int64_t width, dim, chunk;
    float eps, sign, factor;
    sp_head_gains gains;
    int n_heads, head_dim;
    sp_act act;
    bool bf16, accumulate, has_bias;
} row_job;

/* n elements as rows of a batch in a chain, and as rows of one element elsewhere. */
static int64_t rows_in(const sp_backend *be, int64_t n) {
    return sp_chain_deferred(be) ? sp_chain_total(be) : n;
}

static void add_array(sp_step *s, const void *at, size_t row) {
    int i = 0;
    while (s->arrays[i].at != NULL) {
        i++;
    }
    s->arrays[i].at = at;
    s->arrays[i].row = row;
}

static bool is_bf16(const sp_backend *be) {
    return be->compute == SP_COMPUTE_BF16;
}

static row_job flat_job(const sp_backend *be, int64_t n) {
    return (row_job){.simd = simd_of(be), .width = n / rows_in(be, n), .bf16 = is_bf16(be)};
}

static void flat_step(sp_backend *be, sp_step *s, sp_step_fn run, float factor, int64_t n) {
    row_job j = flat_job(be, n);
    j.factor = factor;
    sp_step_init(s, run, &j, sizeof j);
}

static void glu_step(sp_backend *be, sp_step *s, sp_step_fn run, sp_act act, int64_t n) {
    row_job j = flat_job(be, n);
    j.act = act;
    sp_step_init(s, run, &j, sizeof j);
}

static void run_flat(sp_backend *be, const sp_step *s, int64_t n) {
    sp_step_run(be, s, rows_in(be, n), CHUNK);
}

/* Bytes of a row of a flat array. */
static size_t flat_row(const sp_backend *be, int64_t n, size_t size) {
    return (size_t)(n / rows_in(be, n)) * size;
}

static float *floats(const sp_rows *r, int i) {
    return (float *)(void *)r->at[i];
}

static int to_operand_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->scale(floats(r, 0), r->n * j->width, j->factor, r->at[1], j->bf16);
    return 0;
}

/* A step over n floats x, and y beside them, of y_size bytes each; y NULL: none. */
static void run_beside(sp_backend *be, sp_step_fn rows, float factor, int64_t n, const float *x,
                       const void *y, size_t y_size) {
    sp_step s;
    if (n == 0) {
        return;
    }
    flat_step(be, &s, rows, factor, n);
    add_array(&s, x, flat_row(be, n, sizeof *x));
    if (y != NULL) {
        add_array(&s, y, flat_row(be, n, y_size));
    }
    run_flat(be, &s, n);
}

static void to_operand(sp_backend *be, const float *x, int64_t n, float factor, void *y) {
    run_beside(be, to_operand_rows, factor, n, x, y, be->operand_size);
}

static int copy_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    memcpy(r->at[1], r->at[0], (size_t)(r->n * j->width) * sizeof(float));
    return 0;
}

static void copy(sp_backend *be, const float *x, int64_t n, float *y) {
    run_beside(be, copy_rows, 1, n, x, y, sizeof *y);
}

static int add_scaled_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->add_scaled(floats(r, 0), r->n * j->width, j->factor, floats(r, 1));
    return 0;
}

static void add_scaled(sp_backend *be, const float *x, int64_t n, float factor, float *y) {
    run_beside(be, add_scaled_rows, factor, n, x, y, sizeof *y);
}

/* Without the second array r->at[1] is NULL. */
static int clip_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->clip(floats(r, 0), r->n * j->width, j->factor, (uint8_t *)r->at[1]);
    return 0;
}

/* The bound is the job's factor. */
static void clip(sp_backend *be, float *x, int64_t n, float bound, uint8_t *kept) {
    run_beside(be, clip_rows, bound, n, x, kept, sizeof *kept);
}

static int clip_bwd_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->clip_bwd(floats(r, 0), r->n * j->width, (const uint8_t *)r->at[1]);
    return 0;
}

static void clip_bwd(sp_backend *be, float *dx, int64_t n, const uint8_t *kept) {
    run_beside(be, clip_bwd_rows, 1, n, dx, kept, sizeof *kept);
}

static int glu_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->glu(j->act, floats(r, 0), floats(r, 1), r->n * j->width, r->at[2], r->at[3], r->at[4],
                 j->bf16);
    return 0;
}

static void glu(sp_backend *be, sp_act act, const float *gate, const float *up, int64_t n, void *y,
                void *kept_gate, void *kept_up) {
    sp_step s;
    if (n == 0) {
        return;
    }
    glu_step(be, &s, glu_rows, act, n);
    add_array(&s, gate, flat_row(be, n, sizeof *gate));
    add_array(&s, up, flat_row(be, n, sizeof *up));
    add_array(&s, y, flat_row(be, n, be->operand_size));
    if (kept_gate != NULL) {
        add_array(&s, kept_gate, flat_row(be, n, be->operand_size));
        add_array(&s, kept_up, flat_row(be, n, be->operand_size));
    }
    run_flat(be, &s, n);
}

static int glu_kept_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->glu_kept(j->act, r->at[0], r->at[1], r->n * j->width, r->at[2], j->bf16);
    return 0;
}

static void glu_kept(sp_backend *be, sp_act act, const void *gate, const void *up, int64_t n,
                     void *y) {
    sp_step s;
    if (n == 0) {
        return;
    }
    glu_step(be, &s, glu_kept_rows, act, n);
    add_array(&s, gate, flat_row(be, n, be->operand_size));
    add_array(&s, up, flat_row(be, n, be->operand_size));
    add_array(&s, y, flat_row(be, n, be->operand_size));
    run_flat(be, &s, n);
}

static int glu_bwd_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->glu_bwd(j->act, r->at[0], r->at[1], floats(r, 2), r->n * j->width, r->at[3], r->at[4],
                     j->bf16);
    return 0;
}

static void glu_bwd(sp_backend *be, sp_act act, const void *gate, const void *up, const float *dy,
                    int64_t n, void *dgate, void *dup) {
    sp_step s;
    if (n == 0) {
        return;
    }
    glu_step(be, &s, glu_bwd_rows, act, n);
    add_array(&s, gate, flat_row(be, n, be->operand_size));
    add_array(&s, up, flat_row(be, n, be->operand_size));
    add_array(&s, dy, flat_row(be, n, sizeof *dy));
    add_array(&s, dgate, flat_row(be, n, be->operand_size));
    add_array(&s, dup, flat_row(be, n, be->operand_size));
    run_flat(be, &s, n);
}

static int activate_kept_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->activate_kept(j->act, r->at[0], r->n * j->width, r->at[1], j->bf16);
    return 0;
}

static void activate_kept(sp_backend *be, sp_act act, const void *x, int64_t n, void *y) {
    sp_step s;
    if (n == 0) {
        return;
    }
    glu_step(be, &s, activate_kept_rows, act, n);
    add_array(&s, x, flat_row(be, n, be->operand_size));
    add_array(&s, y, flat_row(be, n, be->operand_size));
    run_flat(be, &s, n);
}

static int activate_bwd_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->activate_bwd(j->act, r->at[0], floats(r, 1), r->n * j->width, r->at[2], j->bf16);
    return 0;
}

static void activate_bwd(sp_backend *be, sp_act act, const void *x, const float *dy, int64_t n,
                         void *dx) {
    sp_step s;
    if (n == 0) {
        return;
    }
    glu_step(be, &s, activate_bwd_rows, act, n);
    add_array(&s, x, flat_row(be, n, be->operand_size));
    add_array(&s, dy, flat_row(be, n, sizeof *dy));
    add_array(&s, dx, flat_row(be, n, be->operand_size));
    run_flat(be, &s, n);
}

static int rmsnorm_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->rmsnorm(floats(r, 0), j->g, r->n * (j->width / j->dim), j->dim, j->eps, r->at[1],
                     j->bf16, floats(r, 2));
    return 0;
}

/* n norms of dim elements each. */
static void run_rmsnorm(sp_backend *be, const float *x, const float *g, int64_t n, int64_t dim,
                        float eps, void *y, bool bf16, float *rstd) {
    sp_step s;
    if (n == 0) {
        return;
    }
    const int64_t rows = rows_in(be, n), width = n / rows * dim;
    const row_job j = {
        .simd = simd_of(be), .g = g, .width = width, .dim = dim, .eps = eps, .bf16 = bf16};
    sp_step_init(&s, rmsnorm_rows, &j, sizeof j);
    add_array(&s, x, (size_t)width * sizeof *x);
    add_array(&s, y, (size_t)width * (bf16 ? sizeof(uint16_t) : sizeof(float)));
    add_array(&s, rstd, (size_t)(n / rows) * sizeof *rstd);
    sp_step_run(be, &s, rows, rows_of(dim));
}

static void rmsnorm(sp_backend *be, const float *x, const float *g, int64_t n, int64_t dim,
                    float eps, void *y, float *rstd) {
    run_rmsnorm(be, x, g, n, dim, eps, y, is_bf16(be), rstd);
}

static void rmsnorm_f32(sp_backend *be, const float *x, const float *g, int64_t n, int64_t dim,
                        float eps, float *y, float *rstd) {
    run_rmsnorm(be, x, g, n, dim, eps, y, false, rstd);
}

static int layernorm_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->layernorm(floats(r, 0), j->shift, j->g, j->bias, r->n * (j->width / j->dim), j->dim,
                       j->eps, floats(r, 1), r->at[2], j->bf16);
    return 0;
}

static void layernorm(sp_backend *be, const float *x, const float *shift, const float *g,
                      const float *bias, int64_t n, int64_t dim, float eps, float *y, void *z) {
    sp_step s;
    if (n == 0) {
        return;
    }
    const int64_t rows = rows_in(be, n), width = n / rows * dim;
    const row_job j = {.simd = simd_of(be),
                       .g = g,
                       .shift = shift,
                       .bias = bias,
                       .width = width,
                       .dim = dim,
                       .eps = eps,
                       .bf16 = is_bf16(be)};
    sp_step_init(&s, layernorm_rows, &j, sizeof j);
    add_array(&s, x, (size_t)width * sizeof *x);
    add_array(&s, y, (size_t)width * sizeof *y);
    if (z != NULL) {
        add_array(&s, z, (size_t)width * be->operand_size);
    }
    sp_step_run(be, &s, rows, rows_of(dim));
}

static int activate_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    const size_t size = j->bf16 ? sizeof(uint16_t) : sizeof(float);
    for (int64_t i = 0; i < r->n * j->width; i += j->dim) {
        j->simd->activate(j->act, floats(r, 0) + i, j->shift, j->dim, r->at[1] + (size_t)i * size,
                          j->bf16);
    }
    return 0;
}

static void activate(sp_backend *be, sp_act act, const float *x, const float *shift, int64_t n,
                     int64_t dim, bool f32, void *y) {
    sp_step s;
    if (n == 0) {
        return;
    }
    const int64_t rows = rows_in(be, n), width = n / rows * dim;
    const row_job j = {.simd = simd_of(be),
                       .shift = shift,
                       .width = width,
                       .dim = dim,
                       .act = act,
                       .bf16 = is_bf16(be) && !f32};
    sp_step_init(&s, activate_rows, &j, sizeof j);
    add_array(&s, x, (size_t)width * sizeof *x);
    add_array(&s, y, (size_t)width * (j.bf16 ? sizeof(uint16_t) : sizeof(float)));
    sp_step_run(be, &s, rows, rows_of(dim));
}

static int layernorm_operand_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->layernorm_operand(floats(r, 0), j->g, j->bias, r->n, j->dim, j->eps, r->at[1], j->bf16,
                               floats(r, 2));
    return 0;
}

static void layernorm_operand(sp_backend *be, const float *x, const float *g, const float *bias,
                              int64_t n, int64_t dim, float eps, void *y, float *rstd) {
    sp_step s;
    if (n == 0) {
        return;
    }
    const row_job j = {
        .simd = simd_of(be), .g = g, .bias = bias, .dim = dim, .eps = eps, .bf16 = is_bf16(be)};
    sp_step_init(&s, layernorm_operand_rows, &j, sizeof j);
    add_array(&s, x, (size_t)dim * sizeof *x);
    add_array(&s, y, (size_t)dim * be->operand_size);
    add_array(&s, rstd, sizeof *rstd);
    sp_step_run(be, &s, n, rows_of(dim));
}

static int layernorm_heads_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    const sp_head_gains *g = &j->gains;
    for (int64_t i = 0; i < r->n * g->heads; i++) {
        j->simd->layernorm_operand(floats(r, 0) + i * g->dim, g->at + i % g->heads * g->step, NULL,
                                   1, g->dim, j->eps, floats(r, 1) + i * g->dim, false,
                                   floats(r, 2) + i);
    }
    return 0;
}

static void layernorm_heads(sp_backend *be, const float *x, const sp_head_gains *g, int64_t n,
                            float eps, float *y, float *rstd) {
    sp_step s;
    if (n == 0) {
        return;
    }
    const int64_t width = (int64_t)g->heads * g->dim;
    const row_job j = {.simd = simd_of(be), .gains = *g, .eps = eps};
    sp_step_init(&s, layernorm_heads_rows, &j, sizeof j);
    add_array(&s, x, (size_t)width * sizeof *x);
    add_array(&s, y, (size_t)width * sizeof *y);
    add_array(&s, rstd, (size_t)g->heads * sizeof *rstd);
    sp_step_run(be, &s, n, rows_of(width));
}

/* Floats of one chunk's partial sums. */
static int64_t sums_of(const row_job *j) {
    return j->dim * (j->has_bias ? 2 : 1);
}

static int rmsnorm_bwd_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    float *dg = j->dg == NULL ? NULL : j->dg + r->row0 / j->chunk * sums_of(j);
    j->simd->rmsnorm_bwd(floats(r, 0), j->g, floats(r, 1), floats(r, 2), r->n * (j->width / j->dim),
                         j->dim, floats(r, 3), j->accumulate, dg);
    return 0;
}

static int layernorm_bwd_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    float *dg = j->dg == NULL ? NULL : j->dg + r->row0 / j->chunk * sums_of(j);
    j->simd->layernorm_bwd(floats(r, 0), j->g, floats(r, 1), floats(r, 2), r->n, j->dim,
                           floats(r, 3), j->accumulate, dg,
                           dg != NULL && j->has_bias ? dg + j->dim : NULL);
    return 0;
}

static int layernorm_heads_bwd_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    const sp_head_gains *g = &j->gains;
    float *dg = j->dg == NULL ? NULL : j->dg + r->row0 / j->chunk * sums_of(j);
    for (int64_t i = 0; i < r->n * g->heads; i++) {
        const int64_t of_head = i % g->heads * g->step;
        j->simd->layernorm_bwd(floats(r, 0) + i * g->dim, g->at + of_head, floats(r, 1) + i,
                               floats(r, 2) + i * g->dim, 1, g->dim, floats(r, 3) + i * g->dim,
                               false, dg == NULL ? NULL : dg + of_head, NULL);
    }
    return 0;
}

typedef struct gain_sum {
    const float *partial;
    float *dg, *dbias; /* dbias NULL: there is none */
    int64_t chunks, dim;
} gain_sum;

static spar_status add_gains(sp_backend *be, const void *job, spar_error *err) {
    (void)err;
    const gain_sum *s = job;
    const int64_t width = s->dim * (s->dbias != NULL ? 2 : 1);
    for (int64_t i = 0; i < s->chunks; i++) {
        simd_of(be)->add(s->partial + i * width, s->dim, s->dg);
        if (s->dbias != NULL) {
            simd_of(be)->add(s->partial + i * width + s->dim, s->dim, s->dbias);
        }
    }
    return SPAR_OK;
}

/* The sums go where they are wanted. */
static void one_norm_bwd(sp_step_fn run, row_job *j, const float *const arrays[4], int64_t rows,
                         float *dg, float *dbias) {
    sp_rows all = {.n = rows};
    for (int i = 0; i < 4; i++) {
        all.at[i] = (char *)(uintptr_t)arrays[i];
    }
    if (run == layernorm_bwd_rows) {
        j->simd->layernorm_bwd(floats(&all, 0), j->g, floats(&all, 1), floats(&all, 2), rows,
                               j->dim, floats(&all, 3), j->accumulate, dg, dbias);
        return;
    }
    j->dg = dg;
    (void)run(j, &all);
}

/* The gradients of n norms; *j has g (or gains), dim and what is set by the kind. Chunks of rows
 * sum dg (and dbias) apart; the partial sums are added in the order of the chunks. Where there is
 * no memory for them, one task does all rows: the op cannot fail. */
static void run_norm_bwd(sp_backend *be, sp_step_fn run, row_job *j, const float *x,
                         const float *rstd, const float *dy, int64_t n, float *dx, float *dg,
                         float *dbias) {
    sp_step s;
    int64_t last;
    if (n == 0) {
        return;
    }
    const float *const arrays[] = {x, rstd, dy, dx};
    const int64_t dim = j->dim, rows = rows_in(be, n), heads = j->gains.heads;
    const int64_t least = NORM_ROWS > rows_of(dim) ? NORM_ROWS : rows_of(dim);
    const int64_t norms = heads > 0 ? heads : n / rows; /* of a row */
    j->simd = simd_of(be);
    j->width = heads > 0 ? heads * j->gains.dim : norms * dim;
    j->chunk = sp_chain_deferred(be) ? sp_chain_block(be, &last) : least;
    j->has_bias = dbias != NULL;
    const size_t cells = (size_t)(tasks_of(rows, j->chunk) * sums_of(j));
    if (dg != NULL) {
        void *partial = NULL;
        if (sp_tuned_scratch(be, sp_chain_partial_slot(be), cells, sizeof(float), &partial, NULL) ==
            SPAR_OK) {
            memset(partial, 0, cells * sizeof(float));
            j->dg = partial;
        } else if (sp_chain_deferred(be)) {
            sp_chain_fail(be);
            return;
        } else {
            one_norm_bwd(run, j, arrays, rows, dg, dbias);
            return;
        }
    }
    sp_step_init(&s, run, j, sizeof *j);
    for (int i = 0; i < 4; i++) {
        add_array(&s, arrays[i], (size_t)(i == 1 ? norms : j->width) * sizeof(float));
    }
    sp_step_run(be, &s, rows, j->chunk);
    if (dg != NULL) {
        const gain_sum sum = {.partial = j->dg,
                              .dg = dg,
                              .dbias = dbias,
                              .chunks = tasks_of(rows, j->chunk),
                              .dim = dim};
        (void)sp_chain_after(be, add_gains, &sum, sizeof sum, NULL);
    }
}

static void rmsnorm_bwd(sp_backend *be, const float *x, const float *g, const float *rstd,
                        const float *dy, int64_t n, int64_t dim, float *dx, bool accumulate,
                        float *dg) {
    row_job j = {.g = g, .dim = dim, .accumulate = accumulate};
    run_norm_bwd(be, rmsnorm_bwd_rows, &j, x, rstd, dy, n, dx, dg, NULL);
}

static void layernorm_bwd(sp_backend *be, const float *x, const float *g, const float *rstd,
                          const float *dy, int64_t n, int64_t dim, float *dx, bool accumulate,
                          float *dg, float *dbias) {
    row_job j = {.g = g, .dim = dim, .accumulate = accumulate};
    run_norm_bwd(be, layernorm_bwd_rows, &j, x, rstd, dy, n, dx, dg, dbias);
}

static void layernorm_heads_bwd(sp_backend *be, const float *x, const sp_head_gains *g,
                                const float *rstd, const float *dy, int64_t n, float *dx,
                                float *dg) {
    row_job j = {.gains = *g, .dim = (g->heads - 1) * g->step + g->dim};
    run_norm_bwd(be, layernorm_heads_bwd_rows, &j, x, rstd, dy, n, dx, dg, NULL);
}

/* sums: of chunks, two each. */
typedef struct xielu_job {
    const sp_simd *simd;
    sp_xielu p;
    int64_t width, chunk;
    float *sums;
    bool kept, bf16;
} xielu_job;

static int xielu_rows(const void *job, const sp_rows *r) {
    const xielu_job *j = job;
    j->simd->xielu(&j->p, r->at[0], j->kept, r->n * j->width, r->at[1], j->bf16);
    return 0;
}

static void xielu(sp_backend *be, const sp_xielu *p, const void *x, bool kept, int64_t n, void *y) {
    sp_step s;
    if (n == 0) {
        return;
    }
    const xielu_job j = {.simd = simd_of(be),
                         .p = *p,
                         .width = n / rows_in(be, n),
                         .kept = kept,
                         .bf16 = is_bf16(be)};
    sp_step_init(&s, xielu_rows, &j, sizeof j);
    add_array(&s, x, flat_row(be, n, kept ? be->operand_size : sizeof(float)));
    add_array(&s, y, flat_row(be, n, be->operand_size));
    run_flat(be, &s, n);
}

static int xielu_bwd_rows(const void *job, const sp_rows *r) {
    const xielu_job *j = job;
    const size_t operand = j->bf16 ? sizeof(uint16_t) : sizeof(float);
    const int64_t n = r->n * j->width;
    float *sums = j->sums + 2 * (r->row0 / j->chunk);
    for (int64_t i = 0; i < n; i += XIELU_RUN) {
        const int64_t some = n - i < XIELU_RUN ? n - i : XIELU_RUN;
        j->simd->xielu_bwd(&j->p, r->at[0] + (size_t)i * operand, floats(r, 1) + i, some,
                           r->at[2] + (size_t)i * operand, j->bf16, sums);
    }
    return 0;
}

typedef struct xielu_sum {
    const float *sums; /* [chunks, 2] */
    float *dpositive, *dnegative;
    float by_positive, by_negative;
    int64_t chunks;
} xielu_sum;

static spar_status add_xielu(sp_backend *be, const void *job, spar_error *err) {
    (void)be, (void)err;
    const xielu_sum *s = job;
    double positive = 0, negative = 0;
    for (int64_t i = 0; i < s->chunks; i++) {
        positive += (double)s->sums[2 * i];
        negative += (double)s->sums[2 * i + 1];
    }
    *s->dpositive += (float)positive * s->by_positive;
    *s->dnegative += (float)negative * s->by_negative;
    return SPAR_OK;
}

/* Sums of chunks are added in their order. Where there is no memory for them, one chunk has all. */
static void xielu_bwd(sp_backend *be, const sp_xielu *p, const void *x, const float *dy, int64_t n,
                      void *dx, float *dpositive, float *dnegative) {
    sp_step s;
    int64_t last;
    float both[2] = {0};
    void *partial = NULL;
    if (n == 0) {
        return;
    }
    const int64_t rows = rows_in(be, n);
    const bool deferred = sp_chain_deferred(be);
    xielu_job j = {.simd = simd_of(be), .p = *p, .width = n / rows, .bf16 = is_bf16(be)};
    j.chunk = deferred ? sp_chain_block(be, &last) : CHUNK;
    const size_t cells = 2 * (size_t)tasks_of(rows, j.chunk);
    if (sp_tuned_scratch(be, sp_chain_partial_slot(be), cells, sizeof(float), &partial, NULL) !=
        SPAR_OK) {
        if (deferred) {
            sp_chain_fail(be);
            return;
        }
        partial = both;
        j.chunk = rows;
    }
    j.sums = partial;
    memset(partial, 0, j.chunk == rows ? sizeof both : cells * sizeof(float));
    sp_step_init(&s, xielu_bwd_rows, &j, sizeof j);
    add_array(&s, x, flat_row(be, n, be->operand_size));
    add_array(&s, dy, flat_row(be, n, sizeof *dy));
    add_array(&s, dx, flat_row(be, n, be->operand_size));
    sp_step_run(be, &s, rows, j.chunk);
    if (dpositive != NULL) {
        const xielu_sum sum = {.sums = j.sums,
                               .dpositive = dpositive,
                               .dnegative = dnegative,
                               .by_positive = p->by_positive,
                               .by_negative = p->by_negative,
                               .chunks = tasks_of(rows, j.chunk)};
        (void)sp_chain_after(be, add_xielu, &sum, sizeof sum, NULL);
    }
}

static int rope_rows(const void *job, const sp_rows *r) {
    const row_job *j = job;
    j->simd->rope(floats(r, 0), r->n, j->n_heads, j->head_dim, &j->rotation,
                  (const int32_t *)(void *)r->at[1], j->sign);
    return 0;
}

static void rope(sp_backend *be, float *x, int64_t T, int n_heads, int head_dim,
                 const sp_rotation *rotation, const int32_t *positions, float sign) {
    const int64_t width = (int64_t)n_heads * head_dim;
    const row_job j = {.simd = simd_of(be),
                       .rotation = *rotation,
                       .sign = sign,
                       .n_heads = n_heads,
                       .head_dim = head_dim};
    sp_step s;
    sp_step_init(&s, rope_rows, &j, sizeof j);
    add_array(&s, x, (size_t)width * sizeof *x);
    add_array(&s, positions, sizeof *positions);
    sp_step_run(be, &s, T, rows_of(width));
}

/* ---- ops that run at once ---- */

/* The arguments of any of them; each uses the fields that it needs. */
typedef struct job {
    const sp_simd *simd;
    const float *x, *g, *up, *dy;
    const int32_t *ids;
    const int64_t *rows;
    int64_t n, dim, chunk;
    float *f, factor;
    bool accumulate;
} job;

static void embed_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t end = sp_min64(j->n, (task + 1) * j->chunk);
    for (int64_t t = task * j->chunk; t < end; t++) {
        const int64_t row = j->ids != NULL ? j->ids[t] : j->rows[t];
        j->simd->scale(j->x + row * j->dim, j->dim, j->factor, j->f + t * j->dim, false);
    }
}

static void embed(sp_backend *be, const sp_weight *table, const int32_t *ids, int64_t T,
                  float factor, float *x) {
    const int64_t H = table->in;
    job j = {.simd = simd_of(be),
             .x = table->data,
             .ids = ids,
             .n = T,
             .dim = H,
             .chunk = rows_of(H),
             .f = x,
             .factor = factor};
    if (table->data != NULL) {
        sp_pool_run(be->pool, tasks_of(T, j.chunk), embed_task, &j);
        return;
    }
    for (int64_t t = 0; t < T; t++) {
        sp_blocks_row(table->blocks, ids[t], x + t * H);
    }
    j.simd->scale(x, T * H, factor, x, false);
}

static void embed_add_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t end = sp_min64(j->n, (task + 1) * j->chunk);
    for (int64_t t = task * j->chunk; t < end; t++) {
        j->simd->add(j->x + j->ids[t] * j->dim, j->dim, j->f + t * j->dim);
    }
}

static void embed_add(sp_backend *be, const float *table, const int32_t *ids, int64_t T, int64_t H,
                      float *x) {
    job j = {.simd = simd_of(be), .x = table, .ids = ids, .n = T, .dim = H, .f = x};
    j.chunk = rows_of(H);
    sp_pool_run(be->pool, tasks_of(T, j.chunk), embed_add_task, &j);
}

static void gather(sp_backend *be, const float *x, const int64_t *rows, int64_t n_rows, int64_t H,
                   float *y) {
    job j = {.simd = simd_of(be),
             .x = x,
             .rows = rows,
             .n = n_rows,
             .dim = H,
             .chunk = rows_of(H),
             .f = y,
             .factor = 1};
    sp_pool_run(be->pool, tasks_of(n_rows, j.chunk), embed_task, &j);
}

/* Rows may repeat, so tasks own columns and walk the rows in order. */
static void scatter_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t at = (int64_t)task * COLUMNS, n = sp_min64(COLUMNS, j->dim - at);
    for (int64_t t = 0; t < j->n; t++) {
        const int64_t row = j->ids != NULL ? j->ids[t] : j->rows[t];
        j->simd->add_scaled(j->dy + t * j->dim + at, n, j->factor, j->f + row * j->dim + at);
    }
}

static void embed_dw(sp_backend *be, const int32_t *ids, int64_t T, int64_t H, const float *dx,
                     float factor, float *dtable) {
    job j = {.simd = simd_of(be), .ids = ids, .n = T, .dim = H, .dy = dx, .f = dtable};
    j.factor = factor;
    sp_pool_run(be->pool, tasks_of(H, COLUMNS), scatter_task, &j);
}

static void scatter_add(sp_backend *be, const float *dy, const int64_t *rows, int64_t n_rows,
                        int64_t H, float *dx) {
    job j = {.simd = simd_of(be), .rows = rows, .n = n_rows, .dim = H, .dy = dy, .f = dx};
    j.factor = 1;
    sp_pool_run(be->pool, tasks_of(H, COLUMNS), scatter_task, &j);
}

typedef struct form_job {
    const sp_simd *simd;
    const sp_logit_form *form;
    int64_t n;
    float *x;
} form_job;

static void form_task(void *context, int task, int worker) {
    (void)worker;
    const form_job *j = context;
    const int64_t at = (int64_t)task * CHUNK;
    j->simd->form_logits(j->form, sp_min64(CHUNK, j->n - at), j->x + at);
}

static void form_logits(sp_backend *be, const sp_logit_form *form, int64_t n, float *x) {
    form_job j = {.simd = simd_of(be), .form = form, .n = n, .x = x};
    sp_pool_run(be->pool, tasks_of(n, CHUNK), form_task, &j);
}

typedef struct dropout_job {
    const sp_backend *be;
    const void *x;
    int64_t n;
    const sp_dropout *d;
    void *y; /* operand; or NULL */
    float *sum;
} dropout_job;

static void dropout_task(void *context, int task, int worker) {
    (void)worker;
    const dropout_job *j = context;
    const int64_t begin = (int64_t)task * CHUNK, end = sp_min64(j->n, begin + CHUNK);
    if (j->y != NULL) {
        sp_dropout_range(j->be, j->x, begin, end, j->d, j->y);
    } else {
        sp_dropout_add_range(j->x, begin, end, j->d, j->sum);
    }
}

static void dropout(sp_backend *be, const void *x, int64_t n, const sp_dropout *d, void *y) {
    dropout_job j = {.be = be, .x = x, .n = n, .d = d, .y = y};
    sp_pool_run(be->pool, tasks_of(n, CHUNK), dropout_task, &j);
}

static void dropout_add(sp_backend *be, const float *x, int64_t n, const sp_dropout *d, float *y) {
    dropout_job j = {.be = be, .x = x, .n = n, .d = d, .sum = y};
    sp_pool_run(be->pool, tasks_of(n, CHUNK), dropout_task, &j);
}

static void scale_columns_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t at = task * j->chunk;
    sp_columns_scale(j->x, j->g, j->up, at, sp_min64(j->n, at + j->chunk), j->dim, j->f,
                     j->accumulate);
}

static void scale_columns(sp_backend *be, const float *x, const float *g, const float *bias,
                          int64_t T, int64_t n, float *y, bool accumulate) {
    job j = {.x = x, .g = g, .up = bias, .n = T, .dim = n, .chunk = rows_of(n), .f = y};
    j.accumulate = accumulate;
    sp_pool_run(be->pool, tasks_of(T, j.chunk), scale_columns_task, &j);
}

typedef struct columns_job {
    const sp_backend *be;
    const float *x, *g;
    const void *dy;
    int64_t T, n;
    float *dg;
    void *dx;
} columns_job;

static void scale_columns_bwd_task(void *context, int task, int worker) {
    (void)worker;
    const columns_job *j = context;
    const int64_t at = (int64_t)task * COLUMNS;
    sp_columns_scale_bwd(j->be, j->x, j->g, j->dy, j->T, j->n, at, sp_min64(j->n, at + COLUMNS),
                         j->dg, j->dx);
}

static void scale_columns_bwd(sp_backend *be, const float *x, const float *g, const void *dy,
                              int64_t T, int64_t n, float *dg, void *dx) {
    columns_job j = {.be = be, .x = x, .g = g, .dy = dy, .T = T, .n = n, .dg = dg, .dx = dx};
    sp_pool_run(be->pool, tasks_of(n, COLUMNS), scale_columns_bwd_task, &j);
}

void sp_elementwise_fill(sp_ops *ops) {
    ops->scale_columns = scale_columns;
    ops->scale_columns_bwd = scale_columns_bwd;
    ops->dropout = dropout;
    ops->dropout_add = dropout_add;
    ops->to_operand = to_operand;
    ops->copy = copy;
    ops->add_scaled = add_scaled;
    ops->clip = clip;
    ops->clip_bwd = clip_bwd;
    ops->embed = embed;
    ops->form_logits = form_logits;
    ops->embed_add = embed_add;
    ops->embed_dw = embed_dw;
    ops->gather = gather;
    ops->scatter_add = scatter_add;
    ops->rmsnorm = rmsnorm;
    ops->rmsnorm_f32 = rmsnorm_f32;
    ops->rmsnorm_bwd = rmsnorm_bwd;
    ops->layernorm = layernorm;
    ops->activate = activate;
    ops->layernorm_operand = layernorm_operand;
    ops->layernorm_bwd = layernorm_bwd;
    ops->layernorm_heads = layernorm_heads;
    ops->layernorm_heads_bwd = layernorm_heads_bwd;
    ops->rope = rope;
    ops->glu = glu;
    ops->glu_kept = glu_kept;
    ops->glu_bwd = glu_bwd;
    ops->activate_kept = activate_kept;
    ops->activate_bwd = activate_bwd;
    ops->xielu = xielu;
    ops->xielu_bwd = xielu_bwd;
}
