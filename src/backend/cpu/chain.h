/* Chains: steps over the rows of a batch that are put off and then run one after another on a block
 * of rows, before the next block, so that what a step leaves is still in the cache when the next
 * one reads it. The op table's contract is chain_begin .. chain_end in backend.h.
 *
 * A step is a function over some rows and the arrays that it reads and writes, each with the bytes
 * from one row to the next. Outside a chain the same step runs at once, cut over the pool.
 */
#ifndef SP_BACKEND_CPU_CHAIN_H
#define SP_BACKEND_CPU_CHAIN_H

#include <stdatomic.h>

#include "backend/backend.h"

enum {
    SP_CHAIN_ROWS = 128,  /* of a block, at most */
    SP_CHAIN_LEAST = 256, /* rows from which steps are put off */
    SP_CHAIN_STEPS = 96,  /* of a chain */
    SP_CHAIN_ARRAYS = 6,
    SP_CHAIN_JOB = 160
};

/* Rows row0 .. row0 + n - 1 of a step's arrays: at[i] is where row row0 of array i begins. */
typedef struct sp_rows {
    char *at[SP_CHAIN_ARRAYS];
    int64_t row0, n;
    int worker;
    void *space; /* the worker's, of the largest size that a step of the chain asked for */
} sp_rows;

/* Returns oneDNN's status, 0 for success. */
typedef int (*sp_step_fn)(const void *job, const sp_rows *rows);

typedef struct sp_step {
    sp_step_fn run;
    struct {
        const void *at;
        size_t row; /* bytes */
    } arrays[SP_CHAIN_ARRAYS];
    size_t space;                        /* bytes that run wants of rows->space */
    _Alignas(16) char job[SP_CHAIN_JOB]; /* copied in by sp_step_init */
} sp_step;

/* What is left to do when the rows are done. */
typedef spar_status (*sp_after_fn)(sp_backend *be, const void *job, spar_error *err);
typedef struct sp_after {
    sp_after_fn run;
    _Alignas(16) char job[SP_CHAIN_JOB];
} sp_after;

typedef struct sp_chain {
    bool deferred;
    int64_t T, block; /* rows in all, of a block */
    sp_step *steps;   /* owned, [SP_CHAIN_STEPS] */
    sp_after *after;  /* owned, [SP_CHAIN_STEPS] */
    int n_steps, n_after, n_frozen, n_partials;
    char *local; /* borrowed from scratch: arrays of chain_local, of all workers */
    size_t local_stride, local_used;
    spar_status status; /* of what could not be put off, for chain_end */
    atomic_int code;    /* of the steps */
} sp_chain;

void sp_chain_release(sp_chain *c);
/* Put chain_begin, chain_local and chain_end into the row. */
void sp_chain_fill(sp_ops *ops);

/* Whether steps are being put off. */
bool sp_chain_deferred(const sp_backend *be);
int64_t sp_chain_total(const sp_backend *be); /* T, where they are */
/* Make chain_end fail with NO_MEMORY: for ops that cannot report it themselves. */
void sp_chain_fail(sp_backend *be);
/* Rows of a block where they are, so that kernels can be made for them: *last is that of the last
 * block. */
int64_t sp_chain_block(const sp_backend *be, int64_t *last);

/* Scratch for one more matrix that is expanded from its blocks, or for one more array of partial
 * sums, of those that live at once: until the end of the chain, or the next call outside one. */
int sp_chain_frozen_slot(sp_backend *be);
int sp_chain_partial_slot(sp_backend *be);

void sp_step_init(sp_step *s, sp_step_fn run, const void *job, size_t size);
/* Run the step over `rows` rows: put off, in a chain (rows is its T); or now, cut into tasks of
 * `chunk` rows. What fails in a step that was put off comes from chain_end. */
void sp_step_run(sp_backend *be, const sp_step *s, int64_t rows, int64_t chunk);
/* Do job (NULL where size is 0) when the rows are done: at chain_end, or now outside a chain. */
spar_status sp_chain_after(sp_backend *be, sp_after_fn run, const void *job, size_t size,
                           spar_error *err);

#endif
