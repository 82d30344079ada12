/* Training within a stage: examples in a seeded order, steps with a schedule, saved and resumed. */
#ifndef SP_PLAY_STAGE_TRAIN_H
#define SP_PLAY_STAGE_TRAIN_H

#include "play/run.h"

/* What a stage trains on. */
typedef struct sp_curriculum {
    const sp_example *examples; /* borrowed */
    size_t n;                   /* in one pass */
    int64_t sequences; /* SFT: examples in all, passing again and again; 0: epochs decide */
    int64_t epochs;
    int64_t first_step, total_steps; /* of the schedule that this stage is part of; total 0: own */
    const sp_objective *objective;   /* borrowed */
    double lr;
    bool keep_state; /* save the trainer at the end too: a later stage goes on with it */
} sp_curriculum;

/* Train from the weights in the model. trainer: created by the caller. Metrics of every step go to
 * the database under the stage. *sequences: out, sequences trained on. */
spar_status sp_stage_train(sp_run *run, int64_t stage, const sp_arm *arm, sp_trainer *trainer,
                           const sp_curriculum *what, int64_t *sequences, spar_error *err);

/* Steps that a curriculum takes in one stage. */
int64_t sp_stage_steps(const sp_arm *arm, const sp_curriculum *what);

spar_status sp_stage_trainer(sp_run *run, const sp_arm *arm, const char *optimizer,
                             sp_trainer **out, spar_error *err);
/* Remove the saved trainer. */
spar_status sp_stage_drop_state(sp_run *run, spar_error *err);

#endif
