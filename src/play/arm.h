/* One arm of a run: warm-up epochs, or iterations of sample, pair, train, evaluate, gate. */
#ifndef SP_PLAY_ARM_H
#define SP_PLAY_ARM_H

#include "play/run.h"

/* Run an arm from *best and leave the best checkpoint there. sequences [iterations]: out, sequences
 * trained on in each of the *played iterations (what a control must match). */
spar_status sp_arm_run(sp_run *run, const sp_arm *arm, sp_best *best, int64_t *sequences,
                       int64_t *played, spar_error *err);

/* The arm's control from the same start: SFT on labelled problems or on the model's own verified
 * answers, with as many sequences in each of the played iterations. */
spar_status sp_arm_run_control(sp_run *run, const sp_arm *arm, const sp_best *start,
                               const int64_t *sequences, int64_t played, spar_error *err);

/* Evaluate the start model: the run's first stage. */
spar_status sp_arm_run_base(sp_run *run, sp_best *best, spar_error *err);

#endif
