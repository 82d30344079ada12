/* spar bench: speed against the machine's limits. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "spar/bench.h"

typedef struct bench_values {
    const char *model, *text;
    spar_option_list works, dtypes, lora_targets;
    int weights;
    int64_t threads, runs, tokens, responses, sequences, layers, lora_rank;
    bool recompute, json, compare;
} bench_values;

#define BENCH(field) offsetof(bench_values, field)
static const spar_option bench_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, BENCH(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file; the quick-start model unless given"},
    {"work", 0, SPAR_OPTION_LIST, BENCH(works), NULL, 0, 0, NULL, "NAME",
     "train, rollout, prefill, single (these unless given), lora, load, tokenize, pairrm"},
    {"dtype", 0, SPAR_OPTION_LIST, BENCH(dtypes), NULL, 0, 0, NULL, "TYPE",
     "f32, bf16 (both unless given), int8, int16"},
    CLI_WEIGHTS_ROW(bench_values),
    {"tokens", 0, SPAR_OPTION_INT, BENCH(tokens), "0", 0, 32768, NULL, "N",
     "tokens of a sequence trained on, a prompt, a response or a pair; 0: what the work usually "
     "has"},
    {"responses", 0, SPAR_OPTION_INT, BENCH(responses), "0", 0, 512, NULL, "N",
     "responses of a rollout; 0: 32; candidates of pairrm; 0: 4"},
    {"sequences", 0, SPAR_OPTION_INT, BENCH(sequences), "0", 0, 64, NULL, "N",
     "sequences of a training step; 0: 4, or 1 with an adapter"},
    {"layers", 0, SPAR_OPTION_INT, BENCH(layers), "0", 0, 100000, NULL, "N",
     "only the model's first layers; 0: all"},
    {"lora-rank", 0, SPAR_OPTION_INT, BENCH(lora_rank), "16", 1, 4096, NULL, "N",
     "rank of the adapter of lora"},
    CLI_LORA_TARGETS_ROW(bench_values),
    {"threads", 'j', SPAR_OPTION_INT, BENCH(threads), "0", 0, 1024, NULL, "N",
     "threads; 0: one a processor"},
    {"text", 0, SPAR_OPTION_STRING, BENCH(text), NULL, 0, 0, NULL, "FILE",
     "text to tokenise, a line at a time"},
    {"runs", 0, SPAR_OPTION_INT, BENCH(runs), "3", 1, 15, NULL, "N",
     "runs a row, of which the median is given"},
    {"recompute", 0, SPAR_OPTION_FLAG, BENCH(recompute), "false", 0, 0, NULL, NULL,
     "train with activations made again in the backward: less memory, more work"},
    {"json", 0, SPAR_OPTION_FLAG, BENCH(json), "false", 0, 0, NULL, NULL, "figures as JSON"},
    {"compare", 0, SPAR_OPTION_FLAG, BENCH(compare), "false", 0, 0, NULL, NULL,
     "measure nothing: set two files of such figures side by side"},
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

static const char *text(const json_t *object, const char *key) {
    const char *value = json_string_value(json_object_get(object, key));
    return value ? value : "";
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
        printf("%-9s %-5s %10.1f %10.1f %6.1f%% %9.0f", text(row, "work"), text(row, "dtype"),
               number(row, "tokens_per_s"), number(row, "limit_tokens_per_s"),
               100 * number(row, "share_of_limit"), number(row, "peak_rss_mb"));
        if (json_object_get(row, "mb_per_s")) {
            printf("  %.1f MB/s of text", number(row, "mb_per_s"));
        }
        if (json_object_get(row, "seconds")) {
            printf("  %.2f s", number(row, "seconds"));
        }
        if (json_object_get(row, "pairs_per_s")) {
            printf("  %.2f pairs/s", number(row, "pairs_per_s"));
        }
        if (json_object_get(row, "logprob_error_mean")) {
            printf("  log-probs off by %.2g on average, %.2g at most",
                   number(row, "logprob_error_mean"), number(row, "logprob_error_max"));
        }
        putchar('\n');
    }
}

/* ---- two files side by side ---- */

static spar_status read_figures(const char *path, json_t **out, spar_error *err) {
    json_error_t why;
    size_t i;
    json_t *row;
    *out = json_load_file(path, 0, &why);
    if (!*out) {
        return spar_fail(err, access(path, R_OK) == 0 ? SPAR_FORMAT : SPAR_NOT_FOUND,
                         "%s: expected the figures of spar bench --json, found: %s", path,
                         why.text);
    }
    const json_t *rows = json_object_get(*out, "rows");
    const json_t *gemm = json_object_get(json_object_get(*out, "machine"), "gemm_gflops");
    bool ok = json_is_array(rows) && json_is_object(gemm);
    json_array_foreach(rows, i, row) {
        ok = ok && json_is_string(json_object_get(row, "work")) &&
             json_is_number(json_object_get(row, "tokens_per_s"));
    }
    return ok ? SPAR_OK
              : spar_fail(err, SPAR_FORMAT,
                          "%s: expected the figures of spar bench --json, found other JSON", path);
}

/* One figure of both machines; a difference beyond a tenth makes absolute numbers incomparable. */
static bool put_machine(const char *what, double a, double b) {
    const double ratio = a > 0 ? b / a : 0;
    const bool differ = ratio < 0.9 || ratio > 1.1;
    printf("  %-22s %10.1f %10.1f %6.2f%s\n", what, a, b, ratio, differ ? "  differs" : "");
    return differ;
}

static const json_t *find_row(const json_t *root, const json_t *like) {
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(root, "rows"), i, row) {
        if (strcmp(text(row, "work"), text(like, "work")) == 0 &&
            strcmp(text(row, "dtype"), text(like, "dtype")) == 0) {
            return row;
        }
    }
    return NULL;
}

static void put_comparison(const json_t *a, const json_t *b) {
    static const char *const types[] = {"f32", "bf16", "int8"};
    const json_t *ma = json_object_get(a, "machine"), *mb = json_object_get(b, "machine");
    const json_t *ga = json_object_get(ma, "gemm_gflops"), *gb = json_object_get(mb, "gemm_gflops");
    size_t i;
    json_t *row;
    bool differ = false;
    printf("%-24s %10s %10s %6s\n", "machine", "A", "B", "B/A");
    for (int t = 0; t < 3; t++) {
        char what[32];
        snprintf(what, sizeof what, "%s GFLOP/s", types[t]);
        differ = put_machine(what, number(ga, types[t]), number(gb, types[t])) || differ;
    }
    differ = put_machine("memory GB/s", number(ma, "bandwidth_gbs"), number(mb, "bandwidth_gbs")) ||
             differ;
    differ = put_machine("cores", number(ma, "cores"), number(mb, "cores")) || differ;
    printf("\n%-9s %-5s %10s %10s %6s %9s %9s %6s %9s\n", "work", "dtype", "A tok/s", "B tok/s",
           "B/A", "A share", "B share", "B/A", "memory");
    json_array_foreach(json_object_get(a, "rows"), i, row) {
        const json_t *other = find_row(b, row);
        if (!other) {
            printf("%-9s %-5s only in A\n", text(row, "work"), text(row, "dtype"));
            continue;
        }
        printf("%-9s %-5s %10.1f %10.1f %6.2f %8.1f%% %8.1f%% %6.2f %9.2f\n", text(row, "work"),
               text(row, "dtype"), number(row, "tokens_per_s"), number(other, "tokens_per_s"),
               number(other, "tokens_per_s") / number(row, "tokens_per_s"),
               100 * number(row, "share_of_limit"), 100 * number(other, "share_of_limit"),
               number(other, "share_of_limit") / number(row, "share_of_limit"),
               number(other, "peak_rss_mb") / number(row, "peak_rss_mb"));
    }
    json_array_foreach(json_object_get(b, "rows"), i, row) {
        if (!find_row(a, row)) {
            printf("%-9s %-5s only in B\n", text(row, "work"), text(row, "dtype"));
        }
    }
    if (differ) {
        printf("\nThe machines differ: compare shares of the limit, not tokens a second.\n");
    }
}

static spar_status compare(char **paths, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *a = NULL, *b = NULL;
    SPAR_TRY(read_figures(paths[0], &a, err));
    SPAR_TRY(read_figures(paths[1], &b, err));
    put_comparison(a, b);
done:
    json_decref(a);
    json_decref(b);
    return status;
}

static spar_status run_bench(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const bench_values *v = values;
    json_t *root = NULL;
    const char *model = v->model ? v->model : default_model();
    if (v->compare) {
        SPAR_TRY(cli_check_operands(argc, argv, 2, 2, "two files of figures", err));
        return compare(argv, err);
    }
    SPAR_TRY(cli_check_operands(argc, argv, 0, 0, "options only", err));
    spar_bench_options options = {.model = model,
                                  .works = v->works,
                                  .dtypes = v->dtypes,
                                  .weights = (spar_weights)v->weights,
                                  .tokens = v->tokens,
                                  .recompute = v->recompute,
                                  .responses = (int)v->responses,
                                  .sequences = (int)v->sequences,
                                  .layers = (int)v->layers,
                                  .lora_rank = v->lora_rank,
                                  .lora_targets = v->lora_targets,
                                  .threads = (int)v->threads,
                                  .runs = (int)v->runs,
                                  .text = v->text,
                                  .sink = cli_sink()};
    if (!model && spar_bench_needs_model(&options)) {
        SPAR_TRY(
            spar_fail(err, SPAR_NOT_FOUND,
                      "expected -m MODEL or the quick-start model (tools/fetch_model gets it)"));
    }
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
const cli_command cli_bench = {
    .doc = {.name = "bench",
            .synopsis = "[--json] [-m MODEL] [options] | --compare A.json B.json",
            .summary = "speed, as a share of what the machine can do",
            .options = bench_options},
    .run = run_bench,
    .values = &the_values};
