/* The problem sets of a run. */
#ifndef SP_PLAY_PROBLEMS_H
#define SP_PLAY_PROBLEMS_H

#include "play/run.h"

/* Make the train, gate and report sets of the recipe: disjoint as text. store: put their prompts
 * into the database (a new run); otherwise check that they are those of the database. */
spar_status sp_problems_make(sp_run *run, bool store, spar_error *err);

#endif
