/* Digests of files as the hub names them, by libcrypto: SHA-256, and git's SHA-1 of a blob, which
 * is that of "blob SIZE", a NUL and the bytes. */
#ifndef SP_NET_DIGEST_H
#define SP_NET_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

typedef struct sp_digest {
    void *context; /* owned */
} sp_digest;

enum { SP_DIGEST_TEXT = 65, SP_SHA1_DIGITS = 40, SP_SHA256_DIGITS = 64 };

/* Begin, or begin again. digits: SP_SHA1_DIGITS for a git blob of size bytes, or SP_SHA256_DIGITS.
 * Zero the struct before its first use. */
spar_status sp_digest_begin(sp_digest *d, size_t digits, int64_t size, spar_error *err);
spar_status sp_digest_add(sp_digest *d, const void *bytes, size_t n, spar_error *err);
spar_status sp_digest_end(sp_digest *d, char out[SP_DIGEST_TEXT], spar_error *err); /* lower hex */
void sp_digest_release(sp_digest *d);

#endif
