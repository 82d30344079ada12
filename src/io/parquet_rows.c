/* Rows of a Parquet file as JSON: the columns' values put together by their levels. What has no
 * form in JSON (INT96, binary that is no UTF-8, NaN) is null; a map is a list of {key, value}. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/parquet.h"
#include "io/row_format.h"

/* What a value takes in memory at least, and what all values of a file may take without a ratio. */
enum { VALUE_COST = 64, FILE_FREE = 1 << 30 };

typedef struct parquet_rows {
    const char *file; /* borrowed */
    sp_map map;
    sp_parquet_meta meta;
    sp_parquet_column *columns; /* owned: a leaf each, of the group being read */
    size_t group;               /* groups opened so far */
    int64_t group_left, row;    /* rows left in it, and the number of the last one */
    uint64_t row_cost, cost;    /* of the row being read, and of the file so far */
} parquet_rows;

static void close_group(parquet_rows *p) {
    for (size_t i = 0; i < p->meta.n_leaves; i++) {
        sp_parquet_column_release(&p->columns[i]);
    }
}

static void parquet_close(void *state) {
    parquet_rows *p = state;
    if (p) {
        if (p->columns) {
            close_group(p);
        }
        free(p->columns);
        sp_parquet_meta_release(&p->meta);
        sp_map_close(&p->map);
    }
    free(p);
}

static spar_status parquet_open(void **state, sp_byte_stream *bytes, spar_error *err) {
    spar_status status = SPAR_OK;
    parquet_rows *p = NULL;
    void *memory;
    if (bytes->packed != NULL || bytes->fd == STDIN_FILENO) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: expected Parquet in a file as it is, found it %s", bytes->name,
                           bytes->packed ? "compressed as a whole" : "in a pipe"));
    }
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *p, err));
    p = memory;
    p->file = bytes->name;
    SPAR_TRY(sp_map_open(&p->map, bytes->name, err));
    SPAR_TRY(sp_parquet_meta_read(&p->meta, &p->map, p->file, err));
    SPAR_TRY(sp_mem_calloc(&memory, p->meta.n_leaves, sizeof *p->columns, err));
    p->columns = memory;
    *state = p;
    p = NULL;
done:
    parquet_close(p);
    return status;
}

static void parquet_where(const void *state, sp_str *out) {
    const parquet_rows *p = state;
    sp_str_printf(out, "%s: row %lld", p->file, (long long)p->row);
}

/* ---- columns ---- */

/* Append the path of a leaf, as in messages.list.element.role. */
static void put_path(const parquet_rows *p, size_t leaf, sp_str *out) {
    for (size_t i = 1; i < p->meta.n_nodes; i++) {
        const sp_parquet_node *node = &p->meta.nodes[i];
        if (leaf >= node->leaf && leaf < node->end_leaf) {
            sp_str_printf(out, "%s%.40s", out->len > 0 ? "." : "", node->name);
        }
    }
}

/* Add to a message which row and column it is about. */
static spar_status at_column(const parquet_rows *p, size_t leaf, spar_status status,
                             spar_error *err) {
    if (status != SPAR_OK) {
        sp_str where = SP_STR_INIT;
        put_path(p, leaf, &where);
        spar_error_context(err, "%s: row %lld: column %s, row group %zu", p->file,
                           (long long)p->row, sp_str_get(&where), p->group);
        sp_str_release(&where);
    }
    return status;
}

static spar_status levels_differ(const parquet_rows *p, size_t leaf, spar_error *err) {
    const sp_parquet_column *c = &p->columns[leaf];
    spar_fail(err, SPAR_FORMAT, "page %d: expected levels as the other columns have them, found %s",
              c->page, c->at_end ? "no further value" : "others");
    return at_column(p, leaf, SPAR_FORMAT, err);
}

/* The next value of a leaf begins or goes on as its parent does: at rep. */
static spar_status peek(parquet_rows *p, size_t leaf, int rep, spar_error *err) {
    sp_parquet_column *c = &p->columns[leaf];
    const spar_status status = sp_parquet_column_peek(c, err);
    if (status != SPAR_OK) {
        return at_column(p, leaf, status, err);
    }
    return c->at_end || c->rep != (uint32_t)rep ? levels_differ(p, leaf, err) : SPAR_OK;
}

/* Bounds on what one row and all of them may make of the file. */
static spar_status pay(parquet_rows *p, size_t leaf, size_t n, spar_error *err) {
    p->row_cost += VALUE_COST + n;
    p->cost += VALUE_COST + n;
    if (p->row_cost > SP_ROW_LIMIT ||
        (p->cost > FILE_FREE && p->cost / SP_EXPAND_RATIO > p->map.size)) {
        spar_fail(err, SPAR_LIMIT, "expected values of at most %s, found more",
                  p->row_cost > SP_ROW_LIMIT ? "64 MiB a row" : "1000 times the file's size");
        return at_column(p, leaf, SPAR_LIMIT, err);
    }
    return SPAR_OK;
}

/* Step over a node that is not there: one value of each of its leaves, whose def is below. */
static spar_status skip_absent(parquet_rows *p, const sp_parquet_node *node, int rep,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    sp_parquet_value ignored;
    for (size_t i = node->leaf; i < node->end_leaf; i++) {
        SPAR_TRY(peek(p, i, rep, err));
        if (p->columns[i].def >= (uint32_t)node->def) {
            SPAR_TRY(levels_differ(p, i, err));
        }
        SPAR_TRY(pay(p, i, 0, err));
        SPAR_TRY(at_column(p, i, sp_parquet_column_take(&p->columns[i], &ignored, err), err));
    }
done:
    return status;
}

/* ---- values ---- */

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *whole(const sp_parquet_node *leaf, int64_t value) {
    if (leaf->scale > 0) {
        return number((double)value / pow(10, leaf->scale));
    }
    return json_integer(value);
}

static json_t *to_json(const sp_parquet_node *leaf, const sp_parquet_value *v) {
    const uint32_t low = (uint32_t)v->bits;
    float single;
    double wide;
    json_t *text;
    switch (leaf->type) {
    case SP_PARQUET_BOOLEAN:
        return json_boolean(v->bits != 0);
    case SP_PARQUET_INT32:
        return leaf->is_unsigned ? json_integer(low) : whole(leaf, (int32_t)low);
    case SP_PARQUET_INT64:
        return leaf->is_unsigned && v->bits > INT64_MAX ? json_real((double)v->bits)
                                                        : whole(leaf, (int64_t)v->bits);
    case SP_PARQUET_FLOAT:
        memcpy(&single, &low, sizeof single);
        return number((double)single);
    case SP_PARQUET_DOUBLE:
        memcpy(&wide, &v->bits, sizeof wide);
        return number(wide);
    case SP_PARQUET_BYTES:
        text = json_stringn((const char *)v->bytes, v->n);
        return text != NULL || leaf->is_text ? text : json_null();
    default:
        return json_null();
    }
}

static spar_status read_leaf(parquet_rows *p, const sp_parquet_node *node, int rep, json_t **out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    sp_parquet_column *c = &p->columns[node->leaf];
    sp_parquet_value value;
    SPAR_TRY(peek(p, node->leaf, rep, err));
    if (c->def != (uint32_t)node->def) {
        SPAR_TRY(levels_differ(p, node->leaf, err));
    }
    SPAR_TRY(at_column(p, node->leaf, sp_parquet_column_take(c, &value, err), err));
    SPAR_TRY(pay(p, node->leaf, value.n, err));
    *out = to_json(node, &value);
    if (*out == NULL) {
        spar_fail(err, SPAR_FORMAT, "page %d: expected UTF-8, found other bytes", c->page);
        SPAR_TRY(at_column(p, node->leaf, SPAR_FORMAT, err));
    }
done:
    return status;
}

static spar_status no_memory(const parquet_rows *p, spar_error *err) {
    return spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory for a row", p->file);
}

static spar_status read_field(parquet_rows *p, size_t i, int rep, json_t **out, spar_error *err);
static spar_status read_present(parquet_rows *p, size_t i, int rep, json_t **out, spar_error *err);

/* The elements of the repeated node i, which are its one child, or the node itself where it is no
 * mere wrapper (the format's "backward-compatibility rules" of lists). */
static spar_status read_list(parquet_rows *p, size_t i, bool wraps, int rep, json_t **out,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_parquet_node *node = &p->meta.nodes[i];
    sp_parquet_column *first = &p->columns[node->leaf];
    json_t *list = json_array(), *element = NULL;
    bool more = true;
    if (list == NULL) {
        SPAR_TRY(no_memory(p, err));
    }
    SPAR_TRY(peek(p, node->leaf, rep, err));
    if (first->def < (uint32_t)node->def) {
        SPAR_TRY(skip_absent(p, node, rep, err));
        more = false;
    }
    while (more) {
        SPAR_TRY(wraps ? read_field(p, i + 1, rep, &element, err)
                       : read_present(p, i, rep, &element, err));
        SPAR_TRY(json_array_append_new(list, element) == 0 ? SPAR_OK : no_memory(p, err));
        SPAR_TRY(at_column(p, node->leaf, sp_parquet_column_peek(first, err), err));
        rep = node->rep;
        more = !first->at_end && first->rep == (uint32_t)rep;
    }
    *out = list;
    list = NULL;
done:
    json_decref(list);
    return status;
}

static spar_status read_struct(parquet_rows *p, size_t i, int rep, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_parquet_node *nodes = p->meta.nodes;
    json_t *object = json_object(), *value = NULL;
    if (object == NULL) {
        SPAR_TRY(no_memory(p, err));
    }
    for (size_t k = i + 1; k < nodes[i].next; k = nodes[k].next) {
        SPAR_TRY(read_field(p, k, rep, &value, err));
        if (json_object_set_new(object, nodes[k].name, value) != 0) {
            SPAR_TRY(
                spar_fail(err, SPAR_FORMAT, "%s: expected columns with names of UTF-8", p->file));
        }
    }
    *out = object;
    object = NULL;
done:
    json_decref(object);
    return status;
}

/* Whether the repeated child of a list is there only to hold the element. */
static bool is_wrapper(const sp_parquet_node *list, const sp_parquet_node *child) {
    const char *name = child->name;
    const size_t n = strlen(name), prefix = strlen(list->name);
    return child->type == SP_PARQUET_GROUP && child->n_children == 1 &&
           strcmp(name, "array") != 0 &&
           !(n == prefix + 6 && strncmp(name, list->name, prefix) == 0 &&
             strcmp(name + prefix, "_tuple") == 0);
}

/* Node i where it is there, whatever its repetition. */
static spar_status read_present(parquet_rows *p, size_t i, int rep, json_t **out, spar_error *err) {
    const sp_parquet_node *node = &p->meta.nodes[i], *child = node + 1;
    if (node->type != SP_PARQUET_GROUP) {
        return read_leaf(p, node, rep, out, err);
    }
    if (node->is_list && node->n_children == 1 && child->repetition == SP_PARQUET_REPEATED) {
        return read_list(p, i + 1, is_wrapper(node, child), rep, out, err);
    }
    return read_struct(p, i, rep, out, err);
}

static spar_status read_field(parquet_rows *p, size_t i, int rep, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_parquet_node *node = &p->meta.nodes[i];
    if (node->repetition == SP_PARQUET_REPEATED) {
        return read_list(p, i, false, rep, out, err);
    }
    if (node->repetition == SP_PARQUET_OPTIONAL) {
        SPAR_TRY(peek(p, node->leaf, rep, err));
        if (p->columns[node->leaf].def < (uint32_t)node->def) {
            SPAR_TRY(skip_absent(p, node, rep, err));
            *out = json_null();
            goto done;
        }
    }
    SPAR_TRY(read_present(p, i, rep, out, err));
done:
    return status;
}

/* ---- rows ---- */

static void open_group(parquet_rows *p) {
    const size_t n = p->meta.n_leaves;
    close_group(p);
    for (size_t i = 0; i < p->meta.n_nodes; i++) {
        const sp_parquet_node *node = &p->meta.nodes[i];
        if (node->type != SP_PARQUET_GROUP) {
            sp_parquet_column_init(&p->columns[node->leaf], node,
                                   &p->meta.chunks[p->group * n + node->leaf], &p->map);
        }
    }
    p->group_left = p->meta.group_rows[p->group++];
}

static spar_status parquet_next(void *state, json_t **row, bool *goes_on, spar_error *err) {
    parquet_rows *p = state;
    *goes_on = false; /* the columns may stand at different rows */
    while (p->group_left == 0) {
        if (p->group == p->meta.n_groups) {
            return SPAR_OK;
        }
        open_group(p);
    }
    p->group_left--;
    p->row++;
    p->row_cost = 0;
    return read_struct(p, 0, 0, row, err);
}

const sp_row_format sp_parquet_rows = {parquet_open, parquet_next, parquet_where, parquet_close};
