/* Dropout with a mask that is a function of (seed, stream, element): computed again where it is
 * needed again. Both rows of the op table use these; the tuned one runs ranges as tasks. */
#ifndef SP_BACKEND_CPU_DROPOUT_H
#define SP_BACKEND_CPU_DROPOUT_H

#include "backend/backend.h"

/* Elements begin .. end - 1 of the ops of the same names; begin is a multiple of 4. */
void sp_dropout_range(const sp_backend *be, const void *x, int64_t begin, int64_t end,
                      const sp_dropout *d, void *y);
void sp_dropout_add_range(const float *x, int64_t begin, int64_t end, const sp_dropout *d,
                          float *y);

#endif
