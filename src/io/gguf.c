#include "io/gguf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

enum { MAX_NESTING = 4, MAX_NAME = 255 };

struct sp_gguf {
    char *path;
    sp_map map;
    sp_arena arena; /* names and string tables */
    sp_gguf_value *values;
    size_t n_values;
    sp_gguf_tensor *tensors;
    size_t n_tensors;
};

/* Bytes of an element; strings and arrays have their own length. */
static const size_t type_bytes[SP_GGUF_TYPES] = {
    [SP_GGUF_U8] = 1,  [SP_GGUF_I8] = 1,  [SP_GGUF_U16] = 2, [SP_GGUF_I16] = 2,
    [SP_GGUF_U32] = 4, [SP_GGUF_I32] = 4, [SP_GGUF_F32] = 4, [SP_GGUF_BOOL] = 1,
    [SP_GGUF_U64] = 8, [SP_GGUF_I64] = 8, [SP_GGUF_F64] = 8,
};

static const char *const type_names[SP_GGUF_TYPES] = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};

/* A reading position that never leaves the file. */
typedef struct cursor {
    const sp_gguf *gguf;
    const uint8_t *at, *end;
} cursor;

static size_t left(const cursor *c) {
    return (size_t)(c->end - c->at);
}

static spar_status truncated(const cursor *c, const char *what, spar_error *err) {
    return spar_fail(err, SPAR_FORMAT, "%s: %s: the file ends at byte %zu (truncated?)",
                     c->gguf->path, what, c->gguf->map.size);
}

static uint64_t decode(const uint8_t *p, size_t n) {
    uint64_t value = 0;
    for (size_t i = n; i-- > 0;) {
        value = value << 8 | p[i];
    }
    return value;
}

static spar_status read_uint(cursor *c, size_t n, uint64_t *out, const char *what,
                             spar_error *err) {
    if (left(c) < n) {
        return truncated(c, what, err);
    }
    *out = decode(c->at, n);
    c->at += n;
    return SPAR_OK;
}

static spar_status read_string(cursor *c, sp_gguf_string *out, const char *what, spar_error *err) {
    spar_status status = SPAR_OK;
    uint64_t n = 0;
    SPAR_TRY(read_uint(c, 8, &n, what, err));
    if (n > left(c)) {
        SPAR_TRY(truncated(c, what, err));
    }
    out->data = (const char *)c->at;
    out->n = (size_t)n;
    c->at += n;
done:
    return status;
}

/* Bytes of a key that a message shows, as printf's "%.*s" takes them. */
static int shown(const sp_gguf_string *key) {
    return (int)(key->n < 64 ? key->n : 64);
}

static spar_status read_type(cursor *c, sp_gguf_type *out, const sp_gguf_string *key,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    uint64_t number = 0;
    SPAR_TRY(read_uint(c, 4, &number, "metadata type", err));
    if (number >= SP_GGUF_TYPES) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: metadata %.*s: type: expected 0 to %d, found %llu", c->gguf->path,
                           shown(key), key->data, SP_GGUF_TYPES - 1, (unsigned long long)number));
    }
    *out = (sp_gguf_type)number;
done:
    return status;
}

/* Step over n elements of a plain type. */
static spar_status skip_plain(cursor *c, sp_gguf_type type, uint64_t n, spar_error *err) {
    if (n > left(c) / type_bytes[type]) {
        return truncated(c, "metadata array", err);
    }
    c->at += (size_t)n * type_bytes[type];
    return SPAR_OK;
}

static spar_status read_array_head(cursor *c, const sp_gguf_string *key, sp_gguf_type *type,
                                   uint64_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(read_type(c, type, key, err));
    SPAR_TRY(read_uint(c, 8, n, "array length", err));
done:
    return status;
}

/* Check n arrays and step over them; depth: how many levels more may follow. */
static spar_status skip_arrays(cursor *c, const sp_gguf_string *key, uint64_t n, int depth,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    sp_gguf_string ignored;
    if (depth == 0) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT, "%s: metadata %.*s: arrays nest deeper than %d levels",
                           c->gguf->path, shown(key), key->data, MAX_NESTING));
    }
    for (uint64_t i = 0; i < n; i++) {
        sp_gguf_type type = SP_GGUF_U8;
        uint64_t elements = 0;
        SPAR_TRY(read_array_head(c, key, &type, &elements, err));
        if (type == SP_GGUF_ARRAY) {
            SPAR_TRY(skip_arrays(c, key, elements, depth - 1, err));
        } else if (type != SP_GGUF_STRING) {
            SPAR_TRY(skip_plain(c, type, elements, err));
        } else {
            for (uint64_t s = 0; s < elements; s++) {
                SPAR_TRY(read_string(c, &ignored, "metadata array of strings", err));
            }
        }
    }
done:
    return status;
}

static spar_status read_strings(sp_gguf *g, cursor *c, sp_gguf_value *v, spar_error *err) {
    spar_status status = SPAR_OK;
    /* every string takes at least its 8 bytes of length: the file bounds the table */
    if (v->n > left(c) / 8) {
        SPAR_TRY(truncated(c, "metadata array of strings", err));
    }
    v->strings = sp_arena_alloc(&g->arena, (size_t)v->n * sizeof *v->strings);
    if (!v->strings) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", g->path));
    }
    for (uint64_t i = 0; i < v->n; i++) {
        SPAR_TRY(read_string(c, &v->strings[i], "metadata string", err));
    }
done:
    return status;
}

static spar_status read_elements(sp_gguf *g, cursor *c, sp_gguf_value *v, spar_error *err) {
    v->data = c->at;
    if (v->type == SP_GGUF_STRING) {
        return read_strings(g, c, v, err);
    }
    return v->type == SP_GGUF_ARRAY ? skip_arrays(c, &v->key, v->n, MAX_NESTING - 1, err)
                                    : skip_plain(c, v->type, v->n, err);
}

static spar_status read_value(sp_gguf *g, cursor *c, sp_gguf_value *v, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(read_string(c, &v->key, "metadata key", err));
    SPAR_TRY(read_type(c, &v->type, &v->key, err));
    v->n = 1;
    if (v->type == SP_GGUF_ARRAY) {
        v->is_array = true;
        SPAR_TRY(read_array_head(c, &v->key, &v->type, &v->n, err));
    }
    SPAR_TRY(read_elements(g, c, v, err));
done:
    return status;
}

static spar_status read_name(sp_gguf *g, cursor *c, char **out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_gguf_string name;
    SPAR_TRY(read_string(c, &name, "tensor name", err));
    if (name.n > MAX_NAME || memchr(name.data, 0, name.n)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: tensor name: expected up to %d bytes without NUL, found %zu bytes",
                           g->path, MAX_NAME, name.n));
    }
    *out = sp_arena_strndup(&g->arena, name.data, name.n);
    if (!*out) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", g->path));
    }
done:
    return status;
}

/* Dimensions in the file's order: the one that varies fastest comes first. */
static spar_status read_dims(sp_gguf *g, cursor *c, sp_gguf_tensor *t, spar_error *err) {
    spar_status status = SPAR_OK;
    uint64_t n_dims = 0;
    SPAR_TRY(read_uint(c, 4, &n_dims, "tensor dimensions", err));
    if (n_dims < 1 || n_dims > 4) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: tensor %s: expected 1 to 4 dimensions, found %llu", g->path,
                           t->name, (unsigned long long)n_dims));
    }
    t->n_dims = (int)n_dims;
    for (int i = 0; i < t->n_dims; i++) {
        uint64_t size = 0;
        SPAR_TRY(read_uint(c, 8, &size, "tensor dimensions", err));
        if (size == 0 || size > INT64_MAX) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: tensor %s: dimension %d: expected a size that fits, found %llu",
                               g->path, t->name, i, (unsigned long long)size));
        }
        t->dims[t->n_dims - 1 - i] = (int64_t)size;
    }
done:
    return status;
}

static spar_status read_tensor(sp_gguf *g, cursor *c, sp_gguf_tensor *t, uint64_t *offset,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    uint64_t number = 0;
    int64_t elements = 0;
    SPAR_TRY(read_name(g, c, &t->name, err));
    SPAR_TRY(read_dims(g, c, t, err));
    SPAR_TRY(read_uint(c, 4, &number, "tensor type", err));
    SPAR_TRY(read_uint(c, 8, offset, "tensor offset", err));
    if (!sp_dtype_from_ggml((uint32_t)number, &t->dtype)) {
        SPAR_TRY(spar_fail(
            err, SPAR_UNSUPPORTED,
            "%s: tensor %s: type: expected F32, F16, BF16, Q1_0 to Q8_0, Q2_K to "
            "Q8_K, IQ1 to IQ4, TQ, MXFP4 or NVFP4, found %s (number %llu), which is not supported",
            g->path, t->name, sp_dtype_ggml_name((uint32_t)number), (unsigned long long)number));
    }
    if (!sp_dtype_size(t->dtype, t->n_dims, t->dims, &elements, &t->n_bytes)) {
        const sp_dtype_info *type = sp_dtype_info_of(t->dtype);
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: tensor %s: expected sizes that fit and rows of a multiple of %d "
                           "elements for %s, found rows of %lld",
                           g->path, t->name, type->block_elements, type->name,
                           (long long)t->dims[t->n_dims - 1]));
    }
done:
    return status;
}

static int by_data(const void *a, const void *b) {
    const sp_gguf_tensor *x = *(const sp_gguf_tensor *const *)a;
    const sp_gguf_tensor *y = *(const sp_gguf_tensor *const *)b;
    const uint8_t *p = x->data;
    const uint8_t *q = y->data;
    return (p > q) - (p < q);
}

static spar_status check_overlap(const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_gguf_tensor **order = NULL;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, g->n_tensors, sizeof *order, err));
    order = memory;
    for (size_t i = 0; i < g->n_tensors; i++) {
        order[i] = &g->tensors[i];
    }
    if (g->n_tensors > 1) {
        qsort(order, g->n_tensors, sizeof *order, by_data);
    }
    for (size_t i = 1; i < g->n_tensors; i++) {
        if ((const uint8_t *)order[i - 1]->data + order[i - 1]->n_bytes >
            (const uint8_t *)order[i]->data) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: tensors %s and %s overlap", g->path,
                               order[i - 1]->name, order[i]->name));
        }
    }
done:
    free(order);
    return status;
}

static spar_status place_tensors(sp_gguf *g, const cursor *c, const uint64_t *offsets,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    int64_t alignment;
    SPAR_TRY(sp_gguf_get_int(g, "general.alignment", 1, 1 << 20, 32, &alignment, err));
    if ((alignment & (alignment - 1)) != 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: general.alignment: expected a power of two, found %lld", g->path,
                           (long long)alignment));
    }
    size_t align = (size_t)alignment;
    size_t begin = ((size_t)(c->at - g->map.data) + align - 1) / align * align;
    for (size_t i = 0; i < g->n_tensors; i++) {
        sp_gguf_tensor *t = &g->tensors[i];
        if (offsets[i] % align != 0 || begin > g->map.size || t->n_bytes > g->map.size - begin ||
            offsets[i] > g->map.size - begin - t->n_bytes) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: tensor %s: expected %zu aligned bytes within the file of %zu, "
                               "found offset %llu (truncated?)",
                               g->path, t->name, t->n_bytes, g->map.size,
                               (unsigned long long)offsets[i]));
        }
        t->data = g->map.data + begin + offsets[i];
    }
    SPAR_TRY(check_overlap(g, err));
done:
    return status;
}

static int by_key(const void *a, const void *b) {
    const sp_gguf_string *x = &((const sp_gguf_value *)a)->key;
    const sp_gguf_string *y = &((const sp_gguf_value *)b)->key;
    size_t n = x->n < y->n ? x->n : y->n;
    int order = n ? memcmp(x->data, y->data, n) : 0;
    return order ? order : (x->n > y->n) - (x->n < y->n);
}

static int by_tensor_name(const void *a, const void *b) {
    return strcmp(((const sp_gguf_tensor *)a)->name, ((const sp_gguf_tensor *)b)->name);
}

static spar_status check_unique(const sp_gguf *g, spar_error *err) {
    for (size_t i = 1; i < g->n_values; i++) {
        if (by_key(&g->values[i - 1], &g->values[i]) == 0) {
            return spar_fail(err, SPAR_FORMAT, "%s: metadata %.*s: occurs twice", g->path,
                             shown(&g->values[i].key), g->values[i].key.data);
        }
    }
    for (size_t i = 1; i < g->n_tensors; i++) {
        if (strcmp(g->tensors[i - 1].name, g->tensors[i].name) == 0) {
            return spar_fail(err, SPAR_FORMAT, "%s: tensor %s: occurs twice", g->path,
                             g->tensors[i].name);
        }
    }
    return SPAR_OK;
}

static spar_status read_counts(cursor *c, uint64_t *n_tensors, uint64_t *n_values,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    uint64_t magic = 0;
    uint64_t version = 0;
    const char *path = c->gguf->path;
    SPAR_TRY(read_uint(c, 4, &magic, "magic", err));
    if (magic != 0x46554747U) {
        SPAR_TRY(
            spar_fail(err, SPAR_FORMAT, "%s: magic: expected \"GGUF\", found other bytes", path));
    }
    SPAR_TRY(read_uint(c, 4, &version, "version", err));
    if (version != 0 && (version & 0xFFFFU) == 0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: version: expected a little-endian file, found a big-endian one, "
                           "which is not supported",
                           path));
    }
    if (version != 2 && version != 3) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: version: expected 2 or 3, found %llu, which is not supported", path,
                           (unsigned long long)version));
    }
    SPAR_TRY(read_uint(c, 8, n_tensors, "tensor count", err));
    SPAR_TRY(read_uint(c, 8, n_values, "metadata count", err));
    /* a tensor takes at least 32 bytes, a value at least 13: the file bounds both tables */
    if (*n_tensors > left(c) / 32 || *n_values > left(c) / 13) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: expected counts that the file can hold, found %llu tensors and "
                           "%llu metadata values (truncated?)",
                           path, (unsigned long long)*n_tensors, (unsigned long long)*n_values));
    }
done:
    return status;
}

static spar_status read_all(sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    uint64_t *offsets = NULL;
    uint64_t n_tensors = 0;
    uint64_t n_values = 0;
    void *memory;
    if (g->map.size == 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: magic: expected \"GGUF\", found an empty file",
                           g->path));
    }
    cursor c = {g, g->map.data, g->map.data + g->map.size};
    SPAR_TRY(read_counts(&c, &n_tensors, &n_values, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)n_values, sizeof *g->values, err));
    g->values = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)n_tensors, sizeof *g->tensors, err));
    g->tensors = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)n_tensors, sizeof *offsets, err));
    offsets = memory;
    for (; g->n_values < n_values; g->n_values++) {
        SPAR_TRY(read_value(g, &c, &g->values[g->n_values], err));
    }
    if (g->n_values > 1) {
        qsort(g->values, g->n_values, sizeof *g->values, by_key);
    }
    for (; g->n_tensors < n_tensors; g->n_tensors++) {
        SPAR_TRY(read_tensor(g, &c, &g->tensors[g->n_tensors], &offsets[g->n_tensors], err));
    }
    SPAR_TRY(place_tensors(g, &c, offsets, err));
    if (g->n_tensors > 1) {
        qsort(g->tensors, g->n_tensors, sizeof *g->tensors, by_tensor_name);
    }
    SPAR_TRY(check_unique(g, err));
done:
    free(offsets);
    return status;
}

spar_status sp_gguf_open(sp_gguf **out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    sp_gguf *g = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *g, err));
    g = memory;
    sp_arena_init(&g->arena);
    SPAR_TRY(sp_mem_strdup(&g->path, path, strlen(path), err));
    SPAR_TRY(sp_map_open(&g->map, path, err));
    SPAR_TRY(read_all(g, err));
    *out = g;
    g = NULL;
done:
    sp_gguf_free(g);
    return status;
}

void sp_gguf_free(sp_gguf *g) {
    if (g) {
        sp_map_close(&g->map);
        sp_arena_release(&g->arena);
        free(g->values);
        free(g->tensors);
        free(g->path);
        free(g);
    }
}

size_t sp_gguf_count(const sp_gguf *g) {
    return g->n_values;
}

const sp_gguf_value *sp_gguf_at(const sp_gguf *g, size_t i) {
    return &g->values[i];
}

const char *sp_gguf_path(const sp_gguf *g) {
    return g->path;
}

const sp_gguf_value *sp_gguf_find(const sp_gguf *g, const char *key) {
    sp_gguf_value wanted = {.key = {key, strlen(key)}};
    return g->n_values ? bsearch(&wanted, g->values, g->n_values, sizeof wanted, by_key) : NULL;
}

size_t sp_gguf_tensor_count(const sp_gguf *g) {
    return g->n_tensors;
}

const sp_gguf_tensor *sp_gguf_tensor_at(const sp_gguf *g, size_t i) {
    return &g->tensors[i];
}

const sp_gguf_tensor *sp_gguf_find_tensor(const sp_gguf *g, const char *name) {
    union {
        const char *in;
        char *out;
    } borrowed = {.in = name};
    sp_gguf_tensor wanted = {.name = borrowed.out};
    return g->n_tensors ? bsearch(&wanted, g->tensors, g->n_tensors, sizeof wanted, by_tensor_name)
                        : NULL;
}

int64_t sp_gguf_integer(const sp_gguf_value *v, uint64_t i) {
    size_t bytes = type_bytes[v->type];
    uint64_t bits = decode(v->data + i * bytes, bytes);
    switch (v->type) {
    case SP_GGUF_I8:
        return (int8_t)bits;
    case SP_GGUF_I16:
        return (int16_t)bits;
    case SP_GGUF_I32:
        return (int32_t)bits;
    case SP_GGUF_U64:
        return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
    case SP_GGUF_F32:
    case SP_GGUF_F64: {
        double number = sp_gguf_number(v, i);
        return isfinite(number) && fabs(number) < 9e18 ? (int64_t)number : 0;
    }
    default:
        return (int64_t)bits;
    }
}

double sp_gguf_number(const sp_gguf_value *v, uint64_t i) {
    const uint8_t *at = v->data + i * type_bytes[v->type];
    if (v->type == SP_GGUF_F32) {
        float f;
        memcpy(&f, at, sizeof f);
        return (double)f;
    }
    if (v->type == SP_GGUF_F64) {
        double d;
        memcpy(&d, at, sizeof d);
        return d;
    }
    return (double)sp_gguf_integer(v, i);
}

static bool is_integer_type(sp_gguf_type type) {
    return type != SP_GGUF_F32 && type != SP_GGUF_F64 && type != SP_GGUF_BOOL &&
           type != SP_GGUF_STRING && type != SP_GGUF_ARRAY;
}

static spar_status wrong_type(const sp_gguf *g, const char *key, const char *expected,
                              const sp_gguf_value *v, spar_error *err) {
    return spar_fail(err, SPAR_FORMAT, "%s: metadata %s: expected %s, found %s%s", g->path, key,
                     expected, v->is_array ? "an array of " : "", type_names[v->type]);
}

spar_status sp_gguf_get_int(const sp_gguf *g, const char *key, int64_t min, int64_t max,
                            int64_t fallback, int64_t *out, spar_error *err) {
    const sp_gguf_value *v = sp_gguf_find(g, key);
    *out = fallback;
    if (!v) {
        return SPAR_OK;
    }
    if (v->is_array || !is_integer_type(v->type)) {
        return wrong_type(g, key, "an integer", v, err);
    }
    *out = sp_gguf_integer(v, 0);
    if (*out < min || *out > max) {
        return spar_fail(err, SPAR_FORMAT, "%s: metadata %s: expected %lld to %lld, found %lld",
                         g->path, key, (long long)min, (long long)max, (long long)*out);
    }
    return SPAR_OK;
}

spar_status sp_gguf_get_number(const sp_gguf *g, const char *key, double fallback, double *out,
                               spar_error *err) {
    const sp_gguf_value *v = sp_gguf_find(g, key);
    *out = fallback;
    if (v && (v->is_array || v->type == SP_GGUF_STRING || v->type == SP_GGUF_BOOL)) {
        return wrong_type(g, key, "a number", v, err);
    }
    if (v) {
        *out = sp_gguf_number(v, 0);
    }
    return SPAR_OK;
}

spar_status sp_gguf_get_bool(const sp_gguf *g, const char *key, bool fallback, bool *out,
                             spar_error *err) {
    const sp_gguf_value *v = sp_gguf_find(g, key);
    *out = fallback;
    if (v && (v->is_array || v->type != SP_GGUF_BOOL)) {
        return wrong_type(g, key, "a bool", v, err);
    }
    if (v) {
        *out = v->data[0] != 0;
    }
    return SPAR_OK;
}

spar_status sp_gguf_get_string(const sp_gguf *g, const char *key, sp_gguf_string *out,
                               spar_error *err) {
    const sp_gguf_value *v = sp_gguf_find(g, key);
    *out = (sp_gguf_string){NULL, 0};
    if (v && (v->is_array || v->type != SP_GGUF_STRING)) {
        return wrong_type(g, key, "a string", v, err);
    }
    if (v) {
        *out = v->strings[0];
    }
    return SPAR_OK;
}
