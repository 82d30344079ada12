/* The roster of an arm: the models that were its best so far, from which opponents are drawn. */
#ifndef SP_PLAY_ROSTER_H
#define SP_PLAY_ROSTER_H

#include "play/run.h"

typedef struct sp_roster {
    sp_best *items; /* owned; the first is the oldest, the last the latest */
    size_t n, capacity;
} sp_roster;

/* Who answers which problem. */
typedef struct sp_cast {
    const sp_roster *roster; /* borrowed */
    size_t *who;             /* owned, [problems]: index into the roster */
} sp_cast;

void sp_roster_release(sp_roster *roster);
void sp_cast_release(sp_cast *cast);

/* Whether superseded models stay in play, and their checkpoints on disk. */
bool sp_roster_keeps(const sp_arm *arm);

/* The latest. One too many of them retires the oldest, whose checkpoint goes unless it is the arm's
 * start. */
spar_status sp_roster_add(sp_run *run, sp_roster *roster, const sp_arm *arm, const sp_best *latest,
                          const sp_best *start, spar_error *err);

/* Draw an opponent for each problem, as a function of the run's seed, the stage and the problem.
 * How many problems each got is put down as a value of the stage, by the stage that made the model.
 */
spar_status sp_roster_cast(sp_run *run, int64_t stage, const sp_arm *arm, const sp_roster *roster,
                           const sp_problems *problems, sp_cast *out, spar_error *err);

/* The arm is over: remove the checkpoints of all but its start and the best. */
spar_status sp_roster_dismiss(sp_run *run, const sp_roster *roster, const sp_best *start,
                              const sp_best *best, spar_error *err);

#endif
