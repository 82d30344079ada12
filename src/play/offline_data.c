/* Rows of a data file, in one of the conversational layouts or as ids, to examples. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/dataset.h"
#include "play/offline.h"
#include "spar/rows.h"
#include "text/conversation.h"

enum { SHOWN_SKIPS = 10, MOST_NAMED = 3 };

/* What a row holds: one response, a pair (with a third of the base's where the objective takes
 * one), or any number. */
typedef enum row_shape { SHAPE_SINGLE, SHAPE_PAIR, SHAPE_GROUP } row_shape;

typedef struct loader {
    sp_offline *out;
    const spar_model *model;
    const spar_train_options *options;
    const sp_objective *objective;
    size_t fewest, most; /* responses that the objective takes */
    row_shape shape;
    bool labelled;
    bool conversations; /* the layout holds conversations that end in the response */
    int64_t longest;
    bool too_long; /* why the row at hand is bad */
} loader;

static void say(const loader *l, const char *text) {
    spar_sink_log(l->options->sink, SPAR_LOG_INFO, "%s", text);
}

/* The policy on a bad row, whose message is in why. */
static bool skip_row(void *context, const spar_error *why) {
    loader *l = context;
    const bool skip_long = l->too_long && l->options->on_long == SPAR_TRAIN_LONG_SKIP;
    if (!l->options->skip_bad && !skip_long) {
        return false;
    }
    if (++l->out->skipped <= SHOWN_SKIPS) {
        spar_sink_log(l->options->sink, SPAR_LOG_WARN, "left out: %s", why->message);
    }
    return true;
}

void sp_offline_release(sp_offline *data) {
    for (size_t i = 0; i < data->n; i++) {
        sp_offline_row_release(&data->rows[i]);
    }
    free(data->rows);
    sp_lessons_release(&data->lessons);
    memset(data, 0, sizeof *data);
}

/* ---- checks ---- */

/* The response at a place of its row, as messages call it. */
static const char *name_of(const loader *l, size_t i, char place[static 32]) {
    static const char *const names[MOST_NAMED] = {"chosen", "rejected", "base"};
    if (l->shape != SHAPE_GROUP) {
        return l->shape == SHAPE_SINGLE ? "response" : names[i];
    }
    snprintf(place, 32, "responses[%zu]", i);
    return place;
}

static spar_status check_length(loader *l, const char *which, size_t prompt, size_t response,
                                spar_error *err) {
    if (prompt == 0 || response == 0) {
        return spar_fail(err, SPAR_INVALID, "%s: expected at least one token, found none",
                         prompt == 0 ? "prompt" : which);
    }
    if ((int64_t)prompt >= l->longest) { /* no response can be cut to fit */
        l->too_long = true;
        return spar_fail(err, SPAR_LIMIT, "prompt: expected fewer than %lld tokens, found %zu",
                         (long long)l->longest, prompt);
    }
    if ((int64_t)(prompt + response) > l->longest) {
        l->too_long = true;
        return spar_fail(err, SPAR_LIMIT,
                         "%s: expected at most %lld tokens with its prompt, found %zu", which,
                         (long long)l->longest, prompt + response);
    }
    return SPAR_OK;
}

/* Cut the responses to what the prompt leaves of the longest row; one token at least must stay. */
static void truncate_responses(loader *l, sp_offline_row *e) {
    const size_t longest = (size_t)l->longest;
    const size_t room = e->n_prompt < longest ? longest - e->n_prompt : 0;
    bool cut = false;
    for (size_t i = 0; i < e->n && room > 0; i++) {
        if (l->options->on_long == SPAR_TRAIN_LONG_TRUNCATE && e->responses[i].n > room) {
            e->responses[i].n = room;
            cut = true;
        }
    }
    l->out->truncated += cut;
}

static spar_status check_scores(const loader *l, const sp_offline_row *e, spar_error *err) {
    const unsigned reads = sp_objective_reads(l->objective);
    bool missing = false;
    for (size_t i = 0; i < e->n; i++) {
        missing = missing || isnan(e->responses[i].score);
    }
    return missing && (reads & (SP_READS_WIN_RATE | SP_READS_REWARD))
               ? spar_fail(err, SPAR_INVALID,
                           "expected score_chosen and score_rejected, which method %s reads, found "
                           "none",
                           l->objective->name)
               : SPAR_OK;
}

static spar_status check_row(loader *l, const sp_offline_row *e, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_offline_response *y = e->responses;
    char place[32];
    l->too_long = false;
    if (e->n < l->fewest) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "expected %zu responses or more, which method %s compares, found %zu",
                           l->fewest, l->objective->name, e->n));
    }
    SPAR_TRY(check_scores(l, e, err));
    for (size_t i = 0; i < e->n; i++) {
        SPAR_TRY(check_length(l, name_of(l, y[i].place, place), e->n_prompt, y[i].n, err));
    }
    if (l->shape == SHAPE_PAIR && y[0].n == y[1].n &&
        memcmp(y[0].ids, y[1].ids, y[0].n * sizeof *y[0].ids) == 0) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "expected two responses, found the same one twice"));
    }
done:
    return status;
}

/* Take a row: stolen, also on failure. */
static spar_status add(loader *l, sp_offline_row *row, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_offline *out = l->out;
    truncate_responses(l, row);
    SPAR_TRY(check_row(l, row, err));
    void *memory = out->rows;
    SPAR_TRY(sp_mem_grow(&memory, &out->capacity, out->n + 1, sizeof *out->rows, err));
    out->rows = memory;
    out->rows[out->n++] = *row;
    *row = (sp_offline_row){0};
done:
    sp_offline_row_release(row);
    return status;
}

/* A row that failed, named in why: OK when it may be left out. */
static spar_status settle(loader *l, const char *where, spar_error *why, spar_error *err) {
    spar_error_context(why, "%s", where);
    const bool skipped = why->code != SPAR_NO_MEMORY && skip_row(l, why);
    l->too_long = false;
    return skipped ? SPAR_OK : spar_fail(err, why->code, "%s", why->message);
}

/* Responses of a row of single ones or pairs: the third only where it is given. */
static spar_status count_named(const loader *l, bool has_rejected, bool has_base, size_t *n,
                               spar_error *err) {
    *n = l->shape == SHAPE_SINGLE ? 1 : has_base && l->most == 3 ? 3 : 2;
    if (*n > 1 && !has_rejected) {
        return l->most == SIZE_MAX
                   ? spar_fail(err, SPAR_INVALID,
                               "expected responses with what method %s reads of each, or chosen "
                               "and rejected, found one response",
                               l->objective->name)
                   : spar_fail(err, SPAR_INVALID, "rejected: expected a response, found none");
    }
    if (*n < 3 && l->fewest == 3) {
        return spar_fail(err, SPAR_INVALID,
                         "base: expected a response of the reference, which method %s reads, found "
                         "none",
                         l->objective->name);
    }
    return SPAR_OK;
}

/* ---- conversations ---- */

/* Which turns sft learns by their messages (*turns), where it does: a response behind its
 * generation prompt is learned as it is. */
static bool learns_turns(const loader *l, const sp_dataset_row *from, sp_turns *turns) {
    const bool several = json_is_array(from->response);
    const bool only = l->options->assistant_only_loss;
    *turns = only && l->conversations ? SP_TURNS_ALL : several ? SP_TURNS_RESPONSE : SP_TURNS_LAST;
    return l->objective->kind == SP_OBJECTIVE_SFT &&
           (only || (!several && spar_template_marks(spar_model_template(l->model))));
}

/* Responses [n] behind their prompt. */
static spar_status fill_responses(loader *l, const json_t *prompt, const json_t *const *given,
                                  size_t n, sp_offline_row *row, spar_error *err) {
    spar_status status = SPAR_OK;
    bool several = false, merged = false;
    for (size_t i = 0; i < n; i++) {
        several = several || json_is_array(given[i]);
    }
    if (several) {
        SPAR_TRY(sp_offline_whole(l->model, prompt, given, n, row, &merged, err));
        l->out->merged += merged;
        goto done;
    }
    SPAR_TRY(sp_offline_row_init(row, n, err));
    for (size_t i = 0; i < n; i++) {
        SPAR_TRY(sp_offline_turn(l->model, prompt, given[i], row, i, err));
    }
done:
    return status;
}

static spar_status fill_turns(loader *l, const sp_dataset_row *from, sp_offline_row *row,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *const given[MOST_NAMED] = {from->response, from->rejected, from->base};
    sp_turns turns;
    size_t n;
    char place[32];
    SPAR_TRY(count_named(l, from->rejected, from->base, &n, err));
    for (size_t i = 0; i < n; i++) {
        if (sp_response_is_empty(given[i])) {
            SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s: expected a response, found an empty one",
                               name_of(l, i, place)));
        }
    }
    if (learns_turns(l, from, &turns)) {
        return sp_offline_conversation(l->model, from->prompt, from->response, turns, row, err);
    }
    SPAR_TRY(fill_responses(l, from->prompt, given, n, row, err));
    row->responses[0].score = l->labelled ? (double)!from->bad : from->score;
    if (n > 1) {
        row->responses[1].score = from->rejected_score;
    }
done:
    return status;
}

static spar_status add_turns(loader *l, const sp_dataset_row *from, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_offline_row row = {0};
    if (from->text) {
        SPAR_TRY(sp_offline_text(l->model, from->text, &row, err));
    } else if (from->row) {
        SPAR_TRY(sp_offline_group_of_text(l->model, from->prompt, from->row, &row, err));
        SPAR_TRY(sp_offline_group_numbers(l->objective, from->row, &row, err));
    } else {
        SPAR_TRY(fill_turns(l, from, &row, err));
    }
    SPAR_TRY(add(l, &row, err));
done:
    sp_offline_row_release(&row);
    return status;
}

/* Turns are told apart in conversations only, as TRL has it; an instruction may have a history.
 * layout: NULL for ids. */
static spar_status check_turns(loader *l, const char *layout, spar_error *err) {
    static const char *const whole[] = {"messages", "conversations", "instruction"};
    for (size_t i = 0; layout && i < sizeof whole / sizeof *whole; i++) {
        l->conversations = l->conversations || strcmp(layout, whole[i]) == 0;
    }
    const bool apart = l->conversations || (layout && strcmp(layout, "prompt-completion") == 0);
    if (!l->options->assistant_only_loss || (apart && l->objective->kind == SP_OBJECTIVE_SFT)) {
        return SPAR_OK;
    }
    return spar_fail(
        err, SPAR_INVALID,
        "assistant-only-loss: expected sft on rows of messages, conversations or prompt and "
        "completion, found %s on %s",
        l->objective->name, l->out->layout);
}

static spar_status load_conversations(loader *l, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dataset *data = NULL;
    const unsigned wants = (l->labelled ? SP_DATASET_LABELS : 0) |
                           (l->most == 3 ? SP_DATASET_BASE : 0) |
                           (l->shape == SHAPE_GROUP ? SP_DATASET_GROUPS : 0) |
                           (l->objective->kind == SP_OBJECTIVE_SFT ? SP_DATASET_TEXT : 0);
    SPAR_TRY(sp_dataset_load_rows(&data, l->options->data, wants, skip_row, l, err));
    l->out->layout = data->layout;
    SPAR_TRY(check_turns(l, data->name, err));
    const bool rendered = data->n > 0 && !data->rows[0].text;
    if (!spar_model_tokenizer(l->model) || (rendered && !spar_model_template(l->model))) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: has no %s, which rows of text need",
                           l->options->model,
                           spar_model_tokenizer(l->model) ? "chat template" : "tokenizer"));
    }
    for (size_t i = 0; i < data->n; i++) {
        spar_error why;
        if (add_turns(l, &data->rows[i], &why) != SPAR_OK) {
            SPAR_TRY(settle(l, data->rows[i].where, &why, err));
        }
    }
done:
    sp_dataset_free(data);
    return status;
}

/* ---- ids ---- */

/* A response alone may be called by either name. */
static const char *first_key(const loader *l, const json_t *row) {
    const bool completion = l->shape == SHAPE_SINGLE && json_object_get(row, "completion_ids");
    return completion || l->labelled ? "completion_ids" : "chosen_ids";
}

/* A mask that went unread would train on what it leaves out. */
static spar_status fill_mask(const loader *l, const json_t *json, sp_offline_response *to,
                             spar_error *err) {
    static const char name[] = "completion_mask";
    const json_t *mask = json_object_get(json, name);
    if (!mask || l->objective->kind == SP_OBJECTIVE_SFT) {
        return mask ? sp_offline_mask(mask, name, to, err) : SPAR_OK;
    }
    return spar_fail(err, SPAR_INVALID, "%s: expected method sft, which reads it, found %s", name,
                     l->objective->name);
}

static spar_status fill_ids(loader *l, const json_t *json, sp_offline_row *row, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *const keys[MOST_NAMED] = {first_key(l, json), "rejected_ids", "base_ids"};
    const json_t *label = json_object_get(json, "label");
    double scores[MOST_NAMED] = {0};
    size_t n;
    SPAR_TRY(sp_dataset_scores(json, &scores[0], &scores[1], err));
    SPAR_TRY(sp_offline_ids(l->model, json_object_get(json, "prompt_ids"), "prompt_ids",
                            &row->prompt, &row->n_prompt, err));
    if (l->labelled ? !json_is_boolean(label) : l->shape == SHAPE_SINGLE && json_is_false(label)) {
        SPAR_TRY(
            spar_fail(err, SPAR_FORMAT, "label: expected %s, found %s",
                      l->labelled ? "true or false" : "true or nothing, of a response to learn",
                      json_is_false(label) ? "false" : sp_json_type_name(label)));
    }
    scores[0] = l->labelled ? json_is_true(label) : scores[0];
    SPAR_TRY(count_named(l, true, json_object_get(json, keys[2]), &n, err));
    SPAR_TRY(sp_offline_row_init(row, n, err));
    for (size_t i = 0; i < n; i++) {
        sp_offline_response *to = &row->responses[i];
        to->score = scores[i];
        SPAR_TRY(sp_offline_ids(l->model, json_object_get(json, keys[i]), keys[i], &to->ids, &to->n,
                                err));
    }
    SPAR_TRY(fill_mask(l, json, &row->responses[0], err));
done:
    return status;
}

static spar_status add_ids(loader *l, const json_t *json, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_offline_row row = {0};
    if (l->shape == SHAPE_GROUP) {
        SPAR_TRY(sp_offline_group_of_ids(l->model, json, &row, err));
        SPAR_TRY(sp_offline_group_numbers(l->objective, json, &row, err));
    } else {
        SPAR_TRY(fill_ids(l, json, &row, err));
    }
    SPAR_TRY(add(l, &row, err));
done:
    sp_offline_row_release(&row);
    return status;
}

static spar_status load_ids(loader *l, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *file = NULL;
    json_t *row = NULL;
    l->out->layout = l->shape == SHAPE_GROUP    ? "token ids: prompt_ids, responses_ids"
                     : l->labelled              ? "token ids: prompt_ids, completion_ids, label"
                     : l->shape == SHAPE_SINGLE ? "token ids: prompt_ids and a response's"
                                                : "token ids: prompt_ids, chosen_ids, rejected_ids";
    SPAR_TRY(check_turns(l, NULL, err));
    SPAR_TRY(spar_rows_open(&file, l->options->data, err));
    for (;;) {
        spar_error why;
        spar_status row_status = spar_rows_next(file, &row, &why);
        if (row_status == SPAR_OK && !row) {
            break;
        }
        if (row_status != SPAR_OK && !(spar_rows_goes_on(file) && skip_row(l, &why))) {
            SPAR_TRY(spar_fail(err, why.code, "%s", why.message));
        }
        if (row_status == SPAR_OK && add_ids(l, row, &why) != SPAR_OK) {
            SPAR_TRY(settle(l, spar_rows_where(file), &why, err));
        }
        json_decref(row);
        row = NULL;
    }
done:
    json_decref(row);
    spar_rows_free(file);
    return status;
}

/* What the first row that can be read holds: ids or text, and of methods that take any number of
 * responses, whether it gives a list of them or a pair. */
static spar_status look_ahead(loader *l, bool *ids, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *file = NULL;
    json_t *row = NULL;
    spar_error why;
    SPAR_TRY(spar_rows_open(&file, l->options->data, err));
    spar_status first;
    do {
        first = spar_rows_next(file, &row, &why);
    } while (first != SPAR_OK && spar_rows_goes_on(file));
    if (first == SPAR_NO_MEMORY) { /* any other fault is met, and named, when the rows are read */
        SPAR_TRY(spar_fail(err, first, "%s", why.message));
    }
    const bool list_of_ids = json_object_get(row, "responses_ids") != NULL;
    if (l->most == SIZE_MAX &&
        (list_of_ids || json_object_get(row, "responses") || json_object_get(row, "completions"))) {
        l->shape = SHAPE_GROUP;
    }
    *ids = l->shape == SHAPE_GROUP ? list_of_ids : json_object_get(row, first_key(l, row)) != NULL;
done:
    json_decref(row);
    spar_rows_free(file);
    return status;
}

static size_t count_learned(const sp_offline_response *y) {
    size_t n = 0;
    for (size_t i = 0; i < y->n; i++) {
        n += y->mask[i] != 0;
    }
    return n;
}

/* The first row as the model sees it. */
static void show(const loader *l) {
    enum { MOST = 600 };
    const sp_offline_row *e = &l->out->rows[0];
    const spar_tokenizer *t = spar_model_tokenizer(l->model);
    for (size_t i = 0; i <= e->n && t; i++) {
        char *text = NULL, place[32];
        size_t n;
        const sp_offline_response *y = i > 0 ? &e->responses[i - 1] : NULL;
        const char *name = !y               ? "prompt"
                           : !l->labelled   ? name_of(l, y->place, place)
                           : y->score > 0.5 ? "good completion"
                                            : "bad completion";
        const size_t n_ids = y ? y->n : e->n_prompt;
        if (spar_tokenizer_decode(t, y ? y->ids : e->prompt, n_ids, false, &text, &n, NULL) ==
            SPAR_OK) {
            char some[32] = "";
            if (y && y->mask) {
                snprintf(some, sizeof some, ", %zu of them learned", count_learned(y));
            }
            spar_sink_log(l->options->sink, SPAR_LOG_INFO, "first row, %s (%zu tokens%s): %.*s",
                          name, n_ids, some, n < MOST ? (int)n : MOST, text);
        }
        free(text);
    }
}

/* Win rates and rewards are what the row gives; a label is a reward of 1 or 0. */
static spar_status make_lessons(const loader *l, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_offline *out = l->out;
    size_t replies = 0;
    for (size_t i = 0; i < out->n; i++) {
        replies += out->rows[i].n;
    }
    SPAR_TRY(sp_lessons_init(&out->lessons, out->n, l->labelled ? 2 * replies : replies, err));
    for (size_t i = 0; i < out->n; i++) {
        const sp_offline_row *row = &out->rows[i];
        sp_lessons_add(&out->lessons, row->prompt, row->n_prompt);
        for (size_t k = 0; k < row->n; k++) {
            const sp_offline_response *y = &row->responses[k];
            const sp_reply reply = {.ids = y->ids,
                                    .n = y->n,
                                    .win_rate = y->score,
                                    .reward = y->score,
                                    .kept = y->logps,
                                    .mask = y->mask};
            sp_lessons_reply(&out->lessons, &reply);
        }
    }
    if (l->labelled && sp_lessons_mismatch(&out->lessons, l->longest, err) != SPAR_OK) {
        spar_error_context(err, "%s", l->options->data);
        status = SPAR_INVALID;
    }
done:
    return status;
}

/* What was read, in words. */
static void describe(const loader *l) {
    char line[256];
    const sp_offline *out = l->out;
    size_t alike = 0;
    snprintf(line, sizeof line, "%zu rows to learn from, %lld left out; layout: %s", out->n,
             (long long)out->skipped, out->layout);
    say(l, line);
    if (out->truncated > 0) {
        snprintf(line, sizeof line, "%lld rows were cut to %lld tokens", (long long)out->truncated,
                 (long long)l->longest);
        say(l, line);
    }
    if (out->merged > 0) {
        snprintf(line, sizeof line,
                 "in %lld rows a token goes over the end of the prompt: it is learned whole, and "
                 "sampling will not begin with it",
                 (long long)out->merged);
        say(l, line);
    }
    for (size_t i = 0; i < out->n && l->shape == SHAPE_GROUP; i++) {
        const sp_offline_row *row = &out->rows[i];
        alike += row->responses[0].score == row->responses[row->n - 1].score;
    }
    size_t pairs = 0;
    for (size_t i = 0; i < out->n && l->most == 3; i++) {
        pairs += out->rows[i].n == 2;
    }
    if (pairs > 0) {
        snprintf(line, sizeof line,
                 "%zu rows have no response of the base's: their losses are "
                 "those of the pair alone",
                 pairs);
        say(l, line);
    }
    if (alike > 0) {
        snprintf(line, sizeof line,
                 "of %zu rows all responses are alike: they say nothing of which "
                 "is better",
                 alike);
        say(l, line);
    }
    show(l);
}

spar_status sp_offline_load(sp_offline *out, const spar_model *model, const spar_train_options *o,
                            const sp_objective *objective, spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t context = spar_model_context(model);
    loader l = {.out = out,
                .model = model,
                .options = o,
                .objective = objective,
                .labelled = objective->kind == SP_OBJECTIVE_LABELLED,
                .longest = context};
    bool ids;
    memset(out, 0, sizeof *out);
    sp_objective_responses(objective, &l.fewest, &l.most);
    l.shape = l.most > 1 ? SHAPE_PAIR : SHAPE_SINGLE;
    if (o->max_length > 0 && o->max_length < context) {
        l.longest = o->max_length;
    }
    SPAR_TRY(look_ahead(&l, &ids, err));
    SPAR_TRY(ids ? load_ids(&l, err) : load_conversations(&l, err));
    if (out->n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "%s: expected rows to learn from, found none that "
                           "can be used",
                           o->data));
    }
    describe(&l);
    SPAR_TRY(make_lessons(&l, err));
done:
    if (status != SPAR_OK) {
        sp_offline_release(out);
    }
    return status;
}
