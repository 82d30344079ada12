/* Chat templates: the Jinja2 that Hugging Face checkpoints carry, rendered as transformers'
 * apply_chat_template renders it.
 *
 * Templates come from downloaded checkpoints and are not trusted: they see nothing but the values
 * given to them, and a render is bounded in steps, memory, output and depth. Rendering has no
 * clock: the date is an input.
 *
 * Life cycle: spar_template_compile -> spar_template_render (any number of times, from any number
 * of threads at once) -> spar_template_free.
 *
 * Messages of errors read `where:line: what`. Codes: FORMAT for a template that does not parse,
 * INVALID where the template refuses the conversation (raise_exception) or misuses a value,
 * UNSUPPORTED for include, import and extends, LIMIT for a render that grows too far.
 */
#ifndef SPAR_CHAT_TEMPLATE_H
#define SPAR_CHAT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"
#include "spar/tokenizer.h"

struct json_t;

typedef struct spar_template spar_template;

/* source: n bytes of UTF-8. where names the template in messages; both are copied. */
SPAR_API spar_status spar_template_compile(spar_template **out, const char *source, size_t n,
                                           const char *where, spar_error *err);
SPAR_API void spar_template_free(spar_template *t); /* NULL is fine */

/* Another template, for conversations that have tools. for_tools becomes t's own. */
SPAR_API void spar_template_add_tools(spar_template *t, spar_template *for_tools);
/* A tokenizer's own templates, compiled; *out NULL where it has none. */
SPAR_API spar_status spar_template_of_tokenizer(spar_template **out,
                                                const spar_tokenizer *tokenizer, const char *where,
                                                spar_error *err);
/* What it was compiled from, and the one for tools (NULL: it has no other). Borrowed. */
SPAR_API const char *spar_template_source(const spar_template *t);
SPAR_API const char *spar_template_tools_source(const spar_template *t);

/* What a template may see beside the messages. All zero is a valid value. */
typedef struct spar_render_options {
    bool add_generation_prompt;
    const char *bos, *eos, *pad, *unk; /* bos_token, ...; NULL: undefined in the template */
    const char *now; /* "YYYY-MM-DD", for strftime_now; NULL: templates that ask are refused */
} spar_render_options;

/* A conversation is a list of messages, which are objects, or an object {"messages"} that may also
 * have "tools" and "documents", lists of objects, and "chat_template_kwargs", an object of further
 * variables for the template. A template sees what it is given whole, as transformers'
 * apply_chat_template has it: but for members of messages that are null; and reasoning under each
 * of the names "reasoning_content" and "thinking", whichever the message has ("reasoning" is a
 * third). Where there are no tools or documents it sees none, not undefined. */

/* The messages (a list) with what a row of data has beside them, under the names above: a new
 * reference. "tools", "documents" and "chat_template_kwargs" may also be texts of JSON; null, an
 * empty list and an empty text are nothing. FORMAT for what is neither. */
SPAR_API spar_status spar_conversation_of(struct json_t **out, const struct json_t *row,
                                          const struct json_t *messages, spar_error *err);

/* options NULL is all zero. *text is owned by the caller (free()) and NUL-terminated; *n (may be
 * NULL) is its length. */
SPAR_API spar_status spar_template_render(const spar_template *t, const struct json_t *conversation,
                                          const spar_render_options *options, char **text,
                                          size_t *n, spar_error *err);

/* Whether it has {% generation %} blocks, which mark what the assistant writes; and so has the one
 * for tools. */
SPAR_API bool spar_template_marks(const spar_template *t);
/* The same with the bytes of the text that they wrote, in order: *spans [*n_spans] is owned by the
 * caller and may be NULL where there are none. Of a block within a macro or another captured text
 * it is what is written out of what it wrote; UNSUPPORTED where that is nothing, or was made into
 * another text than by strip, a slice, split, + or ~. */
SPAR_API spar_status spar_template_render_spans(const spar_template *t,
                                                const struct json_t *conversation,
                                                const spar_render_options *options, char **text,
                                                size_t *n, spar_text_span **spans, size_t *n_spans,
                                                spar_error *err);

/* A conversation as token ids, special tokens recognised and none added, and which of them the
 * assistant wrote: those that a generation block wrote a part of (*mask [*n], 1 or 0), as
 * transformers' return_assistant_tokens_mask has it. Both arrays are owned by the caller. */
SPAR_API spar_status spar_template_tokens(const spar_template *t, const spar_tokenizer *tokenizer,
                                          const struct json_t *conversation,
                                          const spar_render_options *options, int32_t **ids,
                                          uint8_t **mask, size_t *n, spar_error *err);

#endif
