/* Base64 against the vectors of RFC 4648, section 10. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/base64.h"

static void test_vectors(void **state) {
    (void)state;
    static const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"foobar", "Zm9vYmFy"},
        {"\xFB\xFF\xBE", "+/++"},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        sp_str bytes = SP_STR_INIT;
        sp_str text = SP_STR_INIT;
        assert_true(sp_base64_decode(vectors[i][1], strlen(vectors[i][1]), &bytes));
        assert_string_equal(sp_str_get(&bytes), vectors[i][0]);
        sp_base64_encode(vectors[i][0], strlen(vectors[i][0]), &text);
        assert_string_equal(sp_str_get(&text), vectors[i][1]);
        sp_str_release(&bytes);
        sp_str_release(&text);
    }
}

static void test_refusals(void **state) {
    (void)state;
    static const char *const bad[] = {"Z", "Zg=", "Zg==Zg==", "Z===", "Zm9-", "Zm 9", "=m9v"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sp_str bytes = SP_STR_INIT;
        assert_false(sp_base64_decode(bad[i], strlen(bad[i]), &bytes));
        sp_str_release(&bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
