#include "io/gguf_write.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

/* Little endian, as the machines are that this is built for (gguf.c reads through the same). */
static void put_u32(sp_str *s, uint32_t value) {
    sp_str_append(s, &value, sizeof value);
}

static void put_u64(sp_str *s, uint64_t value) {
    sp_str_append(s, &value, sizeof value);
}

static void put_text(sp_str *s, const char *text, size_t n) {
    put_u64(s, n);
    sp_str_append(s, text, n);
}

static void put_key(sp_gguf_out *out, const char *key, sp_gguf_type type) {
    put_text(&out->meta, key, strlen(key));
    put_u32(&out->meta, (uint32_t)type);
    out->n_meta++;
}

static void put_array(sp_gguf_out *out, const char *key, sp_gguf_type type, size_t n) {
    put_key(out, key, SP_GGUF_ARRAY);
    put_u32(&out->meta, (uint32_t)type);
    put_u64(&out->meta, n);
}

void sp_gguf_out_release(sp_gguf_out *out) {
    sp_str_release(&out->meta);
    out->n_meta = 0;
}

void sp_gguf_put_u32(sp_gguf_out *out, const char *key, uint32_t value) {
    put_key(out, key, SP_GGUF_U32);
    put_u32(&out->meta, value);
}

void sp_gguf_put_f32(sp_gguf_out *out, const char *key, float value) {
    put_key(out, key, SP_GGUF_F32);
    sp_str_append(&out->meta, &value, sizeof value);
}

void sp_gguf_put_bool(sp_gguf_out *out, const char *key, bool value) {
    put_key(out, key, SP_GGUF_BOOL);
    sp_str_putc(&out->meta, value ? 1 : 0);
}

void sp_gguf_put_string(sp_gguf_out *out, const char *key, const char *text, size_t n) {
    put_key(out, key, SP_GGUF_STRING);
    put_text(&out->meta, text, n);
}

void sp_gguf_put_i32s(sp_gguf_out *out, const char *key, const int32_t *values, size_t n) {
    put_array(out, key, SP_GGUF_I32, n);
    sp_str_append(&out->meta, values, n * sizeof *values);
}

void sp_gguf_put_bytes(sp_gguf_out *out, const char *key, const char *bytes, size_t n) {
    put_array(out, key, SP_GGUF_U8, n);
    sp_str_append(&out->meta, bytes, n);
}

void sp_gguf_put_f32s(sp_gguf_out *out, const char *key, const float *values, size_t n) {
    put_array(out, key, SP_GGUF_F32, n);
    sp_str_append(&out->meta, values, n * sizeof *values);
}

void sp_gguf_put_strings(sp_gguf_out *out, const char *key, size_t n) {
    put_array(out, key, SP_GGUF_STRING, n);
}

void sp_gguf_put_text(sp_gguf_out *out, const char *text, size_t n) {
    put_text(&out->meta, text, n);
}

/* ---- tensors ---- */

enum { ALIGNMENT = 32 };

static uint64_t align(uint64_t at) {
    return (at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void pad(sp_writer *w) {
    static const char zeros[ALIGNMENT];
    sp_writer_write(w, zeros, (size_t)(align(w->written) - w->written));
}

/* Head of the file and the list of tensors, whose data follow it, each aligned. */
static spar_status make_head(const sp_gguf_out *out, const sp_gguf_source *tensors, size_t n,
                             const char *path, sp_str *head, spar_error *err) {
    spar_status status = sp_str_status(&out->meta, err);
    uint64_t offset = 0;
    SPAR_TRY(status);
    sp_str_append(head, "GGUF", 4);
    put_u32(head, 3);
    put_u64(head, n);
    put_u64(head, out->n_meta);
    sp_str_append(head, sp_str_get(&out->meta), out->meta.len);
    for (size_t i = 0; i < n; i++) {
        const sp_gguf_source *t = &tensors[i];
        int64_t elements;
        size_t bytes;
        if (!sp_dtype_size(t->dtype, t->n_dims, t->dims, &elements, &bytes)) {
            SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s: tensor %s: its rows are no whole blocks",
                               path, t->name));
        }
        put_text(head, t->name, strlen(t->name));
        put_u32(head, (uint32_t)t->n_dims);
        for (int d = t->n_dims - 1; d >= 0; d--) {
            put_u64(head, (uint64_t)t->dims[d]);
        }
        put_u32(head, (uint32_t)sp_dtype_info_of(t->dtype)->ggml);
        put_u64(head, offset);
        offset = align(offset + bytes);
    }
    SPAR_TRY(sp_str_status(head, err));
done:
    return status;
}

static spar_status write_tensor(sp_writer *w, const sp_gguf_source *t, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_dtype_info *type = sp_dtype_info_of(t->dtype);
    const int64_t cols = t->dims[t->n_dims - 1];
    int64_t rows = 1;
    void *row = NULL;
    for (int d = 0; d + 1 < t->n_dims; d++) {
        rows *= t->dims[d];
    }
    const size_t bytes = (size_t)(cols / type->block_elements) * type->block_bytes;
    SPAR_TRY(sp_mem_aligned(&row, bytes, 1, err));
    for (int64_t r = 0; r < rows; r++) {
        type->from_f32(t->data + r * cols, row, cols);
        sp_writer_write(w, row, bytes);
    }
    pad(w);
done:
    free(row);
    return status;
}

spar_status sp_gguf_write(const char *path, const sp_gguf_out *out, const sp_gguf_source *tensors,
                          size_t n, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str head = SP_STR_INIT;
    sp_writer w = {.fd = -1};
    SPAR_TRY(make_head(out, tensors, n, path, &head, err));
    SPAR_TRY(sp_writer_open(&w, path, err));
    sp_writer_write(&w, sp_str_get(&head), head.len);
    pad(&w);
    for (size_t i = 0; i < n; i++) {
        SPAR_TRY(write_tensor(&w, &tensors[i], err));
    }
    SPAR_TRY(sp_writer_commit(&w, err));
done:
    if (status != SPAR_OK) {
        sp_writer_abort(&w);
    }
    sp_str_release(&head);
    return status;
}
