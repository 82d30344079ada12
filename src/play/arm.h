/* One arm of a run: warm-up epochs, or iterations of sample, pair, train, evaluate, gate. */
#ifndef SP_PLAY_ARM_H
#define SP_PLAY_ARM_H

#include "play/run.h"

/* Run arm `index` of the recipe from *best and leave the best checkpoint there. sequences
 * [iterations]: out, sequences trained on in each iteration (what a control must match). */
spar_status sp_arm_run(sp_run *run, const sp_arm *arm, sp_best *best, int64_t *sequences,
                       spar_error *err);

/* The arm's control from the same start: SFT on labelled problems or on the model's own verified
 * answers, with as many sequences an iteration. */
spar_status sp_arm_run_control(sp_run *run, const sp_arm *arm, const sp_best *start,
                               const int64_t *sequences, spar_error *err);

/* Evaluate the start model: the run's first stage. */
spar_status sp_arm_run_base(sp_run *run, sp_best *best, spar_error *err);

#endif
