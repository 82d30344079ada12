/* Programs as judges: what they answer, and every way in which they fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "judge/kind.h"
#include "support.h"

static const spar_judge_options LIMITS = {.time_limit = 1, .memory_limit = 256};

static spar_status judge_two(const char *command, spar_judgement *out, spar_error *err) {
    spar_judge *judge;
    char spec[TEST_PATH_MAX];
    json_t *row = json_pack("{s:s, s:[s, s], s:i}", "prompt", "x", "responses", "bad", "good",
                            "reference", 3);
    snprintf(spec, sizeof spec, "program:%s", command);
    assert_int_equal(spar_judge_open(&judge, spec, &LIMITS, err), SPAR_OK);
    const spar_status status = spar_judge_row(judge, row, out, err);
    spar_judge_free(judge);
    json_decref(row);
    return status;
}

static void scores_are_read(void **state) {
    (void)state;
    spar_judgement out;
    spar_error err;
    assert_int_equal(judge_two("while read -r r; do case $r in "
                               "'{\"prompt\":\"x\",\"response\":\"good\",\"reference\":3}') "
                               "echo '{\"score\":0.5}';; *) echo '{\"score\":-1}';; esac; done",
                               &out, &err),
                     SPAR_OK);
    assert_true(out.scores[0] == -1 && out.scores[1] == 0.5);
    assert_int_equal(out.best, 1);
    assert_true(out.p[1] == 0 && out.p[2] == 1);
    spar_judgement_release(&out);
}

static const struct {
    const char *command, *message;
    spar_status status;
} WRONG[] = {
    {"exit 3", "judge program: exit status 3", SPAR_INVALID},
    {"/no/such/program", "judge program: exit status 127", SPAR_INVALID},
    {"kill -SEGV $$", "judge program: ended by signal 11", SPAR_LIMIT},
    {"sleep 60", "judge program: no end after 1 seconds", SPAR_LIMIT},
    {"exec >&-; sleep 60", "judge program: no end after 1 seconds", SPAR_LIMIT},
    {"sleep 60 &", "judge program: no end after 1 seconds", SPAR_LIMIT},
    {"yes", "judge program: more than 8192 bytes of output", SPAR_LIMIT},
    {"dd if=/dev/zero of=/dev/null bs=400M count=1 || exit 5", "judge program: exit status 5",
     SPAR_INVALID},
    {"echo '{\"score\":1}'", "judge program: line 2: ", SPAR_FORMAT},
    {"echo nonsense", "judge program: line 1", SPAR_FORMAT},
    {"echo '{\"score\":\"1\"}'", "judge program: line 1", SPAR_FORMAT},
    {"for i in 1 2 3; do echo '{\"score\":1}'; done", "judge program: expected 2 lines, found more",
     SPAR_FORMAT},
};

static void failures_are_told(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        spar_judgement out;
        spar_error err = {0};
        const spar_status status = judge_two(WRONG[i].command, &out, &err);
        spar_judgement_release(&out);
        if (status != WRONG[i].status || !strstr(err.message, WRONG[i].message)) {
            fail_msg("%s: expected '%s', found '%s'", WRONG[i].command, WRONG[i].message,
                     err.message);
        }
    }
}

/* What the program started is killed with it. */
static void the_group_is_killed(void **state) {
    (void)state;
    char folder[TEST_PATH_MAX], path[TEST_PATH_MAX], command[2 * TEST_PATH_MAX];
    spar_judgement out;
    spar_error err;
    test_path(path, test_temp_dir(folder), "late");
    snprintf(command, sizeof command, "(sleep 2; echo late >%s) & sleep 60", path);
    assert_int_equal(judge_two(command, &out, &err), SPAR_LIMIT);
    spar_judgement_release(&out);
    sleep(2);
    assert_false(sp_file_exists(path));
    sp_dir_remove(folder, NULL);
}

static void a_command_is_needed(void **state) {
    (void)state;
    spar_judge *judge;
    spar_error err;
    assert_int_equal(spar_judge_open(&judge, "program:", NULL, &err), SPAR_INVALID);
    assert_string_equal(err.message, "judge program: expected a command, found nothing");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_read), cmocka_unit_test(failures_are_told),
        cmocka_unit_test(the_group_is_killed), cmocka_unit_test(a_command_is_needed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
