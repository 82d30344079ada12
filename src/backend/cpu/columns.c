#include "backend/cpu/columns.h"

#include "backend/cpu/operand.h"

void sp_columns_scale(const float *x, const float *g, const float *bias, int64_t begin, int64_t end,
                      int64_t n, float *y, bool accumulate) {
    for (int64_t t = begin; t < end; t++) {
        for (int64_t i = 0; i < n; i++) {
            const float value = x[t * n + i] * g[i] + (bias != NULL ? bias[i] : 0.0F);
            y[t * n + i] = accumulate ? y[t * n + i] + value : value;
        }
    }
}

void sp_columns_scale_bwd(const sp_backend *be, const float *x, const float *g, const void *dy,
                          int64_t T, int64_t n, int64_t begin, int64_t end, float *dg, void *dx) {
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = begin; i < end; i++) {
            const float d = sp_operand_load(be, dy, t * n + i);
            dg[i] += d * x[t * n + i];
            sp_operand_store(be, dx, t * n + i, d * g[i]);
        }
    }
}
