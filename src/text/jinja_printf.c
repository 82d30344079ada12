/* Python's "format" % arguments. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_unicode.h"

/* One conversion: %(key)FLAGS WIDTH.PRECISION TYPE. */
typedef struct conversion {
    bool left, zero, plus, space, alternate;
    int64_t width, precision; /* precision -1: none */
    char type;
} conversion;

typedef struct printer {
    sp_jinja *r;
    const sp_jstr *format;
    size_t at;
    sp_jval arguments; /* a tuple, a dict, or one value */
    size_t used;
    sp_str out;
} printer;

static bool complain(printer *p, const char *what) {
    sp_jinja_error(p->r, SPAR_INVALID, "%s", what);
    return false;
}

static sp_jval next_argument(printer *p) {
    const sp_jval a = p->arguments;
    const size_t n = a.kind == J_TUPLE ? a.l->n : 1;
    if (p->used >= n) {
        return sp_jinja_fail(p->r, SPAR_INVALID, "not enough arguments for format string");
    }
    return a.kind == J_TUPLE ? a.l->items[p->used++] : (p->used++, a);
}

static char peek(const printer *p) {
    return p->at < p->format->n ? p->format->s[p->at] : '\0';
}

static int64_t read_count(printer *p) {
    int64_t n = 0;
    while (peek(p) >= '0' && peek(p) <= '9' && n < 1000000) {
        n = n * 10 + (p->format->s[p->at++] - '0');
    }
    return n;
}

static bool read_conversion(printer *p, conversion *c) {
    *c = (conversion){.precision = -1};
    for (;; p->at++) {
        const char f = peek(p);
        c->left = c->left || f == '-';
        c->zero = c->zero || f == '0';
        c->plus = c->plus || f == '+';
        c->space = c->space || f == ' ';
        c->alternate = c->alternate || f == '#';
        if (f == '\0' || strchr("-0+ #", f) == NULL) {
            break;
        }
    }
    c->width = read_count(p);
    if (peek(p) == '.') {
        p->at++;
        c->precision = read_count(p);
    }
    if (c->width > 100000 || c->precision > 300) {
        return complain(p, "a width or precision in a format string is too large");
    }
    c->type = peek(p);
    p->at++;
    return c->type != '\0' || complain(p, "incomplete format");
}

static void put_padded(printer *p, const conversion *c, const char *s, size_t n, bool number) {
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) {
        chars += ((unsigned char)s[i] & 0xc0) != 0x80;
    }
    const size_t pad = (size_t)c->width > chars ? (size_t)c->width - chars : 0;
    const bool zeros = number && c->zero && !c->left;
    const size_t sign = zeros && n > 0 && (*s == '-' || *s == '+' || *s == ' ');
    sp_str_append(&p->out, s, sign);
    for (size_t i = 0; i < pad && !c->left; i++) {
        sp_str_putc(&p->out, zeros ? '0' : ' ');
    }
    sp_str_append(&p->out, s + sign, n - sign);
    for (size_t i = 0; i < pad && c->left; i++) {
        sp_str_putc(&p->out, ' ');
    }
}

static bool put_text(printer *p, const conversion *c, sp_jval v) {
    sp_str text = SP_STR_INIT;
    bool good =
        c->type == 'r' ? sp_jinja_put_repr(p->r, &text, v) : sp_jinja_put_str(p->r, &text, v);
    if (good) {
        sp_jstr s = {.s = sp_str_get(&text), .n = text.len, .chars = SIZE_MAX};
        if (c->precision >= 0) {
            s.n = sp_jinja_offset(&s, (size_t)c->precision);
        }
        put_padded(p, c, s.s, s.n, false);
    }
    sp_str_release(&text);
    return good;
}

static bool put_integer(printer *p, const conversion *c, sp_jval v) {
    char text[80];
    int64_t i = 0;
    if (v.kind == J_FLOAT && c->type != 'x' && c->type != 'X' && c->type != 'o' && v.d > -9e18 &&
        v.d < 9e18) {
        v = sp_jinja_int((int64_t)v.d);
    }
    if (!sp_jinja_as_int(v, &i)) {
        return complain(p, "%d format: a real number is required");
    }
    const unsigned long long size = i < 0 ? 0ULL - (unsigned long long)i : (unsigned long long)i;
    const char *sign = i < 0 ? "-" : c->plus ? "+" : c->space ? " " : "";
    const char *prefix = !c->alternate    ? ""
                         : c->type == 'x' ? "0x"
                         : c->type == 'X' ? "0X"
                         : c->type == 'o' ? "0o"
                                          : "";
    char digits[32];
    snprintf(digits, sizeof digits,
             c->type == 'x'   ? "%llx"
             : c->type == 'X' ? "%llX"
             : c->type == 'o' ? "%llo"
                              : "%llu",
             size);
    snprintf(text, sizeof text, "%s%s%s", sign, prefix, digits);
    put_padded(p, c, text, strlen(text), true);
    return true;
}

static bool put_real(printer *p, const conversion *c, sp_jval v) {
    char text[700];
    if (!sp_jinja_is_number(v)) {
        return complain(p, "must be a real number");
    }
    const double d = sp_jinja_number(v);
    const int precision = c->precision < 0 ? 6 : (int)c->precision;
    const char type = (char)(c->type | 32);
    snprintf(text, sizeof text,
             type == 'e'   ? "%+.*e"
             : type == 'g' ? "%+.*g"
                           : "%+.*f",
             precision, d);
    const bool skip = text[0] == '+' && !c->plus;
    if (skip && c->space) {
        text[0] = ' ';
    }
    put_padded(p, c, text + (skip && !c->space), strlen(text) - (skip && !c->space), true);
    return true;
}

static bool put_char(printer *p, const conversion *c, sp_jval v) {
    sp_str text = SP_STR_INIT;
    if (v.kind == J_STR && sp_jinja_chars(v) == 1) {
        put_padded(p, c, v.s->s, v.s->n, false);
        return true;
    }
    if (v.kind != J_INT || v.i < 0 || v.i > 0x10ffff) {
        return complain(p, "%c requires int or char");
    }
    sp_str_put_utf8(&text, (unsigned)v.i);
    put_padded(p, c, sp_str_get(&text), text.len, false);
    sp_str_release(&text);
    return true;
}

static sp_jval keyed_argument(printer *p) {
    const char *end = memchr(p->format->s + p->at, ')', p->format->n - p->at);
    if (end == NULL || p->arguments.kind != J_DICT) {
        return sp_jinja_fail(p->r, SPAR_INVALID, "format requires a mapping");
    }
    const size_t n = (size_t)(end - p->format->s) - p->at - 1;
    const sp_jval key = sp_jinja_borrow(p->r, p->format->s + p->at + 1, n, false);
    p->at += n + 2;
    const sp_jval v = key.kind == J_FAIL ? key : sp_jinja_get(p->r, p->arguments, key);
    return v.kind == J_ABSENT ? sp_jinja_fail(p->r, SPAR_INVALID, "format: no key '%.*s'",
                                              (int)(n & 0xff), key.s->s)
                              : v;
}

static bool put_conversion(printer *p) {
    conversion c;
    const bool keyed = peek(p) == '(';
    sp_jval v = keyed ? keyed_argument(p) : sp_jinja_none();
    if (v.kind == J_FAIL || !read_conversion(p, &c)) {
        return false;
    }
    if (c.type == '%') {
        sp_str_putc(&p->out, '%');
        return true;
    }
    v = keyed ? v : next_argument(p);
    if (v.kind == J_FAIL) {
        return false;
    }
    switch (c.type) {
    case 's':
    case 'r':
        return put_text(p, &c, v);
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
        return put_integer(p, &c, v);
    case 'f':
    case 'F':
    case 'e':
    case 'E':
    case 'g':
    case 'G':
        return put_real(p, &c, v);
    case 'c':
        return put_char(p, &c, v);
    default:
        return complain(p, "unsupported format character");
    }
}

sp_jval sp_jinja_printf(sp_jinja *r, sp_jval format, sp_jval arguments) {
    printer p = {.r = r, .format = format.s, .arguments = arguments, .out = SP_STR_INIT};
    while (p.at < format.s->n && sp_jinja_room(r, &p.out)) {
        const char c = format.s->s[p.at++];
        if (c != '%') {
            sp_str_putc(&p.out, c);
        } else if (!put_conversion(&p)) {
            break;
        }
    }
    const bool plain = arguments.kind != J_DICT && arguments.kind != J_LIST;
    const size_t given = arguments.kind == J_TUPLE ? arguments.l->n : plain;
    if (p.used < given && !r->failed) {
        complain(&p, "not all arguments converted during string formatting");
    }
    return sp_jinja_take(r, &p.out, format.s->markup);
}
