/* The YAML part of base/jsonx.h: libyaml's events become a JSON value, one node a call. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"
#include "base/jsonx.h"

enum { DEPTH_MAX = 64, LOAD_LIMIT = 16 << 20 };

typedef struct reader {
    yaml_parser_t parser;
    const char *where; /* borrowed */
    spar_error *err;   /* borrowed */
} reader;

static spar_status fail_at(reader *r, yaml_mark_t mark, const char *what) {
    return spar_fail(r->err, SPAR_FORMAT, "%s: line %zu, column %zu: %s", r->where, mark.line + 1,
                     mark.column + 1, what);
}

static spar_status no_memory(reader *r) {
    return spar_fail(r->err, SPAR_NO_MEMORY, "%s: out of memory", r->where);
}

static spar_status next_event(reader *r, yaml_event_t *event) {
    if (yaml_parser_parse(&r->parser, event)) {
        return SPAR_OK;
    }
    memset(event, 0, sizeof *event);
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) {
        return no_memory(r);
    }
    return fail_at(r, p->error == YAML_READER_ERROR ? p->mark : p->problem_mark,
                   p->problem != NULL ? p->problem : "malformed YAML");
}

static bool is_one_of(const char *text, const char *const *words) {
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            return true;
        }
    }
    return false;
}

static bool all_in(const char *text, const char *set) {
    return *text != '\0' && text[strspn(text, set)] == '\0';
}

static const char *after_sign(const char *text) {
    return *text == '+' || *text == '-' ? text + 1 : text;
}

/* Base of the core schema's integer forms, 0 for none; *digits is where strtoll may start. */
static int integer_base(const char *text, const char **digits) {
    *digits = text;
    if (all_in(after_sign(text), "0123456789")) {
        return 10;
    }
    *digits = text + 2;
    if (strncmp(text, "0o", 2) == 0 && all_in(text + 2, "01234567")) {
        return 8;
    }
    if (strncmp(text, "0x", 2) == 0 && all_in(text + 2, "0123456789abcdefABCDEF")) {
        return 16;
    }
    return 0;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_float(const char *text) {
    const char *p = after_sign(text);
    const size_t whole = strspn(p, "0123456789");
    p += whole;
    size_t part = 0;
    if (*p == '.') {
        part = strspn(++p, "0123456789");
        p += part;
    }
    if (whole + part == 0) {
        return false;
    }
    return *p == '\0' || ((*p == 'e' || *p == 'E') && all_in(after_sign(p + 1), "0123456789"));
}

static bool is_infinite_or_nan(const char *text) {
    static const char *const inf[] = {".inf", ".Inf", ".INF", NULL};
    static const char *const nan_words[] = {".nan", ".NaN", ".NAN", NULL};
    return is_one_of(after_sign(text), inf) || is_one_of(text, nan_words);
}

static spar_status read_number(reader *r, yaml_mark_t mark, const char *text, json_t **out) {
    const char *digits = NULL;
    const int base = integer_base(text, &digits);
    errno = 0;
    if (base != 0) {
        const long long value = strtoll(digits, NULL, base);
        if (errno == ERANGE) {
            return fail_at(r, mark, "expected an integer of at most 64 bits, found a larger one");
        }
        *out = json_integer(value);
    } else {
        const double value = strtod(text, NULL);
        if (!isfinite(value)) {
            return fail_at(r, mark, "expected a number within the range of a double");
        }
        *out = json_real(value);
    }
    return *out != NULL ? SPAR_OK : no_memory(r);
}

static spar_status read_plain(reader *r, yaml_mark_t mark, const char *text, json_t **out) {
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    const char *digits = NULL;
    if (is_one_of(text, nulls)) {
        *out = json_null();
    } else if (is_one_of(text, trues)) {
        *out = json_true();
    } else if (is_one_of(text, falses)) {
        *out = json_false();
    } else if (is_infinite_or_nan(text)) {
        return fail_at(r, mark, "expected a finite number, found an infinity or NaN");
    } else if (integer_base(text, &digits) != 0 || is_float(text)) {
        return read_number(r, mark, text, out);
    } else {
        *out = json_string(text);
    }
    return *out != NULL ? SPAR_OK : no_memory(r);
}

static spar_status refuse_marks(reader *r, const yaml_event_t *event, const yaml_char_t *anchor,
                                const yaml_char_t *tag) {
    if (anchor != NULL) {
        return fail_at(r, event->start_mark, "anchors (&name) are not supported");
    }
    if (tag != NULL) {
        return fail_at(r, event->start_mark, "tags (!name) are not supported");
    }
    return SPAR_OK;
}

/* The text of a scalar event as a C string; libyaml puts a NUL behind it. */
static spar_status scalar_text(reader *r, const yaml_event_t *event, const char **out) {
    spar_status status = SPAR_OK;
    const char *text = (const char *)event->data.scalar.value;
    SPAR_TRY(refuse_marks(r, event, event->data.scalar.anchor, event->data.scalar.tag));
    if (strlen(text) != event->data.scalar.length) {
        SPAR_TRY(fail_at(r, event->start_mark, "a string holds a NUL byte"));
    }
    *out = text;
done:
    return status;
}

static spar_status read_scalar(reader *r, const yaml_event_t *event, json_t **out) {
    spar_status status = SPAR_OK;
    const char *text = NULL;
    SPAR_TRY(scalar_text(r, event, &text));
    if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        SPAR_TRY(read_plain(r, event->start_mark, text, out));
    } else if ((*out = json_string(text)) == NULL) {
        SPAR_TRY(no_memory(r));
    }
done:
    return status;
}

static spar_status read_node(reader *r, const yaml_event_t *event, int depth, json_t **out);

static spar_status read_sequence(reader *r, int depth, json_t *array) {
    spar_status status = SPAR_OK;
    yaml_event_t event = {0};
    for (;;) {
        json_t *item = NULL;
        yaml_event_delete(&event);
        SPAR_TRY(next_event(r, &event));
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            break;
        }
        SPAR_TRY(read_node(r, &event, depth, &item));
        if (json_array_append_new(array, item) != 0) {
            SPAR_TRY(no_memory(r));
        }
    }
done:
    yaml_event_delete(&event);
    return status;
}

static spar_status read_value(reader *r, int depth, const char *key, json_t *object) {
    spar_status status = SPAR_OK;
    yaml_event_t event = {0};
    json_t *value = NULL;
    SPAR_TRY(next_event(r, &event));
    SPAR_TRY(read_node(r, &event, depth, &value));
    if (json_object_set_new(object, key, value) != 0) {
        SPAR_TRY(no_memory(r));
    }
done:
    yaml_event_delete(&event);
    return status;
}

static spar_status read_key(reader *r, const yaml_event_t *event, const json_t *object,
                            const char **key) {
    spar_status status = SPAR_OK;
    if (event->type != YAML_SCALAR_EVENT) {
        SPAR_TRY(fail_at(r, event->start_mark, "expected a plain key"));
    }
    SPAR_TRY(scalar_text(r, event, key));
    if (json_object_get(object, *key) != NULL) {
        SPAR_TRY(spar_fail(r->err, SPAR_FORMAT, "%s: line %zu, column %zu: duplicate key '%s'",
                           r->where, event->start_mark.line + 1, event->start_mark.column + 1,
                           *key));
    }
done:
    return status;
}

static spar_status read_mapping(reader *r, int depth, json_t *object) {
    spar_status status = SPAR_OK;
    yaml_event_t event = {0};
    for (;;) {
        const char *key = NULL;
        yaml_event_delete(&event);
        SPAR_TRY(next_event(r, &event));
        if (event.type == YAML_MAPPING_END_EVENT) {
            break;
        }
        SPAR_TRY(read_key(r, &event, object, &key));
        SPAR_TRY(read_value(r, depth, key, object));
    }
done:
    yaml_event_delete(&event);
    return status;
}

/* The node that event begins; nodes inside it are read from the parser. */
static spar_status read_node(reader *r, const yaml_event_t *event, int depth, json_t **out) {
    spar_status status = SPAR_OK;
    *out = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        return read_scalar(r, event, out);
    }
    if (event->type == YAML_ALIAS_EVENT) {
        return fail_at(r, event->start_mark, "aliases (*name) are not supported");
    }
    if (depth >= DEPTH_MAX) {
        return fail_at(r, event->start_mark, "nested too deeply");
    }
    const bool is_list = event->type == YAML_SEQUENCE_START_EVENT;
    SPAR_TRY(is_list ? refuse_marks(r, event, event->data.sequence_start.anchor,
                                    event->data.sequence_start.tag)
                     : refuse_marks(r, event, event->data.mapping_start.anchor,
                                    event->data.mapping_start.tag));
    *out = is_list ? json_array() : json_object();
    if (*out == NULL) {
        SPAR_TRY(no_memory(r));
    }
    SPAR_TRY(is_list ? read_sequence(r, depth + 1, *out) : read_mapping(r, depth + 1, *out));
done:
    if (status != SPAR_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

/* The next event, with the stream's and the document's brackets skipped. */
static spar_status next_content(reader *r, yaml_event_t *event) {
    spar_status status = SPAR_OK;
    do {
        yaml_event_delete(event);
        SPAR_TRY(next_event(r, event));
    } while (event->type == YAML_STREAM_START_EVENT || event->type == YAML_DOCUMENT_START_EVENT ||
             event->type == YAML_DOCUMENT_END_EVENT);
done:
    return status;
}

static spar_status read_document(reader *r, json_t **out) {
    spar_status status = SPAR_OK;
    yaml_event_t event = {0};
    SPAR_TRY(next_content(r, &event));
    if (event.type == YAML_STREAM_END_EVENT) {
        *out = json_null();
        goto done;
    }
    SPAR_TRY(read_node(r, &event, 0, out));
    SPAR_TRY(next_content(r, &event));
    if (event.type != YAML_STREAM_END_EVENT) {
        SPAR_TRY(fail_at(r, event.start_mark, "expected one document, found another"));
    }
done:
    yaml_event_delete(&event);
    if (status != SPAR_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}

spar_status sp_yaml_parse(json_t **out, const char *text, size_t n, const char *where,
                          spar_error *err) {
    reader r = {.where = where, .err = err};
    *out = NULL;
    if (!yaml_parser_initialize(&r.parser)) {
        return no_memory(&r);
    }
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    const spar_status status = read_document(&r, out);
    yaml_parser_delete(&r.parser);
    return status;
}

spar_status sp_yaml_load(json_t **out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    SPAR_TRY(sp_file_read(path, LOAD_LIMIT, &text, &n, err));
    SPAR_TRY(sp_yaml_parse(out, text, n, path, err));
done:
    free(text);
    return status;
}
