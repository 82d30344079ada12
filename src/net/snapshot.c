#include "net/snapshot.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

typedef struct walk {
    sp_listing *out;
    const char *repo;
    const spar_pull_options *options;
} walk;

/* hash: the last part of where a link leads to, if it is one. */
static void read_hash(const char *path, char hash[SP_DIGEST_TEXT]) {
    char to[4096];
    const ssize_t n = readlink(path, to, sizeof to - 1);
    to[n < 0 ? 0 : n] = 0;
    const char *slash = strrchr(to, '/');
    const char *name = slash ? slash + 1 : to;
    const bool known = sp_hub_is_hex(name, SP_SHA256_DIGITS) || sp_hub_is_hex(name, SP_SHA1_DIGITS);
    memcpy(hash, known ? name : "", known ? strlen(name) + 1 : 1);
}

static spar_status add_file(const walk *w, const char *path, const char *name, spar_error *err) {
    spar_status status = SPAR_OK;
    struct stat info;
    sp_listing *l = w->out;
    void *grown = l->files;
    if (stat(path, &info) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND,
                           "%s, %s: offline, and its bytes are not in the cache", w->repo, name));
    }
    SPAR_TRY(sp_mem_grow(&grown, &l->capacity, l->n + 1, sizeof *l->files, err));
    l->files = grown;
    sp_hub_file *f = &l->files[l->n];
    *f = (sp_hub_file){.size = info.st_size};
    read_hash(path, f->hash);
    SPAR_TRY(sp_mem_strdup(&f->path, name, strlen(name), err));
    l->n++;
done:
    return status;
}

/* inside: where dir is in the snapshot. */
static spar_status walk_folder(const walk *w, const char *dir, const char *inside,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    char **names = NULL;
    size_t n_names = 0;
    sp_str path = SP_STR_INIT, name = SP_STR_INIT;
    SPAR_TRY(sp_dir_list(dir, &names, &n_names, err));
    for (size_t i = 0; i < n_names; i++) {
        sp_str_clear(&path);
        sp_str_clear(&name);
        sp_str_printf(&path, "%s/%s", dir, names[i]);
        sp_str_printf(&name, "%s%s%s", inside, inside[0] ? "/" : "", names[i]);
        SPAR_TRY(sp_str_status(&path, err));
        SPAR_TRY(sp_str_status(&name, err));
        if (sp_file_is_dir(sp_str_get(&path))) {
            SPAR_TRY(walk_folder(w, sp_str_get(&path), sp_str_get(&name), err));
        } else if (sp_hub_wants(w->options, sp_str_get(&name))) {
            SPAR_TRY(add_file(w, sp_str_get(&path), sp_str_get(&name), err));
        }
    }
done:
    sp_names_free(names, n_names);
    sp_str_release(&path);
    sp_str_release(&name);
    return status;
}

spar_status sp_snapshot_list(sp_listing *out, const char *folder, const char *repo,
                             const spar_pull_options *options, spar_error *err) {
    return walk_folder(&(walk){out, repo, options}, folder, "", err);
}
