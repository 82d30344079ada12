/* spar inspect: what is in a checkpoint. */
#include <string.h>

#include "cli.h"
#include "spar/hub.h"
#include "spar/model.h"

typedef struct inspect_values {
    bool json, tensors;
} inspect_values;

static const spar_option inspect_options[] = {
    {"json", 0, SPAR_OPTION_FLAG, offsetof(inspect_values, json), "false", 0, 0, NULL, NULL,
     "everything as JSON"},
    {"tensors", 0, SPAR_OPTION_FLAG, offsetof(inspect_values, tensors), "false", 0, 0, NULL, NULL,
     "list every tensor"},
    {0}};

static void put_value(const char *key, const json_t *value, int indent) {
    char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    printf("%*s", indent, "");
    cli_put_text(stdout, key, SIZE_MAX);
    fputs(": ", stdout);
    cli_put_text(stdout, text ? text : json_string_value(value), 200);
    putchar('\n');
    free(text);
}

static void put_object(const char *title, const json_t *object) {
    const char *key;
    json_t *value;
    if (!object) {
        return;
    }
    printf("%s\n", title);
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        put_value(key, value, 2);
    }
}

static void put_tensors(const json_t *tensors) {
    size_t i;
    json_t *t;
    json_array_foreach((json_t *)(uintptr_t)tensors, i, t) {
        char *shape = json_dumps(json_object_get(t, "shape"), JSON_COMPACT);
        printf("  %-5s %-20s ", json_string_value(json_object_get(t, "dtype")), shape ? shape : "");
        cli_put_text(stdout, json_string_value(json_object_get(t, "name")), SIZE_MAX);
        putchar('\n');
        free(shape);
    }
}

static spar_status run_inspect(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const inspect_values *v = values;
    json_t *root = NULL;
    char *path = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 1, 1, "a checkpoint", err));
    SPAR_TRY(spar_hub_place(&path, argv[0], err));
    SPAR_TRY(spar_model_inspect(&root, path, err));
    if (v->json) {
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
        goto done;
    }
    printf("%s: %s\n", argv[0], json_string_value(json_object_get(root, "format")));
    put_object("config", json_object_get(root, "config"));
    put_object("metadata", json_object_get(root, "metadata"));
    put_object("elements by type", json_object_get(root, "elements_by_dtype"));
    const json_t *parameters = json_object_get(root, "parameters");
    if (parameters) {
        printf("parameters: %lld, of which %lld act on a token\n",
               (long long)json_integer_value(parameters),
               (long long)json_integer_value(json_object_get(root, "active_parameters")));
    }
    printf("tensors: %zu\n", json_array_size(json_object_get(root, "tensors")));
    if (v->tensors) {
        put_tensors(json_object_get(root, "tensors"));
    }
    const char *why = json_string_value(json_object_get(root, "not_loadable"));
    if (why) {
        printf("spar cannot load this model: %s\n", why);
    }
done:
    json_decref(root);
    free(path);
    return status;
}

static inspect_values the_values;
const cli_command cli_inspect = {.doc = {.name = "inspect",
                                         .synopsis = "PATH [--json] [--tensors]",
                                         .summary = "what is in a checkpoint, without loading it",
                                         .options = inspect_options},
                                 .run = run_inspect,
                                 .values = &the_values};
