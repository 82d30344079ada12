/* spar_doctor: the checkpoint's files against each other, the chat template against the tokenizer,
 * and rows of data as training would see them. */
#include "spar/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/dataset.h"
#include "io/safetensors.h"
#include "model/engine.h"
#include "spar/rows.h"

/* Rows of the vocabulary that no token has: a share that is more than rounding up to a multiple. */
enum { MUCH_PADDING = 512 };
static const double much_padding_share = 0.05;

/* Kinds of rows that go wrong, and the first line of each. */
typedef enum fault {
    FAULT_EMPTY,
    FAULT_TRUNCATED,
    FAULT_IDENTICAL,
    FAULT_IDENTICAL_CUT,
    FAULT_NO_END,
    FAULT_BOS,
    FAULT_TEMPLATE,
    FAULT_BOUNDARY,
    FAULT_UNREADABLE,
    N_FAULTS
} fault;

static const struct {
    const char *check, *found, *mend;
} faults[] = {
    [FAULT_EMPTY] = {"empty responses", "a response has no text", "leave the rows out"},
    [FAULT_TRUNCATED] = {"truncated rows", "prompt and response are longer than the longest row",
                         "raise --max-length, or train with --on-long skip: a cut response "
                         "teaches not to stop"},
    [FAULT_IDENTICAL] = {"identical pairs", "chosen and rejected are the same",
                         "leave the rows out: they teach nothing"},
    [FAULT_IDENTICAL_CUT] = {"pairs identical after the cut",
                             "chosen and rejected differ only behind the longest row",
                             "leave the rows out, or raise --max-length"},
    [FAULT_NO_END] = {"missing end token", "a response of ids ends with no token that ends a turn",
                      "append the end-of-turn id to the responses"},
    [FAULT_BOS] = {"double BOS", "a row begins with two BOS tokens",
                   "take the BOS out of the data, or out of the chat template"},
    [FAULT_TEMPLATE] = {"template mismatch",
                        "the conversation does not begin with its own generation prompt",
                        "mend the chat template: training and sampling see different prompts"},
    [FAULT_BOUNDARY] = {"token boundary",
                        "prompt and response tokenised together give other ids than apart",
                        "end the generation prompt at a token (often: no space at its end); spar "
                        "trains on them apart, as it samples"},
    [FAULT_UNREADABLE] = {"unreadable rows", "a row cannot be used", "mend or leave out the rows"},
};

typedef struct doctor {
    const spar_doctor_options *options;
    json_t *findings, *notes;                       /* owned */
    json_t *config, *generation, *tokenizer_config; /* owned; NULL: no such file */
    spar_model *model; /* owned: its first layer; NULL where it does not load */
    bool labelled;     /* rows of one response with a label, as kto takes them */
    int64_t rows, counts[N_FAULTS], longest;
    char where[N_FAULTS][128]; /* of the first such row, its end; "": unknown */
    char why[256];             /* of the first unreadable row */
} doctor;

static void add(doctor *d, const char *check, const char *mend, const char *fmt, ...)
    SPAR_PRINTF(4, 5);

static void add(doctor *d, const char *check, const char *mend, const char *fmt, ...) {
    char found[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(found, sizeof found, fmt, args);
    va_end(args);
    json_array_append_new(
        d->findings, json_pack("{s:s, s:s, s:s}", "check", check, "found", found, "mend", mend));
}

/* ---- the files ---- */

static spar_status load_file(json_t **out, const char *dir, const char *name, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    SPAR_TRY(sp_path_join(&path, dir, name, err));
    SPAR_TRY(sp_json_load_if_there(out, path, err));
done:
    free(path);
    return status;
}

static void check_head(doctor *d, const sp_safetensors *file) {
    const sp_tensor_entry *head = sp_safetensors_find(file, "lm_head.weight");
    const sp_tensor_entry *embedding = sp_safetensors_find(file, "model.embed_tokens.weight");
    const json_t *tied = json_object_get(d->config, "tie_word_embeddings");
    if (json_is_false(tied) && !head) {
        add(d, "tied head missing",
            "set tie_word_embeddings to true if the head was tied, or save lm_head.weight",
            "config.json: tie_word_embeddings is false, and there is no lm_head.weight");
    }
    if (json_is_true(tied) && head && embedding &&
        (head->n_bytes != embedding->n_bytes ||
         memcmp(head->data, embedding->data, head->n_bytes) != 0)) {
        add(d, "tied head missing",
            "set tie_word_embeddings to false, or the trained head is thrown away",
            "config.json: tie_word_embeddings is true, and lm_head.weight differs from "
            "model.embed_tokens.weight");
    }
    const json_int_t rows = json_integer_value(json_object_get(d->config, "vocab_size"));
    if (embedding && rows > 0 && embedding->dims[0] != rows) {
        add(d, "wrong vocabulary size", "set vocab_size to the rows of the embedding",
            "config.json: vocab_size is %lld, model.embed_tokens.weight has %lld rows",
            (long long)rows, (long long)embedding->dims[0]);
    }
}

static void check_rope(doctor *d) {
    const json_t *parameters = json_object_get(d->config, "rope_parameters");
    const json_t *scaling =
        json_is_object(parameters) ? parameters : json_object_get(d->config, "rope_scaling");
    const char *type = json_string_value(json_object_get(scaling, "rope_type"));
    type = type ? type : json_string_value(json_object_get(scaling, "type"));
    const json_t *inner = json_object_get(scaling, "original_max_position_embeddings");
    const json_int_t original = json_integer_value(
        inner ? inner : json_object_get(d->config, "original_max_position_embeddings"));
    const json_int_t most =
        json_integer_value(json_object_get(d->config, "max_position_embeddings"));
    const double factor = json_number_value(json_object_get(scaling, "factor"));
    const double named =
        json_number_value(json_object_get(d->tokenizer_config, "model_max_length"));
    if (original > 0 && most > original && (!type || strcmp(type, "default") == 0)) {
        add(d, "rope scaling dropped",
            "put rope_scaling back as the original has it, or lower max_position_embeddings",
            "config.json: max_position_embeddings is %lld and the original length %lld, without "
            "rope scaling",
            (long long)most, (long long)original);
    }
    if (original > 0 && type && strcmp(type, "yarn") == 0 &&
        (double)most > 1.01 * factor * (double)original) {
        add(d, "rope scaling dropped", "lower max_position_embeddings, or raise the factor",
            "config.json: max_position_embeddings is %lld, more than factor %g times the original "
            "%lld",
            (long long)most, factor, (long long)original);
    }
    if (most > 0 && named > (double)most && named < 1e9) { /* above: "no limit" */
        add(d, "rope scaling dropped",
            "put back the rope scaling that the longer context needs, or lower model_max_length",
            "tokenizer_config.json: model_max_length is %.0f, config.json: "
            "max_position_embeddings is %lld",
            named, (long long)most);
    }
}

static spar_status check_folder(doctor *d, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *dir = d->options->model;
    sp_safetensors *file = NULL;
    SPAR_TRY(load_file(&d->config, dir, "config.json", err));
    SPAR_TRY(load_file(&d->generation, dir, "generation_config.json", err));
    SPAR_TRY(load_file(&d->tokenizer_config, dir, "tokenizer_config.json", err));
    check_rope(d);
    SPAR_TRY(sp_safetensors_open(&file, dir, err));
    check_head(d, file);
done:
    sp_safetensors_free(file);
    return status;
}

/* ---- tokenizer and template ---- */

static void check_vocabulary(doctor *d) {
    const int64_t rows = spar_model_vocab(d->model);
    const int64_t tokens = spar_tokenizer_vocab_size(spar_model_tokenizer(d->model));
    if (tokens > rows) {
        add(d, "wrong vocabulary size",
            "grow the embedding, or take the added tokens out of the tokenizer",
            "the tokenizer's largest id is %lld, the model has %lld rows", (long long)tokens - 1,
            (long long)rows);
    } else if (rows - tokens > MUCH_PADDING &&
               (double)(rows - tokens) > much_padding_share * (double)rows) {
        add(d, "wrong vocabulary size", "check that the tokenizer is this model's",
            "the model has %lld rows, the tokenizer %lld tokens", (long long)rows,
            (long long)tokens);
    }
}

static bool holds(const json_t *ids, int32_t id) {
    size_t i;
    const json_t *item;
    if (json_is_integer(ids)) {
        return json_integer_value(ids) == id;
    }
    json_array_foreach(ids, i, item) {
        if (json_integer_value(item) == id) {
            return true;
        }
    }
    return false;
}

/* Whether generation ends at an id: the generation config's list counts where it has one, as other
 * programs take it; of a GGUF file what it names. */
static bool ends_generation(const doctor *d, int32_t id) {
    const json_t *own = json_object_get(d->generation, "eos_token_id");
    own = own && !json_is_null(own) ? own : json_object_get(d->config, "eos_token_id");
    return own && !json_is_null(own) ? holds(own, id) : sp_model_ends_turn(d->model, id);
}

static void complain_end(doctor *d, const char *what, int32_t id) {
    add(d, "missing EOS",
        "add the id to eos_token_id of generation_config.json (or config.json): generation does "
        "not stop at it",
        "%s is %s (%d), which no eos_token_id has", what,
        spar_tokenizer_token(spar_model_tokenizer(d->model), id), id);
}

static size_t leading(const int32_t *ids, size_t n, int32_t id) {
    size_t i = 0;
    while (i < n && id >= 0 && ids[i] == id) {
        i++;
    }
    return i;
}

static spar_status check_bos(doctor *d, const json_t *prompt, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_tokenizer *t = spar_model_tokenizer(d->model);
    const int32_t bos = spar_tokenizer_bos(t);
    char *text = NULL;
    int32_t *plain = NULL, *special = NULL;
    size_t n, n_plain, n_special;
    SPAR_TRY(sp_model_render(d->model, prompt, true, &text, &n, err));
    SPAR_TRY(spar_tokenizer_encode(t, text, n, SPAR_TOKENIZE_NO_SPECIAL, &plain, &n_plain, err));
    SPAR_TRY(spar_tokenizer_encode(t, text, n, 0, &special, &n_special, err));
    if (leading(plain, n_plain, bos) > 1) {
        add(d, "double BOS", "take one of them out of the template",
            "the chat template writes BOS twice");
    } else if (leading(special, n_special, bos) > 1) {
        add(d, "double BOS",
            "take bos_token out of the template, or let the tokenizer add none; spar adds none to "
            "rendered text, other programs do",
            "the chat template writes BOS, and the tokenizer adds it as well");
    }
done:
    free(text);
    free(plain);
    free(special);
    return status;
}

/* The first special token behind a reply, which ends the turn. */
static spar_status check_end(doctor *d, const json_t *whole, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_tokenizer *t = spar_model_tokenizer(d->model);
    static const char reply[] = "Yes";
    char *text = NULL;
    int32_t *ids = NULL, end = -1;
    size_t n, n_ids;
    SPAR_TRY(sp_model_render(d->model, whole, false, &text, &n, err));
    const char *at = strstr(text, reply), *last = at;
    while (at) {
        last = at;
        at = strstr(at + 1, reply);
    }
    if (last) {
        SPAR_TRY(spar_tokenizer_encode(t, last, strlen(last), SPAR_TOKENIZE_NO_SPECIAL, &ids,
                                       &n_ids, err));
        for (size_t i = 0; i < n_ids && end < 0; i++) {
            end = spar_tokenizer_is_special(t, ids[i]) ? ids[i] : -1;
        }
    }
    if (end < 0) {
        add(d, "missing EOS", "let the template write the end-of-turn token behind a reply",
            "the chat template ends a reply with no special token");
    } else if (!ends_generation(d, end)) {
        complain_end(d, "the chat template's end of a turn", end);
    }
done:
    free(text);
    free(ids);
    return status;
}

/* Each reply of a longer conversation stands behind the prompt that it was generated from: else the
 * assistant's tokens are not where a mask would look for them. */
static spar_status check_turns(doctor *d, const json_t *prompt, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *all = json_deep_copy(prompt);
    char *first = NULL, *text = NULL;
    size_t n_first, n;
    json_array_append_new(all, json_pack("{s:s, s:s}", "role", "assistant", "content", "Yes"));
    json_array_append_new(all, json_pack("{s:s, s:s}", "role", "user", "content", "Why?"));
    json_array_append_new(all, json_pack("{s:s, s:s}", "role", "assistant", "content", "So."));
    SPAR_TRY(sp_model_render(d->model, prompt, true, &first, &n_first, err));
    SPAR_TRY(sp_model_render(d->model, all, false, &text, &n, err));
    if (n < n_first + 3 || memcmp(text, first, n_first) != 0 ||
        strncmp(text + n_first, "Yes", 3) != 0) {
        add(d, "template mismatch",
            "mend the chat template so that earlier replies stay as they were generated",
            "in a conversation of several turns the assistant's first reply does not follow its "
            "generation prompt");
    }
done:
    free(first);
    free(text);
    json_decref(all);
    return status;
}

/* Prompt and reply by template and tokenizer: which faults they have. */
static spar_status look_at_turn(const doctor *d, const json_t *messages, const char *response,
                                bool wrong[N_FAULTS], int32_t **prompt, size_t *n_prompt,
                                int32_t **reply, size_t *n_reply, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_tokenizer *t = spar_model_tokenizer(d->model);
    json_t *whole = json_deep_copy(messages);
    int32_t *ids = NULL;
    size_t n = 0;
    json_array_append_new(whole, json_pack("{s:s, s:s}", "role", "assistant", "content", response));
    const spar_status turn =
        sp_model_turn(d->model, messages, response, prompt, n_prompt, reply, n_reply, err);
    wrong[FAULT_TEMPLATE] |= turn == SPAR_MISMATCH;
    if (turn != SPAR_OK) {
        status = turn == SPAR_MISMATCH ? SPAR_OK : turn;
        goto done;
    }
    SPAR_TRY(spar_model_chat_ids(d->model, whole, false, &ids, &n, err));
    /* The reply ends with its turn; the template may write more behind it. An end that is only
     * appended to ids is none of the text. */
    const size_t shared = *n_prompt + *n_reply - 1;
    wrong[FAULT_BOUNDARY] |= n < shared || memcmp(ids, *prompt, *n_prompt * sizeof *ids) != 0 ||
                             memcmp(ids + *n_prompt, *reply, (*n_reply - 1) * sizeof *ids) != 0;
    wrong[FAULT_BOS] |= leading(*prompt, *n_prompt, spar_tokenizer_bos(t)) > 1;
done:
    json_decref(whole);
    free(ids);
    return status;
}

static spar_status check_template(doctor *d, spar_error *err) {
    spar_status status = SPAR_OK;
    bool wrong[N_FAULTS] = {false};
    json_t *prompt = json_pack("[{s:s, s:s}]", "role", "user", "content", "Is it so?");
    json_t *whole = json_deep_copy(prompt);
    int32_t *ids = NULL, *reply = NULL;
    size_t n, n_reply;
    json_array_append_new(whole, json_pack("{s:s, s:s}", "role", "assistant", "content", "Yes"));
    SPAR_TRY(check_bos(d, prompt, err));
    SPAR_TRY(check_end(d, whole, err));
    SPAR_TRY(look_at_turn(d, prompt, "Yes", wrong, &ids, &n, &reply, &n_reply, err));
    for (int f = 0; f < N_FAULTS; f++) {
        if (wrong[f] && f != FAULT_BOS) { /* check_bos has said so */
            add(d, faults[f].check, faults[f].mend, "a short conversation: %s", faults[f].found);
        }
    }
    if (!wrong[FAULT_TEMPLATE]) {
        SPAR_TRY(check_turns(d, prompt, err));
    }
done:
    free(ids);
    free(reply);
    json_decref(prompt);
    json_decref(whole);
    return status;
}

static spar_status check_text(doctor *d, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_tokenizer *t = spar_model_tokenizer(d->model);
    if (!t) {
        json_array_append_new(d->notes, json_string("no tokenizer: text was not checked"));
        return SPAR_OK;
    }
    check_vocabulary(d);
    const int32_t eos = spar_tokenizer_eos(t), pad = spar_tokenizer_pad(t);
    if (eos >= 0 && !ends_generation(d, eos)) {
        complain_end(d, "the tokenizer's eos_token", eos);
    }
    if (pad >= 0 && pad == eos) {
        json_array_append_new(
            d->notes, json_string("pad_token is eos_token: spar pads nothing; programs that "
                                  "leave padding out of the labels leave the end out too"));
    }
    if (d->model->config.n_eos == 0) {
        add(d, "missing EOS", "name the end-of-turn token in generation_config.json (eos_token_id)",
            "neither the configuration nor the tokenizer names a token that ends a turn");
    } else if (spar_model_template(d->model)) {
        SPAR_TRY(check_template(d, err));
    } else {
        json_array_append_new(d->notes, json_string("no chat template: conversations were not "
                                                    "checked"));
    }
done:
    return status;
}

/* ---- data ---- */

/* where: "file:line"; of a long one the end is kept. */
static void count_row(doctor *d, const bool wrong[N_FAULTS], const char *where) {
    const size_t n = strlen(where), most = sizeof d->where[0] - 1;
    d->rows++;
    for (int f = 0; f < N_FAULTS; f++) {
        if (wrong[f] && d->counts[f]++ == 0) {
            snprintf(d->where[f], sizeof d->where[f], "%s", where + (n > most ? n - most : 0));
        }
    }
}

static bool same(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b) {
    return n_a == n_b && memcmp(a, b, n_a * sizeof *a) == 0;
}

/* Lengths and pairs; rejected NULL: there is none. */
static void look_at_ids(const doctor *d, size_t n_prompt, const int32_t *chosen, size_t n_chosen,
                        const int32_t *rejected, size_t n_rejected, bool wrong[N_FAULTS]) {
    const size_t longest = (size_t)d->longest;
    const size_t room = n_prompt < longest ? longest - n_prompt : 0;
    wrong[FAULT_TRUNCATED] |= n_chosen > room || (rejected && n_rejected > room);
    if (rejected && same(chosen, n_chosen, rejected, n_rejected)) {
        wrong[FAULT_IDENTICAL] = true;
    } else if (rejected) {
        wrong[FAULT_IDENTICAL_CUT] |= same(chosen, n_chosen < room ? n_chosen : room, rejected,
                                           n_rejected < room ? n_rejected : room);
    }
}

static void look_at_row(doctor *d, const sp_dataset_row *row) {
    bool wrong[N_FAULTS] = {false};
    spar_error why = {SPAR_OK, ""};
    int32_t *ids[4] = {NULL};
    size_t n[4] = {0};
    wrong[FAULT_EMPTY] = !row->response[0] || (row->rejected && !row->rejected[0]);
    spar_status status =
        look_at_turn(d, row->messages, row->response, wrong, &ids[0], &n[0], &ids[1], &n[1], &why);
    if (status == SPAR_OK && row->rejected) {
        status = look_at_turn(d, row->messages, row->rejected, wrong, &ids[2], &n[2], &ids[3],
                              &n[3], &why);
    }
    if (status != SPAR_OK && !d->counts[FAULT_UNREADABLE]) {
        snprintf(d->why, sizeof d->why, "%.255s", why.message);
    }
    wrong[FAULT_UNREADABLE] = status != SPAR_OK;
    if (ids[1] && (!row->rejected || ids[3])) {
        look_at_ids(d, n[0], ids[1], n[1], ids[3], n[3], wrong);
    }
    count_row(d, wrong, row->where);
    for (int i = 0; i < 4; i++) {
        free(ids[i]);
    }
}

static bool note_bad(void *context, const spar_error *why) {
    doctor *d = context;
    const bool wrong[N_FAULTS] = {[FAULT_UNREADABLE] = true};
    if (!d->counts[FAULT_UNREADABLE]) {
        snprintf(d->why, sizeof d->why, "%.255s", why->message);
    }
    count_row(d, wrong, "");
    return true;
}

static spar_status check_conversations(doctor *d, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_dataset *data = NULL;
    if (!spar_model_tokenizer(d->model) || !spar_model_template(d->model)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: has no %s, which rows of text need",
                           d->options->model,
                           spar_model_tokenizer(d->model) ? "chat template" : "tokenizer"));
    }
    SPAR_TRY(sp_dataset_load_rows(&data, d->options->data, d->labelled ? SP_DATASET_LABELS : 0,
                                  note_bad, d, err));
    for (size_t i = 0; i < data->n; i++) {
        look_at_row(d, &data->rows[i]);
    }
done:
    sp_dataset_free(data);
    return status;
}

/* *beyond: set where an id is none of the model's. */
static spar_status read_ids(const doctor *d, const json_t *list, int32_t **out, size_t *n,
                            bool *beyond, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    *n = json_array_size(list);
    SPAR_TRY(sp_mem_calloc(&memory, *n + 1, sizeof **out, err));
    *out = memory;
    for (size_t i = 0; i < *n; i++) {
        const json_t *item = json_array_get(list, i);
        const json_int_t id = json_integer_value(item);
        const bool known = json_is_integer(item) && id >= 0 && id < spar_model_vocab(d->model);
        (*out)[i] = known ? (int32_t)id : -1;
        *beyond = *beyond || !known;
    }
done:
    return status;
}

static spar_status look_at_id_row(doctor *d, const json_t *row, const char *where,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    static const char *const keys[] = {"prompt_ids", "chosen_ids", "rejected_ids"};
    bool wrong[N_FAULTS] = {false};
    int32_t *ids[3] = {NULL};
    size_t n[3] = {0};
    const spar_tokenizer *t = spar_model_tokenizer(d->model);
    for (int i = 0; i < 3; i++) {
        const json_t *list = json_object_get(row, keys[i]);
        if (i == 1 && !list) {
            list = json_object_get(row, "completion_ids");
        }
        wrong[FAULT_UNREADABLE] |= i < 2 && !json_is_array(list);
        if (json_is_array(list)) {
            SPAR_TRY(read_ids(d, list, &ids[i], &n[i], &wrong[FAULT_UNREADABLE], err));
            wrong[FAULT_EMPTY] |= i > 0 && n[i] == 0;
            wrong[FAULT_NO_END] |= i > 0 && n[i] > 0 && !ends_generation(d, ids[i][n[i] - 1]);
        }
    }
    if (wrong[FAULT_UNREADABLE]) {
        if (!d->counts[FAULT_UNREADABLE]) {
            snprintf(d->why, sizeof d->why,
                     "expected prompt_ids, and chosen_ids or completion_ids, of ids below %lld",
                     (long long)spar_model_vocab(d->model));
        }
    } else {
        wrong[FAULT_BOS] = t && leading(ids[0], n[0], spar_tokenizer_bos(t)) > 1;
        look_at_ids(d, n[0], ids[1], n[1], ids[2], n[2], wrong);
    }
    count_row(d, wrong, where);
done:
    for (int i = 0; i < 3; i++) {
        free(ids[i]);
    }
    return status;
}

/* *ids: whether the first row holds ids; then all rows are looked at. */
static spar_status check_ids(doctor *d, bool *ids, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *file = NULL;
    json_t *row = NULL;
    *ids = false;
    SPAR_TRY(spar_rows_open(&file, d->options->data, err));
    for (;;) {
        json_decref(row);
        row = NULL;
        spar_error why;
        const spar_status got = spar_rows_next(file, &row, &why);
        *ids = *ids || json_object_get(row, "prompt_ids");
        d->labelled = d->labelled || (json_is_boolean(json_object_get(row, "label")) &&
                                      !json_object_get(row, "rejected"));
        if ((got == SPAR_OK && !row) || !*ids) {
            break;
        }
        if (got == SPAR_OK) {
            SPAR_TRY(look_at_id_row(d, row, spar_rows_where(file), err));
        } else if (!spar_rows_goes_on(file)) {
            SPAR_TRY(spar_fail(err, why.code, "%s", why.message));
        } else {
            note_bad(d, &why);
        }
    }
done:
    json_decref(row);
    spar_rows_free(file);
    return status;
}

static void report_rows(doctor *d) {
    for (int f = 0; f < N_FAULTS; f++) {
        char found[512];
        if (d->counts[f] == 0) {
            continue;
        }
        const double share = (double)d->counts[f] / (double)d->rows;
        int n = snprintf(found, sizeof found, "%lld of %lld rows (%.1f %%): %s",
                         (long long)d->counts[f], (long long)d->rows, 100 * share,
                         f == FAULT_UNREADABLE ? d->why : faults[f].found);
        if (f == FAULT_TRUNCATED || f == FAULT_IDENTICAL_CUT) {
            n += snprintf(found + n, sizeof found - (size_t)n, " of %lld tokens",
                          (long long)d->longest);
        }
        if (d->where[f][0]) {
            snprintf(found + n, sizeof found - (size_t)n, ", first %s", d->where[f]);
        }
        json_array_append_new(d->findings,
                              json_pack("{s:s, s:s, s:s, s:I, s:f}", "check", faults[f].check,
                                        "found", found, "mend", faults[f].mend, "rows",
                                        (json_int_t)d->counts[f], "share", share));
    }
}

static spar_status check_data(doctor *d, spar_error *err) {
    spar_status status = SPAR_OK;
    bool ids;
    const int64_t context = spar_model_context(d->model), asked = d->options->max_length;
    d->longest = asked > 0 && asked < context ? asked : context;
    SPAR_TRY(check_ids(d, &ids, err));
    if (!ids) {
        SPAR_TRY(check_conversations(d, err));
    }
    report_rows(d);
done:
    return status;
}

/* ---- all of it ---- */

/* One layer is enough: nothing here looks at what the model says. A fault of the files that was
 * found may be why it does not load, and is then the better message. */
static spar_status load_model(doctor *d, spar_error *err) {
    const spar_model_options options = {.dtype = SPAR_DTYPE_F32,
                                        .layers = 1,
                                        .template_path = d->options->template_path,
                                        .sink = d->options->sink};
    const spar_status status = spar_model_load(&d->model, d->options->model, &options, err);
    if (status != SPAR_OK && json_array_size(d->findings) > 0) {
        char note[1200];
        snprintf(note, sizeof note, "the model does not load, so that no more was checked: %s",
                 err->message);
        json_array_append_new(d->notes, json_string(note));
        return SPAR_OK;
    }
    return status;
}

spar_status spar_doctor(json_t **report, const spar_doctor_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    doctor d = {.options = options, .findings = json_array(), .notes = json_array()};
    *report = NULL;
    if (sp_file_is_dir(options->model)) {
        SPAR_TRY(check_folder(&d, err));
    }
    SPAR_TRY(load_model(&d, err));
    if (d.model) {
        SPAR_TRY(check_text(&d, err));
    }
    if (d.model && options->data) {
        SPAR_TRY(check_data(&d, err));
    }
    *report =
        json_pack("{s:s, s:s?, s:I, s:O, s:O}", "model", options->model, "data", options->data,
                  "rows", (json_int_t)d.rows, "findings", d.findings, "notes", d.notes);
    if (!*report) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a report"));
    }
done:
    spar_model_free(d.model);
    json_decref(d.findings);
    json_decref(d.notes);
    json_decref(d.config);
    json_decref(d.generation);
    json_decref(d.tokenizer_config);
    return status;
}
