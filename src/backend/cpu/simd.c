#include "backend/cpu/simd.h"

#define DECLARE(level)                                                                             \
    void sp_simd_fill_rows_##level(sp_simd *table);                                                \
    void sp_simd_fill_blocks_##level(sp_simd *table);                                              \
    void sp_simd_fill_pairs_##level(sp_simd *table);                                               \
    void sp_simd_fill_relative_##level(sp_simd *table);                                            \
    void sp_simd_fill_quant_##level(sp_simd *table);                                               \
    void sp_simd_fill_pack_##level(sp_simd *table);                                                \
    void sp_simd_fill_panels_##level(sp_simd *table);                                              \
    void sp_simd_fill_quant_bf16_##level(sp_simd *table);                                          \
    void sp_simd_fill_scaled_##level(sp_simd *table);                                              \
    static void fill_##level(sp_simd *table) {                                                     \
        sp_simd_fill_rows_##level(table);                                                          \
        sp_simd_fill_blocks_##level(table);                                                        \
        sp_simd_fill_pairs_##level(table);                                                         \
        sp_simd_fill_relative_##level(table);                                                      \
        sp_simd_fill_quant_##level(table);                                                         \
        sp_simd_fill_pack_##level(table);                                                          \
        sp_simd_fill_panels_##level(table);                                                        \
        sp_simd_fill_quant_bf16_##level(table);                                                    \
        sp_simd_fill_scaled_##level(table);                                                        \
    }

DECLARE(base)
#if defined(__x86_64__)
DECLARE(v3)
DECLARE(v4)
DECLARE(vnni)
DECLARE(bf16)
DECLARE(amx)
#endif

void sp_simd_choose(sp_isa isa, sp_simd *out) {
#if defined(__x86_64__)
    static void (*const fill[])(sp_simd *) = {
        [SP_ISA_BASE] = fill_base, [SP_ISA_V3] = fill_v3,     [SP_ISA_V4] = fill_v4,
        [SP_ISA_VNNI] = fill_vnni, [SP_ISA_BF16] = fill_bf16, [SP_ISA_AMX] = fill_amx,
    };
    fill[isa](out);
#else
    (void)isa;
    fill_base(out);
#endif
}
