/* CSV and TSV with a header row: RFC 4180, and what is common beside it: a line feed alone ends a
 * row, blank lines are skipped, and a quote within a field that does not begin with one stands for
 * itself. */
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "io/row_format.h"

enum { END = SP_BYTE_STREAM_END, MOST_COLUMNS = 10000 };

typedef struct column {
    char *name;    /* owned; "": left out, as the index that some programs write */
    bool has_json; /* its cells are JSON, never texts */
} column;

typedef struct csv_rows {
    sp_byte_stream *bytes; /* borrowed */
    char delimiter;
    column *columns; /* owned; n = 0: the header was not read yet */
    size_t n_columns;
    int64_t row;  /* the last record's number, from 1 behind the header */
    int64_t line; /* where that record begins */
    sp_str text;  /* the record's fields, one behind the other */
    size_t *ends; /* owned: where each field ends in text */
    size_t n, capacity;
    bool blank; /* the record is an empty line */
} csv_rows;

/* ---- records ---- */

static void csv_where(const void *state, sp_str *out) {
    const csv_rows *c = state;
    sp_str_printf(out, "%s:%lld", c->bytes->name, (long long)c->line);
    if (c->row > 0) {
        sp_str_printf(out, " (row %lld)", (long long)c->row);
    }
}

/* A refusal of the record: where it is, and the rest. */
static spar_status refuse(const csv_rows *c, spar_status code, const char *what, spar_error *err) {
    sp_str where = SP_STR_INIT;
    csv_where(c, &where);
    const spar_status status = spar_fail(err, code, "%s: %s", sp_str_get(&where), what);
    sp_str_release(&where);
    return status;
}

static spar_status put(csv_rows *c, int byte, spar_error *err) {
    sp_str_putc(&c->text, (char)byte);
    sp_byte_stream_skip(c->bytes);
    return c->text.len <= SP_ROW_LIMIT
               ? SPAR_OK
               : refuse(c, SPAR_LIMIT, "expected a row of at most 67108864 bytes, found more", err);
}

/* A field in quotes, of which the first is taken; *next: what follows the last. */
static spar_status read_quoted(csv_rows *c, int *next, spar_error *err) {
    spar_status status = SPAR_OK;
    for (;;) {
        SPAR_TRY(sp_byte_stream_peek(c->bytes, next, err));
        if (*next == END) {
            SPAR_TRY(refuse(c, SPAR_FORMAT,
                            "expected the quote that closes a field, found the end of the file",
                            err));
        }
        if (*next == '"') {
            sp_byte_stream_skip(c->bytes);
            SPAR_TRY(sp_byte_stream_peek(c->bytes, next, err));
            if (*next != '"') {
                break;
            }
        }
        SPAR_TRY(put(c, *next, err));
    }
done:
    return status;
}

static bool ends_field(const csv_rows *c, int byte) {
    return byte == c->delimiter || byte == '\n' || byte == END;
}

/* What is behind a closing quote must end the field; a carriage return belongs to the line's end.
 */
static spar_status end_quoted(csv_rows *c, int *next, spar_error *err) {
    spar_status status = SPAR_OK;
    const bool returns = *next == '\r';
    if (returns) {
        sp_byte_stream_skip(c->bytes);
        SPAR_TRY(sp_byte_stream_peek(c->bytes, next, err));
    }
    if (!ends_field(c, *next) || (returns && *next == c->delimiter)) {
        SPAR_TRY(refuse(c, SPAR_FORMAT,
                        "expected the end of a field behind its closing quote, found more of it",
                        err));
    }
done:
    return status;
}

static spar_status read_bare(csv_rows *c, int *next, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t begin = c->text.len;
    while (!ends_field(c, *next)) {
        SPAR_TRY(put(c, *next, err));
        SPAR_TRY(sp_byte_stream_peek(c->bytes, next, err));
    }
    if (*next != c->delimiter && c->text.len > begin && c->text.data[c->text.len - 1] == '\r') {
        sp_str_truncate(&c->text, c->text.len - 1);
    }
done:
    return status;
}

/* One field, with the byte that ends it; *last: the record ends with it. */
static spar_status read_field(csv_rows *c, bool *last, spar_error *err) {
    spar_status status = SPAR_OK;
    void *ends = c->ends;
    int next;
    SPAR_TRY(sp_byte_stream_peek(c->bytes, &next, err));
    const bool quoted = next == '"';
    if (quoted) {
        sp_byte_stream_skip(c->bytes);
        SPAR_TRY(read_quoted(c, &next, err));
        SPAR_TRY(end_quoted(c, &next, err));
    } else {
        SPAR_TRY(read_bare(c, &next, err));
    }
    SPAR_TRY(sp_str_status(&c->text, err));
    SPAR_TRY(sp_mem_grow(&ends, &c->capacity, c->n + 1, sizeof *c->ends, err));
    c->ends = ends;
    c->ends[c->n++] = c->text.len;
    *last = next != c->delimiter;
    c->blank = c->n == 1 && *last && !quoted && c->text.len == 0;
    if (next != END) {
        sp_byte_stream_skip(c->bytes);
    }
done:
    return status;
}

/* The next record that is no blank line; *end: there is none. */
static spar_status read_record(csv_rows *c, bool *end, spar_error *err) {
    spar_status status = SPAR_OK;
    int next;
    do {
        bool last = false;
        SPAR_TRY(sp_byte_stream_peek(c->bytes, &next, err));
        *end = next == END;
        sp_str_clear(&c->text);
        c->n = 0;
        c->line = c->bytes->line;
        while (!*end && !last) {
            SPAR_TRY(read_field(c, &last, err));
        }
    } while (!*end && c->blank);
done:
    return status;
}

/* Field i of the record, not NUL-terminated. */
static const char *field(const csv_rows *c, size_t i, size_t *n) {
    const size_t begin = i > 0 ? c->ends[i - 1] : 0;
    *n = c->ends[i] - begin;
    return sp_str_get(&c->text) + begin;
}

/* ---- the header ---- */

/* Members of rows that are never texts, wherever rows are read. */
static bool holds_json(const char *name) {
    static const char *const names[] = {"messages",
                                        "conversations",
                                        "responses",
                                        "completions",
                                        "completion_mask",
                                        "tools",
                                        "label",
                                        "ids",
                                        "score_chosen",
                                        "score_rejected",
                                        "chosen_score",
                                        "rejected_score",
                                        "chosen_probs_win",
                                        "chosen_probs_lose",
                                        "rewards",
                                        "scores",
                                        "win_rates",
                                        "logprobs"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    const size_t n = strlen(name);
    return n > 4 && strcmp(name + n - 4, "_ids") == 0;
}

/* P(i preferred to j) stands beside responses; without them "p" is a name like another. */
static void find_matrix(csv_rows *c) {
    column *matrix = NULL;
    bool responses = false;
    for (size_t i = 0; i < c->n_columns; i++) {
        const char *name = c->columns[i].name;
        matrix = strcmp(name, "p") == 0 ? &c->columns[i] : matrix;
        responses = responses || strncmp(name, "responses", 9) == 0 || !strcmp(name, "completions");
    }
    if (matrix && responses) {
        matrix->has_json = true;
    }
}

static spar_status add_column(csv_rows *c, size_t i, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t n;
    const char *name = field(c, i, &n);
    SPAR_TRY(sp_mem_strdup(&c->columns[i].name, name, n, err));
    c->columns[i].has_json = holds_json(c->columns[i].name);
    for (size_t k = 0; k < i && n > 0; k++) {
        if (strcmp(c->columns[k].name, c->columns[i].name) == 0) {
            SPAR_TRY(
                spar_fail(err, SPAR_FORMAT,
                          "%s:%lld: expected columns of different names, found \"%.64s\" twice",
                          c->bytes->name, (long long)c->line, c->columns[i].name));
        }
    }
done:
    return status;
}

static spar_status read_header(csv_rows *c, bool *end, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    SPAR_TRY(read_record(c, end, err));
    if (*end) {
        goto done;
    }
    if (c->n > MOST_COLUMNS) {
        SPAR_TRY(
            refuse(c, SPAR_LIMIT, "expected a header of at most 10000 columns, found more", err));
    }
    SPAR_TRY(sp_mem_calloc(&memory, c->n, sizeof *c->columns, err));
    c->columns = memory;
    c->n_columns = c->n;
    for (size_t i = 0; i < c->n_columns; i++) {
        SPAR_TRY(add_column(c, i, err));
    }
    find_matrix(c);
done:
    return status;
}

/* ---- cells ---- */

/* True and False, as some programs write what JSON calls true and false. */
static json_t *read_truth(const char *text, size_t n) {
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"True", true}, {"TRUE", true}, {"False", false}, {"FALSE", false}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strlen(words[i].word) == n && memcmp(words[i].word, text, n) == 0) {
            return json_boolean(words[i].value);
        }
    }
    return NULL;
}

/* A cell of a column that holds JSON; nothing is null. */
static spar_status read_json(const csv_rows *c, const column *of, const char *text, size_t n,
                             json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str where = SP_STR_INIT;
    *out = n == 0 ? json_null() : read_truth(text, n);
    if (*out == NULL) {
        csv_where(c, &where);
        sp_str_printf(&where, ": %.64s", of->name);
        SPAR_TRY(sp_str_status(&where, err));
        SPAR_TRY(sp_json_parse_row(out, text, n, sp_str_get(&where), err));
    }
done:
    sp_str_release(&where);
    return status;
}

static bool is_message(const json_t *value) {
    return json_is_object(value) &&
           (json_object_get(value, "role") != NULL || json_object_get(value, "from") != NULL);
}

/* A text that is one message or a list of them, as JSON; NULL for any other text. */
static json_t *read_messages(const char *text, size_t n) {
    if (n == 0 || (text[0] != '[' && text[0] != '{')) {
        return NULL;
    }
    json_t *value = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    const size_t size = json_array_size(value);
    bool all = size > 0 || is_message(value);
    for (size_t i = 0; i < size; i++) {
        all = all && is_message(json_array_get(value, i));
    }
    if (!all) {
        json_decref(value);
        return NULL;
    }
    return value;
}

static spar_status read_cell(const csv_rows *c, size_t i, json_t *row, spar_error *err) {
    spar_status status = SPAR_OK;
    const column *of = &c->columns[i];
    size_t n;
    const char *text = field(c, i, &n);
    json_t *value = NULL;
    if (of->has_json) {
        SPAR_TRY(read_json(c, of, text, n, &value, err));
    } else {
        value = read_messages(text, n);
        value = value != NULL ? value : json_stringn(text, n);
    }
    if (value == NULL || json_object_set_new(row, of->name, value) != 0) {
        sp_str what = SP_STR_INIT;
        sp_str_printf(&what, "%.64s: expected UTF-8, found other bytes", of->name);
        status = refuse(c, SPAR_FORMAT, sp_str_get(&what), err);
        sp_str_release(&what);
    }
done:
    return status;
}

static spar_status read_cells(const csv_rows *c, json_t **row, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *out = json_object();
    if (out == NULL) {
        SPAR_TRY(refuse(c, SPAR_NO_MEMORY, "out of memory for a row", err));
    }
    if (c->n != c->n_columns) {
        char what[128];
        snprintf(what, sizeof what, "expected %zu fields, as the header has, found %zu",
                 c->n_columns, c->n);
        SPAR_TRY(refuse(c, SPAR_FORMAT, what, err));
    }
    for (size_t i = 0; i < c->n; i++) {
        SPAR_TRY(c->columns[i].name[0] != '\0' ? read_cell(c, i, out, err) : SPAR_OK);
    }
    *row = out;
    out = NULL;
done:
    json_decref(out);
    return status;
}

/* ---- the format ---- */

static spar_status csv_next(void *state, json_t **row, bool *goes_on, spar_error *err) {
    spar_status status = SPAR_OK;
    csv_rows *c = state;
    bool end = false;
    if (c->n_columns == 0) {
        SPAR_TRY(read_header(c, &end, err));
    }
    if (!end) {
        c->row++;
        SPAR_TRY(read_record(c, &end, err));
    }
    if (!end) {
        status = read_cells(c, row, err);
        *goes_on = status == SPAR_FORMAT;
    }
done:
    return status;
}

static spar_status open_rows(void **state, sp_byte_stream *bytes, char delimiter, spar_error *err) {
    void *memory;
    const spar_status status = sp_mem_calloc(&memory, 1, sizeof(csv_rows), err);
    if (status == SPAR_OK) {
        csv_rows *c = memory;
        c->bytes = bytes;
        c->delimiter = delimiter;
        *state = c;
    }
    return status;
}

static spar_status csv_open(void **state, sp_byte_stream *bytes, spar_error *err) {
    return open_rows(state, bytes, ',', err);
}

static spar_status tsv_open(void **state, sp_byte_stream *bytes, spar_error *err) {
    return open_rows(state, bytes, '\t', err);
}

static void csv_close(void *state) {
    csv_rows *c = state;
    for (size_t i = 0; c && i < c->n_columns; i++) {
        free(c->columns[i].name);
    }
    if (c) {
        free(c->columns);
        free(c->ends);
        sp_str_release(&c->text);
    }
    free(c);
}

const sp_row_format sp_csv_rows = {csv_open, csv_next, csv_where, csv_close};
const sp_row_format sp_tsv_rows = {tsv_open, csv_next, csv_where, csv_close};
