/* The judge kind "api": a language model behind an endpoint that speaks OpenAI's chat protocol.
 *
 * A request is one question of the prompt (verdict.h). The reply's log-probs at the verdict give
 * the probabilities; without them the verdict itself is taken for certain. Every whole reply is
 * kept by its request, before it is used, so that no judgement is paid for twice. What a network or
 * a server does wrong (no connection, a time-out, 408, 409, 429, 5xx, a reply that is no reply) is
 * tried again, later each time and not before the server's Retry-After, within bounds of count and
 * time.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "judge/prompt.h"
#include "judge/verdict.h"
#include "net/http.h"

enum { VERDICT_TOKENS = 16, TOP_LOGPROBS = 20 };
static const double first_pause = 0.5, longest_pause = 60;

typedef struct api {
    sp_judge_prompt prompt;
    sp_http *http;
    char *url, *model; /* owned */
    const char *key;   /* borrowed from the environment; NULL: none */
    sp_rundb *own;     /* owned: the cache file; NULL: none */
    sp_rundb *replies; /* own, or borrowed; NULL: none */
    int64_t attempts, explain;
    double seconds, patience, interval, last; /* seconds; when the last request was sent */
    bool logprobs;
} api;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void api_close(void *context) {
    api *a = context;
    sp_judge_prompt_release(&a->prompt);
    sp_http_close(a->http);
    sp_rundb_close(a->own);
    free(a->url);
    free(a->model);
    free(a);
}

static spar_status open_cache(api *a, const char *path, spar_error *err) {
    if (!path) {
        return SPAR_OK;
    }
    const spar_status status =
        sp_rundb_open(&a->own, path, sp_file_exists(path) ? SP_RUNDB_RESUME : SP_RUNDB_CREATE, err);
    a->replies = a->own;
    return status;
}

static spar_status open_http(api *a, const spar_judge_options *o, spar_error *err) {
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
    a->key = key && key[0] ? key : NULL;
    SPAR_TRY(sp_http_check_url(a->url, "endpoint", err));
    SPAR_TRY(sp_http_check_key(a->key, "the endpoint's key", err));
    SPAR_TRY(sp_http_open(
        &a->http, &(sp_http_options){.stop = o->stop, .stop_context = o->stop_context}, err));
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
    a->attempts = o->endpoint.attempts;
    a->explain = o->explain;
    a->seconds = o->endpoint.request_limit;
    a->patience = o->endpoint.patience;
    a->interval = o->endpoint.rate > 0 ? 60 / o->endpoint.rate : 0;
    a->last = -INFINITY;
    a->logprobs = o->endpoint.logprobs;
    SPAR_TRY(sp_mem_strdup(&a->model, model, strlen(model), err));
    SPAR_TRY(sp_judge_prompt_load(&a->prompt, o->prompt, err));
    SPAR_TRY(open_http(a, o, err));
    SPAR_TRY(open_cache(a, o->cache, err));
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
    a->replies = a->own ? a->own : db;
}

static spar_status api_describe(const void *context, json_t *out, spar_error *err) {
    const api *a = context;
    json_object_set_new(out, "endpoint", json_string(a->url));
    json_object_set_new(out, "explain", json_integer(a->explain));
    return sp_judge_prompt_describe(&a->prompt, out, err);
}

/* ---- one request ---- */

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

/* The message of a reply; NULL: it is none. Borrowed. */
static const json_t *choice_of(const json_t *reply) {
    const json_t *choice = json_array_get(json_object_get(reply, "choices"), 0);
    const json_t *message = json_object_get(choice, "message");
    return json_is_string(json_object_get(message, "content")) ? choice : NULL;
}

/* Whether a later try may go better. why: of at least 256 bytes. */
static bool may_try_again(const sp_http_reply *r, char *why, size_t n) {
    if (r->status == 0) {
        snprintf(why, n, "%s", r->error);
        return true;
    }
    json_t *body = json_loadb(sp_str_get(&r->body), r->body.len, 0, NULL);
    const json_t *error = json_object_get(body, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    message = message ? message : json_string_value(error);
    if (r->status == 200) {
        snprintf(why, n, "a reply that is no chat completion");
    } else {
        snprintf(why, n, "HTTP status %ld%s%.150s", r->status, message ? ": " : "",
                 message ? message : "");
    }
    json_decref(body);
    return r->status == 200 || r->status == 408 || r->status == 409 || r->status == 429 ||
           r->status >= 500;
}

static spar_status keep_rate(api *a, spar_error *err) {
    const spar_status status = sp_http_wait(a->http, a->last + a->interval - now(), err);
    a->last = now();
    return status;
}

/* Send until there is a chat completion: *out is a new reference. */
static spar_status send_until(api *a, const char *body, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_http_reply reply = {0};
    const sp_http_request request = {
        .url = a->url, .key = a->key, .body = body, .seconds = a->seconds};
    const double begun = now();
    double pause = first_pause;
    *out = NULL;
    for (int64_t attempt = 1;; attempt++) {
        char why[256];
        SPAR_TRY(keep_rate(a, err));
        SPAR_TRY(sp_http_send(a->http, &request, &reply, err));
        if (reply.status == 200) {
            *out = json_loadb(sp_str_get(&reply.body), reply.body.len, 0, NULL);
            if (choice_of(*out)) {
                goto done;
            }
            json_decref(*out);
            *out = NULL;
        }
        const bool again = may_try_again(&reply, why, sizeof why);
        const double wait = fmax(pause, reply.retry_after);
        const double spent = now() - begun;
        if (!again || attempt >= a->attempts || spent + wait > a->patience) {
            SPAR_TRY(spar_fail(err, again ? SPAR_IO : SPAR_INVALID,
                               "%s: %s (%lld attempts in %.0f seconds)", a->url, why,
                               (long long)attempt, spent));
        }
        SPAR_TRY(sp_http_wait(a->http, wait, err));
        pause = fmin(2 * pause, longest_pause);
    }
done:
    sp_http_reply_release(&reply);
    return status;
}

/* The reply to a request: the one that is kept, or else a new one, which is kept. */
static spar_status reply_to(api *a, const char *body, spar_judgement *cost, json_t **out,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str key = SP_STR_INIT;
    char *kept = NULL;
    *out = NULL;
    sp_str_printf(&key, "%s\n%s", a->url, body);
    SPAR_TRY(sp_str_status(&key, err));
    if (a->replies) {
        SPAR_TRY(sp_rundb_get_reply(a->replies, sp_str_get(&key), &kept, err));
    }
    if (kept) {
        SPAR_TRY(sp_json_parse(out, kept, strlen(kept), "a kept reply", err));
        goto done;
    }
    SPAR_TRY(send_until(a, body, out, err));
    cost->requests++;
    cost->tokens +=
        json_integer_value(json_object_get(json_object_get(*out, "usage"), "total_tokens"));
    if (a->replies) {
        kept = json_dumps(*out, JSON_COMPACT);
        if (!kept) {
            SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a reply"));
        }
        SPAR_TRY(sp_rundb_put_reply(a->replies, sp_str_get(&key), kept, err));
    }
done:
    free(kept);
    sp_str_release(&key);
    return status;
}

static spar_status ask(void *context, const sp_judge_item *item, size_t first, size_t second,
                       double *logps, spar_judgement *out, spar_error *err) {
    spar_status status = SPAR_OK;
    api *a = context;
    json_t *messages = NULL, *reply = NULL;
    char *body = NULL;
    SPAR_TRY(sp_judge_prompt_fill(&a->prompt, item, first, second, &messages, err));
    body = request_body(a, messages);
    if (!body) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a request"));
    }
    SPAR_TRY(reply_to(a, body, out, &reply, err));
    if (!sp_judge_read_verdict(&a->prompt, choice_of(reply), logps)) {
        out->no_verdict++;
    }
done:
    json_decref(messages);
    json_decref(reply);
    free(body);
    return status;
}

static spar_status api_judge(void *context, const sp_judge_item *item, spar_judgement *out,
                             spar_error *err) {
    const api *a = context;
    return sp_judge_by_verdicts(&a->prompt, ask, context, item, out, err);
}

const sp_judge_kind sp_judge_api = {.name = "api",
                                    .fills = SP_JUDGE_FILLS_BOTH,
                                    .open = api_open,
                                    .judge = api_judge,
                                    .close = api_close,
                                    .describe = api_describe,
                                    .share = api_share};
