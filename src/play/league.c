#include "play/league.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "train/game.h"

void sp_league_release(sp_league *league) {
    free(league->wins);
    free(league->winner);
    free(league->gaps);
    memset(league, 0, sizeof *league);
}

static double expected_wins(const double *a, const double *b, size_t prompts) {
    double wins = 0;
    for (size_t i = 0; i < prompts; i++) {
        wins += a[i] > b[i] ? 1 : a[i] < b[i] ? 0 : 0.5;
    }
    return wins / (double)prompts;
}

/* Both players of the symmetric game play the same: twice what the best answer gains over 1/2. */
static double gap_of(const sp_league *l, const double *policy) {
    return sp_game_gap(l->wins, (int)l->n, (int)l->n, policy, policy);
}

static spar_status solve(sp_league *l, spar_error *err) {
    spar_status status = SPAR_OK;
    double *alone = NULL, value;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, 2 * l->n, sizeof *alone, err));
    alone = memory;
    SPAR_TRY(sp_game_solve(l->wins, (int)l->n, (int)l->n, l->winner, alone, &value, err));
    l->gap = gap_of(l, l->winner);
    for (size_t i = 0; i < l->n; i++) {
        memset(alone, 0, l->n * sizeof *alone);
        alone[i] = 1;
        l->gaps[i] = gap_of(l, alone);
    }
done:
    free(alone);
    return status;
}

spar_status sp_league_make(sp_league *out, const double *const *scores, size_t players,
                           size_t prompts, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    memset(out, 0, sizeof *out);
    out->n = players;
    SPAR_TRY(sp_mem_calloc(&memory, players, players * sizeof *out->wins, err));
    out->wins = memory;
    SPAR_TRY(sp_mem_calloc(&memory, players, sizeof *out->winner, err));
    out->winner = memory;
    SPAR_TRY(sp_mem_calloc(&memory, players, sizeof *out->gaps, err));
    out->gaps = memory;
    for (size_t i = 0; i < players; i++) {
        for (size_t j = 0; j < players; j++) {
            out->wins[i * players + j] = expected_wins(scores[i], scores[j], prompts);
        }
    }
    SPAR_TRY(solve(out, err));
done:
    if (status != SPAR_OK) {
        sp_league_release(out);
    }
    return status;
}

void sp_opponents_weigh(sp_opponents how, const sp_league *league, size_t n, double *weights) {
    double total = 0;
    for (size_t i = 0; i < n; i++) {
        weights[i] = how == SP_OPPONENTS_PRIORITISED ? league->wins[i * n + n - 1]
                     : how == SP_OPPONENTS_UNIFORM   ? 1
                                                     : i + 1 == n;
        total += weights[i];
    }
    for (size_t i = 0; i < n; i++) {
        weights[i] /= total; /* the latest beats itself by 1/2: never 0 */
    }
}

size_t sp_opponents_draw(const double *weights, size_t n, uint64_t seed, uint64_t stream,
                         uint64_t index) {
    double left = sp_rng_uniform(seed, stream, index);
    for (size_t i = 0; i + 1 < n; i++) {
        left -= weights[i];
        if (left < 0) {
            return i;
        }
    }
    return n - 1;
}
