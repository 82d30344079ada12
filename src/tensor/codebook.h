/* Super-blocks of 256 elements of GGUF files whose values are places in code books, to f32, in the
 * form of sp_dtype_info's to_f32: n is a multiple of 256, src may be unaligned. Layouts: ggml's
 * block_iq1_s, block_iq1_m, block_iq2_xxs, block_iq2_xs, block_iq2_s, block_iq3_xxs and
 * block_iq3_s. */
#ifndef SP_TENSOR_CODEBOOK_H
#define SP_TENSOR_CODEBOOK_H

#include <stdint.h>

void sp_iq1_s_to_f32(const void *src, float *dst, int64_t n);
void sp_iq1_m_to_f32(const void *src, float *dst, int64_t n);
void sp_iq2_xxs_to_f32(const void *src, float *dst, int64_t n);
void sp_iq2_xs_to_f32(const void *src, float *dst, int64_t n);
void sp_iq2_s_to_f32(const void *src, float *dst, int64_t n);
void sp_iq3_xxs_to_f32(const void *src, float *dst, int64_t n);
void sp_iq3_s_to_f32(const void *src, float *dst, int64_t n);

#endif
