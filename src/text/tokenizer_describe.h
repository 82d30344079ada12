/* A tokenizer as GGUF files describe one: what tokenizer_spec.c reads, the other way. */
#ifndef SP_TEXT_TOKENIZER_DESCRIBE_H
#define SP_TEXT_TOKENIZER_DESCRIBE_H

#include "text/tokenizer_parts.h"

typedef struct sp_vocab_description {
    sp_vocab_spec spec; /* its arrays are owned by the description, strings by the tokenizer too */
    int32_t *types;
    float *scores;
    sp_str text;     /* of merges, or of WordPiece's tokens; or a map of characters */
    size_t *offsets; /* of those in text */
    char *unused;    /* texts of ids that the tokenizer has not */
} sp_vocab_description;

/* n_tokens: rows of the model's embedding; ids beyond the tokenizer's are unused. UNSUPPORTED for
 * what such files cannot say: other models than BPE, steps without a name, a tokenizer with more
 * tokens than the model. Borrows from the tokenizer. */
spar_status sp_tokenizer_describe(sp_vocab_description *out, const spar_tokenizer *tokenizer,
                                  size_t n_tokens, spar_error *err);
void sp_vocab_description_release(sp_vocab_description *description);

#endif
