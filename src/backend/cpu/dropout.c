#include "backend/cpu/dropout.h"

#include "backend/cpu/operand.h"
#include "base/rng.h"

/* Factors of elements 4 block .. 4 block + 3: 0 for a dropped one, else 1 / (1 - p). One Philox
 * block gives the four words that are compared with p. */
static void factors_of(const sp_dropout *d, int64_t block, float factors[4]) {
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), (uint32_t)d->stream,
                                 (uint32_t)(d->stream >> 32)};
    const uint32_t key[2] = {(uint32_t)d->seed, (uint32_t)(d->seed >> 32)};
    const double threshold = (double)d->p * 4294967296.0;
    uint32_t words[4];
    sp_rng_philox(counter, key, words);
    for (int i = 0; i < 4; i++) {
        factors[i] = (double)words[i] < threshold ? 0 : 1 / (1 - d->p);
    }
}

void sp_dropout_range(const sp_backend *be, const void *x, int64_t begin, int64_t end,
                      const sp_dropout *d, void *y) {
    float factors[4];
    for (int64_t i = begin; i < end; i++) {
        if (i % 4 == 0) {
            factors_of(d, i / 4, factors);
        }
        sp_operand_store(be, y, i, factors[i % 4] * sp_operand_load(be, x, i));
    }
}

void sp_dropout_add_range(const float *x, int64_t begin, int64_t end, const sp_dropout *d,
                          float *y) {
    float factors[4];
    for (int64_t i = begin; i < end; i++) {
        if (i % 4 == 0) {
            factors_of(d, i / 4, factors);
        }
        y[i] += factors[i % 4] * x[i];
    }
}
