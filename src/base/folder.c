/* The part of base/file.h that walks folders. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

static spar_status folder_fail(spar_error *err, const char *verb, const char *path) {
    const spar_status code = errno == ENOENT || errno == ENOTDIR ? SPAR_NOT_FOUND : SPAR_IO;
    return spar_fail(err, code, "%s: cannot %s: %s", path, verb, strerror(errno));
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_dots(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static spar_status add_name(char ***names, size_t *n, size_t *capacity, const char *name,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    void *grown = *names;
    SPAR_TRY(sp_mem_grow(&grown, capacity, *n + 1, sizeof(char *), err));
    *names = grown;
    SPAR_TRY(sp_mem_strdup(&(*names)[*n], name, strlen(name), err));
    (*n)++;
done:
    return status;
}

spar_status sp_dir_list(const char *path, char ***names, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t capacity = 0;
    *names = NULL;
    *n = 0;
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return folder_fail(err, "list", path);
    }
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            break;
        }
        if (!is_dots(entry->d_name)) {
            SPAR_TRY(add_name(names, n, &capacity, entry->d_name, err));
        }
    }
    if (errno != 0) {
        SPAR_TRY(folder_fail(err, "list", path));
    }
    if (*n > 1) {
        qsort(*names, *n, sizeof(char *), by_name);
    }
done:
    closedir(dir);
    if (status != SPAR_OK) {
        sp_names_free(*names, *n);
        *names = NULL;
        *n = 0;
    }
    return status;
}

void sp_names_free(char **names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        free(names[i]);
    }
    free(names);
}

static spar_status remove_inside(const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    char **names = NULL, *child = NULL;
    size_t n = 0;
    SPAR_TRY(sp_dir_list(path, &names, &n, err));
    for (size_t i = 0; i < n; i++) {
        free(child);
        child = NULL;
        SPAR_TRY(sp_path_join(&child, path, names[i], err));
        SPAR_TRY(sp_dir_remove(child, err));
    }
done:
    free(child);
    sp_names_free(names, n);
    return status;
}

/* The depth of the recursion is bounded by the longest path the system takes. */
spar_status sp_dir_remove(const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    struct stat info = {0};
    if (lstat(path, &info) != 0) {
        return errno == ENOENT ? SPAR_OK : folder_fail(err, "stat", path);
    }
    if (S_ISDIR(info.st_mode)) {
        SPAR_TRY(remove_inside(path, err));
    }
    if (remove(path) != 0 && errno != ENOENT) {
        SPAR_TRY(folder_fail(err, "remove", path));
    }
done:
    return status;
}
