/* Rotary settings of a configuration: read, written, and what they make of the frequencies. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "model/arch_parts.h"

static spar_status read_factor(sp_config *c, const json_t *scaling, const char *where,
                               spar_error *err) {
    spar_status status = sp_json_get_number(scaling, "factor", &c->rope_factor, where, err);
    if (status == SPAR_OK && !(c->rope_factor >= 1.0)) {
        return spar_fail(err, SPAR_FORMAT, "%s: rope factor: expected a number >= 1, found %g",
                         where, c->rope_factor);
    }
    return status;
}

static spar_status read_default(sp_config *c, const json_t *scaling, const char *where,
                                spar_error *err) {
    (void)c, (void)scaling, (void)where, (void)err;
    return SPAR_OK;
}

static spar_status read_llama3(sp_config *c, const json_t *scaling, const char *where,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(read_factor(c, scaling, where, err));
    SPAR_TRY(sp_json_get_number(scaling, "low_freq_factor", &c->rope_low, where, err));
    SPAR_TRY(sp_json_get_number(scaling, "high_freq_factor", &c->rope_high, where, err));
    SPAR_TRY(sp_json_get_int(scaling, "original_max_position_embeddings", 1, INT32_MAX,
                             &c->rope_original, where, err));
    if (!(c->rope_high > c->rope_low && c->rope_low > 0)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: rope: expected 0 < low_freq_factor < high_freq_factor, found %g "
                           "and %g",
                           where, c->rope_low, c->rope_high));
    }
done:
    return status;
}

static double yarn_scale(double factor, double weight) {
    return factor <= 1.0 ? 1.0 : 0.1 * weight * log(factor) + 1.0;
}

double sp_rope_yarn_attention(double factor) {
    return yarn_scale(factor, 1.0);
}

/* YaRN (Peng et al. 2023): two bounds in rotations over the original context, and by how much
 * queries and keys are stretched. */
static spar_status read_yarn(sp_config *c, const json_t *scaling, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    double one, all;
    bool truncate;
    SPAR_TRY(read_factor(c, scaling, where, err));
    SPAR_TRY(sp_json_get_int_or(scaling, "original_max_position_embeddings", 1, INT32_MAX,
                                c->context, &c->rope_original, where, err));
    SPAR_TRY(sp_json_get_number_or(scaling, "beta_fast", 32.0, &c->rope_fast, where, err));
    SPAR_TRY(sp_json_get_number_or(scaling, "beta_slow", 1.0, &c->rope_slow, where, err));
    SPAR_TRY(sp_json_get_bool_or(scaling, "truncate", true, &truncate, where, err));
    SPAR_TRY(sp_json_get_number_or(scaling, "mscale", 0.0, &one, where, err));
    SPAR_TRY(sp_json_get_number_or(scaling, "mscale_all_dim", 0.0, &all, where, err));
    const double attention = one > 0.0 && all > 0.0
                                 ? yarn_scale(c->rope_factor, one) / yarn_scale(c->rope_factor, all)
                                 : sp_rope_yarn_attention(c->rope_factor);
    SPAR_TRY(sp_json_get_number_or(scaling, "attention_factor", attention, &c->rope_attention,
                                   where, err));
    c->rope_exact = !truncate;
    if (!(c->rope_fast >= c->rope_slow && c->rope_slow > 0 && c->rope_attention > 0)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: rope: expected 0 < beta_slow <= beta_fast and a positive "
                           "attention_factor, found %g, %g and %g",
                           where, c->rope_slow, c->rope_fast, c->rope_attention));
    }
done:
    return status;
}

static spar_status read_long_factors(const sp_config *c, const json_t *scaling, const char *key,
                                     double *out, const char *where, spar_error *err) {
    const json_t *list = json_object_get(scaling, key);
    const int n = c->rotary_dim / 2;
    bool good = json_is_array(list) && (int)json_array_size(list) == n && n <= SP_LONG_PAIRS;
    for (int i = 0; good && i < n; i++) {
        out[i] = json_number_value(json_array_get(list, (size_t)i));
        good = out[i] > 0 && isfinite(out[i]);
    }
    return good ? SPAR_OK
                : spar_fail(err, SPAR_FORMAT,
                            "%s: rope_scaling.%s: expected %d positive numbers (at most %d), found "
                            "%s of %d",
                            where, key, n, SP_LONG_PAIRS, sp_json_type_name(list),
                            (int)json_array_size(list));
}

/* LongRoPE (Ding et al. 2024): a factor for each pair. Sequences beyond the original context take
 * other factors than those within, for all of their positions: they are not supported, so that a
 * prompt's keys do not depend on what comes after it. */
static spar_status read_long(sp_config *c, const json_t *scaling, const char *where,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_json_get_int_or(scaling, "original_max_position_embeddings", 1, INT32_MAX,
                                c->rope_original, &c->rope_original, where, err));
    if (c->rope_original == 0) {
        SPAR_TRY(
            spar_fail(err, SPAR_FORMAT, "%s: original_max_position_embeddings is missing", where));
    }
    const double original = (double)c->rope_original;
    SPAR_TRY(sp_json_get_number_or(scaling, "factor", (double)c->context / original,
                                   &c->rope_factor, where, err));
    const double attention =
        c->rope_factor <= 1.0 ? 1.0 : sqrt(1.0 + log(c->rope_factor) / log(original));
    SPAR_TRY(sp_json_get_number_or(scaling, "attention_factor", attention, &c->rope_attention,
                                   where, err));
    if (!(c->rope_factor > 0 && c->rope_attention > 0 && isfinite(c->rope_attention))) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: rope: expected a positive factor and attention_factor, found %g "
                           "and %g",
                           where, c->rope_factor, c->rope_attention));
    }
    SPAR_TRY(read_long_factors(c, scaling, "short_factor", c->rope_short, where, err));
    SPAR_TRY(read_long_factors(c, scaling, "long_factor", c->rope_long, where, err));
    c->rope_context = c->context;
    c->context = c->context < c->rope_original ? c->context : c->rope_original;
done:
    return status;
}

/* As Hunyuan has it: what it calls dynamic does not go by the length. */
static spar_status read_alpha(sp_config *c, const json_t *scaling, const char *where,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_json_get_number_or(scaling, "factor", 1.0, &c->rope_factor, where, err));
    SPAR_TRY(sp_json_get_number(scaling, "alpha", &c->rope_alpha, where, err));
    if (!(c->rope_alpha > 0 && isfinite(c->rope_alpha) && c->head_dim > 2)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: rope alpha: expected a positive number, and heads of more than 2 "
                           "entries, found %g and %d",
                           where, c->rope_alpha, c->head_dim));
    }
done:
    return status;
}

static const struct rope_row {
    const char *name;
    sp_rope_type type;
    const char *keys; /* besides those of all types */
    spar_status (*read)(sp_config *c, const json_t *scaling, const char *where, spar_error *err);
} rope_rows[] = {
    {"default", SP_ROPE_DEFAULT, "factor", read_default},
    {"linear", SP_ROPE_LINEAR, "factor", read_factor},
    {"llama3", SP_ROPE_LLAMA3, "factor low_freq_factor high_freq_factor", read_llama3},
    {"yarn", SP_ROPE_YARN,
     "factor beta_fast beta_slow attention_factor mscale mscale_all_dim truncate", read_yarn},
    {"dynamic", SP_ROPE_DYNAMIC, "factor", read_factor},
    {"dynamic", SP_ROPE_ALPHA, "factor alpha beta_fast beta_slow mscale mscale_all_dim",
     read_alpha},
    {"longrope", SP_ROPE_LONG, "factor attention_factor short_factor long_factor", read_long},
    {"su", SP_ROPE_LONG, "factor attention_factor short_factor long_factor", read_long},
};

/* The row that the type names, or NULL. */
static const struct rope_row *find_row(const sp_config *c, const json_t *scaling,
                                       const char *type) {
    const bool alpha = c->arch->rope_alpha && json_number_value(json_object_get(scaling, "alpha"));
    const struct rope_row *row = NULL;
    for (size_t i = 0; i < sizeof rope_rows / sizeof rope_rows[0]; i++) {
        const struct rope_row *r = &rope_rows[i];
        if (strcmp(r->name, type) == 0 && (r->type != SP_ROPE_ALPHA || alpha)) {
            row = r;
        }
    }
    return row;
}

/* How queries grow (Llama 4, Ministral 3). */
static spar_status read_growth(sp_config *c, const json_t *scaling, const char *where,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(
        sp_json_get_number_or(scaling, "llama_4_scaling_beta", 0, &c->rope_growth, where, err));
    if (c->rope_growth == 0) {
        goto done;
    }
    SPAR_TRY(sp_json_get_int(scaling, "original_max_position_embeddings", 1, INT32_MAX,
                             &c->rope_original, where, err));
    if (!(c->rope_growth > 0 && isfinite(c->rope_growth))) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: llama_4_scaling_beta: expected a number >= 0, found %g", where,
                           c->rope_growth));
    }
done:
    return status;
}

/* The scaling of the row that the type names. */
static spar_status read_scaling(sp_config *c, const json_t *scaling, const char *where,
                                spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str known = SP_STR_INIT;
    const char *type;
    SPAR_TRY(sp_json_get_string_or(scaling, "type", "default", &type, where, err));
    SPAR_TRY(sp_json_get_string_or(scaling, "rope_type", type, &type, where, err));
    const struct rope_row *row = find_row(c, scaling, type);
    if (!row) {
        SPAR_TRY(spar_fail(
            err, SPAR_UNSUPPORTED,
            "%s: rope_type: expected default, linear, llama3, yarn, dynamic or longrope, found %s",
            where, type));
        goto done;
    }
    sp_str_printf(&known,
                  " type rope_type rope_theta original_max_position_embeddings "
                  "partial_rotary_factor %s %s ",
                  row->keys,
                  c->arch->rope_grows ? "llama_4_scaling_beta max_position_embeddings" : "");
    SPAR_TRY(sp_str_status(&known, err));
    SPAR_TRY(sp_arch_check_keys(scaling, sp_str_get(&known), "rope_scaling.", where, err));
    SPAR_TRY(row->read(c, scaling, where, err));
    c->rope = row->type;
    if (c->arch->rope_grows) {
        SPAR_TRY(read_growth(c, scaling, where, err));
    }
done:
    sp_str_release(&known);
    return status;
}

/* transformers 5: the settings of the layers with a window, beside those of the others. */
static spar_status read_local_rope(sp_config *c, const json_t *local, const char *where,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    const char *type;
    if (!local || json_is_null(local)) {
        goto done;
    }
    SPAR_TRY(sp_json_get_string_or(local, "rope_type", "default", &type, where, err));
    if (strcmp(type, "default") != 0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED,
                           "%s: rope_parameters.sliding_attention: expected rope_type default, "
                           "found %s",
                           where, type));
    }
    SPAR_TRY(sp_arch_check_keys(local, " rope_type rope_theta ",
                                "rope_parameters.sliding_attention.", where, err));
    SPAR_TRY(sp_json_get_number_or(local, "rope_theta", c->rope_local_theta, &c->rope_local_theta,
                                   where, err));
    if (!(c->rope_local_theta > 0 && isfinite(c->rope_local_theta))) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: rope_parameters.sliding_attention.rope_theta: expected a positive "
                           "number, found %g",
                           where, c->rope_local_theta));
    }
done:
    return status;
}

/* How many entries of a head turn, as a number of them. */
static spar_status read_rotary_dim(sp_config *c, const json_t *config, const char *where,
                                   spar_error *err) {
    int64_t dims;
    const spar_status status =
        sp_json_get_int(config, c->arch->rotary_key, 2, c->head_dim, &dims, where, err);
    if (status == SPAR_OK && dims % 2 != 0) {
        return spar_fail(err, SPAR_FORMAT, "%s: %s: expected an even number, found %lld", where,
                         c->arch->rotary_key, (long long)dims);
    }
    c->rotary_dim = status == SPAR_OK ? (int)dims : 0;
    return status;
}

/* The share of a head that turns, in whole entries. */
static spar_status read_partial(sp_config *c, const json_t *config, const json_t *scaling,
                                const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    double share = 1.0;
    if (c->arch->rotary_key) {
        return read_rotary_dim(c, config, where, err);
    }
    if (c->arch->rope_partial) {
        SPAR_TRY(sp_json_get_number_or(config, "partial_rotary_factor", 1.0, &share, where, err));
    }
    if (json_is_object(scaling)) {
        SPAR_TRY(
            sp_json_get_number_or(scaling, "partial_rotary_factor", share, &share, where, err));
    }
    if (!c->arch->rope_partial && share != 1.0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: partial_rotary_factor: expected 1, found %g",
                           where, share));
    }
    const double dims = share * c->head_dim;
    c->rotary_dim = dims >= 2 && dims <= c->head_dim ? (int)dims : 0;
    if (c->rotary_dim == 0 || c->rotary_dim % 2 != 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: partial_rotary_factor: expected an even number of a head's %d "
                           "entries, found %g",
                           where, c->head_dim, share));
    }
done:
    return status;
}

/* The base; where rotary settings leave it out, it is beside them. */
static spar_status read_theta(sp_config *c, const json_t *config, const json_t *scaling,
                              const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_json_get_number_or(config, "rope_theta", 10000.0, &c->rope_theta, where, err));
    if (json_is_object(scaling)) {
        SPAR_TRY(sp_json_get_number_or(scaling, "rope_theta", c->rope_theta, &c->rope_theta, where,
                                       err));
    }
    if (!(c->rope_theta > 0 && isfinite(c->rope_theta))) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: rope_theta: expected a positive number, found %g",
                           where, c->rope_theta));
    }
    if (c->arch->rope_local && c->rope_local_theta == 0) {
        c->rope_local_theta = c->rope_theta; /* OLMo 3: what differs is the scaling */
    }
done:
    return status;
}

/* transformers 5 keeps rotary settings in rope_parameters; 4 has rope_theta and rope_scaling. */
spar_status sp_rope_read(sp_config *c, const json_t *config, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *scaling = json_object_get(config, "rope_parameters");
    const json_t *local = NULL;
    if (c->arch->rope_local && json_object_get(scaling, "full_attention")) {
        local = json_object_get(scaling, "sliding_attention");
        scaling = json_object_get(scaling, "full_attention");
    }
    if (!json_is_object(scaling)) {
        scaling = json_object_get(config, "rope_scaling");
    }
    c->rope = SP_ROPE_DEFAULT;
    SPAR_TRY(read_partial(c, config, scaling, where, err));
    SPAR_TRY(read_theta(c, config, scaling, where, err));
    SPAR_TRY(read_local_rope(c, local, where, err));
    if (!scaling || json_is_null(scaling)) {
        goto done;
    }
    if (!json_is_object(scaling)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: rope_scaling: expected an object, found %s",
                           where, sp_json_type_name(scaling)));
    }
    SPAR_TRY(sp_json_get_int_or(config, "original_max_position_embeddings", 1, INT32_MAX, 0,
                                &c->rope_original, where, err));
    SPAR_TRY(read_scaling(c, scaling, where, err));
done:
    return status;
}

static json_t *factors_json(const double *factors, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) {
        json_array_append_new(list, json_real(factors[i]));
    }
    return list;
}

static json_t *scaling_json(const sp_config *c) {
    if (c->rope == SP_ROPE_ALPHA) {
        return json_pack("{s:s, s:f, s:f}", "rope_type", "dynamic", "factor", c->rope_factor,
                         "alpha", c->rope_alpha);
    }
    if (c->rope == SP_ROPE_DYNAMIC) {
        return json_pack("{s:s, s:f}", "rope_type", "dynamic", "factor", c->rope_factor);
    }
    if (c->rope == SP_ROPE_LONG) {
        const int n = c->rotary_dim / 2;
        return json_pack("{s:s, s:o, s:o, s:f}", "rope_type", "longrope", "short_factor",
                         factors_json(c->rope_short, n), "long_factor",
                         factors_json(c->rope_long, n), "attention_factor", c->rope_attention);
    }
    if (c->rope == SP_ROPE_LINEAR) {
        return json_pack("{s:s, s:f}", "rope_type", "linear", "factor", c->rope_factor);
    }
    if (c->rope == SP_ROPE_LLAMA3) {
        return json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor",
                         c->rope_factor, "low_freq_factor", c->rope_low, "high_freq_factor",
                         c->rope_high, "original_max_position_embeddings",
                         (json_int_t)c->rope_original);
    }
    if (c->rope == SP_ROPE_YARN) {
        return json_pack("{s:s, s:f, s:f, s:f, s:f, s:I, s:b}", "rope_type", "yarn", "factor",
                         c->rope_factor, "beta_fast", c->rope_fast, "beta_slow", c->rope_slow,
                         "attention_factor", c->rope_attention, "original_max_position_embeddings",
                         (json_int_t)c->rope_original, "truncate", !c->rope_exact);
    }
    return json_null();
}

json_t *sp_rope_json(const sp_config *c) {
    json_t *scaling = scaling_json(c);
    if (c->rope_growth > 0) {
        if (!json_is_object(scaling)) {
            json_decref(scaling);
            scaling = json_pack("{s:s}", "rope_type", "default");
        }
        json_object_set_new(scaling, "llama_4_scaling_beta", json_real(c->rope_growth));
        json_object_set_new(scaling, "original_max_position_embeddings",
                            json_integer(c->rope_original));
    }
    return scaling;
}

json_t *sp_rope_whole_json(const sp_config *c) {
    json_t *whole = sp_rope_json(c);
    if (!json_is_object(whole)) {
        json_decref(whole);
        whole = json_pack("{s:s}", "rope_type", "default");
    }
    json_object_set_new(whole, "rope_theta", json_real(c->rope_theta));
    return whole;
}

json_t *sp_rope_layers_json(const sp_config *c) {
    return json_pack("{s:o, s:{s:s, s:f}}", "full_attention", sp_rope_whole_json(c),
                     "sliding_attention", "rope_type", "default", "rope_theta",
                     c->rope_local_theta);
}

/* The pair that turns so many times over the original context, as a real number. */
static double yarn_pair(const sp_config *c, double rotations) {
    return c->rotary_dim *
           log((double)c->rope_original / (rotations * 2.0 * 3.14159265358979323846)) /
           (2.0 * log(c->rope_theta));
}

/* The share of pair i that is divided by the factor: 0 for pairs that turn often, 1 for those that
 * turn seldom, in between linear. */
static double yarn_share(const sp_config *c, int i) {
    double low = yarn_pair(c, c->rope_fast);
    double high = yarn_pair(c, c->rope_slow);
    low = c->rope_exact ? low : floor(low);
    high = c->rope_exact ? high : ceil(high);
    low = low > 0 ? low : 0;
    high = high < c->rotary_dim - 1 ? high : c->rotary_dim - 1;
    const double share = (i - low) / (high != low ? high - low : 0.001);
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

double sp_rope_base(const sp_config *c) {
    const double d = c->head_dim;
    return c->rope == SP_ROPE_ALPHA ? c->rope_theta * pow(c->rope_alpha, d / (d - 2.0))
                                    : c->rope_theta;
}

/* Inverse frequency of pair i after scaling. llama3 (as published with Llama 3.1): wavelengths
 * above original/low are divided by factor, below original/high kept, between blended linearly. */
static double inverse_frequency(const sp_config *c, int i) {
    double f = pow(sp_rope_base(c), -2.0 * i / c->rotary_dim);
    if (c->rope == SP_ROPE_LINEAR) {
        return f / c->rope_factor;
    }
    if (c->rope == SP_ROPE_LLAMA3) {
        double wavelength = 2.0 * 3.14159265358979323846 / f;
        double original = (double)c->rope_original;
        if (wavelength > original / c->rope_low) {
            return f / c->rope_factor;
        }
        if (wavelength >= original / c->rope_high) {
            double blend = (original / wavelength - c->rope_low) / (c->rope_high - c->rope_low);
            return (1.0 - blend) * f / c->rope_factor + blend * f;
        }
    }
    if (c->rope == SP_ROPE_LONG) {
        return f / c->rope_short[i];
    }
    if (c->rope == SP_ROPE_YARN) {
        const double share = yarn_share(c, i);
        return f / c->rope_factor * share + f * (1.0 - share);
    }
    return f;
}

/* Press et al. 2022: 2^(-m i / n) for i = 1 .. n, where n is the highest power of two that the
 * heads have; those beyond it have every second one of 2n heads. */
void sp_alibi_slopes(const sp_config *c, float *slopes) {
    const double scale = c->arch->alibi_scaled ? sp_config_attention_scale(c, 0) : 1;
    int n = 1;
    while (2 * n <= c->heads) {
        n *= 2;
    }
    for (int h = 0; h < c->heads; h++) {
        const double i = h < n ? h + 1 : (2 * (h - n) + 1) / 2.0;
        slopes[h] = (float)(scale * exp2(-c->alibi * i / n));
    }
}

bool sp_rope_is_local(const sp_config *c, int layer) {
    return c->rope_local_theta > 0 && c->window[layer] > 0;
}

bool sp_rope_has_table(const sp_config *c, sp_table table) {
    return table == SP_TABLE_ALL || (table == SP_TABLE_LOCAL && c->rope_local_theta > 0) ||
           (table == SP_TABLE_QUERIES && c->rope_growth > 0);
}

/* How much longer queries are at a position. */
static double growth(const sp_config *c, int64_t position) {
    return 1.0 + c->rope_growth * log(1.0 + (double)(position / c->rope_original));
}

void sp_rope_table(const sp_config *c, sp_table table, int64_t n_positions, float *cos_table,
                   float *sin_table) {
    int half = c->rotary_dim / 2;
    const bool local = table == SP_TABLE_LOCAL;
    const double stretch =
        !local && (c->rope == SP_ROPE_YARN || c->rope == SP_ROPE_LONG) ? c->rope_attention : 1.0;
    for (int i = 0; i < half; i++) {
        /* The reference keeps inverse frequencies in f32 and multiplies there. */
        float f = (float)(local ? pow(c->rope_local_theta, -2.0 * i / c->rotary_dim)
                                : inverse_frequency(c, i));
        for (int64_t p = 0; p < n_positions; p++) {
            double angle = (double)((float)p * f);
            const double length = stretch * (table == SP_TABLE_QUERIES ? growth(c, p) : 1.0);
            cos_table[p * half + i] = (float)(length * cos(angle));
            sin_table[p * half + i] = (float)(length * sin(angle));
        }
    }
}

void sp_rope_factors(const sp_config *c, float *factors) {
    for (int i = 0; i < c->rotary_dim / 2; i++) {
        factors[i] =
            (float)(pow(c->rope_theta, -2.0 * i / c->rotary_dim) / inverse_frequency(c, i));
    }
}

bool sp_rope_matches_factors(const sp_config *c, const void *factors, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float factor;
        memcpy(&factor, (const char *)factors + i * 4, sizeof factor);
        double plain = pow(c->rope_theta, -2.0 * (double)i / c->rotary_dim);
        double scaled = inverse_frequency(c, (int)i);
        if (!(fabs(plain / (double)factor - scaled) <= 1e-4 * scaled)) {
            return false;
        }
    }
    return true;
}
