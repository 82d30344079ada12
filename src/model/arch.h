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

#include "backend/backend.h"
#include "io/gguf.h"
#include "spar/status.h"

typedef enum sp_bias_rule {
    SP_BIAS_NEVER,
    SP_BIAS_OUT,        /* always on o alone (GPT-Neo) */
    SP_BIAS_QKV,        /* always on q, k, v; never on o (Qwen2) */
    SP_BIAS_CONFIG,     /* a config key: on q, k, v and o */
    SP_BIAS_CONFIG_QKV, /* a config key: on q, k, v (StableLM) */
    SP_BIAS_ALWAYS      /* on q, k, v and o (GPT-2) */
} sp_bias_rule;

/* RMS norms have a gain, or nothing (NanoChat); layer norms a gain and a bias, a gain alone
 * (Cohere), or nothing (OLMo). */
typedef enum sp_norm_kind {
    SP_RMS_NORM,
    SP_RMS_NORM_BARE,
    SP_LAYER_NORM,
    SP_LAYER_NORM_PLAIN,
    SP_LAYER_NORM_BARE
} sp_norm_kind;

/* Whether the halves of a layer both take in the layer's input, and add to it together. */
typedef enum sp_parallel_rule {
    SP_PARALLEL_NEVER,
    SP_PARALLEL_CONFIG, /* config key use_parallel_residual (GPT-NeoX) */
    SP_PARALLEL_ALWAYS  /* Cohere */
} sp_parallel_rule;

typedef enum sp_window_rule {
    SP_WINDOW_NONE,
    SP_WINDOW_ALL,    /* sliding_window applies to every layer when it is not null (Mistral) */
    SP_WINDOW_FLAG,   /* only with use_sliding_window, on layers from max_window_layers on (Qwen) */
    SP_WINDOW_SWITCH, /* only with use_sliding_window, on all layers (Qwen3's mixtures) */
    SP_WINDOW_EVEN,   /* only with use_sliding_window, on layers 0, 2, ... before max_window_layers
                       * (Qwen2's mixtures) */
    SP_WINDOW_PATTERN, /* on all but every n-th layer (Gemma 2) */
    SP_WINDOW_LOCAL,   /* on layers that attention_layers, or attention_types, calls local (GPT-Neo)
                        */
    SP_WINDOW_FIRST,   /* on all but layers 0, n, 2n, ... (CWM) */
    SP_WINDOW_LATE,    /* on layers from max_window_layers on (dots1) */
    SP_WINDOW_LISTED   /* on those that layer_types lists, all where it is missing (Ministral) */
} sp_window_rule;

/* Where the norms of a layer's halves are: before their inputs, or after their outputs, before
 * these join the residual stream. */
typedef enum sp_norm_place {
    SP_NORMS_BEFORE,
    SP_NORMS_AFTER, /* OLMo 2 */
    SP_NORMS_BOTH   /* Gemma 2 */
} sp_norm_place;

typedef enum sp_qk_norm {
    SP_QK_PLAIN,
    SP_QK_HEADS, /* an RMS norm of every query and key head, by one gain */
    SP_QK_ROWS,  /* of a row's queries, and of its keys (OLMo 2) */
    SP_QK_BARE,  /* the same without a gain (NanoChat) */
    SP_QK_OWN    /* a layer norm of every query and key head, by a gain of its own (Cohere) */
} sp_qk_norm;

/* A key whose number is part of the mathematics. place: of a double in sp_config, 0 where the key
 * is null. */
typedef struct sp_number_key {
    const char *key, *gguf_suffix; /* key NULL ends a list; gguf_suffix NULL: files have none */
    size_t place;
    bool whole; /* written without a fraction */
} sp_number_key;

/* A parameter that the family calls by other names than most do. */
typedef struct sp_rename {
    int role;                     /* sp_role */
    const char *name, *gguf_name; /* name NULL ends a list; gguf_name NULL: as most call it */
} sp_rename;

enum { SP_BY_KEY_HEADS = -1 };

/* A tensor of a layer that holds the rows of several parameters, one after another. With groups (a
 * number, or that of the key heads), a checkpoint has so many runs of rows, each with a share of
 * every parameter's (GPT-NeoX: a head's queries, keys and values); GGUF files have not. */
typedef struct sp_fusion {
    const char *name;      /* within a layer; NULL ends a list */
    const char *gguf_name; /* NULL: GGUF files have a tensor for each */
    int roles[3], n_roles; /* sp_role */
    int groups;            /* 0: one */
    bool swapped;          /* in a run the third role's rows, as many, stand before the second's
                            * (CodeGen) */
} sp_fusion;

/* A key of config.json that the family calls by its own name; own NULL: it has none, and it is not
 * written. */
typedef struct sp_key_alias {
    const char *own, *common; /* common NULL ends a list */
} sp_key_alias;

/* A tensor with a matrix of each expert of a layer, or a router beside such tensors. */
typedef struct sp_expert_stack {
    int role, n_roles; /* sp_role of the first; the roles of an expert follow one another */
    const char *name;  /* within a layer; NULL ends a list */
} sp_expert_stack;

/* Which layers are mixtures. */
typedef enum sp_sparse_rule {
    SP_SPARSE_ALL,
    SP_SPARSE_LISTED, /* config keys decoder_sparse_step, mlp_only_layers (Qwen) */
    SP_SPARSE_AFTER,  /* those after the first first_k_dense_replace (GLM-4.5) */
    SP_SPARSE_RANGE   /* every moe_layer_interval-th of those from moe_layer_start_index to
                       * moe_layer_end_index (ERNIE 4.5) */
} sp_sparse_rule;

/* How a family configures its mixtures of experts. */
typedef struct sp_mixture {
    const char *count_key;  /* experts of a layer; num_local_experts is read as well */
    const char *width_key;  /* of an expert's feed-forward */
    const char *gguf_width; /* metadata suffix of the same */
    bool normalised; /* weights of a token are divided by their sum; else by norm_topk_prob */
    sp_router router;
    bool corrected;        /* the choice has a bias of its own: SP_CORRECTION */
    bool correction_row;   /* ... which folders have as a matrix of one row */
    bool grouped;          /* config keys n_group, topk_group */
    const char *least_key; /* sums of weights are at least its number, 1e-12; NULL: any */
    sp_sparse_rule layers;
    bool unbalanced;        /* the family has no load-balancing loss */
    bool gguf_plain;        /* GGUF's readers do not divide the weights; else they do */
    bool gguf_says;         /* ... do as files say, and count shared experts */
    bool gguf_dense;        /* ... know that the first layers are dense */
    const char *shared_key; /* width of one more expert, which every token goes to; NULL: none is */
    bool shared_gated;      /* ... weighted by a logit of its own */
    bool shared_optional;   /* ... and of width 0 where there is none */
    bool shared_counts;     /* ... in widths of the others */
    const sp_expert_stack
        *folder;                  /* how published checkpoints stack experts; NULL: a tensor each */
    const sp_expert_stack *fused; /* how transformers 5 holds them; NULL: as most */
    double balance;               /* router_aux_loss_coef where it is left out; 0: 0.001 */
} sp_mixture;

typedef struct sp_arch {
    const char *model_type;      /* config.json "model_type" */
    const char *when;            /* of rows that share a model_type, that of configurations whose
                                  * keys have one of these values each, as JSON; NULL: the others' */
    const char *class_name;      /* config.json "architectures"[0] */
    const char *also_class;      /* the same, where transformers has the family by another's code;
                                  * NULL: it has not */
    const char *gguf_name;       /* general.architecture; NULL: no reader knows the family */
    sp_bias_rule bias, mlp_bias; /* mlp_bias: NEVER, CONFIG or ALWAYS */
    const char *bias_key;        /* NULL: attention_bias */
    const char *out_bias_key;    /* config key of o's own; NULL: as that of q, k and v says */
    const char *mlp_bias_key;    /* NULL: mlp_bias */
    sp_norm_kind norm;
    const char *eps_key; /* NULL: rms_norm_eps */
    bool head_bias;      /* an untied output projection has a bias (Phi) */
    bool plain_mlp;      /* the feed-forward has no gate */
    const char *ffn_key; /* NULL: intermediate_size */
    int ffn_times;       /* intermediate_size, where none is given, in hidden_size; 0: it must be */
    sp_parallel_rule parallel;
    bool one_norm;          /* halves in parallel share one norm */
    bool unscaled;          /* scores are not divided by the root of head_dim (GPT-Neo) */
    bool score_keys;        /* config keys scale_attn_weights, _by_inverse_layer_idx (GPT-2) */
    bool learned_positions; /* a table of them is added to the embeddings; nothing turns */
    int alibi; /* scores fall with the distance, by slopes down to 2^-alibi (ALiBi); nothing
                * turns; 0: they do not */
    const char *alibi_key; /* config key that says so, beside rotation; NULL: none has it */
    bool alibi_scaled;     /* what is added to scores is multiplied as they are (Falcon) */
    int position_offset;   /* rows of that table before position 0 (OPT) */
    bool rope_adjacent;    /* pairs that turn are neighbours */
    bool rope_partial;     /* config key partial_rotary_factor is honoured */
    bool rope_in_windows;  /* layers without a window do not rotate */
    bool rope_windowless;  /* ... but all do in models that have none */
    const char *rope_key;  /* config key that is "rope" where layers rotate; NULL: they do */
    bool rope_back;        /* pairs turn the other way (NanoChat) */
    bool embed_norm;    /* embeddings are normed: layer norms with a gain and a bias (Bloom), others
                           without */
    bool pads_learn;    /* embeddings have no padding row */
    bool transposed;    /* the checkpoint's matrices of layers are [in, out] */
    const char *layers; /* what their names begin with; NULL: model.layers */
    bool rope_alpha;    /* dynamic rotary scaling may have a fixed alpha (Hunyuan) */
    bool rope_grows;    /* queries may grow with their position: llama_4_scaling_beta */
    sp_qk_norm qk_norm;
    bool qk_turned;       /* queries and keys are normed when they have turned */
    const char *qk_key;   /* config key that says whether there are such norms; NULL: there are */
    int gguf_norm_layers; /* GGUF's readers look for them in models of so many layers or more */
    sp_norm_place norms;
    sp_window_rule window;
    int pattern; /* SP_WINDOW_PATTERN, SP_WINDOW_FIRST: every so many-th layer sees all */
    const char *layer_name; /* what layer_types call a layer that sees all, where each must be
                             * listed; NULL: full_attention, and none must */
    sp_act act;             /* of the feed-forward, where the configuration names none */
    const char *act_key;    /* config key; NULL: hidden_act */
    bool gelu_by_tanh;      /* "gelu" means the tanh form (Gemma's first files) */
    bool embed_by_width;    /* embeddings are multiplied by the root of hidden_size */
    bool rope_local;        /* layers with a window have a base of their own, and no scaling */
    int gguf_window_layers; /* GGUF's readers know the model of so many layers alone to have windows
                             */
    int gguf_wide_layers;   /* GGUF's readers take hidden/heads for query_pre_attn_scalar in the
                             * model of so many layers, head_dim in others */
    const char *defaults;   /* what keys that are left out mean, as JSON; NULL: as for most */
    const sp_number_key *numbers;  /* NULL: none */
    const sp_rename *renames;      /* NULL: none */
    const sp_rename *more_renames; /* of another family, where it has no own name; NULL: none */
    const char *outer_type;        /* model_type of what has this family's in its text_config */
    const char *outer_class;
    const sp_fusion *fusions;  /* NULL: none */
    float norm_shift;          /* the gain of a norm is the checkpoint's value plus this */
    bool rope_by_layer;        /* config keys no_rope_layers, no_rope_layer_interval are honoured */
    const sp_mixture *mixture; /* NULL: every feed-forward is dense */
    /* Keys of config.json: of another width, which has to be hidden_size; and that says whether one
     * key head serves all query heads. NULL: the family has none. */
    const char *width_key, *query_key;
    /* Of layers with a short convolution in place of attention: config key of how many positions it
     * sees, and GGUF's. NULL: the family has none. */
    const char *conv_key, *gguf_conv;
    bool ffn_shrinks;       /* config keys block_auto_adjust_ff_dim, ... are honoured (LFM2) */
    const char *rotary_key; /* config key of how many entries of a head turn; NULL: none has it */
    const char *lifted; /* key of an object whose members are read as keys OBJECT.KEY; NULL: none */
    const char *own_keys;        /* keys of config.json that other families have not, by spaces */
    const char *fixed_keys;      /* those that may have one value alone, as JSON; NULL: none */
    const char *written;         /* keys that are written besides, as JSON; NULL: none */
    const sp_key_alias *aliases; /* NULL: none */
    const char *gguf_fixed; /* keys whose value GGUF's readers take as given, as JSON; NULL: none */
    bool gguf_head;      /* they want an output projection: a tied model's is the embedding again */
    bool gguf_long;      /* they know longrope's two sets of factors */
    bool gguf_ungrouped; /* GGUF's readers know it with a key head for each query head alone */
    bool gguf_windowed;  /* of rows that share a gguf_name, that of files with a window */
    const char *gguf_tensor; /* ..., that of files with this tensor */
    bool gguf_unturned;      /* ..., that of files whose layers do not rotate */
    bool gguf_permuted;      /* q and k rows are stored for interleaved rotary pairs */
    bool gguf_is_default;    /* the row taken for gguf_name when several share it: one with a
                              * mixture for files with experts, one without for others */
} sp_arch;

const sp_arch *sp_arch_at(int i); /* NULL past the end */

static inline bool sp_arch_is_rms(const sp_arch *arch) {
    return arch->norm == SP_RMS_NORM || arch->norm == SP_RMS_NORM_BARE;
}

typedef enum sp_rope_type {
    SP_ROPE_DEFAULT,
    SP_ROPE_LINEAR,
    SP_ROPE_LLAMA3,
    SP_ROPE_YARN,
    SP_ROPE_DYNAMIC, /* plain within the context */
    SP_ROPE_ALPHA,   /* the base times alpha^(d / (d - 2)), d entries of a head */
    SP_ROPE_LONG     /* plain divided by factors, of which there are two sets */
} sp_rope_type;

enum { SP_MAX_LAYERS = 512, SP_MAX_EOS = 16, SP_MAX_HEAD_DIM = 1 << 14 };
enum { SP_MAX_EXPERTS = 1 << 16 }; /* of all layers */
enum { SP_LONG_PAIRS = 256 };      /* rotated pairs of a head with SP_ROPE_LONG, at most */
enum { SP_NO_ROPE_INTERVAL = 4 };  /* where layers without rotation are not listed */

typedef struct sp_config {
    const sp_arch *arch;
    int64_t vocab, hidden, ffn;
    int layers, heads, kv_heads, head_dim;
    int64_t context; /* max_position_embeddings */
    float norm_eps;
    bool tied, attention_bias, output_bias, mlp_bias;
    bool parallel;                 /* sp_parallel_rule */
    bool unscaled, scale_by_layer; /* scores: not divided by the root of head_dim; divided by 1, 2,
                                    * ... from the first layer on */
    sp_qk_norm qk_norm;
    int rotary_dim; /* entries of a head that turn, head_dim as a rule */
    sp_act act;
    double embed_scale;                /* multiplies embeddings; 0, here and below: not given */
    double residual_scale;             /* multiplies what a half of a layer adds */
    double query_scalar;               /* scores are divided by its root, in place of head_dim's */
    double attention_scale;            /* multiplies scores, in place of that */
    double alibi;                      /* as in sp_arch */
    double attention_cap, logit_cap;   /* caps, by tanh */
    double qkv_bound;                  /* queries, keys and values are cut off beyond it */
    double logit_scale, logit_divisor; /* of the logits, before their cap */
    double rope_local_theta;           /* of layers with a window, where it is their own */
    int window[SP_MAX_LAYERS];         /* by layer; 0: full attention */
    int sliding_window;                /* as configured; 0: none */
    bool conv[SP_MAX_LAYERS];          /* by layer: a short convolution in place of attention */
    int conv_taps;                     /* positions that it sees */
    bool no_rope[SP_MAX_LAYERS];       /* by layer: queries and keys are not rotated */
    int experts, top_k;                /* of a layer with a mixture; of them a token's */
    int64_t expert_ffn, shared_ffn;    /* shared_ffn 0: no expert is shared */
    int groups, open_groups;           /* as in sp_routing; groups 0: none */
    bool normalised;                   /* a token's weights are divided by their sum */
    double weight_least;               /* ... or by this where it is more */
    double routed_scale;               /* ... and multiplied by this */
    bool sparse[SP_MAX_LAYERS];        /* by layer: the feed-forward is a mixture of experts */
    int sparse_first, sparse_step;     /* those from the first on whose number, from 1, the step
                                        * divides; unless the family lists them */
    double balance_weight;             /* router_aux_loss_coef */
    bool balances;                     /* output_router_logits: training adds that loss */
    sp_rope_type rope;
    double rope_theta, rope_factor, rope_low, rope_high;
    int64_t rope_original;       /* original_max_position_embeddings of llama3 and yarn */
    double rope_alpha;           /* of SP_ROPE_ALPHA */
    double rope_growth;          /* a query at position p is multiplied by 1 + this times
                                  * log(1 + floor(p / rope_original)); 0: by 1 */
    double rope_fast, rope_slow; /* yarn: beta_fast, beta_slow */
    bool rope_exact;             /* yarn: "truncate" is false */
    double rope_attention;       /* yarn, long: cos and sin are multiplied by this */
    /* long: factors for sequences up to rope_original, which is the context then, and for longer
     * ones, which are only written again; and the context as configured. */
    double rope_short[SP_LONG_PAIRS], rope_long[SP_LONG_PAIRS];
    int64_t rope_context;
    int32_t bos, pad; /* -1: not given */
    int n_eos;
    int32_t eos[SP_MAX_EOS]; /* every id that ends a turn */
} sp_config;

/* config.json as its family means it: with what it leaves out, and of an outer one, which has
 * images besides, the text's part. *arch: the family. *out is a new reference. */
spar_status sp_config_complete(const json_t *given, const sp_arch **arch, json_t **out,
                               const char *where, spar_error *err);
spar_status sp_config_from_json(sp_config *out, const json_t *config, const char *where,
                                spar_error *err);
spar_status sp_config_from_gguf(sp_config *out, const sp_gguf *gguf, const char *where,
                                spar_error *err);
/* Ids of a member of a configuration: one, a list of up to max, or none where it is missing or
 * null. FORMAT for other values, LIMIT for more. */
spar_status sp_config_read_ids(const json_t *config, const char *key, int32_t *ids, int max, int *n,
                               const char *where, spar_error *err);
/* Add an id that ends a turn, once. */
void sp_config_add_eos(sp_config *config, int64_t id);
/* config.json for this model, in the form that transformers 4 and 5 both read. New reference. */
json_t *sp_config_to_json(const sp_config *config);

/* Where a number of the family is in the configuration. */
double *sp_config_number(sp_config *config, const sp_number_key *key);
/* Whether the layer is a mixture by sparse_first and sparse_step alone. */
bool sp_config_sparse_by_rule(const sp_config *config, int layer);
/* Layers with a mixture of experts. */
int sp_config_sparse_layers(const sp_config *config);
/* What configurations of the family mean by leaving keys out. *out is a new reference. */
spar_status sp_arch_defaults(const sp_arch *arch, json_t **out, spar_error *err);
/* What GGUF's readers take for query_scalar, which files do not have. */
double sp_config_gguf_scalar(const sp_config *config);
/* ALiBi's slopes [heads]. */
void sp_alibi_slopes(const sp_config *config, float *slopes);
/* What query-key products are multiplied by. */
double sp_config_attention_scale(const sp_config *config, int layer);

/* What a rotary table is of: all layers, or those with a window where they have a base of their
 * own; the queries, where they grow with their positions. */
typedef enum sp_table { SP_TABLE_ALL, SP_TABLE_LOCAL, SP_TABLE_QUERIES, SP_TABLES } sp_table;
/* Whether the model has it. */
bool sp_rope_has_table(const sp_config *config, sp_table table);
/* cos and sin [n_positions, rotary_dim/2] of the rotary angles, in double then rounded, with what
 * they are multiplied by. */
void sp_rope_table(const sp_config *config, sp_table table, int64_t n_positions, float *cos_table,
                   float *sin_table);
/* The base of the plain frequencies. */
double sp_rope_base(const sp_config *config);
/* Whether the layer is one of those. */
bool sp_rope_is_local(const sp_config *config, int layer);

/* factors [rotary_dim/2]: what the plain inverse frequencies are divided by. */
void sp_rope_factors(const sp_config *config, float *factors);
/* Whether dividing the plain inverse frequencies by factors [n] gives this scaling. */
bool sp_rope_matches_factors(const sp_config *config, const void *factors, int64_t n);

#endif
