/* The footer of a Parquet file: its schema and where its chunks are. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "io/parquet.h"
#include "io/thrift.h"

/* ENCRYPTION: the field of a footer that is readable where columns are not. */
enum { MAGIC = 4, TAIL = 8, ENCRYPTION = 8, DEEPEST = 32, MOST_LEAVES = 10000 };
/* Converted types of the schema, and members of its logical type, that change what a value is. */
enum { TEXT = 0, LIST = 3, ENUM = 4, UINT_8 = 11, UINT_64 = 14, JSON = 19 };
enum {
    LOGICAL_TEXT = 1,
    LOGICAL_LIST = 3,
    LOGICAL_ENUM = 4,
    LOGICAL_INTEGER = 10,
    LOGICAL_JSON = 12
};

static void read_logical_integer(sp_thrift *t, sp_parquet_node *node) {
    int id = 0, type;
    while (sp_thrift_field(t, &id, &type)) {
        if (id == 2) {
            node->is_unsigned = type == SP_THRIFT_FALSE;
        }
        sp_thrift_skip(t, type);
    }
}

static void read_logical(sp_thrift *t, sp_parquet_node *node) {
    int id = 0, type;
    while (sp_thrift_field(t, &id, &type)) {
        node->is_list = node->is_list || id == LOGICAL_LIST;
        node->is_text =
            node->is_text || id == LOGICAL_TEXT || id == LOGICAL_ENUM || id == LOGICAL_JSON;
        if (id == LOGICAL_INTEGER && type == SP_THRIFT_STRUCT) {
            read_logical_integer(t, node);
        } else {
            sp_thrift_skip(t, type);
        }
    }
}

static void set_converted(sp_parquet_node *node, int64_t converted) {
    node->is_list = node->is_list || converted == LIST;
    node->is_text = node->is_text || converted == TEXT || converted == ENUM || converted == JSON;
    node->is_unsigned = node->is_unsigned || (converted >= UINT_8 && converted <= UINT_64);
}

/* One element of the schema. Numbers out of range fail. */
static spar_status read_node(sp_thrift *t, sp_parquet_node *node, spar_error *err) {
    spar_status status = SPAR_OK;
    int id = 0, type;
    size_t n;
    node->type = SP_PARQUET_GROUP;
    while (sp_thrift_field(t, &id, &type)) {
        if (id == 4 && type == SP_THRIFT_BINARY && !node->name) {
            const char *name = (const char *)sp_thrift_bytes(t, &n);
            SPAR_TRY(sp_mem_strdup(&node->name, name, n, err));
            continue;
        }
        if (id == 10 && type == SP_THRIFT_STRUCT) {
            read_logical(t, node);
            continue;
        }
        if (id == 4 || id > 7) {
            sp_thrift_skip(t, type);
            continue;
        }
        const int64_t value = sp_thrift_int(t);
        t->failed = t->failed || value < 0 || value > INT32_MAX ||
                    (id == 1 && value >= SP_PARQUET_GROUP) || (id == 3 && value > 2);
        const size_t size = t->failed ? 0 : (size_t)value;
        node->type = id == 1 ? (sp_parquet_type)size : node->type;
        node->width = id == 2 ? size : node->width;
        node->repetition = id == 3 ? (sp_parquet_repetition)size : node->repetition;
        node->n_children = id == 5 ? size : node->n_children;
        node->scale = id == 7 ? (int)size : node->scale;
        if (id == 6) {
            set_converted(node, value);
        }
    }
    t->failed = t->failed || (node->n_children > 0) != (node->type == SP_PARQUET_GROUP);
    if (!node->name) {
        SPAR_TRY(sp_mem_strdup(&node->name, "", 0, err));
    }
done:
    return status;
}

static spar_status read_schema(sp_thrift *t, sp_parquet_meta *m, spar_error *err) {
    spar_status status = SPAR_OK;
    int type;
    for (size_t n = sp_thrift_list(t, &type); n > 0 && !t->failed; n--) {
        void *nodes = m->nodes;
        SPAR_TRY(sp_mem_grow(&nodes, &m->node_capacity, m->n_nodes + 1, sizeof *m->nodes, err));
        m->nodes = nodes;
        m->nodes[m->n_nodes] = (sp_parquet_node){0};
        SPAR_TRY(read_node(t, &m->nodes[m->n_nodes++], err));
    }
done:
    return status;
}

/* Levels, leaves and ends of the subtree at node i, which is there at def and rep without its own
 * repetition. False: the tree is not whole or too deep. */
static bool link_nodes(sp_parquet_meta *m, size_t i, int def, int rep, int depth) {
    if (i >= m->n_nodes || depth > DEEPEST) {
        return false;
    }
    sp_parquet_node *node = &m->nodes[i];
    node->def = def + (depth > 0 && node->repetition != SP_PARQUET_REQUIRED);
    node->rep = rep + (depth > 0 && node->repetition == SP_PARQUET_REPEATED);
    node->leaf = m->n_leaves;
    m->n_leaves += node->type != SP_PARQUET_GROUP;
    size_t at = i + 1;
    for (size_t k = 0; k < node->n_children; k++) {
        if (!link_nodes(m, at, node->def, node->rep, depth + 1)) {
            return false;
        }
        at = m->nodes[at].next;
    }
    node->next = at;
    node->end_leaf = m->n_leaves;
    return true;
}

/* ---- row groups ---- */

static void read_column_meta(sp_thrift *t, sp_parquet_chunk *chunk) {
    int id = 0, type;
    int64_t data = 0, dictionary = 0, size = 0;
    while (sp_thrift_field(t, &id, &type)) {
        if (id == 4 || id == 5 || id == 7 || id == 9 || id == 11) {
            const int64_t value = sp_thrift_int(t);
            t->failed = t->failed || value < 0 || (id == 4 && value > INT32_MAX);
            chunk->codec = id == 4 ? (int)value : chunk->codec;
            chunk->n_values = id == 5 ? value : chunk->n_values;
            size = id == 7 ? value : size;
            data = id == 9 ? value : data;
            dictionary = id == 11 ? value : dictionary;
        } else {
            sp_thrift_skip(t, type);
        }
    }
    chunk->offset = (uint64_t)(dictionary > 0 && dictionary < data ? dictionary : data);
    chunk->size = (uint64_t)size;
}

static spar_status read_chunk(sp_thrift *t, sp_parquet_meta *m, spar_error *err) {
    spar_status status = SPAR_OK;
    int id = 0, type;
    void *chunks = m->chunks;
    SPAR_TRY(sp_mem_grow(&chunks, &m->chunk_capacity, m->n_chunks + 1, sizeof *m->chunks, err));
    m->chunks = chunks;
    sp_parquet_chunk *chunk = &m->chunks[m->n_chunks++];
    *chunk = (sp_parquet_chunk){0};
    while (sp_thrift_field(t, &id, &type)) {
        if (id == 1) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                               "expected columns within the file, found one in another"));
        }
        if (id == 3 && type == SP_THRIFT_STRUCT) {
            read_column_meta(t, chunk);
        } else {
            sp_thrift_skip(t, type);
        }
    }
done:
    return status;
}

static spar_status read_group(sp_thrift *t, sp_parquet_meta *m, spar_error *err) {
    spar_status status = SPAR_OK;
    int id = 0, type, element;
    void *rows = m->group_rows;
    SPAR_TRY(sp_mem_grow(&rows, &m->group_capacity, m->n_groups + 1, sizeof *m->group_rows, err));
    m->group_rows = rows;
    m->group_rows[m->n_groups++] = 0;
    while (sp_thrift_field(t, &id, &type)) {
        if (id == 1) {
            for (size_t n = sp_thrift_list(t, &element); n > 0 && !t->failed; n--) {
                SPAR_TRY(read_chunk(t, m, err));
            }
        } else if (id == 3) {
            m->group_rows[m->n_groups - 1] = sp_thrift_int(t);
        } else {
            sp_thrift_skip(t, type);
        }
    }
    t->failed = t->failed || m->group_rows[m->n_groups - 1] < 0;
done:
    return status;
}

static spar_status encrypted(spar_error *err) {
    return spar_fail(err, SPAR_UNSUPPORTED, "expected Parquet as it is, found it encrypted");
}

static spar_status read_footer(sp_thrift *t, sp_parquet_meta *m, spar_error *err) {
    spar_status status = SPAR_OK;
    int id = 0, type, element;
    while (sp_thrift_field(t, &id, &type)) {
        if (id == 2) {
            SPAR_TRY(read_schema(t, m, err));
        } else if (id == 4) {
            for (size_t n = sp_thrift_list(t, &element); n > 0 && !t->failed; n--) {
                SPAR_TRY(read_group(t, m, err));
            }
        } else if (id == ENCRYPTION) {
            SPAR_TRY(encrypted(err));
        } else {
            sp_thrift_skip(t, type);
        }
    }
done:
    return status;
}

static spar_status check(sp_parquet_meta *m, size_t file_size, spar_error *err) {
    if (!link_nodes(m, 0, 0, 0, 0) || m->nodes[0].next != m->n_nodes ||
        m->nodes[0].type != SP_PARQUET_GROUP || m->n_leaves > MOST_LEAVES) {
        return spar_fail(err, SPAR_FORMAT,
                         "expected a schema that is one tree of at most %d "
                         "columns, found another",
                         MOST_LEAVES);
    }
    if (m->n_chunks % m->n_leaves != 0 || m->n_chunks / m->n_leaves != m->n_groups) {
        return spar_fail(err, SPAR_FORMAT,
                         "expected %zu columns in each of %zu row groups, found "
                         "%zu",
                         m->n_leaves, m->n_groups, m->n_chunks);
    }
    for (size_t i = 0; i < m->n_chunks; i++) {
        const sp_parquet_chunk *c = &m->chunks[i];
        if (c->offset > file_size || c->size > file_size - c->offset) {
            return spar_fail(err, SPAR_FORMAT,
                             "row group %zu: expected columns within the %zu "
                             "bytes of the file, found one at %llu",
                             i / m->n_leaves + 1, file_size, (unsigned long long)c->offset);
        }
    }
    return SPAR_OK;
}

spar_status sp_parquet_meta_read(sp_parquet_meta *out, const sp_map *map, const char *file,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    *out = (sp_parquet_meta){0};
    uint32_t size = 0;
    const uint8_t *tail = map->size >= MAGIC + TAIL ? map->data + map->size - TAIL : NULL;
    if (tail != NULL && memcmp(tail + TAIL - MAGIC, "PARE", MAGIC) == 0) {
        SPAR_TRY(encrypted(err));
    }
    if (tail == NULL || memcmp(tail + TAIL - MAGIC, "PAR1", MAGIC) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "expected PAR1 at the end of a Parquet file, found other bytes: it is "
                           "cut short"));
    }
    for (int i = 0; i < 4; i++) {
        size |= (uint32_t)tail[i] << (8 * i);
    }
    if (size > map->size - MAGIC - TAIL) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "expected a footer within the file, found one of %u "
                           "bytes",
                           size));
    }
    sp_thrift t = {tail - size, tail, false};
    SPAR_TRY(read_footer(&t, out, err));
    if (t.failed) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "expected a footer of Parquet, found one that cannot "
                           "be read %td bytes before its end",
                           t.end - t.at));
    }
    SPAR_TRY(check(out, map->size, err));
done:
    if (status != SPAR_OK) {
        sp_parquet_meta_release(out);
        spar_error_context(err, "%s", file);
    }
    return status;
}

void sp_parquet_meta_release(sp_parquet_meta *m) {
    for (size_t i = 0; i < m->n_nodes; i++) {
        free(m->nodes[i].name);
    }
    free(m->nodes);
    free(m->chunks);
    free(m->group_rows);
    *m = (sp_parquet_meta){0};
}
