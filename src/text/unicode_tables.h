/* Facts of the Unicode character database, written by tools/make_unicode_tables.py: packed, for
 * code_points.c to unpack.
 *
 * Unicode 16.0.0 is what the reference's expressions go by; the older tables are those of its
 * normalizers and BERT steps. Ranges are pairs of a first and a last code point.
 */
#ifndef SP_TEXT_UNICODE_TABLES_H
#define SP_TEXT_UNICODE_TABLES_H

#include <stddef.h>
#include <stdint.h>

extern const uint32_t sp_unicode_categories[], sp_unicode_han[], sp_unicode_hiragana[],
    sp_unicode_katakana[], sp_unicode_hangul[], sp_unicode_scripts[], sp_unicode_old_punctuation[],
    sp_unicode_old_marks[], sp_unicode_old_nonspacing[], sp_unicode_old_other[],
    sp_unicode_decomposed_later[], sp_unicode_not_composed[], sp_unicode_lowered[];
extern const size_t sp_unicode_categories_n, sp_unicode_han_n, sp_unicode_hiragana_n,
    sp_unicode_katakana_n, sp_unicode_hangul_n, sp_unicode_scripts_n, sp_unicode_old_punctuation_n,
    sp_unicode_old_marks_n, sp_unicode_old_nonspacing_n, sp_unicode_old_other_n,
    sp_unicode_decomposed_later_n, sp_unicode_not_composed_n, sp_unicode_lowered_n;

#endif
