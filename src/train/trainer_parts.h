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
    size_t *places; /* owned: the first scored place of each packed reply */
    size_t places_capacity;
    struct {
        sp_loss_response *losses; /* owned, what an objective is asked with */
        sp_pg_response *tokens;
        double *d;
        sp_loss_response ends[2]; /* the first and the last reply of an example computed in parts */
        size_t capacity[3];
    } asked;
};

#endif
