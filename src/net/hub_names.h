/* The hub's names, its settings in the environment, and its cache on disk:
 *
 *   CACHE/models--ORG--NAME/blobs/HASH       the bytes, by their hash; HASH.incomplete: a part
 *   .../refs/REVISION                        the commit of a branch or tag
 *   .../snapshots/COMMIT/FILE                links to the blobs
 */
#ifndef SP_NET_HUB_NAMES_H
#define SP_NET_HUB_NAMES_H

#include <stdbool.h>

#include "base/str.h"
#include "spar/status.h"

enum { SP_COMMIT_TEXT = 41 };

/* Names come from outside and become paths: INVALID for one that could lead elsewhere. */
spar_status sp_hub_check_repo(const char *repo, spar_error *err);
spar_status sp_hub_check_revision(const char *revision, spar_error *err);
spar_status sp_hub_check_file(const char *path, spar_error *err);
bool sp_hub_is_hex(const char *text, size_t digits); /* lower-case hex digits, and so many */

/* $HF_ENDPOINT, without slashes at its end. */
void sp_hub_endpoint(sp_str *out);
bool sp_hub_is_offline(void);
/* The token (free()), or NULL where there is none. */
spar_status sp_hub_token(char **out, spar_error *err);

/* The repository's folder in the cache. */
void sp_hub_folder(sp_str *out, const char *repo, bool dataset);
/* The commit of a revision; NOT_FOUND where the cache does not know it. */
spar_status sp_hub_commit(char commit[SP_COMMIT_TEXT], const char *folder, const char *revision,
                          spar_error *err);

#endif
