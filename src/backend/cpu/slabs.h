/* Weights in memory of huge pages: decoding reads every weight once a token, at the memory's rate
 * only where the processor does not walk page tables for it.
 *
 * Arrays are cut from slabs one after another and live until all that were taken have been given
 * back; then the slabs are freed.
 */
#ifndef SP_BACKEND_CPU_SLABS_H
#define SP_BACKEND_CPU_SLABS_H

#include <stddef.h>

#include "spar/status.h"

typedef struct sp_slabs {
    struct sp_slab *items; /* owned */
    size_t n, capacity;
    size_t at, used; /* the slab that is being cut, and its bytes in use */
    size_t live;     /* arrays taken and not given back */
} sp_slabs;

/* *out = bytes at a multiple of 64, not zeroed, borrowed from the slabs. NO_MEMORY. */
spar_status sp_slabs_take(sp_slabs *s, size_t bytes, void **out, spar_error *err);
/* One array that was taken is not used any more. */
void sp_slabs_give_back(sp_slabs *s);
void sp_slabs_release(sp_slabs *s);

#endif
