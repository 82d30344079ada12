/* Attention in blocks: what flash_attention.c (forward), flash_backward.c and flash_pairs.c (both,
 * in bf16) share.
 *
 * A "row" is one query head of one token; the heads that share a key head stand side by side, so
 * that a block of at most SP_BLOCK_ROWS rows meets a block of SP_BLOCK_KEYS keys in one small
 * product. Scores exist for one such pair of blocks at a time.
 *
 * In bf16 ("pairs", after the layout of one operand) a block has SP_PAIR_KEYS keys, and its scores
 * and outputs have a column a row: the softmax then runs along vectors, and the products take
 * keys as they lie in memory.
 */
#ifndef SP_BACKEND_CPU_FLASH_H
#define SP_BACKEND_CPU_FLASH_H

#include "backend/backend.h"
#include "backend/cpu/tuned.h"

enum { SP_BLOCK_KEYS = 64, SP_PAIR_KEYS = 256 };

/* A worker's arrays, borrowed from the backend's scratch; R = SP_BLOCK_ROWS, D = head_dim. */
typedef struct sp_flash_space {
    float *q, *dout;               /* [R, D] */
    float *q_columns, *do_columns; /* [D, R] */
    float *out;                    /* [R, D]: the output, or the gradient of q */
    float *s, *dp;                 /* [R, SP_BLOCK_KEYS] or [SP_BLOCK_KEYS, R] */
    float *k, *v;                  /* [SP_BLOCK_KEYS, D]: keys and values that are bf16, widened */
} sp_flash_space;

/* The same memory for bf16, N = SP_PAIR_KEYS. uint16_t is bf16, uint32_t a pair (simd.h). */
typedef struct sp_pair_space {
    float *rows;                      /* [R, D] */
    uint16_t *bf16;                   /* [R, D] */
    uint32_t *q_columns, *do_columns; /* [D / 2, R]: pairs of elements */
    uint32_t *q_rows, *do_rows;       /* [R / 2, D]: pairs of rows */
    float *out;                       /* [D, R]: the output, or the gradient of q */
    float *s, *dp;                    /* [N, R] */
    uint32_t *pairs;                  /* [N / 2, D]: pairs of keys */
    uint16_t *columns;                /* [D, N] */
    uint16_t *p, *ds;                 /* [N, R] */
    uint32_t *p_pairs;                /* [N / 2, R]: pairs of keys of P or dS */
} sp_pair_space;

/* The rows of a block: token t, head h of the heads that share it is row t * heads + h. */
typedef struct sp_flash_rows {
    const sp_attention *a; /* borrowed */
    const sp_simd *simd;   /* borrowed */
    int kv_head;
    int head0, heads; /* query heads head0 .. head0 + heads - 1 */
    int tokens, capacity;
    bool pairs;         /* in bf16 */
    int block_keys;     /* of a block, at most */
    int n_rows, padded; /* padded to whole vectors; the rest sees nothing */
    int segment[SP_BLOCK_ROWS];
    int32_t last_key[SP_BLOCK_ROWS]; /* last visible key of the own segment, from its start */
    int64_t q_row[SP_BLOCK_ROWS];
    int32_t position[SP_BLOCK_ROWS];                   /* of a token */
    int32_t key_position;                              /* of the first of the current keys */
    int32_t first[SP_BLOCK_ROWS], last[SP_BLOCK_ROWS]; /* by row: see sp_scores */
    float max[SP_BLOCK_ROWS], sum[SP_BLOCK_ROWS];
    float lse[SP_BLOCK_ROWS], delta[SP_BLOCK_ROWS];
    sp_flash_space space; /* without pairs */
    sp_pair_space pair;   /* with pairs */
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

/* What the tasks of an op share. */
typedef struct sp_flash {
    sp_backend *be;
    const sp_attention *a;
    const sp_simd *simd;
    bool pairs;
    sp_flash_plan plan;
    char *space;           /* borrowed from scratch */
    sp_attention narrowed; /* sp_pair_pack's */
} sp_flash;

/* Everything of *out, by the segments. */
spar_status sp_flash_open(sp_flash *out, sp_backend *be, const sp_attention *a, spar_error *err);
/* An empty set of rows for part `part` of the heads of kv_head, in a worker's space. */
void sp_flash_rows_init(sp_flash_rows *x, const sp_flash *f, int kv_head, int part, int worker);
void sp_flash_rows_add(sp_flash_rows *x, int segment, int32_t token);
/* Rows of the tokens of a block. */
void sp_flash_rows_fill(sp_flash_rows *x, const sp_flash_block *block);

/* Copy the rows' heads of q (shaped like the attention's q), times factor, to to [R, D]. */
void sp_flash_gather(const sp_flash_rows *x, const float *q, float factor, float *to);
/* With a cap, scores [n, s_row] become cap tanh(score / cap): the first `width` of each row. */
void sp_flash_cap(const sp_flash_rows *x, float *s, int n, int64_t s_row, int width);
/* Where the head of row r lies in arrays like q. */
int64_t sp_flash_row_at(const sp_flash_rows *x, int row);
/* Where key `key` of segment g lies in arrays like k, and how far its successor lies from it. */
int64_t sp_flash_key_at(const sp_flash_rows *x, int g, int64_t key);
int64_t sp_flash_key_row(const sp_attention *a);

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
/* With slopes, add to the scores of these rows and the n current keys what their distances say; s:
 * that of the first of both, and how far rows and keys lie apart. */
void sp_flash_slopes(const sp_flash_rows *x, const sp_row_range *rows, int n, float *s,
                     int64_t row_step, int64_t key_step);

/* Call visit for each block of at most SP_BLOCK_KEYS keys that the rows see, with first and last
 * set: their own segments, then the common parent and its parents. */
typedef void (*sp_flash_visit)(sp_flash_rows *x, void *context, int g, int32_t key, int n);
void sp_flash_walk(sp_flash_rows *x, sp_flash_visit visit, void *context);

/* Keys and values that the products in bf16 read: those of a cache of bf16, else copies in
 * SP_SCRATCH_A and _B, which become what f->a describes. */
spar_status sp_pair_pack(sp_flash *f, const void **k, const void **v, spar_error *err);
/* In bf16, forward: start from the rows of q; go on by n keys and values (those that x->first and
 * x->last say); and copy the sums to x->pair.rows [R, D]. */
void sp_pair_begin(sp_flash_rows *x, const float *q);
void sp_pair_attend(sp_flash_rows *x, const uint16_t *k, const uint16_t *v, int n);
void sp_pair_end(sp_flash_rows *x);
/* Backward: start from the rows of q and dout; add n keys' part to the gradients of q, which
 * sp_pair_end copies, and of those keys and values, rows dk and dv `row` elements apart. */
void sp_pair_begin_bwd(sp_flash_rows *x, const float *q, const float *dout);
void sp_pair_attend_bwd(sp_flash_rows *x, const uint16_t *k, const uint16_t *v, int n, float *dk,
                        float *dv, int64_t row);

/* Entries of the op table. */
void sp_flash_cache_put(sp_backend *be, const float *x, int64_t n, int heads, int head_dim,
                        void *cache, int64_t cache_rows, bool bf16, int64_t to);
spar_status sp_flash_attention(sp_backend *be, const sp_attention *a, const float *q, const void *k,
                               const void *v, void *out, float *lse, spar_error *err);
spar_status sp_flash_attention_bwd(sp_backend *be, const sp_attention *a, const float *q,
                                   const float *k, const float *v, const void *out,
                                   const float *lse, const float *dout, float *dq, float *dk,
                                   float *dv, spar_error *err);

#endif
