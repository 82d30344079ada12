/* The life of a model: threads, backend, prepared weights. Loading is in load.c. */
#include "model/model_create.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/engine.h"
#include "model/lora.h"

static sp_compute choose_compute(spar_dtype dtype) {
    if (dtype == SPAR_DTYPE_AUTO) {
        return sp_backend_has_bf16() ? SP_COMPUTE_BF16 : SP_COMPUTE_F32;
    }
    return dtype == SPAR_DTYPE_BF16 ? SP_COMPUTE_BF16 : SP_COMPUTE_F32;
}

static spar_status make_rope(spar_model *m, sp_table table, int64_t positions, size_t cells,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    void *cosines = NULL, *sines = NULL;
    SPAR_TRY(sp_mem_aligned(&cosines, cells, sizeof(float), err));
    SPAR_TRY(sp_mem_aligned(&sines, cells, sizeof(float), err));
    sp_rope_table(&m->config, table, positions, cosines, sines);
    free(m->cos_table[table]);
    free(m->sin_table[table]);
    m->cos_table[table] = cosines;
    m->sin_table[table] = sines;
    cosines = sines = NULL;
done:
    free(cosines);
    free(sines);
    return status;
}

/* The rotary tables grow with the sequences that are met: a context of a million positions costs
 * nothing until it is used. */
spar_status sp_model_reserve_positions(spar_model *m, int64_t n, spar_error *err) {
    spar_status status = SPAR_OK;
    if (n > m->config.context) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT,
                           "%s: a sequence of %lld tokens is longer than the model's context of "
                           "%lld",
                           m->path, (long long)n, (long long)m->config.context));
    }
    if (n <= m->rope_positions) {
        goto done;
    }
    int64_t positions = 1024;
    while (positions < n) {
        positions *= 2;
    }
    size_t cells = (size_t)positions * (size_t)m->config.rotary_dim / 2;
    for (sp_table table = SP_TABLE_ALL; table < SP_TABLES; table++) {
        if (sp_rope_has_table(&m->config, table)) {
            SPAR_TRY(make_rope(m, table, positions, cells, err));
        }
    }
    m->rope_positions = positions;
done:
    return status;
}

/* Positions and an untied embedding are only looked up: they need no product. */
static bool has_products(const spar_model *m, const sp_param *p) {
    return p->cols > 0 && p->role != SP_POSITIONS && (p->role != SP_EMBED || m->config.tied);
}

static spar_status make_matrices(spar_model *m, const sp_affine_form *forms, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)m->params.n, sizeof *m->matrices, err));
    m->matrices = memory;
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        sp_weight *w = &m->matrices[i];
        if (p->cols > 0) {
            w->out = p->rows;
            w->in = p->cols;
        }
        if (p->offset < 0 && forms[i].bits > 0) {
            SPAR_TRY(sp_blocks_create(&w->blocks, p->rows, p->cols, forms[i], err));
            /* which puts them where they stay: filled first, they would be there twice */
            SPAR_TRY(m->backend->ops->weight_prepare(m->backend, w, SP_PREPARE_FORWARD, err));
        } else if (p->offset >= 0 && p->cols > 0) {
            w->data = m->weights + p->offset;
        }
    }
done:
    return status;
}

/* Leave the matrices that are to be blocks out of the flat array, and those of which products read
 * copies alone; embeddings and positions are looked up in f32. */
static spar_status freeze(spar_model *m, const sp_affine_form *forms, spar_error *err) {
    void *memory;
    const spar_status status = sp_mem_calloc(&memory, (size_t)m->params.n, sizeof(bool), err);
    if (status == SPAR_OK) {
        bool *frozen = memory;
        for (int i = 0; i < m->params.n; i++) {
            const sp_param *p = &m->params.items[i];
            const bool looked_up = p->role == SP_EMBED || p->role == SP_POSITIONS;
            const bool copied = m->inference && p->cols > 0 && !looked_up;
            frozen[i] = forms[i].bits > 0 || copied;
            m->frozen = m->frozen || frozen[i];
        }
        sp_params_freeze(&m->params, frozen);
        free(memory);
    }
    return status;
}

/* Zero the weights, or only what lies between parameters. */
static void clear(spar_model *m, bool between) {
    int64_t at = 0;
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        if (between && p->offset >= 0) {
            memset(m->weights + at, 0, (size_t)(p->offset - at) * sizeof(float));
            at = p->offset + p->count;
        }
    }
    memset(m->weights + at, 0, (size_t)(m->params.total - at) * sizeof(float));
}

spar_status sp_model_create(spar_model **out, const sp_config *config, const char *path,
                            const spar_model_options *options, const sp_affine_form *forms,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL;
    spar_model *m = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *m, err));
    m = memory;
    m->config = *config;
    m->terms = options->dtype == SPAR_DTYPE_INT8 ? 1 : options->dtype == SPAR_DTYPE_INT16 ? 2 : 0;
    if (options->sink) {
        m->sink = *options->sink;
    }
    SPAR_TRY(sp_mem_strdup(&m->path, path, strlen(path), err));
    SPAR_TRY(sp_params_create(&m->params, config, err));
    SPAR_TRY(sp_pool_create(&m->pool, options->threads, err));
    SPAR_TRY(sp_backend_create(&m->backend,
                               options->reference ? SP_BACKEND_REFERENCE : SP_BACKEND_AUTO,
                               choose_compute(options->dtype), m->pool, err));
    m->inference = forms && options->inference && !options->adapter && m->backend->copies;
    if (forms) {
        SPAR_TRY(freeze(m, forms, err));
    }
    SPAR_TRY(sp_mem_aligned(&memory, (size_t)m->params.total, sizeof(float), err));
    m->weights = memory;
    clear(m, forms != NULL);
    if (config->arch->norm == SP_LAYER_NORM_BARE || config->arch->norm == SP_RMS_NORM_BARE) {
        const int64_t widest =
            config->hidden > config->head_dim ? config->hidden : config->head_dim;
        SPAR_TRY(sp_mem_aligned(&memory, (size_t)widest, sizeof(float), err));
        m->ones = memory;
        for (int64_t i = 0; i < widest; i++) {
            m->ones[i] = 1.0F;
        }
    }
    if (config->alibi > 0) {
        SPAR_TRY(sp_mem_aligned(&memory, (size_t)config->heads, sizeof(float), err));
        m->slopes = memory;
        sp_alibi_slopes(config, m->slopes);
    }
    SPAR_TRY(sp_model_reserve_positions(m, 1, err));
    SPAR_TRY(make_matrices(m, forms, err));
    *out = m;
    m = NULL;
done:
    spar_model_free(m);
    return status;
}

void spar_model_free(spar_model *m) {
    if (!m) {
        return;
    }
    sp_lora_detach(m);
    for (int i = 0; m->matrices && i < m->params.n; i++) {
        if (m->backend) {
            m->backend->ops->weight_release(m->backend, &m->matrices[i]);
        }
        sp_blocks_free(m->matrices[i].blocks);
    }
    free(m->matrices);
    sp_backend_free(m->backend);
    sp_pool_free(m->pool);
    sp_params_release(&m->params);
    free(m->weights);
    free(m->ones);
    free(m->slopes);
    for (int table = 0; table < SP_TABLES; table++) {
        free(m->cos_table[table]);
        free(m->sin_table[table]);
    }
    spar_tokenizer_free(m->tokenizer);
    spar_template_free(m->chat_template);
    free(m->path);
    free(m);
}

spar_status sp_model_prepare_copy(spar_model *m, int i, const float *values, spar_error *err) {
    sp_weight *w = &m->matrices[i];
    const bool head = m->params.items[i].role == SP_HEAD;
    w->data = values;
    const spar_status status = m->backend->ops->weight_prepare(
        m->backend, w, SP_PREPARE_FORWARD | (head ? SP_PREPARE_HEAD : 0), err);
    w->data = NULL;
    return status;
}

spar_status sp_model_prepare(spar_model *m, bool backward, spar_error *err) {
    spar_status status = SPAR_OK;
    const bool changing = backward && m->lora == NULL;
    const int what = SP_PREPARE_FORWARD | (backward ? SP_PREPARE_BACKWARD : 0) |
                     (changing ? SP_PREPARE_EACH : 0);
    const sp_param *head = sp_params_get(&m->params, SP_HEAD, 0);
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        if (has_products(m, p)) {
            SPAR_TRY(m->backend->ops->weight_prepare(
                m->backend, &m->matrices[i], what | (p == head ? SP_PREPARE_HEAD : 0), err));
        }
    }
    SPAR_TRY(sp_lora_prepare(m, backward, err));
    m->prepared_backward = backward;
    m->changing = changing;
done:
    return status;
}

void sp_model_floats(const spar_model *m, const sp_param *p, float *out) {
    const sp_blocks *blocks = m->matrices[p - m->params.items].blocks;
    assert(p->offset >= 0 || blocks);
    if (p->offset >= 0) {
        memcpy(out, m->weights + p->offset, (size_t)p->count * sizeof *out);
    } else {
        for (int64_t row = 0; row < p->rows; row++) {
            sp_blocks_row(blocks, row, out + row * p->cols);
        }
    }
    sp_lora_merge(m, p, out);
}

sp_trainable sp_model_trainable(const spar_model *m) {
    return m->lora ? (sp_trainable){m->lora->values, m->lora->total}
                   : (sp_trainable){m->weights, m->params.total};
}

spar_status sp_model_check_floats(const spar_model *m, const char *what, spar_error *err) {
    return m->inference ? spar_fail(err, SPAR_UNSUPPORTED,
                                    "%s: %s: expected a model with its weights, found one that was "
                                    "loaded for inference alone",
                                    m->path, what)
                        : SPAR_OK;
}

spar_status sp_model_check_trainable(const spar_model *m, spar_error *err) {
    if (m->terms > 0) {
        return spar_fail(err, SPAR_UNSUPPORTED,
                         "%s: training: expected products in f32 or bf16, found whole numbers",
                         m->path);
    }
    const spar_status status = sp_model_check_floats(m, "training", err);
    if (status != SPAR_OK) {
        return status;
    }
    if (m->frozen && !m->lora) {
        return spar_fail(err, SPAR_UNSUPPORTED,
                         "%s: training: expected f32 weights or an adapter, found weights in "
                         "quantised blocks, which do not train",
                         m->path);
    }
    if (m->lora && (m->lora->settings.dora || m->lora->mixes) && m->lora->settings.dropout > 0) {
        return spar_fail(err, SPAR_UNSUPPORTED,
                         "%s: training: expected an adapter %s to have no dropout, found %g",
                         m->path, m->lora->mixes ? "of experts" : "with magnitudes (DoRA)",
                         m->lora->settings.dropout);
    }
    return SPAR_OK;
}

spar_status sp_model_prepare_trainable(spar_model *m, spar_error *err) {
    return m->lora ? sp_lora_prepare(m, true, err) : sp_model_prepare(m, true, err);
}

const sp_weight *sp_model_matrix(const spar_model *m, sp_role role, int layer) {
    int i = m->params.index[(int)role * m->params.layers + layer];
    return i < 0 ? NULL : &m->matrices[i];
}

spar_status sp_model_product(const spar_model *m, const sp_weight *w, const float *bias,
                             const void *x, int64_t T, float *y, bool accumulate, spar_error *err) {
    const sp_ops *ops = m->backend->ops;
    return m->terms > 0 && w->blocks != NULL
               ? ops->linear_whole(m->backend, w, bias, x, m->terms, T, y, accumulate, err)
               : ops->linear(m->backend, w, bias, x, T, y, accumulate, err);
}

spar_status sp_model_check_ids(const spar_model *m, const int32_t *ids, size_t n, spar_error *err) {
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= m->config.vocab) {
            return spar_fail(err, SPAR_INVALID, "token %zu: expected an id in 0..%lld, found %d", i,
                             (long long)m->config.vocab - 1, (int)ids[i]);
        }
    }
    return SPAR_OK;
}

/* What a row of the cache has of a layer. */
static int64_t values_width(const sp_config *c, int layer) {
    return c->conv[layer] ? 0 : (int64_t)c->kv_heads * c->head_dim;
}

static int64_t keys_width(const sp_config *c, int layer) {
    return c->conv[layer] ? c->hidden : values_width(c, layer);
}

spar_status sp_kv_cache_init(sp_kv_cache *out, const spar_model *m, int64_t rows, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    memset(out, 0, sizeof *out);
    out->rows = rows;
    out->bf16 = m->backend->compute == SP_COMPUTE_BF16 || m->terms == 1;
    const size_t size = out->bf16 ? sizeof(uint16_t) : sizeof(float);
    size_t cells = 0;
    for (int l = 0; l < m->config.layers; l++) {
        cells += (size_t)(keys_width(&m->config, l) + values_width(&m->config, l));
    }
    if (!sp_mem_mul(cells, (size_t)rows, &cells)) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT, "a key-value cache of %lld rows is too large",
                           (long long)rows));
    }
    SPAR_TRY(sp_mem_aligned(&memory, cells, size, err));
    out->memory = memory;
    char *at = memory;
    for (int l = 0; l < m->config.layers; l++) {
        out->k[l] = at;
        at += (size_t)(keys_width(&m->config, l) * rows) * size;
        out->v[l] = at;
        at += (size_t)(values_width(&m->config, l) * rows) * size;
    }
done:
    if (status != SPAR_OK) {
        sp_kv_cache_release(out);
    }
    return status;
}

void sp_kv_cache_release(sp_kv_cache *cache) {
    free(cache->memory);
    memset(cache, 0, sizeof *cache);
}

const spar_tokenizer *spar_model_tokenizer(const spar_model *m) {
    return m->tokenizer;
}

const spar_template *spar_model_template(const spar_model *m) {
    return m->chat_template;
}

int64_t spar_model_vocab(const spar_model *m) {
    return m->config.vocab;
}

int64_t spar_model_context(const spar_model *m) {
    return m->config.context;
}

int64_t spar_model_parameters(const spar_model *m) {
    return sp_params_elements(&m->params);
}

int64_t spar_model_matmul_parameters(const spar_model *m) {
    double n = 0;
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        n += has_products(m, p) ? sp_params_share(&m->config, p->role) * (double)p->count : 0;
    }
    return (int64_t)(n + 0.5);
}

const char *spar_model_backend(const spar_model *m) {
    return sp_backend_describe(m->backend);
}

const char *spar_model_path(const spar_model *m) {
    return m->path;
}

const int32_t *spar_model_eos(const spar_model *m, int *n) {
    *n = m->config.n_eos;
    return m->config.eos;
}
