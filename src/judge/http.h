/* One POST of JSON over HTTP or HTTPS, by libcurl; without it (CMake's SPAR_CURL) it is
 * UNSUPPORTED.
 *
 * Nothing is followed and nothing else is sent: no redirect, no cookie, no telemetry. The key goes
 * into the Authorization header and nowhere else.
 */
#ifndef SP_JUDGE_HTTP_H
#define SP_JUDGE_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "spar/status.h"

typedef struct sp_http sp_http;

typedef struct sp_http_options {
    const char *url, *key;       /* borrowed; key NULL: none is sent */
    double seconds;              /* that one request may take */
    bool (*stop)(void *context); /* asked while waiting; true ends it; may be NULL */
    void *stop_context;
} sp_http_options;

/* What came of a request. */
typedef struct sp_http_reply {
    long status;        /* 0: no whole reply; error says why */
    double retry_after; /* seconds that the server asks to wait; 0: does not say */
    sp_str body;        /* release by sp_str_release */
    char error[160];
} sp_http_reply;

enum { SP_HTTP_MOST_BYTES = 4 << 20 }; /* of a reply */

spar_status sp_http_open(sp_http **out, const sp_http_options *options, spar_error *err);
void sp_http_close(sp_http *http); /* NULL is fine */

/* INTERRUPTED where stop said so, NO_MEMORY; all that a network or a server may do is in *out. */
spar_status sp_http_post(sp_http *http, const char *body, sp_http_reply *out, spar_error *err);

/* Wait, asking stop: INTERRUPTED where it says so. */
spar_status sp_http_wait(const sp_http *http, double seconds, spar_error *err);

#endif
