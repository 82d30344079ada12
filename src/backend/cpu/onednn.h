/* The narrow door to oneDNN: the only file that sees its types is onednn.c.
 *
 * Every call runs on the calling thread alone; callers cut the work into tiles and run those on
 * the pool. So results depend on the tiles, never on the thread count.
 */
#ifndef SP_BACKEND_CPU_ONEDNN_H
#define SP_BACKEND_CPU_ONEDNN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/cpu/cpu.h"
#include "spar/status.h"

/* Leave out instructions above isa, for the whole process; has effect before any other call. The
 * library has no level below SSE4.1, and none at all but on x86. */
void sp_onednn_cap(sp_isa isa);

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

/* C = A B for square matrices of n: u8 by s8 into s32. */
int sp_onednn_int8(int64_t n, const uint8_t *a, const int8_t *b, int32_t *c);

/* The engine with its products for fixed shapes ("kernels"), made on first use and kept. Kernels
 * are requested by one thread at a time and never while others run; running them is safe from any
 * thread that passes its own worker number. */
typedef struct sp_dnn sp_dnn;
typedef struct sp_dnn_kernel sp_dnn_kernel;

typedef enum sp_dnn_type { SP_DNN_F32, SP_DNN_BF16 } sp_dnn_type;

/* C [M,N] f32 (= or +=) A [M,K] B [K,N], all dense and row-major; A and B of `type`. packed: B is
 * in the library's own layout for (type, N, K), made by sp_dnn_pack. */
typedef struct sp_dnn_shape {
    sp_dnn_type type;
    int64_t M, N, K;
    bool packed, accumulate;
} sp_dnn_shape;

spar_status sp_dnn_create(sp_dnn **out, int workers, spar_error *err);
void sp_dnn_free(sp_dnn *dnn);

/* *out is borrowed from dnn, until sp_dnn_trim drops it. */
spar_status sp_dnn_get(sp_dnn *dnn, const sp_dnn_shape *shape, const sp_dnn_kernel **out,
                       spar_error *err);
/* Drop all kernels when very many have been made; called between ops. */
void sp_dnn_trim(sp_dnn *dnn);
/* Bytes of a packed B of this kernel. */
size_t sp_dnn_packed_bytes(const sp_dnn_kernel *kernel);
/* Whether the packed B of `part` (N a part of whole's N, K the same) is a contiguous piece of the
 * packed B of `whole`, so that pieces packed one after another make the whole. */
bool sp_dnn_is_slice(const sp_dnn_kernel *whole, const sp_dnn_kernel *part);
/* Whether the packed B is bf16 in layout blocks of 32 k by 64 n (simd.h), those of a column of
 * blocks one after another: B's block (k, n) is number n/64 * ceil(K/32) + k/32. */
bool sp_dnn_has_pairs(const sp_dnn_kernel *kernel);
const sp_dnn_shape *sp_dnn_shape_of(const sp_dnn_kernel *kernel); /* borrowed */
/* The library's name of the implementation: one with "ref" in it is no gain. */
const char *sp_dnn_implementation(const sp_dnn_kernel *kernel);

/* Both return oneDNN's status, 0 for success. */
int sp_dnn_run(const sp_dnn *dnn, const sp_dnn_kernel *kernel, int worker, const void *a,
               const void *b, float *c);
/* packed = B, where B's element (k, n) is b[k row + n column] in f32. */
int sp_dnn_pack(const sp_dnn *dnn, const sp_dnn_kernel *kernel, int worker, const float *b,
                int64_t row, int64_t column, void *packed);

/* INTERNAL with oneDNN's status when code is not 0. */
spar_status sp_onednn_check(int code, const char *what, spar_error *err);

const char *sp_onednn_version(void); /* "2.6.3" */

#endif
