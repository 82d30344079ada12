/* The judge kind "ensemble": several judges, whose P are averaged with weights.
 *
 * MODEL is a list of judges between semicolons, each with an optional weight in front:
 * "2*reward:one;pairrm:two". A program among them is one without semicolons.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "judge/kind.h"

enum { MAX_MEMBERS = 16 };

typedef struct ensemble {
    spar_judge *members[MAX_MEMBERS]; /* owned */
    double weights[MAX_MEMBERS];      /* sum to 1 */
    int n;
} ensemble;

static void ensemble_close(void *context) {
    ensemble *e = context;
    for (int i = 0; i < e->n; i++) {
        spar_judge_free(e->members[i]);
    }
    free(e);
}

/* One member of n bytes: its weight, and its judge opened. */
static spar_status open_member(ensemble *e, const char *text, size_t n,
                               const spar_judge_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    char *spec = NULL, *end;
    SPAR_TRY(sp_mem_strdup(&spec, text, n, err));
    const double weight = strtod(spec, &end);
    const bool weighed = end != spec && *end == '*';
    if (e->n == MAX_MEMBERS || (weighed && !(weight > 0 && weight <= 1e6))) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "judge ensemble: expected at most %d judges with weights above 0, found "
                           "'%.60s'",
                           MAX_MEMBERS, spec));
    }
    const char *judge = weighed ? end + 1 : spec;
    if (strncmp(judge, "ensemble", 8) == 0) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "judge ensemble: expected judges other than ensembles, found '%.60s'",
                           judge));
    }
    SPAR_TRY(spar_judge_open(&e->members[e->n], judge, options, err));
    e->weights[e->n++] = weighed ? weight : 1;
done:
    free(spec);
    return status;
}

static spar_status ensemble_open(void **context, const char *model,
                                 const spar_judge_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    double total = 0;
    void *memory;
    ensemble *e = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *e, err));
    e = memory;
    for (const char *c = model;; c++) {
        const size_t n = strcspn(c, ";");
        SPAR_TRY(open_member(e, c, n, options, err));
        c += n;
        if (!*c) {
            break;
        }
    }
    for (int i = 0; i < e->n; i++) {
        total += e->weights[i];
    }
    for (int i = 0; i < e->n; i++) {
        e->weights[i] /= total;
    }
    *context = e;
    e = NULL;
done:
    if (e) {
        ensemble_close(e);
    }
    return status;
}

static spar_status ensemble_describe(const void *context, json_t *out, spar_error *err) {
    spar_status status = SPAR_OK;
    const ensemble *e = context;
    json_t *members = json_array();
    for (int i = 0; i < e->n; i++) {
        json_t *member;
        SPAR_TRY(spar_judge_provenance(e->members[i], &member, err));
        json_object_set_new(member, "weight", json_real(e->weights[i]));
        json_array_append_new(members, member);
    }
    if (json_object_set(out, "members", members) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a judge's provenance"));
    }
done:
    json_decref(members);
    return status;
}

static void ensemble_share(void *context, sp_rundb *db) {
    const ensemble *e = context;
    for (int i = 0; i < e->n; i++) {
        sp_judge_share(e->members[i], db);
    }
}

static spar_status ensemble_ahead(void *context, const sp_judge_item *items, size_t n,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    const ensemble *e = context;
    void *memory;
    const json_t **rows = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *rows, err));
    rows = memory;
    for (size_t i = 0; i < n; i++) {
        rows[i] = items[i].row;
    }
    for (int i = 0; i < e->n; i++) {
        SPAR_TRY(spar_judge_ahead(e->members[i], rows, n, err));
    }
done:
    free(rows);
    return status;
}

static size_t ensemble_lookahead(const void *context) {
    const ensemble *e = context;
    size_t most = 1;
    for (int i = 0; i < e->n; i++) {
        const size_t one = spar_judge_lookahead(e->members[i]);
        most = one > most ? one : most;
    }
    return most;
}

static void add(spar_judgement *out, const spar_judgement *one, double weight) {
    for (size_t i = 0; i < out->k * out->k; i++) {
        out->p[i] += weight * one->p[i];
    }
    out->tokens += one->tokens;
    out->requests += one->requests;
    out->no_verdict += one->no_verdict;
}

static spar_status ensemble_judge(void *context, const sp_judge_item *item, spar_judgement *out,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    const ensemble *e = context;
    for (int i = 0; i < e->n; i++) {
        spar_judgement one;
        status = spar_judge_row(e->members[i], item->row, &one, err);
        if (status == SPAR_OK && one.k != out->k) {
            status = spar_fail(err, SPAR_MISMATCH,
                               "judge ensemble: expected %zu responses of each judge, found %zu",
                               out->k, one.k);
        }
        if (status == SPAR_OK) {
            add(out, &one, e->weights[i]);
        }
        spar_judgement_release(&one);
        SPAR_TRY(status);
    }
    sp_judge_score_by_wins(out);
done:
    return status;
}

const sp_judge_kind sp_judge_ensemble = {.name = "ensemble",
                                         .fills = SP_JUDGE_FILLS_BOTH,
                                         .reads_ids = true,
                                         .reads_steps = true,
                                         .open = ensemble_open,
                                         .judge = ensemble_judge,
                                         .close = ensemble_close,
                                         .describe = ensemble_describe,
                                         .share = ensemble_share,
                                         .ahead = ensemble_ahead,
                                         .lookahead = ensemble_lookahead};
