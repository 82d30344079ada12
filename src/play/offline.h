/* A data file as token ids, for training on it. */
#ifndef SP_PLAY_OFFLINE_H
#define SP_PLAY_OFFLINE_H

#include "model/engine.h"
#include "play/lessons.h"
#include "spar/train.h"

typedef struct sp_offline_row {
    int32_t *prompt, *chosen, *rejected; /* owned; rejected NULL but for pairs */
    size_t n_prompt, n_chosen, n_rejected;
    double score_chosen, score_rejected; /* NaN: the row gives none; of labelled rows 1 or 0 */
} sp_offline_row;

typedef struct sp_offline {
    sp_offline_row *rows; /* owned, [n] */
    size_t n, capacity;
    sp_lessons lessons; /* borrow from rows */
    int64_t skipped;    /* bad rows left out */
    int64_t truncated;  /* rows with a response that was cut */
    const char *layout; /* one sentence */
} sp_offline;

/* Rows for the objective, which takes one response (SFT; KTO with its label) or two. Says through
 * the sink which layout it saw and shows the first row. */
spar_status sp_offline_load(sp_offline *out, const spar_model *model, const spar_train_options *o,
                            const sp_objective *objective, spar_error *err);
void sp_offline_release(sp_offline *data);

#endif
