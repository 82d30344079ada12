/* A task has some columns of all rows: entries do not mix, so that segments can be gone through in
 * order, each after those that it reads. */
#include "backend/cpu/short_conv.h"

#include <string.h>

#include "backend/cpu/conv_rows.h"
#include "backend/cpu/sizes.h"
#include "backend/cpu/tuned.h"

enum {
    COLUMNS = 64, /* of a task */
    RUN = 64      /* rows whose dw is summed before it joins the sum of others */
};

typedef struct conv_job {
    const sp_simd *simd;
    const sp_short_conv *a;
    const float *z, *dout;
    void *out;
    float *dz, *dw;
    bool bf16;
} conv_job;

/* What a task works with. w: its weights by tap, so that a tap's are neighbours. */
typedef struct piece {
    const conv_job *j;
    int64_t at, n; /* columns */
    float w[SP_CONV_TAPS][COLUMNS], u[COLUMNS], sum[COLUMNS];
} piece;

/* dw by tap: of a run of rows, and of all. */
typedef struct tap_sums {
    float run[SP_CONV_TAPS][COLUMNS], all[SP_CONV_TAPS][COLUMNS];
} tap_sums;

static void piece_begin(piece *p, const conv_job *j, int task) {
    const sp_short_conv *a = j->a;
    p->j = j;
    p->at = (int64_t)task * COLUMNS;
    p->n = sp_min64(COLUMNS, a->width - p->at);
    for (int64_t h = 0; h < p->n; h++) {
        for (int t = 0; t < a->taps; t++) {
            p->w[t][h] = a->w[(p->at + h) * a->taps + t];
        }
    }
}

/* The piece's columns of B (0), C (1) or x (2) in a row of z or dz. */
static const float *third(const piece *p, const float *z, int64_t row, int which) {
    return z + (3 * row + which) * p->j->a->width + p->at;
}

static float *dthird(const piece *p, int64_t row, int which) {
    return p->j->dz + (3 * row + which) * p->j->a->width + p->at;
}

static void *cached(const piece *p, int64_t row) {
    const sp_short_conv *a = p->j->a;
    return (char *)a->cache + (size_t)(row * a->width + p->at) * (a->cache_bf16 ? 2 : 4);
}

/* u of a row, to p->u. */
static void load(piece *p, int64_t row) {
    const conv_job *j = p->j;
    if (!j->a->cache) {
        j->simd->multiply(third(p, j->z, row, 0), third(p, j->z, row, 2), p->n, p->u, false);
    } else if (j->a->cache_bf16) {
        j->simd->from_bf16(cached(p, row), p->n, p->u);
    } else {
        memcpy(p->u, cached(p, row), (size_t)p->n * sizeof *p->u);
    }
}

/* p->sum = the convolution at query i of segment g. */
static void convolve(piece *p, int g, int64_t i) {
    const sp_short_conv *a = p->j->a;
    memset(p->sum, 0, sizeof p->sum);
    for (int t = 0; t < a->taps; t++) {
        const int64_t row = sp_conv_row(a, g, i, a->taps - 1 - t);
        if (row >= 0) {
            load(p, row);
            p->j->simd->add_product(p->w[t], p->u, p->n, p->sum);
        }
    }
}

static void forward_task(void *context, int task, int worker) {
    (void)worker;
    const conv_job *j = context;
    const sp_short_conv *a = j->a;
    piece p;
    piece_begin(&p, j, task);
    for (int g = 0; g < a->n_segments; g++) {
        const sp_segment *s = &a->segments[g];
        for (int64_t i = 0; i < s->q_len; i++) {
            const int64_t row = s->q_start + i, at = row * a->width + p.at;
            if (a->cache) {
                j->simd->multiply(third(&p, j->z, row, 0), third(&p, j->z, row, 2), p.n,
                                  cached(&p, sp_conv_row(a, g, i, 0)), a->cache_bf16);
            }
            convolve(&p, g, i);
            j->simd->multiply(third(&p, j->z, row, 1), p.sum, p.n,
                              (char *)j->out + (size_t)at * (j->bf16 ? 2 : 4), j->bf16);
        }
    }
}

static int tasks_of(const sp_short_conv *a) {
    return (int)((a->width + COLUMNS - 1) / COLUMNS);
}

static bool is_bf16(const sp_backend *be) {
    return be->compute == SP_COMPUTE_BF16;
}

static const sp_simd *simd_of(const sp_backend *be) {
    return &((const sp_tuned *)be->state)->simd;
}

void sp_short_conv_run(sp_backend *be, const sp_short_conv *a, const float *z, void *out) {
    conv_job j = {.simd = simd_of(be), .a = a, .z = z, .out = out, .bf16 = is_bf16(be)};
    sp_pool_run(be->pool, tasks_of(a), forward_task, &j);
}

static void join_run(tap_sums *s, int taps) {
    for (int t = 0; t < taps; t++) {
        for (int h = 0; h < COLUMNS; h++) {
            s->all[t][h] += s->run[t][h];
            s->run[t][h] = 0;
        }
    }
}

/* A row's gradient of C, and what its own is to du, which gathers in the place of x's, and dw. */
static void backward_row(piece *p, tap_sums *sums, int g, int64_t i) {
    const conv_job *j = p->j;
    const sp_short_conv *a = j->a;
    const int64_t row = a->segments[g].q_start + i;
    const float *dout = j->dout + row * a->width + p->at;
    float d[COLUMNS];
    convolve(p, g, i);
    j->simd->multiply(dout, p->sum, p->n, dthird(p, row, 1), false);
    j->simd->multiply(dout, third(p, j->z, row, 1), p->n, d, false);
    memset(dthird(p, row, 2), 0, (size_t)p->n * sizeof(float));
    for (int t = 0; t < a->taps; t++) {
        const int64_t from = sp_conv_row(a, g, i, a->taps - 1 - t);
        if (from >= 0) {
            j->simd->add_product(p->w[t], d, p->n, dthird(p, from, 2));
            load(p, from);
            j->simd->add_product(p->u, d, p->n, sums->run[t]);
        }
    }
}

/* du becomes the gradients of B and x. */
static void finish_row(piece *p, int64_t row) {
    const conv_job *j = p->j;
    memcpy(p->u, dthird(p, row, 2), (size_t)p->n * sizeof *p->u);
    j->simd->multiply(p->u, third(p, j->z, row, 2), p->n, dthird(p, row, 0), false);
    j->simd->multiply(p->u, third(p, j->z, row, 0), p->n, dthird(p, row, 2), false);
}

static void backward_task(void *context, int task, int worker) {
    (void)worker;
    const conv_job *j = context;
    const sp_short_conv *a = j->a;
    piece p;
    tap_sums sums;
    memset(&sums, 0, sizeof sums);
    piece_begin(&p, j, task);
    for (int g = 0; g < a->n_segments; g++) {
        for (int64_t i = 0; i < a->segments[g].q_len; i++) {
            backward_row(&p, &sums, g, i);
            if ((i + 1) % RUN == 0) {
                join_run(&sums, a->taps);
            }
        }
        join_run(&sums, a->taps);
    }
    for (int g = 0; g < a->n_segments; g++) {
        for (int64_t i = 0; i < a->segments[g].q_len; i++) {
            finish_row(&p, a->segments[g].q_start + i);
        }
    }
    for (int64_t h = 0; j->dw && h < p.n; h++) {
        for (int t = 0; t < a->taps; t++) {
            j->dw[(p.at + h) * a->taps + t] += sums.all[t][h];
        }
    }
}

void sp_short_conv_run_bwd(sp_backend *be, const sp_short_conv *a, const float *z,
                           const float *dout, float *dz, float *dw) {
    conv_job j = {.simd = simd_of(be), .a = a, .z = z, .dout = dout, .dz = dz, .dw = dw};
    sp_pool_run(be->pool, tasks_of(a), backward_task, &j);
}
