/* A file that arrives in pieces, over several runs of the program perhaps: it grows under the name
 * of a part, which stays when a run ends early, and takes its final name whole and synced.
 */
#ifndef SP_BASE_PART_H
#define SP_BASE_PART_H

#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

typedef struct sp_part {
    int fd;
    char *path; /* owned */
    int64_t size;
} sp_part;

/* Open or create the part and hold it: BUSY where another process does. */
spar_status sp_part_open(sp_part *p, const char *path, spar_error *err);
/* Hand the bytes that are there to fn, in order. */
typedef spar_status (*sp_bytes_fn)(void *context, const void *bytes, size_t n, spar_error *err);
spar_status sp_part_read(const sp_part *p, sp_bytes_fn fn, void *context, spar_error *err);
spar_status sp_part_append(sp_part *p, const void *bytes, size_t n, spar_error *err);
spar_status sp_part_clear(sp_part *p, spar_error *err); /* back to no bytes */
/* Sync, rename, sync the folder. */
spar_status sp_part_finish(sp_part *p, const char *path, spar_error *err);
/* Let go; what has no bytes is removed, the rest stays. Safe twice. */
void sp_part_close(sp_part *p);

#endif
