/* Loading a tokenizer, and the way through its pipeline. */
#include "text/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "text/characters.h"
#include "text/token_places.h"

/* ---- added tokens ---- */

/* Of two tokens that read the same the first serves, and its place is the lower value. */
static spar_status index_added(sp_prefixes *out, const sp_added_token *tokens, size_t n,
                               spar_error *err) {
    void *memory;
    spar_status status = sp_mem_calloc(&memory, n, sizeof(sp_prefix_entry), err);
    if (status == SPAR_OK) {
        sp_prefix_entry *entries = memory;
        for (size_t i = 0; i < n; i++) {
            entries[i] = (sp_prefix_entry){tokens[i].content, tokens[i].n, (int32_t)i};
        }
        sp_prefixes_init(out, entries, n);
    }
    return status;
}

static spar_status read_added(spar_tokenizer *t, const json_t *item, sp_added_token *out,
                              const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str text = SP_STR_INIT;
    const char *content;
    SPAR_TRY(sp_json_get_string(item, "content", &content, where, err));
    SPAR_TRY(sp_json_get_bool_or(item, "special", false, &out->special, where, err));
    SPAR_TRY(sp_json_get_bool_or(item, "lstrip", false, &out->lstrip, where, err));
    SPAR_TRY(sp_json_get_bool_or(item, "rstrip", false, &out->rstrip, where, err));
    SPAR_TRY(sp_json_get_bool_or(item, "single_word", false, &out->single_word, where, err));
    SPAR_TRY(sp_json_get_bool_or(item, "normalized", !out->special, &out->normalized, where, err));
    /* a token that the vocabulary has keeps the id it has there */
    out->id = sp_vocabulary_find(&t->vocabulary, content, strlen(content));
    sp_str_puts(&text, content);
    if (out->normalized) {
        SPAR_TRY(sp_steps_normalize(t->normalizers, t->n_normalizers, &text, NULL, err));
    }
    SPAR_TRY(sp_str_status(&text, err));
    out->n = text.len;
    out->content = sp_arena_strndup(&t->arena, sp_str_get(&text), text.len);
    if (!out->content) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", where));
    }
done:
    sp_str_release(&text);
    return status;
}

/* Decoders take back what normalizers did: to them a token is what it was found as. */
static spar_status keep_form(spar_tokenizer *t, const sp_added_token *token, spar_error *err) {
    if (strcmp(token->content, t->vocabulary.tokens[token->id]) == 0) {
        return SPAR_OK;
    }
    if (!t->forms) {
        void *memory;
        spar_status status =
            sp_mem_calloc(&memory, (size_t)t->vocabulary.n_tokens, sizeof *t->forms, err);
        if (status != SPAR_OK) {
            return status;
        }
        t->forms = memory;
    }
    t->forms[token->id] = token->content;
    return SPAR_OK;
}

static spar_status keep_added(spar_tokenizer *t, const sp_added_token *token, spar_error *err) {
    spar_status status = SPAR_OK;
    if (token->special) {
        t->special[token->id] = 1;
    }
    SPAR_TRY(keep_form(t, token, err));
    if (token->n > 0 && token->normalized) {
        t->added_normalized[t->n_added_normalized++] = *token;
    } else if (token->n > 0) {
        t->added[t->n_added++] = *token;
    }
done:
    return status;
}

static spar_status read_all_added(spar_tokenizer *t, const json_t *list, const char *where,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    size_t n = json_array_size(list);
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *t->added, err));
    t->added = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *t->added, err));
    t->added_normalized = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)t->vocabulary.n_tokens, 1, err));
    t->special = memory;
    for (size_t i = 0; i < n; i++) {
        sp_added_token token;
        SPAR_TRY(read_added(t, json_array_get(list, i), &token, where, err));
        SPAR_TRY(keep_added(t, &token, err));
    }
    SPAR_TRY(index_added(&t->find_added, t->added, t->n_added, err));
    SPAR_TRY(index_added(&t->find_normalized, t->added_normalized, t->n_added_normalized, err));
done:
    return status;
}

/* ---- loading ---- */

static spar_status build(spar_tokenizer *t, json_t *root, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const json_t *model = json_object_get(root, "model");
    const json_t *added = json_object_get(root, "added_tokens");
    if (added && !json_is_null(added) && !json_is_array(added)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: added_tokens: expected a list, found %s", where,
                           sp_json_type_name(added)));
    }
    if (!json_is_object(model)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: model: expected an object, found %s", where,
                           sp_json_type_name(model)));
    }
    SPAR_TRY(sp_word_model_find(&t->model_type, model, where, err));
    SPAR_TRY(sp_vocabulary_init(&t->vocabulary, &t->arena, json_object_get(model, "vocab"), added,
                                where, err));
    SPAR_TRY(t->model_type->create(&t->model, &t->vocabulary, &t->arena, model, where, err));
    SPAR_TRY(sp_steps_read(&t->normalizers, &t->n_normalizers, SP_NORMALIZER,
                           json_object_get(root, "normalizer"), &t->arena, where, err));
    SPAR_TRY(sp_steps_read(&t->splitters, &t->n_splitters, SP_PRE_TOKENIZER,
                           json_object_get(root, "pre_tokenizer"), &t->arena, where, err));
    SPAR_TRY(sp_steps_read(&t->decoders, &t->n_decoders, SP_DECODER,
                           json_object_get(root, "decoder"), &t->arena, where, err));
    t->of_bytes = sp_steps_leave_bytes(t->splitters, &t->n_splitters);
    t->within = json_string_value(json_object_get(model, "continuing_subword_prefix"));
    t->ending = json_string_value(json_object_get(model, "end_of_word_suffix"));
    t->no_decoder = t->n_decoders == 0;
    SPAR_TRY(sp_word_caches_create(&t->caches, err));
    SPAR_TRY(read_all_added(t, added, where, err));
    SPAR_TRY(sp_tokenizer_read_processor(t, json_object_get(root, "post_processor"), where, err));
done:
    return status;
}

spar_status sp_tokenizer_from_json(spar_tokenizer **out, json_t *root, const char *where,
                                   spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    spar_tokenizer *t = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *t, err));
    t = memory;
    sp_arena_init(&t->arena);
    t->source = json_incref(root);
    SPAR_TRY(build(t, root, where, err));
    *out = t;
    t = NULL;
done:
    spar_tokenizer_free(t);
    return status;
}

void spar_tokenizer_free(spar_tokenizer *t) {
    if (t) {
        if (t->model) {
            t->model_type->free(t->model);
        }
        sp_vocabulary_release(&t->vocabulary);
        sp_word_caches_free(t->caches);
        sp_steps_free(t->normalizers, t->n_normalizers);
        sp_steps_free(t->splitters, t->n_splitters + t->of_bytes);
        sp_steps_free(t->decoders, t->n_decoders);
        free(t->added);
        free(t->added_normalized);
        sp_prefixes_release(&t->find_added);
        sp_prefixes_release(&t->find_normalized);
        free(t->special);
        free(t->forms);
        free(t->before);
        free(t->after);
        json_decref(t->source);
        json_decref(t->config);
        sp_arena_release(&t->arena);
        free(t);
    }
}

/* ---- encoding ---- */

/* The code point that ends at `end`; *begin is where it begins. */
static unsigned before(const char *text, size_t end, size_t *begin) {
    unsigned c;
    size_t at = end - 1;
    while (at > 0 && ((unsigned char)text[at] & 0xC0U) == 0x80U) {
        at--;
    }
    sp_utf8_decode(text + at, end - at, &c);
    *begin = at;
    return c;
}

static bool stands_alone(const char *text, size_t n, size_t begin, size_t end) {
    unsigned c;
    size_t ignored;
    if (begin > 0 && sp_char_is_word(before(text, begin, &ignored))) {
        return false;
    }
    if (end < n) {
        sp_utf8_decode(text + end, n - end, &c);
        return !sp_char_is_word(c);
    }
    return true;
}

/* The longest token that begins the text, or NULL. */
static const sp_added_token *match_added(const sp_added_token *tokens, const sp_prefixes *find,
                                         const char *text, size_t n) {
    int32_t longest = -1;
    int32_t value;
    sp_prefix_walk walk = {0};
    for (size_t i = 0; i < n && sp_prefixes_step(find, &walk, (unsigned char)text[i], &value);
         i++) {
        longest = value >= 0 ? value : longest;
    }
    return longest >= 0 ? &tokens[longest] : NULL;
}

enum { MAX_TEXT = 1 << 28 }; /* places in a word are 32 bits, and normalisation lengthens it */

typedef struct encoder {
    const spar_tokenizer *t;
    sp_ids ids;
    sp_words words, spare; /* owned */
    sp_str letters;        /* owned scratch: a word in the byte-level alphabet */
    sp_word_cache *cache;  /* lent by the tokenizer */
    sp_places *places;     /* of the tokens; NULL: not wanted */
} encoder;

/* n_first: of the bytes, those that come of the first character of the whole text. */
typedef spar_status (*text_fn)(encoder *e, const char *text, size_t n, size_t n_first,
                               spar_error *err);

/* A token [*begin, *end) of text [n] takes the white space beside it: before it not what the token
 * before took, which ended at `last`; of one that is all white space nothing may be left. */
static void widen(const sp_added_token *token, const char *text, size_t n, size_t last,
                  size_t *begin, size_t *end) {
    size_t earlier;
    unsigned c;
    while (token->lstrip && *begin > last && sp_char_is_space(before(text, *begin, &earlier))) {
        *begin = earlier;
    }
    *begin = token->lstrip && *begin < last ? last : *begin;
    while (token->rstrip && *end < n) {
        size_t used = sp_utf8_decode(text + *end, n - *end, &c);
        if (!sp_char_is_space(c)) {
            break;
        }
        *end += used;
    }
}

/* Cut the added tokens of one kind out of the text and hand the rest on. Tokens are looked for in
 * all of the text, as in the reference: also in white space that a token before took. */
static spar_status cut_added(encoder *e, const sp_added_token *tokens, const sp_prefixes *find,
                             const char *text, size_t n, size_t n_first, text_fn rest,
                             spar_error *err) {
    spar_status status = SPAR_OK;
    size_t last = 0;
    for (size_t at = 0; at < n;) {
        const unsigned char byte = (unsigned char)text[at];
        if (find->first[byte] == find->first[byte + 1]) { /* no token begins so */
            at++;
            continue;
        }
        const sp_added_token *token = match_added(tokens, find, text + at, n - at);
        if (!token) {
            at++;
            continue;
        }
        size_t begin = at;
        size_t end = at + token->n;
        at = end;
        if (token->single_word && !stands_alone(text, n, begin, end)) {
            continue;
        }
        widen(token, text, n, last, &begin, &end);
        if (begin >= end) {
            continue;
        }
        if (begin > last) {
            SPAR_TRY(rest(e, text + last, begin - last, sp_left_of(n_first, last), err));
        }
        SPAR_TRY(sp_ids_push(&e->ids, token->id, err));
        if (e->places) {
            SPAR_TRY(sp_places_add(e->places, text + begin, end - begin, err));
        }
        last = end;
    }
    if (last < n) {
        SPAR_TRY(rest(e, text + last, n - last, sp_left_of(n_first, last), err));
    }
done:
    return status;
}

/* One word by the model. */
static spar_status encode_word(encoder *e, const char *word, size_t n, spar_error *err) {
    const spar_tokenizer *t = e->t;
    if (t->of_bytes) {
        sp_str_clear(&e->letters);
        sp_bytes_to_alphabet(word, n, &e->letters);
        if (e->letters.failed) {
            return sp_str_status(&e->letters, err);
        }
        word = e->letters.data;
        n = e->letters.len;
    }
    return t->model_type->encode(t->model, word, n, &e->ids, err);
}

/* Room for the ids of a word that is cached. */
static spar_status make_room(sp_ids *ids, spar_error *err) {
    void *memory = ids->data;
    if (ids->data && ids->capacity - ids->n >= SP_CACHED_IDS) {
        return SPAR_OK;
    }
    spar_status status =
        sp_mem_grow(&memory, &ids->capacity, ids->n + SP_CACHED_IDS, sizeof *ids->data, err);
    ids->data = memory;
    return status;
}

/* A word that is to be encoded, with its key where it is short. */
typedef struct queued_word {
    const char *text;
    size_t n;
    sp_word_key key;
} queued_word;

static spar_status encode_queued(encoder *e, const queued_word *word, spar_error *err) {
    spar_status status = SPAR_OK;
    if (word->n > SP_CACHED_BYTES) {
        return encode_word(e, word->text, word->n, err);
    }
    const sp_cached_word *found = sp_word_cache_find(e->cache, &word->key);
    if (found) {
        SPAR_TRY(make_room(&e->ids, err));
        memcpy(e->ids.data + e->ids.n, found->ids, sizeof found->ids);
        e->ids.n += found->n_ids;
        return SPAR_OK;
    }
    const size_t before = e->ids.n;
    SPAR_TRY(encode_word(e, word->text, word->n, err));
    if (e->ids.n > before) { /* else there may be no array yet */
        sp_word_cache_put(e->cache, &word->key, e->ids.data + before, e->ids.n - before);
    }
done:
    return status;
}

/* The same with the place of each token. */
static spar_status encode_placed(encoder *e, const char *text, size_t n, size_t n_first,
                                 spar_error *err) {
    spar_status status = SPAR_OK;
    sp_words *words = &e->words;
    words->base = text;
    words->n = 0;
    sp_rewrites_clear(&e->places->words);
    SPAR_TRY(sp_words_add(words, 0, n, n_first, err));
    SPAR_TRY(sp_steps_split(e->t->splitters, e->t->n_splitters, words, &e->spare, &e->places->words,
                            err));
    for (size_t i = 0; i < words->n; i++) {
        const sp_span *span = &words->items[i];
        const size_t before = e->ids.n;
        if (span->n > 0) {
            SPAR_TRY(encode_word(e, words->base + span->begin, span->n, err));
        }
        if (e->ids.n > before) { /* a word may give none */
            SPAR_TRY(sp_places_add_word(e->places, e->t, text, words->base, span,
                                        e->ids.data + before, e->ids.n - before, err));
        }
    }
done:
    return status;
}

/* Words are looked up some places behind where their slots of the cache were asked for. */
static spar_status encode_words(encoder *e, const char *text, size_t n, size_t n_first,
                                spar_error *err) {
    enum { AHEAD = 8 };
    spar_status status = SPAR_OK;
    sp_words *words = &e->words;
    queued_word queue[AHEAD];
    if (e->places) {
        return encode_placed(e, text, n, n_first, err);
    }
    words->base = text;
    words->n = 0;
    SPAR_TRY(sp_words_add(words, 0, n, n_first, err));
    SPAR_TRY(sp_steps_split(e->t->splitters, e->t->n_splitters, words, &e->spare, NULL, err));
    const char *end = words->base == text ? text + n : words->base + words->text.len;
    size_t asked = 0;
    for (size_t i = 0; i < words->n; i++) {
        const sp_span *span = &words->items[i];
        queued_word *word = &queue[asked % AHEAD];
        if (span->n == 0) {
            continue;
        }
        if (asked >= AHEAD) {
            SPAR_TRY(encode_queued(e, word, err));
        }
        *word = (queued_word){.text = words->base + span->begin, .n = span->n};
        if (word->n <= SP_CACHED_BYTES) {
            word->key = sp_word_key_of(word->text, word->n, end);
            __builtin_prefetch(&e->cache->slots[sp_word_key_slot(&word->key)]);
        }
        asked++;
    }
    for (size_t i = asked > AHEAD ? asked - AHEAD : 0; i < asked; i++) {
        SPAR_TRY(encode_queued(e, &queue[i % AHEAD], err));
    }
done:
    return status;
}

/* Of a normalised text [n] the bytes that come of the first n_first of what it was before. */
static size_t first_of(const sp_rewrites *rewrites, const char *text, size_t n, size_t n_first) {
    size_t at = 0;
    while (at < n) {
        unsigned c;
        const size_t next = at + sp_utf8_decode(text + at, n - at, &c);
        size_t begin = at;
        size_t end = next;
        sp_rewrites_back(rewrites, &begin, &end);
        if (begin >= n_first) {
            break;
        }
        at = next;
    }
    return at;
}

/* The text [*n] normalised into `normal`; *n_first as text_fn has it, where a step asks for it. */
static spar_status normalize(encoder *e, const char *text, size_t *n, size_t *n_first,
                             sp_str *normal, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_tokenizer *t = e->t;
    const bool know_first = *n_first > 0 && sp_steps_know_first(t->splitters, t->n_splitters);
    sp_rewrites own = {0};
    sp_rewrites *rewrites = e->places ? &e->places->normal : know_first ? &own : NULL;
    sp_str_append(normal, text, *n);
    SPAR_TRY(sp_str_status(normal, err));
    SPAR_TRY(sp_steps_normalize(t->normalizers, t->n_normalizers, normal, rewrites, err));
    *n = normal->len;
    if (know_first) {
        SPAR_TRY(sp_rewrites_status(rewrites, err));
        *n_first = first_of(rewrites, sp_str_get(normal), *n, *n_first);
    }
done:
    sp_rewrites_release(&own);
    return status;
}

static spar_status encode_normalized(encoder *e, const char *text, size_t n, size_t n_first,
                                     spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_tokenizer *t = e->t;
    sp_str normal = SP_STR_INIT;
    if (t->n_normalizers > 0) {
        SPAR_TRY(normalize(e, text, &n, &n_first, &normal, err));
        if (e->places) {
            sp_places_enter(e->places, text, sp_str_get(&normal));
        }
        text = sp_str_get(&normal);
    }
    SPAR_TRY(cut_added(e, t->added_normalized, &t->find_normalized, text, n, n_first, encode_words,
                       err));
done:
    if (e->places && t->n_normalizers > 0) {
        sp_places_leave(e->places);
    }
    sp_str_release(&normal);
    return status;
}

static spar_status encode(encoder *e, const char *text, size_t n, bool special, spar_error *err) {
    spar_status status = SPAR_OK;
    const spar_tokenizer *t = e->t;
    SPAR_TRY(sp_word_caches_take(t->caches, &e->cache, err));
    for (size_t i = 0; special && i < t->n_before; i++) {
        SPAR_TRY(sp_ids_push(&e->ids, t->before[i], err));
    }
    if (e->places) {
        SPAR_TRY(sp_places_begin(e->places, text, n, e->ids.n, err));
    }
    unsigned c;
    const size_t n_first = n > 0 ? sp_utf8_decode(text, n, &c) : 0;
    SPAR_TRY(cut_added(e, t->added, &t->find_added, text, n, n_first, encode_normalized, err));
    for (size_t i = 0; special && i < t->n_after; i++) {
        SPAR_TRY(sp_ids_push(&e->ids, t->after[i], err));
    }
    if (e->places) {
        SPAR_TRY(sp_places_end(e->places, e->ids.n, err));
    }
    if (!e->ids.data) { /* an empty text: the caller frees an array all the same */
        void *memory;
        SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *e->ids.data, err));
        e->ids.data = memory;
    }
done:
    sp_word_caches_give(t->caches, e->cache);
    sp_words_release(&e->words);
    sp_words_release(&e->spare);
    sp_str_release(&e->letters);
    return status;
}

static spar_status check_size(size_t n, spar_error *err) {
    return n <= MAX_TEXT ? SPAR_OK
                         : spar_fail(err, SPAR_LIMIT,
                                     "tokenizer: expected a text of at most %d bytes, found %zu",
                                     MAX_TEXT, n);
}

spar_status spar_tokenizer_encode_spans(const spar_tokenizer *t, const char *text, size_t n,
                                        unsigned flags, int32_t **ids, spar_text_span **spans,
                                        size_t *n_ids, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_places places = {0};
    encoder e = {.t = t, .places = &places};
    SPAR_TRY(check_size(n, err));
    if (!sp_utf8_is_valid(text, n)) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID, "tokenizer: expected well-formed UTF-8"));
    }
    SPAR_TRY(encode(&e, text, n, !(flags & SPAR_TOKENIZE_NO_SPECIAL), err));
    *ids = e.ids.data;
    *n_ids = e.ids.n;
    *spans = places.items;
    e.ids.data = NULL;
    places.items = NULL;
done:
    free(e.ids.data);
    sp_places_release(&places);
    return status;
}

spar_status spar_tokenizer_encode(const spar_tokenizer *t, const char *text, size_t n,
                                  unsigned flags, int32_t **ids, size_t *n_ids, spar_error *err) {
    spar_status status = SPAR_OK;
    encoder e = {.t = t};
    sp_str clean = SP_STR_INIT;
    SPAR_TRY(check_size(n, err));
    if (!sp_utf8_is_valid(text, n)) {
        sp_utf8_repair(text, n, &clean);
        SPAR_TRY(sp_str_status(&clean, err));
        text = sp_str_get(&clean);
        n = clean.len;
    }
    SPAR_TRY(encode(&e, text, n, !(flags & SPAR_TOKENIZE_NO_SPECIAL), err));
    *ids = e.ids.data;
    *n_ids = e.ids.n;
    e.ids.data = NULL;
done:
    free(e.ids.data);
    sp_str_release(&clean);
    return status;
}

spar_status spar_tokenizer_decode(const spar_tokenizer *t, const int32_t *ids, size_t n,
                                  bool skip_special, char **text, size_t *n_text, spar_error *err) {
    spar_status status = SPAR_OK;
    sp_pieces tokens = {0};
    sp_str out = SP_STR_INIT;
    for (size_t i = 0; i < n; i++) {
        const char *token = spar_tokenizer_token(t, ids[i]);
        if (!token || (skip_special && spar_tokenizer_is_special(t, ids[i]))) {
            continue;
        }
        token = t->forms && t->forms[ids[i]] ? t->forms[ids[i]] : token;
        if (t->no_decoder && tokens.n > 0) {
            SPAR_TRY(sp_pieces_add(&tokens, " ", 1, err));
        }
        SPAR_TRY(sp_pieces_add(&tokens, token, strlen(token), err));
    }
    SPAR_TRY(sp_steps_decode(t->decoders, t->n_decoders, &tokens, &out, err));
    if (n_text) {
        *n_text = out.len;
    }
    SPAR_TRY(sp_str_take(&out, text, err));
done:
    sp_pieces_release(&tokens);
    sp_str_release(&out);
    return status;
}

/* ---- what it knows ---- */

int32_t spar_tokenizer_vocab_size(const spar_tokenizer *t) {
    return t->vocabulary.n_tokens;
}

int32_t spar_tokenizer_id(const spar_tokenizer *t, const char *token) {
    return sp_vocabulary_find(&t->vocabulary, token, strlen(token));
}

const char *spar_tokenizer_token(const spar_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocabulary.n_tokens ? t->vocabulary.tokens[id] : NULL;
}

bool spar_tokenizer_is_special(const spar_tokenizer *t, int32_t id) {
    return id >= 0 && id < t->vocabulary.n_tokens && t->special[id];
}

static int32_t special_id(const spar_tokenizer *t, sp_special which) {
    const char *text = t->special_text[which];
    return text ? spar_tokenizer_id(t, text) : -1;
}

int32_t spar_tokenizer_bos(const spar_tokenizer *t) {
    return special_id(t, SP_BOS);
}

int32_t spar_tokenizer_eos(const spar_tokenizer *t) {
    return special_id(t, SP_EOS);
}

int32_t spar_tokenizer_pad(const spar_tokenizer *t) {
    return special_id(t, SP_PAD);
}

int32_t spar_tokenizer_unk(const spar_tokenizer *t) {
    return special_id(t, SP_UNK);
}

const char *spar_tokenizer_bos_text(const spar_tokenizer *t) {
    return t->special_text[SP_BOS];
}

const char *spar_tokenizer_eos_text(const spar_tokenizer *t) {
    return t->special_text[SP_EOS];
}

const char *spar_tokenizer_pad_text(const spar_tokenizer *t) {
    return t->special_text[SP_PAD];
}

const char *spar_tokenizer_unk_text(const spar_tokenizer *t) {
    return t->special_text[SP_UNK];
}

const char *spar_tokenizer_chat_template(const spar_tokenizer *t) {
    return t->chat_template;
}

const char *spar_tokenizer_tool_template(const spar_tokenizer *t) {
    return t->tool_template;
}

json_t *sp_tokenizer_to_json(const spar_tokenizer *t) {
    return json_incref(t->source);
}
