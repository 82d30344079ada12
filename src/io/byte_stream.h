/* The bytes of a file or of standard input, read once from front to back, expanded where they are
 * compressed. Bytes are looked at in the buffer: at..size, filled by sp_byte_stream_fill. */
#ifndef SP_IO_BYTE_STREAM_H
#define SP_IO_BYTE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/compression.h"

enum { SP_BYTE_STREAM_END = -1, SP_BYTE_STREAM_BUFFER = 1 << 16 };

typedef struct sp_byte_stream {
    int fd;
    char *name;      /* owned, for messages: the path, or "standard input" */
    char *buffer;    /* owned, SP_BYTE_STREAM_BUFFER bytes */
    size_t at, size; /* within buffer */
    int64_t line;    /* of the next byte, from 1, as sp_byte_stream_skip counts */
    bool at_end;     /* nothing follows size */
    uint8_t *packed; /* owned: bytes as the file has them; NULL where nothing is compressed */
    size_t packed_at, packed_size;
    bool packed_end;
    sp_expander expander;
} sp_byte_stream;

/* path "-": standard input. NOT_FOUND, IO; nothing is read yet. */
spar_status sp_byte_stream_open(sp_byte_stream *s, const char *path, spar_error *err);
void sp_byte_stream_close(sp_byte_stream *s); /* safe on zeros with fd -1, and twice */
/* Make at < size, unless the file has ended. Messages name the file. */
spar_status sp_byte_stream_fill(sp_byte_stream *s, spar_error *err);
/* *byte: the next one, not taken, or SP_BYTE_STREAM_END. */
spar_status sp_byte_stream_peek(sp_byte_stream *s, int *byte, spar_error *err);
/* Take the byte that peek gave, which was not the end. */
void sp_byte_stream_skip(sp_byte_stream *s);
/* Take white space; *next as by peek. */
spar_status sp_byte_stream_skip_space(sp_byte_stream *s, int *next, spar_error *err);
/* Take the byte order mark at the front, if there is one. */
spar_status sp_byte_stream_skip_mark(sp_byte_stream *s, spar_error *err);

#endif
