/* Low-rank adapters (LoRA, arXiv 2106.09685): the base stays as it is and each adapted matrix
 * computes y = W x + s B (A x), with s = alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv
 * 2312.03732). Only A and B are trained: one flat f32 array, like the weights of the model, to
 * which gradients and optimiser states are parallel.
 *
 * Where a checkpoint stores several matrices as one (Phi-3's qkv_proj), that is what is adapted, as
 * PEFT does it: the parts share A, and B's rows are theirs. Of mixtures it is what transformers 5
 * holds: an expert's gate and up projections share A, and every expert has a pair of its own.
 *
 * An adapter belongs to its model. Where one is attached, passes go through it, training changes it
 * alone, and saving the model writes the merged weights W + s B A.
 */
#ifndef SP_MODEL_LORA_H
#define SP_MODEL_LORA_H

#include "backend/backend.h"
#include "model/checkpoint.h"
#include "model/params.h"
#include "spar/model.h"
#include "spar/options.h"

typedef struct sp_lora_settings {
    int64_t rank; /* 0: no adapter */
    double alpha;
    bool rslora;
    bool dora;                /* a magnitude for each output beside the pair (dora.h) */
    double dropout;           /* of A's input, in training: 0 <= dropout < 1 */
    spar_option_list targets; /* "q_proj", ..., or the ends of the family's own names ("c_attn",
                               * "experts.down_proj"); none: the linear layers of attention and of
                               * dense feed-forwards; "all-linear": those of mixtures too */
} sp_lora_settings;

/* The pair of one matrix W [out,in]: A [rank,in], B [out,rank]. */
typedef struct sp_adapter {
    const sp_param *of; /* the adapted parameter, borrowed from the model's table */
    int64_t rank;       /* those of a file may differ */
    float scale;        /* s */
    int lead;           /* index of the first adapter of those that share A */
    int64_t offset_a, offset_b, offset_m; /* in the flat array, in elements; m with DoRA alone */
    sp_weight a, b;
    float *length, *gain; /* DoRA: |V| and m / |V| by output, in the adapters' own memory */
} sp_adapter;

struct sp_lora {
    sp_lora_settings settings; /* without targets: the items say what is adapted */
    int64_t most_rank;         /* of the items */
    bool mixes;                /* some are of a mixture: experts, shared ones, routers */
    sp_adapter *items;         /* owned */
    int n;
    sp_stored *modules; /* owned: the matrices that are adapted, as transformers 5 holds them */
    int n_modules;
    int32_t *index; /* owned: of a parameter's adapter by the parameter's index, or -1 */
    float *values;  /* owned, [total] */
    float *gains;   /* owned: the adapters' lengths and gains; NULL without DoRA */
    int64_t total;
};

/* Attach adapters that change nothing yet: A uniform in +-1/sqrt(in) (as PEFT begins), B zero. A
 * pass made before does not see them. INVALID names an unknown target and the known ones;
 * UNSUPPORTED a matrix of which only parts are targets, and one of a mixture with DoRA. */
spar_status sp_lora_attach(spar_model *model, const sp_lora_settings *settings, uint64_t seed,
                           spar_error *err);
void sp_lora_detach(spar_model *model); /* fine without one */
/* Renew the backend's copies after values changed. */
spar_status sp_lora_prepare(spar_model *model, bool backward, spar_error *err);
/* The adapter of a role in a layer (of its first expert), or NULL. */
const sp_adapter *sp_lora_find(const spar_model *model, sp_role role, int layer);
const sp_adapter *sp_lora_of(const spar_model *model,
                             const sp_param *p); /* the same; p may be NULL */

/* Arrays that the products of an adapter take, of T rows of its rank. */
typedef struct sp_low_space {
    float *low;
    void *u, *du; /* operands: s x A^T and its gradient; du in a backward alone */
} sp_low_space;
/* u = s x A^T for an operand x [T,in] */
spar_status sp_lora_low(const spar_model *model, const sp_adapter *a, const sp_low_space *space,
                        const void *x, int64_t T, spar_error *err);
/* y [T,out] += s x A^T B^T */
spar_status sp_lora_add(const spar_model *model, const sp_adapter *a, const sp_low_space *space,
                        const void *x, int64_t T, float *y, spar_error *err);
/* From the operand dy [T,out]: dx [T,in] += its share, unless NULL; unless x is NULL, grads (flat,
 * like the adapter's values) += those of A and B. Leaves du. */
spar_status sp_lora_backward(const spar_model *model, const sp_adapter *a,
                             const sp_low_space *space, const void *dy, const void *x, int64_t T,
                             float *dx, float *grads, spar_error *err);
/* Add the adapter's share of parameter p, where it has one, to the weights out [p->count]. */
void sp_lora_merge(const spar_model *model, const sp_param *p, float *out);

/* A folder as PEFT writes it: adapter_config.json and adapter_model.safetensors (F32). Written
 * aside and renamed whole; dir must not exist. */
spar_status sp_lora_save(const spar_model *model, const char *dir, spar_error *err);
/* Attach what such a folder holds, in place of what is attached. */
spar_status sp_lora_load(spar_model *model, const char *dir, spar_error *err);

#endif
