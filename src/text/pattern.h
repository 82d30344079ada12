/* Matching of patterns in text: by a program (pattern_program.h); by PCRE2 with JIT, UTF-8 and
 * Unicode classes, where a pattern has what programs do not take; or plain strings. */
#ifndef SP_TEXT_PATTERN_H
#define SP_TEXT_PATTERN_H

#include "text/steps.h"

/* Give step the program or the regular expression of a pattern in Oniguruma's syntax. */
spar_status sp_pattern_compile(sp_step *step, const char *pattern, const char *where,
                               spar_error *err);
/* The regular expression alone (pattern_syntax.h). */
spar_status sp_pattern_compile_regex(pcre2_code **out, const char *pattern, const char *where,
                                     spar_error *err);

/* A walk over the matches of step's pattern in text. A regular expression may match the empty
 * string, but not where the match before it ended. */
typedef struct sp_matcher {
    const sp_step *step;
    const char *text;
    size_t n, at;
    size_t last_end;              /* of the match before; SIZE_MAX: none */
    pcre2_match_data *data;       /* owned; NULL for plain strings */
    pcre2_match_context *context; /* owned: limits */
    pcre2_jit_stack *stack;       /* owned; NULL until a match has need of it */
} sp_matcher;

spar_status sp_matcher_init(sp_matcher *m, const sp_step *step, const char *text, size_t n,
                            spar_error *err);
void sp_matcher_release(sp_matcher *m);
/* Next match as [*begin, *end); *found false at the end of the text. */
spar_status sp_matcher_next(sp_matcher *m, size_t *begin, size_t *end, bool *found,
                            spar_error *err);

#endif
