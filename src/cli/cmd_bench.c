/* spar bench: speed against the machine's limits. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "spar/bench.h"

typedef struct bench_values {
    const char *model;
    spar_option_list works, dtypes;
    int64_t threads, runs;
    bool json;
} bench_values;

#define BENCH(field) offsetof(bench_values, field)
static const spar_option bench_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, BENCH(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file; the quick-start model unless given"},
    {"work", 0, SPAR_OPTION_LIST, BENCH(works), NULL, 0, 0, NULL, "NAME",
     "train, rollout, prefill, single (these unless given), or lora"},
    {"dtype", 0, SPAR_OPTION_LIST, BENCH(dtypes), NULL, 0, 0, NULL, "TYPE",
     "f32, bf16; both unless given"},
    {"threads", 'j', SPAR_OPTION_INT, BENCH(threads), "0", 0, 1024, NULL, "N",
     "threads; 0: one a processor"},
    {"runs", 0, SPAR_OPTION_INT, BENCH(runs), "3", 1, 15, NULL, "N",
     "runs a row, of which the median is given"},
    {"json", 0, SPAR_OPTION_FLAG, BENCH(json), "false", 0, 0, NULL, NULL, "figures as JSON"},
    {0}};

/* Where tools/fetch_model keeps the quick-start model. */
static const char *default_model(void) {
    static char path[4096];
    const char *model = getenv("SPAR_MODEL");
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (model && model[0]) {
        return model;
    }
    bool xdg = cache && cache[0];
    snprintf(path, sizeof path, "%s%s/spar/SmolLM2-135M-Instruct.Q4_1.gguf",
             xdg    ? cache
             : home ? home
                    : ".",
             xdg ? "" : "/.cache");
    return access(path, R_OK) == 0 ? path : NULL;
}

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static void put_table(const json_t *root) {
    const json_t *machine = json_object_get(root, "machine");
    const json_t *gemm = json_object_get(machine, "gemm_gflops");
    size_t i;
    json_t *row;
    printf("machine: %lld cores, matrix products f32 %.0f, bf16 %.0f, int8 %.0f GFLOP/s, memory "
           "%.1f GB/s\n",
           json_integer_value(json_object_get(machine, "cores")), number(gemm, "f32"),
           number(gemm, "bf16"), number(gemm, "int8"), number(machine, "bandwidth_gbs"));
    printf("%-9s %-5s %10s %10s %7s %9s\n", "work", "dtype", "tok/s", "limit", "share", "peak MB");
    json_array_foreach(json_object_get(root, "rows"), i, row) {
        printf("%-9s %-5s %10.1f %10.1f %6.1f%% %9.0f\n",
               json_string_value(json_object_get(row, "work")),
               json_string_value(json_object_get(row, "dtype")), number(row, "tokens_per_s"),
               number(row, "limit_tokens_per_s"), 100 * number(row, "share_of_limit"),
               number(row, "peak_rss_mb"));
    }
}

static spar_status run_bench(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const bench_values *v = values;
    json_t *root = NULL;
    const char *model = v->model ? v->model : default_model();
    SPAR_TRY(cli_check_operands(argc, argv, 0, 0, "options only", err));
    if (!model) {
        SPAR_TRY(
            spar_fail(err, SPAR_NOT_FOUND,
                      "expected -m MODEL or the quick-start model (tools/fetch_model gets it)"));
    }
    spar_bench_options options = {.model = model,
                                  .works = v->works,
                                  .dtypes = v->dtypes,
                                  .threads = (int)v->threads,
                                  .runs = (int)v->runs,
                                  .sink = cli_sink()};
    SPAR_TRY(spar_bench(&root, &options, err));
    cli_sink_finish();
    if (v->json) {
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        put_table(root);
    }
done:
    json_decref(root);
    return status;
}

static bench_values the_values;
const cli_command cli_bench = {.doc = {.name = "bench",
                                       .synopsis = "[--json] [-m MODEL] [options]",
                                       .summary = "speed, as a share of what the machine can do",
                                       .options = bench_options},
                               .run = run_bench,
                               .values = &the_values};
