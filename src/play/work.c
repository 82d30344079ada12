#include "play/work.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"

static const double between_puts = 1; /* seconds */

/* What a phase took until now, and in how many segments. */
typedef struct sum {
    const char *phase;
    int64_t segments;
    double cpu, seconds;
} sum;

static spar_status take_work(void *context, const sp_rundb_work *row, spar_error *err) {
    sum *s = context;
    (void)err;
    if (strcmp(row->phase, s->phase) == 0) {
        s->segments = row->segment;
        s->cpu += row->cpu;
        s->seconds += row->seconds;
    }
    return SPAR_OK;
}

static spar_status put(sp_run *run, spar_error *err) {
    sp_work *w = &run->work;
    const double cpu = sp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID), now = sp_now();
    const sp_rundb_work row = {.stage = w->stage,
                               .phase = w->phase,
                               .segment = w->segment,
                               .cpu = cpu - w->cpu,
                               .seconds = now - w->begun};
    w->stored = now;
    return sp_rundb_put_work(run->db, &row, err);
}

spar_status sp_work_begin(sp_run *run, int64_t stage, const char *phase, spar_error *err) {
    spar_status status = SPAR_OK;
    sum before = {.phase = phase};
    SPAR_TRY(sp_rundb_each_work(run->db, stage, take_work, &before, err));
    run->work = (sp_work){.phase = phase,
                          .stage = stage,
                          .segment = before.segments + 1,
                          .cpu = sp_clock_seconds(CLOCK_PROCESS_CPUTIME_ID),
                          .begun = sp_now()};
    SPAR_TRY(put(run, err));
done:
    return status;
}

void sp_work_tick(sp_run *run) {
    spar_error ignored;
    if (run->work.phase && sp_now() - run->work.stored > between_puts) {
        put(run, &ignored);
    }
}

spar_status sp_work_end(sp_run *run, spar_status status, spar_error *err) {
    spar_error ignored;
    const spar_status stored = put(run, status == SPAR_OK ? err : &ignored);
    run->work.phase = NULL;
    return status == SPAR_OK ? stored : status;
}

spar_status sp_work_share(sp_run *run, int64_t from, int64_t stage, const char *phase,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    sum took = {.phase = phase};
    SPAR_TRY(sp_rundb_each_work(run->db, from, take_work, &took, err));
    const sp_rundb_work row = {
        .stage = stage, .phase = phase, .segment = 1, .cpu = took.cpu, .seconds = took.seconds};
    SPAR_TRY(sp_rundb_put_work(run->db, &row, err));
done:
    return status;
}
