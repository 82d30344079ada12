#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "support.h"

/* Parse YAML and hold the result against JSON text. */
static void assert_yields(const char *yaml, const char *json) {
    json_t *value = NULL;
    spar_error err;
    if (sp_yaml_parse(&value, yaml, strlen(yaml), "r.yaml", &err) != SPAR_OK) {
        fail_msg("%s", err.message);
    }
    json_t *expected = json_loads(json, JSON_DECODE_ANY, NULL);
    assert_non_null(expected);
    if (!json_equal(value, expected)) {
        fail_msg("'%s' gave %s", yaml, json_dumps(value, JSON_ENCODE_ANY));
    }
    json_decref(expected);
    json_decref(value);
}

static void assert_refused(const char *yaml, const char *message) {
    json_t *value = NULL;
    spar_error err;
    assert_int_equal(sp_yaml_parse(&value, yaml, strlen(yaml), "r.yaml", &err), SPAR_FORMAT);
    assert_null(value);
    if (strstr(err.message, message) == NULL) {
        fail_msg("expected '%s' in '%s'", message, err.message);
    }
}

static void test_scalars(void **state) {
    (void)state;
    assert_yields("[true, True, FALSE, null, ~, NULL]", "[true, true, false, null, null, null]");
    assert_yields("[1, -2, +3, 007, 0x1F, 0o17]", "[1, -2, 3, 7, 31, 15]");
    assert_yields("[5e-6, 1.5, -.5, 2., 1E3, +0.25]", "[5e-6, 1.5, -0.5, 2.0, 1000.0, 0.25]");
    assert_yields("[yes, no, on, 1_000, 1:30, 0b1, ., e5, -, 1e, 0x, 1.2.3, +]",
                  "[\"yes\",\"no\",\"on\",\"1_000\",\"1:30\",\"0b1\",\".\",\"e5\",\"-\",\"1e\","
                  "\"0x\",\"1.2.3\",\"+\"]");
    assert_yields("['1', \"true\", '', \"~\"]", "[\"1\", \"true\", \"\", \"~\"]");
    assert_yields("a: |\n  two\n  lines\n", "{\"a\": \"two\\nlines\\n\"}");
    assert_yields("a: >\n  12\n", "{\"a\": \"12\\n\"}");
}

static void test_structures(void **state) {
    (void)state;
    assert_yields("", "null");
    assert_yields("# only a comment\n", "null");
    assert_yields("--- 5\n...\n", "5");
    assert_yields("train:\n  lr: 5e-6 # rate\n  steps: [1, 2]\nempty:\n1: x\n",
                  "{\"train\": {\"lr\": 5e-6, \"steps\": [1, 2]}, \"empty\": null, \"1\": \"x\"}");
    assert_yields("- a: 1\n  b: {c: []}\n- - 2\n", "[{\"a\": 1, \"b\": {\"c\": []}}, [2]]");
}

static void test_refused(void **state) {
    (void)state;
    assert_refused("a: 1\nb: 2\na: 3\n", "r.yaml: line 3, column 1: duplicate key 'a'");
    assert_refused("a: &x 1\n", "anchors");
    assert_refused("a: *x\n", "aliases");
    assert_refused("a: !!str 1\n", "tags");
    assert_refused("&x {a: 1}", "anchors");
    assert_refused("!t [1]", "tags");
    assert_refused("&k a: 1", "anchors");
    assert_refused("? [1]\n: 2\n", "expected a plain key");
    assert_refused("a: 1\n---\nb: 2\n", "one document");
    assert_refused("a: [1, 2\n", "r.yaml: line 2");
    assert_refused("a: 'open\n", "r.yaml: line");
    assert_refused("a:\n\tb: 1\n", "r.yaml: line 2");
    assert_refused("a: .inf\n", "finite");
    assert_refused("a: -.INF\n", "finite");
    assert_refused("a: .nan\n", "finite");
    assert_refused("a: 1e999\n", "range");
    assert_refused("a: 99999999999999999999\n", "64 bits");
    assert_refused("a: \"\\0\"\n", "NUL");
    assert_refused("a: \xff\xfe\n", "r.yaml: line");
}

static void test_depth_is_bounded(void **state) {
    (void)state;
    char deep[1001];
    memset(deep, '[', 1000);
    deep[1000] = '\0';
    assert_refused(deep, "nested too deeply");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_structures),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_depth_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
