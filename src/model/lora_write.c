/* Adapters to files: the folder that PEFT (Hugging Face) reads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "model/engine.h"
#include "model/lora_peft.h"

/* Where the last n parts of a matrix's name begin: PEFT takes names that end so. */
static size_t tail_of(const char *weight, int n) {
    size_t from = sp_lora_module_length(weight);
    while (from > 0 && (weight[from - 1] != '.' || --n > 0)) {
        from--;
    }
    return from;
}

/* Whether another matrix of the layers, which is not adapted, has the same last part: two roles may
 * (GPT-2), and experts beside a dense layer. */
static bool is_shared(const spar_model *m, const sp_stored *list, int n, const char *weight) {
    const char *tail = weight + tail_of(weight, 1);
    for (int i = 0; i < n; i++) {
        const sp_param *p = &m->params.items[list[i].first];
        if (p->layer >= 0 && p->cols > 0 && m->lora->index[list[i].first] < 0 &&
            strcmp(list[i].name + tail_of(list[i].name, 1), tail) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether PEFT is told of a matrix as a parameter. Experts are no modules in transformers 5, and of
 * models that have some PEFT takes targets such as gate_proj for names of experts' matrices in
 * older versions. */
static bool is_parameter(const spar_model *m, const sp_stored *s) {
    const sp_role role = m->params.items[s->first].role;
    return sp_config_sparse_layers(&m->config) > 0 &&
           (sp_lora_is_mixed(role) || role == SP_GATE || role == SP_UP || role == SP_DOWN);
}

/* Whether a layer's matrix of the role is not adapted though another's is. */
static bool is_partial(const spar_model *m, sp_role role) {
    bool partial = false;
    for (int l = 0; l < m->config.layers; l++) {
        partial |= sp_params_get(&m->params, role, l) && !sp_lora_find(m, role, l);
    }
    return partial;
}

/* A parameter by the end of its name; by all of it where only some layers are adapted:
 * layers_to_transform says nothing of parameters. */
static json_t *parameter_name(const spar_model *m, const sp_stored *s) {
    const bool partial = is_partial(m, m->params.items[s->first].role);
    return json_string(s->name + (partial ? 0 : tail_of(s->name, s->stack > 0 ? 3 : 2)));
}

/* A module by the last part of its name, or the last two. */
static json_t *module_name(const spar_model *m, const sp_stored *all, int n, const sp_stored *s) {
    const size_t from = tail_of(s->name, is_shared(m, all, n, s->name) ? 2 : 1);
    return json_stringn(s->name + from, sp_lora_module_length(s->name) - from);
}

/* What is adapted, each name once: the modules, or the parameters. */
static spar_status list_targets(const spar_model *m, bool parameters, json_t **out,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    sp_stored *all = NULL;
    int n = 0;
    json_t *list = json_array();
    SPAR_TRY(sp_stored_list(&all, &n, &m->params, &m->config, SP_STORED_FUSED, err));
    for (int i = 0; i < m->lora->n_modules; i++) {
        const sp_stored *s = &m->lora->modules[i];
        if (is_parameter(m, s) != parameters) {
            continue;
        }
        json_t *name = parameters ? parameter_name(m, s) : module_name(m, all, n, s);
        bool there = false;
        for (size_t k = 0; k < json_array_size(list); k++) {
            there |= json_equal(json_array_get(list, k), name);
        }
        if (!there) {
            json_array_append(list, name);
        }
        json_decref(name);
    }
    *out = list;
    list = NULL;
done:
    json_decref(list);
    free(all);
    return status;
}

/* The layers, where modules of some alone are adapted; null otherwise. */
static json_t *adapted_layers(const spar_model *m) {
    bool used[SP_MAX_LAYERS] = {false};
    int n = 0;
    for (int i = 0; i < m->lora->n_modules; i++) {
        const sp_stored *s = &m->lora->modules[i];
        const int layer = m->params.items[s->first].layer;
        n += !used[layer] && !is_parameter(m, s);
        used[layer] |= !is_parameter(m, s);
    }
    if (n == m->config.layers || n == 0) {
        return json_null();
    }
    json_t *list = json_array();
    for (int i = 0; i < m->config.layers; i++) {
        if (used[i]) {
            json_array_append_new(list, json_integer(i));
        }
    }
    return list;
}

/* Ranks, or alphas, of matrices that have others than the rest, by their names. */
static json_t *pattern(const spar_model *m, bool alphas) {
    const sp_lora_settings *s = &m->lora->settings;
    json_t *out = json_object();
    for (int i = 0; i < m->lora->n_modules; i++) {
        char key[SP_PEFT_NAME];
        const sp_adapter *a = sp_peft_part(m->lora, &m->lora->modules[i], 0);
        const double over = s->rslora ? sqrt((double)a->rank) : (double)a->rank;
        sp_peft_key(&m->lora->modules[i], key);
        if (alphas && a->scale != sp_lora_scale(s, a->rank, s->alpha)) {
            json_object_set_new(out, key, json_real((double)a->scale * over));
        } else if (!alphas && a->rank != s->rank) {
            json_object_set_new(out, key, json_integer(a->rank));
        }
    }
    return out;
}

static spar_status write_config(const spar_model *m, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    const sp_lora_settings *s = &m->lora->settings;
    json_t *modules = NULL, *parameters = NULL, *root = NULL;
    SPAR_TRY(list_targets(m, false, &modules, err));
    SPAR_TRY(list_targets(m, true, &parameters, err));
    root = json_pack(
        "{s:s, s:s, s:s, s:I, s:f, s:f, s:O, s:O, s:o, s:s, s:b, s:b, s:b, s:b, s:n, s:o, s:o}",
        "peft_type", "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", m->path, "r",
        (json_int_t)s->rank, "lora_alpha", s->alpha, "lora_dropout", s->dropout, "target_modules",
        modules, "target_parameters", json_array_size(parameters) > 0 ? parameters : json_null(),
        "layers_to_transform", adapted_layers(m), "bias", "none", "use_rslora", s->rslora,
        "use_dora", s->dora, "fan_in_fan_out", m->config.arch->transposed, "inference_mode", 1,
        "modules_to_save", "rank_pattern", pattern(m, false), "alpha_pattern", pattern(m, true));
    if (!root) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", dir));
    }
    SPAR_TRY(sp_path_join(&path, dir, "adapter_config.json", err));
    SPAR_TRY(sp_json_save(root, path, err));
done:
    free(path);
    json_decref(modules);
    json_decref(parameters);
    json_decref(root);
    return status;
}

static sp_tensor_entry entry_of(const char *name, const float *data, int64_t rows, int64_t cols) {
    return (sp_tensor_entry){.name = name,
                             .dtype = SP_F32,
                             .n_dims = cols > 0 ? 2 : 1,
                             .dims = {rows, cols},
                             .data = data,
                             .n_bytes = (size_t)(rows * (cols > 0 ? cols : 1)) * sizeof(float)};
}

/* Whether a parameter of experts is wrapped before another of its module: PEFT goes by the order in
 * which the module has them. */
static bool is_inner(const spar_model *m, const sp_stored *s) {
    const sp_param *p = &m->params.items[s->first];
    return p->role == SP_EXPERT_GATE && sp_lora_find(m, SP_EXPERT_DOWN, p->layer);
}

/* Floats of the tensors that are not an array as it lies in memory. */
static int64_t joined_floats(const sp_lora *l, const sp_stored *s) {
    const int64_t width = sp_peft_part(l, s, 0)->rank * sp_peft_pairs(s);
    return s->rows * (width + 1) + width * s->cols;
}

/* The tensors of one module; *joined is room for those that are put together. */
static void list_module(const spar_model *m, const sp_stored *s, sp_tensor_entry *entries,
                        sp_peft_names *names, float **joined) {
    const sp_lora *l = m->lora;
    const int64_t width = sp_peft_part(l, s, 0)->rank * sp_peft_pairs(s);
    char module[SP_PEFT_NAME];
    sp_peft_module(s, is_inner(m, s), module);
    sp_peft_names_of(names, module, "");
    sp_peft_copy_a(l, s, true, *joined);
    entries[0] = entry_of(names->a, *joined, width, s->cols);
    *joined += width * s->cols;
    sp_peft_copy_rows(l, s, false, true, *joined);
    entries[1] = entry_of(names->b, *joined, s->rows, width);
    *joined += s->rows * width;
    if (l->settings.dora) {
        sp_peft_copy_rows(l, s, true, true, *joined);
        entries[2] = entry_of(names->m, *joined, s->rows, 0);
        *joined += s->rows;
    }
}

static spar_status write_values(const spar_model *m, const char *dir, spar_error *err) {
    static const char *const metadata[] = {"format", "pt", NULL};
    spar_status status = SPAR_OK;
    const sp_lora *l = m->lora;
    sp_tensor_entry *entries = NULL;
    sp_peft_names *names = NULL;
    char *path = NULL;
    float *joined = NULL;
    void *memory;
    const int each = l->settings.dora ? 3 : 2;
    const size_t n = (size_t)each * (size_t)l->n_modules;
    int64_t floats = 0;
    for (int i = 0; i < l->n_modules; i++) {
        floats += joined_floats(l, &l->modules[i]);
    }
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *entries, err));
    entries = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)l->n_modules, sizeof *names, err));
    names = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)floats, sizeof *joined, err));
    joined = memory;
    float *room = joined;
    for (int i = 0; i < l->n_modules; i++) {
        list_module(m, &l->modules[i], entries + each * i, names + i, &room);
    }
    SPAR_TRY(sp_path_join(&path, dir, "adapter_model.safetensors", err));
    SPAR_TRY(sp_safetensors_write(path, entries, n, metadata, err));
done:
    free(path);
    free(entries);
    free(names);
    free(joined);
    return status;
}

static spar_status write_adapter(const void *context, const char *dir, spar_error *err) {
    const spar_model *m = context;
    spar_status status = SPAR_OK;
    SPAR_TRY(write_config(m, dir, err));
    SPAR_TRY(write_values(m, dir, err));
done:
    return status;
}

spar_status sp_lora_save(const spar_model *m, const char *dir, spar_error *err) {
    return sp_dir_write_whole(dir, write_adapter, m, err);
}
