/* The judge kind "llm": a language model on this machine that is asked for a verdict.
 *
 * The verdict is not sampled: its probability is read. Behind the prompt each verdict's text is
 * scored as the model's answer, and P is their share of one another. Pairwise, each ordered pair is
 * a question of its own, so that the matrix shows a preference for a place (arXiv 2306.05685); a
 * verdict for neither counts half. Of one response the score is the mean rating.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "judge/prompt.h"
#include "judge/verdict.h"
#include "model/engine.h"
#include "spar/generate.h"

typedef struct llm {
    sp_judge_prompt prompt;
    spar_model *model; /* owned */
    sp_pass *pass;     /* owned */
    sp_batch batch;
    int64_t explain; /* tokens before the verdict; 0: none */
} llm;

/* The prompt with each verdict behind it, as ids; owned. */
typedef struct questions {
    int32_t *ids[SP_JUDGE_MAX_VERDICTS];
    size_t n[SP_JUDGE_MAX_VERDICTS], shared; /* the first so many are those of all */
    int count;
} questions;

static void llm_close(void *context) {
    llm *l = context;
    sp_judge_prompt_release(&l->prompt);
    sp_pass_free(l->pass);
    sp_batch_release(&l->batch);
    spar_model_free(l->model);
    free(l);
}

static spar_status llm_open(void **context, const char *path, const spar_judge_options *options,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_model_options model = {
        .dtype = options->dtype, .threads = options->threads, .inference = true};
    void *memory;
    llm *l = NULL;
    if (!path[0]) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "judge llm: expected llm:MODEL, found no model"));
    }
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *l, err));
    l = memory;
    sp_batch_init(&l->batch);
    l->explain = options->explain;
    SPAR_TRY(sp_judge_prompt_load(&l->prompt, options->prompt, err));
    SPAR_TRY(spar_model_load(&l->model, path, &model, err));
    SPAR_TRY(sp_pass_create(&l->pass, l->model, SP_PASS_INFER, err));
    *context = l;
    l = NULL;
done:
    if (l) {
        llm_close(l);
    }
    return status;
}

static spar_status llm_describe(const void *context, json_t *out, spar_error *err) {
    const llm *l = context;
    json_object_set_new(out, "explain", json_integer(l->explain));
    return sp_judge_prompt_describe(&l->prompt, out, err);
}

/* ---- the questions ---- */

/* What the model says for itself before its verdict, greedily: at most so many tokens, up to the
 * verdict's brackets. */
static spar_status explain(const llm *l, sp_str *text, spar_judgement *out, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_sampling sampling;
    spar_response response = {0};
    int32_t *ids = NULL;
    size_t n;
    SPAR_TRY(spar_options_default(spar_sampling_options, &sampling, err));
    sampling.temperature = 0;
    sampling.max_new_tokens = l->explain;
    sampling.stop = (spar_option_list){1, {"[["}};
    SPAR_TRY(spar_tokenizer_encode(spar_model_tokenizer(l->model), sp_str_get(text), text->len,
                                   SPAR_TOKENIZE_NO_SPECIAL, &ids, &n, err));
    const spar_prompt prompt = {.ids = ids, .n = n};
    SPAR_TRY(spar_generate(l->model, &prompt, 1, 1, &sampling, NULL, &response, err));
    out->tokens += (int64_t)(n + response.n);
    sp_str_append(text, response.text, response.n_text);
    SPAR_TRY(sp_str_status(text, err));
done:
    free(ids);
    spar_responses_free(&response, 1);
    return status;
}

static spar_status encode(const llm *l, const sp_str *prompt, questions *q, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str text = SP_STR_INIT;
    for (q->count = 0; q->count < l->prompt.n_verdicts; q->count++) {
        const int v = q->count;
        char verdict[16];
        sp_judge_prompt_verdict(&l->prompt, v, verdict, sizeof verdict);
        sp_str_clear(&text);
        sp_str_append(&text, prompt->data, prompt->len);
        sp_str_puts(&text, verdict);
        SPAR_TRY(sp_str_status(&text, err));
        SPAR_TRY(spar_tokenizer_encode(spar_model_tokenizer(l->model), text.data, text.len,
                                       SPAR_TOKENIZE_NO_SPECIAL, &q->ids[v], &q->n[v], err));
        size_t same = 0;
        while (same < q->n[v] && same < q->n[0] && q->ids[v][same] == q->ids[0][same]) {
            same++;
        }
        q->shared = v == 0 || same < q->shared ? same : q->shared;
    }
done:
    sp_str_release(&text);
    return status;
}

static spar_status check(const llm *l, const questions *q, spar_error *err) {
    for (int v = 0; v < q->count; v++) {
        if (q->shared == 0 || q->shared == q->n[v]) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "%s: its tokenizer does not tell the verdicts of the prompt %s apart",
                             spar_model_path(l->model), l->prompt.name);
        }
        if ((int64_t)q->n[v] > spar_model_context(l->model)) {
            return spar_fail(err, SPAR_LIMIT,
                             "a prompt of %zu tokens is longer than the judge's context of %lld",
                             q->n[v], (long long)spar_model_context(l->model));
        }
    }
    return SPAR_OK;
}

/* out [n_verdicts]: log-probs of the verdicts; the prompt is run once. */
static spar_status score(llm *l, const questions *q, double *out, spar_error *err) {
    spar_status status = SPAR_OK;
    float *logps = NULL;
    void *memory;
    int parent;
    sp_batch_clear(&l->batch);
    SPAR_TRY(sp_batch_add(&l->batch, -1, q->ids[0], q->shared, &parent, err));
    for (int v = 0; v < q->count; v++) {
        int segment;
        SPAR_TRY(sp_batch_add(&l->batch, parent, q->ids[v] + q->shared, q->n[v] - q->shared,
                              &segment, err));
        SPAR_TRY(sp_batch_score(&l->batch, segment, 0, NULL, err));
    }
    SPAR_TRY(sp_mem_calloc(&memory, l->batch.n_scored, sizeof *logps, err));
    logps = memory;
    SPAR_TRY(sp_pass_forward(l->pass, &l->batch, NULL, err));
    SPAR_TRY(sp_pass_logp(l->pass, &l->batch, logps, err));
    const float *at = logps;
    for (int v = 0; v < q->count; v++) {
        out[v] = 0;
        for (size_t i = q->shared; i < q->n[v]; i++) {
            out[v] += (double)*at++;
        }
    }
done:
    free(logps);
    return status;
}

static spar_status ask(void *context, const sp_judge_item *item, size_t a, size_t b, double *logps,
                       spar_judgement *out, spar_error *err) {
    spar_status status = SPAR_OK;
    llm *l = context;
    json_t *messages = NULL;
    char *rendered = NULL;
    size_t n;
    sp_str text = SP_STR_INIT;
    questions q = {.count = 0};
    SPAR_TRY(sp_judge_prompt_fill(&l->prompt, item, a, b, &messages, err));
    SPAR_TRY(sp_model_render(l->model, messages, true, &rendered, &n, err));
    sp_str_append(&text, rendered, n);
    if (l->explain > 0 && l->prompt.bracketed) {
        SPAR_TRY(explain(l, &text, out, err));
    }
    SPAR_TRY(encode(l, &text, &q, err));
    SPAR_TRY(check(l, &q, err));
    SPAR_TRY(sp_model_check_ids(l->model, q.ids[0], q.n[0], err));
    SPAR_TRY(score(l, &q, logps, err));
    out->tokens += (int64_t)l->batch.n_tokens;
done:
    for (int v = 0; v < q.count; v++) {
        free(q.ids[v]);
    }
    sp_str_release(&text);
    free(rendered);
    json_decref(messages);
    return status;
}

static spar_status llm_judge(void *context, const sp_judge_item *item, spar_judgement *out,
                             spar_error *err) {
    const llm *l = context;
    return sp_judge_by_verdicts(&l->prompt, ask, context, item, out, err);
}

const sp_judge_kind sp_judge_llm = {.name = "llm",
                                    .fills = SP_JUDGE_FILLS_BOTH,
                                    .open = llm_open,
                                    .judge = llm_judge,
                                    .close = llm_close,
                                    .describe = llm_describe,
                                    .is_folder = true};
