/* Several runs of one recipe, which differ in their seed, as one comparison of its arms. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "eval/statistics.h"
#include "io/rundb.h"
#include "play/report.h"

/* ---- reading ---- */

/* What one run says of one arm: its last finished iteration, and figures over all of them. */
typedef struct entry {
    int64_t stage, iterations; /* 0: none is finished */
    double *scores;            /* owned, [n]: strict, in the order of the report set */
    size_t n, capacity;
    double first; /* mean score after its first iteration; NaN: not measured */
    double kl, cpu, sequences, characters;
} entry;

typedef struct arm_row {
    char name[128], kind[32], against[128];
    entry *entries;            /* owned, [runs] */
    double *means, *variances; /* owned, [runs]: differences, of the runs that have both */
    size_t both;
} arm_row;

typedef struct comparison {
    arm_row *rows; /* owned */
    size_t n, capacity, runs;
    bool passes;     /* scores are pass rates */
    sp_rundb *db;    /* of the run at hand */
    json_t *against; /* of the run at hand; owned */
    json_t *seeds;   /* owned: the folder of each seed */
    json_t *base;    /* owned: fingerprint and path of the first run's base model, and its folder */
    size_t run;
} comparison;

static void release(comparison *c) {
    for (size_t i = 0; i < c->n; i++) {
        for (size_t r = 0; c->rows[i].entries && r < c->runs; r++) {
            free(c->rows[i].entries[r].scores);
        }
        free(c->rows[i].entries);
        free(c->rows[i].means);
        free(c->rows[i].variances);
    }
    free(c->rows);
    json_decref(c->against);
    json_decref(c->seeds);
    json_decref(c->base);
    sp_rundb_close(c->db);
}

static spar_status add_row(comparison *c, const sp_rundb_stage *stage, arm_row **out,
                           spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = c->rows;
    const char *against = json_string_value(json_object_get(c->against, stage->arm));
    SPAR_TRY(sp_mem_grow(&memory, &c->capacity, c->n + 1, sizeof *c->rows, err));
    c->rows = memory;
    arm_row *row = &c->rows[c->n];
    memset(row, 0, sizeof *row);
    c->n++;
    snprintf(row->name, sizeof row->name, "%s", stage->arm);
    snprintf(row->kind, sizeof row->kind, "%s", stage->kind);
    snprintf(row->against, sizeof row->against, "%s", against ? against : "");
    SPAR_TRY(sp_mem_calloc(&memory, c->runs, sizeof *row->entries, err));
    row->entries = memory;
    SPAR_TRY(sp_mem_calloc(&memory, c->runs, sizeof *row->means, err));
    row->means = memory;
    SPAR_TRY(sp_mem_calloc(&memory, c->runs, sizeof *row->variances, err));
    row->variances = memory;
    *out = row;
done:
    return status;
}

static arm_row *find_row(const comparison *c, const char *name) {
    for (size_t i = 0; i < c->n; i++) {
        if (strcmp(c->rows[i].name, name) == 0) {
            return &c->rows[i];
        }
    }
    return NULL;
}

typedef struct score_context {
    entry *e;
    bool *passes;
} score_context;

static spar_status take_score(void *context, const sp_rundb_evaluation *row, spar_error *err) {
    spar_status status = SPAR_OK;
    score_context *s = context;
    entry *e = s->e;
    void *memory = e->scores;
    SPAR_TRY(sp_mem_grow(&memory, &e->capacity, e->n + 1, sizeof *e->scores, err));
    e->scores = memory;
    e->scores[e->n++] = row->strict;
    e->characters += sp_report_characters(row->response);
    *s->passes = *s->passes && !isnan(row->lenient);
done:
    return status;
}

/* What sampling and training took: a judge may be another machine's. */
static spar_status take_work(void *context, const sp_rundb_work *row, spar_error *err) {
    entry *e = context;
    (void)err;
    e->cpu += strncmp(row->phase, "judge", 5) == 0 ? 0 : row->cpu;
    return SPAR_OK;
}

/* Runs of before the table of work have its sums, of one process, among the metrics. */
static spar_status take_figure(void *context, const sp_rundb_metric *row, spar_error *err) {
    entry *e = context;
    (void)err;
    if (row->step > 0) {
        return SPAR_OK;
    }
    if (strcmp(row->name, "cpu_sample") == 0 || strcmp(row->name, "cpu_train") == 0) {
        e->cpu += row->value;
    } else if (strcmp(row->name, "sequences") == 0) {
        e->sequences += row->value;
    } else if (strcmp(row->name, "kl_moved") == 0) {
        e->kl += row->value;
    }
    return SPAR_OK;
}

static double mean(const double *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += x[i];
    }
    return n ? sum / (double)n : (double)NAN;
}

/* Stages come in their order: each finished one of an arm takes the place of the one before. An
 * epoch that was passed through has no report figures. */
static spar_status take_stage(void *context, const sp_rundb_stage *stage, spar_error *err) {
    spar_status status = SPAR_OK;
    comparison *c = context;
    arm_row *row = find_row(c, stage->arm);
    if (!row) {
        SPAR_TRY(add_row(c, stage, &row, err));
    }
    entry *e = &row->entries[c->run];
    score_context scores = {e, &c->passes};
    if (strcmp(stage->status, "done") != 0) {
        goto done;
    }
    e->n = 0;
    e->characters = 0;
    SPAR_TRY(sp_rundb_each_evaluation(c->db, stage->id, "report", take_score, &scores, err));
    SPAR_TRY(sp_rundb_each_metric(c->db, stage->id, NULL, take_figure, e, err));
    SPAR_TRY(sp_rundb_each_work(c->db, stage->id, take_work, e, err));
    e->stage = stage->id;
    e->iterations = stage->iteration;
    e->first = stage->iteration == 1 ? mean(e->scores, e->n) : e->first;
done:
    return status;
}

/* One seed's run twice would pass for two draws. */
static spar_status check_seed(comparison *c, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *seed = NULL;
    SPAR_TRY(sp_rundb_get_meta(c->db, "seed", &seed, err));
    const json_t *other = json_object_get(c->seeds, seed);
    if (other) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "%s: expected a seed of its own, found %s, that of %s", dir, seed,
                           json_string_value(other)));
    }
    json_object_set_new(c->seeds, seed, json_string(dir));
done:
    free(seed);
    return status;
}

/* Arms that began from other weights cannot be held against each other. */
static spar_status check_base(comparison *c, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *fingerprint = NULL, *model = NULL;
    SPAR_TRY(sp_rundb_get_meta(c->db, "model_fingerprint", &fingerprint, err));
    SPAR_TRY(sp_rundb_get_meta(c->db, "model", &model, err));
    if (!c->base) {
        c->base = json_pack("[s, s, s]", fingerprint, model, dir);
    }
    if (!c->base) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a base model's name"));
    }
    const char *first[3];
    for (size_t i = 0; i < 3; i++) {
        first[i] = json_string_value(json_array_get(c->base, i));
    }
    if (strcmp(first[0], fingerprint) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "%s: expected a run from the same base model as %s (%s, fingerprint "
                           "%s), found %s, fingerprint %s",
                           dir, first[2], first[1], first[0], model, fingerprint));
    }
done:
    free(fingerprint);
    free(model);
    return status;
}

static spar_status read_run(comparison *c, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL, *text = NULL;
    spar_error none;
    SPAR_TRY(sp_path_join(&path, dir, "run.db", err));
    if (!sp_file_exists(path)) {
        SPAR_TRY(
            spar_fail(err, SPAR_NOT_FOUND, "%s: expected a run directory, found no run.db", dir));
    }
    SPAR_TRY(sp_rundb_open(&c->db, path, SP_RUNDB_READ, err));
    SPAR_TRY(check_seed(c, dir, err));
    SPAR_TRY(check_base(c, dir, err));
    json_decref(c->against);
    c->against = NULL;
    if (sp_rundb_get_meta(c->db, "against", &text, &none) == SPAR_OK) {
        SPAR_TRY(sp_json_parse(&c->against, text, strlen(text), path, err));
    }
    SPAR_TRY(sp_rundb_each_stage(c->db, take_stage, c, err));
    sp_rundb_close(c->db);
    c->db = NULL;
done:
    free(path);
    free(text);
    return status;
}

/* ---- figures ---- */

/* Runs in which both arms are through as many iterations. */
static void pair_runs(const comparison *c, arm_row *row) {
    const arm_row *control = row->against[0] ? find_row(c, row->against) : NULL;
    for (size_t r = 0; control && r < c->runs; r++) {
        const entry *a = &control->entries[r], *b = &row->entries[r];
        if (b->n > 1 && a->n == b->n && a->iterations == b->iterations) {
            sp_paired_variance(a->scores, b->scores, a->n, &row->means[row->both],
                               &row->variances[row->both]);
            row->both++;
        }
    }
}

/* Mean of a figure over the runs that have the arm. */
static double over_runs(const comparison *c, const arm_row *row, size_t offset) {
    double sum = 0;
    size_t n = 0;
    for (size_t r = 0; r < c->runs; r++) {
        const entry *e = &row->entries[r];
        if (e->n > 0) {
            double value;
            memcpy(&value, (const char *)e + offset, sizeof value);
            sum += value;
            n++;
        }
    }
    return n ? sum / (double)n : 0;
}

/* Figures of each run, and their means over those that have the arm. */
static void put_runs(json_t *out, const comparison *c, const arm_row *row) {
    json_t *by_run = json_array(), *firsts = json_array();
    double level = 0, length = 0;
    size_t have = 0;
    int64_t iterations = 0;
    for (size_t r = 0; r < c->runs; r++) {
        const entry *e = &row->entries[r];
        if (e->n > 0) {
            level += mean(e->scores, e->n);
            length += e->characters / (double)e->n;
            iterations = e->iterations > iterations ? e->iterations : iterations;
            have++;
        }
        json_array_append_new(by_run, e->n ? json_real(mean(e->scores, e->n)) : json_null());
        json_array_append_new(firsts, e->iterations > 0 && !isnan(e->first) ? json_real(e->first)
                                                                            : json_null());
    }
    json_object_set_new(out, "runs", json_integer((json_int_t)have));
    json_object_set_new(out, "iterations", json_integer(iterations));
    if (have > 0) {
        json_object_set_new(out, "score", json_real(level / (double)have));
        json_object_set_new(out, "characters", json_real(length / (double)have));
    }
    json_object_set_new(out, "scores", by_run);
    json_object_set_new(out, "first_scores", firsts);
}

static json_t *row_json(const comparison *c, const arm_row *row) {
    static const struct {
        const char *name;
        size_t offset;
    } figures[] = {{"kl", offsetof(entry, kl)},
                   {"cpu_seconds", offsetof(entry, cpu)},
                   {"sequences", offsetof(entry, sequences)}};
    json_t *out = json_object();
    json_object_set_new(out, "arm", json_string(row->name));
    json_object_set_new(out, "kind", json_string(row->kind));
    put_runs(out, c, row);
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        json_object_set_new(out, figures[i].name, json_real(over_runs(c, row, figures[i].offset)));
    }
    return out;
}

static void put_difference(json_t *out, const arm_row *row, const sp_seeded *s) {
    json_t *by_run = json_array();
    for (size_t i = 0; i < row->both; i++) {
        json_array_append_new(by_run, json_real(row->means[i]));
    }
    json_object_set_new(out, "against", json_string(row->against));
    json_object_set_new(
        out, "difference",
        json_pack("{s:f, s:f, s:f}", "value", s->value, "low", s->low, "high", s->high));
    json_object_set_new(out, "p", json_real(s->p));
    json_object_set_new(out, "p_holm", json_real(s->holm));
    json_object_set_new(out, "differences", by_run);
}

static spar_status add_arms(comparison *c, json_t *list, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_seeded *tests = NULL;
    size_t n = 0, at = 0;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, c->n + 1, sizeof *tests, err));
    tests = memory;
    for (size_t i = 0; i < c->n; i++) {
        arm_row *row = &c->rows[i];
        pair_runs(c, row);
        if (row->both > 0) {
            tests[n++] =
                (sp_seeded){.means = row->means, .variances = row->variances, .seeds = row->both};
        }
    }
    sp_seeded_compare(tests, n);
    for (size_t i = 0; i < c->n; i++) {
        json_t *out = row_json(c, &c->rows[i]);
        if (c->rows[i].both > 0) {
            put_difference(out, &c->rows[i], &tests[at++]);
        }
        json_array_append_new(list, out);
    }
done:
    free(tests);
    return status;
}

spar_status spar_compare_read(const char *const *runs, size_t n, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    comparison c = {.runs = n, .passes = true, .seeds = json_object()};
    json_t *root = json_object(), *list = json_array(), *names = json_array();
    for (size_t i = 0; i < n; i++) {
        c.run = i;
        SPAR_TRY(read_run(&c, runs[i], err));
        json_array_append_new(names, json_string(runs[i]));
    }
    SPAR_TRY(add_arms(&c, list, err));
    json_object_set(root, "runs", names);
    json_object_set(root, "arms", list);
    json_object_set_new(root, "score", json_string(c.passes ? "pass rate" : "log-prob a token"));
    *out = root;
    root = NULL;
done:
    json_decref(root);
    json_decref(list);
    json_decref(names);
    release(&c);
    return status;
}

/* ---- a table ---- */

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

typedef struct writer {
    FILE *out;
    bool markdown;
    double scale;
    int digits;
} writer;

static void put_cell(const writer *w, const char *text, int width) {
    if (w->markdown) {
        fprintf(w->out, " %s |", text);
    } else {
        fprintf(w->out, "%-*s  ", width, text);
    }
}

/* "+1.2, -0.5" */
static void put_list(const writer *w, const json_t *list, bool sign, char *text, size_t n) {
    size_t i, used = 0;
    json_t *v;
    text[0] = 0;
    json_array_foreach((json_t *)(uintptr_t)list, i, v) {
        const char *gap = i ? ", " : "";
        const int more = json_is_number(v)
                             ? snprintf(text + used, n - used, sign ? "%s%+.*f" : "%s%.*f", gap,
                                        w->digits, w->scale * json_number_value(v))
                             : snprintf(text + used, n - used, "%s-", gap);
        used = used + (size_t)more < n ? used + (size_t)more : n - 1;
    }
}

enum { COMPARE_COLUMNS = 9 };
static const char *const column_names[COMPARE_COLUMNS] = {
    "arm",     "score",      "by run", "against its control", "by run",
    "p, Holm", "characters", "KL",     "sequences; CPU s"};
static const int column_widths[COMPARE_COLUMNS] = {20, 6, 20, 22, 20, 8, 10, 8, 16};

static void put_header(const writer *w) {
    fputs(w->markdown ? "|" : "", w->out);
    for (int i = 0; i < COMPARE_COLUMNS; i++) {
        put_cell(w, column_names[i], column_widths[i]);
    }
    fputs(w->markdown ? "\n|---|---|---|---|---|---|---|---|---|\n" : "\n", w->out);
}

static void put_arm(const writer *w, const json_t *arm) {
    const json_t *d = json_object_get(arm, "difference");
    char text[COMPARE_COLUMNS][160];
    const size_t n = sizeof text[0];
    const double kl = number(arm, "kl");
    snprintf(text[0], n, "%s", json_string_value(json_object_get(arm, "arm")));
    snprintf(text[1], n, "%.*f", w->digits, w->scale * number(arm, "score"));
    put_list(w, json_object_get(arm, "scores"), false, text[2], n);
    snprintf(text[3], n, "-");
    snprintf(text[5], n, "-");
    if (d) {
        snprintf(text[3], n, "%+.*f [%+.*f, %+.*f]", w->digits, w->scale * number(d, "value"),
                 w->digits, w->scale * number(d, "low"), w->digits, w->scale * number(d, "high"));
        snprintf(text[5], n, "%.2g", number(arm, "p_holm"));
    }
    put_list(w, json_object_get(arm, "differences"), true, text[4], n);
    snprintf(text[6], n, "%.1f", number(arm, "characters"));
    snprintf(text[7], n, kl > 0 ? "%.3g" : "-", kl);
    snprintf(text[8], n, "%.0f; %.0f", number(arm, "sequences"), number(arm, "cpu_seconds"));
    fputs(w->markdown ? "|" : "", w->out);
    for (int i = 0; i < COMPARE_COLUMNS; i++) {
        put_cell(w, text[i], column_widths[i]);
    }
    fputc('\n', w->out);
}

/* Arms that some runs have not finished, so that a partial comparison is not read as a whole. */
static void put_missing(const writer *w, const json_t *arm, size_t runs) {
    const json_int_t have = json_integer_value(json_object_get(arm, "runs"));
    if (have < (json_int_t)runs) {
        fprintf(w->out, "%s%s: measured in %lld of %zu runs\n", w->markdown ? "- " : "",
                json_string_value(json_object_get(arm, "arm")), (long long)have, runs);
    }
}

void spar_compare_write(const json_t *report, spar_report_format format, FILE *out) {
    const json_t *arms = json_object_get(report, "arms");
    const char *score = json_string_value(json_object_get(report, "score"));
    const bool percent = score && strcmp(score, "pass rate") == 0;
    const writer w = {out, format == SPAR_REPORT_MARKDOWN, percent ? 100 : 1, percent ? 1 : 4};
    const size_t runs = json_array_size(json_object_get(report, "runs"));
    size_t i;
    json_t *arm;
    fprintf(out,
            "%sThe arms over %zu runs: %s after the last iteration on the report sets; differences "
            "are paired, with 95 %% intervals over problems and seeds, p adjusted by Holm over all "
            "of them; characters a response; KL in nats from each iteration's start, summed; "
            "sequences trained on and processor seconds of sampling and training, a run\n\n",
            w.markdown ? "## " : "", runs, percent ? "pass rates, per cent, strict," : score);
    put_header(&w);
    json_array_foreach((json_t *)(uintptr_t)arms, i, arm) {
        put_arm(&w, arm);
    }
    fputc('\n', out);
    json_array_foreach((json_t *)(uintptr_t)arms, i, arm) {
        put_missing(&w, arm, runs);
    }
}

spar_status spar_compare_save(const char *const *runs, size_t n, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *report = NULL;
    SPAR_TRY(spar_compare_read(runs, n, &report, err));
    SPAR_TRY(sp_report_files(report, spar_compare_write, dir, err));
done:
    json_decref(report);
    return status;
}
