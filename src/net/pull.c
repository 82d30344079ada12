/* spar_pull: a repository into the cache or a folder, a URL into a file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "net/snapshot.h"

/* A pull of a repository under way. */
typedef struct pull {
    const spar_pull_options *options;
    sp_repo repo;
    sp_session session;
    sp_listing files;
    sp_str endpoint;
    sp_str folder; /* the repository's, in the cache */
    sp_str target; /* where the files are to be: a snapshot, or --out */
} pull;

static spar_status make_parent(const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    char *dir = NULL;
    SPAR_TRY(sp_path_parent(&dir, path, err));
    SPAR_TRY(sp_dir_make(dir, err));
done:
    free(dir);
    return status;
}

static bool has_size(const char *path, int64_t size) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && info.st_size == size;
}

/* ---- into the cache ---- */

static void put_blob(sp_str *out, const pull *p, const sp_hub_file *f) {
    sp_str_printf(out, "%s/blobs/%s", sp_str_get(&p->folder), f->hash);
}

/* SNAPSHOT/FILE becomes a relative link to the blob. */
static spar_status link_blob(const char *path, const sp_hub_file *f, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str to = SP_STR_INIT, aside = SP_STR_INIT;
    sp_str_puts(&to, "../../");
    for (const char *c = f->path; *c; c++) {
        sp_str_puts(&to, *c == '/' ? "../" : "");
    }
    sp_str_printf(&to, "blobs/%s", f->hash);
    sp_str_printf(&aside, "%s.tmp.%ld", path, (long)getpid());
    SPAR_TRY(sp_str_status(&to, err));
    SPAR_TRY(sp_str_status(&aside, err));
    SPAR_TRY(make_parent(path, err));
    unlink(sp_str_get(&aside));
    if (symlink(sp_str_get(&to), sp_str_get(&aside)) != 0 ||
        rename(sp_str_get(&aside), path) != 0) {
        const int code = errno;
        unlink(sp_str_get(&aside));
        SPAR_TRY(spar_fail(err, SPAR_IO, "%s: cannot link: %s", path, strerror(code)));
    }
done:
    sp_str_release(&to);
    sp_str_release(&aside);
    return status;
}

/* ---- one file ---- */

static void put_target(sp_str *out, const pull *p, const sp_hub_file *f) {
    sp_str_printf(out, "%s/%s", sp_str_get(&p->target), f->path);
}

static spar_status add_bytes(void *context, const void *bytes, size_t n, spar_error *err) {
    return sp_digest_add(context, bytes, n, err);
}

/* Whether a file of a folder is whole, by its bytes; of an unknown hash none is known to be. */
static spar_status is_whole(const char *path, const sp_hub_file *f, bool *out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_digest digest = {0};
    sp_map map = {0};
    char found[SP_DIGEST_TEXT];
    *out = false;
    if (!f->hash[0] || !has_size(path, f->size)) {
        return SPAR_OK;
    }
    SPAR_TRY(sp_map_open(&map, path, err));
    SPAR_TRY(sp_digest_begin(&digest, strlen(f->hash), f->size, err));
    SPAR_TRY(add_bytes(&digest, map.data, map.size, err));
    SPAR_TRY(sp_digest_end(&digest, found, err));
    *out = strcmp(found, f->hash) == 0;
done:
    sp_map_close(&map);
    sp_digest_release(&digest);
    return status;
}

/* A blob of the cache is whole by its name and length; a file of --out by its bytes. */
static spar_status is_there(const pull *p, const sp_hub_file *f, bool *out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str path = SP_STR_INIT;
    *out = false;
    if (p->options->out) {
        put_target(&path, p, f);
    } else {
        put_blob(&path, p, f);
    }
    SPAR_TRY(sp_str_status(&path, err));
    *out = has_size(sp_str_get(&path), f->size);
    if (p->options->out) {
        SPAR_TRY(is_whole(sp_str_get(&path), f, out, err));
    }
done:
    sp_str_release(&path);
    return status;
}

/* The lock that the hub's own tools hold while they fetch a blob. *fd: to close. */
static spar_status lock_blob(const pull *p, const sp_hub_file *f, int *fd, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str path = SP_STR_INIT;
    const char *folder = sp_str_get(&p->folder), *name = strrchr(folder, '/');
    *fd = -1;
    sp_str_printf(&path, "%.*s/.locks%s/%s.lock", (int)(name - folder), folder, name, f->hash);
    SPAR_TRY(sp_str_status(&path, err));
    SPAR_TRY(make_parent(sp_str_get(&path), err));
    FILE *file = fopen(sp_str_get(&path), "ae");
    *fd = file ? dup(fileno(file)) : -1;
    if (file) {
        fclose(file);
    }
    if (*fd < 0 || flock(*fd, LOCK_EX | LOCK_NB) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_BUSY, "%s: another process is fetching it (%s)", f->path,
                           sp_str_get(&path)));
    }
done:
    sp_str_release(&path);
    return status;
}

static void put_url(sp_str *url, const pull *p, const sp_hub_file *f) {
    sp_str_printf(url, "%s/%s%s/resolve/%s/", p->repo.endpoint, p->repo.dataset ? "datasets/" : "",
                  p->repo.name, p->files.commit);
    sp_url_escape(url, f->path, true);
}

static spar_status fetch(pull *p, const sp_hub_file *f, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str url = SP_STR_INIT, part = SP_STR_INIT;
    sp_http_reply refused = {0};
    put_url(&url, p, f);
    /* Beside a file of --out the hash is in the name, so that a part of another version is not
     * continued. */
    if (p->options->out) {
        sp_str_printf(&part, "%s.%.12s.incomplete", path, f->hash);
    } else {
        sp_str_printf(&part, "%s.incomplete", path);
    }
    SPAR_TRY(sp_str_status(&url, err));
    SPAR_TRY(sp_str_status(&part, err));
    SPAR_TRY(make_parent(path, err));
    const sp_fetch what = {.url = sp_str_get(&url),
                           .what = f->path,
                           .part = sp_str_get(&part),
                           .path = path,
                           .size = f->size,
                           .hash = f->hash};
    SPAR_TRY(sp_fetch_file(&p->session, &what, &refused, err));
    if (refused.status) {
        SPAR_TRY(sp_hub_refused(&p->repo, f->path, &p->session, &refused, err));
    }
    spar_sink_log(p->options->sink, SPAR_LOG_INFO, "%s: %.1f MB, %s right", f->path,
                  (double)f->size / 1e6,
                  strlen(f->hash) == SP_SHA256_DIGITS ? "sha256" : "git hash");
done:
    sp_http_reply_release(&refused);
    sp_str_release(&url);
    sp_str_release(&part);
    return status;
}

static spar_status copy_file(const char *from, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_map map = {0};
    sp_writer writer = {.fd = -1};
    SPAR_TRY(make_parent(path, err));
    SPAR_TRY(sp_map_open(&map, from, err));
    SPAR_TRY(sp_writer_open(&writer, path, err));
    sp_writer_write(&writer, map.data, map.size);
    SPAR_TRY(sp_writer_commit(&writer, err));
done:
    sp_writer_abort(&writer);
    sp_map_close(&map);
    return status;
}

/* A file of --out that the cache has. *done: whether it had. */
static spar_status copy_from_cache(const pull *p, const sp_hub_file *f, const char *path,
                                   bool *done, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str blob = SP_STR_INIT;
    *done = false;
    put_blob(&blob, p, f);
    SPAR_TRY(sp_str_status(&blob, err));
    SPAR_TRY(is_whole(sp_str_get(&blob), f, done, err));
    if (*done) {
        SPAR_TRY(copy_file(sp_str_get(&blob), path, err));
    }
done:
    sp_str_release(&blob);
    return status;
}

static spar_status bring_to_folder(pull *p, const sp_hub_file *f, bool there, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str path = SP_STR_INIT;
    put_target(&path, p, f);
    SPAR_TRY(sp_str_status(&path, err));
    if (!there) {
        SPAR_TRY(copy_from_cache(p, f, sp_str_get(&path), &there, err));
    }
    if (!there) {
        SPAR_TRY(fetch(p, f, sp_str_get(&path), err));
    }
done:
    sp_str_release(&path);
    return status;
}

static spar_status bring_to_cache(pull *p, const sp_hub_file *f, bool there, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str blob = SP_STR_INIT, path = SP_STR_INIT;
    int lock = -1;
    put_blob(&blob, p, f);
    put_target(&path, p, f);
    SPAR_TRY(sp_str_status(&blob, err));
    SPAR_TRY(sp_str_status(&path, err));
    if (!there) {
        SPAR_TRY(lock_blob(p, f, &lock, err));
    }
    if (!has_size(sp_str_get(&blob), f->size)) {
        SPAR_TRY(fetch(p, f, sp_str_get(&blob), err));
    }
    SPAR_TRY(link_blob(sp_str_get(&path), f, err));
done:
    if (lock >= 0) {
        close(lock);
    }
    sp_str_release(&blob);
    sp_str_release(&path);
    return status;
}

/* ---- all files ---- */

/* Before the first byte: what the disk has not, no transfer can put there. */
static spar_status check_space(const char *dir, double need, spar_error *err) {
    struct statvfs disk;
    if (statvfs(dir, &disk) == 0 && (double)disk.f_bavail * (double)disk.f_frsize < need) {
        return spar_fail(err, SPAR_IO, "%s: expected %.1f MB of free space, found %.1f MB", dir,
                         need / 1e6, (double)disk.f_bavail * (double)disk.f_frsize / 1e6);
    }
    return SPAR_OK;
}

static spar_status bring_all(pull *p, size_t dropped, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    bool *there = NULL;
    size_t missing = 0;
    double bytes = 0;
    SPAR_TRY(sp_mem_calloc(&memory, p->files.n + 1, sizeof *there, err));
    there = memory;
    for (size_t i = 0; i < p->files.n; i++) {
        SPAR_TRY(is_there(p, &p->files.files[i], &there[i], err));
        missing += !there[i];
        bytes += there[i] ? 0 : (double)p->files.files[i].size;
    }
    spar_sink_log(p->options->sink, SPAR_LOG_INFO,
                  "%s, revision %s, commit %.12s: %zu files, %zu of them missing (%.1f MB)%s",
                  p->repo.name, p->repo.revision, p->files.commit, p->files.n, missing, bytes / 1e6,
                  dropped ? "; others are left out" : "");
    const char *dir = p->options->out ? p->options->out : sp_str_get(&p->folder);
    SPAR_TRY(sp_dir_make(dir, err));
    SPAR_TRY(check_space(dir, bytes, err));
    p->session.total = bytes;
    for (size_t i = 0; i < p->files.n; i++) {
        SPAR_TRY(p->options->out ? bring_to_folder(p, &p->files.files[i], there[i], err)
                                 : bring_to_cache(p, &p->files.files[i], there[i], err));
    }
done:
    free(there);
    return status;
}

/* A branch or tag points to its commit once all files are there: until then a model of that name is
 * the one that was whole before. */
static spar_status write_ref(const pull *p, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str path = SP_STR_INIT;
    if (p->options->out || strcmp(p->repo.revision, p->files.commit) == 0) {
        return SPAR_OK;
    }
    sp_str_printf(&path, "%s/refs/%s", sp_str_get(&p->folder), p->repo.revision);
    SPAR_TRY(sp_str_status(&path, err));
    SPAR_TRY(make_parent(sp_str_get(&path), err));
    SPAR_TRY(sp_file_write(sp_str_get(&path), p->files.commit, SP_COMMIT_TEXT - 1, err));
done:
    sp_str_release(&path);
    return status;
}

static void put_snapshot(sp_str *out, const pull *p) {
    sp_str_printf(out, "%s/snapshots/%s", sp_str_get(&p->folder), p->files.commit);
}

static void set_target(pull *p) {
    if (p->options->out) {
        sp_str_puts(&p->target, p->options->out);
    } else {
        put_snapshot(&p->target, p);
    }
}

static spar_status pull_online(pull *p, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t dropped = 0;
    SPAR_TRY(sp_http_check_url(p->repo.endpoint, "HF_ENDPOINT", err));
    SPAR_TRY(sp_session_open(&p->session, p->options, err));
    SPAR_TRY(sp_hub_token(&p->session.token, err));
    p->session.origin = p->repo.endpoint;
    SPAR_TRY(sp_listing_fetch(&p->files, &p->session, &p->repo, err));
    SPAR_TRY(sp_listing_select(&p->files, &p->repo, p->options, &dropped, err));
    set_target(p);
    SPAR_TRY(sp_str_status(&p->target, err));
    SPAR_TRY(bring_all(p, dropped, err));
    SPAR_TRY(write_ref(p, err));
done:
    return status;
}

/* ---- offline ---- */

/* A file of the snapshot into --out, unless it is there already. */
static spar_status copy_offline(const pull *p, const char *snapshot, const sp_hub_file *f,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str from = SP_STR_INIT, path = SP_STR_INIT;
    bool there, whole = true;
    sp_str_printf(&from, "%s/%s", snapshot, f->path);
    put_target(&path, p, f);
    SPAR_TRY(sp_str_status(&from, err));
    SPAR_TRY(sp_str_status(&path, err));
    SPAR_TRY(is_whole(sp_str_get(&path), f, &there, err));
    if (there) {
        goto done;
    }
    if (f->hash[0]) {
        SPAR_TRY(is_whole(sp_str_get(&from), f, &whole, err));
    }
    if (!whole) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "%s, %s: its bytes in the cache are not those of the hash %s; remove "
                           "the blob and pull it again, with the network",
                           p->repo.name, f->path, f->hash));
    }
    SPAR_TRY(copy_file(sp_str_get(&from), sp_str_get(&path), err));
done:
    sp_str_release(&from);
    sp_str_release(&path);
    return status;
}

static spar_status copy_all_offline(const pull *p, const char *snapshot, spar_error *err) {
    spar_status status = SPAR_OK;
    double bytes = 0;
    SPAR_TRY(sp_dir_make(p->options->out, err));
    for (size_t i = 0; i < p->files.n; i++) {
        bytes += (double)p->files.files[i].size;
    }
    SPAR_TRY(check_space(p->options->out, bytes, err));
    for (size_t i = 0; i < p->files.n; i++) {
        SPAR_TRY(copy_offline(p, snapshot, &p->files.files[i], err));
    }
done:
    return status;
}

/* *snapshot: the revision's folder in the cache. */
static spar_status find_snapshot(pull *p, sp_str *snapshot, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_error unknown;
    if (sp_hub_commit(p->files.commit, sp_str_get(&p->folder), p->repo.revision, &unknown) ==
        SPAR_OK) {
        put_snapshot(snapshot, p);
    }
    SPAR_TRY(sp_str_status(snapshot, err));
    if (!snapshot->len || !sp_file_is_dir(sp_str_get(snapshot))) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND,
                           "%s, revision %s: offline, and not in the cache (%s)", p->repo.name,
                           p->repo.revision, sp_str_get(&p->folder)));
    }
done:
    return status;
}

static spar_status pull_offline(pull *p, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str snapshot = SP_STR_INIT;
    SPAR_TRY(find_snapshot(p, &snapshot, err));
    SPAR_TRY(sp_snapshot_list(&p->files, sp_str_get(&snapshot), p->repo.name, p->options, err));
    if (p->files.n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND,
                           "%s, revision %s: offline, and the cache has no file that is wanted",
                           p->repo.name, p->repo.revision));
    }
    set_target(p);
    SPAR_TRY(sp_str_status(&p->target, err));
    if (p->options->out) {
        SPAR_TRY(copy_all_offline(p, sp_str_get(&snapshot), err));
    }
done:
    sp_str_release(&snapshot);
    return status;
}

static spar_status pull_repo(const char *what, const spar_pull_options *options, char **path,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    pull p = {.options = options};
    SPAR_TRY(sp_hub_check_repo(what, err));
    sp_hub_endpoint(&p.endpoint);
    sp_hub_folder(&p.folder, what, options->dataset);
    p.repo = (sp_repo){sp_str_get(&p.endpoint), what,
                       options->revision ? options->revision : "main", options->dataset};
    SPAR_TRY(sp_str_status(&p.endpoint, err));
    SPAR_TRY(sp_str_status(&p.folder, err));
    SPAR_TRY(sp_hub_check_revision(p.repo.revision, err));
    SPAR_TRY(options->offline || sp_hub_is_offline() ? pull_offline(&p, err)
                                                     : pull_online(&p, err));
    SPAR_TRY(sp_str_take(&p.target, path, err));
done:
    sp_session_close(&p.session);
    sp_listing_release(&p.files);
    sp_str_release(&p.endpoint);
    sp_str_release(&p.folder);
    sp_str_release(&p.target);
    return status;
}

/* ---- a URL ---- */

/* DIR/NAME of the last part of the URL's path. */
static spar_status put_file_of(sp_str *out, const char *dir, const char *url, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *path = strstr(url, "://") + 3;
    const size_t n = strcspn(path, "?#");
    char name[256];
    size_t from = n;
    while (from > 0 && path[from - 1] != '/') {
        from--;
    }
    snprintf(name, sizeof name, "%.*s", (int)(n - from), path + from);
    if (from == 0 || sp_hub_check_file(name, NULL) != SPAR_OK) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "%.200s: expected a URL that ends with a file's name",
                           url));
    }
    sp_str_printf(out, "%s/%s", dir, name);
    SPAR_TRY(sp_str_status(out, err));
done:
    return status;
}

static spar_status check_url(const char *url, const spar_pull_options *o, spar_error *err) {
    spar_status status = SPAR_OK;
    const bool local = strncmp(url, "file:///", 8) == 0;
    if (!local) {
        SPAR_TRY(sp_http_check_url(url, "pull (or file:///)", err));
    }
    if (!local && (o->offline || sp_hub_is_offline())) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%.200s: offline", url));
    }
    if (o->sha256 && !sp_hub_is_hex(o->sha256, SP_SHA256_DIGITS)) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "--sha256: expected 64 hex digits, found '%.80s'",
                           o->sha256));
    }
done:
    return status;
}

static spar_status pull_url(const char *url, const spar_pull_options *options, char **path,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    sp_session session = {0};
    sp_str file = SP_STR_INIT, part = SP_STR_INIT, endpoint = SP_STR_INIT;
    sp_http_reply refused = {0};
    SPAR_TRY(check_url(url, options, err));
    SPAR_TRY(put_file_of(&file, options->out ? options->out : ".", url, err));
    sp_str_printf(&part, "%s.incomplete", sp_str_get(&file));
    sp_hub_endpoint(&endpoint);
    SPAR_TRY(sp_str_status(&part, err));
    SPAR_TRY(sp_str_status(&endpoint, err));
    SPAR_TRY(make_parent(sp_str_get(&file), err));
    SPAR_TRY(sp_session_open(&session, options, err));
    SPAR_TRY(sp_hub_token(&session.token, err));
    session.origin = sp_str_get(&endpoint);
    const sp_fetch what = {.url = url,
                           .what = url,
                           .part = sp_str_get(&part),
                           .path = sp_str_get(&file),
                           .size = -1,
                           .hash = options->sha256};
    SPAR_TRY(sp_fetch_file(&session, &what, &refused, err));
    if (refused.status) {
        SPAR_TRY(spar_fail(err, refused.status == 404 ? SPAR_NOT_FOUND : SPAR_INVALID,
                           "%.500s: HTTP status %ld", url, refused.status));
    }
    SPAR_TRY(sp_str_take(&file, path, err));
done:
    sp_session_close(&session);
    sp_http_reply_release(&refused);
    sp_str_release(&file);
    sp_str_release(&part);
    sp_str_release(&endpoint);
    return status;
}

spar_status spar_pull(const char *what, const spar_pull_options *options, char **path,
                      spar_error *err) {
    *path = NULL;
    return strstr(what, "://") ? pull_url(what, options, path, err)
                               : pull_repo(what, options, path, err);
}
