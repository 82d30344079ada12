#include "model/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The fusion that a role belongs to, or NULL. */
static const sp_fusion *fusion_of(const sp_arch *arch, sp_role role) {
    for (const sp_fusion *f = arch->fusions; f && f->name; f++) {
        for (int i = 0; i < f->n_roles; i++) {
            if (f->roles[i] == (int)role) {
                return f;
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

static void join_parts(sp_stored *s, const sp_fusion *f, const sp_params *params,
                       const sp_param *first) {
    const char *end = strstr(first->name, ".layers.");
    const int before = end ? (int)(end - first->name) : 0;
    snprintf(s->name, sizeof s->name, "%.*s.layers.%d.%s", before, first->name, first->layer,
             f->name);
    snprintf(s->gguf_name, sizeof s->gguf_name, "blk.%d.%s", first->layer, f->gguf_name);
    s->rows = 0;
    s->n_parts = 0;
    for (int i = 0; i < f->n_roles; i++) {
        const sp_param *p = sp_params_get(params, (sp_role)f->roles[i], first->layer);
        s->parts[s->n_parts++] = (int)(p - params->items);
        s->rows += p->rows;
    }
}

spar_status sp_stored_list(sp_stored **out, int *n, const sp_params *params,
                           const sp_config *config, spar_error *err) {
    void *memory;
    spar_status status = sp_mem_calloc(&memory, (size_t)params->n, sizeof **out, err);
    if (status != SPAR_OK) {
        return status;
    }
    *out = memory;
    *n = 0;
    for (int i = 0; i < params->n; i++) {
        const sp_param *p = &params->items[i];
        const sp_fusion *f = fusion_of(config->arch, p->role);
        if (f && f->roles[0] != (int)p->role) {
            continue; /* with the first of its parts */
        }
        sp_stored *s = &(*out)[(*n)++];
        s->parts[0] = i;
        s->n_parts = 1;
        s->rows = p->rows;
        s->cols = p->cols;
        s->shift = is_norm(p->role) ? config->arch->norm_shift : 0.0F;
        snprintf(s->name, sizeof s->name, "%s", p->name);
        snprintf(s->gguf_name, sizeof s->gguf_name, "%s", p->gguf_name);
        if (f) {
            join_parts(s, f, params, p);
        }
    }
    return SPAR_OK;
}

static bool is_plain(const sp_stored *s, bool gains) {
    return s->n_parts == 1 && (!gains || s->shift == 0.0F);
}

static int64_t count_of(const sp_stored *s) {
    return s->rows * (s->cols ? s->cols : 1);
}

static void join_values(const sp_stored *s, const sp_params *params, const float *const *values,
                        bool gains, float *out) {
    for (int k = 0; k < s->n_parts; k++) {
        const int64_t count = params->items[s->parts[k]].count;
        const float *from = values[s->parts[k]];
        for (int64_t i = 0; i < count; i++) {
            out[i] = gains ? from[i] - s->shift : from[i];
        }
        out += count;
    }
}

spar_status sp_stored_values_init(sp_stored_values *out, const sp_params *params,
                                  const sp_config *config, const float *const *values, bool gains,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    int n = 0;
    size_t joined = 0;
    memset(out, 0, sizeof *out);
    SPAR_TRY(sp_stored_list(&out->list, &n, params, config, err));
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
                                            .n_dims = s->cols ? 2 : 1,
                                            .dims = {s->rows, s->cols},
                                            .data = plain ? values[s->parts[0]] : at,
                                            .n_bytes = (size_t)count_of(s) * sizeof(float)};
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
