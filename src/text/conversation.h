/* Conversations as JSON (spar/chat_template.h): a list of messages, or an object of messages with
 * what stands beside them. These make one of another; what they give is a new reference, NULL where
 * memory ran out.
 */
#ifndef SP_TEXT_CONVERSATION_H
#define SP_TEXT_CONVERSATION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "spar/chat_template.h"

/* Borrowed; not a list where the conversation is none. */
const json_t *sp_conversation_messages(const json_t *conversation);
/* Other messages, which are stolen, with what stands beside those of a conversation. */
json_t *sp_conversation_with(const json_t *conversation, json_t *messages);
/* Its first n messages; a response more, which is a message or a list of messages. */
json_t *sp_conversation_first(const json_t *conversation, size_t n);
json_t *sp_conversation_then(const json_t *conversation, const json_t *response);

/* What a row (or a conversation) has beside its messages is carried over to another one. */
void sp_conversation_carry(json_t *to, const json_t *row);

/* {"role", "content"}. */
json_t *sp_message(const char *role, const char *content);
/* Whether a message says nothing: it has no text, no calls and no reasoning. */
bool sp_message_is_empty(const json_t *message);
/* The same of a response; of a list, whether its last message says nothing. */
bool sp_response_is_empty(const json_t *response);
/* The text of a content: a string, or the texts of its parts one after the other; then the calls as
 * JSON. */
void sp_message_put_text(const json_t *message, sp_str *out);
/* The text of a message that says nothing else; NULL: there is more to it. */
const char *sp_message_text(const json_t *message);

#endif
