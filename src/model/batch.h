/* A packed batch: a flat list of tokens cut into segments, and the tokens to be scored.
 *
 * Nothing is padded. A segment may continue a parent segment, whose tokens it sees: the prompt of K
 * responses, or the opening that many prompts share, is computed once. Scored token r is predicted
 * from row score_rows[r] (the row before it: the parent's last row for the first token of a
 * segment) and has id targets[r].
 */
#ifndef SP_MODEL_BATCH_H
#define SP_MODEL_BATCH_H

#include <stddef.h>
#include <stdint.h>

#include "backend/backend.h"
#include "spar/status.h"

typedef struct sp_batch {
    int32_t *ids, *positions; /* [n_tokens] */
    size_t n_tokens;
    sp_segment *segments;
    size_t n_segments;
    int64_t *score_rows; /* [n_scored] */
    int32_t *targets;    /* [n_scored] */
    size_t n_scored;
    size_t capacity[5]; /* of ids, positions, segments, score_rows, targets */
} sp_batch;

void sp_batch_init(sp_batch *batch);
void sp_batch_clear(sp_batch *batch); /* empty, keeps the memory */
void sp_batch_release(sp_batch *batch);

/* Append n >= 1 tokens that continue segment parent (-1: start of a sequence). *index (may be NULL)
 * is the new segment. For training and scoring: keys are the rows of the batch itself. */
spar_status sp_batch_add(sp_batch *batch, int parent, const int32_t *ids, size_t n, int *index,
                         spar_error *err);
/* Append n >= 1 tokens to a cached sequence: kv_start and kv_len (with the n new ones) are rows of
 * a key-value cache. n = 0 names a segment that others have as their parent. */
spar_status sp_batch_add_cached(sp_batch *batch, int parent, const int32_t *ids, size_t n,
                                int64_t kv_start, int32_t kv_len, int32_t pos0, int *index,
                                spar_error *err);
/* Score the tokens from `first` on of a segment made by sp_batch_add. first = 0 needs a parent.
 * They take places *start, *start + 1, ... of the scored list. */
spar_status sp_batch_score(sp_batch *batch, int segment, size_t first, size_t *start,
                           spar_error *err);
/* The same of a segment's tokens whose mask, one a token, is not 0; mask NULL: all. */
spar_status sp_batch_score_some(sp_batch *batch, int segment, const uint8_t *mask, size_t *start,
                                spar_error *err);
/* Tokens that the batch would cost: the rows to be computed. */
int64_t sp_batch_rows(const sp_batch *batch);

#endif
