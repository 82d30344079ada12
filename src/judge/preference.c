/* The judge kind "preference": a general preference model (arXiv 2410.02197), which can hold
 * cycles.
 *
 * A response with its prompt is a vector v of unit length, and a is preferred to b by
 *     s(a, b) = sum over planes l of w_l (v_a[2l] v_b[2l+1] - v_a[2l+1] v_b[2l]),
 * with P = sigmoid(s / tau): antisymmetric, and not always transitive. The planes' weights are read
 * at the prompt's last token. Rows are made as the authors' pipeline makes them: the rendered
 * conversation is tokenised with special tokens added to those that the template writes, the last
 * token is the end-of-text token, and the prompt is its first message alone.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "judge/kind.h"
#include "model/engine.h"
#include "model/reward.h"
#include "text/conversation.h"

typedef struct preference {
    sp_reward *reward; /* owned */
    int64_t planes;
    double tau;
} preference;

static void preference_close(void *context) {
    preference *p = context;
    sp_reward_free(p->reward);
    free(p);
}

static spar_status preference_open(void **context, const char *dir,
                                   const spar_judge_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_model_options model = {
        .dtype = options->dtype, .threads = options->threads, .inference = true};
    void *memory;
    preference *p = NULL;
    if (!dir[0]) {
        SPAR_TRY(
            spar_fail(err, SPAR_INVALID, "judge: expected preference:FOLDER, found no folder"));
    }
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *p, err));
    p = memory;
    p->tau = options->tau > 0 ? options->tau : 0.1;
    SPAR_TRY(sp_reward_load(&p->reward, dir, &model, err));
    p->planes = sp_reward_planes(p->reward);
    if (p->planes == 0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: expected a value_head with an even number of outputs, found a head "
                           "of %lld",
                           dir, (long long)sp_reward_labels(p->reward)));
    }
    *context = p;
    p = NULL;
done:
    if (p) {
        preference_close(p);
    }
    return status;
}

static spar_status preference_describe(const void *context, json_t *out, spar_error *err) {
    const preference *p = context;
    return json_object_set_new(out, "tau", json_real(p->tau)) == 0
               ? SPAR_OK
               : spar_fail(err, SPAR_NO_MEMORY, "out of memory for a judge's provenance");
}

/* ---- rows ---- */

static spar_status encode(const preference *p, const json_t *conversation, int32_t **ids, size_t *n,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_model *m = sp_reward_model(p->reward);
    char *text = NULL;
    size_t length;
    SPAR_TRY(sp_model_render(m, conversation, false, &text, &length, err));
    SPAR_TRY(spar_tokenizer_encode(spar_model_tokenizer(m), text, length, 0, ids, n, err));
    if (*n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "responses: the chat template renders nothing"));
    }
done:
    free(text);
    return status;
}

/* The unit vector [2 planes] and the planes' weights of one response. */
static spar_status embed(preference *p, const sp_judge_item *item, size_t i, float *v,
                         float *weights, int64_t *tokens, spar_error *err) {
    spar_status status = SPAR_OK;
    int32_t *ids = NULL, *prompt_ids = NULL;
    size_t n = 0, n_prompt = 0;
    double square = 0;
    json_t *first = NULL, *whole = NULL;
    const int32_t eos = spar_tokenizer_eos(spar_model_tokenizer(sp_reward_model(p->reward)));
    SPAR_TRY(sp_judge_conversation(item, json_array_get(item->responses, i), &whole, err));
    first = sp_conversation_first(whole, 1);
    SPAR_TRY(encode(p, whole, &ids, &n, err));
    SPAR_TRY(encode(p, first, &prompt_ids, &n_prompt, err));
    if (eos >= 0) {
        ids[n - 1] = eos;
    }
    const sp_token_row row = {.ids = ids, .n = n};
    const int64_t last = (int64_t)n - 1, prompt = (int64_t)(n_prompt < n ? n_prompt : n) - 1;
    SPAR_TRY(sp_reward_scores_at(p->reward, &row, &last, 1, v, err));
    SPAR_TRY(sp_reward_plane_weights(p->reward, &row, prompt, weights, err));
    for (int64_t c = 0; c < 2 * p->planes; c++) {
        square += (double)v[c] * (double)v[c];
    }
    const double length = fmax(sqrt(square), 1e-12);
    for (int64_t c = 0; c < 2 * p->planes; c++) {
        v[c] = (float)((double)v[c] / length);
    }
    *tokens += (int64_t)n;
done:
    json_decref(whole);
    json_decref(first);
    free(ids);
    free(prompt_ids);
    return status;
}

static double score(const float *a, const float *b, const float *weights, int64_t planes) {
    double sum = 0;
    for (int64_t l = 0; l < planes; l++) {
        sum += (double)weights[l] *
               ((double)a[2 * l] * (double)b[2 * l + 1] - (double)a[2 * l + 1] * (double)b[2 * l]);
    }
    return sum;
}

static spar_status preference_judge(void *context, const sp_judge_item *item, spar_judgement *out,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    preference *p = context;
    const size_t k = item->k, width = 2 * (size_t)p->planes;
    float *v = NULL;
    void *memory;
    if (!json_is_string(item->prompt) && json_array_size(item->prompt) == 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "prompt: expected a string or a list of messages, found %s",
                           sp_json_type_name(item->prompt)));
    }
    SPAR_TRY(sp_mem_calloc(&memory, k * width + width, sizeof *v, err));
    v = memory;
    SPAR_TRY(sp_mem_calloc(&memory, k * k, sizeof *out->logits, err));
    out->logits = memory;
    float *weights = v + k * width; /* the same for all: of one prompt */
    for (size_t i = 0; i < k; i++) {
        SPAR_TRY(embed(p, item, i, v + i * width, weights, &out->tokens, err));
    }
    for (size_t cell = 0; cell < k * k; cell++) {
        out->logits[cell] =
            score(v + cell / k * width, v + cell % k * width, weights, p->planes) / p->tau;
        out->p[cell] = sp_judge_sigmoid(out->logits[cell]);
    }
    sp_judge_score_by_wins(out);
done:
    free(v);
    return status;
}

const sp_judge_kind sp_judge_preference = {.name = "preference",
                                           .fills = SP_JUDGE_FILLS_BOTH,
                                           .open = preference_open,
                                           .judge = preference_judge,
                                           .close = preference_close,
                                           .describe = preference_describe,
                                           .is_folder = true};
