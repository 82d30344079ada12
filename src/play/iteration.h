/* The iterations of an arm: sample, pair, train, evaluate, gate. */
#ifndef SP_PLAY_ITERATION_H
#define SP_PLAY_ITERATION_H

#include "play/run.h"

/* Run the arm's iterations from *best and leave the best checkpoint there; they end early when
 * arm->patience of them in a row were thrown away. sequences [iterations]: out, sequences trained
 * on in each of the *played ones. */
spar_status sp_iterations_run(sp_run *run, const sp_arm *arm, sp_best *best, int64_t *sequences,
                              int64_t *played, spar_error *err);

#endif
