/* The table of docs/models.md against the rows of architectures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "model/arch.h"

enum { CELL = 256 };

/* Cell i of a row "| a | b |", without the spaces around it. */
static void cell(const char *row, int i, char out[CELL]) {
    for (; i >= 0; i--) {
        row = strchr(row + 1, '|');
        assert_non_null(row);
    }
    const char *begin = row - 1, *end = row;
    while (*begin != '|') {
        begin--;
    }
    snprintf(out, CELL, "%.*s", (int)(end - begin - 1), begin + 1);
    const size_t blank = strspn(out, " ");
    memmove(out, out + blank, strlen(out) + 1 - blank);
    for (size_t n = strlen(out); n > 0 && out[n - 1] == ' '; n--) {
        out[n - 1] = 0;
    }
}

static bool names_again(int i) {
    for (int k = 0; k < i; k++) {
        if (strcmp(sp_arch_at(k)->model_type, sp_arch_at(i)->model_type) == 0) {
            return true;
        }
    }
    return false;
}

/* Every family has its row with what GGUF files call it, and the table has no other. */
static void test_table(void **state) {
    (void)state;
    char *docs = NULL, name[CELL], found[CELL];
    size_t n, rows = 0, families = 0;
    spar_error err;
    assert_int_equal(sp_file_read(SPAR_SOURCE_DIR "/docs/models.md", 1 << 20, &docs, &n, &err),
                     SPAR_OK);
    for (int i = 0; sp_arch_at(i); i++) {
        const sp_arch *arch = sp_arch_at(i);
        snprintf(name, sizeof name, "\n| `%s` |", arch->model_type);
        const char *row = strstr(docs, name);
        if (!row) {
            fail_msg("docs/models.md: expected a row of %s", arch->model_type);
            return;
        }
        cell(row + 1, 2, found);
        snprintf(name, sizeof name, "`%s`", arch->gguf_name ? arch->gguf_name : "");
        if (arch->gguf_name ? !strstr(found, name) : found[0] != 0) {
            fail_msg("docs/models.md: %s: GGUF: expected %s, found %s", arch->model_type,
                     arch->gguf_name ? name : "nothing", found);
        }
        families += !names_again(i);
    }
    for (const char *c = docs; (c = strstr(c, "\n| `")); c++) {
        rows++;
    }
    assert_int_equal(rows, families);
    free(docs);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table)};
    return cmocka_run_group_tests_name("models_doc", tests, NULL, NULL);
}
