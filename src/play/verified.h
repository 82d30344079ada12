/* Comparisons by the checkers of task families, in the place of a judge's. */
#ifndef SP_PLAY_VERIFIED_H
#define SP_PLAY_VERIFIED_H

#include "play/judged.h"

/* A right answer that was not cut off scores 1, any other 0; P is 1, 1/2 or 0 as the scores
 * compare. A function of what the samples were stored with. */
spar_status sp_verified_make(const sp_samples *samples, sp_judged *out, spar_error *err);

#endif
