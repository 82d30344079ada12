/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011).
 *
 * A number is a pure function of (seed, stream, index), so results depend neither on threads nor on
 * the order of calls. Streams are made by sp_rng_stream from the coordinates of the use: iteration,
 * prompt, sample, purpose.
 */
#ifndef SP_BASE_RNG_H
#define SP_BASE_RNG_H

#include <stdint.h>

/* One Philox4x32-10 block: counter and key in, four words out. Known-answer tests in test_rng.c. */
void sp_rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Mix up to four coordinates into a stream id (a Philox block keyed by the coordinates). */
uint64_t sp_rng_stream(uint64_t a, uint64_t b, uint64_t c, uint64_t d);

uint64_t sp_rng_u64(uint64_t seed, uint64_t stream, uint64_t index);
double sp_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index); /* [0,1), 53 bits */
double sp_rng_normal(uint64_t seed, uint64_t stream, uint64_t index);  /* mean 0, variance 1 */
/* Uniform integer in [0, n), n >= 1, without modulo bias beyond 2^-32. */
uint64_t sp_rng_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t n);
/* Fill order[0..n) with a permutation of 0..n-1 (Fisher-Yates), n < 2^32. */
void sp_rng_shuffle(uint64_t seed, uint64_t stream, uint32_t *order, uint32_t n);

/* A cursor over one stream, for code that draws many numbers in sequence. */
typedef struct sp_rng {
    uint64_t seed, stream, index;
} sp_rng;
uint64_t sp_rng_next_below(sp_rng *rng, uint64_t n);
double sp_rng_next_uniform(sp_rng *rng);

#endif
