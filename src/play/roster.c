#include "play/roster.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "play/league.h"

/* Purpose of a random stream of a stage. */
enum { STREAM_CAST = 8 };

void sp_roster_release(sp_roster *roster) {
    free(roster->items);
    memset(roster, 0, sizeof *roster);
}

void sp_cast_release(sp_cast *cast) {
    free(cast->who);
    memset(cast, 0, sizeof *cast);
}

bool sp_roster_keeps(const sp_arm *arm) {
    return arm->opponents != SP_OPPONENTS_LATEST;
}

static bool same(const sp_best *a, const sp_best *b) {
    return strcmp(a->path, b->path) == 0;
}

static spar_status retire_first(sp_run *run, sp_roster *roster, const sp_best *start,
                                spar_error *err) {
    const sp_best first = roster->items[0];
    memmove(roster->items, roster->items + 1, --roster->n * sizeof *roster->items);
    return same(&first, start) ? SPAR_OK : sp_run_drop_checkpoint(run, first.path, err);
}

spar_status sp_roster_add(sp_run *run, sp_roster *roster, const sp_arm *arm, const sp_best *latest,
                          const sp_best *start, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = roster->items;
    SPAR_TRY(sp_mem_grow(&memory, &roster->capacity, roster->n + 1, sizeof *roster->items, err));
    roster->items = memory;
    roster->items[roster->n] = *latest;
    roster->items[roster->n++].loaded = false;
    if (roster->n > (size_t)arm->pool && sp_roster_keeps(arm)) {
        SPAR_TRY(retire_first(run, roster, start, err));
    }
done:
    return status;
}

spar_status sp_roster_dismiss(sp_run *run, const sp_roster *roster, const sp_best *start,
                              const sp_best *best, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < roster->n; i++) {
        if (!same(&roster->items[i], start) && !same(&roster->items[i], best)) {
            SPAR_TRY(sp_run_drop_checkpoint(run, roster->items[i].path, err));
        }
    }
done:
    return status;
}

/* ---- drawing ---- */

/* The scores of one model on the gate set, in the order of the prompts. */
typedef struct gate_scores {
    double *scores; /* owned, [capacity] */
    size_t n, capacity;
} gate_scores;

static spar_status take_score(void *context, const sp_rundb_evaluation *row, spar_error *err) {
    gate_scores *g = context;
    if (g->n == g->capacity) {
        return spar_fail(err, SPAR_MISMATCH, "run.db: stage %lld: more scores than gate problems",
                         (long long)row->stage);
    }
    g->scores[g->n++] = row->strict;
    return SPAR_OK;
}

static spar_status read_gate(sp_run *run, const sp_best *player, gate_scores *out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    out->capacity = run->sets[SP_SET_GATE].n;
    SPAR_TRY(sp_mem_calloc(&memory, out->capacity, sizeof *out->scores, err));
    out->scores = memory;
    SPAR_TRY(sp_rundb_each_evaluation(run->db, player->stage, sp_set_names[SP_SET_GATE], take_score,
                                      out, err));
    if (out->n != out->capacity) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "run.db: stage %lld: expected %zu scores on the gate set, found %zu",
                           (long long)player->stage, out->capacity, out->n));
    }
done:
    return status;
}

/* Weights by wins over the latest, on the gate set. */
static spar_status weigh_by_wins(sp_run *run, const sp_roster *roster, double *weights,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    gate_scores *gates = NULL;
    const double **columns = NULL;
    sp_league league = {0};
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, roster->n, sizeof *gates, err));
    gates = memory;
    SPAR_TRY(sp_mem_calloc(&memory, roster->n, sizeof *columns, err));
    columns = memory;
    for (size_t i = 0; i < roster->n; i++) {
        SPAR_TRY(read_gate(run, &roster->items[i], &gates[i], err));
        columns[i] = gates[i].scores;
    }
    SPAR_TRY(sp_league_make(&league, columns, roster->n, gates[0].n, err));
    sp_opponents_weigh(SP_OPPONENTS_PRIORITISED, &league, roster->n, weights);
done:
    for (size_t i = 0; gates && i < roster->n; i++) {
        free(gates[i].scores);
    }
    free(gates);
    free(columns);
    sp_league_release(&league);
    return status;
}

static spar_status put_counts(sp_run *run, int64_t stage, const sp_cast *cast, size_t problems,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < cast->roster->n; i++) {
        char name[48];
        double count = 0;
        for (size_t k = 0; k < problems; k++) {
            count += cast->who[k] == i;
        }
        snprintf(name, sizeof name, "opponent %lld", (long long)cast->roster->items[i].stage);
        SPAR_TRY(sp_run_put_value(run, stage, name, count, err));
    }
done:
    return status;
}

spar_status sp_roster_cast(sp_run *run, int64_t stage, const sp_arm *arm, const sp_roster *roster,
                           const sp_problems *problems, sp_cast *out, spar_error *err) {
    spar_status status = SPAR_OK;
    double *weights = NULL;
    void *memory;
    const uint64_t stream = sp_rng_stream((uint64_t)stage, STREAM_CAST, 0, 0);
    *out = (sp_cast){.roster = roster};
    SPAR_TRY(sp_mem_calloc(&memory, roster->n, sizeof *weights, err));
    weights = memory;
    SPAR_TRY(sp_mem_calloc(&memory, problems->n, sizeof *out->who, err));
    out->who = memory;
    if (arm->opponents == SP_OPPONENTS_PRIORITISED) {
        SPAR_TRY(weigh_by_wins(run, roster, weights, err));
    } else {
        sp_opponents_weigh((sp_opponents)arm->opponents, NULL, roster->n, weights);
    }
    for (size_t i = 0; i < problems->n; i++) {
        out->who[i] = sp_opponents_draw(weights, roster->n, run->seed, stream,
                                        (uint64_t)problems->items[i].id);
    }
    if (sp_roster_keeps(arm)) {
        SPAR_TRY(put_counts(run, stage, out, problems->n, err));
    }
done:
    free(weights);
    if (status != SPAR_OK) {
        sp_cast_release(out);
    }
    return status;
}
