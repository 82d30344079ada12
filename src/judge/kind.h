/* The table of judge kinds, and what a kind provides.
 *
 * A kind is a row of a const table (judge.c). It opens a context for a model or method and fills
 * the judgement of a row; the rest (reading rows, best, worst, time, JSON) is common.
 */
#ifndef SP_JUDGE_KIND_H
#define SP_JUDGE_KIND_H

#include <jansson.h>
#include <math.h>

#include "base/str.h"
#include "io/rundb.h"
#include "spar/judge.h"

/* One row, checked: k >= 1 responses, strings or lists. All borrowed. */
typedef struct sp_judge_item {
    size_t k;
    bool ids; /* prompt and responses are lists of token ids */
    const json_t *responses;
    const json_t *prompt;    /* NULL: none */
    const json_t *reference; /* NULL: none */
    const json_t *row;       /* as it was given */
    json_t *texts;           /* owned by the item: of responses that are objects; NULL: none is */
} sp_judge_item;

/* What a kind's judge makes: scores, from which P follows by comparing; or both. */
typedef enum sp_judge_fills { SP_JUDGE_FILLS_SCORES, SP_JUDGE_FILLS_BOTH } sp_judge_fills;

typedef struct sp_judge_kind {
    const char *name;
    sp_judge_fills fills;
    bool reads_ids;
    bool reads_steps; /* a response may be a list of strings */
    /* model: what stood behind the colon, "" for nothing. *context is owned by the judge and given
     * to close. */
    spar_status (*open)(void **context, const char *model, const spar_judge_options *options,
                        spar_error *err);
    /* out's arrays are allocated (p and scores, zeroed); logits may be added. */
    spar_status (*judge)(void *context, const sp_judge_item *item, spar_judgement *out,
                         spar_error *err);
    void (*close)(void *context);
    bool is_folder; /* model is the path of a model on disk */
    /* Add what else the judgements depend on to the provenance; NULL: nothing. */
    spar_status (*describe)(const void *context, json_t *out, spar_error *err);

    /* Of judges that are paid and answer several questions at a time; all NULL for others: keep
     * replies in a run's database, borrowed; ask what judging these rows will ask; how many rows
     * are worth giving together. */
    void (*share)(void *context, sp_rundb *db);
    spar_status (*ahead)(void *context, const sp_judge_item *items, size_t n, spar_error *err);
    size_t (*lookahead)(const void *context);
} sp_judge_kind;

/* Two responses that are alike up to a step and differ there. */
typedef struct sp_fork {
    size_t better, worse, step;
    double margin; /* of the scores of that step; 0: no two differ so */
} sp_fork;
/* The two whose scores at their fork differ most; j has steps and their texts. unfit [k]: those
 * that cannot be the better one; NULL: none. */
sp_fork sp_judge_widest_fork(const spar_judgement *j, const bool *unfit);
/* The steps of a response as a new list of strings, one at least: those given, or what a blank line
 * (lines: a line's end) ends. */
json_t *sp_judge_steps_of(const json_t *response, bool lines);
/* Whether KIND[:MODEL] names a judge that scores steps. */
bool sp_judge_sees_steps(const char *spec);

/* Give a judge the run's database to keep such replies in; judges that pay for none ignore it. */
void sp_judge_share(spar_judge *judge, sp_rundb *db);

/* Numbers [n] as a list, a new reference. */
json_t *sp_judge_numbers(const double *values, size_t n);
/* P of a logit, as in Bradley and Terry's model. */
static inline double sp_judge_sigmoid(double logit) {
    return 1 / (1 + exp(-logit));
}
/* P from scores: 1, 1/2 or 0. */
void sp_judge_compare_scores(spar_judgement *out);
/* Scores from P: the mean over all responses, itself included, and both orders. */
void sp_judge_score_by_wins(spar_judgement *out);

/* The prompt, a string or a list of messages, with a response (a string) as the assistant's message
 * and what else the row has for a template: a conversation, a new reference. FORMAT for other
 * prompts. */
spar_status sp_judge_conversation(const sp_judge_item *item, const json_t *response, json_t **out,
                                  spar_error *err);
/* A prompt as text: a string as it is, of a list of messages the only one's content, or the
 * contents behind their roles ("user: ..."), a blank line between. FORMAT for anything else. */
spar_status sp_judge_prompt_text(const json_t *prompt, sp_str *out, spar_error *err);

extern const sp_judge_kind sp_judge_verifier, sp_judge_program, sp_judge_pairrm, sp_judge_reward,
    sp_judge_llm, sp_judge_api, sp_judge_process, sp_judge_preference, sp_judge_ensemble;

#endif
