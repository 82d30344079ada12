/* Families over numbers. Prompts are short: every token of them is paid for in generation. */
#include <assert.h>
#include <inttypes.h>

#include "eval/families.h"

enum { LIST_MAX = 20, LIST_VALUES = 99, OPERATORS_MAX = 8, OPERAND_MAX = 9 };

#define NUMBER_ONLY " Answer with the number only."

/* ---- lists ---- */

/* n different values of 1..LIST_VALUES in drawn order. */
static void draw_values(sp_rng *rng, int n, int values[LIST_MAX]) {
    bool used[LIST_VALUES + 1] = {false};
    assert(n <= LIST_MAX);
    for (int i = 0; i < n; i++) {
        int value;
        do {
            value = 1 + (int)sp_rng_next_below(rng, LIST_VALUES);
        } while (used[value]);
        used[value] = true;
        values[i] = value;
    }
}

static void put_list(sp_str *out, const int *values, int n) {
    for (int i = 0; i < n; i++) {
        sp_str_printf(out, "%s%d", i > 0 ? ", " : "", values[i]);
    }
}

static void sort_values(int *values, int n) {
    for (int i = 1; i < n; i++) {
        const int value = values[i];
        int k = i;
        for (; k > 0 && values[k - 1] > value; k--) {
            values[k] = values[k - 1];
        }
        values[k] = value;
    }
}

void sp_family_make_sort_numbers(int difficulty, sp_rng *rng, sp_draft *draft) {
    static const char *const openings[] = {
        "Sort from smallest to largest: ",
        "Put these numbers in increasing order: ",
        "Sort these numbers, smallest first: ",
    };
    int values[LIST_MAX];
    draw_values(rng, difficulty, values);
    sp_str_puts(&draft->prompt, openings[sp_rng_next_below(rng, 3)]);
    put_list(&draft->prompt, values, difficulty);
    sp_str_puts(&draft->prompt, ". Answer with the numbers only.");
    sort_values(values, difficulty);
    put_list(&draft->answer, values, difficulty);
    put_list(&draft->key, values, difficulty);
}

void sp_family_make_maximum(int difficulty, sp_rng *rng, sp_draft *draft) {
    static const char *const openings[] = {
        "Which number is the largest: ",
        "What is the maximum of these numbers: ",
        "Find the largest number: ",
    };
    static const char *const ends[] = {"?", "?", "."};
    int values[LIST_MAX] = {0};
    draw_values(rng, difficulty, values);
    const uint64_t phrasing = sp_rng_next_below(rng, 3);
    sp_str_puts(&draft->prompt, openings[phrasing]);
    put_list(&draft->prompt, values, difficulty);
    sp_str_puts(&draft->prompt, ends[phrasing]);
    sp_str_puts(&draft->prompt, NUMBER_ONLY);
    sort_values(values, difficulty);
    sp_str_printf(&draft->answer, "%d", values[difficulty - 1]);
    put_list(&draft->key, values, difficulty);
}

/* Binomial(LIST_VALUES, difficulty), or ample where that is beyond any set. */
uint64_t sp_family_keys_number_list(int difficulty) {
    uint64_t keys = 1;
    for (int i = 1; i <= difficulty; i++) {
        keys = keys * (uint64_t)(LIST_VALUES + 1 - i) / (uint64_t)i;
        if (keys > UINT32_MAX) {
            return UINT64_MAX;
        }
    }
    return keys;
}

/* ---- one operation ---- */

/* A prompt is before, a, between, b, after. */
typedef struct phrasing {
    const char *before, *between, *after;
} phrasing;

enum { PHRASINGS = 5 };

static void put_pair(sp_draft *draft, const phrasing *p, int64_t a, int64_t b) {
    sp_str_printf(&draft->prompt, "%s%" PRId64 "%s%" PRId64 "%s" NUMBER_ONLY, p->before, a,
                  p->between, b, p->after);
}

/* Key of a commutative operation: the smaller operand first. */
static void put_key(sp_draft *draft, int64_t a, char sign, int64_t b) {
    sp_str_printf(&draft->key, "%" PRId64 "%c%" PRId64, a < b ? a : b, sign, a < b ? b : a);
}

static int64_t draw_operand(sp_rng *rng, int64_t max) {
    return 1 + (int64_t)sp_rng_next_below(rng, (uint64_t)max);
}

void sp_family_make_multiply(int difficulty, sp_rng *rng, sp_draft *draft) {
    static const phrasing phrasings[PHRASINGS] = {{"What is ", " times ", "?"},
                                                  {"Multiply ", " by ", "."},
                                                  {"", " x ", " = ?"},
                                                  {"Compute ", " * ", "."},
                                                  {"Find the product of ", " and ", "."}};
    const int64_t a = draw_operand(rng, difficulty), b = draw_operand(rng, difficulty);
    put_pair(draft, &phrasings[sp_rng_next_below(rng, PHRASINGS)], a, b);
    sp_str_printf(&draft->answer, "%" PRId64, a * b);
    put_key(draft, a, 'x', b);
}

void sp_family_make_add(int difficulty, sp_rng *rng, sp_draft *draft) {
    static const phrasing phrasings[PHRASINGS] = {{"What is ", " plus ", "?"},
                                                  {"Add ", " and ", "."},
                                                  {"", " + ", " = ?"},
                                                  {"Compute ", " + ", "."},
                                                  {"Find the sum of ", " and ", "."}};
    const int64_t a = draw_operand(rng, difficulty), b = draw_operand(rng, difficulty);
    put_pair(draft, &phrasings[sp_rng_next_below(rng, PHRASINGS)], a, b);
    sp_str_printf(&draft->answer, "%" PRId64, a + b);
    put_key(draft, a, '+', b);
}

/* The larger number is the first: answers are not negative. */
void sp_family_make_subtract(int difficulty, sp_rng *rng, sp_draft *draft) {
    static const phrasing phrasings[PHRASINGS] = {{"What is ", " minus ", "?"},
                                                  {"", " take away ", " is what?"},
                                                  {"", " - ", " = ?"},
                                                  {"Compute ", " - ", "."},
                                                  {"Start with ", " and subtract ", "."}};
    const int64_t a = draw_operand(rng, difficulty), b = draw_operand(rng, difficulty);
    const int64_t large = a > b ? a : b, small = a > b ? b : a;
    put_pair(draft, &phrasings[sp_rng_next_below(rng, PHRASINGS)], large, small);
    sp_str_printf(&draft->answer, "%" PRId64, large - small);
    sp_str_printf(&draft->key, "%" PRId64 "-%" PRId64, large, small);
}

/* Unordered pairs of 1..difficulty. */
uint64_t sp_family_keys_pairs(int difficulty) {
    return (uint64_t)difficulty * ((uint64_t)difficulty + 1) / 2;
}

/* ---- expressions ---- */

/* Precedence of what was written: an operand binds tightest. */
enum { LEVEL_SUM = 1, LEVEL_PRODUCT = 2, LEVEL_OPERAND = 3 };

typedef struct term {
    char sign; /* '+', '-', '*', or '\0' for an operand */
    int operators, left;
    int64_t value; /* of an operand */
} term;

/* Draw a tree in prefix order into terms; returns how many terms it took. Every shape of n
 * operators can come; the split is uniform. */
static int draw_tree(sp_rng *rng, int operators, term *terms) {
    term *t = &terms[0];
    *t = (term){.operators = operators};
    if (operators == 0) {
        t->value = draw_operand(rng, OPERAND_MAX);
        return 1;
    }
    t->sign = "+-*"[sp_rng_next_below(rng, 3)];
    t->left = (int)sp_rng_next_below(rng, (uint64_t)operators);
    const int n = 1 + draw_tree(rng, t->left, terms + 1);
    return n + draw_tree(rng, operators - 1 - t->left, terms + n);
}

static int level_of(const term *t) {
    return t->sign == '\0' ? LEVEL_OPERAND : t->sign == '*' ? LEVEL_PRODUCT : LEVEL_SUM;
}

/* A tree of n operators has 2 n + 1 terms. */
static const term *right_of(const term *t) {
    return t + 1 + 2 * t->left + 1;
}

static int64_t value_of(const term *t) {
    if (t->sign == '\0') {
        return t->value;
    }
    const int64_t a = value_of(t + 1), b = value_of(right_of(t));
    return t->sign == '+' ? a + b : t->sign == '-' ? a - b : a * b;
}

/* Write the tree, in parentheses when it binds looser than level. The right side of an operator
 * must bind tighter than the operator, so different trees are different texts. */
static void put_tree(sp_str *out, const term *t, int level) {
    if (t->sign == '\0') {
        sp_str_printf(out, "%" PRId64, t->value);
        return;
    }
    const int own = level_of(t);
    sp_str_puts(out, own < level ? "(" : "");
    put_tree(out, t + 1, own);
    sp_str_printf(out, " %c ", t->sign);
    put_tree(out, right_of(t), own + 1);
    sp_str_puts(out, own < level ? ")" : "");
}

void sp_family_make_expression(int difficulty, sp_rng *rng, sp_draft *draft) {
    term terms[2 * OPERATORS_MAX + 1];
    assert(difficulty <= OPERATORS_MAX);
    draw_tree(rng, difficulty, terms);
    put_tree(&draft->key, terms, LEVEL_SUM);
    const char *text = sp_str_get(&draft->key);
    switch (sp_rng_next_below(rng, 3)) {
    case 0:
        sp_str_printf(&draft->prompt, "Compute %s." NUMBER_ONLY, text);
        break;
    case 1:
        sp_str_printf(&draft->prompt, "What is %s?" NUMBER_ONLY, text);
        break;
    default:
        sp_str_printf(&draft->prompt, "%s = ?" NUMBER_ONLY, text);
        break;
    }
    sp_str_printf(&draft->answer, "%" PRId64, value_of(terms));
}

/* Shapes (Catalan numbers) x operators x operands. */
uint64_t sp_family_keys_expression(int difficulty) {
    uint64_t shapes = 1, keys = OPERAND_MAX;
    for (int n = 1; n <= difficulty; n++) {
        shapes = shapes * 2 * (2 * (uint64_t)n - 1) / ((uint64_t)n + 1);
        keys *= 3 * OPERAND_MAX;
        if (keys > UINT32_MAX) {
            return UINT64_MAX;
        }
    }
    return shapes * keys;
}
