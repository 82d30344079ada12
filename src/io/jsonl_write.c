/* Writing rows as JSON Lines. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "spar/jsonl.h"

struct spar_jsonl_writer {
    sp_writer file;
    bool standard; /* to standard output, and file is not open */
};

spar_status spar_jsonl_create(spar_jsonl_writer **out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_jsonl_writer *w = NULL;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *w, err));
    w = memory;
    w->file.fd = -1;
    w->standard = strcmp(path, "-") == 0;
    if (!w->standard) {
        SPAR_TRY(sp_writer_open(&w->file, path, err));
    }
    *out = w;
    w = NULL;
done:
    spar_jsonl_writer_free(w);
    return status;
}

static spar_status standard_failed(spar_error *err) {
    return spar_fail(err, SPAR_IO, "standard output: cannot write: %s", strerror(errno));
}

spar_status spar_jsonl_put(spar_jsonl_writer *w, const json_t *row, spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = json_dumps(row, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a row"));
    }
    if (w->standard) {
        SPAR_TRY(puts(text) < 0 ? standard_failed(err) : SPAR_OK);
    } else {
        sp_writer_write(&w->file, text, strlen(text));
        sp_writer_write(&w->file, "\n", 1);
    }
done:
    free(text);
    return status;
}

spar_status spar_jsonl_commit(spar_jsonl_writer *w, spar_error *err) {
    if (w->standard) {
        return fflush(stdout) != 0 ? standard_failed(err) : SPAR_OK;
    }
    return sp_writer_commit(&w->file, err);
}

void spar_jsonl_writer_free(spar_jsonl_writer *w) {
    if (w) {
        sp_writer_abort(&w->file);
        free(w);
    }
}
