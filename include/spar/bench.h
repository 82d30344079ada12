/* Speed of this machine and of spar on it. */
#ifndef SPAR_BENCH_H
#define SPAR_BENCH_H

#include <stdbool.h>

#include "spar/log.h"
#include "spar/model.h"
#include "spar/options.h"

typedef struct spar_bench_options {
    const char *model;       /* path; NULL: none, where spar_bench_needs_model says so */
    spar_option_list works;  /* "train", "rollout", "prefill", "single" (empty: these), "lora",
                              * "load", "tokenize", "pairrm" */
    spar_option_list dtypes; /* "f32", "bf16" (empty: both), "int8", "int16" */
    spar_weights weights;    /* how the matrices are kept */
    int threads, runs;       /* runs: each row is the median of so many */
    int64_t tokens;          /* of a sequence trained on, a prompt, a response or a pair; 0: the
                              * work's own */
    int responses;           /* of a rollout; 0: 32; candidates of pairrm; 0: 4 */
    int sequences;           /* of a training step; 0: 4, or 1 with an adapter */
    int layers;              /* only the model's first so many; 0: all */
    int64_t lora_rank;       /* of lora; 0: 16 */
    spar_option_list lora_targets; /* as in a recipe */
    bool no_limits;   /* leave "machine", "limit_tokens_per_s" and "share_of_limit" out */
    bool recompute;   /* train: activations again in the backward */
    const char *text; /* tokenize: file of UTF-8, each line of which is a text */
    const spar_sink *sink;
} spar_bench_options;

/* *out is a JSON object (new reference): {"machine": {"gemm_gflops": {"f32", "bf16", "int8"},
 * "bandwidth_gbs", "cores"}, "rows": [{"work", "dtype", "tokens_per_s", "limit_tokens_per_s",
 * "share_of_limit", "peak_rss_mb"}]}. The limit is the matrix-product peak over 6N flops a token
 * (train), 4N (lora: no gradients of weights) or 2N (rollout, prefill, pairrm), and memory
 * bandwidth over the bytes of the weights as they are read (single, load: 4 each, 2 where the
 * processor multiplies bf16, or the bytes of their blocks); N counts the output projection. The
 * peak of int16 is half that of int8. Rows also have the slowest and the fastest run ("slowest",
 * "fastest", tokens a second), "seconds" (load: from the files to the first token) and, of a
 * rollout in another type than f32 or on blocks of weights, "logprob_error_mean" and
 * "logprob_error_max": the kept log-probs of the sampled tokens against an f32 pass on the file's
 * weights. Of tokenize, which has no type ("-"), no limit and one thread, a row has "mb_per_s", a
 * million bytes of text a second. Of pairrm, which makes its model (the shape of PairRM, random
 * weights), N is the parameters of the layers; attention's products are not counted, and a row has
 * "pairs_per_s". Each row runs in a process of its own, so that its peak memory is its own. Call it
 * before the process has threads. */
struct json_t;
SPAR_API spar_status spar_bench(struct json_t **out, const spar_bench_options *options,
                                spar_error *err);

/* Whether any of the works reads options->model. */
SPAR_API bool spar_bench_needs_model(const spar_bench_options *options);

#endif
