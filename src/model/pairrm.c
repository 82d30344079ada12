/* PairRM: two candidates are read side by side, and a head scores each by the states of the
 * source's and its own prefix token (LLM-Blender, arXiv 2306.02561). */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/encoder_parts.h"

/* Where the prefix tokens of a pair's row are, and its place in the matrix. */
typedef struct pair_row {
    size_t first, second; /* the source's is at 1 */
    size_t cell;
} pair_row;

typedef struct comparison {
    sp_token_row *rows; /* owned */
    pair_row *pairs;    /* owned */
    int32_t *ids;       /* owned */
    size_t n;
    float *logits;
} comparison;

static size_t min_size(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Append prefix, n ids and [SEP] at *at. */
static size_t put_part(const sp_encoder_config *c, int32_t prefix, const sp_token_row *text,
                       size_t n, int32_t *ids, size_t at) {
    ids[at++] = prefix;
    if (n > 0) {
        memcpy(ids + at, text->ids, n * sizeof *ids);
    }
    ids[at + n] = c->sep;
    return at + n + 1;
}

static spar_status make_rows(comparison *m, const sp_encoder_config *c, const sp_token_row *source,
                             const sp_token_row *candidates, size_t K, spar_error *err) {
    enum { OWN = 3 }; /* the published code counts [CLS], prefix and [SEP] in every part */
    spar_status status = SPAR_OK;
    void *memory;
    size_t n_pairs, tokens;
    const size_t n_source = min_size(source->n, SP_PAIRRM_SOURCE - OWN);
    const size_t most = (SP_PAIRRM_TOTAL - (n_source + OWN)) / 2 - OWN;
    if (!sp_mem_mul(K, K - 1, &n_pairs) || !sp_mem_mul(n_pairs, SP_PAIRRM_TOTAL, &tokens)) {
        SPAR_TRY(spar_fail(err, SPAR_LIMIT, "%zu candidates are too many to compare", K));
    }
    tokens = 0;
    for (size_t i = 0; i < K; i++) {
        tokens += min_size(candidates[i].n, most);
    }
    tokens = tokens * 2 * (K - 1) + n_pairs * (n_source + OWN + 4);
    SPAR_TRY(sp_mem_calloc(&memory, tokens, sizeof *m->ids, err));
    m->ids = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n_pairs, sizeof *m->rows, err));
    m->rows = memory;
    SPAR_TRY(sp_mem_calloc(&memory, n_pairs, sizeof *m->pairs, err));
    m->pairs = memory;
    int32_t *ids = m->ids;
    for (size_t cell = 0; cell < K * K; cell++) {
        const sp_token_row *a = &candidates[cell / K], *b = &candidates[cell % K];
        if (a == b) {
            continue;
        }
        pair_row *pair = &m->pairs[m->n];
        pair->cell = cell;
        ids[0] = c->cls;
        pair->first = put_part(c, c->source, source, n_source, ids, 1);
        pair->second = put_part(c, c->first, a, min_size(a->n, most), ids, pair->first);
        const size_t n = put_part(c, c->second, b, min_size(b->n, most), ids, pair->second);
        m->rows[m->n++] = (sp_token_row){.ids = ids, .n = n};
        ids += n;
    }
done:
    return status;
}

/* Rows 2 r and 2 r + 1 of the head's input are [source; first] and [source; second] of pair r. A
 * pair's row has at least 7 tokens, so that all of them fit the arrays of the pack. */
static spar_status compare_pack(void *context, sp_encoder *e, const sp_encoder_pack *pack,
                                size_t first, spar_error *err) {
    comparison *m = context;
    const int64_t H = e->config.hidden, rows = 2 * (int64_t)pack->n;
    const size_t state = (size_t)H * sizeof(float);
    sp_encoder_space *s = &e->space;
    spar_status status = SPAR_OK;
    float *in = s->q, *dense = s->k, *out = s->v;
    for (int64_t r = 0; r < rows; r++) {
        const pair_row *pair = &m->pairs[first + (size_t)r / 2];
        const float *x = s->x + pack->starts[r / 2] * H;
        memcpy(in + r * 2 * H, x + H, state);
        memcpy(in + r * 2 * H + H, x + (int64_t)(r % 2 ? pair->second : pair->first) * H, state);
    }
    SPAR_TRY(sp_encoder_apply(e, &e->head_dense, in, rows, dense, err));
    e->backend->ops->activate(e->backend, e->config.head_act, dense, NULL, rows, H, true, dense);
    for (int64_t r = 0; r < rows; r += 2) {
        SPAR_TRY(sp_encoder_apply(e, &e->head_out, dense + r * H, 2, out, err));
        double sum = 0;
        for (int64_t t = 0; t < e->labels; t++) {
            sum += (double)out[t] - (double)out[e->labels + t];
        }
        m->logits[m->pairs[first + (size_t)r / 2].cell] = (float)(sum / (double)e->labels);
    }
done:
    return status;
}

spar_status sp_pairrm_compare(sp_encoder *e, const sp_token_row *source,
                              const sp_token_row *candidates, size_t K, float *logits,
                              spar_error *err) {
    spar_status status = SPAR_OK;
    comparison m = {.logits = logits};
    if (!e->config.arch->pair || K < 1) {
        SPAR_TRY(spar_fail(err, SPAR_INVALID,
                           "expected a model that compares pairs and a candidate at least, found "
                           "%s and %zu candidates",
                           e->config.arch->class_name, K));
    }
    for (size_t i = 0; i < K; i++) {
        logits[i * K + i] = 0.0F;
    }
    SPAR_TRY(make_rows(&m, &e->config, source, candidates, K, err));
    SPAR_TRY(sp_encoder_run(e, m.rows, m.n, compare_pack, &m, err));
done:
    free(m.rows);
    free(m.pairs);
    free(m.ids);
    return status;
}

void sp_pairrm_rank(const float *logits, size_t K, float *out) {
    for (size_t i = 0; i < K; i++) {
        double sum = 0;
        for (size_t j = 0; j < K; j++) {
            sum += (double)logits[i * K + j] - (double)logits[j * K + i];
        }
        out[i] = (float)(sum / (double)K);
    }
}
