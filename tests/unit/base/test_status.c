#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spar/log.h"
#include "spar/status.h"
#include "support.h"

static void test_names(void **state) {
    (void)state;
    assert_string_equal(spar_status_name(SPAR_INVALID), "INVALID");
    assert_string_equal(spar_status_text(SPAR_IO), "input/output error");
    assert_int_equal(spar_status_exit(SPAR_OK), 0);
    assert_int_equal(spar_status_exit(SPAR_INVALID), 2);
    assert_string_equal(spar_status_name((spar_status)999), "INTERNAL");
}

static void test_fail(void **state) {
    (void)state;
    spar_error err;
    assert_int_equal(spar_fail(&err, SPAR_FORMAT, "%s: expected %d, found %d", "a.json", 1, 2),
                     SPAR_FORMAT);
    assert_int_equal(err.code, SPAR_FORMAT);
    assert_string_equal(err.message, "a.json: expected 1, found 2");
    assert_int_equal(spar_fail(NULL, SPAR_LIMIT, "x"), SPAR_LIMIT);
    spar_fail(&err, SPAR_FORMAT, "found '%s'", "two\nlines\x1b[2J");
    assert_string_equal(err.message, "found 'two lines [2J'");
}

static void test_long_message_is_cut(void **state) {
    (void)state;
    spar_error err;
    char text[4096];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    spar_fail(&err, SPAR_FORMAT, "%s", text);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    spar_error_context(&err, "file");
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_memory_equal(err.message, "file: xxx", 9);
    spar_error_context(&err, "%s", text);
    assert_true(strlen(err.message) < sizeof err.message);
}

static void test_context(void **state) {
    (void)state;
    spar_error err;
    spar_fail(&err, SPAR_NOT_FOUND, "tensor missing");
    assert_int_equal(spar_error_context(&err, "%s", "model"), SPAR_NOT_FOUND);
    assert_string_equal(err.message, "model: tensor missing");
}

typedef struct heard {
    spar_log_level level;
    char line[64];
    double done;
} heard;

static void hear_log(void *context, spar_log_level level, const char *line) {
    heard *h = context;
    h->level = level;
    snprintf(h->line, sizeof h->line, "%s", line);
}

static void hear_progress(void *context, const spar_progress *progress) {
    heard *h = context;
    h->done = progress->done;
}

static void test_sink(void **state) {
    (void)state;
    heard h = {.level = SPAR_LOG_DEBUG};
    const spar_sink sink = {hear_log, hear_progress, &h};
    spar_sink_log(&sink, SPAR_LOG_WARN, "step %d", 3);
    assert_int_equal(h.level, SPAR_LOG_WARN);
    assert_string_equal(h.line, "step 3");
    const spar_progress progress = {.phase = "train", .done = 5, .detail = ""};
    spar_sink_progress(&sink, &progress);
    assert_true(h.done > 4.5);
    spar_sink_log(NULL, SPAR_LOG_WARN, "dropped");
    const spar_sink silent = {NULL, NULL, NULL};
    spar_sink_log(&silent, SPAR_LOG_WARN, "dropped");
    spar_sink_progress(&silent, &progress);
    assert_string_equal(h.line, "step 3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),   cmocka_unit_test(test_fail),
        cmocka_unit_test(test_context), cmocka_unit_test(test_long_message_is_cut),
        cmocka_unit_test(test_sink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
