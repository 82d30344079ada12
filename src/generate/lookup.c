#include "generate/lookup.h"

/* Prompt and response as one sequence. */
typedef struct sequence {
    const int32_t *prompt, *response;
    size_t n_prompt, n;
} sequence;

static int32_t at(const sequence *s, size_t i) {
    return i < s->n_prompt ? s->prompt[i] : s->response[i - s->n_prompt];
}

/* Where the last `length` tokens stood before, as the index after them; 0: nowhere. */
static size_t find_last(const sequence *s, size_t length) {
    for (size_t end = s->n - 1; end >= length; end--) {
        size_t same = 0;
        while (same < length && at(s, end - 1 - same) == at(s, s->n - 1 - same)) {
            same++;
        }
        if (same == length) {
            return end;
        }
    }
    return 0;
}

size_t sp_lookup(const int32_t *prompt, size_t n_prompt, const int32_t *response, size_t n_response,
                 size_t most, int32_t *guess) {
    enum { LONG = 3, SHORT = 2 };
    const sequence s = {prompt, response, n_prompt, n_prompt + n_response};
    size_t from = 0;
    for (size_t length = LONG; from == 0 && length >= SHORT; length--) {
        from = s.n > length ? find_last(&s, length) : 0;
    }
    size_t n = 0;
    while (from > 0 && n < most && from + n < s.n) {
        guess[n] = at(&s, from + n);
        n++;
    }
    return n;
}
