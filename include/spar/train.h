/* One method on a data file: supervised fine-tuning, a preference loss or a policy gradient,
 * offline.
 *
 * The file is read and checked whole, the reference scores every pair once, and then the steps run;
 * the trained model is written whole at the end. A run of play does the same on what the model
 * sampled itself (play.h). */
#ifndef SPAR_TRAIN_H
#define SPAR_TRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "spar/log.h"
#include "spar/method.h"
#include "spar/model.h"
#include "spar/options.h"
#include "spar/status.h"

/* What becomes of a row whose prompt and response are longer than max_length. */
typedef enum spar_train_long {
    SPAR_TRAIN_LONG_STOP,    /* a bad row */
    SPAR_TRAIN_LONG_SKIP,    /* left out and counted */
    SPAR_TRAIN_LONG_TRUNCATE /* the response loses its end, the end-of-turn token with it */
} spar_train_long;

typedef struct spar_train_options {
    const char *model, *data; /* paths */
    const char *method;       /* "sft", "kto", or a row of the tables of train/ */
    const char *reference;    /* path of another opponent, or of another anchor where the method has
                               * one; NULL: the model as loaded. INVALID where it reads none */
    const char *out;          /* folder to make: the model, or the adapter where one trains */
    const char *log;          /* JSON Lines, a row a step (docs/architecture.md); NULL: none */
    const char *write_ids;    /* JSON Lines: the rows as the ids that are trained on; NULL: none.
                               * Without out and log nothing is trained */
    const double *params; /* [SPAR_PARAM_COUNT], SPAR_PARAM_OWN where none is given; NULL: none */
    const char *optimizer, *schedule; /* rows of those tables */
    double lr, warmup_ratio, weight_decay, max_grad_norm;
    double balance; /* weight of the load-balancing loss of a mixture of experts; below 0: what the
                     * model's configuration says */
    int64_t batch, epochs;
    int64_t steps;      /* in place of epochs; 0: none */
    int64_t max_tokens; /* rows of a packed micro-batch */
    int64_t max_length; /* longest prompt and response together; 0: the model's context */
    int64_t lora_rank;  /* 0: the weights train */
    double lora_alpha;
    bool lora_dora; /* with a magnitude for each output (DoRA) */
    spar_option_list
        lora_targets; /* matrices to adapt, by name, as in a recipe; none: its default */
    uint64_t seed;
    bool assistant_only_loss; /* sft: every turn of the assistant's in rows of a conversation, not
                               * the last alone */
    bool keep_order;          /* rows as they come in the file, instead of shuffled each epoch */
    bool skip_bad; /* leave rows out that cannot be used, counting them, instead of stopping */
    spar_train_long on_long;
    bool recompute;
    spar_dtype dtype;
    spar_weights weights;
    int threads;
    const char *template_path;
    const spar_sink *sink;       /* borrowed; may be NULL */
    bool (*stop)(void *context); /* asked between steps; may be NULL */
    void *stop_context;
} spar_train_options;

/* Bad rows, with the row's number and the reason: broken or of another layout, an empty response,
 * one over max_length where it stops, two identical responses, a pair without its rejected one.
 * INTERRUPTED when stop said so: nothing is written then but the log of the steps that were done.
 */
SPAR_API spar_status spar_train(const spar_train_options *options, spar_error *err);

#endif
