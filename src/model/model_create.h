/* Making an empty model of a given shape: the step that all loaders share. */
#ifndef SP_MODEL_CREATE_H
#define SP_MODEL_CREATE_H

#include "model/arch.h"
#include "spar/model.h"

/* A model with zero weights, its threads and backend, neither tokenizer nor prepared copies. */
spar_status sp_model_create(spar_model **out, const sp_config *config, const char *path,
                            const spar_model_options *options, spar_error *err);

#endif
