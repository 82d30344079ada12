/* Arithmetic of cutting work: by sizes alone. */
#ifndef SP_BACKEND_CPU_SIZES_H
#define SP_BACKEND_CPU_SIZES_H

#include <stdint.h>

static inline int64_t sp_ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static inline int64_t sp_round_up(int64_t a, int64_t b) {
    return sp_ceil_div(a, b) * b;
}

static inline int64_t sp_min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

#endif
