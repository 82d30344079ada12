/* Vocabularies of ranks, as tiktoken and Mistral's tekken have them. A word is merged by the rank
 * of what two parts would give, which is BPE with a merge for each way to cut a token into two
 * others; whole words of the vocabulary are taken as they are.
 */
#ifndef SP_TEXT_TOKEN_RANKS_H
#define SP_TEXT_TOKEN_RANKS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "spar/status.h"

/* Tokens one after the other, in the order of their ids. Release with sp_token_ranks_release. */
typedef struct sp_token_ranks {
    sp_str text;    /* of all tokens, those of bytes in the byte-level alphabet */
    size_t *begins; /* [n], owned: where a token begins in text */
    size_t n, capacity;
    size_t n_special; /* the first of them: control tokens, no ranks */
} sp_token_ranks;

#define SP_TOKEN_RANKS_INIT                                                                        \
    { .text = SP_STR_INIT }

/* A control token; before all others. */
spar_status sp_token_ranks_add_special(sp_token_ranks *r, const char *text, spar_error *err);
/* The next rank: n characters of base64. *good: whether they stand for bytes. */
spar_status sp_token_ranks_add(sp_token_ranks *r, const char *base64, size_t n, bool *good,
                               spar_error *err);
/* As tokenizer.json, words split as the named pre-tokeniser (text/pre_names.h) does it; no tokens
 * are added to a text. *out is a new reference. */
spar_status sp_token_ranks_json(const sp_token_ranks *r, const char *pre, json_t **out,
                                const char *where, spar_error *err);
/* The post-processor that puts one token before a text; a new reference. */
json_t *sp_token_ranks_begin_json(const char *bos, int64_t id);
void sp_token_ranks_release(sp_token_ranks *r);

#endif
