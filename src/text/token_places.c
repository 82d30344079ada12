#include "text/token_places.h"

#include <stdlib.h>
#include <string.h>

#include "text/step_types.h"

void sp_places_release(sp_places *p) {
    free(p->items);
    sp_rewrites_release(&p->normal);
    sp_rewrites_release(&p->words);
    *p = (sp_places){0};
}

static spar_status put(sp_places *p, size_t begin, size_t end, spar_error *err) {
    void *memory = p->items;
    spar_status status = sp_mem_grow(&memory, &p->capacity, p->n + 1, sizeof *p->items, err);
    p->items = memory;
    if (status == SPAR_OK) {
        p->items[p->n++] = (spar_text_span){begin, end};
    }
    return status;
}

static spar_status put_outside(sp_places *p, size_t n, spar_error *err) {
    spar_status status = SPAR_OK;
    while (p->n < n) {
        SPAR_TRY(put(p, 0, 0, err));
    }
done:
    return status;
}

spar_status sp_places_begin(sp_places *p, const char *text, size_t n, size_t before,
                            spar_error *err) {
    p->text = text;
    p->length = n;
    return put_outside(p, before, err);
}

spar_status sp_places_end(sp_places *p, size_t n_ids, spar_error *err) {
    return put_outside(p, n_ids > 0 ? n_ids : 1, err); /* an array all the same */
}

void sp_places_enter(sp_places *p, const char *part, const char *form) {
    p->part = part;
    p->form = form;
}

void sp_places_leave(sp_places *p) {
    p->part = p->form = NULL;
    sp_rewrites_clear(&p->normal);
}

static bool continues(char byte) {
    return ((unsigned char)byte & 0xC0U) == 0x80U;
}

/* Bytes [begin, end) behind `at`, as whole characters of the text. */
static spar_status put_back(sp_places *p, const char *at, size_t begin, size_t end,
                            spar_error *err) {
    spar_status status = SPAR_OK;
    const char *base = at;
    if (p->form) {
        begin += (size_t)(at - p->form);
        end += (size_t)(at - p->form);
        sp_rewrites_back(&p->normal, &begin, &end);
        base = p->part;
    }
    begin += (size_t)(base - p->text);
    end += (size_t)(base - p->text);
    end = end < p->length ? end : p->length; /* what was put in behind the last character */
    begin = begin < end ? begin : end;
    while (begin > 0 && continues(p->text[begin])) {
        begin--;
    }
    while (end < p->length && continues(p->text[end])) {
        end++;
    }
    SPAR_TRY(sp_rewrites_status(&p->normal, err));
    SPAR_TRY(put(p, begin, end, err));
done:
    return status;
}

spar_status sp_places_add(sp_places *p, const char *at, size_t n, spar_error *err) {
    return put_back(p, at, 0, n, err);
}

/* ---- the tokens of a word ---- */

/* Bytes of a token of the byte-level alphabet: its characters. */
static size_t count_characters(const char *token) {
    size_t n = 0;
    for (; *token; token++) {
        n += !continues(*token);
    }
    return n;
}

static bool begins(const char *text, size_t n, const char *with, size_t length) {
    return length > 0 && length <= n && memcmp(text, with, length) == 0;
}

/* Bytes of a token that stands at the beginning of text [n]; 0: it does not read so, as a byte or
 * an unknown one. first: it begins the word. */
static size_t read_token(const spar_tokenizer *t, int32_t id, const char *text, size_t n,
                         bool first) {
    const char *token = spar_tokenizer_token(t, id);
    size_t length = strlen(token);
    const size_t within = t->within && !first ? strlen(t->within) : 0;
    const size_t ending = t->ending ? strlen(t->ending) : 0;
    if (t->of_bytes) {
        length = count_characters(token);
        return length <= n ? length : n;
    }
    if (within > 0 && begins(token, length, t->within, within)) {
        token += within;
        length -= within;
    }
    if (begins(text, n, token, length)) {
        return length;
    }
    const bool last = ending > 0 && length == n + ending &&
                      memcmp(token + n, t->ending, ending) == 0 && memcmp(token, text, n) == 0;
    return last ? n : 0;
}

/* Bytes before the one that a token of the byte-level alphabet begins with: those that the
 * vocabulary lacks, which went without a token. */
static size_t lost_bytes(const spar_tokenizer *t, int32_t id, const char *text, size_t n) {
    unsigned c;
    size_t at = 0;
    const char *token = spar_tokenizer_token(t, id);
    sp_utf8_decode(token, strlen(token), &c);
    const int byte = sp_char_to_byte(c);
    while (at < n && (unsigned char)text[at] != byte) {
        at++;
    }
    return at < n ? at : 0;
}

static bool is_byte(const spar_tokenizer *t, int32_t id) {
    const char *token = spar_tokenizer_token(t, id);
    return strlen(token) == 6 && memcmp(token, "<0x", 3) == 0 && token[5] == '>';
}

/* Bytes of a token that is unknown: up to where the next one reads; the last has all. */
static size_t unknown_length(const spar_tokenizer *t, const int32_t *next, const char *text,
                             size_t n) {
    size_t at = 0;
    do {
        unsigned c;
        at += sp_utf8_decode(text + at, n - at, &c);
    } while (at < n &&
             (!next || (!is_byte(t, *next) && read_token(t, *next, text + at, n - at, false) == 0 &&
                        *next != next[-1])));
    return at;
}

spar_status sp_places_add_word(sp_places *p, const spar_tokenizer *t, const char *at,
                               const char *base, const sp_span *word, const int32_t *ids, size_t n,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    size_t from = word->begin;
    const size_t last = word->begin + word->n;
    for (size_t i = 0; i < n; i++) {
        from += t->of_bytes ? lost_bytes(t, ids[i], base + from, last - from) : 0;
        const size_t left = last - from;
        size_t length = left > 0 ? read_token(t, ids[i], base + from, left, i == 0) : 0;
        if (length == 0 && left > 0) {
            length = is_byte(t, ids[i])
                         ? 1
                         : unknown_length(t, i + 1 < n ? &ids[i + 1] : NULL, base + from, left);
        }
        size_t begin = left > 0 ? from : last - 1, end = left > 0 ? from + length : last;
        sp_rewrites_back(&p->words, &begin, &end);
        SPAR_TRY(put_back(p, at, begin, end, err));
        from += length;
    }
    SPAR_TRY(sp_rewrites_status(&p->words, err));
done:
    return status;
}
