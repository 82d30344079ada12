/* Messages of rows of data, as chat templates read them. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "eval/dataset_parts.h"
#include "text/conversation.h"

spar_status sp_reading_wrong(const sp_reading *r, const char *field, const char *expected,
                             const char *found) {
    return spar_fail(r->err, SPAR_FORMAT, "%s: %s: expected %s, found %s", r->where, field,
                     expected, found);
}

spar_status sp_reading_wrong_type(const sp_reading *r, const char *field, const char *expected,
                                  const json_t *found) {
    return sp_reading_wrong(r, field, expected, sp_json_type_name(found));
}

spar_status sp_reading_no_memory(const sp_reading *r) {
    return spar_fail(r->err, SPAR_NO_MEMORY, "%s: out of memory for a row", r->where);
}

/* ---- messages ---- */

/* Append a message, which is stolen; NULL: memory ran out. */
static spar_status append(const sp_reading *r, json_t *list, json_t *message) {
    return json_array_append_new(list, message) == 0 ? SPAR_OK : sp_reading_no_memory(r);
}

spar_status sp_reading_append_text(const sp_reading *r, json_t *list, const char *role,
                                   const json_t *text) {
    return append(r, list, json_pack("{s:s, s:O}", "role", role, "content", text));
}

/* Names that programs have for who speaks, and the role that templates know. */
typedef struct speaker {
    const char *name, *role;
    bool calls; /* what is said is calls of functions, as a text of JSON */
} speaker;

static const speaker SPEAKERS[] = {
    {"human", "user", false},
    {"user", "user", false},
    {"gpt", "assistant", false},
    {"chatgpt", "assistant", false},
    {"assistant", "assistant", false},
    {"system", "system", false},
    {"developer", "developer", false},
    {"tool", "tool", false},
    {"observation", "tool", false},
    {"tool_response", "tool", false},
    {"function_response", "tool", false},
    {"function-response", "tool", false},
    {"function_call", "assistant", true},
    {"function-call", "assistant", true},
    {"tool_call", "assistant", true},
};

static const speaker *find_speaker(const char *name) {
    for (size_t i = 0; name != NULL && i < sizeof SPEAKERS / sizeof *SPEAKERS; i++) {
        if (strcmp(name, SPEAKERS[i].name) == 0) {
            return &SPEAKERS[i];
        }
    }
    return NULL;
}

/* A content that a template can read. */
static bool is_content(const json_t *content) {
    bool all = json_is_string(content) || json_is_array(content);
    for (size_t i = 0; i < json_array_size(content); i++) {
        all = all && json_is_object(json_array_get(content, i));
    }
    return all;
}

/* message: {role, content, ...}; name: what the row has in the place of "content". */
static spar_status check_content(const sp_reading *r, const char *field, const char *name,
                                 const json_t *message) {
    const json_t *content = json_object_get(message, "content");
    const bool none = content == NULL || json_is_null(content) ||
                      (json_is_array(content) && json_array_size(content) == 0);
    char expected[80];
    if (!(none ? sp_message_is_empty(message) : !is_content(content))) {
        return SPAR_OK;
    }
    snprintf(expected, sizeof expected, "\"%s\" of a message to be a string or a list of parts",
             name);
    return sp_reading_wrong(r, field, expected,
                            none                     ? "nothing"
                            : json_is_array(content) ? "a list of others"
                                                     : sp_json_type_name(content));
}

/* ---- calls ---- */

/* {"name", "arguments"}, alone or as the "function" of a call, as a call, whose arguments are an
 * object also where they came as a text of one; NULL: neither. */
static json_t *call_of(const json_t *given) {
    const json_t *inner = json_object_get(given, "function");
    const json_t *function = json_is_object(inner) ? inner : given;
    json_t *arguments = json_object_get(function, "arguments"), *parsed = NULL;
    if (!json_is_string(json_object_get(function, "name")) ||
        !(json_is_object(arguments) || json_is_string(arguments))) {
        return NULL;
    }
    if (json_is_string(arguments) &&
        sp_json_parse_row(&parsed, json_string_value(arguments), json_string_length(arguments), "",
                          NULL) == SPAR_OK &&
        json_is_object(parsed)) {
        arguments = parsed;
    }
    json_t *copy = json_copy((json_t *)(uintptr_t)function);
    json_object_set(copy, "arguments", arguments);
    json_decref(parsed);
    return json_pack("{s:s, s:o}", "type", "function", "function", copy);
}

/* In place of a message's content, which is a call or a list of them, as JSON or a text of it. */
static spar_status read_calls(const sp_reading *r, const char *field, json_t *message) {
    static const char expected[] = "a call as JSON of \"name\" and \"arguments\"";
    spar_status status = SPAR_OK;
    json_t *given = json_incref(json_object_get(message, "content"));
    json_t *calls = json_array(), *parsed = NULL;
    if (json_is_string(given)) {
        if (sp_json_parse_row(&parsed, json_string_value(given), json_string_length(given), field,
                              NULL) != SPAR_OK) {
            SPAR_TRY(sp_reading_wrong(r, field, expected, "another text"));
        }
        json_decref(given);
        given = parsed;
    }
    const size_t n = json_is_array(given) ? json_array_size(given) : 1;
    for (size_t i = 0; i < n; i++) {
        json_t *call = call_of(json_is_array(given) ? json_array_get(given, i) : given);
        if (call == NULL) {
            SPAR_TRY(sp_reading_wrong(r, field, expected, "other JSON"));
        }
        SPAR_TRY(append(r, calls, call));
    }
    if (n == 0) {
        SPAR_TRY(sp_reading_wrong(r, field, expected, "an empty list"));
    }
    if (json_object_set(message, "tool_calls", calls) != 0 ||
        json_object_set_new(message, "content", json_string("")) != 0) {
        SPAR_TRY(sp_reading_no_memory(r));
    }
done:
    json_decref(given);
    json_decref(calls);
    return status;
}

/* ---- one message ---- */

/* A copy of a message as {role, content, ...}, in this order, the others as they are. */
static json_t *in_form(const json_t *message, const char *role, const char *content_name) {
    json_t *made = json_pack("{s:s}", "role", role);
    json_t *content = json_object_get(message, content_name);
    if (content != NULL) {
        json_object_set(made, "content", content);
    }
    json_object_update_missing(made, (json_t *)(uintptr_t)message);
    if (strcmp(content_name, "content") != 0) {
        json_object_del(made, content_name);
        json_object_del(made, "from");
    }
    return made;
}

static spar_status unknown_speaker(const sp_reading *r, const char *field, bool shared,
                                   const json_t *name) {
    return sp_reading_wrong(r, field,
                            shared ? "\"from\" of human, gpt, system, tool, function_call or "
                                     "observation"
                                   : "a message with a \"role\"",
                            json_is_string(name) ? json_string_value(name)
                                                 : sp_json_type_name(name));
}

spar_status sp_reading_message(const sp_reading *r, const char *field, json_t *message,
                               json_t *list) {
    spar_status status = SPAR_OK;
    json_t *made = NULL;
    if (!json_is_object(message)) {
        return sp_reading_wrong_type(r, field, "a message object", message);
    }
    const json_t *role = json_object_get(message, "role"), *from = json_object_get(message, "from");
    const bool shared = from != NULL && (role == NULL || json_is_null(role));
    const char *name = json_string_value(shared ? from : role);
    const speaker *known = find_speaker(name);
    if (name == NULL || (shared && known == NULL)) { /* other roles are the template's to know */
        return unknown_speaker(r, field, shared, shared ? from : role);
    }
    const bool as_is = !shared && (known == NULL || strcmp(known->name, known->role) == 0);
    const char *content_name = shared ? "value" : "content";
    made = as_is ? json_incref(message) : in_form(message, known->role, content_name);
    if (made == NULL) {
        SPAR_TRY(sp_reading_no_memory(r));
    }
    SPAR_TRY(check_content(r, field, content_name, made));
    if (known != NULL && known->calls) {
        SPAR_TRY(read_calls(r, field, made));
    }
    SPAR_TRY(append(r, list, json_incref(made)));
done:
    json_decref(made);
    return status;
}

/* ---- lists ---- */

spar_status sp_reading_list(const sp_reading *r, const char *field, const json_t *value,
                            json_t **out) {
    spar_status status = SPAR_OK;
    json_t *list = json_array(), *parsed = NULL;
    if (list == NULL) {
        SPAR_TRY(sp_reading_no_memory(r));
    }
    if (json_is_string(value) &&
        sp_json_parse_row(&parsed, json_string_value(value), json_string_length(value), field,
                          NULL) == SPAR_OK &&
        json_is_array(parsed)) { /* a column of texts that are lists */
        value = parsed;
    }
    if (!json_is_array(value)) {
        SPAR_TRY(sp_reading_wrong_type(r, field, "a list of messages", value));
    }
    if (json_array_size(value) == 0) {
        SPAR_TRY(sp_reading_wrong(r, field, "at least one message", "an empty list"));
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        char place[64];
        snprintf(place, sizeof place, "%s[%zu]", field, i);
        SPAR_TRY(sp_reading_message(r, place, json_array_get(value, i), list));
    }
    *out = list;
    list = NULL;
done:
    json_decref(parsed);
    json_decref(list);
    return status;
}

/* ---- what stands beside the messages ---- */

/* A system message that a row has in a column of its own. */
spar_status sp_reading_system(const sp_reading *r) {
    static const char *const names[] = {"system", "system_prompt"};
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *text = json_object_get(r->row, names[i]);
        json_t *messages = r->out->prompt;
        const json_t *first = json_array_get(messages, 0);
        const char *role = json_string_value(json_object_get(first, "role"));
        if (text != NULL && !json_is_null(text) && !json_is_string(text)) {
            SPAR_TRY(sp_reading_wrong_type(r, names[i], "a string or nothing", text));
        }
        if (json_string_length(text) == 0) {
            continue;
        }
        if (role != NULL && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0)) {
            SPAR_TRY(json_equal(json_object_get(first, "content"), text)
                         ? SPAR_OK
                         : sp_reading_wrong(r, names[i], "the system message of the conversation",
                                            "another"));
            continue;
        }
        json_t *made = json_pack("{s:s, s:O}", "role", "system", "content", text);
        SPAR_TRY(json_array_insert_new(messages, 0, made) == 0 ? SPAR_OK : sp_reading_no_memory(r));
    }
done:
    return status;
}

/* Columns that messages refer to by marks such as <image>, with nothing for a model of text. */
spar_status sp_reading_no_media(const sp_reading *r) {
    static const char *const names[] = {"images", "image", "videos", "video", "audios", "audio"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *value = json_object_get(r->row, names[i]);
        const bool none = value == NULL || json_is_null(value) || json_is_string(value)
                              ? json_string_length(value) == 0
                              : json_is_array(value) && json_array_size(value) == 0;
        if (!none) {
            return spar_fail(r->err, SPAR_UNSUPPORTED,
                             "%s: %s: expected none, as models read text alone, found some",
                             r->where, names[i]);
        }
    }
    return SPAR_OK;
}

/* ShareGPT rows describe functions bare; templates know them as tools of the type function. */
spar_status sp_reading_wrap_tools(const sp_reading *r) {
    const json_t *first = json_array_get(json_object_get(r->row, "conversations"), 0);
    json_t *tools = json_object_get(r->out->prompt, "tools");
    if (json_object_get(first, "from") == NULL || tools == NULL) {
        return SPAR_OK;
    }
    json_t *wrapped = json_array();
    for (size_t i = 0; i < json_array_size(tools); i++) {
        json_t *tool = json_array_get(tools, i);
        const bool bare =
            json_is_string(json_object_get(tool, "name")) && !json_object_get(tool, "function");
        json_array_append_new(wrapped,
                              bare ? json_pack("{s:s, s:O}", "type", "function", "function", tool)
                                   : json_incref(tool));
    }
    if (json_array_size(wrapped) != json_array_size(tools)) {
        json_decref(wrapped);
        return sp_reading_no_memory(r);
    }
    return json_object_set_new(r->out->prompt, "tools", wrapped) == 0 ? SPAR_OK
                                                                      : sp_reading_no_memory(r);
}
