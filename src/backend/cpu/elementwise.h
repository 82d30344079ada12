/* The tuned element-wise ops: each cut into chunks of rows, run by the SIMD kernels. */
#ifndef SP_BACKEND_CPU_ELEMENTWISE_H
#define SP_BACKEND_CPU_ELEMENTWISE_H

#include "backend/backend.h"

/* Put the tuned entries into a row. */
void sp_elementwise_fill(sp_ops *ops);

#endif
