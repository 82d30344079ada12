/* spar merge: a model and its adapter as one checkpoint. */
#include "cli.h"
#include "spar/model.h"

typedef struct merge_values {
    const char *model, *adapter, *output;
} merge_values;

#define MERGE(field) offsetof(merge_values, field)
static const spar_option merge_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, MERGE(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file"},
    {"adapter", 0, SPAR_OPTION_STRING, MERGE(adapter), NULL, 0, 0, NULL, "DIR",
     "a LoRA adapter for it, in PEFT's layout"},
    {"output", 'o', SPAR_OPTION_STRING, MERGE(output), NULL, 0, 0, NULL, "DIR",
     "folder to write; must not exist"},
    {0}};

static spar_status run_merge(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const merge_values *v = values;
    spar_model *m = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 0, "no operand", err));
    if (!v->model || !v->adapter || !v->output) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "expected %s",
                           !v->model     ? "a model: -m MODEL"
                           : !v->adapter ? "an adapter: --adapter DIR"
                                         : "a folder to write: -o DIR"));
    }
    spar_model_options options = {
        .dtype = SPAR_DTYPE_F32, .adapter = v->adapter, .sink = cli_sink()};
    SPAR_TRY(spar_model_load(&m, v->model, &options, err));
    SPAR_TRY(spar_model_save(m, v->output, err));
done:
    spar_model_free(m);
    return status;
}

static merge_values the_values;
const cli_command cli_merge = {.doc = {.name = "merge",
                                       .synopsis = "-m MODEL --adapter DIR -o DIR",
                                       .summary = "write a model with its adapter merged in",
                                       .options = merge_options},
                               .run = run_merge,
                               .values = &the_values};
