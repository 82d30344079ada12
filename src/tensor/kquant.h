/* Super-blocks of 256 elements of GGUF files ("K" types) to f32, in the form of sp_dtype_info's
 * to_f32: n is a multiple of 256, src may be unaligned. Layouts: ggml's block_q2_K,
 * block_q3_K, block_q4_K, block_q5_K, block_q6_K and block_q8_K. */
#ifndef SP_TENSOR_KQUANT_H
#define SP_TENSOR_KQUANT_H

#include <stdint.h>

void sp_q2_k_to_f32(const void *src, float *dst, int64_t n);
void sp_q3_k_to_f32(const void *src, float *dst, int64_t n);
void sp_q4_k_to_f32(const void *src, float *dst, int64_t n);
void sp_q5_k_to_f32(const void *src, float *dst, int64_t n);
void sp_q6_k_to_f32(const void *src, float *dst, int64_t n);
void sp_q8_k_to_f32(const void *src, float *dst, int64_t n);

#endif
