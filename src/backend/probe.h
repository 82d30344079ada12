/* What this machine can do at most, to hold the ops against: matrix products and memory.
 *
 * Each figure is the best of several runs within about a second, over the pool's threads.
 */
#ifndef SP_BACKEND_PROBE_H
#define SP_BACKEND_PROBE_H

#include "base/pool.h"
#include "spar/status.h"

typedef enum sp_probe_type { SP_PROBE_F32, SP_PROBE_BF16, SP_PROBE_INT8 } sp_probe_type;

/* *gflops = 1e9 multiplications and additions a second of square products of `type`, one per
 * thread, the best size of a few. bf16 without hardware for it is the emulated figure: f32 with the
 * operands' conversion (sp_backend_has_bf16 tells which). int8 is u8 by s8 into s32. */
spar_status sp_probe_gemm(sp_probe_type type, sp_pool *pool, double *gflops, spar_error *err);

/* *gbs = 1e9 bytes a second read by all threads together from 512 MiB. */
spar_status sp_probe_bandwidth(sp_pool *pool, double *gbs, spar_error *err);

#endif
