#include "net/patience.h"

#include <math.h>

static const double first_pause = 0.5, longest_pause = 60;

sp_patience sp_patience_of(int64_t most_attempts, double most_seconds) {
    return (sp_patience){
        .most_attempts = most_attempts, .most_seconds = most_seconds, .pause = first_pause};
}

bool sp_patience_again(sp_patience *p, double spent, double retry_after, double *wait) {
    *wait = fmax(p->pause, retry_after);
    p->pause = fmin(2 * p->pause, longest_pause);
    return ++p->attempts < p->most_attempts && spent + *wait <= p->most_seconds;
}

bool sp_patience_may_pass(long status) {
    return status == 408 || status == 409 || status == 429 || status >= 500;
}
