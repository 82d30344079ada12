/* A matcher of its own for the regular expressions that tokenizers split text by.
 *
 * Those are of a small language: alternatives of characters and classes with repeats, groups that
 * occur once or at most once, (?i:...) of ASCII letters, and a look at the next character. They are
 * compiled to a graph of nodes over one table of character classes (code_points.h), and matched as
 * the reference does, from the left, the first alternative that leads to the end. Categories are
 * those of Unicode 16.0.0, as the reference's are. What else an expression may hold is not taken,
 * and left to PCRE2 (pattern.h).
 */
#ifndef SP_TEXT_PATTERN_PROGRAM_H
#define SP_TEXT_PATTERN_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

#include "spar/status.h"

typedef struct sp_program sp_program;

/* pattern: in Oniguruma's syntax. *out is NULL, with OK, where the pattern has what is not taken or
 * is not well-formed, or may match the empty string. */
spar_status sp_program_compile(sp_program **out, const char *pattern, spar_error *err);
void sp_program_free(sp_program *program);

/* The first match in text [n] from `at` on, as [*begin, *end); *found false: there is none. LIMIT
 * when the pattern tries too many ways in vain, which one with quadratic work does. */
spar_status sp_program_find(const sp_program *program, const char *text, size_t n, size_t at,
                            size_t *begin, size_t *end, bool *found, spar_error *err);

#endif
