#include "model/fingerprint.h"

#include <string.h>

#include "model/engine.h"
#include "model/lora.h"

/* FNV-1a over 64-bit words, one chunk a parameter, then over the chunks' results. */
static const uint64_t fnv_start = 14695981039346656037U;
static const uint64_t fnv_prime = 1099511628211U;

static uint64_t mix(uint64_t hash, uint64_t word) {
    hash ^= word;
    hash *= fnv_prime;
    return hash ^ (hash >> 29);
}

static uint64_t hash_floats(const float *x, int64_t n) {
    uint64_t hash = fnv_start;
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        hash = mix(hash, bits);
    }
    return hash;
}

uint64_t sp_model_fingerprint(const spar_model *m) {
    uint64_t total = mix(fnv_start, (uint64_t)m->config.vocab);
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        total = mix(total, hash_floats(m->weights + p->offset, p->count));
    }
    if (m->lora) {
        total = mix(total, hash_floats(m->lora->values, m->lora->total));
    }
    return total;
}
