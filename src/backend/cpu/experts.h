/* The operations of a mixture of experts, of both rows of the op table; contracts in backend.h.
 * Tokens or rows are cut into tasks by their number; sums over a row are in double. */
#ifndef SP_BACKEND_CPU_EXPERTS_H
#define SP_BACKEND_CPU_EXPERTS_H

#include "backend/backend.h"

void sp_experts_route(sp_backend *be, const float *logits, int64_t T, const sp_routing *r);
void sp_experts_route_bwd(sp_backend *be, const sp_routing *r, const float *dweight,
                          const float *dprobs, int64_t T, void *dlogits);
void sp_experts_take_rows(sp_backend *be, const void *x, const int32_t *rows, int64_t n_rows,
                          int64_t n, void *y);
void sp_experts_mix(sp_backend *be, const sp_routing *r, const float *x, bool weighted, int64_t T,
                    int64_t n, float *y, bool accumulate);
void sp_experts_weigh_bwd(sp_backend *be, const sp_routing *r, int64_t T, int64_t n, float *dh,
                          void *h, float *dweight);

#endif
