#include "text/conversation.h"

#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"

const json_t *sp_conversation_messages(const json_t *conversation) {
    return json_is_object(conversation) ? json_object_get(conversation, "messages") : conversation;
}

json_t *sp_conversation_with(const json_t *conversation, json_t *messages) {
    if (!json_is_object(conversation)) {
        return messages;
    }
    json_t *made = json_copy((json_t *)(uintptr_t)conversation);
    if (json_object_set_new(made, "messages", messages) != 0) {
        json_decref(made);
        made = NULL;
    }
    return made;
}

json_t *sp_conversation_first(const json_t *conversation, size_t n) {
    const json_t *messages = sp_conversation_messages(conversation);
    json_t *some = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append(some, json_array_get(messages, i));
    }
    return sp_conversation_with(conversation, some);
}

json_t *sp_conversation_then(const json_t *conversation, const json_t *response) {
    json_t *all = json_copy((json_t *)(uintptr_t)sp_conversation_messages(conversation));
    if (json_is_array(response)) {
        json_array_extend(all, (json_t *)(uintptr_t)response);
    } else {
        json_array_append(all, (json_t *)(uintptr_t)response);
    }
    return sp_conversation_with(conversation, all);
}

/* ---- messages ---- */

json_t *sp_message(const char *role, const char *content) {
    return json_pack("{s:s, s:s}", "role", role, "content", content);
}

static bool holds_nothing(const json_t *value) {
    return json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

/* What a message may say beside its content. */
static const char *const SAID[] = {"tool_calls",        "function_call", "tool_responses",
                                   "reasoning_content", "thinking",      "reasoning"};

static bool says_more(const json_t *message) {
    bool more = false;
    for (size_t i = 0; i < sizeof SAID / sizeof *SAID; i++) {
        const json_t *value = json_object_get(message, SAID[i]);
        more = more || (value != NULL && !holds_nothing(value));
    }
    return more;
}

bool sp_message_is_empty(const json_t *message) {
    const json_t *content = json_object_get(message, "content");
    return (content == NULL || holds_nothing(content)) && !says_more(message);
}

bool sp_response_is_empty(const json_t *response) {
    const size_t n = json_array_size(response);
    return sp_message_is_empty(json_is_array(response) ? json_array_get(response, n - 1)
                                                       : response);
}

const char *sp_message_text(const json_t *message) {
    return says_more(message) ? NULL : json_string_value(json_object_get(message, "content"));
}

static void put_string(const json_t *string, sp_str *out) {
    sp_str_append(out, json_string_value(string), json_string_length(string));
}

void sp_message_put_text(const json_t *message, sp_str *out) {
    const json_t *content = json_object_get(message, "content");
    const json_t *calls = json_object_get(message, "tool_calls");
    if (json_is_string(content)) {
        put_string(content, out);
    }
    for (size_t i = 0; i < json_array_size(content); i++) {
        put_string(json_object_get(json_array_get(content, i), "text"), out);
    }
    if (json_array_size(calls) > 0) {
        char *text = json_dumps(calls, JSON_COMPACT);
        sp_str_puts(out, text != NULL ? text : "");
        out->failed = out->failed || text == NULL;
        free(text);
    }
}

/* ---- what stands beside the messages ---- */

typedef struct beside {
    const char *name, *expected;
    bool list; /* of objects; else an object */
} beside;

static const beside BESIDE[] = {
    {"tools", "a list of objects", true},
    {"documents", "a list of objects", true},
    {"chat_template_kwargs", "an object", false},
};

static bool fits(const beside *b, const json_t *value) {
    bool all = b->list ? json_is_array(value) : json_is_object(value);
    for (size_t i = 0; b->list && i < json_array_size(value); i++) {
        all = all && json_is_object(json_array_get(value, i));
    }
    return all;
}

/* What a row has by a name, as JSON or as a text of it: a new reference, NULL where there is none.
 * An empty list is none: templates that only ask whether there are tools would write of none. */
static spar_status read_beside(const beside *b, const json_t *row, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *given = json_object_get(row, b->name);
    json_t *value = NULL;
    *out = NULL;
    if (json_string_length(given) > 0) {
        SPAR_TRY(sp_json_parse_row(&value, json_string_value(given), json_string_length(given),
                                   b->name, err));
    } else {
        value = json_incref(given);
    }
    const bool none = value == NULL || (holds_nothing(value) && !json_is_array(value));
    if (!none && !fits(b, value)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected %s, found %s", b->name, b->expected,
                           b->list && json_is_array(value) ? "a list of others"
                                                           : sp_json_type_name(value)));
    }
    if (!none && !holds_nothing(value)) {
        *out = json_incref(value);
    }
done:
    json_decref(value);
    return status;
}

void sp_conversation_carry(json_t *to, const json_t *row) {
    for (size_t i = 0; i < sizeof BESIDE / sizeof *BESIDE; i++) {
        json_t *value = json_object_get(row, BESIDE[i].name);
        if (value != NULL) {
            json_object_set(to, BESIDE[i].name, value);
        }
    }
}

spar_status spar_conversation_of(json_t **out, const json_t *row, const json_t *messages,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *made = NULL;
    *out = NULL;
    for (size_t i = 0; i < sizeof BESIDE / sizeof *BESIDE; i++) {
        json_t *value = NULL;
        SPAR_TRY(read_beside(&BESIDE[i], row, &value, err));
        if (value != NULL) {
            made = made != NULL ? made : json_pack("{s:O}", "messages", messages);
            json_object_set_new(made, BESIDE[i].name, value);
        }
    }
    *out = made != NULL ? made : json_incref((json_t *)(uintptr_t)messages);
    made = NULL;
done:
    json_decref(made);
    return status;
}
