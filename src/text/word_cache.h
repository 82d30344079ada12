/* Words that were encoded lately, with their ids.
 *
 * Text is mostly words that were there before. What a word becomes depends on nothing but the word,
 * so a cache changes no result. It is a table of fixed size; a new word takes the place of an old
 * one. An encoder has a cache to itself while it works: caches wait in a pool of the tokenizer's,
 * so that as many are made as encoders work at once.
 */
#ifndef SP_TEXT_WORD_CACHE_H
#define SP_TEXT_WORD_CACHE_H

#include <stdint.h>
#include <string.h>

#include "text/vocabulary.h"

enum { SP_CACHED_BYTES = 23, SP_CACHED_IDS = 9, SP_CACHE_BITS = 15 };

/* The word as three numbers, whose last byte is its length; 0: free. */
typedef struct sp_word_key {
    uint64_t parts[3];
} sp_word_key;

typedef struct sp_cached_word {
    sp_word_key key;
    uint32_t n_ids;
    int32_t ids[SP_CACHED_IDS];
} sp_cached_word;

typedef struct sp_word_cache {
    sp_cached_word slots[1 << SP_CACHE_BITS];
} sp_word_cache;

typedef struct sp_word_caches sp_word_caches;

spar_status sp_word_caches_create(sp_word_caches **out, spar_error *err);
void sp_word_caches_free(sp_word_caches *caches); /* NULL allowed; none is in use */
/* Take a cache, or make one; it is given back. Any thread. */
spar_status sp_word_caches_take(sp_word_caches *caches, sp_word_cache **out, spar_error *err);
void sp_word_caches_give(sp_word_caches *caches, sp_word_cache *cache); /* NULL allowed */

/* n: 1..SP_CACHED_BYTES; the bytes up to `end` may be read. */
static inline sp_word_key sp_word_key_of(const char *word, size_t n, const char *end) {
    sp_word_key key = {{0, 0, 0}};
    if (end - word >= (ptrdiff_t)sizeof key) {
        memcpy(&key, word, sizeof key);
        const unsigned bits = 8 * (n & 7U);
        const uint64_t kept = ((uint64_t)1 << bits) - 1; /* of the part in which the word ends */
        key.parts[n / 8] &= kept;
        key.parts[1] = n < 8 ? 0 : key.parts[1];
        key.parts[2] = n < 16 ? 0 : key.parts[2];
    } else {
        memcpy(&key, word, n);
    }
    key.parts[2] |= (uint64_t)n << 56;
    return key;
}

/* Where the word would be; the other place it may have is at the slot beside it. */
static inline size_t sp_word_key_slot(const sp_word_key *key) {
    uint64_t h = key->parts[0] * 0x9E3779B97F4A7C15U;
    h = (h ^ h >> 32 ^ key->parts[1]) * 0xBF58476D1CE4E5B9U;
    h = (h ^ h >> 29 ^ key->parts[2]) * 0x94D049BB133111EBU;
    return h >> (64 - SP_CACHE_BITS);
}

static inline bool sp_word_key_equal(const sp_word_key *a, const sp_word_key *b) {
    return ((a->parts[0] ^ b->parts[0]) | (a->parts[1] ^ b->parts[1]) |
            (a->parts[2] ^ b->parts[2])) == 0;
}

static inline const sp_cached_word *sp_word_cache_find(const sp_word_cache *c,
                                                       const sp_word_key *key) {
    const size_t at = sp_word_key_slot(key);
    if (sp_word_key_equal(&c->slots[at].key, key)) {
        return &c->slots[at];
    }
    return sp_word_key_equal(&c->slots[at ^ 1U].key, key) ? &c->slots[at ^ 1U] : NULL;
}

/* Put a word in that is not there. Those of more than SP_CACHED_IDS ids stay out. */
void sp_word_cache_put(sp_word_cache *cache, const sp_word_key *key, const int32_t *ids, size_t n);

#endif
