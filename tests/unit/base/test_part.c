/* Files that arrive in pieces: kept, gone on with, held by one process, and never half under their
 * names. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/part.h"
#include "support.h"

static char dir[TEST_PATH_MAX], path[TEST_PATH_MAX], name[TEST_PATH_MAX];
static spar_error err;

static int make_dir(void **state) {
    (void)state;
    test_path(path, test_temp_dir(dir), "file.incomplete");
    test_path(name, dir, "file");
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    return sp_dir_remove(dir, NULL) == SPAR_OK ? 0 : -1;
}

static void ok(spar_status status) {
    if (status != SPAR_OK) {
        fail_msg("%s", err.message);
    }
}

/* Bytes as sp_part_read hands them over; asks for an end behind `most` of them. */
typedef struct heard {
    char bytes[1 << 18];
    size_t n, most;
} heard;

static spar_status hear(void *context, const void *bytes, size_t n, spar_error *e) {
    heard *h = context;
    if (h->n + n > h->most) {
        return spar_fail(e, SPAR_LIMIT, "enough");
    }
    memcpy(h->bytes + h->n, bytes, n);
    h->n += n;
    return SPAR_OK;
}

/* Longer than what is read at once, and gone on with by another holder. */
static void grows_over_several_holders(void **state) {
    (void)state;
    static char bytes[150001];
    static heard all = {.most = sizeof all.bytes};
    sp_part p;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)(i * 7 + i / 256);
    }
    ok(sp_part_open(&p, path, &err));
    assert_int_equal(p.size, 0);
    ok(sp_part_append(&p, bytes, 70000, &err));
    sp_part_close(&p);
    sp_part_close(&p);
    ok(sp_part_open(&p, path, &err));
    assert_int_equal(p.size, 70000);
    ok(sp_part_append(&p, bytes + 70000, sizeof bytes - 70000, &err));
    ok(sp_part_read(&p, hear, &all, &err));
    assert_int_equal(all.n, sizeof bytes);
    assert_memory_equal(all.bytes, bytes, sizeof bytes);
    assert_false(sp_file_exists(name));
    ok(sp_part_finish(&p, name, &err));
    assert_false(sp_file_exists(path));
    char *text;
    size_t n;
    ok(sp_file_read(name, 1 << 20, &text, &n, &err));
    assert_int_equal(n, sizeof bytes);
    assert_memory_equal(text, bytes, n);
    free(text);
    sp_part_close(&p);
}

static void one_holds_it(void **state) {
    (void)state;
    sp_part p, other;
    ok(sp_part_open(&p, path, &err));
    ok(sp_part_append(&p, "abc", 3, &err));
    assert_int_equal(sp_part_open(&other, path, &err), SPAR_BUSY);
    assert_non_null(strstr(err.message, "another process is fetching it"));
    sp_part_close(&other); /* takes nothing away from who holds it */
    assert_true(sp_file_exists(path));
    ok(sp_part_finish(&p, name, &err));
    ok(sp_part_open(&other, path, &err)); /* a new one, not the one that was renamed */
    assert_int_equal(other.size, 0);
    sp_part_close(&other);
    sp_part_close(&p);
    assert_true(sp_file_exists(name));
}

static void nothing_leaves_nothing(void **state) {
    (void)state;
    sp_part p;
    ok(sp_part_open(&p, path, &err));
    sp_part_close(&p);
    assert_false(sp_file_exists(path));
    ok(sp_part_open(&p, path, &err));
    ok(sp_part_append(&p, "abc", 3, &err));
    ok(sp_part_clear(&p, &err));
    assert_int_equal(p.size, 0);
    ok(sp_part_append(&p, "de", 2, &err));
    heard all = {.most = 10};
    ok(sp_part_read(&p, hear, &all, &err));
    assert_int_equal(all.n, 2);
    assert_memory_equal(all.bytes, "de", 2);
    sp_part_close(&p);
    assert_true(sp_file_exists(path));
}

static void what_goes_wrong(void **state) {
    (void)state;
    sp_part p;
    char elsewhere[TEST_PATH_MAX];
    test_path(elsewhere, dir, "none/file");
    assert_int_equal(sp_part_open(&p, elsewhere, &err), SPAR_IO);
    sp_part_close(&p);
    ok(sp_part_open(&p, path, &err));
    ok(sp_part_append(&p, "abc", 3, &err));
    heard few = {.most = 2};
    assert_int_equal(sp_part_read(&p, hear, &few, &err), SPAR_LIMIT);
    assert_int_equal(sp_part_finish(&p, elsewhere, &err), SPAR_IO);
    assert_non_null(strstr(err.message, "cannot rename into place"));
    sp_part_close(&p);
    assert_true(sp_file_exists(path));
}

/* A disk that is full, here a limit: what was written counts and stays. */
static void a_full_disk_keeps_what_it_has(void **state) {
    (void)state;
    static char bytes[10000];
    struct rlimit was, less;
    sp_part p;
    ok(sp_part_open(&p, path, &err));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    less = (struct rlimit){4096, was.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
    const spar_status status = sp_part_append(&p, bytes, sizeof bytes, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_int_equal(status, SPAR_IO);
    assert_int_equal(p.size, 4096);
    sp_part_close(&p);
    ok(sp_part_open(&p, path, &err));
    assert_int_equal(p.size, 4096);
    sp_part_close(&p);
}

int main(void) {
#define ROW(test) cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {ROW(grows_over_several_holders), ROW(one_holds_it),
                                       ROW(nothing_leaves_nothing), ROW(what_goes_wrong),
                                       ROW(a_full_disk_keeps_what_it_has)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
