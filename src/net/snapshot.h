/* What the cache has of a commit: the wanted files of a snapshot, without the network. */
#ifndef SP_NET_SNAPSHOT_H
#define SP_NET_SNAPSHOT_H

#include "net/listing.h"

/* The files below the folder of a snapshot that the options want, in the order of their names. A
 * hash is the name of the blob that a link leads to; "" where that is none. NOT_FOUND for a link
 * without its blob. repo: named in messages. */
spar_status sp_snapshot_list(sp_listing *out, const char *folder, const char *repo,
                             const spar_pull_options *options, spar_error *err);

#endif
