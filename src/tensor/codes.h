/* Block types of GGUF files whose elements are places in a small list of values, to f32, in the
 * form of sp_dtype_info's to_f32: n is a multiple of the block's elements, src may be unaligned.
 * Layouts: ggml's block_iq4_nl, block_iq4_xs, block_tq1_0, block_tq2_0, block_mxfp4,
 * block_nvfp4, block_q1_0 and block_q2_0. */
#ifndef SP_TENSOR_CODES_H
#define SP_TENSOR_CODES_H

#include <stdint.h>

void sp_iq4_nl_to_f32(const void *src, float *dst, int64_t n);
void sp_iq4_xs_to_f32(const void *src, float *dst, int64_t n);
void sp_tq1_0_to_f32(const void *src, float *dst, int64_t n);
void sp_tq2_0_to_f32(const void *src, float *dst, int64_t n);
void sp_mxfp4_to_f32(const void *src, float *dst, int64_t n);
void sp_nvfp4_to_f32(const void *src, float *dst, int64_t n);
void sp_q1_0_to_f32(const void *src, float *dst, int64_t n);
void sp_q2_0_to_f32(const void *src, float *dst, int64_t n);

/* 8-bit floats of safetensors: four exponent bits without infinities, or the upper half of f16. */
void sp_f8_e4m3_to_f32(const void *src, float *dst, int64_t n);
void sp_f8_e5m2_to_f32(const void *src, float *dst, int64_t n);

#endif
