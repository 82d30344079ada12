/* str.format: replacement fields with names, indices, !r, !s and the usual format specification. */
#include <stdio.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_text.h"

typedef struct formatter {
    sp_jinja *r;
    const sp_jargs *args;
    size_t next; /* of the fields without a name */
    sp_str out;
} formatter;

static bool bad(formatter *f, const char *what) {
    sp_jinja_error(f->r, SPAR_INVALID, "format: %s", what);
    return false;
}

static bool digits(const char *s, size_t n, int64_t *value) {
    *value = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9' || *value > 100000) {
            return false;
        }
        *value = *value * 10 + (s[i] - '0');
    }
    return n > 0;
}

static sp_jval base_field(formatter *f, const char *s, size_t n) {
    int64_t i = 0;
    if (n == 0 || digits(s, n, &i)) {
        const size_t at = n == 0 ? f->next++ : (size_t)i;
        return at < f->args->n_pos
                   ? f->args->pos[at]
                   : sp_jinja_fail(f->r, SPAR_INVALID, "format: no argument %zu", at);
    }
    for (size_t k = 0; k < f->args->n_named; k++) {
        const sp_jstr *name = f->args->names[k].s;
        if (name->n == n && memcmp(name->s, s, n) == 0) {
            return f->args->values[k];
        }
    }
    return sp_jinja_fail(f->r, SPAR_INVALID, "format: no argument '%.*s'", (int)(n & 0xff), s);
}

/* name, then .attribute and [item] parts. */
static sp_jval field_value(formatter *f, const char *s, size_t n) {
    size_t at = 0;
    while (at < n && s[at] != '.' && s[at] != '[') {
        at++;
    }
    sp_jval v = base_field(f, s, at);
    while (at < n && v.kind != J_FAIL) {
        const bool item = s[at++] == '[';
        const size_t from = at;
        while (at < n && (item ? s[at] != ']' : s[at] != '.' && s[at] != '[')) {
            at++;
        }
        int64_t i = 0;
        const sp_jval key = item && digits(s + from, at - from, &i)
                                ? sp_jinja_int(i)
                                : sp_jinja_text(f->r, s + from, at - from);
        v = item ? sp_jinja_item(f->r, v, key) : sp_jinja_attr(f->r, v, key);
        at += item;
    }
    return v;
}

typedef struct spec {
    char fill, align, sign, type;
    bool comma, alternate;
    int64_t width, precision; /* precision -1: none */
} spec;

static bool parse_spec(formatter *f, const char *s, size_t n, spec *c) {
    size_t at = 0;
    *c = (spec){.fill = ' ', .precision = -1};
    if (n >= 2 && strchr("<>^=", s[1]) != NULL && s[1] != '\0') {
        c->fill = s[0];
        at = 1;
    }
    if (at < n && strchr("<>^=", s[at]) != NULL && s[at] != '\0') {
        c->align = s[at++];
    }
    if (at < n && (s[at] == '+' || s[at] == '-' || s[at] == ' ')) {
        c->sign = s[at++];
    }
    if (at < n && s[at] == '#') {
        c->alternate = true;
        at++;
    }
    if (at < n && s[at] == '0') {
        c->fill = c->align == 0 ? '0' : c->fill;
        c->align = c->align == 0 ? '=' : c->align;
    }
    size_t from = at;
    while (at < n && s[at] >= '0' && s[at] <= '9') {
        at++;
    }
    if (at > from && !digits(s + from, at - from, &c->width)) {
        return bad(f, "the width is too large");
    }
    if (at < n && s[at] == ',') {
        c->comma = true;
        at++;
    }
    if (at < n && s[at] == '.') {
        from = ++at;
        while (at < n && s[at] >= '0' && s[at] <= '9') {
            at++;
        }
        if (!digits(s + from, at - from, &c->precision) || c->precision > 300) {
            return bad(f, "the precision is too large or missing");
        }
    }
    if (at < n) {
        c->type = s[at++];
    }
    return at == n || bad(f, "invalid format specifier");
}

/* A number through the conversions of the % operator. */
static sp_jval number_text(formatter *f, const spec *c, sp_jval v) {
    char format[32];
    const char type = c->type != 0 ? c->type : v.kind == J_FLOAT ? 'r' : 'd';
    const bool percent = type == '%';
    char digits_text[16] = "";
    if (c->precision >= 0 && strchr("dxXo", type) == NULL) {
        snprintf(digits_text, sizeof digits_text, ".%d", (int)c->precision);
    }
    snprintf(format, sizeof format, "%%%s%s%s%c%s",
             c->sign == '+'   ? "+"
             : c->sign == ' ' ? " "
                              : "",
             c->alternate ? "#" : "", type == 'r' && c->precision < 0 ? "" : digits_text,
             percent                            ? 'f'
             : type == 'r' && c->precision >= 0 ? 'g'
                                                : type,
             percent ? "%%" : "");
    const sp_jval x = percent ? sp_jinja_float(sp_jinja_number(v) * 100) : v;
    const sp_jval pattern = sp_jinja_text(f->r, format, strlen(format));
    return pattern.kind == J_FAIL ? pattern : sp_jinja_printf(f->r, pattern, x);
}

/* Thousands separators in the leading digits of text. */
static sp_jval with_commas(formatter *f, sp_jval text) {
    sp_str out = SP_STR_INIT;
    const sp_jstr *s = text.s;
    size_t from = 0;
    while (from < s->n && (s->s[from] < '0' || s->s[from] > '9')) {
        sp_str_putc(&out, s->s[from++]);
    }
    size_t to = from;
    while (to < s->n && s->s[to] >= '0' && s->s[to] <= '9') {
        to++;
    }
    for (size_t i = from; i < to; i++) {
        if (i > from && (to - i) % 3 == 0) {
            sp_str_putc(&out, ',');
        }
        sp_str_putc(&out, s->s[i]);
    }
    sp_str_append(&out, s->s + to, s->n - to);
    return sp_jinja_take(f->r, &out, false);
}

static void put_field(formatter *f, const spec *c, sp_jval text, bool number) {
    const size_t n = sp_jinja_chars(text);
    const size_t pad = (size_t)c->width > n ? (size_t)c->width - n : 0;
    const char align = c->align != 0 ? c->align : number ? '>' : '<';
    const size_t left = align == '<' ? 0 : align == '^' ? pad / 2 : pad;
    const sp_jstr *s = text.s;
    const size_t sign = align == '=' && s->n > 0 && (s->s[0] == '-' || s->s[0] == '+');
    sp_str_append(&f->out, s->s, sign);
    for (size_t i = 0; i < left; i++) {
        sp_str_putc(&f->out, c->fill);
    }
    sp_str_append(&f->out, s->s + sign, s->n - sign);
    for (size_t i = left; i < pad; i++) {
        sp_str_putc(&f->out, c->fill);
    }
}

static bool put_value(formatter *f, const spec *c, sp_jval v) {
    const bool number = v.kind == J_INT || v.kind == J_FLOAT || (v.kind == J_BOOL && c->type != 0);
    sp_jval text = number ? number_text(f, c, v) : sp_jinja_str(f->r, v);
    if (v.kind == J_UNDEF) {
        text = sp_jinja_text(f->r, "", 0);
    }
    if (text.kind == J_STR && c->comma && number) {
        text = with_commas(f, text);
    }
    if (text.kind == J_STR && !number && c->precision >= 0) {
        text = sp_jinja_slice(f->r, text, sp_jinja_none(), sp_jinja_int(c->precision),
                              sp_jinja_none());
    }
    if (text.kind != J_STR) {
        return false;
    }
    put_field(f, c, text, number);
    return true;
}

/* The inside of {...}. */
static bool replace_field(formatter *f, const char *s, size_t n) {
    const char *colon = memchr(s, ':', n);
    size_t name = colon == NULL ? n : (size_t)(colon - s);
    const char *spec_text = colon == NULL ? s + n : colon + 1;
    char conversion = 0;
    spec c;
    if (name >= 2 && s[name - 2] == '!') {
        conversion = s[name - 1];
        name -= 2;
    }
    sp_jval v = field_value(f, s, name);
    if (v.kind == J_FAIL || !parse_spec(f, spec_text, (size_t)(s + n - spec_text), &c)) {
        return false;
    }
    if (conversion == 'r') {
        sp_str text = SP_STR_INIT;
        sp_jinja_put_repr(f->r, &text, v);
        v = sp_jinja_take(f->r, &text, false);
    } else if (conversion == 's') {
        v = sp_jinja_str(f->r, v);
    }
    return v.kind != J_FAIL && put_value(f, &c, v);
}

sp_jval sp_jinja_str_format(sp_jinja *r, sp_jval v, const struct sp_jargs *args) {
    formatter f = {.r = r, .args = args, .out = SP_STR_INIT};
    const sp_jstr *s = v.s;
    for (size_t i = 0; i < s->n && sp_jinja_room(r, &f.out) && sp_jinja_step(r, 1); i++) {
        const char c = s->s[i];
        const bool doubled = i + 1 < s->n && s->s[i + 1] == c;
        if (c != '{' && c != '}') {
            sp_str_putc(&f.out, c);
        } else if (doubled) {
            sp_str_putc(&f.out, c);
            i++;
        } else {
            const char *end = c == '{' ? memchr(s->s + i, '}', s->n - i) : NULL;
            if (end == NULL) {
                bad(&f, "single '{' or '}' in the format string");
            } else if (replace_field(&f, s->s + i + 1, (size_t)(end - s->s) - i - 1)) {
                i = (size_t)(end - s->s);
            }
        }
    }
    return sp_jinja_take(r, &f.out, v.s->markup);
}
