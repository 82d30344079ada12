#include "base/str.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { REPLACEMENT = 0xFFFD, DISTANCE_MAX = 128 };

void sp_str_release(sp_str *s) {
    free(s->data);
    *s = (sp_str)SP_STR_INIT;
}

void sp_str_clear(sp_str *s) {
    s->len = 0;
    s->failed = false;
    if (s->data != NULL) {
        s->data[0] = '\0';
    }
}

/* Room for n more bytes and the NUL. */
static bool reserve(sp_str *s, size_t n) {
    if (s->failed) {
        return false;
    }
    void *data = s->data;
    if (n >= SIZE_MAX - s->len ||
        sp_mem_grow(&data, &s->capacity, s->len + n + 1, 1, NULL) != SPAR_OK) {
        s->failed = true;
        return false;
    }
    s->data = data;
    return true;
}

void sp_str_append(sp_str *s, const void *bytes, size_t n) {
    if (!reserve(s, n)) {
        return;
    }
    if (n > 0) {
        memcpy(s->data + s->len, bytes, n);
    }
    s->len += n;
    s->data[s->len] = '\0';
}

void sp_str_puts(sp_str *s, const char *text) {
    sp_str_append(s, text, strlen(text));
}

void sp_str_putc(sp_str *s, char c) {
    sp_str_append(s, &c, 1);
}

void sp_str_printf(sp_str *s, const char *fmt, ...) {
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, fmt, args);
    if (n < 0) {
        s->failed = true;
    } else if (reserve(s, (size_t)n)) {
        vsnprintf(s->data + s->len, (size_t)n + 1, fmt, again);
        s->len += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void sp_str_truncate(sp_str *s, size_t len) {
    if (len < s->len) {
        s->len = len;
        s->data[len] = '\0';
    }
}

void sp_str_put_utf8(sp_str *s, unsigned code_point) {
    unsigned c = code_point;
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
        c = REPLACEMENT;
    }
    unsigned char bytes[4];
    size_t n = 0;
    if (c < 0x80) {
        bytes[n++] = (unsigned char)c;
    } else if (c < 0x800) {
        bytes[n++] = (unsigned char)(0xC0 | c >> 6);
        bytes[n++] = (unsigned char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        bytes[n++] = (unsigned char)(0xE0 | c >> 12);
        bytes[n++] = (unsigned char)(0x80 | (c >> 6 & 0x3F));
        bytes[n++] = (unsigned char)(0x80 | (c & 0x3F));
    } else {
        bytes[n++] = (unsigned char)(0xF0 | c >> 18);
        bytes[n++] = (unsigned char)(0x80 | (c >> 12 & 0x3F));
        bytes[n++] = (unsigned char)(0x80 | (c >> 6 & 0x3F));
        bytes[n++] = (unsigned char)(0x80 | (c & 0x3F));
    }
    sp_str_append(s, bytes, n);
}

const char *sp_str_get(const sp_str *s) {
    return s->data != NULL ? s->data : "";
}

spar_status sp_str_status(const sp_str *s, spar_error *err) {
    if (s->failed) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory: text of more than %zu bytes", s->len);
    }
    return SPAR_OK;
}

spar_status sp_str_take(sp_str *s, char **out, spar_error *err) {
    *out = NULL;
    sp_str_append(s, "", 0); /* an empty builder still gives an allocation */
    spar_status status = sp_str_status(s, err);
    if (status == SPAR_OK) {
        *out = s->data;
        *s = (sp_str)SP_STR_INIT;
    }
    return status;
}

/* Length that the lead byte announces and the smallest code point of that length; 0 for none. */
static size_t utf8_lead(unsigned char c, unsigned *bits, unsigned *least) {
    if (c < 0x80) {
        *bits = c;
        *least = 0;
        return 1;
    }
    if ((c & 0xE0) == 0xC0) {
        *bits = c & 0x1Fu;
        *least = 0x80;
        return 2;
    }
    if ((c & 0xF0) == 0xE0) {
        *bits = c & 0x0Fu;
        *least = 0x800;
        return 3;
    }
    if ((c & 0xF8) == 0xF0) {
        *bits = c & 0x07u;
        *least = 0x10000;
        return 4;
    }
    return 0;
}

size_t sp_utf8_decode(const char *s, size_t n, unsigned *code_point) {
    unsigned c = 0, least = 0;
    const size_t length = utf8_lead((unsigned char)s[0], &c, &least);
    *code_point = REPLACEMENT;
    if (length == 0 || length > n) {
        return 1;
    }
    for (size_t i = 1; i < length; i++) {
        const unsigned char next = (unsigned char)s[i];
        if ((next & 0xC0) != 0x80) {
            return 1;
        }
        c = c << 6 | (next & 0x3Fu);
    }
    if (c < least || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) {
        return 1;
    }
    *code_point = c;
    return length;
}

static size_t least_of(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Only names are compared, so text beyond DISTANCE_MAX bytes does not count. */
size_t sp_str_distance(const char *a, const char *b) {
    const size_t na = strnlen(a, DISTANCE_MAX), nb = strnlen(b, DISTANCE_MAX);
    size_t rows[3][DISTANCE_MAX + 1] = {{0}};
    size_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= nb; j++) {
        last[j] = j;
    }
    for (size_t i = 1; i <= na; i++) {
        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            const size_t substitute = last[j - 1] + (a[i - 1] != b[j - 1]);
            row[j] = least_of(substitute, least_of(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                row[j] = least_of(row[j], before[j - 2] + 1);
            }
        }
        size_t *spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[nb];
}
