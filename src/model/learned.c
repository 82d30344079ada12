/* A conversation as ids, and which of them training learns. */
#include "model/learned.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/engine.h"
#include "text/chat_mask.h"
#include "text/conversation.h"
#include "text/vocabulary.h"

void sp_learned_release(sp_learned *l) {
    free(l->ids);
    free(l->mask);
    *l = (sp_learned){0};
}

static bool is_assistant(const json_t *messages, size_t i) {
    const char *role = json_string_value(json_object_get(json_array_get(messages, i), "role"));
    return role && strcmp(role, "assistant") == 0;
}

/* ---- by generation blocks ---- */

/* Blocks that are of the messages before one. */
static spar_status count_earlier(const spar_model *m, const json_t *conversation, size_t first,
                                 size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *before = sp_conversation_first(conversation, first);
    char *text = NULL;
    spar_text_span *spans = NULL;
    size_t n_text;
    SPAR_TRY(sp_model_render_spans(m, before, &text, &n_text, &spans, n, err));
done:
    json_decref(before);
    free(text);
    free(spans);
    return status;
}

spar_status sp_learned_by_blocks(const spar_model *m, const json_t *conversation, size_t first,
                                 sp_learned *out, spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = NULL;
    spar_text_span *spans = NULL;
    size_t n_text, n_spans = 0, earlier = 0;
    *out = (sp_learned){0};
    SPAR_TRY(sp_model_render_spans(m, conversation, &text, &n_text, &spans, &n_spans, err));
    if (first > 0) {
        SPAR_TRY(count_earlier(m, conversation, first, &earlier, err));
    }
    if (earlier >= n_spans) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "%s: chat template: expected a generation block around what the "
                           "assistant writes, found none",
                           m->path));
    }
    SPAR_TRY(sp_mask_encode(m->tokenizer, text, n_text, spans + earlier, n_spans - earlier,
                            &out->ids, &out->mask, &out->n, err));
done:
    free(text);
    free(spans);
    return status;
}

/* ---- by rendering ---- */

/* A conversation under way: ids and mask grow together. */
typedef struct growing {
    const spar_model *m;
    const char *text;  /* of the whole conversation [n_text] */
    size_t n_text, at; /* what is tokenised so far */
    sp_ids ids, mask;
} growing;

/* The text up to `end`, tokenised by itself. reply: it is learned up to the token that ends the
 * turn, and, where nothing follows it, cut there; one without such a token gets it. */
static spar_status take(growing *g, size_t end, bool reply, spar_error *err) {
    spar_status status = SPAR_OK;
    int32_t *ids = NULL;
    size_t n = 0;
    bool open = reply;
    SPAR_TRY(spar_tokenizer_encode(g->m->tokenizer, g->text + g->at, end - g->at,
                                   SPAR_TOKENIZE_NO_SPECIAL, &ids, &n, err));
    const bool last = end == g->n_text;
    for (size_t i = 0; i < n && (open || !reply || !last); i++) {
        SPAR_TRY(sp_ids_push(&g->ids, ids[i], err));
        SPAR_TRY(sp_ids_push(&g->mask, open, err));
        open = open && !sp_model_ends_turn(g->m, ids[i]);
    }
    if (open && last) {
        if (g->m->config.n_eos == 0) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: names no token that ends a turn",
                               g->m->path));
        }
        SPAR_TRY(sp_ids_push(&g->ids, g->m->config.eos[0], err));
        SPAR_TRY(sp_ids_push(&g->mask, 1, err));
    }
    g->at = end;
done:
    free(ids);
    return status;
}

/* Where the rendering of the first n messages ends in the text of all, which must begin with it. */
static spar_status end_of(const growing *g, const json_t *conversation, size_t n, bool prompt,
                          size_t *end, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *some = sp_conversation_first(conversation, n);
    char *text = NULL;
    SPAR_TRY(sp_model_render(g->m, some, prompt, &text, end, err));
    if (*end > g->n_text || *end < g->at || memcmp(text, g->text, *end) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "%s: chat template: expected the conversation to begin with %s of its "
                           "first %zu messages, found another text",
                           g->m->path, prompt ? "the generation prompt" : "the rendering", n));
    }
done:
    json_decref(some);
    free(text);
    return status;
}

spar_status sp_learned_by_rendering(const spar_model *m, const json_t *conversation, size_t first,
                                    sp_learned *out, spar_error *err) {
    spar_status status = SPAR_OK;
    growing g = {.m = m};
    char *text = NULL;
    void *memory;
    const json_t *messages = sp_conversation_messages(conversation);
    const size_t count = json_array_size(messages);
    *out = (sp_learned){0};
    SPAR_TRY(sp_model_render(m, conversation, false, &text, &g.n_text, err));
    g.text = text;
    for (size_t i = first; i < count; i++) {
        size_t end = g.n_text;
        if (!is_assistant(messages, i)) {
            continue;
        }
        SPAR_TRY(end_of(&g, conversation, i, true, &end, err));
        SPAR_TRY(take(&g, end, false, err));
        if (i + 1 < count) {
            SPAR_TRY(end_of(&g, conversation, i + 1, false, &end, err));
        } else {
            end = g.n_text;
        }
        SPAR_TRY(take(&g, end, true, err));
    }
    SPAR_TRY(sp_mem_calloc(&memory, g.mask.n, sizeof *out->mask, err));
    out->mask = memory;
    for (size_t i = 0; i < g.mask.n; i++) {
        out->mask[i] = g.mask.data[i] != 0;
    }
    out->ids = g.ids.data;
    out->n = g.ids.n;
    g.ids.data = NULL;
done:
    free(text);
    free(g.ids.data);
    free(g.mask.data);
    return status;
}

spar_status sp_learned_of(const spar_model *m, const json_t *conversation, size_t first,
                          sp_learned *out, spar_error *err) {
    const bool marks = m->chat_template && spar_template_marks(m->chat_template);
    return (marks ? sp_learned_by_blocks : sp_learned_by_rendering)(m, conversation, first, out,
                                                                    err);
}
