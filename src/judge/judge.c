#include "judge/kind.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/fingerprint.h"
#include "spar/hub.h"
#include "text/conversation.h"

/* A kind, and another name that asks for it; provenance has the kind's own. */
static const struct {
    const sp_judge_kind *kind;
    const char *synonym; /* NULL: none */
} kinds[] = {{&sp_judge_verifier, NULL}, {&sp_judge_program, NULL},    {&sp_judge_pairrm, NULL},
             {&sp_judge_reward, NULL},   {&sp_judge_llm, NULL},        {&sp_judge_api, "endpoint"},
             {&sp_judge_process, "prm"}, {&sp_judge_preference, NULL}, {&sp_judge_ensemble, NULL}};
enum { N_KINDS = sizeof kinds / sizeof kinds[0] };

struct spar_judge {
    const sp_judge_kind *kind;
    char *model; /* owned */
    void *context;
    size_t ahead_rows;    /* that were asked about and are not judged yet */
    double ahead_seconds; /* that it took, for each of them */
};

static bool is_called(const char *known, const char *name, size_t n) {
    return known && strlen(known) == n && memcmp(known, name, n) == 0;
}

static spar_status find_kind(const char *name, size_t n, const sp_judge_kind **out,
                             spar_error *err) {
    for (int i = 0; i < N_KINDS; i++) {
        if (is_called(kinds[i].kind->name, name, n) || is_called(kinds[i].synonym, name, n)) {
            *out = kinds[i].kind;
            return SPAR_OK;
        }
    }
    sp_str known = SP_STR_INIT;
    for (int i = 0; i < N_KINDS; i++) {
        sp_str_printf(&known, "%s%s", i ? ", " : "", kinds[i].kind->name);
        if (kinds[i].synonym) {
            sp_str_printf(&known, " (or %s)", kinds[i].synonym);
        }
    }
    const spar_status status =
        spar_fail(err, SPAR_NOT_FOUND, "judge: expected one of %s, found '%.*s'",
                  sp_str_get(&known), n < 64 ? (int)n : 64, name);
    sp_str_release(&known);
    return status;
}

bool sp_judge_sees_steps(const char *spec) {
    const sp_judge_kind *kind;
    return find_kind(spec, strcspn(spec, ":"), &kind, NULL) == SPAR_OK && kind->reads_steps;
}

spar_status spar_judge_open(spar_judge **out, const char *spec, const spar_judge_options *options,
                            spar_error *err) {
    static const spar_judge_options fallback = {.time_limit = 10,
                                                .memory_limit = 1024,
                                                .endpoint = {.attempts = 6,
                                                             .request_limit = 120,
                                                             .patience = 900,
                                                             .concurrency = 4,
                                                             .logprobs = true}};
    spar_status status = SPAR_OK;
    void *memory;
    spar_judge *judge = NULL;
    const size_t n = strcspn(spec, ":");
    const char *model = spec[n] ? spec + n + 1 : "";
    *out = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *judge, err));
    judge = memory;
    SPAR_TRY(find_kind(spec, n, &judge->kind, err));
    SPAR_TRY(judge->kind->is_folder ? spar_hub_place(&judge->model, model, err)
                                    : sp_mem_strdup(&judge->model, model, strlen(model), err));
    SPAR_TRY(judge->kind->open(&judge->context, judge->model, options ? options : &fallback, err));
    *out = judge;
    judge = NULL;
done:
    spar_judge_free(judge);
    return status;
}

void sp_judge_share(spar_judge *judge, sp_rundb *db) {
    if (judge->kind->share) {
        judge->kind->share(judge->context, db);
    }
}

void spar_judge_free(spar_judge *judge) {
    if (!judge) {
        return;
    }
    if (judge->context) {
        judge->kind->close(judge->context);
    }
    free(judge->model);
    free(judge);
}

spar_status spar_judge_provenance(const spar_judge *judge, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    char fingerprint[32] = "";
    *out = NULL;
    if (judge->kind->is_folder) {
        uint64_t hash;
        SPAR_TRY(sp_files_fingerprint(judge->model, &hash, err));
        snprintf(fingerprint, sizeof fingerprint, "%016llx", (unsigned long long)hash);
    }
    *out = json_pack("{s:s, s:s, s:s*}", "kind", judge->kind->name, "model", judge->model,
                     "fingerprint", fingerprint[0] ? fingerprint : NULL);
    if (!*out) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a judge's provenance"));
    }
    if (judge->kind->describe) {
        SPAR_TRY(judge->kind->describe(judge->context, *out, err));
    }
done:
    return status;
}

static spar_status put_message(const json_t *message, bool alone, size_t i, sp_str *out,
                               spar_error *err) {
    const json_t *role = json_object_get(message, "role");
    const bool text = json_is_string(json_object_get(message, "content"));
    if (!json_is_string(role) || (!text && sp_message_is_empty(message))) {
        return spar_fail(err, SPAR_FORMAT,
                         "prompt[%zu]: expected a message with role and content, found %s", i,
                         json_is_object(message) ? "another object" : sp_json_type_name(message));
    }
    if (!alone) {
        sp_str_printf(out, "%s%s: ", i ? "\n\n" : "", json_string_value(role));
    }
    sp_message_put_text(message, out);
    return SPAR_OK;
}

spar_status sp_judge_conversation(const sp_judge_item *item, const json_t *response, json_t **out,
                                  spar_error *err) {
    const json_t *prompt = item->prompt;
    json_t *messages =
        json_is_array(prompt) ? json_copy((json_t *)(uintptr_t)prompt) : json_array();
    *out = NULL;
    if (prompt && !json_is_array(prompt) && !json_is_string(prompt)) {
        json_decref(messages);
        return spar_fail(err, SPAR_FORMAT,
                         "prompt: expected a string or a list of messages, found %s",
                         sp_json_type_name(prompt));
    }
    if (json_is_string(prompt)) {
        json_array_append_new(messages, json_pack("{s:s, s:O}", "role", "user", "content", prompt));
    }
    json_array_append_new(messages,
                          json_pack("{s:s, s:O}", "role", "assistant", "content", response));
    const spar_status status = spar_conversation_of(out, item->row, messages, err);
    json_decref(messages);
    return status;
}

spar_status sp_judge_prompt_text(const json_t *prompt, sp_str *out, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t n = json_array_size(prompt);
    if (json_is_string(prompt)) {
        sp_str_append(out, json_string_value(prompt), json_string_length(prompt));
    } else if (n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "prompt: expected a string or a list of messages, found %s",
                           json_is_array(prompt) ? "an empty list" : sp_json_type_name(prompt)));
    }
    for (size_t i = 0; i < n; i++) {
        SPAR_TRY(put_message(json_array_get(prompt, i), n == 1, i, out, err));
    }
    SPAR_TRY(sp_str_status(out, err));
done:
    return status;
}

void spar_judgement_release(spar_judgement *j) {
    free(j->p);
    free(j->logits);
    free(j->scores);
    free(j->n_steps);
    free(j->steps);
    json_decref(j->step_texts);
    memset(j, 0, sizeof *j);
}

static spar_status check_response(const json_t *response, size_t i, bool reads_steps,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t n = json_array_size(response);
    if (!json_is_string(response) && !(reads_steps && n > 0)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "responses[%zu]: expected a string%s, found %s", i,
                           reads_steps ? " or a list of steps" : "", sp_json_type_name(response)));
    }
    for (size_t s = 0; s < n; s++) {
        const json_t *step = json_array_get(response, s);
        if (!json_is_string(step)) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "responses[%zu][%zu]: expected a string, found %s",
                               i, s, sp_json_type_name(step)));
        }
    }
done:
    return status;
}

static spar_status check_item(const sp_judge_item *item, const char *key, bool reads_steps,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    if (!json_is_array(item->responses)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected a list of %s, found %s", key,
                           item->ids ? "lists" : "strings", sp_json_type_name(item->responses)));
    }
    if (item->k == 0 || item->k > SPAR_JUDGE_MAX_RESPONSES) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT, "%s: expected 1 to %d, found %zu", key,
                           SPAR_JUDGE_MAX_RESPONSES, item->k));
    }
    for (size_t i = 0; !item->ids && i < item->k; i++) {
        SPAR_TRY(check_response(json_array_get(item->responses, i), i, reads_steps, err));
    }
done:
    return status;
}

/* The responses with the texts of those that are objects, as spar generate writes them; NULL where
 * none is. */
static json_t *texts_of(const json_t *responses) {
    json_t *texts = NULL;
    size_t i;
    json_t *response;
    json_array_foreach((json_t *)(uintptr_t)responses, i, response) {
        json_t *text = json_object_get(response, "text");
        if (json_is_string(text)) {
            texts = texts ? texts : json_copy((json_t *)(uintptr_t)responses);
            json_array_set(texts, i, text);
        }
    }
    return texts;
}

static spar_status read_item(const spar_judge *judge, const json_t *row, sp_judge_item *item,
                             spar_error *err) {
    const json_t *reference = json_object_get(row, "reference");
    const bool ids = judge->kind->reads_ids && json_object_get(row, "responses_ids");
    const char *key = ids ? "responses_ids" : "responses";
    const json_t *responses = json_object_get(row, key);
    json_t *texts = texts_of(responses);
    *item = (sp_judge_item){.k = json_array_size(responses),
                            .row = row,
                            .ids = ids,
                            .responses = texts ? texts : responses,
                            .texts = texts,
                            .prompt = json_object_get(row, ids ? "prompt_ids" : "prompt"),
                            .reference = reference ? reference : json_object_get(row, "answer")};
    return check_item(item, key, judge->kind->reads_steps, err);
}

static spar_status allocate(spar_judgement *out, size_t k, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    *out = (spar_judgement){.k = k};
    SPAR_TRY(sp_mem_calloc(&memory, k * k, sizeof *out->p, err));
    out->p = memory;
    SPAR_TRY(sp_mem_calloc(&memory, k, sizeof *out->scores, err));
    out->scores = memory;
done:
    return status;
}

/* 1, 1/2 or 0. */
static double compare(double a, double b) {
    return a > b ? 1 : a < b ? 0 : 0.5;
}

void sp_judge_compare_scores(spar_judgement *out) {
    for (size_t i = 0; i < out->k * out->k; i++) {
        out->p[i] = compare(out->scores[i / out->k], out->scores[i % out->k]);
    }
}

void sp_judge_score_by_wins(spar_judgement *out) {
    const size_t k = out->k;
    memset(out->scores, 0, k * sizeof *out->scores);
    for (size_t cell = 0; cell < k * k; cell++) {
        const double evened = 0.5 * (out->p[cell] + 1 - out->p[cell % k * k + cell / k]);
        out->scores[cell / k] += evened / (double)k;
    }
}

/* P from scores where it is not there; best and worst. */
static void complete(spar_judgement *j, sp_judge_fills fills) {
    if (fills == SP_JUDGE_FILLS_SCORES) {
        sp_judge_compare_scores(j);
    }
    for (size_t i = 1; i < j->k; i++) {
        j->best = j->scores[i] > j->scores[j->best] ? i : j->best;
        j->worst = j->scores[i] < j->scores[j->worst] ? i : j->worst;
    }
}

spar_status spar_judge_row(spar_judge *judge, const json_t *row, spar_judgement *out,
                           spar_error *err) {
    spar_status status = SPAR_OK;
    sp_judge_item item = {0};
    json_t *one = NULL;
    const double start = sp_now();
    memset(out, 0, sizeof *out);
    if (judge->kind->reads_steps && json_is_array(json_object_get(row, "completions"))) {
        one = json_pack("{s:O*, s:[O]}", "prompt", json_object_get(row, "prompt"), "responses",
                        json_object_get(row, "completions"));
        sp_conversation_carry(one, row);
    }
    SPAR_TRY(read_item(judge, one ? one : row, &item, err));
    SPAR_TRY(allocate(out, item.k, err));
    SPAR_TRY(judge->kind->judge(judge->context, &item, out, err));
    complete(out, judge->kind->fills);
    out->seconds = sp_now() - start + (judge->ahead_rows ? judge->ahead_seconds : 0);
done:
    judge->ahead_rows -= judge->ahead_rows > 0;
    json_decref(item.texts);
    json_decref(one);
    return status;
}

/* ---- asking ahead ---- */

size_t spar_judge_lookahead(const spar_judge *judge) {
    return judge->kind->lookahead ? judge->kind->lookahead(judge->context) : 1;
}

/* The time is shared by the rows, which spar_judge_row adds to theirs. */
spar_status spar_judge_ahead(spar_judge *judge, const json_t *const *rows, size_t n,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    sp_judge_item *items = NULL;
    size_t good = 0;
    const double start = sp_now();
    if (!judge->kind->ahead || n == 0) {
        return SPAR_OK;
    }
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *items, err));
    items = memory;
    for (size_t i = 0; i < n; i++) {
        if (read_item(judge, rows[i], &items[good], NULL) == SPAR_OK) {
            good++;
        } else {
            json_decref(items[good].texts);
        }
    }
    status = judge->kind->ahead(judge->context, items, good, err);
    judge->ahead_rows = n;
    judge->ahead_seconds = (sp_now() - start) / (double)n;
    if (status != SPAR_INTERRUPTED && status != SPAR_NO_MEMORY) {
        status = SPAR_OK;
    }
done:
    for (size_t i = 0; i < good; i++) {
        json_decref(items[i].texts);
    }
    free(items);
    return status;
}

json_t *sp_judge_numbers(const double *values, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(list, json_real(values[i]));
    }
    return list;
}

static json_t *square(const double *values, size_t k) {
    json_t *list = json_array();
    for (size_t i = 0; i < k; i++) {
        json_array_append_new(list, sp_judge_numbers(values + i * k, k));
    }
    return list;
}

static json_t *step_lists(const spar_judgement *j) {
    json_t *lists = json_array();
    const double *at = j->steps;
    for (size_t i = 0; i < j->k; i++) {
        json_array_append_new(lists, sp_judge_numbers(at, j->n_steps[i]));
        at += j->n_steps[i];
    }
    return lists;
}

spar_status spar_judgement_json(const spar_judge *judge, const spar_judgement *j, json_t **out,
                                spar_error *err) {
    *out = json_pack("{s:o, s:o*, s:o, s:o*, s:I, s:I, s:f, s:o*, s:o*, s:o*, s:{s:s, s:s}}", "p",
                     square(j->p, j->k), "logits", j->logits ? square(j->logits, j->k) : NULL,
                     "scores", sp_judge_numbers(j->scores, j->k), "steps",
                     j->steps ? step_lists(j) : NULL, "best", (json_int_t)j->best, "worst",
                     (json_int_t)j->worst, "seconds", j->seconds, "tokens",
                     j->tokens ? json_integer(j->tokens) : NULL, "requests",
                     j->requests ? json_integer(j->requests) : NULL, "no_verdict",
                     j->no_verdict ? json_integer(j->no_verdict) : NULL, "judge", "kind",
                     judge->kind->name, "model", judge->model);
    return *out ? SPAR_OK : spar_fail(err, SPAR_NO_MEMORY, "out of memory for a judgement");
}
