/* A frozen weight matrix [out, in] as quantised blocks, in the order in which products read it.
 *
 * The outputs are cut into panels of 16, the inputs into blocks of 32 (the last panel is padded
 * with zero weights; in is a multiple of 32). A panel is its blocks one after another; a block is
 *
 *     16 scales, f16       one an output
 *     16 minima, f16       where the form has them
 *     the numbers          8 bits: 8 groups of 4 inputs, each [16 outputs][4 inputs] bytes
 *                          4 bits: 4 such groups; group g has the inputs of group g in the low and
 *                          of group g + 4 in the high halves
 *
 * so that a vector register holds four inputs of several outputs, as the multiply-add instructions
 * on bytes want them. Life cycle: sp_blocks_create, sp_blocks_put for every block, use,
 * sp_blocks_free. */
#ifndef SP_BACKEND_BLOCKS_H
#define SP_BACKEND_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"
#include "tensor/affine.h"

enum {
    SP_PANEL = 16,                /* outputs */
    SP_GROUP = 4,                 /* inputs that lie side by side */
    SP_GROUP_BYTES = SP_PANEL * 4 /* of one group */
};

typedef struct sp_blocks {
    int64_t out, in;
    sp_affine_form form;
    int64_t panels, n_blocks; /* n_blocks = in / 32 */
    size_t block_bytes;       /* of all 16 outputs */
    size_t numbers;           /* where in a block the numbers begin */
    uint8_t *data;            /* owned, or where a backend moved it */
    bool moved;               /* data belongs to the backend that it was prepared for */
} sp_blocks;

/* Whether a matrix with so many inputs can be kept as blocks. */
static inline bool sp_blocks_fit(int64_t in) {
    return in > 0 && in % SP_AFFINE_BLOCK == 0;
}

/* All weights zero. in must fit. */
spar_status sp_blocks_create(sp_blocks **out, int64_t rows, int64_t in, sp_affine_form form,
                             spar_error *err);
void sp_blocks_free(sp_blocks *b);
/* Inputs 32 block .. 32 block + 31 of an output. scale and min are kept as f16. */
void sp_blocks_put(sp_blocks *b, int64_t row, int64_t block, const sp_affine *from);
/* Inputs 32 block .. 32 block + 31 of an output as floats: to [32]; and all of them: to [in]. */
void sp_blocks_piece(const sp_blocks *b, int64_t row, int64_t block, float *to);
void sp_blocks_row(const sp_blocks *b, int64_t row, float *to);
/* One weight. */
float sp_blocks_weight(const sp_blocks *b, int64_t row, int64_t input);
size_t sp_blocks_bytes(const sp_blocks *b);

static inline const uint8_t *sp_blocks_at(const sp_blocks *b, int64_t panel, int64_t block) {
    return b->data + (size_t)(panel * b->n_blocks + block) * b->block_bytes;
}

#endif
