#include "model/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "model/dora.h"
#include "model/engine.h"
#include "model/lora_parts.h"

/* The last part of a module's name in a checkpoint: what PEFT calls a target module. Those of
 * mixtures are adapted when they are named. */
static const struct {
    const char *name;
    sp_role role;
    bool mixed;
} targets[] = {{"q_proj", SP_Q, false},
               {"k_proj", SP_K, false},
               {"v_proj", SP_V, false},
               {"o_proj", SP_O, false},
               {"in_proj", SP_CONV_IN, false},
               {"out_proj", SP_CONV_OUT, false},
               {"gate_proj", SP_GATE, false},
               {"up_proj", SP_UP, false},
               {"down_proj", SP_DOWN, false},
               {"gate_proj", SP_EXPERT_GATE, true},
               {"up_proj", SP_EXPERT_UP, true},
               {"down_proj", SP_EXPERT_DOWN, true},
               {"gate_proj", SP_SHARED_GATE, true},
               {"up_proj", SP_SHARED_UP, true},
               {"down_proj", SP_SHARED_DOWN, true},
               {"gate", SP_ROUTER, true},
               {"shared_expert_gate", SP_SHARED_WEIGHT, true}};
enum { N_TARGETS = sizeof targets / sizeof targets[0] };

/* Of the row, N_TARGETS where there is none. */
static int target_of(sp_role role) {
    int i = 0;
    while (i < N_TARGETS && targets[i].role != role) {
        i++;
    }
    return i;
}

const char *sp_lora_target_name(sp_role role) {
    const int i = target_of(role);
    return i < N_TARGETS ? targets[i].name : NULL;
}

bool sp_lora_is_mixed(sp_role role) {
    const int i = target_of(role);
    return i < N_TARGETS && targets[i].mixed;
}

size_t sp_lora_module_length(const char *tensor) {
    const size_t n = strlen(tensor), ending = strlen(".weight");
    return n > ending && strcmp(tensor + n - ending, ".weight") == 0 ? n - ending : n;
}

/* Whether the name of a checkpoint's tensor, "....NAME.weight" or "....NAME", ends so. */
static bool ends_with(const char *tensor, const char *name) {
    const size_t n = sp_lora_module_length(tensor), tail = strlen(name);
    return n > tail && tensor[n - tail - 1] == '.' && strncmp(tensor + n - tail, name, tail) == 0;
}

/* Whether a matrix is called so: as one of the checkpoint, or, a part of it, by its own name, in
 * which an expert's number is left out. */
static bool is_called(const spar_model *m, const sp_stored *s, const sp_param *p,
                      const char *name) {
    char own[sizeof p->name + 1];
    const char *pattern = sp_role_name(m->config.arch, p->role), *star = strstr(pattern, "*.");
    snprintf(own, sizeof own, ".%.*s%s", star ? (int)(star - pattern) : 0, pattern,
             star ? star + 2 : pattern);
    return ends_with(s->name, name) ||
           ((s->n_roles == 1 || sp_params_by_expert(p->role)) && ends_with(own, name));
}

static bool is_target(const spar_model *m, const spar_option_list *names, const sp_stored *s,
                      const sp_param *p) {
    const char *common = sp_lora_target_name(p->role);
    bool found = common && names->n == 0 && !sp_lora_is_mixed(p->role);
    for (int i = 0; common && i < names->n; i++) {
        const char *name = names->items[i];
        found |= strcmp(name, common) == 0 || strcmp(name, "all-linear") == 0 ||
                 is_called(m, s, p, name);
    }
    return found;
}

/* Whether some matrix of the model, or of other models, is called so. */
static bool is_known(const spar_model *m, const sp_stored *list, int n, const char *name) {
    bool known = strcmp(name, "all-linear") == 0;
    for (int k = 0; k < N_TARGETS; k++) {
        known |= !targets[k].mixed && strcmp(name, targets[k].name) == 0;
    }
    for (int i = 0; i < n; i++) {
        for (int part = 0; part < list[i].n_roles; part++) {
            const sp_param *p = &m->params.items[sp_stored_part(&list[i], part)];
            const char *common = sp_lora_target_name(p->role);
            known |= common && (strcmp(common, name) == 0 || is_called(m, &list[i], p, name));
        }
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

/* Parts of what is stored as one are adapted together: its adapters have one name. */
static spar_status check_parts(const spar_model *m, const sp_stored *s,
                               const sp_lora_choice *chosen, spar_error *err) {
    for (int i = 1; i < sp_stored_parts(s); i++) {
        if (chosen[sp_stored_part(s, i)].rank != chosen[s->first].rank) {
            return spar_fail(err, SPAR_UNSUPPORTED,
                             "adapter: model_type %s stores %s as one matrix, which is adapted as "
                             "a whole: name that, or all of its parts",
                             m->config.arch->model_type, s->name);
        }
    }
    return SPAR_OK;
}

/* A place for what adapts a matrix of the checkpoint: A, then B (and magnitudes) of its parts; of
 * each expert, where it is a stack of those. */
static void place_module(const spar_model *m, sp_lora *l, const sp_stored *s,
                         const sp_lora_choice *chosen) {
    l->modules[l->n_modules++] = *s;
    for (int i = 0; i < sp_stored_parts(s); i++) {
        const int part = sp_stored_part(s, i);
        const sp_param *p = &m->params.items[part];
        sp_adapter *a = &l->items[l->n];
        const bool leads = i % s->n_roles == 0;
        l->index[part] = l->n;
        a->of = p;
        a->rank = chosen[part].rank;
        a->scale = chosen[part].scale;
        a->lead = leads ? l->n : a[-1].lead;
        a->offset_a = leads ? l->total : a[-1].offset_a;
        a->offset_b = l->total + (leads ? padded(a->rank * p->cols) : 0);
        a->offset_m = a->offset_b + padded(p->rows * a->rank);
        l->total = a->offset_m + (l->settings.dora ? padded(p->rows) : 0);
        l->most_rank = a->rank > l->most_rank ? a->rank : l->most_rank;
        l->mixes |= sp_lora_is_mixed(p->role);
        l->n++;
    }
}

static spar_status place_modules(const spar_model *m, sp_lora *l, const sp_lora_choice *chosen,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    sp_stored *list = NULL;
    void *memory;
    int n = 0;
    SPAR_TRY(sp_stored_list(&list, &n, &m->params, &m->config, SP_STORED_FUSED, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)n, sizeof *l->modules, err));
    l->modules = memory;
    for (int i = 0; i < n; i++) {
        SPAR_TRY(check_parts(m, &list[i], chosen, err));
        if (chosen[list[i].first].rank > 0) {
            place_module(m, l, &list[i], chosen);
        }
    }
    if (l->n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "%s: the adapter has no matrix to adapt", m->path));
    }
    if (l->mixes && l->settings.dora) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: adapter: expected no magnitudes (DoRA) on a mixture's experts and "
                           "routers, found them asked for",
                           m->path));
    }
done:
    free(list);
    return status;
}

float sp_lora_scale(const sp_lora_settings *s, int64_t rank, double alpha) {
    return (float)(alpha / (s->rslora ? sqrt((double)rank) : (double)rank));
}

spar_status sp_lora_create(spar_model *m, const sp_lora_settings *settings,
                           const sp_lora_choice *chosen, sp_lora **out, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    sp_lora *l = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *l, err));
    l = memory;
    l->settings = *settings;
    l->settings.targets.n = 0;
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
        a->a = (sp_weight){.data = l->values + a->offset_a, .out = a->rank, .in = a->of->cols};
        a->b = (sp_weight){.data = l->values + a->offset_b, .out = a->of->rows, .in = a->rank};
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

/* The parameters that the names mean, to chosen [params.n]. */
static spar_status choose_targets(const spar_model *m, const sp_lora_settings *settings,
                                  sp_lora_choice *chosen, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_stored *list = NULL;
    int n = 0;
    const sp_lora_choice all = {settings->rank,
                                sp_lora_scale(settings, settings->rank, settings->alpha)};
    SPAR_TRY(sp_stored_list(&list, &n, &m->params, &m->config, SP_STORED_FUSED, err));
    SPAR_TRY(check_targets(m, list, n, &settings->targets, err));
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < sp_stored_parts(&list[i]); k++) {
            const int part = sp_stored_part(&list[i], k);
            if (is_target(m, &settings->targets, &list[i], &m->params.items[part])) {
                chosen[part] = all;
            }
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
        for (int64_t k = 0; a->lead == i && k < a->rank * a->of->cols; k++) {
            const double u = sp_rng_uniform(seed, (uint64_t)i, (uint64_t)k);
            l->values[a->offset_a + k] = (float)(bound * (2.0 * u - 1.0));
        }
    }
}

spar_status sp_lora_attach(spar_model *m, const sp_lora_settings *settings, uint64_t seed,
                           spar_error *err) {
    spar_status status = SPAR_OK;
    sp_lora_choice *chosen = NULL;
    void *memory;
    sp_lora *l = NULL;
    SPAR_TRY(sp_model_check_floats(m, "an adapter", err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)m->params.n, sizeof *chosen, err));
    chosen = memory;
    SPAR_TRY(choose_targets(m, settings, chosen, err));
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

const sp_adapter *sp_lora_of(const spar_model *m, const sp_param *p) {
    const int i = m->lora && p ? m->lora->index[p - m->params.items] : -1;
    return i < 0 ? NULL : &m->lora->items[i];
}

const sp_adapter *sp_lora_find(const spar_model *m, sp_role role, int layer) {
    return m->lora ? sp_lora_of(m, sp_params_get(&m->params, role, layer)) : NULL;
}

void sp_lora_merge(const spar_model *m, const sp_param *p, float *out) {
    const sp_adapter *adapter = sp_lora_of(m, p);
    if (!adapter) {
        return;
    }
    const int64_t rank = adapter->rank;
    const float *a = m->lora->values + adapter->offset_a;
    const float *b = m->lora->values + adapter->offset_b;
    for (int64_t r = 0; r < p->rows; r++) {
        for (int64_t k = 0; k < rank; k++) {
            const float factor = adapter->scale * b[r * rank + k];
            for (int64_t c = 0; c < p->cols; c++) {
                out[r * p->cols + c] += factor * a[k * p->cols + c];
            }
        }
    }
    if (m->lora->settings.dora) {
        sp_dora_merge(m->lora, adapter, out);
    }
}
