/* Reading a run's figures from its database into one JSON value. Rendering is in report_table.c. */
#include "play/report.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "eval/length_control.h"
#include "eval/statistics.h"
#include "io/rundb.h"
#include "play/league.h"

/* The scores of one stage on one set, in the order of the prompts. */
typedef struct scores {
    double *strict, *lenient; /* owned, [n] */
    double *length;           /* owned, [n]: characters of the response */
    int *family;              /* owned, [n]: index into the reader's families */
    size_t n, capacity[4];
    double characters; /* of all responses */
} scores;

typedef struct stage {
    int64_t id, parent, iteration;
    char arm[128], kind[32];
    bool kept, finished;
    scores gate, report;
    double *wins; /* owned, [n_wins]: over the base's responses, in the order of the prompts */
    size_t n_wins, wins_capacity;
    json_t *json; /* owned */
} stage;

enum { MAX_FAMILIES = 64 };

typedef struct reader {
    sp_rundb *db;
    stage *stages; /* owned */
    size_t n, capacity;
    char families[MAX_FAMILIES][64];
    int n_families;
    int *prompt_family; /* owned, [n_prompts], by prompt id; -1: there is no such prompt */
    size_t n_prompts, prompt_capacity;
    /* When the last arm ended: the stage that made the best model (0: none has ended), and the last
     * stage there was. */
    long long best_stage, settled;
    bool passes; /* scores are 0 or 1: pass rates; else means of real numbers */
} reader;

static void release_scores(scores *s) {
    free(s->strict);
    free(s->lenient);
    free(s->family);
    free(s->length);
}

static void release(reader *r) {
    for (size_t i = 0; i < r->n; i++) {
        release_scores(&r->stages[i].gate);
        release_scores(&r->stages[i].report);
        json_decref(r->stages[i].json);
        free(r->stages[i].wins);
    }
    free(r->stages);
    free(r->prompt_family);
    sp_rundb_close(r->db);
}

/* ---- reading ---- */

static spar_status take_prompt(void *context, const sp_rundb_prompt *row, spar_error *err) {
    spar_status status = SPAR_OK;
    reader *r = context;
    int family = 0;
    void *memory = r->prompt_family;
    while (family < r->n_families && strcmp(r->families[family], row->family) != 0) {
        family++;
    }
    if (family == r->n_families && family < MAX_FAMILIES) {
        snprintf(r->families[r->n_families++], sizeof r->families[0], "%s", row->family);
    }
    if (row->id < 1) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "run.db: prompts: id: expected 1 or more, found %lld",
                           (long long)row->id));
    }
    SPAR_TRY(sp_mem_grow(&memory, &r->prompt_capacity, (size_t)row->id + 1,
                         sizeof *r->prompt_family, err));
    r->prompt_family = memory;
    while (r->n_prompts < (size_t)row->id) {
        r->prompt_family[r->n_prompts++] = -1;
    }
    r->prompt_family[row->id] = family;
    r->n_prompts = (size_t)row->id + 1; /* they come by id */
done:
    return status;
}

static spar_status take_stage(void *context, const sp_rundb_stage *row, spar_error *err) {
    spar_status status = SPAR_OK;
    reader *r = context;
    void *memory = r->stages;
    SPAR_TRY(sp_mem_grow(&memory, &r->capacity, r->n + 1, sizeof *r->stages, err));
    r->stages = memory;
    stage *s = &r->stages[r->n++];
    memset(s, 0, sizeof *s);
    s->id = row->id;
    s->iteration = row->iteration;
    s->finished = strcmp(row->status, "done") == 0;
    snprintf(s->arm, sizeof s->arm, "%s", row->arm);
    snprintf(s->kind, sizeof s->kind, "%s", row->kind);
done:
    return status;
}

typedef struct evaluation_context {
    reader *r;
    scores *s;
} evaluation_context;

static spar_status grow_scores(scores *s, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = s->strict;
    SPAR_TRY(sp_mem_grow(&memory, &s->capacity[0], s->n + 1, sizeof *s->strict, err));
    s->strict = memory;
    memory = s->lenient;
    SPAR_TRY(sp_mem_grow(&memory, &s->capacity[1], s->n + 1, sizeof *s->lenient, err));
    s->lenient = memory;
    memory = s->family;
    SPAR_TRY(sp_mem_grow(&memory, &s->capacity[2], s->n + 1, sizeof *s->family, err));
    s->family = memory;
    memory = s->length;
    SPAR_TRY(sp_mem_grow(&memory, &s->capacity[3], s->n + 1, sizeof *s->length, err));
    s->length = memory;
done:
    return status;
}

double sp_report_characters(const char *text) {
    double n = 0;
    for (; *text; text++) {
        n += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return n;
}

static spar_status take_evaluation(void *context, const sp_rundb_evaluation *row, spar_error *err) {
    evaluation_context *c = context;
    const reader *r = c->r;
    if (row->prompt < 1 || (uint64_t)row->prompt >= r->n_prompts ||
        r->prompt_family[row->prompt] < 0) { /* nothing checks the references of a damaged file */
        return spar_fail(err, SPAR_FORMAT,
                         "run.db: evaluations: stage %lld: expected one of a prompt that is there, "
                         "found %lld",
                         (long long)row->stage, (long long)row->prompt);
    }
    const spar_status status = grow_scores(c->s, err);
    if (status == SPAR_OK) {
        c->s->strict[c->s->n] = row->strict;
        c->s->lenient[c->s->n] = row->lenient;
        c->s->length[c->s->n] = sp_report_characters(row->response);
        c->s->characters += c->s->length[c->s->n];
        c->s->family[c->s->n++] = c->r->prompt_family[row->prompt];
        c->r->passes = c->r->passes && !isnan(row->lenient);
    }
    return status;
}

/* ---- figures ---- */

static json_t *interval(double value, double low, double high) {
    return json_pack("{s:f, s:f, s:f}", "value", value, "low", low, "high", high);
}

/* The mean of n numbers by their sum and sum of squares, with a 95 % interval by Student's t. */
static json_t *mean_interval(double sum, double squares, int64_t n) {
    const double mean = n ? sum / (double)n : 0;
    const double variance = n > 1 ? (squares - (double)n * mean * mean) / (double)(n - 1) : 0;
    const double half =
        n > 1 ? sp_t_quantile(0.975, (double)(n - 1)) * sqrt(fmax(variance, 0) / (double)n) : 0;
    return interval(mean, mean - half, mean + half);
}

/* A pass rate or mean over the rows of one family (-1: all). */
static json_t *level(const reader *r, const scores *s, const double *x, int family) {
    int64_t passed = 0;
    int64_t n = 0;
    double sum = 0;
    double squares = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (family < 0 || s->family[i] == family) {
            passed += x[i] > 0.5;
            sum += x[i];
            squares += x[i] * x[i];
            n++;
        }
    }
    json_t *out;
    if (r->passes) {
        double low, high;
        sp_wilson(passed, n, &low, &high);
        out = interval(n ? sum / (double)n : 0, low, high);
    } else {
        out = mean_interval(sum, squares, n);
    }
    json_object_set_new(out, "n", json_integer(n));
    return out;
}

static json_t *levels(const reader *r, const scores *s) {
    json_t *families = json_object();
    json_t *out = json_pack("{s:o}", "strict", level(r, s, s->strict, -1));
    if (r->passes) {
        json_object_set_new(out, "lenient", level(r, s, s->lenient, -1));
    }
    for (int f = 0; f < r->n_families; f++) {
        json_t *family = json_pack("{s:o}", "strict", level(r, s, s->strict, f));
        if (r->passes) {
            json_object_set_new(family, "lenient", level(r, s, s->lenient, f));
        }
        json_object_set_new(families, r->families[f], family);
    }
    json_object_set_new(out, "families", families);
    return out;
}

/* b - a over the same prompts, with its interval. */
static json_t *difference(const reader *r, const scores *a, const scores *b) {
    double d, low, high;
    if (a->n == 0 || a->n != b->n) {
        return json_null();
    }
    if (!r->passes) {
        sp_paired_mean(a->strict, b->strict, a->n, &d, &low, &high);
        return interval(d, low, high);
    }
    uint8_t *before = malloc(2 * a->n);
    if (!before) {
        return json_null();
    }
    uint8_t *after = before + a->n;
    for (size_t i = 0; i < a->n; i++) {
        before[i] = a->strict[i] > 0.5;
        after[i] = b->strict[i] > 0.5;
    }
    sp_paired_difference(before, after, a->n, &d, &low, &high);
    free(before);
    return interval(d, low, high);
}

static spar_status take_metric(void *context, const sp_rundb_metric *row, spar_error *err) {
    json_t *out = context;
    (void)err;
    if (row->step == 0) {
        json_object_set_new(out, row->name, json_real(row->value));
        return SPAR_OK;
    }
    /* steps: mean, first and last of each name */
    json_t *steps = json_object_get(out, "steps");
    json_t *name = json_object_get(steps, row->name);
    if (!name) {
        name = json_pack("{s:f, s:f, s:f, s:i}", "first", row->value, "last", row->value, "mean",
                         0.0, "n", 0);
        json_object_set_new(steps, row->name, name);
    }
    double n = (double)json_integer_value(json_object_get(name, "n"));
    double mean = json_real_value(json_object_get(name, "mean"));
    json_object_set_new(name, "n", json_integer((json_int_t)n + 1));
    json_object_set_new(name, "mean", json_real(mean + (row->value - mean) / (n + 1)));
    json_object_set_new(name, "last", json_real(row->value));
    return SPAR_OK;
}

/* By phase: {"cpu_seconds", "seconds", "processes"}, of all who worked at it. */
static spar_status take_work(void *context, const sp_rundb_work *row, spar_error *err) {
    json_t *out = context;
    json_t *phase = json_object_get(out, row->phase);
    const double cpu = json_real_value(json_object_get(phase, "cpu_seconds")) + row->cpu;
    const double seconds = json_real_value(json_object_get(phase, "seconds")) + row->seconds;
    phase = json_pack("{s:f, s:f, s:I}", "cpu_seconds", cpu, "seconds", seconds, "processes",
                      (json_int_t)row->segment);
    return json_object_set_new(out, row->phase, phase) == 0
               ? SPAR_OK
               : spar_fail(err, SPAR_NO_MEMORY, "out of memory for a report");
}

static spar_status take_pair(void *context, const sp_rundb_pair *row, spar_error *err) {
    json_t *out = context;
    (void)err;
    json_int_t n = json_integer_value(json_object_get(out, row->reason));
    json_object_set_new(out, row->reason, json_integer(n + 1));
    return SPAR_OK;
}

typedef struct judge_cost {
    int64_t prompts, tokens;
    double seconds;
    double wins, squares; /* of the second response of two, both orders evened out */
    stage *s;             /* that keeps them one by one; NULL: none does */
} judge_cost;

static spar_status take_judgement(void *context, const sp_rundb_judgement *row, spar_error *err) {
    spar_status status = SPAR_OK;
    judge_cost *cost = context;
    stage *s = cost->s;
    cost->prompts++;
    cost->tokens += row->tokens;
    cost->seconds += row->seconds;
    if (row->k == 2) {
        const double win = 0.5 * (row->p[2] + 1 - row->p[1]);
        cost->wins += win;
        cost->squares += win * win;
        if (s) {
            void *memory = s->wins;
            SPAR_TRY(sp_mem_grow(&memory, &s->wins_capacity, s->n_wins + 1, sizeof *s->wins, err));
            s->wins = memory;
            s->wins[s->n_wins++] = win;
        }
    }
done:
    return status;
}

static json_t *cost_json(const judge_cost *cost) {
    return json_pack("{s:I, s:f, s:I}", "prompts", (json_int_t)cost->prompts, "seconds",
                     cost->seconds, "tokens", (json_int_t)cost->tokens);
}

static const stage *find_stage(const reader *r, int64_t id) {
    for (size_t i = 0; i < r->n; i++) {
        if (r->stages[i].id == id) {
            return &r->stages[i];
        }
    }
    return NULL;
}

/* The stage that it started from, which came before it; NULL: none. */
static const stage *parent_of(const reader *r, const stage *s) {
    return s->parent < s->id ? find_stage(r, s->parent) : NULL;
}

static spar_status read_stage(reader *r, stage *s, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *metrics = json_pack("{s:{}}", "steps");
    json_t *pairs = json_object(), *work = json_object();
    evaluation_context gate = {r, &s->gate};
    evaluation_context report = {r, &s->report};
    judge_cost train = {0}, measured = {.s = s};
    SPAR_TRY(sp_rundb_each_metric(r->db, s->id, NULL, take_metric, metrics, err));
    SPAR_TRY(sp_rundb_each_pair(r->db, s->id, take_pair, pairs, err));
    SPAR_TRY(sp_rundb_each_work(r->db, s->id, take_work, work, err));
    SPAR_TRY(sp_rundb_each_judgement(r->db, s->id, "train", take_judgement, &train, err));
    SPAR_TRY(sp_rundb_each_judgement(r->db, s->id, "report", take_judgement, &measured, err));
    SPAR_TRY(sp_rundb_each_evaluation(r->db, s->id, "gate", take_evaluation, &gate, err));
    SPAR_TRY(sp_rundb_each_evaluation(r->db, s->id, "report", take_evaluation, &report, err));
    s->kept = json_real_value(json_object_get(metrics, "kept")) > 0.5;
    s->parent = (int64_t)json_real_value(json_object_get(metrics, "parent"));
    s->json =
        json_pack("{s:I, s:s, s:s, s:I, s:b, s:b, s:O, s:O, s:O}", "stage", (json_int_t)s->id,
                  "arm", s->arm, "kind", s->kind, "iteration", (json_int_t)s->iteration, "finished",
                  s->finished, "kept", s->kept, "metrics", metrics, "pairs", pairs, "work", work);
    if (train.prompts > 0) {
        json_object_set_new(s->json, "judged", cost_json(&train));
    }
    if (measured.prompts > 0) {
        json_t *win = cost_json(&measured);
        json_object_set_new(win, "win",
                            mean_interval(measured.wins, measured.squares, measured.prompts));
        json_object_set_new(s->json, "against_base", win);
    }
done:
    json_decref(metrics);
    json_decref(pairs);
    json_decref(work);
    return status;
}

static bool is_control(const stage *s) {
    return strcmp(s->kind, "control") == 0;
}

/* The last stage of a kind (NULL: any but a control's) whose model was kept. */
static const stage *last_kept(const reader *r, const char *kind) {
    const stage *found = NULL;
    for (size_t i = 0; i < r->n; i++) {
        const stage *s = &r->stages[i];
        if (s->kept && !is_control(s) && (!kind || strcmp(s->kind, kind) == 0)) {
            found = s;
        }
    }
    return found;
}

/* The main line's stage of the same iteration as a control. */
static const stage *controlled(const reader *r, const stage *control) {
    size_t n = strlen(control->arm) - strlen(" control");
    for (size_t i = 0; i < r->n; i++) {
        const stage *s = &r->stages[i];
        if (strlen(s->arm) == n && memcmp(s->arm, control->arm, n) == 0 &&
            s->iteration == control->iteration) {
            return s;
        }
    }
    return NULL;
}

/* The win rate with the lengths of the responses taken out, beside the plain one. */
static spar_status add_length_controlled(const reader *r, stage *s, spar_error *err) {
    spar_status status = SPAR_OK;
    const stage *base = last_kept(r, "base");
    const size_t n = s->n_wins;
    double *lead = NULL;
    void *memory;
    if (!base || n == 0 || n != s->report.n || n != base->report.n) {
        return SPAR_OK; /* without wins, or under way */
    }
    SPAR_TRY(sp_mem_calloc(&memory, n, 3 * sizeof *lead, err));
    lead = memory;
    for (size_t i = 0; i < n; i++) {
        lead[i] = base->report.length[i] - s->report.length[i];
    }
    json_object_set_new(json_object_get(s->json, "against_base"), "length_controlled",
                        json_real(sp_length_controlled(s->wins, lead, n, lead + n)));
done:
    free(lead);
    return status;
}

static void add_figures(const reader *r, stage *s) {
    const stage *parent = parent_of(r, s);
    if (s->gate.n) {
        json_object_set_new(s->json, "gate", levels(r, &s->gate));
    }
    if (s->report.n) {
        json_object_set_new(s->json, "report", levels(r, &s->report));
        json_object_set_new(s->json, "characters",
                            json_real(s->report.characters / (double)s->report.n));
    }
    if (parent && parent->gate.n && s->gate.n) {
        json_object_set_new(s->json, "gate_difference", difference(r, &parent->gate, &s->gate));
    }
    /* an epoch that the warm-up passed through has no report figures: its parent's parent may */
    while (parent && parent->report.n == 0) {
        parent = parent_of(r, parent);
    }
    if (parent && s->report.n) {
        json_object_set_new(s->json, "difference", difference(r, &parent->report, &s->report));
        json_object_set_new(s->json, "difference_from", json_integer(parent->id));
    }
    if (is_control(s) && s->report.n) {
        const stage *other = controlled(r, s);
        if (other && other->report.n) {
            json_object_set_new(s->json, "method_minus_control",
                                difference(r, &s->report, &other->report));
        }
    }
}

static spar_status add_meta(const reader *r, json_t *out, spar_error *err) {
    static const char *const keys[] = {"recipe",  "model", "model_fingerprint",
                                       "backend", "seed",  "controls"};
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char *value = NULL;
        SPAR_TRY(sp_rundb_get_meta(r->db, keys[i], &value, err));
        json_object_set_new(out, keys[i], json_string(value));
        free(value);
    }
done:
    return status;
}

static spar_status read_best_stage(reader *r, spar_error *err) {
    char *text = NULL;
    const spar_status status = sp_rundb_get_meta(r->db, "best_stage", &text, err);
    if (text && sscanf(text, "%lld %lld", &r->best_stage, &r->settled) != 2) {
        r->best_stage = 0;
    }
    free(text);
    return status == SPAR_NOT_FOUND ? SPAR_OK : status; /* no arm has ended, or an older run */
}

/* Provenance of one judge into out, where the run has it. */
static spar_status add_judge(const reader *r, const char *meta, const char *key, json_t *out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = NULL;
    json_t *value = NULL;
    spar_error none;
    if (sp_rundb_get_meta(r->db, meta, &text, &none) == SPAR_OK) {
        SPAR_TRY(sp_json_parse(&value, text, strlen(text), meta, err));
        json_object_set_new(out, key, value);
    } else if (none.code != SPAR_NOT_FOUND) {
        SPAR_TRY(spar_fail(err, none.code, "%s", none.message));
    }
done:
    free(text);
    return status;
}

/* "judge": {"train", "report"}: who made pairs, and who measures. */
static spar_status add_judges(const reader *r, json_t *out, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *judges = json_object();
    SPAR_TRY(add_judge(r, "judge_train", "train", judges, err));
    SPAR_TRY(add_judge(r, "judge_report", "report", judges, err));
    if (json_object_size(judges) > 0) {
        json_object_set(out, "judge", judges);
    }
done:
    json_decref(judges);
    return status;
}

/* The stage of the model that a run keeps, or would keep if it ended now: the best when the last
 * arm ended, unless the arm under way has gone on from it. It need not be the last that was kept:
 * arms that branch off (`from`) keep models of their own, and replace the best by a better one
 * only. */
static const stage *best_stage(const reader *r) {
    const stage *latest = last_kept(r, NULL), *best = find_stage(r, r->best_stage);
    for (const stage *s = latest; best && s && latest->id > r->settled; s = parent_of(r, s)) {
        if (s == best) {
            return latest;
        }
    }
    return best ? best : latest;
}

/* The kept model against the warm-up and against the base, on the report set. */
static void add_conclusion(const reader *r, json_t *out) {
    const stage *base = last_kept(r, "base");
    const stage *warm = last_kept(r, "epoch");
    const stage *kept = best_stage(r);
    if (kept) {
        json_object_set_new(out, "kept_stage", json_integer(kept->id));
    }
    if (kept && base && kept->report.n) {
        json_object_set_new(out, "kept_minus_base", difference(r, &base->report, &kept->report));
    }
    if (kept && warm && kept->report.n && warm->report.n) {
        json_object_set_new(out, "kept_minus_warmup", difference(r, &warm->report, &kept->report));
    }
}

static json_t *numbers(const double *values, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_real(values[i]));
    }
    return list;
}

/* The stages of the main line that the report set measured, as players. *n: out. */
static spar_status find_players(const reader *r, const stage ***out, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, r->n, sizeof **out, err));
    *out = memory;
    *n = 0;
    for (size_t i = 0; i < r->n; i++) {
        const stage *s = &r->stages[i];
        if (!is_control(s) && s->report.n > 0 && (*n == 0 || s->report.n == (*out)[0]->report.n)) {
            (*out)[(*n)++] = s;
        }
    }
done:
    return status;
}

/* Whether the judge that reports has held every player but the base against the base. */
static bool all_judged(const stage *const *players, size_t n) {
    bool judged = n > 1;
    for (size_t i = 0; i < n; i++) {
        const bool base = strcmp(players[i]->kind, "base") == 0;
        judged = judged && (base || players[i]->n_wins == players[i]->report.n);
    }
    return judged;
}

/* What the players are compared by on each prompt: the chance to win over the base's response, by
 * the judge that reports, in which the base has one half; without one the checker's verdicts.
 * *even: owned by the caller, the base's column. */
static spar_status league_columns(const stage *const *players, size_t n, const double **columns,
                                  double **even, bool *judged, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t prompts = n ? players[0]->report.n : 0;
    void *memory;
    *judged = all_judged(players, n);
    SPAR_TRY(sp_mem_calloc(&memory, prompts, sizeof **even, err));
    *even = memory;
    for (size_t i = 0; i < prompts; i++) {
        (*even)[i] = 0.5;
    }
    for (size_t i = 0; i < n; i++) {
        const double *wins = players[i]->n_wins ? players[i]->wins : *even;
        columns[i] = *judged ? wins : players[i]->report.strict;
    }
done:
    return status;
}

/* "league": {"by", "players": stages, "wins": [[...]], "winner", "gaps", "gap"}, from two players
 * on.
 */
static spar_status add_league(const reader *r, json_t *out, spar_error *err) {
    spar_status status = SPAR_OK;
    const stage **players = NULL;
    const double **columns = NULL;
    double *even = NULL;
    sp_league league = {0};
    size_t n;
    bool judged;
    void *memory;
    json_t *ids = json_array(), *wins = json_array();
    SPAR_TRY(find_players(r, &players, &n, err));
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *columns, err));
    columns = memory;
    SPAR_TRY(league_columns(players, n, columns, &even, &judged, err));
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(ids, json_integer(players[i]->id));
    }
    if (n < 2) {
        goto done;
    }
    SPAR_TRY(sp_league_make(&league, columns, n, players[0]->report.n, err));
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(wins, numbers(league.wins + i * n, n));
    }
    json_object_set_new(out, "league",
                        json_pack("{s:s, s:O, s:O, s:o, s:o, s:f}", "by",
                                  judged ? "judge" : "score", "players", ids, "wins", wins,
                                  "winner", numbers(league.winner, n), "gaps",
                                  numbers(league.gaps, n), "gap", league.gap));
done:
    json_decref(ids);
    json_decref(wins);
    sp_league_release(&league);
    free(players);
    free(columns);
    free(even);
    return status;
}

spar_status spar_report_read(const char *run, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    reader r = {.passes = true};
    char *path = NULL;
    json_t *root = json_object();
    json_t *list = json_array();
    SPAR_TRY(sp_path_join(&path, run, "run.db", err));
    if (!sp_file_exists(path)) {
        SPAR_TRY(
            spar_fail(err, SPAR_NOT_FOUND, "%s: expected a run directory, found no run.db", run));
    }
    SPAR_TRY(sp_rundb_open(&r.db, path, SP_RUNDB_READ, err));
    SPAR_TRY(add_meta(&r, root, err));
    SPAR_TRY(add_judges(&r, root, err));
    SPAR_TRY(read_best_stage(&r, err));
    SPAR_TRY(sp_rundb_each_prompt(r.db, NULL, take_prompt, &r, err));
    SPAR_TRY(sp_rundb_each_stage(r.db, take_stage, &r, err));
    for (size_t i = 0; i < r.n; i++) {
        SPAR_TRY(read_stage(&r, &r.stages[i], err));
    }
    for (size_t i = 0; i < r.n; i++) {
        add_figures(&r, &r.stages[i]);
        SPAR_TRY(add_length_controlled(&r, &r.stages[i], err));
        json_array_append(list, r.stages[i].json);
    }
    json_object_set_new(root, "score", json_string(r.passes ? "pass rate" : "log-prob a token"));
    json_object_set(root, "stages", list);
    add_conclusion(&r, root);
    SPAR_TRY(add_league(&r, root, err));
    *out = root;
    root = NULL;
done:
    json_decref(root);
    json_decref(list);
    free(path);
    release(&r);
    return status;
}

spar_status sp_report_files(const json_t *report, sp_report_writer write, const char *dir,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    char *text = NULL;
    size_t n = 0;
    FILE *out = NULL;
    SPAR_TRY(sp_path_join(&path, dir, "report.json", err));
    SPAR_TRY(sp_json_save(report, path, err));
    free(path);
    path = NULL;
    out = open_memstream(&text, &n);
    if (!out) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for the report"));
    }
    write(report, SPAR_REPORT_MARKDOWN, out);
    fclose(out);
    SPAR_TRY(sp_path_join(&path, dir, "report.md", err));
    SPAR_TRY(sp_file_write(path, text, n, err));
done:
    free(text);
    free(path);
    return status;
}

spar_status sp_report_save(const char *run, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *report = NULL;
    SPAR_TRY(spar_report_read(run, &report, err));
    SPAR_TRY(sp_report_files(report, spar_report_write, run, err));
done:
    json_decref(report);
    return status;
}
