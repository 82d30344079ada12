/* JSON Lines, and one JSON array of rows. */
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "io/row_format.h"

enum { END = SP_BYTE_STREAM_END };

typedef enum mode { MODE_UNKNOWN, MODE_LINES, MODE_ARRAY, MODE_END } mode;

typedef struct json_rows {
    sp_byte_stream *bytes; /* borrowed */
    mode mode;
    bool first;       /* no row of the array was read yet */
    int64_t row_line; /* of the last row */
    sp_str row;       /* its text */
} json_rows;

static spar_status json_open(void **state, sp_byte_stream *bytes, spar_error *err) {
    void *memory;
    const spar_status status = sp_mem_calloc(&memory, 1, sizeof(json_rows), err);
    if (status == SPAR_OK) {
        json_rows *j = memory;
        j->bytes = bytes;
        j->first = true;
        *state = j;
    }
    return status;
}

static void json_close(void *state) {
    json_rows *j = state;
    if (j) {
        sp_str_release(&j->row);
    }
    free(j);
}

static void json_where(const void *state, sp_str *out) {
    const json_rows *j = state;
    sp_str_printf(out, "%s:%lld", j->bytes->name, (long long)j->row_line);
}

static spar_status check_size(const json_rows *j, spar_error *err) {
    if (j->row.len > SP_ROW_LIMIT) {
        return spar_fail(err, SPAR_LIMIT, "%s:%lld: expected a row of at most %d bytes, found more",
                         j->bytes->name, (long long)j->row_line, SP_ROW_LIMIT);
    }
    return sp_str_status(&j->row, err);
}

/* ---- rows ---- */

/* The text up to the line's end, which may be the file's. */
static spar_status read_line(json_rows *j, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_byte_stream *b = j->bytes;
    bool ended = false;
    while (!ended) {
        SPAR_TRY(sp_byte_stream_fill(b, err));
        if (b->at == b->size) {
            break;
        }
        const char *from = b->buffer + b->at;
        const char *end = memchr(from, '\n', b->size - b->at);
        const size_t n = end != NULL ? (size_t)(end - from) : b->size - b->at;
        sp_str_append(&j->row, from, n);
        SPAR_TRY(check_size(j, err));
        ended = end != NULL;
        b->at += n + ended;
        b->line += ended;
    }
done:
    return status;
}

/* The text of one element of the array: up to the comma or bracket that ends it, not taken. Where
 * the element is ill-formed the parser will say so. */
static spar_status read_element(json_rows *j, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t depth = 0;
    bool quoted = false, escaped = false;
    for (;;) {
        int byte;
        SPAR_TRY(sp_byte_stream_peek(j->bytes, &byte, err));
        const bool ends = !quoted && depth == 0 && (byte == ',' || byte == ']');
        if (byte == END || ends) {
            break;
        }
        if (quoted) {
            quoted = escaped || byte != '"';
            escaped = !escaped && byte == '\\';
        } else {
            quoted = byte == '"';
            depth += byte == '{' || byte == '[';
            depth -= depth > 0 && (byte == '}' || byte == ']');
        }
        sp_str_putc(&j->row, (char)byte);
        SPAR_TRY(check_size(j, err));
        sp_byte_stream_skip(j->bytes);
    }
done:
    return status;
}

static spar_status unexpected(const json_rows *j, const char *expected, int byte, spar_error *err) {
    if (byte == END) {
        return spar_fail(err, SPAR_FORMAT, "%s:%lld: expected %s, found the end of the file",
                         j->bytes->name, (long long)j->bytes->line, expected);
    }
    return spar_fail(err, SPAR_FORMAT, "%s:%lld: expected %s, found byte 0x%02x", j->bytes->name,
                     (long long)j->bytes->line, expected, (unsigned)byte);
}

/* Step over '[', or over ',' or ']' after an element; *ended: the array is over. */
static spar_status next_element(json_rows *j, bool *ended, spar_error *err) {
    spar_status status = SPAR_OK;
    int byte;
    SPAR_TRY(sp_byte_stream_skip_space(j->bytes, &byte, err));
    const bool first = j->first;
    *ended = !first && byte == ']';
    if (!*ended && byte != (first ? '[' : ',')) {
        SPAR_TRY(unexpected(j, "',' or ']' of the array of rows", byte, err));
    }
    sp_byte_stream_skip(j->bytes);
    j->first = false;
    if (first) {
        SPAR_TRY(sp_byte_stream_skip_space(j->bytes, &byte, err));
        *ended = byte == ']';
        if (*ended) {
            sp_byte_stream_skip(j->bytes);
        }
    }
    if (*ended) {
        SPAR_TRY(sp_byte_stream_skip_space(j->bytes, &byte, err));
        if (byte != END) {
            SPAR_TRY(unexpected(j, "nothing after the array of rows", byte, err));
        }
    }
done:
    return status;
}

/* The first byte says how rows are written. */
static spar_status detect(json_rows *j, spar_error *err) {
    int byte;
    const spar_status status = sp_byte_stream_skip_space(j->bytes, &byte, err);
    j->mode = byte == '[' ? MODE_ARRAY : MODE_LINES;
    return status;
}

/* The first line of an object that goes on over more lines. */
static bool is_opening(const json_rows *j) {
    const char *text = sp_str_get(&j->row);
    return j->mode == MODE_LINES && text[0] == '{' && strspn(text + 1, " \t\r") == j->row.len - 1;
}

static spar_status parse_row(const json_rows *j, json_t **row, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str where = SP_STR_INIT;
    json_t *value = NULL;
    json_where(j, &where);
    SPAR_TRY(sp_str_status(&where, err));
    if (is_opening(j)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: expected an object in one line, or an array of objects, found one "
                           "over several lines",
                           sp_str_get(&where)));
    }
    SPAR_TRY(sp_json_parse_row(&value, sp_str_get(&j->row), j->row.len, sp_str_get(&where), err));
    if (!json_is_object(value)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected a row that is an object, found %s",
                           sp_str_get(&where), sp_json_type_name(value)));
    }
    *row = value;
    value = NULL;
done:
    json_decref(value);
    sp_str_release(&where);
    return status;
}

static spar_status json_next(void *state, json_t **row, bool *goes_on, spar_error *err) {
    spar_status status = SPAR_OK;
    json_rows *j = state;
    bool ended = false;
    int byte;
    if (j->mode == MODE_UNKNOWN) {
        SPAR_TRY(detect(j, err));
    }
    if (j->mode == MODE_END) {
        goto done;
    }
    if (j->mode == MODE_ARRAY) {
        SPAR_TRY(next_element(j, &ended, err));
    }
    SPAR_TRY(sp_byte_stream_skip_space(j->bytes, &byte, err));
    if (ended || (byte == END && j->mode == MODE_LINES)) {
        j->mode = MODE_END;
        goto done;
    }
    j->row_line = j->bytes->line;
    sp_str_clear(&j->row);
    SPAR_TRY(j->mode == MODE_LINES ? read_line(j, err) : read_element(j, err));
    status = parse_row(j, row, err);
    *goes_on = status == SPAR_FORMAT && j->mode == MODE_LINES;
done:
    return status;
}

const sp_row_format sp_json_rows = {json_open, json_next, json_where, json_close};
