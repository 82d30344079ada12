/* Inside of a trainer: shared by its stepping and its saving. */
#ifndef SP_TRAIN_TRAINER_PARTS_H
#define SP_TRAIN_TRAINER_PARTS_H

#include "train/trainer.h"

struct sp_trainer {
    spar_model *model; /* borrowed */
    sp_trainer_options options;
    sp_trainable trainable;
    float *grads; /* owned, flat like what is trainable */
    sp_optimizer *optimizer;
    sp_pass *pass;
    sp_batch batch;
    float *logp, *c; /* owned, [scored_capacity] */
    size_t scored_capacity;
    struct placed {
        size_t chosen, rejected; /* first place in the scored list */
    } * placed;                  /* owned, [examples of a micro-batch] */
    size_t placed_capacity;
};

#endif
