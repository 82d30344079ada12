#include "model/fingerprint.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "model/engine.h"
#include "model/lora.h"

/* FNV-1a over 64-bit words, one chunk a parameter, then over the chunks' results. */
static const uint64_t fnv_start = 14695981039346656037U;
static const uint64_t fnv_prime = 1099511628211U;

static uint64_t mix(uint64_t hash, uint64_t word) {
    hash ^= word;
    hash *= fnv_prime;
    return hash ^ (hash >> 29);
}

static uint64_t hash_floats(uint64_t hash, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        hash = mix(hash, bits);
    }
    return hash;
}

/* Blocks hash as the floats that they stand for. */
static uint64_t hash_param(const spar_model *m, int i) {
    const sp_param *p = &m->params.items[i];
    if (p->offset >= 0) {
        return hash_floats(fnv_start, m->weights + p->offset, p->count);
    }
    uint64_t hash = fnv_start;
    float piece[SP_AFFINE_BLOCK];
    for (int64_t at = 0; at < p->count; at += SP_AFFINE_BLOCK) {
        sp_blocks_piece(m->matrices[i].blocks, at / p->cols, at % p->cols / SP_AFFINE_BLOCK, piece);
        hash = hash_floats(hash, piece, SP_AFFINE_BLOCK);
    }
    return hash;
}

uint64_t sp_model_fingerprint(const spar_model *m) {
    uint64_t total = mix(fnv_start, (uint64_t)m->config.vocab);
    for (int i = 0; i < m->params.n; i++) {
        total = mix(total, hash_param(m, i));
    }
    if (m->lora) {
        total = mix(total, hash_floats(fnv_start, m->lora->values, m->lora->total));
    }
    return total;
}

static uint64_t hash_bytes(uint64_t hash, const uint8_t *bytes, size_t n) {
    hash = mix(hash, n);
    for (size_t at = 0; at < n; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, bytes + at, n - at < sizeof word ? n - at : sizeof word);
        hash = mix(hash, word);
    }
    return hash;
}

uint64_t sp_bytes_fingerprint(const void *bytes, size_t n) {
    return hash_bytes(fnv_start, bytes, n);
}

static spar_status hash_file(uint64_t *hash, const char *path, spar_error *err) {
    sp_map map;
    const spar_status status = sp_map_open(&map, path, err);
    if (status == SPAR_OK) {
        *hash = hash_bytes(*hash, map.data, map.size);
        sp_map_close(&map);
    }
    return status;
}

static bool is_model_file(const char *name) {
    static const char *const ends[] = {".json", ".safetensors", ".model", ".jinja"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof ends / sizeof ends[0]; i++) {
        if (strcmp(dot, ends[i]) == 0) {
            return true;
        }
    }
    return false;
}

spar_status sp_files_fingerprint(const char *path, uint64_t *out, spar_error *err) {
    spar_status status = SPAR_OK;
    char **names = NULL, *file = NULL;
    size_t n = 0;
    *out = fnv_start;
    if (!sp_file_is_dir(path)) {
        return hash_file(out, path, err);
    }
    SPAR_TRY(sp_dir_list(path, &names, &n, err));
    for (size_t i = 0; i < n; i++) {
        free(file);
        file = NULL;
        SPAR_TRY(sp_path_join(&file, path, names[i], err));
        if (is_model_file(names[i]) && !sp_file_is_dir(file)) {
            *out = hash_bytes(*out, (const uint8_t *)names[i], strlen(names[i]));
            SPAR_TRY(hash_file(out, file, err));
        }
    }
done:
    free(file);
    sp_names_free(names, n);
    return status;
}
