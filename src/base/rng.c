#include "base/rng.h"

#include <math.h>

enum { PHILOX_ROUNDS = 10 };
static const uint32_t MULTIPLIER_0 = 0xD2511F53u, MULTIPLIER_1 = 0xCD9E8D57u;
static const uint32_t WEYL_0 = 0x9E3779B9u, WEYL_1 = 0xBB67AE85u;

void sp_rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        const uint64_t p0 = (uint64_t)MULTIPLIER_0 * c0;
        const uint64_t p1 = (uint64_t)MULTIPLIER_1 * c2;
        const uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        const uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = (uint32_t)p1;
        c2 = n2;
        c3 = (uint32_t)p0;
        k0 += WEYL_0;
        k1 += WEYL_1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Two words of the block at counter (low, high) under key. */
static void block64(uint64_t low, uint64_t high, uint64_t key, uint64_t out[2]) {
    const uint32_t counter[4] = {(uint32_t)low, (uint32_t)(low >> 32), (uint32_t)high,
                                 (uint32_t)(high >> 32)};
    const uint32_t keys[2] = {(uint32_t)key, (uint32_t)(key >> 32)};
    uint32_t words[4];
    sp_rng_philox(counter, keys, words);
    out[0] = words[0] | (uint64_t)words[1] << 32;
    out[1] = words[2] | (uint64_t)words[3] << 32;
}

/* a and b name a block under key c; d keys a second block over what came of the first. */
uint64_t sp_rng_stream(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    uint64_t first[2], second[2];
    block64(a, b, c, first);
    block64(first[0], first[1], d, second);
    return second[0];
}

uint64_t sp_rng_u64(uint64_t seed, uint64_t stream, uint64_t index) {
    uint64_t out[2];
    block64(index, stream, seed, out);
    return out[0];
}

static double unit(uint64_t bits) {
    return (double)(bits >> 11) * 0x1p-53;
}

double sp_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return unit(sp_rng_u64(seed, stream, index));
}

/* Box-Muller over the two words of one block. */
double sp_rng_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    const double two_pi = 6.283185307179586476925;
    uint64_t out[2];
    block64(index, stream, seed, out);
    const double radius = sqrt(-2.0 * log(1.0 - unit(out[0]))); /* 1 - u is never 0 */
    return radius * cos(two_pi * unit(out[1]));
}

/* floor(r * n / 2^64) by 128-bit arithmetic in two halves: the bias is below n / 2^64. */
static uint64_t scale(uint64_t r, uint64_t n) {
    const uint64_t r0 = (uint32_t)r, r1 = r >> 32, n0 = (uint32_t)n, n1 = n >> 32;
    const uint64_t low = r0 * n0;
    const uint64_t middle = r1 * n0 + (low >> 32);
    const uint64_t cross = r0 * n1 + (uint32_t)middle;
    return r1 * n1 + (middle >> 32) + (cross >> 32);
}

uint64_t sp_rng_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t n) {
    return scale(sp_rng_u64(seed, stream, index), n);
}

void sp_rng_shuffle(uint64_t seed, uint64_t stream, uint32_t *order, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        order[i] = i;
    }
    for (uint32_t i = n; i > 1; i--) {
        const uint32_t j = (uint32_t)sp_rng_below(seed, stream, i, i);
        const uint32_t kept = order[i - 1];
        order[i - 1] = order[j];
        order[j] = kept;
    }
}

uint64_t sp_rng_next_below(sp_rng *rng, uint64_t n) {
    return sp_rng_below(rng->seed, rng->stream, rng->index++, n);
}

double sp_rng_next_uniform(sp_rng *rng) {
    return sp_rng_uniform(rng->seed, rng->stream, rng->index++);
}
