#include "model/checkpoint.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The fusion that a role belongs to in files of the form, or NULL. */
static const sp_fusion *fusion_of(const sp_arch *arch, sp_role role, sp_stored_form form) {
    for (const sp_fusion *f = arch->fusions; f && f->name; f++) {
        for (int i = 0; i < f->n_roles; i++) {
            if (f->roles[i] == (int)role) {
                return f->gguf_name || form != SP_STORED_GGUF ? f : NULL;
            }
        }
    }
    return NULL;
}

static bool is_norm(sp_role role) {
    switch (role) {
    case SP_ATTN_NORM:
    case SP_MLP_NORM:
    case SP_Q_NORM:
    case SP_K_NORM:
    case SP_ATTN_POST:
    case SP_MLP_POST:
    case SP_FINAL_NORM:
        return true;
    default:
        return false;
    }
}

static void join_parts(sp_stored *s, const sp_arch *arch, const sp_fusion *f,
                       const sp_params *params, const sp_param *first) {
    snprintf(s->name, sizeof s->name, "%s.%d.%s", sp_arch_layers(arch), first->layer, f->name);
    if (f->gguf_name) {
        snprintf(s->gguf_name, sizeof s->gguf_name, "blk.%d.%s", first->layer, f->gguf_name);
    }
    s->rows = 0;
    s->n_roles = f->n_roles;
    for (int i = 0; i < f->n_roles; i++) {
        const sp_param *p = sp_params_get(params, (sp_role)f->roles[i], first->layer);
        assert(p == &params->items[s->first + i]);
        s->rows += p->rows;
    }
}

int sp_stored_parts(const sp_stored *s) {
    return s->n_roles * (s->stack > 0 ? (int)s->stack : 1);
}

int sp_stored_part(const sp_stored *s, int i) {
    return s->stack > 0 ? s->first + i % s->n_roles * (int)s->stack + i / s->n_roles : s->first + i;
}

/* Whether the tensor that this parameter begins holds a gain of each head: as GGUF files have it,
 * and folders of families that do not number them. */
static bool stacks_heads(const sp_config *config, const sp_param *p, sp_stored_form form) {
    return sp_params_by_head(config, p->role) &&
           (form == SP_STORED_GGUF || !strchr(sp_role_name(config->arch, p->role), '*'));
}

/* The stacks that experts are in, in folders of the form; NULL: none. */
static const sp_expert_stack *stacks_of(const sp_arch *arch, sp_stored_form form) {
    static const sp_expert_stack fused[] = {{SP_ROUTER, 1, "mlp.gate.weight"},
                                            {SP_EXPERT_GATE, 2, "mlp.experts.gate_up_proj"},
                                            {SP_EXPERT_DOWN, 1, "mlp.experts.down_proj"},
                                            {.name = NULL}};
    if (!arch->mixture || form == SP_STORED_GGUF) {
        return NULL;
    }
    return form == SP_STORED_FOLDER ? arch->mixture->folder
           : arch->mixture->fused   ? arch->mixture->fused
                                    : fused;
}

void sp_stored_experts_name(const sp_arch *arch, int layer, char name[96]) {
    const sp_expert_stack *s = stacks_of(arch, SP_STORED_FUSED);
    name[0] = '\0';
    for (; s && s->name; s++) {
        if (s->role == SP_EXPERT_GATE) {
            snprintf(name, 96, "%s.%d.%s", sp_arch_layers(arch), layer, s->name);
        }
    }
}

/* What becomes of experts and their router in a form that stacks them. */
static void stack_experts(sp_stored *s, const sp_config *config, const sp_param *p,
                          sp_stored_form form) {
    const sp_expert_stack *stack = stacks_of(config->arch, form);
    if (!stack && form != SP_STORED_GGUF) {
        return;
    }
    s->stack = sp_params_by_expert(p->role) ? config->experts : 0;
    for (; stack && stack->name; stack++) {
        if (stack->role == (int)p->role) {
            snprintf(s->name, sizeof s->name, "%s.%d.%s", sp_arch_layers(config->arch), p->layer,
                     stack->name);
            s->n_roles = stack->n_roles;
            s->rows *= stack->n_roles;
        }
    }
}

/* Whether a tensor of the form begins with this parameter. */
static bool begins(const sp_config *config, const sp_param *p, const sp_fusion *fusion,
                   sp_stored_form form) {
    if (stacks_heads(config, p, form)) {
        return p->expert == 0;
    }
    if (form == SP_STORED_GGUF && sp_params_metadata(p->role)) {
        return false;
    }
    if (!sp_params_by_expert(p->role) ||
        (form != SP_STORED_GGUF && !stacks_of(config->arch, form))) {
        return !fusion || fusion->roles[0] == (int)p->role;
    }
    return p->expert == 0 && (form == SP_STORED_GGUF || p->role != SP_EXPERT_UP);
}

spar_status sp_stored_list(sp_stored **out, int *n, const sp_params *params,
                           const sp_config *config, sp_stored_form form, spar_error *err) {
    void *memory;
    spar_status status = sp_mem_calloc(&memory, (size_t)params->n, sizeof **out, err);
    if (status != SPAR_OK) {
        return status;
    }
    *out = memory;
    *n = 0;
    for (int i = 0; i < params->n; i++) {
        const sp_param *p = &params->items[i];
        const sp_fusion *f = fusion_of(config->arch, p->role, form);
        if (!begins(config, p, f, form)) {
            continue; /* with the first of its parts */
        }
        sp_stored *s = &(*out)[(*n)++];
        s->first = i;
        s->n_roles = 1;
        s->rows = p->rows;
        s->cols = p->cols;
        s->scalar = sp_params_scalar(p->role);
        s->taps = p->role == SP_CONV ? config->conv_taps : 0;
        s->spread = form != SP_STORED_GGUF;
        s->shift = is_norm(p->role) ? config->arch->norm_shift : 0.0F;
        snprintf(s->name, sizeof s->name, "%s", p->name);
        snprintf(s->gguf_name, sizeof s->gguf_name, "%s", p->gguf_name);
        if (f) {
            join_parts(s, config->arch, f, params, p);
        }
        stack_experts(s, config, p, form);
        if (p->role == SP_CORRECTION && form != SP_STORED_GGUF &&
            config->arch->mixture->correction_row) {
            s->cols = s->rows;
            s->rows = 1;
        }
        if (p->role == SP_SHARED_WEIGHT && form == SP_STORED_GGUF) {
            s->rows = p->cols; /* a vector there */
            s->cols = 0;
        }
        if (stacks_heads(config, p, form)) {
            s->stack = p->role == SP_Q_NORM ? config->heads : config->kv_heads;
        }
        if (form != SP_STORED_GGUF) {
            s->transposed = config->arch->transposed && p->cols > 0 && p->layer >= 0;
            s->groups = f && f->groups == SP_BY_KEY_HEADS ? config->kv_heads : f ? f->groups : 0;
            s->swapped = f && f->swapped;
        }
    }
    return SPAR_OK;
}

static bool is_plain(const sp_stored *s, bool gains) {
    return sp_stored_parts(s) == 1 && !s->transposed && (!gains || s->shift == 0.0F);
}

static int64_t count_of(const sp_stored *s) {
    return (s->stack ? s->stack : 1) * s->rows * (s->cols ? s->cols : 1);
}

int sp_stored_dims(const sp_stored *s, int64_t *dims) {
    if (s->taps > 0) {
        dims[0] = s->rows / s->taps;
        dims[1] = s->spread ? 1 : s->taps;
        dims[2] = s->taps;
        return s->spread ? 3 : 2;
    }
    const int n = (s->stack > 0 ? 1 : 0) + (s->cols > 0 ? 2 : 1) - (s->scalar ? 1 : 0);
    if (s->stack > 0) {
        *dims++ = s->stack;
    }
    dims[0] = s->transposed ? s->cols : s->rows;
    dims[1] = s->transposed ? s->rows : s->cols;
    return n;
}

sp_row_run sp_stored_run(const sp_stored *s, int i, int64_t rows, int64_t above) {
    const int groups = s->groups > 1 ? s->groups : 1;
    above += s->swapped && i == 1 ? rows : s->swapped && i == 2 ? -rows : 0;
    return (sp_row_run){rows / groups, s->rows / groups, above / groups};
}

static void join_values(const sp_stored *s, const sp_params *params, const float *const *values,
                        bool gains, float *out) {
    const int64_t cols = s->cols ? s->cols : 1, down = s->transposed ? s->rows : 1;
    int64_t above = 0;
    for (int k = 0; k < sp_stored_parts(s); k++) {
        const int part = sp_stored_part(s, k);
        const int64_t rows = params->items[part].rows;
        const sp_row_run run = sp_stored_run(s, k, rows, above);
        for (int64_t r = 0; r < rows; r++) {
            const float *from = values[part] + r * cols;
            float *to = out + sp_row_at(run, r) * (s->transposed ? 1 : cols);
            for (int64_t i = 0; i < cols; i++) {
                to[i * down] = gains ? from[i] - s->shift : from[i];
            }
        }
        above += rows;
    }
}

spar_status sp_stored_values_init(sp_stored_values *out, const sp_params *params,
                                  const sp_config *config, sp_stored_form form,
                                  const float *const *values, bool gains, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    int n = 0;
    size_t joined = 0;
    memset(out, 0, sizeof *out);
    SPAR_TRY(sp_stored_list(&out->list, &n, params, config, form, err));
    out->n = (size_t)n;
    SPAR_TRY(sp_mem_calloc(&memory, out->n, sizeof *out->entries, err));
    out->entries = memory;
    for (int i = 0; i < n; i++) {
        joined += is_plain(&out->list[i], gains) ? 0 : (size_t)count_of(&out->list[i]);
    }
    SPAR_TRY(sp_mem_aligned(&memory, joined + 1, sizeof(float), err));
    out->joined = memory;
    float *at = out->joined;
    for (int i = 0; i < n; i++) {
        const sp_stored *s = &out->list[i];
        const bool plain = is_plain(s, gains);
        out->entries[i] = (sp_tensor_entry){.name = out->list[i].name,
                                            .dtype = SP_F32,
                                            .data = plain ? values[s->first] : at,
                                            .n_bytes = (size_t)count_of(s) * sizeof(float)};
        out->entries[i].n_dims = sp_stored_dims(s, out->entries[i].dims);
        if (!plain) {
            join_values(s, params, values, gains, at);
            at += count_of(s);
        }
    }
done:
    if (status != SPAR_OK) {
        sp_stored_values_release(out);
    }
    return status;
}

void sp_stored_values_release(sp_stored_values *v) {
    free(v->entries);
    free(v->list);
    free(v->joined);
    memset(v, 0, sizeof *v);
}

const sp_tensor_entry *sp_checkpoint_find(const sp_safetensors *file, const char *name) {
    const sp_tensor_entry *entry = sp_safetensors_find(file, name);
    const char *dot = strchr(name, '.');
    const char *const prefixes[] = {"", "language_model.", "model.language_model."};
    for (size_t i = 0; !entry && dot && i < sizeof prefixes / sizeof prefixes[0]; i++) {
        char other[160];
        snprintf(other, sizeof other, "%s%s", prefixes[i], i == 1 ? name : dot + 1);
        entry = sp_safetensors_find(file, other);
    }
    return entry;
}
