/* With P = softmax(S), S = scale Q K^T, O = P V and delta = dO . O (by row):
 *   dS = P (dO V^T - delta),  dQ = scale dS K,  dK = scale dS^T Q,  dV = P^T dO.
 * One pass over the blocks of rows makes all three, with P anew from the log-sum-exp. A task owns
 * the keys of one head of whole trees of segments and goes through the rows that see them in order,
 * so every sum has one owner and a fixed order. Where there are few trees, a tree's rows are dealt
 * to several tasks, which sum dK and dV apart; these sums are added in order at the end. */
#include <string.h>

#include "backend/cpu/flash.h"
#include "backend/cpu/operand.h"

/* Tasks wanted; slices of a tree at most, and blocks of rows that a slice has at least. */
enum { TASKS_WANTED = 16, SLICES_MAX = 4, SLICE_BLOCKS = 8 };

/* Groups of segments that see no keys of other groups: trees, and roots that share a block. */
typedef struct trees {
    int n, longest; /* blocks of the one that has most */
    int *of;        /* [n_segments]: the tree of a segment */
    int *start;     /* blocks of tree t: list[start[t]] .. list[start[t + 1] - 1] */
    int *list;
} trees;

typedef struct backward {
    sp_flash shared;
    trees trees;
    int slices, shares;        /* of a tree; tasks of a tree and key head: parts * slices */
    int64_t key_rows, key_row; /* of dk, dv: how many, and their length */
    const float *q, *lse, *dout;
    const void *k, *v, *out;
    float *dq, *dk, *dv;
    float *partial; /* [shares - 1, 2, like dk]; borrowed from scratch */
} backward;

/* Where a share sums dk and dv. */
typedef struct target {
    const backward *b;
    float *dk, *dv;
} target;

static target target_of(const backward *b, int share) {
    const int64_t size = b->key_rows * b->key_row;
    if (share == 0) {
        return (target){b, b->dk, b->dv};
    }
    float *at = b->partial + (share - 1) * 2 * size;
    return (target){b, at, at + size};
}

/* delta [row] = dout . out, and lse, of the gathered rows; 0 for those that only fill up. */
static void take_stats(sp_flash_rows *x, const backward *b, const float *dout, float *space) {
    const sp_backend *be = b->shared.be;
    const int64_t dim = x->a->head_dim;
    for (int r = 0; r < x->padded; r++) {
        if (r >= x->n_rows) {
            x->lse[r] = x->delta[r] = 0;
            continue;
        }
        const int64_t at = sp_flash_row_at(x, r);
        const float *out = (const float *)b->out + at;
        if (be->compute == SP_COMPUTE_BF16) {
            x->simd->from_bf16((const uint16_t *)b->out + at, dim, space);
            out = space;
        }
        x->lse[r] = b->lse[at / dim];
        x->delta[r] = x->simd->dot(out, dout + at, dim);
    }
}

static void begin(sp_flash_rows *x, const backward *b) {
    const int dim = x->a->head_dim;
    if (x->pairs) {
        take_stats(x, b, b->dout, x->pair.rows);
        sp_pair_begin_bwd(x, b->q, b->dout);
        return;
    }
    const sp_flash_space *w = &x->space;
    take_stats(x, b, b->dout, w->out);
    sp_flash_gather(x, b->q, x->a->scale, w->q);
    sp_flash_gather(x, b->dout, 1.0F, w->dout);
    x->simd->transpose(w->q, dim, x->padded, dim, 1.0F, w->q_columns, SP_BLOCK_ROWS);
    x->simd->transpose(w->dout, dim, x->padded, dim, 1.0F, w->do_columns, SP_BLOCK_ROWS);
    memset(w->out, 0, (size_t)x->padded * (size_t)dim * sizeof(float));
}

/* What n keys give the gradients in f32; scores as [keys, rows]. */
static void visit_floats(sp_flash_rows *x, const float *k, const float *v, int n, float *dk,
                         float *dv) {
    const sp_flash_space *w = &x->space;
    const int64_t dim = x->a->head_dim, key_row = sp_flash_key_row(x->a);
    sp_row_range rows = sp_flash_seeing(x);
    sp_flash_widen(x, &rows);
    const int first = rows.first, width = rows.padded;
    sp_block p = {.M = n, .N = width, .K = dim, .a_row = key_row, .a_column = 1};
    p.b_row = SP_BLOCK_ROWS, p.c_row = width;
    p.a = k, p.b = w->q_columns + first, p.c = w->s;
    x->simd->block_product(&p);
    sp_flash_cap(x, w->s, n, width, width);
    sp_flash_slopes(x, &rows, n, w->s, 1, width);
    p.a = v, p.b = w->do_columns + first, p.c = w->dp;
    x->simd->block_product(&p);
    const sp_scores scores = {w->s, width, width, n, x->first + first, x->last + first, x->a->cap};
    x->simd->softmax_grad_columns(&scores, x->lse + first, x->delta + first, w->dp);
    sp_block sum = {.M = n, .N = dim, .K = width, .a_row = width, .a_column = 1, .b_row = dim};
    sum.c_row = key_row, sum.accumulate = true;
    sum.a = w->s, sum.b = w->dout + first * dim, sum.c = dv;
    x->simd->block_product(&sum);
    sum.a = w->dp, sum.b = w->q + first * dim, sum.c = dk;
    x->simd->block_product(&sum);
    sum.M = width, sum.K = n, sum.a_row = 1, sum.a_column = width, sum.c_row = dim;
    sum.b = k, sum.b_row = key_row, sum.c = w->out + first * dim;
    x->simd->block_product(&sum);
}

static void visit(sp_flash_rows *x, void *context, int g, int32_t key, int n) {
    const target *to = context;
    const backward *b = to->b;
    const int64_t from = sp_flash_key_at(x, g, key), row = b->key_row;
    const int64_t at = (x->a->segments[g].kv_start + key) * row + x->kv_head * x->a->head_dim;
    if (x->pairs) {
        sp_pair_attend_bwd(x, (const uint16_t *)b->k + from, (const uint16_t *)b->v + from, n,
                           to->dk + at, to->dv + at, row);
    } else {
        visit_floats(x, (const float *)b->k + from, (const float *)b->v + from, n, to->dk + at,
                     to->dv + at);
    }
}

static void go_through(sp_flash_rows *x, target *to) {
    const backward *b = to->b;
    const int64_t dim = x->a->head_dim;
    begin(x, b);
    sp_flash_walk(x, visit, to);
    if (x->pairs) {
        sp_pair_end(x);
    }
    const float *from = x->pairs ? x->pair.rows : x->space.out;
    for (int r = 0; r < x->n_rows; r++) {
        float *dq = b->dq + sp_flash_row_at(x, r);
        for (int64_t d = 0; d < dim; d++) {
            dq[d] = from[r * dim + d] * x->a->scale;
        }
    }
}

static void clear_keys(const target *to, int tree, int kv_head) {
    const backward *b = to->b;
    const sp_attention *a = b->shared.a;
    const int64_t dim = a->head_dim, row = b->key_row;
    for (int s = 0; s < a->n_segments; s++) {
        const int64_t at = a->segments[s].kv_start * row + kv_head * dim;
        for (int32_t i = 0; b->trees.of[s] == tree && i < a->segments[s].kv_len; i++) {
            memset(to->dk + at + i * row, 0, (size_t)dim * sizeof(float));
            memset(to->dv + at + i * row, 0, (size_t)dim * sizeof(float));
        }
    }
}

static void tree_task(void *context, int task, int worker) {
    const backward *b = context;
    const sp_flash *f = &b->shared;
    const int share = task % b->shares, kv_head = task / b->shares % f->a->n_kv_heads;
    const int tree = task / b->shares / f->a->n_kv_heads;
    const int end = b->trees.start[tree + 1];
    target to = target_of(b, share);
    clear_keys(&to, tree, kv_head);
    for (int i = b->trees.start[tree] + share % b->slices; i < end; i += b->slices) {
        sp_flash_rows x;
        sp_flash_rows_init(&x, f, kv_head, share / b->slices, worker);
        sp_flash_rows_fill(&x, &f->plan.blocks[b->trees.list[i]]);
        if (x.tokens > 0) {
            go_through(&x, &to);
        }
    }
}

/* dk, dv of one segment += the other shares' sums, in order. */
static void join_task(void *context, int task, int worker) {
    (void)worker;
    const backward *b = context;
    const sp_flash *f = &b->shared;
    const sp_segment *s = &f->a->segments[task];
    const int64_t at = s->kv_start * b->key_row, n = s->kv_len * b->key_row;
    for (int share = 1; share < b->shares; share++) {
        const target from = target_of(b, share);
        f->simd->add(from.dk + at, n, b->dk + at);
        f->simd->add(from.dv + at, n, b->dv + at);
    }
}

/* A block's segments have one parent, so they are of its tree; roots that share a block make one
 * tree. */
static void number_trees(const sp_attention *a, const sp_flash_plan *plan, trees *t) {
    for (int i = 0; i < plan->n_blocks; i++) {
        const sp_flash_block *block = &plan->blocks[i];
        const int parent = a->segments[block->segment].parent;
        if (block->i0 == 0) {
            const int tree = parent >= 0 ? t->of[parent] : t->n++;
            for (int s = block->segment; s < block->segment + block->n_segments; s++) {
                t->of[s] = tree;
            }
        }
        t->start[t->of[block->segment] + 2]++;
    }
}

static spar_status find_trees(backward *b, spar_error *err) {
    const sp_attention *a = b->shared.a;
    const sp_flash_plan *plan = &b->shared.plan;
    void *memory = NULL;
    const size_t n = (size_t)a->n_segments, total = 2 * n + 2 + (size_t)plan->n_blocks;
    const spar_status status =
        sp_tuned_scratch(b->shared.be, SP_SCRATCH_TREES, total, sizeof(int), &memory, err);
    if (status != SPAR_OK) {
        return status;
    }
    trees *t = &b->trees;
    memset(memory, 0, total * sizeof(int));
    *t = (trees){.of = memory, .start = (int *)memory + n, .list = (int *)memory + 2 * n + 2};
    number_trees(a, plan, t);
    /* Counts two places on become, summed, starts one place on, which filling moves up by one. */
    for (int i = 2; i < t->n + 2; i++) {
        t->longest = t->start[i] > t->longest ? t->start[i] : t->longest;
        t->start[i] += t->start[i - 1];
    }
    for (int i = 0; i < plan->n_blocks; i++) {
        t->list[t->start[t->of[plan->blocks[i].segment] + 1]++] = i;
    }
    return SPAR_OK;
}

static int clamp(int x, int high) {
    return x < 1 ? 1 : x > high ? high : x;
}

static spar_status plan_shares(backward *b, spar_error *err) {
    const sp_attention *a = b->shared.a;
    const int parts = b->shared.plan.parts, tasks = b->trees.n * a->n_kv_heads * parts;
    void *partial = NULL;
    b->slices = clamp(b->trees.longest / SLICE_BLOCKS, SLICES_MAX);
    b->slices = clamp(TASKS_WANTED / (tasks > 0 ? tasks : 1), b->slices);
    b->shares = parts * b->slices;
    for (int s = 0; s < a->n_segments; s++) {
        const int64_t end = a->segments[s].kv_start + a->segments[s].kv_len;
        b->key_rows = end > b->key_rows ? end : b->key_rows;
    }
    const int64_t size = b->key_rows * b->key_row;
    const spar_status status =
        sp_tuned_scratch(b->shared.be, SP_SCRATCH_PARTIAL, (size_t)((b->shares - 1) * 2 * size),
                         sizeof(float), &partial, err);
    b->partial = partial;
    return status;
}

spar_status sp_flash_attention_bwd(sp_backend *be, const sp_attention *a, const float *q,
                                   const float *k, const float *v, const void *out,
                                   const float *lse, const float *dout, float *dq, float *dk,
                                   float *dv, spar_error *err) {
    spar_status status = SPAR_OK;
    backward b = {.q = q, .k = k, .v = v, .lse = lse, .dout = dout, .out = out};
    b.dq = dq, b.dk = dk, b.dv = dv;
    b.key_row = (int64_t)a->n_kv_heads * a->head_dim;
    SPAR_TRY(sp_flash_open(&b.shared, be, a, err));
    SPAR_TRY(sp_pair_pack(&b.shared, &b.k, &b.v, err));
    SPAR_TRY(find_trees(&b, err));
    SPAR_TRY(plan_shares(&b, err));
    sp_pool_run(be->pool, b.trees.n * a->n_kv_heads * b.shares, tree_task, &b);
    if (b.shares > 1) {
        sp_pool_run(be->pool, a->n_segments, join_task, &b);
    }
done:
    return status;
}
