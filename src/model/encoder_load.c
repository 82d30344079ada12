/* Loading an encoder: every tensor is found and its shape checked before memory is taken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/safetensors.h"
#include "model/encoder_parts.h"
#include "model/encoder_ranker.h"
#include "tensor/dtype.h"

/* The walk over all weights: with base NULL it measures, then it fills. */
typedef struct walker {
    const sp_safetensors *file; /* NULL: random weights of `seed` */
    uint64_t seed;
    const char *path;
    float *base; /* NULL while measuring */
    size_t used; /* floats */
    spar_error *err;
} walker;

enum { MAX_LABELS = 1 << 16 };

static const sp_tensor_entry *find(const walker *w, const char *name) {
    const sp_tensor_entry *entry = w->file ? sp_safetensors_find(w->file, name) : NULL;
    /* Older BERT files name the two vectors of a layer norm otherwise. */
    static const char *const old[][2] = {{"LayerNorm.weight", "gamma"}, {"LayerNorm.bias", "beta"}};
    for (int i = 0; i < 2 && w->file && !entry; i++) {
        const size_t n = strlen(name), tail = strlen(old[i][0]);
        if (n > tail && strcmp(name + n - tail, old[i][0]) == 0) {
            char older[256];
            snprintf(older, sizeof older, "%.*sLayerNorm.%s", (int)(n - tail), name, old[i][1]);
            entry = sp_safetensors_find(w->file, older);
        }
    }
    return entry;
}

static spar_status check_entry(const walker *w, const sp_tensor_entry *entry, const char *name,
                               int64_t rows, int64_t cols) {
    if (!entry) {
        return spar_fail(w->err, SPAR_NOT_FOUND, "%s: tensor %s is missing", w->path, name);
    }
    if (!sp_dtype_info_of(entry->dtype)->to_f32) {
        return spar_fail(w->err, SPAR_UNSUPPORTED,
                         "%s: tensor %s: expected a floating-point type, found %s", w->path, name,
                         sp_dtype_info_of(entry->dtype)->name);
    }
    const int dims = cols ? 2 : 1;
    if (entry->n_dims != dims || entry->dims[0] != rows || (cols && entry->dims[1] != cols)) {
        return spar_fail(
            w->err, SPAR_MISMATCH,
            "%s: tensor %s: expected %d dimensions, %lld x %lld, found %d, %lld x %lld", w->path,
            name, dims, (long long)rows, (long long)(cols ? cols : 1), entry->n_dims,
            (long long)(entry->n_dims > 0 ? entry->dims[0] : 1),
            (long long)(entry->n_dims > 1 ? entry->dims[1] : 1));
    }
    return SPAR_OK;
}

static bool ends_with(const char *name, const char *end) {
    const size_t n = strlen(name), tail = strlen(end);
    return n >= tail && strcmp(name + n - tail, end) == 0;
}

/* The values of a tensor at a place of the flat array, where none are read: gains are 1, others
 * uniform with standard deviation 0.02, four numbers of 16 bits from each random word. */
static void make_values(const walker *w, const char *name, float *to, int64_t count) {
    const float step = 0.02F * 3.46410162F / 65536.0F;
    if (ends_with(name, "LayerNorm.weight")) {
        for (int64_t i = 0; i < count; i++) {
            to[i] = 1;
        }
        return;
    }
    for (int64_t i = 0; i < count; i += 4) {
        const uint64_t word = sp_rng_u64(w->seed, w->used, (uint64_t)i);
        for (int64_t k = 0; k < 4 && i + k < count; k++) {
            to[i + k] = ((float)(uint16_t)(word >> (16 * k)) - 32767.5F) * step;
        }
    }
}

/* *out = the tensor [rows, cols] (cols 0: a vector), every one on a 64-byte line. */
static spar_status take_entry(walker *w, const sp_tensor_entry *entry, const char *name,
                              int64_t rows, int64_t cols, const float **out) {
    spar_status status = SPAR_OK;
    const int64_t count = rows * (cols ? cols : 1);
    if (w->file) {
        SPAR_TRY(check_entry(w, entry, name, rows, cols));
    }
    if (w->base) {
        float *to = w->base + w->used;
        if (w->file) {
            sp_dtype_info_of(entry->dtype)->to_f32(entry->data, to, count);
        } else {
            make_values(w, name, to, count);
        }
        *out = to;
    }
    w->used += (size_t)(count + 15) / 16 * 16;
done:
    return status;
}

static spar_status take(walker *w, const char *name, int64_t rows, int64_t cols,
                        const float **out) {
    return take_entry(w, find(w, name), name, rows, cols, out);
}

static const char *join(char name[192], const char *prefix, const char *rest) {
    snprintf(name, 192, "%s%s", prefix, rest);
    return name;
}

static spar_status take_linear(walker *w, const char *stem, int64_t out, int64_t in, bool bias,
                               sp_encoder_linear *l) {
    spar_status status = SPAR_OK;
    char name[256];
    l->w.out = out;
    l->w.in = in;
    snprintf(name, sizeof name, "%s.weight", stem);
    SPAR_TRY(take(w, name, out, in, &l->w.data));
    if (bias) {
        snprintf(name, sizeof name, "%s.bias", stem);
        SPAR_TRY(take(w, name, out, 0, &l->bias));
    }
done:
    return status;
}

static spar_status take_norm(walker *w, const char *stem, int64_t dim, sp_encoder_norm *norm) {
    spar_status status = SPAR_OK;
    char name[256];
    snprintf(name, sizeof name, "%s.weight", stem);
    SPAR_TRY(take(w, name, dim, 0, &norm->gain));
    snprintf(name, sizeof name, "%s.bias", stem);
    SPAR_TRY(take(w, name, dim, 0, &norm->bias));
done:
    return status;
}

/* [hidden, hidden, taps] as a matrix [hidden, hidden x taps]. */
static spar_status take_convolution(walker *w, const sp_encoder_config *c, const char *name,
                                    sp_encoder_linear *l) {
    const sp_tensor_entry *found = find(w, name);
    sp_tensor_entry flat = found ? *found : (sp_tensor_entry){0};
    if (found && flat.n_dims == 3 && flat.dims[1] == c->hidden && flat.dims[2] == c->taps) {
        flat.n_dims = 2;
        flat.dims[1] *= c->taps;
    }
    l->w.out = c->hidden;
    l->w.in = c->hidden * c->taps;
    return take_entry(w, found ? &flat : NULL, name, l->w.out, l->w.in, &l->w.data);
}

static spar_status walk_convolution(walker *w, sp_encoder *e) {
    const char *p = e->config.arch->prefix;
    const int64_t H = e->config.hidden;
    spar_status status = SPAR_OK;
    char name[192];
    SPAR_TRY(take_convolution(w, &e->config, join(name, p, "encoder.conv.conv.weight"),
                              &e->convolution));
    SPAR_TRY(take(w, join(name, p, "encoder.conv.conv.bias"), H, 0, &e->convolution.bias));
    SPAR_TRY(take_norm(w, join(name, p, "encoder.conv.LayerNorm"), H, &e->convolution_norm));
done:
    return status;
}

static spar_status walk_layer(walker *w, const sp_encoder_config *c, int i, sp_encoder_layer *l) {
    const int64_t H = c->hidden;
    const bool own = c->span > 0 && !c->shared;
    const struct {
        const char *stem;
        int64_t out, in;
        bool there;
        sp_encoder_linear *to;
    } linears[] = {
        {c->arch->query, H, H, true, &l->q},
        {c->arch->key, H, H, true, &l->k},
        {c->arch->value, H, H, true, &l->v},
        {"pos_key_proj", H, H, own && c->c2p, &l->pos_key},
        {"pos_query_proj", H, H, own && c->p2c, &l->pos_query},
        {"attention.output.dense", H, H, true, &l->o},
        {"intermediate.dense", c->ffn, H, true, &l->up},
        {"output.dense", H, c->ffn, true, &l->down},
    };
    enum { IN_ATTENTION = 5 };
    spar_status status = SPAR_OK;
    char stem[192];
    for (int j = 0; j < (int)(sizeof linears / sizeof linears[0]); j++) {
        if (linears[j].there) {
            snprintf(stem, sizeof stem, "%sencoder.layer.%d.%s%s", c->arch->prefix, i,
                     j < IN_ATTENTION ? "attention.self." : "", linears[j].stem);
            SPAR_TRY(take_linear(w, stem, linears[j].out, linears[j].in, true, linears[j].to));
        }
    }
    snprintf(stem, sizeof stem, "%sencoder.layer.%d.attention.output.LayerNorm", c->arch->prefix,
             i);
    SPAR_TRY(take_norm(w, stem, H, &l->attention_norm));
    snprintf(stem, sizeof stem, "%sencoder.layer.%d.output.LayerNorm", c->arch->prefix, i);
    SPAR_TRY(take_norm(w, stem, H, &l->output_norm));
done:
    return status;
}

static spar_status walk_embeddings(walker *w, sp_encoder *e) {
    const sp_encoder_config *c = &e->config;
    const char *p = c->arch->prefix;
    spar_status status = SPAR_OK;
    char name[192];
    e->words.out = c->vocab;
    e->words.in = c->embedding;
    SPAR_TRY(take(w, join(name, p, "embeddings.word_embeddings.weight"), c->vocab, c->embedding,
                  &e->words.data));
    if (c->absolute) {
        SPAR_TRY(take(w, join(name, p, "embeddings.position_embeddings.weight"), c->positions,
                      c->embedding, &e->positions));
    }
    if (c->types > 0) {
        SPAR_TRY(take(w, join(name, p, "embeddings.token_type_embeddings.weight"), c->types,
                      c->embedding, &e->types));
    }
    if (c->embedding != c->hidden) {
        SPAR_TRY(take_linear(w, join(name, p, "embeddings.embed_proj"), c->hidden, c->embedding,
                             false, &e->embedding_projection));
    }
    SPAR_TRY(take_norm(w, join(name, p, "embeddings.LayerNorm"), c->hidden, &e->embedding_norm));
    if (c->span > 0) {
        SPAR_TRY(take(w, join(name, p, "encoder.rel_embeddings.weight"), 2 * c->span, c->hidden,
                      &e->relative));
    }
    if (c->span > 0 && c->norm_relative) {
        SPAR_TRY(take_norm(w, join(name, p, "encoder.LayerNorm"), c->hidden, &e->relative_norm));
    }
done:
    return status;
}

/* The number of labels is what the file's last layer has. Those of a pair pass through arrays of
 * the hidden size. */
static spar_status walk_head(walker *w, sp_encoder *e) {
    const sp_encoder_config *c = &e->config;
    spar_status status = SPAR_OK;
    char name[192];
    const int64_t in = c->arch->pair ? 2 * c->hidden : c->hidden;
    const int64_t most = c->arch->pair ? c->hidden : MAX_LABELS;
    SPAR_TRY(take_linear(w, c->arch->head_dense, c->hidden, in, true, &e->head_dense));
    const sp_tensor_entry *last = find(w, join(name, c->arch->head_out, ".weight"));
    e->labels = last && last->n_dims == 2 ? last->dims[0] : 1;
    if (e->labels < 1 || e->labels > most) {
        SPAR_TRY(spar_fail(w->err, SPAR_FORMAT,
                           "%s: tensor %s: expected 1 to %lld rows, found %lld", w->path, name,
                           (long long)most, (long long)e->labels));
    }
    SPAR_TRY(take_linear(w, c->arch->head_out, e->labels, c->hidden, true, &e->head_out));
done:
    return status;
}

static spar_status walk(walker *w, sp_encoder *e) {
    spar_status status = SPAR_OK;
    w->used = 0;
    SPAR_TRY(walk_embeddings(w, e));
    if (e->config.taps > 0) {
        SPAR_TRY(walk_convolution(w, e));
    }
    for (int i = 0; i < e->config.layers; i++) {
        SPAR_TRY(walk_layer(w, &e->config, i, &e->layers[i]));
    }
    SPAR_TRY(walk_head(w, e));
done:
    return status;
}

/* All matrices that products meet; fn is called with each. */
typedef spar_status (*weight_fn)(sp_backend *be, sp_weight *w, spar_error *err);

static spar_status prepare(sp_backend *be, sp_weight *w, spar_error *err) {
    return be->ops->weight_prepare(be, w, SP_PREPARE_FORWARD, err);
}

static spar_status release(sp_backend *be, sp_weight *w, spar_error *err) {
    (void)err;
    be->ops->weight_release(be, w);
    return SPAR_OK;
}

static spar_status each_weight(sp_encoder *e, weight_fn fn, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_encoder_linear *const outer[] = {&e->embedding_projection, &e->convolution, &e->head_dense,
                                        &e->head_out};
    for (size_t i = 0; i < sizeof outer / sizeof outer[0]; i++) {
        if (outer[i]->w.data) {
            SPAR_TRY(fn(e->backend, &outer[i]->w, err));
        }
    }
    for (int i = 0; e->layers && i < e->config.layers; i++) {
        sp_encoder_layer *l = &e->layers[i];
        sp_encoder_linear *const inner[] = {&l->q,  &l->k,    &l->v,       &l->o,
                                            &l->up, &l->down, &l->pos_key, &l->pos_query};
        for (size_t j = 0; j < sizeof inner / sizeof inner[0]; j++) {
            if (inner[j]->w.data) {
                SPAR_TRY(fn(e->backend, &inner[j]->w, err));
            }
        }
    }
done:
    return status;
}

/* Place and fill all weights; w has where they come from. */
static spar_status take_weights(walker *w, sp_encoder *e) {
    spar_status status = SPAR_OK;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)e->config.layers, sizeof *e->layers, w->err));
    e->layers = memory;
    SPAR_TRY(walk(w, e));
    SPAR_TRY(sp_mem_aligned(&memory, w->used, sizeof(float), w->err));
    e->weights = w->base = memory;
    SPAR_TRY(walk(w, e));
done:
    return status;
}

static spar_status load_weights(sp_encoder *e, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_safetensors *file = NULL;
    SPAR_TRY(sp_safetensors_open(&file, dir, err));
    walker w = {.file = file, .path = dir, .err = err};
    SPAR_TRY(take_weights(&w, e));
done:
    sp_safetensors_free(file);
    return status;
}

static spar_status read_config(sp_encoder *e, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    json_t *root = NULL, *ranker = NULL;
    SPAR_TRY(sp_path_join(&path, dir, "config.json", err));
    SPAR_TRY(sp_json_load(&root, path, err));
    if (sp_encoder_is_ranker(root)) {
        ranker = root;
        root = NULL;
        SPAR_TRY(sp_encoder_ranker_config(&root, ranker, dir, path, err));
    }
    SPAR_TRY(sp_encoder_config_read(&e->config, root, path, err));
done:
    json_decref(root);
    json_decref(ranker);
    free(path);
    return status;
}

static spar_status create(sp_encoder **out, const spar_model_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    if (options->dtype != SPAR_DTYPE_AUTO && options->dtype != SPAR_DTYPE_F32 &&
        options->dtype != SPAR_DTYPE_BF16) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "dtype of an encoder: expected f32 or bf16"));
    }
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof **out, err));
    *out = memory;
done:
    return status;
}

/* Threads and kernels, once the weights are there. */
static spar_status make_ready(sp_encoder *e, const spar_model_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_pool_create(&e->pool, options->threads, err));
    SPAR_TRY(sp_backend_create(
        &e->backend, options->reference ? SP_BACKEND_REFERENCE : SP_BACKEND_AUTO,
        options->dtype == SPAR_DTYPE_BF16 ? SP_COMPUTE_BF16 : SP_COMPUTE_F32, e->pool, err));
    SPAR_TRY(each_weight(e, prepare, err));
    SPAR_TRY(sp_encoder_project_positions(e, err));
done:
    return status;
}

spar_status sp_encoder_load(sp_encoder **out, const char *dir, const spar_model_options *options,
                            spar_error *err) {
    static const spar_model_options defaults = {0};
    spar_status status = SPAR_OK;
    sp_encoder *e = NULL;
    options = options ? options : &defaults;
    SPAR_TRY(create(&e, options, err));
    SPAR_TRY(read_config(e, dir, err));
    SPAR_TRY(load_weights(e, dir, err));
    SPAR_TRY(make_ready(e, options, err));
    *out = e;
    e = NULL;
done:
    sp_encoder_free(e);
    return status;
}

spar_status sp_encoder_random(sp_encoder **out, const json_t *config, uint64_t seed,
                              const spar_model_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_encoder *e = NULL;
    walker w = {.seed = seed, .path = "random weights", .err = err};
    SPAR_TRY(create(&e, options, err));
    SPAR_TRY(sp_encoder_config_read(&e->config, config, w.path, err));
    SPAR_TRY(take_weights(&w, e));
    SPAR_TRY(make_ready(e, options, err));
    *out = e;
    e = NULL;
done:
    sp_encoder_free(e);
    return status;
}

void sp_encoder_free(sp_encoder *e) {
    if (!e) {
        return;
    }
    if (e->backend) {
        each_weight(e, release, NULL);
    }
    sp_backend_free(e->backend);
    sp_pool_free(e->pool);
    free(e->space.block);
    free(e->layers);
    free(e->weights);
    free(e->relative_weights);
    free(e);
}

int64_t sp_encoder_hidden_size(const sp_encoder *e) {
    return e->config.hidden;
}

int64_t sp_encoder_labels(const sp_encoder *e) {
    return e->labels;
}

int64_t sp_encoder_matmul_parameters(const sp_encoder *e) {
    const sp_encoder_config *c = &e->config;
    return c->layers * (4 * c->hidden * c->hidden + 2 * c->hidden * c->ffn);
}

int64_t sp_encoder_context(const sp_encoder *e) {
    return sp_encoder_config_context(&e->config);
}

int64_t sp_encoder_types(const sp_encoder *e) {
    return e->config.types;
}

bool sp_encoder_doubles_separator(const sp_encoder *e) {
    return e->config.arch->positions_after_pad;
}

bool sp_encoder_compares(const sp_encoder *e) {
    return e->config.arch->pair;
}
