#include "train/tunable.h"

#include <math.h>
#include <string.h>

#include "base/str.h"

int sp_tunable_count(const sp_tunable *list) {
    int n = 0;
    while (list[n].name) {
        n++;
    }
    return n;
}

void sp_tunable_defaults(const sp_tunable *list, double *values) {
    for (int i = 0; list[i].name; i++) {
        values[i] = list[i].fallback;
    }
}

static spar_status check_one(const sp_tunable *t, double value, const char *owner,
                             spar_error *err) {
    /* Written so that NaN fails too. */
    if (!(value >= t->min && value <= t->max)) {
        return spar_fail(err, SPAR_INVALID, "%s: %s: expected a number from %g to %g, found %g",
                         owner, t->name, t->min, t->max, value);
    }
    return SPAR_OK;
}

spar_status sp_tunable_set(const sp_tunable *list, double *values, const char *name, double value,
                           const char *owner, spar_error *err) {
    const char *nearest = NULL;
    size_t best = 0;
    for (int i = 0; list[i].name; i++) {
        size_t distance = sp_str_distance(list[i].name, name);
        if (distance == 0) {
            spar_status status = check_one(&list[i], value, owner, err);
            if (status == SPAR_OK) {
                values[i] = value;
            }
            return status;
        }
        if (!nearest || distance < best) {
            nearest = list[i].name;
            best = distance;
        }
    }
    return spar_fail(err, SPAR_INVALID, "%s: unknown parameter '%s'; the nearest is '%s'", owner,
                     name, nearest ? nearest : "(none)");
}

spar_status sp_tunable_check(const sp_tunable *list, const double *values, const char *owner,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    for (int i = 0; list[i].name && status == SPAR_OK; i++) {
        status = check_one(&list[i], values[i], owner, err);
    }
    return status;
}

const char *sp_tunable_nearest(const char *(*name_at)(int), int n, const char *name) {
    int best = 0;
    for (int i = 1; i < n; i++) {
        if (sp_str_distance(name_at(i), name) < sp_str_distance(name_at(best), name)) {
            best = i;
        }
    }
    return name_at(best);
}
