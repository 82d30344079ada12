/* Writing a model as a Hugging Face folder, and f32 tensors as a file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "model/checkpoint.h"
#include "model/engine.h"
#include "model/lora.h"
#include "model/save.h"
#include "text/tokenizer_parts.h"

static const uint64_t max_shard_bytes = 5000000000U;

spar_status spar_tensors_write(const char *path, const spar_named_tensor *tensors, size_t n,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    sp_tensor_entry *entries = NULL;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *entries, err));
    entries = memory;
    for (size_t i = 0; i < n; i++) {
        entries[i] = (sp_tensor_entry){.name = tensors[i].name,
                                       .dtype = SP_F32,
                                       .n_dims = tensors[i].n_dims,
                                       .data = tensors[i].data,
                                       .n_bytes = sizeof(float)};
        for (int d = 0; d < tensors[i].n_dims; d++) {
            entries[i].dims[d] = tensors[i].dims[d];
            entries[i].n_bytes *= (size_t)tensors[i].dims[d];
        }
    }
    SPAR_TRY(sp_safetensors_write(path, entries, n, NULL, err));
done:
    free(entries);
    return status;
}

/* All parameters one after another, an adapter merged in and blocks unpacked. */
static spar_status make_floats(const spar_model *m, float **out, spar_error *err) {
    void *memory;
    const size_t n = (size_t)spar_model_parameters(m);
    const spar_status status = sp_mem_aligned(&memory, n, sizeof **out, err);
    if (status == SPAR_OK) {
        *out = memory;
        int64_t at = 0;
        for (int i = 0; i < m->params.n; i++) {
            sp_model_floats(m, &m->params.items[i], *out + at);
            at += m->params.items[i].count;
        }
    }
    return status;
}

spar_status sp_model_values_init(sp_model_values *out, const spar_model *m, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    int64_t at = 0;
    *out = (sp_model_values){0};
    SPAR_TRY(sp_model_check_floats(m, "saving", err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)m->params.n, sizeof *out->values, err));
    out->values = memory;
    if (m->lora || m->frozen) {
        SPAR_TRY(make_floats(m, &out->floats, err));
    }
    for (int i = 0; i < m->params.n; i++) {
        const sp_param *p = &m->params.items[i];
        out->values[i] = out->floats ? out->floats + at : m->weights + p->offset;
        at += p->count;
    }
done:
    if (status != SPAR_OK) {
        sp_model_values_release(out);
    }
    return status;
}

void sp_model_values_release(sp_model_values *v) {
    free(v->values);
    free(v->floats);
    *v = (sp_model_values){0};
}

static spar_status write_weights(const spar_model *m, const char *dir, sp_dtype type,
                                 spar_error *err) {
    static const char *const metadata[] = {"format", "pt", NULL};
    spar_status status = SPAR_OK;
    sp_stored_values stored = {0};
    sp_model_values v = {0};
    SPAR_TRY(sp_model_values_init(&v, m, err));
    SPAR_TRY(sp_stored_values_init(&stored, &m->params, &m->config, SP_STORED_FOLDER, v.values,
                                   true, err));
    SPAR_TRY(sp_safetensors_write_as(dir, stored.entries, stored.n, metadata, max_shard_bytes, type,
                                     err));
done:
    sp_stored_values_release(&stored);
    sp_model_values_release(&v);
    return status;
}

/* Save value (stolen) as dir/name. */
static spar_status write_json(json_t *value, const char *dir, const char *name, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    if (!value) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s/%s: out of memory", dir, name));
    }
    SPAR_TRY(sp_path_join(&path, dir, name, err));
    SPAR_TRY(sp_json_save(value, path, err));
done:
    free(path);
    json_decref(value);
    return status;
}

static json_t *generation_config(const sp_config *c) {
    json_t *root = json_object();
    if (c->bos >= 0) {
        json_object_set_new(root, "bos_token_id", json_integer(c->bos));
    }
    if (c->n_eos == 1) {
        json_object_set_new(root, "eos_token_id", json_integer(c->eos[0]));
    } else if (c->n_eos > 1) {
        json_t *list = json_array();
        for (int i = 0; i < c->n_eos; i++) {
            json_array_append_new(list, json_integer(c->eos[i]));
        }
        json_object_set_new(root, "eos_token_id", list);
    }
    if (c->pad >= 0) {
        json_object_set_new(root, "pad_token_id", json_integer(c->pad));
    }
    return root;
}

static spar_status write_text(const char *text, const char *dir, const char *name,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    SPAR_TRY(sp_path_join(&path, dir, name, err));
    SPAR_TRY(sp_file_write(path, text, strlen(text), err));
done:
    free(path);
    return status;
}

static spar_status write_templates(const spar_template *t, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *tools = spar_template_tools_source(t);
    char *more = NULL;
    SPAR_TRY(write_text(spar_template_source(t), dir, "chat_template.jinja", err));
    if (tools) {
        SPAR_TRY(sp_path_join(&more, dir, "additional_chat_templates", err));
        SPAR_TRY(sp_dir_make(more, err));
        SPAR_TRY(write_text(tools, more, "tool_use.jinja", err));
    }
done:
    free(more);
    return status;
}

static spar_status write_tokenizer(const spar_model *m, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    if (m->tokenizer) {
        SPAR_TRY(write_json(sp_tokenizer_to_json(m->tokenizer), dir, "tokenizer.json", err));
        SPAR_TRY(
            write_json(sp_tokenizer_config_json(m->tokenizer), dir, "tokenizer_config.json", err));
    }
    if (m->chat_template) {
        SPAR_TRY(write_templates(m->chat_template, dir, err));
    }
done:
    return status;
}

typedef struct model_job {
    const spar_model *model;
    sp_dtype type; /* of the weights */
} model_job;

static json_t *config_json(const model_job *j) {
    static const char *const names[] = {
        [SP_F32] = "float32", [SP_F16] = "float16", [SP_BF16] = "bfloat16"};
    json_t *root = sp_config_to_json(&j->model->config);
    json_object_set_new(root, "torch_dtype", json_string(names[j->type]));
    return root;
}

static spar_status write_model(const void *context, const char *dir, spar_error *err) {
    const model_job *j = context;
    spar_status status = SPAR_OK;
    SPAR_TRY(write_json(config_json(j), dir, "config.json", err));
    SPAR_TRY(write_json(generation_config(&j->model->config), dir, "generation_config.json", err));
    SPAR_TRY(write_tokenizer(j->model, dir, err));
    SPAR_TRY(write_weights(j->model, dir, j->type, err));
done:
    return status;
}

spar_status sp_model_save_as(const spar_model *m, const char *dir, sp_dtype type, spar_error *err) {
    return sp_dir_write_whole(dir, write_model, &(model_job){m, type}, err);
}

spar_status spar_model_save(spar_model *m, const char *dir, spar_error *err) {
    return sp_model_save_as(m, dir, SP_F32, err);
}

spar_status spar_model_save_adapter(spar_model *m, const char *dir, spar_error *err) {
    return m->lora ? sp_lora_save(m, dir, err)
                   : spar_fail(err, SPAR_INVALID, "%s: the model has no adapter", m->path);
}
