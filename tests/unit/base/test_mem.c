#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support.h"

static void test_overflow_is_refused(void **state) {
    (void)state;
    size_t product = 0;
    void *memory = NULL;
    spar_error err;
    assert_true(sp_mem_mul(6, 7, &product));
    assert_int_equal(product, 42);
    assert_false(sp_mem_mul(SIZE_MAX / 2, 3, &product));
    assert_int_equal(sp_mem_calloc(&memory, SIZE_MAX / 2, 3, &err), SPAR_NO_MEMORY);
    assert_null(memory);
    assert_int_equal(sp_mem_aligned(&memory, SIZE_MAX / 2, 3, &err), SPAR_NO_MEMORY);
    assert_int_equal(sp_mem_aligned(&memory, SIZE_MAX, 1, &err), SPAR_NO_MEMORY);
    size_t capacity = 0;
    assert_int_equal(sp_mem_grow(&memory, &capacity, SIZE_MAX / 2, 3, &err), SPAR_NO_MEMORY);
    assert_int_equal(capacity, 0);
}

static void test_allocations(void **state) {
    (void)state;
    void *memory = NULL;
    assert_int_equal(sp_mem_calloc(&memory, 0, 8, NULL), SPAR_OK);
    assert_non_null(memory);
    free(memory);
    assert_int_equal(sp_mem_aligned(&memory, 3, 5, NULL), SPAR_OK);
    assert_int_equal((uintptr_t)memory % 64, 0);
    free(memory);
    char *copy = NULL;
    assert_int_equal(sp_mem_strdup(&copy, "abcdef", 3, NULL), SPAR_OK);
    assert_string_equal(copy, "abc");
    free(copy);
}

static void test_grow_keeps_contents(void **state) {
    (void)state;
    void *array = NULL;
    size_t capacity = 0;
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(sp_mem_grow(&array, &capacity, i + 1, sizeof(size_t), NULL), SPAR_OK);
        assert_true(capacity > i);
        ((size_t *)array)[i] = i;
    }
    for (size_t i = 0; i < 1000; i++) {
        assert_int_equal(((size_t *)array)[i], i);
    }
    free(array);
}

static void test_failing_allocator(void **state) {
    (void)state;
    void *memory = NULL;
    sp_mem_fail_at(2);
    assert_int_equal(sp_mem_calloc(&memory, 1, 1, NULL), SPAR_OK);
    free(memory);
    spar_error err;
    assert_int_equal(sp_mem_calloc(&memory, 1, 1, &err), SPAR_NO_MEMORY);
    assert_non_null(strstr(err.message, "out of memory"));
    assert_int_equal(sp_mem_calloc(&memory, 1, 1, NULL), SPAR_OK);
    free(memory);
}

static void test_arena(void **state) {
    (void)state;
    sp_arena arena;
    sp_arena_init(&arena);
    char *first = sp_arena_strndup(&arena, "hello world", 5);
    assert_string_equal(first, "hello");
    unsigned char *big = sp_arena_alloc(&arena, 1 << 20);
    assert_non_null(big);
    assert_int_equal((uintptr_t)big % 16, 0);
    assert_int_equal(big[0] | big[(1 << 20) - 1], 0);
    for (int i = 0; i < 10000; i++) {
        unsigned char *bytes = sp_arena_alloc(&arena, 33);
        assert_non_null(bytes);
        assert_int_equal((uintptr_t)bytes % 16, 0);
        assert_int_equal(bytes[32], 0);
        memset(bytes, 0xAB, 33);
    }
    assert_string_equal(first, "hello");
    assert_true(arena.total >= (1 << 20) + 330000);
    assert_null(sp_arena_alloc(&arena, SIZE_MAX));
    sp_arena_release(&arena);
    assert_int_equal(arena.total, 0);
    sp_mem_fail_at(1);
    assert_null(sp_arena_alloc(&arena, 1));
    sp_arena_release(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overflow_is_refused),
        cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_grow_keeps_contents),
        cmocka_unit_test(test_failing_allocator),
        cmocka_unit_test(test_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
