/* Models and data sets of the Hugging Face hub, in the cache that its own tools keep, and single
 * files behind a URL.
 *
 * The environment says where: HF_HUB_CACHE, HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE; and who asks:
 * HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_TOKEN_PATH. The token goes to the endpoint alone and is
 * stored nowhere. Of a hub, nothing but spar_pull asks over the network.
 */
#ifndef SPAR_HUB_H
#define SPAR_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include "spar/log.h"
#include "spar/status.h"

typedef struct spar_pull_options {
    const char *revision;        /* branch, tag or commit; NULL: main */
    bool dataset, offline;       /* a data set; only what the cache has */
    const char *const *include;  /* patterns of file names, of which one must match */
    const char *const *exclude;  /* patterns, of which none may */
    int n_include, n_exclude;    /* no include: what spar can read, of a model */
    const char *out;             /* folder for plain files; NULL: the cache (a URL: .) */
    const char *sha256;          /* of the file behind a URL; NULL: unknown */
    int64_t attempts;            /* at one file without a byte gained */
    double stall, patience;      /* seconds without a byte; of all pauses at one file */
    bool (*stop)(void *context); /* asked often; may be NULL */
    void *stop_context;          /* borrowed, as all of these */
    const spar_sink *sink;       /* may be NULL */
} spar_pull_options;

/* Fetch "org/name" of the hub, or a URL (https, http, file). *path (free()) is the folder with the
 * files, or the file. Files are checked by length and hash before they take their names; what was
 * received of a file stays, and the next call goes on from there. */
SPAR_API spar_status spar_pull(const char *what, const spar_pull_options *options, char **path,
                               spar_error *err);

/* Where a model is on disk: the path itself where it exists; for "hub:org/name[/FILE][@REVISION]",
 * and for "org/name" and the like where no such path exists, the place in the cache. Of a folder
 * that holds a single GGUF file and no config.json, that file. *path: free(). NOT_FOUND. */
SPAR_API spar_status spar_hub_place(char **path, const char *model, spar_error *err);

#endif
