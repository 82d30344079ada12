#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "eval/families.h"

/* Part of every stream, so that problems share no random numbers with other uses of the seed. */
enum { STREAM_PROBLEM = 0x7461736b };

/* Rows are added at the end only: a row's position is part of its problems. */
static const sp_family FAMILIES[] = {
    {"reverse_word",
     "write a word backwards; difficulty: its length; lenient: the last word of the response", 3, 5,
     8, sp_family_make_reverse_word, sp_family_keys_reverse_word, sp_check_exact,
     sp_check_last_word},
    {"sort_numbers",
     "sort numbers of 1 to 99, smallest first; difficulty: how many; lenient: the last list of "
     "numbers in the response",
     2, 4, 20, sp_family_make_sort_numbers, sp_family_keys_number_list, sp_check_exact,
     sp_check_number_list},
    {"maximum",
     "the largest of numbers of 1 to 99; difficulty: how many; lenient: the last number of the "
     "response, standing alone",
     2, 5, 20, sp_family_make_maximum, sp_family_keys_number_list, sp_check_exact,
     sp_check_lone_number},
    {"multiply",
     "the product of two numbers; difficulty: the largest factor; lenient: the last number of the "
     "response",
     2, 12, 999999, sp_family_make_multiply, sp_family_keys_pairs, sp_check_exact,
     sp_check_last_number},
    {"add",
     "the sum of two numbers; difficulty: the largest number; lenient: the last number of the "
     "response",
     2, 99, 999999, sp_family_make_add, sp_family_keys_pairs, sp_check_exact, sp_check_last_number},
    {"subtract",
     "the difference of two numbers, not negative; difficulty: the largest number; lenient: the "
     "last number of the response",
     2, 99, 999999, sp_family_make_subtract, sp_family_keys_pairs, sp_check_exact,
     sp_check_last_number},
    {"count",
     "how often a letter is in a word, or a word in a list; difficulty: letters of the word (to "
     "8), words of the list; lenient: the last number of the response",
     3, 6, 20, sp_family_make_count, sp_family_keys_ample, sp_check_exact, sp_check_last_number},
    {"sort_words",
     "sort words alphabetically; difficulty: how many; lenient: the last list of these words in "
     "the response",
     2, 4, 20, sp_family_make_sort_words, sp_family_keys_ample, sp_check_exact, sp_check_word_list},
    {"letter",
     "the first, last or n-th letter of a word; difficulty: length of the word; lenient: the last "
     "word of the response",
     3, 5, 8, sp_family_make_letter, sp_family_keys_letter, sp_check_exact, sp_check_last_word},
    {"expression",
     "the value of an expression of + - * and parentheses over 1 to 9; difficulty: operators; "
     "lenient: the last number of the response",
     1, 2, 8, sp_family_make_expression, sp_family_keys_expression, sp_check_exact,
     sp_check_last_number},
};

int spar_family_count(void) {
    return (int)(sizeof FAMILIES / sizeof *FAMILIES);
}

const sp_family *sp_family_at(int family) {
    assert(family >= 0 && family < spar_family_count());
    return &FAMILIES[family];
}

const char *spar_family_name(int family) {
    return sp_family_at(family)->name;
}

const char *spar_family_summary(int family) {
    return sp_family_at(family)->summary;
}

void spar_family_difficulty(int family, int *min, int *fallback, int *max) {
    const sp_family *row = sp_family_at(family);
    *min = row->min;
    *fallback = row->fallback;
    *max = row->max;
}

spar_status spar_family_find(const char *name, int *family, spar_error *err) {
    int nearest = 0;
    size_t best = SIZE_MAX;
    for (int i = 0; i < spar_family_count(); i++) {
        const size_t distance = sp_str_distance(name, FAMILIES[i].name);
        if (distance == 0) {
            *family = i;
            return SPAR_OK;
        }
        if (distance < best) {
            best = distance;
            nearest = i;
        }
    }
    return spar_fail(err, SPAR_NOT_FOUND, "unknown task family \"%.64s\"; the nearest is \"%s\"",
                     name, FAMILIES[nearest].name);
}

spar_status sp_family_parse(const char *text, int *family, int *difficulty, spar_error *err) {
    spar_status status = SPAR_OK;
    char *name = NULL;
    const size_t n = strcspn(text, ":");
    int min, max;
    SPAR_TRY(sp_mem_strdup(&name, text, n, err));
    SPAR_TRY(spar_family_find(name, family, err));
    spar_family_difficulty(*family, &min, difficulty, &max);
    if (text[n] == ':') {
        const char *digits = text + n + 1;
        char *end;
        const long value = strtol(digits, &end, 10);
        if (*digits < '0' || *digits > '9' || *end != '\0' || value < min || value > max) {
            SPAR_TRY(spar_fail(err, SPAR_INVALID,
                               "family %s: expected a difficulty of %d to %d, found \"%.32s\"",
                               name, min, max, digits));
        }
        *difficulty = (int)value;
    }
done:
    free(name);
    return status;
}

spar_status sp_family_make(int family, int difficulty, uint64_t seed, uint64_t index,
                           sp_draft *draft, spar_error *err) {
    spar_status status = SPAR_OK;
    const sp_family *row = sp_family_at(family);
    assert(difficulty >= row->min && difficulty <= row->max);
    sp_rng rng = {.seed = seed,
                  .stream =
                      sp_rng_stream((uint64_t)family, (uint64_t)difficulty, index, STREAM_PROBLEM)};
    sp_str_clear(&draft->prompt);
    sp_str_clear(&draft->answer);
    sp_str_clear(&draft->key);
    row->make(difficulty, &rng, draft);
    SPAR_TRY(sp_str_status(&draft->prompt, err));
    SPAR_TRY(sp_str_status(&draft->answer, err));
    SPAR_TRY(sp_str_status(&draft->key, err));
done:
    return status;
}

void sp_draft_release(sp_draft *draft) {
    sp_str_release(&draft->prompt);
    sp_str_release(&draft->answer);
    sp_str_release(&draft->key);
}

void spar_task_check(const spar_task *task, const char *response, size_t n, bool *strict,
                     bool *lenient) {
    const sp_family *row = sp_family_at(task->family);
    const bool exact = row->strict(task->answer, response, n);
    if (strict != NULL) {
        *strict = exact;
    }
    if (lenient != NULL) {
        *lenient = exact || row->lenient(task->answer, response, n);
    }
}
