#include "net/http.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/mem.h"

/* A request under way, or the room for one. */
typedef struct exchange {
    sp_http *http;
    void *curl;                 /* owned: a CURL */
    struct curl_slist *headers; /* owned: the request's */
    sp_http_request request;    /* what it points to is the caller's */
    sp_http_reply *reply;       /* borrowed; NULL: none is under way */
    bool too_much;              /* a body in memory beyond its limit */
} exchange;

struct sp_http {
    sp_http_options options;
    bool begun;      /* libcurl is set up */
    exchange single; /* of sp_http_send */
    void *multi;     /* owned: a CURLM; NULL without slots */
    exchange *slots; /* owned, [options.slots] */
};

static bool asked_to_stop(const sp_http *http) {
    return http->options.stop && http->options.stop(http->options.stop_context);
}

spar_status sp_http_wait(const sp_http *http, double seconds, spar_error *err) {
    static const double step = 0.05;
    for (double left = seconds; left > 0; left -= step) {
        const double now = fmin(left, step);
        nanosleep(&(struct timespec){.tv_nsec = (long)(now * 1e9)}, NULL);
        if (asked_to_stop(http)) {
            return spar_fail(err, SPAR_INTERRUPTED, "stopped while waiting for the server");
        }
    }
    return SPAR_OK;
}

spar_status sp_http_check_url(const char *url, const char *what, spar_error *err) {
    if (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) {
        return spar_fail(err, SPAR_INVALID,
                         "%s: expected a URL that begins with http:// or https://, found '%.100s'",
                         what, url);
    }
    return SPAR_OK;
}

spar_status sp_http_check_key(const char *key, const char *what, spar_error *err) {
    if (key && strpbrk(key, "\r\n")) {
        return spar_fail(err, SPAR_INVALID, "%s: expected one line, found more", what);
    }
    return SPAR_OK;
}

void sp_http_reply_release(sp_http_reply *reply) {
    sp_str_release(&reply->body);
    sp_str_release(&reply->headers);
}

bool sp_http_header(const sp_http_reply *reply, const char *name, char *out, size_t n) {
    const size_t length = strlen(name);
    for (const char *line = sp_str_get(&reply->headers); *line;) {
        const size_t end = strcspn(line, "\n");
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            const char *from = line + length + 1 + strspn(line + length + 1, " \t");
            snprintf(out, n, "%.*s", (int)strcspn(from, "\r\n"), from);
            return true;
        }
        line += end + (line[end] != 0);
    }
    snprintf(out, n, "%s", "");
    return false;
}

#ifdef SPAR_HAVE_CURL
#include <curl/curl.h>

static void read_head(exchange *e) {
    curl_off_t length = -1;
    curl_easy_getinfo(e->curl, CURLINFO_RESPONSE_CODE, &e->reply->status);
    curl_easy_getinfo(e->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    e->reply->length = length;
    if (e->reply->status == 0) { /* a file */
        e->reply->status = e->request.from > 0 ? 206 : 200;
    }
}

static size_t take_bytes(char *bytes, size_t size, size_t n, void *context) {
    exchange *e = context;
    const size_t most = e->request.most ? e->request.most : SP_HTTP_MOST_BYTES;
    sp_str *body = &e->reply->body;
    read_head(e);
    if (e->request.take && (e->reply->status == 200 || e->reply->status == 206)) {
        return e->request.take(e->request.context, e->reply, bytes, size * n) ? size * n : 0;
    }
    if (size * n > most - body->len) {
        e->too_much = true;
        return 0; /* ends the transfer */
    }
    sp_str_append(body, bytes, size * n);
    return size * n;
}

/* A status line begins anew: what came before it were the headers of an interim reply. */
static size_t take_header(char *bytes, size_t size, size_t n, void *context) {
    sp_str *headers = &((exchange *)context)->reply->headers;
    if (size * n > 5 && strncmp(bytes, "HTTP/", 5) == 0) {
        sp_str_truncate(headers, 0);
    } else if (size * n <= SP_HTTP_MOST_BYTES - headers->len) {
        sp_str_append(headers, bytes, size * n);
    }
    return size * n;
}

static int watch(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)a, (void)b, (void)c, (void)d;
    return asked_to_stop(context);
}

static bool add_line(struct curl_slist **list, const char *line) {
    struct curl_slist *longer = curl_slist_append(*list, line);
    *list = longer ? longer : *list;
    return longer != NULL;
}

/* The header of the key is made in memory of its own, cleared once curl has a copy. */
static bool add_key(struct curl_slist **list, const char *key) {
    sp_str line = SP_STR_INIT;
    if (!key) {
        return true;
    }
    sp_str_printf(&line, "Authorization: Bearer %s", key);
    const bool added = !line.failed && add_line(list, sp_str_get(&line));
    if (line.data) {
        memset(line.data, 0, line.len);
    }
    sp_str_release(&line);
    return added;
}

static bool add_headers(struct curl_slist **list, const sp_http_request *r) {
    char line[512];
    if (r->if_range && r->from > 0) {
        snprintf(line, sizeof line, "If-Range: %s", r->if_range);
        if (!add_line(list, line)) {
            return false;
        }
    }
    return (!r->body || add_line(list, "Content-Type: application/json")) && add_key(list, r->key);
}

static bool set_limits(CURL *c, const sp_http_request *r) {
    char range[32];
    snprintf(range, sizeof range, "%lld-", (long long)r->from);
    return curl_easy_setopt(c, CURLOPT_RANGE, r->from > 0 ? range : NULL) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, lrint(r->seconds * 1000)) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, r->stall > 0 ? 1L : 0L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, lrint(ceil(r->stall))) == CURLE_OK;
}

static bool set_up(exchange *e) {
    CURL *c = e->curl;
    const sp_http_request *r = &e->request;
    curl_easy_reset(c); /* the connections stay */
    return add_headers(&e->headers, r) && set_limits(c, r) &&
           curl_easy_setopt(c, CURLOPT_URL, r->url) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_HTTPHEADER, e->headers) == CURLE_OK &&
           (!r->body || curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->body) == CURLE_OK) &&
           curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_USERAGENT, "spar/" SPAR_VERSION_TEXT) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_bytes) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_WRITEDATA, e) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take_header) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_HEADERDATA, e) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, watch) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_XFERINFODATA, e->http) == CURLE_OK;
}

/* Room for requests that go out together. */
static spar_status make_slots(sp_http *http, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    const int n = http->options.slots;
    if (n == 0) {
        return SPAR_OK;
    }
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)n, sizeof *http->slots, err));
    http->slots = memory;
    bool made = (http->multi = curl_multi_init()) != NULL;
    for (int i = 0; made && i < n; i++) {
        http->slots[i].http = http;
        made = (http->slots[i].curl = curl_easy_init()) != NULL;
    }
    if (!made) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for %d connections", n));
    }
done:
    return status;
}

spar_status sp_http_open(sp_http **out, const sp_http_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    sp_http *http = NULL;
    *out = NULL;
    assert(options->slots >= 0 && options->slots <= SP_HTTP_MOST_SLOTS);
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *http, err));
    http = memory;
    http->options = *options;
    http->begun = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK; /* libcurl counts the calls */
    http->single = (exchange){.http = http, .curl = http->begun ? curl_easy_init() : NULL};
    if (!http->single.curl) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a connection"));
    }
    SPAR_TRY(make_slots(http, err));
    *out = http;
    http = NULL;
done:
    sp_http_close(http);
    return status;
}

void sp_http_close(sp_http *http) {
    if (!http) {
        return;
    }
    for (int i = 0; http->slots && i < http->options.slots; i++) {
        sp_http_drop(http, i);
        curl_easy_cleanup(http->slots[i].curl);
    }
    curl_multi_cleanup(http->multi);
    curl_easy_cleanup(http->single.curl);
    if (http->begun) {
        curl_global_cleanup();
    }
    free(http->slots);
    free(http);
}

/* What no later try mends: names, certificates, files. */
static bool is_lasting(CURLcode code) {
    static const CURLcode codes[] = {CURLE_UNSUPPORTED_PROTOCOL,     CURLE_URL_MALFORMAT,
                                     CURLE_COULDNT_RESOLVE_HOST,     CURLE_COULDNT_RESOLVE_PROXY,
                                     CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE,
                                     CURLE_FILE_COULDNT_READ_FILE};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (codes[i] == code) {
            return true;
        }
    }
    return false;
}

static spar_status read_result(exchange *e, CURLcode code, spar_error *err) {
    sp_http_reply *out = e->reply;
    curl_off_t wait = 0;
    if (code == CURLE_ABORTED_BY_CALLBACK) {
        return spar_fail(err, SPAR_INTERRUPTED, "stopped while waiting for the server");
    }
    if (code == CURLE_OUT_OF_MEMORY || out->body.failed || out->headers.failed) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for a reply");
    }
    if (code != CURLE_OK) {
        out->status = 0;
        out->lasting = is_lasting(code);
        if (e->too_much) {
            snprintf(out->error, sizeof out->error, "a reply of more than %zu MiB",
                     (e->request.most ? e->request.most : SP_HTTP_MOST_BYTES) >> 20);
        } else {
            snprintf(out->error, sizeof out->error, "%s", curl_easy_strerror(code));
        }
        return SPAR_OK;
    }
    read_head(e);
    curl_easy_getinfo(e->curl, CURLINFO_RETRY_AFTER, &wait);
    out->retry_after = (double)wait;
    return SPAR_OK;
}

/* Make an exchange ready for a request. */
static spar_status begin(exchange *e, const sp_http_request *request, sp_http_reply *out,
                         spar_error *err) {
    e->request = *request;
    e->reply = out;
    e->too_much = false;
    sp_http_reply_release(out);
    *out = (sp_http_reply){.length = -1};
    return set_up(e) ? SPAR_OK : spar_fail(err, SPAR_NO_MEMORY, "out of memory for a request");
}

static void end(exchange *e) {
    curl_easy_setopt(e->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(e->headers);
    e->headers = NULL;
    e->reply = NULL;
}

spar_status sp_http_send(sp_http *http, const sp_http_request *request, sp_http_reply *out,
                         spar_error *err) {
    exchange *e = &http->single;
    spar_status status = begin(e, request, out, err);
    if (status == SPAR_OK) {
        status = read_result(e, curl_easy_perform(e->curl), err);
    }
    end(e);
    return status;
}

/* ---- several at a time ---- */

spar_status sp_http_start(sp_http *http, int slot, const sp_http_request *request,
                          sp_http_reply *out, spar_error *err) {
    exchange *e = &http->slots[slot];
    assert(!e->reply);
    spar_status status = begin(e, request, out, err);
    if (status == SPAR_OK && curl_multi_add_handle(http->multi, e->curl) != CURLM_OK) {
        status = spar_fail(err, SPAR_NO_MEMORY, "out of memory for a request");
    }
    if (status != SPAR_OK) {
        end(e);
    }
    return status;
}

void sp_http_drop(sp_http *http, int slot) {
    exchange *e = &http->slots[slot];
    if (e->reply) {
        curl_multi_remove_handle(http->multi, e->curl);
        end(e);
    }
}

/* What has ended since the last look: *slot, or -1. */
static spar_status next_ended(sp_http *http, int *slot, spar_error *err) {
    int left;
    const CURLMsg *message = curl_multi_info_read(http->multi, &left);
    *slot = -1;
    if (!message || message->msg != CURLMSG_DONE) {
        return SPAR_OK;
    }
    const CURLcode code = message->data.result;
    while (http->slots[++*slot].curl != message->easy_handle) {
    }
    const spar_status status = read_result(&http->slots[*slot], code, err);
    sp_http_drop(http, *slot);
    return status;
}

spar_status sp_http_next(sp_http *http, double seconds, int *slot, spar_error *err) {
    static const double step = 0.05; /* between two looks at stop */
    spar_status status = SPAR_OK;
    for (double left = seconds;; left -= step) {
        int running;
        if (curl_multi_perform(http->multi, &running) != CURLM_OK) {
            SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for requests"));
        }
        SPAR_TRY(next_ended(http, slot, err));
        if (*slot >= 0 || left <= 0) {
            break;
        }
        if (asked_to_stop(http)) {
            SPAR_TRY(spar_fail(err, SPAR_INTERRUPTED, "stopped while waiting for the server"));
        }
        curl_multi_poll(http->multi, NULL, 0, (int)ceil(fmin(left, step) * 1000), NULL);
    }
done:
    return status;
}

#else

spar_status sp_http_open(sp_http **out, const sp_http_options *options, spar_error *err) {
    (void)options;
    *out = NULL;
    return spar_fail(err, SPAR_UNSUPPORTED, "this spar was built without libcurl (SPAR_CURL)");
}

void sp_http_close(sp_http *http) {
    free(http);
}

spar_status sp_http_send(sp_http *http, const sp_http_request *request, sp_http_reply *out,
                         spar_error *err) {
    (void)http, (void)request, (void)out;
    return spar_fail(err, SPAR_UNSUPPORTED, "this spar was built without libcurl (SPAR_CURL)");
}

spar_status sp_http_start(sp_http *http, int slot, const sp_http_request *request,
                          sp_http_reply *out, spar_error *err) {
    (void)slot;
    return sp_http_send(http, request, out, err);
}

spar_status sp_http_next(sp_http *http, double seconds, int *slot, spar_error *err) {
    (void)seconds, (void)slot;
    return sp_http_send(http, NULL, NULL, err);
}

void sp_http_drop(sp_http *http, int slot) {
    (void)http, (void)slot;
}

#endif
