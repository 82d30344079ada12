/* Products through oneDNN's primitives with packed weights: the way of bf16 where the CPU
 * multiplies it. The primitives want dense operands and results, so tiles are as wide as a packed
 * tile, and what is not dense passes through a worker's space. Written for either operand type, so
 * that it can be tested in f32 on any CPU.
 */
#ifndef SP_BACKEND_CPU_PACKED_H
#define SP_BACKEND_CPU_PACKED_H

#include "backend/cpu/tuned.h"

enum {
    SP_PACKED_ROWS = 64, /* of x in one product, at most */
    SP_PACKED_PAD = 8,   /* this many rows or more are padded to a multiple of it */
    SP_PACKED_TILE = 512 /* of the outputs, at most */
};

/* sp_weight.packed: the outputs are cut into tiles, packed one by one. */
typedef struct sp_packed {
    int64_t tile, tiles;  /* the last tile may be smaller */
    size_t forward_bytes; /* from one tile to the next */
    size_t backward_bytes;
    char *forward;  /* owned: tiles of W^T, as [in, tile]; or NULL */
    char *backward; /* owned: tiles of W, as [tile, in]; or NULL */
} sp_packed;

/* Outputs of a tile of a weight with `out` outputs. */
int64_t sp_packed_tile(int64_t out);
/* Rows of a product, padded: so that few kernels serve any number of rows. */
int64_t sp_packed_rows(int64_t rows);

sp_dnn_type sp_packed_type(const sp_backend *be);

/* Element (r, c) of y [columns, rows_padded] = element (c, r) of x [rows, x_row] (operands of
 * `size` bytes), zero for the padding rows. */
void sp_packed_transpose(const void *x, int64_t x_row, int64_t rows, int64_t columns, size_t size,
                         int64_t rows_padded, void *y);

/* The packed copies that a product wants (SP_PREPARE_*): those of w, or of its blocks, made in the
 * backend's scratch until the next product with other blocks and described in *space, which must
 * outlive *out. INTERNAL when w was not prepared. */
spar_status sp_packed_get(sp_backend *be, const sp_weight *w, int what, sp_packed *space,
                          const sp_packed **out, spar_error *err);

/* Contracts as the entries of the row. */
spar_status sp_packed_prepare(sp_backend *be, sp_weight *w, int what, spar_error *err);
void sp_packed_release(sp_weight *w);
spar_status sp_packed_linear(sp_backend *be, const sp_weight *w, const float *bias, const void *x,
                             int64_t T, float *y, bool accumulate, spar_error *err);
spar_status sp_packed_linear_dx(sp_backend *be, const sp_weight *w, const void *dy, int64_t T,
                                float *dx, bool accumulate, spar_error *err);
spar_status sp_packed_linear_dw(sp_backend *be, int64_t out, int64_t in, const void *dy,
                                const void *x, int64_t T, float *dw, spar_error *err);

#endif
