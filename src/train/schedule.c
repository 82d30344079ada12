#include "train/schedule.h"

#include <math.h>
#include <string.h>

#include "train/tunable.h"

static double decay_constant(double progress) {
    (void)progress;
    return 1.0;
}

static double decay_linear(double progress) {
    return 1.0 - progress;
}

/* Half a cosine period. */
static double decay_cosine(double progress) {
    return fmax(0.0, 0.5 * (1.0 + cos(3.14159265358979323846 * progress)));
}

static const sp_schedule schedules[] = {
    {"constant", "warm-up, then the peak rate", decay_constant},
    {"linear", "warm-up, then a straight line to 0", decay_linear},
    {"cosine", "warm-up, then half a cosine to 0", decay_cosine},
};

int sp_schedule_count(void) {
    return (int)(sizeof schedules / sizeof schedules[0]);
}

const sp_schedule *sp_schedule_at(int i) {
    return &schedules[i];
}

static const char *schedule_name_at(int i) {
    return schedules[i].name;
}

spar_status sp_schedule_find(const char *name, const sp_schedule **out, spar_error *err) {
    for (int i = 0; i < sp_schedule_count(); i++) {
        if (!strcmp(schedules[i].name, name)) {
            *out = &schedules[i];
            return SPAR_OK;
        }
    }
    return spar_fail(err, SPAR_INVALID, "unknown schedule '%s'; the nearest is '%s'", name,
                     sp_tunable_nearest(schedule_name_at, sp_schedule_count(), name));
}

double sp_schedule_factor(const sp_schedule *schedule, int64_t step, int64_t warmup,
                          int64_t total) {
    if (step < warmup) {
        return (double)step / (double)warmup;
    }
    int64_t span = total > warmup ? total - warmup : 1;
    double progress = (double)(step - warmup) / (double)span;
    return schedule->decay(progress < 1.0 ? progress : 1.0);
}

int64_t sp_schedule_warmup(int64_t steps, double ratio, int64_t total) {
    return steps > 0 ? steps : (int64_t)ceil(ratio * (double)total);
}
