/* Learning-rate schedules: the factor on the peak learning rate at each optimiser step.
 *
 * All rows rise linearly from 0 over `warmup` steps; step counts from 0, so the first step of a run
 * with warm-up has rate 0. Values equal those of the Hugging Face schedulers of the same name.
 */
#ifndef SP_TRAIN_SCHEDULE_H
#define SP_TRAIN_SCHEDULE_H

#include <stdint.h>

#include "spar/status.h"

typedef struct sp_schedule {
    const char *name; /* "constant", "linear", "cosine" */
    const char *help;
    /* The factor after warm-up; progress in [0, 1] runs from the end of warm-up to the last step.
     */
    double (*decay)(double progress);
} sp_schedule;

int sp_schedule_count(void);
const sp_schedule *sp_schedule_at(int i); /* 0 <= i < sp_schedule_count() */
spar_status sp_schedule_find(const char *name, const sp_schedule **out, spar_error *err);

/* Factor in [0, 1] at step >= 0 of total steps; steps past total are as step total. */
double sp_schedule_factor(const sp_schedule *schedule, int64_t step, int64_t warmup, int64_t total);

/* Warm-up steps of a run: `steps` when it is positive, else ceil(ratio * total). */
int64_t sp_schedule_warmup(int64_t steps, double ratio, int64_t total);

#endif
