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

static uint64_t hash_floats(uint64_t hash, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        hash = mix(hash, bits);
    }
    return hash;
}

/* Blocks hash as the floats that they stand for. */
static uint64_t hash_param(const spar_model *m, int i) {
    const sp_param *p = &m->params.items[i];
    if (p->offset >= 0) {
        return hash_floats(fnv_start, m->weights + p->offset, p->count);
    }
    uint64_t hash = fnv_start;
    float piece[SP_AFFINE_BLOCK];
    for (int64_t at = 0; at < p->count; at += SP_AFFINE_BLOCK) {
        sp_blocks_piece(m->matrices[i].blocks, at / p->cols, at % p->cols / SP_AFFINE_BLOCK, piece);
        hash = hash_floats(hash, piece, SP_AFFINE_BLOCK);
    }
    return hash;
}

uint64_t sp_model_fingerprint(const spar_model *m) {
    uint64_t total = mix(fnv_start, (uint64_t)m->config.vocab);
    for (int i = 0; i < m->params.n; i++) {
        total = mix(total, hash_param(m, i));
    }
    if (m->lora) {
        total = mix(total, hash_floats(fnv_start, m->lora->values, m->lora->total));
    }
    return total;
}
