#include "backend/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static sp_isa cap(void) {
    const char *text = getenv("SPAR_MAX_ISA");
    static const char *const names[] = {"base", "v3", "v4", "vnni", "bf16", "amx"};
    for (int i = 0; text != NULL && i <= SP_ISA_AMX; i++) {
        if (strcmp(text, names[i]) == 0) {
            return (sp_isa)i;
        }
    }
    return SP_ISA_AMX;
}

#if defined(__x86_64__)
/* clang's __builtin_cpu_supports does not know this one. */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* The registers of tiles are large, so Linux saves them only for processes that asked. */
static bool may_use_tiles(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_BF16) && (d & AMX_TILE) &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}
#endif

static sp_isa detect(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c() ||
        !__builtin_cpu_supports("bmi2")) {
        return SP_ISA_BASE;
    }
    const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    if (!v4) {
        return SP_ISA_V3;
    }
    if (!__builtin_cpu_supports("avx512vnni")) {
        return SP_ISA_V4;
    }
    if (!__builtin_cpu_supports("avx512bf16")) {
        return SP_ISA_VNNI;
    }
    return may_use_tiles() ? SP_ISA_AMX : SP_ISA_BF16;
#else
    return SP_ISA_BASE;
#endif
}

sp_isa sp_cpu_isa(void) {
    const sp_isa found = detect(), limit = cap();
    return found < limit ? found : limit;
}

const char *sp_cpu_isa_name(sp_isa isa) {
    static const char *const names[] = {"sse2",       "avx2",       "avx512",
                                        "avx512vnni", "avx512bf16", "amx"};
    return names[isa];
}

bool sp_cpu_has_bf16(void) {
    return sp_cpu_isa() >= SP_ISA_BF16;
}
