/* When a request that failed is tried again: later each time, never before the server says, and
 * within bounds of count and time.
 */
#ifndef SP_NET_PATIENCE_H
#define SP_NET_PATIENCE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct sp_patience {
    int64_t most_attempts;
    double most_seconds;
    int64_t attempts; /* that failed */
    double pause;     /* seconds before the next one, if the server says nothing */
} sp_patience;

sp_patience sp_patience_of(int64_t most_attempts, double most_seconds);

/* An attempt has failed. *wait: seconds until the next one, the pause or retry_after, whichever is
 * longer; the pause doubles, from half a second to a minute. spent: seconds that count so far.
 * false: the bounds are reached. */
bool sp_patience_again(sp_patience *p, double spent, double retry_after, double *wait);

/* Whether a later try may go better than one that got this status: 408, 409, 429 and 5xx. */
bool sp_patience_may_pass(long status);

#endif
