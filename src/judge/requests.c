#include "judge/requests.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "net/patience.h"

static const double longest_wait = 1e9, stop_step = 0.05; /* between two looks at stop */

/* A request on its way, in a slot of its own until it is answered or has failed. */
typedef struct flight {
    char *body; /* owned; NULL: the slot is free */
    sp_http_reply reply;
    sp_patience patience;
    double begun, due; /* due: when the next attempt may begin */
    bool sent;         /* an attempt is under way */
} flight;

struct sp_requests {
    sp_http *http;   /* owned */
    char *url;       /* owned */
    const char *key; /* borrowed */
    sp_rundb *db;    /* borrowed; NULL: none */
    spar_endpoint endpoint;
    bool (*stop)(void *context);
    void *stop_context;
    double hear_out;
    double next; /* when the rate lets another attempt begin */
    int n_slots, n_flights;
    flight *flights; /* owned, [n_slots] */
    /* By body, owned: {"reply", "fresh"} where there is an answer, {"code", "message"} behind a
     * failure, {} in the queue. */
    json_t *known;
    json_t *queue; /* owned: bodies that are to be sent, in the order in which they were wanted */
    size_t queued; /* of them that had a slot */
};

static spar_status check_options(const sp_requests_options *o, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_http_check_url(o->url, "endpoint", err));
    SPAR_TRY(sp_http_check_key(o->key, "the endpoint's key", err));
    if (o->endpoint.concurrency > SP_HTTP_MOST_SLOTS) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "endpoint: concurrency: expected 1 to %d, found %lld",
                           SP_HTTP_MOST_SLOTS, (long long)o->endpoint.concurrency));
    }
done:
    return status;
}

spar_status sp_requests_open(sp_requests **out, const sp_requests_options *o, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    sp_requests *r = NULL;
    *out = NULL;
    SPAR_TRY(check_options(o, err));
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *r, err));
    r = memory;
    r->endpoint = o->endpoint;
    r->stop = o->stop;
    r->stop_context = o->stop_context;
    r->hear_out = o->hear_out;
    r->key = o->key;
    r->n_slots = o->endpoint.concurrency < 1 ? 1 : (int)o->endpoint.concurrency;
    SPAR_TRY(sp_mem_strdup(&r->url, o->url, strlen(o->url), err));
    /* stop is asked here: there it would end the requests that are under way */
    SPAR_TRY(sp_http_open(&r->http, &(sp_http_options){.slots = r->n_slots}, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)r->n_slots, sizeof *r->flights, err));
    r->flights = memory;
    r->known = json_object();
    r->queue = json_array();
    if (!r->known || !r->queue) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for requests"));
    }
    *out = r;
    r = NULL;
done:
    sp_requests_close(r);
    return status;
}

void sp_requests_keep(sp_requests *r, sp_rundb *db) {
    r->db = db;
}

const json_t *sp_requests_choice(const json_t *reply) {
    const json_t *choice = json_array_get(json_object_get(reply, "choices"), 0);
    const json_t *message = json_object_get(choice, "message");
    return json_is_string(json_object_get(message, "content")) ? choice : NULL;
}

/* ---- what is known ---- */

static spar_status key_of(const sp_requests *r, const char *body, sp_str *key, spar_error *err) {
    sp_str_printf(key, "%s\n%s", r->url, body);
    return sp_str_status(key, err);
}

/* The reply that the database keeps, a new reference; *out NULL: none. */
static spar_status read_kept(const sp_requests *r, const char *body, json_t **out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str key = SP_STR_INIT;
    char *kept = NULL;
    *out = NULL;
    if (!r->db) {
        return SPAR_OK;
    }
    SPAR_TRY(key_of(r, body, &key, err));
    SPAR_TRY(sp_rundb_get_reply(r->db, sp_str_get(&key), &kept, err));
    if (kept) {
        SPAR_TRY(sp_json_parse(out, kept, strlen(kept), "a kept reply", err));
    }
done:
    free(kept);
    sp_str_release(&key);
    return status;
}

static spar_status keep_reply(const sp_requests *r, const char *body, const json_t *reply,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str key = SP_STR_INIT;
    char *text = NULL;
    if (!r->db) {
        return SPAR_OK;
    }
    text = json_dumps(reply, JSON_COMPACT);
    if (!text) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a reply"));
    }
    SPAR_TRY(key_of(r, body, &key, err));
    SPAR_TRY(sp_rundb_put_reply(r->db, sp_str_get(&key), text, err));
done:
    free(text);
    sp_str_release(&key);
    return status;
}

static bool is_settled(const json_t *entry) {
    return json_object_get(entry, "reply") || json_object_get(entry, "code");
}

/* The failure of a request, if it has one. */
static spar_status failure_of(const json_t *entry, spar_error *err) {
    const json_t *code = json_object_get(entry, "code");
    return code ? spar_fail(err, (spar_status)json_integer_value(code), "%s",
                            json_string_value(json_object_get(entry, "message")))
                : SPAR_OK;
}

spar_status sp_requests_want(sp_requests *r, const char *body, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *reply;
    const json_t *entry = json_object_get(r->known, body);
    if (entry) {
        return failure_of(entry, err);
    }
    SPAR_TRY(read_kept(r, body, &reply, err));
    const bool queue = !reply;
    if (json_object_set_new(r->known, body, json_pack("{s:o*}", "reply", reply)) != 0 ||
        (queue && json_array_append_new(r->queue, json_string(body)) != 0)) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a request"));
    }
done:
    return status;
}

spar_status sp_requests_take(sp_requests *r, const char *body, json_t **reply, bool *fresh,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *entry = json_object_get(r->known, body);
    *reply = NULL;
    *fresh = json_is_true(json_object_get(entry, "fresh"));
    SPAR_TRY(failure_of(entry, err));
    if (!is_settled(entry)) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s: a request was not sent", r->url));
    }
    *reply = json_incref(json_object_get(entry, "reply"));
    json_object_del(entry, "fresh");
done:
    return status;
}

void sp_requests_forget(sp_requests *r) {
    json_object_clear(r->known);
}

/* ---- what comes of an attempt ---- */

static void leave_slot(sp_requests *r, flight *f) {
    free(f->body);
    sp_http_reply_release(&f->reply);
    *f = (flight){0};
    r->n_flights--;
}

static spar_status note(json_t *entry, const char *key, json_t *value, spar_error *err) {
    return json_object_set_new(entry, key, value) == 0
               ? SPAR_OK
               : spar_fail(err, SPAR_NO_MEMORY, "out of memory for a reply");
}

static spar_status note_failure(json_t *entry, const spar_error *why, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(note(entry, "code", json_integer(why->code), err));
    SPAR_TRY(note(entry, "message", json_string(why->message), err));
done:
    return status;
}

/* A chat completion: kept, known, and the slot is free. */
static spar_status answer(sp_requests *r, flight *f, json_t *reply, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *entry = json_object_get(r->known, f->body);
    SPAR_TRY(keep_reply(r, f->body, reply, err));
    SPAR_TRY(note(entry, "reply", json_incref(reply), err));
    SPAR_TRY(note(entry, "fresh", json_true(), err));
    leave_slot(r, f);
done:
    return status;
}

static void say_why(const sp_http_reply *reply, char *why, size_t n) {
    json_t *body = json_loadb(sp_str_get(&reply->body), reply->body.len, 0, NULL);
    const json_t *error = json_object_get(body, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    message = message ? message : json_string_value(error);
    if (reply->status == 0) {
        snprintf(why, n, "%s", reply->error);
    } else if (reply->status == 200) {
        snprintf(why, n, "a reply that is no chat completion");
    } else {
        snprintf(why, n, "HTTP status %ld%s%.150s", reply->status, message ? ": " : "",
                 message ? message : "");
    }
    json_decref(body);
}

/* Another attempt later, or the request's failure for good. */
static spar_status try_again(sp_requests *r, flight *f, spar_error *err) {
    const long code = f->reply.status;
    const bool passing = code == 0 || code == 200 || sp_patience_may_pass(code);
    const double spent = sp_now() - f->begun;
    double wait;
    if (sp_patience_again(&f->patience, spent, f->reply.retry_after, &wait) && passing) {
        f->due = sp_now() + wait;
        return SPAR_OK;
    }
    char why[256];
    spar_error failure, worse;
    say_why(&f->reply, why, sizeof why);
    spar_fail(&failure, passing ? SPAR_IO : SPAR_INVALID, "%s: %s (%lld attempts in %.0f seconds)",
              r->url, why, (long long)f->patience.attempts, spent);
    const spar_status noted = note_failure(json_object_get(r->known, f->body), &failure, &worse);
    leave_slot(r, f);
    *err = noted == SPAR_OK ? failure : worse;
    return err->code;
}

static spar_status settle(sp_requests *r, flight *f, spar_error *err) {
    const sp_str *text = &f->reply.body;
    json_t *reply =
        f->reply.status == 200 ? json_loadb(sp_str_get(text), text->len, 0, NULL) : NULL;
    f->sent = false;
    const spar_status status =
        sp_requests_choice(reply) ? answer(r, f, reply, err) : try_again(r, f, err);
    json_decref(reply);
    return status;
}

/* ---- sending ---- */

/* The next of the queue goes into a slot that is free. */
static spar_status board(sp_requests *r, flight *f, spar_error *err) {
    const json_t *item = json_array_get(r->queue, r->queued);
    if (f->body || !item) {
        return SPAR_OK;
    }
    const spar_status status =
        sp_mem_strdup(&f->body, json_string_value(item), json_string_length(item), err);
    if (status == SPAR_OK) {
        f->patience = sp_patience_of(r->endpoint.attempts, r->endpoint.patience);
        f->begun = sp_now();
        r->queued++;
        r->n_flights++;
    }
    return status;
}

static spar_status attempt(sp_requests *r, int slot, spar_error *err) {
    flight *f = &r->flights[slot];
    const sp_http_request request = {
        .url = r->url, .key = r->key, .body = f->body, .seconds = r->endpoint.request_limit};
    f->sent = true;
    return sp_http_start(r->http, slot, &request, &f->reply, err);
}

/* Send every request whose time has come. *wait: seconds until the next one's comes. */
static spar_status send_due(sp_requests *r, double *wait, spar_error *err) {
    spar_status status = SPAR_OK;
    const double interval = r->endpoint.rate > 0 ? 60 / r->endpoint.rate : 0;
    *wait = longest_wait;
    for (int i = 0; i < r->n_slots; i++) {
        flight *f = &r->flights[i];
        SPAR_TRY(board(r, f, err));
        if (!f->body || f->sent) {
            continue;
        }
        const double t = sp_now(), due = fmax(f->due, r->next);
        if (due <= t) {
            SPAR_TRY(attempt(r, i, err));
            r->next = t + interval;
        } else {
            *wait = fmin(*wait, due - t);
        }
    }
done:
    return status;
}

/* Requests that wait for another attempt are given up. */
static void leave_waiting(sp_requests *r) {
    for (int i = 0; i < r->n_slots; i++) {
        if (r->flights[i].body && !r->flights[i].sent) {
            leave_slot(r, &r->flights[i]);
        }
    }
}

static void leave_all(sp_requests *r) {
    for (int i = 0; r->flights && i < r->n_slots; i++) {
        if (r->flights[i].body) {
            sp_http_drop(r->http, i);
            leave_slot(r, &r->flights[i]);
        }
    }
}

void sp_requests_close(sp_requests *r) {
    if (!r) {
        return;
    }
    leave_all(r);
    sp_http_close(r->http);
    free(r->flights);
    free(r->url);
    json_decref(r->known);
    json_decref(r->queue);
    free(r);
}

/* Empty it. What had no answer fails with an endpoint that is gone, or else may be wanted again. */
static spar_status clear_queue(sp_requests *r, const spar_error *why, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t i;
    json_t *item;
    json_array_foreach(r->queue, i, item) {
        const char *body = json_string_value(item);
        json_t *entry = json_object_get(r->known, body);
        if (is_settled(entry)) {
            continue;
        }
        if (why->code == SPAR_IO) {
            SPAR_TRY(note_failure(entry, why, err));
        } else {
            json_object_del(r->known, body);
        }
    }
done:
    json_array_clear(r->queue);
    r->queued = 0;
    return status;
}

/* Until nothing is under way or in the queue. failed: the first request that failed for good, or
 * that it was stopped; behind it nothing is sent any more. */
static spar_status send_all(sp_requests *r, spar_error *failed, spar_error *err) {
    spar_status status = SPAR_OK;
    double until = longest_wait; /* when what is still under way is given up */
    failed->code = SPAR_OK;
    for (;;) {
        double wait = longest_wait;
        int slot;
        if (until == longest_wait && r->stop && r->stop(r->stop_context)) {
            until = sp_now() + r->hear_out;
            spar_fail(failed, SPAR_INTERRUPTED, "stopped while waiting for the server");
        }
        if (failed->code == SPAR_OK) {
            SPAR_TRY(send_due(r, &wait, err));
        } else {
            leave_waiting(r);
        }
        if (r->n_flights == 0 || sp_now() >= until) {
            break;
        }
        SPAR_TRY(sp_http_next(r->http, fmin(wait, stop_step), &slot, err));
        spar_error why;
        if (slot >= 0 && settle(r, &r->flights[slot], &why) != SPAR_OK && failed->code == SPAR_OK) {
            *failed = why;
        }
    }
done:
    return status;
}

spar_status sp_requests_send(sp_requests *r, spar_error *err) {
    spar_error failed;
    spar_status status = send_all(r, &failed, err);
    if (status == SPAR_OK && failed.code != SPAR_OK) {
        status = spar_fail(err, failed.code, "%s", failed.message);
    }
    leave_all(r);
    spar_error worse;
    if (clear_queue(r, &failed, &worse) != SPAR_OK && status == SPAR_OK) {
        status = spar_fail(err, worse.code, "%s", worse.message);
    }
    return status;
}
