#include "net/hub_names.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "net/http.h"
#include "spar/hub.h"

enum { MOST_TOKEN = 4096 };

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

/* ---- names ---- */

static bool is_plain(const char *name, size_t n) {
    bool ok = n > 0 && n <= 96 && isalnum((unsigned char)name[0]);
    for (size_t i = 0; i < n; i++) {
        const char c = name[i];
        ok = ok && (isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.');
        ok = ok && !(i > 0 && c == name[i - 1] && (c == '.' || c == '-'));
    }
    return ok;
}

static bool is_repo(const char *text) {
    const size_t n = strcspn(text, "/");
    return is_plain(text, n) && (!text[n] || is_plain(text + n + 1, strlen(text + n + 1)));
}

spar_status sp_hub_check_repo(const char *repo, spar_error *err) {
    return is_repo(repo) ? SPAR_OK
                         : spar_fail(err, SPAR_INVALID,
                                     "expected a repository as org/name, found '%.200s'", repo);
}

static bool is_control(unsigned char c) {
    return c < 0x20 || c == 0x7f;
}

/* Relative, of parts that are no "." or "..". */
static bool is_inside(const char *path) {
    bool ok = path[0] && strlen(path) < 1024;
    for (const char *c = path; *c; c++) {
        ok = ok && !is_control((unsigned char)*c);
    }
    for (const char *part = path; ok; part += strcspn(part, "/") + 1) {
        const size_t n = strcspn(part, "/");
        ok = n > 0 && n < 200 && strncmp(part, "..", n) != 0;
        if (!part[n]) {
            break;
        }
    }
    return ok;
}

spar_status sp_hub_check_revision(const char *revision, spar_error *err) {
    return is_inside(revision) ? SPAR_OK
                               : spar_fail(err, SPAR_INVALID,
                                           "revision: expected a branch, tag or commit, found "
                                           "'%.200s'",
                                           revision);
}

spar_status sp_hub_check_file(const char *path, spar_error *err) {
    return is_inside(path) ? SPAR_OK
                           : spar_fail(err, SPAR_FORMAT,
                                       "the name of a file: expected a path that stays in its "
                                       "folder, found '%.200s'",
                                       path);
}

bool sp_hub_is_hex(const char *text, size_t digits) {
    return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

/* ---- the environment ---- */

void sp_hub_endpoint(sp_str *out) {
    const char *set = setting("HF_ENDPOINT");
    sp_str_puts(out, set ? set : "https://huggingface.co");
    while (out->len > 0 && out->data[out->len - 1] == '/') {
        sp_str_truncate(out, out->len - 1);
    }
}

bool sp_hub_is_offline(void) {
    static const char *const yes[] = {"1", "on", "yes", "true"};
    const char *set = setting("HF_HUB_OFFLINE");
    for (size_t i = 0; set && i < sizeof yes / sizeof yes[0]; i++) {
        if (strcasecmp(set, yes[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* A path whose "~" is the home folder. */
static void put_path(sp_str *out, const char *path) {
    const char *home = getenv("HOME");
    if (path[0] == '~' && path[1] == '/' && home) {
        sp_str_printf(out, "%s%s", home, path + 1);
    } else {
        sp_str_puts(out, path);
    }
}

static void put_home(sp_str *out) {
    const char *set = setting("HF_HOME"), *cache = setting("XDG_CACHE_HOME");
    if (set) {
        put_path(out, set);
    } else {
        put_path(out, cache ? cache : "~/.cache");
        sp_str_puts(out, "/huggingface");
    }
}

static void put_cache(sp_str *out) {
    const char *set = setting("HF_HUB_CACHE");
    if (set) {
        put_path(out, set);
    } else {
        put_home(out);
        sp_str_puts(out, "/hub");
    }
}

static spar_status read_token(char **out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str path = SP_STR_INIT;
    size_t n = 0;
    const char *set = setting("HF_TOKEN_PATH");
    *out = NULL;
    if (set) {
        put_path(&path, set);
    } else {
        put_home(&path);
        sp_str_puts(&path, "/token");
    }
    SPAR_TRY(sp_str_status(&path, err));
    if (sp_file_exists(sp_str_get(&path))) {
        SPAR_TRY(sp_file_read(sp_str_get(&path), MOST_TOKEN, out, &n, err));
    }
done:
    sp_str_release(&path);
    return status;
}

spar_status sp_hub_token(char **out, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *set = setting("HF_TOKEN");
    set = set ? set : setting("HUGGING_FACE_HUB_TOKEN");
    SPAR_TRY(set ? sp_mem_strdup(out, set, strlen(set), err) : read_token(out, err));
    for (size_t n = *out ? strlen(*out) : 0; n > 0 && isspace((unsigned char)(*out)[n - 1]);) {
        (*out)[--n] = 0;
    }
    SPAR_TRY(sp_http_check_key(*out, "the hub's token", err));
    if (*out && !(*out)[0]) {
        free(*out);
        *out = NULL;
    }
done:
    return status;
}

/* ---- the cache ---- */

void sp_hub_folder(sp_str *out, const char *repo, bool dataset) {
    put_cache(out);
    sp_str_printf(out, "/%s--", dataset ? "datasets" : "models");
    for (const char *c = repo; *c; c++) {
        sp_str_puts(out, *c == '/' ? "--" : (char[]){*c, 0});
    }
}

spar_status sp_hub_commit(char commit[SP_COMMIT_TEXT], const char *folder, const char *revision,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str path = SP_STR_INIT;
    char *text = NULL;
    size_t n = 0;
    if (sp_hub_is_hex(revision, SP_COMMIT_TEXT - 1)) {
        memcpy(commit, revision, SP_COMMIT_TEXT);
        return SPAR_OK;
    }
    sp_str_printf(&path, "%s/refs/%s", folder, revision);
    SPAR_TRY(sp_str_status(&path, err));
    SPAR_TRY(sp_file_read(sp_str_get(&path), SP_COMMIT_TEXT, &text, &n, err));
    text[strcspn(text, "\n")] = 0;
    if (!sp_hub_is_hex(text, SP_COMMIT_TEXT - 1)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: expected a commit of 40 hex digits, found '%.60s'",
                           sp_str_get(&path), text));
    }
    memcpy(commit, text, SP_COMMIT_TEXT);
done:
    free(text);
    sp_str_release(&path);
    return status;
}

/* Of "org/name/FILE@REVISION" the three parts; repo and revision are cut into room. */
typedef struct model_name {
    char room[1400];
    const char *repo, *file, *revision; /* file NULL: the folder */
} model_name;

static bool split_name(model_name *m, const char *text) {
    const size_t n = strlen(text);
    if (n >= sizeof m->room) {
        return false;
    }
    memcpy(m->room, text, n + 1);
    char *at = strrchr(m->room, '@');
    char *slash = strchr(m->room, '/');
    char *second = slash ? strchr(slash + 1, '/') : NULL;
    if (at && second && second > at) { /* a slash of the revision */
        second = NULL;
    }
    if (at) {
        *at = 0;
    }
    if (second) {
        *second = 0;
    }
    m->repo = m->room;
    m->file = second ? second + 1 : NULL;
    m->revision = at ? at + 1 : "main";
    return is_repo(m->repo) && is_inside(m->revision) && (!m->file || is_inside(m->file));
}

/* A snapshot that is one GGUF file and no folder of a model: that file's name in *only. */
static spar_status find_only_gguf(const char *folder, sp_str *path, spar_error *err) {
    spar_status status = SPAR_OK;
    char **names = NULL;
    size_t n = 0, found = 0;
    const char *only = NULL;
    SPAR_TRY(sp_dir_list(folder, &names, &n, err));
    for (size_t i = 0; i < n; i++) {
        const char *dot = strrchr(names[i], '.');
        if (strcmp(names[i], "config.json") == 0) {
            found = 2;
        } else if (dot && strcmp(dot, ".gguf") == 0) {
            only = names[i];
            found++;
        }
    }
    if (found == 1 && only) {
        sp_str_printf(path, "/%s", only);
    }
done:
    sp_names_free(names, n);
    return status;
}

static spar_status find_in_cache(const model_name *m, sp_str *path, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str folder = SP_STR_INIT;
    spar_error unknown;
    struct stat info;
    char commit[SP_COMMIT_TEXT];
    sp_hub_folder(&folder, m->repo, false);
    SPAR_TRY(sp_str_status(&folder, err));
    if (sp_hub_commit(commit, sp_str_get(&folder), m->revision, &unknown) == SPAR_OK) {
        sp_str_printf(path, "%s/snapshots/%s%s%s", sp_str_get(&folder), commit, m->file ? "/" : "",
                      m->file ? m->file : "");
    }
    SPAR_TRY(sp_str_status(path, err));
    if (stat(sp_str_get(path), &info) != 0) {
        SPAR_TRY(
            spar_fail(err, SPAR_NOT_FOUND,
                      "%s%s%s, revision %s: neither here nor in the hub's cache (%s); spar pull "
                      "%s fetches it",
                      m->repo, m->file ? "/" : "", m->file ? m->file : "", m->revision,
                      sp_str_get(&folder), m->repo));
    }
    if (!m->file) {
        sp_str snapshot = SP_STR_INIT;
        sp_str_puts(&snapshot, sp_str_get(path));
        status = find_only_gguf(sp_str_get(&snapshot), path, err);
        sp_str_release(&snapshot);
    }
done:
    sp_str_release(&folder);
    return status;
}

spar_status spar_hub_place(char **path, const char *model, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str found = SP_STR_INIT;
    model_name name;
    const bool named = strncmp(model, "hub:", 4) == 0;
    *path = NULL;
    if (named && !split_name(&name, model + 4)) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "expected hub:org/name[/FILE][@REVISION], found '%.200s'", model));
    }
    if (!named && (sp_file_exists(model) || !strchr(model, '/') || !split_name(&name, model))) {
        return sp_mem_strdup(path, model, strlen(model), err); /* a path, there or not */
    }
    SPAR_TRY(find_in_cache(&name, &found, err));
    SPAR_TRY(sp_str_take(&found, path, err));
done:
    sp_str_release(&found);
    return status;
}
