/* Attention in blocks: what flash_attention.c (forward) and flash_backward.c share.
 *
 * A "row" is one query head of one token; the heads that share a key head stand side by side, so
 * that a block of at most SP_BLOCK_ROWS rows meets a block of SP_BLOCK_KEYS keys in one small
 * product. Scores exist for one such pair of blocks at a time.
 */
#ifndef SP_BACKEND_CPU_FLASH_H
#define SP_BACKEND_CPU_FLASH_H

#include "backend/backend.h"
#include "backend/cpu/tuned.h"

enum { SP_BLOCK_KEYS = 64 };

/* A worker's arrays, borrowed from the backend's scratch; R = SP_BLOCK_ROWS, D = head_dim. */
typedef struct sp_flash_space {
    float *q, *dout;               /* [R, D] */
    float *q_columns, *do_columns; /* [D, R] */
    float *out;                    /* [R, D]: the output, or the gradient of q */
    float *s, *dp;                 /* [R, SP_BLOCK_KEYS] or [SP_BLOCK_KEYS, R] */
    float *k_columns, *v_columns;  /* [D, SP_BLOCK_KEYS] */
    float *dk, *dv;                /* [SP_BLOCK_KEYS, D] */
} sp_flash_space;

/* The rows of a block: token t, head h of the heads that share it is row t * heads + h. */
typedef struct sp_flash_rows {
    const sp_attention *a; /* borrowed */
    const sp_simd *simd;   /* borrowed */
    int kv_head;
    int head0, heads; /* query heads head0 .. head0 + heads - 1 */
    int tokens, capacity;
    int n_rows, padded; /* padded to whole vectors; the rest sees nothing */
    int segment[SP_BLOCK_ROWS];
    int32_t last_key[SP_BLOCK_ROWS]; /* last visible key of the own segment, from its start */
    int64_t q_row[SP_BLOCK_ROWS];
    int32_t first[SP_BLOCK_ROWS], last[SP_BLOCK_ROWS]; /* by row: see sp_scores */
    float max[SP_BLOCK_ROWS], sum[SP_BLOCK_ROWS];
    float lse[SP_BLOCK_ROWS], delta[SP_BLOCK_ROWS];
    sp_flash_space space;
} sp_flash_rows;

/* A task of forward and of the gradient of q: tokens i0 .. i0 + n - 1 of one segment, or all
 * tokens of several segments in a row with the same parent. */
typedef struct sp_flash_block {
    int segment, n_segments;
    int32_t i0, n;
} sp_flash_block;

typedef struct sp_flash_plan {
    const sp_flash_block *blocks; /* borrowed from scratch */
    int n_blocks;
    int parts; /* query heads of a key head come in so many parts (1, but for very wide groups) */
} sp_flash_plan;

/* Cut the queries into blocks, by the segments alone. Uses SP_SCRATCH_PLAN. */
spar_status sp_flash_plan_make(sp_backend *be, const sp_attention *a, sp_flash_plan *out,
                               spar_error *err);

/* Floats of one worker's space for head size D. */
size_t sp_flash_space_floats(int head_dim);
/* Space of `worker` in the array that holds one for each. */
sp_flash_space sp_flash_space_at(float *all, int head_dim, int worker);

/* An empty set of rows for part `part` of the heads of kv_head. */
void sp_flash_rows_init(sp_flash_rows *x, const sp_attention *a, const sp_simd *simd, int kv_head,
                        int part, sp_flash_space space);
void sp_flash_rows_add(sp_flash_rows *x, int segment, int32_t token);
/* Rows of the tokens of a block. */
void sp_flash_rows_fill(sp_flash_rows *x, const sp_flash_block *block);

/* Copy the rows' heads of q (shaped like the attention's q), times factor, to to [R, D]. */
void sp_flash_gather(const sp_flash_rows *x, const float *q, float factor, float *to);
/* Where the head of row r lies in arrays like q. */
int64_t sp_flash_row_at(const sp_flash_rows *x, int row);
/* Where key `key` of segment g lies in arrays like k. */
int64_t sp_flash_key_at(const sp_flash_rows *x, int g, int64_t key);

/* Keys [first, last) of segment g that any of the rows of tokens [t0, t1) sees. */
typedef struct sp_key_span {
    int32_t first, last;
} sp_key_span;
sp_key_span sp_flash_span(const sp_flash_rows *x, int g, int t0, int t1);
/* Set x->first and x->last for n keys of segment g from `key`; tokens outside [t0, t1) see none.
 * False when no row sees any. */
bool sp_flash_see(sp_flash_rows *x, int g, int32_t key, int n, int t0, int t1);

/* The rows that see any of the current keys: those of one segment's tokens lie together. */
typedef struct sp_row_range {
    int first, n;
    int padded; /* n, or whole vectors after sp_flash_widen */
} sp_row_range;
sp_row_range sp_flash_seeing(const sp_flash_rows *x);
/* Widen the range to whole vectors within the padded rows. */
void sp_flash_widen(const sp_flash_rows *x, sp_row_range *rows);

/* Call visit for each block of at most SP_BLOCK_KEYS keys that the rows see, with first and last
 * set: their own segments, then the common parent and its parents. */
typedef void (*sp_flash_visit)(sp_flash_rows *x, void *context, int g, int32_t key, int n);
void sp_flash_walk(sp_flash_rows *x, sp_flash_visit visit, void *context);

spar_status sp_flash_attention(sp_backend *be, const sp_attention *a, const float *q,
                               const float *k, const float *v, void *out, float *lse,
                               spar_error *err);
spar_status sp_flash_attention_bwd(sp_backend *be, const sp_attention *a, const float *q,
                                   const float *k, const float *v, const void *out,
                                   const float *lse, const float *dout, float *dq, float *dk,
                                   float *dv, spar_error *err);

#endif
