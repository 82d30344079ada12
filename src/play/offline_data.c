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

enum { SHOWN_SKIPS = 10 };

typedef struct loader {
    sp_offline *out;
    const spar_model *model;
    const spar_train_options *options;
    const sp_objective *objective;
    bool pairs, labelled;
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

static void row_release(sp_offline_row *row) {
    free(row->prompt);
    free(row->chosen);
    free(row->rejected);
    *row = (sp_offline_row){0};
}

void sp_offline_release(sp_offline *data) {
    for (size_t i = 0; i < data->n; i++) {
        row_release(&data->rows[i]);
    }
    free(data->rows);
    sp_lessons_release(&data->lessons);
    memset(data, 0, sizeof *data);
}

static spar_status check_length(loader *l, const char *which, size_t prompt, size_t response,
                                spar_error *err) {
    if (prompt == 0 || response == 0) {
        return spar_fail(err, SPAR_INVALID, "%s: expected at least one token, found none",
                         prompt == 0 ? "prompt" : which);
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
    if (l->options->on_long == SPAR_TRAIN_LONG_TRUNCATE && room > 0 &&
        (e->n_chosen > room || e->n_rejected > room)) {
        e->n_chosen = e->n_chosen < room ? e->n_chosen : room;
        e->n_rejected = e->n_rejected < room ? e->n_rejected : room;
        l->out->truncated++;
    }
}

static spar_status check_row(loader *l, const sp_offline_row *e, spar_error *err) {
    spar_status status = SPAR_OK;
    const unsigned reads = sp_objective_reads(l->objective);
    l->too_long = false;
    if ((reads & (SP_READS_WIN_RATE | SP_READS_REWARD)) &&
        (isnan(e->score_chosen) || (l->pairs && isnan(e->score_rejected)))) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "expected score_chosen and score_rejected, which method %s reads, found "
                           "none",
                           l->objective->name));
    }
    SPAR_TRY(check_length(l, "chosen", e->n_prompt, e->n_chosen, err));
    if (l->pairs) {
        SPAR_TRY(check_length(l, "rejected", e->n_prompt, e->n_rejected, err));
        if (e->n_chosen == e->n_rejected &&
            memcmp(e->chosen, e->rejected, e->n_chosen * sizeof *e->chosen) == 0) {
            SPAR_TRY(
                spar_fail(err, SPAR_INVALID, "expected two responses, found the same one twice"));
        }
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
    row_release(row);
    return status;
}

/* A row that failed, named in why: OK when it may be left out. */
static spar_status settle(loader *l, const char *where, spar_error *why, spar_error *err) {
    spar_error_context(why, "%s", where);
    const bool skipped = why->code != SPAR_NO_MEMORY && skip_row(l, why);
    l->too_long = false;
    return skipped ? SPAR_OK : spar_fail(err, why->code, "%s", why->message);
}

/* ---- conversations ---- */

static spar_status add_turns(loader *l, const sp_dataset_row *from, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_offline_row row = {.score_chosen = from->score, .score_rejected = from->rejected_score};
    int32_t *again = NULL;
    size_t n_again;
    if (l->pairs && !from->rejected) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "rejected: expected a response, found none"));
    }
    if (from->response[0] == '\0' || (l->pairs && from->rejected[0] == '\0')) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s: expected a response, found an empty one",
                           from->response[0] == '\0' ? "chosen" : "rejected"));
    }
    if (l->labelled) {
        row.score_chosen = !from->bad;
    }
    SPAR_TRY(sp_model_turn(l->model, from->messages, from->response, &row.prompt, &row.n_prompt,
                           &row.chosen, &row.n_chosen, err));
    if (l->pairs) {
        SPAR_TRY(sp_model_turn(l->model, from->messages, from->rejected, &again, &n_again,
                               &row.rejected, &row.n_rejected, err));
    }
    SPAR_TRY(add(l, &row, err));
done:
    free(again);
    row_release(&row);
    return status;
}

static spar_status load_conversations(loader *l, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dataset *data = NULL;
    SPAR_TRY(sp_dataset_load_rows(&data, l->options->data, l->labelled, skip_row, l, err));
    l->out->layout = data->layout;
    if (!spar_model_tokenizer(l->model) || !spar_model_template(l->model)) {
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

static spar_status read_ids(const loader *l, const json_t *row, const char *key, int32_t **out,
                            size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *list = json_object_get(row, key);
    void *memory;
    if (!json_is_array(list)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected a list of token ids, found %s", key,
                           list ? sp_json_type_name(list) : "none"));
    }
    *n = json_array_size(list);
    SPAR_TRY(sp_mem_calloc(&memory, *n + 1, sizeof **out, err));
    *out = memory;
    for (size_t i = 0; i < *n; i++) {
        const json_t *item = json_array_get(list, i);
        const json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id >= spar_model_vocab(l->model)) {
            SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s[%zu]: expected a token id", key, i));
        }
        (*out)[i] = (int32_t)id;
    }
done:
    return status;
}

static spar_status add_ids(loader *l, const json_t *json, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_offline_row row = {0};
    const json_t *label = json_object_get(json, "label");
    SPAR_TRY(sp_dataset_scores(json, &row.score_chosen, &row.score_rejected, err));
    SPAR_TRY(read_ids(l, json, "prompt_ids", &row.prompt, &row.n_prompt, err));
    if (l->labelled && !json_is_boolean(label)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "label: expected true or false, found %s",
                           sp_json_type_name(label)));
    }
    if (l->labelled) {
        row.score_chosen = json_is_true(label);
    }
    SPAR_TRY(read_ids(l, json, l->labelled ? "completion_ids" : "chosen_ids", &row.chosen,
                      &row.n_chosen, err));
    if (l->pairs) {
        SPAR_TRY(read_ids(l, json, "rejected_ids", &row.rejected, &row.n_rejected, err));
    }
    SPAR_TRY(add(l, &row, err));
done:
    row_release(&row);
    return status;
}

static spar_status load_ids(loader *l, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *file = NULL;
    json_t *row = NULL;
    l->out->layout = l->labelled ? "token ids: prompt_ids, completion_ids, label"
                                 : "token ids: prompt_ids, chosen_ids, rejected_ids";
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

/* Whether the first row that can be read holds ids. */
static spar_status holds_ids(const loader *l, bool *ids, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *file = NULL;
    json_t *row = NULL;
    *ids = false;
    SPAR_TRY(spar_rows_open(&file, l->options->data, err));
    while (spar_rows_next(file, &row, NULL) != SPAR_OK && spar_rows_goes_on(file)) {
    }
    *ids = json_object_get(row, l->labelled ? "completion_ids" : "chosen_ids") != NULL;
done:
    json_decref(row);
    spar_rows_free(file);
    return status;
}

/* The first row as the model sees it. */
static void show(const loader *l) {
    enum { MOST = 600 };
    const sp_offline_row *e = &l->out->rows[0];
    const struct {
        const char *name;
        const int32_t *ids;
        size_t n;
    } parts[] = {{"prompt", e->prompt, e->n_prompt},
                 {!l->labelled            ? "chosen"
                  : e->score_chosen > 0.5 ? "good completion"
                                          : "bad completion",
                  e->chosen, e->n_chosen},
                 {"rejected", e->rejected, e->n_rejected}};
    for (size_t i = 0; i < 3 && spar_model_tokenizer(l->model); i++) {
        char *text = NULL;
        size_t n;
        if (parts[i].ids && spar_tokenizer_decode(spar_model_tokenizer(l->model), parts[i].ids,
                                                  parts[i].n, false, &text, &n, NULL) == SPAR_OK) {
            spar_sink_log(l->options->sink, SPAR_LOG_INFO, "first row, %s (%zu tokens): %.*s",
                          parts[i].name, parts[i].n, n < MOST ? (int)n : MOST, text);
        }
        free(text);
    }
}

/* Win rates and rewards are what the row gives; a label is a reward of 1 or 0. */
static spar_status make_lessons(const loader *l, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_offline *out = l->out;
    SPAR_TRY(sp_lessons_init(&out->lessons, out->n, 2 * out->n, err));
    for (size_t i = 0; i < out->n; i++) {
        const sp_offline_row *row = &out->rows[i];
        const sp_reply chosen = {.ids = row->chosen,
                                 .n = row->n_chosen,
                                 .win_rate = row->score_chosen,
                                 .reward = row->score_chosen};
        const sp_reply rejected = {.ids = row->rejected,
                                   .n = row->n_rejected,
                                   .win_rate = row->score_rejected,
                                   .reward = row->score_rejected};
        sp_lessons_add(&out->lessons, row->prompt, row->n_prompt);
        sp_lessons_reply(&out->lessons, &chosen);
        if (l->pairs) {
            sp_lessons_reply(&out->lessons, &rejected);
        }
    }
    if (l->labelled && sp_lessons_mismatch(&out->lessons, l->longest, err) != SPAR_OK) {
        spar_error_context(err, "%s", l->options->data);
        status = SPAR_INVALID;
    }
done:
    return status;
}

spar_status sp_offline_load(sp_offline *out, const spar_model *model, const spar_train_options *o,
                            const sp_objective *objective, spar_error *err) {
    spar_status status = SPAR_OK;
    const int64_t context = spar_model_context(model);
    loader l = {.out = out,
                .model = model,
                .options = o,
                .objective = objective,
                .pairs = objective->kind == SP_OBJECTIVE_RESPONSES,
                .labelled = objective->kind == SP_OBJECTIVE_LABELLED,
                .longest = context};
    char line[256];
    bool ids;
    memset(out, 0, sizeof *out);
    if (o->max_length > 0 && o->max_length < context) {
        l.longest = o->max_length;
    }
    SPAR_TRY(holds_ids(&l, &ids, err));
    SPAR_TRY(ids ? load_ids(&l, err) : load_conversations(&l, err));
    if (out->n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "%s: expected rows to learn from, found none that "
                           "can be used",
                           o->data));
    }
    snprintf(line, sizeof line, "%zu rows to learn from, %lld left out; layout: %s", out->n,
             (long long)out->skipped, out->layout);
    say(&l, line);
    if (out->truncated > 0) {
        snprintf(line, sizeof line, "%lld rows were cut to %lld tokens", (long long)out->truncated,
                 (long long)l.longest);
        say(&l, line);
    }
    show(&l);
    SPAR_TRY(make_lessons(&l, err));
done:
    if (status != SPAR_OK) {
        sp_offline_release(out);
    }
    return status;
}
