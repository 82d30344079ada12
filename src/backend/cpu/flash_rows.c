#include <string.h>

#include "backend/cpu/flash.h"
#include "base/mem.h"

/* Whole numbers of the widest vectors, and of the steps of a product in bf16 over rows. */
enum { ROW_PAD = 16, PAIR_ROW_PAD = 32 };

static int min_int(int a, int b) {
    return a < b ? a : b;
}

static int group_of(const sp_attention *a) {
    return a->n_heads / a->n_kv_heads;
}

/* Tokens of a block: what SP_BLOCK_ROWS rows hold. */
static int tokens_max(const sp_attention *a) {
    return SP_BLOCK_ROWS / min_int(group_of(a), SP_BLOCK_ROWS);
}

/* How many segments from s on fit one block whole, with the same parent; those without queries
 * between them count too. */
static int run_length(const sp_attention *a, int s, int32_t limit) {
    int64_t tokens = 0;
    int end = s;
    while (end < a->n_segments && a->segments[end].parent == a->segments[s].parent &&
           tokens + a->segments[end].q_len <= limit) {
        tokens += a->segments[end++].q_len;
    }
    return end - s;
}

/* Tokens of a block such that the short segments from s on fill all blocks alike: tasks of one size
 * wait for each other least. */
static int32_t even_limit(const sp_attention *a, int s, int32_t limit) {
    const int32_t parent = a->segments[s].parent;
    int64_t tokens = 0;
    for (int i = s; i < a->n_segments && a->segments[i].parent == parent; i++) {
        if (a->segments[i].q_len > limit) {
            break;
        }
        tokens += a->segments[i].q_len;
    }
    const int64_t blocks = (tokens + limit - 1) / limit;
    const int32_t even = blocks > 0 ? (int32_t)((tokens + blocks - 1) / blocks) : limit;
    return even > a->segments[s].q_len ? even : min_int(a->segments[s].q_len, limit);
}

static int plan_blocks(const sp_attention *a, sp_flash_block *blocks) {
    const int32_t limit = tokens_max(a);
    int n = 0;
    for (int s = 0; s < a->n_segments;) {
        const int run = run_length(a, s, even_limit(a, s, limit));
        if (run > 0) {
            blocks[n++] = (sp_flash_block){s, run, 0, 0};
            s += run;
            continue;
        }
        const int32_t length = a->segments[s].q_len;
        for (int32_t i = 0; i < length; i += limit) {
            blocks[n++] = (sp_flash_block){s, 1, i, min_int(limit, length - i)};
        }
        s++;
    }
    return n;
}

spar_status sp_flash_plan_make(sp_backend *be, const sp_attention *a, sp_flash_plan *out,
                               spar_error *err) {
    void *blocks = NULL;
    size_t bound = 0;
    for (int s = 0; s < a->n_segments; s++) {
        bound += (size_t)(a->segments[s].q_len / tokens_max(a)) + 1;
    }
    const spar_status status =
        sp_tuned_scratch(be, SP_SCRATCH_PLAN, bound, sizeof(sp_flash_block), &blocks, err);
    if (status == SPAR_OK) {
        *out = (sp_flash_plan){blocks, plan_blocks(a, blocks),
                               (group_of(a) + SP_BLOCK_ROWS - 1) / SP_BLOCK_ROWS};
    }
    return status;
}

/* One walk measures (base NULL) and places. */
static size_t place_space(char *base, int head_dim, sp_flash_space *space) {
    const int64_t rows = (int64_t)head_dim * SP_BLOCK_ROWS,
                  keys = (int64_t)head_dim * SP_BLOCK_KEYS;
    const int64_t scores = (int64_t)SP_BLOCK_ROWS * SP_BLOCK_KEYS;
    const size_t size = sizeof(float);
    sp_placer t = {base, 0};
    space->s = sp_place(&t, scores, size);
    space->dp = sp_place(&t, scores, size);
    space->q = sp_place(&t, rows, size);
    space->dout = sp_place(&t, rows, size);
    space->q_columns = sp_place(&t, rows, size);
    space->do_columns = sp_place(&t, rows, size);
    space->out = sp_place(&t, rows, size);
    space->k = sp_place(&t, keys, size);
    space->v = sp_place(&t, keys, size);
    return t.used;
}

static size_t place_pairs(char *base, int head_dim, sp_pair_space *pair) {
    const int64_t rows = (int64_t)head_dim * SP_BLOCK_ROWS, keys = (int64_t)head_dim * SP_PAIR_KEYS;
    const int64_t scores = (int64_t)SP_BLOCK_ROWS * SP_PAIR_KEYS;
    const size_t half = sizeof(uint16_t);
    sp_placer t = {base, 0};
    pair->rows = sp_place(&t, rows, sizeof(float));
    pair->bf16 = sp_place(&t, rows, half);
    pair->q_columns = sp_place(&t, rows, half);
    pair->do_columns = sp_place(&t, rows, half);
    pair->q_rows = sp_place(&t, rows, half);
    pair->do_rows = sp_place(&t, rows, half);
    pair->out = sp_place(&t, rows, sizeof(float));
    pair->s = sp_place(&t, scores, sizeof(float));
    pair->dp = sp_place(&t, scores, sizeof(float));
    pair->pairs = sp_place(&t, keys, half);
    pair->columns = sp_place(&t, keys, half);
    pair->p = sp_place(&t, scores, half);
    pair->ds = sp_place(&t, scores, half);
    pair->p_pairs = sp_place(&t, scores, half);
    return t.used;
}

static size_t space_bytes(const sp_flash *f) {
    sp_flash_rows x;
    return f->pairs ? place_pairs(NULL, f->a->head_dim, &x.pair)
                    : place_space(NULL, f->a->head_dim, &x.space);
}

/* Products in bf16 take whole steps of a head; where heads have other sizes, f32 serves. */
static bool in_pairs(const sp_backend *be, const sp_attention *a, const sp_simd *simd) {
    enum { STEP = 32, WIDEST = 256 };
    const bool narrow = be->compute == SP_COMPUTE_BF16 || (a->cache_rows > 0 && a->cache_bf16);
    return narrow && simd->pair_product != NULL && a->head_dim % STEP == 0 && a->head_dim <= WIDEST;
}

spar_status sp_flash_open(sp_flash *out, sp_backend *be, const sp_attention *a, spar_error *err) {
    spar_status status = SPAR_OK;
    void *space = NULL;
    *out = (sp_flash){.be = be, .a = a, .simd = &((const sp_tuned *)be->state)->simd};
    out->pairs = in_pairs(be, a, out->simd);
    SPAR_TRY(sp_flash_plan_make(be, a, &out->plan, err));
    SPAR_TRY(sp_tuned_scratch(be, SP_SCRATCH_WORKERS, (size_t)sp_pool_threads(be->pool),
                              space_bytes(out), &space, err));
    out->space = space;
done:
    return status;
}

void sp_flash_rows_init(sp_flash_rows *x, const sp_flash *f, int kv_head, int part, int worker) {
    const int group = group_of(f->a);
    char *space = f->space + (size_t)worker * space_bytes(f);
    x->a = f->a;
    x->simd = f->simd;
    x->kv_head = kv_head;
    x->head0 = kv_head * group + part * SP_BLOCK_ROWS;
    x->heads = min_int(group - part * SP_BLOCK_ROWS, SP_BLOCK_ROWS);
    x->capacity = tokens_max(f->a);
    x->tokens = x->n_rows = x->padded = 0;
    x->pairs = f->pairs;
    x->block_keys = f->pairs ? SP_PAIR_KEYS : SP_BLOCK_KEYS;
    if (f->pairs) {
        place_pairs(space, f->a->head_dim, &x->pair);
    } else {
        place_space(space, f->a->head_dim, &x->space);
    }
}

void sp_flash_rows_add(sp_flash_rows *x, int segment, int32_t token) {
    const sp_segment *s = &x->a->segments[segment];
    const int t = x->tokens++;
    x->segment[t] = segment;
    x->last_key[t] = s->kv_len - s->q_len + token;
    x->q_row[t] = s->q_start + token;
    x->position[t] = s->pos0 + x->last_key[t];
    x->n_rows += x->heads;
    const int pad = x->pairs ? PAIR_ROW_PAD : ROW_PAD;
    x->padded = min_int((x->n_rows + pad - 1) / pad * pad, SP_BLOCK_ROWS);
}

void sp_flash_rows_fill(sp_flash_rows *x, const sp_flash_block *block) {
    if (block->n > 0) {
        for (int32_t i = 0; i < block->n; i++) {
            sp_flash_rows_add(x, block->segment, block->i0 + i);
        }
        return;
    }
    for (int s = block->segment; s < block->segment + block->n_segments; s++) {
        for (int32_t i = 0; i < x->a->segments[s].q_len; i++) {
            sp_flash_rows_add(x, s, i);
        }
    }
}

int64_t sp_flash_row_at(const sp_flash_rows *x, int row) {
    const int64_t head = x->head0 + row % x->heads;
    return (x->q_row[row / x->heads] * x->a->n_heads + head) * x->a->head_dim;
}

int64_t sp_flash_key_at(const sp_flash_rows *x, int g, int64_t key) {
    const int64_t row = x->a->segments[g].kv_start + key;
    const int64_t place = x->a->cache_rows > 0 ? x->kv_head * x->a->cache_rows + row
                                               : row * x->a->n_kv_heads + x->kv_head;
    return place * x->a->head_dim;
}

int64_t sp_flash_key_row(const sp_attention *a) {
    return a->cache_rows > 0 ? a->head_dim : (int64_t)a->n_kv_heads * a->head_dim;
}

void sp_flash_gather(const sp_flash_rows *x, const float *q, float factor, float *to) {
    const int64_t dim = x->a->head_dim;
    for (int r = 0; r < x->n_rows; r++) {
        const float *from = q + sp_flash_row_at(x, r);
        for (int64_t d = 0; d < dim; d++) {
            to[r * dim + d] = from[d] * factor;
        }
    }
    memset(to + x->n_rows * dim, 0, (size_t)((x->padded - x->n_rows) * dim) * sizeof *to);
}

void sp_flash_cap(const sp_flash_rows *x, float *s, int n, int64_t s_row, int width) {
    const sp_logit_form form = {.scale = 1, .cap = x->a->cap};
    for (int i = 0; form.cap > 0 && i < n; i++) {
        x->simd->form_logits(&form, width, s + i * s_row);
    }
}

/* Keys of segment g that token t sees, counted from the segment's start. */
static sp_key_span token_span(const sp_flash_rows *x, int g, int t) {
    const sp_segment *own = &x->a->segments[x->segment[t]], *s = &x->a->segments[g];
    sp_key_span span = {0, x->segment[t] == g ? x->last_key[t] + 1 : s->kv_len};
    const int64_t oldest = (int64_t)own->pos0 + x->last_key[t] - x->a->window + 1 - s->pos0;
    if (x->a->window > 0 && oldest > 0) {
        span.first = oldest < span.last ? (int32_t)oldest : span.last;
    }
    return span;
}

sp_key_span sp_flash_span(const sp_flash_rows *x, int g, int t0, int t1) {
    sp_key_span all = {INT32_MAX, 0};
    for (int t = t0; t < t1; t++) {
        const sp_key_span span = token_span(x, g, t);
        if (span.first < span.last) {
            all.first = min_int(all.first, span.first);
            all.last = all.last > span.last ? all.last : span.last;
        }
    }
    return all;
}

static void set_rows(sp_flash_rows *x, int t, int32_t first, int32_t last) {
    for (int r = t * x->heads; r < (t + 1) * x->heads; r++) {
        x->first[r] = first;
        x->last[r] = last;
    }
}

bool sp_flash_see(sp_flash_rows *x, int g, int32_t key, int n, int t0, int t1) {
    bool any = false;
    x->key_position = x->a->segments[g].pos0 + key;
    for (int t = 0; t < x->tokens; t++) {
        const sp_key_span span = t >= t0 && t < t1 ? token_span(x, g, t) : (sp_key_span){0, 0};
        const int32_t first = span.first > key ? min_int(span.first - key, n) : 0;
        const int32_t last = span.last > key ? min_int(span.last - key, n) : 0;
        set_rows(x, t, first, last);
        any = any || first < last;
    }
    for (int r = x->n_rows; r < x->padded; r++) {
        x->first[r] = x->last[r] = 0;
    }
    return any;
}

sp_row_range sp_flash_seeing(const sp_flash_rows *x) {
    int first = 0, last = x->n_rows;
    while (first < last && x->first[first] >= x->last[first]) {
        first++;
    }
    while (last > first && x->first[last - 1] >= x->last[last - 1]) {
        last--;
    }
    return (sp_row_range){first, last - first, last - first};
}

void sp_flash_widen(const sp_flash_rows *x, sp_row_range *rows) {
    rows->padded = (rows->n + ROW_PAD - 1) / ROW_PAD * ROW_PAD;
    rows->first = min_int(rows->first, x->padded - rows->padded);
}

void sp_flash_slopes(const sp_flash_rows *x, const sp_row_range *rows, int n, float *s,
                     int64_t row_step, int64_t key_step) {
    float slope[SP_BLOCK_ROWS];
    int32_t distance[SP_BLOCK_ROWS];
    if (!x->a->slopes) {
        return;
    }
    for (int i = 0; i < rows->padded; i++) {
        const int r = rows->first + i;
        const bool there = r < x->n_rows;
        slope[i] = there ? x->a->slopes[x->head0 + r % x->heads] : 0;
        distance[i] = there ? x->key_position - x->position[r / x->heads] : 0;
    }
    for (int key = 0; key < n; key++) {
        float *at = s + key * key_step;
        for (int i = 0; i < rows->padded; i++) {
            at[i * row_step] += slope[i] * (float)(distance[i] + key);
        }
    }
}

static void walk_segment(sp_flash_rows *x, sp_flash_visit visit, void *context, int g, int t0,
                         int t1) {
    const sp_key_span span = sp_flash_span(x, g, t0, t1);
    for (int32_t key = span.first; key < span.last; key += x->block_keys) {
        const int n = min_int(x->block_keys, span.last - key);
        if (sp_flash_see(x, g, key, n, t0, t1)) {
            visit(x, context, g, key, n);
        }
    }
}

void sp_flash_walk(sp_flash_rows *x, sp_flash_visit visit, void *context) {
    for (int t0 = 0, t1 = 0; t0 < x->tokens; t0 = t1) {
        while (t1 < x->tokens && x->segment[t1] == x->segment[t0]) {
            t1++;
        }
        walk_segment(x, visit, context, x->segment[t0], t0, t1);
    }
    for (int g = x->a->segments[x->segment[0]].parent; g >= 0; g = x->a->segments[g].parent) {
        walk_segment(x, visit, context, g, 0, x->tokens);
    }
}
