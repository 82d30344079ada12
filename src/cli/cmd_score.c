/* spar score: log-probs, logits and gradients of rows. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "spar/model.h"
#include "spar/row_layout.h"
#include "spar/rows.h"

typedef struct score_values {
    const char *model, *adapter, *logits, *grads;
    int dtype, weights;
    int64_t threads;
    bool reference;
} score_values;

#define SCORE(field) offsetof(score_values, field)
static const spar_option score_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, SCORE(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file"},
    {"adapter", 0, SPAR_OPTION_STRING, SCORE(adapter), NULL, 0, 0, NULL, "DIR",
     "a LoRA adapter for it, in PEFT's layout"},
    {"logits", 0, SPAR_OPTION_STRING, SCORE(logits), NULL, 0, 0, NULL, "FILE",
     "write logits.ROW [T,V] to a safetensors file"},
    {"grads", 0, SPAR_OPTION_STRING, SCORE(grads), NULL, 0, 0, NULL, "FILE",
     "write the gradient of minus the sum of all scored log-probs to a safetensors file"},
    {"dtype", 0, SPAR_OPTION_CHOICE, SCORE(dtype), "f32", 0, 0, CLI_DTYPES, "TYPE",
     "type of the matrix products"},
    CLI_WEIGHTS_ROW(score_values),
    {"threads", 'j', SPAR_OPTION_INT, SCORE(threads), "0", 0, 1024, NULL, "N",
     "threads; 0: one a processor"},
    {"reference", 0, SPAR_OPTION_FLAG, SCORE(reference), "false", 0, 0, NULL, NULL,
     "plain reference kernels instead of the tuned ones"},
    {0}};

/* One input row: what it scores, or why it cannot. */
typedef struct input {
    int32_t *ids; /* owned */
    spar_score_row row;
    spar_error error;
} input;

typedef struct inputs {
    input *items; /* owned */
    size_t n, capacity;
} inputs;

static spar_status no_memory(spar_error *err) {
    return spar_fail(err, SPAR_NO_MEMORY, "out of memory for the rows");
}

static spar_status read_row(const spar_model *m, const json_t *row, input *in, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t n = 0;
    size_t first = 1;
    const json_t *prompt_ids = json_object_get(row, "prompt_ids");
    json_t *prompt = NULL, *response = NULL;
    if (prompt_ids) {
        SPAR_TRY(cli_read_ids(prompt_ids, "prompt_ids", &in->ids, &n, err));
        first = n;
        SPAR_TRY(
            cli_read_ids(json_object_get(row, "response_ids"), "response_ids", &in->ids, &n, err));
    } else if (json_object_get(row, "ids")) {
        SPAR_TRY(cli_read_ids(json_object_get(row, "ids"), "ids", &in->ids, &n, err));
    } else {
        SPAR_TRY(spar_row_read(row, &prompt, &response, err));
        SPAR_TRY(spar_model_response_ids(m, prompt, response, &in->ids, &n, &first, err));
    }
    in->row = (spar_score_row){.ids = in->ids, .n = n, .first = first};
    SPAR_TRY(spar_model_check_row(m, &in->row, err));
done:
    json_decref(prompt);
    json_decref(response);
    return status;
}

static spar_status read_rows(const spar_model *m, const char *path, inputs *all, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *rows = NULL;
    SPAR_TRY(spar_rows_open(&rows, path, err));
    for (;;) {
        json_t *row = NULL;
        spar_error why;
        SPAR_TRY(cli_next_row(rows, &row, &why, err));
        if (!row && why.code == SPAR_OK) {
            break;
        }
        if (all->n == all->capacity) {
            size_t capacity = all->capacity ? 2 * all->capacity : 64;
            input *grown = realloc(all->items, capacity * sizeof *grown);
            if (!grown) {
                json_decref(row);
                SPAR_TRY(no_memory(err));
            }
            all->items = grown;
            all->capacity = capacity;
        }
        input *in = &all->items[all->n++];
        memset(in, 0, sizeof *in);
        in->error = why;
        if (row) {
            read_row(m, row, in, &in->error);
        }
        json_decref(row);
    }
done:
    spar_rows_free(rows);
    return status;
}

/* Rows that can be scored, with memory for their results. */
static spar_status collect(const spar_model *m, inputs *all, bool logits, spar_score_row *rows,
                           size_t *n, spar_error *err) {
    size_t vocab = (size_t)spar_model_vocab(m);
    *n = 0;
    for (size_t i = 0; i < all->n; i++) {
        input *in = &all->items[i];
        if (in->error.code != SPAR_OK) {
            continue;
        }
        in->row.logps = calloc(in->row.n, sizeof *in->row.logps); /* n - first are used */
        in->row.logits = logits ? malloc(in->row.n * vocab * sizeof(float)) : NULL;
        if (!in->row.logps || (logits && !in->row.logits)) {
            return no_memory(err);
        }
        rows[(*n)++] = in->row;
    }
    return SPAR_OK;
}

static spar_status write_logits(const spar_model *m, const inputs *all, const char *path,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    spar_named_tensor *tensors = calloc(all->n + 1, sizeof *tensors);
    char(*names)[32] = calloc(all->n + 1, sizeof *names);
    size_t n = 0;
    if (!tensors || !names) {
        SPAR_TRY(no_memory(err));
    }
    for (size_t i = 0; i < all->n; i++) {
        const input *in = &all->items[i];
        if (in->error.code != SPAR_OK) {
            continue;
        }
        snprintf(names[n], sizeof names[n], "logits.%zu", i);
        tensors[n] = (spar_named_tensor){.name = names[n],
                                         .n_dims = 2,
                                         .dims = {(int64_t)in->row.n, spar_model_vocab(m)},
                                         .data = in->row.logits};
        n++;
    }
    SPAR_TRY(spar_tensors_write(path, tensors, n, err));
done:
    free(tensors);
    free(names);
    return status;
}

static spar_status put_results(const inputs *all, spar_error *err) {
    spar_status status = SPAR_OK;
    int failed = 0;
    for (size_t i = 0; i < all->n; i++) {
        const input *in = &all->items[i];
        if (in->error.code != SPAR_OK) {
            SPAR_TRY(cli_put_error(&in->error, &failed, err));
            continue;
        }
        double sum = 0;
        json_t *list = json_array();
        for (size_t k = 0; k < in->row.n - in->row.first; k++) {
            sum += (double)in->row.logps[k];
            json_array_append_new(list, json_real((double)in->row.logps[k]));
        }
        SPAR_TRY(cli_put_row(json_pack("{s:o, s:f}", "logprobs", list, "sum", sum), err));
    }
    SPAR_TRY(cli_rows_status(failed, err));
done:
    return status;
}

static spar_status run_score(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const score_values *v = values;
    spar_model *m = NULL;
    inputs all = {0};
    spar_score_row *rows = NULL;
    size_t n = 0;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 1, "one file of rows", err));
    if (!v->model) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "-m: expected a model, found nothing"));
    }
    spar_model_options options = {.dtype = (spar_dtype)v->dtype,
                                  .weights = (spar_weights)v->weights,
                                  .threads = (int)v->threads,
                                  .adapter = v->adapter,
                                  .inference = !v->grads,
                                  .reference = v->reference,
                                  .sink = cli_sink()};
    SPAR_TRY(spar_model_load(&m, v->model, &options, err));
    SPAR_TRY(read_rows(m, argc ? argv[0] : "-", &all, err));
    rows = calloc(all.n + 1, sizeof *rows);
    if (!rows) {
        SPAR_TRY(no_memory(err));
    }
    SPAR_TRY(collect(m, &all, v->logits != NULL, rows, &n, err));
    SPAR_TRY(v->grads ? spar_model_score_grads(m, rows, n, v->grads, err)
                      : spar_model_score(m, rows, n, err));
    if (v->logits) {
        SPAR_TRY(write_logits(m, &all, v->logits, err));
    }
    SPAR_TRY(put_results(&all, err));
done:
    for (size_t i = 0; i < all.n; i++) {
        free(all.items[i].ids);
        free(all.items[i].row.logps);
        free(all.items[i].row.logits);
    }
    free(all.items);
    free(rows);
    spar_model_free(m);
    return status;
}

static score_values the_values;
const cli_command cli_score = {
    .doc =
        {.name = "score",
         .synopsis = "-m MODEL [--logits FILE] [--grads FILE] [FILE]",
         .summary = "log-probs of rows of token ids, or of text in any layout",
         .details =
             "Rows are {\"ids\"}, {\"prompt_ids\", \"response_ids\"}, or text in a layout that "
             "spar train reads, such as {\"messages\"} or {\"prompt\", \"completion\"}, with the "
             "\"tools\", \"documents\" and \"chat_template_kwargs\" of the template; each "
             "gives {\"logprobs\": log p of every scored token, \"sum\"}. A row that fails "
             "gives {\"error\"} in its place, and the exit status says so.",
         .options = score_options},
    .run = run_score,
    .values = &the_values};
