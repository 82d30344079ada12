#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

/* The format's own bound on the header. */
static const uint64_t max_header = 100U * 1000 * 1000;

struct sp_safetensors {
    sp_arena arena; /* names */
    sp_map *maps;   /* owned */
    size_t n_maps;
    sp_tensor_entry *entries; /* owned, sorted by name */
    size_t n, capacity;
};

static spar_status read_shape(const json_t *shape, sp_tensor_entry *e, uint64_t *elements,
                              const char *path, spar_error *err) {
    if (!json_is_array(shape) || json_array_size(shape) > SP_TENSOR_MAX_DIMS) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: tensor %s: shape: expected a list of at most %d sizes, found %s",
                         path, e->name, SP_TENSOR_MAX_DIMS, sp_json_type_name(shape));
    }
    *elements = 1;
    e->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < e->n_dims; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        int64_t value = json_is_integer(size) ? json_integer_value(size) : -1;
        if (value < 0 || (value > 0 && *elements > (uint64_t)INT64_MAX / (uint64_t)value)) {
            return spar_fail(err, SPAR_FORMAT,
                             "%s: tensor %s: shape[%d]: expected a non-negative size that fits, "
                             "found another value",
                             path, e->name, i);
        }
        e->dims[i] = value;
        *elements *= (uint64_t)value;
    }
    return SPAR_OK;
}

/* The two data offsets, relative to the end of the header. */
static spar_status read_offsets(const json_t *offsets, const sp_tensor_entry *e, uint64_t size,
                                uint64_t *begin, uint64_t *end, const char *path, spar_error *err) {
    const json_t *first = json_array_get(offsets, 0);
    const json_t *second = json_array_get(offsets, 1);
    bool ok = json_array_size(offsets) == 2 && json_is_integer(first) && json_is_integer(second) &&
              json_integer_value(first) >= 0 &&
              json_integer_value(second) >= json_integer_value(first) &&
              (uint64_t)json_integer_value(second) <= size;
    if (!ok) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: tensor %s: data_offsets: expected [begin, end] within %llu bytes of "
                         "data, found another value (is the file truncated?)",
                         path, e->name, (unsigned long long)size);
    }
    *begin = (uint64_t)json_integer_value(first);
    *end = (uint64_t)json_integer_value(second);
    return SPAR_OK;
}

static spar_status read_entry(sp_safetensors *f, const char *name, const json_t *value,
                              const uint8_t *data, uint64_t size, const char *path,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = f->entries;
    SPAR_TRY(sp_mem_grow(&memory, &f->capacity, f->n + 1, sizeof *f->entries, err));
    f->entries = memory;
    sp_tensor_entry *e = &f->entries[f->n];
    memset(e, 0, sizeof *e);
    e->name = sp_arena_strndup(&f->arena, name, strlen(name));
    if (!e->name) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", path));
    }
    if (!json_is_object(value)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: tensor %s: expected an object, found %s", path,
                           name, sp_json_type_name(value)));
    }
    const char *type = json_string_value(json_object_get(value, "dtype"));
    if (!type || !sp_dtype_from_safetensors(type, &e->dtype)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: tensor %s: dtype: expected F32, F16, BF16 or an integer type, "
                           "found %s",
                           path, name, type ? type : "nothing"));
    }
    uint64_t elements = 0;
    uint64_t begin = 0;
    uint64_t end = 0;
    SPAR_TRY(read_shape(json_object_get(value, "shape"), e, &elements, path, err));
    SPAR_TRY(
        read_offsets(json_object_get(value, "data_offsets"), e, size, &begin, &end, path, err));
    size_t bytes = sp_dtype_info_of(e->dtype)->block_bytes;
    if (elements > UINT64_MAX / bytes || end - begin != elements * bytes) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: tensor %s: expected %llu elements of %zu bytes, found %llu bytes",
                           path, name, (unsigned long long)elements, bytes,
                           (unsigned long long)(end - begin)));
    }
    e->data = data + begin;
    e->n_bytes = (size_t)(end - begin);
    f->n++;
done:
    return status;
}

static int by_address(const void *a, const void *b) {
    const sp_tensor_entry *x = a;
    const sp_tensor_entry *y = b;
    const uint8_t *p = x->data;
    const uint8_t *q = y->data;
    if (p != q) {
        return p < q ? -1 : 1;
    }
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const sp_tensor_entry *)a)->name, ((const sp_tensor_entry *)b)->name);
}

/* The tensors must tile the data: each begins where the one before ended. */
static spar_status check_tiling(sp_tensor_entry *entries, size_t n, const uint8_t *data,
                                uint64_t size, const char *path, spar_error *err) {
    const uint8_t *at = data;
    if (n > 1) {
        qsort(entries, n, sizeof *entries, by_address);
    }
    for (size_t i = 0; i < n; i++) {
        if ((const uint8_t *)entries[i].data != at) {
            return spar_fail(
                err, SPAR_FORMAT,
                "%s: tensor %s: data_offsets: expected the data to begin at byte %llu, "
                "found %llu",
                path, entries[i].name, (unsigned long long)(at - data),
                (unsigned long long)((const uint8_t *)entries[i].data - data));
        }
        at += entries[i].n_bytes;
    }
    if ((uint64_t)(at - data) != size) {
        return spar_fail(err, SPAR_FORMAT, "%s: expected %llu bytes of tensor data, found %llu",
                         path, (unsigned long long)(at - data), (unsigned long long)size);
    }
    return SPAR_OK;
}

static spar_status check_metadata(const json_t *metadata, const char *path, spar_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value) {
        if (!json_is_string(value)) {
            return spar_fail(err, SPAR_FORMAT, "%s: __metadata__.%s: expected a string, found %s",
                             path, key, sp_json_type_name(value));
        }
    }
    return SPAR_OK;
}

static spar_status read_header(sp_safetensors *f, const sp_map *map, const char *path,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *header = NULL;
    uint64_t length = 0;
    if (map->size < 8) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: expected a header of at least 8 bytes, found %zu",
                           path, map->size));
    }
    for (int i = 7; i >= 0; i--) {
        length = length << 8 | map->data[i];
    }
    if (length > max_header || length > map->size - 8) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: header length: expected at most %zu, found %llu (is the file "
                           "truncated?)",
                           path, map->size - 8, (unsigned long long)length));
    }
    SPAR_TRY(sp_json_parse(&header, (const char *)map->data + 8, (size_t)length, path, err));
    if (!json_is_object(header)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: header: expected an object, found %s", path,
                           sp_json_type_name(header)));
    }
    const uint8_t *data = map->data + 8 + length;
    uint64_t size = map->size - 8 - length;
    size_t before = f->n;
    const char *name;
    json_t *value;
    json_object_foreach(header, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            SPAR_TRY(check_metadata(value, path, err));
        } else {
            SPAR_TRY(read_entry(f, name, value, data, size, path, err));
        }
    }
    SPAR_TRY(check_tiling(f->entries + before, f->n - before, data, size, path, err));
done:
    json_decref(header);
    return status;
}

static spar_status open_one(sp_safetensors *f, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL;
    sp_map *maps = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, f->n_maps + 1, sizeof *maps, err));
    maps = memory;
    if (f->n_maps) {
        memcpy(maps, f->maps, f->n_maps * sizeof *maps);
    }
    free(f->maps);
    f->maps = maps;
    SPAR_TRY(sp_map_open(&f->maps[f->n_maps], path, err));
    f->n_maps++;
    SPAR_TRY(read_header(f, &f->maps[f->n_maps - 1], path, err));
done:
    return status;
}

static bool plain_name(const char *name) {
    return name[0] && name[0] != '.' && !strchr(name, '/') && strlen(name) < 200;
}

/* Open every shard that the index names, and check that each tensor is where the index says. */
static spar_status open_index(sp_safetensors *f, const char *dir, const char *index_path,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *index = NULL;
    json_t *shards = json_object();
    char *path = NULL;
    const char *name;
    json_t *value;
    SPAR_TRY(sp_json_load(&index, index_path, err));
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || !shards) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: weight_map: expected an object, found %s",
                           index_path, sp_json_type_name(map)));
    }
    json_object_foreach(map, name, value) {
        const char *shard = json_string_value(value);
        if (!shard || !plain_name(shard)) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: weight_map.%s: expected the name of a file beside it, found %s",
                               index_path, name, shard ? shard : sp_json_type_name(value)));
        }
        if (!json_object_get(shards, shard)) {
            json_object_set_new(shards, shard, json_true());
            SPAR_TRY(sp_path_join(&path, dir, shard, err));
            SPAR_TRY(open_one(f, path, err));
            free(path);
            path = NULL;
        }
    }
    qsort(f->entries, f->n, sizeof *f->entries, by_name);
    json_object_foreach(map, name, value) {
        if (!sp_safetensors_find(f, name)) {
            SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: tensor %s: not in %s", index_path, name,
                               json_string_value(value)));
        }
    }
done:
    free(path);
    json_decref(index);
    json_decref(shards);
    return status;
}

static spar_status open_folder(sp_safetensors *f, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *single = NULL;
    char *index = NULL;
    SPAR_TRY(sp_path_join(&single, dir, "model.safetensors", err));
    SPAR_TRY(sp_path_join(&index, dir, "model.safetensors.index.json", err));
    if (sp_file_exists(single)) {
        SPAR_TRY(open_one(f, single, err));
    } else if (sp_file_exists(index)) {
        SPAR_TRY(open_index(f, dir, index, err));
    } else {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND,
                           "%s: expected model.safetensors or model.safetensors.index.json, found "
                           "neither",
                           dir));
    }
done:
    free(single);
    free(index);
    return status;
}

spar_status sp_safetensors_open(sp_safetensors **out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    sp_safetensors *f = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *f, err));
    f = memory;
    sp_arena_init(&f->arena);
    SPAR_TRY(sp_file_is_dir(path) ? open_folder(f, path, err) : open_one(f, path, err));
    if (f->n > 1) {
        qsort(f->entries, f->n, sizeof *f->entries, by_name);
    }
    for (size_t i = 1; i < f->n; i++) {
        if (strcmp(f->entries[i].name, f->entries[i - 1].name) == 0) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: tensor %s: is in two shards", path,
                               f->entries[i].name));
        }
    }
    *out = f;
    f = NULL;
done:
    sp_safetensors_free(f);
    return status;
}

void sp_safetensors_free(sp_safetensors *f) {
    if (f) {
        for (size_t i = 0; i < f->n_maps; i++) {
            sp_map_close(&f->maps[i]);
        }
        free(f->maps);
        free(f->entries);
        sp_arena_release(&f->arena);
        free(f);
    }
}

size_t sp_safetensors_count(const sp_safetensors *f) {
    return f->n;
}

const sp_tensor_entry *sp_safetensors_at(const sp_safetensors *f, size_t i) {
    return &f->entries[i];
}

const sp_tensor_entry *sp_safetensors_find(const sp_safetensors *f, const char *name) {
    sp_tensor_entry key = {.name = name};
    return f->n ? bsearch(&key, f->entries, f->n, sizeof key, by_name) : NULL;
}

/* ---- writing ---- */

static spar_status make_header(json_t **out, const sp_tensor_entry *entries, size_t n,
                               const char *const *metadata, spar_error *err) {
    json_t *header = json_object();
    uint64_t at = 0;
    if (metadata && metadata[0]) {
        json_t *pairs = json_object();
        for (size_t i = 0; metadata[i]; i += 2) {
            json_object_set_new(pairs, metadata[i], json_string(metadata[i + 1]));
        }
        json_object_set_new(header, "__metadata__", pairs);
    }
    for (size_t i = 0; i < n; i++) {
        json_t *shape = json_array();
        for (int d = 0; d < entries[i].n_dims; d++) {
            json_array_append_new(shape, json_integer(entries[i].dims[d]));
        }
        json_t *entry = json_pack(
            "{s:s, s:o, s:[I,I]}", "dtype", sp_dtype_info_of(entries[i].dtype)->safetensors,
            "shape", shape, "data_offsets", (json_int_t)at, (json_int_t)(at + entries[i].n_bytes));
        if (!entry || json_object_set_new(header, entries[i].name, entry) != 0) {
            json_decref(header);
            return spar_fail(err, SPAR_NO_MEMORY, "out of memory while writing %s",
                             entries[i].name);
        }
        at += entries[i].n_bytes;
    }
    *out = header;
    return SPAR_OK;
}

spar_status sp_safetensors_write(const char *path, const sp_tensor_entry *entries, size_t n,
                                 const char *const *metadata, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *header = NULL;
    char *text = NULL;
    sp_writer writer;
    bool open = false;
    uint8_t length[8];
    SPAR_TRY(make_header(&header, entries, n, metadata, err));
    text = json_dumps(header, JSON_COMPACT | JSON_ENSURE_ASCII);
    if (!text) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", path));
    }
    size_t used = strlen(text);
    size_t padded = (used + 7) / 8 * 8; /* spaces bring the data to an 8-byte boundary */
    for (int i = 0; i < 8; i++) {
        length[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    }
    SPAR_TRY(sp_writer_open(&writer, path, err));
    open = true;
    sp_writer_write(&writer, length, sizeof length);
    sp_writer_write(&writer, text, used);
    sp_writer_write(&writer, "       ", padded - used);
    for (size_t i = 0; i < n; i++) {
        sp_writer_write(&writer, entries[i].data, entries[i].n_bytes);
    }
    status = sp_writer_commit(&writer, err);
    open = false;
done:
    if (open) {
        sp_writer_abort(&writer);
    }
    free(text);
    json_decref(header);
    return status;
}

/* Index of the first entry of each shard; shards are filled in order. */
static size_t next_shard(const sp_tensor_entry *entries, size_t n, size_t at, uint64_t max) {
    uint64_t bytes = entries[at].n_bytes;
    size_t end = at + 1;
    while (end < n && bytes + entries[end].n_bytes <= max) {
        bytes += entries[end++].n_bytes;
    }
    return end;
}

spar_status sp_safetensors_write_sharded(const char *dir, const sp_tensor_entry *entries, size_t n,
                                         const char *const *metadata, uint64_t max_shard_bytes,
                                         spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    json_t *map = NULL;
    json_t *index = NULL;
    uint64_t total = 0;
    int shards = 0;
    for (size_t at = 0; at < n; at = next_shard(entries, n, at, max_shard_bytes)) {
        shards++;
    }
    if (shards <= 1) {
        SPAR_TRY(sp_path_join(&path, dir, "model.safetensors", err));
        SPAR_TRY(sp_safetensors_write(path, entries, n, metadata, err));
        goto done;
    }
    map = json_object();
    size_t at = 0;
    for (int shard = 1; at < n; shard++) {
        char name[64];
        size_t end = next_shard(entries, n, at, max_shard_bytes);
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", shard, shards);
        for (size_t i = at; i < end; i++) {
            total += entries[i].n_bytes;
            json_object_set_new(map, entries[i].name, json_string(name));
        }
        SPAR_TRY(sp_path_join(&path, dir, name, err));
        SPAR_TRY(sp_safetensors_write(path, entries + at, end - at, metadata, err));
        free(path);
        path = NULL;
        at = end;
    }
    index =
        json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    SPAR_TRY(sp_path_join(&path, dir, "model.safetensors.index.json", err));
    SPAR_TRY(sp_json_save(index, path, err));
done:
    free(path);
    json_decref(map);
    json_decref(index);
    return status;
}
