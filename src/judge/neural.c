/* The judge kinds "pairrm" and "reward": models that were trained to prefer.
 *
 * PairRM reads two responses side by side: P = sigmoid of its logit for each ordered pair, and the
 * ranking score that LLM-Blender publishes (arXiv 2306.02561). A reward model reads a prompt with
 * one response: P = sigmoid(r_i - r_j) (Bradley-Terry). Either takes rows of ids as they are, or of
 * text where its folder has a tokenizer that spar reads.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "judge/kind.h"
#include "model/encoder.h"
#include "model/reward.h"

/* A model and where its ids come from; one of encoder and reward is there. */
typedef struct neural {
    sp_encoder *encoder;       /* owned */
    sp_reward *reward;         /* owned */
    spar_tokenizer *tokenizer; /* owned: an encoder's; NULL where there is none to read */
    spar_error why_no_text;
} neural;

/* Ids of prompt and responses of one row; owned. */
typedef struct id_rows {
    sp_token_row prompt, *responses;
    size_t k;
} id_rows;

static void id_rows_release(id_rows *x) {
    free((void *)(uintptr_t)x->prompt.ids);
    for (size_t i = 0; x->responses && i < x->k; i++) {
        free((void *)(uintptr_t)x->responses[i].ids);
    }
    free(x->responses);
}

static void neural_close(void *context) {
    neural *n = context;
    sp_encoder_free(n->encoder);
    sp_reward_free(n->reward);
    spar_tokenizer_free(n->tokenizer);
    free(n);
}

static spar_status neural_create(neural **out, const char *dir, spar_error *err) {
    void *memory = NULL;
    if (!dir[0]) {
        return spar_fail(err, SPAR_INVALID, "judge: expected KIND:FOLDER, found no folder");
    }
    const spar_status status = sp_mem_calloc(&memory, 1, sizeof **out, err);
    *out = memory;
    return status;
}

static spar_status open_encoder(neural *n, const char *dir, const spar_model_options *options,
                                spar_error *err) {
    const spar_status status = sp_encoder_load(&n->encoder, dir, options, err);
    if (status == SPAR_OK) {
        spar_tokenizer_load(&n->tokenizer, dir, &n->why_no_text);
    }
    return status;
}

static spar_status pairrm_open(void **context, const char *dir, const spar_judge_options *options,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    neural *n = NULL;
    const spar_model_options model = {
        .dtype = options->dtype, .threads = options->threads, .inference = true};
    SPAR_TRY(neural_create(&n, dir, err));
    SPAR_TRY(open_encoder(n, dir, &model, err));
    if (!sp_encoder_compares(n->encoder)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: expected a PairRM, found an encoder that scores one row", dir));
    }
    *context = n;
    n = NULL;
done:
    if (n) {
        neural_close(n);
    }
    return status;
}

/* A decoder with a head, or an encoder with a classification head of one output. */
static spar_status reward_open(void **context, const char *dir, const spar_judge_options *options,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    spar_error no_decoder;
    neural *n = NULL;
    const spar_model_options model = {
        .dtype = options->dtype, .threads = options->threads, .inference = true};
    SPAR_TRY(neural_create(&n, dir, err));
    const spar_status decoder = sp_reward_load(&n->reward, dir, &model, &no_decoder);
    if (decoder != SPAR_OK && open_encoder(n, dir, &model, err) != SPAR_OK) {
        SPAR_TRY(decoder == SPAR_UNSUPPORTED ? err->code
                                             : spar_fail(err, decoder, "%s", no_decoder.message));
    }
    const int64_t labels = n->reward ? sp_reward_labels(n->reward) : sp_encoder_labels(n->encoder);
    if (labels != 1 || (n->encoder && sp_encoder_compares(n->encoder))) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: expected a head with one score of one row, found %s", dir,
                           labels == 1 ? "a PairRM" : "several outputs"));
    }
    *context = n;
    n = NULL;
done:
    if (n) {
        neural_close(n);
    }
    return status;
}

/* ---- rows to ids ---- */

static spar_status read_ids(const json_t *list, const char *key, sp_token_row *out,
                            spar_error *err) {
    void *memory;
    const size_t n = json_array_size(list);
    if (!json_is_array(list)) {
        return spar_fail(err, SPAR_FORMAT, "%s: expected a list of ids, found %s", key,
                         sp_json_type_name(list));
    }
    const spar_status status = sp_mem_calloc(&memory, n ? n : 1, sizeof(int32_t), err);
    if (status != SPAR_OK) {
        return status;
    }
    int32_t *ids = memory;
    *out = (sp_token_row){.ids = ids, .n = n};
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX) {
            return spar_fail(err, SPAR_FORMAT, "%s[%zu]: expected a token id, found %s", key, i,
                             json_is_integer(id) ? "a number out of range" : sp_json_type_name(id));
        }
        ids[i] = (int32_t)json_integer_value(id);
    }
    return SPAR_OK;
}

static spar_status read_all_ids(const sp_judge_item *item, id_rows *out, spar_error *err) {
    spar_status status = SPAR_OK;
    char key[64];
    if (item->prompt) {
        SPAR_TRY(read_ids(item->prompt, "prompt_ids", &out->prompt, err));
    }
    for (size_t i = 0; i < item->k; i++) {
        snprintf(key, sizeof key, "responses_ids[%zu]", i);
        SPAR_TRY(read_ids(json_array_get(item->responses, i), key, &out->responses[i], err));
    }
done:
    return status;
}

static spar_status encode(const spar_tokenizer *t, const char *text, size_t n_text,
                          sp_token_row *out, spar_error *err) {
    int32_t *ids = NULL;
    size_t n = 0;
    const spar_status status =
        spar_tokenizer_encode(t, text, n_text, SPAR_TOKENIZE_NO_SPECIAL, &ids, &n, err);
    *out = (sp_token_row){.ids = ids, .n = n};
    return status;
}

static spar_status encode_prompt(const spar_tokenizer *t, const json_t *prompt, sp_token_row *out,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str text = SP_STR_INIT;
    SPAR_TRY(sp_judge_prompt_text(prompt, &text, err));
    SPAR_TRY(encode(t, sp_str_get(&text), text.len, out, err));
done:
    sp_str_release(&text);
    return status;
}

/* Prompt and response as the reward model's template has them. */
static spar_status encode_turn(const spar_model *m, const sp_judge_item *item,
                               const json_t *response, sp_token_row *out, spar_error *err) {
    spar_status status = SPAR_OK;
    int32_t *ids = NULL;
    size_t n = 0;
    json_t *conversation = NULL;
    SPAR_TRY(sp_judge_conversation(item, response, &conversation, err));
    SPAR_TRY(spar_model_chat_ids(m, conversation, false, &ids, &n, err));
    *out = (sp_token_row){.ids = ids, .n = n};
done:
    json_decref(conversation);
    return status;
}

static spar_status read_texts(const neural *n, const sp_judge_item *item, id_rows *out,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    if (n->encoder && !n->tokenizer) {
        SPAR_TRY(spar_fail(err, n->why_no_text.code, "responses: expected responses_ids: %s",
                           n->why_no_text.message));
    }
    if (n->encoder) {
        SPAR_TRY(encode_prompt(n->tokenizer, item->prompt, &out->prompt, err));
    }
    for (size_t i = 0; i < item->k; i++) {
        const json_t *response = json_array_get(item->responses, i);
        SPAR_TRY(n->encoder ? encode(n->tokenizer, json_string_value(response),
                                     json_string_length(response), &out->responses[i], err)
                            : encode_turn(sp_reward_model(n->reward), item, response,
                                          &out->responses[i], err));
    }
done:
    return status;
}

static spar_status make_rows(const neural *n, const sp_judge_item *item, id_rows *out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, item->k, sizeof *out->responses, err));
    out->responses = memory;
    out->k = item->k;
    SPAR_TRY(item->ids ? read_all_ids(item, out, err) : read_texts(n, item, out, err));
done:
    return status;
}

/* ---- judging ---- */

static spar_status pairrm_judge(void *context, const sp_judge_item *item, spar_judgement *out,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    const neural *n = context;
    const size_t k = item->k;
    id_rows rows = {0};
    float *logits = NULL;
    void *memory;
    SPAR_TRY(make_rows(n, item, &rows, err));
    SPAR_TRY(sp_mem_calloc(&memory, k * k + k, sizeof *logits, err));
    logits = memory;
    SPAR_TRY(sp_mem_calloc(&memory, k * k, sizeof *out->logits, err));
    out->logits = memory;
    for (size_t i = 0; i < k; i++) { /* each stands in two rows with each other one */
        out->tokens += (int64_t)((k - 1) * (rows.prompt.n + 2 * rows.responses[i].n));
    }
    SPAR_TRY(sp_pairrm_compare(n->encoder, &rows.prompt, rows.responses, k, logits, err));
    sp_pairrm_rank(logits, k, logits + k * k);
    for (size_t i = 0; i < k * k; i++) {
        out->logits[i] = (double)logits[i];
        out->p[i] = sp_judge_sigmoid((double)logits[i]);
    }
    for (size_t i = 0; i < k; i++) {
        out->scores[i] = (double)logits[k * k + i];
    }
done:
    free(logits);
    id_rows_release(&rows);
    return status;
}

/* The id of one of two names; UNSUPPORTED where the vocabulary has neither. */
static spar_status special_id(const spar_tokenizer *t, const char *a, const char *b, int32_t *out,
                              spar_error *err) {
    const int32_t first = spar_tokenizer_id(t, a);
    *out = first >= 0 ? first : spar_tokenizer_id(t, b);
    return *out >= 0
               ? SPAR_OK
               : spar_fail(err, SPAR_UNSUPPORTED,
                           "the judge's tokenizer: expected a token %s or %s, found none", a, b);
}

/* Prompt and response as an encoder reads two texts: [CLS] prompt [SEP] response [SEP], with a
 * second [SEP] between them for RoBERTa. */
static spar_status join_texts(const neural *n, id_rows *rows, spar_error *err) {
    spar_status status = SPAR_OK;
    int32_t cls, sep;
    const size_t between = sp_encoder_doubles_separator(n->encoder) ? 2 : 1;
    SPAR_TRY(special_id(n->tokenizer, "[CLS]", "<s>", &cls, err));
    SPAR_TRY(special_id(n->tokenizer, "[SEP]", "</s>", &sep, err));
    for (size_t i = 0; i < rows->k; i++) {
        sp_token_row *r = &rows->responses[i];
        const size_t second = 1 + rows->prompt.n + between;
        void *memory;
        SPAR_TRY(sp_mem_calloc(&memory, second + r->n + 1, sizeof *r->ids, err));
        int32_t *ids = memory;
        ids[0] = cls;
        if (rows->prompt.n > 0) {
            memcpy(ids + 1, rows->prompt.ids, rows->prompt.n * sizeof *ids);
        }
        for (size_t s = 0; s < between; s++) {
            ids[1 + rows->prompt.n + s] = sep;
        }
        if (r->n > 0) {
            memcpy(ids + second, r->ids, r->n * sizeof *ids);
        }
        ids[second + r->n] = sep;
        free((void *)(uintptr_t)r->ids);
        *r = (sp_token_row){.ids = ids,
                            .n = second + r->n + 1,
                            .second = sp_encoder_types(n->encoder) > 1 ? second : 0};
    }
done:
    return status;
}

/* Each response behind the prompt, as one row; a template has put them together already. */
static spar_status join(id_rows *rows, spar_error *err) {
    for (size_t i = 0; i < rows->k; i++) {
        void *memory;
        sp_token_row *r = &rows->responses[i];
        const size_t n = rows->prompt.n + r->n;
        const spar_status status = sp_mem_calloc(&memory, n ? n : 1, sizeof *r->ids, err);
        if (status != SPAR_OK) {
            return status;
        }
        int32_t *ids = memory;
        if (rows->prompt.n > 0) {
            memcpy(ids, rows->prompt.ids, rows->prompt.n * sizeof *ids);
        }
        if (r->n > 0) {
            memcpy(ids + rows->prompt.n, r->ids, r->n * sizeof *ids);
        }
        free((void *)(uintptr_t)r->ids);
        *r = (sp_token_row){.ids = ids, .n = n};
    }
    return SPAR_OK;
}

static spar_status reward_judge(void *context, const sp_judge_item *item, spar_judgement *out,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    const neural *n = context;
    const size_t k = item->k;
    id_rows rows = {0};
    float *scores = NULL;
    void *memory;
    SPAR_TRY(make_rows(n, item, &rows, err));
    SPAR_TRY(n->encoder && !item->ids ? join_texts(n, &rows, err) : join(&rows, err));
    SPAR_TRY(sp_mem_calloc(&memory, k, sizeof *scores, err));
    scores = memory;
    SPAR_TRY(n->reward ? sp_reward_scores(n->reward, rows.responses, k, scores, err)
                       : sp_encoder_scores(n->encoder, rows.responses, k, scores, err));
    SPAR_TRY(sp_mem_calloc(&memory, k * k, sizeof *out->logits, err));
    out->logits = memory;
    for (size_t i = 0; i < k * k; i++) {
        out->logits[i] = (double)scores[i / k] - (double)scores[i % k];
        out->p[i] = sp_judge_sigmoid(out->logits[i]);
    }
    for (size_t i = 0; i < k; i++) {
        out->scores[i] = (double)scores[i];
        out->tokens += (int64_t)rows.responses[i].n;
    }
done:
    free(scores);
    id_rows_release(&rows);
    return status;
}

const sp_judge_kind sp_judge_pairrm = {.name = "pairrm",
                                       .fills = SP_JUDGE_FILLS_BOTH,
                                       .reads_ids = true,
                                       .open = pairrm_open,
                                       .judge = pairrm_judge,
                                       .close = neural_close,
                                       .is_folder = true};
const sp_judge_kind sp_judge_reward = {.name = "reward",
                                       .fills = SP_JUDGE_FILLS_BOTH,
                                       .reads_ids = true,
                                       .open = reward_open,
                                       .judge = reward_judge,
                                       .close = neural_close,
                                       .is_folder = true};
