/* What the recipe's judges say: of a stage's samples, from which its pairs are made (the phase
 * "judge"), and of its responses to the report set against those of the base ("judge report").
 *
 * A judgement is in run.db a fifth of a second after it was made, or at once where making it took
 * longer, so that a run that is killed judges nothing twice but for that. A judge is open, and its
 * model in memory, during its phase only.
 */
#ifndef SP_PLAY_JUDGED_H
#define SP_PLAY_JUDGED_H

#include "judge/kind.h"
#include "play/samples.h"

/* All owned; problem i's part of p is at i k k, of the others at i k. */
typedef struct sp_judged {
    size_t n, k;    /* problems, responses a problem */
    double *p;      /* [n, k, k]: P(a beats b), as judged */
    double *win;    /* [n, k]: mean over b of (P(a beats b) + 1 - P(b beats a)) / 2, where a beats
                     * itself by 1/2: SPPO's win rate of a against the policy (arXiv 2405.00675,
                     * section 4), with the order in which a judge reads two evened out */
    double *scores; /* [n, k] */
    sp_fork *forks; /* [n]: the two responses that the scores of steps tell apart most, of which the
                     * better one was not cut off; NULL: the judge that trains sees no steps */
} sp_judged;

void sp_judged_release(sp_judged *judged);

/* Open the recipe's judges and close them again: one that cannot be opened is said before anything
 * is sampled. On resuming MISMATCH where one is another than the run began with. INVALID where one
 * judge is to train and to report, unless the recipe says same. Without judges it does nothing. */
spar_status sp_judged_check(sp_run *run, spar_error *err);

/* Judge the samples, k of each problem, or read back what the stage has already. */
spar_status sp_judged_make(sp_run *run, int64_t stage, const sp_problems *problems,
                           const sp_samples *samples, sp_judged *out, spar_error *err);

/* Judge the stage's responses to the report set beside the base's, as evaluations have them; the
 * base's come first in a row. Nothing without a judge that reports, and for the base. */
spar_status sp_judged_report(sp_run *run, int64_t stage, spar_error *err);

#endif
