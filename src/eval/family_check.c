/* Checkers of responses. All scan bytes; what is not ASCII is punctuation that ends a run, except
 * the minus sign U+2212 and curly quotes. Letters and digits are ASCII whatever the locale. */
#include <string.h>

#include "eval/families.h"

typedef struct span {
    const char *at;
    size_t n;
} span;

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_letter(char c) {
    const char l = lower(c);
    return l >= 'a' && l <= 'z';
}

static bool starts_with(span s, const char *text) {
    const size_t n = strlen(text);
    return s.n >= n && memcmp(s.at, text, n) == 0;
}

static span rest(span s, size_t from) {
    return (span){s.at + from, s.n - from};
}

static bool same_word(span a, span b) {
    if (a.n != b.n) {
        return false;
    }
    for (size_t i = 0; i < a.n; i++) {
        if (lower(a.at[i]) != lower(b.at[i])) {
            return false;
        }
    }
    return true;
}

bool sp_check_exact(const char *answer, const char *response, size_t n) {
    size_t from = 0;
    while (from < n && is_space(response[from])) {
        from++;
    }
    while (n > from && is_space(response[n - 1])) {
        n--;
    }
    return n - from == strlen(answer) &&
           (n == from || memcmp(response + from, answer, n - from) == 0);
}

/* ---- items: the numbers or words of a text ---- */

static size_t word_at(span s) {
    size_t n = 0;
    while (n < s.n && is_letter(s.at[n])) {
        n++;
    }
    return n;
}

static size_t digits_at(span s) {
    size_t n = 0;
    while (n < s.n && is_digit(s.at[n])) {
        n++;
    }
    return n;
}

/* Bytes of a minus sign at s, or 0. */
static size_t minus_at(span s) {
    return starts_with(s, "-") ? 1 : starts_with(s, "\xe2\x88\x92") ? 3 : 0;
}

/* Bytes of a number at s: sign, digits, thousands in groups when grouped, decimals; or 0. A minus
 * after a digit, letter or closing parenthesis (before) subtracts and is no sign. */
static size_t number_at(span s, char before, bool grouped) {
    const bool operand = is_digit(before) || is_letter(before) || before == ')';
    size_t n = operand ? 0 : minus_at(s);
    const size_t digits = digits_at(rest(s, n));
    if (digits == 0) {
        return 0;
    }
    n += digits;
    while (grouped && digits <= 3 && n < s.n && s.at[n] == ',' && digits_at(rest(s, n + 1)) == 3) {
        n += 4;
    }
    if (n < s.n && s.at[n] == '.') {
        const size_t decimals = digits_at(rest(s, n + 1));
        n += decimals > 0 ? 1 + decimals : 0;
    }
    return n;
}

/* Whether a number token has the value of the canonical integer. */
static bool same_number(span token, const char *integer, size_t n_integer) {
    size_t i = minus_at(token), k = 0;
    const bool negative = i > 0;
    if (negative != (n_integer > 0 && integer[0] == '-')) {
        return false;
    }
    k += negative;
    while (i + 1 < token.n && token.at[i] == '0' && is_digit(token.at[i + 1])) {
        i++;
    }
    for (; i < token.n && token.at[i] != '.'; i++) {
        if (token.at[i] == ',') {
            continue;
        }
        if (k == n_integer || token.at[i] != integer[k]) {
            return false;
        }
        k++;
    }
    for (i += i < token.n; i < token.n; i++) {
        if (token.at[i] != '0') {
            return false;
        }
    }
    return k == n_integer;
}

/* ---- gaps between items ---- */

typedef struct gap {
    bool joined; /* holds a comma, semicolon or line break */
    bool line;   /* holds a line break */
    bool ended;  /* holds what no list has between items */
} gap;

/* Bytes of curly quotes U+2018..U+201F at s, or 0. */
static size_t curly_at(span s) {
    return s.n >= 3 && starts_with(s, "\xe2\x80") && (unsigned char)s.at[2] >= 0x98 &&
                   (unsigned char)s.at[2] <= 0x9f
               ? 3
               : 0;
}

/* Take one separator at s into g: its bytes, at least 1. */
static size_t gap_take(gap *g, span s) {
    const char c = s.at[0];
    const size_t curly = curly_at(s);
    if (curly > 0) {
        return curly;
    }
    g->line = g->line || c == '\n';
    g->joined = g->joined || c == ',' || c == ';' || c == '\n';
    if (!is_space(c) && (c == '\0' || strchr(",;\"'*[](){}`_", c) == NULL)) {
        g->ended = true;
    }
    return 1;
}

/* Words that join items: "54 or 56" is a list of guesses. */
static bool is_joint(span word) {
    return same_word(word, (span){"and", 3}) || same_word(word, (span){"or", 2});
}

/* Bytes of the mark of a list's line at i with the spaces about it, or 0: a bullet, or a number as
 * in "2. ". Only at the start of a line. */
static size_t marker_at(span text, size_t i) {
    size_t n = 0, mark = 0;
    if (i > 0 && text.at[i - 1] != '\n') {
        return 0;
    }
    for (; i + n < text.n && text.at[i + n] == ' '; n++) {
    }
    const span here = rest(text, i + n);
    const size_t digits = digits_at(here);
    if (digits > 0) {
        mark = starts_with(rest(here, digits), ".") || starts_with(rest(here, digits), ")")
                   ? digits + 1
                   : 0;
    } else if (starts_with(here, "-") || starts_with(here, "*")) {
        mark = 1;
    } else if (starts_with(here, "\xe2\x80\xa2")) {
        mark = 3;
    }
    size_t spaces = 0;
    for (; mark > 0 && mark + spaces < here.n && here.at[mark + spaces] == ' '; spaces++) {
    }
    return spaces > 0 ? n + mark + spaces : 0;
}

/* ---- lists ---- */

/* The expected items in order, read one at a time from the canonical answer "a, b, c". */
typedef struct match {
    const char *next; /* borrowed from the answer; NULL once all were seen */
    size_t count;     /* items of the text so far */
    bool same;        /* all of them as expected */
} match;

/* What a checker looks for and how far it has come. */
typedef struct scan {
    const char *answer;
    bool words, grouped, lines_end, last_line;
    bool markers;    /* lines of a list may begin with a bullet or their number */
    bool alone;      /* nothing but a word, '=' or ':' ends a run */
    size_t shortest; /* runs of fewer items are prose */
    match run, line; /* since the run began; since its last line began */
    bool verdict;    /* of the last run that was long enough */
} scan;

static span expected_item(const char *from) {
    return (span){from, strcspn(from, ",")};
}

static bool same_item(const scan *s, span found, span expected) {
    return s->words ? same_word(found, expected) : same_number(found, expected.at, expected.n);
}

static match match_start(const scan *s) {
    return (match){s->answer, 0, true};
}

static void match_item(const scan *s, match *m, span found) {
    m->count++;
    if (m->next == NULL) {
        m->same = false;
        return;
    }
    const span expected = expected_item(m->next);
    m->same = m->same && same_item(s, found, expected);
    m->next = expected.at[expected.n] == ',' ? expected.at + expected.n + 2 : NULL;
}

static bool match_whole(const match *m) {
    return m->same && m->next == NULL;
}

static void end_run(scan *s) {
    if (s->run.count >= s->shortest) {
        s->verdict = match_whole(&s->run) || (s->last_line && match_whole(&s->line));
    }
    s->run = s->line = match_start(s);
}

/* Whether the word is one of the answer's. */
static bool is_listed(const scan *s, span word) {
    for (const char *at = s->answer;;) {
        const span expected = expected_item(at);
        if (same_word(word, expected)) {
            return true;
        }
        if (expected.at[expected.n] == '\0') {
            return false;
        }
        at = expected.at + expected.n + 2;
    }
}

/* An item follows g. */
static void scan_item(scan *s, const gap *g, span item) {
    if (g->ended || (g->line && s->lines_end)) {
        end_run(s);
    } else if (g->line) {
        s->line = match_start(s);
    }
    match_item(s, &s->run, item);
    match_item(s, &s->line, item);
}

/* Whether the byte ends a run of numbers though it may be punctuation of a list. */
static bool ends_alone(char c) {
    return c == '=' || c == ':';
}

/* Numbers: everything but a joint that stands between is a separator or ends the run. */
static void scan_numbers(scan *s, span text) {
    gap g = {0};
    for (size_t i = 0; i < text.n;) {
        const span here = rest(text, i);
        const char before = i > 0 ? text.at[i - 1] : '\0';
        const size_t marker = s->markers ? marker_at(text, i) : 0;
        const size_t number = number_at(here, before, s->grouped), word = word_at(here);
        if (marker > 0) {
            i += marker;
        } else if (number > 0) {
            scan_item(s, &g, (span){here.at, number});
            g = (gap){0};
            i += number;
        } else if (word > 0) {
            g.ended = g.ended || !is_joint((span){here.at, word});
            i += word;
        } else {
            const bool ended = g.ended;
            i += gap_take(&g, here);
            g.ended = s->alone ? ended || ends_alone(here.at[0]) : g.ended;
        }
    }
    end_run(s);
}

/* A listed word follows g; prose is the foreign word before it, if that was not an item. What a
 * comma joins is one list: "zebra, apple, bear" is a list of three. */
static void scan_listed(scan *s, gap g, span prose, span word) {
    if (prose.n > 0 && !g.ended && g.joined && !g.line) {
        const gap start = {.ended = true};
        scan_item(s, &start, prose);
    } else if (prose.n > 0) {
        g.ended = true;
    }
    scan_item(s, &g, word);
}

static void scan_words(scan *s, span text) {
    gap g = {.ended = true};
    span prose = {NULL, 0};
    for (size_t i = 0; i < text.n;) {
        const span here = rest(text, i);
        const span word = {here.at, word_at(here)};
        if (word.n == 0) {
            const size_t marker = marker_at(text, i);
            i += marker > 0 ? marker : gap_take(&g, here);
            continue;
        }
        i += word.n;
        if (is_listed(s, word)) {
            scan_listed(s, g, prose, word);
            prose.n = 0;
            g = (gap){0};
        } else if (!is_joint(word)) {
            const bool item = prose.n == 0 && g.joined && !g.ended;
            if (item) {
                scan_item(s, &g, word);
            }
            prose = item ? (span){NULL, 0} : word;
            g = (gap){0};
        }
    }
    end_run(s);
}

static bool check_numbers(scan s, const char *response, size_t n) {
    s.run = s.line = match_start(&s);
    scan_numbers(&s, (span){response, n});
    return s.verdict;
}

/* Thousands are read as groups only where the answer has them: "4,150" may be two numbers. */
static bool has_thousands(const char *answer) {
    return strlen(answer) - (answer[0] == '-') > 3;
}

bool sp_check_last_number(const char *answer, const char *response, size_t n) {
    return check_numbers(
        (scan){
            .answer = answer, .grouped = has_thousands(answer), .lines_end = true, .shortest = 1},
        response, n);
}

bool sp_check_lone_number(const char *answer, const char *response, size_t n) {
    return check_numbers((scan){.answer = answer, .alone = true, .shortest = 1}, response, n);
}

bool sp_check_number_list(const char *answer, const char *response, size_t n) {
    return check_numbers(
        (scan){.answer = answer, .markers = true, .last_line = true, .shortest = 2}, response, n);
}

bool sp_check_word_list(const char *answer, const char *response, size_t n) {
    scan s = {.answer = answer, .words = true, .last_line = true, .shortest = 2};
    s.run = s.line = match_start(&s);
    scan_words(&s, (span){response, n});
    return s.verdict;
}

/* ---- one word ---- */

/* Whether the letter at i ends a contraction: the s of "it's". */
static bool contracted(span text, size_t i) {
    if (i >= 2 && text.at[i - 1] == '\'') {
        return is_letter(text.at[i - 2]);
    }
    return i >= 4 && curly_at(rest(text, i - 3)) > 0 && is_letter(text.at[i - 4]);
}

/* Words that are single letters, one after another up to here: "a-p-p-l-e" spells. A first "a" is
 * taken for the article. */
static size_t count_letters(size_t letters, span text, size_t i, size_t length) {
    const bool article = letters == 0 && lower(text.at[i]) == 'a';
    return length > 1 || contracted(text, i) || article ? 0 : letters + 1;
}

bool sp_check_last_word(const char *answer, const char *response, size_t n) {
    const span text = {response, n};
    span last = {"", 0};
    bool alternative = false; /* joined to the word before, as in "a, b" or "a or b" */
    size_t letters = 0;
    gap g = {0};
    for (size_t i = 0; i < n;) {
        const span here = rest(text, i);
        const size_t length = word_at(here);
        if (length == 0) {
            i += gap_take(&g, here);
            continue;
        }
        alternative =
            last.n > 0 && ((g.joined && !g.line && !g.ended) || same_word(last, (span){"or", 2}));
        letters = count_letters(letters, text, i, length);
        last = (span){here.at, length};
        g = (gap){0};
        i += length;
    }
    return !alternative && letters < 2 && same_word(last, (span){answer, strlen(answer)});
}
