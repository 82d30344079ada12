/* The CPU this process runs on: which instruction sets the kernels may use. */
#ifndef SP_BACKEND_CPU_CPU_H
#define SP_BACKEND_CPU_CPU_H

#include <stdbool.h>

/* Levels of the x86-64 ABI: baseline (SSE2), v3 (AVX2, FMA), v4 (AVX-512 F BW CD DQ VL),
 * and v4 with the byte products of AVX512_VNNI. */
typedef enum sp_isa { SP_ISA_BASE, SP_ISA_V3, SP_ISA_V4, SP_ISA_VNNI } sp_isa;

/* The highest level of this CPU, capped by the environment's SPAR_MAX_ISA=base|v3|v4|vnni (an
 * unknown value caps nothing). */
sp_isa sp_cpu_isa(void);
const char *sp_cpu_isa_name(sp_isa isa); /* "sse2", "avx2", "avx512", "avx512vnni" */
/* AVX512_BF16 on top of v4, with the cap of SPAR_MAX_ISA applied. */
bool sp_cpu_has_bf16(void);

#endif
