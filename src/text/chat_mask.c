#include "text/chat_mask.h"

#include <stdlib.h>

#include "base/mem.h"

/* Tokens are in order, but several of one character share it, and a token may take up to the end of
 * a span that the next begins in: a span is left behind when a token begins past it. */
static void mark(const spar_text_span *tokens, size_t n, const spar_text_span *spans,
                 size_t n_spans, uint8_t *mask) {
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        while (at < n_spans && tokens[i].begin >= spans[at].end) {
            at++;
        }
        mask[i] = at < n_spans && tokens[i].end > spans[at].begin;
    }
}

spar_status sp_mask_encode(const spar_tokenizer *tokenizer, const char *text, size_t n_text,
                           const spar_text_span *spans, size_t n_spans, int32_t **ids,
                           uint8_t **mask, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_text_span *places = NULL;
    void *memory;
    *ids = NULL;
    SPAR_TRY(spar_tokenizer_encode_spans(tokenizer, text, n_text, SPAR_TOKENIZE_NO_SPECIAL, ids,
                                         &places, n, err));
    SPAR_TRY(sp_mem_calloc(&memory, *n, sizeof **mask, err));
    *mask = memory;
    mark(places, *n, spans, n_spans, *mask);
done:
    if (status != SPAR_OK) {
        free(*ids);
        *ids = NULL;
    }
    free(places);
    return status;
}
