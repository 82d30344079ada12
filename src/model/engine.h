/* The model as the other folders use it: weights, and passes over packed batches.
 *
 * A spar_model owns the flat f32 weights and their prepared copies. A pass owns the activations of
 * one forward (and backward) over a batch; a training pass keeps what the backward needs, an
 * inference pass reuses one layer's worth of memory. docs/math.md derives each backward step.
 */
#ifndef SP_MODEL_ENGINE_H
#define SP_MODEL_ENGINE_H

#include "backend/backend.h"
#include "model/arch.h"
#include "model/batch.h"
#include "model/params.h"
#include "spar/model.h"

typedef struct sp_lora sp_lora; /* lora.h */

struct spar_model {
    sp_config config;
    sp_params params;
    float *weights; /* owned, [params.total] */
    float
        *ones; /* owned, [max(hidden, head_dim)]: gains of norms that have none (OLMo); else NULL */
    float *slopes;       /* owned, [heads]: of ALiBi; else NULL */
    sp_weight *matrices; /* owned, with their blocks, by parameter index; out is 0 for vectors */
    int terms;           /* products in whole numbers, where there are blocks: of 8 bits an input,
                          * in one term or two; 0: in floats */
    bool frozen;         /* some matrices are blocks or copies alone */
    bool inference;      /* matrices are the backend's copies alone, but for the embedding */
    sp_pool *pool;
    sp_backend *backend;
    float *cos_table[SP_TABLES], *sin_table[SP_TABLES]; /* owned, [rope_positions, rotary_dim/2];
                                                         * NULL where there is no such table */
    int64_t rope_positions;
    spar_tokenizer *tokenizer;    /* owned; NULL where there is none */
    spar_template *chat_template; /* owned; NULL where there is none */
    char now[16];                 /* date for templates */
    char *path;
    spar_sink sink;
    sp_lora *lora;          /* owned; NULL without an adapter */
    bool prepared_backward; /* for the backward direction too */
    bool changing;          /* all weights train: the backend keeps no copies for a step */
};

/* Prepare the matrices, after the weights changed too: copies for products that are kept; backward:
 * for gradients, too, and those of a model that trains whole only for the length of a product. A
 * pass of the other kind, training or inference, prepares such a model first. */
spar_status sp_model_prepare(spar_model *model, bool backward, spar_error *err);
/* UNSUPPORTED where the matrices are copies alone; `what` wants their floats. */
spar_status sp_model_check_floats(const spar_model *model, const char *what, spar_error *err);
/* A matrix of the model, prepared; NULL where the model has none. */
const sp_weight *sp_model_matrix(const spar_model *model, sp_role role, int layer);
/* y [T,out] (= or +=) x [T,in] W^T + bias, adapters left out: in whole numbers where the model
 * takes its products so and w has blocks. x is an operand, bias [out] or NULL. */
spar_status sp_model_product(const spar_model *model, const sp_weight *w, const float *bias,
                             const void *x, int64_t T, float *y, bool accumulate, spar_error *err);
/* The weights of a parameter as they act, an attached adapter merged in: to out [count]. */
void sp_model_floats(const spar_model *model, const sp_param *p, float *out);
/* What training changes: all weights, or the adapter alone where one is attached. */
typedef struct sp_trainable {
    float *values; /* flat, borrowed */
    int64_t total;
} sp_trainable;
sp_trainable sp_model_trainable(const spar_model *model);
/* UNSUPPORTED with the way out where the model cannot train: products in whole numbers, or weights
 * in blocks without an adapter. */
spar_status sp_model_check_trainable(const spar_model *model, spar_error *err);
/* Renew the prepared copies of those alone, in both directions. */
spar_status sp_model_prepare_trainable(spar_model *model, spar_error *err);
/* Check ids against the vocabulary: INVALID naming the first bad one. */
spar_status sp_model_check_ids(const spar_model *model, const int32_t *ids, size_t n,
                               spar_error *err);

/* Render a conversation (spar/chat_template.h) through the chat template; UNSUPPORTED where a part
 * of a content is an image, a video or a sound. *text is owned by the caller. */
spar_status sp_model_render(const spar_model *model, const struct json_t *conversation,
                            bool generation_prompt, char **text, size_t *n, spar_error *err);
/* The same, and what its generation blocks wrote (spar_template_render_spans). */
spar_status sp_model_render_spans(const spar_model *model, const struct json_t *conversation,
                                  char **text, size_t *n, spar_text_span **spans, size_t *n_spans,
                                  spar_error *err);
/* A prompt, which is a conversation, and the message that answers it as ids, tokenised apart as
 * sampling sees them: the prompt with its generation prompt; the response up to and with the token
 * that ends the turn. MISMATCH when the template renders the conversation with another prompt than
 * the one it generates from. Both arrays are owned by the caller. */
spar_status sp_model_turn(const spar_model *model, const struct json_t *prompt,
                          const struct json_t *response, int32_t **prompt_ids, size_t *n_prompt,
                          int32_t **response_ids, size_t *n_response, spar_error *err);
/* A prompt and several messages that follow it, tokenised whole, as TRL does: what is learned
 * begins where the ids of the prompt with its generation prompt and those of the whole part,
 * *first. *cut: ids of the prompt that are not in the whole, as a token goes over its end. MISMATCH
 * as above. *ids
 * [*n] is owned by the caller. */
spar_status sp_model_whole(const spar_model *model, const struct json_t *prompt,
                           const struct json_t *response, int32_t **ids, size_t *n, size_t *first,
                           size_t *cut, spar_error *err);
bool sp_model_ends_turn(const spar_model *model, int32_t id);

/* Make the rotary tables cover n positions; LIMIT beyond the model's context. */
spar_status sp_model_reserve_positions(spar_model *model, int64_t n, spar_error *err);

/* Keys and values of sequences being generated: per layer [kv_heads, rows, head_dim], so that a
 * head's lie together. A layer with a convolution has what that reads in place of the keys, [rows,
 * hidden], and no values: so prefixes are shared and taken back as keys are. bf16 where the
 * products are, and where 8-bit products round more than it does; else f32. */
typedef struct sp_kv_cache {
    int64_t rows;
    bool bf16;
    void *memory;                              /* owned */
    void *k[SP_MAX_LAYERS], *v[SP_MAX_LAYERS]; /* by layer, in it */
} sp_kv_cache;

spar_status sp_kv_cache_init(sp_kv_cache *out, const spar_model *model, int64_t rows,
                             spar_error *err);
void sp_kv_cache_release(sp_kv_cache *cache);

typedef struct sp_pass sp_pass;

/* A training pass keeps what the backward needs of every layer; recomputing, of each layer its
 * input alone, from which the backward makes the rest again: the same bits for more products. */
typedef enum sp_pass_kind { SP_PASS_INFER, SP_PASS_TRAIN, SP_PASS_RECOMPUTE } sp_pass_kind;

spar_status sp_pass_create(sp_pass **out, spar_model *model, sp_pass_kind kind, spar_error *err);
void sp_pass_free(sp_pass *pass);
/* For the forward and backward passes from now on, memory is what gradients go to that nothing is
 * in yet: the backward must get it, and not accumulate. A layer's activations are kept where the
 * gradients of layers before it will be, so that the two take little more than the larger one. NULL
 * takes it back. Gradients of an adapter are too small for it: nothing happens. */
void sp_pass_lend(sp_pass *pass, float *memory);

/* Dropout of the adapter's inputs, where it has a rate, in the forward and backward passes from now
 * on: the mask is a function of the seed. Off at first; a training pass has it on request. */
void sp_pass_dropout(sp_pass *pass, bool on, uint64_t seed);
/* Of a mixture of experts: from the next forward on, the backward of a training pass adds the
 * gradient of weight times the load-balancing loss of its batch. 0 at first. */
void sp_pass_balance(sp_pass *pass, double weight);
/* After a training pass's forward: that loss, without the weight; 0 where there are no experts.
 * Every row of the batch counts once, also one that several sequences share. */
double sp_pass_balance_loss(const sp_pass *pass);
/* Run the layers over the batch. With a cache, new keys and values are stored there and attention
 * reads it; without, the batch's own rows are the keys. */
spar_status sp_pass_forward(sp_pass *pass, const sp_batch *batch, sp_kv_cache *cache,
                            spar_error *err);
/* After forward: log-probs of the scored tokens, logp [batch->n_scored]. */
spar_status sp_pass_logp(sp_pass *pass, const sp_batch *batch, float *logp, spar_error *err);
/* After forward: logits [n_rows, vocab] of the given rows. */
spar_status sp_pass_logits(sp_pass *pass, const int64_t *rows, int64_t n_rows, float *logits,
                           spar_error *err);
/* After forward: out [n_rows, w->out] = w (final norm of the given rows) + bias, for a prepared
 * matrix w [., hidden] that is not the model's: the head of a scoring model. bias may be NULL. */
spar_status sp_pass_project(sp_pass *pass, const sp_weight *w, const float *bias,
                            const int64_t *rows, int64_t n_rows, float *out, spar_error *err);
/* After sp_pass_logp on a training pass: grads (flat, like what is trainable) = or += the gradient
 * of a loss whose derivative by log-prob r is c[r], r in [0, batch->n_scored). */
spar_status sp_pass_backward(sp_pass *pass, const sp_batch *batch, const float *c, float *grads,
                             bool accumulate, spar_error *err);

#endif
