/* spar tasks, spar eval: procedural families. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "spar/eval.h"

/* Families named on the command line, or all of them; difficulty (0: each family's own) goes to
 * those that name none. text [SPAR_OPTION_LIST_MAX] holds the names made here. */
typedef char family_text[64];
static void name_families(spar_option_list *families, int64_t difficulty, family_text *text) {
    if (families->n == 0) {
        for (int i = 0; i < spar_family_count() && i < SPAR_OPTION_LIST_MAX; i++) {
            families->items[families->n++] = spar_family_name(i);
        }
    }
    for (int i = 0; difficulty > 0 && i < families->n; i++) {
        if (!strchr(families->items[i], ':')) {
            snprintf(text[i], sizeof text[i], "%.40s:%lld", families->items[i],
                     (long long)difficulty);
            families->items[i] = text[i];
        }
    }
}

typedef struct tasks_values {
    spar_option_list families;
    int64_t difficulty, n, seed;
} tasks_values;

static const spar_option tasks_options[] = {
    {"families", 0, SPAR_OPTION_LIST, offsetof(tasks_values, families), NULL, 0, 0, NULL, "NAME",
     "families, each with an optional difficulty: sort_numbers:4"},
    {"difficulty", 'd', SPAR_OPTION_INT, offsetof(tasks_values, difficulty), "0", 0, 1e6, NULL, "N",
     "difficulty of the families that name none; 0: each family's own"},
    {"number", 'n', SPAR_OPTION_INT, offsetof(tasks_values, n), "0", 0, 1e7, NULL, "N",
     "print N problems as JSON Lines; 0 lists the families (10 problems with show)"},
    {"seed", 's', SPAR_OPTION_INT, offsetof(tasks_values, seed), "0", 0, 9e15, NULL, "N", "seed"},
    {0}};

static void list_families(void) {
    for (int i = 0; i < spar_family_count(); i++) {
        int min, fallback, max;
        spar_family_difficulty(i, &min, &fallback, &max);
        printf("%-14s difficulty %d..%d (%d)  %s\n", spar_family_name(i), min, max, fallback,
               spar_family_summary(i));
    }
}

static spar_status run_tasks(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    tasks_values *v = values;
    spar_task_set *set = NULL;
    family_text text[SPAR_OPTION_LIST_MAX];
    SPAR_TRY(cli_check_operands(argc, argv, 0, 1, "list or show", err));
    bool show = argc ? strcmp(argv[0], "show") == 0 : v->n > 0;
    if (argc && !show && strcmp(argv[0], "list") != 0) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "expected list or show, found %s", argv[0]));
    }
    if (!show) {
        list_families();
        goto done;
    }
    v->n = v->n > 0 ? v->n : 10;
    name_families(&v->families, v->difficulty, text);
    SPAR_TRY(spar_tasks_generate(&set, v->families.items, v->families.n, (size_t)v->n,
                                 (uint64_t)v->seed, NULL, 0, err));
    for (size_t i = 0; i < spar_tasks_count(set); i++) {
        const spar_task *t = spar_tasks_at(set, i);
        SPAR_TRY(cli_put_row(json_pack("{s:s, s:i, s:s, s:s, s:s}", "family",
                                       spar_family_name(t->family), "difficulty", t->difficulty,
                                       "prompt", t->prompt, "completion", t->answer, "key", t->key),
                             err));
    }
done:
    spar_tasks_free(set);
    return status;
}

static tasks_values the_tasks_values;
const cli_command cli_tasks = {
    .doc = {.name = "tasks",
            .synopsis = "[list] | show [--families LIST] [-n N]",
            .summary = "procedural, verifiable task families: list them, or print problems",
            .options = tasks_options},
    .run = run_tasks,
    .values = &the_tasks_values};

typedef struct eval_values {
    const char *model, *adapter, *template_path, *system;
    spar_option_list families;
    int64_t difficulty, n, seed, max_new_tokens, batch, threads;
    int dtype, weights;
    bool json;
} eval_values;

#define EVAL(field) offsetof(eval_values, field)
static const spar_option eval_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, EVAL(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file"},
    {"adapter", 0, SPAR_OPTION_STRING, EVAL(adapter), NULL, 0, 0, NULL, "DIR",
     "a LoRA adapter for it, in PEFT's layout"},
    {"families", 0, SPAR_OPTION_LIST, EVAL(families), NULL, 0, 0, NULL, "NAME",
     "families, each with an optional difficulty: sort_numbers:4"},
    {"difficulty", 'd', SPAR_OPTION_INT, EVAL(difficulty), "0", 0, 1e6, NULL, "N",
     "difficulty of the families that name none; 0: each family's own"},
    {"number", 'n', SPAR_OPTION_INT, EVAL(n), "200", 1, 1e7, NULL, "N", "problems"},
    {"seed", 's', SPAR_OPTION_INT, EVAL(seed), "0", 0, 9e15, NULL, "N", "seed of the problems"},
    {"max-new-tokens", 0, SPAR_OPTION_INT, EVAL(max_new_tokens), "64", 1, 1 << 24, NULL, "N",
     "longest response"},
    {"batch", 0, SPAR_OPTION_INT, EVAL(batch), "64", 1, 4096, NULL, "N", "sequences in flight"},
    {"system", 0, SPAR_OPTION_STRING, EVAL(system), NULL, 0, 0, NULL, "TEXT",
     "system message before every problem"},
    {"template", 0, SPAR_OPTION_STRING, EVAL(template_path), NULL, 0, 0, NULL, "FILE",
     "chat template in place of the model's own"},
    {"dtype", 0, SPAR_OPTION_CHOICE, EVAL(dtype), "auto", 0, 0, CLI_DTYPES, "TYPE",
     "type of the matrix products"},
    CLI_WEIGHTS_ROW(eval_values),
    {"threads", 'j', SPAR_OPTION_INT, EVAL(threads), "0", 0, 1024, NULL, "N", "threads"},
    {"json", 0, SPAR_OPTION_FLAG, EVAL(json), "false", 0, 0, NULL, NULL, "figures as JSON"},
    {0}};

static json_t *rate_json(spar_rate r) {
    return json_pack("{s:I, s:I, s:f, s:f, s:f}", "passed", (json_int_t)r.passed, "n",
                     (json_int_t)r.n, "rate", r.rate, "low", r.low, "high", r.high);
}

static spar_rate rate(const spar_task_set *set, const spar_eval_result *results, int family,
                      bool strict) {
    int64_t passed = 0;
    int64_t n = 0;
    for (size_t i = 0; i < spar_tasks_count(set); i++) {
        if (family < 0 || spar_tasks_at(set, i)->family == family) {
            passed += strict ? results[i].strict : results[i].lenient;
            n++;
        }
    }
    return spar_rate_of(passed, n);
}

static void put_line(const char *name, spar_rate strict, spar_rate lenient) {
    printf("%-14s %5lld  strict %5.1f [%5.1f, %5.1f]  lenient %5.1f [%5.1f, %5.1f]\n", name,
           (long long)strict.n, 100 * strict.rate, 100 * strict.low, 100 * strict.high,
           100 * lenient.rate, 100 * lenient.low, 100 * lenient.high);
}

static void put_results(const eval_values *v, const spar_task_set *set,
                        const spar_eval_result *results) {
    json_t *families = json_object();
    for (int f = 0; f < spar_family_count(); f++) {
        spar_rate strict = rate(set, results, f, true);
        spar_rate lenient = rate(set, results, f, false);
        if (strict.n == 0) {
            continue;
        }
        if (!v->json) {
            put_line(spar_family_name(f), strict, lenient);
        }
        json_object_set_new(
            families, spar_family_name(f),
            json_pack("{s:o, s:o}", "strict", rate_json(strict), "lenient", rate_json(lenient)));
    }
    spar_rate strict = rate(set, results, -1, true);
    spar_rate lenient = rate(set, results, -1, false);
    if (v->json) {
        json_t *root = json_pack("{s:s, s:I, s:o, s:o, s:o}", "model", v->model, "seed",
                                 (json_int_t)v->seed, "strict", rate_json(strict), "lenient",
                                 rate_json(lenient), "families", families);
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
        json_decref(root);
    } else {
        put_line("all", strict, lenient);
        json_decref(families);
    }
}

static spar_status run_eval(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    eval_values *v = values;
    spar_model *m = NULL;
    spar_task_set *set = NULL;
    spar_eval_result *results = NULL;
    family_text text[SPAR_OPTION_LIST_MAX];
    size_t n = 0;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 0, "options only", err));
    if (!v->model) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "-m: expected a model, found nothing"));
    }
    name_families(&v->families, v->difficulty, text);
    SPAR_TRY(spar_tasks_generate(&set, v->families.items, v->families.n, (size_t)v->n,
                                 (uint64_t)v->seed, NULL, 0, err));
    spar_model_options options = {.dtype = (spar_dtype)v->dtype,
                                  .weights = (spar_weights)v->weights,
                                  .threads = (int)v->threads,
                                  .adapter = v->adapter,
                                  .inference = true,
                                  .template_path = v->template_path,
                                  .sink = cli_sink()};
    SPAR_TRY(spar_model_load(&m, v->model, &options, err));
    n = spar_tasks_count(set);
    results = calloc(n, sizeof *results);
    if (!results) {
        status = spar_fail(err, SPAR_NO_MEMORY, "out of memory for the results");
        goto done;
    }
    spar_generate_hooks hooks = {.stop = cli_interrupted, .phase = "evaluate"};
    spar_eval_options eval = {.system = v->system,
                              .max_new_tokens = v->max_new_tokens,
                              .batch = v->batch,
                              .hooks = &hooks};
    cli_catch_interrupt();
    SPAR_TRY(spar_evaluate(m, set, &eval, results, err));
    cli_sink_finish();
    put_results(v, set, results);
done:
    if (results) {
        spar_eval_results_free(results, n);
    }
    free(results);
    spar_tasks_free(set);
    spar_model_free(m);
    return status;
}

static eval_values the_eval_values;
const cli_command cli_eval = {
    .doc = {.name = "eval",
            .synopsis = "-m MODEL [options]",
            .summary = "pass rates on procedural families, with intervals",
            .options = eval_options},
    .run = run_eval,
    .values = &the_eval_values};
