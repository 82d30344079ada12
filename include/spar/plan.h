/* What a job will take, found before it is started.
 *
 * A job's memory and the time of its step are a constant part and one for each layer. Both parts
 * come from running the job with few layers of the model on this machine: so they hold for its
 * kernels, threads and memory, whatever the architecture.
 */
#ifndef SPAR_PLAN_H
#define SPAR_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "spar/log.h"
#include "spar/model.h"
#include "spar/options.h"

typedef struct spar_plan_options {
    const char *model;    /* path */
    const char *work;     /* of spar_bench: "train", "lora", "rollout", "prefill", "single" */
    const char *dtype;    /* of spar_bench: "f32", "bf16", "int8", "int16" */
    spar_weights weights; /* how the matrices are kept */
    bool recompute;       /* train, lora: activations again in the backward */
    bool all;             /* alternatives too when the asked setting fits */
    int threads;
    int sequences;                 /* of a training step; 0: 4 */
    int64_t lora_rank;             /* of an adapter; 0: 16 */
    spar_option_list lora_targets; /* as in a recipe */
    int64_t tokens;                /* of a sequence, a prompt or a response; 0: the work's own */
    int responses;                 /* of a rollout; 0: 32 */
    int64_t steps;                 /* training steps or rollouts to plan; at least 1 */
    double memory_mb;              /* what may be used; 0: what is available now */
    const spar_sink *sink;
} spar_plan_options;

/* *out is a JSON object (new reference): {"memory_mb", "layers", "parameters",
 * "active_parameters" (those that act on a token), "rows": [{"work", "dtype",
 * "weights", "recompute", "peak_rss_mb", "tokens_per_s", "seconds", "fits"}]}. The first row is
 * the setting asked for; where it does not fit (or with `all`) settings follow that take less
 * memory, the nearest first, up to the first that fits. seconds are those of all steps, without
 * loading. Call it before the process has threads. */
struct json_t;
SPAR_API spar_status spar_plan(struct json_t **out, const spar_plan_options *options,
                               spar_error *err);

#endif
