/* The judge kind "api": a language model behind an endpoint that speaks OpenAI's chat protocol.
 *
 * A request is one question of the prompt (verdict.h), sent as requests.h has it: several at a
 * time, of one row or of the rows to come. The reply's log-probs at the verdict give the
 * probabilities; without them the verdict itself is taken for certain.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "judge/prompt.h"
#include "judge/requests.h"
#include "judge/verdict.h"

enum { VERDICT_TOKENS = 16, TOP_LOGPROBS = 20, ROWS_A_SLOT = 4 };

typedef struct api {
    sp_judge_prompt prompt;
    sp_requests *requests; /* owned */
    char *url, *model;     /* owned */
    sp_rundb *own;         /* owned: the cache file; NULL: none */
    int64_t explain, concurrency;
    bool ahead; /* rows were asked about ahead: what is known stays until the next are */
    bool logprobs;
} api;

/* Seconds that Ctrl-C leaves to the replies under way, which are paid for. */
static const double hear_out = 10;

static void api_close(void *context) {
    api *a = context;
    sp_judge_prompt_release(&a->prompt);
    sp_requests_close(a->requests);
    sp_rundb_close(a->own);
    free(a->url);
    free(a->model);
    free(a);
}

static spar_status open_cache(api *a, const char *path, spar_error *err) {
    return path ? sp_rundb_open(&a->own, path,
                                sp_file_exists(path) ? SP_RUNDB_RESUME : SP_RUNDB_CREATE, err)
                : SPAR_OK;
}

static spar_status open_requests(api *a, const spar_judge_options *o, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_endpoint *e = &o->endpoint;
    const char *base = e->url;
    sp_str url = SP_STR_INIT;
    size_t n = strlen(base);
    while (n > 0 && base[n - 1] == '/') {
        n--;
    }
    sp_str_printf(&url, "%.*s/chat/completions", (int)n, base);
    SPAR_TRY(sp_str_take(&url, &a->url, err));
    const char *key = e->key_variable ? getenv(e->key_variable) : NULL;
    SPAR_TRY(sp_requests_open(&a->requests,
                              &(sp_requests_options){.url = a->url,
                                                     .key = key && key[0] ? key : NULL,
                                                     .endpoint = *e,
                                                     .stop = o->stop,
                                                     .stop_context = o->stop_context,
                                                     .hear_out = hear_out},
                              err));
    SPAR_TRY(open_cache(a, o->cache, err));
    sp_requests_keep(a->requests, a->own);
done:
    sp_str_release(&url);
    return status;
}

static spar_status api_open(void **context, const char *model, const spar_judge_options *o,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    api *a = NULL;
    if (!model[0] || !o->endpoint.url) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "judge api: expected api:MODEL and an endpoint, found no %s",
                           model[0] ? "endpoint" : "model"));
    }
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *a, err));
    a = memory;
    a->explain = o->explain;
    a->concurrency = o->endpoint.concurrency;
    a->logprobs = o->endpoint.logprobs;
    SPAR_TRY(sp_mem_strdup(&a->model, model, strlen(model), err));
    SPAR_TRY(sp_judge_prompt_load(&a->prompt, o->prompt, err));
    SPAR_TRY(open_requests(a, o, err));
    *context = a;
    a = NULL;
done:
    if (a) {
        api_close(a);
    }
    return status;
}

static void api_share(void *context, sp_rundb *db) {
    api *a = context;
    sp_requests_keep(a->requests, a->own ? a->own : db);
}

static spar_status api_describe(const void *context, json_t *out, spar_error *err) {
    const api *a = context;
    json_object_set_new(out, "endpoint", json_string(a->url));
    json_object_set_new(out, "explain", json_integer(a->explain));
    return sp_judge_prompt_describe(&a->prompt, out, err);
}

/* ---- questions ---- */

static char *request_body(const api *a, json_t *messages) {
    json_t *body =
        json_pack("{s:s, s:O, s:f, s:I}", "model", a->model, "messages", messages, "temperature",
                  0.0, "max_tokens", (json_int_t)(a->explain + VERDICT_TOKENS));
    if (a->logprobs) {
        json_object_set_new(body, "logprobs", json_true());
        json_object_set_new(body, "top_logprobs", json_integer(TOP_LOGPROBS));
    }
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    return text;
}

static char *question_body(const api *a, const sp_judge_item *item, size_t first, size_t second,
                           spar_error *err) {
    json_t *messages = NULL;
    char *body = NULL;
    if (sp_judge_prompt_fill(&a->prompt, item, first, second, &messages, err) == SPAR_OK) {
        body = request_body(a, messages);
        if (!body) {
            spar_fail(err, SPAR_NO_MEMORY, "out of memory for a request");
        }
    }
    json_decref(messages);
    return body;
}

static spar_status want(void *context, const sp_judge_item *item, size_t first, size_t second,
                        spar_error *err) {
    api *a = context;
    char *body = question_body(a, item, first, second, err);
    const spar_status status = body ? sp_requests_want(a->requests, body, err) : err->code;
    free(body);
    return status;
}

static spar_status want_all(api *a, const sp_judge_item *item, spar_error *err) {
    return sp_judge_each_question(&a->prompt, want, a, item, err);
}

static spar_status ask(void *context, const sp_judge_item *item, size_t first, size_t second,
                       double *logps, spar_judgement *out, spar_error *err) {
    spar_status status = SPAR_OK;
    api *a = context;
    json_t *reply = NULL;
    bool fresh;
    char *body = question_body(a, item, first, second, err);
    if (!body) {
        return err->code;
    }
    SPAR_TRY(sp_requests_take(a->requests, body, &reply, &fresh, err));
    if (fresh) {
        out->requests++;
        out->tokens +=
            json_integer_value(json_object_get(json_object_get(reply, "usage"), "total_tokens"));
    }
    if (!sp_judge_read_verdict(&a->prompt, sp_requests_choice(reply), logps)) {
        out->no_verdict++;
    }
done:
    json_decref(reply);
    free(body);
    return status;
}

/* ---- rows ---- */

/* What is known of the rows before these goes. A row that cannot be asked about says so when it is
 * judged. */
static spar_status api_ahead(void *context, const sp_judge_item *items, size_t n, spar_error *err) {
    api *a = context;
    spar_error ignored;
    a->ahead = true;
    sp_requests_forget(a->requests);
    for (size_t i = 0; i < n; i++) {
        want_all(a, &items[i], &ignored);
    }
    return sp_requests_send(a->requests, err);
}

static size_t api_lookahead(const void *context) {
    const api *a = context;
    return a->concurrency > 1 ? (size_t)a->concurrency * ROWS_A_SLOT : 1;
}

static spar_status api_judge(void *context, const sp_judge_item *item, spar_judgement *out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    api *a = context;
    SPAR_TRY(want_all(a, item, err));
    SPAR_TRY(sp_requests_send(a->requests, err));
    SPAR_TRY(sp_judge_by_verdicts(&a->prompt, ask, context, item, out, err));
done:
    if (!a->ahead) {
        sp_requests_forget(a->requests);
    }
    return status;
}

const sp_judge_kind sp_judge_api = {.name = "api",
                                    .fills = SP_JUDGE_FILLS_BOTH,
                                    .open = api_open,
                                    .judge = api_judge,
                                    .close = api_close,
                                    .describe = api_describe,
                                    .share = api_share,
                                    .ahead = api_ahead,
                                    .lookahead = api_lookahead};
