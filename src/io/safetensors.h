/* safetensors files: reading (one file, or a folder with shards and an index) and writing.
 *
 * A reader maps the files and checks every header field: names, types, shapes, and that the tensors
 * tile the data without overlap or hole. Entries borrow the map until the reader is freed.
 */
#ifndef SP_IO_SAFETENSORS_H
#define SP_IO_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"
#include "tensor/dtype.h"

enum { SP_TENSOR_MAX_DIMS = 8 };

typedef struct sp_tensor_entry {
    const char *name; /* borrowed */
    sp_dtype dtype;
    int n_dims;
    int64_t dims[SP_TENSOR_MAX_DIMS];
    const void *data; /* borrowed; possibly unaligned */
    size_t n_bytes;
} sp_tensor_entry;

typedef struct sp_safetensors sp_safetensors;

/* path: a .safetensors file, or a folder with model.safetensors or model.safetensors.index.json. */
spar_status sp_safetensors_open(sp_safetensors **out, const char *path, spar_error *err);
void sp_safetensors_free(sp_safetensors *file);
size_t sp_safetensors_count(const sp_safetensors *file);
const sp_tensor_entry *sp_safetensors_at(const sp_safetensors *file, size_t i); /* sorted by name */
const sp_tensor_entry *sp_safetensors_find(const sp_safetensors *file, const char *name);

/* Write entries in the given order, all or nothing; the same entries give the same bytes. n_bytes
 * must be what shape and type say. metadata: key, value, ..., NULL; may be NULL. */
spar_status sp_safetensors_write(const char *path, const sp_tensor_entry *entries, size_t n,
                                 const char *const *metadata, spar_error *err);
/* Write into folder dir as model.safetensors, or, where the tensors exceed max_shard_bytes, as
 * model-00001-of-0000N.safetensors with model.safetensors.index.json. */
spar_status sp_safetensors_write_sharded(const char *dir, const sp_tensor_entry *entries, size_t n,
                                         const char *const *metadata, uint64_t max_shard_bytes,
                                         spar_error *err);
/* As write_sharded, with f32 tensors (whose data must be aligned) stored as F32, F16 or BF16. */
spar_status sp_safetensors_write_as(const char *dir, const sp_tensor_entry *entries, size_t n,
                                    const char *const *metadata, uint64_t max_shard_bytes,
                                    sp_dtype store, spar_error *err);

#endif
