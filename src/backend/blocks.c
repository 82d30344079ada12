#include "backend/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { GROUPS = SP_AFFINE_BLOCK / SP_GROUP, HALF_GROUPS = GROUPS / 2 };

spar_status sp_blocks_create(sp_blocks **out, int64_t rows, int64_t in, sp_affine_form form,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL;
    sp_blocks *b = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *b, err));
    b = memory;
    b->out = rows;
    b->in = in;
    b->form = form;
    b->panels = (rows + SP_PANEL - 1) / SP_PANEL;
    b->n_blocks = in / SP_AFFINE_BLOCK;
    b->numbers = SP_PANEL * sizeof(uint16_t) * (form.has_min ? 2 : 1);
    b->block_bytes = b->numbers + (size_t)SP_PANEL * SP_AFFINE_BLOCK * (size_t)form.bits / 8;
    size_t n = 0;
    if (!sp_mem_mul((size_t)b->panels, (size_t)b->n_blocks, &n)) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT, "a matrix of %lld x %lld is too large", (long long)rows,
                           (long long)in));
    }
    SPAR_TRY(sp_mem_aligned(&memory, n, b->block_bytes, err));
    b->data = memory;
    memset(b->data, 0, n * b->block_bytes);
    *out = b;
    b = NULL;
done:
    sp_blocks_free(b);
    return status;
}

void sp_blocks_free(sp_blocks *b) {
    if (b) {
        if (!b->moved) {
            free(b->data);
        }
        free(b);
    }
}

static uint8_t *block_at(const sp_blocks *b, int64_t panel, int64_t block) {
    return b->data + (size_t)(panel * b->n_blocks + block) * b->block_bytes;
}

static size_t place(int64_t output, int input) {
    return (size_t)(input / SP_GROUP) * SP_GROUP_BYTES + (size_t)output * SP_GROUP +
           (size_t)(input % SP_GROUP);
}

void sp_blocks_put(sp_blocks *b, int64_t row, int64_t block, const sp_affine *from) {
    uint8_t *to = block_at(b, row / SP_PANEL, block);
    const int64_t output = row % SP_PANEL;
    const uint16_t scale = sp_f16_from_f32(from->scale), min = sp_f16_from_f32(from->min);
    memcpy(to + (size_t)output * sizeof scale, &scale, sizeof scale);
    if (b->form.has_min) {
        memcpy(to + (size_t)(SP_PANEL + output) * sizeof min, &min, sizeof min);
    }
    uint8_t *numbers = to + b->numbers;
    for (int i = 0; i < SP_AFFINE_BLOCK; i++) {
        if (b->form.bits == 8) {
            numbers[place(output, i)] = from->q[i];
        } else if (i < SP_AFFINE_BLOCK / 2) {
            numbers[place(output, i)] =
                (uint8_t)(from->q[i] | from->q[i + SP_AFFINE_BLOCK / 2] << 4);
        }
    }
}

static float half_at(const uint8_t *from, int64_t i) {
    uint16_t h;
    memcpy(&h, from + (size_t)i * sizeof h, sizeof h);
    return sp_f16_to_f32(h);
}

/* Number i of an output within a block, without its zero. */
static int number(const sp_blocks *b, const uint8_t *numbers, int64_t output, int i) {
    const int half = SP_AFFINE_BLOCK / 2;
    return b->form.bits == 8 ? numbers[place(output, i)] - SP_AFFINE_ZERO
           : i < half        ? numbers[place(output, i)] & 15
                             : numbers[place(output, i - half)] >> 4;
}

void sp_blocks_piece(const sp_blocks *b, int64_t row, int64_t block, float *to) {
    const int64_t output = row % SP_PANEL;
    const uint8_t *from = block_at(b, row / SP_PANEL, block);
    const float scale = half_at(from, output);
    const float min = b->form.has_min ? half_at(from, SP_PANEL + output) : 0;
    for (int i = 0; i < SP_AFFINE_BLOCK; i++) {
        to[i] = scale * (float)number(b, from + b->numbers, output, i) + min;
    }
}

void sp_blocks_row(const sp_blocks *b, int64_t row, float *to) {
    for (int64_t block = 0; block < b->n_blocks; block++) {
        sp_blocks_piece(b, row, block, to + block * SP_AFFINE_BLOCK);
    }
}

float sp_blocks_weight(const sp_blocks *b, int64_t row, int64_t input) {
    const int64_t output = row % SP_PANEL;
    const uint8_t *from = block_at(b, row / SP_PANEL, input / SP_AFFINE_BLOCK);
    const float min = b->form.has_min ? half_at(from, SP_PANEL + output) : 0;
    const int q = number(b, from + b->numbers, output, (int)(input % SP_AFFINE_BLOCK));
    return half_at(from, output) * (float)q + min;
}

size_t sp_blocks_bytes(const sp_blocks *b) {
    return sizeof *b + (size_t)(b->panels * b->n_blocks) * b->block_bytes;
}
