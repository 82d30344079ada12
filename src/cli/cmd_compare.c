/* spar compare */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "spar/play.h"

typedef struct compare_values {
    const char *model, *run;
    int64_t seeds, first, threads;
    int dtype;
} compare_values;

static const spar_option compare_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, offsetof(compare_values, model), NULL, 0, 0, NULL, "MODEL",
     "model to start from: a Hugging Face folder or a GGUF file"},
    {"run", 0, SPAR_OPTION_STRING, offsetof(compare_values, run), NULL, 0, 0, NULL, "DIR",
     "folder of the runs: DIR/seed-N each"},
    {"seeds", 0, SPAR_OPTION_INT, offsetof(compare_values, seeds), "3", 1, 1000, NULL, "N",
     "runs, of one seed each"},
    {"first", 0, SPAR_OPTION_INT, offsetof(compare_values, first), "1", 0, 1e9, NULL, "N",
     "seed of the first run; the others follow"},
    {"dtype", 0, SPAR_OPTION_CHOICE, offsetof(compare_values, dtype), "auto", 0, 0, "auto|f32|bf16",
     "TYPE", "type of the matrix products; auto takes bf16 where the processor has it"},
    {"threads", 'j', SPAR_OPTION_INT, offsetof(compare_values, threads), "0", 0, 1024, NULL, "N",
     "threads; 0: one a processor"},
    {0}};

enum { MAX_PATH = 4096, MAX_SEEDS = 1000 };

/* Play the run of one seed, from where it stands. dir: its folder. */
static spar_status play_seed(const compare_values *v, const char *recipe, int64_t seed,
                             const char *dir, spar_error *err) {
    const spar_play_options options = {.recipe = recipe,
                                       .model = v->model,
                                       .run = dir,
                                       .resume = true,
                                       .seed = seed,
                                       .dtype = (spar_dtype)v->dtype,
                                       .threads = (int)v->threads,
                                       .sink = cli_sink(),
                                       .stop = cli_interrupted};
    const spar_status status = spar_play(&options, err);
    cli_sink_finish();
    if (status == SPAR_INTERRUPTED) {
        fputs("stopped; the same command goes on\n", stderr);
    }
    return status;
}

static spar_status name_runs(const compare_values *v, char **names, spar_error *err) {
    for (int64_t i = 0; i < v->seeds; i++) {
        names[i] = malloc(MAX_PATH);
        if (!names[i]) {
            return spar_fail(err, SPAR_NO_MEMORY, "out of memory for the names of runs");
        }
        const int n =
            snprintf(names[i], MAX_PATH, "%s/seed-%lld", v->run, (long long)(v->first + i));
        if (n >= MAX_PATH) {
            return spar_fail(err, SPAR_INVALID, "--run: the name of the folder is too long");
        }
    }
    return SPAR_OK;
}

static spar_status run_compare(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const compare_values *v = values;
    char *names[MAX_SEEDS] = {0};
    json_t *report = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 1, 1, "one recipe", err));
    if (!v->run) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "--run: expected a folder, found nothing"));
    }
    SPAR_TRY(name_runs(v, names, err));
    cli_catch_interrupt();
    for (int64_t i = 0; i < v->seeds; i++) {
        SPAR_TRY(play_seed(v, argv[0], v->first + i, names[i], err));
        SPAR_TRY(spar_compare_save((const char *const *)names, (size_t)i + 1, v->run, err));
    }
    SPAR_TRY(spar_compare_read((const char *const *)names, (size_t)v->seeds, &report, err));
    spar_compare_write(report, SPAR_REPORT_TERMINAL, stdout);
done:
    for (int64_t i = 0; i < v->seeds; i++) {
        free(names[i]);
    }
    json_decref(report);
    return status;
}

static compare_values the_compare_values;
const cli_command cli_compare = {
    .doc = {.name = "compare",
            .synopsis = "RECIPE -m MODEL --run DIR [--seeds N] [options]",
            .summary = "a recipe over several seeds, and its arms compared over all of them",
            .details =
                "Plays the recipe once a seed, in DIR/seed-N each, and writes the comparison "
                "of its arms into DIR/report.md and DIR/report.json. Arms start from a named "
                "one by the key from, and are held against their control by the key against. "
                "Stopped or killed, the same command goes on.",
            .options = compare_options},
    .run = run_compare,
    .values = &the_compare_values};
