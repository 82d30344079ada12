/* Candidates: a trained model is saved, measured on the gate and report sets, and kept when it
 * beats the best so far on the gate set. */
#ifndef SP_PLAY_CANDIDATE_H
#define SP_PLAY_CANDIDATE_H

#include "play/run.h"

/* "checkpoints/003-spin-1", relative to the run. */
void sp_candidate_path(char *out, size_t n, int64_t stage, const char *arm, int64_t iteration);

/* The trained weights as a checkpoint: the phase "train". A stage killed later loads them back, by
 * sp_candidate_load. */
spar_status sp_candidate_save(sp_run *run, int64_t stage, const char *path, int64_t sequences,
                              spar_error *err);
spar_status sp_candidate_load(sp_run *run, const char *path, spar_error *err);

/* Measure the candidate that is in the model and at `path`, then keep or drop it and finish the
 * stage; *best is the better one. */
spar_status sp_candidate_gate(sp_run *run, int64_t stage, const char *arm, const char *path,
                              int64_t sequences, sp_best *best, bool *kept, spar_error *err);

/* The second half of it, for a candidate that is measured already. */
spar_status sp_candidate_decide(sp_run *run, int64_t stage, const char *arm, const char *path,
                                double gate, sp_best *best, bool *kept, spar_error *err);

/* A stage that was finished before: what it decided. */
spar_status sp_candidate_recall(sp_run *run, int64_t stage, const char *path, sp_best *best,
                                bool *kept, spar_error *err);

/* Remove the checkpoint of `before`, once superseded by `now`; the arm's start is kept, for its
 * control. */
spar_status sp_candidate_supersede(sp_run *run, const sp_best *before, const sp_best *start,
                                   const sp_best *now, spar_error *err);

#endif
