/* The own matcher of patterns against PCRE2, and by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "text/pattern.h"

static void check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK) {
        fail_msg("%s", err->message);
    }
}

/* Patterns of tokenizers in use, and of what else is taken. */
static const char *const patterns[] = {
    /* GPT-2 */
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    /* Llama 3, Qwen 2, and cl100k as tiktoken writes it */
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++$|\\s*[\\r\\n]|\\s+(?!\\S)|\\s",
    /* o200k */
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'"
    "s|"
    "'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{"
    "Lm}"
    "\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| "
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    /* Qwen 3.5 */
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
    "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    /* DeepSeek */
    "[\\r\\n]",
    "\\s?\\p{L}+",
    "\\s?\\p{P}+",
    "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
    "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
    "?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    /* Falcon, StarCoder, Bloom, BERT's kind */
    "[\\p{P}\\$\\+<=>\\^~\\|`]+",
    "[0-9][0-9][0-9]",
    "\\p{N}",
    " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C})]+",
    "\\s",
    "\\S+|[^\\S\\n]+",
    /* what else is taken: each way of a group, giving back, looks, and names */
    "\\p{L}{2,4}\\p{Ll}",
    "\\p{L}*a",
    "(?:a|ab)(?:c|bcd)?x",
    "((a|b)?|c)d",
    "a(?=b)|b(?=[^c])",
    "\\P{L}\\P{^Nd}",
    "[^\\p{^Lu}\\x20-\\x{7e}]{2}",
    "(?i:k|S)x?",
    "\\d\\D",
    "\\w+|\\W",
    "[\\w-]+",
    "[a\\-z-]+[\\]-]",
    "a{2,}b|a{2}",
    "\\u0065+",
    "[\\]x]\\]",
};

typedef struct both {
    sp_step program, regex;
} both;

static void walk(const sp_step *step, const char *text, size_t n, sp_str *spans) {
    spar_error err;
    sp_matcher m;
    bool found = true;
    sp_str_clear(spans);
    check(sp_matcher_init(&m, step, text, n, &err), &err);
    while (found) {
        size_t begin, end;
        check(sp_matcher_next(&m, &begin, &end, &found, &err), &err);
        if (found) {
            sp_str_append(spans, &begin, sizeof begin);
            sp_str_append(spans, &end, sizeof end);
        }
    }
    sp_matcher_release(&m);
}

/* ---- code points on whose categories both agree ---- */

static const char *const names[] = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl",
                                    "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc",
                                    "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Co"};

static unsigned char *differ; /* [SP_CODE_POINTS] 1: another category, or a surrogate */

static void mark_category(const char *name, const sp_str *all) {
    spar_error err;
    char pattern[16];
    sp_step step = {0};
    sp_str spans = SP_STR_INIT;
    sp_code_set ours = {0};
    snprintf(pattern, sizeof pattern, "\\p{%s}", name);
    check(sp_pattern_compile_regex(&step.regex, pattern, "test", &err), &err);
    assert_true(sp_code_set_add_property(&ours, name, 2));
    for (size_t i = 0; i < ours.n; i++) {
        for (uint32_t c = ours.ranges[i].first; c <= ours.ranges[i].last; c++) {
            differ[c] ^= 1U;
        }
    }
    walk(&step, sp_str_get(all), all->len, &spans);
    for (size_t i = 0; i < spans.len; i += 2 * sizeof(size_t)) {
        size_t begin;
        unsigned c;
        memcpy(&begin, spans.data + i, sizeof begin);
        sp_utf8_decode(all->data + begin, all->len - begin, &c);
        differ[c] ^= 1U;
    }
    sp_code_set_release(&ours);
    sp_str_release(&spans);
    pcre2_code_free(step.regex);
}

static int find_agreement(void **state) {
    (void)state;
    sp_str all = SP_STR_INIT;
    size_t n = 0;
    differ = calloc(SP_CODE_POINTS, 1);
    for (unsigned c = 1; c < SP_CODE_POINTS; c++) {
        if (c < 0xD800 || c > 0xDFFF) {
            sp_str_put_utf8(&all, c);
        }
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        mark_category(names[i], &all);
    }
    for (unsigned c = 0; c < SP_CODE_POINTS; c++) {
        differ[c] = differ[c] || (c >= 0xD800 && c <= 0xDFFF);
        n += differ[c];
    }
    print_message("%zu code points of other categories in PCRE2\n", n - 2048);
    sp_str_release(&all);
    return n < 30000 ? 0 : 1; /* Unicode 16 has 10,302 more than 14 */
}

static int forget_agreement(void **state) {
    (void)state;
    free(differ);
    return 0;
}

/* ---- random text ---- */

static const char *const fragments[] = {
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\v",
    "\x1c",
    "\xC2\x85",
    "\xC2\xA0",
    "\xE2\x80\xA8",
    "\xE3\x80\x80",
    "'s",
    "'LL",
    "'\xC5\xBF",
    "'\xE2\x84\xAA",
    "'re",
    "don't",
    "I'M",
    "123",
    "1234567",
    "ABCdef",
    "abc",
    "\xE4\xB8\xAD",
    "e\xCC\x81",
    "\xC7\x84",
    "\xCA\xB0",
    "!?",
    "...",
    "/",
    "-",
    "]",
    "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7",
    "aab",
    "abcdx",
    "\xD9\xA3",
};

static void put_random(sp_str *text, uint64_t row, uint64_t place) {
    const uint64_t kind = sp_rng_below(7, row, 3 * place, 10);
    const uint64_t draw = sp_rng_below(7, row, 3 * place + 1, 1 << 30);
    static const uint32_t ends[] = {0x80, 0x250, 0x1000, 0x3400, 0x10000, SP_CODE_POINTS};
    if (kind < 4) {
        sp_str_puts(text, fragments[draw % (sizeof fragments / sizeof fragments[0])]);
        return;
    }
    const uint32_t c = (uint32_t)(draw % ends[kind - 4]);
    if (c > 0 && !differ[c]) {
        sp_str_put_utf8(text, c);
    }
}

static void test_against_pcre2(void **state) {
    (void)state;
    enum { ROWS = 4000 };
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        spar_error err;
        both b = {0};
        sp_str text = SP_STR_INIT, ours = SP_STR_INIT, theirs = SP_STR_INIT;
        size_t matches = 0;
        check(sp_program_compile(&b.program.program, patterns[i], &err), &err);
        if (!b.program.program) {
            fail_msg("%s: not taken", patterns[i]);
        }
        check(sp_pattern_compile_regex(&b.regex.regex, patterns[i], "test", &err), &err);
        for (uint64_t row = 0; row < ROWS; row++) {
            sp_str_clear(&text);
            const uint64_t length = sp_rng_below(8, row, i, 40);
            for (uint64_t k = 0; k < length; k++) {
                put_random(&text, row, k);
            }
            walk(&b.program, sp_str_get(&text), text.len, &ours);
            walk(&b.regex, sp_str_get(&text), text.len, &theirs);
            matches += ours.len / (2 * sizeof(size_t));
            if (ours.len != theirs.len ||
                memcmp(sp_str_get(&ours), sp_str_get(&theirs), ours.len) != 0) {
                fail_msg("%s: other matches than PCRE2's in: %s", patterns[i], sp_str_get(&text));
            }
        }
        assert_true(matches > 10);
        sp_str_release(&text);
        sp_str_release(&ours);
        sp_str_release(&theirs);
        sp_program_free(b.program.program);
        pcre2_code_free(b.regex.regex);
    }
}

/* What is left to PCRE2, for it means more than a program can say, or nothing. */
static void test_not_taken(void **state) {
    (void)state;
    static const char *const others[] = {
        "a+?",         "a??",        "(a)\\1",  "(?<=a)b",     "(?<n>a)", "(?i)a",
        "(?i:\\p{L})", "\\p{Greek}", "\\h",     "\\bx",        "^a",      "(?:ab)+",
        "(?:ab){2}",   "a{2}{3}",    "a{1,2}+", "[[:alpha:]]", "[]a]",    "a(",
        "a)",          "[a",         "\\",      "*",           "",        "a?",
        "(?!a)",       "$",          "a|",      "[z-a]",       "\\p{Lu",  "\\x{110000}",
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        spar_error err;
        sp_program *program;
        check(sp_program_compile(&program, others[i], &err), &err);
        if (program) {
            fail_msg("%s: taken", others[i]);
        }
    }
}

/* Sets within sets, which PCRE2 cannot say. */
static void test_sets(void **state) {
    (void)state;
    spar_error err;
    sp_step step = {0};
    sp_str spans = SP_STR_INIT;
    check(sp_program_compile(&step.program, "[\\p{L}&&[^a-m]]+|[[x1][2]]+", &err), &err);
    assert_non_null(step.program);
    walk(&step, "amnop12x", 8, &spans);
    const size_t want[] = {2, 5, 5, 8};
    assert_int_equal(spans.len, sizeof want);
    assert_memory_equal(spans.data, want, sizeof want);
    sp_program_free(step.program);
    sp_str_release(&spans);
}

/* Quadratic work ends in an error, and linear work on the same text does not. */
static void test_long_text(void **state) {
    (void)state;
    enum { N = 4000000 };
    spar_error err;
    char *text = malloc(N);
    size_t begin, end;
    bool found;
    sp_program *program;
    memset(text, ' ', N);
    check(sp_program_compile(&program, "\\s*x", &err), &err);
    assert_int_equal(sp_program_find(program, text, N, 0, &begin, &end, &found, &err), SPAR_LIMIT);
    assert_non_null(strstr(err.message, "4000000 bytes"));
    sp_program_free(program);
    check(sp_program_compile(&program, "\\s*x|\\s+(?!\\S)", &err), &err);
    check(sp_program_find(program, text, N, 0, &begin, &end, &found, &err), &err);
    assert_true(found && begin == 0 && end == N);
    sp_program_free(program);
    free(text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_pcre2),
        cmocka_unit_test(test_not_taken),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_long_text),
    };
    return cmocka_run_group_tests(tests, find_agreement, forget_agreement);
}
