/* Parts of a row of a data file: its ids, its responses, and the numbers beside them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "model/learned.h"
#include "play/offline.h"
#include "text/conversation.h"
#include "text/vocabulary.h"
#include "train/game.h"

void sp_offline_row_release(sp_offline_row *row) {
    for (size_t i = 0; i < row->n; i++) {
        free(row->responses[i].ids);
        free(row->responses[i].logps);
        free(row->responses[i].mask);
    }
    free(row->responses);
    free(row->prompt);
    free(row->p);
    *row = (sp_offline_row){0};
}

spar_status sp_offline_row_init(sp_offline_row *row, size_t n, spar_error *err) {
    void *memory;
    const spar_status status = sp_mem_calloc(&memory, n, sizeof *row->responses, err);
    if (status == SPAR_OK) {
        row->responses = memory;
        row->n = n;
    }
    for (size_t i = 0; i < row->n; i++) {
        row->responses[i].score = (double)NAN;
        row->responses[i].place = i;
    }
    return status;
}

spar_status sp_offline_ids(const spar_model *model, const json_t *list, const char *name,
                           int32_t **ids, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    if (!json_is_array(list)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected a list of token ids, found %s", name,
                           list ? sp_json_type_name(list) : "none"));
    }
    *n = json_array_size(list);
    SPAR_TRY(sp_mem_calloc(&memory, *n + 1, sizeof **ids, err));
    *ids = memory;
    for (size_t i = 0; i < *n; i++) {
        const json_t *item = json_array_get(list, i);
        const json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id >= spar_model_vocab(model)) {
            SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s[%zu]: expected a token id", name, i));
        }
        (*ids)[i] = (int32_t)id;
    }
done:
    return status;
}

spar_status sp_offline_mask(const json_t *list, const char *name, sp_offline_response *to,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    size_t learned = 0;
    if (!json_is_array(list) || json_array_size(list) != to->n) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected a list of %zu, one an id, found %s",
                           name, to->n, json_is_array(list) ? "another" : sp_json_type_name(list)));
    }
    SPAR_TRY(sp_mem_calloc(&memory, to->n + 1, sizeof *to->mask, err));
    to->mask = memory;
    for (size_t i = 0; i < to->n; i++) {
        const json_t *item = json_array_get(list, i);
        const json_int_t bit = json_is_true(item) ? 1 : json_integer_value(item);
        if (!(json_is_integer(item) || json_is_boolean(item)) || bit < 0 || bit > 1) {
            SPAR_TRY(
                spar_fail(err, SPAR_FORMAT, "%s[%zu]: expected 1 or 0, found another", name, i));
        }
        to->mask[i] = (uint8_t)bit;
        learned += (size_t)bit;
    }
    if (learned == 0) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s: expected a 1, found none", name));
    }
    if (learned == to->n) {
        free(to->mask);
        to->mask = NULL;
    }
done:
    return status;
}

spar_status sp_offline_turn(const spar_model *model, const json_t *prompt, const json_t *response,
                            sp_offline_row *row, size_t i, spar_error *err) {
    int32_t *ids = NULL;
    size_t n_prompt;
    sp_offline_response *to = &row->responses[i];
    const spar_status status =
        sp_model_turn(model, prompt, response, &ids, &n_prompt, &to->ids, &to->n, err);
    if (status == SPAR_OK && !row->prompt) {
        row->prompt = ids;
        row->n_prompt = n_prompt;
        ids = NULL;
    }
    free(ids);
    return status;
}

static spar_status copy_ids(const int32_t *ids, size_t n, sp_offline_response *to,
                            spar_error *err) {
    void *memory;
    const spar_status status = sp_mem_calloc(&memory, n + 1, sizeof *to->ids, err);
    if (status == SPAR_OK) {
        to->ids = memcpy(memory, ids, n * sizeof *to->ids);
        to->n = n;
    }
    return status;
}

/* Copies of ids [n], and of their mask where some are 0. */
static spar_status copy_learned(const int32_t *ids, const uint8_t *mask, size_t n,
                                sp_offline_response *to, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    SPAR_TRY(copy_ids(ids, n, to, err));
    if (memchr(mask, 0, n)) {
        SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *to->mask, err));
        to->mask = memcpy(memory, mask, n * sizeof *to->mask);
    }
done:
    return status;
}

/* The assistant's turns of a response of several messages: those that rendering finds behind the
 * prompt, or what the blocks mark of the tokens that are not the prompt's, as TRL has it. */
static spar_status learn_response(const spar_model *model, const json_t *prompt,
                                  const json_t *response, const json_t *whole, sp_learned *l,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    int32_t *ids = NULL;
    size_t n, first, cut;
    if (!spar_template_marks(spar_model_template(model))) {
        const size_t n_prompt = json_array_size(sp_conversation_messages(prompt));
        return sp_learned_by_rendering(model, whole, n_prompt, l, err);
    }
    SPAR_TRY(sp_model_whole(model, prompt, response, &ids, &n, &first, &cut, err));
    SPAR_TRY(sp_learned_by_blocks(model, whole, 0, l, err));
    memset(l->mask, 0, first);
    if (!memchr(l->mask, 1, l->n)) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "chat template: expected a generation block behind the prompt, found "
                           "none"));
    }
done:
    free(ids);
    return status;
}

static spar_status learn(const spar_model *model, const json_t *prompt, const json_t *response,
                         sp_turns turns, sp_learned *l, spar_error *err) {
    json_t *whole = sp_conversation_then(prompt, response);
    const size_t last = json_array_size(sp_conversation_messages(whole)) - 1;
    const spar_status status =
        turns == SP_TURNS_RESPONSE
            ? learn_response(model, prompt, response, whole, l, err)
            : sp_learned_of(model, whole, turns == SP_TURNS_ALL ? 0 : last, l, err);
    json_decref(whole);
    return status;
}

spar_status sp_offline_conversation(const spar_model *model, const json_t *prompt,
                                    const json_t *response, sp_turns turns, sp_offline_row *row,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    sp_learned l = {0};
    SPAR_TRY(sp_offline_row_init(row, 1, err));
    SPAR_TRY(learn(model, prompt, response, turns, &l, err));
    size_t first = 0, end = l.n;
    while (first < l.n && !l.mask[first]) {
        first++;
    }
    while (end > first && !l.mask[end - 1]) {
        end--;
    }
    SPAR_TRY(copy_learned(l.ids + first, l.mask + first, end - first, &row->responses[0], err));
    row->prompt = l.ids;
    row->n_prompt = first;
    l.ids = NULL;
done:
    sp_learned_release(&l);
    return status;
}

spar_status sp_offline_text(const spar_model *model, const json_t *text, sp_offline_row *row,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_tokenizer *t = spar_model_tokenizer(model);
    const int32_t own = spar_tokenizer_eos(t);
    const int32_t eos = own >= 0 || model->config.n_eos == 0 ? own : model->config.eos[0];
    sp_ids ids = {0};
    if (json_string_length(text) == 0) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "text: expected a text, found an empty one"));
    }
    SPAR_TRY(sp_offline_row_init(row, 1, err));
    SPAR_TRY(spar_tokenizer_encode(t, json_string_value(text), json_string_length(text), 0,
                                   &ids.data, &ids.n, err));
    ids.capacity = ids.n;
    if (eos >= 0 && (ids.n == 0 || ids.data[ids.n - 1] != eos)) {
        SPAR_TRY(sp_ids_push(&ids, eos, err));
    }
    row->prompt = ids.data;
    row->n_prompt = ids.n > 0;
    ids.data = NULL;
    SPAR_TRY(copy_ids(row->prompt + row->n_prompt, ids.n - row->n_prompt, &row->responses[0], err));
done:
    free(ids.data);
    return status;
}

/* Ids of whole conversations [n] that all begin with n_prompt ids, as a prompt and responses. */
static spar_status part(sp_offline_row *row, size_t n_prompt, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, n_prompt + 1, sizeof *row->prompt, err));
    row->prompt = memcpy(memory, row->responses[0].ids, n_prompt * sizeof *row->prompt);
    row->n_prompt = n_prompt;
    for (size_t i = 0; i < row->n; i++) {
        sp_offline_response *y = &row->responses[i];
        y->n -= n_prompt;
        memmove(y->ids, y->ids + n_prompt, y->n * sizeof *y->ids);
    }
done:
    return status;
}

spar_status sp_offline_whole(const spar_model *model, const json_t *prompt,
                             const json_t *const *responses, size_t n, sp_offline_row *row,
                             bool *merged, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t n_prompt = SIZE_MAX;
    *merged = false;
    SPAR_TRY(sp_offline_row_init(row, n, err));
    for (size_t i = 0; i < n; i++) {
        size_t first, cut;
        sp_offline_response *y = &row->responses[i];
        SPAR_TRY(sp_model_whole(model, prompt, responses[i], &y->ids, &y->n, &first, &cut, err));
        n_prompt = first < n_prompt ? first : n_prompt;
        *merged = *merged || cut > 0;
    }
    SPAR_TRY(part(row, n_prompt, err));
done:
    return status;
}

/* ---- groups ---- */

spar_status sp_offline_message(const json_t *item, const char *name, json_t **out,
                               spar_error *err) {
    json_t *of = json_array_size(item) == 1 ? json_array_get(item, 0) : (json_t *)(uintptr_t)item;
    json_t *text = json_is_string(of) ? of : json_object_get(of, "text");
    const json_t *role = json_object_get(of, "role");
    const bool whole = json_object_get(of, "content") || role;
    *out = NULL;
    if (role && strcmp(json_string_value(role) ? json_string_value(role) : "", "assistant") != 0) {
        return spar_fail(err, SPAR_FORMAT, "%s: role: expected assistant, found another", name);
    }
    if (whole) {
        *out = json_copy(of);
        json_object_set_new(*out, "role", json_string("assistant"));
    } else if (json_is_string(text)) {
        *out = json_pack("{s:s, s:O}", "role", "assistant", "content", text);
    }
    return *out ? SPAR_OK
                : spar_fail(err, SPAR_FORMAT, "%s: expected a string or a message, found %s", name,
                            item ? sp_json_type_name(item) : "none");
}

/* The same, which must not be empty. */
static spar_status full_message(const json_t *item, const char *name, json_t **out,
                                spar_error *err) {
    const spar_status status = sp_offline_message(item, name, out, err);
    return status == SPAR_OK && sp_message_is_empty(*out)
               ? spar_fail(err, SPAR_INVALID, "%s: expected a response, found an empty one", name)
               : status;
}

static spar_status put_response(const spar_model *model, const json_t *prompt, const json_t *item,
                                const char *name, sp_offline_row *row, size_t i, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *message = NULL;
    char ids[64];
    sp_offline_response *to = &row->responses[i];
    if (!json_object_get(item, "ids")) {
        SPAR_TRY(full_message(item, name, &message, err));
        SPAR_TRY(sp_offline_turn(model, prompt, message, row, i, err));
        goto done;
    }
    snprintf(ids, sizeof ids, "%s: ids", name);
    SPAR_TRY(sp_offline_ids(model, json_object_get(item, "ids"), ids, &to->ids, &to->n, err));
    if (!row->prompt) {
        SPAR_TRY(spar_model_chat_ids(model, prompt, true, &row->prompt, &row->n_prompt, err));
    }
done:
    json_decref(message);
    return status;
}

static spar_status list_of(const json_t *json, const char *const names[2], const json_t **out,
                           const char **name, spar_error *err) {
    *name = json_object_get(json, names[0]) || !names[1] ? names[0] : names[1];
    *out = json_object_get(json, *name);
    return json_array_size(*out) > 0
               ? SPAR_OK
               : spar_fail(err, SPAR_FORMAT, "%s: expected a list of responses, found %s", *name,
                           json_is_array(*out) ? "an empty one"
                           : *out              ? sp_json_type_name(*out)
                                               : "none");
}

spar_status sp_offline_group_of_text(const spar_model *model, const json_t *prompt,
                                     const json_t *json, sp_offline_row *row, spar_error *err) {
    static const char *const names[2] = {"responses", "completions"};
    spar_status status = SPAR_OK;
    const json_t *list;
    const char *name;
    SPAR_TRY(list_of(json, names, &list, &name, err));
    SPAR_TRY(sp_offline_row_init(row, json_array_size(list), err));
    for (size_t i = 0; i < row->n; i++) {
        char place[32];
        snprintf(place, sizeof place, "%s[%zu]", name, i);
        SPAR_TRY(put_response(model, prompt, json_array_get(list, i), place, row, i, err));
    }
done:
    return status;
}

spar_status sp_offline_group_of_ids(const spar_model *model, const json_t *json,
                                    sp_offline_row *row, spar_error *err) {
    static const char *const names[2] = {"responses_ids", NULL};
    spar_status status = SPAR_OK;
    const json_t *list;
    const char *name;
    SPAR_TRY(sp_offline_ids(model, json_object_get(json, "prompt_ids"), "prompt_ids", &row->prompt,
                            &row->n_prompt, err));
    SPAR_TRY(list_of(json, names, &list, &name, err));
    SPAR_TRY(sp_offline_row_init(row, json_array_size(list), err));
    for (size_t i = 0; i < row->n; i++) {
        char place[32];
        sp_offline_response *to = &row->responses[i];
        snprintf(place, sizeof place, "%s[%zu]", name, i);
        SPAR_TRY(sp_offline_ids(model, json_array_get(list, i), place, &to->ids, &to->n, err));
    }
done:
    return status;
}

/* ---- numbers ---- */

/* A list of n numbers from least to most. */
static spar_status numbers_of(const json_t *list, const char *name, size_t n, double least,
                              double most, double *out, spar_error *err) {
    if (!json_is_array(list) || json_array_size(list) != n) {
        char found[32];
        snprintf(found, sizeof found, "%zu", json_array_size(list));
        return spar_fail(err, SPAR_FORMAT, "%s: expected a list of %zu numbers, found %s", name, n,
                         json_is_array(list) ? found : sp_json_type_name(list));
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        out[i] = json_number_value(item);
        if (!json_is_number(item) || !(out[i] >= least && out[i] <= most)) {
            char found[32];
            snprintf(found, sizeof found, "%g", out[i]);
            return spar_fail(err, SPAR_FORMAT, "%s[%zu]: expected a number from %g to %g, found %s",
                             name, i, least, most,
                             json_is_number(item) ? found : sp_json_type_name(item));
        }
    }
    return SPAR_OK;
}

/* P and, as rates, the mean of each of its rows, with both orders of a judge that reads them
 * apart. */
static spar_status read_matrix(const json_t *matrix, sp_offline_row *row, double *rates,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t n = row->n;
    void *memory;
    int best, worst;
    if (json_array_size(matrix) != n) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "p: expected %zu rows, one a response, found %zu", n,
                           json_array_size(matrix)));
    }
    SPAR_TRY(sp_mem_calloc(&memory, n * n, sizeof *row->p, err));
    row->p = memory;
    for (size_t i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "p[%zu]", i);
        SPAR_TRY(numbers_of(json_array_get(matrix, i), name, n, 0, 1, row->p + i * n, err));
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j <= i; j++) {
            const double p = 0.5 * (row->p[i * n + j] + 1 - row->p[j * n + i]);
            row->p[i * n + j] = p;
            row->p[j * n + i] = 1 - p;
        }
    }
    sp_game_win_rates(row->p, (int)n, rates, &best, &worst);
done:
    return status;
}

static spar_status read_scores(const sp_objective *o, const json_t *json, sp_offline_row *row,
                               double *scores, spar_error *err) {
    const bool wins = (sp_objective_reads(o) & SP_READS_WIN_RATE) != 0;
    const json_t *p = json_object_get(json, "p");
    const char *const names[2] = {wins ? "win_rates" : "rewards", wins ? "win_rates" : "scores"};
    const char *name = json_object_get(json, names[0]) ? names[0] : names[1];
    const json_t *list = json_object_get(json, name);
    if (wins && p) {
        return read_matrix(p, row, scores, err);
    }
    if (!list) {
        return spar_fail(err, SPAR_FORMAT, "expected %s, which method %s reads, found neither",
                         wins ? "p or win_rates" : "rewards or scores", o->name);
    }
    return numbers_of(list, name, row->n, wins ? 0 : -1e30, wins ? 1 : 1e30, scores, err);
}

/* Log-probs of response i: one a token, or their sum, of which each token then has its share. */
static spar_status read_logps(const json_t *list, const char *name, bool sums,
                              sp_offline_response *to, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    double *values = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, to->n, sizeof *values, err));
    values = memory;
    if (sums && json_is_number(list)) {
        for (size_t t = 0; t < to->n; t++) {
            values[t] = json_number_value(list) / (double)to->n;
        }
    } else {
        SPAR_TRY(numbers_of(list, name, to->n, -1e30, 0, values, err));
    }
    SPAR_TRY(sp_mem_calloc(&memory, to->n, sizeof *to->logps, err));
    to->logps = memory;
    for (size_t t = 0; t < to->n; t++) {
        to->logps[t] = (float)values[t];
    }
done:
    free(values);
    return status;
}

static spar_status read_all_logps(const sp_objective *o, const json_t *json, sp_offline_row *row,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    const bool sums = o->kind != SP_OBJECTIVE_TOKENS || o->gradient->per == SP_PER_RESPONSE;
    const json_t *all = json_object_get(json, "logprobs");
    const json_t *responses = json_object_get(json, "responses");
    if (all && json_array_size(all) != row->n) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "logprobs: expected %zu entries, one a response, found %zu", row->n,
                           json_array_size(all)));
    }
    for (size_t i = 0; i < row->n; i++) {
        char name[32];
        const json_t *own = json_object_get(json_array_get(responses, i), "logprobs");
        const json_t *list = all ? json_array_get(all, i) : own;
        snprintf(name, sizeof name, all ? "logprobs[%zu]" : "responses[%zu]: logprobs", i);
        SPAR_TRY(list ? read_logps(list, name, sums, &row->responses[i], err) : SPAR_OK);
    }
done:
    return status;
}

/* The best first, equals as they come; P moves along. */
static void sort_group(sp_offline_row *row) {
    const size_t n = row->n;
    for (size_t i = 1; i < n; i++) {
        for (size_t j = i; j > 0 && row->responses[j].score > row->responses[j - 1].score; j--) {
            const sp_offline_response moved = row->responses[j];
            row->responses[j] = row->responses[j - 1];
            row->responses[j - 1] = moved;
            for (size_t k = 0; row->p && k < n; k++) {
                const double p = row->p[j * n + k];
                row->p[j * n + k] = row->p[(j - 1) * n + k];
                row->p[(j - 1) * n + k] = p;
            }
            for (size_t k = 0; row->p && k < n; k++) {
                const double p = row->p[k * n + j];
                row->p[k * n + j] = row->p[k * n + j - 1];
                row->p[k * n + j - 1] = p;
            }
        }
    }
}

spar_status sp_offline_group_numbers(const sp_objective *o, const json_t *json, sp_offline_row *row,
                                     spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    double *scores = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, row->n, sizeof *scores, err));
    scores = memory;
    SPAR_TRY(read_scores(o, json, row, scores, err));
    SPAR_TRY(read_all_logps(o, json, row, err));
    for (size_t i = 0; i < row->n; i++) {
        row->responses[i].score = scores[i];
    }
    sort_group(row);
done:
    free(scores);
    return status;
}
