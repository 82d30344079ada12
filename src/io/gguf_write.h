/* Writing GGUF files, version 3: metadata is gathered in memory, tensors are converted from f32 as
 * they are written. The same calls give the same bytes. */
#ifndef SP_IO_GGUF_WRITE_H
#define SP_IO_GGUF_WRITE_H

#include "base/str.h"
#include "io/gguf.h"

typedef struct sp_gguf_out {
    sp_str meta; /* encoded; its want of memory is sticky and reported by sp_gguf_write */
    uint64_t n_meta;
} sp_gguf_out;

#define SP_GGUF_OUT_INIT                                                                           \
    { SP_STR_INIT, 0 }

void sp_gguf_out_release(sp_gguf_out *out);
void sp_gguf_put_u32(sp_gguf_out *out, const char *key, uint32_t value);
void sp_gguf_put_f32(sp_gguf_out *out, const char *key, float value);
void sp_gguf_put_bool(sp_gguf_out *out, const char *key, bool value);
void sp_gguf_put_string(sp_gguf_out *out, const char *key, const char *text, size_t n);
/* Arrays; strings one by one after the head. */
void sp_gguf_put_i32s(sp_gguf_out *out, const char *key, const int32_t *values, size_t n);
void sp_gguf_put_bytes(sp_gguf_out *out, const char *key, const char *bytes, size_t n);
void sp_gguf_put_f32s(sp_gguf_out *out, const char *key, const float *values, size_t n);
void sp_gguf_put_strings(sp_gguf_out *out, const char *key, size_t n);
void sp_gguf_put_text(sp_gguf_out *out, const char *text, size_t n);

/* A tensor to write: f32 values, row-major, stored as dtype (whose row has from_f32). */
typedef struct sp_gguf_source {
    const char *name; /* borrowed */
    sp_dtype dtype;
    int n_dims;
    int64_t dims[4]; /* dims[0] varies slowest; the last one a multiple of the type's block */
    const float *data;
} sp_gguf_source;

/* All or nothing. */
spar_status sp_gguf_write(const char *path, const sp_gguf_out *out, const sp_gguf_source *tensors,
                          size_t n, spar_error *err);

#endif
