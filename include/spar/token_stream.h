/* Decoding token by token, for text that is shown while it is generated.
 *
 * The pieces handed out, joined, are the text that spar_tokenizer_decode gives for all the tokens.
 * Bytes of a character that is not complete yet are held back. (Where a run of byte tokens turns
 * ill-formed after a well-formed part, the whole run decodes to U+FFFD, but the part was already
 * handed out.) Life cycle: create, push for each token, finish, free. One thread at a time.
 */
#ifndef SPAR_TOKEN_STREAM_H
#define SPAR_TOKEN_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"
#include "spar/tokenizer.h"

typedef struct spar_token_stream spar_token_stream;

/* tokenizer: borrowed, must outlive the stream. */
SPAR_API spar_status spar_token_stream_create(spar_token_stream **out,
                                              const spar_tokenizer *tokenizer, bool skip_special,
                                              spar_error *err);
SPAR_API void spar_token_stream_free(spar_token_stream *stream);

/* *text: the new text, NUL-terminated, *n bytes (maybe none); borrowed until the next call. */
SPAR_API spar_status spar_token_stream_push(spar_token_stream *stream, int32_t id,
                                            const char **text, size_t *n, spar_error *err);
/* What was held back; afterwards the stream is as new. */
SPAR_API spar_status spar_token_stream_finish(spar_token_stream *stream, const char **text,
                                              size_t *n, spar_error *err);

#endif
