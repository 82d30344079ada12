/* Quantities in text: decimals, fractions, units. */
#include <math.h>
#include <string.h>

#include "judge/verifier.h"

enum { DIGITS_MAX = 128 };

/* Units that convert: value in the first unit of the dimension. */
typedef struct unit {
    const char *name;
    char dimension;
    long double factor;
} unit;

static const unit units[] = {{"m", 'L', 1},
                             {"mm", 'L', 1e-3L},
                             {"cm", 'L', 1e-2L},
                             {"km", 'L', 1e3L},
                             {"meter", 'L', 1},
                             {"meters", 'L', 1},
                             {"metre", 'L', 1},
                             {"metres", 'L', 1},
                             {"inch", 'L', .0254L},
                             {"inches", 'L', .0254L},
                             {"ft", 'L', .3048L},
                             {"feet", 'L', .3048L},
                             {"mile", 'L', 1609.344L},
                             {"miles", 'L', 1609.344L},
                             {"g", 'M', 1},
                             {"mg", 'M', 1e-3L},
                             {"kg", 'M', 1e3L},
                             {"gram", 'M', 1},
                             {"grams", 'M', 1},
                             {"kilogram", 'M', 1e3L},
                             {"kilograms", 'M', 1e3L},
                             {"s", 'T', 1},
                             {"ms", 'T', 1e-3L},
                             {"min", 'T', 60},
                             {"h", 'T', 3600},
                             {"second", 'T', 1},
                             {"seconds", 'T', 1},
                             {"minute", 'T', 60},
                             {"minutes", 'T', 60},
                             {"hour", 'T', 3600},
                             {"hours", 'T', 3600},
                             {"day", 'T', 86400},
                             {"days", 'T', 86400},
                             {"l", 'V', 1},
                             {"L", 'V', 1},
                             {"ml", 'V', 1e-3L},
                             {"mL", 'V', 1e-3L},
                             {"%", 'P', 1},
                             {"percent", 'P', 1}};
enum { N_UNITS = sizeof units / sizeof units[0] };

typedef struct quantity {
    bool negative, decimal;  /* decimal: digits is the whole value */
    char digits[DIGITS_MAX]; /* no leading zeros, no trailing ones behind the point */
    long double value;
    const unit *unit; /* NULL: none that is known */
} quantity;

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static char at(sp_text t, size_t i) {
    return i < t.n ? t.at[i] : '\0';
}

static size_t digits_at(sp_text t, size_t i) {
    size_t n = 0;
    while (is_digit(at(t, i + n))) {
        n++;
    }
    return n;
}

static void put(char *out, size_t *n, char c) {
    if (*n + 1 < DIGITS_MAX) {
        out[(*n)++] = c;
    } else {
        out[0] = '?'; /* too long: equal to nothing that is not as long */
    }
    out[*n] = '\0';
}

/* Digits with groups of three behind commas: 1,234,567 but not 12,34. */
static size_t take_whole(sp_text t, size_t i, char *out, size_t *n) {
    size_t end = i + digits_at(t, i);
    if (end > i && end - i <= 3) {
        while (at(t, end) == ',' && digits_at(t, end + 1) == 3) {
            end += 4;
        }
    }
    for (size_t k = i; k < end; k++) {
        if (is_digit(t.at[k]) && (*n > 0 || t.at[k] != '0')) {
            put(out, n, t.at[k]);
        }
    }
    return end - i;
}

/* ".50" behind whole digits; zeros at the end are dropped. */
static size_t take_part(sp_text t, size_t i, char *out, size_t *n) {
    const size_t length = at(t, i) == '.' ? digits_at(t, i + 1) : 0;
    size_t used = length;
    while (used > 0 && t.at[i + used] == '0') {
        used--;
    }
    for (size_t k = 0; used > 0 && k <= used; k++) {
        put(out, n, t.at[i + k]);
    }
    return length > 0 ? length + 1 : 0;
}

static size_t take_exponent(sp_text t, size_t i, long double *value) {
    const size_t sign = at(t, i + 1) == '-' || at(t, i + 1) == '+';
    const size_t length = at(t, i) == 'e' || at(t, i) == 'E' ? digits_at(t, i + 1 + sign) : 0;
    if (length == 0 || length > 4) {
        return 0;
    }
    long double power = 0;
    for (size_t k = 0; k < length; k++) {
        power = 10 * power + (t.at[i + 1 + sign + k] - '0');
    }
    *value *= powl(10, at(t, i + 1) == '-' ? -power : power);
    return 1 + sign + length;
}

static size_t take_decimal(sp_text t, size_t i, quantity *q) {
    size_t n = 0, used;
    *q = (quantity){.decimal = true};
    used = take_whole(t, i, q->digits, &n);
    used += take_part(t, i + used, q->digits, &n);
    if (used == 0) {
        return 0;
    }
    for (size_t k = 0, point = 0; k < n; k++) {
        point = q->digits[k] == '.' ? n - k - 1 : point;
        q->value = q->digits[k] == '.' ? q->value : 10 * q->value + (q->digits[k] - '0');
        q->value = k + 1 == n ? q->value / powl(10, (long double)point) : q->value;
    }
    q->value = q->digits[0] == '?' ? (long double)NAN : q->value;
    const size_t exponent = take_exponent(t, i + used, &q->value);
    q->decimal = exponent == 0;
    return used + exponent;
}

static size_t take_over(sp_text t, size_t i, quantity *q) {
    quantity below;
    const size_t used = at(t, i) == '/' ? take_decimal(t, i + 1, &below) : 0;
    if (used == 0 || !(below.value > 0)) {
        return 0;
    }
    q->value /= below.value;
    q->decimal = false;
    return used + 1;
}

/* "/4" behind a number, or " 1/2" behind a whole one. */
static size_t take_fraction(sp_text t, size_t i, quantity *q) {
    quantity part;
    size_t used = take_over(t, i, q);
    if (used > 0 || at(t, i) != ' ') {
        return used;
    }
    used = take_decimal(t, i + 1, &part);
    const size_t over = used > 0 ? take_over(t, i + 1 + used, &part) : 0;
    if (over == 0) {
        return 0;
    }
    q->value += part.value;
    q->decimal = false;
    return 1 + used + over;
}

/* \frac{a}{b}, \dfrac and \tfrac too. */
static size_t take_frac(sp_text t, size_t i, quantity *q) {
    static const char *const names[] = {"\\frac{", "\\dfrac{", "\\tfrac{"};
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        const size_t n = strlen(names[k]);
        quantity below;
        if (t.n - i < n || memcmp(t.at + i, names[k], n) != 0) {
            continue;
        }
        const size_t above = take_decimal(t, i + n, q);
        const size_t middle = i + n + above;
        if (above == 0 || at(t, middle) != '}' || at(t, middle + 1) != '{') {
            return 0;
        }
        const size_t under = take_decimal(t, middle + 2, &below);
        if (under == 0 || at(t, middle + 2 + under) != '}' || !(below.value > 0)) {
            return 0;
        }
        q->value /= below.value;
        q->decimal = false;
        return n + above + 2 + under + 1;
    }
    return 0;
}

static const unit *unit_at(sp_text t, size_t i) {
    size_t n = 0;
    i += at(t, i) == '\\'; /* \% of LaTeX */
    i += at(t, i) == ' ';
    while (is_letter(at(t, i + n))) {
        n++;
    }
    n = at(t, i) == '%' ? 1 : n;
    for (size_t k = 0; n > 0 && k < N_UNITS; k++) {
        if (strlen(units[k].name) == n && memcmp(units[k].name, t.at + i, n) == 0) {
            return &units[k];
        }
    }
    return NULL;
}

/* A minus (ASCII or U+2212) before i, which a currency sign may follow, that does not subtract. */
static bool negative_before(sp_text t, size_t i) {
    i -= i > 0 && t.at[i - 1] == '$';
    size_t minus = i > 0 && t.at[i - 1] == '-';
    minus = i >= 3 && memcmp(t.at + i - 3, "\xe2\x88\x92", 3) == 0 ? 3 : minus;
    const char before = minus > 0 && i > minus ? t.at[i - minus - 1] : ' ';
    return minus > 0 && !is_letter(before) && !is_digit(before) && before != ')';
}

static bool last_quantity(sp_text t, quantity *out) {
    bool found = false;
    for (size_t i = 0; i < t.n;) {
        quantity q;
        size_t used = take_frac(t, i, &q);
        if (used == 0 && (used = take_decimal(t, i, &q)) > 0) {
            used += take_fraction(t, i + used, &q);
        }
        if (used == 0) {
            i++;
            continue;
        }
        q.negative = negative_before(t, i);
        q.unit = unit_at(t, i + used);
        *out = q;
        found = true;
        i += used;
    }
    return found;
}

static bool same_quantity(const quantity *a, const quantity *b) {
    const bool convert = a->unit && b->unit;
    const long double x = (a->negative ? -a->value : a->value) * (convert ? a->unit->factor : 1);
    const long double y = (b->negative ? -b->value : b->value) * (convert ? b->unit->factor : 1);
    if (convert && a->unit->dimension != b->unit->dimension) {
        return false;
    }
    if (a->decimal && b->decimal && (!convert || a->unit == b->unit)) {
        const bool zero = a->digits[0] == '\0';
        return strcmp(a->digits, b->digits) == 0 && a->digits[0] != '?' &&
               (zero || a->negative == b->negative);
    }
    return isfinite(x) && isfinite(y) && fabsl(x - y) <= 1e-12L * fmaxl(fabsl(x), fabsl(y));
}

spar_status sp_verify_number(sp_text reference, sp_text response, bool *pass, spar_error *err) {
    quantity want, got;
    *pass = false;
    if (!last_quantity(sp_verify_final(reference), &want)) {
        return spar_fail(err, SPAR_FORMAT, "reference: expected a number, found '%.*s'",
                         reference.n < 64 ? (int)reference.n : 64, reference.at);
    }
    *pass = last_quantity(sp_verify_final(response), &got) && same_quantity(&want, &got);
    return SPAR_OK;
}
