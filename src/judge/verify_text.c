/* Choice letters, sets and regular expressions. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "judge/verifier.h"

enum { MATCH_STEPS = 1000000 };

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_upper(char c) {
    return c >= 'A' && c <= 'Z';
}

static char lower(char c) {
    return is_upper(c) ? (char)(c - 'A' + 'a') : c;
}

static bool is_word(char c) {
    return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '\'' || (unsigned char)c >= 0x80;
}

/* Without the bytes of drop, and white space, at both ends. */
static sp_text strip(sp_text t, const char *drop) {
    while (t.n > 0 && (is_space(t.at[0]) || (t.at[0] && strchr(drop, t.at[0])))) {
        t = (sp_text){t.at + 1, t.n - 1};
    }
    while (t.n > 0 && (is_space(t.at[t.n - 1]) || (t.at[t.n - 1] && strchr(drop, t.at[t.n - 1])))) {
        t.n--;
    }
    return t;
}

sp_text sp_text_trim(sp_text text) {
    return strip(text, "");
}

/* What the braces hold that open before t; an unclosed one gives all. */
static sp_text braced(sp_text t) {
    size_t depth = 1;
    for (size_t i = 0; i < t.n; i++) {
        depth += t.at[i] == '{';
        depth -= t.at[i] == '}';
        if (depth == 0) {
            return (sp_text){t.at, i};
        }
    }
    return t;
}

/* What follows the last mark; at NULL where there is none. */
static sp_text after_last(sp_text t, const char *mark) {
    const size_t n = strlen(mark);
    for (size_t i = t.n; i >= n; i--) {
        if (memcmp(t.at + i - n, mark, n) == 0) {
            return (sp_text){t.at + i, t.n - i};
        }
    }
    return (sp_text){NULL, 0};
}

sp_text sp_verify_final(sp_text response) {
    const sp_text boxed = after_last(response, "\\boxed{");
    if (boxed.at) {
        return braced(boxed);
    }
    const sp_text marked = after_last(response, "####");
    return marked.at ? marked : response;
}

/* ---- choice ---- */

/* "or" or "and" stands at i. */
static bool is_conjunction_at(sp_text t, size_t i) {
    static const char *const words[] = {"or ", "and "};
    for (size_t k = 0; k < sizeof words / sizeof words[0]; k++) {
        const size_t n = strlen(words[k]);
        if (t.n - i >= n && memcmp(t.at + i, words[k], n) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_choice_at(sp_text t, size_t i) {
    const char before = i > 0 ? t.at[i - 1] : ' ';
    const char after = i + 1 < t.n ? t.at[i + 1] : ' ';
    const bool article = (t.at[i] == 'A' || t.at[i] == 'I') && after == ' ' && i + 2 < t.n &&
                         lower(t.at[i + 2]) == t.at[i + 2] && is_word(t.at[i + 2]) &&
                         !is_conjunction_at(t, i + 2);
    return is_upper(t.at[i]) && !is_word(before) && !is_word(after) && !article;
}

static bool is_joint(sp_text between) {
    static const char *const words[] = {"", "or", "and"};
    const sp_text word = strip(between, ",/()[]*&");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strlen(words[i]) == word.n && memcmp(words[i], word.at, word.n) == 0) {
            return true;
        }
    }
    return false;
}

/* '\0' where there is none. */
static char choice_of(sp_text response) {
    const sp_text t = sp_verify_final(response), alone = strip(t, "()[]{}.:*\"'");
    char last = '\0';
    size_t end = 0;
    if (alone.n == 1 && lower(alone.at[0]) >= 'a' && lower(alone.at[0]) <= 'z') {
        return lower(alone.at[0]);
    }
    for (size_t i = 0; i < t.n; i++) {
        if (is_choice_at(t, i)) {
            const bool joined = last && is_joint((sp_text){t.at + end, i - end});
            last = joined && last != lower(t.at[i]) ? '?' : lower(t.at[i]);
            end = i + 1;
        }
    }
    return last;
}

spar_status sp_verify_choice(sp_text reference, sp_text response, bool *pass, spar_error *err) {
    const sp_text want = strip(reference, "().");
    *pass = false;
    if (want.n != 1 || lower(want.at[0]) < 'a' || lower(want.at[0]) > 'z') {
        return spar_fail(err, SPAR_FORMAT, "reference: expected a choice letter, found '%.*s'",
                         reference.n < 64 ? (int)reference.n : 64, reference.at);
    }
    *pass = choice_of(response) == lower(want.at[0]);
    return SPAR_OK;
}

/* ---- set ---- */

typedef struct members {
    sp_text *items; /* owned */
    size_t n, capacity;
} members;

static int compare_members(const void *a, const void *b) {
    const sp_text *x = a, *y = b;
    for (size_t i = 0; i < x->n && i < y->n; i++) {
        const int d = (unsigned char)lower(x->at[i]) - (unsigned char)lower(y->at[i]);
        if (d) {
            return d;
        }
    }
    return (x->n > y->n) - (x->n < y->n);
}

static bool is_separator(char c) {
    return c == ',' || c == ';' || c == '\n';
}

/* Sorted, each once. */
static spar_status split(sp_text t, members *out, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t kept = 0;
    for (size_t i = 0, start = 0; i <= t.n; i++) {
        if (i < t.n && !is_separator(t.at[i])) {
            continue;
        }
        const sp_text member = strip((sp_text){t.at + start, i - start}, "()[]{}*.\"'");
        start = i + 1;
        const bool bullet = member.n > 1 && member.at[0] == '-' && is_space(member.at[1]);
        void *memory = out->items;
        SPAR_TRY(sp_mem_grow(&memory, &out->capacity, out->n + 1, sizeof *out->items, err));
        out->items = memory;
        if (member.n > 0) {
            out->items[out->n++] =
                bullet ? sp_text_trim((sp_text){member.at + 1, member.n - 1}) : member;
        }
    }
    qsort(out->items, out->n, sizeof *out->items, compare_members);
    for (size_t i = 0; i < out->n; i++) {
        if (kept == 0 || compare_members(&out->items[kept - 1], &out->items[i]) != 0) {
            out->items[kept++] = out->items[i];
        }
    }
    out->n = kept;
done:
    return status;
}

spar_status sp_verify_set(sp_text reference, sp_text response, double *score, spar_error *err) {
    spar_status status = SPAR_OK;
    members want = {0}, got = {0};
    size_t common = 0;
    SPAR_TRY(split(reference, &want, err));
    SPAR_TRY(split(sp_verify_final(response), &got, err));
    if (want.n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "reference: expected members of a set, found none"));
    }
    for (size_t i = 0; i < got.n; i++) {
        common +=
            bsearch(&got.items[i], want.items, want.n, sizeof *want.items, compare_members) != NULL;
    }
    *score = (double)common / (double)(want.n + got.n - common);
done:
    free(want.items);
    free(got.items);
    return status;
}

/* ---- regular expression ---- */

static spar_status bad_pattern(int code, size_t offset, spar_error *err) {
    PCRE2_UCHAR why[256] = "";
    pcre2_get_error_message(code, why, sizeof why);
    return spar_fail(err, SPAR_FORMAT, "reference: at byte %zu of the regular expression: %s",
                     offset, (const char *)why);
}

spar_status sp_verify_regex(sp_text pattern, sp_text response, bool *pass, spar_error *err) {
    spar_status status = SPAR_OK;
    int code, found = 0;
    size_t offset;
    *pass = false;
    pcre2_match_data *data = NULL;
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)pattern.at, pattern.n,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &code, &offset, NULL);
    if (!compiled) {
        SPAR_TRY(bad_pattern(code, offset, err));
    }
    data = pcre2_match_data_create(1, NULL);
    if (!limits || !data) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a regular expression"));
    }
    pcre2_set_match_limit(limits, MATCH_STEPS);
    found = pcre2_match(compiled, (PCRE2_SPTR)response.at, response.n, 0, 0, data, limits);
    if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT,
                           "reference: the regular expression takes more than %d steps",
                           MATCH_STEPS));
    }
    *pass = found >= 0;
done:
    pcre2_match_data_free(data);
    pcre2_code_free(compiled);
    pcre2_match_context_free(limits);
    return status;
}
