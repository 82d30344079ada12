/* Writing models, within the module. */
#ifndef SP_MODEL_SAVE_H
#define SP_MODEL_SAVE_H

#include "model/engine.h"
#include "tensor/dtype.h"

/* Of each parameter by index what it is as it acts, an adapter merged in and blocks unpacked. */
typedef struct sp_model_values {
    const float **values; /* owned; the arrays are the model's or in floats */
    float *floats;        /* owned; NULL where the weights are as they act */
} sp_model_values;

spar_status sp_model_values_init(sp_model_values *out, const spar_model *model, spar_error *err);
void sp_model_values_release(sp_model_values *values);

/* spar_model_save with weights of type F32, F16 or BF16. */
spar_status sp_model_save_as(const spar_model *model, const char *dir, sp_dtype type,
                             spar_error *err);

#endif
