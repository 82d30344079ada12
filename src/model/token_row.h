/* A row of token ids, as the scoring models of this folder take them. */
#ifndef SP_MODEL_TOKEN_ROW_H
#define SP_MODEL_TOKEN_ROW_H

#include <stddef.h>
#include <stdint.h>

/* Special tokens are included where the function does not say otherwise. */
typedef struct sp_token_row {
    const int32_t *ids; /* borrowed, [n] */
    size_t n;
    size_t second; /* encoders: tokens from here on have type 1 (the second text of a BERT pair);
                    * 0: none */
} sp_token_row;

#endif
