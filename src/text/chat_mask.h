/* Which tokens of a conversation the assistant wrote. */
#ifndef SP_TEXT_CHAT_MASK_H
#define SP_TEXT_CHAT_MASK_H

#include "spar/tokenizer.h"

/* A text [n_text] as ids without added special tokens, and a mask [n] of those that have a part of
 * one of its spans, which are in order. Both arrays are owned by the caller. */
spar_status sp_mask_encode(const spar_tokenizer *tokenizer, const char *text, size_t n_text,
                           const spar_text_span *spans, size_t n_spans, int32_t **ids,
                           uint8_t **mask, size_t *n, spar_error *err);

#endif
