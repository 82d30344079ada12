/* Inside the vocabulary head: fused_head.c walks the blocks, and makes their products by
 * dnnl_sgemm; packed_head.c makes them by primitives with packed weights, panels_head.c by our own
 * kernels. */
#ifndef SP_BACKEND_CPU_FUSED_HEAD_H
#define SP_BACKEND_CPU_FUSED_HEAD_H

#include "backend/cpu/packed.h"
#include "backend/cpu/tuned.h"

enum {
    SP_HEAD_CHUNK = 512,  /* of the vocabulary, at most */
    SP_HEAD_ROWS = 128,   /* of h; the last ones are padded to SP_PACKED_PAD for primitives */
    SP_HEAD_DEPTH = 1024, /* rows of h in one product for dw by primitives; the last padded */
    SP_HEAD_OFF = 32,     /* zero rows behind them: columns crowd no cache set */
    /* Apart from a power of two, which would crowd a few sets of the cache. */
    SP_HEAD_STRIDE = SP_HEAD_CHUNK + 16
};

typedef struct sp_head sp_head;

/* Rows r0 .. r0 + rows - 1 meet entries v0 .. v0 + n - 1. */
typedef struct sp_head_cell {
    int64_t r0, rows, v0, n;
    int64_t stride; /* of logits */
    float *logits;  /* [rows, stride]: logits, then their gradient; borrowed */
    int worker;
    bool last_rows, last_chunk;
} sp_head_cell;

/* The three products of a cell; errors are left in x->status. */
typedef struct sp_head_products {
    void (*logits)(sp_head *x, const sp_head_cell *at);
    void (*add_dh)(sp_head *x, const sp_head_cell *at, float *partial);
    void (*add_dw)(sp_head *x, const sp_head_cell *at);
} sp_head_products;

struct sp_head {
    sp_backend *be;
    const sp_simd *simd;
    const sp_head_products *products;
    sp_weight w; /* sizes, and the packed copies */
    sp_logit_form form;
    const float *values, *h; /* W and h in f32, not for primitives; values NULL: W is blocks */
    float *tiles;            /* [workers, H, SP_HEAD_CHUNK]: a worker's chunk of the blocks */
    int64_t *tile_at;        /* [workers]: where that chunk begins; -1: none */
    const int32_t *target;
    const float *lse_in, *c;
    int64_t R, chunk, chunks, row_blocks, groups;
    int64_t partial_rows; /* R, or padded */
    float *max, *sum;     /* [chunks, R] */
    float *logp, *lse, *dw, *dh;
    bool accumulate; /* dw += */
    float *partial;  /* [groups, partial_rows, H] */
    float *logits;   /* [workers, SP_HEAD_ROWS + 1, SP_HEAD_STRIDE]: the last is one row's copy */
    atomic_int status;

    /* panels (panels_head.c) only */
    float *space;         /* [workers, space_floats] */
    int64_t space_floats; /* of a worker */
    int64_t *held;        /* [workers]: where the chunk begins that its space has; -1: none */
    float *h_tiles;       /* h in tiles, SP_HEAD_ROWS rows after another */
    float *h_panels;      /* h in panels, SP_HEAD_DEPTH rows after another */

    /* primitives only */
    /* W without kept copies: a worker makes the tiles of the chunk that it is in, and keeps them
     * there. */
    sp_packing packing;
    sp_packed own;   /* what packed points to */
    char *own_tiles; /* [workers]: a tile of each side, own_bytes together */
    int64_t *own_at; /* [workers, SP_SIDES]: which they are; -1: none */
    size_t own_bytes;
    const sp_packed *packed;
    const char *operand_h; /* h as given */
    char *last_h;          /* its last block, padded */
    char *operands;        /* [workers, SP_HEAD_ROWS, SP_HEAD_CHUNK]: gradients of logits */
    char *columns;         /* [workers, SP_HEAD_CHUNK, SP_HEAD_DEPTH]: the same by columns */
    char *h_packed;        /* h as B of dw's products, SP_HEAD_DEPTH rows after another */
    bool pairs;            /* in layout blocks; else as it is */
    size_t h_packed_bytes; /* of SP_HEAD_DEPTH rows */
    /* By whether the rows are the last ones, and the chunk is. */
    const sp_dnn_kernel *make_logits[2][2], *make_dh[2][2];
    const sp_dnn_kernel *make_dw[2][2][2]; /* and by whether it adds */
};

/* The values of a cell's chunk: rows of W (*by_rows), or W^T, made from the blocks, which a worker
 * keeps while its cells stay in the chunk. Returns the leading dimension. */
int64_t sp_head_chunk_weights(sp_head *x, const sp_head_cell *at, const float **values,
                              bool *by_rows);

/* Turn x to primitives: kernels (backward's too when asked), padded h, chunks as packed. x->R,
 * x->w, x->dw are set. */
spar_status sp_packed_head_init(sp_head *x, const void *h, bool backward, spar_error *err);

#endif
