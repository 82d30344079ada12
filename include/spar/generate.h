/* Batched sampling: many prompts, K responses each, refilled as sequences end.
 *
 * The prompt of K responses is computed once, and so is an opening that all prompts share. The
 * log-prob kept with each token is that of the untouched distribution (temperature 1, no filter):
 * what a trainer computes for the same token.
 *
 * Random numbers are keyed by (seed, prompt key, sample, position): a response does not depend on
 * the batch it was sampled in beyond the rounding of matrix products. Nor on lookup: a guess only
 * says which tokens are run through the model before it is known whether they come; every token is
 * drawn from the model's distribution by its own random number, and the guess ends at the first
 * token that was drawn otherwise.
 */
#ifndef SPAR_GENERATE_H
#define SPAR_GENERATE_H

#include "spar/model.h"
#include "spar/options.h"

typedef struct spar_sampling {
    double temperature;        /* 0: greedy */
    int64_t top_k;             /* 0: off */
    double top_p;              /* 1: off */
    double min_p;              /* 0: off */
    double repetition_penalty; /* 1: off; over prompt and response, as Hugging Face has it */
    int64_t max_new_tokens;
    int64_t seed;
    int64_t batch; /* sequences in flight */
    bool ignore_eos;
    int64_t lookup;        /* tokens guessed by prompt lookup and checked in one pass; 0: none */
    spar_option_list stop; /* strings that end a response; cut from its text */
} spar_sampling;

/* Rows of an option table for the fields above, for a struct of the caller's that holds them:
 * SPAR_SAMPLING_ROWS(my_values, sampling.) */
#define SPAR_SAMPLING_ROWS(type, prefix)                                                           \
    {"temperature",                                                                                \
     'T',                                                                                          \
     SPAR_OPTION_NUMBER,                                                                           \
     offsetof(type, prefix temperature),                                                           \
     "1",                                                                                          \
     0,                                                                                            \
     100,                                                                                          \
     NULL,                                                                                         \
     "X",                                                                                          \
     "sampling temperature; 0 takes the most likely token"},                                       \
        {"top-k",                                                                                  \
         0,                                                                                        \
         SPAR_OPTION_INT,                                                                          \
         offsetof(type, prefix top_k),                                                             \
         "0",                                                                                      \
         0,                                                                                        \
         1 << 24,                                                                                  \
         NULL,                                                                                     \
         "N",                                                                                      \
         "sample from the N most likely tokens; 0 from all"},                                      \
        {"top-p",                                                                                  \
         0,                                                                                        \
         SPAR_OPTION_NUMBER,                                                                       \
         offsetof(type, prefix top_p),                                                             \
         "1",                                                                                      \
         1e-9,                                                                                     \
         1,                                                                                        \
         NULL,                                                                                     \
         "P",                                                                                      \
         "sample from the smallest set of tokens with this probability"},                          \
        {"min-p",                                                                                  \
         0,                                                                                        \
         SPAR_OPTION_NUMBER,                                                                       \
         offsetof(type, prefix min_p),                                                             \
         "0",                                                                                      \
         0,                                                                                        \
         1,                                                                                        \
         NULL,                                                                                     \
         "P",                                                                                      \
         "drop tokens less likely than this share of the most likely one"},                        \
        {"repetition-penalty",                                                                     \
         0,                                                                                        \
         SPAR_OPTION_NUMBER,                                                                       \
         offsetof(type, prefix repetition_penalty),                                                \
         "1",                                                                                      \
         0.01,                                                                                     \
         100,                                                                                      \
         NULL,                                                                                     \
         "X",                                                                                      \
         "divide the logits of tokens that were there already"},                                   \
        {"max-new-tokens",                                                                         \
         'n',                                                                                      \
         SPAR_OPTION_INT,                                                                          \
         offsetof(type, prefix max_new_tokens),                                                    \
         "256",                                                                                    \
         1,                                                                                        \
         1 << 24,                                                                                  \
         NULL,                                                                                     \
         "N",                                                                                      \
         "longest response, in tokens"},                                                           \
        {"seed",                                                                                   \
         's',                                                                                      \
         SPAR_OPTION_INT,                                                                          \
         offsetof(type, prefix seed),                                                              \
         "0",                                                                                      \
         0,                                                                                        \
         9e15,                                                                                     \
         NULL,                                                                                     \
         "N",                                                                                      \
         "seed of the random numbers"},                                                            \
        {"batch", 0,   SPAR_OPTION_INT,      offsetof(type, prefix batch), "32", 1, 4096,          \
         NULL,    "N", "sequences in flight"},                                                     \
        {"lookup",                                                                                 \
         0,                                                                                        \
         SPAR_OPTION_INT,                                                                          \
         offsetof(type, prefix lookup),                                                            \
         "0",                                                                                      \
         0,                                                                                        \
         16,                                                                                       \
         NULL,                                                                                     \
         "N",                                                                                      \
         "guess up to N tokens ahead from earlier text: faster where text repeats, same samples"}, \
        {"ignore-eos",                                                                             \
         0,                                                                                        \
         SPAR_OPTION_FLAG,                                                                         \
         offsetof(type, prefix ignore_eos),                                                        \
         "false",                                                                                  \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL,                                                                                     \
         "go on past end-of-turn tokens"},                                                         \
    {                                                                                              \
        "stop", 0, SPAR_OPTION_LIST, offsetof(type, prefix stop), NULL, 0, 0, NULL, "TEXT",        \
            "end a response at this text"                                                          \
    }
/* The same for a spar_sampling by itself. */
SPAR_API extern const spar_option spar_sampling_options[];

typedef enum spar_finish {
    SPAR_FINISH_STOP,  /* an end-of-turn id, kept as the last token, or a stop string */
    SPAR_FINISH_LENGTH /* max_new_tokens or the context was reached: a truncated response */
} spar_finish;

SPAR_API const char *spar_finish_name(spar_finish finish); /* "stop", "length" */

typedef struct spar_prompt {
    const int32_t *ids; /* borrowed, n >= 1 */
    size_t n;
    uint64_t key; /* names the prompt's random stream */
} spar_prompt;

typedef struct spar_response {
    int32_t *ids; /* owned, [n], the end-of-turn token included */
    float *logps; /* owned, [n], natural log */
    size_t n;
    spar_finish finish;
    char *text; /* owned, NUL-terminated, special tokens left out; NULL without a tokenizer */
    size_t n_text;
} spar_response;

typedef struct spar_generate_hooks {
    /* Called as each token of a response is sampled; may be NULL. */
    void (*token)(void *context, size_t prompt, int sample, int32_t id);
    /* Return true to stop early: spar_generate then fails with INTERRUPTED. May be NULL. */
    bool (*stop)(void *context);
    void *context;
    const char *phase; /* of the progress events; NULL: "sample" */
} spar_generate_hooks;

/* responses [n_prompts * samples], prompt-major, filled here; release each set by
 * spar_responses_free. On failure nothing is left to release. A prompt that leaves no room in the
 * context is an error that names its index. */
SPAR_API spar_status spar_generate(spar_model *model, const spar_prompt *prompts, size_t n_prompts,
                                   int samples, const spar_sampling *sampling,
                                   const spar_generate_hooks *hooks, spar_response *responses,
                                   spar_error *err);
SPAR_API void spar_responses_free(spar_response *responses, size_t n);

#endif
