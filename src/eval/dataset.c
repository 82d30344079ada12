#include "eval/dataset.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/dataset_parts.h"
#include "spar/row_layout.h"
#include "spar/rows.h"
#include "text/conversation.h"

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
        for (size_t k = 0; k < 2; k++) { /* a table has nulls where others have a score */
            pair[k] = json_is_null(pair[k]) ? NULL : pair[k];
        }
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

static spar_status read_messages(const sp_reading *r) {
    return sp_reading_whole(r, "messages");
}

static spar_status read_conversations(const sp_reading *r) {
    return sp_reading_whole(r, "conversations");
}

static spar_status read_answered(const sp_reading *r) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_reading_question(r));
    SPAR_TRY(sp_reading_answer(r, r->answer, &r->out->response));
done:
    return status;
}

static spar_status read_generated(const sp_reading *r) {
    return sp_reading_pair(r, "real", "generated");
}

static spar_status read_preference(const sp_reading *r) {
    return sp_reading_pair(r, "chosen", "rejected");
}

static spar_status read_conversations_preference(const sp_reading *r) {
    const spar_status status = sp_reading_list(
        r, "conversations", json_object_get(r->row, "conversations"), &r->out->prompt);
    return status == SPAR_OK ? read_preference(r) : status;
}

static spar_status read_question_preference(const sp_reading *r) {
    const spar_status status = sp_reading_question(r);
    return status == SPAR_OK ? read_preference(r) : status;
}

/* What the responses are is the caller's to read. */
static spar_status read_group(const sp_reading *r) {
    const spar_status status = sp_reading_prompt(r, "prompt");
    r->out->row = json_incref((json_t *)(uintptr_t)r->row);
    return status;
}

/* A text to learn whole; an empty one is the caller's to refuse. */
static spar_status read_text(const sp_reading *r) {
    json_t *text = json_object_get(r->row, "text");
    if (!json_is_string(text)) {
        return sp_reading_wrong_type(r, "text", "a string", text);
    }
    r->out->text = json_incref(text);
    return SPAR_OK;
}

/* Whether a row of chosen and rejected holds transcripts rather than lists of messages. */
static bool holds_transcripts(const json_t *row) {
    return json_is_string(json_object_get(row, "chosen"));
}

typedef struct layout {
    const char *name, *sentence;
    const char *fields[4]; /* a row with all of them has this layout */
    spar_status (*read)(const sp_reading *r);
    const char *beside;               /* what follows a question that is fields[0]; may be NULL */
    bool (*holds)(const json_t *row); /* and what its values must be like; may be NULL */
    unsigned wants;                   /* only where this is wanted; 0: always */
} layout;

/* Rows of a question and its answer, under the names that data sets have for them. */
#define ANSWERED(name, ask, beside, answer)                                                        \
    { name, "rows of " ask " and " answer, {ask, answer}, read_answered, beside, NULL, 0 }
#define PREFERENCE(ask, beside)                                                                    \
    {                                                                                              \
        "preference", "rows of " ask ", chosen and rejected: chosen is the response",              \
            {ask, "chosen", "rejected"}, read_question_preference, beside, NULL, 0                 \
    }

/* The first that fits is taken: those with more members come first. */
static const layout LAYOUTS[] = {
    {"responses",
     "rows of prompt and responses",
     {"prompt", "responses"},
     read_group,
     NULL,
     NULL,
     SP_DATASET_GROUPS},
    {"responses",
     "rows of prompt and completions",
     {"prompt", "completions"},
     read_group,
     NULL,
     NULL,
     SP_DATASET_GROUPS},
    {"preference",
     "rows of prompt, chosen and rejected: chosen is the response",
     {"prompt", "chosen", "rejected"},
     sp_reading_prompt_pair,
     NULL,
     NULL,
     0},
    {"preference",
     "rows of conversations, chosen and rejected: chosen is the response",
     {"conversations", "chosen", "rejected"},
     read_conversations_preference,
     NULL,
     NULL,
     0},
    {"preference",
     "rows of instruction, input, chosen and rejected: chosen is the response",
     {"instruction", "chosen", "rejected"},
     read_question_preference,
     "input",
     NULL,
     0},
    PREFERENCE("question", "context"),
    PREFERENCE("query", "context"),
    PREFERENCE("input", NULL),
    {"transcripts",
     "rows of chosen and rejected transcripts (Human:, Assistant:): chosen ends in the response",
     {"chosen", "rejected"},
     sp_reading_transcripts,
     NULL,
     holds_transcripts,
     0},
    {"preference",
     "rows of chosen and rejected conversations: chosen ends in the response",
     {"chosen", "rejected"},
     read_preference,
     NULL,
     NULL,
     0},
    {"real-generated",
     "rows of real and generated conversations: real ends in the response",
     {"real", "generated"},
     read_generated,
     NULL,
     NULL,
     0},
    {"messages",
     "rows of messages: the last, of the assistant, is the response",
     {"messages"},
     read_messages,
     NULL,
     NULL,
     0},
    {"conversations",
     "rows of conversations: the last turn, of gpt, is the response",
     {"conversations"},
     read_conversations,
     NULL,
     NULL,
     0},
    ANSWERED("prompt-completion", "prompt", NULL, "completion"),
    {"instruction",
     "rows of instruction, input and output",
     {"instruction", "output"},
     read_answered,
     "input",
     NULL,
     0},
    {"instruction",
     "rows of instruction, context and response",
     {"instruction", "response"},
     read_answered,
     "context",
     NULL,
     0},
    ANSWERED("question-answer", "prompt", NULL, "response"),
    ANSWERED("question-answer", "prompt", NULL, "answer"),
    ANSWERED("question-answer", "prompt", NULL, "output"),
    ANSWERED("question-answer", "question", "context", "answer"),
    ANSWERED("question-answer", "question", "context", "response"),
    ANSWERED("question-answer", "query", "context", "answer"),
    ANSWERED("question-answer", "query", "context", "response"),
    ANSWERED("question-answer", "input", NULL, "output"),
    {"text", "rows of text, learned whole", {"text"}, read_text, NULL, NULL, SP_DATASET_TEXT},
};
enum { LAYOUT_COUNT = sizeof LAYOUTS / sizeof *LAYOUTS };

static bool fits(const layout *l, const json_t *row, unsigned wants) {
    bool all = l->wants == 0 || (l->wants & wants) != 0;
    for (size_t i = 0; i < sizeof l->fields / sizeof *l->fields && l->fields[i] != NULL; i++) {
        const json_t *value = json_object_get(row, l->fields[i]);
        all = all && value != NULL && !json_is_null(value);
    }
    return all && (l->holds == NULL || l->holds(row));
}

/* The members of a row as a list, for messages; the first few name it well enough. */
static void list_members(sp_str *out, const json_t *row) {
    enum { MEMBERS_SHOWN = 8 };
    int shown = 0;
    for (void *at = json_object_iter((json_t *)(uintptr_t)row); at != NULL && shown < MEMBERS_SHOWN;
         at = json_object_iter_next((json_t *)(uintptr_t)row, at)) {
        sp_str_printf(out, "%s\"%.40s\"%s", shown++ > 0 ? ", " : "", json_object_iter_key(at),
                      json_is_null(json_object_iter_value(at)) ? " (null)" : "");
    }
    sp_str_puts(out, shown == 0 ? "no members" : "");
}

static spar_status find_layout(const layout **out, const sp_reading *r) {
    for (size_t i = 0; i < LAYOUT_COUNT; i++) {
        if (fits(&LAYOUTS[i], r->row, r->wants)) {
            *out = &LAYOUTS[i];
            return SPAR_OK;
        }
    }
    sp_str members = SP_STR_INIT;
    list_members(&members, r->row);
    const spar_status status = sp_reading_wrong(
        r, "row",
        r->wants & SP_DATASET_GROUPS
            ? "prompt and responses, or chosen and rejected"
            : "messages, conversations, prompt and completion, instruction and output, question "
              "and answer, real and generated, or chosen and rejected",
        sp_str_get(&members));
    sp_str_release(&members);
    return status;
}

const json_t *sp_dataset_label(const json_t *row, const char **name) {
    const json_t *label = json_object_get(row, "label"), *tag = json_object_get(row, "kto_tag");
    *name = label == NULL && tag != NULL ? "kto_tag" : "label";
    return label != NULL ? label : tag;
}

/* Data of single judged responses (KTO) looks like data of responses to learn, but for its label:
 * a bad response must not be learned as a good one. */
static spar_status check_label(const sp_reading *r) {
    const char *name = "label";
    const json_t *label = sp_dataset_label(r->row, &name);
    if (r->wants & SP_DATASET_LABELS) {
        r->out->bad = json_is_false(label);
        return json_is_boolean(label) ? SPAR_OK
                                      : sp_reading_wrong_type(r, name, "true or false", label);
    }
    if (r->out->rejected == NULL && json_is_false(label)) {
        return sp_reading_wrong(r, name, "true or nothing, of a response to learn", "false");
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
    json_decref(row->text);
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
static spar_status read_beside(const sp_reading *r) {
    json_t *prompt = NULL;
    const spar_status read = sp_reading_no_media(r);
    const spar_status opened = read == SPAR_OK ? sp_reading_system(r) : read;
    if (opened != SPAR_OK) {
        return opened;
    }
    const spar_status status = spar_conversation_of(&prompt, r->row, r->out->prompt, r->err);
    if (status != SPAR_OK) {
        spar_error_context(r->err, "%s", r->where);
        return status;
    }
    json_decref(r->out->prompt);
    r->out->prompt = prompt;
    return sp_reading_wrap_tools(r);
}

static spar_status read_by(const layout *l, sp_reading *r) {
    r->ask = l->fields[0];
    r->answer = l->fields[1];
    r->beside = l->beside;
    return l->read(r);
}

static spar_status add_row(sp_dataset *data, const layout **shape, const json_t *row,
                           unsigned wants, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dataset_row out = {0};
    SPAR_TRY(sp_mem_strdup(&out.where, where, strlen(where), err));
    sp_reading r = {.row = row, .where = where, .wants = wants, .out = &out, .err = err};
    if (*shape == NULL) {
        SPAR_TRY(find_layout(shape, &r));
    }
    SPAR_TRY(read_by(*shape, &r));
    if ((wants & SP_DATASET_BASE) && json_object_get(row, "base")) {
        SPAR_TRY(sp_reading_answer(&r, "base", &out.base));
    }
    SPAR_TRY(out.prompt != NULL ? read_beside(&r) : SPAR_OK);
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
 * more. *first: why the first bad row is so. */
static spar_status read_row(spar_rows *rows, sp_dataset *data, const layout **shape, unsigned wants,
                            sp_dataset_skip skip, void *context, bool *end, spar_error *first,
                            spar_error *err) {
    json_t *row = NULL;
    spar_error why;
    spar_status status = spar_rows_next(rows, &row, &why);
    const bool readable = status == SPAR_OK || spar_rows_goes_on(rows);
    *end = status == SPAR_OK && row == NULL;
    if (row != NULL) {
        status = add_row(data, shape, row, wants, spar_rows_where(rows), &why);
    }
    json_decref(row);
    if (status != SPAR_OK && first->code == SPAR_OK) {
        *first = why;
    }
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
    spar_error first = {SPAR_OK, ""};
    void *memory;
    bool end = false;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *data, err));
    data = memory;
    SPAR_TRY(spar_rows_open(&rows, path, err));
    while (!end) {
        SPAR_TRY(read_row(rows, data, &shape, wants, skip, context, &end, &first, err));
    }
    if (shape == NULL) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected rows, found %s%s%s", path,
                           skip != NULL ? "none that can be used" : "an empty file",
                           first.code != SPAR_OK ? "; the first: " : "", first.message));
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

spar_status spar_row_read(const json_t *row, json_t **prompt, json_t **response, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dataset data = {0};
    const layout *shape = NULL;
    SPAR_TRY(add_row(&data, &shape, row, 0, "row", err));
    *prompt = json_incref(data.rows[0].prompt);
    *response = json_incref(data.rows[0].response);
done:
    for (size_t i = 0; i < data.n; i++) {
        row_release(&data.rows[i]);
    }
    free(data.rows);
    return status;
}

/* A list of messages without the assistant's last. */
static spar_status read_messages_before(const sp_reading *r, const char *field) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_reading_list(r, field, json_object_get(r->row, field), &r->out->prompt));
    const size_t n = json_array_size(r->out->prompt);
    const json_t *last = json_array_get(r->out->prompt, n - 1);
    if (n > 1 && strcmp(json_string_value(json_object_get(last, "role")), "assistant") == 0) {
        json_array_remove(r->out->prompt, n - 1);
    }
done:
    return status;
}

static bool has(const json_t *row, const char *name) {
    const json_t *value = json_object_get(row, name);
    return value != NULL && !json_is_null(value);
}

/* By its layout, or by the question alone. */
static spar_status read_prompt_alone(sp_reading *r) {
    static const char *const lists[] = {"messages", "conversations"};
    static const char *const questions[][2] = {{"prompt", NULL},
                                               {"instruction", "input"},
                                               {"question", "context"},
                                               {"query", "context"},
                                               {"input", NULL}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        if (has(r->row, lists[i])) {
            return read_messages_before(r, lists[i]);
        }
    }
    for (size_t i = 0; i < LAYOUT_COUNT; i++) {
        if (fits(&LAYOUTS[i], r->row, r->wants)) {
            return read_by(&LAYOUTS[i], r);
        }
    }
    for (size_t i = 0; i < sizeof questions / sizeof *questions; i++) {
        if (has(r->row, questions[i][0])) {
            r->ask = questions[i][0];
            r->beside = questions[i][1];
            return sp_reading_question(r);
        }
    }
    return sp_reading_wrong(
        r, "row", "a prompt, messages, conversations, an instruction or a question", "none");
}

spar_status spar_row_prompt(const json_t *row, json_t **prompt, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dataset_row out = {0};
    sp_reading r = {
        .row = row, .where = "row", .wants = SP_DATASET_GROUPS, .out = &out, .err = err};
    SPAR_TRY(read_prompt_alone(&r));
    SPAR_TRY(read_beside(&r));
    *prompt = json_incref(out.prompt);
done:
    row_release(&out);
    return status;
}

spar_status sp_dataset_load(sp_dataset **out, const char *path, spar_error *err) {
    return sp_dataset_load_rows(out, path, 0, NULL, NULL, err);
}
