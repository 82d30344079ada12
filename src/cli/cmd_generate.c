/* spar generate: batch sampling of prompts. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "spar/generate.h"
#include "spar/row_layout.h"
#include "spar/rows.h"

typedef struct generate_values {
    spar_sampling sampling;
    const char *model, *adapter, *prompts, *system, *template_path;
    int64_t samples, threads;
    int dtype, weights;
    bool raw, chat;
} generate_values;

#define GENERATE(field) offsetof(generate_values, field)
static const spar_option generate_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, GENERATE(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file"},
    {"adapter", 0, SPAR_OPTION_STRING, GENERATE(adapter), NULL, 0, 0, NULL, "DIR",
     "a LoRA adapter for it, in PEFT's layout"},
    {"prompts", 'p', SPAR_OPTION_STRING, GENERATE(prompts), NULL, 0, 0, NULL, "FILE",
     "rows: {\"prompt\"}, {\"messages\"}, {\"ids\"} or another layout, whose prompt is taken; - is "
     "standard input"},
    {"system", 0, SPAR_OPTION_STRING, GENERATE(system), NULL, 0, 0, NULL, "TEXT",
     "system message before every prompt"},
    {"template", 0, SPAR_OPTION_STRING, GENERATE(template_path), NULL, 0, 0, NULL, "FILE",
     "chat template in place of the model's own"},
    {"samples", 'k', SPAR_OPTION_INT, GENERATE(samples), "1", 1, 4096, NULL, "K",
     "responses a prompt"},
    {"raw", 0, SPAR_OPTION_FLAG, GENERATE(raw), "false", 0, 0, NULL, NULL,
     "continue the text as it is, without the chat template"},
    {"chat", 0, SPAR_OPTION_FLAG, GENERATE(chat), "false", 0, 0, NULL, NULL,
     "refuse a model without a chat template instead of continuing the text as it is"},
    {"dtype", 0, SPAR_OPTION_CHOICE, GENERATE(dtype), "auto", 0, 0, CLI_DTYPES, "TYPE",
     "type of the matrix products"},
    CLI_WEIGHTS_ROW(generate_values),
    {"threads", 'j', SPAR_OPTION_INT, GENERATE(threads), "0", 0, 1024, NULL, "N",
     "threads; 0: one a processor"},
    SPAR_SAMPLING_ROWS(generate_values, sampling.),
    {0}};

typedef struct request {
    json_t *prompt; /* owned: the text or messages it was given as; NULL: it was given as ids */
    json_t *row;    /* owned: the row that it was given by; NULL: it is no row */
    int32_t *ids;   /* owned */
    size_t n;
    spar_error error;
} request;

/* Through the chat template, with what the row has for it. */
static spar_status chat_ids(const spar_model *m, const json_t *messages, request *r,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *conversation = NULL;
    SPAR_TRY(spar_conversation_of(&conversation, r->row, messages, err));
    SPAR_TRY(spar_model_chat_ids(m, conversation, true, &r->ids, &r->n, err));
done:
    json_decref(conversation);
    return status;
}

/* text: a JSON string. */
static spar_status text_ids(const spar_model *m, const generate_values *v, const json_t *text,
                            request *r, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *messages = json_array();
    if (v->raw || (!v->chat && !spar_model_template(m))) {
        if (!spar_model_tokenizer(m)) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: has no tokenizer", v->model));
        }
        SPAR_TRY(spar_tokenizer_encode(spar_model_tokenizer(m), json_string_value(text),
                                       json_string_length(text), 0, &r->ids, &r->n, err));
        goto done;
    }
    if (v->system) {
        json_array_append_new(messages,
                              json_pack("{s:s, s:s}", "role", "system", "content", v->system));
    }
    json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "user", "content", text));
    SPAR_TRY(chat_ids(m, messages, r, err));
done:
    json_decref(messages);
    return status;
}

static bool has_system(const json_t *row) {
    return json_string_length(json_object_get(row, "system")) > 0 ||
           json_string_length(json_object_get(row, "system_prompt")) > 0;
}

/* The messages that a row of any layout has as its prompt, and in place of the row what stands
 * beside them. */
static spar_status read_prompt(const json_t *row, request *r, spar_error *err) {
    json_t *prompt = NULL;
    const spar_status status = spar_row_prompt(row, &prompt, err);
    if (status == SPAR_OK) {
        const bool beside = json_is_object(prompt);
        r->prompt = json_incref(beside ? json_object_get(prompt, "messages") : prompt);
        json_decref(r->row);
        r->row = beside ? json_incref(prompt) : json_object();
    }
    json_decref(prompt);
    return status;
}

static spar_status row_ids(const spar_model *m, const generate_values *v, json_t *row, request *r,
                           spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *ids = json_object_get(row, "ids");
    json_t *prompt = json_object_get(row, "prompt");
    r->row = json_incref(row);
    const bool listed = json_is_array(prompt) || json_is_array(json_object_get(row, "messages"));
    if (json_is_string(prompt) && (v->raw || !has_system(row))) {
        r->prompt = json_incref(prompt);
        SPAR_TRY(text_ids(m, v, prompt, r, err));
    } else if (ids && !listed) {
        SPAR_TRY(cli_read_ids(ids, "ids", &r->ids, &r->n, err));
    } else {
        SPAR_TRY(read_prompt(row, r, err));
        SPAR_TRY(chat_ids(m, r->prompt, r, err));
    }
    SPAR_TRY(
        spar_model_check_row(m, &(spar_score_row){.ids = r->ids, .n = r->n, .first = r->n}, err));
    if ((int64_t)r->n >= spar_model_context(m)) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT,
                           "a prompt of %zu tokens leaves no room in the context of %lld", r->n,
                           (long long)spar_model_context(m)));
    }
done:
    return status;
}

typedef struct requests {
    request *items; /* owned */
    size_t n;
} requests;

static spar_status add_request(requests *all, request **out, spar_error *err) {
    request *grown = realloc(all->items, (all->n + 1) * sizeof *grown);
    if (!grown) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for the prompts");
    }
    all->items = grown;
    *out = &grown[all->n++];
    memset(*out, 0, sizeof **out);
    return SPAR_OK;
}

static spar_status read_requests(const spar_model *m, const generate_values *v, const char *path,
                                 requests *all, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *rows = NULL;
    SPAR_TRY(spar_rows_open(&rows, path, err));
    for (;;) {
        json_t *row = NULL;
        request *r = NULL;
        spar_error why;
        SPAR_TRY(cli_next_row(rows, &row, &why, err));
        if (!row && why.code == SPAR_OK) {
            break;
        }
        status = add_request(all, &r, err);
        if (r) {
            r->error = why;
        }
        if (r && row) {
            row_ids(m, v, row, r, &r->error);
        }
        json_decref(row);
        SPAR_TRY(status);
    }
done:
    spar_rows_free(rows);
    return status;
}

static spar_status read_operand(const spar_model *m, const generate_values *v, const char *text,
                                requests *all, spar_error *err) {
    spar_status status = SPAR_OK;
    request *r = NULL;
    json_t *string = json_string(text);
    if (!string) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "expected a prompt in UTF-8"));
    }
    SPAR_TRY(add_request(all, &r, err));
    SPAR_TRY(text_ids(m, v, string, r, err));
done:
    json_decref(string);
    return status;
}

static json_t *response_json(const spar_response *r) {
    json_t *ids = json_array();
    json_t *logps = json_array();
    for (size_t i = 0; i < r->n; i++) {
        json_array_append_new(ids, json_integer(r->ids[i]));
        json_array_append_new(logps, json_real((double)r->logps[i]));
    }
    json_t *out = json_pack("{s:o, s:o, s:s}", "ids", ids, "logprobs", logps, "finish_reason",
                            spar_finish_name(r->finish));
    if (r->text) {
        json_object_set_new(out, "text", json_stringn_nocheck(r->text, r->n_text));
    }
    return out;
}

/* What the responses answer: spar judge and spar train read it again. */
static void put_prompt(const request *r, json_t *row) {
    static const char *const beside[] = {"tools", "documents", "chat_template_kwargs"};
    if (r->prompt) {
        json_object_set(row, "prompt", r->prompt);
    }
    for (size_t i = 0; r->prompt && i < sizeof beside / sizeof *beside; i++) {
        json_t *value = json_object_get(r->row, beside[i]);
        if (value) {
            json_object_set(row, beside[i], value);
        }
    }
}

/* One row a prompt, in the order of the input. */
static spar_status put_rows(const requests *all, const spar_response *responses, int samples,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    int failed = 0;
    size_t at = 0;
    for (size_t i = 0; i < all->n; i++) {
        if (all->items[i].error.code != SPAR_OK) {
            SPAR_TRY(cli_put_error(&all->items[i].error, &failed, err));
            continue;
        }
        json_t *list = json_array();
        for (int k = 0; k < samples; k++) {
            json_array_append_new(list, response_json(&responses[at++]));
        }
        json_t *row = json_pack("{s:I, s:o}", "prompt_tokens", (json_int_t)all->items[i].n,
                                "responses", list);
        put_prompt(&all->items[i], row);
        SPAR_TRY(cli_put_row(row, err));
    }
    SPAR_TRY(cli_rows_status(failed, err));
done:
    return status;
}

/* rows: the prompts came as rows, and so do the responses. */
static spar_status sample(spar_model *m, const generate_values *v, const requests *all, bool rows,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    spar_prompt *prompts = calloc(all->n + 1, sizeof *prompts);
    size_t n = 0;
    spar_response *responses = calloc(all->n * (size_t)v->samples + 1, sizeof *responses);
    spar_generate_hooks hooks = {.stop = cli_interrupted};
    if (!prompts || !responses) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for the responses"));
    }
    for (size_t i = 0; i < all->n; i++) {
        if (all->items[i].error.code == SPAR_OK) {
            prompts[n++] = (spar_prompt){all->items[i].ids, all->items[i].n, i};
        }
    }
    SPAR_TRY(spar_generate(m, prompts, n, (int)v->samples, &v->sampling, &hooks, responses, err));
    cli_sink_finish();
    if (rows) {
        status = put_rows(all, responses, (int)v->samples, err);
    } else {
        for (int64_t k = 0; k < v->samples; k++) {
            fwrite(responses[k].text, 1, responses[k].n_text, stdout);
            putchar('\n');
        }
    }
    spar_responses_free(responses, n * (size_t)v->samples);
done:
    free(prompts);
    free(responses);
    return status;
}

static spar_status run_generate(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const generate_values *v = values;
    spar_model *m = NULL;
    requests all = {0};
    SPAR_TRY(cli_check_operands(argc, argv, 0, 1, "one prompt", err));
    const char *path = argc && strcmp(argv[0], "-") == 0 && !v->prompts ? "-" : v->prompts;
    if (!v->model) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "-m: expected a model, found nothing"));
    }
    if (path == v->prompts && (argc == 0) == (path == NULL)) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "expected a prompt, - or --prompts FILE, found %s",
                           argc ? "two of them" : "nothing"));
    }
    if (v->raw && v->chat) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "expected --chat or --raw, found both"));
    }
    spar_model_options options = {.dtype = (spar_dtype)v->dtype,
                                  .weights = (spar_weights)v->weights,
                                  .threads = (int)v->threads,
                                  .adapter = v->adapter,
                                  .inference = true,
                                  .template_path = v->template_path,
                                  .sink = cli_sink()};
    SPAR_TRY(spar_model_load(&m, v->model, &options, err));
    if (path) {
        SPAR_TRY(read_requests(m, v, path, &all, err));
    } else {
        SPAR_TRY(read_operand(m, v, argv[0], &all, err));
    }
    cli_catch_interrupt();
    SPAR_TRY(sample(m, v, &all, path != NULL, err));
done:
    for (size_t i = 0; i < all.n; i++) {
        json_decref(all.items[i].prompt);
        json_decref(all.items[i].row);
        free(all.items[i].ids);
    }
    free(all.items);
    spar_model_free(m);
    return status;
}

static generate_values the_values;

const cli_command cli_generate = {
    .doc = {.name = "generate",
            .synopsis = "-m MODEL [options] PROMPT | --prompts FILE | -",
            .summary = "sample responses to one prompt, or to many in batches",
            .details =
                "A prompt goes through the chat template of a model that has one; --raw continues "
                "it as it is. With --prompts, or - for standard input, reads JSON Lines and writes "
                "one row for each: responses with text, ids, logprobs (under the untouched "
                "distribution) and finish_reason. A row that fails gives {\"error\"} in its "
                "place, and the exit status says so.",
            .options = generate_options},
    .run = run_generate,
    .values = &the_values};
