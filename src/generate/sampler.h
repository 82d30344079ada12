/* One token from one row of logits. */
#ifndef SP_GENERATE_SAMPLER_H
#define SP_GENERATE_SAMPLER_H

#include "spar/generate.h"

/* Scratch of one worker; grows on demand. exp_sum is set by its owner, the rest begins as zeros. */
typedef struct sp_sampler {
    float (*exp_sum)(const float *x, int64_t n, float max, float scale); /* the backend's op */
    float *values;                                                       /* owned, [capacity] */
    uint32_t *order;                                                     /* owned, [capacity] */
    float *sums; /* owned, one a block of the vocabulary */
    size_t capacity;
} sp_sampler;

void sp_sampler_release(sp_sampler *sampler);

/* logits [vocab] (not changed); seen [n_seen]: ids that the repetition penalty applies to; u
 * uniform in [0,1). *id is the sampled token, *logp its log-prob under softmax(logits). Greedy
 * takes the first of equal maxima. */
spar_status sp_sampler_draw(sp_sampler *sampler, const float *logits, int64_t vocab,
                            const spar_sampling *s, const int32_t *seen, size_t n_seen, double u,
                            int32_t *id, float *logp, spar_error *err);

#endif
