#include "net/fetch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/part.h"
#include "net/digest.h"
#include "net/hub_names.h"
#include "net/patience.h"

enum { MOST_HOPS = 10, MOST_URL = 16384, MOST_TEXT = 64 << 20, MOST_TAG = 200 };

spar_status sp_session_open(sp_session *s, const spar_pull_options *options, spar_error *err) {
    *s = (sp_session){.options = options, .begun = sp_now()};
    return sp_http_open(
        &s->http, &(sp_http_options){.stop = options->stop, .stop_context = options->stop_context},
        err);
}

void sp_session_close(sp_session *s) {
    sp_http_close(s->http);
    if (s->token) {
        memset(s->token, 0, strlen(s->token));
    }
    free(s->token);
    *s = (sp_session){0};
}

/* ---- redirects ---- */

/* Length of "scheme://host:port"; 0: no such URL. */
static size_t origin_of(const char *url) {
    const char *colon = strstr(url, "://");
    return colon ? (size_t)(colon - url) + 3 + strcspn(colon + 3, "/?#") : 0;
}

static bool same_origin(const char *a, const char *b) {
    const size_t n = origin_of(a);
    return n > 0 && n == origin_of(b) && strncmp(a, b, n) == 0;
}

/* url = where a Location header leads from url: an absolute one, or a path of the same origin. From
 * https nothing leads to http, and nothing to a file. */
static spar_status redirect(char url[MOST_URL], const char *location, const char *what,
                            spar_error *err) {
    char next[MOST_URL];
    const bool absolute = strstr(location, "://") != NULL && location[0] != '/';
    int n = -1;
    if (absolute) {
        n = snprintf(next, sizeof next, "%s", location);
    } else if (location[0] == '/' && location[1] != '/') {
        n = snprintf(next, sizeof next, "%.*s%s", (int)origin_of(url), url, location);
    }
    const bool safe = n > 0 && n < MOST_URL &&
                      (strncmp(next, "https://", 8) == 0 ||
                       (strncmp(next, "http://", 7) == 0 && strncmp(url, "http://", 7) == 0));
    if (!safe) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: the server redirects to '%.200s', which is no safe place", what,
                         location);
    }
    memcpy(url, next, (size_t)n + 1);
    return SPAR_OK;
}

/* One GET through its redirects. linked: the hash that the hub names on the way, or "". */
static spar_status get_once(sp_session *s, sp_http_request request, const char *what,
                            char linked[MOST_TAG], sp_http_reply *reply, spar_error *err) {
    spar_status status = SPAR_OK;
    char url[MOST_URL], location[MOST_URL], tag[MOST_TAG];
    if (snprintf(url, sizeof url, "%s", request.url) >= MOST_URL) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s: the URL is too long", what));
    }
    linked[0] = 0;
    request.url = url;
    for (int hop = 0; hop < MOST_HOPS; hop++) {
        request.key = s->origin && same_origin(url, s->origin) ? s->token : NULL;
        SPAR_TRY(sp_http_send(s->http, &request, reply, err));
        if (sp_http_header(reply, "X-Linked-Etag", tag, sizeof tag)) {
            snprintf(linked, MOST_TAG, "%.*s", (int)strcspn(tag + (tag[0] == '"'), "\""),
                     tag + (tag[0] == '"'));
        }
        if (reply->status < 300 || reply->status > 308 || reply->status == 304 ||
            !sp_http_header(reply, "Location", location, sizeof location)) {
            goto done;
        }
        SPAR_TRY(redirect(url, location, what, err));
    }
    SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: more than %d redirects", what, MOST_HOPS));
done:
    return status;
}

/* ---- patience ---- */

/* What to do after failures in a row; pauses alone count as time, for files take as long as they
 * take. */
typedef struct failures {
    sp_patience patience;
    double paused;
} failures;

static failures none_yet(const sp_session *s) {
    return (failures){.patience = sp_patience_of(s->options->attempts, s->options->patience)};
}

static bool is_passing(const sp_http_reply *r) {
    return r->status ? sp_patience_may_pass(r->status) : !r->lasting;
}

/* Wait before another try, or fail with what went wrong. */
static spar_status wait_again(sp_session *s, failures *f, const sp_http_reply *r, const char *what,
                              const char *kept, spar_error *err) {
    char why[256];
    double wait;
    if (r->status) {
        snprintf(why, sizeof why, "HTTP status %ld", r->status);
    } else {
        snprintf(why, sizeof why, "%s", r->error);
    }
    if (!sp_patience_again(&f->patience, f->paused, r->retry_after, &wait) || r->lasting) {
        return spar_fail(err, SPAR_IO, "%s: %s%s%s", what, why,
                         r->retry_after > 0 ? "; the server asks to wait" : "", kept);
    }
    spar_sink_log(s->options->sink, SPAR_LOG_WARN, "%s: %s; trying again in %.1f s", what, why,
                  wait);
    f->paused += wait;
    return sp_http_wait(s->http, wait, err);
}

spar_status sp_session_text(sp_session *s, const char *url, const char *what, sp_http_reply *reply,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    failures f = none_yet(s);
    char linked[MOST_TAG];
    const sp_http_request request = {.url = url, .stall = s->options->stall, .most = MOST_TEXT};
    for (;;) {
        SPAR_TRY(get_once(s, request, what, linked, reply, err));
        if (!is_passing(reply) && reply->status) {
            goto done;
        }
        SPAR_TRY(wait_again(s, &f, reply, what, "", err));
    }
done:
    return status;
}

/* ---- a file ---- */

typedef struct arrival {
    sp_session *session;
    const sp_fetch *fetch;
    sp_part part;
    sp_digest digest;
    size_t digits;                        /* of the hash; 0: none is known */
    int64_t size, from;                   /* size -1: unknown; from: first byte asked for */
    bool begun;                           /* the reply's head was looked at */
    char tag[MOST_TAG], linked[MOST_TAG]; /* of a file without a known hash: its ETag */
    spar_status status;                   /* of what went wrong while bytes came */
    spar_error error;
} arrival;

static spar_status add_to_digest(void *context, const void *bytes, size_t n, spar_error *err) {
    arrival *a = context;
    return sp_digest_add(&a->digest, bytes, n, err);
}

static spar_status start_over(arrival *a, spar_error *err) {
    spar_status status = SPAR_OK;
    a->session->total += (double)a->part.size;
    SPAR_TRY(sp_part_clear(&a->part, err));
    if (a->digits) {
        SPAR_TRY(sp_digest_begin(&a->digest, a->digits, a->size, err));
    }
done:
    return status;
}

static void report(sp_session *s) {
    char detail[64];
    const double seconds = sp_now() - s->begun;
    snprintf(detail, sizeof detail, "%.1f MB/s", seconds > 0 ? s->done / 1e6 / seconds : 0);
    spar_sink_progress(s->options->sink, &(spar_progress){.phase = "pull",
                                                          .done = s->done / 1e6,
                                                          .total = s->total / 1e6,
                                                          .unit = "MB",
                                                          .detail = detail});
}

/* A file without a known hash goes on only where it is still the same: its tag lies beside it. */
static spar_status keep_tag(arrival *a, const sp_http_reply *reply, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str path = SP_STR_INIT;
    char tag[MOST_TAG];
    sp_str_printf(&path, "%s.tag", a->fetch->part);
    SPAR_TRY(sp_str_status(&path, err));
    if (sp_http_header(reply, "ETag", tag, sizeof tag) && strncmp(tag, "W/", 2) != 0) {
        SPAR_TRY(sp_file_write(sp_str_get(&path), tag, strlen(tag), err));
    } else {
        remove(sp_str_get(&path));
    }
done:
    sp_str_release(&path);
    return status;
}

/* The first bytes of a reply: does it continue the part, and is it of the right length? */
static spar_status look_at_head(arrival *a, const sp_http_reply *reply, spar_error *err) {
    spar_status status = SPAR_OK;
    char range[128];
    long long from = a->from;
    a->begun = true;
    if (reply->status == 206 && sp_http_header(reply, "Content-Range", range, sizeof range) &&
        (sscanf(range, "bytes %lld-", &from) != 1 || from != a->from)) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH, "%s: expected bytes from %lld, found '%s'",
                           a->fetch->what, (long long)a->from, range));
    }
    if (reply->status == 200 && a->part.size > 0) { /* the server sends all of it */
        SPAR_TRY(start_over(a, err));
    }
    if (reply->length >= 0 && a->size >= 0 && reply->length != a->size - a->part.size) {
        const uint64_t found = (uint64_t)reply->length + (uint64_t)a->part.size; /* always fits */
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH, "%s: expected %lld bytes, found %llu",
                           a->fetch->what, (long long)a->size, (unsigned long long)found));
    }
    if (a->size < 0 && reply->length >= 0) {
        a->session->total = a->session->done + (double)reply->length;
    }
    if (!a->fetch->hash && reply->status == 200) {
        SPAR_TRY(keep_tag(a, reply, err));
    }
done:
    return status;
}

static bool take(void *context, const sp_http_reply *reply, const void *bytes, size_t n) {
    arrival *a = context;
    spar_status status = SPAR_OK;
    if (!a->begun) {
        SPAR_TRY(look_at_head(a, reply, &a->error));
    }
    if (a->size >= 0 && (int64_t)n > a->size - a->part.size) {
        SPAR_TRY(spar_fail(&a->error, SPAR_MISMATCH, "%s: expected %lld bytes, found more",
                           a->fetch->what, (long long)a->size));
    }
    SPAR_TRY(sp_part_append(&a->part, bytes, n, &a->error));
    if (a->digits) {
        SPAR_TRY(sp_digest_add(&a->digest, bytes, n, &a->error));
    }
    a->session->done += (double)n;
    report(a->session);
done:
    a->status = status;
    return status == SPAR_OK;
}

static void read_tag(arrival *a) {
    sp_str path = SP_STR_INIT;
    spar_error none;
    char *text = NULL;
    size_t n;
    sp_str_printf(&path, "%s.tag", a->fetch->part);
    if (!path.failed &&
        sp_file_read(sp_str_get(&path), MOST_TAG - 1, &text, &n, &none) == SPAR_OK) {
        snprintf(a->tag, sizeof a->tag, "%s", text);
    }
    free(text);
    sp_str_release(&path);
}

static spar_status begin(arrival *a, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_fetch *f = a->fetch;
    a->size = f->size;
    a->digits = f->hash ? strlen(f->hash) : 0;
    SPAR_TRY(sp_part_open(&a->part, f->part, err));
    a->session->total -= (double)a->part.size;
    if (!f->hash) {
        read_tag(a);
    }
    const bool too_long = f->size >= 0 && a->part.size > f->size;
    if (too_long || (!f->hash && !a->tag[0])) {
        SPAR_TRY(start_over(a, err));
    } else if (a->digits) {
        SPAR_TRY(sp_digest_begin(&a->digest, a->digits, a->size, err));
        SPAR_TRY(sp_part_read(&a->part, add_to_digest, a, err));
    }
done:
    return status;
}

/* Tries until the file is there, or the server refuses. */
static spar_status receive(arrival *a, sp_http_reply *reply, spar_error *err) {
    spar_status status = SPAR_OK;
    failures f = none_yet(a->session);
    while (a->part.size != a->size) {
        char kept[96];
        a->begun = false;
        a->from = a->part.size;
        const sp_http_request request = {.url = a->fetch->url,
                                         .stall = a->session->options->stall,
                                         .from = a->from,
                                         .if_range = a->tag[0] ? a->tag : NULL,
                                         .take = take,
                                         .context = a};
        SPAR_TRY(get_once(a->session, request, a->fetch->what, a->linked, reply, err));
        if (a->status != SPAR_OK) {
            SPAR_TRY(spar_fail(err, a->status, "%s", a->error.message));
        }
        if (reply->status == 416 && a->part.size > 0) {
            SPAR_TRY(start_over(a, err));
            continue;
        }
        if (reply->status && !is_passing(reply)) {
            break; /* all of it, or a refusal */
        }
        if (a->part.size > a->from) { /* it moves: patience is new */
            f = none_yet(a->session);
        }
        snprintf(kept, sizeof kept, "; %lld bytes are kept, call again to go on",
                 (long long)a->part.size);
        SPAR_TRY(wait_again(a->session, &f, reply, a->fetch->what, a->part.size ? kept : "", err));
    }
done:
    return status;
}

/* Compare with the hash that is known, or else with the one that the hub named on the way. */
static spar_status check_hash(arrival *a, spar_error *err) {
    spar_status status = SPAR_OK;
    char found[SP_DIGEST_TEXT];
    const bool named = sp_hub_is_hex(a->linked, SP_SHA256_DIGITS);
    const char *hash = a->digits ? a->fetch->hash : a->linked;
    if (!a->digits) {
        SPAR_TRY(sp_digest_begin(&a->digest, SP_SHA256_DIGITS, a->part.size, err));
        SPAR_TRY(sp_part_read(&a->part, add_to_digest, a, err));
    } else if (a->digits == SP_SHA256_DIGITS && named && strcmp(hash, a->linked) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH, "%s: expected the sha256 %s, the server names %s",
                           a->fetch->what, hash, a->linked));
    }
    SPAR_TRY(sp_digest_end(&a->digest, found, err));
    if (strcmp(found, hash) != 0) {
        SPAR_TRY(sp_part_clear(&a->part, err)); /* going on cannot mend it */
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "%s: expected the %s %s, found %s; what came is thrown away, call again",
                           a->fetch->what, strlen(hash) == SP_SHA1_DIGITS ? "git hash" : "sha256",
                           hash, found));
    }
done:
    return status;
}

static spar_status check_whole(arrival *a, spar_error *err) {
    if (a->size >= 0 && a->part.size != a->size) {
        return spar_fail(err, SPAR_MISMATCH, "%s: expected %lld bytes, found %lld", a->fetch->what,
                         (long long)a->size, (long long)a->part.size);
    }
    return a->digits || sp_hub_is_hex(a->linked, SP_SHA256_DIGITS) ? check_hash(a, err) : SPAR_OK;
}

static spar_status finish(arrival *a, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str tag = SP_STR_INIT;
    SPAR_TRY(check_whole(a, err));
    SPAR_TRY(sp_part_finish(&a->part, a->fetch->path, err));
    sp_str_printf(&tag, "%s.tag", a->fetch->part);
    remove(sp_str_get(&tag));
done:
    sp_str_release(&tag);
    return status;
}

spar_status sp_fetch_file(sp_session *s, const sp_fetch *f, sp_http_reply *refused,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    arrival a = {.session = s, .fetch = f, .part = {.fd = -1}};
    SPAR_TRY(begin(&a, err));
    SPAR_TRY(receive(&a, refused, err));
    const bool whole = refused->status == 200 || refused->status == 206 || refused->status == 0;
    if (whole) {
        SPAR_TRY(finish(&a, err));
        refused->status = 0;
    }
done:
    sp_part_close(&a.part);
    sp_digest_release(&a.digest);
    return status;
}
