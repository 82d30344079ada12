/* Quantised blocks as whole numbers: 32 weights w = scale * (q - zero) + min.
 *
 * The common form of GGUF's block types, in which products can be taken without unpacking them to
 * floats. With 4 bits q is 0..15 and zero 0; with 8 bits q is 0..255 and zero 128. scale and min
 * are f16 numbers in the file types that have this form, so nothing is lost. */
#ifndef SP_TENSOR_AFFINE_H
#define SP_TENSOR_AFFINE_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/dtype.h"

enum { SP_AFFINE_BLOCK = 32, SP_AFFINE_ZERO = 128 };

typedef struct sp_affine_form {
    int bits;     /* 4 or 8 */
    bool has_min; /* else min is 0 */
} sp_affine_form;

typedef struct sp_affine {
    float scale, min;
    uint8_t q[SP_AFFINE_BLOCK];
} sp_affine;

/* False where the type's blocks are not of this form. */
bool sp_affine_form_of(sp_dtype dtype, sp_affine_form *out);
/* A block of the file (of a type that has a form) in this form: the same numbers. */
void sp_affine_read(sp_dtype dtype, const void *block, sp_affine *out);
/* The nearest block to 32 floats. 8 bits: symmetric, scale = max |x| / 127. 4 bits: from the least
 * to the greatest. Both round scale and min to f16 first. */
void sp_affine_round(const float *x, sp_affine_form form, sp_affine *out);

#endif
