#include "text/word_cache.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { MAX_IDLE = 64 };

struct sp_word_caches {
    _Atomic(sp_word_cache *) idle[MAX_IDLE]; /* owned; NULL: an empty place */
};

spar_status sp_word_caches_create(sp_word_caches **out, spar_error *err) {
    void *memory;
    spar_status status = sp_mem_calloc(&memory, 1, sizeof **out, err);
    if (status == SPAR_OK) {
        *out = memory;
        for (size_t i = 0; i < MAX_IDLE; i++) {
            atomic_init(&(*out)->idle[i], NULL);
        }
    }
    return status;
}

void sp_word_caches_free(sp_word_caches *c) {
    for (size_t i = 0; c && i < MAX_IDLE; i++) {
        free(atomic_load(&c->idle[i]));
    }
    free(c);
}

spar_status sp_word_caches_take(sp_word_caches *c, sp_word_cache **out, spar_error *err) {
    void *memory;
    for (size_t i = 0; i < MAX_IDLE; i++) {
        *out = atomic_exchange(&c->idle[i], NULL);
        if (*out) {
            return SPAR_OK;
        }
    }
    /* a slot is a line of the processor's cache */
    spar_status status = sp_mem_aligned(&memory, 1, sizeof **out, err);
    *out = status == SPAR_OK ? memset(memory, 0, sizeof **out) : NULL;
    return status;
}

void sp_word_caches_give(sp_word_caches *c, sp_word_cache *cache) {
    for (size_t i = 0; cache && i < MAX_IDLE; i++) {
        sp_word_cache *none = NULL;
        if (atomic_compare_exchange_strong(&c->idle[i], &none, cache)) {
            return;
        }
    }
    free(cache);
}

void sp_word_cache_put(sp_word_cache *c, const sp_word_key *key, const int32_t *ids, size_t n) {
    if (n > SP_CACHED_IDS) {
        return;
    }
    sp_cached_word *slot = &c->slots[sp_word_key_slot(key)];
    c->slots[sp_word_key_slot(key) ^ 1U] = *slot; /* the older word goes beside */
    slot->key = *key;
    slot->n_ids = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        slot->ids[i] = ids[i];
    }
}
