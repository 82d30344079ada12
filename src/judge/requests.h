/* Questions to an endpoint of OpenAI's chat protocol: several at a time, each answered once.
 *
 * A request is the JSON text of its body. Every whole reply is kept by its request, before it is
 * used, so that nothing is paid for twice. What a network or a server does wrong for a while (no
 * connection, a time-out, the statuses of net/patience.h, a reply that is no chat completion) is
 * tried again within bounds of count and time; the other requests go on meanwhile. What is known of
 * a request does not depend on the order in which replies come.
 *
 * Life cycle: open -> (keep) -> want ... -> send -> take ... -> (forget) -> close. One thread at a
 * time.
 */
#ifndef SP_JUDGE_REQUESTS_H
#define SP_JUDGE_REQUESTS_H

#include <jansson.h>

#include "io/rundb.h"
#include "net/http.h"
#include "spar/judge.h"

typedef struct sp_requests sp_requests;

typedef struct sp_requests_options {
    const char *url;             /* borrowed until open has returned */
    const char *key;             /* borrowed until close; NULL: none is sent */
    spar_endpoint endpoint;      /* its bounds; nothing that it points to is read */
    bool (*stop)(void *context); /* asked while waiting; true ends it; may be NULL */
    void *stop_context;
    double hear_out; /* seconds that replies under way may still take behind a stop */
} sp_requests_options;

/* INVALID for a URL, key or concurrency that cannot be. */
spar_status sp_requests_open(sp_requests **out, const sp_requests_options *options,
                             spar_error *err);
void sp_requests_close(sp_requests *r); /* NULL is fine */

/* Keep replies in a database, borrowed; NULL: in memory only. */
void sp_requests_keep(sp_requests *r, sp_rundb *db);

/* Let the next send ask for the reply to a request, unless it is known. body is copied. Where the
 * request has failed before, its failure. */
spar_status sp_requests_want(sp_requests *r, const char *body, spar_error *err);

/* Send what is wanted and not known, at most `concurrency` at a time. The first request that fails
 * for good ends it: no more is sent, what is under way is heard out, and what was answered stays.
 * IO, where attempts or time are spent: the endpoint is gone, and all that had no answer has failed
 * with it. INVALID, where the server refused: that request has failed, and the others that had no
 * answer may be wanted again. INTERRUPTED where stop said so: what is under way is heard out then
 * too, for hear_out seconds. */
spar_status sp_requests_send(sp_requests *r, spar_error *err);

/* The reply to a request that was wanted and sent, as a new reference; fresh: it was paid for and
 * not taken before. The request's own failure where it has one. */
spar_status sp_requests_take(sp_requests *r, const char *body, json_t **reply, bool *fresh,
                             spar_error *err);
/* Let go of all that is known but for what the database keeps. */
void sp_requests_forget(sp_requests *r);

/* The message of a reply; NULL: it is none. Borrowed. */
const json_t *sp_requests_choice(const json_t *reply);

#endif
