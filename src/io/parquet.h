/* Parquet (the Apache Parquet format specification), as data sets use it: the parts of the reader.
 *
 * A file is a schema (a tree whose leaves are columns) and row groups, which have a chunk of pages
 * for each leaf. Each value of a leaf comes with two levels: `def`, how much of its path is there,
 * and `rep`, at which list it goes on (Melnik et al., "Dremel", VLDB 2010). Chunks are read a page
 * at a time. Sizes in a file are checked against it, and what expands is bounded.
 */
#ifndef SP_IO_PARQUET_H
#define SP_IO_PARQUET_H

#include "base/file.h"
#include "base/str.h"
#include "io/compression.h"
#include "spar/status.h"

typedef enum sp_parquet_type {
    SP_PARQUET_BOOLEAN,
    SP_PARQUET_INT32,
    SP_PARQUET_INT64,
    SP_PARQUET_INT96,
    SP_PARQUET_FLOAT,
    SP_PARQUET_DOUBLE,
    SP_PARQUET_BYTES,
    SP_PARQUET_FIXED,
    SP_PARQUET_GROUP,
} sp_parquet_type;

typedef enum sp_parquet_repetition {
    SP_PARQUET_REQUIRED,
    SP_PARQUET_OPTIONAL,
    SP_PARQUET_REPEATED,
} sp_parquet_repetition;

/* Nodes in depth-first order; the first is the root. */
typedef struct sp_parquet_node {
    char *name; /* owned */
    sp_parquet_type type;
    sp_parquet_repetition repetition;
    size_t width;          /* bytes of a FIXED value */
    size_t n_children;     /* of a group, the first is the next node */
    size_t next;           /* node behind this one's subtree */
    size_t leaf, end_leaf; /* the leaves of its subtree */
    int def, rep;          /* levels at which it is there, and at which it repeats */
    int scale;             /* of a decimal number: digits behind the point */
    bool is_list, is_text, is_unsigned;
} sp_parquet_node;

typedef struct sp_parquet_chunk {
    uint64_t offset, size; /* of its pages, within the file */
    int64_t n_values;
    int codec; /* as the file has it */
} sp_parquet_chunk;

typedef struct sp_parquet_meta {
    sp_parquet_node *nodes; /* owned */
    size_t n_nodes, n_leaves;
    sp_parquet_chunk *chunks; /* owned: n_leaves a group */
    int64_t *group_rows;      /* owned */
    size_t n_groups, node_capacity, group_capacity, chunk_capacity, n_chunks;
} sp_parquet_meta;

/* Messages name the file. UNSUPPORTED: an encrypted file. */
spar_status sp_parquet_meta_read(sp_parquet_meta *out, const sp_map *map, const char *file,
                                 spar_error *err);
void sp_parquet_meta_release(sp_parquet_meta *meta);

/* ---- encodings ---- */

/* Runs and bit-packed groups of numbers of so many bits. */
typedef struct sp_parquet_hybrid {
    const uint8_t *at, *end; /* borrowed */
    const uint8_t *packed;   /* the group being read; NULL: a run */
    size_t bit;
    int width;
    uint64_t left; /* of the run or group */
    uint32_t value;
} sp_parquet_hybrid;

/* DELTA_BINARY_PACKED. */
typedef struct sp_parquet_delta {
    const uint8_t *at, *end; /* borrowed */
    const uint8_t *widths, *packed;
    uint64_t minis, per_mini, mini, in_mini, left, total;
    uint64_t value, least;
} sp_parquet_delta;

typedef struct sp_parquet_value {
    uint64_t bits;        /* numbers: as stored, little-endian */
    const uint8_t *bytes; /* BYTES: borrowed, until the next value */
    size_t n;
} sp_parquet_value;

typedef struct sp_parquet_dictionary {
    const uint8_t *bytes;
    size_t size, n;
    size_t *offsets; /* owned: of BYTES, n of them */
} sp_parquet_dictionary;

/* The values of a page. */
typedef struct sp_parquet_values {
    sp_parquet_type type;
    int encoding;
    size_t width; /* bytes of a number */
    const uint8_t *at, *end;
    size_t index;
    const sp_parquet_dictionary *dictionary;
    sp_parquet_hybrid hybrid;
    sp_parquet_delta lengths, prefixes;
    sp_str previous; /* DELTA_BYTE_ARRAY's last value */
} sp_parquet_values;

size_t sp_parquet_width(const sp_parquet_node *leaf);
void sp_parquet_hybrid_init(sp_parquet_hybrid *h, const uint8_t *at, const uint8_t *end, int width);
bool sp_parquet_hybrid_next(sp_parquet_hybrid *h, uint32_t *value);
/* Where each value of a dictionary page is, which stays borrowed. FORMAT: they do not fit in it. */
spar_status sp_parquet_dictionary_init(sp_parquet_dictionary *d, const sp_parquet_node *leaf,
                                       const uint8_t *bytes, size_t size, int64_t n,
                                       spar_error *err);
spar_status sp_parquet_values_init(sp_parquet_values *v, const sp_parquet_node *leaf, int encoding,
                                   const uint8_t *bytes, size_t size,
                                   const sp_parquet_dictionary *dictionary, spar_error *err);
/* FORMAT where the page has no further value. */
spar_status sp_parquet_values_next(sp_parquet_values *v, sp_parquet_value *out, spar_error *err);

/* ---- columns ---- */

/* A chunk being read. */
typedef struct sp_parquet_column {
    const sp_parquet_node *leaf; /* borrowed */
    const uint8_t *at, *end;     /* of the pages that are left */
    int codec;
    int64_t chunk_left, page_left;        /* values */
    int page;                             /* from 1 */
    uint8_t *expanded, *dictionary_bytes; /* owned */
    sp_parquet_dictionary dictionary;
    sp_parquet_hybrid reps, defs;
    sp_parquet_values values;
    bool has;    /* rep and def are those of the next value */
    bool at_end; /* there is none */
    uint32_t rep, def;
} sp_parquet_column;

void sp_parquet_column_init(sp_parquet_column *c, const sp_parquet_node *leaf,
                            const sp_parquet_chunk *chunk, const sp_map *map);
void sp_parquet_column_release(sp_parquet_column *c);
/* Look at the next value's levels, or set at_end. Messages begin with the page. */
spar_status sp_parquet_column_peek(sp_parquet_column *c, spar_error *err);
/* Take the value that was looked at; *out is set where def is the leaf's. */
spar_status sp_parquet_column_take(sp_parquet_column *c, sp_parquet_value *out, spar_error *err);

#endif
