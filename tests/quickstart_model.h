/* Where the quick-start model is: $SPAR_MODEL, or the cache that tools/fetch_model fills. */
#ifndef SPAR_TESTS_QUICKSTART_MODEL_H
#define SPAR_TESTS_QUICKSTART_MODEL_H

#include "support.h"

/* NULL when it is in neither place. */
static inline const char *quickstart_model(void) {
    static char path[TEST_PATH_MAX];
    const char *model = getenv("SPAR_MODEL");
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (model && model[0]) {
        return model;
    }
    const char *root = cache && cache[0] ? cache : home ? home : ".";
    snprintf(path, sizeof path, "%s%s/spar/SmolLM2-135M-Instruct.Q4_1.gguf", root,
             cache && cache[0] ? "" : "/.cache");
    return access(path, R_OK) == 0 ? path : NULL;
}

#endif
