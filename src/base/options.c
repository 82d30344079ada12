#include "spar/options.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"

enum { ROWS_MAX = 256, LABEL_MAX = 256, NEAR = 3 };

static void *field_of(const spar_option *row, void *values) {
    return (char *)values + row->offset;
}

static const void *const_field_of(const spar_option *row, const void *values) {
    return (const char *)values + row->offset;
}

static bool has_bounds(const spar_option *row) {
    return row->min < 0 || row->min > 0 || row->max < 0 || row->max > 0;
}

static bool is_within(const spar_option *row, double value) {
    return !has_bounds(row) || (value >= row->min && value <= row->max);
}

/* " in 1..1024", " of at least 1", "" */
static const char *bounds_text(const spar_option *row, char *buffer, size_t n) {
    buffer[0] = '\0';
    if (!has_bounds(row)) {
        return buffer;
    }
    if (isinf(row->max)) {
        snprintf(buffer, n, " of at least %.15g", row->min);
    } else {
        snprintf(buffer, n, " in %.15g..%.15g", row->min, row->max);
    }
    return buffer;
}

static spar_status bad_number(const spar_option *row, const char *label, const char *found,
                              spar_error *err) {
    char bounds[80];
    return spar_fail(err, SPAR_INVALID, "%s: expected %s%s, found %s", label,
                     row->type == SPAR_OPTION_INT ? "an integer" : "a number",
                     bounds_text(row, bounds, sizeof bounds), found);
}

static spar_status bad_number_text(const spar_option *row, const char *label, const char *text,
                                   spar_error *err) {
    char quoted[LABEL_MAX];
    snprintf(quoted, sizeof quoted, "'%s'", text);
    return bad_number(row, label, quoted, err);
}

static spar_status set_int(const spar_option *row, void *field, const char *label, const char *text,
                           spar_error *err) {
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno == ERANGE || !is_within(row, (double)value)) {
        return bad_number_text(row, label, text, err);
    }
    *(int64_t *)field = value;
    return SPAR_OK;
}

static spar_status set_number(const spar_option *row, void *field, const char *label,
                              const char *text, spar_error *err) {
    char *end = NULL;
    const double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || !is_within(row, value)) {
        return bad_number_text(row, label, text, err);
    }
    *(double *)field = value;
    return SPAR_OK;
}

static spar_status set_choice(const spar_option *row, void *field, const char *label,
                              const char *text, spar_error *err) {
    const size_t n = strlen(text);
    const char *choice = row->choices;
    for (int i = 0; choice != NULL; i++) {
        const char *bar = strchr(choice, '|');
        const size_t length = bar != NULL ? (size_t)(bar - choice) : strlen(choice);
        if (length == n && memcmp(choice, text, n) == 0) {
            *(int *)field = i;
            return SPAR_OK;
        }
        choice = bar != NULL ? bar + 1 : NULL;
    }
    return spar_fail(err, SPAR_INVALID, "%s: expected %s, found '%s'", label, row->choices, text);
}

static spar_status add_item(spar_option_list *list, const char *label, const char *item,
                            spar_error *err) {
    if (list->n >= SPAR_OPTION_LIST_MAX) {
        return spar_fail(err, SPAR_INVALID, "%s: expected at most %d values, found more", label,
                         SPAR_OPTION_LIST_MAX);
    }
    list->items[list->n++] = item;
    return SPAR_OK;
}

/* The commas of text become NULs: the items point into it. */
static spar_status add_items(spar_option_list *list, const char *label, char *text,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    while (text != NULL) {
        char *comma = strchr(text, ',');
        if (comma != NULL) {
            *comma = '\0';
        }
        if (text[0] != '\0') {
            SPAR_TRY(add_item(list, label, text, err));
        }
        text = comma != NULL ? comma + 1 : NULL;
    }
done:
    return status;
}

static spar_status set_flag(void *field, const char *label, const char *text, spar_error *err) {
    const bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0) {
        return spar_fail(err, SPAR_INVALID, "%s: expected true or false, found '%s'", label, text);
    }
    *(bool *)field = yes;
    return SPAR_OK;
}

/* Every type but LIST, whose text must be writable. */
static spar_status set_text(const spar_option *row, void *values, const char *label,
                            const char *text, spar_error *err) {
    void *field = field_of(row, values);
    switch (row->type) {
    case SPAR_OPTION_FLAG:
        return set_flag(field, label, text, err);
    case SPAR_OPTION_INT:
        return set_int(row, field, label, text, err);
    case SPAR_OPTION_NUMBER:
        return set_number(row, field, label, text, err);
    case SPAR_OPTION_STRING:
        *(const char **)field = text;
        return SPAR_OK;
    case SPAR_OPTION_CHOICE:
        return set_choice(row, field, label, text, err);
    case SPAR_OPTION_LIST:
        break;
    }
    return spar_fail(err, SPAR_INTERNAL, "%s: unknown option type", label);
}

static spar_status set_default(const spar_option *row, void *values, spar_error *err) {
    if (row->type != SPAR_OPTION_LIST) {
        return set_text(row, values, row->name, row->fallback, err);
    }
    spar_option_list *list = field_of(row, values);
    if (strchr(row->fallback, ',') != NULL) {
        return spar_fail(err, SPAR_INTERNAL, "%s: a list's default is one item", row->name);
    }
    list->n = 0;
    return row->fallback[0] != '\0' ? add_item(list, row->name, row->fallback, err) : SPAR_OK;
}

/* A row without default leaves nothing of what the struct's memory held before. */
static void clear_field(const spar_option *row, void *values) {
    static const size_t bytes[] = {
        [SPAR_OPTION_FLAG] = sizeof(bool),     [SPAR_OPTION_INT] = sizeof(int64_t),
        [SPAR_OPTION_NUMBER] = sizeof(double), [SPAR_OPTION_STRING] = sizeof(const char *),
        [SPAR_OPTION_CHOICE] = sizeof(int),    [SPAR_OPTION_LIST] = sizeof(spar_option_list)};
    memset((char *)values + row->offset, 0, bytes[row->type]);
}

spar_status spar_options_default(const spar_option *table, void *values, spar_error *err) {
    spar_status status = SPAR_OK;
    for (const spar_option *row = table; row->name != NULL; row++) {
        if (row->fallback != NULL) {
            SPAR_TRY(set_default(row, values, err));
        } else {
            clear_field(row, values);
        }
    }
done:
    return status;
}

/* The name as a recipe spells it: '_' for '-'. */
static const char *recipe_name(const char *name, char *buffer) {
    snprintf(buffer, LABEL_MAX, "%s", name);
    for (char *p = buffer; *p != '\0'; p++) {
        *p = *p == '-' ? '_' : *p;
    }
    return buffer;
}

/* The known name nearest to name, or NULL when none is near. */
static const spar_option *nearest(const spar_option *table, const char *name, bool in_recipe) {
    const spar_option *best = NULL;
    size_t least = NEAR + 1;
    const size_t length = strlen(name);
    for (const spar_option *row = table; row->name != NULL; row++) {
        char buffer[LABEL_MAX];
        const char *known = in_recipe ? recipe_name(row->name, buffer) : row->name;
        const size_t distance = sp_str_distance(name, known);
        if (distance < least && distance < length) {
            least = distance;
            best = row;
        }
    }
    return best;
}

static const spar_option *find_name(const spar_option *table, const char *name, size_t n) {
    for (const spar_option *row = table; row->name != NULL; row++) {
        if (strlen(row->name) == n && memcmp(row->name, name, n) == 0) {
            return row;
        }
    }
    return NULL;
}

static const spar_option *find_letter(const spar_option *table, char letter) {
    for (const spar_option *row = table; row->name != NULL; row++) {
        if (row->letter != 0 && row->letter == letter) {
            return row;
        }
    }
    return NULL;
}

/* A walk over argv. seen marks the rows given so far: the first value of a list replaces what the
 * defaults or a recipe put there, later ones add to it. */
typedef struct walk {
    const spar_option *table;
    void *values;
    int argc, next;
    char **argv;
    bool seen[ROWS_MAX];
    spar_error *err;
} walk;

static spar_status set_value(walk *w, const spar_option *row, const char *label, char *text) {
    const size_t index = (size_t)(row - w->table);
    if (index >= ROWS_MAX) {
        return spar_fail(w->err, SPAR_INTERNAL, "%s: more than %d options", label, ROWS_MAX);
    }
    const char *what = row->argument ? row->argument : "a value";
    if (text[0] == '\0' && row->type == SPAR_OPTION_STRING && strcmp(what, "TEXT") != 0) {
        return spar_fail(w->err, SPAR_INVALID, "%s: expected %s, found an empty text", label, what);
    }
    if (row->type != SPAR_OPTION_LIST) {
        return set_text(row, w->values, label, text, w->err);
    }
    spar_option_list *list = field_of(row, w->values);
    if (!w->seen[index]) {
        list->n = 0;
    }
    w->seen[index] = true;
    return add_items(list, label, text, w->err);
}

static spar_status take_value(walk *w, const spar_option *row, const char *label, char *attached) {
    if (attached == NULL && w->next >= w->argc) {
        return spar_fail(w->err, SPAR_INVALID, "%s: expected a value, found none", label);
    }
    return set_value(w, row, label, attached != NULL ? attached : w->argv[w->next++]);
}

static spar_status unknown_long(walk *w, const char *label) {
    const char *name = label + 2;
    const spar_option *near_row = nearest(w->table, name, false);
    if (near_row == NULL) {
        return spar_fail(w->err, SPAR_INVALID, "unknown option %s", label);
    }
    return spar_fail(w->err, SPAR_INVALID, "unknown option %s; did you mean --%s?", label,
                     near_row->name);
}

static spar_status parse_long(walk *w, char *argument) {
    char *name = argument + 2;
    char *value = strchr(name, '=');
    const size_t n = value != NULL ? (size_t)(value - name) : strlen(name);
    char label[LABEL_MAX];
    snprintf(label, sizeof label, "--%.*s", n < LABEL_MAX ? (int)n : LABEL_MAX, name);
    const spar_option *row = find_name(w->table, name, n);
    bool yes = true;
    if (row == NULL && n > 3 && memcmp(name, "no-", 3) == 0) {
        row = find_name(w->table, name + 3, n - 3);
        row = row != NULL && row->type == SPAR_OPTION_FLAG ? row : NULL;
        yes = false;
    }
    if (row == NULL) {
        return unknown_long(w, label);
    }
    if (row->type != SPAR_OPTION_FLAG) {
        return take_value(w, row, label, value != NULL ? value + 1 : NULL);
    }
    if (value != NULL) {
        return spar_fail(w->err, SPAR_INVALID, "%s: expected no value, found '%s'", label,
                         value + 1);
    }
    *(bool *)field_of(row, w->values) = yes;
    return SPAR_OK;
}

/* "-x V", "-xV", and flags together: "-abx V". */
static spar_status parse_short(walk *w, char *argument) {
    for (char *p = argument + 1; *p != '\0'; p++) {
        const char label[3] = {'-', *p, '\0'};
        const spar_option *row = find_letter(w->table, *p);
        if (row == NULL) {
            return spar_fail(w->err, SPAR_INVALID, "unknown option %s", label);
        }
        if (row->type != SPAR_OPTION_FLAG) {
            return take_value(w, row, label, p[1] != '\0' ? p + 1 : NULL);
        }
        *(bool *)field_of(row, w->values) = true;
    }
    return SPAR_OK;
}

spar_status spar_options_parse(const spar_option *table, void *values, int argc, char **argv,
                               int *n_operands, spar_error *err) {
    spar_status status = SPAR_OK;
    walk w = {.table = table, .values = values, .argc = argc, .argv = argv, .err = err};
    bool only_operands = false;
    *n_operands = 0;
    while (w.next < argc) {
        char *argument = argv[w.next++];
        if (only_operands || argument[0] != '-' || argument[1] == '\0') {
            argv[(*n_operands)++] = argument;
        } else if (strcmp(argument, "--") == 0) {
            only_operands = true;
        } else if (argument[1] == '-') {
            SPAR_TRY(parse_long(&w, argument));
        } else {
            SPAR_TRY(parse_short(&w, argument));
        }
    }
done:
    return status;
}

static spar_status wrong_json(const char *label, const char *expected, const json_t *value,
                              spar_error *err) {
    return spar_fail(err, SPAR_INVALID, "%s: expected %s, found %s", label, expected,
                     sp_json_type_name(value));
}

static spar_status json_int(const spar_option *row, void *field, const char *label,
                            const json_t *value, spar_error *err) {
    char found[48];
    if (!json_is_integer(value)) {
        return bad_number(row, label, sp_json_type_name(value), err);
    }
    const json_int_t number = json_integer_value(value);
    if (!is_within(row, (double)number)) {
        snprintf(found, sizeof found, "%lld", (long long)number);
        return bad_number(row, label, found, err);
    }
    *(int64_t *)field = number;
    return SPAR_OK;
}

static spar_status json_number(const spar_option *row, void *field, const char *label,
                               const json_t *value, spar_error *err) {
    char found[48];
    if (!json_is_number(value)) {
        return bad_number(row, label, sp_json_type_name(value), err);
    }
    const double number = json_number_value(value);
    if (!is_within(row, number)) {
        snprintf(found, sizeof found, "%.15g", number);
        return bad_number(row, label, found, err);
    }
    *(double *)field = number;
    return SPAR_OK;
}

/* null stands for "none": that is how a string that is not set is written down. One with a default
 * is always set, and its readers count on it. */
static spar_status json_text(const spar_option *row, void *field, const char *label,
                             const json_t *value, spar_error *err) {
    if (!json_is_string(value) && !(json_is_null(value) && row->fallback == NULL)) {
        return wrong_json(label, "a string", value, err);
    }
    *(const char **)field = json_string_value(value);
    return SPAR_OK;
}

static spar_status json_choice(const spar_option *row, void *field, const char *label,
                               const json_t *value, spar_error *err) {
    if (!json_is_string(value)) {
        return wrong_json(label, row->choices, value, err);
    }
    return set_choice(row, field, label, json_string_value(value), err);
}

static spar_status json_list(spar_option_list *list, const char *label, const json_t *value,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    list->n = 0;
    if (json_is_string(value)) {
        return add_item(list, label, json_string_value(value), err);
    }
    if (!json_is_array(value)) {
        return wrong_json(label, "a list of strings", value, err);
    }
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        if (!json_is_string(item)) {
            SPAR_TRY(wrong_json(label, "a list of strings", item, err));
        }
        SPAR_TRY(add_item(list, label, json_string_value(item), err));
    }
done:
    return status;
}

static spar_status set_json(const spar_option *row, void *values, const char *label,
                            const json_t *value, spar_error *err) {
    void *field = field_of(row, values);
    switch (row->type) {
    case SPAR_OPTION_FLAG:
        if (!json_is_boolean(value)) {
            return wrong_json(label, "true or false", value, err);
        }
        *(bool *)field = json_is_true(value);
        return SPAR_OK;
    case SPAR_OPTION_INT:
        return json_int(row, field, label, value, err);
    case SPAR_OPTION_NUMBER:
        return json_number(row, field, label, value, err);
    case SPAR_OPTION_STRING:
        return json_text(row, field, label, value, err);
    case SPAR_OPTION_CHOICE:
        return json_choice(row, field, label, value, err);
    case SPAR_OPTION_LIST:
        return json_list(field, label, value, err);
    }
    return spar_fail(err, SPAR_INTERNAL, "%s: unknown option type", label);
}

static const spar_option *find_key(const spar_option *table, const char *key) {
    char buffer[LABEL_MAX];
    for (const spar_option *row = table; row->name != NULL; row++) {
        if (strcmp(recipe_name(row->name, buffer), key) == 0) {
            return row;
        }
    }
    return NULL;
}

static spar_status unknown_key(const spar_option *table, const char *key, const char *where,
                               spar_error *err) {
    char buffer[LABEL_MAX];
    const spar_option *near_row = nearest(table, key, true);
    if (near_row == NULL) {
        return spar_fail(err, SPAR_INVALID, "%s: unknown key '%s'", where, key);
    }
    return spar_fail(err, SPAR_INVALID, "%s: unknown key '%s'; did you mean '%s'?", where, key,
                     recipe_name(near_row->name, buffer));
}

spar_status spar_options_from_json(const spar_option *table, void *values,
                                   const struct json_t *object, const char *where,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    if (!json_is_object(object)) {
        return wrong_json(where, "an object", object, err);
    }
    /* jansson has iterators for writing only; nothing is written through this one. */
    json_t *walked = (json_t *)(uintptr_t)object;
    for (void *at = json_object_iter(walked); at != NULL; at = json_object_iter_next(walked, at)) {
        const char *key = json_object_iter_key(at);
        const spar_option *row = find_key(table, key);
        if (row == NULL) {
            status = unknown_key(table, key, where, err);
            goto done;
        }
        char label[LABEL_MAX];
        snprintf(label, sizeof label, "%s: %s", where, key);
        SPAR_TRY(set_json(row, values, label, json_object_iter_value(at), err));
    }
done:
    return status;
}

static json_t *choice_to_json(const spar_option *row, int index) {
    const char *choice = row->choices;
    for (int i = 0; i < index && choice != NULL; i++) {
        const char *bar = strchr(choice, '|');
        choice = bar != NULL ? bar + 1 : NULL;
    }
    return choice != NULL ? json_stringn(choice, strcspn(choice, "|")) : json_null();
}

static json_t *list_to_json(const spar_option_list *list) {
    json_t *array = json_array();
    for (int i = 0; i < list->n; i++) {
        if (json_array_append_new(array, json_string(list->items[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *field_to_json(const spar_option *row, const void *values) {
    const void *field = const_field_of(row, values);
    switch (row->type) {
    case SPAR_OPTION_FLAG:
        return json_boolean(*(const bool *)field);
    case SPAR_OPTION_INT:
        return json_integer(*(const int64_t *)field);
    case SPAR_OPTION_NUMBER:
        return isfinite(*(const double *)field) ? json_real(*(const double *)field) : json_null();
    case SPAR_OPTION_STRING: {
        const char *text = *(const char *const *)field;
        return text != NULL ? json_string(text) : json_null();
    }
    case SPAR_OPTION_CHOICE:
        return choice_to_json(row, *(const int *)field);
    case SPAR_OPTION_LIST:
        return list_to_json(field);
    }
    return NULL;
}

struct json_t *spar_options_to_json(const spar_option *table, const void *values) {
    json_t *object = json_object();
    for (const spar_option *row = table; row->name != NULL; row++) {
        char name[LABEL_MAX];
        if (json_object_set_new(object, recipe_name(row->name, name), field_to_json(row, values)) !=
            0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

size_t spar_name_distance(const char *a, const char *b) {
    return sp_str_distance(a, b);
}
