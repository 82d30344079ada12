/* The unigram language model (Kudo 2018): of all ways to cut a word into tokens the one with the
 * largest sum of log-probs, by dynamic programming over the places where a token may end. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "text/prefixes.h"
#include "text/word_model.h"

typedef struct unigram {
    const sp_vocabulary *vocabulary; /* borrowed */
    sp_prefixes prefixes;            /* of the tokens, to their ids */
    double *scores;                  /* owned, log-probs by id */
    double unk_score;
    int32_t unk; /* -1: none */
    bool byte_fallback;
    int32_t bytes[256];
} unigram;

/* An unknown character is worse than the worst token by this much. */
static const double unknown_penalty = 10.0;

/* ---- reading ---- */

/* A score as the reference's JSON reader has it: its digits as a double, divided by a power of ten,
 * so rounded twice. Cuts that are equal by exact scores, as of a run of dashes, are told apart by
 * that. The digits are taken to be the fewest that name the value, as files are written. */
static double reference_number(double value) {
    char text[40];
    int digits = 1;
    do {
        snprintf(text, sizeof text, "%.*e", digits - 1, fabs(value));
    } while (strtod(text, NULL) != fabs(value) && ++digits <= 17);
    const char *mark = strchr(text, 'e');
    const long exponent = strtol(mark + 1, NULL, 10) - (digits - 1);
    if (exponent >= 0 || exponent < -30 || digits > 17) {
        return value;
    }
    uint64_t significand = 0;
    for (const char *c = text; c < mark; c++) {
        significand = *c == '.' ? significand : significand * 10 + (uint64_t)(*c - '0');
    }
    return copysign((double)significand / pow(10.0, (double)-exponent), value);
}

static spar_status read_scores(unigram *u, const json_t *vocab, const char *where,
                               spar_error *err) {
    spar_status status = SPAR_OK;
    size_t n = json_array_size(vocab);
    double least = DBL_MAX;
    void *memory;
    SPAR_TRY(sp_mem_calloc(&memory, n, sizeof *u->scores, err));
    u->scores = memory;
    for (size_t i = 0; i < n; i++) {
        const json_t *score = json_array_get(json_array_get(vocab, i), 1);
        if (!json_is_number(score)) {
            SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                               "%s: model.vocab[%zu]: expected a number as score, found %s", where,
                               i, sp_json_type_name(score)));
        }
        u->scores[i] = reference_number(json_number_value(score));
        least = u->scores[i] < least ? u->scores[i] : least;
    }
    u->unk_score = least - unknown_penalty;
done:
    return status;
}

static spar_status index_tokens(unigram *u, size_t n, spar_error *err) {
    void *memory;
    size_t used = 0;
    spar_status status = sp_mem_calloc(&memory, n, sizeof(sp_prefix_entry), err);
    if (status != SPAR_OK) {
        return status;
    }
    sp_prefix_entry *entries = memory;
    for (size_t i = 0; i < n; i++) {
        const char *token = u->vocabulary->tokens[i];
        size_t length = u->vocabulary->lengths[i];
        if (length > 0 && sp_vocabulary_find_own(u->vocabulary, token, length) == (int32_t)i) {
            entries[used++] = (sp_prefix_entry){token, length, (int32_t)i};
        }
    }
    sp_prefixes_init(&u->prefixes, entries, used);
    return SPAR_OK;
}

static void free_unigram(void *model) {
    unigram *u = model;
    if (u) {
        sp_prefixes_release(&u->prefixes);
        free(u->scores);
        free(u);
    }
}

static spar_status create_unigram(void **out, const sp_vocabulary *vocabulary, sp_arena *arena,
                                  const json_t *model, const char *where, spar_error *err) {
    spar_status status = SPAR_OK;
    void *memory = NULL;
    const json_t *vocab = json_object_get(model, "vocab");
    size_t n = json_array_size(vocab);
    int64_t unk;
    (void)arena;
    SPAR_TRY(sp_mem_calloc(&memory, 1, sizeof(unigram), err));
    unigram *u = memory;
    u->vocabulary = vocabulary;
    if (n == 0) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "%s: model.vocab: expected a list of [token, score], found %s", where,
                           json_is_array(vocab) ? "an empty one" : sp_json_type_name(vocab)));
    }
    SPAR_TRY(sp_json_get_int_or(model, "unk_id", 0, (int64_t)n - 1, -1, &unk, where, err));
    SPAR_TRY(sp_json_get_bool_or(model, "byte_fallback", false, &u->byte_fallback, where, err));
    u->unk = (int32_t)unk;
    SPAR_TRY(read_scores(u, vocab, where, err));
    SPAR_TRY(index_tokens(u, n, err));
    sp_byte_tokens(vocabulary, u->bytes);
    *out = u;
    memory = NULL;
done:
    free_unigram(memory);
    return status;
}

/* ---- encoding ---- */

/* The best way to a place in the word: its last token and where that begins. */
typedef struct node {
    double score;
    int32_t begin; /* -1: no way was found yet */
    int32_t id;
} node;

static void offer(node *to, double score, size_t begin, int32_t id) {
    if (to->begin < 0 || score > to->score) {
        *to = (node){score, (int32_t)begin, id};
    }
}

/* Extend the best way to `at` by each token that goes on from there, and by the character alone as
 * unknown where it is no token. Where nothing stands for the unknown, that fails only if it would
 * be the best way, as in the reference. */
static spar_status extend(const unigram *u, const char *word, size_t n, size_t at, size_t used,
                          node *nodes, spar_error *err) {
    const double here = nodes[at].score;
    bool single = false;
    int32_t id;
    sp_prefix_walk walk = {0};
    for (size_t end = at;
         end < n && sp_prefixes_step(&u->prefixes, &walk, (unsigned char)word[end], &id);) {
        end++;
        if (id >= 0) {
            offer(&nodes[end], here + u->scores[id], at, id);
            single = single || end - at == used;
        }
    }
    if (single) {
        return SPAR_OK;
    }
    offer(&nodes[at + used], here + u->unk_score, at, u->unk);
    return u->unk < 0 && nodes[at + used].id < 0 ? sp_unknown_word(word + at, used, err) : SPAR_OK;
}

/* Fill nodes [n + 1]. */
static spar_status search(const unigram *u, const char *word, size_t n, node *nodes,
                          spar_error *err) {
    spar_status status = SPAR_OK;
    for (size_t i = 1; i <= n; i++) {
        nodes[i].begin = -1;
    }
    for (size_t at = 0, used; at < n; at += used) {
        unsigned c;
        used = sp_utf8_decode(word + at, n - at, &c);
        SPAR_TRY(extend(u, word, n, at, used, nodes, err));
    }
done:
    return status;
}

/* Where the pieces of the best way begin, last first; unknown tokens side by side are one piece. */
static spar_status trace_back(const unigram *u, const node *nodes, size_t n, sp_ids *begins,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    for (int32_t end = (int32_t)n; end > 0;) {
        int32_t begin = nodes[end].begin;
        while (begin > 0 && u->unk >= 0 && nodes[end].id == u->unk && nodes[begin].id == u->unk) {
            begin = nodes[begin].begin;
        }
        SPAR_TRY(sp_ids_push(begins, begin, err));
        end = begin;
    }
done:
    return status;
}

/* A run of unknown characters is one piece: bytes where the vocabulary has them all, else the token
 * that reads so, or one unknown. */
static spar_status push_piece(const unigram *u, const char *text, size_t n, sp_ids *ids,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    int32_t id = sp_vocabulary_find_own(u->vocabulary, text, n);
    if (id < 0 && u->byte_fallback && sp_has_bytes(u->bytes, text, n)) {
        for (size_t i = 0; i < n; i++) {
            SPAR_TRY(sp_ids_push(ids, u->bytes[(uint8_t)text[i]], err));
        }
        return SPAR_OK;
    }
    SPAR_TRY(sp_ids_push(ids, id < 0 ? u->unk : id, err));
done:
    return status;
}

static spar_status encode_unigram(const void *model, const char *word, size_t n, sp_ids *ids,
                                  spar_error *err) {
    spar_status status = SPAR_OK;
    const unigram *u = model;
    sp_ids begins = {0};
    void *nodes = NULL;
    SPAR_TRY(sp_mem_calloc(&nodes, n + 1, sizeof(node), err));
    SPAR_TRY(search(u, word, n, nodes, err));
    SPAR_TRY(trace_back(u, nodes, n, &begins, err));
    for (size_t i = begins.n; i-- > 0;) {
        size_t begin = (size_t)begins.data[i];
        size_t end = i > 0 ? (size_t)begins.data[i - 1] : n;
        SPAR_TRY(push_piece(u, word + begin, end - begin, ids, err));
    }
done:
    free(nodes);
    free(begins.data);
    return status;
}

const sp_word_model_type sp_unigram_type = {"Unigram", create_unigram, free_unigram,
                                            encode_unigram};
