/* Source to tokens, with the white space control of trim_blocks and lstrip_blocks applied. */
#include <stdlib.h>
#include <string.h>

#include "text/jinja_syntax.h"
#include "text/jinja_unicode.h"

typedef struct lexer {
    sp_jinja *r;
    const char *s;
    size_t n, at;
    size_t counted;     /* newlines up to here are in r->line */
    bool line_starting; /* what was read so far ends a line */
    sp_jtoken *tokens;
    size_t n_tokens, capacity;
} lexer;

static void count_lines(lexer *x, size_t to) {
    for (; x->counted < to; x->counted++) {
        x->r->line += x->s[x->counted] == '\n';
    }
}

static bool emit(lexer *x, sp_jtoken token) {
    if (x->n_tokens == x->capacity) {
        const size_t capacity = x->capacity * 2 + 64;
        sp_jtoken *tokens = sp_jinja_alloc(x->r, capacity * sizeof *tokens);
        if (tokens == NULL) {
            return false;
        }
        if (x->n_tokens > 0) {
            memcpy(tokens, x->tokens, x->n_tokens * sizeof *tokens);
        }
        x->tokens = tokens;
        x->capacity = capacity;
    }
    token.line = x->r->line;
    x->tokens[x->n_tokens++] = token;
    return true;
}

static bool emit_kind(lexer *x, sp_jtoken_kind kind) {
    return emit(x, (sp_jtoken){.kind = kind});
}

static bool starts(const lexer *x, size_t at, const char *text) {
    const size_t n = strlen(text);
    return x->n - at >= n && memcmp(x->s + at, text, n) == 0;
}

static size_t skip_space(const lexer *x, size_t at) {
    size_t to = x->n;
    sp_jinja_trim(x->s, &at, &to, true, false);
    return at;
}

/* Data s[from..to) in front of a tag whose sign is '-', '+' or 0. */
static bool emit_data(lexer *x, size_t from, size_t to, char sign, bool variable) {
    if (sign == '-') {
        sp_jinja_trim(x->s, &from, &to, false, true);
    } else if (sign != '+' && !variable) {
        size_t line = to;
        while (line > from && x->s[line - 1] != '\n') {
            line--;
        }
        size_t blank = line;
        sp_jinja_trim(x->s, &blank, &to, true, false);
        if (blank == to && (line > from || x->line_starting)) {
            to = line;
        }
    }
    return to == from || emit(x, (sp_jtoken){.kind = JT_DATA, .text = x->s + from, .n = to - from});
}

/* If "SIGN CLOSE" stands at x->at: move past it and the white space it eats. */
static bool close_tag(lexer *x, const char *close, bool trims) {
    const char sign = x->at < x->n ? x->s[x->at] : '\0';
    const bool plus = sign == '+' && trims;
    size_t at = x->at + (sign == '-' || plus);
    if (at > x->n || !starts(x, at, close)) {
        return false;
    }
    at += strlen(close);
    if (sign == '-') {
        at = skip_space(x, at);
    } else if (trims && !plus && at < x->n && x->s[at] == '\n') {
        at++;
    }
    x->at = at;
    x->line_starting = x->s[at - 1] == '\n';
    return true;
}

static bool lex_comment(lexer *x) {
    const size_t body = x->at;
    const char *end = memmem(x->s + body, x->n - body, "#}", 2);
    if (end == NULL) {
        sp_jinja_error(x->r, SPAR_FORMAT, "missing end of comment tag");
        return false;
    }
    x->at = (size_t)(end - x->s);
    if (x->at > body && (x->s[x->at - 1] == '-' || x->s[x->at - 1] == '+')) {
        x->at--;
    }
    return close_tag(x, "#}", true);
}

/* "{% raw %}" at x->at (behind the sign)? Moves past it. */
static bool open_raw(lexer *x) {
    size_t at = skip_space(x, x->at);
    if (!starts(x, at, "raw")) {
        return false;
    }
    const size_t before = x->at;
    x->at = skip_space(x, at + 3);
    if (x->at < x->n && close_tag(x, "%}", false)) {
        return true;
    }
    x->at = before;
    return false;
}

static bool lex_raw(lexer *x) {
    const size_t from = x->at;
    for (size_t at = from; at + 1 < x->n; at++) {
        if (x->s[at] != '{' || x->s[at + 1] != '%') {
            continue;
        }
        const char sign = at + 2 < x->n ? x->s[at + 2] : '\0';
        const size_t name = skip_space(x, at + 2 + (sign == '-' || sign == '+'));
        if (!starts(x, name, "endraw")) {
            continue;
        }
        x->at = skip_space(x, name + 6);
        const bool line_starting = x->line_starting;
        if (close_tag(x, "%}", true)) {
            const bool after = x->line_starting;
            x->line_starting = line_starting;
            const bool good = emit_data(x, from, at, sign, false);
            x->line_starting = after;
            return good;
        }
    }
    sp_jinja_error(x->r, SPAR_FORMAT, "missing end of raw directive");
    return false;
}

/* ---- inside tags ---- */

static unsigned read_hex(const char *s, size_t digits, size_t n, bool *good) {
    unsigned c = 0;
    *good = digits <= n;
    for (size_t i = 0; i < digits && *good; i++) {
        const char *const set = "0123456789abcdefABCDEF";
        const char *p = s[i] == '\0' ? NULL : strchr(set, s[i]);
        *good = p != NULL;
        const unsigned digit = p == NULL ? 0 : (unsigned)(p - set);
        c = c * 16 + (digit < 16 ? digit : digit - 6);
    }
    return c;
}

/* An escape of s[0..n) behind its backslash, n >= 1; returns the bytes used, 0 when malformed. */
static size_t put_escape(sp_str *out, const char *s, size_t n) {
    static const char plain[] = "n\nt\tr\ra\ab\bf\fv\v\\\\''\"\"";
    for (const char *p = plain; *p != '\0'; p += 2) {
        if (*s == *p) {
            sp_str_putc(out, p[1]);
            return 1;
        }
    }
    if (*s == '\n') {
        return 1;
    }
    if (*s >= '0' && *s <= '7') {
        unsigned c = 0;
        size_t k = 0;
        for (; k < 3 && k < n && s[k] >= '0' && s[k] <= '7'; k++) {
            c = c * 8 + (unsigned)(s[k] - '0');
        }
        sp_str_put_utf8(out, c);
        return k;
    }
    const size_t digits = *s == 'x' ? 2 : *s == 'u' ? 4 : *s == 'U' ? 8 : 0;
    if (digits > 0) {
        bool good = true;
        const unsigned c = read_hex(s + 1, digits, n - 1, &good);
        sp_str_put_utf8(out, c);
        return good && c <= 0x10ffff ? digits + 1 : 0;
    }
    sp_str_putc(out, '\\');
    sp_str_putc(out, *s);
    return 1;
}

static bool lex_string(lexer *x) {
    const char quote = x->s[x->at];
    size_t end = x->at + 1;
    while (end < x->n && x->s[end] != quote) {
        end += x->s[end] == '\\' ? 2 : 1;
    }
    if (end >= x->n) {
        sp_jinja_error(x->r, SPAR_FORMAT, "a string does not end");
        return false;
    }
    sp_str text = SP_STR_INIT;
    size_t at = x->at + 1;
    while (at < end) {
        if (x->s[at] != '\\') {
            sp_str_putc(&text, x->s[at++]);
            continue;
        }
        const size_t used = put_escape(&text, x->s + at + 1, end - at - 1);
        if (used == 0) {
            sp_jinja_error(x->r, SPAR_FORMAT, "a malformed escape in a string");
            break;
        }
        at += used + 1;
    }
    x->at = end + 1;
    const sp_jval value = sp_jinja_take(x->r, &text, false);
    return value.kind == J_STR && emit(x, (sp_jtoken){.kind = JT_STRING, .value = value});
}

/* Digits of base, single underscores between them; gives the end. */
static size_t span_digits(const lexer *x, size_t at, int base) {
    const char *set = "0123456789abcdefABCDEF";
    const size_t count = base == 16 ? 22 : (size_t)base;
    while (at < x->n) {
        const size_t digit = at + (x->s[at] == '_');
        if (digit >= x->n || memchr(set, x->s[digit], count) == NULL) {
            break;
        }
        at = digit + 1;
    }
    return at;
}

static size_t span_exponent(const lexer *x, size_t at) {
    if (at < x->n && (x->s[at] == 'e' || x->s[at] == 'E')) {
        size_t digits = at + 1;
        digits += digits < x->n && (x->s[digits] == '+' || x->s[digits] == '-');
        const size_t end = span_digits(x, digits, 10);
        return end > digits && x->s[digits] != '_' ? end : at;
    }
    return at;
}

static bool emit_number(lexer *x, size_t end, int base, bool real) {
    char text[64];
    size_t n = 0;
    for (size_t i = x->at + (base == 10 ? 0 : 2); i < end; i++) {
        if (x->s[i] != '_' && n + 1 < sizeof text) {
            text[n++] = x->s[i];
        }
    }
    text[n] = '\0';
    x->at = end;
    if (real) {
        return emit(x, (sp_jtoken){.kind = JT_FLOAT, .value = sp_jinja_float(strtod(text, NULL))});
    }
    int64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        const int digit = text[i] <= '9' ? text[i] - '0' : (text[i] | 32) - 'a' + 10;
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            sp_jinja_error(x->r, SPAR_LIMIT, "the number %s is too large", text);
            return false;
        }
    }
    return emit(x, (sp_jtoken){.kind = JT_INT, .value = sp_jinja_int(value)});
}

static bool lex_number(lexer *x) {
    const char second = x->at + 1 < x->n ? (char)(x->s[x->at + 1] | 32) : '\0';
    if (x->s[x->at] == '0' && (second == 'x' || second == 'o' || second == 'b')) {
        const int base = second == 'x' ? 16 : second == 'o' ? 8 : 2;
        const size_t end = span_digits(x, x->at + 2, base);
        return emit_number(x, end, base, false);
    }
    const size_t whole = span_digits(x, x->at, 10);
    size_t end = whole;
    const bool after_dot = x->at > 0 && x->s[x->at - 1] == '.';
    if (!after_dot) {
        if (end + 1 < x->n && x->s[end] == '.' && x->s[end + 1] >= '0' && x->s[end + 1] <= '9') {
            end = span_digits(x, end + 1, 10);
        }
        end = span_exponent(x, end);
    }
    if (end == whole && x->s[x->at] == '0' && end > x->at + 1 && x->s[x->at + 1] != '0') {
        end = x->at + 1; /* as Jinja2 reads 012: two numbers, which no expression allows */
    }
    return emit_number(x, end, 10, end != whole && end > whole);
}

static bool is_name_byte(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (c & 0x80) != 0;
}

static bool lex_name(lexer *x) {
    const size_t from = x->at;
    while (x->at < x->n && is_name_byte(x->s[x->at])) {
        x->at++;
    }
    return emit(x, (sp_jtoken){.kind = JT_NAME, .text = x->s + from, .n = x->at - from});
}

/* Brackets that are open, so that "}}" inside a dict does not end the tag. */
typedef struct brackets {
    char open[256];
    size_t n;
} brackets;

static bool balance(lexer *x, brackets *b, char c) {
    static const char pairs[] = ")(][}{";
    if (c == '(' || c == '[' || c == '{') {
        if (b->n == sizeof b->open) {
            sp_jinja_error(x->r, SPAR_LIMIT, "brackets nest deeper than %zu", sizeof b->open);
            return false;
        }
        b->open[b->n++] = c;
        return true;
    }
    const char *p = strchr(pairs, c);
    if (p == NULL) {
        return true;
    }
    if (b->n == 0 || b->open[--b->n] != p[1]) {
        sp_jinja_error(x->r, SPAR_FORMAT, "unexpected '%c'", c);
        return false;
    }
    return true;
}

static bool lex_operator(lexer *x, brackets *b) {
    static const char *const operators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                            "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                            ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (starts(x, x->at, operators[i])) {
            x->at += strlen(operators[i]);
            return balance(x, b, operators[i][0]) &&
                   emit(x, (sp_jtoken){.kind = JT_OPERATOR, .text = operators[i]});
        }
    }
    sp_jinja_error(x->r, SPAR_FORMAT, "unexpected character '%.1s'", x->s + x->at);
    return false;
}

static bool lex_expression_token(lexer *x, brackets *b) {
    const char c = x->s[x->at];
    if (c == '\'' || c == '"') {
        return lex_string(x);
    }
    if (c >= '0' && c <= '9') {
        return lex_number(x);
    }
    return is_name_byte(c) ? lex_name(x) : lex_operator(x, b);
}

static bool lex_tag(lexer *x, bool block) {
    brackets b = {.n = 0};
    if (!emit_kind(x, block ? JT_BLOCK_BEGIN : JT_VARIABLE_BEGIN)) {
        return false;
    }
    for (;;) {
        x->at = skip_space(x, x->at);
        count_lines(x, x->at);
        if (x->at >= x->n) {
            sp_jinja_error(x->r, SPAR_FORMAT, "unexpected end of template inside a tag");
            return false;
        }
        if (b.n == 0 && close_tag(x, block ? "%}" : "}}", block)) {
            return emit_kind(x, block ? JT_BLOCK_END : JT_VARIABLE_END);
        }
        if (!lex_expression_token(x, &b)) {
            return false;
        }
        count_lines(x, x->at);
    }
}

/* The next tag's opening at or after at, or n. */
static size_t find_tag(const lexer *x, size_t at) {
    for (; at + 1 < x->n; at++) {
        if (x->s[at] == '{' &&
            (x->s[at + 1] == '{' || x->s[at + 1] == '%' || x->s[at + 1] == '#')) {
            return at;
        }
    }
    return x->n;
}

static bool lex_next(lexer *x) {
    const size_t from = x->at;
    const size_t tag = find_tag(x, from);
    if (tag == x->n) {
        x->at = x->n;
        return emit_data(x, from, tag, '+', true);
    }
    const char type = x->s[tag + 1];
    const char sign = tag + 2 < x->n ? x->s[tag + 2] : '\0';
    if (!emit_data(x, from, tag, sign, type == '{')) {
        return false;
    }
    x->at = tag + 2 + (sign == '-' || sign == '+');
    count_lines(x, tag);
    x->line_starting = false;
    if (type == '#') {
        return lex_comment(x);
    }
    return type == '%' && open_raw(x) ? lex_raw(x) : lex_tag(x, type == '%');
}

/* Newlines as \n, and the last one dropped. */
static bool normalise(lexer *x, const char *source, size_t n) {
    char *s = sp_jinja_alloc(x->r, n + 1);
    if (s == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (source[i] != '\r') {
            s[x->n++] = source[i];
        } else if (i + 1 == n || source[i + 1] != '\n') {
            s[x->n++] = '\n';
        }
    }
    x->n -= x->n > 0 && s[x->n - 1] == '\n';
    s[x->n] = '\0';
    x->s = s;
    return true;
}

bool sp_jinja_lex(sp_jinja *r, const char *source, size_t n, sp_jtoken **tokens) {
    lexer x = {.r = r, .line_starting = true};
    r->line = 1;
    if (!normalise(&x, source, n)) {
        return false;
    }
    while (x.at < x.n) {
        if (!lex_next(&x)) {
            return false;
        }
        count_lines(&x, x.at);
    }
    *tokens = NULL;
    if (!emit_kind(&x, JT_END)) {
        return false;
    }
    *tokens = x.tokens;
    return true;
}
