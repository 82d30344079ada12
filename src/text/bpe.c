#include "text/bpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"

spar_status sp_ids_push(sp_ids *ids, int32_t id, spar_error *err) {
    void *memory = ids->data;
    spar_status status = sp_mem_grow(&memory, &ids->capacity, ids->n + 1, sizeof *ids->data, err);
    ids->data = memory;
    if (status == SPAR_OK) {
        ids->data[ids->n++] = id;
    }
    return status;
}

/* ---- hashes ---- */

static uint64_t hash_bytes(const char *s, size_t n) {
    uint64_t h = 14695981039346656037U;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (uint8_t)s[i]) * 1099511628211U;
    }
    return h ^ h >> 32;
}

static uint64_t hash_pair(int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15U;
    return h ^ h >> 29;
}

static size_t table_size(size_t n) {
    size_t size = 16;
    while (size < 2 * n) {
        size *= 2;
    }
    return size;
}

int32_t sp_bpe_find(const sp_bpe *bpe, const char *token, size_t n) {
    for (size_t i = hash_bytes(token, n) & bpe->slot_mask;; i = (i + 1) & bpe->slot_mask) {
        int32_t id = bpe->slots[i];
        if (id < 0 || (bpe->lengths[id] == n && memcmp(bpe->tokens[id], token, n) == 0)) {
            return id;
        }
    }
}

static void insert_token(sp_bpe *bpe, int32_t id) {
    size_t i = hash_bytes(bpe->tokens[id], bpe->lengths[id]) & bpe->slot_mask;
    while (bpe->slots[i] >= 0) {
        i = (i + 1) & bpe->slot_mask;
    }
    bpe->slots[i] = id;
}

static const sp_merge_slot *find_merge(const sp_bpe *bpe, int32_t left, int32_t right) {
    size_t i = hash_pair(left, right) & bpe->merge_mask;
    for (;; i = (i + 1) & bpe->merge_mask) {
        const sp_merge_slot *slot = &bpe->merges[i];
        if (slot->left < 0) {
            return NULL;
        }
        if (slot->left == left && slot->right == right) {
            return slot;
        }
    }
}

/* A pair that is listed twice keeps its last rank, as the reference does. */
static void insert_merge(sp_bpe *bpe, sp_merge_slot merge) {
    size_t i = hash_pair(merge.left, merge.right) & bpe->merge_mask;
    while (bpe->merges[i].left >= 0 &&
           (bpe->merges[i].left != merge.left || bpe->merges[i].right != merge.right)) {
        i = (i + 1) & bpe->merge_mask;
    }
    bpe->merges[i] = merge;
}

/* ---- reading ---- */

enum { MAX_ID = 1 << 24 };

/* Ids beyond what the file's entries justify are refused. */
static spar_status check_id(const json_t *value, size_t entries, const char *token,
                            const char *where, int32_t *out, spar_error *err) {
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    if (id < 0 || id >= MAX_ID || (uint64_t)id > 16 * (uint64_t)entries + 65536) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: token %.60s: expected an id in 0..%d, found %s %lld", where, token,
                         MAX_ID - 1, sp_json_type_name(value), (long long)id);
    }
    *out = (int32_t)id;
    return SPAR_OK;
}

static spar_status largest_id(const json_t *vocab, const json_t *added, const char *where,
                              int32_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *token;
    json_t *value;
    size_t entries = json_object_size(vocab) + json_array_size(added);
    int32_t id = 0;
    *n = 0;
    json_object_foreach((json_t *)(uintptr_t)vocab, token, value) {
        SPAR_TRY(check_id(value, entries, token, where, &id, err));
        *n = id >= *n ? id + 1 : *n;
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *item = json_array_get(added, i);
        const char *content;
        SPAR_TRY(sp_json_get_string(item, "content", &content, where, err));
        SPAR_TRY(check_id(json_object_get(item, "id"), entries, content, where, &id, err));
        *n = id >= *n ? id + 1 : *n;
    }
done:
    return status;
}

static spar_status put_token(sp_bpe *bpe, sp_arena *arena, const char *token, int32_t id,
                             const char *where, spar_error *err) {
    size_t n = strlen(token);
    if (bpe->tokens[id]) {
        return spar_fail(err, SPAR_FORMAT, "%s: id %d: expected one token, found %.60s and %.60s",
                         where, id, bpe->tokens[id], token);
    }
    bpe->tokens[id] = sp_arena_strndup(arena, token, n);
    bpe->lengths[id] = (uint32_t)n;
    if (!bpe->tokens[id]) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for the vocabulary");
    }
    insert_token(bpe, id);
    return SPAR_OK;
}

static spar_status read_vocab(sp_bpe *bpe, sp_arena *arena, const json_t *vocab,
                              const json_t *added, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    const char *token;
    json_t *value;
    if (!json_is_object(vocab)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: model.vocab: expected an object, found %s", where,
                           sp_json_type_name(vocab)));
    }
    SPAR_TRY(largest_id(vocab, added, where, &bpe->n_tokens, err));
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)bpe->n_tokens, sizeof *bpe->tokens, err));
    bpe->tokens = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)bpe->n_tokens, sizeof *bpe->lengths, err));
    bpe->lengths = memory;
    size_t size = table_size(json_object_size(vocab) + json_array_size(added));
    SPAR_TRY(sp_mem_calloc(&memory, size, sizeof *bpe->slots, err));
    bpe->slots = memory;
    memset(bpe->slots, 0xFF, size * sizeof *bpe->slots);
    bpe->slot_mask = size - 1;
    json_object_foreach((json_t *)(uintptr_t)vocab, token, value) {
        SPAR_TRY(put_token(bpe, arena, token, (int32_t)json_integer_value(value), where, err));
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *item = json_array_get(added, i);
        const char *content = json_string_value(json_object_get(item, "content"));
        if (sp_bpe_find(bpe, content, strlen(content)) < 0) { /* most are in the vocabulary */
            SPAR_TRY(put_token(bpe, arena, content,
                               (int32_t)json_integer_value(json_object_get(item, "id")), where,
                               err));
        }
    }
done:
    return status;
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

static spar_status read_merge(const sp_bpe *bpe, const json_t *value, size_t index,
                              const char *where, sp_merge_slot *out, sp_str *scratch,
                              spar_error *err) {
    const char *left, *right;
    size_t n_left, n_right;
    if (!split_merge(value, &left, &n_left, &right, &n_right)) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: model.merges[%zu]: expected \"left right\" or [left, right]", where,
                         index);
    }
    out->left = sp_bpe_find(bpe, left, n_left);
    out->right = sp_bpe_find(bpe, right, n_right);
    out->rank = (int32_t)index;
    sp_str_clear(scratch);
    sp_str_append(scratch, left, n_left);
    sp_str_append(scratch, right, n_right);
    if (scratch->failed) {
        return sp_str_status(scratch, err);
    }
    out->id = sp_bpe_find(bpe, sp_str_get(scratch), scratch->len);
    if (out->left < 0 || out->right < 0 || out->id < 0) {
        return spar_fail(err, SPAR_FORMAT,
                         "%s: model.merges[%zu]: expected tokens of the vocabulary, found %.*s and "
                         "%.*s, of which one or their join is missing",
                         where, index, (int)(n_left < 60 ? n_left : 60), left,
                         (int)(n_right < 60 ? n_right : 60), right);
    }
    return SPAR_OK;
}

static spar_status read_merges(sp_bpe *bpe, const json_t *merges, const char *where,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    sp_str scratch = SP_STR_INIT;
    void *memory;
    if (!json_is_array(merges)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: model.merges: expected a list, found %s", where,
                           sp_json_type_name(merges)));
    }
    size_t size = table_size(json_array_size(merges));
    SPAR_TRY(sp_mem_calloc(&memory, size, sizeof *bpe->merges, err));
    bpe->merges = memory;
    memset(bpe->merges, 0xFF, size * sizeof *bpe->merges);
    bpe->merge_mask = size - 1;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        sp_merge_slot merge = {-1, -1, 0, 0};
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

static void find_bytes(sp_bpe *bpe) {
    for (int i = 0; i < 256; i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        bpe->bytes[i] = sp_bpe_find(bpe, name, 6);
    }
}

spar_status sp_bpe_init(sp_bpe *bpe, sp_arena *arena, const json_t *model, const json_t *added,
                        const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *unk;
    const char *type;
    memset(bpe, 0, sizeof *bpe);
    SPAR_TRY(sp_json_get_string_or(model, "type", "BPE", &type, where, err));
    if (strcmp(type, "BPE") != 0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: model.type: expected BPE, found %s", where,
                           type));
    }
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        SPAR_TRY(sp_json_get_string_or(model, affixes[i], "", &unk, where, err));
        if (unk[0]) {
            SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: model.%s: expected none, found %s",
                               where, affixes[i], unk));
        }
    }
    double dropout;
    SPAR_TRY(sp_json_get_number_or(model, "dropout", 0.0, &dropout, where, err));
    if (dropout != 0.0) {
        SPAR_TRY(spar_fail(err, SPAR_UNSUPPORTED, "%s: model.dropout: expected none, found %g",
                           where, dropout));
    }
    SPAR_TRY(sp_json_get_bool_or(model, "byte_fallback", false, &bpe->byte_fallback, where, err));
    SPAR_TRY(sp_json_get_bool_or(model, "fuse_unk", false, &bpe->fuse_unk, where, err));
    SPAR_TRY(sp_json_get_bool_or(model, "ignore_merges", false, &bpe->ignore_merges, where, err));
    SPAR_TRY(sp_json_get_string_or(model, "unk_token", NULL, &unk, where, err));
    SPAR_TRY(read_vocab(bpe, arena, json_object_get(model, "vocab"), added, where, err));
    SPAR_TRY(read_merges(bpe, json_object_get(model, "merges"), where, err));
    bpe->unk = unk ? sp_bpe_find(bpe, unk, strlen(unk)) : -1;
    if (unk && bpe->unk < 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: model.unk_token: expected a token of the vocabulary, found %.60s",
                           where, unk));
    }
    find_bytes(bpe);
done:
    return status;
}

void sp_bpe_release(sp_bpe *bpe) {
    free(bpe->tokens);
    free(bpe->lengths);
    free(bpe->slots);
    free(bpe->merges);
    memset(bpe, 0, sizeof *bpe);
}

/* ---- merging ---- */

/* A symbol of the word, in a list; id -1: merged away. */
typedef struct symbol {
    int32_t id, previous, next;
} symbol;

/* A pair that may merge. Stale entries are recognised by the id that they would give. */
typedef struct candidate {
    int32_t rank, position, id;
} candidate;

typedef struct word {
    symbol *symbols; /* owned */
    size_t n, capacity;
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

static spar_status offer(const sp_bpe *bpe, word *w, int32_t left, spar_error *err) {
    int32_t right = left < 0 ? -1 : w->symbols[left].next;
    if (right < 0) {
        return SPAR_OK;
    }
    const sp_merge_slot *merge = find_merge(bpe, w->symbols[left].id, w->symbols[right].id);
    return merge ? push(w, (candidate){merge->rank, left, merge->id}, err) : SPAR_OK;
}

static spar_status merge_all(const sp_bpe *bpe, word *w, spar_error *err) {
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
        const sp_merge_slot *merge = find_merge(bpe, left->id, right->id);
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

static spar_status add_symbol(word *w, int32_t id, spar_error *err) {
    void *memory = w->symbols;
    spar_status status = sp_mem_grow(&memory, &w->capacity, w->n + 1, sizeof *w->symbols, err);
    w->symbols = memory;
    if (status == SPAR_OK) {
        int32_t at = (int32_t)w->n++;
        w->symbols[at] = (symbol){id, at - 1, -1};
        if (at > 0) {
            w->symbols[at - 1].next = at;
        }
    }
    return status;
}

/* The bytes of a character that the vocabulary lacks; false where they are not all tokens. */
static bool has_bytes(const sp_bpe *bpe, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (bpe->bytes[(uint8_t)s[i]] < 0) {
            return false;
        }
    }
    return bpe->byte_fallback;
}

/* The symbols that merging starts from. An unknown character waits in `unknown` until the next
 * known one, so that its neighbours can join it; byte tokens do not end the wait, as in the
 * reference. */
static spar_status split_characters(const sp_bpe *bpe, const char *text, size_t n, word *w,
                                    spar_error *err) {
    spar_status status = SPAR_OK;
    bool unknown = false;
    for (size_t at = 0, used; at < n; at += used) {
        unsigned code_point;
        used = sp_utf8_decode(text + at, n - at, &code_point);
        int32_t id = sp_bpe_find(bpe, text + at, used);
        bool bytes = id < 0 && has_bytes(bpe, text + at, used);
        for (size_t i = 0; bytes && i < used; i++) {
            SPAR_TRY(add_symbol(w, bpe->bytes[(uint8_t)text[at + i]], err));
        }
        if (bytes || (id < 0 && bpe->unk < 0)) {
            continue;
        }
        if (unknown && (id >= 0 || !bpe->fuse_unk)) {
            SPAR_TRY(add_symbol(w, bpe->unk, err));
        }
        unknown = id < 0;
        if (id >= 0) {
            SPAR_TRY(add_symbol(w, id, err));
        }
    }
    if (unknown) {
        SPAR_TRY(add_symbol(w, bpe->unk, err));
    }
done:
    return status;
}

spar_status sp_bpe_encode(const sp_bpe *bpe, const char *text, size_t n, sp_ids *ids,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    word w = {0};
    if (bpe->ignore_merges) {
        int32_t whole = sp_bpe_find(bpe, text, n);
        if (whole >= 0) {
            SPAR_TRY(sp_ids_push(ids, whole, err));
            goto done;
        }
    }
    SPAR_TRY(split_characters(bpe, text, n, &w, err));
    SPAR_TRY(merge_all(bpe, &w, err));
    for (size_t i = 0; i < w.n; i++) {
        if (w.symbols[i].id >= 0) {
            SPAR_TRY(sp_ids_push(ids, w.symbols[i].id, err));
        }
    }
done:
    free(w.symbols);
    free(w.heap);
    return status;
}
