/* spar play, spar report */
#include <string.h>

#include "cli.h"
#include "spar/play.h"

typedef struct play_values {
    const char *model, *run;
    bool resume, controls;
    int64_t seed, threads;
    int dtype;
} play_values;

static const spar_option play_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, offsetof(play_values, model), NULL, 0, 0, NULL, "MODEL",
     "model to start from: a Hugging Face folder or a GGUF file"},
    {"run", 0, SPAR_OPTION_STRING, offsetof(play_values, run), NULL, 0, 0, NULL, "DIR",
     "run directory"},
    {"resume", 0, SPAR_OPTION_FLAG, offsetof(play_values, resume), "false", 0, 0, NULL, NULL,
     "go on with the run in DIR"},
    {"controls", 0, SPAR_OPTION_FLAG, offsetof(play_values, controls), "false", 0, 0, NULL, NULL,
     "run each arm's control too"},
    {"seed", 0, SPAR_OPTION_INT, offsetof(play_values, seed), "-1", -1, 9e15, NULL, "N",
     "seed in place of the recipe's (-1)"},
    {"dtype", 0, SPAR_OPTION_CHOICE, offsetof(play_values, dtype), "auto", 0, 0, "auto|f32|bf16",
     "TYPE", "type of the matrix products; auto takes bf16 where the processor has it"},
    {"threads", 'j', SPAR_OPTION_INT, offsetof(play_values, threads), "0", 0, 1024, NULL, "N",
     "threads; 0: one a processor"},
    {0}};

/* A word as the shell reads it back. */
static void put_word(FILE *out, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-+./:=@%,";
    if (word[0] && word[strspn(word, plain)] == 0) {
        fputs(word, out);
        return;
    }
    fputc('\'', out);
    for (; *word; word++) {
        fputs(*word == '\'' ? "'\\'" : "", out);
        fputc(*word, out);
    }
    fputc('\'', out);
}

/* The run keeps its recipe, model, seed and controls; how to compute is said each time. */
static void put_resume(const play_values *v) {
    static const char *const dtypes[] = {"auto", "f32", "bf16"};
    fputs("stopped; go on with: spar play --run ", stderr);
    put_word(stderr, v->run);
    fputs(" --resume", stderr);
    if (v->dtype != SPAR_DTYPE_AUTO) {
        fprintf(stderr, " --dtype %s", dtypes[v->dtype]);
    }
    if (v->threads > 0) {
        fprintf(stderr, " --threads %lld", (long long)v->threads);
    }
    fputc('\n', stderr);
}

static spar_status run_play(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const play_values *v = values;
    json_t *report = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 1, "one recipe", err));
    if (!v->run) {
        return spar_fail(err, SPAR_INVALID, "--run: expected a run directory, found nothing");
    }
    if (argc == 0 && !v->resume) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "expected a recipe, found nothing"));
    }
    spar_play_options options = {.recipe = argc ? argv[0] : NULL,
                                 .model = v->model,
                                 .run = v->run,
                                 .resume = v->resume,
                                 .controls = v->controls,
                                 .seed = v->seed,
                                 .dtype = (spar_dtype)v->dtype,
                                 .threads = (int)v->threads,
                                 .sink = cli_sink(),
                                 .stop = cli_interrupted};
    cli_catch_interrupt();
    status = spar_play(&options, err);
    cli_sink_finish();
    if (status == SPAR_INTERRUPTED) {
        put_resume(v);
    }
    SPAR_TRY(status);
    SPAR_TRY(spar_report_read(v->run, &report, err));
    spar_report_write(report, SPAR_REPORT_TERMINAL, stdout);
    printf("\nThe kept model is in %s/final; the report in %s/report.md\n", v->run, v->run);
done:
    json_decref(report);
    return status;
}

static play_values the_play_values;
const cli_command cli_play = {
    .doc = {.name = "play",
            .synopsis = "RECIPE [-m MODEL] --run DIR [options] | --run DIR --resume",
            .summary = "self-play from a recipe: sample, pair, train, evaluate, gate",
            .details = "Runs a YAML recipe in a run directory and leaves the kept model in "
                       "DIR/final, in the Hugging Face layout. Ctrl-C stops the run cleanly; "
                       "killed at any instant, it resumes.",
            .options = play_options},
    .run = run_play,
    .values = &the_play_values};

typedef struct report_values {
    bool json, markdown;
} report_values;

static const spar_option report_options[] = {
    {"json", 0, SPAR_OPTION_FLAG, offsetof(report_values, json), "false", 0, 0, NULL, NULL,
     "all figures as JSON"},
    {"markdown", 0, SPAR_OPTION_FLAG, offsetof(report_values, markdown), "false", 0, 0, NULL, NULL,
     "tables as Markdown"},
    {0}};

static spar_status run_report(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const report_values *v = values;
    json_t *report = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 1, 1000, "run directories", err));
    SPAR_TRY(argc == 1 ? spar_report_read(argv[0], &report, err)
                       : spar_compare_read((const char *const *)argv, (size_t)argc, &report, err));
    if (v->json) {
        json_dumpf(report, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        (argc == 1 ? spar_report_write : spar_compare_write)(
            report, v->markdown ? SPAR_REPORT_MARKDOWN : SPAR_REPORT_TERMINAL, stdout);
    }
done:
    json_decref(report);
    return status;
}

static report_values the_report_values;
const cli_command cli_report = {.doc = {.name = "report",
                                        .synopsis = "DIR... [--json | --markdown]",
                                        .summary =
                                            "the figures of a run, finished or under way; of "
                                            "several, their arms compared",
                                        .options = report_options},
                                .run = run_report,
                                .values = &the_report_values};
