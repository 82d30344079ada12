/* A report as a table: for a terminal, and as Markdown. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "spar/play.h"

typedef struct table {
    FILE *out;
    bool markdown, percent;
} table;

static double number(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

/* "71.2 [66.6, 75.4]" for rates, in per cent; three decimals for log-probs. */
static void write_interval(const table *t, const json_t *v, bool sign, char *text, size_t n) {
    if (!json_is_object(v)) {
        snprintf(text, n, "-");
        return;
    }
    double scale = t->percent ? 100 : 1;
    int digits = t->percent ? 1 : 4;
    snprintf(text, n, sign ? "%+.*f [%+.*f, %+.*f]" : "%.*f [%.*f, %.*f]", digits,
             scale * number(v, "value"), digits, scale * number(v, "low"), digits,
             scale * number(v, "high"));
}

static void cell(const table *t, const char *text, int width) {
    if (t->markdown) {
        fprintf(t->out, " %s |", text);
    } else {
        fprintf(t->out, "%-*s  ", width, text);
    }
}

static void begin_row(const table *t) {
    if (t->markdown) {
        fputc('|', t->out);
    }
}

static void end_row(const table *t) {
    fputc('\n', t->out);
}

static void stage_name(const json_t *s, char *text, size_t n) {
    const char *arm = json_string_value(json_object_get(s, "arm"));
    const char *kind = json_string_value(json_object_get(s, "kind"));
    long long iteration = json_integer_value(json_object_get(s, "iteration"));
    if (iteration == 0) {
        snprintf(text, n, "%s", arm);
    } else {
        snprintf(text, n, "%s, %s %lld", arm, strcmp(kind, "epoch") == 0 ? "epoch" : "iteration",
                 iteration);
    }
}

enum { NAME_WIDTH = 36, FIGURE_WIDTH = 29 };

static void header(const table *t, const char *const *names, const int *widths, int n) {
    begin_row(t);
    for (int i = 0; i < n; i++) {
        cell(t, names[i], widths[i]);
    }
    end_row(t);
    if (t->markdown) {
        fputc('|', t->out);
        for (int i = 0; i < n; i++) {
            fputs("---|", t->out);
        }
        fputc('\n', t->out);
    }
}

static void summary_row(const table *t, const json_t *s) {
    char text[96];
    const json_t *report = json_object_get(s, "report");
    const json_t *gate = json_object_get(s, "gate");
    begin_row(t);
    stage_name(s, text, sizeof text);
    cell(t, text, NAME_WIDTH);
    write_interval(t, json_object_get(gate, "strict"), false, text, sizeof text);
    cell(t, text, FIGURE_WIDTH);
    write_interval(t, json_object_get(report, "strict"), false, text, sizeof text);
    cell(t, text, FIGURE_WIDTH);
    if (t->percent) {
        write_interval(t, json_object_get(report, "lenient"), false, text, sizeof text);
        cell(t, text, FIGURE_WIDTH);
    }
    write_interval(t, json_object_get(s, "difference"), true, text, sizeof text);
    cell(t, text, FIGURE_WIDTH);
    cell(t, json_is_true(json_object_get(s, "kept")) ? "kept" : "no", 4);
    end_row(t);
}

static void write_summary(const table *t, const json_t *stages) {
    static const char *const rates[] = {"stage",           "gate, strict",  "report, strict",
                                        "report, lenient", "step (strict)", "kept"};
    static const char *const means[] = {"stage", "gate", "report", "step", "kept"};
    static const int rate_widths[] = {NAME_WIDTH,   FIGURE_WIDTH, FIGURE_WIDTH,
                                      FIGURE_WIDTH, FIGURE_WIDTH, 4};
    static const int mean_widths[] = {NAME_WIDTH, FIGURE_WIDTH, FIGURE_WIDTH, FIGURE_WIDTH, 4};
    size_t i;
    json_t *s;
    header(t, t->percent ? rates : means, t->percent ? rate_widths : mean_widths,
           t->percent ? 6 : 5);
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        summary_row(t, s);
    }
}

/* Pass rates by family, strict and lenient, of every stage measured on the report set. */
static void write_families(const table *t, const json_t *stages) {
    static const char *const names[] = {"stage", "family", "strict", "lenient"};
    static const int widths[] = {NAME_WIDTH, 16, FIGURE_WIDTH, FIGURE_WIDTH};
    size_t i;
    json_t *s;
    header(t, names, widths, 4);
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        const char *family;
        json_t *value;
        json_t *families = json_object_get(json_object_get(s, "report"), "families");
        json_object_foreach(families, family, value) {
            char text[96];
            begin_row(t);
            stage_name(s, text, sizeof text);
            cell(t, text, NAME_WIDTH);
            cell(t, family, 16);
            write_interval(t, json_object_get(value, "strict"), false, text, sizeof text);
            cell(t, text, FIGURE_WIDTH);
            write_interval(t, json_object_get(value, "lenient"), false, text, sizeof text);
            cell(t, text, FIGURE_WIDTH);
            end_row(t);
        }
    }
}

static void figure(const json_t *steps, const char *name, const char *which, char *text, size_t n) {
    double value = number(json_object_get(steps, name), which);
    if (isnan(value)) {
        snprintf(text, n, "-");
    } else {
        snprintf(text, n, "%.4g", value);
    }
}

/* What training did: both halves apart, since falling chosen log-probs matter. */
static void write_training(const table *t, const json_t *stages) {
    static const char *const names[] = {"stage",  "sequences", "loss first",   "loss last",
                                        "margin", "accuracy",  "s chosen",     "s rejected",
                                        "kl",     "grad norm", "bf16 changed", "logp gap max"};
    static const struct {
        const char *metric, *which;
    } columns[] = {{"loss", "first"},    {"loss", "last"},      {"margin", "last"},
                   {"accuracy", "last"}, {"s_chosen", "last"},  {"s_rejected", "last"},
                   {"kl", "last"},       {"grad_norm", "mean"}, {"changed_bf16", "mean"}};
    static const int widths[] = {NAME_WIDTH, 9, 10, 10, 10, 8, 10, 10, 10, 10, 12, 12};
    size_t i;
    json_t *s;
    header(t, names, widths, 12);
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        char text[96];
        const json_t *metrics = json_object_get(s, "metrics");
        const json_t *steps = json_object_get(metrics, "steps");
        if (json_object_size(steps) == 0) {
            continue;
        }
        begin_row(t);
        stage_name(s, text, sizeof text);
        cell(t, text, NAME_WIDTH);
        snprintf(text, sizeof text, "%.0f", fmax(0, number(metrics, "sequences")));
        cell(t, json_object_get(metrics, "sequences") ? text : "-", widths[1]);
        for (size_t c = 0; c < sizeof columns / sizeof columns[0]; c++) {
            figure(steps, columns[c].metric, columns[c].which, text, sizeof text);
            cell(t, text, widths[2 + c]);
        }
        snprintf(text, sizeof text, "%.2e", number(metrics, "logp_gap_max"));
        cell(t, json_object_get(metrics, "logp_gap_max") ? text : "-", widths[11]);
        end_row(t);
    }
}

static void write_pairs(const table *t, const json_t *stages) {
    static const char *const names[] = {"stage", "verdict", "pairs"};
    static const int widths[] = {NAME_WIDTH, 32, 6};
    size_t i;
    json_t *s;
    header(t, names, widths, 3);
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        const char *reason;
        json_t *n;
        json_object_foreach(json_object_get(s, "pairs"), reason, n) {
            char text[96];
            begin_row(t);
            stage_name(s, text, sizeof text);
            cell(t, text, widths[0]);
            cell(t, reason, widths[1]);
            snprintf(text, sizeof text, "%lld", json_integer_value(n));
            cell(t, text, widths[2]);
            end_row(t);
        }
    }
}

static void judge_name(const json_t *judge, char *text, size_t n) {
    const char *print = json_string_value(json_object_get(judge, "fingerprint"));
    snprintf(text, n, "%s:%s%s%s%s", json_string_value(json_object_get(judge, "kind")),
             json_string_value(json_object_get(judge, "model")), print ? " (fingerprint " : "",
             print ? print : "", print ? ")" : "");
}

enum { COST_COLUMNS = 3 };
static const char *const cost_keys[COST_COLUMNS] = {"prompts", "seconds", "tokens"};
static const int cost_widths[COST_COLUMNS] = {14, 10, 12};

static void cost_cells(const table *t, const json_t *cost) {
    for (int c = 0; c < COST_COLUMNS; c++) {
        char text[32];
        snprintf(text, sizeof text, c == 1 ? "%.1f" : "%.0f", number(cost, cost_keys[c]));
        cell(t, text, cost_widths[c]);
    }
}

/* Who judged the pairs, and what it cost. */
static void write_judge(const table *t, const json_t *judge, const json_t *stages) {
    static const char *const names[] = {"stage", "prompts judged", "seconds", "tokens"};
    const int widths[] = {NAME_WIDTH, cost_widths[0], cost_widths[1], cost_widths[2]};
    char text[512];
    size_t i;
    json_t *s;
    judge_name(judge, text, sizeof text);
    fprintf(t->out, "%s\n\n", text);
    header(t, names, widths, 4);
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        if (json_object_get(s, "judged")) {
            begin_row(t);
            stage_name(s, text, sizeof text);
            cell(t, text, widths[0]);
            cost_cells(t, json_object_get(s, "judged"));
            end_row(t);
        }
    }
}

/* Win rates by the judge that reports, with the lengths that may explain them. */
static void write_wins(const table *t, const json_t *judge, const json_t *stages) {
    static const char *const names[] = {"stage",      "win rate, per cent", "length-controlled",
                                        "characters", "prompts judged",     "seconds",
                                        "tokens"};
    const int widths[] = {NAME_WIDTH,     FIGURE_WIDTH,  17, 10, cost_widths[0],
                          cost_widths[1], cost_widths[2]};
    const table rates = {t->out, t->markdown, true};
    char text[512];
    size_t i;
    json_t *s;
    judge_name(judge, text, sizeof text);
    fprintf(t->out, "%s\n\n", text);
    header(t, names, widths, 7);
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        const json_t *wins = json_object_get(s, "against_base");
        const bool base = strcmp(json_string_value(json_object_get(s, "kind")), "base") == 0;
        if (!wins && !base) {
            continue;
        }
        begin_row(t);
        stage_name(s, text, sizeof text);
        cell(t, text, widths[0]);
        write_interval(&rates, json_object_get(wins, "win"), false, text, sizeof text);
        cell(t, text, widths[1]);
        const double controlled = number(wins, "length_controlled");
        snprintf(text, sizeof text, "%.1f", 100 * controlled);
        cell(t, isnan(controlled) ? "-" : text, widths[2]);
        snprintf(text, sizeof text, "%.1f", number(s, "characters"));
        cell(t, text, widths[3]);
        if (wins) {
            cost_cells(t, wins);
        }
        end_row(t);
    }
}

/* The first line says it where one judge trained and reports. */
static const char *same_judge(const json_t *report) {
    const json_t *judges = json_object_get(report, "judge");
    const json_t *train = json_object_get(judges, "train");
    const json_t *measures = json_object_get(judges, "report");
    const char *key = json_object_get(train, "fingerprint") ? "fingerprint" : "model";
    return train && measures &&
                   json_equal(json_object_get(train, "kind"), json_object_get(measures, "kind")) &&
                   json_equal(json_object_get(train, key), json_object_get(measures, key))
               ? " (win rates by the judge that trained: they overstate what was gained)"
               : "";
}

/* Whether self-play itself added something: each arm against its control. */
static void write_controls(const table *t, const json_t *stages) {
    static const char *const names[] = {"control", "method - control (strict)"};
    static const int widths[] = {NAME_WIDTH, FIGURE_WIDTH};
    size_t i;
    json_t *s;
    header(t, names, widths, 2);
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        const json_t *d = json_object_get(s, "method_minus_control");
        if (d) {
            char text[96];
            begin_row(t);
            stage_name(s, text, sizeof text);
            cell(t, text, widths[0]);
            write_interval(t, d, true, text, sizeof text);
            cell(t, text, widths[1]);
            end_row(t);
        }
    }
}

static bool any_work(const json_t *stages, const char *phase) {
    size_t i;
    json_t *s;
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        if (json_object_get(json_object_get(s, "work"), phase)) {
            return true;
        }
    }
    return false;
}

/* Time by the clock and of the processor, of all processes that worked at a stage. */
static void write_work(const table *t, const json_t *stages) {
    enum { PHASES = 4, WIDTH = 13 };
    static const struct {
        const char *name, *heading;
    } phases[PHASES] = {{"sample", "sampling, s"},
                        {"judge", "judging, s"},
                        {"judge report", "measuring, s"},
                        {"train", "training, s"}};
    const char *names[2 + 2 * PHASES] = {"stage"};
    int widths[2 + 2 * PHASES] = {NAME_WIDTH}, n = 1;
    bool shown[PHASES];
    size_t i;
    json_t *s;
    for (int p = 0; p < PHASES; p++) { /* the judges' where there are such */
        shown[p] = p == 0 || p == PHASES - 1 || any_work(stages, phases[p].name);
        if (shown[p]) {
            names[n] = phases[p].heading;
            widths[n++] = WIDTH;
            names[n] = "processor, s";
            widths[n++] = WIDTH;
        }
    }
    names[n] = "processes";
    widths[n++] = 10;
    header(t, names, widths, n);
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        const json_t *work = json_object_get(s, "work");
        char text[96];
        double processes = 0;
        if (json_object_size(work) == 0) {
            continue;
        }
        begin_row(t);
        stage_name(s, text, sizeof text);
        cell(t, text, widths[0]);
        for (int p = 0; p < PHASES; p++) {
            const json_t *phase = json_object_get(work, phases[p].name);
            if (!shown[p]) {
                continue;
            }
            snprintf(text, sizeof text, "%.1f", number(phase, "seconds"));
            cell(t, phase ? text : "-", WIDTH);
            snprintf(text, sizeof text, "%.1f", number(phase, "cpu_seconds"));
            cell(t, phase ? text : "-", WIDTH);
            processes = phase ? fmax(processes, number(phase, "processes")) : processes;
        }
        snprintf(text, sizeof text, "%.0f", processes);
        cell(t, text, widths[n - 1]);
        end_row(t);
    }
}

static const json_t *stage_of(const json_t *stages, json_int_t id) {
    size_t i;
    json_t *s;
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        if (json_integer_value(json_object_get(s, "stage")) == id) {
            return s;
        }
    }
    return NULL;
}

static void figure_cell(const table *t, const json_t *list, size_t i, int width) {
    char text[32];
    snprintf(text, sizeof text, "%.3f", json_number_value(json_array_get(list, i)));
    cell(t, text, width);
}

/* Expected wins between the stages, numbered by row, and what the game says of each. */
static void write_league(const table *t, const json_t *league, const json_t *stages) {
    enum { NARROW = 6 };
    const json_t *players = json_object_get(league, "players");
    const json_t *wins = json_object_get(league, "wins");
    const size_t n = json_array_size(players);
    char text[128];
    begin_row(t);
    cell(t, "stage", NAME_WIDTH);
    for (size_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "%zu", i + 1);
        cell(t, text, NARROW);
    }
    cell(t, "winner", NARROW);
    cell(t, "gap", NARROW);
    end_row(t);
    if (t->markdown) {
        fputc('|', t->out);
        for (size_t i = 0; i < n + 3; i++) {
            fputs("---|", t->out);
        }
        fputc('\n', t->out);
    }
    for (size_t i = 0; i < n; i++) {
        char name[96];
        stage_name(stage_of(stages, json_integer_value(json_array_get(players, i))), name,
                   sizeof name);
        snprintf(text, sizeof text, "%zu: %s", i + 1, name);
        begin_row(t);
        cell(t, text, NAME_WIDTH);
        for (size_t j = 0; j < n; j++) {
            figure_cell(t, json_array_get(wins, i), j, NARROW);
        }
        figure_cell(t, json_object_get(league, "winner"), i, NARROW);
        figure_cell(t, json_object_get(league, "gaps"), i, NARROW);
        end_row(t);
    }
}

static bool any(const json_t *stages, const char *key) {
    size_t i;
    json_t *s;
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        const json_t *value = json_object_get(s, key);
        if (value && (!json_is_object(value) || json_object_size(value) > 0)) {
            return true;
        }
    }
    return false;
}

static void section(const table *t, const char *title) {
    fprintf(t->out, t->markdown ? "\n## %s\n\n" : "\n%s\n", title);
}

static void conclusion(const table *t, const json_t *report, const char *key, const char *from) {
    const json_t *d = json_object_get(report, key);
    char text[96];
    if (!json_is_object(d)) {
        return;
    }
    write_interval(t, d, true, text, sizeof text);
    double low = number(d, "low");
    double high = number(d, "high");
    fprintf(t->out, "%sThe kept model against %s: %s%s, %s.\n", t->markdown ? "- " : "", from, text,
            t->percent ? " points" : "",
            low > 0    ? "better: the 95 % interval lies above zero"
            : high < 0 ? "worse: the 95 % interval lies below zero"
                       : "not told apart: the 95 % interval holds zero");
}

/* Arms that ended early, and after what. */
static void write_early_ends(const table *t, const json_t *stages) {
    size_t i;
    json_t *s;
    json_array_foreach((json_t *)(uintptr_t)stages, i, s) {
        const json_t *failures = json_object_get(json_object_get(s, "metrics"), "ended_early");
        char name[96];
        if (failures) {
            stage_name(s, name, sizeof name);
            fprintf(t->out,
                    "%sThe arm ended after %s: the last %.0f candidates were thrown away.\n",
                    t->markdown ? "- " : "", name, json_number_value(failures));
        }
    }
}

void spar_report_write(const json_t *report, spar_report_format format, FILE *out) {
    const char *score = json_string_value(json_object_get(report, "score"));
    table t = {out, format == SPAR_REPORT_MARKDOWN, score && strcmp(score, "pass rate") == 0};
    const json_t *stages = json_object_get(report, "stages");
    const json_t *judges = json_object_get(report, "judge");
    fprintf(out, "%s%s: %s, %s, seed %s%s\n", t.markdown ? "# " : "",
            json_string_value(json_object_get(report, "recipe")),
            json_string_value(json_object_get(report, "model")),
            json_string_value(json_object_get(report, "backend")),
            json_string_value(json_object_get(report, "seed")), same_judge(report));
    section(&t, t.percent ? "Pass rates, per cent, with 95 % intervals (Wilson; steps: paired, "
                            "Newcombe)"
                          : "Mean log-prob a token of held-out responses, with 95 % intervals");
    write_summary(&t, stages);
    fputc('\n', out);
    conclusion(&t, report, "kept_minus_warmup", "the warm-up");
    conclusion(&t, report, "kept_minus_base", "the base");
    write_early_ends(&t, stages);
    if (any(stages, "method_minus_control")) {
        section(&t, "Against controls with as many trained sequences");
        write_controls(&t, stages);
    }
    if (t.percent) {
        section(&t, "By family, on the report set");
        write_families(&t, stages);
    }
    if (json_object_get(report, "league")) {
        const json_t *league = json_object_get(report, "league");
        const char *by = json_string_value(json_object_get(league, "by"));
        section(&t,
                by && strcmp(by, "judge") == 0
                    ? "Expected wins on the report set by the judge that reports, row over "
                      "column; the von Neumann winner's shares, and the duality gap of each alone"
                    : "Expected wins on the report set, row over column; the von Neumann winner's "
                      "shares, and the duality gap of each alone");
        write_league(&t, league, stages);
    }
    section(&t, "Training");
    write_training(&t, stages);
    if (any(stages, "against_base")) {
        section(&t, "Win rates against the base's responses on the report set, 95 % intervals");
        write_wins(&t, json_object_get(judges, "report"), stages);
    }
    if (any(stages, "judged")) {
        section(&t, "The judge that made the training pairs");
        write_judge(&t, json_object_get(judges, "train"), stages);
    }
    if (any(stages, "pairs")) {
        section(&t, "Pairs");
        write_pairs(&t, stages);
    }
    if (any(stages, "work")) {
        section(&t, "What the stages took");
        write_work(&t, stages);
    }
}
