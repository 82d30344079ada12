#include "net/listing.h"

#include <ctype.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"

enum { MOST_FILES = 1000000, MOST_LINK = 8192 };
static const int64_t most_size = (int64_t)1 << 53;

void sp_url_escape(sp_str *out, const char *text, bool keep_slash) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if ((*c < 0x80 && isalnum(*c)) || strchr("-._~", *c) || (keep_slash && *c == '/')) {
            sp_str_putc(out, (char)*c);
        } else {
            sp_str_printf(out, "%%%02X", *c);
        }
    }
}

void sp_listing_release(sp_listing *l) {
    for (size_t i = 0; i < l->n; i++) {
        free(l->files[i].path);
    }
    free(l->files);
    *l = (sp_listing){0};
}

/* ---- refusals ---- */

spar_status sp_hub_refused(const sp_repo *repo, const char *file, const sp_session *s,
                           const sp_http_reply *reply, spar_error *err) {
    char code[64], message[200];
    const char *kind = repo->dataset ? "datasets/" : "";
    sp_http_header(reply, "X-Error-Code", code, sizeof code);
    sp_http_header(reply, "X-Error-Message", message, sizeof message);
    if (reply->status == 403 || strcmp(code, "GatedRepo") == 0) {
        return spar_fail(err, SPAR_INVALID,
                         "%s: HTTP status %ld: access is gated: ask for it at %s/%s%s, then %s",
                         repo->name, reply->status, repo->endpoint, kind, repo->name,
                         s->token ? "check that the token in use may read it"
                                  : "give a token that may read it in $HF_TOKEN or the login file");
    }
    if (reply->status == 401) {
        return spar_fail(err, SPAR_INVALID, "%s: HTTP status 401: no such repository, or %s",
                         repo->name,
                         s->token ? "the token in use is not valid or may not read it"
                                  : "a private one, which needs a token in $HF_TOKEN or the login "
                                    "file");
    }
    if (reply->status == 404) {
        return spar_fail(err, SPAR_NOT_FOUND, "%s, revision %s%s%s: %s", repo->name, repo->revision,
                         file ? ", " : "", file ? file : "",
                         file ? "no such file"
                         : strcmp(code, "RevisionNotFound") == 0
                             ? "no such revision"
                             : "no such repository or revision");
    }
    return spar_fail(err, SPAR_IO, "%s%s%s: HTTP status %ld%s%s", repo->name, file ? ", " : "",
                     file ? file : "", reply->status, message[0] ? ": " : "", message);
}

/* ---- the API ---- */

static void put_api(sp_str *out, const sp_repo *repo, const char *what, const char *revision) {
    sp_str_printf(out, "%s/api/%s/%s/%s/", repo->endpoint, repo->dataset ? "datasets" : "models",
                  repo->name, what);
    sp_url_escape(out, revision, false);
}

static spar_status get_json(json_t **out, sp_session *s, const sp_repo *repo, const char *url,
                            sp_http_reply *reply, spar_error *err) {
    spar_status status = SPAR_OK;
    *out = NULL;
    SPAR_TRY(sp_session_text(s, url, repo->name, reply, err));
    if (reply->status != 200) {
        SPAR_TRY(sp_hub_refused(repo, NULL, s, reply, err));
    }
    SPAR_TRY(sp_json_parse(out, sp_str_get(&reply->body), reply->body.len, "the hub's reply", err));
done:
    return status;
}

static spar_status get_commit(sp_listing *l, sp_session *s, const sp_repo *repo, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str url = SP_STR_INIT;
    sp_http_reply reply = {0};
    json_t *info = NULL;
    const char *commit;
    put_api(&url, repo, "revision", repo->revision);
    SPAR_TRY(sp_str_status(&url, err));
    SPAR_TRY(get_json(&info, s, repo, sp_str_get(&url), &reply, err));
    SPAR_TRY(sp_json_get_string(info, "sha", &commit, "the hub's reply", err));
    if (!sp_hub_is_hex(commit, SP_COMMIT_TEXT - 1)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "the hub's reply: sha: expected 40 hex digits, found '%.60s'", commit));
    }
    memcpy(l->commit, commit, SP_COMMIT_TEXT);
done:
    json_decref(info);
    sp_http_reply_release(&reply);
    sp_str_release(&url);
    return status;
}

static spar_status add_file(sp_listing *l, const json_t *entry, spar_error *err) {
    spar_status status = SPAR_OK;
    static const char where[] = "the hub's list of files";
    const json_t *lfs = json_object_get(entry, "lfs");
    const char *path, *hash;
    void *grown = l->files;
    SPAR_TRY(sp_json_get_string(entry, "path", &path, where, err));
    SPAR_TRY(sp_hub_check_file(path, err));
    SPAR_TRY(sp_json_get_string(json_is_object(lfs) ? lfs : entry, "oid", &hash, where, err));
    if (!sp_hub_is_hex(hash, json_is_object(lfs) ? SP_SHA256_DIGITS : SP_SHA1_DIGITS)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: %s: oid: expected a hash, found '%.80s'", where,
                           path, hash));
    }
    if (l->n >= MOST_FILES) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT, "%s: more than %d files", where, MOST_FILES));
    }
    SPAR_TRY(sp_mem_grow(&grown, &l->capacity, l->n + 1, sizeof *l->files, err));
    l->files = grown;
    sp_hub_file *f = &l->files[l->n];
    *f = (sp_hub_file){0};
    memcpy(f->hash, hash, strlen(hash) + 1);
    SPAR_TRY(sp_json_get_int(json_is_object(lfs) ? lfs : entry, "size", 0, most_size, &f->size,
                             where, err));
    SPAR_TRY(sp_mem_strdup(&f->path, path, strlen(path), err));
    l->n++;
done:
    return status;
}

static spar_status add_page(sp_listing *l, const json_t *page, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t i;
    const json_t *entry;
    if (!json_is_array(page)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "the hub's list of files: expected a list, found %s",
                           sp_json_type_name(page)));
    }
    json_array_foreach(page, i, entry) {
        const char *type = json_string_value(json_object_get(entry, "type"));
        if (type && strcmp(type, "file") == 0) {
            SPAR_TRY(add_file(l, entry, err));
        }
    }
done:
    return status;
}

/* The URL of `Link: <URL>; rel="next"`; false: this page is the last. */
static bool next_page(const sp_http_reply *reply, sp_str *url) {
    char link[MOST_LINK];
    const bool more = sp_http_header(reply, "Link", link, sizeof link) && link[0] == '<' &&
                      strstr(link, "rel=\"next\"");
    if (more) {
        sp_str_clear(url);
        sp_str_append(url, link + 1, strcspn(link + 1, ">"));
    }
    return more;
}

spar_status sp_listing_fetch(sp_listing *out, sp_session *s, const sp_repo *repo, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str url = SP_STR_INIT;
    sp_http_reply reply = {0};
    json_t *page = NULL;
    *out = (sp_listing){0};
    SPAR_TRY(get_commit(out, s, repo, err));
    put_api(&url, repo, "tree", out->commit);
    sp_str_puts(&url, "?recursive=true");
    do {
        SPAR_TRY(sp_str_status(&url, err));
        SPAR_TRY(sp_http_check_url(sp_str_get(&url), "the hub's list of files", err));
        json_decref(page);
        SPAR_TRY(get_json(&page, s, repo, sp_str_get(&url), &reply, err));
        SPAR_TRY(add_page(out, page, err));
    } while (json_array_size(page) > 0 && next_page(&reply, &url));
done:
    json_decref(page);
    sp_http_reply_release(&reply);
    sp_str_release(&url);
    return status;
}

/* ---- which files ---- */

static bool matches(const char *const *patterns, int n, const char *path) {
    for (int i = 0; i < n; i++) {
        if (fnmatch(patterns[i], path, FNM_NOESCAPE) == 0) {
            return true;
        }
    }
    return false;
}

/* Weights in formats that spar does not read: taken only where they are asked for. */
static bool is_foreign(const char *path) {
    static const char *const patterns[] = {
        "*.bin",  "*.pt",   "*.pth",       "*.pkl",  "*.h5",       "*.ot",          "*.msgpack",
        "*.onnx", "onnx/*", "*.onnx_data", "*.ckpt", "openvino/*", "*.mlpackage/*", "*.tflite"};
    return matches(patterns, sizeof patterns / sizeof patterns[0], path);
}

bool sp_hub_wants(const spar_pull_options *o, const char *path) {
    const bool in =
        o->n_include ? matches(o->include, o->n_include, path) : o->dataset || !is_foreign(path);
    return in && !matches(o->exclude, o->n_exclude, path);
}

static bool is_gguf(const char *path) {
    const size_t n = strlen(path);
    return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
}

spar_status sp_listing_select(sp_listing *l, const sp_repo *repo, const spar_pull_options *options,
                              size_t *dropped, spar_error *err) {
    size_t kept = 0, ggufs = 0;
    const char *example = NULL;
    for (size_t i = 0; i < l->n; i++) {
        sp_hub_file f = l->files[i];
        if (sp_hub_wants(options, f.path)) {
            example = is_gguf(f.path) ? f.path : example;
            ggufs += is_gguf(f.path);
            l->files[kept++] = f;
        } else {
            free(f.path);
        }
    }
    *dropped = l->n - kept;
    l->n = kept;
    if (kept == 0) {
        return spar_fail(err, SPAR_NOT_FOUND,
                         "%s, revision %s: no file is wanted; %zu are there (--include '*' takes "
                         "all)",
                         repo->name, repo->revision, *dropped);
    }
    if (ggufs > 1 && options->n_include == 0 && !options->dataset) {
        return spar_fail(err, SPAR_INVALID,
                         "%s: %zu GGUF files: expected a choice among them, such as --include '%s'",
                         repo->name, ggufs, example);
    }
    return SPAR_OK;
}
