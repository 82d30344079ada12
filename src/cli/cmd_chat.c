/* spar chat: a conversation on the terminal. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "spar/generate.h"

typedef struct chat_values {
    const char *model, *system, *template_path;
    double temperature, top_p;
    int64_t max_new_tokens, seed, threads;
    int dtype;
} chat_values;

#define CHAT(field) offsetof(chat_values, field)
static const spar_option chat_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, CHAT(model), NULL, 0, 0, NULL, "MODEL",
     "a Hugging Face folder or a GGUF file"},
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
    {"dtype", 0, SPAR_OPTION_CHOICE, CHAT(dtype), "auto", 0, 0, "auto|f32|bf16", "TYPE",
     "type of the matrix products"},
    {"threads", 'j', SPAR_OPTION_INT, CHAT(threads), "0", 0, 1024, NULL, "N", "threads"},
    {0}};

/* What has been sampled of the answer, and how much of its text is printed. */
typedef struct stream {
    const spar_tokenizer *tokenizer;
    int32_t *ids; /* owned */
    size_t n, printed;
} stream;

/* Bytes of text that can be printed: a character still being made ends in U+FFFD. */
static size_t whole_characters(const char *text, size_t n) {
    while (n >= 3 && memcmp(text + n - 3, "\xEF\xBF\xBD", 3) == 0) {
        n -= 3;
    }
    return n;
}

static void on_token(void *context, size_t prompt, int sample, int32_t id) {
    stream *s = context;
    char *text;
    size_t n;
    spar_error ignored;
    int32_t *grown = realloc(s->ids, (s->n + 1) * sizeof *grown);
    (void)prompt;
    (void)sample;
    if (!grown) {
        return;
    }
    s->ids = grown;
    s->ids[s->n++] = id;
    if (spar_tokenizer_decode(s->tokenizer, s->ids, s->n, true, &text, &n, &ignored) == SPAR_OK) {
        n = whole_characters(text, n);
        if (n > s->printed) {
            fwrite(text + s->printed, 1, n - s->printed, stdout);
            fflush(stdout);
            s->printed = n;
        }
        free(text);
    }
}

static bool on_stop(void *context) {
    (void)context;
    return cli_interrupted(NULL);
}

static spar_status answer(spar_model *m, const chat_values *v, json_t *messages, uint64_t turn,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    int32_t *ids = NULL;
    size_t n = 0;
    spar_response response;
    spar_sampling sampling;
    stream s = {.tokenizer = spar_model_tokenizer(m)};
    spar_generate_hooks hooks = {.token = on_token, .stop = on_stop, .context = &s};
    SPAR_TRY(spar_options_default(spar_sampling_options, &sampling, err));
    sampling.temperature = v->temperature;
    sampling.top_p = v->top_p;
    sampling.max_new_tokens = v->max_new_tokens;
    sampling.seed = v->seed;
    SPAR_TRY(spar_model_chat_ids(m, messages, true, &ids, &n, err));
    spar_prompt prompt = {.ids = ids, .n = n, .key = turn};
    SPAR_TRY(spar_generate(m, &prompt, 1, 1, &sampling, &hooks, &response, err));
    json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "assistant", "content",
                                              response.text ? response.text : ""));
    spar_responses_free(&response, 1);
done:
    putchar('\n');
    free(s.ids);
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

static spar_status converse(spar_model *m, const chat_values *v, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *messages = new_conversation(v);
    char *line = NULL;
    size_t capacity = 0;
    for (uint64_t turn = 0;; turn++) {
        fputs("> ", stderr);
        ssize_t n = getline(&line, &capacity, stdin);
        if (n <= 0 || cli_interrupted(NULL)) {
            break;
        }
        line[strcspn(line, "\r\n")] = 0;
        if (strcmp(line, "/quit") == 0) {
            break;
        }
        if (strcmp(line, "/reset") == 0) {
            json_decref(messages);
            messages = new_conversation(v);
            continue;
        }
        if (!line[0]) {
            continue;
        }
        json_t *message = json_pack("{s:s, s:s}", "role", "user", "content", line);
        if (!message) {
            fputs("that line is not UTF-8\n", stderr);
            continue;
        }
        json_array_append_new(messages, message);
        SPAR_TRY(answer(m, v, messages, turn, err));
    }
done:
    free(line);
    json_decref(messages);
    return status;
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
                                  .threads = (int)v->threads,
                                  .template_path = v->template_path};
    SPAR_TRY(spar_model_load(&m, v->model, &options, err));
    cli_catch_interrupt();
    fprintf(stderr, "%s; /reset begins again, /quit ends\n", spar_model_backend(m));
    SPAR_TRY(converse(m, v, err));
done:
    spar_model_free(m);
    return status;
}

static chat_values the_values;
const cli_command cli_chat = {.doc = {.name = "chat",
                                      .synopsis = "-m MODEL [options]",
                                      .summary = "talk to a model",
                                      .options = chat_options},
                              .run = run_chat,
                              .values = &the_values};
