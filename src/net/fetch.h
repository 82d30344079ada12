/* One file over the network, whole or not at all, going on with what an earlier call received.
 *
 * Redirects are followed by hand, so that the token goes to the origin that it belongs to and
 * nowhere else. What a network or a server does wrong for a while (no connection, a cut one, the
 * statuses of patience.h) is tried again.
 */
#ifndef SP_NET_FETCH_H
#define SP_NET_FETCH_H

#include "net/http.h"
#include "spar/hub.h"

typedef struct sp_session {
    sp_http *http;                    /* owned */
    const spar_pull_options *options; /* borrowed */
    char *token;                      /* owned; NULL: none */
    const char *origin;               /* borrowed: a URL of the origin that gets the token */
    double done, total;               /* bytes received, and to receive in all; for progress */
    double begun;                     /* seconds */
} sp_session;

spar_status sp_session_open(sp_session *s, const spar_pull_options *options, spar_error *err);
void sp_session_close(sp_session *s);

/* GET a text of at most 64 MiB. what: named in messages. Another status than 200 is in *reply. */
spar_status sp_session_text(sp_session *s, const char *url, const char *what, sp_http_reply *reply,
                            spar_error *err);

typedef struct sp_fetch {
    const char *url, *what; /* borrowed; what: named in messages */
    const char *part;       /* borrowed: where it grows */
    const char *path;       /* borrowed: the final name */
    int64_t size;           /* -1: unknown */
    const char *hash;       /* borrowed: SHA-256 or git's SHA-1 in hex; NULL: unknown */
} sp_fetch;

/* *refused: the reply where the server gave another status than 200 or 206, whose message is the
 * caller's; the function is then OK. Zero it before, release it after. MISMATCH for a wrong hash or
 * length. */
spar_status sp_fetch_file(sp_session *s, const sp_fetch *f, sp_http_reply *refused,
                          spar_error *err);

#endif
