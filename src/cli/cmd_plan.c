/* spar plan: memory and time of a job, before it is started. */
#include "cli.h"
#include "spar/plan.h"

typedef struct plan_values {
    const char *model;
    int work, dtype, weights;
    int64_t threads, tokens, sequences, responses, steps, memory, lora_rank;
    spar_option_list lora_targets;
    bool recompute, all, json;
} plan_values;

static const char *const works[] = {"train", "lora", "rollout", "prefill", "single"};
static const char *const dtypes[] = {"f32", "bf16", "int8", "int16"};

#define PLAN(field) offsetof(plan_values, field)
static const spar_option plan_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, PLAN(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file"},
    {"work", 0, SPAR_OPTION_CHOICE, PLAN(work), "train", 0, 0, "train|lora|rollout|prefill|single",
     "NAME",
     "a training step of all weights, one of an adapter, sampling many responses of one prompt, "
     "reading a prompt, one stream"},
    {"dtype", 0, SPAR_OPTION_CHOICE, PLAN(dtype), "f32", 0, 0, "f32|bf16|int8|int16", "TYPE",
     "matrix products"},
    CLI_WEIGHTS_ROW(plan_values),
    {"tokens", 0, SPAR_OPTION_INT, PLAN(tokens), "0", 0, 32768, NULL, "N",
     "tokens of a sequence trained on, a prompt or a response; 0: 256, 512 or 128"},
    {"sequences", 0, SPAR_OPTION_INT, PLAN(sequences), "4", 1, 64, NULL, "N",
     "sequences in memory at once in a training step"},
    {"responses", 0, SPAR_OPTION_INT, PLAN(responses), "32", 1, 512, NULL, "N",
     "responses in flight in a rollout"},
    {"steps", 0, SPAR_OPTION_INT, PLAN(steps), "1", 1, 1000000000, NULL, "N",
     "how often that is done"},
    {"recompute", 0, SPAR_OPTION_FLAG, PLAN(recompute), "false", 0, 0, NULL, NULL,
     "train with activations made again in the backward"},
    {"lora-rank", 0, SPAR_OPTION_INT, PLAN(lora_rank), "16", 1, 4096, NULL, "N",
     "rank of an adapter"},
    CLI_LORA_TARGETS_ROW(plan_values),
    {"memory", 0, SPAR_OPTION_INT, PLAN(memory), "0", 0, 1000000000, NULL, "MB",
     "what may be used; 0: what is available now"},
    {"all", 0, SPAR_OPTION_FLAG, PLAN(all), "false", 0, 0, NULL, NULL,
     "settings that take less memory too, even where this one fits"},
    {"threads", 'j', SPAR_OPTION_INT, PLAN(threads), "0", 0, 1024, NULL, "N",
     "threads; 0: one a processor"},
    {"json", 0, SPAR_OPTION_FLAG, PLAN(json), "false", 0, 0, NULL, NULL, "figures as JSON"},
    {0}};

static double number(const json_t *row, const char *key) {
    return json_number_value(json_object_get(row, key));
}

static void put_plan(const json_t *root) {
    size_t i;
    json_t *row;
    printf("%-8s %-5s %-7s %-9s %9s %9s %11s  %s\n", "work", "dtype", "weights", "", "memory MB",
           "tok/s", "time", "fits");
    json_array_foreach(json_object_get(root, "rows"), i, row) {
        const double s = number(row, "seconds");
        printf("%-8s %-5s %-7s %-9s %9.0f %9.1f %7.*f %-3s  %s\n",
               json_string_value(json_object_get(row, "work")),
               json_string_value(json_object_get(row, "dtype")),
               json_string_value(json_object_get(row, "weights")),
               json_is_true(json_object_get(row, "recompute")) ? "recompute" : "",
               number(row, "peak_rss_mb"), number(row, "tokens_per_s"), s < 7200 ? 1 : 2,
               s < 7200 ? s : s / 3600, s < 7200 ? "s" : "h",
               json_is_true(json_object_get(row, "fits")) ? "yes" : "no");
    }
    printf("available: %.0f MB\n", number(root, "memory_mb"));
    printf("parameters: %.0f, of which %.0f act on a token\n", number(root, "parameters"),
           number(root, "active_parameters"));
}

static spar_status run_plan(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const plan_values *v = values;
    json_t *root = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 0, "options only", err));
    if (!v->model) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "expected -m MODEL"));
    }
    const spar_plan_options options = {.model = v->model,
                                       .work = works[v->work],
                                       .dtype = dtypes[v->dtype],
                                       .weights = (spar_weights)v->weights,
                                       .recompute = v->recompute,
                                       .all = v->all,
                                       .threads = (int)v->threads,
                                       .sequences = (int)v->sequences,
                                       .tokens = v->tokens,
                                       .responses = (int)v->responses,
                                       .steps = v->steps,
                                       .lora_rank = v->lora_rank,
                                       .lora_targets = v->lora_targets,
                                       .memory_mb = (double)v->memory,
                                       .sink = cli_sink()};
    SPAR_TRY(spar_plan(&root, &options, err));
    cli_sink_finish();
    if (v->json) {
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        put_plan(root);
    }
done:
    json_decref(root);
    return status;
}

static plan_values the_values;
const cli_command cli_plan = {.doc = {.name = "plan",
                                      .synopsis = "-m MODEL [--work NAME] [options]",
                                      .summary = "memory and time of a job, before it is started",
                                      .options = plan_options},
                              .run = run_plan,
                              .values = &the_values};
