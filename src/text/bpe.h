/* Byte-pair encoding: vocabulary, merges, and the merging of one word. */
#ifndef SP_TEXT_BPE_H
#define SP_TEXT_BPE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "spar/status.h"

typedef struct sp_merge_slot {
    int32_t left, right; /* left -1: free */
    int32_t rank, id;    /* lower ranks merge first; id of the merged token */
} sp_merge_slot;

typedef struct sp_bpe {
    const char **tokens; /* owned array of arena strings, by id; NULL where an id is unused */
    uint32_t *lengths;
    int32_t n_tokens; /* largest id + 1 */
    int32_t *slots;   /* owned hash of token -> id, -1 free */
    size_t slot_mask;
    sp_merge_slot *merges; /* owned hash of (left, right) */
    size_t merge_mask;
    int32_t unk;
    bool byte_fallback, fuse_unk, ignore_merges;
    int32_t bytes[256]; /* ids of <0x00> .. <0xFF>, -1: none */
} sp_bpe;

/* Ids, growing. */
typedef struct sp_ids {
    int32_t *data; /* owned */
    size_t n, capacity;
} sp_ids;

spar_status sp_ids_push(sp_ids *ids, int32_t id, spar_error *err);

/* model: the "model" object of tokenizer.json; added: its "added_tokens" (may be NULL), which share
 * the id space. Strings go to the arena. */
spar_status sp_bpe_init(sp_bpe *out, sp_arena *arena, const json_t *model, const json_t *added,
                        const char *where, spar_error *err);
void sp_bpe_release(sp_bpe *bpe);
int32_t sp_bpe_find(const sp_bpe *bpe, const char *token, size_t n); /* -1: none */

/* Append the ids of one word (n >= 1 bytes of well-formed UTF-8). */
spar_status sp_bpe_encode(const sp_bpe *bpe, const char *word, size_t n, sp_ids *ids,
                          spar_error *err);

#endif
