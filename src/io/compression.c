#include "io/compression.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#ifdef SPAR_HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef SPAR_HAVE_ZSTD
#include <zstd.h>
#endif
#ifdef SPAR_HAVE_SNAPPY
#include <snappy-c.h>
#endif

/* One row a kind; what the build leaves out has NULL functions. */
typedef struct compression {
    const char *name, *library; /* as "missing" names it */
    const char *answer;         /* of the version */
    spar_status (*block)(const uint8_t *bytes, size_t n, uint8_t *out, size_t size,
                         spar_error *err);
    spar_status (*open)(sp_expander *e, spar_error *err);
    spar_status (*run)(sp_expander *e, const uint8_t **in, size_t *n_in, uint8_t *out,
                       size_t *n_out, spar_error *err);
    void (*close)(sp_expander *e);
} compression;

#if defined(SPAR_HAVE_ZLIB) || defined(SPAR_HAVE_ZSTD)
static spar_status broken(const char *what, spar_error *err) {
    return spar_fail(err, SPAR_FORMAT,
                     "expected compressed bytes, found what cannot be expanded: %s", what);
}
#endif

#if defined(SPAR_HAVE_ZLIB) || defined(SPAR_HAVE_ZSTD) || defined(SPAR_HAVE_SNAPPY)
static spar_status wrong_size(size_t expected, size_t found, spar_error *err) {
    return spar_fail(err, SPAR_FORMAT, "expected a block that expands to %zu bytes, found %zu",
                     expected, found);
}
#endif

/* ---- gzip ---- */

#ifdef SPAR_HAVE_ZLIB
/* The largest window, and a header of gzip or zlib. */
enum { WINDOW_ANY_HEADER = 15 + 32 };

static spar_status gzip_open(sp_expander *e, spar_error *err) {
    void *memory;
    const spar_status status = sp_mem_calloc(&memory, 1, sizeof(z_stream), err);
    if (status != SPAR_OK) {
        return status;
    }
    e->state = memory;
    if (inflateInit2(e->state, WINDOW_ANY_HEADER) != Z_OK) {
        free(e->state);
        e->state = NULL;
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for gzip");
    }
    return SPAR_OK;
}

static void gzip_close(sp_expander *e) {
    inflateEnd(e->state);
    free(e->state);
}

static spar_status gzip_run(sp_expander *e, const uint8_t **in, size_t *n_in, uint8_t *out,
                            size_t *n_out, spar_error *err) {
    z_stream *z = e->state;
    const uInt most = 1 << 30;
    const uInt given = *n_in < most ? (uInt)*n_in : most,
               room = *n_out < most ? (uInt)*n_out : most;
    z->next_in = (Bytef *)(uintptr_t)*in; /* zlib takes it without const and only reads */
    z->avail_in = given;
    z->next_out = out;
    z->avail_out = room;
    if (e->between && given > 0) {
        inflateReset(z);
        e->between = false;
    }
    const int result = inflate(z, Z_NO_FLUSH);
    if (result == Z_MEM_ERROR) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for gzip");
    }
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
        return broken(z->msg ? z->msg : "a preset dictionary", err);
    }
    e->between = result == Z_STREAM_END;
    *in += given - z->avail_in;
    *n_in -= given - z->avail_in;
    *n_out = room - z->avail_out;
    return SPAR_OK;
}

static spar_status gzip_block(const uint8_t *bytes, size_t n, uint8_t *out, size_t size,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    sp_expander e = {.kind = SP_COMPRESSION_GZIP};
    size_t made = 0;
    bool goes_on = true;
    SPAR_TRY(gzip_open(&e, err));
    while (n > 0 && goes_on) {
        const size_t before = n;
        size_t got = size - made;
        SPAR_TRY(gzip_run(&e, &bytes, &n, out + made, &got, err));
        made += got;
        goes_on = got > 0 || n < before;
    }
    if (!e.between) {
        SPAR_TRY(broken(n > 0 ? "it is longer than announced" : "it is cut short", err));
    }
    SPAR_TRY(made == size ? SPAR_OK : wrong_size(size, made, err));
done:
    if (e.state) {
        gzip_close(&e);
    }
    return status;
}
#define GZIP_ROW                                                                                   \
    { "gzip", "zlib", "yes (zlib " ZLIB_VERSION ")", gzip_block, gzip_open, gzip_run, gzip_close }
#else
#define GZIP_ROW                                                                                   \
    { "gzip", "zlib", "no", NULL, NULL, NULL, NULL }
#endif

/* ---- zstd ---- */

#ifdef SPAR_HAVE_ZSTD
static spar_status zstd_open(sp_expander *e, spar_error *err) {
    e->state = ZSTD_createDStream();
    return e->state ? SPAR_OK : spar_fail(err, SPAR_NO_MEMORY, "out of memory for zstd");
}

static void zstd_close(sp_expander *e) {
    ZSTD_freeDStream(e->state);
}

static spar_status zstd_run(sp_expander *e, const uint8_t **in, size_t *n_in, uint8_t *out,
                            size_t *n_out, spar_error *err) {
    ZSTD_inBuffer from = {*in, *n_in, 0};
    ZSTD_outBuffer to = {out, *n_out, 0};
    const size_t result = ZSTD_decompressStream(e->state, &to, &from);
    if (ZSTD_isError(result)) {
        return broken(ZSTD_getErrorName(result), err);
    }
    e->between = result == 0;
    *in += from.pos;
    *n_in -= from.pos;
    *n_out = to.pos;
    return SPAR_OK;
}

static spar_status zstd_block(const uint8_t *bytes, size_t n, uint8_t *out, size_t size,
                              spar_error *err) {
    const size_t made = ZSTD_decompress(out, size, bytes, n);
    if (ZSTD_isError(made)) {
        return broken(ZSTD_getErrorName(made), err);
    }
    return made == size ? SPAR_OK : wrong_size(size, made, err);
}
#define ZSTD_ROW                                                                                   \
    {                                                                                              \
        "zstd", "libzstd", "yes (libzstd " ZSTD_VERSION_STRING ")", zstd_block, zstd_open,         \
            zstd_run, zstd_close                                                                   \
    }
#else
#define ZSTD_ROW                                                                                   \
    { "zstd", "libzstd", "no", NULL, NULL, NULL, NULL }
#endif

/* ---- snappy ---- */

#ifdef SPAR_HAVE_SNAPPY
static spar_status snappy_block(const uint8_t *bytes, size_t n, uint8_t *out, size_t size,
                                spar_error *err) {
    size_t announced = 0;
    const char *from = (const char *)bytes;
    if (snappy_uncompressed_length(from, n, &announced) != SNAPPY_OK || announced != size) {
        return wrong_size(size, announced, err);
    }
    if (snappy_uncompress(from, n, (char *)out, &announced) != SNAPPY_OK) {
        return spar_fail(err, SPAR_FORMAT, "expected a block of snappy, found what is none");
    }
    return SPAR_OK;
}
#define SNAPPY_ROW                                                                                 \
    { "snappy", "libsnappy", "yes (libsnappy)", snappy_block, NULL, NULL, NULL }
#else
#define SNAPPY_ROW                                                                                 \
    { "snappy", "libsnappy", "no", NULL, NULL, NULL, NULL }
#endif

static const compression KINDS[] = {
    [SP_COMPRESSION_NONE] = {"none", "", "", NULL, NULL, NULL, NULL},
    [SP_COMPRESSION_GZIP] = GZIP_ROW,
    [SP_COMPRESSION_ZSTD] = ZSTD_ROW,
    [SP_COMPRESSION_SNAPPY] = SNAPPY_ROW};

/* ---- all kinds ---- */

sp_compression sp_compression_detect(const uint8_t *bytes, size_t n) {
    static const uint8_t gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    static const uint8_t skippable[] = {0x2a, 0x4d, 0x18}; /* behind 0x50 to 0x5f */
    if (n >= sizeof gzip && memcmp(bytes, gzip, sizeof gzip) == 0) {
        return SP_COMPRESSION_GZIP;
    }
    const bool skips = n >= 4 && (bytes[0] & 0xf0) == 0x50 && memcmp(bytes + 1, skippable, 3) == 0;
    return skips || (n >= sizeof zstd && memcmp(bytes, zstd, sizeof zstd) == 0)
               ? SP_COMPRESSION_ZSTD
               : SP_COMPRESSION_NONE;
}

const char *sp_compression_name(sp_compression kind) {
    return KINDS[kind].name;
}

const char *sp_compression_library(sp_compression kind) {
    return KINDS[kind].answer;
}

static spar_status missing(sp_compression kind, spar_error *err) {
    return spar_fail(err, SPAR_UNSUPPORTED, "is compressed by %s, and this build has no %s",
                     KINDS[kind].name, KINDS[kind].library);
}

spar_status sp_expand_block(sp_compression kind, const uint8_t *bytes, size_t n, uint8_t *out,
                            size_t size, spar_error *err) {
    return KINDS[kind].block ? KINDS[kind].block(bytes, n, out, size, err) : missing(kind, err);
}

spar_status sp_expander_init(sp_expander *e, sp_compression kind, spar_error *err) {
    *e = (sp_expander){.kind = kind};
    return KINDS[kind].open ? KINDS[kind].open(e, err) : missing(kind, err);
}

void sp_expander_release(sp_expander *e) {
    if (e->state) {
        KINDS[e->kind].close(e);
    }
    *e = (sp_expander){0};
}

spar_status sp_expander_run(sp_expander *e, const uint8_t **in, size_t *n_in, uint8_t *out,
                            size_t *n_out, spar_error *err) {
    const size_t before = *n_in;
    const spar_status status = KINDS[e->kind].run(e, in, n_in, out, n_out, err);
    if (status != SPAR_OK) {
        return status;
    }
    e->taken += before - *n_in;
    e->made += *n_out;
    if (e->made > SP_EXPAND_FREE && e->made / SP_EXPAND_RATIO > e->taken) {
        return spar_fail(err, SPAR_LIMIT,
                         "expected %s of at most %d times its size, found %llu bytes from %llu",
                         KINDS[e->kind].name, SP_EXPAND_RATIO, (unsigned long long)e->made,
                         (unsigned long long)e->taken);
    }
    return SPAR_OK;
}
