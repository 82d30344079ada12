#include "text/jinja_unicode.h"

#include <utf8proc.h>

static utf8proc_category_t category(unsigned c) {
    return utf8proc_category((utf8proc_int32_t)c);
}

bool sp_jinja_is_space(unsigned c) {
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 ||
           (c > 0x85 && category(c) == UTF8PROC_CATEGORY_ZS) || c == 0x2028 || c == 0x2029;
}

bool sp_jinja_is_alpha(unsigned c) {
    const utf8proc_category_t k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool sp_jinja_is_decimal(unsigned c) {
    return category(c) == UTF8PROC_CATEGORY_ND;
}

bool sp_jinja_is_digit(unsigned c) {
    return sp_jinja_is_decimal(c) || c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 ||
           (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089);
}

bool sp_jinja_is_numeric(unsigned c) {
    const utf8proc_category_t k = category(c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool sp_jinja_is_upper(unsigned c) {
    return category(c) == UTF8PROC_CATEGORY_LU;
}

bool sp_jinja_is_lower(unsigned c) {
    return category(c) == UTF8PROC_CATEGORY_LL;
}

bool sp_jinja_is_printable(unsigned c) {
    switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return c == ' ';
    default:
        return true;
    }
}

void sp_jinja_put_upper(sp_str *out, unsigned c) {
    if (c == 0xdf) { /* the one letter in common use whose upper case is two */
        sp_str_puts(out, "SS");
        return;
    }
    sp_str_put_utf8(out, (unsigned)utf8proc_toupper((utf8proc_int32_t)c));
}

void sp_jinja_put_lower(sp_str *out, unsigned c) {
    if (c == 0x130) { /* and the one whose lower case is two */
        sp_str_puts(out, "i\xcc\x87");
        return;
    }
    sp_str_put_utf8(out, (unsigned)utf8proc_tolower((utf8proc_int32_t)c));
}

void sp_jinja_put_title(sp_str *out, unsigned c) {
    if (c == 0xdf) {
        sp_str_puts(out, "Ss");
        return;
    }
    sp_str_put_utf8(out, (unsigned)utf8proc_totitle((utf8proc_int32_t)c));
}

void sp_jinja_put_folded(sp_str *out, unsigned c) {
    enum { LONGEST = 8 }; /* no folding is longer than 3 */
    utf8proc_int32_t folded[LONGEST];
    const utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)c, folded, LONGEST, UTF8PROC_CASEFOLD, NULL);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        sp_str_put_utf8(out, (unsigned)folded[i]);
    }
}

unsigned sp_jinja_before(const char *s, size_t end, size_t *start) {
    unsigned c = 0;
    size_t at = end - 1;
    while (at > 0 && end - at < 4 && ((unsigned char)s[at] & 0xc0) == 0x80) {
        at--;
    }
    if (sp_utf8_decode(s + at, end - at, &c) != end - at) {
        at = end - 1;
        c = 0xfffd;
    }
    *start = at;
    return c;
}

void sp_jinja_trim(const char *s, size_t *from, size_t *to, bool left, bool right) {
    unsigned c = 0;
    while (left && *from < *to) {
        const size_t n = sp_utf8_decode(s + *from, *to - *from, &c);
        if (!sp_jinja_is_space(c)) {
            break;
        }
        *from += n;
    }
    size_t start = 0;
    while (right && *to > *from && sp_jinja_is_space(sp_jinja_before(s, *to, &start))) {
        *to = start < *from ? *from : start;
    }
}
