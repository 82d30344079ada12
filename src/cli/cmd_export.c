/* spar export: a model as a GGUF file or a folder, of a chosen number type. */
#include "cli.h"
#include "spar/model.h"

typedef struct export_values {
    const char *model, *adapter, *output, *type;
} export_values;

#define EXPORT(field) offsetof(export_values, field)
static const spar_option export_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, EXPORT(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file"},
    {"adapter", 0, SPAR_OPTION_STRING, EXPORT(adapter), NULL, 0, 0, NULL, "DIR",
     "merge a LoRA adapter in, in PEFT's layout"},
    {"type", 't', SPAR_OPTION_STRING, EXPORT(type), "bf16", 0, 0, NULL, "TYPE",
     "f32, f16 or bf16; of a GGUF file also q8_0, q4_0 or q4_k"},
    {"output", 'o', SPAR_OPTION_STRING, EXPORT(output), NULL, 0, 0, NULL, "OUT",
     "a file to write, NAME.gguf, or a Hugging Face folder, which must not exist"},
    {0}};

static spar_status run_export(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const export_values *v = values;
    spar_model *m = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 0, "no operand", err));
    if (!v->model || !v->output) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "expected %s",
                           !v->model ? "a model: -m MODEL" : "what to write: -o OUT"));
    }
    spar_model_options options = {
        .dtype = SPAR_DTYPE_F32, .adapter = v->adapter, .sink = cli_sink()};
    SPAR_TRY(spar_model_load(&m, v->model, &options, err));
    SPAR_TRY(spar_model_export(m, v->output, v->type, err));
done:
    spar_model_free(m);
    return status;
}

static export_values the_values;
const cli_command cli_export = {.doc = {.name = "export",
                                        .synopsis = "-m MODEL [--adapter DIR] [-t TYPE] -o OUT",
                                        .summary = "write a model as a GGUF file, or as a folder",
                                        .options = export_options},
                                .run = run_export,
                                .values = &the_values};
