/* What the families say and how their checkers judge: right, wrong, sloppy and gaming answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "eval/families.h"

static int find(const char *name) {
    int family = -1;
    spar_error err;
    assert_int_equal(spar_family_find(name, &family, &err), SPAR_OK);
    return family;
}

/* ---- frozen samples ---- */

typedef struct sample {
    const char *family;
    int difficulty;
    const char *prompt, *answer, *key;
} sample;

static const sample SAMPLES[] = {
    {"reverse_word", 5, "Reverse the word \"story\". Answer with the word only.", "yrots", "story"},
    {"sort_numbers", 4,
     "Sort from smallest to largest: 95, 82, 34, 70. Answer with the numbers only.",
     "34, 70, 82, 95", "34, 70, 82, 95"},
    {"maximum", 5, "Find the largest number: 49, 14, 84, 95, 92. Answer with the number only.",
     "95", "14, 49, 84, 92, 95"},
    {"multiply", 12, "3 x 5 = ? Answer with the number only.", "15", "3x5"},
    {"add", 99, "Compute 41 + 82. Answer with the number only.", "123", "41+82"},
    {"subtract", 99, "What is 87 minus 77? Answer with the number only.", "10", "87-77"},
    {"count", 6,
     "How many times is \"sock\" in this list: sock, morning, sock, morning, wall, morning? Answer "
     "with the number only.",
     "2", "sock:sock, morning, sock, morning, wall, morning"},
    {"sort_words", 4, "Sort from A to Z: magician, spoon, olive, ink. Answer with the words only.",
     "ink, magician, olive, spoon", "ink, magician, olive, spoon"},
    {"letter", 5, "Which letter is the third in \"apple\"? Answer with the letter only.", "p",
     "apple:3"},
    {"expression", 2, "Compute (4 + 4) * 8. Answer with the number only.", "64", "(4 + 4) * 8"},
};

/* Runs, and the golden lists of users' runs, depend on these: they may not change. */
static void test_frozen(void **state) {
    (void)state;
    sp_draft draft = {SP_STR_INIT, SP_STR_INIT, SP_STR_INIT};
    for (size_t i = 0; i < sizeof SAMPLES / sizeof *SAMPLES; i++) {
        const sample *s = &SAMPLES[i];
        assert_int_equal(sp_family_make(find(s->family), s->difficulty, 42, 7, &draft, NULL),
                         SPAR_OK);
        assert_string_equal(sp_str_get(&draft.prompt), s->prompt);
        assert_string_equal(sp_str_get(&draft.answer), s->answer);
        assert_string_equal(sp_str_get(&draft.key), s->key);
    }
    sp_draft_release(&draft);
}

/* ---- the table ---- */

static void test_table(void **state) {
    (void)state;
    static const char *const names[] = {"reverse_word", "sort_numbers", "maximum", "multiply",
                                        "add",          "subtract",     "count",   "sort_words",
                                        "letter",       "expression"};
    assert_int_equal(spar_family_count(), sizeof names / sizeof *names);
    for (int i = 0; i < spar_family_count(); i++) {
        int min, fallback, max;
        assert_string_equal(spar_family_name(i), names[i]);
        assert_non_null(strstr(spar_family_summary(i), "difficulty: "));
        assert_non_null(strstr(spar_family_summary(i), "lenient: "));
        spar_family_difficulty(i, &min, &fallback, &max);
        assert_true(min <= fallback && fallback <= max);
    }
}

static void test_unknown_family(void **state) {
    (void)state;
    int family;
    spar_error err;
    assert_int_equal(spar_family_find("sort_number", &family, &err), SPAR_NOT_FOUND);
    assert_non_null(strstr(err.message, "\"sort_numbers\""));
    assert_int_equal(spar_family_find("", &family, &err), SPAR_NOT_FOUND);
}

static void test_words(void **state) {
    (void)state;
    size_t total = 0;
    for (int length = SP_WORD_MIN; length <= SP_WORD_MAX; length++) {
        const size_t n = sp_words_count(length);
        char word[SP_WORD_MAX + 1], before[SP_WORD_MAX + 1] = "";
        assert_true(n >= 100);
        for (size_t i = 0; i < n; i++, total++) {
            sp_words_copy(length, i, word);
            assert_int_equal(strlen(word), length);
            assert_int_equal(strspn(word, "abcdefghijklmnopqrstuvwxyz"), length);
            assert_true(strcmp(before, word) < 0); /* sorted, so none stands twice */
            bool palindrome = true;
            for (int k = 0; k < length; k++) {
                palindrome = palindrome && word[k] == word[length - 1 - k];
            }
            assert_false(palindrome);
            memcpy(before, word, sizeof before);
        }
    }
    assert_true(total >= 500);
}

/* Every family at every small difficulty and its largest: the answer passes, and so it does with
 * white space; an empty response and the prompt do not. */
static void test_own_answers(void **state) {
    (void)state;
    sp_draft draft = {SP_STR_INIT, SP_STR_INIT, SP_STR_INIT};
    for (int family = 0; family < spar_family_count(); family++) {
        const sp_family *row = sp_family_at(family);
        for (int d = row->min; d <= row->max; d = d < 20 || d == row->max ? d + 1 : row->max) {
            for (uint64_t i = 0; i < 50; i++) {
                assert_int_equal(sp_family_make(family, d, 3, i, &draft, NULL), SPAR_OK);
                const char *answer = sp_str_get(&draft.answer);
                assert_true(row->strict(answer, answer, draft.answer.len));
                assert_true(row->lenient(answer, answer, draft.answer.len));
                assert_false(row->strict(answer, "", 0));
                assert_false(row->lenient(answer, "", 0));
                assert_false(row->strict(answer, sp_str_get(&draft.prompt), draft.prompt.len));
            }
        }
    }
    sp_draft_release(&draft);
}

/* Arithmetic against a second evaluation: shunting over the written expression. */
static int64_t eval_sum(const char **at);

static int64_t eval_operand(const char **at) {
    int64_t value = 0;
    if (**at == '(') {
        (*at)++;
        value = eval_sum(at);
        (*at)++;
        return value;
    }
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        value = 10 * value + (**at - '0');
    }
    return value;
}

static int64_t eval_product(const char **at) {
    int64_t value = eval_operand(at);
    while (strncmp(*at, " * ", 3) == 0) {
        *at += 3;
        value *= eval_operand(at);
    }
    return value;
}

static int64_t eval_sum(const char **at) {
    int64_t value = eval_product(at);
    while (strncmp(*at, " + ", 3) == 0 || strncmp(*at, " - ", 3) == 0) {
        const bool minus = (*at)[1] == '-';
        *at += 3;
        value += minus ? -eval_product(at) : eval_product(at);
    }
    return value;
}

static void test_expression_values(void **state) {
    (void)state;
    sp_draft draft = {SP_STR_INIT, SP_STR_INIT, SP_STR_INIT};
    const int family = find("expression");
    for (int d = 1; d <= 8; d++) {
        for (uint64_t i = 0; i < 200; i++) {
            assert_int_equal(sp_family_make(family, d, 11, i, &draft, NULL), SPAR_OK);
            const char *text = sp_str_get(&draft.key);
            assert_int_equal(eval_sum(&text), atoll(sp_str_get(&draft.answer)));
            assert_int_equal(*text, '\0');
            int operators = 0;
            for (text = sp_str_get(&draft.key); *text != '\0'; text++) {
                operators += strchr("+-*", *text) != NULL;
            }
            assert_int_equal(operators, d);
        }
    }
    sp_draft_release(&draft);
}

/* ---- checkers ---- */

typedef struct verdict {
    const char *family, *answer, *response;
    bool strict, lenient;
} verdict;

static const verdict VERDICTS[] = {
    /* arithmetic: the last run of numbers is the answer alone */
    {"multiply", "56", "56", true, true},
    {"multiply", "56", " \n56\r\n", true, true},
    {"multiply", "56", "56.", false, true},
    {"multiply", "56", "056", false, true},
    {"multiply", "56", "56.0", false, true},
    {"multiply", "56", "56.5", false, false},
    {"multiply", "56", "7 x 8 = 56", false, true},
    {"multiply", "56", "The answer is **56**!", false, true},
    {"multiply", "56", "First 50\n56", false, true},
    {"multiply", "56", "$56", false, true},
    {"multiply", "56", "57", false, false},
    {"multiply", "56", "-56", false, false},
    {"multiply", "56",
     "\xe2\x88\x92"
     "56",
     false, false},
    {"multiply", "56", "156", false, false},
    {"multiply", "56", "560", false, false},
    {"multiply", "56", "54, 55, 56", false, false},
    {"multiply", "56", "54 55 56", false, false},
    {"multiply", "56", "55 and 56", false, false},
    {"multiply", "56", "54 or 55 or 56", false, false},
    {"multiply", "56", "56. That is the product.", false, true}, /* no mark of a list's line */
    {"multiply", "56", "56 is 7 times 8", false, false},
    {"multiply", "56", "56 57", false, false},
    {"multiply", "56", "fifty-six", false, false},
    {"multiply", "56", "", false, false},
    {"multiply", "1234", "1,234", false, true},
    {"multiply", "1234567", "It is 1,234,567.", false, true},
    {"multiply", "1234", "1,2345", false, false},
    {"multiply", "150", "4,150", false, false},
    {"expression", "-5", "-5", true, true},
    {"expression", "-5",
     "\xe2\x88\x92"
     "5",
     false, true},
    {"expression", "-5", "2 - 7 = -5.", false, true},
    {"expression", "-5", "5", false, false},
    {"expression", "5", "10-5", false, true}, /* a difference, whose last number is 5 */
    {"subtract", "0", "0", true, true},
    {"subtract", "0", "00", false, true},
    {"subtract", "0", "0.0", false, true},
    {"add", "12", "twelve", false, false},
    {"count", "2", "There are 2 of them.", false, true},
    /* maximum: the number must stand alone, over lines too */
    {"maximum", "91", "91", true, true},
    {"maximum", "91", "The largest of 4, 91, 15 is 91.", false, true},
    {"maximum", "91", "4, 15, 91", false, false},
    {"maximum", "91", "4\n15\n91", false, false},
    {"maximum", "91", "91, 15, 4", false, false},
    {"maximum", "91", "- 4\n- 15\n- 91", false, false},
    {"maximum", "91", "\xe2\x80\xa2 4\n\xe2\x80\xa2 91", false, false},
    {"maximum", "91", "1. 4\n2. 15\n3. 91", false, false},
    {"maximum", "91", "4. 15. 91.", false, false},
    {"maximum", "91", "4 < 15 < 91", false, false},
    {"maximum", "91", "15 or 91", false, false},
    {"maximum", "91", "max(4, 91, 15) = 91.", false, true},
    {"maximum", "91", "4, 91, 15: **91**", false, true},
    {"maximum", "91", "- The maximum is 91!", false, true},
    /* sorting numbers: the last list, or its last line */
    {"sort_numbers", "4, 15, 27", "4, 15, 27", true, true},
    {"sort_numbers", "4, 15, 27", "4 15 27", false, true},
    {"sort_numbers", "4, 15, 27", "[4,15,27]", false, true},
    {"sort_numbers", "4, 15, 27", "4\n15\n27\n", false, true},
    {"sort_numbers", "4, 15, 27", "4, 15 and 27.", false, true},
    {"sort_numbers", "4, 15, 27", "Sorted, 27, 4, 15 is: 4, 15, 27. Done!", false, true},
    {"sort_numbers", "4, 15, 27", "27, 4, 15\n4, 15, 27", false, true},
    {"sort_numbers", "4, 15, 27", "The 3 numbers: 4, 15, 27 (all 3)", false, true},
    {"sort_numbers", "4, 15, 27", "- 4\n- 15\n- 27", false, true},
    {"sort_numbers", "4, 15, 27", "Sorted:\n1. 4\n2. 15\n 3) 27\n", false, true},
    {"sort_numbers", "4, 15, 27", "\xe2\x80\xa2 4\n\xe2\x80\xa2 15\n\xe2\x80\xa2 27", false, true},
    {"sort_numbers", "1, 2, 3", "1. 3\n2. 2\n3. 1", false, false}, /* the marks are no answer */
    {"sort_numbers", "1, 2, 3", "1. \n2. \n3. ", false, false},
    {"sort_numbers", "4, 15, 27", "- 4\n- 27\n- 15", false, false},
    {"sort_numbers", "4, 15, 27", "4, 15, 27 or 27, 15, 4", false, false},
    {"sort_numbers", "4, 15, 27", "4, 27, 15", false, false},
    {"sort_numbers", "4, 15, 27", "4, 15", false, false},
    {"sort_numbers", "4, 15, 27", "4, 15, 27, 30", false, false},
    {"sort_numbers", "4, 15, 27", "3, 4, 15, 27", false, false},
    {"sort_numbers", "4, 15, 27", "-4, 15, 27", false, false},
    {"sort_numbers", "4, 15, 27", "4, 15, 27. Or 27, 15, 4.", false, false},
    {"sort_numbers", "4, 15, 27", "27, 4, 15, 4, 15, 27", false, false},
    {"sort_numbers", "4, 15, 27", "41527", false, false},
    /* reversed words and letters: the last word */
    {"reverse_word", "elppa", "elppa", true, true},
    {"reverse_word", "elppa", "Elppa.", false, true},
    {"reverse_word", "elppa", "\"elppa\"", false, true},
    {"reverse_word", "elppa",
     "\xe2\x80\x9c"
     "elppa\xe2\x80\x9d",
     false, true},
    {"reverse_word", "elppa", "The word backwards is: elppa", false, true},
    {"reverse_word", "elppa", "apple", false, false},
    {"reverse_word", "elppa", "elppa apple", false, false},
    {"reverse_word", "elppa", "elpa", false, false},
    {"reverse_word", "elppa", "elppas", false, false},
    {"reverse_word", "elppa", "elpap, elppa", false, false},
    {"reverse_word", "elppa", "elpap or elppa", false, false},
    {"reverse_word", "elppa", "e-l-p-p-a", false, false},
    {"letter", "e", "e", true, true},
    {"letter", "e", "E", false, true},
    {"letter", "e", "The last letter is 'e'.", false, true},
    {"letter", "e", "It's e", false, true},
    {"letter", "e", "It\xe2\x80\x99s e", false, true},
    {"letter", "p", "It is a \"p\".", false, true},
    {"letter", "a", "The letter is a", false, true},
    {"letter", "e", "Spelled a-p-p-l-e, so it is e", false, true},
    {"letter", "e", "a-p-p-l-e", false, false}, /* the word spelled out names no letter */
    {"letter", "e", "a p p l e", false, false},
    {"letter", "e", "A\nP\nP\nL\nE", false, false},
    {"letter", "t", "c a t", false, false},
    {"letter", "e", "1. a 2. p 3. p 4. l 5. e", false, false},
    {"letter", "e", "a, e", false, false},
    {"letter", "e", "apple", false, false},
    /* sorting words */
    {"sort_words", "ant, bee, cow", "ant, bee, cow", true, true},
    {"sort_words", "ant, bee, cow", "Ant, Bee, Cow.", false, true},
    {"sort_words", "ant, bee, cow", "ant bee cow", false, true},
    {"sort_words", "ant, bee, cow", "ant\nbee\ncow", false, true},
    {"sort_words", "ant, bee, cow", "ant, bee, and cow", false, true},
    {"sort_words", "ant, bee, cow", "The sorted list is ant, bee, cow", false, true},
    {"sort_words", "ant, bee, cow", "Sorted words: ant, bee, cow. I sorted them.", false, true},
    {"sort_words", "ant, bee, cow", "cow, ant, bee\nant, bee, cow", false, true},
    {"sort_words", "ant, bee, cow", "1. ant\n2. bee\n3. cow", false, true},
    {"sort_words", "ant, bee, cow", "Sorted:\n- ant\n* bee\n- cow", false, true},
    {"sort_words", "ant, bee, cow", "- ant\n- cow\n- bee", false, false},
    {"sort_words", "ant, bee, cow", "1. ant\n2. bee\n3. cow\n4. dog", false, false},
    {"sort_words", "ant, bee, cow", "cow, bee, ant or ant, bee, cow", false, false},
    {"sort_words", "ant, bee, cow", "ant, cow, bee", false, false},
    {"sort_words", "ant, bee, cow", "ant, bee", false, false},
    {"sort_words", "ant, bee, cow", "ant, bee, cow, dog", false, false},
    {"sort_words", "ant, bee, cow", "zebra, ant, bee, cow", false, false},
    {"sort_words", "ant, bee, cow", "ant, bee, zebra, cow", false, false},
    {"sort_words", "ant, bee, cow", "ant, bee, cow. cow, bee, ant.", false, false},
    {"sort_words", "ant, bee, cow", "cow, bee, ant, ant, bee, cow", false, false},
};

static void test_checkers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof VERDICTS / sizeof *VERDICTS; i++) {
        const verdict *v = &VERDICTS[i];
        const spar_task task = {.family = find(v->family), .answer = v->answer};
        bool strict = !v->strict, lenient = !v->lenient;
        spar_task_check(&task, v->response, strlen(v->response), &strict, &lenient);
        if (strict != v->strict || lenient != v->lenient) {
            fail_msg("%s: \"%s\" for \"%s\": strict %d, lenient %d", v->family, v->response,
                     v->answer, strict, lenient);
        }
        spar_task_check(&task, v->response, strlen(v->response), NULL, NULL);
    }
}

/* Responses are any bytes: none of these is right, and none may be read beyond its end. */
static void test_any_bytes(void **state) {
    (void)state;
    for (int family = 0; family < spar_family_count(); family++) {
        const spar_task task = {.family = family, .answer = "zzz"};
        for (uint64_t i = 0; i < 2000; i++) {
            const size_t n = (size_t)sp_rng_below(5, 1, i, 24);
            char *bytes = malloc(n > 0 ? n : 1); /* exact, for the address sanitizer */
            assert_non_null(bytes);
            for (size_t k = 0; k < n; k++) {
                static const char alphabet[] = "0179,-. \n;'ab\xe2\x88\x92\x80\x98\xff()[]";
                bytes[k] = alphabet[sp_rng_below(5, 2 + i, k, sizeof alphabet)];
            }
            bool strict, lenient;
            spar_task_check(&task, bytes, n, &strict, &lenient);
            assert_false(strict || lenient);
            free(bytes);
        }
        bool strict, lenient;
        spar_task_check(&task, NULL, 0, &strict, &lenient);
        assert_false(strict || lenient);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frozen),         cmocka_unit_test(test_table),
        cmocka_unit_test(test_unknown_family), cmocka_unit_test(test_words),
        cmocka_unit_test(test_own_answers),    cmocka_unit_test(test_expression_values),
        cmocka_unit_test(test_checkers),       cmocka_unit_test(test_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
