/* The CPU this process runs on: which instruction sets the kernels may use. */
#ifndef SP_BACKEND_CPU_CPU_H
#define SP_BACKEND_CPU_CPU_H

#include <stdbool.h>

/* Levels of the x86-64 ABI: baseline (SSE2), v3 (AVX2, FMA), v4 (AVX-512 F BW CD DQ VL); then,
 * each on top of the last, the byte products of AVX512_VNNI, the bf16 products of AVX512_BF16, and
 * the tiles of AMX (AMX_TILE, AMX_BF16). */
typedef enum sp_isa {
    SP_ISA_BASE,
    SP_ISA_V3,
    SP_ISA_V4,
    SP_ISA_VNNI,
    SP_ISA_BF16,
    SP_ISA_AMX
} sp_isa;

/* The highest level of this CPU, capped by the environment's
 * SPAR_MAX_ISA=base|v3|v4|vnni|bf16|amx (an unknown value caps nothing). Where it has tiles, asks
 * the system for leave to use them, which holds for all threads of the process. */
sp_isa sp_cpu_isa(void);
/* "sse2", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx" */
const char *sp_cpu_isa_name(sp_isa isa);
/* Whether the CPU multiplies bf16, with the cap of SPAR_MAX_ISA applied. */
bool sp_cpu_has_bf16(void);

#endif
