#include "judge/http.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

struct sp_http {
    sp_http_options options;
    void *curl;    /* owned: a CURL */
    void *headers; /* owned: a curl_slist */
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
            return spar_fail(err, SPAR_INTERRUPTED, "stopped while waiting for the endpoint");
        }
    }
    return SPAR_OK;
}

#ifdef SPAR_HAVE_CURL
#include <curl/curl.h>

static size_t take_bytes(char *bytes, size_t size, size_t n, void *context) {
    sp_http_reply *reply = context;
    if (size * n > SP_HTTP_MOST_BYTES - reply->body.len) {
        return 0; /* ends the transfer */
    }
    sp_str_append(&reply->body, bytes, size * n);
    return size * n;
}

static int watch(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)a, (void)b, (void)c, (void)d;
    return asked_to_stop(context);
}

/* The header of the key is made in memory of its own, cleared once curl has a copy. */
static bool add_key(sp_http *http) {
    const char *key = http->options.key;
    sp_str line = SP_STR_INIT;
    if (!key) {
        return true;
    }
    sp_str_printf(&line, "Authorization: Bearer %s", key);
    void *list = line.failed ? NULL : curl_slist_append(http->headers, sp_str_get(&line));
    if (line.data) {
        memset(line.data, 0, line.len);
    }
    sp_str_release(&line);
    http->headers = list ? list : http->headers;
    return list != NULL;
}

static bool set_up(sp_http *http) {
    const sp_http_options *o = &http->options;
    CURL *c = http->curl = curl_easy_init();
    http->headers = curl_slist_append(NULL, "Content-Type: application/json");
    return c && http->headers && add_key(http) &&
           curl_easy_setopt(c, CURLOPT_URL, o->url) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_HTTPHEADER, http->headers) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, lrint(o->seconds * 1000)) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_bytes) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, watch) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_XFERINFODATA, http) == CURLE_OK;
}

static bool is_web(const char *url) {
    return strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
}

spar_status sp_http_open(sp_http **out, const sp_http_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    sp_http *http = NULL;
    *out = NULL;
    if (!is_web(options->url)) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "endpoint: expected a URL that begins with http:// or https://, found "
                           "'%.100s'",
                           options->url));
    }
    if (options->key && strpbrk(options->key, "\r\n")) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "the endpoint's key: expected one line, found more"));
    }
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *http, err));
    http = memory;
    http->options = *options;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || !set_up(http)) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a connection"));
    }
    *out = http;
    http = NULL;
done:
    sp_http_close(http);
    return status;
}

void sp_http_close(sp_http *http) {
    if (http) {
        curl_easy_cleanup(http->curl);
        curl_slist_free_all(http->headers);
        curl_global_cleanup();
        free(http);
    }
}

spar_status sp_http_post(sp_http *http, const char *body, sp_http_reply *out, spar_error *err) {
    curl_off_t wait = 0;
    memset(out, 0, sizeof *out);
    if (curl_easy_setopt(http->curl, CURLOPT_WRITEDATA, out) != CURLE_OK ||
        curl_easy_setopt(http->curl, CURLOPT_POSTFIELDS, body) != CURLE_OK) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for a request");
    }
    const CURLcode code = curl_easy_perform(http->curl);
    if (code == CURLE_ABORTED_BY_CALLBACK) {
        return spar_fail(err, SPAR_INTERRUPTED, "stopped while waiting for the endpoint");
    }
    if (code == CURLE_OUT_OF_MEMORY || out->body.failed) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for a reply");
    }
    if (code != CURLE_OK) {
        snprintf(out->error, sizeof out->error, "%s",
                 code == CURLE_WRITE_ERROR ? "a reply of more than 4 MiB"
                                           : curl_easy_strerror(code));
        return SPAR_OK;
    }
    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &out->status);
    curl_easy_getinfo(http->curl, CURLINFO_RETRY_AFTER, &wait);
    out->retry_after = (double)wait;
    return SPAR_OK;
}

#else

spar_status sp_http_open(sp_http **out, const sp_http_options *options, spar_error *err) {
    (void)options;
    *out = NULL;
    return spar_fail(err, SPAR_UNSUPPORTED,
                     "judge api: this spar was built without libcurl (SPAR_CURL)");
}

void sp_http_close(sp_http *http) {
    free(http);
}

spar_status sp_http_post(sp_http *http, const char *body, sp_http_reply *out, spar_error *err) {
    (void)http, (void)body;
    memset(out, 0, sizeof *out);
    return spar_fail(err, SPAR_UNSUPPORTED, "built without libcurl");
}

#endif
