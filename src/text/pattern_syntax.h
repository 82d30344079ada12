/* The regular expressions of tokenizer.json are Oniguruma's; PCRE2 reads them a little differently.
 *
 * The translation spells out the classes \s \S \w \W \b \B \h \H, the escape \uHHHH and the option
 * (?m), and lets everything else pass. What PCRE2 cannot say (class intersection and nesting, \W in
 * a class, a possessive-looking interval {n,m}+) is refused rather than read as something else.
 */
#ifndef SP_TEXT_PATTERN_SYNTAX_H
#define SP_TEXT_PATTERN_SYNTAX_H

#include "base/str.h"
#include "spar/status.h"

/* Append the PCRE2 form of an Oniguruma pattern. */
spar_status sp_pattern_translate(const char *pattern, const char *where, sp_str *out,
                                 spar_error *err);

#endif
