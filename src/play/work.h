/* What the phases of a stage took, by process: a run that is stopped or killed and goes on adds to
 * what it took before.
 *
 * One phase is at work at a time. It is stored when it begins, about each second, and when it ends,
 * so that a kill loses the last second of the count at most. Nothing else depends on it.
 */
#ifndef SP_PLAY_WORK_H
#define SP_PLAY_WORK_H

#include "play/run.h"

/* Begin a segment of "sample", "judge", "judge report" or "train". phase: a literal. */
spar_status sp_work_begin(sp_run *run, int64_t stage, const char *phase, spar_error *err);
/* Ask often. A failure to store is left to sp_work_end. */
void sp_work_tick(sp_run *run);
/* End it. status: what the work came to, which is returned where it is no success. */
spar_status sp_work_end(sp_run *run, spar_status status, spar_error *err);

/* A stage that took another's samples took what these took. */
spar_status sp_work_share(sp_run *run, int64_t from, int64_t stage, const char *phase,
                          spar_error *err);

#endif
