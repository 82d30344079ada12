/* For the *_simd.c files alone, which are compiled with SP_SIMD_SUFFIX = _base, _v3, ...: names
 *  with the suffix, vectors as wide as the instruction set, and the exponential. */
#ifndef SP_BACKEND_CPU_SIMD_VARIANT_H
#define SP_BACKEND_CPU_SIMD_VARIANT_H

#include <string.h>

#include "backend/cpu/simd.h"

#define SP_SIMD_JOIN(a, b) a##b
#define SP_SIMD_EXPAND(a, b) SP_SIMD_JOIN(a, b)
#define SP_SIMD_NAME(name) SP_SIMD_EXPAND(name, SP_SIMD_SUFFIX)

/* Each file fills its own entries. */
void SP_SIMD_NAME(sp_simd_fill_rows)(sp_simd *table);
void SP_SIMD_NAME(sp_simd_fill_blocks)(sp_simd *table);
void SP_SIMD_NAME(sp_simd_fill_pairs)(sp_simd *table);
void SP_SIMD_NAME(sp_simd_fill_relative)(sp_simd *table);
void SP_SIMD_NAME(sp_simd_fill_quant)(sp_simd *table);
void SP_SIMD_NAME(sp_simd_fill_pack)(sp_simd *table);
void SP_SIMD_NAME(sp_simd_fill_panels)(sp_simd *table);
void SP_SIMD_NAME(sp_simd_fill_quant_bf16)(sp_simd *table);
void SP_SIMD_NAME(sp_simd_fill_scaled)(sp_simd *table);

#if defined(__AVX512F__)
enum { SP_VEC = 16 };
#elif defined(__AVX__)
enum { SP_VEC = 8 };
#else
enum { SP_VEC = 4 };
#endif
typedef float sp_vec __attribute__((vector_size(SP_VEC * sizeof(float))));

static inline sp_vec sp_vec_load(const float *p) {
    sp_vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void sp_vec_store(float *p, sp_vec v) {
    memcpy(p, &v, sizeof v);
}

/* e^x with a relative error below 2^-22: x = n ln 2 + r, |r| <= ln 2 / 2, and
 * e^r = 1 + r + r^2 p(r) with p of degree 4 interpolated at the Chebyshev nodes. Below the smallest
 * normal number the result is 0; above 88.37 it stays at e^88.37; a NaN stays a NaN. Branch-free,
 * so that loops around it vectorise. */
static inline __attribute__((always_inline)) float sp_exp(float x) {
    const float round = 12582912.0F; /* 1.5 2^23: adding it rounds to an integer */
    const float ln2_high = 0x1.62ep-1F, ln2_low = 0x1.0bfbe8p-15F;
    const float y = x > 88.37F ? 88.37F : x;
    const float shifted = y * 0x1.715476p+0F + round;
    const float n = shifted - round;
    const float r = (y - n * ln2_high) - n * ln2_low;
    float p = 1.392619106e-3F;
    p = p * r + 8.363185032e-3F;
    p = p * r + 4.166655457e-2F;
    p = p * r + 1.666657695e-1F;
    p = p * r + 0.5F;
    p = p * r * r + r + 1.0F;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    const uint32_t power = (bits << 23) + 0x3f800000U; /* 2^n */
    float scale;
    memcpy(&scale, &power, sizeof scale);
    return x < -87.33F ? 0.0F : p * scale;
}

/* tanh x with a relative error below 2^-21: x p(x^2) up to |x| = 0.6245, p of degree 4 interpolated
 * at the Chebyshev nodes (there 1 - 2 / (e^2x + 1) would cancel). */
static inline __attribute__((always_inline)) float sp_tanh(float x) {
    const float size = x < 0 ? -x : x, q = x * x;
    float p = 1.505188551e-2F;
    p = p * q - 5.182176828e-2F;
    p = p * q + 1.330450326e-1F;
    p = p * q - 3.333195150e-1F;
    p = p * q * x + x;
    const float far = 1.0F - 2.0F / (sp_exp(2.0F * size) + 1.0F);
    return size < 0.6245F ? p : x < 0 ? -far : far;
}

#endif
