/* A line of any bytes as a pattern, and the rest as the text that it is matched in. */
#include <string.h>

#include "fuzz.h"
#include "text/pattern_program.h"
#include "text/steps.h"

static void walk(const sp_program *program, const char *text, size_t n) {
    size_t last = 0;
    for (;;) {
        spar_error err = {SPAR_OK, ""};
        size_t begin = 0, end = 0;
        bool found = false;
        spar_status status = sp_program_find(program, text, n, last, &begin, &end, &found, &err);
        fuzz_check(status, &err);
        if (status != SPAR_OK || !found) {
            return;
        }
        if (begin < last || end <= begin || end > n) {
            abort();
        }
        last = end;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *bytes = (const char *)data;
    const char *newline = size ? memchr(bytes, '\n', size) : NULL;
    const size_t n = newline ? (size_t)(newline - bytes) : size;
    spar_error err = {SPAR_OK, ""};
    sp_program *program = NULL;
    sp_str pattern = SP_STR_INIT, text = SP_STR_INIT;
    sp_utf8_repair(bytes, n, &pattern);
    sp_utf8_repair(bytes + n, size - n, &text);
    fuzz_check(sp_program_compile(&program, sp_str_get(&pattern), &err), &err);
    if (program) {
        walk(program, sp_str_get(&text), text.len);
    }
    sp_program_free(program);
    sp_str_release(&pattern);
    sp_str_release(&text);
    return 0;
}
