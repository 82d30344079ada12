/* The theorems behind the methods, computed on tabular policies with exact expectations, and the
 * von Neumann winner of a matrix of preferences. docs/math.md has the proofs. */
#ifndef SPAR_THEORY_H
#define SPAR_THEORY_H

#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

struct json_t;

typedef struct spar_theory_options {
    int64_t responses; /* of a tabular policy, 2..64 */
    uint64_t seed;     /* of the random policies and games */
    double tau;        /* INPO: weight of the KL term, > 0 */
} spar_theory_options;

/* How many theorems there are. */
SPAR_API int spar_theory_count(void);

/* Compute theorem i, 0 <= i < spar_theory_count(). *out (owned, json_decref) is
 * {"theorem", "statement", "columns": [text], "rows": [[text or number]], "holds": true or false},
 * rows as long as columns. INVALID for options out of their bounds. */
SPAR_API spar_status spar_theory_table(int i, const spar_theory_options *options,
                                       struct json_t **out, spar_error *err);

/* Largest side of a payoff matrix. */
enum { SPAR_THEORY_MAX_GAME = 512 };

/* The optimal strategies of a matrix game, by linear programming. The file at path is a JSON list
 * of m rows of n numbers, what the row player gets. *out (owned) is {"value", "rows": [m],
 * "columns": [n], "gap"}; where entry (i, j) is P(i preferred to j), "rows" is the von Neumann
 * winner. FORMAT names the row and column that is no number. */
SPAR_API spar_status spar_theory_game(const char *path, struct json_t **out, spar_error *err);

#endif
