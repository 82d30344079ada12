/* Rows of data as training would see them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "eval/dataset.h"
#include "play/doctor_parts.h"
#include "play/offline.h"
#include "spar/rows.h"
#include "text/conversation.h"

const sp_fault_row sp_doctor_faults[SP_FAULTS] = {
    [SP_FAULT_EMPTY] = {"empty responses", "a response has no text", "leave the rows out"},
    [SP_FAULT_TRUNCATED] = {"truncated rows", "prompt and response are longer than the longest row",
                            "raise --max-length, or train with --on-long skip: a cut response "
                            "teaches not to stop"},
    [SP_FAULT_IDENTICAL] = {"identical pairs", "chosen and rejected are the same",
                            "leave the rows out: they teach nothing"},
    [SP_FAULT_IDENTICAL_CUT] = {"pairs identical after the cut",
                                "chosen and rejected differ only behind the longest row",
                                "leave the rows out, or raise --max-length"},
    [SP_FAULT_NO_END] = {"missing end token",
                         "a response of ids ends with no token that ends a turn",
                         "append the end-of-turn id to the responses"},
    [SP_FAULT_BOS] = {"double BOS", "a row begins with two BOS tokens",
                      "take the BOS out of the data, or out of the chat template"},
    [SP_FAULT_TEMPLATE] = {"template mismatch",
                           "the conversation does not begin with its own generation prompt",
                           "mend the chat template: training and sampling see different prompts"},
    [SP_FAULT_BOUNDARY] =
        {"token boundary", "prompt and response tokenised together give other ids than apart",
         "end the generation prompt at a token (often: no space at its end); spar "
         "trains on them apart, as it samples"},
    [SP_FAULT_MASK] = {"assistant mask",
                       "the generation blocks mark other tokens than stand behind the generation "
                       "prompt up to the end of the turn",
                       "put {% generation %} around all that the model generates, with the token "
                       "that ends its turn: sft learns what the blocks mark, other methods what is "
                       "behind the prompt"},
    [SP_FAULT_UNREAD] = {"unread members",
                         "the chat template writes the same without the tools, documents, calls, "
                         "reasoning or messages of a role that a row has",
                         "take a chat template that reads them, or leave them out of the data: the "
                         "model does not see them"},
    [SP_FAULT_QUOTED] =
        {"quoted arguments",
         "the chat template writes the arguments of a call as a text of JSON within "
         "quotes",
         "give them as objects: the model would learn to quote them once more"},
    [SP_FAULT_UNREADABLE] = {"unreadable rows", "a row cannot be used",
                             "mend or leave out the rows"},
    [SP_FAULT_NUMBERS] = {"unusable numbers", "", "give each response one finite number"},
    [SP_FAULT_ALONE] = {"single responses",
                        "a row has one response, which nothing is compared with",
                        "sample two or more a prompt"},
    [SP_FAULT_ALL_SAME] = {"identical responses", "all responses of a row are the same",
                           "leave the rows out: they teach nothing"},
    [SP_FAULT_TORN] = {"contradictory numbers", "the same response has two different numbers",
                       "judge a text once, or leave one of them out"},
    [SP_FAULT_NO_SPREAD] = {"no spread", "all responses of a row have the same number",
                            "leave the rows out: they say nothing of which is better"},
    [SP_FAULT_CUT_BEST] =
        {"truncated responses rewarded",
         "a response that was cut off, without an end, has the best number",
         "sample longer, or give what is cut off the least: else the model learns "
         "not to stop"},
};

/* What the rows have. */
typedef struct patients {
    sp_doctor *doctor;
    bool labelled;   /* rows of one response with a label, as kto takes them */
    int64_t longest; /* tokens of prompt and response */
    int64_t counts[SP_FAULTS];
    char where[SP_FAULTS][128]; /* of the first such row, its end; "": unknown */
    char why[SP_WHY];           /* of the first unreadable row */
    char numbers[SP_WHY];       /* of the first whose numbers cannot be used */
} patients;

/* where: "file:line"; of a long one the end is kept. */
static void count_row(patients *p, const bool wrong[SP_FAULTS], const char *where) {
    const size_t n = strlen(where), most = sizeof p->where[0] - 1;
    p->doctor->rows++;
    for (int f = 0; f < SP_FAULTS; f++) {
        if (wrong[f] && p->counts[f]++ == 0) {
            snprintf(p->where[f], sizeof p->where[f], "%s", where + (n > most ? n - most : 0));
        }
    }
}

static bool same(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b) {
    return n_a == n_b && memcmp(a, b, n_a * sizeof *a) == 0;
}

/* Lengths and pairs; rejected NULL: there is none. */
static void look_at_ids(const patients *p, size_t n_prompt, const int32_t *chosen, size_t n_chosen,
                        const int32_t *rejected, size_t n_rejected, bool wrong[SP_FAULTS]) {
    const size_t longest = (size_t)p->longest;
    const size_t room = n_prompt < longest ? longest - n_prompt : 0;
    wrong[SP_FAULT_TRUNCATED] |= n_chosen > room || (rejected && n_rejected > room);
    if (rejected && same(chosen, n_chosen, rejected, n_rejected)) {
        wrong[SP_FAULT_IDENTICAL] = true;
    } else if (rejected) {
        wrong[SP_FAULT_IDENTICAL_CUT] |= same(chosen, n_chosen < room ? n_chosen : room, rejected,
                                              n_rejected < room ? n_rejected : room);
    }
}

static void look_at_group(patients *p, const json_t *prompt, const json_t *row, const char *where) {
    bool wrong[SP_FAULTS] = {false};
    sp_doctor_group(p->doctor, prompt, row, p->longest, wrong, p->why, p->numbers);
    count_row(p, wrong, where);
}

static void look_at_row(patients *p, const sp_dataset_row *row) {
    bool wrong[SP_FAULTS] = {false};
    spar_error why = {SPAR_OK, ""};
    sp_turn chosen = {0}, rejected = {0};
    wrong[SP_FAULT_EMPTY] = sp_response_is_empty(row->response) ||
                            (row->rejected && sp_response_is_empty(row->rejected));
    spar_status status =
        sp_doctor_turn(p->doctor, row->prompt, row->response, wrong, &chosen, &why);
    if (status == SPAR_OK && row->rejected) {
        status = sp_doctor_turn(p->doctor, row->prompt, row->rejected, wrong, &rejected, &why);
    }
    if (status != SPAR_OK && !p->counts[SP_FAULT_UNREADABLE]) {
        snprintf(p->why, sizeof p->why, "%.255s", why.message);
    }
    wrong[SP_FAULT_UNREADABLE] = status != SPAR_OK;
    if (chosen.reply && (!row->rejected || rejected.reply)) {
        look_at_ids(p, chosen.n_prompt, chosen.reply, chosen.n_reply, rejected.reply,
                    rejected.n_reply, wrong);
    }
    count_row(p, wrong, row->where);
    sp_turn_release(&chosen);
    sp_turn_release(&rejected);
}

static void look_at_text(patients *p, const sp_dataset_row *from) {
    bool wrong[SP_FAULTS] = {[SP_FAULT_EMPTY] = json_string_length(from->text) == 0};
    spar_error why = {SPAR_OK, ""};
    sp_offline_row row = {0};
    const int32_t bos = spar_tokenizer_bos(spar_model_tokenizer(p->doctor->model));
    if (!wrong[SP_FAULT_EMPTY] &&
        sp_offline_text(p->doctor->model, from->text, &row, &why) == SPAR_OK) {
        const sp_offline_response *y = &row.responses[0];
        wrong[SP_FAULT_BOS] = y->n > 0 && row.prompt[0] == bos && y->ids[0] == bos;
        look_at_ids(p, row.n_prompt, y->ids, y->n, NULL, 0, wrong);
    }
    wrong[SP_FAULT_UNREADABLE] = why.code != SPAR_OK;
    if (why.code != SPAR_OK && !p->counts[SP_FAULT_UNREADABLE]) {
        snprintf(p->why, sizeof p->why, "%.255s", why.message);
    }
    count_row(p, wrong, from->where);
    sp_offline_row_release(&row);
}

static bool note_bad(void *context, const spar_error *why) {
    patients *p = context;
    const bool wrong[SP_FAULTS] = {[SP_FAULT_UNREADABLE] = true};
    if (!p->counts[SP_FAULT_UNREADABLE]) {
        snprintf(p->why, sizeof p->why, "%.255s", why->message);
    }
    count_row(p, wrong, "");
    return true;
}

static spar_status check_conversations(patients *p, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dataset *data = NULL;
    SPAR_TRY(sp_dataset_load_rows(&data, p->doctor->options->data,
                                  (p->labelled ? SP_DATASET_LABELS : 0) | SP_DATASET_GROUPS |
                                      SP_DATASET_TEXT,
                                  note_bad, p, err));
    const bool rendered = data->n > 0 && !data->rows[0].text;
    if (!spar_model_tokenizer(p->doctor->model) ||
        (rendered && !spar_model_template(p->doctor->model))) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: has no %s, which rows of text need",
                           p->doctor->options->model,
                           spar_model_tokenizer(p->doctor->model) ? "chat template" : "tokenizer"));
    }
    for (size_t i = 0; i < data->n; i++) {
        const sp_dataset_row *row = &data->rows[i];
        if (row->text) {
            look_at_text(p, row);
        } else if (row->row) {
            look_at_group(p, row->prompt, row->row, row->where);
        } else {
            look_at_row(p, row);
        }
    }
done:
    sp_dataset_free(data);
    return status;
}

/* *beyond: set where an id is none of the model's. */
static spar_status read_ids(const patients *p, const json_t *list, int32_t **out, size_t *n,
                            bool *beyond, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    *n = json_array_size(list);
    SPAR_TRY(sp_mem_calloc(&memory, *n + 1, sizeof **out, err));
    *out = memory;
    for (size_t i = 0; i < *n; i++) {
        const json_t *item = json_array_get(list, i);
        const json_int_t id = json_integer_value(item);
        const bool known =
            json_is_integer(item) && id >= 0 && id < spar_model_vocab(p->doctor->model);
        (*out)[i] = known ? (int32_t)id : -1;
        *beyond = *beyond || !known;
    }
done:
    return status;
}

static spar_status look_at_id_row(patients *p, const json_t *row, const char *where,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    static const char *const keys[] = {"prompt_ids", "chosen_ids", "rejected_ids"};
    bool wrong[SP_FAULTS] = {false};
    int32_t *ids[3] = {NULL};
    size_t n[3] = {0};
    const spar_tokenizer *t = spar_model_tokenizer(p->doctor->model);
    for (int i = 0; i < 3; i++) {
        const json_t *list = json_object_get(row, keys[i]);
        if (i == 1 && !list) {
            list = json_object_get(row, "completion_ids");
        }
        wrong[SP_FAULT_UNREADABLE] |= i < 2 && !json_is_array(list);
        if (json_is_array(list)) {
            SPAR_TRY(read_ids(p, list, &ids[i], &n[i], &wrong[SP_FAULT_UNREADABLE], err));
            wrong[SP_FAULT_EMPTY] |= i > 0 && n[i] == 0;
            wrong[SP_FAULT_NO_END] |=
                i > 0 && n[i] > 0 && !sp_doctor_ends_generation(p->doctor, ids[i][n[i] - 1]);
        }
    }
    if (wrong[SP_FAULT_UNREADABLE]) {
        if (!p->counts[SP_FAULT_UNREADABLE]) {
            snprintf(p->why, sizeof p->why,
                     "expected prompt_ids, and chosen_ids or completion_ids, of ids below %lld",
                     (long long)spar_model_vocab(p->doctor->model));
        }
    } else {
        wrong[SP_FAULT_BOS] = t && sp_doctor_leading(ids[0], n[0], spar_tokenizer_bos(t)) > 1;
        look_at_ids(p, n[0], ids[1], n[1], ids[2], n[2], wrong);
    }
    count_row(p, wrong, where);
done:
    for (int i = 0; i < 3; i++) {
        free(ids[i]);
    }
    return status;
}

/* *ids: whether the first row holds ids; then all rows are looked at. */
static spar_status check_ids(patients *p, bool *ids, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *file = NULL;
    json_t *row = NULL;
    *ids = false;
    SPAR_TRY(spar_rows_open(&file, p->doctor->options->data, err));
    for (;;) {
        json_decref(row);
        row = NULL;
        spar_error why;
        const char *name;
        const spar_status got = spar_rows_next(file, &row, &why);
        *ids = *ids || json_object_get(row, "prompt_ids");
        p->labelled = p->labelled || (json_is_boolean(sp_dataset_label(row, &name)) &&
                                      !json_object_get(row, "rejected"));
        if ((got == SPAR_OK && !row) || !*ids) {
            break;
        }
        if (got == SPAR_OK && json_object_get(row, "responses_ids")) {
            look_at_group(p, NULL, row, spar_rows_where(file));
        } else if (got == SPAR_OK) {
            SPAR_TRY(look_at_id_row(p, row, spar_rows_where(file), err));
        } else if (!spar_rows_goes_on(file)) {
            SPAR_TRY(spar_fail(err, why.code, "%s", why.message));
        } else {
            note_bad(p, &why);
        }
    }
done:
    json_decref(row);
    spar_rows_free(file);
    return status;
}

static void report_rows(const patients *p) {
    for (int f = 0; f < SP_FAULTS; f++) {
        char found[512];
        if (p->counts[f] == 0) {
            continue;
        }
        const double share = (double)p->counts[f] / (double)p->doctor->rows;
        int n = snprintf(found, sizeof found, "%lld of %lld rows (%.1f %%): %s",
                         (long long)p->counts[f], (long long)p->doctor->rows, 100 * share,
                         f == SP_FAULT_UNREADABLE ? p->why
                         : f == SP_FAULT_NUMBERS  ? p->numbers
                                                  : sp_doctor_faults[f].found);
        if (f == SP_FAULT_TRUNCATED || f == SP_FAULT_IDENTICAL_CUT) {
            n += snprintf(found + n, sizeof found - (size_t)n, " of %lld tokens",
                          (long long)p->longest);
        }
        if (p->where[f][0]) {
            snprintf(found + n, sizeof found - (size_t)n, ", first %s", p->where[f]);
        }
        json_array_append_new(p->doctor->findings,
                              json_pack("{s:s, s:s, s:s, s:I, s:f}", "check",
                                        sp_doctor_faults[f].check, "found", found, "mend",
                                        sp_doctor_faults[f].mend, "rows", (json_int_t)p->counts[f],
                                        "share", share));
    }
}

spar_status sp_doctor_check_data(sp_doctor *d, spar_error *err) {
    spar_status status = SPAR_OK;
    bool ids;
    const int64_t context = spar_model_context(d->model), asked = d->options->max_length;
    patients p = {.doctor = d, .longest = asked > 0 && asked < context ? asked : context};
    SPAR_TRY(check_ids(&p, &ids, err));
    if (!ids) {
        SPAR_TRY(check_conversations(&p, err));
    }
    report_rows(&p);
done:
    return status;
}
