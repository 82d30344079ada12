/* Making an empty model of a given shape: the step that all loaders share. */
#ifndef SP_MODEL_CREATE_H
#define SP_MODEL_CREATE_H

#include "model/arch.h"
#include "model/params.h"
#include "spar/model.h"
#include "tensor/affine.h"

/* A model with zero weights, its threads and backend, neither tokenizer nor prepared copies. forms,
 * by parameter index, says which matrices are kept as blocks: those with bits > 0; NULL: none. */
spar_status sp_model_create(spar_model **out, const sp_config *config, const char *path,
                            const spar_model_options *options, const sp_affine_form *forms,
                            spar_error *err);

#endif
