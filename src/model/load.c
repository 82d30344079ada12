/* Loading a model: a Hugging Face folder or a GGUF file into the flat f32 weights.
 *
 * All tensors are found and their shapes checked before the weights are allocated, so that a
 * configuration that promises more than the file holds costs nothing.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "model/engine.h"
#include "model/lora.h"
#include "model/model_create.h"
#include "model/vocab_gguf.h"
#include "tensor/dtype.h"

/* Where one parameter comes from. */
typedef struct source {
    const void *data; /* borrowed from the map */
    sp_dtype dtype;
    int n_dims;
    int64_t dims[4];
    bool permuted; /* rows are stored for interleaved rotary pairs */
} source;

static spar_status check_shape(const sp_param *p, const source *s, const char *path,
                               const char *name, spar_error *err) {
    bool matrix = p->cols > 0;
    bool ok = matrix ? s->n_dims == 2 && s->dims[0] == p->rows && s->dims[1] == p->cols
                     : s->n_dims == 1 && s->dims[0] == p->rows;
    if (!ok) {
        char found[128] = "";
        size_t used = 0;
        for (int i = 0; i < s->n_dims && used < sizeof found; i++) {
            used += (size_t)snprintf(found + used, sizeof found - used, "%s%lld", i ? ", " : "",
                                     (long long)s->dims[i]);
        }
        return matrix ? spar_fail(err, SPAR_MISMATCH,
                                  "%s: tensor %s: expected shape [%lld, %lld], found [%s]", path,
                                  name, (long long)p->rows, (long long)p->cols, found)
                      : spar_fail(err, SPAR_MISMATCH,
                                  "%s: tensor %s: expected shape [%lld], found [%s]", path, name,
                                  (long long)p->rows, found);
    }
    return SPAR_OK;
}

typedef struct fill_context {
    const sp_params *params;
    const source *sources;
    const sp_config *config;
    float *weights;
} fill_context;

/* GGUF files of the llama family store the rows of q and k head by head as (half, 2) where the
 * checkpoint has (2, half): undo it. */
static void fill_permuted(const sp_param *p, const source *s, int head_dim, float *to) {
    const sp_dtype_info *type = sp_dtype_info_of(s->dtype);
    size_t row_bytes = (size_t)(p->cols / type->block_elements) * type->block_bytes;
    int half = head_dim / 2;
    for (int64_t row = 0; row < p->rows; row++) {
        int64_t head = row / head_dim;
        int64_t within = row % head_dim;
        int64_t stored = head * head_dim + (within % half) * 2 + within / half;
        type->to_f32((const char *)s->data + (size_t)stored * row_bytes, to + row * p->cols,
                     p->cols);
    }
}

static void fill_task(void *context, int task, int worker) {
    const fill_context *f = context;
    const sp_param *p = &f->params->items[task];
    const source *s = &f->sources[task];
    (void)worker;
    if (s->permuted) {
        fill_permuted(p, s, f->config->head_dim, f->weights + p->offset);
    } else {
        sp_dtype_info_of(s->dtype)->to_f32(s->data, f->weights + p->offset, p->count);
    }
}

/* Create the model and fill its weights from the sources, by parameter index. */
static spar_status build(spar_model **out, const sp_config *config, const char *path,
                         const source *sources, const spar_model_options *options,
                         spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = NULL;
    SPAR_TRY(sp_model_create(&m, config, path, options, err));
    fill_context context = {&m->params, sources, &m->config, m->weights};
    sp_pool_run(m->pool, m->params.n, fill_task, &context);
    SPAR_TRY(sp_model_prepare(m, false, err));
    *out = m;
    m = NULL;
done:
    spar_model_free(m);
    return status;
}

static spar_status find_safetensors(const sp_params *params, const sp_safetensors *file,
                                    const char *path, source *sources, spar_error *err) {
    spar_status status = SPAR_OK;
    for (int i = 0; i < params->n; i++) {
        const sp_param *p = &params->items[i];
        const sp_tensor_entry *entry = sp_safetensors_find(file, p->name);
        if (!entry && strncmp(p->name, "model.", 6) == 0) {
            entry = sp_safetensors_find(file, p->name + 6); /* saved from the inner module */
        }
        if (!entry) {
            SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: tensor %s is missing", path, p->name));
        }
        if (!sp_dtype_info_of(entry->dtype)->to_f32) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                               "%s: tensor %s: expected a floating-point type, found %s", path,
                               p->name, sp_dtype_info_of(entry->dtype)->name));
        }
        sources[i] = (source){.data = entry->data, .dtype = entry->dtype, .n_dims = entry->n_dims};
        for (int d = 0; d < entry->n_dims && d < 4; d++) {
            sources[i].dims[d] = entry->dims[d];
        }
        SPAR_TRY(check_shape(p, &sources[i], path, p->name, err));
    }
done:
    return status;
}

static spar_status find_gguf(const sp_params *params, const sp_config *config, const sp_gguf *gguf,
                             const char *path, source *sources, spar_error *err) {
    spar_status status = SPAR_OK;
    for (int i = 0; i < params->n; i++) {
        const sp_param *p = &params->items[i];
        const sp_gguf_tensor *t = sp_gguf_find_tensor(gguf, p->gguf_name);
        if (!t) {
            SPAR_TRY(
                spar_fail(err, SPAR_NOT_FOUND, "%s: tensor %s is missing", path, p->gguf_name));
        }
        sources[i] = (source){.data = t->data,
                              .dtype = t->dtype,
                              .n_dims = t->n_dims,
                              .permuted = config->arch->gguf_permuted &&
                                          (p->role == SP_Q || p->role == SP_K)};
        memcpy(sources[i].dims, t->dims, sizeof sources[i].dims);
        SPAR_TRY(check_shape(p, &sources[i], path, p->gguf_name, err));
        if (!sp_dtype_info_of(t->dtype)->to_f32) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: tensor %s: type %s is not supported",
                               path, p->gguf_name, sp_dtype_info_of(t->dtype)->name));
        }
    }
done:
    return status;
}

/* generation_config.json may list several ids that end a turn. */
static spar_status add_generation_eos(sp_config *config, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    json_t *root = NULL;
    SPAR_TRY(sp_path_join(&path, dir, "generation_config.json", err));
    if (!sp_file_exists(path)) {
        goto done;
    }
    SPAR_TRY(sp_json_load(&root, path, err));
    const json_t *eos = json_object_get(root, "eos_token_id");
    size_t n = json_is_array(eos) ? json_array_size(eos) : (size_t)json_is_integer(eos);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(eos) ? json_array_get(eos, i) : eos;
        if (!json_is_integer(item)) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: eos_token_id: expected integers, found %s",
                               path, sp_json_type_name(item)));
        }
        sp_config_add_eos(config, json_integer_value(item));
    }
done:
    json_decref(root);
    free(path);
    return status;
}

static spar_status read_config(sp_config *out, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    json_t *root = NULL;
    SPAR_TRY(sp_path_join(&path, dir, "config.json", err));
    SPAR_TRY(sp_json_load(&root, path, err));
    SPAR_TRY(sp_config_from_json(out, root, path, err));
    SPAR_TRY(add_generation_eos(out, dir, err));
done:
    json_decref(root);
    free(path);
    return status;
}

static spar_status load_folder(spar_model **out, const char *dir, const spar_model_options *options,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    sp_config config;
    sp_params params = {0};
    sp_safetensors *file = NULL;
    source *sources = NULL;
    char *tokenizer = NULL;
    void *memory;
    SPAR_TRY(read_config(&config, dir, err));
    SPAR_TRY(sp_params_create(&params, &config, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)params.n, sizeof *sources, err));
    sources = memory;
    SPAR_TRY(sp_safetensors_open(&file, dir, err));
    SPAR_TRY(find_safetensors(&params, file, dir, sources, err));
    SPAR_TRY(build(out, &config, dir, sources, options, err));
    SPAR_TRY(sp_path_join(&tokenizer, dir, "tokenizer.json", err));
    if (sp_file_exists(tokenizer)) {
        SPAR_TRY(spar_tokenizer_load(&(*out)->tokenizer, dir, err));
    }
done:
    free(tokenizer);
    free(sources);
    sp_safetensors_free(file);
    sp_params_release(&params);
    return status;
}

static spar_status load_gguf(spar_model **out, const char *path, const spar_model_options *options,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    sp_config config;
    sp_params params = {0};
    sp_gguf *gguf = NULL;
    source *sources = NULL;
    void *memory;
    SPAR_TRY(sp_gguf_open(&gguf, path, err));
    SPAR_TRY(sp_config_from_gguf(&config, gguf, path, err));
    SPAR_TRY(sp_params_create(&params, &config, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)params.n, sizeof *sources, err));
    sources = memory;
    SPAR_TRY(find_gguf(&params, &config, gguf, path, sources, err));
    SPAR_TRY(build(out, &config, path, sources, options, err));
    SPAR_TRY(sp_vocab_from_gguf(gguf, &(*out)->tokenizer, err));
done:
    free(sources);
    sp_params_release(&params);
    sp_gguf_free(gguf);
    return status;
}

/* The chat template: the file that the options name, else the tokenizer's own. */
static spar_status load_template(spar_model *m, const spar_model_options *options,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = NULL;
    const char *source_text = m->tokenizer ? spar_tokenizer_chat_template(m->tokenizer) : NULL;
    const char *where = m->path;
    size_t n = source_text ? strlen(source_text) : 0;
    if (options->template_path) {
        where = options->template_path;
        SPAR_TRY(sp_file_read(options->template_path, 16 << 20, &text, &n, err));
        source_text = text;
    } else if (options->template_text) {
        where = "chat template";
        source_text = options->template_text;
        n = strlen(source_text);
    }
    if (source_text) {
        SPAR_TRY(spar_template_compile(&m->chat_template, source_text, n, where, err));
        SPAR_TRY(sp_mem_strdup(&m->template_source, source_text, n, err));
    }
done:
    free(text);
    return status;
}

/* The tokenizer's end-of-sequence token ends a turn too. */
static void add_tokenizer_eos(spar_model *m) {
    if (m->tokenizer) {
        int32_t eos = spar_tokenizer_eos(m->tokenizer);
        if (eos >= 0 && eos < m->config.vocab) {
            sp_config_add_eos(&m->config, eos);
        }
    }
}

static void set_date(spar_model *m, const char *now) {
    time_t seconds = time(NULL);
    struct tm date;
    if (now) {
        snprintf(m->now, sizeof m->now, "%s", now);
    } else if (gmtime_r(&seconds, &date)) {
        strftime(m->now, sizeof m->now, "%Y-%m-%d", &date);
    }
}

spar_status spar_model_load(spar_model **out, const char *path, const spar_model_options *options,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    static const spar_model_options defaults = {0};
    spar_model *m = NULL;
    if (!options) {
        options = &defaults;
    }
    if (!sp_file_exists(path)) {
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND,
                           "%s: expected a Hugging Face folder or a GGUF file, found nothing",
                           path));
    }
    SPAR_TRY(sp_file_is_dir(path) ? load_folder(&m, path, options, err)
                                  : load_gguf(&m, path, options, err));
    SPAR_TRY(load_template(m, options, err));
    if (options->adapter) {
        SPAR_TRY(sp_lora_load(m, options->adapter, err));
    }
    add_tokenizer_eos(m);
    set_date(m, options->now);
    *out = m;
    m = NULL;
done:
    spar_model_free(m);
    return status;
}
