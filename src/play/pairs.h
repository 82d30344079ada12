/* What the samples of a stage give to learn from: groups of responses to one prompt, each with a
 * verdict and a reason. */
#ifndef SP_PLAY_PAIRS_H
#define SP_PLAY_PAIRS_H

#include "play/judged.h"

/* One response of a group. */
typedef struct sp_member {
    int64_t sample; /* index into the samples; -1: the problem's real response */
    double win_rate, reward;
} sp_member;

/* A kept group: a pair (winner, loser), all samples of a problem (the best first), or a single one.
 */
typedef struct sp_group {
    size_t problem;
    size_t first, n; /* its members */
} sp_group;

typedef struct sp_groups {
    sp_group *items;    /* owned */
    sp_member *members; /* owned */
    size_t n, n_members, capacity, member_capacity;
} sp_groups;

void sp_groups_release(sp_groups *groups);

/* Group the samples by the arm's rule: the phase "pair". Every candidate is stored with its
 * verdict: a pair as it is, of all samples the best and the worst, a single one as rejected alone.
 * The kept ones are given. max_tokens bounds prompt plus response. judged: of the samples; its
 * arrays may be NULL where the arm takes real pairs and nothing checks them. */
spar_status sp_groups_make(sp_run *run, int64_t stage, const sp_arm *arm,
                           const sp_problems *problems, const sp_samples *samples,
                           const sp_judged *judged, sp_groups *out, spar_error *err);

#endif
