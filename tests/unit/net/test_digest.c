/* Digests against values that are known: FIPS 180's examples, and git's names of blobs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/digest.h"
#include "support.h"

/* The digest of text taken n times, in pieces of so many bytes. */
static void digest_is(size_t digits, const char *text, int n, size_t piece, const char *expected) {
    spar_error err;
    sp_digest d = {0};
    char found[SP_DIGEST_TEXT];
    const size_t length = strlen(text);
    const spar_status status = sp_digest_begin(&d, digits, (int64_t)length * n, &err);
    if (status == SPAR_UNSUPPORTED) {
        TEST_SKIP("%s", err.message);
    }
    assert_int_equal(status, SPAR_OK);
    for (int i = 0; i < n; i++) {
        for (size_t at = 0; at < length; at += piece) {
            const size_t left = length - at;
            assert_int_equal(sp_digest_add(&d, text + at, left < piece ? left : piece, &err),
                             SPAR_OK);
        }
    }
    assert_int_equal(sp_digest_end(&d, found, &err), SPAR_OK);
    assert_string_equal(found, expected);
    sp_digest_release(&d);
    sp_digest_release(&d);
}

static void known_values(void **state) {
    (void)state;
    static const char hundred_a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    assert_int_equal(strlen(hundred_a), 100);
    digest_is(SP_SHA256_DIGITS, "", 1, 1,
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (size_t piece = 1; piece <= 3; piece++) {
        digest_is(SP_SHA256_DIGITS, "abc", 1, piece,
                  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
    digest_is(SP_SHA256_DIGITS, hundred_a, 10000, 77,
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    digest_is(SP_SHA1_DIGITS, "", 1, 1, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    digest_is(SP_SHA1_DIGITS, "what is up, doc?", 1, 5, "bd9dbf5aae1a3862dd1526723246b20206e5fc37");
    digest_is(SP_SHA1_DIGITS, "hello\n", 1, 6, "ce013625030ba8dba906f756967f9e9ca394464a");
}

/* What was added before begin is called again does not count, whichever kind it was. */
static void begins_again(void **state) {
    (void)state;
    spar_error err;
    sp_digest d = {0};
    char found[SP_DIGEST_TEXT];
    const spar_status status = sp_digest_begin(&d, SP_SHA1_DIGITS, 99, &err);
    if (status == SPAR_UNSUPPORTED) {
        TEST_SKIP("%s", err.message);
    }
    assert_int_equal(status, SPAR_OK);
    assert_int_equal(sp_digest_add(&d, "other bytes", 11, &err), SPAR_OK);
    assert_int_equal(sp_digest_begin(&d, SP_SHA256_DIGITS, 0, &err), SPAR_OK);
    assert_int_equal(sp_digest_end(&d, found, &err), SPAR_OK);
    assert_string_equal(found, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sp_digest_release(&d);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_values),
                                       cmocka_unit_test(begins_again)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
