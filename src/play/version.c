#include "spar/version.h"

#include <jansson.h>
#include <oneapi/dnnl/dnnl.h>
#include <sqlite3.h>
#include <unistd.h>

#include "backend/backend.h"

#ifndef SPAR_VERSION_TEXT
#define SPAR_VERSION_TEXT "0.0.0"
#endif

const char *spar_version(void) {
    return SPAR_VERSION_TEXT;
}

static const char *build_kind(void) {
#if defined(__SANITIZE_ADDRESS__)
    return "with address sanitizer";
#elif defined(NDEBUG)
    return "release";
#else
    return "with assertions";
#endif
}

void spar_version_write(FILE *out) {
    const dnnl_version_t *dnnl = dnnl_version();
    fprintf(out, "spar %s\n", spar_version());
    fprintf(out, "build: %s, compiler %s\n", build_kind(), __VERSION__);
    fprintf(out, "libraries: oneDNN %d.%d.%d, SQLite %s, jansson %s\n", dnnl->major, dnnl->minor,
            dnnl->patch, sqlite3_libversion(), JANSSON_VERSION);
    fprintf(out, "options: CUDA no, MPI no, server no\n");
#if defined(__x86_64__)
    static const char *const words[] = {"no", "yes"};
    fprintf(out, "processor: %ld cores, AVX2 %s, AVX-512 %s, bf16 products %s\n",
            sysconf(_SC_NPROCESSORS_ONLN), words[__builtin_cpu_supports("avx2") != 0],
            words[__builtin_cpu_supports("avx512f") != 0], words[sp_backend_has_bf16()]);
#else
    fprintf(out, "processor: %ld cores\n", sysconf(_SC_NPROCESSORS_ONLN));
#endif
}
