#include "net/digest.h"

#include <stdio.h>
#include <string.h>

#ifdef SPAR_HAVE_CURL
#include <openssl/evp.h>

static spar_status check(int ok, spar_error *err) {
    return ok == 1 ? SPAR_OK : spar_fail(err, SPAR_INTERNAL, "libcrypto: a digest failed");
}

spar_status sp_digest_begin(sp_digest *d, size_t digits, int64_t size, spar_error *err) {
    char head[32];
    if (!d->context && !(d->context = EVP_MD_CTX_new())) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for a digest");
    }
    if (digits == SP_SHA256_DIGITS) {
        return check(EVP_DigestInit_ex(d->context, EVP_sha256(), NULL), err);
    }
    const int n = snprintf(head, sizeof head, "blob %lld", (long long)size);
    const spar_status status = check(EVP_DigestInit_ex(d->context, EVP_sha1(), NULL), err);
    return status == SPAR_OK ? sp_digest_add(d, head, (size_t)n + 1, err) : status;
}

spar_status sp_digest_add(sp_digest *d, const void *bytes, size_t n, spar_error *err) {
    return check(EVP_DigestUpdate(d->context, bytes, n), err);
}

spar_status sp_digest_end(sp_digest *d, char out[SP_DIGEST_TEXT], spar_error *err) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    const spar_status status = check(EVP_DigestFinal_ex(d->context, bytes, &n), err);
    for (unsigned i = 0; status == SPAR_OK && i < n; i++) {
        snprintf(out + 2 * (size_t)i, 3, "%02x", bytes[i]);
    }
    return status;
}

void sp_digest_release(sp_digest *d) {
    EVP_MD_CTX_free(d->context);
    d->context = NULL;
}

#else

static spar_status without(spar_error *err) {
    return spar_fail(err, SPAR_UNSUPPORTED, "this spar was built without libcrypto (SPAR_CURL)");
}

spar_status sp_digest_begin(sp_digest *d, size_t digits, int64_t size, spar_error *err) {
    (void)d, (void)digits, (void)size;
    return without(err);
}

spar_status sp_digest_add(sp_digest *d, const void *bytes, size_t n, spar_error *err) {
    (void)d, (void)bytes, (void)n;
    return without(err);
}

spar_status sp_digest_end(sp_digest *d, char out[SP_DIGEST_TEXT], spar_error *err) {
    (void)d, (void)out;
    return without(err);
}

void sp_digest_release(sp_digest *d) {
    (void)d;
}

#endif
