/* spar chat: a conversation on the terminal. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "spar/generate.h"
#include "spar/token_stream.h"

typedef struct chat_values {
    const char *model, *adapter, *system, *template_path;
    double temperature, top_p;
    int64_t max_new_tokens, seed, threads;
    int dtype, weights;
} chat_values;

#define CHAT(field) offsetof(chat_values, field)
static const spar_option chat_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, CHAT(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file"},
    {"adapter", 0, SPAR_OPTION_STRING, CHAT(adapter), NULL, 0, 0, NULL, "DIR",
     "a LoRA adapter for it, in PEFT's layout"},
    {"system", 0, SPAR_OPTION_STRING, CHAT(system), NULL, 0, 0, NULL, "TEXT", "system message"},
    {"template", 0, SPAR_OPTION_STRING, CHAT(template_path), NULL, 0, 0, NULL, "FILE",
     "chat template in place of the model's own"},
    {"temperature", 'T', SPAR_OPTION_NUMBER, CHAT(temperature), "0.7", 0, 100, NULL, "X",
     "sampling temperature; 0 takes the most likely token"},
    {"top-p", 0, SPAR_OPTION_NUMBER, CHAT(top_p), "0.95", 1e-9, 1, NULL, "P",
     "sample from the smallest set of tokens with this probability"},
    {"max-new-tokens", 'n', SPAR_OPTION_INT, CHAT(max_new_tokens), "512", 1, 1 << 24, NULL, "N",
     "longest answer"},
    {"seed", 's', SPAR_OPTION_INT, CHAT(seed), "0", 0, 9e15, NULL, "N", "seed"},
    {"dtype", 0, SPAR_OPTION_CHOICE, CHAT(dtype), "auto", 0, 0, CLI_DTYPES, "TYPE",
     "type of the matrix products"},
    CLI_WEIGHTS_ROW(chat_values),
    {"threads", 'j', SPAR_OPTION_INT, CHAT(threads), "0", 0, 1024, NULL, "N", "threads"},
    {0}};

/* The answer so far, as it goes to the terminal. */
typedef struct shown {
    spar_token_stream *tokens;
    FILE *copy; /* the same text in memory */
} shown;

static void show(const shown *s, const char *text, size_t n) {
    fwrite(text, 1, n, stdout);
    fflush(stdout);
    fwrite(text, 1, n, s->copy);
}

static void on_token(void *context, size_t prompt, int sample, int32_t id) {
    const shown *s = context;
    const char *text;
    size_t n;
    (void)prompt;
    (void)sample;
    if (spar_token_stream_push(s->tokens, id, &text, &n, NULL) == SPAR_OK) {
        show(s, text, n);
    }
}

/* One response to ids, shown as it comes. What Ctrl-C leaves of it is an answer too. */
static spar_status stream(spar_model *m, const chat_values *v, const spar_prompt *prompt,
                          const shown *s, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_response response;
    spar_sampling sampling;
    const char *rest;
    size_t n;
    spar_generate_hooks hooks = {
        .token = on_token, .stop = cli_interrupted, .context = (shown *)(uintptr_t)s};
    SPAR_TRY(spar_options_default(spar_sampling_options, &sampling, err));
    sampling.temperature = v->temperature;
    sampling.top_p = v->top_p;
    sampling.max_new_tokens = v->max_new_tokens;
    sampling.seed = v->seed;
    status = spar_generate(m, prompt, 1, 1, &sampling, &hooks, &response, err);
    if (status == SPAR_OK) {
        spar_responses_free(&response, 1);
    } else if (status != SPAR_INTERRUPTED) {
        goto done;
    }
    SPAR_TRY(spar_token_stream_finish(s->tokens, &rest, &n, err));
    show(s, rest, n);
done:
    return status;
}

/* Add the assistant's answer to the messages. */
static spar_status answer(spar_model *m, const chat_values *v, json_t *messages, uint64_t turn,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n_text = 0;
    spar_prompt prompt = {.key = turn};
    shown s = {0};
    SPAR_TRY(spar_model_chat_ids(m, messages, true, &ids, &prompt.n, err));
    prompt.ids = ids;
    SPAR_TRY(spar_token_stream_create(&s.tokens, spar_model_tokenizer(m), true, err));
    s.copy = open_memstream(&text, &n_text);
    if (!s.copy) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for the answer"));
    }
    SPAR_TRY(stream(m, v, &prompt, &s, err));
    fflush(s.copy);
    json_array_append_new(messages,
                          json_pack("{s:s, s:s%}", "role", "assistant", "content", text, n_text));
done:
    putchar('\n');
    if (s.copy) {
        fclose(s.copy);
    }
    spar_token_stream_free(s.tokens);
    free(text);
    free(ids);
    return status;
}

static json_t *new_conversation(const chat_values *v) {
    json_t *messages = json_array();
    if (v->system) {
        json_array_append_new(messages,
                              json_pack("{s:s, s:s}", "role", "system", "content", v->system));
    }
    return messages;
}

/* A turn that fails (the context is full, the template refuses) leaves the conversation as it was
 * before it. */
static void take_turn(spar_model *m, const chat_values *v, json_t *messages, const char *line,
                      uint64_t turn) {
    spar_error err;
    json_t *message = json_pack("{s:s, s:s}", "role", "user", "content", line);
    if (!message) {
        fputs("that line is not UTF-8\n", stderr);
        return;
    }
    json_array_append_new(messages, message);
    if (answer(m, v, messages, turn, &err) != SPAR_OK) {
        json_array_remove(messages, json_array_size(messages) - 1);
        fputs("spar: ", stderr);
        cli_put_text(stderr, err.message, sizeof err.message);
        fputs(" (/reset begins again)\n", stderr);
    }
    cli_clear_interrupt();
}

static void converse(spar_model *m, const chat_values *v) {
    json_t *messages = new_conversation(v);
    char *line = NULL;
    size_t capacity = 0;
    bool terminal = isatty(STDIN_FILENO) == 1;
    for (uint64_t turn = 0; !cli_interrupted(NULL); turn++) {
        fputs(terminal ? "> " : "", stderr);
        if (getline(&line, &capacity, stdin) <= 0) {
            break;
        }
        line[strcspn(line, "\r\n")] = 0;
        if (strcmp(line, "/quit") == 0) {
            break;
        }
        if (strcmp(line, "/reset") == 0) {
            json_decref(messages);
            messages = new_conversation(v);
        } else if (line[0]) {
            take_turn(m, v, messages, line, turn);
        }
    }
    free(line);
    json_decref(messages);
}

static spar_status run_chat(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const chat_values *v = values;
    spar_model *m = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 0, "options only", err));
    if (!v->model) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "-m: expected a model, found nothing"));
    }
    spar_model_options options = {.dtype = (spar_dtype)v->dtype,
                                  .weights = (spar_weights)v->weights,
                                  .threads = (int)v->threads,
                                  .adapter = v->adapter,
                                  .inference = true,
                                  .template_path = v->template_path};
    SPAR_TRY(spar_model_load(&m, v->model, &options, err));
    if (!spar_model_tokenizer(m) || !spar_model_template(m)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: has no %s", v->model,
                           spar_model_tokenizer(m) ? "chat template; name one with --template"
                                                   : "tokenizer"));
    }
    cli_catch_interrupt();
    fprintf(stderr, "%s; /reset begins again, /quit ends\n", spar_model_backend(m));
    converse(m, v);
done:
    spar_model_free(m);
    return status;
}

static chat_values the_values;
const cli_command cli_chat = {.doc = {.name = "chat",
                                      .synopsis = "-m MODEL [options]",
                                      .summary = "talk to a model",
                                      .details = "Answers are shown as they are sampled; Ctrl-C "
                                                 "stops one. /reset begins again, /quit ends.",
                                      .options = chat_options},
                              .run = run_chat,
                              .values = &the_values};
