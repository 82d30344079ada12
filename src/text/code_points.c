#include "text/code_points.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text/unicode_tables.h"

/* ---- sets ---- */

void sp_code_set_release(sp_code_set *s) {
    free(s->ranges);
    *s = (sp_code_set){0};
}

spar_status sp_code_set_status(const sp_code_set *s, spar_error *err) {
    return s->failed ? spar_fail(err, SPAR_NO_MEMORY, "out of memory for a set of characters")
                     : SPAR_OK;
}

void sp_code_set_add(sp_code_set *s, uint32_t first, uint32_t last) {
    void *memory = s->ranges;
    if (s->failed || first > last) {
        return;
    }
    s->failed = sp_mem_grow(&memory, &s->capacity, s->n + 1, sizeof *s->ranges, NULL) != SPAR_OK;
    s->ranges = memory;
    if (!s->failed) {
        s->ranges[s->n++] = (sp_code_range){first, last};
    }
}

void sp_code_set_add_set(sp_code_set *s, const sp_code_set *other) {
    for (size_t i = 0; i < other->n; i++) {
        sp_code_set_add(s, other->ranges[i].first, other->ranges[i].last);
    }
    s->failed = s->failed || other->failed;
}

void sp_code_set_add_pairs(sp_code_set *s, const uint32_t *pairs, size_t n) {
    for (size_t i = 0; i + 1 < n; i += 2) {
        sp_code_set_add(s, pairs[i], pairs[i + 1]);
    }
}

/* The names of the categories in the order of their numbers. */
static const char categories[] = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk "
                                 "So Zs Zl Zp Cc Cf Cs Co Cn";
enum { UPPER = 0, LOWER = 1, UPPER_LOWER = 30, LOWER_UPPER = 31 };

/* Bit k: category k has this name, or begins with it. */
static uint32_t categories_of(const char *name, size_t n) {
    uint32_t mask = 0;
    for (uint32_t k = 0; 3 * k < sizeof categories; k++) {
        if ((n == 1 || n == 2) && memcmp(categories + (size_t)3 * k, name, n) == 0) {
            mask |= 1U << k;
        }
    }
    return mask;
}

/* A run in which upper and lower case take turns: upper at the even code points, or at the odd. */
static void add_turns(sp_code_set *s, uint32_t first, uint32_t last, uint32_t wanted,
                      uint32_t kind) {
    for (uint32_t c = first; c <= last; c++) {
        const bool upper = (c % 2 == 0) == (kind == UPPER_LOWER);
        if (wanted >> (upper ? UPPER : LOWER) & 1U) {
            sp_code_set_add(s, c, c);
        }
    }
}

static bool add_script(sp_code_set *s, const char *name, size_t n) {
    const struct {
        const char *name;
        const uint32_t *pairs;
        size_t n;
    } scripts[] = {{"Han", sp_unicode_han, sp_unicode_han_n},
                   {"Hiragana", sp_unicode_hiragana, sp_unicode_hiragana_n},
                   {"Katakana", sp_unicode_katakana, sp_unicode_katakana_n},
                   {"Hangul", sp_unicode_hangul, sp_unicode_hangul_n}};
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        if (strlen(scripts[i].name) == n && memcmp(scripts[i].name, name, n) == 0) {
            sp_code_set_add_pairs(s, scripts[i].pairs, scripts[i].n);
            return true;
        }
    }
    return false;
}

bool sp_code_set_add_property(sp_code_set *s, const char *name, size_t n) {
    const uint32_t wanted = categories_of(name, n);
    if (!wanted) {
        return add_script(s, name, n);
    }
    for (size_t i = 0; i < sp_unicode_categories_n; i++) {
        const uint32_t run = sp_unicode_categories[i];
        const uint32_t first = run >> 5, kind = run & 31U;
        const uint32_t end = i + 1 < sp_unicode_categories_n ? sp_unicode_categories[i + 1] >> 5
                                                             : (uint32_t)SP_CODE_POINTS;
        if (kind >= UPPER_LOWER) {
            add_turns(s, first, end - 1, wanted, kind);
        } else if (wanted >> kind & 1U) {
            sp_code_set_add(s, first, end - 1);
        }
    }
    return true;
}

static int by_first(const void *a, const void *b) {
    const sp_code_range *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

/* Ranges in order, and those that touch joined. */
void sp_code_set_close(sp_code_set *s) {
    size_t kept = 0;
    if (s->n > 1) {
        qsort(s->ranges, s->n, sizeof *s->ranges, by_first);
    }
    for (size_t i = 0; i < s->n; i++) {
        const sp_code_range r = s->ranges[i];
        if (kept > 0 && r.first <= s->ranges[kept - 1].last + 1) {
            sp_code_range *last = &s->ranges[kept - 1];
            last->last = r.last > last->last ? r.last : last->last;
        } else {
            s->ranges[kept++] = r;
        }
    }
    s->n = kept;
}

void sp_code_set_invert(sp_code_set *s) {
    sp_code_set out = {.failed = s->failed};
    uint32_t next = 0;
    sp_code_set_close(s);
    for (size_t i = 0; i < s->n; i++) {
        if (s->ranges[i].first > next) {
            sp_code_set_add(&out, next, s->ranges[i].first - 1);
        }
        next = s->ranges[i].last + 1;
    }
    if (next < SP_CODE_POINTS) {
        sp_code_set_add(&out, next, SP_CODE_POINTS - 1);
    }
    sp_code_set_release(s);
    *s = out;
}

/* By De Morgan: what is not outside of either. */
void sp_code_set_intersect(sp_code_set *s, const sp_code_set *other) {
    sp_code_set outside = {0};
    sp_code_set_add_set(&outside, other);
    sp_code_set_invert(&outside);
    sp_code_set_invert(s);
    sp_code_set_add_set(s, &outside);
    sp_code_set_invert(s);
    sp_code_set_release(&outside);
}

bool sp_code_set_has(const sp_code_set *s, uint32_t c) {
    size_t low = 0, high = s->n;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (s->ranges[middle].last < c) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < s->n && s->ranges[low].first <= c;
}

/* ---- tables ---- */

enum { MAX_CLASSES = 256 };

/* Fill the masks of one block; at[k] is where set k's ranges go on, and moves along. */
static void block_masks(const sp_code_set *sets, size_t n, size_t *at, uint32_t first,
                        uint64_t *masks) {
    const uint32_t last = first + SP_CODE_BLOCK - 1;
    uint64_t whole = 0; /* sets that have all of the block */
    memset(masks, 0, SP_CODE_BLOCK * sizeof *masks);
    for (size_t k = 0; k < n; k++) {
        for (; at[k] < sets[k].n && sets[k].ranges[at[k]].first <= last; at[k]++) {
            const sp_code_range r = sets[k].ranges[at[k]];
            const uint32_t begin = r.first > first ? r.first : first;
            const uint32_t end = r.last < last ? r.last : last;
            if (end - begin == SP_CODE_BLOCK - 1) {
                whole |= (uint64_t)1 << k;
            } else {
                for (uint32_t c = begin; c <= end; c++) {
                    masks[c - first] |= (uint64_t)1 << k;
                }
            }
            if (r.last > last) {
                break;
            }
        }
    }
    for (size_t i = 0; whole && i < SP_CODE_BLOCK; i++) {
        masks[i] |= whole;
    }
}

/* The class of a mask; a new one where there is none yet. */
static spar_status class_of(sp_code_table *t, uint64_t mask, uint8_t *out, spar_error *err) {
    size_t k = 0;
    while (k < t->n_masks && t->masks[k] != mask) {
        k++;
    }
    if (k == MAX_CLASSES) {
        return spar_fail(err, SPAR_LIMIT, "sets of characters: expected at most %d classes",
                         MAX_CLASSES);
    }
    if (k == t->n_masks) {
        t->masks[t->n_masks++] = mask;
    }
    *out = (uint8_t)k;
    return SPAR_OK;
}

/* The place of a block that reads as the last one, which may be shared. Blocks of one class, which
 * are most, are found by it: uniform[class] is their place + 1. */
static size_t share_block(sp_code_table *t, uint16_t *uniform) {
    const uint8_t *last = t->classes + t->n_blocks * SP_CODE_BLOCK;
    if (memcmp(last, last + 1, SP_CODE_BLOCK - 1) == 0) {
        if (uniform[*last] == 0) {
            uniform[*last] = (uint16_t)++t->n_blocks;
        }
        return uniform[*last] - 1U;
    }
    for (size_t i = 0; i < t->n_blocks; i++) {
        if (memcmp(t->classes + i * SP_CODE_BLOCK, last, SP_CODE_BLOCK) == 0) {
            return i;
        }
    }
    return t->n_blocks++;
}

static spar_status fill_table(sp_code_table *t, const sp_code_set *sets, size_t n,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    size_t at[SP_CODE_SETS] = {0};
    uint16_t uniform[MAX_CLASSES] = {0};
    size_t capacity = 0;
    uint64_t masks[SP_CODE_BLOCK];
    for (size_t b = 0; b < SP_CODE_BLOCKS; b++) {
        void *memory = t->classes;
        status = sp_mem_grow(&memory, &capacity, (t->n_blocks + 1) * SP_CODE_BLOCK, 1, err);
        t->classes = memory;
        SPAR_TRY(status);
        block_masks(sets, n, at, (uint32_t)(b * SP_CODE_BLOCK), masks);
        uint8_t *classes = t->classes + t->n_blocks * SP_CODE_BLOCK;
        for (size_t i = 0; i < SP_CODE_BLOCK; i++) {
            if (i > 0 && masks[i] == masks[i - 1]) {
                classes[i] = classes[i - 1];
            } else {
                SPAR_TRY(class_of(t, masks[i], &classes[i], err));
            }
        }
        t->blocks[b] = (uint16_t)share_block(t, uniform);
    }
    for (uint32_t c = 0; c < 128; c++) {
        t->ascii[c] = sp_code_mask(t, c);
    }
done:
    return status;
}

spar_status sp_code_table_create(sp_code_table **out, sp_code_set *sets, size_t n,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    sp_code_table *t = NULL;
    if (n > SP_CODE_SETS) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT, "sets of characters: expected at most %d, found %zu",
                           SP_CODE_SETS, n));
    }
    for (size_t k = 0; k < n; k++) {
        sp_code_set_close(&sets[k]);
        SPAR_TRY(sp_code_set_status(&sets[k], err));
    }
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *t, err));
    t = memory;
    SPAR_TRY(sp_mem_calloc(&memory, MAX_CLASSES, sizeof *t->masks, err));
    t->masks = memory;
    SPAR_TRY(fill_table(t, sets, n, err));
    *out = t;
    t = NULL;
done:
    sp_code_table_free(t);
    return status;
}

void sp_code_table_free(sp_code_table *t) {
    if (t) {
        free(t->masks);
        free(t->classes);
        free(t);
    }
}
