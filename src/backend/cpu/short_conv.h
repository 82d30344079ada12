/* The tuned entries of the gated short convolution; contracts in backend.h. */
#ifndef SP_BACKEND_CPU_SHORT_CONV_H
#define SP_BACKEND_CPU_SHORT_CONV_H

#include "backend/backend.h"

void sp_short_conv_run(sp_backend *be, const sp_short_conv *a, const float *z, void *out);
void sp_short_conv_run_bwd(sp_backend *be, const sp_short_conv *a, const float *z,
                           const float *dout, float *dz, float *dw);

#endif
