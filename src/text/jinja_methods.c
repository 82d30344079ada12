/* Methods of strings, lists, dicts, loops and cyclers. */
#include <math.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

#define METHOD(name)                                                                               \
    static sp_jval method_##name(sp_jinja *r, sp_jval v, const sp_jval *a, const sp_jargs *args)
#define UNUSED (void)r, (void)v, (void)a, (void)args

static bool want_text(sp_jinja *r, sp_jval v) {
    if (v.kind != J_STR) {
        sp_jinja_error(r, SPAR_INVALID, "expected a string argument, found '%s'",
                       sp_jinja_type_name(v));
    }
    return v.kind == J_STR;
}

static bool want_text_or_none(sp_jinja *r, sp_jval v) {
    return v.kind == J_ABSENT || v.kind == J_NONE || want_text(r, v);
}

static bool want_int(sp_jinja *r, sp_jval v, int64_t fallback, int64_t *out) {
    if (v.kind == J_ABSENT || v.kind == J_NONE) {
        *out = fallback;
        return true;
    }
    if (!sp_jinja_as_int(v, out)) {
        sp_jinja_error(r, SPAR_INVALID, "expected an integer argument, found '%s'",
                       sp_jinja_type_name(v));
        return false;
    }
    return true;
}

METHOD(strip) {
    UNUSED;
    return want_text_or_none(r, a[0]) ? sp_jinja_strip(r, v, a[0], true, true) : sp_jinja_failed();
}

METHOD(lstrip) {
    UNUSED;
    return want_text_or_none(r, a[0]) ? sp_jinja_strip(r, v, a[0], true, false) : sp_jinja_failed();
}

METHOD(rstrip) {
    UNUSED;
    return want_text_or_none(r, a[0]) ? sp_jinja_strip(r, v, a[0], false, true) : sp_jinja_failed();
}

static sp_jval split(sp_jinja *r, sp_jval v, const sp_jval *a, bool from_right) {
    int64_t limit = -1;
    if (!want_text_or_none(r, a[0]) || !want_int(r, a[1], -1, &limit)) {
        return sp_jinja_failed();
    }
    return sp_jinja_split(r, v, a[0], limit, from_right);
}

METHOD(split) {
    UNUSED;
    return split(r, v, a, false);
}

METHOD(rsplit) {
    UNUSED;
    return split(r, v, a, true);
}

METHOD(splitlines) {
    UNUSED;
    return sp_jinja_splitlines(r, v, a[0].kind != J_ABSENT && sp_jinja_truth(a[0]));
}

/* s cut to [a[1]:a[2]] as the optional bounds of find, startswith, ... have it. */
static sp_jval window(sp_jinja *r, sp_jval v, const sp_jval *a) {
    const sp_jval none = sp_jinja_none();
    if (a[1].kind == J_ABSENT) {
        return v;
    }
    return sp_jinja_slice(r, v, a[1], a[2].kind == J_ABSENT ? none : a[2], none);
}

static bool affix(const sp_jstr *s, const sp_jstr *part, bool end) {
    return s->n >= part->n && memcmp(end ? s->s + s->n - part->n : s->s, part->s, part->n) == 0;
}

static sp_jval has_affix(sp_jinja *r, sp_jval v, const sp_jval *a, bool end) {
    const sp_jval s = window(r, v, a);
    const bool many = a[0].kind == J_TUPLE;
    if (s.kind != J_STR || (!many && !want_text(r, a[0]))) {
        return sp_jinja_failed();
    }
    bool found = !many && affix(s.s, a[0].s, end);
    for (size_t i = 0; many && i < a[0].l->n && !found; i++) {
        if (!want_text(r, a[0].l->items[i])) {
            return sp_jinja_failed();
        }
        found = affix(s.s, a[0].l->items[i].s, end);
    }
    return sp_jinja_bool(found);
}

METHOD(startswith) {
    UNUSED;
    return has_affix(r, v, a, false);
}

METHOD(endswith) {
    UNUSED;
    return has_affix(r, v, a, true);
}

static sp_jval remove_affix(sp_jinja *r, sp_jval v, sp_jval part, bool end) {
    if (!want_text(r, part) || !affix(v.s, part.s, end)) {
        return r->failed ? sp_jinja_failed() : v;
    }
    return sp_jinja_borrow(r, v.s->s + (end ? 0 : part.s->n), v.s->n - part.s->n, v.s->markup);
}

METHOD(removeprefix) {
    UNUSED;
    return remove_affix(r, v, a[0], false);
}

METHOD(removesuffix) {
    UNUSED;
    return remove_affix(r, v, a[0], true);
}

METHOD(replace) {
    UNUSED;
    int64_t limit = -1;
    if (!want_text(r, a[0]) || !want_text(r, a[1]) || !want_int(r, a[2], -1, &limit)) {
        return sp_jinja_failed();
    }
    const sp_jval new = v.s->markup ? sp_jinja_escape(r, a[1]) : a[1];
    return new.kind == J_FAIL ? new : sp_jinja_replace(r, v, a[0], new, limit);
}

METHOD(upper) {
    UNUSED;
    return sp_jinja_upper(r, v);
}

METHOD(lower) {
    UNUSED;
    return sp_jinja_lower(r, v);
}

METHOD(casefold) {
    UNUSED;
    return sp_jinja_casefold(r, v);
}

METHOD(capitalize) {
    UNUSED;
    return sp_jinja_capitalize(r, v);
}

METHOD(swapcase) {
    UNUSED;
    sp_str out = SP_STR_INIT;
    for (size_t i = 0; i < v.s->n;) {
        unsigned c = 0;
        i += sp_utf8_decode(v.s->s + i, v.s->n - i, &c);
        (sp_jinja_is_upper(c) ? sp_jinja_put_lower : sp_jinja_put_upper)(&out, c);
    }
    return sp_jinja_take(r, &out, v.s->markup);
}

/* str.title: a letter that follows a letter is lowered, another is raised. */
METHOD(title) {
    UNUSED;
    sp_str out = SP_STR_INIT;
    bool inside = false;
    for (size_t i = 0; i < v.s->n;) {
        unsigned c = 0;
        i += sp_utf8_decode(v.s->s + i, v.s->n - i, &c);
        (inside ? sp_jinja_put_lower : sp_jinja_put_title)(&out, c);
        inside = sp_jinja_is_alpha(c);
    }
    return sp_jinja_take(r, &out, v.s->markup);
}

/* The code point index of the first or last place of a[0], or -1. */
static sp_jval find(sp_jinja *r, sp_jval v, const sp_jval *a, bool last) {
    const sp_jval s = window(r, v, a);
    int64_t start = 0;
    if (s.kind != J_STR || !want_text(r, a[0]) || !want_int(r, a[1], 0, &start)) {
        return sp_jinja_failed();
    }
    const int64_t n = (int64_t)sp_jinja_chars(v);
    start = start < 0 ? start + n : start;
    start = start < 0 ? 0 : start;
    const char *found = NULL;
    for (size_t at = 0; at <= s.s->n && (last || found == NULL) && sp_jinja_step(r, 1);) {
        const char *next = memmem(s.s->s + at, s.s->n - at, a[0].s->s, a[0].s->n);
        if (next == NULL) {
            break;
        }
        found = next;
        at = (size_t)(next - s.s->s) + 1;
    }
    if (found == NULL || start > n) {
        return sp_jinja_int(-1);
    }
    sp_jstr head = {.s = s.s->s, .n = (size_t)(found - s.s->s), .chars = SIZE_MAX};
    return sp_jinja_int(start + (int64_t)sp_jinja_chars((sp_jval){.kind = J_STR, .s = &head}));
}

METHOD(find) {
    UNUSED;
    return find(r, v, a, false);
}

METHOD(rfind) {
    UNUSED;
    return find(r, v, a, true);
}

static sp_jval found_or_fail(sp_jinja *r, sp_jval i) {
    return i.kind == J_INT && i.i < 0 ? sp_jinja_fail(r, SPAR_INVALID, "substring not found") : i;
}

METHOD(index) {
    UNUSED;
    return found_or_fail(r, find(r, v, a, false));
}

METHOD(rindex) {
    UNUSED;
    return found_or_fail(r, find(r, v, a, true));
}

METHOD(count) {
    UNUSED;
    const sp_jval s = window(r, v, a);
    int64_t count = 0;
    if (s.kind != J_STR || !want_text(r, a[0])) {
        return sp_jinja_failed();
    }
    if (a[0].s->n == 0) {
        return sp_jinja_int((int64_t)sp_jinja_chars(s) + 1);
    }
    for (size_t at = 0; at < s.s->n;) {
        const char *next = memmem(s.s->s + at, s.s->n - at, a[0].s->s, a[0].s->n);
        if (next == NULL) {
            break;
        }
        count++;
        at = (size_t)(next - s.s->s) + a[0].s->n;
    }
    return sp_jinja_int(count);
}

METHOD(join) {
    UNUSED;
    const sp_jval items = sp_jinja_iterate(r, a[0]);
    return items.kind == J_FAIL ? items : sp_jinja_join(r, v, items, true);
}

METHOD(format) {
    UNUSED;
    return sp_jinja_str_format(r, v, args);
}

static sp_jval all_are(sp_jval v, bool (*is)(unsigned)) {
    bool all = v.s->n > 0;
    for (size_t i = 0; i < v.s->n && all;) {
        unsigned c = 0;
        i += sp_utf8_decode(v.s->s + i, v.s->n - i, &c);
        all = is(c);
    }
    return sp_jinja_bool(all);
}

static bool is_alnum(unsigned c) {
    return sp_jinja_is_alpha(c) || sp_jinja_is_numeric(c);
}

static bool is_ascii(unsigned c) {
    return c < 0x80;
}

METHOD(isdigit) {
    UNUSED;
    return all_are(v, sp_jinja_is_digit);
}

METHOD(isdecimal) {
    UNUSED;
    return all_are(v, sp_jinja_is_decimal);
}

METHOD(isnumeric) {
    UNUSED;
    return all_are(v, sp_jinja_is_numeric);
}

METHOD(isalpha) {
    UNUSED;
    return all_are(v, sp_jinja_is_alpha);
}

METHOD(isalnum) {
    UNUSED;
    return all_are(v, is_alnum);
}

METHOD(isspace) {
    UNUSED;
    return all_are(v, sp_jinja_is_space);
}

METHOD(isascii) {
    UNUSED;
    return sp_jinja_bool(v.s->n == 0 || all_are(v, is_ascii).b);
}

METHOD(isprintable) {
    UNUSED;
    return sp_jinja_bool(v.s->n == 0 || all_are(v, sp_jinja_is_printable).b);
}

/* Spaces up to the next column that the tab size divides; none where it is 0 or less. */
METHOD(expandtabs) {
    UNUSED;
    sp_str out = SP_STR_INIT;
    int64_t size = 8, column = 0;
    if (!want_int(r, a[0], 8, &size)) {
        return sp_jinja_failed();
    }
    for (size_t i = 0; i < v.s->n && sp_jinja_room(r, &out) && sp_jinja_step(r, 1); i++) {
        const char c = v.s->s[i];
        int64_t left = c == '\t' && size > 0 ? size - column % size : 0;
        column = c == '\n' || c == '\r' ? 0 : column + left;
        column += c != '\t' && c != '\n' && c != '\r' && ((unsigned char)c & 0xc0) != 0x80;
        while (left-- > 0 && sp_jinja_room(r, &out)) {
            sp_str_putc(&out, ' ');
        }
        if (c != '\t') {
            sp_str_putc(&out, c);
        }
    }
    return sp_jinja_take(r, &out, v.s->markup);
}

METHOD(is_integer) {
    UNUSED;
    return sp_jinja_bool(isfinite(v.d) && v.d == floor(v.d));
}

static sp_jval run_test(sp_jinja *r, const char *name, sp_jval v) {
    bool verdict = false;
    const sp_jargs none = {0};
    sp_jinja_test(r, sp_jinja_borrow(r, name, strlen(name), false), v, &none, &verdict);
    return sp_jinja_bool(verdict);
}

METHOD(isupper) {
    UNUSED;
    return run_test(r, "upper", v);
}

METHOD(islower) {
    UNUSED;
    return run_test(r, "lower", v);
}

static sp_jval pad(sp_jinja *r, sp_jval v, const sp_jval *a, int where) {
    int64_t width = 0;
    const bool given = a[1].kind != J_ABSENT;
    if (!want_int(r, a[0], 0, &width) || (given && (!want_text(r, a[1]) || a[1].s->n != 1))) {
        return sp_jinja_fail(r, SPAR_INVALID, "the fill character must be one ASCII character");
    }
    return sp_jinja_pad(r, v, width, given ? a[1].s->s[0] : ' ', where);
}

METHOD(center) {
    UNUSED;
    return pad(r, v, a, 0);
}

METHOD(ljust) {
    UNUSED;
    return pad(r, v, a, -1);
}

METHOD(rjust) {
    UNUSED;
    return pad(r, v, a, 1);
}

METHOD(zfill) {
    UNUSED;
    int64_t width = 0;
    const bool sign = v.s->n > 0 && (v.s->s[0] == '-' || v.s->s[0] == '+');
    if (!want_int(r, a[0], 0, &width)) {
        return sp_jinja_failed();
    }
    const sp_jval digits = sp_jinja_borrow(r, v.s->s + sign, v.s->n - sign, false);
    if (digits.kind == J_FAIL) {
        return digits;
    }
    const sp_jval padded = sp_jinja_pad(r, digits, width - sign, '0', 1);
    return sign && padded.kind == J_STR
               ? sp_jinja_binary(r, "+", sp_jinja_text(r, v.s->s, 1), padded)
               : padded;
}

static sp_jval partition(sp_jinja *r, sp_jval v, sp_jval by, bool last) {
    if (!want_text(r, by)) {
        return sp_jinja_failed();
    }
    const sp_jval parts = sp_jinja_split(r, v, by, 1, last);
    const sp_jval empty = sp_jinja_text(r, "", 0);
    sp_jval tuple = sp_jinja_list(r, J_TUPLE, 3);
    if (r->failed) {
        return sp_jinja_failed();
    }
    const bool found = parts.l->n == 2;
    sp_jinja_push(r, tuple, found || !last ? parts.l->items[0] : empty);
    sp_jinja_push(r, tuple, found ? by : empty);
    sp_jinja_push(r, tuple, found ? parts.l->items[1] : last ? v : empty);
    return r->failed ? sp_jinja_failed() : tuple;
}

METHOD(partition) {
    UNUSED;
    return partition(r, v, a[0], false);
}

METHOD(rpartition) {
    UNUSED;
    return partition(r, v, a[0], true);
}

/* ---- dicts ---- */

static sp_jval view(sp_jinja *r, sp_jval v, const char *label, bool keys, bool values) {
    const sp_jval list = sp_jinja_list(r, J_VIEW, v.m->n);
    for (size_t i = 0; i < v.m->n && !r->failed; i++) {
        sp_jinja_push(r, list,
                      keys && values ? sp_jinja_pair(r, v.m->keys[i], v.m->values[i])
                      : keys         ? v.m->keys[i]
                                     : v.m->values[i]);
    }
    if (r->failed) {
        return sp_jinja_failed();
    }
    list.l->label = label;
    return list;
}

METHOD(items) {
    UNUSED;
    return view(r, v, "dict_items", true, true);
}

METHOD(keys) {
    UNUSED;
    return view(r, v, "dict_keys", true, false);
}

METHOD(values) {
    UNUSED;
    return view(r, v, "dict_values", false, true);
}

METHOD(get) {
    UNUSED;
    const sp_jval found = sp_jinja_get(r, v, a[0]);
    return found.kind != J_ABSENT ? found : a[1].kind != J_ABSENT ? a[1] : sp_jinja_none();
}

/* Of a dict, or of the type itself. */
METHOD(fromkeys) {
    UNUSED;
    if (v.kind == J_CALLABLE && !(v.call->row && strcmp(v.call->row->name, "dict") == 0)) {
        return sp_jinja_fail(r, SPAR_INVALID, "'function' object has no attribute 'fromkeys'");
    }
    const sp_jval keys = sp_jinja_iterate(r, a[0]);
    const sp_jval dict = sp_jinja_dict(r, J_DICT);
    for (size_t i = 0; !r->failed && i < keys.l->n; i++) {
        if (sp_jinja_hashable(r, keys.l->items[i])) {
            sp_jinja_put(r, dict, keys.l->items[i], a[1].kind == J_ABSENT ? sp_jinja_none() : a[1]);
        }
    }
    return r->failed ? sp_jinja_failed() : dict;
}

METHOD(dict_copy) {
    UNUSED;
    return v; /* values cannot change: a copy is the thing */
}

/* ---- sequences ---- */

METHOD(list_index) {
    UNUSED;
    for (size_t i = 0; i < v.l->n && !r->failed; i++) {
        if (sp_jinja_equal(r, v.l->items[i], a[0])) {
            return sp_jinja_int((int64_t)i);
        }
    }
    return sp_jinja_fail(r, SPAR_INVALID, "the value is not in the list");
}

METHOD(list_count) {
    UNUSED;
    int64_t count = 0;
    for (size_t i = 0; i < v.l->n && !r->failed; i++) {
        count += sp_jinja_equal(r, v.l->items[i], a[0]);
    }
    return sp_jinja_int(count);
}

/* ---- loops and cyclers ---- */

METHOD(cycle) {
    UNUSED;
    if (args->n_pos == 0) {
        return sp_jinja_fail(r, SPAR_INVALID, "no items for cycling given");
    }
    return args->pos[v.loop->index % args->n_pos];
}

METHOD(changed) {
    UNUSED;
    const sp_jval now = sp_jinja_list(r, J_TUPLE, args->n_pos);
    for (size_t i = 0; i < args->n_pos && !r->failed; i++) {
        sp_jinja_push(r, now, args->pos[i]);
    }
    if (r->failed) {
        return sp_jinja_failed();
    }
    const bool same = v.loop->changed.kind != J_ABSENT && sp_jinja_equal(r, v.loop->changed, now);
    v.loop->changed = now;
    return sp_jinja_bool(!same);
}

METHOD(cycler_next) {
    UNUSED;
    const sp_jval item = v.l->items[v.l->pos % v.l->n];
    v.l->pos++;
    return item;
}

METHOD(cycler_reset) {
    UNUSED;
    v.l->pos = 0;
    return sp_jinja_none();
}

enum {
    ON_STR = 1 << J_STR,
    ON_FLOAT = 1 << J_FLOAT,
    ON_DICT = 1 << J_DICT,
    ON_TYPE = 1 << J_CALLABLE,
    ON_LIST = 1 << J_LIST,
    ON_SEQUENCE = 1 << J_LIST | 1 << J_TUPLE | 1 << J_RANGE,
    ON_LOOP = 1 << J_LOOP,
    ON_CYCLER = 1 << J_CYCLER
};

const sp_jrow sp_jinja_methods[] = {
    {"strip", "?chars", method_strip, ON_STR},
    {"lstrip", "?chars", method_lstrip, ON_STR},
    {"rstrip", "?chars", method_rstrip, ON_STR},
    {"split", "?sep,?maxsplit", method_split, ON_STR},
    {"rsplit", "?sep,?maxsplit", method_rsplit, ON_STR},
    {"splitlines", "?keepends", method_splitlines, ON_STR},
    {"startswith", "prefix,?start,?end", method_startswith, ON_STR},
    {"endswith", "suffix,?start,?end", method_endswith, ON_STR},
    {"removeprefix", "prefix", method_removeprefix, ON_STR},
    {"removesuffix", "suffix", method_removesuffix, ON_STR},
    {"replace", "old,new,?count", method_replace, ON_STR},
    {"upper", "", method_upper, ON_STR},
    {"lower", "", method_lower, ON_STR},
    {"casefold", "", method_casefold, ON_STR},
    {"capitalize", "", method_capitalize, ON_STR},
    {"swapcase", "", method_swapcase, ON_STR},
    {"title", "", method_title, ON_STR},
    {"find", "sub,?start,?end", method_find, ON_STR},
    {"rfind", "sub,?start,?end", method_rfind, ON_STR},
    {"index", "sub,?start,?end", method_index, ON_STR},
    {"rindex", "sub,?start,?end", method_rindex, ON_STR},
    {"count", "sub,?start,?end", method_count, ON_STR},
    {"join", "iterable", method_join, ON_STR},
    {"format", NULL, method_format, ON_STR},
    {"isdigit", "", method_isdigit, ON_STR},
    {"isdecimal", "", method_isdecimal, ON_STR},
    {"isnumeric", "", method_isnumeric, ON_STR},
    {"isalpha", "", method_isalpha, ON_STR},
    {"isalnum", "", method_isalnum, ON_STR},
    {"isspace", "", method_isspace, ON_STR},
    {"isascii", "", method_isascii, ON_STR},
    {"isprintable", "", method_isprintable, ON_STR},
    {"isupper", "", method_isupper, ON_STR},
    {"islower", "", method_islower, ON_STR},
    {"expandtabs", "?tabsize", method_expandtabs, ON_STR},
    {"is_integer", "", method_is_integer, ON_FLOAT},
    {"center", "width,?fillchar", method_center, ON_STR},
    {"ljust", "width,?fillchar", method_ljust, ON_STR},
    {"rjust", "width,?fillchar", method_rjust, ON_STR},
    {"zfill", "width", method_zfill, ON_STR},
    {"partition", "sep", method_partition, ON_STR},
    {"rpartition", "sep", method_rpartition, ON_STR},
    {"items", "", method_items, ON_DICT},
    {"keys", "", method_keys, ON_DICT},
    {"values", "", method_values, ON_DICT},
    {"get", "key,?default", method_get, ON_DICT},
    {"fromkeys", "iterable,?value", method_fromkeys, ON_DICT | ON_TYPE},
    {"copy", "", method_dict_copy, ON_DICT | ON_LIST},
    {"index", "value", method_list_index, ON_SEQUENCE},
    {"count", "value", method_list_count, ON_SEQUENCE},
    {"cycle", NULL, method_cycle, ON_LOOP},
    {"changed", NULL, method_changed, ON_LOOP},
    {"next", "", method_cycler_next, ON_CYCLER},
    {"reset", "", method_cycler_reset, ON_CYCLER},
    /* the immutable sandbox refuses what changes a value */
    {"clear", NULL, NULL, ON_DICT | ON_LIST},
    {"pop", NULL, NULL, ON_DICT | ON_LIST},
    {"popitem", NULL, NULL, ON_DICT},
    {"setdefault", NULL, NULL, ON_DICT},
    {"update", NULL, NULL, ON_DICT},
    {"append", NULL, NULL, ON_LIST},
    {"extend", NULL, NULL, ON_LIST},
    {"insert", NULL, NULL, ON_LIST},
    {"remove", NULL, NULL, ON_LIST},
    {"reverse", NULL, NULL, ON_LIST},
    {"sort", NULL, NULL, ON_LIST},
    {NULL, NULL, NULL, 0},
};
