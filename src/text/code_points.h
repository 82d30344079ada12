/* Sets of code points, and the classes that several sets divide all code points into.
 *
 * A set is a list of ranges, in order and apart once it was closed. Running out of memory is
 * sticky, as in sp_str: sp_code_set_status says so in the end.
 */
#ifndef SP_TEXT_CODE_POINTS_H
#define SP_TEXT_CODE_POINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spar/status.h"

enum { SP_CODE_POINTS = 0x110000 };

typedef struct sp_code_range {
    uint32_t first, last;
} sp_code_range;

typedef struct sp_code_set {
    sp_code_range *ranges; /* owned */
    size_t n, capacity;
    bool failed;
} sp_code_set;

void sp_code_set_release(sp_code_set *set);
spar_status sp_code_set_status(const sp_code_set *set, spar_error *err);
void sp_code_set_add(sp_code_set *set, uint32_t first, uint32_t last);
void sp_code_set_add_set(sp_code_set *set, const sp_code_set *other);
/* What \p{...} names: a general category ("Lu", "L", ...), or one of the scripts Han, Hiragana,
 * Katakana and Hangul; false: none has this name. */
bool sp_code_set_add_property(sp_code_set *set, const char *name, size_t n);
/* Pairs of a first and a last code point, as unicode_tables.h has them. */
void sp_code_set_add_pairs(sp_code_set *set, const uint32_t *pairs, size_t n);
void sp_code_set_invert(sp_code_set *set);
void sp_code_set_intersect(sp_code_set *set, const sp_code_set *other);
/* Put the ranges in order, and join those that touch. */
void sp_code_set_close(sp_code_set *set);
/* Of a set that was closed. */
bool sp_code_set_has(const sp_code_set *set, uint32_t code_point);

/* Sets as a table: for each code point a mask, bit k of which says whether set k has it. */
enum { SP_CODE_SETS = 64, SP_CODE_BLOCK = 128, SP_CODE_BLOCKS = SP_CODE_POINTS / SP_CODE_BLOCK };
typedef struct sp_code_table {
    uint64_t ascii[128];
    uint64_t *masks;                 /* owned, by class */
    uint16_t blocks[SP_CODE_BLOCKS]; /* place of the block of classes */
    uint8_t *classes;                /* owned, [n_blocks, SP_CODE_BLOCK] */
    size_t n_masks, n_blocks;
} sp_code_table;

/* Closes the sets. LIMIT for more than SP_CODE_SETS, or sets that make more than 256 classes. */
spar_status sp_code_table_create(sp_code_table **out, sp_code_set *sets, size_t n, spar_error *err);
void sp_code_table_free(sp_code_table *table);

static inline uint64_t sp_code_mask(const sp_code_table *t, uint32_t c) {
    const size_t at = (size_t)t->blocks[c / SP_CODE_BLOCK] * SP_CODE_BLOCK + c % SP_CODE_BLOCK;
    return t->masks[t->classes[at]];
}

/* The code point at s, which is well-formed and not cut off before `end`; *used its bytes. */
static inline uint32_t sp_code_point(const unsigned char *s, const unsigned char *end,
                                     size_t *used) {
    const uint32_t lead = s[0];
    const size_t n = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (n > (size_t)(end - s)) {
        *used = 1;
        return 0xFFFD;
    }
    *used = n;
    switch (n) {
    case 1:
        return lead;
    case 2:
        return (lead & 0x1FU) << 6 | (s[1] & 0x3FU);
    case 3:
        return (lead & 0xFU) << 12 | (s[1] & 0x3FU) << 6 | (s[2] & 0x3FU);
    default:
        return ((lead & 7U) << 18 | (s[1] & 0x3FU) << 12 | (s[2] & 0x3FU) << 6 | (s[3] & 0x3FU)) %
               SP_CODE_POINTS;
    }
}

#endif
