#include "backend/cpu/elementwise.h"

#include <string.h>

#include "backend/cpu/columns.h"
#include "backend/cpu/dropout.h"
#include "backend/cpu/tuned.h"

/* Chunks are cut by these sizes alone, so that sums over chunks have a fixed order. */
enum {
    CHUNK = 1 << 14, /* elements of a task */
    NORM_ROWS = 64,  /* rows whose dg is summed as one partial */
    COLUMNS = 256    /* columns of a task that adds rows in order */
};

static const sp_simd *simd_of(const sp_backend *be) {
    return &((const sp_tuned *)be->state)->simd;
}

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int tasks_of(int64_t n, int64_t chunk) {
    return (int)((n + chunk - 1) / chunk);
}

/* Rows of `width` elements that make a task of about CHUNK elements. */
static int64_t rows_of(int64_t width) {
    return width >= CHUNK ? 1 : CHUNK / (width < 1 ? 1 : width);
}

/* The arguments of any element-wise op; each op uses the fields that it needs. */
typedef struct job {
    const sp_simd *simd;
    const float *x, *g, *up, *dy, *scale, *cos_table, *sin_table;
    const int32_t *ids;
    const int64_t *rows;
    int64_t n, dim, chunk;
    void *y, *dup;
    float *f, *rstd, *dg;
    float eps, sign;
    int n_heads, head_dim;
    bool bf16, accumulate;
} job;

static void *operand_at(const job *j, void *y, int64_t i) {
    return (char *)y + (size_t)i * (j->bf16 ? sizeof(uint16_t) : sizeof(float));
}

static void to_operand_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t at = task * j->chunk, n = min64(j->chunk, j->n - at);
    if (j->bf16) {
        j->simd->to_bf16(j->x + at, n, (uint16_t *)j->y + at);
    } else {
        memcpy((float *)j->y + at, j->x + at, (size_t)n * sizeof(float));
    }
}

static void to_operand(sp_backend *be, const float *x, int64_t n, void *y) {
    job j = {.simd = simd_of(be), .x = x, .n = n, .chunk = CHUNK, .y = y};
    j.bf16 = be->compute == SP_COMPUTE_BF16;
    sp_pool_run(be->pool, tasks_of(n, j.chunk), to_operand_task, &j);
}

static void embed_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t end = min64(j->n, (task + 1) * j->chunk);
    for (int64_t t = task * j->chunk; t < end; t++) {
        const int64_t row = j->ids != NULL ? j->ids[t] : j->rows[t];
        memcpy(j->f + t * j->dim, j->x + row * j->dim, (size_t)j->dim * sizeof(float));
    }
}

static void embed(sp_backend *be, const sp_weight *table, const int32_t *ids, int64_t T, float *x) {
    const int64_t H = table->in;
    job j = {.x = table->data, .ids = ids, .n = T, .dim = H, .chunk = rows_of(H), .f = x};
    if (table->data != NULL) {
        sp_pool_run(be->pool, tasks_of(T, j.chunk), embed_task, &j);
        return;
    }
    for (int64_t t = 0; t < T; t++) {
        sp_blocks_row(table->blocks, ids[t], x + t * H);
    }
}

static void gather(sp_backend *be, const float *x, const int64_t *rows, int64_t n_rows, int64_t H,
                   float *y) {
    job j = {.x = x, .rows = rows, .n = n_rows, .dim = H, .chunk = rows_of(H), .f = y};
    sp_pool_run(be->pool, tasks_of(n_rows, j.chunk), embed_task, &j);
}

/* Rows may repeat, so tasks own columns and walk the rows in order. */
static void scatter_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t at = (int64_t)task * COLUMNS, n = min64(COLUMNS, j->dim - at);
    for (int64_t t = 0; t < j->n; t++) {
        const int64_t row = j->ids != NULL ? j->ids[t] : j->rows[t];
        j->simd->add(j->dy + t * j->dim + at, n, j->f + row * j->dim + at);
    }
}

static void embed_dw(sp_backend *be, const int32_t *ids, int64_t T, int64_t H, const float *dx,
                     float *dtable) {
    job j = {.simd = simd_of(be), .ids = ids, .n = T, .dim = H, .dy = dx, .f = dtable};
    sp_pool_run(be->pool, tasks_of(H, COLUMNS), scatter_task, &j);
}

static void scatter_add(sp_backend *be, const float *dy, const int64_t *rows, int64_t n_rows,
                        int64_t H, float *dx) {
    job j = {.simd = simd_of(be), .rows = rows, .n = n_rows, .dim = H, .dy = dy, .f = dx};
    sp_pool_run(be->pool, tasks_of(H, COLUMNS), scatter_task, &j);
}

static void rmsnorm_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t at = task * j->chunk, n = min64(j->chunk, j->n - at);
    j->simd->rmsnorm(j->x + at * j->dim, j->g, n, j->dim, j->eps, operand_at(j, j->y, at * j->dim),
                     j->bf16, j->rstd + at);
}

static void run_rmsnorm(sp_backend *be, job *j) {
    j->simd = simd_of(be);
    j->chunk = rows_of(j->dim);
    sp_pool_run(be->pool, tasks_of(j->n, j->chunk), rmsnorm_task, j);
}

static void rmsnorm(sp_backend *be, const float *x, const float *g, int64_t n, int64_t dim,
                    float eps, void *y, float *rstd) {
    job j = {.x = x, .g = g, .n = n, .dim = dim, .eps = eps, .y = y, .rstd = rstd};
    j.bf16 = be->compute == SP_COMPUTE_BF16;
    run_rmsnorm(be, &j);
}

static void rmsnorm_f32(sp_backend *be, const float *x, const float *g, int64_t n, int64_t dim,
                        float eps, float *y, float *rstd) {
    job j = {.x = x, .g = g, .n = n, .dim = dim, .eps = eps, .y = y, .rstd = rstd};
    run_rmsnorm(be, &j);
}

static void rmsnorm_bwd_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t at = task * j->chunk, n = min64(j->chunk, j->n - at);
    float *dg = j->dg == NULL ? NULL : j->dg + task * j->dim;
    j->simd->rmsnorm_bwd(j->x + at * j->dim, j->g, j->scale + at, j->dy + at * j->dim, n, j->dim,
                         j->f + at * j->dim, j->accumulate, dg);
}

/* Tasks sum dg of their rows apart; the partial sums are added in the order of the tasks. */
static void rmsnorm_bwd(sp_backend *be, const float *x, const float *g, const float *rstd,
                        const float *dy, int64_t n, int64_t dim, float *dx, bool accumulate,
                        float *dg) {
    job j = {.simd = simd_of(be), .x = x, .g = g, .dy = dy, .n = n, .dim = dim, .f = dx};
    j.scale = rstd;
    j.accumulate = accumulate;
    j.chunk = NORM_ROWS > rows_of(dim) ? NORM_ROWS : rows_of(dim);
    const int tasks = tasks_of(n, j.chunk);
    void *partial = NULL;
    if (dg != NULL) {
        if (sp_tuned_scratch(be, SP_SCRATCH_PARTIAL, (size_t)(tasks * dim), sizeof(float), &partial,
                             NULL) != SPAR_OK) {
            /* The op cannot fail: without memory for partial sums one task does all rows. */
            j.simd->rmsnorm_bwd(x, g, rstd, dy, n, dim, dx, accumulate, dg);
            return;
        }
        memset(partial, 0, (size_t)(tasks * dim) * sizeof(float));
    }
    j.dg = partial;
    sp_pool_run(be->pool, tasks, rmsnorm_bwd_task, &j);
    for (int task = 0; dg != NULL && task < tasks; task++) {
        j.simd->add(j.dg + task * dim, dim, dg);
    }
}

static void rope_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t at = task * j->chunk, n = min64(j->chunk, j->n - at);
    j->simd->rope(j->f + at * j->dim, n, j->n_heads, j->head_dim, j->cos_table, j->sin_table,
                  j->ids + at, j->sign);
}

static void rope(sp_backend *be, float *x, int64_t T, int n_heads, int head_dim,
                 const float *cos_table, const float *sin_table, const int32_t *positions,
                 float sign) {
    job j = {.simd = simd_of(be), .n = T, .f = x, .ids = positions, .sign = sign};
    j.n_heads = n_heads;
    j.head_dim = head_dim;
    j.dim = (int64_t)n_heads * head_dim;
    j.chunk = rows_of(j.dim);
    j.cos_table = cos_table;
    j.sin_table = sin_table;
    sp_pool_run(be->pool, tasks_of(T, j.chunk), rope_task, &j);
}

static void swiglu_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t at = task * j->chunk, n = min64(j->chunk, j->n - at);
    j->simd->swiglu(j->x + at, j->up + at, n, operand_at(j, j->y, at), j->bf16);
}

static void swiglu(sp_backend *be, const float *gate, const float *up, int64_t n, void *y) {
    job j = {.simd = simd_of(be), .x = gate, .up = up, .n = n, .chunk = CHUNK, .y = y};
    j.bf16 = be->compute == SP_COMPUTE_BF16;
    sp_pool_run(be->pool, tasks_of(n, j.chunk), swiglu_task, &j);
}

static void swiglu_bwd_task(void *context, int task, int worker) {
    (void)worker;
    const job *j = context;
    const int64_t at = task * j->chunk, n = min64(j->chunk, j->n - at);
    j->simd->swiglu_bwd(j->x + at, j->up + at, j->dy + at, n, operand_at(j, j->y, at),
                        operand_at(j, j->dup, at), j->bf16);
}

static void swiglu_bwd(sp_backend *be, const float *gate, const float *up, const float *dy,
                       int64_t n, void *dgate, void *dup) {
    job j = {.simd = simd_of(be), .x = gate, .up = up, .dy = dy, .n = n, .chunk = CHUNK};
    j.y = dgate;
    j.dup = dup;
    j.bf16 = be->compute == SP_COMPUTE_BF16;
    sp_pool_run(be->pool, tasks_of(n, j.chunk), swiglu_bwd_task, &j);
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
    const int64_t begin = (int64_t)task * CHUNK, end = min64(j->n, begin + CHUNK);
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
    sp_columns_scale(j->x, j->g, j->up, at, min64(j->n, at + j->chunk), j->dim, j->f,
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
    sp_columns_scale_bwd(j->be, j->x, j->g, j->dy, j->T, j->n, at, min64(j->n, at + COLUMNS), j->dg,
                         j->dx);
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
    ops->embed = embed;
    ops->embed_dw = embed_dw;
    ops->gather = gather;
    ops->scatter_add = scatter_add;
    ops->rmsnorm = rmsnorm;
    ops->rmsnorm_f32 = rmsnorm_f32;
    ops->rmsnorm_bwd = rmsnorm_bwd;
    ops->rope = rope;
    ops->swiglu = swiglu;
    ops->swiglu_bwd = swiglu_bwd;
}
