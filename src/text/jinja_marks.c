#include "text/jinja_marks.h"

#include <string.h>

/* Room for one more item; arrays live in the arena and what they outgrow stays there. */
static bool grow(sp_jinja *r, void **items, size_t *capacity, size_t n, size_t size) {
    if (n < *capacity) {
        return true;
    }
    const size_t more = *capacity > 0 ? 2 * *capacity : 8;
    void *grown = sp_jinja_alloc(r, more * size);
    if (grown == NULL) {
        return false;
    }
    if (n > 0) {
        memcpy(grown, *items, n * size);
    }
    *items = grown;
    *capacity = more;
    return true;
}

static bool add_mark(sp_jinja *r, sp_jmark mark) {
    sp_jmarks *m = r->marked;
    void *items = m->items;
    if (!grow(r, &items, &m->capacity, m->n, sizeof *m->items)) {
        return false;
    }
    m->items = items;
    m->items[m->n++] = mark;
    return true;
}

static bool add_trace(sp_jinja *r, sp_jtrace trace) {
    sp_jtraces *t = r->traces;
    void *items = t->items;
    if (!grow(r, &items, &t->capacity, t->n, sizeof *t->items)) {
        return false;
    }
    t->items = items;
    t->items[t->n++] = trace;
    return true;
}

static bool *add_flag(sp_jinja *r) {
    sp_jtraces *t = r->traces;
    void *items = t->flags;
    bool *flag = sp_jinja_alloc(r, sizeof *flag);
    if (flag == NULL || !grow(r, &items, &t->flag_capacity, t->n_flags, sizeof *t->flags)) {
        return NULL;
    }
    t->flags = items;
    t->flags[t->n_flags++] = flag;
    return flag;
}

/* ---- captures ---- */

void sp_jinja_capture_begin(sp_jinja *r, sp_jcapture *c) {
    *c = (sp_jcapture){.text = SP_STR_INIT, .outer = r->out, .outer_marks = r->marked};
    c->marks.around = r->marked;
    r->out = &c->text;
    r->marked = r->marked != NULL ? &c->marks : NULL;
}

sp_jval sp_jinja_capture_end(sp_jinja *r, sp_jcapture *c, bool good) {
    r->out = c->outer;
    r->marked = c->outer_marks;
    if (!good) {
        sp_str_release(&c->text);
        return sp_jinja_failed();
    }
    const sp_jval v = sp_jinja_take(r, &c->text, false);
    for (size_t i = 0; v.kind == J_STR && i < c->marks.n; i++) {
        const sp_jmark *m = &c->marks.items[i];
        if (!add_trace(r, (sp_jtrace){v.s->s + m->begin, v.s->s + m->end, m->written})) {
            return sp_jinja_failed();
        }
    }
    return v;
}

/* ---- blocks ---- */

bool sp_jinja_mark_begin(sp_jinja *r, size_t *begin) {
    if (r->marked == NULL || r->marked->open) {
        return false;
    }
    *begin = r->out->len;
    r->marked->open = true;
    return true;
}

/* A captured block that wrote nothing has nothing that could be lost. */
bool sp_jinja_mark_end(sp_jinja *r, size_t begin) {
    sp_jmark mark = {begin, r->out->len, NULL};
    r->marked->open = false;
    if (r->marked->around != NULL) {
        if (mark.end == begin) {
            return true;
        }
        mark.written = add_flag(r);
        if (mark.written == NULL) {
            return false;
        }
    }
    return add_mark(r, mark);
}

/* The part of a trace that lies in [s, s + n), from its beginning; false: none does. */
static bool overlap(const sp_jtrace *t, const char *s, size_t n, size_t *begin, size_t *end) {
    const uintptr_t from = (uintptr_t)s, to = from + n;
    const uintptr_t first = (uintptr_t)t->begin, last = (uintptr_t)t->end;
    if (first >= to || last <= from) {
        return false;
    }
    *begin = first > from ? first - from : 0;
    *end = (last < to ? last : to) - from;
    return true;
}

/* Looking costs steps, so that a template cannot make much of it. */
static bool may_look(sp_jinja *r) {
    return sp_jinja_step(r, r->traces->n / 16);
}

bool sp_jinja_mark_written(sp_jinja *r, const char *s, size_t n) {
    if (r->marked == NULL || !may_look(r)) {
        return !r->failed;
    }
    for (size_t i = 0; i < r->traces->n && !r->failed; i++) {
        const sp_jtrace t = r->traces->items[i];
        sp_jmark mark = {.written = t.written};
        if (!overlap(&t, s, n, &mark.begin, &mark.end)) {
            continue;
        }
        mark.begin += r->out->len;
        mark.end += r->out->len;
        if (r->marked->around == NULL || r->marked->open) {
            *t.written = true;
        }
        if (!r->marked->open) {
            add_mark(r, mark);
        }
    }
    return !r->failed;
}

bool sp_jinja_mark_copied(sp_jinja *r, const char *from, size_t n, const char *to) {
    if (r->marked == NULL || !may_look(r)) {
        return !r->failed;
    }
    const size_t known = r->traces->n;
    for (size_t i = 0; i < known && !r->failed; i++) {
        const sp_jtrace t = r->traces->items[i];
        size_t begin, end;
        if (overlap(&t, from, n, &begin, &end)) {
            add_trace(r, (sp_jtrace){to + begin, to + end, t.written});
        }
    }
    return !r->failed;
}

bool sp_jinja_marks_settled(sp_jinja *r) {
    for (size_t i = 0; i < r->traces->n_flags && !r->failed; i++) {
        if (!*r->traces->flags[i]) {
            sp_jinja_error(r, SPAR_UNSUPPORTED,
                           "a generation block within a captured text that is changed or not "
                           "written out: what of the text it wrote is unknown");
        }
    }
    return !r->failed;
}
