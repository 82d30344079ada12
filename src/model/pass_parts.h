/* Inside of a pass: shared by pass*.c. Shapes: T rows, H hidden, F feed-forward, D head size,
 * Hq = heads*D, Hk = kv_heads*D, R scored rows, V vocabulary. */
#ifndef SP_MODEL_PASS_PARTS_H
#define SP_MODEL_PASS_PARTS_H

#include "model/engine.h"
#include "model/lora.h"
#include "model/mixture.h"

/* What one layer leaves for its backward. x is the residual stream at the layer's entry and x_mid
 * between attention and feed-forward; norms and the activation are cheap and recomputed. */
typedef struct sp_layer_acts {
    float *x, *x_mid;                  /* [T,H] */
    float *q_raw, *k_raw;              /* [T,Hq], [T,Hk] before the head norms; NULL without them */
    float *q, *k, *v;                  /* [T,Hq], [T,Hk], [T,Hk] as attention sees them */
    float *gates;                      /* [T,3H]: what a convolution takes in, in place of those */
    void *att;                         /* operand [T,Hq], or [T,H] of a convolution */
    float *lse;                        /* [T,heads] */
    void *gate, *up;                   /* operand [T,F] */
    float *rstd_q, *rstd_k;            /* [T*heads], [T*kv_heads] */
    uint8_t *kept_q, *kept_k, *kept_v; /* like q, k, v: whether entries are within the bound; NULL
                                        * where nothing bounds them */
    float *out[2], *rstd_out[2]; /* [T,H], [T]: what a half's output norm saw; NULL without one */
    sp_mixture_acts mixture;     /* in place of gate and up, where the layer has experts */
} sp_layer_acts;

/* The two halves of a layer: roles of what gives their output, and of its norm. The third stands in
 * the first's place in layers with a convolution. */
enum { SP_ATTENTION_HALF, SP_MLP_HALF, SP_CONV_HALF };
typedef struct sp_half {
    sp_role linear, bias, norm;
} sp_half;
extern const sp_half sp_halves[3];
const sp_half *sp_half_of(const sp_config *c, int half, int layer);

/* Arrays that live within a chain of row-wise operations. */
typedef struct sp_chain_arrays {
    void *norm, *hidden; /* operand [T,H], [T,F]: inputs of matrix products */
    float *wide[2];      /* [T,F] each */
    float *dnorm, *low;  /* [T,H], [T,rank] */
    void *low_operand;   /* operand [T,rank] */
} sp_chain_arrays;

struct sp_pass {
    spar_model *model; /* borrowed */
    bool train, recompute;
    bool accumulate;       /* the backward's gradients are added to those that are there */
    int64_t T, R;          /* capacity */
    char *block;           /* owned: all arrays below that are not in what was lent */
    size_t bytes;          /* of the block */
    char *lent, *placed;   /* borrowed: sp_pass_lend; the same as of the placing */
    sp_layer_acts *layers; /* owned; model layers when training, else 1 */
    sp_chain_arrays chain;
    sp_mixture_space mixture;     /* of models with experts */
    double balance, balance_loss; /* weight of the load-balancing loss; its value */
    float *embedded;              /* [T,H]: what enters the first layer, or is normed before it */
    float *embedded_rstd;         /* [T], where it is normed */
    float *x_out;                 /* [T,H]: after the last layer */
    float *rstd;                  /* [T] */
    float *rows_x;                /* [R,H]: scored rows of x_out */
    void *rows_norm;              /* operand [R,H] */
    float *rows_rstd, *head_lse;  /* [R] */
    void *low[SP_ROLES];          /* operand [T,rank] of the linear roles: s x A^T of an adapter */
    bool dropping;                /* dropout of the adapters' inputs, by dropout_seed */
    uint64_t dropout_seed;
    float *direction;   /* [T, widest]: V x, where an adapter has magnitudes */
    void *dy_direction; /* operand, the same size: its gradient */
    float *dgain;       /* [widest] */
    void *dropped;      /* operand [T, widest]: an adapter's input */
    float *low_dx;      /* the same size: its gradient */
    /* backward only */
    float *dx;                  /* [T,H] */
    float *dout;                /* [T,Hq]: gradient of attention's output, or a convolution's */
    float *dgates;              /* [T,3H] */
    float *dq, *dk, *dv;        /* [T,Hq], [T,Hk], [T,Hk] */
    float *drows;               /* [R,H] */
    void *hidden;               /* operand [T,F]: what the down projection saw */
    void *norm_attn, *norm_mlp; /* operand [T,H]: what the projections saw */
    void *dy[SP_ROLES];         /* operand [T, outputs] of the linear roles */
    void *dlow[SP_ROLES];       /* operand [T,rank]: gradients of low */
};

typedef struct sp_pass_sizes {
    int64_t H, F, Hq, Hk, V;
    int64_t conv;   /* H where layers have convolutions, else 0 */
    int64_t widest; /* of what a linear role gives, but the head */
    int heads, kv_heads, D, layers;
} sp_pass_sizes;

sp_pass_sizes sp_pass_sizes_of(const sp_config *c);
/* The largest of the adapter, 0 without one. */
int64_t sp_pass_rank(const spar_model *m);
/* Make room for T rows and R scored rows; what the pass held is lost. */
spar_status sp_pass_reserve(sp_pass *pass, int64_t T, int64_t R, spar_error *err);

static inline float sp_factor_or_one(double factor) {
    return factor > 0 ? (float)factor : 1.0F;
}

/* Values of a vector of the model, NULL where it has none, and for SP_ROLES. */
const float *sp_pass_vector(const spar_model *m, sp_role role, int layer);
/* The gain of a norm of the residual stream: NULL where there is no such norm, ones where the
 * family's have none. */
const float *sp_pass_gain(const spar_model *m, sp_role role, int layer);
/* Where the gradient of a parameter goes: NULL where it is frozen (under an adapter) or absent. */
float *sp_pass_grad(const sp_pass *pass, float *grads, sp_role role, int layer);

/* y (= or +=) x W^T + bias with the adapter's share where there is one. */
spar_status sp_pass_linear(sp_pass *pass, sp_role role, sp_role bias, int layer, const void *x,
                           int64_t T, float *y, bool accumulate, spar_error *err);
/* Backward of y = x W^T + bias: dx [T,in] (= or +=) dy W, and the gradients of what is trained: W
 * and bias, or the adapter. x is an operand, dy the operand pass->dy[role]; they stay until the
 * chain ends. */
spar_status sp_pass_linear_backward(sp_pass *pass, sp_role role, sp_role bias, int layer,
                                    const void *x, int64_t T, float *dx, bool accumulate,
                                    float *grads, spar_error *err);

/* Open a chain over T rows. Dropout, magnitudes and products in whole numbers are not row-wise
 * operations of the backend: then everything runs at once. */
spar_status sp_pass_chain_begin(sp_pass *pass, int64_t T, spar_error *err);
/* Run what has been put off; without a chain, nothing. */
spar_status sp_pass_chain_end(sp_pass *pass, spar_error *err);
/* After an error, what has been put off is over too. */
void sp_pass_chain_drop(sp_pass *pass, spar_status status);

sp_short_conv sp_pass_conv(const spar_model *m, int layer, const sp_batch *batch);
sp_attention sp_pass_attention(const spar_model *m, int layer, const sp_batch *batch);
/* Row-wise: queries [T,Hq] and keys [T,Hk] by their positions, or back (sign -1), in layers that
 * rotate. */
void sp_pass_rotate(const spar_model *m, int layer, const sp_batch *batch, float *q, float *k,
                    float sign);
/* The feed-forward's activation in the layer, where it is xIELU. */
sp_xielu sp_pass_xielu(const spar_model *m, int layer);
/* The role of a norm's bias, SP_ROLES where norms of that place have none. */
sp_role sp_pass_norm_bias(sp_role norm);
/* The role of the norm before the feed-forward. */
sp_role sp_pass_mlp_norm(const sp_config *c);
/* How many norms of queries or keys T rows have, in vectors of *dim. */
int64_t sp_pass_qk_norms(const sp_config *c, int64_t T, int heads, int64_t *dim);
/* The gains that heads have of their own. */
sp_head_gains sp_pass_head_gains(const spar_model *m, sp_role role, int layer, int heads);
/* Row-wise: what a half of a layer takes in, as the operand y: x [T,H], normed where the family
 * norms there. */
void sp_pass_take_in(sp_pass *pass, sp_role role, int layer, const float *x, int64_t T, void *y);
/* A layer's activations again, from its input, without its output. */
spar_status sp_pass_recompute(sp_pass *pass, int layer, const sp_batch *batch, spar_error *err);
sp_logit_form sp_pass_logit_form(const spar_model *m);

#endif
