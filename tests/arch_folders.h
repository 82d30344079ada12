/* The tiny language models that transformers computed something for: the folders of
 * tests/golden/arch and, where it is there, of shared/golden/arch, whose io.json has rows of ids
 * and greedy continuations of each (encoders and judges have none). */
#ifndef SPAR_TESTS_ARCH_FOLDERS_H
#define SPAR_TESTS_ARCH_FOLDERS_H

#include <dirent.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { TEST_ARCH_FOLDERS = 256 };

typedef struct test_folders {
    int n;
    char *paths[TEST_ARCH_FOLDERS]; /* owned, by name within each of the two places */
} test_folders;

static inline bool test_is_decoder(const char *folder) {
    char path[TEST_PATH_MAX];
    json_t *io = json_load_file(test_path(path, folder, "io.json"), 0, NULL);
    const bool greedy = json_is_object(json_object_get(io, "greedy"));
    json_decref(io);
    return greedy;
}

static inline int test_compare_paths(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static inline void test_folders_add(test_folders *f, const char *place) {
    char path[TEST_PATH_MAX];
    const int first = f->n;
    DIR *dir = opendir(place);
    for (const struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        if (test_is_decoder(test_path(path, place, e->d_name)) && f->n < TEST_ARCH_FOLDERS) {
            f->paths[f->n++] = strdup(path);
        }
    }
    if (dir) {
        closedir(dir);
    }
    qsort(f->paths + first, (size_t)(f->n - first), sizeof *f->paths, test_compare_paths);
}

/* All of them; a test that finds few has not found the folder. */
static inline void test_folders_init(test_folders *f) {
    f->n = 0;
    test_folders_add(f, SPAR_SOURCE_DIR "/tests/golden/arch");
    if (f->n < 30) {
        printf("tests/golden/arch has %d models\n", f->n);
        exit(1);
    }
    if (test_shared("golden/arch")) {
        test_folders_add(f, test_shared("golden/arch"));
    }
}

static inline void test_folders_release(test_folders *f) {
    for (int i = 0; i < f->n; i++) {
        free(f->paths[i]);
    }
}

/* What messages call a folder. */
static inline const char *test_folder_name(const char *path) {
    return strrchr(path, '/') + 1;
}

#endif
