/* Products through oneDNN's primitives with packed weights: the way of bf16 where the CPU
 * multiplies it. The primitives want dense operands and results. A product over few rows is cut
 * into tiles of outputs, whose dense results are copied in place; in a chain, a block of rows meets
 * the whole matrix, and its result is in place. Written for either operand type, so that it can be
 * tested in f32 on any CPU.
 */
#ifndef SP_BACKEND_CPU_PACKED_H
#define SP_BACKEND_CPU_PACKED_H

#include "backend/cpu/tuned.h"

enum {
    SP_PACKED_ROWS = 64, /* of x in one product with a tile, at most */
    SP_PACKED_PAD = 16,  /* this many rows or more are padded to a multiple of it */
    SP_PACKED_TILE = 512 /* of the outputs, at most */
};

/* One direction of a weight as the matrix B [K, N] of products, in pieces packed one by one: of N,
 * or of K (by_k: the head's backward, which meets a chunk of the vocabulary at a time). */
typedef struct sp_packed_side {
    int64_t K, N, tile, tiles; /* the last tile may be smaller */
    size_t tile_bytes;         /* from one tile to the next */
    bool by_k;
    bool whole; /* the tiles together are also the packed B of all N */
    char *data; /* in the backend's slabs, or in scratch; or NULL */
} sp_packed_side;

enum { SP_SIDE_FORWARD, SP_SIDE_BACKWARD, SP_SIDES }; /* W^T [in, out]; W [out, in] */

/* sp_weight.packed */
typedef struct sp_packed {
    sp_packed_side sides[SP_SIDES];
    int each; /* SP_PREPARE_*: what is made for each product, and not kept */
} sp_packed;

/* Rows of a product, padded: so that few kernels serve any number of rows. */
int64_t sp_packed_rows(int64_t rows);

sp_dnn_type sp_packed_type(const sp_backend *be);

/* Packing a weight, tile by tile. */
typedef struct sp_packing {
    const sp_backend *be;
    const sp_dnn *dnn;
    const sp_weight *w;
    sp_packed *packed; /* borrowed */
    bool wanted[SP_SIDES];
    const sp_dnn_kernel *kernels[SP_SIDES][2]; /* of a full tile, of the last */
    float *tiles;                              /* borrowed; blocks: [workers, tile_floats] */
    int64_t tile_floats;                       /* that a worker wants where w is blocks */
    atomic_int status;
} sp_packing;

/* How w is packed as a product wants it (SP_PREPARE_*): kernels, and the tiles of *packed but for
 * their data. The caller sets p->tiles where w is blocks. */
spar_status sp_packing_init(sp_packing *p, sp_backend *be, const sp_weight *w, sp_packed *packed,
                            int what, spar_error *err);
/* One tile of a side to `to` [tile_bytes]. Returns oneDNN's status, 0 for success. */
int sp_packing_tile(sp_packing *p, int side, int64_t tile, int worker, char *to);

/* Whether what a product wants (SP_PREPARE_*) is made for it alone: of w's blocks, or of values
 * that change with every step. */
bool sp_packed_is_made(const sp_weight *w, int what);
/* The packed copies that a product wants: those that w keeps, or others, made in the backend's
 * scratch until the next product (in a chain, until its end) and described in *space, which must
 * outlive *out. INTERNAL when w was not prepared. */
spar_status sp_packed_get(sp_backend *be, const sp_weight *w, int what, sp_packed *space,
                          const sp_packed **out, spar_error *err);

/* Contracts as the entries of the row. */
spar_status sp_packed_prepare(sp_backend *be, sp_weight *w, int what, spar_error *err);
/* With SP_PREPARE_EACH. */
spar_status sp_packed_prepare_each(sp_backend *be, sp_weight *w, int what, spar_error *err);
void sp_packed_release(sp_backend *be, sp_weight *w);

/* The product of a kernel, by tiles of our own where the processor has them, B is in layout blocks
 * and the sizes are whole tiles. stream: c is not read again soon, and
 * goes past the caches where it can. Returns oneDNN's status, 0 for
 * success. */
int sp_packed_run(const sp_backend *be, const sp_dnn_kernel *kernel, int worker, const void *a,
                  const void *b, float *c, bool stream);

/* y [T, N] (= or +=) x [T, K] B + bias, B one direction of w. */
typedef struct sp_packed_product {
    const sp_weight *w;
    int side;
    const float *bias; /* [N] or NULL */
    const void *x;
    int64_t T;
    float *y;
    bool accumulate;
} sp_packed_product;
spar_status sp_packed_multiply(sp_backend *be, const sp_packed_product *p, spar_error *err);

/* Weight gradients: dw [out, in] (= or +=) dy^T x is a product over `depth` rows, padded with
 * zeros, of dy's columns and of x as B [depth, in]: in layout blocks (simd.h), or as it is. */
typedef struct sp_packed_b {
    int64_t in, depth; /* depth: a multiple of SP_LAYOUT_K */
    bool pairs;        /* set with the kernel */
    char *data;        /* borrowed; sp_packed_b_elements operands */
} sp_packed_b;
size_t sp_packed_b_elements(const sp_packed_b *b);
/* The kernel for `out` outputs; sets b->pairs. */
spar_status sp_packed_dw_kernel(sp_backend *be, int64_t out, sp_packed_b *b, bool accumulate,
                                const sp_dnn_kernel **kernel, spar_error *err);
/* Rows row0 .. of B from x [rows, in], and zeros behind them up to row0 + end. With pairs, row0 is
 * a multiple of SP_LAYOUT_K. */
void sp_packed_put_b(const sp_backend *be, const sp_packed_b *b, const void *x, int64_t row0,
                     int64_t rows, int64_t end);
/* y[c y_row + r] = x[r columns + c], operands, and zeros for rows <= r < end. */
void sp_packed_columns(const sp_backend *be, const void *x, int64_t rows, int64_t columns,
                       int64_t end, int64_t y_row, char *y);

/* dw [out,in] (= or +=) dy^T x, T > 0. In a chain the operands are taken as the rows are made, and
 * the products of all weights follow together when the rows are done. */
spar_status sp_packed_linear_dw(sp_backend *be, int64_t out, int64_t in, const void *dy,
                                const void *x, int64_t T, float *dw, bool accumulate,
                                spar_error *err);

#endif
