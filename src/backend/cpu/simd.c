#include "backend/cpu/simd.h"

void sp_simd_fill_rows_base(sp_simd *table);
void sp_simd_fill_blocks_base(sp_simd *table);
#if defined(__x86_64__)
void sp_simd_fill_rows_v3(sp_simd *table);
void sp_simd_fill_blocks_v3(sp_simd *table);
void sp_simd_fill_rows_v4(sp_simd *table);
void sp_simd_fill_blocks_v4(sp_simd *table);
#endif

void sp_simd_choose(sp_isa isa, sp_simd *out) {
    sp_simd_fill_rows_base(out);
    sp_simd_fill_blocks_base(out);
#if defined(__x86_64__)
    if (isa == SP_ISA_V3) {
        sp_simd_fill_rows_v3(out);
        sp_simd_fill_blocks_v3(out);
    } else if (isa == SP_ISA_V4) {
        sp_simd_fill_rows_v4(out);
        sp_simd_fill_blocks_v4(out);
    }
#else
    (void)isa;
#endif
}
