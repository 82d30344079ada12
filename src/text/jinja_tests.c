/* The tests of `is`. */

#include "text/jinja_eval.h"
#include "text/jinja_unicode.h"

#define TEST(name)                                                                                 \
    static sp_jval test_##name(sp_jinja *r, sp_jval v, const sp_jval *a, const sp_jargs *args)
#define UNUSED (void)r, (void)v, (void)a, (void)args

TEST(defined) {
    UNUSED;
    return sp_jinja_bool(v.kind != J_UNDEF);
}

TEST(undefined) {
    UNUSED;
    return sp_jinja_bool(v.kind == J_UNDEF);
}

TEST(none) {
    UNUSED;
    return sp_jinja_bool(v.kind == J_NONE);
}

TEST(string) {
    UNUSED;
    return sp_jinja_bool(v.kind == J_STR);
}

TEST(number) {
    UNUSED;
    return sp_jinja_bool(sp_jinja_is_number(v));
}

TEST(integer) {
    UNUSED;
    return sp_jinja_bool(v.kind == J_INT);
}

TEST(float) {
    UNUSED;
    return sp_jinja_bool(v.kind == J_FLOAT);
}

TEST(boolean) {
    UNUSED;
    return sp_jinja_bool(v.kind == J_BOOL);
}

TEST(mapping) {
    UNUSED;
    return sp_jinja_bool(v.kind == J_DICT);
}

TEST(sequence) {
    UNUSED;
    return sp_jinja_bool(sp_jinja_has_length(v) && v.kind != J_VIEW);
}

TEST(iterable) {
    UNUSED;
    return sp_jinja_bool(sp_jinja_iterable(v));
}

TEST(callable) {
    UNUSED;
    return sp_jinja_bool(v.kind == J_CALLABLE || v.kind == J_LOOP || v.kind == J_JOINER ||
                         v.kind == J_UNDEF);
}

TEST(true) {
    UNUSED;
    return sp_jinja_bool(v.kind == J_BOOL && v.b);
}

TEST(false) {
    UNUSED;
    return sp_jinja_bool(v.kind == J_BOOL && !v.b);
}

static sp_jval divides(sp_jinja *r, sp_jval v, int64_t by, int64_t rest) {
    const sp_jval mod = sp_jinja_binary(r, "%", v, sp_jinja_int(by));
    return mod.kind == J_FAIL ? mod : sp_jinja_bool(sp_jinja_equal(r, mod, sp_jinja_int(rest)));
}

TEST(even) {
    UNUSED;
    return divides(r, v, 2, 0);
}

TEST(odd) {
    UNUSED;
    return divides(r, v, 2, 1);
}

TEST(divisibleby) {
    UNUSED;
    const sp_jval mod = sp_jinja_binary(r, "%", v, a[0]);
    return mod.kind == J_FAIL ? mod : sp_jinja_bool(!sp_jinja_truth(mod));
}

TEST(in) {
    UNUSED;
    bool found = false;
    return sp_jinja_contains(r, a[0], v, &found) ? sp_jinja_bool(found) : sp_jinja_failed();
}

TEST(eq) {
    UNUSED;
    return sp_jinja_bool(sp_jinja_equal(r, v, a[0]));
}

TEST(ne) {
    UNUSED;
    return sp_jinja_bool(!sp_jinja_equal(r, v, a[0]));
}

TEST(lt) {
    UNUSED;
    int order = 0;
    return sp_jinja_compare(r, v, a[0], "<", &order) ? sp_jinja_bool(order < 0) : sp_jinja_failed();
}

TEST(le) {
    UNUSED;
    int order = 0;
    return sp_jinja_compare(r, v, a[0], "<=", &order) ? sp_jinja_bool(order <= 0)
                                                      : sp_jinja_failed();
}

TEST(gt) {
    UNUSED;
    int order = 0;
    return sp_jinja_compare(r, v, a[0], ">", &order) ? sp_jinja_bool(order > 0) : sp_jinja_failed();
}

TEST(ge) {
    UNUSED;
    int order = 0;
    return sp_jinja_compare(r, v, a[0], ">=", &order) ? sp_jinja_bool(order >= 0)
                                                      : sp_jinja_failed();
}

/* str(v).isupper() or islower(): some cased letter, and none of the other case. */
static sp_jval all_of_case(sp_jinja *r, sp_jval v, bool upper) {
    const sp_jval text = sp_jinja_str(r, v);
    bool some = false;
    bool other = false;
    for (size_t i = 0; text.kind == J_STR && i < text.s->n;) {
        unsigned c = 0;
        i += sp_utf8_decode(text.s->s + i, text.s->n - i, &c);
        some = some || (upper ? sp_jinja_is_upper(c) : sp_jinja_is_lower(c));
        other = other || (upper ? sp_jinja_is_lower(c) : sp_jinja_is_upper(c));
    }
    return sp_jinja_bool(some && !other);
}

TEST(lower) {
    UNUSED;
    return all_of_case(r, v, false);
}

TEST(upper) {
    UNUSED;
    return all_of_case(r, v, true);
}

TEST(sameas) {
    UNUSED;
    const bool plain = v.kind == J_NONE || v.kind == J_BOOL || v.kind == J_INT;
    const bool same = v.kind == a[0].kind &&
                      (plain || v.kind == J_STR || v.kind == J_FLOAT ? sp_jinja_equal(r, v, a[0])
                                                                     : v.l == a[0].l);
    return sp_jinja_bool(same);
}

/* Names are looked up as keys are: what cannot be one fails. */
static sp_jval is_name(sp_jinja *r, const sp_jrow *table, sp_jval v) {
    return sp_jinja_hashable(r, v) ? sp_jinja_bool(sp_jinja_find_row(table, v, 0) != NULL)
                                   : sp_jinja_failed();
}

TEST(filter) {
    UNUSED;
    return is_name(r, sp_jinja_filters, v);
}

TEST(test) {
    UNUSED;
    return is_name(r, sp_jinja_tests, v);
}

TEST(escaped) {
    UNUSED;
    return sp_jinja_bool(v.kind == J_STR && v.s->markup);
}

const sp_jrow sp_jinja_tests[] = {
    {"defined", "", test_defined, 0},
    {"undefined", "", test_undefined, 0},
    {"none", "", test_none, 0},
    {"string", "", test_string, 0},
    {"number", "", test_number, 0},
    {"integer", "", test_integer, 0},
    {"float", "", test_float, 0},
    {"boolean", "", test_boolean, 0},
    {"mapping", "", test_mapping, 0},
    {"sequence", "", test_sequence, 0},
    {"iterable", "", test_iterable, 0},
    {"callable", "", test_callable, 0},
    {"true", "", test_true, 0},
    {"false", "", test_false, 0},
    {"even", "", test_even, 0},
    {"odd", "", test_odd, 0},
    {"divisibleby", "num", test_divisibleby, 0},
    {"in", "seq", test_in, 0},
    {"eq", "other", test_eq, 0},
    {"equalto", "other", test_eq, 0},
    {"==", "other", test_eq, 0},
    {"ne", "other", test_ne, 0},
    {"!=", "other", test_ne, 0},
    {"lt", "other", test_lt, 0},
    {"lessthan", "other", test_lt, 0},
    {"<", "other", test_lt, 0},
    {"le", "other", test_le, 0},
    {"<=", "other", test_le, 0},
    {"gt", "other", test_gt, 0},
    {"greaterthan", "other", test_gt, 0},
    {">", "other", test_gt, 0},
    {"ge", "other", test_ge, 0},
    {">=", "other", test_ge, 0},
    {"lower", "", test_lower, 0},
    {"upper", "", test_upper, 0},
    {"sameas", "other", test_sameas, 0},
    {"filter", "", test_filter, 0},
    {"test", "", test_test, 0},
    {"escaped", "", test_escaped, 0},
    {NULL, NULL, NULL, 0},
};
