#include "judge/prompt.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "model/fingerprint.h"
#include "text/conversation.h"

/* prompts/judge.jsonl and prompts/preference.txt, made part of the program by the build. */
extern const char sp_prompts_judge[], sp_prompts_preference[];

enum { FILE_LIMIT = 1 << 20 };

/* ---- slots ---- */

/* What a row gives to the slots. */
typedef struct slots {
    const sp_judge_item *item;
    size_t a, b;
} slots;

typedef enum slot_source {
    SLOT_PROMPT,
    SLOT_USER_TURN,
    SLOT_RESPONSE_A,
    SLOT_RESPONSE_B,
    SLOT_REFERENCE
} slot_source;

/* A name that ends in _N (numbered) gives the turn. */
static const struct {
    const char *name;
    bool numbered;
    slot_source source;
} slot_names[] = {{"question", false, SLOT_PROMPT},     {"instruction", false, SLOT_PROMPT},
                  {"question_", true, SLOT_USER_TURN},  {"answer", false, SLOT_RESPONSE_A},
                  {"answer_a", false, SLOT_RESPONSE_A}, {"answer_b", false, SLOT_RESPONSE_B},
                  {"output_1", false, SLOT_RESPONSE_A}, {"output_2", false, SLOT_RESPONSE_B},
                  {"answer_a_", true, SLOT_RESPONSE_A}, {"answer_b_", true, SLOT_RESPONSE_B},
                  {"answer_", true, SLOT_RESPONSE_A},   {"ref_answer_", true, SLOT_REFERENCE},
                  {"reference", false, SLOT_REFERENCE}};
enum { N_SLOTS = sizeof slot_names / sizeof slot_names[0] };

typedef struct slot {
    slot_source source;
    size_t turn; /* from 1; 0: none named */
} slot;

static bool find_slot(const char *name, size_t n, slot *out) {
    for (int i = 0; i < N_SLOTS; i++) {
        const size_t length = strlen(slot_names[i].name);
        const bool digit = n == length + 1 && name[n - 1] >= '1' && name[n - 1] <= '9';
        if ((slot_names[i].numbered ? digit : n == length) &&
            memcmp(name, slot_names[i].name, length) == 0) {
            *out = (slot){slot_names[i].source,
                          slot_names[i].numbered ? (size_t)(name[n - 1] - '0') : 0};
            return true;
        }
    }
    return false;
}

/* The n-th message of a role, from 1; NULL: none. */
static const json_t *turn_of(const json_t *prompt, const char *role, size_t n) {
    size_t i;
    json_t *message;
    json_array_foreach((json_t *)(uintptr_t)prompt, i, message) {
        const char *its = json_string_value(json_object_get(message, "role"));
        if (its && strcmp(its, role) == 0 && --n == 0) {
            return message;
        }
    }
    return NULL;
}

/* A string or a message; NULL: the row has none. */
static const json_t *response_of(const slots *s, size_t which, size_t turn) {
    const json_t *earlier = turn ? turn_of(s->item->prompt, "assistant", turn) : NULL;
    return earlier ? earlier : json_array_get(s->item->responses, which);
}

static const json_t *reference_of(const slots *s, size_t turn) {
    const json_t *r = s->item->reference;
    return json_is_array(r) ? json_array_get(r, turn ? turn - 1 : 0) : r;
}

static const json_t *user_turn(const slots *s, size_t turn) {
    return turn == 1 && json_is_string(s->item->prompt) ? s->item->prompt
                                                        : turn_of(s->item->prompt, "user", turn);
}

static spar_status put_slot(const slots *s, slot x, const char *name, size_t n, sp_str *out,
                            spar_error *err) {
    if (x.source == SLOT_PROMPT) {
        return sp_judge_prompt_text(s->item->prompt, out, err);
    }
    const json_t *found = x.source == SLOT_USER_TURN    ? user_turn(s, x.turn)
                          : x.source == SLOT_REFERENCE  ? reference_of(s, x.turn)
                          : x.source == SLOT_RESPONSE_A ? response_of(s, s->a, x.turn)
                                                        : response_of(s, s->b, x.turn);
    if (json_is_string(found)) {
        sp_str_append(out, json_string_value(found), json_string_length(found));
    } else if (!sp_message_is_empty(found)) {
        sp_message_put_text(found, out);
    } else {
        return spar_fail(err, SPAR_FORMAT, "the prompt's slot {%.*s}: the row has no text for it",
                         (int)n, name);
    }
    return SPAR_OK;
}

/* Bytes of a slot's name behind a brace at text, 0 where it is no slot. */
static size_t slot_length(const char *text) {
    size_t n = 1;
    while (isalnum((unsigned char)text[n]) || text[n] == '_') {
        n++;
    }
    return n > 1 && text[n] == '}' ? n - 1 : 0;
}

/* Fill the slots of one message, each once. s NULL: only check that all are known. */
static spar_status fill(const sp_judge_prompt *p, const char *text, const slots *s, sp_str *out,
                        spar_error *err) {
    spar_status status = SPAR_OK;
    while (*text) {
        slot x;
        const bool twice = p->doubled && (*text == '{' || *text == '}') && text[1] == *text;
        const size_t n = *text == '{' && !twice ? slot_length(text) : 0;
        if (n == 0) {
            sp_str_putc(out, *text);
            text += twice ? 2 : 1;
            continue;
        }
        if (!find_slot(text + 1, n, &x)) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: unknown slot {%.*s}: expected question, answer, answer_a, "
                               "answer_b, instruction, output_1, output_2, reference or a numbered "
                               "one",
                               p->name, n < 64 ? (int)n : 64, text + 1));
        }
        if (s) {
            SPAR_TRY(put_slot(s, x, text + 1, n, out, err));
        }
        text += n + 2;
    }
    SPAR_TRY(sp_str_status(out, err));
done:
    return status;
}

spar_status sp_judge_prompt_fill(const sp_judge_prompt *prompt, const sp_judge_item *item, size_t a,
                                 size_t b, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    const slots s = {item, a, b};
    sp_str text = SP_STR_INIT;
    size_t i;
    json_t *message;
    *out = json_array();
    json_array_foreach(prompt->messages, i, message) {
        sp_str_clear(&text);
        SPAR_TRY(
            fill(prompt, json_string_value(json_object_get(message, "content")), &s, &text, err));
        json_t *filled = json_pack("{s:O, s:s%}", "role", json_object_get(message, "role"),
                                   "content", sp_str_get(&text), text.len);
        if (!filled || json_array_append_new(*out, filled) != 0) {
            SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a prompt"));
        }
    }
done:
    sp_str_release(&text);
    if (status != SPAR_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

/* ---- reading ---- */

static spar_status add_message(sp_judge_prompt *p, const char *role, size_t n_role,
                               const char *text, size_t n, spar_error *err) {
    json_t *message = json_pack("{s:s%, s:s%}", "role", role, n_role, "content", text, n);
    return message && json_array_append_new(p->messages, message) == 0
               ? SPAR_OK
               : spar_fail(err, SPAR_FORMAT, "%s: expected UTF-8, found other bytes", p->name);
}

static spar_status from_row(sp_judge_prompt *p, const json_t *row, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *type, *system, *text, *format;
    SPAR_TRY(sp_json_get_string(row, "type", &type, p->name, err));
    SPAR_TRY(sp_json_get_string_or(row, "system_prompt", "", &system, p->name, err));
    SPAR_TRY(sp_json_get_string(row, "prompt_template", &text, p->name, err));
    SPAR_TRY(sp_json_get_string(row, "output_format", &format, p->name, err));
    p->pairwise = strcmp(type, "pairwise") == 0;
    if (!p->pairwise && strcmp(type, "single") != 0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: type: expected pairwise or single, found %s",
                           p->name, type));
    }
    if (strcmp(format, p->pairwise ? "[[A]]" : "[[rating]]") != 0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: output_format: expected %s, found %s",
                           p->name, p->pairwise ? "[[A]]" : "[[rating]]", format));
    }
    p->doubled = p->bracketed = true;
    p->n_verdicts = !p->pairwise                                       ? SP_JUDGE_MAX_VERDICTS
                    : strstr(system, "[[C]]") || strstr(text, "[[C]]") ? 3
                                                                       : 2;
    if (system[0]) {
        SPAR_TRY(add_message(p, "system", 6, system, strlen(system), err));
    }
    SPAR_TRY(add_message(p, "user", 4, text, strlen(text), err));
done:
    return status;
}

/* The row of a name in JSON Lines (NULL: the first). */
static spar_status from_lines(sp_judge_prompt *p, const char *text, const char *name,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *row = NULL;
    bool found = false;
    while (*text && !found) {
        const size_t n = strcspn(text, "\n");
        if (n > 1) {
            SPAR_TRY(sp_json_parse(&row, text, n, p->name, err));
            const char *its = json_string_value(json_object_get(row, "name"));
            found = !name || (its && strcmp(its, name) == 0);
            if (found) {
                SPAR_TRY(from_row(p, row, err));
            }
            json_decref(row);
            row = NULL;
        }
        text += n + (text[n] != 0);
    }
    if (!found) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: expected a prompt%s%s, found none", p->name,
                           name ? " named " : "", name ? name : ""));
    }
done:
    json_decref(row);
    return status;
}

/* <|im_start|>role, a line break, the content up to <|im_end|>; without such marks the whole is one
 * message of the user. */
static spar_status from_chatml(sp_judge_prompt *p, const char *text, spar_error *err) {
    spar_status status = SPAR_OK;
    static const char begin[] = "<|im_start|>", end[] = "<|im_end|>";
    p->pairwise = true;
    p->n_verdicts = 2;
    if (!strstr(text, begin)) {
        SPAR_TRY(add_message(p, "user", 4, text, strlen(text), err));
    }
    while ((text = strstr(text, begin))) {
        const char *role = text + strlen(begin);
        const size_t n_role = strcspn(role, "\n");
        const char *content = role + n_role + (role[n_role] != 0);
        const char *stop = strstr(content, end);
        size_t n = stop ? (size_t)(stop - content) : strlen(content);
        text = content + n;
        while (n > 0 && content[n - 1] == '\n') {
            n--;
        }
        if (n > 0) { /* an opened turn of the assistant is what the model's own template opens */
            SPAR_TRY(add_message(p, role, n_role, content, n, err));
        }
    }
done:
    return status;
}

static spar_status check_slots(const sp_judge_prompt *p, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str ignored = SP_STR_INIT;
    size_t i;
    json_t *message;
    if (json_array_size(p->messages) == 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected a prompt, found no message", p->name));
    }
    json_array_foreach(p->messages, i, message) {
        SPAR_TRY(
            fill(p, json_string_value(json_object_get(message, "content")), NULL, &ignored, err));
    }
done:
    sp_str_release(&ignored);
    return status;
}

static spar_status from_file(sp_judge_prompt *p, const char *name, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL, *text = NULL;
    size_t size;
    const char *mark = strstr(name, ".jsonl");
    const char *row = mark && mark[6] == '#' ? mark + 7 : NULL;
    SPAR_TRY(sp_mem_strdup(&path, name, row ? (size_t)(row - 1 - name) : strlen(name), err));
    SPAR_TRY(sp_file_read(path, FILE_LIMIT, &text, &size, err));
    SPAR_TRY(mark ? from_lines(p, text, row, err) : from_chatml(p, text, err));
done:
    free(path);
    free(text);
    return status;
}

spar_status sp_judge_prompt_load(sp_judge_prompt *out, const char *name, spar_error *err) {
    static const char *const own[] = {"pairwise", "pairwise-reference", "single",
                                      "single-reference"};
    spar_status status = SPAR_OK;
    bool is_own = false;
    name = name ? name : own[0];
    memset(out, 0, sizeof *out);
    SPAR_TRY(sp_mem_strdup(&out->name, name, strlen(name), err));
    out->messages = json_array();
    if (!out->messages) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a prompt"));
    }
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        is_own = is_own || strcmp(name, own[i]) == 0;
    }
    if (is_own) {
        SPAR_TRY(from_lines(out, sp_prompts_judge, name, err));
    } else if (strcmp(name, "preference") == 0) {
        SPAR_TRY(from_chatml(out, sp_prompts_preference, err));
    } else {
        SPAR_TRY(from_file(out, name, err));
    }
    SPAR_TRY(check_slots(out, err));
done:
    if (status != SPAR_OK) {
        sp_judge_prompt_release(out);
    }
    return status;
}

void sp_judge_prompt_release(sp_judge_prompt *prompt) {
    json_decref(prompt->messages);
    free(prompt->name);
    memset(prompt, 0, sizeof *prompt);
}

uint64_t sp_judge_prompt_fingerprint(const sp_judge_prompt *prompt) {
    char *text = json_dumps(prompt->messages, JSON_COMPACT);
    const uint64_t hash = text ? sp_bytes_fingerprint(text, strlen(text)) : 0;
    free(text);
    return hash;
}

void sp_judge_prompt_verdict(const sp_judge_prompt *prompt, int v, char *out, size_t n) {
    if (!prompt->pairwise) {
        snprintf(out, n, "[[%d]]", v + 1);
    } else if (prompt->bracketed) {
        snprintf(out, n, "[[%c]]", 'A' + v);
    } else {
        snprintf(out, n, "%c", "mM"[v]);
    }
}
