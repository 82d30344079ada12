/* Where the parameters of a model come from: places in a mapped file, by parameter index. */
#ifndef SP_MODEL_SOURCE_H
#define SP_MODEL_SOURCE_H

#include "model/params.h"
#include "tensor/dtype.h"

typedef struct sp_source {
    const void *data; /* borrowed from the map */
    sp_dtype dtype;
    int n_dims;
    int64_t dims[4];
    int64_t step;   /* > 0: from one entry of a row to the next, in elements (Conv1D) */
    sp_row_run run; /* where rows lie, if not one after another; share 0: they do */
    bool permuted;  /* rows are stored for interleaved rotary pairs */
    float shift;    /* added to the values of a gain */
} sp_source;

#endif
