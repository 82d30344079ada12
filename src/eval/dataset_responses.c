/* Prompts and responses of rows of data. */
#include <stdbool.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "eval/dataset_parts.h"

/* The prompt: a string, which is the user's message, or a list of messages. */
spar_status sp_reading_prompt(const sp_reading *r, const char *field) {
    spar_status status = SPAR_OK;
    const json_t *value = json_object_get(r->row, field);
    if (json_is_array(value)) {
        SPAR_TRY(sp_reading_list(r, field, value, &r->out->prompt));
        goto done;
    }
    if (!json_is_string(value)) {
        SPAR_TRY(sp_reading_wrong_type(r, field, "a string or a list of messages", value));
    }
    if (json_string_length(value) == 0) { /* what a table has where a field is missing */
        SPAR_TRY(sp_reading_wrong(r, field, "a prompt", "an empty one"));
    }
    r->out->prompt = json_array();
    SPAR_TRY(sp_reading_append_text(r, r->out->prompt, "user", value));
done:
    return status;
}

/* ---- questions ---- */

/* The question, and what follows it after an empty line, as a text: a new reference. */
static spar_status read_joined(const sp_reading *r, json_t **out) {
    spar_status status = SPAR_OK;
    sp_str text = SP_STR_INIT;
    const json_t *ask = json_object_get(r->row, r->ask);
    const json_t *beside = json_object_get(r->row, r->beside);
    if (!json_is_string(ask)) {
        SPAR_TRY(sp_reading_wrong_type(r, r->ask, "a string", ask));
    }
    if (beside != NULL && !json_is_null(beside) && !json_is_string(beside)) {
        SPAR_TRY(sp_reading_wrong_type(r, r->beside, "a string or nothing", beside));
    }
    const bool both = json_string_length(ask) > 0 && json_string_length(beside) > 0;
    sp_str_append(&text, json_string_value(ask), json_string_length(ask));
    sp_str_puts(&text, both ? "\n\n" : "");
    if (json_string_length(beside) > 0) {
        sp_str_append(&text, json_string_value(beside), json_string_length(beside));
    }
    SPAR_TRY(sp_str_status(&text, r->err));
    if (text.len == 0) {
        SPAR_TRY(sp_reading_wrong(r, r->ask, "a prompt", "an empty one"));
    }
    *out = json_stringn(sp_str_get(&text), text.len);
    SPAR_TRY(*out != NULL ? SPAR_OK : sp_reading_no_memory(r));
done:
    sp_str_release(&text);
    return status;
}

/* Earlier turns of an instruction: [[what the user said, what the assistant answered], ...]. */
static spar_status read_history(const sp_reading *r, json_t *list) {
    spar_status status = SPAR_OK;
    const json_t *history = json_object_get(r->row, "history");
    const bool none = history == NULL || json_is_null(history) ||
                      (json_is_string(history) && json_string_length(history) == 0);
    if (!none && !json_is_array(history)) {
        SPAR_TRY(sp_reading_wrong_type(r, "history", "a list of pairs of texts", history));
    }
    for (size_t i = 0; i < json_array_size(history); i++) {
        const json_t *pair = json_array_get(history, i);
        const json_t *said = json_array_get(pair, 0), *answered = json_array_get(pair, 1);
        if (json_array_size(pair) != 2 || !json_is_string(said) || !json_is_string(answered)) {
            SPAR_TRY(sp_reading_wrong(r, "history", "a list of pairs of texts", "another list"));
        }
        SPAR_TRY(sp_reading_append_text(r, list, "user", said));
        SPAR_TRY(sp_reading_append_text(r, list, "assistant", answered));
    }
done:
    return status;
}

spar_status sp_reading_question(const sp_reading *r) {
    spar_status status = SPAR_OK;
    json_t *text = NULL;
    if (json_is_array(json_object_get(r->row, r->ask)) || r->beside == NULL) {
        return sp_reading_prompt(r, r->ask);
    }
    SPAR_TRY(read_joined(r, &text));
    r->out->prompt = json_array();
    if (r->out->prompt == NULL) {
        SPAR_TRY(sp_reading_no_memory(r));
    }
    SPAR_TRY(read_history(r, r->out->prompt));
    SPAR_TRY(sp_reading_append_text(r, r->out->prompt, "user", text));
done:
    json_decref(text);
    return status;
}

/* ---- responses ---- */

/* What a row has as a response, as a list of messages: of one, where it is a text or a message.
 * *out is a new reference. */
static spar_status read_given(const sp_reading *r, const char *field, json_t **out) {
    spar_status status = SPAR_OK;
    json_t *value = json_object_get(r->row, field), *list = NULL;
    if (json_is_array(value)) {
        return sp_reading_list(r, field, value, out);
    }
    if (!json_is_string(value) && !json_is_object(value)) {
        SPAR_TRY(sp_reading_wrong_type(r, field, "a string or a list of messages", value));
    }
    list = json_array();
    if (list == NULL) {
        SPAR_TRY(sp_reading_no_memory(r));
    }
    SPAR_TRY(json_is_string(value) ? sp_reading_append_text(r, list, "assistant", value)
                                   : sp_reading_message(r, field, value, list));
    *out = list;
    list = NULL;
done:
    json_decref(list);
    return status;
}

static const char *role_at(const json_t *list, size_t i) {
    return json_string_value(json_object_get(json_array_get(list, i), "role"));
}

static bool is_assistant(const json_t *list, size_t i) {
    return strcmp(role_at(list, i), "assistant") == 0;
}

static spar_status check_last(const sp_reading *r, const char *field, const json_t *list) {
    const size_t last = json_array_size(list) - 1;
    return is_assistant(list, last)
               ? SPAR_OK
               : sp_reading_wrong(r, field, "a last message of the assistant", role_at(list, last));
}

/* The messages of a list from first on as a response: one alone as it is. */
static spar_status take_response(const sp_reading *r, const char *field, const json_t *list,
                                 size_t first, json_t **response) {
    spar_status status = SPAR_OK;
    json_t *some = NULL;
    const size_t n = json_array_size(list);
    SPAR_TRY(check_last(r, field, list));
    if (!is_assistant(list, first)) {
        SPAR_TRY(sp_reading_wrong(r, field, "the messages of the prompt before the response",
                                  "other messages"));
    }
    if (first + 1 == n) {
        *response = json_incref(json_array_get(list, first));
        goto done;
    }
    some = json_array();
    for (size_t i = first; i < n; i++) {
        if (json_array_append(some, json_array_get(list, i)) != 0) {
            SPAR_TRY(sp_reading_no_memory(r));
        }
    }
    *response = json_incref(some);
done:
    json_decref(some);
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

/* How many messages two lists begin with in common. */
static size_t count_shared(const json_t *a, const json_t *b) {
    size_t n = 0;
    while (n < json_array_size(a) && n < json_array_size(b) &&
           agree(json_array_get(a, n), json_array_get(b, n))) {
        n++;
    }
    return n;
}

spar_status sp_reading_answer(const sp_reading *r, const char *field, json_t **response) {
    spar_status status = SPAR_OK;
    json_t *list = NULL;
    const size_t n = json_array_size(r->out->prompt);
    SPAR_TRY(read_given(r, field, &list));
    const bool repeats = json_array_size(list) > n && count_shared(list, r->out->prompt) == n;
    SPAR_TRY(take_response(r, field, list, repeats ? n : 0, response));
done:
    json_decref(list);
    return status;
}

spar_status sp_reading_whole(const sp_reading *r, const char *field) {
    spar_status status = SPAR_OK;
    json_t *list = NULL;
    SPAR_TRY(sp_reading_list(r, field, json_object_get(r->row, field), &list));
    SPAR_TRY(check_last(r, field, list));
    const size_t last = json_array_size(list) - 1;
    if (last == 0) {
        SPAR_TRY(sp_reading_wrong(r, field, "a prompt before the response", "the response alone"));
    }
    r->out->response = json_incref(json_array_get(list, last));
    json_array_remove(list, last);
    r->out->prompt = json_incref(list);
done:
    json_decref(list);
    return status;
}

/* ---- pairs ---- */

typedef struct sharing { /* two conversations of one prompt */
    const char *good_name, *bad_name;
    json_t *good, *bad;
} sharing;

/* The prompt is what both begin with, without the last message of either: they part where the
 * assistant answers. A response alone goes with the prompt of the other. */
static spar_status take_shared(const sp_reading *r, const sharing *s) {
    spar_status status = SPAR_OK;
    const size_t n_good = json_array_size(s->good), n_bad = json_array_size(s->bad);
    size_t n = n_bad == 1 ? n_good : count_shared(s->good, s->bad);
    n = n >= n_good ? n_good - 1 : n;
    n = n_bad > 1 && n >= n_bad ? n_bad - 1 : n;
    SPAR_TRY(check_last(r, s->good_name, s->good));
    SPAR_TRY(check_last(r, s->bad_name, s->bad));
    if (n_good == 1) {
        SPAR_TRY(
            sp_reading_wrong(r, s->good_name, "the prompt's messages before the response", "none"));
    }
    if (n == 0 || !is_assistant(s->good, n)) {
        SPAR_TRY(sp_reading_wrong(r, s->bad_name, "the messages of the prompt before the response",
                                  "other messages"));
    }
    SPAR_TRY(take_response(r, s->good_name, s->good, n, &r->out->response));
    SPAR_TRY(take_response(r, s->bad_name, s->bad, n_bad == 1 ? 0 : n, &r->out->rejected));
    while (json_array_size(s->good) > n) {
        json_array_remove(s->good, json_array_size(s->good) - 1);
    }
    r->out->prompt = json_incref(s->good);
done:
    return status;
}

spar_status sp_reading_pair(const sp_reading *r, const char *good, const char *bad) {
    spar_status status = SPAR_OK;
    sharing s = {.good_name = good, .bad_name = bad};
    if (r->out->prompt != NULL) {
        SPAR_TRY(sp_reading_answer(r, good, &r->out->response));
        SPAR_TRY(sp_reading_answer(r, bad, &r->out->rejected));
        goto done;
    }
    SPAR_TRY(read_given(r, good, &s.good));
    SPAR_TRY(read_given(r, bad, &s.bad));
    SPAR_TRY(take_shared(r, &s));
done:
    json_decref(s.good);
    json_decref(s.bad);
    return status;
}

static bool says(const json_t *message, const char *role, const json_t *text) {
    const char *own = json_string_value(json_object_get(message, "role"));
    return own != NULL && strcmp(own, role) == 0 &&
           (text == NULL || json_equal(json_object_get(message, "content"), text));
}

/* Whether a list of messages is a whole conversation, which does not begin with the assistant, and
 * has a text as one of the user's. */
static bool holds_text(const json_t *list, const json_t *text) {
    bool found = false;
    for (size_t i = 0; i + 1 < json_array_size(list); i++) {
        found = found || says(json_array_get(list, i), "user", text);
    }
    return found && !says(json_array_get(list, 0), "assistant", NULL);
}

spar_status sp_reading_prompt_pair(const sp_reading *r) {
    const json_t *prompt = json_object_get(r->row, "prompt");
    if (json_is_string(prompt) && holds_text(json_object_get(r->row, "chosen"), prompt)) {
        return sp_reading_pair(r, "chosen", "rejected");
    }
    const spar_status status = sp_reading_prompt(r, "prompt");
    return status == SPAR_OK ? sp_reading_pair(r, "chosen", "rejected") : status;
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

static spar_status append_turn(const sp_reading *r, json_t *list, size_t speaker, const char *begin,
                               const char *end) {
    while (begin < end && is_space(*begin)) {
        begin++;
    }
    while (end > begin && is_space(end[-1])) {
        end--;
    }
    json_t *content = json_stringn(begin, (size_t)(end - begin));
    const spar_status status =
        content != NULL ? sp_reading_append_text(r, list, SPEAKERS[speaker].role, content)
                        : sp_reading_no_memory(r);
    json_decref(content);
    return status;
}

/* What is said first, by whom, behind the marker that the text begins with; NULL: another text. The
 * empty line before the first marker may be missing. */
static const char *first_words(const char *text, size_t *speaker) {
    const char *bare = SPEAKERS[0].marker + strspn(SPEAKERS[0].marker, "\n");
    const char *turn = next_turn(text, speaker);
    if (turn == text) {
        return turn + strlen(SPEAKERS[*speaker].marker);
    }
    *speaker = 0;
    return strncmp(text, bare, strlen(bare)) == 0 ? text + strlen(bare) : NULL;
}

/* A text of turns as a list of messages, without the space around each; *out is a new reference. */
static spar_status read_transcript(const sp_reading *r, const char *field, json_t **out) {
    spar_status status = SPAR_OK;
    const json_t *value = json_object_get(r->row, field);
    const char *text = json_string_value(value);
    size_t speaker = 0, following = 0;
    json_t *list = json_array();
    if (list == NULL) {
        SPAR_TRY(sp_reading_no_memory(r));
    }
    if (text == NULL || strlen(text) != json_string_length(value)) {
        SPAR_TRY(sp_reading_wrong(r, field, "a transcript",
                                  text == NULL ? sp_json_type_name(value) : "a text with U+0000"));
    }
    const char *begin = first_words(text, &speaker);
    if (begin == NULL) {
        SPAR_TRY(
            sp_reading_wrong(r, field, "a transcript that begins with Human:", "another text"));
    }
    while (begin != NULL) {
        const char *next = next_turn(begin, &following);
        SPAR_TRY(append_turn(r, list, speaker, begin, next != NULL ? next : begin + strlen(begin)));
        speaker = following;
        begin = next != NULL ? next + strlen(SPEAKERS[speaker].marker) : NULL;
    }
    *out = list;
    list = NULL;
done:
    json_decref(list);
    return status;
}

spar_status sp_reading_transcripts(const sp_reading *r) {
    spar_status status = SPAR_OK;
    sharing s = {.good_name = "chosen", .bad_name = "rejected"};
    SPAR_TRY(read_transcript(r, "chosen", &s.good));
    SPAR_TRY(read_transcript(r, "rejected", &s.bad));
    SPAR_TRY(take_shared(r, &s));
done:
    json_decref(s.good);
    json_decref(s.bad);
    return status;
}
