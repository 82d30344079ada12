/* Expanding gzip (RFC 1952), zstd (RFC 8878) and snappy: streams piece by piece, blocks at once.
 *
 * The libraries (zlib, libzstd, libsnappy) are options of the build; without one, what needs it is
 * refused by name. Input is hostile: a stream that grows past SP_EXPAND_FREE bytes and is more than
 * SP_EXPAND_RATIO times what it was made from is refused.
 */
#ifndef SP_IO_COMPRESSION_H
#define SP_IO_COMPRESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

enum { SP_EXPAND_FREE = 256 << 20, SP_EXPAND_RATIO = 1000 };

typedef enum sp_compression {
    SP_COMPRESSION_NONE,
    SP_COMPRESSION_GZIP,
    SP_COMPRESSION_ZSTD,
    SP_COMPRESSION_SNAPPY, /* blocks only */
} sp_compression;

/* By the first bytes of a file; NONE for anything else. */
sp_compression sp_compression_detect(const uint8_t *bytes, size_t n);
const char *sp_compression_name(sp_compression kind);
/* "yes (zlib 1.2.13)" or "no", static, for the version. */
const char *sp_compression_library(sp_compression kind);

/* Expand n bytes to just size bytes at out. FORMAT with what was found; UNSUPPORTED without the
 * library. The caller adds the place. */
spar_status sp_expand_block(sp_compression kind, const uint8_t *bytes, size_t n, uint8_t *out,
                            size_t size, spar_error *err);

/* A stream being expanded; several members or frames behind one another are one stream. */
typedef struct sp_expander {
    sp_compression kind;
    void *state;          /* owned: the library's */
    bool between;         /* no member or frame is open: the input may end here */
    uint64_t taken, made; /* bytes */
} sp_expander;

spar_status sp_expander_init(sp_expander *e, sp_compression kind, spar_error *err);
void sp_expander_release(sp_expander *e); /* safe on zeros */
/* Take from *in (n_in bytes, both advanced) and fill out, *n_out bytes of room on entry and bytes
 * made on return. Makes progress whenever there is input and room. */
spar_status sp_expander_run(sp_expander *e, const uint8_t **in, size_t *n_in, uint8_t *out,
                            size_t *n_out, spar_error *err);

#endif
