/* f32 to the block types that are written, in the form of sp_dtype_info's from_f32: n is a multiple
 * of the block's elements. Q8_0, Q4_0 and Q5_0 give the bits that ggml's plain quantisers give. */
#ifndef SP_TENSOR_QUANTIZE_H
#define SP_TENSOR_QUANTIZE_H

#include <stdint.h>

void sp_q8_0_from_f32(const float *src, void *dst, int64_t n);
void sp_q4_0_from_f32(const float *src, void *dst, int64_t n);
void sp_q5_0_from_f32(const float *src, void *dst, int64_t n);
/* Rounds to the nearest of 16 values between the least (or 0) and the largest of 32 elements, whose
 * scale and offset are 6 bits of those of 256. */
void sp_q4_k_from_f32(const float *src, void *dst, int64_t n);

#endif
