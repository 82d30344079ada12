/* Loading a model: a Hugging Face folder or a GGUF file into the flat f32 weights.
 *
 * All tensors are found and their shapes checked before the weights are allocated, so that a
 * configuration that promises more than the file holds costs nothing.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "model/checkpoint.h"
#include "model/engine.h"
#include "model/llama2c.h"
#include "model/lora.h"
#include "model/model_create.h"
#include "model/source.h"
#include "model/vocab_gguf.h"
#include "tensor/dtype.h"
#include "text/tokenizer_parts.h"

static void shape_text(const int64_t *dims, int n, char text[128]) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < n && i < 4 && used < 128; i++) {
        used +=
            (size_t)snprintf(text + used, 128 - used, "%s%lld", i ? ", " : "", (long long)dims[i]);
    }
}

static spar_status check_shape(const sp_stored *p, const sp_source *s, const char *path,
                               const char *name, spar_error *err) {
    int64_t dims[3];
    char expected[128], found[128];
    const int n_dims = sp_stored_dims(p, dims);
    bool ok = s->n_dims == n_dims;
    for (int i = 0; ok && i < n_dims; i++) {
        ok = s->dims[i] == dims[i];
    }
    if (!ok) {
        shape_text(dims, n_dims, expected);
        shape_text(s->dims, s->n_dims, found);
        return spar_fail(err, SPAR_MISMATCH, "%s: tensor %s: expected shape [%s], found [%s]", path,
                         name, expected, found);
    }
    return SPAR_OK;
}

/* Cut a tensor into the parameters that it holds: each a run of its rows. */
static spar_status take_parts(const sp_stored *stored, const sp_params *params,
                              const sp_source *whole, const char *path, const char *name,
                              sp_source *sources, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_dtype_info *type = sp_dtype_info_of(whole->dtype);
    int64_t above = 0;
    if (!type->to_f32) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: tensor %s: expected a floating-point type, found %s", path, name,
                           type->name));
    }
    SPAR_TRY(check_shape(stored, whole, path, name, err));
    if (stored->cols == 0 && type->block_elements > 1) { /* whose values are read one by one */
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: tensor %s: expected F32, F16 or BF16 of a vector, found %s", path,
                           name, type->name));
    }
    for (int i = 0; i < sp_stored_parts(stored); i++) {
        const int part = sp_stored_part(stored, i);
        const sp_param *p = &params->items[part];
        sp_source *s = &sources[part];
        *s = *whole;
        s->step = stored->transposed ? stored->rows : 0;
        s->run = (sp_row_run){0};
        if (stored->groups > 1 || stored->swapped) {
            s->run = sp_stored_run(stored, i, p->rows, above);
        }
        const int64_t width = stored->transposed || p->cols == 0 ? 1 : p->cols;
        const int64_t elements = s->run.share > 0 ? 0 : above * width;
        s->data = (const char *)whole->data +
                  (size_t)(elements / type->block_elements) * type->block_bytes;
        s->dims[0] = p->rows;
        s->permuted = whole->permuted && (p->role == SP_Q || p->role == SP_K ||
                                          p->role == SP_Q_BIAS || p->role == SP_K_BIAS);
        above += p->rows;
    }
done:
    return status;
}

/* A run of rows of one parameter: the load is cut into tasks of about equal size. */
typedef struct fill_rows {
    int param;
    int64_t first, n;
} fill_rows;

enum { FILL_TASK = 1 << 19 }; /* weights of a task */

typedef struct fill_context {
    spar_model *model;
    const sp_source *sources;
    float *copy; /* borrowed: where the one matrix of the tasks goes, [count]; NULL: the model */
    fill_rows *tasks; /* owned */
    int n_tasks;
    atomic_bool no_memory;
} fill_context;

/* Neither floats nor blocks: what products read is made at once. */
static bool is_copy(const spar_model *m, int i) {
    return m->params.items[i].offset < 0 && !m->matrices[i].blocks;
}

/* Where row `row` of the checkpoint is in the file. GGUF files of the llama family store the rows
 * of q and k head by head as (half, 2) where the checkpoint has (2, half). */
static int64_t stored_row(const sp_source *s, int head_dim, int64_t row) {
    const int half = head_dim / 2;
    const int64_t head = row / head_dim, within = row % head_dim;
    if (s->run.share > 0) {
        return sp_row_at(s->run, row);
    }
    return s->permuted ? head * head_dim + (within % half) * 2 + within / half : row;
}

static const char *row_bytes(const sp_source *s, const sp_param *p, int64_t row) {
    const sp_dtype_info *type = sp_dtype_info_of(s->dtype);
    const int64_t blocks = (p->cols ? p->cols : 1) / type->block_elements;
    return (const char *)s->data + (size_t)(row * blocks) * type->block_bytes;
}

/* A row of a matrix that is stored transposed, its entries side by side, to `to`. */
static const char *gather_row(const sp_source *s, int64_t row, int64_t cols, char *to) {
    const size_t size = sp_dtype_info_of(s->dtype)->block_bytes;
    const char *from = (const char *)s->data + (size_t)row * size;
    for (int64_t i = 0; i < cols; i++) {
        memcpy(to + (size_t)i * size, from + (size_t)(i * s->step) * size, size);
    }
    return to;
}

/* A row into blocks: as it is where the file has that form, else rounded from its floats. */
static void fill_blocks(sp_blocks *b, const sp_source *s, int64_t row, const char *from,
                        float *floats) {
    const sp_dtype_info *type = sp_dtype_info_of(s->dtype);
    sp_affine_form form;
    sp_affine block;
    const bool same = sp_affine_form_of(s->dtype, &form) && form.bits == b->form.bits &&
                      form.has_min == b->form.has_min;
    if (!same) {
        type->to_f32(from, floats, b->in);
    }
    for (int64_t i = 0; i < b->n_blocks; i++) {
        if (same) {
            sp_affine_read(s->dtype, from + (size_t)i * type->block_bytes, &block);
        } else {
            sp_affine_round(floats + i * SP_AFFINE_BLOCK, b->form, &block);
        }
        sp_blocks_put(b, row, i, &block);
    }
}

/* Where a row of a matrix that is stored transposed is put together; NULL where it is not, or there
 * is no memory, which is noted. */
static char *room_for_row(fill_context *f, const sp_source *s, int64_t cols) {
    char *room = s->step ? malloc((size_t)cols * sizeof(double)) : NULL;
    if (s->step && !room) {
        atomic_store(&f->no_memory, true);
    }
    return room;
}

static const char *source_row(const fill_context *f, const sp_source *s, const sp_param *p,
                              int64_t row, char *gathered) {
    const int64_t at = stored_row(s, f->model->config.head_dim, row);
    return s->step ? gather_row(s, at, p->cols, gathered) : row_bytes(s, p, at);
}

/* Whether rows lie in the file as they do in the parameter. */
static bool in_order(const sp_source *s) {
    return !s->permuted && s->step == 0 && s->run.share == 0;
}

static void fill_floats(fill_context *f, const fill_rows *rows, float *to) {
    const sp_param *p = &f->model->params.items[rows->param];
    const sp_source *s = &f->sources[rows->param];
    const int64_t cols = p->cols ? p->cols : 1;
    char *gathered = room_for_row(f, s, cols);
    for (int64_t row = rows->first; row < rows->first + rows->n && (gathered || !s->step); row++) {
        const char *from = source_row(f, s, p, row, gathered);
        sp_dtype_info_of(s->dtype)->to_f32(from, to + row * cols, cols);
        for (int64_t i = row * cols; s->shift != 0.0F && i < (row + 1) * cols; i++) {
            to[i] += s->shift;
        }
    }
    free(gathered);
}

static void fill_block_rows(fill_context *f, const fill_rows *rows) {
    const sp_param *p = &f->model->params.items[rows->param];
    const sp_source *s = &f->sources[rows->param];
    float *floats = malloc((size_t)p->cols * sizeof *floats);
    char *gathered = room_for_row(f, s, p->cols);
    if (!floats || (s->step && !gathered)) {
        atomic_store(&f->no_memory, true);
        free(floats);
        free(gathered);
        return;
    }
    for (int64_t row = rows->first; row < rows->first + rows->n; row++) {
        fill_blocks(f->model->matrices[rows->param].blocks, s, row,
                    source_row(f, s, p, row, gathered), floats);
    }
    free(floats);
    free(gathered);
}

static void fill_task(void *context, int task, int worker) {
    fill_context *f = context;
    const fill_rows *rows = &f->tasks[task];
    const sp_param *p = &f->model->params.items[rows->param];
    const sp_source *s = &f->sources[rows->param];
    (void)worker;
    if (f->copy) {
        fill_floats(f, rows, f->copy);
    } else if (p->offset < 0) {
        fill_block_rows(f, rows);
    } else {
        fill_floats(f, rows, f->model->weights + p->offset);
    }
    if (in_order(s)) {
        const char *from = row_bytes(s, p, rows->first);
        sp_map_forget(from, (size_t)(row_bytes(s, p, rows->first + rows->n) - from));
    }
}

/* Panels of blocks are written by one task each: the cuts are multiples of them. */
static int64_t rows_a_task(const sp_param *p) {
    const int64_t rows = FILL_TASK / (p->cols ? p->cols : 1);
    return rows / SP_PANEL * SP_PANEL + SP_PANEL;
}

/* Of parameters first .. end - 1, but for those that are copies alone when there are several. */
static spar_status make_fill_tasks(fill_context *f, int first, int end, spar_error *err) {
    const sp_params *params = &f->model->params;
    size_t n = 0;
    void *memory;
    for (int i = first; i < end; i++) {
        n += (size_t)(params->items[i].rows / rows_a_task(&params->items[i])) + 1;
    }
    const spar_status status = sp_mem_calloc(&memory, n, sizeof *f->tasks, err);
    if (status != SPAR_OK) {
        return status;
    }
    f->tasks = memory;
    for (int i = first; i < end; i++) {
        const sp_param *p = &params->items[i];
        const int64_t most = rows_a_task(p);
        for (int64_t row = 0; row < p->rows && (f->copy || !is_copy(f->model, i)); row += most) {
            const int64_t left = p->rows - row;
            f->tasks[f->n_tasks++] = (fill_rows){i, row, left < most ? left : most};
        }
    }
    return SPAR_OK;
}

static spar_status fill(spar_model *m, const sp_source *sources, spar_error *err) {
    spar_status status = SPAR_OK;
    fill_context f = {.model = m, .sources = sources};
    atomic_init(&f.no_memory, false);
    SPAR_TRY(make_fill_tasks(&f, 0, m->params.n, err));
    sp_pool_run(m->pool, f.n_tasks, fill_task, &f);
    if (atomic_load(&f.no_memory)) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a row of weights"));
    }
done:
    free(f.tasks);
    return status;
}

/* Whether the file holds the very floats, in the place where a float can be. */
static bool is_plain(const sp_source *s) {
    return s->dtype == SP_F32 && in_order(s) && s->shift == 0.0F &&
           (uintptr_t)s->data % _Alignof(float) == 0;
}

/* A matrix that is to be copies alone: from the file's floats, or by way of space [count]. */
static spar_status fill_copy(spar_model *m, const sp_source *sources, int i, float *space,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_source *s = &sources[i];
    fill_context f = {.model = m, .sources = sources, .copy = space};
    atomic_init(&f.no_memory, false);
    if (is_plain(s)) {
        SPAR_TRY(sp_model_prepare_copy(m, i, s->data, err));
        sp_map_forget(s->data, (size_t)m->params.items[i].count * sizeof(float));
        goto done;
    }
    SPAR_TRY(make_fill_tasks(&f, i, i + 1, err));
    sp_pool_run(m->pool, f.n_tasks, fill_task, &f);
    if (atomic_load(&f.no_memory)) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for a row of weights"));
    }
    SPAR_TRY(sp_model_prepare_copy(m, i, space, err));
done:
    free(f.tasks);
    return status;
}

static spar_status fill_copies(spar_model *m, const sp_source *sources, spar_error *err) {
    spar_status status = SPAR_OK;
    void *space = NULL;
    int64_t most = 0;
    for (int i = 0; i < m->params.n; i++) {
        const int64_t count = m->params.items[i].count;
        most = is_copy(m, i) && !is_plain(&sources[i]) && count > most ? count : most;
    }
    SPAR_TRY(sp_mem_aligned(&space, (size_t)most, sizeof(float), err));
    for (int i = 0; i < m->params.n; i++) {
        if (is_copy(m, i)) {
            SPAR_TRY(fill_copy(m, sources, i, space, err));
        }
    }
done:
    free(space);
    return status;
}

/* The form in which a parameter is kept: bits 0 for floats. */
static sp_affine_form form_of(const sp_param *p, const sp_source *s, spar_weights weights) {
    static const sp_affine_form floats = {0}, q8_0 = {8, false}, q4_1 = {4, true};
    const bool blocks = p->cols > 0 && p->role != SP_ROUTER && p->role != SP_SHARED_WEIGHT &&
                        p->role != SP_POSITIONS && sp_blocks_fit(p->cols);
    const bool packed = sp_dtype_info_of(s->dtype)->block_elements > 1;
    sp_affine_form form;
    if (!blocks || weights == SPAR_WEIGHTS_F32 || (weights == SPAR_WEIGHTS_FILE && !packed)) {
        return floats;
    }
    if (weights == SPAR_WEIGHTS_Q4_1) {
        return q4_1;
    }
    return weights != SPAR_WEIGHTS_Q8_0 && sp_affine_form_of(s->dtype, &form) ? form : q8_0;
}

/* Create the model and fill its weights from the sources, by parameter index. */
static spar_status build(spar_model **out, const sp_config *config, const sp_params *params,
                         const char *path, const sp_source *sources,
                         const spar_model_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_model *m = NULL;
    sp_affine_form *forms = NULL;
    void *memory;
    spar_weights weights = options->weights;
    if (weights == SPAR_WEIGHTS_AUTO && options->dtype != SPAR_DTYPE_INT8 &&
        options->dtype != SPAR_DTYPE_INT16) {
        weights = SPAR_WEIGHTS_F32;
    }
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)params->n, sizeof *forms, err));
    forms = memory;
    for (int i = 0; i < params->n; i++) {
        forms[i] = form_of(&params->items[i], &sources[i], weights);
    }
    SPAR_TRY(sp_model_create(&m, config, path, options, forms, err));
    SPAR_TRY(fill(m, sources, err));
    SPAR_TRY(fill_copies(m, sources, err));
    SPAR_TRY(sp_model_prepare(m, false, err));
    *out = m;
    m = NULL;
done:
    free(forms);
    spar_model_free(m);
    return status;
}

/* By how the first layer with experts is stored. */
static sp_stored_form form_of_folder(const sp_safetensors *file, const sp_config *config) {
    char name[96];
    int layer = 0;
    while (layer < config->layers && !config->sparse[layer]) {
        layer++;
    }
    sp_stored_experts_name(config->arch, layer, name);
    return name[0] && sp_checkpoint_find(file, name) ? SP_STORED_FUSED : SP_STORED_FOLDER;
}

static spar_status find_safetensors(const sp_params *params, const sp_stored *list, int n,
                                    const sp_safetensors *file, const char *path,
                                    sp_source *sources, spar_error *err) {
    spar_status status = SPAR_OK;
    for (int i = 0; i < n; i++) {
        const char *name = list[i].name;
        const sp_tensor_entry *entry = sp_checkpoint_find(file, name);
        if (!entry) {
            SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: tensor %s is missing", path, name));
            goto done;
        }
        sp_source whole = {.data = entry->data,
                           .dtype = entry->dtype,
                           .n_dims = entry->n_dims,
                           .shift = list[i].shift};
        for (int d = 0; d < entry->n_dims && d < 4; d++) {
            whole.dims[d] = entry->dims[d];
        }
        SPAR_TRY(take_parts(&list[i], params, &whole, path, name, sources, err));
    }
done:
    return status;
}

static spar_status find_gguf(const sp_params *params, const sp_stored *list, int n,
                             const sp_config *config, const sp_gguf *gguf, const char *path,
                             sp_source *sources, spar_error *err) {
    spar_status status = SPAR_OK;
    for (int i = 0; i < n; i++) {
        const char *name = list[i].gguf_name;
        const sp_gguf_tensor *t = sp_gguf_find_tensor(gguf, name);
        if (!t) {
            SPAR_TRY(spar_fail(err, SPAR_NOT_FOUND, "%s: tensor %s is missing", path, name));
            goto done;
        }
        sp_source whole = {.data = t->data,
                           .dtype = t->dtype,
                           .n_dims = t->n_dims,
                           .permuted = config->arch->gguf_permuted};
        memcpy(whole.dims, t->dims, sizeof whole.dims);
        if (list[i].cols == 0 && list[i].stack == 0 && t->n_dims == 2 && t->dims[0] == 1) {
            whole.n_dims = 1; /* a vector as a matrix of one row */
            whole.dims[0] = t->dims[1];
        }
        SPAR_TRY(take_parts(&list[i], params, &whole, path, name, sources, err));
    }
done:
    return status;
}

/* What the file has as metadata: an array of a float a layer. */
static spar_status find_metadata(const sp_params *params, int layers, const sp_gguf *gguf,
                                 const char *path, sp_source *sources, spar_error *err) {
    for (int i = 0; i < params->n; i++) {
        const sp_param *p = &params->items[i];
        if (!sp_params_metadata(p->role)) {
            continue;
        }
        const sp_gguf_value *v = sp_gguf_find(gguf, p->gguf_name);
        if (!v || !v->is_array || v->type != SP_GGUF_F32 || v->n < (uint64_t)layers) {
            return spar_fail(err, SPAR_FORMAT,
                             "%s: metadata %s: expected an array of %d floats, found %s", path,
                             p->gguf_name, layers, v ? "another value" : "nothing");
        }
        sources[i] = (sp_source){.data = v->data + (size_t)p->layer * sizeof(float),
                                 .dtype = SP_F32,
                                 .n_dims = 1,
                                 .dims = {1}};
    }
    return SPAR_OK;
}

/* generation_config.json may list several ids that end a turn. */
static spar_status add_generation_eos(sp_config *config, const char *dir, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    json_t *root = NULL;
    int32_t ids[SP_MAX_EOS];
    int n;
    SPAR_TRY(sp_path_join(&path, dir, "generation_config.json", err));
    if (!sp_file_exists(path)) {
        goto done;
    }
    SPAR_TRY(sp_json_load(&root, path, err));
    SPAR_TRY(sp_config_read_ids(root, "eos_token_id", ids, SP_MAX_EOS, &n, path, err));
    for (int i = 0; i < n; i++) {
        sp_config_add_eos(config, ids[i]);
    }
done:
    json_decref(root);
    free(path);
    return status;
}

/* The configuration of a scoring model as that of its decoder: the class of the same family that
 * has a vocabulary's head, tied, so that no tensor is looked for. */
static spar_status as_decoder(json_t *root, const char *path, spar_error *err) {
    static const char *const scorers[] = {"ForSequenceClassification", "ForTokenClassification",
                                          "ForProcessRewardModel", "ForRewardModel"};
    json_t *classes = json_object_get(root, "architectures");
    const char *name = json_string_value(json_array_get(classes, 0));
    const size_t n = name ? strlen(name) : 0;
    if (name && strcmp(name, "CustomRewardModel") == 0) { /* of any family: model_type says which */
        json_object_del(root, "architectures");
        return json_object_set_new(root, "tie_word_embeddings", json_true()) == 0
                   ? SPAR_OK
                   : spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", path);
    }
    for (size_t i = 0; name && i < sizeof scorers / sizeof scorers[0]; i++) {
        const size_t tail = strlen(scorers[i]);
        if (n > tail && strcmp(name + n - tail, scorers[i]) == 0) {
            json_t *decoder = json_sprintf("%.*sForCausalLM", (int)(n - tail), name);
            if (json_array_set_new(classes, 0, decoder) != 0 ||
                json_object_set_new(root, "tie_word_embeddings", json_true()) != 0) {
                return spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", path);
            }
            return SPAR_OK;
        }
    }
    return spar_fail(err, SPAR_UNSUPPORTED,
                     "%s: architectures: expected a scoring model, LlamaForSequenceClassification "
                     "for one, found %s",
                     path, name ? name : "nothing");
}

static spar_status read_config(sp_config *out, const char *dir, bool scorer, spar_error *err) {
    spar_status status = SPAR_OK;
    char *path = NULL;
    json_t *root = NULL;
    SPAR_TRY(sp_path_join(&path, dir, "config.json", err));
    SPAR_TRY(sp_json_load(&root, path, err));
    if (scorer) {
        SPAR_TRY(as_decoder(root, path, err));
    }
    SPAR_TRY(sp_config_from_json(out, root, path, err));
    SPAR_TRY(add_generation_eos(out, dir, err));
done:
    json_decref(root);
    free(path);
    return status;
}

/* For trials: the first layers of a model alone. */
static void cut_layers(sp_config *config, int layers) {
    if (layers > 0 && layers < config->layers) {
        config->layers = layers;
    }
}

/* Files of PyTorch are programs that run when they are read. */
static spar_status refuse_pickle(const char *path, spar_error *err) {
    return spar_fail(err, SPAR_UNSUPPORTED,
                     "%s: PyTorch's pickled weights are not read, since they can run code: convert "
                     "them with transformers, by from_pretrained and save_pretrained",
                     path);
}

/* A folder that has pickled weights and no others. */
static spar_status check_pickle(const char *dir, spar_error *err) {
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                        "pytorch_model.bin", "pytorch_model.bin.index.json"};
    spar_status status = SPAR_OK;
    char *path = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        free(path);
        path = NULL;
        SPAR_TRY(sp_path_join(&path, dir, names[i], err));
        if (sp_file_exists(path)) {
            status = i < 2 ? SPAR_OK : refuse_pickle(path, err);
            goto done;
        }
    }
done:
    free(path);
    return status;
}

static spar_status load_folder(spar_model **out, const char *dir, bool scorer,
                               const spar_model_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_config config;
    sp_params params = {0};
    sp_safetensors *file = NULL;
    sp_source *sources = NULL;
    sp_stored *stored = NULL;
    int n_stored = 0;
    void *memory;
    SPAR_TRY(read_config(&config, dir, scorer, err));
    cut_layers(&config, options->layers);
    SPAR_TRY(sp_params_create(&params, &config, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)params.n, sizeof *sources, err));
    sources = memory;
    SPAR_TRY(check_pickle(dir, err));
    SPAR_TRY(sp_safetensors_open(&file, dir, err));
    SPAR_TRY(
        sp_stored_list(&stored, &n_stored, &params, &config, form_of_folder(file, &config), err));
    SPAR_TRY(find_safetensors(&params, stored, n_stored, file, dir, sources, err));
    SPAR_TRY(build(out, &config, &params, dir, sources, options, err));
    if (sp_tokenizer_in(dir)) {
        SPAR_TRY(spar_tokenizer_load(&(*out)->tokenizer, dir, err));
    }
done:
    free(sources);
    free(stored);
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
    sp_source *sources = NULL;
    sp_stored *stored = NULL;
    int n_stored = 0;
    void *memory;
    SPAR_TRY(sp_gguf_open(&gguf, path, err));
    SPAR_TRY(sp_config_from_gguf(&config, gguf, path, err));
    cut_layers(&config, options->layers);
    SPAR_TRY(sp_params_create(&params, &config, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)params.n, sizeof *sources, err));
    sources = memory;
    SPAR_TRY(sp_stored_list(&stored, &n_stored, &params, &config, SP_STORED_GGUF, err));
    SPAR_TRY(find_gguf(&params, stored, n_stored, &config, gguf, path, sources, err));
    SPAR_TRY(find_metadata(&params, config.layers, gguf, path, sources, err));
    SPAR_TRY(build(out, &config, &params, path, sources, options, err));
    SPAR_TRY(sp_vocab_from_gguf(gguf, &(*out)->tokenizer, err));
done:
    free(sources);
    free(stored);
    sp_params_release(&params);
    sp_gguf_free(gguf);
    return status;
}

/* A checkpoint of llama2.c, which has no tokenizer. */
static spar_status load_llama2c(spar_model **out, const char *path,
                                const spar_model_options *options, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_config config;
    sp_params params = {0};
    sp_map file = {0};
    sp_source *sources = NULL;
    void *memory;
    SPAR_TRY(sp_map_open(&file, path, err));
    SPAR_TRY(sp_llama2c_config(&config, &file, path, err));
    SPAR_TRY(sp_params_create(&params, &config, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)params.n, sizeof *sources, err));
    sources = memory;
    sp_llama2c_sources(&params, &config, &file, sources);
    SPAR_TRY(build(out, &config, &params, path, sources, options, err));
done:
    free(sources);
    sp_params_release(&params);
    sp_map_close(&file);
    return status;
}

/* A file is told by what it begins with: PyTorch's are zip archives, and a GGUF says so. */
static spar_status load_file(spar_model **out, const char *path, const spar_model_options *options,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    sp_map file = {0};
    const size_t n = strlen(path);
    SPAR_TRY(sp_map_open(&file, path, err));
    if (file.size >= 4 && memcmp(file.data, "PK\3\4", 4) == 0) {
        SPAR_TRY(refuse_pickle(path, err));
    }
    const bool gguf = file.size >= 4 && memcmp(file.data, "GGUF", 4) == 0;
    SPAR_TRY(!gguf && n > 4 && strcmp(path + n - 4, ".bin") == 0
                 ? load_llama2c(out, path, options, err)
                 : load_gguf(out, path, options, err));
done:
    sp_map_close(&file);
    return status;
}

/* The chat template: the one that the options name, else the tokenizer's own. */
static spar_status load_template(spar_model *m, const spar_model_options *options,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    char *text = NULL;
    size_t n;
    if (options->template_path) {
        SPAR_TRY(sp_file_read(options->template_path, 16 << 20, &text, &n, err));
        SPAR_TRY(spar_template_compile(&m->chat_template, text, n, options->template_path, err));
    } else if (options->template_text) {
        SPAR_TRY(spar_template_compile(&m->chat_template, options->template_text,
                                       strlen(options->template_text), "chat template", err));
    } else if (m->tokenizer) {
        SPAR_TRY(spar_template_of_tokenizer(&m->chat_template, m->tokenizer, m->path, err));
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

static spar_status load(spar_model **out, const char *path, bool scorer,
                        const spar_model_options *options, spar_error *err) {
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
    if (scorer && !sp_file_is_dir(path)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: a scoring model: expected a Hugging Face folder, found a file",
                           path));
    }
    SPAR_TRY(sp_file_is_dir(path) ? load_folder(&m, path, scorer, options, err)
                                  : load_file(&m, path, options, err));
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

spar_status spar_model_measure(spar_model_sizes *out, const char *path, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_config config;
    sp_params params = {0};
    sp_gguf *gguf = NULL;
    if (sp_file_is_dir(path)) {
        SPAR_TRY(read_config(&config, path, false, err));
    } else {
        SPAR_TRY(sp_gguf_open(&gguf, path, err));
        SPAR_TRY(sp_config_from_gguf(&config, gguf, path, err));
    }
    SPAR_TRY(sp_params_create(&params, &config, err));
    *out = (spar_model_sizes){.layers = config.layers,
                              .parameters = sp_params_elements(&params),
                              .active = sp_params_active(&params, &config)};
done:
    sp_params_release(&params);
    sp_gguf_free(gguf);
    return status;
}

spar_status spar_model_load(spar_model **out, const char *path, const spar_model_options *options,
                            spar_error *err) {
    return load(out, path, false, options, err);
}

spar_status sp_model_load_scorer(spar_model **out, const char *dir,
                                 const spar_model_options *options, spar_error *err) {
    return load(out, dir, true, options, err);
}
