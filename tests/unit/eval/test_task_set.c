/* Sets of problems: determinism, disjointness, division of small key spaces, limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "spar/tasks.h"

static const char *const QUICK[] = {"reverse_word", "sort_numbers", "maximum", "multiply"};

static spar_task_set *make(const char *const *families, int n_families, size_t n, uint64_t seed,
                           const spar_task_set *const *exclude, size_t n_exclude) {
    spar_task_set *set = NULL;
    spar_error err;
    if (spar_tasks_generate(&set, families, n_families, n, seed, exclude, n_exclude, &err) !=
        SPAR_OK) {
        fail_msg("%s", err.message);
    }
    return set;
}

static size_t shared_texts(const spar_task_set *a, const spar_task_set *b) {
    size_t shared = 0;
    for (size_t i = 0; i < spar_tasks_count(a); i++) {
        for (size_t k = 0; k < spar_tasks_count(b); k++) {
            shared += (a != b || i != k) &&
                      strcmp(spar_tasks_at(a, i)->prompt, spar_tasks_at(b, k)->prompt) == 0;
        }
    }
    return shared;
}

static size_t shared_keys_slowly(const spar_task_set *a, const spar_task_set *b) {
    size_t shared = 0;
    for (size_t i = 0; i < spar_tasks_count(a); i++) {
        const char *key = spar_tasks_at(a, i)->key;
        bool repeated = false, found = false;
        for (size_t k = 0; k < i; k++) {
            repeated = repeated || strcmp(spar_tasks_at(a, k)->key, key) == 0;
        }
        for (size_t k = 0; k < spar_tasks_count(b); k++) {
            found = found || strcmp(spar_tasks_at(b, k)->key, key) == 0;
        }
        shared += !repeated && found;
    }
    return shared;
}

/* Train, gate and report sets of the quick start: nothing in common, not even by content. */
static void test_three_sets(void **state) {
    (void)state;
    static const size_t sizes[] = {240, 200, 400};
    for (uint64_t seed = 0; seed < 20; seed++) {
        spar_task_set *sets[3];
        for (size_t i = 0; i < 3; i++) {
            const spar_task_set *before[3] = {i > 0 ? sets[0] : NULL, i > 1 ? sets[1] : NULL, NULL};
            sets[i] = make(QUICK, 4, sizes[i], 100 * seed + i, before, i);
            assert_int_equal(spar_tasks_count(sets[i]), sizes[i]);
            assert_int_equal(shared_texts(sets[i], sets[i]), 0);
            for (size_t k = 0; k < i; k++) {
                assert_int_equal(shared_texts(sets[i], sets[k]), 0);
                assert_int_equal(spar_tasks_shared_keys(sets[i], sets[k]), 0);
            }
            for (size_t k = 0; k < sizes[i]; k++) {
                const spar_task *task = spar_tasks_at(sets[i], k);
                bool strict, lenient;
                assert_string_equal(spar_family_name(task->family), QUICK[k % 4]);
                assert_memory_equal(task->key, QUICK[k % 4], strlen(QUICK[k % 4]));
                spar_task_check(task, task->answer, strlen(task->answer), &strict, &lenient);
                assert_true(strict && lenient);
            }
        }
        for (size_t i = 0; i < 3; i++) {
            spar_tasks_free(sets[i]);
        }
    }
}

static void test_deterministic(void **state) {
    (void)state;
    spar_task_set *a = make(QUICK, 4, 100, 9, NULL, 0), *b = make(QUICK, 4, 100, 9, NULL, 0);
    spar_task_set *other = make(QUICK, 4, 100, 10, NULL, 0);
    size_t same = 0;
    for (size_t i = 0; i < 100; i++) {
        assert_string_equal(spar_tasks_at(a, i)->prompt, spar_tasks_at(b, i)->prompt);
        assert_string_equal(spar_tasks_at(a, i)->answer, spar_tasks_at(b, i)->answer);
        assert_string_equal(spar_tasks_at(a, i)->key, spar_tasks_at(b, i)->key);
        same += strcmp(spar_tasks_at(a, i)->prompt, spar_tasks_at(other, i)->prompt) == 0;
    }
    assert_true(same < 5);
    spar_tasks_free(a);
    spar_tasks_free(b);
    spar_tasks_free(other);
}

/* Frozen: prompts of existing runs must come again. */
static void test_frozen(void **state) {
    (void)state;
    static const char *const expected[] = {
        "Reverse the word \"juice\". Answer with the word only.",
        "Sort these numbers, smallest first: 22, 95, 50, 75. Answer with the numbers only.",
        "Which number is the largest: 53, 80, 63, 91, 88? Answer with the number only.",
        "Find the product of 3 and 5. Answer with the number only.",
        "Write the letters of \"space\" in reverse order. Answer with the word only.",
        "Sort from smallest to largest: 15, 81, 54, 60. Answer with the numbers only.",
        "What is the maximum of these numbers: 76, 67, 37, 39, 92? Answer with the number only.",
        "What is 10 times 12? Answer with the number only.",
    };
    spar_task_set *set = make(QUICK, 4, 8, 7, NULL, 0);
    for (size_t i = 0; i < 8; i++) {
        assert_string_equal(spar_tasks_at(set, i)->prompt, expected[i]);
    }
    spar_tasks_free(set);
}

/* A space without room: texts stay disjoint, and the shared keys are counted. */
static void test_shared_keys(void **state) {
    (void)state;
    static const char *const family[] = {"multiply:3"}; /* 6 keys, 45 texts */
    spar_task_set *a = make(family, 1, 30, 1, NULL, 0);
    const spar_task_set *exclude[] = {a};
    spar_task_set *b = make(family, 1, 15, 2, exclude, 1);
    assert_int_equal(shared_texts(a, b), 0);
    assert_true(spar_tasks_shared_keys(a, b) > 0);
    assert_int_equal(spar_tasks_shared_keys(a, b), shared_keys_slowly(a, b));
    assert_int_equal(spar_tasks_shared_keys(b, a), shared_keys_slowly(a, b));
    assert_int_equal(spar_tasks_shared_keys(a, a), shared_keys_slowly(a, a));
    spar_tasks_free(a);
    spar_tasks_free(b);
}

/* The pair and its commuted one are one key: 78 of them up to 12, of which a set takes a third. */
static void test_key_share(void **state) {
    (void)state;
    static const char *const family[] = {"multiply:12"};
    spar_task_set *set = make(family, 1, 60, 4, NULL, 0);
    assert_int_equal(spar_tasks_shared_keys(set, set), 26);
    spar_tasks_free(set);
    set = make(family, 1, 20, 4, NULL, 0);
    assert_int_equal(spar_tasks_shared_keys(set, set), 20); /* no key twice without need */
    spar_tasks_free(set);
    set = make(family, 1, 720, 4, NULL, 0);
    assert_int_equal(spar_tasks_shared_keys(set, set), 78);
    spar_tasks_free(set);
}

static void test_limit(void **state) {
    (void)state;
    static const char *const families[] = {"add", "multiply:12"};
    spar_task_set *set = NULL;
    spar_error err;
    assert_int_equal(spar_tasks_generate(&set, families, 2, 1440, 4, NULL, 0, &err), SPAR_OK);
    const spar_task_set *exclude[] = {set};
    spar_task_set *more = NULL;
    assert_int_equal(spar_tasks_generate(&more, families, 2, 2, 5, exclude, 1, &err), SPAR_LIMIT);
    assert_non_null(strstr(err.message, "multiply at difficulty 12"));
    assert_null(more);
    spar_tasks_free(set);
    set = NULL;
    assert_int_equal(spar_tasks_generate(&set, families + 1, 1, 800, 4, NULL, 0, &err), SPAR_LIMIT);
    assert_non_null(strstr(err.message, "expected 800 different problems, found 720"));
    assert_int_equal(spar_tasks_generate(&set, families, 1, SIZE_MAX, 4, NULL, 0, &err),
                     SPAR_LIMIT);
    assert_null(set);
}

static void refuse(const char *family, spar_status code, const char *part) {
    spar_task_set *set = NULL;
    spar_error err;
    assert_int_equal(spar_tasks_generate(&set, &family, 1, 4, 1, NULL, 0, &err), code);
    assert_null(set);
    if (strstr(err.message, part) == NULL) {
        fail_msg("%s: %s", family, err.message);
    }
}

static void test_bad_families(void **state) {
    (void)state;
    spar_task_set *set = NULL;
    spar_error err;
    refuse("multply", SPAR_NOT_FOUND, "\"multiply\"");
    refuse("", SPAR_NOT_FOUND, "nearest");
    refuse("multiply:", SPAR_INVALID, "2 to 999999");
    refuse("multiply:1", SPAR_INVALID, "2 to 999999");
    refuse("multiply:-3", SPAR_INVALID, "2 to 999999");
    refuse("multiply:+3", SPAR_INVALID, "2 to 999999");
    refuse("multiply:12x", SPAR_INVALID, "\"12x\"");
    refuse("multiply:99999999999999999999999", SPAR_INVALID, "2 to 999999");
    refuse("reverse_word:9", SPAR_INVALID, "3 to 8");
    assert_int_equal(spar_tasks_generate(&set, QUICK, 0, 4, 1, NULL, 0, &err), SPAR_INVALID);
}

/* Every family at its extremes gives a set; an empty set is a set. */
static void test_every_family(void **state) {
    (void)state;
    for (int family = 0; family < spar_family_count(); family++) {
        int difficulty[3];
        spar_family_difficulty(family, &difficulty[0], &difficulty[1], &difficulty[2]);
        for (int i = 0; i < 3; i++) {
            char name[64];
            snprintf(name, sizeof name, "%s:%d", spar_family_name(family), difficulty[i]);
            const char *names[] = {name};
            spar_task_set *set = make(names, 1, 12, 3, NULL, 0);
            assert_int_equal(spar_tasks_at(set, 11)->difficulty, difficulty[i]);
            assert_int_equal(shared_texts(set, set), 0);
            spar_tasks_free(set);
        }
    }
    spar_task_set *empty = make(QUICK, 4, 0, 1, NULL, 0);
    assert_int_equal(spar_tasks_count(empty), 0);
    spar_tasks_free(empty);
    spar_tasks_free(NULL);
}

/* Each allocation in turn fails: an error and nothing leaked (the sanitizer watches). */
static void test_no_memory(void **state) {
    (void)state;
    spar_status status = SPAR_NO_MEMORY;
    spar_task_set *set = NULL;
    spar_task_set *other = make(QUICK, 4, 8, 2, NULL, 0);
    const spar_task_set *exclude[] = {other};
    for (long k = 1; status != SPAR_OK; k++) {
        assert_true(k < 1000);
        sp_mem_fail_at(k);
        status = spar_tasks_generate(&set, QUICK, 4, 40, 1, exclude, 1, NULL);
        sp_mem_fail_at(0);
        assert_true(status == SPAR_OK || (status == SPAR_NO_MEMORY && set == NULL));
    }
    spar_tasks_free(set);
    spar_tasks_free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_sets),   cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_frozen),       cmocka_unit_test(test_shared_keys),
        cmocka_unit_test(test_key_share),    cmocka_unit_test(test_limit),
        cmocka_unit_test(test_bad_families), cmocka_unit_test(test_every_family),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
