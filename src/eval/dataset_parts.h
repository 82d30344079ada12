/* Reading a row of the user's data (dataset.h): its messages (dataset_messages.c), its prompt and
 * responses (dataset_responses.c), and which layout it has (dataset.c).
 */
#ifndef SP_EVAL_DATASET_PARTS_H
#define SP_EVAL_DATASET_PARTS_H

#include "eval/dataset.h"

/* A row being read. Its strings and messages are moved into the dataset. */
typedef struct sp_reading {
    const json_t *row;                 /* borrowed */
    const char *where;                 /* borrowed: "file:line" */
    unsigned wants;                    /* SP_DATASET_... */
    const char *ask, *answer, *beside; /* of rows of a question: its name and the answer's, and of
                                        * what follows it; beside may be NULL */
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
/* A list of messages, not empty, or a text of JSON of one; *out is a new reference. */
spar_status sp_reading_list(const sp_reading *r, const char *field, const json_t *value,
                            json_t **out);

/* What a row has beside them: a "system" or "system_prompt" of its own becomes the first message,
 * and where there is one already it must be the same; images, videos and sounds are refused
 * (UNSUPPORTED); bare descriptions of functions of a ShareGPT row become tools, once they stand in
 * the prompt's conversation. */
spar_status sp_reading_system(const sp_reading *r);
spar_status sp_reading_no_media(const sp_reading *r);
spar_status sp_reading_wrap_tools(const sp_reading *r);

/* The prompt: a string, which is the user's message, or a list of messages. */
spar_status sp_reading_prompt(const sp_reading *r, const char *field);
/* The question that a layout names, with what follows it after an empty line; before it, as turns,
 * a "history" of pairs of texts. */
spar_status sp_reading_question(const sp_reading *r);
/* A whole conversation: its last message is the response, those before it are the prompt. */
spar_status sp_reading_whole(const sp_reading *r, const char *field);
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
