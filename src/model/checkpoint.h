/* The tensors of a checkpoint, where they are not the parameters one by one.
 *
 * Some families store several matrices as one, their rows one after another, or a norm's gains less
 * one. A stored tensor names the parameters that it is made of; loading cuts it, writing joins
 * them.
 */
#ifndef SP_MODEL_CHECKPOINT_H
#define SP_MODEL_CHECKPOINT_H

#include "io/safetensors.h"
#include "model/params.h"

/* How experts are stored: as published folders have them, a tensor each, or stacked where the
 * family's are; as transformers 5 holds them (and writes them with save_original_format off), gate
 * and up of all experts one tensor, down another; or, in GGUF files, a tensor each of the three, of
 * all experts. */
typedef enum sp_stored_form { SP_STORED_FOLDER, SP_STORED_FUSED, SP_STORED_GGUF } sp_stored_form;

/* A tensor of a checkpoint. Its parameters are a run of the table: of n_roles roles, of each the
 * experts (or heads), where it is a stack of those; in the tensor, the roles of an expert follow
 * one another. */
typedef struct sp_stored {
    char name[96], gguf_name[64];
    int first, n_roles;
    int64_t stack, rows, cols; /* stack 0: a matrix; cols 0: a vector */
    bool scalar;               /* a vector of one entry that is a number by itself */
    int64_t taps;              /* > 0: the weights of a convolution, so many a channel */
    bool spread;               /* those as [channels, 1, taps] */
    bool transposed;           /* stored as [cols, rows] */
    int groups;                /* > 1: runs of rows, as sp_fusion says */
    bool swapped;
    float shift; /* a gain is the stored value plus this; in GGUF it is not */
} sp_stored;

/* How many parameters it has, and the index of the i-th in the order of the tensor. */
int sp_stored_parts(const sp_stored *stored);
int sp_stored_part(const sp_stored *stored, int i);

/* Where the rows of part i lie among all rows; above: how many rows the parts before it have. */
sp_row_run sp_stored_run(const sp_stored *stored, int i, int64_t rows, int64_t above);

/* Its shape, to dims [3]; returns how many sizes that has. */
int sp_stored_dims(const sp_stored *stored, int64_t *dims);

/* The tensors of the checkpoint in its order; *out is owned by the caller. */
spar_status sp_stored_list(sp_stored **out, int *n, const sp_params *params,
                           const sp_config *config, sp_stored_form form, spar_error *err);

/* What transformers 5 calls the tensor with gate and up of a layer's experts; "" where the family
 * has no mixtures. */
void sp_stored_experts_name(const sp_arch *arch, int layer, char name[96]);

/* A tensor by its name; or as it is saved from the inner module, or within a model that reads
 * images besides (by transformers 4 and 5). NULL: it is not there. Borrowed. */
const sp_tensor_entry *sp_checkpoint_find(const sp_safetensors *file, const char *name);

/* What is to be written: a tensor for each entry. */
typedef struct sp_stored_values {
    sp_tensor_entry *entries; /* owned; f32 */
    size_t n;
    sp_stored *list; /* owned: the names of the entries are in it */
    float *joined;   /* owned: values of tensors that are not a parameter as it lies in memory */
} sp_stored_values;

/* values: of each parameter by index, [count], borrowed while the result is used. gains: the values
 * are weights, from which the shift is taken again; false: gradients. */
spar_status sp_stored_values_init(sp_stored_values *out, const sp_params *params,
                                  const sp_config *config, sp_stored_form form,
                                  const float *const *values, bool gains, spar_error *err);
void sp_stored_values_release(sp_stored_values *values);

#endif
