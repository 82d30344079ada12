/* Reading a row of the user's data (dataset.h): its messages (dataset_messages.c), its prompt and
 * responses (dataset_responses.c), and which layout it has (dataset.c).
 */
#ifndef SP_EVAL_DATASET_PARTS_H
#define SP_EVAL_DATASET_PARTS_H

#include "eval/dataset.h"

/* A row being read. Its strings and messages are moved into the dataset. */
typedef struct sp_reading {
    const json_t *row; /* borrowed */
    const char *where; /* borrowed: "file:line" */
    unsigned wants;    /* SP_DATASET_... */
    sp_dataset_row *out;
    spar_error *err;
} sp_reading;

/* FORMAT: "where: field: expected ..., found ...". */
spar_status sp_reading_wrong(const sp_reading *r, const char *field, const char *expected,
                             const char *found);
spar_status sp_reading_wrong_type(const sp_reading *r, const char *field, const char *expected,
                                  const json_t *found);
spar_status sp_reading_no_memory(const sp_reading *r);

/* Append {role, content: text}; text is borrowed. */
spar_status sp_reading_append_text(const sp_reading *r, json_t *list, const char *role,
                                   const json_t *text);
/* One message of either kind, as {role, content, ...}, to list. */
spar_status sp_reading_message(const sp_reading *r, const char *field, json_t *message,
                               json_t *list);
/* A list of messages, not empty; *out is a new reference. */
spar_status sp_reading_list(const sp_reading *r, const char *field, const json_t *value,
                            json_t **out);

/* The prompt: a string, which is the user's message, or a list of messages. */
spar_status sp_reading_prompt(const sp_reading *r, const char *field);
/* A whole conversation: its last message is the response, those before it are the prompt. */
spar_status sp_reading_whole(const sp_reading *r, const char *field);
/* A text as the assistant's message. */
spar_status sp_reading_text_response(const sp_reading *r, const json_t *text, json_t **response);
/* A response to the prompt that was read. */
spar_status sp_reading_answer(const sp_reading *r, const char *field, json_t **response);
/* Two of them; without a prompt so far they give it. */
spar_status sp_reading_pair(const sp_reading *r, const char *good, const char *bad);
/* The pair of prompt, chosen and rejected: where the prompt is a text, the others may be whole
 * conversations in which the user says it. */
spar_status sp_reading_prompt_pair(const sp_reading *r);
/* The pair of two transcripts. */
spar_status sp_reading_transcripts(const sp_reading *r);

#endif
