/* How far an iteration moved its model. */
#ifndef SP_PLAY_DIVERGENCE_H
#define SP_PLAY_DIVERGENCE_H

#include "play/samples.h"

/* KL(opponent || model as it is) in nats a response, as the stage's value "kl_moved": the mean of
 * the k3 estimate over the first sample of the first problems, all of them as they were drawn, none
 * selected (docs/math.md). It is measured where the policy samples from its own distribution
 * (temperature 1, nothing cut off) and nobody else answered; elsewhere it would be another's. */
spar_status sp_divergence_measure(sp_run *run, int64_t stage, const sp_problems *problems,
                                  const sp_samples *samples, spar_error *err);

#endif
