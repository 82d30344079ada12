/* Procedural verifiable problems.
 *
 * A family makes problems from (difficulty, seed, index) alone and checks answers in two ways:
 * strict, the response without surrounding white space is the answer byte for byte; lenient, the
 * right answer stands where a longer response puts its answer (each family's summary says where). A
 * strict pass is always a lenient pass.
 *
 * A set is a list of problems, round-robin over its families. What is promised:
 * - the same arguments give the same problems, on every machine;
 * - no two problems of a set have the same prompt, and no prompt of a set stands in a set it
 *   excludes: always, or the call fails;
 * - a problem has a key, its content whatever the phrasing ("multiply:7x8", the commuted pair the
 *   same). While a family has keys that no excluded set uses, only those are used. A family whose
 *   keys run out goes on with keys of the excluded sets under other prompts;
 *   spar_tasks_shared_keys counts them. A small key space (multiply up to 12: 78 keys) is divided:
 *   a set takes no more distinct keys of a family than a third of that space, and widens them by
 *   phrasings, as long as this gives the problems asked for.
 *
 * Life cycle: spar_tasks_generate -> use -> spar_tasks_free. A set is read-only once made and may
 * be used by many threads.
 */
#ifndef SPAR_TASKS_H
#define SPAR_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

typedef struct spar_task {
    int family; /* 0 .. spar_family_count() - 1 */
    int difficulty;
    const char *prompt; /* borrowed from the set: the user's message */
    const char *answer; /* borrowed: canonical form, also the real response */
    const char *key;    /* borrowed: canonical content, for disjointness */
} spar_task;

typedef struct spar_task_set spar_task_set;

SPAR_API int spar_family_count(void);
SPAR_API const char *spar_family_name(int family);
SPAR_API const char *spar_family_summary(int family); /* one line: task, difficulty, lenient rule */
/* Bounds of the difficulty and the value used when none is given. */
SPAR_API void spar_family_difficulty(int family, int *min, int *fallback, int *max);
/* NOT_FOUND for an unknown name; the message names the nearest. */
SPAR_API spar_status spar_family_find(const char *name, int *family, spar_error *err);

/* n problems, round-robin over the families. A family is "name" or "name:difficulty". exclude:
 * sets that the new set must not overlap, borrowed for the call. LIMIT when a family cannot give
 * its part: the message names it and how many it has. */
SPAR_API spar_status spar_tasks_generate(spar_task_set **out, const char *const *families,
                                         int n_families, size_t n, uint64_t seed,
                                         const spar_task_set *const *exclude, size_t n_exclude,
                                         spar_error *err);
SPAR_API void spar_tasks_free(spar_task_set *set); /* NULL is fine */

SPAR_API size_t spar_tasks_count(const spar_task_set *set);
SPAR_API const spar_task *spar_tasks_at(const spar_task_set *set,
                                        size_t i); /* i < count; borrowed */
/* Distinct keys that stand in both sets. */
SPAR_API size_t spar_tasks_shared_keys(const spar_task_set *a, const spar_task_set *b);

/* Judge a response of n bytes (any bytes; NULL only with n = 0). strict and lenient may be NULL. */
SPAR_API void spar_task_check(const spar_task *task, const char *response, size_t n, bool *strict,
                              bool *lenient);

#endif
