/* Values as text: Python's str() and repr(), json.dumps, and markupsafe's escape. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_unicode.h"
#include "text/jinja_value.h"

/* repr(float): the shortest digits that read back, in the layout that Python gives them. */
void sp_jinja_put_float(sp_str *out, double d) {
    if (isnan(d) || isinf(d)) {
        sp_str_puts(out, isnan(d) ? "nan" : d > 0 ? "inf" : "-inf");
        return;
    }
    char text[40];
    int precision = 0;
    do {
        snprintf(text, sizeof text, "%.*e", precision, d);
    } while (strtod(text, NULL) != d && ++precision < 17);
    const int exponent = atoi(strchr(text, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        const int decimals = precision - exponent;
        sp_str_printf(out, "%.*f", decimals > 1 ? decimals : 1, d);
        return;
    }
    sp_str_append(out, text, (size_t)(strchr(text, 'e') - text));
    sp_str_printf(out, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
}

static void put_repr_char(sp_str *out, unsigned c, char quote) {
    static const char names[] = "\tt\nn\rr\\\\";
    for (const char *p = names; c != 0 && *p != '\0'; p += 2) {
        if (c == (unsigned char)*p) {
            sp_str_printf(out, "\\%c", p[1]);
            return;
        }
    }
    if (c == (unsigned char)quote) {
        sp_str_printf(out, "\\%c", quote);
    } else if (sp_jinja_is_printable(c)) {
        sp_str_put_utf8(out, c);
    } else {
        sp_str_printf(out, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
    }
}

static void put_repr_text(sp_str *out, const sp_jstr *s) {
    const bool single = s->n > 0 && memchr(s->s, '\'', s->n) != NULL;
    const char quote = single && memchr(s->s, '"', s->n) == NULL ? '"' : '\'';
    if (s->markup) {
        sp_str_puts(out, "Markup(");
    }
    sp_str_putc(out, quote);
    for (size_t i = 0; i < s->n;) {
        unsigned c = 0;
        i += sp_utf8_decode(s->s + i, s->n - i, &c);
        put_repr_char(out, c, quote);
    }
    sp_str_putc(out, quote);
    if (s->markup) {
        sp_str_putc(out, ')');
    }
}

static bool put_repr_list(sp_jinja *r, sp_str *out, sp_jval v) {
    const bool tuple = v.kind == J_TUPLE;
    sp_str_puts(out, v.kind == J_VIEW ? v.l->label : "");
    sp_str_puts(out, tuple ? "(" : v.kind == J_VIEW ? "([" : "[");
    for (size_t i = 0; i < v.l->n; i++) {
        sp_str_puts(out, i > 0 ? ", " : "");
        if (!sp_jinja_put_repr(r, out, v.l->items[i])) {
            return false;
        }
    }
    sp_str_puts(out, tuple && v.l->n == 1 ? ",)" : tuple ? ")" : v.kind == J_VIEW ? "])" : "]");
    return true;
}

static bool put_repr_dict(sp_jinja *r, sp_str *out, sp_jval v) {
    sp_str_puts(out, v.kind == J_NAMESPACE ? "<Namespace {" : "{");
    for (size_t i = 0; i < v.m->n; i++) {
        sp_str_puts(out, i > 0 ? ", " : "");
        if (!sp_jinja_put_repr(r, out, v.m->keys[i])) {
            return false;
        }
        sp_str_puts(out, ": ");
        if (!sp_jinja_put_repr(r, out, v.m->values[i])) {
            return false;
        }
    }
    sp_str_puts(out, v.kind == J_NAMESPACE ? "}>" : "}");
    return true;
}

static void put_repr_range(sp_str *out, const sp_jlist *l) {
    sp_str_printf(out, "range(%lld, %lld", (long long)l->start, (long long)l->stop);
    if (l->step != 1) {
        sp_str_printf(out, ", %lld", (long long)l->step);
    }
    sp_str_putc(out, ')');
}

static bool put_repr_any(sp_jinja *r, sp_str *out, sp_jval v) {
    switch (v.kind) {
    case J_FAIL:
        return false;
    case J_UNDEF:
        sp_str_puts(out, "Undefined");
        break;
    case J_NONE:
        sp_str_puts(out, "None");
        break;
    case J_BOOL:
        sp_str_puts(out, v.b ? "True" : "False");
        break;
    case J_INT:
        sp_str_printf(out, "%lld", (long long)v.i);
        break;
    case J_FLOAT:
        sp_jinja_put_float(out, v.d);
        break;
    case J_STR:
        put_repr_text(out, v.s);
        break;
    case J_LIST:
    case J_TUPLE:
    case J_VIEW:
        return put_repr_list(r, out, v);
    case J_DICT:
    case J_NAMESPACE:
        return put_repr_dict(r, out, v);
    case J_RANGE:
        put_repr_range(out, v.l);
        break;
    default: /* Python prints an address, which no template can mean */
        sp_str_printf(out, "<%s object>", sp_jinja_type_name(v));
    }
    return true;
}

bool sp_jinja_put_repr(sp_jinja *r, sp_str *out, sp_jval v) {
    if (!sp_jinja_room(r, out) || !sp_jinja_enter(r)) {
        return false;
    }
    const bool good = put_repr_any(r, out, v);
    sp_jinja_leave(r);
    return good && !r->failed;
}

bool sp_jinja_put_str(sp_jinja *r, sp_str *out, sp_jval v) {
    if (v.kind == J_STR) {
        sp_str_append(out, v.s->s, v.s->n);
        return sp_jinja_room(r, out);
    }
    return v.kind == J_UNDEF || sp_jinja_put_repr(r, out, v);
}

sp_jval sp_jinja_str(sp_jinja *r, sp_jval v) {
    if (v.kind == J_STR || v.kind == J_FAIL) {
        return v;
    }
    sp_str text = SP_STR_INIT;
    sp_jinja_put_str(r, &text, v);
    return sp_jinja_take(r, &text, false);
}

/* ---- json.dumps ---- */

static void put_json_char(sp_str *out, unsigned c, bool ascii) {
    static const char names[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (const char *p = names; c != 0 && *p != '\0'; p += 2) {
        if (c == (unsigned char)*p) {
            sp_str_printf(out, "\\%c", p[1]);
            return;
        }
    }
    if (c < 0x20 || (ascii && c > 0x7e && c < 0x10000)) {
        sp_str_printf(out, "\\u%04x", c);
    } else if (ascii && c >= 0x10000) {
        sp_str_printf(out, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                      0xdc00 + ((c - 0x10000) & 0x3ff));
    } else {
        sp_str_put_utf8(out, c);
    }
}

static void put_json_text(sp_str *out, const sp_jstr *s, bool ascii) {
    sp_str_putc(out, '"');
    for (size_t i = 0; i < s->n;) {
        unsigned c = 0;
        i += sp_utf8_decode(s->s + i, s->n - i, &c);
        /* json.dumps leaves DEL alone */
        put_json_char(out, c, ascii && c != 0x7f);
    }
    sp_str_putc(out, '"');
}

typedef struct json_writer {
    sp_jinja *r;
    sp_str *out;
    const sp_jinja_json *how;
    size_t level;
} json_writer;

static bool write_json(json_writer *w, sp_jval v);

static void json_newline(const json_writer *w) {
    const sp_jval indent = w->how->indent;
    if (indent.kind == J_NONE) {
        return;
    }
    sp_str_putc(w->out, '\n');
    for (size_t i = 0; i < w->level && sp_jinja_room(w->r, w->out); i++) {
        if (indent.kind == J_STR) {
            sp_str_append(w->out, indent.s->s, indent.s->n);
        } else {
            for (int64_t k = 0; k < indent.i; k++) {
                sp_str_putc(w->out, ' ');
            }
        }
    }
}

static void json_separator(const json_writer *w, sp_jval separator) {
    sp_str_append(w->out, separator.s->s, separator.s->n);
}

static bool write_json_list(json_writer *w, const sp_jlist *l) {
    sp_str_putc(w->out, '[');
    w->level++;
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0) {
            json_separator(w, w->how->item_separator);
        }
        json_newline(w);
        if (!write_json(w, l->items[i])) {
            return false;
        }
    }
    w->level--;
    if (l->n > 0) {
        json_newline(w);
    }
    sp_str_putc(w->out, ']');
    return true;
}

/* Keys become strings as json.dumps makes them: None is "null", 1 is "1". */
static bool write_json_key(json_writer *w, sp_jval key) {
    if (key.kind == J_STR) {
        put_json_text(w->out, key.s, w->how->ensure_ascii);
        return true;
    }
    if (key.kind != J_NONE && !sp_jinja_is_number(key)) {
        sp_jinja_error(w->r, SPAR_INVALID, "keys must be str, int, float, bool or None, not %s",
                       sp_jinja_type_name(key));
        return false;
    }
    sp_str_putc(w->out, '"');
    const bool good = write_json(w, key);
    sp_str_putc(w->out, '"');
    return good;
}

/* The order in which to write the members: theirs, or that of the keys. */
static size_t *json_order(json_writer *w, const sp_jdict *m) {
    size_t *order = sp_jinja_alloc(w->r, (m->n + 1) * sizeof *order);
    for (size_t i = 0; order != NULL && i < m->n; i++) {
        size_t at = i;
        while (w->how->sort_keys && at > 0) {
            int relation = 0;
            if (!sp_jinja_compare(w->r, m->keys[order[at - 1]], m->keys[i], "<", &relation)) {
                return NULL;
            }
            if (relation <= 0) {
                break;
            }
            order[at] = order[at - 1];
            at--;
        }
        order[at] = i;
    }
    return order;
}

static bool write_json_dict(json_writer *w, const sp_jdict *m) {
    const size_t *order = json_order(w, m);
    if (order == NULL) {
        return false;
    }
    sp_str_putc(w->out, '{');
    w->level++;
    for (size_t i = 0; i < m->n; i++) {
        if (i > 0) {
            json_separator(w, w->how->item_separator);
        }
        json_newline(w);
        if (!write_json_key(w, m->keys[order[i]])) {
            return false;
        }
        json_separator(w, w->how->key_separator);
        if (!write_json(w, m->values[order[i]])) {
            return false;
        }
    }
    w->level--;
    if (m->n > 0) {
        json_newline(w);
    }
    sp_str_putc(w->out, '}');
    return true;
}

static bool write_json_any(json_writer *w, sp_jval v) {
    switch (v.kind) {
    case J_NONE:
        sp_str_puts(w->out, "null");
        return true;
    case J_BOOL:
        sp_str_puts(w->out, v.b ? "true" : "false");
        return true;
    case J_INT:
        sp_str_printf(w->out, "%lld", (long long)v.i);
        return true;
    case J_FLOAT:
        if (isfinite(v.d)) {
            sp_jinja_put_float(w->out, v.d);
        } else {
            sp_str_puts(w->out, isnan(v.d) ? "NaN" : v.d > 0 ? "Infinity" : "-Infinity");
        }
        return true;
    case J_STR:
        put_json_text(w->out, v.s, w->how->ensure_ascii);
        return true;
    case J_LIST:
    case J_TUPLE:
        return write_json_list(w, v.l);
    case J_DICT:
        return write_json_dict(w, v.m);
    default:
        sp_jinja_error(w->r, SPAR_INVALID, "Object of type %s is not JSON serializable",
                       sp_jinja_type_name(v));
        return false;
    }
}

static bool write_json(json_writer *w, sp_jval v) {
    if (!sp_jinja_room(w->r, w->out) || !sp_jinja_enter(w->r)) {
        return false;
    }
    const bool good = write_json_any(w, v);
    sp_jinja_leave(w->r);
    return good && !w->r->failed;
}

bool sp_jinja_put_json(sp_jinja *r, sp_str *out, sp_jval v, const sp_jinja_json *how) {
    json_writer w = {.r = r, .out = out, .how = how};
    return write_json(&w, v);
}

/* ---- markup ---- */

void sp_jinja_put_escaped(sp_str *out, const sp_jstr *s) {
    static const struct {
        char c;
        const char *text;
    } entities[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'"', "&#34;"}, {'\'', "&#39;"}};
    for (size_t i = 0; i < s->n; i++) {
        const char *text = NULL;
        for (size_t k = 0; k < sizeof entities / sizeof entities[0] && !s->markup; k++) {
            text = s->s[i] == entities[k].c ? entities[k].text : text;
        }
        if (text != NULL) {
            sp_str_puts(out, text);
        } else {
            sp_str_putc(out, s->s[i]);
        }
    }
}

sp_jval sp_jinja_escape(sp_jinja *r, sp_jval v) {
    const sp_jval text = sp_jinja_str(r, v);
    if (text.kind != J_STR || text.s->markup) {
        return text;
    }
    sp_str out = SP_STR_INIT;
    sp_jinja_put_escaped(&out, text.s);
    return sp_jinja_take(r, &out, true);
}
