/* A window of tokens is decoded anew at each step: those of the last piece handed out, as context,
 * and those after it. What the longer text has beyond the text of the context is new. */
#include "spar/token_stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/vocabulary.h"

struct spar_token_stream {
    const spar_tokenizer *tokenizer; /* borrowed */
    bool skip_special;
    sp_ids window;
    size_t n_context; /* of the window's tokens, those handed out before */
    size_t n_text;    /* bytes of their text */
    char *current;    /* owned: the text that *text of the last call points into */
};

spar_status spar_token_stream_create(spar_token_stream **out, const spar_tokenizer *tokenizer,
                                     bool skip_special, spar_error *err) {
    void *memory;
    spar_status status = sp_mem_calloc(&memory, 1, sizeof **out, err);
    if (status == SPAR_OK) {
        *out = memory;
        (*out)->tokenizer = tokenizer;
        (*out)->skip_special = skip_special;
    }
    return status;
}

void spar_token_stream_free(spar_token_stream *s) {
    if (s) {
        free(s->window.data);
        free(s->current);
        free(s);
    }
}

/* Decode the window into current. *at is where the new text begins, past the context's text. */
static spar_status decode_window(spar_token_stream *s, size_t *at, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    free(s->current);
    s->current = NULL;
    SPAR_TRY(spar_tokenizer_decode(s->tokenizer, s->window.data, s->window.n, s->skip_special,
                                   &s->current, n, err));
    *at = s->n_text < *n ? s->n_text : *n;
    while (*at < *n && ((unsigned char)s->current[*at] & 0xC0U) == 0x80U) {
        ++*at;
    }
done:
    return status;
}

/* The tokens after the context become the context. */
static spar_status advance(spar_token_stream *s, spar_error *err) {
    spar_status status = SPAR_OK;
    char *context = NULL;
    s->window.n -= s->n_context;
    memmove(s->window.data, s->window.data + s->n_context, s->window.n * sizeof *s->window.data);
    s->n_context = s->window.n;
    SPAR_TRY(spar_tokenizer_decode(s->tokenizer, s->window.data, s->window.n, s->skip_special,
                                   &context, &s->n_text, err));
done:
    free(context);
    return status;
}

static bool ends_incomplete(const char *text, size_t n) {
    return n >= 3 && memcmp(text + n - 3, "\xEF\xBF\xBD", 3) == 0;
}

spar_status spar_token_stream_push(spar_token_stream *s, int32_t id, const char **text, size_t *n,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    size_t at, length;
    *text = "";
    *n = 0;
    SPAR_TRY(sp_ids_push(&s->window, id, err));
    SPAR_TRY(decode_window(s, &at, &length, err));
    if (at < length && !ends_incomplete(s->current, length)) {
        SPAR_TRY(advance(s, err));
        *text = s->current + at;
        *n = length - at;
    }
done:
    return status;
}

spar_status spar_token_stream_finish(spar_token_stream *s, const char **text, size_t *n,
                                     spar_error *err) {
    spar_status status = SPAR_OK;
    size_t at, length;
    *text = "";
    *n = 0;
    SPAR_TRY(decode_window(s, &at, &length, err));
    *text = s->current + at;
    *n = length - at;
    s->window.n = s->n_context = s->n_text = 0;
done:
    return status;
}
