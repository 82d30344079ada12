#include "backend/cpu/chain.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cpu/reference.h"
#include "backend/cpu/sizes.h"
#include "backend/cpu/tuned.h"
#include "base/mem.h"

/* Blocks come in multiples of this, so that a few threads are busy to the end. */
enum { EVEN = 2, ROW_ALIGN = 32 };

static sp_chain *chain_of(const sp_backend *be) {
    return &((sp_tuned *)be->state)->chain;
}

/* By T alone. */
static int64_t block_rows(int64_t T) {
    const int64_t blocks = sp_ceil_div(sp_ceil_div(T, SP_CHAIN_ROWS), EVEN) * EVEN;
    return sp_ceil_div(sp_ceil_div(T, blocks), ROW_ALIGN) * ROW_ALIGN;
}

void sp_chain_release(sp_chain *c) {
    free(c->steps);
    free(c->after);
}

bool sp_chain_deferred(const sp_backend *be) {
    return chain_of(be)->deferred;
}

int64_t sp_chain_total(const sp_backend *be) {
    return chain_of(be)->T;
}

void sp_chain_fail(sp_backend *be) {
    chain_of(be)->status = SPAR_NO_MEMORY;
}

int64_t sp_chain_block(const sp_backend *be, int64_t *last) {
    const sp_chain *c = chain_of(be);
    *last = c->T - (sp_ceil_div(c->T, c->block) - 1) * c->block;
    return c->block;
}

static spar_status make_lists(sp_chain *c, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL;
    if (c->steps == NULL) {
        SPAR_TRY(sp_mem_calloc(&memory, SP_CHAIN_STEPS, sizeof *c->steps, err));
        c->steps = memory;
    }
    if (c->after == NULL) {
        SPAR_TRY(sp_mem_calloc(&memory, SP_CHAIN_STEPS, sizeof *c->after, err));
        c->after = memory;
    }
done:
    return status;
}

static spar_status chain_begin(sp_backend *be, int64_t T, size_t local_row, bool put_off,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    sp_chain *c = chain_of(be);
    void *local = NULL;
    c->deferred = false; /* whatever an error left */
    if (!put_off || T < SP_CHAIN_LEAST || !sp_tuned_can_defer(be)) {
        return sp_reference_chain_begin(be, T, local_row, put_off, err);
    }
    SPAR_TRY(make_lists(c, err));
    c->T = T;
    c->block = block_rows(T);
    c->local_stride = ((size_t)c->block * local_row + 64 * SP_CHAIN_LOCALS + 63) / 64 * 64;
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_LOCAL, (size_t)sp_pool_threads(be->pool),
                              c->local_stride, &local, err));
    c->local = local;
    c->local_used = 0;
    c->n_steps = c->n_after = c->n_frozen = c->n_partials = 0;
    ((sp_tuned *)be->state)->dw.n = 0;
    ((sp_tuned *)be->state)->panels_dw.n = 0;
    c->status = SPAR_OK;
    atomic_store(&c->code, 0);
    c->deferred = true;
done:
    return status;
}

static void *chain_local(sp_backend *be, size_t row) {
    sp_chain *c = chain_of(be);
    if (!c->deferred) {
        return sp_reference_chain_local(be, row);
    }
    char *at = c->local + c->local_used;
    c->local_used += (row * (size_t)c->block + 63) / 64 * 64;
    assert(c->local_used <= c->local_stride);
    return at;
}

int sp_chain_frozen_slot(sp_backend *be) {
    sp_chain *c = chain_of(be);
    assert(c->n_frozen < SP_SCRATCH_FROZEN_COUNT);
    return SP_SCRATCH_FROZEN + (c->deferred ? c->n_frozen++ : 0);
}

int sp_chain_partial_slot(sp_backend *be) {
    sp_chain *c = chain_of(be);
    assert(c->n_partials < SP_SCRATCH_PARTIAL_COUNT);
    return SP_SCRATCH_PARTIAL + (c->deferred ? c->n_partials++ : 0);
}

/* A block of rows through all steps. */
typedef struct block_job {
    const sp_backend *be;
    char *space;
    size_t space_bytes;
} block_job;

static char *resolve(const sp_chain *c, const void *at, size_t row, int64_t row0, int worker) {
    char *base = (char *)(uintptr_t)at;
    const bool local = base >= c->local && base < c->local + c->local_stride;
    return local ? base + (size_t)worker * c->local_stride : base + (size_t)row0 * row;
}

static void block_task(void *context, int task, int worker) {
    const block_job *b = context;
    sp_chain *c = chain_of(b->be);
    const int64_t row0 = task * c->block;
    for (int i = 0; i < c->n_steps; i++) {
        const sp_step *s = &c->steps[i];
        sp_rows rows = {.row0 = row0, .n = sp_min64(c->block, c->T - row0), .worker = worker};
        rows.space = b->space + (size_t)worker * b->space_bytes;
        for (int k = 0; k < SP_CHAIN_ARRAYS && s->arrays[k].at != NULL; k++) {
            rows.at[k] = resolve(c, s->arrays[k].at, s->arrays[k].row, rows.row0, worker);
        }
        const int code = s->run(s->job, &rows);
        if (code != 0) {
            atomic_store(&c->code, code);
        }
    }
}

static spar_status run_steps(sp_backend *be, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_chain *c = chain_of(be);
    block_job b = {.be = be};
    void *space = NULL;
    for (int i = 0; i < c->n_steps; i++) {
        b.space_bytes = c->steps[i].space > b.space_bytes ? c->steps[i].space : b.space_bytes;
    }
    b.space_bytes = (b.space_bytes + 63) / 64 * 64;
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(be->pool),
                              b.space_bytes, &space, err));
    b.space = space;
    sp_pool_run(be->pool, (int)sp_ceil_div(c->T, c->block), block_task, &b);
    c->n_steps = 0;
    SPAR_TRY(sp_onednn_check(atomic_load(&c->code), "a chain of operations", err));
done:
    return status;
}

static spar_status run_after(sp_backend *be, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_chain *c = chain_of(be);
    c->deferred = false; /* what they call runs now */
    for (int i = 0; i < c->n_after; i++) {
        SPAR_TRY(c->after[i].run(be, c->after[i].job, err));
    }
done:
    return status;
}

static spar_status chain_end(sp_backend *be, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_chain *c = chain_of(be);
    if (c->deferred) {
        if (c->status != SPAR_OK) {
            SPAR_TRY(spar_fail(err, c->status, "a chain of operations cannot be run"));
        }
        SPAR_TRY(run_steps(be, err));
        SPAR_TRY(run_after(be, err));
    }
done:
    c->deferred = false;
    return status;
}

void sp_chain_fill(sp_ops *ops) {
    ops->chain_begin = chain_begin;
    ops->chain_local = chain_local;
    ops->chain_end = chain_end;
}

void sp_step_init(sp_step *s, sp_step_fn run, const void *job, size_t size) {
    assert(size <= SP_CHAIN_JOB);
    memset(s, 0, sizeof *s);
    s->run = run;
    memcpy(s->job, job, size);
}

/* A step that runs now; only products can fail, and have another way of running now. */
typedef struct step_job {
    const sp_step *step;
    int64_t rows, chunk;
} step_job;

static void step_task(void *context, int task, int worker) {
    const step_job *j = context;
    const sp_step *s = j->step;
    sp_rows rows = {.row0 = task * j->chunk, .worker = worker};
    rows.n = sp_min64(j->chunk, j->rows - rows.row0);
    for (int k = 0; k < SP_CHAIN_ARRAYS && s->arrays[k].at != NULL; k++) {
        rows.at[k] = (char *)(uintptr_t)s->arrays[k].at + (size_t)rows.row0 * s->arrays[k].row;
    }
    (void)s->run(s->job, &rows);
}

void sp_step_run(sp_backend *be, const sp_step *s, int64_t rows, int64_t chunk) {
    sp_chain *c = chain_of(be);
    if (!c->deferred) {
        step_job j = {.step = s, .rows = rows, .chunk = chunk};
        sp_pool_run(be->pool, (int)sp_ceil_div(rows, chunk), step_task, &j);
        return;
    }
    assert(rows == c->T);
    if (c->n_steps == SP_CHAIN_STEPS) {
        c->status = SPAR_INTERNAL;
        return;
    }
    c->steps[c->n_steps++] = *s;
}

spar_status sp_chain_after(sp_backend *be, sp_after_fn run, const void *job, size_t size,
                           spar_error *err) {
    sp_chain *c = chain_of(be);
    assert(size <= SP_CHAIN_JOB);
    if (!c->deferred) {
        return run(be, job, err);
    }
    if (c->n_after == SP_CHAIN_STEPS) {
        return spar_fail(err, SPAR_INTERNAL, "a chain has more than %d tasks", SP_CHAIN_STEPS);
    }
    sp_after *a = &c->after[c->n_after++];
    a->run = run;
    if (size > 0) {
        memcpy(a->job, job, size);
    }
    return SPAR_OK;
}
