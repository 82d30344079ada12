/* Rows of data in any of the layouts that training reads (eval/dataset.h): messages, conversations,
 * prompt and completion, instruction and output, question and answer, preferences, ...
 */
#ifndef SPAR_ROW_LAYOUT_H
#define SPAR_ROW_LAYOUT_H

#include "spar/status.h"

struct json_t; /* jansson's */

/* *prompt: its conversation (chat_template.h); *response: the message that answers it, or a list of
 * messages: of a pair the chosen one. New references. FORMAT names the field, what was expected and
 * what was found. */
SPAR_API spar_status spar_row_read(const struct json_t *row, struct json_t **prompt,
                                   struct json_t **response, spar_error *err);

/* The prompt alone, of a row that may have no response: its conversation, a new reference. The last
 * message of "messages" or "conversations" is left out where it is the assistant's. */
SPAR_API spar_status spar_row_prompt(const struct json_t *row, struct json_t **prompt,
                                     spar_error *err);

#endif
