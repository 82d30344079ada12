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

spar_status cli_map_rows(const char *path, cli_row_fn fn, void *context, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_rows *rows = NULL;
    int failed = 0;
    SPAR_TRY(spar_rows_open(&rows, path, err));
    for (;;) {
        json_t *row = NULL;
        json_t *out = NULL;
        spar_error why;
        SPAR_TRY(cli_next_row(rows, &row, &why, err));
        spar_status one = why.code;
        if (!row && one == SPAR_OK) {
            break;
        }
        if (row) {
            one = fn(context, row, &out, &why);
        }
        json_decref(row);
        if (one != SPAR_OK) {
            SPAR_TRY(cli_put_error(&why, &failed, err));
        } else if (out) {
            SPAR_TRY(cli_put_row(out, err));
        }
    }
    SPAR_TRY(cli_rows_status(failed, err));
done:
    spar_rows_free(rows);
    return status;
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
        fputc(plain && !c1 ? c : '?', out);
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
