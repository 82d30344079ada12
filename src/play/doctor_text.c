/* The chat template against the tokenizer, on a short conversation. */
#include <stdlib.h>
#include <string.h>

#include "model/learned.h"
#include "play/doctor_parts.h"
#include "play/offline.h"
#include "text/conversation.h"

/* Rows of the vocabulary that no token has: a share that is more than rounding up to a multiple. */
enum { MUCH_PADDING = 512 };
static const double much_padding_share = 0.05;

static void check_vocabulary(sp_doctor *d) {
    const int64_t rows = spar_model_vocab(d->model);
    const int64_t tokens = spar_tokenizer_vocab_size(spar_model_tokenizer(d->model));
    if (tokens > rows) {
        sp_doctor_add(d, "wrong vocabulary size",
                      "grow the embedding, or take the added tokens out of the tokenizer",
                      "the tokenizer's largest id is %lld, the model has %lld rows",
                      (long long)tokens - 1, (long long)rows);
    } else if (rows - tokens > MUCH_PADDING &&
               (double)(rows - tokens) > much_padding_share * (double)rows) {
        sp_doctor_add(d, "wrong vocabulary size", "check that the tokenizer is this model's",
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
bool sp_doctor_ends_generation(const sp_doctor *d, int32_t id) {
    const json_t *own = json_object_get(d->generation, "eos_token_id");
    own = own && !json_is_null(own) ? own : json_object_get(d->config, "eos_token_id");
    return own && !json_is_null(own) ? holds(own, id) : sp_model_ends_turn(d->model, id);
}

static void complain_end(sp_doctor *d, const char *what, int32_t id) {
    sp_doctor_add(
        d, "missing EOS",
        "add the id to eos_token_id of generation_config.json (or config.json): generation does "
        "not stop at it",
        "%s is %s (%d), which no eos_token_id has", what,
        spar_tokenizer_token(spar_model_tokenizer(d->model), id), id);
}

size_t sp_doctor_leading(const int32_t *ids, size_t n, int32_t id) {
    size_t i = 0;
    while (i < n && id >= 0 && ids[i] == id) {
        i++;
    }
    return i;
}

static spar_status check_bos(sp_doctor *d, const json_t *prompt, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_tokenizer *t = spar_model_tokenizer(d->model);
    const int32_t bos = spar_tokenizer_bos(t);
    char *text = NULL;
    int32_t *plain = NULL, *special = NULL;
    size_t n, n_plain, n_special;
    SPAR_TRY(sp_model_render(d->model, prompt, true, &text, &n, err));
    SPAR_TRY(spar_tokenizer_encode(t, text, n, SPAR_TOKENIZE_NO_SPECIAL, &plain, &n_plain, err));
    SPAR_TRY(spar_tokenizer_encode(t, text, n, 0, &special, &n_special, err));
    if (sp_doctor_leading(plain, n_plain, bos) > 1) {
        sp_doctor_add(d, "double BOS", "take one of them out of the template",
                      "the chat template writes BOS twice");
    } else if (sp_doctor_leading(special, n_special, bos) > 1) {
        sp_doctor_add(
            d, "double BOS",
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
static spar_status check_end(sp_doctor *d, const json_t *whole, spar_error *err) {
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
        sp_doctor_add(d, "missing EOS",
                      "let the template write the end-of-turn token behind a reply",
                      "the chat template ends a reply with no special token");
    } else if (!sp_doctor_ends_generation(d, end)) {
        complain_end(d, "the chat template's end of a turn", end);
    }
done:
    free(text);
    free(ids);
    return status;
}

static bool same_learned(const sp_learned *a, const sp_learned *b) {
    const sp_learned *longer = a->n > b->n ? a : b;
    const size_t n = a->n > b->n ? b->n : a->n;
    return memcmp(a->ids, b->ids, n * sizeof *a->ids) == 0 && memcmp(a->mask, b->mask, n) == 0 &&
           (longer->n == n || !memchr(longer->mask + n, 1, longer->n - n));
}

/* Whether what the generation blocks of a conversation mark is what rendering finds; *differ stays
 * where there are no blocks, or where rendering finds nothing, which is another fault. */
static spar_status compare_masks(const sp_doctor *d, const json_t *whole, bool *differ,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    sp_learned blocks = {0}, rendering = {0};
    if (!spar_template_marks(spar_model_template(d->model))) {
        return SPAR_OK;
    }
    const spar_status rendered = sp_learned_by_rendering(d->model, whole, 0, &rendering, err);
    if (rendered != SPAR_OK) {
        status = rendered == SPAR_MISMATCH ? SPAR_OK : rendered;
        goto done;
    }
    const spar_status marked = sp_learned_by_blocks(d->model, whole, 0, &blocks, err);
    if (marked != SPAR_OK && marked != SPAR_INVALID && marked != SPAR_UNSUPPORTED) {
        SPAR_TRY(marked);
    }
    *differ = *differ || marked != SPAR_OK || !same_learned(&blocks, &rendering);
done:
    sp_learned_release(&blocks);
    sp_learned_release(&rendering);
    return status;
}

/* Each reply of a longer conversation stands behind the prompt that it was generated from: else the
 * assistant's tokens are not where a mask would look for them. masked: one turn was found to be
 * marked otherwise already. */
static spar_status check_turns(sp_doctor *d, const json_t *prompt, bool masked, spar_error *err) {
    spar_status status = SPAR_OK;
    bool differ = false;
    json_t *all = json_deep_copy(prompt);
    char *first = NULL, *text = NULL;
    size_t n_first, n;
    json_array_append_new(all, sp_message("assistant", "Yes"));
    json_array_append_new(all, sp_message("user", "Why?"));
    json_array_append_new(all, sp_message("assistant", "So."));
    SPAR_TRY(sp_model_render(d->model, prompt, true, &first, &n_first, err));
    SPAR_TRY(sp_model_render(d->model, all, false, &text, &n, err));
    if (n < n_first + 3 || memcmp(text, first, n_first) != 0 ||
        strncmp(text + n_first, "Yes", 3) != 0) {
        sp_doctor_add(
            d, "template mismatch",
            "mend the chat template so that earlier replies stay as they were generated",
            "in a conversation of several turns the assistant's first reply does not follow its "
            "generation prompt");
    } else if (!masked) {
        SPAR_TRY(compare_masks(d, all, &differ, err));
    }
    if (differ) {
        sp_doctor_add(d, sp_doctor_faults[SP_FAULT_MASK].check,
                      sp_doctor_faults[SP_FAULT_MASK].mend, "a conversation of several turns: %s",
                      sp_doctor_faults[SP_FAULT_MASK].found);
    }
done:
    free(first);
    free(text);
    json_decref(all);
    return status;
}

void sp_turn_release(sp_turn *turn) {
    free(turn->prompt);
    free(turn->reply);
    *turn = (sp_turn){0};
}

/* Whether a conversation is rendered to the same text without something that it has. */
static bool says_the_same(const sp_doctor *d, const char *text, size_t n, const json_t *without) {
    char *other = NULL;
    size_t n_other = 0;
    const bool same =
        sp_model_render(d->model, without, false, &other, &n_other, NULL) == SPAR_OK &&
        n_other == n && memcmp(text, other, n) == 0;
    free(other);
    return same;
}

/* Take the calls out of a message, or its reasoning under any of its names: whether it had some. */
static bool take_some(json_t *message, bool calls) {
    static const char *const names[] = {"tool_calls", "reasoning_content", "thinking", "reasoning"};
    bool found = false;
    for (size_t i = calls ? 0 : 1; i < (calls ? 1 : sizeof names / sizeof *names); i++) {
        found = json_object_del(message, names[i]) == 0 || found;
    }
    return found;
}

/* A response without its calls, or without its reasoning; NULL: it has none. */
static json_t *without_some(const json_t *response, bool calls) {
    json_t *less = json_deep_copy(response);
    bool found = json_is_object(less) && take_some(less, calls);
    for (size_t i = 0; i < json_array_size(less); i++) {
        found = take_some(json_array_get(less, i), calls) || found;
    }
    if (!found) {
        json_decref(less);
    }
    return found ? less : NULL;
}

/* Whether a text has the arguments of a message's calls, which are texts of JSON, quoted as such.
 */
static bool quotes_calls(const char *text, const json_t *message) {
    bool found = false;
    const json_t *calls = json_object_get(message, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i);
        const json_t *function = json_object_get(call, "function");
        const json_t *given = json_object_get(function ? function : call, "arguments");
        char *quoted = json_is_string(given) && strchr(json_string_value(given), '"')
                           ? json_dumps(given, JSON_ENCODE_ANY)
                           : NULL;
        found = found || (quoted && strstr(text, quoted));
        free(quoted);
    }
    return found;
}

static bool quotes_arguments(const char *text, const json_t *messages) {
    bool found = false;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        found = found || quotes_calls(text, json_array_get(messages, i));
    }
    return found;
}

/* Whether the template passes over a text that is neither the user's nor the assistant's, such as a
 * tool's or of a role that it does not know: another one would be written no otherwise. */
static bool passes_over(const sp_doctor *d, const char *text, size_t n, const json_t *whole) {
    const json_t *messages = sp_conversation_messages(whole);
    bool over = false;
    for (size_t i = 0; i < json_array_size(messages) && !over; i++) {
        const json_t *message = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(message, "role"));
        const json_t *content = json_object_get(message, "content");
        if (!role || strcmp(role, "user") == 0 || strcmp(role, "assistant") == 0 ||
            json_string_length(content) == 0) {
            continue;
        }
        json_t *others = json_deep_copy(messages);
        json_object_set_new(json_array_get(others, i), "content",
                            json_sprintf("%s.", json_string_value(content)));
        json_t *other = sp_conversation_with(whole, others);
        over = says_the_same(d, text, n, other);
        json_decref(other);
    }
    return over;
}

/* What the template makes of what a row has: what it passes over, beside the messages, of those of
 * the prompt, and of the response; and what it quotes. whole: prompt and response. */
static spar_status look_at_text(const sp_doctor *d, const json_t *prompt, const json_t *response,
                                const json_t *whole, bool wrong[SP_FAULTS], spar_error *err) {
    spar_status status = SPAR_OK;
    bool *unread = &wrong[SP_FAULT_UNREAD];
    char *text = NULL;
    size_t n = 0;
    SPAR_TRY(sp_model_render(d->model, whole, false, &text, &n, err));
    wrong[SP_FAULT_QUOTED] |= quotes_arguments(text, sp_conversation_messages(whole));
    *unread =
        *unread ||
        (json_is_object(whole) && says_the_same(d, text, n, sp_conversation_messages(whole))) ||
        passes_over(d, text, n, whole);
    for (int calls = 0; calls < 2; calls++) {
        json_t *less = without_some(response, calls != 0);
        if (less) {
            json_t *without = sp_conversation_then(prompt, less);
            *unread = *unread || says_the_same(d, text, n, without);
            json_decref(without);
            json_decref(less);
        }
    }
done:
    free(text);
    return status;
}

/* A response of several messages, tokenised whole. *merged: a token goes over the prompt's end. */
static spar_status whole_turn(const sp_doctor *d, const json_t *prompt, const json_t *response,
                              sp_turn *out, bool *merged, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_offline_row row = {0};
    SPAR_TRY(sp_offline_whole(d->model, prompt, &response, 1, &row, merged, err));
    out->prompt = row.prompt;
    out->n_prompt = row.n_prompt;
    out->reply = row.responses[0].ids;
    out->n_reply = row.responses[0].n;
    row.prompt = row.responses[0].ids = NULL;
done:
    sp_offline_row_release(&row);
    return status;
}

/* A response that is one message, tokenised apart from the prompt as it is sampled. *other: that
 * gives other ids than both together. */
static spar_status sampled_turn(const sp_doctor *d, const json_t *prompt, const json_t *response,
                                sp_turn *out, bool *other, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *whole = sp_conversation_then(prompt, response);
    int32_t *ids = NULL;
    size_t n = 0;
    SPAR_TRY(sp_model_turn(d->model, prompt, response, &out->prompt, &out->n_prompt, &out->reply,
                           &out->n_reply, err));
    SPAR_TRY(spar_model_chat_ids(d->model, whole, false, &ids, &n, err));
    /* The reply ends with its turn; the template may write more behind it. An end that is only
     * appended to ids is none of the text. */
    const size_t shared = out->n_prompt + out->n_reply - 1;
    *other = n < shared || memcmp(ids, out->prompt, out->n_prompt * sizeof *ids) != 0 ||
             memcmp(ids + out->n_prompt, out->reply, (out->n_reply - 1) * sizeof *ids) != 0;
done:
    json_decref(whole);
    free(ids);
    return status;
}

spar_status sp_doctor_turn(const sp_doctor *d, const json_t *prompt, const json_t *response,
                           bool wrong[SP_FAULTS], sp_turn *out, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *whole = sp_conversation_then(prompt, response);
    bool other = false;
    *out = (sp_turn){0};
    const spar_status turn = (json_is_array(response) ? whole_turn : sampled_turn)(
        d, prompt, response, out, &other, err);
    wrong[SP_FAULT_TEMPLATE] |= turn == SPAR_MISMATCH;
    if (turn != SPAR_OK) {
        status = turn == SPAR_MISMATCH ? SPAR_OK : turn;
        goto done;
    }
    wrong[SP_FAULT_BOUNDARY] |= other;
    wrong[SP_FAULT_BOS] |=
        sp_doctor_leading(out->prompt, out->n_prompt,
                          spar_tokenizer_bos(spar_model_tokenizer(d->model))) > 1;
    SPAR_TRY(compare_masks(d, whole, &wrong[SP_FAULT_MASK], err));
    SPAR_TRY(look_at_text(d, prompt, response, whole, wrong, err));
done:
    json_decref(whole);
    return status;
}

static spar_status check_template(sp_doctor *d, spar_error *err) {
    spar_status status = SPAR_OK;
    bool wrong[SP_FAULTS] = {false};
    json_t *prompt = json_pack("[o]", sp_message("user", "Is it so?"));
    json_t *reply = sp_message("assistant", "Yes");
    json_t *whole = sp_conversation_then(prompt, reply);
    sp_turn turn = {0};
    SPAR_TRY(check_bos(d, prompt, err));
    SPAR_TRY(check_end(d, whole, err));
    SPAR_TRY(sp_doctor_turn(d, prompt, reply, wrong, &turn, err));
    for (int f = 0; f < SP_FAULTS; f++) {
        if (wrong[f] && f != SP_FAULT_BOS) { /* check_bos has said so */
            sp_doctor_add(d, sp_doctor_faults[f].check, sp_doctor_faults[f].mend,
                          "a short conversation: %s", sp_doctor_faults[f].found);
        }
    }
    if (!wrong[SP_FAULT_TEMPLATE]) {
        SPAR_TRY(check_turns(d, prompt, wrong[SP_FAULT_MASK], err));
    }
done:
    sp_turn_release(&turn);
    json_decref(prompt);
    json_decref(reply);
    json_decref(whole);
    return status;
}

spar_status sp_doctor_check_text(sp_doctor *d, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_tokenizer *t = spar_model_tokenizer(d->model);
    if (!t) {
        sp_doctor_note(d, "no tokenizer: text was not checked");
        return SPAR_OK;
    }
    check_vocabulary(d);
    const int32_t eos = spar_tokenizer_eos(t), pad = spar_tokenizer_pad(t);
    if (eos >= 0 && !sp_doctor_ends_generation(d, eos)) {
        complain_end(d, "the tokenizer's eos_token", eos);
    }
    if (pad >= 0 && pad == eos) {
        sp_doctor_note(d, "pad_token is eos_token: spar pads nothing; programs that "
                          "leave padding out of the labels leave the end out too");
    }
    if (d->model->config.n_eos == 0) {
        sp_doctor_add(d, "missing EOS",
                      "name the end-of-turn token in generation_config.json (eos_token_id)",
                      "neither the configuration nor the tokenizer names a token that ends a turn");
    } else if (spar_model_template(d->model)) {
        SPAR_TRY(check_template(d, err));
    } else {
        sp_doctor_note(d, "no chat template: conversations were not "
                          "checked");
    }
done:
    return status;
}
