#include "text/edits.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void sp_rewrites_clear(sp_rewrites *r) {
    for (size_t i = 0; i < r->n; i++) {
        free(r->passes[i].items);
    }
    r->n = 0;
}

void sp_rewrites_release(sp_rewrites *r) {
    sp_rewrites_clear(r);
    free(r->passes);
    *r = (sp_rewrites){0};
}

sp_edits *sp_rewrites_pass(sp_rewrites *r) {
    if (!r) {
        return NULL;
    }
    void *memory = r->passes;
    if (sp_mem_grow(&memory, &r->capacity, r->n + 1, sizeof *r->passes, NULL) != SPAR_OK) {
        r->failed = true;
        return NULL;
    }
    r->passes = memory;
    r->passes[r->n] = (sp_edits){0};
    return &r->passes[r->n++];
}

void sp_edits_add(sp_edits *e, size_t from, size_t n_from, size_t to, size_t n_to) {
    if (!e || e->failed) {
        return;
    }
    void *memory = e->items;
    e->failed = sp_mem_grow(&memory, &e->capacity, e->n + 1, sizeof *e->items, NULL) != SPAR_OK;
    e->items = memory;
    if (!e->failed) {
        e->items[e->n++] = (sp_edit){from, n_from, to, n_to};
    }
}

/* The last edit that begins at a byte of the new text or before it; NULL: none. Of those that begin
 * there, the one that has the byte. */
static const sp_edit *edit_at(const sp_edits *e, size_t at) {
    size_t low = 0, high = e->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (e->items[middle].to <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 ? &e->items[low - 1] : NULL;
}

/* The bytes of the old text that a byte of the new one stands for. */
static void byte_back(const sp_edits *e, size_t at, size_t *begin, size_t *end) {
    const sp_edit *edit = edit_at(e, at);
    if (edit && at < edit->to + edit->n_to) {
        *begin = edit->from;
        *end = edit->from + edit->n_from;
        return;
    }
    *begin = edit ? edit->from + edit->n_from + (at - (edit->to + edit->n_to)) : at;
    *end = *begin + 1;
}

void sp_rewrites_back(const sp_rewrites *r, size_t *begin, size_t *end) {
    for (size_t i = r->n; i-- > 0;) {
        size_t ignored, first, last;
        byte_back(&r->passes[i], *begin, &first, &ignored);
        byte_back(&r->passes[i], *end - 1, &ignored, &last);
        *begin = first;
        *end = last > first ? last : first + 1;
    }
}

spar_status sp_rewrites_status(const sp_rewrites *r, spar_error *err) {
    bool failed = r->failed;
    for (size_t i = 0; i < r->n; i++) {
        failed = failed || r->passes[i].failed;
    }
    return failed ? spar_fail(err, SPAR_NO_MEMORY, "out of memory for the places of tokens")
                  : SPAR_OK;
}
