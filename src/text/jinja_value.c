#include "text/jinja_value.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void sp_jinja_error(sp_jinja *r, spar_status code, const char *fmt, ...) {
    if (r->failed) {
        return;
    }
    char message[sizeof r->error.message - 128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    for (char *p = message; *p != '\0'; p++) {
        if (*p == '\n' || *p == '\r') {
            *p = ' ';
        }
    }
    r->failed = true;
    spar_fail(&r->error, code, "%.100s:%d: %s", r->where, r->line, message);
}

sp_jval sp_jinja_failed(void) {
    return (sp_jval){.kind = J_FAIL};
}

bool sp_jinja_step(sp_jinja *r, size_t n) {
    if (n > SP_JINJA_STEPS - r->steps) {
        sp_jinja_error(r, SPAR_LIMIT, "the template takes more than %d steps", SP_JINJA_STEPS);
        return false;
    }
    r->steps += n;
    return !r->failed;
}

bool sp_jinja_enter(sp_jinja *r) {
    if (r->depth >= SP_JINJA_DEPTH) {
        sp_jinja_error(r, SPAR_LIMIT, "the template nests deeper than %d levels", SP_JINJA_DEPTH);
        return false;
    }
    if (!sp_jinja_step(r, 1)) {
        return false;
    }
    r->depth++;
    return true;
}

void sp_jinja_leave(sp_jinja *r) {
    r->depth--;
}

void *sp_jinja_alloc(sp_jinja *r, size_t n) {
    if (n > SP_JINJA_MEMORY - r->memory) {
        sp_jinja_error(r, SPAR_LIMIT, "the template takes more than %d MiB of memory",
                       SP_JINJA_MEMORY >> 20);
        return NULL;
    }
    r->memory += n + (-n & 15);
    if (r->memory > SP_JINJA_MEMORY) {
        r->memory = SP_JINJA_MEMORY;
    }
    void *p = sp_arena_alloc(&r->arena, n);
    if (p == NULL) {
        sp_jinja_error(r, SPAR_NO_MEMORY, "no memory for %zu bytes", n);
    }
    return p;
}

sp_jval sp_jinja_none(void) {
    return (sp_jval){.kind = J_NONE};
}

sp_jval sp_jinja_bool(bool b) {
    return (sp_jval){.kind = J_BOOL, .b = b};
}

sp_jval sp_jinja_int(int64_t i) {
    return (sp_jval){.kind = J_INT, .i = i};
}

sp_jval sp_jinja_float(double d) {
    return (sp_jval){.kind = J_FLOAT, .d = d};
}

sp_jval sp_jinja_undefined(sp_jinja *r, const char *fmt, ...) {
    char message[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    const size_t n = strlen(message);
    char *copy = sp_jinja_alloc(r, n + 1);
    if (copy == NULL) {
        return sp_jinja_failed();
    }
    memcpy(copy, message, n + 1);
    return (sp_jval){.kind = J_UNDEF, .undef = copy};
}

/* ---- strings ---- */

sp_jval sp_jinja_borrow(sp_jinja *r, const char *s, size_t n, bool markup) {
    sp_jstr *str = sp_jinja_alloc(r, sizeof *str);
    if (str == NULL) {
        return sp_jinja_failed();
    }
    *str = (sp_jstr){.s = s, .n = n, .chars = SIZE_MAX, .markup = markup};
    return (sp_jval){.kind = J_STR, .s = str};
}

sp_jval sp_jinja_text(sp_jinja *r, const char *s, size_t n) {
    char *copy = sp_jinja_alloc(r, n + 1);
    if (copy == NULL) {
        return sp_jinja_failed();
    }
    if (n > 0) {
        memcpy(copy, s, n);
    }
    return sp_jinja_borrow(r, copy, n, false);
}

sp_jval sp_jinja_take(sp_jinja *r, sp_str *s, bool markup) {
    sp_jval v = sp_jinja_failed();
    if (s->failed) {
        sp_jinja_error(r, SPAR_NO_MEMORY, "no memory for text");
    } else if (!r->failed) {
        v = sp_jinja_text(r, sp_str_get(s), s->len);
    }
    if (v.kind == J_STR) {
        v.s->markup = markup;
    }
    sp_str_release(s);
    return v;
}

bool sp_jinja_room(sp_jinja *r, const sp_str *s) {
    if (s->len > SP_JINJA_MEMORY - r->memory) {
        sp_jinja_error(r, SPAR_LIMIT, "the template takes more than %d MiB of memory",
                       SP_JINJA_MEMORY >> 20);
    }
    return !r->failed;
}

size_t sp_jinja_chars(sp_jval v) {
    sp_jstr *s = v.s;
    if (s->chars == SIZE_MAX) {
        size_t count = 0;
        for (size_t i = 0; i < s->n; i++) {
            count += ((unsigned char)s->s[i] & 0xc0) != 0x80;
        }
        s->chars = count;
    }
    return s->chars;
}

size_t sp_jinja_offset(const sp_jstr *s, size_t i) {
    if (s->chars == s->n) {
        return i < s->n ? i : s->n;
    }
    size_t at = 0;
    for (; at < s->n; at++) {
        if (((unsigned char)s->s[at] & 0xc0) != 0x80 && i-- == 0) {
            break;
        }
    }
    return at;
}

bool sp_jinja_is(sp_jval v, const char *text) {
    return v.kind == J_STR && v.s->n == strlen(text) && memcmp(v.s->s, text, v.s->n) == 0;
}

bool sp_jinja_same_text(const sp_jstr *a, const sp_jstr *b) {
    return a->n == b->n && (a->s == b->s || memcmp(a->s, b->s, a->n) == 0);
}

/* ---- lists and dicts ---- */

sp_jval sp_jinja_list(sp_jinja *r, sp_jkind kind, size_t capacity) {
    sp_jlist *l = sp_jinja_alloc(r, sizeof *l);
    if (l == NULL || capacity > SP_JINJA_MEMORY / sizeof(sp_jval)) {
        return sp_jinja_fail(r, SPAR_LIMIT, "a list of %zu items is too long", capacity);
    }
    l->items = sp_jinja_alloc(r, capacity * sizeof(sp_jval));
    l->capacity = capacity;
    return l->items == NULL ? sp_jinja_failed() : (sp_jval){.kind = kind, .l = l};
}

bool sp_jinja_push(sp_jinja *r, sp_jval list, sp_jval item) {
    sp_jlist *l = list.l;
    if (item.kind == J_FAIL || list.kind == J_FAIL || r->failed) {
        return false;
    }
    if (l->n == l->capacity) {
        const size_t capacity = l->capacity * 2 + 4;
        sp_jval *items = sp_jinja_alloc(r, capacity * sizeof *items);
        if (items == NULL) {
            return false;
        }
        if (l->n > 0) {
            memcpy(items, l->items, l->n * sizeof *items);
        }
        l->items = items;
        l->capacity = capacity;
    }
    l->items[l->n++] = item;
    return true;
}

sp_jval sp_jinja_pair(sp_jinja *r, sp_jval a, sp_jval b) {
    sp_jval t = sp_jinja_list(r, J_TUPLE, 2);
    return sp_jinja_push(r, t, a) && sp_jinja_push(r, t, b) ? t : sp_jinja_failed();
}

sp_jval sp_jinja_dict(sp_jinja *r, sp_jkind kind) {
    sp_jdict *m = sp_jinja_alloc(r, sizeof *m);
    return m == NULL ? sp_jinja_failed() : (sp_jval){.kind = kind, .m = m};
}

bool sp_jinja_hashable(sp_jinja *r, sp_jval key) {
    bool good = key.kind != J_LIST && key.kind != J_DICT && key.kind != J_FAIL;
    if (!good) {
        sp_jinja_error(r, SPAR_INVALID, "unhashable type: '%s'", sp_jinja_type_name(key));
    }
    for (size_t i = 0; key.kind == J_TUPLE && good && i < key.l->n; i++) {
        good = sp_jinja_hashable(r, key.l->items[i]);
    }
    return good;
}

/* Index of key in m, or m->n. Keys are few: a scan, paid for in steps. */
static size_t find_key(sp_jinja *r, const sp_jdict *m, sp_jval key) {
    size_t i = 0;
    if (!sp_jinja_step(r, m->n / 8)) {
        return m->n;
    }
    while (i < m->n && !sp_jinja_equal(r, m->keys[i], key)) {
        i++;
    }
    return i;
}

static bool grow_dict(sp_jinja *r, sp_jdict *m) {
    const size_t capacity = m->capacity * 2 + 8;
    sp_jval *keys = sp_jinja_alloc(r, capacity * sizeof *keys);
    sp_jval *values = sp_jinja_alloc(r, capacity * sizeof *values);
    if (keys == NULL || values == NULL) {
        return false;
    }
    if (m->n > 0) {
        memcpy(keys, m->keys, m->n * sizeof *keys);
        memcpy(values, m->values, m->n * sizeof *values);
    }
    m->keys = keys;
    m->values = values;
    m->capacity = capacity;
    return true;
}

bool sp_jinja_put(sp_jinja *r, sp_jval dict, sp_jval key, sp_jval value) {
    if (dict.kind == J_FAIL || value.kind == J_FAIL || !sp_jinja_hashable(r, key)) {
        return false;
    }
    sp_jdict *m = dict.m;
    const size_t i = find_key(r, m, key);
    if (r->failed || (i == m->capacity && !grow_dict(r, m))) {
        return false;
    }
    if (i == m->n) {
        m->keys[m->n++] = key;
    }
    m->values[i] = value;
    return true;
}

bool sp_jinja_put_text(sp_jinja *r, sp_jval dict, const char *key, sp_jval value) {
    const sp_jval name = sp_jinja_text(r, key, strlen(key));
    return name.kind == J_STR && sp_jinja_put(r, dict, name, value);
}

sp_jval sp_jinja_get(sp_jinja *r, sp_jval dict, sp_jval key) {
    if (!sp_jinja_hashable(r, key)) {
        return sp_jinja_failed();
    }
    const size_t i = find_key(r, dict.m, key);
    if (r->failed) {
        return sp_jinja_failed();
    }
    return i < dict.m->n ? dict.m->values[i] : (sp_jval){.kind = J_ABSENT};
}

/* ---- Python's view ---- */

bool sp_jinja_truth(sp_jval v) {
    switch (v.kind) {
    case J_BOOL:
        return v.b;
    case J_INT:
        return v.i != 0;
    case J_FLOAT:
        return v.d != 0;
    case J_STR:
        return v.s->n > 0;
    case J_LIST:
    case J_TUPLE:
    case J_VIEW:
    case J_RANGE:
        return v.l->n > 0;
    case J_DICT:
        return v.m->n > 0;
    case J_FAIL:
    case J_ABSENT:
    case J_UNDEF:
    case J_NONE:
        return false;
    default:
        return true;
    }
}

bool sp_jinja_is_number(sp_jval v) {
    return v.kind == J_BOOL || v.kind == J_INT || v.kind == J_FLOAT;
}

double sp_jinja_number(sp_jval v) {
    return v.kind == J_FLOAT ? v.d : v.kind == J_INT ? (double)v.i : (double)v.b;
}

bool sp_jinja_as_int(sp_jval v, int64_t *out) {
    *out = v.kind == J_INT ? v.i : v.kind == J_BOOL ? (int64_t)v.b : 0;
    return v.kind == J_INT || v.kind == J_BOOL;
}

static bool equal_numbers(sp_jval a, sp_jval b) {
    int64_t x = 0;
    int64_t y = 0;
    if (sp_jinja_as_int(a, &x) && sp_jinja_as_int(b, &y)) {
        return x == y;
    }
    return sp_jinja_number(a) == sp_jinja_number(b);
}

static bool equal_lists(sp_jinja *r, const sp_jlist *a, const sp_jlist *b) {
    bool same = a->n == b->n;
    if (same && sp_jinja_enter(r)) {
        for (size_t i = 0; same && i < a->n; i++) {
            same = sp_jinja_equal(r, a->items[i], b->items[i]);
        }
        sp_jinja_leave(r);
    }
    return same;
}

static bool equal_dicts(sp_jinja *r, const sp_jdict *a, sp_jval b) {
    bool same = a->n == b.m->n;
    if (same && sp_jinja_enter(r)) {
        for (size_t i = 0; same && i < a->n; i++) {
            const sp_jval other = sp_jinja_get(r, b, a->keys[i]);
            same = other.kind > J_ABSENT && sp_jinja_equal(r, a->values[i], other);
        }
        sp_jinja_leave(r);
    }
    return same;
}

bool sp_jinja_equal(sp_jinja *r, sp_jval a, sp_jval b) {
    if (sp_jinja_is_number(a) && sp_jinja_is_number(b)) {
        return equal_numbers(a, b);
    }
    if (a.kind != b.kind || !sp_jinja_step(r, 1)) {
        return false;
    }
    switch (a.kind) {
    case J_UNDEF:
    case J_NONE:
        return true;
    case J_STR:
        return sp_jinja_same_text(a.s, b.s);
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
        return equal_lists(r, a.l, b.l);
    case J_DICT:
        return equal_dicts(r, a.m, b);
    case J_CALLABLE:
        return a.call == b.call;
    case J_LOOP:
        return a.loop == b.loop;
    case J_NAMESPACE:
        return a.m == b.m;
    default:
        return a.l == b.l;
    }
}

static int order_text(const sp_jstr *a, const sp_jstr *b) {
    const size_t n = a->n < b->n ? a->n : b->n;
    const int order = n == 0 ? 0 : memcmp(a->s, b->s, n);
    return order != 0 ? order : (a->n > b->n) - (a->n < b->n);
}

static bool compare_lists(sp_jinja *r, const sp_jlist *a, const sp_jlist *b, const char *op,
                          int *order) {
    *order = (a->n > b->n) - (a->n < b->n);
    bool good = sp_jinja_enter(r);
    if (!good) {
        return false;
    }
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        if (!sp_jinja_equal(r, a->items[i], b->items[i])) {
            good = sp_jinja_compare(r, a->items[i], b->items[i], op, order);
            break;
        }
    }
    sp_jinja_leave(r);
    return good && !r->failed;
}

bool sp_jinja_compare(sp_jinja *r, sp_jval a, sp_jval b, const char *op, int *order) {
    int64_t x = 0;
    int64_t y = 0;
    *order = 0;
    if (!sp_jinja_step(r, 1)) {
        return false;
    }
    if (sp_jinja_as_int(a, &x) && sp_jinja_as_int(b, &y)) {
        *order = (x > y) - (x < y);
        return true;
    }
    if (sp_jinja_is_number(a) && sp_jinja_is_number(b)) {
        const double d = sp_jinja_number(a);
        const double e = sp_jinja_number(b);
        /* a NaN compares as "after" from either side, so that < and <= are false */
        *order = d < e ? -1 : d == e ? 0 : 1;
        return true;
    }
    if (a.kind == J_STR && b.kind == J_STR) {
        *order = order_text(a.s, b.s);
        return true;
    }
    if (a.kind == b.kind && (a.kind == J_LIST || a.kind == J_TUPLE)) {
        return compare_lists(r, a.l, b.l, op, order);
    }
    if (a.kind == J_UNDEF || b.kind == J_UNDEF) {
        sp_jinja_error(r, SPAR_INVALID, "%s", a.kind == J_UNDEF ? a.undef : b.undef);
        return false;
    }
    sp_jinja_error(r, SPAR_INVALID, "'%s' not supported between instances of '%s' and '%s'", op,
                   sp_jinja_type_name(a), sp_jinja_type_name(b));
    return false;
}

bool sp_jinja_has_length(sp_jval v) {
    switch (v.kind) {
    case J_UNDEF:
    case J_STR:
    case J_LIST:
    case J_TUPLE:
    case J_DICT:
    case J_VIEW:
    case J_RANGE:
        return true;
    default:
        return false;
    }
}

size_t sp_jinja_length(sp_jval v) {
    return v.kind == J_UNDEF  ? 0
           : v.kind == J_STR  ? sp_jinja_chars(v)
           : v.kind == J_DICT ? v.m->n
                              : v.l->n;
}

bool sp_jinja_iterable(sp_jval v) {
    return sp_jinja_has_length(v) || v.kind == J_GEN || v.kind == J_LOOP;
}

static sp_jval iterate_text(sp_jinja *r, sp_jval v) {
    sp_jval list = sp_jinja_list(r, J_LIST, sp_jinja_chars(v));
    for (size_t at = 0; at < v.s->n && !r->failed;) {
        size_t end = at + 1;
        while (end < v.s->n && ((unsigned char)v.s->s[end] & 0xc0) == 0x80) {
            end++;
        }
        sp_jinja_push(r, list, sp_jinja_borrow(r, v.s->s + at, end - at, false));
        at = end;
    }
    return r->failed ? sp_jinja_failed() : list;
}

sp_jval sp_jinja_iterate(sp_jinja *r, sp_jval v) {
    sp_jval list = {.kind = J_LIST};
    switch (v.kind) {
    case J_LIST:
    case J_TUPLE:
    case J_VIEW:
    case J_RANGE:
        list.l = v.l;
        return list;
    case J_UNDEF:
        return sp_jinja_list(r, J_LIST, 0);
    case J_STR:
        return iterate_text(r, v);
    case J_GEN:
    case J_DICT: {
        const sp_jval *items = v.kind == J_GEN ? v.l->items + v.l->pos : v.m->keys;
        const size_t n = v.kind == J_GEN ? v.l->n - v.l->pos : v.m->n;
        list = sp_jinja_list(r, J_LIST, n);
        for (size_t i = 0; i < n && !r->failed; i++) {
            sp_jinja_push(r, list, items[i]);
        }
        if (v.kind == J_GEN) {
            v.l->pos = v.l->n;
        }
        return list;
    }
    default:
        return sp_jinja_fail(r, SPAR_INVALID, "'%s' object is not iterable", sp_jinja_type_name(v));
    }
}

bool sp_jinja_contains(sp_jinja *r, sp_jval container, sp_jval item, bool *found) {
    *found = false;
    if (container.kind == J_STR) {
        if (item.kind != J_STR) {
            sp_jinja_error(r, SPAR_INVALID, "'in <string>' requires string as left operand, not %s",
                           sp_jinja_type_name(item));
            return false;
        }
        *found =
            item.s->n == 0 || memmem(container.s->s, container.s->n, item.s->s, item.s->n) != NULL;
        return sp_jinja_step(r, container.s->n / 64);
    }
    if (container.kind == J_DICT) {
        *found = sp_jinja_get(r, container, item).kind > J_ABSENT;
        return !r->failed;
    }
    const sp_jval list = sp_jinja_iterate(r, container);
    if (list.kind == J_FAIL) {
        return false;
    }
    for (size_t i = 0; i < list.l->n && !*found && !r->failed; i++) {
        *found = sp_jinja_equal(r, list.l->items[i], item);
    }
    return !r->failed;
}

const char *sp_jinja_type_name(sp_jval v) {
    static const char *const names[] = {
        [J_FAIL] = "failure",      [J_ABSENT] = "nothing",   [J_UNDEF] = "Undefined",
        [J_NONE] = "NoneType",     [J_BOOL] = "bool",        [J_INT] = "int",
        [J_FLOAT] = "float",       [J_STR] = "str",          [J_LIST] = "list",
        [J_TUPLE] = "tuple",       [J_DICT] = "dict",        [J_VIEW] = "dict_view",
        [J_GEN] = "generator",     [J_RANGE] = "range",      [J_NAMESPACE] = "Namespace",
        [J_CALLABLE] = "function", [J_LOOP] = "LoopContext", [J_CYCLER] = "Cycler",
        [J_JOINER] = "Joiner",
    };
    return v.kind == J_VIEW ? v.l->label : names[v.kind];
}

/* ---- JSON ---- */

static sp_jval from_array(sp_jinja *r, const json_t *json) {
    const size_t n = json_array_size(json);
    sp_jval list = sp_jinja_list(r, J_LIST, n);
    for (size_t i = 0; i < n && !r->failed; i++) {
        sp_jinja_push(r, list, sp_jinja_from_json(r, json_array_get(json, i)));
    }
    return r->failed ? sp_jinja_failed() : list;
}

static sp_jval from_object(sp_jinja *r, const json_t *json) {
    sp_jval dict = sp_jinja_dict(r, J_DICT);
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach((json_t *)(uintptr_t)json, key, value) {
        if (!sp_jinja_put_text(r, dict, key, sp_jinja_from_json(r, value))) {
            return sp_jinja_failed();
        }
    }
    return dict;
}

sp_jval sp_jinja_from_json(sp_jinja *r, const struct json_t *json) {
    sp_jval v = sp_jinja_none();
    switch (json == NULL ? JSON_NULL : json_typeof(json)) {
    case JSON_TRUE:
    case JSON_FALSE:
        return sp_jinja_bool(json_is_true(json));
    case JSON_INTEGER:
        return sp_jinja_int(json_integer_value(json));
    case JSON_REAL:
        return sp_jinja_float(json_real_value(json));
    case JSON_STRING:
        return sp_jinja_text(r, json_string_value(json), json_string_length(json));
    case JSON_NULL:
        return v;
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    if (!sp_jinja_enter(r)) {
        return sp_jinja_failed();
    }
    v = json_is_array(json) ? from_array(r, json) : from_object(r, json);
    sp_jinja_leave(r);
    return v;
}
