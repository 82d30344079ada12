#include "backend/cpu/cpu.h"

#include <stdlib.h>
#include <string.h>

static sp_isa cap(void) {
    const char *text = getenv("SPAR_MAX_ISA");
    static const char *const names[] = {"base", "v3", "v4", "vnni"};
    for (int i = 0; text != NULL && i <= SP_ISA_VNNI; i++) {
        if (strcmp(text, names[i]) == 0) {
            return (sp_isa)i;
        }
    }
    return SP_ISA_VNNI;
}

static sp_isa detect(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("f16c") || !__builtin_cpu_supports("bmi2")) {
        return SP_ISA_BASE;
    }
    const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    if (!v4) {
        return SP_ISA_V3;
    }
    return __builtin_cpu_supports("avx512vnni") ? SP_ISA_VNNI : SP_ISA_V4;
#else
    return SP_ISA_BASE;
#endif
}

sp_isa sp_cpu_isa(void) {
    const sp_isa found = detect(), limit = cap();
    return found < limit ? found : limit;
}

const char *sp_cpu_isa_name(sp_isa isa) {
    static const char *const names[] = {"sse2", "avx2", "avx512", "avx512vnni"};
    return names[isa];
}

bool sp_cpu_has_bf16(void) {
#if defined(__x86_64__)
    return sp_cpu_isa() >= SP_ISA_V4 && __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}
