/* What files a repository of the hub has, by the hub's API, and which of them are wanted. */
#ifndef SP_NET_LISTING_H
#define SP_NET_LISTING_H

#include "net/digest.h"
#include "net/fetch.h"
#include "net/hub_names.h"

typedef struct sp_hub_file {
    char *path; /* owned; checked: it stays in its folder */
    int64_t size;
    char hash[SP_DIGEST_TEXT]; /* SHA-256 of a large file, git's SHA-1 of another; "": unknown */
} sp_hub_file;

typedef struct sp_listing {
    char commit[SP_COMMIT_TEXT];
    sp_hub_file *files; /* owned */
    size_t n, capacity;
} sp_listing;

/* A repository at a revision: what messages and URLs are made of. All borrowed. */
typedef struct sp_repo {
    const char *endpoint, *name, *revision;
    bool dataset;
} sp_repo;

spar_status sp_listing_fetch(sp_listing *out, sp_session *s, const sp_repo *repo, spar_error *err);
/* Drop what the options leave out. *dropped: how many. INVALID where nothing is left, or several
 * GGUF files and no choice. */
spar_status sp_listing_select(sp_listing *l, const sp_repo *repo, const spar_pull_options *options,
                              size_t *dropped, spar_error *err);
void sp_listing_release(sp_listing *l);

/* Whether the options want a file of this name. */
bool sp_hub_wants(const spar_pull_options *options, const char *path);

/* Append text as a part of a URL; slashes stay with keep_slash. */
void sp_url_escape(sp_str *out, const char *text, bool keep_slash);
/* The failure that a reply of a status other than 200 is. file: NULL for the repository. */
spar_status sp_hub_refused(const sp_repo *repo, const char *file, const sp_session *s,
                           const sp_http_reply *reply, spar_error *err);

#endif
