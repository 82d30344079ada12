/* A sorted list of texts, and a walk along a text that finds those of them that begin it. */
#ifndef SP_TEXT_PREFIXES_H
#define SP_TEXT_PREFIXES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

typedef struct sp_prefix_entry {
    const char *text; /* borrowed, NUL-terminated, n >= 1 bytes */
    size_t n;
    int32_t value;
} sp_prefix_entry;

typedef struct sp_prefixes {
    sp_prefix_entry *entries; /* owned, by text; of equal texts the lowest value comes first */
    size_t n;
    uint32_t first[257]; /* range of the entries by first byte */
} sp_prefixes;

/* Takes over the array of entries. */
void sp_prefixes_init(sp_prefixes *out, sp_prefix_entry *entries, size_t n);
void sp_prefixes_release(sp_prefixes *prefixes);

/* The entries that agree with the bytes so far. */
typedef struct sp_prefix_walk {
    uint32_t low, high;
    size_t depth;
} sp_prefix_walk;

/* Go on by one byte from a walk that began as {0}. False: no entry begins so; else *value is of the
 * entry that ends here, -1 where none does. */
bool sp_prefixes_step(const sp_prefixes *prefixes, sp_prefix_walk *walk, unsigned char byte,
                      int32_t *value);

#endif
