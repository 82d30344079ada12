/* A data file as token ids, for training on it. */
#ifndef SP_PLAY_OFFLINE_H
#define SP_PLAY_OFFLINE_H

#include <jansson.h>

#include "model/engine.h"
#include "play/lessons.h"
#include "spar/train.h"

typedef struct sp_offline_response {
    int32_t *ids;    /* owned, [n] */
    float *logps;    /* owned, [n]: of the policy that sampled it; NULL: not given */
    uint8_t *mask;   /* owned, [n]: 1 for a token that is learned; NULL: all are */
    size_t n, place; /* place: among those of the file's row */
    double score;    /* win rate or reward; NaN: the row gives none; of labelled rows 1 or 0 */
} sp_offline_response;

/* A prompt and its responses in the order that the objective wants (sp_example). */
typedef struct sp_offline_row {
    int32_t *prompt; /* owned */
    size_t n_prompt;
    sp_offline_response *responses; /* owned, [n] */
    size_t n;
    double *p; /* owned, [n,n]: P(i preferred to j), both orders evened; NULL: not given */
} sp_offline_row;

typedef struct sp_offline {
    sp_offline_row *rows; /* owned */
    size_t n, capacity;
    sp_lessons lessons; /* borrow from rows */
    int64_t skipped;    /* bad rows left out */
    int64_t truncated;  /* rows with a response that was cut */
    int64_t merged;     /* rows with a token over the end of the prompt, which is learned whole */
    const char *layout; /* one sentence */
} sp_offline;

/* Rows for the objective: as many responses as it takes, with what it reads of them. Says through
 * the sink which layout it saw and shows the first row. */
spar_status sp_offline_load(sp_offline *out, const spar_model *model, const spar_train_options *o,
                            const sp_objective *objective, spar_error *err);
void sp_offline_release(sp_offline *data);

/* The rows as ids, in the layouts of ids that sp_offline_load reads: a file of JSON Lines; "-":
 * standard output. */
spar_status sp_offline_write(const sp_offline *data, const sp_objective *objective,
                             const char *path, spar_error *err);

/* ---- parts of a row (offline_row.c); each is filled by them and owned by it ---- */

void sp_offline_row_release(sp_offline_row *row);
/* Room for n responses, without ids and scores. */
spar_status sp_offline_row_init(sp_offline_row *row, size_t n, spar_error *err);

/* A list of the model's token ids; `name` is its place in messages. */
spar_status sp_offline_ids(const spar_model *model, const json_t *list, const char *name,
                           int32_t **ids, size_t *n, spar_error *err);
/* Which ids of a response are learned: a list of 1 and 0, one an id; the mask is left out where all
 * are 1. */
spar_status sp_offline_mask(const json_t *list, const char *name, sp_offline_response *to,
                            spar_error *err);
/* Response i as the assistant's message, which gives the prompt's ids too where the row has none
 * yet. */
spar_status sp_offline_turn(const spar_model *model, const json_t *prompt, const json_t *response,
                            sp_offline_row *row, size_t i, spar_error *err);

/* Responses [n] of which some are several messages, all of them tokenised whole with the prompt
 * (sp_model_whole): each is what follows what all of them share with the prompt. *merged: that is
 * less than the prompt. */
spar_status sp_offline_whole(const spar_model *model, const json_t *prompt,
                             const json_t *const *responses, size_t n, sp_offline_row *row,
                             bool *merged, spar_error *err);

/* A text to learn whole, with the tokenizer's special tokens and an end: its first token is the
 * prompt. */
spar_status sp_offline_text(const spar_model *model, const json_t *text, sp_offline_row *row,
                            spar_error *err);

/* Which turns of the assistant's are learned. */
typedef enum sp_turns { SP_TURNS_LAST, SP_TURNS_RESPONSE, SP_TURNS_ALL } sp_turns;
/* A conversation to learn (model/learned.h): up to the first token that is learned it is the
 * prompt, from there to the last the response. */
spar_status sp_offline_conversation(const spar_model *model, const json_t *prompt,
                                    const json_t *response, sp_turns turns, sp_offline_row *row,
                                    spar_error *err);

/* An item of a list of responses as the assistant's message, a new reference: a string, a message
 * (or a list of one), or {"text"}; `name` is its place in messages of errors. */
spar_status sp_offline_message(const json_t *item, const char *name, json_t **out, spar_error *err);
/* A row of any number of responses: "responses" or "completions", each such an item, or what spar
 * generate writes, {"text", "ids", "logprobs"}; prompt: a conversation. */
spar_status sp_offline_group_of_text(const spar_model *model, const json_t *prompt,
                                     const json_t *json, sp_offline_row *row, spar_error *err);
/* The same of {"prompt_ids", "responses_ids"}. */
spar_status sp_offline_group_of_ids(const spar_model *model, const json_t *json,
                                    sp_offline_row *row, spar_error *err);
/* What the objective reads of such a row: "rewards" or "scores", [n]; or "win_rates" [n] or "p",
 * [n][n] of P(i preferred to j). "logprobs", where given: a list a response, one a token; for
 * methods that see whole responses also their sums. Puts the best first. */
spar_status sp_offline_group_numbers(const sp_objective *objective, const json_t *json,
                                     sp_offline_row *row, spar_error *err);

#endif
