/* JSON Lines in and out, row by row, and text for people. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "spar/rows.h"

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
    json_t *message = json_string(why->message);
    if (!message) { /* cut within a character, or a name that is not UTF-8 */
        char text[sizeof why->message];
        size_t n = strlen(why->message);
        for (size_t i = 0; i <= n; i++) {
            text[i] = (unsigned char)why->message[i] < 0x80 ? why->message[i] : '?';
        }
        message = json_string(text);
    }
    return cli_put_row(json_pack("{s:o}", "error", message), err);
}

spar_status cli_rows_status(int failed, spar_error *err) {
    return failed ? spar_fail(err, SPAR_INVALID, "%d row%s failed: see \"error\" in the output",
                              failed, failed == 1 ? "" : "s")
                  : SPAR_OK;
}

spar_status cli_next_row(spar_rows *rows, json_t **row, spar_error *why, spar_error *err) {
    memset(why, 0, sizeof *why);
    spar_status status = spar_rows_next(rows, row, err);
    if (status != SPAR_OK && spar_rows_goes_on(rows)) {
        *why = *err;
        status = SPAR_OK;
    }
    return status;
}

/* Rows that were read and are not written yet; a malformed one is an error in `why`. */
typedef struct window {
    json_t **rows;   /* owned, [size]; NULL where why is set */
    spar_error *why; /* owned, [size] */
    size_t size, n;
} window;

static void window_clear(window *w) {
    for (size_t i = 0; i < w->n; i++) {
        json_decref(w->rows[i]);
    }
    w->n = 0;
}

static spar_status window_read(window *w, spar_rows *file, spar_error *err) {
    spar_status status = SPAR_OK;
    while (w->n < w->size) {
        json_t *row = NULL;
        SPAR_TRY(cli_next_row(file, &row, &w->why[w->n], err));
        if (!row && w->why[w->n].code == SPAR_OK) {
            break;
        }
        w->rows[w->n++] = row;
    }
done:
    return status;
}

static spar_status window_tell(const window *w, cli_ahead_fn ahead, void *context,
                               spar_error *err) {
    size_t n = 0;
    if (!ahead) {
        return SPAR_OK;
    }
    const json_t **good = malloc((w->n + 1) * sizeof *good);
    if (!good) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for the rows");
    }
    for (size_t i = 0; i < w->n; i++) {
        if (w->rows[i]) {
            good[n++] = w->rows[i];
        }
    }
    const spar_status status = ahead(context, good, n, err);
    free(good);
    return status;
}

static spar_status window_write(const window *w, cli_row_fn fn, void *context, int *failed,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < w->n; i++) {
        json_t *out = NULL;
        spar_error *why = &w->why[i];
        if (cli_interrupted(NULL)) {
            SPAR_TRY(spar_fail(err, SPAR_INTERRUPTED, "stopped"));
        }
        const spar_status one = w->rows[i] ? fn(context, w->rows[i], &out, why) : why->code;
        if (one != SPAR_OK) {
            SPAR_TRY(cli_put_error(why, failed, err));
        } else if (out) {
            SPAR_TRY(cli_put_row(out, err));
        }
    }
done:
    return status;
}

spar_status cli_map_windows(const char *path, size_t size, cli_ahead_fn ahead, cli_row_fn fn,
                            void *context, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *file = NULL;
    spar_error broken;
    int failed = 0;
    window w = {
        .rows = calloc(size, sizeof *w.rows), .why = calloc(size, sizeof *w.why), .size = size};
    if (!w.rows || !w.why) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for the rows"));
    }
    SPAR_TRY(spar_rows_open(&file, path, err));
    do {
        window_clear(&w);
        const spar_status read = window_read(&w, file, &broken);
        SPAR_TRY(window_tell(&w, ahead, context, err));
        SPAR_TRY(window_write(&w, fn, context, &failed, err));
        if (read != SPAR_OK) {
            SPAR_TRY(spar_fail(err, read, "%s", broken.message));
        }
    } while (w.n > 0);
    SPAR_TRY(cli_rows_status(failed, err));
done:
    window_clear(&w);
    free(w.rows);
    free(w.why);
    spar_rows_free(file);
    return status;
}

spar_status cli_map_rows(const char *path, cli_row_fn fn, void *context, spar_error *err) {
    return cli_map_windows(path, 1, NULL, fn, context, err);
}

spar_status cli_read_ids(const json_t *list, const char *key, int32_t **ids, size_t *n,
                         spar_error *err) {
    size_t count = json_array_size(list);
    if (!json_is_array(list)) {
        return spar_fail(err, SPAR_FORMAT, "%s: expected a list of token ids, found %s", key,
                         list ? "another type" : "nothing");
    }
    int32_t *grown = realloc(*ids, (*n + count + 1) * sizeof **ids);
    if (!grown) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for the rows");
    }
    *ids = grown;
    for (size_t i = 0; i < count; i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) > INT32_MAX) {
            return spar_fail(err, SPAR_FORMAT, "%s[%zu]: expected a token id", key, i);
        }
        (*ids)[(*n)++] = (int32_t)json_integer_value(id);
    }
    return SPAR_OK;
}

void cli_put_text(FILE *out, const char *text, size_t max) {
    size_t n = strnlen(text, max);
    while (n > 0 && text[n] && ((unsigned char)text[n] & 0xc0) == 0x80) {
        n--; /* back to the start of the character that would be cut */
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        bool c1 = c == 0xc2 && i + 1 < n && (unsigned char)text[i + 1] < 0xa0;
        bool plain = (c >= 0x20 && c != 0x7f) || c == '\t';
        if (c == '\n') {
            fputs("\\n", out);
        } else {
            fputc(plain && !c1 ? c : '?', out);
        }
        i += c1;
    }
}

spar_status cli_check_operands(int argc, char **argv, int min, int max, const char *what,
                               spar_error *err) {
    if (argc > max) {
        return spar_fail(err, SPAR_INVALID, "unexpected operand %s (expected %s)", argv[max], what);
    }
    return argc < min ? spar_fail(err, SPAR_INVALID, "expected %s, found nothing", what) : SPAR_OK;
}
