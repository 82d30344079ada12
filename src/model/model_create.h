/* Making models: empty ones of a given shape, the step that all loaders share, and the decoder of a
 * reward model. */
#ifndef SP_MODEL_CREATE_H
#define SP_MODEL_CREATE_H

#include "model/arch.h"
#include "model/params.h"
#include "spar/model.h"
#include "tensor/affine.h"

/* A model, its threads and backend, neither tokenizer nor prepared copies. forms, by parameter
 * index, says which matrices are kept as blocks: those with bits > 0; the weights are then for the
 * caller to fill. NULL: none, and all weights are zero. */
spar_status sp_model_create(spar_model **out, const sp_config *config, const char *path,
                            const spar_model_options *options, const sp_affine_form *forms,
                            spar_error *err);

/* Prepare matrix i, which is to be copies alone, from its values [rows, cols], borrowed. */
spar_status sp_model_prepare_copy(spar_model *model, int i, const float *values, spar_error *err);

/* As spar_model_load for a folder whose class is that of a scoring model
 * (XForSequenceClassification and its like; reward.h) of family X: its decoder, without an output
 * projection of its own. */
spar_status sp_model_load_scorer(spar_model **out, const char *dir,
                                 const spar_model_options *options, spar_error *err);

#endif
