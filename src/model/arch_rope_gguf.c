/* Rotary settings in GGUF files, as llama.cpp reads them: metadata and tensors, both ways. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/arch_parts.h"

/* What readers take for yarn's bounds in these families, whatever a file says. */
static const double yarn_fast = 32, yarn_slow = 1;

static const char *const tensor_names[] = {"rope_factors_short.weight", "rope_factors_long.weight"};

/* ---- reading ---- */

static spar_status get_number(const sp_config *c, const sp_gguf *g, const char *suffix,
                              double fallback, double *out, spar_error *err) {
    return sp_arch_gguf_number(g, c->arch, suffix, fallback, out, err);
}

/* UNSUPPORTED where the file has a number that its readers pass over or that is not honoured here,
 * unless it is the one that is meant in any case. */
static spar_status check_number(const sp_config *c, const sp_gguf *g, const char *suffix,
                                double wanted, spar_error *err) {
    double found;
    spar_status status = get_number(c, g, suffix, wanted, &found, err);
    if (status == SPAR_OK && !(fabs(found - wanted) <= 1e-5 * fabs(wanted))) {
        return spar_fail(err, SPAR_UNSUPPORTED, "%s: metadata %s.%s: expected %g, found %g",
                         sp_gguf_path(g), c->arch->gguf_name, suffix, wanted, found);
    }
    return status;
}

/* The factor under either of its names; fallback where there is none, or 0 as some files have. */
static spar_status get_factor(const sp_config *c, const sp_gguf *g, double fallback, double *out,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    double old;
    SPAR_TRY(get_number(c, g, "rope.scale_linear", 0, &old, err));
    SPAR_TRY(get_number(c, g, "rope.scaling.factor", old, out, err));
    *out = *out == 0 ? fallback : *out;
    if (!(*out >= 1 && isfinite(*out))) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: metadata %s.rope.scaling.factor: expected a number >= 1, found %g",
                           sp_gguf_path(g), c->arch->gguf_name, *out));
    }
done:
    return status;
}

static spar_status read_none(sp_config *c, const sp_gguf *g, spar_error *err) {
    return check_number(c, g, "rope.scaling.attn_factor", 1, err);
}

static spar_status read_linear(sp_config *c, const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(read_none(c, g, err));
    SPAR_TRY(get_factor(c, g, 1, &c->rope_factor, err));
    c->rope = c->rope_factor == 1 ? SP_ROPE_DEFAULT : SP_ROPE_LINEAR;
done:
    return status;
}

static spar_status read_original(sp_config *c, const sp_gguf *g, spar_error *err) {
    char key[128];
    snprintf(key, sizeof key, "%s.rope.scaling.original_context_length", c->arch->gguf_name);
    return sp_gguf_get_int(g, key, 1, INT32_MAX, c->context, &c->rope_original, err);
}

static spar_status check_attention(const sp_config *c, const sp_gguf *g, spar_error *err) {
    if (!(c->rope_attention > 0 && isfinite(c->rope_attention))) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: metadata %s.rope.scaling.attn_factor: expected a positive number, "
                         "found what makes the attention factor %g",
                         sp_gguf_path(g), c->arch->gguf_name, c->rope_attention);
    }
    return SPAR_OK;
}

/* Readers multiply the attention factor of the paper by the file's. The keys checked last are
 * written by converters, but not read. */
static spar_status read_yarn(sp_config *c, const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    double more, all = 0;
    SPAR_TRY(get_factor(c, g, 1, &c->rope_factor, err));
    SPAR_TRY(read_original(c, g, err));
    SPAR_TRY(get_number(c, g, "rope.scaling.attn_factor", 1, &more, err));
    if (c->arch->rope_grows) {
        SPAR_TRY(get_number(c, g, "rope.scaling.yarn_log_multiplier", 0, &all, err));
    }
    c->rope_attention = more * sp_rope_yarn_attention(c->rope_factor) /
                        (1.0 + (sp_rope_yarn_attention(c->rope_factor) - 1.0) * all);
    c->rope_fast = yarn_fast;
    c->rope_slow = yarn_slow;
    SPAR_TRY(check_attention(c, g, err));
    SPAR_TRY(check_number(c, g, "rope.scaling.yarn_beta_fast", yarn_fast, err));
    SPAR_TRY(check_number(c, g, "rope.scaling.yarn_beta_slow", yarn_slow, err));
    SPAR_TRY(check_number(c, g, "rope.scaling.yarn_ext_factor", 1, err));
    SPAR_TRY(check_number(c, g, "rope.scaling.yarn_attn_factor", c->rope_attention, err));
    SPAR_TRY(check_number(c, g, "rope.scaling.yarn_log_multiplier", all, err));
done:
    return status;
}

static spar_status read_long_factors(const sp_config *c, const sp_gguf *g, const char *name,
                                     double *out, spar_error *err) {
    const sp_gguf_tensor *t = sp_gguf_find_tensor(g, name);
    const int n = c->rotary_dim / 2;
    bool good = t && t->dtype == SP_F32 && t->n_dims == 1 && t->dims[0] == n && n <= SP_LONG_PAIRS;
    for (int i = 0; good && i < n; i++) {
        float factor;
        memcpy(&factor, (const char *)t->data + (size_t)i * sizeof factor, sizeof factor);
        out[i] = (double)factor;
        good = factor > 0 && isfinite(factor);
    }
    return good ? SPAR_OK
                : spar_fail(err, SPAR_FORMAT,
                            "%s: tensor %s: expected %d positive f32 factors (at most %d)",
                            sp_gguf_path(g), name, n, SP_LONG_PAIRS);
}

static spar_status read_long(sp_config *c, const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(check_number(c, g, "rope.scaling.factor", 1, err));
    SPAR_TRY(read_original(c, g, err));
    SPAR_TRY(get_number(c, g, "rope.scaling.attn_factor", 1, &c->rope_attention, err));
    SPAR_TRY(check_attention(c, g, err));
    SPAR_TRY(read_long_factors(c, g, tensor_names[0], c->rope_short, err));
    SPAR_TRY(read_long_factors(c, g, tensor_names[1], c->rope_long, err));
    c->rope_factor = (double)c->context / (double)c->rope_original;
    c->rope_context = c->context;
    c->context = c->context < c->rope_original ? c->context : c->rope_original;
done:
    return status;
}

/* What files call the scalings; NULL: not so. */
static const struct scaling {
    const char *name;
    sp_rope_type type;
    spar_status (*read)(sp_config *c, const sp_gguf *g, spar_error *err);
} scalings[] = {{"none", SP_ROPE_DEFAULT, read_none},
                {"linear", SP_ROPE_LINEAR, read_linear},
                {"yarn", SP_ROPE_YARN, read_yarn},
                {"longrope", SP_ROPE_LONG, read_long}};
enum { SCALINGS = sizeof scalings / sizeof scalings[0] };

/* Without a type a factor is linear; factors for long texts are taken whatever the type says. */
static spar_status find_scaling(const sp_config *c, const sp_gguf *g, const struct scaling **out,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    char key[128];
    sp_gguf_string type;
    snprintf(key, sizeof key, "%s.rope.scaling.type", c->arch->gguf_name);
    SPAR_TRY(sp_gguf_get_string(g, key, &type, err));
    type = type.n > 0 ? type : (sp_gguf_string){"linear", 6};
    type = sp_gguf_find_tensor(g, tensor_names[1]) ? (sp_gguf_string){"longrope", 8} : type;
    *out = NULL;
    for (int i = 0; i < SCALINGS; i++) {
        const bool same =
            strlen(scalings[i].name) == type.n && memcmp(scalings[i].name, type.data, type.n) == 0;
        *out = same ? &scalings[i] : *out;
    }
    if (!*out || ((*out)->type == SP_ROPE_LONG && !c->arch->gguf_long)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: metadata %s: expected none, linear%s or yarn, found %.*s",
                           sp_gguf_path(g), key, c->arch->gguf_long ? ", longrope" : "",
                           (int)(type.n < 64 ? type.n : 64), type.data));
    }
done:
    return status;
}

/* llama3 scaling is stored as a tensor of factors; the published settings that give them are found
 * by trial, so that the configuration can be written out again. */
static spar_status match_llama3(sp_config *c, const sp_gguf_tensor *factors, const char *where,
                                spar_error *err) {
    static const struct {
        double factor, low, high;
        int64_t original;
    } published[] = {{8, 1, 4, 8192}, {32, 1, 4, 8192}, {16, 1, 4, 8192}};
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        c->rope = SP_ROPE_LLAMA3;
        c->rope_factor = published[i].factor;
        c->rope_low = published[i].low;
        c->rope_high = published[i].high;
        c->rope_original = published[i].original;
        if (sp_rope_matches_factors(c, factors->data, factors->dims[0])) {
            return SPAR_OK;
        }
    }
    return spar_fail(err, SPAR_UNSUPPORTED,
                     "%s: tensor rope_freqs.weight: expected the factors of llama3 rope scaling, "
                     "found others",
                     where);
}

static spar_status read_llama3(sp_config *c, const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_gguf_tensor *factors = sp_gguf_find_tensor(g, "rope_freqs.weight");
    if (!factors) {
        goto done;
    }
    if (c->rope != SP_ROPE_DEFAULT) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: tensor rope_freqs.weight: expected no other rope scaling beside it",
                           sp_gguf_path(g)));
    }
    if (factors->dtype != SP_F32 || factors->dims[0] != c->rotary_dim / 2) {
        SPAR_TRY(spar_fail(err, SPAR_MISMATCH,
                           "%s: tensor rope_freqs.weight: expected %d f32 factors", sp_gguf_path(g),
                           c->rotary_dim / 2));
    }
    SPAR_TRY(match_llama3(c, factors, sp_gguf_path(g), err));
done:
    return status;
}

/* How much of a head turns, and the base. */
static spar_status read_turning(sp_config *c, const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    char key[128];
    int64_t dims;
    SPAR_TRY(get_number(c, g, "rope.freq_base", 10000.0, &c->rope_theta, err));
    snprintf(key, sizeof key, "%s.rope.dimension_count", c->arch->gguf_name);
    SPAR_TRY(sp_gguf_get_int(g, key, 1, 1 << 14, c->head_dim, &dims, err));
    const bool turns =
        c->arch->rope_partial ? dims <= c->head_dim && dims % 2 == 0 : dims == c->head_dim;
    c->rotary_dim = (int)dims;
    if (c->arch->rope_local && c->rope_local_theta == 0) {
        c->rope_local_theta = c->rope_theta;
    }
    if (!turns || !(c->rope_theta > 0) || !isfinite(c->rope_theta)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: expected rope.dimension_count %d and a positive rope.freq_base, "
                           "found %lld and %g",
                           sp_gguf_path(g), c->head_dim, (long long)dims, c->rope_theta));
    }
done:
    return status;
}

/* By how much queries grow; readers divide positions by yarn's original context. */
static spar_status read_growth(sp_config *c, const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(get_number(c, g, "attention.temperature_scale", 0, &c->rope_growth, err));
    if (!(c->rope_growth >= 0 && isfinite(c->rope_growth)) ||
        (c->rope_growth > 0 && c->rope != SP_ROPE_YARN)) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: metadata %s.attention.temperature_scale: expected a number >= 0, "
                           "and rope.scaling.type yarn beside it, found %g",
                           sp_gguf_path(g), c->arch->gguf_name, c->rope_growth));
    }
done:
    return status;
}

spar_status sp_rope_read_gguf(sp_config *c, const sp_gguf *g, spar_error *err) {
    spar_status status = SPAR_OK;
    const struct scaling *scaling;
    SPAR_TRY(read_turning(c, g, err));
    SPAR_TRY(find_scaling(c, g, &scaling, err));
    c->rope = scaling->type;
    SPAR_TRY(scaling->read(c, g, err));
    SPAR_TRY(read_llama3(c, g, err));
    if (c->arch->rope_grows) {
        SPAR_TRY(read_growth(c, g, err));
    }
done:
    return status;
}

/* ---- writing ---- */

/* What readers multiply their own attention factor by; of yarn's own no more than rounding is left.
 */
static double attention_factor(const sp_config *c) {
    const double more = c->rope_attention / sp_rope_yarn_attention(c->rope_factor);
    return c->rope == SP_ROPE_LONG                              ? c->rope_attention
           : c->rope == SP_ROPE_YARN && fabs(more - 1.0) > 1e-6 ? more
                                                                : 1.0;
}

const char *sp_rope_unsaid(const sp_config *c) {
    if (c->rope == SP_ROPE_DYNAMIC) {
        return "rope scaling dynamic";
    }
    if (c->rope == SP_ROPE_LONG && !c->arch->gguf_long) {
        return "rope scaling longrope";
    }
    if (c->rope == SP_ROPE_YARN &&
        (c->rope_fast != yarn_fast || c->rope_slow != yarn_slow || c->rope_exact)) {
        return "yarn with beta_fast, beta_slow or truncate other than 32, 1 and true";
    }
    if (c->rope_growth > 0 && c->rope != SP_ROPE_YARN) {
        return "llama_4_scaling_beta without yarn";
    }
    if (c->rope == SP_ROPE_YARN && c->arch->rope_local && attention_factor(c) != 1.0) {
        return "an attention_factor of its own that layers with a window do not have";
    }
    return NULL;
}

void sp_rope_put_gguf(const sp_config *c, sp_gguf_out *out) {
    const struct scaling *scaling = NULL;
    char key[128];
    const int n = snprintf(key, sizeof key, "%s.rope.", c->arch->gguf_name);
    char *suffix = key + n;
    const size_t room = sizeof key - (size_t)n;
    for (int i = 0; i < SCALINGS; i++) {
        scaling =
            scalings[i].type == c->rope && c->rope != SP_ROPE_DEFAULT ? &scalings[i] : scaling;
    }
    if (!c->arch->learned_positions) {
        snprintf(suffix, room, "freq_base");
        sp_gguf_put_f32(out, key, (float)sp_rope_base(c));
    }
    if (!scaling) {
        return; /* llama3's factors are a tensor */
    }
    snprintf(suffix, room, "scaling.type");
    sp_gguf_put_string(out, key, scaling->name, strlen(scaling->name));
    if (c->rope != SP_ROPE_LONG) {
        snprintf(suffix, room, "scaling.factor");
        sp_gguf_put_f32(out, key, (float)c->rope_factor);
    }
    if (c->rope != SP_ROPE_LINEAR) {
        snprintf(suffix, room, "scaling.original_context_length");
        sp_gguf_put_u32(out, key, (uint32_t)c->rope_original);
    }
    if (c->rope_growth > 0) {
        char own[128];
        snprintf(own, sizeof own, "%s.attention.temperature_scale", c->arch->gguf_name);
        sp_gguf_put_f32(out, own, (float)c->rope_growth);
    }
    if (attention_factor(c) != 1.0) {
        snprintf(suffix, room, "scaling.attn_factor");
        sp_gguf_put_f32(out, key, (float)attention_factor(c));
    }
}

spar_status sp_rope_tensors(const sp_config *c, float **memory, sp_gguf_source *out, size_t *n,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    const int half = c->rotary_dim / 2;
    void *block;
    *n = c->rope == SP_ROPE_LONG ? 2 : c->rope == SP_ROPE_LLAMA3 ? 1 : 0;
    SPAR_TRY(sp_mem_calloc(&block, *n * (size_t)half + 1, sizeof **memory, err));
    *memory = block;
    for (size_t i = 0; i < *n; i++) {
        float *factors = *memory + i * (size_t)half;
        out[i] = (sp_gguf_source){.name = *n == 2 ? tensor_names[i] : "rope_freqs.weight",
                                  .dtype = SP_F32,
                                  .n_dims = 1,
                                  .dims = {half},
                                  .data = factors};
        const double *from = i == 0 ? c->rope_short : c->rope_long;
        for (int k = 0; c->rope == SP_ROPE_LONG && k < half; k++) {
            factors[k] = (float)from[k];
        }
        if (c->rope == SP_ROPE_LLAMA3) {
            sp_rope_factors(c, factors);
        }
    }
done:
    return status;
}
