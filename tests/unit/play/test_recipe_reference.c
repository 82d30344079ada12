/* The recipe reference of docs/architecture.md against the option tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "spar/options.h"
#include "spar/play.h"

static void describe_values(const spar_option *o, char *out, size_t n) {
    switch (o->type) {
    case SPAR_OPTION_FLAG:
        snprintf(out, n, "true or false");
        break;
    case SPAR_OPTION_INT:
        snprintf(out, n, "whole number, %.16g to %.16g", o->min, o->max);
        break;
    case SPAR_OPTION_NUMBER:
        snprintf(out, n, "number, %g to %g", o->min, o->max);
        break;
    case SPAR_OPTION_LIST:
        snprintf(out, n, "list of texts");
        break;
    case SPAR_OPTION_STRING:
        snprintf(out, n, "text");
        break;
    case SPAR_OPTION_CHOICE: {
        size_t used = 0;
        for (const char *c = o->choices; *c && used + 2 < n; c++) {
            out[used++] = *c == '|' ? ',' : *c;
            if (*c == '|') {
                out[used++] = ' ';
            }
        }
        out[used] = 0;
        break;
    }
    }
}

/* The row of the table in Markdown. */
static void describe(const spar_option *o, char *out, size_t n) {
    char key[64], values[256], fallback[64] = "none";
    snprintf(key, sizeof key, "%s", o->name);
    for (char *c = key; *c; c++) {
        *c = *c == '-' ? '_' : *c;
    }
    describe_values(o, values, sizeof values);
    if (o->fallback) {
        snprintf(fallback, sizeof fallback, "`%s`", o->fallback);
    }
    snprintf(out, n, "\n| `%s` | %s | %s | %s |\n", key, values, fallback, o->help);
}

static bool stands_in(const spar_option *table, const spar_option *row) {
    for (; table && table->name; table++) {
        if (strcmp(table->name, row->name) == 0) {
            return true;
        }
    }
    return false;
}

static size_t count_rows(const char *section, const char *end) {
    size_t n = 0;
    for (const char *c = section; (c = strstr(c, "\n| `")) && c < end; c++) {
        n++;
    }
    return n;
}

/* Every key is in its section's table as the code has it, and the table has no other. */
static void check_section(const char *docs, const char *name, const spar_option *table,
                          const spar_option *defaults) {
    char heading[64], row[1024];
    snprintf(heading, sizeof heading, name[0] ? "\n### `%s`\n" : "\n### Top level\n", name);
    const char *section = strstr(docs, heading);
    if (!section) {
        fail_msg("docs/architecture.md: no heading%s", heading);
        return;
    }
    const char *end = strstr(section + strlen(heading), "\n### ");
    end = end ? end : section + strlen(section);
    size_t n = 0;
    for (const spar_option *o = table; o->name; o++) {
        if (stands_in(defaults, o)) { /* an arm's rows that `train` lists */
            continue;
        }
        describe(o, row, sizeof row);
        const char *at = strstr(section, row);
        if (!at || at >= end) {
            fail_msg("docs/architecture.md: section%s: expected the row%s", heading, row);
        }
        n++;
    }
    assert_int_equal(count_rows(section, end), n);
}

static void test_reference(void **state) {
    (void)state;
    char *docs = NULL;
    size_t n;
    spar_error err;
    const char *name;
    const spar_option *train = NULL;
    const spar_option *table;
    assert_int_equal(
        sp_file_read(SPAR_SOURCE_DIR "/docs/architecture.md", 1 << 20, &docs, &n, &err), SPAR_OK);
    for (int i = 0; (table = spar_recipe_section(i, &name)); i++) {
        bool is_arms = strcmp(name, "arms") == 0;
        check_section(docs, name, table, is_arms ? train : NULL);
        train = strcmp(name, "train") == 0 ? table : train;
    }
    assert_non_null(train);
    free(docs);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
