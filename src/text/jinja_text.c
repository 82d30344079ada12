#include "text/jinja_text.h"

#include <string.h>

#include "text/jinja_unicode.h"

static sp_jval part(sp_jinja *r, sp_jval s, size_t from, size_t to) {
    return sp_jinja_borrow(r, s.s->s + from, to - from, s.s->markup);
}

static bool char_in(unsigned c, const sp_jstr *set) {
    for (size_t i = 0; i < set->n;) {
        unsigned other = 0;
        i += sp_utf8_decode(set->s + i, set->n - i, &other);
        if (c == other) {
            return true;
        }
    }
    return false;
}

sp_jval sp_jinja_strip(sp_jinja *r, sp_jval s, sp_jval chars, bool left, bool right) {
    size_t from = 0;
    size_t to = s.s->n;
    unsigned c = 0;
    if (chars.kind != J_STR) {
        sp_jinja_trim(s.s->s, &from, &to, left, right);
        return part(r, s, from, to);
    }
    if (!sp_jinja_step(r, chars.s->n / 16)) {
        return sp_jinja_failed();
    }
    while (left && from < to) {
        const size_t n = sp_utf8_decode(s.s->s + from, to - from, &c);
        if (!char_in(c, chars.s) || !sp_jinja_step(r, chars.s->n / 16)) {
            break;
        }
        from += n;
    }
    size_t start = 0;
    while (right && to > from) {
        c = sp_jinja_before(s.s->s, to, &start);
        if (!char_in(c, chars.s) || start < from || !sp_jinja_step(r, chars.s->n / 16)) {
            break;
        }
        to = start;
    }
    return part(r, s, from, to);
}

/* ---- splitting ---- */

static void reverse(sp_jlist *l) {
    for (size_t i = 0; i < l->n / 2; i++) {
        const sp_jval swap = l->items[i];
        l->items[i] = l->items[l->n - 1 - i];
        l->items[l->n - 1 - i] = swap;
    }
}

static sp_jval split_space(sp_jinja *r, sp_jval s, int64_t limit) {
    sp_jval list = sp_jinja_list(r, J_LIST, 4);
    size_t at = 0;
    size_t to = s.s->n;
    sp_jinja_trim(s.s->s, &at, &to, true, false);
    while (at < to && !r->failed) {
        size_t end = at;
        unsigned c = 0;
        while (limit != 0 && end < to) {
            const size_t n = sp_utf8_decode(s.s->s + end, to - end, &c);
            if (sp_jinja_is_space(c)) {
                break;
            }
            end += n;
        }
        if (limit == 0) { /* the rest keeps the white space at its end */
            end = to;
        }
        limit -= limit > 0;
        sp_jinja_push(r, list, part(r, s, at, end));
        at = end;
        sp_jinja_trim(s.s->s, &at, &to, true, false);
    }
    return r->failed ? sp_jinja_failed() : list;
}

static sp_jval rsplit_space(sp_jinja *r, sp_jval s, int64_t limit) {
    sp_jval list = sp_jinja_list(r, J_LIST, 4);
    size_t from = 0;
    size_t to = s.s->n;
    sp_jinja_trim(s.s->s, &from, &to, false, true);
    while (to > from && !r->failed) {
        size_t start = to;
        size_t before = 0;
        while (limit != 0 && start > from &&
               !sp_jinja_is_space(sp_jinja_before(s.s->s, start, &before))) {
            start = before;
        }
        if (limit == 0) { /* the rest keeps the white space at its start */
            start = from;
        }
        limit -= limit > 0;
        sp_jinja_push(r, list, part(r, s, start, to));
        to = start;
        sp_jinja_trim(s.s->s, &from, &to, false, true);
    }
    if (!r->failed) {
        reverse(list.l);
    }
    return r->failed ? sp_jinja_failed() : list;
}

static sp_jval split_on(sp_jinja *r, sp_jval s, const sp_jstr *by, int64_t limit) {
    sp_jval list = sp_jinja_list(r, J_LIST, 4);
    size_t at = 0;
    while (!r->failed) {
        const char *found = limit == 0 ? NULL : memmem(s.s->s + at, s.s->n - at, by->s, by->n);
        if (found == NULL) {
            sp_jinja_push(r, list, part(r, s, at, s.s->n));
            break;
        }
        limit -= limit > 0;
        sp_jinja_push(r, list, part(r, s, at, (size_t)(found - s.s->s)));
        at = (size_t)(found - s.s->s) + by->n;
    }
    return r->failed ? sp_jinja_failed() : list;
}

static bool ends_at(const sp_jstr *s, size_t end, const sp_jstr *tail) {
    return end >= tail->n && memcmp(s->s + end - tail->n, tail->s, tail->n) == 0;
}

static sp_jval rsplit_on(sp_jinja *r, sp_jval s, const sp_jstr *by, int64_t limit) {
    sp_jval list = sp_jinja_list(r, J_LIST, 4);
    size_t to = s.s->n;
    size_t at = to;
    while (at >= by->n && limit != 0 && !r->failed) {
        if (!ends_at(s.s, at, by)) {
            at--;
            continue;
        }
        limit -= limit > 0;
        sp_jinja_push(r, list, part(r, s, at, to));
        at -= by->n;
        to = at;
    }
    sp_jinja_push(r, list, part(r, s, 0, to));
    if (!r->failed) {
        reverse(list.l);
    }
    return r->failed ? sp_jinja_failed() : list;
}

sp_jval sp_jinja_split(sp_jinja *r, sp_jval s, sp_jval separator, int64_t limit, bool from_right) {
    if (!sp_jinja_step(r, s.s->n / 64)) {
        return sp_jinja_failed();
    }
    if (separator.kind != J_STR) {
        return from_right ? rsplit_space(r, s, limit) : split_space(r, s, limit);
    }
    if (separator.s->n == 0) {
        return sp_jinja_fail(r, SPAR_INVALID, "empty separator");
    }
    return from_right ? rsplit_on(r, s, separator.s, limit) : split_on(r, s, separator.s, limit);
}

static bool ends_line(unsigned c) {
    return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

sp_jval sp_jinja_splitlines(sp_jinja *r, sp_jval s, bool keep_ends) {
    sp_jval list = sp_jinja_list(r, J_LIST, 4);
    size_t from = 0;
    for (size_t at = 0; at < s.s->n && !r->failed;) {
        unsigned c = 0;
        const size_t end = at;
        at += sp_utf8_decode(s.s->s + at, s.s->n - at, &c);
        if (ends_line(c)) {
            at += c == '\r' && at < s.s->n && s.s->s[at] == '\n';
            sp_jinja_push(r, list, part(r, s, from, keep_ends ? at : end));
            from = at;
        }
    }
    if (from < s.s->n && !r->failed) {
        sp_jinja_push(r, list, part(r, s, from, s.s->n));
    }
    return r->failed ? sp_jinja_failed() : list;
}

/* ---- changing ---- */

sp_jval sp_jinja_replace(sp_jinja *r, sp_jval s, sp_jval old, sp_jval new, int64_t limit) {
    sp_str out = SP_STR_INIT;
    size_t at = 0;
    while (limit != 0 && at <= s.s->n && sp_jinja_room(r, &out)) {
        const char *found = memmem(s.s->s + at, s.s->n - at, old.s->s, old.s->n);
        if (found == NULL) {
            break;
        }
        limit -= limit > 0;
        const size_t to = (size_t)(found - s.s->s);
        sp_str_append(&out, s.s->s + at, to - at);
        sp_str_append(&out, new.s->s, new.s->n);
        at = to + old.s->n;
        if (old.s->n == 0) { /* an empty pattern stands before every character */
            unsigned c = 0;
            const size_t n = at < s.s->n ? sp_utf8_decode(s.s->s + at, s.s->n - at, &c) : 0;
            sp_str_append(&out, s.s->s + at, n);
            at += n > 0 ? n : 1;
        }
    }
    if (at < s.s->n) {
        sp_str_append(&out, s.s->s + at, s.s->n - at);
    }
    return sp_jinja_room(r, &out) ? sp_jinja_take(r, &out, s.s->markup)
                                  : (sp_str_release(&out), sp_jinja_failed());
}

/* The first code point by one function, the others by the other. */
static sp_jval change_case(sp_jinja *r, sp_jval s, void (*first)(sp_str *, unsigned),
                           void (*rest)(sp_str *, unsigned)) {
    sp_str out = SP_STR_INIT;
    for (size_t i = 0; i < s.s->n;) {
        unsigned c = 0;
        const bool start = i == 0;
        i += sp_utf8_decode(s.s->s + i, s.s->n - i, &c);
        (start ? first : rest)(&out, c);
    }
    return sp_jinja_take(r, &out, s.s->markup);
}

sp_jval sp_jinja_upper(sp_jinja *r, sp_jval s) {
    return change_case(r, s, sp_jinja_put_upper, sp_jinja_put_upper);
}

sp_jval sp_jinja_lower(sp_jinja *r, sp_jval s) {
    return change_case(r, s, sp_jinja_put_lower, sp_jinja_put_lower);
}

sp_jval sp_jinja_capitalize(sp_jinja *r, sp_jval s) {
    return change_case(r, s, sp_jinja_put_title, sp_jinja_put_lower);
}

sp_jval sp_jinja_casefold(sp_jinja *r, sp_jval s) {
    return change_case(r, s, sp_jinja_put_folded, sp_jinja_put_folded);
}

sp_jval sp_jinja_pad(sp_jinja *r, sp_jval s, int64_t width, char fill, int where) {
    const size_t n = sp_jinja_chars(s);
    if (width <= 0 || (size_t)width <= n) {
        return s;
    }
    const size_t pad = (size_t)width - n;
    if (pad > SP_JINJA_MEMORY - r->memory) {
        return sp_jinja_fail(r, SPAR_LIMIT, "a string of %lld characters is too long",
                             (long long)width);
    }
    /* str.center puts the odd space to the left when the width is odd */
    const size_t left = where > 0 ? pad : where < 0 ? 0 : pad / 2 + (pad & (size_t)width & 1);
    sp_str out = SP_STR_INIT;
    for (size_t i = 0; i < left; i++) {
        sp_str_putc(&out, fill);
    }
    sp_str_append(&out, s.s->s, s.s->n);
    for (size_t i = left; i < pad; i++) {
        sp_str_putc(&out, fill);
    }
    return sp_jinja_take(r, &out, s.s->markup);
}

/* strict: items must be strings, and markup escapes (str.join); else they are made strings. */
sp_jval sp_jinja_join(sp_jinja *r, sp_jval separator, sp_jval items, bool strict) {
    sp_str out = SP_STR_INIT;
    const bool markup = strict && separator.s->markup;
    for (size_t i = 0; i < items.l->n; i++) {
        const sp_jval item = items.l->items[i];
        sp_str_append(&out, separator.s->s, i > 0 ? separator.s->n : 0);
        if (strict && item.kind != J_STR) {
            sp_jinja_error(r, SPAR_INVALID, "sequence item %zu: expected str instance, %s found", i,
                           sp_jinja_type_name(item));
        }
        if (markup && item.kind == J_STR) {
            sp_jinja_put_escaped(&out, item.s);
        } else if (!sp_jinja_put_str(r, &out, item)) {
            break;
        }
        if (!sp_jinja_step(r, 1) || !sp_jinja_room(r, &out)) {
            break;
        }
    }
    return sp_jinja_take(r, &out, markup);
}
