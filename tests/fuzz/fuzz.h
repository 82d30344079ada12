/* A harness hands one input to one parser. It links to libFuzzer's main (clang, SPAR_FUZZ=ON), or
 * to replay_main.c, which runs the corpus and mutations of it under any compiler. Whatever the
 * input, a parser must return; the sanitizers say the rest. */
#ifndef SPAR_TESTS_FUZZ_H
#define SPAR_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "memory_file.h"
#include "spar/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The path of a file in memory that holds the input; one file a harness, made at its first use. */
static inline const char *fuzz_path(const uint8_t *data, size_t size) {
    static memory_file file;
    if (file.path[0] == '\0') {
        memory_file_make(&file);
    }
    memory_file_set(&file, data, size);
    return file.path;
}

/* A refusal without its message is a defect like any other. */
static inline void fuzz_check(spar_status status, const spar_error *err) {
    if (status != SPAR_OK && (err->code != status || err->message[0] == '\0')) {
        fprintf(stderr, "refused as %s without a message\n", spar_status_name(status));
        abort();
    }
}

#endif
