/* A row of several responses with numbers, as policy gradients and sppo read it. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "play/doctor_parts.h"
#include "play/offline.h"
#include "text/conversation.h"

static void note_why(char why[static SP_WHY], const spar_error *err) {
    if (!why[0]) {
        snprintf(why, SP_WHY, "%.255s", err->message);
    }
}

static const json_t *list_of(const json_t *json) {
    static const char *const names[] = {"responses_ids", "responses", "completions"};
    const json_t *list = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !list; i++) {
        list = json_object_get(json, names[i]);
    }
    return list;
}

/* Ids were given, as they were sampled. */
static bool is_sampled(const json_t *item) {
    return json_is_array(item) ? json_is_integer(json_array_get(item, 0))
                               : json_object_get(item, "ids") != NULL;
}

static bool is_empty(const json_t *item) {
    const json_t *ids = json_is_array(item) ? item : json_object_get(item, "ids");
    json_t *message = NULL;
    if (is_sampled(item)) {
        return json_array_size(ids) == 0;
    }
    const bool empty = sp_offline_message(item, "", &message, NULL) == SPAR_OK
                           ? sp_message_is_empty(message)
                           : json_is_array(item) && json_array_size(item) == 0;
    json_decref(message);
    return empty;
}

/* The template's faults, on the responses that are messages. */
static spar_status look_at_texts(const sp_doctor *d, const json_t *prompt, const json_t *list,
                                 bool wrong[SP_FAULTS], spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *message = NULL;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        sp_turn turn = {0};
        json_decref(message);
        message = NULL;
        if (is_sampled(item)) {
            continue;
        }
        SPAR_TRY(sp_offline_message(item, "responses", &message, err));
        status = sp_doctor_turn(d, prompt, message, wrong, &turn, err);
        sp_turn_release(&turn);
        SPAR_TRY(status);
    }
done:
    json_decref(message);
    return status;
}

static bool same(const sp_offline_response *a, const sp_offline_response *b) {
    return a->n == b->n && memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0;
}

/* Responses in the order of their numbers, the best first. */
static void compare_responses(const sp_offline_row *row, bool wrong[SP_FAULTS]) {
    const sp_offline_response *y = row->responses;
    bool all = row->n > 1;
    for (size_t i = 1; i < row->n; i++) {
        all = all && same(&y[i], &y[0]);
        for (size_t k = 0; k < i; k++) {
            wrong[SP_FAULT_TORN] |= same(&y[i], &y[k]) && fabs(y[i].score - y[k].score) > 1e-6;
        }
    }
    wrong[SP_FAULT_ALL_SAME] = all;
    wrong[SP_FAULT_ALONE] = row->n == 1;
    wrong[SP_FAULT_NO_SPREAD] = row->n > 1 && !all && y[0].score == y[row->n - 1].score;
}

/* A response of ids that was cut off has no end; it should not be what is learned. */
static void look_for_ends(const sp_doctor *d, const json_t *list, const sp_offline_row *row,
                          bool wrong[SP_FAULTS]) {
    for (size_t i = 0; i < row->n; i++) {
        const sp_offline_response *y = &row->responses[i];
        const bool best = y->score == row->responses[0].score;
        const bool ends = sp_doctor_ends_generation(d, y->ids[y->n - 1]);
        wrong[SP_FAULT_CUT_BEST] |= best && !ends && is_sampled(json_array_get(list, y->place)) &&
                                    y->score > row->responses[row->n - 1].score;
    }
}

static spar_status read_row(const sp_doctor *d, const json_t *prompt, const json_t *json,
                            sp_offline_row *row, spar_error *err) {
    return prompt ? sp_offline_group_of_text(d->model, prompt, json, row, err)
                  : sp_offline_group_of_ids(d->model, json, row, err);
}

/* Rewards where a row has them, else win rates. */
static spar_status read_numbers(const json_t *json, sp_offline_row *row, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_objective objective;
    const bool wins = json_object_get(json, "p") || json_object_get(json, "win_rates");
    const bool rewards = json_object_get(json, "rewards") || json_object_get(json, "scores");
    SPAR_TRY(sp_objective_find(&objective, wins && !rewards ? "nash_md" : "grpo", err));
    SPAR_TRY(sp_offline_group_numbers(&objective, json, row, err));
done:
    return status;
}

static void look_at_lengths(const sp_doctor *d, const sp_offline_row *row, int64_t longest,
                            bool wrong[SP_FAULTS]) {
    const spar_tokenizer *t = spar_model_tokenizer(d->model);
    wrong[SP_FAULT_BOS] |=
        t && sp_doctor_leading(row->prompt, row->n_prompt, spar_tokenizer_bos(t)) > 1;
    for (size_t i = 0; i < row->n; i++) {
        wrong[SP_FAULT_TRUNCATED] |= row->n_prompt + row->responses[i].n > (size_t)longest;
    }
}

void sp_doctor_group(const sp_doctor *d, const json_t *prompt, const json_t *json, int64_t longest,
                     bool wrong[SP_FAULTS], char unreadable[static SP_WHY],
                     char numbers[static SP_WHY]) {
    spar_error why;
    sp_offline_row row = {0};
    const json_t *list = list_of(json);
    for (size_t i = 0; i < json_array_size(list); i++) {
        wrong[SP_FAULT_EMPTY] |= is_empty(json_array_get(list, i));
    }
    if (wrong[SP_FAULT_EMPTY]) {
        return;
    }
    spar_status status = read_row(d, prompt, json, &row, &why);
    if (status == SPAR_OK && prompt) {
        status = look_at_texts(d, prompt, list, wrong, &why);
    }
    if (status != SPAR_OK) {
        wrong[status == SPAR_MISMATCH ? SP_FAULT_TEMPLATE : SP_FAULT_UNREADABLE] = true;
        note_why(unreadable, &why);
    } else if (read_numbers(json, &row, &why) != SPAR_OK) {
        wrong[SP_FAULT_NUMBERS] = true;
        note_why(numbers, &why);
    } else {
        look_at_lengths(d, &row, longest, wrong);
        compare_responses(&row, wrong);
        look_for_ends(d, list, &row, wrong);
    }
    sp_offline_row_release(&row);
}
