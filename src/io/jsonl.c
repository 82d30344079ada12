#include "spar/jsonl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

enum { ROW_LIMIT = 64 << 20, BUFFER_SIZE = 1 << 16, END = -1 };

typedef enum mode { MODE_UNKNOWN, MODE_LINES, MODE_ARRAY, MODE_END } mode;

struct spar_jsonl {
    int fd;
    char *path;   /* owned */
    char *buffer; /* owned, BUFFER_SIZE */
    size_t at, size;
    bool at_end;
    mode mode;
    bool first;       /* no row of the array was read yet */
    bool goes_on;     /* the last row failed by its own text, and the next line can be read */
    int64_t line;     /* of the next byte */
    int64_t row_line; /* of the last row */
    sp_str row;       /* its text */
};

spar_status spar_jsonl_open(spar_jsonl **out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_jsonl *j = NULL;
    void *memory;
    const bool standard = strcmp(path, "-") == 0;
    const char *name = standard ? "standard input" : path;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *j, err));
    j = memory;
    j->line = 1;
    j->first = true;
    j->fd = -1;
    SPAR_TRY(sp_mem_strdup(&j->path, name, strlen(name), err));
    SPAR_TRY(sp_mem_calloc(&memory, BUFFER_SIZE, 1, err));
    j->buffer = memory;
    j->fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (j->fd < 0) {
        SPAR_TRY(spar_fail(err, errno == ENOENT ? SPAR_NOT_FOUND : SPAR_IO, "%s: cannot open: %s",
                           path, strerror(errno)));
    }
    *out = j;
    j = NULL;
done:
    spar_jsonl_free(j);
    return status;
}

void spar_jsonl_free(spar_jsonl *j) {
    if (j == NULL) {
        return;
    }
    if (j->fd > STDIN_FILENO) {
        close(j->fd);
    }
    free(j->path);
    free(j->buffer);
    sp_str_release(&j->row);
    free(j);
}

bool spar_jsonl_goes_on(const spar_jsonl *j) {
    return j->goes_on;
}

int64_t spar_jsonl_line(const spar_jsonl *j) {
    return j->row_line;
}

/* ---- bytes ---- */

/* Make at < size unless the file has ended. */
static spar_status refill(spar_jsonl *j, spar_error *err) {
    while (j->at == j->size && !j->at_end) {
        const ssize_t n = read(j->fd, j->buffer, BUFFER_SIZE);
        if (n < 0 && errno != EINTR) {
            return spar_fail(err, SPAR_IO, "%s: cannot read: %s", j->path, strerror(errno));
        }
        j->at = 0;
        j->size = n > 0 ? (size_t)n : 0;
        j->at_end = n == 0;
    }
    return SPAR_OK;
}

/* *byte: the next one, not taken, or END. */
static spar_status peek(spar_jsonl *j, int *byte, spar_error *err) {
    const spar_status status = refill(j, err);
    *byte = status == SPAR_OK && j->at < j->size ? (unsigned char)j->buffer[j->at] : END;
    return status;
}

static void skip(spar_jsonl *j) {
    j->line += j->buffer[j->at++] == '\n';
}

static bool is_space(int byte) {
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static spar_status skip_space(spar_jsonl *j, int *next, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(peek(j, next, err));
    while (is_space(*next)) {
        skip(j);
        SPAR_TRY(peek(j, next, err));
    }
done:
    return status;
}

static spar_status check_size(const spar_jsonl *j, spar_error *err) {
    if (j->row.len > ROW_LIMIT) {
        return spar_fail(err, SPAR_LIMIT, "%s:%lld: expected a row of at most %d bytes, found more",
                         j->path, (long long)j->row_line, ROW_LIMIT);
    }
    return sp_str_status(&j->row, err);
}

/* ---- rows ---- */

/* The text up to the line's end, which may be the file's. */
static spar_status read_line(spar_jsonl *j, spar_error *err) {
    spar_status status = SPAR_OK;
    bool ended = false;
    while (!ended) {
        SPAR_TRY(refill(j, err));
        if (j->at == j->size) {
            break;
        }
        const char *from = j->buffer + j->at;
        const char *end = memchr(from, '\n', j->size - j->at);
        const size_t n = end != NULL ? (size_t)(end - from) : j->size - j->at;
        sp_str_append(&j->row, from, n);
        SPAR_TRY(check_size(j, err));
        ended = end != NULL;
        j->at += n + ended;
        j->line += ended;
    }
done:
    return status;
}

/* The text of one element of the array: up to the comma or bracket that ends it, not taken. Where
 * the element is ill-formed the parser will say so. */
static spar_status read_element(spar_jsonl *j, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t depth = 0;
    bool quoted = false, escaped = false;
    for (;;) {
        int byte;
        SPAR_TRY(peek(j, &byte, err));
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
        skip(j);
    }
done:
    return status;
}

static spar_status unexpected(const spar_jsonl *j, const char *expected, int byte,
                              spar_error *err) {
    if (byte == END) {
        return spar_fail(err, SPAR_FORMAT, "%s:%lld: expected %s, found the end of the file",
                         j->path, (long long)j->line, expected);
    }
    return spar_fail(err, SPAR_FORMAT, "%s:%lld: expected %s, found byte 0x%02x", j->path,
                     (long long)j->line, expected, (unsigned)byte);
}

/* Step over '[', or over ',' or ']' after an element; *ended: the array is over. */
static spar_status next_element(spar_jsonl *j, bool *ended, spar_error *err) {
    spar_status status = SPAR_OK;
    int byte;
    SPAR_TRY(skip_space(j, &byte, err));
    const bool first = j->first;
    *ended = !first && byte == ']';
    if (!*ended && byte != (first ? '[' : ',')) {
        SPAR_TRY(unexpected(j, "',' or ']' of the array of rows", byte, err));
    }
    skip(j);
    j->first = false;
    if (first) {
        SPAR_TRY(skip_space(j, &byte, err));
        *ended = byte == ']';
        if (*ended) {
            skip(j);
        }
    }
    if (*ended) {
        SPAR_TRY(skip_space(j, &byte, err));
        if (byte != END) {
            SPAR_TRY(unexpected(j, "nothing after the array of rows", byte, err));
        }
    }
done:
    return status;
}

/* A byte order mark, then the first byte that says how rows are written. */
static spar_status detect(spar_jsonl *j, spar_error *err) {
    static const unsigned char mark[] = {0xef, 0xbb, 0xbf};
    spar_status status = SPAR_OK;
    int byte;
    SPAR_TRY(peek(j, &byte, err));
    for (size_t i = 0; i < sizeof mark && byte == mark[i]; i++) {
        skip(j);
        SPAR_TRY(peek(j, &byte, err));
    }
    SPAR_TRY(skip_space(j, &byte, err));
    j->mode = byte == '[' ? MODE_ARRAY : MODE_LINES;
done:
    return status;
}

static spar_status parse_row(const spar_jsonl *j, json_t **row, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str where = SP_STR_INIT;
    json_t *value = NULL;
    sp_str_printf(&where, "%s:%lld", j->path, (long long)j->row_line);
    SPAR_TRY(sp_str_status(&where, err));
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

spar_status spar_jsonl_next(spar_jsonl *j, json_t **row, spar_error *err) {
    spar_status status = SPAR_OK;
    bool ended = false;
    int byte;
    *row = NULL;
    j->goes_on = false;
    if (j->mode == MODE_UNKNOWN) {
        SPAR_TRY(detect(j, err));
    }
    if (j->mode == MODE_END) {
        goto done;
    }
    if (j->mode == MODE_ARRAY) {
        SPAR_TRY(next_element(j, &ended, err));
    }
    SPAR_TRY(skip_space(j, &byte, err));
    if (ended || (byte == END && j->mode == MODE_LINES)) {
        j->mode = MODE_END;
        goto done;
    }
    j->row_line = j->line;
    sp_str_clear(&j->row);
    SPAR_TRY(j->mode == MODE_LINES ? read_line(j, err) : read_element(j, err));
    status = parse_row(j, row, err);
    j->goes_on = status == SPAR_FORMAT && j->mode == MODE_LINES;
done:
    return status;
}
