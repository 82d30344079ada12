#include "model/lora.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "model/dora.h"
#include "model/engine.h"
#include "model/lora_parts.h"

/* The last part of a module's name in a checkpoint: what PEFT calls a target module. */
static const struct {
    const char *name;
    sp_role role;
} targets[] = {{"q_proj", SP_Q},       {"k_proj", SP_K},   {"v_proj", SP_V},      {"o_proj", SP_O},
               {"gate_proj", SP_GATE}, {"up_proj", SP_UP}, {"down_proj", SP_DOWN}};
enum { N_TARGETS = sizeof targets / sizeof targets[0] };

const char *sp_lora_target_name(sp_role role) {
    for (int i = 0; i < N_TARGETS; i++) {
        if (targets[i].role == role) {
            return targets[i].name;
        }
    }
    return NULL;
}

/* Whether the name of a checkpoint's tensor, "....NAME.weight", ends so. */
static bool ends_with(const char *tensor, const char *name) {
    const size_t n = strlen(tensor) - strlen(".weight"), tail = strlen(name);
    return n > tail && tensor[n - tail - 1] == '.' && strncmp(tensor + n - tail, name, tail) == 0;
}

static bool is_target(const spar_option_list *names, sp_role role, const char *tensor) {
    const char *common = sp_lora_target_name(role);
    bool found = common && names->n == 0;
    for (int i = 0; common && i < names->n; i++) {
        const char *name = names->items[i];
        found |=
            strcmp(name, common) == 0 || strcmp(name, "all-linear") == 0 || ends_with(tensor, name);
    }
    return found;
}

/* Whether some matrix of the model, or of other models, is called so. */
static bool is_known(const spar_model *m, const sp_stored *list, int n, const char *name) {
    bool known = strcmp(name, "all-linear") == 0;
    for (int k = 0; k < N_TARGETS; k++) {
        known |= strcmp(name, targets[k].name) == 0;
    }
    for (int i = 0; i < n; i++) {
        const sp_param *p = &m->params.items[list[i].first];
        known |= sp_lora_target_name(p->role) && ends_with(list[i].name, name);
    }
    return known;
}

static spar_status check_targets(const spar_model *m, const sp_stored *list, int n,
                                 const spar_option_list *names, spar_error *err) {
    for (int i = 0; i < names->n; i++) {
        if (!is_known(m, list, n, names->items[i])) {
            return spar_fail(err, SPAR_INVALID,
                             "target module %s: expected all-linear, q_proj, k_proj, v_proj, "
                             "o_proj, gate_proj, up_proj, down_proj or what the checkpoint calls "
                             "a matrix",
                             names->items[i]);
        }
    }
    return SPAR_OK;
}

static int64_t padded(int64_t count) {
    return (count + 15) / 16 * 16; /* every array starts on a 64-byte line */
}

static spar_status place_gains(sp_lora *l, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    size_t n = 0;
    for (int i = 0; i < l->n; i++) {
        n += (size_t)l->items[i].of->rows;
    }
    SPAR_TRY(sp_mem_calloc(&memory, 2 * n, sizeof *l->gains, err));
    l->gains = memory;
    float *at = l->gains;
    for (int i = 0; i < l->n; i++) {
        l->items[i].length = at;
        l->items[i].gain = at + l->items[i].of->rows;
        at += 2 * l->items[i].of->rows;
    }
done:
    return status;
}

/* Parts of what a checkpoint stores as one are adapted together: its adapters have one name. */
static spar_status check_parts(const spar_model *m, const sp_stored *s, const bool *chosen,
                               spar_error *err) {
    for (int i = 1; i < s->n_roles; i++) {
        if (chosen[s->first + i] != chosen[s->first]) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "adapter: model_type %s stores %s as one matrix, which is adapted as "
                             "a whole: name that, or all of its parts",
                             m->config.arch->model_type, s->name);
        }
    }
    return SPAR_OK;
}

/* A place for what adapts a matrix of the checkpoint: A, then B (and magnitudes) of its parts. */
static void place_module(const spar_model *m, sp_lora *l, const sp_stored *s) {
    const int64_t rank = l->settings.rank;
    const int64_t offset_a = l->total;
    const int lead = l->n;
    l->modules[l->n_modules++] = *s;
    l->total += padded(rank * s->cols);
    for (int i = 0; i < s->n_roles; i++) {
        const sp_param *p = &m->params.items[s->first + i];
        sp_adapter *a = &l->items[l->n];
        l->index[s->first + i] = (int16_t)l->n++;
        a->of = p;
        a->lead = lead;
        a->offset_a = offset_a;
        a->offset_b = l->total;
        a->offset_m = a->offset_b + padded(p->rows * rank);
        l->total = a->offset_m + (l->settings.dora ? padded(p->rows) : 0);
    }
}

static spar_status place_modules(const spar_model *m, sp_lora *l, const bool *chosen,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    sp_stored *list = NULL;
    void *memory;
    int n = 0;
    SPAR_TRY(sp_stored_list(&list, &n, &m->params, &m->config, SP_STORED_FOLDER, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)n, sizeof *l->modules, err));
    l->modules = memory;
    for (int i = 0; i < n; i++) {
        SPAR_TRY(check_parts(m, &list[i], chosen, err));
        if (chosen[list[i].first]) {
            place_module(m, l, &list[i]);
        }
    }
    if (l->n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s: the adapter has no matrix to adapt", m->path));
    }
done:
    free(list);
    return status;
}

spar_status sp_lora_create(spar_model *m, const sp_lora_settings *settings, const bool *chosen,
                           sp_lora **out, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    sp_lora *l = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *l, err));
    l = memory;
    l->settings = *settings;
    l->settings.targets.n = 0;
    l->scale = (float)(settings->alpha /
                       (settings->rslora ? sqrt((double)settings->rank) : (double)settings->rank));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)m->params.n, sizeof *l->items, err));
    l->items = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)m->params.n, sizeof *l->index, err));
    l->index = memory;
    for (int i = 0; i < m->params.n; i++) {
        l->index[i] = -1;
    }
    SPAR_TRY(place_modules(m, l, chosen, err));
    SPAR_TRY(sp_mem_aligned(&memory, (size_t)l->total, sizeof *l->values, err));
    l->values = memory;
    memset(l->values, 0, (size_t)l->total * sizeof *l->values);
    for (int i = 0; i < l->n; i++) {
        sp_adapter *a = &l->items[i];
        a->a =
            (sp_weight){.data = l->values + a->offset_a, .out = settings->rank, .in = a->of->cols};
        a->b =
            (sp_weight){.data = l->values + a->offset_b, .out = a->of->rows, .in = settings->rank};
    }
    if (settings->dora) {
        SPAR_TRY(place_gains(l, err));
    }
    *out = l;
    l = NULL;
done:
    sp_lora_free(m, l);
    return status;
}

void sp_lora_free(spar_model *m, sp_lora *l) {
    if (!l) {
        return;
    }
    for (int i = 0; i < l->n; i++) {
        m->backend->ops->weight_release(m->backend, &l->items[i].a);
        m->backend->ops->weight_release(m->backend, &l->items[i].b);
    }
    free(l->items);
    free(l->modules);
    free(l->index);
    free(l->values);
    free(l->gains);
    free(l);
}

void sp_lora_detach(spar_model *m) {
    sp_lora_free(m, m->lora);
    m->lora = NULL;
}

/* Experts are not adapted: all-linear is what is dense. A target that they alone have is refused.
 */
static spar_status check_experts(const spar_model *m, const spar_option_list *names,
                                 spar_error *err) {
    const bool all = sp_config_sparse_layers(&m->config) == m->config.layers;
    for (int i = 0; all && i < names->n; i++) {
        for (int k = 0; k < N_TARGETS; k++) {
            const sp_role role = targets[k].role;
            if (strcmp(names->items[i], targets[k].name) == 0 &&
                !sp_params_get(&m->params, role, 0)) {
                return spar_fail(err, SPAR_UNSUPPORTED,
                                 "target module %s: adapters of experts are not supported, and "
                                 "every feed-forward of %s is a mixture of experts: name q_proj, "
                                 "k_proj, v_proj or o_proj",
                                 names->items[i], m->path);
            }
        }
    }
    return SPAR_OK;
}

/* The parameters that the names mean, to chosen [params.n]. */
static spar_status choose_targets(const spar_model *m, const spar_option_list *names, bool *chosen,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    sp_stored *list = NULL;
    int n = 0;
    SPAR_TRY(sp_stored_list(&list, &n, &m->params, &m->config, SP_STORED_FOLDER, err));
    SPAR_TRY(check_targets(m, list, n, names, err));
    SPAR_TRY(check_experts(m, names, err));
    for (int i = 0; i < n; i++) {
        for (int part = list[i].first; part < list[i].first + list[i].n_roles; part++) {
            const sp_param *p = &m->params.items[part];
            chosen[part] = is_target(names, p->role, list[i].name);
        }
    }
done:
    free(list);
    return status;
}

/* A as PEFT begins: uniform in +-1/sqrt(in). */
static void start_values(sp_lora *l, uint64_t seed) {
    for (int i = 0; i < l->n; i++) {
        const sp_adapter *a = &l->items[i];
        const double bound = 1.0 / sqrt((double)a->of->cols);
        for (int64_t k = 0; a->lead == i && k < l->settings.rank * a->of->cols; k++) {
            const double u = sp_rng_uniform(seed, (uint64_t)i, (uint64_t)k);
            l->values[a->offset_a + k] = (float)(bound * (2.0 * u - 1.0));
        }
    }
}

spar_status sp_lora_attach(spar_model *m, const sp_lora_settings *settings, uint64_t seed,
                           spar_error *err) {
    spar_status status = SPAR_OK;
    bool *chosen = NULL;
    void *memory;
    sp_lora *l = NULL;
    SPAR_TRY(sp_model_check_floats(m, "an adapter", err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)m->params.n, sizeof *chosen, err));
    chosen = memory;
    SPAR_TRY(choose_targets(m, &settings->targets, chosen, err));
    SPAR_TRY(sp_lora_create(m, settings, chosen, &l, err));
    start_values(l, seed);
    sp_lora_detach(m);
    m->lora = l;
    SPAR_TRY(sp_lora_prepare(m, m->prepared_backward, err));
    if (settings->dora) {
        SPAR_TRY(sp_dora_init(m, err));
        SPAR_TRY(sp_dora_prepare(m, err));
    }
done:
    free(chosen);
    return status;
}

spar_status sp_lora_prepare(spar_model *m, bool backward, spar_error *err) {
    spar_status status = SPAR_OK;
    const bool dora = m->lora && m->lora->settings.dora; /* lengths are made with A's backward */
    const int what = SP_PREPARE_FORWARD | (backward || dora ? SP_PREPARE_BACKWARD : 0);
    for (int i = 0; m->lora && i < m->lora->n; i++) {
        SPAR_TRY(m->backend->ops->weight_prepare(m->backend, &m->lora->items[i].a, what, err));
        SPAR_TRY(m->backend->ops->weight_prepare(m->backend, &m->lora->items[i].b, what, err));
    }
    if (dora) {
        SPAR_TRY(sp_dora_prepare(m, err));
    }
done:
    return status;
}

const sp_adapter *sp_lora_find(const spar_model *m, sp_role role, int layer) {
    if (!m->lora) {
        return NULL;
    }
    const sp_param *p = sp_params_get(&m->params, role, layer);
    const int i = p ? m->lora->index[p - m->params.items] : -1;
    return i < 0 ? NULL : &m->lora->items[i];
}

void sp_lora_merge(const spar_model *m, const sp_param *p, float *out) {
    const int i = m->lora ? m->lora->index[p - m->params.items] : -1;
    if (i < 0) {
        return;
    }
    const sp_adapter *adapter = &m->lora->items[i];
    const int64_t rank = m->lora->settings.rank;
    const float *a = m->lora->values + adapter->offset_a;
    const float *b = m->lora->values + adapter->offset_b;
    for (int64_t r = 0; r < p->rows; r++) {
        for (int64_t k = 0; k < rank; k++) {
            const float factor = m->lora->scale * b[r * rank + k];
            for (int64_t c = 0; c < p->cols; c++) {
                out[r * p->cols + c] += factor * a[k * p->cols + c];
            }
        }
    }
    if (m->lora->settings.dora) {
        sp_dora_merge(m->lora, adapter, out);
    }
}
