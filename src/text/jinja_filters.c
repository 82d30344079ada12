/* Filters of text, numbers and single values, and the table of all filters. */
#include "text/jinja_filters.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_text.h"
#include "text/jinja_unicode.h"

#define FILTER(name)                                                                               \
    static sp_jval filter_##name(sp_jinja *r, sp_jval v, const sp_jval *a, const sp_jargs *args)
#define UNUSED (void)r, (void)v, (void)a, (void)args

static bool flag(sp_jval v) {
    return v.kind != J_ABSENT && sp_jinja_truth(v);
}

static bool given(sp_jval v) {
    return v.kind != J_ABSENT && v.kind != J_NONE;
}

static bool int_argument(sp_jinja *r, sp_jval v, int64_t fallback, int64_t *out) {
    *out = fallback;
    if (given(v) && !sp_jinja_as_int(v, out)) {
        sp_jinja_error(r, SPAR_INVALID, "expected an integer argument, found '%s'",
                       sp_jinja_type_name(v));
        return false;
    }
    return true;
}

FILTER(trim) {
    UNUSED;
    const sp_jval s = sp_jinja_str(r, v);
    return s.kind == J_FAIL ? s : sp_jinja_strip(r, s, a[0], true, true);
}

FILTER(length) {
    UNUSED;
    if (!sp_jinja_has_length(v)) {
        return sp_jinja_fail(r, SPAR_INVALID, "object of type '%s' has no len()",
                             sp_jinja_type_name(v));
    }
    return sp_jinja_int((int64_t)sp_jinja_length(v));
}

FILTER(default) {
    UNUSED;
    if (v.kind == J_UNDEF || (flag(a[1]) && !sp_jinja_truth(v))) {
        return a[0].kind == J_ABSENT ? sp_jinja_text(r, "", 0) : a[0];
    }
    return v;
}

FILTER(upper) {
    UNUSED;
    const sp_jval s = sp_jinja_str(r, v);
    return s.kind == J_FAIL ? s : sp_jinja_upper(r, s);
}

FILTER(lower) {
    UNUSED;
    const sp_jval s = sp_jinja_str(r, v);
    return s.kind == J_FAIL ? s : sp_jinja_lower(r, s);
}

FILTER(capitalize) {
    UNUSED;
    const sp_jval s = sp_jinja_str(r, v);
    return s.kind == J_FAIL ? s : sp_jinja_capitalize(r, s);
}

/* Words begin behind white space and any of - ( { [ < */
FILTER(title) {
    UNUSED;
    const sp_jval s = sp_jinja_str(r, v);
    sp_str out = SP_STR_INIT;
    bool start = true;
    for (size_t i = 0; s.kind == J_STR && i < s.s->n;) {
        unsigned c = 0;
        i += sp_utf8_decode(s.s->s + i, s.s->n - i, &c);
        (start ? sp_jinja_put_upper : sp_jinja_put_lower)(&out, c);
        start = sp_jinja_is_space(c) || (c != 0 && c < 0x80 && strchr("-({[<", (int)c) != NULL);
    }
    return sp_jinja_take(r, &out, false);
}

FILTER(replace) {
    UNUSED;
    int64_t limit = -1;
    sp_jval s = sp_jinja_str(r, v);
    const sp_jval old = sp_jinja_str(r, a[0]);
    const sp_jval new = sp_jinja_str(r, a[1]);
    if (r->failed || !int_argument(r, a[2], -1, &limit)) {
        return sp_jinja_failed();
    }
    s = sp_jinja_borrow(r, s.s->s, s.s->n, false);
    return s.kind == J_FAIL ? s : sp_jinja_replace(r, s, old, new, limit);
}

FILTER(string) {
    UNUSED;
    return sp_jinja_str(r, v);
}

FILTER(safe) {
    UNUSED;
    const sp_jval s = sp_jinja_str(r, v);
    return s.kind == J_FAIL ? s : sp_jinja_borrow(r, s.s->s, s.s->n, true);
}

FILTER(escape) {
    UNUSED;
    return sp_jinja_escape(r, v);
}

FILTER(forceescape) {
    UNUSED;
    const sp_jval s = sp_jinja_str(r, v);
    return s.kind == J_FAIL ? s : sp_jinja_escape(r, sp_jinja_borrow(r, s.s->s, s.s->n, false));
}

FILTER(center) {
    UNUSED;
    int64_t width = 80;
    const sp_jval s = sp_jinja_str(r, v);
    return s.kind == J_FAIL || !int_argument(r, a[0], 80, &width)
               ? sp_jinja_failed()
               : sp_jinja_pad(r, s, width, ' ', 0);
}

FILTER(indent) {
    UNUSED;
    int64_t width = 4;
    sp_jval by = a[0];
    if (v.kind != J_STR) { /* the one text filter that converts nothing */
        return sp_jinja_fail(r, SPAR_INVALID, "indent expects a string, not '%s'",
                             sp_jinja_type_name(v));
    }
    if (by.kind != J_STR) {
        by = int_argument(r, by, 4, &width)
                 ? sp_jinja_binary(r, "*", sp_jinja_text(r, " ", 1), sp_jinja_int(width))
                 : sp_jinja_failed();
    }
    const sp_jval newline = sp_jinja_text(r, "\n", 1);
    const sp_jval whole = r->failed ? sp_jinja_failed() : sp_jinja_binary(r, "+", v, newline);
    const sp_jval lines = r->failed ? sp_jinja_failed() : sp_jinja_splitlines(r, whole, false);
    sp_str out = SP_STR_INIT;
    for (size_t i = 0; !r->failed && i < lines.l->n; i++) {
        const sp_jstr *line = lines.l->items[i].s;
        sp_str_puts(&out, i > 0 ? "\n" : "");
        if (i == 0 ? flag(a[1]) : flag(a[2]) || line->n > 0) {
            sp_str_append(&out, by.s->s, by.s->n);
        }
        sp_str_append(&out, line->s, line->n);
        if (!sp_jinja_room(r, &out)) {
            break;
        }
    }
    return sp_jinja_take(r, &out, v.s->markup);
}

FILTER(truncate) {
    UNUSED;
    int64_t length = 255;
    int64_t leeway = 5;
    const sp_jval end = given(a[2]) ? sp_jinja_str(r, a[2]) : sp_jinja_text(r, "...", 3);
    if (r->failed || !int_argument(r, a[0], 255, &length) || !int_argument(r, a[3], 5, &leeway)) {
        return sp_jinja_failed();
    }
    const int64_t keep = length - (int64_t)sp_jinja_chars(end);
    if (keep < 0 || leeway < 0) {
        return sp_jinja_fail(r, SPAR_INVALID, "truncate: the length is too small");
    }
    if (sp_jinja_has_length(v) && (int64_t)sp_jinja_length(v) <= length + leeway) {
        return v;
    }
    if (v.kind != J_STR) {
        return sp_jinja_fail(r, SPAR_INVALID, "truncate expects a string, not '%s'",
                             sp_jinja_type_name(v));
    }
    sp_jval head = sp_jinja_slice(r, v, sp_jinja_none(), sp_jinja_int(keep), sp_jinja_none());
    if (head.kind == J_STR && !flag(a[1])) {
        const sp_jval parts = sp_jinja_split(r, head, sp_jinja_text(r, " ", 1), 1, true);
        head = parts.kind == J_FAIL ? parts : parts.l->items[0];
    }
    return head.kind == J_FAIL ? head : sp_jinja_binary(r, "+", head, end);
}

FILTER(wordcount) {
    UNUSED;
    const sp_jval s = sp_jinja_str(r, v);
    int64_t count = 0;
    bool inside = false;
    for (size_t i = 0; s.kind == J_STR && i < s.s->n;) {
        unsigned c = 0;
        i += sp_utf8_decode(s.s->s + i, s.s->n - i, &c);
        const bool word = c == '_' || sp_jinja_is_alpha(c) || sp_jinja_is_numeric(c);
        count += word && !inside;
        inside = word;
    }
    return s.kind == J_FAIL ? s : sp_jinja_int(count);
}

/* Tags and comments out, runs of white space to one space. */
FILTER(striptags) {
    UNUSED;
    const sp_jval s = sp_jinja_str(r, v);
    sp_str out = SP_STR_INIT;
    for (size_t i = 0; s.kind == J_STR && i < s.s->n; i++) {
        const bool comment = s.s->n - i >= 4 && memcmp(s.s->s + i, "<!--", 4) == 0;
        const char *close = comment ? "-->" : ">";
        const char *end =
            s.s->s[i] != '<' ? NULL : memmem(s.s->s + i, s.s->n - i, close, strlen(close));
        if (end != NULL) {
            i = (size_t)(end - s.s->s) + strlen(close) - 1;
        } else {
            sp_str_putc(&out, s.s->s[i]);
        }
    }
    const sp_jval bare = sp_jinja_take(r, &out, false);
    const sp_jval words =
        bare.kind == J_FAIL ? bare : sp_jinja_split(r, bare, sp_jinja_none(), -1, false);
    return words.kind == J_FAIL ? words : sp_jinja_join(r, sp_jinja_text(r, " ", 1), words, false);
}

static void put_quoted(sp_str *out, const sp_jstr *s, bool query) {
    for (size_t i = 0; i < s->n; i++) {
        const char c = s->s[i];
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') ||
                           (c != '\0' && strchr(query ? "_.-~" : "_.-~/", c) != NULL);
        if (plain) {
            sp_str_putc(out, c);
        } else if (query && c == ' ') {
            sp_str_putc(out, '+');
        } else {
            sp_str_printf(out, "%%%02X", (unsigned)(unsigned char)c);
        }
    }
}

static sp_jval quote_pairs(sp_jinja *r, sp_jval pairs) {
    sp_str out = SP_STR_INIT;
    for (size_t i = 0; i < pairs.l->n && !r->failed; i++) {
        const sp_jval pair = sp_jinja_iterate(r, pairs.l->items[i]);
        if (pair.kind == J_FAIL || pair.l->n != 2) {
            sp_jinja_error(r, SPAR_INVALID, "urlencode expects pairs");
            break;
        }
        const sp_jval key = sp_jinja_str(r, pair.l->items[0]);
        const sp_jval value = sp_jinja_str(r, pair.l->items[1]);
        if (r->failed) {
            break;
        }
        sp_str_puts(&out, i > 0 ? "&" : "");
        put_quoted(&out, key.s, true);
        sp_str_putc(&out, '=');
        put_quoted(&out, value.s, true);
    }
    return sp_jinja_take(r, &out, false);
}

FILTER(urlencode) {
    UNUSED;
    if (v.kind != J_STR && sp_jinja_iterable(v) && v.kind != J_UNDEF) {
        const sp_jval pairs =
            sp_jinja_iterate(r, v.kind == J_DICT ? sp_jinja_filter_items(r, v, a, args) : v);
        return pairs.kind == J_FAIL ? pairs : quote_pairs(r, pairs);
    }
    const sp_jval s = sp_jinja_str(r, v);
    sp_str out = SP_STR_INIT;
    if (s.kind == J_STR) {
        put_quoted(&out, s.s, false);
    }
    return sp_jinja_take(r, &out, false);
}

FILTER(format) {
    UNUSED;
    const sp_jval s = sp_jinja_str(r, v);
    const bool keyed = args->n_named > 0;
    sp_jval values = keyed ? sp_jinja_dict(r, J_DICT) : sp_jinja_list(r, J_TUPLE, args->n_pos);
    if (keyed && args->n_pos > 0) {
        return sp_jinja_fail(r, SPAR_INVALID,
                             "can't handle positional and keyword arguments at the same time");
    }
    for (size_t i = 0; i < args->n_pos && !r->failed; i++) {
        sp_jinja_push(r, values, args->pos[i]);
    }
    for (size_t i = 0; i < args->n_named && !r->failed; i++) {
        sp_jinja_put(r, values, args->names[i], args->values[i]);
    }
    return r->failed ? sp_jinja_failed() : sp_jinja_printf(r, s, values);
}

FILTER(attr) {
    UNUSED;
    const sp_jval name = sp_jinja_str(r, a[0]);
    if (name.kind == J_FAIL) {
        return name;
    }
    if (v.kind == J_DICT && sp_jinja_find_row(sp_jinja_methods, name, 1U << J_DICT) == NULL) {
        return sp_jinja_undefined(r, "'dict object' has no such attribute");
    }
    return sp_jinja_attr(r, v, name);
}

/* tojson as transformers defines it: json.dumps, not HTML-safe. */
FILTER(tojson) {
    UNUSED;
    const bool compact = given(a[1]);
    sp_jinja_json how = {.ensure_ascii = flag(a[0]),
                         .sort_keys = flag(a[3]),
                         .indent = compact ? a[1] : sp_jinja_none(),
                         .item_separator = sp_jinja_text(r, ", ", compact ? 1 : 2),
                         .key_separator = sp_jinja_text(r, ": ", 2)};
    if (how.indent.kind == J_BOOL) {
        how.indent = sp_jinja_int(how.indent.b);
    }
    if (how.indent.kind != J_NONE && how.indent.kind != J_STR &&
        (how.indent.kind != J_INT || how.indent.i > 1000)) {
        return sp_jinja_fail(r, SPAR_INVALID, "tojson: indent must be a small integer or a string");
    }
    if (given(a[2])) {
        const sp_jval pair = sp_jinja_iterate(r, a[2]);
        if (pair.kind == J_FAIL || pair.l->n != 2 || pair.l->items[0].kind != J_STR ||
            pair.l->items[1].kind != J_STR) {
            return sp_jinja_fail(r, SPAR_INVALID, "tojson: separators must be two strings");
        }
        how.item_separator = pair.l->items[0];
        how.key_separator = pair.l->items[1];
    }
    sp_str out = SP_STR_INIT;
    if (!r->failed) {
        sp_jinja_put_json(r, &out, v, &how);
    }
    return sp_jinja_take(r, &out, false);
}

/* ---- numbers ---- */

/* A number in a whole string, white space around it allowed. */
static bool read_float(sp_jval v, double *d) {
    if (sp_jinja_is_number(v)) {
        *d = sp_jinja_number(v);
        return true;
    }
    if (v.kind != J_STR || v.s->n > 400) {
        return false;
    }
    char text[401];
    size_t from = 0;
    size_t to = v.s->n;
    sp_jinja_trim(v.s->s, &from, &to, true, true);
    memcpy(text, v.s->s + from, to - from);
    text[to - from] = '\0';
    char *end = text;
    *d = strtod(text, &end);
    return to > from && *end == '\0' && strpbrk(text, "xXpP(") == NULL;
}

static bool read_int(sp_jval v, int base, int64_t *out, bool *large) {
    char text[80];
    size_t from = 0;
    size_t to = v.s->n;
    sp_jinja_trim(v.s->s, &from, &to, true, true);
    if (to == from || to - from >= sizeof text) {
        return false;
    }
    memcpy(text, v.s->s + from, to - from);
    text[to - from] = '\0';
    const char *digits = text + (text[0] == '-' || text[0] == '+');
    const char prefix = digits[0] == '0' ? (char)(digits[1] | 32) : '\0';
    const bool prefixed = (prefix == 'x' && base == 16) || (prefix == 'b' && base == 2) ||
                          (prefix == 'o' && base == 8);
    char *end = text;
    errno = 0;
    const long long value = strtoll(prefixed ? digits + 2 : digits, &end, base);
    *out = text[0] == '-' ? -(int64_t)value : (int64_t)value;
    *large = errno == ERANGE;
    return *end == '\0' && end != digits && *digits != '-' && *digits != '+' && *digits != ' ';
}

#define BEYOND " is beyond 64-bit whole numbers"

FILTER(int) {
    UNUSED;
    int64_t i = 0;
    int64_t base = 10;
    double d = 0;
    bool large = false;
    if (sp_jinja_as_int(v, &i)) {
        return sp_jinja_int(i);
    }
    if (v.kind == J_UNDEF) {
        return sp_jinja_fail(r, SPAR_INVALID, "%s", v.undef);
    }
    if (!int_argument(r, a[1], 10, &base)) {
        return sp_jinja_failed();
    }
    if (v.kind == J_STR && base >= 2 && base <= 36 && read_int(v, (int)base, &i, &large)) {
        return large ? sp_jinja_fail(r, SPAR_LIMIT, "%.*s" BEYOND, (int)(v.s->n < 60 ? v.s->n : 60),
                                     v.s->s)
                     : sp_jinja_int(i);
    }
    if (!read_float(v, &d) || isnan(d) || (isinf(d) && v.kind == J_STR)) {
        return a[0].kind == J_ABSENT ? sp_jinja_int(0) : a[0];
    }
    if (!(fabs(d) < 9.2e18)) {
        return sp_jinja_fail(r, SPAR_LIMIT, "%g" BEYOND, d);
    }
    return sp_jinja_int((int64_t)d);
}

FILTER(float) {
    UNUSED;
    double d = 0;
    if (v.kind == J_UNDEF) {
        return sp_jinja_fail(r, SPAR_INVALID, "%s", v.undef);
    }
    return read_float(v, &d) ? sp_jinja_float(d) : a[0].kind == J_ABSENT ? sp_jinja_float(0) : a[0];
}

FILTER(abs) {
    UNUSED;
    int64_t i = 0;
    if (v.kind == J_FLOAT) {
        return sp_jinja_float(fabs(v.d));
    }
    if (!sp_jinja_as_int(v, &i)) {
        return sp_jinja_fail(r, SPAR_INVALID, "bad operand type for abs(): '%s'",
                             sp_jinja_type_name(v));
    }
    return i < 0 ? sp_jinja_binary(r, "-", sp_jinja_int(0), sp_jinja_int(i)) : sp_jinja_int(i);
}

/* Python's round: to the nearest decimal, which printing to that many places also gives. */
static double round_decimal(double d, int64_t places) {
    char text[400];
    if (places > 22 || !isfinite(d)) {
        return d;
    }
    if (places < 0) {
        const double unit = pow(10, (double)-places);
        return rint(d / unit) * unit;
    }
    snprintf(text, sizeof text, "%.*f", (int)places, d);
    return strtod(text, NULL);
}

FILTER(round) {
    UNUSED;
    int64_t places = 0;
    const bool ceiling = given(a[1]) && sp_jinja_is(a[1], "ceil");
    const bool floored = given(a[1]) && sp_jinja_is(a[1], "floor");
    if (given(a[1]) && !ceiling && !floored && !sp_jinja_is(a[1], "common")) {
        return sp_jinja_fail(r, SPAR_INVALID, "method must be common, ceil or floor");
    }
    if (!sp_jinja_is_number(v) || !int_argument(r, a[0], 0, &places)) {
        return sp_jinja_fail(r, SPAR_INVALID, "'%s' cannot be rounded", sp_jinja_type_name(v));
    }
    if (ceiling || floored) {
        const double scale = pow(10, (double)places);
        const double d = sp_jinja_number(v) * scale;
        return sp_jinja_float((0.0 + (ceiling ? ceil(d) : floor(d))) / scale); /* never -0 */
    }
    if (v.kind != J_FLOAT && places >= 0) {
        return sp_jinja_int(v.kind == J_INT ? v.i : (int64_t)v.b);
    }
    const double d = round_decimal(sp_jinja_number(v), places);
    return v.kind == J_FLOAT ? sp_jinja_float(d) : sp_jinja_int((int64_t)d);
}

static bool is_attribute_name(sp_jval v) {
    bool good = v.kind == J_STR;
    for (size_t i = 0; good && i < v.s->n; i++) {
        good = strchr(" \t\n\f\r/>=", v.s->s[i]) == NULL;
    }
    return good;
}

/* key="value" of each entry that has a value, escaped; keys that would end early are refused. */
FILTER(xmlattr) {
    UNUSED;
    sp_str out = SP_STR_INIT;
    const char *space = a[0].kind == J_ABSENT || sp_jinja_truth(a[0]) ? " " : "";
    if (v.kind != J_DICT) {
        return sp_jinja_fail(r, SPAR_INVALID, "'%s' object has no attribute 'items'",
                             sp_jinja_type_name(v));
    }
    for (size_t i = 0; i < v.m->n && sp_jinja_room(r, &out) && sp_jinja_step(r, 1); i++) {
        const sp_jval key = v.m->keys[i], value = v.m->values[i];
        if (value.kind == J_NONE || value.kind == J_UNDEF) {
            continue;
        }
        if (!is_attribute_name(key)) {
            sp_jinja_error(r, SPAR_INVALID, "xmlattr: expected keys that are names of attributes");
            break;
        }
        const sp_jval escaped = sp_jinja_escape(r, value);
        if (escaped.kind != J_STR) {
            break;
        }
        sp_str_puts(&out, space);
        sp_jinja_put_escaped(&out, key.s);
        sp_str_puts(&out, "=\"");
        sp_str_append(&out, escaped.s->s, escaped.s->n);
        sp_str_putc(&out, '"');
        space = " ";
    }
    return sp_jinja_take(r, &out, false);
}

const sp_jrow sp_jinja_filters[] = {
#define X(name, params) {#name, params, sp_jinja_filter_##name, 0},
    SP_JINJA_SEQUENCE_FILTERS(X)
#undef X
        {"trim", "?chars", filter_trim, 0},
    {"length", "", filter_length, 0},
    {"count", "", filter_length, 0},
    {"default", "?default_value,?boolean", filter_default, 0},
    {"d", "?default_value,?boolean", filter_default, 0},
    {"upper", "", filter_upper, 0},
    {"lower", "", filter_lower, 0},
    {"capitalize", "", filter_capitalize, 0},
    {"title", "", filter_title, 0},
    {"replace", "old,new,?count", filter_replace, 0},
    {"string", "", filter_string, 0},
    {"safe", "", filter_safe, 0},
    {"escape", "", filter_escape, 0},
    {"e", "", filter_escape, 0},
    {"forceescape", "", filter_forceescape, 0},
    {"center", "?width", filter_center, 0},
    {"indent", "?width,?first,?blank", filter_indent, 0},
    {"truncate", "?length,?killwords,?end,?leeway", filter_truncate, 0},
    {"wordcount", "", filter_wordcount, 0},
    {"striptags", "", filter_striptags, 0},
    {"urlencode", "", filter_urlencode, 0},
    {"format", NULL, filter_format, 0},
    {"attr", "name", filter_attr, 0},
    {"xmlattr", "?autospace", filter_xmlattr, 0},
    {"tojson", "?ensure_ascii,?indent,?separators,?sort_keys", filter_tojson, 0},
    {"int", "?default,?base", filter_int, 0},
    {"float", "?default", filter_float, 0},
    {"abs", "", filter_abs, 0},
    {"round", "?precision,?method", filter_round, 0},
    {NULL, NULL, NULL, 0},
};
