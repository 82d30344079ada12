/* Policies that are tables: a softmax over n responses, for which every expectation of a theorem is
 * a finite sum over the rows of the loss table themselves.
 *
 * Log-probs are [n] and sum to 1 as probabilities; n is 1..SP_TABULAR_MAX.
 */
#ifndef SP_TRAIN_TABULAR_H
#define SP_TRAIN_TABULAR_H

#include "train/loss.h"

enum { SP_TABULAR_MAX = 64 };

/* logp[i] = logits[i] - log sum exp(logits); in place where the two are the same array. */
void sp_tabular_log_softmax(int n, const double *logits, double *logp);

/* Expected loss of softmax(logits) over independent pairs (w from real, l from opponent), both [n]
 * of log-probs, with the opponent as the reference; gradient in the logits [n], out. */
double sp_tabular_loss(const sp_loss *loss, double beta, int n, const double *real,
                       const double *opponent, const double *logits, double *gradient);

/* The minimiser of that loss, by gradient descent from the opponent, as log-probs. For rows that
 * see the logits through beta * margin. LIMIT where it is not reached. */
spar_status sp_tabular_solve(const sp_loss *loss, double beta, int n, const double *real,
                             const double *opponent, double *logp, spar_error *err);

/* logp proportional to opponent * (real / opponent)^power: the exact iteration of SPIN. */
void sp_tabular_tilt(int n, const double *real, const double *opponent, double power, double *logp);

/* Spread of log(a / b) over the responses: 0 exactly where a = b, free of both normalisers. */
double sp_tabular_distance(int n, const double *a, const double *b);

/* The largest |x[i]|. */
double sp_tabular_largest(int n, const double *x);

#endif
