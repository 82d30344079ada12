/* What was judged as rows to train on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "judge/kind.h"
#include "text/conversation.h"

/* A response as one text: lists of steps are joined by line breaks. A new reference. */
static json_t *whole(const json_t *row, size_t i) {
    const json_t *completions = json_object_get(row, "completions");
    json_t *given = json_array_get(json_object_get(row, "responses"), i);
    json_t *text_of_object = json_object_get(given, "text");
    json_t *response = text_of_object ? text_of_object : given;
    const json_t *steps = response ? response : completions;
    sp_str text = SP_STR_INIT;
    size_t s;
    json_t *step;
    if (json_is_string(response)) {
        return json_incref(response);
    }
    json_array_foreach((json_t *)(uintptr_t)steps, s, step) {
        sp_str_puts(&text, s ? "\n" : "");
        sp_str_append(&text, json_string_value(step), json_string_length(step));
    }
    json_t *out = json_stringn(sp_str_get(&text), text.len);
    sp_str_release(&text);
    return out;
}

/* A row that was made of another one, with what else of it a chat template reads. */
static spar_status give(json_t *made, const json_t *row, json_t **out, spar_error *err) {
    *out = made;
    sp_conversation_carry(made, row);
    return made ? SPAR_OK : spar_fail(err, SPAR_NO_MEMORY, "out of memory for a row");
}

static const double *scores_of(const spar_judgement *j, size_t i) {
    const double *at = j->steps;
    for (size_t r = 0; r < i; r++) {
        at += j->n_steps[r];
    }
    return at;
}

static sp_fork compare(const spar_judgement *j, size_t a, size_t b) {
    const json_t *x = json_array_get(j->step_texts, a), *y = json_array_get(j->step_texts, b);
    size_t step = 0;
    while (step < j->n_steps[a] && step < j->n_steps[b] &&
           json_equal(json_array_get(x, step), json_array_get(y, step))) {
        step++;
    }
    if (step == j->n_steps[a] || step == j->n_steps[b]) {
        return (sp_fork){a, b, step, 0};
    }
    const double margin = scores_of(j, a)[step] - scores_of(j, b)[step];
    return margin > 0 ? (sp_fork){a, b, step, margin} : (sp_fork){b, a, step, -margin};
}

sp_fork sp_judge_widest_fork(const spar_judgement *j, const bool *unfit) {
    sp_fork widest = {0};
    for (size_t a = 0; a < j->k; a++) {
        for (size_t b = a + 1; b < j->k; b++) {
            const sp_fork here = compare(j, a, b);
            const bool fit = !unfit || !unfit[here.better];
            widest = fit && here.margin > widest.margin ? here : widest;
        }
    }
    return widest;
}

static spar_status step_pair(const spar_judgement *j, const json_t *row, json_t **out,
                             spar_error *err) {
    if (!j->steps) {
        return spar_fail(
            err, SPAR_INVALID,
            "pairs of steps: expected a judge that scores steps (process), found none");
    }
    const sp_fork widest = sp_judge_widest_fork(j, NULL);
    return widest.margin > 0
               ? give(json_pack("{s:O*, s:o, s:o, s:I, s:f}", "prompt",
                                json_object_get(row, "prompt"), "chosen", whole(row, widest.better),
                                "rejected", whole(row, widest.worse), "step",
                                (json_int_t)widest.step + 1, "margin", widest.margin),
                      row, out, err)
               : SPAR_OK;
}

/* The prompt and all responses as they were given, with the scores as rewards, and P. */
static spar_status group(const spar_judgement *j, const json_t *row, json_t **out,
                         spar_error *err) {
    static const char *const kept[] = {"prompt", "responses", "prompt_ids", "responses_ids",
                                       "logprobs"};
    json_t *made = json_object(), *p = json_array();
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        json_t *value = json_object_get(row, kept[i]);
        if (value) {
            json_object_set(made, kept[i], value);
        }
    }
    for (size_t i = 0; i < j->k; i++) {
        json_array_append_new(p, sp_judge_numbers(j->p + i * j->k, j->k));
    }
    json_object_set_new(made, "rewards", sp_judge_numbers(j->scores, j->k));
    if (json_object_set_new(made, "p", p) != 0) {
        json_decref(made);
        made = NULL;
    }
    return give(made, row, out, err);
}

spar_status spar_judgement_row(const spar_judgement *j, const json_t *row, spar_judged_row what,
                               json_t **out, spar_error *err) {
    json_t *prompt = json_object_get(row, "prompt");
    *out = NULL;
    if (what == SPAR_JUDGED_STEP_PAIR) {
        return step_pair(j, row, out, err);
    }
    if (what == SPAR_JUDGED_GROUP) {
        return group(j, row, out, err);
    }
    if (what == SPAR_JUDGED_BEST) {
        return give(json_pack("{s:O*, s:o}", "prompt", prompt, "completion", whole(row, j->best)),
                    row, out, err);
    }
    const double *p = j->p;
    return p[j->best * j->k + j->worst] > p[j->worst * j->k + j->best]
               ? give(json_pack("{s:O*, s:o, s:o}", "prompt", prompt, "chosen", whole(row, j->best),
                                "rejected", whole(row, j->worst)),
                      row, out, err)
               : SPAR_OK;
}
