/* Files that are fetched whole or not at all, here from file URLs: parts that are gone on with,
 * that are wrong, too long or of nothing known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "endpoint.h"
#include "net/digest.h"
#include "net/fetch.h"
#include "support.h"

enum { SIZE = 100000, HALF = 40000 };

static char dir[TEST_PATH_MAX], source[TEST_PATH_MAX], part[TEST_PATH_MAX], path[TEST_PATH_MAX];
static char url[TEST_PATH_MAX + 8], bytes[SIZE + 5], sha256[SP_DIGEST_TEXT], sha1[SP_DIGEST_TEXT];
static spar_error err;

static void ok(spar_status status) {
    if (status == SPAR_UNSUPPORTED) {
        TEST_SKIP("%s", err.message);
    } else if (status != SPAR_OK) {
        fail_msg("%s", err.message);
    }
}

static void digest_of(size_t digits, char out[SP_DIGEST_TEXT]) {
    sp_digest d = {0};
    ok(sp_digest_begin(&d, digits, SIZE, &err));
    ok(sp_digest_add(&d, bytes, SIZE, &err));
    ok(sp_digest_end(&d, out, &err));
    sp_digest_release(&d);
}

static int make_dir(void **state) {
    (void)state;
    test_path(source, test_temp_dir(dir), "source");
    test_path(part, dir, "file.incomplete");
    test_path(path, dir, "file");
    snprintf(url, sizeof url, "file://%s", source);
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)(i * 11 + i / 253);
    }
    ok(sp_file_write(source, bytes, SIZE, &err));
    digest_of(SP_SHA256_DIGITS, sha256);
    digest_of(SP_SHA1_DIGITS, sha1);
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    return sp_dir_remove(dir, NULL) == SPAR_OK ? 0 : -1;
}

/* *received: bytes that came. */
static spar_status fetch(int64_t size, const char *hash, double *received) {
    const spar_pull_options options = {.attempts = 2, .stall = 5, .patience = 1};
    const sp_fetch what = {
        .url = url, .what = "source", .part = part, .path = path, .size = size, .hash = hash};
    sp_http_reply refused = {0};
    sp_session session;
    ok(sp_session_open(&session, &options, &err));
    const spar_status status = sp_fetch_file(&session, &what, &refused, &err);
    *received = session.done;
    if (status == SPAR_OK) {
        assert_int_equal(refused.status, 0);
    }
    sp_http_reply_release(&refused);
    sp_session_close(&session);
    return status;
}

static void is_whole(void) {
    char *text;
    size_t n;
    ok(sp_file_read(path, SIZE + 1, &text, &n, &err));
    assert_int_equal(n, SIZE);
    assert_memory_equal(text, bytes, n);
    free(text);
    assert_false(sp_file_exists(part));
    assert_int_equal(unlink(path), 0);
}

static void put_part(size_t n) {
    ok(sp_file_write(part, bytes, n, &err));
}

static void parts_are_gone_on_with(void **state) {
    (void)state;
    double received;
    const char *const hashes[] = {sha256, sha1};
    for (size_t i = 0; i < 2; i++) {
        ok(fetch(SIZE, hashes[i], &received));
        assert_true(received == SIZE);
        is_whole();
        put_part(HALF);
        ok(fetch(SIZE, hashes[i], &received));
        assert_true(received == SIZE - HALF);
        is_whole();
        put_part(SIZE + 5); /* longer than the file can be */
        ok(fetch(SIZE, hashes[i], &received));
        assert_true(received == SIZE);
        is_whole();
    }
    put_part(HALF); /* of a file of unknown length, with its hash */
    ok(fetch(-1, sha256, &received));
    assert_true(received == SIZE - HALF);
    is_whole();
    put_part(HALF); /* of a file of which nothing is known */
    ok(fetch(-1, NULL, &received));
    assert_true(received == SIZE);
    is_whole();
}

/* All of it came before, and the end of the call was lost: no byte is asked for. */
static void a_whole_part_takes_its_name(void **state) {
    (void)state;
    double received;
    put_part(SIZE);
    assert_int_equal(unlink(source), 0);
    ok(fetch(SIZE, sha256, &received));
    assert_true(received == 0);
    is_whole();
}

static void wrong_bytes_are_thrown_away(void **state) {
    (void)state;
    double received;
    for (size_t wrong = 0; wrong < SIZE; wrong += SIZE - 1) { /* in the part, or the whole part */
        bytes[wrong] ^= 1;
        put_part(wrong ? SIZE : HALF);
        bytes[wrong] ^= 1;
        assert_int_equal(fetch(SIZE, sha256, &received), SPAR_MISMATCH);
        assert_non_null(strstr(err.message, "expected the sha256"));
        assert_false(sp_file_exists(path) || sp_file_exists(part));
        ok(fetch(SIZE, sha256, &received));
        assert_true(received == SIZE);
        is_whole();
    }
}

static void wrong_lengths_are_refused(void **state) {
    (void)state;
    double received;
    for (int64_t size = SIZE - 1; size <= SIZE + 1; size += 2) {
        assert_int_equal(fetch(size, sha256, &received), SPAR_MISMATCH);
        assert_non_null(strstr(err.message, size < SIZE ? "expected 99999 bytes, found 100000"
                                                        : "expected 100001 bytes, found 100000"));
        assert_false(sp_file_exists(path));
    }
}

/* A server that says 2^63 - 1 bytes are still to come, behind a part. */
static void a_length_beyond_all_sums_is_refused(void **state) {
    (void)state;
    double received;
    int port = 0;
    const int listener = endpoint_listen(&port);
    const pid_t child = fork();
    if (child == 0) {
        static char buffer[ENDPOINT_MOST + 1];
        const char *body;
        char key[8];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        const int fd = accept(listener, NULL, NULL);
        if (fd >= 0 && endpoint_read(fd, buffer, &body, key, sizeof key)) {
            (void)!dprintf(fd,
                           "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-\r\n"
                           "Content-Length: %lld\r\n\r\n.",
                           HALF, (long long)INT64_MAX);
        }
        _exit(0);
    }
    close(listener);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/source", port);
    put_part(HALF);
    const spar_status status = fetch(SIZE, sha256, &received);
    endpoint_stop(child);
    assert_int_equal(status, SPAR_MISMATCH);
    assert_non_null(strstr(err.message, "expected 100000 bytes, found 9223372036854815807"));
}

static void a_missing_file_is_not_waited_for(void **state) {
    (void)state;
    double received;
    assert_int_equal(unlink(source), 0);
    put_part(HALF);
    assert_int_equal(fetch(SIZE, sha256, &received), SPAR_IO);
    assert_non_null(strstr(err.message, "40000 bytes are kept"));
    assert_true(sp_file_exists(part) && !sp_file_exists(path));
}

int main(void) {
#define ROW(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {ROW(parts_are_gone_on_with),
                                       ROW(a_whole_part_takes_its_name),
                                       ROW(wrong_bytes_are_thrown_away),
                                       ROW(wrong_lengths_are_refused),
                                       ROW(a_length_beyond_all_sums_is_refused),
                                       ROW(a_missing_file_is_not_waited_for)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
