/* Messages of rows of data, as chat templates read them. */
#include <stdbool.h>
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

/* The role of a message: "from" has its own names for them. */
static const char *role_of(const json_t *message) {
    static const char *const roles[][2] = {{"human", "user"},    {"gpt", "assistant"},
                                           {"user", "user"},     {"assistant", "assistant"},
                                           {"system", "system"}, {"tool", "tool"}};
    const json_t *role = json_object_get(message, "role"), *from = json_object_get(message, "from");
    if (role != NULL || !json_is_string(from)) {
        return json_string_value(role);
    }
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(json_string_value(from), roles[i][0]) == 0) {
            return roles[i][1];
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

/* Append one message {role, content, ...}. */
static spar_status read_turn(const sp_reading *r, const char *field, json_t *message,
                             json_t *list) {
    const json_t *content = json_object_get(message, "content");
    const bool none = content == NULL || json_is_null(content) ||
                      (json_is_array(content) && json_array_size(content) == 0);
    if (none ? sp_message_is_empty(message) : !is_content(content)) {
        return sp_reading_wrong(r, field,
                                "\"content\" of a message to be a string or a list of parts",
                                none                     ? "nothing"
                                : json_is_array(content) ? "a list of others"
                                                         : sp_json_type_name(content));
    }
    return append(r, list, json_incref(message));
}

/* Append one message {from, value, ...} as {role, content, ...}. */
static spar_status read_shared_turn(const sp_reading *r, const char *field, const json_t *message,
                                    json_t *list) {
    const json_t *content = json_object_get(message, "value");
    if (!json_is_string(content)) {
        return sp_reading_wrong_type(r, field, "\"value\" of a message to be a string", content);
    }
    json_t *made = json_pack("{s:s, s:O}", "role", role_of(message), "content", content);
    json_object_update_missing(made, (json_t *)(uintptr_t)message);
    json_object_del(made, "from");
    json_object_del(made, "value");
    return append(r, list, made);
}

/* Append one message of either kind to list. */
spar_status sp_reading_message(const sp_reading *r, const char *field, json_t *message,
                               json_t *list) {
    const bool shared =
        json_object_get(message, "from") != NULL && json_object_get(message, "role") == NULL;
    if (!json_is_object(message)) {
        return sp_reading_wrong_type(r, field, "a message object", message);
    }
    if (role_of(message) == NULL) {
        const json_t *given = json_object_get(message, shared ? "from" : "role");
        return sp_reading_wrong(
            r, field,
            shared ? "\"from\" of human, gpt, system or tool" : "a message with a \"role\"",
            json_is_string(given) ? json_string_value(given) : sp_json_type_name(given));
    }
    return shared ? read_shared_turn(r, field, message, list) : read_turn(r, field, message, list);
}

/* A list of messages, not empty; *out is a new reference. */
spar_status sp_reading_list(const sp_reading *r, const char *field, const json_t *value,
                            json_t **out) {
    spar_status status = SPAR_OK;
    json_t *list = json_array();
    if (list == NULL) {
        SPAR_TRY(sp_reading_no_memory(r));
    }
    if (!json_is_array(value)) {
        SPAR_TRY(sp_reading_wrong_type(r, field, "a list of messages", value));
    }
    if (json_array_size(value) == 0) {
        SPAR_TRY(sp_reading_wrong(r, field, "at least one message", "an empty list"));
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        SPAR_TRY(sp_reading_message(r, field, json_array_get(value, i), list));
    }
    *out = list;
    list = NULL;
done:
    json_decref(list);
    return status;
}
