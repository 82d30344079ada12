#include "backend/cpu/slabs.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "base/mem.h"

enum { LINE = 64, HUGE_PAGE = 2 << 20, SLAB = 16 * HUGE_PAGE };

typedef struct sp_slab {
    char *memory; /* owned; from `data` on at a huge page */
    char *data;
    size_t size;
} sp_slab;

static spar_status add_slab(sp_slabs *s, size_t least, spar_error *err) {
    spar_status status = SPAR_OK;
    const size_t size = (least > SLAB ? least : SLAB) / HUGE_PAGE * HUGE_PAGE + HUGE_PAGE;
    void *list = s->items, *memory = NULL;
    SPAR_TRY(sp_mem_grow(&list, &s->capacity, s->n + 1, sizeof *s->items, err));
    s->items = list;
    SPAR_TRY(sp_mem_aligned(&memory, size + HUGE_PAGE, 1, err));
    const size_t past = (uintptr_t)memory % HUGE_PAGE;
    sp_slab *slab = &s->items[s->n++];
    slab->memory = memory;
    slab->data = slab->memory + (past == 0 ? 0 : HUGE_PAGE - past);
    slab->size = size;
    (void)madvise(slab->data, size, MADV_HUGEPAGE); /* a wish */
done:
    return status;
}

spar_status sp_slabs_take(sp_slabs *s, size_t bytes, void **out, spar_error *err) {
    spar_status status = SPAR_OK;
    bytes = (bytes + LINE - 1) / LINE * LINE;
    while (s->at < s->n && s->items[s->at].size - s->used < bytes) {
        s->at++;
        s->used = 0;
    }
    if (s->at == s->n) {
        SPAR_TRY(add_slab(s, bytes, err));
        s->used = 0;
    }
    *out = s->items[s->at].data + s->used;
    s->used += bytes;
    s->live++;
done:
    return status;
}

void sp_slabs_release(sp_slabs *s) {
    for (size_t i = 0; i < s->n; i++) {
        free(s->items[i].memory);
    }
    free(s->items);
    *s = (sp_slabs){0};
}

void sp_slabs_give_back(sp_slabs *s) {
    if (--s->live == 0) {
        sp_slabs_release(s);
    }
}
