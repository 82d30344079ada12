#include "base/mem.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

enum { TENSOR_ALIGN = 64, ARENA_ALIGN = 16, ARENA_BLOCK = 64 * 1024 };

struct sp_arena_block {
    alignas(ARENA_ALIGN) sp_arena_block *next;
    size_t size; /* bytes that follow this header */
};

/* Counts down to the allocation that a test wants to fail. */
static _Thread_local long fail_countdown;

void sp_mem_fail_at(long k) {
    fail_countdown = k;
}

static bool must_fail(void) {
    return fail_countdown > 0 && --fail_countdown == 0;
}

bool sp_mem_mul(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

static spar_status out_of_memory(size_t n, size_t size, spar_error *err) {
    spar_fail(err, SPAR_NO_MEMORY, "out of memory: %zu elements of %zu bytes", n, size);
    return SPAR_NO_MEMORY;
}

spar_status sp_mem_calloc(void **out, size_t n, size_t size, spar_error *err) {
    size_t bytes = 0;
    *out = NULL;
    if (must_fail() || !sp_mem_mul(n, size, &bytes) || bytes > PTRDIFF_MAX) {
        return out_of_memory(n, size, err);
    }
    *out = calloc(1, bytes == 0 ? 1 : bytes);
    return *out != NULL ? SPAR_OK : out_of_memory(n, size, err);
}

spar_status sp_mem_aligned(void **out, size_t n, size_t size, spar_error *err) {
    size_t bytes = 0;
    *out = NULL;
    if (must_fail() || !sp_mem_mul(n, size, &bytes) || bytes > PTRDIFF_MAX - TENSOR_ALIGN) {
        return out_of_memory(n, size, err);
    }
    bytes = bytes == 0 ? TENSOR_ALIGN : (bytes + TENSOR_ALIGN - 1) / TENSOR_ALIGN * TENSOR_ALIGN;
    *out = aligned_alloc(TENSOR_ALIGN, bytes);
    return *out != NULL ? SPAR_OK : out_of_memory(n, size, err);
}

spar_status sp_mem_grow(void **array, size_t *capacity, size_t need, size_t size, spar_error *err) {
    if (need <= *capacity && *array != NULL) {
        return SPAR_OK;
    }
    size_t wanted = *capacity + *capacity / 2;
    wanted = wanted < need ? need : wanted;
    wanted = wanted < 8 ? 8 : wanted;
    size_t bytes = 0;
    if (must_fail() || !sp_mem_mul(wanted, size, &bytes) || bytes > PTRDIFF_MAX) {
        return out_of_memory(need, size, err);
    }
    void *grown = realloc(*array, bytes == 0 ? 1 : bytes);
    if (grown == NULL) {
        return out_of_memory(need, size, err);
    }
    *array = grown;
    *capacity = wanted;
    return SPAR_OK;
}

spar_status sp_mem_strdup(char **out, const char *s, size_t n, spar_error *err) {
    void *copy = NULL;
    *out = NULL;
    if (n == SIZE_MAX) {
        return out_of_memory(n, 1, err);
    }
    if (sp_mem_calloc(&copy, n + 1, 1, err) != SPAR_OK) {
        return SPAR_NO_MEMORY;
    }
    if (n > 0) {
        memcpy(copy, s, n);
    }
    *out = copy;
    return SPAR_OK;
}

void sp_arena_init(sp_arena *arena) {
    *arena = (sp_arena){0};
}

void sp_arena_release(sp_arena *arena) {
    sp_arena_block *block = arena->head;
    while (block != NULL) {
        sp_arena_block *next = block->next;
        free(block);
        block = next;
    }
    sp_arena_init(arena);
}

static bool add_block(sp_arena *arena, size_t n) {
    const size_t size = n > ARENA_BLOCK ? n : ARENA_BLOCK;
    sp_arena_block *block = NULL;
    if (size <= PTRDIFF_MAX - sizeof *block && !must_fail()) {
        block = calloc(1, sizeof *block + size);
    }
    if (block == NULL) {
        return false;
    }
    block->next = arena->head;
    block->size = size;
    arena->head = block;
    arena->used = 0;
    arena->total += size;
    return true;
}

void *sp_arena_alloc(sp_arena *arena, size_t n) {
    if (n > PTRDIFF_MAX - ARENA_ALIGN) {
        return NULL;
    }
    n = n == 0 ? ARENA_ALIGN : (n + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if ((arena->head == NULL || arena->head->size - arena->used < n) && !add_block(arena, n)) {
        return NULL;
    }
    unsigned char *bytes = (unsigned char *)(arena->head + 1) + arena->used;
    arena->used += n;
    return bytes;
}

char *sp_arena_strndup(sp_arena *arena, const char *s, size_t n) {
    char *copy = n == SIZE_MAX ? NULL : sp_arena_alloc(arena, n + 1);
    if (copy != NULL && n > 0) {
        memcpy(copy, s, n);
    }
    return copy;
}
