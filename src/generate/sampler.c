#include "generate/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* The vocabulary is summed in blocks by the backend; a draw walks the blocks, then one block. */
enum { BLOCK = 512 };

static int64_t blocks_of(int64_t n) {
    return (n + BLOCK - 1) / BLOCK;
}

void sp_sampler_release(sp_sampler *sampler) {
    free(sampler->values);
    free(sampler->order);
    free(sampler->sums);
    sampler->values = NULL;
    sampler->order = NULL;
    sampler->sums = NULL;
    sampler->capacity = 0;
}

static spar_status reserve(sp_sampler *s, size_t n, spar_error *err) {
    spar_status status = SPAR_OK;
    if (s->capacity >= n) {
        goto done;
    }
    sp_sampler_release(s);
    void *memory;
    SPAR_TRY(sp_mem_aligned(&memory, n, sizeof *s->values, err));
    s->values = memory;
    SPAR_TRY(sp_mem_aligned(&memory, n, sizeof *s->order, err));
    s->order = memory;
    SPAR_TRY(sp_mem_aligned(&memory, (size_t)blocks_of((int64_t)n), sizeof *s->sums, err));
    s->sums = memory;
    s->capacity = n;
done:
    return status;
}

static float max_of(const float *x, int64_t n) {
    float max = x[0];
#pragma omp simd reduction(max : max)
    for (int64_t i = 1; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    return max;
}

static int64_t block_size(int64_t n, int64_t block) {
    return n - block * BLOCK < BLOCK ? n - block * BLOCK : BLOCK;
}

/* sums[b] of exp((x - max) scale) over block b; returns their total. */
static double sum_blocks(const sp_sampler *s, const float *x, int64_t n, float max, float scale) {
    double total = 0.0;
    for (int64_t b = 0; b < blocks_of(n); b++) {
        s->sums[b] = s->exp_sum(x + b * BLOCK, block_size(n, b), max, scale);
        total += (double)s->sums[b];
    }
    return total;
}

/* Hugging Face's rule: positive logits are divided by the penalty, negative ones multiplied, once
 * an id. */
static void penalise(float *values, const float *logits, float penalty, const int32_t *seen,
                     size_t n_seen) {
    for (size_t i = 0; i < n_seen; i++) {
        float l = logits[seen[i]];
        values[seen[i]] = l > 0 ? l / penalty : l * penalty;
    }
}

static int64_t first_of(const float *x, int64_t n, float value) {
    int64_t i = 0;
    while (i < n - 1 && x[i] != value) {
        i++;
    }
    return i;
}

/* 1 / temperature, 1 for none. Below the smallest float's inverse it stays finite: infinity times
 * the best logit's distance of 0 would be no number, and what is drawn anything. */
static float scale_of(double temperature) {
    return temperature > 0 ? (float)fmin(1.0 / temperature, (double)FLT_MAX) : 1;
}

/* Index reached by walking the weights exp((x - max) scale) up to `target`, given their block sums.
 * A target that rounding puts behind the last weight of a block falls on that weight. */
static int64_t walk_blocks(const sp_sampler *s, const float *x, int64_t n, float max, float scale,
                           double target) {
    double sum = 0.0, before = 0.0;
    int64_t block = 0, last = -1;
    for (int64_t b = 0; b < blocks_of(n) && sum <= target; b++) {
        if (s->sums[b] > 0) {
            block = b;
            before = sum;
        }
        sum += (double)s->sums[b];
    }
    sum = before;
    for (int64_t i = block * BLOCK; i < block * BLOCK + block_size(n, block); i++) {
        const double weight = (double)expf((x[i] - max) * scale);
        sum += weight;
        last = weight > 0 ? i : last;
        if (sum > target) {
            break;
        }
    }
    return last < 0 ? block * BLOCK : last;
}

typedef struct ranked {
    const float *x;
    uint32_t *order;
    size_t n;
} ranked;

static bool ranks_before(const ranked *r, uint32_t a, uint32_t b) {
    return r->x[a] > r->x[b] || (r->x[a] == r->x[b] && a < b);
}

static void sift_down(ranked *r, size_t root, size_t n) {
    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= n) {
            return;
        }
        if (child + 1 < n && ranks_before(r, r->order[child + 1], r->order[child])) {
            child++;
        }
        if (!ranks_before(r, r->order[child], r->order[root])) {
            return;
        }
        uint32_t swap = r->order[root];
        r->order[root] = r->order[child];
        r->order[child] = swap;
        root = child;
    }
}

static void make_heap(ranked *r) {
    for (size_t i = r->n / 2; i-- > 0;) {
        sift_down(r, i, r->n);
    }
}

/* Take the best of what is left: it moves to the end of the shrinking heap. */
static uint32_t pop(ranked *r) {
    uint32_t best = r->order[0];
    r->n--;
    r->order[0] = r->order[r->n];
    r->order[r->n] = best;
    sift_down(r, 0, r->n);
    return best;
}

/* Candidates in falling order are taken from a heap, only as many as the filters let through:
 * the vocabulary is never sorted whole. total: of all weights; top-k makes it that of its own. */
static int64_t walk_filtered(sp_sampler *w, const float *x, int64_t n, float max,
                             const spar_sampling *s, double total, double u) {
    const float inverse_temperature = scale_of(s->temperature);
    for (int64_t i = 0; i < n; i++) {
        w->order[i] = (uint32_t)i;
    }
    ranked r = {x, w->order, (size_t)n};
    make_heap(&r);
    size_t keep = s->top_k > 0 && s->top_k < n ? (size_t)s->top_k : (size_t)n;
    if (keep < (size_t)n) {
        /* top-k keeps the values equal to the k-th too, and its survivors are renormalised */
        total = 0.0;
        float last = 0;
        while (r.n > 0 && ((size_t)n - r.n < keep || x[r.order[0]] == last)) {
            last = x[pop(&r)];
            total += (double)expf((last - max) * inverse_temperature);
        }
    }
    size_t popped = (size_t)n - r.n;
    bool all_popped = keep < (size_t)n;
    double mass = 0.0;
    size_t kept = 0;
    /* top-p keeps the smallest set whose mass reaches p; min-p those of at least p times the best.
     */
    while (kept < (all_popped ? popped : (size_t)n)) {
        if (kept > 0 && mass >= s->top_p * total) {
            break;
        }
        uint32_t id = all_popped ? w->order[(size_t)n - 1 - kept] : pop(&r);
        double weight = (double)expf((x[id] - max) * inverse_temperature);
        if (kept > 0 && weight < s->min_p) {
            break;
        }
        mass += weight;
        kept++;
    }
    double target = u * mass;
    double sum = 0.0;
    for (size_t i = 0; i < kept; i++) {
        uint32_t id = w->order[(size_t)n - 1 - i];
        sum += (double)expf((x[id] - max) * inverse_temperature);
        if (sum > target) {
            return id;
        }
    }
    return w->order[(size_t)n - kept];
}

spar_status sp_sampler_draw(sp_sampler *w, const float *logits, int64_t vocab,
                            const spar_sampling *s, const int32_t *seen, size_t n_seen, double u,
                            int32_t *id, float *logp, spar_error *err) {
    spar_status status = SPAR_OK;
    const float *x = logits;
    bool filtered = s->temperature > 0 && (s->top_k > 0 || s->top_p < 1.0 || s->min_p > 0.0);
    bool penalty = s->repetition_penalty != 1.0;
    SPAR_TRY(reserve(w, (size_t)vocab, err));
    float plain_max = max_of(logits, vocab);
    if (penalty) {
        memcpy(w->values, logits, (size_t)vocab * sizeof *logits);
        penalise(w->values, logits, (float)s->repetition_penalty, seen, n_seen);
        x = w->values;
    }
    float max = penalty ? max_of(x, vocab) : plain_max;
    const float scale = scale_of(s->temperature);
    double total = sum_blocks(w, x, vocab, max, scale);
    int64_t chosen;
    if (s->temperature <= 0) {
        chosen = first_of(x, vocab, max);
    } else if (filtered) {
        chosen = walk_filtered(w, x, vocab, max, s, total, u);
    } else {
        chosen = walk_blocks(w, x, vocab, max, scale, u * total);
    }
    if (penalty || scale != 1) { /* the log-prob is of the untouched distribution */
        total = sum_blocks(w, logits, vocab, plain_max, 1);
    }
    *id = (int32_t)chosen;
    *logp = (float)((double)(logits[chosen] - plain_max) - log(total));
    if (!isfinite(*logp)) {
        SPAR_TRY(spar_fail(err, SPAR_FORMAT,
                           "the model's logits are not finite: its weights are damaged or training "
                           "diverged"));
    }
done:
    return status;
}
