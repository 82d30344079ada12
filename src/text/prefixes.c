#include "text/prefixes.h"

#include <stdlib.h>
#include <string.h>

/* A text comes before those that it begins. */
static int by_text(const void *a, const void *b) {
    const sp_prefix_entry *x = a;
    const sp_prefix_entry *y = b;
    int order = strcmp(x->text, y->text);
    return order ? order : (x->value > y->value) - (x->value < y->value);
}

void sp_prefixes_init(sp_prefixes *out, sp_prefix_entry *entries, size_t n) {
    *out = (sp_prefixes){.entries = entries, .n = n};
    if (n > 1) {
        qsort(entries, n, sizeof *entries, by_text);
    }
    size_t at = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        out->first[byte] = (uint32_t)at;
        while (at < n && (unsigned char)entries[at].text[0] == byte) {
            at++;
        }
    }
    out->first[256] = (uint32_t)at;
}

void sp_prefixes_release(sp_prefixes *p) {
    free(p->entries);
    memset(p, 0, sizeof *p);
}

/* The first entry of [low, high) whose byte at depth is at least `byte`; all agree before depth. */
static uint32_t lower_bound(const sp_prefixes *p, uint32_t low, uint32_t high, size_t depth,
                            unsigned byte) {
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((unsigned char)p->entries[middle].text[depth] < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool sp_prefixes_step(const sp_prefixes *p, sp_prefix_walk *w, unsigned char byte, int32_t *value) {
    if (byte == 0) {
        return false; /* texts hold no NUL, which here would stand for their end */
    }
    if (w->depth == 0) {
        w->low = p->first[byte];
        w->high = p->first[byte + 1];
    } else {
        w->low = lower_bound(p, w->low, w->high, w->depth, byte);
        w->high = lower_bound(p, w->low, w->high, w->depth, byte + 1U);
    }
    w->depth++;
    if (w->low == w->high) {
        return false;
    }
    const sp_prefix_entry *shortest = &p->entries[w->low];
    *value = shortest->n == w->depth ? shortest->value : -1;
    return true;
}
