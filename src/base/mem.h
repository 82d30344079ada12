/* Memory: checked heap allocation and an arena.
 *
 * Sizes that come from files go through sp_mem_mul / sp_mem_alloc_array, which refuse overflow.
 * An arena is a chain of blocks freed together; pointers stay valid until the arena is released.
 */
#ifndef SP_BASE_MEM_H
#define SP_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

/* *out = a * b; false on overflow of size_t. */
bool sp_mem_mul(size_t a, size_t b, size_t *out);

/* Zeroed array of n elements of size bytes, owned by the caller (free()). n = 0 gives a non-NULL
 * pointer. Fails with NO_MEMORY on overflow or when the allocator refuses. */
spar_status sp_mem_calloc(void **out, size_t n, size_t size, spar_error *err);

/* As above, aligned to 64 bytes and not zeroed: for tensors. Released by free(). */
spar_status sp_mem_aligned(void **out, size_t n, size_t size, spar_error *err);

/* Grow *array (elements of size bytes, *capacity of them) so that it holds at least need. */
spar_status sp_mem_grow(void **array, size_t *capacity, size_t need, size_t size, spar_error *err);

/* Copy of n bytes of s as a NUL-terminated string, owned by the caller. */
spar_status sp_mem_strdup(char **out, const char *s, size_t n, spar_error *err);

/* Tests only: make the k-th allocation from now through this header fail (k >= 1); 0 turns it off.
 * Per thread. */
void sp_mem_fail_at(long k);

typedef struct sp_arena_block sp_arena_block;
typedef struct sp_arena {
    sp_arena_block *head; /* owned; newest block first */
    size_t used;          /* bytes handed out in head */
    size_t total;         /* bytes of all blocks, for reports */
} sp_arena;

void sp_arena_init(sp_arena *arena);
void sp_arena_release(sp_arena *arena); /* frees all blocks; the arena can be used again */

/* n bytes aligned to 16, zeroed, borrowed from the arena; NULL when memory is out. */
void *sp_arena_alloc(sp_arena *arena, size_t n);
/* NUL-terminated copy of n bytes of s in the arena; NULL when memory is out. */
char *sp_arena_strndup(sp_arena *arena, const char *s, size_t n);

/* Parts of one block, from one cache line (64 bytes) to another: one walk with base NULL measures,
 * the same walk with the block places. used: the bytes so far. */
typedef struct sp_placer {
    char *base; /* borrowed; NULL: measure */
    size_t used;
} sp_placer;

/* The part for n things of `size` bytes; NULL where the walk measures. */
static inline void *sp_place(sp_placer *p, int64_t n, size_t size) {
    void *at = p->base != NULL ? p->base + p->used : NULL;
    p->used += ((size_t)n * size + 63) / 64 * 64;
    return at;
}

#endif
