/* Families over words of word_list.c. */
#include <assert.h>
#include <string.h>

#include "eval/families.h"

enum { LIST_MAX = 20, LETTERS = 26 };

typedef struct word {
    char text[SP_WORD_MAX + 1];
} word;

static word draw_word(sp_rng *rng, int length) {
    word w;
    sp_words_copy(length, (size_t)sp_rng_next_below(rng, sp_words_count(length)), w.text);
    return w;
}

static word draw_any_word(sp_rng *rng) {
    size_t total = 0;
    for (int length = SP_WORD_MIN; length <= SP_WORD_MAX; length++) {
        total += sp_words_count(length);
    }
    size_t i = (size_t)sp_rng_next_below(rng, total);
    int length = SP_WORD_MIN;
    for (; i >= sp_words_count(length); length++) {
        i -= sp_words_count(length);
    }
    word w;
    sp_words_copy(length, i, w.text);
    return w;
}

static void draw_different(sp_rng *rng, int n, word words[LIST_MAX]) {
    assert(n <= LIST_MAX);
    for (int i = 0; i < n; i++) {
        bool seen;
        do {
            words[i] = draw_any_word(rng);
            seen = false;
            for (int k = 0; k < i; k++) {
                seen = seen || strcmp(words[k].text, words[i].text) == 0;
            }
        } while (seen);
    }
}

static void put_words(sp_str *out, const word *words, int n) {
    for (int i = 0; i < n; i++) {
        sp_str_printf(out, "%s%s", i > 0 ? ", " : "", words[i].text);
    }
}

uint64_t sp_family_keys_ample(int difficulty) {
    (void)difficulty;
    return UINT64_MAX;
}

/* ---- reverse_word ---- */

/* A prompt is before, the word in quotes, after. */
typedef struct phrasing {
    const char *before, *after;
} phrasing;

void sp_family_make_reverse_word(int difficulty, sp_rng *rng, sp_draft *draft) {
    static const phrasing phrasings[] = {
        {"Reverse the word ", "."},       {"Write the word ", " backwards."},
        {"Spell ", " backwards."},        {"What is ", " spelled backwards?"},
        {"Reverse the letters of ", "."}, {"Write the letters of ", " in reverse order."},
    };
    const word w = draw_word(rng, difficulty);
    const phrasing *p = &phrasings[sp_rng_next_below(rng, sizeof phrasings / sizeof *phrasings)];
    sp_str_printf(&draft->prompt, "%s\"%s\"%s Answer with the word only.", p->before, w.text,
                  p->after);
    for (int i = difficulty; i-- > 0;) {
        sp_str_putc(&draft->answer, w.text[i]);
    }
    sp_str_puts(&draft->key, w.text);
}

uint64_t sp_family_keys_reverse_word(int difficulty) {
    return sp_words_count(difficulty);
}

/* ---- letter ---- */

void sp_family_make_letter(int difficulty, sp_rng *rng, sp_draft *draft) {
    static const char *const ordinals[SP_WORD_MAX] = {"first", "second", "third",   "fourth",
                                                      "fifth", "sixth",  "seventh", "eighth"};
    const word w = draw_word(rng, difficulty);
    const int at = (int)sp_rng_next_below(rng, (uint64_t)difficulty);
    const char *place = at == difficulty - 1 ? "last" : ordinals[at];
    switch (sp_rng_next_below(rng, 3)) {
    case 0:
        sp_str_printf(&draft->prompt, "What is the %s letter of \"%s\"?", place, w.text);
        break;
    case 1:
        sp_str_printf(&draft->prompt, "Give the %s letter of the word \"%s\".", place, w.text);
        break;
    default:
        sp_str_printf(&draft->prompt, "Which letter is the %s in \"%s\"?", place, w.text);
        break;
    }
    sp_str_puts(&draft->prompt, " Answer with the letter only.");
    sp_str_putc(&draft->answer, w.text[at]);
    sp_str_printf(&draft->key, "%s:%d", w.text, at + 1);
}

uint64_t sp_family_keys_letter(int difficulty) {
    return (uint64_t)difficulty * sp_words_count(difficulty);
}

/* ---- count ---- */

/* Mostly a letter that the word has, so that 0 is not the best guess. */
static void make_count_letter(int length, sp_rng *rng, sp_draft *draft) {
    const word w = draw_word(rng, length);
    const char letter = sp_rng_next_below(rng, 4) == 0
                            ? (char)('a' + (int)sp_rng_next_below(rng, LETTERS))
                            : w.text[sp_rng_next_below(rng, (uint64_t)length)];
    int n = 0;
    for (int i = 0; i < length; i++) {
        n += w.text[i] == letter;
    }
    if (sp_rng_next_below(rng, 2) == 0) {
        sp_str_printf(&draft->prompt, "How many times is the letter \"%c\" in \"%s\"?", letter,
                      w.text);
    } else {
        sp_str_printf(&draft->prompt, "Count the letter \"%c\" in \"%s\".", letter, w.text);
    }
    sp_str_printf(&draft->answer, "%d", n);
    sp_str_printf(&draft->key, "%s:%c", w.text, letter);
}

/* A list of n words drawn from three; the first of the three is counted and may be missing. */
static void make_count_word(int n, sp_rng *rng, sp_draft *draft) {
    enum { KINDS = 3 };
    word kinds[LIST_MAX], list[LIST_MAX];
    int count = 0;
    draw_different(rng, KINDS, kinds);
    for (int i = 0; i < n; i++) {
        const uint64_t kind = sp_rng_next_below(rng, KINDS);
        count += kind == 0;
        list[i] = kinds[kind];
    }
    if (sp_rng_next_below(rng, 2) == 0) {
        sp_str_printf(&draft->prompt, "How many times is \"%s\" in this list: ", kinds[0].text);
        put_words(&draft->prompt, list, n);
        sp_str_putc(&draft->prompt, '?');
    } else {
        sp_str_printf(&draft->prompt, "Count the word \"%s\": ", kinds[0].text);
        put_words(&draft->prompt, list, n);
        sp_str_putc(&draft->prompt, '.');
    }
    sp_str_printf(&draft->answer, "%d", count);
    sp_str_printf(&draft->key, "%s:", kinds[0].text);
    put_words(&draft->key, list, n);
}

void sp_family_make_count(int difficulty, sp_rng *rng, sp_draft *draft) {
    if (difficulty <= SP_WORD_MAX && sp_rng_next_below(rng, 2) == 0) {
        make_count_letter(difficulty, rng, draft);
    } else {
        make_count_word(difficulty, rng, draft);
    }
    sp_str_puts(&draft->prompt, " Answer with the number only.");
}

/* ---- sort_words ---- */

static void sort_list(word *words, int n) {
    for (int i = 1; i < n; i++) {
        const word w = words[i];
        int k = i;
        for (; k > 0 && strcmp(words[k - 1].text, w.text) > 0; k--) {
            words[k] = words[k - 1];
        }
        words[k] = w;
    }
}

void sp_family_make_sort_words(int difficulty, sp_rng *rng, sp_draft *draft) {
    static const char *const openings[] = {
        "Sort these words alphabetically: ",
        "Put these words in alphabetical order: ",
        "Sort from A to Z: ",
    };
    word words[LIST_MAX];
    draw_different(rng, difficulty, words);
    sp_str_puts(&draft->prompt, openings[sp_rng_next_below(rng, 3)]);
    put_words(&draft->prompt, words, difficulty);
    sp_str_puts(&draft->prompt, ". Answer with the words only.");
    sort_list(words, difficulty);
    put_words(&draft->answer, words, difficulty);
    put_words(&draft->key, words, difficulty);
}
