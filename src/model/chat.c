/* Messages to token ids: the model's chat template and tokenizer together. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/gguf.h"
#include "model/engine.h"
#include "model/vocab_gguf.h"
#include "text/conversation.h"
#include "text/vocabulary.h"

static spar_status need_text(const spar_model *m, spar_error *err) {
    if (!m->tokenizer) {
        return spar_fail(err, SPAR_UNSUPPORTED, "%s: has no tokenizer", m->path);
    }
    if (!m->chat_template) {
        return spar_fail(
            err, SPAR_UNSUPPORTED,
            "%s: has no chat template; name one (chat_template.jinja in the folder, or "
            "the recipe's chat_template)",
            m->path);
    }
    return SPAR_OK;
}

static spar_render_options render_options(const spar_model *m, bool generation_prompt) {
    return (spar_render_options){.add_generation_prompt = generation_prompt,
                                 .bos = spar_tokenizer_bos_text(m->tokenizer),
                                 .eos = spar_tokenizer_eos_text(m->tokenizer),
                                 .pad = spar_tokenizer_pad_text(m->tokenizer),
                                 .unk = spar_tokenizer_unk_text(m->tokenizer),
                                 .now = m->now};
}

/* A part of a content that is no text would be rendered as a mark that the model knows, with
 * nothing behind it. */
static spar_status check_parts(const json_t *content, size_t i, spar_error *err) {
    static const char *const media[] = {"image", "video", "audio"};
    for (size_t p = 0; p < json_array_size(content); p++) {
        const char *type = json_string_value(json_object_get(json_array_get(content, p), "type"));
        for (size_t k = 0; type && k < sizeof media / sizeof *media; k++) {
            if (strstr(type, media[k])) {
                return spar_fail(
                    err, SPAR_UNSUPPORTED,
                    "messages[%zu]: content[%zu]: expected a part of text, found %.40s", i, p,
                    type);
            }
        }
    }
    return SPAR_OK;
}

static spar_status check_conversation(const spar_model *m, const json_t *conversation,
                                      spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *messages = sp_conversation_messages(conversation);
    SPAR_TRY(need_text(m, err));
    for (size_t i = 0; i < json_array_size(messages); i++) {
        SPAR_TRY(check_parts(json_object_get(json_array_get(messages, i), "content"), i, err));
    }
done:
    return status;
}

spar_status sp_model_render(const spar_model *m, const json_t *conversation, bool generation_prompt,
                            char **text, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(check_conversation(m, conversation, err));
    const spar_render_options options = render_options(m, generation_prompt);
    SPAR_TRY(spar_template_render(m->chat_template, conversation, &options, text, n, err));
done:
    return status;
}

spar_status sp_model_render_spans(const spar_model *m, const json_t *conversation, char **text,
                                  size_t *n, spar_text_span **spans, size_t *n_spans,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(check_conversation(m, conversation, err));
    const spar_render_options options = render_options(m, false);
    SPAR_TRY(spar_template_render_spans(m->chat_template, conversation, &options, text, n, spans,
                                        n_spans, err));
done:
    return status;
}

spar_status spar_model_chat_ids(const spar_model *m, const json_t *conversation,
                                bool generation_prompt, int32_t **ids, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = NULL;
    size_t n_text = 0;
    SPAR_TRY(sp_model_render(m, conversation, generation_prompt, &text, &n_text, err));
    SPAR_TRY(
        spar_tokenizer_encode(m->tokenizer, text, n_text, SPAR_TOKENIZE_NO_SPECIAL, ids, n, err));
done:
    free(text);
    return status;
}

/* Ids of text up to the first that ends a turn; without one, the first such id is put at the end.
 */
static spar_status turn_ids(const spar_model *m, const char *text, size_t n_text, int32_t **ids,
                            size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_ids list = {0};
    SPAR_TRY(spar_tokenizer_encode(m->tokenizer, text, n_text, SPAR_TOKENIZE_NO_SPECIAL, &list.data,
                                   &list.n, err));
    list.capacity = list.n;
    for (size_t i = 0; i < list.n; i++) {
        if (sp_model_ends_turn(m, list.data[i])) {
            list.n = i + 1;
            goto done;
        }
    }
    if (m->config.n_eos == 0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: names no token that ends a turn", m->path));
    }
    SPAR_TRY(sp_ids_push(&list, m->config.eos[0], err));
done:
    if (status == SPAR_OK) {
        *ids = list.data;
        *n = list.n;
    } else {
        free(list.data);
    }
    return status;
}

/* A prompt with its generation prompt, and the whole conversation, which must begin with it. Both
 * texts are owned by the caller, also after an error. */
static spar_status render_both(const spar_model *m, const json_t *prompt, const json_t *response,
                               char **before, size_t *n_before, char **whole, size_t *n_whole,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *all = NULL;
    SPAR_TRY(sp_model_render(m, prompt, true, before, n_before, err));
    all = sp_conversation_then(prompt, response);
    SPAR_TRY(sp_model_render(m, all, false, whole, n_whole, err));
    if (*n_whole < *n_before || memcmp(*whole, *before, *n_before) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "%s: chat template: expected the conversation to begin with its "
                           "generation prompt, found another text: training and sampling would "
                           "see different prompts",
                           m->path));
    }
done:
    json_decref(all);
    return status;
}

spar_status sp_model_turn(const spar_model *m, const json_t *prompt, const json_t *response,
                          int32_t **prompt_ids, size_t *n_prompt, int32_t **response_ids,
                          size_t *n_response, spar_error *err) {
    spar_status status = SPAR_OK;
    char *before = NULL;
    char *whole = NULL;
    size_t n_before = 0;
    size_t n_whole = 0;
    *prompt_ids = *response_ids = NULL;
    SPAR_TRY(render_both(m, prompt, response, &before, &n_before, &whole, &n_whole, err));
    SPAR_TRY(spar_tokenizer_encode(m->tokenizer, before, n_before, SPAR_TOKENIZE_NO_SPECIAL,
                                   prompt_ids, n_prompt, err));
    SPAR_TRY(turn_ids(m, whole + n_before, n_whole - n_before, response_ids, n_response, err));
done:
    if (status != SPAR_OK) {
        free(*prompt_ids);
        *prompt_ids = NULL;
    }
    free(before);
    free(whole);
    return status;
}

spar_status sp_model_whole(const spar_model *m, const json_t *prompt, const json_t *response,
                           int32_t **ids, size_t *n, size_t *first, size_t *cut, spar_error *err) {
    spar_status status = SPAR_OK;
    char *before = NULL, *whole = NULL;
    size_t n_before = 0, n_whole = 0, n_prompt = 0;
    int32_t *prompt_ids = NULL;
    *ids = NULL;
    SPAR_TRY(render_both(m, prompt, response, &before, &n_before, &whole, &n_whole, err));
    SPAR_TRY(spar_tokenizer_encode(m->tokenizer, before, n_before, SPAR_TOKENIZE_NO_SPECIAL,
                                   &prompt_ids, &n_prompt, err));
    SPAR_TRY(
        spar_tokenizer_encode(m->tokenizer, whole, n_whole, SPAR_TOKENIZE_NO_SPECIAL, ids, n, err));
    *first = 0;
    while (*first < n_prompt && *first < *n && prompt_ids[*first] == (*ids)[*first]) {
        (*first)++;
    }
    *cut = n_prompt - *first;
done:
    free(before);
    free(whole);
    free(prompt_ids);
    return status;
}

bool sp_model_ends_turn(const spar_model *m, int32_t id) {
    for (int i = 0; i < m->config.n_eos; i++) {
        if (m->config.eos[i] == id) {
            return true;
        }
    }
    return false;
}

spar_status spar_vocab_load(spar_tokenizer **out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_gguf *gguf = NULL;
    size_t n = strlen(path);
    *out = NULL;
    if (n < 5 || strcmp(path + n - 5, ".gguf") != 0) {
        return spar_tokenizer_load(out, path, err);
    }
    SPAR_TRY(sp_gguf_open(&gguf, path, err));
    SPAR_TRY(sp_vocab_from_gguf(gguf, out, err));
    if (!*out) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: holds no vocabulary", path));
    }
done:
    sp_gguf_free(gguf);
    return status;
}

spar_status spar_model_response_ids(const spar_model *m, const json_t *prompt,
                                    const json_t *response, int32_t **ids, size_t *n, size_t *first,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    int32_t *prompt_ids = NULL;
    int32_t *response_ids = NULL;
    size_t n_prompt = 0, n_response = 0, cut;
    void *memory;
    if (json_is_array(response)) {
        return sp_model_whole(m, prompt, response, ids, n, first, &cut, err);
    }
    SPAR_TRY(sp_model_turn(m, prompt, response, &prompt_ids, &n_prompt, &response_ids, &n_response,
                           err));
    SPAR_TRY(sp_mem_calloc(&memory, n_prompt + n_response, sizeof **ids, err));
    *ids = memory;
    memcpy(*ids, prompt_ids, n_prompt * sizeof **ids);
    memcpy(*ids + n_prompt, response_ids, n_response * sizeof **ids);
    *n = n_prompt + n_response;
    *first = n_prompt;
done:
    free(prompt_ids);
    free(response_ids);
    return status;
}
