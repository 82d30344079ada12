#include "base/jsonx.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/str.h"

enum { LOAD_LIMIT = 256 << 20, LONGEST_INT64 = 18 };

static const size_t PARSE_FLAGS = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;

/* Length of the string literal at text[0] == '"', with both quotes. */
static size_t string_length(const char *text, size_t n) {
    size_t i = 1;
    while (i < n && text[i] != '"') {
        i += text[i] == '\\' ? 2 : 1;
    }
    return i < n ? i + 1 : n;
}

static size_t digits_length(const char *text, size_t n) {
    size_t i = 0;
    while (i < n && isdigit((unsigned char)text[i])) {
        i++;
    }
    return i;
}

static bool goes_on_as_real(const char *text, size_t n) {
    return n > 0 && (text[0] == '.' || text[0] == 'e' || text[0] == 'E');
}

/* Copy the text with ".0" after each integer that may not fit in 64 bits, so that it is read as a
 * real: tokenizer configurations spell "no limit" as 10^30. */
static void widen_integers(sp_str *out, const char *text, size_t n) {
    bool in_fraction = false; /* the digits after "." or "e" are no integer */
    for (size_t i = 0; i < n;) {
        size_t length = 1;
        bool widen = false;
        if (text[i] == '"') {
            length = string_length(text + i, n - i);
        } else if (isdigit((unsigned char)text[i])) {
            length = digits_length(text + i, n - i);
            const bool real = in_fraction || goes_on_as_real(text + i + length, n - i - length);
            widen = !real && length > LONGEST_INT64;
        }
        in_fraction = goes_on_as_real(text + i, 1) || (in_fraction && strchr("+-", text[i]));
        sp_str_append(out, text + i, length);
        if (widen) {
            sp_str_puts(out, ".0");
        }
        i += length;
    }
}

static spar_status parse(json_t **out, const char *text, size_t n, size_t flags, const char *where,
                         spar_error *err) {
    spar_status status = SPAR_OK;
    json_error_t error;
    *out = json_loadb(text, n, flags, &error);
    if (*out == NULL && json_error_code(&error) == json_error_numeric_overflow) {
        sp_str wide = SP_STR_INIT;
        widen_integers(&wide, text, n);
        *out = json_loadb(sp_str_get(&wide), wide.len, flags, &error);
        status = sp_str_status(&wide, err);
        sp_str_release(&wide);
    }
    if (*out == NULL && status == SPAR_OK) {
        const bool memory = json_error_code(&error) == json_error_out_of_memory;
        status = spar_fail(err, memory ? SPAR_NO_MEMORY : SPAR_FORMAT,
                           "%s: line %d, column %d: expected JSON, found: %s", where, error.line,
                           error.column, error.text);
    }
    return status;
}

spar_status sp_json_parse(json_t **out, const char *text, size_t n, const char *where,
                          spar_error *err) {
    return parse(out, text, n, PARSE_FLAGS, where, err);
}

spar_status sp_json_parse_row(json_t **out, const char *text, size_t n, const char *where,
                              spar_error *err) {
    return parse(out, text, n, PARSE_FLAGS | JSON_ALLOW_NUL, where, err);
}

spar_status sp_json_load(json_t **out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    SPAR_TRY(sp_file_read(path, LOAD_LIMIT, &text, &n, err));
    SPAR_TRY(sp_json_parse(out, text, n, path, err));
done:
    free(text);
    return status;
}

spar_status sp_json_load_if_there(json_t **out, const char *path, spar_error *err) {
    *out = NULL;
    return sp_file_exists(path) ? sp_json_load(out, path, err) : SPAR_OK;
}

static int add_to_str(const char *bytes, size_t n, void *context) {
    sp_str *text = context;
    sp_str_append(text, bytes, n);
    return text->failed ? -1 : 0;
}

spar_status sp_json_save(const json_t *value, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str text = SP_STR_INIT;
    if (json_dump_callback(value, add_to_str, &text, JSON_INDENT(2) | JSON_ENCODE_ANY) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: cannot encode the JSON value", path));
    }
    sp_str_putc(&text, '\n');
    SPAR_TRY(sp_str_status(&text, err));
    SPAR_TRY(sp_file_write(path, text.data, text.len, err));
done:
    sp_str_release(&text);
    return status;
}

const char *sp_json_type_name(const json_t *value) {
    if (value == NULL) {
        return "nothing";
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "object";
    case JSON_ARRAY:
        return "array";
    case JSON_STRING:
        return "string";
    case JSON_INTEGER:
        return "integer";
    case JSON_REAL:
        return "number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static spar_status wrong_type(const json_t *object, const char *key, const char *expected,
                              const char *where, spar_error *err) {
    if (!json_is_object(object)) {
        return spar_fail(err, SPAR_FORMAT, "%s: expected an object, found %s", where,
                         sp_json_type_name(object));
    }
    return spar_fail(err, SPAR_FORMAT, "%s: %s: expected %s, found %s", where, key, expected,
                     sp_json_type_name(json_object_get(object, key)));
}

/* True when key of object is absent or null, so that a fallback counts. */
static bool is_absent(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_object(object) && (value == NULL || json_is_null(value));
}

spar_status sp_json_get_int(const json_t *object, const char *key, int64_t min, int64_t max,
                            int64_t *out, const char *where, spar_error *err) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) {
        return wrong_type(object, key, "an integer", where, err);
    }
    const json_int_t found = json_integer_value(value);
    if (found < min || found > max) {
        return spar_fail(err, SPAR_FORMAT, "%s: %s: expected %lld..%lld, found %lld", where, key,
                         (long long)min, (long long)max, (long long)found);
    }
    *out = found;
    return SPAR_OK;
}

spar_status sp_json_get_int_or(const json_t *object, const char *key, int64_t min, int64_t max,
                               int64_t fallback, int64_t *out, const char *where, spar_error *err) {
    if (is_absent(object, key)) {
        *out = fallback;
        return SPAR_OK;
    }
    return sp_json_get_int(object, key, min, max, out, where, err);
}

spar_status sp_json_get_number(const json_t *object, const char *key, double *out,
                               const char *where, spar_error *err) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_number(value)) {
        return wrong_type(object, key, "a number", where, err);
    }
    *out = json_number_value(value);
    return SPAR_OK;
}

spar_status sp_json_get_number_or(const json_t *object, const char *key, double fallback,
                                  double *out, const char *where, spar_error *err) {
    if (is_absent(object, key)) {
        *out = fallback;
        return SPAR_OK;
    }
    return sp_json_get_number(object, key, out, where, err);
}

spar_status sp_json_get_bool_or(const json_t *object, const char *key, bool fallback, bool *out,
                                const char *where, spar_error *err) {
    if (is_absent(object, key)) {
        *out = fallback;
        return SPAR_OK;
    }
    const json_t *value = json_object_get(object, key);
    if (!json_is_boolean(value)) {
        return wrong_type(object, key, "true or false", where, err);
    }
    *out = json_is_true(value);
    return SPAR_OK;
}

spar_status sp_json_get_string(const json_t *object, const char *key, const char **out,
                               const char *where, spar_error *err) {
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value)) {
        return wrong_type(object, key, "a string", where, err);
    }
    *out = json_string_value(value);
    return SPAR_OK;
}

spar_status sp_json_get_string_or(const json_t *object, const char *key, const char *fallback,
                                  const char **out, const char *where, spar_error *err) {
    if (is_absent(object, key)) {
        *out = fallback;
        return SPAR_OK;
    }
    return sp_json_get_string(object, key, out, where, err);
}
