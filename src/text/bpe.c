/* Byte-pair encoding: merges, and the merging of one word (Sennrich et al. 2016). */
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "text/word_model.h"

typedef struct merge_slot {
    int32_t left, right; /* left -1: free */
    int32_t rank, id;    /* lower ranks merge first; id of the merged token */
} merge_slot;

enum { KNOWN = 0x180 }; /* characters whose ids are kept: the byte-level alphabet is below */

typedef struct bpe_model {
    const sp_vocabulary *vocabulary; /* borrowed */
    merge_slot *merges;              /* owned hash of (left, right) */
    size_t merge_mask;
    int32_t unk;                 /* -1: none */
    const char *prefix, *suffix; /* arena: of symbols that do not begin a word; of the last one */
    bool byte_fallback, fuse_unk, ignore_merges;
    int32_t bytes[256];        /* ids of <0x00> .. <0xFF>, -1: none */
    int32_t characters[KNOWN]; /* ids of the characters by themselves, -1: none */
} bpe_model;

/* ---- merges ---- */

static uint64_t hash_pair(int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15U;
    return h ^ h >> 29;
}

static const merge_slot *find_merge(const bpe_model *bpe, int32_t left, int32_t right) {
    size_t i = hash_pair(left, right) & bpe->merge_mask;
    for (;; i = (i + 1) & bpe->merge_mask) {
        const merge_slot *slot = &bpe->merges[i];
        if (slot->left < 0) {
            return NULL;
        }
        if (slot->left == left && slot->right == right) {
            return slot;
        }
    }
}

/* A pair that is listed twice keeps its last rank, as the reference does. */
static void insert_merge(bpe_model *bpe, merge_slot merge) {
    size_t i = hash_pair(merge.left, merge.right) & bpe->merge_mask;
    while (bpe->merges[i].left >= 0 &&
           (bpe->merges[i].left != merge.left || bpe->merges[i].right != merge.right)) {
        i = (i + 1) & bpe->merge_mask;
    }
    bpe->merges[i] = merge;
}

/* A merge is "left right" or ["left", "right"]. */
static bool split_merge(const json_t *merge, const char **left, size_t *n_left, const char **right,
                        size_t *n_right) {
    if (json_is_string(merge)) {
        const char *text = json_string_value(merge);
        const char *space = strchr(text, ' ');
        if (!space || strchr(space + 1, ' ')) {
            return false;
        }
        *left = text;
        *n_left = (size_t)(space - text);
        *right = space + 1;
        *n_right = strlen(space + 1);
        return true;
    }
    *left = json_string_value(json_array_get(merge, 0));
    *right = json_string_value(json_array_get(merge, 1));
    if (json_array_size(merge) != 2 || !*left || !*right) {
        return false;
    }
    *n_left = strlen(*left);
    *n_right = strlen(*right);
    return true;
}

static spar_status read_merge(const bpe_model *bpe, const json_t *value, size_t index,
                              const char *where, merge_slot *out, sp_str *scratch,
                              spar_error *err) {
    const char *left, *right;
    size_t n_left, n_right;
    if (!split_merge(value, &left, &n_left, &right, &n_right)) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: model.merges[%zu]: expected \"left right\" or [left, right]", where,
                         index);
    }
    out->left = sp_vocabulary_find_own(bpe->vocabulary, left, n_left);
    out->right = sp_vocabulary_find_own(bpe->vocabulary, right, n_right);
    out->rank = (int32_t)index;
    sp_str_clear(scratch);
    sp_str_append(scratch, left, n_left);
    /* the prefix is of a symbol within a word: their join has that of the left one */
    size_t cut = strlen(bpe->prefix) < n_right ? strlen(bpe->prefix) : n_right;
    sp_str_append(scratch, right + cut, n_right - cut);
    if (scratch->failed) {
        return sp_str_status(scratch, err);
    }
    out->id = sp_vocabulary_find_own(bpe->vocabulary, sp_str_get(scratch), scratch->len);
    if (out->left < 0 || out->right < 0 || out->id < 0) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: model.merges[%zu]: expected tokens of the vocabulary, found %.*s and "
                         "%.*s, of which one or their join is missing",
                         where, index, (int)(n_left < 60 ? n_left : 60), left,
                         (int)(n_right < 60 ? n_right : 60), right);
    }
    return SPAR_OK;
}

static spar_status read_merges(bpe_model *bpe, const json_t *merges, const char *where,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str scratch = SP_STR_INIT;
    void *memory;
    if (!json_is_array(merges)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: model.merges: expected a list, found %s", where,
                           sp_json_type_name(merges)));
    }
    size_t size = sp_hash_size(json_array_size(merges));
    SPAR_TRY(sp_mem_calloc(&memory, size, sizeof *bpe->merges, err));
    bpe->merges = memory;
    memset(bpe->merges, 0xFF, size * sizeof *bpe->merges);
    bpe->merge_mask = size - 1;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        merge_slot merge = {-1, -1, 0, 0};
        const char *text = json_string_value(json_array_get(merges, i));
        if (text && strncmp(text, "#version", 8) == 0) {
            continue; /* a header that old files carry */
        }
        SPAR_TRY(read_merge(bpe, json_array_get(merges, i), i, where, &merge, &scratch, err));
        insert_merge(bpe, merge);
    }
done:
    sp_str_release(&scratch);
    return status;
}

static spar_status read_affix(const json_t *model, const char *key, sp_arena *arena,
                              const char **out, const char *where, spar_error *err) {
    const char *text;
    spar_status status = sp_json_get_string_or(model, key, "", &text, where, err);
    if (status == SPAR_OK) {
        *out = sp_arena_strndup(arena, text, strlen(text));
    }
    return status == SPAR_OK && !*out ? spar_fail(err, SPAR_NO_MEMORY, "%s: out of memory", where)
                                      : status;
}

static spar_status read_settings(bpe_model *bpe, sp_arena *arena, const json_t *model,
                                 const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    double dropout;
    SPAR_TRY(sp_json_get_number_or(model, "dropout", 0.0, &dropout, where, err));
    if (dropout != 0.0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: model.dropout: expected none, found %g",
                           where, dropout));
    }
    SPAR_TRY(read_affix(model, "continuing_subword_prefix", arena, &bpe->prefix, where, err));
    SPAR_TRY(read_affix(model, "end_of_word_suffix", arena, &bpe->suffix, where, err));
    SPAR_TRY(sp_json_get_bool_or(model, "byte_fallback", false, &bpe->byte_fallback, where, err));
    SPAR_TRY(sp_json_get_bool_or(model, "fuse_unk", false, &bpe->fuse_unk, where, err));
    SPAR_TRY(sp_json_get_bool_or(model, "ignore_merges", false, &bpe->ignore_merges, where, err));
done:
    return status;
}

static spar_status find_characters(bpe_model *bpe, spar_error *err) {
    sp_str one = SP_STR_INIT;
    for (unsigned c = 0; c < KNOWN && !one.failed; c++) {
        sp_str_clear(&one);
        sp_str_put_utf8(&one, c);
        bpe->characters[c] = sp_vocabulary_find_own(bpe->vocabulary, sp_str_get(&one), one.len);
    }
    spar_status status = sp_str_status(&one, err);
    sp_str_release(&one);
    return status;
}

static void free_bpe(void *model) {
    bpe_model *bpe = model;
    if (bpe) {
        free(bpe->merges);
        free(bpe);
    }
}

static spar_status create_bpe(void **out, const sp_vocabulary *vocabulary, sp_arena *arena,
                              const json_t *model, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof(bpe_model), err));
    bpe_model *bpe = memory;
    bpe->vocabulary = vocabulary;
    SPAR_TRY(read_settings(bpe, arena, model, where, err));
    SPAR_TRY(read_merges(bpe, json_object_get(model, "merges"), where, err));
    SPAR_TRY(sp_word_model_token(vocabulary, model, "unk_token", &bpe->unk, where, err));
    sp_byte_tokens(vocabulary, bpe->bytes);
    SPAR_TRY(find_characters(bpe, err));
    *out = bpe;
    memory = NULL;
done:
    free_bpe(memory);
    return status;
}

/* ---- the symbols of a word ---- */

enum { SHORT = 48 }; /* symbols up to which a word is merged in place */

/* Symbols that merging starts from. */
typedef struct symbols {
    int32_t *ids; /* near, or owned where there are more */
    int32_t near[SHORT];
    size_t n, capacity;
} symbols;

static spar_status add_symbol(symbols *s, int32_t id, spar_error *err) {
    if (s->n == s->capacity) {
        void *memory = s->ids == s->near ? NULL : s->ids;
        size_t capacity = memory ? s->capacity : 0;
        spar_status status = sp_mem_grow(&memory, &capacity, 2 * s->n, sizeof *s->ids, err);
        if (status != SPAR_OK) {
            return status;
        }
        if (s->ids == s->near) {
            memcpy(memory, s->near, s->n * sizeof *s->near);
        }
        s->ids = memory;
        s->capacity = capacity;
    }
    s->ids[s->n++] = id;
    return SPAR_OK;
}

static void release_symbols(symbols *s) {
    if (s->ids != s->near) {
        free(s->ids);
    }
}

/* The symbol of characters [at, at + used) of a word: with the affixes that its place asks for. */
static spar_status symbol_text(const bpe_model *bpe, const char *text, size_t n, size_t at,
                               size_t used, sp_str *out, spar_error *err) {
    sp_str_clear(out);
    sp_str_puts(out, at > 0 ? bpe->prefix : "");
    sp_str_append(out, text + at, used);
    sp_str_puts(out, at + used == n ? bpe->suffix : "");
    return sp_str_status(out, err);
}

/* The symbols that merging starts from. An unknown character waits in `unknown` until the next
 * known one, so that its neighbours can join it; byte tokens do not end the wait, as in the
 * reference. */
static spar_status split_characters(const bpe_model *bpe, const char *text, size_t n, symbols *out,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    const bool affixes = bpe->prefix[0] || bpe->suffix[0];
    bool unknown = false;
    sp_str scratch = SP_STR_INIT;
    for (size_t at = 0, used; at < n; at += used) {
        unsigned code_point;
        used = sp_utf8_decode(text + at, n - at, &code_point);
        const char *one = text + at;
        size_t length = used;
        if (affixes) {
            SPAR_TRY(symbol_text(bpe, text, n, at, used, &scratch, err));
            one = scratch.data;
            length = scratch.len;
        }
        int32_t id = code_point < KNOWN && !affixes
                         ? bpe->characters[code_point]
                         : sp_vocabulary_find_own(bpe->vocabulary, one, length);
        bool bytes = id < 0 && bpe->byte_fallback && sp_has_bytes(bpe->bytes, one, length);
        for (size_t i = 0; bytes && i < length; i++) {
            SPAR_TRY(add_symbol(out, bpe->bytes[(uint8_t)one[i]], err));
        }
        if (bytes || (id < 0 && bpe->unk < 0)) {
            continue;
        }
        if (unknown && (id >= 0 || !bpe->fuse_unk)) {
            SPAR_TRY(add_symbol(out, bpe->unk, err));
        }
        unknown = id < 0;
        if (id >= 0) {
            SPAR_TRY(add_symbol(out, id, err));
        }
    }
    if (unknown) {
        SPAR_TRY(add_symbol(out, bpe->unk, err));
    }
done:
    sp_str_release(&scratch);
    return status;
}

/* ---- merging: of all pairs the one of the lowest rank, of equal ones the leftmost, until none is
 * left ---- */

/* A short word: the pairs are looked through each time. ids [n]; gives how many are left. */
static size_t merge_short(const bpe_model *bpe, int32_t *ids, size_t n) {
    const merge_slot *pairs[SHORT]; /* of ids i and i + 1; NULL: they do not merge */
    for (size_t i = 0; i + 1 < n; i++) {
        pairs[i] = find_merge(bpe, ids[i], ids[i + 1]);
    }
    for (;;) {
        const merge_slot *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            if (pairs[i] && (!best || pairs[i]->rank < best->rank)) {
                best = pairs[i];
                at = i;
            }
        }
        if (!best) {
            return n;
        }
        ids[at] = best->id;
        n--;
        memmove(ids + at + 1, ids + at + 2, (n - at - 1) * sizeof *ids);
        if (at + 1 < n) {
            memmove(pairs + at + 1, pairs + at + 2, (n - at - 2) * sizeof *pairs);
            pairs[at] = find_merge(bpe, ids[at], ids[at + 1]);
        }
        if (at > 0) {
            pairs[at - 1] = find_merge(bpe, ids[at - 1], ids[at]);
        }
    }
}

/* A symbol of a long word, in a list; id -1: merged away. */
typedef struct symbol {
    int32_t id, previous, next;
} symbol;

/* A pair that may merge. Stale entries are recognised by the id that they would give. */
typedef struct candidate {
    int32_t rank, position, id;
} candidate;

typedef struct word {
    symbol *symbols; /* owned */
    size_t n;
    candidate *heap; /* owned, lowest rank first, then leftmost */
    size_t n_heap, heap_capacity;
} word;

static bool comes_before(candidate a, candidate b) {
    return a.rank < b.rank || (a.rank == b.rank && a.position < b.position);
}

static spar_status push(word *w, candidate c, spar_error *err) {
    void *memory = w->heap;
    spar_status status =
        sp_mem_grow(&memory, &w->heap_capacity, w->n_heap + 1, sizeof *w->heap, err);
    w->heap = memory;
    if (status != SPAR_OK) {
        return status;
    }
    size_t i = w->n_heap++;
    while (i > 0 && comes_before(c, w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = c;
    return SPAR_OK;
}

static candidate pop(word *w) {
    candidate top = w->heap[0];
    candidate last = w->heap[--w->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->n_heap) {
            break;
        }
        if (child + 1 < w->n_heap && comes_before(w->heap[child + 1], w->heap[child])) {
            child++;
        }
        if (!comes_before(w->heap[child], last)) {
            break;
        }
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return top;
}

static spar_status offer(const bpe_model *bpe, word *w, int32_t left, spar_error *err) {
    int32_t right = left < 0 ? -1 : w->symbols[left].next;
    if (right < 0) {
        return SPAR_OK;
    }
    const merge_slot *merge = find_merge(bpe, w->symbols[left].id, w->symbols[right].id);
    return merge ? push(w, (candidate){merge->rank, left, merge->id}, err) : SPAR_OK;
}

static spar_status merge_all(const bpe_model *bpe, word *w, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < w->n; i++) {
        SPAR_TRY(offer(bpe, w, (int32_t)i, err));
    }
    while (w->n_heap > 0) {
        candidate c = pop(w);
        symbol *left = &w->symbols[c.position];
        if (left->id < 0 || left->next < 0) {
            continue;
        }
        symbol *right = &w->symbols[left->next];
        const merge_slot *merge = find_merge(bpe, left->id, right->id);
        if (!merge || merge->id != c.id) {
            continue;
        }
        left->id = c.id;
        left->next = right->next;
        right->id = -1;
        if (left->next >= 0) {
            w->symbols[left->next].previous = c.position;
        }
        SPAR_TRY(offer(bpe, w, left->previous, err));
        SPAR_TRY(offer(bpe, w, c.position, err));
    }
done:
    return status;
}

/* A long word: pairs wait in a heap, so that the work grows as n log n. ids [*n] in place. */
static spar_status merge_long(const bpe_model *bpe, int32_t *ids, size_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    word w = {.n = *n};
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, *n, sizeof *w.symbols, err));
    w.symbols = memory;
    for (size_t i = 0; i < *n; i++) {
        w.symbols[i] = (symbol){ids[i], (int32_t)i - 1, i + 1 < *n ? (int32_t)i + 1 : -1};
    }
    SPAR_TRY(merge_all(bpe, &w, err));
    *n = 0;
    for (size_t i = 0; i < w.n; i++) {
        if (w.symbols[i].id >= 0) {
            ids[(*n)++] = w.symbols[i].id;
        }
    }
done:
    free(w.symbols);
    free(w.heap);
    return status;
}

static spar_status encode_bpe(const void *model, const char *text, size_t n, sp_ids *ids,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    const bpe_model *bpe = model;
    symbols s = {.n = 0, .capacity = SHORT};
    s.ids = s.near;
    if (bpe->ignore_merges) {
        int32_t whole = sp_vocabulary_find_own(bpe->vocabulary, text, n);
        if (whole >= 0) {
            return sp_ids_push(ids, whole, err);
        }
    }
    SPAR_TRY(split_characters(bpe, text, n, &s, err));
    if (s.n > SHORT) {
        SPAR_TRY(merge_long(bpe, s.ids, &s.n, err));
    } else {
        s.n = merge_short(bpe, s.ids, s.n);
    }
    for (size_t i = 0; i < s.n; i++) {
        SPAR_TRY(sp_ids_push(ids, s.ids[i], err));
    }
done:
    release_symbols(&s);
    return status;
}

const sp_word_model_type sp_bpe_type = {"BPE", create_bpe, free_bpe, encode_bpe};
