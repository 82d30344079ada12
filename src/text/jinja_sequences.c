/* Filters over sequences. */
#include <string.h>

#include "text/jinja_filters.h"
#include "text/jinja_text.h"

#define FILTER(name)                                                                               \
    sp_jval sp_jinja_filter_##name(sp_jinja *r, sp_jval v, const sp_jval *a, const sp_jargs *args)
#define UNUSED (void)r, (void)v, (void)a, (void)args

static bool flag(sp_jval v) {
    return v.kind != J_ABSENT && sp_jinja_truth(v);
}

static bool given(sp_jval v) {
    return v.kind != J_ABSENT && v.kind != J_NONE;
}

/* item.attribute, "a.b.0" walking down; item itself where no attribute is given. */
static sp_jval attribute_of(sp_jinja *r, sp_jval item, sp_jval attribute) {
    if (!given(attribute) || item.kind == J_FAIL) {
        return item;
    }
    if (attribute.kind != J_STR) {
        return sp_jinja_item(r, item, attribute);
    }
    const sp_jval dot = sp_jinja_text(r, ".", 1);
    const sp_jval parts = dot.kind == J_FAIL ? dot : sp_jinja_split(r, attribute, dot, -1, false);
    for (size_t i = 0; parts.kind != J_FAIL && i < parts.l->n && item.kind != J_FAIL; i++) {
        const sp_jstr *s = parts.l->items[i].s;
        int64_t index = 0;
        size_t k = 0;
        for (; k < s->n && k < 18 && s->s[k] >= '0' && s->s[k] <= '9'; k++) {
            index = index * 10 + (s->s[k] - '0');
        }
        item =
            sp_jinja_item(r, item, s->n > 0 && k == s->n ? sp_jinja_int(index) : parts.l->items[i]);
    }
    return r->failed ? sp_jinja_failed() : item;
}

/* The key to order or group by: the attribute, in lower case unless case counts. */
static sp_jval key_of(sp_jinja *r, sp_jval item, sp_jval attribute, bool case_sensitive) {
    const sp_jval key = attribute_of(r, item, attribute);
    return key.kind == J_STR && !case_sensitive ? sp_jinja_lower(r, key) : key;
}

static sp_jval generator(sp_jval list) {
    return list.kind == J_FAIL ? list : (sp_jval){.kind = J_GEN, .l = list.l};
}

FILTER(first) {
    UNUSED;
    if (v.kind == J_GEN) {
        return v.l->pos < v.l->n ? v.l->items[v.l->pos++]
                                 : sp_jinja_undefined(r, "no first item, sequence was empty");
    }
    if (v.kind == J_STR && v.s->n > 0) {
        return sp_jinja_item(r, v, sp_jinja_int(0));
    }
    const sp_jval list = sp_jinja_iterate(r, v);
    return list.kind == J_FAIL ? list
           : list.l->n > 0     ? list.l->items[0]
                               : sp_jinja_undefined(r, "no first item, sequence was empty");
}

FILTER(last) {
    UNUSED;
    if (v.kind == J_GEN) {
        return sp_jinja_fail(r, SPAR_INVALID, "'generator' object is not reversible");
    }
    const sp_jval list = sp_jinja_iterate(r, v);
    return list.kind == J_FAIL ? list
           : list.l->n > 0     ? list.l->items[list.l->n - 1]
                               : sp_jinja_undefined(r, "no last item, sequence was empty");
}

FILTER(list) {
    UNUSED;
    return sp_jinja_iterate(r, v);
}

FILTER(items) {
    UNUSED;
    sp_jval list = sp_jinja_list(r, J_GEN, v.kind == J_DICT ? v.m->n : 0);
    if (v.kind != J_DICT && v.kind != J_UNDEF) {
        return sp_jinja_fail(r, SPAR_INVALID, "can only get item pairs from a mapping");
    }
    for (size_t i = 0; v.kind == J_DICT && i < v.m->n && !r->failed; i++) {
        sp_jinja_push(r, list, sp_jinja_pair(r, v.m->keys[i], v.m->values[i]));
    }
    return list;
}

static sp_jval reversed(sp_jinja *r, sp_jval list) {
    sp_jval out = sp_jinja_list(r, J_LIST, list.l->n);
    for (size_t i = list.l->n; i-- > 0 && !r->failed;) {
        sp_jinja_push(r, out, list.l->items[i]);
    }
    return r->failed ? sp_jinja_failed() : out;
}

FILTER(reverse) {
    UNUSED;
    if (v.kind == J_STR) {
        return sp_jinja_slice(r, v, sp_jinja_none(), sp_jinja_none(), sp_jinja_int(-1));
    }
    const sp_jval list = sp_jinja_iterate(r, v);
    return list.kind == J_FAIL ? list : generator(reversed(r, list));
}

/* ---- map and the selections ---- */

static sp_jval named(const sp_jargs *args, const char *name) {
    for (size_t i = 0; i < args->n_named; i++) {
        if (sp_jinja_is(args->names[i], name)) {
            return args->values[i];
        }
    }
    return (sp_jval){.kind = J_ABSENT};
}

static sp_jval map_one(sp_jinja *r, sp_jval item, const sp_jargs *args, sp_jval attribute,
                       sp_jval fallback) {
    if (attribute.kind != J_ABSENT) {
        const sp_jval v = attribute_of(r, item, attribute);
        return v.kind == J_UNDEF && fallback.kind != J_ABSENT ? fallback : v;
    }
    const sp_jargs rest = sp_jinja_rest(args, 1);
    return sp_jinja_filter(r, args->pos[0], item, &rest);
}

FILTER(map) {
    UNUSED;
    if (!sp_jinja_truth(v)) { /* none too, which cannot be walked */
        return sp_jinja_list(r, J_GEN, 0);
    }
    const sp_jval attribute =
        args->n_pos == 0 ? named(args, "attribute") : (sp_jval){.kind = J_ABSENT};
    if (args->n_pos == 0 && attribute.kind == J_ABSENT) {
        return sp_jinja_fail(r, SPAR_INVALID, "map requires a filter argument");
    }
    const sp_jval list = sp_jinja_iterate(r, v);
    sp_jval out = sp_jinja_list(r, J_GEN, 4);
    for (size_t i = 0; list.kind != J_FAIL && i < list.l->n && !r->failed; i++) {
        sp_jinja_push(r, out,
                      map_one(r, list.l->items[i], args, attribute, named(args, "default")));
    }
    return r->failed ? sp_jinja_failed() : out;
}

static sp_jval select_items(sp_jinja *r, sp_jval v, const sp_jargs *args, bool by_attribute,
                            bool keep) {
    if (!sp_jinja_truth(v)) { /* none too, which cannot be walked */
        return sp_jinja_list(r, J_GEN, 0);
    }
    if (by_attribute && args->n_pos == 0) {
        return sp_jinja_fail(r, SPAR_INVALID, "missing parameter for attribute name");
    }
    const sp_jargs rest = sp_jinja_rest(args, by_attribute ? 2 : 1);
    const bool tested = args->n_pos > (by_attribute ? 1 : 0);
    const sp_jval list = sp_jinja_iterate(r, v);
    sp_jval out = sp_jinja_list(r, J_GEN, 4);
    for (size_t i = 0; list.kind != J_FAIL && i < list.l->n && !r->failed; i++) {
        const sp_jval item = list.l->items[i];
        const sp_jval subject = by_attribute ? attribute_of(r, item, args->pos[0]) : item;
        bool verdict = sp_jinja_truth(subject);
        if (tested && !sp_jinja_test(r, args->pos[by_attribute], subject, &rest, &verdict)) {
            break;
        }
        if (verdict == keep) {
            sp_jinja_push(r, out, item);
        }
    }
    return r->failed ? sp_jinja_failed() : out;
}

FILTER(select) {
    UNUSED;
    return select_items(r, v, args, false, true);
}

FILTER(reject) {
    UNUSED;
    return select_items(r, v, args, false, false);
}

FILTER(selectattr) {
    UNUSED;
    return select_items(r, v, args, true, true);
}

FILTER(rejectattr) {
    UNUSED;
    return select_items(r, v, args, true, false);
}

/* ---- order ---- */

typedef struct sorter {
    sp_jinja *r;
    sp_jval *keys, *items, *spare_keys, *spare_items;
    bool reverse;
} sorter;

/* Stable merge sort of [from, to), which a reversed order keeps stable too, as Python does. */
static void merge_sort(sorter *s, size_t from, size_t to) {
    if (to - from < 2 || s->r->failed) {
        return;
    }
    const size_t mid = from + (to - from) / 2;
    merge_sort(s, from, mid);
    merge_sort(s, mid, to);
    size_t a = from;
    size_t b = mid;
    for (size_t i = from; i < to && !s->r->failed; i++) {
        int order = 0;
        if (a < mid && b < to) {
            sp_jinja_compare(s->r, s->keys[b], s->keys[a], "<", &order);
            order = s->reverse ? -order : order;
        }
        const size_t take = b >= to || (a < mid && order >= 0) ? a++ : b++;
        s->spare_keys[i] = s->keys[take];
        s->spare_items[i] = s->items[take];
    }
    memcpy(s->keys + from, s->spare_keys + from, (to - from) * sizeof *s->keys);
    memcpy(s->items + from, s->spare_items + from, (to - from) * sizeof *s->items);
}

/* list ordered by keys, both of n items. */
static sp_jval sort_by(sp_jinja *r, sp_jval list, sp_jval keys, bool reverse) {
    const size_t n = list.l->n;
    sp_jval out = sp_jinja_list(r, J_LIST, n);
    sorter s = {.r = r,
                .reverse = reverse,
                .spare_keys = sp_jinja_alloc(r, n * sizeof(sp_jval)),
                .spare_items = sp_jinja_alloc(r, n * sizeof(sp_jval))};
    for (size_t i = 0; i < n && !r->failed; i++) {
        sp_jinja_push(r, out, list.l->items[i]);
    }
    if (r->failed) {
        return sp_jinja_failed();
    }
    s.keys = keys.l->items;
    s.items = out.l->items;
    merge_sort(&s, 0, n);
    return r->failed ? sp_jinja_failed() : out;
}

static sp_jval keys_of(sp_jinja *r, sp_jval list, sp_jval attribute, bool case_sensitive) {
    sp_jval keys = sp_jinja_list(r, J_LIST, list.l->n);
    for (size_t i = 0; i < list.l->n && !r->failed; i++) {
        sp_jinja_push(r, keys, key_of(r, list.l->items[i], attribute, case_sensitive));
    }
    return r->failed ? sp_jinja_failed() : keys;
}

/* Keys are tuples, of one part or of the attributes "a,b": so equal parts need no order. */
static sp_jval sort_keys(sp_jinja *r, sp_jval list, sp_jval attribute, bool case_sensitive) {
    const sp_jval comma = sp_jinja_text(r, ",", 1);
    sp_jval parts = sp_jinja_list(r, J_LIST, 1);
    sp_jval keys = sp_jinja_list(r, J_LIST, list.l->n);
    if (!r->failed && attribute.kind == J_STR) {
        parts = sp_jinja_split(r, attribute, comma, -1, false);
    } else {
        sp_jinja_push(r, parts, attribute);
    }
    for (size_t i = 0; i < list.l->n && !r->failed; i++) {
        sp_jval key = sp_jinja_list(r, J_TUPLE, parts.l->n);
        for (size_t k = 0; !r->failed && k < parts.l->n; k++) {
            sp_jinja_push(r, key, key_of(r, list.l->items[i], parts.l->items[k], case_sensitive));
        }
        sp_jinja_push(r, keys, key);
    }
    return r->failed ? sp_jinja_failed() : keys;
}

FILTER(sort) {
    UNUSED;
    const sp_jval list = sp_jinja_iterate(r, v);
    const sp_jval keys = list.kind == J_FAIL ? list : sort_keys(r, list, a[2], flag(a[1]));
    return keys.kind == J_FAIL ? keys : sort_by(r, list, keys, flag(a[0]));
}

FILTER(unique) {
    UNUSED;
    const sp_jval list = sp_jinja_iterate(r, v);
    sp_jval seen = sp_jinja_dict(r, J_DICT);
    sp_jval out = sp_jinja_list(r, J_GEN, 4);
    for (size_t i = 0; list.kind != J_FAIL && i < list.l->n && !r->failed; i++) {
        const sp_jval key = key_of(r, list.l->items[i], a[1], flag(a[0]));
        if (sp_jinja_get(r, seen, key).kind == J_ABSENT) {
            sp_jinja_put(r, seen, key, sp_jinja_none());
            sp_jinja_push(r, out, list.l->items[i]);
        }
    }
    return r->failed ? sp_jinja_failed() : out;
}

static sp_jval extreme(sp_jinja *r, sp_jval v, const sp_jval *a, bool greatest) {
    const sp_jval list = sp_jinja_iterate(r, v);
    const sp_jval keys = list.kind == J_FAIL ? list : keys_of(r, list, a[1], flag(a[0]));
    size_t best = 0;
    if (keys.kind == J_FAIL || list.l->n == 0) {
        return keys.kind == J_FAIL
                   ? keys
                   : sp_jinja_undefined(r, "no aggregated item, sequence was empty");
    }
    for (size_t i = 1; i < list.l->n; i++) {
        int order = 0;
        if (!sp_jinja_compare(r, keys.l->items[i], keys.l->items[best], greatest ? ">" : "<",
                              &order)) {
            return sp_jinja_failed();
        }
        best = (greatest ? order > 0 : order < 0) ? i : best;
    }
    return list.l->items[best];
}

FILTER(min) {
    UNUSED;
    return extreme(r, v, a, false);
}

FILTER(max) {
    UNUSED;
    return extreme(r, v, a, true);
}

FILTER(sum) {
    UNUSED;
    const sp_jval list = sp_jinja_iterate(r, v);
    sp_jval total = a[1].kind == J_ABSENT ? sp_jinja_int(0) : a[1];
    for (size_t i = 0; list.kind != J_FAIL && i < list.l->n && !r->failed; i++) {
        total = sp_jinja_binary(r, "+", total, attribute_of(r, list.l->items[i], a[0]));
    }
    return r->failed ? sp_jinja_failed() : total;
}

FILTER(join) {
    UNUSED;
    const sp_jval list = sp_jinja_iterate(r, v);
    const sp_jval separator =
        a[0].kind == J_ABSENT ? sp_jinja_text(r, "", 0) : sp_jinja_str(r, a[0]);
    if (r->failed) {
        return sp_jinja_failed();
    }
    sp_jval items = sp_jinja_list(r, J_LIST, list.l->n);
    for (size_t i = 0; i < list.l->n && !r->failed; i++) {
        sp_jinja_push(r, items, attribute_of(r, list.l->items[i], a[1]));
    }
    return r->failed ? sp_jinja_failed() : sp_jinja_join(r, separator, items, false);
}

/* ---- groups ---- */

static bool count_argument(sp_jinja *r, sp_jval v, int64_t *n) {
    if (!sp_jinja_as_int(v, n) || *n < 1 || *n > SP_JINJA_RANGE) {
        sp_jinja_error(r, SPAR_INVALID, "expected a count of at least 1");
        return false;
    }
    return true;
}

FILTER(batch) {
    UNUSED;
    int64_t width = 0;
    const sp_jval list = sp_jinja_iterate(r, v);
    sp_jval out = sp_jinja_list(r, J_GEN, 4);
    if (r->failed || !count_argument(r, a[0], &width)) {
        return sp_jinja_failed();
    }
    for (size_t i = 0; i < list.l->n && !r->failed; i += (size_t)width) {
        sp_jval row = sp_jinja_list(r, J_LIST, 4);
        for (size_t k = i; k < i + (size_t)width && !r->failed; k++) {
            if (k < list.l->n) {
                sp_jinja_push(r, row, list.l->items[k]);
            } else if (given(a[1])) {
                sp_jinja_push(r, row, a[1]);
            }
        }
        sp_jinja_push(r, out, row);
    }
    return r->failed ? sp_jinja_failed() : out;
}

FILTER(slice) {
    UNUSED;
    int64_t count = 0;
    const sp_jval list = sp_jinja_iterate(r, v);
    sp_jval out = sp_jinja_list(r, J_GEN, 4);
    if (r->failed || !count_argument(r, a[0], &count)) {
        return sp_jinja_failed();
    }
    const size_t each = list.l->n / (size_t)count;
    const size_t extra = list.l->n % (size_t)count;
    size_t at = 0;
    for (size_t i = 0; i < (size_t)count && !r->failed; i++) {
        sp_jval row = sp_jinja_list(r, J_LIST, each + 1);
        const size_t end = at + each + (i < extra);
        for (; at < end && !r->failed; at++) {
            sp_jinja_push(r, row, list.l->items[at]);
        }
        if (given(a[1]) && i >= extra) {
            sp_jinja_push(r, row, a[1]);
        }
        sp_jinja_push(r, out, row);
    }
    return r->failed ? sp_jinja_failed() : out;
}

FILTER(dictsort) {
    UNUSED;
    const bool by_value = given(a[1]) && sp_jinja_is(a[1], "value");
    if (v.kind != J_DICT) {
        return sp_jinja_fail(r, SPAR_INVALID, "'%s' object has no attribute 'items'",
                             sp_jinja_type_name(v));
    }
    if (given(a[1]) && !by_value && !sp_jinja_is(a[1], "key")) {
        return sp_jinja_fail(r, SPAR_INVALID, "you can only sort by either \"key\" or \"value\"");
    }
    sp_jval pairs = sp_jinja_list(r, J_LIST, v.m->n);
    for (size_t i = 0; i < v.m->n && !r->failed; i++) {
        sp_jinja_push(r, pairs, sp_jinja_pair(r, v.m->keys[i], v.m->values[i]));
    }
    const sp_jval keys =
        r->failed ? sp_jinja_failed() : keys_of(r, pairs, sp_jinja_int(by_value), flag(a[0]));
    return keys.kind == J_FAIL ? keys : sort_by(r, pairs, keys, flag(a[2]));
}

static sp_jval group_key(sp_jinja *r, sp_jval item, const sp_jval *a, bool case_sensitive) {
    sp_jval key = attribute_of(r, item, a[0]);
    key = key.kind == J_UNDEF && a[1].kind != J_ABSENT ? a[1] : key;
    return key.kind == J_STR && !case_sensitive ? sp_jinja_lower(r, key) : key;
}

FILTER(groupby) {
    UNUSED;
    const sp_jval list = sp_jinja_iterate(r, v);
    if (list.kind == J_FAIL) {
        return list;
    }
    sp_jval keys = sp_jinja_list(r, J_LIST, list.l->n);
    for (size_t i = 0; i < list.l->n && !r->failed; i++) {
        sp_jinja_push(r, keys, group_key(r, list.l->items[i], a, flag(a[2])));
    }
    const sp_jval sorted = r->failed ? sp_jinja_failed() : sort_by(r, list, keys, false);
    sp_jval out = sp_jinja_list(r, J_LIST, 4);
    sp_jval members = sp_jinja_list(r, J_LIST, 0);
    for (size_t i = 0; !r->failed && i < sorted.l->n; i++) {
        if (i == 0 || !sp_jinja_equal(r, keys.l->items[i - 1], keys.l->items[i])) {
            members = sp_jinja_list(r, J_LIST, 4);
            const sp_jval group =
                sp_jinja_pair(r, group_key(r, sorted.l->items[i], a, true), members);
            if (group.kind != J_FAIL) {
                group.l->label = "group";
            }
            sp_jinja_push(r, out, group);
        }
        sp_jinja_push(r, members, sorted.l->items[i]);
    }
    return r->failed ? sp_jinja_failed() : out;
}
