/* The models of tokenizer.json: how one word becomes ids. A row a "type". */
#ifndef SP_TEXT_WORD_MODEL_H
#define SP_TEXT_WORD_MODEL_H

#include <stdbool.h>

#include "text/vocabulary.h"

typedef struct sp_word_model_type {
    const char *name; /* "type" in tokenizer.json */
    /* model: the "model" object, borrowed for the call; vocabulary and arena outlive *out. */
    spar_status (*create)(void **out, const sp_vocabulary *vocabulary, sp_arena *arena,
                          const json_t *model, const char *where, spar_error *err);
    void (*free)(void *model); /* NULL allowed */
    /* Append the ids of one word (n >= 1 bytes of well-formed UTF-8). */
    spar_status (*encode)(const void *model, const char *word, size_t n, sp_ids *ids,
                          spar_error *err);
} sp_word_model_type;

extern const sp_word_model_type sp_bpe_type, sp_unigram_type, sp_word_piece_type,
    sp_word_level_type;

/* The row of a "model" object; where it names no type, its members tell. UNSUPPORTED, naming the
 * type, where there is no row. */
spar_status sp_word_model_find(const sp_word_model_type **out, const json_t *model,
                               const char *where, spar_error *err);

/* *id: of the token that member key names, -1 where it is missing or null. FORMAT where the
 * vocabulary lacks the token. */
spar_status sp_word_model_token(const sp_vocabulary *vocabulary, const json_t *model,
                                const char *key, int32_t *id, const char *where, spar_error *err);

/* Ids of the tokens <0x00> .. <0xFF>, -1 where there is none. */
void sp_byte_tokens(const sp_vocabulary *vocabulary, int32_t ids[256]);
/* Whether all bytes of s are tokens. */
bool sp_has_bytes(const int32_t ids[256], const char *s, size_t n);

/* What a word that no token covers is refused with, where the model has no unknown token. */
spar_status sp_unknown_word(const char *word, size_t n, spar_error *err);

#endif
