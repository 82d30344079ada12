/* Tunables: the numeric parameters that a row of a table (a loss, an optimiser) declares.
 *
 * A row lists its tunables once; defaults, bounds, help and names all come from that list. Values
 * travel as a plain array of doubles in the order of the list.
 */
#ifndef SP_TRAIN_TUNABLE_H
#define SP_TRAIN_TUNABLE_H

#include "spar/status.h"

typedef struct sp_tunable {
    const char *name; /* "beta"; a list ends with name NULL */
    double fallback;  /* the default */
    double min, max;  /* inclusive */
    const char *help; /* one clause, no final stop */
} sp_tunable;

int sp_tunable_count(const sp_tunable *list);
void sp_tunable_defaults(const sp_tunable *list, double *values);

/* Set the value called name; an unknown name is refused with the nearest known one, a value out of
 * bounds with the bounds. `owner` names the row in messages ("loss dpo"). */
spar_status sp_tunable_set(const sp_tunable *list, double *values, const char *name, double value,
                           const char *owner, spar_error *err);

/* Every value finite and within its bounds. */
spar_status sp_tunable_check(const sp_tunable *list, const double *values, const char *owner,
                             spar_error *err);

/* Of n names reached by name_at(i), the one nearest to name by edit distance: for messages about an
 * unknown row. n >= 1. Borrowed from the table. */
const char *sp_tunable_nearest(const char *(*name_at)(int), int n, const char *name);

#endif
