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

enum { SP_MAX_PARTS = 3 };

typedef struct sp_stored {
    char name[96], gguf_name[64];
    int parts[SP_MAX_PARTS], n_parts; /* indices of parameters */
    int64_t rows, cols;               /* cols 0: a vector */
    float shift;                      /* a gain is the stored value plus this; in GGUF it is not */
} sp_stored;

/* The tensors of the checkpoint in its order; *out is owned by the caller. */
spar_status sp_stored_list(sp_stored **out, int *n, const sp_params *params,
                           const sp_config *config, spar_error *err);

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
                                  const sp_config *config, const float *const *values, bool gains,
                                  spar_error *err);
void sp_stored_values_release(sp_stored_values *values);

#endif
