/* Adapters as files: the folder that PEFT (Hugging Face) reads and writes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "model/engine.h"
#include "model/lora_parts.h"
#include "tensor/dtype.h"

enum { NAME_MAX_LENGTH = 160 };

/* "model.layers.0.self_attn.q_proj.weight" -> "base_model.model.model....q_proj.lora_A.weight" */
static void tensor_name(const sp_stored *module, char which, char *out) {
    const size_t n = strlen(module->name) - strlen(".weight");
    snprintf(out, NAME_MAX_LENGTH, "base_model.model.%.*s.lora_%c.weight", (int)n, module->name,
             which);
}

/* "...q_proj.lora_magnitude_vector", as PEFT writes it; as its modules have it, ".weight" follows.
 */
static void magnitude_name(const sp_stored *module, const char *ending, char *out) {
    const size_t n = strlen(module->name) - strlen(".weight");
    snprintf(out, NAME_MAX_LENGTH, "base_model.model.%.*s.lora_magnitude_vector%s", (int)n,
             module->name, ending);
}

static const sp_adapter *part_of(const sp_lora *l, const sp_stored *module, int i) {
    return &l->items[l->index[module->first + i]];
}

/* Rows of B (width: the rank) or magnitudes (width 1) of a module's parts, as its matrix has them:
 * joined to `whole` [module->rows, width], or cut from it. */
static void copy_rows(const sp_lora *l, const sp_stored *module, bool magnitudes, bool join,
                      float *whole) {
    const int64_t width = magnitudes ? 1 : l->settings.rank;
    int64_t above = 0;
    for (int i = 0; i < module->n_roles; i++) {
        const sp_adapter *a = part_of(l, module, i);
        float *part = l->values + (magnitudes ? a->offset_m : a->offset_b);
        for (int64_t r = 0; r < a->of->rows; r++) {
            float *row = whole + sp_stored_row(module, i, above, r) * width;
            memcpy(join ? row : part + r * width, join ? part + r * width : row,
                   (size_t)width * sizeof *row);
        }
        above += a->of->rows;
    }
}

/* ---- writing ---- */

/* Where the last n parts of a weight's name begin: PEFT takes names that end so. */
static size_t tail_of(const char *weight, int n) {
    size_t from = strlen(weight) - strlen(".weight");
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

/* The modules by the last part of their names, or the last two, each once. */
static spar_status target_modules(const spar_model *m, json_t **out, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_stored *all = NULL;
    int n = 0;
    json_t *list = json_array();
    SPAR_TRY(sp_stored_list(&all, &n, &m->params, &m->config, SP_STORED_FOLDER, err));
    for (int i = 0; i < m->lora->n_modules; i++) {
        const char *name = m->lora->modules[i].name;
        const size_t from = tail_of(name, is_shared(m, all, n, name) ? 2 : 1);
        json_t *module = json_stringn(name + from, strlen(name) - strlen(".weight") - from);
        bool there = false;
        for (size_t k = 0; k < json_array_size(list); k++) {
            there |= json_equal(json_array_get(list, k), module);
        }
        if (!there) {
            json_array_append(list, module);
        }
        json_decref(module);
    }
    *out = list;
    list = NULL;
done:
    json_decref(list);
    free(all);
    return status;
}

/* The layers, where not all are adapted; null otherwise. */
static json_t *adapted_layers(const spar_model *m) {
    bool used[SP_MAX_LAYERS] = {false};
    int n = 0;
    for (int i = 0; i < m->lora->n; i++) {
        const int layer = m->lora->items[i].of->layer;
        n += !used[layer];
        used[layer] = true;
    }
    if (n == m->config.layers) {
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

static spar_status write_config(const spar_model *m, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    const sp_lora_settings *s = &m->lora->settings;
    json_t *modules = NULL, *root = NULL;
    SPAR_TRY(target_modules(m, &modules, err));
    root = json_pack(
        "{s:s, s:s, s:s, s:I, s:f, s:f, s:o, s:o, s:s, s:b, s:b, s:b, s:b, s:n, s:{}, s:{}}",
        "peft_type", "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", m->path, "r",
        (json_int_t)s->rank, "lora_alpha", s->alpha, "lora_dropout", s->dropout, "target_modules",
        modules, "layers_to_transform", adapted_layers(m), "bias", "none", "use_rslora", s->rslora,
        "use_dora", s->dora, "fan_in_fan_out", m->config.arch->transposed, "inference_mode", 1,
        "modules_to_save", "rank_pattern", "alpha_pattern");
    if (!root) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", dir));
    }
    SPAR_TRY(sp_path_join(&path, dir, "adapter_config.json", err));
    SPAR_TRY(sp_json_save(root, path, err));
done:
    free(path);
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

/* The tensors of one module; *joined is room for those whose rows are put together. */
static void list_module(const sp_lora *l, const sp_stored *module, sp_tensor_entry *entries,
                        char (*names)[NAME_MAX_LENGTH], float **joined) {
    const int64_t rank = l->settings.rank, rows = module->rows;
    tensor_name(module, 'A', names[0]);
    entries[0] = entry_of(names[0], part_of(l, module, 0)->a.data, rank, module->cols);
    tensor_name(module, 'B', names[1]);
    copy_rows(l, module, false, true, *joined);
    entries[1] = entry_of(names[1], *joined, rows, rank);
    *joined += rows * rank;
    if (l->settings.dora) {
        magnitude_name(module, "", names[2]);
        copy_rows(l, module, true, true, *joined);
        entries[2] = entry_of(names[2], *joined, rows, 0);
        *joined += rows;
    }
}

static spar_status write_values(const sp_lora *l, const char *dir, spar_error *err) {
    static const char *const metadata[] = {"format", "pt", NULL};
    spar_status status = SPAR_OK;
    sp_tensor_entry *entries = NULL;
    char(*names)[NAME_MAX_LENGTH] = NULL;
    char *path = NULL;
    float *joined = NULL;
    void *memory;
    const int each = l->settings.dora ? 3 : 2;
    const size_t n = (size_t)each * (size_t)l->n_modules;
    int64_t rows = 0;
    for (int i = 0; i < l->n_modules; i++) {
        rows += l->modules[i].rows;
    }
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *entries, err));
    entries = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *names, err));
    names = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)(rows * (l->settings.rank + 1)), sizeof *joined, err));
    joined = memory;
    float *room = joined;
    for (int i = 0; i < l->n_modules; i++) {
        list_module(l, &l->modules[i], entries + each * i, names + each * i, &room);
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
    SPAR_TRY(write_values(m->lora, dir, err));
done:
    return status;
}

spar_status sp_lora_save(const spar_model *m, const char *dir, spar_error *err) {
    return sp_dir_write_whole(dir, write_adapter, m, err);
}

/* ---- reading ---- */

static spar_status unsupported(const char *path, const char *key, const char *expected,
                               spar_error *err) {
    return spar_fail(err, SPAR_UNSUPPORTED, "%s: %s: expected %s, found another value", path, key,
                     expected);
}

/* What would change the mathematics and is not known here is refused by its name. */
static spar_status read_config(const char *path, const sp_arch *arch, sp_lora_settings *out,
                               spar_error *err) {
    /* a checkpoint's [in, out] matrices are [out, in] here, and adapters the same in either case */
    const char *const never[] = {"lora_bias", "use_qalora", "fan_in_fan_out"};
    const size_t n_never = arch->transposed ? 2 : 3;
    static const char *const empty[] = {"rank_pattern", "alpha_pattern", "modules_to_save"};
    spar_status status = SPAR_OK;
    json_t *root = NULL;
    const char *text;
    bool flag;
    memset(out, 0, sizeof *out);
    SPAR_TRY(sp_json_load(&root, path, err));
    SPAR_TRY(sp_json_get_string(root, "peft_type", &text, path, err));
    if (strcmp(text, "LORA") != 0) {
        SPAR_TRY(
            spar_fail(err, SPAR_UNSUPPORTED, "%s: peft_type: expected LORA, found %s", path, text));
    }
    SPAR_TRY(sp_json_get_string_or(root, "bias", "none", &text, path, err));
    if (strcmp(text, "none") != 0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: bias: expected none, found %s", path, text));
    }
    for (size_t i = 0; i < n_never; i++) {
        SPAR_TRY(sp_json_get_bool_or(root, never[i], false, &flag, path, err));
        if (flag) {
            SPAR_TRY(unsupported(path, never[i], "false", err));
        }
    }
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        const json_t *value = json_object_get(root, empty[i]);
        if (json_object_size(value) > 0 || json_array_size(value) > 0) {
            SPAR_TRY(unsupported(path, empty[i], "nothing", err));
        }
    }
    SPAR_TRY(sp_json_get_int(root, "r", 1, 1 << 16, &out->rank, path, err));
    SPAR_TRY(sp_json_get_number(root, "lora_alpha", &out->alpha, path, err));
    SPAR_TRY(sp_json_get_bool_or(root, "use_rslora", false, &out->rslora, path, err));
    SPAR_TRY(sp_json_get_bool_or(root, "use_dora", false, &out->dora, path, err));
    SPAR_TRY(sp_json_get_number_or(root, "lora_dropout", 0, &out->dropout, path, err));
    if (!(out->dropout >= 0 && out->dropout < 1)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: lora_dropout: expected 0 or more and less than 1, found %g", path,
                           out->dropout));
    }
done:
    json_decref(root);
    return status;
}

/* The names of what an adapter of p has in the file; the magnitudes' by what is there. */
typedef struct names {
    char a[NAME_MAX_LENGTH], b[NAME_MAX_LENGTH], m[NAME_MAX_LENGTH];
} names;

static names names_of(const sp_safetensors *file, const sp_stored *module) {
    names n;
    tensor_name(module, 'A', n.a);
    tensor_name(module, 'B', n.b);
    magnitude_name(module, ".weight", n.m);
    if (!sp_safetensors_find(file, n.m)) {
        magnitude_name(module, "", n.m);
    }
    return n;
}

/* Whether the file adapts the module; NOT_FOUND names what is missing of it. */
static spar_status adapts(const sp_safetensors *file, const char *path, const sp_stored *module,
                          bool dora, bool *out, spar_error *err) {
    const names n = names_of(file, module);
    const char *const all[] = {n.a, n.b, n.m};
    const int needed = dora ? 3 : 2;
    int missing = -1, found = 0;
    for (int i = 0; i < needed; i++) {
        const bool has = sp_safetensors_find(file, all[i]);
        found += has;
        missing = has ? missing : i;
    }
    *out = found == needed;
    return found == 0 || found == needed
               ? SPAR_OK
               : spar_fail(err, SPAR_NOT_FOUND, "%s: tensor %s is missing", path, all[missing]);
}

static bool is_of(const sp_safetensors *file, const sp_stored *module, bool dora,
                  const char *name) {
    const names n = names_of(file, module);
    return strcmp(name, n.a) == 0 || strcmp(name, n.b) == 0 || (dora && strcmp(name, n.m) == 0);
}

/* A tensor that is none of the chosen modules' is refused. */
static spar_status check_names(const sp_stored *list, int n, const bool *chosen,
                               const sp_safetensors *file, const char *path, bool dora,
                               spar_error *err) {
    for (size_t i = 0; i < sp_safetensors_count(file); i++) {
        const char *name = sp_safetensors_at(file, i)->name;
        bool found = false;
        for (int k = 0; k < n && !found; k++) {
            found = chosen[list[k].first] && is_of(file, &list[k], dora, name);
        }
        if (!found) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "%s: tensor %s: expected an adapter of one of the model's linear "
                             "layers",
                             path, name);
        }
    }
    return SPAR_OK;
}

/* Which parameters the file adapts, to chosen [params.n]. */
static spar_status choose(const spar_model *m, const sp_safetensors *file, const char *path,
                          bool dora, bool *chosen, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_stored *list = NULL;
    int n = 0;
    size_t known = 0;
    SPAR_TRY(sp_stored_list(&list, &n, &m->params, &m->config, SP_STORED_FOLDER, err));
    for (int i = 0; i < n; i++) {
        const int first = list[i].first;
        if (!sp_lora_target_name(m->params.items[first].role)) {
            continue;
        }
        SPAR_TRY(adapts(file, path, &list[i], dora, &chosen[first], err));
        for (int k = 1; k < list[i].n_roles; k++) {
            chosen[first + k] = chosen[first];
        }
        known += chosen[first] ? (dora ? 3 : 2) : 0;
    }
    if (known < sp_safetensors_count(file)) {
        SPAR_TRY(check_names(list, n, chosen, file, path, dora, err));
    }
done:
    free(list);
    return status;
}

/* A matrix [rows, cols], or a vector where cols is 0, as floats. */
static spar_status read_tensor(const sp_safetensors *file, const char *path, const char *name,
                               int64_t rows, int64_t cols, float *to, spar_error *err) {
    const sp_tensor_entry *e = sp_safetensors_find(file, name);
    const int n_dims = cols > 0 ? 2 : 1;
    if (e->n_dims != n_dims || e->dims[0] != rows || (cols > 0 && e->dims[1] != cols)) {
        return spar_fail(err, SPAR_MISMATCH,
                         "%s: tensor %s: expected shape [%lld, %lld], found %s[%lld, %lld]", path,
                         name, (long long)rows, (long long)cols,
                         e->n_dims == n_dims ? "" : "another number of sizes, ",
                         (long long)e->dims[0], (long long)(e->n_dims > 1 ? e->dims[1] : 0));
    }
    const sp_dtype_info *type = sp_dtype_info_of(e->dtype);
    if (!type->to_f32) {
        return spar_fail(err, SPAR_UNSUPPORTED, "%s: tensor %s: expected floats, found %s", path,
                         name, type->name);
    }
    type->to_f32(e->data, to, rows * (cols > 0 ? cols : 1));
    return SPAR_OK;
}

static spar_status read_adapter(const sp_safetensors *file, const char *path, const sp_lora *l,
                                const sp_stored *module, spar_error *err) {
    spar_status status = SPAR_OK;
    const names n = names_of(file, module);
    const int64_t rank = l->settings.rank, rows = module->rows;
    void *memory = NULL;
    SPAR_TRY(read_tensor(file, path, n.a, rank, module->cols,
                         l->values + part_of(l, module, 0)->offset_a, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)(rows * rank), sizeof(float), err));
    SPAR_TRY(read_tensor(file, path, n.b, rows, rank, memory, err));
    copy_rows(l, module, false, false, memory);
    if (l->settings.dora) {
        SPAR_TRY(read_tensor(file, path, n.m, rows, 0, memory, err));
        copy_rows(l, module, true, false, memory);
    }
done:
    free(memory);
    return status;
}

spar_status sp_lora_load(spar_model *m, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *config = NULL, *path = NULL;
    sp_safetensors *file = NULL;
    sp_lora *l = NULL;
    bool *chosen = NULL;
    void *memory;
    sp_lora_settings settings;
    SPAR_TRY(sp_path_join(&config, dir, "adapter_config.json", err));
    SPAR_TRY(read_config(config, m->config.arch, &settings, err));
    SPAR_TRY(sp_path_join(&path, dir, "adapter_model.safetensors", err));
    SPAR_TRY(sp_safetensors_open(&file, path, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)m->params.n, sizeof *chosen, err));
    chosen = memory;
    SPAR_TRY(choose(m, file, path, settings.dora, chosen, err));
    SPAR_TRY(sp_lora_create(m, &settings, chosen, &l, err));
    for (int i = 0; i < l->n_modules; i++) {
        SPAR_TRY(read_adapter(file, path, l, &l->modules[i], err));
    }
    sp_lora_detach(m);
    m->lora = l;
    l = NULL;
    SPAR_TRY(sp_lora_prepare(m, m->prepared_backward, err));
done:
    sp_lora_free(m, l);
    sp_safetensors_free(file);
    free(chosen);
    free(config);
    free(path);
    return status;
}
