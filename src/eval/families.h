/* Procedural families: how problems are made and checked. Internal to src/eval.
 *
 * A family is a row of a const table. A problem is made by sp_family_make from (family, difficulty,
 * seed, index) and nothing else; the row's position in the table is part of the random stream, so
 * rows are only ever added at the end.
 */
#ifndef SP_EVAL_FAMILIES_H
#define SP_EVAL_FAMILIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "base/str.h"
#include "spar/tasks.h"

/* A problem on its way into a set; reused from one to the next. */
typedef struct sp_draft {
    sp_str prompt, answer, key; /* owned */
} sp_draft;

typedef struct sp_family {
    const char *name, *summary;
    int min, fallback, max; /* difficulty */
    /* Appends to the cleared strings of draft, drawing from rng. */
    void (*make)(int difficulty, sp_rng *rng, sp_draft *draft);
    /* How many keys a difficulty has; UINT64_MAX: more than any set could want. */
    uint64_t (*keys)(int difficulty);
    bool (*strict)(const char *answer, const char *response, size_t n);
    bool (*lenient)(const char *answer, const char *response, size_t n);
} sp_family;

const sp_family *sp_family_at(int family); /* 0 <= family < spar_family_count() */
/* "name" or "name:difficulty". NOT_FOUND for an unknown name, INVALID for another difficulty than
 * the family has. */
spar_status sp_family_parse(const char *text, int *family, int *difficulty, spar_error *err);
spar_status sp_family_make(int family, int difficulty, uint64_t seed, uint64_t index,
                           sp_draft *draft, spar_error *err);
void sp_draft_release(sp_draft *draft);

/* ---- words: lower-case English words by length, none of them a palindrome ---- */

enum { SP_WORD_MIN = 3, SP_WORD_MAX = 8 };
size_t sp_words_count(int length); /* SP_WORD_MIN <= length <= SP_WORD_MAX */
/* Copy word i of that length, i < count, with its NUL. */
void sp_words_copy(int length, size_t i, char out[SP_WORD_MAX + 1]);

/* ---- generators (family_numbers.c, family_words.c) ---- */

void sp_family_make_sort_numbers(int difficulty, sp_rng *rng, sp_draft *draft);
void sp_family_make_maximum(int difficulty, sp_rng *rng, sp_draft *draft);
void sp_family_make_multiply(int difficulty, sp_rng *rng, sp_draft *draft);
void sp_family_make_add(int difficulty, sp_rng *rng, sp_draft *draft);
void sp_family_make_subtract(int difficulty, sp_rng *rng, sp_draft *draft);
void sp_family_make_expression(int difficulty, sp_rng *rng, sp_draft *draft);
void sp_family_make_reverse_word(int difficulty, sp_rng *rng, sp_draft *draft);
void sp_family_make_count(int difficulty, sp_rng *rng, sp_draft *draft);
void sp_family_make_sort_words(int difficulty, sp_rng *rng, sp_draft *draft);
void sp_family_make_letter(int difficulty, sp_rng *rng, sp_draft *draft);

uint64_t sp_family_keys_number_list(int difficulty);
uint64_t sp_family_keys_pairs(int difficulty);
uint64_t sp_family_keys_expression(int difficulty);
uint64_t sp_family_keys_reverse_word(int difficulty);
uint64_t sp_family_keys_letter(int difficulty);
uint64_t sp_family_keys_ample(int difficulty);

/* ---- checkers (family_check.c): pure, any bytes ---- */

/* The response without white space at its ends is the answer byte for byte. */
bool sp_check_exact(const char *answer, const char *response, size_t n);
/* The last run of numbers of the response is the answer alone. A run is numbers with nothing but
 * spaces, commas, semicolons, quotes, brackets, asterisks, "and" and "or" between; here a line
 * break ends it. So "7 x 8 = 56." passes, and neither "55 or 56" nor "56 because 7 x 8" does. 1,234
 * is 1234 where the answer is 1000 or more; 56.0 is 56. */
bool sp_check_last_number(const char *answer, const char *response, size_t n);
/* As above, but only another word, '=' or ':' ends a run: the sorted list names no maximum, however
 * it is set out. */
bool sp_check_lone_number(const char *answer, const char *response, size_t n);
/* The last run of two or more numbers is the answer's list; line breaks do not end a run, the
 * lines may begin with bullets or "1.", and it is enough that the run's last line is the list (the
 * line before may repeat the problem). */
bool sp_check_number_list(const char *answer, const char *response, size_t n);
/* The last word (letters a-z, case ignored) is the answer, and no comma or "or" joins it to a word
 * before it: of a list of guesses none counts. Nor does the last letter of a word spelled out. */
bool sp_check_last_word(const char *answer, const char *response, size_t n);
/* As the list of numbers, for words, case ignored. A word that is not of the list belongs to a run
 * when a comma, semicolon or line break joins it, and is prose that ends the run otherwise. */
bool sp_check_word_list(const char *answer, const char *response, size_t n);

#endif
