/* The tuned entry of relative_attention; contract in backend.h. */
#ifndef SP_BACKEND_CPU_RELATIVE_H
#define SP_BACKEND_CPU_RELATIVE_H

#include "backend/backend.h"

spar_status sp_relative_attention_run(sp_backend *be, const sp_relative_attention *a, const void *q,
                                      const void *k, const void *v, void *out, spar_error *err);

#endif
