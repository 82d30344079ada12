/* The user's own data as conversations (spar/chat_template.h).
 *
 * The layout is recognised from the first row, and every row must follow it:
 *   messages           {"messages": [{"role", "content", ...}...]}: the last message is the
 *                      assistant's response, those before it are the prompt
 *   conversations      {"conversations": [{"from", "value"}...]}: the same with "human" and "gpt",
 *                      "function_call", JSON of "name" and "arguments", and "observation"
 *   prompt-completion  {"prompt", "completion"}, strings or lists of messages
 *   instruction        {"instruction", "input", "output"} or {"instruction", "context",
 *                      "response"}: input or context is optional and follows the instruction after
 *                      an empty line; "history", [[said, answered], ...], comes before it
 *   question-answer    {"prompt", "response" or "answer" or "output"}, {"question" or "query",
 *                      "context", "answer" or "response"}, {"input", "output"}
 *   real-generated     {"real", "generated"}: lists of messages; real ends in the response,
 *                      generated in the rejected response
 *   preference         {"prompt" or "conversations" or "instruction" and "input" or
 *                      "question" or "query" or "input", "chosen", "rejected"}: chosen and
 *                      rejected are strings, a message or lists of messages (which may repeat
 *                      the prompt; without "prompt" they must)
 *   transcripts        {"chosen", "rejected"} as text: "\n\nHuman: ...\n\nAssistant: ..." turns
 *   responses          {"prompt", "responses" or "completions"}, a list: read only where asked for
 *   text               {"text"}: read only where asked for
 * A row may score its two responses, by win rate or reward: {"score_chosen", "score_rejected"},
 * {"chosen_score", "rejected_score"} or {"chosen_probs_win", "chosen_probs_lose"}.
 * A list may be several messages of a response, such as a call, the tool's answer and the reply to
 * it: what follows the prompt where the list repeats it, else the whole list. It begins and ends
 * with the assistant. Two lists without a prompt have as the prompt the messages that they share,
 * without the last of either. Messages are kept whole, for the chat template to read: a content is
 * a string, a list of parts ({"type": "text", "text"}) or, beside calls or reasoning, nothing. So
 * are "tools", "documents" and "chat_template_kwargs" of a row, which go with the prompt, and
 * "system" or "system_prompt", which becomes its first message. Where a list of messages repeats
 * the prompt, a member that one of two messages lacks says nothing. Other members are ignored, but
 * a row without a rejected response whose "label" is false is refused: its response was judged bad.
 */
#ifndef SP_EVAL_DATASET_H
#define SP_EVAL_DATASET_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

typedef struct sp_dataset_row {
    json_t *prompt;   /* owned: a conversation of one message at least */
    json_t *response; /* owned: the assistant's message, or a list of several messages */
    json_t *rejected; /* owned: the same; NULL where the layout has none */
    bool bad;         /* labelled rows: the response was judged bad */
    double score, rejected_score; /* NaN where the row gives none */
    json_t *base;                 /* owned: a response of the base's, where asked for and given */
    json_t *text;                 /* owned: of the layout text, which has nothing else; else NULL */
    json_t *row;                  /* owned: of the layout responses the row itself, else NULL */
    char *where;                  /* owned: "file:line", as spar_rows_where */
} sp_dataset_row;

typedef struct sp_dataset {
    sp_dataset_row *rows; /* owned */
    size_t n, capacity;
    const char *name;   /* of the layout, static: "preference" */
    const char *layout; /* one sentence on the layout, static */
} sp_dataset;

/* path as spar_rows_open takes it. A file without rows is an error. Messages name file:line, the
 * field, what was expected and what was found. */
spar_status sp_dataset_load(sp_dataset **out, const char *path, spar_error *err);
/* Asked about a row that cannot be used (err names it and says why): true to go on without it. */
typedef bool (*sp_dataset_skip)(void *context, const spar_error *err);
/* What rows are read for beside the layouts above. */
enum {
    SP_DATASET_LABELS = 1, /* every row must have a "label", true or false, which is kept */
    SP_DATASET_BASE = 2,   /* a third response, "base", is kept where a row has one */
    SP_DATASET_GROUPS = 4, /* the layout responses too */
    SP_DATASET_TEXT = 8    /* the layout text too */
};
/* The same, with the caller's word on each bad row; skip NULL: none may be. wants: SP_DATASET_...
 */
spar_status sp_dataset_load_rows(sp_dataset **out, const char *path, unsigned wants,
                                 sp_dataset_skip skip, void *context, spar_error *err);
/* Whether a row's response is good, "label" or "kto_tag"; NULL: it says nothing. *name: which. */
const json_t *sp_dataset_label(const json_t *row, const char **name);
/* The scores that a row gives its two responses, under one of the names above; NaN: none. FORMAT
 * for one that is no number, or alone. */
spar_status sp_dataset_scores(const json_t *row, double *chosen, double *rejected, spar_error *err);
void sp_dataset_free(sp_dataset *data); /* NULL is fine */

#endif
