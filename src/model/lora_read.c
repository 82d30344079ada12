/* Adapters from files: the folder that PEFT (Hugging Face) writes.
 *
 * Experts may be in it as transformers 5 holds them, or a module each as transformers 4 did: then a
 * layer's gate and up projections become one matrix with both their pairs side by side,
 *     A = [A_gate; A_up], B_gate = [B_gate, 0], B_up = [0, B_up],
 * of their ranks' sum, as PEFT itself reads such files.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "io/safetensors.h"
#include "model/lora_peft.h"
#include "tensor/dtype.h"

enum { MOST_RANK = 1 << 16 };

/* An open adapter. */
typedef struct adapter_file {
    char *config_path, *path; /* owned */
    json_t *config;           /* owned */
    sp_safetensors *tensors;  /* owned */
    sp_lora_settings settings;
} adapter_file;

/* Where a matrix's adapter is: in the tensors of a module, in those of each expert, or nowhere. */
typedef enum source_kind { NOWHERE, IN_MODULE, BY_EXPERT } source_kind;
typedef struct source {
    source_kind kind;
    char module[SP_PEFT_NAME];
} source;

static spar_status unsupported(const char *path, const char *key, const char *expected,
                               spar_error *err) {
    return spar_fail(err, SPAR_UNSUPPORTED, "%s: %s: expected %s, found another value", path, key,
                     expected);
}

/* The name that a pattern of ranks means: PEFT takes a regular expression that the end of a
 * module's name matches. Names are read, whole or behind ".*\." with escaped dots; to out, or
 * false. */
static bool read_key(const char *key, char out[SP_PEFT_NAME]) {
    size_t n = 0;
    key += *key == '^';
    key += strncmp(key, ".*\\.", 4) == 0 ? 4 : 0;
    for (; *key && !(key[0] == '$' && !key[1]) && n + 1 < SP_PEFT_NAME; key++) {
        key += key[0] == '\\' && key[1] == '.';
        if (!(*key == '.' || *key == '_' || (*key >= '0' && *key <= '9') ||
              (*key >= 'a' && *key <= 'z') || (*key >= 'A' && *key <= 'Z'))) {
            return false;
        }
        out[n++] = *key;
    }
    out[n] = 0;
    return n > 0 && (!*key || *key == '$');
}

/* The value of the first pattern that a module's name ends with, or NULL. */
static const json_t *pattern_of(const adapter_file *f, const char *which, const char *module) {
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(f->config, which), key, value) {
        char name[SP_PEFT_NAME];
        const size_t n = strlen(module), tail = read_key(key, name) ? strlen(name) : n + 1;
        if (tail <= n && strcmp(module + n - tail, name) == 0 &&
            (tail == n || module[n - tail - 1] == '.')) {
            return value;
        }
    }
    return NULL;
}

static spar_status check_patterns(const adapter_file *f, const char *which, double most,
                                  spar_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(f->config, which), key, value) {
        char name[SP_PEFT_NAME];
        if (!read_key(key, name)) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "%s: %s: expected names of modules, found the expression %s",
                             f->config_path, which, key);
        }
        const double v = json_number_value(value);
        if (!json_is_number(value) || !(v > 0 && v <= most) ||
            (most == MOST_RANK && !json_is_integer(value))) {
            return spar_fail(err, SPAR_FORMAT, "%s: %s: %s: expected a number up to %g, found %g",
                             f->config_path, which, key, most, v);
        }
    }
    return SPAR_OK;
}

/* What would change the mathematics and is not known here is refused by its name. */
static spar_status read_config(adapter_file *f, const sp_arch *arch, spar_error *err) {
    /* a checkpoint's [in, out] matrices are [out, in] here, and adapters the same in either case */
    const char *const never[] = {"lora_bias", "use_qalora", "fan_in_fan_out"};
    const size_t n_never = arch->transposed ? 2 : 3;
    spar_status status = SPAR_OK;
    const char *text, *path = f->config_path;
    sp_lora_settings *out = &f->settings;
    bool flag;
    SPAR_TRY(sp_json_load(&f->config, path, err));
    const json_t *root = f->config;
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
    const json_t *saved = json_object_get(root, "modules_to_save");
    if (json_object_size(saved) > 0 || json_array_size(saved) > 0) {
        SPAR_TRY(unsupported(path, "modules_to_save", "nothing", err));
    }
    SPAR_TRY(sp_json_get_int(root, "r", 1, MOST_RANK, &out->rank, path, err));
    SPAR_TRY(sp_json_get_number(root, "lora_alpha", &out->alpha, path, err));
    SPAR_TRY(sp_json_get_bool_or(root, "use_rslora", false, &out->rslora, path, err));
    SPAR_TRY(sp_json_get_bool_or(root, "use_dora", false, &out->dora, path, err));
    SPAR_TRY(sp_json_get_number_or(root, "lora_dropout", 0, &out->dropout, path, err));
    if (!(out->dropout >= 0 && out->dropout < 1)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: lora_dropout: expected 0 or more and less than 1, found %g", path,
                           out->dropout));
    }
    SPAR_TRY(check_patterns(f, "rank_pattern", MOST_RANK, err));
    SPAR_TRY(check_patterns(f, "alpha_pattern", 1e9, err));
done:
    return status;
}

static void release(adapter_file *f) {
    sp_safetensors_free(f->tensors);
    json_decref(f->config);
    free(f->config_path);
    free(f->path);
}

/* ---- where things are ---- */

/* The names of a module; the magnitude's by what is there. */
static sp_peft_names names_of(const adapter_file *f, const char *module) {
    sp_peft_names n;
    sp_peft_names_of(&n, module, ".weight");
    if (!sp_safetensors_find(f->tensors, n.m)) {
        sp_peft_names_of(&n, module, "");
    }
    return n;
}

/* Whether all tensors of a module are there; NOT_FOUND names one that is missing of some. */
static spar_status has_module(const adapter_file *f, const char *module, bool *out,
                              spar_error *err) {
    const sp_peft_names n = names_of(f, module);
    const char *const all[] = {n.a, n.b, n.m};
    const int needed = f->settings.dora ? 3 : 2;
    int missing = -1, found = 0;
    for (int i = 0; i < needed; i++) {
        const bool has = sp_safetensors_find(f->tensors, all[i]);
        found += has;
        missing = has ? missing : i;
    }
    *out = found == needed;
    return found == 0 || found == needed
               ? SPAR_OK
               : spar_fail(err, SPAR_NOT_FOUND, "%s: tensor %s is missing", f->path, all[missing]);
}

/* Whether a module's tensors are those of this stack by their sizes: the two parameters of a module
 * of experts have others, whichever was wrapped first. */
static bool fits_stack(const adapter_file *f, const char *module, const sp_stored *s) {
    const sp_peft_names n = names_of(f, module);
    const sp_tensor_entry *a = sp_safetensors_find(f->tensors, n.a);
    const sp_tensor_entry *b = sp_safetensors_find(f->tensors, n.b);
    return a->n_dims == 2 && b->n_dims == 2 && a->dims[1] == s->cols && b->dims[0] == s->rows;
}

/* The module of one matrix in the checkpoint's own form. */
static void own_module(const sp_param *p, char out[SP_PEFT_NAME]) {
    snprintf(out, SP_PEFT_NAME, "%.*s", (int)sp_lora_module_length(p->name), p->name);
}

/* The i-th name that a matrix's module may have; false: it has no more. */
static bool module_at(const spar_model *m, const sp_stored *s, int i, char out[SP_PEFT_NAME]) {
    if (s->stack > 0 || i == 0) {
        sp_peft_module(s, i == 1, out);
        return i < 2;
    }
    own_module(&m->params.items[s->first], out); /* a router, in older versions */
    return i == 1 && s->n_roles == 1;
}

/* Whether every expert of a stack has a module of its own; NOT_FOUND names one that has none where
 * others do. */
static spar_status has_experts(const spar_model *m, const adapter_file *f, const sp_stored *s,
                               bool *out, spar_error *err) {
    spar_status status = SPAR_OK;
    int found = 0, missing = 0;
    char module[SP_PEFT_NAME];
    for (int i = 0; i < sp_stored_parts(s); i++) {
        bool has;
        const int part = sp_stored_part(s, i);
        own_module(&m->params.items[part], module);
        SPAR_TRY(has_module(f, module, &has, err));
        found += has;
        missing = has ? missing : part;
    }
    *out = found == sp_stored_parts(s);
    if (found > 0 && !*out) {
        own_module(&m->params.items[missing], module);
        SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND,
                           "%s: the adapter of %s is missing: expected one on every matrix of %s, "
                           "or on none",
                           f->path, module, s->name));
    }
done:
    return status;
}

static spar_status find_source(const spar_model *m, const adapter_file *f, const sp_stored *s,
                               source *out, spar_error *err) {
    spar_status status = SPAR_OK;
    bool has = false;
    out->kind = NOWHERE;
    for (int i = 0; out->kind == NOWHERE && module_at(m, s, i, out->module); i++) {
        SPAR_TRY(has_module(f, out->module, &has, err));
        out->kind = has && (s->stack == 0 || fits_stack(f, out->module, s)) ? IN_MODULE : NOWHERE;
    }
    if (out->kind == NOWHERE && s->stack > 0) {
        SPAR_TRY(has_experts(m, f, s, &has, err));
        out->kind = has ? BY_EXPERT : NOWHERE;
    }
done:
    return status;
}

/* How many tensors a matrix has in the file. */
static size_t tensors_of(const adapter_file *f, const sp_stored *s, const source *from) {
    const size_t each = f->settings.dora ? 3 : 2;
    return from->kind == NOWHERE     ? 0
           : from->kind == IN_MODULE ? each
                                     : each * (size_t)sp_stored_parts(s);
}

/* Rank and scale of a matrix, by what the patterns call it. */
static spar_status choice_of(const adapter_file *f, const sp_stored *s, const source *from,
                             sp_lora_choice *out, spar_error *err) {
    const sp_lora_settings *l = &f->settings;
    char key[SP_PEFT_NAME];
    sp_peft_key(s, key);
    if (from->kind == BY_EXPERT) {
        if (json_object_size(json_object_get(f->config, "rank_pattern")) > 0 ||
            json_object_size(json_object_get(f->config, "alpha_pattern")) > 0) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "%s: rank_pattern, alpha_pattern: expected nothing beside adapters of "
                             "single experts' matrices, found patterns",
                             f->config_path);
        }
        *out = (sp_lora_choice){s->n_roles * l->rank, sp_lora_scale(l, l->rank, l->alpha)};
        return SPAR_OK;
    }
    const json_t *rank = pattern_of(f, "rank_pattern", key);
    const json_t *alpha = pattern_of(f, "alpha_pattern", key);
    out->rank = rank ? json_integer_value(rank) : l->rank;
    out->scale = sp_lora_scale(l, out->rank, alpha ? json_number_value(alpha) : l->alpha);
    return SPAR_OK;
}

static bool is_of(const adapter_file *f, const char *module, const char *name) {
    const sp_peft_names n = names_of(f, module);
    return strcmp(name, n.a) == 0 || strcmp(name, n.b) == 0 ||
           (f->settings.dora && strcmp(name, n.m) == 0);
}

/* Whether a tensor is one of a matrix's that is adapted. */
static bool is_of_matrix(const spar_model *m, const adapter_file *f, const sp_stored *s,
                         const char *name) {
    source from;
    bool found = false;
    if (!sp_lora_target_name(m->params.items[s->first].role) ||
        find_source(m, f, s, &from, NULL) != SPAR_OK) {
        return false;
    }
    for (int i = 0; from.kind == BY_EXPERT && !found && i < sp_stored_parts(s); i++) {
        char module[SP_PEFT_NAME];
        own_module(&m->params.items[sp_stored_part(s, i)], module);
        found = is_of(f, module, name);
    }
    return found || (from.kind == IN_MODULE && is_of(f, from.module, name));
}

/* A tensor that is none of the chosen matrices' is refused. */
static spar_status check_names(const spar_model *m, const sp_stored *list, int n,
                               const adapter_file *f, spar_error *err) {
    for (size_t i = 0; i < sp_safetensors_count(f->tensors); i++) {
        const char *name = sp_safetensors_at(f->tensors, i)->name;
        bool found = false;
        for (int k = 0; k < n && !found; k++) {
            found = is_of_matrix(m, f, &list[k], name);
        }
        if (!found) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "%s: tensor %s: expected an adapter of one of the model's linear "
                             "layers, of its sizes",
                             f->path, name);
        }
    }
    return SPAR_OK;
}

/* A matrix of floats [rows, cols], or a vector where cols is 0. */
static spar_status check_tensor(const adapter_file *f, const char *name, int64_t rows, int64_t cols,
                                spar_error *err) {
    const sp_tensor_entry *e = sp_safetensors_find(f->tensors, name);
    const int n_dims = cols > 0 ? 2 : 1;
    if (e->n_dims != n_dims || e->dims[0] != rows || (cols > 0 && e->dims[1] != cols)) {
        return spar_fail(err, SPAR_MISMATCH,
                         "%s: tensor %s: expected shape [%lld, %lld], found %s[%lld, %lld]",
                         f->path, name, (long long)rows, (long long)cols,
                         e->n_dims == n_dims ? "" : "another number of sizes, ",
                         (long long)e->dims[0], (long long)(e->n_dims > 1 ? e->dims[1] : 0));
    }
    const sp_dtype_info *type = sp_dtype_info_of(e->dtype);
    return type->to_f32
               ? SPAR_OK
               : spar_fail(err, SPAR_UNSUPPORTED, "%s: tensor %s: expected floats, found %s",
                           f->path, name, type->name);
}

/* The tensors of a module whose pairs of A and B have `width` rows and columns together. */
static spar_status check_module(const adapter_file *f, const char *module, int64_t rows,
                                int64_t cols, int64_t width, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_peft_names n = names_of(f, module);
    SPAR_TRY(check_tensor(f, n.a, width, cols, err));
    SPAR_TRY(check_tensor(f, n.b, rows, width, err));
    if (f->settings.dora) {
        SPAR_TRY(check_tensor(f, n.m, rows, 0, err));
    }
done:
    return status;
}

/* Whether the file has what the configuration says, before there is room for it. */
static spar_status check_sizes(const spar_model *m, const adapter_file *f, const sp_stored *s,
                               const source *from, int64_t rank, spar_error *err) {
    spar_status status = SPAR_OK;
    if (from->kind == IN_MODULE) {
        SPAR_TRY(check_module(f, from->module, s->rows, s->cols, rank * sp_peft_pairs(s), err));
    }
    for (int i = 0; from->kind == BY_EXPERT && i < sp_stored_parts(s); i++) {
        char module[SP_PEFT_NAME];
        const sp_param *p = &m->params.items[sp_stored_part(s, i)];
        own_module(p, module);
        SPAR_TRY(check_module(f, module, p->rows, p->cols, rank / s->n_roles, err));
    }
done:
    return status;
}

/* What the file adapts, to chosen [params.n]. */
static spar_status choose(const spar_model *m, const adapter_file *f, sp_lora_choice *chosen,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    sp_stored *list = NULL;
    int n = 0;
    size_t known = 0;
    SPAR_TRY(sp_stored_list(&list, &n, &m->params, &m->config, SP_STORED_FUSED, err));
    for (int i = 0; i < n; i++) {
        source from;
        sp_lora_choice choice = {0};
        if (!sp_lora_target_name(m->params.items[list[i].first].role)) {
            continue;
        }
        SPAR_TRY(find_source(m, f, &list[i], &from, err));
        if (from.kind != NOWHERE) {
            SPAR_TRY(choice_of(f, &list[i], &from, &choice, err));
            SPAR_TRY(check_sizes(m, f, &list[i], &from, choice.rank, err));
        }
        for (int k = 0; k < sp_stored_parts(&list[i]); k++) {
            chosen[sp_stored_part(&list[i], k)] = choice;
        }
        known += tensors_of(f, &list[i], &from);
    }
    if (known < sp_safetensors_count(f->tensors)) {
        SPAR_TRY(check_names(m, list, n, f, err));
    }
done:
    free(list);
    return status;
}

/* ---- values ---- */

/* The floats of a tensor that was checked. */
static void read_tensor(const adapter_file *f, const char *name, float *to) {
    const sp_tensor_entry *e = sp_safetensors_find(f->tensors, name);
    sp_dtype_info_of(e->dtype)->to_f32(e->data, to, e->dims[0] * (e->n_dims > 1 ? e->dims[1] : 1));
}

static spar_status read_module(const adapter_file *f, const sp_lora *l, const sp_stored *s,
                               const source *from, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_peft_names n = names_of(f, from->module);
    const int64_t width = sp_peft_part(l, s, 0)->rank * sp_peft_pairs(s), rows = s->rows;
    void *memory = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)(width * (rows + s->cols) + rows), sizeof(float), err));
    read_tensor(f, n.a, memory);
    sp_peft_copy_a(l, s, false, memory);
    read_tensor(f, n.b, memory);
    sp_peft_copy_rows(l, s, false, false, memory);
    if (l->settings.dora) {
        read_tensor(f, n.m, memory);
        sp_peft_copy_rows(l, s, true, false, memory);
    }
done:
    free(memory);
    return status;
}

/* Of one expert's matrix, the role-th of n_roles that share A: its rows of A, its columns of B; the
 * other columns stay 0. */
static spar_status read_expert(const adapter_file *f, const sp_lora *l, const sp_adapter *a,
                               int role, int n_roles, spar_error *err) {
    spar_status status = SPAR_OK;
    char module[SP_PEFT_NAME];
    void *memory = NULL;
    const int64_t rank = a->rank / n_roles, rows = a->of->rows, cols = a->of->cols;
    own_module(a->of, module);
    const sp_peft_names n = names_of(f, module);
    read_tensor(f, n.a, l->values + a->offset_a + role * rank * cols);
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)(rows * rank), sizeof(float), err));
    read_tensor(f, n.b, memory);
    for (int64_t r = 0; r < rows; r++) {
        memcpy(l->values + a->offset_b + r * a->rank + role * rank,
               (const float *)memory + r * rank, (size_t)rank * sizeof(float));
    }
done:
    free(memory);
    return status;
}

static spar_status read_adapter(const spar_model *m, const adapter_file *f, const sp_lora *l,
                                const sp_stored *s, spar_error *err) {
    spar_status status = SPAR_OK;
    source from;
    SPAR_TRY(find_source(m, f, s, &from, err));
    if (from.kind == IN_MODULE) {
        SPAR_TRY(read_module(f, l, s, &from, err));
    }
    for (int i = 0; from.kind == BY_EXPERT && i < sp_stored_parts(s); i++) {
        SPAR_TRY(read_expert(f, l, sp_peft_part(l, s, i), i % s->n_roles, s->n_roles, err));
    }
done:
    return status;
}

spar_status sp_lora_load(spar_model *m, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    adapter_file f = {0};
    sp_lora *l = NULL;
    sp_lora_choice *chosen = NULL;
    void *memory;
    SPAR_TRY(sp_path_join(&f.config_path, dir, "adapter_config.json", err));
    SPAR_TRY(read_config(&f, m->config.arch, err));
    SPAR_TRY(sp_path_join(&f.path, dir, "adapter_model.safetensors", err));
    SPAR_TRY(sp_safetensors_open(&f.tensors, f.path, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)m->params.n, sizeof *chosen, err));
    chosen = memory;
    SPAR_TRY(choose(m, &f, chosen, err));
    SPAR_TRY(sp_lora_create(m, &f.settings, chosen, &l, err));
    for (int i = 0; i < l->n_modules; i++) {
        SPAR_TRY(read_adapter(m, &f, l, &l->modules[i], err));
    }
    sp_lora_detach(m);
    m->lora = l;
    l = NULL;
    SPAR_TRY(sp_lora_prepare(m, m->prepared_backward, err));
done:
    sp_lora_free(m, l);
    release(&f);
    free(chosen);
    return status;
}
