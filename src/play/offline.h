/* A data file as token ids, for training on it. */
#ifndef SP_PLAY_OFFLINE_H
#define SP_PLAY_OFFLINE_H

#include "model/engine.h"
#include "spar/train.h"
#include "train/trainer.h"

typedef struct sp_offline_row {
    int32_t *prompt, *chosen, *rejected; /* owned; rejected NULL but for pairs */
} sp_offline_row;

typedef struct sp_offline {
    sp_offline_row *rows; /* owned, [n] */
    sp_example *examples; /* owned, [n]: borrow from rows */
    size_t n, capacity;
    int64_t skipped;    /* bad rows left out */
    int64_t truncated;  /* rows with a response that was cut */
    const char *layout; /* one sentence */
} sp_offline;

typedef enum sp_offline_kind {
    SP_OFFLINE_ANSWERS, /* sft: a rejected response is not read */
    SP_OFFLINE_PAIRS,   /* rows must have a rejected response */
    SP_OFFLINE_LABELLED /* rows must have a label; rejected is the response to another prompt */
} sp_offline_kind;

/* kind: what the method reads. Says through the sink which
 * layout it saw and shows the first row. */
spar_status sp_offline_load(sp_offline *out, const spar_model *model, const spar_train_options *o,
                            sp_offline_kind kind, spar_error *err);
void sp_offline_release(sp_offline *data);

#endif
