/* GGUF files, versions 2 and 3, little-endian: metadata and tensors, read through a map.
 *
 * Every length, count and offset is checked against the file before it is used. Strings and arrays
 * are borrowed from the map; strings are not NUL-terminated. Arrays of arrays are checked, and
 * their elements are of type SP_GGUF_ARRAY, which no getter reads.
 */
#ifndef SP_IO_GGUF_H
#define SP_IO_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"
#include "tensor/dtype.h"

typedef enum sp_gguf_type {
    SP_GGUF_U8,
    SP_GGUF_I8,
    SP_GGUF_U16,
    SP_GGUF_I16,
    SP_GGUF_U32,
    SP_GGUF_I32,
    SP_GGUF_F32,
    SP_GGUF_BOOL,
    SP_GGUF_STRING,
    SP_GGUF_ARRAY,
    SP_GGUF_U64,
    SP_GGUF_I64,
    SP_GGUF_F64,
    SP_GGUF_TYPES
} sp_gguf_type;

typedef struct sp_gguf_string {
    const char *data;
    size_t n;
} sp_gguf_string;

typedef struct sp_gguf_value {
    sp_gguf_string key;
    sp_gguf_type type; /* of the value, or of the elements of an array */
    bool is_array;
    uint64_t n;              /* elements; 1 for a single value */
    const uint8_t *data;     /* encoded elements */
    sp_gguf_string *strings; /* owned by the file, [n]: the string or strings; else NULL */
} sp_gguf_value;

typedef struct sp_gguf_tensor {
    char *name; /* owned by the file, NUL-terminated */
    sp_dtype dtype;
    int n_dims;
    int64_t dims[4]; /* row-major: dims[0] varies slowest */
    const void *data;
    size_t n_bytes;
} sp_gguf_tensor;

typedef struct sp_gguf sp_gguf;

spar_status sp_gguf_open(sp_gguf **out, const char *path, spar_error *err);
void sp_gguf_free(sp_gguf *gguf);

size_t sp_gguf_count(const sp_gguf *gguf); /* metadata values */
const sp_gguf_value *sp_gguf_at(const sp_gguf *gguf, size_t i);
const sp_gguf_value *sp_gguf_find(const sp_gguf *gguf, const char *key); /* NULL: not there */
size_t sp_gguf_tensor_count(const sp_gguf *gguf);
const sp_gguf_tensor *sp_gguf_tensor_at(const sp_gguf *gguf, size_t i);
const sp_gguf_tensor *sp_gguf_find_tensor(const sp_gguf *gguf, const char *name);
const char *sp_gguf_path(const sp_gguf *gguf);

/* Element i of a numeric or boolean value, as a double or an integer (truncated; what does not fit
 * is INT64_MAX, and 0 for a float). */
double sp_gguf_number(const sp_gguf_value *value, uint64_t i);
int64_t sp_gguf_integer(const sp_gguf_value *value, uint64_t i);

/* Single values by key. A missing key gives the fallback; a value of another type, or out of
 * bounds, is an error naming file and key. */
spar_status sp_gguf_get_int(const sp_gguf *gguf, const char *key, int64_t min, int64_t max,
                            int64_t fallback, int64_t *out, spar_error *err);
spar_status sp_gguf_get_number(const sp_gguf *gguf, const char *key, double fallback, double *out,
                               spar_error *err);
spar_status sp_gguf_get_bool(const sp_gguf *gguf, const char *key, bool fallback, bool *out,
                             spar_error *err);
/* *out = {NULL, 0} when missing. */
spar_status sp_gguf_get_string(const sp_gguf *gguf, const char *key, sp_gguf_string *out,
                               spar_error *err);

#endif
