/* spar generate: batch sampling of prompts. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "spar/generate.h"

typedef struct generate_values {
    spar_sampling sampling;
    const char *model, *prompts, *system, *template_path;
    int64_t samples, threads;
    int dtype;
    bool raw;
} generate_values;

#define GENERATE(field) offsetof(generate_values, field)
static const spar_option generate_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, GENERATE(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file"},
    {"prompts", 'p', SPAR_OPTION_STRING, GENERATE(prompts), NULL, 0, 0, NULL, "FILE",
     "rows of JSON Lines: {\"prompt\"}, {\"messages\"} or {\"ids\"}; - is standard input"},
    {"system", 0, SPAR_OPTION_STRING, GENERATE(system), NULL, 0, 0, NULL, "TEXT",
     "system message before every prompt"},
    {"template", 0, SPAR_OPTION_STRING, GENERATE(template_path), NULL, 0, 0, NULL, "FILE",
     "chat template in place of the model's own"},
    {"samples", 'k', SPAR_OPTION_INT, GENERATE(samples), "1", 1, 4096, NULL, "K",
     "responses a prompt"},
    {"raw", 0, SPAR_OPTION_FLAG, GENERATE(raw), "false", 0, 0, NULL, NULL,
     "continue the text as it is, without the chat template"},
    {"dtype", 0, SPAR_OPTION_CHOICE, GENERATE(dtype), "auto", 0, 0, "auto|f32|bf16", "TYPE",
     "type of the matrix products"},
    {"threads", 'j', SPAR_OPTION_INT, GENERATE(threads), "0", 0, 1024, NULL, "N",
     "threads; 0: one a processor"},
    SPAR_SAMPLING_ROWS(generate_values, sampling.),
    {0}};

typedef struct request {
    int32_t *ids; /* owned */
    size_t n;
    spar_error error;
} request;

static spar_status text_ids(const spar_model *m, const generate_values *v, const char *text,
                            request *r, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *messages = json_array();
    if (v->raw || !spar_model_template(m)) {
        if (!spar_model_tokenizer(m)) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: has no tokenizer", v->model));
        }
        SPAR_TRY(spar_tokenizer_encode(spar_model_tokenizer(m), text, strlen(text), 0, &r->ids,
                                       &r->n, err));
        goto done;
    }
    if (v->system) {
        json_array_append_new(messages,
                              json_pack("{s:s, s:s}", "role", "system", "content", v->system));
    }
    json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "user", "content", text));
    SPAR_TRY(spar_model_chat_ids(m, messages, true, &r->ids, &r->n, err));
done:
    json_decref(messages);
    return status;
}

static spar_status row_ids(const spar_model *m, const generate_values *v, const json_t *row,
                           request *r, spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *ids = json_object_get(row, "ids");
    const json_t *messages = json_object_get(row, "messages");
    const char *prompt = json_string_value(json_object_get(row, "prompt"));
    if (prompt) {
        SPAR_TRY(text_ids(m, v, prompt, r, err));
    } else if (json_is_array(messages)) {
        SPAR_TRY(spar_model_chat_ids(m, messages, true, &r->ids, &r->n, err));
    } else if (json_array_size(ids) > 0) {
        r->n = json_array_size(ids);
        r->ids = calloc(r->n, sizeof *r->ids);
        for (size_t i = 0; r->ids && i < r->n; i++) {
            r->ids[i] = (int32_t)json_integer_value(json_array_get(ids, i));
        }
    } else {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "expected prompt, messages or ids, found none"));
    }
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

static spar_status read_requests(const spar_model *m, const generate_values *v, requests *all,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    cli_rows *rows = NULL;
    SPAR_TRY(cli_rows_open(&rows, v->prompts, err));
    for (;;) {
        json_t *row = NULL;
        request *r = NULL;
        SPAR_TRY(cli_rows_next(rows, &row, err));
        if (!row) {
            break;
        }
        status = add_request(all, &r, err);
        if (status == SPAR_OK) {
            row_ids(m, v, row, r, &r->error);
        }
        json_decref(row);
        SPAR_TRY(status);
    }
done:
    cli_rows_close(rows);
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
        SPAR_TRY(cli_put_row(json_pack("{s:I, s:o}", "prompt_tokens", (json_int_t)all->items[i].n,
                                       "responses", list),
                             err));
    }
    SPAR_TRY(cli_rows_status(failed, err));
done:
    return status;
}

static spar_status sample(spar_model *m, const generate_values *v, const requests *all,
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
    if (v->prompts) {
        status = put_rows(all, responses, (int)v->samples, err);
    } else {
        for (int64_t k = 0; k < v->samples; k++) {
            printf("%s\n", responses[k].text ? responses[k].text : "");
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
    if (!v->model || (argc == 0) == (v->prompts == NULL)) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "expected -m MODEL and either a prompt or --prompts FILE"));
    }
    spar_model_options options = {.dtype = (spar_dtype)v->dtype,
                                  .threads = (int)v->threads,
                                  .template_path = v->template_path,
                                  .sink = cli_sink()};
    SPAR_TRY(spar_model_load(&m, v->model, &options, err));
    if (v->prompts) {
        SPAR_TRY(read_requests(m, v, &all, err));
    } else {
        request *r = NULL;
        SPAR_TRY(add_request(&all, &r, err));
        SPAR_TRY(text_ids(m, v, argv[0], r, err));
    }
    cli_catch_interrupt();
    SPAR_TRY(sample(m, v, &all, err));
done:
    for (size_t i = 0; i < all.n; i++) {
        free(all.items[i].ids);
    }
    free(all.items);
    spar_model_free(m);
    return status;
}

static generate_values the_values;

const cli_command cli_generate = {
    .doc = {.name = "generate",
            .synopsis = "-m MODEL [options] PROMPT | --prompts FILE",
            .summary = "sample responses to one prompt, or to many in batches",
            .details =
                "With --prompts, reads JSON Lines and writes one row for each: responses with "
                "text, ids, logprobs (under the untouched distribution) and finish_reason.",
            .options = generate_options},
    .run = run_generate,
    .values = &the_values};
