/* Architectures: one const row a family, and the sizes of one model.
 *
 * A row says how the families differ: where biases are, whether queries and keys are normalised,
 * how a sliding window is configured. A new dense family is a row. A configuration is read from
 * config.json (as transformers 4 and 5 write it) or from GGUF metadata, and checked whole: a
 * setting that would change the mathematics and is not supported is an error that names it.
 */
#ifndef SP_MODEL_ARCH_H
#define SP_MODEL_ARCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "io/gguf.h"
#include "spar/status.h"

typedef enum sp_bias_rule {
    SP_BIAS_NEVER,
    SP_BIAS_QKV,   /* always on q, k, v; never on o (Qwen2) */
    SP_BIAS_CONFIG /* config key attention_bias: on q, k, v and o */
} sp_bias_rule;

typedef enum sp_window_rule {
    SP_WINDOW_NONE,
    SP_WINDOW_ALL, /* sliding_window applies to every layer when it is not null (Mistral) */
    SP_WINDOW_FLAG /* only with use_sliding_window, on layers from max_window_layers on (Qwen) */
} sp_window_rule;

/* A tensor of a layer that holds the rows of several parameters, one after another. */
typedef struct sp_fusion {
    const char *name, *gguf_name; /* within a layer; name NULL ends a list */
    int roles[3], n_roles;        /* sp_role */
} sp_fusion;

typedef struct sp_arch {
    const char *model_type; /* config.json "model_type" */
    const char *class_name; /* config.json "architectures"[0] */
    const char *gguf_name;  /* general.architecture */
    sp_bias_rule bias;
    bool mlp_bias; /* config key mlp_bias is honoured */
    bool qk_norm;  /* RMS norm on every query and key head */
    sp_window_rule window;
    const sp_fusion *fusions; /* NULL: none */
    float norm_shift;         /* the gain of a norm is the checkpoint's value plus this */
    bool rope_by_layer;       /* config keys no_rope_layers, no_rope_layer_interval are honoured */
    const char *own_keys;     /* keys of config.json that other families have not, by spaces */
    bool gguf_permuted;       /* q and k rows are stored for interleaved rotary pairs */
    bool gguf_is_default;     /* the row taken for gguf_name when several share it */
} sp_arch;

const sp_arch *sp_arch_at(int i); /* NULL past the end */

typedef enum sp_rope_type {
    SP_ROPE_DEFAULT,
    SP_ROPE_LINEAR,
    SP_ROPE_LLAMA3,
    SP_ROPE_YARN
} sp_rope_type;

enum { SP_MAX_LAYERS = 512, SP_MAX_EOS = 8 };
enum { SP_NO_ROPE_INTERVAL = 4 }; /* where layers without rotation are not listed */

typedef struct sp_config {
    const sp_arch *arch;
    int64_t vocab, hidden, ffn;
    int layers, heads, kv_heads, head_dim;
    int64_t context; /* max_position_embeddings */
    float norm_eps;
    bool tied, attention_bias, output_bias, mlp_bias;
    int window[SP_MAX_LAYERS];   /* by layer; 0: full attention */
    int sliding_window;          /* as configured; 0: none */
    bool no_rope[SP_MAX_LAYERS]; /* by layer: queries and keys are not rotated */
    sp_rope_type rope;
    double rope_theta, rope_factor, rope_low, rope_high;
    int64_t rope_original;       /* original_max_position_embeddings of llama3 and yarn */
    double rope_fast, rope_slow; /* yarn: beta_fast, beta_slow */
    bool rope_exact;             /* yarn: "truncate" is false */
    double rope_attention;       /* yarn: cos and sin are multiplied by this */
    int32_t bos, pad;            /* -1: not given */
    int n_eos;
    int32_t eos[SP_MAX_EOS]; /* every id that ends a turn */
} sp_config;

spar_status sp_config_from_json(sp_config *out, const json_t *config, const char *where,
                                spar_error *err);
spar_status sp_config_from_gguf(sp_config *out, const sp_gguf *gguf, const char *where,
                                spar_error *err);
/* Add an id that ends a turn, once. */
void sp_config_add_eos(sp_config *config, int64_t id);
/* config.json for this model, in the form that transformers 4 and 5 both read. New reference. */
json_t *sp_config_to_json(const sp_config *config);

/* cos and sin [n_positions, head_dim/2] of the rotary angles, in double then rounded. */
void sp_rope_table(const sp_config *config, int64_t n_positions, float *cos_table,
                   float *sin_table);

/* factors [head_dim/2]: what the plain inverse frequencies are divided by. */
void sp_rope_factors(const sp_config *config, float *factors);
/* Whether dividing the plain inverse frequencies by factors [n] gives this scaling. */
bool sp_rope_matches_factors(const sp_config *config, const void *factors, int64_t n);

#endif
