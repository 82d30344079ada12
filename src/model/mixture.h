/* The feed-forward of a layer that is a mixture of experts: part of a pass.
 *
 * A router sends each of T tokens to k of E experts. The T k rows lie in the order of experts, so
 * that an expert's products run over rows that follow each other; then each token gathers its own,
 * weighted. What differs from a dense layer is here; norms, attention and the residual stream are
 * the pass's. docs/math.md derives the backward. Shapes: H hidden, F of an expert, S = T k.
 */
#ifndef SP_MODEL_MIXTURE_H
#define SP_MODEL_MIXTURE_H

#include "base/mem.h"
#include "model/engine.h"
#include "model/lora.h"

/* Of an expert that all tokens go to, with one weight each: routing has T rows, in the order of the
 * tokens. */
typedef struct sp_shared_acts {
    sp_routing routing;
    void *gate, *up; /* operand [T,shared F]; training only */
} sp_shared_acts;

/* What the forward of a layer leaves for its backward. */
typedef struct sp_mixture_acts {
    sp_routing routing;
    void *gate, *up; /* operand [S,F]; training only */
    sp_shared_acts shared;
} sp_mixture_acts;

typedef struct sp_shared_space {
    float *logits;        /* [T] */
    void *hidden;         /* operand [T,shared F] */
    float *wide[2], *out; /* [T,shared F], [T,H] */
    /* training */
    void *dgate, *dup; /* operand [T,shared F] */
    float *dweight;    /* [T] */
    void *dlogits;     /* operand [T] */
} sp_shared_space;

/* Arrays that all layers of a pass share. */
typedef struct sp_mixture_space {
    void *entry;          /* operand [T,H]: what router and experts take in; the pass fills it */
    float *logits;        /* [T,E] */
    void *taken;          /* operand [S,H]: entry by rows */
    void *hidden;         /* operand [S,F]: inputs of the down projections */
    float *wide[2], *out; /* [S,F], [S,H] */
    /* training */
    void *dy, *dtaken; /* operand [T,H], which the pass fills, and [S,H]: by rows */
    void *dgate, *dup; /* operand [S,F] */
    float *dweight;    /* [S] */
    void *dlogits;     /* operand [T,E] */
    float *dentry;     /* [T,H]: gradient of entry */
    int64_t *count;    /* [E]: rows of each expert so far, in all layers of the batch */
    double *sum;       /* [E]: sum of its probabilities */
    float *dprobs;     /* [E]: of the load-balancing loss */
    sp_shared_space shared;
    sp_low_space low; /* of S rows: where matrices of mixtures have adapters */
} sp_mixture_space;

/* The matrix of a role in a layer, of one of its experts (0: the only one): y [n,out] = x W^T with
 * the adapter's share, where there is one. x is an operand. */
spar_status sp_mixture_product(const spar_model *m, sp_role role, int layer, int expert,
                               const sp_mixture_space *s, const void *x, int64_t n, float *y,
                               spar_error *err);
/* Its backward, from the operand dy [n,out]: dx [n,in] (= or +=) dy W with the adapter's share,
 * unless NULL; unless x is NULL, grads += those of what is trained: W, or the adapter. */
spar_status sp_mixture_product_backward(const spar_model *m, sp_role role, int layer, int expert,
                                        const sp_mixture_space *s, const void *dy, const void *x,
                                        int64_t n, float *dx, bool accumulate, float *grads,
                                        spar_error *err);

/* The shared expert's part of all that is below; its arrays from *placer on. */
void sp_shared_place_acts(sp_shared_acts *out, sp_placer *placer, const spar_model *model,
                          bool train, int64_t T);
void sp_shared_place_space(sp_shared_space *out, sp_placer *placer, const spar_model *model,
                           bool train, int64_t T);
spar_status sp_shared_forward(const spar_model *m, int layer, int64_t T, const sp_mixture_space *s,
                              sp_shared_acts *a, bool train, float *to, spar_error *err);
/* s->dentry += */
spar_status sp_shared_backward(const spar_model *m, int layer, int64_t T, const sp_mixture_space *s,
                               const sp_shared_acts *a, float *grads, spar_error *err);

/* Place the arrays of T tokens from base on; returns the bytes. base NULL: only those. */
size_t sp_mixture_place_acts(sp_mixture_acts *out, char *base, const spar_model *model, bool train,
                             int64_t T);
size_t sp_mixture_place_space(sp_mixture_space *out, char *base, const spar_model *model,
                              bool train, int64_t T);

/* In a chain over the T rows: the router's logits from s->entry. */
spar_status sp_mixture_logits(const spar_model *m, int layer, int64_t T, const sp_mixture_space *s,
                              spar_error *err);
/* Outside of one: to [T,H] += the layer's output; to NULL: only what the backward needs. */
spar_status sp_mixture_forward(const spar_model *m, int layer, int64_t T, const sp_mixture_space *s,
                               sp_mixture_acts *a, bool train, float *to, spar_error *err);
/* s->dentry = the gradient from s->dy, with s->entry as in the forward; grads += those of what is
 * trained of router and experts. balances: s->dprobs counts. */
spar_status sp_mixture_backward(const spar_model *m, int layer, int64_t T,
                                const sp_mixture_space *s, const sp_mixture_acts *a, bool balances,
                                float *grads, spar_error *err);

/* The load-balancing loss. Over all layers of a batch: begin, count after each forward; then its
 * value, and s->dprobs = weight times its gradient, which sp_mixture_backward adds. */
void sp_mixture_count_begin(const spar_model *m, const sp_mixture_space *s);
void sp_mixture_count(int64_t T, const sp_mixture_space *s, const sp_mixture_acts *a);
double sp_mixture_balance(const spar_model *m, int64_t T, const sp_mixture_space *s, double weight);

#endif
