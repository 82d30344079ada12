#include "spar/chat_template.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text/chat_mask.h"
#include "text/conversation.h"
#include "text/jinja_eval.h"
#include "text/jinja_marks.h"

enum { TEMPLATE_MAX = 4 << 20 }; /* bytes of source */

struct spar_template {
    sp_jinja compiled;    /* owns the tree through its arena */
    char *where, *source; /* owned */
    const sp_jnode *body;
    spar_template *for_tools; /* owned; NULL: this one */
};

static void release(sp_jinja *r) {
    sp_arena_release(&r->arena);
}

static spar_status report(const sp_jinja *r, spar_error *err) {
    return r->failed ? spar_fail(err, r->error.code, "%s", r->error.message) : SPAR_OK;
}

spar_status spar_template_compile(spar_template **out, const char *source, size_t n,
                                  const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_template *t = NULL;
    *out = NULL;
    SPAR_TRY(sp_mem_calloc((void **)&t, 1, sizeof *t, err));
    SPAR_TRY(sp_mem_strdup(&t->where, where, strlen(where), err));
    SPAR_TRY(sp_mem_strdup(&t->source, source, n, err));
    if (n > TEMPLATE_MAX) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT, "%s: a template of %zu bytes, expected at most %d",
                           where, n, TEMPLATE_MAX));
    }
    sp_arena_init(&t->compiled.arena);
    t->compiled.where = t->where;
    t->body = sp_jinja_parse(&t->compiled, source, n);
    SPAR_TRY(report(&t->compiled, err));
    *out = t;
    t = NULL;
done:
    spar_template_free(t);
    return status;
}

void spar_template_free(spar_template *t) {
    if (t != NULL) {
        release(&t->compiled);
        spar_template_free(t->for_tools);
        free(t->where);
        free(t->source);
        free(t);
    }
}

void spar_template_add_tools(spar_template *t, spar_template *for_tools) {
    spar_template_free(t->for_tools);
    t->for_tools = for_tools;
}

spar_status spar_template_of_tokenizer(spar_template **out, const spar_tokenizer *tokenizer,
                                       const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *plain = spar_tokenizer_chat_template(tokenizer);
    const char *tools = spar_tokenizer_tool_template(tokenizer);
    spar_template *t = NULL, *other = NULL;
    *out = NULL;
    if (plain != NULL) {
        SPAR_TRY(spar_template_compile(&t, plain, strlen(plain), where, err));
    }
    if (plain != NULL && tools != NULL) {
        SPAR_TRY(spar_template_compile(&other, tools, strlen(tools), where, err));
        spar_template_add_tools(t, other);
    }
    *out = t;
    t = NULL;
done:
    spar_template_free(t);
    return status;
}

const char *spar_template_source(const spar_template *t) {
    return t->source;
}

const char *spar_template_tools_source(const spar_template *t) {
    return t->for_tools != NULL ? t->for_tools->source : NULL;
}

static bool define_text(sp_jinja *r, sp_jscope *scope, const char *name, const char *text) {
    return text == NULL || sp_jinja_define(r, scope, name, sp_jinja_text(r, text, strlen(text)));
}

static bool define_builtins(sp_jinja *r, sp_jscope *scope) {
    for (const sp_jrow *row = sp_jinja_builtins; row->name != NULL; row++) {
        const sp_jval callable = sp_jinja_callable(r, (sp_jcallable){.row = row});
        if (!sp_jinja_define(r, scope, row->name, callable)) {
            return false;
        }
    }
    return true;
}

/* ---- what the template sees ---- */

/* A message without members that are null, and its reasoning under both names that templates read:
 * chat_template.h. The order is transformers', for templates that write a message as JSON. */
static sp_jval message_value(sp_jinja *r, const json_t *message) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    const json_t *reasoning = NULL;
    const char *key = NULL;
    json_t *value = NULL;
    if (!json_is_object(message)) {
        return sp_jinja_from_json(r, message);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names && reasoning == NULL; i++) {
        const json_t *given = json_object_get(message, names[i]);
        reasoning = json_is_null(given) ? NULL : given;
    }
    sp_jval dict = sp_jinja_dict(r, J_DICT);
    bool good = reasoning == NULL ||
                sp_jinja_put_text(r, dict, "thinking", sp_jinja_from_json(r, reasoning));
    json_object_foreach((json_t *)(uintptr_t)message, key, value) {
        good = good && (json_is_null(value) ||
                        sp_jinja_put_text(r, dict, key, sp_jinja_from_json(r, value)));
    }
    good = good && (reasoning == NULL || sp_jinja_put_text(r, dict, "reasoning_content",
                                                           sp_jinja_from_json(r, reasoning)));
    return good ? dict : sp_jinja_failed();
}

static sp_jval messages_value(sp_jinja *r, const json_t *messages) {
    sp_jval list = sp_jinja_list(r, J_LIST, json_array_size(messages));
    for (size_t i = 0; i < json_array_size(messages) && !r->failed; i++) {
        sp_jinja_push(r, list, message_value(r, json_array_get(messages, i)));
    }
    return r->failed ? sp_jinja_failed() : list;
}

static bool define_variables(sp_jinja *r, sp_jscope *scope, const json_t *variables) {
    const char *key = NULL;
    json_t *value = NULL;
    if (variables != NULL && !json_is_object(variables)) {
        sp_jinja_error(r, SPAR_INVALID, "chat_template_kwargs must be an object");
        return false;
    }
    json_object_foreach((json_t *)(uintptr_t)variables, key, value) {
        if (!sp_jinja_define(r, scope, key, sp_jinja_from_json(r, value))) {
            return false;
        }
    }
    return true;
}

/* In transformers' order: later ones hide earlier ones. */
static bool define_all(sp_jinja *r, sp_jscope *scope, const json_t *conversation,
                       const spar_render_options *o) {
    const json_t *messages = sp_conversation_messages(conversation);
    if (!json_is_array(messages)) {
        sp_jinja_error(r, SPAR_INVALID, "the messages must be an array");
        return false;
    }
    return define_builtins(r, scope) && define_text(r, scope, "bos_token", o->bos) &&
           define_text(r, scope, "eos_token", o->eos) &&
           define_text(r, scope, "pad_token", o->pad) &&
           define_text(r, scope, "unk_token", o->unk) &&
           sp_jinja_define(r, scope, "messages", messages_value(r, messages)) &&
           sp_jinja_define(r, scope, "tools",
                           sp_jinja_from_json(r, json_object_get(conversation, "tools"))) &&
           sp_jinja_define(r, scope, "documents",
                           sp_jinja_from_json(r, json_object_get(conversation, "documents"))) &&
           sp_jinja_define(r, scope, "add_generation_prompt",
                           sp_jinja_bool(o->add_generation_prompt)) &&
           define_variables(r, scope, json_object_get(conversation, "chat_template_kwargs"));
}

bool spar_template_marks(const spar_template *t) {
    return t->compiled.marks && (t->for_tools == NULL || t->for_tools->compiled.marks);
}

/* What the blocks wrote of the render's text: *spans is owned by the caller. */
static spar_status copy_spans(const sp_jmarks *marks, spar_text_span **spans, size_t *n,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    *spans = NULL;
    *n = marks->n;
    if (marks->n > 0) {
        SPAR_TRY(sp_mem_calloc(&memory, marks->n, sizeof **spans, err));
        *spans = memory;
    }
    for (size_t i = 0; i < marks->n; i++) {
        (*spans)[i] = (spar_text_span){marks->items[i].begin, marks->items[i].end};
    }
done:
    return status;
}

static bool has_tools(const json_t *conversation) {
    const json_t *tools = json_object_get(conversation, "tools");
    return tools != NULL && !json_is_null(tools);
}

/* spans: what the generation blocks wrote; NULL: it is not asked. */
static spar_status render(const spar_template *t, const struct json_t *conversation,
                          const spar_render_options *options, char **text, size_t *n,
                          spar_text_span **spans, size_t *n_spans, spar_error *err) {
    const spar_render_options plain = {0};
    const spar_render_options *o = options == NULL ? &plain : options;
    spar_status status = SPAR_OK;
    if (t->for_tools != NULL && has_tools(conversation)) {
        t = t->for_tools;
    }
    sp_str out = SP_STR_INIT;
    sp_jmarks marks = {0};
    sp_jtraces traces = {0};
    sp_jinja r = {.where = t->where,
                  .line = 1,
                  .now = o->now,
                  .out = &out,
                  .marked = spans != NULL ? &marks : NULL,
                  .traces = &traces};
    *text = NULL;
    sp_arena_init(&r.arena);
    sp_jscope *globals = sp_jinja_scope(&r, NULL);
    sp_jscope *scope = globals == NULL ? NULL : sp_jinja_scope(&r, globals);
    if (scope != NULL && define_all(&r, globals, conversation, o)) {
        sp_jinja_exec(&r, scope, t->body);
        sp_jinja_marks_settled(&r);
    }
    SPAR_TRY(report(&r, err));
    if (n != NULL) {
        *n = out.len;
    }
    if (spans != NULL) {
        SPAR_TRY(copy_spans(&marks, spans, n_spans, err));
    }
    SPAR_TRY(sp_str_take(&out, text, err));
done:
    if (status != SPAR_OK && spans != NULL) {
        free(*spans);
        *spans = NULL;
    }
    sp_str_release(&out);
    release(&r);
    return status;
}

spar_status spar_template_render(const spar_template *t, const struct json_t *conversation,
                                 const spar_render_options *options, char **text, size_t *n,
                                 spar_error *err) {
    return render(t, conversation, options, text, n, NULL, NULL, err);
}

spar_status spar_template_render_spans(const spar_template *t, const struct json_t *conversation,
                                       const spar_render_options *options, char **text, size_t *n,
                                       spar_text_span **spans, size_t *n_spans, spar_error *err) {
    *spans = NULL;
    return render(t, conversation, options, text, n, spans, n_spans, err);
}

spar_status spar_template_tokens(const spar_template *t, const spar_tokenizer *tokenizer,
                                 const struct json_t *conversation,
                                 const spar_render_options *options, int32_t **ids, uint8_t **mask,
                                 size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = NULL;
    spar_text_span *spans = NULL;
    size_t n_text, n_spans;
    SPAR_TRY(spar_template_render_spans(t, conversation, options, &text, &n_text, &spans, &n_spans,
                                        err));
    SPAR_TRY(sp_mask_encode(tokenizer, text, n_text, spans, n_spans, ids, mask, n, err));
done:
    free(text);
    free(spans);
    return status;
}
