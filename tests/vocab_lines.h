/* The test lines that come with the vocabularies of llama.cpp: texts in one file, apart by a line,
 * and rows of ids in another. For tests that have included cmocka. */
#ifndef SPAR_TESTS_VOCAB_LINES_H
#define SPAR_TESTS_VOCAB_LINES_H

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "spar/tokenizer.h"
#include "support.h"

static char *read_vocab_lines(const char *vocab, const char *ending) {
    spar_error err;
    char path[TEST_PATH_MAX];
    char *text;
    size_t n;
    snprintf(path, sizeof path, "%s/ggml-vocab-%s.gguf.%s", test_shared("tokenizers/gguf-vocab"),
             vocab, ending);
    assert_int_equal(sp_file_read(path, 1 << 20, &text, &n, &err), SPAR_OK);
    return text;
}

/* row: ids that each follow a space, to the end of the line. Returns the next row. */
static const char *hold_vocab_row(const spar_tokenizer *t, const char *text, size_t length,
                                  const char *row) {
    spar_error err;
    int32_t *ids;
    size_t n;
    const char *end = row + strcspn(row, "\n");
    assert_int_equal(
        spar_tokenizer_encode(t, text, length, SPAR_TOKENIZE_NO_SPECIAL, &ids, &n, &err), SPAR_OK);
    for (size_t i = 0; i < n; i++) {
        char *stop;
        assert_int_equal(strtol(row, &stop, 10), ids[i]);
        row = stop;
    }
    row += strspn(row, " ");
    assert_ptr_equal(row, end); /* no id is left over */
    free(ids);
    return *end ? end + 1 : end;
}

static void hold_vocab_lines(const spar_tokenizer *t, const char *vocab) {
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char *texts = read_vocab_lines(vocab, "inp");
    char *rows = read_vocab_lines(vocab, "out");
    const char *row = rows;
    size_t count = 0;
    for (const char *at = texts; at && *row; count++) { /* after the last text is an empty one */
        const char *end = strstr(at, separator);
        row = hold_vocab_row(t, at, end ? (size_t)(end - at) : strlen(at), row);
        at = end ? end + sizeof separator - 1 : NULL;
    }
    assert_true(count > 40);
    free(texts);
    free(rows);
}

#endif
