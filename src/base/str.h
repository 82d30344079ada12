/* A growable byte string.
 *
 * data is always NUL-terminated once anything was appended (or NULL when empty), and may hold NUL
 * bytes inside: len is the truth. Appending can fail only for want of memory; the failure is sticky
 * (failed is set, later appends do nothing), so that a builder checks once at its end through
 * sp_str_status.
 */
#ifndef SP_BASE_STR_H
#define SP_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>

#include "spar/status.h"

typedef struct sp_str {
    char *data; /* owned */
    size_t len, capacity;
    bool failed;
} sp_str;

#define SP_STR_INIT                                                                                \
    { NULL, 0, 0, false }

void sp_str_release(sp_str *s); /* free and reset to empty */
void sp_str_clear(sp_str *s);   /* length 0, keeps the buffer and clears failed */
void sp_str_append(sp_str *s, const void *bytes, size_t n);
void sp_str_puts(sp_str *s, const char *text);
void sp_str_putc(sp_str *s, char c);
void sp_str_printf(sp_str *s, const char *fmt, ...) SPAR_PRINTF(2, 3);
void sp_str_truncate(sp_str *s, size_t len);
/* Append the UTF-8 form of a code point (U+0..U+10FFFF; others give U+FFFD). */
void sp_str_put_utf8(sp_str *s, unsigned code_point);
/* The bytes as a C string: "" when empty. Borrowed. */
const char *sp_str_get(const sp_str *s);
/* OK, or NO_MEMORY when any append failed. */
spar_status sp_str_status(const sp_str *s, spar_error *err);
/* Hand the buffer over to the caller (free()); s is empty afterwards. "" is given as an allocation.
 */
spar_status sp_str_take(sp_str *s, char **out, spar_error *err);

/* Decode one code point from s[0..n), n >= 1. Returns the bytes used (1..4); an ill-formed sequence
 * gives U+FFFD and 1. */
size_t sp_utf8_decode(const char *s, size_t n, unsigned *code_point);

/* Edit distance (insert, delete, substitute, swap of neighbours), for naming the nearest key. */
size_t sp_str_distance(const char *a, const char *b);

#endif
