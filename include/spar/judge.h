/* Judges: K responses to one prompt -> who beats whom.
 *
 * Every kind of judge gives the same thing: the K x K matrix of the probabilities that response i
 * is preferred to response j (P[i][i] = 1/2; P[i][j] + P[j][i] = 1 but for PairRM and language
 * models, which read each order by itself), a score a response, and the time it took. A verifier
 * scores each response by itself (0, 1 or between), and P is 1, 1/2 or 0 as the scores compare.
 *
 * Life cycle: spar_judge_open -> spar_judge_row ... -> spar_judge_free. A judge is used by one
 * thread at a time.
 */
#ifndef SPAR_JUDGE_H
#define SPAR_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/model.h"
#include "spar/options.h"
#include "spar/status.h"

struct json_t; /* jansson's */
typedef struct spar_judge spar_judge;

enum { SPAR_JUDGE_MAX_RESPONSES = 1024 };

/* How a model behind HTTP is asked. */
typedef struct spar_endpoint {
    const char *url;          /* before /chat/completions; NULL: none */
    const char *key_variable; /* of the environment, with the key; unset or NULL: none is sent */
    int64_t attempts;         /* at one request, at most */
    double request_limit;     /* seconds that one attempt may take */
    double patience;          /* seconds that all attempts at one request may take */
    double rate;              /* requests a minute; 0: as they come */
    int64_t concurrency;      /* requests at a time, at most; below 1: 1 */
    bool logprobs;            /* ask for them; some endpoints refuse */
} spar_endpoint;

/* Rows of an option table for a spar_endpoint `field` of a struct of the caller's. */
#define SPAR_ENDPOINT_ROWS(type, field)                                                            \
    {"endpoint",                                                                                   \
     0,                                                                                            \
     SPAR_OPTION_STRING,                                                                           \
     offsetof(type, field.url),                                                                    \
     NULL,                                                                                         \
     0,                                                                                            \
     0,                                                                                            \
     NULL,                                                                                         \
     "URL",                                                                                        \
     "where the model of api: is, as in https://host/v1; it speaks OpenAI's chat protocol"},       \
        {"key-variable",                                                                           \
         0,                                                                                        \
         SPAR_OPTION_STRING,                                                                       \
         offsetof(type, field.key_variable),                                                       \
         "SPAR_API_KEY",                                                                           \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         "NAME",                                                                                   \
         "variable of the environment with the endpoint's key, where it needs one"},               \
        {"attempts",                                                                               \
         0,                                                                                        \
         SPAR_OPTION_INT,                                                                          \
         offsetof(type, field.attempts),                                                           \
         "6",                                                                                      \
         1,                                                                                        \
         1000,                                                                                     \
         NULL,                                                                                     \
         "N",                                                                                      \
         "attempts at one request to the endpoint"},                                               \
        {"request-limit",                                                                          \
         0,                                                                                        \
         SPAR_OPTION_NUMBER,                                                                       \
         offsetof(type, field.request_limit),                                                      \
         "120",                                                                                    \
         0.01,                                                                                     \
         86400,                                                                                    \
         NULL,                                                                                     \
         "SECONDS",                                                                                \
         "longest that one attempt may take"},                                                     \
        {"patience",                                                                               \
         0,                                                                                        \
         SPAR_OPTION_NUMBER,                                                                       \
         offsetof(type, field.patience),                                                           \
         "900",                                                                                    \
         0,                                                                                        \
         1e6,                                                                                      \
         NULL,                                                                                     \
         "SECONDS",                                                                                \
         "longest that all attempts at one request may take, their pauses included"},              \
        {"rate",                                                                                   \
         0,                                                                                        \
         SPAR_OPTION_NUMBER,                                                                       \
         offsetof(type, field.rate),                                                               \
         "0",                                                                                      \
         0,                                                                                        \
         1e6,                                                                                      \
         NULL,                                                                                     \
         "N",                                                                                      \
         "requests a minute at most; 0: as they come"},                                            \
        {"concurrency",                                                                            \
         0,                                                                                        \
         SPAR_OPTION_INT,                                                                          \
         offsetof(type, field.concurrency),                                                        \
         "4",                                                                                      \
         1,                                                                                        \
         256,                                                                                      \
         NULL,                                                                                     \
         "N",                                                                                      \
         "requests to the endpoint at a time, at most"},                                           \
    {                                                                                              \
        "logprobs", 0, SPAR_OPTION_FLAG, offsetof(type, field.logprobs), "true", 0, 0, NULL, NULL, \
            "ask the endpoint for log-probs, which give the verdict's probability"                 \
    }

/* How a process reward model reads steps, and what a response gets of them. */
typedef enum spar_step_format {
    SPAR_STEPS_AUTO,  /* marks or lines for a model with a head, tag or turns for one without */
    SPAR_STEPS_TAG,   /* " \u043a\u0438" behind each step, where + or - is predicted (Math-Shepherd)
                       */
    SPAR_STEPS_TURNS, /* each step a turn of the user, answered by + or - (RLHFlow) */
    SPAR_STEPS_MARKS, /* <extra_0> behind each step, read by a head of two (Qwen2.5-Math-PRM) */
    SPAR_STEPS_LINES  /* a line break behind each step, read by a head of two (TRL) */
} spar_step_format;
typedef enum spar_aggregate {
    SPAR_AGGREGATE_MIN,
    SPAR_AGGREGATE_PRODUCT,
    SPAR_AGGREGATE_LAST
} spar_aggregate;
typedef struct spar_step_rules {
    int format;    /* spar_step_format */
    int aggregate; /* spar_aggregate */
    int steps;     /* of a response that is one string: 0, separated by blank lines; 1, lines */
} spar_step_rules;

/* Rows of an option table for a spar_step_rules `field` of a struct of the caller's. */
#define SPAR_STEP_ROWS(type, field)                                                                \
    {"step-format",                                                                                \
     0,                                                                                            \
     SPAR_OPTION_CHOICE,                                                                           \
     offsetof(type, field.format),                                                                 \
     "auto",                                                                                       \
     0,                                                                                            \
     0,                                                                                            \
     "auto|tag|turns|marks|lines",                                                                 \
     "FORMAT",                                                                                     \
     "how a process reward model reads steps: Math-Shepherd's tag, RLHFlow's turns, the marks of " \
     "Qwen2.5-Math-PRM, TRL's lines"},                                                             \
        {"aggregate",                                                                              \
         0,                                                                                        \
         SPAR_OPTION_CHOICE,                                                                       \
         offsetof(type, field.aggregate),                                                          \
         "min",                                                                                    \
         0,                                                                                        \
         0,                                                                                        \
         "min|product|last",                                                                       \
         "HOW",                                                                                    \
         "score of a response by the scores of its steps"},                                        \
    {                                                                                              \
        "steps", 0, SPAR_OPTION_CHOICE, offsetof(type, field.steps), "paragraphs", 0, 0,           \
            "paragraphs|lines", "WHAT",                                                            \
            "steps of a response: what blank lines separate, or its lines"                         \
    }

/* Limits of the kind "program", for one row; how models compute; how language models are asked. */
typedef struct spar_judge_options {
    double time_limit;   /* seconds, of the clock and of each process's CPU time; above 0 */
    size_t memory_limit; /* MiB of address space a process; at least 1 */
    spar_dtype dtype;    /* of a model's products */
    int threads;         /* 0: one a processor */
    const char *prompt;  /* one of the program's own, or a file (judge/prompt.h); NULL: pairwise */
    int64_t explain;     /* tokens that a language model may write before its verdict */
    spar_step_rules process; /* of the kind "process" */
    double tau;              /* of the kind "preference"; 0: 0.1 */

    /* Of the kind "api". */
    spar_endpoint endpoint;
    const char *cache; /* file in which replies are kept; NULL: none */
    bool (*stop)(
        void *context); /* asked while waiting: true ends a row with INTERRUPTED; or NULL */
    void *stop_context;
} spar_judge_options;

typedef struct spar_judgement {
    size_t k;           /* responses */
    double *p;          /* owned [k,k] */
    double *logits;     /* owned [k,k], what P came from; NULL where the judge has none */
    double *scores;     /* owned [k] */
    size_t best, worst; /* by score, the first of equals */
    size_t *n_steps;    /* owned [k]; NULL where the judge sees no steps */
    double *steps;      /* owned: the scores of the first response's steps, then of the next's */
    struct json_t *step_texts; /* owned: [[string...]...], the same steps */
    double seconds;
    int64_t tokens;     /* that a model was given and wrote; 0 for other kinds */
    int64_t requests;   /* that were paid for */
    int64_t no_verdict; /* questions whose answer held none: P is 1/2 */
} spar_judgement;

/* spec: KIND[:MODEL]. NOT_FOUND for an unknown kind; the message lists the kinds, and which of them
 * have a second name ("prm" is "process", "endpoint" is "api"). For the kind "verifier" MODEL is a
 * method (exact, number, choice, regex, set) or the name of a task family. For "program" it is a
 * shell command: it reads one row {"prompt", "response", "reference"} a response and writes as many
 * rows {"score": number}. For "pairrm" and "reward" it is a Hugging Face folder: a PairRM, or a
 * decoder or encoder with a head of one output; for "preference" one with a general preference
 * model; for "process" one with a head of two or a language model; for "llm" a model that chats, as
 * spar_model_load takes it; for "api" the name of a model at the endpoint, which speaks OpenAI's
 * chat protocol; for "ensemble" a list "2*KIND:MODEL;KIND:MODEL" whose P are averaged by their
 * weights. options NULL: 10 seconds, 1024 MiB, products in the type that is fastest.
 */
SPAR_API spar_status spar_judge_open(spar_judge **out, const char *spec,
                                     const spar_judge_options *options, spar_error *err);
SPAR_API void spar_judge_free(spar_judge *judge); /* NULL is fine */
/* What judges: {"kind", "model"; of models on disk "fingerprint" of their files; of language models
 * "prompt", "prompt_fingerprint", "explain"; of endpoints "endpoint"} as a new reference. A program
 * is its command alone. */
SPAR_API spar_status spar_judge_provenance(const spar_judge *judge, struct json_t **out,
                                           spar_error *err);

/* row: {"responses": [string or {"text": string}...] (process: also lists of steps, and
 * "completions": [step...] in the place of one response, as TRL has it), "prompt": any (models: a
 * string or a list of messages), "reference" or "answer": what verifiers check against}; for models
 * also {"responses_ids": [[id...]...], "prompt_ids": [id...]}. *out is filled; release it by
 * spar_judgement_release, which is fine after a failure too. */
SPAR_API spar_status spar_judge_row(spar_judge *judge, const struct json_t *row,
                                    spar_judgement *out, spar_error *err);
SPAR_API void spar_judgement_release(spar_judgement *j);

/* Ask what judging these rows, and none before them, will ask, several questions at a time, so that
 * spar_judge_row has the replies at hand. A judge that asks nobody does nothing. What fails is said
 * by the row that it belongs to, not here; INTERRUPTED where stop said so, NO_MEMORY.
 * spar_judge_lookahead: how many rows are worth giving together, 1 for most judges. */
SPAR_API spar_status spar_judge_ahead(spar_judge *judge, const struct json_t *const *rows, size_t n,
                                      spar_error *err);
SPAR_API size_t spar_judge_lookahead(const spar_judge *judge);

/* {"p", "logits" where there are, "scores", "best", "worst", "seconds", "steps", "tokens",
 * "requests" and "no_verdict" where there are, "judge": {"kind", "model"}} as a new reference. */
SPAR_API spar_status spar_judgement_json(const spar_judge *judge, const spar_judgement *j,
                                         struct json_t **out, spar_error *err);

/* A row to train on, of what was judged; one that spar train and a recipe's data file read. */
typedef enum spar_judged_row {
    SPAR_JUDGED_BEST, /* best of n: {"prompt", "completion"} */
    SPAR_JUDGED_PAIR, /* {"prompt", "chosen", "rejected"}: the best and the worst, where the one
                       * is preferred */
    SPAR_JUDGED_STEP_PAIR, /* the same of the two responses, alike up to a step, whose scores at
                            * that step differ most, with "step", from 1, and "margin" */
    SPAR_JUDGED_GROUP /* {"prompt", "responses", "rewards", "p"}: all of them, and what else the
                       * row gives of prompt_ids, responses_ids and logprobs */
} spar_judged_row;
/* *out: a new reference; NULL where there is no such row. INVALID for steps of a judge that sees
 * none. */
SPAR_API spar_status spar_judgement_row(const spar_judgement *j, const struct json_t *row,
                                        spar_judged_row what, struct json_t **out, spar_error *err);

#endif
