/* Verifiers: what a response is worth against a reference, by a rule. Pure functions of bytes.
 *
 * Where a rule looks for "the answer" of a longer response it reads, in this order: what the last
 * \boxed{...} holds, what follows the last "####", or the whole response.
 */
#ifndef SP_JUDGE_VERIFIER_H
#define SP_JUDGE_VERIFIER_H

#include <stdbool.h>
#include <stddef.h>

#include "spar/status.h"

/* Borrowed bytes. */
typedef struct sp_text {
    const char *at;
    size_t n;
} sp_text;

sp_text sp_text_trim(sp_text text); /* without ASCII white space at its ends */
sp_text sp_verify_final(sp_text response);

/* The last quantity of the response's final part is the reference's. A quantity is a decimal
 * number (1,234.50 with groups of three; exponents), a fraction (3/4, 1 1/2, \frac{3}{4}), with a
 * unit behind it. Decimals are compared digit by digit; where a fraction, an exponent or a change
 * of unit is involved, to a relative 1e-12. A unit counts where reference and response both have a
 * known one: 1.5 km is 1500 m and not 1.5 m; else the numbers alone are compared. FORMAT where the
 * reference has no number. */
spar_status sp_verify_number(sp_text reference, sp_text response, bool *pass, spar_error *err);

/* The last choice letter of the final part is the reference's. A letter stands alone and is upper
 * case, or is the whole response; "A" and "I" before a lower-case word other than "or" and "and"
 * are words. Two letters joined by a comma, a slash, "or" or "and" are no choice. FORMAT where the
 * reference is not one letter (brackets and a full stop are fine). */
spar_status sp_verify_choice(sp_text reference, sp_text response, bool *pass, spar_error *err);

/* Share of members in common, |A and B| / |A or B|. Members are separated by commas, semicolons and
 * line breaks; case, surrounding brackets, bullets and a final full stop are ignored. */
spar_status sp_verify_set(sp_text reference, sp_text response, double *score, spar_error *err);

/* PCRE2 with UTF-8 and Unicode classes, matched anywhere; bytes that are not UTF-8 match nothing.
 * FORMAT for a malformed pattern, LIMIT where a match takes more than a million steps. */
spar_status sp_verify_regex(sp_text pattern, sp_text response, bool *pass, spar_error *err);

#endif
