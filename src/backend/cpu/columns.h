/* Columns times a factor each (DoRA's magnitudes). Both rows of the op table use these; the tuned
 * one runs ranges as tasks. */
#ifndef SP_BACKEND_CPU_COLUMNS_H
#define SP_BACKEND_CPU_COLUMNS_H

#include "backend/backend.h"

/* Rows begin .. end - 1 of sp_ops.scale_columns. */
void sp_columns_scale(const float *x, const float *g, const float *bias, int64_t begin, int64_t end,
                      int64_t n, float *y, bool accumulate);
/* Columns begin .. end - 1 of sp_ops.scale_columns_bwd, whose sums run over the rows in order. */
void sp_columns_scale_bwd(const sp_backend *be, const float *x, const float *g, const void *dy,
                          int64_t T, int64_t n, int64_t begin, int64_t end, float *dg, void *dx);

#endif
