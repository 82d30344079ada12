#include "backend/cpu/onednn.h"

#include <oneapi/dnnl/dnnl.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* Weak, so that it binds to whichever OpenMP runtime the library brought, and to none where the
 * library was built with other threads. */
extern void omp_set_num_threads(int n) __attribute__((weak));

void sp_onednn_single(void) {
    if (omp_set_num_threads != NULL) {
        omp_set_num_threads(1);
    }
}

int sp_onednn_sgemm(const sp_sgemm *g) {
    return (int)dnnl_sgemm(g->transpose_a ? 'T' : 'N', g->transpose_b ? 'T' : 'N', g->M, g->N, g->K,
                           1.0F, g->a, g->lda, g->b, g->ldb, g->accumulate ? 1.0F : 0.0F, g->c,
                           g->ldc);
}

spar_status sp_onednn_check(int code, const char *what, spar_error *err) {
    if (code != 0) {
        return spar_fail(err, SPAR_INTERNAL, "%s: oneDNN %s failed with status %d", what,
                         sp_onednn_version(), code);
    }
    return SPAR_OK;
}

const char *sp_onednn_version(void) {
    return TEXT(DNNL_VERSION_MAJOR) "." TEXT(DNNL_VERSION_MINOR) "." TEXT(DNNL_VERSION_PATCH);
}
