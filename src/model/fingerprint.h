/* A 64-bit fingerprint of a model's shape and weights: to notice that a file is another one than
 * before. Not a cryptographic hash. */
#ifndef SP_MODEL_FINGERPRINT_H
#define SP_MODEL_FINGERPRINT_H

#include <stdint.h>

#include "spar/model.h"

uint64_t sp_model_fingerprint(const spar_model *model);

#endif
