#include "text/characters.h"

#include <stddef.h>

#include "text/unicode_tables.h"

/* Whether c is in one of the ranges, which are pairs in order. */
static bool is_in(const uint32_t *pairs, size_t n, uint32_t c) {
    size_t low = 0, high = n / 2;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (pairs[2 * middle + 1] < c) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n / 2 && pairs[2 * low] <= c;
}

bool sp_char_is_space(unsigned c) {
    static const uint32_t spaces[] = {0x9,    0xD,    0x20,   0x20,   0x85,   0x85,   0xA0,
                                      0xA0,   0x1680, 0x1680, 0x2000, 0x200A, 0x2028, 0x2029,
                                      0x202F, 0x202F, 0x205F, 0x205F, 0x3000, 0x3000};
    return is_in(spaces, sizeof spaces / sizeof spaces[0], c);
}

bool sp_char_is_mark(unsigned c) {
    return is_in(sp_unicode_old_marks, sp_unicode_old_marks_n, c);
}

bool sp_char_is_nonspacing(unsigned c) {
    return is_in(sp_unicode_old_nonspacing, sp_unicode_old_nonspacing_n, c);
}

bool sp_char_is_other(unsigned c) {
    return is_in(sp_unicode_old_other, sp_unicode_old_other_n, c);
}

/* What the last of the runs that begin at c or before says: runs are first << bits | value. */
static unsigned value_at(const uint32_t *runs, size_t n, unsigned bits, uint32_t c) {
    size_t low = 0, high = n;
    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;
        if (runs[middle] >> bits <= c) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return runs[low] & ((1U << bits) - 1);
}

unsigned sp_char_script(unsigned c) {
    return value_at(sp_unicode_scripts, sp_unicode_scripts_n, 8, c);
}

/* The symbols that have the property Alphabetic: circled and squared letters. */
static bool is_enclosed_letter(unsigned c) {
    return (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
           (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

bool sp_char_is_word(unsigned c) {
    /* Lu..Nl, which are letters, marks, digits and letters that are numbers; Pc; turns of Lu, Ll */
    const unsigned k = value_at(sp_unicode_categories, sp_unicode_categories_n, 5, c);
    return k <= 9 || k == 11 || k >= 30 || c == 0x200C || c == 0x200D || is_enclosed_letter(c);
}

unsigned sp_char_lower(unsigned c) {
    size_t low = 0, high = sp_unicode_lowered_n / 3; /* the first run that ends at c or behind */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (sp_unicode_lowered[3 * middle + 1] < c) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == sp_unicode_lowered_n / 3) {
        return c;
    }
    const uint32_t *run = sp_unicode_lowered + 3 * low;
    const uint32_t first = run[0] >> 1;
    const bool skipped = (run[0] & 1U) && ((c - first) & 1U);
    return c < first || skipped ? c : c - first + run[2];
}
