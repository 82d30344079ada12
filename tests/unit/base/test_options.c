#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <math.h>

#include "spar/options.h"
#include "support.h"

typedef struct settings {
    bool verbose, cache;
    int64_t threads;
    double rate;
    const char *model, *schedule;
    int dtype;
    spar_option_list tasks;
} settings;

static const spar_option table[] = {
    {"verbose", 'v', SPAR_OPTION_FLAG, offsetof(settings, verbose), NULL, 0, 0, NULL, NULL,
     "Say more"},
    {"cache", 0, SPAR_OPTION_FLAG, offsetof(settings, cache), "true", 0, 0, NULL, NULL,
     "Keep the keys and values"},
    {"threads", 't', SPAR_OPTION_INT, offsetof(settings, threads), "2", 1, 1024, NULL, "N",
     "Threads to work with"},
    {"learning-rate", 0, SPAR_OPTION_NUMBER, offsetof(settings, rate), "5e-6", 0, HUGE_VAL, NULL,
     NULL, "Peak learning rate"},
    {"model", 'm', SPAR_OPTION_STRING, offsetof(settings, model), NULL, 0, 0, NULL, "PATH",
     "Model to load"},
    {"schedule", 0, SPAR_OPTION_STRING, offsetof(settings, schedule), "linear", 0, 0, NULL, "NAME",
     "How the learning rate falls"},
    {"dtype", 'd', SPAR_OPTION_CHOICE, offsetof(settings, dtype), "bf16", 0, 0, "f32|bf16", "TYPE",
     "Type to compute in, with sums kept in f32 whatever it is"},
    {"task", 0, SPAR_OPTION_LIST, offsetof(settings, tasks), "gsm8k", 0, 0, NULL, "NAME",
     "Task to measure"},
    {NULL, 0, SPAR_OPTION_FLAG, 0, NULL, 0, 0, NULL, NULL, NULL},
};

static const spar_command_doc doc = {"try", "-m MODEL [options] [FILE]", "Try a model",
                                     "First paragraph.\n\n.Second - with a \\ sign.", table};

enum { ARGS_MAX = 16, TEXT_MAX = 8192 };

typedef struct line {
    char text[ARGS_MAX][64];
    char *argv[ARGS_MAX];
    int argc, n_operands;
    settings values;
    spar_error err;
} line;

/* Split the words at blanks and parse them over the defaults. */
static spar_status parse(line *l, const char *words) {
    char copy[512], *rest = copy;
    *l = (line){.argc = 0};
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(rest, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        snprintf(l->text[l->argc], sizeof l->text[0], "%s", word);
        l->argv[l->argc] = l->text[l->argc];
        l->argc++;
    }
    assert_int_equal(spar_options_default(table, &l->values, &l->err), SPAR_OK);
    return spar_options_parse(table, &l->values, l->argc, l->argv, &l->n_operands, &l->err);
}

static void assert_parses(line *l, const char *words) {
    if (parse(l, words) != SPAR_OK) {
        fail_msg("%s", l->err.message);
    }
}

static void assert_refused(const char *words, const char *message) {
    line l;
    assert_int_equal(parse(&l, words), SPAR_INVALID);
    assert_string_equal(l.err.message, message);
}

static void test_defaults(void **state) {
    (void)state;
    line l;
    assert_parses(&l, "");
    assert_false(l.values.verbose);
    assert_true(l.values.cache);
    assert_int_equal(l.values.threads, 2);
    assert_true(fabs(l.values.rate - 5e-6) < 1e-12);
    assert_null(l.values.model);
    assert_int_equal(l.values.dtype, 1);
    assert_int_equal(l.values.tasks.n, 1);
}

static void test_forms(void **state) {
    (void)state;
    line l;
    assert_parses(&l, "one -t3 --model=a=b two --no-cache -v -- -m three -");
    assert_int_equal(l.values.threads, 3);
    assert_string_equal(l.values.model, "a=b");
    assert_false(l.values.cache);
    assert_true(l.values.verbose);
    assert_int_equal(l.n_operands, 5);
    assert_string_equal(l.argv[0], "one");
    assert_string_equal(l.argv[1], "two");
    assert_string_equal(l.argv[2], "-m");
    assert_string_equal(l.argv[4], "-");
    assert_parses(&l, "-vt 4 --dtype f32 --model=y -m -x");
    assert_int_equal(l.values.threads, 4);
    assert_int_equal(l.values.dtype, 0);
    assert_string_equal(l.values.model, "-x");
    assert_parses(&l, "--learning-rate 1e-3 --verbose --no-verbose");
    assert_true(fabs(l.values.rate - 1e-3) < 1e-9);
    assert_false(l.values.verbose);
}

static void test_lists(void **state) {
    (void)state;
    line l;
    assert_parses(&l, "--task a,b --task=c --task ,d,");
    assert_int_equal(l.values.tasks.n, 4);
    assert_string_equal(l.values.tasks.items[0], "a");
    assert_string_equal(l.values.tasks.items[1], "b");
    assert_string_equal(l.values.tasks.items[2], "c");
    assert_string_equal(l.values.tasks.items[3], "d");
    assert_refused(
        "--task a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a --task a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a",
        "--task: expected at most 32 values, found more");
}

static void test_refused(void **state) {
    (void)state;
    assert_refused("--threads x", "--threads: expected an integer in 1..1024, found 'x'");
    assert_refused("-t 0", "-t: expected an integer in 1..1024, found '0'");
    assert_refused("-t 1025", "-t: expected an integer in 1..1024, found '1025'");
    assert_refused("-t 3x", "-t: expected an integer in 1..1024, found '3x'");
    assert_refused("-t 99999999999999999999",
                   "-t: expected an integer in 1..1024, found '99999999999999999999'");
    assert_refused("--model=", "--model: expected PATH, found an empty text");
    assert_refused("--threads=", "--threads: expected an integer in 1..1024, found ''");
    assert_refused("--learning-rate -1",
                   "--learning-rate: expected a number of at least 0, found '-1'");
    assert_refused("--learning-rate nan",
                   "--learning-rate: expected a number of at least 0, found 'nan'");
    assert_refused("--dtype f16", "--dtype: expected f32|bf16, found 'f16'");
    assert_refused("--model", "--model: expected a value, found none");
    assert_refused("-vm", "-m: expected a value, found none");
    assert_refused("--verbose=1", "--verbose: expected no value, found '1'");
    assert_refused("-x", "unknown option -x");
    assert_refused("--theards 3", "unknown option --theards; did you mean --threads?");
    assert_refused("--modle=3", "unknown option --modle; did you mean --model?");
    assert_refused("--no-threads", "unknown option --no-threads; did you mean --threads?");
    assert_refused("--something-else", "unknown option --something-else");
}

static spar_status from_json(settings *values, json_t **object, const char *text, spar_error *err) {
    *object = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(*object);
    assert_int_equal(spar_options_default(table, values, err), SPAR_OK);
    return spar_options_from_json(table, values, *object, "r.yaml: train", err);
}

static void assert_json_refused(const char *text, const char *message) {
    settings values = {.threads = 0};
    json_t *object = NULL;
    spar_error err;
    assert_int_equal(from_json(&values, &object, text, &err), SPAR_INVALID);
    assert_string_equal(err.message, message);
    json_decref(object);
}

static void test_from_json(void **state) {
    (void)state;
    settings values = {.threads = 0};
    json_t *object = NULL;
    spar_error err;
    assert_int_equal(from_json(&values, &object,
                               "{\"learning_rate\": 1, \"verbose\": true, \"threads\": 9, "
                               "\"model\": \"m\", \"dtype\": \"f32\", \"task\": [\"a\", \"b\"]}",
                               &err),
                     SPAR_OK);
    assert_true(values.verbose);
    assert_true(fabs(values.rate - 1) < 1e-9);
    assert_int_equal(values.threads, 9);
    assert_string_equal(values.model, "m");
    assert_int_equal(values.dtype, 0);
    assert_int_equal(values.tasks.n, 2);
    assert_string_equal(values.tasks.items[1], "b");
    /* The command line goes over the recipe: its first list value replaces, later ones add. */
    char flag[] = "--task", one[] = "c", two[] = "d";
    char *argv[] = {flag, one, flag, two};
    int n_operands = 0;
    assert_int_equal(spar_options_parse(table, &values, 4, argv, &n_operands, &err), SPAR_OK);
    assert_int_equal(values.tasks.n, 2);
    assert_string_equal(values.tasks.items[0], "c");
    json_decref(object);
}

static void test_json_refused(void **state) {
    (void)state;
    assert_json_refused("[]", "r.yaml: train: expected an object, found array");
    assert_json_refused("{\"threads\": 0}",
                        "r.yaml: train: threads: expected an integer in 1..1024, found 0");
    assert_json_refused("{\"threads\": \"x\"}",
                        "r.yaml: train: threads: expected an integer in 1..1024, found string");
    assert_json_refused("{\"learning_rate\": -0.5}",
                        "r.yaml: train: learning_rate: expected a number of at least 0, "
                        "found -0.5");
    assert_json_refused("{\"verbose\": 1}",
                        "r.yaml: train: verbose: expected true or false, found integer");
    assert_json_refused("{\"model\": 1}", "r.yaml: train: model: expected a string, found integer");
    assert_json_refused("{\"schedule\": null}",
                        "r.yaml: train: schedule: expected a string, found null");
    assert_json_refused("{\"dtype\": \"f8\"}",
                        "r.yaml: train: dtype: expected f32|bf16, found 'f8'");
    assert_json_refused("{\"task\": [1]}",
                        "r.yaml: train: task: expected a list of strings, found integer");
    assert_json_refused("{\"learning-rate\": 1}", "r.yaml: train: unknown key 'learning-rate'; did "
                                                  "you mean 'learning_rate'?");
    assert_json_refused("{\"zzzzzzzzz\": 1}", "r.yaml: train: unknown key 'zzzzzzzzz'");
}

static void test_json_round_trip(void **state) {
    (void)state;
    line l;
    assert_parses(&l, "-t 7 --task x,y --dtype f32 --no-cache");
    json_t *record = spar_options_to_json(table, &l.values);
    assert_non_null(record);
    assert_true(json_is_null(json_object_get(record, "model")));
    settings back = {.threads = 0};
    assert_int_equal(spar_options_from_json(table, &back, record, "record", &l.err), SPAR_OK);
    json_t *again = spar_options_to_json(table, &back);
    assert_true(json_equal(record, again));
    assert_int_equal(back.threads, 7);
    assert_int_equal(back.dtype, 0);
    json_decref(again);
    json_decref(record);
}

static void test_help(void **state) {
    (void)state;
    static char text[TEXT_MAX];
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    spar_options_help(&doc, out);
    fclose(out);
    assert_non_null(strstr(text, "Usage: spar try -m MODEL [options] [FILE]\n"));
    assert_non_null(strstr(text, "  -t, --threads N           Threads to work with"));
    assert_non_null(strstr(text, "(1..1024; default 2)"));
    assert_non_null(
        strstr(text, "whatever\n                            it is (f32|bf16; default bf16)\n"));
    assert_non_null(strstr(text, "(at least 0; default"));
    assert_non_null(strstr(text, "      --[no-]cache          Keep the keys and values"));
    assert_non_null(strstr(text, "  -h, --help "));
    for (const char *p = text; *p != '\0';) {
        const size_t n = strcspn(p, "\n");
        assert_in_range(n, 0, 80);
        p += n + (p[n] == '\n');
    }
}

static void test_man(void **state) {
    (void)state;
    static char text[TEXT_MAX];
    FILE *out = fmemopen(text, sizeof text, "w");
    assert_non_null(out);
    spar_options_man(&doc, out);
    fclose(out);
    assert_memory_equal(text, ".TH SPAR\\-TRY 1", 15);
    assert_non_null(strstr(text, "\n.SH NAME\nspar-try \\- Try a model\n"));
    assert_non_null(strstr(text, "\n.PP\n\\&.Second \\- with a \\e sign."));
    assert_non_null(strstr(text, "\\fB\\-t\\fR, \\fB\\-\\-threads\\fR \\fIN\\fR\n"));
    assert_non_null(strstr(text, "\\fB\\-\\-learning\\-rate\\fR"));
    assert_non_null(strstr(text, "\\fB9\\fR\nin use by another process\n"));
}

/* The script is run by bash itself, where there is one. */
static void test_bash(void **state) {
    (void)state;
    char folder[TEST_PATH_MAX], path[TEST_PATH_MAX], command[3 * TEST_PATH_MAX], answer[256] = "";
    test_temp_dir(folder);
    FILE *out = fopen(test_path(path, folder, "spar"), "w");
    assert_non_null(out);
    const spar_command_doc *docs[] = {&doc};
    spar_options_bash(docs, 1, out);
    fclose(out);
    if (system("command -v bash >/dev/null") == 0) {
        snprintf(command, sizeof command,
                 "bash -c '. %s; t() { COMP_WORDS=(spar \"$@\"); COMP_CWORD=$#; _spar; "
                 "echo \"${COMPREPLY[@]}\"; }; t tr; t try --th; t try --dtype b; "
                 "t try --dtype =; t try --no; t try --model x'",
                 path);
        FILE *in = popen(command, "r");
        assert_non_null(in);
        const size_t n = fread(answer, 1, sizeof answer - 1, in);
        answer[n] = '\0';
        assert_int_equal(pclose(in), 0);
        assert_string_equal(answer, "try\n--threads\nbf16\nf32 bf16\n--no-cache\n\n");
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_from_json),
        cmocka_unit_test(test_json_refused),
        cmocka_unit_test(test_json_round_trip),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_man),
        cmocka_unit_test(test_bash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
