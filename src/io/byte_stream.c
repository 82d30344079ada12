#include "io/byte_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* What tells how a file is compressed. */
enum { FIRST_BYTES = 4 };

/* Up to a buffer of bytes, at least `least` of them however a pipe cuts them; *n below least: the
 * file has ended. */
static spar_status read_bytes(const sp_byte_stream *s, void *bytes, size_t least, size_t *n,
                              spar_error *err) {
    *n = 0;
    while (*n < least) {
        const ssize_t got = read(s->fd, (char *)bytes + *n, SP_BYTE_STREAM_BUFFER - *n);
        if (got < 0 && errno != EINTR) {
            return spar_fail(err, SPAR_IO, "%s: cannot read: %s", s->name, strerror(errno));
        }
        if (got == 0) {
            break;
        }
        *n += got > 0 ? (size_t)got : 0;
    }
    return SPAR_OK;
}

spar_status sp_byte_stream_open(sp_byte_stream *s, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    const bool standard = strcmp(path, "-") == 0;
    const char *name = standard ? "standard input" : path;
    void *memory;
    *s = (sp_byte_stream){.fd = -1, .line = 1};
    SPAR_TRY(sp_mem_strdup(&s->name, name, strlen(name), err));
    SPAR_TRY(sp_mem_calloc(&memory, SP_BYTE_STREAM_BUFFER, 1, err));
    s->buffer = memory;
    s->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0) {
        SPAR_TRY(spar_fail(err, errno == ENOENT ? SPAR_NOT_FOUND : SPAR_IO, "%s: cannot open: %s",
                           path, strerror(errno)));
    }
done:
    if (status != SPAR_OK) {
        sp_byte_stream_close(s);
    }
    return status;
}

void sp_byte_stream_close(sp_byte_stream *s) {
    if (s->fd > STDIN_FILENO) {
        close(s->fd);
    }
    sp_expander_release(&s->expander);
    free(s->name);
    free(s->buffer);
    free(s->packed);
    *s = (sp_byte_stream){.fd = -1};
}

/* The first bytes of the file are in buffer: where they are compressed they move to packed. */
static spar_status begin_expanding(sp_byte_stream *s, spar_error *err) {
    void *memory;
    const sp_compression kind = sp_compression_detect((const uint8_t *)s->buffer, s->size);
    if (kind == SP_COMPRESSION_NONE) {
        return SPAR_OK;
    }
    spar_status status = sp_expander_init(&s->expander, kind, err);
    if (status == SPAR_OK) {
        status = sp_mem_calloc(&memory, SP_BYTE_STREAM_BUFFER, 1, err);
    }
    if (status != SPAR_OK) {
        spar_error_context(err, "%s", s->name);
        return status;
    }
    s->packed = memory;
    memcpy(s->packed, s->buffer, s->size);
    s->packed_size = s->size;
    s->packed_end = s->at_end;
    s->size = 0;
    s->at_end = false;
    return SPAR_OK;
}

/* One piece of the expanded bytes into buffer, possibly none. */
static spar_status expand_piece(sp_byte_stream *s, spar_error *err) {
    spar_status status = SPAR_OK;
    if (s->packed_at == s->packed_size && !s->packed_end) {
        SPAR_TRY(read_bytes(s, s->packed, 1, &s->packed_size, err));
        s->packed_at = 0;
        s->packed_end = s->packed_size == 0;
    }
    const uint8_t *from = s->packed + s->packed_at;
    size_t left = s->packed_size - s->packed_at;
    const size_t given = left;
    s->at_end = left == 0 && s->expander.between;
    if (s->at_end) {
        goto done;
    }
    s->size = SP_BYTE_STREAM_BUFFER;
    status = sp_expander_run(&s->expander, &from, &left, (uint8_t *)s->buffer, &s->size, err);
    if (status != SPAR_OK) {
        s->size = 0;
        spar_error_context(err, "%s", s->name);
        goto done;
    }
    s->packed_at = s->packed_size - left;
    if (s->size == 0 && left == given && !s->expander.between && s->packed_end) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: expected the end of its %s, found that of the file", s->name,
                           sp_compression_name(s->expander.kind)));
    }
done:
    return status;
}

spar_status sp_byte_stream_fill(sp_byte_stream *s, spar_error *err) {
    spar_status status = SPAR_OK;
    const bool first = s->size == 0 && !s->at_end && !s->packed;
    while (s->at == s->size && !s->at_end) {
        s->at = s->size = 0;
        if (s->packed) {
            SPAR_TRY(expand_piece(s, err));
            continue;
        }
        const size_t least = first ? FIRST_BYTES : 1;
        SPAR_TRY(read_bytes(s, s->buffer, least, &s->size, err));
        s->at_end = s->size < least;
        SPAR_TRY(first ? begin_expanding(s, err) : SPAR_OK);
    }
done:
    return status;
}

spar_status sp_byte_stream_peek(sp_byte_stream *s, int *byte, spar_error *err) {
    const spar_status status = sp_byte_stream_fill(s, err);
    *byte =
        status == SPAR_OK && s->at < s->size ? (unsigned char)s->buffer[s->at] : SP_BYTE_STREAM_END;
    return status;
}

void sp_byte_stream_skip(sp_byte_stream *s) {
    s->line += s->buffer[s->at++] == '\n';
}

static bool is_space(int byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

spar_status sp_byte_stream_skip_space(sp_byte_stream *s, int *next, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_byte_stream_peek(s, next, err));
    while (is_space(*next)) {
        sp_byte_stream_skip(s);
        SPAR_TRY(sp_byte_stream_peek(s, next, err));
    }
done:
    return status;
}

spar_status sp_byte_stream_skip_mark(sp_byte_stream *s, spar_error *err) {
    static const unsigned char mark[] = {0xef, 0xbb, 0xbf};
    spar_status status = SPAR_OK;
    int byte;
    SPAR_TRY(sp_byte_stream_peek(s, &byte, err));
    for (size_t i = 0; i < sizeof mark && byte == mark[i]; i++) {
        sp_byte_stream_skip(s);
        SPAR_TRY(sp_byte_stream_peek(s, &byte, err));
    }
done:
    return status;
}
