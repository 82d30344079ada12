/* Optimisers on one flat f32 array of weights.
 *
 * The weights, the gradients and each state array have the same n elements in the same order. A
 * step is one pass over memory: gradient scaling, state update, decay, weight update and the count
 * of changed weights happen element by element. The array is cut in ranges of a fixed size, so that
 * results do not depend on the number of threads.
 *
 * Life cycle: find a row, create, step..., free. State arrays are owned by the optimiser and start
 * at zero; a checkpoint stores them, and the step count, through the accessors.
 */
#ifndef SP_TRAIN_OPTIMIZER_H
#define SP_TRAIN_OPTIMIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"
#include "spar/status.h"
#include "train/tunable.h"

enum { SP_OPTIMIZER_MAX_STATE = 2, SP_OPTIMIZER_MAX_PARAMS = 4, SP_OPTIMIZER_MAX_COEFFICIENTS = 8 };

/* Consecutive elements as an update sees them. */
typedef struct sp_optimizer_span {
    float *weights;                       /* in and out */
    const float *grads;                   /* not scaled yet */
    float *state[SP_OPTIMIZER_MAX_STATE]; /* in and out */
    int64_t n;
    bool decay; /* weight decay applies */
} sp_optimizer_span;

/* Weights that differ after a step: as f32, and after rounding both values to bf16. */
typedef struct sp_optimizer_stats {
    int64_t n; /* weights that the segments cover */
    int64_t changed_f32;
    int64_t changed_bf16;
} sp_optimizer_stats;

typedef struct sp_optimizer_kind {
    const char *name; /* "adamw" */
    const char *citation;
    int n_state;                                     /* f32 arrays beside the weights */
    const char *state_names[SP_OPTIMIZER_MAX_STATE]; /* as torch calls them: names in checkpoints */
    const sp_tunable *params;                        /* at most SP_OPTIMIZER_MAX_PARAMS */
    /* Constants of one step (the first is step 1), in double, rounded to f32 once. */
    void (*prepare)(const double *params, int64_t step, double lr, double grad_scale,
                    float *coefficients);
    /* The update; adds to stats->changed_*. Spans never overlap. */
    void (*update)(const sp_optimizer_span *span, const float *coefficients,
                   sp_optimizer_stats *stats);
} sp_optimizer_kind;

int sp_optimizer_kind_count(void);
const sp_optimizer_kind *sp_optimizer_kind_at(int i);
spar_status sp_optimizer_find(const char *name, const sp_optimizer_kind **out, spar_error *err);

/* Elements [begin, end). Norm gains and biases go in segments without decay, matrices in segments
 * with it. Weights outside every segment are frozen: neither they nor their state change. */
typedef struct sp_optimizer_segment {
    int64_t begin, end;
    bool decay;
} sp_optimizer_segment;

typedef struct sp_optimizer sp_optimizer;

/* For n >= 1 weights. params: kind->params' order, copied; NULL for the defaults. Segments are
 * copied; they ascend, lie in [0, n) and do not overlap. NULL with n_segments 0 means the whole
 * array, decayed. pool is used to clear the state (first touch); NULL works in the calling thread.
 * INVALID names the parameter or segment that is wrong. */
spar_status sp_optimizer_create(sp_optimizer **out, const sp_optimizer_kind *kind,
                                const double *params, int64_t n,
                                const sp_optimizer_segment *segments, int64_t n_segments,
                                sp_pool *pool, spar_error *err);
void sp_optimizer_free(sp_optimizer *o); /* NULL is fine */

/* One step: weights -= update(grads * grad_scale), with learning rate lr. grad_scale carries the
 * clip factor (sp_grad_clip). stats may be NULL. Whether gradients are finite is for the caller to
 * check first, by sp_grad_norm: a step on NaN spoils weights and state. */
void sp_optimizer_step(sp_optimizer *o, float *weights, const float *grads, double lr,
                       double grad_scale, sp_pool *pool, sp_optimizer_stats *stats);

/* Checkpoints. Array i < sp_optimizer_state_count(o) has sp_optimizer_size(o) elements and may be
 * written to restore it. */
const sp_optimizer_kind *sp_optimizer_kind_of(const sp_optimizer *o);
int sp_optimizer_state_count(const sp_optimizer *o);
const char *sp_optimizer_state_name(const sp_optimizer *o, int i);
float *sp_optimizer_state(sp_optimizer *o, int i); /* borrowed */
int64_t sp_optimizer_size(const sp_optimizer *o);
int64_t sp_optimizer_steps(const sp_optimizer *o); /* steps taken */
void sp_optimizer_set_steps(sp_optimizer *o, int64_t steps);

/* Euclidean norm of n f32 values, in double. Summed in an order that depends on n only: the same
 * bits for any number of threads. Infinite or NaN when an element is. pool may be NULL. */
double sp_grad_norm(const float *grads, int64_t n, sp_pool *pool);

/* The factor that brings norm down to max_norm: min(1, max_norm / (norm + 1e-6)) as torch has it; 1
 * when max_norm <= 0 (no clipping). */
double sp_grad_clip(double norm, double max_norm);

#endif
