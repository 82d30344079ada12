/* Writing safetensors files, whole or in shards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "io/safetensors.h"

enum { CONVERT_AT_ONCE = 1 << 16 };

/* What the tensors of one file have in common. */
typedef struct job {
    const char *const *metadata;
    sp_dtype store; /* of f32 tensors */
} job;

static sp_dtype stored_type(const job *j, const sp_tensor_entry *e) {
    return e->dtype == SP_F32 ? j->store : e->dtype;
}

static size_t stored_bytes(const job *j, const sp_tensor_entry *e) {
    return e->dtype == SP_F32 ? e->n_bytes / 4 * sp_dtype_info_of(j->store)->block_bytes
                              : e->n_bytes;
}

static spar_status check_entries(const sp_tensor_entry *entries, size_t n, const job *j,
                                 const char *path, spar_error *err) {
    for (size_t i = 0; i < n; i++) {
        const sp_tensor_entry *e = &entries[i];
        int64_t elements = 0;
        size_t bytes = 0;
        const char *type = sp_dtype_info_of(e->dtype)->name;
        if (!sp_dtype_info_of(e->dtype)->safetensors) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "%s: tensor %s: expected a type that safetensors has, found %s", path,
                             e->name, type);
        }
        if (e->n_dims < 0 || e->n_dims > SP_TENSOR_MAX_DIMS ||
            !sp_dtype_size(e->dtype, e->n_dims, e->dims, &elements, &bytes) ||
            bytes != e->n_bytes) {
            return spar_fail(err, SPAR_INVALID,
                             "%s: tensor %s: expected %zu bytes of %s for its shape, found %zu",
                             path, e->name, bytes, type, e->n_bytes);
        }
    }
    if (!sp_dtype_info_of(j->store)->from_f32 || !sp_dtype_info_of(j->store)->safetensors) {
        return spar_fail(err, SPAR_UNSUPPORTED,
                         "%s: expected f32, f16 or bf16 as the type to store, found %s", path,
                         sp_dtype_info_of(j->store)->name);
    }
    return SPAR_OK;
}

/* New reference, or NULL where memory is out or a name is not UTF-8. */
static json_t *pack_entry(const sp_tensor_entry *e, const job *j, uint64_t at) {
    json_t *shape = json_array();
    for (int d = 0; d < e->n_dims; d++) {
        json_array_append_new(shape, json_integer(e->dims[d]));
    }
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype",
                     sp_dtype_info_of(stored_type(j, e))->safetensors, "shape", shape,
                     "data_offsets", (json_int_t)at, (json_int_t)(at + stored_bytes(j, e)));
}

static spar_status pack_metadata(json_t *header, const char *const *metadata, const char *path,
                                 spar_error *err) {
    json_t *pairs = json_object();
    for (size_t i = 0; metadata[i]; i += 2) {
        if (json_object_set_new(pairs, metadata[i], json_string(metadata[i + 1])) != 0) {
            json_decref(pairs);
            return spar_fail(err, SPAR_INVALID, "%s: metadata: expected UTF-8, found other bytes",
                             path);
        }
    }
    if (json_object_set_new(header, "__metadata__", pairs) != 0) {
        return spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", path);
    }
    return SPAR_OK;
}

static spar_status pack_header(json_t *header, const sp_tensor_entry *entries, size_t n,
                               const job *j, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    uint64_t at = 0;
    if (j->metadata && j->metadata[0]) {
        SPAR_TRY(pack_metadata(header, j->metadata, path, err));
    }
    for (size_t i = 0; i < n; i++) {
        if (json_object_get(header, entries[i].name)) {
            SPAR_TRY(
                spar_fail(err, SPAR_INVALID, "%s: tensor %s: occurs twice", path, entries[i].name));
        }
        if (json_object_set_new(header, entries[i].name, pack_entry(&entries[i], j, at)) != 0) {
            SPAR_TRY(spar_fail(err, SPAR_INVALID,
                               "%s: tensor name: expected UTF-8 that fits in memory, found %s",
                               path, entries[i].name));
        }
        at += stored_bytes(j, &entries[i]);
    }
done:
    return status;
}

/* The header with its length in front, padded by spaces: the data begin at a multiple of 8. */
static spar_status write_header(sp_writer *w, const json_t *header, const char *path,
                                spar_error *err) {
    uint8_t length[8];
    char *text = json_dumps(header, JSON_COMPACT | JSON_ENSURE_ASCII);
    if (!text) {
        return spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", path);
    }
    size_t used = strlen(text);
    size_t padded = (used + 7) / 8 * 8;
    for (int i = 0; i < 8; i++) {
        length[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    }
    sp_writer_write(w, length, sizeof length);
    sp_writer_write(w, text, used);
    sp_writer_write(w, "       ", padded - used);
    free(text);
    return SPAR_OK;
}

static spar_status write_data(sp_writer *w, const sp_tensor_entry *e, const job *j,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    void *block = NULL;
    const sp_dtype_info *type = sp_dtype_info_of(stored_type(j, e));
    if (stored_type(j, e) == e->dtype) {
        sp_writer_write(w, e->data, e->n_bytes);
        goto done;
    }
    SPAR_TRY(sp_mem_calloc(&block, CONVERT_AT_ONCE, type->block_bytes, err));
    const float *data = e->data;
    for (size_t left = e->n_bytes / sizeof *data; left > 0;) {
        size_t n = left < CONVERT_AT_ONCE ? left : CONVERT_AT_ONCE;
        type->from_f32(data, block, (int64_t)n);
        sp_writer_write(w, block, n * type->block_bytes);
        data += n;
        left -= n;
    }
done:
    free(block);
    return status;
}

static spar_status write_file(const char *path, const sp_tensor_entry *entries, size_t n,
                              const job *j, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_writer writer = {.fd = -1};
    json_t *header = json_object();
    SPAR_TRY(check_entries(entries, n, j, path, err));
    SPAR_TRY(pack_header(header, entries, n, j, path, err));
    SPAR_TRY(sp_writer_open(&writer, path, err));
    SPAR_TRY(write_header(&writer, header, path, err));
    for (size_t i = 0; i < n; i++) {
        SPAR_TRY(write_data(&writer, &entries[i], j, err));
    }
    SPAR_TRY(sp_writer_commit(&writer, err));
done:
    sp_writer_abort(&writer);
    json_decref(header);
    return status;
}

spar_status sp_safetensors_write(const char *path, const sp_tensor_entry *entries, size_t n,
                                 const char *const *metadata, spar_error *err) {
    return write_file(path, entries, n, &(job){metadata, SP_F32}, err);
}

/* The first entry after the shard that begins at entry at; shards are filled in order. */
static size_t next_shard(const sp_tensor_entry *entries, size_t n, size_t at, const job *j,
                         uint64_t max) {
    uint64_t bytes = stored_bytes(j, &entries[at]);
    size_t end = at + 1;
    while (end < n && bytes + stored_bytes(j, &entries[end]) <= max) {
        bytes += stored_bytes(j, &entries[end++]);
    }
    return end;
}

static spar_status write_named(const char *dir, const char *name, const sp_tensor_entry *entries,
                               size_t n, const job *j, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    SPAR_TRY(sp_path_join(&path, dir, name, err));
    SPAR_TRY(write_file(path, entries, n, j, err));
done:
    free(path);
    return status;
}

static spar_status write_index(const char *dir, json_t *map, uint64_t total, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    json_t *index =
        json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    SPAR_TRY(sp_path_join(&path, dir, "model.safetensors.index.json", err));
    if (!index) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", path));
    }
    SPAR_TRY(sp_json_save(index, path, err));
done:
    free(path);
    json_decref(index);
    return status;
}

static spar_status write_shards(const char *dir, const sp_tensor_entry *entries, size_t n,
                                const job *j, uint64_t max, int shards, spar_error *err) {
    spar_status status = SPAR_OK;
    json_t *map = json_object();
    uint64_t total = 0;
    size_t at = 0;
    for (int shard = 1; at < n; shard++) {
        char name[64];
        size_t end = next_shard(entries, n, at, j, max);
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", shard, shards);
        SPAR_TRY(write_named(dir, name, entries + at, end - at, j, err));
        for (; at < end; at++) {
            total += stored_bytes(j, &entries[at]);
            if (json_object_get(map, entries[at].name) ||
                json_object_set_new(map, entries[at].name, json_string(name)) != 0) {
                SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s: tensor %s: occurs twice", dir,
                                   entries[at].name));
            }
        }
    }
    SPAR_TRY(write_index(dir, map, total, err));
done:
    json_decref(map);
    return status;
}

spar_status sp_safetensors_write_as(const char *dir, const sp_tensor_entry *entries, size_t n,
                                    const char *const *metadata, uint64_t max_shard_bytes,
                                    sp_dtype store, spar_error *err) {
    const job j = {metadata, store};
    int shards = 0;
    for (size_t at = 0; at < n; at = next_shard(entries, n, at, &j, max_shard_bytes)) {
        shards++;
    }
    return shards <= 1 ? write_named(dir, "model.safetensors", entries, n, &j, err)
                       : write_shards(dir, entries, n, &j, max_shard_bytes, shards, err);
}

spar_status sp_safetensors_write_sharded(const char *dir, const sp_tensor_entry *entries, size_t n,
                                         const char *const *metadata, uint64_t max_shard_bytes,
                                         spar_error *err) {
    return sp_safetensors_write_as(dir, entries, n, metadata, max_shard_bytes, SP_F32, err);
}
