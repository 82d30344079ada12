/* The loss of single responses that were judged good or bad (KTO).
 *
 * KTO (Ethayarajh et al. 2024, arXiv 2402.01306): lambda_good (1 - sigma(beta (s - z))) for a good
 * response and lambda_bad (1 - sigma(beta (z - s))) for a bad one, s = log policy - log reference
 * summed over the response. z >= 0 estimates KL(policy || reference) and is held constant.
 */
#ifndef SP_TRAIN_LOSS_LABEL_H
#define SP_TRAIN_LOSS_LABEL_H

#include <stdbool.h>
#include <stddef.h>

#include "spar/status.h"
#include "train/tunable.h"

enum { SP_KTO_PARAMS = 3 };
extern const sp_tunable sp_kto_params[]; /* beta, lambda_good, lambda_bad */

/* *d = d loss / d policy; *t = +-beta (s - z), above 0 where the response is on its side of z.
 * INVALID where s or z is not finite, z is below 0, or a parameter out of its bounds. */
spar_status sp_kto_eval(double s, bool good, double z, const double *params, double *loss,
                        double *d, double *t, spar_error *err);

/* z of a batch: the mean of s over n responses put to prompts not their own, at least 0. */
double sp_kto_baseline(const double *s, size_t n);

#endif
