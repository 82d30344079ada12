#include "model/dora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/engine.h"

enum { ROWS = 256 }; /* of V at a time */

static double length_of(const float *row, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)row[i] * (double)row[i];
    }
    return sqrt(sum);
}

/* Rows first .. first + n - 1 of V: of W, then += (s B) A as a product over A. */
static spar_status make_rows(const spar_model *m, const sp_adapter *a, int64_t first, int64_t n,
                             float *scaled, void *operand, float *rows, spar_error *err) {
    const sp_weight *w = &m->matrices[a->of - m->params.items];
    const int64_t rank = a->rank;
    sp_backend *be = m->backend;
    for (int64_t r = 0; w->data == NULL && r < n; r++) {
        sp_blocks_row(w->blocks, first + r, rows + r * w->in);
    }
    if (w->data != NULL) {
        memcpy(rows, w->data + first * w->in, (size_t)(n * w->in) * sizeof *rows);
    }
    for (int64_t i = 0; i < n * rank; i++) {
        scaled[i] = a->scale * a->b.data[first * rank + i];
    }
    be->ops->to_operand(be, scaled, n * rank, 1, operand);
    return be->ops->linear_dx(be, &a->a, operand, n, rows, true, err);
}

/* The lengths of one adapter's rows; space: [ROWS, cols] and twice [ROWS, rank]. */
static spar_status find_lengths(spar_model *m, const sp_adapter *a, float *space, spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t rank = a->rank;
    float *scaled = space + ROWS * a->of->cols, *operand = scaled + ROWS * rank;
    for (int64_t at = 0; at < a->of->rows; at += ROWS) {
        const int64_t n = a->of->rows - at < ROWS ? a->of->rows - at : ROWS;
        SPAR_TRY(make_rows(m, a, at, n, scaled, operand, space, err));
        for (int64_t r = 0; r < n; r++) {
            const double length = length_of(space + r * a->of->cols, a->of->cols);
            a->length[at + r] = (float)(length > 0 ? length : 1);
        }
    }
done:
    return status;
}

static spar_status find_all_lengths(spar_model *m, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_lora *l = m->lora;
    void *space = NULL;
    int64_t widest = 0;
    for (int i = 0; i < l->n; i++) {
        widest = l->items[i].of->cols > widest ? l->items[i].of->cols : widest;
    }
    SPAR_TRY(
        sp_mem_aligned(&space, (size_t)(ROWS * (widest + 2 * l->most_rank)), sizeof(float), err));
    for (int i = 0; i < l->n; i++) {
        SPAR_TRY(find_lengths(m, &l->items[i], space, err));
    }
done:
    free(space);
    return status;
}

spar_status sp_dora_init(spar_model *m, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(find_all_lengths(m, err));
    for (int i = 0; i < m->lora->n; i++) {
        const sp_adapter *a = &m->lora->items[i];
        memcpy(m->lora->values + a->offset_m, a->length, (size_t)a->of->rows * sizeof(float));
    }
done:
    return status;
}

spar_status sp_dora_prepare(spar_model *m, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(find_all_lengths(m, err));
    for (int i = 0; i < m->lora->n; i++) {
        const sp_adapter *a = &m->lora->items[i];
        for (int64_t r = 0; r < a->of->rows; r++) {
            a->gain[r] = m->lora->values[a->offset_m + r] / a->length[r];
        }
    }
done:
    return status;
}

void sp_dora_merge(const struct sp_lora *l, const sp_adapter *a, float *out) {
    for (int64_t r = 0; r < a->of->rows; r++) {
        float *row = out + r * a->of->cols;
        const double length = length_of(row, a->of->cols);
        const float gain = (float)((double)l->values[a->offset_m + r] / (length > 0 ? length : 1));
        for (int64_t c = 0; c < a->of->cols; c++) {
            row[c] *= gain;
        }
    }
}
