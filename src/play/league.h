/* The league: models of one run as players of a game, and the pool that opponents are drawn from.
 *
 * Player i beats player j on a prompt where it scores higher, and half where they score the same;
 * the expected wins over a set of prompts are a preference matrix (train/game.h).
 */
#ifndef SP_PLAY_LEAGUE_H
#define SP_PLAY_LEAGUE_H

#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

typedef struct sp_league {
    size_t n;
    double *wins;   /* owned, [n, n]: expected wins of the row's player over the column's */
    double *winner; /* owned, [n]: the von Neumann winner, a mixture that none beats on average */
    double *gaps;   /* owned, [n]: duality gap of playing one player alone, 0 where none beats it */
    double gap;     /* of the winner: 0 but for rounding */
} sp_league;

/* scores[i]: what player i scored on each of the prompts, [prompts]. players, prompts >= 1. */
spar_status sp_league_make(sp_league *out, const double *const *scores, size_t players,
                           size_t prompts, spar_error *err);
void sp_league_release(sp_league *league);

/* How an opponent is drawn from the pool of the best models so far. */
typedef enum sp_opponents {
    SP_OPPONENTS_LATEST,
    SP_OPPONENTS_UNIFORM,
    SP_OPPONENTS_PRIORITISED /* in proportion to its wins over the latest */
} sp_opponents;

/* weights [n]: out, adding up to 1. The latest is the last player of the league, which may be NULL
 * unless opponents are prioritised. n >= 1. */
void sp_opponents_weigh(sp_opponents how, const sp_league *league, size_t n, double *weights);

/* One of n by weight, as a function of (seed, stream, index). */
size_t sp_opponents_draw(const double *weights, size_t n, uint64_t seed, uint64_t stream,
                         uint64_t index);

#endif
