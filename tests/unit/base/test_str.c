#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "support.h"

static void test_build(void **state) {
    (void)state;
    sp_str s = SP_STR_INIT;
    assert_string_equal(sp_str_get(&s), "");
    sp_str_puts(&s, "loss");
    sp_str_putc(&s, ' ');
    sp_str_printf(&s, "%.2f of %s", 0.5, "all");
    assert_string_equal(sp_str_get(&s), "loss 0.50 of all");
    assert_int_equal(s.len, 16);
    sp_str_truncate(&s, 4);
    sp_str_truncate(&s, 100);
    assert_string_equal(s.data, "loss");
    sp_str_append(&s, "a\0b", 3);
    assert_int_equal(s.len, 7);
    assert_memory_equal(s.data, "lossa\0b", 8);
    sp_str_clear(&s);
    assert_string_equal(sp_str_get(&s), "");
    for (int i = 0; i < 5000; i++) {
        sp_str_printf(&s, "%04d", i);
    }
    assert_int_equal(s.len, 20000);
    assert_memory_equal(s.data + 4 * 4321, "4321", 4);
    sp_str_release(&s);
    assert_null(s.data);
}

static void test_failure_is_sticky(void **state) {
    (void)state;
    sp_str s = SP_STR_INIT;
    spar_error err;
    char *out = NULL;
    sp_str_puts(&s, "a");
    sp_mem_fail_at(1);
    for (int i = 0; i < 100; i++) {
        sp_str_puts(&s, "0123456789");
    }
    assert_true(s.failed);
    assert_int_equal(sp_str_status(&s, &err), SPAR_NO_MEMORY);
    assert_int_equal(sp_str_take(&s, &out, &err), SPAR_NO_MEMORY);
    assert_null(out);
    sp_str_clear(&s);
    sp_str_puts(&s, "again");
    assert_int_equal(sp_str_status(&s, &err), SPAR_OK);
    sp_str_release(&s);
}

static void test_take(void **state) {
    (void)state;
    sp_str s = SP_STR_INIT;
    char *out = NULL;
    assert_int_equal(sp_str_take(&s, &out, NULL), SPAR_OK);
    assert_string_equal(out, "");
    free(out);
    sp_str_puts(&s, "x");
    assert_int_equal(sp_str_take(&s, &out, NULL), SPAR_OK);
    assert_string_equal(out, "x");
    assert_null(s.data);
    free(out);
}

static void test_utf8_round_trip(void **state) {
    (void)state;
    sp_str s = SP_STR_INIT;
    for (unsigned c = 0; c <= 0x10FFFF; c++) {
        sp_str_clear(&s);
        sp_str_put_utf8(&s, c);
        unsigned back = 0;
        assert_int_equal(sp_utf8_decode(s.data, s.len, &back), s.len);
        const int is_surrogate = c >= 0xD800 && c <= 0xDFFF;
        assert_int_equal(back, is_surrogate ? 0xFFFDu : c);
    }
    sp_str_release(&s);
}

static void test_utf8_ill_formed(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\x80",
        "\xC0\x80",
        "\xC1\xBF",
        "\xE0\x80\x80",
        "\xED\xA0\x80",
        "\xF0\x80\x80\x80",
        "\xF4\x90\x80\x80",
        "\xF8\x88\x80\x80\x80",
        "\xFF",
        "\xC3",
        "\xE2\x82",
        "\xE2\x28\xA1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        unsigned c = 0;
        assert_int_equal(sp_utf8_decode(bad[i], strlen(bad[i]), &c), 1);
        assert_int_equal(c, 0xFFFD);
    }
}

static void test_distance(void **state) {
    (void)state;
    assert_int_equal(sp_str_distance("", ""), 0);
    assert_int_equal(sp_str_distance("abc", ""), 3);
    assert_int_equal(sp_str_distance("kitten", "sitting"), 3);
    assert_int_equal(sp_str_distance("tempreature", "temperature"), 1);
    assert_int_equal(sp_str_distance("ab", "ba"), 1);
    assert_int_equal(sp_str_distance("same", "same"), 0);
    char text[1000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(sp_str_distance(text, ""), 128);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build),
        cmocka_unit_test(test_failure_is_sticky),
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_utf8_round_trip),
        cmocka_unit_test(test_utf8_ill_formed),
        cmocka_unit_test(test_distance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
