/* 64-bit fingerprints, to notice that a model is another one than before. Not cryptographic. */
#ifndef SP_MODEL_FINGERPRINT_H
#define SP_MODEL_FINGERPRINT_H

#include <stddef.h>
#include <stdint.h>

#include "spar/model.h"

/* Of a loaded model's shape and weights. */
uint64_t sp_model_fingerprint(const spar_model *model);
/* Of n bytes. */
uint64_t sp_bytes_fingerprint(const void *bytes, size_t n);
/* Of the bytes on disk: a file, or the files of a folder that a model is read from (their names
 * with *.json, *.safetensors, *.model and *.jinja; not of folders in it). */
spar_status sp_files_fingerprint(const char *path, uint64_t *out, spar_error *err);

#endif
