/* Samples of a stage and the pairs made from them, each with a verdict and a reason. */
#ifndef SP_PLAY_PAIRS_H
#define SP_PLAY_PAIRS_H

#include "play/run.h"

typedef struct sp_judged sp_judged; /* judged.h */

/* One sampled response, as stored. */
typedef struct sp_play_sample {
    int64_t id;     /* samples row */
    size_t problem; /* index into the problems of the stage */
    int32_t *ids;   /* owned */
    float *logps;   /* owned, as the sampler kept them */
    size_t n;
    char *text; /* owned: for judges; the ids are the truth */
    bool truncated, strict, lenient;
} sp_play_sample;

typedef struct sp_samples {
    sp_play_sample *items; /* owned, by problem, then by sample index */
    size_t n;
} sp_samples;

void sp_samples_release(sp_samples *samples);

/* Sample k responses of every problem with the model as it is, or read them back where the stage
 * has them already: the phase "sample". */
spar_status sp_samples_make(sp_run *run, int64_t stage, const sp_problems *problems, int k,
                            sp_samples *out, spar_error *err);

/* A kept pair. chosen -1: the problem's real response; else an index into the samples. */
typedef struct sp_play_pair {
    size_t problem;
    int64_t chosen;
    size_t rejected;
} sp_play_pair;

typedef struct sp_pairs {
    sp_play_pair *items; /* owned */
    size_t n;
} sp_pairs;

void sp_pairs_release(sp_pairs *pairs);

/* Pair the samples by the arm's rule: the phase "pair". Every candidate pair is stored with its
 * verdict; the kept ones are given. max_tokens bounds prompt plus response. judged: of the samples,
 * for an arm whose pairs are judged; else NULL. */
spar_status sp_pairs_make(sp_run *run, int64_t stage, const sp_arm *arm,
                          const sp_problems *problems, const sp_samples *samples,
                          const sp_judged *judged, sp_pairs *out, spar_error *err);

#endif
