#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"

/* The format's own bound on the header. */
static const uint64_t max_header = 100U * 1000 * 1000;

struct sp_safetensors {
    sp_arena arena; /* names */
    sp_map *maps;   /* owned */
    size_t n_maps;
    sp_tensor_entry *entries; /* owned, sorted by name */
    size_t n, capacity;
};

static spar_status read_shape(const json_t *shape, sp_tensor_entry *e, const char *path,
                              spar_error *err) {
    if (!json_is_array(shape) || json_array_size(shape) > SP_TENSOR_MAX_DIMS) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: tensor %s: shape: expected a list of at most %d sizes, found %s",
                         path, e->name, SP_TENSOR_MAX_DIMS,
                         json_is_array(shape) ? "more" : sp_json_type_name(shape));
    }
    e->n_dims = (int)json_array_size(shape);
    for (int i = 0; i < e->n_dims; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        e->dims[i] = json_is_integer(size) ? json_integer_value(size) : -1;
        if (e->dims[i] < 0) {
            return spar_fail(
                err, SPAR_FORMAT,
                "%s: tensor %s: shape[%d]: expected a size of 0 or more, found another "
                "value",
                path, e->name, i);
        }
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
        char *found = offsets ? json_dumps(offsets, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
        const spar_status status =
            spar_fail(err, SPAR_FORMAT,
                      "%s: tensor %s: data_offsets: expected [begin, end] within %llu bytes of "
                      "data, found %.64s (is the file truncated?)",
                      path, e->name, (unsigned long long)size, found ? found : "nothing");
        free(found);
        return status;
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
                           "%s: tensor %s: dtype: expected F32, F16, BF16, F8 or an integer type, "
                           "found %s",
                           path, name, type ? type : "nothing"));
    }
    int64_t elements = 0;
    size_t bytes = 0;
    uint64_t begin = 0;
    uint64_t end = 0;
    SPAR_TRY(read_shape(json_object_get(value, "shape"), e, path, err));
    SPAR_TRY(
        read_offsets(json_object_get(value, "data_offsets"), e, size, &begin, &end, path, err));
    if (!sp_dtype_size(e->dtype, e->n_dims, e->dims, &elements, &bytes)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: tensor %s: shape: expected sizes whose product fits, found larger "
                           "ones",
                           path, name));
    }
    if (end - begin != bytes) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: tensor %s: expected %lld elements in %zu bytes, found %llu bytes",
                           path, name, (long long)elements, bytes,
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
    if (!json_is_object(metadata)) {
        return spar_fail(err, SPAR_FORMAT, "%s: __metadata__: expected an object, found %s", path,
                         sp_json_type_name(metadata));
    }
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
        SPAR_TRY(spar_fail(
            err, SPAR_FORMAT,
            "%s: header length: expected at most %llu, found %llu (is the file "
            "truncated?)",
            path, (unsigned long long)(map->size - 8 < max_header ? map->size - 8 : max_header),
            (unsigned long long)length));
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
    /* without a tensor there may be no table to point into */
    sp_tensor_entry *added = f->n ? f->entries + before : NULL;
    SPAR_TRY(check_tiling(added, f->n - before, data, size, path, err));
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

/* Sorts the entries by name. */
static spar_status check_unique(sp_safetensors *f, const char *path, spar_error *err) {
    if (f->n > 1) {
        qsort(f->entries, f->n, sizeof *f->entries, by_name);
    }
    for (size_t i = 1; i < f->n; i++) {
        if (strcmp(f->entries[i].name, f->entries[i - 1].name) == 0) {
            return spar_fail(err, SPAR_FORMAT, "%s: tensor %s: is in two shards", path,
                             f->entries[i].name);
        }
    }
    return SPAR_OK;
}

static bool plain_name(const char *name) {
    return name[0] && name[0] != '.' && !strchr(name, '/') && strlen(name) < 200;
}

/* Open the shard unless the set of shards (name: number of the map) has it. */
static spar_status open_shard(sp_safetensors *f, json_t *shards, const char *dir, const char *shard,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    if (!json_object_get(shards, shard)) {
        if (json_object_set_new(shards, shard, json_integer((json_int_t)f->n_maps)) != 0) {
            SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", dir));
        }
        SPAR_TRY(sp_path_join(&path, dir, shard, err));
        SPAR_TRY(open_one(f, path, err));
    }
done:
    free(path);
    return status;
}

static bool is_within(const sp_map *map, const sp_tensor_entry *e) {
    uintptr_t at = (uintptr_t)e->data;
    uintptr_t begin = (uintptr_t)map->data;
    return at >= begin && at + e->n_bytes <= begin + map->size;
}

/* The index and the shards must name the same tensors, each in the same shard. */
static spar_status check_index(sp_safetensors *f, const json_t *map, const json_t *shards,
                               const char *index_path, spar_error *err) {
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, name, value) {
        const char *shard = json_string_value(value);
        const json_int_t number = json_integer_value(json_object_get(shards, shard));
        const sp_tensor_entry *e = sp_safetensors_find(f, name);
        if (!e || !is_within(&f->maps[number], e)) {
            return spar_fail(err, SPAR_NOT_FOUND, "%s: tensor %s: not in %s", index_path, name,
                             shard);
        }
    }
    for (size_t i = 0; i < f->n; i++) {
        if (!json_object_get(map, f->entries[i].name)) {
            return spar_fail(err, SPAR_FORMAT,
                             "%s: weight_map: expected every tensor of the shards, tensor %s is "
                             "missing",
                             index_path, f->entries[i].name);
        }
    }
    return SPAR_OK;
}

/* Open every shard that the index names, and check that each tensor is where the index says. */
static spar_status open_index(sp_safetensors *f, const char *dir, const char *index_path,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *index = NULL;
    json_t *shards = json_object();
    const char *name;
    json_t *value;
    SPAR_TRY(sp_json_load(&index, index_path, err));
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: weight_map: expected an object with tensors, found %s", index_path,
                           json_is_object(map) ? "none" : sp_json_type_name(map)));
    }
    json_object_foreach(map, name, value) {
        const char *shard = json_string_value(value);
        if (!shard || !plain_name(shard)) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: weight_map.%s: expected the name of a file beside it, found %s",
                               index_path, name, shard ? shard : sp_json_type_name(value)));
        }
        SPAR_TRY(open_shard(f, shards, dir, shard, err));
    }
    SPAR_TRY(check_unique(f, dir, err));
    SPAR_TRY(check_index(f, map, shards, index_path, err));
done:
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
    SPAR_TRY(check_unique(f, path, err));
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
