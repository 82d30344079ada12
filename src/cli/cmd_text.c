/* spar tokenize, spar render: JSON Lines in, JSON Lines out. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "spar/chat_template.h"
#include "spar/model.h"
#include "spar/row_layout.h"
#include "spar/tokenizer.h"

typedef struct tokenize_values {
    const char *model;
    bool no_special, decode, offsets;
} tokenize_values;

static const spar_option tokenize_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, offsetof(tokenize_values, model), NULL, 0, 0, NULL, "MODEL",
     "a folder with a tokenizer, a tokenizer.json or a GGUF file"},
    {"no-special", 0, SPAR_OPTION_FLAG, offsetof(tokenize_values, no_special), "false", 0, 0, NULL,
     NULL, "add no BOS or EOS; special tokens in the text are recognised all the same"},
    {"decode", 0, SPAR_OPTION_FLAG, offsetof(tokenize_values, decode), "false", 0, 0, NULL, NULL,
     "the other way: rows {\"ids\"} to rows {\"text\"}, special tokens as they are written"},
    {"offsets", 0, SPAR_OPTION_FLAG, offsetof(tokenize_values, offsets), "false", 0, 0, NULL, NULL,
     "also where each token is in the text, as [begin, end) in characters"},
    {0}};

static spar_status need_model(const char *model, spar_error *err) {
    return model ? SPAR_OK : spar_fail(err, SPAR_INVALID, "-m: expected a model, found nothing");
}

typedef struct tokenize_context {
    const spar_tokenizer *tokenizer;
    unsigned flags;
    bool offsets;
} tokenize_context;

static json_t *id_list(const int32_t *ids, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_integer(ids[i]));
    }
    return list;
}

/* Characters of text [n]. */
static json_int_t count_characters(const char *text, size_t n) {
    json_int_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += ((unsigned char)text[i] & 0xC0U) != 0x80U;
    }
    return count;
}

/* Spans in bytes as pairs in characters. They mostly follow each other, so that counting goes on
 * where the one before began. */
static json_t *offset_list(const char *text, const spar_text_span *spans, size_t n) {
    json_t *list = json_array();
    size_t at = 0;
    json_int_t before = 0;
    for (size_t i = 0; i < n; i++) {
        const spar_text_span *s = &spans[i];
        before = s->begin < at ? count_characters(text, s->begin)
                               : before + count_characters(text + at, s->begin - at);
        at = s->begin;
        json_array_append_new(
            list,
            json_pack("[I, I]", before, before + count_characters(text + at, s->end - s->begin)));
    }
    return list;
}

static spar_status tokenize_row(void *context, const json_t *row, json_t **out, spar_error *err) {
    const tokenize_context *c = context;
    spar_status status = SPAR_OK;
    int32_t *ids = NULL;
    spar_text_span *spans = NULL;
    size_t n = 0;
    const json_t *text = json_object_get(row, "text");
    if (!json_is_string(text)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "text: expected a string, found %s",
                           text ? "another type" : "nothing"));
    }
    const char *s = json_string_value(text);
    const size_t length = json_string_length(text);
    SPAR_TRY(c->offsets ? spar_tokenizer_encode_spans(c->tokenizer, s, length, c->flags, &ids,
                                                      &spans, &n, err)
                        : spar_tokenizer_encode(c->tokenizer, s, length, c->flags, &ids, &n, err));
    *out = json_pack("{s:o, s:o*}", "ids", id_list(ids, n), "offsets",
                     c->offsets ? offset_list(s, spans, n) : NULL);
done:
    free(ids);
    free(spans);
    return status;
}

static spar_status detokenize_row(void *context, const json_t *row, json_t **out, spar_error *err) {
    const tokenize_context *c = context;
    spar_status status = SPAR_OK;
    int32_t *ids = NULL;
    char *text = NULL;
    size_t n = 0;
    SPAR_TRY(cli_read_ids(json_object_get(row, "ids"), "ids", &ids, &n, err));
    SPAR_TRY(spar_tokenizer_decode(c->tokenizer, ids, n, false, &text, &n, err));
    *out = json_pack("{s:s%}", "text", text, n);
done:
    free(ids);
    free(text);
    return status;
}

static spar_status run_tokenize(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const tokenize_values *v = values;
    spar_tokenizer *t = NULL;
    SPAR_TRY(cli_check_operands(argc, argv, 0, 1, "one file of rows", err));
    SPAR_TRY(need_model(v->model, err));
    SPAR_TRY(spar_vocab_load(&t, v->model, err));
    tokenize_context context = {t, v->no_special ? SPAR_TOKENIZE_NO_SPECIAL : 0, v->offsets};
    SPAR_TRY(cli_map_rows(argc ? argv[0] : "-", v->decode ? detokenize_row : tokenize_row, &context,
                          err));
done:
    spar_tokenizer_free(t);
    return status;
}

static tokenize_values the_tokenize_values;
const cli_command cli_tokenize = {
    .doc = {.name = "tokenize",
            .synopsis = "-m MODEL [--no-special] [--offsets | --decode] [FILE]",
            .summary = "rows {\"text\"} to rows {\"ids\"}, and back",
            .details =
                "Reads JSON Lines from FILE or standard input and writes one row for each. A "
                "row that fails gives {\"error\"} in its place, and the exit status says so.",
            .options = tokenize_options},
    .run = run_tokenize,
    .values = &the_tokenize_values};

typedef struct render_values {
    const char *model, *template_path, *bos, *eos, *pad, *unk, *now;
    bool generation_prompt, masks;
} render_values;

#define RENDER(field) offsetof(render_values, field)
static const spar_option render_options[] = {
    {"model", 'm', SPAR_OPTION_STRING, RENDER(model), NULL, 0, 0, NULL, "MODEL",
     "model whose chat template and special tokens are used"},
    {"template", 0, SPAR_OPTION_STRING, RENDER(template_path), NULL, 0, 0, NULL, "FILE",
     "chat template to use"},
    {"generation-prompt", 0, SPAR_OPTION_FLAG, RENDER(generation_prompt), "false", 0, 0, NULL, NULL,
     "end with the opening of the assistant's turn"},
    {"assistant-masks", 0, SPAR_OPTION_FLAG, RENDER(masks), "false", 0, 0, NULL, NULL,
     "also the text's ids, and which of them the template's generation blocks wrote"},
    {"bos", 0, SPAR_OPTION_STRING, RENDER(bos), NULL, 0, 0, NULL, "S", "bos_token"},
    {"eos", 0, SPAR_OPTION_STRING, RENDER(eos), NULL, 0, 0, NULL, "S", "eos_token"},
    {"pad", 0, SPAR_OPTION_STRING, RENDER(pad), NULL, 0, 0, NULL, "S", "pad_token"},
    {"unk", 0, SPAR_OPTION_STRING, RENDER(unk), NULL, 0, 0, NULL, "S", "unk_token"},
    {"now", 0, SPAR_OPTION_STRING, RENDER(now), NULL, 0, 0, NULL, "YYYY-MM-DD",
     "date for templates that print one; today unless given"},
    {0}};

/* The whole of a small file. */
static spar_status read_text(const char *path, char **out, size_t *n, spar_error *err) {
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    size_t used = 0;
    size_t capacity = 0;
    if (!f) {
        return spar_fail(err, SPAR_NOT_FOUND, "%s: cannot be opened", path);
    }
    for (;;) {
        if (used == capacity) {
            capacity = capacity ? 2 * capacity : 65536;
            char *grown = capacity > (64U << 20) ? NULL : realloc(text, capacity);
            if (!grown) {
                free(text);
                fclose(f);
                return spar_fail(err, SPAR_LIMIT, "%s: expected at most 64 MiB", path);
            }
            text = grown;
        }
        size_t got = fread(text + used, 1, capacity - used, f);
        used += got;
        if (got == 0) {
            break;
        }
    }
    bool bad = ferror(f) != 0;
    fclose(f);
    if (bad) {
        free(text);
        return spar_fail(err, SPAR_IO, "%s: cannot be read", path);
    }
    *out = text;
    *n = used;
    return SPAR_OK;
}

static spar_status load_template(const render_values *v, const spar_tokenizer *t,
                                 spar_template **out, spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    if (v->template_path) {
        SPAR_TRY(read_text(v->template_path, &text, &n, err));
        SPAR_TRY(spar_template_compile(out, text, n, v->template_path, err));
    } else if (t) {
        SPAR_TRY(spar_template_of_tokenizer(out, t, v->model, err));
    }
    if (!*out) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: has no chat template",
                           v->model ? v->model : "--template"));
    }
done:
    free(text);
    return status;
}

typedef struct render_context {
    const spar_template *template;
    const spar_render_options *options;
    const spar_tokenizer *masks; /* whose ids are wanted with their mask; NULL: none */
} render_context;

static json_t *mask_list(const uint8_t *mask, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_integer(mask[i]));
    }
    return list;
}

/* Prompt and response of a row in another layout than messages. */
static spar_status read_whole(const json_t *row, json_t **out, spar_error *err) {
    json_t *prompt = NULL, *response = NULL;
    const spar_status status = spar_row_read(row, &prompt, &response, err);
    if (status == SPAR_OK) {
        json_t *list = json_is_object(prompt) ? json_object_get(prompt, "messages") : prompt;
        json_t *all = json_copy(list);
        if (json_is_array(response)) {
            json_array_extend(all, response);
        } else {
            json_array_append(all, response);
        }
        *out = json_is_object(prompt) ? json_copy(prompt) : json_object();
        json_object_set_new(*out, "messages", all);
    }
    json_decref(prompt);
    json_decref(response);
    return status;
}

static spar_status render_row(void *context, const json_t *row, json_t **out, spar_error *err) {
    const render_context *c = context;
    spar_status status = SPAR_OK;
    json_t *conversation = NULL;
    char *text = NULL;
    int32_t *ids = NULL;
    uint8_t *mask = NULL;
    size_t n = 0, n_ids = 0;
    const json_t *messages = json_object_get(row, "messages");
    SPAR_TRY(json_is_array(messages) ? spar_conversation_of(&conversation, row, messages, err)
                                     : read_whole(row, &conversation, err));
    SPAR_TRY(spar_template_render(c->template, conversation, c->options, &text, &n, err));
    if (c->masks) {
        SPAR_TRY(spar_template_tokens(c->template, c->masks, conversation, c->options, &ids, &mask,
                                      &n_ids, err));
    }
    *out = json_pack("{s:s%, s:o*, s:o*}", "text", text, n, "ids",
                     c->masks ? id_list(ids, n_ids) : NULL, "assistant_masks",
                     c->masks ? mask_list(mask, n_ids) : NULL);
done:
    json_decref(conversation);
    free(text);
    free(ids);
    free(mask);
    return status;
}

static spar_status run_render(void *values, int argc, char **argv, spar_error *err) {
    spar_status status = SPAR_OK;
    const render_values *v = values;
    spar_tokenizer *t = NULL;
    spar_template *template = NULL;
    char today[16];
    time_t seconds = time(NULL);
    SPAR_TRY(cli_check_operands(argc, argv, 0, 1, "one file of rows", err));
    if (!v->model && !v->template_path) {
        SPAR_TRY(
            spar_fail(err, SPAR_INVALID, "expected -m MODEL or --template FILE, found neither"));
    }
    if (v->model) {
        SPAR_TRY(spar_vocab_load(&t, v->model, err));
    } else if (v->masks) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "--assistant-masks: expected -m MODEL, whose tokens are marked, found "
                           "none"));
    }
    SPAR_TRY(load_template(v, t, &template, err));
    strftime(today, sizeof today, "%Y-%m-%d", localtime(&seconds));
    spar_render_options options = {.add_generation_prompt = v->generation_prompt,
                                   .bos = v->bos ? v->bos
                                          : t    ? spar_tokenizer_bos_text(t)
                                                 : NULL,
                                   .eos = v->eos ? v->eos
                                          : t    ? spar_tokenizer_eos_text(t)
                                                 : NULL,
                                   .pad = v->pad ? v->pad
                                          : t    ? spar_tokenizer_pad_text(t)
                                                 : NULL,
                                   .unk = v->unk ? v->unk
                                          : t    ? spar_tokenizer_unk_text(t)
                                                 : NULL,
                                   .now = v->now ? v->now : today};
    render_context context = {template, &options, v->masks ? t : NULL};
    SPAR_TRY(cli_map_rows(argc ? argv[0] : "-", render_row, &context, err));
done:
    spar_template_free(template);
    spar_tokenizer_free(t);
    return status;
}

static render_values the_render_values;
const cli_command cli_render = {
    .doc =
        {.name = "render",
         .synopsis = "-m MODEL | --template FILE [options] [FILE]",
         .summary =
             "rows of messages, or of another layout, to rows {\"text\"} through a chat template",
         .details =
             "A row may also have \"documents\", a list, and \"chat_template_kwargs\", an "
             "object of further variables for the template. Each of these, and \"tools\", may "
             "be a text of JSON.",
         .options = render_options},
    .run = run_render,
    .values = &the_render_values};
