/* Sets of problems: which candidates of a family's stream are taken.
 *
 * Candidates come in the order of their index and are taken by rules that loosen from pass to pass
 * (see PASSES). A pass of a small family ends when draws have long brought nothing new; the draws
 * allowed grow with the number of texts known, so that what is missed is improbable.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "eval/families.h"

enum {
    PROBLEMS_MAX = 10000000,
    KEY_SHARES = 3,     /* train, gate and report divide a small key space */
    DRAWS_MIN = 20000,  /* fruitless draws that end a pass: at least */
    DRAWS_PER_TEXT = 30 /* and this often the texts known: a missed text has probability e^-30 */
};

/* ---- a set of strings, open addressing ---- */

typedef struct string_set {
    const char **slots; /* owned array of borrowed strings; NULL is free */
    size_t capacity;    /* a power of two, or 0 */
    size_t count;
} string_set;

static uint64_t hash_of(const char *text) {
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *text != '\0'; text++) {
        hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    }
    return hash ^ hash >> 32;
}

static size_t slot_of(const string_set *set, const char *text) {
    size_t i = (size_t)hash_of(text) & (set->capacity - 1);
    while (set->slots[i] != NULL && strcmp(set->slots[i], text) != 0) {
        i = (i + 1) & (set->capacity - 1);
    }
    return i;
}

static bool strings_have(const string_set *set, const char *text) {
    return set->capacity > 0 && set->slots[slot_of(set, text)] != NULL;
}

static spar_status strings_grow(string_set *set, spar_error *err) {
    string_set larger = {.capacity = set->capacity > 0 ? 2 * set->capacity : 256,
                         .count = set->count};
    void *slots;
    spar_status status = sp_mem_calloc(&slots, larger.capacity, sizeof *larger.slots, err);
    if (status != SPAR_OK) {
        return status;
    }
    larger.slots = slots;
    for (size_t i = 0; i < set->capacity; i++) {
        if (set->slots[i] != NULL) {
            larger.slots[slot_of(&larger, set->slots[i])] = set->slots[i];
        }
    }
    free(set->slots);
    *set = larger;
    return SPAR_OK;
}

static spar_status strings_add(string_set *set, const char *text, spar_error *err) {
    spar_status status = SPAR_OK;
    if (2 * set->count >= set->capacity) {
        SPAR_TRY(strings_grow(set, err));
    }
    const size_t slot = slot_of(set, text);
    set->count += set->slots[slot] == NULL;
    set->slots[slot] = text;
done:
    return status;
}

static void strings_release(string_set *set) {
    free(set->slots);
}

/* ---- the set ---- */

struct spar_task_set {
    spar_task *tasks; /* owned; strings in the arena */
    size_t count;
    const char **keys; /* owned: the distinct keys, sorted; borrowed from the arena */
    size_t n_keys;
    sp_arena arena;
};

void spar_tasks_free(spar_task_set *set) {
    if (set != NULL) {
        free(set->tasks);
        free(set->keys);
        sp_arena_release(&set->arena);
        free(set);
    }
}

size_t spar_tasks_count(const spar_task_set *set) {
    return set->count;
}

const spar_task *spar_tasks_at(const spar_task_set *set, size_t i) {
    return &set->tasks[i];
}

size_t spar_tasks_shared_keys(const spar_task_set *a, const spar_task_set *b) {
    size_t shared = 0;
    for (size_t i = 0, k = 0; i < a->n_keys && k < b->n_keys;) {
        const int order = strcmp(a->keys[i], b->keys[k]);
        shared += order == 0;
        i += order <= 0;
        k += order >= 0;
    }
    return shared;
}

/* ---- choosing ---- */

/* Which keys a pass takes; the text is new in every one. Where a key may be new to the set or one
 * of its own, new ones come first, by the order of the passes. */
typedef struct rules {
    bool repeat;   /* keys that the set has: other phrasings */
    bool beyond;   /* more distinct keys than the set's share of the key space */
    bool excluded; /* keys of the excluded sets */
} rules;

static const rules PASSES[] = {
    {false, false, false},
    {true, false, false},
    {true, true, false},
    {true, true, true},
};
enum { PASS_COUNT = sizeof PASSES / sizeof *PASSES };

/* One entry of the families asked for. */
typedef struct request {
    int family, difficulty;
    size_t wanted, taken;
    size_t keys;  /* distinct ones among those taken */
    size_t known; /* texts of the family in the excluded sets */
} request;

typedef struct making {
    spar_task_set *set;
    uint64_t seed;
    string_set other_texts, other_keys; /* of the excluded sets */
    string_set texts, keys;             /* of this one */
    sp_draft draft;
    sp_str key; /* "family:content" of the draft */
} making;

static bool acceptable(const making *m, const rules *by, bool full) {
    const char *text = sp_str_get(&m->draft.prompt), *key = sp_str_get(&m->key);
    if (strings_have(&m->texts, text) || strings_have(&m->other_texts, text)) {
        return false;
    }
    if (!by->excluded && strings_have(&m->other_keys, key)) {
        return false;
    }
    return strings_have(&m->keys, key) ? by->repeat : by->beyond || !full;
}

/* Put the draft at place i of the set. */
static spar_status take(making *m, request *r, size_t i, spar_error *err) {
    spar_status status = SPAR_OK;
    spar_task_set *set = m->set;
    spar_task task = {
        .family = r->family,
        .difficulty = r->difficulty,
        .prompt = sp_arena_strndup(&set->arena, sp_str_get(&m->draft.prompt), m->draft.prompt.len),
        .answer = sp_arena_strndup(&set->arena, sp_str_get(&m->draft.answer), m->draft.answer.len),
        .key = sp_arena_strndup(&set->arena, sp_str_get(&m->key), m->key.len)};
    if (task.prompt == NULL || task.answer == NULL || task.key == NULL) {
        SPAR_TRY(spar_fail(err, SPAR_NO_MEMORY, "out of memory for %zu problems", set->count));
    }
    SPAR_TRY(strings_add(&m->texts, task.prompt, err));
    const size_t keys = m->keys.count;
    SPAR_TRY(strings_add(&m->keys, task.key, err));
    r->keys += m->keys.count - keys;
    r->taken++;
    set->tasks[i] = task;
done:
    return status;
}

static spar_status draw(making *m, const request *r, uint64_t index, spar_error *err) {
    spar_status status = SPAR_OK;
    SPAR_TRY(sp_family_make(r->family, r->difficulty, m->seed, index, &m->draft, err));
    sp_str_clear(&m->key);
    sp_str_printf(&m->key, "%s:%s", spar_family_name(r->family), sp_str_get(&m->draft.key));
    SPAR_TRY(sp_str_status(&m->key, err));
done:
    return status;
}

static size_t draws_allowed(const request *r) {
    const size_t draws = DRAWS_PER_TEXT * (r->known + r->taken);
    return draws > DRAWS_MIN ? draws : DRAWS_MIN;
}

/* Problems of r stand at the places first, first + stride, ... of the set. share: the distinct keys
 * that the set may take unless the rules go beyond. */
static spar_status run_pass(making *m, request *r, const rules *by, uint64_t share, size_t first,
                            size_t stride, spar_error *err) {
    spar_status status = SPAR_OK;
    size_t fruitless = 0;
    for (uint64_t index = 0; r->taken < r->wanted && fruitless < draws_allowed(r); index++) {
        const bool full = r->keys >= share;
        if (full && !by->repeat) {
            break;
        }
        SPAR_TRY(draw(m, r, index, err));
        fruitless++;
        if (acceptable(m, by, full)) {
            SPAR_TRY(take(m, r, first + stride * r->taken, err));
            fruitless = 0;
        }
    }
done:
    return status;
}

static spar_status fill(making *m, request *r, size_t first, size_t stride, spar_error *err) {
    spar_status status = SPAR_OK;
    const uint64_t keys = sp_family_at(r->family)->keys(r->difficulty);
    const uint64_t share = keys < KEY_SHARES ? 1 : keys / KEY_SHARES;
    for (size_t i = 0; i < PASS_COUNT && r->taken < r->wanted; i++) {
        SPAR_TRY(run_pass(m, r, &PASSES[i], share, first, stride, err));
    }
    if (r->taken < r->wanted) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT,
                           "family %s at difficulty %d: expected %zu different problems, found %zu "
                           "that are in no other set",
                           spar_family_name(r->family), r->difficulty, r->wanted, r->taken));
    }
done:
    return status;
}

/* ---- the call ---- */

static spar_status read_excluded(making *m, const spar_task_set *other, request *requests,
                                 int n_requests, spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 0; i < other->count; i++) {
        SPAR_TRY(strings_add(&m->other_texts, other->tasks[i].prompt, err));
        SPAR_TRY(strings_add(&m->other_keys, other->tasks[i].key, err));
        for (int k = 0; k < n_requests; k++) {
            requests[k].known += requests[k].family == other->tasks[i].family;
        }
    }
done:
    return status;
}

static int compare_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static spar_status list_keys(making *m, spar_error *err) {
    spar_task_set *set = m->set;
    void *memory;
    spar_status status = sp_mem_calloc(&memory, m->keys.count, sizeof *set->keys, err);
    if (status != SPAR_OK) {
        return status;
    }
    set->keys = memory;
    for (size_t i = 0; i < m->keys.capacity; i++) {
        if (m->keys.slots[i] != NULL) {
            set->keys[set->n_keys++] = m->keys.slots[i];
        }
    }
    qsort(set->keys, set->n_keys, sizeof *set->keys, compare_text);
    return SPAR_OK;
}

static spar_status create_set(spar_task_set **out, size_t n, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory;
    spar_task_set *set = NULL;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof *set, err));
    set = memory;
    sp_arena_init(&set->arena);
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *set->tasks, err));
    set->tasks = memory;
    set->count = n;
    *out = set;
    set = NULL;
done:
    spar_tasks_free(set);
    return status;
}

static void making_release(making *m) {
    spar_tasks_free(m->set);
    strings_release(&m->other_texts);
    strings_release(&m->other_keys);
    strings_release(&m->texts);
    strings_release(&m->keys);
    sp_draft_release(&m->draft);
    sp_str_release(&m->key);
}

static spar_status check_arguments(int n_families, size_t n, spar_error *err) {
    if (n_families < 1) {
        return spar_fail(err, SPAR_INVALID, "expected at least one task family, found none");
    }
    if (n > PROBLEMS_MAX) {
        return spar_fail(err, SPAR_LIMIT, "expected at most %d problems in a set, found %zu",
                         PROBLEMS_MAX, n);
    }
    return SPAR_OK;
}

spar_status spar_tasks_generate(spar_task_set **out, const char *const *families, int n_families,
                                size_t n, uint64_t seed, const spar_task_set *const *exclude,
                                size_t n_exclude, spar_error *err) {
    spar_status status = SPAR_OK;
    making m = {.seed = seed};
    request *requests = NULL;
    void *memory;
    SPAR_TRY(check_arguments(n_families, n, err));
    const size_t stride = (size_t)n_families;
    SPAR_TRY(sp_mem_calloc(&memory, stride, sizeof *requests, err));
    requests = memory;
    for (size_t i = 0; i < stride; i++) {
        SPAR_TRY(sp_family_parse(families[i], &requests[i].family, &requests[i].difficulty, err));
        requests[i].wanted = n / stride + (i < n % stride);
    }
    for (size_t i = 0; i < n_exclude; i++) {
        SPAR_TRY(read_excluded(&m, exclude[i], requests, n_families, err));
    }
    SPAR_TRY(create_set(&m.set, n, err));
    for (size_t i = 0; i < stride; i++) {
        SPAR_TRY(fill(&m, &requests[i], i, stride, err));
    }
    SPAR_TRY(list_keys(&m, err));
    *out = m.set;
    m.set = NULL;
done:
    free(requests);
    making_release(&m);
    return status;
}
