/* Plans by trial: the job with few layers, and the rest by proportion. */
#include "spar/plan.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "spar/bench.h"

/* Layers of the two trials. With fewer, what loading takes for a moment hides what layers take, and
 * weights stay in the caches; with more, a trial costs what the job costs: the distance between the
 * two keeps the noise of the clock small. */
enum { FEW_LAYERS = 6, MORE_LAYERS = 18, RUNS = 3 };

/* One way to do the job. */
typedef struct setting {
    const char *work;
    spar_weights weights;
    bool recompute;
} setting;

/* Less memory, step by step. A setting that the model or the file cannot have is passed over. */
static const setting train_alternatives[] = {
    {"train", SPAR_WEIGHTS_F32, true}, {"lora", SPAR_WEIGHTS_F32, false},
    {"lora", SPAR_WEIGHTS_F32, true},  {"lora", SPAR_WEIGHTS_Q8_0, true},
    {"lora", SPAR_WEIGHTS_Q4_1, true}, {0}};
static const setting sample_alternatives[] = {
    {NULL, SPAR_WEIGHTS_Q8_0, false}, {NULL, SPAR_WEIGHTS_Q4_1, false}, {0}};

static const char *const weight_names[] = {"auto", "f32", "file", "q8_0", "q4_1"};

typedef struct figures {
    double seconds, peak_rss_mb; /* of a step */
    double tokens;               /* that a step handles */
} figures;

static bool trains(const char *work) {
    return strcmp(work, "train") == 0 || strcmp(work, "lora") == 0;
}

/* The job with some layers of the model; 0: all. */
static spar_status try_layers(const spar_plan_options *o, const setting *s, int layers,
                              figures *out, spar_error *err) {
    json_t *root = NULL;
    const spar_bench_options options = {.model = o->model,
                                        .works = {.n = 1, .items = {s->work}},
                                        .dtypes = {.n = 1, .items = {o->dtype}},
                                        .weights = s->weights,
                                        .threads = o->threads,
                                        .runs = RUNS,
                                        .tokens = o->tokens,
                                        .responses = o->responses,
                                        .sequences =
                                            trains(s->work) && o->sequences == 0 ? 4 : o->sequences,
                                        .recompute = s->recompute,
                                        .lora_rank = o->lora_rank,
                                        .lora_targets = o->lora_targets,
                                        .layers = layers,
                                        .no_limits = true,
                                        .sink = o->sink};
    const spar_status status = spar_bench(&root, &options, err);
    if (status == SPAR_OK) {
        const json_t *row = json_array_get(json_object_get(root, "rows"), 0);
        out->tokens = json_number_value(json_object_get(row, "tokens"));
        out->seconds = out->tokens / json_number_value(json_object_get(row, "tokens_per_s"));
        out->peak_rss_mb = json_number_value(json_object_get(row, "peak_rss_mb"));
    }
    json_decref(root);
    return status;
}

static double extend(double few, double more, int layers) {
    const double each = (more - few) / (MORE_LAYERS - FEW_LAYERS);
    return few + (each > 0 ? each : 0) * (layers - FEW_LAYERS);
}

static spar_status estimate(const spar_plan_options *o, const setting *s, int layers, figures *out,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    figures more;
    if (layers <= MORE_LAYERS) {
        return try_layers(o, s, 0, out, err);
    }
    SPAR_TRY(try_layers(o, s, FEW_LAYERS, out, err));
    SPAR_TRY(try_layers(o, s, MORE_LAYERS, &more, err));
    out->seconds = extend(out->seconds, more.seconds, layers);
    out->peak_rss_mb = extend(out->peak_rss_mb, more.peak_rss_mb, layers);
done:
    return status;
}

/* The kernel's estimate of what can be had without swapping, within the group's limit. */
static double available_mb(void) {
    double kb = 0, limit = 0, used = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "MemAvailable: %lf kB", &kb) != 1) {
    }
    if (f) {
        fclose(f);
    }
    f = fopen("/sys/fs/cgroup/memory.max", "r");
    FILE *g = fopen("/sys/fs/cgroup/memory.current", "r");
    if (f && g && fscanf(f, "%lf", &limit) == 1 && fscanf(g, "%lf", &used) == 1 &&
        (limit - used) / 1024 < kb) {
        kb = (limit - used) / 1024;
    }
    if (f) {
        fclose(f);
    }
    if (g) {
        fclose(g);
    }
    return kb / 1024;
}

static spar_status add_row(const spar_plan_options *o, const setting *s, int layers, double memory,
                           json_t *rows, bool *fits, spar_error *err) {
    figures f;
    const spar_status status = estimate(o, s, layers, &f, err);
    if (status != SPAR_OK) {
        return status;
    }
    *fits = f.peak_rss_mb <= memory;
    json_array_append_new(
        rows, json_pack("{s:s, s:s, s:s, s:b, s:f, s:f, s:f, s:b}", "work", s->work, "dtype",
                        o->dtype, "weights", weight_names[s->weights], "recompute", s->recompute,
                        "peak_rss_mb", f.peak_rss_mb, "tokens_per_s", f.tokens / f.seconds,
                        "seconds", f.seconds * (double)o->steps, "fits", *fits));
    return SPAR_OK;
}

static bool same(const setting *a, const setting *b) {
    return strcmp(a->work, b->work) == 0 && a->weights == b->weights &&
           a->recompute == b->recompute;
}

/* Where the asked setting stands among the alternatives: those before it take more memory. */
static int first_after(const setting *alternatives, const setting *asked) {
    for (int i = 0; alternatives[i].weights != SPAR_WEIGHTS_AUTO; i++) {
        setting s = alternatives[i];
        s.work = s.work ? s.work : asked->work;
        if (same(&s, asked)) {
            return i + 1;
        }
    }
    return 0;
}

static spar_status add_alternatives(const spar_plan_options *o, const setting *asked, int layers,
                                    double memory, json_t *rows, bool fits, spar_error *err) {
    spar_status status = SPAR_OK;
    const setting *alternatives = trains(o->work) ? train_alternatives : sample_alternatives;
    for (int i = first_after(alternatives, asked);
         alternatives[i].weights != SPAR_WEIGHTS_AUTO && (!fits || o->all); i++) {
        setting s = alternatives[i];
        s.work = s.work ? s.work : o->work;
        if (strcmp(asked->work, "lora") == 0 && strcmp(s.work, "train") == 0) {
            continue;
        }
        bool this_fits = false;
        SPAR_TRY(add_row(o, &s, layers, memory, rows, &this_fits, err));
        fits = fits || this_fits;
    }
done:
    return status;
}

spar_status spar_plan(json_t **out, const spar_plan_options *o, spar_error *err) {
    spar_status status = SPAR_OK;
    const double memory = o->memory_mb > 0 ? o->memory_mb : available_mb();
    const setting asked = {
        o->work, o->weights == SPAR_WEIGHTS_AUTO && trains(o->work) ? SPAR_WEIGHTS_F32 : o->weights,
        o->recompute};
    json_t *rows = json_array();
    spar_model_sizes sizes = {0};
    bool fits = false;
    if (o->recompute && !trains(o->work)) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "--recompute: expected --work train or lora, found %s", o->work));
    }
    SPAR_TRY(spar_model_measure(&sizes, o->model, err));
    SPAR_TRY(add_row(o, &asked, sizes.layers, memory, rows, &fits, err));
    SPAR_TRY(add_alternatives(o, &asked, sizes.layers, memory, rows, fits, err));
    *out = json_pack("{s:f, s:i, s:I, s:I, s:O}", "memory_mb", memory, "layers", sizes.layers,
                     "parameters", (json_int_t)sizes.parameters, "active_parameters",
                     (json_int_t)sizes.active, "rows", rows);
    if (!*out) {
        status = spar_fail(err, SPAR_NO_MEMORY, "out of memory for the plan");
    }
done:
    json_decref(rows);
    return status;
}
