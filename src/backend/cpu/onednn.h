/* The narrow door to oneDNN: the only file that sees its types is onednn.c.
 *
 * Every call runs on the calling thread alone; callers cut the work into tiles and run those on
 * the pool. So results depend on the tiles, never on the thread count.
 */
#ifndef SP_BACKEND_CPU_ONEDNN_H
#define SP_BACKEND_CPU_ONEDNN_H

#include <stdbool.h>
#include <stdint.h>

#include "spar/status.h"

/* Make the OpenMP runtime that oneDNN may use take one thread for calls from this thread. Called
 * once a task before anything below; cheap. */
void sp_onednn_single(void);

/* C [M,N] (= or +=) A B in f32, row-major with leading dimensions. transpose_a: A is stored as
 * [K,M]; transpose_b: B is stored as [N,K]. Returns oneDNN's status, 0 for success. */
typedef struct sp_sgemm {
    bool transpose_a, transpose_b, accumulate;
    int64_t M, N, K, lda, ldb, ldc;
    const float *a, *b;
    float *c;
} sp_sgemm;
int sp_onednn_sgemm(const sp_sgemm *g);

/* INTERNAL with oneDNN's status when code is not 0. */
spar_status sp_onednn_check(int code, const char *what, spar_error *err);

const char *sp_onednn_version(void); /* "2.6.3" */

#endif
