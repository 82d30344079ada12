/* The tokens of a tokenizer by id and by text, and lists of ids. */
#ifndef SP_TEXT_VOCABULARY_H
#define SP_TEXT_VOCABULARY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "spar/status.h"

typedef struct sp_vocabulary {
    const char **tokens; /* owned array of arena strings, by id; NULL where an id is unused */
    uint32_t *lengths;
    bool *added;      /* owned, by id: the model's own vocabulary lacks it */
    int32_t n_tokens; /* largest id + 1 */
    int32_t *slots;   /* owned hash of token -> id, -1 free */
    size_t slot_mask;
} sp_vocabulary;

/* Ids, growing. */
typedef struct sp_ids {
    int32_t *data; /* owned */
    size_t n, capacity;
} sp_ids;

spar_status sp_ids_push(sp_ids *ids, int32_t id, spar_error *err);

/* vocab: {token: id, ...}, or [[token, score], ...] in the order of the ids, of which the last of
 * two equal tokens is found; added: the "added_tokens" of tokenizer.json (may be NULL), which share
 * the id space. Strings go to the arena. FORMAT for other values, ids beyond what the entries
 * justify, or two tokens of one id. */
spar_status sp_vocabulary_init(sp_vocabulary *out, sp_arena *arena, const json_t *vocab,
                               const json_t *added, const char *where, spar_error *err);
void sp_vocabulary_release(sp_vocabulary *vocabulary);
/* The id, or -1: among all tokens, and among those that a model makes of words. */
int32_t sp_vocabulary_find(const sp_vocabulary *vocabulary, const char *token, size_t n);
int32_t sp_vocabulary_find_own(const sp_vocabulary *vocabulary, const char *token, size_t n);

/* A power of two that leaves a hash of n entries at most half full. */
size_t sp_hash_size(size_t n);

#endif
