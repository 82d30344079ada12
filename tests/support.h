/* Small helpers that every test may use: the shared material, skipping, and scratch folders. */
#ifndef SPAR_TESTS_SUPPORT_H
#define SPAR_TESTS_SUPPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEST_SKIPPED = 77, TEST_PATH_MAX = 4096 };

/* Print why and leave the program with the status that the suite counts as "skipped". */
#define TEST_SKIP(...)                                                                             \
    do {                                                                                           \
        printf("skipped: ");                                                                       \
        printf(__VA_ARGS__);                                                                       \
        printf("\n");                                                                              \
        exit(TEST_SKIPPED);                                                                        \
    } while (0)

/* Path of an entry of the shared folder ($SPAR_SHARED, or "shared" beside the source tree), or NULL
 * when it is missing. The path stays valid until the eighth later call in the same thread. */
static inline const char *test_shared(const char *relative) {
    static _Thread_local char paths[8][TEST_PATH_MAX];
    static _Thread_local unsigned turn;
    char *path = paths[turn++ % 8];
    const char *root = getenv("SPAR_SHARED");
    int n = 0;
    if (root != NULL && root[0] != '\0') {
        n = snprintf(path, TEST_PATH_MAX, "%s/%s", root, relative);
    } else {
        n = snprintf(path, TEST_PATH_MAX, "%s/../shared/%s", SPAR_SOURCE_DIR, relative);
    }
    return n > 0 && n < TEST_PATH_MAX && access(path, R_OK) == 0 ? path : NULL;
}

/* As test_shared, but leaves the program as skipped when the entry is missing. */
static inline const char *test_shared_or_skip(const char *relative) {
    const char *path = test_shared(relative);
    if (path == NULL) {
        TEST_SKIP("the shared folder has no %s", relative);
    }
    return path;
}

/* A new empty folder under $TMPDIR or /tmp; path is filled. Leaves the program on failure. */
static inline char *test_temp_dir(char path[TEST_PATH_MAX]) {
    const char *root = getenv("TMPDIR");
    snprintf(path, TEST_PATH_MAX, "%s/spar-test-XXXXXX",
             root != NULL && root[0] != '\0' ? root : "/tmp");
    if (mkdtemp(path) == NULL) {
        perror(path);
        exit(1);
    }
    return path;
}

/* path = dir/name, for files of a scratch folder. */
static inline char *test_path(char path[TEST_PATH_MAX], const char *dir, const char *name) {
    const int n = snprintf(path, TEST_PATH_MAX, "%s/%s", dir, name);
    if (n < 0 || n >= TEST_PATH_MAX) {
        printf("path too long: %s\n", dir);
        exit(1);
    }
    return path;
}

#endif
