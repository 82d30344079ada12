/* WordPiece (Wu et al. 2016, as BERT has it): from the left always the longest token; a word that
 * has no such cut is unknown as a whole. And WordLevel: a word is a token, or unknown. */
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "text/word_model.h"

typedef struct word_piece {
    const sp_vocabulary *vocabulary; /* borrowed */
    const char *prefix;              /* arena: of tokens within a word */
    size_t max_characters;           /* longer words are unknown */
    size_t longest;                  /* bytes of the longest token */
    int32_t unk;                     /* -1: none */
} word_piece;

static size_t longest_token(const sp_vocabulary *v) {
    size_t longest = 0;
    for (int32_t i = 0; i < v->n_tokens; i++) {
        longest = v->lengths[i] > longest ? v->lengths[i] : longest;
    }
    return longest;
}

static spar_status create_word_piece(void **out, const sp_vocabulary *vocabulary, sp_arena *arena,
                                     const json_t *model, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL;
    const char *prefix;
    int64_t most;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof(word_piece), err));
    word_piece *w = memory;
    w->vocabulary = vocabulary;
    SPAR_TRY(sp_json_get_string_or(model, "continuing_subword_prefix", "##", &prefix, where, err));
    SPAR_TRY(sp_json_get_int_or(model, "max_input_chars_per_word", 0, INT32_MAX, 100, &most, where,
                                err));
    SPAR_TRY(sp_word_model_token(vocabulary, model, "unk_token", &w->unk, where, err));
    w->max_characters = (size_t)most;
    w->longest = longest_token(vocabulary);
    w->prefix = sp_arena_strndup(arena, prefix, strlen(prefix));
    if (!w->prefix) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", where));
    }
    *out = w;
    memory = NULL;
done:
    free(memory);
    return status;
}

static size_t count_characters(const char *s, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += ((unsigned char)s[i] & 0xC0U) != 0x80U;
    }
    return count;
}

/* The longest token that goes on from `at`: its id, and *end where it ends; -1: none. token is
 * scratch. */
static int32_t longest_from(const word_piece *w, const char *word, size_t n, size_t at, size_t *end,
                            sp_str *token) {
    sp_str_clear(token);
    sp_str_puts(token, at > 0 ? w->prefix : "");
    const size_t before = token->len;
    const size_t room = w->longest > before ? w->longest - before : 0;
    *end = n - at > room ? at + room : n;
    sp_str_append(token, word + at, *end - at);
    for (; *end > at && !token->failed; --*end) {
        int32_t id = sp_vocabulary_find_own(w->vocabulary, token->data, before + (*end - at));
        if (id >= 0) {
            return id;
        }
    }
    return -1;
}

static spar_status encode_word_piece(const void *model, const char *word, size_t n, sp_ids *ids,
                                     spar_error *err) {
    spar_status status = SPAR_OK;
    const word_piece *w = model;
    const size_t before = ids->n;
    sp_str token = SP_STR_INIT;
    bool known = count_characters(word, n) <= w->max_characters;
    for (size_t at = 0; known && at < n;) {
        size_t end;
        int32_t id = longest_from(w, word, n, at, &end, &token);
        SPAR_TRY(sp_str_status(&token, err));
        known = id >= 0;
        at = end;
        if (known) {
            SPAR_TRY(sp_ids_push(ids, id, err));
        }
    }
    if (!known) {
        ids->n = before;
        SPAR_TRY(w->unk < 0 ? sp_unknown_word(word, n, err) : sp_ids_push(ids, w->unk, err));
    }
done:
    sp_str_release(&token);
    return status;
}

const sp_word_model_type sp_word_piece_type = {"WordPiece", create_word_piece, free,
                                               encode_word_piece};

/* ---- WordLevel ---- */

typedef struct word_level {
    const sp_vocabulary *vocabulary; /* borrowed */
    int32_t unk;                     /* -1: none */
} word_level;

/* The unknown token may be missing: a vocabulary may have all words. */
static spar_status create_word_level(void **out, const sp_vocabulary *vocabulary, sp_arena *arena,
                                     const json_t *model, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL;
    const char *unk;
    (void)arena;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof(word_level), err));
    SPAR_TRY(sp_json_get_string_or(model, "unk_token", "<unk>", &unk, where, err));
    *(word_level *)memory =
        (word_level){vocabulary, sp_vocabulary_find(vocabulary, unk, strlen(unk))};
    *out = memory;
    memory = NULL;
done:
    free(memory);
    return status;
}

static spar_status encode_word_level(const void *model, const char *word, size_t n, sp_ids *ids,
                                     spar_error *err) {
    const word_level *w = model;
    int32_t id = sp_vocabulary_find_own(w->vocabulary, word, n);
    id = id < 0 ? w->unk : id;
    return id < 0 ? sp_unknown_word(word, n, err) : sp_ids_push(ids, id, err);
}

const sp_word_model_type sp_word_level_type = {"WordLevel", create_word_level, free,
                                               encode_word_level};
