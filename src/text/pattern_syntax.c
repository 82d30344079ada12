#include "text/pattern_syntax.h"

#include <ctype.h>
#include <string.h>

/* Members of a class. Space is White_Space (PCRE2's own \s also takes U+180E). Word is alphabetic,
 * marks, decimal digits and connectors (PCRE2's own \w lacks marks and takes all numbers); the
 * ranges are the symbols that are alphabetic, circled and squared letters. Outside of a
 * class \w has the superscripts and fractions of Latin-1 besides. */
#define SPACE "\\t-\\r\\x{85}\\p{Z}"
#define NAMED_WORD                                                                                 \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}"                    \
    "\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"
#define WORD NAMED_WORD "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}"
#define HEX "0-9A-Fa-f"

/* An escape outside and inside of a class; NULL inside: it cannot be said there. */
static const struct escape {
    char letter;
    const char *outside, *inside;
} escapes[] = {
    {'s', "[" SPACE "]", SPACE},
    {'S', "[^" SPACE "]", "\\P{White_Space}"},
    {'w', "[" WORD "]", NAMED_WORD},
    {'W', "[^" WORD "]", NULL},
    {'h', "[" HEX "]", HEX},
    {'H', "[^" HEX "]", NULL},
    {'b', "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))", "\\b"},
    {'B', "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))", NULL},
};

typedef struct translator {
    const char *pattern, *at, *where;
    sp_str *out;
    spar_error *err;
} translator;

static spar_status refuse(const translator *t, const char *what) {
    return spar_fail(t->err, SPAR_UNSUPPORTED, "%s: pattern %.200s: %s at offset %zu", t->where,
                     t->pattern, what, (size_t)(t->at - t->pattern));
}

/* t->at is at the backslash. */
static spar_status take_escape(translator *t, bool in_class) {
    char letter = t->at[1];
    for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++) {
        if (escapes[i].letter == letter) {
            const char *text = in_class ? escapes[i].inside : escapes[i].outside;
            if (!text) {
                return refuse(t, "a negated escape in a class is not supported");
            }
            sp_str_puts(t->out, text);
            t->at += 2;
            return SPAR_OK;
        }
    }
    if (letter == 'u') {
        size_t digits = 0;
        while (digits < 4 && isxdigit((unsigned char)t->at[2 + digits])) {
            digits++;
        }
        if (digits < 4) {
            return refuse(t, "expected four hexadecimal digits after \\u");
        }
        sp_str_printf(t->out, "\\x{%.4s}", t->at + 2);
        t->at += 6;
        return SPAR_OK;
    }
    size_t n = letter ? 2 : 1;
    sp_str_append(t->out, t->at, n);
    t->at += n;
    return SPAR_OK;
}

/* t->at is at "[:". */
static spar_status take_posix_class(translator *t) {
    static const struct {
        const char *name, *members;
    } classes[] = {
        {"[:alpha:]", "\\p{Alphabetic}"},
        {"[:digit:]", "\\p{Nd}"},
        {"[:space:]", SPACE},
        {"[:punct:]", "\\p{P}\\p{S}"}, /* Oniguruma counts all symbols */
        {"[:xdigit:]", HEX},
        {"[:word:]", NAMED_WORD},
    };
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        size_t n = strlen(classes[i].name);
        if (strncmp(t->at, classes[i].name, n) == 0) {
            sp_str_puts(t->out, classes[i].members);
            t->at += n;
            return SPAR_OK;
        }
    }
    return refuse(t, "this named class is not supported");
}

/* t->at is at the bracket that opens a class. */
static spar_status take_class(translator *t) {
    spar_status status = SPAR_OK;
    bool first = true;
    sp_str_putc(t->out, *t->at++);
    if (*t->at == '^') {
        sp_str_putc(t->out, *t->at++);
    }
    while (*t->at && (*t->at != ']' || first)) {
        first = false;
        if (*t->at == '\\') {
            SPAR_TRY(take_escape(t, true));
        } else if (t->at[0] == '[' && t->at[1] == ':') {
            SPAR_TRY(take_posix_class(t));
        } else if (t->at[0] == '[' || (t->at[0] == '&' && t->at[1] == '&')) {
            SPAR_TRY(refuse(t, "a class within a class is not supported"));
        } else {
            sp_str_putc(t->out, *t->at++);
        }
    }
    if (*t->at == ']') {
        sp_str_putc(t->out, *t->at++);
    }
done:
    return status;
}

/* "(?imx-imx:" or ")": what Oniguruma calls m, the dot matching newlines, PCRE2 calls s. */
static void take_group(translator *t) {
    sp_str_putc(t->out, *t->at++);
    if (*t->at != '?') {
        return;
    }
    sp_str_putc(t->out, *t->at++);
    size_t n = strspn(t->at, "imx-");
    bool options = t->at[n] == ':' || t->at[n] == ')';
    for (size_t i = 0; i < n && options; i++) {
        sp_str_putc(t->out, t->at[i] == 'm' ? 's' : t->at[i]);
    }
    t->at += options ? n : 0;
}

/* Whether the brace at `at` ends an interval {n,m}. */
static bool ends_interval(const translator *t) {
    const char *open = t->at;
    while (open > t->pattern && (isdigit((unsigned char)open[-1]) || open[-1] == ',')) {
        open--;
    }
    return open < t->at && open > t->pattern && open[-1] == '{';
}

spar_status sp_pattern_translate(const char *pattern, const char *where, sp_str *out,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    translator t = {pattern, pattern, where, out, err};
    while (*t.at) {
        switch (*t.at) {
        case '\\':
            SPAR_TRY(take_escape(&t, false));
            break;
        case '[':
            SPAR_TRY(take_class(&t));
            break;
        case '(':
            take_group(&t);
            break;
        case '}':
            if (t.at[1] == '+' && ends_interval(&t)) {
                SPAR_TRY(refuse(&t, "a repeated interval is not supported"));
            }
            sp_str_putc(out, *t.at++);
            break;
        default:
            sp_str_putc(out, *t.at++);
        }
    }
    SPAR_TRY(sp_str_status(out, err));
done:
    return status;
}
