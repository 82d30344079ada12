/* Classes of characters as the reference has them, each by the age of its tables there. */
#ifndef SP_TEXT_CHARACTERS_H
#define SP_TEXT_CHARACTERS_H

#include <stdbool.h>

/* White_Space of the Unicode character database. */
bool sp_char_is_space(unsigned code_point);
/* \w of UTS #18, as Rust's expressions have it: alphabetic, marks, decimal digits, connectors and
 * joiners. SP_WORD_CLASS is the same as the inside of a PCRE2 class; the ranges are the symbols
 * that are alphabetic, circled and squared letters. */
#define SP_WORD_CLASS                                                                              \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{200C}\\x{200D}\\x{24B6}-\\x{24E9}"                       \
    "\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"
bool sp_char_is_word(unsigned code_point);
bool sp_char_is_mark(unsigned code_point);       /* M, as of Unicode 9 */
bool sp_char_is_nonspacing(unsigned code_point); /* Mn, as of Unicode 8 */
bool sp_char_is_other(unsigned code_point);      /* Cc, Cf and Co, as of Unicode 8 */
/* The number of its script, as the step UnicodeScripts has them; 0: it goes with any. */
unsigned sp_char_script(unsigned code_point);
/* Its lower case where that is one other character (as of Unicode 17), else itself. */
unsigned sp_char_lower(unsigned code_point);

#endif
