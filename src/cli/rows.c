/* JSON Lines in and out, row by row. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "spar/jsonl.h"

struct cli_rows {
    spar_jsonl *file;
};

spar_status cli_rows_open(cli_rows **out, const char *path, spar_error *err) {
    cli_rows *rows = calloc(1, sizeof *rows);
    if (!rows) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory");
    }
    spar_status status = spar_jsonl_open(&rows->file, path, err);
    if (status != SPAR_OK) {
        free(rows);
        return status;
    }
    *out = rows;
    return SPAR_OK;
}

spar_status cli_rows_next(cli_rows *rows, json_t **row, spar_error *err) {
    return spar_jsonl_next(rows->file, row, err);
}

void cli_rows_close(cli_rows *rows) {
    if (rows) {
        spar_jsonl_free(rows->file);
        free(rows);
    }
}

spar_status cli_put_row(json_t *row, spar_error *err) {
    char *text = row ? json_dumps(row, JSON_COMPACT) : NULL;
    json_decref(row);
    if (!text) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for a row");
    }
    bool ok = puts(text) >= 0;
    free(text);
    return ok ? SPAR_OK : spar_fail(err, SPAR_IO, "standard output: cannot be written");
}

spar_status cli_put_error(const spar_error *why, int *failed, spar_error *err) {
    (*failed)++;
    return cli_put_row(json_pack("{s:s}", "error", why->message), err);
}

spar_status cli_rows_status(int failed, spar_error *err) {
    return failed ? spar_fail(err, SPAR_INVALID, "%d row%s failed: see \"error\" in the output",
                              failed, failed == 1 ? "" : "s")
                  : SPAR_OK;
}

spar_status cli_map_rows(const char *path, cli_row_fn fn, void *context, spar_error *err) {
    spar_status status = SPAR_OK;
    cli_rows *rows = NULL;
    int failed = 0;
    SPAR_TRY(cli_rows_open(&rows, path, err));
    for (;;) {
        json_t *row = NULL;
        json_t *out = NULL;
        spar_error why;
        SPAR_TRY(cli_rows_next(rows, &row, err));
        if (!row) {
            break;
        }
        spar_status one = fn(context, row, &out, &why);
        json_decref(row);
        SPAR_TRY(one == SPAR_OK ? cli_put_row(out, err) : cli_put_error(&why, &failed, err));
    }
    SPAR_TRY(cli_rows_status(failed, err));
done:
    cli_rows_close(rows);
    return status;
}

spar_status cli_check_operands(int argc, char **argv, int min, int max, const char *what,
                               spar_error *err) {
    if (argc > max) {
        return spar_fail(err, SPAR_INVALID, "unexpected operand %s (expected %s)", argv[max], what);
    }
    return argc < min ? spar_fail(err, SPAR_INVALID, "expected %s, found nothing", what) : SPAR_OK;
}
