#include "backend/cpu/relative.h"

#include <string.h>

#include "backend/cpu/sizes.h"
#include "backend/cpu/tuned.h"

enum {
    QUERIES = 64, /* of a block of scores */
    KEY_STEP = 32,
    LOOK = 16,   /* the kernels look buckets up so many at once */
    MOST_K = 256 /* that one product in pairs sums */
};

/* A worker's arrays, for one head of one row of N tokens (padded) and S buckets (padded). */
typedef struct space {
    void *k;         /* pairs: bf16 [N, D] */
    void *k_columns; /* [D, N]: f32, or pairs of elements */
    void *v_pairs;   /* pairs: [N / 2, D] of keys */
    void *p;         /* pairs: bf16 [QUERIES, N] */
    float *s;        /* [QUERIES, N] */
    float *c2p;      /* [QUERIES, S + LOOK] */
    float *p2c;      /* [N, S + LOOK] */
    float *out;      /* [QUERIES, D] */
} space;

typedef struct work {
    const sp_relative_attention *a;
    const sp_simd *simd;
    const char *q, *k, *v; /* pairs: bf16; else f32, which bf16 operands are widened to */
    char *out;
    size_t operand; /* bytes, of out */
    bool bf16, pairs;
    int64_t S, table_row; /* padded; S + LOOK */
    int64_t longest;      /* padded */
    char *positions[2];   /* of keys, of queries: [heads, D, S] like k_columns; or NULL */
    int32_t *up, *down;   /* at distance 0 */
    char *spaces;
    size_t space_bytes;
} work;

/* One walk measures (base NULL) and places. */
static size_t place(const work *w, char *base, space *x) {
    const int64_t D = w->a->head_dim, N = w->longest;
    const struct {
        void *to;
        int64_t bytes;
    } arrays[] = {{&x->k, 2 * N * D},
                  {&x->k_columns, 4 * N * D},
                  {&x->v_pairs, 2 * N * D},
                  {&x->p, 2 * QUERIES * N},
                  {&x->s, 4 * QUERIES * N},
                  {&x->c2p, 4 * QUERIES * w->table_row},
                  {&x->p2c, 4 * N * w->table_row},
                  {&x->out, 4 * QUERIES * D}};
    size_t used = 0;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        void *at = base ? base + used : NULL;
        memcpy(arrays[i].to, &at, sizeof at);
        used += (size_t)sp_round_up(arrays[i].bytes, 64);
    }
    return used;
}

/* ---- layouts ---- */

/* bf16 [padded, D] with a column a row, in pairs of elements: [D / 2, padded]. */
static void turn(const work *w, const uint16_t *x, int64_t padded, void *to) {
    const int64_t D = w->a->head_dim;
    w->simd->transpose_words((const uint32_t *)(const void *)x, D / 2, (int)padded, (int)(D / 2),
                             to, padded);
}

/* n rows of a head, f32, with a column a row: [D, padded]. */
static void transpose(const work *w, const float *x, int64_t n, int64_t padded, float *to) {
    const int64_t D = w->a->head_dim;
    memset(to, 0, (size_t)(D * padded) * sizeof *to);
    w->simd->transpose(x, w->a->n_heads * D, (int)n, (int)D, 1, to, padded);
}

/* The same of positions [related, heads D]; pairs: by way of `narrowed` [S, D]. */
static void take_positions(const work *w, const float *x, uint16_t *narrowed, void *to) {
    const int64_t D = w->a->head_dim, n = w->a->related;
    if (!w->pairs) {
        transpose(w, x, n, w->S, to);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        w->simd->to_bf16(x + i * w->a->n_heads * D, D, narrowed + i * D);
    }
    memset(narrowed + n * D, 0, (size_t)((w->S - n) * D) * sizeof *narrowed);
    turn(w, narrowed, w->S, to);
}

static size_t columns_bytes(const work *w, int64_t padded) {
    return (size_t)(w->a->head_dim * padded) * (w->pairs ? sizeof(uint16_t) : sizeof(float));
}

/* Positions of one head; the rows of the worker's p2c lend their memory. */
static void position_task(void *context, int task, int worker) {
    const work *w = context;
    const sp_relative_attention *a = w->a;
    const float *const from[] = {a->pos_key, a->pos_query};
    space x;
    place(w, w->spaces + (size_t)worker * w->space_bytes, &x);
    for (int i = 0; i < 2; i++) {
        if (from[i] != NULL) {
            take_positions(w, from[i] + (int64_t)task * a->head_dim, (uint16_t *)(void *)x.p2c,
                           w->positions[i] + (size_t)task * columns_bytes(w, w->S));
        }
    }
}

/* ---- one head of one row ---- */

typedef struct head {
    const work *w;
    space x;
    int64_t start, n, padded, at; /* first token, tokens, keys; first element of the head */
    int number;
} head;

/* Token `row` of the row, as far as it concerns the head, in an array like q. */
static const void *token(const head *h, const char *x, int64_t row) {
    const int64_t H = h->w->a->n_heads * h->w->a->head_dim;
    return x + (size_t)(h->at + row * H) * (h->w->pairs ? sizeof(uint16_t) : sizeof(float));
}

/* c [rows, c_row] = rows of x, like q, times columns [D, width]. */
static void multiply(const head *h, const void *x, int64_t rows, const void *columns, int64_t width,
                     float *c, int64_t c_row) {
    const work *w = h->w;
    const int64_t D = w->a->head_dim, H = w->a->n_heads * D;
    if (w->pairs) {
        const sp_pair_block p = {rows, width, D, x, H, columns, width, c, c_row, false};
        w->simd->pair_product(&p);
        return;
    }
    const sp_block p = {.M = rows,
                        .N = width,
                        .K = D,
                        .a = x,
                        .a_row = H,
                        .a_column = 1,
                        .b = columns,
                        .b_row = width,
                        .c = c,
                        .c_row = c_row};
    w->simd->block_product(&p);
}

/* out [rows, D] = p [rows, padded] times the row's values. */
static void add_values(const head *h, int64_t rows) {
    const work *w = h->w;
    const int64_t D = w->a->head_dim;
    if (!w->pairs) {
        const sp_block p = {.M = rows,
                            .N = D,
                            .K = h->n,
                            .a = h->x.s,
                            .a_row = h->padded,
                            .a_column = 1,
                            .b = token(h, w->v, 0),
                            .b_row = w->a->n_heads * D,
                            .c = h->x.out,
                            .c_row = D};
        w->simd->block_product(&p);
        return;
    }
    for (int64_t k = 0; k < h->padded; k += MOST_K) {
        const sp_pair_block p = {.M = rows,
                                 .N = D,
                                 .K = sp_min64(MOST_K, h->padded - k),
                                 .a = (const uint16_t *)h->x.p + k,
                                 .a_row = h->padded,
                                 .b = (const uint32_t *)h->x.v_pairs + k / 2 * D,
                                 .b_row = D,
                                 .c = h->x.out,
                                 .c_row = D,
                                 .accumulate = k > 0};
        w->simd->pair_product(&p);
    }
}

static const void *positions_of(const head *h, int i) {
    return h->w->positions[i] + (size_t)h->number * columns_bytes(h->w, h->w->S);
}

static void add_relative(const head *h, int64_t q0, int64_t rows) {
    const work *w = h->w;
    const sp_relative_attention *a = w->a;
    if (a->pos_key != NULL) {
        multiply(h, token(h, w->q, q0), rows, positions_of(h, 0), w->S, h->x.c2p, w->table_row);
    }
    const sp_relative_block block = {.s = h->x.s,
                                     .s_row = h->padded,
                                     .n_queries = sp_round_up(rows, LOOK),
                                     .n_keys = h->padded,
                                     .c2p = a->pos_key ? h->x.c2p : NULL,
                                     .p2c = a->pos_query ? h->x.p2c : NULL,
                                     .table_row = w->table_row,
                                     .up = w->up + q0,
                                     .down = w->down - q0};
    w->simd->relative_add(&block);
}

static void attend_block(const head *h, int64_t q0) {
    const work *w = h->w;
    const int64_t D = w->a->head_dim, H = w->a->n_heads * D;
    const int64_t rows = sp_min64(QUERIES, h->n - q0);
    float sums[QUERIES];
    multiply(h, token(h, w->q, q0), rows, h->x.k_columns, h->padded, h->x.s, h->padded);
    if (w->a->pos_key != NULL || w->a->pos_query != NULL) {
        add_relative(h, q0, rows);
    }
    for (int64_t r = 0; r < rows; r++) {
        sums[r] = w->simd->softmax_row(h->x.s + r * h->padded, h->n, h->padded, w->a->scale,
                                       w->pairs ? (uint16_t *)h->x.p + r * h->padded : NULL);
    }
    add_values(h, rows);
    for (int64_t r = 0; r < rows; r++) {
        w->simd->scale(h->x.out + r * D, D, 1.0F / sums[r],
                       w->out + (size_t)(h->at + (q0 + r) * H) * w->operand, w->bf16);
    }
}

/* Keys and values as the products read them. */
static void take_keys(const head *h) {
    const work *w = h->w;
    const int64_t D = w->a->head_dim, H = w->a->n_heads * D;
    if (!w->pairs) {
        transpose(w, token(h, w->k, 0), h->n, h->padded, h->x.k_columns);
        return;
    }
    uint16_t *k = h->x.k;
    for (int64_t i = 0; i < h->n; i++) {
        memcpy(k + i * D, token(h, w->k, i), (size_t)D * sizeof *k);
    }
    memset(k + h->n * D, 0, (size_t)((h->padded - h->n) * D) * sizeof *k);
    turn(w, k, h->padded, h->x.k_columns);
    w->simd->pair_rows(token(h, w->v, 0), H, (int)h->n, (int)h->padded, (int)D, h->x.v_pairs);
}

static void head_task(void *context, int task, int worker) {
    const work *w = context;
    const sp_relative_attention *a = w->a;
    const int row = task / a->n_heads, number = task % a->n_heads;
    head h = {.w = w, .start = a->starts[row], .number = number};
    h.n = a->starts[row + 1] - h.start;
    h.padded = sp_round_up(h.n, KEY_STEP);
    h.at = (h.start * a->n_heads + number) * a->head_dim;
    place(w, w->spaces + (size_t)worker * w->space_bytes, &h.x);
    take_keys(&h);
    if (a->pos_query != NULL) {
        multiply(&h, token(&h, w->k, 0), h.n, positions_of(&h, 1), w->S, h.x.p2c, w->table_row);
    }
    for (int64_t q0 = 0; q0 < h.n; q0 += QUERIES) {
        attend_block(&h, q0);
    }
}

/* ---- the op ---- */

/* Buckets by distance both ways, the outermost repeated for padded queries and keys. */
static void fill_maps(work *w, int64_t longest, int64_t reach) {
    for (int64_t d = -reach; d <= reach; d++) {
        const int64_t inside = d < 1 - longest ? 1 - longest : d >= longest ? longest - 1 : d;
        w->up[d] = w->down[-d] = w->a->buckets[inside];
    }
}

static spar_status reserve(sp_backend *be, work *w, int64_t longest, spar_error *err) {
    enum { REACH = 2 * KEY_STEP + LOOK };
    spar_status status = SPAR_OK;
    const sp_relative_attention *a = w->a;
    const bool related = a->pos_key != NULL || a->pos_query != NULL;
    void *memory = NULL;
    space x;
    w->S = related ? sp_round_up(a->related, LOOK) : 0;
    w->table_row = related ? w->S + LOOK : 0;
    w->longest = sp_round_up(longest, KEY_STEP);
    w->space_bytes = place(w, NULL, &x);
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(be->pool),
                              w->space_bytes, &memory, err));
    w->spaces = memory;
    if (related) {
        const size_t bytes = (size_t)a->n_heads * columns_bytes(w, w->S);
        const int64_t reach = longest + REACH;
        SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_A, 2, bytes, &memory, err));
        w->positions[0] = memory;
        w->positions[1] = (char *)memory + bytes;
        SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_PLAN, 2 * (size_t)(2 * reach + 1), sizeof *w->up,
                                  &memory, err));
        w->up = (int32_t *)memory + reach;
        w->down = w->up + 2 * reach + 1;
        fill_maps(w, longest, reach);
    }
done:
    return status;
}

static spar_status take_inputs(sp_backend *be, work *w, const void *q, const void *k, const void *v,
                               spar_error *err) {
    const int64_t n = w->a->starts[w->a->n_rows] * w->a->n_heads * w->a->head_dim;
    const void *from[] = {q, k, v};
    const char **to[] = {&w->q, &w->k, &w->v};
    spar_status status = SPAR_OK;
    for (int i = 0; i < 3; i++) {
        const float *widened = NULL;
        if (!w->pairs) {
            SPAR_TRY(sp_tuned_operand_f32(be, from[i], n, SP_SCRATCH_PARTIAL + i, &widened, err));
        }
        *to[i] = w->pairs ? from[i] : (const char *)widened;
    }
done:
    return status;
}

spar_status sp_relative_attention_run(sp_backend *be, const sp_relative_attention *a, const void *q,
                                      const void *k, const void *v, void *out, spar_error *err) {
    enum { WIDEST = 256 };
    spar_status status = SPAR_OK;
    int64_t longest = 0;
    work w = {.a = a,
              .simd = &((const sp_tuned *)be->state)->simd,
              .out = out,
              .operand = be->operand_size,
              .bf16 = be->compute == SP_COMPUTE_BF16};
    w.pairs = w.bf16 && w.simd->pair_product != NULL && a->head_dim % KEY_STEP == 0 &&
              a->head_dim <= WIDEST;
    for (int r = 0; r < a->n_rows; r++) {
        const int64_t n = a->starts[r + 1] - a->starts[r];
        longest = n > longest ? n : longest;
    }
    if (longest == 0) {
        goto done;
    }
    SPAR_TRY(reserve(be, &w, longest, err));
    SPAR_TRY(take_inputs(be, &w, q, k, v, err));
    if (w.S > 0) {
        sp_pool_run(be->pool, a->n_heads, position_task, &w);
    }
    sp_pool_run(be->pool, a->n_rows * a->n_heads, head_task, &w);
done:
    return status;
}
