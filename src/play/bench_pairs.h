/* What `spar bench --work pairrm` runs: PairRM in its real shape, that of DeBERTa-v3-large, with
 * random weights made in memory and a vocabulary of 4,096 words (a pair looks its own up, no more).
 */
#ifndef SP_PLAY_BENCH_PAIRS_H
#define SP_PLAY_BENCH_PAIRS_H

#include <stddef.h>
#include <stdint.h>

#include "spar/model.h"
#include "spar/status.h"

typedef struct sp_bench_pairs sp_bench_pairs;

/* Candidates >= 2 of one source, all ordered pairs of which are read in a run, each of `length`
 * tokens, 10 to 2048 (in steps of 1: what three parts leave goes to the source). options: threads,
 * dtype and layers (0: all 24). *out is owned by the caller. INVALID for another length. */
spar_status sp_bench_pairs_open(sp_bench_pairs **out, const spar_model_options *options,
                                int64_t length, size_t candidates, spar_error *err);
void sp_bench_pairs_free(sp_bench_pairs *pairs);
/* Read all pairs once. */
spar_status sp_bench_pairs_run(sp_bench_pairs *pairs, spar_error *err);

double sp_bench_pairs_count(const sp_bench_pairs *pairs);       /* of a run */
int64_t sp_bench_pairs_parameters(const sp_bench_pairs *pairs); /* that a token meets in products */

#endif
