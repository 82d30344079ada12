/* Functions that every template sees, and what `loop` offers. */
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "text/jinja_eval.h"

static sp_jval global_raise(sp_jinja *r, sp_jval self, const sp_jval *a, const sp_jargs *args) {
    (void)self;
    (void)args;
    const sp_jval text = sp_jinja_str(r, a[0]);
    return text.kind == J_FAIL
               ? text
               : sp_jinja_fail(r, SPAR_INVALID, "%s", text.kind == J_STR ? text.s->s : "");
}

static int day_of_week(int y, int m, int d) {
    static const int shift[] = {0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4};
    y -= m < 3;
    return (y + y / 4 - y / 100 + y / 400 + shift[m - 1] + d) % 7;
}

static bool parse_date(const char *text, struct tm *when) {
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int y = 0;
    int m = 0;
    int d = 0;
    char rest = '\0';
    if (sscanf(text, "%4d-%2d-%2d%c", &y, &m, &d, &rest) != 3 || y < 1 || m < 1 || m > 12 ||
        d < 1 || d > 31) {
        return false;
    }
    const bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    *when = (struct tm){.tm_year = y - 1900,
                        .tm_mon = m - 1,
                        .tm_mday = d,
                        .tm_wday = day_of_week(y, m, d),
                        .tm_yday = before[m - 1] + d - 1 + (leap && m > 2)};
    return true;
}

static sp_jval global_strftime(sp_jinja *r, sp_jval self, const sp_jval *a, const sp_jargs *args) {
    (void)self;
    (void)args;
    struct tm when;
    char text[512];
    if (r->now == NULL || !parse_date(r->now, &when)) {
        return sp_jinja_fail(
            r, SPAR_INVALID, "the template asks for the date: expected YYYY-MM-DD, %s%s",
            r->now == NULL ? "none was given" : "found ", r->now == NULL ? "" : r->now);
    }
    if (a[0].kind != J_STR || a[0].s->n > 200) {
        return sp_jinja_fail(r, SPAR_INVALID, "strftime_now() expects a short format");
    }
    const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0) {
        return sp_jinja_fail(r, SPAR_NO_MEMORY, "no memory for a locale");
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const size_t n = strftime_l(text, sizeof text, a[0].s->s, &when, plain);
#pragma GCC diagnostic pop
    freelocale(plain);
    return sp_jinja_text(r, text, n);
}

static bool range_bounds(sp_jinja *r, const sp_jval *a, int64_t *start, int64_t *stop,
                         int64_t *step) {
    *start = 0;
    *step = 1;
    bool good = sp_jinja_as_int(a[0], stop);
    if (a[1].kind != J_ABSENT) {
        *start = *stop;
        good = good && sp_jinja_as_int(a[1], stop);
    }
    if (a[2].kind != J_ABSENT) {
        good = good && sp_jinja_as_int(a[2], step);
    }
    if (!good || *step == 0) {
        sp_jinja_error(r, SPAR_INVALID, "range() expects integers, and a step that is not zero");
        return false;
    }
    return true;
}

static sp_jval global_range(sp_jinja *r, sp_jval self, const sp_jval *a, const sp_jargs *args) {
    (void)self;
    (void)args;
    int64_t start = 0;
    int64_t stop = 0;
    int64_t step = 1;
    if (!range_bounds(r, a, &start, &stop, &step)) {
        return sp_jinja_failed();
    }
    const bool empty = step > 0 ? start >= stop : start <= stop;
    const uint64_t width =
        step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    const uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    const uint64_t n = empty ? 0 : (width - 1) / stride + 1;
    if (n > SP_JINJA_RANGE) {
        return sp_jinja_fail(r, SPAR_LIMIT, "range too big: more than %d items", SP_JINJA_RANGE);
    }
    const sp_jval range = sp_jinja_list(r, J_RANGE, (size_t)n);
    for (uint64_t i = 0; i < n && !r->failed; i++) {
        sp_jinja_push(r, range, sp_jinja_int((int64_t)((uint64_t)start + i * (uint64_t)step)));
    }
    if (r->failed) {
        return sp_jinja_failed();
    }
    range.l->start = start;
    range.l->stop = stop;
    range.l->step = step;
    return range;
}

/* dict(mapping or pairs, **more) into a value of kind. */
static sp_jval build_dict(sp_jinja *r, sp_jkind kind, const sp_jargs *args) {
    sp_jval dict = sp_jinja_dict(r, kind);
    if (args->n_pos > 1) {
        return sp_jinja_fail(r, SPAR_INVALID, "expected at most 1 argument, got %zu", args->n_pos);
    }
    if (args->n_pos == 1 && args->pos[0].kind == J_DICT) {
        const sp_jdict *m = args->pos[0].m;
        for (size_t i = 0; i < m->n && !r->failed; i++) {
            sp_jinja_put(r, dict, m->keys[i], m->values[i]);
        }
    } else if (args->n_pos == 1) {
        const sp_jval list = sp_jinja_iterate(r, args->pos[0]);
        for (size_t i = 0; list.kind != J_FAIL && i < list.l->n && !r->failed; i++) {
            const sp_jval pair = sp_jinja_iterate(r, list.l->items[i]);
            if (pair.kind == J_FAIL || pair.l->n != 2) {
                return sp_jinja_fail(r, SPAR_INVALID, "dict() expects pairs");
            }
            sp_jinja_put(r, dict, pair.l->items[0], pair.l->items[1]);
        }
    }
    for (size_t i = 0; i < args->n_named && !r->failed; i++) {
        sp_jinja_put(r, dict, args->names[i], args->values[i]);
    }
    return r->failed ? sp_jinja_failed() : dict;
}

static sp_jval global_dict(sp_jinja *r, sp_jval self, const sp_jval *a, const sp_jargs *args) {
    (void)self;
    (void)a;
    return build_dict(r, J_DICT, args);
}

static sp_jval global_namespace(sp_jinja *r, sp_jval self, const sp_jval *a, const sp_jargs *args) {
    (void)self;
    (void)a;
    return build_dict(r, J_NAMESPACE, args);
}

static sp_jval global_cycler(sp_jinja *r, sp_jval self, const sp_jval *a, const sp_jargs *args) {
    (void)self;
    (void)a;
    const sp_jval cycler = sp_jinja_list(r, J_CYCLER, args->n_pos);
    if (args->n_pos == 0) {
        return sp_jinja_fail(r, SPAR_INVALID, "cycler() expects at least one item");
    }
    for (size_t i = 0; i < args->n_pos; i++) {
        sp_jinja_push(r, cycler, args->pos[i]);
    }
    return r->failed ? sp_jinja_failed() : cycler;
}

static sp_jval global_joiner(sp_jinja *r, sp_jval self, const sp_jval *a, const sp_jargs *args) {
    (void)self;
    (void)args;
    const sp_jval joiner = sp_jinja_list(r, J_JOINER, 1);
    const sp_jval text = a[0].kind == J_ABSENT ? sp_jinja_text(r, ", ", 2) : a[0];
    return sp_jinja_push(r, joiner, text) ? joiner : sp_jinja_failed();
}

const sp_jrow sp_jinja_builtins[] = {
    {"raise_exception", "message", global_raise, 0},
    {"strftime_now", "format", global_strftime, 0},
    {"range", "start,?stop,?step", global_range, 0},
    {"dict", NULL, global_dict, 0},
    {"namespace", NULL, global_namespace, 0},
    {"cycler", NULL, global_cycler, 0},
    {"joiner", "?sep", global_joiner, 0},
    {NULL, NULL, NULL, 0},
};

/* ---- loop ---- */

static sp_jval neighbour(sp_jinja *r, const sp_jloop *loop, bool next) {
    if (next ? loop->index + 1 >= loop->items->n : loop->index == 0) {
        return sp_jinja_undefined(r, "there is no %s item", next ? "next" : "previous");
    }
    return loop->items->items[next ? loop->index + 1 : loop->index - 1];
}

sp_jval sp_jinja_loop_attr(sp_jinja *r, sp_jval v, sp_jval name) {
    const sp_jloop *loop = v.loop;
    const int64_t i = (int64_t)loop->index;
    const int64_t n = (int64_t)loop->items->n;
    const struct {
        const char *name;
        sp_jval value;
    } rows[] = {
        {"index", sp_jinja_int(i + 1)},
        {"index0", sp_jinja_int(i)},
        {"revindex", sp_jinja_int(n - i)},
        {"revindex0", sp_jinja_int(n - i - 1)},
        {"first", sp_jinja_bool(i == 0)},
        {"last", sp_jinja_bool(i + 1 == n)},
        {"length", sp_jinja_int(n)},
        {"depth", sp_jinja_int(loop->depth)},
        {"depth0", sp_jinja_int(loop->depth - 1)},
    };
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        if (sp_jinja_is(name, rows[k].name)) {
            return rows[k].value;
        }
    }
    if (sp_jinja_is(name, "previtem") || sp_jinja_is(name, "nextitem")) {
        return neighbour(r, loop, name.s->s[0] == 'n');
    }
    return (sp_jval){.kind = J_ABSENT};
}
