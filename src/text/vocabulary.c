#include "text/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"

spar_status sp_ids_push(sp_ids *ids, int32_t id, spar_error *err) {
    void *memory = ids->data;
    spar_status status = sp_mem_grow(&memory, &ids->capacity, ids->n + 1, sizeof *ids->data, err);
    ids->data = memory;
    if (status == SPAR_OK) {
        ids->data[ids->n++] = id;
    }
    return status;
}

/* ---- the hash ---- */

static uint64_t hash_bytes(const char *s, size_t n) {
    uint64_t h = 14695981039346656037U;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ (uint8_t)s[i]) * 1099511628211U;
    }
    return h ^ h >> 32;
}

size_t sp_hash_size(size_t n) {
    size_t size = 16;
    while (size < 2 * n) {
        size *= 2;
    }
    return size;
}

/* Where the token is, or the free slot that it would take. */
static size_t slot_of(const sp_vocabulary *v, const char *token, size_t n) {
    for (size_t i = hash_bytes(token, n) & v->slot_mask;; i = (i + 1) & v->slot_mask) {
        int32_t id = v->slots[i];
        if (id < 0 || (v->lengths[id] == n && memcmp(v->tokens[id], token, n) == 0)) {
            return i;
        }
    }
}

int32_t sp_vocabulary_find(const sp_vocabulary *v, const char *token, size_t n) {
    return v->slots[slot_of(v, token, n)];
}

int32_t sp_vocabulary_find_own(const sp_vocabulary *v, const char *token, size_t n) {
    const int32_t id = sp_vocabulary_find(v, token, n);
    return id >= 0 && v->added[id] ? -1 : id;
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

static size_t vocab_size(const json_t *vocab) {
    return json_is_array(vocab) ? json_array_size(vocab) : json_object_size(vocab);
}

static spar_status largest_id(const json_t *vocab, const json_t *added, const char *where,
                              int32_t *n, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *token;
    json_t *value;
    size_t entries = vocab_size(vocab) + json_array_size(added);
    int32_t id = 0;
    if (json_array_size(vocab) > MAX_ID) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: model.vocab: expected at most %d tokens", where,
                           MAX_ID));
    }
    *n = (int32_t)json_array_size(vocab);
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

static spar_status put_token(sp_vocabulary *v, sp_arena *arena, const char *token, int32_t id,
                             const char *where, spar_error *err) {
    size_t n = strlen(token);
    if (v->tokens[id]) {
        return spar_fail(err, SPAR_FORMAT, "%s: id %d: expected one token, found %.60s and %.60s",
                         where, id, v->tokens[id], token);
    }
    v->tokens[id] = sp_arena_strndup(arena, token, n);
    v->lengths[id] = (uint32_t)n;
    if (!v->tokens[id]) {
        return spar_fail(err, SPAR_NO_MEMORY, "out of memory for the vocabulary");
    }
    v->slots[slot_of(v, token, n)] = id;
    return SPAR_OK;
}

static spar_status put_list(sp_vocabulary *v, sp_arena *arena, const json_t *vocab,
                            const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < json_array_size(vocab); i++) {
        const char *token = json_string_value(json_array_get(json_array_get(vocab, i), 0));
        if (!token) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: model.vocab[%zu]: expected [token, score]",
                               where, i));
        }
        SPAR_TRY(put_token(v, arena, token, (int32_t)i, where, err));
    }
done:
    return status;
}

static spar_status allocate(sp_vocabulary *v, size_t entries, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)v->n_tokens, sizeof *v->tokens, err));
    v->tokens = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)v->n_tokens, sizeof *v->lengths, err));
    v->lengths = memory;
    SPAR_TRY(sp_mem_calloc(&memory, (size_t)v->n_tokens, sizeof *v->added, err));
    v->added = memory;
    size_t size = sp_hash_size(entries);
    SPAR_TRY(sp_mem_calloc(&memory, size, sizeof *v->slots, err));
    v->slots = memory;
    memset(v->slots, 0xFF, size * sizeof *v->slots);
    v->slot_mask = size - 1;
done:
    return status;
}

spar_status sp_vocabulary_init(sp_vocabulary *v, sp_arena *arena, const json_t *vocab,
                               const json_t *added, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    const char *token;
    json_t *value;
    memset(v, 0, sizeof *v);
    if (!json_is_object(vocab) && !json_is_array(vocab)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT, "%s: model.vocab: expected an object, found %s", where,
                           sp_json_type_name(vocab)));
    }
    SPAR_TRY(largest_id(vocab, added, where, &v->n_tokens, err));
    SPAR_TRY(allocate(v, vocab_size(vocab) + json_array_size(added), err));
    SPAR_TRY(put_list(v, arena, vocab, where, err));
    json_object_foreach((json_t *)(uintptr_t)vocab, token, value) {
        SPAR_TRY(put_token(v, arena, token, (int32_t)json_integer_value(value), where, err));
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *item = json_array_get(added, i);
        const char *content = json_string_value(json_object_get(item, "content"));
        int32_t id = (int32_t)json_integer_value(json_object_get(item, "id"));
        if (sp_vocabulary_find(v, content, strlen(content)) < 0) { /* most are in the vocabulary */
            SPAR_TRY(put_token(v, arena, content, id, where, err));
            v->added[id] = true;
        }
    }
done:
    return status;
}

void sp_vocabulary_release(sp_vocabulary *v) {
    free(v->tokens);
    free(v->lengths);
    free(v->added);
    free(v->slots);
    memset(v, 0, sizeof *v);
}
