/* Operators, attributes and items, as Python has them. */
#include <math.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_marks.h"

/* ---- arithmetic ---- */

static sp_jval bad_operands(sp_jinja *r, const char *op, sp_jval a, sp_jval b) {
    if (a.kind == J_UNDEF || b.kind == J_UNDEF) {
        return sp_jinja_fail(r, SPAR_INVALID, "%s", a.kind == J_UNDEF ? a.undef : b.undef);
    }
    return sp_jinja_fail(r, SPAR_INVALID, "unsupported operand type(s) for %s: '%s' and '%s'", op,
                         sp_jinja_type_name(a), sp_jinja_type_name(b));
}

static int64_t floor_div(int64_t a, int64_t b) {
    const int64_t q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

static bool int_power(int64_t base, int64_t exponent, int64_t *out) {
    *out = 1;
    while (exponent > 0) {
        if ((exponent & 1) != 0 && __builtin_mul_overflow(*out, base, out)) {
            return false;
        }
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
            return false;
        }
    }
    return true;
}

static sp_jval float_op(sp_jinja *r, const char *op, double a, double b) {
    if (b == 0 && (op[0] == '/' || op[0] == '%')) {
        return sp_jinja_fail(r, SPAR_INVALID, "division by zero");
    }
    const double rest = op[0] == '/' || op[0] == '%' ? fmod(a, b) : 0;
    const double mod = rest != 0 && (rest < 0) != (b < 0) ? rest + b : copysign(rest, b);
    if (strcmp(op, "//") == 0) {
        const double whole = round((a - mod) / b);
        return sp_jinja_float(whole != 0 ? whole : copysign(0.0, a / b)); /* signed as Python's */
    }
    if (strcmp(op, "**") == 0) {
        const double power = pow(a, b);
        if (!isfinite(power) && isfinite(a) && isfinite(b)) {
            return sp_jinja_fail(r, SPAR_INVALID, "%g ** %g is not a finite real number", a, b);
        }
        return sp_jinja_float(power);
    }
    switch (op[0]) {
    case '+':
        return sp_jinja_float(a + b);
    case '-':
        return sp_jinja_float(a - b);
    case '*':
        return sp_jinja_float(a * b);
    case '%':
        return sp_jinja_float(rest == 0 ? copysign(0.0, b) : mod);
    default:
        return sp_jinja_float(a / b);
    }
}

static sp_jval int_op(sp_jinja *r, const char *op, int64_t a, int64_t b) {
    int64_t v = 0;
    bool overflow = false;
    if (strcmp(op, "/") == 0 || (strcmp(op, "**") == 0 && b < 0)) {
        return float_op(r, op, (double)a, (double)b);
    }
    if (b == 0 && (op[0] == '/' || op[0] == '%')) {
        return sp_jinja_fail(r, SPAR_INVALID, "division by zero");
    }
    if (b == -1 && op[0] == '/') {
        op = "-"; /* a // -1 is -a, without the trap that INT64_MIN sets */
        b = a;
        a = 0;
    }
    switch (op[0]) {
    case '+':
        overflow = __builtin_add_overflow(a, b, &v);
        break;
    case '-':
        overflow = __builtin_sub_overflow(a, b, &v);
        break;
    case '/':
        v = floor_div(a, b);
        break;
    case '%':
        v = b == -1 ? 0 : a - floor_div(a, b) * b;
        break;
    default:
        overflow = op[1] == '*' ? !int_power(a, b, &v) : __builtin_mul_overflow(a, b, &v);
    }
    return overflow ? sp_jinja_fail(r, SPAR_LIMIT, "a number grows beyond 64 bits")
                    : sp_jinja_int(v);
}

static sp_jval add_text(sp_jinja *r, sp_jval a, sp_jval b) {
    sp_str text = SP_STR_INIT;
    const bool markup = a.s->markup || b.s->markup;
    if (markup) {
        sp_jinja_put_escaped(&text, a.s);
        sp_jinja_put_escaped(&text, b.s);
        return sp_jinja_take(r, &text, true);
    }
    char *s = sp_jinja_alloc(r, a.s->n + b.s->n + 1);
    if (s == NULL) {
        return sp_jinja_failed();
    }
    memcpy(s, a.s->s, a.s->n);
    memcpy(s + a.s->n, b.s->s, b.s->n);
    if (!sp_jinja_mark_copied(r, a.s->s, a.s->n, s) ||
        !sp_jinja_mark_copied(r, b.s->s, b.s->n, s + a.s->n)) {
        return sp_jinja_failed();
    }
    return sp_jinja_borrow(r, s, a.s->n + b.s->n, false);
}

static sp_jval add_lists(sp_jinja *r, sp_jval a, sp_jval b) {
    sp_jval list = sp_jinja_list(r, a.kind, a.l->n + b.l->n);
    for (size_t i = 0; i < a.l->n && !r->failed; i++) {
        sp_jinja_push(r, list, a.l->items[i]);
    }
    for (size_t i = 0; i < b.l->n && !r->failed; i++) {
        sp_jinja_push(r, list, b.l->items[i]);
    }
    return r->failed ? sp_jinja_failed() : list;
}

static sp_jval repeat_text(sp_jinja *r, sp_jval v, size_t times) {
    if (v.s->n > 0 && times > SP_JINJA_MEMORY / v.s->n) {
        return sp_jinja_fail(r, SPAR_LIMIT, "a string repeated %zu times is too long", times);
    }
    char *s = sp_jinja_alloc(r, v.s->n * times + 1);
    for (size_t i = 0; s != NULL && v.s->n > 0 && i < times; i++) {
        memcpy(s + i * v.s->n, v.s->s, v.s->n);
    }
    return s == NULL ? sp_jinja_failed() : sp_jinja_borrow(r, s, v.s->n * times, v.s->markup);
}

static sp_jval repeat(sp_jinja *r, sp_jval v, int64_t times) {
    const size_t n = times < 0 ? 0 : (size_t)times;
    if (v.kind == J_STR) {
        return repeat_text(r, v, n);
    }
    if (v.l->n > 0 && n > SP_JINJA_MEMORY / sizeof(sp_jval) / v.l->n) {
        return sp_jinja_fail(r, SPAR_LIMIT, "a list repeated %zu times is too long", n);
    }
    sp_jval list = sp_jinja_list(r, v.kind, n * v.l->n);
    for (size_t i = 0; i < n * v.l->n && !r->failed; i++) {
        sp_jinja_push(r, list, v.l->items[i % v.l->n]);
    }
    return r->failed ? sp_jinja_failed() : list;
}

static bool repeatable(sp_jval v) {
    return v.kind == J_STR || v.kind == J_LIST || v.kind == J_TUPLE;
}

sp_jval sp_jinja_binary(sp_jinja *r, const char *op, sp_jval a, sp_jval b) {
    int64_t x = 0;
    int64_t y = 0;
    const bool ints = sp_jinja_as_int(a, &x);
    if (sp_jinja_as_int(b, &y) && ints) {
        return int_op(r, op, x, y);
    }
    if (sp_jinja_is_number(a) && sp_jinja_is_number(b)) {
        return float_op(r, op, sp_jinja_number(a), sp_jinja_number(b));
    }
    if (strcmp(op, "+") == 0 && a.kind == b.kind && repeatable(a)) {
        return a.kind == J_STR ? add_text(r, a, b) : add_lists(r, a, b);
    }
    if (strcmp(op, "*") == 0 && repeatable(a) && sp_jinja_as_int(b, &y)) {
        return repeat(r, a, y);
    }
    if (strcmp(op, "*") == 0 && repeatable(b) && ints) {
        return repeat(r, b, x);
    }
    if (strcmp(op, "%") == 0 && a.kind == J_STR) {
        return sp_jinja_printf(r, a, b);
    }
    return bad_operands(r, op, a, b);
}

/* ---- attributes and items ---- */

static sp_jval no_attribute(sp_jinja *r, sp_jval v, sp_jval name) {
    sp_str text = SP_STR_INIT;
    sp_jinja_put_str(r, &text, name);
    const sp_jval undefined =
        sp_jinja_undefined(r, "'%s%s' has no attribute '%.150s'", sp_jinja_type_name(v),
                           v.kind == J_NONE ? "" : " object", sp_str_get(&text));
    sp_str_release(&text);
    return undefined;
}

/* A method of v, bound; an undefined that says so where the sandbox refuses it; or ABSENT. */
static sp_jval find_method(sp_jinja *r, sp_jval v, sp_jval name) {
    const sp_jrow *row = sp_jinja_find_row(sp_jinja_methods, name, 1U << v.kind);
    if (row == NULL) {
        return v.kind == J_LOOP ? sp_jinja_loop_attr(r, v, name) : (sp_jval){.kind = J_ABSENT};
    }
    if (row->run == NULL) {
        return sp_jinja_undefined(r, "access to attribute '%s' of '%s' object is unsafe", row->name,
                                  sp_jinja_type_name(v));
    }
    return sp_jinja_callable(r, (sp_jcallable){.row = row, .self = v});
}

static sp_jval cycler_current(sp_jval v) {
    return v.l->items[v.l->pos % v.l->n];
}

/* The names that the two items of groupby's tuples have, or ABSENT. */
static sp_jval group_part(sp_jval v, sp_jval name) {
    static const char *const names[] = {"grouper", "list"};
    for (size_t i = 0; v.kind == J_TUPLE && v.l->label && i < 2; i++) {
        if (sp_jinja_is(name, names[i])) {
            return v.l->items[i];
        }
    }
    return (sp_jval){.kind = J_ABSENT};
}

sp_jval sp_jinja_attr(sp_jinja *r, sp_jval v, sp_jval name) {
    if (v.kind == J_FAIL || v.kind == J_UNDEF) {
        return v.kind == J_FAIL ? v : sp_jinja_fail(r, SPAR_INVALID, "%s", v.undef);
    }
    if (v.kind == J_CYCLER && sp_jinja_is(name, "current")) {
        return cycler_current(v);
    }
    sp_jval found = group_part(v, name);
    found = found.kind == J_ABSENT ? find_method(r, v, name) : found;
    if (found.kind == J_ABSENT && (v.kind == J_DICT || v.kind == J_NAMESPACE)) {
        found = sp_jinja_get(r, v, name);
    }
    return found.kind == J_ABSENT ? no_attribute(r, v, name) : found;
}

/* Index i of a sequence of n, counted from its end when negative; n when outside. */
static size_t place(int64_t i, size_t n) {
    if (i < 0) {
        i += (int64_t)n;
    }
    return i < 0 || (uint64_t)i >= n ? n : (size_t)i;
}

static sp_jval char_at(sp_jinja *r, sp_jval v, size_t i) {
    if (!sp_jinja_step(r, v.s->chars == v.s->n ? 0 : i / 64)) {
        return sp_jinja_failed();
    }
    const size_t from = sp_jinja_offset(v.s, i);
    size_t to = from + 1;
    while (to < v.s->n && ((unsigned char)v.s->s[to] & 0xc0) == 0x80) {
        to++;
    }
    return sp_jinja_borrow(r, v.s->s + from, to - from, v.s->markup);
}

static sp_jval indexed(sp_jinja *r, sp_jval v, sp_jval key) {
    const bool text = v.kind == J_STR;
    int64_t i = 0;
    if ((!text && v.kind != J_LIST && v.kind != J_TUPLE && v.kind != J_RANGE) ||
        !sp_jinja_as_int(key, &i)) {
        return (sp_jval){.kind = J_ABSENT};
    }
    const size_t n = sp_jinja_length(v);
    const size_t at = place(i, n);
    if (at == n) {
        return sp_jinja_undefined(r, "'%s object' has no element %lld", sp_jinja_type_name(v),
                                  (long long)i);
    }
    return text ? char_at(r, v, at) : v.l->items[at];
}

sp_jval sp_jinja_item(sp_jinja *r, sp_jval v, sp_jval key) {
    if (v.kind == J_UNDEF) {
        return sp_jinja_fail(r, SPAR_INVALID, "%s", v.undef);
    }
    sp_jval found = indexed(r, v, key);
    const bool hashable = key.kind != J_LIST && key.kind != J_DICT;
    if (v.kind == J_DICT && hashable) {
        found = sp_jinja_get(r, v, key);
    }
    if (found.kind == J_ABSENT && key.kind == J_STR) {
        return v.kind == J_DICT ? find_method(r, v, key).kind == J_ABSENT ? no_attribute(r, v, key)
                                                                          : find_method(r, v, key)
                                : sp_jinja_attr(r, v, key);
    }
    return found.kind == J_ABSENT ? no_attribute(r, v, key) : found;
}

/* ---- slices ---- */

static bool slice_bound(sp_jval v, int64_t fallback, int64_t n, int64_t low, int64_t high,
                        int64_t *out) {
    *out = fallback;
    if (v.kind == J_NONE) {
        return true;
    }
    if (!sp_jinja_as_int(v, out)) {
        return false;
    }
    if (*out < 0) {
        *out += n;
    }
    *out = *out < low ? low : *out > high ? high : *out;
    return true;
}

static sp_jval slice_text(sp_jinja *r, sp_jval v, int64_t start, int64_t count, int64_t step) {
    if (step == 1) {
        const size_t from = sp_jinja_offset(v.s, (size_t)start);
        const size_t to = sp_jinja_offset(v.s, (size_t)(start + count));
        return sp_jinja_step(r, v.s->n / 64)
                   ? sp_jinja_borrow(r, v.s->s + from, to - from, v.s->markup)
                   : sp_jinja_failed();
    }
    const sp_jval chars = sp_jinja_iterate(r, v);
    sp_str text = SP_STR_INIT;
    for (int64_t i = 0; chars.kind != J_FAIL && i < count; i++) {
        const sp_jstr *c = chars.l->items[start + i * step].s;
        sp_str_append(&text, c->s, c->n);
    }
    return sp_jinja_take(r, &text, v.s->markup);
}

sp_jval sp_jinja_slice(sp_jinja *r, sp_jval v, sp_jval start, sp_jval stop, sp_jval step) {
    if (v.kind == J_UNDEF) {
        return sp_jinja_fail(r, SPAR_INVALID, "%s", v.undef);
    }
    int64_t by = 1;
    int64_t from = 0;
    int64_t to = 0;
    const bool sliceable = repeatable(v) || v.kind == J_RANGE;
    const int64_t n = sliceable ? (int64_t)sp_jinja_length(v) : 0;
    if (!sliceable || (step.kind != J_NONE && !sp_jinja_as_int(step, &by))) {
        return sp_jinja_fail(r, SPAR_INVALID, "'%s' cannot be sliced so", sp_jinja_type_name(v));
    }
    if (by == 0) {
        return sp_jinja_fail(r, SPAR_INVALID, "slice step cannot be zero");
    }
    const int64_t low = by < 0 ? -1 : 0;
    const int64_t high = by < 0 ? n - 1 : n;
    if (!slice_bound(start, by < 0 ? high : low, n, low, high, &from) ||
        !slice_bound(stop, by < 0 ? low : high, n, low, high, &to)) {
        return sp_jinja_fail(r, SPAR_INVALID, "'%s' cannot be sliced so", sp_jinja_type_name(v));
    }
    const int64_t width = by < 0 ? from - to : to - from;
    const uint64_t stride = by < 0 ? 0 - (uint64_t)by : (uint64_t)by;
    const int64_t count = width <= 0 ? 0 : (int64_t)((uint64_t)(width - 1) / stride) + 1;
    by = count > 1 ? by : 1;
    if (v.kind == J_STR) {
        return slice_text(r, v, count == 0 ? 0 : from, count, by);
    }
    sp_jval list = sp_jinja_list(r, v.kind == J_TUPLE ? J_TUPLE : J_LIST, (size_t)count);
    for (int64_t i = 0; i < count && !r->failed; i++) {
        sp_jinja_push(r, list, v.l->items[from + i * by]);
    }
    return r->failed ? sp_jinja_failed() : list;
}
