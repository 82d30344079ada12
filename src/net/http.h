/* Requests over HTTP, HTTPS and file URLs, by libcurl; without it (CMake's SPAR_CURL) they are
 * UNSUPPORTED.
 *
 * A request is one exchange: nothing is followed and nothing else is sent, no redirect, no cookie,
 * no telemetry. The key goes into the Authorization header of its own request and nowhere else.
 * Connections are kept from one request to the next.
 */
#ifndef SP_NET_HTTP_H
#define SP_NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "spar/status.h"

typedef struct sp_http sp_http;

typedef struct sp_http_options {
    bool (*stop)(void *context); /* asked while waiting; true ends it; may be NULL */
    void *stop_context;
    int slots; /* requests that sp_http_start may have under way, 0 to SP_HTTP_MOST_SLOTS */
} sp_http_options;

/* What came of a request. Zero it before the first; one may serve many requests. */
typedef struct sp_http_reply {
    long status;        /* 0: no whole reply; error says why */
    double retry_after; /* seconds that the server asks to wait; 0: does not say */
    int64_t length;     /* bytes of this body as announced; -1: unknown */
    bool lasting;       /* with status 0: another try would go the same way */
    sp_str body;        /* what take did not get */
    sp_str headers;     /* lines "Name: value\r\n" of the last status line */
    char error[160];
} sp_http_reply;

/* Of a body in memory, where a request says nothing; and of slots. */
enum { SP_HTTP_MOST_BYTES = 4 << 20, SP_HTTP_MOST_SLOTS = 256 };

typedef struct sp_http_request {
    const char *url;      /* borrowed */
    const char *key;      /* borrowed, one line; NULL: none is sent */
    const char *body;     /* borrowed: JSON to POST; NULL: GET */
    double seconds;       /* that the request may take; 0: no limit */
    double stall;         /* that may pass without a byte; 0: no limit */
    int64_t from;         /* first byte that is wanted (Range); 0: all */
    const char *if_range; /* borrowed: a part only of the file with this tag; NULL: no matter */
    size_t most;          /* bytes of the body in memory; 0: SP_HTTP_MOST_BYTES */
    /* Gets the body of a reply of status 200 or 206 piece by piece, in place of reply->body; false
     * ends the request. NULL: all goes into reply->body. */
    bool (*take)(void *context, const sp_http_reply *reply, const void *bytes, size_t n);
    void *context;
} sp_http_request;

spar_status sp_http_open(sp_http **out, const sp_http_options *options, spar_error *err);
void sp_http_close(sp_http *http); /* NULL is fine */

/* Whether a URL begins with http:// or https://; whether a key is one line. what: named in the
 * message. */
spar_status sp_http_check_url(const char *url, const char *what, spar_error *err);
spar_status sp_http_check_key(const char *key, const char *what, spar_error *err);

/* INTERRUPTED where stop said so, NO_MEMORY; all that a network or a server may do is in *out. A
 * file URL gives status 200, or 206 for a part. */
spar_status sp_http_send(sp_http *http, const sp_http_request *request, sp_http_reply *out,
                         spar_error *err);
void sp_http_reply_release(sp_http_reply *reply);

/* The same, several at a time. Start a request in a slot that has none under way; what it points to
 * and *out are borrowed until it has ended or is dropped. */
spar_status sp_http_start(sp_http *http, int slot, const sp_http_request *request,
                          sp_http_reply *out, spar_error *err);
/* Wait up to so many seconds for one of them to end: *slot is its, or -1 where none has. */
spar_status sp_http_next(sp_http *http, double seconds, int *slot, spar_error *err);
/* Give up what a slot has under way, if anything. */
void sp_http_drop(sp_http *http, int slot);

/* The value of a header of the reply, cut to n bytes; false, and "", where there is none. */
bool sp_http_header(const sp_http_reply *reply, const char *name, char *out, size_t n);

/* Wait, asking stop: INTERRUPTED where it says so. */
spar_status sp_http_wait(const sp_http *http, double seconds, spar_error *err);

#endif
