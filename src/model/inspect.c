/* What is in a checkpoint, without loading its weights. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "model/params.h"
#include "spar/model.h"

static json_t *tensor_json(const char *name, sp_dtype dtype, int n_dims, const int64_t *dims,
                           size_t bytes) {
    json_t *shape = json_array();
    for (int d = 0; d < n_dims; d++) {
        json_array_append_new(shape, json_integer(dims[d]));
    }
    return json_pack("{s:s, s:s, s:o, s:I}", "name", name, "dtype", sp_dtype_info_of(dtype)->name,
                     "shape", shape, "bytes", (json_int_t)bytes);
}

static void count(json_t *totals, sp_dtype dtype, int n_dims, const int64_t *dims) {
    const char *name = sp_dtype_info_of(dtype)->name;
    json_int_t n = 1;
    for (int d = 0; d < n_dims; d++) {
        n *= dims[d];
    }
    json_object_set_new(totals, name,
                        json_integer(n + json_integer_value(json_object_get(totals, name))));
}

/* What the configuration says that there is, and how much of it acts on a token. */
static spar_status put_parameters(json_t *root, const sp_config *config, spar_error *err) {
    sp_params params;
    const spar_status status = sp_params_create(&params, config, err);
    if (status == SPAR_OK) {
        json_object_set_new(root, "parameters", json_integer(sp_params_elements(&params)));
        json_object_set_new(root, "active_parameters",
                            json_integer(sp_params_active(&params, config)));
        sp_params_release(&params);
    }
    return status;
}

static json_t *gguf_value(const sp_gguf_value *v) {
    if (v->is_array) {
        return json_sprintf("[%llu values]", (unsigned long long)v->n);
    }
    if (v->type == SP_GGUF_STRING) {
        json_t *text = json_stringn(v->strings[0].data, v->strings[0].n);
        return text ? text : json_string("(not UTF-8)");
    }
    if (v->type == SP_GGUF_BOOL) {
        return json_boolean(v->data[0]);
    }
    if (v->type == SP_GGUF_F32 || v->type == SP_GGUF_F64) {
        return json_real(sp_gguf_number(v, 0));
    }
    return json_integer(sp_gguf_integer(v, 0));
}

static spar_status inspect_gguf(json_t *root, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_gguf *g = NULL;
    sp_config config;
    spar_error why;
    json_t *metadata = json_object();
    json_t *tensors = json_array();
    json_t *totals = json_object();
    SPAR_TRY(sp_gguf_open(&g, path, err));
    for (size_t i = 0; i < sp_gguf_count(g); i++) {
        const sp_gguf_value *v = sp_gguf_at(g, i);
        json_t *value = gguf_value(v);
        if (json_object_setn_new(metadata, v->key.data, v->key.n, value) != 0) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: metadata key %zu: not UTF-8", path, i));
        }
    }
    for (size_t i = 0; i < sp_gguf_tensor_count(g); i++) {
        const sp_gguf_tensor *t = sp_gguf_tensor_at(g, i);
        json_array_append_new(tensors,
                              tensor_json(t->name, t->dtype, t->n_dims, t->dims, t->n_bytes));
        count(totals, t->dtype, t->n_dims, t->dims);
    }
    json_object_set_new(root, "format", json_string("gguf"));
    json_object_set(root, "metadata", metadata);
    if (sp_config_from_gguf(&config, g, path, &why) == SPAR_OK) {
        json_object_set_new(root, "config", sp_config_to_json(&config));
        SPAR_TRY(put_parameters(root, &config, err));
    } else {
        json_object_set_new(root, "not_loadable", json_string(why.message));
    }
    json_object_set(root, "elements_by_dtype", totals);
    json_object_set(root, "tensors", tensors);
done:
    json_decref(metadata);
    json_decref(tensors);
    json_decref(totals);
    sp_gguf_free(g);
    return status;
}

static spar_status inspect_config(json_t *root, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    json_t *config = NULL;
    sp_config parsed;
    spar_error why;
    SPAR_TRY(sp_path_join(&path, dir, "config.json", err));
    SPAR_TRY(sp_json_load_if_there(&config, path, err));
    if (config) {
        json_object_set(root, "config", config);
        if (sp_config_from_json(&parsed, config, path, &why) == SPAR_OK) {
            SPAR_TRY(put_parameters(root, &parsed, err));
        } else {
            json_object_set_new(root, "not_loadable", json_string(why.message));
        }
    }
done:
    json_decref(config);
    free(path);
    return status;
}

static spar_status inspect_safetensors(json_t *root, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_safetensors *file = NULL;
    json_t *tensors = json_array();
    json_t *totals = json_object();
    SPAR_TRY(sp_safetensors_open(&file, path, err));
    for (size_t i = 0; i < sp_safetensors_count(file); i++) {
        const sp_tensor_entry *t = sp_safetensors_at(file, i);
        json_array_append_new(tensors,
                              tensor_json(t->name, t->dtype, t->n_dims, t->dims, t->n_bytes));
        count(totals, t->dtype, t->n_dims, t->dims);
    }
    json_object_set_new(root, "format", json_string("safetensors"));
    if (sp_file_is_dir(path)) {
        SPAR_TRY(inspect_config(root, path, err));
    }
    json_object_set(root, "elements_by_dtype", totals);
    json_object_set(root, "tensors", tensors);
done:
    json_decref(tensors);
    json_decref(totals);
    sp_safetensors_free(file);
    return status;
}

spar_status spar_model_inspect(json_t **out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t n = strlen(path);
    bool gguf = n >= 5 && strcmp(path + n - 5, ".gguf") == 0;
    json_t *root = json_pack("{s:s}", "path", path);
    if (!sp_file_exists(path)) {
        SPAR_TRY(
            spar_fail(err, SPAR_NOT_FOUND,
                      "%s: expected a Hugging Face folder, a GGUF or a safetensors file, found "
                      "nothing",
                      path));
    }
    SPAR_TRY(gguf ? inspect_gguf(root, path, err) : inspect_safetensors(root, path, err));
    *out = root;
    root = NULL;
done:
    json_decref(root);
    return status;
}
