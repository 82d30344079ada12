/* Speed of this machine and of spar on it. */
#ifndef SPAR_BENCH_H
#define SPAR_BENCH_H

#include <stdbool.h>

#include "spar/log.h"
#include "spar/model.h"
#include "spar/options.h"

typedef struct spar_bench_options {
    const char *model;       /* path */
    spar_option_list works;  /* "train", "rollout", "prefill", "single" (empty: these), "lora" */
    spar_option_list dtypes; /* "f32", "bf16"; empty: both */
    int threads, runs;       /* runs: each row is the median of so many */
    const spar_sink *sink;
} spar_bench_options;

/* *out is a JSON object (new reference): {"machine": {"gemm_gflops": {"f32", "bf16", "int8"},
 * "bandwidth_gbs", "cores"}, "rows": [{"work", "dtype", "tokens_per_s", "limit_tokens_per_s",
 * "share_of_limit", "peak_rss_mb"}]}. The limit is the matrix-product peak over 6N flops a token
 * (train), 4N (lora: rank 16, no gradients of weights) or 2N (rollout, prefill), and memory
 * bandwidth over the bytes of the weights as they are read (single: 4 each, 2 where the processor
 * multiplies bf16); N counts the output projection. Each row runs in a process of its own, so that
 * its peak memory is its own. Call it before the process has threads. */
struct json_t;
SPAR_API spar_status spar_bench(struct json_t **out, const spar_bench_options *options,
                                spar_error *err);

#endif
