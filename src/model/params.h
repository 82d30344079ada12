/* The parameters of a model: one table of names, shapes and places.
 *
 * All parameters lie in one flat f32 array, in the order of the table; gradients and optimiser
 * states are arrays of the same layout. The names are those of the Hugging Face checkpoint.
 */
#ifndef SP_MODEL_PARAMS_H
#define SP_MODEL_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/arch.h"

/* What a parameter is, within its layer. */
typedef enum sp_role {
    SP_EMBED,
    SP_EMBED_NORM,
    SP_EMBED_NORM_BIAS,
    SP_POSITIONS, /* learned ones, [position_offset + context, hidden] */
    SP_ATTN_NORM,
    SP_ATTN_NORM_BIAS,
    SP_Q,
    SP_K,
    SP_V,
    SP_O,
    SP_Q_BIAS,
    SP_K_BIAS,
    SP_V_BIAS,
    SP_O_BIAS,
    SP_Q_NORM,
    SP_K_NORM,
    SP_CONV_IN, /* of a layer with a short convolution in place of attention */
    SP_CONV,    /* its weights, [hidden, conv_taps], which no product reads: a vector */
    SP_CONV_OUT,
    SP_ATTN_POST, /* norm of attention's output */
    SP_MLP_NORM,
    SP_MLP_NORM_BIAS,
    SP_GATE,
    SP_UP,
    SP_DOWN,
    SP_GATE_BIAS,
    SP_UP_BIAS,
    SP_DOWN_BIAS,
    SP_ALPHA_P, /* of xIELU, whose curvatures they make */
    SP_ALPHA_N,
    SP_XIELU_BETA, /* which do not train */
    SP_XIELU_EPS,
    SP_ROUTER,     /* gives the logits of a mixture's experts */
    SP_CORRECTION, /* of their choice; it does not train */
    SP_EXPERT_GATE,
    SP_EXPERT_UP,
    SP_EXPERT_DOWN,
    SP_SHARED_WEIGHT, /* [1, hidden]: gives the logit of a shared expert's weight */
    SP_SHARED_GATE,
    SP_SHARED_UP,
    SP_SHARED_DOWN,
    SP_MLP_POST, /* norm of the feed-forward's output */
    SP_FINAL_NORM,
    SP_FINAL_NORM_BIAS,
    SP_HEAD_BIAS,
    SP_HEAD,
    SP_ROLES
} sp_role;

typedef struct sp_param {
    char name[96];      /* in the Hugging Face checkpoint */
    char gguf_name[64]; /* in a GGUF file; experts share that of the tensor that holds them */
    sp_role role;
    int layer;             /* -1 outside the layers */
    int expert;            /* of those that each expert (or head) has; else 0 */
    int64_t rows, cols;    /* cols 0: a vector of rows entries */
    int64_t offset, count; /* in the flat array, in elements; offset -1: not there (blocks) */
} sp_param;

/* Where rows of a parameter lie among those of the tensor that holds them: `share` of them from
 * `first` on, the next as many `step` further, ... */
typedef struct sp_row_run {
    int64_t share, step, first;
} sp_row_run;

static inline int64_t sp_row_at(sp_row_run run, int64_t row) {
    return row / run.share * run.step + run.first + row % run.share;
}

typedef struct sp_params {
    sp_param *items; /* owned */
    int n;
    int64_t total; /* elements of the flat array */
    /* Index of (role, layer), or -1 where the model has none; [SP_ROLES][layers]. Roles outside
     * the layers are at layer 0. With a tied head, SP_HEAD is the index of SP_EMBED. Of what each
     * expert or head has it is that of the first; those of the others follow. */
    int32_t *index; /* owned */
    int layers;
} sp_params;

spar_status sp_params_create(sp_params *out, const sp_config *config, spar_error *err);
void sp_params_release(sp_params *params);
/* Leave the parameters whose frozen[i] is set out of the flat array: they are kept as blocks. */
void sp_params_freeze(sp_params *params, const bool *frozen);

/* Whether each expert of a layer has such a parameter. */
bool sp_params_by_expert(sp_role role);
/* Whether each head has such a parameter: a gain of its own. */
bool sp_params_by_head(const sp_config *config, sp_role role);
/* Whether it is a number without a dimension. */
bool sp_params_scalar(sp_role role);
/* Whether GGUF files have it as metadata, an entry a layer, of the parameter's name without the
 * layer. */
bool sp_params_metadata(sp_role role);
/* The share of a parameter's experts that a token is sent to: 1 for what is no expert's. */
double sp_params_share(const sp_config *config, sp_role role);
/* Elements of all parameters, and of those that act on a token. */
int64_t sp_params_elements(const sp_params *params);
int64_t sp_params_active(const sp_params *params, const sp_config *config);

/* What a family's Hugging Face checkpoints call a role; within a layer, behind "model.layers.N.".
 */
const char *sp_role_name(const sp_arch *arch, sp_role role);

/* What the names of the layers' tensors begin with, before a dot and the layer. */
const char *sp_arch_layers(const sp_arch *arch);
/* The parameter of a role, or NULL. */
const sp_param *sp_params_get(const sp_params *params, sp_role role, int layer);
/* Elements from the start of a parameter of `count` to that of the next. */
int64_t sp_params_step(int64_t count);
/* The parameter's place in a flat array, or NULL where the model or the array has none. */
float *sp_params_at(const sp_params *params, float *flat, sp_role role, int layer);

#endif
