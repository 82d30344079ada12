/* Element types of tensors: one const table gives names, sizes and conversion to f32. */
#ifndef SP_TENSOR_DTYPE_H
#define SP_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Block types of GGUF files come after the plain ones; a name without a row here
 * (Q1_0 and Q8_1) cannot be read. */
typedef enum sp_dtype {
    SP_F32,
    SP_F16,
    SP_BF16,
    SP_F64,
    SP_I8,
    SP_I16,
    SP_I32,
    SP_I64,
    SP_U8,
    SP_U16,
    SP_U32,
    SP_U64,
    SP_BOOL,
    SP_Q4_0,
    SP_Q4_1,
    SP_Q5_0,
    SP_Q5_1,
    SP_Q8_0,
    SP_Q2_K,
    SP_Q3_K,
    SP_Q4_K,
    SP_Q5_K,
    SP_Q6_K,
    SP_Q8_K,
    SP_IQ1_S,
    SP_IQ1_M,
    SP_IQ2_XXS,
    SP_IQ2_XS,
    SP_IQ2_S,
    SP_IQ3_XXS,
    SP_IQ3_S,
    SP_IQ4_NL,
    SP_IQ4_XS,
    SP_TQ1_0,
    SP_TQ2_0,
    SP_MXFP4,
    SP_NVFP4,
    SP_Q1_0,
    SP_Q2_0,
    SP_F8_E4M3,
    SP_F8_E5M2,
    SP_DTYPES
} sp_dtype;

typedef struct sp_dtype_info {
    const char *name;        /* in messages */
    const char *safetensors; /* name in a safetensors header; NULL: does not occur there */
    int ggml;                /* type number in a GGUF file; -1: does not occur there */
    int block_elements;      /* elements of a block; 1 for plain types */
    size_t block_bytes;
    /* dst[0..n) = the first n elements at src (n a multiple of block_elements; src may be
     * unaligned); NULL: not a weight type. */
    void (*to_f32)(const void *src, float *dst, int64_t n);
    /* dst[0..n) in this type: plain types rounded to nearest, ties to even; n is a multiple of
     * block_elements. NULL: f32 is not stored so. */
    void (*from_f32)(const float *src, void *dst, int64_t n);
} sp_dtype_info;

const sp_dtype_info *sp_dtype_info_of(sp_dtype dtype);
/* False where no row has that name or number. */
bool sp_dtype_from_safetensors(const char *name, sp_dtype *out);
bool sp_dtype_from_ggml(uint32_t number, sp_dtype *out);
/* The name of any type number of GGUF files, for messages: "Q4_K", or "an unknown type". */
const char *sp_dtype_ggml_name(uint32_t number);

/* Elements and bytes of a row-major tensor with dims[0..n_dims); n_dims = 0 is a scalar. False
 * where a size is negative, a row is no whole number of blocks, or a count overflows. */
bool sp_dtype_size(sp_dtype dtype, int n_dims, const int64_t *dims, int64_t *elements,
                   size_t *bytes);

/* bf16 to and from f32: round to nearest, ties to even; NaN stays NaN. */
static inline float sp_bf16_to_f32(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint16_t sp_bf16_from_f32(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
    uint32_t quiet = (bits >> 16) | 0x40U;
    return (uint16_t)((bits & 0x7FFFFFFFU) > 0x7F800000U ? quiet : rounded);
}

float sp_f16_to_f32(uint16_t h);
uint16_t sp_f16_from_f32(float f); /* nearest even; overflow gives infinity */

/* The f16 at p[0..2), in a file's byte order, as f32. */
static inline float sp_load_f16(const uint8_t *p) {
    return sp_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

#endif
