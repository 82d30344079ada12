#include "model/batch.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void sp_batch_init(sp_batch *batch) {
    memset(batch, 0, sizeof *batch);
}

void sp_batch_clear(sp_batch *batch) {
    batch->n_tokens = batch->n_segments = batch->n_scored = 0;
}

void sp_batch_release(sp_batch *batch) {
    free(batch->ids);
    free(batch->positions);
    free(batch->segments);
    free(batch->score_rows);
    free(batch->targets);
    sp_batch_init(batch);
}

int64_t sp_batch_rows(const sp_batch *batch) {
    return (int64_t)batch->n_tokens;
}

static spar_status grow(void *array, size_t *capacity, size_t need, size_t size, spar_error *err) {
    void *memory;
    memcpy(&memory, array, sizeof memory);
    spar_status status = sp_mem_grow(&memory, capacity, need, size, err);
    memcpy(array, &memory, sizeof memory);
    return status;
}

spar_status sp_batch_add_cached(sp_batch *b, int parent, const int32_t *ids, size_t n,
                                int64_t kv_start, int32_t kv_len, int32_t pos0, int *index,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(grow(&b->ids, &b->capacity[0], b->n_tokens + n, sizeof *b->ids, err));
    SPAR_TRY(grow(&b->positions, &b->capacity[1], b->n_tokens + n, sizeof *b->positions, err));
    SPAR_TRY(grow(&b->segments, &b->capacity[2], b->n_segments + 1, sizeof *b->segments, err));
    sp_segment *s = &b->segments[b->n_segments];
    *s = (sp_segment){.q_start = (int64_t)b->n_tokens,
                      .kv_start = kv_start,
                      .q_len = (int32_t)n,
                      .kv_len = kv_len,
                      .parent = parent,
                      .pos0 = pos0};
    for (size_t i = 0; i < n; i++) {
        b->ids[b->n_tokens + i] = ids[i];
        b->positions[b->n_tokens + i] = pos0 + kv_len - (int32_t)n + (int32_t)i;
    }
    if (index) {
        *index = (int)b->n_segments;
    }
    b->n_tokens += n;
    b->n_segments++;
done:
    return status;
}

spar_status sp_batch_add(sp_batch *b, int parent, const int32_t *ids, size_t n, int *index,
                         spar_error *err) {
    int32_t pos0 = 0;
    if (parent >= 0) {
        const sp_segment *p = &b->segments[parent];
        pos0 = p->pos0 + p->kv_len;
    }
    return sp_batch_add_cached(b, parent, ids, n, (int64_t)b->n_tokens, (int32_t)n, pos0, index,
                               err);
}

/* Tokens from `first` on, but those whose mask is 0; mask NULL: none is. */
static spar_status score(sp_batch *b, int segment, size_t first, const uint8_t *mask, size_t *start,
                         spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_segment *s = &b->segments[segment];
    size_t n = (size_t)s->q_len > first ? (size_t)s->q_len - first : 0;
    SPAR_TRY(grow(&b->score_rows, &b->capacity[3], b->n_scored + n, sizeof *b->score_rows, err));
    SPAR_TRY(grow(&b->targets, &b->capacity[4], b->n_scored + n, sizeof *b->targets, err));
    if (start) {
        *start = b->n_scored;
    }
    for (size_t j = first; j < (size_t)s->q_len; j++) {
        if (mask && !mask[j]) {
            continue;
        }
        int64_t row = s->q_start + (int64_t)j - 1;
        if (j == 0) {
            if (s->parent < 0) {
                SPAR_TRY(spar_fail(err, SPAR_INVALID,
                                   "the first token of a sequence has nothing before it to be "
                                   "scored from"));
            }
            const sp_segment *p = &b->segments[s->parent];
            row = p->q_start + p->q_len - 1;
        }
        b->score_rows[b->n_scored] = row;
        b->targets[b->n_scored] = b->ids[s->q_start + (int64_t)j];
        b->n_scored++;
    }
done:
    return status;
}

spar_status sp_batch_score(sp_batch *b, int segment, size_t first, size_t *start, spar_error *err) {
    return score(b, segment, first, NULL, start, err);
}

spar_status sp_batch_score_some(sp_batch *b, int segment, const uint8_t *mask, size_t *start,
                                spar_error *err) {
    return score(b, segment, 0, mask, start, err);
}
