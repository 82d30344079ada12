/* Samples of a stage: what the policy answered, and what the checkers say of it. */
#ifndef SP_PLAY_SAMPLES_H
#define SP_PLAY_SAMPLES_H

#include "play/roster.h"

/* One sampled response, as stored. */
typedef struct sp_play_sample {
    int64_t id;     /* samples row */
    size_t problem; /* index into the problems of the stage */
    int32_t *ids;   /* owned */
    float *logps;   /* owned, as the sampler kept them */
    size_t n;
    char *text; /* owned: for judges; the ids are the truth */
    bool truncated, strict, lenient;
    bool older; /* sampled by another opponent than the latest */
} sp_play_sample;

typedef struct sp_samples {
    sp_play_sample *items; /* owned, by problem, then by sample index */
    size_t n, k;           /* in all; samples a problem */
} sp_samples;

void sp_samples_release(sp_samples *samples);

/* Sample k responses of every problem, or read them back where the stage has them already: the
 * phase "sample". cast says who answers, each loaded in its turn; NULL: the model as it is. After a
 * cast the model may be another than before. */
spar_status sp_samples_make(sp_run *run, int64_t stage, const sp_problems *problems, int k,
                            const sp_cast *cast, sp_samples *out, spar_error *err);

/* Take over the samples of another stage, by the same model for the same problems: the phase
 * "sample" again. fresh: the problems are new ones of that stage, and become this one's. */
spar_status sp_samples_share(sp_run *run, int64_t from, int64_t stage, bool fresh, spar_error *err);

#endif
