#include "eval/dataset.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "spar/rows.h"
#include "text/conversation.h"

/* A row being read. The strings and messages are moved into the dataset. */
typedef struct reading {
    const json_t *row; /* borrowed */
    const char *where; /* borrowed: "file:line" */
    unsigned wants;
    sp_dataset_row *out;
    spar_error *err;
} reading;

static spar_status wrong(const reading *r, const char *field, const char *expected,
                         const char *found) {
    return spar_fail(r->err, SPAR_FORMAT, "%s: %s: expected %s, found %s", r->where, field,
                     expected, found);
}

static spar_status wrong_type(const reading *r, const char *field, const char *expected,
                              const json_t *found) {
    return wrong(r, field, expected, sp_json_type_name(found));
}

static spar_status no_memory(const reading *r) {
    return spar_fail(r->err, SPAR_NO_MEMORY, "%s: out of memory for a row", r->where);
}

/* ---- messages ---- */

/* Append a message, which is stolen; NULL: memory ran out. */
static spar_status append(const reading *r, json_t *list, json_t *message) {
    return json_array_append_new(list, message) == 0 ? SPAR_OK : no_memory(r);
}

static spar_status append_text(const reading *r, json_t *list, const char *role,
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
static spar_status read_turn(const reading *r, const char *field, json_t *message, json_t *list) {
    const json_t *content = json_object_get(message, "content");
    const bool none = content == NULL || json_is_null(content) ||
                      (json_is_array(content) && json_array_size(content) == 0);
    if (none ? sp_message_is_empty(message) : !is_content(content)) {
        return wrong(r, field, "\"content\" of a message to be a string or a list of parts",
                     none                     ? "nothing"
                     : json_is_array(content) ? "a list of others"
                                              : sp_json_type_name(content));
    }
    return append(r, list, json_incref(message));
}

/* Append one message {from, value, ...} as {role, content, ...}. */
static spar_status read_shared_turn(const reading *r, const char *field, const json_t *message,
                                    json_t *list) {
    const json_t *content = json_object_get(message, "value");
    if (!json_is_string(content)) {
        return wrong_type(r, field, "\"value\" of a message to be a string", content);
    }
    json_t *made = json_pack("{s:s, s:O}", "role", role_of(message), "content", content);
    json_object_update_missing(made, (json_t *)(uintptr_t)message);
    json_object_del(made, "from");
    json_object_del(made, "value");
    return append(r, list, made);
}

/* Append one message of either kind to list. */
static spar_status read_message(const reading *r, const char *field, json_t *message,
                                json_t *list) {
    const bool shared =
        json_object_get(message, "from") != NULL && json_object_get(message, "role") == NULL;
    if (!json_is_object(message)) {
        return wrong_type(r, field, "a message object", message);
    }
    if (role_of(message) == NULL) {
        const json_t *given = json_object_get(message, shared ? "from" : "role");
        return wrong(r, field,
                     shared ? "\"from\" of human, gpt, system or tool"
                            : "a message with a \"role\"",
                     json_is_string(given) ? json_string_value(given) : sp_json_type_name(given));
    }
    return shared ? read_shared_turn(r, field, message, list) : read_turn(r, field, message, list);
}

/* A list of messages, not empty; *out is a new reference. */
static spar_status read_list(const reading *r, const char *field, const json_t *value,
                             json_t **out) {
    spar_status status = SPAR_OK;
    json_t *list = json_array();
    if (list == NULL) {
        SPAR_TRY(no_memory(r));
    }
    if (!json_is_array(value)) {
        SPAR_TRY(wrong_type(r, field, "a list of messages", value));
    }
    if (json_array_size(value) == 0) {
        SPAR_TRY(wrong(r, field, "at least one message", "an empty list"));
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        SPAR_TRY(read_message(r, field, json_array_get(value, i), list));
    }
    *out = list;
    list = NULL;
done:
    json_decref(list);
    return status;
}

/* The prompt: a string, which is the user's message, or a list of messages. */
static spar_status read_prompt(const reading *r, const char *field) {
    spar_status status = SPAR_OK;
    const json_t *value = json_object_get(r->row, field);
    if (json_is_array(value)) {
        SPAR_TRY(read_list(r, field, value, &r->out->prompt));
        goto done;
    }
    if (!json_is_string(value)) {
        SPAR_TRY(wrong_type(r, field, "a string or a list of messages", value));
    }
    if (json_string_length(value) == 0) { /* what a table has where a field is missing */
        SPAR_TRY(wrong(r, field, "a prompt", "an empty one"));
    }
    r->out->prompt = json_array();
    SPAR_TRY(append_text(r, r->out->prompt, "user", value));
done:
    return status;
}

/* Take the last message of list, which must be the assistant's, as *response. */
static spar_status split_response(const reading *r, const char *field, json_t *list,
                                  json_t **response) {
    spar_status status = SPAR_OK;
    const size_t last = json_array_size(list) - 1;
    json_t *message = json_array_get(list, last);
    const char *role = json_string_value(json_object_get(message, "role"));
    if (strcmp(role, "assistant") != 0) {
        SPAR_TRY(wrong(r, field, "a last message of the assistant", role));
    }
    *response = json_incref(message);
    json_array_remove(list, last);
done:
    return status;
}

/* The assistant's message of a text. */
static spar_status text_response(const reading *r, const json_t *text, json_t **response) {
    *response = json_pack("{s:s, s:O}", "role", "assistant", "content", text);
    return *response != NULL ? SPAR_OK : no_memory(r);
}

/* A response: a string, a message or a list of messages. *before: the messages that a list has
 * before it, a new reference, or NULL. */
static spar_status read_response(const reading *r, const char *field, json_t **response,
                                 json_t **before) {
    spar_status status = SPAR_OK;
    json_t *list = NULL;
    json_t *value = json_object_get(r->row, field);
    *before = NULL;
    if (json_is_string(value)) {
        SPAR_TRY(text_response(r, value, response));
        goto done;
    }
    if (json_is_object(value)) {
        list = json_array();
        SPAR_TRY(list != NULL ? read_message(r, field, value, list) : no_memory(r));
    } else if (json_is_array(value)) {
        SPAR_TRY(read_list(r, field, value, &list));
    } else {
        SPAR_TRY(wrong_type(r, field, "a string or a list of messages", value));
    }
    SPAR_TRY(split_response(r, field, list, response));
    if (json_array_size(list) > 0) {
        *before = list;
        list = NULL;
    }
done:
    json_decref(list);
    return status;
}

/* Whether two messages say the same where both say something. */
static bool agree(const json_t *a, const json_t *b) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)a, key, value) {
        const json_t *other = json_object_get(b, key);
        if (other != NULL && !json_is_null(other) && !json_is_null(value) &&
            !json_equal(value, other)) {
            return false;
        }
    }
    return true;
}

static bool all_agree(const json_t *a, const json_t *b) {
    bool all = json_array_size(a) == json_array_size(b);
    for (size_t i = 0; all && i < json_array_size(a); i++) {
        all = agree(json_array_get(a, i), json_array_get(b, i));
    }
    return all;
}

/* A response whose list may repeat the prompt. Without a prompt so far it gives the prompt. */
static spar_status read_answer(const reading *r, const char *field, json_t **response) {
    spar_status status = SPAR_OK;
    json_t *before = NULL;
    SPAR_TRY(read_response(r, field, response, &before));
    if (r->out->prompt == NULL) {
        if (before == NULL) {
            SPAR_TRY(wrong(r, field, "the prompt's messages before the response", "none"));
        }
        r->out->prompt = json_incref(before);
    }
    if (before != NULL && !all_agree(before, r->out->prompt)) {
        SPAR_TRY(
            wrong(r, field, "the messages of the prompt before the response", "other messages"));
    }
done:
    json_decref(before);
    return status;
}

/* ---- transcripts ---- */

static const struct {
    const char *marker, *role;
} SPEAKERS[] = {{"\n\nHuman:", "user"}, {"\n\nAssistant:", "assistant"}};
enum { SPEAKER_COUNT = sizeof SPEAKERS / sizeof *SPEAKERS };

/* Where the next turn of text begins, and whose it is; NULL: there is none. */
static const char *next_turn(const char *text, size_t *speaker) {
    const char *first = NULL;
    for (size_t i = 0; i < SPEAKER_COUNT; i++) {
        const char *at = strstr(text, SPEAKERS[i].marker);
        if (at != NULL && (first == NULL || at < first)) {
            first = at;
            *speaker = i;
        }
    }
    return first;
}

static bool is_space(char c) {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static spar_status append_turn(const reading *r, json_t *list, size_t speaker, const char *begin,
                               const char *end) {
    while (begin < end && is_space(*begin)) {
        begin++;
    }
    while (end > begin && is_space(end[-1])) {
        end--;
    }
    json_t *content = json_stringn(begin, (size_t)(end - begin));
    const spar_status status =
        content != NULL ? append_text(r, list, SPEAKERS[speaker].role, content) : no_memory(r);
    json_decref(content);
    return status;
}

/* A text of turns as a list of messages, without the space around each; *out is a new reference. */
static spar_status read_transcript(const reading *r, const char *field, json_t **out) {
    spar_status status = SPAR_OK;
    const json_t *value = json_object_get(r->row, field);
    const char *text = json_string_value(value);
    size_t speaker = 0, following = 0;
    json_t *list = json_array();
    if (list == NULL) {
        SPAR_TRY(no_memory(r));
    }
    if (text == NULL || strlen(text) != json_string_length(value)) {
        SPAR_TRY(wrong(r, field, "a transcript",
                       text == NULL ? sp_json_type_name(value) : "a text with U+0000"));
    }
    const char *turn = next_turn(text, &speaker);
    if (turn != text) {
        SPAR_TRY(wrong(r, field,
                       "a transcript that begins with an empty line and Human:", "another text"));
    }
    while (turn != NULL) {
        const char *begin = turn + strlen(SPEAKERS[speaker].marker);
        const char *next = next_turn(begin, &following);
        SPAR_TRY(append_turn(r, list, speaker, begin, next != NULL ? next : begin + strlen(begin)));
        turn = next;
        speaker = following;
    }
    *out = list;
    list = NULL;
done:
    json_decref(list);
    return status;
}

/* Whether a row of chosen and rejected holds transcripts rather than lists of messages. */
static bool holds_transcripts(const json_t *row) {
    return json_is_string(json_object_get(row, "chosen"));
}

static spar_status read_transcripts(const reading *r) {
    spar_status status = SPAR_OK;
    json_t *good = NULL, *bad = NULL;
    SPAR_TRY(read_transcript(r, "chosen", &good));
    SPAR_TRY(read_transcript(r, "rejected", &bad));
    SPAR_TRY(split_response(r, "chosen", good, &r->out->response));
    SPAR_TRY(split_response(r, "rejected", bad, &r->out->rejected));
    if (json_array_size(good) == 0) {
        SPAR_TRY(wrong(r, "chosen", "a prompt before the response", "the response alone"));
    }
    if (!json_equal(good, bad)) {
        SPAR_TRY(wrong(r, "rejected", "the turns of chosen before the last", "other turns"));
    }
    r->out->prompt = json_incref(good);
done:
    json_decref(good);
    json_decref(bad);
    return status;
}

/* ---- scores ---- */

spar_status sp_dataset_scores(const json_t *row, double *chosen, double *rejected,
                              spar_error *err) {
    static const char *const names[][2] = {{"score_chosen", "score_rejected"},
                                           {"chosen_score", "rejected_score"},
                                           {"chosen_probs_win", "chosen_probs_lose"}};
    *chosen = *rejected = (double)NAN;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *pair[2] = {json_object_get(row, names[i][0]),
                                 json_object_get(row, names[i][1])};
        for (size_t k = 0; k < 2 && (pair[0] || pair[1]); k++) {
            if (!json_is_number(pair[k])) {
                return spar_fail(err, SPAR_FORMAT, "%s: expected a number, found %s", names[i][k],
                                 pair[k] ? sp_json_type_name(pair[k]) : "none");
            }
            *(k ? rejected : chosen) = json_number_value(pair[k]);
        }
    }
    return SPAR_OK;
}

/* ---- layouts ---- */

static spar_status read_whole(const reading *r, const char *field) {
    spar_status status = SPAR_OK;
    SPAR_TRY(read_list(r, field, json_object_get(r->row, field), &r->out->prompt));
    SPAR_TRY(split_response(r, field, r->out->prompt, &r->out->response));
    if (json_array_size(r->out->prompt) == 0) {
        SPAR_TRY(wrong(r, field, "a prompt before the response", "the response alone"));
    }
done:
    return status;
}

static spar_status read_messages(const reading *r) {
    return read_whole(r, "messages");
}

static spar_status read_conversations(const reading *r) {
    return read_whole(r, "conversations");
}

static spar_status read_completion(const reading *r) {
    spar_status status = SPAR_OK;
    SPAR_TRY(read_prompt(r, "prompt"));
    SPAR_TRY(read_answer(r, "completion", &r->out->response));
done:
    return status;
}

/* The instruction, and its input after an empty line, as the user's message. */
static spar_status read_instruction_prompt(const reading *r) {
    spar_status status = SPAR_OK;
    sp_str text = SP_STR_INIT;
    json_t *content = NULL;
    const json_t *instruction = json_object_get(r->row, "instruction");
    const json_t *input = json_object_get(r->row, "input");
    if (!json_is_string(instruction)) {
        SPAR_TRY(wrong_type(r, "instruction", "a string", instruction));
    }
    if (input != NULL && !json_is_null(input) && !json_is_string(input)) {
        SPAR_TRY(wrong_type(r, "input", "a string or nothing", input));
    }
    if (json_string_length(instruction) == 0 && json_string_length(input) == 0) {
        SPAR_TRY(wrong(r, "instruction", "a prompt", "an empty one"));
    }
    sp_str_puts(&text, json_string_value(instruction));
    if (json_string_length(input) > 0) {
        sp_str_printf(&text, "\n\n%s", json_string_value(input));
    }
    SPAR_TRY(sp_str_status(&text, r->err));
    content = json_stringn(sp_str_get(&text), text.len);
    r->out->prompt = json_array();
    if (content == NULL || r->out->prompt == NULL) {
        SPAR_TRY(no_memory(r));
    }
    SPAR_TRY(append_text(r, r->out->prompt, "user", content));
done:
    json_decref(content);
    sp_str_release(&text);
    return status;
}

static spar_status read_instruction(const reading *r) {
    spar_status status = SPAR_OK;
    const json_t *output = json_object_get(r->row, "output");
    SPAR_TRY(read_instruction_prompt(r));
    if (!json_is_string(output)) {
        SPAR_TRY(wrong_type(r, "output", "a string", output));
    }
    SPAR_TRY(text_response(r, output, &r->out->response));
done:
    return status;
}

static spar_status read_pair(const reading *r, const char *good, const char *bad) {
    spar_status status = SPAR_OK;
    SPAR_TRY(read_answer(r, good, &r->out->response));
    SPAR_TRY(read_answer(r, bad, &r->out->rejected));
done:
    return status;
}

static spar_status read_generated(const reading *r) {
    return read_pair(r, "real", "generated");
}

static spar_status read_preference(const reading *r) {
    return read_pair(r, "chosen", "rejected");
}

static spar_status read_prompt_preference(const reading *r) {
    const spar_status status = read_prompt(r, "prompt");
    return status == SPAR_OK ? read_preference(r) : status;
}

static spar_status read_conversations_preference(const reading *r) {
    const spar_status status =
        read_list(r, "conversations", json_object_get(r->row, "conversations"), &r->out->prompt);
    return status == SPAR_OK ? read_preference(r) : status;
}

static spar_status read_instruction_preference(const reading *r) {
    const spar_status status = read_instruction_prompt(r);
    return status == SPAR_OK ? read_preference(r) : status;
}

/* What the responses are is the caller's to read. */
static spar_status read_group(const reading *r) {
    const spar_status status = read_prompt(r, "prompt");
    r->out->row = json_incref((json_t *)(uintptr_t)r->row);
    return status;
}

typedef struct layout {
    const char *name, *sentence;
    const char *fields[4]; /* a row with all of them has this layout */
    spar_status (*read)(const reading *r);
    bool (*holds)(const json_t *row); /* and what its values must be like; may be NULL */
    unsigned wants;                   /* only where this is wanted; 0: always */
} layout;

/* The first that fits is taken: those with more members come first. */
static const layout LAYOUTS[] = {
    {"responses",
     "rows of prompt and responses",
     {"prompt", "responses"},
     read_group,
     NULL,
     SP_DATASET_GROUPS},
    {"responses",
     "rows of prompt and completions",
     {"prompt", "completions"},
     read_group,
     NULL,
     SP_DATASET_GROUPS},
    {"preference",
     "rows of prompt, chosen and rejected: chosen is the response",
     {"prompt", "chosen", "rejected"},
     read_prompt_preference,
     NULL,
     0},
    {"preference",
     "rows of conversations, chosen and rejected: chosen is the response",
     {"conversations", "chosen", "rejected"},
     read_conversations_preference,
     NULL,
     0},
    {"preference",
     "rows of instruction, input, chosen and rejected: chosen is the response",
     {"instruction", "chosen", "rejected"},
     read_instruction_preference,
     NULL,
     0},
    {"transcripts",
     "rows of chosen and rejected transcripts (Human:, Assistant:): chosen ends in the response",
     {"chosen", "rejected"},
     read_transcripts,
     holds_transcripts,
     0},
    {"preference",
     "rows of chosen and rejected conversations: chosen ends in the response",
     {"chosen", "rejected"},
     read_preference,
     NULL,
     0},
    {"real-generated",
     "rows of real and generated conversations: real ends in the response",
     {"real", "generated"},
     read_generated,
     NULL,
     0},
    {"messages",
     "rows of messages: the last, of the assistant, is the response",
     {"messages"},
     read_messages,
     NULL,
     0},
    {"conversations",
     "rows of conversations: the last turn, of gpt, is the response",
     {"conversations"},
     read_conversations,
     NULL,
     0},
    {"prompt-completion",
     "rows of prompt and completion",
     {"prompt", "completion"},
     read_completion,
     NULL,
     0},
    {"instruction",
     "rows of instruction, input and output",
     {"instruction", "output"},
     read_instruction,
     NULL,
     0},
};
enum { LAYOUT_COUNT = sizeof LAYOUTS / sizeof *LAYOUTS };

static bool fits(const layout *l, const json_t *row, unsigned wants) {
    bool all = l->wants == 0 || (l->wants & wants) != 0;
    for (size_t i = 0; i < sizeof l->fields / sizeof *l->fields && l->fields[i] != NULL; i++) {
        all = all && json_object_get(row, l->fields[i]) != NULL;
    }
    return all && (l->holds == NULL || l->holds(row));
}

/* The members of a row as a list, for messages; the first few name it well enough. */
static void list_members(sp_str *out, const json_t *row) {
    enum { MEMBERS_SHOWN = 8 };
    int shown = 0;
    for (void *at = json_object_iter((json_t *)(uintptr_t)row); at != NULL && shown < MEMBERS_SHOWN;
         at = json_object_iter_next((json_t *)(uintptr_t)row, at)) {
        sp_str_printf(out, "%s\"%.40s\"", shown++ > 0 ? ", " : "", json_object_iter_key(at));
    }
    sp_str_puts(out, shown == 0 ? "no members" : "");
}

static spar_status find_layout(const layout **out, const reading *r) {
    for (size_t i = 0; i < LAYOUT_COUNT; i++) {
        if (fits(&LAYOUTS[i], r->row, r->wants)) {
            *out = &LAYOUTS[i];
            return SPAR_OK;
        }
    }
    sp_str members = SP_STR_INIT;
    list_members(&members, r->row);
    const spar_status status =
        wrong(r, "row",
              r->wants & SP_DATASET_GROUPS
                  ? "prompt and responses, or chosen and rejected"
                  : "messages, conversations, prompt and completion, instruction and output, real "
                    "and generated, or chosen and rejected",
              sp_str_get(&members));
    sp_str_release(&members);
    return status;
}

/* Data of single judged responses (KTO) looks like data of responses to learn, but for its label:
 * a bad response must not be learned as a good one. */
static spar_status check_label(const reading *r) {
    const json_t *label = json_object_get(r->row, "label");
    if (r->wants & SP_DATASET_LABELS) {
        r->out->bad = json_is_false(label);
        return json_is_boolean(label) ? SPAR_OK : wrong_type(r, "label", "true or false", label);
    }
    if (r->out->rejected == NULL && json_is_false(label)) {
        return wrong(r, "label", "true or nothing, of a response to learn", "false");
    }
    return SPAR_OK;
}

/* ---- loading ---- */

static void row_release(sp_dataset_row *row) {
    json_decref(row->prompt);
    json_decref(row->response);
    json_decref(row->rejected);
    json_decref(row->base);
    json_decref(row->row);
    free(row->where);
}

void sp_dataset_free(sp_dataset *data) {
    if (data == NULL) {
        return;
    }
    for (size_t i = 0; i < data->n; i++) {
        row_release(&data->rows[i]);
    }
    free(data->rows);
    free(data);
}

/* What else the template reads of a row goes with its prompt. */
static spar_status read_beside(const reading *r) {
    json_t *prompt = NULL;
    const spar_status status = spar_conversation_of(&prompt, r->row, r->out->prompt, r->err);
    if (status != SPAR_OK) {
        spar_error_context(r->err, "%s", r->where);
        return status;
    }
    json_decref(r->out->prompt);
    r->out->prompt = prompt;
    return SPAR_OK;
}

static spar_status add_row(sp_dataset *data, const layout **shape, const json_t *row,
                           unsigned wants, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dataset_row out = {0};
    SPAR_TRY(sp_mem_strdup(&out.where, where, strlen(where), err));
    const reading r = {row, where, wants, &out, err};
    if (*shape == NULL) {
        SPAR_TRY(find_layout(shape, &r));
    }
    SPAR_TRY((*shape)->read(&r));
    if ((wants & SP_DATASET_BASE) && json_object_get(row, "base")) {
        SPAR_TRY(read_answer(&r, "base", &out.base));
    }
    SPAR_TRY(read_beside(&r));
    SPAR_TRY(check_label(&r));
    if (sp_dataset_scores(row, &out.score, &out.rejected_score, err) != SPAR_OK) {
        spar_error_context(err, "%s", r.where);
        SPAR_TRY(SPAR_FORMAT);
    }
    void *memory = data->rows;
    SPAR_TRY(sp_mem_grow(&memory, &data->capacity, data->n + 1, sizeof *data->rows, err));
    data->rows = memory;
    data->rows[data->n++] = out;
    out = (sp_dataset_row){0};
done:
    row_release(&out);
    return status;
}

/* One row of the file into data, or, when it is bad and may be skipped, none. *end: there are no
 * more. */
static spar_status read_row(spar_rows *rows, sp_dataset *data, const layout **shape, unsigned wants,
                            sp_dataset_skip skip, void *context, bool *end, spar_error *err) {
    json_t *row = NULL;
    spar_error why;
    spar_status status = spar_rows_next(rows, &row, &why);
    const bool readable = status == SPAR_OK || spar_rows_goes_on(rows);
    *end = status == SPAR_OK && row == NULL;
    if (row != NULL) {
        status = add_row(data, shape, row, wants, spar_rows_where(rows), &why);
    }
    json_decref(row);
    if (status != SPAR_OK && status != SPAR_NO_MEMORY && readable && skip != NULL &&
        skip(context, &why)) {
        return SPAR_OK;
    }
    if (status != SPAR_OK && err != NULL) {
        *err = why;
    }
    return status;
}

spar_status sp_dataset_load_rows(sp_dataset **out, const char *path, unsigned wants,
                                 sp_dataset_skip skip, void *context, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *rows = NULL;
    sp_dataset *data = NULL;
    const layout *shape = NULL;
    void *memory;
    bool end = false;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *data, err));
    data = memory;
    SPAR_TRY(spar_rows_open(&rows, path, err));
    while (!end) {
        SPAR_TRY(read_row(rows, data, &shape, wants, skip, context, &end, err));
    }
    if (shape == NULL) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected rows, found %s", path,
                           skip != NULL ? "none that can be used" : "an empty file"));
    }
    data->name = shape->name;
    data->layout = shape->sentence;
    *out = data;
    data = NULL;
done:
    spar_rows_free(rows);
    sp_dataset_free(data);
    return status;
}

spar_status sp_dataset_load(sp_dataset **out, const char *path, spar_error *err) {
    return sp_dataset_load_rows(out, path, 0, NULL, NULL, err);
}
