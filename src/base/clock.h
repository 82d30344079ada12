/* Seconds since some moment that stays the same while the program runs; for differences. */
#ifndef SP_BASE_CLOCK_H
#define SP_BASE_CLOCK_H

#include <time.h>

/* clock: CLOCK_MONOTONIC, or CLOCK_PROCESS_CPUTIME_ID for what all threads computed. */
static inline double sp_clock_seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline double sp_now(void) {
    return sp_clock_seconds(CLOCK_MONOTONIC);
}

#endif
